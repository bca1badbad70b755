"""Hypotheses that hold for any layer: a factor, a sign, an order of axes, a shift, a mask between the two gradients."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np

from minicnn._diagnosis_evidence import ACCEPTED, FITTED, LOCATED, Evidence, Explanation, listed, plural
from minicnn.layers.base import Layer

CLOSE = 1e-5        # a ratio equals a constant within this part
AXES_LIMIT = 200_000    # entries of a tensor whose axes are reordered in every way


def all_zero(evidence: Evidence) -> Iterator[Explanation]:
    """Nothing arrives."""
    if not evidence.analytic.any() and evidence.wrong.any():
        yield Explanation("zero", "the gradient is zero everywhere. Is an array of zeros returned that is never "
                                  "filled, or a product with an empty mask?")


def constant_ratio(evidence: Evidence) -> Iterator[Explanation]:
    """One factor between analytic and numeric gradient, and where it may come from."""
    there = evidence.known & (np.abs(np.nan_to_num(evidence.truth)) > 1e-3 * evidence.scale)
    ratios = evidence.analytic[there] / evidence.truth[there]
    if not ratios.size:
        return
    ratio = float(np.median(ratios))
    score = evidence.score(ratio * evidence.truth)
    if score < ACCEPTED or abs(ratio) < 1e-9:
        return
    origins = origins_of(abs(ratio), evidence)
    if ratios.size < 3 and not origins and abs(ratio + 1) > CLOSE:
        return  # any two numbers have a ratio
    if abs(ratio + 1) <= CLOSE:
        yield Explanation("sign", "the sign is wrong everywhere: it equals minus the numeric gradient. Is a minus lost "
                                  "or added?", score)
        return
    why = f": {' or '.join(origins[:2])}" if origins else ""
    yield Explanation("ratio", f"it is {evidence.factor(ratio, 6)} times the numeric gradient everywhere{why}"
                               f"{'' if why.endswith('?') else '.'}", score, FITTED if not origins else 0)


def origins_of(ratio: float, evidence: Evidence) -> list[str]:
    """Say what a positive factor may come from: sizes and settings that equal it."""
    found = []
    for words, value in _special_factors(evidence.layer):
        if abs(ratio - value) <= CLOSE * value:
            found.append(words)
    for name, value in _sizes(evidence):
        if value > 1 and abs(ratio - value) <= CLOSE * value:
            found.append(f"{name} is {value}: is a mean missing, or a sum taken twice?")
        elif value > 1 and abs(ratio * value - 1) <= CLOSE:
            found.append(f"1 / {value}, and {value} is {name}: is it averaged where it should be summed?")
        elif value > 2 and abs(ratio * (value - 1) / value - 1) <= CLOSE:
            found.append(f"{value} / {value - 1}, and {value} is {name}: is one too few counted?")
        elif value > 2 and abs(ratio * value / (value - 1) - 1) <= CLOSE:
            found.append(f"{value - 1} / {value}, and {value} is {name}: is one too few counted?")
    plain = {2: "is it added twice?", 0.5: "is it halved?"}
    return found + [words for value, words in plain.items() if abs(ratio - value) <= CLOSE]


def _special_factors(layer: Layer | None) -> Iterator[tuple[str, float]]:
    rate = getattr(layer, "rate", 0)
    if rate:
        kept = 1 - rate
        yield f"1 - rate = {kept:.6g}: is dropout's factor 1 / (1 - rate) missing?", kept
        yield "1 / (1 - rate): is dropout's factor applied twice?", 1 / kept
        yield "(1 - rate) / rate: is it divided by the rate instead of 1 - rate?", kept / rate
        yield "(1 - rate)²: is it multiplied by 1 - rate instead of divided?", kept**2
        yield "rate (1 - rate): is it multiplied by the rate?", rate * kept
    epsilon = getattr(layer, "epsilon", None)
    if epsilon:
        yield "1 / epsilon: is something divided by epsilon alone?", 1 / epsilon


def _sizes(evidence: Evidence) -> list[tuple[str, int]]:
    """Return the counts a sum or a mean may have run over."""
    x, out = evidence.x, evidence.out
    sizes = [] if x is None else [("the batch size", len(x))]
    if x is None or out is None:
        return sizes
    if out.ndim == 4:
        pixels = out.shape[1] * out.shape[2]
        sizes += [("the number of output pixels", pixels), ("images times output pixels", len(x) * pixels),
                  ("the number of output rows", out.shape[1]), ("the number of output columns", out.shape[2])]
    if x.ndim == 4:
        sizes += [("the number of pixels", x.shape[1] * x.shape[2])]
    sizes += [("the number of input channels", x.shape[-1]), ("the number of output channels", out.shape[-1])]
    window = getattr(evidence.layer, "kernel_size", None) or getattr(evidence.layer, "pool_size", None)
    if window:
        sizes += [("the number of entries of the window", window[0] * window[1])]
    strides = getattr(evidence.layer, "strides", None)
    if strides:
        sizes += [("the product of the strides", strides[0] * strides[1])]
    if out.ndim > 2:
        sizes += [("the number of outputs of one image", math.prod(out.shape[1:]))]
    return sizes


def ratio_per_index(evidence: Evidence) -> Iterator[Explanation]:
    """One factor for each channel, image or row."""
    for axis in reversed(range(evidence.truth.ndim)):
        size, rest = evidence.truth.shape[axis], tuple(i for i in range(evidence.truth.ndim) if i != axis)
        if size < 2 or evidence.known.sum() < 3 * size:
            continue
        truth = np.where(evidence.known, evidence.truth, 0)
        squares = (truth**2).sum(axis=rest, keepdims=True)
        factors = (evidence.analytic * truth).sum(axis=rest, keepdims=True) / np.where(squares > 0, squares, 1)
        score = evidence.score(factors * evidence.truth)
        if score < ACCEPTED:
            continue
        name, signs = evidence.axes[axis], np.abs(np.abs(factors[squares > 0]) - 1) <= CLOSE
        if signs.all() and (factors < 0).any():
            yield Explanation("sign", f"the sign is wrong for some {plural(name)} and right for others.", score, FITTED)
        elif not (np.abs(factors[squares > 0] - 1) <= CLOSE).any():  # else it is a matter of place
            low, high = (evidence.factor(end(factors[squares > 0])) for end in (np.min, np.max))
            yield Explanation("factor", f"each {name} is off by a factor of its own, {low} to {high}. Is a "
                                        f"number per {name} (a scale, a deviation) missing or applied twice?", score,
                              FITTED)


def factor_of_known_array(evidence: Evidence) -> Iterator[Explanation]:
    """Entry by entry the input, output, upstream gradient or parameter too much or too little; or that array itself."""
    shape = evidence.truth.shape
    arrays = {"the input": evidence.x, "the output": evidence.out, "the upstream gradient": evidence.upstream}
    arrays |= {f"the {key}": array for key, array in getattr(evidence.layer, "params", {}).items()}
    for name, array in arrays.items():
        if array is None or array.shape != shape:
            continue
        there = (array != 0) & evidence.known
        masked = np.sum(evidence.truth[there] == 0) > 0.05 * there.sum()
        yield from evidence.best("mask" if masked else "factor", [
            (f"it equals {name}, unchanged. Is the layer's own {'mask' if masked else 'derivative'} left out?", array)])
        yield from evidence.best("factor", [
            (f"it equals the numeric gradient times {name}. Is that factor one too many?", evidence.truth * array)])
        over = np.divide(evidence.truth, array, out=np.zeros(shape), where=array != 0)
        yield from evidence.best("factor", [
            (f"it equals the numeric gradient divided by {name}. Is that factor missing?", over)])
        surplus = np.where(evidence.known, evidence.analytic - evidence.truth, 0)
        share = float(np.sum(surplus * array) / max(np.sum(np.where(evidence.known, array, 0)**2), 1e-300))
        yield from evidence.best("missing term", [
            (f"{share:.6g} times {name} is added to it. Is a term there that forward does not have?",
             evidence.truth + share * array)], FITTED)


def reordered_axes(evidence: Evidence) -> Iterator[Explanation]:
    """Flipped, transposed, or reshaped in the wrong order: the analytic gradient, put right, equals the numeric one."""
    given, shape = evidence.analytic, evidence.truth.shape
    if given.size > AXES_LIMIT:
        return
    for order in itertools.permutations(range(given.ndim)):
        moved = given.transpose(order)
        if moved.shape == shape:
            for flipped in itertools.product((False, True), repeat=given.ndim):
                if any(flipped[axis] and shape[axis] == 1 for axis in range(given.ndim)):
                    continue
                view = moved[tuple(slice(None, None, -1) if flip else slice(None) for flip in flipped)]
                score = evidence.score(view, evidence.truth)
                if score >= ACCEPTED:
                    yield Explanation("axes", _describe_order(evidence, order, flipped), score)
        if order == tuple(range(given.ndim)):
            continue
        names = listed([plural(evidence.axes[axis]) for axis in order])
        layout = given.reshape([shape[axis] for axis in order]).transpose(np.argsort(order))
        for candidate in (layout, moved.reshape(shape)):
            score = evidence.score(candidate, evidence.truth)
            if score >= ACCEPTED:
                yield Explanation("axes", f"the right numbers in the wrong order, as if an array of {names} had been "
                                          f"reshaped without a transpose, or the reverse.", score)


def _describe_order(evidence: Evidence, order: tuple[int, ...], flipped: tuple[bool, ...]) -> str:
    names = evidence.axes
    parts = []
    moved = [plural(names[axis]) for axis in range(len(order)) if order[axis] != axis]
    if moved:
        parts.append(f"its {listed(moved)} swapped (transpose{tuple(map(int, np.argsort(order)))})")
    turned = [plural(names[axis]) for axis in range(len(order)) if flipped[axis]]
    if turned:
        index = ", ".join("::-1" if flip else ":" for flip in flipped).removesuffix(", :").removesuffix(", :")
        parts.append(f"its {listed(turned)} in reverse order ([{index}])")
    return (f"it equals the numeric gradient with {' and '.join(parts)}. Is an array turned or transposed in backward "
            f"that should not be, or the reverse?")


def shifted(evidence: Evidence) -> Iterator[Explanation]:
    """The same numbers, one or two places on."""
    for axis, step in itertools.product(range(evidence.truth.ndim), (1, -1, 2, -2)):
        size = evidence.truth.shape[axis]
        if size < abs(step) + 2:
            continue
        back = np.roll(evidence.analytic, -step, axis)
        inside = np.arange(size) < size - step if step > 0 else np.arange(size) >= -step
        where = inside.reshape([-1 if other == axis else 1 for other in range(evidence.truth.ndim)])
        score = evidence.score(back, evidence.truth, where)
        if score >= ACCEPTED:
            name = evidence.axes[axis]
            yield Explanation("geometry", f"it is the numeric gradient shifted by {step} along the {plural(name)}. Is "
                                          f"an offset (the padding, a start index) off by {abs(step)}?", score)


def same_numbers_elsewhere(evidence: Evidence) -> Iterator[Explanation]:
    """Another order of the same numbers along one axis, or altogether."""
    if not evidence.known.all() or evidence.truth.size < 3:
        return
    truth, given = evidence.truth, evidence.analytic
    for axis in range(truth.ndim):
        size = truth.shape[axis]
        if not 2 < size <= 64:
            continue
        ours, theirs = (np.moveaxis(array, axis, 0).reshape(size, -1) for array in (given, truth))
        equal = (np.abs(ours[:, None] - theirs[None]) <= evidence.tolerance).all(axis=2)      # (size, size)
        if equal.any(axis=1).all() and len(set(equal.argmax(axis=1))) == size:
            yield Explanation("axes", f"the {plural(evidence.axes[axis])} are right but in another order, "
                                      f"{equal.argmax(axis=1).tolist()}.", 1.0, FITTED)
    if np.all(np.abs(np.sort(given, axis=None) - np.sort(truth, axis=None)) <= evidence.tolerance):
        yield Explanation("axes", "the right numbers in another order. Is an array reshaped where it should be "
                                  "transposed, or a gradient sent to the wrong places?", 1.0, LOCATED)


def of_another_tensor(evidence: Evidence) -> Iterator[Explanation]:
    """Gradients exchanged between two parameters of one shape."""
    yield from evidence.best("swapped", [
        (f"it equals the gradient of {name}. Are the two exchanged in self.grads?", other)
        for name, other in evidence.others.items() if other.shape == evidence.truth.shape])


def another_mask(evidence: Evidence) -> Iterator[Explanation]:
    """Zero where it should not be, or the reverse; right (but for a factor) elsewhere."""
    tiny = 1e-12 * evidence.scale
    given, true = np.abs(evidence.analytic) > tiny, np.abs(np.nan_to_num(evidence.truth)) > tiny
    known = evidence.known
    surplus, lost, both = int((known & given & ~true).sum()), int((known & ~given & true).sum()), known & given & true
    ratios = evidence.analytic[both] / evidence.truth[both]
    ratio = float(np.median(ratios)) if ratios.size else 1.0
    steady = np.abs(ratios - ratio) <= 1e-4 * abs(ratio)
    if not surplus + lost or (ratios.size and steady.mean() < ACCEPTED):
        return
    factor = "" if abs(ratio - 1) <= CLOSE else f"; elsewhere it is {ratio:.6g} times the numeric gradient"
    if not both.any() and surplus and lost:
        words = "it is zero exactly where the numeric gradient is not, and the reverse: the mask is turned round"
    elif not lost:
        words = (f"it is not zero in {surplus} entries through which the layer lets nothing pass: the mask is missing "
                 f"or too wide")
    elif not surplus:
        words = (f"it is zero in {lost} entries through which the layer does pass something: a mask too many, or too "
                 f"narrow")
    else:
        words = (f"another mask: it is zero in {lost} entries where the numeric gradient is not, and the reverse in "
                 f"{surplus}. Is the mask of forward used, or a new one")
    yield Explanation("mask", f"{words}{factor}{'?' if 'or a new one' in words else '.'}", 1.0, LOCATED)


def wrong_on_one_side(evidence: Evidence) -> Iterator[Explanation]:
    """Wrong only where the input (the output, the upstream gradient) has one sign."""
    for name, array in (("input", evidence.x), ("output", evidence.out), ("upstream gradient", evidence.upstream)):
        if array is None or array.shape != evidence.truth.shape:
            continue
        for sign, side in (("positive", array > 0), ("negative", array < 0)):
            inside, outside = evidence.known & side, evidence.known & ~side
            if inside.sum() > 2 and outside.sum() > 2 and evidence.wrong[inside].mean() > ACCEPTED \
                    and not evidence.wrong[outside].any():
                yield Explanation("mask", f"wrong exactly where the {name} is {sign}. Does backward treat that side as "
                                          f"forward does?", 1.0, LOCATED)


def signs_differ(evidence: Evidence) -> Iterator[Explanation]:
    """The same magnitudes with other signs."""
    score = evidence.score(np.abs(evidence.analytic), np.abs(evidence.truth))
    if score >= ACCEPTED:
        yield Explanation("sign", "the magnitudes are right, some of the signs are not. Is an absolute value or a sign "
                                  "taken, or a difference turned round?", score, LOCATED)


def left_over(evidence: Evidence) -> Iterator[Explanation]:
    """Right in a fresh layer, wrong after another batch."""
    fresh = evidence.calls[0] if evidence.calls else None
    if isinstance(fresh, np.ndarray) and fresh.shape == evidence.truth.shape:
        score = evidence.score(fresh, evidence.truth)
        if score >= ACCEPTED:
            yield Explanation("accumulated", "it is right in a fresh layer, but wrong after another batch. Does "
                                             "backward use something kept from an earlier forward, or an array not "
                                             "cleared?", score)


def unused(evidence: Evidence) -> Iterator[Explanation]:
    """Forward does not depend on the tensor at all."""
    if evidence.known.all() and evidence.wrong.any() and not (np.abs(evidence.truth) > evidence.tolerance).any():
        yield Explanation("unused", "the numeric gradient is zero: the output does not depend on it, but backward says "
                                    "so. Does forward use it?")


FIRST = (all_zero, unused, left_over, constant_ratio, of_another_tensor, reordered_axes)
LAST = (shifted, factor_of_known_array, ratio_per_index, same_numbers_elsewhere, signs_differ)
AFTER_PLACES = (another_mask, wrong_on_one_side)    # a mask fits whatever is zero
