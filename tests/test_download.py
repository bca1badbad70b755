"""The download of MNIST, tried against a server on this machine that misbehaves."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import re
import socket
import threading
from pathlib import Path

import pytest

from minicnn.datasets import _download, _places, mnist
from minicnn.errors import DownloadError, UnwritableFileError
from mnist_files import NAMES, fill, small_set


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
    with pytest.raises(UnwritableFileError, match=r"file.mnist: it cannot be written: .*; expected a folder"):
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
