"""The folders where MNIST is looked for, and what is taken for it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from minicnn.datasets import _places, mnist
from minicnn.errors import ArgumentError, DataError, FileFormatError
from mnist_files import NAMES, fill, small_set


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("names", [NAMES, [name.replace("-idx", ".idx") for name in NAMES]], ids=["dash", "dot"])
def test_a_folder_of_four_files_is_a_data_set(tmp_path, names, suffix):
    arrays = small_set()
    (x_train, y_train), (x_test, y_test) = mnist.load_data(fill(tmp_path, arrays, names, suffix))
    for found, expected in zip((x_train, y_train, x_test, y_test), arrays):
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, expected)


def test_missing_files_are_named(tmp_path):
    fill(tmp_path, small_set())
    (tmp_path / NAMES[1]).unlink()
    (tmp_path / NAMES[2]).unlink()
    with pytest.raises(ArgumentError, match=f"lacks {NAMES[1]}, {NAMES[2]} "):
        mnist.load_data(tmp_path)
    with pytest.raises(ArgumentError, match="no folder"):
        mnist.load_data("mnist.npz")    # Keras' default, which means something else there


def changed(index, array):
    arrays = small_set()
    arrays[index] = array
    return arrays


@pytest.mark.parametrize(("arrays", "message"), [
    (changed(1, small_set()[1][:-1]), "has 4 images, .*labels-idx1-ubyte 3 labels"),
    (changed(2, small_set()[2][:-1]), "has 2 images, .*t10k-labels-idx1-ubyte 3 labels"),
    (changed(0, small_set()[1]), r"train-images.*found sizes \(4,\), rank 1; expected images, rank 3"),
    (changed(3, small_set()[2]), r"t10k-labels.*rank 3; expected labels, rank 1"),
    (changed(2, np.zeros((3, 4, 5), np.uint8)), r"images of \(5, 4\), .* of \(4, 5\); expected one size"),
    (small_set(test=0), r"found sizes \(0, 5, 4\), no pixel"),
], ids=["labels short", "test images short", "labels as images", "images as labels", "other size", "empty"])
def test_files_that_do_not_fit_together_are_refused(tmp_path, arrays, message):
    with pytest.raises(DataError, match=message):
        mnist.load_data(fill(tmp_path, arrays))


def test_folders_are_looked_in_in_order(home):
    folders = [home / "chosen/mnist", home / "chosen", home / "checkout/data/mnist", home / "cache/mnist"]
    assert _places.places("mnist") == folders
    assert mnist.find() is None
    for folder in reversed(folders):
        fill(folder, small_set())
        assert mnist.find() == folder
    fill(home / "mine", small_set(9))
    assert mnist.load_data(home / "mine")[0][1][0] == 9
    (folders[0] / NAMES[3]).unlink()    # an incomplete folder does not count
    assert mnist.find() == folders[1]


def test_the_variable_may_name_the_folder_of_the_files_itself(home, takes_for_mnist):
    takes_for_mnist(small_set(5))
    fill(home / "chosen", small_set(5))
    assert mnist.load_data()[0][1][0] == 5


@pytest.mark.parametrize("place", ["chosen/mnist", "chosen", "checkout/data/mnist", "cache/mnist"])
def test_what_is_not_mnist_is_refused_in_the_usual_places_whatever_its_sizes(home, place):
    fill(home / place, small_set(5))
    with pytest.raises(FileFormatError, match=rf"{NAMES[0]}.*sizes \(4, 5, 4\).*MNIST's \(60000, 28, 28\).*--data DIR"):
        mnist.load_data()
    assert mnist.load_data(home / place)[0][1][0] == 5


@pytest.mark.parametrize("index", range(4))
def test_mnist_is_what_has_its_four_contents(takes_for_mnist, index):
    takes_for_mnist(small_set(5))
    x_train, y_train, x_test, y_test = arrays = small_set(5)
    assert mnist.is_original(((x_train, y_train), (x_test, y_test)))
    assert mnist.is_original(((np.asfortranarray(x_train), y_train), (x_test, y_test)))
    arrays[index][..., -1] ^= 1
    assert not mnist.is_original(((x_train, y_train), (x_test, y_test)))
    for other in (arrays[index][:-1], arrays[index].astype(np.int64)):    # other sizes, another type
        arrays[index] = other
        assert not mnist.is_original((tuple(arrays[:2]), tuple(arrays[2:])))


def test_without_the_variable_the_checkout_comes_first(home, monkeypatch):
    monkeypatch.delenv("MINICNN_DATA")
    assert _places.places("mnist") == [home / "checkout/data/mnist", home / "cache/mnist"]


def test_the_data_of_nobody_is_a_clear_error(home, monkeypatch):
    monkeypatch.setenv("MINICNN_DATA", "~nosuchuser/data")
    with pytest.raises(ArgumentError, match=r"MINICNN_DATA is '~nosuchuser/data'.*no such user's home"):
        mnist.load_data()


def test_this_checkout_is_recognised():
    assert _places.checkout_root() == Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(("platform", "variables", "expected"), [
    ("linux", {}, "home/.cache/minicnn"),
    ("linux", {"XDG_CACHE_HOME": "xdg"}, "xdg/minicnn"),
    ("darwin", {"XDG_CACHE_HOME": "xdg"}, "home/Library/Caches/minicnn"),
    ("win32", {"LOCALAPPDATA": "local"}, "local/minicnn"),
    ("win32", {}, "home/AppData/Local/minicnn"),
    ("linux", {"XDG_CACHE_HOME": "xdg", "MINICNN_CACHE_DIR": "mine"}, "mine"),
])
def test_each_system_has_its_cache(tmp_path, monkeypatch, platform, variables, expected):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA", "MINICNN_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name, folder in variables.items():
        monkeypatch.setenv(name, str(tmp_path / folder))
    assert _places.user_cache() == tmp_path / expected


def test_a_relative_cache_variable_is_ignored_and_no_home_is_no_crash(tmp_path, monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("MINICNN_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert _places.user_cache() == tmp_path / ".cache/minicnn"
    monkeypatch.setattr(Path, "home", homeless)
    assert _places.user_cache() is None


@pytest.mark.needs("mnist")
def test_mnist_itself():
    (x_train, y_train), (x_test, y_test) = mnist.load_data()
    assert mnist.is_original(((x_train, y_train), (x_test, y_test)))
    assert (x_train.shape, y_train.shape) == ((60000, 28, 28), (60000,))
    assert (x_test.shape, y_test.shape) == ((10000, 28, 28), (10000,))
    assert y_train[:9].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1]
    assert np.bincount(y_test).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert abs(x_train.mean() / 255 - 0.1307) < 5e-5    # the figure everybody normalises with
    assert x_test[0, 7].argmax() > 0    # a 7's upper bar lies in row 7: rows come before columns
    assert x_test[0, :7].sum() == 0


@pytest.mark.needs("mnist")
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_one_wrong_byte_in_the_usual_folder_is_found(tmp_path, monkeypatch, suffix):
    """Only a digest finds it: the file is a valid one of the right size. In a folder of one's own anything goes."""
    arrays = [array for pair in mnist.load_data() for array in pair]
    arrays[3][77] ^= 1
    fill(tmp_path / "mnist", arrays[:3])
    fill(tmp_path / "mnist", arrays[3:], NAMES[3:], suffix)
    monkeypatch.setenv("MINICNN_DATA", str(tmp_path))
    with pytest.raises(FileFormatError, match=r"t10k-labels.*SHA-256.*expected ff7bcfd416.*--data DIR"):
        mnist.load_data()
    assert not mnist.is_original(mnist.load_data(tmp_path / "mnist"))
    assert mnist.load_data(tmp_path / "mnist")[1][1][77] == arrays[3][77]
