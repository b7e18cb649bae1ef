"""Child side: what Keras' models and optimizers are told to do: train, apply, save, restore. Never imports Keras.

What is wrapped is called through its class or its module, so it is seen however the user has imported it: Keras may
have been imported, with TensorFlow, before the tap was there.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import wrapt

from .contents import weights_of
from .lineage import quietly
from .model import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .patches import Patches
    from .steps import Steps

MODELS = ("keras.src.models.model", "keras.src.engine.training", "tf_keras.src.engine.training")
"""Where `Model` is defined: Keras 3, Keras 2 (`tf.keras` of TF 2.15), and Keras 2 beside a newer TensorFlow."""
_OPTIMIZERS = (
    ("keras.src.optimizers.base_optimizer", "BaseOptimizer", "apply"),
    ("keras.src.optimizers.loss_scale_optimizer", "LossScaleOptimizer", "apply"),
    *((f"{keras}.src.optimizers.optimizer", "_BaseOptimizer", "apply_gradients") for keras in ("keras", "tf_keras")),
    *(
        (f"{keras}.src.optimizers.legacy.optimizer_v2", "OptimizerV2", "apply_gradients")
        for keras in ("keras", "tf_keras")
    ),
)
"""Module, class and method in which all optimizers are applied."""
_FILES = (
    *(("saving.saving_lib", name) for name in ("save_model", "save_weights_only")),
    *(("saving.saving_lib", name) for name in ("load_model", "load_weights_only")),
    ("legacy.saving.legacy_h5_format", "save_model_to_hdf5"),
    ("legacy.saving.legacy_h5_format", "load_model_from_hdf5"),
    *(("saving.legacy.save", name) for name in ("save_model", "load_model", "save_weights", "load_weights")),
)
"""Functions that write and read files, in the modules through which Keras 3 and Keras 2 call them."""


class KerasCalls:
    """Wraps Keras when the user's import of it is done."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    def install(self, patches: Patches) -> None:
        """Wraps now what is imported, and later what is not."""
        for name in MODELS:
            wrapt.when_imported(name)(functools.partial(self._models, patches))
        for name, owner, method in _OPTIMIZERS:
            wrapt.when_imported(name)(functools.partial(self._optimizers, patches, owner, method))
        for module in dict.fromkeys(module for module, _ in _FILES):
            for keras in ("keras", "tf_keras"):
                names = [name for of, name in _FILES if of == module]
                wrapt.when_imported(f"{keras}.src.{module}")(functools.partial(self._functions, patches, names))

    def _models(self, patches: Patches, module: Any) -> None:
        if not patches.active:
            return
        model = module.Model
        for name in ("fit", "train_on_batch", "compile"):
            patches.wrap(model, name, self._trains)
        for name in ("save_weights", "save"):
            patches.wrap(model, name, self._saves)
        patches.wrap(model, "load_weights", self._loads_weights)

    def _optimizers(self, patches: Patches, owner: str, method: str, module: Any) -> None:
        found = getattr(module, owner, None)
        if patches.active and found is not None:
            patches.wrap(found, method, self._applies)

    def _functions(self, patches: Patches, names: list[str], module: Any) -> None:
        for name in names:
            if patches.active and hasattr(module, name):
                kind = self._saves if name.startswith("save") else self._loads_model
                patches.wrap(module, name, self._loads_weights if name.startswith("load_weights") else kind)

    # Wraps. Each calls the original and lets its result and its exceptions through.

    def _trains(self, original: Any) -> Any:
        role = "compiled" if original.__name__ == "compile" else "trained"

        def train(model: Any, *args: Any, **kwargs: Any) -> Any:
            if role == "trained":
                self._steps.note_model(role, model)
            result = original(model, *args, **kwargs)
            # A model that is compiled anew has another optimizer; a lazily built one has one only now.
            self._steps.note_model(role, model)
            return result

        return train

    def _applies(self, original: Any) -> Any:
        pairs = original.__name__ == "apply_gradients"

        def apply(optimizer: Any, *args: Any, **kwargs: Any) -> Any:
            if not self._steps.counters.applied(optimizer):
                return original(optimizer, *args, **kwargs)
            variables: Sequence[Any] = ()
            if pairs and args:
                args = (list(args[0]), *args[1:])  # it may be an iterator, and is looked at twice
                variables = [variable for _, variable in args[0]]
            elif not pairs:
                variables = _argument(args, kwargs, 1, "trainable_variables") or ()
            self._note_applying(variables)
            result = original(optimizer, *args, **kwargs)
            self._note_applied(optimizer, variables)
            return result

        return apply

    @quietly
    def _note_applying(self, variables: Sequence[Any]) -> None:
        """An optimizer is about to be applied for the first time."""
        self._steps.before_applied(set(weights_of(variables)))

    @quietly
    def _note_applied(self, optimizer: Any, variables: Sequence[Any]) -> None:
        """An optimizer was applied for the first time: by now it knows to which variables."""
        weights = weights_of(getattr(optimizer, "_trainable_variables", variables))
        self._steps.lineage.trained(weights)
        self._steps.lineage.applied.update(weights)

    def _saves(self, original: Any) -> Any:
        def save(*args: Any, **kwargs: Any) -> Any:
            model, path = _argument(args, kwargs, 0, "model"), _argument(args, kwargs, 1, "filepath")

            def writes() -> Any:
                self._note_writing(model, path)
                return original(*args, **kwargs)

            result = self._steps.saving(writes, path=path)
            if self._steps.outermost():
                self._steps.event(Kind.SAVED)
            return result

        return save

    @quietly
    def _note_writing(self, model: Any, path: object) -> None:
        self._steps.counters.model(model)
        self._steps.lineage.writing(path, weights=weights_of(model.variables), data=False)

    def _loads_weights(self, original: Any) -> Any:
        def load_weights(*args: Any, **kwargs: Any) -> Any:
            model, path = _argument(args, kwargs, 0, "model"), _argument(args, kwargs, 1, "filepath")

            def reads() -> Any:
                result = original(*args, **kwargs)
                self._note_restored(model, path)
                return result

            result = self._steps.restoring(reads, path)
            if self._steps.outermost():
                self._steps.note_model("loaded", model)
                self._steps.event(Kind.RESTORED)
            return result

        return load_weights

    def _loads_model(self, original: Any) -> Any:
        def load_model(*args: Any, **kwargs: Any) -> Any:
            path = _argument(args, kwargs, 0, "filepath")

            def reads() -> Any:
                model = original(*args, **kwargs)
                self._note_restored(model, path)
                return model

            model = self._steps.restoring(reads, path)
            if self._steps.outermost():
                self._steps.note_model("loaded", model)
                self._steps.note_restored()
                self._steps.read_all("restore")
            return model

        return load_model

    @quietly
    def _note_restored(self, model: Any, path: object) -> None:
        weights = weights_of(model.variables)
        self._steps.counters.model(model)
        self._steps.lineage.trained(weights)
        self._steps.lineage.came_from(path, lambda: weights)
        self._steps.lineage.restored(path, weights=bool(weights), data=False)


def _argument(args: Sequence[Any], kwargs: Mapping[str, Any], number: int, name: str) -> Any:
    return args[number] if len(args) > number else kwargs.get(name)


__all__ = ["MODELS", "KerasCalls"]
