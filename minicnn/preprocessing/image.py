"""Augmentation: every epoch sees each image a little turned, shifted and zoomed.

A transform of an image says for every pixel of the result where in the image it comes from: rotation about the middle,
then shift, then zoom, as one affine map. Names and meaning are those of Keras' ``ImageDataGenerator``.

All chance follows from (seed, epoch, number of the image): a batch is the same whatever was drawn before it, whatever
the number of threads, and after a training that was interrupted.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from minicnn import kernels
from minicnn.arguments import by_name, real_number, whole_number
from minicnn.batches import Batch, as_arrays, rows_of
from minicnn.errors import ArgumentError, ShapeError, refuse_unsupported, suggest
from minicnn.kernels.checks import FILL_MODES
from minicnn.preprocessing.transforms import CHANCES, NEUTRAL, Shift, matrices, zoom_factors
from minicnn.streams import generator
from minicnn.utils import default_seed

__all__ = ["ImageDataGenerator", "NumpyArrayIterator"]

Range = float | int | Sequence[float]

SUPPORTED = ("rotation_range, width_shift_range, height_shift_range, zoom_range, fill_mode, cval, rescale and "
             "validation_split are supported.")
# Keras' other arguments, with the values that change nothing.
UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "featurewise_center": (False,), "samplewise_center": (False,), "featurewise_std_normalization": (False,),
    "samplewise_std_normalization": (False,), "zca_whitening": (False,), "zca_epsilon": (1e-6,),
    "brightness_range": (None,), "shear_range": (0.0, 0), "channel_shift_range": (0.0, 0),
    "horizontal_flip": (False,), "vertical_flip": (False,), "preprocessing_function": (None,),
    "data_format": (None, "channels_last"), "interpolation_order": (1,), "dtype": (None, "float32")}
UNSUPPORTED_IN_FLOW: dict[str, tuple[Any, ...]] = {
    "save_to_dir": (None,), "save_prefix": ("",), "save_format": ("png",)}


class ImageDataGenerator:
    """Draw random transforms and apply them to batches of images.

    Parameters
    ----------
    rotation_range : float
        Degrees: angles are drawn evenly from -range to range.
    width_shift_range, height_shift_range : float, int or sequence
        Along the columns, along the rows. A float below 1 is a fraction of the size, any other a number of pixels:
        drawn evenly from -range to range. An int n draws whole pixels, -(n - 1) to n - 1. A sequence draws one of its
        numbers (fractions, if all are below 1) and its sign.
    zoom_range : float or (low, high)
        Rows and columns are scaled by factors of their own, drawn evenly from 1 - range to 1 + range, or low to high;
        below 1 the image grows, for a pixel then comes from nearer the middle.
    fill_mode : {"nearest", "constant", "reflect", "wrap"}
        What lies outside the image: see :func:`minicnn.kernels.reference.affine_warp`.
    cval : float
        For ``constant``: the value outside.
    rescale : float, optional
        Factor of all values, after the transform.
    validation_split : float
        Part of the images, the *first* ones, that ``flow(subset="validation")`` gives.
    **unsupported
        Keras' other arguments are refused, unless they have the value that changes nothing.

    Raises
    ------
    ArgumentError
        If an argument makes no sense.
    UnsupportedError
        For an argument of Keras that is not supported here.

    Notes
    -----
    Two things differ from Keras 3. There ``width_shift_range`` moves images up and down and ``height_shift_range``
    sideways, and an image that is not square turns about another point than its middle (an exchange of the axes in
    ``apply_affine_transform``); here both do what Keras' documentation says. And chance comes from the seed alone.
    """

    def __init__(self, *, rotation_range: float = 0, width_shift_range: Range = 0.0, height_shift_range: Range = 0.0,
                 zoom_range: float | Sequence[float] = 0.0, fill_mode: str = "nearest", cval: float = 0.0,
                 rescale: float | None = None, validation_split: float = 0.0, **unsupported: Any) -> None:
        refuse_unsupported("ImageDataGenerator", unsupported, UNSUPPORTED, SUPPORTED)
        self.rotation_range = real_number("rotation_range", rotation_range)
        self.width_shift_range, self.height_shift_range = width_shift_range, height_shift_range
        self.zoom_range = zoom_factors(zoom_range)
        self.fill_mode = by_name("fill_mode", fill_mode, dict(zip(FILL_MODES, FILL_MODES)))
        self.cval = real_number("cval", cval, -np.inf)
        self.rescale = None if rescale is None else real_number("rescale", rescale, -np.inf)
        self.validation_split = real_number("validation_split", validation_split, below=1)
        self._rows = Shift("height_shift_range", height_shift_range)
        self._columns = Shift("width_shift_range", width_shift_range)
        self._drawn = 0  # transforms drawn by get_random_transform without a seed

    def flow(self, x: Any, y: Any = None, batch_size: int = 32, shuffle: bool = True, sample_weight: Any = None,
             seed: int | None = None, ignore_class_split: bool = False, subset: str | None = None,
             **unsupported: Any) -> NumpyArrayIterator:
        """Return batches of transformed images, without end; ``len`` of it is the number of batches an epoch.

        Parameters
        ----------
        x : ndarray, shape (N, H, W, C)
            Images of any numeric type; they are left as they are.
        y : ndarray, shape (N, ...), optional
            Labels. Without them batches are images alone.
        batch_size : int
            The last batch of an epoch may be smaller.
        shuffle : bool
            Draw a new order for every epoch.
        sample_weight : ndarray, shape (N,), optional
        seed : int, optional
            Decides order and transforms; default that of ``utils.set_random_seed``.
        ignore_class_split : bool
            Whether a subset may lack a class that the other has.
        subset : {"training", "validation"}, optional
            One of the two parts of ``validation_split``. As in Keras both are transformed, and the validation images
            are the first ones.

        Returns
        -------
        NumpyArrayIterator

        Raises
        ------
        ShapeError
            If ``x`` is no array of images, or has not as many as there are labels or weights.
        DataError
            If a value is NaN or infinite.
        ArgumentError
            If an argument makes no sense, or a subset is empty or lacks a class.
        UnsupportedError
            For an argument of Keras that is not supported here.
        """
        refuse_unsupported("flow", unsupported, UNSUPPORTED_IN_FLOW,
                           "x, y, batch_size, shuffle, sample_weight, seed, ignore_class_split, subset are supported.")
        if isinstance(x, (tuple, list)) and len(x) == 2 and np.ndim(x[0]) == 4:
            raise ShapeError("flow got two inputs as x; expected one array of images (N, H, W, C). Make the batches of "
                             "the second input yourself.")
        data = as_arrays(x, y, sample_weight)
        if data.x.ndim != 4:
            raise ShapeError(f"flow got images of shape {data.x.shape}; expected (N, H, W, C). Grey images get their "
                             "channel with x[..., None].")
        if subset is not None:
            data = self._subset(data, subset, ignore_class_split)
        return NumpyArrayIterator(self, data, batch_size, shuffle, seed)

    def fit(self, x: Any, augment: bool = False, rounds: int = 1, seed: int | None = None) -> None:
        """Check that x has the shape of images (N, H, W, C); there is nothing to learn from them here.

        Keras needs the call for the arguments that are not supported; scripts make it anyway.
        """
        if np.ndim(x) != 4:
            raise ShapeError(f"fit got an array of shape {np.shape(x)}; expected images (N, H, W, C).")

    def get_random_transform(self, img_shape: Sequence[int], seed: int | None = None) -> dict[str, float]:
        """Draw a transform.

        Parameters
        ----------
        img_shape : sequence of int
            (H, W, C), of the image.
        seed : int, optional
            The same seed, the same transform; without one every call draws another.

        Returns
        -------
        dict
            ``theta`` degrees; ``tx``, ``ty`` pixels along rows and columns; ``zx``, ``zy`` factors of them.
        """
        if seed is None:
            path: tuple[int | str, ...] = (default_seed(), "transform", self._drawn)
            self._drawn += 1
        else:
            path = (whole_number("seed", seed, 0), "transform")
        (row,) = self.transforms(generator(*path).random((1, CHANCES)), (img_shape[0], img_shape[1]))
        return dict(zip(NEUTRAL, row.tolist()))

    def apply_transform(self, x: Any, transform_parameters: Mapping[str, float]) -> np.ndarray:
        """Return one image (H, W, C) transformed by what ``get_random_transform`` returns; nothing is rescaled."""
        unknown = [name for name in transform_parameters if name not in NEUTRAL]
        if unknown:
            raise ArgumentError(f"apply_transform got {unknown[0]!r}. {suggest(unknown[0], NEUTRAL)}")
        if np.ndim(x) != 3:
            raise ShapeError(f"apply_transform got an array of shape {np.shape(x)}; expected one image (H, W, C).")
        row = [transform_parameters.get(name, neutral) for name, neutral in NEUTRAL.items()]
        return self.warp(np.asarray(x)[None], np.array([row], np.float64))[0]

    def random_transform(self, x: Any, seed: int | None = None) -> np.ndarray:
        """Return one image (H, W, C), transformed by chance."""
        return self.apply_transform(x, self.get_random_transform(np.shape(x), seed))

    def standardize(self, x: Any) -> np.ndarray:
        """Return images in float32, multiplied by ``rescale``."""
        images = np.asarray(x, np.float32)
        return images if self.rescale is None else images * np.float32(self.rescale)

    def transforms(self, chance: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Turn numbers from [0, 1) into transforms.

        Parameters
        ----------
        chance : (N, CHANCES) array
        size : (H, W)

        Returns
        -------
        (N, 5) array
            Columns as in ``NEUTRAL``.
        """
        low, high = self.zoom_range
        return np.column_stack([(2 * chance[:, 0] - 1) * self.rotation_range,
                                self._rows.drawn(chance[:, 1], chance[:, 2], size[0]),
                                self._columns.drawn(chance[:, 3], chance[:, 4], size[1]),
                                low + (high - low) * chance[:, 5:]])

    def warp(self, x: np.ndarray, transforms: np.ndarray) -> np.ndarray:
        """Transform images (N, H, W, C), each by its row of ``transforms`` (N, 5), into float32."""
        images = x.astype(np.float32)
        if (transforms == list(NEUTRAL.values())).all():
            return images
        return kernels.affine_warp(images, matrices(transforms, x.shape[1:3]), self.fill_mode, self.cval)

    def _subset(self, data: Batch, subset: str, ignore_class_split: bool) -> Batch:
        """Return the first rows for "validation" and the others for "training"."""
        by_name("subset", subset, {"training": None, "validation": None})
        at = int(len(data.x) * self.validation_split)
        if not 0 < at < len(data.x):
            raise ArgumentError(f"flow got subset={subset!r} of {len(data.x)} images with validation_split="
                                f"{self.validation_split:g}: {at} to validate on and {len(data.x) - at} to train on; "
                                "both need at least one. Set validation_split in ImageDataGenerator.")
        first, last = rows_of(data, slice(None, at)), rows_of(data, slice(at, None))
        if not ignore_class_split and not _same_values(first.y, last.y):
            raise ArgumentError(f"flow got labels of which the first {at} (for validation) and the others (for "
                                "training) do not hold the same classes. Shuffle images and labels, if they are "
                                "sorted, or set ignore_class_split=True.")
        return first if subset == "validation" else last


