"""Mistakes in activation functions."""

from __future__ import annotations

from mistakes.record import Mistake

KERNEL, FAST = "kernels/reference/activations.py", "kernels/fast/activations.py"
NUMERIC = "test_kernels_numeric.py::test_activation"
ZERO = "test_kernels_numeric.py::test_relu_at_zero_and_nan"
LEAKY = "test_kernels_numeric.py::test_leaky_relu"

MISTAKES = [
    Mistake("ReLU passes the gradient at 0", KERNEL, "np.where(out > 0, dout, 0)", "np.where(out >= 0, dout, 0)",
            "The output is never negative, so everything passes.", NUMERIC, "mask"),
    Mistake("ReLU masks by the gradient's sign", KERNEL, "np.where(out > 0, dout, 0)", "np.where(dout > 0, dout, 0)",
            "The wrong array is compared with 0.", NUMERIC, "mask"),
    Mistake("ReLU hides NaN", KERNEL, "np.maximum(x, 0,", "np.fmax(x, 0,", "A broken network looks sound.", ZERO),
    Mistake("sigmoid of -x", KERNEL, "np.where(x >= 0, 1, e)", "np.where(x >= 0, e, 1)",
            "The stable form has its two cases exchanged.", NUMERIC),
    Mistake("sigmoid': a instead of a (1 - a)", KERNEL, "out * (1 - out), order", "out, order",
            "A factor of the derivative is missing.", NUMERIC, "ratio"),
    Mistake("tanh': 1 - a instead of 1 - a²", KERNEL, "1 - out * out", "1 - out", "The square is forgotten.", NUMERIC,
            "ratio"),
    Mistake("softmax: largest entry not subtracted", KERNEL, "np.exp(x - x.max(axis=-1, keepdims=True))", "np.exp(x)",
            "exp of large logits is infinite.", "test_kernels_numeric.py::test_softmax_of_large_logits"),
    Mistake("softmax: over all axes", KERNEL, "np.divide(e, e.sum(axis=-1, keepdims=True)", "np.divide(e, e.sum()",
            "All images share one distribution.", NUMERIC),
    Mistake("softmax': diagonal of the Jacobian only", KERNEL, "dout - (dout * out).sum(axis=-1, keepdims=True)",
            "dout * (1 - out)", "What a class takes from the others is forgotten.", NUMERIC, "missing term"),
    Mistake("softmax': zero", KERNEL, "dout - (dout * out).sum(axis=-1, keepdims=True)",
            "(dout - dout.mean(axis=-1, keepdims=True)) * 0", "Only an upstream gradient of ones would give 0.",
            NUMERIC,
            "zero"),
    Mistake("leaky ReLU: slope on the wrong side", KERNEL, "np.multiply(x, np.where(x > 0, 1, slope)",
            "np.multiply(x, np.where(x > 0, slope, 1)", "Positive numbers are made small.", LEAKY),
    Mistake("leaky ReLU': that of ReLU", KERNEL, "np.multiply(dout, np.where(out > 0, 1, slope)",
            "np.multiply(dout, np.where(out > 0, 1, 0 * slope)", "Units die after all.", LEAKY),
    Mistake("fast leaky ReLU': 1 at 0", FAST,
            "dx[k] = dout[k] if out[k] > 0 else slope * dout[k]", "dx[k] = dout[k] if out[k] >= 0 else slope * dout[k]",
            "The two kernel sets differ at 0, which a ReLU before it makes often.", LEAKY),
    Mistake("gradient of the input, taken for the output", "activations.py", 'f"{self.name}_backward")(da, a)',
            'f"{self.name}_backward")(a, da)', "Upstream gradient and output are exchanged.",
            "test_gradients.py::test_other_layer", "other"),
]
