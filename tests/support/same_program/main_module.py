"""`__main__`, and where the program finds itself."""

import os
import pickle
import sys


class Record:
    """Is pickled by its module and name."""


def function():
    """Is too."""


print([name for name in globals() if name != "readline"], __name__, __package__, __spec__, __cached__, __doc__)
print(__file__, type(__loader__).__name__, __loader__.path, __loader__.name, type(__builtins__).__name__)
print(sys.argv, sys.orig_argv[1:], sys.path[0], sys.path, os.getcwd(), sys.executable, sys.flags)
main = sys.modules["__main__"]
print(vars(main) is globals(), type(main).__name__, main.__dict__ is sys.modules[__name__].__dict__, repr(main))
print(pickle.loads(pickle.dumps(Record)) is Record, pickle.dumps(function), function.__module__)
print(function.__code__.co_filename)
os.chdir(sys.argv[1])
print(__file__, os.path.exists(__file__), __annotations__)
value: int = 3
print(__annotations__, compile("1", "x", "eval").co_flags, function.__code__.co_flags)
