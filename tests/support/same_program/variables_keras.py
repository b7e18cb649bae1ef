"""A backend that the program chooses before its imports."""

import os

os.environ["KERAS_BACKEND"] = "jax" if __import__("importlib.util").util.find_spec("jax") else "tensorflow"
os.environ["TF_USE_LEGACY_KERAS"] = "0"
import keras

print(keras.backend.backend())
if hasattr(keras, "Variable"):
    print(type(keras.Variable(1.0)._value).__name__)
