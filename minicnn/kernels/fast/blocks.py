"""What the blocks of a plan call, in one place: see ``minicnn/blocks.py``. The reference set has no such thing."""

from minicnn.kernels.fast.conv2d import convolve, convolve_backward, geometry
from minicnn.kernels.fast.dense import dense_gradients
from minicnn.kernels.fast.fused import (
    dense,
    dense_gradient,
    gradient_of,
    normalization,
    normalization_gradient,
    read,
    read_backward,
    source_of,
)
from minicnn.kernels.fast.memory import empty

__all__ = ["convolve", "convolve_backward", "dense", "dense_gradient", "dense_gradients", "empty", "geometry",
           "gradient_of", "normalization", "normalization_gradient", "read", "read_backward", "source_of"]
