"""The tests' own ground, tried in suites of its own: marks that skip and fail when they should, and the guards."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

import conftest
import small_suites

# "torch" stands in for a thing this machine has, "keras" for one it has not.
NEEDS = """
import conftest
conftest.CAPABILITIES["torch"] = (lambda: True, "")
conftest.CAPABILITIES["keras"] = (lambda: False, "Keras is not here")
@pytest.mark.needs("torch")
def test_there(): pass
@pytest.mark.needs("torch", "keras")
def test_missing(): raise SystemError("must not run")
"""
GRADIENTS = """
@pytest.mark.gradient
def test_gradient(gradient_table):
    assert gradient_table.add("Conv2D (fast)", "kernel", 3e-12, 1e-10)
    assert gradient_table.add("Dense", "x", 1e-11, 1e-10)
    assert not gradient_table.add("ReLU", "x", float("nan"), 1e-8)
    assert not gradient_table.add("cnn", "bias", 2e-7, 1e-7)
"""
NETWORK = """
import os, socket, subprocess, sys, urllib.request
@pytest.mark.parametrize("reach", [
    lambda: urllib.request.urlopen("https://example.com"),
    lambda: socket.create_connection(("192.0.2.1", 80), timeout=0.1),
    lambda: socket.getaddrinfo("example.com", 80)])
def test_outside(reach):
    try: reach()
    except Exception: pass    # as a program that copes with a dead network would
def test_inside():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()): pass
def test_child():
    child = "import urllib.request as u; u.urlopen('https://example.com', timeout=20)"
    done = subprocess.run([sys.executable, "-c", child], capture_output=True)
    assert done.returncode == 1 and b"URLError" in done.stderr
"""
FIXTURES = """
from minicnn import kernels
from minicnn.kernels import threads as threads_module
seen = []
def test_kernels(kernel_set): seen.append((kernel_set, kernels.active()))
def test_kernels_after(): assert seen == [("reference", "reference"), ("fast", "fast")] and kernels._active is None
def test_threads(threads): threads(3); assert threads_module.get_threads() == 3
def test_threads_after(): assert threads_module._threads is None
@pytest.mark.parametrize("i", range(2))
def test_rng(rng, i): assert int(rng.integers(2**40)) == (146879981803, 262611893390)[i]
def test_warning(): __import__("warnings").warn("old", DeprecationWarning)
def test_flag_of_blas(): __import__("warnings").warn("invalid value encountered in matmul", RuntimeWarning)
def test_flag(): __import__("warnings").warn("invalid value encountered in log", RuntimeWarning)
def test_settings():
    import os, hypothesis, matplotlib
    assert matplotlib.get_backend().lower() == "agg" and os.environ["KERAS_BACKEND"] == "torch"
    assert hypothesis.settings.default.derandomize and hypothesis.settings.default.deadline is None
