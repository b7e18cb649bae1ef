"""Trainings that were judged wrongly once: what is true of each, and what is said of it now.

    python benchmarks/handed.py DIRECTORY [--trials=3] [--no-every] [--seconds=300] [NAMES]

DIRECTORY has the cases, in folders; it is copied first, because some write beside themselves. A name is a folder
(`min`) or the beginning of a command in one (`min/npz`). By hand; about an hour.
"""

from __future__ import annotations

import argparse
import collections
import os
import shlex
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support" / "corpus"))
from asking import ask  # noqa: E402  (the path must be known first)

TWICE = ("restarted", "duplicated", "misaligned")
TORN = ("misaligned", "lost", "duplicated", "diverged")


@dataclass(frozen=True, slots=True)
class Case:
    """A command in a folder of the directory, and what is true of it."""

    folder: str
    command: str
    """Of a script; or a test file, with what else selects the test."""
    true: tuple[str, ...] = ("exact",)
    """The outcomes that say so."""
    at: str = "random"
    every: tuple[str, ...] | None = ()
    """What `every` is to say, if that is another thing; None: it is not asked."""
    more: tuple[str, ...] = ()
    """Further options."""
    shows: str = ""
    """What a life is to print."""

    @property
    def name(self) -> str:
        """As the table shows it."""
        return f"{self.folder}/{self.command}"


CASES = (
    # Keras writes its files in place: a kill within leaves one that `load_model`, or its own callback, cannot open.
    Case("load_model", "train.py --out={model_dir}", at="step:45", every=("crashed",)),
    # TensorFlow's tape is not there on JAX: the package refuses, whatever the server has imported.
    Case("keras_jax", "train.py --out={model_dir} --how=ours", ("crashed",)),
    # What is saved with the last batch of an epoch begins that epoch again, with a model that has ended it.
    Case(
        # Its epochs are equal: which one a resume begins with is told by how many are left.
        *("keras_jax", "train.py --out={model_dir} --how=backup", ("restarted", "misaligned", "overrun")),
        every=("crashed",),
        shows="BACKEND jax",
    ),
    Case("keras_jax", "train.py --out={model_dir} --how=epoch", every=("crashed",), shows="BACKEND jax"),
    Case("flax_orbax", "envloop.py {model_dir}", ("unknown",), every=None, shows="dtype float64"),
    Case("min", "filevar.py {model_dir}"),
    Case("min", "test_npz.py"),
    Case("min", "test_env.py"),
    Case("min", "test_binary.py"),
    # The checkpoints are not below the directory that is watched: `every` may say that it cannot tell.
    Case(
        *("elsewhere", "train.py --bad --model_dir={scratch}{model_dir}", ("restarted",)),
        at="step:25",
        every=("restarted", "unknown"),
    ),
    Case("accumulate", "train.py --out={model_dir} --how=fit", at="step:35"),
    Case("accumulate", "train.py --out={model_dir} --how=keras", at="step:35"),
    # Its initial weights have no seed, so the final ones differ anyway, and cannot show what the sums have lost.
    Case("accumulate", "train.py --out={model_dir} --how=python", (*TORN, "unknown"), at="step:35"),
    Case("mixed", "train.py --out={model_dir} --how=ours --scale=256"),
    Case("mixed", "train.py --out={model_dir} --how=ours"),
    Case("mixed", "train.py --out={model_dir} --how=loop"),
    Case("packing", "train.py --out={model_dir} --buffer"),
    # At the saves of steps 30 and 40 nothing is in the buffer.
    Case("packing", "train.py --out={model_dir}", ("lost", "misaligned"), at="step:70"),
    Case("keras_gan", "train.py --dir={model_dir} --how=backup", ("restarted",), every=("crashed",)),
    Case("keras_gan", "test_gan.py -k backup", ("restarted",), every=("crashed",)),
    # From the second epoch on it does not begin with that epoch's order, but with the first one's: other batches.
    Case("mwms_ctl", "train.py --dir={model_dir}", ("restarted", "changed"), every=None, more=("--preempt-workers=2",)),
    Case("clu_ckpt", "train.py --workdir={model_dir}"),
    Case("clu_ckpt", "test_g.py"),
    # Its saves are asynchronous: an early kill finds none that is complete, and the training begins anew as a whole.
    Case("flax_orbax", "loop_a.py --model_dir={model_dir}", ("restarted",), at="step:35"),
    Case("flax_orbax", "loop_d.py --model_dir={model_dir}"),
    Case("flax_orbax", "loop_beside.py --workdir={model_dir}"),
    Case("adversary", "a1.py --model_dir={model_dir}", TWICE, at="step:25", every=("crashed",)),
    Case("adversary", "a1.py --model_dir={model_dir} --mode=model", TWICE, at="step:25", every=("crashed",)),
    Case("adversary", "a1.py --model_dir={model_dir} --mode=skip", at="step:25", every=("crashed",)),
    Case("adversary", "a2o.py --model_dir={model_dir} --de=5", ("misaligned", "lost"), at="step:17"),
    Case("adversary", "a3.py --model_dir={model_dir}", TWICE, at="step:25"),
    Case("adversary", "a10.py --model_dir={model_dir}", TWICE, at="step:55"),
    Case("adversary", "a28.py --model_dir={model_dir}", every=("crashed",)),
    Case("adversary", "a28.py --model_dir={model_dir} --how=abs", every=("crashed",)),
    Case("adversary", "a12.py --model_dir={model_dir}", every=("crashed",)),
    Case("adversary", "a14.py --model_dir={model_dir} --forget=d", TORN, at="step:25", every=(*TORN, "crashed")),
    Case("adversary", "a14.py --model_dir={model_dir} --forget=g", TORN, at="step:25", every=(*TORN, "crashed")),
    Case("adversary", "a5.py --model_dir={model_dir}", at="step:23"),
    Case("adversary", "a17.py --model_dir={model_dir}", at="step:25"),
    Case("adversary", "a17.py --model_dir={model_dir} --bad=40", at="step:55"),
    Case("adversary", "a20.py --model_dir={model_dir}", at="step:45"),
    Case("adversary", "a26.py --model_dir={model_dir}", at="step:25"),
    Case("adversary2", "mknod.py --model_dir={model_dir}", ("restarted",), at="step:20/op:3"),
    Case("adversary2", "dur.py --model_dir={model_dir}", more=("--preempt-loss=power",)),
    Case("adversary2", "nodirsync.py --model_dir={model_dir}"),
    Case("adversary2", "nds2.py --model_dir={model_dir}"),
)


