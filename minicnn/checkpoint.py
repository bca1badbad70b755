"""A checkpoint: all that a training needs to go on as if it had never been interrupted, in one file.

Weights, what the optimizer remembers, the state of every callback, and where the training stands; no random state, for
all chance follows from the seed and these (``streams.py``). Beside them the configuration and the digests of the data,
so that a training goes on as it was, or is refused.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minicnn import finite, kernels, model_file, saving, strict_json
from minicnn.batches import IteratorBatches
from minicnn.callbacks.base import Callback
from minicnn.errors import ArgumentError, FileFormatError, TrainingError, UnreadableFileError
from minicnn.files import replacing, writing

NAME, BEST = "checkpoint-{:06d}.safetensors", "best.safetensors"
_WEIGHTS, _SLOTS, _MEANS, _STATE, _TEXT = "weights/", "optimizer/", "means/", "state/", "text/"
_ABSENT = "nothing"  # in a list of differences
_ANEW = "Train anew in another folder."
_DESCRIPTION: dict[str, Any] = {
    "checkpoint": {
        "epoch": int, "batch": int, "images": int, "stopped": bool, "updates": int, "iterations": int,
        "optimizer": dict, "trainable": [bool], "input_shape": [(int, type(None))], "plan": dict, "validation": dict,
        "numbers": dict, "order": [str]},
    "configuration": dict, "versions": dict, "note": dict}

# --- what is saved -----------------------------------------------------------------------------------------------


def capture(model: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the arrays and the description of a training that goes on.

    Parameters
    ----------
    model : Sequential
        Between two steps of ``fit``.

    Raises
    ------
    TrainingError
        If a weight or what the optimizer remembers of it is not finite: nothing could go on from there.
    ArgumentError
        If a callback's state holds something else than whole numbers, strings and arrays.
    """
    fitting, optimizer = model.fitting, model.optimizer
    arrays = {_WEIGHTS + name: array for name, array in model.named_weights().items()}
    for weight, slots in optimizer.slots.items():
        arrays |= {f"{_SLOTS}{weight}/{slot}": array for slot, array in slots.items()}
    for name, array in arrays.items():
        if not finite.all_finite([array]):
            raise TrainingError(f"After step {optimizer.iterations}: {name} has NaN or infinite values; expected "
                                f"finite numbers. The last checkpoint is kept as it was. Try a smaller learning rate.")
    arrays |= {_MEANS + name: np.float64(total) for name, total in fitting.means.sums.items()}
    numbers: dict[str, int] = {}
    for owner, callback in _with_state(model).items():
        _pack(owner, callback.get_state(), arrays, numbers)
    validation = fitting.validation.get_state() if isinstance(fitting.validation, IteratorBatches) else {}
    return arrays, {"checkpoint": {
        "epoch": fitting.epoch, "batch": fitting.batch, "images": fitting.means.count, "stopped": model.stop_training,
        "updates": model.updates, "iterations": optimizer.iterations, "optimizer": optimizer.config(),
        "trainable": [layer.trainable for layer in model.layers], "input_shape": model.input_shape,
        "plan": fitting.plan.get_state(fitting.batch), "validation": validation, "numbers": numbers,
        "order": list(arrays)}}    # the file has its own; that of logs and history shows


def give_back(model: Any, arrays: Mapping[str, np.ndarray], description: Mapping[str, Any]) -> None:
    """Put model, callbacks and data where ``capture`` found them.

    Raises
    ------
    FileFormatError
        If the weights, or what the optimizer remembers, are not those of the model, which then is as it was.
    """
    saved, fitting, optimizer = description["checkpoint"], model.fitting, model.optimizer
    if not model.built:
        model.build(saved["input_shape"])
    own, found, slots = model.named_weights(), _under(_WEIGHTS, arrays), _slots(arrays)
    _check_fit(model, own, found, slots, saved)
    for name, array in own.items():
        array[...] = found[name]
    optimizer.slots = slots
    for name, value in saved["optimizer"].items():
        setattr(optimizer, name, value)
    optimizer.iterations, model.updates = saved["iterations"], saved["updates"]
    for layer, trainable in zip(model.layers, saved["trainable"]):
        layer.trainable = trainable
    model.stop_training = saved["stopped"]
    fitting.epoch, fitting.batch = saved["epoch"], saved["batch"]
    fitting.ended = saved["stopped"] and not saved["batch"]
    fitting.means.count = saved["images"]
    fitting.means.sums = {name: float(total) for name, total in _under(_MEANS, arrays).items()}
    fitting.plan.set_state(saved["plan"])
    if isinstance(fitting.validation, IteratorBatches):
        fitting.validation.set_state(saved["validation"])
    for owner, callback in _with_state(model).items():
        callback.set_state(_unpack(owner, arrays, saved["numbers"]))