"""
EXCLUDED = """
@pytest.mark.parametrize("i", range(3))
@pytest.mark.no_jit_excluded("too slow")
def test_slow(i): 1 / 0
@pytest.mark.parametrize("i", range(17))
def test_quick(i): pass
"""
SUMMARY = ("4 gradients compared with numeric ones, 2 wrong; largest error of 2 held to 1e-10: 1.0e-11, "
           "of 1 held to 1e-08: nan, of 1 held to 1e-07: 2.0e-07")


@pytest.fixture
def suite(tmp_path):
    """Return a function that runs a small suite under this project's conftest: its exit status and output.

    How much it checks is not asked: a whole run of so little would be red for that alone (``test_proof.py``).
    """
    small_suites.lay_out(tmp_path)

    def run(code, *arguments, **variables):
        code = f"import proof, pytest\nproof.SECTIONS = {{}}\n{code}"
        return small_suites.run(tmp_path, code, *arguments, **variables)

    return run


def test_on_an_ordinary_machine(suite):
    status, output = suite(NEEDS + GRADIENTS + NETWORK + FIXTURES)
    assert status == 1
    failed = sorted(line.split(" - ")[0] for line in output.splitlines() if line.startswith("FAILED"))
    assert failed == ["FAILED tests/test_it.py::test_flag",
                      *(f"FAILED tests/test_it.py::test_outside[<lambda>{i}]" for i in range(3)),
                      "FAILED tests/test_it.py::test_warning"]
    assert "5 failed, 13 passed, 1 skipped" in output
    assert re.search(r"^SKIPPED .*: Keras is not here$", output, re.MULTILINE)
    assert "FAILED tests/test_it.py::test_warning - DeprecationWarning: old" in output
    assert output.count("tests may only talk to 127.0.0.1") >= 3
    assert SUMMARY in output
    assert "3.00e-12" not in output


def test_what_is_required_and_missing_fails(suite):
    status, output = suite(NEEDS, MINICNN_REQUIRE="torch, keras")
    assert status == 1
    assert "1 passed, 1 error" in output
    assert "MINICNN_REQUIRE lists 'keras', but: Keras is not here" in output
    assert "must not run" not in output


def test_a_misspelt_requirement_is_refused(request, monkeypatch):
    monkeypatch.setenv("MINICNN_REQUIRE", "torch,kears")
    with pytest.raises(pytest.UsageError, match=r"kears.*known: mnist, kaggle, torch, keras"):
        conftest.pytest_configure(request.config)


def test_the_gradient_table_is_printed_when_asked_for(suite):
    status, output = suite(GRADIENTS, "-m", "gradient")
    assert status == 0
    lines = [line.split() for line in output.splitlines()]
    assert ["Conv2D", "(fast)", "kernel", "3.00e-12", "1e-10", "ok"] in lines
    assert ["ReLU", "x", "nan", "1e-08", "WRONG"] in lines
    assert ["cnn", "bias", "2.00e-07", "1e-07", "WRONG"] in lines
    assert SUMMARY in output


def test_without_jit_the_excluded_are_counted(suite):
    status, output = suite(EXCLUDED, NUMBA_DISABLE_JIT="1")
    assert status == 1
    assert "17 passed, 3 skipped" in output
    assert "without JIT: too slow" in output
    assert "without JIT: 3 of 20 tests excluded (15.0%): more than 10%" in output


@pytest.mark.parametrize(("excluded", "no_jit", "markexpr", "source", "too_many"), [
    (3, True, "", "TESTPATHS", True),
    (2, True, "", "TESTPATHS", False),
    (3, False, "", "TESTPATHS", False),
    (3, True, "gradient", "TESTPATHS", False),    # parts of the suite, chosen by hand
    (3, True, "", "ARGS", False),
])
def test_a_tenth_of_the_suite_may_be_excluded(monkeypatch, excluded, no_jit, markexpr, source, too_many):
    monkeypatch.setattr(conftest, "NO_JIT", no_jit)
    config = SimpleNamespace(stash={conftest.EXCLUDED: (excluded, 20)},
                             args_source=pytest.Config.ArgsSource[source],
                             getoption={"keyword": "", "markexpr": markexpr}.get)
    assert conftest._too_many_excluded(config) is too_many


class Item:
    """What the collection hook asks of a test with one mark."""

    nodeid = "test_it"

    def __init__(self, mark):
        self.mark = mark.mark

    def iter_markers(self, name):
        return [self.mark] if name == self.mark.name else []

    def get_closest_marker(self, name):
        return self.mark if name == self.mark.name else None


@pytest.mark.parametrize("mark", [
    pytest.mark.needs("jax"), pytest.mark.needs, pytest.mark.no_jit_excluded, pytest.mark.no_jit_excluded(" "),
    pytest.mark.no_jit_excluded("too", "slow")], ids=["unknown", "nothing", "no reason", "blank reason", "two reasons"])
def test_marks_must_be_complete(request, mark):
    with pytest.raises(pytest.UsageError, match="test_it"):
        conftest.pytest_collection_modifyitems(request.config, [Item(mark)])
