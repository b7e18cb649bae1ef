"""Which checkpoints of two directories are compared, and what their differences mean; without TensorFlow."""

from __future__ import annotations

import io
import os
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pytest_pipeline_ckpt.engine.weight_differences import Compared, compare
from pytest_pipeline_ckpt.engine.weight_files import saved_in

if TYPE_CHECKING:
    from pathlib import Path

WEIGHTS = np.linspace(0.0, 1.0, 6, dtype=np.float32).reshape(2, 3)
OTHERS = WEIGHTS + np.float32(0.5)


def put(path: Path, *, modified: int | None = None, **arrays: Any) -> None:
    """Writes a `.npz`; `modified`: seconds since some time or other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)
    if modified is not None:
        os.utime(path, (modified, modified))


def found(tmp_path: Path, **more: Any) -> Compared:
    """What comes of `ours` and `theirs`."""
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir(exist_ok=True)
    result = tmp_path / "result.json"
    compare(str(tmp_path / "ours"), str(tmp_path / "theirs"), str(result), **more)
    return Compared.from_json(result.read_text())


def counted(compared: Compared) -> dict[str, tuple[int, int]]:
    """The counts that differ, without those that began anew."""
    return {one.tensor: one.counts for one in compared.differences if one.counts is not None and not one.anew}


def both(tmp_path: Path, name: str, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """A checkpoint of this name in each of the two directories."""
    put(tmp_path / "ours" / name, **ours)
    put(tmp_path / "theirs" / name, **theirs)


def test_equal(tmp_path: Path) -> None:
    """Tensors that are equal bit for bit are no difference, a float that is not is one, with its size."""
    both(tmp_path, "m-40.npz", {"w": WEIGHTS, "step": 40}, {"w": WEIGHTS, "step": 40})
    assert found(tmp_path) == Compared(2, (), ())
    both(tmp_path, "m-40.npz", {"w": OTHERS, "step": 40}, {"w": WEIGHTS, "step": 40})
    (difference,) = found(tmp_path).differences
    assert (difference.file, difference.tensor, difference.counts) == ("m-40.npz", "w", None)
    assert difference.largest == pytest.approx(0.5)


def test_the_newest_of_equal_steps(tmp_path: Path) -> None:
    """Where the newest are of different steps, those of equal ones are compared, whatever their names' numbers are."""
    put(tmp_path / "ours/ckpt-3.npz", w=WEIGHTS, step=30, modified=3)
    put(tmp_path / "ours/ckpt-4.npz", w=OTHERS, step=35, modified=4)
    put(tmp_path / "theirs/ckpt-2.npz", w=WEIGHTS, step=30, modified=2)
    put(tmp_path / "theirs/ckpt-4.npz", w=WEIGHTS, step=40, modified=4)
    assert found(tmp_path) == Compared(2, (), ())


def test_different_steps_are_not_compared(tmp_path: Path) -> None:
    """A checkpoint of another step is no evidence, even under the same name and with everything different."""
    both(tmp_path, "ckpt-4.npz", {"w": OTHERS, "step": 35, "seen": 35}, {"w": WEIGHTS, "step": 40, "seen": 40})
    both(tmp_path, "best.npz", {"w": OTHERS, "epoch": 3}, {"w": WEIGHTS, "epoch": 5})
    assert found(tmp_path) == Compared(0, (), ())


@pytest.mark.parametrize(
    ("name", "ours", "theirs"),
    [
        ("m-40.npz", {"seen": 45, "step": 40}, {"seen": 40, "step": 40}),
        ("m-40.npz", {"seen": 45}, {"seen": 40}),
        ("final.npz", {"seen": 45, "step": 40}, {"seen": 40, "step": 40}),
        ("final.npz", {"seen": 20, "opt_state/count": 40}, {"seen": 40, "opt_state/count": 40}),
    ],
    ids=["both", "the name has the step", "the step is saved", "restarted, but no optimizer's"],
)
def test_a_count_that_differs(tmp_path: Path, name: str, ours: dict[str, int], theirs: dict[str, int]) -> None:
    """Of equal steps, an integer that differs says that the model was trained on something else."""
    both(tmp_path, name, {**ours, "w": WEIGHTS}, {**theirs, "w": WEIGHTS})
    assert counted(found(tmp_path)) == {"seen": (ours["seen"], theirs["seen"])}


def test_a_histogram(tmp_path: Path) -> None:
    """Integers whose sum is a multiple of elements or steps count them; others may be anything, and only differ."""
    right = np.ones(40, np.int64)
    wrong = right.copy()
    wrong[[7, 8]] = 0, 2
    both(tmp_path, "m-40.npz", {"seen": wrong, "step": 40}, {"seen": right, "step": 40})
    assert counted(found(tmp_path, elements=41)) == {"seen": (0, 1)}
    assert [one.at for one in found(tmp_path).differences] == ["[7]"]
    both(tmp_path, "m-40.npz", {"seen": wrong, "opt_state/mu": WEIGHTS}, {"seen": right, "opt_state/mu": WEIGHTS})
    assert counted(found(tmp_path, elements=40)) == {"seen": (0, 1)}
    assert counted(found(tmp_path, elements=33)) == {}
    assert [one.tensor for one in found(tmp_path, elements=33).differences] == ["seen"]


