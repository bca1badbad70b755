"""One network in other libraries: each layer as PyTorch and Keras have it, and weights in their order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

Description = list[dict[str, Any]]  # of layers: class and arguments, as in minicnn


def torch_network(torch: Any, layers: Description, shape: tuple[int, ...]) -> Any:
    """Return the module of a description, batch normalization as Keras has it; a last softmax is left to the loss."""
    nn = torch.nn
    modules: list[Any] = []
    size, channels = shape[:2], shape[2]
    for layer in layers:
        kind, config = layer["class"], layer["config"]
        if kind == "Conv2D":
            kernel, same = config["kernel_size"], config["padding"] == "same"
            if config["strides"] != [1, 1] or (same and not all(k % 2 for k in kernel)):
                raise ValueError(f"a {kernel} convolution with strides {config['strides']} is not translated")
            margins = [k // 2 if same else 0 for k in kernel]
            modules.append(nn.Conv2d(channels, config["filters"], kernel, padding=margins))
            size = tuple(s + 2 * m - k + 1 for s, m, k in zip(size, margins, kernel))
            channels = config["filters"]
        elif kind == "MaxPooling2D":
            if config["padding"] != "valid" or config["pool_size"] != config["strides"]:
                raise ValueError(f"pooling {config} is not translated")
            modules.append(nn.MaxPool2d(config["pool_size"]))
            size = tuple(s // p for s, p in zip(size, config["pool_size"]))
        elif kind == "BatchNormalization":
            norm = nn.BatchNorm2d if size else nn.BatchNorm1d
            modules.append(norm(channels, eps=config["epsilon"], momentum=1 - config["momentum"]))
        elif kind == "Flatten":
            modules.append(_channels_last_flatten(nn))
            size, channels = (), channels * int(np.prod(size))
        elif kind == "Dense":
            modules.append(nn.Linear(channels, config["units"]))
            channels = config["units"]
        elif kind == "Dropout":
            modules.append(nn.Dropout(config["rate"]))
        else:
            raise ValueError(f"{kind} is not translated to PyTorch")
        if config.get("activation") == "relu":
            modules.append(nn.ReLU(inplace=True))
    return nn.Sequential(*modules)


def _channels_last_flatten(nn: Any) -> Any:
    """Return a Flatten in the order of channels_last memory: nothing is copied, and weights need no new order."""
    class Flatten(nn.Module):
        def forward(self, x: Any) -> Any:
            return x.permute(0, 2, 3, 1).flatten(1)

    return Flatten()


def copy_to_torch(torch: Any, model: Any, weights: list[np.ndarray]) -> None:
    """Give a module all weights, in Keras' order."""
    left: Iterator[np.ndarray] = iter(weights)
    for module in model:
        for name in ("weight", "bias", "running_mean", "running_var"):
            target = getattr(module, name, None)
            if target is None:
                continue
            array = next(left)
            if array.ndim > 1:  # (KH, KW, C, F) -> (F, C, KH, KW), (D, K) -> (K, D)
                array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
            with torch.no_grad():
                target.copy_(torch.from_numpy(np.ascontiguousarray(array)))
    if next(left, None) is not None:
        raise ValueError("PyTorch's network has fewer weights than ours")


def keras_layer(keras: Any, **layer: Any) -> Any:
    """Return Keras' layer of the same name; what matters are the arguments that say what it computes."""
    kind, config = layer["class"], layer["config"]
    wanted = {"Conv2D": ("filters", "kernel_size", "strides", "padding", "activation", "use_bias"),
              "MaxPooling2D": ("pool_size", "strides", "padding"), "BatchNormalization": ("momentum", "epsilon"),
              "Dense": ("units", "activation", "use_bias"), "Dropout": ("rate",), "Flatten": ()}
    if kind not in wanted:
        raise ValueError(f"{kind} is not translated to Keras")
    return getattr(keras.layers, kind)(**{name: config[name] for name in wanted[kind]})
