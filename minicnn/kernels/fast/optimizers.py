"""See reference. The trick: one pass over the parameter and its slots."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minicnn.kernels.checks import check_fit
from minicnn.kernels.fast.compile import inner, jit
from minicnn.kernels.fast.counter import take
from minicnn.kernels.fast.crew import dismiss, invite
from minicnn.kernels.fast.memory import contiguous
from minicnn.kernels.fast.parallel import share

SMALLEST_SLOT = 1e-30
CHUNK = 1 << 14  # numbers that a thread takes at a time


def adam_update(param: np.ndarray, grad: np.ndarray, m: np.ndarray, v: np.ndarray, learning_rate: float,
                beta_1: float, beta_2: float, epsilon: float, step: int) -> None:
    """See reference."""
    check_fit("adam_update", "param (...), grad (...), m (...), v (...)", param, grad, m, v)
    alpha = learning_rate * math.sqrt(1 - beta_2**step) / (1 - beta_1**step)
    _update(_adam, grad, (param, m, v), alpha, 1 - beta_1, 1 - beta_2, epsilon)


def sgd_update(param: np.ndarray, grad: np.ndarray, velocity: np.ndarray | None, learning_rate: float,
               momentum: float, nesterov: bool) -> None:
    """See reference."""
    check_fit("sgd_update", "param (...), grad (...), velocity (...)", param, grad, velocity)
    if velocity is None:
        _update(_sgd, grad, (param,), learning_rate)
    else:
        _update(_sgd_momentum, grad, (param, velocity), learning_rate, momentum, bool(nesterov))


def rmsprop_update(param: np.ndarray, grad: np.ndarray, v: np.ndarray, average: np.ndarray | None,
                   velocity: np.ndarray | None, learning_rate: float, rho: float, momentum: float,
                   epsilon: float) -> None:
    """See reference."""
    check_fit("rmsprop_update", "param (...), grad (...), v (...), average (...), velocity (...)",
              param, grad, v, average, velocity)
    centered, moving = average is not None, velocity is not None
    # an absent slot is stood in for by v, so that one compiled kernel serves all four cases
    slots = (param, v, average if centered else v, velocity if moving else v)
    _update(_rmsprop, grad, slots, learning_rate, 1 - rho, momentum, epsilon, centered, moving)


def _update(kernel: Callable, grad: np.ndarray, arrays: tuple[Any, ...], *numbers: float) -> None:
    """Call a kernel on the flattened arrays, which are updated in place."""
    dtype = grad.dtype.type
    rounded = [number if isinstance(number, bool) else dtype(number) for number in numbers]
    copies = {id(array): contiguous(array) for array in arrays}  # the arrays themselves if they are contiguous
    flat = [contiguous(grad).reshape(-1), *(copies[id(array)].reshape(-1) for array in arrays)]
    share(kernel, -(-grad.size // CHUNK), CHUNK, *flat, *rounded)
    for array in arrays:
        if copies[id(array)] is not array:
            array[...] = copies[id(array)]


@jit
def _adam(seat, crew, counter, chunk, grad, param, m, v, alpha, rate_1, rate_2, epsilon):
    invite(seat, crew)
    start = take(counter, seat) * chunk
    while start < grad.size:
        for k in range(start, min(start + chunk, grad.size)):
            g = grad[k]
            m_k = _flushed(m[k] + (g - m[k]) * rate_1)
            v_k = _flushed(v[k] + (g * g - v[k]) * rate_2)
            m[k] = m_k
            v[k] = v_k
            param[k] -= m_k * alpha / (np.sqrt(v_k) + epsilon)
        start = take(counter, seat) * chunk
    dismiss(seat, crew)


@jit
def _sgd(seat, crew, counter, chunk, grad, param, learning_rate):
    invite(seat, crew)
    start = take(counter, seat) * chunk
    while start < grad.size:
        for k in range(start, min(start + chunk, grad.size)):
            param[k] -= learning_rate * grad[k]
        start = take(counter, seat) * chunk
    dismiss(seat, crew)


@jit
def _sgd_momentum(seat, crew, counter, chunk, grad, param, velocity, learning_rate, momentum, nesterov):
    invite(seat, crew)
    start = take(counter, seat) * chunk
    while start < grad.size:
        for k in range(start, min(start + chunk, grad.size)):
            step = learning_rate * grad[k]
            speed = _flushed(momentum * velocity[k] - step)
            velocity[k] = speed
            param[k] += momentum * speed - step if nesterov else speed
        start = take(counter, seat) * chunk
    dismiss(seat, crew)


@jit
def _rmsprop(seat, crew, counter, chunk, grad, param, v, average, velocity, learning_rate, rate, momentum, epsilon,
             centered, moving):
    invite(seat, crew)
    start = take(counter, seat) * chunk
    while start < grad.size:
        for k in range(start, min(start + chunk, grad.size)):
            g = grad[k]
            spread = _flushed(v[k] + (g * g - v[k]) * rate)
            v[k] = spread
            if centered:
                mean = _flushed(average[k] + (g - average[k]) * rate)
                average[k] = mean
                spread -= mean * mean
                spread = spread if not spread < 0 else spread * 0  # rounding can push a variance of 0 below 0
            increment = learning_rate * g / np.sqrt(spread + epsilon)
            if moving:
                increment = _flushed(momentum * velocity[k] + increment)
                velocity[k] = increment
            param[k] -= increment
        start = take(counter, seat) * chunk
    dismiss(seat, crew)


@inner
def _flushed(slot):
    return slot * 0 if abs(slot) < SMALLEST_SLOT else slot
