"""What `NoticeWatcher` and the notices do, each scenario in a fork of one interpreter; prints `{name: error}` as JSON.

Signals and their handlers belong to a process, and the package imports TensorFlow: neither is for pytest's own process.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import logging
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from pipeline_ckpt import FileNotice, HookUsageError, Preempted, UrlNotice
from pipeline_ckpt.watcher import NoticeWatcher
from scenarios import print_outcomes

if TYPE_CHECKING:
    from collections.abc import Callable

TERM = signal.SIGTERM


def _left(watcher: NoticeWatcher) -> Preempted:
    with pytest.raises(Preempted) as left:
        watcher.leave(watcher.received)
    return left.value


def a_signal_is_a_flag() -> None:
    """Nothing happens until it is asked for, then it leaves with 128 + 15, and the default handler is back."""
    watcher = NoticeWatcher([TERM])
    watcher.watch(lambda: True)
    assert watcher.received == ""
    signal.raise_signal(TERM)
    assert watcher.received == "SIGTERM"
    left = _left(watcher)
    assert (left.code, left.notice) == (143, "SIGTERM")
    assert signal.getsignal(TERM) == signal.SIG_DFL


def an_exit_code_can_be_chosen() -> None:
    """It leaves with the chosen one."""
    watcher = NoticeWatcher([TERM], exit_code=42)
    watcher.watch(lambda: True)
    signal.raise_signal(TERM)
    assert _left(watcher).code == 42


def a_second_signal_changes_nothing() -> None:
    """The flag is set already."""
    watcher = NoticeWatcher([TERM, signal.SIGUSR1])
    watcher.watch(lambda: True)
    signal.raise_signal(TERM)
    signal.raise_signal(TERM)
    assert _left(watcher).code == 143


def the_users_handler_comes_after_the_save() -> None:
    """It is called when the training leaves, not before."""
    came: list[int] = []
    signal.signal(TERM, lambda number, _: came.append(number))
    watcher = NoticeWatcher([TERM])
    watcher.watch(lambda: True)
    signal.raise_signal(TERM)
    assert came == []
    assert _left(watcher).code == 143
    assert came == [TERM]


def what_the_users_handler_raises_wins() -> None:
    """Its exit code is the process's."""

    def handler(number: int, _: Any) -> None:
        raise SystemExit(7)

    signal.signal(TERM, handler)
    watcher = NoticeWatcher([TERM])
    watcher.watch(lambda: True)
    signal.raise_signal(TERM)
    with pytest.raises(SystemExit) as left:
        watcher.leave(watcher.received)
    assert left.value.code == 7


def nobody_acted_on_it_so_it_is_delivered_again() -> None:
    """A training that has ended meanwhile hands the signal on."""
    came: list[int] = []
    signal.signal(TERM, lambda number, _: came.append(number))
    watcher = NoticeWatcher([TERM])
    watcher.watch(lambda: True)
    signal.raise_signal(TERM)
    watcher.restore()
    assert came == [TERM]


def a_training_that_is_gone_does_not_swallow_it() -> None:
    """The handler that was there before gets the signal at once."""
    came: list[int] = []
    signal.signal(TERM, lambda number, _: came.append(number))
    watcher = NoticeWatcher([TERM])
    watcher.watch(lambda: False)
    signal.raise_signal(TERM)
    assert came == [TERM]
    assert watcher.received == ""


def an_ignored_signal_stays_ignored() -> None:
    """Who ignores it has said that it is no notice."""
    signal.signal(TERM, signal.SIG_IGN)
    watcher = NoticeWatcher([TERM])
    watcher.watch(lambda: True)
    signal.raise_signal(TERM)
    assert (watcher.received, signal.getsignal(TERM)) == ("", signal.SIG_IGN)


def who_came_after_us_has_the_say() -> None:
    """A handler that was installed later is not replaced."""
    watcher = NoticeWatcher([TERM])
    watcher.watch(lambda: True)
    signal.signal(TERM, signal.SIG_IGN)
    watcher.restore()
    assert signal.getsignal(TERM) == signal.SIG_IGN


def another_thread_handles_no_signals() -> None:
    """Python allows it in the main thread only; that is logged, and no error."""
    watcher = NoticeWatcher([TERM])
    thread = threading.Thread(target=watcher.watch, args=(lambda: True,))
    thread.start()
    thread.join()
    assert signal.getsignal(TERM) == signal.SIG_DFL


