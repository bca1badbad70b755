"""Mistakes in softmax and cross-entropy: the fused kernel, the losses, and how the training step uses them."""

from __future__ import annotations

from mistakes.record import Mistake

KERNEL, LOSSES, STEP = "kernels/reference/softmax_cross_entropy.py", "losses.py", "step.py"
FAST = "kernels/fast/softmax_cross_entropy.py"
NUMERIC = "test_kernels_numeric.py::test_softmax_cross_entropy"
LARGE = "test_kernels_numeric.py::test_cross_entropy_of_large_logits"
SMALL = "test_kernels_numeric.py::test_a_small_probability_keeps_its_gradient"
LOSS = "test_gradients.py::test_loss"
WEIGHTS = "test_training_losses.py::test_sample_weights"

MISTAKES = [
    Mistake("largest logit not subtracted", KERNEL, "shifted = logits - logits.max(axis=1, keepdims=True)",
            "shifted = logits * 1", "exp of large logits is infinite, and the loss NaN.", LARGE),
    Mistake("logarithm of a probability of 0", KERNEL, "targets * (np.log(total) - shifted)",
            "-targets * np.log(e / total)", "0 times -inf is NaN.", LARGE),
    Mistake("probabilities clipped", KERNEL, 'np.divide(e, total, order="C")', "np.clip(e / total, 1e-7, None)",
            "Small probabilities lose their gradient.", SMALL),
    Mistake("softmax over the batch", KERNEL, "total = e.sum(axis=1, keepdims=True)",
            "total = e.sum(axis=0, keepdims=True) + 0 * e", "The classes of an image do not sum to 1.", NUMERIC),
    Mistake("mean over the classes", KERNEL, "- shifted)).sum(axis=1)", "- shifted)).mean(axis=1)",
            "The loss is divided by the number of classes.", NUMERIC),
    Mistake("backward: rows of targets taken to sum to 1", KERNEL, "probabilities * total - targets",
            "probabilities - targets", "Wrong where targets are no distribution.", NUMERIC, "missing term"),
    Mistake("backward: weights ignored", KERNEL, "np.multiply(weights[:, None],", "np.multiply(1,",
            "The gradient is summed, not averaged, and knows no sample weights.", NUMERIC, "ratio"),
    Mistake("backward: averaged twice", KERNEL, "np.multiply(weights[:, None],",
            "np.multiply(weights[:, None] / len(weights),", "The gradient is divided by N once too often.", NUMERIC,
            "ratio"),
    Mistake("backward: sign", KERNEL, "probabilities * total - targets", "targets - probabilities * total",
            "The gradient points uphill.", NUMERIC, "sign"),
    Mistake("backward: targets forgotten", KERNEL, "probabilities * total - targets", "probabilities * total",
            "The right class is pushed down with the others.", NUMERIC, "missing term"),
    Mistake("loss: smoothing not divided by the classes", LOSSES, "self.label_smoothing / classes",
            "self.label_smoothing", "Smoothed targets sum to more than 1.", "test_losses.py::test_label_smoothing"),
    Mistake("loss: smoothing among the other classes only", LOSSES, "self.label_smoothing / classes",
            "self.label_smoothing / (classes - 1) * (1 - t)", "Not Szegedy's formula: the right class gets no share.",
            "test_losses.py::test_label_smoothing"),
    Mistake("loss: probabilities not normalised", LOSSES, "p = predicted / predicted.sum(axis=1, keepdims=True)",
            "p = predicted * 1", "Outputs that do not sum to 1 are taken for probabilities.",
            "test_losses.py::test_value_is_minus_log_of_the_right_class"),
    Mistake("loss: gradient through the sum forgotten", LOSSES, "(dp - through_sum)", "dp",
            "The gradient forgets that probabilities were divided by their sum.", LOSS, "missing term"),
    Mistake("loss: clipped values get a gradient", LOSSES,
            "inside = (probabilities > EPSILON) & (probabilities < 1 - EPSILON)", "inside = probabilities > -1",
            "The clip passes no gradient outside its range.",
            "test_losses.py::test_a_clipped_probability_passes_no_gradient", "mask"),
    Mistake("loss: weights forgotten in the gradient of probabilities", LOSSES, ", 0) * weights[:, None]",
            ", 0) * weights.mean()", "All samples weigh the same.", LOSS, "ratio"),
    Mistake("step: softmax applied twice", STEP, "end.skip_activation = True", "end.skip_activation = False",
            "The loss takes probabilities for logits: training is slow and never sure.",
            "test_training_losses.py::test_three_ways_to_end_a_network_agree", count=3),
    Mistake("step: divided by the sum of the weights", STEP, "return (weights / N)", "return (weights / weights.sum())",
            "Keras divides by the number of samples.", WEIGHTS),
    Mistake("step: summed, not averaged", STEP, "return (weights / N)", "return (weights * 1.0)",
            "The loss and its gradient grow with the batch.", WEIGHTS),
    Mistake("fast: first class never the largest", FAST, "largest = logits[n, 0]\n        for k in range(1, K):",
            "largest = logits[n, 1]\n        for k in range(2, K):", "exp overflows where class 0 is sure.", LARGE),
]
