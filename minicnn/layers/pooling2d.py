"""What MaxPooling2D and AveragePooling2D share: windows over images, and their sizes."""

from __future__ import annotations

from typing import Any

from minicnn.arguments import padding_name, pair
from minicnn.errors import ShapeError
from minicnn.kernels.geometry import Padding, output_size, window_padding
from minicnn.layers.base import Layer, Shape


class Pooling2D(Layer):
    """Base of the pooling layers, whose pages have the parameters."""

    input_rank = 3
    unsupported = {"data_format": (None, "channels_last")}

    def __init__(self, pool_size: int | tuple[int, int] = (2, 2), strides: int | tuple[int, int] | None = None,
                 padding: str = "valid", **base: Any) -> None:
        super().__init__(**base)
        name = type(self).__name__
        self.pool_size = pair(f"{name}: pool_size", pool_size)
        self.strides = self.pool_size if strides is None else pair(f"{name}: strides", strides)
        self.padding = padding_name(f"{name}: padding", padding)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """See Layer."""
        H, W, C = input_shape
        OH, OW = output_size((H, W), self.pool_size, self.strides, self.padding_around((H, W)))
        if OH < 1 or OW < 1:
            raise ShapeError(f"{self} got images of {H}x{W} for a pool of {self.pool_size[0]}x{self.pool_size[1]}; "
                             f"the pool must fit into the image. Use padding='same' or fewer pooling layers.")
        return OH, OW, C

    def config(self) -> dict[str, Any]:
        """See Layer."""
        return super().config() | {"pool_size": list(self.pool_size), "strides": list(self.strides),
                                   "padding": self.padding}

    def padding_around(self, size: tuple[int, int]) -> Padding:
        """Return the rows and columns of padding around images of a size (H, W)."""
        return window_padding(size, self.pool_size, self.strides, self.padding)
