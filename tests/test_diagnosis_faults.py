"""Every fault that a diagnosis promises to name, planted in a layer: it must be called by its name, and no row more.

``test_diagnosis.py`` measures how many of a catalogue are named; here none may be missed, nor worded as another.
"""

from __future__ import annotations

import re

import numpy as np
import pytest

from diagnosis_cases import conv_dw, conv_dx, wrong
from diagnosis_mistakes import normalized
from minicnn import kernels
from minicnn.gradcheck import check_layer, check_model
from minicnn.layers import Activation, BatchNormalization, Conv2D, Dense, Dropout
from minicnn.losses import SparseCategoricalCrossentropy
from minicnn.models import Sequential
from own_layers import LeakyReLU, Scale
from test_diagnosis import SEED

pytestmark = pytest.mark.usefixtures("reference_kernels")

BATCH = 7
IMAGE = (8, 9, 3)


def grads(change):
    """Return a mistake that replaces gradients of parameters."""
    def mistake(layer, dout, dx):
        layer.grads |= change(layer, dout)
        return dx

    return mistake


def times(key, factor):
    return grads(lambda layer, dout: {key: layer.grads[key] * factor})


def last_rows_zero(layer, dout, dx):
    dx[:, -2:] = 0
    return dx


def border_zero(layer, dout, dx):
    inner = np.zeros_like(dx)
    inner[:, 1:-1, 2:-2] = dx[:, 1:-1, 2:-2]
    return inner


def without_last_row(layer, dout):
    last = layer.output_shape[0] - 1
    return {"kernel": conv_dw(layer, dout, skip=lambda i, j, p, q: i == last)}


