"""Trainings whose counters and files are looked at: `python evidence_scenarios.py DIRECTORY NAME...` runs some of them.

Not a test module: TensorFlow must never be imported in the pytest process.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import types
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from tapping import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tapping import Gate

keras = tf.keras
v1 = tf.compat.v1


class Net(tf.Module):  # type: ignore[misc]  # untyped base
    """One weight."""

    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.w = tf.Variable(value)


def _elements(count: int = 40) -> Any:
    return iter(tf.data.Dataset.range(count))


def _apply(optimizer: Any, net: Net) -> None:
    optimizer.apply_gradients([(tf.constant(1.0), net.w)])


def _model() -> Any:
    return keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(1)])


def _pairs(count: int = 3) -> Any:
    return tf.data.Dataset.range(count).map(lambda i: (tf.cast([[i]], tf.float32), [[0.0]]))


def _kept(path: Path) -> Path:
    """Where a scenario keeps its files; its ledger is elsewhere."""
    return path.parent / "run" / path.name / "model"


def gan(_: Gate, __: Path) -> Any:
    """Two optimizers, the second one applied more rarely; and one that `compile` has made and nobody uses."""
    critic, generator = keras.optimizers.Adam(), keras.optimizers.Adam()
    unused = _model()
    unused.compile()
    nets = Net(), Net()
    checkpoint = tf.train.Checkpoint(generator=nets[1], g=generator, critic=nets[0], c=critic)
    iterator = _elements()
    for number in range(6):
        next(iterator)
        _apply(critic, nets[0])
        if number % 2:
            _apply(generator, nets[1])
    del checkpoint


def apart(_: Gate, path: Path) -> Any:
    """Model and optimizer in one Checkpoint, the data with a `step` in another; the step began at 100."""
    net, optimizer, step = Net(), keras.optimizers.SGD(), tf.Variable(100, dtype=tf.int64)
    iterator = _elements()
    model = tf.train.CheckpointManager(tf.train.Checkpoint(model=net, optimizer=optimizer), str(_kept(path) / "m"), 3)
    data = tf.train.CheckpointManager(tf.train.Checkpoint(step=step, iterator=iterator), str(_kept(path) / "d"), 3)
    for _number in range(4):
        next(iterator)
        _apply(optimizer, net)
        step.assign_add(1)
    data.save()
    model.save()


def elsewhere(_: Gate, __: Path) -> Any:
    """A step beside an iterator, and nothing else."""
    step, iterator = tf.Variable(0, dtype=tf.int64), _elements()
    checkpoint = tf.train.Checkpoint(step=step, iterator=iterator)
    for _number in range(3):
        next(iterator)
        step.assign_add(1)
    del checkpoint


def named(_: Gate, __: Path) -> Any:
    """An epoch and a step in it beside a weight; a step alone."""
    net, epoch, inner, alone = Net(), tf.Variable(0), tf.Variable(0), tf.Variable(7)
    kept = tf.train.Checkpoint(net=net, epoch=epoch, step_in_epoch=inner), tf.train.Checkpoint(step=alone)
    iterator = _elements()
    for number in range(4):
        next(iterator)
        inner.assign((number + 1) % 2)
        epoch.assign((number + 1) // 2)
    del kept


def scaled(_: Gate, __: Path) -> Any:
    """Loss scaling around an optimizer; a step whose gradient is not finite is skipped."""
    net = Net()
    inner = keras.optimizers.SGD()
    outer = keras.mixed_precision.LossScaleOptimizer(inner)
    iterator = _elements()
    for number in range(4):
        next(iterator)
        outer.apply_gradients([(tf.constant(float("inf") if number == 1 else 1.0), net.w)])
    return int(inner.iterations.numpy())


def scaled_inside(_: Gate, __: Path) -> Any:
    """The same in a function, with a Checkpoint."""
    net, inner = Net(), keras.optimizers.SGD()
    outer = keras.mixed_precision.LossScaleOptimizer(inner)
    outer.build([net.w])
    checkpoint = tf.train.Checkpoint(net=net, optimizer=outer)
    iterator = _elements()

    @tf.function  # type: ignore[untyped-decorator]
    def step() -> None:
        number = next(iterator)
        outer.apply_gradients([(tf.where(number == 1, float("inf"), 1.0), net.w)])

    for _number in range(4):
        step()
    del checkpoint
    return int(inner.iterations.numpy())


def beside(_: Gate, path: Path) -> Any:
    """A model of Keras and its optimizer are restored; sums of gradients are not, a constant of that shape is none."""

    def made() -> tuple[Any, Any]:
        model, optimizer = _model(), keras.optimizers.SGD()
        optimizer.build(model.trainable_variables)
        return model, optimizer

    model, optimizer = made()
    saved = tf.train.Checkpoint(model=model, optimizer=optimizer).save(str(_kept(path) / "ckpt"))
    model, optimizer = made()
    tf.train.Checkpoint(model=model, optimizer=optimizer).restore(saved)
    total, constant = tf.Variable([[0.0]], name="total"), tf.Variable([[1.0]])
    loss, anything = tf.Variable(0.0), tf.Variable([[0.0]], shape=tf.TensorShape(None))
    for number in tf.data.Dataset.range(12):
        total.assign_add([[1.0]])
        loss.assign(tf.cast(number, tf.float32))
        anything.assign([[loss]])
        optimizer.apply_gradients([(total * constant, model.trainable_variables[0])])


def apart_and_trained(_: Gate, path: Path) -> Any:
    """Three variables are restored from files of their own; one of them is trained."""
    made = {name: tf.Variable([1.0, 2.0], name=name) for name in ("first", "second", "third")}
    for name, variable in made.items():
        checkpoint = tf.train.Checkpoint(variable=variable)
        checkpoint.restore(checkpoint.save(str(_kept(path) / name)))
    for _number in tf.data.Dataset.range(12):
        made["second"].assign_add([1.0, 0.0])


def accumulated(_: Gate, __: Path) -> Any:
    """Gradients of two micro-batches are accumulated: Keras 3 counts half as many `iterations`."""
    net, optimizer = Net(), keras.optimizers.SGD(gradient_accumulation_steps=2)
    checkpoint = tf.train.Checkpoint(net=net, optimizer=optimizer)
    iterator = _elements()
    for _number in range(5):
        next(iterator)
        _apply(optimizer, net)
    del checkpoint


def inside(_: Gate, __: Path) -> Any:
    """A function that takes two elements a call, and counts them in two variables."""
    first, second, net = tf.Variable(0), tf.Variable(0), Net()
    checkpoint = tf.train.Checkpoint(step=first, other=second, net=net)

    @tf.function  # type: ignore[untyped-decorator]
    def train(iterator: Any) -> None:
        for _step in tf.range(2):
            next(iterator)
            first.assign_add(1)
            second.assign_add(1)

    iterator = _elements()
    for _number in range(4):
        train(iterator)
    del checkpoint


def session(_: Gate, path: Path) -> Any:
    """A MonitoredTrainingSession that trains a variable, twice: the second one restores."""
    for last in (4, 6):
        with tf.Graph().as_default():
            element = v1.data.make_one_shot_iterator(tf.data.Dataset.range(40)).get_next()
            weight = v1.get_variable("w", initializer=0.0)
            step = v1.train.get_or_create_global_step()
            with tf.control_dependencies([element, v1.assign_add(weight, 1.0)]):
                train = v1.assign_add(step, 1)
            hooks = [v1.train.StopAtStepHook(last_step=last)]
            kept = str(_kept(path))
            with v1.train.MonitoredTrainingSession(
                checkpoint_dir=kept, hooks=hooks, save_checkpoint_steps=2
            ) as running:
                while not running.should_stop():
                    running.run(train)


def looked_at_in_a_session(_: Gate, path: Path) -> Any:
    """A graph with a trained variable, a frozen one, sums in a local one, and a scalar; saved in the end."""
    with tf.Graph().as_default(), v1.Session() as running:
        element = v1.data.make_one_shot_iterator(tf.data.Dataset.range(12)).get_next()
        trained = v1.get_variable("trained", initializer=tf.zeros([3]))
        v1.get_variable("frozen", initializer=tf.ones([3]), trainable=False)
        local = [v1.GraphKeys.LOCAL_VARIABLES]
        sums = v1.get_variable("sums", initializer=tf.zeros([3]), trainable=False, collections=local)
        v1.get_variable("late", initializer=tf.zeros([3]), collections=local)  # which nothing initialises
        scalar = v1.get_variable("scalar", initializer=0.0)
        with tf.control_dependencies([element]):
            train = [trained.assign_add([1.0, 2.0, 3.0]), sums.assign_add([1.0, 1.0, 1.0]), scalar.assign_add(1.0)]
        running.run([v1.global_variables_initializer(), sums.initializer])
        for _step in range(12):
            running.run(train)
        v1.train.Saver().save(running, str(_kept(path) / "model"))


def saver(_: Gate, path: Path) -> Any:
    """A Saver of all variables, in a graph whose only trained one is of integers."""
    with tf.Graph().as_default(), v1.Session() as running:
        element = v1.data.make_one_shot_iterator(tf.data.Dataset.range(40)).get_next()
        seen = v1.get_variable("seen", [40], tf.int32, v1.zeros_initializer(), use_resource=True)
        step = v1.train.get_or_create_global_step()
        with tf.control_dependencies([seen.scatter_nd_add([[element]], [1])]):
            train = step.assign_add(1)
        saves = v1.train.Saver()
        running.run(v1.global_variables_initializer())
        running.run(train)
        saves.save(running, str(_kept(path) / "model.ckpt"), global_step=step)
        saves.restore(running, v1.train.latest_checkpoint(str(_kept(path))))


def managed(_: Gate, path: Path) -> Any:
    """A new net, one of a file from elsewhere, and one that is restored from this run's; two are made late."""
    outside = str(path / "outside" / "teacher")
    tf.train.Checkpoint(net=Net(5.0)).write(outside)
    first = tf.train.CheckpointManager(tf.train.Checkpoint(net=Net(3.0)), str(_kept(path)), 3)
    first.save()
    teacher, student, new = tf.Module(), tf.Module(), Net()
    tf.train.Checkpoint(net=teacher).read(outside)
    checkpoint = tf.train.Checkpoint(net=student, new=new)
    checkpoint.restore(first.latest_checkpoint)
    teacher.w, student.w = tf.Variable(0.0, name="teacher"), tf.Variable(0.0, name="student")
    optimizer = keras.optimizers.SGD()
    iterator = _elements()
    for _number in range(3):
        next(iterator)
        _apply(optimizer, new)
    return [float(teacher.w), float(student.w)]


