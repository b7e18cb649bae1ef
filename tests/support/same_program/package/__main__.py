"""A module that is run by its package's name."""

import inspect
import pickle
import sys
import traceback

from . import NAME


class Record:
    """Is pickled by its module and name."""


print(NAME, __name__, __package__, __spec__.name, __spec__.origin, __file__, __cached__, type(__loader__).__name__)
print(sys.argv, sys.orig_argv[1:3], sys.path[0], vars(sys.modules["__main__"]) is globals(), list(globals()))
print(pickle.loads(pickle.dumps(Record)) is Record, inspect.getsource(Record))
try:
    raise ValueError("caught")
except ValueError:
    print(traceback.format_exc())
raise LookupError("not caught")
