"""Folders in which nobody may write: a message that helps, nothing changed; and a package that is installed in one."""

from __future__ import annotations

import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

import accuracy
import explore
import minicnn
import predict
import report
import train
from fast_processes import run
from full_disk import contents
from minicnn.callbacks import BackupAndRestore, CSVLogger, ModelCheckpoint
from minicnn.datasets import _places, kaggle, mnist
from minicnn.errors import DownloadError, UnwritableFileError
from networks import compiled, draw_images, small_dense
from read_only import PRELUDE, read_only
from toy_runs import draw_few, toy_folder, toy_images

DENIED = r"it cannot be written: Permission denied; expected a folder in which this user may write\. .* Change who may"
IN_THE_WAY = r"it cannot be written: (Not a directory|File exists); expected a folder to write in"


def fit(*callbacks, epochs=1):
    model = compiled(small_dense())
    model.fit(*draw_images(np.random.default_rng(0), 5, (4,)), epochs=epochs, verbose=0, callbacks=callbacks)
    return model


# What writes: a path -> a call.
WRITERS = {
    "model": lambda path: lambda: small_dense().save(path),
    "submission": lambda path: lambda: kaggle.write_submission(path, [1]),
    "log": lambda path: lambda: fit(CSVLogger(path)),
    "checkpoint": lambda path: lambda: fit(ModelCheckpoint(path)),
    "backup": lambda path: lambda: fit(
        BackupAndRestore(path.parent, delete_checkpoint=False), epochs=1 + len(contents(path.parent))),
}


@pytest.mark.usefixtures("reference_kernels")
@pytest.mark.parametrize("what", WRITERS)
def test_a_read_only_folder_is_named_and_keeps_what_is_in_it(tmp_path, what):
    folder = tmp_path / "folder"
    folder.mkdir()
    write = WRITERS[what](folder / "file.safetensors")
    for there in (False, True):    # nothing yet; and what an earlier call wrote
        before = contents(folder)
        assert bool(before) == there
        with read_only(folder), pytest.raises(UnwritableFileError, match=rf"^{folder}/.*: {DENIED}") as caught:
            write()
        assert caught.value.errno == 13
        assert contents(folder) == before
        write()


@pytest.mark.usefixtures("reference_kernels")
@pytest.mark.parametrize("what", ["checkpoint", "backup"])
def test_a_file_in_the_place_of_a_folder_is_named(tmp_path, what):
    (tmp_path / "folder").write_text("mine")
    with pytest.raises(UnwritableFileError, match=rf"^{tmp_path}/folder: {IN_THE_WAY}"):
        WRITERS[what](tmp_path / "folder" / "file.safetensors")()
    assert contents(tmp_path) == {"folder": b"mine"}


# --- the scripts -------------------------------------------------------------------------------------------------

@pytest.mark.usefixtures("reference_kernels", "no_pictures")
def test_scripts_end_with_status_2_and_say_where_nobody_may_write(tmp_path, monkeypatch, capsys):
    toys, shut, run_folder = toy_folder(tmp_path / "toys"), tmp_path / "shut", tmp_path / "run"
    shut.mkdir()
    assert train.main(["dense", "--data", str(toys), "--epochs", "1", "--out", str(run_folder)]) == 0
    x, y = toy_images(30)
    kaggle.write_csv(tmp_path / "toys.csv", x[:, :10], y)
    dense = ["dense", "--data", str(toys), "--epochs", "1"]
    commands = [
        (train.main, [*dense, "--out", str(shut / "run")]), (accuracy.main, [*dense, "--results", str(shut / "a")]),
        (report.main, [str(run_folder), "--out", str(shut / "report")]), (report.main, [str(run_folder)]),
        (explore.main, [str(tmp_path / "toys.csv"), "--out", str(shut / "out")]), (train.main, dense),
        (train.main, ["--resume", str(run_folder), "--epochs", "2"])]
    before = contents(tmp_path)
    capsys.readouterr()
    draw_few(monkeypatch)
    monkeypatch.chdir(shut)    # runs/ would go there
    with read_only(shut), read_only(run_folder):
        for main, arguments in commands:
            assert main(arguments) == 2, arguments
            shown = capsys.readouterr().err
            assert re.search(rf"error: .*: {DENIED}", shown), (arguments, shown)
            assert "Traceback" not in shown
    assert contents(tmp_path) == before


