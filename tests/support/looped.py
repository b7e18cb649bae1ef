"""Custom loops with the production `InputPipelineCheckpoint`, in all its ways. TensorFlow is imported where it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

PER_PASS, PASSES = 24, 3


def _numbers(kind: str) -> Any:
    import tensorflow as tf

    if kind == "generator":
        spec = tf.TensorSpec([], tf.int64)
        return tf.data.Dataset.from_generator(lambda: iter(range(PER_PASS)), output_signature=spec).shuffle(9, seed=2)
    seed = None if kind == "unseeded" else 5
    return tf.data.Dataset.range(PER_PASS).map(lambda n: n * 3).shuffle(PER_PASS, seed=seed).prefetch(2)


@dataclass(frozen=True, slots=True)
class Loop:
    """A training of three passes, whose final weight is saved for comparison."""

    mode: str
    save_steps: int = 5
    save_model: int = 7
    """Where the model is saved apart."""
    inner: int = 0
    """Steps of a call of a `tf.function`; 0: steps are eager."""
    kind: str = "seeded"

    def __call__(self, model_dir: str) -> None:
        """Trains to the end, from wherever it is."""
        import tensorflow as tf

        step, model = tf.Variable(0, dtype=tf.int64), tf.Module()
        model.weight = tf.Variable(tf.zeros([], tf.float64))
        data, manager = self._restored(model_dir, step, model)

        def train(element: Any) -> None:
            model.weight.assign(model.weight * 1.01 + tf.cast(element, tf.float64))
            with tf.control_dependencies([element]):
                step.assign_add(1)

        def after() -> None:
            data.after_step()
            if self.mode == "beside" and int(step) % self.save_model == 0:
                manager.save(checkpoint_number=int(step))

        while data.passes < PASSES:
            if self.inner:
                self._pass_by_function(data, train, after)
                continue
            for element in data:
                train(element)
                after()
        data.close()
        tf.train.CheckpointManager(tf.train.Checkpoint(model=model), f"{model_dir}/final", max_to_keep=1).save()

    def _restored(self, model_dir: str, step: Any, model: Any) -> tuple[Any, Any]:
        """The data, and the manager of the loop's own checkpoints."""
        import pipeline_ckpt
        import tensorflow as tf

        keywords: dict[str, Any] = {"save_steps": self.save_steps, "elements_per_step": 1}
        if self.mode == "whole":
            keywords["model"] = model
        directory = None if self.mode == "inside" else model_dir
        data = pipeline_ckpt.InputPipelineCheckpoint(_numbers(self.kind), step, directory, **keywords)
        inside = {"data": data} if self.mode == "inside" else {}
        checkpoint = tf.train.Checkpoint(model=model, step=step, **inside)
        manager = tf.train.CheckpointManager(checkpoint, f"{model_dir}/model", max_to_keep=3)
        if self.mode == "beside":
            checkpoint.restore(manager.latest_checkpoint)
        data.restore(*([manager] if inside else []))
        return data, manager

    def _pass_by_function(self, data: Any, train: Callable[[Any], None], after: Callable[[], None]) -> None:
        import tensorflow as tf

        @tf.function  # type: ignore[untyped-decorator]
        def steps(iterator: Any) -> None:
            for _ in tf.range(self.inner):
                train(next(iterator))

        iterator = data.iterator
        try:
            while True:
                steps(iterator)
                after()
        except tf.errors.OutOfRangeError:
            data.end_pass()


LOOPS: dict[str, Loop] = {
    "whole": Loop(mode="whole"),
    "whole, in a function": Loop(mode="whole", inner=1),
    "whole, three steps a call": Loop(mode="whole", inner=3),
    "whole, unseeded": Loop(mode="whole", inner=1, kind="unseeded"),
    "whole, generator": Loop(mode="whole", kind="generator"),
    "beside": Loop(mode="beside"),
    "beside, in a function": Loop(mode="beside", inner=1, save_steps=4, save_model=9),
    "beside, generator": Loop(mode="beside", inner=1, kind="generator"),
    "inside": Loop(mode="inside"),
    "inside, two steps a call": Loop(mode="inside", inner=2),
}
