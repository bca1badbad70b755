"""Going on with a run that was interrupted: what it was told, and that it is told nothing else."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import runs
from minicnn import checkpoint, kernels
from minicnn.callbacks import BackupAndRestore
from minicnn.errors import ArgumentError

FOLDER = "backup"   # in that of a run
NAMES = {"recipe": "recipe", "full": "--full", "data": "--data", "limit": "--limit", "batch_size": "--batch-size",
         "seed": "--seed", "kernels": "--kernels"}


def backup(run: runs.Run, place: Path) -> BackupAndRestore:
    """Return the callback that saves a run, with all that its command line decided."""
    told = {"recipe": run.recipe.name, "full": run.full, "data": run.digits.source, "limit": run.digits.limit,
            "batch_size": run.batch_size, "seed": run.seed, "kernels": kernels.active(), "epochs": run.epochs}
    return BackupAndRestore(place / FOLDER, delete_checkpoint=False, note=told)


def fill_in(options: argparse.Namespace) -> Path:
    """Give a command line with ``--resume`` the options of its run; return the run's folder.

    Raises
    ------
    ArgumentError
        If there is nothing to go on from, or an option is another than the run's. More epochs are none.
    FileFormatError
        If no checkpoint can be read.
    """
    place = Path(options.resume).expanduser()
    saved = checkpoint.newest(place / FOLDER)
    if saved is None:
        raise ArgumentError(f"--resume got {options.resume!r}, which has no checkpoint in a folder {FOLDER!r}. Name "
                            "the folder of a run that experiments/train.py began, such as runs/cnn-1.")
    told = saved.description["note"]
    if missing := [name for name in (*NAMES, "epochs") if name not in told]:
        raise ArgumentError(f"--resume got {options.resume!r}, whose checkpoints do not say its {missing[0]}: it was "
                            "not begun by experiments/train.py. Name the folder of a run that was.")
    different = [f"{words} was {told[name]}, is {given}" for name, words in NAMES.items()
                 if (given := _given(options, name, told)) != told[name]]
    if options.out is not None:
        different.append(f"--out is {options.out}: the run stays where it is")
    if different:
        raise ArgumentError(f"--resume {options.resume} goes on with the run as it was, and this is another: "
                            f"{'; '.join(different)}. Leave these options out, or train anew without --resume.")
    done = saved.description["checkpoint"]["epoch"]
    if options.epochs is not None and options.epochs < done:
        raise ArgumentError(f"--epochs got {options.epochs}, but {done} epochs of {options.resume} are done. Give at "
                            "least as many.")
    for name in (*NAMES, "epochs"):
        if not getattr(options, name):
            setattr(options, name, told[name])
    kernels.use(options.kernels)
    return place


def _given(options: argparse.Namespace, name: str, told: dict[str, Any]) -> Any:
    """Return what the command line says, or what the run was told if it says nothing."""
    given = getattr(options, name)
    if name == "data" and given is not None and Path(given).expanduser().exists():
        given = str(Path(given).expanduser().resolve())
    return told[name] if given is None or given is False else given