def said(case: Case, at: str, directory: Path, arguments: argparse.Namespace) -> tuple[list[dict[str, Any]], str, bool]:
    """The report's rows, the end of what was printed, and whether a life showed what it should."""
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        asked = case.command.replace("{scratch}", str(scratch / "elsewhere"))
        is_test = asked.startswith("test_")
        options = [f"--preempt-at={at}", f"--preempt-trials={arguments.trials}", *case.more]
        rows, printed = ask(
            [*options, *(shlex.split(asked) if is_test else [f"--preempt-script={asked}"])],
            cwd=directory / case.folder,
            scratch=scratch,
            seconds=arguments.seconds,
            environ={"PROOF": os.devnull},
        )
        files = [path for path in (scratch / "lives").rglob("*") if case.shows and path.is_file()]
        shown = not case.shows or any(case.shows.encode() in path.read_bytes() for path in files)
    return rows, printed, shown


def print_case(case: Case, at: str, true: tuple[str, ...], directory: Path, arguments: argparse.Namespace) -> str:
    """One row of the table; returns its last word: whether what was said is true."""
    rows, printed, shown = said(case, at, directory, arguments)
    outcomes = collections.Counter(row["outcome"] for row in rows)
    right = bool(outcomes) and set(outcomes) <= set(true) and shown
    late = at == "every" and not rows and "KeyboardInterrupt" in printed
    word = "late" if late else "ok" if right else "WRONG"
    got = ", ".join(f"{number} {outcome}" if number > 1 else outcome for outcome, number in outcomes.items())
    print(f"{case.name:62s} {at:12s} {'/'.join(true)[:24]:24s} {got or '-':24s} {word}", flush=True)
    if late:
        return word
    if not shown:
        print(f"    no life printed {case.shows!r}")
    for row in rows:
        if row["outcome"] not in true:
            print(f"    {row['reason'][:300]}")
            break
    if not rows:
        print("    " + " / ".join(printed.splitlines()[-4:])[-400:])
    return word


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, metavar="DIRECTORY")
    parser.add_argument("names", nargs="*", metavar="NAMES")
    parser.add_argument("--trials", type=int, default=3, help="where no kill is named")
    parser.add_argument("--no-every", action="store_true", help="leave `every` out")
    parser.add_argument("--seconds", type=float, default=300, help="for one row of the table")
    arguments = parser.parse_intermixed_args()
    words = []
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary, "cases")
        shutil.copytree(arguments.directory, directory)
        for case in CASES:
            if arguments.names and not any(case.name.startswith(name) for name in arguments.names):
                continue
            words.append(print_case(case, case.at, case.true, directory, arguments))
            if case.every is not None and not arguments.no_every:
                words.append(print_case(case, "every", case.every or case.true, directory, arguments))
    asked = [word for word in words if word != "late"]
    late = f", {words.count('late')} did not end in time" if "late" in words else ""
    print(f"{asked.count('ok')} of {len(asked)} true{late}")
    sys.exit("WRONG" in words)


if __name__ == "__main__":
    main()
