"""The folder of a run: made before the training, filled after it, read for a report."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

import digits
import pictures
from minicnn import saving, strict_json
from minicnn.errors import ArgumentError, DataError, FileFormatError
from minicnn.files import make_folder, open_to_read, replacing, writing
from minicnn.models import load_model
from runs import Run, Score

CONTENTS = {
    **{name: pictures.PICTURES[name].what for name in pictures.OF_A_TRAINING},
    "history.csv": "the curves as numbers",
    "result.json": "accuracy, seed, data, versions, machine",
    "predictions.safetensors": "the probabilities of every test image, and its label",
    "checkpoint.safetensors": "the network as it was after its best epoch on the validation images",
    "backup": "checkpoints: experiments/train.py --resume goes on from the last",
    "model.safetensors": "the network at the end: minicnn.models.load_model(...)",
}
DPI = 130
AGAIN = "Use another copy, or train anew."
_OTHERS = {strict_json.OTHERS: None}
# What of result.json the comparison of two runs reads, and what the report of one.
COMPARED: dict[str, Any] = {
    "test_data": str, "data": {"sha256": {"x_test": str, "y_test": str} | _OTHERS} | _OTHERS} | _OTHERS
RESULT: dict[str, Any] = {
    "command": str, "recipe": str, "full": bool, "seed": int, "parameters": int, "batch_size": int,
    "epochs_planned": int, "epochs": int, "epoch_kept": (int, type(None)), "interrupted": bool,
    "weights_sha256": str, "test_data": str, "seconds_per_epoch": [float], "history": dict, "versions": dict,
    "data": {"name": str, "training_images": int, "validation_images": int, "test_images": int,
             "fallback": (str, type(None)), "own_test": bool, "repeated": {"validation": int, "test": int},
             "sha256": {"x_test": str, "y_test": str} | _OTHERS} | _OTHERS,
    "training": {"optimizer": dict, "loss": str, "callbacks": [dict], "augmentation": (dict, type(None)),
                 "validation": float} | _OTHERS,
    "machine": {"processor": str, "threads": int, "kernels": str, "system": str} | _OTHERS,
    "data_from": {"source": str, "limit": (int, type(None))}} | _OTHERS


def refuse_taken(chosen: str | None) -> None:
    """Refuse an ``--out`` that is a file, or a folder with something in it.

    Raises
    ------
    ArgumentError
    """
    path = None if chosen is None else Path(chosen).expanduser()
    if path is not None and path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise ArgumentError(f"--out got {chosen!r}, which exists and is not an empty folder; expected a new or "
                            "empty one. Name another, or remove it; no run is overwritten.")


def make(chosen: str | None, recipe: str) -> Path:
    """Create the folder of a run.

    Parameters
    ----------
    chosen : str or None
        ``--out``: the folder itself; it may exist if it is empty.
    recipe : str
        Without ``chosen``: the first of ``runs/<recipe>-1``, ``-2``, ... that is free, safe against a second run
        that starts at the same time.

    Returns
    -------
    pathlib.Path
    """
    if chosen is not None:
        refuse_taken(chosen)
        folder = Path(chosen).expanduser()
        make_folder(folder)
        return folder
    return first_free(Path("runs"), recipe)


def first_free(parent: Path, name: str) -> Path:
    """Create and return the first of ``name-1``, ``name-2``, ... that is not there yet."""
    n = 1
    while True:
        folder = parent / f"{name}-{n}"
        with writing(folder):
            try:
                folder.mkdir(parents=True)
                return folder
            except FileExistsError:
                n += 1


def remove_if_empty(folder: Path) -> None:
    """Take back a folder nothing was written to."""
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def save_training(folder: Path, run: Run) -> None:
    """Write what training left: the model first, for it cannot be had again, and the history."""
    run.model.save(folder / "model.safetensors")
    history = run.recorder.history
    columns = ["epoch", *history, "seconds"]
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    for epoch, seconds in enumerate(run.recorder.seconds):
        writer.writerow([epoch + 1, *(f"{values[epoch]:.6g}" for values in history.values()), f"{seconds:.2f}"])
    save_text(folder / "history.csv", text.getvalue())


def save_result(folder: Path, run: Run, score: Score, command: str) -> None:
    """Write accuracy, predictions and pictures; ``command`` is what repeats the run."""
    origin = {"source": run.digits.source, "limit": run.digits.limit}
    save_json(folder / "result.json", {"command": command} | run.record() | score.record() | {"data_from": origin})
    saving.write(folder / "predictions.safetensors",
                 {"probabilities": score.probabilities, "labels": run.digits.y_test}, {})
    material = pictures.Material(score, run.recorder.history, run.model, run.kept)
    for name in pictures.OF_A_TRAINING:
        if pictures.PICTURES[name].can_be_drawn(material):
            save_figure(pictures.PICTURES[name].draw(material), folder / name)


@dataclass(frozen=True)
class Saved:
    """What the folder of a run holds.

    Attributes
    ----------
    place : pathlib.Path
    result : dict
        ``result.json``.
    probabilities : ndarray, shape (N, K)
        Of the test images.
    labels : ndarray of int, shape (N,)
        Theirs.
    """

    place: Path
    result: dict[str, Any]
    probabilities: NDArray[np.float32]
    labels: NDArray[np.uint8]

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether each test image was read right, (N,)."""
        return np.asarray(self.probabilities.argmax(axis=1) == self.labels)

    def material(self, digit: int = 0) -> pictures.Material:
        """Load images and network, for pictures; ``digit`` is the number of a test image to look at more closely.

        Raises
        ------
        DataError
            If the images are no longer those of the run.
        ArgumentError
            If there is no such digit, or the data are gone.
        """
        origin = self.result["data_from"]
        data = digits.load(origin["source"], allow_fallback=False).limited(origin["limit"])
        data = data.holding_out(self.result["training"]["validation"])
        if data.record()["sha256"] != self.result["data"]["sha256"]:
            raise DataError(f"the images of {origin['source']} are not those that {self.place} was trained and tested "
                            "on: their SHA-256 differ. Put the old ones back, or train anew.")
        if digit >= len(self.labels):
            raise ArgumentError(f"--digit got {digit}; expected the number of a test image, 0 to "
                                f"{len(self.labels) - 1}.")
        return pictures.Material(Score(data, self.probabilities), self.result["history"],
                                 load_model(self.place / "model.safetensors"),
                                 self.result["epoch_kept"], digit)


