"""The recorder as an ordinary user in a container: with Docker's default profile, and where seccomp is refused."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

import contained
import container
import headers
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

needs_container = pytest.mark.skipif(container.hindrance() is not None, reason=str(container.hindrance()))

IDENTITY = """
import os

status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(0 in (os.getuid(), os.getgid(), *os.getgroups()), int(status["CapEff"], 16), int(status["NoNewPrivs"]))
"""
ASK = """
import ctypes, errno, json, sys

libc = ctypes.CDLL(None, use_errno=True)
for number, arguments in json.loads(sys.argv[1]):
    failed = libc.syscall(number, *map(ctypes.c_long, arguments)) == -1
    print(errno.errorcode[ctypes.get_errno()] if failed else "done")
"""
SAVE = """
import json
from pathlib import Path

from directories import contents
from recorded_runs import Recorded

saved = Recorded("save", Path.cwd() / "saved")
left = contents(saved.root)
equal = saved.rebuilt(len(saved.operations), Path.cwd() / "rebuilt") == left
print(json.dumps([saved.returncode, saved.recorder.blind, equal, left["moved/index"].decode()]))
"""
INSTALL = """
from pytest_pipeline_ckpt.engine import syscalls

try:
    syscalls.install()
except syscalls.RecordingUnavailableError as error:
    print(error)
"""
SIGHAND, NEW_USER, ALG, VSOCK, UNIX, STREAM = 0x800, 0x10000000, 38, 40, 1, 1
SET_SECCOMP, GET_SECCOMP, FILTER, NO_COMPAT_LAYOUT = 22, 21, 2, 0x200000
ASKED = [
    ("clone3", (0, 0), "ENOSYS"),
    ("clone", (SIGHAND,), "EINVAL"),  # the kernel's own answer to flags that make no sense
    ("clone", (SIGHAND | NEW_USER,), "EPERM"),
    ("socket", (UNIX, STREAM, 0), "done"),
    ("socket", (ALG, STREAM, 0), "EPERM"),
    ("socket", (VSOCK, STREAM, 0), "EPERM"),
    ("personality", (0xFFFFFFFF,), "done"),
    ("personality", (NO_COMPAT_LAYOUT,), "EPERM"),
    ("newer than the profile", (1,), "ENOSYS"),
]
OF_SECCOMP = [("seccomp", (99, 0, 0)), ("prctl", (SET_SECCOMP, FILTER, 0)), ("prctl", (GET_SECCOMP,))]


@pytest.fixture
def home() -> Iterator[Path]:
    """Where the container's user may write."""
    with contained.home() as here:
        yield here


def said(profile: str, here: Path, program: str, *arguments: str) -> str:
    """What a program says in the container."""
    result = contained.python(profile, here, "-c", program, *arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout


def answers(profile: str, here: Path, *calls: tuple[str, tuple[int, ...]]) -> list[str]:
    """How system calls are answered in the container."""
    machine = platform.machine()
    numbers = {**container.REFUSED[machine], **container.DEPENDS[machine], "newer than the profile": 467}
    asked: list[Any] = [(numbers[name], arguments) for name, arguments in calls]
    return said(profile, here, ASK, json.dumps(asked)).split()


@needs_container
@pytest.mark.parametrize("profile", container.PROFILES)
def test_the_user_is_an_ordinary_one(profile: str, home: Path) -> None:
    """Neither root nor of its group, without capabilities, and without a way to get any."""
    assert said(profile, home, IDENTITY) == "False 0 1\n"


@needs_container
@pytest.mark.parametrize("profile", container.PROFILES)
def test_what_docker_refuses_is_refused(profile: str, home: Path) -> None:
    """Each call of the table, and the others by their arguments, are answered as the profile says."""
    table = container.REFUSED[platform.machine()]
    refused = answers(profile, home, *((name, (0, 0, 0, 0, 0)) for name in table))
    assert dict(zip(table, refused, strict=True)) == dict.fromkeys(table, "EPERM")
    assert answers(profile, home, *((name, arguments) for name, arguments, _ in ASKED)) == [says for *_, says in ASKED]


@needs_container
def test_seccomp_is_refused_in_one_profile_alone(home: Path) -> None:
    """Setting a filter, that is: under Docker's the kernel answers, to arguments that are none."""
    assert answers("docker", home, *OF_SECCOMP) == ["EINVAL", "EFAULT", "done"]
    assert answers("no-seccomp", home, *OF_SECCOMP) == ["EPERM", "EPERM", "done"]


@pytest.mark.parametrize("machine", container.REFUSED)
def test_tables_are_the_kernels(machine: str) -> None:
    """Each number that the kernel's headers have is theirs; the newest calls may be newer than the headers."""
    table, numbers = {**container.REFUSED[machine], **container.DEPENDS[machine]}, headers.numbers(machine)
    known = {name: numbers[name] for name in table if name in numbers}
    assert len(known) > 50
    assert known == {name: table[name] for name in known}


@needs_container
def test_a_save_is_recorded(home: Path) -> None:
    """Recorder and training are both in the container; what the model makes of the log is what the process left."""
    assert json.loads(said("docker", home, SAVE)) == [0, [], True, "ind\0\0\0\0\0moreeven more"]


@pytest.mark.slow
@needs_container
def test_the_recorder_keeps_its_promises(home: Path) -> None:
    """Its own tests pass there, but the one that needs an io_uring, which the profile refuses."""
    tests = str(Path(__file__).with_name("test_syscalls.py"))
    options = ("-q", "-p", "no:cacheprovider", f"--basetemp={home / 'basetemp'}", "-k", "not ring")
    result = contained.python("docker", home, "-m", "pytest", *options, tests)
    assert result.returncode == 0, result.stdout


@needs_container
def test_a_refusal_says_what_is_needed(home: Path) -> None:
    """Where seccomp is refused the recorder does not start, and names what would let it."""
    assert said("no-seccomp", home, INSTALL) == (
        "[Errno 1] seccomp was refused (Operation not permitted): recording needs Linux >= 5.5, a container profile "
        "that allows seccomp, and a process that is not recorded already\n"
    )
