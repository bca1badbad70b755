"""Convolution, pooling and dense on small integers: no rounding, so naive, reference and fast must agree exactly."""

from __future__ import annotations

import functools
import importlib
import itertools
from typing import NamedTuple

import numpy as np
import pytest

import naive
from kernel_calls import DTYPES, LAYOUTS, SETS, call, equal, kernels  # noqa: F401  (a fixture)
from minicnn.kernels.geometry import Padding, Pair, output_size, same_padding, window_padding


class Window(NamedTuple):
    """A geometry: image (N, H, W, C), kernel or pool, filters (0 for pooling), stride, padding."""

    image: tuple[int, int, int, int]
    window: Pair
    filters: int
    stride: Pair
    padding: str | Padding

    def __str__(self) -> str:
        parts = (self.image, self.window, self.filters, self.stride)
        text = "-".join("x".join(map(str, part)) if isinstance(part, tuple) else str(part) for part in parts)
        return f"{text}-{self.padding if isinstance(self.padding, str) else 'pad' + ''.join(map(str, self.padding))}"

    @property
    def pad(self) -> Padding:
        if isinstance(self.padding, str):
            return window_padding(self.image[1:3], self.window, self.stride, self.padding)
        return self.padding


HAND_PICKED = [
    Window((2, 7, 5, 3), (3, 2), 4, (1, 1), "valid"),
    Window((2, 5, 8, 2), (2, 4), 3, (1, 1), "same"),  # even kernels: the odd row and column go to the end
    Window((2, 6, 7, 3), (5, 3), 2, (1, 1), "same"),
    Window((1, 9, 6, 2), (3, 3), 5, (2, 3), "same"),
    Window((2, 10, 9, 2), (3, 4), 3, (2, 3), "valid"),  # the last row and columns belong to no window
    Window((2, 8, 11, 3), (2, 1), 2, (4, 3), "valid"),  # stride larger than kernel: pixels nobody sees
    Window((2, 7, 10, 2), (1, 2), 3, (3, 5), "same"),
    Window((3, 5, 4, 2), (5, 4), 3, (1, 1), "valid"),  # kernel = image
    Window((2, 5, 4, 2), (5, 4), 3, (2, 3), "same"),
    Window((2, 3, 2, 2), (5, 7), 3, (1, 1), "same"),  # kernel larger than image
    Window((1, 6, 5, 3), (3, 2), 4, (1, 2), "same"),  # N = 1
    Window((3, 6, 5, 1), (3, 2), 4, (2, 1), "same"),  # C = 1
    Window((3, 6, 5, 3), (3, 2), 1, (1, 2), "valid"),  # F = 1
    Window((1, 4, 3, 1), (2, 3), 1, (1, 1), "same"),  # all of them
    Window((1, 1, 1, 1), (1, 1), 1, (1, 1), "valid"),
    Window((2, 4, 7, 5), (1, 1), 6, (1, 1), "valid"),  # 1 x 1: a dense layer for each pixel
    Window((2, 5, 6, 3), (1, 1), 4, (2, 3), "same"),
    Window((2, 1, 9, 2), (1, 4), 3, (1, 2), "same"),  # a single row
    Window((2, 9, 1, 2), (4, 1), 3, (2, 1), "same"),  # a single column
    Window((2, 6, 5, 2), (3, 4), 3, (1, 1), (2, 0, 1, 3)),
    Window((2, 5, 7, 2), (4, 3), 2, (3, 2), (1, 2, 0, 3)),
    Window((1, 5, 4, 2), (2, 3), 3, (1, 2), (4, 1, 0, 5)),  # windows wholly in the padding
    Window((2, 4, 5, 2), (3, 2), 2, (2, 1), (0, 3, 2, 0)),
    Window((1, 9, 8, 1), (5, 5), 7, (1, 1), "same"),  # a first layer
    Window((1, 4, 5, 17), (3, 2), 19, (1, 1), "valid"),  # one more than a vector, and a bit
    Window((1, 3, 4, 16), (3, 3), 16, (1, 1), "same"),
    Window((1, 3, 2, 33), (2, 2), 5, (1, 1), "same"),
    Window((1, 2, 3, 5), (2, 2), 35, (1, 1), "same"),
    Window((37, 4, 3, 2), (3, 2), 3, (1, 1), "same"),  # more images than any chunk holds, and an odd number
    Window((19, 3, 5, 1), (2, 3), 2, (2, 2), "valid"),
    Window((2, 3, 34, 2), (3, 3), 2, (1, 1), "same"),  # long rows
    Window((2, 21, 3, 2), (3, 2), 2, (1, 1), "valid"),
]


