"""A loss or gradient that is no number: the step is not made, and the error says where it came from."""

from __future__ import annotations

import importlib
import math
import re

import numba
import numpy as np
import pytest

from minicnn import finite, kernels, losses
from minicnn.callbacks import BackupAndRestore, TerminateOnNaN
from minicnn.errors import TrainingError
from minicnn.kernels.fast import crew
from minicnn.kernels.fast.counter import new_counter
from minicnn.layers import BatchNormalization, Dense, Flatten
from minicnn.models import Sequential
from networks import CLASSES, compiled, draw_images, small_cnn


class Spoiling(Flatten):
    """Multiplies by a number that is no number, from one step on; or its gradient."""

    def __init__(self, step=0, forward=1.0, backward=1.0, **base):
        super().__init__(**base)
        self.at, self.factors = step, (forward, backward)

    def forward(self, x, training=False):
        out = super().forward(x, training)
        return out * np.float32(self.factors[0]) if self.at <= (self.step or 0) else out

    def backward(self, dout):
        dx = super().backward(dout)
        return dx * np.float32(self.factors[1]) if self.at <= (self.step or 0) else dx


def network(**spoiling):
    return compiled(Sequential([Dense(5, input_shape=(4,)), BatchNormalization(), Spoiling(**spoiling), Dense(4),
                                Dense(CLASSES, activation="softmax")]), "adam")


def everything(model):
    slots = {f"{name}/{slot}": array for name, own in model.optimizer.slots.items() for slot, array in own.items()}
    return {name: array.tobytes() for name, array in (model.named_weights() | slots).items()}, model.updates, \
        model.optimizer.iterations


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning", "ignore:overflow:RuntimeWarning")
@pytest.mark.parametrize(("factor", "words"), [
    ({"forward": math.nan}, r"Step 3: the loss is nan: the output of Spoiling 'spoiling' has 20 NaN or infinite "
                            r"values of 20; expected finite numbers\. The step was not made: the weights are those "
                            r"before it"),
    ({"backward": math.nan}, r"Step 3: the gradient of beta of layer 'batch_normalization' has 5 NaN or infinite "
                             r"values of 5; expected"),
    ({"backward": math.inf}, r"Step 3: the gradient of .* of layer 'batch_normalization' has")])
def test_layer_tensor_and_step_are_named_and_the_model_is_as_before(data, kernel_set, factor, words):
    x, y = (array[:4] for array in data)
    model = network(step=2, **factor)
    for _ in range(2):
        model.train_on_batch(x, y)
    before = everything(model)
    with pytest.raises(TrainingError, match=words):
        model.train_on_batch(x, y)
    assert everything(model) == before
    model.layers[2].factors = (1.0, 1.0)
    model.train_on_batch(x, y)
    assert model.updates == 3


def test_a_weight_that_is_no_number_is_named_first(data, reference_kernels):
    model = compiled()
    model.layers[0].params["kernel"][1, 2] = np.nan
    with pytest.raises(TrainingError, match=r"Step 1: the loss is nan: the weight kernel of Dense 'dense' has 1 NaN"):
        model.fit(*data, verbose=0)


def test_a_loss_alone_can_be_wrong(data, reference_kernels):
    class Wrong(losses.SparseCategoricalCrossentropy):
        def forward(self, *given):
            found, probabilities = super().forward(*given)
            return found * np.float32(np.inf), probabilities

    model = compiled(loss=Wrong())
    with pytest.raises(TrainingError, match=r"^Step 1: the loss is inf; expected finite numbers"):
        model.fit(*data, verbose=0)


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning", "ignore:invalid value:RuntimeWarning")
def test_a_training_that_diverges_ends_with_the_last_good_weights_and_checkpoint(kernel_set, tmp_path):
    x, y = draw_images(np.random.default_rng(0), 16)
    model = compiled(small_cnn())
    model.optimizer.learning_rate = 1e30
    with pytest.raises(TrainingError, match=r"Step \d+: .* has .* NaN or infinite"):
        model.fit(x, y, batch_size=8, epochs=50, verbose=0, callbacks=[BackupAndRestore(tmp_path)])
    assert list(tmp_path.glob("checkpoint-*"))


