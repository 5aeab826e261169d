"""Rank encoding: order each cell's genes by how far they stand above their corpus median.

The value of a gene in a cell is count / median in float64. Genes are ordered by it downwards, and
ties (equal quotients) follow the vocabulary. Zeros are never ranked, stored or not. Columns that
share a gene are summed, and the gene stands at the first of them. Dividing by the cell's total, as
is often done first, would not change the order, except that rounding then decides ties.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from . import _rank_kernels as kernels
from ._matrices import as_csr, check_matrix
from .counts import canonical, iter_blocks

_Part = tuple[NDArray[np.int32], NDArray[np.unsignedinteger], NDArray[np.int32]]


class Ranker:
    """The order of one model's genes over the columns of one matrix.

    Cheap to make, never changed by use, and safe to use from several threads.

    Parameters
    ----------
    medians
        The gene's non-zero median for each column; not read where ``target`` is -1.
    order
        The gene's position in the vocabulary for each column: ties follow it.
    target
        The column at which each column's gene is gathered: its own index, an earlier column that
        holds the same gene, or -1 where the column is no gene of the vocabulary.
    log_normalized
        Whether values are ``log1p`` of something proportional to the counts; they are ordered by
        ``expm1(value) / median``.

    Raises
    ------
    ValueError
        If the arrays differ in length, a gene's median is not positive and finite, two genes share
        a place in the vocabulary, or a target is not the first column of its gene.

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> ranker = Ranker(np.array([2.0, 1.0, 4.0]), np.arange(3), np.arange(3))
    >>> columns, indptr, n_ranked = ranker.sentences(sp.csr_array(np.array([[4, 3, 0], [2, 1, 4]])))
    >>> columns.tolist(), indptr.tolist(), n_ranked.tolist()
    ([1, 0, 0, 1, 2], [0, 2, 5], [2, 3])
    """

    def __init__(
        self,
        medians: ArrayLike,
        order: ArrayLike,
        target: ArrayLike,
        *,
        log_normalized: bool = False,
    ) -> None:
        self.medians = np.array(medians, dtype=np.float64)
        self.order = np.array(order, dtype=np.int64)
        self.target = np.array(target, dtype=np.int64)
        self.log_normalized = log_normalized
        _check_genes(self.medians, self.order, self.target)
        self._columns = _describe_columns(self.medians, self.order, self.target)

    @property
    def n_columns(self) -> int:
        """How many columns a block must have."""
        return len(self.medians)

    def sentences(
        self, block: sp.csr_array | sp.csr_matrix, limit: int | None = None
    ) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int32]]:
        """Each row's columns in rank order.

        Parameters
        ----------
        block
            CSR rows of counts, for example from :func:`~glm.encode.iter_blocks`.
        limit
            Columns to keep of a row; ``None`` keeps all.

        Returns
        -------
        The columns of all rows one after the other, where each row starts (one more than rows), and
        how many columns each row ranked before the limit.
        """
        rows = self._rows(_check_block(block))
        keep = self.n_columns if limit is None else _check_limit(limit)
        n_rows = rows.shape[0]
        columns = np.empty(_room(rows.indptr, keep), np.int32)
        indptr = np.empty(n_rows + 1, np.int64)
        n_ranked = np.empty(n_rows, np.int32)
        parts = (rows.data, rows.indices, rows.indptr)
        bad = kernels.sentence_block(*parts, self._columns, keep, columns, indptr, n_ranked)
        if bad >= 0:
            raise _unrankable(rows, bad)
        return columns[: indptr[-1]], indptr, n_ranked

    def ranks(self, block: sp.csr_array | sp.csr_matrix) -> sp.csr_array:
        """Each ranked column's rank, from 1 for the highest.

        Parameters
        ----------
        block
            CSR rows of counts, for example from :func:`~glm.encode.iter_blocks`.

        Returns
        -------
        CSR of the block's shape, uint16 (uint32 beyond 65,535 columns), with sorted indices and
        no entry for what is not ranked.
        """
        columns, ranks, n_ranked = self._ranks(_check_block(block))
        indptr = np.zeros(len(n_ranked) + 1, np.int64)
        np.cumsum(n_ranked, out=indptr[1:])
        return sp.csr_array((ranks, columns, indptr), shape=(len(n_ranked), self.n_columns))

    def _ranks(self, block: sp.csr_array | sp.csr_matrix) -> _Part:
        rows = self._rows(block)
        columns = np.empty(len(rows.data) + 1, np.int32)
        dtype = np.uint16 if self.n_columns <= 65_535 else np.uint32
        ranks: NDArray[Any] = np.empty(len(rows.data), dtype)
        n_ranked = np.empty(rows.shape[0], np.int32)
        parts = (rows.data, rows.indices, rows.indptr)
        bad = kernels.rank_block(*parts, self._columns, columns, ranks, n_ranked)
        if bad >= 0:
            raise _unrankable(rows, bad)
        n = int(n_ranked.sum(dtype=np.int64))
        return columns[:n], ranks[:n], n_ranked

    def _rows(self, block: sp.csr_array | sp.csr_matrix) -> _Rows:
        """The block's three arrays in one of the few dtypes the kernels are compiled for."""
        if block.shape[1] != self.n_columns:
            raise ValueError(
                f"The block has {block.shape[1]} columns, the ranker {self.n_columns}: make the "
                "ranker from the same genes."
            )
        if self.log_normalized:
            with np.errstate(over="ignore", invalid="ignore"):  # refused by the kernels
                values = np.expm1(np.asarray(block.data, np.float64))
            block = as_csr(values, block.indices, block.indptr, block.shape[1])
        return _Rows(block)


