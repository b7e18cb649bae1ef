"""Keras `fit` with `CheckpointInputPipeline`: killed anywhere, it goes on with the next batch of the same epoch.

Each kill is a SIGKILL of a real training; what Keras told the callbacks, to the last bit of the logs, and the weights
and the history at the end are compared with a run that nobody killed.
"""

from __future__ import annotations

import http.server
import importlib.metadata
import json
import re
import signal
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from forked import Lives, serving, without_incarnations

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Sequence

pytestmark = pytest.mark.tensorflow

KILLED = -signal.SIGKILL
KERAS_3 = not importlib.metadata.version("keras").startswith("2.")
only_keras_3 = pytest.mark.skipif(not KERAS_3, reason="Keras 2 has no such thing, or keeps its state elsewhere")
only_keras_2 = pytest.mark.skipif(KERAS_3, reason="Keras 3 has no such thing")


@dataclass(frozen=True, slots=True)
class Life:
    """How one life went."""

    status: int
    calls: list[list[Any]]
    """What Keras told a callback: name, numbers, logs."""
    outcome: dict[str, Any]
    log: str

    @property
    def batches(self) -> list[tuple[int, int]]:
        """Epoch and number of each batch that was trained on."""
        return [(call[1], call[2]) for call in self.calls if call[0] == "batch"]


class Fit(Lives):
    """One directory, and the lives that train in it."""

    def live(self, event: str = "", **job: Any) -> Life:
        """Runs one life to its end; see `fit_lives.Job`. By default nothing is compiled, which takes long."""
        job = {"compile": {"run_eagerly": True}, **job}
        lived = self.run(event=event, **job)
        return Life(
            status=lived.status,
            calls=[json.loads(line) for line in lived.lines],
            outcome=lived.outcome,
            log=lived.stderr,
        )


@pytest.fixture(scope="session")
def fit_server() -> Iterator[subprocess.Popen[str]]:
    """The fork server of this pytest process."""
    with serving(Path(__file__).with_name("fit_lives.py")) as process:
        yield process


@pytest.fixture
def fit(fit_server: subprocess.Popen[str], tmp_path: Path) -> Fit:
    """A training that has not begun."""
    return Fit(fit_server, tmp_path)


@pytest.fixture
def whole(fit_server: subprocess.Popen[str], tmp_path_factory: pytest.TempPathFactory) -> Fit:
    """The same training in a directory of its own, which nobody kills."""
    return Fit(fit_server, tmp_path_factory.mktemp("whole"))


def _check(killed: Fit, whole: Fit, events: Sequence[str], /, **job: Any) -> list[Life]:
    """Runs one life for each event and a last one; all must be told what the run without the callback was told."""
    job = {"compile": {}, **job}
    reference = whole.live(**{**job, "callback": None})
    assert reference.status == 0, reference.log
    expected = {json.dumps(call[:-1]): call[-1] for call in reference.calls}
    lives = [killed.live(event, **job) for event in (*events, "")]
    assert [life.status for life in lives] == [KILLED] * len(events) + [0], lives[-1].log
    for life in lives:
        told = [json.dumps(call[:-1]) for call in life.calls]
        assert len(set(told)) == len(told), "something was told twice"
        assert [(call, expected.get(json.dumps(call[:-1]))) for call in life.calls] == [
            (call, call[-1]) for call in life.calls
        ]
    assert lives[-1].outcome == reference.outcome
    return lives


