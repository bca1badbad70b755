"""The plan: which layers share a block, what it says of itself, and that it is never out of date."""

from __future__ import annotations

import contextlib
import copy
import pickle

import numpy as np
import pytest

import recipes
from minicnn import Sequential, activations, kernels, load_model, saving
from minicnn.activations import ActivationFunction
from minicnn.errors import ShapeError, StateError
from minicnn.layers import Activation, BatchNormalization, Conv2D, Dense, Dropout, Flatten, Input, Layer, MaxPooling2D
from minicnn.losses import SparseCategoricalCrossentropy
from networks import SPARSE, all_kinds, compiled, small_cnn
from own_layers import LeakyReLU
from plan_networks import compare, draw_data, gradients


@pytest.fixture(autouse=True)
def _fast(use_kernels):
    use_kernels("fast")


def network(*layers: Layer) -> Sequential:
    return Sequential([Input((7, 6, 2)), *layers], seed=1)


def typical() -> Sequential:
    return compiled(network(
        Conv2D(3, 3, activation="relu"), BatchNormalization(), MaxPooling2D(), Dropout(0.2), Conv2D(4, 1), Flatten(),
        Dense(3, activation="softmax")))


def one_by_one(model: Sequential, x: np.ndarray) -> np.ndarray:
    for layer in model.layers:
        x = layer.forward(x)
    return x


# --- which layers share a block ----------------------------------------------------------------------------------

def blocks(model: Sequential) -> list[str]:
    return [" ".join(type(layer).__name__ for layer in block.layers) for block in model.plan().blocks]


def test_the_recipes_run_in_blocks():
    assert blocks(recipes.cnn((28, 28, 1), 10, 0)) == [
        "Conv2D", "BatchNormalization Conv2D", "BatchNormalization MaxPooling2D Dropout Conv2D",
        "BatchNormalization Conv2D", "BatchNormalization MaxPooling2D Dropout Flatten Dense",
        "BatchNormalization Dropout Dense"]
    assert blocks(recipes.dense((28, 28, 1), 10, 0)) == ["Flatten", "Dense", "Dense", "Dense", "Dense"]


@pytest.mark.parametrize(("layers", "expected"), [
    ([Conv2D(3, 3), Activation("relu"), Activation("relu"), Dropout(0.1)],
     ["Conv2D Activation", "Activation", "Dropout"]),
    ([Conv2D(3, 3), BatchNormalization(), Activation("relu"), MaxPooling2D()],
     ["Conv2D", "BatchNormalization Activation", "MaxPooling2D"]),
    ([Conv2D(3, 3), MaxPooling2D(), BatchNormalization()], ["Conv2D", "MaxPooling2D BatchNormalization"]),
    ([Conv2D(3, 3), Dropout(0.1), Dropout(0.2)], ["Conv2D", "Dropout Dropout"]),
    ([Conv2D(3, 3, activation="tanh"), BatchNormalization(), Conv2D(1, 1)], ["Conv2D", "BatchNormalization", "Conv2D"]),
    ([Conv2D(3, 3), MaxPooling2D(3), Conv2D(1, 1)], ["Conv2D", "MaxPooling2D", "Conv2D"]),
    ([Conv2D(3, 3), MaxPooling2D(padding="same"), Conv2D(1, 1)], ["Conv2D", "MaxPooling2D", "Conv2D"]),   # 5x4
    ([Conv2D(3, (2, 3)), MaxPooling2D(padding="same"), Conv2D(1, 1)], ["Conv2D", "MaxPooling2D Conv2D"]),  # 6x4
    ([Conv2D(3, 3), LeakyReLU(), Conv2D(1, 1), BatchNormalization()],
     ["Conv2D", "LeakyReLU", "Conv2D", "BatchNormalization"]),
    ([Dropout(0.1), BatchNormalization(), Conv2D(3, 3)], ["Dropout", "BatchNormalization", "Conv2D"]),
    ([Conv2D(3, 3), Flatten(), Flatten(), Dropout(0.2)], ["Conv2D", "Flatten Flatten", "Dropout"]),
], ids=lambda value: ", ".join(value) if isinstance(value[0], str) else "")
def test_neighbours_share_a_block(layers, expected):
    assert blocks(network(*copy.deepcopy(layers))) == expected


