"""What a program finds in the interpreter before and after its imports."""

import importlib.util
import logging
import os
import sys
import warnings

RUNTIMES = ("tensorflow", "keras", "jax", "numpy", "h5py", "absl", "google.protobuf", "requests", "wrapt", "xxhash")


def show(when):
    print(when, [name for name in RUNTIMES if name in sys.modules], len(warnings.filters))
    print(" ", [str(each) for each in warnings.filters])
    print(" ", logging.root.handlers, logging.root.level, logging.getLogger("x").getEffectiveLevel())
    print(" ", sys.getrecursionlimit(), sys.getswitchinterval(), sys.dont_write_bytecode, sys.getdlopenflags())
    print(" ", sorted(os.environ.items()))


show("before")
for name in RUNTIMES[:4]:
    spec = importlib.util.find_spec(name)
    print(name, spec and (spec.name, spec.origin, spec.has_location, spec.submodule_search_locations))
show("found")
import numpy

show("numpy")
import tensorflow as tf

show("tensorflow")
print(tf.__spec__.origin, tf.__loader__.__class__.__name__, tf.__spec__.loader is not None, numpy.__spec__.loader)
print(type(numpy.__spec__.loader).__name__, numpy.__spec__._initializing, sys.modules["numpy"] is numpy)
logging.basicConfig(level=logging.INFO, stream=sys.stdout)
logging.info("told")
print([logging.getLogger(name).handlers != [] for name in ("tensorflow", "absl", "")])