def _drawn(count: int, seed: int) -> list[Window]:
    rng = np.random.default_rng(seed)
    drawn: list[Window] = []
    while len(drawn) < count:
        H, W, KH, KW, SH, SW = (int(size) for size in rng.integers((3, 3, 1, 1, 1, 1), (11, 11, 6, 6, 5, 5)))
        explicit: Padding = tuple(int(zeros) for zeros in rng.integers(0, 4, 4))  # type: ignore[assignment]
        padding = ("valid", "same", explicit)[len(drawn) % 3]
        if H != W and KH != KW and SH != SW and (padding == "same" or (KH <= H and KW <= W)):
            image = (int(rng.integers(1, 4)), H, W, int(rng.integers(1, 5)))
            drawn.append(Window(image, (KH, KW), int(rng.integers(1, 6)), (SH, SW), padding))
    return drawn


CASES = HAND_PICKED + _drawn(24, seed=1)
SOME = [CASES[k] for k in (1, 3, 5, 20, 24, 28)]


def integers(rng: np.random.Generator, *shape: int, low: int = -4) -> np.ndarray:
    return rng.integers(low, 5, shape)


class Conv(NamedTuple):
    """Integer inputs of a convolution and what the definition makes of them."""

    x: np.ndarray
    w: np.ndarray
    b: np.ndarray
    out: np.ndarray
    dout: np.ndarray
    dx: np.ndarray
    dw: np.ndarray
    db: np.ndarray


@functools.cache
def conv(case: Window) -> Conv:
    rng = np.random.default_rng([*case.image, *case.window, *case.stride])
    x, b = integers(rng, *case.image), integers(rng, case.filters)
    w = integers(rng, *case.window, case.image[3], case.filters)
    out = naive.conv2d(x, w, b, case.stride, case.pad)
    dout = integers(rng, *out.shape)
    return Conv(x, w, b, out, dout, naive.conv2d_dx(dout, x.shape, w, case.stride, case.pad),
                naive.conv2d_dw(dout, x, w.shape, case.stride, case.pad), naive.conv2d_db(dout))


# --- geometry ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("size", "window", "stride", "expected"), [
    (5, 3, 1, (1, 1)), (5, 2, 1, (0, 1)), (6, 4, 1, (1, 2)), (28, 5, 1, (2, 2)), (7, 3, 2, (1, 1)), (8, 3, 2, (0, 1)),
    (10, 2, 3, (0, 1)), (9, 2, 4, (0, 1)), (7, 1, 3, (0, 0)), (3, 7, 1, (3, 3)), (2, 5, 2, (1, 2))])
def test_same_padding_is_tensorflows(size, window, stride, expected):
    assert same_padding(size, window, stride) == expected


