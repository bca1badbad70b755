"""MNIST: 60,000 and 10,000 images of handwritten digits, 28x28 (LeCun, Cortes and Burges 1998).

Any folder with four IDX files of the same layout (Fashion-MNIST, KMNIST...) is read by ``load_data(path)``.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from minicnn.datasets import _download, _places
from minicnn.datasets.idx import header, read_idx
from minicnn.errors import ArgumentError, DataError, DownloadError, FileFormatError, UnwritableFileError
from minicnn.files import checked, make_folder

Arrays = tuple[NDArray[np.uint8], NDArray[np.uint8]]

# Both carry the files as Yann LeCun published them. His own site has refused downloads for years.
MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")


# Numbers of the test images whose label fewer than three of five reviewers confirmed. C. G. Northcutt, A. Athalye and
# J. Mueller, "Pervasive label errors in test sets destabilize machine learning benchmarks", NeurIPS 2021.
DISPUTED = (947, 1621, 1901, 2130, 2462, 2597, 2654, 3520, 3558, 5937, 6651, 6783, 8527, 9679, 9729)

OTHER = ("If it is another data set, or a part of MNIST, name its folder in load_data(path) or --data DIR; if the file "
         "is damaged, delete it and get it again.")


class _File(NamedTuple):
    """One of the four files: what is published (name, size and digest of the gzip file) and what is in it."""

    name: str
    size: int
    sha256: str
    shape: tuple[int, ...]
    content_sha256: str    # of the decompressed file


FILES = (
    _File("train-images-idx3-ubyte", 9_912_422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
          (60_000, 28, 28), "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
    _File("train-labels-idx1-ubyte", 28_881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
          (60_000,), "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    _File("t10k-images-idx3-ubyte", 1_648_877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
          (10_000, 28, 28), "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
    _File("t10k-labels-idx1-ubyte", 4_542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
          (10_000,), "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
)


def load_data(path: str | os.PathLike[str] | None = None) -> tuple[Arrays, Arrays]:
    """Load MNIST, or another data set of its layout.

    Without a path the files are looked for in ``$MINICNN_DATA/mnist``, in ``$MINICNN_DATA`` itself, in ``data/mnist``
    of the checkout minicnn is imported from and in the user's cache, and are downloaded if none of these has them.
    What is not MNIST, to the last byte, is refused there; with a path anything of the layout is read.

    Parameters
    ----------
    path : path-like, optional
        A folder with the four files, plain or gzipped: ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``,
        ``t10k-images-idx3-ubyte``, ``t10k-labels-idx1-ubyte`` (``train-images.idx3-ubyte`` and so on will do).

    Returns
    -------
    (x_train, y_train), (x_test, y_test)
        Images uint8 (N, H, W), for MNIST (60000, 28, 28) and (10000, 28, 28), ink 255 on 0; labels uint8 (N,).

    Raises
    ------
    ArgumentError
        If the path is no folder, or lacks one of the files.
    FileFormatError
        If a file is damaged, or holds another data set where MNIST is expected.
    DataError
        If the four files do not fit together.
    DownloadError
        If the files are nowhere on this machine and no mirror delivers them.
    """
    if path is not None:
        return _load_folder(checked("mnist.load_data", path), original=False)
    folder = find() or download()
    return _load_folder(folder, original=True)


def is_original(arrays: tuple[Arrays, Arrays]) -> bool:
    """Tell whether arrays, as ``load_data`` returns them, are MNIST's own: all four contents, byte for byte.

    Parameters
    ----------
    arrays : ((x_train, y_train), (x_test, y_test))

    Returns
    -------
    bool
    """
    flat = [array for pair in arrays for array in pair]
    return all(array.shape == file.shape and array.dtype == np.uint8 and _content_sha256(array) == file.content_sha256
               for array, file in zip(flat, FILES))


def find() -> Path | None:
    """Return the first of the usual folders that holds the four files, or None; nothing is downloaded.

    Returns
    -------
    pathlib.Path or None
    """
    return next((folder for folder in _places.places("mnist") if not _missing(folder)), None)


def download(folder: str | os.PathLike[str] | None = None, mirrors: Sequence[str] | None = None,
             timeout: float = _download.TIMEOUT, schemes: Sequence[str] = ("https",)) -> Path:
    """Download those of the four files that are missing, check their SHA-256 and move them into place.

    Parameters
    ----------
    folder : path-like, optional
        Default: ``data/mnist`` of the checkout minicnn is imported from, else the user's cache.
    mirrors : sequence of str, optional
        Addresses the file names are appended to; tried in turn. Default ``MIRRORS``.
    timeout : float
        Seconds without a byte after which a mirror is given up.
    schemes : sequence of str
        Allowed kinds of address.

    Returns
    -------
    pathlib.Path
        The folder.

    Raises
    ------
    DownloadError
        If no mirror delivers a file, or there is no folder to write to. The message says what to do.
    UnwritableFileError
        If the disk is full.
    """
    place = Path(folder) if folder is not None else _places.download_place("mnist")
    if place is None:
        raise DownloadError(_advice(["neither the checkout nor the user's cache is writable"], None))
    queue = list(MIRRORS if mirrors is None else mirrors)
    for file in FILES:
        if _locate(place, file.name) is not None:
            continue
        reasons = []
        for mirror in tuple(queue):
            try:
                make_folder(place)
                _fetch(mirror, file, place, timeout, schemes)
                break
            except UnwritableFileError:
                raise    # another mirror makes no room
            except (DownloadError, OSError) as error:
                reasons.append(f"{mirror}{file.name}.gz: {error}")
                queue.append(queue.pop(0))    # the next file starts with the mirror that works
        else:
            raise DownloadError(_advice(reasons, place))
    return place


def _fetch(mirror: str, file: _File, place: Path, timeout: float, schemes: Sequence[str]) -> None:
    from tqdm.auto import tqdm  # only now: most runs download nothing
    name = f"{file.name}.gz"
    with tqdm(total=file.size, desc=name, unit="B", unit_scale=True, disable=None, leave=False) as bar:
        _download.fetch(mirror + name, place / name, file.size, file.sha256, timeout=timeout, schemes=schemes,
                        progress=bar.update)


def _advice(reasons: list[str], place: Path | None) -> str:
    looked = ", ".join(str(folder) for folder in _places.places("mnist")) or "no folder (there is no home folder)"
    target = place or "a folder, name it in load_data(path) or --data DIR"
    return (f"MNIST is not on this machine and could not be downloaded. Looked in: {looked}. Tried:\n  "
            + "\n  ".join(reasons)
            + f"\nCopy the four files ({', '.join(f'{file.name}.gz' for file in FILES)}) to {target}; or use "
              "--data strokes (minicnn.datasets.strokes), which needs no download.")


def _locate(folder: Path, name: str) -> Path | None:
    """Return the path of one of the files, in whichever spelling it has; None if it is not there."""
    for spelling in (name, name.replace("-idx", ".idx")):
        for suffix in ("", ".gz"):
            if (path := folder / (spelling + suffix)).is_file():
                return path
    return None


def _missing(folder: Path) -> list[str]:
    return [file.name for file in FILES if _locate(folder, file.name) is None]


def _load_folder(folder: Path, original: bool) -> tuple[Arrays, Arrays]:
    """Read the four files and compare them with each other; if ``original``, also with MNIST's digests."""
    if not folder.is_dir():
        raise ArgumentError(f"mnist.load_data got {str(folder)!r}, which is no folder; expected one with the IDX files "
                            f"{', '.join(file.name for file in FILES)} (plain or .gz). Correct the path, or leave it "
                            "out for MNIST itself.")
    missing = _missing(folder)
    if missing:
        raise ArgumentError(f"{folder} lacks {', '.join(missing)} (plain or .gz). Copy the missing files there, or "
                            "give a folder that has all four.")
    paths = [_locate(folder, file.name) or folder for file in FILES]
    arrays = [read_idx(path) for path in paths]
    for path, array, file in zip(paths, arrays, FILES):
        _check_rank(path, array, file)
        if original:
            _check_original(path, array, file)
    x_train, y_train, x_test, y_test = arrays
    _check_pair(x_train, y_train, paths[0], paths[1])
    _check_pair(x_test, y_test, paths[2], paths[3])
    if x_train.shape[1:] != x_test.shape[1:]:
        raise DataError(f"{paths[0]} has images of {x_train.shape[1:]}, {paths[2]} of {x_test.shape[1:]}; expected one "
                        "size. Take both files from the same data set.")
    return (x_train, y_train), (x_test, y_test)


