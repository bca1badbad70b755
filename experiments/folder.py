"""The folder of a run: made before the training, filled after it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from minicnn import visualize
from minicnn.errors import ArgumentError
from minicnn.statistics import confusion_matrix
from runs import Run, Score

CONTENTS = {
    "curves.png": "loss and accuracy, epoch by epoch",
    "confusion.png": "which class was taken for which, and how often",
    "samples.png": "what the training images look like",
    "mistakes.png": "the test images it got wrong, with its probabilities",
    "history.csv": "the curves as numbers",
    "result.json": "accuracy, seed, data, versions, machine",
    "model.safetensors": "the network: minicnn.models.load_model(...)",
}
DPI = 130


def refuse_taken(chosen: str | None) -> None:
    """Refuse an ``--out`` that is a file, or a folder with something in it.

    Raises
    ------
    ArgumentError
    """
    path = None if chosen is None else Path(chosen).expanduser()
    if path is not None and path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise ArgumentError(f"--out got {chosen!r}, which exists and is not an empty folder. Name another, or remove "
                            "it; no run is overwritten.")


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
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    n = 1
    while True:
        folder = Path("runs") / f"{recipe}-{n}"
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
    with open(folder / "history.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for epoch, seconds in enumerate(run.recorder.seconds):
            writer.writerow([epoch + 1, *(f"{values[epoch]:.6g}" for values in history.values()), f"{seconds:.2f}"])


def save_result(folder: Path, run: Run, score: Score) -> None:
    """Write accuracy and pictures."""
    save_json(folder / "result.json", run.record() | score.record())
    digits = run.digits
    matrix = confusion_matrix(digits.y_test, score.predicted, digits.classes)
    _save(visualize.confusion_matrix(matrix, of=score.what), folder / "confusion.png")
    _save(visualize.mistakes(digits.x_test, digits.y_test, score.probabilities, of=score.what), folder / "mistakes.png")
    _save(visualize.sample_grid(digits.x_train, digits.y_train, of=f"{digits.name} training images"),
          folder / "samples.png")
    if run.recorder.seconds:
        _save(visualize.training_curves(run.recorder.history), folder / "curves.png")


def save_json(path: Path, value: Any) -> None:
    """Write JSON to be read by people too, in one step: a reader never sees half of it."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    part.replace(path)


def list_contents(folder: Path) -> str:
    """Name the files there are, with what each is."""
    return "\n".join(f"  {name:<18} {what}" for name, what in CONTENTS.items() if (folder / name).exists())


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=DPI)
