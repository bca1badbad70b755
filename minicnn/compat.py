"""Older spellings that Keras 3 refuses, for scripts that were written before it.

Write ``minicnn.compat`` where such a script has ``keras`` or ``tensorflow`` in its import lines::

    import minicnn.compat as keras
    from minicnn.compat.layers.convolutional import Conv2D
    from minicnn.compat.utils import np_utils
    import minicnn.compat as tf                              # tf.keras.layers, tf.nn.relu

What has not changed is minicnn's own. Of what has, each use gives one DeprecationWarning that names the new spelling;
docs/keras.md lists both. Nothing in minicnn imports this page.
"""

from __future__ import annotations

import importlib
import math
import sys
import warnings
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from minicnn import callbacks as _callbacks
from minicnn import model_file as _model_file
from minicnn import models as _models
from minicnn import optimizers as _optimizers
from minicnn.callbacks import History
from minicnn.errors import UnsupportedError
from minicnn.layers import LAYERS, Input, Layer

__path__: list[str] = []  # so that ``from minicnn.compat.layers import ...`` looks among the places made below

_LOGGED = {"acc": "accuracy", "val_acc": "val_accuracy", "lr": "learning_rate"}
_QUEUE = ("workers", "max_queue_size", "max_q_size", "use_multiprocessing", "pickle_safe")


def _warn(old: str, advice: str, depth: int = 0) -> None:
    """Warn about the line that called the function that calls this one, or ``depth`` calls before it."""
    warnings.warn(f"{old} is an older spelling; {advice}.", DeprecationWarning, stacklevel=3 + depth)


# --- optimizers --------------------------------------------------------------------------------------------------

def _maker(kind: type[_optimizers.Optimizer]) -> Any:
    """Return a function that makes optimizers of a class from older arguments too."""
    def make(*args: Any, **options: Any) -> _optimizers.Optimizer:
        if "lr" in options:
            _warn("lr=", "write learning_rate=")
            options["learning_rate"] = options.pop("lr")
        if options.get("decay"):
            _warn("decay=", "it is ignored, as in Keras 3; use the callback LearningRateScheduler")
        options.pop("decay", None)
        if "epsilon" in options and options["epsilon"] is None:
            _warn("epsilon=None", "leave epsilon out")
            del options["epsilon"]
        return kind(*args, **options)

    make.__name__ = make.__qualname__ = kind.__name__
    make.__doc__ = f"Return ``minicnn.optimizers.{kind.__name__}``; ``lr`` is ``learning_rate``."
    return make


def _read_lr(optimizer: _optimizers.Optimizer) -> float:
    _warn("optimizer.lr", "write optimizer.learning_rate")
    return optimizer.learning_rate


def _write_lr(optimizer: _optimizers.Optimizer, value: float) -> None:
    _warn("optimizer.lr", "write optimizer.learning_rate")
    optimizer.learning_rate = value


setattr(_optimizers.Optimizer, "lr", property(_read_lr, _write_lr))  # noqa: B010 - unknown to mypy, and no other's affair


# --- logs and callbacks ------------------------------------------------------------------------------------------

