"""Plain counts of the training text that say which bases are likely between known ones.

Smoothed counts lean on the next shorter context, down to no context at all: with ``n`` cases seen
of a context, (count + strength × what the shorter one says) / (n + strength). Both strands are
counted.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from glm.bases import N, reverse_complement

SPAN = 6
"""Bases of the longer hidden spans."""


def both_strands(codes: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """All stretches and their other strands end to end, an unknown base after each."""
    ends = np.asarray(offsets[1:])
    forward = np.insert(codes, ends, N)
    return np.concatenate([forward, reverse_complement(forward)])


def counts_between(codes: np.ndarray, around: np.ndarray) -> list[np.ndarray]:
    """For k = 0, 1, ...: how often each base stands between the k bases on both sides of a place.

    ``codes`` is the text, both strands; ``around`` uint8, places × (2 k + 1) for the largest k, the
    middle one not looked at. Each is int64, places × 4.
    """
    return [_counts_between(codes, around, k) for k in range(around.shape[1] // 2 + 1)]


def plain(counts: list[np.ndarray], k: int, alpha: float) -> np.ndarray:
    """The two-sided model of order k: counts with ``alpha`` added, as shares; places × 4."""
    return (counts[k] + alpha) / (counts[k].sum(axis=1, keepdims=True) + 4 * alpha)


def smoothed(counts: list[np.ndarray], k: int, strength: float) -> np.ndarray:
    """The same with each order smoothed by the next lower one; places × 4."""
    likely = np.full((len(counts[0]), 4), 0.25)
    for count in counts[: k + 1]:
        likely = (count + strength * likely) / (count.sum(axis=1, keepdims=True) + strength)
    return likely


def _counts_between(codes: np.ndarray, around: np.ndarray, k: int) -> np.ndarray:
    """int64, places × 4: how often each base stands between the k bases on both sides."""
    middle = around.shape[1] // 2
    sides = [*range(middle - k, middle), *range(middle + 1, middle + k + 1)]
    wanted, place = np.unique(number_of(around[:, sides].T, len(around)), return_inverse=True)
    n = codes.size - 2 * k
    keys = number_of([codes[i : i + n] for i in range(2 * k + 1) if i != k], n)
    known = np.convolve(codes == N, np.ones(2 * k + 1, np.int64), "valid") == 0
    index = np.minimum(np.searchsorted(wanted, keys), wanted.size - 1)
    seen = known & (wanted[index] == keys)
    pairs = index[seen] * 4 + codes[k : k + n][seen]
    table = np.bincount(pairs, minlength=4 * wanted.size).reshape(-1, 4)
    return table[place.ravel()]


def number_of(bases: Sequence[np.ndarray] | np.ndarray, n: int) -> np.ndarray:
    """int64: bases, one array for each place, read as a number to the base of 4."""
    number = np.zeros(n, np.int64)
    for base in bases:
        number = number << 2 | (base & 3)
    return number


class Chain:
    """Markov chains of order 0 to ``most``: the next base given those before it."""

    def __init__(self, codes: np.ndarray, most: int, strength: float) -> None:
        table = np.full((1, 4), 0.25)
        self._logs = []
        for order in range(most + 1):
            n = codes.size - order
            keys = number_of([codes[i : i + n] for i in range(order + 1)], n)
            known = np.convolve(codes == N, np.ones(order + 1, np.int64), "valid") == 0
            count = np.bincount(keys[known], minlength=4 ** (order + 1)).reshape(-1, 4)
            shorter = np.tile(table, (4 if order else 1, 1))  # the farthest base leads the number
            table = (count + strength * shorter) / (count.sum(1, keepdims=True) + strength)
            self._logs.append(np.log(table))

    def span_bits(self, around: np.ndarray, k: int, *, block: int = 64) -> np.ndarray:
        """Bits of hidden spans given k known bases on both sides.

        The chain runs through every possible span into the bases behind it; what the true one has
        of the sum is its probability.

        Parameters
        ----------
        around
            uint8, places × (k + ``SPAN`` + k).
        k
            Order of the chain.

        Returns
        -------
        float64, one a place: bits of the whole span.
        """
        log = self._logs[k]
        spans = np.arange(4**SPAN)
        letters = np.stack([spans >> 2 * (SPAN - 1 - i) & 3 for i in range(SPAN)])
        truth = number_of(around[:, k : k + SPAN].T, len(around))
        bits = np.empty(len(around))
        for first in range(0, len(around), block):
            rows = around[first : first + block].astype(np.int64)
            context = np.repeat(number_of(rows[:, :k].T, len(rows))[:, None], spans.size, axis=1)
            total = np.zeros(context.shape)
            for i in range(SPAN + k):
                inside = i < SPAN
                base = letters[i][None, :] if inside else rows[:, k + i][:, None]
                total += log[context, base]
                context = (context << 2 | base) & (4**k - 1)
            total -= np.logaddexp.reduce(total, axis=1)[:, None]
            mine = truth[first : first + block]
            bits[first : first + block] = -total[np.arange(len(rows)), mine] / np.log(2)
        return bits
