"""Blocks: layers that run together, so that what one computes is written to memory once and read once.

A block is one layer that computes, behind a *link*: the batch normalization, pooling, dropout and flattening, in this
order and each optional, that stand between that layer and the block before. They do little with each number and would
mostly wait for memory. So

- on the way in, the layer reads what the block before has written through the link: it normalizes, pools and drops
  the numbers as they arrive;
- on the way out, it adds the bias, cuts off below zero (ReLU), and gathers the sums from which the next block's link
  takes mean and variance, or pools for it.

Backward goes the same way in the other direction. Blocks do the layers' work with the layers' parameters and leave the
gradients where they belong; a layer never knows that it is in one. ``kernels.blocks`` has the arithmetic, in the fast
set only. ``links.py`` has the links; ``plan.py`` says which layers form a block.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from minicnn import kernels
from minicnn.activations import ActivationFunction
from minicnn.kernels.remembered import Remembered
from minicnn.layers import Activation, Conv2D, Dense, Layer
from minicnn.links import Flow, Link, Passage, Return
from minicnn.program import Program


class Block:
    """A link and the layer behind it.

    Parameters
    ----------
    link : Link
        Between the block before and the layer.
    layer : Layer
        What computes.
    """

    hands_on = False  # may the next block's link take what stands behind this layer?

    def __init__(self, link: Link, layer: Layer | None) -> None:
        self.link, self.layer = link, layer
        self.after = Link()  # the link of the next block
        self._remembered = Remembered()  # what inference made of the weights
        self._kept: Any = None  # from a training forward to its backward

    @property
    def layers(self) -> list[Layer]:
        """All layers of the block, in their order."""
        return [*self.link.layers, *([] if self.layer is None else [self.layer])]

    def forward(self, flow: Flow, training: bool) -> Flow:
        """Return this block's output."""
        raise NotImplementedError

    @property
    def preparable(self) -> bool:
        """Whether inference always makes the same calls with the same arrays."""
        return True

    def prepare(self, program: Program, flow: Flow) -> Flow:
        """Add to a program what ``forward`` would do in inference; return what it would, its numbers yet to come."""
        raise NotImplementedError

    def backward(self, back: Return, need_dx: bool) -> Return | None:
        """Assign the layers' gradients; return what the block before needs, if ``need_dx``."""
        raise NotImplementedError

    def release(self) -> None:
        """Drop what was kept for backward."""
        self._kept = None

    def taken(self) -> Any:
        """Return what was kept, and keep it no longer: its memory serves the blocks before."""
        kept, self._kept = self._kept, None
        return kept

    def takes(self, layer: Layer) -> bool:
        """Make a layer that follows part of the way out, if it can be; say whether."""
        return False

    def computes(self) -> str:
        """Say what computes, and how."""
        raise NotImplementedError

    def way_out(self) -> list[str]:
        """Say in a few words each what is done to the result before it is written."""
        return []


class SingleBlock(Block):
    """Any layer by itself; without one, the link at the end of a network."""

    def forward(self, flow: Flow, training: bool) -> Flow:
        """See Block."""
        passage = self.link.passage(flow, training)
        out = self.link.read(passage)
        self._kept = passage if training else None
        return Flow(out if self.layer is None else self.layer.forward(out, training))

    @property
    def preparable(self) -> bool:
        """See Block: what a layer of the reader's own does is not known."""
        return self.layer is None

    def prepare(self, program: Program, flow: Flow) -> Flow:
        """See Block."""
        return Flow(self.link.prepare(program, flow))

    def backward(self, back: Return, need_dx: bool) -> Return | None:
        """See Block."""
        passage = self.taken()
        dx = back.dout if self.layer is None else self.layer.backward_checked(back.dout, need_dx)
        return self.link.read_backward(passage, dx) if need_dx else None

    def computes(self) -> str:
        """See Block."""
        if self.layer is None:
            return ""
        return f"{type(self.layer).__name__}, by itself"


class WeightedBlock(Block):
    """A Conv2D or Dense layer, whose result may go through ReLU before it is written."""

    layer: Conv2D | Dense

    def __init__(self, link: Link, layer: Layer) -> None:
        super().__init__(link, layer)
        self.relu_layer: Activation | None = None
        self.relu = is_function(self.layer.activation, "relu")
        self.hands_on = self.relu or is_function(self.layer.activation, "linear")

    @property
    def layers(self) -> list[Layer]:
        """See Block."""
        return [*super().layers, *([] if self.relu_layer is None else [self.relu_layer])]

    def takes(self, layer: Layer) -> bool:
        """See Block: a ReLU that is a layer of its own."""
        if self.relu or not self.hands_on or type(layer) is not Activation or not is_function(layer.activation, "relu"):
            return False
        self.relu_layer, self.relu = layer, True
        return True

    def assign(self, dw: np.ndarray, db: np.ndarray) -> None:
        """Give the layer its gradients."""
        self.layer.grads = {"kernel": dw, "bias": db} if self.layer.use_bias else {"kernel": dw}

    def way_out(self) -> list[str]:
        """See Block."""
        words = ["bias"] if self.layer.use_bias else []
        name = self.layer.activation.name
        words += ["ReLU"] if self.relu else [] if name == "linear" else [name]
        if self.after.norm is not None:
            return [*words, f"sums for {self.after.norm.name}"]
        return words + (["pool 2x2"] if self.after.pool is not None else [])


