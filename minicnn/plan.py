"""The plan: which neighbouring layers run as one block, so that an activation is written and read once.

``print(model.plan())`` shows it. Layers are gone through in order: a convolution or dense layer begins a block; a ReLU
that follows is done on its way out; batch normalization, 2x2 max pooling, dropout and flattening, in this order and
each optional, are done on the way into the next block. Any other layer, such as a reader's own, is a block by itself
and runs as it would without a plan. Fused and unfused results agree up to rounding.

What the blocks do stands in ``blocks.py``. Only the fast kernels have them: with the reference kernels, with
``compile(..., fuse=False)``, and in ``model.forward(x, training=True)`` each layer runs by itself.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from minicnn import kernels
from minicnn.blocks import Block, Flow, Link, Return, SingleBlock, block_for
from minicnn.errors import ShapeError
from minicnn.layers import Layer
from minicnn.program import Program
from minicnn.tables import output_encoding, printable, table

# Attributes of layers that decide which layers share a block.
_DECISIVE = ("activation", "algorithm", "pool_size", "strides", "padding", "input_shape", "epsilon")
# Bytes of a batch, and of two activations of it, up to which it has a program: that copies the batch, and spares some
# 0.2 ms of Python.
PREPARED_INPUT, PREPARED = 1 << 20, 1 << 25
PROGRAMS = 2  # batches of so many shapes have theirs: the last one of an epoch is smaller than the others


class Plan:
    """A network's blocks in their order.

    Parameters
    ----------
    layers : sequence of Layer
        Built.
    unfused : str
        Why each layer is to run by itself; empty to fuse what can be fused.

    Attributes
    ----------
    blocks : list of Block
    left_to_loss : str
        The layer whose softmax training and evaluation leave to the loss, for ``str``; empty if there is none.
    """

    def __init__(self, layers: Sequence[Layer], unfused: str = "") -> None:
        self.layers = list(layers)
        self.unfused, self.left_to_loss = unfused, ""
        self.blocks: list[Block] = [SingleBlock(Link(), layer) for layer in layers] if unfused else _grouped(layers)
        self._out_shape: tuple[int, ...] = ()
        self._programs: dict[tuple[int, ...], Program] = {}  # by the batch's shape; one that runs is not here
        self._image_bytes = 2 * max((math.prod(layer.output_shape or ()) * np.dtype(layer.dtype).itemsize
                                     for layer in self.layers), default=0)
        self._made_of = _decisive(layers)

    def is_of(self, layers: Sequence[Layer]) -> bool:
        """Tell whether this is the plan of these layers as they are now."""
        return (len(layers) == len(self.layers) and all(map(operator.is_, layers, self.layers))
                and all(_same(getattr(layer, name), value) for layer, name, value in self._made_of))

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Return the output of the last layer for a batch (N, ...).

        What training keeps for ``backward`` is kept here; layers' own ``backward`` would have to refuse.
        """
        if training:
            self._programs.clear()  # the weights will change
            for layer in self.layers:
                layer.release()
        elif all(block.preparable for block in self.blocks):
            x = self.layers[0].check_input(x)
            if x.nbytes <= PREPARED_INPUT and len(x) * self._image_bytes <= PREPARED:
                return self._run(x)
        flow = Flow(x)
        for block in self.blocks:
            if not flow.pooled:  # a layer of the reader's own may have given another dtype or shape than it said
                flow = flow._replace(out=block.layers[0].check_input(flow.out))
            flow = block.forward(flow, training)
        if training:
            self._out_shape = flow.out.shape
        return flow.out

    def _run(self, x: np.ndarray) -> np.ndarray:
        """Return the output for a batch that has passed the checks, by the program for its shape, or a new one."""
        program = self._programs.pop(x.shape, None)  # in one step: another thread, or a signal, may be here as well
        if program is None or not program.is_current():
            program = Program(x.shape, self.layers[0].dtype)
            flow = Flow(program.x)
            for block in self.blocks:
                flow = block.prepare(program, flow)
            program.ends_with(flow.out)
        out = program.run(x)
        self._programs[x.shape] = program
        for shape in list(self._programs)[:-PROGRAMS]:
            self._programs.pop(shape, None)
        return out

    def backward(self, dout: np.ndarray, need_dx: bool = True) -> np.ndarray | None:
        """Assign the gradients of all layers, from that of the last training forward's output; once for each.

        Parameters
        ----------
        dout : ndarray
        need_dx : bool
            Whether the gradient of the input is wanted. If not, the way back ends at the first trained layer.
        """
        if np.shape(dout) != self._out_shape:
            raise ShapeError(f"The network got a gradient of shape {np.shape(dout)} in backward; expected "
                             f"{self._out_shape}, the shape of its output. Correct what the loss returns.")
        first = 0 if need_dx else first_trained(self.layers)
        back: Any = Return(np.asarray(dout, dtype=self.layers[-1].dtype))
        end = len(self.layers)  # the place behind the block
        try:
            for block in reversed(self.blocks):
                if end <= first:
                    break
                end -= len(block.layers)
                back = block.backward(back, need_dx or end + len(block.link.layers) > first)
        finally:
            self.release()
        return back.dout if need_dx else None

    def release(self) -> None:
        """Drop what was kept for backward."""
        for block in self.blocks:
            block.release()

    def __str__(self) -> str:
        """Explain the plan, block by block."""
        encoding = output_encoding()
        notes = [f"In training and evaluation the softmax of {self.left_to_loss} and the loss are one kernel, "
                 "softmax_cross_entropy."] if self.left_to_loss else []
        if self.unfused:
            return printable([f"Each of the {len(self.layers)} layers runs by itself: {self.unfused}", *notes],
                             encoding)
        rows = []
        for number, block in enumerate(self.blocks, 1):
            above = "\n" * (len(block.link.layers) if block.layer else 0)  # words stand beside their layer
            rows.append([str(number), "\n".join(layer.name for layer in block.layers),
                         "\n".join(block.link.describe()), above + block.computes(),
                         above + ", ".join(block.way_out())])
        return printable([
            f"{len(self.layers)} layers run as {len(self.blocks)} blocks. Between two blocks an activation is written "
            f"and read once.",
            *table(["Block", "Layers", "On the way in", "Computes", "On the way out"], rows, encoding, ["Block"]),
            "Dropping, and the sums that batch normalization takes mean and variance from: in training only.", *notes,
        ], encoding)


