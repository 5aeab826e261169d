"""Predicted amounts against true ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ._check import as_amounts, same_rows

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def pearson(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Pearson's correlation: how far one is a straight line of the other.

    Parameters
    ----------
    truth, predicted
        Amounts, one a row.

    Returns
    -------
    From -1 to 1.

    Raises
    ------
    ValueError
        If values are not finite or not equally many, or one of the two is the same everywhere, so
        that there is no correlation.

    Examples
    --------
    >>> import glm
    >>> round(glm.metrics.pearson([1, 2, 3, 4], [1, 3, 2, 5]), 3)
    0.832
    """
    from scipy.stats import pearsonr

    return float(pearsonr(*_both(truth, predicted)).statistic)


def spearman(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Spearman's correlation: Pearson's of the ranks, ties sharing their mean rank.

    Parameters
    ----------
    truth, predicted
        Amounts, one a row.

    Returns
    -------
    From -1 to 1.

    Raises
    ------
    ValueError
        As for :func:`pearson`.

    Examples
    --------
    >>> import glm
    >>> round(glm.metrics.spearman([1, 2, 3, 4], [1, 30, 20, 500]), 3)
    0.8
    """
    from scipy.stats import spearmanr

    return float(spearmanr(*_both(truth, predicted)).statistic)


def _both(truth: Any, predicted: Any) -> tuple[np.ndarray, np.ndarray]:
    true, guessed = as_amounts(truth, "truth"), as_amounts(predicted, "predicted")
    same_rows(truth=true, predicted=guessed)
    if true.size < 2:
        raise ValueError("There is one row only; a correlation needs at least two.")
    for name, values in (("truth", true), ("predicted", guessed)):
        if np.ptp(values) == 0:
            raise ValueError(f"All of {name} is {values[0]:g}, so there is no correlation.")
    return true, guessed
