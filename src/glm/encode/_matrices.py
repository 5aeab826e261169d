"""The kinds of matrix that counts come in, and how each is read in blocks of rows.

Blocks come as they are stored: a dense array, or CSR whose rows may hold an index twice or out of
order. Libraries that are only needed for a kind of matrix are recognised by their module's name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

BLOCK_VALUES = 2_000_000  # stored values a block: 16 MB, and many blocks for several threads
_DENSE_VALUES = 8_000_000  # most values of a dense block are zero

_SUPPORTED = (
    "a numpy array, a scipy CSR, CSC or COO matrix or array, a dask array, a backed sparse dataset "
    "of AnnData, or an h5py or zarr dataset"
)

Block: TypeAlias = "NDArray[Any] | sp.csr_array"
Locate = Callable[[NDArray[np.int64]], tuple[NDArray[Any], NDArray[Any]]]


def check_matrix(matrix: Any) -> None:
    """Refuse what is no matrix of real numbers, and say what to do instead."""
    if find_kind(matrix) is None:
        raise TypeError(
            f"Counts cannot be read from {_type_name(matrix)}: pass {_SUPPORTED}."
            + _advice_for(matrix)
        )
    if len(matrix.shape) != 2:
        raise TypeError(
            f"Counts must be a matrix of rows × columns, but have the shape {matrix.shape}."
        )
    _check_dtype(np.dtype(matrix.dtype))


def iter_raw_blocks(matrix: Any, block_rows: int | None) -> Iterator[tuple[int, Block]]:
    """Blocks of rows with their first row; see the module for what they may hold."""
    kind = find_kind(matrix)
    if kind == "dask":
        yield from _dask_blocks(matrix, block_rows)
    elif kind in ("dense", "file"):
        yield from _dense_blocks(matrix, block_rows)
    elif kind == "backed csr":
        yield from _backed_blocks(matrix, block_rows)
    else:
        yield from _csr_blocks(to_csr(matrix, kind), block_rows)


class Piece(NamedTuple):
    """A contiguous run of stored values."""

    values: NDArray[Any]
    locate: Locate  # from places in the run to their rows and columns
    in_order: bool  # whether it is stored by rows, after the rows of the piece before


def iter_pieces(matrix: Any) -> Iterator[Piece]:
    """The stored values in runs. Nothing in memory is converted or copied, whatever its layout."""
    kind = find_kind(matrix)
    if kind in ("csr", "csc"):
        yield from _compressed_pieces(matrix, 0)
    elif kind == "coo":
        yield from _coo_pieces(matrix)
    elif kind == "dense" and matrix.flags.f_contiguous and not matrix.flags.c_contiguous:
        for start, block in _dense_blocks(np.asarray(matrix).T, None):
            yield Piece(_flat(block), _locate_dense(start, block.shape[1], swap=True), False)
    else:
        for start, block in iter_raw_blocks(matrix, None):
            if isinstance(block, np.ndarray):
                yield Piece(_flat(block), _locate_dense(start, block.shape[1], swap=False), True)
            else:
                yield from _compressed_pieces(block, start)


def as_csr(
    data: NDArray[Any], indices: NDArray[Any], indptr: NDArray[Any], n_columns: int
) -> sp.csr_array:
    """A new CSR array of these very arrays; scipy's constructor copies a view of a larger array."""
    block = sp.csr_array((len(indptr) - 1, n_columns), dtype=data.dtype)
    block.data, block.indices, block.indptr = data, indices, indptr
    return block


def plain_values(values: NDArray[Any]) -> NDArray[Any]:
    """The values as integers, float32 or float64 of this machine; themselves where they are."""
    _check_dtype(values.dtype)
    if values.dtype.kind == "f" and values.dtype.itemsize not in (4, 8):
        return values.astype(np.float32 if values.dtype.itemsize < 4 else np.float64)
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def find_kind(matrix: Any) -> str | None:
    if sp.issparse(matrix):
        return matrix.format if matrix.format in ("csr", "csc", "coo") else None
    if isinstance(matrix, np.ndarray):
        return None if isinstance(matrix, np.ma.MaskedArray) else "dense"
    if not (hasattr(matrix, "shape") and hasattr(matrix, "dtype")):
        return None
    library = type(matrix).__module__.partition(".")[0]
    if hasattr(matrix, "chunks") and "dask" in _libraries(matrix):  # AnnData makes views of them
        return "dask"
    if library in ("h5py", "zarr"):
        return "file"
    if library == "anndata" and getattr(matrix, "format", None) in ("csr", "csc"):
        return f"backed {matrix.format}"
    return None


def _libraries(matrix: Any) -> set[str]:
    """Where its type and those it is made of come from."""
    return {kind.__module__.partition(".")[0] for kind in type(matrix).__mro__}


def _type_name(matrix: Any) -> str:
    return f"{type(matrix).__module__}.{type(matrix).__qualname__}"


def _advice_for(matrix: Any) -> str:
    if sp.issparse(matrix):
        return f" Convert it with .tocsr() (found format {matrix.format!r})."
    if isinstance(matrix, np.ma.MaskedArray):
        return " Fill masked values with .filled(0)."
    if hasattr(matrix, "to_numpy"):
        return " Convert it with .to_numpy()."
    return ""


