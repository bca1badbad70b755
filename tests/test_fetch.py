"""Fetching one file: redirections, and trouble in the thread that receives. ``test_datasets.py`` has bad mirrors."""

from __future__ import annotations

import hashlib
import http.server
import threading

import pytest

from minicnn.datasets import _download

CONTENT = b"what the file holds" * 1000


class Handler(http.server.BaseHTTPRequestHandler):
    """Sends ``/old`` on to ``/new``, where the file is."""

    def do_GET(self):
        if self.path == "/old":
            self.send_response(302)
            self.send_header("Location", "/new")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def fetch(url, target):
    _download.fetch(url, target, len(CONTENT), hashlib.sha256(CONTENT).hexdigest(), schemes=("http",))


@pytest.mark.parametrize("path", ["/new", "/old"])
def test_a_redirection_within_the_scheme_is_followed(server, tmp_path, path):
    fetch(server + path, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_what_nobody_expected_in_the_thread_is_raised_in_the_caller(tmp_path, monkeypatch):
    """Else the caller would wait for bytes that nobody will send."""
    def fail(*handlers):
        raise MemoryError("no room")

    monkeypatch.setattr(_download.urllib.request, "build_opener", fail)
    (tmp_path / "file").write_text("the old one")
    with pytest.raises(MemoryError, match="no room"):
        fetch("http://127.0.0.1/file", tmp_path / "file")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["the old one"]
