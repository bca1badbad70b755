"""Laws of the optimizers' steps."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import numpy as np
from hypothesis import strategies as st

from law_strategies import DTYPES, SEEDS, Case, equal, law, near

# name: its slots with the power of the gradient's unit they are measured in
SLOTS = {
    "sgd": {}, "sgd, momentum": {"velocity": 1}, "sgd, nesterov": {"velocity": 1}, "adam": {"m": 1, "v": 2},
    "rmsprop": {"v": 2}, "rmsprop, centered": {"v": 2, "average": 1}, "rmsprop, momentum": {"v": 2, "velocity": 0},
    "rmsprop, centered, momentum": {"v": 2, "average": 1, "velocity": 0}}
ADAPTIVE = [name for name in SLOTS if name.startswith(("adam", "rmsprop"))]

Slots = dict[str, np.ndarray]


@dataclass(frozen=True)
class Update(Case):
    """An optimizer with drawn settings, on ``size`` numbers."""

    optimizer: str
    size: int

    def settings(self) -> dict[str, float]:
        """Return the optimizer's numbers: the same ones at every call."""
        rng = np.random.default_rng([self.seed, 1])
        return {"learning_rate": rng.uniform(1e-3, 0.1), "beta_1": rng.uniform(0.5, 0.95),
                "beta_2": rng.uniform(0.9, 0.999), "rho": rng.uniform(0.5, 0.95), "momentum": rng.uniform(0.3, 0.95),
                "epsilon": float(rng.choice([1e-7, 1e-3])), "step": int(rng.integers(1, 50))}

    def slots(self, zero: bool = False) -> Slots:
        """Return the slots as zeros, or as they could be after some steps."""
        arrays = {name: self.normal(self.size) for name in SLOTS[self.optimizer]}
        if "v" in arrays:
            arrays["v"] = np.square(arrays["v"]) + np.square(arrays.get("average", self.dtype(0))) + self.dtype(0.01)
        return {name: 0 * array for name, array in arrays.items()} if zero else arrays

    def apply(self, kernels: ModuleType, param: np.ndarray, grad: np.ndarray, slots: Slots, **changed: float,
              ) -> tuple[np.ndarray, Slots]:
        """Return param and slots after a step; what comes in stays as it is."""
        numbers = self.settings() | changed
        param, grad, slots = param.copy(), grad.copy(), {name: slot.copy() for name, slot in slots.items()}
        if self.optimizer == "adam":
            kernels.adam_update(param, grad, slots["m"], slots["v"], *(
                numbers[name] for name in ("learning_rate", "beta_1", "beta_2", "epsilon", "step")))
        elif self.optimizer.startswith("sgd"):
            kernels.sgd_update(param, grad, slots.get("velocity"), numbers["learning_rate"],
                               numbers["momentum"] if "velocity" in slots else 0.0, "nesterov" in self.optimizer)
        else:
            kernels.rmsprop_update(param, grad, slots["v"], slots.get("average"), slots.get("velocity"),
                                   numbers["learning_rate"], numbers["rho"],
                                   numbers["momentum"] if "velocity" in slots else 0.0, numbers["epsilon"])
        return param, slots


def updates(*optimizers: str) -> st.SearchStrategy:
    """Return a strategy for steps of these optimizers; of all, if none is named."""
    return st.builds(Update, SEEDS, st.sampled_from(DTYPES), st.sampled_from(optimizers or list(SLOTS)),
                     st.integers(1, 19))


@law(updates())
def test_without_gradient_and_past_nothing_changes(kernels: ModuleType, case: Update) -> None:
    param, slots = case.normal(case.size), case.slots(zero=True)
    after, slots_after = case.apply(kernels, param, 0 * param, slots)
    equal(after, param)
    for name, slot in slots_after.items():
        equal(slot, slots[name])


@law(updates())
def test_each_number_is_updated_on_its_own(kernels: ModuleType, case: Update) -> None:
    """Any order, any part: the same steps."""
    param, grad, slots = case.normal(case.size), case.normal(case.size), case.slots()
    chosen = case.rng.permutation(case.size)[:1 + case.below(case.size)]
    after, slots_after = case.apply(kernels, param, grad, slots)
    some, some_slots = case.apply(kernels, param[chosen], grad[chosen], {n: slot[chosen] for n, slot in slots.items()})
    near(some, after[chosen])
    for name, slot in some_slots.items():
        near(slot, slots_after[name][chosen])


@law(updates())
def test_mirrored(kernels: ModuleType, case: Update) -> None:
    """With parameter, gradient and past turned around, the step is turned around, to the bit."""
    param, grad, slots = case.normal(case.size), case.normal(case.size), case.slots()
    mirrored = {name: slot if name == "v" else -slot for name, slot in slots.items()}
    after, slots_after = case.apply(kernels, param, grad, slots)
    other, other_slots = case.apply(kernels, -param, -grad, mirrored)
    equal(other, -after)
    for name, slot in other_slots.items():
        equal(slot, slots_after[name] if name == "v" else -slots_after[name])


@law(updates())
def test_the_step_does_not_depend_on_where_the_parameter_is(kernels: ModuleType, case: Update) -> None:
    param, grad, slots = case.normal(case.size), case.normal(case.size), case.slots()
    after, slots_after = case.apply(kernels, param, grad, slots)
    step, other_slots = case.apply(kernels, 0 * param, grad, slots)
    near(after, param + step, np.abs(param).max() + np.abs(step).max())
    for name, slot in other_slots.items():
        equal(slot, slots_after[name])


@law(updates())
def test_the_first_step_goes_downhill(kernels: ModuleType, case: Update) -> None:
    grad = case.normal(case.size)
    after, _ = case.apply(kernels, 0 * grad, grad, case.slots(zero=True), step=1)
    equal(np.sign(after), -np.sign(grad))


