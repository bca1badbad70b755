"""Sequential: building, weights, summary, saving and loading."""

from __future__ import annotations

import numpy as np
import pytest

import minicnn
from minicnn import Sequential, load_model
from minicnn.errors import ArgumentError, FileFormatError, ShapeError, StateError
from minicnn.layers import (
    Activation,
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Input,
    Layer,
    MaxPooling2D,
)


def small_network(seed: int = 3, **first) -> Sequential:
    """Return a network with every kind of layer, for images of 7x6 with 2 channels."""
    return Sequential([
        Conv2D(4, (3, 2), padding="same", activation="relu", **first), BatchNormalization(), MaxPooling2D(2),
        Dropout(0.25), Flatten(), Dense(5, activation="tanh"), Dense(3), Activation("softmax")], seed=seed)


@pytest.fixture
def batch(rng):
    return rng.uniform(size=(9, 7, 6, 2)).astype(np.float32), rng.integers(0, 3, 9)


@pytest.fixture
def trained(batch) -> Sequential:
    model = small_network(input_shape=(7, 6, 2))
    model.compile("adam", "sparse_categorical_crossentropy", ["accuracy"])
    model.fit(*batch, epochs=2, batch_size=4, verbose=0)
    return model


# -- building --------------------------------------------------------------------------------------------------------

def test_three_ways_of_giving_the_shape_make_the_same_network(batch):
    by_argument = small_network(input_shape=(7, 6, 2))
    by_input = Sequential([Input((7, 6, 2)), *small_network().layers], seed=3)
    by_build = small_network()
    by_build.build((None, 7, 6, 2))
    by_data = small_network()
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
    model = small_network()
    assert [layer.name for layer in model.layers] == [
        "conv2d", "batch_normalization", "max_pooling2d", "dropout", "flatten", "dense", "dense_1", "activation"]
    with pytest.raises(ArgumentError, match="'mine' already"):
        Sequential([Dense(2, name="mine"), Dense(2, name="mine")])


def test_get_layer_by_name_and_place():
    model = small_network()
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
    model = small_network(input_shape=(7, 6, 2))
    model.build((None, 7, 6, 2))
    with pytest.raises(StateError, match="make a new one"):
        model.build((None, 8, 6, 2))


def test_calls_that_need_shapes_say_so():
    model = small_network()
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


# -- weights ---------------------------------------------------------------------------------------------------------

def test_weights_are_copies_in_keras_order(batch):
    model = small_network(input_shape=(7, 6, 2))
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
    model = small_network(input_shape=(7, 6, 2))
    digest = model.weights_sha256()
    weights = [w + 1 for w in model.get_weights()]
    with pytest.raises(ShapeError, match="got 9 arrays; expected 10: conv2d/kernel"):
        model.set_weights(weights[:-1])
    weights[6] = weights[6].T
    with pytest.raises(ShapeError, match=r"\(5, 36\) for dense/kernel; expected \(36, 5\)"):
        model.set_weights(weights)
    assert model.weights_sha256() == digest


def test_summary_is_keras_table_with_exact_counts(capsys):
    lines: list[str] = []
    model = small_network(input_shape=(7, 6, 2))
    model.layers[5].trainable = False
    model.summary(print_fn=lines.append)
    text = "\n".join(lines)
    assert 'Model: "sequential"' in text
    assert "┃ Layer (type) " in text
    assert "│ conv2d (Conv2D)                          │ (None, 7, 6, 4) │      52 │" in text
    assert "Total params: 271 (1.06 KB)" in text
    assert "Trainable params: 78 (312.00 B)" in text
    assert "Non-trainable params: 193 (772.00 B)" in text
    small_network().summary()
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
    small_network(input_shape=(7, 6, 2)).summary()
    assert "| conv2d (Conv2D) " in capsys.readouterr().out


# -- files -----------------------------------------------------------------------------------------------------------

def test_a_saved_model_goes_on_bit_for_bit(trained, batch, tmp_path):
    path = tmp_path / "model.safetensors"
    trained.save(path)
    twin = load_model(path)
    assert twin.weights_sha256() == trained.weights_sha256()
    np.testing.assert_array_equal(twin.predict(batch[0]), trained.predict(batch[0]))
    assert twin.evaluate(*batch) == trained.evaluate(*batch)
    assert twin.optimizer.iterations == trained.optimizer.iterations == 6
    for model in (trained, twin):
        model.fit(*batch, epochs=2, batch_size=4, verbose=0)
    assert twin.weights_sha256() == trained.weights_sha256()


