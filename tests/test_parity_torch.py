"""Agreement with PyTorch: the whole network ``cnn``, and every loss.

Every figure is ``networks.error``: max|ours - theirs| / max|theirs| over one tensor. PyTorch flattens channels first:
the rows of the dense kernel behind ``Flatten`` are permuted on the way.
"""

from __future__ import annotations

import numpy as np
import pytest

import recipes
from minicnn import kernels
from minicnn.layers import BatchNormalization, Conv2D, Dense, Dropout, MaxPooling2D
from minicnn.losses import CategoricalCrossentropy, SparseCategoricalCrossentropy
from minicnn.models import Sequential
from networks import draw_weights, error
from torch_layers import DTYPES, LIMIT, check_layer, our_kernel, to_numpy, to_torch, torch_kernel

pytestmark = pytest.mark.needs("torch")

WHOLE_LIMIT = 1e-9                               # of the whole network, float64
both_sets_fast_compiled = pytest.mark.parametrize("kernel_set", [
    "reference", pytest.param("fast", marks=pytest.mark.no_jit_excluded("convolves 28x28 images with 64 channels"))],
    indirect=True)


def channels_first_rows(H: int, W: int, C: int) -> np.ndarray:
    """Return for every row of a dense kernel behind PyTorch's flatten which of our rows it is."""
    return np.arange(H * W * C).reshape(H, W, C).transpose(2, 0, 1).reshape(-1)


# --- the whole network -------------------------------------------------------------------------------------------

