"""Laws of activations, softmax and cross-entropy."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from law_strategies import TOLERANCE, Rows, equal, inner, law, near, rows, same

SHAPES = rows((1, 4), (1, 5), (1, 6))  # N, a middle axis, K
LOGITS = rows((1, 6), (1, 7))  # N, K
ELEMENTWISE = ("relu", "sigmoid", "tanh")


def logits_and_targets(case: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Return logits and targets (N, K), each row of them a distribution: one-hot, smoothed, or any."""
    N, K = case.sizes
    one_hot = np.eye(K)[case.rng.integers(0, K, N)]
    kind = case.below(3)
    targets = (one_hot, 0.9 * one_hot + 0.1 / K, case.rng.dirichlet(np.ones(K), N))[kind]
    return 4 * case.normal(N, K), targets.astype(case.dtype)


# --- activations -------------------------------------------------------------------------------------------------

@law(SHAPES)
def test_activations_are_monotone(kernels: ModuleType, case: Rows) -> None:
    """And so their derivatives are not negative; nor do they exceed 1, and sigmoid's 1/4."""
    x, more = 5 * case.normal(*case.sizes), case.integers(*case.sizes, low=0)
    for name, steepest in (("relu", 1), ("sigmoid", 0.25), ("tanh", 1)):
        function, backward = getattr(kernels, name), getattr(kernels, f"{name}_backward")
        out, slope = function(x), backward(np.ones_like(x), function(x))
        rise = function(x + more) - out
        assert (rise >= 0).all(), name
        assert (rise <= steepest * more + TOLERANCE[x.dtype]).all(), name
        assert (slope >= 0).all(), name
        assert (slope <= steepest).all(), name


@law(SHAPES)
def test_relu(kernels: ModuleType, case: Rows) -> None:
    """Idempotent, homogeneous, x = relu(x) - relu(-x); <relu(x), g> = <x, relu_backward(g)>, the gradient masked."""
    x, g = case.integers(*case.sizes), case.integers(*case.sizes)
    out = kernels.relu(x)
    equal(kernels.relu(out), out)
    equal(kernels.relu(3 * x), 3 * out)
    equal(out - kernels.relu(-x), x)
    dx = kernels.relu_backward(g, out)
    assert inner(out, g) == inner(x, dx)
    equal(dx + kernels.relu_backward(g, kernels.relu(-x)), np.where(x == 0, 0, g).astype(case.dtype))


@law(SHAPES)
def test_sigmoid_and_tanh(kernels: ModuleType, case: Rows) -> None:
    """sigmoid(-x) = 1 - sigmoid(x), tanh(-x) = -tanh(x), tanh(x) = 2 sigmoid(2x) - 1; gradients are even in x."""
    x, g = 5 * case.normal(*case.sizes), case.normal(*case.sizes)
    sigmoid, tanh = kernels.sigmoid(x), kernels.tanh(x)
    near(kernels.sigmoid(-x), 1 - sigmoid, 1)
    near(kernels.tanh(-x), -tanh, 1)
    near(tanh, 2 * kernels.sigmoid(2 * x) - 1, 1)
    size = np.abs(g).max()
    dsigmoid, dtanh = kernels.sigmoid_backward(g, sigmoid), kernels.tanh_backward(g, tanh)
    near(kernels.sigmoid_backward(g, kernels.sigmoid(-x)), dsigmoid, size)
    near(kernels.tanh_backward(g, kernels.tanh(-x)), dtanh, size)
    near(dtanh, 4 * kernels.sigmoid_backward(g, kernels.sigmoid(2 * x)), size)
    near(dsigmoid + g * np.square(sigmoid), g * sigmoid, size)


@law(SHAPES)
def test_an_entry_does_not_see_the_others(kernels: ModuleType, case: Rows) -> None:
    """Activations act on each entry, softmax on each row: parts, another order, and results in place."""
    x, g = case.normal(*case.sizes), case.normal(*case.sizes)
    n, m = case.rng.permutation(len(x)), case.below(len(x))
    for name in (*ELEMENTWISE, "softmax"):
        function, backward = getattr(kernels, name), getattr(kernels, f"{name}_backward")
        out = function(x)
        dx = backward(g, out)
        for part in (n, slice(m, m + 1)):
            same(kernels, function(x[part]), out[part])
            same(kernels, backward(g[part], out[part]), dx[part])
        place = x.copy()
        assert function(place, out=place) is place
        near(place, out)  # a sum over a row in place may be taken in another order


# --- softmax -----------------------------------------------------------------------------------------------------

@law(SHAPES)
def test_softmax_is_a_distribution(kernels: ModuleType, case: Rows) -> None:
    """Rows are positive and sum to 1; the order of the logits stays, and a common shift does nothing."""
    x = case.integers(*case.sizes, low=-20, high=20)
    out = kernels.softmax(x)
    assert (out > 0).all()
    near(out.sum(axis=-1, dtype=np.float64), np.ones(x.shape[:-1]), 1, case.dtype)
    order = np.argsort(x, axis=-1)
    assert (np.diff(np.take_along_axis(out, order, axis=-1), axis=-1) >= 0).all()
    near(kernels.softmax(x + case.integers(*x.shape[:-1], 1, low=-500, high=500)), out, 1)


@law(SHAPES)
def test_softmax_ratios(kernels: ModuleType, case: Rows) -> None:
    """out[k] / out[l] = exp(x[k] - x[l]), and the order of the classes is free."""
    x, k = case.normal(*case.sizes), case.rng.permutation(case.sizes[-1])
    out = kernels.softmax(x)
    near(out * np.exp(x[..., :1]), out[..., :1] * np.exp(x))
    near(kernels.softmax(x[..., k]), out[..., k], 1)


