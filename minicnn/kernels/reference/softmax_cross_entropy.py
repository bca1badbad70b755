"""Softmax and cross-entropy in one: nothing is lost to the rounding or clipping of probabilities near 0."""

from __future__ import annotations

import numpy as np

from minicnn.kernels.checks import check_classes, check_fit


def softmax_cross_entropy(logits: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the cross-entropy between the targets and the softmax of the logits.

    ``loss = sum over k of targets[k] * (log(sum(exp(logits))) - logits[k])``, computed after subtracting the largest
    logit, so that no exp overflows and no logarithm of 0 is taken.

    Parameters
    ----------
    logits : (N, K) array
    targets : (N, K) array
        A distribution in each row: one-hot, or smoothed.

    Returns
    -------
    losses : (N,) array
    probabilities : (N, K) array
        The softmax of the logits.
    """
    check_fit("softmax_cross_entropy", "logits (N, K), targets (N, K)", logits, targets)
    check_classes("softmax_cross_entropy", logits)
    shifted = logits - logits.max(axis=1, keepdims=True)  # (N, K), at most 0
    e = np.exp(shifted)
    total = e.sum(axis=1, keepdims=True)  # (N, 1), at least 1
    losses = (targets * (np.log(total) - shifted)).sum(axis=1)  # (N,)
    return losses, np.divide(e, total, order="C")


def softmax_cross_entropy_backward(probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return ``dlogits = weights * (probabilities * sum(targets) - targets)``.

    Parameters
    ----------
    probabilities, targets : (N, K) array
    weights : (N,) array
        The gradient of the whole loss with respect to each row's loss: 1 / N for a mean.

    Returns
    -------
    (N, K) array
    """
    check_fit("softmax_cross_entropy_backward", "probabilities (N, K), targets (N, K), weights (N)",
              probabilities, targets, weights)
    total = targets.sum(axis=1, keepdims=True)  # (N, 1), usually 1
    return np.multiply(weights[:, None], probabilities * total - targets, order="C")
