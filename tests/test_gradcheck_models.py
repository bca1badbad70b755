"""The gradient check of models and functions, its report, and its command."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from minicnn import kernels
from minicnn.errors import StateError
from minicnn.gradcheck import check_gradients, check_layer, check_model
from minicnn.layers import BatchNormalization, Dense
from minicnn.losses import SparseCategoricalCrossentropy
from minicnn.models import Sequential
from own_layers import (
    WrongDense,
    missing,
    scaled,
    scaled_input,
    small_data,
    small_model,
)

# The check is the same under both sets; test_gradients.py runs it under each.
pytestmark = pytest.mark.usefixtures("reference_kernels")


# --- models, functions, the report -------------------------------------------------------------------------------

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
    assert report["a"].error == report.error == pytest.approx(0.5)
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


def test_command_draws_labels_of_the_form_the_loss_takes(tmp_path, capsys, monkeypatch):
    from minicnn import gradcheck

    model = small_model()
    model.compile("sgd", loss="categorical_crossentropy")
    model.save(tmp_path / "model.safetensors")
    check, drawn = gradcheck.check_model, []
    monkeypatch.setattr(gradcheck, "check_model",
                        lambda model, x, y, **options: drawn.append(y) or check(model, x, y, **options))
    assert gradcheck.main([str(tmp_path / "model.safetensors"), "--kernels", "fast"]) == 0
    assert "fast kernels" in capsys.readouterr().out
    classes, = model.layers[-1].output_shape
    assert drawn[0].shape == (3, classes)
    assert (drawn[0] > 0).all()
    np.testing.assert_allclose(drawn[0].sum(axis=1), 1)


def test_command_has_examples(capsys):
    from minicnn import gradcheck

    with pytest.raises(SystemExit) as stop:
        gradcheck.main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert "python -m minicnn.gradcheck runs/cnn-1/model.safetensors" in text
    assert "about a minute" in text
