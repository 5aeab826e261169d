"""Pearson's correlation of many columns at once, from rows that come in parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# A column that varies less than this around its mean, relative to it, does not vary: it is as far
# as float32, in which predictions are made, tells two numbers apart.
_SAME = 2.0**-23


class ColumnSums:
    """What the correlation of two tables' columns takes, kept up while rows come.

    Sums are of deviations from the mean so far, so that a large mean does not hide a small spread,
    and parts merge in any order up to rounding. It works on numpy arrays and torch tensors alike,
    float64, and stays on their device.

    Parameters
    ----------
    like
        Zeros, float64, one a column: of the kind, and in the place, of what will come.
    """

    def __init__(self, like: Any) -> None:
        self.like = like
        # count, two means, three sums of products
        self._sums: tuple[Any, ...] = (like,) * 6

    def add(self, truth: Any, predicted: Any, known: Any) -> None:
        """Take in rows × columns, float64 and finite; those where ``known`` is 0 do not count."""
        n = known.sum(0)
        some = n + (n == 0)
        mean_t, mean_p = (truth * known).sum(0) / some, (predicted * known).sum(0) / some
        off_t, off_p = (truth - mean_t) * known, (predicted - mean_p) * known
        self._merge(
            (
                n,
                mean_t,
                mean_p,
                (off_t * off_t).sum(0),
                (off_p * off_p).sum(0),
                (off_t * off_p).sum(0),
            )
        )

    def _merge(self, other: tuple[Any, ...]) -> None:
        (n, t, p, tt, pp, tp), (n2, t2, p2, tt2, pp2, tp2) = self._sums, other
        total = n + n2
        some = total + (total == 0)
        dt, dp, weight = t2 - t, p2 - p, n * n2 / some
        self._sums = (
            total,
            t + dt * n2 / some,
            p + dp * n2 / some,
            tt + tt2 + dt * dt * weight,
            pp + pp2 + dp * dp * weight,
            tp + tp2 + dt * dp * weight,
        )

    def over_all(self, total: Callable[[Any], Any]) -> ColumnSums:
        """The sums over all processes; ``total`` adds an array up over them."""
        n, t, p, tt, pp, tp = self._sums
        all_n = total(n)
        some = all_n + (all_n == 0)
        mean_t, mean_p = total(n * t) / some, total(n * p) / some
        dt, dp = t - mean_t, p - mean_p
        found = ColumnSums(self.like)
        found._sums = (
            all_n,
            mean_t,
            mean_p,
            total(tt + n * dt * dt),
            total(pp + n * dp * dp),
            total(tp + n * dt * dp),
        )
        return found

    def correlation(self) -> Any:
        """One a column, float64; NaN where one of the two is the same everywhere."""
        n, t, p, tt, pp, tp = self._sums
        some = n + (n == 0)
        varies = (tt / some > (_SAME * t) ** 2) & (pp / some > (_SAME * p) ** 2)
        product = (tt * pp) ** 0.5
        found = (tp / (product + (product == 0))).clip(-1.0, 1.0)
        found[~varies] = float("nan")
        return found
