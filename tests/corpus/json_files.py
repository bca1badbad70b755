"""JSON: the header and the description of model files, and what scripts keep of runs."""

from __future__ import annotations

import functools
import json
import tempfile
from pathlib import Path

import numpy as np

from corpus import Case, as_file, as_folder
from corpus.doors import ACCURACY, BENCHMARK, LOAD_MODEL, REPORT, saved
from corpus.model_files import forged, good, signed
from minicnn import saving

NESTED = "[" * 100_000 + "]" * 100_000


def described(change):
    """Return a model file whose description is changed."""
    return forged(lambda tensors, description, data: change(description) and None)


def written(replace, by):
    """Return a model file in the text of whose description something is replaced."""
    def text(description):
        found = json.dumps(description)
        assert replace in found
        return found.replace(replace, by, 1)
    return forged(lambda *_: None, text)


def header(text):
    return signed(text if isinstance(text, bytes) else text.encode(), b"")


def inner(text):
    return header(json.dumps({"__metadata__": {"minicnn": text}}))


def layer(change, number=2):
    return described(lambda description: change(description["architecture"]["layers"][number]))


def training(change):
    return described(lambda description: change(description["training"]))


MODEL = {
    "a header that is none": (header("not JSON at all"), "is no JSON"),
    "a header cut short": (header('{"__metadata__": {'), "is no JSON"),
    "a header that is a list": (header("[1, 2]"), "lacks the 'minicnn' description"),
    "a header in UTF-16": (signed("{}".encode("utf-16"), b""), "is no JSON"),
    "a header with a key twice": (header('{"a": 1, "a": 2}'), "the key 'a' is there twice"),
    "a header of 100,000 brackets": (header(NESTED), "brackets"),
    "a header of 30,000 brackets": (header(NESTED[:30_000] + NESTED[-30_000:]), "brackets"),
    "a description of 100,000 brackets": (inner(NESTED), "brackets"),
    "a description that is a list": (inner("[]"), "no JSON object"),
    "a description that is no text": (header('{"__metadata__": {"minicnn": {}}}'), "lacks the 'minicnn'"),
    "a description of half a million numbers": (inner(f"[{'1,' * 500_000}1]"), "no JSON object"),
    "a key twice in the description": (written('"name"', '"name": "a", "name"'), "the key 'name' is there twice"),
    "NaN": (written('"momentum": 0.99', '"momentum": NaN'), "found NaN"),
    "Infinity": (written('"momentum": 0.99', '"momentum": -Infinity'), "found -Infinity"),
    "a number too large for a double": (written('"momentum": 0.99', '"momentum": 1e999'), "1e999 is too large"),
    "a number of 5,000 digits": (written('"units": 3', f'"units": {"9" * 5000}'), "5,000 digits"),
    "a newer version": (described(lambda d: d.update(version=2)), "version 2; this minicnn reads version 1"),
    "a version of text": (described(lambda d: d.update(version="1")), "version '1'"),
    "a version of true": (described(lambda d: d.update(version=True)), "version True"),
    "no version": (described(lambda d: d.pop("version")), "version None"),
    "no digest": (described(lambda d: d.pop("sha256")), "SHA-256"),
    "a digest of 3": (described(lambda d: d.update(sha256="abc")), "SHA-256"),
    "an unknown key": (described(lambda d: d.update(code="import os")), "unknown key 'code'"),
    "no architecture": (described(lambda d: d.pop("architecture")), "no key 'architecture'"),
    "an architecture of text": (described(lambda d: d.update(architecture="cnn")), "expected an object"),
    "another kind of network": (described(lambda d: d["architecture"].update({"class": "Model"})), "'Model'; expected"),
    "a name that is a number": (described(lambda d: d["architecture"].update(name=3)), "architecture.name: found 3"),
    "a seed that is none": (described(lambda d: d["architecture"].update(seed=None)), "architecture.seed: found null"),
    "a negative seed": (described(lambda d: d["architecture"].update(seed=-1)), "seed is -1"),
    "layers that are an object": (described(lambda d: d["architecture"].update(layers={})), "expected a list"),
    "no layers": (described(lambda d: d["architecture"].update(layers=[])), "surplus"),
    "a layer of text": (described(lambda d: d["architecture"]["layers"].append("Dense")), "layers[3]: found"),
    "a layer without a class": (layer(lambda d: d.pop("class")), "layers[2]: found no key 'class'"),
    "a layer without settings": (layer(lambda d: d.pop("config")), "layers[2]: found no key 'config'"),
    "an unknown layer": (layer(lambda d: d.update({"class": "Dence"})), "class 'Dence', which is unknown"),
    "a layer that is a module": (layer(lambda d: d.update({"class": "os.system"})), "class 'os.system'"),
    "an unknown setting": (layer(lambda d: d["config"].update(surprise=1)), "surprise"),
    "a setting of Keras' alone": (layer(lambda d: d["config"].update(kernel_regularizer=None)), "kernel_regularizer"),
    "units of text": (layer(lambda d: d["config"].update(units="many")), "units is 'many'"),
    "units of 0": (layer(lambda d: d["config"].update(units=0)), "units is 0"),
    "units of 2.5": (layer(lambda d: d["config"].update(units=2.5)), "units is 2.5"),
    "units missing": (layer(lambda d: d["config"].pop("units")), "units"),
    "use_bias of text": (layer(lambda d: d["config"].update(use_bias="no")), "use_bias='no'"),
    "an unknown activation": (layer(lambda d: d["config"].update(activation="relo")), "Did you mean 'relu'"),
    "an activation that is a list": (layer(lambda d: d["config"].update(activation=[1])), "activation"),
    "a type of float16": (layer(lambda d: d["config"].update(dtype="float16")), "dtype='float16'"),
    "a layer's name that is a list": (layer(lambda d: d["config"].update(name=["a"])), "('a',)"),
    "a momentum of 1": (layer(lambda d: d["config"].update(momentum=1.0), 1), "momentum is 1.0"),
    "two layers of a name": (layer(lambda d: d["config"].update(name="flatten")), "a layer 'flatten' already"),
    "an input shape of text": (layer(lambda d: d["config"].update(input_shape="28"), 0), "input shape '28'"),
    "training that is a list": (described(lambda d: d.update(training=[])), "expected an object"),
    "an unknown optimizer": (training(lambda d: d["optimizer"].update(name="os.system")), "is no optimizer"),
    "an optimizer's unknown setting": (training(lambda d: d["optimizer"]["config"].update(speed=1)), "'speed'"),
    "a negative learning rate": (training(lambda d: d["optimizer"]["config"].update(learning_rate=-1)), "is -1"),
    "negative updates": (training(lambda d: d.update(updates=-5)), "trained for -5 updates"),
    "iterations beyond all numbers": (training(lambda d: d["optimizer"].update(iterations=10**99)), "2**63"),
    "iterations of 1.5": (training(lambda d: d["optimizer"].update(iterations=1.5)), "iterations: found 1.5"),
    "an unknown loss": (training(lambda d: d["loss"].update(name="mse")), "'mse' is no loss"),
    "an unknown metric": (training(lambda d: d.update(metrics=["acuracy"])), "Did you mean 'accuracy'"),
    "a metric that is an object": (training(lambda d: d.update(metrics=[{}])), "metrics[0]: found {}"),
    "fuse of text": (training(lambda d: d.update(fuse="yes")), "training.fuse"),
}


