"""The tap on the installed TensorFlow; the trainings are in `tap_scenarios.py` and run in processes of their own."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tapped import Runs, batches, numbers, run_of, story, values

from pytest_pipeline_ckpt.engine.ledger import preview
from pytest_pipeline_ckpt.engine.model import Flag, Kind

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed"),
]
HAS_ESTIMATOR = importlib.util.find_spec("tensorflow_estimator") is not None
EAGER = ("eager_loop", "eager_restore", "eager_optional", "eager_many", "gate_eager", "window_eager")
FUNCTION = (
    "function_loop",
    "function_for",
    "function_restore",
    "function_given",
    "function_inside",
    "data_service",
    "gate_function",
    "window_function",
)
SESSION = (
    "session_loop",
    "session_feedable",
    "session_structure",
    "session_saveable",
    "monitored",
    "gate_session",
    *(["estimator"] if HAS_ESTIMATOR else []),
)
KERAS = ("keras_fit", "keras_jit", "keras_eager", "keras_backup", "custom_optimizer", "gate_keras")
ZOO = ("zoo_eager", "zoo_function", "zoo_session")
SHOWN = ("shown_eager", "shown_function")
GROUPS = (EAGER, FUNCTION, SESSION, KERAS, ZOO, SHOWN)
SCENARIOS = Path(__file__).with_name("tap_scenarios.py")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """The scenarios' results."""
    return Runs(SCENARIOS, GROUPS, tmp_path_factory.mktemp("tap"))


def test_eager_elements(runs: Runs) -> None:
    """Eagerly, each element that the loop got is recorded once and in order, and what was only prefetched is not."""
    ledger = runs.ledger("eager_loop")
    assert values(ledger, 0) == numbers(runs.seen("eager_loop"))
    assert values(ledger, 1) == numbers([100, 101, 102])


def test_eager_streams_and_steps(runs: Runs) -> None:
    """Epochs are ordinals of one stream, validation is another one; each of the first elements has its step."""
    assert story(runs.ledger("eager_loop")) == ", ".join(
        [
            *(run_of("0.0", range(10)), "end 0.0"),
            *("1.0=10", "1.0=10", "1.0=10", "end 1.0"),
            *(run_of("0.1", range(10, 16)), "done 16"),
        ]
    )


def test_streams_are_named_by_the_users_code(runs: Runs) -> None:
    """A stream is named by the user's frames, without those of frameworks, and describes its components."""
    first, second = runs.ledger("eager_loop").streams
    source = SCENARIOS.read_text().splitlines()
    for stream, text in ((first, "for element in numbers(10)"), (second, "for _element in numbers(3, start=100)")):
        file, line, function = stream.key.split(" > ")[-1].rsplit(":", 2)
        assert (file, function) == (str(SCENARIOS), "eager_loop")
        assert text in source[int(line) - 1]
        assert stream.label == f"tap_scenarios.py:{line}, in eager_loop"
        frames = [frame.rsplit(":", 2)[::2] for frame in stream.key.split(" > ")]
        assert [(Path(path).name, name) for path, name in frames] == [
            *((SCENARIOS.name, "<module>"), ("tapping.py", "main"), (SCENARIOS.name, "eager_loop")),
        ]
    assert first.components == (
        {"name": "i", "dtype": "int64", "shape": []},
        {"name": "name", "dtype": "string", "shape": []},
    )
    assert preview(runs.ledger("eager_loop"), 7) == "{'i': 7, 'name': b'n7'}"


def test_eager_restore(runs: Runs) -> None:
    """The first element after a restore has the restored step, and a manager's save is one save."""
    assert runs.seen("eager_restore") == [0, 1, 2, 3, 4, 5, 6, 5, 6]
    assert values(runs.ledger("eager_restore"), 0) == numbers(runs.seen("eager_restore"))
    assert story(runs.ledger("eager_restore")) == (
        f"{run_of('0.0', range(5))}, saved 5, 0.0=5, 0.0=6, restored 5, 0.0=5, 0.0=6, done 7"
    )


