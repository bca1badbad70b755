"""See reference. The trick: one pass over the parameter and its slots, a vector at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minicnn.kernels.checks import check_fit, check_writable
from minicnn.kernels.fast.compile import FASTMATH_ORDERED, inner, jit
from minicnn.kernels.fast.counter import take
from minicnn.kernels.fast.crew import dismiss, invite
from minicnn.kernels.fast.memory import contiguous
from minicnn.kernels.fast.parallel import share
from minicnn.kernels.fast.simd import LANES, broadcast, load_first, maximum, select, sqrt, store_first

SMALLEST_SLOT = 1e-30
CHUNK = 1 << 14  # numbers that a thread takes at a time


def adam_update(param: np.ndarray, grad: np.ndarray, m: np.ndarray, v: np.ndarray, learning_rate: float,
                beta_1: float, beta_2: float, epsilon: float, step: int) -> None:
    """See reference."""
    check_fit("adam_update", "param (...), grad (...), m (...), v (...)", param, grad, m, v)
    check_writable("adam_update", param=param, m=m, v=v)
    alpha = learning_rate * math.sqrt(1 - beta_2**step) / (1 - beta_1**step)
    _update(_adam, grad, (param, m, v), alpha, 1 - beta_1, 1 - beta_2, epsilon)


def sgd_update(param: np.ndarray, grad: np.ndarray, velocity: np.ndarray | None, learning_rate: float,
               momentum: float, nesterov: bool) -> None:
    """See reference."""
    check_fit("sgd_update", "param (...), grad (...), velocity (...)", param, grad, velocity)
    check_writable("sgd_update", param=param, velocity=velocity)
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
    check_writable("rmsprop_update", param=param, v=v, average=average, velocity=velocity)
    centered, moving = average is not None, velocity is not None
    # an absent slot is stood in for by v, so that one compiled kernel serves all four cases
    slots = (param, v, average if centered else v, velocity if moving else v)
    _update(_rmsprop, grad, slots, learning_rate, 1 - rho, momentum, epsilon, centered, moving)


def _update(kernel: Callable, grad: np.ndarray, arrays: tuple[Any, ...], *numbers: float) -> None:
    """Call a kernel on the flattened arrays, which are updated in place."""
    dtype = grad.dtype.type
    rounded = [number if isinstance(number, bool) else dtype(number) for number in numbers]
    copies = {id(array): contiguous(array) for array in arrays}  # the arrays themselves if they are contiguous
    flat = [contiguous(array).reshape(-1) for array in (grad, *(copies[id(array)] for array in arrays))]
    share(kernel, -(-grad.size // CHUNK), CHUNK, *flat, *rounded)
    for array in arrays:
        if copies[id(array)] is not array:
            array[...] = copies[id(array)]


@jit
def _adam(seat, crew, counter, chunk, grad, param, m, v, alpha, rate_1, rate_2, epsilon):
    invite(seat, crew)
    start = take(counter, seat) * chunk
    while start < grad.size:
        stop = min(start + chunk, grad.size)
        for k in range(start, stop - LANES + 1, LANES):
            _adam_vector(k, None, grad, param, m, v, alpha, rate_1, rate_2, epsilon)
        if stop % LANES:
            _adam_vector(stop - stop % LANES, stop % LANES, grad, param, m, v, alpha, rate_1, rate_2, epsilon)
        start = take(counter, seat) * chunk
    dismiss(seat, crew)


@inner
def _adam_vector(k, count, grad, param, m, v, alpha, rate_1, rate_2, epsilon):
    g, m_k, v_k = load_first(grad, k, count), load_first(m, k, count), load_first(v, k, count)
    m_k = _flushed(m_k + (g - m_k) * rate_1)
    v_k = _flushed(v_k + (g * g - v_k) * rate_2)
    store_first(m, k, m_k, count)
    store_first(v, k, v_k, count)
    store_first(param, k, load_first(param, k, count) - m_k * alpha / (sqrt(v_k) + epsilon), count)


@jit
def _sgd(seat, crew, counter, chunk, grad, param, learning_rate):
    invite(seat, crew)
    start = take(counter, seat) * chunk
    while start < grad.size:
        for k in range(start, min(start + chunk, grad.size), LANES):
            count = grad.size - k
            store_first(param, k, load_first(param, k, count) - load_first(grad, k, count) * learning_rate, count)
        start = take(counter, seat) * chunk
    dismiss(seat, crew)


@jit
def _sgd_momentum(seat, crew, counter, chunk, grad, param, velocity, learning_rate, momentum, nesterov):
    invite(seat, crew)
    start = take(counter, seat) * chunk
    while start < grad.size:
        for k in range(start, min(start + chunk, grad.size), LANES):
            count = grad.size - k
            step = load_first(grad, k, count) * learning_rate
            speed = _flushed(load_first(velocity, k, count) * momentum - step)
            store_first(velocity, k, speed, count)
            more = speed * momentum - step if nesterov else speed
            store_first(param, k, load_first(param, k, count) + more, count)
        start = take(counter, seat) * chunk
    dismiss(seat, crew)


@jit(fastmath=FASTMATH_ORDERED)  # not an estimate of 1 / sqrt, which is NaN where the mean square is infinite
def _rmsprop(seat, crew, counter, chunk, grad, param, v, average, velocity, learning_rate, rate, momentum, epsilon,
             centered, moving):
    invite(seat, crew)
    start = take(counter, seat) * chunk
    while start < grad.size:
        for k in range(start, min(start + chunk, grad.size), LANES):
            count = grad.size - k
            g, v_k = load_first(grad, k, count), load_first(v, k, count)
            spread = _flushed(v_k + (g * g - v_k) * rate)
            store_first(v, k, spread, count)
            if centered:
                mean = load_first(average, k, count)
                mean = _flushed(mean + (g - mean) * rate)
                store_first(average, k, mean, count)
                spread = maximum(spread - mean * mean, broadcast(spread, 0))  # rounding can push a 0 below 0
            increment = g * learning_rate / sqrt(spread + epsilon)
            if moving:
                increment = _flushed(load_first(velocity, k, count) * momentum + increment)
                store_first(velocity, k, increment, count)
            store_first(param, k, load_first(param, k, count) - increment, count)
        start = take(counter, seat) * chunk
    dismiss(seat, crew)


@inner
def _flushed(slot):
    """Zeros for numbers so small that computing with them would take many times as long."""
    zero = broadcast(slot, 0)
    return select(broadcast(slot, SMALLEST_SLOT) > maximum(slot, zero - slot), zero, slot)
