"""Child side: runs a script as `python script.py` does, and ends the process as the interpreter does.

`runpy` would put `__main__` back, and let a script's globals go, before what runs at the end of a life: threads that
are waited for, `atexit`, and whoever asks a variable of the script for the model's step.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib.machinery
import io
import os
import pkgutil
import runpy
import signal
import sys
import threading
import types
import zipfile
from typing import TYPE_CHECKING, Any, NoReturn

from .hidden import user_modules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_HERE = os.path.join(os.path.dirname(__file__), "")


def run(argv: list[str], path: Sequence[str]) -> None:
    """Runs `argv` as an interpreter would that was started with it.

    Args:
        argv: the script and its arguments, or `-m`, a module and its arguments.
        path: `sys.path` as the interpreter makes it, without its first entry, which depends on the script.
    """
    main = _fresh_main()
    sys.orig_argv = [sys.executable, *argv]
    sys.path[:] = path
    if argv[0] == "-m":
        _put_first(os.getcwd())
        sys.argv = ["-m", *argv[2:]]
        runpy._run_module_as_main(argv[1])  # type: ignore[attr-defined]
    elif zipfile.is_zipfile(argv[0]):
        sys.path.insert(0, argv[0])
        sys.argv = list(argv)
        runpy._run_module_as_main("__main__", False)  # type: ignore[attr-defined]
    else:
        file = os.path.abspath(argv[0])
        _put_first(os.path.dirname(os.path.realpath(file)))
        sys.argv = list(argv)
        loader = importlib.machinery.SourceFileLoader("__main__", file)
        vars(main).update(__loader__=loader, __file__=file, __cached__=None)
        exec(_code_of(file), vars(main))


def _fresh_main() -> types.ModuleType:
    """A `__main__` as the interpreter makes it; ours must not be seen in the script's, nor by `multiprocessing`."""
    main = types.ModuleType("__main__")
    vars(main).update(__annotations__={}, __builtins__=sys.modules["builtins"])
    sys.modules["__main__"] = main
    return main


@contextlib.contextmanager
def searching(path: list[str]) -> Iterator[None]:
    """Within it, what cannot be imported from `sys.path` is looked for here too."""
    before = list(sys.path)
    sys.path.extend(each for each in path if each not in before)
    try:
        yield
    finally:
        sys.path[:] = before


def _put_first(directory: str) -> None:
    if not getattr(sys.flags, "safe_path", False):
        sys.path.insert(0, directory)


def _code_of(file: str) -> types.CodeType:
    with io.open_code(file) as opened:
        compiled = pkgutil.read_code(opened)
    if compiled is not None:
        code: types.CodeType = compiled
        return code
    with io.open_code(file) as opened:
        return compile(opened.read(), file, "exec", dont_inherit=True)


def exit_code(stop: SystemExit) -> int:
    """The exit code that the interpreter makes of it; prints what it prints."""
    if stop.code is None:
        return 0
    if isinstance(stop.code, int):
        return stop.code & 0xFF if -(1 << 63) <= stop.code < 1 << 63 else 0xFF
    sys.stdout.flush()
    print(stop.code, file=sys.stderr)
    return 1


def report(error: BaseException) -> None:
    """Has the hook print an exception that nobody caught, without our frames, as the interpreter does."""
    _without_ours(error, set())
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, error.__traceback__
    if sys.version_info >= (3, 12):
        sys.last_exc = error
    try:
        sys.excepthook(type(error), error, error.__traceback__)
    except BaseException as failed:
        print("Error in sys.excepthook:", file=sys.stderr)
        sys.__excepthook__(type(failed), failed, failed.__traceback__)
        print("\nOriginal exception was:", file=sys.stderr)
        sys.__excepthook__(type(error), error, error.__traceback__)


def _ignored(hook: Callable[[Any], Any], ignored: Any) -> None:
    """What `sys.unraisablehook` does with an exception that a function run at exit has raised, without our frames."""
    trace = ignored.exc_traceback
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_HERE):
        trace = trace.tb_next
    hook(type(ignored)((ignored.exc_type, ignored.exc_value, trace, ignored.err_msg, ignored.object)))


def _without_ours(error: BaseException | None, seen: set[int]) -> None:
    """Takes the frames of this package out of an exception and its causes."""
    if error is None or id(error) in seen:
        return
    seen.add(id(error))
    trace, kept = error.__traceback__, []
    while trace is not None:
        if not trace.tb_frame.f_code.co_filename.startswith(_HERE):
            kept.append(trace)
        trace = trace.tb_next
    if kept:  # else it is a fault of ours, and its place is all there is
        for frame, following in zip(kept, [*kept[1:], None], strict=True):
            frame.tb_next = following
        error.__traceback__ = kept[0]
    _without_ours(error.__cause__, seen)
    _without_ours(error.__context__, seen)


def leave(code: int, *, interrupted: bool, before: frozenset[str]) -> NoReturn:
    """Ends the process as the interpreter would: waits for threads, runs `atexit`, flushes, lets objects go.

    It does not return through the interpreter's own end, because a forked TensorFlow must not be torn down twice.

    Args:
        code: the exit code.
        interrupted: whether Ctrl-C ended it, which a shell is told by the signal.
        before: the modules that there were before the user's.
    """
    sys.unraisablehook = functools.partial(_ignored, sys.unraisablehook)
    for do in (threading._shutdown, atexit._run_exitfuncs):  # type: ignore[attr-defined]
        try:
            do()
        except BaseException as error:
            report(error)
    code = code if _flushed() else code or 120
    with contextlib.suppress(BaseException):
        _let_go(before)
        _flushed()
    if interrupted:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(code)


def _flushed() -> bool:
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (AttributeError, ValueError, OSError):  # closed, or taken away, or no space
        return getattr(sys.stdout, "closed", True)
    return True


def _let_go(before: frozenset[str]) -> None:
    """Clears the user's modules, as the interpreter does at its end: a file that nobody closed is written then.

    Not while threads of the user's still run: they would meet names that are gone. Then files are flushed only.
    """
    if threading.active_count() == 1:
        for module in (sys.modules.get("__main__"), *user_modules(before)):
            if module is not None:
                _clear(vars(module))
        gc.collect()
    for one in gc.get_objects():
        if isinstance(one, io.TextIOWrapper | io.BufferedWriter | io.BufferedRandom):
            with contextlib.suppress(Exception):
                one.flush()


def _clear(names: dict[str, Any]) -> None:
    """As `_PyModule_ClearDict`: names with one underscore first, builtins never."""
    for private in (True, False):
        for name in list(names):
            if name != "__builtins__" and (name.startswith("_") and not name.startswith("__")) is private:
                names[name] = None


__all__ = ["exit_code", "leave", "report", "run", "searching"]
