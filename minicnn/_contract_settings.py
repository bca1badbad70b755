"""The clauses about everything but arithmetic: refusing, describing and saving a layer."""

from __future__ import annotations

import inspect
import json
import tempfile
from pathlib import Path

import numpy as np

from minicnn._contract_subject import Finding, Findings, Subject, accepted, clause, copies, difference
from minicnn.layers import Flatten, Input, Layer
from minicnn.models import Sequential, load_model


@clause("refusals", "inputs of a wrong shape are refused by an error of the library with a message",
        "begin forward with x = self.check_input(x), set input_rank on the class, raise ShapeError in "
        "compute_output_shape")
def _refusals(subject: Subject) -> Findings:
    layer, shape = subject.fresh(), subject.shape
    out = layer.forward(subject.inputs(5), training=True).copy()
    wrong = {"with an axis too many": (5, *shape, 2)}
    if shape:
        wrong |= {"with an axis missing": (5, *shape[:-1]),
                  "with a last axis too long": (5, *shape[:-1], shape[-1] + 1),
                  "with a first axis too long": (5, shape[0] + 1, *shape[1:])}
    for what, sizes in wrong.items():
        for training in (False, True):
            x = np.ones(sizes, np.float32)
            if found := accepted(lambda x=x, training=training: layer.forward(x, training=training)):  # type: ignore[misc]
                yield Finding(f"a ShapeError for an input {what}, {sizes}, with training={training}", found)
                break
    if apart := difference({"out": out}, {"out": layer.forward(subject.inputs(5), training=True)}):
        yield Finding("a layer that refused an input works as before", apart)
    if found := accepted(lambda: layer.build(shape)):
        yield Finding("a StateError from a second build", found, "begin build with super().build(input_shape)")
    unbuilt = subject.unbuilt()
    if shape and not unbuilt.built:
        found = accepted(lambda: unbuilt.build((*shape[:-1], 0)))
        if found or unbuilt.built:
            yield Finding(f"a ShapeError from build({(*shape[:-1], 0)}), and a layer that is not built then",
                          found or "it is built", "begin build with super().build(input_shape)")


@clause("config", "config() goes through JSON and makes an equal layer",
        "take **base in the constructor and pass it to super().__init__; return super().config() | {...} with every "
        "other argument, in types JSON knows", sets=("fast",))
def _config(subject: Subject) -> Findings:
    layer = subject.fresh()
    for key in Layer.config(layer).keys() - layer.config().keys():
        yield Finding(f"{key!r} in config()", "it is missing")
    for key in inspect.signature(type(layer)).parameters:
        if key in vars(layer) and key not in layer.config():
            yield Finding(f"the constructor's argument {key!r} in config()", "it is missing")
    config = json.loads(json.dumps(layer.config(), allow_nan=False))
    twin = type(layer)(**config)
    again = json.loads(json.dumps(twin.config(), allow_nan=False))
    if again != config:
        yield Finding(f"the config {config} from a layer made from it", f"{again}")
    twin.seed, twin.index, twin.step = layer.seed, layer.index, layer.step
    if not twin.built:
        twin.build(subject.shape)
    twin.params, twin.state = copies(layer.params), copies(layer.state)
    before, after = ({"out in inference": one.forward(subject.inputs(5)).copy()} | subject.train(one)
                     for one in (layer, twin))
    if apart := difference(before, after):
        yield Finding("type(layer)(**layer.config()), with the same weights, computes the same", apart)


@clause("saving", "a saved and loaded layer has the same weights and computes the same bits",
        "keep what is learned in params and state (add_param, add_state), all other settings in config()",
        sets=("fast",), needs=("runs", "repeatable", "config"))
def _saving(subject: Subject) -> Findings:
    rest = [Flatten()] if isinstance(subject.layer, Input) else []  # Input alone makes no model
    model = Sequential([subject.unbuilt(), *rest], seed=subject.layer.seed)
    model.build((None, *subject.shape))
    for what in ("x", "another x"):
        model.forward(subject.inputs(5, what), training=True)
    for layer in model.layers:
        subject.move_weights(layer)
    kind = type(subject.layer)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        model.save(path)
        loaded = load_model(path, custom_layers={kind.__name__: kind})
    if apart := difference(model.named_weights(), loaded.named_weights()):
        yield Finding("equal weights after loading", apart)
    for twin in (model, loaded):
        for layer in twin.layers:
            layer.step = 3
    results = []
    for twin in (model, loaded):
        inference = twin.forward(subject.inputs(5, "a third x")).copy()
        out = twin.forward(subject.inputs(5), training=True)
        dx = np.asarray(twin.backward(subject.upstream(out)))
        results.append({"out in inference": inference, "out in training": out, "dx": dx})
    if apart := difference(results[0], results[1]):
        yield Finding("the same outputs and gradients after loading", apart)
