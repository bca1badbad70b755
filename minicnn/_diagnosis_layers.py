"""Hypotheses about activations and batch normalization: what would the formula give if one thing were different?

Each is a list of (words, gradient); the words are said if the gradient is the analytic one, number by number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from minicnn._diagnosis_evidence import ACCEPTED, FITTED, Evidence, Explanation
from minicnn._diagnosis_textbook import Linear, Normalization, derivative
from minicnn.layers import Activation, BatchNormalization, Conv2D, Dense

Candidates = Iterator[tuple[str, np.ndarray]]


def applies(evidence: Evidence, *classes: type) -> bool:
    """Whether the formula of such a layer holds: its gradient equals the numeric one."""
    return isinstance(evidence.layer, classes) and evidence.textbook is not None


def inside(evidence: Evidence) -> tuple[Any, Any, Any, Any]:
    """Return layer, input, upstream gradient and output where ``applies`` holds: none of them is None."""
    return evidence.layer, evidence.x, evidence.upstream, evidence.out


def linear_of(evidence: Evidence, dz: np.ndarray | None = None) -> Linear:
    """Return the formula of a Conv2D or Dense, with its own dz or another."""
    layer, x, upstream, out = inside(evidence)
    return Linear.of(layer, x, derivative(layer.activation.name, upstream, out) if dz is None else dz)


def shaped(evidence: Evidence, gradient: np.ndarray) -> np.ndarray:
    """Return a gradient in the tensor's shape: that of Dense has two axes of 1."""
    return gradient.reshape(evidence.truth.shape)


# --- activations -------------------------------------------------------------------------------------------------

def activation_changes(name: str, dout: np.ndarray, out: np.ndarray) -> Candidates:
    """Return (words, dz) for mistakes in the derivative of an activation."""
    if name == "linear":
        return
    right = derivative(name, dout, out)
    yield f"{name}'s derivative is left out", dout
    yield f"{name}'s derivative is applied twice", derivative(name, right, out)
    yield f"{name}'s derivative is taken at the upstream gradient, not at the output", derivative(name, dout, dout)
    yield f"the upstream gradient and the output are exchanged in {name}'s derivative", derivative(name, out, dout)
    if name == "relu":
        yield "ReLU's mask is turned round: gradient passes where the output is zero", np.where(out > 0, 0.0, dout)
        yield "it is multiplied by ReLU's output instead of its mask", dout * out
    elif name == "sigmoid":
        value = 1 / (1 + np.exp(-out))
        yield "sigmoid's derivative lacks the factor 1 - output", dout * out
        yield "sigmoid's derivative lacks the factor output", dout * (1 - out)
        yield "sigmoid is applied to its output again before the derivative is taken", dout * value * (1 - value)
        yield "sigmoid's derivative is output (1 + output)", dout * out * (1 + out)
        yield "sigmoid's derivative is 1 - output²", dout * (1 - out**2)
    elif name == "tanh":
        yield "tanh's derivative is 1 - output, without the square", dout * (1 - out)
        yield "tanh's derivative has a plus: 1 + output²", dout * (1 + out**2)
        yield "tanh's derivative is output²", dout * out**2
        yield "tanh is applied to its output again before the derivative is taken", dout * (1 - np.tanh(out)**2)
        yield "tanh's derivative is output (1 - output), the sigmoid's", dout * out * (1 - out)
    elif name == "softmax":
        yield "softmax's sum over the classes is missing", out * dout
        yield "softmax has only the diagonal of its Jacobian, output (1 - output)", dout * out * (1 - out)
        yield "softmax lacks the factor output", dout - np.sum(dout * out, axis=-1, keepdims=True)
        plain = np.sum(dout, axis=-1, keepdims=True)
        yield "softmax sums the gradient without weighting it by the output", out * (dout - plain)
        yield "softmax has a mean in place of the sum", out * (dout - np.mean(dout * out, axis=-1, keepdims=True))
        yield "softmax sums over the images, not the classes", out * (dout - np.sum(dout * out, axis=0))
        yield "softmax sums over all outputs, not each image's classes", out * (dout - np.sum(dout * out))
        yield "softmax adds the sum instead of subtracting it", 2 * out * dout - right


def wrong_activation(evidence: Evidence) -> Iterator[Explanation]:
    """The activation's derivative is left out, or another one."""
    if not applies(evidence, Conv2D, Dense, Activation):
        return
    layer, x, upstream, out = inside(evidence)
    name = layer.activation.name
    if isinstance(layer, Activation):
        yield from evidence.best("factor", [(f"{name}'s derivative is taken at the input, not at the output.",
                                             derivative(name, upstream, x))])
    for words, dz in activation_changes(name, upstream, out):
        gradient = dz if isinstance(layer, Activation) else linear_of(evidence, dz).gradient(evidence.what)
        kind = "missing term" if " sum" in words or "diagonal" in words else "factor"
        if name == "relu" and "multiplied" not in words:
            kind = "mask"
        yield from evidence.best(kind, [(f"{words}.", shaped(evidence, gradient))])


# --- batch normalization -----------------------------------------------------------------------------------------

