"""Whether confidence is as high as one is right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .._messages import first_names, share
from ._check import as_amounts, as_labels, same_rows
from ._classes import number

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike


@dataclass(frozen=True, eq=False)
class Calibration:
    """How confidence compares with being right.

    Attributes
    ----------
    error
        Expected calibration error: mean over rows of how far the share that is right in a bin of
        confidence is from the mean confidence there. From 0 (as right as confident) to 1.
    table
        One row a bin: ``low`` and ``high`` (which belongs to the bin), ``n`` rows, their mean
        ``confidence`` and their ``accuracy``, both NaN in an empty bin.
    """

    error: float
    table: pd.DataFrame


def calibration(
    truth: ArrayLike,
    probabilities: ArrayLike,
    *,
    classes: ArrayLike | None = None,
    n_bins: int = 10,
) -> Calibration:
    """Compare confidence with being right, in bins of equal width :cite:p:`guo2017`.

    Confidence is the probability of the predicted class. Of one probability a row, for the second
    of two classes, it is the larger one of that class's and the other's.

    Parameters
    ----------
    truth
        Labels, one a row.
    probabilities
        Rows × classes, or one a row: of the second of two classes.
    classes
        Names of the classes, in the order of the columns; ``None`` is the sorted labels of
        ``truth``.
    n_bins
        Bins between 0 and 1.

    Returns
    -------
    The error, and the table of bins.

    Raises
    ------
    ValueError
        If labels are missing, values are no probabilities, numbers of rows or columns do not fit,
        or there is no bin.

    Examples
    --------
    >>> import glm
    >>> found = glm.metrics.calibration(
    ...     ["B", "T", "T", "B"], [[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.9, 0.1]], n_bins=5
    ... )
    >>> round(found.error, 3)
    0.175
    >>> found.table.loc[4, ["n", "confidence", "accuracy"]].tolist()
    [2.0, 0.9, 1.0]
    """
    import pandas as pd

    if n_bins < 1:
        raise ValueError(f"n_bins is {n_bins}; expected at least 1.")
    confidence, right = _judged(truth, probabilities, classes)
    edges = np.linspace(0.0, 1.0, n_bins + 1)
    # Bins are open below, so that certainty is in the last one; 0 is in the first.
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, n_bins - 1)
    n = np.bincount(place, minlength=n_bins)
    with np.errstate(invalid="ignore"):  # empty bins have no mean
        mean_confidence = np.bincount(place, confidence, n_bins) / n
        accuracy = np.bincount(place, right, n_bins) / n
    table = pd.DataFrame(
        {
            "low": edges[:-1],
            "high": edges[1:],
            "n": n,
            "confidence": mean_confidence,
            "accuracy": accuracy,
        }
    )
    filled = n > 0
    apart = np.abs(accuracy[filled] - mean_confidence[filled])
    return Calibration(float((apart * n[filled]).sum() / n.sum()), table)


def _judged(
    truth: ArrayLike, probabilities: ArrayLike, classes: ArrayLike | None
) -> tuple[np.ndarray, np.ndarray]:
    """Confidence of each row, and whether it is right (float64)."""
    true = as_labels(truth, "truth")
    ndim = 2 if np.ndim(probabilities) == 2 else 1
    table = as_amounts(probabilities, "probabilities", ndim=ndim)
    same_rows(truth=true, probabilities=table)
    if ndim == 1:
        table = np.stack([1 - table, table], axis=1)
    names = np.unique(true) if classes is None else as_labels(classes, "classes")
    if table.shape[1] != names.size:
        raise ValueError(
            f"probabilities has {table.shape[1]} columns for {names.size} classes "
            f"({first_names(names, 5)}); expected as many: name them with classes=."
        )
    # A little slack: float32 probabilities of many classes add up to 1 to some six digits.
    wrong = (table < -1e-6) | (table > 1 + 1e-6)
    bad = np.flatnonzero(wrong.any(axis=1) | (np.abs(table.sum(axis=1) - 1) > 1e-3))
    if bad.size:
        raise ValueError(
            f"{share(bad.size, len(table))} rows of probabilities are not from 0 to 1 or do not "
            f"add up to 1 (rows {first_names(bad)}): are they logits?"
        )
    right = table.argmax(axis=1) == number(true, names)
    return np.clip(table.max(axis=1), 0.0, 1.0), right.astype(np.float64)
