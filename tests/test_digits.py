"""What a run is trained and judged on: CSV files, MNIST by way of them, and images that are in both parts."""

from __future__ import annotations

import argparse
import json
import zipfile

import numpy as np
import pytest

import accuracy
import digits
import folder
import runs
import train
from minicnn.datasets import _places, kaggle, mnist, strokes
from minicnn.datasets.duplicates import occurring
from minicnn.errors import DataError, DownloadError
from mnist_files import fill

pytestmark = pytest.mark.usefixtures("reference_kernels", "threads")


def noise(count, seed=0):
    """Return images of 5 x 5 pixels, which are what a CSV file can hold, and labels."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 5, 5)).astype(np.uint8), (np.arange(count) % 10).astype(np.uint8)


# --- CSV files ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["train.csv", "my digits.csv.gz"])
def test_a_csv_file_is_judged_on_rows_of_its_own_and_says_so(tmp_path, name):
    x, y = noise(37)
    kaggle.write_csv(tmp_path / name, x, y)
    data = digits.load(str(tmp_path / name))
    tests = occurring(x, data.x_test)
    np.testing.assert_array_equal(data.x_test, x[tests])
    np.testing.assert_array_equal(data.y_test, y[tests])
    np.testing.assert_array_equal(data.x_train, np.delete(x, tests, axis=0))
    np.testing.assert_array_equal(data.y_train, np.delete(y, tests))
    assert tests.max() - tests.min() > len(tests)    # from all over it: a file may be sorted
    np.testing.assert_array_equal(digits.load(str(tmp_path / name)).x_test, data.x_test)
    assert (data.name, len(data.x_test), data.validation) == (name, 5, 3)    # a seventh of 37; a twelfth of 32
    assert (data.own_test, data.record()["own_test"], data.disputed) == (True, True, ())
    assert "5 test images, drawn at random from the file" in data.describe()
    (caution,) = data.cautions()
    assert caution.startswith(f"The test images are 5 rows of {name}, drawn at random and split off before training.")


@pytest.mark.parametrize("part", ["training", "test"])
def test_a_label_that_is_no_digit_is_refused(tmp_path, part, capsys):
    """Not taken for an eleventh class: a network for digits has ten."""
    (x, y), (x_test, y_test) = noise(20), noise(12)
    (y if part == "training" else y_test)[7] = 10
    place = fill(tmp_path / "own", [x, y, x_test, y_test])
    with pytest.raises(DataError, match=rf"own: {part} image 8: found the label 10; expected digits from 0 to 9"):
        digits.load(str(place))
    assert train.main(["dense", "--data", str(place), "--out", str(tmp_path / "run")]) == 2
    assert "found the label 10" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_file_of_labelled_test_images_beside_it_is_what_it_is_judged_on(tmp_path):
    for name, data in (("mnist_train.csv", noise(20)), ("mnist_test.csv", noise(6, seed=1))):
        kaggle.write_csv(tmp_path / name, *data, header=False)
    data = digits.load(str(tmp_path / "mnist_train.csv"))
    np.testing.assert_array_equal(data.x_test, noise(6, seed=1)[0])
    assert (len(data.x_train), data.own_test, data.cautions()) == (20, False, [])
    kaggle.write_csv(tmp_path / "mnist_test.csv", noise(6)[0][:, :4, :4].copy(), noise(6)[1])
    with pytest.raises(DataError, match=r"\(5, 5\).*\(4, 4\); expected one size"):
        digits.load(str(tmp_path / "mnist_train.csv"))


def test_test_images_without_labels_are_no_test_images(tmp_path):
    """As Kaggle's test.csv lies beside its train.csv."""
    kaggle.write_csv(tmp_path / "train.csv", *noise(21))
    kaggle.write_csv(tmp_path / "test.csv", noise(6, seed=1)[0])
    data = digits.load(str(tmp_path / "train.csv"))
    assert (len(data.x_train), len(data.x_test), data.own_test) == (18, 3, True)


@pytest.mark.parametrize(("x", "y", "words"), [(*noise(3), "too few"), (noise(30)[0], None, "has no labels")])
def test_a_file_that_cannot_be_trained_on_is_refused(tmp_path, x, y, words):
    kaggle.write_csv(tmp_path / "some.csv", x, y)
    with pytest.raises(DataError, match=words):
        digits.load(str(tmp_path / "some.csv"))


def test_kaggles_archive_need_not_be_unpacked(tmp_path):
    kaggle.write_csv(tmp_path / "train.csv", *noise(35))
    with zipfile.ZipFile(tmp_path / "digit-recognizer.zip", "w") as archive:
        archive.write(tmp_path / "train.csv", "train.csv")
        archive.writestr("test.csv", "pixel0\n")
    data = digits.load(str(tmp_path / "digit-recognizer.zip" / "train.csv"))
    np.testing.assert_array_equal(data.x_test, digits.load(str(tmp_path / "train.csv")).x_test)


