"""A merge list in order (see ``_bpe_order``) as a machine that reads a base at a time.

What has to be remembered of a prefix are the pieces that may still come to an end: those that began
at a place behind the token that ends there, match the bases since, and may follow that token. A set
of such pieces for each place is a state; from one base to the next the sets shrink, one piece is
whole and is the last token, and the pieces that may follow it make a new set. For 600 merges of a
genome that comes to about 1,000 states.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from . import _bpe_kernels as kernels
from ._bpe_order import LETTERS, NEVER, Ranks, Splits, edge

_MOST_STATES = 1 << 16
_MOST_PIECES = 1 << 14  # the table of neighbours takes the square of it in bytes, for a moment
_MOST_BASES = 1 << 18  # of all pieces: about as many states as different beginnings

_State = tuple[tuple[int, int], ...]  # bases since a place, and a bit for each piece that may end
_Places = dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]]


def make_machine(
    splits: Splits, ranks: Ranks, ids: Mapping[str, int], unknown: int
) -> kernels.Machine | None:
    """The machine, or ``None`` where it would be too large."""
    if len(splits) > _MOST_PIECES or sum(map(len, splits)) > _MOST_BASES:
        return None
    return _build(list(splits), _followers(splits, ranks), ids, unknown)


def _followers(splits: Splits, ranks: Ranks) -> list[int]:
    """For each piece, by its place in ``splits``, the pieces that may follow it: a bit for each.

    From the merges: each forbids the pieces at whose right edge
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


def _all_edges(splits: Splits, side: int) -> _Places:
    """By what stands at the edge: the pieces it stands in, and the rank that takes it up."""
    found: dict[str, list[tuple[int, int]]] = {}
    for place, piece in enumerate(splits):
        for inner, until in edge(piece, NEVER, side, splits):
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
