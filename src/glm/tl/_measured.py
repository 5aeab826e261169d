"""What was measured of genes: means over cells of counts, each cell scaled to the same depth."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from .._settings import settings
from ..encode.counts import iter_blocks, scan
from ..place import Place

DEPTH = 10_000
"""Counts that every cell is scaled to."""


def measured_expression(place: Place) -> NDArray[np.float64]:
    """For each gene log1p of the mean over cells of its counts in 10,000 of the cell's.

    Cells without counts are left out. Counts are read block by block, twice.

    Raises
    ------
    ValueError
        If values are not finite, negative or not whole, or there is no count at all.
    """
    matrix = place.matrix()
    _check_counts(place, matrix)
    total, n_cells = np.zeros(int(matrix.shape[1])), 0
    for _, block in iter_blocks(matrix):
        depth = np.asarray(block.sum(axis=1), np.float64).ravel()
        scale = np.divide(DEPTH, depth, out=np.zeros_like(depth), where=depth > 0)
        total += sp.csr_array(block).T @ scale
        n_cells += int((depth > 0).sum())
    if not n_cells:
        raise ValueError(
            f"{place.title} has no counts, with which predictions could be compared. Pass layer=, "
            "or compare=False."
        )
    return np.log1p(total / n_cells)


def _check_counts(place: Place, matrix: Any) -> None:
    summary = scan(matrix, n_threads=settings.n_threads)
    for number, first, what in (
        (summary.n_not_finite, summary.first_not_finite, "not finite"),
        (summary.n_negative, summary.first_negative, "below zero"),
        (summary.n_fractional, summary.first_fractional, "not whole"),
    ):
        if number and first is not None:
            row, column, value = first
            cell, gene = place.adata.obs_names[row], place.labels[column]
            raise ValueError(
                f"{number:,} values of {place.title} are {what}, the first {value:g} in cell "
                f"{cell!r}, gene {gene!r}: predictions are compared with raw counts. "
                f"{place.elsewhere()}, or compare=False."
            )
