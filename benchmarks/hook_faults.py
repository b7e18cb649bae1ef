"""The known faults of TensorFlow 2.15's hook, reproduced, and the same with ours: `python benchmarks/hook_faults.py`.

Needs TensorFlow 2.15 (`tf.estimator`). Prints the table of docs/pages/hook.md. Each row is one training with
`tf.estimator`, really killed; "exact" means that every step of every life was trained on the element of a run that
nobody killed.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
from tests.hook.conftest import Life, Training  # noqa: E402  (the path must be known first)

if TYPE_CHECKING:
    from collections.abc import Callable

EPOCH = 12


class Row:
    """One situation, with TensorFlow's hook or with ours."""

    def __init__(self, server: subprocess.Popen[str], *, theirs: bool) -> None:
        self.theirs = theirs
        self._server = server
        self.training = self.another()
        self.lives: list[Life] = []

    def another(self) -> Training:
        """A training in a directory of its own."""
        return Training(self._server, Path(tempfile.mkdtemp()))

    def live(self, **job: Any) -> Life:
        """One life with the hook."""
        life = self.training.live(**{"train": "estimator", "theirs": self.theirs, **job})
        self.lives.append(life)
        return life

    def damage(self, name: str, content: bytes | None) -> None:
        """Replaces a file's content; None removes it."""
        path = self._path(name)
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)

    def part(self, name: str) -> bytes:
        """The content of a file."""
        return self._path(name).read_bytes()

    def _path(self, name: str) -> Path:
        ours = name.startswith("input.") and not self.theirs
        return self.training.path(name) if ours else self.training.model_dir / name

    def outcome(self, *, epoch: int | None = None, steps: int = 40) -> str:
        """What the lives were trained on, in words."""
        error = self.lives[-1].error
        expected = self._expected(epoch, steps)
        for life in self.lives:
            for step, found in life.elements.items():
                if found != expected[step]:
                    order = list(expected.values())
                    at = order.index(found, max(0, step - 12)) + 1 if found in order[max(0, step - 12) :] else 0
                    return f"step {step} is trained on element {at}" if at else f"step {step} has another element"
        if error:
            return "`train` returns after 0 steps" if "0 steps were" in error else f"ends with {error.split(':')[0]}"
        trained = set().union(*(life.elements for life in self.lives))
        return "exact" if trained == set(expected) else f"only {len(trained)} of {steps} steps"

    def _expected(self, epoch: int | None, steps: int) -> dict[int, int]:
        pipeline = "seeded" if epoch is None else "epoch"
        found = self.another().live(hook=None, pipeline=pipeline, steps=epoch or steps).elements
        return {step: found[(step - 1) % epoch + 1] if epoch else found[step] for step in range(1, steps + 1)}


def between(row: Row) -> str:
    """Killed between the model's commit and the input's."""
    row.live(kill="between:20")
    row.live()
    return row.outcome()


def state_file(row: Row) -> str:
    """Killed when `input.ckpt-20` is complete, before what names it is."""
    row.live(kill="after:25")
    if row.theirs:
        row.damage("checkpoint_input", b'model_checkpoint_path: "input.ckpt-10"\n')
    else:
        row.damage("input.ckpt-20.commit", None)
    row.live()
    return row.outcome()


def second(row: Row) -> str:
    """Preempted a second time."""
    row.live(kill="after:25")
    row.live(kill="after:35")
    row.live()
    return row.outcome()


def two_calls(row: Row) -> str:
    """One hook for several `train` calls."""
    row.live(call=15)
    return row.outcome()


def mirrored(row: Row) -> str:
    """Under `MirroredStrategy`."""
    row.live(strategy="mirrored", kill="after:25")
    row.live(strategy="mirrored")
    return row.outcome()


def seconds(row: Row) -> str:
    """Saved by `save_checkpoints_secs`: two timers."""
    for kill in ("after:60", "after:260", ""):
        row.live(save_model_secs=0.07, steps=300, kill=kill)
    return row.outcome(steps=300)


def kept(row: Row) -> str:
    """`keep_checkpoint_max=2`: how many of each are kept."""
    row.live(keep_model=2)
    counts = [len(row.training.files(f"{name}.ckpt-*.index")) for name in ("model", "input")]
    return f"model {counts[0]}, input {counts[1]}"


def rolled_back(row: Row) -> str:
    """The model rolled back to an older checkpoint."""
    row.live(kill="after:35")
    row.damage("checkpoint", b'model_checkpoint_path: "model.ckpt-10"\n')
    row.live()
    return row.outcome()


def state_lost(row: Row) -> str:
    """The file that names the newest input checkpoint is lost."""
    row.live(kill="after:25")
    row.damage("checkpoint_input" if row.theirs else "input.ckpt-20.commit", None)
    row.live()
    return row.outcome()


def truncated(row: Row) -> str:
    """`input.ckpt-20.data` truncated."""
    row.live(kill="after:25")
    row.damage("input.ckpt-20.data-00000-of-00001", row.part("input.ckpt-20.data-00000-of-00001")[:20])
    row.live()
    return row.outcome()


def flipped(row: Row) -> str:
    """One bit of `input.ckpt-20.data` flipped."""
    row.live(kill="after:25")
    content = bytearray(row.part("input.ckpt-20.data-00000-of-00001"))
    content[len(content) // 2] ^= 0x40
    row.damage("input.ckpt-20.data-00000-of-00001", bytes(content))
    row.live()
    return row.outcome()


def moved(row: Row) -> str:
    """`model_dir` moved."""
    row.live(kill="after:25")
    old = row.training.model_dir
    row.training.model_dir = old.rename(old.with_name("moved"))
    state = row.part("checkpoint").decode().replace(str(old), str(row.training.model_dir))
    row.damage("checkpoint", state.encode())  # TensorFlow's own, for the model
    row.live()
    return row.outcome()


def epochs(row: Row) -> str:
    """Finite data, one `train` call an epoch."""
    row.live(pipeline="epoch", kill="after:17")
    row.live(pipeline="epoch")
    return row.outcome(epoch=EPOCH)


def evaluate(row: Row) -> str:
    """Passed to `evaluate`."""
    life = row.live(evaluate_with_hook=True)
    return f"refused: {life.error.split(':')[0]}" if life.error else "evaluates training elements, and says nothing"


ROWS: tuple[Callable[[Row], str], ...] = (
    *(between, state_file, second, two_calls, mirrored, seconds, kept, rolled_back, state_lost, truncated, flipped),
    *(moved, epochs, evaluate),
)


def main() -> None:
    """Prints the table."""
    print("| situation | TensorFlow 2.15's | ours |\n|---|---|---|")
    with subprocess.Popen(
        [sys.executable, str(ROOT / "tests" / "hook" / "lives.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        for situation in ROWS:
            found = [situation(Row(server, theirs=theirs)) for theirs in (True, False)]
            print(f"| {(situation.__doc__ or '').rstrip('.')} | {found[0]} | {found[1]} |", flush=True)
        assert server.stdin is not None
        server.stdin.close()


if __name__ == "__main__":
    main()
