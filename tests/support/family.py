"""A training that leaves processes behind in every way that there is, and the means to find them."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import psutil

TOKEN = "preempt-test-family"
"""In the command line of every process that the training starts."""
SLEEPER = [sys.executable, "-c", "import time; time.sleep(3600)", TOKEN]


def train(model_dir: str) -> None:
    """Starts a worker, a `setsid` child and a daemon, then trains rightly."""
    import tensorflow as tf

    subprocess.Popen(SLEEPER)
    subprocess.Popen(SLEEPER, start_new_session=True)
    if os.fork() == 0:
        os.setsid()
        subprocess.Popen(SLEEPER)
        os._exit(0)
    step = tf.Variable(0, dtype=tf.int64)
    iterator = iter(tf.data.Dataset.range(40))
    checkpoint = tf.train.Checkpoint(step=step, iterator=iterator)
    worker = json.loads(os.environ.get("TF_CONFIG", '{"task": {"index": 0}}'))["task"]["index"]
    manager = tf.train.CheckpointManager(checkpoint, f"{model_dir}/{worker}", max_to_keep=2)
    checkpoint.restore(manager.latest_checkpoint)
    for _ in iterator:
        if int(step.assign_add(1)) % 10 == 0:
            manager.save()


def survivors() -> list[psutil.Process]:
    """Processes that the training has started and that still run."""
    found = []
    for process in psutil.process_iter():
        try:
            if TOKEN in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found
