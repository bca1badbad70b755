"""The laws' own ground: a law that does not hold is found, one that does is counted, and the nightly profile works."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import hypothesis
import numpy as np
import pytest

import law_strategies
from law_strategies import AXES, TILED, VALID, law, near, rows, same
from minicnn.kernels import fast, reference
from small_suites import lay_out

ROOT = Path(__file__).parents[1]


def test_a_law_is_tried_as_often_as_the_profile_wants_and_counted_once_both_sets_obey(monkeypatch):
    tried, recorded = [], []
    monkeypatch.setattr(law_strategies, "record", lambda section, count: recorded.append((section, count)))

    @law(rows((1, 9)))
    def test(kernels, case):
        tried.append((kernels, case.seed))

    test(reference)
    assert not recorded
    test(fast)
    wanted = hypothesis.settings.default.max_examples
    of_fast = law_strategies.NO_JIT_EXAMPLES if law_strategies.NO_JIT else wanted
    assert [sum(kernels is of for kernels, _ in tried) for of in (reference, fast)] == [wanted, of_fast]
    assert recorded == [("laws", wanted + of_fast)]
    if hypothesis.settings.default.derandomize:
        assert tried[0][1] == tried[wanted][1]  # the same examples for both sets


def test_a_law_that_holds_most_of_the_time_is_refuted(monkeypatch):
    monkeypatch.setattr(law_strategies, "record", lambda *_: pytest.fail("a broken law was counted"))

    @law(rows((1, 5)))
    def test(kernels, case):
        assert case.sizes[0] != 4, "refuted"

    for kernels in (reference, fast):
        with pytest.raises(AssertionError, match="refuted"):
            test(kernels)


def test_a_law_that_was_hardly_tried_is_red(monkeypatch):
    """Two examples are all there are, so Hypothesis stops early."""
    monkeypatch.setattr(law_strategies, "record", lambda *_: pytest.fail("it was counted"))

    @law(hypothesis.strategies.booleans())
    def test(kernels, case):
        pass

    with pytest.raises(AssertionError, match="only 2 examples"):
        test(reference)


def test_comparisons_see_small_differences():
    one = np.ones((2, 3), np.float32)
    near(one, one + np.float32(5e-6))
    with pytest.raises(AssertionError, match="allowed"):
        near(one, one + np.float32(5e-5))
    with pytest.raises(AssertionError):
        near(one.astype(np.float64), one.astype(np.float64) + 1e-11)
    with pytest.raises(AssertionError):
        near(one, np.where(one > 0, np.nan, one))
    nearly = np.nextafter(one, np.float32(2))
    same(reference, one, nearly)
    with pytest.raises(AssertionError, match="allowed none"):
        same(fast, one, nearly)


def test_the_drawn_geometries_are_what_they_claim():
    for axis in AXES:
        ends = [place * axis.stride + axis.window for place in range(axis.places + 1)]
        assert ends[-2] <= axis.before + axis.size + axis.after < ends[-1]
        assert axis.size >= 1
    assert any(axis.stride > axis.window for axis in AXES)
    assert any(min(axis.before, axis.after) >= axis.window for axis in AXES)
    assert any(axis not in TILED for axis in AXES)
    assert {axis.places for axis in VALID} == {axis.places for axis in TILED} == {1, 2, 3}


def test_the_nightly_profile_is_loaded_by_its_option(tmp_path):
    """In a suite of its own, under this project's settings."""
    lay_out(tmp_path)
    (tmp_path / "tests/test_it.py").write_text(
        "import hypothesis\n"
        "def test_it():\n"
        "    settings = hypothesis.settings.default\n"
        "    assert (settings.max_examples, settings.derandomize, settings.deadline) == (5000, False, None)\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--hypothesis-profile=nightly", "tests"]
    run = subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
                         capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    ordinary = hypothesis.settings.get_profile("minicnn")
    assert (ordinary.max_examples, ordinary.derandomize, ordinary.deadline) == (200, True, None)
