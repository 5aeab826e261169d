"""The compiled part of applying byte pairs: two ways to the same tokens.

**By a machine** (made in ``_bpe_machine``), for merge lists in order: one step a base, then one
walk back over the tokens. **By ranks**, for any list: always the lowest rank, the leftmost first,
from a heap.

A base that has no piece is the unknown token and divides the text.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

_compile = numba.njit(cache=True, nogil=True, error_model="numpy")

_POSITION_BITS = 40
_GONE = -2  # merged into the token before; -1 is a base without a piece


class Merges(NamedTuple):
    """A merge list by pairs of tokens: an open hash table, its size a power of two."""

    pairs: NDArray[np.int64]  # left << 32 | right, or -1
    ranks: NDArray[np.int32]
    products: NDArray[np.int32]
    base_tokens: NDArray[np.int32]  # by code; -1 where a base has no piece
    unknown: np.int32
    fuse: np.bool_  # one unknown token for a run of bases that are not known


class Machine(NamedTuple):
    """What a base does: the next state, and the last token of all bases up to it."""

    states: NDArray[np.uint16]  # state << 3 | code; state 0 is the start
    tokens: NDArray[np.uint16]  # likewise; the unknown token where a base has no piece


@_compile
def hash_slot(pair, size):  # type: ignore[no-untyped-def]
    """Where a pair's search starts in a table of ``size``."""
    mixed = np.uint64(pair) * np.uint64(0x9E3779B97F4A7C15)
    return np.int64((mixed >> np.uint64(32)) & np.uint64(size - 1))


@_compile
def fill_table(pairs, ranks, products, new_pairs, new_products):  # type: ignore[no-untyped-def]
    """Put a merge list into an empty table; of a pair that is in it twice, the last counts."""
    for rank in range(len(new_pairs)):
        slot = hash_slot(new_pairs[rank], len(pairs))
        while pairs[slot] >= 0 and pairs[slot] != new_pairs[rank]:
            slot = (slot + 1) & (len(pairs) - 1)
        pairs[slot] = new_pairs[rank]
        ranks[slot] = rank
        products[slot] = new_products[rank]


@_compile
def _find(merges, left, right):  # type: ignore[no-untyped-def]
    """The slot of a pair, or -1."""
    pair = (np.int64(left) << 32) | np.int64(right)
    slot = hash_slot(pair, len(merges.pairs))
    while merges.pairs[slot] >= 0:
        if merges.pairs[slot] == pair:
            return slot
        slot = (slot + 1) & (len(merges.pairs) - 1)
    return -1


# ---- by a machine ------------------------------------------------------------------------------


@_compile
def apply_machine(codes, offsets, machine, lengths, merges, found, n_tokens):  # type: ignore[no-untyped-def]
    """Tokens of each sequence at the end of its own stretch of ``found``, and how many."""
    for row in range(len(offsets) - 1):
        here = found[offsets[row] : offsets[row + 1]]
        sequence = codes[offsets[row] : offsets[row + 1]]
        state = np.uint32(0)
        for i in range(len(sequence)):
            step = (state << np.uint32(3)) | np.uint32(sequence[i])
            state = np.uint32(machine.states[step])
            here[i] = machine.tokens[step]
        n_tokens[row] = _gather(here, lengths, merges)


@_compile
def _gather(found, lengths, merges):  # type: ignore[no-untyped-def]
    """Read the tokens from the last one back; write them, in order, at the end; how many."""
    to = at = len(found)
    fused = False
    while at > 0:
        token = found[at - 1]
        at -= lengths[token]
        if not (fused and token == merges.unknown):
            to -= 1
            found[to] = token
        fused = merges.fuse and token == merges.unknown
    return len(found) - to


# ---- by ranks ----------------------------------------------------------------------------------


@_compile
def apply_ranks(codes, offsets, merges, found, n_tokens):  # type: ignore[no-untyped-def]
    """As :func:`apply_machine`, for any merge list."""
    longest = 1
    for row in range(len(offsets) - 1):
        longest = max(longest, offsets[row + 1] - offsets[row])
    tokens = np.empty(longest, np.int32)
    links = np.empty((longest, 2), np.int64)
    heap = np.empty(3 * longest, np.int64)
    for row in range(len(offsets) - 1):
        here = found[offsets[row] : offsets[row + 1]]
        sequence = codes[offsets[row] : offsets[row + 1]]
        _merge_by_rank(sequence, merges, tokens, links, heap)
        n_tokens[row] = _gather_linked(here, merges, tokens, links)


