"""The compiled part of the rank encoding: one cell after another, exact to the last tie.

A cell is ordered by the leading 20 bits of what separates its quotients, in two radix passes of 10
bits. (The bits of positive floats are in the order of the numbers.) Few quotients share those bits;
where some do, that run is then settled by the whole quotients and the order of the vocabulary.
There is nothing to prepare for a matrix, and it does not matter whether counts are whole or large.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from ._radix import sort_keys

_DIGIT = 10  # bits; both histograms together take 8 KB
_BUCKETS = 1 << _DIGIT
_ITEM_BITS = 32 - _DIGIT  # an item travels with its second digit in one word
_MAX_ITEMS = 1 << _ITEM_BITS
_NONE = np.int64(1 << 62)  # beyond all columns
_SHORT_RUN = 24  # equal keys settled by insertion

# Division by zero as in numpy: without a check for it, divisions compile to wide instructions.
_compile = numba.njit(cache=True, nogil=True, error_model="numpy")


class Columns(NamedTuple):
    """What the columns are: arrays over columns."""

    single: NDArray[np.float64]  # median of a gene that has one column; NaN elsewhere
    medians: NDArray[np.float64]  # median of any gene
    order: NDArray[np.int64]  # position in the vocabulary
    gather: NDArray[np.int32]  # first column of a gene that has several, -1 elsewhere; or empty


class _Scratch(NamedTuple):
    """Room for one row, used again for the next."""

    quotients: NDArray[np.float64]
    medians: NDArray[np.float64]
    keys: NDArray[np.uint32]
    packed: NDArray[np.uint32]
    items: NDArray[np.uint32]
    low_ends: NDArray[np.uint32]
    high_ends: NDArray[np.uint32]
    firsts: NDArray[np.uint64]  # where the genes stand that were summed
    sums: NDArray[np.float64]  # by column; zero between rows
    long_keys: NDArray[np.uint64]
    spare_keys: NDArray[np.uint64]
    spare_items: NDArray[np.uint32]


@_compile
def rank_block(data, indices, indptr, columns, to_columns, to_ranks, n_ranked):  # type: ignore[no-untyped-def]
    """Write each row's ranked columns, upwards, and their ranks (from 1), one row after the other.

    ``to_columns`` needs room for all of ``data`` and one more.
    Returns the position in ``data`` of a value that cannot be ranked, or -1.
    """
    scratch = _make_scratch(indptr, columns)
    end = 0
    for row in range(len(indptr) - 1):
        kept = to_columns[end:]
        here = slice(indptr[row], indptr[row + 1])
        n = _load_row(data[here], indices[here], columns, scratch, kept)
        if n < 0:
            return indptr[row] - n - 1
        _order_row(columns, scratch, kept, n)
        ranks = to_ranks[end : end + n]
        for i in range(n):
            ranks[scratch.items[i]] = i + 1
        n_ranked[row] = n
        end += n
    return -1


@_compile
def sentence_block(data, indices, indptr, columns, limit, to_columns, to_indptr, n_ranked):  # type: ignore[no-untyped-def]
    """Write each row's columns in rank order, at most ``limit``; returns as :func:`rank_block`."""
    scratch = _make_scratch(indptr, columns)
    kept = np.empty(len(scratch.keys), np.int32)
    end = 0
    to_indptr[0] = 0
    for row in range(len(indptr) - 1):
        here = slice(indptr[row], indptr[row + 1])
        n = _load_row(data[here], indices[here], columns, scratch, kept)
        if n < 0:
            return indptr[row] - n - 1
        _order_row(columns, scratch, kept, n)
        for i in range(min(n, limit)):
            to_columns[end + i] = kept[scratch.items[i]]
        n_ranked[row] = n
        end += min(n, limit)
        to_indptr[row + 1] = end
    return -1