def test_eager_optionals(runs: Runs) -> None:
    """An optional with a value is the element, one without is the end; a step that nothing tells is unknown."""
    assert values(runs.ledger("eager_optional"), 0) == numbers([0, 1, 2])
    assert story(runs.ledger("eager_optional")) == "0.0=?, 0.0=?, 0.0=?, end 0.0, done ?"


def test_steps_get_rarer(runs: Runs) -> None:
    """The first 64 elements of a life have a step each, then every 32nd."""
    written = story(runs.ledger("eager_many")).split(", ")
    assert written[:64] == [f"0.0={step}" for step in range(64)]
    assert [word for word in written[64:] if "=" in word] == ["0.0=64", "0.0=96"]
    assert written[-2:] == ["end 0.0", "done 100"]


def test_function_elements(runs: Runs) -> None:
    """In a function, the iterator is found at run time, and each element has the step before it, in loops too."""
    ledger = runs.ledger("function_loop")
    assert runs.seen("function_loop") == [1, 3, 5] * 2
    assert values(ledger, 0) == numbers([*range(6)] * 2)
    assert story(ledger) == f"{run_of('0.0', range(6))}, {run_of('0.1', range(6, 12))}, done 12"


def test_function_for_loop(runs: Runs) -> None:
    """A `for` in a function records each element and the end."""
    assert runs.seen("function_for") == 10
    assert values(runs.ledger("function_for"), 0) == numbers(range(5))
    assert story(runs.ledger("function_for")).endswith("0.0=?, end 0.0, done ?")


def test_function_restore(runs: Runs) -> None:
    """In a function, too, the first element after `Checkpoint.read` has the restored step."""
    assert runs.seen("function_restore") == [0, 1, 2, 3, 4, 3, 4]
    assert story(runs.ledger("function_restore")) == (
        "0.0=0, 0.0=1, 0.0=2, saved 3, 0.0=3, 0.0=4, restored 3, 0.0=3, 0.0=4, done 5"
    )


def test_given_step(runs: Runs) -> None:
    """A `step` callable is asked before the function runs, so an assignment inside it cannot race with the read."""
    assert story(runs.ledger("function_given")) == f"{run_of('0.0', range(1000, 1004))}, done 1004"


def test_iterators_made_in_a_function(runs: Runs) -> None:
    """An iterator that a function makes is a new one in each call."""
    assert values(runs.ledger("function_inside"), 0) == numbers([0, 1, 0, 1])
    assert story(runs.ledger("function_inside")) == "0.0=?, 0.0=?, 0.1=?, 0.1=?, done ?"


def test_data_service(runs: Runs) -> None:
    """What the tf.data service processes is seen where it leaves the trainer's iterator."""
    assert runs.seen("data_service") == [0, 1, 2]
    assert values(runs.ledger("data_service"), 0) == numbers(range(3))


def test_session_loop(runs: Runs) -> None:
    """In a session: passes of one iterator, ends, validation apart, steps from before the run, a finalized graph."""
    ledger = runs.ledger("session_loop")
    assert runs.seen("session_loop") == [*range(5), *range(5), 0, 1, 0]
    assert values(ledger, 0) == numbers(runs.seen("session_loop"))
    assert values(ledger, 1) == numbers([100])
    # A pass that ends costs a step here: the assignment does not depend on the element.
    assert story(ledger) == (
        f"{run_of('0.0', range(5))}, end 0.0, 1.0=6, {run_of('0.1', range(6, 11))}, end 0.1, "
        "0.2=12, 0.2=13, 0.3=14, done 15"
    )


def test_session_feedable(runs: Runs) -> None:
    """The elements of a feedable iterator belong to the iterator whose handle was fed, and so does the end."""
    ledger = runs.ledger("session_feedable")
    assert (values(ledger, 0), values(ledger, 1)) == (numbers([0, 1, 2]), numbers([100, 101, 102]))
    assert story(ledger) == "0.0=?, 1.0=?, 0.0=?, 1.0=?, 0.0=?, 1.0=?, end 1.0, done ?"