@_compile
def _merge_by_rank(sequence, merges, tokens, links, heap):  # type: ignore[no-untyped-def]
    """Leave each token at its first base, linked to the one before and the one after."""
    n = len(sequence)
    for i in range(n):
        tokens[i] = merges.base_tokens[sequence[i]]
        links[i, 0], links[i, 1] = i - 1, i + 1
    n_heap = 0
    for i in range(n - 1):
        n_heap = _propose(merges, tokens, i, i + 1, heap, n_heap)
    while n_heap:
        top = heap[0]
        n_heap = _pop(heap, n_heap)
        rank, i = top >> _POSITION_BITS, top & ((np.int64(1) << _POSITION_BITS) - 1)
        j = links[i, 1]
        if tokens[i] < 0 or j >= n or tokens[j] < 0:
            continue
        slot = _find(merges, tokens[i], tokens[j])
        if slot < 0 or merges.ranks[slot] != rank:
            continue  # one of the two was merged since
        tokens[i] = merges.products[slot]
        tokens[j] = _GONE
        after, before = links[j, 1], links[i, 0]
        links[i, 1] = after
        if after < n:
            links[after, 0] = i
            n_heap = _propose(merges, tokens, i, after, heap, n_heap)
        if before >= 0:
            n_heap = _propose(merges, tokens, before, i, heap, n_heap)


@_compile
def _propose(merges, tokens, i, j, heap, n_heap):  # type: ignore[no-untyped-def]
    """Put the pair at i and j on the heap, if it merges."""
    if tokens[i] < 0 or tokens[j] < 0:
        return n_heap
    slot = _find(merges, tokens[i], tokens[j])
    if slot < 0:
        return n_heap
    item = (np.int64(merges.ranks[slot]) << _POSITION_BITS) | np.int64(i)
    place = n_heap
    while place > 0 and heap[(place - 1) >> 1] > item:
        heap[place] = heap[(place - 1) >> 1]
        place = (place - 1) >> 1
    heap[place] = item
    return n_heap + 1


@_compile
def _pop(heap, n_heap):  # type: ignore[no-untyped-def]
    """Take the least item off; returns how many are left."""
    n_heap -= 1
    item = heap[n_heap]
    place = 0
    while 2 * place + 1 < n_heap:
        child = 2 * place + 1
        if child + 1 < n_heap and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= item:
            break
        heap[place] = heap[child]
        place = child
    heap[place] = item
    return n_heap


@_compile
def _gather_linked(found, merges, tokens, links):  # type: ignore[no-untyped-def]
    to = len(found)
    at = to - 1
    while at >= 0 and tokens[at] == _GONE:
        at -= 1
    fused = False
    while at >= 0:
        unknown = tokens[at] < 0
        if not (unknown and fused):
            to -= 1
            found[to] = merges.unknown if unknown else tokens[at]
        fused = unknown and merges.fuse
        at = links[at, 0]
    return len(found) - to


# ---- both --------------------------------------------------------------------------------------


@_compile
def write(codes, offsets, found, merges, lengths, to_offsets, to_tokens, to_spans):  # type: ignore[no-untyped-def]
    """Copy each sequence's tokens to their place, with the bases they cover."""
    for row in range(len(offsets) - 1):
        sequence = codes[offsets[row] : offsets[row + 1]]
        first, last = to_offsets[row], to_offsets[row + 1]
        source = offsets[row + 1] - (last - first)
        base = 0
        for i in range(last - first):
            token = found[source + i]
            end = base + lengths[token]
            if merges.fuse and token == merges.unknown:
                while end < len(sequence) and merges.base_tokens[sequence[end]] < 0:
                    end += 1
            to_tokens[first + i] = token
            to_spans[first + i, 0] = base
            to_spans[first + i, 1] = end
            base = end
