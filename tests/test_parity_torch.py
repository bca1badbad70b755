"""Agreement with PyTorch: the whole network ``cnn``, and every layer and loss at shapes that are nobody's default.

Every figure is ``networks.error``: max|ours - theirs| / max|theirs| over one tensor. PyTorch's images are (N, C, H, W),
its convolution kernels (F, C, KH, KW), its dense kernels (K, D); it flattens channels first, so the rows of the dense
kernel behind ``Flatten`` are permuted on the way. PyTorch has no ``same`` padding for strides other than 1 and none
for pooling: there its input is padded by hand, by TensorFlow's rule.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

import recipes
from minicnn import kernels
from minicnn.layers import Activation, BatchNormalization, Conv2D, Dense, Dropout, MaxPooling2D
from minicnn.losses import CategoricalCrossentropy, SparseCategoricalCrossentropy
from minicnn.models import Sequential
from networks import draw_weights, error

pytestmark = pytest.mark.needs("torch")

DTYPES = ("float64", "float32")
LIMIT = {"float64": 1e-12, "float32": 1e-5}      # of one layer
WHOLE_LIMIT = 1e-9                               # of the whole network, float64

both_sets_fast_compiled = pytest.mark.parametrize("kernel_set", [
    "reference", pytest.param("fast", marks=pytest.mark.no_jit_excluded("convolves 28x28 images with 64 channels"))],
    indirect=True)


def to_torch(array: np.ndarray):
    """Return a copy as a tensor, images as (N, C, H, W)."""
    import torch
    array = np.moveaxis(array, -1, 1) if array.ndim == 4 else array
    return torch.from_numpy(np.array(array, order="C"))


def to_numpy(tensor) -> np.ndarray:
    """Return a tensor as an array, images as (N, H, W, C)."""
    array = tensor.detach().numpy()
    return np.moveaxis(array, 1, -1) if array.ndim == 4 else array


def torch_kernel(kernel: np.ndarray):
    """Return a kernel (KH, KW, C, F) as (F, C, KH, KW), or (D, K) as (K, D)."""
    import torch
    return torch.from_numpy(np.array(kernel.transpose(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T, order="C"))


def our_kernel(tensor) -> np.ndarray:
    """Undo ``torch_kernel``, for a kernel's gradient."""
    array = tensor.detach().numpy()
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T


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
def test_the_outputs_of_cnn_agree_in_float32(kernel_set, rng):
    import torch
    model = our_cnn("float32", rng)
    network, _, _ = their_cnn(model, "float32")
    x = rng.random((8, 28, 28, 1), np.float32)
    with torch.no_grad():
        network.eval()
        assert error(model(x), to_numpy(torch.softmax(network(to_torch(x)), 1))) < 1e-5
        network.train()
        assert error(model(x, training=True), to_numpy(torch.softmax(network(to_torch(x)), 1))) < 1e-5


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


# --- one layer ---------------------------------------------------------------------------------------------------

