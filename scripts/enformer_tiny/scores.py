"""Pearson correlations of predicted and measured tracks, with windows drawn again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from evidence.statistics import DRAWS, Difference

_CHUNK = 500  # of draws, so that a sum over windows stays small


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over the bins of each window, which any draw of windows can be added up from.

    ``sums`` float64, windows × 6 × tracks: n, of x, y, x², y² and xy.
    """

    sums: np.ndarray

    @classmethod
    def of(cls, predicted: np.ndarray, measured: np.ndarray) -> Moments:
        """Of windows × bins × tracks, both; each track is shifted by its mean, for the digits."""
        x = predicted.astype(np.float64) - predicted.mean(axis=(0, 1), dtype=np.float64)
        y = measured.astype(np.float64) - measured.mean(axis=(0, 1), dtype=np.float64)
        n = np.full((x.shape[0], x.shape[2]), x.shape[1], np.float64)
        parts = [n, x.sum(1), y.sum(1), (x * x).sum(1), (y * y).sum(1), (x * y).sum(1)]
        return cls(np.stack(parts, axis=1))

    def pearson(self, times: np.ndarray | None = None) -> np.ndarray:
        """Of each track over (window, position).

        ``times`` is draws × windows, how often each window is in a draw; the result is then
        draws × tracks. A track that is constant where it was measured is NaN: there is nothing to
        find. One that is predicted to be constant is 0.
        """
        n_windows = self.sums.shape[0]
        drawn = np.ones((1, n_windows)) if times is None else times
        flat = drawn @ self.sums.reshape(n_windows, -1)
        n, x, y, xx, yy, xy = flat.reshape(len(drawn), *self.sums.shape[1:]).transpose(1, 0, 2)
        spread_x, spread_y = xx - x * x / n, yy - y * y / n
        flat_x, flat_y = spread_x <= 1e-10 * n, spread_y <= 1e-10 * n
        below = np.sqrt(np.where(flat_x | flat_y, 1.0, spread_x * spread_y))
        found = np.where(flat_x, 0.0, (xy - x * y / n) / below)
        found = np.where(flat_y, np.nan, found)
        return found[0] if times is None else found


def of_assays(by_track: np.ndarray, assays: np.ndarray) -> dict[str, np.ndarray]:
    """Means over the tracks of each assay, NaN left out; ``by_track`` ends in tracks."""
    means = {}
    for assay in dict.fromkeys(assays.tolist()):
        found = by_track[..., assays == assay]
        n = np.isfinite(found).sum(axis=-1)
        total = np.nansum(found, axis=-1)
        means[assay] = np.where(n > 0, total / np.maximum(n, 1), np.nan)
    return means


def draw_windows(fold: np.ndarray, seed: int = 0) -> np.ndarray:
    """How often each window is in each draw with replacement: draws × windows.

    Each fold has as many windows in every draw as it has.
    """
    rng = np.random.default_rng(seed)
    times = np.empty((DRAWS, fold.size), np.int64)
    for one in np.unique(fold):
        n = int((fold == one).sum())
        times[:, fold == one] = rng.multinomial(n, np.full(n, 1 / n), size=DRAWS)
    return times


@dataclass(frozen=True)
class Score:
    """A correlation and its interval (95%)."""

    value: float
    low: float
    high: float


def scores(
    moments: Mapping[str, Moments],
    assays: np.ndarray,
    ours: str,
    fold: np.ndarray | None = None,
) -> tuple[dict[str, dict[str, Score]], dict[str, dict[str, Difference]]]:
    """Score of everyone in each assay, and by how much ``ours`` is better than each other.

    Everyone is scored on the same windows and the same draws of them. With ``fold``, one a window,
    windows are compared with those of their fold alone, and the mean over folds is told: what was
    predicted in different folds comes from different models, which began from different means.
    """
    n = len(moments[ours].sums)
    fold = np.zeros(n, np.int64) if fold is None else fold
    times = draw_windows(fold)
    once = np.ones((1, n), np.int64)
    value = {name: of_assays(_by_fold(m, once, fold)[0], assays) for name, m in moments.items()}
    drawn = {name: of_assays(_by_fold(m, times, fold), assays) for name, m in moments.items()}
    said: dict[str, dict[str, Score]] = {}
    gained: dict[str, dict[str, Difference]] = {}
    for name in moments:
        said[name], gained[name] = {}, {}
        for assay, found in drawn[name].items():
            low, high = np.nanquantile(found, [0.025, 0.975])
            said[name][assay] = Score(float(value[name][assay]), float(low), float(high))
            low, high = np.nanquantile(drawn[ours][assay] - found, [0.025, 0.975])
            gain = float(value[ours][assay] - value[name][assay])
            gained[name][assay] = Difference(gain, float(low), float(high))
    del gained[ours]
    return said, gained


def _by_fold(moments: Moments, times: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Draws × tracks: means over the folds in which a track varies, NaN where it never does."""
    total = np.zeros((len(times), moments.sums.shape[2]))
    n = np.zeros_like(total)
    for one in np.unique(fold):
        of_fold, drawn = Moments(moments.sums[fold == one]), times[:, fold == one]
        for first in range(0, len(times), _CHUNK):
            rows = slice(first, first + _CHUNK)
            found = of_fold.pearson(drawn[rows])
            total[rows] += np.nan_to_num(found)
            n[rows] += np.isfinite(found)
    return np.where(n > 0, total / np.maximum(n, 1), np.nan)


def window_means(values: np.ndarray) -> np.ndarray:
    """Windows × 1 × tracks: what :class:`Moments` reads to compare windows, not positions."""
    return values.mean(axis=1, keepdims=True)
