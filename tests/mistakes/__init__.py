"""A catalogue of mistakes: edits that make minicnn wrong, each with the test that must notice.

A suite that has never been seen red proves little. Each mistake here is one that somebody writing a network from
scratch makes; ``tests/test_mistakes.py`` makes them one after the other and asserts that each turns its test red, by
an assertion: a crash does not count. ``docs/mistakes.md`` says which tests catch which.
"""

from __future__ import annotations

from mistakes import (
    activations,
    augmentation,
    batch_norm,
    callbacks,
    conv,
    dense,
    dropout,
    fast_conv,
    optimizers,
    others,
    pooling,
    resume,
    softmax_cross_entropy,
    tables,
)
from mistakes.record import KINDS, ROOT, Mistake

CATALOGUE: dict[str, list[Mistake]] = {
    "conv": conv.MISTAKES,
    "fast conv": fast_conv.MISTAKES,
    "pooling": pooling.MISTAKES,
    "batch norm": batch_norm.MISTAKES,
    "dropout": dropout.MISTAKES,
    "dense": dense.MISTAKES,
    "softmax cross-entropy": softmax_cross_entropy.MISTAKES,
    "activations": activations.MISTAKES,
    "optimizers": optimizers.MISTAKES,
    "initial weights, loaders, training": others.MISTAKES,
    "callbacks": callbacks.MISTAKES,
    "resume": resume.MISTAKES,
    "augmentation": augmentation.MISTAKES,
    "tables": tables.MISTAKES,
}

ALL: list[tuple[str, Mistake]] = [(topic, mistake) for topic, mistakes in CATALOGUE.items() for mistake in mistakes]

__all__ = ["ALL", "CATALOGUE", "KINDS", "ROOT", "Mistake"]