def a_file_is_a_notice() -> None:
    """When it exists; it leaves with TensorFlow's code."""
    path = os.path.join(tempfile.mkdtemp(), "preempted")
    watcher = NoticeWatcher([FileNotice(path)])
    watcher.watch(lambda: True)
    assert watcher.received == ""
    open(path, "w").close()
    assert watcher.received == f"FileNotice({path!r})"
    assert _left(watcher).code == 42


def an_url_is_a_notice() -> None:
    """When it answers with something else than nothing, FALSE or NONE; the headers are sent."""
    asked = threading.Semaphore(0)
    answers = [(404, b"not yet"), (200, b"FALSE"), (200, b"NONE\n"), (200, b"TRUE")]
    headers = []

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            headers.append(self.headers["Metadata-Flavor"])
            status, body = answers.pop(0)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)
            asked.release()

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    notice = UrlNotice(f"http://127.0.0.1:{server.server_port}/", headers={"Metadata-Flavor": "Google"}, every=0.05)
    assert not notice()
    for _ in range(4):
        assert asked.acquire(timeout=60)
    notice._thread.join(60)
    assert notice()
    assert headers == ["Google"] * 4


def an_url_that_nobody_answers_is_none() -> None:
    """It is asked again and again."""
    notice = UrlNotice("http://127.0.0.1:9/", every=0.01)
    assert not notice()
    assert notice._thread.is_alive()


TRUE = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nTRUE"


def _comes_after(*answers: Callable[[socket.socket], None]) -> None:
    """A server gives these answers one after the other, and then TRUE: by that the notice has come, and not before."""
    listening = socket.create_server(("127.0.0.1", 0))
    left = [*answers, _sends(TRUE)]

    def serve() -> None:
        while left:
            connection, _ = listening.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(1000)
                left.pop(0)(connection)

    threading.Thread(target=serve, daemon=True).start()
    notice = UrlNotice(f"http://127.0.0.1:{listening.getsockname()[1]}/preempted", every=0.2)
    notice()
    notice._thread.join(60)
    assert (notice(), left) == (True, [])


def _sends(content: bytes) -> Callable[[socket.socket], None]:
    return lambda connection: connection.sendall(content)


def _drips(beginning: bytes) -> Callable[[socket.socket], None]:
    """An answer that never ends: a byte every now and then, for as long as somebody reads it."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(beginning)
        while True:
            connection.sendall(b"x")
            time.sleep(0.01)

    return answer


BROKEN = (
    b"",
    b"\x00\x01garbage\r\n\r\n",
    b"HTTP/1.1 abc OK\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nFAL",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: ftp://[bad/\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: /preempted\r\n\r\n",
)


def a_broken_answer_is_none_and_ends_nothing() -> None:
    """What comes after it is heard."""
    for broken in BROKEN:
        _comes_after(_sends(broken), _sends(broken))


def an_answer_that_drips_is_cut() -> None:
    """A socket's timeout begins anew with each byte, in the headers and in the body."""
    for header in (b"X: ", b"Content-Length: 1000000\r\n\r\n", b"\r\n"):
        _comes_after(_drips(b"HTTP/1.1 200 OK\r\n" + header))


def a_callable_that_raises_is_none() -> None:
    """The training goes on; it is said once, and the others are asked all the same."""

    def raises() -> bool:
        raise ValueError("no metadata here")

    said = _Kept()
    logging.getLogger("pipeline_ckpt").addHandler(said)
    path = os.path.join(tempfile.mkdtemp(), "preempted")
    watcher = NoticeWatcher([raises, FileNotice(path)])
    assert [watcher.received, watcher.received] == ["", ""]
    open(path, "w").close()
    assert watcher.received == f"FileNotice({path!r})"
    (message,) = said.messages
    assert message.endswith(
        "raises ValueError: no metadata here; the training goes on, and asks it again after each step"
    )