class ManyUnits(Dense):
    """A subclass may compute anything."""


class Leaky(ActivationFunction):
    """A reader's own function under the name of another."""

    def __init__(self) -> None:
        super().__init__("relu")

    def __call__(self, z, out=None):
        return np.where(z > 0, z, 0.1 * z)


@pytest.mark.parametrize("layers", [
    [Conv2D(3, 3, algorithm="im2col"), Activation("relu")], [Flatten(), ManyUnits(4), Activation("relu")],
    [Flatten(), Dense(4, activation=Leaky())], [Conv2D(3, 3, activation=Leaky()), BatchNormalization()],
    [Conv2D(3, 3), Activation(Leaky())], [BatchNormalization(), Activation("relu")]],
    ids=["im2col", "subclass", "own function, dense", "own function, convolution", "own function, layer", "no weights"])
def test_a_relu_is_taken_only_where_it_is_done(layers, rng):
    model = network(*copy.deepcopy(layers))
    x = rng.standard_normal((3, 7, 6, 2)).astype(np.float32)
    np.testing.assert_allclose(model(x), one_by_one(model, x), rtol=1e-5, atol=1e-6)


# --- what it says of itself --------------------------------------------------------------------------------------

def test_the_plan_explains_itself(capsys):
    model = network(Conv2D(20, 3, padding="same", activation="relu"), BatchNormalization(), MaxPooling2D(),
                    Dropout(0.25), Conv2D(4, 1), Activation("relu"), LeakyReLU(), Flatten(),
                    Dense(3, use_bias=False, activation="softmax"), Dropout(0.5))
    print(model.plan())
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 120
    assert lines[0].startswith("10 layers run as 6 blocks.")
    cells = [[cell.strip() for cell in line[1:-1].split("│")] for line in lines if line.startswith("│")]
    assert cells == [
        ["1", "conv2d", "", "Conv2D, direct", "bias, ReLU, sums for batch_normalization"],
        ["2", "batch_normalization", "normalize", "", ""],
        ["", "max_pooling2d", "pool 2x2", "", ""],
        ["", "dropout", "drop 0.25", "", ""],
        ["", "conv2d_1", "", "Conv2D, direct", "bias, ReLU"],
        ["", "activation", "", "", ""],
        ["3", "leaky_re_lu", "", "LeakyReLU, by itself", ""],
        ["4", "flatten", "", "Flatten, by itself", ""],
        ["5", "dense", "", "Dense, matrix product", "softmax"],
        ["6", "dropout_1", "", "Dropout, by itself", ""]]


def test_pooling_is_said_to_be_done_where_it_is():
    model = network(Conv2D(20, 3, activation="relu"), MaxPooling2D(), Dropout(0.25), Flatten(), Dense(3))
    text = str(model.plan())
    assert "bias, ReLU, pool 2x2" in text
    assert text.count("pool 2x2") == 1


def test_each_layer_by_itself_comes_with_the_reason(use_kernels):
    model = typical()
    assert str(model.plan()).startswith("7 layers run as 3 blocks.")
    model.compile("sgd", SPARSE, fuse=False)
    assert str(model.plan()).splitlines()[0] == (
        "Each of the 7 layers runs by itself: the model has fuse=False, which compile sets.")
    model.fuse = True
    model.layers[3].astype("float64")
    assert "by itself: they compute in different dtypes, float32 and float64." in str(model.plan())
    use_kernels("reference")
    assert 'the reference kernels have no fused blocks; minicnn.kernels.use("fast")' in str(model.plan())
    with pytest.raises(StateError, match="plan was called on a model whose shapes are not known yet"):
        all_kinds().plan()


@pytest.mark.parametrize("fuse", [True, False])
def test_a_softmax_that_is_left_to_the_loss_is_named(fuse):
    model = network(Flatten(), Dense(3, activation="softmax", name="classes"))
    sentence = "the softmax of classes and the loss are one kernel, softmax_cross_entropy."
    assert sentence not in str(model.plan())  # there is no loss yet
    model.compile("sgd", SPARSE, fuse=fuse)
    assert str(model.plan()).endswith(sentence)
    model.layers[-1].activation = activations.get("linear")
    model.compile("sgd", SparseCategoricalCrossentropy(from_logits=True), fuse=fuse)
    assert sentence not in str(model.plan())


