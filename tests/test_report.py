"""The report of a run: every picture on one page that needs nothing else; and which of two runs is better."""

from __future__ import annotations

import base64
import dataclasses
import html.parser
import json
import re

import numpy as np
import pytest

import digits
import folder
import page
import pictures
import recipes
import report
import runs
import train
from minicnn import saving
from minicnn.datasets import mnist
from minicnn.datasets.idx import write_idx
from minicnn.layers import Conv2D, Dense, Flatten, Input
from minicnn.models import Sequential

pytestmark = pytest.mark.usefixtures("reference_kernels", "threads")

SIZE = (7, 6)


@pytest.fixture
def toys(tmp_path):
    """Return a folder of four IDX files, 48 training and 30 test images of noise, called toys."""
    place = tmp_path / "toys"
    place.mkdir()
    rng = np.random.default_rng(0)
    for split, count in (("train", 48), ("t10k", 30)):
        write_idx(place / f"{split}-images-idx3-ubyte", rng.integers(0, 256, (count, *SIZE)).astype(np.uint8))
        write_idx(place / f"{split}-labels-idx1-ubyte", (np.arange(count) % 10).astype(np.uint8))
    return place


@pytest.fixture
def small(monkeypatch):
    """Make ``dense`` a network that is quickly drawn: a convolution of three filters."""
    def network(shape, classes, seed):
        return Sequential([Input(shape), Conv2D(3, (3, 2), activation="relu"), Flatten(),
                           Dense(classes, activation="softmax")], seed=seed)
    monkeypatch.setitem(recipes.RECIPES, "dense", dataclasses.replace(recipes.find("dense"), network=network))


@pytest.fixture
def undrawn(monkeypatch):
    """Draw nothing: for tests of everything else."""
    monkeypatch.setattr(pictures, "PICTURES", {})


@pytest.fixture
def trained(toys, tmp_path, monkeypatch):
    """Return the folder of a run on toys, without the pictures that a training leaves."""
    monkeypatch.setattr(pictures, "OF_A_TRAINING", ())
    assert train.main(["dense", "--data", str(toys), "--epochs", "2", "--batch-size", "16", "--seed", "3", "--out",
                       str(tmp_path / "out")]) == 0
    return tmp_path / "out"


class Page(html.parser.HTMLParser):
    """Collects what is on a page; every element must be closed where it was opened."""

    VOID = {"meta", "img", "br", "link"}

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


# --- one run -----------------------------------------------------------------------------------------------------

@pytest.mark.usefixtures("small")
def test_every_picture_is_on_a_page_that_needs_nothing_else(trained, monkeypatch, capsys):
    monkeypatch.setattr(folder, "DPI", 40)
    assert report.main([str(trained), "--digit", "7"]) == 0
    expected = {*folder.CONTENTS, *pictures.PICTURES, "report.html"} - {"checkpoint.safetensors"}
    assert {path.name for path in trained.iterdir()} == expected
    text = (trained / "report.html").read_text(encoding="utf-8")
    found = Page(text)
    images = [attributes for tag, attributes in found.attributes if tag == "img"]
    for image, name in zip(images, pictures.PICTURES, strict=True):
        png = (trained / name).read_bytes()
        assert png.startswith(b"\x89PNG")
        assert image["src"] == f"data:image/png;base64,{base64.b64encode(png).decode()}"
    assert images[-2]["alt"].endswith("respond to test image no. 7, a 7")
    assert not {"script", "link", "iframe"} & set(found.tags)
    assert not re.findall(r"""(?:src|href|action)\s*=\s*["'](?!data:)|https?:|url\(|@import""", text)
    assert "prefers-color-scheme: dark" in text
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in [
        attributes for tag, attributes in found.attributes if tag == "meta"]

    share = f"{100 * folder.read(str(trained)).right.sum() / 30:.2f} % of 30 toys test images right"
    assert share in found.text
    assert share in capsys.readouterr().out
    assert "95 % interval" in found.text
    assert "python experiments/train.py dense" in found.text
    assert "--seed 3" in found.text
    assert "disputed" not in found.text      # known for MNIST only