@law(updates())
def test_a_learning_rate_of_zero_leaves_the_parameter(kernels: ModuleType, case: Update) -> None:
    """And the first step grows in proportion to the learning rate."""
    param, grad, slots = case.normal(case.size), case.normal(case.size), case.slots(zero=True)
    rate = case.settings()["learning_rate"]
    equal(case.apply(kernels, param, grad, slots, learning_rate=0.0)[0], param)
    once, thrice = (case.apply(kernels, 0 * param, grad, slots, learning_rate=factor * rate)[0] for factor in (1, 3))
    near(thrice, 3 * once)


@law(updates(*ADAPTIVE))
def test_adaptive_steps_have_no_unit(kernels: ModuleType, case: Update) -> None:
    """The loss in units 64 times smaller: the same step, if epsilon is measured in these units too."""
    param, grad, slots = case.normal(case.size), case.normal(case.size), case.slots()
    powers = SLOTS[case.optimizer]
    scaled = {name: slot * case.dtype(64.0 ** powers[name]) for name, slot in slots.items()}
    epsilon = case.settings()["epsilon"]
    after, slots_after = case.apply(kernels, param, grad, slots)
    other, other_slots = case.apply(kernels, param, 64 * grad, scaled,
                                    epsilon=epsilon * (64 if case.optimizer == "adam" else 64**2))
    near(other, after)
    for name, slot in other_slots.items():
        near(slot, slots_after[name] * case.dtype(64.0 ** powers[name]))


@law(updates("adam"))
def test_adams_first_step(kernels: ModuleType, case: Update) -> None:
    """It has the size of the learning rate: lr * g / (|g| + epsilon / sqrt(1 - beta_2)), whatever g and beta_1."""
    grad, numbers = case.normal(case.size), case.settings()
    after, _ = case.apply(kernels, 0 * grad, grad, case.slots(zero=True), step=1)
    epsilon = numbers["epsilon"] / (1 - numbers["beta_2"]) ** 0.5
    size = np.abs(grad.astype(np.float64))
    near(-after * np.sign(grad), numbers["learning_rate"] * size / (size + epsilon), numbers["learning_rate"])
    assert (np.abs(after) <= numbers["learning_rate"] * 1.00001).all()


@law(updates("adam"))
def test_adam_corrects_the_bias_of_its_averages(kernels: ModuleType, case: Update) -> None:
    """Under a gradient that stays, every step is the first: t of them lead to -t * lr * sign(g)."""
    grad, slots = case.integers(case.size, low=1) * case.dtype(0.25), case.slots(zero=True)
    param, count = 0 * grad, 2 + case.below(6)
    for step in range(1, count + 1):
        param, slots = case.apply(kernels, param, grad, slots, step=step, epsilon=1e-30)
    near(param, np.full(case.size, -count * case.settings()["learning_rate"]), 10 * count)


@law(updates("rmsprop", "rmsprop, centered", "rmsprop, momentum", "rmsprop, centered, momentum"))
def test_rmsprops_first_step(kernels: ModuleType, case: Update) -> None:
    """lr * g / sqrt((1 - rho) g**2 + epsilon); centered, the variance after one step is rho (1 - rho) g**2."""
    grad, numbers = case.normal(case.size), case.settings()
    after, _ = case.apply(kernels, 0 * grad, grad, case.slots(zero=True))
    rho, g = numbers["rho"], grad.astype(np.float64)
    spread = (1 - rho) * (rho if "centered" in case.optimizer else 1) * g**2
    near(after, -numbers["learning_rate"] * g / np.sqrt(spread + numbers["epsilon"]), numbers["learning_rate"] * 10)


@law(updates("sgd, momentum", "sgd, nesterov", "rmsprop, momentum", "rmsprop, centered, momentum"))
def test_momentum(kernels: ModuleType, case: Update) -> None:
    """Without gradient the velocity decays by the factor momentum; without momentum the step is the plain one."""
    param, grad, slots = case.normal(case.size), case.normal(case.size), case.slots()
    _, rolling = case.apply(kernels, param, 0 * grad, slots)
    near(rolling["velocity"], case.settings()["momentum"] * slots["velocity"])
    after, _ = case.apply(kernels, param, grad, slots, momentum=0.0)
    plain = Update(case.seed, case.dtype, case.optimizer.removesuffix(", momentum").removesuffix(", nesterov"),
                   case.size)
    rest = {name: slot for name, slot in slots.items() if name != "velocity"}
    near(after, plain.apply(kernels, param, grad, rest)[0])


@law(updates("sgd, momentum", "sgd, nesterov"))
def test_momentum_gathers_a_gradient_that_stays(kernels: ModuleType, case: Update) -> None:
    """After t steps the velocity is -lr * g * (1 + momentum + ... + momentum**(t-1)).

    The parameter has moved by the velocities of steps 1 to t; Nesterov's has looked one step ahead: 2 to t + 1.
    """
    grad, slots, numbers = case.normal(case.size), case.slots(zero=True), case.settings()
    param, count, momentum = 0 * grad, 2 + case.below(4), numbers["momentum"]
    for _ in range(count):
        param, slots = case.apply(kernels, param, grad, slots)
    velocities = [-numbers["learning_rate"] * grad.astype(np.float64) * sum(momentum**k for k in range(t))
                  for t in range(count + 2)]
    near(slots["velocity"], velocities[count], dtype=case.dtype)
    moved = velocities[2:] if case.optimizer == "sgd, nesterov" else velocities[1:-1]
    near(param, sum(moved), dtype=case.dtype)
