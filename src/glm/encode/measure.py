"""How much each cell and each gene holds: one pass over the values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._scan import measure_rows
from .counts import iter_blocks


@dataclass(frozen=True, eq=False)
class Measures:
    """What the values above zero add up to; what is negative or not finite is left out.

    Attributes
    ----------
    n_counts
        float64, one a row: their sum.
    n_genes
        int32, one a row: the columns they are in.
    n_counts_known, n_genes_known
        The same over columns of known genes; columns that share a gene count once. For whole counts
        ``n_genes_known`` is the number of genes that are ranked.
    column_counts
        float64, one a column: their sum.
    """

    n_counts: NDArray[np.float64]
    n_genes: NDArray[np.int32]
    n_counts_known: NDArray[np.float64]
    n_genes_known: NDArray[np.int32]
    column_counts: NDArray[np.float64]

    @property
    def share_known(self) -> float:
        """Share of everything that is on known genes, 1 where there is nothing."""
        total = float(self.n_counts.sum())
        return float(self.n_counts_known.sum()) / total if total else 1.0


def measure(matrix: Any, target: NDArray[np.integer], *, undo_log: bool = False) -> Measures:
    """Sum and count the values above zero of each row and each column.

    Parameters
    ----------
    matrix
        Anything :func:`iter_blocks` reads.
    target
        The column at which each column's gene is gathered, -1 where its gene is not known, as for
        :class:`Ranker`.
    undo_log
        Take ``expm1`` of every value first.

    Examples
    --------
    >>> import numpy as np
    >>> found = measure(np.array([[3.0, 1.0, 0.0], [0.0, 0.0, 4.0]]), np.array([0, 0, -1]))
    >>> found.n_counts.tolist(), found.n_genes_known.tolist(), found.share_known
    ([4.0, 4.0], [1, 0], 0.5)
    """
    n_rows, n_columns = matrix.shape
    target = np.asarray(target, dtype=np.int64)
    per_row = np.zeros((n_rows, 4))
    per_column = np.zeros(n_columns)
    for start, block in iter_blocks(matrix):
        seen = np.full(n_columns, -1, np.int64)
        rows = per_row[start : start + block.shape[0]]
        parts = (block.data, block.indices, block.indptr)
        measure_rows(*parts, target, undo_log, rows, seen, per_column)
    return Measures(
        n_counts=per_row[:, 0].copy(),
        n_genes=per_row[:, 1].astype(np.int32),
        n_counts_known=per_row[:, 2].copy(),
        n_genes_known=per_row[:, 3].astype(np.int32),
        column_counts=per_column,
    )
