"""Fused and unfused are the same network: outputs, gradients, moving averages, optimizer states, updates."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from conftest import NO_JIT
from minicnn import layers
from minicnn.blocks import ConvolutionBlock, DenseBlock, SingleBlock
from minicnn.gradcheck import check_model
from minicnn.layers import (
    Activation,
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    Input,
    Layer,
    MaxPooling2D,
)
from minicnn.models import Sequential
from minicnn.plan import Plan
from networks import SPARSE, draw_images, draw_weights, small_cnn
from plan_networks import compare, draw_data, draw_network, gradients, twins

SEEDS = range(6 if NO_JIT else 60)
LIMIT = 1e-10
LIMIT32 = 1e-5


@pytest.fixture(autouse=True)
def _fast(use_kernels):
    use_kernels("fast")


# --- whole networks, float64 -------------------------------------------------------------------------------------

@pytest.mark.parametrize("seed", SEEDS)
def test_random_networks_agree(seed, rng):
    fused, unfused = twins(partial(draw_network, seed), "sgd" if seed % 2 else "adam")
    assert fused.plan().unfused == ""
    for n in (3, 1, 2):
        x, y = draw_data(rng, n)
        weight = rng.uniform(0.5, 1.5, n)
        compare({"out": fused(x)}, {"out": unfused(x)}, LIMIT)
        losses = [model.loss_and_gradients(x, y, weight) for model in (fused, unfused)]
        assert losses[0] == pytest.approx(losses[1], rel=LIMIT)
        compare(gradients(fused), gradients(unfused), LIMIT)
        for model in (fused, unfused):
            model.train_on_batch(x, y, weight)
        compare(fused.named_weights(), unfused.named_weights(), 1e-8)
        slots = [{f"{name}/{slot}": array for name, arrays in model.optimizer.slots.items()
                  for slot, array in arrays.items()} for model in (fused, unfused)]
        if slots[1]:  # none if all is frozen
            compare(*slots, 1e-8)
    x, y = draw_data(rng, 4)
    assert fused.evaluate(x, y, batch_size=3) == pytest.approx(unfused.evaluate(x, y, batch_size=3), rel=1e-8)


@pytest.mark.no_jit_excluded("looks at all drawn networks, of which the suite without JIT runs a few")
def test_the_random_networks_have_what_they_are_drawn_for():
    """Blocks of every kind, every link, frozen layers, first and last layers of all sorts."""
    seen = set()
    for seed in SEEDS:
        model = draw_network(seed)
        for block in Plan(model.layers).blocks:
            link = block.link
            where = type(block).__name__
            seen |= {where} | {f"{where} {part} {layer.trainable}" for part, layer in vars(link).items()
                                 if isinstance(layer, Layer)}
            seen |= {f"{where} whole link"} if link.norm and link.pool and link.dropout else set()
            seen |= {f"{where} ReLU layer"} if getattr(block, "relu_layer", None) else set()
            seen |= {"link behind a frozen layer"} if link.layers and not model.layers[0].trainable else set()
            if block.layer is not None:
                algorithm = getattr(block.layer, "algorithm", "")
                seen |= {f"{type(block.layer).__name__} {algorithm} in {where}"}
        seen |= {f"first {type(model.layers[0]).__name__}"}
    conv, dense, single = (kind.__name__ for kind in (ConvolutionBlock, DenseBlock, SingleBlock))
    expected = {f"{kind} {part} True" for kind in (conv, dense) for part in ("norm", "pool", "dropout")}
    expected |= {f"{conv} norm False", f"{dense} norm False",
                 f"{single} norm True", f"{single} pool True", f"{single} dropout True", f"{dense} flatten True",
                 f"{conv} whole link", f"{dense} whole link", f"{conv} ReLU layer", f"{dense} ReLU layer",
                 f"Conv2D winograd in {conv}", f"Conv2D direct in {conv}", f"Conv2D im2col in {single}",
                 f"LeakyReLU  in {single}", f"Promoting  in {single}", "link behind a frozen layer",
                 "first Conv2D", "first BatchNormalization", "first Dropout"}
    assert expected <= seen, sorted(expected - seen)


# --- block by block ----------------------------------------------------------------------------------------------

BLOCKS = {
    "conv": lambda: [Conv2D(5, 3), Conv2D(3, (2, 1), padding="same")],
    "conv relu bn": lambda: [Conv2D(5, 3, activation="relu"), BatchNormalization(), Conv2D(3, (1, 2))],
    "conv bn relu": lambda: [Conv2D(5, 3), BatchNormalization(), Activation("relu"), Conv2D(3, (1, 2))],
    "conv, relu, bn, pool": lambda: [Conv2D(5, (3, 2)), Activation("relu"), BatchNormalization(), MaxPooling2D(2),
                                     Conv2D(2, 2)],
    "the whole link": lambda: [Conv2D(17, (2, 3), padding="same", activation="relu"), BatchNormalization(),
                               MaxPooling2D(2), Dropout(0.3), Conv2D(3, 3, padding="same")],
    "winograd": lambda: [Conv2D(5, 3, algorithm="winograd", activation="relu"), BatchNormalization(),
                         Conv2D(4, 5, padding="same", algorithm="winograd", activation="relu"), MaxPooling2D(2),
                         Dropout(0.4), Conv2D(3, 3, padding="same", algorithm="winograd")],
    "odd images": lambda: [Conv2D(4, (2, 2), activation="relu"), BatchNormalization(), MaxPooling2D(2), Conv2D(2, 1)],
    "strides": lambda: [Conv2D(4, 3, strides=(1, 2), activation="relu"), BatchNormalization(),
                        Conv2D(2, (2, 1), strides=(2, 1), padding="same")],
    "to dense": lambda: [Conv2D(4, 3, activation="relu"), BatchNormalization(), MaxPooling2D(2), Dropout(0.3),
                         Flatten(), Dense(5)],
    "dense": lambda: [Flatten(), Dense(9, activation="relu"), BatchNormalization(), Dropout(0.3), Dense(4)],
    "at the end": lambda: [Conv2D(4, 3, activation="relu"), BatchNormalization(), MaxPooling2D(2), Dropout(0.3)],
    "relu at the end": lambda: [Conv2D(3, 3), Activation("relu")],
    "averages": lambda: [Conv2D(4, 3, activation="relu"), BatchNormalization(), AveragePooling2D((2, 3)), Dropout(0.3),
                         layers.LeakyReLU(0.1), Conv2D(3, 2), GlobalAveragePooling2D(), Dense(2)],
    "negative gamma": lambda: [Conv2D(4, 3, activation="relu"), BatchNormalization(), MaxPooling2D(2), Conv2D(2, 1)],
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_agrees_with_its_layers(name, dtype, rng):
    """Output, gradients of input and parameters, for a random gradient of the output."""
    layers = BLOCKS[name]()
    model = Sequential([Input((9, 8, 3))], seed=1)
    for layer in layers:
        layer.dtype = dtype
        model.add(layer)
    draw_weights(model, rng)
    if name == "negative gamma":
        model.layers[1].params["gamma"] *= rng.choice([-1, 1], 4).astype(dtype)
        model.layers[1].params["gamma"][0] = 0
    for layer in layers:
        layer.step = 5
    x = rng.standard_normal((4, 9, 8, 3)).astype(dtype)
    expected = model.forward(x, training=True)
    dout = rng.standard_normal(expected.shape).astype(dtype)
    theirs = {"out": expected, "input": model.backward(dout)} | {
        f"{layer.name}/{key}": grad for layer in layers for key, grad in layer.grads.items()}
    plan = Plan(layers)
    ours = {"out": plan.forward(x, training=True), "input": plan.backward(dout)} | {
        f"{layer.name}/{key}": grad for layer in layers for key, grad in layer.grads.items()}
    # The gradient of a bias before a batch normalization is zero, but for rounding: hence "part".
    limit, part = (LIMIT, 1e-3) if dtype == "float64" else (LIMIT32, 0.1)
    compare(ours, theirs, limit, part)
    compare({"out": plan.forward(x)}, {"out": _one_by_one(layers, x)}, limit)


def _one_by_one(layers, x):
    for layer in layers:
        x = layer.forward(x)
    return x


def test_what_is_not_a_number_goes_on(rng):
    """A NaN in an image must not be hidden by a ReLU or a pool on the way."""
    layers = BLOCKS["the whole link"]()
    model = Sequential([Input((9, 8, 3)), *layers], seed=1)
    x = rng.standard_normal((2, 9, 8, 3)).astype(np.float32)
    x[1, 4, 3, 0] = np.nan
    np.testing.assert_array_equal(np.isnan(model(x)), np.isnan(_one_by_one(layers, x)))
    assert np.isnan(model(x)[1]).any()


@pytest.mark.parametrize("mean", [1e2, 1e4])
def test_batch_normalization_far_from_zero(mean, rng):
    """The sums gathered on the way out: a one-pass variance in float32 would be nonsense here."""
    model = Sequential([Input((8, 6, 1)), Conv2D(3, 1), BatchNormalization(), Conv2D(2, 1)], seed=1)
    model.layers[0].params["kernel"][...] = 0.1
    model.layers[0].params["bias"][...] = mean
    x = rng.standard_normal((40, 8, 6, 1)).astype(np.float32)
    Plan(model.layers).forward(x, training=True)
    moved = model.layers[1].state["moving_variance"]
    z = (x.astype(np.float64) * np.float32(0.1)).astype(np.float64) + mean
    # float32 has steps of 1e-3 at 1e4, a hundredth of the deviation
    np.testing.assert_allclose((moved - 0.99) / 0.01, z.var(), rtol=0.02 if mean > 1e3 else 1e-2)


# --- what is trained, frozen, weighted ---------------------------------------------------------------------------

@pytest.mark.parametrize("frozen", [{0}, {0, 1}, {1}, {0, 1, 3}, {0, 1, 3, 4}, {3, 4, 7}, set(range(9))], ids=str)
def test_an_update_with_frozen_layers(frozen, rng):
    """Also where the first trained layer stands on a block's way in, and where all before it need no gradient."""
    def make():
        model = Sequential([Input((7, 6, 2)), Conv2D(3, 3, activation="relu"), BatchNormalization(), Dropout(0.2),
                            Conv2D(4, (1, 3), activation="relu"), BatchNormalization(), MaxPooling2D(2), Flatten(),
                            Dense(3, activation="softmax")], seed=2)
        for place, layer in enumerate(model.layers):
            layer.trainable = place not in frozen
            layer.astype("float64")
        return model

    fused, unfused = twins(make)
    x, y = draw_data(rng, 4)
    for model in (fused, unfused):
        for _ in range(2):
            model.train_on_batch(x, y)
    compare(fused.named_weights(), unfused.named_weights(), LIMIT)
    if len(frozen) < 9:
        assert fused.weights_sha256() != make().weights_sha256()


