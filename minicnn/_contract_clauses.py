"""The clauses about arithmetic: each tries a layer in one way and yields what it found wrong."""

from __future__ import annotations

import math

import numpy as np

from minicnn import kernels
from minicnn._contract_subject import (
    Finding,
    Findings,
    Subject,
    accepted,
    clause,
    copies,
    difference,
    grads_of,
    kernel_set,
    known_chance,
    thread_count,
    weights_of,
    words,
)
from minicnn._gradcheck_contract import shape_advice
from minicnn.gradcheck import check_layer

LARGE = 3 << 15     # numbers in a batch that the fast kernels share among threads
ORDER = 1e-10       # float64, relative to the largest entry: sums taken in another order
SETS = 1e-9         # the same for the two kernel sets


@clause("runs", "build, forward and backward run and give arrays", "correct this first; nothing else was tried",
        needs=())
def _runs(subject: Subject) -> Findings:
    layer = subject.fresh()
    if not layer.built:
        yield Finding("a layer with an output_shape after build", "output_shape is None",
                      "call super().build(input_shape) first in build")
        return
    for training in (False, True):
        out = layer.forward(subject.inputs(5), training=training)
        if not isinstance(out, np.ndarray) or not out.ndim:
            yield Finding(f"an array from forward(x, training={training})", f"{type(out).__name__}")
            return
    dx = layer.backward(subject.upstream(out))
    if not isinstance(dx, np.ndarray):
        yield Finding("the gradient of the input, an array, from backward", f"{type(dx).__name__}")
    for key, gradient in layer.grads.items():
        if not isinstance(gradient, np.ndarray):
            yield Finding("arrays in layer.grads", f"grads[{key!r}] is {type(gradient).__name__}")


@clause("repeatable", "the same weights, input and step give the same bits",
        "take chance from minicnn.streams: generator(self.seed, 'purpose', self.index, self.next_step())",
        needs=("runs",))
def _repeatable(subject: Subject) -> Findings:
    with known_chance() as untouched:
        first, second = subject.train(subject.fresh(step=1)), subject.train(subject.fresh(step=1))
        if not untouched():
            yield Finding("NumPy's and Python's global random states are left alone", "they have changed")
    if apart := difference(first, second):
        yield Finding("two equal layers agree in the same step", apart)
        return
    layer = subject.fresh(step=2)
    state = copies(layer.state)
    subject.train(layer)
    layer.step, layer.state = 1, state
    if apart := difference(first, subject.train(layer)):
        yield Finding("what a layer gives in step 1 does not depend on the steps it ran before", apart)


@clause("shapes", "forward gives the shape that compute_output_shape says, backward that of the input",
        "return dx in the shape of the input")
def _shapes(subject: Subject) -> Findings:
    layer = subject.fresh()
    said = layer.compute_output_shape(subject.shape)
    if not isinstance(said, tuple):
        yield Finding("a tuple from compute_output_shape", f"{said!r}", "return tuple(...)")
    elif said != layer.output_shape:
        yield Finding(f"{layer.output_shape} (layer.output_shape) from compute_output_shape{subject.shape}",
                      f"{said}", "return a tuple that follows from input_shape and the constructor's arguments alone")
    x = subject.inputs(5)
    for training in (False, True):
        out = layer.forward(x, training=training)
        if out.shape != (5, *(layer.output_shape or ())):
            yield Finding(f"an output of shape (5, {str(layer.output_shape)[1:]}, as layer.output_shape says",
                          f"{out.shape} with training={training}", shape_advice(layer, x.shape, out.shape))
    dx = layer.backward(subject.upstream(out))
    if dx.shape != x.shape:
        yield Finding(f"backward gives {x.shape}, as the input", f"{dx.shape}")


@clause("batches", "any batch size; outside training each input is computed by itself",
        "treat the first axis as the batch: no size of it kept, no sum over it in forward(training=False)")
def _batches(subject: Subject) -> Findings:
    layer = subject.fresh("float64")
    for n in (5, 1, 3):
        for key, array in subject.train(layer, n).items():
            if key in ("out", "dx") and len(array) != n:
                yield Finding(f"{n} rows for {n} inputs", f"{key} of shape {array.shape}")
    x = subject.inputs(5, dtype="float64")
    out = subject.fresh("float64").forward(x.copy()).copy()
    for rows in ([2], [4, 0, 3, 1, 2]):
        if apart := difference({"out": out[rows]}, {"out": subject.fresh("float64").forward(x[rows])}, ORDER):
            yield Finding(f"inputs {rows} of a batch give the same outputs as in the whole batch", apart)


