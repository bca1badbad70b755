"""A model as a file: its architecture as JSON, its weights, and how it is compiled, in the container of ``saving.py``.

Layers come from the dictionary the caller passes. Nothing is imported because a file names it.
"""

from __future__ import annotations

import functools
import json
import os
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from minicnn import files, initializers, losses, metrics, optimizers, saving, strict_json
from minicnn.errors import ArgumentError, DataError, FileFormatError, MinicnnError
from minicnn.layers import LAYERS, Layer

_WEIGHTS, _SLOTS = "weights/", "optimizer/"  # before the names of weights, and of what is remembered of them
_VARIANCES, _SQUARES = "/moving_variance", "/v"  # never negative; the second are means of squares of the optimizer's
_BLOCK = 1 << 18  # values looked at together
# What a description holds; the settings of layers, optimizer and loss are their constructors' to judge.
_LAYER = {"class": str, "config": dict}
_DESCRIPTION = {"architecture": {"class": str, "name": str, "seed": int, "layers": [_LAYER]},
                "training": (dict, type(None))}
_TRAINING = {"optimizer": {"name": str, "config": dict, "iterations": int}, "updates": int,
             "loss": {"name": str, "config": dict}, "metrics": [(str, [str])], "fuse": bool}
# What constructors say of arguments from a file that make no sense.
FAULTS = (ArithmeticError, AttributeError, LookupError, NotImplementedError, RecursionError, TypeError, ValueError,
          MinicnnError)
# Names that Keras' users give; the file is ours all the same.
_KERAS_ENDINGS = (".keras", ".h5", ".hdf5")

# What a layer gets from its model or its use, not from its constructor.
_NOT_CONFIG = {"seed", "index", "step", "has_default_name", "needs_input_gradient", "skip_activation", "given",
               "declared_input_shape", "_training_forwards", "_rows", "_kept_rows"}


def check_name(call: str, path: str | os.PathLike[str], overwrite: bool = True, warn: bool = True) -> None:
    """Check the path a file is to be written to.

    Parameters
    ----------
    call : str
        Named in messages.
    path : path-like
    overwrite : bool
        Whether a file of that name may be replaced.
    warn : bool
        Whether to warn of an ending of Keras'.

    Raises
    ------
    ArgumentError
        If the path has an ending of another format, or the file is there and may not be replaced.
    """
    name = str(files.checked(call, path))
    if not name.endswith((".safetensors", *_KERAS_ENDINGS)):
        raise ArgumentError(f"{call} got the path {name!r}; expected one that ends in .safetensors, the format of the "
                            f"file. Choose such a name.")
    if not overwrite and os.path.exists(path):
        raise ArgumentError(f"{call} got overwrite=False, and {name} exists. Choose another name.")
    if warn and name.endswith(_KERAS_ENDINGS):
        ending = name[name.rindex("."):]  # without the rest, so that checkpoints do not warn about every file
        warnings.warn(f"{call} got a path that ends in {ending}. The file is one of minicnn, in the format "
                      f"safetensors, and Keras cannot read it; a name that ends in .safetensors says so.", UserWarning,
                      stacklevel=4)


def write(path: str | os.PathLike[str], model: Any) -> None:
    """Write a built Sequential to a file; see ``Sequential.save``."""
    for layer in model.layers:
        _check_config(layer)
    arrays = _weights(model)
    for name, slots in (model.optimizer.slots if model.optimizer else {}).items():
        arrays |= {f"{_SLOTS}{name}/{slot}": array for slot, array in slots.items()}
    _check_sound(arrays)
    saving.write(path, arrays, {"architecture": _architecture(model), "training": _training(model)})


def write_weights(path: str | os.PathLike[str], model: Any) -> None:
    """Write the weights of a built Sequential to a file; see ``Weights.save_weights``."""
    arrays = _weights(model)
    _check_sound(arrays)
    saving.write(path, arrays, {"architecture": None})


def read_weights(path: str | os.PathLike[str], model: Any) -> None:
    """Give a built Sequential the weights of a file; see ``Weights.load_weights``."""
    with saving.opened(path) as stored:
        own = model.named_weights()
        try:
            _check_names(own, stored)
            for name, array in own.items():
                _check_fit(stored, name, array.shape, array.dtype)
            arrays = {name: stored.read(_WEIGHTS + name) for name in own}
            check_values(arrays)
        except FileFormatError as error:
            raise FileFormatError(f"{os.fspath(path)} does not hold the weights of this model: {error} Expected those "
                                  f"of a network built alike; name its file.") from None
    for name, array in own.items():
        array[...] = arrays[name]


