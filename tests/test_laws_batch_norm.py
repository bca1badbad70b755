"""Laws of batch normalization, in training and with given statistics."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from law_strategies import Rows, inner, law, near, rows, same

SIZES = rows((1, 4), (1, 5), (2, 4), (1, 4), (2, 4))  # N, H, W, C, rank of x
EPSILONS = (1e-3, 1e-5, 0.1)


class Batch:
    """x (..., C) of rank 2 to 4, a gradient of its shape, gamma and beta (C,), the channels around different values."""

    def __init__(self, case: Rows) -> None:
        N, H, W, C, rank = case.sizes
        shape = {2: (N * W, C), 3: (N, W, C), 4: (N, H, W, C)}[rank]
        self.axes = tuple(range(rank - 1))
        self.M = int(np.prod(shape[:-1]))
        self.x = (case.normal(*shape) * 2 + case.integers(C)).astype(case.dtype)
        self.g, self.gamma, self.beta = case.normal(*shape), case.normal(C), case.normal(C)
        self.mean, self.variance = case.normal(C), np.square(case.normal(C)) + case.dtype(0.1)
        self.epsilon = EPSILONS[case.below(len(EPSILONS))]

    @property
    def given(self) -> tuple[np.ndarray, np.ndarray, float]:
        """Statistics that are not the batch's."""
        return self.mean, self.variance, self.epsilon

    def sums(self, a: np.ndarray, b: np.ndarray | float = 1.0) -> np.ndarray:
        """Return the sums over each channel of a * b, (C,) float64."""
        return (a.astype(np.float64) * b).sum(axis=self.axes)


@law(SIZES)
def test_the_outputs_moments(kernels: ModuleType, case: Rows) -> None:
    """Mean beta and deviation |gamma| * sqrt(v / (v + epsilon)) in each channel; mean and v are those of x."""
    batch = Batch(case)
    out, mean, variance = kernels.batch_norm(batch.x, batch.gamma, batch.beta, batch.epsilon)
    exact = batch.x.astype(np.float64)
    near(mean, exact.mean(axis=batch.axes), np.abs(exact).max())
    near(variance, exact.var(axis=batch.axes), np.square(exact).max())
    out, size = out.astype(np.float64), np.abs(out).max()
    near(out.mean(axis=batch.axes), batch.beta, size, case.dtype)
    deviation = np.abs(batch.gamma) * np.sqrt(variance / (variance + batch.epsilon))
    near(out.std(axis=batch.axes), deviation, size, case.dtype)


@law(SIZES)
def test_shift_and_scale_of_x_do_not_matter(kernels: ModuleType, case: Rows) -> None:
    """bn(a x + b, a**2 epsilon) = bn(x, epsilon) for a > 0, and the gradient becomes dx / a."""
    batch = Batch(case)
    x, shift, a = case.integers(*batch.x.shape), case.integers(batch.x.shape[-1], low=-500, high=500), case.dtype(4)
    results = []
    for image, epsilon in ((x, batch.epsilon), (a * x + shift, batch.epsilon * 16)):
        out, mean, variance = kernels.batch_norm(image, batch.gamma, batch.beta, epsilon)
        gradients = kernels.batch_norm_backward(batch.g, image, batch.gamma, mean, variance, epsilon)
        results.append((out, *gradients))
    (out, dx, dgamma, dbeta), (moved_out, moved_dx, moved_dgamma, moved_dbeta) = results
    scale = np.abs(batch.g).sum()
    near(moved_out, out, 1 + np.abs(out).max())
    near(a * moved_dx, dx, scale * np.abs(batch.gamma).max() / np.sqrt(batch.epsilon))
    near(moved_dgamma, dgamma, 10 * scale)
    near(moved_dbeta, dbeta, scale)