def test_a_model_that_was_never_compiled_can_be_saved(tmp_path, batch):
    model = small_network(input_shape=(7, 6, 2))
    model.save(tmp_path / "m.safetensors")
    twin = load_model(tmp_path / "m.safetensors")
    assert twin.optimizer is None
    np.testing.assert_array_equal(twin(batch[0]), model(batch[0]))


def test_float64_and_optimizer_settings_survive(tmp_path):
    model = Sequential([Dense(3, dtype="float64", input_shape=(4,), use_bias=False, activation="softmax")])
    model.compile(minicnn.optimizers.SGD(0.05, momentum=0.9, nesterov=True),
                  minicnn.losses.CategoricalCrossentropy(label_smoothing=0.1))
    model.train_on_batch(np.ones((2, 4)), np.eye(3)[:2])
    model.save(tmp_path / "m.safetensors")
    twin = load_model(tmp_path / "m.safetensors")
    assert twin.layers[0].params["kernel"].dtype == np.float64
    assert twin.optimizer.config() == {"learning_rate": 0.05, "momentum": 0.9, "nesterov": True}
    assert twin.loss.config() == {"from_logits": False, "label_smoothing": 0.1}
    np.testing.assert_array_equal(twin.optimizer.slots["dense/kernel"]["velocity"],
                                  model.optimizer.slots["dense/kernel"]["velocity"])


class Twice(Layer):
    """A layer of a reader's own."""

    def forward(self, x, training=False):
        self.keep(training)
        return 2 * self.check_input(x)

    def backward(self, dout):
        self.kept()
        return 2 * dout


def test_own_layers_come_from_the_callers_dictionary_only(tmp_path):
    model = Sequential([Twice(input_shape=(3,)), Dense(2)])
    path = tmp_path / "m.safetensors"
    model.save(path)
    with pytest.raises(FileFormatError, match=r"custom_layers=\{'Twice': YourClass\}"):
        load_model(path)
    twin = load_model(path, custom_layers={"Twice": Twice})
    x = np.ones((1, 3), np.float32)
    np.testing.assert_array_equal(twin(x), model(x))


def test_the_ending_of_the_path_is_checked(trained, tmp_path):
    with pytest.raises(ArgumentError, match=r"end.* in \.safetensors"):
        trained.save(tmp_path / "model.h5")


def test_a_file_whose_weights_do_not_fit_is_refused(trained, tmp_path):
    from minicnn import saving
    path = tmp_path / "m.safetensors"
    trained.save(path)
    arrays, description = saving.read(path)
    arrays["weights/dense/kernel"] = arrays["weights/dense/kernel"].T
    saving.write(path, arrays, description)
    with pytest.raises(FileFormatError, match=r"dense/kernel is float32 \(5, 36\); expected float32 \(36, 5\)"):
        load_model(path)
    del arrays["weights/dense/kernel"]
    saving.write(path, arrays, description)
    with pytest.raises(FileFormatError, match=r"missing \['dense/kernel'\]"):
        load_model(path)


@pytest.mark.parametrize("change", [
    lambda d: d.pop("architecture"),
    lambda d: d["architecture"].pop("layers"),
    lambda d: d["architecture"]["layers"][0].pop("config"),
    lambda d: d["architecture"]["layers"][0]["config"].update(units="many"),
    lambda d: d["architecture"]["layers"][0]["config"].update(surprise=1),
    lambda d: d["architecture"]["layers"][0].update({"class": "os.system"}),
    lambda d: d["training"]["optimizer"].update(name="os.system"),
    lambda d: d["training"]["loss"].update(config={"from_logits": False, "code": "1"}),
])
def test_a_damaged_description_is_refused(tmp_path, change):
    from minicnn import saving
    model = Sequential([Dense(2, input_shape=(3,))])
    model.compile("sgd", "sparse_categorical_crossentropy")
    path = tmp_path / "m.safetensors"
    model.save(path)
    arrays, description = saving.read(path)
    change(description)
    saving.write(path, arrays, description)
    with pytest.raises(FileFormatError, match=r"m\.safetensors holds no model"):
        load_model(path)


