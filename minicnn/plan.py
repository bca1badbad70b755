"""The plan: which neighbouring layers run together, so that an activation is written and read once.

What follows a convolution or a dense layer (ReLU, batch normalization, 2x2 max pooling, dropout, in this order, each
optional) does little with each number and would mostly wait for memory. In a plan the layer itself applies the ReLU and
gathers the sums for the batch normalization while it writes; whoever reads its output normalizes, pools and drops on the
way in. Backward takes the same way in the other direction.

A layer never knows its neighbours: the plan reads their settings and does their work, with their parameters, and leaves
their gradients where they belong. Any other layer, such as a reader's own, runs by itself between two blocks, as it
would without a plan. Fused and unfused results agree up to rounding. Only the fast kernels have plans.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from minicnn.layers import Activation, BatchNormalization, Conv2D, Dense, Dropout, Flatten, Layer, MaxPooling2D

Moments = tuple[np.ndarray, np.ndarray]


class Flow(NamedTuple):
    """What a block hands to the next: its output, and mean and variance of it if the next one normalizes."""

    out: np.ndarray
    moments: Moments | None = None


class Return(NamedTuple):
    """What a block hands to the one before: the gradient of what it made of that one's output, and how it made it."""

    dout: np.ndarray
    slopes: tuple[np.ndarray, ...] | None = None  # of batch normalization
    largest: np.ndarray | None = None             # winners of pooling