class _Rows:
    """A CSR block as the kernels take it: int32 indices, int64 indptr, one of three value types.

    Whole numbers of up to 32 bits become int32, halves float32 and everything else float64, which
    is the precision the order is defined in.
    """

    def __init__(self, block: sp.csr_array | sp.csr_matrix) -> None:
        self.shape = block.shape
        self.indptr = np.asarray(block.indptr, np.int64)
        self.indices = np.asarray(block.indices, np.int32)
        dtype: type[np.generic] = np.float64
        if block.dtype.kind in "iu" and np.can_cast(block.dtype, np.int32):
            dtype = np.int32
        elif block.dtype.kind == "f" and block.dtype.itemsize <= 4:
            dtype = np.float32
        self.data = np.asarray(block.data, dtype)


def encode_ranks(
    matrix: Any,
    ranker: Ranker,
    *,
    n_threads: int = 1,
    progress: Callable[[int], None] | None = None,
) -> tuple[sp.csr_matrix, NDArray[np.int32]]:
    """Rank every row of a matrix.

    One pass over the stored values, block by block, with less extra memory than the matrix takes.

    Parameters
    ----------
    matrix
        Anything :func:`~glm.encode.iter_blocks` reads.
    ranker
        The order.
    n_threads
        Blocks to rank at the same time.
    progress
        Called after each block with the number of rows done since the last call.

    Returns
    -------
    CSR of the matrix's shape in the smallest unsigned type (1 is the highest; no entry for what is
    not ranked), and the number of ranked columns of each row.
    """
    done = []
    for part in _rank_blocks(iter_blocks(matrix), ranker, n_threads):
        done.append(part)
        if progress is not None:
            progress(len(part[2]))
    return _stack(done, ranker.n_columns)


def _rank_blocks(
    blocks: Iterator[tuple[int, sp.csr_array]], ranker: Ranker, n_threads: int
) -> Iterator[_Part]:
    """Rank blocks in order, ``n_threads`` at a time; reading goes on meanwhile."""

    def rank(start: int, block: sp.csr_array) -> _Part:
        try:
            return ranker._ranks(block)
        except _UnrankableError as error:
            raise error.shifted(start) from None

    if n_threads <= 1:
        yield from (rank(start, block) for start, block in blocks)
        return
    with ThreadPoolExecutor(n_threads) as pool:
        waiting: deque[Future[_Part]] = deque()
        for start, block in blocks:
            waiting.append(pool.submit(rank, start, block))
            if len(waiting) > n_threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _stack(parts: list[_Part], n_columns: int) -> tuple[sp.csr_matrix, NDArray[np.int32]]:
    """One matrix of all parts. Empties the list on the way, so that little is held twice."""
    n_ranked = np.concatenate([np.empty(0, np.int32), *(part[2] for part in parts)])
    indptr = np.zeros(len(n_ranked) + 1, np.int64)
    np.cumsum(n_ranked, out=indptr[1:])
    dtype = np.min_scalar_type(int(n_ranked.max(initial=0)))
    columns = np.empty(indptr[-1], np.int32)
    ranks = np.empty(indptr[-1], dtype)
    parts.reverse()
    end = 0
    while parts:
        some_columns, some_ranks, _ = parts.pop()
        stop = end + len(some_columns)
        columns[end:stop] = some_columns
        ranks[end:stop] = some_ranks
        end = stop
    return sp.csr_matrix((ranks, columns, indptr), shape=(len(n_ranked), n_columns)), n_ranked