def test_without_convolutions_there_are_no_filters_to_show(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "save_figure", lambda figure, path: path.touch())
    before = {path.name: path.stat().st_mtime_ns for path in trained.iterdir()}
    assert report.main([str(trained), "--out", str(tmp_path / "new" / "figures")]) == 0
    expected = set(pictures.PICTURES) - {"feature_maps.png", "filters.png"} | {"report.html"}
    assert {path.name for path in (tmp_path / "new" / "figures").iterdir()} == expected
    assert {path.name: path.stat().st_mtime_ns for path in trained.iterdir()} == before


@pytest.mark.usefixtures("undrawn")
def test_a_reader_is_told_what_to_beware_of(trained):
    result = json.loads((trained / "result.json").read_text())
    result |= {"interrupted": True, "epochs": 1}
    result["data"]["fallback"] = "no mirror answered"
    (trained / "result.json").write_text(json.dumps(result))
    assert report.main([str(trained)]) == 0
    text = Page((trained / "report.html").read_text(encoding="utf-8")).text
    assert "interrupted after 1 of 2 epochs" in text
    assert "MNIST could not be had" in text


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(("spoil", "words"), [
    (lambda run, toys: (run / "predictions.safetensors").unlink(), "it lacks predictions.safetensors"),
    (lambda run, toys: (run / "result.json").write_text("{"), "is no JSON"),
    (lambda run, toys: (run / "predictions.safetensors").write_bytes(b"x" * 99), "predictions.safetensors"),
    (lambda run, toys: write_idx(toys / "t10k-images-idx3-ubyte", np.zeros((30, *SIZE), np.uint8)), "SHA-256 differ"),
    (lambda run, toys: (toys / "t10k-images-idx3-ubyte").unlink(), "t10k-images-idx3-ubyte"),
])
def test_a_run_that_is_no_longer_whole_is_one_message(toys, trained, capsys, spoil, words):
    spoil(trained, toys)
    assert report.main([str(trained)]) == 2
    shown = capsys.readouterr().err
    assert words in shown
    assert shown.startswith("error: ")


@pytest.mark.usefixtures("undrawn")
def test_wrong_commands_are_one_message(trained, tmp_path, capsys):
    for arguments, words in (([str(trained), "--digit", "30"], "0 to 29"), ([str(tmp_path)], "it lacks result.json"),
                             ([], "RUN"), ([str(trained)] * 3, "got 3 runs")):
        assert report.main(arguments) == 2
        assert words in capsys.readouterr().err


def test_text_on_the_page_is_text():
    nasty = '<b onload="x">&'
    parts = [page.heading(nasty), page.paragraph(nasty, "note"), page.command(nasty), page.facts([(nasty, nasty)]),
             page.numbers([nasty], [[nasty, nasty]])]
    found = Page(page.document(nasty, parts))
    assert found.text.count(nasty) == 9
    assert "b" not in found.tags


# --- disputed labels ---------------------------------------------------------------------------------------------

def judged(name, wrong):
    """Return the score of a network that is wrong on the images of these numbers, out of 10,000."""
    y = np.zeros(10_000, np.uint8)
    probabilities = np.tile(np.float32([0.9, 0.1]), (10_000, 1))
    probabilities[list(wrong)] = [0.2, 0.8]
    x = np.zeros((10_000, 2, 1), np.uint8)
    return runs.Score(digits.Digits(name, x[:9], y[:9], x, y), probabilities)


@pytest.mark.needs("mnist")
def test_the_disputed_images_are_numbered_as_mnists_files_are():
    _, (_, y) = mnist.load_data()
    published = [8, 0, 9, 4, 2, 5, 6, 6, 5, 5, 0, 1, 4, 6, 5]    # the labels that the reviewers were shown
    assert y[list(mnist.DISPUTED)].tolist() == published


