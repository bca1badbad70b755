"""The layers, by Keras' names. A new layer is one file here and one line in ``LAYERS``."""

from __future__ import annotations

from minicnn.layers.activation import Activation
from minicnn.layers.base import ActivatedLayer, Layer
from minicnn.layers.batch_normalization import BatchNormalization
from minicnn.layers.conv2d import Conv2D
from minicnn.layers.dense import Dense
from minicnn.layers.dropout import Dropout
from minicnn.layers.flatten import Flatten
from minicnn.layers.input import Input
from minicnn.layers.max_pooling2d import MaxPooling2D

# The gradient check, the tests and the model file find a layer here, by its class name.
LAYERS: dict[str, type[Layer]] = {
    "Activation": Activation,
    "BatchNormalization": BatchNormalization,
    "Conv2D": Conv2D,
    "Dense": Dense,
    "Dropout": Dropout,
    "Flatten": Flatten,
    "Input": Input,
    "MaxPooling2D": MaxPooling2D,
}

MaxPool2D = MaxPooling2D

__all__ = ["LAYERS", "ActivatedLayer", "Activation", "BatchNormalization", "Conv2D", "Dense", "Dropout", "Flatten",
           "Input", "Layer", "MaxPool2D", "MaxPooling2D"]
