"""What is wrapped, as a program may look at it: attributes, signatures, sources, pickles."""

import inspect
import pickle
import sys

import tensorflow as tf
from tensorflow import keras


class Model(keras.Model):
    """A user's own."""


def look(owner, name):
    """One attribute, in every way that a library looks at one."""
    found = getattr(owner, name)
    print(owner.__name__, name, found.__qualname__, found.__module__, found.__name__, type(found).__name__)
    print(" ", inspect.signature(found), inspect.getdoc(found) is not None)
    print(" ", hash(inspect.getsource(found)) and len(inspect.getsource(found)), inspect.isfunction(found))
    print(" ", [each.__qualname__ for each in owner.__mro__ if name in vars(each)], found.__annotations__)
    print(" ", pickle.dumps(found)[:20], pickle.loads(pickle.dumps(found)) is found)


for name in ("compile", "fit", "train_on_batch", "save", "save_weights", "load_weights", "evaluate", "predict"):
    for owner in (keras.Model, Model, keras.Sequential):
        look(owner, name)
        print(" ", name in vars(owner), getattr(Model, name) is getattr(keras.Model, name))
for owner, names in (
    (tf.train.Checkpoint, ("__init__", "save", "write", "restore", "read")),
    (tf.compat.v1.train.Saver, ("save", "restore")),
    (tf.compat.v1.Session, ("run", "close")),
    (tf.data.Dataset, ("__init__", "reduce", "__iter__")),
    (type(iter(tf.data.Dataset.range(1))), ("__init__", "_next_internal", "get_next_as_optional")),
):
    for name in names:
        look(owner, name)
        print(" ", sorted(each for each in vars(owner) if not each.startswith("_abc"))[:200])
print(sorted(vars(iter(tf.data.Dataset.range(1))))[:3], sys.getrefcount(None) > 0)