def _check_rank(path: Path, array: NDArray[np.uint8], file: _File) -> None:
    expected = len(file.shape)
    if array.ndim != expected:
        kind = "images, rank 3: number, rows, columns" if expected == 3 else "labels, rank 1"
        raise DataError(f"{path}: found sizes {array.shape}, rank {array.ndim}; expected {kind}. Copy the right file "
                        "to this name.")


def _check_pair(images: NDArray[np.uint8], labels: NDArray[np.uint8], image_path: Path, label_path: Path) -> None:
    if len(images) != len(labels):
        raise DataError(f"{image_path} has {len(images)} images, {label_path} {len(labels)} labels; expected as many "
                        "of one as of the other. Take both files from the same data set.")
    if images.size == 0:
        raise DataError(f"{image_path}: found sizes {images.shape}, no pixel; expected at least one image of at least "
                        "one pixel. Get the file again.")


def _check_original(path: Path, array: NDArray[np.uint8], file: _File) -> None:
    """Refuse what has MNIST's name and another content.

    The content is compared, not the gzip file: plain and recompressed copies are as good.
    """
    if array.shape != file.shape:
        raise FileFormatError(f"{path}: found sizes {array.shape}; expected MNIST's {file.shape} in this folder. "
                              f"{OTHER}")
    digest = _content_sha256(array)
    if digest != file.content_sha256:
        raise FileFormatError(f"{path}: the content has SHA-256 {digest} (header and data, decompressed); "
                              f"expected {file.content_sha256}, MNIST's. {OTHER}")


def _content_sha256(array: NDArray[np.uint8]) -> str:
    digest = hashlib.sha256(header(array.shape))
    digest.update(np.ascontiguousarray(array).data.cast("B"))
    return digest.hexdigest()
