"""Laws of dropout: its mask follows from key, image and position, and keeps the right share."""

from __future__ import annotations

from types import ModuleType

import numpy as np
from hypothesis import strategies as st

from law_strategies import DTYPES, SEEDS, Rows, equal, inner, law, small_pieces

SIGMAS = 4


class Mask(Rows):
    """Images (N, ...), a rate and a key."""

    @property
    def rate(self) -> float:
        """From 0.05 to 0.95, with many digits."""
        return 0.05 + 0.9 * (self.seed * 0.6180339887498949 % 1)

    @property
    def key(self) -> int:
        """All 64 bits of it used."""
        return self.seed * 0x9E3779B97F4A7C15 % 2**64


def masks(*limits: tuple[int, int]) -> st.SearchStrategy:
    return st.builds(Mask, SEEDS, st.sampled_from(DTYPES), st.tuples(*(st.integers(*limit) for limit in limits)))


IMAGES = masks((1, 5), (1, 6), (1, 5), (1, 3))  # N, H, W, C
LARGE = masks((8, 12), (11, 13), (9, 13))  # some 1,000 entries


def beyond(observed: float, expected: float, deviation: float) -> bool:
    """Tell whether an observation is further than four standard deviations from what is expected."""
    return abs(observed - expected) > SIGMAS * deviation


@law(LARGE)
def test_the_kept_share_is_within_four_sigma(kernels: ModuleType, case: Mask) -> None:
    """One sample in 16,000 is further away by chance, so such a one gets a second, independent trial."""
    ones, keep = np.ones(case.sizes, case.dtype), 1 - case.rate
    deviation = (keep * case.rate / ones.size) ** 0.5
    shares = (np.count_nonzero(kernels.dropout(ones, case.rate, (case.key + again) % 2**64)) / ones.size
              for again in range(2))
    assert not all(beyond(share, keep, deviation) for share in shares)


@law(LARGE)
def test_the_mean_stays_within_four_sigma(kernels: ModuleType, case: Mask) -> None:
    """Of any image: sum of x stays in expectation, with variance rate / (1 - rate) * sum of x**2."""
    x = case.normal(*case.sizes)
    deviation = (case.rate / (1 - case.rate) * inner(x, x)) ** 0.5
    sums = (kernels.dropout(x, case.rate, (case.key + again) % 2**64).sum(dtype=np.float64) for again in range(2))
    total = x.sum(dtype=np.float64)
    assert not all(beyond(observed, total, deviation) for observed in sums)


@law(LARGE)
def test_masks_of_images_and_keys_agree_no_more_than_by_chance(kernels: ModuleType, case: Mask) -> None:
    """Neighbouring images, neighbouring keys, and keys that differ in the upper half only."""
    ones = np.ones(case.sizes, case.dtype)
    alike = case.rate**2 + (1 - case.rate)**2
    for pair in ("images", "keys", "upper halves"):
        agreements = []
        for again in range(2):
            key = (case.key + 1000 * again) % 2**64
            kept = kernels.dropout(ones, case.rate, key) > 0
            one, other = kept[:-1], kept[1:]
            if pair != "images":
                one, other = kept, kernels.dropout(ones, case.rate, key ^ (1 if pair == "keys" else 1 << 32)) > 0
            agreements.append(float(np.mean(one == other)))
        # neighbouring pairs share an image: their agreements are correlated, at most as if each counted twice
        deviation = (2 * alike * (1 - alike) / one.size) ** 0.5
        assert not all(beyond(agreement, alike, deviation) for agreement in agreements), pair


@law(IMAGES)
def test_backward_is_the_forward_mask(kernels: ModuleType, case: Mask) -> None:
    """<dropout(x), g> = <x, dropout_backward(g)>, entry by entry; kept ones are scaled by 1 / (1 - rate)."""
    x, g = case.integers(*case.sizes, low=1), case.integers(*case.sizes, low=1)
    out, dx = kernels.dropout(x, case.rate, case.key), kernels.dropout_backward(g, case.rate, case.key)
    equal(out != 0, dx != 0)
    factor = case.dtype(1 / (1 - case.rate))
    equal(out, np.where(out != 0, x * factor, 0).astype(case.dtype))
    equal(dx, np.where(out != 0, g * factor, 0).astype(case.dtype))
    equal(kernels.dropout(x, 0.0, case.key), x)


@law(IMAGES)
def test_an_images_mask_follows_from_its_place_in_the_batch(kernels: ModuleType, case: Mask) -> None:
    """Neither from the images after it, nor from the values, nor from the axes the pixels are counted along."""
    x, stop = case.normal(*case.sizes), 1 + case.below(case.sizes[0])
    out = kernels.dropout(x, case.rate, case.key)
    equal(kernels.dropout(x[:stop], case.rate, case.key), out[:stop])
    equal(kernels.dropout(x.reshape(len(x), -1), case.rate, case.key).reshape(x.shape), out)
    equal(kernels.dropout(-2 * x, case.rate, case.key), -2 * out)


@law(IMAGES)
def test_a_higher_rate_drops_more_of_the_same(kernels: ModuleType, case: Mask) -> None:
    x = np.ones(case.sizes, case.dtype)
    kept, fewer = (kernels.dropout(x, rate, case.key) > 0 for rate in (case.rate, (1 + case.rate) / 2))
    assert not (fewer & ~kept).any()


@law(IMAGES)
def test_the_number_of_threads_does_not_matter(kernels: ModuleType, case: Mask) -> None:
    x = case.normal(*case.sizes)
    out = kernels.dropout(x, case.rate, case.key)
    for number in (1, 2, 3):
        with small_pieces(number):
            equal(kernels.dropout(x, case.rate, case.key), out)
