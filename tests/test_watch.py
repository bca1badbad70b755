"""The checks, watched: they refuse a gradient wrong by one part in a million in any layer, and an index out of bounds.

``test_proof.py`` watches the number of checks, ``tests/mistakes`` the kernels.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import bounds_pass
import conftest
import exact
import proof
import test_gradients
import test_gradients_complex_step
import test_gradients_tight
from minicnn.kernels import fast, reference
from minicnn.layers import LAYERS

ROOT = Path(__file__).resolve().parents[1]
TESTS = {"linear": test_gradients_tight.test_linear, "piecewise linear": test_gradients_tight.test_piecewise_linear,
         "smooth": test_gradients_complex_step.test_smooth, "central, linear": test_gradients.test_linear_layer,
         "central, other": test_gradients.test_other_layer}
CASES = {**test_gradients_tight.LATTICE, "smooth": test_gradients_complex_step.SMOOTH,
         "central, linear": test_gradients.LINEAR_LAYERS, "central, other": test_gradients.OTHER_LAYERS}

TIGHT = ("linear", "piecewise linear", "smooth")


# --- a planted wrong gradient ------------------------------------------------------------------------------------

def scaled(gradient):
    return gradient * (1 + 1e-6)


def one_entry(gradient):
    gradient = gradient.copy()
    gradient.flat[-1] += 1e-6 * np.abs(gradient).max()
    return gradient


def single(gradient):
    """What is left where a sum is taken in float32."""
    return gradient.astype(np.float32).astype(gradient.dtype)


def plant(monkeypatch, layer, what, fault):
    """Spoil what a class of layers gives as the gradient of ``what``: its input, or a parameter."""
    right = layer.backward

    def backward(self, dout):
        dx = right(self, dout)
        if what == "input":
            return fault(dx)
        self.grads[what] = fault(self.grads[what])
        return dx

    monkeypatch.setattr(layer, "backward", backward)


def cases(layer, keys):
    """Yield (test, case, parameters) of the suite's tests of this class: the first two cases in each table."""
    for key, table in ((key, CASES[key]) for key in keys):
        made = [(name, make()) for name, (make, *_) in table.items()]
        for name, one in [(name, one) for name, one in made if type(one) is layer][:2]:
            if not one.built:
                one.build(table[name][1])
            yield TESTS[key], name, list(one.params)


@pytest.mark.parametrize("fault", [scaled, one_entry, single])
@pytest.mark.parametrize("layer", LAYERS)
def test_a_wrong_gradient_in_a_layer_turns_its_tests_red(layer, fault, monkeypatch, reference_kernels):
    monkeypatch.setattr(proof, "TALLIES", {})  # what is tried here counts for nothing
    judged = 0
    # Central differences in float64 do not see the last bits of float32.
    for test, name, params in cases(LAYERS[layer], [key for key in CASES if fault is not single or key in TIGHT]):
        test(name, "reference", conftest.GradientTable())  # green as it is
        for what in ("input", *params):
            with monkeypatch.context() as planted:
                plant(planted, LAYERS[layer], what, fault)
                with pytest.raises(AssertionError):
                    test(name, "reference", conftest.GradientTable())
            judged += 1
    assert judged >= (1 if fault is single else 2)


def test_a_red_test_turns_the_run_red(tmp_path):
    """The whole way once: a process of its own, a planted plugin, pytest's exit status."""
    (tmp_path / "planted.py").write_text(
        "import pytest\n"
        "def pytest_collection_finish():\n"
        "    import test_watch\n"
        "    test_watch.plant(pytest.MonkeyPatch(), test_watch.LAYERS['Dense'], 'kernel', test_watch.scaled)\n")
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests", tmp_path)))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_gradients.py",
               "-k", "reference and test_linear_layer and dense"]
    ended = [subprocess.run(command + plugin, cwd=ROOT, env=os.environ | {"PYTHONPATH": path}, capture_output=True,
                            text=True, check=False) for plugin in ([], ["-p", "planted"])]
    assert [run.returncode for run in ended] == [pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED], ended
    assert ended[1].stdout.splitlines()[-1].startswith("3 failed"), ended


