"""MNIST's folders, and the download, tried against a server on this machine that misbehaves."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import re
import socket
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from minicnn.datasets import _download, _places, mnist
from minicnn.datasets.idx import header, write_idx
from minicnn.errors import ArgumentError, DataError, DownloadError, FileFormatError

NAMES = [file.name for file in mnist.FILES]


# --- folders -----------------------------------------------------------------------------------------------------

def small_set(marker=0, train=4, test=3):
    """Return four arrays in the order of mnist.FILES, not square, recognisable by their first label."""
    rng = np.random.default_rng(marker)
    arrays = [rng.integers(0, 256, (train, 5, 4)), rng.integers(0, 10, train),
              rng.integers(0, 256, (test, 5, 4)), rng.integers(0, 10, test)]
    arrays[1][0] = marker
    return [array.astype(np.uint8) for array in arrays]


def fill(folder, arrays, names=NAMES, suffix=""):
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in zip(names, arrays):
        write_idx(folder / f"{name}{suffix}", array)
    return folder


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


@pytest.fixture
def takes_for_mnist(monkeypatch):
    """Return a function that makes the library take four arrays for MNIST's."""
    def take(arrays):
        monkeypatch.setattr(mnist, "FILES", tuple(
            file._replace(shape=array.shape,
                          content_sha256=hashlib.sha256(header(array.shape) + array.tobytes()).hexdigest())
            for file, array in zip(mnist.FILES, arrays)))
    return take


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Give the library a checkout, a cache and MINICNN_DATA of this test's own, all of them empty."""
    monkeypatch.setattr(_places, "checkout_root", lambda: tmp_path / "checkout")
    monkeypatch.setattr(_places, "user_cache", lambda: tmp_path / "cache")
    monkeypatch.setenv("MINICNN_DATA", str(tmp_path / "chosen"))
    return tmp_path


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


# --- download ----------------------------------------------------------------------------------------------------

