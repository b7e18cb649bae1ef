"""A GAN of two models and two optimizers: by `fit` with a train_step of its own, or by a loop. Is each half saved?"""

from __future__ import annotations

from typing import Any

import keras
import proof
import tensorflow as tf
from counting import counted_model, numbers, report, steps

ELEMENTS = 30


class GAN(keras.Model):  # type: ignore[misc]  # untyped base
    """After keras.io's dcgan_overriding_train_step."""

    def __init__(self) -> None:
        super().__init__()
        self.discriminator, self.generator = counted_model(ELEMENTS), keras.Sequential([keras.layers.Dense(1)])
        self.generator.build((None, 1))

    def compile(self, d_optimizer: Any, g_optimizer: Any) -> None:
        super().compile(jit_compile=False)
        self.d_optimizer, self.g_optimizer = d_optimizer, g_optimizer

    def call(self, noise: tf.Tensor) -> tf.Tensor:
        return self.generator(noise)

    def train_step(self, data: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        real, target = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self.discriminator(real, training=True) - target) ** 2)
        weights = self.discriminator.trainable_variables
        self.d_optimizer.apply(tape.gradient(loss, weights), weights)
        with tf.GradientTape() as tape:
            fake = tf.concat([real[:, :1], self.generator(target)], axis=1)
            g_loss = tf.reduce_mean(self.discriminator(fake) ** 2)
        weights = self.generator.trainable_variables
        self.g_optimizer.apply(tape.gradient(g_loss, weights), weights)
        return {"loss": loss}


def main() -> None:
    model_dir, how = proof.arguments("loop", "generator_lost", "discriminator_lost", "data_forgotten", "backup")
    keras.utils.set_random_seed(1)
    gan = GAN()
    gan.compile(keras.optimizers.SGD(0.1), keras.optimizers.SGD(0.1))
    for optimizer, model in ((gan.d_optimizer, gan.discriminator), (gan.g_optimizer, gan.generator)):
        optimizer.build(model.trainable_variables)
    if how == "backup":
        gan.build((None, 1))
        backup = keras.callbacks.BackupAndRestore(model_dir, save_freq=10, delete_checkpoint=False)
        gan.fit(numbers(ELEMENTS), verbose=0, callbacks=[backup, steps()])
    else:
        loop(gan, model_dir, how)
    report(
        gan.discriminator,
        d_steps=gan.d_optimizer.iterations.numpy(),
        g_steps=gan.g_optimizer.iterations.numpy(),
        generator=sum(float(tf.reduce_sum(weight)) for weight in gan.generator.weights),
    )


def loop(gan: GAN, model_dir: str, how: str) -> None:
    iterator = iter(numbers(ELEMENTS))
    tracked: dict[str, Any] = {}
    if how != "discriminator_lost":
        tracked |= {"discriminator": gan.discriminator, "d_optimizer": gan.d_optimizer}
    if how != "generator_lost":
        tracked |= {"generator": gan.generator, "g_optimizer": gan.g_optimizer}
    if how != "data_forgotten":
        tracked["iterator"] = iterator
    manager = tf.train.CheckpointManager(tf.train.Checkpoint(**tracked), model_dir, max_to_keep=2)
    manager.restore_or_initialize()
    for number, batch in enumerate(iterator, 1):
        gan.train_step(batch)
        if number % 10 == 0:
            manager.save()
        proof.moment()


main()