def configuration(model: Any) -> dict[str, Any]:
    """Return what must be the same for a training to go on, in types JSON knows; of arrays the SHA-256."""
    fitting = model.fitting
    own = {
        "seed": model.seed, "kernels": kernels.active(), "fuse": model.fuse,
        "layers": [{"class": type(layer).__name__} | _without_shape(layer.config()) for layer in model.layers],
        "optimizer": {"class": type(model.optimizer).__name__} | model.optimizer.config(),
        "loss": {"class": type(model.loss).__name__} | model.loss.config(), "metrics": model.metrics_names,
        "data": fitting.plan.batches.fingerprint(),
        "validation": None if fitting.validation is None else fitting.validation.fingerprint(),
        "callbacks": [{"class": type(one).__name__} | {name: getattr(one, name) for name in one.decisive}
                      for one in fitting.listeners.callbacks if _has_state(one) or one.decisive]}
    text = json.dumps(own | fitting.settings, default=_plain)
    plain: dict[str, Any] = json.loads(text, parse_constant=str)    # no file may hold an infinity as a number
    return plain


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the differences of two configurations, in words."""
    flat = dict(_flat(then)), dict(_flat(now))
    return [f"{name} was {flat[0].get(name, _ABSENT)!r}, is {flat[1].get(name, _ABSENT)!r}"
            for name in flat[0] | flat[1] if flat[0].get(name, _ABSENT) != flat[1].get(name, _ABSENT)]


def versions() -> dict[str, str]:
    """Return the versions that decide the bits of a result."""
    return {"python": platform.python_version(), "minicnn": sys.modules["minicnn"].__version__,
            "numpy": np.__version__, "numba": importlib.metadata.version("numba")}


# --- the files ---------------------------------------------------------------------------------------------------


class Saved(NamedTuple):
    """A checkpoint that was read, and what is wrong with newer ones."""

    path: Path
    arrays: dict[str, np.ndarray]
    description: dict[str, Any]
    damaged: list[str]


def newest(folder: Path) -> Saved | None:
    """Read the newest checkpoint of a folder that is not damaged; None if there is no checkpoint.

    Raises
    ------
    FileFormatError
        If all are damaged.
    """
    damaged: list[str] = []
    for path in [*reversed(_numbered(folder)), folder / BEST]:
        try:
            arrays, description = saving.read(path)
            if "checkpoint" in description:
                _check(path, arrays, description)
                ordered = {name: arrays[name] for name in description["checkpoint"]["order"]}
                return Saved(path, ordered, description, damaged)
            damaged.append(f"{path} holds no checkpoint.")
        except FileNotFoundError:
            continue
        except (FileFormatError, UnreadableFileError) as error:
            damaged.append(str(error))
        except OSError as error:    # a disk that fails
            damaged.append(f"{path}: it cannot be read: {error.strerror or error}.")
    if damaged:
        raise FileFormatError(f"{folder} has no checkpoint that can be read. {' '.join(damaged)} Remove the folder to "
                              f"train anew.")
    return None


def write(folder: Path, arrays: Mapping[str, np.ndarray], description: Mapping[str, Any], before: Path | None,
          best: bool) -> Path:
    """Write the next checkpoint; of the others keep the one before it, and the best.

    Parameters
    ----------
    folder : pathlib.Path
    arrays, description
        As in ``saving.write``.
    before : pathlib.Path or None
        The last good one.
    best : bool
        Whether it is the best so far as well.

    Returns
    -------
    pathlib.Path
    """
    if best:  # first: what follows is written again if this process ends here, and this then, too
        saving.write(folder / BEST, arrays, description)
    numbered = _numbered(folder)
    path = folder / NAME.format(_number(numbered[-1]) + 1 if numbered else 1)
    if best:
        with replacing(path) as file:
            file.write((folder / BEST).read_bytes())
    else:
        saving.write(path, arrays, description)
    for old in numbered:
        if old != before and not old.is_dir():
            with writing(old):
                old.unlink()
    return path


def remove(folder: Path, all_of_them: bool) -> None:
    """Remove what interrupted writers left; if asked for, all checkpoints too, and the folder if it is empty then."""
    leftovers = [path for name in ("checkpoint-*", BEST) for path in folder.glob(f".{name}.*.part")]
    for path in [*leftovers, *([*_numbered(folder), folder / BEST] if all_of_them else [])]:
        with writing(path):
            path.unlink(missing_ok=True)
    if all_of_them and not any(folder.iterdir()):
        folder.rmdir()


# --- helpers -----------------------------------------------------------------------------------------------------


def _numbered(folder: Path) -> list[Path]:
    """Return the numbered checkpoints, the newest last."""
    found = [path for path in folder.glob("checkpoint-*.safetensors") if path.stem.rpartition("-")[2].isdecimal()]
    return sorted(found, key=_number)


def _number(path: Path) -> int:
    return int(path.stem.rpartition("-")[2])


def _check(path: Path, arrays: Mapping[str, np.ndarray], description: Mapping[str, Any]) -> None:
    """Refuse a file whose digest fits and whose content does not: it may be somebody else's."""
    remedy = "Use another copy."
    strict_json.check(description, _DESCRIPTION, str(path), remedy)
    saved = description["checkpoint"]
    for name in ("epoch", "batch", "images", "updates", "iterations"):
        if not 0 <= saved[name] < 2**63:
            raise FileFormatError(f"{path}: checkpoint.{name} is {saved[name]}; expected a number of at least 0 and "
                                  f"below 2**63. {remedy}")
    if sorted(saved["order"]) != sorted(arrays):
        raise FileFormatError(f"{path}: its arrays are not those it names; expected each once. {remedy}")
    try:
        model_file.check_values({name: array for name, array in arrays.items() if name.startswith((_WEIGHTS, _SLOTS))})
    except FileFormatError as error:
        raise FileFormatError(f"{path}: {error}") from None


