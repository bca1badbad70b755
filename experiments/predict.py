"""Let a trained network read digits: Kaggle's test.csv, for a submission; or pictures, with its probabilities."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path

import cli  # first: from here on Ctrl-C shows no traceback

# isort: split
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

import folder
import photos
import tables
from digits import scaled
from minicnn import visualize
from minicnn.errors import ArgumentError, DataError, FileFormatError, ShapeError
from minicnn.files import replacing
from minicnn.models import Sequential, load_model
from minicnn.visualize.drawing import counted, percent

MODEL = "model.safetensors"
NAME = 17  # signs of a file's name that fit below its picture
EXAMPLES = """examples:
  python experiments/predict.py runs/cnn-1 test.csv --out submission.csv    for Kaggle: ImageId,Label
  python experiments/predict.py runs/cnn-1 seven.jpg                        a photo of one digit
  python experiments/predict.py runs/cnn-1 photos/ --prepared seen.png      all pictures of a folder, and how the
                                                                            network sees them
  python experiments/predict.py runs/cnn-1 photos/ --out photos.csv         the same in a file, with all probabilities

A picture shows one digit, dark on light paper or light on dark. It is prepared as MNIST's images were: grey, bright on
dark, cropped, scaled to 20 x 20 pixels, its centre of mass in the middle of 28 x 28."""


def build_parser() -> cli.Parser:
    """Return the parser of this script."""
    parser = cli.Parser(description=__doc__, examples=EXAMPLES)
    parser.add_argument("run", metavar="RUN", help=f"a folder that experiments/train.py wrote, or a {MODEL}")
    parser.add_argument("input", metavar="INPUT", type=Path,
                        help="a CSV file such as test.csv, a picture (PNG, JPEG, ...), or a folder of pictures")
    parser.add_argument("--out", metavar="FILE.csv", type=Path,
                        help="where the answers go (default: submission.csv for a CSV file, the screen for pictures)")
    parser.add_argument("--prepared", metavar="FILE.png", type=Path,
                        help="draw the pictures as the network sees them")
    cli.add_machine_options(parser)
    return parser


@cli.command
def main(argv: Sequence[str] | None = None) -> int:
    """Read, predict, write; return the exit status."""
    options = build_parser().parse_args(argv)
    cli.apply_machine_options(options)
    place = options.input.expanduser()
    for path in (options.out, options.prepared):
        if path is not None and not path.expanduser().parent.is_dir():
            raise ArgumentError(f"there is no folder {path.parent} to write {path.name} to; expected one that exists. "
                                "Make it first.")
        if path is not None and path.expanduser().is_dir():
            raise ArgumentError(f"{path} is a folder; expected the name of a file to write. Name one in it.")
    model = load(options.run)
    if place.is_dir() or place.suffix.lower() in photos.ENDINGS:
        return read_pictures(model, place, options.out, options.prepared)
    if options.prepared is not None:
        raise ArgumentError("--prepared is for pictures; a CSV file holds images as the network sees them; expected "
                            "pictures. Leave it out.")
    submit(model, place, options.out or Path("submission.csv"))
    return 0


def load(chosen: str) -> Sequential:
    """Read the network of a run.

    Raises
    ------
    ArgumentError
        If there is none.
    """
    path = Path(chosen).expanduser()
    path = path / MODEL if path.is_dir() else path
    if not path.is_file():
        raise ArgumentError(f"{chosen!r} is neither a model file nor a folder with {MODEL}; expected "
                            "one of them. Name what "
                            "experiments/train.py wrote, such as runs/cnn-1.")
    return load_model(path, compile=False)


def probabilities(model: Sequential, x: NDArray[np.uint8]) -> NDArray:
    """Return what the network says of images (N, H, W): (N, K).

    Raises
    ------
    ShapeError
        If it was made for images of another size.
    DataError
        If it says NaN.
    """
    if model.input_shape is not None and model.input_shape[1:] not in ((*x.shape[1:], 1), x.shape[1:]):
        raise ShapeError(f"the network takes images of shape {model.input_shape[1:]}, these are of {x.shape[1:]}; "
                         "expected the former. Take one that was trained on such images.")
    said = model.predict(scaled(x), batch_size=512, verbose=0)
    if not np.isfinite(said).all():
        raise DataError("the network's answers are NaN or infinite: its training went wrong. Take another run.")
    return said


# --- a table -----------------------------------------------------------------------------------------------------

def submit(model: Sequential, path: Path, out: Path) -> None:
    """Predict the images of a CSV file and write the submission."""
    from minicnn.datasets import kaggle  # only now: pictures need no pandas
    x, y = kaggle.read_csv(path)
    said = probabilities(model, x)
    digits = said.argmax(axis=1)
    kaggle.write_submission(out.expanduser(), digits)
    print(f"Written to {out}: {len(x):,} rows, ImageId 1 to {len(x):,}.\n"
          f"  label  {'  '.join(f'{digit:>6}' for digit in range(10))}\n"
          f"  images {'  '.join(f'{count:>6,}' for count in np.bincount(digits, minlength=10))}\n"
          f"It is at least 99 % sure of {percent(float((said.max(axis=1) >= 0.99).mean()))} of them.")
    if len(x) != kaggle.TEST_ROWS:
        print(f"note: Kaggle's test.csv has {kaggle.TEST_ROWS:,} rows, and a submission must have as many.",
              file=sys.stderr)
    if y is not None:
        print(f"note: {path.name} has labels; they were not looked at.", file=sys.stderr)


# --- pictures ----------------------------------------------------------------------------------------------------

def read_pictures(model: Sequential, place: Path, out: Path | None, prepared: Path | None) -> int:
    """Predict one picture or those of a folder; return the exit status.

    In a folder, pictures that cannot be read are named, and the others predicted.
    """
    paths, images = [], []
    for path in photos.files(place):
        try:
            images.append(photos.read(path))
            paths.append(path)
        except (DataError, FileFormatError) as error:
            if not place.is_dir():
                raise
            print(f"error: {error}", file=sys.stderr)
    if not images:
        raise DataError(f"no picture in {place} can be read; expected PNG or JPEG files of one digit each.")
    x = np.stack(images)
    said = probabilities(model, x)
    print(table(paths, said), flush=True)
    if out is not None:
        write_table(out.expanduser(), paths, said)
        print(f"\nWritten to {out}.")
    if prepared is not None:
        folder.save_figure(seen(place, paths, x, said), prepared.expanduser())
        print(f"\nDrawn in {prepared}.")
    return 0 if len(images) == len(photos.files(place)) else cli.BAD_USAGE


def seen(place: Path, paths: Sequence[Path], x: NDArray[np.uint8], said: NDArray) -> Figure:
    """Draw the pictures as they were prepared, each with its name and what it is taken for."""
    captions = [f"{_shortened(path.name)}\n{shares.argmax()}, {percent(float(shares.max()))} sure"
                for path, shares in zip(paths, said)]
    what = f"{counted(len(x), 'picture')} of {place.name}" if place.is_dir() else place.name
    them = "it" if len(x) == 1 else "them"
    return visualize.first_images(x, limit=len(x), columns=6, captions=captions,
                                  title=f"{what} as the network sees {them}, and what it takes {them} for")


def _shortened(name: str) -> str:
    """Cut a name that is too wide for its picture."""
    return name if len(name) <= NAME else f"{name[:NAME - 8]}…{name[-7:]}"


def table(paths: Sequence[Path], said: NDArray) -> str:
    """Return a line a picture: what it is taken for, and the probability of every class."""
    rows = [[path.name, str(shares.argmax()), percent(float(shares.max())), *map(percent, shares.tolist())]
            for path, shares in zip(paths, said)]
    return tables.plain(["picture", "digit", "sure", *(f"{k}:" for k in range(said.shape[1]))], rows)


def write_table(out: Path, paths: Sequence[Path], said: NDArray) -> None:
    """Write the same to a CSV file; the whole file or nothing."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", "label", *(f"probability_{k}" for k in range(said.shape[1]))])
    for path, shares in zip(paths, said):
        writer.writerow([path.name, int(shares.argmax()), *(f"{share:.6f}" for share in shares.tolist())])
    with replacing(out) as file:
        file.write(text.getvalue().encode())


if __name__ == "__main__":
    sys.exit(main())
