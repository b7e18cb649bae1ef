"""Writes `docs/verdicts.md`: each verdict as it is printed, by running a training that gets it.

`python docs/site/print_verdicts.py` runs all of them again (TensorFlow, about a minute) and writes the page;
`tests/plugin/test_docs.py` runs some, and fails if the page is not what they print.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "verdicts.md"
SUPPORT = ROOT / "tests" / "support"


class Section(NamedTuple):
    """What the page says of one verdict."""

    meaning: str
    planted: str
    """The training that shows it, by its name in `planted.PLANTED`; `exact`: none of them."""
    mistake: str
    remedy: str


SECTIONS = {
    "exact": Section(
        "The resumed training went on with exactly the elements that its model had not seen. Only this passes.",
        "",
        "No mistake: model, step and iterator are in one `tf.train.Checkpoint`.",
        "The line says what the verdict rests on. A run in which no save was crossed, or few elements were compared, "
        "proves little.",
    ),
    "lost": Section(
        "Some elements were never trained.",
        "lost",
        "`dataset.skip(read).shuffle(8)`: the source goes on where it was, and what was in the shuffle buffer is gone.",
        "Save the iterator itself (`tf.train.Checkpoint(iterator=...)`, or the hook): its checkpoint holds the buffer.",
    ),
    "duplicated": Section(
        "Some elements were trained twice, although the model was not rolled back.",
        "duplicated",
        "Of two shards, one goes on from the beginning of its block.",
        "Save the iterator instead of positions of your own, or save all positions exactly.",
    ),
    "reordered": Section(
        "The right elements came in another order.",
        "reordered",
        "What is left after a resume is shuffled with another seed.",
        "Save the iterator; or, if the order does not matter to you, say so with `--preempt-order=any`.",
    ),
    "changed": Section(
        "The training saw elements that the reference run does not have.",
        "changed",
        "A random `map` whose state is left out of the checkpoint (`ExternalStatePolicy.IGNORE`).",
        "Draw with `tf.random.stateless_*` and a seed that is part of the element.",
    ),
    "misaligned": Section(
        "Input and model resumed at different positions: they were saved at different moments.",
        "misaligned behind",
        "Two timers: the model is saved every 10 steps, the input every 15.",
        "Save both in one checkpoint, or use the hook, which brings the input to the model's step.",
    ),
    "restarted": Section(
        "The data began again at element 0, with a model that was further.",
        "restarted",
        "The iterator is in no checkpoint.",
        "Put it in: `tf.train.Checkpoint(..., iterator=iterator)`, or the hook.",
    ),
    "overrun": Section(
        "The training went on after it was finished.",
        "overrun",
        "`for _ in range(STEPS)` instead of `while step < STEPS`.",
        "Count the steps of the whole run, not those of this process.",
    ),
    "incomplete": Section(
        "The training ended before its data did, and said nothing.",
        "incomplete",
        "Any checkpoint is taken for a finished training.",
        "End by the step, and let errors of the input be errors: for the platform an exit code of 0 means done.",
    ),
    "crashed": Section(
        "A life failed by itself. The end of what it printed follows.",
        "crashed",
        "`mkdir()` fails on what the first life has left.",
        "The message is the training's own.",
    ),
    "hung": Section(
        "A life made no progress (no element, no save, no output) for `--preempt-timeout` seconds.",
        "hung",
        "The second life waits for a lock that the killed one has left.",
        "The stacks that follow show where it waits. If it was only slow, raise `--preempt-timeout`.",
    ),
    "never-resumed": Section(
        "Complete checkpoints stood at the kills, and no life read one: each began anew, with a new model. The "
        "elements are right, but each preemption loses all progress.",
        "never resumed",
        "The checkpoints are saved, and nothing restores them.",
        "Restore the newest checkpoint before training. `--preempt-never-resumes=allow` is for trainings that mean it.",
    ),
    "diverged": Section(
        "Every element is exact, but the final checkpoint is not that of the reference run: integers in it count "
        "something else, another resume of the test ended with the same weights bit for bit and this one did not, or "
        "an array that is trained did not begin as it was saved. With `compare_weights=True` any other bit fails.",
        "diverged",
        "The optimizer's momentum is not in the checkpoint, and the test has `compare_weights=True`.",
        "Save everything that a step reads. On GPUs first make sure that two runs that nobody kills end alike.",
    ),
    "flaky": Section(
        "It cannot be judged: runs that nobody kills differ, and too little of the killed life came again.",
        "flaky",
        "An unseeded shuffle, and a training that saves when the notice comes, so that nothing is trained again. It "
        "may be right, but nothing shows it.",
        "Seed what is random; or `--preempt-at=every`, whose truth is the recorded run itself; or "
        "`--preempt-order=any`.",
    ),
    "unknown": Section(
        "It cannot be judged: no element was seen, the kill never landed, or the model's step is not to be found.",
        "no step",
        "The step is a Python number.",
        "The message names what is missing and what helps: here a function that returns the step, `step=`.",
    ),
}
EXACT = """
def test_exact(preemption):
    preemption.check_training(trainings.tf_function_loop, at="step:45,31")
