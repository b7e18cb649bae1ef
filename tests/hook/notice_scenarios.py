"""What `NoticeWatcher` and the notices do, each scenario in a fork of one interpreter; prints `{name: error}` as JSON.

Signals and their handlers belong to a process, and the package imports TensorFlow: neither is for pytest's own process.
"""

from __future__ import annotations

import http.server
import json
import os
import signal
import sys
import tempfile
import threading
import traceback
from typing import TYPE_CHECKING, Any

import pytest
from pipeline_ckpt import FileNotice, HookUsageError, Preempted, UrlNotice
from pipeline_ckpt.notices import NoticeWatcher

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
    wrong_values_are_refused,
]


def _outcome(scenario: Callable[[], None]) -> str:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            scenario()
        except BaseException:
            os.write(writer, traceback.format_exc(limit=-3).encode()[-3000:])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return said or ("" if status == 0 else f"ended with {status}")


if __name__ == "__main__":
    json.dump({scenario.__name__: _outcome(scenario) for scenario in SCENARIOS}, sys.stdout)
