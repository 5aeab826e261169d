"""Regions of a genome: chromosome, start, end (0-based, half-open), strand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Regions:
    """Stretches of a genome, one a row.

    Attributes
    ----------
    chrom
        Names of chromosomes, text.
    start, end
        int64, 0-based and half-open: ``end - start`` bases. They may lie beyond the chromosome; who
        reads the sequence decides what that means.
    strand
        int8: 1, -1, or 0 where no strand is known (read as +).
    names
        What messages call them, such as peaks' names; by default ``chr1:1,000-2,000``.

    Raises
    ------
    ValueError
        If they are not as many each, or a region has no bases.
    """

    chrom: np.ndarray
    start: np.ndarray
    end: np.ndarray
    strand: np.ndarray
    names: Sequence[str] | None = None

    def __post_init__(self) -> None:
        n = len(self.chrom)
        counts = [n, len(self.start), len(self.end), len(self.strand)]
        if len({*counts, n if self.names is None else len(self.names)}) != 1:
            raise ValueError(
                f"Regions need one chrom, start, end and strand (and name) each; found {counts}."
            )
        empty = np.flatnonzero(self.start >= self.end)
        if empty.size:
            i = int(empty[0])
            raise ValueError(
                f"{empty.size:,} of {n:,} regions have no bases, first row {i:,}: start "
                f"{int(self.start[i]):,} is not below end {int(self.end[i]):,}. Regions are "
                "0-based and half-open; correct these rows or leave them out."
            )

    @classmethod
    def of(
        cls,
        chrom: Sequence[Any],
        start: Sequence[int] | np.ndarray,
        end: Sequence[int] | np.ndarray,
        strand: Sequence[int] | np.ndarray | None = None,
        names: Sequence[str] | None = None,
    ) -> Regions:
        """Regions of plain lists; without a strand none is known.

        Raises
        ------
        TypeError
            If one of them is no list.
        ValueError
            If a position is no whole number, or a strand none of 1, -1 and 0: the message has the
            row. Else as for the class.
        """
        for what, values in (("chrom", chrom), ("start", start), ("end", end)):
            if isinstance(values, str) or np.ndim(values) != 1:
                raise TypeError(
                    f"Regions are made of chrom, start and end, a list each; {what} is {values!r}."
                )
        strands = _whole(np.zeros(len(start)) if strand is None else strand, _STRANDS)
        return cls(
            np.asarray(chrom, dtype=object),
            _whole(start, "starts"),
            _whole(end, "ends"),
            strands.astype(np.int8),
            names,
        )

    def __len__(self) -> int:
        return len(self.chrom)

    @property
    def lengths(self) -> np.ndarray:
        """int64, bases of each."""
        return self.end - self.start

    def name(self, row: int) -> str:
        """What a message calls a region."""
        if self.names is not None:
            return str(self.names[row])
        return f"{self.chrom[row]}:{int(self.start[row]):,}-{int(self.end[row]):,}"

    def take(self, rows: np.ndarray) -> Regions:
        """The regions at ``rows``, in that order."""
        names = None if self.names is None else [self.names[i] for i in rows]
        return Regions(self.chrom[rows], self.start[rows], self.end[rows], self.strand[rows], names)

    @cached_property
    def chromosomes(self) -> tuple[list[str], np.ndarray]:
        """Distinct chromosomes in order of appearance, and int64, which of them each is on."""
        import pandas as pd

        codes, found = pd.factorize(self.chrom)
        return [str(name) for name in found], codes.astype(np.int64)

    def __iter__(self) -> Iterator[tuple[str, int, int, int]]:
        for row in zip(self.chrom, self.start, self.end, self.strand, strict=True):
            yield str(row[0]), int(row[1]), int(row[2]), int(row[3])


_STRANDS = "strands"


def _whole(values: Sequence[Any] | np.ndarray, what: str) -> np.ndarray:
    """int64; whole numbers of any kind, and nothing that only looks like one."""
    found = np.asarray(values)
    if found.dtype.kind in "iu":
        wrong = np.zeros(found.size, bool)
    else:  # one by one: an array of a text among numbers has turned all to text
        wrong = np.array([not is_whole(value) for value in values], bool)
    if what == _STRANDS and not wrong.any():
        wrong = ~np.isin(found, (1, -1, 0))
    if wrong.any():
        row = int(wrong.argmax())
        expected = "1, -1 or 0 (not known)" if what == _STRANDS else "whole numbers"
        raise ValueError(
            f"{int(wrong.sum()):,} of {wrong.size:,} {what} are none; the first, row {row:,}, is "
            f"{list(values)[row]!r}: expected {expected}. Correct these rows or leave them out."
        )
    return found.astype(np.int64)


def is_whole(value: object) -> bool:
    """Whether it is a whole number: of Python, of numpy, or a float that is one."""
    if isinstance(value, float | np.floating):
        return value.is_integer()
    return isinstance(value, Integral) and not isinstance(value, bool)