class Link:
    """What stands between a block's first layer and the next block: normalization, pooling, dropout, flattening."""

    def __init__(self) -> None:
        self.norm: BatchNormalization | None = None
        self.pool: MaxPooling2D | None = None
        self.dropout: Dropout | None = None
        self.flatten: Flatten | None = None
        self._kept: dict[str, Any] = {}

    @property
    def layers(self) -> list[Layer]:
        """The layers in their order."""
        return [layer for layer in (self.norm, self.pool, self.dropout, self.flatten) if layer is not None]

    @property
    def reads_as_it_is(self) -> bool:
        """Whether nothing is to be done to the numbers."""
        return self.norm is None and self.pool is None and self.dropout is None

    def take(self, layer: Layer) -> bool:
        """Make a layer part of the link if it can be done here, after those it has; say whether."""
        empty = {"norm": not self.layers, "pool": self.pool is None and self.dropout is None and self.flatten is None,
                 "dropout": self.dropout is None and self.flatten is None, "flatten": self.flatten is None}
        for place, kind in (("norm", BatchNormalization), ("pool", MaxPooling2D), ("dropout", Dropout),
                            ("flatten", Flatten)):
            if type(layer) is kind and empty[place] and (kind is not MaxPooling2D or _is_halving(layer)):
                setattr(self, place, layer)
                return True
        return False

    def measures(self, training: bool) -> bool:
        """Whether the output's own mean and variance are wanted."""
        return self.norm is not None and training and self.norm.trainable

    def source(self, flow: Flow, training: bool) -> Any:
        """Return the Source that reads the flow through the link; when training, update the moving averages."""
        from minicnn.kernels.fast import fused
        from minicnn.kernels.fast.memory import empty

        out = flow.out
        norm = None
        if self.norm is not None:
            mean, variance = self.norm.statistics(flow.moments, training)
            norm = fused.normalization(self.norm.params["gamma"], self.norm.params["beta"], mean, variance,
                                       self.norm.epsilon, out.dtype)
            self._kept |= {"mean": mean, "variance": variance, "count": out.size // out.shape[-1]}
        shape, largest, drop = out.shape, None, None
        if self.pool is not None:
            shape = (shape[0], shape[1] // 2, shape[2] // 2, shape[3])
            largest = empty(shape, out.dtype)
        if self.dropout is not None and training and self.dropout.rate:
            drop = self.dropout.rate, self.dropout.key()
        self._kept |= {"shape": shape, "norm": norm, "out": out, "largest": largest, "drop": drop}
        return fused.source_of(out, norm, largest, drop)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of what the source gives, before flattening."""
        return self._kept["shape"]

    def source_again(self) -> Any:
        """Return a Source for backward: it reads the winners of pooling instead of looking for them again."""
        from minicnn.kernels.fast import fused

        largest = self._kept["largest"]
        return fused.source_of(self._kept["out"] if largest is None else largest, self._kept["norm"], None,
                               self._kept["drop"])

    def back(self, dx: np.ndarray, sums: np.ndarray) -> Return:
        """Return the gradient for the block before, from that of what the source gave and the sums over it."""
        from minicnn.kernels.fast import fused

        for layer in self.layers:
            layer.grads = {}
        if self.norm is None:
            return Return(dx, None, self._kept["largest"])
        kept, gamma = self._kept, self.norm.params["gamma"]
        slopes, dgamma, dbeta = fused.normalization_gradient(
            sums, kept["count"], gamma, kept["mean"], kept["variance"], self.norm.epsilon, kept["norm"][0],
            frozen=not self.norm.trainable)
        self.norm.grads = {"gamma": dgamma, "beta": dbeta}
        return Return(dx, slopes, kept["largest"])

    def release(self) -> None:
        """Drop what was kept for backward."""
        self._kept = {}


class Block:
    """A link, and the layer that reads through it; ``relu`` and ``measure`` say what it does as it writes."""

    def __init__(self, link: Link, layer: Layer | None) -> None:
        self.link, self.layer = link, layer
        self.activation: Activation | None = None  # a ReLU layer of its own
        self.after = Link()  # the link of the next block
        self._kept: dict[str, Any] = {}

    @property
    def layers(self) -> list[Layer]:
        """All layers of the block, in their order."""
        return [*self.link.layers, *([self.layer] if self.layer else []), *([self.activation] if self.activation else [])]

    def forward(self, flow: Flow, training: bool) -> Flow:
        """Return this block's output."""
        raise NotImplementedError

    def backward(self, back: Return, need_dx: bool) -> Return | None:
        """Assign the layers' gradients; return what the block before needs."""
        raise NotImplementedError

    def release(self) -> None:
        """Drop what was kept for backward."""
        self.link.release()
        self._kept = {}
        for layer in self.layers:
            layer.release()

    def takes(self, layer: Layer) -> bool:
        """Make a ReLU layer that follows part of the block; say whether."""
        if type(layer) is not Activation or layer.activation.name != "relu" or self.activation is not None:
            return False
        if self.layer is None or getattr(self.layer, "activation", None) is None or self.layer.activation.name != "linear":
            return False
        self.activation = layer
        return True

    @property
    def hands_on(self) -> bool:
        """Whether the next block may normalize, pool or drop what this one makes."""
        return getattr(self.layer, "activation", None) is not None and self.layer.activation.name in ("linear", "relu")

    @property
    def relu(self) -> bool:
        """Whether the layer's result goes through ReLU."""
        return self.activation is not None or self.layer.activation.name == "relu"  # type: ignore[union-attr]


class ConvolutionBlock(Block):
    """A Conv2D, linear or ReLU."""

    layer: Conv2D

    def forward(self, flow: Flow, training: bool) -> Flow:
        """See Block."""
        from minicnn.kernels.fast.conv2d import convolve

        source, layer = self.link.source(flow, training), self.layer
        g = layer.geometry(self.link.shape)
        out, moments = convolve(g, source, layer.params["kernel"], layer.params.get("bias"), self.relu,
                                     self.after.measures(training))
        if training:
            self._kept = {"geometry": g, "out": out}
        else:
            self.link.release()
        return Flow(out, moments)

    def backward(self, back: Return, need_dx: bool) -> Return | None:
        """See Block."""
        from minicnn.kernels.fast import fused
        from minicnn.kernels.fast.conv2d import convolve_backward

        gradient = fused.gradient_of(back.dout, self._kept["out"], self.relu, back.slopes, back.largest)
        dx, dw, db, sums = convolve_backward(self._kept["geometry"], self.link.source_again(), gradient,
                                                  self.layer.params["kernel"], need_dx)
        self.layer.grads = {"kernel": dw, "bias": db} if self.layer.use_bias else {"kernel": dw}
        return self.link.back(dx, sums) if dx is not None else None


class DenseBlock(Block):
    """A Dense layer; softmax and the like are applied by the layer itself."""

    layer: Dense

    def forward(self, flow: Flow, training: bool) -> Flow:
        """See Block."""
        from minicnn.kernels.fast import fused

        x = _read(self.link, flow, training)
        layer = self.layer
        in_kernel = self.hands_on or layer.skip_activation
        out, moments = fused.dense(x, layer.params["kernel"], layer.params.get("bias"), self.relu,
                                   self.after.measures(training))
        if not in_kernel:
            out = layer.activate(out, out=out)
        if training:
            self._kept = {"x": x, "out": out, "in_kernel": in_kernel}
        else:
            self.link.release()
        return Flow(out, moments)

    def backward(self, back: Return, need_dx: bool) -> Return | None:
        """See Block."""
        from minicnn import kernels
        from minicnn.kernels.fast import fused

        layer, x, out = self.layer, self._kept["x"], self._kept["out"]
        dz = back.dout
        if back.slopes is not None or self.relu:
            dz, _ = fused.dense_gradient(fused.gradient_of(dz, out, self.relu, back.slopes), out.shape)
        if not self._kept["in_kernel"]:
            dz = layer.activation_gradient(dz, out)
        dx, dw, db = kernels.dense_backward(dz, x, layer.params["kernel"], need_dx=need_dx)
        layer.grads = {"kernel": dw, "bias": db} if layer.use_bias else {"kernel": dw}
        return _back(self.link, dx) if need_dx else None


class SingleBlock(Block):
    """Any other layer, by itself; without a layer, what stands at the end of a network."""

    @property
    def hands_on(self) -> bool:
        """See Block."""
        return False

    @property
    def relu(self) -> bool:
        """See Block."""
        return False

    def forward(self, flow: Flow, training: bool) -> Flow:
        """See Block."""
        out = _read(self.link, flow, training)
        if not training:
            self.link.release()
        if self.layer is not None:
            out = np.asarray(self.layer.forward(out, training), dtype=self.layer.dtype)  # a reader may think otherwise
        return Flow(out)

    def backward(self, back: Return, need_dx: bool) -> Return | None:
        """See Block."""
        dx = back.dout if self.layer is None else self.layer.backward_checked(back.dout, need_dx)
        return _back(self.link, dx) if need_dx else None


class Plan:
    """A network's blocks in their order.

    Parameters
    ----------
    layers : list of Layer
        Built.
    """

    def __init__(self, layers: Sequence[Layer], fuse: bool = True) -> None:
        self.layers = list(layers)
        self.blocks: list[Block] = []
        self._made_of = _settings(layers)
        if not fuse:
            self.blocks = [SingleBlock(Link(), layer) for layer in layers]
            return
        link = Link()
        for layer in self.layers:
            last = self.blocks[-1] if self.blocks else None
            if last is not None and not link.layers and last.takes(layer):
                continue
            if last is not None and last.hands_on and link.take(layer):
                continue
            self.blocks.append(_block_for(link, layer))
            link = Link()
        if link.layers or not self.blocks:
            self.blocks.append(SingleBlock(link, None))
        for block, following in zip(self.blocks, self.blocks[1:]):
            block.after = following.link

    def is_of(self, layers: Sequence[Layer]) -> bool:
        """Tell whether this is the plan of these layers as they are now."""
        return self._made_of == _settings(layers)

    def forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        """Return the output of the last layer."""
        flow = Flow(self.layers[0].check_input(x))
        for block in self.blocks:
            flow = block.forward(flow, training)
        return flow.out

    def backward(self, dout: np.ndarray, first: int, need_dx: bool) -> np.ndarray | None:
        """Carry the gradient back to the layer at place ``first``; return that of the input if wanted."""
        back: Return | None = Return(dout)
        place = len(self.layers)
        for block in reversed(self.blocks):
            place -= len(block.layers)
            assert back is not None
            back = block.backward(back, need_dx or place > first)
            if place <= first and not need_dx:
                return None
        return back.dout if back is not None else None

    def release(self) -> None:
        """Drop what was kept for backward."""
        for block in self.blocks:
            block.release()


def can_fuse(layers: Sequence[Layer]) -> bool:
    """Tell whether layers can have a plan: they are built, and compute in one dtype."""
    return all(layer.built for layer in layers) and len({layer.dtype for layer in layers}) == 1


def _settings(layers: Sequence[Layer]) -> list[tuple[Any, ...]]:
    """Return what a plan depends on."""
    return [(id(layer), getattr(getattr(layer, "activation", None), "name", None), getattr(layer, "algorithm", None))
            for layer in layers]


def _block_for(link: Link, layer: Layer) -> Block:
    if type(layer) is Conv2D and layer.activation.name in ("linear", "relu") and layer.algorithm != "im2col":
        return ConvolutionBlock(link, layer) if link.flatten is None else SingleBlock(link, layer)
    if type(layer) is Dense:
        return DenseBlock(link, layer)
    return SingleBlock(link, layer)


def _is_halving(pool: Any) -> bool:
    """Whether a pooling layer has 2x2 windows side by side, without padding."""
    even = pool.input_shape is not None and not (pool.input_shape[0] % 2 or pool.input_shape[1] % 2)
    return pool.pool_size == pool.strides == (2, 2) and (pool.padding == "valid" or even)


def _read(link: Link, flow: Flow, training: bool) -> np.ndarray:
    """Return what a link makes of a flow as an array."""
    from minicnn.kernels.fast import fused

    out = flow.out
    if not link.reads_as_it_is:
        out = fused.read(link.source(flow, training), link.shape)
    else:
        link._kept = {"shape": out.shape}
    return out.reshape(len(out), -1) if link.flatten is not None else out


def _back(link: Link, dx: np.ndarray) -> Return:
    """Return the gradient for the block before, through a link that was read as an array."""
    from minicnn.kernels.fast import fused

    if link.flatten is not None:
        dx = dx.reshape(link.shape)
        link.flatten.grads = {}
    if link.reads_as_it_is:
        return Return(dx)
    return link.back(*fused.read_backward(link.source_again(), dx))
