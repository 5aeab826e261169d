"""Read counts of any supported kind: as canonical CSR blocks, or once over for a summary."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from ._matrices import (
    Piece,
    as_csr,
    check_matrix,
    iter_pieces,
    iter_raw_blocks,
    plain_values,
)
from ._scan import Tally, count_values, is_increasing

Place = tuple[int, int, float]


def iter_blocks(matrix: Any, block_rows: int | None = None) -> Iterator[tuple[int, sp.csr_array]]:
    """Cut a matrix into blocks of rows, each a canonical CSR array.

    Canonical: indices sorted, no index twice in a row (repeated entries are summed in 64 bits).
    The matrix itself is never changed, nor are its flags. Rows of an in-memory CSR matrix that are
    canonical already come as views. CSC and COO matrices are converted to CSR once, which takes as
    much memory again. Files and dask arrays are read a block at a time, except a backed CSC
    dataset, which is read whole.

    Parameters
    ----------
    matrix
        Rows × columns: a numpy array, scipy CSR, CSC or COO, a dask array, a backed sparse dataset
        of AnnData, or an h5py or zarr dataset, of integers or floating-point numbers.
    block_rows
        The most rows in a block. ``None`` aims at two million stored values a block. Chunks of a
        dask array are cut, never joined.

    Yields
    ------
    The first row of the block, and the block. Values keep their type, except that halves become
    float32, long doubles float64, and values of a block with repeated entries 64 bits wide.

    Raises
    ------
    TypeError
        If the matrix is of another kind, or does not hold real numbers.

    Examples
    --------
    >>> import numpy as np
    >>> [(start, block.nnz) for start, block in iter_blocks(np.eye(5), block_rows=3)]
    [(0, 3), (3, 2)]
    """
    check_matrix(matrix)
    if block_rows is not None and block_rows < 1:
        raise ValueError(f"block_rows is {block_rows}: pass at least 1, or None.")
    return _canonical_blocks(matrix, block_rows)


@dataclass(frozen=True)
class CountSummary:
    """What the values of a matrix are, from all of them.

    Attributes
    ----------
    n_rows, n_columns
        The shape.
    n_stored
        Values that are not zero.
    max
        The largest finite value that is stored, 0 where there is none.
    n_negative, n_not_finite, n_fractional
        Values below zero, infinite or NaN, and finite but not whole.
    first_negative, first_not_finite, first_fractional
        The first of each in row order as (row, column, value), or ``None``.
    """

    n_rows: int
    n_columns: int
    n_stored: int
    max: float
    n_negative: int
    n_not_finite: int
    n_fractional: int
    first_negative: Place | None
    first_not_finite: Place | None
    first_fractional: Place | None


def scan(matrix: Any, n_threads: int = 1) -> CountSummary:
    """Look at every stored value of a matrix once.

    Values are taken as they are stored: entries that are repeated in a row count one by one.

    Parameters
    ----------
    matrix
        Anything :func:`iter_blocks` reads.
    n_threads
        Pieces to look at simultaneously.

    Examples
    --------
    >>> import numpy as np
    >>> summary = scan(np.array([[0.0, 2.0], [0.5, -1.0]]))
    >>> summary.n_stored, summary.max, summary.first_fractional
    (3, 2.0, (1, 0, 0.5))
    """
    check_matrix(matrix)
    total = Tally()
    places: dict[str, Place] = {}
    with ThreadPoolExecutor(max(n_threads, 1)) as pool:
        pieces = (
            piece._replace(values=plain_values(piece.values)) for piece in iter_pieces(matrix)
        )
        while batch := list(islice(pieces, max(n_threads, 1))):
            tallies = pool.map(count_values, [piece.values for piece in batch])
            for piece, tally in zip(batch, tallies, strict=True):
                total = total + tally
                for kind, is_bad in tally.tests():
                    if kind in places and piece.in_order:
                        continue
                    found = _first(piece, is_bad(piece.values))
                    places[kind] = min(places.get(kind, found), found, key=lambda place: place[:2])
    return CountSummary(
        n_rows=int(matrix.shape[0]),
        n_columns=int(matrix.shape[1]),
        n_stored=total.n_stored,
        max=0.0 if total.largest is None else total.largest,
        n_negative=total.n_negative,
        n_not_finite=total.n_not_finite,
        n_fractional=total.n_fractional,
        first_negative=places.get("negative"),
        first_not_finite=places.get("not_finite"),
        first_fractional=places.get("fractional"),
    )


def _first(piece: Piece, bad: NDArray[np.bool_]) -> Place:
    """The first bad value in row order, whatever the order of storage."""
    found = np.array([np.argmax(bad)]) if piece.in_order else np.flatnonzero(bad)
    rows, columns = piece.locate(found)
    in_row = np.flatnonzero(rows == rows.min())
    first = in_row[np.argmin(columns[in_row])]
    return int(rows[first]), int(columns[first]), float(piece.values[found[first]])


def _canonical_blocks(matrix: Any, block_rows: int | None) -> Iterator[tuple[int, sp.csr_array]]:
    for start, block in iter_raw_blocks(matrix, block_rows):
        yield start, compress(block) if isinstance(block, np.ndarray) else canonical(block)


def compress(block: NDArray[Any]) -> sp.csr_array:
    """CSR of a dense block, several times faster than scipy makes it."""
    n_rows, n_columns = block.shape
    stored = block != 0  # NaN is stored
    per_row = np.count_nonzero(stored, axis=1)
    indptr = np.zeros(n_rows + 1, np.int64)
    np.cumsum(per_row, out=indptr[1:])
    places = np.flatnonzero(stored)
    places -= np.repeat(np.arange(n_rows) * n_columns, per_row)
    parts = (plain_values(block[stored]), places.astype(np.int32), indptr)
    csr = sp.csr_array(parts, shape=block.shape)
    csr.has_canonical_format = True
    return csr


def canonical(block: sp.csr_array) -> sp.csr_array:
    """The block with sorted, unique indices: views where it is so already, else a copy."""
    data = plain_values(block.data)
    block = as_csr(data, block.indices, block.indptr, block.shape[1])
    if not is_increasing(block.indptr, block.indices):
        block = block.copy()
        block.has_sorted_indices = False
        block.sort_indices()
        if not is_increasing(block.indptr, block.indices):
            wide = np.uint64 if data.dtype == np.uint64 else np.int64
            block = block.astype(wide if data.dtype.kind in "iu" else np.float64)
            block.has_canonical_format = False
            block.sum_duplicates()
    block.has_canonical_format = True
    return block
