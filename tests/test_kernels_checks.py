"""What every kernel refuses, in both sets: arrays that do not fit each other in shape or dtype. And batches of none."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from kernel_calls import kernels  # noqa: F401  (a fixture)
from minicnn.errors import ArgumentError, DataError, ShapeError
from minicnn.kernels import fast

WINDOW = ((2, 1), (0, 1, 1, 0))  # stride, padding: 5 x 4 pixels under 3 x 2 entries give 2 x 4 places
STEP = (1e-3, 0.9, 0.999, 1e-7, 1)


def numbers(*shape):
    return np.random.default_rng(sum(shape)).uniform(0.1, 1, shape).astype(np.float32)


def calls(N):
    """Return, for each kernel of several arrays, its arguments for a batch of N; mean and variance come last."""
    image, conv_out, pool_out, rows = (N, 5, 4, 3), (N, 2, 4, 6), (N, 2, 4, 3), (N, 5)
    return {
        "conv2d": [numbers(*image), numbers(3, 2, 3, 6), numbers(6), *WINDOW],
        "conv2d_backward": [numbers(*conv_out), numbers(*image), numbers(3, 2, 3, 6), *WINDOW],
        "conv2d_backward, stride 1": [numbers(N, 4, 4, 6), numbers(*image), numbers(3, 2, 3, 6), (1, 1), (0, 1, 1, 0)],
        "dense": [numbers(*rows), numbers(5, 7), numbers(7)],
        "dense_backward": [numbers(N, 7), numbers(*rows), numbers(5, 7)],
        "max_pool2d_backward": [numbers(*pool_out), np.zeros(pool_out, np.int32), image, (3, 2), *WINDOW],
        "avg_pool2d_backward": [numbers(*pool_out), image, (3, 2), *WINDOW],
        "batch_norm": [numbers(*image), numbers(3), numbers(3), 1e-3],
        "batch_norm_inference": [numbers(*image), numbers(3), numbers(3), numbers(3), numbers(3), 1e-3],
        **{name: [numbers(*image), numbers(*image), numbers(3), numbers(3), numbers(3), 1e-3]
           for name in ("batch_norm_backward", "batch_norm_inference_backward")},
        **{f"{name}_backward": [numbers(*image), numbers(*image)] for name in ("relu", "sigmoid", "tanh", "softmax")},
        **{f"{name}, out": [numbers(*image), numbers(*image)] for name in ("relu", "sigmoid", "tanh", "softmax")},
        "leaky_relu_backward": [numbers(*image), numbers(*image), 0.3],
        "leaky_relu, out": [numbers(*image), 0.3, numbers(*image)],
        "softmax_cross_entropy": [numbers(*rows), numbers(*rows)],
        "softmax_cross_entropy_backward": [numbers(*rows), numbers(*rows), numbers(N)],
        "affine_warp": [numbers(*image), np.ones((N, 2, 3))],
        "stroke_distance": [numbers(N, 4, 2), np.ones((N, 3), bool), (6, 5)],
        "adam_update": [numbers(N, 4), numbers(N, 4), numbers(N, 4), numbers(N, 4), *STEP],
        "sgd_update": [numbers(N, 4), numbers(N, 4), numbers(N, 4), 0.1, 0.9, True],
        "rmsprop_update": [numbers(N, 4), numbers(N, 4), numbers(N, 4), numbers(N, 4), numbers(N, 4), *STEP[:4]],
    }


SINGLE = {"max_pool2d": [(3, 2), *WINDOW], "avg_pool2d": [(3, 2), *WINDOW], "leaky_relu": [0.3],
          "dropout": [0.5, 7], "dropout_backward": [0.5, 7],
          **{name: [] for name in ("relu", "sigmoid", "tanh", "softmax")}}
ANY_DTYPE = {("avg_pool2d_backward", 0),
             *((name, place) for name in ("max_pool2d_backward", "affine_warp", "stroke_distance") for place in (0, 1)),
             *((name, place) for name in calls(1) if name.startswith("batch_norm") and name != "batch_norm"
               for place in range(len(calls(1)[name]) - 3, len(calls(1)[name]) - 1))}
ARRAYS = [(name, place) for name, arguments in calls(1).items()
          for place, argument in enumerate(arguments) if isinstance(argument, np.ndarray)]


def kernel_of(kernels, name):  # noqa: F811
    return getattr(kernels, name.split(",")[0])


FREE = {("conv2d", 0): {0, 1, 2}, ("conv2d", 1): {0, 1}, ("conv2d_backward", 1): {1, 2}, ("conv2d_backward", 2): {0, 1},
        ("dense", 0): {0}, ("affine_warp", 0): {1, 2, 3}, ("batch_norm", 0): {0, 1, 2, "rank"},
        ("batch_norm_inference", 0): {0, 1, 2, "rank"}}  # axes whose size the other arrays do not determine


def wrong_shapes(shape, free):
    """Return shapes one off along each axis, and shapes NumPy would broadcast silently."""
    for axis in set(range(len(shape))) - free:
        for size in {shape[axis] + 1, shape[axis] - 1, 1} - {shape[axis]}:
            yield (*shape[:axis], size, *shape[axis + 1:])
    if "rank" not in free:
        yield (1, *shape)
        yield shape[1:]


@pytest.mark.parametrize(("name", "place"), ARRAYS)
def test_an_array_of_another_shape_is_refused_before_anything_is_written(kernels, name, place):  # noqa: F811
    for shape in wrong_shapes(calls(4)[name][place].shape, FREE.get((name, place), set())):
        arguments = calls(4)[name]
        arguments[place] = np.full(shape, 1, arguments[place].dtype)
        before = [argument.copy() for argument in arguments if isinstance(argument, np.ndarray)]
        with pytest.raises(ShapeError) as error:
            kernel_of(kernels, name)(*arguments)
        assert str(error.value).startswith(f"{name.split(',')[0]} got ")
        assert str(shape) in str(error.value)
        for argument, copy in zip((a for a in arguments if isinstance(a, np.ndarray)), before, strict=True):
            np.testing.assert_array_equal(argument, copy)


def test_the_message_names_what_was_received_and_expected(kernels):  # noqa: F811
    arguments = calls(4)["batch_norm_backward"]
    arguments[0] = numbers(4, 5, 4, 500)
    with pytest.raises(ShapeError, match=r"batch_norm_backward got dout \(4, 5, 4, 500\), x \(4, 5, 4, 3\).*; expected "
                                         r"dout \(\.\.\., C\), x \(\.\.\., C\)"):
        kernels.batch_norm_backward(*arguments)


@pytest.mark.parametrize(("name", "place"), [pair for pair in ARRAYS if pair not in ANY_DTYPE])
def test_float32_and_float64_are_not_mixed(kernels, name, place):  # noqa: F811
    arguments = calls(4)[name]
    arguments[place] = arguments[place].astype(np.float64)
    with pytest.raises(ArgumentError, match=rf"{name.split(',')[0]} got .*float64.*; expected one dtype"):
        kernel_of(kernels, name)(*arguments)


@pytest.mark.parametrize("name", calls(1))
def test_the_arrays_of_these_tests_do_fit(kernels, name):  # noqa: F811
    for N in (1, 4):
        kernel_of(kernels, name)(*calls(N)[name])


@pytest.mark.parametrize("name", ["conv2d", "dense"])
def test_absent_arrays_are_not_looked_at(kernels, name):  # noqa: F811
    arguments = calls(4)[name]
    arguments[2] = None
    kernel_of(kernels, name)(*arguments)


@pytest.mark.parametrize("name", [*calls(1), *SINGLE])
def test_a_batch_of_none(kernels, name):  # noqa: F811
    """Results are as empty as their inputs, sums are 0; only statistics of nothing do not exist."""
    build = functools.partial(calls(0).get, name) if name in calls(0) else lambda: [numbers(0, 5, 4, 3), *SINGLE[name]]
    kernel, arguments = kernel_of(kernels, name), build()
    if name in ("batch_norm", "batch_norm_backward"):
        with pytest.raises(ShapeError, match="empty"):
            kernel(*arguments)
        return
    results = kernel(*arguments)
    one = kernel(*(calls(1)[name] if name in calls(1) else [numbers(1, 5, 4, 3), *SINGLE[name]]))
    if results is None:  # an update in place
        return
    gradients_of_weights = {"conv2d_backward": 2, "dense_backward": 2, "batch_norm_inference_backward": 2}
    count = gradients_of_weights.get(name.split(",")[0], 0)
    got, full = (list(value) if isinstance(value, tuple) else [value] for value in (results, one))
    for index, (empty, whole) in enumerate(zip(got, full, strict=True)):
        assert empty.dtype == whole.dtype
        if index >= len(got) - count:
            assert empty.shape == whole.shape
            assert not empty.any()
        else:
            assert empty.shape == (0, *whole.shape[1:])


@pytest.mark.parametrize("name", ["softmax", "softmax_cross_entropy"])
def test_no_classes_are_refused(kernels, name):  # noqa: F811
    with pytest.raises(ShapeError, match="at least one class"):
        getattr(kernels, name)(*[numbers(3, 0)] * (1 + (name != "softmax")))


@pytest.mark.parametrize("algorithm", ["auto", "winograd", "direct", "im2col"])
def test_strides_and_padding_are_whole_numbers_of_any_kind(algorithm):
    """What a call with others leaves behind must not serve a later one."""
    x, w = numbers(1, 6, 9, 4), numbers(3, 3, 4, 5)
    stride, padding = (1, 1), (1, 0, 1, 1)
    for wrong in (((1.0, 1.0), padding), (stride, (1.0, 0.0, 1.0, 1.0))):
        with pytest.raises(ArgumentError, match=r"conv2d got stride=.* padding=.*; expected whole numbers"):
            fast.conv2d(x, w, None, *wrong, algorithm)
    kinds = [(np.array(stride, np.int32), np.array(padding, np.int8)), (list(stride), list(padding)), (stride, padding)]
    results = [fast.conv2d(x, w, None, *each, algorithm) for each in kinds]
    for result in results:
        np.testing.assert_array_equal(result, results[-1])
        for one, other in zip(*(fast.conv2d_backward(result, x, w, *each, algorithm) for each in kinds[1:]),
                              strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["conv2d", "conv2d_backward"])
def test_an_unknown_algorithm_is_refused_with_the_nearest(name):
    with pytest.raises(ArgumentError, match=r"algorithm='im2coll', which the fast kernels do not have\. Did you mean "
                                            r"'im2col'\?"):
        getattr(fast, name)(*calls(2)[name], algorithm="im2coll")


# --- warps -------------------------------------------------------------------------------------------------------

def test_an_unknown_fill_mode_is_refused_with_the_nearest(kernels):  # noqa: F811
    with pytest.raises(ArgumentError, match=r"fill_mode='Reflected'.*Did you mean 'reflect'\?"):
        kernels.affine_warp(*calls(2)["affine_warp"], fill_mode="Reflected")


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("mode", ["nearest", "constant", "reflect", "wrap"])
def test_a_warp_to_nowhere_is_refused(kernels, value, mode):  # noqa: F811
    x, matrices = calls(2)["affine_warp"]
    matrices[1, 0, 2] = value
    with pytest.raises(DataError, match=r"affine_warp got a matrix .* of image 1"):
        kernels.affine_warp(x, matrices, fill_mode=mode)