"""
CONFTEST = """
import json
import pathlib

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    if call.excinfo is not None:
        with pathlib.Path(MESSAGES).open("a") as file:
            print(json.dumps([item.originalname, str(call.excinfo.value)]), file=file)
    return (yield)
"""
HEAD = """<!-- Written by docs/site/print_verdicts.py from what pytest printed: edit that, not this. -->
# Verdicts

Each trial gets one verdict. Only `exact` passes. `flaky` and `unknown` say that nothing was proved, and fail too.
Below is one training for each, with one mistake, and what pytest printed for it.

A *life* is one training process; life 2 is the one that resumed after the first kill. Elements count from 0.

How to read an element: a scalar is its value, up to four numbers are shown as they are, more have their shape and their
mean (`uint8[8,8] mean 4.9`). Of more than 4,096 values it is the mean of a sample, spread evenly: `mean ~4.9`. Where
two elements look the same and are not, a part of their fingerprint is shown too.
"""


def shown(names: Iterable[str]) -> dict[str, str]:
    """What pytest prints for these verdicts: the line of one that passes, the message of one that does not."""
    sys.path.insert(0, str(SUPPORT))
    from planted import PLANTED

    tests = ["import planted\nimport trainings\n"]
    for name in names:
        if name == "exact":
            tests.append(EXACT)
            continue
        planted = PLANTED[SECTIONS[name].planted]
        given = "".join(f", {key}={value!r}" for key, value in {"at": planted.at, **planted.settings}.items())
        called = f"preemption.check_training(planted.{planted.train.__name__}{given})"
        tests.append(f"\ndef {_test_of(name)}(preemption):\n    {called}\n")
    with tempfile.TemporaryDirectory() as directory:
        printed, messages = _run(Path(directory), "".join(tests))
    found = dict(messages)
    for line in printed.splitlines():
        if line.startswith("exact "):
            found["test_exact"] = line
    return {name: plain(found[_test_of(name)]) for name in names}


def _test_of(verdict: str) -> str:
    return f"test_{verdict.replace('-', '_')}"


def _run(directory: Path, tests: str) -> tuple[str, list[tuple[str, str]]]:
    messages = directory / "messages"
    messages.touch()
    (directory / "test_training.py").write_text(tests)
    (directory / "conftest.py").write_text(CONFTEST.replace("MESSAGES", repr(str(messages))))
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PREEMPT_", "PYTEST_"))}
    environ |= {"PYTHONPATH": os.pathsep.join([str(SUPPORT), *filter(None, sys.path)]), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-m", "pytest", "-p", "no:randomly", "--basetemp", str(directory / "base"), "-q"]
    ran = subprocess.run(
        [*command, "--preempt-trials=1"], cwd=directory, env=environ, capture_output=True, text=True, check=False
    )
    lines = messages.read_text().splitlines()
    if "preemption" not in ran.stdout:
        raise RuntimeError(ran.stdout + ran.stderr)
    return ran.stdout, [tuple(json.loads(line)) for line in lines]


def plain(text: str) -> str:
    """What was printed without what is this machine's: directories, process ids, warnings of TensorFlow's start."""
    text = re.sub(r"/\S*?/base/", "/tmp/pytest-of-me/pytest-0/", text)
    text = text.replace(f"{ROOT}/", "").replace(sys.prefix, "/venv").replace(sys.base_prefix, "/usr")
    return re.sub(r"0x[0-9a-f]{8,}", "0x...", text)


def settled(text: str) -> str:
    """What does not depend on Python's version and on where a line stands in the corpus, to compare with the page."""
    text = re.sub(r"(end of its output:\n).*", r"\1", text, flags=re.DOTALL)
    text = re.sub(r"(\.py:|\bline )\d+", r"\g<1>N", text)
    if text.startswith("changed: "):  # what is drawn at random differs from run to run
        text = re.sub(r"[0-9.]*[0-9]", "N", text)
    return re.sub(r"(-0-)[0-9a-f]{8}\b", r"\g<1>N", text)


def blocks() -> dict[str, str]:
    """What the page says that is printed for each verdict."""
    return dict(re.findall(r"^## ([\w-]+)\n.*?^```text\n(.*?)\n```$", PAGE.read_text(), re.MULTILINE | re.DOTALL))


def page(printed: dict[str, str]) -> str:
    """The page; `printed` has what pytest printed for each verdict."""
    table = [f"| [`{name}`](#{name}) | {section.meaning} |\n" for name, section in SECTIONS.items()]
    parts = [HEAD, "\n| verdict | |\n|---|---|\n", *table]
    for name, section in SECTIONS.items():
        parts.append(f"\n## {name}\n\n{section.meaning}\n\n*The mistake.* {section.mistake}\n")
        if name == "exact":
            parts[-1] = f"\n## {name}\n\n{section.meaning}\n\n*The training.* {section.mistake}\n"
        parts.append(f"\n```text\n{printed[name]}\n```\n")
        parts.append(f"\n*{'What it says' if name == 'exact' else 'What helps'}.* {section.remedy}\n")
    return "".join(parts)


def main() -> None:
    """Writes the page."""
    PAGE.write_text(page(shown(SECTIONS)))


if __name__ == "__main__":
    main()
