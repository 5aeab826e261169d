"""Any rows of a matrix of counts, whatever holds it; and a fingerprint of what it holds."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from ._matrices import (
    as_csr,
    check_matrix,
    dask_chunk_rows,
    dense_step,
    find_kind,
    plain_values,
    to_csr,
)
from .counts import canonical, compress, iter_blocks


class RowReader:
    """Rows ``start`` to ``stop`` of a matrix as a canonical CSR array.

    What the rows hold does not depend on the container, nor on what was read before. Rows of an
    in-memory CSR matrix come as views; CSC and COO are converted once, a backed CSC dataset is read
    whole. Chunks of a dask array, or of a dense file, that are larger than the rows asked for are
    computed once and kept until rows of another chunk are asked for: read in order, each is read
    once.

    Parameters
    ----------
    matrix
        Anything :func:`iter_blocks` reads.

    Examples
    --------
    >>> import numpy as np
    >>> RowReader(np.eye(5)).rows(1, 3).toarray()[0].tolist()
    [0.0, 1.0, 0.0, 0.0, 0.0]
    """

    def __init__(self, matrix: Any) -> None:
        check_matrix(matrix)
        self._kind = find_kind(matrix)
        self.shape: tuple[int, int] = (int(matrix.shape[0]), int(matrix.shape[1]))
        in_place = self._kind in ("dense", "file", "dask", "backed csr")
        self._matrix = matrix if in_place else to_csr(matrix, self._kind)
        self._edges = _chunk_edges(matrix, self._kind)
        self._kept: tuple[int, sp.csr_array] | None = None

    def rows(self, start: int, stop: int) -> sp.csr_array:
        """Rows ``start`` to ``stop`` (not included)."""
        if not 0 <= start <= stop <= self.shape[0]:
            raise ValueError(f"Rows {start} to {stop} are not in a matrix of {self.shape[0]} rows.")
        if self._edges is None:
            return self._read(start, stop)
        first = int(np.searchsorted(self._edges[:-1], start, side="right")) - 1
        last = max(int(np.searchsorted(self._edges, stop)), first + 1)
        parts = []
        for number in range(first, last):
            begin, chunk = int(self._edges[number]), self._chunk(number)
            parts.append(_cut(chunk, max(start - begin, 0), min(stop - begin, chunk.shape[0])))
        if len(parts) == 1:
            return parts[0]
        joined = sp.csr_array(sp.vstack(parts, format="csr"))
        joined.has_canonical_format = True
        return joined

    def _chunk(self, number: int) -> sp.csr_array:
        if self._kept is None or self._kept[0] != number:
            self._kept = None  # let go of the old one before the next is made
            if self._kind == "dask":
                chunk = _as_canonical(dask_chunk_rows(self._matrix, number))
            else:
                chunk = self._read(int(self._edges[number]), int(self._edges[number + 1]))
            self._kept = (number, chunk)
        return self._kept[1]

    def _read(self, start: int, stop: int) -> sp.csr_array:
        if self._kind in ("dense", "file"):
            return compress(np.asarray(self._matrix[start:stop]))
        if self._kind == "backed csr":
            rows = self._matrix[start:stop]
            return canonical(as_csr(rows.data, rows.indices, rows.indptr, self.shape[1]))
        return _cut(self._matrix, start, stop)


def fingerprint(matrix: Any) -> str:
    """32 hexadecimal digits that tell matrices apart by shape, places and values.

    Zeros do not count, stored or not, nor does the container or the type of the numbers. One pass,
    block by block. It guards against mistakes, not against malice.

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> counts = np.array([[0, 3], [1, 0]])
    >>> fingerprint(counts) == fingerprint(sp.csr_matrix(counts.astype("float32")))
    True
    >>> fingerprint(counts) == fingerprint(counts[::-1])
    False
    """
    sums = np.zeros(2, np.uint64)
    for start, block in iter_blocks(matrix):
        # Adding 0 makes plain zeros of negative ones.
        values = (block.data.astype(np.float64) + 0.0).view(np.uint64)
        _add_values(values, block.indices, block.indptr, start, sums)
    n_rows, n_columns = matrix.shape
    _add_values(
        np.array([n_rows, n_columns], np.uint64),
        np.array([0, 1]),
        np.array([0, 2]),
        -1,
        sums,
    )
    return "".join(f"{int(word):016x}" for word in sums)


@numba.njit(cache=True, nogil=True)
def _mixed(word):  # type: ignore[no-untyped-def]
    """Spread every bit over all 64 (the finaliser of SplitMix64)."""
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))


@numba.njit(cache=True, nogil=True)
def _add_values(values, indices, indptr, first_row, sums):  # type: ignore[no-untyped-def]
    # Sums of hashes of (row, column, value): however the rows were cut, the sums are the same.
    low = sums[0]
    high = sums[1]
    for row in range(len(indptr) - 1):
        here = _mixed(np.uint64(row + first_row + 0x1234567))
        for i in range(indptr[row], indptr[row + 1]):
            if values[i] != 0:
                place = _mixed(here + np.uint64(indices[i] + 1))
                word = _mixed(place ^ values[i])
                low += word
                high += _mixed(word + np.uint64(0x9E3779B97F4A7C15))
    sums[0] = low
    sums[1] = high


def _chunk_edges(matrix: Any, kind: str | None) -> Any:
    """Rows at which chunks begin that had better be read whole; ``None`` where any rows will do."""
    if kind == "dask":
        return np.concatenate([[0], np.cumsum(matrix.chunks[0])]).astype(np.int64)
    if kind == "file" and getattr(matrix, "chunks", None):
        return np.append(np.arange(0, matrix.shape[0], dense_step(matrix)), matrix.shape[0])
    return None


def _as_canonical(block: Any) -> sp.csr_array:
    if isinstance(block, np.ndarray):
        return compress(block)
    return canonical(to_csr(block, find_kind(block)))


def _cut(matrix: Any, start: int, stop: int) -> sp.csr_array:
    lo, hi = matrix.indptr[start], matrix.indptr[stop]
    indptr: NDArray[Any] = matrix.indptr[start : stop + 1] - lo
    data = plain_values(matrix.data[lo:hi])
    return canonical(as_csr(data, matrix.indices[lo:hi], indptr, matrix.shape[1]))