@pytest.mark.usefixtures("reference_kernels")
def test_a_submission_to_a_read_only_folder(tmp_path, capsys):
    from minicnn.layers import Dense, Flatten
    from minicnn.models import Sequential
    Sequential([Flatten(input_shape=(10, 10, 1)), Dense(10)]).save(tmp_path / "model.safetensors")
    kaggle.write_csv(tmp_path / "test.csv", toy_images(3)[0][:, :10], None)
    (tmp_path / "shut").mkdir()
    with read_only(tmp_path / "shut"):
        assert predict.main([str(tmp_path / "model.safetensors"), str(tmp_path / "test.csv"), "--out",
                             str(tmp_path / "shut" / "s.csv")]) == 2
    assert re.search(rf"error: {tmp_path}/shut/s\.csv: {DENIED}", capsys.readouterr().err)


# --- data --------------------------------------------------------------------------------------------------------

def test_downloads_go_where_they_can(home):
    (home / "checkout").mkdir()
    with read_only(home / "checkout"):
        assert _places.download_place("mnist") == home / "cache/mnist"
    (home / "cache/mnist").rmdir()
    (home / "cache").rmdir()
    with read_only(home):
        assert _places.download_place("mnist") is None
        with pytest.raises(DownloadError, match=r"neither the checkout nor the user's cache is writable(.|\n)*Copy"):
            mnist.load_data()
    (home / "cache").write_text("a file in the place of the folder")
    with read_only(home / "checkout"):
        assert _places.download_place("mnist") is None


# --- the package -------------------------------------------------------------------------------------------------

PROGRAM = """
import hashlib
import numpy as np
import minicnn
from minicnn.layers import Dense
model = minicnn.Sequential([Dense(3, activation="softmax", input_shape=(4,))])
model.compile("adam", "sparse_categorical_crossentropy")
x = np.random.default_rng(0).random((8, 4), dtype=np.float32)
model.fit(x, np.arange(8) % 3, verbose=0)
print(model.weights_sha256(), minicnn.__file__)
"""


@pytest.fixture
def installed(tmp_path):
    """A copy of the package, and what a program prints that uses the one of this checkout."""
    root = tmp_path / "site-packages"
    shutil.copytree(Path(minicnn.__file__).parent, root / "minicnn", ignore=shutil.ignore_patterns("__pycache__"))
    here = Path(minicnn.__file__).parents[1]
    return root, run(here, tmp_path / "cache", PROGRAM, MINICNN_KERNELS="reference").split()[0]


def test_a_package_that_is_installed_read_only_and_without_a_home(installed, tmp_path):
    root, expected = installed
    before = contents(root)
    with read_only(root):
        shown = run(root, None, PRELUDE + PROGRAM, MINICNN_KERNELS="reference", MINICNN_CACHE_DIR=None, HOME=None,
                    PYTHONDONTWRITEBYTECODE=None)
    assert shown == f"{expected} {root / 'minicnn/__init__.py'}"
    assert contents(root) == before


def test_a_package_in_a_zip_file(installed, tmp_path):
    root, expected = installed
    with zipfile.ZipFile(tmp_path / "minicnn.zip", "w") as packed:
        for path in root.rglob("*.py"):
            packed.write(path, path.relative_to(root))
    shutil.rmtree(root / "minicnn")
    zipped = str(tmp_path / "minicnn.zip")
    shown = run(root, None, f"import sys; sys.path.insert(0, {zipped!r})\n{PROGRAM}", MINICNN_KERNELS="reference")
    assert shown == f"{expected} {zipped}/minicnn/__init__.py"
