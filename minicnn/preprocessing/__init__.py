"""What is done to data before it reaches a network: ``image`` turns, shifts and zooms pictures while training."""

from minicnn.preprocessing import image

__all__ = ["image"]