def keras_files(_: Gate, path: Path) -> Any:
    """A model is trained, saved in two formats, and read back by two ways; then trained on."""
    kept = _kept(path)
    model = _model()
    model.compile("adam", "mse")
    model.fit(_pairs(), verbose=0)
    model.save_weights(str(kept / "one.weights.h5"))
    model.save(kept / "two.keras")
    loaded = keras.models.load_model(kept / "two.keras")
    other = _model()
    other.load_weights(str(kept / "one.weights.h5"))
    other.compile("sgd", "mse")
    other.fit(_pairs(), verbose=0)
    return int(loaded.optimizer.iterations.numpy())


def background(_: Gate, path: Path) -> Any:
    """TensorFlow writes a checkpoint in a thread while the training goes on."""
    net, step = Net(), tf.Variable(0, dtype=tf.int64)
    checkpoint = tf.train.Checkpoint(net=net, step=step)
    options = tf.train.CheckpointOptions(experimental_enable_async_checkpoint=True)
    iterator = _elements()
    for number in range(6):
        next(iterator)
        step.assign_add(1)
        if number == 2:
            checkpoint.save(str(_kept(path) / "ckpt"), options=options)
    checkpoint.sync()


def by_hand(_: Gate, path: Path) -> Any:
    """Weights in an archive and in a pickle, a step in JSON, all renamed into place; a log that stays open."""
    kept = _kept(path)
    log = open(kept / "loss.csv", "w")  # noqa: SIM115 - it stays open
    w = np.zeros(3)
    iterator = _elements()
    for number in range(4):
        w += int(next(iterator))
        if number == 1:
            np.savez(kept / "w.tmp.npz", w=w)
            os.replace(kept / "w.tmp.npz", kept / "w.npz")
            (kept / "w.pickle").write_bytes(pickle.dumps({"w": w}))
            (kept / "step.json").write_text(json.dumps({"step": 2, "dtype": "float32"}))
    (path / "outside").mkdir()
    np.save(path / "outside" / "w.npy", w)
    log.close()


