"""Moved images for the tests of augmentation: what SciPy makes of one, and how batches are compared."""

from __future__ import annotations

import itertools

import numpy as np

ALL = {"rotation_range": 40, "width_shift_range": 0.3, "height_shift_range": 0.2, "zoom_range": 0.3}


def images(rng, shape=(7, 5, 6, 1)):
    return rng.random(shape, dtype=np.float32)


def expected(image, transform, mode="nearest", cval=0.0):
    """Return SciPy's image, the map made of 3x3 matrices in Keras' order."""
    from scipy.ndimage import affine_transform
    theta, tx, ty, zx, zy = transform
    middle = (np.array(image.shape[:2]) - 1) / 2
    angle = theta * np.pi / 180
    rotation = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    shift = np.array([[1, 0, tx], [0, 1, ty], [0, 0, 1]])
    zoom = np.diag([zx, zy, 1])
    to_middle, back = np.eye(3), np.eye(3)
    to_middle[:2, 2], back[:2, 2] = -middle, middle
    matrix = back @ rotation @ shift @ zoom @ to_middle
    return np.stack([affine_transform(image[..., c].astype(np.float64), matrix[:2, :2], matrix[:2, 2], order=1,
                                      mode=mode, cval=cval) for c in range(image.shape[2])], axis=-1)


def passes(flow, epochs=2):
    return list(itertools.islice(flow, epochs * len(flow)))


def same(batches, others):
    return len(batches) == len(others) and all(
        np.array_equal(a, b) for batch, other in zip(batches, others) for a, b in zip(batch, other, strict=True))