@clause("dtypes", "all arrays are float32 in float32, float64 in float64",
        "begin forward with x = self.check_input(x); make arrays with x.dtype or self.dtype")
def _dtypes(subject: Subject) -> Findings:
    for dtype, other in (("float32", "float64"), ("float64", "float32")):
        layer = subject.fresh(dtype)
        results = subject.train(layer) | weights_of(layer)
        results["out in inference"] = layer.forward(subject.inputs(5, dtype=dtype))
        results[f"out for an input of {other}"] = layer.forward(subject.inputs(5, dtype=other))
        for key, array in results.items():
            if array.dtype != dtype:
                yield Finding(f"{dtype} throughout in a layer of dtype {dtype}", f"{key} is {array.dtype}")


@clause("arguments", "inputs, upstream gradients and parameters are not modified",
        "compute into a new array: no +=, no out=x, no x[...] = on what was given")
def _arguments(subject: Subject) -> Findings:
    layer = subject.fresh()
    x = subject.inputs(5)
    given = {"x": x} | {f"params[{key!r}]": array for key, array in layer.params.items()}
    before = copies(given)
    for training in (False, True):
        out = layer.forward(x, training=training)
        if apart := difference(before, given):
            yield Finding(f"what was given to forward(training={training}) stays as it is", apart)
    given["dout"] = subject.upstream(out)
    before = copies(given)
    layer.backward(given["dout"])
    if apart := difference(before, given):
        yield Finding("what was given to backward stays as it is", apart)


@clause("results", "no later call overwrites an array that was returned",
        "return a new array from every call; no buffer is used twice")
def _results(subject: Subject) -> Findings:
    layer = subject.fresh()
    results = subject.train(layer) | {"out in inference": layer.forward(subject.inputs(5, "another x"))}
    before = copies(results)
    subject.train(layer, what="a third x")
    layer.forward(subject.inputs(5, "a fourth x"))
    if apart := difference(before, results):
        yield Finding("what forward and backward returned stays when they are called again", apart)


@clause("inference", "forward(x) outside training leaves no trace and no room for chance",
        "change state, averages and counters only if training; add chance only if training")
def _inference(subject: Subject) -> Findings:
    layer = subject.fresh()
    subject.train(layer)
    weights = copies(weights_of(layer))
    out = layer.forward(subject.inputs(5, "another x"), training=False).copy()
    layer.forward(subject.inputs(5, "a third x"), training=False)
    if apart := difference(weights, weights_of(layer)):
        yield Finding("parameters and state stay", apart)
    layer.step = 2
    if apart := difference({"out": out}, {"out": layer.forward(subject.inputs(5, "another x"), training=False)}):
        yield Finding("the same input gives the same output whatever was computed in between, and in every step", apart)
    elif apart := difference({"out": out}, {"out": layer.forward(subject.inputs(5, "another x"))}):
        yield Finding("forward(x) is forward(x, training=False)", apart)
    one, other = subject.fresh(step=None), subject.fresh(step=None)
    for twin in (one, other):
        subject.train(twin)
    other.forward(subject.inputs(5, "another x"), training=False)
    if apart := difference(subject.train(one), subject.train(other)):
        yield Finding("an inference between two training steps changes nothing in the second", apart)


@clause("keeping", "backward uses what the last training forward kept, and refuses if there is nothing",
        "hand arrays to self.keep(training, ...) in forward and take them from self.kept(...) in backward; with "
        "nothing to keep, call both without arrays")
def _keeping(subject: Subject) -> Findings:
    layer = subject.fresh()
    out = layer.forward(subject.inputs(5), training=False)
    if found := accepted(lambda: subject.fresh().backward(subject.upstream(out))):
        yield Finding("a StateError from backward before any forward", found)
    if found := accepted(lambda: layer.backward(subject.upstream(out))):
        yield Finding("a StateError from backward after forward(training=False) alone", found)
    results = copies(subject.train(layer))
    results["out"] = layer.forward(subject.inputs(5), training=True).copy()
    layer.forward(subject.inputs(5, "another x"), training=False)
    if apart := difference(results, {"out": results["out"]} | subject.backward(layer, results["out"])):
        yield Finding("gradients of the last *training* forward, whatever was computed outside training since", apart)
    layer.release()
    if found := accepted(lambda: layer.backward(subject.upstream(out))):
        yield Finding("a StateError from backward after layer.release(), which drops what was kept", found)


