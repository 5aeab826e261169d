"""Sentences of checked counts, in blocks any of which can be made again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..cells import Counts
from ..encode.rows import RowReader, fingerprint

if TYPE_CHECKING:
    from ..engine import Items
    from ..models.vocabulary import GeneVocabulary

# Rows of a block: about so many stored values, so that it stays small in memory, ...
_BLOCK_VALUES = 2_000_000
_MOST_ROWS = 4096
# ... and about so many blocks, for several devices to share, unless they get too small for a batch.
_BLOCKS = 32
_LEAST_ROWS = 256


class CellSource:
    """The sentences of cells, in blocks of rows that depend on the counts alone.

    One item a cell; cells without a known gene have none. Holds one block at a time (of dask arrays
    and chunked files one chunk as well).

    Parameters
    ----------
    counts
        The checked counts.
    """

    unit = "cells"

    def __init__(self, counts: Counts) -> None:
        self.n_rows = counts.n_cells
        self._counts = counts
        self._lengths = sentence_lengths(counts)
        self._reader: RowReader | None = None
        self._ranker = counts.ranker()
        self._tokens = counts.column_tokens
        self.rows_per_block = rows_per_block(counts)

    def __reduce__(self) -> tuple[type[CellSource], tuple[Counts]]:
        # Another process opens the file of the counts for itself.
        return CellSource, (self._counts,)

    @property
    def n_usable(self) -> int:
        """Cells that have a sentence."""
        return int(np.count_nonzero(self._lengths))

    @property
    def n_truncated(self) -> int:
        """Cells with more known genes than the model reads."""
        n_genes = self._counts.measures.n_genes_known
        return int((n_genes > self._counts.vocabulary.n_genes_read).sum())

    @property
    def n_blocks(self) -> int:
        """How many blocks there are."""
        return -(-self._counts.n_cells // self.rows_per_block)

    def n_items(self, block: int) -> int:
        """Cells of a block that have a sentence."""
        return int(self.lengths(block).size)

    def lengths(self, block: int) -> np.ndarray:
        """int64, tokens of each sentence of a block."""
        start = block * self.rows_per_block
        lengths = self._lengths[start : start + self.rows_per_block]
        return lengths[lengths > 0]

    def block(self, block: int) -> Items:
        """The sentences of a block."""
        if self._reader is None:
            self._reader = RowReader(self._counts.matrix)
        vocabulary = self._counts.vocabulary
        start = block * self.rows_per_block
        stop = min(start + self.rows_per_block, self._counts.n_cells)
        columns, offsets, n_ranked = self._ranker.sentences(
            self._reader.rows(start, stop), limit=vocabulary.n_genes_read
        )
        used = np.flatnonzero(n_ranked > 0)
        return _items(start + used, self._tokens[columns], np.diff(offsets)[used], vocabulary)

    def facts(self) -> dict[str, Any]:
        """Everything of the counts that decides a result; reads them all once."""
        counts = self._counts
        return {
            "n_cells": counts.n_cells,
            "n_columns": int(counts.matrix.shape[1]),
            "rows_per_block": self.rows_per_block,
            "log_normalized": counts.log_normalized,
            "genes": hashlib.sha256(counts.genes.position.tobytes()).hexdigest(),
            "counts": fingerprint(counts.matrix),
        }


def cell_items(counts: Counts, n_ranked: np.ndarray) -> Iterator[Items]:
    """Sentences of all cells that have one, block by block; fills in the genes ranked a cell."""
    n_ranked[:] = counts.measures.n_genes_known
    source = CellSource(counts)
    yield from map(source.block, range(source.n_blocks))


def sentence_lengths(counts: Counts) -> np.ndarray:
    """int64, tokens of each cell's sentence as the model reads it; 0 where it has none."""
    vocabulary = counts.vocabulary
    n_genes = np.minimum(counts.measures.n_genes_known, vocabulary.n_genes_read).astype(np.int64)
    return np.where(n_genes > 0, n_genes + (2 if "cls" in vocabulary.special else 0), 0)


def rows_per_block(counts: Counts) -> int:
    """Rows of a block, from the number of cells and the values above zero."""
    n_values = max(int(counts.measures.n_genes.sum(dtype=np.int64)), 1)
    by_values = _BLOCK_VALUES * counts.n_cells // n_values
    by_number = max(-(-counts.n_cells // _BLOCKS), _LEAST_ROWS)
    return max(min(by_values, by_number, _MOST_ROWS), 1)


def frame(
    sentences: np.ndarray, lengths: np.ndarray, first: int, last: int
) -> tuple[np.ndarray, np.ndarray]:
    """Put ``first`` before and ``last`` after every sentence of a packed array."""
    framed = np.empty(sentences.size + 2 * lengths.size, dtype=sentences.dtype)
    ends = np.cumsum(lengths + 2)
    inside = np.ones(framed.size, dtype=bool)
    inside[ends - 1] = inside[ends - lengths - 2] = False
    framed[ends - lengths - 2] = first
    framed[ends - 1] = last
    framed[inside] = sentences
    return framed, lengths + 2


def _items(
    rows: np.ndarray, sentences: np.ndarray, lengths: np.ndarray, vocabulary: GeneVocabulary
) -> Items:
    from ..engine import Items

    special, inner = vocabulary.special, 0
    if "cls" in special:
        sentences, lengths = frame(sentences, lengths, special["cls"], special["eos"])
        inner = 1
    ends = np.concatenate([[0], np.cumsum(lengths)])
    span = np.stack([np.full(rows.size, inner), lengths - inner], axis=1).astype(np.int32)
    return Items.one_a_row(rows, sentences, ends, span)