@pytest.mark.usefixtures("reference_kernels")
def test_terminate_on_nan_ends_quietly_as_in_keras(data, capsys):
    x, y = data
    model = network(step=2, backward=math.nan)
    with np.errstate(invalid="ignore"):
        history = model.fit(x, y, batch_size=4, epochs=5, verbose=0, callbacks=[TerminateOnNaN()])
    assert capsys.readouterr().out == "Batch 2: Invalid loss, terminating training\n"
    assert model.updates == 2
    assert math.isnan(history.history["loss"][0])
    assert len(history.epoch) == 1
    with pytest.raises(TrainingError, match="gradient of beta of layer"):
        model.fit(x, y, verbose=0, callbacks=[TerminateOnNaN(raise_error=True)])


def test_all_finite():
    big = np.full(7, 3e38, np.float32)  # sums and squares overflow, the numbers do not
    assert finite.all_finite([big, np.zeros((0, 3)), np.float64(3), big.reshape(7, 1)[::2]])
    for wrong in (math.nan, math.inf, -math.inf):
        spoiled = big.copy()
        spoiled[3] = wrong
        assert not finite.all_finite([big, spoiled])
        assert not finite.all_finite([np.array([[1.0, wrong]])])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_wrong_number_is_found_wherever_it_is(kernel_set, dtype, monkeypatch):
    monkeypatch.setattr(importlib.import_module("minicnn.kernels.fast.finite"), "CHUNK", 48)
    for size in (1, 15, 16, 17, 47, 48, 49, 100):
        x = np.full(size, np.finfo(dtype).max, dtype)
        x[::2] *= -1
        assert kernels.all_finite(x)
        for place in range(size):
            for wrong in (math.nan, math.inf, -math.inf):
                spoiled = x.copy()
                spoiled[place] = wrong
                assert not kernels.all_finite(spoiled), (size, place, wrong)
    assert kernels.all_finite(np.zeros((2, 0), dtype))
    assert kernels.all_finite(np.array([3, 4]))
    assert not kernels.all_finite(np.array([3, math.nan], np.float16))


@pytest.mark.no_jit_excluded("flags are the compiler's")
def test_the_check_is_compiled_without_flags_that_let_a_compiler_forget_nan():
    given = importlib.import_module("minicnn.kernels.fast.finite")._count
    assert not given.targetoptions["fastmath"]
    kernel = numba.jit(**given.targetoptions)(given.py_func)  # code read from disk shows no instructions
    kernel(0, crew.ALONE, new_counter(1), 16, np.zeros(3, np.float32), np.zeros(1, np.float32))
    (code,) = kernel.inspect_llvm().values()
    assert re.search(r"\bfadd <16 x float>", code)
    assert not re.search(r"\bf(add|mul) (fast|nnan|ninf|reassoc|nsz|contract|arcp|afn)", code)


def test_a_state_that_a_layer_makes_anew_is_put_back_too():
    layer = BatchNormalization()
    layer.build((3,))
    kept = finite.Kept([layer])
    before = {key: array.copy() for key, array in layer.state.items()}
    layer.state["moving_mean"] = np.full(3, np.nan)
    layer.state["moving_variance"][:] = np.nan
    kept.put_back()
    for key, array in before.items():
        np.testing.assert_array_equal(layer.state[key], array)


def test_constant_channels_under_batch_normalization_give_0(kernel_set):
    layer = BatchNormalization()
    layer.build((2, 3))
    x = np.full((4, 2, 3), 7, np.float32)
    assert not layer.forward(x, training=True).any()
    assert np.isfinite(layer.backward(np.ones_like(x))).all()
