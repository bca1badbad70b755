"""Data sets: ``mnist`` (downloaded once), ``kaggle`` (its files in CSV) and ``strokes`` (drawn by the library).

Each is imported when first named.
"""

from __future__ import annotations

import importlib
from types import ModuleType

__all__ = ["kaggle", "mnist", "strokes"]


def __getattr__(name: str) -> ModuleType:
    """Import a data set's module at its first use (PEP 562), so that ``import minicnn`` stays quick."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