def _save_by_hand(path: Path, w: Any, step: int) -> None:
    with open(path.with_suffix(".new"), "wb") as file:
        np.savez(file, w=w, step=step)
    os.replace(path.with_suffix(".new"), path)


def counted_by_hand(_: Gate, path: Path) -> Any:
    """Weights and a step in an archive, while `step` counts; the restored life is another scenario."""
    w, step = np.zeros(3), 0
    iterator = _elements()
    while step < 6:
        w += int(next(iterator))
        step += 1
        if step % 3 == 0:
            _save_by_hand(_kept(path) / "w.npz", w, step)


def restored_by_hand(_: Gate, path: Path) -> Any:
    """As `counted_by_hand`, restored at step 3: `step` goes on, `epoch` does not have the file's value."""
    file = _kept(path) / "w.npz"
    os.system(f"{sys.executable} -c \"import numpy as np; np.savez('{file}', w=np.ones(3), step=3, epoch=1)\"")
    found = dict(np.load(file))
    step, epoch = int(found["step"]), 0
    iterator = _elements()
    for _number in range(3):
        found["w"] += int(next(iterator))
        step, epoch = step + 1, epoch + 1


def miscounted_by_hand(_: Gate, path: Path) -> Any:
    """A variable that is called as what is saved, and has another value; a setting, a log and results beside."""
    kept = _kept(path)
    (kept / "settings.json").write_text(json.dumps({"epochs": 3}))
    step = 0
    iterator = _elements()
    while step < 4:
        next(iterator)
        step += 1
        np.savez(kept / "w.npz", w=np.zeros(3), step=100 + step)
        with open(kept / "log.json", "a") as log:
            log.write(json.dumps({"step": step}) if step == 1 else "")
        (kept / "results.json").write_text(json.dumps({"batch": step, "loss": 0.5}))


