"""Hypotheses about Conv2D, Dense and MaxPooling2D: what would the formula give if one thing in it were different?"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from minicnn._diagnosis_evidence import AXES, Evidence, Explanation, listed, plural
from minicnn._diagnosis_layers import Candidates, applies, inside, linear_of, shaped
from minicnn._diagnosis_textbook import Geometry, Linear, Normalization, Pool, windows, winners
from minicnn.layers import BatchNormalization, Conv2D, Dense, MaxPooling2D

PARTS_LIMIT = 1e7       # numbers in all summands of a gradient
PARTS = {"n": "image", "i": "output row", "j": "output column", "p": "kernel row", "q": "kernel column",
         "f": "output channel"}
SUMMED = {"input": "ijpqf", "kernel": "nij", "bias": "nij"}     # what the gradient of each tensor sums over


def reorderings(array: np.ndarray, names: str, dense: bool) -> Candidates:
    """Return (words, array) with axes flipped, swapped, or reshaped without a transpose; the shape stays.

    Of the arrays of a Dense layer two axes are its own: (1, 1, D, K) and (N, 1, 1, D).
    """
    row = 0 if names == "the kernel" else 1
    own = ((2, 3) if row == 0 else (0, 3)) if dense else (0, 1, 2, 3)
    named = dict(zip(own, AXES["kernel" if row == 0 else "input", len(own)]))
    for which, axes in (("rows", (row,)), ("columns", (row + 1,)), ("rows and columns", (row, row + 1))):
        if all(array.shape[axis] > 1 for axis in axes):
            yield f"{names} has its {which} in reverse order", np.flip(array, axes)
    if array.shape[-1] > 1:
        yield f"{names} has its last axis, the {plural(named[3])}, in reverse order", array[..., ::-1]
    for order in itertools.permutations(range(array.ndim)):
        moved = [axis for axis in range(array.ndim) if order[axis] != axis]
        if not moved or not named.keys() >= set(moved):
            continue
        transposed = f"transpose{tuple(own.index(order[axis]) for axis in own)}"
        if array.transpose(order).shape == array.shape:
            yield (f"{names} has its {listed([plural(named[axis]) for axis in moved])} swapped, {transposed}",
                   array.transpose(order))
        yield (f"{names} is reshaped where it should be transposed, or the reverse",
               array.reshape([array.shape[axis] for axis in order]).transpose(np.argsort(order)))
        yield (f"{names} is transposed, {transposed}, before it is reshaped",
               array.transpose(order).reshape(array.shape))


def wrong_order_inside(evidence: Evidence) -> Iterator[Explanation]:
    """The kernel, the input or the upstream gradient enter turned, transposed or reshaped in the wrong order."""
    if not applies(evidence, Conv2D, Dense):
        return
    right, dense = linear_of(evidence), isinstance(evidence.layer, Dense)
    changed: list[tuple[str, Linear]] = [(words, replace(right, dz=dz)) for words, dz in
                                         reorderings(right.dz, "the upstream gradient", dense)]
    if evidence.what == "input":
        changed += [(words, replace(right, w=w)) for words, w in reorderings(right.w, "the kernel", dense)]
    elif evidence.what == "kernel":
        changed += [(words, replace(right, x=x)) for words, x in reorderings(right.x, "the input", dense)]
    yield from evidence.best("axes", ((f"it is what comes out if {words}. Check that line of backward.",
                                       shaped(evidence, linear.gradient(evidence.what))) for words, linear in changed))


def parts_of(evidence: Evidence) -> Iterator[tuple[str, np.ndarray]]:
    """Return, for every letter that a gradient sums over, its name and the summands along it."""
    layer, x, upstream, _ = inside(evidence)
    if isinstance(layer, MaxPooling2D):
        pool = Pool.of(layer, x, upstream)
        yield from ((PARTS[letter].replace("kernel", "window"), pool.gradient(letter)) for letter in "ijpq")
    elif isinstance(layer, BatchNormalization):
        norm = Normalization.of(layer, x, upstream)
        each = norm.dout * (norm.x_hat if evidence.what == "gamma" else 1)
        for axis in norm.axes:
            rest = tuple(other for other in norm.axes if other != axis)
            yield ("image", "row", "column")[axis], each.sum(axis=rest)
    else:
        linear = linear_of(evidence)
        for letter in SUMMED[evidence.what]:
            parts = linear.gradient(evidence.what, letter)
            yield PARTS[letter], parts.reshape(len(parts), *evidence.truth.shape)
        if evidence.what == "bias" and linear.dz.shape[1] > 1 and linear.dz.shape[2] > 1:
            yield "output pixel", linear.gradient("bias", "ij").reshape(-1, *evidence.truth.shape)
            yield "row of the product's matrix", linear.dz.reshape(-1, *evidence.truth.shape)


def sum_is_not_whole(evidence: Evidence) -> Iterator[Explanation]:
    """Some of the summands are left out, or count twice."""
    if not applies(evidence, Conv2D, Dense, MaxPooling2D, BatchNormalization):
        return
    if isinstance(evidence.layer, BatchNormalization) and evidence.what == "input":
        return
    for name, parts in parts_of(evidence):
        n, whole = len(parts), evidence.truth
        if parts.size > PARTS_LIMIT:
            continue
        if n < 2:
            continue
        sums = np.cumsum(parts, axis=0)
        candidates = [(f"only {name} {k} contributes", parts[k]) for k in range(n)]
        candidates += [(f"the contribution of {name} {k} is missing", whole - parts[k]) for k in range(n)]
        candidates += [(f"the contribution of {name} {k} counts twice", whole + parts[k]) for k in range(n)]
        for k in range(2, n - 1):
            candidates += [(f"the last {n - k} {plural(name)} do not contribute", sums[k - 1]),
                           (f"the first {k} {plural(name)} do not contribute", whole - sums[k - 1])]
        candidates += [(f"only every {step}. {name} contributes", parts[::step].sum(axis=0))
                       for step in (2, 3) if n > step + 1]
        yield from evidence.best("remainder", (
            (f"{words}. Is a sum over the {plural(name)} missing, or does it end too early?", gradient)
            for words, gradient in candidates))
    yield from _averaged(evidence)


def _averaged(evidence: Evidence) -> Iterator[Explanation]:
    """A mean over each pixel's windows in place of the sum."""
    if evidence.what != "input" or isinstance(evidence.layer, (Dense, BatchNormalization)):
        return
    layer, x, _, out = inside(evidence)
    geometry = Geometry.of(layer, x, out)
    R, Q = geometry.taps()
    counts = np.einsum("ipr,jqs->rs", R, Q)[:, :, None]
    mean = evidence.truth / np.where(counts > 0, counts, 1)
    yield from evidence.best("overlap", [("what overlapping windows send to a pixel is averaged, not added.", mean)])


