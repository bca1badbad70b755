"""Pictures of digits, made into images like MNIST's.

MNIST's digits were scaled to fit a box of 20 x 20 pixels, anti-aliased, and put into 28 x 28 with their centre of mass
in the middle, ink bright on dark (LeCun, Cortes and Burges, "The MNIST database of handwritten digits"). A photo needs
more before that: its paper is not evenly lit, may be white or black, and has specks on it.
"""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from minicnn.datasets.strokes import BOX, centred
from minicnn.errors import ArgumentError, DataError, FileFormatError, MinicnnError
from minicnn.files import open_to_read

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
LARGEST = 400  # rows or columns looked at; more are averaged first
LEAST_CONTRAST = 12  # grey levels of 255 between ink and paper
MOST_BYTES = 48 << 20  # of a decoded picture: 16 million pixels in colour, an A4 page at 600 dpi in grey
# Others are left alone: some formats are programs (PostScript).
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
NOISE = 4.0  # standard deviations of the paper's grey that are not taken for ink
SPECK = 0.1  # of the ink of the largest stroke: what has less is dirt


def files(place: Path) -> list[Path]:
    """Return a picture, or the pictures in a folder in the order of their names.

    Raises
    ------
    ArgumentError
        If the folder holds none.
    """
    if not place.is_dir():
        return [place]
    found = sorted(path for path in place.iterdir() if path.suffix.lower() in ENDINGS)
    if not found:
        raise ArgumentError(f"{place} holds no pictures; expected files that end in {', '.join(ENDINGS)}. "
                            "Name another folder.")
    return found


def read(path: Path) -> NDArray[np.uint8]:
    """Return the digit of a picture as MNIST would have it.

    Parameters
    ----------
    path : pathlib.Path
        Any format Pillow reads: PNG, JPEG, ...; grey or in colour, transparent or not, turned as its camera says.

    Returns
    -------
    (28, 28) uint8 array

    Raises
    ------
    FileFormatError
        If it is no picture, or a damaged one.
    DataError
        If there is nothing on it.
    """
    with open_to_read("photos.read", path) as file:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what follows says it
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                with Image.open(file, formats=FORMATS) as picture:
                    picture.draft("L", (LARGEST, LARGEST))  # JPEG can be read smaller at once
                    _check_room(path, picture)
                    grey = _grey(ImageOps.exif_transpose(picture))
        except MinicnnError:
            raise
        except Exception as error:  # Pillow's readers let through whatever a damaged file makes go wrong in them
            raise FileFormatError(f"{path} cannot be read as a picture ({error}); expected one that is whole. Give a "
                                  "PNG or JPEG file.") from None
    ink = find_ink(grey)
    if not ink.any():
        raise DataError(f"{path}: found no ink; expected one digit, dark on light paper or light on dark. Take a "
                        "picture with more contrast.")
    return as_mnist(ink)


def find_ink(grey: NDArray[np.float64]) -> NDArray[np.float64]:
    """Tell ink from paper.

    The paper's grey is a surface of second order, so that shade and vignetting go with it. Ink is what differs from it,
    in the direction that differs more, by more than its noise, and not as a speck.

    Parameters
    ----------
    grey : (H, W) array
        0 to 255.

    Returns
    -------
    (H, W) array
        0 on paper to 1 in full ink; all 0 if there is none.
    """
    paper, noise = _paper(grey)
    difference = grey - paper
    if _strength(-difference) > _strength(difference):
        difference = -difference * (paper.mean() / np.maximum(paper, 1))  # where less light falls, ink takes less of it
    strength = _strength(difference)
    if strength < max(LEAST_CONTRAST, 1.5 * NOISE * noise):
        return np.zeros_like(grey)
    ink = np.where(difference > NOISE * noise, np.clip(difference / strength, 0, 1), 0)
    return _strokes_only(ink)


