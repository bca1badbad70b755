"""A full disk: what was there is still there and whole, nothing half-written is, and the message says what to do."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import resource
from pathlib import Path

import numpy as np
import pytest

import accuracy
import explore
import folder
import predict
import report
import tables
import train
from full_disk import contents, full_after, refused
from minicnn import saving
from minicnn.callbacks import BackupAndRestore, CSVLogger, ModelCheckpoint
from minicnn.datasets import _download, idx, kaggle, mnist
from minicnn.errors import UnwritableFileError
from minicnn.layers import Dense, Flatten
from minicnn.models import Sequential
from networks import compiled, draw_images, small_dense
from resumed import digest
from toy_runs import draw_few, figure, toy_folder, toy_images

pytestmark = pytest.mark.usefixtures("reference_kernels")

SAID = r"{}[^:]*: it cannot be written: .*; expected room for it\. What was there is unchanged\. Make room on the disk"


# --- one file ----------------------------------------------------------------------------------------------------

def arriving(content):
    """Fetch a file whose content arrives without a network."""
    def receive(url, size, timeout, schemes, blocks, stop):
        for start in range(0, len(content), 7):
            blocks.put(content[start:start + 7])
        blocks.put(b"")

    def fetch(path):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_download, "_receive", receive)
            _download.fetch("https://nowhere", path, len(content), hashlib.sha256(content).hexdigest())
    return fetch


def page(path, number):
    path.touch()
    path.write_text(path.read_text() or "<!-- a:begin -->\n<!-- a:end -->\n")
    return lambda: tables.Place(path, "a").put(f"{number}")


X, Y = toy_images(3)
# What writes a file: (its path, 0 or 1) -> a call, with another content for either number.
WRITERS = {
    "model": lambda path, number: lambda: small_dense(number).save(path),
    "weights": lambda path, number: lambda: small_dense(number).save_weights(path.with_suffix(".weights.safetensors")),
    "idx": lambda path, number: lambda: idx.write_idx(path, X + np.uint8(number)),
    "csv": lambda path, number: lambda: kaggle.write_csv(path, X[:, :10], Y + np.uint8(number)),
    "csv.gz": lambda path, number: lambda: kaggle.write_csv(path.with_suffix(".gz"), X[:, :10], Y + np.uint8(number)),
    "submission": lambda path, number: lambda: kaggle.write_submission(path, [number]),
    "json": lambda path, number: lambda: folder.save_json(path, number),
    "text": lambda path, number: lambda: folder.save_text(path, f"é {number}"),
    "picture": lambda path, number: lambda: folder.save_figure(figure(number), path.with_suffix(".png")),
    "table": page,
    "answers": lambda path, number: lambda: predict.write_table(path, [Path("a.png")], np.eye(2)[[number]]),
    "download": lambda path, number: lambda: arriving(b"abcdefghijk%d" % number)(path),
}


@pytest.mark.parametrize("what", WRITERS)
def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path, what):
    path = tmp_path / "file.safetensors"
    WRITERS[what](path, 0)()
    before, write = contents(tmp_path), WRITERS[what](path, 1)
    for room in range(100):
        said = refused(room, write)
        if said is None:
            break
        assert re.search(SAID.format("file"), said)
        assert "No space left" in said
        assert contents(tmp_path) == before
    assert 3 <= room < 99    # the content, the sync and the name, at least
    after = contents(tmp_path)
    assert after.keys() == before.keys()
    assert after != before


@contextlib.contextmanager
def no_file_longer_than(size):
    """Let the system itself refuse: no file of this process grows beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("what", WRITERS)