def overwritten(evidence: Evidence) -> Iterator[Explanation]:
    """Overlapping windows overwrite each other's gradient: = where += is needed."""
    if evidence.what != "input" or not applies(evidence, Conv2D, MaxPooling2D):
        return
    layer, x, upstream, out = inside(evidence)
    geometry = Geometry.of(layer, x, out)
    if not geometry.overlapping:
        return
    source = Pool.of(layer, x, upstream) if isinstance(layer, MaxPooling2D) else linear_of(evidence)
    R, Q = geometry.taps()
    # By entries of the window, (KH, H) and (KW, W); by windows, (OH, H) and (OW, W).
    for along, rows, columns in (("pq", R.sum(axis=0), Q.sum(axis=0)), ("ij", R.sum(axis=1), Q.sum(axis=1))):
        parts = source.gradient(along) if isinstance(source, Pool) else source.gradient("input", along)
        parts = parts.reshape(-1, *evidence.truth.shape)                        # (K, N, H, W, C)
        under = np.einsum("ar,bs->abrs", rows, columns)[:, :, None, :, :, None] > 0
        touched = np.broadcast_to(under.reshape(-1, *under.shape[2:]), parts.shape)
        for places, how in ((touched, "windows"), (parts != 0, "entries that are not zero")):
            for step, which in ((1, "last"), (-1, "first")):
                gradient = np.zeros_like(evidence.truth)
                for part, place in zip(parts[::step], places[::step]):
                    gradient = np.where(place, part, gradient)
                yield from evidence.best("overlap", [(
                    f"of overlapping {how} only the {which} one counts. Is dx[...] = used where dx[...] += is needed?",
                    gradient)])


def changed_geometries(right: Geometry) -> Iterator[tuple[str, str, Geometry]]:
    """Return (kind, words, geometry) for strides, padding and window taken the wrong way."""
    (SH, SW), (KH, KW), (top, bottom, left, right_) = right.stride, right.window, right.padding
    for words, stride in (("the strides of rows and columns are exchanged", (SW, SH)),
                          ("the stride of rows is used for both axes", (SH, SH)),
                          ("the stride of columns is used for both axes", (SW, SW)),
                          ("the strides are left out", (1, 1)),
                          ("the size of the window is used as stride", (KH, KW)),
                          ("the size of the window, rows and columns exchanged, is used as stride", (KW, KH))):
        yield "geometry", words, replace(right, stride=stride)
    for words, padding in (("the padding of rows and columns is exchanged", (left, right_, top, bottom)),
                           ("the padding is left out", (0, 0, 0, 0)),
                           ("top and bottom padding are exchanged", (bottom, top, left, right_)),
                           ("left and right padding are exchanged", (top, bottom, right_, left)),
                           ("padding is taken from the wrong end", (bottom, top, right_, left)),
                           ("the padding of rows is used for both axes", (top, bottom, top, bottom)),
                           ("the padding of columns is used for both axes", (left, right_, left, right_)),
                           ("the padding of rows is left out", (0, 0, left, right_)),
                           ("the padding of columns is left out", (top, bottom, 0, 0))):
        yield "border", words, replace(right, padding=padding)
    for rows, columns in itertools.product((-1, 0, 1), repeat=2):
        if rows or columns:
            yield "geometry", f"every window lies {rows:+d} rows and {columns:+d} columns off", replace(
                right, padding=(top - rows, bottom + rows, left - columns, right_ + columns))


