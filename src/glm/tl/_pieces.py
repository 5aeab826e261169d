"""Sentences longer than a model's context, cut into overlapping pieces and read out once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Pieces(NamedTuple):
    """Pieces of sentences, one after the other; tokens count from 0 in each sentence.

    Attributes
    ----------
    sentence
        int64, which sentence each is of.
    start, length
        int64, its first token, and how many it has.
    own
        int64, pieces × 2: the tokens (half-open) that are read out of it, and out of no other.
    """

    sentence: NDArray[np.int64]
    start: NDArray[np.int64]
    length: NDArray[np.int64]
    own: NDArray[np.int64]


def n_pieces(n_tokens: NDArray[np.int64], longest: int) -> NDArray[np.int64]:
    """int64, pieces of each sentence: none of one without tokens."""
    beyond = np.maximum(n_tokens - longest, 0)
    return np.where(n_tokens > 0, 1 - (-beyond // max(longest // 2, 1)), 0)


def cut(n_tokens: NDArray[np.int64], longest: int) -> Pieces:
    """Cut sentences of so many tokens into pieces of at most ``longest``.

    One that fits is one piece. Of a longer one all pieces have ``longest`` tokens, are spread
    evenly, and overlap the next by at least half. A token is read out of the piece in which it
    stands nearest to the middle: there it has most context on its poorer side, at least a quarter
    of a piece wherever a piece was cut.
    """
    number = n_pieces(n_tokens, longest)
    sentence = np.repeat(np.arange(n_tokens.size), number)
    first = np.repeat(np.cumsum(number) - number, number)
    index = np.arange(sentence.size) - first
    whole, count = n_tokens[sentence], number[sentence]
    start = index * np.maximum(whole - longest, 0) // np.maximum(count - 1, 1)
    length = np.minimum(whole, longest)
    # Half-way between the middles of two neighbours: where one has as much context as the other.
    low, high = np.zeros_like(start), whole.copy()
    low[1:] = (start[:-1] + start[1:] + longest) // 2
    high[:-1] = low[1:]
    is_first, is_last = index == 0, index == count - 1
    low[is_first], high[is_last] = 0, whole[is_last]
    return Pieces(sentence, start, length, np.stack([low, high], axis=1))