@clause("grads", "backward assigns one gradient to each parameter: twice the same, not added up",
        "assign self.grads = {...} with the keys of self.params in every backward ({} without parameters)")
def _grads(subject: Subject) -> Findings:
    layer = subject.fresh()
    out = layer.forward(subject.inputs(5), training=True)
    layer.grads = {"left over": np.zeros(1, np.float32)}
    results = []
    for _ in range(2):
        dx = layer.backward(subject.upstream(out))
        results.append(copies({"dx": dx} | grads_of(layer)))
    if layer.grads.keys() != layer.params.keys():
        yield Finding(f"gradients of {words(layer.params)}", words(layer.grads))
    for key in layer.params.keys() & layer.grads.keys():
        if layer.grads[key].shape != layer.params[key].shape:
            yield Finding(f"grads[{key!r}] of shape {layer.params[key].shape}, as params[{key!r}]",
                          f"{layer.grads[key].shape}")
    if apart := difference(results[0], results[1]):
        yield Finding("backward after an equal backward gives the same", apart)
        return
    layer.needs_input_gradient = False
    layer.backward(subject.upstream(out))
    if apart := difference(results[0], {"dx": results[0]["dx"]} | grads_of(layer)):
        yield Finding("the same grads with needs_input_gradient = False (only dx may be None then)", apart)


@clause("gradients", "gradients are those of finite differences in float64",
        "look at one tensor after the other with minicnn.gradcheck.check_layer", needs=("runs", "repeatable", "shapes"))
def _gradients(subject: Subject) -> Findings:
    with np.errstate(all="ignore"):  # the check's largest step may leave a logarithm's domain; it then takes a smaller
        report = check_layer(subject.layer, subject.shape, x=subject.x, seed=subject.seed)
    if not report.ok:
        yield Finding("the gradients of finite differences", str(report).partition("\n")[2])  # without the title


@clause("views", "strided, Fortran-ordered and read-only arrays are as good as others",
        "use no x.data, no x.shape = and no in-place operation; np.ascontiguousarray where the order matters")
def _views(subject: Subject) -> Findings:
    layer = subject.fresh("float64")
    results = copies(subject.train(layer))
    dout = subject.upstream(results["out"])
    for (form, some_x), some_dout in zip(_forms(subject.inputs(5, dtype="float64")).items(), _forms(dout).values()):
        out = layer.forward(some_x, training=True)
        found = {"out": out} | subject.backward(layer, out, some_dout)
        if apart := difference(results, found, ORDER):
            yield Finding(f"{form} arrays give the same as contiguous ones", apart)


def _forms(array: np.ndarray) -> dict[str, np.ndarray]:
    wide = np.full((*array.shape[:-1], 2 * array.shape[-1]), np.nan)
    wide[..., ::2] = array
    read_only = array.copy()
    read_only.flags.writeable = False
    return {"strided": wide[..., ::2], "reversed": array[::-1].copy()[::-1],
            "Fortran-ordered": np.asfortranarray(array), "read-only": read_only}


@clause("threads", "1, 2 and 3 threads give the same bits", "let no result depend on which thread is done first: cut "
        "the batch by its size, and add partial sums in a fixed order", sets=("fast",))
def _threads(subject: Subject) -> Findings:
    shape = subject.fresh().output_shape or ()
    n = max(5, min(-(-LARGE // math.prod(subject.shape)), 8 * LARGE // math.prod(shape)))
    with thread_count(1):
        alone = subject.train(subject.fresh(), n)
    for count in (2, 3):
        with thread_count(count):
            if apart := difference(alone, subject.train(subject.fresh(), n)):
                yield Finding(f"{count} threads give the bits of one", apart)


@clause("kernel sets", "fast and reference kernels give the same, up to rounding",
        "call kernels by name, kernels.conv2d(...), in forward and backward; keep nothing of one set for the other",
        sets=("fast",))
def _kernel_sets(subject: Subject) -> Findings:
    results = {}
    for name in kernels.SETS:
        with kernel_set(name):
            results[name] = subject.train(subject.fresh("float64"))
    if apart := difference(results["reference"], results["fast"], SETS):
        yield Finding("both kernel sets agree", apart)
