"""The direct convolution on a few geometries of whole numbers: what the exact sweep does at length, in a second."""

from __future__ import annotations

import numpy as np
import pytest

import exact
import naive_jit
from kernel_calls import DTYPES, call, equal
from minicnn.kernels import fast
from minicnn.kernels.fast import direct

# Image, kernel (KH, KW, C, F), stride, padding, and whether dx is a convolution of its own.
CASES = {
    "few channels": ((3, 5, 6, 2), (2, 3, 2, 5), (1, 1), (1, 0, 1, 1), False),
    "one column": ((2, 6, 1, 17), (3, 1, 17, 16), (1, 1), (2, 1, 0, 0), True),
    "many channels": ((3, 5, 4, 17), (3, 2, 17, 3), (1, 1), (0, 1, 1, 0), True),
    "padding of the kernel's size": ((2, 3, 4, 16), (2, 3, 16, 4), (1, 1), (2, 0, 1, 3), False),
    "strides": ((3, 7, 8, 3), (3, 2, 3, 18), (2, 3), (1, 1, 0, 1), False),
    "strides beyond the kernel": ((2, 8, 9, 1), (2, 3, 1, 2), (3, 4), (0, 2, 1, 0), False),
    "one pixel": ((1, 2, 3, 4), (2, 3, 4, 1), (1, 1), (0, 0, 0, 0), False),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_direct_is_exact(name, dtype, rng, monkeypatch):
    exact.poison(monkeypatch)
    x_shape, w_shape, stride, padding, gathers = CASES[name]
    x, w, b = (exact.integers(rng, *shape) for shape in (x_shape, w_shape, w_shape[3:]))
    out = naive_jit.conv2d(x, w, b, stride, padding)
    assert direct.plan(x_shape, w_shape, out.shape[1:3], stride, padding).gathers == gathers
    dout = exact.integers(rng, *out.shape)
    floats = [array.astype(dtype) for array in (x, w, b, dout)]
    equal(call(fast.conv2d, *floats[:3], stride, padding, algorithm="direct"), out, dtype)
    dx, dw, db = call(fast.conv2d_backward, floats[3], *floats[:2], stride, padding, algorithm="direct")
    equal(dx, naive_jit.conv2d_dx(dout, x_shape, w, stride, padding), dtype)
    equal(dw, naive_jit.conv2d_dw(dout, x, w_shape, stride, padding), dtype)
    equal(db, naive_jit.conv2d_db(dout), dtype)


@pytest.mark.parametrize("name", CASES)
def test_the_same_bits_for_every_number_of_threads_and_alone(name, threads, rng):
    (_, *size), w_shape, stride, padding, _ = CASES[name]
    x, w, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((19, *size), w_shape, w_shape[3:]))
    out = fast.conv2d(x, w, b, stride, padding, "direct")
    dout = rng.standard_normal(out.shape).astype(np.float32)
    results = set()
    for number in (1, 2, 3, 4):
        threads(number)
        dx, dw, db = fast.conv2d_backward(dout, x, w, stride, padding, "direct")
        results.add(b"".join(array.tobytes() for array in (
            fast.conv2d(x, w, b, stride, padding, "direct"), dx, dw, db)))
    assert len(results) == 1
    for n in (0, 7, 18):
        alone = slice(n, n + 1)
        assert fast.conv2d(x[alone], w, b, stride, padding, "direct").tobytes() == out[alone].tobytes()
        assert fast.conv2d_backward(dout[alone], x[alone], w, stride, padding, "direct")[0].tobytes() == (
            dx[alone].tobytes())
