"""`multiprocessing` in its three ways, and a fork by hand."""

import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor

LETTER = "a"


def work(number):
    """Runs in the other process."""
    main = sys.modules["__main__"]
    return number * 2, LETTER, __name__, getattr(main, "__file__", None), sys.argv, os.getcwd()


def told(queue):
    """The same, by a queue."""
    queue.put(work(3))
    sys.exit(5)


if __name__ == "__main__":
    LETTER = "b"
    for method in ("spawn", "fork", "forkserver"):
        context = multiprocessing.get_context(method)
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            print(method, list(pool.map(work, range(2))))
        queue = context.Queue()
        process = context.Process(target=told, args=(queue,))
        process.start()
        print(queue.get(), process.join(), process.exitcode, process.name)
    print(multiprocessing.get_start_method(), multiprocessing.current_process().name, multiprocessing.parent_process())
    sys.stdout.flush()
    child = os.fork()
    if not child:
        print("the child", flush=True)
        sys.exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
