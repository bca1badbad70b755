"""What two given gradients are said to look like: each general sentence of the diagnosis, and when it is not said.

The gradients are made here, so that a case takes no time; ``test_diagnosis.py`` judges the diagnosis on wrong layers.
"""

from __future__ import annotations

import re

import numpy as np
import pytest

from minicnn import _diagnosis_general
from minicnn.diagnosis import Evidence, diagnose
from minicnn.layers import Dense, Dropout

RNG = np.random.default_rng(11)
KERNEL = RNG.standard_normal((2, 3, 4, 5))      # (KH, KW, C, F)
IMAGES = RNG.standard_normal((3, 7, 9, 2))      # (N, H, W, C)
ROWS = RNG.standard_normal((6, 8))              # (N, D)


def said(what, analytic, numeric, **more):
    return diagnose(Evidence(what, analytic, numeric, **more))


def spoilt(numeric, where):
    """Return a copy with numbers of their own added in some places, an index or a mask."""
    analytic = numeric.copy()
    analytic[where] += np.linspace(1, 2, analytic[where].size).reshape(analytic[where].shape)
    return analytic


# --- the first that fits -----------------------------------------------------------------------------------------

@pytest.mark.parametrize(("factor", "words"), [
    (6 / 5, r"1\.2 times .*: 6 / 5, and 6 is the batch size: is one too few counted\?$"),
    (5 / 6, r"0\.833333 times .*: 5 / 6, and 6 is the batch size: is one too few counted\?$"),
    (6, "the batch size is 6: is a mean missing"), (1 / 6, "1 / 6, and 6 is the batch size: is it averaged"),
    (0.5, "is it halved"), (1.7, r"1\.7 times the numeric gradient everywhere\.$")])
def test_a_factor_and_what_it_may_come_from(factor, words):
    diagnosis = said("input", factor * ROWS, ROWS, x=ROWS + 1)
    assert diagnosis.kind == "ratio"
    assert re.search(words, str(diagnosis)), str(diagnosis)


@pytest.mark.parametrize(("factor", "words"), [
    (0.8, "factor 1 / (1 - rate) missing"), (1.25, "factor applied twice"), (4, "divided by the rate instead"),
    (0.64, "multiplied by 1 - rate instead of divided"), (0.16, "multiplied by the rate")])
def test_a_factor_of_dropout(factor, words):
    diagnosis = said("input", factor * ROWS, ROWS, layer=Dropout(0.2))
    assert diagnosis.kind == "ratio"
    assert words in str(diagnosis)


def test_a_numeric_gradient_of_zeros_has_no_ratio():
    diagnosis = said("kernel", KERNEL, np.zeros_like(KERNEL))
    assert diagnosis.kind == "unused"
    assert "the output does not depend on it" in str(diagnosis)
    assert "ratio" not in diagnosis.statistics
    partly = np.where(np.arange(5) == 2, np.nan, np.zeros_like(KERNEL))    # some entries were not compared
    texts = [explanation.words for explanation in said("kernel", KERNEL, partly).explanations]
    assert len(texts) == 1
    assert texts[0].startswith("it is not zero in 96 entries through which the layer lets nothing pass")


def test_an_array_of_another_shape_explains_nothing():
    evidence = Evidence("input", -ROWS, ROWS)
    assert evidence.score(-ROWS) == 1
    assert evidence.score(-ROWS[:, :1]) == 0    # although it could be broadcast
    assert evidence.best("sign", [("too small", -ROWS[:, :1]), ("it", -ROWS)])[0].words == "it"


def test_an_error_among_entries_that_were_not_compared_is_admitted():
    compared = np.where(np.arange(8) < 7, ROWS, np.nan)
    diagnosis = said("input", spoilt(ROWS, np.s_[:, 7]), compared)
    assert diagnosis.explanations == ()
    assert str(diagnosis) == ("input: no pattern recognised; the 42 entries compared one by one are right: the error "
                              "is among those seen by the random direction only.")


@pytest.mark.parametrize(("analytic", "words"), [
    (KERNEL[:, ::-1], r"with its kernel columns in reverse order \(\[:, ::-1\]\)\. Is an array turned"),
    (KERNEL[::-1, :, :, ::-1], r"its kernel rows and output channels in reverse order \(\[::-1, :, :, ::-1\]\)")])
def test_flipped_axes(analytic, words):
    diagnosis = said("kernel", analytic, KERNEL)
    assert diagnosis.kind == "axes"
    assert re.search(words, str(diagnosis)), str(diagnosis)


