"""Sequential: saving and loading."""

from __future__ import annotations

import numpy as np
import pytest

import minicnn
from minicnn import Sequential, load_model, saving
from minicnn.errors import ArgumentError, DataError, FileFormatError, StateError
from minicnn.layers import Dense, Dropout, Layer
from networks import all_kinds


@pytest.fixture
def batch(rng):
    return rng.uniform(size=(9, 7, 6, 2)).astype(np.float32), rng.integers(0, 3, 9)


@pytest.fixture
def trained(batch) -> Sequential:
    model = all_kinds(input_shape=(7, 6, 2))
    model.compile("adam", "sparse_categorical_crossentropy", ["accuracy"])
    model.fit(*batch, epochs=2, batch_size=4, verbose=0)
    return model


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
    model = all_kinds(input_shape=(7, 6, 2))
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
    assert type(load_model(path, custom_objects={"Twice": Twice}).layers[0]) is Twice
    twin = load_model(path, custom_layers={"Twice": Twice})
    x = np.ones((1, 3), np.float32)
    np.testing.assert_array_equal(twin(x), model(x))


@pytest.mark.parametrize("call", ["save", "save_weights"])
@pytest.mark.parametrize("name", ["model.pt", "model", "model.safetensors.bak"])
def test_the_ending_of_the_path_is_checked(trained, tmp_path, call, name):
    with pytest.raises(ArgumentError, match=rf"{call} got .*end.* in \.safetensors"):
        getattr(trained, call)(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["model.keras", "model.h5", "model.weights.h5", "model.hdf5"])
def test_endings_of_keras_are_taken_with_a_word_that_the_file_is_ours(trained, tmp_path, name):
    for call, load in (("save", load_model), ("save_weights", trained.load_weights)):
        with pytest.warns(UserWarning, match=r"Keras cannot read it; a name that ends in \.safetensors") as caught:
            getattr(trained, call)(tmp_path / name)
        assert [warning.filename for warning in caught] == [__file__]
        load(tmp_path / name)


@pytest.mark.parametrize("begin", [b"\x89HDF\r\n\x1a\n", b"PK\x03\x04\x14\0\0\0"])
def test_files_of_keras_are_called_so(tmp_path, begin):
    (tmp_path / "model.keras").write_bytes(begin + bytes(100))
    with pytest.raises(FileFormatError, match=r"model\.keras is a file of Keras.*set_weights\(keras_model"):
        load_model(tmp_path / "model.keras")


def test_weights_alone_go_into_a_network_built_alike(trained, tmp_path):
    path, whole = tmp_path / "w.safetensors", tmp_path / "m.safetensors"
    trained.save_weights(path)
    trained.save(whole)
    for file in (path, whole):
        twin = all_kinds(seed=4, input_shape=(7, 6, 2))
        assert twin.weights_sha256() != trained.weights_sha256()
        twin.load_weights(file)
        assert twin.weights_sha256() == trained.weights_sha256()
    with pytest.raises(FileFormatError, match=r"holds weights alone.*load_weights"):
        load_model(path)
    with pytest.raises(ArgumentError, match=r"save_weights got overwrite=False, and .* exists"):
        trained.save_weights(path, overwrite=False)


def test_weights_of_another_network_change_nothing(trained, tmp_path):
    trained.save_weights(tmp_path / "w.safetensors")
    for other, words in [
            (Sequential([Dense(2, input_shape=(3,))]), r"w\.safetensors does not hold .*surplus \['batch_n"),
            (all_kinds(seed=4, input_shape=(9, 6, 2)), r"does not hold .* dense/kernel is float32 \(36, 5\)")]:
        before = other.weights_sha256()
        with pytest.raises(FileFormatError, match=words):
            other.load_weights(tmp_path / "w.safetensors")
        assert other.weights_sha256() == before
    with pytest.raises(StateError, match="load_weights was called on a model whose shapes are not known"):
        Sequential([Dense(2)]).load_weights(tmp_path / "w.safetensors")


def test_a_file_whose_weights_do_not_fit_is_refused(trained, tmp_path):
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


@pytest.mark.parametrize("call", ["save", "save_weights"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_could_not_be_read_again_is_not_written(trained, tmp_path, call, value):
    getattr(trained, call)(tmp_path / "m.safetensors")
    before = (tmp_path / "m.safetensors").read_bytes()
    trained.layers[0].params["kernel"][1, 0, 1, 0] = value
    with pytest.raises(DataError, match=rf"nothing is written: .*kernel\[1, 0, 1, 0\] is {value}; expected"):
        getattr(trained, call)(tmp_path / "m.safetensors")
    assert (tmp_path / "m.safetensors").read_bytes() == before


class Odd(Layer):
    """A layer whose weights lie in an order of its own."""

    def build(self, input_shape):
        super().build(input_shape)
        self.params["v"] = np.asfortranarray(np.full((3, 2), -1, np.float32))

    def forward(self, x, training=False):
        return self.check_input(x)


def test_weights_a_layer_made_by_itself_are_read_too(tmp_path):
    model = Sequential([Odd(input_shape=(4,))])
    model.layers[0].params["v"][1] = 5
    model.save(tmp_path / "m.safetensors")
    twin = load_model(tmp_path / "m.safetensors", custom_layers={"Odd": Odd})
    np.testing.assert_array_equal(twin.layers[0].params["v"], model.layers[0].params["v"])


def test_a_layer_of_ones_own_may_leave_settings_out_of_its_config(tmp_path):
    """Only the library's own layers must say again what the file said of them."""
    model = Sequential([Twice(input_shape=(3,))])
    path = tmp_path / "m.safetensors"
    model.save(path)
    arrays, description = saving.read(path)
    description["architecture"]["layers"][0]["config"]["trainable"] = 1.0
    saving.write(path, arrays, description)
    assert load_model(path, custom_layers={"Twice": Twice}).layers[0].trainable is True


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