EAGER: dict[str, Any] = {"compile": {"run_eagerly": True}}
EXACT = [
    pytest.param({}, ["kill:batch:5", "kill:saved:9"], id="sequential"),
    pytest.param(
        {"model": "subclassed", "validation": True, "others": ["scheduler", "checkpoint"]},
        ["kill:val:5", "kill:saved:1"],
        id="subclassed-validated-scheduled",
    ),
    pytest.param({"model": "unbuilt dropout"}, ["kill:batch:5", "kill:batch:9"], id="dropout", marks=only_keras_3),
    pytest.param({"model": "functional"}, ["kill:batch:5", "kill:batch:9"], id="functional", marks=only_keras_3),
    pytest.param(
        {"data": "repeat", "fit": {"steps_per_epoch": 5}, "compile": {"steps_per_execution": 3}},
        ["kill:batch:2", "kill:saved:2"],
        id="repeated-executions-of-3",
    ),
    pytest.param(
        {"fit": {"steps_per_epoch": 4}, "epochs": 4},
        ["kill:batch:7"],
        id="half-an-epoch",
        marks=only_keras_3,
    ),
    pytest.param(
        {
            "model": "labels",
            "data": "labels",
            "fit": {"class_weight": {"0": 0.5, "1": 2.0}},
            "compile": {"jit_compile": True},
        },
        ["kill:batch:5", "kill:saved:6"],
        id="compiled-class-weights",
    ),
    pytest.param(
        {"compile": {"run_eagerly": True}, "fit": {"initial_epoch": 1}, "others": ["plateau"]},
        ["kill:batch:5"],
        id="eager-initial-epoch",
    ),
    pytest.param(
        {"model": "unbuilt", "data": "unknown", "validation": True},
        ["kill:val:2", "kill:batch:4"],
        id="unknown-length",
    ),
    pytest.param({"data": "once", "callback": {"save_steps": 1}}, ["kill:saved:8"], id="repeated-once"),
    pytest.param({"data": "twice, unknown", "callback": {"save_steps": 1}}, ["kill:saved:32"], id="repeated-twice"),
    pytest.param({"model": "two optimizers"}, ["kill:batch:5"], id="own-training-step"),
    pytest.param({"model": "adversarial"}, ["kill:batch:5", "kill:batch:9"], id="unused-optimizer"),
    pytest.param({"optimizer": "legacy"}, ["kill:batch:5"], id="legacy-optimizer", marks=only_keras_2),
    pytest.param(
        {"optimizer": "accumulating", **EAGER}, ["kill:batch:5"], id="accumulated-gradients", marks=only_keras_3
    ),
    pytest.param({"optimizer": "scaling", **EAGER}, ["kill:batch:5"], id="scaled-loss"),
    pytest.param({"optimizer": "averaging", **EAGER}, ["kill:batch:5"], id="averaged-weights"),
    pytest.param(
        {"data": "rows", "fit": {"shuffle": False}, "compile": {"steps_per_execution": 3}},
        ["kill:batch:2", "kill:saved:2"],
        id="by-number-executions-of-3",
    ),
    pytest.param(
        {"data": "generator", "fit": {"steps_per_epoch": 8}, **EAGER}, ["kill:batch:5", "kill:batch:9"], id="generator"
    ),
    pytest.param({"data": "generator dataset", **EAGER}, ["kill:batch:9"], id="from_generator"),
    pytest.param(
        {"data": "arrays", "fit": {"shuffle": False, "batch_size": 4}, **EAGER}, ["kill:batch:13"], id="arrays"
    ),
    pytest.param({"data": "fixed order", "callback": {"state": "position"}, **EAGER}, ["kill:batch:13"], id="position"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("job", "events"), EXACT)
def test_resumes_exactly(fit: Fit, whole: Fit, job: dict[str, Any], events: list[str]) -> None:
    """Each batch is told with its number and its logs, the weights and the history are those of the whole run."""
    _check(fit, whole, events, **job)


@pytest.mark.slow
def test_unseeded_shuffle(fit: Fit) -> None:
    """Over two preemptions each epoch has every element once."""
    for event, status in (("kill:batch:5", KILLED), ("kill:batch:9", KILLED), ("", 0)):
        life = fit.live(event, data="unseeded ids")
        assert life.status == status, life.log
    assert life.outcome["history"]["seen"] == [float(2**16 - 1).hex()] * 3


def test_batches_passed_by_are_not_told(fit: Fit) -> None:
    """The other callbacks of a resumed life are told of the epoch, and of the batches that are trained on."""
    fit.live("kill:saved:6")
    life = fit.live("kill:saved:3")
    names = [call[:-1] for call in life.calls]
    assert names[:3] == [["epoch begin", 0], ["batch begin", 0, 6], ["batch", 0, 6]]
    assert ["epoch end", 0] in names
    assert life.batches == [(0, 6), (0, 7), (1, 0)]


def test_finished(fit: Fit, whole: Fit) -> None:
    """A finished training that is started again trains nothing, says so, and has its weights and history."""
    first = fit.live()
    again = fit.live()
    assert again.batches == []
    assert again.outcome == first.outcome
    assert (
        f"the training in {fit.model_dir} was complete after epoch 3 of 3: nothing is left to train; pass more epochs, "
        "or call fit again\n" in again.log
    )
    more = fit.live(epochs=4)
    assert more.batches == [(3, batch) for batch in range(8)]
    assert more.outcome == whole.live(epochs=4).outcome


def test_stopped_early(fit: Fit) -> None:
    """A training that EarlyStopping has stopped stays stopped, whatever the number of epochs."""
    first = fit.live(others=["early"], epochs=9)
    again = fit.live(others=["early"], epochs=12)
    assert (len(first.outcome["epochs"]), again.batches) == (2, [])
    assert again.outcome == first.outcome
    assert (
        f"the training in {fit.model_dir} was complete after epoch 2 of 12: nothing is left to train; remove the "
        "directory to train anew\n" in again.log
    )


@pytest.mark.slow
def test_more_epochs(fit: Fit, whole: Fit) -> None:
    """A training that has come to its end goes on with more epochs, in the order of an uninterrupted one."""
    assert fit.live(data="once", epochs=1).status == 0
    assert fit.live(data="once", epochs=3).outcome == whole.live(data="once", epochs=3, callback=None).outcome


@pytest.mark.parametrize(("event", "epochs"), [("", 1), ("kill:batch:5", 3)], ids=["more-epochs", "killed"])
def test_initial_epoch(fit: Fit, whole: Fit, event: str, epochs: int) -> None:
    """A caller that counts the epochs itself lets none be passed by: the checkpoint of the first one says more."""
    fit.live(event, epochs=epochs)
    again = fit.live(epochs=3, fit={"initial_epoch": 1})
    assert again.status == 0, again.log
    assert again.batches[-16:] == [(epoch, batch) for epoch in (1, 2) for batch in range(8)]
    assert again.outcome == whole.live(epochs=3, callback=None).outcome


def test_two_fits(fit: Fit, whole: Fit) -> None:
    """Two calls of `fit`, each with its directory, are resumed each where it was."""
    _check_outcome = whole.live(scenario="twice", epochs=2).outcome
    assert fit.live("kill:batch:5", scenario="twice", epochs=2).status == KILLED
    second = fit.live(scenario="twice", epochs=2)
    assert second.outcome == _check_outcome


# Notices.


@pytest.mark.parametrize(
    ("event", "job", "begins"),
    [
        ("term:batch:5", {}, (0, 5)),
        ("twice:batch:5", {}, (0, 5)),
        ("term in a save:batch:2", {}, (0, 4)),
        ("term:begin:1", {}, (0, 1)),
        ("term:val:2", {"validation": True, "data": "unknown"}, (1, 0)),
    ],
    ids=["batch", "twice", "save", "before", "validation"],
)
def test_sigterm(fit: Fit, event: str, job: dict[str, Any], begins: tuple[int, int]) -> None:
    """The training is saved after the batch and leaves with 143; the next life replays nothing."""
    first = fit.live(event, **job)
    assert (first.status, first.outcome) == (143, {"left": "Preempted", "notice": "SIGTERM"}), first.log
    assert "SIGTERM: saved, and leaving with exit code 143\n" in first.log
    second = fit.live("kill:saved:1", **job)
    assert second.batches == [begins]
    assert [call[1] for call in second.calls if call[0] == "epoch end"] == [0] * (begins[0])


@pytest.mark.parametrize("scenario", ["term after", "term after failure"])
def test_sigterm_behind_fit(fit: Fit, scenario: str) -> None:
    """The handler is put back when `fit` has ended, in an error too: a SIGTERM then ends the process."""
    event = "fail:batch:3" if scenario == "term after failure" else ""
    assert fit.live(event, scenario=scenario, epochs=1).status == -signal.SIGTERM


@pytest.mark.slow
@pytest.mark.parametrize("mutate", ["", "without"])
def test_fit_after_an_error(fit: Fit, mutate: str) -> None:
    """After an error in another callback the same model can be fitted again, with the callback and without it."""
    life = fit.live("fail:batch:5", scenario="again after failure", mutate=mutate)
    assert life.status == 0, life.log
    again = [call[1:3] for call in life.calls if call[0] == "batch"][5:]
    assert again[8 if mutate else 0] == [0, 3]


def test_own_handler(fit: Fit) -> None:
    """The user's own handler is called when the checkpoint is there."""
    life = fit.live("term:batch:4", scenario="handler")
    (called,) = [call for call in life.calls if call[0] == "handler"]
    assert (life.status, "ckpt-4.commit" in map(without_incarnations, called[1])) == (143, True)


def test_ignored_signal(fit: Fit) -> None:
    """Who ignores SIGTERM has said that it is no notice."""
    assert fit.live("term:batch:4", scenario="ignored", epochs=1).status == 0


def test_file_notice(fit: Fit) -> None:
    """A file can be the notice; the exit code is then 42."""
    life = fit.live("touch:batch:4", notices="file")
    assert (life.status, fit.committed()[-1], len(life.batches)) == (42, 4, 4)
    assert life.outcome["notice"].startswith("FileNotice('")


class _Metadata(http.server.BaseHTTPRequestHandler):
    """Says FALSE to the first two questions, and TRUE then."""

    asked: list[str]

    def do_GET(self) -> None:
        """Answers."""
        self.asked.append(self.path)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"TRUE\n" if len(self.asked) > 2 else b"FALSE\n")

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


