"""Fetch one file of known size and SHA-256, from the first mirror that delivers it."""

from __future__ import annotations

import hashlib
import http.client
import queue
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from minicnn.errors import DownloadError
from minicnn.files import replacing

BLOCK = 2**16
TIMEOUT = 15.0    # seconds without a byte


def fetch(url: str, target: Path, size: int, sha256: str, *, timeout: float = TIMEOUT,
          schemes: Sequence[str] = ("https",), progress: Callable[[int], Any] = lambda received: None) -> None:
    """Download a file whose content is known, and put it in its place when it is whole and right.

    Parameters
    ----------
    url : str
    target : pathlib.Path
        Replaced only at the end; its folder exists.
    size : int
        Bytes; no more than these are received.
    sha256 : str
        Of the file, in hexadecimal.
    timeout : float
        Seconds without a byte, name look-up and connection included, after which to give up.
    schemes : sequence of str
        What the address, and any address it redirects to, may begin with.
    progress : callable
        Called with the number of bytes of each block.

    Raises
    ------
    DownloadError
        With the reason alone; the caller knows what the file is for.
    """
    _check_scheme(url, schemes)
    blocks: queue.SimpleQueue[bytes | BaseException] = queue.SimpleQueue()
    stop = threading.Event()
    # A thread of its own, because a socket's timeout covers neither the look-up of the name nor a host with eight
    # addresses of which none answers.
    threading.Thread(target=_receive, args=(url, size, timeout, schemes, blocks, stop), daemon=True).start()
    digest, received, first = hashlib.sha256(), 0, b""
    try:
        with replacing(target) as file:
            for block in _arriving(blocks, timeout):
                first = first or block[:64]
                received += len(block)
                digest.update(block)
                file.write(block)
                progress(len(block))
            if digest.hexdigest() != sha256:
                raise DownloadError(_what_is_wrong(received, size, digest.hexdigest(), sha256, first))
    finally:
        stop.set()


def _arriving(blocks: queue.SimpleQueue[bytes | BaseException], timeout: float) -> Iterator[bytes]:
    """Yield what the thread receives, until the empty block at the end."""
    while True:
        try:
            block = blocks.get(timeout=timeout)
        except queue.Empty:
            raise DownloadError(f"no byte arrived for {timeout:g} seconds") from None
        if isinstance(block, BaseException):
            raise block
        if not block:
            return
        yield block


def _receive(url: str, size: int, timeout: float, schemes: Sequence[str],
             blocks: queue.SimpleQueue[bytes | BaseException], stop: threading.Event) -> None:
    """Put the body into the queue, block by block: at most one byte more than expected, and an empty block last."""
    request = urllib.request.Request(url, headers={"User-Agent": "minicnn"})
    try:
        with urllib.request.build_opener(_SameSchemes(schemes)).open(request, timeout=timeout) as response:
            left = size + 1
            while left > 0 and not stop.is_set() and (block := response.read1(min(left, BLOCK))):
                left -= len(block)
                blocks.put(block)
        blocks.put(b"")
    except urllib.error.HTTPError as error:
        with error:
            blocks.put(DownloadError(f"the server answered {error.code} {error.reason}"))
    except urllib.error.URLError as error:
        blocks.put(DownloadError(str(error.reason)))
    except (OSError, http.client.HTTPException, ValueError) as error:
        blocks.put(DownloadError(f"{type(error).__name__}: {error}"))
    except BaseException as error:    # belongs to the caller, who would otherwise wait in vain
        blocks.put(error)


class _SameSchemes(urllib.request.HTTPRedirectHandler):
    """Follow redirections, but not from https to http."""

    def __init__(self, schemes: Sequence[str]) -> None:
        self.schemes = schemes

    def redirect_request(self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any,
                         newurl: str) -> urllib.request.Request | None:
        _check_scheme(newurl, self.schemes)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_scheme(url: str, schemes: Sequence[str]) -> None:
    scheme = urllib.parse.urlsplit(url).scheme
    if scheme not in schemes:
        raise DownloadError(f"{url} uses {scheme or 'no scheme'}; expected {' or '.join(schemes)}")


def _what_is_wrong(received: int, size: int, digest: str, sha256: str, first: bytes) -> str:
    if first.lstrip()[:1] == b"<":
        return "a web page came instead of the file (a log-in page of this network?)"
    if received > size:
        return f"the server sent more than the file's {size} bytes"
    if received < size:
        return f"the connection ended after {received} of {size} bytes"
    return f"the content has SHA-256 {digest}; expected {sha256}"