def pad_as_tensorflow(x, window: tuple[int, int], strides: tuple[int, int], value: float):
    """Pad (N, C, H, W) for ``same``: ceil(size / stride) windows, the odd pixel at the bottom and right."""
    from torch.nn import functional
    sides: list[int] = []
    for size, w, s in zip(x.shape[2:], window, strides):
        total = max((math.ceil(size / s) - 1) * s + w - size, 0)
        sides = [total // 2, total - total // 2, *sides]         # PyTorch wants the last axis first
    return functional.pad(x, sides, value=value)


def apply_in_torch(layer, x, params: dict):
    """Return what PyTorch makes of the layer's formula."""
    import torch
    from torch.nn import functional
    if isinstance(layer, MaxPooling2D):
        if layer.padding == "same":
            x = pad_as_tensorflow(x, layer.pool_size, layer.strides, -math.inf)
        return functional.max_pool2d(x, layer.pool_size, layer.strides)
    if isinstance(layer, BatchNormalization):
        return functional.batch_norm(x, None, None, params["gamma"], params["beta"], training=True, eps=layer.epsilon)
    if isinstance(layer, Conv2D):
        if layer.padding == "same":
            x = pad_as_tensorflow(x, layer.kernel_size, layer.strides, 0.0)
        z = functional.conv2d(x, params["kernel"], params.get("bias"), layer.strides)
    elif isinstance(layer, Dense):
        z = functional.linear(x, params["kernel"], params.get("bias"))
    else:
        z = x
    return {"linear": lambda: z, "relu": lambda: torch.relu(z), "tanh": lambda: torch.tanh(z),
            "sigmoid": lambda: torch.sigmoid(z), "softmax": lambda: torch.softmax(z, 1)}[layer.activation.name]()


def check_layer(layer, x: np.ndarray, rng: np.random.Generator) -> None:
    """Compare output, every gradient and the input's gradient under a random upstream gradient."""
    inputs = to_torch(x).requires_grad_()
    params = {key: (torch_kernel(array) if key == "kernel" else to_torch(array)).requires_grad_()
              for key, array in layer.params.items()}
    out = layer.forward(x, training=True)
    their_out = apply_in_torch(layer, inputs, params)
    dout = rng.standard_normal(out.shape).astype(out.dtype)
    dx = layer.backward(dout)
    their_out.backward(to_torch(dout))
    errors = {"out": error(out, to_numpy(their_out)), "dx": error(dx, to_numpy(inputs.grad))}
    for key, tensor in params.items():
        errors[key] = error(layer.grads[key], our_kernel(tensor.grad) if key == "kernel" else tensor.grad.numpy())
    assert {str(array.dtype) for array in (out, dx, *layer.grads.values())} == {layer.dtype}
    assert max(errors.values()) < LIMIT[layer.dtype], (layer, errors)


def built(layer, shape: tuple[int, ...], rng: np.random.Generator):
    """Return a layer built for inputs of a shape, with random parameters."""
    layer.build(shape)
    for key, array in layer.params.items():
        layer.params[key] = rng.uniform(0.5, 1.5, array.shape).astype(layer.dtype) if key == "gamma" else (
            rng.standard_normal(array.shape) / math.sqrt(max(1, array.size / array.shape[-1]))).astype(layer.dtype)
    return layer


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("options", "image"), [
    ({"kernel_size": (3, 2)}, (6, 5, 3)),
    ({"kernel_size": (2, 5), "strides": (2, 1)}, (7, 6, 2)),
    ({"kernel_size": (4, 3), "padding": "same"}, (5, 8, 2)),                          # an odd row
    ({"kernel_size": (2, 2), "strides": (1, 3), "padding": "same"}, (6, 5, 3)),       # an odd row and column
    ({"kernel_size": (5, 4), "strides": (3, 2), "padding": "same"}, (7, 9, 1)),
    ({"kernel_size": (1, 2), "strides": (3, 3), "padding": "same"}, (8, 7, 2)),       # strides beyond the kernel
    ({"kernel_size": (6, 5)}, (6, 5, 2)),                                             # a single window
    ({"kernel_size": 3, "padding": "same", "activation": "relu"}, (4, 6, 3)),
    ({"kernel_size": (5, 5), "padding": "same", "use_bias": False}, (6, 7, 1)),
    ({"kernel_size": (3, 1), "activation": "tanh"}, (5, 3, 2))])
def test_conv2d(kernel_set, options, image, dtype, rng):
    layer = built(Conv2D(4, **options, dtype=dtype), image, rng)
    check_layer(layer, rng.standard_normal((3, *image)).astype(dtype), rng)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("options", "image"), [
    ({"pool_size": (2, 3)}, (7, 8, 2)),
    ({"pool_size": (3, 2), "strides": (1, 2)}, (6, 7, 2)),                            # overlapping rows
    ({"pool_size": 3, "strides": (2, 1), "padding": "same"}, (6, 5, 3)),              # overlapping both ways
    ({"pool_size": (2, 4), "padding": "same"}, (5, 7, 1)),
    ({"pool_size": (2, 1), "strides": (3, 2)}, (8, 5, 2))])                           # pixels that no window sees
@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "ties"])
def test_max_pooling2d(kernel_set, options, image, ties, dtype, rng):
    x = rng.integers(-2, 3, (3, *image)) if ties else rng.standard_normal((3, *image))
    check_layer(built(MaxPooling2D(**options, dtype=dtype), image, rng), x.astype(dtype), rng)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(4, 5, 3), (6,)], ids=["images", "vectors"])
