"""The fully connected layer: a matrix product and a bias."""

from __future__ import annotations

import numpy as np

from minicnn.kernels.checks import check_fit


def dense(x: np.ndarray, w: np.ndarray, b: np.ndarray | None) -> np.ndarray:
    """Return ``x @ w + b``.

    Parameters
    ----------
    x : (N, D) array
    w : (D, K) array
    b : (K,) array or None

    Returns
    -------
    (N, K) array
    """
    check_fit("dense", "x (N, D), w (D, K), b (K)", x, w, b)
    out = x @ w  # (N, K)
    if b is not None:
        out += b
    return out


def dense_backward(dout: np.ndarray, x: np.ndarray, w: np.ndarray, need_dx: bool = True,
                   ) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """Return the gradients of ``x @ w + b``: ``dx = dout @ w.T``, ``dw = x.T @ dout``, ``db = sum over n of dout[n]``.

    Parameters
    ----------
    dout : (N, K) array
    x : (N, D) array
    w : (D, K) array
    need_dx : bool
        False in the first layer, where nobody asks for the gradient of the input.

    Returns
    -------
    dx : (N, D) array or None
    dw : (D, K) array
    db : (K,) array
    """
    check_fit("dense_backward", "dout (N, K), x (N, D), w (D, K)", dout, x, w)
    dx = dout @ w.T if need_dx else None  # (N, D)
    dw = x.T @ dout  # (D, K)
    db = dout.sum(axis=0)  # (K,)
    return dx, dw, db