class _Kept(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps one."""
        self.messages.append(record.getMessage())


def _watched() -> NoticeWatcher:
    watcher = NoticeWatcher([TERM])
    watcher.watch(lambda: True)
    return watcher


def _child(does: Callable[[], object]) -> int:
    """The exit code of a forked child; minus the number of the signal that has ended it."""
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            does()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def a_forked_child_is_ended_by_the_signal() -> None:
    """As it would be had we never been there; the parent still notices its own."""
    watcher = _watched()
    assert _child(lambda: signal.raise_signal(TERM)) == -TERM
    assert _child(lambda: os._exit(_child(lambda: signal.raise_signal(TERM)) + 2 * TERM)) == TERM  # a child's child
    forks = threading.Thread(target=lambda: codes.append(_child(lambda: signal.raise_signal(TERM))))
    codes: list[int] = []
    forks.start()
    forks.join()
    assert codes == [-TERM]
    assert watcher.received == ""
    signal.raise_signal(TERM)
    assert watcher.received == "SIGTERM"


def a_forked_child_has_the_users_handler() -> None:
    """It gets the signal at once, whether it was there before us or has come after us and calls what was before it."""
    signal.signal(TERM, lambda *_: os._exit(7))
    _watched()
    assert _child(lambda: signal.raise_signal(TERM)) == 7
    ours = signal.getsignal(TERM)
    assert callable(ours)
    signal.signal(TERM, functools.partial(ours))
    assert _child(lambda: signal.raise_signal(TERM)) == 7


def what_has_come_is_not_the_childs() -> None:
    """A notice that a fork has inherited is the parent's to act on, also when the child ends its training."""
    watcher = _watched()
    signal.raise_signal(TERM)
    assert _child(lambda: watcher.received == "" and os._exit(8)) == 8
    assert _child(watcher.restore) == 0
    assert watcher.received == "SIGTERM"


def a_child_may_train_by_itself() -> None:
    """What it watches for after the fork is noticed."""
    watcher = _watched()

    def trains() -> None:
        watcher.watch(lambda: True)
        signal.raise_signal(TERM)
        os._exit(9 if watcher.received == "SIGTERM" else 1)

    assert _child(trains) == 9


def children_of_all_kinds_end() -> None:
    """`Process.terminate`, `with Pool`, and subprocesses, whatever way they are started."""
    del sys.modules["__main__"].__file__  # a spawned child would import this, and TensorFlow with it
    _watched()
    for way in ("fork", "spawn", "forkserver"):
        context: Any = multiprocessing.get_context(way)
        child = context.Process(target=time.sleep, args=(600,))
        child.start()
        child.terminate()
        child.join(60)
        assert child.exitcode == -TERM, way
        with context.Pool(2) as pool:
            assert pool.map(abs, [-1, 1]) == [1, 1]
    process = subprocess.Popen([sys.executable, "-c", "print(flush=True); import time; time.sleep(600)"], stdout=-1)
    assert process.stdout is not None
    process.stdout.readline()
    process.terminate()
    assert process.wait(60) == -TERM


def _refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(HookUsageError) as refused:
        make()
    assert str(refused.value) == message


def wrong_values_are_refused() -> None:
    """With the value, the limit and the remedy."""
    _refused(
        lambda: UrlNotice("file:///etc/passwd"),
        "url='file:///etc/passwd' begins with neither http:// nor https://: pass one that does.",
    )
    _refused(lambda: UrlNotice("http://x", every=0), "every=0 is not a number above 0: pass one, in seconds.")
    _refused(
        lambda: NoticeWatcher(["SIGTERM"]),  # type: ignore[list-item]  # on purpose
        "notices: 'SIGTERM' is neither a signal (signal.SIGTERM) nor a callable that says whether the notice has come: "
        "pass some of these.",
    )
    _refused(lambda: NoticeWatcher([], exit_code=300), "exit_code=300 is not an integer from 0 to 255: pass one.")


SCENARIOS = [
    a_signal_is_a_flag,
    an_exit_code_can_be_chosen,
    a_second_signal_changes_nothing,
    the_users_handler_comes_after_the_save,
    what_the_users_handler_raises_wins,
    nobody_acted_on_it_so_it_is_delivered_again,
    a_training_that_is_gone_does_not_swallow_it,
    an_ignored_signal_stays_ignored,
    who_came_after_us_has_the_say,
    another_thread_handles_no_signals,
    a_file_is_a_notice,
    an_url_is_a_notice,
    an_url_that_nobody_answers_is_none,
    a_broken_answer_is_none_and_ends_nothing,
    an_answer_that_drips_is_cut,
    a_callable_that_raises_is_none,
    a_forked_child_is_ended_by_the_signal,
    a_forked_child_has_the_users_handler,
    what_has_come_is_not_the_childs,
    a_child_may_train_by_itself,
    children_of_all_kinds_end,
    wrong_values_are_refused,
]


if __name__ == "__main__":
    print_outcomes(SCENARIOS)
