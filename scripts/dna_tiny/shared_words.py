"""Words of 40 bases that two sets of sequences share, on either strand: found exactly.

A word of 40 bases is 80 bits. Its key is the smaller of the word and its reverse complement, in two
parts: the first 32 bases (64 bits) and the last 8 (16 bits). The first part is replaced by its
place among the first parts of the words looked for, so that one whole number stands for one word
and nothing rests on a hash.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from glm.bases import N, reverse_complement

WORD = 40
_FIRST, _LAST = 32, 8
_BLOCK = 1 << 21


class WordSet:
    """All words of some sequences, and of their other strand."""

    def __init__(self, codes: np.ndarray) -> None:
        """Take codes end to end; an unknown base (4) belongs to no word and parts sequences."""
        parts = [keys for _, *keys in _blocks(codes)]
        first = np.concatenate([a for a, _ in parts] or [np.empty(0, np.uint64)])
        last = np.concatenate([b for _, b in parts] or [np.empty(0, np.uint16)])
        self._firsts, place = np.unique(first, return_inverse=True)
        self._words = np.unique(place.astype(np.uint64) << np.uint64(16) | last)

    def __len__(self) -> int:
        return self._words.size

    def shared(self, codes: np.ndarray) -> np.ndarray:
        """bool, one a base: where a word of these codes starts that is in the set."""
        found = np.zeros(codes.size, bool)
        for starts, first, last in _blocks(codes):
            is_in, place = _look_up(self._firsts, first)
            word = place[is_in].astype(np.uint64) << np.uint64(16) | last[is_in]
            found[starts[is_in][_look_up(self._words, word)[0]]] = True
        return found

    def covered(self, codes: np.ndarray) -> np.ndarray:
        """bool, one a base: whether a word that is in the set covers it."""
        edges = np.zeros(codes.size + WORD + 1, np.int64)
        starts = np.flatnonzero(self.shared(codes))
        edges[starts] += 1
        edges[starts + WORD] -= 1
        return np.cumsum(edges)[: codes.size] > 0


def _look_up(among: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether each value is among sorted ones, and its place there.

    The values are sorted first: then the search walks through memory instead of jumping about.
    """
    if not among.size:
        return np.zeros(values.size, bool), np.zeros(values.size, np.int64)
    order = np.argsort(values)
    place = np.empty(values.size, np.int64)
    place[order] = np.minimum(np.searchsorted(among, values[order]), among.size - 1)
    return among[place] == values, place


def _blocks(codes: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Starts of the words without an unknown base, and the two parts of their keys."""
    for begin in range(0, max(codes.size - WORD + 1, 0), _BLOCK):
        part = codes[begin : begin + _BLOCK + WORD - 1]
        unknown = np.concatenate([[0], np.cumsum(part == N)])
        known = np.flatnonzero(unknown[WORD:] == unknown[:-WORD])
        if known.size:
            yield begin + known, *(key[known] for key in _keys(part))


def _keys(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last part of the smaller of each word and its reverse complement."""
    first, last = _parts(codes)
    other_first, other_last = (part[::-1] for part in _parts(reverse_complement(codes)))
    smaller = (other_first < first) | ((other_first == first) & (other_last < last))
    return np.where(smaller, other_first, first), np.where(smaller, other_last, last)


def _parts(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two parts of every word as it stands; those with unknown bases are meaningless."""
    n = codes.size - WORD + 1
    packed = codes.astype(np.uint64) & np.uint64(3)
    for length in (1, 2, 4):  # words of 2, 4 and 8 bases, each made of two halves
        packed = packed[:-length] << np.uint64(2 * length) | packed[length:]
    last = packed[_FIRST : _FIRST + n].astype(np.uint16)
    for length in (8, 16):
        packed = packed[:-length] << np.uint64(2 * length) | packed[length:]
    return packed[:n], last