@functools.cache
def a_run() -> dict[str, bytes]:
    """Return the files of a run's folder, its result.json such as train.py writes."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(saved(Path(place)))
        saving.write(Path(place) / "p.safetensors", {"probabilities": np.full((4, 10), 0.1, np.float32),
                                                     "labels": np.arange(4, dtype=np.uint8)}, {})
        return {"model.safetensors": path.read_bytes(),
                "predictions.safetensors": (Path(place) / "p.safetensors").read_bytes(),
                "result.json": json.dumps(RESULT).encode()}


RESULT = {
    "command": "python experiments/train.py", "recipe": "dense", "full": False, "seed": 0, "parameters": 50,
    "data": {"name": "toys", "training_images": 8, "validation_images": 0, "test_images": 4, "fallback": None,
             "own_test": False, "repeated": {"validation": 0, "test": 0}, "sha256": {"x_test": "0", "y_test": "0"}},
    "batch_size": 4, "epochs_planned": 1, "epochs": 1, "epoch_kept": None, "interrupted": False,
    "training": {"optimizer": {"class": "Adam"}, "loss": "sparse_categorical_crossentropy", "callbacks": [],
                 "augmentation": None, "validation": 0.0},
    "seconds_per_epoch": [1.5], "history": {"loss": [0.5]}, "weights_sha256": "0",
    "machine": {"processor": "x", "threads": 1, "kernels": "fast", "system": "x"}, "versions": {"numpy": "2"},
    "test_data": "toys", "accuracy": 0.5, "correct": 2, "total": 4, "interval_95": [0.1, 0.9],
    "data_from": {"source": "toys", "limit": None}}


def run(content=None, **files):
    """Return the files of a run, some of them replaced or, with None, missing."""
    replaced = {name.replace("_", "."): found for name, found in files.items()}
    replaced |= {} if content is None else {"result.json": content if isinstance(content, bytes) else content.encode()}
    return {name: found for name, found in (a_run() | replaced).items() if found is not None}


def result(**changes):
    return run(json.dumps({key: found for key, found in (RESULT | changes).items() if found != "gone"}))


RUN = {
    "result.json that is none": (run("oops"), "is no JSON"),
    "result.json that is empty": (run(""), "is no JSON"),
    "result.json that is a list": (run("[]"), "expected an object"),
    "result.json of 100,000 brackets": (run(NESTED), "brackets"),
    "result.json with a key twice": (run('{"seed": 1, "seed": 2}'), "'seed' is there twice"),
    "result.json with NaN": (run(json.dumps(RESULT | {"accuracy": float("nan")})), "found NaN"),
    "result.json in latin-1": (run(json.dumps(RESULT | {"recipe": "\xe9"}, ensure_ascii=False).encode("latin-1")),
                               "is no JSON"),
    "result.json without its data": (result(data="gone"), "no key 'data'"),
    "result.json with epochs of text": (result(epochs="ten"), 'epochs: found "ten"'),
    "result.json with a history that is a list": (result(history=[1]), "history: found [1]"),
    "result.json with curves of text": (result(history={"loss": ["a"]}), 'history.loss[0]: found "a"'),
    "result.json without digests": (result(data=RESULT["data"] | {"sha256": {}}), "no key 'x_test'"),
    "no model": (run(model_safetensors=None), "lacks model.safetensors"),
    "predictions that are damaged": (run(predictions_safetensors=a_run()["predictions.safetensors"][:-1]), "SHA-256"),
    "predictions that are a model": (run(predictions_safetensors=good()), "'probabilities'"),
}
PAGE = b"<!-- results:begin -->\n<!-- results:end -->\n"
MEASURED = {"accuracy-a.json": b"[]", "README.md": PAGE}
CASES = [
    *(Case("JSON", name, as_file("m.safetensors", content), LOAD_MODEL, (words,))
      for name, (content, words) in MODEL.items()),
    *(Case("JSON", name, as_folder(files), REPORT, (words,)) for name, (files, words) in RUN.items()),
    *(Case("JSON", f"a file of seeds that is {name}", as_folder(MEASURED | {"accuracy-a.json": content}), ACCURACY,
           ("accuracy-a.json", words))
      for name, content, words in (("none", b"{", "is no JSON"), ("a list", b"[]", "expected an object"),
                                   ("empty of them", b'{"seeds": []}', "no key"),
                                   ("nested", NESTED.encode(), "brackets"))),
    *(Case("JSON", f"a benchmark that is {name}", as_folder({"benchmark.json": content, "README.md": PAGE}), BENCHMARK,
           ("benchmark.json", words))
      for name, content, words in (("none", b"{", "is no JSON"), ("a list", b"[]", "expected an object"))),
]
