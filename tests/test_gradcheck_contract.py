"""The gradient check meets layers that break the contract in other ways than by numbers, and callers' slips."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np
import pytest

from minicnn.errors import ArgumentError, DataError, ShapeError, StateError
from minicnn.gradcheck import check_layer, check_model
from minicnn.layers import Activation, Conv2D, Dense, Flatten, Layer
from minicnn.models import Sequential
from minicnn.testing import ContractError, check_layer_contract

pytestmark = pytest.mark.usefixtures("reference_kernels")


class Double(Layer):
    """y = 2x, with a fault of choice."""

    def __init__(self, fault=None, **base):
        super().__init__(**base)
        self.fault = fault

    def build(self, input_shape):
        super().build(input_shape)
        self.add_param("two", (1,), "ones")

    def forward(self, x, training=False):
        x = self.check_input(x)
        self.keep(training, x=x)
        if self.fault == "forward raises":
            raise KeyError("weights")
        if self.fault == "shape raises":
            raise ShapeError("a shape inside")
        if self.fault == "overwrites x":
            x *= 2
            return x * self.params["two"]
        if self.fault == "overwrites a parameter in forward":
            self.params["two"] *= 1.5
        if self.fault == "returns a list":
            return (2 * x * self.params["two"]).tolist()
        if self.fault == "float32":
            return (2 * x * self.params["two"]).astype("float32")
        return 2 * x * self.params["two"]

    def backward(self, dout):
        x = self.kept("x")
        scale = 1 if self.fault == "overwrites x" else 2
        self.grads = {"two": np.sum(scale * x * dout).reshape(1)}
        if self.fault == "backward raises":
            raise ValueError("cannot be broadcast")
        if self.fault == "overwrites dout":
            dout *= 2
            return dout * self.params["two"]
        if self.fault == "overwrites kept x":
            x *= 0
        if self.fault == "overwrites a parameter in backward":
            self.params["two"] -= 0.1 * self.grads["two"]
        if self.fault == "wrong dx":
            return dout[:, :1]
        if self.fault == "no dx":
            return None
        if self.fault == "no grads":
            self.grads = None
        if self.fault == "surplus":
            self.grads["three"] = np.ones(3)
        return 2 * dout * self.params["two"]


FAULTS = {
    "forward raises": ("forward", "forward raised KeyError: 'weights'"),
    "shape raises": ("forward", "forward raised ShapeError: a shape inside"),
    "backward raises": ("backward", "backward raised ValueError: cannot be broadcast"),
    "overwrites x": ("forward", "forward overwrites its input"),
    "overwrites a parameter in forward": ("forward", "forward overwrites the parameter 'two'"),
    "overwrites dout": ("backward", "backward overwrites dout"),
    "overwrites kept x": ("backward", "backward overwrites the input of forward"),
    "overwrites a parameter in backward": ("backward", "backward overwrites the parameter 'two'"),
    "returns a list": ("forward", "forward returned a list, expected an array"),
    "float32": ("forward", "float32"),
    "no grads": ("backward", "layer.grads is a NoneType, expected a dict"),
    "surplus": ("three", "no such parameter"),
}


def test_the_layer_without_fault_is_right():
    assert check_layer(Double(), (4, 3))
    assert check_model(Sequential([Dense(4, input_shape=(3,)), Double(), Dense(2)]), np.ones((2, 3)))


@pytest.mark.parametrize("fault", FAULTS)
def test_broken_layer_is_refused(fault):
    what, note = FAULTS[fault]
    report = check_layer(Double(fault), (4, 3))
    assert [row.what for row in report.rows if row.verdict == "WRONG"] == [what], str(report)
    assert note in report[what].note
    assert note in str(report)


@pytest.mark.parametrize("loss", [None, "sparse_categorical_crossentropy"])
@pytest.mark.parametrize("fault", [*FAULTS, "wrong dx", "no dx"])
def test_broken_layer_inside_a_model_is_named(fault, loss):
    what, note = FAULTS.get(fault, ("backward", "backward returned"))
    model = Sequential([Dense(4, input_shape=(3,)), Double(fault, name="own"), Dense(2, activation="softmax")])
    if loss:
        model.compile("sgd", loss=loss)
    report = check_model(model, np.random.default_rng(0).standard_normal((5, 3)),
                         np.array([0, 1, 1, 0, 1]) if loss else None)
    assert [row.what for row in report.rows if row.verdict == "WRONG"] == [f"own/{what}"], str(report)
    assert note in report[f"own/{what}"].note


def test_wrong_shape_of_dx_is_worded():
    report = check_model(Sequential([Dense(4, input_shape=(3,)), Double("wrong dx", name="own")]), np.ones((5, 3)))
    assert re.search(r"shape \(5, 1\), expected \(5, 4\)", report["own/backward"].note)


class EverySecond(Layer):
    """Right, but it does not say of what shape its output is."""

    def forward(self, x, training=False):
        x = self.check_input(x)
        self.keep(training, rows=x.shape[1])
        return x[:, ::2].copy()

    def backward(self, dout):
        self.grads = {}
        dx = np.zeros((len(dout), self.kept("rows"), *dout.shape[2:]), dout.dtype)
        dx[:, ::2] = dout
        return dx


class SaysAnotherShape(EverySecond):
    def compute_output_shape(self, input_shape):
        return (input_shape[0] // 2, *input_shape[1:])


class SaysItsShape(EverySecond):
    def compute_output_shape(self, input_shape):
        return (-(-input_shape[0] // 2), *input_shape[1:])


class WithoutBatch(EverySecond):
    def forward(self, x, training=False):
        return super().forward(x, training)[0]


SHAPE_NOTES = {
    EverySecond: "forward returned an output of shape (5, 4, 3), expected (5, 7, 3): the layer has no "
                 "compute_output_shape, so its output is taken to have the shape of its input; write one that returns "
                 "(4, 3) for the input shape (7, 3)",
    SaysAnotherShape: "forward returned an output of shape (5, 4, 3), expected (5, 3, 3): make compute_output_shape, "
                      "which returns (3, 3) for the input shape (7, 3), and forward agree",
    WithoutBatch: "forward returned an output of shape (4, 3), expected (5, 7, 3): the first axis must be that of the "
                  "batch",
}


@pytest.mark.parametrize("layer", SHAPE_NOTES)
def test_an_output_of_another_shape_than_the_layer_says(layer):
    report = check_layer(layer(), (7, 3))
    assert [(row.what, row.verdict, row.note) for row in report.rows] == [("forward", "WRONG", SHAPE_NOTES[layer])]
    x = np.random.default_rng(0).standard_normal((5, 7, 3))
    report = check_model(Sequential([Activation("tanh"), layer(name="own"), Flatten(), Dense(2)]), x)
    assert [(row.what, row.note) for row in report.rows] == [("own/forward", SHAPE_NOTES[layer])]
    assert check_layer(SaysItsShape(), (7, 3))


def test_the_contract_says_the_same_of_the_shape():
    for layer in (EverySecond, SaysAnotherShape):
        with pytest.raises(ContractError) as caught:
            check_layer_contract(layer(), (7, 3))
        violations = caught.value.report["shapes"].violations
        assert {violation.advice for violation in violations} == {SHAPE_NOTES[layer].partition(": ")[2]}
        assert caught.value.report["gradients"].verdict == "not tried"     # it would only repeat it
    assert check_layer_contract(SaysItsShape(), (7, 3))


class Root(Layer):
    """Refuses what it cannot take, as a careful layer may: the check's large steps must not trip over it."""

    def forward(self, x, training=False):
        x = self.check_input(x)
        if (x <= 0).any():
            raise ValueError("square root of a negative number")
        self.keep(training, x=x)
        return np.sqrt(x)

    def backward(self, dout):
        self.grads = {}
        return 0.5 * dout / np.sqrt(self.kept("x"))


