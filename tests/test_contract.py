"""The layer contract: every built-in layer keeps it, and layers with one thing wrong are refused for that thing."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from conftest import NO_JIT
from contract_layers import SHAPE, Average, Logarithm, Noise, Slope, slope_with
from minicnn import _contract_clauses, kernels
from minicnn._contract_subject import CLAUSES
from minicnn.errors import ArgumentError, FileFormatError, MinicnnError, ShapeError
from minicnn.gradcheck import check_layer
from minicnn.kernels import threads as thread_settings
from minicnn.layers import (
    LAYERS,
    Activation,
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    Input,
    LeakyReLU,
    MaxPooling2D,
)
from minicnn.models import Sequential, load_model
from minicnn.testing import BROKEN, ContractError, check_layer_contract
from proof import record
from wrong_layers import (
    WRONG,
    accumulates,
    breaks_under_reference,
    divides_by_zero,
    is_wrong_by_a_thousandth,
    keeps_on_its_own,
    modifies_its_parameter,
    sums_by_threads,
    takes_its_own,
)
from wrong_layers_settings import WRONG_SETTINGS, forgets_its_argument

ALL_WRONG = WRONG | WRONG_SETTINGS
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _small_batches_without_the_compiler(monkeypatch):
    """Plain Python loops have no threads to compare; 200 numbers are enough to run that clause."""
    if NO_JIT:
        monkeypatch.setattr(_contract_clauses, "LARGE", 200)


# --- built-in layers keep it -------------------------------------------------------------------------------------

BUILT_IN = [
    (lambda: Input((5, 4, 3)), (5, 4, 3)),
    (lambda: Flatten(), (2, 5, 3)),
    (lambda: Flatten(), (7,)),
    (lambda: Dropout(0.4), (5, 6)),
    (lambda: Dropout(0, seed=3), (7,)),
    (lambda: Dropout(0.7, seed=3), (4, 3, 2)),
    (lambda: Activation("relu"), (5, 3, 2)),
    (lambda: Activation("sigmoid"), (7,)),
    (lambda: Activation("tanh"), (3, 4)),
    (lambda: Activation("softmax"), (3, 4)),
    (lambda: Activation("linear"), (3, 4)),
    (lambda: LeakyReLU(), (7,)),
    (lambda: LeakyReLU(0.1), (5, 3, 2)),
    (lambda: Dense(3), (7,)),
    (lambda: Dense(1, activation="sigmoid", use_bias=False), (5,)),
    (lambda: Dense(4, activation="softmax", kernel_initializer="he_normal", bias_initializer="ones"), (3,)),
    (lambda: Dense(4, trainable=False, dtype="float64", name="frozen"), (3,)),
    (lambda: BatchNormalization(), (5, 3, 2)),
    (lambda: BatchNormalization(momentum=0.5, epsilon=0.1), (6,)),
    (lambda: BatchNormalization(trainable=False), (3, 4)),
    (lambda: MaxPooling2D(), (5, 6, 2)),
    (lambda: MaxPooling2D((2, 3), strides=(1, 2), padding="same"), (5, 4, 2)),
    (lambda: AveragePooling2D(), (5, 6, 2)),
    (lambda: AveragePooling2D((2, 3), strides=(1, 2), padding="same"), (5, 4, 2)),
    (lambda: GlobalAveragePooling2D(), (4, 5, 3)),
    (lambda: Conv2D(3, (2, 3)), (4, 5, 2)),
    (lambda: Conv2D(2, (3, 2), strides=(2, 1), padding="same", activation="relu"), (5, 4, 1)),
    (lambda: Conv2D(2, (1, 2), strides=(1, 3), activation="tanh", use_bias=False, algorithm="im2col",
                    input_shape=(3, 7, 2)), None),
]


@pytest.mark.gradient
@pytest.mark.parametrize(("make", "shape"), BUILT_IN, ids=[f"{i}-{make()!r}" for i, (make, _) in enumerate(BUILT_IN)])
def test_built_in_layers_keep_the_contract(make, shape):
    report = check_layer_contract(make(), shape)
    assert report
    assert [row.clause for row in report.rows] == [clause.name for clause in CLAUSES]
    record("contract clauses", len(report.rows))


def test_every_built_in_layer_is_there():
    assert {type(make()) for make, _ in BUILT_IN} == set(LAYERS.values())


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_a_wrong_gradient_planted_in_a_built_in_layer_is_refused(name, monkeypatch):
    make, shape = next((make, shape) for make, shape in BUILT_IN if type(make()) is LAYERS[name])
    right = LAYERS[name].backward
    monkeypatch.setattr(LAYERS[name], "backward", lambda self, dout: right(self, dout) * np.float32(1.001))
    assert "gradients" in broken(make(), shape)


# --- layers of a reader's own ------------------------------------------------------------------------------------

@pytest.mark.parametrize("make", [lambda: Slope(), lambda: Slope(0.1, name="own"), lambda: Average(), lambda: Noise()],
                         ids=["Slope", "Slope(0.1)", "Average", "Noise"])
def test_right_layers_of_ones_own_pass(make):
    assert check_layer_contract(make(), SHAPE)
    assert check_layer_contract(make(), SHAPE, seed=5)


def test_inputs_of_ones_own():
    x = np.random.default_rng(0).uniform(1, 2, (7, *SHAPE))
    assert check_layer_contract(Logarithm(), x=x)
    with pytest.raises(ContractError, match="invalid value"):
        check_layer_contract(Logarithm(), SHAPE)    # logarithms of negative numbers


# --- wrong ones --------------------------------------------------------------------------------------------------

def broken(layer, shape=SHAPE):
    """Return the names of the clauses that a layer breaks."""
    try:
        report = check_layer_contract(layer, shape)
    except ContractError as error:
        report = error.report
    return {row.clause for row in report.rows if row.verdict == BROKEN}


def test_a_new_layers_ones_hide_nothing():
    class GammaForgotten(BatchNormalization):
        def backward(self, dout):
            return super().backward(dout) / self.params["gamma"]

    assert broken(GammaForgotten(), (5, 3, 2)) == {"gradients"}


@pytest.mark.parametrize("what", ALL_WRONG)
def test_wrong_layers_are_refused_for_what_is_wrong(what):
    layer, clauses = ALL_WRONG[what]
    assert broken(layer) == clauses


def test_every_clause_is_seen_to_refuse_something():
    assert set.union(*(clauses for _, clauses in ALL_WRONG.values())) == {clause.name for clause in CLAUSES}
    assert len(ALL_WRONG) == len(WRONG) + len(WRONG_SETTINGS) >= 60


# --- what it says ------------------------------------------------------------------------------------------------

def refusal(layer, shape=SHAPE, **arguments):
    with pytest.raises(ContractError) as caught:
        check_layer_contract(layer, shape, **arguments)
    return caught.value


def test_a_violation_says_what_was_expected_what_was_found_and_what_to_do():
    error = refusal(slope_with(backward=accumulates))
    assert isinstance(error, MinicnnError)
    assert isinstance(error, AssertionError)    # a test runner counts it as a failure, not as an accident
    violation = error.report["grads"].violations[0]
    assert violation.expected == "backward after an equal backward gives the same"
    assert "entries of grads['slope'] differ, first at (0,): " in violation.found
    assert "assign self.grads" in violation.advice
    assert f"\ngrads\n  expected  {violation.expected}\n  found     {violation.found}\n  to do     " in str(error)
    assert not error.report
    assert error.report["shapes"].ok
    assert f"2 of {len(CLAUSES)} clauses broken" in str(error)
    with pytest.raises(KeyError, match=r"'colour'.*shapes"):
        error.report["colour"]


def test_the_report_of_a_right_layer_is_a_table():
    report = check_layer_contract(Slope(0.1), SHAPE)
    lines = str(report).splitlines()
    assert lines[0] == "contract of Slope 'slope', inputs (N, 4, 3, 2)"
    assert lines[1].split() == ["clause", "verdict", "promise"]
    assert len(lines) == len(CLAUSES) + 3
    assert lines[-1] == f"all {len(CLAUSES)} clauses are kept"
    assert report.violations == []


def test_all_violations_are_listed():
    error = refusal(slope_with(forward=modifies_its_parameter, config=forgets_its_argument,
                               backward=is_wrong_by_a_thousandth))
    assert {violation.clause for violation in error.report.violations} == {"arguments", "gradients", "config"}
    assert "'start' in config()" in str(error)
    assert check_layer(slope_with(backward=is_wrong_by_a_thousandth), SHAPE)["slope"].note in str(error)


@pytest.mark.parametrize("method", ["__deepcopy__", "astype", "build", "compute_output_shape", "forward", "backward"])
def test_a_crash_is_a_violation_of_the_first_clause(method):
    report = refusal(slope_with(**{method: divides_by_zero})).report
    assert [row.verdict for row in report.rows] == ["BROKEN"] + ["not tried"] * (len(CLAUSES) - 1)
    violation, = report.violations
    assert violation.found.startswith("ZeroDivisionError: ")
    assert violation.found.endswith(", in divides_by_zero)")
    assert "(wrong_layers.py, line " in violation.found


def test_a_crash_later_on_is_a_violation_of_its_clause():
    def crashes_with_three(self, x, training=False):
        if len(x) == 3:
            raise KeyError("three")
        return Slope.forward(self, x, training)

    violation, = refusal(slope_with(forward=crashes_with_three)).report.violations
    assert violation.clause == "batches"
    assert violation.found.startswith("KeyError: 'three' (test_contract.py, line ")


def test_what_one_kernel_set_shows_alone_is_said():
    report = refusal(slope_with(backward=breaks_under_reference)).report
    assert report["gradients"].violations[0].sets == ("reference",)
    assert "\n  expected  the gradients of finite differences (with reference kernels only)\n" in str(report)


def test_what_both_kernel_sets_show_is_said_once_and_so_is_the_advice():
    report = refusal(slope_with(forward=keeps_on_its_own, backward=takes_its_own)).report
    assert len(report.violations) == len({violation.expected for violation in report.violations}) > 2
    assert all(violation.sets == ("fast", "reference") for violation in report.violations)
    assert str(report).count("  expected  ") == str(report).count("  found     ") == len(report.violations)
    assert str(report).count("  to do     ") == 1
    violation, = refusal(slope_with(backward=is_wrong_by_a_thousandth)).report.violations
    assert "slope" in violation.found
    assert "WRONG" in str(violation)


def test_arguments_of_the_check_itself():
    with pytest.raises(ArgumentError, match=r"expected a layer. Perhaps write Slope\(\.\.\.\)\?"):
        check_layer_contract(Slope, SHAPE)
    with pytest.raises(ShapeError, match="Give input_shape"):
        check_layer_contract(Slope())
    with pytest.raises(ShapeError, match=r"layer.input_shape \(4,\), input_shape \(5,\)"):
        check_layer_contract(Dense(3, input_shape=(4,)), (5,))


# --- nothing is left behind --------------------------------------------------------------------------------------

@pytest.mark.parametrize("built", [False, True])
def test_the_layer_stays_as_it_is(built):
    layer = Slope(0.1)
    if built:
        layer.forward(np.ones((2, *SHAPE), np.float32), training=True)
        layer.backward(np.ones((2, *SHAPE), np.float32))
    before = {key: value.copy() if isinstance(value, dict) else value for key, value in vars(layer).items()}
    arrays = {key: array.copy() for key, array in (layer.params | layer.grads).items()}
    assert check_layer_contract(layer, SHAPE)
    assert vars(layer) == before    # the very same arrays ...
    assert all(np.array_equal(array, (layer.params | layer.grads)[key]) for key, array in arrays.items())    # ... too
    assert layer.built is built


@pytest.mark.parametrize("name", kernels.SETS)
def test_settings_and_chance_stay_as_they_are(name, use_kernels, threads):
    use_kernels(name)
    threads(None)
    numpy_state, python_state = np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    check_layer_contract(Noise(), SHAPE)
    refusal(slope_with(backward=sums_by_threads))
    refusal(slope_with(forward=divides_by_zero))
    assert kernels.active() == name
    assert thread_settings._threads is None
    assert np.array_equal(numpy_state, np.random.get_state()[1])  # noqa: NPY002
    assert python_state == random.getstate()


def test_a_trained_layer_is_checked_with_its_own_weights():
    model = Sequential([Input((4,)), Dense(3)], seed=3)
    model.layers[0].params["kernel"][...] = np.nan
    assert "gradients" in broken(model.layers[0], (4,))


def test_classes_come_from_the_callers_dictionary_only(tmp_path):
    path = tmp_path / "own.safetensors"
    model = Sequential([Input(SHAPE), Slope(0.1), Flatten(), Dense(2)])
    model.save(path)
    for known in (None, {}, {"Noise": Noise}):
        with pytest.raises(FileFormatError, match="'Slope', which is unknown"):
            load_model(path, custom_layers=known)

    class Another(Slope):
        pass

    assert type(load_model(path, custom_layers={"Slope": Another}).layers[0]) is Another


def test_it_needs_no_test_framework():
    code = ("import sys, minicnn; assert 'minicnn.testing' not in sys.modules; minicnn.testing.check_layer_contract; "
            "print([name for name in ('pytest', '_pytest', 'scipy', 'hypothesis') if name in sys.modules])")
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True,
                            cwd=ROOT)
    assert result.stdout == "[]\n"