@law(SIZES)
def test_the_gradient_is_orthogonal_to_ones_and_to_x_hat(kernels: ModuleType, case: Rows) -> None:
    """Moving or stretching a channel changes nothing, so dx has no part along these directions.

    Along x_hat, epsilon leaves ``gamma / deviation * dgamma * epsilon / (v + epsilon)``.
    """
    batch = Batch(case)
    _, mean, variance = kernels.batch_norm(batch.x, batch.gamma, batch.beta, batch.epsilon)
    dx, dgamma, _ = kernels.batch_norm_backward(batch.g, batch.x, batch.gamma, mean, variance, batch.epsilon)
    spread = variance + batch.epsilon
    x_hat, factor = (batch.x - mean) / np.sqrt(spread), batch.gamma / np.sqrt(spread)
    scale = float(np.abs(factor).max() * np.abs(batch.g).sum())
    near(batch.sums(dx), np.zeros(len(mean)), scale, case.dtype)
    near(batch.sums(dx, x_hat), factor * dgamma * batch.epsilon / spread, scale * np.abs(x_hat).max(), case.dtype)


@law(SIZES)
def test_the_jacobian_is_symmetric(kernels: ModuleType, case: Rows) -> None:
    """<d, dx(g)> = <g, dx(d)>: centring and projecting are symmetric maps."""
    batch = Batch(case)
    d = case.normal(*batch.x.shape)
    _, mean, variance = kernels.batch_norm(batch.x, batch.gamma, batch.beta, batch.epsilon)
    dx_of_g, dx_of_d = (kernels.batch_norm_backward(up, batch.x, batch.gamma, mean, variance, batch.epsilon)[0]
                        for up in (batch.g, d))
    factor = np.abs(batch.gamma) / np.sqrt(variance + batch.epsilon)
    scale = np.linalg.norm(d) * np.linalg.norm(batch.g) * factor.max()
    near(inner(d, dx_of_g), inner(batch.g, dx_of_d), scale, case.dtype)


@law(SIZES)
def test_parameter_gradients_are_adjoint(kernels: ModuleType, case: Rows) -> None:
    """sum of g * bn(gamma', beta') = gamma' * dgamma + beta' * dbeta in each channel, in training and inference."""
    batch = Batch(case)
    gamma, beta = case.normal(len(batch.gamma)), case.normal(len(batch.beta))
    out, mean, variance = kernels.batch_norm(batch.x, gamma, beta, batch.epsilon)
    _, dgamma, dbeta = kernels.batch_norm_backward(batch.g, batch.x, batch.gamma, mean, variance, batch.epsilon)
    scale = np.abs(out).max() * np.abs(batch.g).sum()
    near(gamma * dgamma + beta * dbeta, batch.sums(batch.g, out), scale, case.dtype)
    out = kernels.batch_norm_inference(batch.x, gamma, beta, *batch.given)
    _, dgamma, dbeta = kernels.batch_norm_inference_backward(batch.g, batch.x, batch.gamma, *batch.given)
    scale = np.abs(out).max() * np.abs(batch.g).sum() + np.abs(gamma * dgamma).max()
    near(gamma * dgamma + beta * dbeta, batch.sums(batch.g, out), scale, case.dtype)


@law(SIZES)
def test_inference_is_affine_and_its_gradient_adjoint(kernels: ModuleType, case: Rows) -> None:
    """bn(3 x - x') = 3 bn(x) - bn(x') - bn(0), and <bn(d) - bn(0), g> = <d, dx> for any d."""
    batch = Batch(case)
    d = case.normal(*batch.x.shape)
    bn = [kernels.batch_norm_inference(image, batch.gamma, batch.beta, *batch.given)
          for image in (batch.x, d, 3 * batch.x - d, np.zeros_like(d))]
    size = 3 * max(np.abs(out).max() for out in bn)
    near(bn[2], 3 * bn[0] - bn[1] - bn[3], size)
    dx, _, _ = kernels.batch_norm_inference_backward(batch.g, batch.x, batch.gamma, *batch.given)
    near(inner(d, dx), inner(bn[1] - bn[3], batch.g), size * np.abs(batch.g).sum(), case.dtype)


