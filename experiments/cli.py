"""What the scripts' command lines share: options, help, and errors that are one sentence and exit status 2."""

from __future__ import annotations

import argparse
import functools
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import guard  # first: from here on Ctrl-C shows no traceback
from minicnn import kernels
from minicnn.errors import ArgumentError, MinicnnError, TrainingError
from minicnn.kernels.threads import set_threads

# Exit statuses, as shells and argparse have them; NOT_FINITE is our own.
BAD_USAGE, NOT_FINITE, INTERRUPTED, TERMINATED = 2, 3, 130, 143
LARGEST = 10**9  # of a number on a command line: more is a slip of the keyboard, and would be tried

Main = Callable[..., int]  # of argv, which is that of the process if left out


class Parser(argparse.ArgumentParser):
    """An argument parser that keeps the line breaks of its epilog and words an error in one sentence."""

    def __init__(self, description: str, examples: str) -> None:
        super().__init__(description=description, epilog=examples, allow_abbrev=False,
                         formatter_class=argparse.RawDescriptionHelpFormatter)

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage and leaving."""
        raise ArgumentError(f"{message.rstrip('.')}. Try --help: it says what is expected.")


def command(main: Main) -> Main:
    """Make a ``main(argv)`` return an exit status for every error a user can cause, with one message and no traceback.

    Parameters
    ----------
    main : callable
        Takes the arguments (None: those of the process) and returns an exit status.

    Returns
    -------
    callable
        The same, returning 3 after a TrainingError, 2 after any other MinicnnError or OSError, 130 after Ctrl-C, 143
        after SIGTERM.
    """
    @functools.wraps(main)
    def guarded(argv: Sequence[str] | None = None) -> int:
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="replace")  # a Windows console may lack a sign such as ±
        with guard.patient_streams() as output:
            try:
                with warnings.catch_warnings():
                    warnings.showwarning = _note
                    status = main(argv)
                output.flush()
                if not output.lost:
                    return status
                print(f"error: what was to be read here could not be written: {output.lost}; files are as they should "
                      f"be. Make room on the disk.", file=sys.stderr)
                return status or BAD_USAGE
            except (MinicnnError, OSError) as error:
                print(f"error: {_sentence(error)}", file=sys.stderr)
                return NOT_FINITE if isinstance(error, TrainingError) else BAD_USAGE
            except KeyboardInterrupt as error:
                print("\nInterrupted.", file=sys.stderr)
                return TERMINATED if isinstance(error, guard.Terminated) else INTERRUPTED
    return guarded


def _sentence(error: MinicnnError | OSError) -> str:
    """Word an error; the library's own say all there is to say, the system's not what to do."""
    place = getattr(error, "filename", None)
    if place is not None and isinstance(error, FileNotFoundError):
        return f"there is no file {str(place)!r}. Correct the path."
    if place is not None and isinstance(error, (IsADirectoryError, PermissionError)) and Path(place).is_dir():
        return f"{str(place)!r} is a folder; expected a file. Name one in it."    # PermissionError: on Windows
    return str(error)


def _note(message: Warning | str, *_: Any, **__: Any) -> None:
    """Show a warning as one line, without the place in the code that gave it."""
    print(f"note: {message}", file=sys.stderr)


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add what decides a training, beside recipe, seed and place."""
    parser.add_argument("--epochs", type=positive, metavar="N",
                        help="passes over the training images (default: the recipe's)")
    parser.add_argument("--full", action="store_true",
                        help="the recipe's long training, where it has one: all its epochs, with augmentation")
    parser.add_argument("--batch-size", type=positive, metavar="N", help="images in a step (default: the recipe's)")
    parser.add_argument("--limit", type=positive, metavar="N", help="use only the first N training images")
    parser.add_argument("--data", metavar="mnist|csv|strokes|DIR|FILE",
                        help="MNIST; the same by way of CSV files; digits drawn by the program; a folder of four IDX "
                             "files; or a CSV file with the label first (default: the recipe's)")


def add_machine_options(parser: argparse.ArgumentParser) -> None:
    """Add what changes the speed and never the result."""
    parser.add_argument("--threads", type=positive, metavar="N", help="threads to compute on (default: all cores)")
    parser.add_argument("--kernels", choices=kernels.SETS,
                        help="fast (Numba, the default) or reference (plain NumPy, to be read and edited)")


def apply_machine_options(options: argparse.Namespace) -> None:
    """Set threads and kernels, where the command line names any."""
    if options.threads is not None:
        set_threads(options.threads)
    if options.kernels is not None:
        kernels.use(options.kernels)


def command_line(script: str, recipe: str, options: argparse.Namespace, names: Sequence[str]) -> str:
    """Return the command that repeats a run of a recipe, with those of the named options that were given."""
    parts = [f"python experiments/{script}.py", recipe, *(["--full"] if options.full else [])]
    for name in names:
        value = getattr(options, name)
        parts += [f"--{name.replace('_', '-')}" + ("" if value is True else f" {value}")] if value is not None else []
    return " ".join(parts)


def positive(text: str) -> int:
    """Read a whole number of at least 1."""
    return _whole_number(text, 1)


def seed(text: str) -> int:
    """Read a whole number of at least 0."""
    return _whole_number(text, 0)


def _whole_number(text: str, least: int) -> int:
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else -1
    if not least <= number <= LARGEST:
        shown = text if len(text) <= 40 else f"{text[:37]}..."
        raise argparse.ArgumentTypeError(f"got {shown!r}; expected a whole number of at least {least} and at most "
                                         f"{LARGEST:,}")
    return number
