"""The sides of a comparison: the same network in minicnn, in PyTorch, in Keras on TensorFlow.

Each side lives in a process of its own (``benchmark_worker.py``) and imports its library when it is made, so that no
side pays for another. All build the network from the same description, and get the same weights and images.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
from typing import Any

import numpy as np

from benchmark_networks import Description, copy_to_torch, keras_layer, torch_network

LOSS = "sparse_categorical_crossentropy"
EPOCH_BATCH = 128
TURN, MOVE = 10, 0.1  # degrees; zoom, and shift as a fraction of the size: each at most so much, either way


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

    def epoch(self) -> Any:
        """Train once on all images, in batches, each image turned, zoomed and shifted at random."""
        raise NotImplementedError

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
        return self.model(self.x)

    def predict(self) -> np.ndarray:
        """See Side."""
        return self.model.predict(self.x, batch_size=len(self.x), verbose=0)

    def epoch(self) -> Any:
        """See Side."""
        from minicnn.preprocessing.image import ImageDataGenerator

        moved = ImageDataGenerator(rotation_range=TURN, zoom_range=MOVE, width_shift_range=MOVE,
                                   height_shift_range=MOVE)
        return self.model.fit(moved.flow(self.x, self.y, batch_size=EPOCH_BATCH, seed=0), epochs=1, verbose=0)


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

    def epoch(self) -> None:
        """See Side; a batch is moved as a whole, by grids of places."""
        torch, (images, labels) = self.torch, (self.x, self.y)
        for rows in torch.randperm(len(images)).split(EPOCH_BATCH):
            turn = torch.deg2rad(torch.empty(len(rows)).uniform_(-TURN, TURN))
            zoom = torch.empty(2, len(rows)).uniform_(1 - MOVE, 1 + MOVE)
            shift = torch.empty(2, len(rows)).uniform_(-2 * MOVE, 2 * MOVE)  # from -1 to 1 is the whole image
            maps = torch.stack([torch.stack([turn.cos() * zoom[0], -turn.sin() * zoom[1], shift[0]], 1),
                                torch.stack([turn.sin() * zoom[0], turn.cos() * zoom[1], shift[1]], 1)], 1)
            grids = torch.nn.functional.affine_grid(maps, [len(rows), *images.shape[1:]], align_corners=False)
            moved = torch.nn.functional.grid_sample(images[rows], grids, padding_mode="border", align_corners=False)
            self.x, self.y = moved.contiguous(memory_format=torch.channels_last), labels[rows]
            self.train()
        self.x, self.y = images, labels

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
        self.moved: Any = None
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

    def epoch(self) -> Any:
        """See Side; TensorFlow's pipeline, made once, moves the next batches meanwhile."""
        if self.moved is None:
            self.moved = self._moved_batches()
        return self.model.fit(self.moved, epochs=1, shuffle=False, verbose=0)

    def _moved_batches(self) -> Any:
        import tensorflow

        layers, auto = self.keras.layers, tensorflow.data.AUTOTUNE
        move = self.keras.Sequential([
            layers.RandomRotation(TURN / 360, fill_mode="nearest"), layers.RandomZoom(MOVE, MOVE, fill_mode="nearest"),
            layers.RandomTranslation(MOVE, MOVE, fill_mode="nearest")])
        images = tensorflow.data.Dataset.from_tensor_slices((self.images, self.labels)).shuffle(len(self.images))
        return images.batch(EPOCH_BATCH).map(lambda x, y: (move(x, training=True), y), auto).prefetch(auto)

    def _take(self) -> None:
        if len(self.images) > 10_000:  # the whole data set is no batch
            return
        convert = self.keras.ops.convert_to_tensor
        self.x, self.y = convert(self.images), convert(self.labels)


SIDES: dict[str, type[Side]] = {"minicnn": Minicnn, "torch": Torch, "torch-bf16": TorchBf16, "keras": Keras}
TITLES = {"minicnn": "minicnn", "torch": "PyTorch", "torch-bf16": "PyTorch bf16", "keras": "TensorFlow"}
