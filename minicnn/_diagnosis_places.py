"""Hypotheses about where a gradient is wrong: on the border, in the last rows, in one image."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from minicnn._diagnosis_evidence import LOCATED, Evidence, Explanation, listed, plural

FILLED = 0.6    # part of a place's entries that must be wrong
CHANCE = 1e-4   # of errors scattered as densely as in that place to miss all the rest
FRAME = 3       # a border is at most so wide


def only_there(evidence: Evidence) -> Iterator[Explanation]:
    """All errors lie in a box: the last rows, one image, every second column."""
    place = place_of(evidence.wrong, _informative(evidence), evidence.axes)
    if place is None:
        return
    where, axes = place
    given, true = evidence.analytic[evidence.wrong] != 0, evidence.truth[evidence.wrong] != 0
    if (given & ~true).any() and (~given & true).any():
        yield Explanation("mask", f"wrong {where} only, where it is zero in other entries than the numeric gradient. "
                                  f"Is the mask of another place used there?", 1.0, LOCATED)
        return
    spatial = {evidence.axes[axis] for axis in axes} <= {"row", "column", "kernel row", "kernel column"}
    if spatial and evidence.what == "input" and _starts(evidence.wrong, axes):
        yield Explanation("border", f"wrong {where} only{_how(evidence)}. Is the padding counted on the wrong side, or "
                                    f"cut off by one?", 1.0, LOCATED)
    else:
        yield Explanation("remainder", f"wrong {where} only{_how(evidence)}. Does a loop end too early, or leave out "
                                       f"a rest that does not fill a window or a block?", 1.0, LOCATED)


def _informative(evidence: Evidence) -> np.ndarray:
    """Return where something could be wrong: not where both gradients are zero."""
    return evidence.known & ((evidence.analytic != 0) | (np.nan_to_num(evidence.truth) != 0))


def _only(wrong: np.ndarray, informative: np.ndarray, place: np.ndarray) -> bool:
    """Whether it can be no accident that all errors lie in a place."""
    inside, outside = informative & place, int((informative & ~place).sum())
    density = wrong[inside].mean() if inside.any() else 0.0
    return bool((1 - density)**outside <= CHANCE)


def place_of(wrong: np.ndarray, informative: np.ndarray, axes: Sequence[str]) -> tuple[str, list[int]] | None:
    """Return where the errors are in words, and along which axes they are confined; None if they are everywhere.

    There must be some.
    """
    box, parts, confined = informative.copy(), [], []
    for axis in range(wrong.ndim):
        rest = tuple(other for other in range(wrong.ndim) if other != axis)
        hit, seen = np.flatnonzero(wrong.any(axis=rest)), np.flatnonzero(informative.any(axis=rest))
        if len(hit) == len(seen):
            continue
        words = _indices(hit, seen, axes[axis])
        if words:
            parts.append(words)
            confined.append(axis)
            keep = np.zeros(wrong.shape[axis], bool)
            keep[hit] = True
            box &= keep.reshape([-1 if other == axis else 1 for other in range(wrong.ndim)])
    if not parts or not box.any() or wrong[box].mean() < FILLED or not _only(wrong, informative, box):
        return None
    return f"in {listed(parts)}", confined


def _indices(hit: np.ndarray, seen: np.ndarray, name: str) -> str:
    """Name a set of indices along an axis: the last 2 rows. Empty if it has no form."""
    n, last = len(hit), bool(np.array_equal(hit, seen[-len(hit):]))
    if last or np.array_equal(hit, seen[:n]):
        end = "last" if last else "first"
        return f"the {end} {name}" if n == 1 else f"the {end} {n} {plural(name)}"
    if n == 1:
        return f"{name} {hit[0]}"
    steps = np.diff(hit)
    if n == 2 or (steps == steps[0]).all():
        numbers = [str(index) for index in hit]
        return f"{plural(name)} {listed(numbers) if n < 5 else ', '.join([*numbers[:2], '...', numbers[-1]])}"
    return ""


def _starts(wrong: np.ndarray, axes: list[int]) -> bool:
    """Whether the errors begin at the first index of one of the axes."""
    return any(bool(wrong.take(0, axis=axis).any()) for axis in axes)


def on_the_border(evidence: Evidence) -> Iterator[Explanation]:
    """All errors lie in a frame of rows and columns; of a kernel's gradient the inner entries are right."""
    names = evidence.axes
    rows = [axis for axis, name in enumerate(names) if name.endswith("row")]
    columns = [axis for axis, name in enumerate(names) if name.endswith("column")]
    if not rows or not columns or not evidence.wrong.any():
        return
    others = tuple(axis for axis in range(len(names)) if axis not in (*rows, *columns))
    informative = _informative(evidence)
    wrong, known = (np.any(array, axis=others, keepdims=True) for array in (evidence.wrong, informative))
    wrong, known = wrong.reshape(wrong.size // wrong.shape[columns[0]], -1), known.reshape(-1, known.shape[columns[0]])
    H, W = wrong.shape
    frames = []
    for margins in itertools.product(range(min(FRAME, H - 1) + 1), range(min(FRAME, H - 1) + 1),
                                     range(min(FRAME, W - 1) + 1), range(min(FRAME, W - 1) + 1)):
        top, bottom, left, right = margins
        inner = np.zeros_like(wrong)
        inner[top:H - bottom, left:W - right] = True
        if 3 * (H - top - bottom) < H or 3 * (W - left - right) < W:
            continue  # that is no border
        frame = ~inner & known
        if (inner & known).any() and frame.any() and not (wrong & inner).any() and wrong[frame].mean() >= FILLED \
                and _only(evidence.wrong, informative, np.expand_dims(frame, others)):
            frames.append((int(frame.sum()), margins))
    if frames:
        sides = [f"the {side} {name}" if width == 1 else f"the {side} {width} {plural(name)}"
                 for width, side, name in zip(min(frames)[1], ("top", "bottom", "left", "right"),
                                              ("row", "row", "column", "column")) if width]
        yield Explanation("border", f"wrong on the border only ({listed(sides)}){_how(evidence)}; right inside. Is the "
                                    f"padding handled as in forward?", 1.0, LOCATED)


def _how(evidence: Evidence) -> str:
    """Say what the wrong entries are, if that is simple: zero, or a multiple of the right ones."""
    wrong = evidence.wrong
    analytic, truth = evidence.analytic[wrong], evidence.truth[wrong]
    if not analytic.any():
        return ", where it is zero"
    ratio = analytic[truth != 0] / truth[truth != 0]
    if ratio.size > 1 and ratio.size == analytic.size and np.ptp(ratio) <= 1e-6 * abs(ratio[0]):
        return f", by a factor of {evidence.factor(ratio[0], 6)}"
    return ""


HYPOTHESES = (only_there, on_the_border)