def _check_dtype(dtype: np.dtype[Any]) -> None:
    if dtype.kind in "iuf":
        return
    advice = {
        "b": "true and false are not counts; if they are meant as 1 and 0, pass "
        "matrix.astype('uint8')",
        "c": "pass the real part, if that is where the counts are",
    }.get(dtype.kind, "convert the values first, for example with .astype('float32')")
    raise TypeError(
        f"Counts must be integers or floating-point numbers, but are of type {dtype}: {advice}."
    )


def _dense_blocks(matrix: Any, block_rows: int | None) -> Iterator[tuple[int, NDArray[Any]]]:
    step = block_rows or dense_step(matrix)
    for start in range(0, matrix.shape[0], step):
        yield start, np.asarray(matrix[start : start + step])


def dense_step(matrix: Any) -> int:
    """Rows of a dense matrix to read together: of a file whole chunks, each read once."""
    step = max(1, _DENSE_VALUES // max(matrix.shape[1], 1))
    chunk = (getattr(matrix, "chunks", None) or (1,))[0]
    return max(step // chunk, 1) * chunk


def _csr_blocks(matrix: Any, block_rows: int | None) -> Iterator[tuple[int, sp.csr_array]]:
    for start, stop in _row_ranges(matrix.indptr, block_rows):
        lo, hi = matrix.indptr[start], matrix.indptr[stop]
        indptr = matrix.indptr[start : stop + 1] - lo
        yield start, as_csr(matrix.data[lo:hi], matrix.indices[lo:hi], indptr, matrix.shape[1])


def _row_ranges(indptr: NDArray[Any], block_rows: int | None) -> Iterator[tuple[int, int]]:
    n_rows = len(indptr) - 1
    start = 0
    while start < n_rows:
        if block_rows is None:
            full = np.searchsorted(indptr, indptr[start] + BLOCK_VALUES, side="right") - 1
            stop = max(int(full), start + 1)
        else:
            stop = min(start + block_rows, n_rows)
        yield start, stop
        start = stop


def to_csr(matrix: Any, kind: str | None) -> Any:
    """Convert once. Repeated entries stay apart: scipy would sum them in a type that may wrap."""
    if kind == "csr":
        return matrix
    if kind == "backed csc":
        matrix = matrix.to_memory()
    if kind != "coo":
        return matrix.tocsr()
    apart = sp.coo_array((matrix.data, (matrix.row, matrix.col)), shape=matrix.shape)
    apart.has_canonical_format = True
    return apart.tocsr()


def _backed_blocks(matrix: Any, block_rows: int | None) -> Iterator[tuple[int, sp.csr_array]]:
    indptr = np.asarray(matrix.group["indptr"][:])
    for start, stop in _row_ranges(indptr, block_rows):
        rows = matrix[start:stop]
        yield start, as_csr(rows.data, rows.indices, rows.indptr, rows.shape[1])


def _dask_blocks(matrix: Any, block_rows: int | None) -> Iterator[tuple[int, Block]]:
    if any(size != size for sizes in matrix.chunks for size in sizes):
        raise ValueError(
            "The dask array does not know the sizes of its chunks: call "
            "matrix.compute_chunk_sizes() first."
        )
    start = 0
    for row in range(matrix.numblocks[0]):
        chunk = dask_chunk_rows(matrix, row)
        for offset, block in iter_raw_blocks(chunk, block_rows):
            yield start + offset, block
        start += chunk.shape[0]


def dask_chunk_rows(matrix: Any, row: int) -> Any:
    """One row of chunks, computed; chunks of columns are joined here, since dask cannot always."""
    chunks = [matrix.blocks[row, column].compute() for column in range(matrix.numblocks[1])]
    for chunk in chunks:
        check_matrix(chunk)
    if len(chunks) == 1:
        return chunks[0]
    if any(sp.issparse(chunk) for chunk in chunks):
        return sp.hstack([to_csr(chunk, find_kind(chunk)) for chunk in chunks], format="csr")
    return np.hstack(chunks)


def _compressed_pieces(matrix: Any, first_row: int) -> Iterator[Piece]:
    by_rows = matrix.format == "csr"
    for start, stop in _runs(int(matrix.indptr[-1])):

        def locate(places: NDArray[np.int64], start: int = start) -> tuple[Any, Any]:
            major = np.searchsorted(matrix.indptr, places + start, side="right") - 1
            minor = matrix.indices[places + start]
            return (major + first_row, minor) if by_rows else (minor, major)

        yield Piece(matrix.data[start:stop], locate, by_rows)


def _coo_pieces(matrix: Any) -> Iterator[Piece]:
    for start, stop in _runs(len(matrix.data)):

        def locate(places: NDArray[np.int64], start: int = start) -> tuple[Any, Any]:
            return matrix.row[places + start], matrix.col[places + start]

        yield Piece(matrix.data[start:stop], locate, False)


def _runs(n: int) -> Iterator[tuple[int, int]]:
    for start in range(0, n, BLOCK_VALUES):
        yield start, min(start + BLOCK_VALUES, n)


def _locate_dense(start: int, width: int, *, swap: bool) -> Locate:
    def locate(places: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[Any]]:
        major, minor = np.divmod(places, width)
        return (minor, major + start) if swap else (major + start, minor)

    return locate


def _flat(block: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(block).reshape(-1)
