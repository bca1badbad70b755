"""Winograd's convolution: its matrices, and its error against the definition in float64, at sizes around its constants.

Its arithmetic rounds even whole numbers, so nothing here is exact: errors are normwise, of the largest entry.
"""

from __future__ import annotations

import importlib
import itertools
from typing import NamedTuple

import numba
import numpy as np
import pytest

import exact
from kernel_calls import DTYPES, LAYOUTS, call
from minicnn.kernels import fast, reference
from minicnn.kernels.fast import winograd
from minicnn.kernels.fast import winograd_transforms as transforms
from minicnn.kernels.fast.simd import LANES, store
from minicnn.kernels.geometry import Padding

conv2d = importlib.import_module("minicnn.kernels.fast.conv2d")

BOUND = {np.float32: 2e-5, np.float64: 1e-10}
NO_JIT = bool(numba.config.DISABLE_JIT)
OF_SIZE = {3: (transforms.input_6, transforms.output_6, transforms.output_6_transposed, transforms.input_6_transposed),
           5: (transforms.input_8, transforms.output_8, transforms.output_8_transposed, transforms.input_8_transposed)}
ALONG = (transforms.transform_input, transforms.transform_output, transforms.transform_output_gradient,
         transforms.add_input_gradient)


# --- the matrices ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("r", OF_SIZE)
def test_the_matrices_multiply_polynomials(r, rng):
    """In exact arithmetic ``A^T [(G w) * (B^T x)]`` is the correlation of x with w; the points are told apart."""
    AT, G, BT = transforms.matrices(r)
    alpha = r + transforms.OUTPUTS - 1
    assert (AT.shape, G.shape, BT.shape) == ((transforms.OUTPUTS, alpha), (alpha, r), (alpha, alpha))
    assert len(set(transforms.POINTS[r])) == alpha - 1
    for _ in range(20):
        w, x = rng.standard_normal(r), rng.standard_normal(alpha)
        np.testing.assert_allclose(AT @ ((G @ w) * (BT @ x)), np.correlate(x, w), rtol=0, atol=1e-13)


def applied(function, size, out):
    """Return the matrix of a transform written out as sums, from what it makes of unit vectors."""
    columns = [function(*unit) for unit in np.eye(size)]
    assert {len(column) for column in columns} == {out}
    return np.array(columns).T


@pytest.mark.parametrize("r", OF_SIZE)
def test_the_transforms_are_their_matrices(r):
    AT, _, BT = transforms.matrices(r)
    alpha, few = r + transforms.OUTPUTS - 1, transforms.OUTPUTS
    for function, matrix in zip(OF_SIZE[r], (BT, AT, AT.T, BT.T), strict=True):
        np.testing.assert_allclose(applied(getattr(function, "py_func", function), *matrix.shape[::-1]), matrix,
                                   rtol=0, atol=1e-14, err_msg=function.__name__)
    assert BT.shape == (alpha, alpha)
    assert AT.shape == (few, alpha)


def eight_and_six(array, index, step, out):
    k = 0
    for row in transforms.load_rows(8, array, index, step):
        store(out, LANES * k, row)
        k += 1
    for row in transforms.load_rows(6, array, index + 1, step - 2):
        store(out, LANES * k, row)
        k += 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_are_read_from_where_they_lie(dtype, rng):
    array = rng.standard_normal(8 * 19 + LANES).astype(dtype)
    expected = np.concatenate([array[3 + 19 * k:][:LANES] for k in range(8)]
                              + [array[4 + 17 * k:][:LANES] for k in range(6)])
    for function in (eight_and_six, numba.njit(eight_and_six)):
        out = np.zeros(14 * LANES, dtype)
        function(array, 3, 19, out)
        np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("r", OF_SIZE)
def test_the_transforms_along_an_axis(r, dtype, rng):
    """Tiles and places at any distance; nothing else is written. The last transform adds where tiles overlap."""
    AT, _, BT = transforms.matrices(r)
    alpha, few, count, tiles = r + transforms.OUTPUTS - 1, transforms.OUTPUTS, 2 * LANES, 3
    for function, matrix in zip(ALONG, (BT, AT, AT.T, BT.T), strict=True):
        places_out, places_in = matrix.shape
        adds = function is transforms.add_input_gradient
        s, s_step, s_tile = 5, count + 3, places_in * (count + 3) + 7
        t, t_step = 9, count + 1
        t_tile = few * t_step if adds else places_out * t_step + 2
        source = rng.standard_normal(s + tiles * s_tile).astype(dtype)
        target = np.full(t + tiles * t_tile + places_out * t_step, 999, dtype)
        if adds:  # what the tiles share begins as a number that stays, what a tile stores first as garbage
            target[t:t + (alpha - few) * t_step] = 0.5
        expected = target.astype(np.float64)
        for tile, place, k in itertools.product(range(tiles), range(places_out), range(count)):
            entry = source[s + tile * s_tile + s_step * np.arange(places_in) + k].astype(np.float64)
            at = t + tile * t_tile + place * t_step + k
            expected[at] = matrix[place] @ entry + (expected[at] if adds and place < alpha - few else 0)
        function(alpha, source, s, s_step, s_tile, target, t, t_step, t_tile, tiles, count)
        np.testing.assert_allclose(target, expected, rtol=0, atol=40 * np.finfo(dtype).eps * np.abs(source).max(),
                                   err_msg=function.__name__)


