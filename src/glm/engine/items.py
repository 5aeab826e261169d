"""Items: token sentences with the row they belong to, and their division into batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Items:
    """A block of sentences, end to end in one array.

    A row of the user's object may be one item (a cell) or several (pieces of a region, strands,
    alleles); ``row`` and ``part`` say which, a reducer gathers them.

    Attributes
    ----------
    row
        int64, one an item: row of the user's object.
    part
        int32, one an item: which part of its row.
    tokens
        int32, all sentences end to end.
    offsets
        int64, items + 1: where each sentence starts.
    span
        int32, items × 2: half-open positions inside the sentence that carry content (what pooling
        reads; special tokens lie outside).
    weight
        float32, one an item: its weight within its row.
    """

    row: np.ndarray
    part: np.ndarray
    tokens: np.ndarray
    offsets: np.ndarray
    span: np.ndarray
    weight: np.ndarray

    def __len__(self) -> int:
        return int(self.row.size)

    @property
    def lengths(self) -> np.ndarray:
        """int64, tokens of each item."""
        return np.diff(self.offsets)

    @classmethod
    def one_a_row(
        cls, rows: np.ndarray, tokens: np.ndarray, offsets: np.ndarray, span: np.ndarray
    ) -> Items:
        """Items of rows that are one item each."""
        n = rows.size
        return cls(
            row=rows.astype(np.int64),
            part=np.zeros(n, np.int32),
            tokens=tokens,
            offsets=offsets,
            span=span,
            weight=np.ones(n, np.float32),
        )

    def take(self, chosen: np.ndarray) -> Items:
        """The items at ``chosen``, in that order, their tokens gathered."""
        lengths = self.lengths[chosen]
        offsets = np.zeros(chosen.size + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        # Position of every wanted token: the start of its sentence plus its place inside it.
        inside = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
        source = np.repeat(self.offsets[chosen], lengths) + inside
        return Items(
            row=self.row[chosen],
            part=self.part[chosen],
            tokens=self.tokens[source],
            offsets=offsets,
            span=self.span[chosen],
            weight=self.weight[chosen],
        )


def longest_first(items: Items) -> np.ndarray:
    """The order in which a block is run: equal lengths stay as they come.

    Longest first, so that the largest need of memory shows at once.
    """
    return np.argsort(-items.lengths, kind="stable")


def batch_end(ends: np.ndarray, start: int, budget: int) -> int:
    """End of the batch that begins at ``start``: within the budget, and at least one item.

    ``ends`` are the summed lengths, in the order of the run.
    """
    before = int(ends[start - 1]) if start else 0
    return max(int(np.searchsorted(ends, before + budget, side="right")), start + 1)


def batches(items: Items, budget: int) -> Iterator[Items]:
    """Divide items, longest first, into batches of at most ``budget`` tokens, or one item."""
    order = longest_first(items)
    ends = np.cumsum(items.lengths[order])
    start = 0
    while start < order.size:
        stop = batch_end(ends, start, budget)
        yield items.take(order[start:stop])
        start = stop
