"""predict.py: what is written is what the network says, whole or not at all; pictures with their probabilities."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import digits
import folder
import photos
import predict
from minicnn.datasets import kaggle
from minicnn.layers import Dense, Flatten, Input
from minicnn.models import Sequential

pytestmark = pytest.mark.usefixtures("reference_kernels", "threads")


@pytest.fixture
def run(tmp_path):
    """Return the folder of a run, its network untrained."""
    return save(tmp_path / "run")


def save(place, side=28, classes=10, model_file="model.safetensors", weights=None):
    network = Sequential([Input((side, side, 1)), Flatten(), Dense(classes, activation="softmax")], seed=1)
    if weights is not None:
        network.set_weights([weights * array for array in network.get_weights()])
    place.mkdir()
    network.save(place / model_file)
    return place


def said_by(run, x):
    return predict.load(str(run)).predict(digits.scaled(x))


def images(rng, n=23, side=28):
    return rng.integers(0, 256, (n, side, side), dtype=np.uint8)


def draw_digit(path, rng, ink=30):
    """Write a picture of a bar and a dot."""
    grey = np.full((60, 50), 240, np.uint8)
    left, top = rng.integers(5, 20, 2)
    grey[top:top + 30, left:left + 6] = ink
    grey[top:top + 7, left + 12:left + 20] = ink
    Image.fromarray(grey).save(path)
    return path


# --- a table -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("which", ["folder", "file"])
def test_a_submission_has_a_row_for_every_image_in_order(tmp_path, monkeypatch, rng, run, capsys, which):
    x = images(rng)
    kaggle.write_csv(tmp_path / "test.csv.gz", x)
    monkeypatch.setattr(kaggle, "TEST_ROWS", 23)
    out = tmp_path / "mine.csv"
    out.write_text("an older one")
    name = run if which == "folder" else run / "model.safetensors"
    assert predict.main([str(name), str(tmp_path / "test.csv.gz"), "--out", str(out)]) == 0
    rows = list(csv.reader(out.read_text().splitlines()))
    assert rows[0] == ["ImageId", "Label"]
    assert [int(number) for number, _ in rows[1:]] == list(range(1, 24))
    wanted = said_by(run, x).argmax(axis=1)
    assert [int(label) for _, label in rows[1:]] == wanted.tolist()
    shown = capsys.readouterr()
    assert "23 rows, ImageId 1 to 23" in shown.out
    assert shown.err == ""
    counts = shown.out.split("images")[1].split()[:10]
    assert [int(count) for count in counts] == np.bincount(wanted, minlength=10).tolist()


def test_without_a_name_it_is_submission_csv_and_oddities_are_said(tmp_path, monkeypatch, rng, run, capsys):
    x = images(rng)
    kaggle.write_csv(tmp_path / "train.csv", x, np.zeros(23, np.uint8))
    monkeypatch.chdir(tmp_path)
    assert predict.main(["run", "train.csv"]) == 0
    assert len((tmp_path / "submission.csv").read_text().splitlines()) == 24
    err = capsys.readouterr().err
    assert "Kaggle's test.csv has 28,000 rows" in err
    assert "train.csv has labels; they were not looked at" in err


@pytest.mark.parametrize(("options", "words"), [
    ({"classes": 12, "weights": 1e4}, "expected digits from 0 to 9"), ({"side": 20}, r"images of shape (20, 20, 1)"),
    ({"weights": np.float64(3e39)}, "NaN or infinite")])
def test_a_network_that_cannot_answer_writes_nothing(tmp_path, rng, capsys, options, words):
    run = save(tmp_path / "other", **options)
    kaggle.write_csv(tmp_path / "test.csv", images(rng, 200))
    (tmp_path / "submission.csv").write_text("older")
    with np.errstate(all="ignore"):
        assert predict.main([str(run), str(tmp_path / "test.csv"), "--out", str(tmp_path / "submission.csv")]) == 2
    assert words in capsys.readouterr().err
    assert (tmp_path / "submission.csv").read_text() == "older"


# --- pictures ----------------------------------------------------------------------------------------------------

def test_a_picture_is_predicted_with_all_its_probabilities(tmp_path, rng, run, capsys):
    path = draw_digit(tmp_path / "seven.png", rng)
    assert predict.main([str(run), str(path)]) == 0
    head, line = capsys.readouterr().out.splitlines()
    shares = said_by(run, photos.read(path)[None])[0]
    assert head.split() == ["picture", "digit", "sure", *(f"{k}:" for k in range(10))]
    cells = line.replace(" %", "%").split()
    assert cells[:2] == ["seven.png", str(shares.argmax())]
    assert cells[2:] == [f"{100 * share:.0f}%" for share in [shares.max(), *shares]]


def test_the_pictures_of_a_folder_go_to_a_file_and_a_figure(tmp_path, monkeypatch, rng, run, capsys):
    place = tmp_path / "photos"
    place.mkdir()
    paths = [draw_digit(place / f"{name}.png", rng, ink) for name, ink in (("b", 20), ("a", 90))]
    (place / "notes.txt").write_text("mine")
    drawn = []
    monkeypatch.setattr(folder, "save_figure", lambda figure, path: drawn.append((figure, path)))
    assert predict.main([str(run), str(place), "--out", str(tmp_path / "photos.csv"), "--prepared",
                         str(tmp_path / "seen.png")]) == 0
    rows = list(csv.DictReader((tmp_path / "photos.csv").read_text().splitlines()))
    assert [row["file"] for row in rows] == ["a.png", "b.png"]
    x = np.stack([photos.read(path) for path in reversed(paths)])
    wanted = said_by(run, x)
    assert [int(row["label"]) for row in rows] == wanted.argmax(axis=1).tolist()
    np.testing.assert_allclose([[float(row[f"probability_{k}"]) for k in range(10)] for row in rows], wanted, atol=1e-6)
    ((figure, path),) = drawn
    assert path == tmp_path / "seen.png"
    np.testing.assert_array_equal([ax.images[0].get_array() for ax in figure.axes if ax.images], x)
    assert [ax.get_xlabel() for ax in figure.axes[:2]] == [
        f"{name}\n{row.argmax()}, {predict.percent(row.max())} sure" for name, row in zip(("a.png", "b.png"), wanted)]
    assert figure.get_suptitle() == "2 pictures of photos as the network sees them, and what it takes them for"
    assert "a.png" in capsys.readouterr().out
    alone = predict.seen(paths[0], [Path(f"{'long' * 9}.jpeg")], x[:1], wanted[:1])
    assert alone.get_suptitle() == "b.png as the network sees it, and what it takes it for"
    assert alone.axes[0].get_xlabel().splitlines()[0] == "longlongl…ng.jpeg"


def test_a_bad_picture_stops_a_folder_only_if_it_is_alone(tmp_path, rng, run, capsys):
    place = tmp_path / "photos"
    place.mkdir()
    Image.fromarray(np.full((30, 30), 255, np.uint8)).save(place / "blank.png")
    (place / "broken.png").write_bytes(b"nothing")
    assert predict.main([str(run), str(place)]) == 2
    assert "no picture in" in capsys.readouterr().err
    draw_digit(place / "good.png", rng)
    assert predict.main([str(run), str(place)]) == 2
    shown = capsys.readouterr()
    assert "good.png" in shown.out
    assert "blank.png: found no ink" in shown.err
    assert "broken.png cannot be read" in shown.err
    assert predict.main([str(run), str(place / "blank.png")]) == 2
    assert capsys.readouterr().out == ""


# --- what is refused ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("arguments", "words"), [
    ([], "RUN"), (["run"], "INPUT"), (["nowhere", "test.csv"], "neither a model file nor a folder"),
    (["empty", "test.csv"], "neither a model file"), (["test.csv", "test.csv"], "test.csv"),
    (["run", "nowhere.csv"], "nowhere.csv: there is no such"), (["run", "nowhere.png"], "nowhere.png: there is no"),
    (["run", "empty"], "holds no pictures"), (["run", "test.csv", "--out", "no/such/place.csv"], "no folder no/such"),
    (["run", "test.csv", "--prepared", "seen.png"], "--prepared is for pictures"),
    (["run", "cut.csv"], "row 2 (line 4 of the file), column 783 ('pixel783')")])
def test_a_wrong_command_is_one_message_and_status_2(tmp_path, monkeypatch, rng, run, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    kaggle.write_csv(tmp_path / "test.csv", images(rng, 3))
    text = (tmp_path / "test.csv").read_text()
    (tmp_path / "cut.csv").write_text(text[:text.rindex(",") + 1])
    assert predict.main(arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert words in err
    assert not (tmp_path / "submission.csv").exists()