@law(SIZES)
def test_training_is_inference_with_the_batchs_statistics(kernels: ModuleType, case: Rows) -> None:
    """Without the parts along ones and x_hat, the gradient in inference is that in training."""
    batch = Batch(case)
    out, mean, variance = kernels.batch_norm(batch.x, batch.gamma, batch.beta, batch.epsilon)
    statistics = mean, variance, batch.epsilon
    near(kernels.batch_norm_inference(batch.x, batch.gamma, batch.beta, *statistics), out)
    dx, dgamma, dbeta = kernels.batch_norm_backward(batch.g, batch.x, batch.gamma, *statistics)
    fixed_dx, fixed_dgamma, fixed_dbeta = kernels.batch_norm_inference_backward(
        batch.g, batch.x, batch.gamma, *statistics)
    near(fixed_dgamma, dgamma)
    near(fixed_dbeta, dbeta)
    factor = batch.gamma / np.sqrt(variance + batch.epsilon)
    x_hat = (batch.x - mean) / np.sqrt(variance + batch.epsilon)
    lost = factor * (dbeta + x_hat * dgamma) / batch.M
    near(dx, fixed_dx - lost, np.abs(factor).max() * np.abs(batch.g).sum())


@law(SIZES)
def test_the_same_batch_twice(kernels: ModuleType, case: Rows) -> None:
    """Every image doubled: same statistics, outputs and dx, parameter gradients twice as large (so: 1/M throughout)."""
    batch = Batch(case)
    results = []
    for copies in (1, 2):
        x, g = np.concatenate([batch.x] * copies), np.concatenate([batch.g] * copies)
        out, mean, variance = kernels.batch_norm(x, batch.gamma, batch.beta, batch.epsilon)
        dx, dgamma, dbeta = kernels.batch_norm_backward(g, x, batch.gamma, mean, variance, batch.epsilon)
        results.append((out[:len(batch.x)], dx[-len(batch.x):], copies * mean, copies * variance, dgamma, dbeta))
    (out, dx, *once), (doubled_out, doubled_dx, *twice) = results
    gradient = np.abs(batch.g).sum()
    near(doubled_out, out)
    near(doubled_dx, dx, gradient * np.abs(batch.gamma).max() / np.sqrt(batch.epsilon))
    for actual, expected in zip(twice, once, strict=True):
        near(actual, 2 * expected, 10 * gradient + np.square(batch.x).max())


@law(SIZES)
def test_images_do_not_see_each_other_in_inference(kernels: ModuleType, case: Rows) -> None:
    batch, cut = Batch(case), case.below(case.sizes[0])
    out = kernels.batch_norm_inference(batch.x, batch.gamma, batch.beta, *batch.given)
    dx, _, _ = kernels.batch_norm_inference_backward(batch.g, batch.x, batch.gamma, *batch.given)
    for part in (slice(cut), slice(cut, None)):
        x, g = batch.x[part], batch.g[part]
        if x.size:
            same(kernels, kernels.batch_norm_inference(x, batch.gamma, batch.beta, *batch.given), out[part])
            same(kernels, kernels.batch_norm_inference_backward(g, x, batch.gamma, *batch.given)[0], dx[part])


@law(SIZES)
def test_channels_stand_alone_and_the_order_of_images_is_free(kernels: ModuleType, case: Rows) -> None:
    batch = Batch(case)
    c, n = case.rng.permutation(len(batch.gamma)), case.rng.permutation(len(batch.x))
    c = c[:1 + case.below(len(c))]
    x, g, gamma, beta = batch.x[n][..., c], batch.g[n][..., c], batch.gamma[c], batch.beta[c]
    out, mean, variance = kernels.batch_norm(batch.x, batch.gamma, batch.beta, batch.epsilon)
    some_out, some_mean, some_variance = kernels.batch_norm(x, gamma, beta, batch.epsilon)
    dx, dgamma, dbeta = kernels.batch_norm_backward(batch.g, batch.x, batch.gamma, mean, variance, batch.epsilon)
    some = kernels.batch_norm_backward(g, x, gamma, some_mean, some_variance, batch.epsilon)
    size = 10 + np.square(batch.x).max()
    for actual, expected in ((some_out, out[n][..., c]), (some_mean, mean[c]), (some_variance, variance[c])):
        near(actual, expected, size)
    scale = np.abs(batch.g).sum() * (10 + np.abs(batch.gamma).max() / np.sqrt(batch.epsilon))
    for actual, expected in zip(some, (dx[n][..., c], dgamma[c], dbeta[c]), strict=True):
        near(actual, expected, scale)
