"""Hypotheses about cross-entropy: what would the formula give if one thing were different?"""

from __future__ import annotations

from collections.abc import Iterator

from minicnn._diagnosis_evidence import Evidence, Explanation


def wrong_cross_entropy(evidence: Evidence) -> Iterator[Explanation]:
    """A term of the gradient of cross-entropy is missing."""
    x, p, t, weights = evidence.x, evidence.out, evidence.targets, evidence.upstream
    if t is None or x is None or p is None or weights is None:
        return
    w, total = weights[:, None], t.sum(axis=1, keepdims=True)           # (N, 1)
    through_logits = [
        ("the targets are not subtracted: it is weights * probabilities.", w * p * total),
        ("the targets alone: it is minus weights * targets, without the probabilities.", -w * t),
        ("the targets are taken to sum to 1: it is weights * (probabilities - targets), and the probabilities lack the "
         "factor sum(targets).", w * (p - t)),
        ("the probabilities are not subtracted from, but added to the targets.", w * (p * total + t))]
    direct = -w * t / (p * x.sum(axis=1, keepdims=True))
    through_sum = direct + w * total / x.sum(axis=1, keepdims=True)
    through_probabilities = [
        ("the term through the sum of the predictions is missing, by which they were divided.", direct),
        ("the term through the sum of the predictions is added instead of subtracted.", 2 * direct - through_sum)]
    yield from evidence.best("missing term", through_logits if evidence.logits else through_probabilities)


HYPOTHESES = (wrong_cross_entropy,)