def wrong_normalization(evidence: Evidence) -> Iterator[Explanation]:
    """A term or a factor of batch normalization's gradient is missing, or another."""
    if not applies(evidence, BatchNormalization):
        return
    layer, x, upstream, _ = inside(evidence)
    norm = Normalization.of(layer, x, upstream)
    if evidence.what in ("gamma", "beta"):
        yield from evidence.best("factor", _scale_candidates(norm, evidence.what))
        return
    if not norm.uses_batch:
        whole = replace(norm, uses_batch=True, mean=norm.x.mean(axis=norm.axes), variance=norm.x.var(axis=norm.axes))
        direct, mean, variance = norm.terms()
        words = "the gradient of training mode, in a layer whose statistics are constants"
        yield from evidence.best("missing term", [
            (f"{words}.", whole.gradient("input")),
            (f"{words}, with terms through mean and variance.", direct - mean - variance),
            (f"{words}, with a term through the mean.", direct - mean),
            (f"{words}, with a term through the variance.", direct - variance)])
    yield from evidence.best("factor", _factor_candidates(norm))
    if norm.uses_batch:
        yield from evidence.best("missing term", _term_candidates(norm))
        yield from _weights_of_terms(evidence, norm)


def _scale_candidates(norm: Normalization, what: str) -> Candidates:
    """Return mistakes in dgamma and dbeta."""
    x_hat, right = norm.x_hat, norm.gradient(what)
    for words, other in (("x is used where the normalised x is needed", norm.x),
                         ("the division by the deviation is missing", x_hat / norm.inverse),
                         ("the mean is not subtracted", norm.x * norm.inverse),
                         ("it is divided by the variance instead of the deviation", x_hat * norm.inverse)):
        if what == "gamma":
            yield f"{words}.", (norm.dout * other).sum(axis=norm.axes)
    yield "it is multiplied by gamma.", right * norm.gamma
    yield "it is divided by the deviation.", right * norm.inverse
    yield "it is multiplied by gamma / deviation.", right * norm.gamma * norm.inverse


def _factor_candidates(norm: Normalization) -> Candidates:
    """Return dx with a wrong factor in front."""
    right = norm.gradient("input")
    for words, factor in (("the factor gamma is missing", 1 / norm.gamma), ("gamma is applied twice", norm.gamma),
                          ("the division by the deviation is missing", 1 / norm.inverse),
                          ("it is divided by the variance instead of the deviation", norm.inverse),
                          ("it is multiplied by the deviation instead of divided", norm.inverse**-2),
                          ("it is divided by gamma instead of multiplied", norm.gamma**-2),
                          ("gamma and the division by the deviation are missing", 1 / (norm.gamma * norm.inverse)),
                          ("epsilon is left out of the deviation in front", (norm.variance + norm.epsilon)**0.5
                           / np.maximum(norm.variance, 1e-300)**0.5)):
        yield f"{words}.", right * factor


def _term_candidates(norm: Normalization) -> Candidates:
    """Return dx with a wrong term: what flows through the mean or the variance."""
    direct, mean, variance = norm.terms()
    M = norm.M
    yield "the term through the mean is missing (- sum of dout / M).", direct - variance
    yield "the term through the variance is missing (- x_hat * sum of dout * x_hat / M).", direct - mean
    yield "the terms through mean and variance are missing, as if the statistics were constants.", direct
    yield "only what flows through the statistics is there, the direct term is missing.", -mean - variance
    yield "the term through the mean has the wrong sign.", direct + mean - variance
    yield "the term through the variance has the wrong sign.", direct - mean + variance
    yield "M - 1 instead of M in both terms.", direct - (mean + variance) * M / max(M - 1, 1)
    yield "M - 1 instead of M in the term through the mean.", direct - mean * M / max(M - 1, 1) - variance
    yield "M - 1 instead of M in the term through the variance.", direct - mean - variance * M / max(M - 1, 1)
    factor, x_hat, dout = norm.gamma * norm.inverse, norm.x_hat, norm.dout
    yield "x is used for the normalised x in the term through the variance.", (
        direct - mean - factor * norm.x * (dout * x_hat).mean(axis=norm.axes))
    for words, other in (("without the division by the deviation", x_hat / norm.inverse),
                         ("divided by the variance", x_hat * norm.inverse),
                         ("without the mean subtracted", norm.x * norm.inverse), ("not normalised at all", norm.x)):
        yield f"the x of the term through the variance is {words}.", (
            direct - mean - factor * other * (dout * other).mean(axis=norm.axes))
        yield f"the sum of dout * x in the term through the variance takes x {words}.", (
            direct - mean - factor * x_hat * (dout * other).mean(axis=norm.axes))
        yield f"the factor x of the term through the variance is {words}.", (
            direct - mean - factor * other * (dout * x_hat).mean(axis=norm.axes))
    for axis in range(norm.x.ndim):
        name = "the channels" if axis == norm.x.ndim - 1 else f"axis {axis} alone"
        mean = np.mean(dout, axis=axis, keepdims=True)
        yield f"the sums run over {name}, not over all axes but the channels.", factor * (
            dout - mean - x_hat * np.mean(dout * x_hat, axis=axis, keepdims=True))
    yield "the sums run over the channels as well.", factor * (dout - dout.mean() - x_hat * (dout * x_hat).mean())


def _weights_of_terms(evidence: Evidence, norm: Normalization) -> Iterator[Explanation]:
    """Fit how often each of the three terms is there."""
    terms = np.stack([term.ravel() for term in norm.terms()], axis=1)
    weights = np.linalg.lstsq(terms, evidence.analytic.ravel(), rcond=None)[0]
    score = evidence.score((terms @ weights).reshape(evidence.truth.shape))
    if score >= ACCEPTED and terms.shape[0] > 6:
        a, b, c = (evidence.factor(weight) for weight in weights * [1, -1, -1])
        yield Explanation("missing term", f"it is {a} times the direct term, {b} times the one through the mean and "
                                          f"{c} times the one through the variance, expected 1, 1, 1.",
                          score, FITTED)


HYPOTHESES = (wrong_activation, wrong_normalization)
