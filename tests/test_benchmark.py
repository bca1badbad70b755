"""The benchmark: the same network on all sides, whose turn it is, what is asked of whom. No time is judged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import benchmark
import benchmark_against
import benchmark_peers
import benchmark_processes
import benchmark_scaling
import benchmark_worker
import benchmark_workloads
import recipes
from benchmark_processes import MissingError, Process, by_turns, turned
from benchmark_workloads import NETWORKS, Workload
from minicnn.errors import ArgumentError, MinicnnError, StateError
from minicnn.layers import BatchNormalization, Conv2D, Dense, Flatten, Input, MaxPooling2D
from minicnn.models import Sequential

pytestmark = pytest.mark.usefixtures("reference_kernels", "threads")
SHAPE = (8, 6, 1)


class Local:
    """A side in this process, where tests would wait for another one."""

    def __init__(self, name, threads, python=None, settings=None):
        self.server = benchmark_worker.Server(name, threads)
        self.ask = self.server.ask

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


class Told:
    """A side that writes down what it is asked, and answers with a number of its own."""

    def __init__(self, name, log):
        self.name, self.log = name, log

    def ask(self, do, **request):
        self.log.append((self.name, do, request))
        return [float(len(self.name))] * request["calls"]


def tiny(input_shape, classes, seed):
    return Sequential([Input(input_shape), Conv2D(3, 3, padding="same", activation="relu"), BatchNormalization(),
                       MaxPooling2D(2), Flatten(), Dense(classes, activation="softmax")], name="tiny", seed=seed)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(benchmark_processes, "PAUSE", 0)


@pytest.fixture
def small(monkeypatch):
    """Make everything small: one network, a few images."""
    monkeypatch.setattr(benchmark_against, "NETWORKS", {"cnn": ("`cnn`", tiny)})
    monkeypatch.setattr(benchmark_against, "WORKLOADS", (
        Workload("tiny", "cnn", "train", 4, 3), Workload("tiny", "cnn", "infer", 4, 2),
        Workload("tiny", "cnn", "predict", 1, 1)))
    for name, value in {"IMAGE": SHAPE, "MNIST_IMAGES": 30, "MEMORY_STEPS": 2, "BATCH": 5}.items():
        monkeypatch.setattr(benchmark_against, name, value)


# --- the same network on all sides -------------------------------------------------------------------------------

@pytest.mark.needs("torch")
@pytest.mark.parametrize("network", NETWORKS)
def test_pytorch_computes_the_same_network(network):
    sides = {"minicnn": Local("minicnn", 1), "torch": Local("torch", 1)}
    difference = benchmark_against.build_everywhere(sides, NETWORKS[network][1], (28, 28, 1), 3)
    assert difference["torch"] < 1e-5
    model = NETWORKS[network][1]((28, 28, 1), 10, 0)
    theirs = sum(parameter.numel() for parameter in sides["torch"].server.side.model.parameters())
    assert theirs == sum(array.size for layer in model.layers for array in layer.params.values())


@pytest.mark.needs("torch")
def test_bf16_computes_it_with_fewer_bits():
    sides = {name: Local(name, 1) for name in ("minicnn", "torch", "torch-bf16")}
    difference = benchmark_against.build_everywhere(sides, tiny, SHAPE, 5)
    assert difference["torch"] < 1e-6 < difference["torch-bf16"] < 0.1


@pytest.mark.needs("keras")
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")
def test_keras_computes_the_same_network():
    """Here on PyTorch; in a comparison on TensorFlow."""
    sides = {"minicnn": Local("minicnn", 1), "keras": Local("keras", 1)}
    assert benchmark_against.build_everywhere(sides, recipes.cnn, SHAPE, 3)["keras"] < 1e-5
    side = sides["keras"].server.side
    np.testing.assert_allclose(side.predict(), side.infer(), atol=1e-6)
    side.choose(np.array([2, 0]))
    assert side.infer().shape == (2, 10)


@pytest.mark.needs("torch")
def test_another_network_is_not_timed(monkeypatch):
    """A batch normalization with other constants, which plain weights would hide."""
    right = benchmark_peers.torch_network

    def wrong(torch, layers, shape):
        changed = [{**layer, "config": layer["config"] | {"epsilon": 0.5}} for layer in layers]
        return right(torch, changed, shape)

    monkeypatch.setattr(benchmark_peers, "torch_network", wrong)
    with pytest.raises(StateError, match=r"tiny in PyTorch predicts other probabilities than ours"):
        benchmark_against.build_everywhere({"minicnn": Local("minicnn", 1), "torch": Local("torch", 1)}, tiny, SHAPE, 5)


@pytest.mark.needs("torch")
@pytest.mark.parametrize(("layer", "words"), [
    (Conv2D(3, 3, strides=2), "strides"), (Conv2D(3, 2, padding="same"), "convolution"),
    (MaxPooling2D(3, strides=2), "pooling")])
def test_what_cannot_be_translated_is_refused(layer, words):
    import torch
    layers = benchmark_workloads.description(Sequential([Input(SHAPE), layer], seed=0))
    with pytest.raises(ValueError, match=words):
        benchmark_peers.torch_network(torch, layers, SHAPE)


@pytest.mark.needs("torch")
def test_sides_train_on_the_images_chosen():
    """All sides see the same images in the same order, and their first losses agree."""
    losses = {}
    for name in ("minicnn", "torch"):
        side = Local(name, 1)
        benchmark_against.build_everywhere({"minicnn": Local("minicnn", 1), name: side}, tiny, SHAPE, 9)
        inner = side.server.side
        inner.choose(np.array([7, 0, 7]))
        assert len(inner.x) == len(inner.y) == 3
        loss = inner.train()
        losses[name] = loss[0] if isinstance(loss, (list, tuple)) else loss
    assert losses["torch"] == pytest.approx(losses["minicnn"], rel=1e-4)


@pytest.mark.needs("torch")
def test_pytorchs_epoch_trains_once_on_each_image_moved(monkeypatch):
    monkeypatch.setattr(benchmark_peers, "EPOCH_BATCH", 4)
    side = Local("torch", 1)
    benchmark_against.build_everywhere({"minicnn": Local("minicnn", 1), "torch": side}, tiny, SHAPE, 11)
    inner, seen = side.server.side, []
    images, labels = inner.x.clone(), inner.y.clone()
    weights = [parameter.detach().clone() for parameter in inner.model.parameters()]
    right = inner.train
    monkeypatch.setattr(inner, "train", lambda: [seen.append((inner.x, inner.y)), right()])
    inner.epoch()
    assert [len(x) for x, _ in seen] == [4, 4, 3]
    assert sorted(int(label) for _, y in seen for label in y) == sorted(labels.tolist())
    assert not any((image == other).all() for x, _ in seen for image in x for other in images)
    assert (inner.x == images).all()
    assert any((old != new).any() for old, new in zip(weights, inner.model.parameters(), strict=True))


def test_the_scaled_network_is_cnn_at_32_filters():
    ours, recipe = (benchmark_workloads.description(network((28, 28, 1), 10, 0)) for network in (
        benchmark_workloads.scaled_cnn(32), recipes.cnn))
    assert ours == recipe
    assert [layer["config"]["filters"] for layer in benchmark_workloads.description(
        benchmark_workloads.scaled_cnn(8)((28, 28, 1), 10, 0)) if layer["class"] == "Conv2D"] == [8, 8, 16, 16]


# --- turns -------------------------------------------------------------------------------------------------------

def test_everyone_begins_once():
    assert [turned("abc", turn) for turn in range(4)] == [list("abc"), list("bca"), list("cab"), list("abc")]


def test_sides_take_turns():
    log = []
    times = by_turns({"a": Told("a", log), "bb": Told("bb", log)}, "train", calls=2, repeats=3)
    assert times == {"a": [1.0] * 6, "bb": [2.0] * 6}
    assert [name for name, _, _ in log] == ["a", "bb", "bb", "a", "a", "bb"]
    assert all(entry[1:] == ("time", {"work": "train", "calls": 2}) for entry in log)


def test_the_first_call_is_not_timed():
    calls = []
    assert len(benchmark_worker.timed(lambda: calls.append(1), calls=3)) == 3
    assert len(calls) == 4
    assert len(benchmark_worker.timed(lambda: calls.append(1), calls=1, warm_up=0)) == 1
    assert len(calls) == 5


# --- processes ---------------------------------------------------------------------------------------------------

def test_a_process_answers(tmp_path, monkeypatch):
    monkeypatch.setenv("MINICNN_KERNELS", "reference")
    with Process("minicnn", 1) as side:
        assert side.ask("about")["threads"] == 1
        side.ask("build", layers=benchmark_workloads.description(tiny(SHAPE, 10, 0)), shape=list(SHAPE), images=7)
        side.ask("probabilities", path=str(tmp_path / "p.npy"))
        assert len(side.ask("time", work="train", calls=2)) == 2
        side.ask("train_through", images=7, steps=2, batch_size=3)
        assert len(side.ask("time", work="epoch", calls=1, warm_up=0)) == 1
        assert side.ask("peak_memory") > 10
    assert np.load(tmp_path / "p.npy").shape == (7, 10)
    assert side._process.returncode == 0


def instead_of_torch(folder, text):
    """Return settings of a process that finds this in place of PyTorch."""
    (folder / "torch.py").write_text(text)
    return {"PYTHONPATH": os.pathsep.join([str(folder), str(Path(benchmark.__file__).parents[1])])}


def test_a_library_that_is_missing_is_told_from_one_that_breaks(tmp_path):
    with pytest.raises(MissingError, match="no such wheel"):
        Process("torch", 1, settings=instead_of_torch(tmp_path, "raise ImportError('no such wheel')"))
    with pytest.raises(MinicnnError, match=r"process of torch ended with status 3[^$]*out of luck") as caught:
        Process("torch", 1, sys.executable, instead_of_torch(
            tmp_path, "import sys\nprint('out of luck', file=sys.stderr)\nsys.exit(3)"))
    assert not isinstance(caught.value, MissingError)


def test_peak_memory_is_that_of_the_largest_moment():
    if sys.platform == "win32":
        assert np.isnan(benchmark_worker.peak_memory())
        return
    program = """if True:
        import benchmark_worker, numpy
        before = benchmark_worker.peak_memory()
        block = numpy.ones(200_000_000, numpy.uint8)
        del block
        print(before, benchmark_worker.peak_memory())"""
    done = subprocess.run([sys.executable, "-c", program], cwd=Path(benchmark.__file__).parent, capture_output=True,
                          text=True, check=True)
    before, after = map(float, done.stdout.split())
    assert 5 < before < 180  # of the new process, and not of this large one that started it
    assert 180 < after - before < 220


# --- a whole comparison ------------------------------------------------------------------------------------------

@pytest.mark.needs("torch")
@pytest.mark.usefixtures("small")
def test_a_comparison_holds_all_it_promises(capsys):
    result = benchmark_against.measure(["minicnn", "torch", "torch-bf16"], 1, 2, start=Local)
    assert list(result["sides"]) == ["minicnn", "torch", "torch-bf16"]
    assert result["sides"]["torch"]["threads"] == 1
    assert "bf16" in result["sides"]["torch-bf16"]["settings"]
    for row, calls in zip(result["workloads"], (3, 2, 1), strict=True):
        assert {name: len(times) for name, times in row["milliseconds"].items()} == dict.fromkeys(
            result["sides"], 2 * calls)
        assert row["medians"]["torch"] == pytest.approx(np.median(row["milliseconds"]["torch"]), abs=1e-4)
        assert set(row["largest_output_difference"]) == {"torch", "torch-bf16"}
    first = result["first_step"]["seconds"]
    assert {name: len(times) for name, times in first.items()} == {"minicnn, cold": 2, "minicnn": 2, "torch": 2}
    assert set(result["peak_memory"]["megabytes"]) == {"minicnn", "torch"}
    json.dumps(result)
    assert "tiny, predict, batches of 1" in capsys.readouterr().out


@pytest.mark.usefixtures("small")
def test_a_cold_start_finds_no_kernels_and_a_warm_one_those_of_the_cold(monkeypatch):
    started = []

    class Start(Local):
        def __init__(self, name, threads, python=None, settings=None):
            super().__init__(name, threads)
            (folder,) = settings.values()
            started.append((folder, os.listdir(folder)))
            Path(folder, "kernel").touch()

    benchmark_against.first_steps(["minicnn"], 1, 2, start=Start)
    (cold, none), (warm, some), (again, nothing), _ = started
    assert (cold == warm != again, none, some, nothing) == (True, [], ["kernel"], [])


def missing(*names):
    def start(name, *rest):
        if name in names:
            raise MissingError(f"No module named {name!r}")
        return Local("minicnn", 1)
    return start


def test_who_is_missing_is_left_out_and_named(capsys):
    with benchmark_against.open_sides(["minicnn", "torch", "keras"], 1, start=missing("keras")) as (sides, left_out):
        assert list(sides) == ["minicnn", "torch"]
    assert left_out == {"keras": "No module named 'keras'"}
    assert "TensorFlow is left out: No module named 'keras'" in capsys.readouterr().err


def test_nobody_to_compare_with_is_an_error_that_says_how_to_get_them():
    opened = benchmark_against.open_sides(["minicnn", "torch"], 1, start=missing("torch"))
    with pytest.raises(ArgumentError, match=r'pip install -e "\.\[compare\]"'), opened:
        pass


# --- growth ------------------------------------------------------------------------------------------------------

@pytest.mark.needs("torch")
def test_the_curves_have_all_their_points(monkeypatch):
    for name, value in {"BATCHES": (1, 3), "SIZES": (8,), "CHANNELS": (2,), "SIZES_BATCH": 2, "IMAGE": SHAPE,
                        "THREADS_BATCH": 5}.items():
        monkeypatch.setattr(benchmark_scaling, name, value)
    monkeypatch.setattr(recipes, "cnn", tiny)
    result = benchmark_scaling.measure(["minicnn", "torch"], 2, 1, start=Local)
    assert [(point["axis"], point["value"]) for point in result["points"]] == [
        ("batch", 1), ("batch", 3), ("image", 8), ("channels", 2), ("threads", 1), ("threads", 2)]
    for point, count in zip(result["points"][4:], (1, 2)):
        assert (point["value"], point["batch_size"]) == (count, 5)
        assert {name: len(times) for name, times in point["milliseconds"]["train"].items()} == {
            "minicnn": 3, "torch": 3}
    assert [set(point["per_image"]) for point in result["points"][:2]] == [{"infer"}, {"train", "infer"}]
    point = result["points"][1]
    assert point["per_image"]["train"]["torch"] == pytest.approx(
        np.median(point["milliseconds"]["train"]["torch"]) / 3, abs=1e-4)


def test_threads_double():
    assert [benchmark_scaling.thread_counts(most) for most in (1, 2, 3, 8)] == [[1], [1, 2], [1, 2, 3], [1, 2, 4, 8]]


def test_growth_is_the_ratio_of_two_points_of_a_curve():
    def point(axis, value, ours, theirs):
        return {"axis": axis, "value": value, "per_image": {work: {"minicnn": ours * k, "torch": theirs * k}
                                                           for k, work in enumerate(("train", "infer"), 1)}}
    points = [point("image", 28, 2, 3), point("image", 56, 8, 15), point("batch", 128, 1, 1)]
    assert benchmark_scaling.growth({"points": points}) == [
        ("image of 56x56 over 28x28", "train", {"minicnn": 4, "torch": 5}),
        ("image of 56x56 over 28x28", "infer", {"minicnn": 4, "torch": 5})]
