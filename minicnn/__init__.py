"""minicnn: convolutional networks from scratch, to read, to train and to trust.

Nothing is compiled, downloaded or drawn at import. Keras' names mean here what they mean there: ``import minicnn as
keras``; docs/keras.md lists them. ``minicnn.compat`` has the older ones.
"""

from __future__ import annotations

import importlib
from typing import Any

from minicnn import (
    activations,
    callbacks,
    datasets,
    errors,
    initializers,
    kernels,
    layers,
    losses,
    metrics,
    models,
    optimizers,
    utils,
)
from minicnn.kernels.threads import get_threads, set_threads
from minicnn.layers import Input
from minicnn.models import Sequential, load_model

__version__ = "0.1.0"

__all__ = ["Input", "Sequential", "__version__", "activations", "callbacks", "datasets", "errors", "get_threads",
           "initializers", "kernels", "layers", "load_model", "losses", "metrics", "models", "optimizers",
           "set_threads", "utils"]


def __getattr__(name: str) -> Any:
    """Import what few programs need when it is first named (PEP 562)."""
    if name in ("backend", "gradcheck", "preprocessing", "testing"):
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
