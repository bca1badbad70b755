"""Two kernel sets, one interface: the same names, signatures and pages; and how to choose between them."""

from __future__ import annotations

import importlib
import inspect
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from minicnn import kernels
from minicnn.errors import ArgumentError

REFERENCE, FAST = (importlib.import_module(f"minicnn.kernels.{name}") for name in ("reference", "fast"))
ROOT = Path(kernels.__file__).parents[2]
NAMES = [
    "conv2d", "conv2d_backward", "dense", "dense_backward", "max_pool2d", "max_pool2d_backward",
    "avg_pool2d", "avg_pool2d_backward", "leaky_relu", "leaky_relu_backward",
    "batch_norm", "batch_norm_backward", "batch_norm_inference", "batch_norm_inference_backward",
    "relu", "relu_backward", "sigmoid", "sigmoid_backward", "tanh", "tanh_backward", "softmax", "softmax_backward",
    "dropout", "dropout_backward", "softmax_cross_entropy", "softmax_cross_entropy_backward",
    "adam_update", "sgd_update", "rmsprop_update", "affine_warp", "stroke_distance",
    "all_finite"]
PAGES = sorted((ROOT / "minicnn" / "kernels" / "reference").glob("*.py"))


def test_both_sets_export_the_same_names():
    assert sorted(REFERENCE.__all__) == sorted(FAST.__all__) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_both_sets_have_the_same_signature(name):
    def arguments(kernel):
        return [(p.name, p.kind, p.default) for p in inspect.signature(kernel).parameters.values()]

    assert arguments(getattr(FAST, name)) == arguments(getattr(REFERENCE, name))


@pytest.mark.parametrize("name", NAMES)
def test_each_kernel_is_documented_and_on_the_page_of_its_operation(name):
    reference, fast = getattr(REFERENCE, name), getattr(FAST, name)
    assert reference.__doc__
    assert fast.__doc__
    page = reference.__module__.rsplit(".", 1)[1]
    assert fast.__module__ == f"minicnn.kernels.fast.{page}"
    assert sys.modules[reference.__module__].__doc__
    assert sys.modules[fast.__module__].__doc__


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_reference_pages_need_nothing_but_numpy_and_stand_forward_above_backward(path):
    text = path.read_text(encoding="utf-8")
    assert "numba" not in text
    assert "scipy" not in text.replace("scipy.ndimage.affine_transform", "")
    defined = [line.split()[1].split("(")[0] for line in text.splitlines() if line.startswith("def ")]
    for name in defined:
        if name.endswith("_backward"):
            assert defined.index(name) > defined.index(name.removesuffix("_backward"))


# --- the choice --------------------------------------------------------------------------------------------------

def test_use_switches_at_once(kernel_set):
    assert kernels.active() == kernel_set
    assert kernels.relu.__module__ == f"minicnn.kernels.{kernel_set}.activations"
    other = "fast" if kernel_set == "reference" else "reference"
    kernels.use(other)
    assert kernels.active() == other
    assert kernels.relu.__module__ == f"minicnn.kernels.{other}.activations"


def test_an_edited_reference_kernel_takes_effect(kernel_set, monkeypatch):
    """Names are looked up at every call: replace one, and the next call uses it."""
    monkeypatch.setattr(importlib.import_module(f"minicnn.kernels.{kernel_set}"), "relu", lambda x, out=None: x + 1)
    assert kernels.relu(np.float32(2)) == 3


@pytest.mark.parametrize(("name", "expected"), [
    ("referense", "Did you mean 'reference'?"), ("Fast", "Did you mean 'fast'?"), ("cuda", "Known: fast, reference")])
def test_an_unknown_set_is_refused_and_the_choice_kept(kernel_set, name, expected):
    with pytest.raises(ArgumentError, match=name) as error:
        kernels.use(name)
    assert expected in str(error.value)
    assert kernels.active() == kernel_set


def test_an_unknown_kernel_is_an_attribute_error(kernel_set):
    with pytest.raises(AttributeError, match="conv3d"):
        _ = kernels.conv3d


def test_a_wait_for_the_compiler_is_announced(kernel_set, monkeypatch, capsys):
    compiling = importlib.import_module("minicnn.kernels.fast.compile")
    for cold in (True, False):
        monkeypatch.setattr(compiling, "cold", lambda cold=cold: cold)
        kernels.announce_compilation()
        announced = capsys.readouterr().out.startswith("Compiling the kernels, once on this machine")
        assert announced == (cold and kernel_set == "fast")


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter whose MINICNN_KERNELS is as given, or unset."""
    env = {name: value for name, value in os.environ.items() if name != "MINICNN_KERNELS"} | environment
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=False)


ASK = "from minicnn import kernels; print(kernels.active(), kernels.relu.__module__)"


@pytest.mark.parametrize(("environment", "expected"), [
    ({}, "fast"), ({"MINICNN_KERNELS": ""}, "fast"), ({"MINICNN_KERNELS": "fast"}, "fast"),
    ({"MINICNN_KERNELS": "reference"}, "reference")], ids=str)
def test_the_environment_chooses_the_set(environment, expected):
    result = run(ASK, **environment)
    assert result.stdout.split() == [expected, f"minicnn.kernels.{expected}.activations"], result.stderr


def test_a_mistake_in_the_environment_is_reported():
    result = run(ASK, MINICNN_KERNELS="refrence")
    assert result.returncode != 0
    assert "Did you mean 'reference'?" in result.stderr


def test_the_reference_set_does_without_numba():
    code = ("import sys; from minicnn import kernels; kernels.use('reference'); kernels.relu;"
            "sys.exit('numba' in sys.modules)")
    result = run(code)
    assert result.returncode == 0, result.stderr
