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
    buckets = 1 << _BITS
    mask = np.uint64(buckets - 1)
    ends = np.zeros(_DIGITS * buckets, np.uint32)  # one histogram after the other
    for i in range(n):
        for digit in range(_DIGITS):
            value = (keys[i] >> np.uint64(digit * _BITS)) & mask
            ends[np.uint64(digit * buckets) + value] += np.uint32(1)
    for digit in range(_DIGITS):
        shift = np.uint64(digit * _BITS)
        start = np.uint64(digit * buckets)
        if ends[start + ((keys[0] >> shift) & mask)] == n:
            continue  # one value of this digit: nothing to reorder
        total = np.uint32(0)
        for bucket in range(buckets):
            count = ends[start + np.uint64(bucket)]
            ends[start + np.uint64(bucket)] = total
            total = np.uint32(total + count)
        for i in range(n):
            bucket_end = start + ((keys[i] >> shift) & mask)
            place = ends[bucket_end]
            ends[bucket_end] = place + np.uint32(1)
            spare_keys[place] = keys[i]
            spare_items[place] = items[i]
        for i in range(n):
            keys[i] = spare_keys[i]
            items[i] = spare_items[i]


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
