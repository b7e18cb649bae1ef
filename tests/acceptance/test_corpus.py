from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from judging import judge
from registry import CORPUS, Training
from truth import wrong

ROOT = Path(__file__).parents[2]
SAFE = Training("program", "good", "kind")
UNSAFE = dataclasses.replace(SAFE, unsafe=frozenset({"restarted"}))
NEVER = dataclasses.replace(SAFE, unsafe=frozenset({"never-resumed"}), resumes=False)
RIGHT: dict[str, Any] = {"argv": ["--model_dir=/x/reference/model"], "twice": [], "never": [], "other": {"w": 1.0}}
TORN = {**RIGHT, "argv": ["--model_dir=/x/trial-0/run/model"], "never": [3, 4, 5, 9]}


def row(outcome: str, kind: str = "trial") -> dict[str, Any]:
    """What the report says of one trial, or of `every`."""
    return {
        "kind": kind,
        "outcome": outcome,
        "reason": "because",
        "notes": ["final weights differ"],
        "measured": {"files": "/x/trial-0"},
    }


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """A benchmark, as it is run by hand."""
    return subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=240)


def test_corpus_is_as_large_and_as_wide_as_it_claims() -> None:
    """There are 60 trainings of 30 kinds or more, each with a name of its own and a script that is there."""
    assert len({training.name for training in CORPUS}) == len(CORPUS) >= 60
    assert len({training.kind for training in CORPUS}) >= 30
    assert all(training.path.is_file() for training in CORPUS)


def test_truths_that_were_found_are_those_of_the_registry() -> None:
    """The table of truths, printed without the plugin, has each training with the word that the registry has."""
    lines = (ROOT / "tests" / "support" / "corpus" / "TRUTH.txt").read_text().splitlines()
    found = dict(line.split(maxsplit=1) for line in lines if not line.startswith((" ", "#")))
    assert found == {
        training.name: "safe" if training.safe else "unsafe" if training.resumes else "never resumes"
        for training in CORPUS
    }


def test_a_file_that_is_written_in_place_crashes_every() -> None:
    """Of a training that overwrites its checkpoint `every` finds the half that a kill leaves; no trial may crash."""
    in_place = dataclasses.replace(SAFE, in_place=True)
    assert judge(in_place, [row("crashed", "survey")], [RIGHT]).word == "right"
    assert judge(in_place, [row("crashed")], [RIGHT]).word == "contradiction"
    assert judge(SAFE, [row("crashed", "survey")], [RIGHT]).word == "contradiction"


def test_proofs_name_what_differs() -> None:
    """A proof that differs says which elements, and which numbers; an equal one says nothing."""
    assert wrong(RIGHT, TORN) == "never 3..5+9"
    assert wrong(RIGHT, {**RIGHT, "other": {"w": 2.0}}) == "w 2 not 1"
    assert wrong(RIGHT, RIGHT) == ""
    assert wrong(RIGHT, None) == "no proof"


@pytest.mark.parametrize(
    ("training", "rows", "proofs", "word"),
    [
        (SAFE, [row("exact")], [RIGHT], "right"),
        (SAFE, [row("exact"), row("lost")], [RIGHT], "contradiction"),
        (SAFE, [row("unknown"), row("exact")], [RIGHT], "unknown"),
        (SAFE, [], [], "unknown"),
        (UNSAFE, [row("restarted")], [RIGHT, TORN], "right"),
        (UNSAFE, [row("crashed")], [RIGHT, TORN], "contradiction"),
        (UNSAFE, [row("exact")], [RIGHT, TORN], "contradiction"),
        (UNSAFE, [row("exact", "survey")], [RIGHT], "contradiction"),
        # This kill was harmless, as the proof of the life that it left shows.
        (UNSAFE, [row("exact")], [RIGHT, {**TORN, "never": []}], "right"),
        (UNSAFE, [row("restarted")], [RIGHT, {**TORN, "never": []}], "contradiction"),
        (dataclasses.replace(UNSAFE, noted="final weights differ"), [row("exact")], [RIGHT, TORN], "right"),
        (dataclasses.replace(UNSAFE, noted="another note"), [row("exact")], [RIGHT, TORN], "contradiction"),
        (NEVER, [row("exact"), row("exact")], [RIGHT], "contradiction"),
        (NEVER, [row("exact"), row("unknown")], [RIGHT], "unknown"),
        (NEVER, [row("exact"), row("never_resumes")], [RIGHT], "right"),
    ],
)
def test_verdicts_are_judged_by_proofs(
    training: Training, rows: list[dict[str, Any]], proofs: list[dict[str, Any]], word: str
) -> None:
    """A verdict contradicts if it is exact where the proof is not, or the other way round."""
    assert judge(training, rows, proofs).word == word


@pytest.mark.tensorflow
@pytest.mark.slow
def test_truth_is_what_the_registry_says() -> None:
    """The truth about an unsafe and a never resuming training is found without the plugin."""
    ended = run("benchmarks/corpus.py", "--truth", "saver:anew", "saver:never_restores")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "twice 0..9, never 20..29" in ended.stdout
    assert ended.stdout.splitlines()[-1] == "2 trainings, 0 differ from what the registry says"


@pytest.mark.tensorflow
@pytest.mark.slow
def test_verdicts_on_the_corpus_are_counted() -> None:
    """The plugin is asked about trainings, and what it says is compared with the truth and summed up."""
    ended = run("benchmarks/corpus.py", "--trials=1", "saver:skip", "saver:anew")
    assert "random, 1 safe: 1 right, 0 contradiction, 0 unknown" in ended.stdout, ended.stdout + ended.stderr
    assert "random, 1 unsafe: 1 right, 0 contradiction, 0 unknown" in ended.stdout


@pytest.mark.tensorflow
@pytest.mark.slow
def test_handed_cases_are_compared_with_what_is_true(tmp_path: Path) -> None:
    """Cases that are said to be exact, and are or are not, become a row each of the table."""
    folder = tmp_path / "adversary2"
    folder.mkdir()
    for name in ("proof.py", "saver.py"):
        shutil.copy(ROOT / "tests" / "support" / "corpus" / name, folder)
    (folder / "saver.py").rename(folder / "nodirsync.py")
    unsafe = (folder / "nodirsync.py").read_text().replace('"skip", "anew"', '"anew", "skip"')
    (folder / "nds2.py").write_text(unsafe)
    ended = run("benchmarks/handed.py", str(tmp_path), "adversary2/n", "--no-every", "--trials=1")
    assert ended.returncode == 1, ended.stdout + ended.stderr
    rows = [line.split() for line in ended.stdout.splitlines() if line.startswith("adversary2")]
    assert [(words[0], words[-1]) for words in rows] == [
        ("adversary2/nodirsync.py", "ok"),
        ("adversary2/nds2.py", "WRONG"),
    ]
    assert ended.stdout.splitlines()[-1] == "1 of 2 true"