@pytest.mark.parametrize(
    ("name", "ours", "theirs"),
    [
        ("save_counter", 5, 4),
        ("seed_generator_state", np.array([1, 9], np.uint32), np.array([1, 4], np.uint32)),
        ("rng/state_var", np.array([256, 0, 7]), np.array([512, 0, 7])),
        ("restarts", 1, 0),
        ("saved_at", 1_795_810_454, 1_795_810_401),
        ("timestamp", 12, 11),
        ("opt_state/0/count", 20, 40),
        ("opt/1/count", 20, 40),
        ("layers/optimizer/vars/0", 20, 40),
        ("key", np.array([1, 9]), np.array([1, 4])),
    ],
)
def test_what_may_differ(tmp_path: Path, name: str, ours: Any, theirs: Any) -> None:
    """What does not count the training is no count: saves, generators, lives, times, an optimizer that began anew."""
    both(tmp_path, "m-40.npz", {name: ours, "step": 40}, {name: theirs, "step": 40})
    assert counted(found(tmp_path, elements=40, kills=1)) == {}


def test_an_optimizer_that_went_further(tmp_path: Path) -> None:
    """An optimizer that made more steps than the reference run's did not begin anew."""
    both(tmp_path, "m-40.npz", {"opt_state/count": 45, "step": 40}, {"opt_state/count": 40, "step": 40})
    assert counted(found(tmp_path)) == {"opt_state/count": (45, 40)}


def test_what_lives_wrote_down_decides(tmp_path: Path) -> None:
    """The moments of saves, where they are known, tell which checkpoints belong together, and overrule the names."""
    both(tmp_path, "final.npz", {"seen": 45}, {"seen": 40})
    assert found(tmp_path).tensors == 0
    assert counted(found(tmp_path, moments=[{"final.npz": 0}, {"final.npz": 0}])) == {"seen": (45, 40)}
    both(tmp_path, "final.npz", {"w": OTHERS}, {"w": WEIGHTS})
    assert len(found(tmp_path).differences) == 1
    assert found(tmp_path, moments=[{"final.npz": 3}, {"final.npz": 0}]).tensors == 0


def test_of_a_part_the_whole_is_known(tmp_path: Path) -> None:
    """A directory that is saved as one has one moment for all of its parts."""
    both(tmp_path, "7/state.npz", {"w": OTHERS}, {"w": WEIGHTS})
    assert found(tmp_path, moments=[{"7": 3}, {"7": 0}]).tensors == 0
    assert found(tmp_path, moments=[{"7": 3}, {"7": 3}]).tensors == 1


def test_only_what_the_last_life_wrote(tmp_path: Path) -> None:
    """What was saved before the kill is no evidence of how the resumed life went on."""
    put(tmp_path / "ours/m-40.npz", w=WEIGHTS, step=40, modified=5)
    put(tmp_path / "theirs/m-40.npz", w=WEIGHTS, step=40, modified=9)
    assert found(tmp_path, since=4 * 10**9).tensors == 2
    assert found(tmp_path, since=6 * 10**9).tensors == 0


def test_a_notice_may_bring_further_saves(tmp_path: Path) -> None:
    """A number in a name may count saves: after a notice it is trusted only if it is the step."""
    both(tmp_path, "w-4.npz", {"w": OTHERS}, {"w": WEIGHTS})
    assert found(tmp_path).tensors == 1
    assert found(tmp_path, notices=True).tensors == 0


def test_another_shape(tmp_path: Path) -> None:
    """Tensors of another shape differ, by no number."""
    both(tmp_path, "m-40.npz", {"w": WEIGHTS, "step": 40}, {"w": WEIGHTS[:1], "step": 40})
    assert [(one.tensor, one.largest) for one in found(tmp_path).differences] == [("w", None)]


def test_missing(tmp_path: Path) -> None:
    """A directory without any checkpoint is named."""
    put(tmp_path / "theirs/m-40.npz", w=WEIGHTS)
    assert found(tmp_path).missing == (str(tmp_path / "ours"),)


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    """Files that are something else than their names say, torn or unfinished ones are passed over."""
    for side in ("ours", "theirs"):
        directory = tmp_path / side
        directory.mkdir()
        names = ("checkpoint", "a.npz", "b.h5", "c.keras", "d.msgpack", "checkpoint_4", "e.npy", "f.weights.h5")
        for name in names:
            (directory / name).write_bytes(b"\xff\x00 no checkpoint")
        np.savez(directory / "g.npz", objects=np.array([{}], object))
        for below in ("ckpt-1_temp", "8.orbax-checkpoint-tmp-3"):
            put(directory / below / "h.npz", w=WEIGHTS)
        (directory / "orbax").mkdir()
        (directory / "orbax/_METADATA").write_text("{}")
    assert found(tmp_path) == Compared(0, (), ())