def _check_fit(model: Any, own: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray],
               slots: Mapping[str, Mapping[str, np.ndarray]], saved: Mapping[str, Any]) -> None:
    """Compare a checkpoint with the model that is to go on from it."""
    places = {name: (array.shape, array.dtype) for name, array in own.items()}
    of_slots = dict.fromkeys(model.optimizer.slot_names())
    wrong = ""
    if places != {name: (array.shape, array.dtype) for name, array in found.items()}:
        wrong = "weights are not those of this network"
    elif len(saved["trainable"]) != len(model.layers):
        wrong = "layers are not those of this network"
    elif saved["optimizer"].keys() != model.optimizer.config().keys():
        wrong = "settings of the optimizer are not those of this one"
    elif any(kept.keys() != of_slots.keys() or (array.shape, array.dtype) != places.get(weight)
             for weight, kept in slots.items() for array in kept.values()):
        wrong = "arrays of what the optimizer remembers do not fit this network"
    if wrong:
        raise FileFormatError(f"The checkpoint's {wrong}. {_ANEW}")


def _slots(arrays: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    slots: dict[str, dict[str, np.ndarray]] = {}
    for name, array in _under(_SLOTS, arrays).items():
        weight, _, slot = name.rpartition("/")
        slots.setdefault(weight, {})[slot] = array.copy()
    return slots


def _has_state(callback: Callback) -> bool:
    return type(callback).get_state is not Callback.get_state


def _with_state(model: Any) -> dict[str, Any]:
    """Return the callbacks that have a state, under names that are the same in the training that goes on."""
    stateful = [one for one in model.fitting.listeners.callbacks if _has_state(one)]
    return {f"{number}-{type(one).__name__}": one for number, one in enumerate(stateful)}


def _pack(owner: str, state: Mapping[str, Any], arrays: dict[str, np.ndarray], numbers: dict[str, int]) -> None:
    """Sort a callback's state into arrays, of which texts are made, and whole numbers."""
    for key, value in state.items():
        name = f"{owner}/{key}"
        if isinstance(value, (bool, int)):
            numbers[name] = value
        elif isinstance(value, str):
            arrays[_TEXT + name] = np.frombuffer(value.encode(errors="surrogateescape"), np.uint8)
        else:
            array = np.asarray(value)
            if array.dtype.kind not in "fiu":
                raise ArgumentError(f"The state of {owner.partition('-')[2]} has {key}={value!r}; expected a whole "
                                    f"number, a string or an array of numbers. Correct its get_state.")
            arrays[_STATE + name] = array


def _unpack(owner: str, arrays: Mapping[str, np.ndarray], numbers: Mapping[str, int]) -> dict[str, Any]:
    texts = {key: array.tobytes().decode(errors="surrogateescape")
             for key, array in _under(f"{_TEXT}{owner}/", arrays).items()}
    # copies: a callback may change its state in place, and within an epoch it is given back twice
    states = {key: array.copy() for key, array in _under(f"{_STATE}{owner}/", arrays).items()}
    own = {name.removeprefix(f"{owner}/"): number for name, number in numbers.items() if name.startswith(f"{owner}/")}
    return own | texts | states


def _under(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _without_shape(config: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what a layer knows once it is built: the first training may have begun before, the second after."""
    return {key: value for key, value in config.items() if key != "input_shape"}


def _plain(value: Any) -> Any:
    """Return what stands in JSON for something JSON does not know."""
    if isinstance(value, np.ndarray):
        return saving.sha256_of({"": value})
    return value.item() if isinstance(value, np.generic) else getattr(value, "__name__", type(value).__name__)


def _flat(value: Any, name: str = "") -> list[tuple[str, Any]]:
    """Return the ends of nested dicts and lists, each under its path."""
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    ends = [end for key, inner in items for end in _flat(inner, f"{name}.{key}" if name else str(key))]
    return ends or [(name, value)]
