"""Wider bins from narrower ones, by what a bin of each track holds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_AT_ONCE = 1 << 22  # values: what is in memory in float32 beside what comes and goes


def rebin(
    values: np.ndarray,
    factor: int,
    aggregations: Sequence[str] | np.ndarray,
    *,
    clip: np.ndarray | None = None,
    clip_soft: np.ndarray | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Join ``factor`` bins to one, as if tracks had been binned so from the start.

    Parameters
    ----------
    values
        Windows × bins × tracks, as stored in a training set.
    factor
        Bins that become one.
    aggregations
        What a bin of each track holds, with S the coverage summed over its bases: ``"sum"`` S;
        ``"sum_sqrt"`` √(1 + S) - 1, which is inverted, summed and taken again; ``"mean"`` the mean.
    clip_soft
        One a track, infinite for none: what was above it was stored as c - 1 + √(1 + x - c), which
        is inverted and, of the wider bin, done again.
    clip
        One a track: the highest that is stored. What a narrow bin lost to it stays lost.
    out
        Windows × wider bins × tracks, to write to.

    Returns
    -------
    ``out``, or an array of the type of ``values``.

    Raises
    ------
    ValueError
        If the bins do not divide, or an aggregation is another.

    Examples
    --------
    >>> import numpy as np
    >>> from glm.train.rebinning import rebin
    >>> coverage = np.array([3.0, 0.0, 8.0, 4.0])
    >>> stored = np.sqrt(1 + coverage) - 1
    >>> rebin(stored.reshape(1, 4, 1), 4, ["sum_sqrt"]).item()  # √16 - 1
    3.0
    """
    n, n_bins, n_tracks = values.shape
    if factor < 1 or n_bins % factor:
        raise ValueError(f"{n_bins:,} bins cannot be joined by {factor:,}: they do not divide.")
    names = np.asarray(aggregations, dtype=object)
    if unknown := sorted({str(name) for name in names} - {"sum", "mean", "sum_sqrt"}):
        raise ValueError(
            f"Bins that hold {unknown[0]!r} cannot be joined; expected 'sum', 'mean' or 'sum_sqrt'."
        )
    if out is None:
        out = np.empty((n, n_bins // factor, n_tracks), values.dtype)
    if factor == 1:
        out[...] = values
        return out
    soft = None if clip_soft is None else np.asarray(clip_soft, np.float32)
    highest = None if clip is None else np.asarray(clip, np.float32)
    step = max(1, _AT_ONCE // max(1, n_bins * n_tracks))
    for first in range(0, n, step):
        part = values[first : first + step].astype(np.float32)
        out[first : first + step] = _joined(part, factor, names, highest, soft)
    return out


def _joined(
    values: np.ndarray,
    factor: int,
    names: np.ndarray,
    clip: np.ndarray | None,
    soft: np.ndarray | None,
) -> np.ndarray:
    n, n_bins, n_tracks = values.shape
    of_root, of_mean = names == "sum_sqrt", names == "mean"
    if soft is not None:
        values = np.where(values > soft, soft - 1 + np.square(values - soft + 1), values)
    if of_root.any():
        values[..., of_root] = np.square(values[..., of_root] + 1) - 1
    wide = values.reshape(n, n_bins // factor, factor, n_tracks).sum(axis=2)
    if of_root.any():
        wide[..., of_root] = np.sqrt(1 + wide[..., of_root]) - 1
    wide[..., of_mean] /= factor
    if soft is not None:
        wide = np.where(wide > soft, soft - 1 + np.sqrt(1 + np.maximum(wide - soft, 0)), wide)
    return wide if clip is None else np.minimum(wide, clip)