def test_a_damaged_file_is_one_message(tmp_path, capsys):
    kaggle.write_csv(tmp_path / "train.csv", *noise(35))
    text = (tmp_path / "train.csv").read_text()
    (tmp_path / "train.csv").write_text(text[:text.rindex(",") + 1])
    assert train.main(["dense", "--data", str(tmp_path / "train.csv"), "--out", str(tmp_path / "run")]) == 2
    err = capsys.readouterr().err
    assert "train.csv: row 34 (line 36 of the file), column 25 ('pixel24'): found nothing" in err
    assert (err[:7], err.count("\n")) == ("error: ", 1)
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("no_pictures")
def test_one_command_trains_on_a_csv_file(tmp_path, capsys):
    kaggle.write_csv(tmp_path / "train.csv", *noise(35))
    assert train.main(["dense", "--data", str(tmp_path / "train.csv"), "--epochs", "1", "--save",
                       str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "beware   The test images are 5 rows of train.csv" in out
    assert "of 5 train.csv test images right" in out
    result = json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8"))
    assert result["command"] == f"python experiments/train.py dense --epochs 1 --data {tmp_path / 'train.csv'} --seed 0"
    assert folder.read(str(tmp_path / "out")).material().score.digits.own_test


# --- MNIST by way of CSV files -----------------------------------------------------------------------------------

def test_csv_means_mnist_written_to_files_and_read_back(takes_for_mnist, monkeypatch):
    arrays = [*noise(8), *noise(5, seed=1)]
    takes_for_mnist(arrays)
    monkeypatch.setattr(mnist, "load_data", lambda: (tuple(arrays[:2]), tuple(arrays[2:])))
    read = []
    monkeypatch.setattr(kaggle, "read_csv", lambda path, really=kaggle.read_csv: read.append(path) or really(path))
    data = digits.load("csv")
    assert (data.name, data.source, data.own_test) == ("MNIST", "csv", False)
    for found, expected in zip((data.x_train, data.y_train, data.x_test, data.y_test), arrays, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert [path.name for path in read] == ["mnist_train.csv", "mnist_test.csv"]
    assert not any(path.exists() for path in read)


def test_without_mnist_there_is_nothing_to_write(monkeypatch, capsys):
    def refuse():
        raise DownloadError("no mirror answered")
    monkeypatch.setattr(mnist, "load_data", refuse)
    monkeypatch.setattr(strokes, "load_data", lambda: (noise(20), noise(4)))
    data = digits.load("csv")
    assert (data.name, data.source, data.fallback) == ("strokes", "strokes", "no mirror answered")
    assert data.cautions()[0].startswith("MNIST could not be had")
    with pytest.raises(DownloadError):
        digits.load("csv", allow_fallback=False)


# --- what is in both parts ---------------------------------------------------------------------------------------

def repeating():
    """Return 24 training images, the last two held out; one of these and three test images are trained on."""
    (x, y), (x_test, y_test) = noise(24), noise(9, seed=1)
    x[23] = x[4]
    x_test[[1, 5, 8]] = x[[0, 21, 21]]
    x_test[0] = x[22]    # held out: not trained on
    return digits.Digits("toys", x, y, x_test, y_test)


def test_images_that_are_trained_on_are_counted_and_said():
    data = repeating()
    assert data.repeated == data.record()["repeated"] == {"validation": 1, "test": 3}
    assert data.cautions() == [
        f"{count} among the training images too: right answers there may be remembered, not read."
        for count in ("1 of the 2 validation images is", "3 of the 9 test images are")]
    assert data.holding_out(1 / 4).repeated == {"validation": 1, "test": 1}    # the first 18 are trained on
    assert digits.Digits("toys", *noise(24), *noise(9, seed=1)).cautions() == []


@pytest.mark.usefixtures("no_pictures")
def test_the_warning_is_given_before_training_and_kept(tmp_path, capsys):
    data = repeating()
    place = fill(tmp_path / "toys", [data.x_train, data.y_train, data.x_test, data.y_test])
    assert train.main(["dense", "--data", str(place), "--epochs", "1", "--out", str(tmp_path / "out")]) == 0
    before, _, _ = capsys.readouterr().out.partition("Epoch 1/1")
    assert "beware   3 of the 9 test images are among the training images too" in before
    result = json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8"))
    assert (result["data"]["repeated"]["test"], result["test_images_trained_on"]) == (3, 3)


def test_images_of_another_set_are_looked_for_as_well(tmp_path, capsys):
    """As for a network trained on Kaggle's file and judged on MNIST."""
    data = repeating()
    judge = fill(tmp_path / "judge", [*noise(4, seed=3), data.x_test, data.y_test])
    trained_on = fill(tmp_path / "trained", [data.x_train, data.y_train, *noise(4, seed=4)])
    assert accuracy.main(["dense", "--data", str(trained_on), "--test", str(judge), "--epochs", "1", "--seeds", "0",
                          "--results", str(tmp_path)]) == 0
    assert "Beware: 3 of these images are among the training images of trained" in capsys.readouterr().out
    (path,) = tmp_path.glob("accuracy-*.json")
    assert json.loads(path.read_text(encoding="utf-8"))["seeds"][0]["test_images_trained_on"] == 3


@pytest.mark.needs("kaggle", "mnist")
def test_kaggles_training_images_hold_thousands_of_mnists_test_images():
    path = next(found for place in _places.places("kaggle") if (found := kaggle.find(place, "train")))
    x, _ = kaggle.read_csv(path)
    (x_mnist, _), (x_test, _) = mnist.load_data()
    counts = len(occurring(x, x_mnist)), len(occurring(x, x_test))
    assert sum(counts) == len(x)
    assert counts[1] > 5000


def test_the_share_that_is_held_out_is_the_recipes(tmp_path):
    place = fill(tmp_path / "toys", [*noise(40), *noise(6, seed=1)])
    options = argparse.Namespace(data=str(place), limit=30, full=False)
    recipe = argparse.Namespace(data="mnist", trained=lambda full: argparse.Namespace(validation=0.2))
    data = runs.images(options, recipe)
    assert (len(data.x_train), data.validation, len(data.trained)) == (30, 6, 24)