def test_session_reinitialisable(runs: Runs) -> None:
    """Each initialisation of a reinitialisable iterator is another iterator of its stream."""
    assert values(runs.ledger("session_structure"), 0) == numbers([0, 1, 100, 101])
    assert story(runs.ledger("session_structure")) == "0.0=?, 0.0=?, 0.1=?, 0.1=?, done ?"


def test_session_saveable(runs: Runs) -> None:
    """`make_saveable_from_iterator` still saves and restores the iterator, and both are recorded."""
    assert runs.seen("session_saveable") == [0, 1, 2, 3, 3, 4, 5]
    assert story(runs.ledger("session_saveable")) == (
        "0.0=0, 0.0=1, 0.0=2, saved 3, 0.0=3, restored 3, 0.1=3, 0.1=4, 0.1=5, done 6"
    )


def test_monitored_training_session(runs: Runs) -> None:
    """`MonitoredTrainingSession`: saves, restores and steps; DONE has the step of a session that is closed."""
    ledger = runs.ledger("monitored")
    assert values(ledger, 0) == numbers(runs.seen("monitored"))
    assert runs.seen("monitored") == [*range(80), *range(8)]
    written = story(ledger).split(", ")
    assert [word for word in written if "=" not in word and word not in ("0.0", "0.1")] == [
        *("saved 0", "saved 50", "saved 80", "restored 80", "saved 80", "saved 88", "done 88"),
    ]
    steps = [word for word in written if "=" in word]
    assert steps == [f"0.0={step}" for step in range(65)] + ["0.1=80"]


@pytest.mark.skipif(not HAS_ESTIMATOR, reason="this TensorFlow has no Estimator")
def test_estimator(runs: Runs) -> None:
    """The real Estimator: training and evaluation are streams of their own, and the step goes on after a restore."""
    ledger = runs.ledger("estimator")
    assert [stream.label.partition("estimator")[2] for stream in ledger.streams] == ["", " (evaluate)", ""]
    assert story(ledger) == (
        f"saved 0, {run_of('0.0', range(4))}, saved 4, restored 4, 1.0=4, 1.0=4, "
        "restored 4, saved 4, 2.0=4, 2.0=5, 2.0=6, saved 7, done 7"
    )


def test_keras_fit(runs: Runs) -> None:
    """`fit`: epochs, validation apart, weights saved and restored, the optimizer's iterations as the step."""
    ledger = runs.ledger("keras_fit")
    assert [values(ledger, stream) for stream in range(4)] == [batches(3) * 2, batches(1) * 2, batches(2), batches(2)]
    assert [stream.label.partition("keras_fit")[2] for stream in ledger.streams] == ["", " (evaluate)", "", ""]
    assert story(ledger) == (
        "0.0=0, 0.0=1, 0.0=2, 1.0=3, 0.1=3, 0.1=4, 0.1=5, 1.1=6, saved 6, "
        "2.0=6, 2.0=7, restored 6, 3.0=6, 3.0=7, done 8"
    )


def test_keras_compiled(runs: Runs) -> None:
    """XLA and several steps in one call change nothing."""
    ledger = runs.ledger("keras_jit")
    assert (values(ledger, 0), values(ledger, 1)) == (batches(3), batches(4))
    assert story(ledger) == f"{run_of('0.0', range(3))}, {run_of('1.0', range(4))}, done 4"


def test_keras_eager(runs: Runs) -> None:
    """`run_eagerly` and a loop over `train_on_batch` are recorded, without what Keras 2 does inside of that."""
    ledger = runs.ledger("keras_eager")
    assert (values(ledger, 0), values(ledger, 1)) == (batches(2), batches(3))
    assert story(ledger) == "0.0=0, 0.0=1, 1.0=0, 1.0=1, 1.0=2, end 1.0, done 3"


