"""The layers, by Keras' names. A new layer is one file here and one line in ``LAYERS``."""

from __future__ import annotations

from minicnn.layers.activated import ActivatedLayer
from minicnn.layers.activation import Activation
from minicnn.layers.average_pooling2d import AveragePooling2D
from minicnn.layers.base import Layer
from minicnn.layers.batch_normalization import BatchNormalization
from minicnn.layers.conv2d import Conv2D
from minicnn.layers.dense import Dense
from minicnn.layers.dropout import Dropout
from minicnn.layers.flatten import Flatten
from minicnn.layers.global_average_pooling2d import GlobalAveragePooling2D
from minicnn.layers.input import Input
from minicnn.layers.leaky_relu import LeakyReLU
from minicnn.layers.max_pooling2d import MaxPooling2D

# The gradient check, the tests and the model file find a layer here, by its class name.
LAYERS: dict[str, type[Layer]] = {
    "Activation": Activation,
    "AveragePooling2D": AveragePooling2D,
    "BatchNormalization": BatchNormalization,
    "Conv2D": Conv2D,
    "Dense": Dense,
    "Dropout": Dropout,
    "Flatten": Flatten,
    "GlobalAveragePooling2D": GlobalAveragePooling2D,
    "Input": Input,
    "LeakyReLU": LeakyReLU,
    "MaxPooling2D": MaxPooling2D,
}

# Keras' other names for them.
AvgPool2D = AveragePooling2D
Convolution2D = Conv2D
GlobalAvgPool2D = GlobalAveragePooling2D
InputLayer = Input
MaxPool2D = MaxPooling2D

__all__ = ["LAYERS", "ActivatedLayer", "Activation", "AveragePooling2D", "AvgPool2D", "BatchNormalization", "Conv2D",
           "Convolution2D", "Dense", "Dropout", "Flatten", "GlobalAveragePooling2D", "GlobalAvgPool2D", "Input",
           "InputLayer", "Layer", "LeakyReLU", "MaxPool2D", "MaxPooling2D"]
