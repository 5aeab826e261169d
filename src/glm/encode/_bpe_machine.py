"""A merge list as a machine that reads a base at a time.

It is made for merge lists **in order**: no merge makes a piece that an earlier merge already joins,
so that merging by rank is the same as one pass over the text a merge. All lists that were learnt
from text are so. Then

- a place that no token lies across divides the text into parts that merge alone;
- so tokens stand rightly beside each other if no merge over their border comes before both are
  whole, and a row of tokens is the right one if and only if all neighbours stand so;
- so every prefix of a text has a last token, and exactly one piece that ends at its last base may
  stand beside the last token of the bases before that piece.

What has to be remembered of a prefix are the pieces that may still come to an end: those that began
at a place behind the token that ends there, match the bases since, and may follow that token. A set
of such pieces for each place is a state; from one base to the next the sets shrink, one piece is
whole and is the last token, and the pieces that may follow it make a new set. For GROVER's 600
merges that comes to about 2,000 states.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from . import _bpe_kernels as kernels

LETTERS = "ACGTN"
"""By code. N has a piece in few vocabularies."""

_MOST_STATES = 1 << 16
_MOST_PIECES = 1 << 14  # the table of neighbours takes the square of it in bytes, for a moment
_MOST_BASES = 1 << 17  # of all pieces: about as many states as different beginnings
_NEVER = np.iinfo(np.int32).max

_State = tuple[tuple[int, int], ...]  # bases since a place, and a bit for each piece that may end


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


def make_machine(
    merges: Sequence[tuple[str, str]], ids: Mapping[str, int], unknown: int
) -> kernels.Machine | None:
    """The machine of a list in order; ``None`` for other lists, or where it would be too large."""
    # Of a pair that is listed twice, the later place counts.
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    splits = _splits(ranks, ids)
    if splits is None or len(splits) > _MOST_PIECES or sum(map(len, splits)) > _MOST_BASES:
        return None
    return _build(list(splits), _followers(splits, ranks), ids, unknown)


_Splits = dict[str, tuple[str, str, int] | None]
_Edge = list[tuple[str, int]]


def _splits(ranks: Mapping[tuple[str, str], int], ids: Mapping[str, int]) -> _Splits | None:
    """The pieces that bases can become, and of each the last merge; ``None`` if not in order."""
    found: _Splits = dict.fromkeys(letter for letter in LETTERS if letter in ids)
    joined: set[str] = set()
    for left, right in sorted(ranks, key=ranks.__getitem__):
        joined |= {left, right}
        whole = left + right
        if whole in joined:
            return None
        rank = ranks[left, right]
        if left in found and right in found and whole not in found:
            ends, begins = _edge(left, rank, 1, found), _edge(right, rank, 0, found)
            if not _clash(ends, begins, ranks):  # else its bases become something else
                found[whole] = (left, right, rank)
    return found


def _edge(piece: str, until: int, side: int, splits: _Splits) -> _Edge:
    """What stands at one edge of a piece while it is made, from the end of it back.

    Each with the rank of the merge that takes it up, ``until`` for the piece itself.
    """
    edge = [(piece, until)]
    while (split := splits[piece]) is not None:
        piece = split[1] if side else split[0]
        edge.append((piece, split[2]))
    return edge


def _clash(ends: _Edge, begins: _Edge, ranks: Mapping[tuple[str, str], int]) -> bool:
    """Whether a merge over the border of two pieces comes before both are whole.

    In one pass the left pair is merged first: among merges of one rank it is the left piece's own
    that comes before the one over the border, and that one before the right piece's own.
    """
    return any(
        ranks.get((left, right), _NEVER) < left_until
        and ranks.get((left, right), _NEVER) <= right_until
        for left, left_until in ends
        for right, right_until in begins
    )


def _followers(splits: _Splits, ranks: Mapping[tuple[str, str], int]) -> list[int]:
    """For each piece, by its place in ``splits``, the pieces that may follow it: a bit for each.

    :func:`_clash` of all pairs, found from the merges: each forbids the pieces at whose right edge
    its left part stands until then to stand before those that begin with its right part.
    """
    ends, begins = _all_edges(splits, 1), _all_edges(splits, 0)
    clash = np.zeros((len(splits), len(splits)), np.bool_)
    for (left, right), rank in ranks.items():
        if left in ends and right in begins:
            before, before_until = ends[left]
            after, after_until = begins[right]
            clash[before[rank < before_until, None], after[rank <= after_until]] = True
    packed = np.packbits(~clash, axis=1, bitorder="little")
    return [int.from_bytes(row.tobytes(), "little") for row in packed]


_Places = dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]]


def _all_edges(splits: _Splits, side: int) -> _Places:
    """By what stands at the edge: the pieces it stands in, and the rank that takes it up."""
    found: dict[str, list[tuple[int, int]]] = {}
    for place, piece in enumerate(splits):
        for inner, until in _edge(piece, _NEVER, side, splits):
            found.setdefault(inner, []).append((place, until))
    arrays = {inner: np.array(rows, np.int64) for inner, rows in found.items()}
    return {inner: (rows[:, 0], rows[:, 1]) for inner, rows in arrays.items()}


def _build(
    pieces: list[str], followers: list[int], ids: Mapping[str, int], unknown: int
) -> kernels.Machine | None:
    """All states that can be reached, each with its step for every base."""
    whole, matching = _masks(pieces)
    start: _State = ((0, (1 << len(pieces)) - 1),)
    numbers = {start: 0}
    states: list[list[int]] = []
    tokens: list[list[int]] = []
    for state in (waiting := [start]):
        row = [(0, unknown)] * 8
        for code, letter in enumerate(LETTERS):
            if letter not in ids:
                continue
            after, piece = _step(state, code, whole, matching)
            after = (*after, (0, followers[piece]))
            if after not in numbers:
                numbers[after] = len(numbers)
                waiting.append(after)
            row[code] = numbers[after], ids[pieces[piece]]
        if len(numbers) > _MOST_STATES:
            return None
        states.append([number for number, _ in row])
        tokens.append([token for _, token in row])
    return kernels.Machine(np.array(states, np.uint16).ravel(), np.array(tokens, np.uint16).ravel())


def _masks(pieces: list[str]) -> tuple[list[int], list[list[int]]]:
    """Pieces by their length, and by their base at each place."""
    longest = max(map(len, pieces))
    whole = [0] * (longest + 1)
    matching = [[0] * len(LETTERS) for _ in range(longest)]
    for bit, piece in enumerate(pieces):
        whole[len(piece)] |= 1 << bit
        for place, letter in enumerate(piece):
            matching[place][LETTERS.index(letter)] |= 1 << bit
    return whole, matching


def _step(
    state: _State, code: int, whole: list[int], matching: list[list[int]]
) -> tuple[_State, int]:
    """The sets after one more base, and the one piece that is whole with it."""
    after = []
    ended = 0
    for bases, pieces in state:
        left = pieces & matching[bases][code]
        done = left & whole[bases + 1]
        ended |= done
        if left != done:
            after.append((bases + 1, left ^ done))
    if ended.bit_count() != 1:
        raise RuntimeError(f"{ended.bit_count()} pieces end at once: the merges are not in order.")
    return tuple(after), ended.bit_length() - 1