def read_by_hand(_: Gate, path: Path) -> Any:
    """What is read before the first element, and what after it."""
    kept = _kept(path)
    os.system(f"{sys.executable} -c \"import numpy as np; np.savez('{kept}/w.npz', w=np.ones(3))\"")
    os.system(f"cp {kept}/w.npz {kept}/later.npz; echo x > {kept}/checkpoint")
    found = float(np.load(kept / "w.npz")["w"].sum())
    (kept / "checkpoint").read_text()
    iterator = _elements()
    next(iterator)
    np.load(kept / "later.npz")
    next(iterator)
    return found


def looked_at(_: Gate, path: Path) -> Any:
    """Of two variables of the user's one is trained; a scalar, and an optimizer that has slots of its own."""
    w, fixed, total = tf.Variable([1.0, 2.0]), tf.Variable([3.0, 4.0]), tf.Variable(0.0)
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    checkpoint = tf.train.Checkpoint(w=w, fixed=fixed)
    iterator = _elements(80)
    for number in range(70):
        next(iterator)
        optimizer.apply_gradients([(tf.ones(2), w)])
        total.assign_add(1.0)
        if number == 65:
            checkpoint.write(str(_kept(path) / "ckpt"))


class Trainer:
    """Weights among a hundred options."""

    def __init__(self) -> None:
        self.options = types.SimpleNamespace(**{f"option_{number}": number * 1000 for number in range(100)})
        self.net = types.SimpleNamespace(w=np.zeros((2, 2)))

    def train(self) -> None:
        """They are changed every ten elements: gradients are added up."""
        for number, _ in enumerate(_elements(30), 1):
            if number % 10 == 0:
                self.net.w = self.net.w + 0.1


def seldom(_: Gate, __: Path) -> Any:
    """NumPy arrays that a trainer has, and changes after the ninth element."""
    Trainer().train()


def table(_: Gate, __: Path) -> Any:
    """Twenty megabytes, of which most are 0, beside as many that are data; two are changed, the second time to less."""
    w, data = np.zeros(5 << 20, np.float32), np.ones(5 << 20, np.float32)
    for number, _element in enumerate(_elements(30), 1):
        if number % 4 == 0:
            w[-2:] += np.float32(0.5 if number == 4 else 0.1) * data[:2]