def test_when_the_system_refuses_a_byte(tmp_path, what):
    path = tmp_path / "file.safetensors"
    WRITERS[what](path, 0)()
    before, write = contents(tmp_path), WRITERS[what](path, 1)
    size = len(next(iter(before.values())))
    for limit in {0, 1, size // 2, size - 1}:
        with no_file_longer_than(limit), pytest.raises(UnwritableFileError, match=SAID.format("file")):
            write()
        assert contents(tmp_path) == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_device_is_written_to_as_it_is(tmp_path):
    folder.save_text(Path(os.devnull), "a")
    assert Path(os.devnull).is_char_device()
    with pytest.raises(UnwritableFileError, match=SAID.format("/dev/full")):
        folder.save_text(Path("/dev/full"), "a")
    with pytest.raises(UnwritableFileError, match=SAID.format("/dev/full")):
        compiled().fit(*draw_images(np.random.default_rng(0), 5, (4,)), verbose=0, callbacks=[CSVLogger("/dev/full")])
    assert Path("/dev/full").is_char_device()


def test_the_line_of_a_table_is_whole_or_not_there(tmp_path):
    def fit(path, epochs):
        compiled().fit(*draw_images(np.random.default_rng(0), 5, (4,)), epochs=epochs, verbose=0,
                       callbacks=[CSVLogger(path)])
        return path.read_bytes()
    whole = fit(tmp_path / "whole.csv", 3)
    ends = [0, *(at + 1 for at, byte in enumerate(whole) if byte == ord("\n"))]
    for limit in range(len(whole)):
        with no_file_longer_than(limit), pytest.raises(UnwritableFileError, match=SAID.format("log")):
            fit(tmp_path / "log.csv", 3)
        assert (tmp_path / "log.csv").read_bytes() == whole[:max(end for end in ends if end <= limit)]


# --- a training --------------------------------------------------------------------------------------------------

def fit(place):
    """Train with all that writes; return all that came out."""
    place.mkdir(exist_ok=True)
    model = compiled(small_dense(), "adam")
    model.fit(*draw_images(np.random.default_rng(1), 11, (4,)), batch_size=4, epochs=2, verbose=0, callbacks=[
        CSVLogger(place / "log.csv"), ModelCheckpoint(place / "models" / "{epoch}.safetensors"),
        BackupAndRestore(place / "backup", save_freq=2)])
    return digest(model), model.history.history, contents(place)


def test_a_training_is_never_lost_whenever_the_disk_gets_full(tmp_path):
    """It goes on when there is room again, to the same bits; at any moment every file there is whole."""
    expected, said = fit(tmp_path / "whole"), set()
    for room in range(200):
        place = tmp_path / f"{room}"
        place.mkdir()
        message = refused(room, lambda place=place: fit(place))
        if message is None:
            break
        assert "No space left" in message
        said.add(message.partition(":")[0].removeprefix(str(place)))
        for path in place.rglob("*.safetensors"):
            saving.read(path)
        assert not [*place.rglob("*.part")]
        assert fit(place) == expected, room
    assert 30 < room < 199
    assert {"/log.csv", "/models", "/models/1.safetensors", "/models/2.safetensors", "/backup"} < said
    assert "/backup/best.safetensors" in said
    assert any("checkpoint-00000" in name for name in said)


# --- the scripts -------------------------------------------------------------------------------------------------

def script(*argv):
    return train.main([*map(str, argv)])


@pytest.fixture
def trained(tmp_path, no_pictures, capsys):
    """A run that ended, and what was printed is forgotten."""
    toys = toy_folder(tmp_path / "toys")
    assert script("dense", "--data", toys, "--epochs", 1, "--batch-size", 32, "--out", tmp_path / "run") == 0
    capsys.readouterr()
    return tmp_path / "run"


def test_the_training_script_ends_with_a_message_and_its_run_goes_on(trained, tmp_path, capsys):
    expected = (trained / "model.safetensors").read_bytes()
    rooms = [*range(0, 12, 2), *range(12, 60, 6)]
    for room in rooms:
        place = tmp_path / f"{room}"
        with full_after(room):
            status = script("dense", "--data", tmp_path / "toys", "--epochs", 1, "--batch-size", 32, "--out", place)
        if status == 0:
            break
        ended_with_a_message(capsys, status, place)
        assert not [*place.rglob("*.part")]
        if (place / "backup").exists() and any((place / "backup").iterdir()):
            assert script("--resume", place) == 0
            assert (place / "model.safetensors").read_bytes() == expected
    assert rooms[0] < room < rooms[-1]


def ended_with_a_message(capsys, status, place):
    shown = capsys.readouterr().err
    assert status == 2
    assert f"error: {place}" in shown
    assert "No space left" in shown
    assert "Traceback" not in shown


def scripts(trained, tmp_path):
    """Commands that write to a folder."""
    table = tmp_path / "toys.csv"
    kaggle.write_csv(table, toy_images(30)[0][:, :10], toy_images(30)[1])
    return {
        "report": lambda out: report.main([str(trained), "--out", str(out)]),
        "explore": lambda out: explore.main([str(table), "--out", str(out)]),
        "accuracy": lambda out: accuracy.main(["dense", "--epochs", "1", "--seeds", "0", "--data",
                                               str(tmp_path / "toys"), "--results", str(out)]),
    }


@pytest.mark.parametrize("name", ["report", "explore", "accuracy"])
def test_other_scripts_end_with_a_message_and_leave_no_half_file(trained, tmp_path, monkeypatch, capsys, name):
    draw_few(monkeypatch)
    for one in ("first_images", "sample_grid", "mean_images"):
        monkeypatch.setattr(explore.visualize, one, lambda *_, **__: figure())
    command = scripts(trained, tmp_path)[name]
    for room in range(0, 40, 3):
        out = tmp_path / f"{room}"
        with full_after(room):
            status = command(out)
        if status == 0:
            break
        ended_with_a_message(capsys, status, out)
        assert not [*tmp_path.rglob("*.part")]
    assert status == 0
    assert room > 0


def test_a_submission_keeps_the_one_before(tmp_path, capsys):
    model = Sequential([Flatten(input_shape=(10, 10, 1)), Dense(10)])
    model.save(tmp_path / "model.safetensors")
    x, _ = toy_images(4)
    kaggle.write_csv(tmp_path / "test.csv", x[:, :10], None)
    command = [str(tmp_path / "model.safetensors"), str(tmp_path / "test.csv"), "--out", str(tmp_path / "s.csv")]
    (tmp_path / "s.csv").write_text("before")
    for room in range(3):
        with full_after(room):
            assert predict.main(command) == 2
        assert (tmp_path / "s.csv").read_text() == "before"
    assert f"error: {tmp_path / 's.csv'}: it cannot be written: No space left" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_answers_that_go_to_a_full_disk_are_no_success(tmp_path, monkeypatch, capsys):
    """While a training goes on for all that, and what it wrote elsewhere is there."""
    toys = toy_folder(tmp_path / "toys")
    with open("/dev/full", "w", encoding="utf-8") as full, monkeypatch.context() as patch:
        patch.setattr("sys.stdout", full)
        patch.setattr(folder, "save_figure", lambda figure, path: path.touch())
        assert script("dense", "--data", toys, "--epochs", 1, "--out", tmp_path / "run") == 2
    shown = capsys.readouterr().err
    assert "error: what was to be read here could not be written: No space left on device; files are as" in shown
    assert len(folder.read(str(tmp_path / "run")).labels) == 40


def test_no_other_mirror_is_asked_for_room(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(_download, "_receive", lambda url, *rest: (asked.append(url), rest[3].put(bytes(10**5)))[1])
    with full_after(0), pytest.raises(UnwritableFileError, match=SAID.format("train-images")):
        mnist.download(tmp_path, ["https://a/", "https://b/"])
    assert [url[:9] for url in asked] == ["https://a"]
    assert contents(tmp_path) == {}
