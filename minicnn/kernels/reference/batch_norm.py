"""Batch normalization: each channel with mean 0 and deviation 1, then scaled and shifted.

M is the number of values in a channel (N*H*W for images). The arithmetic is done in float64 whatever the dtype of x:
in float32 the mean of large numbers close to each other would swallow their differences.

References
----------
Ioffe, Szegedy: Batch normalization, 2015, arXiv:1502.03167, algorithm 1 and the gradients of section 3.
"""

from __future__ import annotations

import numpy as np

from minicnn.kernels.checks import check_fit, check_not_empty

Gradients = tuple[np.ndarray, np.ndarray, np.ndarray]


def batch_norm(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, epsilon: float,
               ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Normalize with the batch's own statistics, as in training.

    ``out = gamma * x_hat + beta``, where ``x_hat = (x - mean) / sqrt(variance + epsilon)``.

    Parameters
    ----------
    x : (..., C) array
        Channels last; the statistics are over all other axes.
    gamma, beta : (C,) array
    epsilon : float

    Returns
    -------
    out : (..., C) array
    mean, variance : (C,) float64 array
        The variance is the biased one, a sum divided by M.
    """
    check_fit("batch_norm", "x (..., C), gamma (C), beta (C)", x, gamma, beta)
    check_not_empty("batch_norm", x)
    axes = tuple(range(x.ndim - 1))
    mean = x.mean(axis=axes, dtype=np.float64)  # (C,)
    variance = np.square(x - mean).mean(axis=axes)  # (C,)
    return batch_norm_inference(x, gamma, beta, mean, variance, epsilon), mean, variance


def batch_norm_backward(dout: np.ndarray, x: np.ndarray, gamma: np.ndarray, mean: np.ndarray, variance: np.ndarray,
                        epsilon: float) -> Gradients:
    """Return the gradients in training, where mean and variance depend on x as well.

    ``dx = gamma / sqrt(variance + epsilon) * (dout - dbeta / M - x_hat * dgamma / M)``: the gradient that reaches
    x_hat, without its parts along the two directions (all ones, and x_hat) in which normalization moves nothing.

    Parameters
    ----------
    dout, x : (..., C) array
    gamma : (C,) array
    mean, variance : (C,) array
        From the forward pass.
    epsilon : float

    Returns
    -------
    dx : (..., C) array
    dgamma, dbeta : (C,) array
    """
    check_fit("batch_norm_backward", "dout (..., C), x (..., C), gamma (C), mean (C), variance (C)",
              dout, x, gamma, mean, variance)
    check_not_empty("batch_norm_backward", x)
    M = x.size // x.shape[-1]
    x_hat, inverse_deviation = _normalize(x, mean, variance, epsilon)  # (..., C), (C,)
    dgamma, dbeta = _parameter_gradients(dout, x_hat)  # (C,), (C,)
    dx = gamma * inverse_deviation * (dout - dbeta / M - x_hat * (dgamma / M))  # (..., C)
    return _as(x.dtype, dx), _as(x.dtype, dgamma), _as(x.dtype, dbeta)


def batch_norm_inference(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, mean: np.ndarray, variance: np.ndarray,
                         epsilon: float) -> np.ndarray:
    """Normalize with given statistics: ``out = gamma * (x - mean) / sqrt(variance + epsilon) + beta``.

    Parameters
    ----------
    x : (..., C) array
    gamma, beta : (C,) array
    mean, variance : (C,) array
        Of any float dtype.
    epsilon : float

    Returns
    -------
    (..., C) array
    """
    check_fit("batch_norm_inference", "x (..., C), gamma (C), beta (C), mean (C), variance (C)",
              x, gamma, beta, mean, variance)
    x_hat, _ = _normalize(x, mean, variance, epsilon)  # (..., C)
    return _as(x.dtype, gamma * x_hat + beta)


def batch_norm_inference_backward(dout: np.ndarray, x: np.ndarray, gamma: np.ndarray, mean: np.ndarray,
                                  variance: np.ndarray, epsilon: float) -> Gradients:
    """Return the gradients for given statistics, which are constants: ``dx = gamma / sqrt(variance + epsilon) * dout``.

    Parameters
    ----------
    dout, x : (..., C) array
    gamma, mean, variance : (C,) array
    epsilon : float

    Returns
    -------
    dx : (..., C) array
    dgamma, dbeta : (C,) array
    """
    check_fit("batch_norm_inference_backward", "dout (..., C), x (..., C), gamma (C), mean (C), variance (C)",
              dout, x, gamma, mean, variance)
    x_hat, inverse_deviation = _normalize(x, mean, variance, epsilon)  # (..., C), (C,)
    dgamma, dbeta = _parameter_gradients(dout, x_hat)  # (C,), (C,)
    return _as(x.dtype, gamma * inverse_deviation * dout), _as(x.dtype, dgamma), _as(x.dtype, dbeta)


def _normalize(x: np.ndarray, mean: np.ndarray, variance: np.ndarray, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    """Return x_hat (..., C) and 1 / sqrt(variance + epsilon) (C,), both float64; 0 where epsilon is 0 as well."""
    spread = variance.astype(np.float64) + epsilon  # (C,)
    inverse_deviation = np.sqrt(np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > 0))  # (C,)
    return (x - mean.astype(np.float64)) * inverse_deviation, inverse_deviation


def _parameter_gradients(dout: np.ndarray, x_hat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return dgamma and dbeta, (C,) each, float64: the sums over each channel of dout * x_hat and of dout."""
    axes = tuple(range(dout.ndim - 1))
    return (dout * x_hat).sum(axis=axes), dout.sum(axis=axes, dtype=np.float64)


def _as(dtype: np.dtype, array: np.ndarray) -> np.ndarray:
    """Round to the dtype of the caller's arrays, C-contiguous."""
    return array.astype(dtype, order="C")