def serve(handler, content, how):
    """Answer one request the way ``how`` says."""
    def start(status, length, kind="application/gzip", **headers):
        handler.send_response(status)
        for name, value in {"Content-Length": length, "Content-Type": kind, **headers}.items():
            handler.send_header(name, str(value))
        handler.end_headers()

    def body(data):
        start(200, len(data))
        handler.wfile.write(data)

    def stall():
        handler.wfile.flush()
        handler.server.over.wait()

    def half_then_stall():
        start(200, len(content))
        handler.wfile.write(content[:len(content) // 2])
        stall()

    def half():
        start(200, len(content))
        handler.wfile.write(content[:len(content) // 2])

    answers = {
        "good": lambda: body(content),
        "stall": stall,
        "half then stall": half_then_stall,
        "half": half,
        "wrong": lambda: body(content[:-1] + bytes([content[-1] ^ 1])),
        "long": lambda: body(content + bytes(10**6)),
        "empty": lambda: body(b""),
        "html": lambda: body(b"<html>Please log in</html>"),
        "404": lambda: handler.send_error(404),
        "503": lambda: handler.send_error(503),
        "not http": lambda: handler.wfile.write(b"220 mail.example.org ESMTP\r\n"),
        "elsewhere": lambda: start(302, 0, Location="ftp://127.0.0.1/file"),
    }
    answers[how]()


class Server(http.server.ThreadingHTTPServer):
    """Serves ``/<how>/<file>``, and remembers the paths asked for."""

    daemon_threads = True

    def __init__(self, files):
        self.files, self.asked, self.over = files, [], threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)

    def mirror(self, how):
        return f"http://127.0.0.1:{self.server_port}/{how.replace(' ', '_')}/"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        how, name = self.path.lstrip("/").split("/")
        with contextlib.suppress(ConnectionError):    # the client may have given up, as it should
            serve(self, self.server.files[name], how.replace("_", " "))

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch, takes_for_mnist):
    """A server of four small files, which the library takes for MNIST's."""
    takes_for_mnist(small_set(7))
    fill(tmp_path / "source", small_set(7), suffix=".gz")
    contents = {f"{name}.gz": (tmp_path / "source" / f"{name}.gz").read_bytes() for name in NAMES}
    monkeypatch.setattr(mnist, "FILES", tuple(
        file._replace(size=len(content), sha256=hashlib.sha256(content).hexdigest())
        for file, content in zip(mnist.FILES, contents.values())))
    server = Server(contents)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.over.set()
    server.shutdown()
    thread.join()
    server.server_close()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


HTTP = {"schemes": ("http",)}
SHORT = 0.7    # seconds; waited out only where a mirror stalls
BAD_MIRRORS = {
    "stall": "no byte arrived for 0.7 seconds|timed out",
    "half then stall": "no byte arrived for 0.7 seconds|timed out",
    "half": r"connection ended after \d+ of \d+ bytes",
    "wrong": "content has SHA-256 .*expected",
    "long": "more than the file's",
    "empty": "connection ended after 0 of",
    "html": "web page",
    "404": "answered 404",
    "503": "answered 503",
    "not http": "BadStatusLine",
    "elsewhere": "ftp://127.0.0.1/file uses ftp; expected http",
}


def test_all_four_files_arrive(server, tmp_path):
    place = mnist.download(tmp_path / "new" / "mnist", [server.mirror("good"), server.mirror("wrong")], **HTTP)
    assert sorted(path.name for path in place.iterdir()) == sorted(server.files)
    for name, content in server.files.items():
        assert (place / name).read_bytes() == content
    assert mnist.load_data(place)[0][1][0] == 7
    assert all(path.startswith("/good/") for path in server.asked)


@pytest.mark.parametrize("how", BAD_MIRRORS)
def test_the_second_mirror_helps_and_is_kept(server, tmp_path, how):
    place = mnist.download(tmp_path / "mnist", [server.mirror(how), server.mirror("good")],
                           timeout=SHORT if "stall" in how else 30, **HTTP)
    assert sorted(path.name for path in place.iterdir()) == sorted(server.files)    # nor any unfinished file
    assert [path for path in server.asked if not path.startswith("/good/")] == [
        f"/{how.replace(' ', '_')}/{NAMES[0]}.gz"]


@pytest.mark.parametrize("how", BAD_MIRRORS)
def test_two_bad_mirrors_end_in_advice(server, tmp_path, how):
    dead = f"http://127.0.0.1:{free_port()}/"
    with pytest.raises(DownloadError) as caught:
        mnist.download(tmp_path / "mnist", [server.mirror(how), dead], timeout=SHORT if "stall" in how else 30, **HTTP)
    message = str(caught.value)
    first, second = (line for line in message.splitlines() if line.startswith("  http"))
    assert first.startswith(f"  {server.mirror(how)}{NAMES[0]}.gz: ")
    assert second.startswith(f"  {dead}{NAMES[0]}.gz: ")
    assert re.search(BAD_MIRRORS[how], first)
    assert "--data strokes" in message
    assert f"Copy the four files ({', '.join(server.files)}) to {tmp_path / 'mnist'}" in message
    assert not list((tmp_path / "mnist").iterdir())


def test_no_more_is_received_than_the_file_has(server, tmp_path):
    file, received = mnist.FILES[1], []
    with pytest.raises(DownloadError, match="more than"):
        _download.fetch(f"{server.mirror('long')}{file.name}.gz", tmp_path / "file", file.size, file.sha256,
                        progress=received.append, **HTTP)
    assert sum(received) == file.size + 1    # of the million more that were on offer


def test_a_name_that_nobody_answers_for_is_given_up_too(tmp_path, monkeypatch):
    """The look-up of a name knows no timeout of its own."""
    over = threading.Event()

    def look_up(*args, **kwargs):
        over.wait(20)
        raise OSError("looked up after all")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(DownloadError, match=r"no byte arrived for 0\.2 seconds"):
        mnist.download(tmp_path, ["http://localhost:9/"], timeout=0.2, **HTTP)
    over.set()


def test_a_folder_that_cannot_be_made_is_reported(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DownloadError, match=r"file.mnist(.|\n)*Copy the four files"):
        mnist.download(tmp_path / "file" / "mnist", [server.mirror("good")], **HTTP)


def test_a_checkout_that_is_read_only_is_passed_over(home, monkeypatch):
    def refuse(dir):
        if Path(dir).is_relative_to(home / "checkout"):
            raise PermissionError(13, "Permission denied", str(dir))
        return contextlib.nullcontext()

    assert _places.download_place("mnist") == home / "checkout/data/mnist"
    monkeypatch.setattr(_places.tempfile, "TemporaryFile", refuse)
    assert _places.download_place("mnist") == home / "cache/mnist"


def test_only_https_is_spoken_by_default(server, tmp_path):
    with pytest.raises(DownloadError, match="uses http; expected https"):
        mnist.download(tmp_path, [server.mirror("good")])
    assert server.asked == []
    assert all(mirror.startswith("https://") for mirror in mnist.MIRRORS)
    assert len(mnist.MIRRORS) == 2


def test_only_what_is_missing_is_fetched(server, tmp_path):
    place = fill(tmp_path / "mnist", small_set(7)[:3], NAMES[:3])
    mnist.download(place, [server.mirror("good")], **HTTP)
    assert server.asked == [f"/good/{NAMES[3]}.gz"]
    assert mnist.load_data(place)[0][1][0] == 7


def test_load_data_downloads_to_the_checkout_else_the_cache(server, home, monkeypatch):
    original = mnist.download
    monkeypatch.setattr(mnist, "MIRRORS", (server.mirror("good"),))
    monkeypatch.setattr(mnist, "download", lambda: original(**HTTP))
    assert mnist.load_data()[0][1][0] == 7
    assert mnist.find() == home / "checkout/data/mnist"
    asked = len(server.asked)
    assert mnist.load_data()[0][1][0] == 7
    assert len(server.asked) == asked == 4

    blocked = home / "file"    # a "folder" nothing can be written to, on any system and by any user
    blocked.write_text("")
    monkeypatch.setattr(_places, "checkout_root", lambda: blocked)
    assert mnist.load_data()[0][1][0] == 7
    assert mnist.find() == home / "cache/mnist"

    monkeypatch.setattr(_places, "user_cache", lambda: blocked)
    with pytest.raises(DownloadError, match=r"neither .* is writable(.|\n)*--data strokes"):
        mnist.load_data()


def test_offline_the_message_says_what_to_do(home, monkeypatch):
    monkeypatch.setattr(mnist, "MIRRORS", tuple(f"https://127.0.0.1:{free_port()}/{name}/" for name in "ab"))
    with pytest.raises(DownloadError) as caught:
        mnist.load_data()
    for text in (*map(str, _places.places("mnist")), *mnist.MIRRORS, *NAMES, "--data strokes"):
        assert text in str(caught.value)