def changed_taps(right: Geometry) -> Iterator[tuple[str, str, np.ndarray, np.ndarray]]:
    """Return (kind, words, R, Q): the geometries above, and other ways to treat what lies outside the image."""
    for kind, words, geometry in changed_geometries(right):
        yield kind, words, *geometry.taps()
    R, Q = right.taps()
    for words, treat in (("what lies in the padding wraps round to the other side (negative indices?)", np.mod),
                         ("what lies in the padding goes to the nearest pixel", lambda r, n: np.clip(r, 0, n - 1))):
        bent = []
        for axis in (0, 1):
            i, p, r = np.ogrid[:right.count[axis], :right.window[axis], :right.size[axis]]
            at = i * right.stride[axis] + p - right.padding[2 * axis]
            bent.append((treat(at, right.size[axis]) == r).astype(np.float64))
        yield "border", words, bent[0], bent[1]
        yield "border", f"{words}, rows only", bent[0], Q
        yield "border", f"{words}, columns only", R, bent[1]
    whole = [(array.sum(axis=2).min(axis=1) > 0)[:, None, None] * array for array in (R, Q)]
    yield "border", "windows that reach into the padding are left out", whole[0], whole[1]
    yield "border", "windows that reach into the padding above or below are left out", whole[0], Q
    yield "border", "windows that reach into the padding at the sides are left out", R, whole[1]
    yield "axes", "the window's rows are counted backwards", R[:, ::-1], Q
    yield "axes", "the window's columns are counted backwards", R, Q[:, ::-1]
    yield "axes", "the window's rows and columns are counted backwards", R[:, ::-1], Q[:, ::-1]


def wrong_geometry(evidence: Evidence) -> Iterator[Explanation]:
    """Strides, padding or windows of backward are not those of forward."""
    if evidence.what == "bias" or not applies(evidence, Conv2D, MaxPooling2D):
        return
    layer, x, upstream, out = inside(evidence)
    right = Geometry.of(layer, x, out)
    source = Pool.of(layer, x, upstream) if isinstance(layer, MaxPooling2D) else linear_of(evidence)
    for kind, words, R, Q in changed_taps(right):
        changed = replace(source, R=R, Q=Q)
        gradient = changed.gradient() if isinstance(changed, Pool) else changed.gradient(evidence.what)
        yield from evidence.best(kind, [(f"it is what comes out if {words} in backward.", gradient)])


# --- max-pooling -------------------------------------------------------------------------------------------------

def wrong_winner(evidence: Evidence) -> Iterator[Explanation]:
    """The gradient goes to another pixel of the window, or to all of them."""
    if not applies(evidence, MaxPooling2D):
        return
    layer, x, dout, _ = inside(evidence)
    pool = Pool.of(layer, x, dout)
    values = windows(x, pool.R, pool.Q)
    visible = np.isfinite(values)     # not in the padding
    everywhere, turned = visible.astype(np.float64), values[:, :, :, ::-1, ::-1]
    PH, PW = values.shape[3:5]
    number = np.einsum("nijpqc,pq->nijc", pool.chosen, np.arange(PH * PW).reshape(PH, PW))[:, :, :, None, None]
    misread = (number == (np.arange(PH)[:, None] * PH + np.arange(PW))[:, :, None]).astype(np.float64)
    first, last = np.zeros_like(values), np.zeros_like(values)
    first[:, :, :, 0, 0] = last[:, :, :, -1, -1] = 1
    lowest = winners(np.where(visible, -values, -np.inf))
    share = everywhere / np.maximum(everywhere.sum(axis=(3, 4), keepdims=True), 1)
    changes = (("axes", "the winner's row and column in the window are exchanged", winners(values, transposed=True)),
               ("axes", "the winner's number is read in rows as long as the window is high", misread),
               ("mask", "the gradient goes to every pixel of the window, not to the winner alone", everywhere),
               ("factor", "the gradient is shared equally by the window, as in average pooling", share),
               ("mask", "the gradient goes to the first pixel of the window, not to the winner", first),
               ("mask", "the gradient goes to the last pixel of the window, not to the winner", last),
               ("mask", "the gradient goes to the smallest pixel of the window", lowest),
               ("axes", "the winner's place is counted from the window's end", winners(values)[:, :, :, ::-1, ::-1]),
               ("axes", "the winner's row is counted from the window's end", winners(values)[:, :, :, ::-1]),
               ("axes", "the winner's column is counted from the window's end", winners(values)[:, :, :, :, ::-1]),
               ("mask", "the gradient goes to all but the winner", everywhere - pool.chosen),
               ("mask", "the largest entry is looked for in a turned window", winners(turned)))
    for kind, words, chosen in changes:
        yield from evidence.best(kind, [(f"{words}.", replace(pool, chosen=chosen).gradient())])
    per_image = pool.chosen[:1].repeat(len(pool.chosen), axis=0)
    yield from evidence.best("mask", [("the winners of the first image are used for all images.",
                                       replace(pool, chosen=per_image).gradient())])


HYPOTHESES = (wrong_winner, sum_is_not_whole, wrong_order_inside, wrong_geometry, overwritten)
