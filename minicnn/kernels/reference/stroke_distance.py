"""How far every pixel is from a pen stroke: the drawing of polylines, used by :mod:`minicnn.datasets.strokes`."""

from __future__ import annotations

import numpy as np

from minicnn.kernels.checks import check_fit

FAR = 1e6
"""Distance in an image without any segment, in pixels."""


def stroke_distance(points: np.ndarray, drawn: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return the distance of every pixel's centre to the nearest drawn segment of its image's polyline.

    Parameters
    ----------
    points : (N, P, 2) array
        Vertices (x, y) in pixels; x runs along the columns. The centre of pixel (i, j) is (x, y) = (j + 0.5, i + 0.5).
    drawn : (N, P - 1) bool array
        Whether the pen is down between vertex p and vertex p + 1.
    shape : (int, int)
        Rows H and columns W of the images.

    Returns
    -------
    (N, H, W) array
        In pixels; ``FAR`` where an image has no drawn segment.
    """
    check_fit("stroke_distance", "points (N, P, 2), drawn (N, S)", points, drawn, S=points.shape[-2] - 1)
    H, W = shape
    centres = np.stack(np.meshgrid(np.arange(W) + 0.5, np.arange(H) + 0.5), axis=-1).astype(points.dtype)  # (H, W, 2)
    tiny = np.finfo(points.dtype).tiny
    nearest = np.full((len(points), H, W), FAR * FAR, points.dtype)
    for p in range(points.shape[1] - 1):
        start = points[:, None, None, p]  # (N, 1, 1, 2)
        along = points[:, None, None, p + 1] - start  # (N, 1, 1, 2)
        to_pixel = centres - start  # (N, H, W, 2)
        length2 = np.maximum((along * along).sum(-1), tiny)  # a segment of no length is a point
        t = np.clip((to_pixel * along).sum(-1) / length2, 0, 1)  # (N, H, W): the foot of the perpendicular
        gap = to_pixel - t[..., None] * along
        distance2 = (gap * gap).sum(-1)
        nearest = np.where(drawn[:, None, None, p], np.minimum(nearest, distance2), nearest)
    return np.sqrt(nearest)
