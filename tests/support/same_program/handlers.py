"""A handler of the program's, a hook for exceptions, and what happens at the end, in its order."""

import atexit
import os
import signal
import sys
import threading
import time
import weakref

import tensorflow as tf


def hook(kind, value, trace):
    """Prints an exception in the program's own way."""
    frames = []
    while trace is not None:
        frames.append((os.path.basename(trace.tb_frame.f_code.co_filename), trace.tb_frame.f_code.co_name))
        trace = trace.tb_next
    print("hook", kind.__name__, value, frames, sys.last_value is value)


def later():
    """A thread that is waited for."""
    time.sleep(0.2)
    print("thread", sys.modules["__main__"].LETTER)


LETTER = "z"
atexit.register(lambda: print("atexit 1", LETTER, sys.modules["__main__"].LETTER))
atexit.register(lambda: print("atexit 2", int(tf.constant(1) + 1)))
weakref.finalize(later, print, "finalised")
signal.signal(signal.SIGUSR1, lambda number, frame: print("handled", number, frame.f_code.co_name))
os.kill(os.getpid(), signal.SIGUSR1)
threading.Thread(target=later).start()
sys.excepthook = hook


def fails():
    """Raises what nobody catches."""
    raise ValueError("at the end")


fails()