def read(chosen: str, expected: Any = RESULT) -> Saved:
    """Read the folder of a run, whose result.json must have what is expected.

    Raises
    ------
    ArgumentError
        If it is none.
    FileFormatError
        If a file in it is damaged.
    """
    place = Path(chosen).expanduser()
    missing = [name for name in ("result.json", "predictions.safetensors", "model.safetensors")
               if not (place / name).is_file()]
    if missing:
        raise ArgumentError(f"{chosen!r} is no folder of a run that ended: it lacks {', '.join(missing)}; expected a "
                            "whole one. Name one "
                            "that experiments/train.py wrote, such as runs/cnn-1.")
    result = read_json(place / "result.json", expected)
    if "history" in expected:
        curves = {key: [float] for key in result["history"]}
        strict_json.check(result["history"], curves, str(place / "result.json"), AGAIN, "history")
    arrays, _ = saving.read(place / "predictions.safetensors")
    shapes = {name: array.shape for name, array in arrays.items()}
    if shapes.keys() != {"probabilities", "labels"} or shapes["labels"] != shapes["probabilities"][:1] or (
            len(shapes["probabilities"]) != 2):
        raise FileFormatError(f"{place / 'predictions.safetensors'}: found the arrays {shapes}; expected "
                              "'probabilities' (N, K) and 'labels' (N,). Train anew.")
    return Saved(place, result, arrays["probabilities"], arrays["labels"])


def read_json(path: Path, expected: Any) -> Any:
    """Read a JSON file of ours and compare it with what it should hold, see ``strict_json.check``.

    Raises
    ------
    FileFormatError
        If it is damaged, or lacks something.
    """
    with open_to_read("read_json", path) as file:
        result = strict_json.loads(file.read(strict_json.MOST_BYTES + 1), str(path), AGAIN)
    strict_json.check(result, expected, str(path), AGAIN)
    return result


def save_json(path: Path, value: Any) -> None:
    """Write JSON to be read by people too, in one step: a reader never sees half of it."""
    save_text(path, json.dumps(value, indent=2) + "\n")


def save_text(path: Path, text: str) -> None:
    """Write a text, whole or not at all."""
    with replacing(path) as file:
        file.write(text.encode())


def list_contents(folder: Path, contents: Mapping[str, str] = CONTENTS) -> str:
    """Name the files there are, with what each is."""
    return "\n".join(f"  {name:<24} {what}" for name, what in contents.items() if (folder / name).exists())


def save_figure(figure: Figure, path: Path) -> None:
    """Write a picture, whole or not at all."""
    with replacing(path) as file:
        figure.savefig(file, dpi=DPI, format=path.suffix.removeprefix(".") or None)