def test_url_notice(fit: Fit) -> None:
    """A metadata server can say it."""
    handler = type("Handler", (_Metadata,), {"asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        life = fit.live(notices=f"url:http://127.0.0.1:{server.server_port}/preempted", others=["asking"])
        server.shutdown()
    assert (life.status, len(life.batches), fit.committed()) == (42, 2, [2]), life.log


def test_another_thread(fit: Fit) -> None:
    """In another thread than the main one `fit` trains and saves, and says that signals are not noticed."""
    life = fit.live(scenario="thread", epochs=1)
    assert (life.status, fit.committed()) == (0, [6, 8])
    assert (
        "SIGTERM will not be noticed: only a process's main thread may handle signals, and the training runs in "
        "another one\n" in life.log
    )


# Damage, and what is refused.


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 64
    path.write_bytes(content)


def test_damaged(fit: Fit) -> None:
    """A damaged checkpoint is passed over with a warning; when none is whole, nothing is trained."""
    fit.live("kill:saved:8")
    _flip(fit.path("ckpt-6.data-00000-of-00001"))
    life = fit.live("kill:saved:1")
    assert re.search(r"skipped checkpoint ckpt-6: (DataLoss|Internal)Error\n", life.log)
    assert life.batches == [(0, 3)]
    for path in fit.model_dir.glob("*.index"):
        content = path.read_bytes()
        path.unlink()  # who goes on from a checkpoint has linked it
        path.write_bytes(content[:-9])
    size = fit.path("ckpt-3.index").stat().st_size
    life = fit.live()
    assert without_incarnations(life.outcome["error"]) == (
        f"NoUsableCheckpointError: No checkpoint in {fit.model_dir} is whole (ckpt-3: ckpt-3.index has {size} bytes "
        f"instead of {size + 9}). Restore the files, or remove the directory to train anew."
    )


@pytest.mark.parametrize("model", ["wider", "fewer", "more"])
def test_another_model(fit: Fit, model: str) -> None:
    """A checkpoint of another model is refused, and says how they differ."""
    sizes = {"wider": (8, 91), "fewer": (4, 49), "more": (10, 153)}
    fit.live("kill:saved:3")
    number, values = sizes[model]
    plain = (8, 81)
    counts = f"its {plain[0]} weights have {plain[1]} values, this one's {number} have {values}"
    assert fit.live(model=model).outcome["error"] == (
        f"NoUsableCheckpointError: ckpt-3 in {fit.model_dir} cannot be restored into this model: it is of another one "
        f"({counts}). Go back to that model, or train in another directory."
    )


CHANGED: dict[str, tuple[dict[str, Any], str]] = {
    "shorter": (
        {"fit": {"steps_per_epoch": 2}},
        "FastForwardError: ckpt-6 was saved after batch 6 of an epoch, which now ends after 2: the data has become "
        "shorter, or steps_per_epoch or the batch size is another number.",
    ),
    "executions": (
        {"compile": {"run_eagerly": True, "steps_per_execution": 4}},
        "HookUsageError: ckpt-6 was saved after batch 6 of an epoch, and with steps_per_execution=4 no execution ends "
        "there: compile with steps_per_execution=1, as it was saved.",
    ),
    "batch size": (
        {"data": "larger batches"},
        "HookUsageError: ckpt-6 in {model_dir} was saved after batch 6 of an epoch of 8 batches, and an epoch of this "
        "fit has 4: with another batch size, or other data, the rest of that epoch cannot be told. Go back to those of "
        "the checkpoint, and change them between two trainings.",
    ),
    "elements": (
        {"data": "other elements", "model": "unbuilt"},
        "NoUsableCheckpointError: ",
    ),
}


@pytest.mark.parametrize("name", CHANGED)
def test_changed_code(fit: Fit, name: str) -> None:
    """What the checkpoint does not fit is refused, with the remedy."""
    fit.live("kill:saved:6")
    job, message = CHANGED[name]
    error = fit.live(**job).outcome["error"]
    assert error.startswith(message.format(model_dir=fit.model_dir))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "arrays": (
        {"data": "arrays"},
        "HookUsageError: fit(shuffle=True) draws the order of arrays anew in each process, and a resume would go on in "
        'another one: pass shuffle=False, or a tf.data.Dataset with its own shuffle(), or on_nondeterminism="warn" if '
        "repeated and lost elements do not matter.",
    ),
    "rows": (
        {"data": "rows", "fit": {"shuffle": True}},
        "HookUsageError: fit(shuffle=True) draws the order of a Rows anew in each process, and a resume would go on in "
        'another one: pass shuffle=False, or a tf.data.Dataset with its own shuffle(), or on_nondeterminism="warn" if '
        "repeated and lost elements do not matter.",
    ),
    "redrawn": (
        {"data": "redrawn", "fit": {"shuffle": False}},
        "HookUsageError: Redrawn.on_epoch_end may draw another order for each epoch, and a new process begins with the "
        "first one's: keep one order, or pass a tf.data.Dataset with its own shuffle(), or "
        'on_nondeterminism="warn" if repeated and lost elements do not matter.',
    ),
    "position": (
        {"callback": {"state": "position"}},
        "FastForwardError: Each epoch has another order, and only a position can be saved of this input: a new process "
        "begins with the first epoch's order. Use shuffle(..., seed=N, reshuffle_each_iteration=False), or repeat() "
        'the dataset and pass steps_per_epoch, or pass on_nondeterminism="warn" if repeated and lost elements do not '
        "matter.",
    ),
    "shuffled twice": (
        {"data": "shuffled twice"},
        "FastForwardError: Each epoch has another order, and only a position can be saved of this input (TensorFlow "
        "does not save how often a seeded shuffle below ShuffleDatasetV3 has drawn, and the shuffle draws again): a "
        "new process begins with the first epoch's order. Pass reshuffle_each_iteration=False to that shuffle, or "
        "repeat() the dataset and pass steps_per_epoch, or pass "
        'on_nondeterminism="warn" if repeated and lost elements do not matter.',
    ),
    "save_steps": (
        {"callback": {"save_steps": 0}, "scenario": "construct"},
        "HookUsageError: save_steps=0 is not an integer of at least 1: pass one.",
    ),
}


def test_fits_in_a_loop(fit: Fit, whole: Fit) -> None:
    """Those that were over train nothing, the one that was killed goes on, and those behind it begin."""
    reference = whole.live(scenario="loop", data="fixed order", callback=None).outcome
    first = fit.live("kill:batch:5", scenario="loop", data="fixed order")
    second = fit.live("kill:batch:6", scenario="loop", data="fixed order")
    last = fit.live(scenario="loop", data="fixed order")
    assert first.batches == [(0, batch) for batch in range(5)]
    assert second.batches == [(0, batch) for batch in (*range(3, 8), *range(6))]
    assert last.batches == [(0, batch) for batch in (*range(3, 8), *range(8))]
    assert last.outcome["weights"] == reference["weights"]
    assert last.outcome["losses"][-1:] == reference["losses"][-1:]
    again = fit.live(scenario="loop", data="fixed order")
    assert (again.batches, again.outcome["weights"]) == ([], reference["weights"])
    assert "nothing is left to train; pass more epochs, or call fit again\n" in again.log


@pytest.mark.parametrize("name", REFUSED)
def test_refused(fit: Fit, name: str) -> None:
    """What could not be resumed is refused before the first step, with value, limit and remedy."""
    job, message = REFUSED[name]
    life = fit.live(**job)
    assert (life.outcome["error"], life.batches) == (message, [])


def test_allowed_by_the_user(fit: Fit) -> None:
    """Where repeated and lost elements do not matter, a shuffled input is trained on with a warning."""
    life = fit.live("kill:saved:4", data="rows", fit={"shuffle": True}, callback={"on_nondeterminism": "warn"})
    assert (life.status, fit.committed()) == (KILLED, [3])
    assert (
        "fit(shuffle=True) draws the order of a Rows anew in each process, and a resume would go on in another one: "
        "elements may be repeated or lost\n" in life.log
    )
