"""Look at a table of digits before training on it: what is in it, what is missing, what is there twice."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import cli  # first: from here on Ctrl-C shows no traceback

# isort: split
import numpy as np
from numpy.typing import NDArray

import digits
import folder
import tables
from minicnn import visualize
from minicnn.datasets import kaggle
from minicnn.datasets.duplicates import repeated
from minicnn.errors import DataError
from minicnn.visualize.drawing import counted

CONTENTS = {
    "explore.txt": "what is printed here",
    "samples.png": "the first images, of each class if there are labels",
    "means.png": "the mean image of each class",
}
LISTED = 20  # rows or groups of rows named one by one
EXAMPLES = """examples:
  python experiments/explore.py train.csv                        Kaggle's training images
  python experiments/explore.py digit-recognizer.zip/test.csv    one file of Kaggle's archive; there are no labels
  python experiments/explore.py mnist_train.csv.gz --out look    pictures and text in a folder of that name

A row with a missing or wrong cell is reported, and then left out."""


def build_parser() -> cli.Parser:
    """Return the parser of this script."""
    parser = cli.Parser(description=__doc__, examples=EXAMPLES)
    parser.add_argument("file", type=Path, metavar="FILE",
                        help="a CSV file, plain, gzipped or zipped: one row an image, the label first if there is one")
    parser.add_argument("--out", metavar="DIR", help="where to write (default: the next runs/explore-<n>)")
    return parser


@cli.command
def main(argv: Sequence[str] | None = None) -> int:
    """Read, print, draw; return the exit status."""
    options = build_parser().parse_args(argv)
    folder.refuse_taken(options.out)
    path = options.file.expanduser()
    found = kaggle.examine(path)
    good = np.delete(np.arange(len(found.x)), [fault.row for fault in found.faults])
    x, y = found.x[good], None if found.y is None else found.y[good]
    text = "\n".join([*overview(path, found), *(beyond_the_cells(path, x, y, good) if len(good) else [])])
    print(text, flush=True)
    place = folder.make(options.out, "explore")
    try:
        folder.save_text(place / "explore.txt", f"{text}\n")
        if len(good):
            draw(place, path, x, y)
    finally:
        folder.remove_if_empty(place)
    print(f"\nWritten to {place}:\n{folder.list_contents(place, CONTENTS)}")
    return 0


def overview(path: Path, found: kaggle.Examined) -> list[str]:
    """Say what the file is made of, and which of its cells are missing or wrong."""
    names, (N, H, W) = found.layout.names, found.x.shape
    labels = "with labels" if found.layout.labelled else "without labels"
    header = f"{names[0]!r} to {names[-1]!r}" if found.layout.header else "without a header"
    lines = [f"{path.name}: {counted(N, 'image')} of {H} x {W} pixels, {labels}", "",
             f"Columns     {len(names)}: {header}"]
    missing = [(fault, fault.missing) for fault in found.faults if fault.missing]
    if not missing:
        lines.append("Missing     nothing")
    else:
        cells, columns = sum(len(cells) for _, cells in missing), {cell for _, cells in missing for cell in cells}
        lines.append(f"Missing     {counted(cells, 'cell')} in {counted(len(missing), 'row')}, in "
                     f"{counted(len(columns), 'column')}: {ranges(columns, names)}")
        lines += listed([f"row {fault.row} (line {fault.line} of the file): {counted(len(cells), 'cell')}, "
                         f"{ranges(cells, names)}" for fault, cells in missing])
    wrong = [fault for fault in found.faults if fault.wrong or fault.surplus]
    if wrong:
        lines.append(f"Wrong       {counted(len(wrong), 'row')} with something else than whole numbers from 0 to 255")
        lines += listed([f"row {fault.row} (line {fault.line} of the file): {_wrong(fault, names)}" for fault in wrong])
    if found.faults:
        left_out = "row is" if len(found.faults) == 1 else f"{len(found.faults):,} rows are"
        lines.append(f"            The {left_out} left out of all that follows.")
    return lines


def beyond_the_cells(path: Path, x: NDArray[np.uint8], y: NDArray[np.uint8] | None, rows: NDArray) -> list[str]:
    """Say what the images are like; ``rows`` are their numbers in the file."""
    flat = x.reshape(len(x), -1)
    constant = int((flat == flat[0]).all(axis=0).sum())
    values, shares = np.arange(256), np.zeros(256)
    for image in flat:  # one by one: whole numbers of 64 bits would take eight times the room of the file
        shares += np.bincount(image, minlength=256) / x.size
    mean = float(shares @ values)
    deviation = float(shares @ (values - mean) ** 2) ** 0.5
    lines = [f"Pixels      {flat.min()} to {flat.max()}; mean {mean:.2f} ({100 * mean / 255:.1f} % of full ink), "
             f"standard deviation {deviation:.2f}",
             f"            {100 * shares[0]:.1f} % of them are 0; {constant} of {flat.shape[1]} places are the same in "
             "every image"]
    lines += same_images(x, y, rows)
    return lines if y is None else [*lines, *across(path, x, y), "", class_table(x, y)]


def same_images(x: NDArray[np.uint8], y: NDArray[np.uint8] | None, rows: NDArray) -> list[str]:
    """Say which images are there more than once, and whether they have the same label."""
    groups = repeated(x)
    if not groups:
        return ["Repeated    no image is there twice"]
    lines = [f"Repeated    {counted(sum(map(len, groups)), 'image')} in {counted(len(groups), 'group')} of the same "
             "pixels"]
    lines += listed([f"rows {', '.join(map(str, rows[group]))}"
                     + ("" if y is None else f" (label{'' if len(set(y[group])) == 1 else 's differ:'} "
                        f"{', '.join(map(str, dict.fromkeys(y[group].tolist())))})") for group in groups])
    return lines


def across(path: Path, x: NDArray[np.uint8], y: NDArray[np.uint8]) -> list[str]:
    """Say which images are in two parts of the split that training makes."""
    try:
        data = digits.of_table(path, x, y)
    except DataError as error:
        return [f"Split       {error}"]
    seen = data.repeated
    return [f"Split       as experiments/train.py does: {len(data.trained):,} to train on, {data.validation:,} for "
            f"validation, {len(data.x_test):,} to test on{'' if data.own_test else f' ({data.name})'}",
            f"            {seen['validation']:,} validation and {seen['test']:,} test images are among those trained "
            "on, too"]


def class_table(x: NDArray[np.uint8], y: NDArray[np.uint8]) -> str:
    """Return how many images of each class there are, and how much ink they have."""
    rows = []
    for label in np.unique(y):
        images = x[y == label]
        rows.append([str(label), f"{len(images):,}", f"{100 * len(images) / len(x):.1f}",
                     f"{100 * images.mean() / 255:.1f}"])
    return tables.plain(["label", "images", "share %", "ink %"], rows)


def draw(place: Path, path: Path, x: NDArray[np.uint8], y: NDArray[np.uint8] | None) -> None:
    """Write the pictures."""
    of = f"images of {path.name}"
    if y is None:
        folder.save_figure(visualize.first_images(x, of=of), place / "samples.png")
        return
    folder.save_figure(visualize.sample_grid(x, y, of=of), place / "samples.png")
    folder.save_figure(visualize.mean_images(x, y, of=of), place / "means.png")


def ranges(numbers: Iterable[int], names: Sequence[str]) -> str:
    """Write numbers of columns as runs: ``313 ('pixel312') to 784 ('pixel783')``."""
    ordered = sorted(numbers)
    ends = [k for k in range(len(ordered)) if k + 1 == len(ordered) or ordered[k + 1] != ordered[k] + 1]
    starts = [0, *(end + 1 for end in ends[:-1])]
    runs = [(ordered[start], ordered[end]) for start, end in zip(starts, ends)]
    shown = [f"{first} ({names[first]!r})" + (f" to {last} ({names[last]!r})" if last > first else "")
             for first, last in runs[:LISTED]]
    return ", ".join(shown) + (f" and {counted(len(runs) - LISTED, 'other')}" if len(runs) > LISTED else "")


def listed(lines: Sequence[str]) -> list[str]:
    """Indent lines, and count those beyond the first few."""
    shown = [f"              {line}" for line in lines[:LISTED]]
    return shown + ([f"              and {len(lines) - LISTED:,} more"] if len(lines) > LISTED else [])


def _wrong(fault: kaggle.Fault, names: Sequence[str]) -> str:
    cells = [f"{text!r} in column {column} ({names[column]!r})" for column, text in fault.wrong[:LISTED]]
    if len(fault.wrong) > LISTED:
        cells.append(f"{len(fault.wrong) - LISTED} more")
    if fault.surplus:
        cells.append(f"{counted(fault.surplus, 'cell')} more than columns")
    return ", ".join(cells)


if __name__ == "__main__":
    sys.exit(main())
