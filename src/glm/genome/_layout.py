"""What reading gives: windows of one length, or stretches end to end; and where each one lies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..bases import N
from ..regions import Regions, is_whole

Edges = Literal["pad", "raise"]
"""What to do where bases beyond a contig's ends would be read."""


@dataclass(frozen=True, eq=False)
class Windows:
    """Bases of equally long windows.

    Attributes
    ----------
    codes
        uint8, windows × bases: A 0, C 1, G 2, T 3, and 4 for N and padding.
    padded
        int32, windows × 2: bases beyond the contig's ends, before and after in the direction read.
    """

    codes: NDArray[np.uint8]
    padded: NDArray[np.int32]

    @property
    def n_share(self) -> NDArray[np.float64]:
        """Share of bases that are not known in each window, padding among them."""
        return (self.codes == N).mean(axis=1)


@dataclass(frozen=True, eq=False)
class Stretches:
    """Bases of regions of any lengths, end to end.

    Attributes
    ----------
    codes
        uint8: A 0, C 1, G 2, T 3, and 4 for N and padding.
    offsets
        int64, one more than regions: region ``i`` is ``codes[offsets[i]:offsets[i + 1]]``.
    padded
        int32, regions × 2: bases beyond the contig's ends, before and after in the direction read.
    """

    codes: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    padded: NDArray[np.int32]

    @property
    def n_share(self) -> NDArray[np.float64]:
        """Share of bases that are not known in each region, padding among them."""
        if len(self.offsets) == 1:
            return np.zeros(0)
        unknown = np.add.reduceat(self.codes == N, self.offsets[:-1], dtype=np.int64)
        return unknown / np.diff(self.offsets)


class Pieces(NamedTuple):
    """Stretches of one contig, which may lie beyond its ends, and where their bases go."""

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    reverse: NDArray[np.bool_]
    at: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Spans:
    """What is to be read: each region's contig, its stretch of it, and whether it is read back."""

    contigs: list[str]
    of: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    reverse: NDArray[np.bool_]
    padded: NDArray[np.int32]

    @property
    def offsets(self) -> NDArray[np.int64]:
        """Where each one begins when they lie end to end, and the end of the last."""
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(self.end - self.start)])

    def by_contig(self) -> Iterator[tuple[str, Pieces]]:
        """What is to be read of each contig."""
        at = self.offsets[:-1]
        if len(self.contigs) == 1:
            yield self.contigs[0], Pieces(self.start, self.end, self.reverse, at)
            return
        order = np.argsort(self.of, kind="stable")
        ends = np.cumsum(np.bincount(self.of, minlength=len(self.contigs)))
        for i, contig in enumerate(self.contigs):
            rows = order[ends[i - 1] if i else 0 : ends[i]]
            pieces = Pieces(self.start[rows], self.end[rows], self.reverse[rows], at[rows])
            yield contig, pieces


def _check(regions: Regions) -> None:
    """Refuse what is no regions."""
    if not isinstance(regions, Regions):
        raise TypeError(
            f"Got a {type(regions).__name__}, expected glm.Regions, such as "
            "glm.Regions.of(['chr1'], [1000], [2000]). For one stretch take fetch()."
        )


def position_of(position: int) -> int:
    """A position as a whole number."""
    if not is_whole(position):
        raise ValueError(f"{position!r} is no position; expected a whole number.")
    return int(position)


def recentred(regions: Regions, length_bp: int | None) -> tuple[NDArray, NDArray]:
    """Starts and ends of windows around the regions' centres, or the regions if all are as long."""
    _check(regions)
    if length_bp is None:
        lengths = regions.lengths
        if len(lengths) and (lengths != lengths[0]).any():
            other = int(np.flatnonzero(lengths != lengths[0])[0])
            raise ValueError(
                f"Windows are of one length, but {regions.name(0)} has {int(lengths[0]):,} bases "
                f"and {regions.name(other)} has {int(lengths[other]):,}. Pass length_bp to take "
                "windows of that length around their centres, or read them with stretches()."
            )
        return regions.start, regions.end
    if not is_whole(length_bp) or length_bp < 1:
        raise ValueError(f"length_bp is {length_bp!r}; expected a whole number of at least 1.")
    start = (regions.start + regions.end) // 2 - int(length_bp) // 2
    return start, start + int(length_bp)


def flanked(regions: Regions, flank: int) -> tuple[NDArray, NDArray]:
    """Starts and ends of regions with so many bases more on both sides."""
    _check(regions)
    if not is_whole(flank) or flank < 0:
        raise ValueError(f"flank is {flank!r}; expected a number of bases, 0 or more.")
    return regions.start - int(flank), regions.end + int(flank)


def spans_of(
    regions: Regions,
    start: NDArray[np.int64],
    end: NDArray[np.int64],
    contigs: list[str],
    lengths: NDArray[np.int64],
    edges: Edges,
) -> Spans:
    """Hold regions, and what is read for them, against the ends of their contigs.

    Parameters
    ----------
    regions
        What the user named; messages name these.
    start, end
        What is read for each of them.
    contigs, lengths
        The genome's own names and the lengths of ``regions.chromosomes``.
    edges
        ``"pad"`` or ``"raise"``.

    Raises
    ------
    ValueError
        If a region has no base on its contig, or, with ``edges="raise"``, if bases beyond a contig
        would be read.
    """
    if edges not in ("pad", "raise"):
        raise ValueError(f"edges is {edges!r}; expected 'pad' or 'raise'.")
    of = regions.chromosomes[1]
    if (of < 0).any():
        row = int(np.flatnonzero(of < 0)[0])
        raise ValueError(f"Region {row:,} has no chromosome. Leave out the rows that have none.")
    limit = lengths[of] if len(of) else np.zeros(0, np.int64)
    outside = np.flatnonzero((regions.end <= 0) | (regions.start >= limit))
    if outside.size:
        where = _first(outside, regions, regions.start, regions.end, contigs, limit)
        raise ValueError(
            f"{where} Regions with no base on their contig are of another genome, or wrong: read "
            "the genome they are of, or leave them out."
        )
    left, right = np.maximum(0, -start), np.maximum(0, end - limit)
    over = np.flatnonzero((left > 0) | (right > 0))
    if edges == "raise" and over.size:
        where = _first(over, regions, start, end, contigs, limit)
        raise ValueError(f"{where} Pass edges='pad' to have N there, or leave them out.")
    # A window may lie wholly beyond the contig although its region does not: all of it is padding.
    left, right = np.minimum(left, end - start), np.minimum(right, end - start)
    reverse = regions.strand < 0
    padded = np.stack([np.where(reverse, right, left), np.where(reverse, left, right)], axis=1)
    return Spans(contigs, of, start, end, reverse, padded.astype(np.int32))


def _first(
    rows: NDArray[np.intp],
    regions: Regions,
    start: NDArray[np.int64],
    end: NDArray[np.int64],
    contigs: list[str],
    limit: NDArray[np.int64],
) -> str:
    """How many rows lie beyond their contig, and where the first one does."""
    row = int(rows[0])
    contig = contigs[int(regions.chromosomes[1][row])]
    return (
        f"{rows.size:,} of {len(regions):,} regions lie beyond their contig; the first, row "
        f"{row:,} ({regions.name(row)}), is {int(start[row]):,} to {int(end[row]):,} of {contig}, "
        f"which has {int(limit[row]):,} bases."
    )
