"""What keeps a run from being lost: Ctrl-C at the wrong moment, a reader that leaves, no console to write to.

Imported before anything that takes long, so that Ctrl-C during the imports ends in one word, too.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any, TextIO, cast


class Terminated(KeyboardInterrupt):
    """The process was asked to end (SIGTERM) and had to save something first."""


class CtrlC:
    """Let Ctrl-C interrupt the training, once; a second press waits until what was learned is saved.

    Used as ``with CtrlC() as ctrl_c:`` around both, with ``ctrl_c.hold()`` between them. A press that had to wait
    interrupts at the end of the block. Where Ctrl-C is ignored or handled by somebody else, it stays so. SIGTERM, by
    which systems ask a process to end, does the same.

    Parameters
    ----------
    gently : callable, optional
        Called when a press would interrupt. If it returns True, it will see to that itself at a better moment.

    Attributes
    ----------
    terminated : bool
        Whether SIGTERM came.
    """

    def __init__(self, gently: Callable[[], bool] = lambda: False) -> None:
        self._held = self._waiting = self.terminated = False
        self._gently = gently
        self._before: dict[int, Any] = {}

    def hold(self) -> None:
        """Let every press wait from now on."""
        self._held = True

    def __enter__(self) -> CtrlC:
        if threading.current_thread() is threading.main_thread():
            for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
                if signal.getsignal(number) is usual:
                    self._before[number] = signal.signal(number, self._pressed)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._waiting and kind is None:
            raise Terminated if self.terminated else KeyboardInterrupt

    def _pressed(self, number: int, frame: FrameType | None) -> None:
        self.terminated |= number == signal.SIGTERM
        if self._held:
            self._waiting = True
        elif not self._gently():
            self._held = True  # the first press: whatever follows is saving
            raise Terminated if self.terminated else KeyboardInterrupt


class Patient:
    """A stream that goes silent, instead of raising, when nobody reads it any more (``| head -1``).

    Attributes
    ----------
    lost : str
        Why the system took no more (a full disk), if that was not the reader's wish.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.lost = ""

    def write(self, text: str) -> int:
        """Write, or drop the text."""
        with self._giving_up():
            return self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, or drop what is in the buffer."""
        with self._giving_up():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextlib.contextmanager
    def _giving_up(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                self.lost = os.strerror(error.errno or 0)
            with contextlib.suppress(OSError):  # a stream without a file has nothing to redirect
                nowhere = os.open(os.devnull, os.O_WRONLY)  # Python writes the rest of the buffer there as it ends
                os.dup2(nowhere, self._stream.fileno())
                os.close(nowhere)


@contextlib.contextmanager
def patient_streams() -> Iterator[Patient]:
    """Make standard output and errors patient, or streams to nowhere where there is no console (``pythonw``).

    Yields
    ------
    Patient
        Standard output.
    """
    before = sys.stdout, sys.stderr
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        patient = [Patient(stream or nowhere) for stream in before]
        sys.stdout, sys.stderr = (cast(TextIO, stream) for stream in patient)
        try:
            yield patient[0]
        finally:
            sys.stdout, sys.stderr = before


def _show(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Say an interruption that nobody caught in one word."""
    if issubclass(kind, KeyboardInterrupt):
        if sys.stderr is not None:
            print("\nInterrupted.", file=sys.stderr)
    else:
        _show_others(kind, error, traceback)


_show_others = sys.excepthook
sys.excepthook = _show
