"""A stable sort of unsigned 64-bit keys that carries an item with each key.

Stable matters: items that are given in vocabulary order stay in it where their keys tie.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

_BITS = 11  # a histogram of 2,048 counters per digit stays in the first-level cache
_DIGITS = 6  # 6 digits of 11 bits cover 64
_SHORT = 128  # below this, insertion sort is faster than clearing histograms


@numba.njit(cache=True, nogil=True)
def sort_keys(
    keys: NDArray[np.uint64],
    items: NDArray[np.uint32],
    spare_keys: NDArray[np.uint64],
    spare_items: NDArray[np.uint32],
    n: int,
) -> None:
    """Sort the first ``n`` keys upwards, in place, and their items with them.

    Parameters
    ----------
    keys, items
        What to sort.
    spare_keys, spare_items
        Room of at least ``n`` each, overwritten.
    n
        How many.
    """
    if n <= _SHORT:
        _insertion_sort(keys, items, n)
        return
    mask = np.uint64((1 << _BITS) - 1)
    histogram = np.zeros((_DIGITS, 1 << _BITS), np.uint32)
    for i in range(n):
        key = keys[i]
        for digit in range(_DIGITS):
            histogram[digit, (key >> np.uint64(digit * _BITS)) & mask] += np.uint32(1)
    swapped = False
    for digit in range(_DIGITS):
        shift = np.uint64(digit * _BITS)
        ends = histogram[digit]
        first = keys[0] if not swapped else spare_keys[0]
        if ends[(first >> shift) & mask] == n:
            continue  # one value of this digit: nothing to reorder
        total = np.uint32(0)
        for bucket in range(1 << _BITS):
            count = ends[bucket]
            ends[bucket] = total
            total += count
        if swapped:
            _scatter(spare_keys, spare_items, keys, items, ends, shift, mask, n)
        else:
            _scatter(keys, items, spare_keys, spare_items, ends, shift, mask, n)
        swapped = not swapped
    if swapped:
        keys[:n] = spare_keys[:n]
        items[:n] = spare_items[:n]


@numba.njit(cache=True, nogil=True)
def _scatter(keys, items, to_keys, to_items, ends, shift, mask, n):  # type: ignore[no-untyped-def]
    for i in range(n):
        key = keys[i]
        bucket = (key >> shift) & mask
        place = ends[bucket]
        ends[bucket] = place + np.uint32(1)
        to_keys[place] = key
        to_items[place] = items[i]


@numba.njit(cache=True, nogil=True)
def _insertion_sort(keys, items, n):  # type: ignore[no-untyped-def]
    for i in range(1, n):
        key = keys[i]
        item = items[i]
        j = i
        while j > 0 and keys[j - 1] > key:
            keys[j] = keys[j - 1]
            items[j] = items[j - 1]
            j -= 1
        keys[j] = key
        items[j] = item