def large(_: Gate, path: Path) -> Any:
    """Twenty megabytes."""
    w = tf.Variable(tf.zeros(5 << 20))
    iterator = _elements()
    for number in range(12):
        next(iterator)
        w.assign_add(tf.ones(5 << 20))
        if number == 10:
            np.save(_kept(path) / "w.npy", w.numpy())


def built_in_its_step(_: Gate, __: Path) -> Any:
    """A layer that makes its weights when it is called first, behind the first element."""
    layer, optimizer = keras.layers.Dense(2, kernel_initializer="ones"), keras.optimizers.SGD(0.1)
    iterator = _elements()
    for _number in range(3):
        element = next(iterator)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(tf.ones((1, 3)))) + tf.cast(element, tf.float32)
        weights = layer.trainable_variables
        gradients = tape.gradient(loss, weights)
        optimizer.apply_gradients(zip(gradients, weights, strict=True))


def looked_at_in_jax(_: Gate, path: Path) -> Any:
    """The parameters of a state, and data that stays in memory; what optax keeps is an optimizer's, but for sums."""
    import jax.numpy as jnp
    import optax

    state, step, data = _jax_state(), _jax_step(), {"x": np.ones(5), "y": jnp.ones(4)}
    optimizer = optax.MultiSteps(optax.adam(1e-3), 4, use_grad_mean=False)
    kept = optimizer.init({"v": jnp.zeros(3)})
    iterator = _elements()
    for number in range(12):
        x = float(next(iterator))
        state = step(state, x)
        kept = optimizer.update({"v": jnp.full(3, x + 1)}, kept)[1]
        if number == 9:
            np.save(_kept(path) / "params.npy", state.params["w"])
    return float(data["x"].sum())


def _jax_state() -> Any:
    import jax.numpy as jnp
    import optax
    from flax.training import train_state

    create: Any = train_state.TrainState.create
    return create(apply_fn=None, params={"w": jnp.zeros(3)}, tx=optax.adam(1e-3))


def _jax_step() -> Any:
    import jax
    import jax.numpy as jnp

    return jax.jit(lambda state, x: state.apply_gradients(grads={"w": jnp.full(3, x)}), donate_argnums=0)


def orbax(_: Gate, path: Path) -> Any:
    """An asynchronous manager; the state is given away to each step. What was restored lies about in a variable."""
    import orbax.checkpoint as ocp

    manager = ocp.CheckpointManager(_kept(path) / "orbax")
    state, step = _jax_state(), _jax_step()
    iterator = _elements()
    for number in range(5):
        state = step(state, float(next(iterator)))
        if number == 1:
            manager.save(2, args=ocp.args.StandardSave(state))
    manager.wait_until_finished()
    restored = manager.restore(2, args=ocp.args.StandardRestore(_jax_state()))
    state = restored
    for _number in range(4):
        state = step(_copied(state), float(next(iterator)))
    return [int(restored.step), int(state.step)]


def _copied(state: Any) -> Any:
    import jax
    import jax.numpy as jnp

    return jax.tree.map(jnp.array, state)


def msgpack(_: Gate, path: Path) -> Any:
    """Flax' bytes in a file of the training's own."""
    from flax import serialization

    state, step = _jax_state(), _jax_step()
    file = _kept(path) / "state.msgpack"
    iterator = _elements()
    for _number in range(3):
        state = step(state, float(next(iterator)))
    file.write_bytes(serialization.to_bytes(state))
    state = serialization.from_bytes(_jax_state(), file.read_bytes())
    for _number in range(2):
        state = step(state, float(next(iterator)))
    return int(state.step)


def nnx(_: Gate, __: Path) -> Any:
    """An optimizer of nnx, which is changed in place, as an attribute of a trainer."""
    import jax.numpy as jnp
    import optax
    from flax import nnx as flax_nnx

    class Trainer:
        def __init__(self) -> None:
            self.model = flax_nnx.Linear(1, 1, rngs=flax_nnx.Rngs(0))
            self.optimizer = flax_nnx.Optimizer(self.model, optax.sgd(1e-3), wrt=flax_nnx.Param)

        def run(self) -> None:
            iterator = _elements()
            for _number in range(4):
                x = jnp.full((1, 1), float(next(iterator)))
                self.optimizer.update(self.model, flax_nnx.grad(lambda m, x=x: m(x).sum())(self.model))

    Trainer().run()


