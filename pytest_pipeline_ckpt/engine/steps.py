"""Child side: knows the model's step in training code that knows nothing of us, and sees what it saves and restores.

All counters are read and written down (`counters`, `evidence`). The ledger itself has one, the first that exists:

1. the `step` callable given to the check;
2. the `global_step` of the session's graph, read by a run of its own *before* the user's run: in the same run it races;
3. the optimizer of the Keras model that was trained last, if it is applied or may be; of the one whose weights were
   loaded last, if it is applied;
4. in the object of the last `tf.train.Checkpoint` that saved or restored, else of the last constructed one, that holds
   weights: an integer scalar called `step` or `global_step`, else an optimizer, else its only integer scalar;
5. the optimizer that was applied last, since a model was compiled or trained;
6. optimizers that have not been applied: of the trained, the loaded, or the compiled model;
7. as 4, of a Checkpoint that holds neither weights nor iterators; then of one that holds iterators only.

Saves and restores are seen here too (`lineage`). Keras is never imported by us: its classes are wrapped when the user's
import of it is done (`keras_calls`).
"""

from __future__ import annotations

import contextlib
import functools
import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, cast

import tensorflow as tf
from tensorflow.python.client import session as session_lib
from tensorflow.python.eager import context

from .changes import Changes
from .checkpoint_calls import CheckpointCalls
from .contents import weights_of
from .counters import Counters, StepSource, VariableStep, asked_step
from .evidence import Counter, EvidenceWriter
from .files import Files
from .jax_calls import JaxCalls
from .jax_state import States, in_use
from .keras_calls import KerasCalls
from .lineage import Lineage, quietly
from .model import UNKNOWN_STEP, Kind
from .saving import SaveCosts
from .sessions import global_step_of, read_in_session, weights_in
from .trees import arrays_in
from .values import Values

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from .evidence import Role, Why
    from .ledger import LedgerWriter
    from .patches import Patches
    from .trees import Tree

_CANDIDATES = 16
_NOTHING_SEEN = (0, 0)
"""The version of what has been seen before there is a model, a Checkpoint, or an optimizer that is applied."""
ELEMENTS_READ = 8
"""Before each of so many elements of a life all counters are read; then with each STEP, where there are several, or
variables of Python's are called as a counter in a file."""