# Layer class, its arguments, shape of one input, mistake, the tensor that is wrong, the kind, and words.
FAULTS = {
    "twice": (Dense, (5,), (6,), times("kernel", 2), "kernel", "ratio",
              "it is 2 times the numeric gradient everywhere: is it added twice"),
    "twice, own layer": (Scale, (), (4, 5, 3), times("factor", 2), "factor", "ratio", "it is 2 times .* added twice"),
    "averaged instead of summed": (Dense, (5,), (6,), times("bias", 1 / BATCH), "bias", "ratio",
                                   "0.142857 times .*: 1 / 7, and 7 is the batch size: is it averaged where it should"),
    "summed instead of averaged": (Dense, (5,), (6,), times("bias", BATCH), "bias", "ratio",
                                   "7 times .*: the batch size is 7: is a mean missing"),
    "sign": (Conv2D, (4, (3, 2)), IMAGE, times("kernel", -1), "kernel", "sign", "minus the numeric gradient"),
    "transposed": (Dense, (6,), (6,), grads(lambda layer, dout: {"kernel": layer.grads["kernel"].T.copy()}), "kernel",
                   "axes", r"it equals the numeric gradient with its inputs and outputs swapped \(transpose\(1, 0\)\)"),
    "transposed kernel": (Dense, (6,), (6,), lambda layer, dout, dx: dout @ layer.params["kernel"], "input", "axes",
                          r"the kernel has its inputs and outputs swapped, transpose\(1, 0\)\."),
    "flipped": (Conv2D, (4, (3, 2)), IMAGE, grads(lambda layer, dout: {"kernel": layer.grads["kernel"][::-1, ::-1]}),
                "kernel", "axes", r"kernel rows and kernel columns in reverse order \(\[::-1, ::-1\]\)"),
    "flipped kernel": (Conv2D, (4, (3, 2), (1, 1), "same"), IMAGE,
                       lambda layer, dout, dx: conv_dx(layer, dout, layer.params["kernel"][::-1, ::-1]), "input",
                       "axes", "the kernel has its rows and columns in reverse order"),
    "channels swapped": (Conv2D, (3, (3, 2)), IMAGE,
                         grads(lambda layer, dout: {"kernel": layer.grads["kernel"].swapaxes(2, 3).copy()}), "kernel",
                         "axes", "with its input channels and output channels swapped"),
    "channels of the kernel swapped": (
        Conv2D, (3, (3, 2)), IMAGE,
        lambda layer, dout, dx: conv_dx(layer, dout, layer.params["kernel"].swapaxes(2, 3)), "input", "axes",
        r"the kernel has its input channels and output channels swapped, transpose\(0, 1, 3, 2\)"),
    "border": (Conv2D, (4, (3, 5), (1, 1), "same"), IMAGE, border_zero, "input", "border",
               "on the border only.*, where it is zero; right inside. Is the padding"),
    "padding": (Conv2D, (4, (3, 5), (1, 1), "same"), IMAGE,
                grads(lambda layer, dout: {"kernel": conv_dw(layer, dout, wrap=True)}), "kernel", "border",
                "the padding wraps round"),
    "last rows": (Conv2D, (4, (3, 2)), IMAGE, last_rows_zero, "input", "remainder",
                  "in the last 2 rows only, where it is zero"),
    "last output row": (Conv2D, (4, (3, 2)), IMAGE, grads(without_last_row), "kernel", "remainder",
                        "row.*end too early"),
    "last rows, own layer": (LeakyReLU, (), IMAGE, last_rows_zero, "input", "remainder", "in the last 2 rows only"),
    "mean term": (BatchNormalization, (), (4, 5, 3), lambda layer, dout, dx: normalized(layer, dout, mean=0), "input",
                  "missing term", "the term through the mean is missing"),
    "variance term": (BatchNormalization, (), (4, 5, 3), lambda layer, dout, dx: normalized(layer, dout, variance=0),
                      "input", "missing term", "the term through the variance is missing"),
    "mask drawn again": (Dropout, (0.4,), (5, 6), lambda layer, dout, dx: kernels.dropout_backward(
        dout, layer.rate, layer.kept("key") + 1), "input", "mask", "another mask.*Is the mask of forward used"),
    "no mask": (Activation, ("relu",), (5, 6), lambda layer, dout, dx: dout, "input", "mask",
                "relu's derivative is left out"),
    "zero": (Dense, (5,), (6,), times("kernel", 0), "kernel", "zero", "zero everywhere"),
    "shape": (Dense, (5,), (6,), grads(lambda layer, dout: {"kernel": layer.grads["kernel"].T.copy()}), "kernel",
              "shape", "transpose would fit"),
    "not summed": (Dense, (5,), (6,), grads(lambda layer, dout: {"bias": dout}), "bias", "shape", r"\(7, 5\)"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_called_by_its_name(fault):
    base, arguments, shape, mistake, what, kind, words = FAULTS[fault]
    for seed in (SEED, SEED + 1, SEED + 2):
        assert check_layer(base(*arguments), shape, batch_size=BATCH, seed=seed)
        report = check_layer(wrong(base, mistake)(*arguments), shape, batch_size=BATCH, seed=seed)
        assert [row.what for row in report.rows if not row.ok] == [what], str(report)
        assert report[what].diagnosis.kind == kind, str(report)
        assert re.search(words, str(report[what].diagnosis)), str(report)


def test_a_loss_that_is_summed_instead_of_averaged_is_called_so():
    class Summed(SparseCategoricalCrossentropy):
        def backward(self, targets, predicted, probabilities, weights, from_logits):
            return super().backward(targets, predicted, probabilities, weights * len(weights), from_logits)

    model = Sequential([Dense(4, activation="tanh", input_shape=(5,)), Dense(3, activation="softmax")])
    model.compile("sgd", loss=Summed())
    report = check_model(model, np.random.default_rng(SEED).standard_normal((BATCH, 5)), np.arange(BATCH) % 3)
    assert len(report.notes) == 1, str(report)
    assert "look at the loss, which is not. With respect to its predictions" in report.notes[0]
    assert "it is 7 times the numeric gradient everywhere: the batch size is 7: is a mean missing" in report.notes[0]
