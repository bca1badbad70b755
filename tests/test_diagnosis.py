"""What a refused gradient is said to look like: the right kind of fault, and nothing where nothing is wrong.

``diagnosis_mistakes.py`` holds wrong layers, developed on some shapes and seeds and judged here on others;
``mistakes/`` edits of the library's source, which the diagnosis never sees.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

import diagnosis_mistakes
import diagnosis_mistakes_conv  # noqa: F401
import diagnosis_worker
from conftest import NO_JIT
from diagnosis_cases import CASES, DEVELOPMENT, HELD_OUT, draw, wrong
from minicnn import kernels
from minicnn.diagnosis import KINDS, Evidence, diagnose
from minicnn.gradcheck import check_gradients, check_layer, check_model
from minicnn.layers import (
    Activation,
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Input,
    MaxPooling2D,
)
from minicnn.models import Sequential
from mistakes import ALL
from mistakes.runner import SETTINGS
from own_layers import Cube, LeakyReLU, Scale
from proof import record
from sharing import processes

SEED = 2024     # of the held-out shapes, weights and inputs; development used 0 to 9
RIGHT_LAYERS = {"reference": 400, "fast": 4 if NO_JIT else 100}

pytestmark = pytest.mark.usefixtures("reference_kernels")


# --- the kind of fault -------------------------------------------------------------------------------------------

def test_held_out_shapes_are_others():
    assert len(CASES) >= 60
    for ours, theirs in zip(HELD_OUT, DEVELOPMENT):
        assert not set(ours) & set(theirs) or ours == HELD_OUT.channels
    assert {kind for case in CASES for kind in case.kinds} == set(KINDS) - {"unused"}
    assert {case.base.__name__ for case in CASES} >= {"Conv2D", "Dense", "MaxPooling2D", "BatchNormalization",
                                                      "Dropout", "Activation"}


def count(klass, tried, missed):
    record("diagnoses tried", tried, klass=klass)
    record("diagnoses right", tried - missed, klass=klass)


def test_kind_of_fault_on_held_out_shapes():
    """At least 80 % of the wrong layers; each must be refused."""
    named = {}
    for case in CASES:
        layer, shape, batch_size = draw(case, HELD_OUT, SEED)
        row = check_layer(layer, shape, batch_size=batch_size, seed=SEED)[case.what]
        assert not row.ok, case.name
        named[case.name] = row.diagnosis.kind
    missed = [f"{case.name}: {named[case.name]}" for case in CASES if named[case.name] not in case.kinds]
    assert len(missed) <= 0.2 * len(CASES), missed
    # The measure bites: held against the kinds of other cases, the same answers fail.
    shifted = [named[case.name] in other.kinds for case, other in zip(CASES, [*CASES[40:], *CASES[:40]])]
    assert np.mean(shifted) < 0.4
    count("layers written wrong", len(CASES), len(missed))


# What the catalogue calls by a coarser name, and its "other"s.
ALSO = {"ratio": {"ratio", "factor"}, "missing term": {"missing term", "remainder", "overlap"},
        "border": {"border", "geometry"}}
OTHERS = {"dx: single precision": {"shape"}, "layer: bias not passed on": {"unused"},
          "layer: backward remembers the first batch": {"accumulated"},
          "backward: position read in rows of the other side": {"axes", "geometry"},
          "gradient of the input, taken for the output": {"factor", "mask"}}


# What a gradient check lets pass, and why: all else that is called a mistake of a backward pass must be refused by it.
NOT_REFUSED = {
    "layer: the step after's mask in backward": "a check holds the step, so that the step after has the same mask",
    "loss: clipped values get a gradient": "no prediction that is drawn lies beyond the clip"}


def test_kind_of_fault_of_the_catalogue():
    """At least 80 % of the backward-pass mistakes in NumPy code: some row must name the kind.

    A mistake that the check does not refuse counts as missed, and must have its reason above.
    """
    chosen = [(topic, mistake, OTHERS.get(mistake.name, set()) | ALSO.get(mistake.kind, {mistake.kind}))
              for topic, mistake in ALL if mistake.kind and mistake.kernel_set == "reference"]
    assert len(chosen) >= 72
    requests = [{"module": mistake.module, "path": str(mistake.path), "source": mistake.source(), "topic": topic}
                for topic, mistake, _ in chosen]
    answer = subprocess.run([sys.executable, diagnosis_worker.__file__, str(processes())],
                            input=json.dumps(requests), capture_output=True, text=True, check=True,
                            env=os.environ | SETTINGS)
    answers = [json.loads(line) for line in answer.stdout.splitlines()]
    assert len(answers) == len(chosen)
    assert {mistake.name for (_, mistake, _), named in zip(chosen, answers) if not named} == set(NOT_REFUSED)
    missed = [f"{mistake.name}: {named}" for (_, mistake, kinds), named in zip(chosen, answers)
              if not named or not all(kinds & set(rows) for rows in named)]
    assert len(missed) <= 0.2 * len(chosen), missed
    count("mistakes in the source", len(chosen), len(missed))


def test_where_processes_cannot_be_forked(monkeypatch):
    """Each mistake then gets a process of its own."""
    sign = next(mistake for _, mistake in ALL if mistake.name == "dx: sign")
    monkeypatch.delattr(os, "fork", raising=False)
    request = {"module": sign.module, "path": str(sign.path), "source": sign.source(), "topic": "conv"}
    named = json.loads(diagnosis_worker.start(request)())
    assert named
    assert all("sign" in kinds for kinds in named)


# --- no alarm ----------------------------------------------------------------------------------------------------

def right_layer(rng):
    """Draw a right layer and the shape of one input."""
    def some(*choices):
        return choices[rng.integers(len(choices))]

    activation = some("linear", "relu", "sigmoid", "tanh", "softmax")
    H, W, C = (int(size) for size in rng.integers(1, 5, 3))
    kernel, strides = (some(1, 2, 3), some(1, 2, 3)), (some(1, 2, 3), some(1, 2))
    padding = "valid" if kernel[0] <= H and kernel[1] <= W and rng.random() < 0.5 else "same"
    images, features = (H, W, C), (int(rng.integers(1, 7)),)
    return some(
        (Conv2D(some(1, 2, 3), kernel, strides, padding, activation, use_bias=some(True, False)), images),
        (MaxPooling2D(kernel, some(None, strides), padding), images),
        (Dense(some(1, 2, 5), activation, use_bias=some(True, False)), features),
        (BatchNormalization(epsilon=some(0.001, 0.1), trainable=some(True, True, False)), some(images, features)),
        (Dropout(some(0.0, 0.2, 0.5, 0.8)), some(images, features)), (Activation(activation), some(images, features)),
        (some(Flatten(), Input(images)), images), (Scale(), images),
        (some(LeakyReLU, Cube)(), some(images, features)))


def test_no_alarm_on_right_layers(kernel_set):
    """On 500 right layers, drawn with their geometry, weights and inputs, there is nothing to diagnose."""
    kernels.use(kernel_set)
    rng, kinds = np.random.default_rng([SEED, len(kernel_set)]), set()
    for seed in range(RIGHT_LAYERS[kernel_set]):
        layer, shape = right_layer(rng)
        report = check_layer(layer, shape, batch_size=int(rng.integers(2, 5)), seed=seed)
        assert report.ok, f"seed {seed}, {layer.config()}\n{report}"
        assert report.notes == []
        assert all(row.diagnosis is None for row in report.rows)
        kinds.add(type(layer).__name__)
    assert len(kinds) >= (2 if NO_JIT and kernel_set == "fast" else 10)
    record("right layers", RIGHT_LAYERS[kernel_set])


def test_nothing_is_said_of_a_right_gradient():
    """Nor if a diagnosis is asked for all the same."""
    for case in CASES[::7]:
        layer, shape, batch_size = draw(case._replace(mistake=lambda layer, dout, dx: dx), DEVELOPMENT, 1)
        for row in check_layer(layer, shape, batch_size=batch_size).rows:
            diagnosis = diagnose(Evidence(row.what, row.analytic, row.numeric, row.limit))
            assert diagnosis.explanations == ()
            assert "right" in str(diagnosis)


SPOILED = [lambda rng, dx: dx + rng.standard_normal(dx.shape), lambda rng, dx: dx * rng.uniform(0.5, 2, dx.shape),
           lambda rng, dx: np.where(rng.random(dx.shape) < 0.5, 0, dx), lambda rng, dx: dx + 1,
           lambda rng, dx: np.where(rng.random(dx.shape) < 0.1, np.inf, dx), lambda rng, dx: dx[..., :1] * 2,
           lambda rng, dx: np.zeros_like(dx), lambda rng, dx: dx.sum(), lambda rng, dx: dx.astype(int)]


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
@pytest.mark.parametrize("spoil", SPOILED)
def test_every_wrong_gradient_gets_a_sentence(spoil):
    """Whatever the layer and its sizes, 1 and 0 included: a diagnosis must not fail where a check is about to."""
    rng = np.random.default_rng(SEED)
    for seed in range(12):
        layer, shape = right_layer(rng)
        layer.__class__ = wrong(type(layer), lambda layer, dout, dx: spoil(rng, dx))
        for row in check_layer(layer, shape, batch_size=int(rng.integers(1, 4)), seed=seed).rows:
            assert row.ok == (row.diagnosis is None)
            assert row.ok or str(row.diagnosis).startswith(f"{row.what}: ")


def test_noise_is_not_explained():
    rng = np.random.default_rng(SEED)
    for shape, what in [((5, 6, 7, 2), "input"), ((3, 2, 2, 4), "kernel"), ((6, 5), "kernel"), ((4,), "bias")]:
        diagnosis = diagnose(Evidence(what, rng.standard_normal(shape), rng.standard_normal(shape)))
        assert diagnosis.kind is None
        assert str(diagnosis).startswith(f"{what}: no pattern recognised; {np.prod(shape)} of {np.prod(shape)} entries")
        assert "cosine" in str(diagnosis)
        assert "ratio" in str(diagnosis)


# --- words -------------------------------------------------------------------------------------------------------

GRADIENT = np.random.default_rng(3).standard_normal((2, 3, 4, 5))


@pytest.mark.parametrize(("analytic", "kind", "words"), [
    (GRADIENT[::-1, ::-1], "axes", r"kernel rows and kernel columns in reverse order \(\[::-1, ::-1\]\)"),
    (-GRADIENT, "sign", "minus the numeric gradient"), (2 * GRADIENT, "ratio", "2 times .* added twice"),
    (0 * GRADIENT, "zero", "zero everywhere"), (GRADIENT + np.where(np.arange(5) == 4, 1, 0), "remainder",
                                                "in the last output channel only"),
    (GRADIENT * np.linspace(1.5, 3, 4)[:, None], "factor", "each input channel is off by a factor of its own, 1.5 to"),
    (np.abs(GRADIENT), "sign", "magnitudes are right"), (np.roll(GRADIENT, 1, axis=1), "geometry", "shifted by 1"),
    (GRADIENT[:, :, [1, 3, 0, 2]], "axes", r"another order, \[1, 3, 0, 2\]"),
    (GRADIENT.T, "shape", "transpose would fit"), (GRADIENT[None].sum(axis=4), "shape", r"\(1, 2, 3, 4\)"),
    (GRADIENT.astype(np.float32), "shape", "float32"), (None, "shape", "no such gradient"),
    (3.0, "shape", "float in place of an array"),
    (np.where(GRADIENT > 2, np.nan, GRADIENT), "not finite", "NaN")])
def test_words(analytic, kind, words):
    diagnosis = diagnose(Evidence("kernel", analytic, GRADIENT))
    assert diagnosis.kind == kind
    assert diagnosis.explanations[0].score == 1
    assert re.search(words, str(diagnosis)), str(diagnosis)


@pytest.mark.parametrize("excess", [1e-3, 1e-5, 1e-7, -1e-6])
def test_a_factor_near_1_is_told_from_it(excess):
    """Wherever a factor is named; one that differs from 1 by less than the check lets pass is 1."""
    near, digits = 1 + excess, re.escape(f"{1 + excess:.8g}")
    everywhere = diagnose(Evidence("kernel", near * GRADIENT, GRADIENT))
    assert f"it is {1 + excess:.8g} times" in str(everywhere)
    last = diagnose(Evidence("kernel", np.where(np.arange(5) == 4, near, 1) * GRADIENT, GRADIENT))
    assert re.search(f"last output channel only.*by a factor of {digits}", str(last)), str(last)
    scattered = 1 + excess * np.random.default_rng(4).choice([1, 2, 3], GRADIENT.shape)
    nothing = diagnose(Evidence("kernel", scattered * GRADIENT, GRADIENT))
    assert nothing.kind is None
    low, high = sorted((near, 1 + 3 * excess))
    assert f"ratio analytic / numeric {low:.8g} to {high:.8g}, median {1 + 2 * excess:.8g}" in str(nothing)
    right = GRADIENT * np.where(np.arange(5) < 4, 1 + 1e-11, np.random.default_rng(4).uniform(2, 3, (4, 5)))
    assert "1 to 2." in diagnose(Evidence("kernel", right, GRADIENT)).statistics


@pytest.mark.parametrize("excess", [1e-3, 1e-6])
def test_a_share_near_1_is_told_from_it(excess):
    low, high = f"{1 + excess:.8g}", f"{1 + 3 * excess:.8g}"
    if excess > 1e-5:
        channels = diagnose(Evidence("kernel", GRADIENT * np.linspace(1 + excess, 1 + 3 * excess, 5), GRADIENT))
        assert f"each output channel is off by a factor of its own, {low} to {high}." in str(channels)
    term = diagnosis_mistakes.normalized

    def too_much(layer, dout, dx):
        return term(layer, dout, variance=1 + excess)

    report = check_layer(wrong(BatchNormalization, too_much)(), (4, 3, 2))
    assert f"1 times the one through the mean and {low} times the one through the variance" in str(report)


def test_part_of_an_explanation_is_said_to_be_one():
    analytic = -GRADIENT
    analytic[0, 0, 0] = 7.0
    diagnosis = diagnose(Evidence("kernel", analytic, GRADIENT))
    assert diagnosis.kind == "sign"
    assert "This accounts for 96% of the wrong entries" in str(diagnosis)


def test_few_compared_entries_are_enough():
    """Of a large tensor 200 entries are compared: a layer that the diagnosis has no formula for."""
    def last_rows(layer, dout, dx):
        dx[:, -3:] = 0
        return dx

    report = check_layer(wrong(Cube, last_rows)(), (12, 10, 3), batch_size=4)
    assert report["input"].checked == 201
    assert "input: wrong in the last 3 rows only, where it is zero" in str(report)


def test_an_error_nobody_compared_is_admitted():
    numeric, analytic = np.where(np.arange(5) < 4, GRADIENT, np.nan), GRADIENT.copy()
    analytic[..., 4] += 1
    assert "random direction only" in str(diagnose(Evidence("kernel", analytic, numeric)))


def test_report_holds_the_diagnosis_under_the_table():
    report = check_layer(wrong(Dense, lambda layer, dout, dx: -dx)(3), (4,))
    assert report["input"].diagnosis.kind == "sign"
    assert report["kernel"].diagnosis is None
    assert str(report).splitlines()[-2:] == ["1 of 3 gradients refused", str(report["input"].diagnosis)]


# --- models, functions -------------------------------------------------------------------------------------------

def model_of(layer):
    return Sequential([Conv2D(2, (2, 3), input_shape=(5, 6, 1)), layer, Flatten(), Dense(3, activation="softmax")])


def test_the_wrong_layer_of_a_model_is_named():
    """Also if it has no parameters: only the layers before it have wrong gradients then."""
    model = model_of(wrong(MaxPooling2D, lambda layer, dout, dx: dx / len(dx))((2, 1), name="pool"))
    report = check_model(model, np.random.default_rng(1).standard_normal((4, 5, 6, 1)))
    assert not report.ok
    assert [note.partition(":")[0] for note in report.notes[:-1]] == ["pool is wrong by itself"]
    assert "4 is the batch size" in report.notes[0]
    assert "Layers not named are right by themselves" in report.notes[-1]


@pytest.mark.parametrize("what", ["loss", "model"])
def test_the_loss_is_suspected_if_all_layers_are_right(what, monkeypatch):
    """And checked alone; if it is right as well, it is what the model hands on."""
    model = model_of(MaxPooling2D((2, 1)))
    model.compile("sgd", loss="sparse_categorical_crossentropy")
    klass = type(model.loss) if what == "loss" else Sequential
    backward = klass.backward
    monkeypatch.setattr(klass, "backward", lambda self, first, *rest: backward(self, 4 * first, *rest)
                        if what == "model" else 4 * backward(self, first, *rest))
    report = check_model(model, np.random.default_rng(1).standard_normal((4, 5, 6, 1)), np.array([0, 2, 1, 1]))
    assert not report.ok
    assert "look at the loss" in report.notes[0]
    assert ("predictions" in report.notes[0]) == (report.rows[-1].what == "predictions") == (what == "loss")
    assert "it is 4 times the numeric gradient everywhere: the batch size is 4" in report.notes[-1]


def test_functions_are_diagnosed_too():
    a = np.random.default_rng(2).standard_normal((3, 4))
    report = check_gradients(lambda a: np.sum(a**3), {"a": a}, {"a": a**2})
    assert report["a"].diagnosis.kind == "ratio"
    assert "0.333333 times" in str(report)


def test_a_layer_is_checked_after_another_batch():
    """What is left over from an earlier batch is found, and said to be left over."""
    class Remembers(Dense):
        def backward(self, dout):
            self.first = getattr(self, "first", self.kept("x"))
            dx = super().backward(dout)
            self.grads["kernel"] = self.first.T @ dout
            return dx

    report = check_layer(Remembers(3), (4,))
    assert report["kernel"].diagnosis.kind == "accumulated"
    assert "fresh layer" in str(report)
    assert report["input"].ok