@_compile
def _make_scratch(indptr, columns):  # type: ignore[no-untyped-def]
    n = 1
    for row in range(len(indptr) - 1):
        n = max(n, indptr[row + 1] - indptr[row])
    n += 1  # the row is compacted without branches, which writes one place too far
    return _Scratch(
        np.empty(n, np.float64),
        np.empty(n, np.float64),
        np.empty(n, np.uint32),
        np.empty(n, np.uint32),
        np.empty(n, np.uint32),
        np.empty(_BUCKETS, np.uint32),
        np.empty(_BUCKETS, np.uint32),
        np.empty(n, np.uint64),
        np.zeros(len(columns.gather), np.float64),
        np.empty(n, np.uint64),
        np.empty(n, np.uint64),
        np.empty(n, np.uint32),
    )


@_compile
def _load_row(data, indices, columns, scratch, kept):  # type: ignore[no-untyped-def]
    """Fill ``kept`` with the columns to rank and ``scratch.quotients`` with count / median.

    Returns how many there are, or -1 - the place of a value that cannot be ranked.
    """
    usable = True
    if len(columns.gather):
        n, usable = _compact_shared(data, indices, columns, scratch, kept)
    else:
        n = 0
        for j in range(len(indices)):
            column = indices[j]
            value = data[j]
            median = columns.single[np.uint32(column)]
            kept[n] = column
            scratch.quotients[n] = value
            scratch.medians[n] = median
            n += (median == median) & (value != 0)  # no branch: it would often be guessed wrong
    quotients = scratch.quotients[:n]
    medians = scratch.medians[:n]
    for i in range(len(quotients)):
        usable &= (quotients[i] > 0) & (quotients[i] < np.inf)
        quotients[i] /= medians[i]
    if not usable:
        return -1 - _find_unusable(data, indices, columns)
    return n


@_compile
def _compact_shared(data, indices, columns, scratch, kept):  # type: ignore[no-untyped-def]
    """As the plain loop of the caller, with the sums of shared genes put in at their places.

    Returns how many columns are kept, and whether all sums are of values that can be ranked.
    """
    n_sums, usable = _sum_shared(data, indices, columns, scratch)
    next_sum = np.int64(scratch.firsts[0]) if n_sums else _NONE
    n = 0
    done = 0
    for j in range(len(indices)):
        column = indices[j]
        while column >= next_sum:
            kept[n] = next_sum
            scratch.quotients[n] = scratch.sums[next_sum]
            scratch.medians[n] = columns.medians[next_sum]
            scratch.sums[next_sum] = 0
            n += 1
            done += 1
            next_sum = np.int64(scratch.firsts[done]) if done < n_sums else _NONE
        value = data[j]
        median = columns.single[np.uint32(column)]  # NaN where the gene is shared
        kept[n] = column
        scratch.quotients[n] = value
        scratch.medians[n] = median
        n += (median == median) & (value != 0)
    return n, usable


@_compile
def _sum_shared(data, indices, columns, scratch):  # type: ignore[no-untyped-def]
    """Sum the columns that share a gene. Returns how many genes, and whether all can be ranked."""
    firsts = scratch.firsts
    n = 0
    usable = True
    for j in range(len(indices)):
        first = columns.gather[np.uint32(indices[j])]
        if first >= 0 and data[j] != 0:
            value = np.float64(data[j])
            if not (value > 0 and value < np.inf):
                usable = False
            if scratch.sums[first] == 0:
                firsts[n] = np.uint64(first)
                n += 1
            scratch.sums[first] += value
    sort_keys(firsts, scratch.items, scratch.spare_keys, scratch.spare_items, n)
    return n, usable


@_compile
def _find_unusable(data, indices, columns):  # type: ignore[no-untyped-def]
    for j in range(len(data)):
        value = np.float64(data[j])
        is_gene = not np.isnan(columns.medians[indices[j]])
        if is_gene and not (value >= 0 and value < np.inf):
            return j
    return -1