def test_accuracy_without_disputed_labels_stands_beside_the_official_one():
    score = judged("MNIST", [*mnist.DISPUTED[:4], 0, 9999])
    assert score.sentence().startswith("99.94 % of 10,000 MNIST test images right (95 % interval 99.87 to 99.97 %)")
    assert score.undisputed == (9983, 9985)
    assert score.undisputed_sentence().startswith("Without the 15 whose labels are disputed: 99.98 % of 9,985 images")
    assert score.record()["undisputed"] == {"accuracy": 9983 / 9985, "correct": 9983, "total": 9985,
                                            "interval_95": pytest.approx([0.99927, 0.99995], abs=1e-5)}
    others = judged("strokes", mnist.DISPUTED[:4])
    assert (others.undisputed, others.undisputed_sentence(), others.record()["undisputed"]) == (None, "", None)


def test_disputed_mistakes_are_framed_in_the_pictures():
    material = pictures.Material(judged("MNIST", [mnist.DISPUTED[2], 77]), {}, None)
    for name in ("mistakes.png", "confused_pairs.png"):
        axes = [ax for ax in pictures.PICTURES[name].draw(material).axes if ax.images]
        framed = [ax.spines["left"].get_linewidth() > 2 for ax in axes]
        assert framed == [f"no. {mnist.DISPUTED[2]}" in ax.get_xlabel() for ax in axes]
        assert sum(framed) == 1


# --- two runs ----------------------------------------------------------------------------------------------------

@pytest.fixture
def pretended(tmp_path):
    """Return a function that writes the folder of a run with these answers right, of as many."""
    def write(name, right, digest="same"):
        place = tmp_path / name
        place.mkdir()
        labels = np.zeros(len(right), np.uint8)
        probabilities = np.where(np.asarray(right, bool)[:, None], [0.9, 0.1], [0.3, 0.7]).astype(np.float32)
        saving.write(place / "predictions.safetensors", {"probabilities": probabilities, "labels": labels}, {})
        result = {"test_data": "toys", "data": {"sha256": {"x_test": digest, "y_test": "same"}}}
        (place / "result.json").write_text(json.dumps(result))
        (place / "model.safetensors").touch()
        return str(place)
    return write


def test_what_could_be_chance_is_called_so(pretended, capsys):
    first, second = pretended("a", [1] * 90 + [0] * 7 + [1] * 3), pretended("b", [1] * 90 + [1] * 4 + [0] * 6)
    assert report.main([first, second]) == 0
    out = capsys.readouterr().out
    assert f"{first}  93.00 % of 100 toys test images right (95 % interval 86.25 to 96.57 %)" in out
    assert f"Both right 90; only {first} 3; only {second} 4; both wrong 3." in out
    assert "They cannot be told apart by these 100 images" in out
    assert "would differ so much in 100 % of all cases (McNemar's exact test, p = 1)." in out


def test_what_is_hardly_chance_names_the_better(pretended, capsys):
    worse, better = pretended("worse", [0] * 10 + [1] * 40), pretended("better", [1] * 10 + [1] * 39 + [0])
    assert report.main([worse, better]) == 0
    assert f"{better} is better than {worse}: two equally good ones would differ so much in 1.2 % of all cases " \
           "(McNemar's exact test, p = 0.012)." in capsys.readouterr().out


def test_chance_is_never_said_to_be_none(pretended, capsys):
    """Of 1,100 images that only one read right the exact p is below the least float."""
    worse, better = pretended("worse", [0] * 1100), pretended("better", [1] * 1100)
    assert report.main([worse, better]) == 0
    assert "in less than 0.01 % of all cases (McNemar's exact test, p < 0.0001)." in capsys.readouterr().out


def test_runs_tested_on_different_images_are_not_compared(pretended, capsys):
    assert report.main([pretended("a", [1, 0]), pretended("b", [1, 1], digest="other")]) == 2
    assert "tested on different images" in capsys.readouterr().err