# --- the convolution ---------------------------------------------------------------------------------------------

class Geometry(NamedTuple):
    """Images and their places (N, OH, OW), channels and filters, size of the kernel, padding."""

    N: int
    OH: int
    OW: int
    C: int
    F: int
    r: int
    padding: Padding

    @property
    def x_shape(self):
        top, bottom, left, right = self.padding
        return self.N, self.OH + self.r - 1 - top - bottom, self.OW + self.r - 1 - left - right, self.C

    @property
    def is_possible(self):
        return min(self.x_shape) >= 1


CHANNELS = (1, 15, 16, 17, 32, 33, 48)
SIZES = (*range(1, 10), 27, 28, 29)


def small():
    """Every OH with some OW, every pair of channels, and any padding, in turns."""
    rng = np.random.default_rng(5)
    pairs = itertools.cycle(rng.permutation(list(itertools.product(CHANNELS, CHANNELS))).tolist())
    for OH, OW, r in itertools.product(range(1, 10), range(1, 10), OF_SIZE):
        C, F = next(pairs)
        paddings = [(0, 0, 0, 0), ((r - 1) // 2,) * 4, (0, r, r + 2, 1), (r, 0, 0, 1), (r - 1, r - 1, r - 1, r - 1)]
        first = int(rng.integers(len(paddings)))
        for padding in [*paddings[first:], *paddings[:first]]:  # the first that leaves an image
            geometry = Geometry(int(rng.integers(1, 4)), OH, OW, C, F, r, padding)
            if geometry.is_possible:
                yield geometry
                break


def groups():
    """Strips of which no whole number of groups, or just one, or one and one more, make the batch of a chunk."""
    for tiles, r in itertools.product((1, 2, 3, 6, 7, 8), OF_SIZE):
        group = max(1, winograd.TILES // tiles)
        for strips in exact.around(group):
            OH, OW = transforms.OUTPUTS * min(strips, 3) - 1, transforms.OUTPUTS * tiles - 2
            N = -(-strips // min(strips, 3))
            yield Geometry(N if N <= conv2d.CHUNKS else N * conv2d.CHUNKS // 4, OH, OW, 3, 2, r, (1, 0, 1, 1))


def large():
    for OH, OW, r in ((27, 28, 3), (28, 29, 5), (29, 27, 3), (28, 28, 5), (27, 4, 5), (5, 29, 3)):
        yield Geometry(2, OH, OW, 16, 33, r, ((r - 1) // 2,) * 4)
    yield Geometry(conv2d.CHUNKS + 1, 5, 6, 17, 16, 5, (2, 2, 1, 3))
    yield Geometry(37, 6, 5, 16, 17, 3, (1, 1, 2, 0))


GEOMETRIES = {"small": list(small()), "groups": list(dict.fromkeys(groups())), "large": list(large())}
WITHOUT_JIT = {"small": 31, "groups": 17, "large": 5}  # every so many: plain Python is slow


def of(name):
    step = WITHOUT_JIT[name] if NO_JIT else 1
    return GEOMETRIES[name][step - 1::step]


def test_the_geometries_are_those_that_go_wrong():
    everything = [geometry for some in GEOMETRIES.values() for geometry in some]
    assert {geometry.C for geometry in everything} >= set(CHANNELS)
    assert {geometry.F for geometry in everything} >= set(CHANNELS)
    assert {geometry.OH for geometry in everything} >= set(SIZES)
    assert {geometry.OW for geometry in everything} >= set(SIZES)
    assert sum(max(geometry.padding) >= geometry.r for geometry in everything) >= 20
    assert sum(len(set(geometry.padding)) > 2 for geometry in everything) >= 20
    assert sum(geometry.OH != geometry.OW for geometry in everything) > 0.8 * len(everything)


def drawn(rng, geometry, dtype):
    """Return x, w, b and dout."""
    shapes = (geometry.x_shape, (geometry.r, geometry.r, geometry.C, geometry.F), (geometry.F,),
              (geometry.N, geometry.OH, geometry.OW, geometry.F))
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def close(actual, expected, dtype, where):
    assert actual.dtype == dtype, where
    assert actual.shape == expected.shape, where
    error = np.linalg.norm(actual.astype(np.float64) - expected) / (np.linalg.norm(expected) or 1)
    assert error <= BOUND[dtype], f"{where}: error {error:.1e}"  # NaN is not below


def judge(rng, geometry, dtype):
    """Forward and backward, each called twice on arrays that stay as they are, into memory full of NaN."""
    arrays = drawn(rng, geometry, dtype)
    x, w, b, dout = arrays
    exactly = [array.astype(np.float64) for array in arrays]
    rest = ((1, 1), geometry.padding, "winograd")
    out = call(fast.conv2d, x, w, b, *rest)
    close(out, reference.conv2d(*exactly[:3], *rest), dtype, f"{geometry}: out")
    gradients = call(fast.conv2d_backward, dout, x, w, *rest)
    right = reference.conv2d_backward(exactly[3], *exactly[:2], *rest)
    for name, actual, expected in zip(("dx", "dw", "db"), gradients, right, strict=True):
        close(actual, expected, dtype, f"{geometry}: {name}")
    no_dx, dw, db = fast.conv2d_backward(dout, x, w, *rest, need_dx=False)
    assert no_dx is None
    assert dw.tobytes() == gradients[1].tobytes()
    assert db.tobytes() == gradients[2].tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", GEOMETRIES)
def test_the_error_against_the_definition(name, dtype, rng, monkeypatch):
    exact.poison(monkeypatch)
    for geometry in of(name):
        judge(rng, geometry, dtype)


@pytest.mark.parametrize("r", OF_SIZE)
def test_few_tiles_in_a_group(r, rng, monkeypatch):
    """Groups of one strip, of two, and of more than an image has: the sizes of a plan follow the constant."""
    exact.poison(monkeypatch)
    for tiles, OH in ((1, 9), (4, 18), (5, 9), (1000, 18)):  # nine rows have no strip wholly inside the image
        monkeypatch.setattr(winograd, "TILES", tiles)
        judge(rng, Geometry(2, OH, 6, 2, 3, r, (1, 1, 0, 1)), np.float32)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_arrays_may_lie_in_any_layout(layout, rng):
    geometry = Geometry(2, 5, 6, 17, 3, 3, (1, 1, 2, 0))
    x, w, b, dout = drawn(rng, geometry, np.float32)
    odd = [LAYOUTS[layout](array) for array in (x, w, b, dout)]
    rest = ((1, 1), geometry.padding, "winograd")
    assert fast.conv2d(*odd[:3], *rest).tobytes() == fast.conv2d(x, w, b, *rest).tobytes()
    for actual, expected in zip(fast.conv2d_backward(odd[3], *odd[:2], *rest),
                                fast.conv2d_backward(dout, x, w, *rest), strict=True):
        assert actual.tobytes() == expected.tobytes()


# --- equal bits --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("r", OF_SIZE)
def test_the_same_bits_for_every_number_of_threads(r, threads, rng):
    geometry = Geometry(37 if not NO_JIT else 5, 5, 7, 17, 16, r, (1, 1, 0, 2))
    x, w, b, dout = drawn(rng, geometry, np.float32)
    rest = ((1, 1), geometry.padding, "winograd")
    results = set()
    for number in (1, 2, 3, 4):
        threads(number)
        results.add(b"".join(array.tobytes() for array in (
            fast.conv2d(x, w, b, *rest), *fast.conv2d_backward(dout, x, w, *rest))))
    assert len(results) == 1


@pytest.mark.parametrize("r", OF_SIZE)
@pytest.mark.parametrize("size", [(5, 7), (12, 4), (1, 1)])
def test_an_image_has_the_same_bits_alone_as_in_a_batch(r, size, rng):
    """Whatever group of strips it is in: the first, the last, one with strips of two images."""
    geometry = Geometry(37 if not NO_JIT else 4, *size, 17, 16, r, (1, 1, 0, r - 1))
    x, w, b, dout = drawn(rng, geometry, np.float32)
    rest = ((1, 1), geometry.padding, "winograd")
    together, dx = fast.conv2d(x, w, b, *rest), fast.conv2d_backward(dout, x, w, *rest)[0]
    for n in range(geometry.N):
        alone = slice(n, n + 1)
        assert fast.conv2d(x[alone], w, b, *rest).tobytes() == together[alone].tobytes(), n
        assert fast.conv2d_backward(dout[alone], x[alone], w, *rest)[0].tobytes() == dx[alone].tobytes(), n
