"""The sides of a comparison: the same network in minicnn, in PyTorch, in Keras on TensorFlow.

Each side lives in a process of its own (``benchmark_worker.py``) and imports its library when it is made, so that no
side pays for another. All build the network from the same description, and get the same weights and images.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

Description = list[dict[str, Any]]  # of layers: class and arguments, as in minicnn
LOSS = "sparse_categorical_crossentropy"


class Side:
    """What all sides can do. ``load`` takes all images (N, H, W, C) and labels (N,); ``choose`` makes the batch."""

    packages: tuple[str, ...] = ()
    settings = ""

    def __init__(self, threads: int) -> None:
        """Import the library and set its threads; ImportError if it is not there."""
        raise NotImplementedError

    def threads(self) -> int:
        """Return the threads it really uses."""
        raise NotImplementedError

    def build(self, layers: Description, shape: tuple[int, ...], weights: list[np.ndarray] | None) -> None:
        """Make the network for images of a shape, with given weights or new ones, and its optimizer."""
        raise NotImplementedError

    def load(self, x: np.ndarray, y: np.ndarray) -> None:
        """Take the images, in the library's own form; all of them are the batch."""
        raise NotImplementedError

    def choose(self, rows: np.ndarray) -> None:
        """Make the images at these places the batch."""
        raise NotImplementedError

    def train(self) -> Any:
        """Do one training step and return the loss."""
        raise NotImplementedError

    def infer(self) -> Any:
        """Return the batch's outputs, the fastest way there is."""
        raise NotImplementedError

    def predict(self) -> Any:
        """Return the batch's outputs the way a user asks for them."""
        return self.infer()

    def probabilities(self) -> np.ndarray:
        """Return the batch's outputs (N, K) as an array."""
        return np.asarray(self.infer())

    def versions(self) -> dict[str, str]:
        """Return the versions of the packages it is made of."""
        return {name: importlib.metadata.version(name) for name in self.packages}


class Minicnn(Side):
    """Ours."""

    packages = ("numpy", "numba")
    fuse = True

    def __init__(self, threads: int) -> None:
        from minicnn.kernels.threads import set_threads

        set_threads(threads)

    def threads(self) -> int:
        """See Side."""
        from minicnn.kernels.threads import get_threads

        return get_threads()

    def build(self, layers: Description, shape: tuple[int, ...], weights: list[np.ndarray] | None) -> None:
        """See Side."""
        from minicnn import Input, Sequential
        from minicnn.layers import LAYERS

        made = [LAYERS[layer["class"]](**layer["config"]) for layer in layers]
        self.model = Sequential([Input(shape), *made], seed=0)
        if weights is not None:
            self.model.set_weights(weights)
        self.model.compile(optimizer="adam", loss=LOSS, metrics=["accuracy"], fuse=self.fuse)

    def load(self, x: np.ndarray, y: np.ndarray) -> None:
        """See Side."""
        self.all = self.x, self.y = x, y

    def choose(self, rows: np.ndarray) -> None:
        """See Side."""
        self.x, self.y = self.all[0][rows], self.all[1][rows]

    def train(self) -> Any:
        """See Side."""
        return self.model.train_on_batch(self.x, self.y)

    def infer(self) -> np.ndarray:
        """See Side."""
        return self.model.predict(self.x, batch_size=len(self.x), verbose=0)