class _Logs(dict[str, Any]):
    """Logged values under their names and under the older ones; each of these is warned about once a training."""

    def __init__(self, values: Mapping[str, Any], said: set[str]) -> None:
        super().__init__(values)
        self._said = said

    def __missing__(self, name: str) -> Any:
        return self[self._newer(name, 1)]

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or super().__contains__(_LOGGED.get(str(name)))

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value of a name, new or older."""
        if super().__contains__(name) or name not in self:
            return super().get(name, default)
        return self[self._newer(name, 1)]

    def _newer(self, name: str, depth: int) -> str:
        new = _LOGGED.get(name)
        if new is None or not super().__contains__(new):
            raise KeyError(name)
        if name not in self._said:
            self._said.add(name)
            _warn(repr(name), f"write {new!r}", depth)
        return new


class _CallbackList(_callbacks.CallbackList):
    """Callbacks that may know what is logged by its older names."""

    def __init__(self, listening: Sequence[_callbacks.Callback], model: Any, params: dict[str, Any]) -> None:
        self.said: set[str] = set()
        logged = {name for name, _ in model.metrics}
        for callback in listening:
            old = getattr(callback, "monitor", "")
            if old in _LOGGED and old.removeprefix("val_") not in logged:
                callback.monitor = _LOGGED[old]  # type: ignore[attr-defined]
                _warn(f"monitor={old!r}", f"write monitor={_LOGGED[old]!r}", 3)
        super().__init__(listening, model, params)

    def call(self, event: str, *arguments: Any) -> None:
        """See CallbackList; what a callback adds to the logs the others see."""
        *numbers, logs = arguments
        known = _Logs(logs, self.said)
        super().call(event, *numbers, known)
        logs.update(known)


class ReduceLROnPlateau(_callbacks.ReduceLROnPlateau):
    """``minicnn.callbacks.ReduceLROnPlateau``; ``epsilon`` is ``min_delta``."""

    def __init__(self, *args: Any, **options: Any) -> None:
        if "epsilon" in options:
            _warn("epsilon=", "write min_delta=")
            options["min_delta"] = options.pop("epsilon")
        super().__init__(*args, **options)


class ModelCheckpoint(_callbacks.ModelCheckpoint):
    """``minicnn.callbacks.ModelCheckpoint``; ``period=1`` is ``save_freq="epoch"``."""

    def __init__(self, *args: Any, **options: Any) -> None:
        if "period" in options:
            if options.pop("period") != 1:
                raise UnsupportedError("ModelCheckpoint saves after every epoch, or after save_freq batches; period is "
                                       "not supported. Write save_freq=.")
            _warn("period=1", "write save_freq='epoch', or leave it out")
        super().__init__(*args, **options)


# --- models ------------------------------------------------------------------------------------------------------

def _whole_steps(name: str, steps: Any) -> Any:
    """Round a number of steps up: Keras 2 went on while fewer were done, as in ``len(x) / 32``."""
    if not isinstance(steps, float) or not math.isfinite(steps):
        return steps
    _warn(f"{name}={float(steps)}", f"write {name}={math.ceil(steps)}, of math.ceil", 1)
    return math.ceil(steps)


class Sequential(_models.Sequential):
    """``minicnn.models.Sequential`` with the methods it had in Keras 2."""

    callback_list = _CallbackList

    def fit(self, *args: Any, **options: Any) -> History:
        """See ``minicnn.models.Sequential.fit``."""
        if "nb_epoch" in options:
            _warn("nb_epoch=", "write epochs=")
            options["epochs"] = options.pop("nb_epoch")
        for name in ("steps_per_epoch", "validation_steps"):
            if name in options:
                options[name] = _whole_steps(name, options[name])
        if dropped := [name for name in _QUEUE if options.pop(name, None) is not None]:
            _warn(", ".join(dropped), "leave it out: batches are made where they are used")
        return self._with_older_names(super().fit(*args, **options))

    def fit_generator(self, generator: Any, steps_per_epoch: int | None = None, epochs: int = 1,
                      verbose: str | int = 1, callbacks: Any = None, validation_data: Any = None,
                      validation_steps: int | None = None, **options: Any) -> History:
        """Train on batches from an iterable; ``fit`` does the same."""
        _warn("fit_generator", "write fit")
        for name in (*_QUEUE, "shuffle"):
            options.pop(name, None)
        return self._with_older_names(super().fit(
            generator, steps_per_epoch=_whole_steps("steps_per_epoch", steps_per_epoch),
            epochs=options.pop("nb_epoch", epochs), verbose=verbose, callbacks=callbacks,
            validation_data=validation_data, validation_steps=_whole_steps("validation_steps", validation_steps),
            **options))

    def evaluate_generator(self, generator: Any, steps: int | None = None, callbacks: Any = None, *_: Any,
                           verbose: str | int = 0, **queue: Any) -> Any:
        """Evaluate on batches from an iterable; ``evaluate`` does the same."""
        _warn("evaluate_generator", "write evaluate")
        return self.evaluate(generator, steps=_whole_steps("steps", steps), callbacks=callbacks, verbose=verbose)

    def predict_generator(self, generator: Any, steps: int | None = None, callbacks: Any = None, *_: Any,
                          verbose: str | int = 0, **queue: Any) -> np.ndarray:
        """Predict batches from an iterable; ``predict`` does the same."""
        _warn("predict_generator", "write predict")
        return self.predict(generator, steps=_whole_steps("steps", steps), callbacks=callbacks, verbose=verbose)

    def predict_classes(self, x: Any, batch_size: int = 32, verbose: str | int = 0) -> np.ndarray:
        """Return the likeliest class of each sample (N)."""
        _warn("predict_classes(x)", "write predict(x).argmax(axis=-1)")
        return self.predict(x, batch_size, verbose).argmax(axis=-1)

    def predict_proba(self, x: Any, batch_size: int = 32, verbose: str | int = 0) -> np.ndarray:
        """Return the probabilities (N, K)."""
        _warn("predict_proba", "write predict")
        return self.predict(x, batch_size, verbose)

    @staticmethod
    def _with_older_names(history: History) -> History:
        if not isinstance(history.history, _Logs):
            history.history = _Logs(history.history, set())
        return history


def load_model(path: Any, custom_objects: Mapping[str, type[Layer]] | None = None, compile: bool = True) -> Sequential:
    """Return what ``minicnn.models.load_model`` returns, with the older methods."""
    return _model_file.read(path, Sequential, {**LAYERS, **(custom_objects or {})}, compile)


# --- backend -----------------------------------------------------------------------------------------------------

def _image_dim_ordering() -> str:
    """Return ``tf``."""
    _warn("image_dim_ordering()", "write image_data_format(), which is 'channels_last'")
    return "tf"


def _get_value(value: Any) -> Any:
    """Return a number as it is."""
    _warn("get_value(x)", "write x: it is a number already")
    return value


# --- places ------------------------------------------------------------------------------------------------------

class _Place(ModuleType):
    """A module of minicnn under another name, with names of its own before the module's.

    Parameters
    ----------
    name : str
        After ``minicnn.compat.``.
    target : str
        The module, such as ``minicnn.layers``; imported when it is needed.
    own : mapping
        What is not the module's.
    older : bool
        Whether the place itself is an older one, which its first use says.
    """

    def __init__(self, name: str, target: str, own: Mapping[str, Any], older: bool = False) -> None:
        super().__init__(f"{__name__}.{name}", f"``{target}``, with older spellings.")
        self.__dict__.update(own)
        self._target, self._older = target, older

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__all__":
            raise AttributeError(name)
        module = importlib.import_module(self._target)
        if name == "__all__":
            return [name for name in {*dir(module), *vars(self)} if not name.startswith("_")]
        value = getattr(module, name)
        if self._older:
            self._older = False
            _warn(f"{self.__name__.removeprefix(f'{__name__}.')}", f"write {self._target.removeprefix('minicnn.')}")
        return value


_OWN: dict[str, dict[str, Any]] = {
    "models": {"Sequential": Sequential, "load_model": load_model},
    "callbacks": {"ModelCheckpoint": ModelCheckpoint, "ReduceLROnPlateau": ReduceLROnPlateau},
    "optimizers": {kind.__name__: _maker(kind) for kind in _optimizers.OPTIMIZERS.values()},
    "backend": {"image_dim_ordering": _image_dim_ordering, "get_value": _get_value},
}
_SAME = ("activations", "datasets", "initializers", "layers", "losses", "metrics", "preprocessing", "utils",
         "datasets.mnist", "preprocessing.image")
_OLDER = {"utils.np_utils": "utils", "nn": "activations"} | {
    f"layers.{page}": "layers"
    for page in ("advanced_activations", "convolutional", "core", "normalization", "pooling")}


def _make_places() -> dict[str, ModuleType]:
    """Return the places by their names, and let ``import`` find them, also behind ``keras``."""
    places: dict[str, ModuleType] = {name: _Place(name, f"minicnn.{name}", _OWN.get(name, {}))
                                     for name in (*_SAME, *_OWN)}
    for name, target in _OLDER.items():
        places[name] = _Place(name, f"minicnn.{target}", {}, older=name != "nn")
    for name, place in places.items():
        parent, _, last = name.rpartition(".")
        if parent:
            setattr(places[parent], last, place)
        for root in (__name__, f"{__name__}.keras"):
            sys.modules[f"{root}.{name}"] = place
    return places


def __getattr__(name: str) -> Any:
    """Return a place."""
    if name in _PLACES:
        return _PLACES[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__


keras = sys.modules[f"{__name__}.keras"] = sys.modules[__name__]
_PLACES = {name: place for name, place in _make_places().items() if "." not in name}

__all__ = ["Input", "Sequential", "keras", "load_model", *_PLACES]