@pytest.mark.parametrize("case", CASES, ids=str)
def test_output_size_counts_the_places(case):
    (_, H, W, _), (top, bottom, left, right) = case.image, case.pad
    size = output_size((H, W), case.window, case.stride, case.pad)
    assert size == (naive.places(H, case.window[0], case.stride[0], top, bottom),
                    naive.places(W, case.window[1], case.stride[1], left, right))
    if case.padding == "same":
        assert size == (-(-H // case.stride[0]), -(-W // case.stride[1]))


# --- convolution -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_conv2d(kernels, case, dtype):  # noqa: F811
    right = conv(case)
    x, w, b, dout = (array.astype(dtype) for array in (right.x, right.w, right.b, right.dout))
    equal(call(kernels.conv2d, x, w, b, case.stride, case.pad, algorithm="im2col"), right.out, dtype)
    dx, dw, db = call(kernels.conv2d_backward, dout, x, w, case.stride, case.pad, algorithm="im2col")
    equal(dx, right.dx, dtype)
    equal(dw, right.dw, dtype)
    equal(db, right.db, dtype)


@pytest.mark.parametrize("case", SOME, ids=str)
def test_conv2d_without_what_is_not_needed(kernels, case):  # noqa: F811
    right = conv(case)
    x, w, dout = (array.astype(np.float32) for array in (right.x, right.w, right.dout))
    out = call(kernels.conv2d, x, w, None, case.stride, case.pad, algorithm="im2col")
    equal(out, right.out - right.b, np.float32)
    dx, dw, db = call(kernels.conv2d_backward, dout, x, w, case.stride, case.pad, algorithm="im2col", need_dx=False)
    assert dx is None
    equal(dw, right.dw, np.float32)
    equal(db, right.db, np.float32)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", SOME, ids=str)
def test_conv2d_reads_any_layout(kernels, case, layout):  # noqa: F811
    right = conv(case)
    x, w, b, dout = (LAYOUTS[layout](array.astype(np.float32)) for array in (right.x, right.w, right.b, right.dout))
    equal(call(kernels.conv2d, x, w, b, case.stride, case.pad, algorithm="im2col"), right.out, np.float32)
    gradients = call(kernels.conv2d_backward, dout, x, w, case.stride, case.pad, algorithm="im2col")
    for actual, expected in zip(gradients, (right.dx, right.dw, right.db), strict=True):
        equal(actual, expected, np.float32)


def test_reference_conv2d_in_blocks(monkeypatch):
    """Real batches are worked through in blocks of images; here five images in blocks of two."""
    module = importlib.import_module("minicnn.kernels.reference.conv2d")
    case = Window((5, 4, 6, 2), (3, 2), 3, (1, 2), "same")
    right = conv(case)
    OH, OW = right.out.shape[1:3]
    monkeypatch.setattr(module, "BLOCK_ENTRIES", 2 * OH * OW * 3 * 2 * 2)
    x, w, b, dout = (array.astype(np.float32) for array in (right.x, right.w, right.b, right.dout))
    equal(call(module.conv2d, x, w, b, case.stride, case.pad), right.out, np.float32)
    gradients = call(module.conv2d_backward, dout, x, w, case.stride, case.pad)
    for actual, expected in zip(gradients, (right.dx, right.dw, right.db), strict=True):
        equal(actual, expected, np.float32)


@pytest.mark.no_jit_excluded("tens of millions of products, which are beyond plain Python loops")
@pytest.mark.parametrize("case", [
    Window((5, 28, 27, 1), (5, 5), 32, (1, 1), "same"), Window((3, 14, 28, 32), (5, 5), 32, (1, 1), "same"),
    Window((7, 14, 13, 32), (3, 3), 64, (1, 1), "same"), Window((130, 9, 7, 16), (3, 5), 24, (2, 1), "valid"),
], ids=str)
def test_fast_conv2d_equals_reference_at_real_sizes(case):
    """Where the naive loops would take too long: the reference set, which the other tests tie to them."""
    reference, fast = (importlib.import_module(f"minicnn.kernels.{name}") for name in SETS)
    rng = np.random.default_rng([*case.image, *case.window])
    x, w, b = (integers(rng, *shape).astype(np.float32) for shape in
               (case.image, (*case.window, case.image[3], case.filters), (case.filters,)))
    out = reference.conv2d(x, w, b, case.stride, case.pad)
    equal(call(fast.conv2d, x, w, b, case.stride, case.pad, algorithm="im2col"), out, np.float32)
    dout = integers(rng, *out.shape).astype(np.float32)
    right = reference.conv2d_backward(dout, x, w, case.stride, case.pad)
    gradients = call(fast.conv2d_backward, dout, x, w, case.stride, case.pad, algorithm="im2col")
    for actual, expected in zip(gradients, right, strict=True):
        equal(actual, expected, np.float32)


# --- pooling -----------------------------------------------------------------------------------------------------

@functools.cache
def pool(case: Window, low: int = -4) -> tuple[np.ndarray, ...]:
    """Return x, out, winner, dout, dx. Nine values at most, so ties are everywhere."""
    rng = np.random.default_rng([*case.image, *case.window, *case.stride])
    x = integers(rng, *case.image) if low == -4 else -1 - rng.integers(0, 3, case.image)
    out, winner = naive.max_pool2d(x, case.window, case.stride, case.pad)
    dout = integers(rng, *out.shape)
    return x, out, winner, dout, naive.max_pool2d_backward(dout, winner, x.shape, case.window, case.stride, case.pad)


POOLS = [case for case in CASES if np.prod(case.image) < 1000] + [
    Window((2, 6, 9, 3), (2, 3), 0, (2, 3), "valid"),  # windows that tile the image
    Window((2, 7, 9, 2), (2, 2), 0, (2, 2), "same"),
    Window((2, 9, 8, 2), (4, 3), 0, (1, 2), "valid"),  # overlapping: a pixel wins several times
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", POOLS, ids=str)
def test_max_pool2d(kernels, case, dtype):  # noqa: F811
    x, right_out, right_winner, dout, right_dx = pool(case)
    out, winner = call(kernels.max_pool2d, x.astype(dtype), case.window, case.stride, case.pad)
    equal(out, right_out, dtype)
    equal(winner, right_winner, np.int32)
    dx = call(kernels.max_pool2d_backward, dout.astype(dtype), winner, x.shape, case.window, case.stride, case.pad)
    equal(dx, right_dx, dtype)


@pytest.mark.parametrize("case", [case for case in POOLS if any(case.pad)], ids=str)
def test_padding_never_wins(kernels, case):  # noqa: F811
    x, right_out, right_winner, _, _ = pool(case, low=-1)  # all negative: a padded zero would be the maximum
    out, winner = call(kernels.max_pool2d, x.astype(np.float32), case.window, case.stride, case.pad)
    equal(out, right_out, np.float32)
    equal(winner, right_winner, np.int32)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_max_pool2d_reads_any_layout(kernels, layout):  # noqa: F811
    case = Window((3, 7, 6, 5), (3, 2), 0, (2, 1), (1, 0, 0, 1))
    x, right_out, right_winner, dout, right_dx = pool(case)
    to_layout = LAYOUTS[layout]
    out, winner = call(kernels.max_pool2d, to_layout(x.astype(np.float32)), case.window, case.stride, case.pad)
    equal(out, right_out, np.float32)
    equal(winner, right_winner, np.int32)
    dx = call(kernels.max_pool2d_backward, to_layout(dout.astype(np.float32)), to_layout(winner), x.shape, case.window,
              case.stride, case.pad)
    equal(dx, right_dx, np.float32)


def test_first_maximum_wins(kernels):  # noqa: F811
    x = np.zeros((1, 4, 6, 1), np.float32)
    x[0, 1, 2:5, 0] = 7
    _, winner = call(kernels.max_pool2d, x, (2, 3), (2, 3), (0, 0, 0, 0))
    assert winner[0, :, :, 0].tolist() == [[5, 3], [0, 0]]


@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_and_infinities_in_pooling(kernels, dtype):  # noqa: F811
    case = Window((3, 6, 7, 2), (3, 2), 0, (2, 3), (1, 1, 2, 1))
    rng = np.random.default_rng(3)
    x = rng.choice([np.nan, -np.inf, np.inf, 1.0], case.image, p=[0.1, 0.6, 0.1, 0.2]).astype(dtype)
    right_out, right_winner = naive.max_pool2d(x, case.window, case.stride, case.pad)
    assert np.isnan(right_out).any()
    assert (right_winner[right_out == -np.inf] >= 0).any()  # -inf in the image wins over the padding
    out, winner = call(kernels.max_pool2d, x, case.window, case.stride, case.pad)
    equal(out, right_out, dtype)
    equal(winner, right_winner, np.int32)


def test_a_window_without_pixels_has_no_winner(kernels):  # noqa: F811
    x = np.full((1, 2, 3, 1), -5, np.float32)
    out, winner = call(kernels.max_pool2d, x, (2, 1), (1, 2), (3, 0, 0, 2))
    assert out[0, :, 0, 0].tolist() == [-np.inf, -np.inf, -5, -5]
    assert winner[0, :, :, 0].tolist() == [[-1, -1, -1], [-1, -1, -1], [1, 1, -1], [0, 0, -1]]
    dout = np.arange(1, 13, dtype=np.float32).reshape(out.shape)
    dx = call(kernels.max_pool2d_backward, dout, winner, x.shape, (2, 1), (1, 2), (3, 0, 0, 2))
    assert dx[0, :, :, 0].tolist() == [[7 + 10, 0, 8 + 11], [0, 0, 0]]


# --- dense -------------------------------------------------------------------------------------------------------

DENSE = [(1, 1, 1), (1, 7, 3), (5, 1, 4), (6, 9, 1), (4, 17, 10), (33, 5, 2), (3, 40, 37), (2, 3, 65)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", DENSE, ids=str)
def test_dense(kernels, sizes, dtype):  # noqa: F811
    N, D, K = sizes
    rng = np.random.default_rng(sizes)
    x, w, b, dout = integers(rng, N, D), integers(rng, D, K), integers(rng, K), integers(rng, N, K)
    x_float, w_float, b_float, dout_float = (array.astype(dtype) for array in (x, w, b, dout))
    equal(call(kernels.dense, x_float, w_float, b_float), naive.dense(x, w, b), dtype)
    equal(call(kernels.dense, x_float, w_float, None), naive.dense(x, w, None), dtype)
    right = naive.dense_backward(dout, x, w)
    for actual, expected in zip(call(kernels.dense_backward, dout_float, x_float, w_float), right, strict=True):
        equal(actual, expected, dtype)
    dx, dw, db = call(kernels.dense_backward, dout_float, x_float, w_float, need_dx=False)
    assert dx is None
    equal(dw, right[1], dtype)
    equal(db, right[2], dtype)


@pytest.mark.parametrize(("x_layout", "w_layout"), list(itertools.product(LAYOUTS, LAYOUTS)))
def test_dense_reads_any_layout(kernels, x_layout, w_layout):  # noqa: F811
    rng = np.random.default_rng(5)
    x, w, b, dout = integers(rng, 6, 11), integers(rng, 11, 5), integers(rng, 5), integers(rng, 6, 5)
    x_view, dout_view = (LAYOUTS[x_layout](array.astype(np.float32)) for array in (x, dout))
    w_view, b_view = (LAYOUTS[w_layout](array.astype(np.float32)) for array in (w, b))
    equal(call(kernels.dense, x_view, w_view, b_view), naive.dense(x, w, b), np.float32)
    right = naive.dense_backward(dout, x, w)
    for actual, expected in zip(call(kernels.dense_backward, dout_view, x_view, w_view), right, strict=True):
        equal(actual, expected, np.float32)