def test_layer_that_refuses_far_points():
    x = np.random.default_rng(0).uniform(0.5, 1.5, (4, 3))
    assert check_layer(Root(), x=x)["input"].limit == 1e-8


# --- the caller's slips ------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: check_layer(Dense, (3,)), ArgumentError, r"class Dense.*expected a Layer.*Dense\(\.\.\.\)"),
    (lambda: check_layer("dense", (3,)), ArgumentError, "'dense'.*expected a Layer"),
    (lambda: check_layer(Dense(3), 4), ShapeError, r"4.*expected a tuple.*\(4,\)"),
    (lambda: check_layer(Dense(3), (4.0,)), ShapeError, "tuple of whole numbers"),
    (lambda: check_layer(Dense(3), (0,)), ShapeError, "at least 1"),
    (lambda: check_layer(Conv2D(3, 2), (5, 4)), ShapeError, "expected"),
    (lambda: check_layer(Dense(3), (4,), batch_size=0), ArgumentError, "batch_size.*0.*at least 1"),
    (lambda: check_layer(Dense(3), (4,), batch_size=2.5), ArgumentError, "batch_size.*2.5"),
    (lambda: check_layer(Dense(3), (4,), nudge=-1), ArgumentError, "nudge.*-1"),
    (lambda: check_layer(Dense(3), x=np.ones((0, 4))), DataError, r"\(0, 4\)"),
    (lambda: check_layer(Dense(3), x=np.array([[1, np.nan]])), DataError, "NaN"),
    (lambda: check_layer(Dense(3), x=np.ones(3)), ShapeError, "expected"),
    (lambda: check_model(Dense(3), np.ones((2, 4))), ArgumentError, "expected a Sequential.*check_layer"),
    (lambda: check_layer(Dense(3), (4,), limit="small"), ArgumentError, "limit.*'small'"),
    (lambda: check_model(Sequential([Dense(3)]), np.ones((2, 4)), limit="small"), ArgumentError, "limit.*'small'"),
    (lambda: check_model(Sequential([]), np.ones((2, 4))), StateError, "no layers"),
    (lambda: check_model(Sequential, np.ones((2, 4))), ArgumentError, "class Sequential"),
    (lambda: check_model(Sequential([Dense(3)]), np.ones((0, 4))), DataError, r"\(0, 4\)"),
    (lambda: check_model(Sequential([Dense(3, input_shape=(5,))]), np.ones((2, 4))), ShapeError, r"\(2, 4\)"),
    (lambda: check_model(Sequential([Conv2D(3, 2)]), np.ones((2, 4))), ShapeError, "expected"),
    (lambda: check_model(Sequential([Dense(3)]), np.ones((2, 4)), nudge=-1), ArgumentError, "nudge.*-1"),
])
def test_slips_are_worded(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_built_layer_and_an_input_of_another_shape():
    layer = Dense(3)
    layer.build((4,))
    with pytest.raises(ShapeError, match=r"expected \(N, 4\)"):
        check_layer(layer, (5,))


# --- the command -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("variable", ["MINICNN_KERNELS", "MINICNN_THREADS"])
def test_command_says_what_is_wrong_with_the_environment(tmp_path, variable):
    Sequential([Dense(3, input_shape=(4,))]).save(tmp_path / "model.safetensors")
    done = subprocess.run([sys.executable, "-m", "minicnn.gradcheck", str(tmp_path / "model.safetensors")],
                          env=os.environ | {variable: "foo"}, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "'foo'" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_command_checks_arguments(tmp_path, capsys):
    from minicnn import gradcheck

    Sequential([Dense(3, input_shape=(4,))]).save(tmp_path / "model.safetensors")
    assert gradcheck.main([str(tmp_path / "model.safetensors"), "--threads", "0"]) == 2
    assert "whole number" in capsys.readouterr().err
