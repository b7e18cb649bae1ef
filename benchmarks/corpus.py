"""The corpus of trainings that prove themselves: what is true, what the plugin says, and where the two contradict.

    python benchmarks/corpus.py --truth [NAMES]       # without the plugin: kills, resumes, reads the proofs
    python benchmarks/corpus.py [--trials=5] [--every] [--out=results.json] [NAMES]

A name is a program (`keras_fit`) or one way of it (`keras_fit:backup`); none: all. By hand: all of it takes
hours. With `--out` what has been judged is kept in that file, and a second call goes on with the rest.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import itertools
import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support" / "corpus"))
import truth  # noqa: E402  (the path must be known first)
from asking import ask  # noqa: E402
from judging import Judged, judge  # noqa: E402
from registry import CORPUS, Training  # noqa: E402

SECONDS = 600
"""For one training; the rest of its program's ways have no verdict then."""
OF_SERVERS = re.compile(
    r"^preempt: (.*(?:its lives are forks of a process|each life starts a fresh interpreter).*)$", re.M
)
"""What a training's lives come from, where it is not the server that all share."""


def chosen(names: list[str]) -> list[Training]:
    """Those that are named by program or by name."""
    found = [training for training in CORPUS if not names or {training.name, training.program} & set(names)]
    unknown = set(names) - {name for training in CORPUS for name in (training.name, training.program)}
    if unknown:
        raise SystemExit(f"not in the corpus: {', '.join(sorted(unknown))}")
    return found


def print_truth(trainings: list[Training]) -> int:
    """A row for each training; returns how many differ from what the registry says."""
    differ = 0
    for (needs, fresh), group in itertools.groupby(trainings, key=lambda training: (training.needs, training.fresh)):
        with contextlib.nullcontext(truth.in_its_own_interpreter) if fresh else truth.forking(needs) as launcher:
            for training in group:
                found = truth.find(training, launcher)
                agrees = found.landed and (found.safe, found.resumes) == (training.safe, training.resumes)
                agrees = agrees and (found.needs_whole_files or not training.in_place)
                differ += not agrees
                print_row(training, found, agrees=agrees)
    print(f"{len(trainings)} trainings, {differ} differ from what the registry says")
    return differ


def print_row(training: Training, found: truth.Truth, *, agrees: bool) -> None:
    """The truth about one training, and each kill that shows it."""
    word = "safe" if found.safe else "unsafe" if found.resumes else "never resumes"
    print(f"{training.name:34s} {word:14s} {'' if agrees else 'DIFFERS from the registry'}".rstrip(), flush=True)
    for ended in found.ended:
        steps = "+".join(str(life.steps) for life in ended.lives)
        landed = "" if ended.landed else "DID NOT LAND "
        print(f"    {ended.kills:16s} {steps:12s} {landed}{ended.wrong or 'as uninterrupted'}")
    if training.in_place:
        print(f"    {'half of a file':16s} {found.cut.steps:<12d} ends with exit code {found.cut.status}")
    if not agrees:
        for life in [found.whole, *(life for ended in found.ended for life in ended.lives)]:
            if life.status not in (0, truth.KILLED):
                print("    | " + "\n    | ".join(life.output.splitlines()[-12:]))
                break


def asked(trainings: list[Training], mode: str, trials: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]], str]:
    """Of several trainings in one session: the report's rows, the proofs, what pytest printed."""
    with tempfile.TemporaryDirectory() as directory:
        scratch, proofs = Path(directory), Path(directory, "proofs")
        scripts = [f"--preempt-script={command_of(training)}" for training in trainings]
        rows, printed = ask(
            [f"--preempt-at={mode}", f"--preempt-trials={trials}", *scripts],
            cwd=scratch,
            scratch=scratch,
            seconds=SECONDS * len(trainings),
            environ={"PROOF": str(proofs)},
        )
        lines = proofs.read_text().splitlines() if proofs.exists() else []
    return rows, [json.loads(line) for line in lines], printed


def command_of(training: Training) -> str:
    """What `--preempt-script` takes."""
    return f"{training.path} --model_dir={{model_dir}} --how={training.how}"


def verdicts(trainings: list[Training], mode: str, trials: int, out: Path | None) -> int:
    """Asks the plugin about each, program by program, and prints a row each; returns how many contradict the proof."""
    known = json.loads(out.read_text()) if out and out.exists() else {}
    servers: dict[str, str] = {}
    for _, ways in itertools.groupby(trainings, key=lambda training: training.program):
        group = list(ways)
        left = [training for training in group if f"{mode} {training.name}" not in known]
        rows, proofs, printed = asked(left, mode, trials) if left else ([], [], "")
        for sentence in OF_SERVERS.findall(printed):
            servers[group[0].program] = sentence
        for training in left:
            own = [row for row in rows if row["test"].endswith(command_of(training))]
            shown = [proof for proof in proofs if f"--how={training.how}" in proof["argv"]]
            judged = judge(training, own, shown)
            if not own:
                judged = Judged(judged.word, (), "no verdict: " + " ".join(printed.splitlines()[-3:])[-300:])
            known[f"{mode} {training.name}"] = dataclasses.asdict(judged)
        if out and left:
            out.write_text(json.dumps(known, indent=1) + "\n")
        for training in group:
            print_verdict(training, mode, known[f"{mode} {training.name}"])
    for program, sentence in servers.items():
        print(f"{program}: {sentence}")
    print(f"not from the server that all share: {len(servers)} of the programs that were asked now")
    return print_sums(trainings, mode, known)


def print_verdict(training: Training, mode: str, judged: dict[str, Any]) -> None:
    """One row."""
    truth_word = "safe" if training.safe else "unsafe" if training.resumes else "never resumes"
    counts = collections.Counter(judged["outcomes"])
    said = ", ".join(f"{number} {outcome}" if number > 1 else outcome for outcome, number in counts.items())
    word = judged["word"].upper() if judged["word"] == "contradiction" else judged["word"]
    print(f"{training.name:32s} {mode:7s} {truth_word:14s} {word:14s} {said:30s} {judged['detail'][:400]}", flush=True)


def print_sums(trainings: list[Training], mode: str, known: dict[str, Any]) -> int:
    """Of the safe and of the unsafe: how many verdicts are right, contradict the proof, and are unknown."""
    contradictions = 0
    for safe in (True, False):
        those = [known[f"{mode} {training.name}"]["word"] for training in trainings if training.safe is safe]
        counts = collections.Counter(those)
        words = ", ".join(f"{counts[word]} {word}" for word in ("right", "contradiction", "unknown"))
        print(f"{mode}, {len(those)} {'safe' if safe else 'unsafe'}: {words}")
        contradictions += counts["contradiction"]
    return contradictions


def main() -> None:
    """Prints the table that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAMES")
    parser.add_argument("--truth", action="store_true", help="find the truth, without the plugin")
    parser.add_argument("--trials", type=int, default=5)
    parser.add_argument("--every", action="store_true", help="each instant of a run, not random kills")
    parser.add_argument("--out", type=Path, help="JSON: what has been judged, to go on with")
    arguments = parser.parse_intermixed_args()
    if arguments.truth:
        sys.exit(print_truth(chosen(arguments.names)) > 0)
    mode = "every" if arguments.every else "random"
    sys.exit(verdicts(chosen(arguments.names), mode, arguments.trials, arguments.out) > 0)


if __name__ == "__main__":
    main()