def why_unfused(layers: Sequence[Layer], fuse: bool) -> str:
    """Return the reason why each layer must run by itself, or an empty string if neighbours can be fused."""
    if not fuse:
        return "the model has fuse=False, which compile sets."
    if not hasattr(kernels, "blocks"):
        return f'the {kernels.active()} kernels have no fused blocks; minicnn.kernels.use("fast") has.'
    dtypes = sorted({layer.dtype for layer in layers})
    return f"they compute in different dtypes, {' and '.join(dtypes)}." if len(dtypes) > 1 else ""


def first_trained(layers: Sequence[Layer]) -> int:
    """Return the place of the first layer whose parameters are trained; behind the last if there is none."""
    return min((i for i, layer in enumerate(layers) if layer.params and layer.trainable), default=len(layers))


def _grouped(layers: Sequence[Layer]) -> list[Block]:
    """Return the blocks of layers that may be fused."""
    blocks: list[Block] = []
    link = Link()  # what has been taken since the last block, for the next one
    for layer in layers:
        last = blocks[-1] if blocks else None
        if last is not None and not link.layers and last.takes(layer):
            continue
        if last is not None and last.hands_on and link.take(layer):
            continue
        blocks.append(block_for(link, layer))
        link = Link()
    if link.layers:
        blocks.append(SingleBlock(link, None))
    for block, following in itertools.pairwise(blocks):
        block.after = following.link
    return blocks


def _decisive(layers: Sequence[Layer]) -> list[tuple[Layer, str, Any]]:
    """Return the settings of layers that a plan depends on."""
    return [(layer, name, getattr(layer, name)) for layer in layers for name in _DECISIVE if hasattr(layer, name)]


def _same(one: Any, other: Any) -> bool:
    """Compare settings; layers and activations are the same only if they are one object."""
    return one is other or (isinstance(one, (str, tuple)) and one == other)
