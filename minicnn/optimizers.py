"""Optimizers: how a gradient changes a weight. The formulas stand in ``kernels/reference/optimizers.py``."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any, ClassVar, cast

import numpy as np

from minicnn import kernels
from minicnn.arguments import by_name, real_number
from minicnn.errors import ArgumentError, ShapeError, refuse_unsupported


class Optimizer:
    """Base of all optimizers.

    Parameters
    ----------
    learning_rate : float
        Readable and assignable at any time.
    **unsupported
        Keras' further arguments, refused unless they say what happens anyway.

    Attributes
    ----------
    iterations : int
        Updates made so far.
    slots : dict of str to dict of str to ndarray
        What the optimizer remembers of each weight, by the weight's name: {"conv2d/kernel": {"m": ..., "v": ...}}.
    """

    name: ClassVar[str] = "optimizer"
    unsupported: ClassVar[dict[str, tuple[Any, ...]]] = {
        "weight_decay": (None,), "clipnorm": (None,), "clipvalue": (None,), "global_clipnorm": (None,),
        "use_ema": (False,), "ema_momentum": (0.99,), "ema_overwrite_frequency": (None,), "loss_scale_factor": (None,),
        "gradient_accumulation_steps": (None,), "amsgrad": (False,), "decay": (0.0, 0)}

    def __init__(self, learning_rate: float, **unsupported: Any) -> None:
        refuse_unsupported(type(self).__name__, unsupported, self.unsupported | {"name": (self.name, None)})
        self.learning_rate = learning_rate
        self.iterations = 0
        self.slots: dict[str, dict[str, np.ndarray]] = {}
        self._owner: weakref.ref[Any] | None = None

    @property
    def learning_rate(self) -> float:
        """The step size in force."""
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self._learning_rate = real_number("learning_rate", value)

    def belong_to(self, model: object) -> None:
        """Bind the optimizer to a model: what it remembers of one model's weights means nothing for another's.

        Raises
        ------
        ArgumentError
            If it belongs to another model already.
        """
        owner = self._owner() if self._owner is not None else None
        if owner is not None and owner is not model:
            raise ArgumentError(f"This {type(self).__name__} belongs to another model; make a new one.")
        self._owner = weakref.ref(model)

    def __getstate__(self) -> dict[str, Any]:
        """Copy without the owner: the copy may belong to the copied model."""
        return self.__dict__ | {"_owner": None}

    def apply(self, weights: Mapping[str, np.ndarray], gradients: Mapping[str, np.ndarray]) -> None:
        """Make one update, in place.

        Parameters
        ----------
        weights, gradients : mapping of str to ndarray
            Same keys, same shapes; the keys name the slots.

        Raises
        ------
        ShapeError
            If a gradient is missing or has another shape than its weight; nothing is changed then.
        """
        for key, weight in weights.items():
            if key not in gradients or gradients[key].shape != weight.shape:
                got = gradients[key].shape if key in gradients else "nothing"
                raise ShapeError(f"The gradient of {key} has the shape {got}; expected that of the weight, "
                                 f"{weight.shape}. Correct the backward of its layer.")
        self.iterations += 1
        for key, weight in weights.items():
            self.update(weight, gradients[key], self._slots_of(key, weight))

    def update(self, weight: np.ndarray, gradient: np.ndarray, slots: dict[str, np.ndarray]) -> None:
        """Update one weight and its slots in place."""
        raise NotImplementedError

    def slot_names(self) -> tuple[str, ...]:
        """Return the names of the arrays remembered for each weight."""
        raise NotImplementedError

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"learning_rate": self.learning_rate}

    def _slots_of(self, key: str, weight: np.ndarray) -> dict[str, np.ndarray]:
        slots = self.slots.get(key)
        if slots is None or any(slot.shape != weight.shape or slot.dtype != weight.dtype for slot in slots.values()):
            slots = self.slots[key] = {name: np.zeros_like(weight) for name in self.slot_names()}
        return slots


class SGD(Optimizer):
    """Gradient descent, with momentum if asked for (Polyak 1964; Nesterov as in Sutskever et al. 2013).

    Parameters
    ----------
    learning_rate, momentum : float
    nesterov : bool
    """

    name = "sgd"

    def __init__(self, learning_rate: float = 0.01, momentum: float = 0.0, nesterov: bool = False, **base: Any) -> None:
        super().__init__(learning_rate, **base)
        self.momentum = real_number("SGD: momentum", momentum, 0, below=1)
        self.nesterov = bool(nesterov)

    def slot_names(self) -> tuple[str, ...]:
        """See Optimizer."""
        return ("velocity",) if self.momentum else ()

    def update(self, weight: np.ndarray, gradient: np.ndarray, slots: dict[str, np.ndarray]) -> None:
        """See Optimizer."""
        kernels.sgd_update(weight, gradient, slots.get("velocity"), self.learning_rate, self.momentum, self.nesterov)

    def config(self) -> dict[str, Any]:
        """See Optimizer."""
        return super().config() | {"momentum": self.momentum, "nesterov": self.nesterov}


class RMSprop(Optimizer):
    """Steps divided by a running root mean square of the gradient (Hinton 2012, lecture 6e).

    Parameters
    ----------
    learning_rate, rho, momentum, epsilon : float
    centered : bool
        Divide by an estimate of the deviation rather than of the root mean square.
    """

    name = "rmsprop"

    def __init__(self, learning_rate: float = 0.001, rho: float = 0.9, momentum: float = 0.0, epsilon: float = 1e-7,
                 centered: bool = False, **base: Any) -> None:
        super().__init__(learning_rate, **base)
        self.rho = real_number("RMSprop: rho", rho, 0, below=1)
        self.momentum = real_number("RMSprop: momentum", momentum, 0, below=1)
        self.epsilon = real_number(f"{type(self).__name__}: epsilon", epsilon)
        self.centered = bool(centered)

    def slot_names(self) -> tuple[str, ...]:
        """See Optimizer."""
        return ("v",) + ("average",) * self.centered + ("velocity",) * (self.momentum > 0)

    def update(self, weight: np.ndarray, gradient: np.ndarray, slots: dict[str, np.ndarray]) -> None:
        """See Optimizer."""
        kernels.rmsprop_update(weight, gradient, slots["v"], slots.get("average"), slots.get("velocity"),
                               self.learning_rate, self.rho, self.momentum, self.epsilon)

    def config(self) -> dict[str, Any]:
        """See Optimizer."""
        return super().config() | {"rho": self.rho, "momentum": self.momentum, "epsilon": self.epsilon,
                                   "centered": self.centered}


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015, section 2, last paragraph: epsilon outside the bias correction, as Keras).

    Parameters
    ----------
    learning_rate, beta_1, beta_2, epsilon : float
    """

    name = "adam"

    def __init__(self, learning_rate: float = 0.001, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-7,
                 **base: Any) -> None:
        super().__init__(learning_rate, **base)
        self.beta_1 = real_number("Adam: beta_1", beta_1, 0, below=1)
        self.beta_2 = real_number("Adam: beta_2", beta_2, 0, below=1)
        self.epsilon = real_number(f"{type(self).__name__}: epsilon", epsilon)

    def slot_names(self) -> tuple[str, ...]:
        """See Optimizer."""
        return "m", "v"

    def update(self, weight: np.ndarray, gradient: np.ndarray, slots: dict[str, np.ndarray]) -> None:
        """See Optimizer."""
        kernels.adam_update(weight, gradient, slots["m"], slots["v"], self.learning_rate, self.beta_1, self.beta_2,
                            self.epsilon, self.iterations)

    def config(self) -> dict[str, Any]:
        """See Optimizer."""
        return super().config() | {"beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}


OPTIMIZERS: dict[str, Any] = {optimizer.name: optimizer for optimizer in (Adam, RMSprop, SGD)}


def get(identifier: Any) -> Optimizer:
    """Return the optimizer of a name (any case) or class with its defaults, or the object itself.

    Parameters
    ----------
    identifier : str, Optimizer or subclass

    Raises
    ------
    ArgumentError
        For an unknown name.
    """
    if isinstance(identifier, Optimizer):
        return identifier
    if isinstance(identifier, type) and issubclass(identifier, Optimizer):
        return cast(Any, identifier)()
    return by_name("optimizer", identifier.lower() if isinstance(identifier, str) else identifier, OPTIMIZERS)()
