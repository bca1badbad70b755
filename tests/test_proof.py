"""The counting of checks, tried: what is recorded is printed, and too little of it turns the whole suite red."""

from __future__ import annotations

import math

import pytest

import conftest
import proof
import small_suites
from proof import Section, record

RECORDING = """
import proof
proof.SECTIONS = {"conv geometries": proof.Section(7, 3), "parity": proof.Section(5, 5, needs=("keras",))}
import conftest
conftest.CAPABILITIES["keras"] = (lambda: False, "Keras is not here")
def test_one(): proof.record("conv geometries", 4)
def test_two(): proof.record("conv geometries", 2)
"""


@pytest.fixture
def tallies(monkeypatch):
    """Start from nothing; what the suite has counted comes back afterwards."""
    monkeypatch.setattr(proof, "TALLIES", {})


@pytest.fixture
def suite(tmp_path):
    """Return a function that runs RECORDING, a suite that checks 6 of 7, under this project's conftest."""
    small_suites.lay_out(tmp_path)

    def run(*arguments, no_jit="0", fails=False, shared=False):
        code = RECORDING.replace("def test_two(): ", "def test_two(): assert False; ") if fails else RECORDING
        return small_suites.run(tmp_path, code, *arguments, shared=shared, NUMBA_DISABLE_JIT=no_jit)

    return run


def test_a_suite_that_checks_too_little_is_red(suite):
    status, output = suite()
    assert "2 passed" in output
    assert "6 conv geometries" in output
    assert "NOT PROVED: conv geometries: 6 checked, fewer than the 7 of the whole suite, so this run fails" in output
    assert "parity" not in output
    assert status == 1


@pytest.mark.parametrize(("arguments", "no_jit"), [
    (["-k", "test_one"], "0"), (["tests/test_it.py"], "0"), (["--deselect", "tests/test_it.py::test_two"], "0"),
    ([], "1")], ids=["-k", "a path", "--deselect", "enough without JIT"])
def test_a_part_or_enough_is_green(suite, arguments, no_jit):
    status, output = suite(*arguments, no_jit=no_jit)
    assert "NOT PROVED" not in output
    assert "conv geometries" in output
    assert status == 0


def test_a_suite_broken_off_is_not_said_to_check_too_little(suite):
    status, output = suite("-x", fails=True)
    assert "stopping after 1 failures" in output
    assert "4 conv geometries" in output
    assert "NOT PROVED" not in output
    assert status == 1


def test_what_several_processes_count_is_added_up(suite, tallies):
    status, output = suite("-n", "2", "--dist", "load", shared=True)  # the two tests run in different processes
    assert "2 passed" in output
    assert "6 conv geometries" in output
    assert "NOT PROVED: conv geometries: 6 checked" in output
    assert status == 1
    record("gradients", 3, 1e-12, "linear")
    record("gradients", 2, 5e-12, "linear")
    record("laws", 200)
    counted = proof.records()
    proof.take_over(counted)
    assert proof.records() == [("gradients", "linear", 10, 4, 5e-12), ("laws", None, 400, 2, None)]


def test_what_is_recorded_is_printed(tallies):
    assert proof.lines() == []
    record("conv geometries", 1200)
    record("dense geometries", 7)
    for klass, worst in (("linear", 1e-15), ("smooth", 3e-10), ("linear", 2e-15), ("straight", 0), ("other", None)):
        record("gradients", 2, worst, klass)
    for _ in range(3):
        record("laws", 200)
    record("parity", 220, 0.75, "PyTorch")
    record("parity", 210, 0.5, "Keras")
    record("parity", 20, 0.1, "the bound of Winograd")
    record("training curves", 8, 2e-6)
    for klass, tried, good in (("NumPy", 100, 100), ("compiled kernels", 20, 19)):
        record("mistakes tried", tried, klass=klass)
        record("mistakes caught", good, klass=klass)
    record("diagnoses tried", 7)
    record("right layers", 500)
    record("contract clauses", 17)
    record("contract clauses", 17)
    record("indices checked", 40)
    assert proof.lines() == [
        "bit-exact:       1,200 conv, 7 dense geometries: both kernel sets give what loops over indices give",
        "gradients:       10 in float64; largest error: linear 2.0e-15, smooth 3.0e-10, straight 0.0e+00",
        "laws:            3, obeyed in 600 drawn examples",
        "parity:          450 comparisons in float32; largest error as a share of what is allowed: "
        "0.50 beside Keras, 0.75 beside PyTorch, 0.10 beside the bound of Winograd",
        "training curves: 8 beside those of Keras; largest difference of losses: 2.0e-06",
        "mistakes:        119 of 120 planted in the source were caught (NumPy 100 of 100, compiled kernels 19 of 20)",
        "diagnosis:       0 of 7 wrong gradients were called what they are",
        "false alarms:    none, on 500 right layers",
        "contract:        34 clauses kept, by 2 layers",
        "bounds:          every index checked, in 40 geometries"]


@pytest.mark.parametrize("errors", [(math.nan, 1e-9), (1e-9, math.nan), (1e-9, math.nan, 1e-9)])
def test_nan_is_the_worst_error(tallies, errors):
    for error in errors:
        record("gradients", worst=error)
    assert "nan" in proof.lines()[0]


def test_shortfalls(tallies, monkeypatch):
    monkeypatch.setattr(proof, "SECTIONS", {"laws": Section(10, 4), "parity": Section(3, 3, needs=("torch", "keras"))})
    record("laws", 5)

    def below(without_jit, *present):
        return [line.split(":")[0] for line in proof.shortfalls(without_jit, present.__contains__)]

    assert below(False, "torch", "mnist") == ["laws"]
    assert below(True, "torch") == []
    assert below(True, "torch", "keras") == ["parity"]
    record("laws", 5)
    assert below(False) == []


@pytest.mark.parametrize(("section", "count"), [("convolutions", 1), ("laws", 0)])
def test_a_wrong_record_is_refused(section, count):
    with pytest.raises(ValueError, match=section):
        record(section, count)


def test_sections_need_what_is_known():
    for name, section in proof.SECTIONS.items():
        assert set(section.needs) <= set(conftest.CAPABILITIES), name
        assert section.without_jit <= section.minimum, name
