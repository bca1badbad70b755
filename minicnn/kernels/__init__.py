"""Arrays in, arrays out: the arithmetic of the library, in two sets with the same names and signatures.

``reference``
    Plain NumPy, the page to read and to modify.
``fast``
    Numba, several threads, the default.

Layers write ``kernels.conv2d(...)``; the name is looked up in the active set at every call, so that ``use`` takes
effect at once and an edited reference kernel trains the next network.

Legend (everywhere): images ``x (N, H, W, C)``, kernels ``w (KH, KW, C, F)``, outputs ``out (N, OH, OW, F)``; dense
``(N, D) @ (D, K)``. Indices: ``n`` image, ``i j`` output row and column, ``p q`` kernel row and column, ``c`` channel,
``f`` filter.
"""

from __future__ import annotations

import importlib
import os
from types import ModuleType
from typing import Any

from minicnn.errors import ArgumentError, suggest

SETS = ("fast", "reference")

_active: ModuleType | None = None


def use(name: str) -> None:
    """Choose the kernel set for everything that follows.

    Parameters
    ----------
    name : {"fast", "reference"}

    Raises
    ------
    ArgumentError
        For any other name.
    """
    global _active
    if name not in SETS:
        raise ArgumentError(f"kernels.use got {name!r}, which is no kernel set. {suggest(name, SETS)}")
    _active = importlib.import_module(f"{__name__}.{name}")


def active() -> str:
    """Return the name of the active set; the first call reads ``MINICNN_KERNELS`` (default ``fast``)."""
    return _active_set().__name__.rsplit(".", 1)[1]


def announce_compilation() -> None:
    """Print a line if the coming calls must compile kernels first, so that the wait has an explanation."""
    if active() == "fast":
        from minicnn.kernels.fast.compile import cold
        if cold():
            print("Compiling the kernels, once on this machine; this takes up to half a minute ...", flush=True)


def _active_set() -> ModuleType:
    if _active is None:
        use(os.environ.get("MINICNN_KERNELS") or "fast")
    assert _active is not None
    return _active


def __getattr__(name: str) -> Any:
    """Look a kernel up in the active set (PEP 562): ``kernels.relu`` is that of the set in use *now*."""
    if name.startswith("_"):
        raise AttributeError(name)
    return getattr(_active_set(), name)
