"""Window geometry shared by convolution and pooling, in both kernel sets: padding and output sizes."""

from __future__ import annotations

Pair = tuple[int, int]
Padding = tuple[int, int, int, int]  # rows before (top), after (bottom), columns before (left), after (right)


def same_padding(size: int, window: int, stride: int) -> Pair:
    """Return how many zeros ``same`` adds before and after one axis.

    TensorFlow's rule: the output has ``ceil(size / stride)`` positions, and an odd pixel goes to the end.

    Parameters
    ----------
    size, window, stride : int
        Input size, kernel or pool size and stride along the axis.

    Returns
    -------
    (int, int)
        Zeros before and after.
    """
    out = -(-size // stride)
    total = max((out - 1) * stride + window - size, 0)
    return total // 2, total - total // 2


def window_padding(size: Pair, window: Pair, stride: Pair, padding: str) -> Padding:
    """Turn ``"valid"`` or ``"same"`` into the four numbers the kernels take: (top, bottom, left, right)."""
    if padding == "valid":
        return 0, 0, 0, 0
    return same_padding(size[0], window[0], stride[0]) + same_padding(size[1], window[1], stride[1])


def output_size(size: Pair, window: Pair, stride: Pair, padding: Padding) -> Pair:
    """Return (OH, OW): how often the window fits, ``(size + padding - window) // stride + 1`` along each axis."""
    top, bottom, left, right = padding
    return ((size[0] + top + bottom - window[0]) // stride[0] + 1,
            (size[1] + left + right - window[1]) // stride[1] + 1)