def test_a_plan_can_be_printed_anywhere(monkeypatch):
    monkeypatch.setattr("minicnn.plan.output_encoding", lambda: "ascii")
    assert "| conv2d " in str(typical().plan())
    assert str(typical().plan()).isascii()


def test_summary_tells_the_algorithms(use_kernels):
    model = network(Conv2D(16, 3, padding="same"), Conv2D(16, (5, 5), padding="same"), Conv2D(16, 3, strides=2),
                    Conv2D(2, 1, algorithm="im2col"), Flatten(), Dense(3))

    def algorithms() -> list[str]:
        lines: list[str] = []
        model.summary(print_fn=lines.append, algorithms=True)
        text = lines[0].splitlines()
        assert text[-1] == f" Kernels: {kernels.active()}"
        return [line.split("│")[-2].strip() for line in text if line.startswith("│")]

    assert algorithms() == ["direct", "winograd", "direct", "im2col", "", ""]
    use_kernels("reference")
    assert algorithms() == ["im2col"] * 4 + ["", ""]
    lines: list[str] = []
    all_kinds().summary(print_fn=lines.append, algorithms=True)
    assert lines[0].count(" ? ") == 8 * 2 + 1
    model.summary(print_fn=lines.append)
    assert "Algorithm" not in lines[1]


# --- what users expect -------------------------------------------------------------------------------------------

def test_every_layer_has_its_gradients_and_nothing_else_is_kept_after_a_step(rng):
    model = typical()
    x, y = draw_data(rng, 5)
    model.loss_and_gradients(x, y)
    for layer in model.layers:
        assert {key: grad.shape for key, grad in layer.grads.items()} == {
            key: array.shape for key, array in layer.params.items()}
    model.train_on_batch(x, y)
    assert [block._kept for block in model.plan().blocks] == [None] * 3
    assert [layer._kept for layer in model.layers] == [None] * 7


def test_forward_and_backward_by_hand_are_those_of_the_layers(rng):
    model, (x, y) = typical(), draw_data(rng, 5)
    for _ in range(2):
        out = model.forward(x, training=True)
        model.predict(x[:2])                                    # in between, by the plan
        dout = rng.standard_normal(out.shape)
        dx = model.backward(dout)
        assert dx.shape == x.shape
        theirs = {f"{layer.name}/{key}": grad for layer in model.layers for key, grad in layer.grads.items()}
        for layer in reversed(model.layers):
            dout = layer.backward(dout)
        np.testing.assert_array_equal(dout, dx)
        assert all(np.array_equal(model.get_layer(name.split("/")[0]).grads[name.split("/")[1]], grad)
                   for name, grad in theirs.items())
        model.loss_and_gradients(x, y)


def test_gradients_of_an_older_forward_are_refused(rng):
    """What a training forward by hand has kept is of another batch by now."""
    model, (x, y) = typical(), draw_data(rng, 5)
    model.forward(x, training=True)
    model.loss_and_gradients(x * 2, y)
    with pytest.raises(StateError, match="backward was called before a training forward"):
        model.backward(np.ones((5, 3)))


class Misshapen(Layer):
    """Returns other shapes than it says, forward or backward."""

    def __init__(self, forward=None, backward=None, **base) -> None:
        super().__init__(**base)
        self.shapes = forward, backward

    def forward(self, x, training=False):
        return x if self.shapes[0] is None else np.zeros((len(x), *self.shapes[0]), np.float32)

    def backward(self, dout):
        self.grads = {}
        return dout if self.shapes[1] is None else np.zeros((len(dout), *self.shapes[1]), np.float32)


@pytest.mark.parametrize(("wrong", "message"), [
    ({"forward": (7, 6, 5)}, r"Conv2D 'conv2d_1' got an input of shape \(4, 7, 6, 5\); expected \(N, 7, 6, 3\)"),
    ({"backward": (7, 6, 2)}, r"backward of Misshapen 'misshapen' returned the shape \(4, 7, 6, 2\); expected")])
def test_shapes_of_a_readers_layer_are_checked_between_blocks(wrong, message, rng):
    model = compiled(network(Conv2D(3, 3, padding="same"), Misshapen(**wrong), Conv2D(3, 1), Flatten(),
                             Dense(3, activation="softmax")))
    with pytest.raises(ShapeError, match=message):
        model.train_on_batch(*draw_data(rng, 4))