def h5(path: Path | io.BytesIO, **arrays: Any) -> None:
    """A file as Keras writes them."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[f"layers/dense/{name}"] = array


def keras_archive(path: Path, **arrays: Any) -> None:
    """A `.keras` file, which is an archive with a `.weights.h5` in it."""
    inside = io.BytesIO()
    h5(inside, **arrays)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", inside.getvalue())


def flax_file(path: Path, **arrays: Any) -> None:
    """As `flax.serialization.to_bytes` packs it: extension 1 is an array, 3 a NumPy scalar; numbers as they are."""
    msgpack = pytest.importorskip("msgpack")

    def packed(value: Any) -> Any:
        if not isinstance(value, np.ndarray):
            return value
        content = msgpack.packb((value.shape, value.dtype.name, value.tobytes()), use_bin_type=True)
        return msgpack.ExtType(1, content)

    tree = {"layers": {"dense": {name: packed(value) for name, value in arrays.items()}}, "rng": None, "done": True}
    path.write_bytes(msgpack.packb(tree))


def orbax_directory(path: Path, *, driver: str, packed: bool, **arrays: Any) -> None:
    """As Orbax writes it: an array a directory, or all in one OCDBT database; dots between the names of a tree."""
    tensorstore = pytest.importorskip("tensorstore")
    path.mkdir(parents=True)
    (path / "_METADATA").write_text("{}")
    for name, value in arrays.items():
        place = {"driver": "ocdbt", "base": f"file://{path}/"} if packed else {"driver": "file", "path": f"{path}/"}
        place["path"] = f"{place.get('path', '')}layers.dense.{name}/"
        array = np.asarray(value)
        spec = {"driver": driver, "kvstore": place}
        store = tensorstore.open(spec, create=True, dtype=array.dtype, shape=array.shape).result()
        store.write(array).result()


def orbax_plain(path: Path, **arrays: Any) -> None:
    """Without OCDBT."""
    orbax_directory(path, driver="zarr", packed=False, **arrays)


def orbax_packed(path: Path, **arrays: Any) -> None:
    """Orbax' default."""
    orbax_directory(path, driver="zarr", packed=True, **arrays)


def orbax_zarr3(path: Path, **arrays: Any) -> None:
    """With `use_zarr3=True`."""
    orbax_directory(path, driver="zarr3", packed=True, **arrays)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("m.weights.h5", h5),
        ("m.h5", h5),
        ("m.keras", keras_archive),
        ("m.msgpack", flax_file),
        ("checkpoint_40", flax_file),
        ("ckpt-1.flax", flax_file),
        ("40/default", orbax_plain),
        ("40/state", orbax_packed),
        ("m", orbax_zarr3),
    ],
)
def test_formats(tmp_path: Path, name: str, write: Any) -> None:
    """Each format is read with the names of its tensors, and found equal or different."""
    for side, value in (("ours", OTHERS), ("theirs", WEIGHTS)):
        (tmp_path / side).mkdir()
        write(tmp_path / side / name, kernel=value, step=np.array(40), seen=np.array(40 if side == "theirs" else 45))
    (saved,) = saved_in(tmp_path / "theirs")
    assert saved.name == name
    tensors = {tensor: one.load() for tensor, one in saved.tensors().items()}
    assert sorted(tensors) == ["layers/dense/kernel", "layers/dense/seen", "layers/dense/step"]
    assert tensors["layers/dense/kernel"].tobytes() == WEIGHTS.tobytes()
    compared = found(tmp_path)
    assert counted(compared) == {"layers/dense/seen": (45, 40)}
    assert [one.tensor for one in compared.differences if one.largest] == ["layers/dense/kernel"]


def test_flax_bfloat16(tmp_path: Path) -> None:
    """A bfloat16 array, which NumPy does not know, is read as the floats that it stands for."""
    msgpack = pytest.importorskip("msgpack")
    content = msgpack.packb(((2,), "bfloat16", np.array([0x3F80, 0xC000], np.uint16).tobytes()), use_bin_type=True)
    (tmp_path / "m.msgpack").write_bytes(msgpack.packb({"w": msgpack.ExtType(1, content)}))
    (saved,) = saved_in(tmp_path)
    assert saved.tensors()["w"].load().tolist() == [1.0, -2.0]


def test_single_arrays(tmp_path: Path) -> None:
    """A `.npy` is one tensor, named after its file."""
    for side, value in (("ours", OTHERS), ("theirs", WEIGHTS)):
        (tmp_path / side).mkdir()
        np.save(tmp_path / side / "w.npy", value)
    assert [(one.file, one.tensor) for one in found(tmp_path).differences] == [("w.npy", "w")]
