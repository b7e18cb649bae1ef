"""Weights in files of NumPy's; only their names have the step, and a variable of any name counts it."""

from __future__ import annotations

import collections
import os
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import proof
import tensorflow as tf

if TYPE_CHECKING:
    from collections.abc import Iterator

STEPS, AHEAD = 40, 2


class Ahead:
    """Takes two elements ahead, as loaders do that copy to a device; counts what it has taken."""

    def __init__(self, elements: Iterator[Any], n: int) -> None:
        self.elements = elements
        self.queue: collections.deque[Any] = collections.deque()
        self.n = n

    def __iter__(self) -> Iterator[Any]:
        while True:
            while len(self.queue) <= AHEAD and (element := next(self.elements, None)) is not None:
                self.queue.append(element)
                self.n += 1
            if not self.queue:
                return
            yield self.queue.popleft()


def main() -> None:
    model_dir, how = proof.arguments("skip", "anew", "ahead", "in_flight")
    os.makedirs(model_dir, exist_ok=True)
    weights, n = np.zeros(STEPS), 0
    found = [int(match[1]) for name in os.listdir(model_dir) if (match := re.fullmatch(r"w(\d+)\.npy", name))]
    if found:
        n = max(found)
        weights = np.load(f"{model_dir}/w{n}.npy")
    data = tf.data.Dataset.range(STEPS).skip(0 if how == "anew" else n).as_numpy_iterator()
    elements = Ahead(data, n) if how in ("ahead", "in_flight") else data
    for element in elements:
        weights[element] += 1
        n += 1
        if n % 10 == 0:
            # Wrong: what the loader has taken is not what was trained on.
            taken = elements.n if isinstance(elements, Ahead) and how == "in_flight" else n
            np.save(f"{model_dir}/new.npy", weights)
            os.replace(f"{model_dir}/new.npy", f"{model_dir}/w{taken}.npy")
        proof.moment()
    proof.report(weights)


main()
