"""A between-graph training, of which `main` runs one process: workers at their own pace, a parameter server.

Each life of a worker logs what it takes: one element a line, flushed, to `taken-WORKER-LIFE` in DIRECTORY.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from typing import TYPE_CHECKING, Any

import tensorflow as tf
from pipeline_ckpt import CheckpointInputPipelineHook

from tests.hook import worker_lives

if TYPE_CHECKING:
    from collections.abc import Sequence

v1 = tf.compat.v1

ELEMENTS = 60
"""Of each worker."""
SAVE_STEPS = 5


def main(directory: str) -> None:
    """Runs one process of the cluster."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(name)s: %(message)s", force=True)
    config = json.loads(os.environ["TF_CONFIG"])
    life = json.loads(os.environ.get("LIFE") or "{}")
    job, index = config["task"]["type"], config["task"]["index"]
    if life.get("no_config"):
        del os.environ["TF_CONFIG"]  # as a training that takes its place from flags
    server = v1.train.Server(config["cluster"], job_name=job, task_index=index)
    if job == "ps":
        server.join()
    device = v1.train.replica_device_setter(cluster=config["cluster"], worker_device=f"/job:{job}/task:{index}")
    with v1.Graph().as_default(), v1.device(device):
        train(directory, server.target, index, life)


def train(directory: str, target: str, index: int, life: dict[str, Any]) -> None:
    """Trains on the worker's own shard: worker 1 takes 1000, 1001, ..."""
    kill: Sequence[float] | None = life.get("kill", {}).get(str(index))
    step = v1.train.get_or_create_global_step()
    data = tf.data.Dataset.range(ELEMENTS).map(lambda number: number + 1000 * index)
    iterator = v1.data.make_initializable_iterator(data)
    v1.add_to_collection(v1.GraphKeys.TABLE_INITIALIZERS, iterator.initializer)
    element = iterator.get_next()
    weight = v1.get_variable("weight", initializer=0.0, use_resource=True)
    with tf.control_dependencies([weight.assign_add(tf.cast(element, tf.float32))]):
        increment = v1.assign_add(step, 1)
    checkpoints = f"{directory}/checkpoints"
    hook = CheckpointInputPipelineHook(
        checkpoint_dir=checkpoints, save_steps=life.get("save", {}).get("save_steps", SAVE_STEPS)
    )
    number = len([name for name in os.listdir(directory) if name.startswith(f"taken-{index}-")])
    with (
        session_of(target, checkpoints, hook) if index == 0 else other_session_of(target, hook, index) as session,
        open(f"{directory}/taken-{index}-{number}", "w", buffering=1) as log,
    ):
        while not session.should_stop():
            _, taken = session.run([increment, element])
            log.write(f"{taken}\n")
            time.sleep(0.02)  # what a step's computing takes, so that the workers' steps mix
            if kill is not None and taken % 1000 + 1 == kill[0]:
                worker_lives.kill_after(kill[1])


def session_of(target: str, checkpoints: str, hook: Any) -> Any:
    """The chief's session, which saves the model."""
    return v1.train.MonitoredTrainingSession(
        master=target,
        checkpoint_dir=checkpoints,
        hooks=[hook],
        save_checkpoint_steps=12,
        save_summaries_steps=0,
        config=sees_only(0),
    )


def sees_only(index: int) -> Any:
    """The session of a worker does not wait for the other workers, as an Estimator's does not."""
    return v1.ConfigProto(device_filters=["/job:ps", f"/job:worker/task:{index}"])


def other_session_of(target: str, hook: Any, index: int) -> Any:
    """As MonitoredTrainingSession's of another worker, which waits for the chief."""
    return v1.train.MonitoredSession(session_creator=Soon(master=target, config=sees_only(index)), hooks=[hook])


class Soon(v1.train.WorkerSessionCreator):  # type: ignore[misc,name-defined]  # untyped base
    """Looks more often than each 30 s whether the chief has made the model."""

    def _get_session_manager(self) -> Any:
        manager = super()._get_session_manager()
        manager._recovery_wait_secs = 0.2
        return manager
