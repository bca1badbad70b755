"""The gradient check itself: it must refuse wrong layers, whatever is wrong, and pass right ones."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest

from minicnn import kernels
from minicnn.errors import ShapeError, StateError
from minicnn.gradcheck import check_gradients, check_layer, check_model
from minicnn.layers import Activation, BatchNormalization, Conv2D, Dense, Dropout, Flatten, Layer, MaxPooling2D
from minicnn.losses import SparseCategoricalCrossentropy
from minicnn.models import Sequential


@pytest.fixture(autouse=True)
def _reference_kernels(monkeypatch):
    """The check is the same under both sets; test_gradients.py runs it under each."""
    monkeypatch.setattr(kernels, "_active", kernels._active)
    kernels.use("reference")


# --- right layers of a reader's own ------------------------------------------------------------------------------

class LeakyReLU(Layer):
    def forward(self, x, training=False):
        x = self.check_input(x)
        self.keep(training, x=x)
        return np.where(x > 0, x, 0.1 * x)

    def backward(self, dout):
        self.grads = {}
        return np.where(self.kept("x") > 0, dout, 0.1 * dout)


class Scale(Layer):
    """Multiplies each channel by a parameter."""

    def build(self, input_shape):
        super().build(input_shape)
        self.add_param("factor", (input_shape[-1],), "ones")

    def forward(self, x, training=False):
        x = self.check_input(x)
        self.keep(training, x=x)
        return x * self.params["factor"]

    def backward(self, dout):
        self.grads = {"factor": (dout * self.kept("x")).reshape(-1, dout.shape[-1]).sum(axis=0)}
        return dout * self.params["factor"]


class Cube(Layer):
    def forward(self, x, training=False):
        x = self.check_input(x)
        self.keep(training, x=x)
        return x**3

    def backward(self, dout):
        self.grads = {}
        return 3 * self.kept("x")**2 * dout


class NearlyLinear(Cube):
    """Affine but for one part in a million."""

    def forward(self, x, training=False):
        return x + 1e-6 * super().forward(x, training)

    def backward(self, dout):
        return dout + 1e-6 * super().backward(dout)


class Sine(Layer):
    """Far from zero."""

    def forward(self, x, training=False):
        x = self.check_input(x)
        self.keep(training, x=x)
        return np.sin(x - 1e4)

    def backward(self, dout):
        self.grads = {}
        return np.cos(self.kept("x") - 1e4) * dout


@pytest.mark.parametrize(("layer", "shape", "limit"), [
    (LeakyReLU(), (4, 3, 2), 1e-8), (Scale(), (4, 3, 2), 1e-10), (Cube(), (7,), 1e-8),
    (NearlyLinear(), (7,), 1e-8)])
def test_right_layers_pass(layer, shape, limit):
    report = check_layer(layer, shape)
    assert report, str(report)
    assert report.ok
    assert {row.limit for row in report.rows} == {limit}
    assert all(row.skipped == 0 and row.error <= limit for row in report.rows)
    assert [row.what for row in report.rows] == ["input", *layer.params] if layer.built else ["input"]


def test_curvature_is_extrapolated_away():
    for seed in range(4):
        assert check_layer(Cube(), (7,), seed=seed)["input"].error < 1e-11


def test_far_from_zero():
    x = 1e4 + np.random.default_rng(0).standard_normal((5, 3))
    assert check_layer(Sine(), x=x)["input"].error < 1e-11


@pytest.mark.parametrize("seed", range(20))
def test_no_alarm_on_right_layers(seed):
    """On many seeds: step sizes and kinks are a matter of luck, the verdict must not be."""
    for layer, shape in [(LeakyReLU(), (5, 4)), (Dense(6, activation="relu"), (5,)), (BatchNormalization(), (3, 2, 2)),
                         (Dense(4, activation="softmax"), (3,))]:
        report = check_layer(layer, shape, seed=seed)
        assert report.ok, str(report)


# --- the caller's layer stays as it is ---------------------------------------------------------------------------

def test_layer_stays_untouched():
    layer = Dense(3)
    assert check_layer(layer, (4,))
    assert not layer.built
    assert layer.params == {}
    built = Scale()
    built.build((2,))
    before = built.params["factor"].copy()
    assert check_layer(built)  # a built layer knows its input shape
    assert built.dtype == "float32"
    assert built.params["factor"].dtype == np.float32
    assert np.array_equal(built.params["factor"], before)
    assert built.grads == {}
    assert built.step is None


def test_model_stays_untouched():
    model = small_model()
    weights = [array.copy() for array in model.get_weights()]
    assert check_model(model, *small_data())
    assert all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(weights, model.get_weights()))
    assert all(layer.grads == {} and layer.dtype == "float32" for layer in model.layers)


def test_unknown_input_shape():
    with pytest.raises(ShapeError, match="input_shape"):
        check_layer(Dense(3))


# --- wrong layers ------------------------------------------------------------------------------------------------

class WrongDense(Dense):
    """A Dense layer with something done to its gradients."""

    def __init__(self, units, spoil, **base):
        super().__init__(units, **base)
        self.spoil = spoil

    def backward(self, dout):
        dx = super().backward(dout)
        return self.spoil(self.grads, dx)


def zero_everything(grads, dx):
    grads.update({key: np.zeros_like(grad) for key, grad in grads.items()})
    return np.zeros_like(dx)


def zero_input(grads, dx):
    return np.zeros_like(dx)


def scaled(grads, dx):
    grads["kernel"] = grads["kernel"] * 1.001
    return dx


def scaled_input(grads, dx):
    return dx * 1.001


def sign(grads, dx):
    grads["bias"] = -grads["bias"]
    return dx


def transposed(grads, dx):
    grads["kernel"] = np.ascontiguousarray(grads["kernel"].T)
    return dx


def missing(grads, dx):
    del grads["kernel"]
    return dx


def none(grads, dx):
    grads["bias"] = None


def wrong_shape(grads, dx):
    grads["bias"] = grads["bias"][None, :]
    return dx


def wrong_dtype(grads, dx):
    grads["kernel"] = grads["kernel"].astype(np.float32)
    return dx


def not_finite(grads, dx):
    dx[0, 0] = np.nan
    return dx


def number(grads, dx):
    grads["bias"] = 1.0
    return dx


def bias_of_one_image(grads, dx):
    grads["bias"] = grads["bias"] / 5  # averaged over the batch instead of summed
    return dx


def one_entry(grads, dx):
    grads["kernel"][1, 2] += 1e-6 * np.abs(grads["kernel"]).max()
    return dx


@pytest.mark.parametrize(("spoil", "refused", "note"), [
    (zero_everything, {"input", "kernel", "bias"}, "all zero"), (zero_input, {"input"}, "all zero"),
    (scaled, {"kernel"}, ""), (scaled_input, {"input"}, ""), (sign, {"bias"}, ""), (transposed, {"kernel"}, ""),
    (missing, {"kernel"}, "missing from layer.grads"), (none, {"input", "bias"}, "None|missing"),
    (wrong_shape, {"bias"}, r"shape \(1, 4\), expected \(4,\)"), (wrong_dtype, {"kernel"}, "float32, expected float64"),
    (not_finite, {"input"}, "1 of 20 entries are NaN"), (number, {"bias"}, "float, expected an array"),
    (bias_of_one_image, {"bias"}, ""), (one_entry, {"kernel"}, "")])
def test_wrong_dense_is_refused(spoil, refused, note):
    report = check_layer(WrongDense(4, spoil), (4,))
    assert not report
    assert {row.what for row in report.rows if not row.ok} == refused
    for what in refused:
        row = report[what]
        assert row.verdict == "WRONG"
        assert row.error > row.limit
        if note:
            assert re.search(note, row.note), row.note
    assert "WRONG" in str(report)


def test_sizes_of_errors_are_reported():
    assert check_layer(WrongDense(4, scaled), (4,))["kernel"].error == pytest.approx(1e-3, rel=1e-6)
    assert check_layer(WrongDense(4, zero_input), (4,))["input"].error == pytest.approx(1, rel=1e-9)
    row = check_layer(WrongDense(4, one_entry), (4,))["kernel"]
    assert row.where == (1, 2)
    assert row.error == pytest.approx(1e-6, rel=1e-3)
    assert row.numeric.shape == row.analytic.shape == (4, 4)


class Accumulating(Dense):
    def backward(self, dout):
        before = dict(self.grads)
        dx = super().backward(dout)
        self.grads = {key: grad + before.get(key, 0) for key, grad in self.grads.items()}
        return dx


def test_accumulating_gradients_are_refused():
    report = check_layer(Accumulating(3), (4,))
    assert report["input"].ok
    assert not report["kernel"].ok
    assert "assigned" in report["kernel"].note


class RedrawnMask(Dropout):
    """Forward and backward draw different masks."""

    def backward(self, dout):
        return kernels.dropout_backward(dout, self.rate, self.kept("key") + 1)


class UnfrozenMask(Layer):
    """Chance that does not follow from layer.step."""

    calls = 0

    def forward(self, x, training=False):
        self.calls += 1
        mask = np.random.default_rng(self.calls).random(x.shape) < 0.5
        self.keep(training, mask=mask)
        self.build(x.shape[1:]) if not self.built else None
        return x * mask

    def backward(self, dout):
        return dout * self.kept("mask")


def test_wrong_dropouts_are_refused():
    row = check_layer(RedrawnMask(0.4), (6, 5))["input"]
    assert row.verdict == "WRONG"
    assert row.error > 0.5
    row = check_layer(UnfrozenMask(), (6, 5))["input"]
    assert row.verdict == "WRONG"


def test_chance_that_leaves_the_gradient_alone():
    class Noise(Layer):
        calls = 0

        def forward(self, x, training=False):
            self.calls += 1
            x = self.check_input(x)
            return x + np.random.default_rng(self.calls).standard_normal(x.shape)

        def backward(self, dout):
            self.grads = {}
            return dout

    row = check_layer(Noise(), (6, 5))["input"]
    assert row.verdict == "WRONG"
    assert "two equal forward passes differ" in row.note


class WrongBatchNorm(BatchNormalization):
    def __init__(self, term, **base):
        super().__init__(**base)
        self.term = term

    def backward(self, dout):
        super().backward(dout)
        x, mean, variance = self.kept("x", "mean", "variance")
        axes = tuple(range(x.ndim - 1))
        normal = (x - mean) / np.sqrt(variance + self.epsilon)
        terms = {"mean": dout.mean(axis=axes), "variance": normal * (dout * normal).mean(axis=axes)}
        kept = sum(value for name, value in terms.items() if name != self.term)
        return self.params["gamma"] / np.sqrt(variance + self.epsilon) * (dout - kept)


@pytest.mark.parametrize("shape", [(5,), (3, 4, 2)])
def test_wrong_batch_norms_are_refused(shape):
    assert check_layer(WrongBatchNorm("neither"), shape)  # the test's own formula is right
    for term in ("mean", "variance"):
        report = check_layer(WrongBatchNorm(term), shape)
        assert report["input"].verdict == "WRONG"
        assert report["gamma"].ok
        assert report["beta"].ok


class WrongConv(Conv2D):
    """The bias gradient is taken from the first image only."""

    def backward(self, dout):
        dx = super().backward(dout)
        self.grads["bias"] = dout[0].sum(axis=(0, 1))
        return dx


def test_bias_gradient_not_summed_over_the_batch():
    report = check_layer(WrongConv(3, (2, 3)), (4, 5, 2))
    assert [row.what for row in report.rows if not row.ok] == ["bias"]


class OneRowWrong(Dense):
    def backward(self, dout):
        dx = super().backward(dout)
        self.grads["kernel"][self.row] *= 1.01
        return dx


def test_random_direction_sees_entries_that_were_not_drawn():
    layer = OneRowWrong(7)
    layer.row = 0
    drawn = np.isfinite(check_layer(layer, (300,))["kernel"].numeric).any(axis=1)
    assert not drawn.all()
    layer.row = int(np.flatnonzero(~drawn)[0])
    row = check_layer(layer, (300,))["kernel"]
    assert row.checked == 201
    assert row.verdict == "WRONG"
    assert row.where == "random direction"


def test_wrong_layer_is_never_excused_by_kinks():
    """A wrong gradient of a function with kinks is refused as wrong, not skipped."""
    class Wrong(LeakyReLU):
        def backward(self, dout):
            return np.where(self.kept("x") > 0, dout, 0.2 * dout)

    row = check_layer(Wrong(), (8, 5))["input"]
    assert row.verdict == "WRONG"
    assert row.skipped == 0


def test_wrong_smooth_layer_is_refused():
    class Wrong(Cube):
        def backward(self, dout):
            return super().backward(dout) * (1 + 1e-7)

    assert check_layer(Wrong(), (4, 3))["input"].error == pytest.approx(1e-7, rel=0.01)
    assert not check_layer(Wrong(), (4, 3))


def test_output_of_the_wrong_dtype():
    class Narrow(LeakyReLU):
        def forward(self, x, training=False):
            return super().forward(x, training).astype(np.float32)

    report = check_layer(Narrow(), (4, 3))
    assert not report
    assert report["forward"].verdict == "WRONG"
    assert "float32" in report["forward"].note


# --- kinks -------------------------------------------------------------------------------------------------------

def test_inputs_on_kinks_are_not_checked():
    on_kink = np.zeros((5, 4, 3))
    row = check_layer(Activation("relu"), x=on_kink, nudge=0)["input"]
    assert row.verdict == "NOT CHECKED"
    assert (row.checked, row.skipped) == (0, 60)
    assert "60 of 60" in row.note
    assert check_layer(Activation("relu"), x=on_kink)  # moved off


def test_a_wrong_gradient_on_kinks_is_still_refused():
    row = check_layer(RedrawnMask(0.4), x=np.zeros((5, 3, 2)), nudge=0)["input"]
    assert row.verdict == "WRONG"


@pytest.mark.parametrize("distance", [0.0, 1e-7, -3e-8])
def test_skipped_points_are_counted(distance):
    """Three of 100 points on or beside a kink: skipped. Six: too many."""
    x = np.random.default_rng(0).choice([-1, 1], (10, 10)) * 0.5
    x[2, 3:6] = distance
    row = check_layer(Activation("relu"), x=x, nudge=0)["input"]
    assert row.ok, row
    assert (row.checked, row.skipped) == (97, 3)
    assert np.isnan(row.numeric[2, 3:6]).all()
    x[4, 2:5] = distance
    row = check_layer(Activation("relu"), x=x, nudge=0)["input"]
    assert row.verdict == "NOT CHECKED"
    assert row.skipped == 6


class KinkInParameter(Scale):
    """x (p² + |p - 1|): p starts on the kink; beside it the gradient depends on where exactly."""

    def forward(self, x, training=False):
        super().forward(x, training)
        p = self.params["factor"]
        return x * (p**2 + np.abs(p - 1))

    def backward(self, dout):
        p = self.params["factor"]
        self.grads = {"factor": (dout * self.kept("x")).sum(axis=0) * (2 * p + np.sign(p - 1))}
        return dout * (p**2 + np.abs(p - 1))


def test_points_on_kinks_are_moved():
    report = check_layer(KinkInParameter(), (4,))
    assert report, str(report)
    row = report["factor"]
    assert (row.checked, row.moved, row.skipped) == (4, 4, 0)
    assert np.all(np.abs(row.analytic - row.numeric) < 1e-8 * np.abs(row.numeric).max())
    row = check_layer(KinkInParameter(), (4,), nudge=0)["factor"]
    assert row.verdict == "NOT CHECKED"


def test_parameters_at_zero_are_moved():
    report = check_layer(Dense(3, activation="relu", kernel_initializer="zeros"), (4,))
    assert report, str(report)
    assert [row.moved for row in report.rows] == [0, 0, 0]
    assert np.abs(report["input"].numeric).max() > 0


def test_ties_of_pooling_are_seen():
    x = np.random.default_rng(1).permutation(np.arange(6 * 5 * 4.0)).reshape(1, 6, 5, 4)[..., :2].copy()
    assert check_layer(MaxPooling2D((3, 2)), x=x, nudge=0)
    x[0, :3, :2, 0] = 7.0
    row = check_layer(MaxPooling2D((3, 2)), x=x, nudge=0)["input"]
    assert row.verdict == "NOT CHECKED"
    assert row.skipped == 6


def test_blank_background():
    """Zero images and zero biases: every ReLU on its kink, every pool in a tie; the copy is moved."""
    model = Sequential([Conv2D(2, (3, 2), padding="same", activation="relu", input_shape=(4, 6, 1)),
                        MaxPooling2D((2, 3)), Flatten(), Dense(3)])
    x = np.zeros((3, 4, 6, 1), np.float32)
    report = check_model(model, x)
    assert report, str(report)
    report = check_model(model, x, nudge=0)
    assert not report
    assert report[f"{model.layers[0].name}/bias"].verdict == "NOT CHECKED"


# --- models, functions, the report -------------------------------------------------------------------------------

def small_model(*middle):
    model = Sequential([Dense(6, input_shape=(5,)), *middle, Dense(3, activation="softmax")])
    model.compile("sgd", loss="sparse_categorical_crossentropy")
    return model


def small_data():
    return np.random.default_rng(3).standard_normal((5, 5)), np.array([0, 2, 1, 1, 0])


def test_model_with_a_wrong_layer():
    report = check_model(small_model(), *small_data())
    assert report, str(report)
    assert len(report.rows) == 5
    assert {row.limit for row in report.rows} == {1e-7}
    wrong = check_model(small_model(WrongDense(6, scaled, name="wrong")), *small_data())
    assert [row.what for row in wrong.rows if not row.ok] == ["wrong/kernel"]
    missing_one = check_model(small_model(WrongDense(6, missing, name="wrong")), *small_data())
    assert [row.what for row in missing_one.rows if not row.ok] == ["wrong/kernel"]
    assert not check_model(small_model(WrongDense(6, scaled_input)), small_data()[0])  # through the outputs


def test_layer_that_was_told_to_leave_the_input_out():
    layer = Dense(3)
    layer.needs_input_gradient = False
    assert check_layer(layer, (4,))
    assert not layer.needs_input_gradient


class UnweightedLoss(SparseCategoricalCrossentropy):
    """Forgets that samples have weights."""

    def backward(self, targets, predicted, probabilities, weights, from_logits):
        return super().backward(targets, predicted, probabilities, np.full_like(weights, 1 / len(weights)), from_logits)


def test_loss_that_forgets_sample_weights():
    model = small_model()
    model.compile("sgd", loss=UnweightedLoss())
    assert not check_model(model, *small_data())


def test_model_whose_forward_is_not_its_layers():
    class Doubled(Sequential):
        def forward(self, x, training=False):
            return 2 * super().forward(x, training)

    model = Doubled([Dense(3, input_shape=(5,))])
    with pytest.raises(StateError, match="forward differs"):
        check_model(model, small_data()[0])


def test_zero_gradients_are_compared_with_the_largest():
    """A bias before a batch normalization has no influence; rounding noise there is no error, a real number is."""
    report = check_model(small_model(BatchNormalization()), *small_data())
    assert report, str(report)
    assert np.abs(report["dense/bias"].numeric).max() < 1e-12

    def spoil(grads, dx):
        grads["bias"] = grads["bias"] + 1e-5
        return dx

    model = Sequential([WrongDense(6, spoil, name="wrong", input_shape=(5,)), BatchNormalization(), Dense(3)])
    assert [row.what for row in check_model(model, small_data()[0]).rows if not row.ok] == ["wrong/bias"]


def test_check_gradients_of_a_function():
    def square(a, b):
        return np.sum(a**2) * b[0]

    a, b = np.arange(1.0, 7).reshape(2, 3), np.array([3.0])
    right = {"a": 2 * a * b[0], "b": np.array([np.sum(a**2)])}
    assert check_gradients(square, {"a": a, "b": b}, right)
    report = check_gradients(square, {"a": a, "b": b}, right | {"a": a * b[0]})
    assert report["a"].error == pytest.approx(0.5)
    assert report["b"].ok
    assert not check_gradients(square, {"a": a, "b": b}, {"a": right["a"]})


def test_report_prints_as_a_table():
    text = str(check_layer(Dense(3), (4,)))
    lines = text.splitlines()
    assert lines[0].startswith("Dense 'dense', input (5, 4)")
    assert lines[1].split() == [
        "what", "shape", "checked", "moved", "skipped", "error", "limit", "worst", "at", "verdict"]
    assert [line.split()[0] for line in lines[2:5]] == ["input", "kernel", "bias"]
    assert all(line.endswith(" ok") for line in lines[2:5])
    assert lines[-1] == "all 3 gradients are right"
    with pytest.raises(KeyError, match="kernel"):
        check_layer(Dense(3), (4,))["weights"]


# --- the command -------------------------------------------------------------------------------------------------

def run(*arguments):
    return subprocess.run([sys.executable, "-m", "minicnn.gradcheck", *arguments, "--kernels", "reference"],
                          capture_output=True, text=True, check=False)


def test_command_checks_a_saved_model(tmp_path):
    small_model().save(tmp_path / "model.safetensors")
    done = run(str(tmp_path / "model.safetensors"), "--seed", "3", "--threads", "1")
    assert done.returncode == 0, done.stderr
    assert "all 5 gradients are right" in done.stdout
    assert "reference kernels" in done.stdout


def test_command_says_what_is_wrong_with_the_file(tmp_path):
    for name, content in [("none.safetensors", None), ("text.safetensors", b"hello")]:
        if content is not None:
            (tmp_path / name).write_bytes(content)
        done = run(str(tmp_path / name))
        assert done.returncode == 2
        assert name in done.stderr
        assert "Traceback" not in done.stderr


def test_command_returns_1_for_a_refused_model(tmp_path, monkeypatch, capsys):
    from minicnn import gradcheck

    small_model().save(tmp_path / "model.safetensors")
    right = kernels._active.dense_backward
    monkeypatch.setattr(kernels._active, "dense_backward",
                        lambda *args, **options: tuple(part * 1.001 for part in right(*args, **options)))
    assert gradcheck.main([str(tmp_path / "model.safetensors")]) == 1
    assert "WRONG" in capsys.readouterr().out


def test_command_has_examples(capsys):
    from minicnn import gradcheck

    with pytest.raises(SystemExit) as stop:
        gradcheck.main(["--help"])
    assert stop.value.code == 0
    assert "python -m minicnn.gradcheck runs/cnn-1/model.safetensors" in capsys.readouterr().out