# --- the exact sweeps' judge -------------------------------------------------------------------------------------

BUFFERS = {}


def _with(change):
    """Return 2 * x, rounded to whole numbers as the judge expects them, after a change."""
    def run(_, kernels, arrays):
        out = 2 * np.rint(np.ascontiguousarray(arrays["x"]))
        changed = change(out, arrays["x"])
        return {"out": out if changed is None else changed}

    return run


def _modify(out, x):
    if x.flags.writeable:
        x.flat[-1] += 0.125


def _same_buffer(out, x):
    buffer = BUFFERS.setdefault(out.dtype, out)
    buffer[...] = out
    return buffer


WRONG = {"one entry": lambda out, x: out.__setitem__((-1, -1), 7), "NaN": lambda out, x: out.fill(np.nan),
         "type": lambda out, x: out.astype(np.float16), "shape": lambda out, x: out[None],
         "order": lambda out, x: np.asfortranarray(out), "input modified": _modify, "buffer returned": _same_buffer}


@pytest.mark.parametrize("change", [None, *WRONG])
def test_the_exact_sweeps_judge_refuses(change, threads, monkeypatch):
    x = np.arange(6).reshape(2, 3)
    wrong = WRONG.get(change, lambda out, x: None)
    operation = exact.Operation(lambda _: ({"x": x}, {"out": 2 * x}), _with(wrong), lambda *_: None)
    with contextlib.nullcontext() if change is None else pytest.raises((AssertionError, pytest.fail.Exception)):
        exact.sweep(operation, ["2 x 3"], (), threads, monkeypatch)


def test_kernels_get_garbage_for_memory(monkeypatch):
    """In the sweeps: whatever is not written, in a new array or one used before, is NaN or 999."""
    exact.poison(monkeypatch)
    makers = [module.empty for module in exact.modules(fast) if hasattr(module, "empty")]
    makers += [module.np.empty for module in exact.modules(reference) if hasattr(module, "np")]
    assert len(makers) >= 15
    for empty in makers:
        for size in (3, 1 << 16):
            assert np.isnan(empty((size,), np.float32)).all()
            assert (empty((size,), np.int32) == exact.GARBAGE).all()


# --- a process of its own: indices out of bounds, and what is compiled -------------------------------------------

@pytest.mark.no_jit_excluded("plain Python checks every index by itself")
def test_no_index_is_out_of_bounds():
    """Parts of the exact sweeps, every kernel of the set, and fused blocks; and indices planted to be refused."""
    found = bounds_pass.found()
    assert list(found["geometries"]) == ["test_exact_conv2d", "test_exact_dense", "test_exact_max_pool2d"]
    assert found["every_kernel"] == sorted(fast.__all__)
    assert found["fused_blocks"] == ["direct", "winograd"]
    planted = found["planted"]
    assert len(planted) == 9
    assert {name for name, outcome in planted.items() if outcome == "done"} == {"product, right"}
    proof.record("indices checked", sum(found["geometries"].values()))


MOST = 40  # in float32; float64 compiles the same once more, which makes 80
EACH = 2  # for some kernels: whole vectors of channels and partial ones


@pytest.mark.no_jit_excluded("nothing is compiled")
def test_the_exact_sweeps_compile_few_specialisations():
    """Sizes are run-time arguments of the kernels: some specialisations, not one for each size.

    Counted where no kernel was compiled before, so that it is the same number in every run.
    """
    counts = bounds_pass.found()["specialisations"]
    assert {kernel.split(".")[0] for kernel in counts} >= {"direct", "im2col", "dense", "max_pool2d", "product", "sums"}
    assert max(counts.values()) <= EACH, counts
    assert sum(counts.values()) <= MOST, counts
