"""Measure the corpus of bad input: the seconds and the memory of each file and call, in a process of its own.

    python tests/corpus_times.py            the slowest and the largest, and how many there are of each kind
    python tests/corpus_times.py --damage   also all 255 other values of every byte of a model file, and every cut

The suite asserts message, exit status and memory; it asserts no times.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import io
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "experiments"))

import corpus
import folder
from corpus.model_files import good
from memory import peak_above
from minicnn import kernels, load_model
from minicnn.errors import FileFormatError, MinicnnError


def refused(case: corpus.Case, given: object) -> bool:
    """Enter by the door, and tell whether the input was refused as it should be."""
    try:
        return bool(case.door.enter(given) == 2)
    except (MinicnnError, Warning):
        return True


def measure(case: corpus.Case) -> tuple[float, int, bool]:
    """Return the seconds, the bytes above the state before, and whether the input was refused."""
    outcome: list[bool] = []
    with tempfile.TemporaryDirectory() as place, contextlib.chdir(place), contextlib.redirect_stderr(io.StringIO()):
        (Path(place) / "here").mkdir()
        given = case.make(Path(place) / "here")
        begin = time.perf_counter()
        outcome.append(refused(case, given))
        seconds = time.perf_counter() - begin
        taken = peak_above(lambda: outcome.append(refused(case, given)))
    return seconds, taken, all(outcome)


def damage() -> tuple[int, int]:
    """Return how many damaged files were tried, and how many found: every other value of every byte, every cut."""
    whole, found, tried = good(), 0, 0
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "m.safetensors"
        for content in (*(whole[:size] for size in range(len(whole))),
                        *(whole[:at] + bytes([value]) + whole[at + 1:] for at in range(len(whole))
                          for value in range(256) if value != whole[at])):
            path.write_bytes(content)
            tried += 1
            try:
                load_model(path)
            except FileFormatError:
                found += 1
    return tried, found


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; return 1 if something was not refused."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--damage", action="store_true", help="also damage every byte of a model file")
    options = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    kernels.use("reference")
    folder.save_figure = lambda figure, path: path.touch()
    cases = corpus.every()
    measure(cases[0])  # what is imported and kept once does not count
    rows = [(*measure(case), case) for case in cases]
    kinds = collections.Counter(case.kind for case in cases)
    print(f"{sum(row[2] for row in rows)} of {len(rows)} refused ("
          + ", ".join(f"{kind} {count}" for kind, count in kinds.items()) + ")")
    for column, unit, scale in ((0, "s", 1.0), (1, "MiB", 2.0**20)):
        print(f"most {unit}:")
        for row in sorted(rows, key=lambda row: -row[column])[:5]:
            print(f"  {row[column] / scale:7.3f} {unit}  {row[3]}")
    good_so_far = all(row[2] for row in rows)
    if options.damage:
        tried, found = damage()
        print(f"{found:,} of {tried:,} damaged model files found")
        good_so_far &= tried == found
    return 0 if good_so_far else 1


if __name__ == "__main__":
    os.environ.setdefault("MINICNN_THREADS", "1")
    sys.exit(main())