class Torch(Side):
    """PyTorch, the fastest of its ways that were tried: eager, channels_last, ReLU in place, Adam in one kernel."""

    packages = ("torch",)
    settings = "eager, channels_last, fused Adam"

    def __init__(self, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        torch.manual_seed(0)
        self.torch = torch

    def threads(self) -> int:
        """See Side."""
        return int(self.torch.get_num_threads())

    def build(self, layers: Description, shape: tuple[int, ...], weights: list[np.ndarray] | None) -> None:
        """See Side."""
        torch = self.torch
        self.model = torch_network(torch, layers, shape).to(memory_format=torch.channels_last)
        if weights is not None:
            copy_to_torch(torch, self.model, weights)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3, eps=1e-7, fused=True)

    def load(self, x: np.ndarray, y: np.ndarray) -> None:
        """See Side."""
        self.all = self.x, self.y = self._images(x), self.torch.from_numpy(y)

    def choose(self, rows: np.ndarray) -> None:
        """See Side."""
        index = self.torch.from_numpy(rows)
        self.x = self.all[0][index].contiguous(memory_format=self.torch.channels_last)
        self.y = self.all[1][index]

    def train(self) -> float:
        """See Side."""
        self.model.train()
        self.optimizer.zero_grad()
        with self.precision():
            loss = self.torch.nn.functional.cross_entropy(self.model(self.x), self.y)
        loss.backward()
        self.optimizer.step()
        return float(loss.item())

    def infer(self) -> Any:
        """Return the logits."""
        self.model.eval()
        with self.torch.inference_mode(), self.precision():
            return self.model(self.x)

    def probabilities(self) -> np.ndarray:
        """See Side."""
        return np.asarray(self.torch.softmax(self.infer().float(), dim=1).numpy())

    def precision(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context in which layers compute."""
        return contextlib.nullcontext()

    def _images(self, x: np.ndarray) -> Any:
        return self.torch.from_numpy(x).permute(0, 3, 1, 2).contiguous(memory_format=self.torch.channels_last)


class TorchBf16(Torch):
    """PyTorch with 16-bit floats where its autocast finds them good enough: fewer bits, and hardware of their own."""

    settings = f"{Torch.settings}, bf16 autocast"

    def precision(self) -> contextlib.AbstractContextManager[Any]:
        """See Torch."""
        return self.torch.autocast("cpu", dtype=self.torch.bfloat16)


class Keras(Side):
    """Keras on TensorFlow, as a compiled graph; XLA (``jit_compile=True``) was slower by far."""

    packages = ("keras", "tensorflow")
    settings = "compiled graph"

    def __init__(self, threads: int) -> None:
        os.environ.setdefault("KERAS_BACKEND", "tensorflow")
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        if os.environ["KERAS_BACKEND"] == "tensorflow":
            import tensorflow

            tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
            tensorflow.config.threading.set_inter_op_parallelism_threads(threads)
        import keras

        self.keras, self._threads = keras, threads

    def threads(self) -> int:
        """See Side."""
        return self._threads

    def versions(self) -> dict[str, str]:
        """See Side; ``tensorflow-cpu`` is TensorFlow too."""
        backend = importlib.import_module(self.keras.backend.backend())
        return {"keras": self.keras.__version__, backend.__name__: backend.__version__}

    def build(self, layers: Description, shape: tuple[int, ...], weights: list[np.ndarray] | None) -> None:
        """See Side."""
        made = [keras_layer(self.keras, **layer) for layer in layers]
        self.model = self.keras.Sequential([self.keras.Input(shape), *made])
        if weights is not None:
            self.model.set_weights(weights)
        self.model.compile(optimizer="adam", loss=LOSS, metrics=["accuracy"], jit_compile=False)

    def load(self, x: np.ndarray, y: np.ndarray) -> None:
        """See Side."""
        self.all = self.images, self.labels = x, y
        self._take()

    def choose(self, rows: np.ndarray) -> None:
        """See Side."""
        self.images, self.labels = self.all[0][rows], self.all[1][rows]
        self._take()

    def train(self) -> Any:
        """See Side."""
        return self.model.train_on_batch(self.x, self.y)

    def infer(self) -> np.ndarray:
        """See Side."""
        return np.asarray(self.model.predict_on_batch(self.x))

    def predict(self) -> np.ndarray:
        """See Side."""
        return np.asarray(self.model.predict(self.images, batch_size=len(self.images), verbose=0))

    def _take(self) -> None:
        if len(self.images) > 10_000:  # the whole data set is no batch
            return
        convert = self.keras.ops.convert_to_tensor
        self.x, self.y = convert(self.images), convert(self.labels)


SIDES: dict[str, type[Side]] = {"minicnn": Minicnn, "torch": Torch, "torch-bf16": TorchBf16, "keras": Keras}
TITLES = {"minicnn": "minicnn", "torch": "PyTorch", "torch-bf16": "PyTorch bf16", "keras": "TensorFlow"}


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