class Steps:
    """Knows the model's step; writes SAVED and RESTORED."""

    def __init__(self, writer: LedgerWriter, step: Callable[[], int] | None, model_dir: Path | None = None) -> None:
        self.given = step
        self.restores = 0
        """Counts restores: the first element of an iterator after one gets a STEP."""
        self.evidence = EvidenceWriter(
            writer.directory, None if model_dir is None else model_dir.parent, lambda: writer.records
        )
        self.counters = Counters(self.evidence)
        self.lineage = Lineage(self.evidence)
        self._changes = Changes()
        self.lineage.changed, self.lineage.strays = self._changes.of, self._changes.found
        self.lineage.more, self.lineage.saving = self._weights_seen, self.before_save
        self._values = Values(self.evidence, self._changes.alive, self._known_weights, self.lineage.applied)
        self.files = Files(self.lineage, None if model_dir is None else model_dir.parent, writer.directory)
        self.states = States(self.evidence, lambda: (self.files.elements(), self.files.saves))
        self.files.shown, self.files.contents = self.file_shown, self._values.saves
        self._writer = writer
        self._version = 0
        self._found: StepSource | None = None
        self._restored_state: int | None = None
        """The step in the state outside of TensorFlow that was restored last."""
        self._saved_state: tuple[int, Mapping[int, int]] = (-1, {})
        """How many elements there had been when such a state was saved last, and what was read of it then."""
        self._saved_at = -1
        """How many elements there had been at the last SAVED."""
        self._of_model = False
        """Whether what was found is the model's own."""
        self._found_version: tuple[int, int] | None = None
        self._trained = self._loaded = cast("Any", None)
        self._applications = 0
        """How many optimizers had been applied when a model was compiled, or began to be trained, last."""
        self._compiled: weakref.ref[Any] | None = None
        self._constructed: deque[weakref.ref[Any]] = deque(maxlen=_CANDIDATES)
        self._used: deque[weakref.ref[Any]] = deque(maxlen=_CANDIDATES)
        self._of_checkpoints: dict[Role, StepSource] = {}
        self._given_number: int | None = None
        self._session: Any = None
        self._session_step = UNKNOWN_STEP
        self._of_sessions: dict[Any, int] = {}
        """The ids of the counters in graphs, by the variables' keys."""
        self._session_values: dict[int, int] = {}
        self._nesting = threading.local()
        self._costs = SaveCosts(writer, model_dir)

    def install(self, patches: Patches) -> None:
        """Wraps what constructs, saves and restores models."""
        CheckpointCalls(self).install(patches)
        patches.wrap(session_lib.BaseSession, "close", self._session_closes)
        KerasCalls(self).install(patches)
        JaxCalls(self).install(patches)
        self.files.install(patches)
        self._changes.install(patches)

    def note_restored(self) -> None:
        """An iterator was restored, by itself or with a checkpoint: its next element gets a STEP."""
        self.restores += 1

    def before_element(self, number: int) -> None:
        """The life's `number`-th element is about to be recorded, from 1."""
        self.lineage.element(number)
        if self._values.is_due(number) and context.executing_eagerly():
            self._values.before_element(number)

    def before_save(self) -> None:
        """Something is about to be saved."""
        if context.executing_eagerly():
            self._values.before_save(self.files.elements())

    def before_applied(self, keys: Collection[Any]) -> None:
        """An optimizer is about to be applied for the first time, to weights with these keys."""
        if context.executing_eagerly():
            self._values.before_applied(keys)

    def run(self, session: Any) -> AbstractContextManager[None]:
        """Around a run of a session that takes elements; what it has is read before it."""
        return self._values.run(self.files.elements() + 1, lambda: weights_in(session, self.lineage.in_graphs))

    @quietly
    def note_state(self, state: Any) -> None:
        """A state outside of TensorFlow is about to be saved."""
        self.files.saves += 1
        self.before_save()
        self._values.saves(array for _, array in arrays_in(state))

    # Reading.

    def source(self) -> StepSource | None:
        """The variable that counts the model's steps, by what has been seen so far; never a session's."""
        version = (self._version, self.counters.version)
        if version == _NOTHING_SEEN:
            return None
        if self._found is None or self._found_version != version:
            self._found_version = version
            self._found = self._find()
        return self._found

    def eager(self) -> int:
        """The step as eager code sees it now; `UNKNOWN_STEP` when nothing tells it."""
        if self.given is not None:
            return self._read(self.given)
        if not context.executing_eagerly():
            return UNKNOWN_STEP
        # What was saved or restored may lie about in a variable, with a step that only moves at saves.
        found = self.states.step({**self._states_now(), **self._namesakes_now()}) if self._looks_for_states() else None
        return self._of_tensorflow() if found is None else found

    def _of_tensorflow(self) -> int:
        source = self.source()
        return UNKNOWN_STEP if source is None or not context.executing_eagerly() else self._read(source.value)

    def of_session(self, session: Any) -> int:
        """The step of a session's graph, before its next run. Adds no op: the graph may be finalized."""
        if self.given is not None:
            return self._read(self.given)
        variable = global_step_of(session.graph)
        if variable is None:
            # An object-based variable of this graph, if a Checkpoint has one.
            source = self.source()
            variable = source.variable if isinstance(source, VariableStep) else None
            if variable is None or getattr(variable, "graph", None) is not session.graph:
                return UNKNOWN_STEP
        step = self._read(lambda: read_in_session(session, variable))
        if step != UNKNOWN_STEP:
            self._session, self._session_step = session, step
            self._session_values = {self._counter_of(session.graph, variable): step}
        return step

    def final(self) -> int:
        """The step when the training code has returned."""
        if self.given is None and self._session is not None:
            self.of_session(self._session)
        if self.given is None and self._session_step != UNKNOWN_STEP:
            return self._session_step
        step = self.eager()
        if step == UNKNOWN_STEP and self._saved_state[0] == self.files.elements():
            return self.states.step(self._saved_state[1]) or UNKNOWN_STEP
        return step

    def session_values(self) -> Mapping[int, int]:
        """What `of_session` has read last, by the counters' ids."""
        return self._session_values if self.given is None else self._given_value()

    def values(self) -> Mapping[int, int]:
        """The values of all counters before an element, by their ids; of a session's those that were read last."""
        values = self._values_now()
        if self._looks_for_namesakes():
            values.update(self.states.namesakes.at_an_element())
        return values

    def _values_now(self) -> dict[int, int]:
        values = self._values_of_tensorflow()
        if self._looks_for_states():
            values.update(self._states_now())
        return values

    def _values_of_tensorflow(self) -> dict[int, int]:
        if self.given is not None:
            return dict(self._given_value())
        return self.counters.values() or dict(self._session_values)

    def _looks_for_states(self) -> bool:
        """Whether nothing of TensorFlow says where a model is; then the training may be one in JAX."""
        return in_use() and self._lacks_a_model()

    def _looks_for_namesakes(self) -> bool:
        """Whether a variable of Python's may tell where a model is."""
        return self._lacks_a_model() and context.executing_eagerly()

    def _lacks_a_model(self) -> bool:
        if self.given is not None or self._session_values:
            return False
        self.source()
        return not self._of_model

    def _states_now(self) -> Mapping[int, int]:
        try:
            return self.states.at_an_element()
        except Exception:  # what the user's objects do when they are looked at is not ours to judge
            return {}

    def _namesakes_now(self) -> Mapping[int, int]:
        try:
            return self.states.namesakes.now()
        except Exception:  # as above
            return {}

    def _given_value(self) -> Mapping[int, int]:
        if self._given_number is None:
            self._given_number = self.evidence.counter(Counter("step=", "model", "the step callable"))
        value = self._read(self.given or (lambda: UNKNOWN_STEP))
        return {} if value == UNKNOWN_STEP else {self._given_number: value}

    def wants_values(self, in_life: int) -> bool:
        """Whether all counters are to be read before an element that gets a STEP."""
        known = self.counters.several or self.states.several
        known = known or (self.counters.grown and self.given is None and context.executing_eagerly())
        return known or in_life < ELEMENTS_READ or (self.states.namesakes.shown and self._looks_for_namesakes())

    @quietly
    def read_all(self, why: Why, more: Callable[[], Mapping[int, int]] = dict, *, at: int | None = None) -> None:
        """Writes down the values of all counters, with those that `more` tells: of what is saved, or was restored.

        `at`: of which moment they are.
        """
        told = more()
        if why == "restore":
            # The user's code has not got yet what was restored: its variables have the state of before.
            values = {**self._values_of_tensorflow(), **told}
            self._restored_state = self.states.step(told) if told else self._restored_state
        else:
            values = {**self._values_now(), **told}
        if why == "save":
            self._saved_state = (self.files.elements(), {**self._states_now(), **told}) if told else self._saved_state
        if why == "end" and self._saved_state[0] == self.files.elements():
            values = {**self._saved_state[1], **values}
        if values:
            self.evidence.read(why, values, at=at)

    def file_shown(self, kind: Kind, state: Tree | None) -> None:
        """A file that is written by hand was saved or restored.

        Args:
            kind: SAVED or RESTORED.
            state: what is in it; None: its counters have been read.
        """
        values = {} if state is None else self.states.in_a_file(state, saved=kind is Kind.SAVED)
        if kind is Kind.RESTORED and state is not None and state.arrays:
            self.event(kind, values=lambda: values)
        elif values:
            self.read_all("save" if kind is Kind.SAVED else "restore", lambda: values)
        if kind is Kind.SAVED and (state is None or state.arrays) and self._saved_at != self.files.elements():
            self._saved_at = self.files.elements()  # a library may write several files, and a checkpoint beside them
            told = self.states.step(values or self._saved_state[1]) if self._lacks_a_model() else None
            self._writer.event_as_of_now(kind, self.eager if told is None else lambda: told)

    def read_states(self, why: Why, trees: Iterable[Tree]) -> None:
        """Writes down the values of all counters, with those in what is saved or was restored."""
        self.read_all(why, lambda: self.states.values_in(trees))

    @staticmethod
    def _read(read: Callable[[], int]) -> int:
        """Not initialised, not built, deleted, a callable that is not ready: none may end the user's training."""
        try:
            return int(read())
        except Exception:
            return UNKNOWN_STEP

    def _counter_of(self, graph: Any, variable: Any) -> int:
        """The id of a counter in a graph."""
        key = (id(graph), variable.name)
        number = self._of_sessions.get(key)
        if number is None:
            trained = graph.get_collection(tf.compat.v1.GraphKeys.TRAINABLE_VARIABLES)
            iterators = graph.get_collection("iterators") or graph.get_collection("saveable_objects")
            role: Role = "model" if trained else "data" if iterators else "bare"
            owner = {"model": "a graph with trained variables", "data": "a graph with iterators only"}.get(
                role, "a graph"
            )
            number = self._of_sessions[key] = self.evidence.counter(Counter(variable.op.name, role, owner))
        return number

    def _find(self) -> StepSource | None:
        models = (self._trained, self._loaded, self._compiled and self._compiled())
        trained, *others = (getattr(model, "optimizer", None) for model in models)
        applied = filter(self.counters.is_applied, (trained, others[0]))
        # `fit` is about to apply it; if others have been applied since, it is one that nobody uses.
        since = self.counters.applications > self._applications
        self._look_at_checkpoints()
        of_model = (
            *map(asked_step, (*applied, None if since else trained)),
            self._of_checkpoints.get("model"),
            self.counters.last_applied() if since else None,
            *map(asked_step, (trained, *others)),
            self.counters.last_applied(),
        )
        found = next((one for one in of_model if one is not None), None)
        self._of_model = found is not None
        return found or self._of_checkpoints.get("bare") or self._of_checkpoints.get("data")

    def _look_at_checkpoints(self) -> None:
        """Finds the step in the last Checkpoint of each role, and keeps it.

        A function that has returned has dropped its Checkpoint, and the last step is still to be read.
        """
        roles = set()
        for reference in (*reversed(self._used), *reversed(self._constructed)):
            checkpoint = reference()
            if checkpoint is None:
                continue
            found, role = self.counters.of_checkpoint(checkpoint)
            if found is not None and role not in roles:
                roles.add(role)
                self._of_checkpoints[role] = found

    def _weights_seen(self, known: Collection[Any]) -> Mapping[Any, str]:
        """The weights of what was saved, restored, or trained, as far as it has them by now, and what is like them."""
        found = self._weights_held()
        return {**found, **self._changes.strays(found.keys() | known)}

    def _known_weights(self) -> Collection[Any]:
        models = (weights_of(getattr(model, "variables", ())) for model in (self._trained, self._loaded))
        return self.lineage.known().union(self.counters.weights(), *models)

    def _weights_held(self) -> dict[Any, str]:
        found: dict[Any, str] = {}
        for reference in self._used:
            checkpoint = reference()
            held = None if checkpoint is None else self.counters.used(checkpoint)
            found.update({} if held is None else held.weights)
        for model in (self._trained, self._loaded):
            found.update(weights_of(getattr(model, "variables", ())))
        return found

    # Noting.

    def note_constructed(self, checkpoint: Any) -> None:
        """A Checkpoint was made."""
        self._constructed.append(weakref.ref(checkpoint))
        self.counters.constructed(checkpoint)

    def note_used(self, checkpoint: Any) -> None:
        """Makes a Checkpoint the last one that saved or restored."""
        if not self._used or self._used[-1]() is not checkpoint:
            self._used.append(weakref.ref(checkpoint))
            self._version += 1

    def note_model(self, role: str, model: Any) -> None:
        """A Keras model was `compiled`, `trained` or `loaded`."""
        self.counters.model(model)
        if role == "compiled":
            # Whoever compiles another model is about to train that one.
            self._trained = self._trained if self._trained is model else None
            self._loaded = self._loaded if self._loaded is model else None
            self._compiled = weakref.ref(model)
        elif getattr(self, f"_{role}") is model:
            return
        else:
            setattr(self, f"_{role}", model)
        self._applications = self.counters.applications
        self._version += 1

    def outermost(self) -> bool:
        """Whether this thread is not within a save or restore."""
        return getattr(self._nesting, "depth", 0) == 0

    def event(self, kind: Kind, *, session: Any = None, values: Callable[[], Mapping[int, int]] = dict) -> None:
        """Writes a SAVED or RESTORED, and what all counters say after a restore."""
        if kind is Kind.SAVED:
            self._saved_at = self.files.elements()
        if kind is Kind.RESTORED and session is None and self._lacks_a_model():
            told = self.states.step(values())
            told = self._restored_state if told is None else told
            self._writer.event(kind, self._of_tensorflow() if told is None else told)
        elif session is None and self.given is None:
            self._writer.event_as_of_now(kind, self.eager)
        else:  # a run of a session, or the user's code, may wait for a thread that waits for us
            self._writer.event(kind, self.eager() if session is None else self.of_session(session))
        if kind is Kind.RESTORED:
            self.restores += 1
            self.read_all("restore", values)

    @contextlib.contextmanager
    def _nested(self, path: object = None, at: int | None = None) -> Iterator[None]:
        self._nesting.depth = getattr(self._nesting, "depth", 0) + 1
        try:
            with self.lineage.call(path, at=at):
                yield
        finally:
            self._nesting.depth -= 1

    def saving(
        self,
        save: Callable[[], Any],
        *,
        session: Any = None,
        path: object = None,
        values: Callable[[], Mapping[int, int]] = dict,
    ) -> Any:
        """Makes a save; of the outermost one the counters at its beginning and its cost are written down.

        Args:
            save: makes it.
            session: of the graph that is saved.
            path: where it goes, if that is known.
            values: tells counters that are in what is saved.
        """
        if not self.outermost():
            with self._nested(path):
                return save()
        if session is not None:
            self.of_session(session)
            held = functools.partial(weights_in, session, self.lineage.in_graphs)
            self._values.before_save_of_session(self.files.elements(), held)
        self.lineage.look_for_commits()
        at = self.evidence.now()  # a thread may take elements from here to the first file that is written
        self.read_all("save", values, at=at)
        with self._nested(path, at):
            return self._costs.timed(save)

    def restoring(self, restore: Callable[[], Any], path: object = None) -> Any:
        """Makes a restore, or what is not to be noted by itself."""
        with self._nested(path):
            return restore()

    # Wraps.

    def _session_closes(self, original: Any) -> Any:
        def close(session: Any, *args: Any, **kwargs: Any) -> Any:
            if not getattr(session, "_closed", True):
                self.of_session(session)
            if self._session is session:
                self._session = None
            return original(session, *args, **kwargs)

        return close


__all__ = ["ELEMENTS_READ", "Steps"]
