"""Wilson's interval and the confusion matrix, against their definitions and published values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from minicnn.errors import ArgumentError, DataError, ShapeError
from minicnn.statistics import confusion_matrix, wilson_interval


@pytest.mark.parametrize(("correct", "total"), [(0, 1), (1, 1), (0, 10), (7, 10), (10, 10), (9920, 10_000), (1, 3)])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_the_interval_is_scipys(correct, total, confidence):
    expected = binomtest(correct, total).proportion_ci(confidence, method="wilson")
    assert wilson_interval(correct, total, confidence) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_the_interval_stays_inside_and_is_not_empty_where_all_is_right():
    low, high = wilson_interval(50, 50)
    assert 0.9 < low < 1
    assert high == 1
    assert wilson_interval(0, 50)[0] == 0


@pytest.mark.parametrize(("correct", "total", "confidence"),
                         [(1, 0, 0.95), (11, 10, 0.95), (-1, 10, 0.95), (5, 10, 0), (5, 10, 1), (5, 10, 95)])
def test_counts_that_make_no_sense_are_refused(correct, total, confidence):
    with pytest.raises(ArgumentError, match="expected"):
        wilson_interval(correct, total, confidence)


def test_rows_are_the_truth_and_columns_what_was_predicted():
    matrix = confusion_matrix([0, 0, 1, 2, 2, 2], [0, 2, 1, 2, 0, 0], classes=4)
    np.testing.assert_array_equal(matrix, [[1, 0, 1, 0], [0, 1, 0, 0], [2, 0, 1, 0], [0, 0, 0, 0]])


def test_counts_are_those_of_a_loop_also_for_small_integer_types(rng):
    true, predicted = rng.integers(0, 30, 200, dtype=np.uint8), rng.integers(0, 30, 200)
    expected = np.zeros((30, 30), int)
    for t, p in zip(true, predicted):
        expected[t, p] += 1
    np.testing.assert_array_equal(confusion_matrix(true, predicted, 30), expected)


@pytest.mark.parametrize(("true", "predicted", "error", "words"), [
    ([0, 1], [0], ShapeError, "equal length"),
    ([0, 1], [[0.1, 0.9], [0.5, 0.5]], ShapeError, "argmax"),
    ([0, 1], [0.0, 1.0], DataError, "integers"),
    ([0, 3], [0, 1], DataError, r"classes=4"),
    ([0, 1], [-1, 1], DataError, "y_pred from -1"),
])
def test_labels_that_make_no_sense_are_refused(true, predicted, error, words):
    with pytest.raises(error, match=words):
        confusion_matrix(true, predicted, classes=3)
