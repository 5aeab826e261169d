"""The part of a genome that is drawn, and values in bins on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..genome._builds import short_name
from ..locate._values import regions_in
from ..regions import Regions, is_whole


@dataclass(frozen=True)
class View:
    """A stretch of a chromosome, 0-based and half-open."""

    chrom: str
    start: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.start

    def __str__(self) -> str:
        return f"{self.chrom}:{self.start:,}-{self.end:,}"

    def on(self, chrom: Any) -> NDArray[np.bool_]:
        """Which of some names are this chromosome's, in any of its spellings."""
        import pandas as pd

        codes, found = pd.factorize(np.asarray(chrom, dtype=object))
        own = np.array([short_name(str(name)) == short_name(self.chrom) for name in found], bool)
        return np.append(own, False)[codes]

    def holds(self, start: Any, end: Any) -> NDArray[np.bool_]:
        """Which of some stretches of this chromosome reach into the view."""
        return (np.asarray(start) < self.end) & (np.asarray(end) > self.start)

    def meets(self, other: View) -> bool:
        """Whether another view has a base of this one."""
        same = short_name(self.chrom) == short_name(other.chrom)
        return same and self.start < other.end and other.start < self.end


def read_view(region: Any, what: str) -> View:
    """A region however it is written: ``(chrom, start, end)``, a text, one of ``glm.Regions``.

    Raises
    ------
    TypeError, ValueError
        If it is nothing of the kind, or has no bases.
    """
    if isinstance(region, View):
        return region
    if isinstance(region, Regions) and len(region) == 1:
        chrom, start, end, _ = next(iter(region))
    elif isinstance(region, str):
        places = regions_in([region], what)
        if not places.there[0]:
            raise ValueError(f"{what} is {region!r}; expected a text such as 'chr1:1,000-2,000'.")
        chrom, start, end = str(places.chrom[0]), int(places.start[0]), int(places.end[0])
    elif isinstance(region, Sequence) and len(region) == 3:
        chrom, start, end = region
        if not isinstance(chrom, str) or not (is_whole(start) and is_whole(end)):
            raise TypeError(
                f"{what} is {tuple(region)!r}; expected (chromosome, start, end), a text and two "
                "whole numbers."
            )
    else:
        raise TypeError(
            f"{what} is {region!r}; expected (chromosome, start, end) or 'chr1:1,000-2,000'."
        )
    if start >= end:
        raise ValueError(f"{what} has no bases: start {start:,} is not below end {end:,}.")
    return View(chrom, int(start), int(end))


@dataclass(frozen=True, eq=False)
class Bins:
    """Values in stretches of one chromosome, in their order and not overlapping.

    Attributes
    ----------
    start, end
        int64, 0-based and half-open.
    values
        float64; NaN where nothing is known.
    """

    start: NDArray[np.int64]
    end: NDArray[np.int64]
    values: NDArray[np.float64]

    @classmethod
    def even(cls, start: int, bin_bp: int, values: Any) -> Bins:
        """Bins of one length, side by side."""
        starts = start + bin_bp * np.arange(len(values), dtype=np.int64)
        return cls(starts, starts + bin_bp, np.asarray(values, np.float64))

    def within(self, view: View) -> Bins:
        """The bins that reach into a view, whole."""
        first = int(np.searchsorted(self.end, view.start, side="right"))
        last = int(np.searchsorted(self.start, view.end, side="left"))
        return Bins(self.start[first:last], self.end[first:last], self.values[first:last])

    def steps(self, view: View, most: int) -> tuple[NDArray[np.float64], NDArray[Any]]:
        """Values, and the edges between them, with NaN where no bin is.

        Of more than ``most`` bins those that fall into the same of ``most`` equal parts of the view
        are joined: the value that lies farthest from 0 stands for them, so that no peak is lost.
        """
        if self.start.size > most:
            return self._joined(view, most)
        apart = np.flatnonzero(self.start[1:] > self.end[:-1]) + 1
        values = np.insert(self.values, apart, np.nan)
        edges = np.insert(self.start, apart, self.end[apart - 1])
        return values, np.append(edges, self.end[-1:] if self.end.size else [view.start])

    def _joined(self, view: View, most: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        edges = np.linspace(view.start, view.end, most + 1)
        first = np.searchsorted(self.end, edges[:-1], side="right")
        last = np.searchsorted(self.start, edges[1:], side="left")
        pairs = np.column_stack([first, last]).ravel()
        known = ~np.isnan(self.values)

        def extreme(of: Any, nothing: float) -> NDArray[np.float64]:
            # One value more, since reduceat takes no place beyond the last.
            filled = np.append(np.where(known, self.values, nothing), nothing)
            return np.where(first < last, of.reduceat(filled, pairs)[::2], nothing)

        high, low = extreme(np.maximum, -np.inf), extreme(np.minimum, np.inf)
        values = np.where(high >= -low, high, low)
        return np.where(np.isfinite(values), values, np.nan), edges


def difference_of(one: Bins, other: Bins, name: str) -> Bins:
    """``one`` less ``other`` in the bins that both have.

    Raises
    ------
    ValueError
        If they have none in common: bins of other lengths, or shifted.
    """
    _, here, there = np.intersect1d(one.start, other.start, return_indices=True)
    same = one.end[here] == other.end[there]
    here, there = here[same], there[same]
    if not here.size:
        raise ValueError(
            f"The two signals of {name!r} have no bin in common ({_told(one)}; {_told(other)}), so "
            "there is no difference to draw. Bring the finer one to the other's bins first (add up "
            "or average its values: values.reshape(-1, n).mean(1)), or leave difference out."
        )
    return Bins(one.start[here], one.end[here], one.values[here] - other.values[there])


def _told(bins: Bins) -> str:
    if not bins.start.size:
        return "no bins here"
    return f"bins of {int(bins.end[0] - bins.start[0]):,} bp from {int(bins.start[0]):,}"