@law(SHAPES)
def test_softmax_gradients(kernels: ModuleType, case: Rows) -> None:
    """The Jacobian is symmetric and maps ones to 0, so that dx sums to 0; a common part of g does nothing."""
    x, g, d = case.normal(*case.sizes), case.normal(*case.sizes), case.normal(*case.sizes)
    out = kernels.softmax(x)
    dx, size = kernels.softmax_backward(g, out), 1 + np.abs(g).max()
    near(dx.sum(axis=-1, dtype=np.float64), np.zeros(x.shape[:-1]), size, case.dtype)
    near(kernels.softmax_backward(g + 3, out), dx, size + 3)
    scale = np.linalg.norm(g) * np.linalg.norm(d)
    near(inner(kernels.softmax_backward(d, out), g), inner(dx, d), scale, case.dtype)
    assert inner(dx, g) >= -TOLERANCE[x.dtype] * scale  # the Jacobian of a convex function's gradient


# --- cross-entropy -----------------------------------------------------------------------------------------------

@law(LOGITS)
def test_cross_entropy_is_at_least_the_entropy(kernels: ModuleType, case: Rows) -> None:
    """And so not negative. It reaches the entropy where the probabilities are the targets, with gradient 0."""
    x, targets = logits_and_targets(case)
    logs = np.log(targets, where=targets > 0, out=np.zeros_like(targets))
    entropy = -(targets * logs).sum(axis=1)
    losses, _ = kernels.softmax_cross_entropy(x, targets)
    assert (losses >= entropy - 10 * TOLERANCE[x.dtype]).all()
    reached = np.where(targets > 0, logs, -1e4).astype(case.dtype)
    losses, probabilities = kernels.softmax_cross_entropy(reached, targets)
    near(losses, entropy, 10)
    near(kernels.softmax_cross_entropy_backward(probabilities, targets, np.ones_like(losses)), 0 * x, 1)


@law(LOGITS)
def test_the_cross_entropys_gradient_is_a_subgradient(kernels: ModuleType, case: Rows) -> None:
    """loss(y) >= loss(x) + <gradient, y - x>, for the loss is convex; and it exceeds this by its curvature at most."""
    x, targets = logits_and_targets(case)
    weights, far = np.abs(case.normal(len(x))), case.normal(*x.shape)
    losses, probabilities = kernels.softmax_cross_entropy(x, targets)
    gradient = kernels.softmax_cross_entropy_backward(probabilities, targets, weights)
    for step in (4, 2**-5):
        d = case.dtype(step) * far
        rise = inner(weights, kernels.softmax_cross_entropy(x + d, targets)[0] - losses) - inner(gradient, d)
        rounding = 100 * TOLERANCE[x.dtype] * float(weights.sum())
        curvature = 0.5 * inner(weights, np.square(d).sum(axis=1))  # the softmax's Jacobian is at most 1/2
        assert -rounding <= rise <= curvature + rounding


@law(LOGITS)
def test_the_cross_entropys_gradient_sums_to_zero(kernels: ModuleType, case: Rows) -> None:
    """In each row; it is the weight times probabilities minus targets, the probabilities being the softmax."""
    x, targets = logits_and_targets(case)
    weights = case.normal(len(x))
    losses, probabilities = kernels.softmax_cross_entropy(x, targets)
    near(probabilities, kernels.softmax(x), 1)
    gradient = kernels.softmax_cross_entropy_backward(probabilities, targets, weights)
    near(gradient.sum(axis=1, dtype=np.float64), np.zeros(len(x)), np.abs(weights).max(), case.dtype)
    near(gradient, weights[:, None] * (probabilities - targets), np.abs(weights).max())
    shifted, _ = kernels.softmax_cross_entropy(x + 2, targets)
    near(shifted, losses, 10 + np.abs(x).max())


@law(LOGITS)
def test_cross_entropy_is_linear_in_the_targets(kernels: ModuleType, case: Rows) -> None:
    """Whatever their sum: loss(3 t - t') = 3 loss(t) - loss(t'), and the gradients likewise."""
    (x, targets), (_, others), weights = logits_and_targets(case), logits_and_targets(case), case.normal(case.sizes[0])
    results = []
    for goal in (3 * targets - others, targets, others):
        losses, probabilities = kernels.softmax_cross_entropy(x, goal)
        results.append((losses, kernels.softmax_cross_entropy_backward(probabilities, goal, weights)))
    for whole, one, other in zip(*results, strict=True):
        near(whole, 3 * one - other, 10 * (1 + np.abs(x).max() + np.abs(weights).max()))


@law(LOGITS)
def test_rows_and_classes_of_the_cross_entropy_stand_in_any_order(kernels: ModuleType, case: Rows) -> None:
    x, targets = logits_and_targets(case)
    weights, k, m = case.normal(len(x)), case.rng.permutation(x.shape[1]), case.below(len(x))
    losses, probabilities = kernels.softmax_cross_entropy(x, targets)
    gradient = kernels.softmax_cross_entropy_backward(probabilities, targets, weights)
    one = slice(m, m + 1)
    for actual, expected in zip(kernels.softmax_cross_entropy(x[one], targets[one]), (losses, probabilities),
                                strict=True):
        same(kernels, actual, expected[one])
    same(kernels, kernels.softmax_cross_entropy_backward(probabilities[one], targets[one], weights[one]),
         gradient[one])
    shuffled, _ = kernels.softmax_cross_entropy(x[:, k], targets[:, k])
    near(shuffled, losses, 10 + np.abs(x).max())