def test_numpy_seeds_are_seeds_and_others_are_refused(tmp_path):
    model = Sequential([Dense(2, input_shape=(3,)), Dropout(0.5, seed=np.int64(2))], seed=np.int64(3))
    model.save(tmp_path / "m.safetensors")
    assert load_model(tmp_path / "m.safetensors").seed == 3
    for wrong in (1.5, "a", -1, True):
        with pytest.raises(ArgumentError, match="seed is"):
            Sequential(seed=wrong)
        with pytest.raises(ArgumentError, match="seed is"):
            Dropout(0.5, seed=wrong)


def test_an_initializer_of_ones_own_does_not_stand_in_the_way_of_loading(tmp_path):
    def sevens(shape, rng):
        return np.full(shape, 7.0)

    model = Sequential([Dense(2, kernel_initializer=sevens, input_shape=(3,))])
    model.save(tmp_path / "m.safetensors")
    assert load_model(tmp_path / "m.safetensors").weights_sha256() == model.weights_sha256()


class Scaled(Twice):
    """A layer whose config forgets its argument."""

    def __init__(self, factor: int = 2, **base):
        super().__init__(**base)
        self.factor = factor


class Needy(Twice):
    """A layer whose config lacks an argument the constructor needs."""

    def __init__(self, factor, **base):
        super().__init__(**base)


@pytest.mark.parametrize("layer", [Scaled(5, input_shape=(3,)), Needy(5, input_shape=(3,))])
def test_a_layer_whose_config_does_not_make_its_twin_is_not_saved(tmp_path, layer):
    with pytest.raises(ArgumentError, match=r"cannot be saved: .*[Rr]eturn every argument of the constructor"):
        Sequential([layer]).save(tmp_path / "m.safetensors")
    assert not list(tmp_path.iterdir())


def test_an_optimizer_of_ones_own_is_left_out_of_the_file_and_that_is_said(tmp_path):
    class Own(minicnn.optimizers.Adam):
        pass

    model = Sequential([Dense(2, input_shape=(3,))])
    model.compile(Own(), "sparse_categorical_crossentropy")
    with pytest.warns(UserWarning, match="Own is a class of your own"):
        model.save(tmp_path / "m.safetensors")
    assert load_model(tmp_path / "m.safetensors").optimizer is None


def test_keras_arguments_of_save_load_and_summary(trained, tmp_path, capsys):
    path = tmp_path / "m.safetensors"
    trained.save(path)
    with pytest.raises(ArgumentError, match="overwrite=False"):
        trained.save(path, overwrite=False)
    assert load_model(path, compile=False).optimizer is None
    trained.summary(line_length=None, show_trainable=False)
    with pytest.raises(minicnn.errors.UnsupportedError, match="show_trainable"):
        trained.summary(show_trainable=True)
    with pytest.raises(FileNotFoundError, match="no such folder; make it first"):
        trained.save(tmp_path / "nowhere" / "m.safetensors")


def test_the_number_of_updates_outlives_a_recompile_and_the_file(trained, tmp_path):
    trained.compile("sgd", "sparse_categorical_crossentropy")
    assert (trained.updates, trained.optimizer.iterations) == (6, 0)
    trained.save(tmp_path / "m.safetensors")
    assert load_model(tmp_path / "m.safetensors").updates == 6


def test_set_weights_changes_all_or_nothing():
    model = small_network(input_shape=(7, 6, 2))
    before = model.weights_sha256()
    weights = [w + 1 for w in model.get_weights()]
    weights[3] = weights[3].astype(str)
    with pytest.raises(minicnn.errors.DataError, match="expected real numbers"):
        model.set_weights(weights)
    assert model.weights_sha256() == before


def test_a_layer_whose_backward_returns_another_shape_is_named(batch):
    class Wide(Twice):
        def backward(self, dout):
            return np.repeat(dout, 100, axis=1)

    model = Sequential([Flatten(), Dense(5), BatchNormalization(), Wide(), Dense(3, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.raises(ShapeError, match=r"backward of Wide 'wide' returned the shape \(9, 500\); expected \(9, 5\)"):
        model.fit(*batch, verbose=0)


def test_contradicting_shapes_are_refused():
    with pytest.raises(ShapeError, match=r"input_shape=\(5,\), but what comes before it gives \(4,\)"):
        Sequential([Input((4,)), Dense(2, input_shape=(5,))])


def test_a_name_the_terminal_cannot_show():
    lines: list[str] = []
    from minicnn.summary import summary_table
    lines.append(summary_table("é", small_network().layers, "ascii"))
    assert 'Model: "?"' in lines[0]