def test_keras_backup_and_restore(runs: Runs) -> None:
    """`BackupAndRestore` saves once for each epoch and restores once, with the right steps."""
    assert story(runs.ledger("keras_backup")) == ", ".join(
        [
            *(run_of("0.0", range(3)), "saved 3", run_of("0.1", range(3, 6)), "saved 6", "restored 6"),
            *(run_of("1.0", range(6, 9)), "saved 9", run_of("1.1", range(9, 12)), "saved 12", "done 12"),
        ]
    )


def test_optimizer_of_a_checkpoint(runs: Runs) -> None:
    """Without a step variable, an optimizer in the Checkpoint tells the step."""
    assert story(runs.ledger("custom_optimizer")) == f"{run_of('0.0', range(4))}, done 4"


@pytest.mark.parametrize("mode", ["eager", "function", "session", "keras"])
def test_gate(runs: Runs, mode: str) -> None:
    """While the gate holds the third element, the trainer has had two; then it gets all five."""
    assert runs.seen(f"gate_{mode}") == [2, 5]


def test_all_kinds_of_elements(runs: Runs) -> None:
    """Nested, string, ragged, sparse, optional, bfloat16 and empty elements have one fingerprint in all three modes."""
    eager, function, session = (runs.ledger(name) for name in ZOO)
    assert values(eager, 0) == values(function, 0) == values(session, 0)
    records = [
        [tuple(record) for record in ledger.records[ledger.records["kind"] == Kind.ELEMENT][["rows_digest", "rows"]]]
        for ledger in (eager, function, session)
    ]
    assert records[0] == records[1] == records[2]
    assert len(set(values(eager, 0))) == len(values(eager, 0)) - 2  # the empty ones are all equal
    assert not any(ledger.records["flags"].any() for ledger in (eager, function, session))


@pytest.mark.parametrize("name", SHOWN)
def test_elements_can_be_told_apart(runs: Runs, name: str) -> None:
    """A preview has the element's own shape, the values of small components, and the mean of others."""
    ledger = runs.ledger(name)
    number = int((ledger.records["kind"] == Kind.ELEMENT).sum())
    path = "b'/data/xxxxxxxxxxxxx…xxxxxxxxxxxxxxxxxx"
    assert [preview(ledger, element) for element in range(number)] == [
        "{'image': uint8[3,8,8] mean 1, 'label': int64[3] 0 1 2}",
        "{'image': uint8[2,8,8] mean 3.5, 'label': int64[2] 3 4}",
        f"{{'0': {path}0', '1': 0, '2': float32[100,100] mean ~0.5}}",
        f"{{'0': {path}1', '1': 1, '2': float32[100,100] mean ~0.5}}",
        "{'optional.has_value': False, 'optional': no value, 'ragged': ragged int32[2,?] 7 values, mean 3, "
        "'sparse': sparse float32[4] 1 value: 1}",
        "{'optional.has_value': True, 'optional': 1, 'ragged': ragged int32[2,?] 7 values, mean 4, "
        "'sparse': sparse float32[4] 1 value: 1}",
    ]


def test_elements_are_unchanged(runs: Runs, tmp_path: Path) -> None:
    """In a function, an element has the types, structure and static shapes that it has without the tap."""
    code = (
        f"import sys, json, pathlib; sys.path.insert(0, {str(SCENARIOS.parent)!r}); import tap_scenarios, tapping; "
        f"print(json.dumps(tap_scenarios.zoo_function(tapping.Gate(), pathlib.Path())))"
    )
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    ran = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-4000:]
    assert json.loads(ran.stdout.splitlines()[-1]) == runs.seen("zoo_function")


@pytest.mark.parametrize("mode", ["eager", "function"])
def test_nested_datasets(runs: Runs, mode: str) -> None:
    """A component that cannot be fingerprinted is flagged and named, and the user's code can still read it."""
    ledger = runs.ledger(f"window_{mode}")
    elements = ledger.records[ledger.records["kind"] == Kind.ELEMENT]
    assert elements["flags"].tolist() == [Flag.OPAQUE] * 2
    assert ledger.opaque is not None
    assert ledger.opaque.startswith("w (DatasetSpec(")
    if mode == "function":
        assert runs.seen("window_function") == [1, 5]
