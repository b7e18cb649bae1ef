"""Ends in the way that its second argument says."""

import atexit
import os
import sys
import threading

atexit.register(print, "atexit")
WAYS = {
    "text": lambda: sys.exit("a sentence"),
    "large": lambda: sys.exit(300),
    "huge": lambda: sys.exit(1 << 70),
    "none": lambda: sys.exit(None),
    "true": lambda: sys.exit(True),
    "two": lambda: sys.exit((1, 2)),
    "hard": lambda: os._exit(9),
    "abort": os.abort,
    "thread": lambda: threading.Thread(target=lambda: 1 / 0).start(),
    "exit": lambda: exit(4),
    "closed": sys.stdout.close,
}
WAYS[sys.argv[2]]()