def read(path: str | os.PathLike[str], make: Callable[..., Any], known: Mapping[str, type[Layer]],
         compiled: bool) -> Any:
    """Read a Sequential from a file; see ``load_model``.

    Every weight's name, shape and type is compared with the architecture before it is made, and none is read before
    all are compared: what a file claims takes no memory, and what it holds takes it once.

    Parameters
    ----------
    path : path-like
    make : callable
        ``make(name=, seed=)`` returns an empty Sequential.
    known : mapping of str to class
        The layers a file may have.
    compiled : bool
        Whether to compile it as it was saved.
    """
    with saving.opened(path) as stored:
        try:
            _check_description(stored)
            model = _rebuild(stored, make, known)
            own = model.named_weights()
            _check_names(own, stored)
            for name, array in own.items():
                _check_fit(stored, name, array.shape, array.dtype)
            _fill(own, stored)
            if compiled and stored.description["training"] is not None:
                _compile_as_saved(model, stored)
        except FAULTS as error:
            reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
            raise FileFormatError(f"{os.fspath(path)} holds no model this minicnn can build: {reason.rstrip('.')}. "
                                  f"Expected a file that model.save wrote; save the model again.") from error
    return model


def _check_sound(arrays: Mapping[str, np.ndarray]) -> None:
    """Refuse to write what could not be read again; an older file is kept so."""
    try:
        check_values(arrays)
    except FileFormatError as error:
        raise DataError(f"The model cannot be saved, and nothing is written: {error}") from None


def _check_config(layer: Layer) -> None:
    """Make a twin from the layer's config and refuse a layer whose twin would be another."""
    try:
        twin = type(layer)(**_arguments(json.loads(json.dumps(layer.config()))))
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"{layer} cannot be saved: its config() does not make its twin ({error}). Return every "
                            f"argument of the constructor from config(), in types JSON knows.") from error
    for name, value in vars(twin).items():
        own = getattr(layer, name)
        if name not in _NOT_CONFIG and isinstance(value, (bool, int, float, str, tuple)) and value != own:
            raise ArgumentError(f"{layer} cannot be saved: {name} is {own!r}, but {value!r} in a layer made from its "
                                f"config(). Return every argument of the constructor from config().")


def _arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """Turn a config from JSON into arguments. Initializers of one's own become zeros: the weights follow anyway."""
    arguments = {key: tuple(value) if isinstance(value, list) else value for key, value in config.items()}
    for key, value in arguments.items():
        if key.endswith("_initializer") and value not in initializers.INITIALIZERS:
            arguments[key] = "zeros"
    return arguments


def _architecture(model: Any) -> dict[str, Any]:
    return {"class": "Sequential", "name": model.name, "seed": model.seed,
            "layers": [{"class": type(layer).__name__, "config": layer.config()} for layer in model.layers]}


def _training(model: Any) -> dict[str, Any] | None:
    if model.optimizer is None or model.loss is None:
        return None
    for own, known in ((model.optimizer, optimizers.OPTIMIZERS), (model.loss, losses.LOSSES)):
        if known.get(own.name) is not type(own):
            warnings.warn(f"{type(own).__name__} is a class of your own: the file keeps the network and its weights, "
                          f"not how it is compiled. Compile it again after loading.", UserWarning, stacklevel=4)
            return None
    kept = [kept for name, metric in model.metrics if (kept := metrics.identifier_of(name, metric)) is not None]
    return {"optimizer": {"name": model.optimizer.name, "config": model.optimizer.config(),
                          "iterations": model.optimizer.iterations},
            "updates": model.updates,
            "loss": {"name": model.loss.name, "config": model.loss.config()}, "metrics": kept, "fuse": model.fuse}


def _check_description(stored: saving.Stored) -> None:
    """Refuse a description with missing, unknown or mistaken entries."""
    where, remedy, description = "its description", "Save the model again.", stored.description
    if description.get("architecture", 0) is None:
        raise FileFormatError("it holds weights alone. Build the network and call its load_weights(path).")
    strict_json.check(description, _DESCRIPTION, where, remedy)
    if description["architecture"]["class"] != "Sequential":
        raise FileFormatError(f"it is a {description['architecture']['class'][:40]!r}; expected a Sequential.")
    if description["training"] is None:
        return
    description["training"] = {"fuse": True, **description["training"]}  # older files do not say
    strict_json.check(description["training"], _TRAINING, where, remedy, "training")
    counts = description["training"]["updates"], description["training"]["optimizer"]["iterations"]
    if not all(0 <= count < 2**63 for count in counts):
        raise FileFormatError(f"it was trained for {counts[0]} updates, of which the optimizer made {counts[1]}; "
                              f"expected numbers from 0 to 2**63.")


def _rebuild(stored: saving.Stored, make: Callable[..., Any], known: Mapping[str, type[Layer]]) -> Any:
    """Build the network of a file; its weights have their shapes, compared with the file, and no values yet."""
    architecture = stored.description["architecture"]
    model = make(name=architecture["name"], seed=architecture["seed"])
    for entry in architecture["layers"]:
        if entry["class"] not in known:
            raise FileFormatError(f"it has a layer of the class {entry['class']!r}, which is unknown. If it is your "
                                  f"own, pass load_model(path, custom_layers={{{entry['class']!r}: YourClass}}).")
        layer = known[entry["class"]](**_arguments(entry["config"]))
        layer.given = functools.partial(_unread, stored, layer)
        model.add(layer)
        layer.given = None
        if LAYERS.get(entry["class"]) is type(layer):
            _check_same(layer, entry["config"])
    return model


