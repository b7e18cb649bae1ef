"""A small classifier with a hand-written optimizer (importing Keras takes seconds)."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

LEARNING_RATE, MOMENTUM = 0.05, 0.9


class Classifier(tf.Module):  # type: ignore[misc]  # untyped base
    """An MLP for images of 8 x 8 pixels, trained by SGD with momentum; the velocities are part of the state."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = [
            tf.Variable(tf.random.stateless_normal([64, 32], seed=[1, 1], stddev=0.2)),
            tf.Variable(tf.zeros([32])),
            tf.Variable(tf.random.stateless_normal([32, 10], seed=[1, 2], stddev=0.2)),
            tf.Variable(tf.zeros([10])),
        ]
        self.velocities = [tf.Variable(tf.zeros_like(weight)) for weight in self.weights]

    def loss(self, image: Any, label: Any) -> Any:
        """The mean cross-entropy of a batch."""
        hidden_weights, hidden_bias, weights, bias = self.weights
        hidden = tf.nn.relu(tf.reshape(image, [-1, 64]) @ hidden_weights + hidden_bias)
        logits = hidden @ weights + bias
        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=label, logits=logits))

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def train_step(self, image: Any, label: Any) -> Any:
        """One step of SGD with momentum; the loss before it."""
        with tf.GradientTape() as tape:
            loss = self.loss(image, label)
        self.update(tape.gradient(loss, self.weights))
        return loss

    def update(self, gradients: Any) -> None:
        """Moves the weights."""
        for weight, velocity, gradient in zip(self.weights, self.velocities, gradients, strict=True):
            velocity.assign(MOMENTUM * velocity + gradient)
            weight.assign_sub(LEARNING_RATE * velocity)
