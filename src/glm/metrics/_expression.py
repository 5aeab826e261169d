"""Predicted expression against measured, gene by gene and track by track."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._check import same_rows

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike


def expression_scores(measured: ArrayLike, predicted: ArrayLike) -> pd.DataFrame:
    """Correlation over genes of each predicted track with what was measured.

    Genes that either lacks (NaN) are left out.

    Parameters
    ----------
    measured
        One number a gene, on the scale of the predictions (log1p of means for
        :func:`glm.tl.predict_expression`, on whose scale Pearson's depends).
    predicted
        Genes × tracks, or one number a gene.

    Returns
    -------
    One row a track: ``pearson``, ``spearman`` (ties sharing their mean rank) and ``n_genes``.
    NaN where there are fewer than two genes, or one of the two is the same for all.

    Raises
    ------
    ValueError
        If there are not equally many genes, or values are infinite.

    Examples
    --------
    >>> import glm
    >>> found = glm.metrics.expression_scores([0, 1, 2, 3], [[0, 3], [1, 2], [2, 2], [5, None]])
    >>> found.round(3)
       pearson  spearman  n_genes
    0    0.956     1.000        4
    1   -0.866    -0.866        3
    """
    import pandas as pd

    truth = _numbers(measured, "measured")
    tracks = _numbers(predicted, "predicted")
    tracks = tracks[:, None] if tracks.ndim == 1 else tracks
    if truth.ndim != 1 or tracks.ndim != 2:
        raise ValueError(
            f"measured has the shape {truth.shape} and predicted {tracks.shape}; expected genes, "
            "and genes × tracks."
        )
    same_rows(measured=truth, predicted=tracks)
    known = ~np.isnan(truth)[:, None] & ~np.isnan(tracks)
    scores = [_both(truth[at], values[at]) for at, values in zip(known.T, tracks.T, strict=True)]
    found = pd.DataFrame(scores, columns=["pearson", "spearman"], dtype=np.float64)
    return found.assign(n_genes=known.sum(axis=0))


def _numbers(values: ArrayLike, name: str) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if np.isinf(array).any():
        raise ValueError(f"{int(np.isinf(array).sum()):,} values of {name} are infinite.")
    return array


def _both(truth: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    from scipy.stats import pearsonr, spearmanr

    if truth.size < 2 or np.ptp(truth) == 0 or np.ptp(values) == 0:
        return np.nan, np.nan
    return float(pearsonr(truth, values).statistic), float(spearmanr(truth, values).statistic)