def as_mnist(ink: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Crop, scale to the box of 20 x 20, and centre the mass in 28 x 28.

    Parameters
    ----------
    ink : (H, W) array
        0 to 1, not all 0.

    Returns
    -------
    (28, 28) uint8 array
    """
    rows, columns = (np.flatnonzero(ink.any(axis=axis)) for axis in (1, 0))
    digit = ink[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1]
    scale = BOX / max(digit.shape)
    height, width = (max(1, round(scale * size)) for size in digit.shape)
    picture = Image.fromarray(digit.astype(np.float32))
    small = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR), np.float64)  # anti-aliased
    box = np.zeros((1, BOX, BOX), np.uint8)
    top, left = (BOX - height) // 2, (BOX - width) // 2
    box[0, top:top + height, left:left + width] = np.rint(255 * np.clip(small / small.max(), 0, 1))
    (image,) = centred(box)
    return image


def _check_room(path: Path, picture: Image.Image) -> None:
    """Refuse, before it is decoded, a picture that takes too much room, and one that is several."""
    width, height = picture.size
    size = width * height * len(picture.getbands()) * (4 if picture.mode[0] in "IF" else 1)
    if size > MOST_BYTES:
        raise FileFormatError(f"{path}: found a picture of {height:,} x {width:,} pixels ({picture.mode}); expected at "
                              f"most {MOST_BYTES:,} bytes of them. Save it smaller, or as JPEG.")
    if getattr(picture, "is_animated", False) and picture.format != "MPO":  # those are photos with a preview
        raise FileFormatError(f"{path}: found several pictures in one file; expected one digit. Save the one you mean "
                              "as PNG.")


def _grey(picture: Image.Image) -> NDArray[np.float64]:
    """Return a picture in grey, 0 to 255, averaged down to a size that can be looked at in no time."""
    if picture.mode.startswith(("I", "F")):  # 16 bits and more
        deep = np.nan_to_num(np.asarray(picture, np.float32), posinf=0, neginf=0)
        picture = Image.fromarray(255 * (deep - deep.min()) / max(np.ptp(deep), 1e-9))
    elif picture.has_transparency_data:
        picture = _on_paper(picture.convert("RGBA"))
    else:
        picture = picture.convert("L")
    factor = -(-max(picture.size) // LARGEST)
    return np.asarray(picture if factor == 1 else picture.reduce(factor), np.float64)


def _on_paper(picture: Image.Image) -> Image.Image:
    """Lay a transparent picture on white, or on black where white would hide it."""
    for shade in ("white", "black"):
        paper = Image.new("RGBA", picture.size, shade)
        laid = Image.alpha_composite(paper, picture).convert("L")
        if np.ptp(np.asarray(laid)) >= LEAST_CONTRAST:
            break
    return laid


def _paper(grey: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Return the grey the paper would have everywhere, and the deviation of what it has from that.

    A surface of second order is fitted by least squares, three times, each time without what lies far from it. It is
    fitted to the border, where no ink is; but to all of the picture if most of its border shows something else.
    """
    H, W = grey.shape
    i, j = np.meshgrid(np.linspace(-1, 1, H), np.linspace(-1, 1, W), indexing="ij")
    terms = np.stack([np.ones_like(i), i, j, i * i, i * j, j * j], axis=-1)  # (H, W, 6)
    margin = max(1, round(0.08 * min(H, W)))
    part = np.ones(grey.shape, bool)
    part[margin:H - margin, margin:W - margin] = False
    off = grey - np.median(grey)  # there is less ink than paper
    near = np.abs(off) <= 3 * _deviation(off) + LEAST_CONTRAST
    if near[part].mean() < 0.3:
        part[:] = True
    known, values, kept = terms[part], grey[part], near[part]
    for _ in range(3):
        solution = np.linalg.lstsq(known[kept], values[kept], rcond=None)[0]
        off = values - known @ solution
        kept = np.abs(off) <= 3 * _deviation(off[kept]) + 1
    return terms @ solution, _deviation(off[kept])


def _deviation(values: NDArray[np.float64]) -> float:
    """Return a standard deviation that a few outliers do not change (from the median of absolute deviations)."""
    return 1.4826 * float(np.median(np.abs(values)))


def _strength(difference: NDArray[np.float64]) -> float:
    """Return how far full ink is from paper: the mean of the strongest five hundredth, for a digit may be small."""
    return float(np.sort(difference, axis=None)[-max(1, difference.size // 500):].mean())


def _strokes_only(ink: NDArray[np.float64]) -> NDArray[np.float64]:
    """Leave the strokes: the connected piece with most ink, and others that have a good part of it.

    A piece along half a side of the picture is what lies around the paper, as long as there is something else.
    """
    labels = _pieces(ink > 0)
    mass = np.bincount(labels.ravel(), ink.ravel())
    mass[0] = 0
    around = np.zeros(len(mass), bool)
    for side in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        around |= np.bincount(side, minlength=len(mass)) >= len(side) / 2
    if (mass[~around] >= SPECK * mass.max()).any() and mass.max() > 0:
        mass[around] = 0
    return np.where(mass[labels] >= max(SPECK * mass.max(), 1e-9), ink, 0)


def _pieces(mask: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Number the connected pieces of a mask (H, W), diagonals included, from 1; 0 is what lies outside."""
    labels = np.zeros(mask.shape, np.intp)
    H, W = mask.shape
    number = 0
    for start in zip(*np.nonzero(mask)):
        if labels[start]:
            continue
        number += 1
        labels[start] = number
        waiting = [start]
        while waiting:
            i, j = waiting.pop()
            rows, columns = range(max(i - 1, 0), min(i + 2, H)), range(max(j - 1, 0), min(j + 2, W))
            for neighbour in itertools.product(rows, columns):
                if mask[neighbour] and not labels[neighbour]:
                    labels[neighbour] = number
                    waiting.append(neighbour)
    return labels