def test_batch_normalization_in_training(kernel_set, shape, dtype, rng):
    layer = built(BatchNormalization(epsilon=0.02, dtype=dtype), shape, rng)
    check_layer(layer, (2 + 3 * rng.standard_normal((9, *shape))).astype(dtype), rng)


def test_moving_averages_of_batch_normalization(kernel_set, rng):
    """The means agree. PyTorch moves its variance with the unbiased estimate, times M / (M - 1); we do as Keras."""
    import torch
    layer = built(BatchNormalization(momentum=0.7, dtype="float64"), (3, 2, 4), rng)
    module = torch.nn.BatchNorm2d(4, eps=1e-3, momentum=0.3).double()
    M = 5 * 3 * 2
    variance = np.ones(4)
    for _ in range(3):
        x = 1 + 2 * rng.standard_normal((5, 3, 2, 4))
        layer.forward(x, training=True)
        before = to_numpy(module.running_var).copy()
        module(to_torch(x))
        their_batch_variance = (to_numpy(module.running_var) - 0.7 * before) / 0.3
        variance = 0.7 * variance + 0.3 * their_batch_variance * (M - 1) / M
    assert error(layer.state["moving_mean"], to_numpy(module.running_mean)) < 1e-12
    assert error(layer.state["moving_variance"], variance) < 1e-12
    assert error(layer.state["moving_variance"], to_numpy(module.running_var)) > 1e-3


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("frozen", [False, True], ids=["inference", "frozen"])
def test_batch_normalization_with_moving_averages(kernel_set, frozen, dtype, rng):
    from torch.nn import functional
    layer = built(BatchNormalization(dtype=dtype, trainable=not frozen), (3, 5, 2), rng)
    layer.state = {"moving_mean": rng.standard_normal(2).astype(dtype),
                   "moving_variance": rng.uniform(0.5, 2, 2).astype(dtype)}
    x = rng.standard_normal((4, 3, 5, 2)).astype(dtype)
    inputs = to_torch(x).requires_grad_()
    gamma, beta = (to_torch(layer.params[key]).requires_grad_() for key in ("gamma", "beta"))
    theirs = functional.batch_norm(inputs, to_torch(layer.state["moving_mean"]),
                                   to_torch(layer.state["moving_variance"]), gamma, beta, eps=layer.epsilon)
    out = layer.forward(x, training=frozen)
    assert error(out, to_numpy(theirs)) < LIMIT[dtype]
    if frozen:
        dout = rng.standard_normal(x.shape).astype(dtype)
        theirs.backward(to_torch(dout))
        assert error(layer.backward(dout), to_numpy(inputs.grad)) < LIMIT[dtype]
        assert error(layer.grads["gamma"], gamma.grad.numpy()) < LIMIT[dtype]
        assert error(layer.grads["beta"], beta.grad.numpy()) < LIMIT[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ["linear", "relu", "sigmoid", "tanh", "softmax"])
def test_dense(kernel_set, activation, dtype, rng):
    layer = built(Dense(4, activation=activation, use_bias=activation != "tanh", dtype=dtype), (6,), rng)
    check_layer(layer, rng.standard_normal((5, 6)).astype(dtype), rng)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh", "softmax"])
def test_activation(kernel_set, activation, dtype, rng):
    layer = built(Activation(activation, dtype=dtype), (5, 3, 2), rng)
    check_layer(layer, (3 * rng.standard_normal((4, 5, 3, 2))).astype(dtype), rng)


def test_relu_of_zero_has_the_gradient_zero_in_both(kernel_set, rng):
    import torch
    x, dout = np.zeros((2, 3)), rng.standard_normal((2, 3))
    inputs = to_torch(x).requires_grad_()
    torch.relu(inputs).backward(to_torch(dout))
    layer = Activation("relu", dtype="float64")
    layer.forward(x, training=True)
    np.testing.assert_array_equal(layer.backward(dout), inputs.grad.numpy())
    assert not layer.backward(dout).any()


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
