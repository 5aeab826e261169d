"""Count what values there are in a run of memory, at about the speed memory is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

_RUN = 32_768  # values whose four counters are summed in 32 bits


@dataclass(frozen=True)
class Tally:
    """What was counted. Tallies add up; a maximum of ``None`` means nothing finite."""

    n_stored: int = 0
    n_negative: int = 0
    n_not_finite: int = 0
    n_fractional: int = 0
    largest: float | None = None

    def __add__(self, other: Tally) -> Tally:
        both = [value for value in (self.largest, other.largest) if value is not None]
        return Tally(
            self.n_stored + other.n_stored,
            self.n_negative + other.n_negative,
            self.n_not_finite + other.n_not_finite,
            self.n_fractional + other.n_fractional,
            max(both, default=None),
        )

    def tests(self) -> Iterator[tuple[str, Callable[[NDArray[Any]], NDArray[np.bool_]]]]:
        """The kinds of bad value that were found, and what recognises each."""
        if self.n_negative:
            yield "negative", _is_negative
        if self.n_not_finite:
            yield "not_finite", _is_not_finite
        if self.n_fractional:
            yield "fractional", _is_fractional


def count_values(values: NDArray[Any]) -> Tally:
    """Count the values of a contiguous run of integers, float32 or float64."""
    if not values.size:
        return Tally()
    if values.dtype.kind in "iu":
        return _count_whole(values)
    bits: NDArray[Any] = values.view(np.int32 if values.dtype == np.float32 else np.int64)
    magnitude = bits.dtype.type(np.iinfo(bits.dtype).max)  # every bit but the sign
    infinity = np.array(np.inf, values.dtype).view(bits.dtype)[()]  # finite numbers stay below
    totals, top = _count_floats(values, bits, magnitude, infinity)
    n_zero, n_negative, n_not_finite, n_fractional = (int(total) for total in totals)
    n_finite = values.size - n_not_finite
    largest = None
    if n_finite:
        largest = float(np.array(top, bits.dtype).view(values.dtype))
        if top < 0:  # nothing finite is positive or plain zero: bits of negatives run backwards
            largest = float(values[np.isfinite(values)].max())
    return Tally(values.size - n_zero, n_negative, n_not_finite, n_fractional, largest)


def _count_whole(values: NDArray[Any]) -> Tally:
    n_stored = int(np.count_nonzero(values))
    largest = float(values.max())
    if values.dtype.kind == "u" or values.min() >= 0:
        return Tally(n_stored, largest=largest)
    return Tally(n_stored, n_negative=int(np.count_nonzero(values < 0)), largest=largest)


@numba.njit(cache=True, nogil=True)
def _count_floats(values, bits, magnitude, infinity):  # type: ignore[no-untyped-def]
    # Slices, 32-bit counters and no branches, so that it compiles to wide instructions. The bits
    # of finite floats that are not negative grow with them, and those of negatives are negative.
    totals = np.zeros(4, np.int64)
    lowest = -magnitude - 1
    top = lowest
    for start in range(0, len(values), _RUN):
        run = values[start : start + _RUN]
        words = bits[start : start + _RUN]
        zero = np.int32(0)
        negative = np.int32(0)
        strange = np.int32(0)
        fraction = np.int32(0)
        for i in range(len(run)):
            value = run[i]
            finite = (words[i] & magnitude) < infinity
            zero = np.int32(zero + np.int32(value == 0))
            negative = np.int32(negative + np.int32(value < 0))
            strange = np.int32(strange + np.int32(not finite))
            fraction = np.int32(fraction + np.int32((value != np.floor(value)) & finite))
            top = max(top, words[i] if finite else lowest)
        totals[0] += zero
        totals[1] += negative
        totals[2] += strange
        totals[3] += fraction
    return totals, top


@numba.njit(cache=True, nogil=True)
def is_increasing(indptr: NDArray[np.integer], indices: NDArray[np.integer]) -> bool:
    """Whether each row's indices increase: sorted, and none twice."""
    for row in range(len(indptr) - 1):
        here = indices[indptr[row] : indptr[row + 1]]
        bad = False
        for i in range(len(here) - 1):
            bad |= here[i] >= here[i + 1]
        if bad:
            return False
    return True


@numba.njit(cache=True, nogil=True)
def measure_rows(data, indices, indptr, target, undo_log, per_row, seen, per_column):  # type: ignore[no-untyped-def]
    """Sum the values above zero of each row and column, and count the columns they are in.

    Fills ``per_row`` (rows × 4): sum, columns, sum over columns with a target, distinct targets.
    Adds to ``per_column``. ``seen`` holds a number below zero for each column. What is not finite
    is left out.
    """
    for row in range(len(indptr) - 1):
        for i in range(indptr[row], indptr[row + 1]):
            column = indices[i]
            value = np.expm1(float(data[i])) if undo_log else float(data[i])
            if not 0.0 < value < np.inf:
                continue
            per_row[row, 0] += value
            per_row[row, 1] += 1
            per_column[column] += value
            gene = target[column]
            if gene >= 0:
                per_row[row, 2] += value
                if seen[gene] != row:
                    seen[gene] = row
                    per_row[row, 3] += 1


def _is_negative(values: NDArray[Any]) -> NDArray[np.bool_]:
    return values < 0


def _is_not_finite(values: NDArray[Any]) -> NDArray[np.bool_]:
    return ~np.isfinite(values)


def _is_fractional(values: NDArray[Any]) -> NDArray[np.bool_]:
    return np.isfinite(values) & (values != np.floor(values))
