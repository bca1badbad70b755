"""MNIST's four files in small, for the tests of its folders and of its download."""

from __future__ import annotations

import hashlib

import numpy as np

from minicnn.datasets import mnist
from minicnn.datasets.idx import header, write_idx

NAMES = [file.name for file in mnist.FILES]


def small_set(marker=0, train=4, test=3):
    """Return four arrays in the order of mnist.FILES, not square, recognisable by their first label."""
    rng = np.random.default_rng(marker)
    arrays = [rng.integers(0, 256, (train, 5, 4)), rng.integers(0, 10, train),
              rng.integers(0, 256, (test, 5, 4)), rng.integers(0, 10, test)]
    arrays[1][0] = marker
    return [array.astype(np.uint8) for array in arrays]


def fill(folder, arrays, names=NAMES, suffix=""):
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in zip(names, arrays):
        write_idx(folder / f"{name}{suffix}", array)
    return folder


def described(arrays):
    """Return mnist.FILES as if these four arrays were MNIST's."""
    return tuple(file._replace(shape=array.shape,
                               content_sha256=hashlib.sha256(header(array.shape) + array.tobytes()).hexdigest())
                 for file, array in zip(mnist.FILES, arrays))
