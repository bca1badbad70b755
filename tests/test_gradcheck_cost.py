"""What a gradient check costs, counted in forward passes, and what it shows of its progress."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest

from minicnn import gradcheck
from minicnn._gradcheck_differences import STEPS, Line, find_slopes, rough_size
from minicnn.errors import ArgumentError
from minicnn.layers import Dense
from minicnn.models import Sequential

pytestmark = pytest.mark.usefixtures("reference_kernels")


def lines_of(f, x):
    """Lines through x of the sum of f(x), and a list that grows with every evaluation."""
    calls = []

    def function():
        calls.append(1)
        return float(np.sum(f(x)))

    base = float(np.sum(f(x)))
    return [Line(function, x, (i,), base) for i in range(len(x))], calls


def test_no_point_is_evaluated_twice():
    lines, calls = lines_of(np.sin, np.random.default_rng(0).standard_normal(40))
    rough_size(lines)
    slopes = find_slopes(lines, 7.5e-9, 1.0, [])
    assert slopes.trusted.all()
    tried = STEPS.index(slopes.steps[0])
    assert len(calls) <= 4 * (len(lines) + 7 * (tried + 1))


def test_a_moved_line_forgets():
    lines, calls = lines_of(np.sin, np.array([0.3, 0.9]))
    before = lines[0].slope(STEPS[2])
    lines[0].move(0.25)
    assert lines[0].slope(STEPS[2])[0] == pytest.approx(np.cos(0.55), rel=1e-9)
    lines[0].move(0.0)
    assert lines[0].slope(STEPS[2]) == before
    assert len(calls) == 2 * 4 + 1


def large_model():
    return Sequential([Dense(20, input_shape=(30,)), Dense(3)])


def test_entries_can_be_fewer():
    x = np.random.default_rng(0).standard_normal((3, 30))
    report = gradcheck.check_model(large_model(), x, entries=15)
    assert report, str(report)
    assert [row.checked for row in report.rows] == [16, 16, 16, 16, 3]
    assert gradcheck.check_model(large_model(), x)["dense/kernel"].checked == 201
    with pytest.raises(ArgumentError, match="entries"):
        gradcheck.check_model(large_model(), x, entries=0)


def test_command_takes_entries(tmp_path, capsys):
    large_model().save(tmp_path / "model.safetensors")
    assert gradcheck.main([str(tmp_path / "model.safetensors"), "--entries", "7"]) == 0
    assert "dense/kernel    30x20  8 " in capsys.readouterr().out
    assert gradcheck.main([str(tmp_path / "model.safetensors"), "--entries", "0"]) == 2
    assert "entries" in capsys.readouterr().err


@pytest.mark.parametrize(("parameters", "entries"), [(100_000, 200), (100_001, 50)])
def test_large_models_get_fewer_entries_on_the_command_line(parameters, entries):
    assert gradcheck._entries(parameters) == entries


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("stream", "shown"), [(Terminal, True), (io.StringIO, False)])
def test_progress_is_shown_on_a_terminal(monkeypatch, stream, shown):
    monkeypatch.setattr(sys, "stderr", stream())
    gradcheck.check_model(large_model(), np.ones((2, 30)), entries=3)
    text = sys.stderr.getvalue()
    assert ("0/5" in text) is shown
    assert ("dense_1/kernel" in text) is shown