def nnx_module(_: Gate, __: Path) -> Any:
    """A module of the user's beside its optimizer, as variables of the loop; the module has parameters, no step."""
    import jax.numpy as jnp
    import optax
    from flax import nnx as flax_nnx

    class Module(flax_nnx.Module):  # type: ignore[misc]  # untyped base
        def __init__(self) -> None:
            self.w = flax_nnx.Param(jnp.zeros(()))

    module = Module()
    optimizer = flax_nnx.Optimizer(module, optax.sgd(1e-3), wrt=flax_nnx.Param)
    iterator = _elements()
    for _number in range(4):
        x = float(next(iterator))
        optimizer.update(module, flax_nnx.grad(lambda m, x=x: m.w[...] * x)(module))


def integers(_: Gate, __: Path) -> Any:
    """A dictionary of integers of jax, restored from Flax' bytes; one of them is a weight."""
    import jax
    import jax.numpy as jnp
    from flax import serialization

    def made(w: int, step: int) -> dict[str, Any]:
        return {"w": jnp.int32(w), "seen": jnp.zeros(8, jnp.int32), "step": jnp.int32(step)}

    state: Any = serialization.from_bytes(made(0, 0), serialization.to_bytes(made(9, 5)))
    iterator = _elements()
    for _number in range(3):
        element = int(next(iterator))
        state = jax.tree.map(jnp.asarray, {**state, "w": state["w"] + element, "step": state["step"] + 1})


def assembled(_: Gate, path: Path) -> Any:
    """What is to be saved is put together in a variable, under a step that is one behind; every second step."""
    import pickle

    import jax.numpy as jnp
    import optax

    params = {"w": jnp.zeros(2)}
    optimizer = optax.adam(0.1)
    state = optimizer.init(params)
    iterator = _elements()
    for number in range(7):
        next(iterator)
        updates, state = optimizer.update({"w": jnp.ones(2)}, state, params)
        params = optax.apply_updates(params, updates)
        if number % 2:
            checkpoint = {"params": params, "state": state, "step": number}
            (_kept(path) / "c.pkl").write_bytes(pickle.dumps(checkpoint))


def unpacked(_: Gate, path: Path) -> Any:
    """What a file gave lies in a variable, and its parts, which are trained, in others; its step is two ahead."""
    import pickle

    import jax.numpy as jnp
    import optax

    optimizer = optax.adam(0.1)
    _, made = optimizer.update({"w": jnp.ones(2)}, optimizer.init({"w": jnp.zeros(2)}))
    (_kept(path) / "c.pkl").write_bytes(pickle.dumps({"params": {"w": jnp.ones(2)}, "state": made, "step": 3}))
    checkpoint = pickle.loads((_kept(path) / "c.pkl").read_bytes())
    params, state = checkpoint["params"], checkpoint["state"]
    iterator = _elements()
    for _number in range(4):
        next(iterator)
        updates, state = optimizer.update({"w": jnp.ones(2)}, state, params)
        params = optax.apply_updates(params, updates)


def on_jax(_: Gate, path: Path) -> Any:
    """Keras on its JAX backend, which the environment asks for; saved behind each second batch."""
    model = _model()
    model.compile("sgd", "mse")
    saving = keras.callbacks.ModelCheckpoint(str(_kept(path) / "w.weights.h5"), save_weights_only=True, save_freq=2)
    model.fit(_pairs(5), verbose=0, callbacks=[saving])


SCENARIOS: dict[str, Callable[[Gate, Path], Any]] = {
    one.__name__: one
    for one in (
        *(
            gan,
            apart,
            elsewhere,
            named,
            scaled,
            scaled_inside,
            beside,
            apart_and_trained,
            accumulated,
            inside,
            session,
            saver,
        ),
        *(
            managed,
            keras_files,
            background,
            by_hand,
            read_by_hand,
            looked_at,
            large,
            seldom,
            table,
            built_in_its_step,
            looked_at_in_jax,
            looked_at_in_a_session,
        ),
        *(counted_by_hand, restored_by_hand, miscounted_by_hand),
        *(orbax, msgpack, nnx, nnx_module, integers, assembled, unpacked, on_jax),
    )
}

if __name__ == "__main__":
    main(SCENARIOS, *sys.argv[1:], model_dir=True)
