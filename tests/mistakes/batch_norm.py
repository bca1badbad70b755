"""Mistakes in batch normalization."""

from __future__ import annotations

from mistakes.record import Mistake

KERNEL, LAYER, FAST = "kernels/reference/batch_norm.py", "layers/batch_normalization.py", "kernels/fast/batch_norm.py"
NUMERIC = "test_kernels_numeric.py::test_batch_norm"
BACKWARD = "test_kernels_numeric.py::test_batch_norm_backward"
INFERENCE = "test_kernels_numeric.py::test_batch_norm_inference"
MOVES = "test_layers.py::test_batch_normalization_moves_its_averages_with_the_biased_variance"
FROZEN = "test_layers.py::test_frozen_batch_normalization_uses_its_moving_averages"

MISTAKES = [
    # --- forward ---
    Mistake("N-1 instead of N", KERNEL, "np.square(x - mean).mean(axis=axes)",
            "np.square(x - mean).sum(axis=axes) / (x.size // x.shape[-1] - 1)",
            "The batch's variance is the unbiased one.", NUMERIC),
    Mistake("variance not centred", KERNEL, "np.square(x - mean).mean(axis=axes)",
            "np.square(x, dtype=np.float64).mean(axis=axes)", "The mean square stands for the variance.", NUMERIC),
    Mistake("variance as a difference of squares", KERNEL, "np.square(x - mean).mean(axis=axes)",
            "np.square(x, dtype=np.float64).mean(axis=axes) - mean * mean",
            "Far from zero nearly all digits cancel.", NUMERIC),
    Mistake("mean in single precision", KERNEL, "x.mean(axis=axes, dtype=np.float64)",
            "x.mean(axis=axes).astype(np.float64)", "The mean of large numbers swallows their differences.", NUMERIC),
    Mistake("epsilon outside the root", KERNEL, "spread = variance.astype(np.float64) + epsilon",
            "spread = (np.sqrt(variance.astype(np.float64)) + epsilon) ** 2",
            "Epsilon is added to the deviation instead of the variance.", NUMERIC),
    Mistake("epsilon forgotten", KERNEL, "spread = variance.astype(np.float64) + epsilon",
            "spread = variance.astype(np.float64) + 0 * epsilon", "Nothing is added to the variance.", NUMERIC),
    Mistake("divided by the variance", KERNEL,
            "np.sqrt(np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > 0))",
            "np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > 0)",
            "The root is forgotten.", NUMERIC),
    Mistake("beta scaled by gamma", KERNEL, "gamma * x_hat + beta)", "gamma * (x_hat + beta))",
            "The shift is scaled as well.", NUMERIC),
    # --- backward ---
    Mistake("missing mean term", KERNEL, "(dout - dbeta / M - x_hat * (dgamma / M))", "(dout - x_hat * (dgamma / M))",
            "dx forgets that the mean depends on x.", BACKWARD, "missing term"),
    Mistake("missing variance term", KERNEL, "(dout - dbeta / M - x_hat * (dgamma / M))", "(dout - dbeta / M)",
            "dx forgets that the variance depends on x.", BACKWARD, "missing term"),
    Mistake("statistics taken for constants", KERNEL, "(dout - dbeta / M - x_hat * (dgamma / M))", "dout",
            "dx is the gradient of inference.", BACKWARD, "missing term"),
    Mistake("gamma missing in dx", KERNEL, "dx = gamma * inverse_deviation * (dout", "dx = inverse_deviation * (dout",
            "dx is not scaled by gamma.", BACKWARD, "ratio"),
    Mistake("deviation missing in dx", KERNEL, "dx = gamma * inverse_deviation * (dout", "dx = gamma * (dout",
            "dx is not divided by the deviation.", BACKWARD, "ratio"),
    Mistake("M is the batch size", KERNEL, "M = x.size // x.shape[-1]", "M = len(x)",
            "The means are taken over images, though images have pixels.", BACKWARD, "missing term"),
    Mistake("dgamma from centred, not normalized, x", KERNEL,
            "    dgamma, dbeta = _parameter_gradients(dout, x_hat)  # (C,), (C,)\n    dx",
            "    dgamma, dbeta = _parameter_gradients(dout, x - mean)\n    dx",
            "dgamma lacks the division by the deviation, and dx follows it.", BACKWARD, "ratio"),
    Mistake("dbeta is a mean", KERNEL, "dout.sum(axis=axes, dtype=np.float64)",
            "dout.mean(axis=axes, dtype=np.float64)",
            "dbeta is divided by M once too often.", BACKWARD, "ratio"),
    Mistake("inference gradient centred", KERNEL, "_as(x.dtype, gamma * inverse_deviation * dout)",
            "_as(x.dtype, gamma * inverse_deviation * (dout - dbeta / (x.size // x.shape[-1])))",
            "The gradient for given statistics has the mean term of training.", INFERENCE, "missing term"),
    # --- the layer ---
    Mistake("layer: momentum the wrong way round", LAYER,
            "self.momentum * self.state[key].astype(np.float64) + (1 - self.momentum) * batch",
            "(1 - self.momentum) * self.state[key].astype(np.float64) + self.momentum * batch",
            "The moving averages all but follow the last batch.", MOVES),
    Mistake("layer: inference normalizes with the batch", LAYER, "        x = self.check_input(x)\n",
            "        x, training = self.check_input(x), True\n",
            "A prediction depends on what else is in its batch, and moves the averages.", MOVES),
    Mistake("layer: frozen, yet normalizes with the batch", LAYER, "if training and self.trainable:", "if training:",
            "A frozen layer goes on moving its averages.", FROZEN),
    Mistake("layer: frozen, yet the gradient of training", LAYER, "if self.trainable else", "if True else",
            "The gradient does not belong to the forward pass.", FROZEN, "missing term"),
    Mistake("layer: moving deviation instead of variance", LAYER, '("moving_variance", batch[1])',
            '("moving_variance", np.sqrt(batch[1]))', "Predictions are scaled by the fourth root.", MOVES),
    Mistake("layer: moving variance unbiased", LAYER, "self.statistics((mean, variance), training)",
            "self.statistics((mean, variance * (x.size // x.shape[-1]) / (x.size // x.shape[-1] - 1)), training)",
            "As in PyTorch, but not as in Keras.", MOVES),
    Mistake("layer: mean and variance exchanged", LAYER,
            'return self.state["moving_mean"], self.state["moving_variance"]',
            'return self.state["moving_variance"], self.state["moving_mean"]',
            "Inference subtracts the variance.", FROZEN),
    Mistake("layer: averages start at zero variance", LAYER, '"moving_variance", channels, "ones"',
            '"moving_variance", channels, "zeros"', "The first predictions are blown up.", MOVES),
    # --- the fast kernels ---
    Mistake("fast: last rows of a chunk left out of the mean", FAST,
            "range(fours, stop):\n        for c in range(C):\n            square[c] += np.float64(rows[m, c])",
            "range(fours, fours):\n        for c in range(C):\n            square[c] += np.float64(rows[m, c])",
            "Rows beyond the last group of four do not count.", NUMERIC),
    Mistake("fast: rest of the mean forgotten in dgamma", FAST,
            "(product - dbeta * (mean.astype(np.float64) - near))", "product",
            "What rounding the mean to float32 took off is not put back.", BACKWARD, "missing term"),
]