def test_an_axis_of_one_is_not_said_to_be_flipped():
    numeric = KERNEL[:1]
    texts = [explanation.words for explanation in said("kernel", numeric[:, ::-1], numeric).explanations]
    assert "its kernel columns in reverse order" in texts[0]
    assert not any("kernel rows" in text for text in texts)


def test_axes_of_a_large_tensor_are_not_tried_in_every_order(monkeypatch, rng):
    square = rng.standard_normal((5, 5))
    assert "inputs and outputs swapped" in str(said("kernel", square.T.copy(), square))
    monkeypatch.setattr(_diagnosis_general, "AXES_LIMIT", 24)
    assert "swapped" not in str(said("kernel", square.T.copy(), square))


def test_right_in_a_fresh_layer_only(rng):
    stale = rng.standard_normal(ROWS.shape)
    diagnosis = said("input", stale, ROWS, calls=(ROWS, stale, stale))
    assert diagnosis.kind == "accumulated"
    assert "right in a fresh layer, but wrong after another batch" in str(diagnosis)
    assert said("input", stale, ROWS, calls=(stale, stale, stale)).kind is None


# --- the others --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("step", "axis", "words"), [
    (1, 2, "shifted by 1 along the columns. Is an offset"), (-2, 1, "shifted by -2 along the rows. Is an offset")])
def test_shifted(step, axis, words):
    diagnosis = said("input", np.roll(IMAGES, step, axis), IMAGES)
    assert diagnosis.kind == "geometry"
    assert words in str(diagnosis)


def test_the_same_numbers_in_another_order(rng):
    diagnosis = said("kernel", KERNEL[..., [1, 3, 0, 2, 4]], KERNEL)
    assert diagnosis.kind == "axes"
    assert "the output channels are right but in another order, [1, 3, 0, 2, 4]" in str(diagnosis)
    shuffled = rng.permutation(KERNEL.ravel()).reshape(KERNEL.shape)
    diagnosis = said("kernel", shuffled, KERNEL)
    assert diagnosis.kind == "axes"
    assert "the right numbers in another order. Is an array reshaped" in str(diagnosis)


def test_some_signs_differ(rng):
    diagnosis = said("kernel", np.where(rng.random(KERNEL.shape) < 0.4, -KERNEL, KERNEL), KERNEL)
    assert diagnosis.kind == "sign"
    assert "the magnitudes are right, some of the signs are not" in str(diagnosis)


def test_one_sign_per_channel():
    diagnosis = said("kernel", KERNEL * [1, -1, 1, 1, -1], KERNEL)
    assert diagnosis.kind == "sign"
    assert "wrong for some output channels and right for others" in str(diagnosis)


PASSED = RNG.random(ROWS.shape) < 0.5     # a mask
FULL = np.abs(ROWS) + 0.1


@pytest.mark.parametrize(("analytic", "words"), [
    (np.where(PASSED, 0, FULL), "zero exactly where the numeric gradient is not, and the reverse: the mask is turned"),
    (FULL, r"it is not zero in \d+ entries through which the layer lets nothing pass"),
    (np.where(PASSED & (RNG.random(ROWS.shape) < 0.5), FULL, 0), r"it is zero in \d+ entries through which the layer"),
    (3 * FULL, "lets nothing pass: the mask is missing or too wide; elsewhere it is 3 times the numeric gradient"),
    (np.where(RNG.random(ROWS.shape) < 0.5, FULL, 0), "another mask: .* Is the mask of forward used, or a new one")])
def test_masks(analytic, words):
    diagnosis = said("input", analytic, np.where(PASSED, FULL, 0))
    assert diagnosis.kind == "mask"
    assert re.search(words, str(diagnosis)), str(diagnosis)


# --- places ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("place", "kind", "words"), [
    (np.s_[:, :1], "border", "wrong in the first row only. Is the padding counted on the wrong side"),
    (np.s_[:, :, :2], "border", "wrong in the first 2 columns only"),
    (np.s_[:, -2:], "remainder", "wrong in the last 2 rows only"),
    (np.s_[1], "remainder", "wrong in image 1 only"),
    (np.s_[:, [1, 4]], "remainder", "wrong in rows 1 and 4 only"),
    (np.s_[:, :, 1::2], "remainder", "wrong in columns 1, 3, 5 and 7 only"),
    (np.s_[:, 1:6], "remainder", "wrong in rows 1, 2, ..., 5 only"),
    (np.s_[:, -1:, :, 1:], "remainder", "wrong in the last row and the last channel only")])
