"""Leaves what it has opened to the interpreter's end."""

import atexit
import os
import sys
import threading


class Last:
    """Says that it goes, and what is there still."""

    def __del__(self):
        print("deleted", "_private" in globals(), "Last" in globals(), sys.stdout is not None, flush=True)


_private = Last()
kept = open(os.path.join(sys.argv[1], "kept.txt"), "w")
kept.write("written at the end")
atexit.register(lambda: print("atexit", kept.closed, sys.modules["__main__"].kept is kept))
thread = threading.Thread(target=lambda: print("thread", threading.main_thread().is_alive()))
thread.start()