class NumpyArrayIterator(Iterator[Any]):
    """Batches of transformed images, epoch after epoch, without end; what ``ImageDataGenerator.flow`` returns.

    ``fit`` takes ``len(self)`` batches of it an epoch, or ``steps_per_epoch``. A loop of your own has to ``break``.
    Where it stands is (seed, epoch, position): another one, of the same arguments, goes on there with the same bits
    when these are set.

    Attributes
    ----------
    n, batch_size, shuffle, seed
        Images, and arguments of ``flow``.
    epoch, position : int
        Epoch, and batch within it, that come next; both from 0.
    """

    def __init__(self, image_data_generator: ImageDataGenerator, data: Batch, batch_size: int, shuffle: bool,
                 seed: int | None) -> None:
        self.image_data_generator = image_data_generator
        self.x, self.y, self.sample_weight = self._data = data
        self.n, self.batch_size = len(data.x), whole_number("batch_size", batch_size)
        self.shuffle = bool(shuffle)
        self.seed = default_seed() if seed is None else whole_number("seed", seed, 0)
        self.epoch = self.position = 0
        self._plan: tuple[int, np.ndarray, np.ndarray] | None = None

    def __len__(self) -> int:
        return -(-self.n // self.batch_size)

    def __iter__(self) -> NumpyArrayIterator:
        return self

    def __next__(self) -> Any:
        batch = self[self.position]
        self.position += 1
        if self.position >= len(self):
            self.epoch, self.position = self.epoch + 1, 0
        return batch

    def __getitem__(self, index: int) -> Any:
        """Return a batch of the current epoch, the same each time; this does not move on."""
        number = operator.index(index)
        if not 0 <= number < len(self):
            raise ArgumentError(f"Asked for the batch {index}; expected one from 0 to {len(self) - 1}.")
        order, _ = self._drawn()
        rows = order[number * self.batch_size:(number + 1) * self.batch_size]
        images = self.image_data_generator.warp(self.x[rows], self.transforms(rows))
        x, y, weight = rows_of(self._data, rows)._replace(x=self.image_data_generator.standardize(images))
        return x if y is None else (x, y) if weight is None else (x, y, weight)

    def reset(self) -> None:
        """Begin the current epoch anew."""
        self.position = 0

    def get_state(self) -> dict[str, int]:
        """Return where it stands, for a training that is interrupted and goes on."""
        return {"epoch": self.epoch, "position": self.position}

    def set_state(self, state: Mapping[str, int]) -> None:
        """Go on where another one, of the same arguments, stood."""
        self.epoch, self.position = int(state["epoch"]), int(state["position"])

    def fingerprint(self) -> dict[str, Any]:
        """Return what decides its batches: all arguments and arrays."""
        settings = {name: value for name, value in vars(self.image_data_generator).items() if name[0] != "_"}
        return settings | {"images": self.n, "batch_size": self.batch_size, "shuffled": self.shuffle,
                           "seed": self.seed, "x": self.x, "y": self.y, "weight": self.sample_weight}

    def transforms(self, rows: Any = slice(None)) -> np.ndarray:
        """Return the transforms of images in the current epoch.

        Parameters
        ----------
        rows : index of the images, optional
            Default all, in the order of ``x``.

        Returns
        -------
        (N, 5) array
            See :meth:`ImageDataGenerator.transforms`.
        """
        _, chance = self._drawn()
        return self.image_data_generator.transforms(chance[rows], self.x.shape[1:3])

    def _drawn(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the order (n) of the current epoch, and the chance (n, 7) of its images."""
        if self._plan is None or self._plan[0] != self.epoch:
            path = (self.seed, "flow", self.epoch)
            order = generator(*path, "order").permutation(self.n) if self.shuffle else np.arange(self.n)
            self._plan = self.epoch, order, generator(*path, "transforms").random((self.n, CHANCES))
        return self._plan[1:]


def _same_values(first: np.ndarray | None, last: np.ndarray | None) -> bool:
    return first is None or last is None or np.array_equal(np.unique(first), np.unique(last))
