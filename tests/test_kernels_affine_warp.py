"""The affine warp beside SciPy's."""

from __future__ import annotations

import numpy as np
import pytest

from kernel_calls import DTYPES, LAYOUTS, call, draw, equal, kernels  # noqa: F401  (a fixture)

MODES = ["nearest", "constant", "reflect", "wrap"]


def scipy_warp(x, matrices, mode, cval):
    from scipy.ndimage import affine_transform
    out = np.empty(x.shape)
    for n, c in np.ndindex(x.shape[0], x.shape[3]):
        out[n, :, :, c] = affine_transform(x[n, :, :, c].astype(float), matrices[n, :, :2], matrices[n, :, 2], order=1,
                                           mode=mode, cval=cval)
    return out


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reach", [0.1, 1, 10, 300])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("image", [(4, 7, 9, 2), (3, 6, 1, 3), (2, 1, 5, 1), (2, 2, 3, 1)], ids=str)
def test_affine_warp_is_scipys(kernels, image, mode, reach, dtype):  # noqa: F811
    rng = np.random.default_rng([*image, int(10 * reach)])
    x = draw(rng, image, dtype)
    matrices = (np.eye(2, 3) + reach * rng.standard_normal((image[0], 2, 3))).astype(dtype)
    out = call(kernels.affine_warp, x, matrices, mode, 0.5)
    assert out.dtype == dtype
    atol = 1e-5 if dtype == np.float32 else 1e-11
    np.testing.assert_allclose(out, scipy_warp(x, matrices, mode, 0.5), rtol=0, atol=atol)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", MODES)
def test_affine_warp_by_whole_pixels_is_exact(kernels, mode, dtype):  # noqa: F811
    """Shifts, flips and transpositions: on the border, just outside, one period on, and far away."""
    x = np.random.default_rng(15).integers(-9, 10, (1, 5, 4, 2)).astype(dtype)
    linear = [[[1, 0], [0, 1]], [[-1, 0], [0, 1]], [[0, 1], [1, 0]], [[0, -1], [2, 0]]]
    shifts = [(row, column) for row in (-11, -8, -5, -4, -1, 0, 1, 4, 5, 8, 23) for column in (-9, -3, 0, 2, 3, 6)]
    matrices = np.array([np.column_stack([a, shift]) for a in linear for shift in shifts], dtype)
    x = np.repeat(x, len(matrices), axis=0)
    equal(call(kernels.affine_warp, x, matrices, mode, 7.0), scipy_warp(x, matrices, mode, 7.0), dtype)


def test_affine_warp_by_default_repeats_the_edge(kernels):  # noqa: F811
    x = np.arange(6, dtype=np.float32).reshape(1, 2, 3, 1)
    half_right = np.array([[[1, 0, 0], [0, 1, -1.5]]], np.float32)
    assert call(kernels.affine_warp, x, half_right)[0, :, :, 0].tolist() == [[0, 0, 0.5], [3, 3, 3.5]]
    zeros = call(kernels.affine_warp, x, half_right, fill_mode="constant")
    assert zeros[0, :, :, 0].tolist() == [[0, 0, 0.5], [0, 0, 3.5]]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_affine_warp_reads_any_layout(kernels, layout):  # noqa: F811
    rng = np.random.default_rng(16)
    x, matrices = draw(rng, (3, 5, 6, 2), np.float32), draw(rng, (3, 2, 3), np.float32)
    views = LAYOUTS[layout](x), LAYOUTS[layout](matrices)
    equal(call(kernels.affine_warp, *views, "reflect"), kernels.affine_warp(x, matrices, "reflect"), np.float32)
