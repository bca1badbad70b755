"""What scripts ask Keras' backend for: there is one here, and it is settled."""

from __future__ import annotations

__all__ = ["backend", "clear_session", "epsilon", "floatx", "image_data_format"]


def backend() -> str:
    """Return ``numpy``."""
    return "numpy"


def image_data_format() -> str:
    """Return ``channels_last``: images are (N, H, W, C)."""
    return "channels_last"


def floatx() -> str:
    """Return ``float32``, the type of layers that are not given another."""
    return "float32"


def epsilon() -> float:
    """Return Keras' fuzz, 1e-7."""
    return 1e-7


def clear_session() -> None:
    """Do nothing: models share no state that could be cleared."""