def _unread(stored: saving.Stored, layer: Layer, key: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Return room for a weight the file has, which takes no memory before it is written to."""
    _check_fit(stored, f"{layer.name}/{key}", shape, np.dtype(dtype))
    return np.zeros(shape, dtype)


def _check_same(layer: Layer, config: Mapping[str, Any]) -> None:
    """Refuse a setting that a layer of this library does not have, or took for another."""
    own = json.loads(json.dumps(layer.config()))
    for key, value in config.items():
        if key not in own or (own[key] != value and not key.endswith("_initializer")):
            found = f"{own[key]!r} was made of it" if key in own else "there is no such setting"
            raise FileFormatError(f"{layer} has {key}={str(value)[:40]!r}; {found}. Save the model again.")


def _weights(model: Any) -> dict[str, np.ndarray]:
    return {_WEIGHTS + name: array for name, array in model.named_weights().items()}


def _check_names(own: Mapping[str, np.ndarray], stored: saving.Stored) -> None:
    found = {name.removeprefix(_WEIGHTS) for name in stored.tensors if name.startswith(_WEIGHTS)}
    if own.keys() != found:
        raise FileFormatError(f"its weights do not fit its architecture: missing {sorted(own.keys() - found)}, "
                              f"surplus {sorted(found - own.keys())}.")
    if others := [name for name in stored.tensors if not name.startswith((_WEIGHTS, _SLOTS))]:
        raise FileFormatError(f"it holds {others[0][:80]!r}, which is neither a weight nor of the optimizer.")


def _check_fit(stored: saving.Stored, name: str, shape: tuple[int, ...], dtype: np.dtype[Any],
               prefix: str = _WEIGHTS) -> None:
    found = stored.tensors.get(prefix + name)
    if found is None:
        raise FileFormatError(f"its weights do not fit its architecture: missing {[name]}.")
    if found.shape != shape or found.dtype != dtype:
        raise FileFormatError(f"the weight {name} is {found.dtype} {found.shape}; expected {dtype} {shape}.")


def _fill(own: Mapping[str, np.ndarray], stored: saving.Stored) -> None:
    """Read all weights into arrays of their shapes."""
    for name, array in own.items():
        if array.flags.c_contiguous:
            stored.read_into(_WEIGHTS + name, array)
        else:  # a layer of somebody's own makes what it likes
            array[...] = stored.read(_WEIGHTS + name)
    check_values(own)


def check_values(arrays: Mapping[str, np.ndarray]) -> None:
    """Refuse values no training gives, block by block: a mask of a whole array would take memory, too."""
    for name, array in arrays.items():
        flat = array.reshape(-1)
        not_negative = name.endswith(_VARIANCES) or (name.startswith(_SLOTS) and name.endswith(_SQUARES))
        for begin in range(0, flat.size, _BLOCK):
            block = flat[begin:begin + _BLOCK]
            wrong = ~np.isfinite(block) | (block < 0 if not_negative else False)
            if wrong.any():
                at = begin + int(wrong.argmax())
                place = ", ".join(str(index) for index in np.unravel_index(at, array.shape))
                raise FileFormatError(f"{name}[{place}] is {flat[at]}; expected a finite number"
                                      f"{' of at least 0' if not_negative else ''}. Use an earlier file, or train "
                                      f"anew.")


def _compile_as_saved(model: Any, stored: saving.Stored) -> None:
    training = stored.description["training"]
    saved = training["optimizer"]
    optimizer = type(optimizers.get(saved["name"]))(**saved["config"])
    loss = type(losses.get(training["loss"]["name"]))(**training["loss"]["config"])
    optimizer.iterations, model.updates = saved["iterations"], training["updates"]
    _read_slots(model, optimizer, stored)
    model.compile(optimizer=optimizer, loss=loss, metrics=training["metrics"], fuse=training["fuse"])


def _read_slots(model: Any, optimizer: optimizers.Optimizer, stored: saving.Stored) -> None:
    """Give the optimizer what it remembers of each weight: all of it or nothing, of the weight's shape and type."""
    own = model.named_weights()
    trained = [f"{layer.name}/{key}" for layer in model.layers for key in layer.params]
    slots = {f"{name}/{slot}": (name, slot) for name in trained for slot in optimizer.slot_names()}
    found = {name.removeprefix(_SLOTS) for name in stored.tensors if name.startswith(_SLOTS)}
    begun = {slots[name][0] for name in found if name in slots}
    expected = {name for name, (weight, _) in slots.items() if weight in begun}
    if found != expected:
        raise FileFormatError(f"what it keeps of the optimizer does not fit: missing {sorted(expected - found)}, "
                              f"surplus {sorted(found - expected)}.")
    for name in sorted(found):
        weight, slot = slots[name]
        _check_fit(stored, name, own[weight].shape, own[weight].dtype, _SLOTS)
        optimizer.slots.setdefault(weight, {})[slot] = stored.read(_SLOTS + name)
    check_values({_SLOTS + name: optimizer.slots[weight][slot]
                   for name, (weight, slot) in slots.items() if name in found})