def test_the_shape_of_the_losss_gradient_is_checked(rng):
    plan = typical().plan()
    plan.forward(rng.standard_normal((5, 7, 6, 2)), training=True)
    with pytest.raises(ShapeError, match=r"gradient of shape \(4, 3\) in backward; expected \(5, 3\)"):
        plan.backward(np.ones((4, 3)))


def replace_activation(model):
    model.layers[0].activation = Activation("tanh").activation


def freeze(model):
    for place in (0, 1):
        model.layers[place].trainable = False


def add_layers(model):
    model.layers[-1].activation = Activation("relu").activation
    model.add(BatchNormalization())
    model.add(Dense(3, activation="softmax", dtype=model.layers[0].dtype))


def convert(model):
    for layer in model.layers:
        layer.astype("float64")


def rename_weights(model):
    model.set_weights([array + 0.01 for array in model.get_weights()])


def other_algorithm(model):
    model.layers[0].algorithm = "im2col"


def other_pool(model):
    model.layers[2].pool_size = (2, 1)


def swap_layers(model):
    twin = Dropout(0.7, seed=5)
    twin.build(model.layers[3].input_shape)
    model.layers[3] = twin


CHANGES = [replace_activation, freeze, add_layers, convert, rename_weights, other_algorithm, other_pool, swap_layers]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_changed_model_never_runs_by_an_old_plan(change, rng):
    fused, unfused = typical(), typical()
    x, y = draw_data(rng, 4)
    for model in (fused, unfused):
        model.loss_and_gradients(x, y)
        model(x)
        change(model)
        model.compile("sgd", SPARSE, fuse=model is fused)
    compare({"out": fused(x)}, {"out": one_by_one(unfused, x)}, 1e-5)
    for model in (fused, unfused):
        model.loss_and_gradients(x, y)
    compare(gradients(fused), gradients(unfused), 1e-4, part=0.1)


def test_kernels_may_be_switched_between_calls(use_kernels, rng):
    model, (x, y) = typical(), draw_data(rng, 4)
    results = []
    for name in ("fast", "reference", "fast"):
        use_kernels(name)
        loss = model.loss_and_gradients(x, y)
        results.append((loss, model(x).tobytes(), gradients(model)))
        model.layers[1].state["moving_mean"][...] = 0
        model.layers[1].state["moving_variance"][...] = 1
    assert results[0][0] == results[2][0]
    compare(results[0][2], results[1][2], 1e-4, part=0.1)
    compare(results[0][2], results[2][2], 0)


def test_a_plan_is_made_once(rng):
    model, (x, y) = typical(), draw_data(rng, 4)
    plan = model.plan()
    model.train_on_batch(x, y)
    model(x)
    assert model.plan() is plan


# --- copies and files --------------------------------------------------------------------------------------------

def test_a_saved_model_runs_as_it_was_compiled(tmp_path, monkeypatch):
    for fuse in (True, False):
        model = small_cnn()
        model.compile("sgd", SPARSE, fuse=fuse)
        model.save(tmp_path / "model.safetensors")
        assert load_model(tmp_path / "model.safetensors").fuse is fuse
    opened = saving.opened

    @contextlib.contextmanager
    def older(path):
        with opened(path) as stored:
            del stored.description["training"]["fuse"]
            yield stored

    monkeypatch.setattr(saving, "opened", older)
    assert load_model(tmp_path / "model.safetensors").fuse is True


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))],
                         ids=["deepcopy", "pickle"])
def test_a_copy_has_a_plan_of_its_own(duplicate, rng):
    model, (x, y) = typical(), draw_data(rng, 4)
    model.optimizer = None if duplicate is not copy.deepcopy else model.optimizer   # refers to its model, weakly
    expected = model(x)
    twin = duplicate(model)
    np.testing.assert_array_equal(twin(x), expected)
    assert twin._lock is not model._lock
    assert not {id(layer) for layer in twin.plan().layers} & {id(layer) for layer in model.plan().layers}
    twin.compile("sgd", SPARSE)
    twin.train_on_batch(x, y)
    np.testing.assert_array_equal(model(x), expected)
    assert np.abs(twin(x) - expected).max() > 0
