"""Predicted tracks against measured ones, a correlation for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .._correlation import ColumnSums
from .._messages import first_names

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

_AT_ONCE = 1 << 22  # values that are looked at together


def track_pearson(truth: ArrayLike, predicted: ArrayLike) -> np.ndarray:
    """Pearson's correlation of each track over windows and bins :cite:p:`avsec2021`.

    Costs one pass over both arrays, some rows at a time, so that memory maps stay on the disk. For
    predictions that come in parts see :class:`TrackPearson`.

    Parameters
    ----------
    truth, predicted
        ... × tracks, of one shape: windows × bins × tracks, or rows × tracks. Where ``truth`` is
        NaN, nothing was measured, and nothing counts.

    Returns
    -------
    float64, one a track, -1 to 1; NaN for a track that is the same everywhere in one of the two, so
    that there is no correlation (``numpy.isnan(found).sum()`` counts them; take the mean with
    ``numpy.nanmean``).

    Raises
    ------
    ValueError
        If the shapes differ, there is no value, or values are infinite, or NaN in ``predicted``
        where something was measured.

    Examples
    --------
    >>> import glm, numpy as np
    >>> truth = np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]])
    >>> glm.metrics.track_pearson(truth, np.array([[0.0, 1.0], [0.0, 2.0], [3.0, 3.0]])).round(3)
    array([0.866,   nan])
    """
    sums = TrackPearson()
    true, guessed = np.asarray(truth), np.asarray(predicted)
    _check_shapes(true, guessed)
    each = max(1, _AT_ONCE // max(1, true[:1].size))
    for first in range(0, len(true), each):
        sums.add(true[first : first + each], guessed[first : first + each])
    return sums.values


class TrackPearson:
    """Pearson's correlation of each track, from predictions that come in parts.

    Sums are kept, and no prediction. Parts may come in any order: the result is the same up to
    rounding.

    Examples
    --------
    >>> import glm, numpy as np
    >>> rng = np.random.default_rng(0)
    >>> found = glm.metrics.TrackPearson()
    >>> for _ in range(3):
    ...     truth = rng.random((2, 16, 4))
    ...     found.add(truth, truth + rng.normal(0, 0.3, truth.shape))
    >>> found.values.shape
    (4,)
    """

    def __init__(self) -> None:
        self._sums: ColumnSums | None = None

    def add(self, truth: ArrayLike, predicted: ArrayLike) -> None:
        """Take in some windows; arrays and errors as for :func:`track_pearson`."""
        true, guessed = np.asarray(truth), np.asarray(predicted)
        _check_shapes(true, guessed)
        n_tracks = true.shape[-1]
        if self._sums is None:
            self._sums = ColumnSums(np.zeros(n_tracks))
        if self._sums.like.size != n_tracks:
            raise ValueError(
                f"These windows have {n_tracks:,} tracks, those before {self._sums.like.size:,}."
            )
        true = true.reshape(-1, n_tracks).astype(np.float64)
        guessed = guessed.reshape(-1, n_tracks).astype(np.float64)
        known = ~np.isnan(true)
        bad = np.isinf(true) | (~np.isfinite(guessed) & known)
        if bad.any():
            tracks = np.flatnonzero(bad.any(axis=0))
            raise ValueError(
                f"{int(bad.sum()):,} values are infinite, or NaN where something was measured "
                f"(tracks {first_names(tracks)}): leave these windows or tracks out."
            )
        self._sums.add(np.nan_to_num(true), np.where(known, guessed, 0.0), known.astype(np.float64))

    @property
    def values(self) -> np.ndarray:
        """float64, one a track; NaN where there is no correlation.

        Raises
        ------
        ValueError
            If nothing was added.
        """
        if self._sums is None:
            raise ValueError("No window was added: there is no correlation.")
        return self._sums.correlation()


def _check_shapes(truth: np.ndarray, predicted: np.ndarray) -> None:
    if truth.shape != predicted.shape or truth.ndim < 2 or not truth.size:
        raise ValueError(
            f"truth has the shape {truth.shape} and predicted {predicted.shape}; expected windows "
            "× bins × tracks in both, or rows × tracks."
        )