def test_places(place, kind, words):
    diagnosis = said("input", spoilt(IMAGES, place), IMAGES)
    assert diagnosis.kind == kind
    assert words in str(diagnosis)


def test_a_place_without_a_form_is_not_named():
    assert said("input", spoilt(IMAGES, np.s_[:, :, [1, 2, 5, 7]]), IMAGES).kind is None


def test_another_mask_in_one_place(rng):
    numeric = np.where(rng.random((4, 8, 9, 2)) < 0.5, rng.standard_normal((4, 8, 9, 2)), 0)
    analytic = numeric.copy()
    analytic[:, -2:] = np.where(numeric[:, -2:] == 0, rng.standard_normal((4, 2, 9, 2)), 0)
    diagnosis = said("input", analytic, numeric)
    assert diagnosis.kind == "mask"
    assert "wrong in the last 2 rows only, where it is zero in other entries than" in str(diagnosis)


def frame(top, bottom, left, right):
    """Return where the border of IMAGES is (H, W, 1)."""
    inside = np.zeros((7, 9, 1), bool)
    inside[top:7 - bottom, left:9 - right] = True
    return ~inside


@pytest.mark.parametrize(("margins", "words"), [
    ((1, 1, 1, 1), "the top row, the bottom row, the left column and the right column"),
    ((1, 2, 0, 1), "the top row, the bottom 2 rows and the right column"),
    ((0, 1, 2, 0), "the bottom row and the left 2 columns")])
def test_borders(margins, words):
    diagnosis = said("input", spoilt(IMAGES, np.broadcast_to(frame(*margins), IMAGES.shape)), IMAGES)
    assert diagnosis.kind == "border"
    assert f"wrong on the border only ({words}); right inside. Is the padding" in str(diagnosis)


@pytest.mark.parametrize(("factor", "words"), [(0, "where it is zero"), (2, "by a factor of 2")])
def test_what_the_numbers_on_a_border_are(factor, words):
    diagnosis = said("input", np.where(frame(1, 1, 1, 1), factor * IMAGES, IMAGES), IMAGES)
    assert diagnosis.kind == "border"
    assert f"the right column), {words}; right inside" in str(diagnosis)


# --- no numbers to compare ---------------------------------------------------------------------------------------

LAYER = Dense(8)
LAYER.build((4,))
LAYER.params["kernel"] = RNG.standard_normal((4, 8))
X, UPSTREAM = RNG.standard_normal((6, 4)), RNG.standard_normal((6, 8))
RIGHT = X.T @ UPSTREAM
NOISE = RIGHT + RNG.standard_normal(RIGHT.shape)


@pytest.mark.parametrize(("first", "second", "words"), [
    (RIGHT, 2 * RIGHT, "gives the gradient once more: it is added to the last one. Assign it."),
    (RIGHT, NOISE, "the first call is right, a second, equal one is not: something is left over"),
    (NOISE, RIGHT, "the second, equal call is right, the first is not: it uses something from before"),
    (NOISE, NOISE[::-1], "two equal calls give different gradients. Is something left over")])
def test_two_equal_calls_that_differ(first, second, words):
    diagnosis = said("kernel", first, RIGHT, layer=LAYER, x=X, upstream=UPSTREAM, out=X @ LAYER.params["kernel"],
                     calls=(NOISE, first, second))
    assert diagnosis.kind == "accumulated"
    assert words in str(diagnosis)


def test_two_equal_calls_with_two_masks(rng):
    first, second = (np.where(rng.random(ROWS.shape) < 0.5, ROWS, 0) for _ in range(2))
    diagnosis = said("input", first, ROWS, calls=(ROWS, first, second))
    assert diagnosis.kind == "mask"
    assert "the mask is drawn anew in backward" in str(diagnosis)


@pytest.mark.parametrize(("analytic", "words"), [
    (np.where(np.arange(8) == 7, np.nan, ROWS), "6 of 48 entries are NaN or infinite, in the last feature only."),
    (np.full_like(ROWS, np.inf), "every entry is NaN or infinite")])
def test_not_finite(analytic, words):
    diagnosis = said("input", analytic, ROWS)
    assert diagnosis.kind == "not finite"
    assert words in str(diagnosis)
    assert diagnosis.statistics == "the two gradients cannot be compared."