@_compile
def _order_row(columns, scratch, kept, n):  # type: ignore[no-untyped-def]
    """Fill ``scratch.items`` with the places in the row, from the largest quotient down."""
    keys = scratch.keys
    items = scratch.items
    if n > _MAX_ITEMS:
        for i in range(n):
            keys[i] = 0
            items[i] = i
    else:
        _leading_bits(scratch.quotients[:n].view(np.uint64), keys[:n])
        _sort_by_key(scratch, n)
    # Settle the runs of equal keys by quotient and vocabulary. Short ones by insertion right here:
    # a call with all these arrays takes longer than the sort.
    quotients = scratch.quotients
    order = columns.order
    first = 0
    key = keys[items[0]] if n else np.uint32(0)
    for i in range(1, n):
        item = items[i]
        if keys[item] != key:
            if i - first > _SHORT_RUN:
                _settle_long(columns, scratch, kept, items[first:i])
            first = i
            key = keys[item]
        elif i - first < _SHORT_RUN:
            j = i
            while j > first:
                before = items[j - 1]
                if quotients[before] > quotients[item]:
                    break
                if quotients[before] == quotients[item] and order[kept[before]] < order[kept[item]]:
                    break
                items[j] = before
                j -= 1
            items[j] = item
    if n - first > _SHORT_RUN:
        _settle_long(columns, scratch, kept, items[first:n])


@_compile
def _leading_bits(bits, keys):  # type: ignore[no-untyped-def]
    """How far each number is below the largest, in the leading 20 bits of the widest distance."""
    top = np.uint64(0)
    bottom = ~np.uint64(0)
    for i in range(len(bits)):
        top = max(top, bits[i])
        bottom = min(bottom, bits[i])
    shift = np.uint64(0)
    while ((top - bottom) >> shift) >= np.uint64(1 << (2 * _DIGIT)) and top > bottom:
        shift += np.uint64(1)
    for i in range(len(bits)):
        keys[i] = np.uint32((top - bits[i]) >> shift)


@_compile
def _sort_by_key(scratch, n):  # type: ignore[no-untyped-def]
    """Two radix passes, low digit first."""
    keys = scratch.keys
    packed = scratch.packed
    low_ends = scratch.low_ends
    high_ends = scratch.high_ends
    low_mask = np.uint32(_BUCKETS - 1)
    item_mask = np.uint32(_MAX_ITEMS - 1)
    for i in range(_BUCKETS):
        low_ends[i] = 0
        high_ends[i] = 0
    for i in range(n):
        low_ends[keys[i] & low_mask] += np.uint32(1)
        high_ends[keys[i] >> np.uint32(_DIGIT)] += np.uint32(1)
    low_total = np.uint32(0)
    high_total = np.uint32(0)
    for i in range(_BUCKETS):  # both at once, for each is a chain of additions
        low_count = low_ends[i]
        low_ends[i] = low_total
        low_total = np.uint32(low_total + low_count)
        high_count = high_ends[i]
        high_ends[i] = high_total
        high_total = np.uint32(high_total + high_count)
    for i in range(n):
        key = keys[i]
        place = low_ends[key & low_mask]
        low_ends[key & low_mask] = place + np.uint32(1)
        packed[place] = ((key >> np.uint32(_DIGIT)) << np.uint32(_ITEM_BITS)) | np.uint32(i)
    for i in range(n):
        word = packed[i]
        place = high_ends[word >> np.uint32(_ITEM_BITS)]
        high_ends[word >> np.uint32(_ITEM_BITS)] = place + np.uint32(1)
        scratch.items[place] = word & item_mask


@_compile
def _settle_long(columns, scratch, kept, items):  # type: ignore[no-untyped-def]
    """Order items by quotient, downwards, then by the vocabulary, however many tie."""
    n = len(items)
    keys = scratch.long_keys
    bits = scratch.quotients.view(np.uint64)
    for i in range(n):
        keys[i] = np.uint64(columns.order[kept[items[i]]])
    sort_keys(keys, items, scratch.spare_keys, scratch.spare_items, n)
    for i in range(n):
        keys[i] = ~bits[items[i]]
    sort_keys(keys, items, scratch.spare_keys, scratch.spare_items, n)
