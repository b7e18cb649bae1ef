"""A model that is saved whole and loaded again is compiled, and goes on."""

import os
import sys
import warnings

import tensorflow as tf
from tensorflow import keras

warnings.simplefilter("ignore")
keras.utils.set_random_seed(1)
data = tf.data.Dataset.from_tensor_slices((tf.ones((8, 2)), tf.ones((8, 1)))).batch(4)
model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
model.compile("adam", "mse", metrics=["mae"])
model.fit(data, verbose=0)
path = os.path.join(sys.argv[1], "model.keras")
model.save(path)
loaded = keras.models.load_model(path)
print(loaded.optimizer is not None, sorted(loaded.get_compile_config() or {}), int(loaded.optimizer.iterations))
print({name: [float(x) for x in values] for name, values in loaded.fit(data, verbose=0).history.items()})
