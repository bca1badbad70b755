"""One step of each optimizer, in place on a parameter and its slots (the running averages that belong to it).

Slots that shrink below 1e-30 become 0: they no longer move anything, and arithmetic on subnormal numbers (below 1e-38
in float32) is many times slower.
"""

from __future__ import annotations

import math

import numpy as np

from minicnn.kernels.checks import check_fit, check_writable

SMALLEST_SLOT = 1e-30


def adam_update(param: np.ndarray, grad: np.ndarray, m: np.ndarray, v: np.ndarray, learning_rate: float,
                beta_1: float, beta_2: float, epsilon: float, step: int) -> None:
    """Do one Adam step, with Keras' epsilon, outside the bias correction.

    ``m = beta_1 * m + (1 - beta_1) * grad``, ``v = beta_2 * v + (1 - beta_2) * grad**2``,
    ``param -= learning_rate * sqrt(1 - beta_2**step) / (1 - beta_1**step) * m / (sqrt(v) + epsilon)``.

    Parameters
    ----------
    param, grad, m, v : array
        All of one shape. ``m`` and ``v`` start as zeros.
    learning_rate, beta_1, beta_2, epsilon : float
    step : int
        1 at the first update.

    References
    ----------
    Kingma, Ba: Adam, 2014, arXiv:1412.6980, the form at the end of section 2.
    """
    check_fit("adam_update", "param (...), grad (...), m (...), v (...)", param, grad, m, v)
    check_writable("adam_update", param=param, m=m, v=v)
    alpha = learning_rate * math.sqrt(1 - beta_2**step) / (1 - beta_1**step)
    m += (grad - m) * (1 - beta_1)
    v += (grad * grad - v) * (1 - beta_2)
    _flush(m)
    _flush(v)
    param -= m * alpha / (np.sqrt(v) + epsilon)


def sgd_update(param: np.ndarray, grad: np.ndarray, velocity: np.ndarray | None, learning_rate: float,
               momentum: float, nesterov: bool) -> None:
    """Do one step of gradient descent, with momentum if ``velocity`` is given.

    ``velocity = momentum * velocity - learning_rate * grad``, then ``param += velocity``; with Nesterov's momentum
    ``param += momentum * velocity - learning_rate * grad``.

    Parameters
    ----------
    param, grad : array
    velocity : array or None
        Starts as zeros; None stands for momentum 0.
    learning_rate, momentum : float
    nesterov : bool

    References
    ----------
    Sutskever et al.: On the importance of initialization and momentum in deep learning, 2013.
    """
    check_fit("sgd_update", "param (...), grad (...), velocity (...)", param, grad, velocity)
    check_writable("sgd_update", param=param, velocity=velocity)
    if velocity is None:
        param -= learning_rate * grad
        return
    velocity *= momentum
    velocity -= learning_rate * grad
    _flush(velocity)
    if nesterov:
        param += momentum * velocity - learning_rate * grad
    else:
        param += velocity


def rmsprop_update(param: np.ndarray, grad: np.ndarray, v: np.ndarray, average: np.ndarray | None,
                   velocity: np.ndarray | None, learning_rate: float, rho: float, momentum: float,
                   epsilon: float) -> None:
    """Do one RMSprop step: a step of gradient descent, divided by the running size of the gradient.

    ``v = rho * v + (1 - rho) * grad**2`` and ``param -= learning_rate * grad / sqrt(v + epsilon)``. Centered: the
    variance ``v - average**2`` takes the place of v. With momentum the increments gather in ``velocity``.

    Parameters
    ----------
    param, grad, v : array
    average : array or None
        The running mean of the gradient; given if centered.
    velocity : array or None
        Given if momentum > 0.
    learning_rate, rho, momentum, epsilon : float

    References
    ----------
    Hinton, Tieleman: Neural networks for machine learning, lecture 6e, 2012. Centered: Graves, 2013, arXiv:1308.0850.
    """
    check_fit("rmsprop_update", "param (...), grad (...), v (...), average (...), velocity (...)",
              param, grad, v, average, velocity)
    check_writable("rmsprop_update", param=param, v=v, average=average, velocity=velocity)
    v += (grad * grad - v) * (1 - rho)
    _flush(v)
    spread = v
    if average is not None:
        average += (grad - average) * (1 - rho)
        _flush(average)
        spread = np.maximum(v - average * average, 0)  # rounding can push a variance of 0 below 0
    increment = learning_rate * grad / np.sqrt(spread + epsilon)
    if velocity is None:
        param -= increment
        return
    velocity *= momentum
    velocity += increment
    _flush(velocity)
    param -= velocity


def _flush(slot: np.ndarray) -> None:
    """Set the entries too small to matter to 0."""
    slot[np.abs(slot) < SMALLEST_SLOT] = 0
