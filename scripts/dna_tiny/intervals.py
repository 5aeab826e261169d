"""How sure a difference is: windows drawn again, as whole windows."""

from __future__ import annotations

import numpy as np
from evidence.statistics import DRAWS, Difference


def gain(ours: np.ndarray, theirs: np.ndarray, window: np.ndarray) -> Difference:
    """Mean of ours less theirs over all places (higher is better), windows drawn with replacement.

    ``ours`` and ``theirs`` are one number a place, ``window`` the unit that each belongs to.
    """
    names, unit = np.unique(window, return_inverse=True)
    sums = np.bincount(unit, weights=np.asarray(ours, float) - theirs)
    sizes = np.bincount(unit)
    rng = np.random.default_rng(0)
    times = rng.multinomial(names.size, np.full(names.size, 1 / names.size), size=DRAWS)
    low, high = np.quantile((times @ sums) / (times @ sizes), [0.025, 0.975])
    return Difference(float(sums.sum() / sizes.sum()), float(low), float(high))
