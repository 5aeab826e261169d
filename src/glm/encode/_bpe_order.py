"""What merge lists in order have over others, and the lists as tables.

A list is **in order** if no merge makes a piece that an earlier merge already joins; so merging by
rank is the same as one pass over the text a merge. All lists that were learnt from text are so.
Then

- a place that no token lies across divides the text into parts that merge alone;
- so tokens stand rightly beside each other if no merge over their border comes before both are
  whole, and a row of tokens is the right one if and only if all neighbours stand so;
- so every prefix of a text has a last token, and exactly one piece that ends at its last base may
  stand beside the last token of the bases before that piece.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from . import _bpe_kernels as kernels

LETTERS = "ACGTN"
"""By code. N has a piece in few vocabularies."""

NEVER = np.iinfo(np.int32).max
"""A rank beyond all."""

Ranks = dict[tuple[str, str], int]
Splits = dict[str, tuple[str, str, int] | None]
"""Pieces that bases can become, and the last merge of each with its rank; ``None`` of a base."""

_Edge = list[tuple[str, int]]


def make_merges(
    merges: Sequence[tuple[str, str]], ids: Mapping[str, int], unknown: int, *, fuse: bool
) -> kernels.Merges:
    """The list as a hash table."""
    size = 16
    while size < 2 * len(merges):
        size *= 2
    pairs = np.full(size, -1, np.int64)
    ranks, products = np.zeros(size, np.int32), np.zeros(size, np.int32)
    new_pairs = np.array([(ids[a] << 32) | ids[b] for a, b in merges], np.int64)
    new_products = np.array([ids[a + b] for a, b in merges], np.int32)
    kernels.fill_table(pairs, ranks, products, new_pairs, new_products)
    bases = np.array([ids.get(letter, -1) for letter in LETTERS], np.int32)
    return kernels.Merges(pairs, ranks, products, bases, np.int32(unknown), np.bool_(fuse))


def rank_pairs(merges: Sequence[tuple[str, str]]) -> Ranks:
    """Ranks by pair; of a pair that is listed twice, the later place counts."""
    return {pair: rank for rank, pair in enumerate(merges)}


def split_pieces(ranks: Ranks, ids: Mapping[str, int]) -> Splits | None:
    """The pieces that bases can become, and of each the last merge; ``None`` if not in order."""
    found: Splits = dict.fromkeys(letter for letter in LETTERS if letter in ids)
    joined: set[str] = set()
    for left, right in sorted(ranks, key=ranks.__getitem__):
        joined |= {left, right}
        whole = left + right
        if whole in joined:
            return None
        rank = ranks[left, right]
        if left in found and right in found and whole not in found:
            ends, begins = edge(left, rank, 1, found), edge(right, rank, 0, found)
            if not _clash(ends, begins, ranks):  # else its bases become something else
                found[whole] = (left, right, rank)
    return found


def edge(piece: str, until: int, side: int, splits: Splits) -> _Edge:
    """What stands at one edge of a piece while it is made, from the end of it back.

    Each with the rank of the merge that takes it up, ``until`` for the piece itself.
    """
    found = [(piece, until)]
    while (split := splits[piece]) is not None:
        piece = split[1] if side else split[0]
        found.append((piece, split[2]))
    return found


def _clash(ends: _Edge, begins: _Edge, ranks: Ranks) -> bool:
    """Whether a merge over the border of two pieces comes before both are whole.

    In one pass the left pair is merged first: among merges of one rank it is the left piece's own
    that comes before the one over the border, and that one before the right piece's own.
    """
    return any(
        ranks.get((left, right), NEVER) < left_until
        and ranks.get((left, right), NEVER) <= right_until
        for left, left_until in ends
        for right, right_until in begins
    )
