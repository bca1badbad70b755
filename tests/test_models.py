"""Sequential: building, weights, summary."""

from __future__ import annotations

import numpy as np
import pytest

import minicnn
from minicnn import Sequential
from minicnn.errors import ArgumentError, ShapeError, StateError
from minicnn.layers import BatchNormalization, Conv2D, Dense, Flatten, Input, MaxPooling2D
from networks import all_kinds
from own_layers import LeakyReLU


@pytest.fixture
def batch(rng):
    return rng.uniform(size=(9, 7, 6, 2)).astype(np.float32), rng.integers(0, 3, 9)


# --- building ----------------------------------------------------------------------------------------------------

def test_three_ways_of_giving_the_shape_make_the_same_network(batch):
    by_argument = all_kinds(input_shape=(7, 6, 2))
    by_input = Sequential([Input((7, 6, 2)), *all_kinds().layers], seed=3)
    by_build = all_kinds()
    by_build.build((None, 7, 6, 2))
    by_data = all_kinds()
    by_data(batch[0])
    digests = {model.weights_sha256() for model in (by_argument, by_input, by_build, by_data)}
    assert len(digests) == 1
    for model in (by_argument, by_input, by_build, by_data):
        assert model.input_shape == (None, 7, 6, 2)
        assert model.output_shape == (None, 3)


def test_input_is_no_layer_of_the_model():
    model = Sequential([Input((4,)), Dense(2)])
    assert [layer.name for layer in model.layers] == ["dense"]


def test_names_are_unique_and_say_the_class():
    model = all_kinds()
    assert [layer.name for layer in model.layers] == [
        "conv2d", "batch_normalization", "max_pooling2d", "dropout", "flatten", "dense", "dense_1", "activation"]
    with pytest.raises(ArgumentError, match="'mine' already"):
        Sequential([Dense(2, name="mine"), Dense(2, name="mine")])


def test_get_layer_by_name_and_place():
    model = all_kinds()
    assert model.get_layer("dense_1") is model.layers[6]
    assert model.get_layer(index=-1) is model.layers[-1]
    with pytest.raises(ArgumentError, match="Did you mean 'dense_1'"):
        model.get_layer("dense1")
    with pytest.raises(ArgumentError, match="the model has 8"):
        model.get_layer(index=8)


def test_add_refuses_what_is_no_layer_and_a_layer_in_use():
    model = Sequential([Input((4,))])
    with pytest.raises(ArgumentError, match=r"write Dense\(\.\.\.\)"):
        model.add(Dense)
    layer = Dense(3)
    model.add(layer)
    with pytest.raises(ArgumentError, match="in use already"):
        model.add(layer)
    with pytest.raises(ArgumentError, match="Input must come first"):
        model.add(Input((4,)))


def test_a_layer_that_does_not_fit_is_not_added():
    model = Sequential([Input((5, 4, 1)), Conv2D(2, 3)])
    with pytest.raises(ShapeError, match="3x2 for a kernel of 4x4"):
        model.add(Conv2D(2, 4))
    with pytest.raises(ShapeError, match="Flatten"):
        model.add(Dense(2))
    model.add(Flatten())
    assert model.output_shape == (None, 12)


def test_a_misfit_leaves_a_deferred_model_unbuilt_and_usable():
    model = Sequential([Conv2D(2, 3), MaxPooling2D(2), Conv2D(2, 3), Flatten()])
    with pytest.raises(ShapeError, match="2x2 for a kernel of 3x3"):
        model.build((None, 7, 7, 1))
    assert not any(layer.built for layer in model.layers)
    model.build((None, 9, 8, 1))
    assert model.output_shape == (None, 2)


def test_rebuilding_for_another_shape_is_refused():
    model = all_kinds(input_shape=(7, 6, 2))
    model.build((None, 7, 6, 2))
    with pytest.raises(StateError, match="make a new one"):
        model.build((None, 8, 6, 2))


def test_calls_that_need_shapes_say_so():
    model = all_kinds()
    for call in ("get_weights", "count_params"):
        with pytest.raises(StateError, match=f"{call} was called on a model whose shapes are not known"):
            getattr(model, call)()
    with pytest.raises(StateError, match="no layers"):
        Sequential()(np.ones((1, 2)))
    with pytest.raises(StateError, match="needs the shape"):
        model.build()