def test_class_and_sample_weights(rng):
    fused, unfused = twins(lambda: _as64(small_cnn(seed=4)))
    x, y = draw_images(rng, 13)
    histories = [model.fit(x, y, batch_size=5, epochs=2, verbose=0, class_weight={0: 2.0, 1: 0.5, 2: 1.0},
                           sample_weight=np.linspace(0.5, 1.5, 13), validation_split=0.2).history
                 for model in (fused, unfused)]
    assert histories[0].keys() == histories[1].keys()
    for name, values in histories[0].items():
        np.testing.assert_allclose(values, histories[1][name], rtol=1e-9, err_msg=name)
    compare(fused.named_weights(), unfused.named_weights(), 1e-9)


def _as64(model):
    for layer in model.layers:
        layer.astype("float64")
    return model


@pytest.mark.gradient
def test_gradients_through_blocks_are_those_of_finite_differences(gradient_table):
    model = Sequential([Input((6, 5, 2)), Conv2D(3, 3, padding="same", activation="relu"), BatchNormalization(),
                        MaxPooling2D(2), Dropout(0.3), Conv2D(3, (2, 1), padding="same"), Activation("relu"),
                        BatchNormalization(), Flatten(), Dense(4, activation="relu"), BatchNormalization(),
                        Dense(3, activation="softmax")], seed=3)
    model.compile("sgd", SPARSE)
    assert [len(block.layers) for block in model.plan().blocks] == [1, 5, 3, 2]
    rng = np.random.default_rng(5)
    report = check_model(model, *draw_data(rng, 3, (6, 5, 2)), entries=2 if NO_JIT else 20)
    for row in report.rows:
        gradient_table.add("fused blocks", row.what, row.error, row.limit)
    assert report.ok, str(report)
