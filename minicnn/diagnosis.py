"""What does a wrong gradient look like? From the two gradients and the layer to a sentence a learner can act on.

A gradient check says that a gradient is wrong; here stands how. Each *hypothesis* is a small function that looks at
the ``Evidence`` (the analytic and the numeric gradient, the layer, its input and upstream gradient) and yields
``Explanation`` objects: a kind of fault, words, and a score. With a the analytic and n the numeric gradient, the score
of an explanation that predicts the gradient p is

    1 - (entries where p differs from a) / (entries where n differs from a)

so 1 means that it accounts for every wrong number and spoils no right one. Below 0.9 nothing is said but that no
pattern was recognised. The first hypothesis that predicts all numbers from nothing ends the search; else, of two
that fit equally well, one that fits a factor goes before one that only says where the errors are.

The code of backward is never looked at. A new hypothesis is one more function, in one of the lists:

- ``_diagnosis_form.py``: wrong shape, dtype, NaN, another result at a second call;
- ``_diagnosis_general.py``: a constant ratio, a sign, flipped or transposed axes, a shift, a mask, two exchanged;
- ``_diagnosis_places.py``: only on the border, in the last rows, in one image;
- ``_diagnosis_layers.py``: what this library's layers give if one thing in their formula is different;
- ``_diagnosis_losses.py``: the same of cross-entropy.

References
----------
Karpathy (2015), CS231n, "Gradient checks", on what to look for by hand when a check fails.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from minicnn import (
    _diagnosis_form,
    _diagnosis_general,
    _diagnosis_layers,
    _diagnosis_losses,
    _diagnosis_places,
    _diagnosis_windows,
)
from minicnn._diagnosis_evidence import EXACT, Evidence, Explanation, Hypothesis

__all__ = ["FORM", "HYPOTHESES", "KINDS", "Diagnosis", "Evidence", "Explanation", "diagnose"]

KINDS = {
    "shape": "no array, wrong shape or wrong dtype",
    "not finite": "NaN or infinity",
    "accumulated": "depends on earlier calls: accumulated, stale, an uncleared buffer",
    "zero": "zero everywhere",
    "sign": "wrong sign",
    "ratio": "a constant factor: averaged for summed, dropout's scale",
    "factor": "a factor that differs from entry to entry: a derivative, gamma, a deviation",
    "axes": "flipped, transposed, permuted or reshaped in the wrong order",
    "geometry": "strides, window or offset of backward are not those of forward; shifted",
    "border": "wrong where the padding matters",
    "remainder": "a part is left out: the last rows, an image, a summand",
    "overlap": "overlapping windows overwrite each other",
    "missing term": "a term is missing or too many",
    "mask": "lets gradient through where forward does not, or the reverse",
    "swapped": "the gradient of another tensor",
    "unused": "forward does not depend on the tensor",
}

SURE = 0.995    # an explanation that accounts for all wrong entries; a few may be those of points that were moved

# Judged first: if one of these speaks there are no two gradients to compare.
FORM: tuple[Hypothesis, ...] = _diagnosis_form.HYPOTHESES
# In the order of preference: the first that predicts every number ends the search.
HYPOTHESES: tuple[Hypothesis, ...] = (*_diagnosis_general.FIRST, *_diagnosis_layers.HYPOTHESES,
                                      *_diagnosis_losses.HYPOTHESES,
                                      *_diagnosis_windows.HYPOTHESES, *_diagnosis_general.LAST,
                                      *_diagnosis_places.HYPOTHESES, *_diagnosis_general.AFTER_PLACES)


@dataclass(frozen=True)
class Diagnosis:
    """What the gradient of one tensor looks like. Prints as a sentence or two.

    Attributes
    ----------
    what : str
        The tensor.
    explanations : tuple of Explanation
        The best first; empty if no pattern was recognised.
    statistics : str
        How many entries are wrong, and how the two gradients are related; empty if they cannot be compared.
    """

    what: str
    explanations: tuple[Explanation, ...]
    statistics: str = ""

    @property
    def kind(self) -> str | None:
        """The kind of fault of the best explanation; None if there is none."""
        return self.explanations[0].kind if self.explanations else None

    def __str__(self) -> str:
        if not self.explanations:
            return f"{self.what}: no pattern recognised; {self.statistics}"
        best = self.explanations[0]
        part = "" if best.score > SURE else f" (This accounts for {best.score:.0%} of the wrong entries.)"
        return f"{self.what}: {best.words}{part}"


def diagnose(evidence: Evidence) -> Diagnosis:
    """Say what a wrong gradient looks like.

    Parameters
    ----------
    evidence : Evidence
        Of a gradient that was refused.

    Returns
    -------
    Diagnosis
        Of a gradient that is right in all entries that were compared: no explanation, and statistics that say so.

    Examples
    --------
    >>> numeric = np.array([[1.0, -2.0, 4.0], [0.5, 3.0, -1.0]])
    >>> print(diagnose(Evidence("kernel", -numeric, numeric)))
    kernel: the sign is wrong everywhere: it equals minus the numeric gradient. Is a minus lost or added?
    """
    found = [explanation for hypothesis in FORM for explanation in hypothesis(evidence)]
    if found or not evidence.comparable:
        return Diagnosis(evidence.what, tuple(found[:3]), "the two gradients cannot be compared.")
    with np.errstate(all="ignore"):  # a "what if" may divide by zero: then it fits nothing
        for hypothesis in HYPOTHESES if evidence.wrong.any() else ():
            found += hypothesis(evidence)
            if any(explanation.rank == EXACT and explanation.score > SURE for explanation in found):
                break
    found.sort(key=lambda explanation: (-round(explanation.score, 2), explanation.rank))
    return Diagnosis(evidence.what, tuple(found[:3]), _statistics(evidence))


def _statistics(evidence: Evidence) -> str:
    wrong, known = int(evidence.wrong.sum()), int(evidence.known.sum())
    if not wrong:
        return (f"the {known} entries compared one by one are right: the error is among those seen by the random "
                f"direction only.")
    analytic, truth = evidence.analytic[evidence.known], evidence.truth[evidence.known]
    sizes = np.linalg.norm(analytic) * np.linalg.norm(truth)
    text = f"{wrong} of {known} entries are wrong"
    if sizes:
        text += f", cosine of the two gradients {analytic @ truth / sizes:.3f}"
    there = np.abs(truth) > 1e-3 * evidence.scale
    if there.any():
        low, middle, high = (evidence.factor(ratio, 3)
                             for ratio in np.percentile(analytic[there] / truth[there], [5, 50, 95]))
        text += f", ratio analytic / numeric {low} to {high}, median {middle}"
    return f"{text}."
