"""What the blocks of a plan call, in one place: see ``minicnn/blocks.py``. The reference set has no such thing."""

from minicnn.kernels.fast.conv2d import convolution, convolve_backward, geometry
from minicnn.kernels.fast.dense import dense_gradients, multiplication, reads_itself
from minicnn.kernels.fast.fused import (
    dense,
    dense_gradient,
    gradient_of,
    normalization,
    normalization_gradient,
    read_backward,
    reading,
    source_of,
)
from minicnn.kernels.fast.memory import InTurns, contiguous, empty

__all__ = ["InTurns", "contiguous", "convolution", "convolve_backward", "dense", "dense_gradient", "dense_gradients",
           "empty", "geometry", "gradient_of", "multiplication", "normalization", "normalization_gradient",
           "read_backward", "reading", "reads_itself", "source_of"]