def our_cnn(dtype: str, rng: np.random.Generator) -> Sequential:
    """Return the recipe ``cnn`` in a dtype, dropout off, no weight at zero or one."""
    model = recipes.cnn((28, 28, 1), 10, seed=3)
    for layer in model.layers:
        layer.astype(dtype)
        if isinstance(layer, Dropout):
            layer.rate = 0.0
    draw_weights(model, rng)
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def their_cnn(model: Sequential, dtype: str):
    """Return ``cnn`` as its author would write it in PyTorch, with our weights, and the rows of its dense kernel."""
    from torch import nn

    def block(C, F, window):
        return [nn.Conv2d(C, F, window, padding=window // 2), nn.ReLU(), nn.BatchNorm2d(F, eps=1e-3, momentum=0.01),
                nn.Conv2d(F, F, window, padding=window // 2), nn.ReLU(), nn.BatchNorm2d(F, eps=1e-3, momentum=0.01),
                nn.MaxPool2d(2)]

    network = nn.Sequential(*block(1, 32, 5), *block(32, 64, 3), nn.Flatten(), nn.Linear(3136, 256), nn.ReLU(),
                            nn.BatchNorm1d(256, eps=1e-3, momentum=0.01), nn.Linear(256, 10))
    network = network.double() if dtype == "float64" else network
    theirs = [module for module in network if hasattr(module, "weight")]
    ours = [layer for layer in model.layers if layer.params]
    rows = channels_first_rows(7, 7, 64)
    for module, layer in zip(theirs, ours, strict=True):
        if isinstance(layer, BatchNormalization):
            module.weight.data, module.bias.data = to_torch(layer.params["gamma"]), to_torch(layer.params["beta"])
            module.running_mean = to_torch(layer.state["moving_mean"])
            module.running_var = to_torch(layer.state["moving_variance"])
        else:
            kernel = layer.params["kernel"]
            module.weight.data = torch_kernel(kernel[rows] if kernel.shape == (3136, 256) else kernel)
            module.bias.data = to_torch(layer.params["bias"])
    return network, list(zip(ours, theirs)), rows


def compare_gradients(pairs, rows: np.ndarray) -> dict[str, float]:
    """Return the error of every parameter's gradient."""
    errors = {}
    for layer, module in pairs:
        weight_key, bias_key = ("gamma", "beta") if isinstance(layer, BatchNormalization) else ("kernel", "bias")
        expected = module.weight.grad.numpy() if weight_key == "gamma" else our_kernel(module.weight.grad)
        if expected.shape == (3136, 256):
            expected = expected[np.argsort(rows)]
        errors[f"{layer.name}/{weight_key}"] = error(layer.grads[weight_key], expected)
        errors[f"{layer.name}/{bias_key}"] = error(layer.grads[bias_key], module.bias.grad.numpy())
    return errors


@both_sets_fast_compiled
def test_cnn_agrees_in_float64(kernel_set, rng):
    import torch
    model = our_cnn("float64", rng)
    network, pairs, rows = their_cnn(model, "float64")
    x, y = rng.random((4, 28, 28, 1)), rng.integers(0, 10, 4)
    inputs = to_torch(x).requires_grad_()

    network.eval()
    assert error(model(x), to_numpy(torch.softmax(network(inputs), 1))) < WHOLE_LIMIT

    network.train()
    loss = torch.nn.functional.cross_entropy(network(inputs), torch.from_numpy(y))
    loss.backward()
    assert model.loss_and_gradients(x, y) == pytest.approx(loss.item(), rel=WHOLE_LIMIT)
    assert error(model.input_gradient, to_numpy(inputs.grad)) < WHOLE_LIMIT
    errors = compare_gradients(pairs, rows)
    assert len(errors) == 22
    assert max(errors.values()) < WHOLE_LIMIT, errors
    for layer, module in pairs:
        if isinstance(layer, BatchNormalization):
            assert error(layer.state["moving_mean"], to_numpy(module.running_mean)) < WHOLE_LIMIT


@both_sets_fast_compiled
@pytest.mark.parametrize(("algorithm", "limit"), [("direct", 1e-5), ("auto", 4e-5)])
def test_the_outputs_of_cnn_agree_in_float32(algorithm, limit, kernel_set, rng):
    """Winograd's algorithm is less exact: 1.3e-5 here, the median of twelve seeds, where PyTorch has 2.3e-6."""
    import torch
    model = our_cnn("float32", rng)
    for layer in model.layers:
        if isinstance(layer, Conv2D) and kernel_set == "fast":
            layer.algorithm = algorithm
    network, _, _ = their_cnn(model, "float32")
    x = rng.random((8, 28, 28, 1), np.float32)
    with torch.no_grad():
        network.eval()
        assert error(model(x), to_numpy(torch.softmax(network(to_torch(x)), 1))) < limit
        network.train()
        assert error(model(x, training=True), to_numpy(torch.softmax(network(to_torch(x)), 1))) < limit


@both_sets_fast_compiled
def test_the_gradients_of_cnn_agree_layer_by_layer_in_float32(kernel_set, rng):
    """Each layer is fed its own input in the network, and both sides the same random upstream gradient."""
    model = our_cnn("float32", rng)
    x = rng.random((4, 28, 28, 1), np.float32)
    for layer in model.layers:
        if layer.params or isinstance(layer, MaxPooling2D):
            check_layer(layer, x, rng)
        x = layer.forward(x, training=True)
        layer.release()


# --- losses ------------------------------------------------------------------------------------------------------

def logits_network(dtype: str, rng: np.random.Generator, loss, classes: int = 4) -> Sequential:
    model = Sequential([Dense(classes, activation="softmax", input_shape=(6,), dtype=dtype)])
    draw_weights(model, rng)
    model.compile("sgd", loss)
    return model


def their_loss(model: Sequential, x: np.ndarray):
    """Return PyTorch's logits of the one-layer model, its input, kernel and bias, all with gradients."""
    from torch.nn import functional
    layer = model.layers[0]
    leaves = [to_torch(x), torch_kernel(layer.params["kernel"]), to_torch(layer.params["bias"])]
    inputs, kernel, bias = (leaf.requires_grad_() for leaf in leaves)
    return functional.linear(inputs, kernel, bias), inputs, kernel, bias


def check_loss(model: Sequential, loss: float, theirs, inputs, kernel, bias, dtype: str) -> None:
    theirs.backward()
    layer = model.layers[0]
    assert loss == pytest.approx(theirs.item(), rel=LIMIT[dtype])
    assert error(model.input_gradient, to_numpy(inputs.grad)) < LIMIT[dtype]
    assert error(layer.grads["kernel"], our_kernel(kernel.grad)) < LIMIT[dtype]
    assert error(layer.grads["bias"], bias.grad.numpy()) < LIMIT[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("smoothing", [0.0, 0.15])
def test_categorical_crossentropy(kernel_set, smoothing, dtype, rng):
    from torch.nn import functional
    model = logits_network(dtype, rng, CategoricalCrossentropy(label_smoothing=smoothing))
    x, y = rng.standard_normal((7, 6)).astype(dtype), rng.dirichlet(np.ones(4), 7)
    logits, *leaves = their_loss(model, x)
    theirs = functional.cross_entropy(logits, to_torch(y.astype(dtype)), label_smoothing=smoothing)
    check_loss(model, model.loss_and_gradients(x, y), theirs, *leaves, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sparse_categorical_crossentropy_with_sample_weights(kernel_set, dtype, rng):
    """Our mean divides by the number of samples (as Keras'), PyTorch's weighted mean by the sum of the weights."""
    from torch.nn import functional
    model = logits_network(dtype, rng, SparseCategoricalCrossentropy())
    x, y, weight = rng.standard_normal((7, 6)).astype(dtype), rng.integers(0, 4, 7), rng.uniform(0, 3, 7)
    logits, *leaves = their_loss(model, x)
    losses = functional.cross_entropy(logits, to_torch(y), reduction="none")
    theirs = (losses * to_torch(weight.astype(dtype))).sum() / 7
    check_loss(model, model.loss_and_gradients(x, y, weight), theirs, *leaves, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_class_weights(kernel_set, dtype, rng):
    import torch
    from torch.nn import functional
    model = logits_network(dtype, rng, SparseCategoricalCrossentropy())
    x, y = rng.standard_normal((9, 6)).astype(dtype), rng.integers(0, 4, 9)
    class_weight = {0: 0.5, 1: 3.0, 3: 1.75}
    logits, _, kernel, bias = their_loss(model, x)
    factors = torch.tensor([class_weight.get(k, 1.0) for k in range(4)], dtype=logits.dtype)
    theirs = functional.cross_entropy(logits, to_torch(y), factors, reduction="sum") / 9
    theirs.backward()
    before = {key: array.copy() for key, array in model.layers[0].params.items()}
    loss = model.train_on_batch(x, y, class_weight=class_weight)
    assert loss == pytest.approx(theirs.item(), rel=LIMIT[dtype])
    for key, gradient in (("kernel", our_kernel(kernel.grad)), ("bias", bias.grad.numpy())):
        moved = (before[key] - model.layers[0].params[key]) / 0.01       # plain SGD: the gradient itself
        assert error(moved, gradient) < (1e-4 if dtype == "float32" else 1e-11)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_loss_of_huge_logits(kernel_set, dtype, rng):
    """At ±1e4 a softmax followed by a logarithm would give infinity; both fused forms give the exact value."""
    from torch.nn import functional
    logits = np.array([[1e4, -1e4, 0, 3], [-1e4, 1e4, 1e4, 0]], dtype)
    targets = np.eye(4, dtype=dtype)[[1, 2]]
    tensor = to_torch(logits).requires_grad_()
    theirs = functional.cross_entropy(tensor, to_torch(targets), reduction="none")
    theirs.sum().backward()
    losses, probabilities = kernels.softmax_cross_entropy(logits, targets)
    assert error(losses, to_numpy(theirs)) < LIMIT[dtype]
    gradient = kernels.softmax_cross_entropy_backward(probabilities, targets, np.ones(2, dtype))
    assert error(gradient, to_numpy(tensor.grad)) < LIMIT[dtype]