def test_default_seed_is_that_of_set_random_seed(monkeypatch):
    monkeypatch.setattr(minicnn.utils, "_default_seed", 0)
    first = Sequential([Input((4,)), Dense(3)]).weights_sha256()
    assert Sequential([Input((4,)), Dense(3)], seed=0).weights_sha256() == first
    minicnn.utils.set_random_seed(5)
    assert Sequential([Input((4,)), Dense(3)]).weights_sha256() != first
    assert Sequential([Input((4,)), Dense(3)]).weights_sha256() == Sequential(
        [Input((4,)), Dense(3)], seed=5).weights_sha256()


def test_a_layer_whose_backward_returns_another_shape_is_named(batch):
    class Wide(LeakyReLU):
        def backward(self, dout):
            return np.repeat(dout, 100, axis=1)

    model = Sequential([Flatten(), Dense(5), BatchNormalization(), Wide(), Dense(3, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.raises(ShapeError, match=r"backward of Wide 'wide' returned the shape \(9, 500\); expected \(9, 5\)"):
        model.fit(*batch, verbose=0)


def test_contradicting_shapes_are_refused():
    with pytest.raises(ShapeError, match=r"input_shape=\(5,\), but what comes before it gives \(4,\)"):
        Sequential([Input((4,)), Dense(2, input_shape=(5,))])


# --- weights -----------------------------------------------------------------------------------------------------

def test_weights_are_copies_in_keras_order(batch):
    model = all_kinds(input_shape=(7, 6, 2))
    weights = model.get_weights()
    assert [w.shape for w in weights] == [(3, 2, 2, 4), (4,), (4,), (4,), (4,), (4,), (36, 5), (5,), (5, 3), (3,)]
    before = model(batch[0])
    for array in weights:
        array += 1
    np.testing.assert_array_equal(model(batch[0]), before)
    model.set_weights(weights)
    assert not np.array_equal(model(batch[0]), before)
    kernel = weights[0].copy()
    weights[0] += 1
    np.testing.assert_array_equal(model.layers[0].params["kernel"], kernel)


def test_set_weights_refuses_misfits_and_changes_nothing():
    model = all_kinds(input_shape=(7, 6, 2))
    digest = model.weights_sha256()
    weights = [w + 1 for w in model.get_weights()]
    with pytest.raises(ShapeError, match="got 9 arrays; expected 10: conv2d/kernel"):
        model.set_weights(weights[:-1])
    weights[6] = weights[6].T
    with pytest.raises(ShapeError, match=r"\(5, 36\) for dense/kernel; expected \(36, 5\)"):
        model.set_weights(weights)
    assert model.weights_sha256() == digest


def test_set_weights_changes_all_or_nothing():
    model = all_kinds(input_shape=(7, 6, 2))
    before = model.weights_sha256()
    weights = [w + 1 for w in model.get_weights()]
    weights[3] = weights[3].astype(str)
    with pytest.raises(minicnn.errors.DataError, match="expected real numbers"):
        model.set_weights(weights)
    assert model.weights_sha256() == before


def test_summary_is_keras_table_with_exact_counts(capsys):
    lines: list[str] = []
    model = all_kinds(input_shape=(7, 6, 2))
    model.layers[5].trainable = False
    model.summary(print_fn=lines.append)
    text = "\n".join(lines)
    assert 'Model: "sequential"' in text
    assert "┃ Layer (type) " in text
    assert "│ conv2d (Conv2D)                          │ (None, 7, 6, 4) │      52 │" in text
    assert "Total params: 271 (1.06 KB)" in text
    assert "Trainable params: 78 (312.00 B)" in text
    assert "Non-trainable params: 193 (772.00 B)" in text
    all_kinds().summary()
    assert "?" in capsys.readouterr().out


def test_summary_falls_back_to_ascii(monkeypatch, capsys):
    class Latin:
        encoding = "cp1252"

        def __init__(self, stream):
            self.stream = stream

        def write(self, text):
            text.encode("cp1252")
            return self.stream.write(text)

        def flush(self):
            self.stream.flush()

    import sys
    monkeypatch.setattr(sys, "stdout", Latin(sys.stdout))
    all_kinds(input_shape=(7, 6, 2)).summary()
    assert "| conv2d (Conv2D) " in capsys.readouterr().out


def test_a_name_the_terminal_cannot_show():
    lines: list[str] = []
    from minicnn.summary import summary_table
    lines.append(summary_table("é", all_kinds().layers, "ascii"))
    assert 'Model: "?"' in lines[0]
