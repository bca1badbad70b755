"""Whether all numbers of an array are numbers: neither NaN nor infinite."""

from __future__ import annotations

import numpy as np


def all_finite(x: np.ndarray) -> bool:
    """Tell whether no value of an array is NaN or infinite.

    Parameters
    ----------
    x : array (...)

    Returns
    -------
    bool
    """
    return bool(np.isfinite(x).all())
