"""Intervals, the confusion matrix, rates of classes and McNemar's test, against their definitions and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from minicnn.errors import ArgumentError, DataError, ShapeError
from minicnn.statistics import confusion_matrix, mcnemar, precision_recall_f1, wilson_interval


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


# --- rates of classes --------------------------------------------------------------------------------------------

def test_rates_are_those_of_the_labels_counted_one_by_one(rng):
    true = rng.integers(0, 4, 90)
    predicted = np.where(rng.random(90) < 0.6, true, rng.integers(0, 5, 90))    # class 4 is predicted and never there
    precision, recall, f1 = precision_recall_f1(confusion_matrix(true, predicted, 5))
    for k in range(4):
        right = sum(t == p == k for t, p in zip(true, predicted))
        assert precision[k] == pytest.approx(right / sum(p == k for p in predicted))
        assert recall[k] == pytest.approx(right / sum(t == k for t in true))
        assert f1[k] == pytest.approx(2 * precision[k] * recall[k] / (precision[k] + recall[k]))
    assert (precision[4], f1[4], np.isnan(recall[4])) == (0, 0, True)


def test_a_class_that_nobody_knows_has_no_rates():
    assert np.isnan(precision_recall_f1([[3, 0], [0, 0]])[:, 1]).all()


# --- which of two is better --------------------------------------------------------------------------------------

def paired(both, first, second, neither):
    """Return two vectors with so many of each combination, in an order of no meaning."""
    order = np.random.default_rng(0).permutation(both + first + second + neither)
    rights = np.repeat([[1, 1], [1, 0], [0, 1], [0, 0]], [both, first, second, neither], axis=0)[order]
    return rights[:, 0], rights[:, 1]


@pytest.mark.parametrize(("first", "second"), [(1, 0), (0, 5), (6, 0), (3, 8), (25, 12), (40, 41), (900, 1000)])
def test_the_p_value_is_the_exact_binomial_one(first, second):
    found = mcnemar(*paired(30, first, second, 7))
    assert (found.only_first, found.only_second, found.disagreements) == (first, second, first + second)
    assert found.p_value == pytest.approx(binomtest(first, first + second, 0.5).pvalue, rel=1e-9)


def test_as_many_wins_for_each_say_nothing():
    for wins in (0, 1, 50):
        assert mcnemar(*paired(3, wins, wins, 4)).p_value == 1


def test_five_against_none_is_chance_and_six_is_not():
    assert not mcnemar(*paired(9_000, 5, 0, 2)).can_be_told_apart()    # p = 1/16
    found = mcnemar(*paired(9_000, 6, 0, 2))                           # p = 1/32
    assert found.p_value == 1 / 32
    assert found.can_be_told_apart()
    assert not found.can_be_told_apart(level=0.01)


@pytest.mark.parametrize(("first", "second"), [([1, 0], [1]), ([[1, 0]], [[0, 1]])])
def test_answers_to_other_questions_are_not_compared(first, second):
    with pytest.raises(ShapeError, match="equal length"):
        mcnemar(first, second)
