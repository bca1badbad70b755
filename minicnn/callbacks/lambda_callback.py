"""LambdaCallback: a callback made of functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minicnn.callbacks.base import Callback
from minicnn.errors import ArgumentError, suggest

_EVENTS = [name for name in vars(Callback) if name.startswith("on_")]


class LambdaCallback(Callback):
    """Call functions in training.

    Parameters
    ----------
    on_epoch_begin, on_epoch_end, on_train_begin, on_train_end, on_train_batch_begin, on_train_batch_end : callable
        Called as the method of that name: ``(epoch, logs)``, ``(logs)``, ``(batch, logs)``.
    **others : callable
        Any other method ``on_...`` of Callback.

    Raises
    ------
    ArgumentError
        For a name that is no event, which would never be called, or something that is no function.
    """

    def __init__(self, on_epoch_begin: Callable[..., Any] | None = None,
                 on_epoch_end: Callable[..., Any] | None = None, on_train_begin: Callable[..., Any] | None = None,
                 on_train_end: Callable[..., Any] | None = None,
                 on_train_batch_begin: Callable[..., Any] | None = None,
                 on_train_batch_end: Callable[..., Any] | None = None, **others: Callable[..., Any] | None) -> None:
        super().__init__()
        given = others | {
            "on_epoch_begin": on_epoch_begin, "on_epoch_end": on_epoch_end, "on_train_begin": on_train_begin,
            "on_train_end": on_train_end, "on_train_batch_begin": on_train_batch_begin,
            "on_train_batch_end": on_train_batch_end}
        for event, function in given.items():
            if event not in _EVENTS:
                raise ArgumentError(f"LambdaCallback got {event!r}, which never happens. {suggest(event, _EVENTS)}")
            if function is None:
                continue
            if not callable(function):
                raise ArgumentError(f"LambdaCallback got {event}={function!r}; expected a function.")
            setattr(self, event, function)
