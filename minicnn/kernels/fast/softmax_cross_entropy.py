"""See reference. The trick: one row at a time, sums in float64."""

from __future__ import annotations

import math

import numpy as np

from minicnn.kernels.checks import check_classes, check_fit
from minicnn.kernels.fast.compile import FASTMATH_ORDERED, jit
from minicnn.kernels.fast.memory import contiguous, empty
from minicnn.kernels.fast.parallel import run_batch


def softmax_cross_entropy(logits: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """See reference."""
    check_fit("softmax_cross_entropy", "logits (N, K), targets (N, K)", logits, targets)
    check_classes("softmax_cross_entropy", logits)
    logits, targets = contiguous(logits), contiguous(targets)
    losses, probabilities = empty(logits.shape[0], logits.dtype), empty(logits.shape, logits.dtype)
    run_batch(lambda start, stop: _cross_entropy(logits, targets, losses, probabilities, start, stop),
              logits.shape[0], logits.size)
    return losses, probabilities


def softmax_cross_entropy_backward(probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """See reference."""
    check_fit("softmax_cross_entropy_backward", "probabilities (N, K), targets (N, K), weights (N)",
              probabilities, targets, weights)
    probabilities, targets, weights = contiguous(probabilities), contiguous(targets), contiguous(weights)
    dlogits = empty(probabilities.shape, probabilities.dtype)
    run_batch(lambda start, stop: _cross_entropy_backward(probabilities, targets, weights, dlogits, start, stop),
              dlogits.shape[0], dlogits.size)
    return dlogits


@jit(fastmath=FASTMATH_ORDERED)  # log_total + largest - logit would lose log_total beside a large logit
def _cross_entropy(logits, targets, losses, probabilities, start, stop):
    """logits, targets (N, K) -> losses (N,), probabilities (N, K), rows start..stop."""
    K = logits.shape[1]
    for n in range(start, stop):
        largest = logits[n, 0]
        for k in range(1, K):
            if not logits[n, k] <= largest:
                largest = logits[n, k]
        total = 0.0
        for k in range(K):
            e = math.exp(logits[n, k] - largest)
            probabilities[n, k] = e
            total += e
        log_total = math.log(total)
        loss = 0.0
        for k in range(K):
            loss += targets[n, k] * (log_total - np.float64(logits[n, k] - largest))
            probabilities[n, k] /= total
        losses[n] = loss


@jit
def _cross_entropy_backward(probabilities, targets, weights, dlogits, start, stop):
    for n in range(start, stop):
        total = 0.0
        for k in range(targets.shape[1]):
            total += targets[n, k]
        for k in range(targets.shape[1]):
            dlogits[n, k] = weights[n] * (probabilities[n, k] * total - targets[n, k])
