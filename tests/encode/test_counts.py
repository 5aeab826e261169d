"""Blocks of every kind of matrix, and the pass over all values."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from glm.encode import CountSummary, iter_blocks, scan

DTYPES = ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8", ">f4", ">i4", "g"]
IN_MEMORY = {
    "dense": np.asarray,
    "fortran": np.asfortranarray,
    "np.matrix": np.asmatrix,
    "csr_matrix": sp.csr_matrix,
    "csr_array": sp.csr_array,
    "csc_matrix": sp.csc_matrix,
    "csc_array": sp.csc_array,
    "coo_matrix": sp.coo_matrix,
    "coo_array": sp.coo_array,
}


def toy(dtype: str = "f4", shape: tuple[int, int] = (13, 7)) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.integers(1, 100, shape) * (rng.random(shape) < 0.4)).astype(dtype)


def joined(matrix, block_rows: int | None = None) -> np.ndarray:
    blocks = list(iter_blocks(matrix, block_rows))
    starts = np.cumsum([0] + [block.shape[0] for _, block in blocks])
    assert [start for start, _ in blocks] == starts[:-1].tolist()
    for _, block in blocks:
        assert isinstance(block, sp.csr_array)
        assert block.has_canonical_format
        fresh = sp.csr_array((block.data, block.indices, block.indptr), shape=block.shape)
        assert fresh.has_canonical_format
        assert block.dtype.isnative
        assert block_rows is None or block.shape[0] <= block_rows
    return np.vstack([block.toarray() for _, block in blocks])


@pytest.mark.parametrize("block_rows", [None, 1, 5, 13, 100])
@pytest.mark.parametrize("kind", IN_MEMORY)
def test_blocks_hold_the_matrix(kind: str, block_rows: int | None) -> None:
    np.testing.assert_array_equal(joined(IN_MEMORY[kind](toy()), block_rows), toy())


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes(dtype: str) -> None:
    values = toy(dtype)
    np.testing.assert_array_equal(joined(values), values)
    if dtype not in ("f2", ">f4", ">i4"):  # scipy has no such sparse matrices
        np.testing.assert_array_equal(joined(sp.csr_array(values)), values)
    assert scan(values).max == values.max()


def test_memmap_is_read_and_not_written(tmp_path: Path) -> None:
    np.save(tmp_path / "counts.npy", toy())
    mapped = np.load(tmp_path / "counts.npy", mmap_mode="r")
    np.testing.assert_array_equal(joined(mapped, 4), toy())
    assert scan(mapped) == scan(toy())


def test_h5py(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "counts.h5", "w") as file:
        dataset = file.create_dataset("counts", data=toy(), chunks=(3, 7))
        np.testing.assert_array_equal(joined(dataset), toy())
        np.testing.assert_array_equal(joined(dataset, 4), toy())
        assert scan(dataset) == scan(toy())


@pytest.mark.parametrize("convert", [sp.csr_matrix, sp.csc_matrix])
def test_backed_sparse_dataset(tmp_path: Path, convert) -> None:
    ad.AnnData(convert(toy())).write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    np.testing.assert_array_equal(joined(backed.X, 4), toy())
    np.testing.assert_array_equal(joined(backed.X), toy())
    assert scan(backed.X) == scan(toy())
    backed.file.close()


@pytest.mark.parametrize("chunks", [(13, 7), (5, 7), (4, 3), (1, 7)])
@pytest.mark.parametrize("convert", [np.asarray, sp.csr_matrix, sp.csc_array])
def test_dask(chunks: tuple[int, int], convert) -> None:
    da = pytest.importorskip("dask.array")
    lazy = da.from_array(toy(), chunks=chunks).map_blocks(convert)
    np.testing.assert_array_equal(joined(lazy), toy())
    np.testing.assert_array_equal(joined(lazy, 2), toy())
    assert scan(lazy, n_threads=2) == scan(toy())


def test_dask_of_unknown_size_says_what_to_call() -> None:
    da = pytest.importorskip("dask.array")
    lazy = da.from_array(toy(), chunks=(5, 7))
    with pytest.raises(ValueError, match="compute_chunk_sizes"):
        list(iter_blocks(lazy[lazy[:, 0] > 0]))


def test_canonical_csr_comes_as_views_and_is_left_alone() -> None:
    matrix = sp.csr_matrix(toy())
    flags = set(vars(matrix))
    for block_rows in (1, 5, 13):
        for start, block in iter_blocks(matrix, block_rows):
            if block.nnz:
                assert np.shares_memory(block.data, matrix.data), (block_rows, start)
                assert np.shares_memory(block.indices, matrix.indices), (block_rows, start)
    assert set(vars(matrix)) == flags


def test_64_bit_indices_come_as_views() -> None:
    matrix = sp.csr_array(toy())
    matrix.indices, matrix.indptr = matrix.indices.astype("i8"), matrix.indptr.astype("i8")
    for _, block in iter_blocks(matrix, 5):
        assert np.shares_memory(block.indices, matrix.indices)
    np.testing.assert_array_equal(joined(matrix, 5), toy())


@pytest.mark.parametrize("kind", ["csr_matrix", "csc_array", "coo_array"])
def test_repeated_entries_are_summed_without_wrapping(kind: str) -> None:
    row, column = np.array([1, 0, 0, 0, 1]), np.array([2, 2, 0, 2, 2])
    parts = (np.array([1, 200, 7, 100, 254], "u1"), (row, column))
    matrix = sp.coo_array(parts, shape=(3, 4))
    if kind == "csr_matrix":  # by hand, for scipy would sum (and wrap)
        data = np.array([200, 7, 100, 1, 254], "u1")
        matrix = sp.csr_matrix((data, [2, 0, 2, 2, 2], [0, 3, 5, 5]), shape=(3, 4))
    elif kind == "csc_array":
        data = np.array([7, 200, 100, 1, 254], "u1")
        matrix = sp.csc_array((data, [0, 0, 0, 1, 1], [0, 1, 1, 5, 5]), shape=(3, 4))
    before = matrix.data.copy()
    expected = [[7, 0, 300, 0], [0, 0, 255, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(joined(matrix), expected)
    np.testing.assert_array_equal(matrix.data, before)
    assert matrix.nnz == 5


def test_unsorted_rows_are_sorted_in_a_copy() -> None:
    parts = (np.array([1.0, 2.0, 3.0]), np.array([3, 0, 1]), np.array([0, 2, 3]))
    matrix = sp.csr_matrix(parts, shape=(2, 4))
    np.testing.assert_array_equal(joined(matrix), [[2, 0, 0, 1], [0, 3, 0, 0]])
    assert matrix.indices.tolist() == [3, 0, 1]


def test_empty_rows_and_empty_matrices() -> None:
    values = np.zeros((6, 3), "f4")
    values[3, 1] = 2
    np.testing.assert_array_equal(joined(sp.csr_array(values), 2), values)
    assert list(iter_blocks(sp.csr_array((0, 3)))) == []
    assert scan(np.zeros((0, 3))) == CountSummary(0, 3, 0, 0.0, 0, 0, 0, None, None, None)


def test_default_blocks_are_bounded_by_stored_values(monkeypatch: pytest.MonkeyPatch) -> None:
    from glm.encode import _matrices

    monkeypatch.setattr(_matrices, "BLOCK_VALUES", 10)
    sizes = [block.nnz for _, block in iter_blocks(sp.csr_array(toy()))]
    assert len(sizes) > 2
    assert max(sizes) <= 10


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        ([[1, 2]], "builtins.list"),
        (pd.DataFrame([[1, 2]]), r"to_numpy"),
        (sp.lil_array(np.eye(2)), r"tocsr"),
        (np.ma.masked_equal(np.eye(2), 0), r"filled"),
        (np.ones(3), "rows × columns"),
        (np.eye(2, dtype=bool), "uint8"),
        (sp.csr_array(np.eye(2, dtype=bool)), "uint8"),
        (np.array([["a"]]), "astype"),
        (np.array([[None]]), "astype"),
        (np.eye(2, dtype=complex), "real part"),
    ],
)
def test_what_is_no_matrix_of_counts_is_refused(matrix, message: str) -> None:
    for read in (iter_blocks, scan):
        with pytest.raises(TypeError, match=message):
            read(matrix)


def test_block_rows_must_be_positive() -> None:
    with pytest.raises(ValueError, match="block_rows is 0"):
        iter_blocks(toy(), 0)


def reference(values: np.ndarray) -> CountSummary:
    values = np.asarray(values, np.float64)
    finite = np.isfinite(values)
    tests = [values < 0, ~finite, finite & (values != np.floor(values))]
    firsts = []
    for test in tests:
        at = np.argwhere(test)
        firsts.append(
            (int(at[0, 0]), int(at[0, 1]), float(values[tuple(at[0])])) if at.size else None
        )
    stored = values[finite & (values != 0)]
    return CountSummary(
        *values.shape,
        int(np.count_nonzero(values)),
        float(stored.max(initial=0)),
        *(int(test.sum()) for test in tests),
        *firsts,
    )


def same(summary: CountSummary, expected: CountSummary) -> bool:
    return repr(summary) == repr(expected)  # NaN equals NaN


@given(
    hnp.arrays(
        st.sampled_from(["f4", "f8"]),
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=8),
        elements=st.sampled_from([0, 0, 1, 2, 7, 0.5, -1, -0.25, np.nan, np.inf, -np.inf]),
    )
)
@settings(deadline=None, max_examples=100)
def test_scan_finds_what_there_is(values: np.ndarray) -> None:
    values[0, 0] = 1  # the largest value of a sparse matrix is that of what it stores
    expected = reference(values)
    for kind, convert in IN_MEMORY.items():
        matrix = convert(values)
        assert same(scan(matrix), expected), kind


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("kind", IN_MEMORY)
def test_scan_looks_at_every_chunk(
    kind: str, n_threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from glm.encode import _matrices

    monkeypatch.setattr(_matrices, "BLOCK_VALUES", 16)
    monkeypatch.setattr(_matrices, "_DENSE_VALUES", 32)
    values = toy("f8", (40, 9))
    values[37, 8], values[38, 0], values[20, 3], values[21, 1] = -1, -2, np.nan, 1.25
    assert same(scan(IN_MEMORY[kind](values), n_threads), reference(values))


def test_scan_counts_long_runs_without_overflow() -> None:
    values = np.full((3, 100_001), 0.5, "f4")
    values[2, -1] = 9
    summary = scan(values)
    assert (summary.n_stored, summary.n_fractional, summary.max) == (300_003, 300_002, 9)
    assert summary.first_fractional == (0, 0, 0.5)


def test_scan_ignores_room_beyond_the_last_row() -> None:
    matrix = sp.csr_array(np.eye(2))
    matrix.data = np.append(matrix.data, -5.0)
    matrix.indices = np.append(matrix.indices, 0).astype("i4")
    assert scan(matrix).n_negative == 0