class ConvolutionBlock(WeightedBlock):
    """A Conv2D, linear or ReLU, that reads its input through the link."""

    layer: Conv2D

    def forward(self, flow: Flow, training: bool) -> Flow:
        """See Block."""
        passage = self.link.passage(flow, training)
        geometry, arranged, pooled = self._arranged(passage, training)
        arranged.call()
        self._kept = (passage, geometry, arranged.out, arranged.places) if training else None
        return Flow(arranged.out, arranged.moments(), pooled)

    def prepare(self, program: Program, flow: Flow) -> Flow:
        """See Block."""
        passage, weights = self.link.passage(flow, training=False), self.layer.params["kernel"]
        _, arranged, pooled = self._arranged(passage, training=False, allocator=program.allocator)
        for layer in self.layers:
            program.uses(layer, watched=weights)
        program.check(functools.partial(self._remembered.holds, arranged.weights, (weights,)))
        program.call(arranged.call)
        return Flow(arranged.out, None, pooled)

    def _arranged(self, passage: Passage, training: bool, **allocator: Any) -> tuple[Any, Any, bool]:
        """Return the geometry, the convolution that is to be computed, and whether it pools."""
        layer, (_, H, W, _) = self.layer, passage.shape
        geometry = kernels.blocks.geometry(passage.shape, layer.params["kernel"].shape, layer.strides,
                                           layer.zeros_around((H, W)), layer.algorithm)
        pool = self.after.pools_early(training)
        arranged = kernels.blocks.convolution(
            geometry, passage.source(), layer.params["kernel"], layer.params.get("bias"), self.relu,
            self.after.measures(training), pool, training, None if training else self._remembered, **allocator)
        return geometry, arranged, pool is not None

    def backward(self, back: Return, need_dx: bool) -> Return | None:
        """See Block."""
        passage, geometry, out, places = self.taken()
        gradient = kernels.blocks.gradient_of(back.dout, out, self.relu, back.slopes, back.largest, places)
        dx, dw, db, sums = kernels.blocks.convolve_backward(geometry, passage.source_again(), gradient,
                                                            self.layer.params["kernel"], need_dx)
        self.assign(dw, db)
        return self.link.back(passage, dx, sums) if need_dx else None

    def computes(self) -> str:
        """See Block."""
        return f"Conv2D, {self.layer.algorithm_in_use()}"


class DenseBlock(WeightedBlock):
    """A Dense layer; softmax and the like are applied by the layer itself."""

    layer: Dense

    def forward(self, flow: Flow, training: bool) -> Flow:
        """See Block."""
        passage, layer = self.link.passage(flow, training), self.layer
        x = self.link.read(passage)                                             # (N, D)
        out, moments = kernels.blocks.dense(x, layer.params["kernel"], layer.params.get("bias"), self.relu,
                                            self.after.measures(training))      # (N, K)
        if not self.hands_on:
            out = layer.activate(out, out=out)
        self._kept = (passage, x, out) if training else None
        return Flow(out, moments)

    def prepare(self, program: Program, flow: Flow) -> Flow:
        """See Block."""
        layer, x = self.layer, self.link.prepare(program, flow)
        weights = layer.params["kernel"]
        program.uses(layer, watched=weights if kernels.blocks.reads_itself(weights) else None)
        call, out = kernels.blocks.multiplication(x, kernels.blocks.contiguous(weights), layer.params.get("bias"),
                                                  self.relu, program.allocator)
        program.call(call)
        if not self.hands_on:
            program.call(functools.partial(_activate, layer, out))
        return Flow(out)

    def backward(self, back: Return, need_dx: bool) -> Return | None:
        """See Block."""
        (passage, x, out), layer, dz = self.taken(), self.layer, back.dout
        if self.relu or back.slopes is not None:
            gradient = kernels.blocks.gradient_of(dz, out, self.relu, back.slopes)
            dz, db = kernels.blocks.dense_gradient(gradient, out.shape)         # (N, K), (K)
            dx, dw = kernels.blocks.dense_gradients(dz, x, layer.params["kernel"], need_dx)
        else:
            dz = dz if self.hands_on else layer.activation_gradient(dz, out)
            dx, dw, db = kernels.dense_backward(dz, x, layer.params["kernel"], need_dx=need_dx)
        self.assign(dw, db)
        return self.link.read_backward(passage, dx) if need_dx else None

    def computes(self) -> str:
        """See Block."""
        return "Dense, matrix product"


def _activate(layer: Dense, out: np.ndarray) -> None:
    """Apply a layer's activation in place, whatever kind of function it is."""
    result = layer.activate(out, out=out)
    if result is not out:
        out[...] = result


def block_for(link: Link, layer: Layer) -> Block:
    """Return the block of a layer behind a link."""
    if type(layer) is Dense:
        return DenseBlock(link, layer)
    if type(layer) is Conv2D and layer.algorithm != "im2col" and (
            is_function(layer.activation, "relu") or is_function(layer.activation, "linear")):
        return ConvolutionBlock(link, layer)
    return SingleBlock(link, layer)


def is_function(activation: ActivationFunction, name: str) -> bool:
    """Tell whether an activation is the library's own of that name."""
    return type(activation) is ActivationFunction and activation.name == name
