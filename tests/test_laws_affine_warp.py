"""Laws of the affine warp."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import numpy as np
from hypothesis import strategies as st

from law_strategies import DTYPES, SEEDS, Case, equal, law, near, same

MODES = ("nearest", "constant", "reflect", "wrap")


@dataclass(frozen=True)
class Warp(Case):
    """Images (N, H, W, C), and what lies outside them."""

    sizes: tuple[int, int, int, int]
    mode: str

    def images(self) -> np.ndarray:
        """Return images with entries from 1 to 9."""
        return self.integers(*self.sizes, low=1, high=9)

    def matrices(self) -> np.ndarray:
        """Return (N, 2, 3): rotations, zooms and shears of a moderate size, and shifts."""
        linear = np.eye(2) + 0.4 * self.rng.standard_normal((self.sizes[0], 2, 2))
        return np.concatenate([linear, 2 * self.rng.standard_normal((self.sizes[0], 2, 1))], axis=2)

    def shifts(self, rows: int, columns: int) -> np.ndarray:
        """Return (N, 2, 3): all images moved by whole pixels."""
        return np.tile(np.array([[1.0, 0, rows], [0, 1, columns]]), (self.sizes[0], 1, 1))


def warps(*modes: str) -> st.SearchStrategy:
    """Return a strategy for warps that fill in one of these ways; in any, if none is named."""
    sizes = st.tuples(*(st.integers(1, last) for last in (3, 6, 5, 3)))
    return st.builds(Warp, SEEDS, st.sampled_from(DTYPES), sizes, st.sampled_from(modes or MODES))


@law(warps())
def test_the_identity(kernels: ModuleType, case: Warp) -> None:
    x = case.images()
    equal(kernels.affine_warp(x, case.shifts(0, 0), case.mode, 7.0), x)


@law(warps())
def test_a_constant_image_stays(kernels: ModuleType, case: Warp) -> None:
    """The weights of the four neighbours sum to 1. In general no pixel leaves the range of the image and the fill."""
    x, matrices, value = case.images(), case.matrices(), case.integers(low=1)
    near(kernels.affine_warp(np.full_like(x, value), matrices, case.mode, float(value)), np.full_like(x, value))
    out = kernels.affine_warp(x, matrices, case.mode, 5.0)
    low, high = (min(x.min(), 5), max(x.max(), 5)) if case.mode == "constant" else (x.min(), x.max())
    assert low - 1e-5 <= out.min() <= out.max() <= high + 1e-5


@law(warps())
def test_whole_pixels_inside_the_image_only_move(kernels: ModuleType, case: Warp) -> None:
    """out[i, j] = x[i + r, j + s] wherever that is a pixel of the image, whatever lies outside."""
    x, (_, H, W, _) = case.images(), case.sizes
    r, s = case.below(2 * H) - H, case.below(2 * W) - W
    out = kernels.affine_warp(x, case.shifts(r, s), case.mode, 7.0)
    rows = [(i, i + r) for i in range(H) if 0 <= i + r < H]
    columns = [(j, j + s) for j in range(W) if 0 <= j + s < W]
    for i, from_i in rows:
        for j, from_j in columns:
            equal(out[:, i, j], x[:, from_i, from_j])
    if case.mode == "constant":
        assert (out == 7).all(axis=(0, 3)).sum() >= H * W - len(rows) * len(columns)


@law(warps("nearest", "constant"))
def test_shifts_compose(kernels: ModuleType, case: Warp) -> None:
    """Twice in the same direction by whole pixels is once by their sum; also where the image has left the frame."""
    x, (_, H, W, _) = case.images(), case.sizes
    down, right = (1 if toss else -1 for toss in case.flags(2))
    (r, s), (t, u) = ((down * case.below(H + 1), right * case.below(W + 1)) for _ in range(2))
    twice = kernels.affine_warp(kernels.affine_warp(x, case.shifts(r, s), case.mode), case.shifts(t, u), case.mode)
    equal(twice, kernels.affine_warp(x, case.shifts(r + t, s + u), case.mode))


@law(warps("reflect", "wrap"))
def test_what_lies_outside_repeats(kernels: ModuleType, case: Warp) -> None:
    """A mirrored image has the period 2 * size; a wrapped one size - 1, seen anywhere but on the seam."""
    x, matrices, (_, H, W, _) = case.images(), case.matrices(), case.sizes
    periods = (2 * H, 2 * W) if case.mode == "reflect" else (H - 1, W - 1)
    moved = matrices.copy()
    moved[:, :, 2] += np.array(periods) * (case.below(5) - 2)
    # to the rounding of the position, which moved by up to 24 pixels
    near(kernels.affine_warp(x, moved, case.mode), kernels.affine_warp(x, matrices, case.mode), 100)


@law(warps("reflect"))
def test_the_edge_is_a_mirror(kernels: ModuleType, case: Warp) -> None:
    """It stands between the first pixel and its image: positions r and -1 - r show the same."""
    x, matrices = case.images(), case.matrices()
    behind = matrices.copy()
    for axis, turned in enumerate(case.flags(2)):
        if turned:
            behind[:, axis] = -matrices[:, axis] - [0, 0, 1]
    near(kernels.affine_warp(x, behind, case.mode), kernels.affine_warp(x, matrices, case.mode), 100)


@law(warps())
def test_linear_in_the_image(kernels: ModuleType, case: Warp) -> None:
    """warp(3 x - x') = 3 warp(x) - warp(x'), with 0 outside; adding a constant adds it to the fill as well."""
    x, other, matrices = case.images(), case.images(), case.matrices()
    out, other_out = (kernels.affine_warp(image, matrices, case.mode) for image in (x, other))
    near(kernels.affine_warp(3 * x - other, matrices, case.mode), 3 * out - other_out, 40)
    near(kernels.affine_warp(x + 2, matrices, case.mode, 2.0), out + 2, 20)


@law(warps())
def test_images_and_channels_stand_alone(kernels: ModuleType, case: Warp) -> None:
    x, matrices = case.images(), case.matrices()
    n, c = case.rng.permutation(case.sizes[0]), case.rng.permutation(case.sizes[3])
    n, c = n[:1 + case.below(len(n))], c[:1 + case.below(len(c))]
    out = kernels.affine_warp(x, matrices, case.mode, 7.0)
    same(kernels, kernels.affine_warp(x[n], matrices[n], case.mode, 7.0), out[n])
    near(kernels.affine_warp(x[..., c], matrices, case.mode, 7.0), out[..., c])


@law(warps())
def test_rows_and_columns_may_change_places(kernels: ModuleType, case: Warp) -> None:
    """The image turned over its diagonal, and the matrices with it."""
    x, matrices = case.images(), case.matrices()
    turned = matrices[:, ::-1][:, :, [1, 0, 2]]
    near(kernels.affine_warp(x.swapaxes(1, 2), turned, case.mode, 7.0),
         kernels.affine_warp(x, matrices, case.mode, 7.0).swapaxes(1, 2), 100)
