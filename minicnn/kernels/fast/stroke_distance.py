"""See ``reference/stroke_distance.py``. The trick: the inner loop runs over all pixels of an image, side by side."""

from __future__ import annotations

import itertools

import numpy as np

from minicnn.kernels.checks import check_fit
from minicnn.kernels.fast.compile import FASTMATH_ORDERED, jit
from minicnn.kernels.fast.parallel import chunk_bounds, run
from minicnn.kernels.reference.stroke_distance import FAR


def stroke_distance(points: np.ndarray, drawn: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return the distance of every pixel's centre to the nearest drawn segment; see the reference set."""
    check_fit("stroke_distance", "points (N, P, 2), drawn (N, S)", points, drawn, S=points.shape[-2] - 1)
    H, W = shape
    N = len(points)
    rows, columns = (axis.reshape(H * W).astype(points.dtype) + points.dtype.type(0.5) for axis in np.indices(shape))
    out = np.empty((N, H * W), points.dtype)
    tiny, far = np.finfo(points.dtype).tiny, points.dtype.type(FAR)
    bounds = list(itertools.pairwise(chunk_bounds(N)))

    def task(chunk: int) -> None:
        start, stop = bounds[chunk]
        _draw(points[start:stop], drawn[start:stop], columns, rows, tiny, far, out[start:stop])

    run(task, len(bounds))
    return out.reshape(N, H, W)


@jit(fastmath=FASTMATH_ORDERED)
def _draw(points, drawn, columns, rows, tiny, far, out):
    zero, one = tiny - tiny, tiny / tiny  # of the arrays' dtype; literals would promote float32
    for n in range(points.shape[0]):
        nearest = out[n]
        nearest[:] = far * far
        for p in range(points.shape[1] - 1):
            if not drawn[n, p]:
                continue
            x, y = points[n, p, 0], points[n, p, 1]
            dx, dy = points[n, p + 1, 0] - x, points[n, p + 1, 1] - y
            inverse = one / max(dx * dx + dy * dy, tiny)
            ux, uy = dx * inverse, dy * inverse
            for k in range(nearest.size):
                ax, ay = columns[k] - x, rows[k] - y
                t = min(max(ax * ux + ay * uy, zero), one)
                gx, gy = ax - t * dx, ay - t * dy
                nearest[k] = min(nearest[k], gx * gx + gy * gy)
        for k in range(nearest.size):
            nearest[k] = np.sqrt(nearest[k])
