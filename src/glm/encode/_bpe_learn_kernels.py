"""The compiled part of learning byte pairs: one pass over the text a merge, in place.

Tokens are numbered for this alone: 0 is a border (an end, a base that is not known), 1 to 4 are A,
C, G, T, then one a merge. Pairs with a border are counted like others and never chosen.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

_compile = numba.njit(cache=True, nogil=True, error_model="numpy")

_BLOCK = 128  # tokens looked at together


class Counts(NamedTuple):
    """How often each pair stands in the text, and the best partner of each left token."""

    pairs: NDArray[np.int64]  # left × right
    best: NDArray[np.int64]  # by left: the most frequent right one, the smallest of several
    stale: NDArray[np.bool_]  # by left: its best is to be looked for again


@_compile
def place_borders(codes, offsets, to_tokens):  # type: ignore[no-untyped-def]
    """Bases as tokens, with one border between stretches; returns how many there are."""
    n = 0
    to_tokens[0] = 0
    for row in range(len(offsets) - 1):
        for i in range(offsets[row], offsets[row + 1]):
            code = codes[i]
            if code < 4:
                n += 1
                to_tokens[n] = code + 1
            elif to_tokens[n]:
                n += 1
                to_tokens[n] = 0
        if to_tokens[n]:
            n += 1
            to_tokens[n] = 0
    return n + 1


@_compile
def widen(tokens, wide):  # type: ignore[no-untyped-def]
    """Copy from the last one back: ``wide`` begins where ``tokens`` begins, in the same memory."""
    for i in range(len(tokens) - 1, -1, -1):
        wide[i] = tokens[i]


@_compile
def count_pairs(tokens, pairs):  # type: ignore[no-untyped-def]
    """Count all neighbours; of AAAA the pair AA three times."""
    for i in range(len(tokens) - 1):
        pairs[tokens[i], tokens[i + 1]] += 1


@_compile
def choose_pair(counts, n_tokens):  # type: ignore[no-untyped-def]
    """The most frequent pair; of several the one of the smallest left, then right token."""
    most = best_left = best_right = np.int64(-1)
    for left in range(1, n_tokens):
        if counts.stale[left]:
            row = counts.pairs[left]
            best = np.int64(1)
            for right in range(2, n_tokens):
                if row[right] > row[best]:
                    best = np.int64(right)
            counts.best[left] = best
            counts.stale[left] = False
        right = counts.best[left]
        if counts.pairs[left, right] > most:
            most, best_left, best_right = counts.pairs[left, right], np.int64(left), right
    return best_left, best_right, most


@_compile
def merge_pair(tokens, left, right, new, counts):  # type: ignore[no-untyped-def]
    """Merge a pair everywhere, from the left on, and keep the counts; returns how many stay."""
    left, right, new = tokens.dtype.type(left), tokens.dtype.type(right), tokens.dtype.type(new)
    room = np.empty(_BLOCK, tokens.dtype)
    last = len(tokens) - 1  # a border, as is the first
    to = at = 0
    while at < last:
        if at + _BLOCK <= last and not _holds(tokens[at : at + _BLOCK + 1], left, right):
            if to != at:
                _move(tokens[at : at + _BLOCK], room, tokens[to : to + _BLOCK])
            at += _BLOCK
            to += _BLOCK
            continue
        stop = min(at + _BLOCK, last)
        while at < stop:
            if tokens[at] == left and tokens[at + 1] == right:
                _recount(tokens[to - 1], left, right, tokens[at + 2], new, counts)
                tokens[to] = new
                at += 2
            else:
                tokens[to] = tokens[at]
                at += 1
            to += 1
    tokens[to] = 0
    _settle(left, right, new, counts)
    return to + 1


@_compile
def _holds(block, left, right):  # type: ignore[no-untyped-def]
    found = np.uint8(0)
    first, second = block[:_BLOCK], block[1 : _BLOCK + 1]
    for i in range(_BLOCK):
        found |= np.uint8((first[i] == left) & (second[i] == right))
    return found != 0


@_compile
def _move(source, room, goal):  # type: ignore[no-untyped-def]
    """By way of ``room``, since source and goal overlap."""
    for i in range(_BLOCK):
        room[i] = source[i]
    for i in range(_BLOCK):
        goal[i] = room[i]


@_compile
def _recount(before, left, right, after, new, counts):  # type: ignore[no-untyped-def]
    """before-left-right-after becomes before-new-after."""
    pairs = counts.pairs
    pairs[before, left] -= 1
    pairs[before, new] += 1
    pairs[right, after] -= 1
    pairs[new, after] += 1
    if counts.best[before] == left:
        counts.stale[before] = True
    if counts.best[right] == after:
        counts.stale[right] = True


@_compile
def _settle(left, right, new, counts):  # type: ignore[no-untyped-def]
    """None of the pair is left; the new token may be the best partner of any."""
    counts.pairs[left, right] = 0
    counts.stale[left] = True
    counts.stale[new] = True
    for token in range(1, new):
        if counts.pairs[token, new] > counts.pairs[token, counts.best[token]]:
            counts.best[token] = new  # if it is stale, it is looked for again anyway