class _UnrankableError(ValueError):
    """A value that has no rank; knows its place, so that a block's rows can be counted on."""

    def __init__(self, value: float, row: int, column: int) -> None:
        super().__init__(
            f"The value at row {row}, column {column} is {value}: ranks need counts that are "
            "finite and not negative. Pass the raw counts (perhaps in a layer)."
        )
        self.place = (value, row, column)

    def shifted(self, n_rows: int) -> _UnrankableError:
        value, row, column = self.place
        return _UnrankableError(value, row + n_rows, column)


def _unrankable(rows: _Rows, place: int) -> _UnrankableError:
    row = int(np.searchsorted(rows.indptr, place, side="right")) - 1
    return _UnrankableError(rows.data[place].item(), row, int(rows.indices[place]))


def _check_genes(
    medians: NDArray[np.float64], order: NDArray[np.int64], target: NDArray[np.int64]
) -> None:
    if not medians.shape == order.shape == target.shape or medians.ndim != 1:
        raise ValueError(
            "medians, order and target must be one value a column, but have the shapes "
            f"{medians.shape}, {order.shape} and {target.shape}."
        )
    columns = np.arange(len(target))
    known = target >= 0
    firsts = np.flatnonzero(target == columns)
    is_first = np.zeros(len(target) + 1, bool)
    is_first[firsts] = True
    to_first = (target <= columns) & is_first[np.clip(target, -1, columns)]
    wrong = np.flatnonzero((known & ~to_first) | (target < -1))
    if wrong.size:
        raise ValueError(
            f"target[{wrong[0]}] is {target[wrong[0]]}, which is not the first column of a gene: "
            "expected the column itself, an earlier one whose target is itself, or -1."
        )
    wrong = firsts[~(np.isfinite(medians[firsts]) & (medians[firsts] > 0))]
    if wrong.size:
        raise ValueError(
            f"{wrong.size} genes have no usable median (the first: column {wrong[0]}, "
            f"{medians[wrong[0]]}): medians must be positive and finite. Set target to -1 for "
            "columns to leave out."
        )
    if len(np.unique(order[firsts])) < len(firsts) or np.any(order[firsts] < 0):
        raise ValueError(
            "order must give each gene its own place in the vocabulary (0 or more): columns of one "
            "gene are joined by pointing their target at the first."
        )


def _describe_columns(
    medians: NDArray[np.float64], order: NDArray[np.int64], target: NDArray[np.int64]
) -> kernels.Columns:
    """The same by column as the kernels read it."""
    known = np.flatnonzero(target >= 0)
    gene_medians = np.full(len(target), np.nan)
    gene_medians[known] = medians[target[known]]
    shared = known[np.bincount(target[known], minlength=len(target))[target[known]] > 1]
    gather = np.full(len(target) if shared.size else 0, -1, np.int32)
    gather[shared] = target[shared]
    single = gene_medians.copy()
    single[shared] = np.nan
    return kernels.Columns(single, gene_medians, order, gather)


def _check_block(block: Any) -> sp.csr_array:
    if not (sp.issparse(block) and block.format == "csr"):
        raise TypeError(
            f"Got a {type(block).__qualname__}, expected a CSR block: pass the matrix to "
            "encode_ranks, or what iter_blocks makes of it."
        )
    check_matrix(block)
    return canonical(block)


def _check_limit(limit: int) -> int:
    if limit < 1:
        raise ValueError(f"limit is {limit}: pass at least 1, or None to keep all columns.")
    return int(limit)


def _room(indptr: NDArray[np.int64], limit: int) -> int:
    """The most columns that rows of these lengths can keep."""
    return int(np.minimum(np.diff(indptr), limit).sum())
