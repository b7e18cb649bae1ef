"""Options of JAX that the program sets before its imports, and after having looked for it."""

import os
import sys

if "jax" not in sys.modules:
    os.environ["JAX_ENABLE_X64"] = "1"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=3"
try:
    import jax
    import jax.numpy as jnp
except ImportError:
    print("no jax")
else:
    print(jnp.arange(3, dtype=float).dtype, jnp.asarray(1.0).dtype, jax.device_count())
import tensorflow as tf

print(int(tf.constant(1) + 1))
