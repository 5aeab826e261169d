"""Any rows of any container, and fingerprints of what it holds."""

from __future__ import annotations

import anndata as ad
import dask.array as da
import h5py
import numpy as np
import pytest
import scipy.sparse as sp
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from glm.encode import _matrices
from glm.encode.rows import RowReader, fingerprint

COUNTS = np.random.default_rng(0).poisson(0.6, (37, 11)).astype(np.float32)
COUNTS[4] = 0


def _repeated() -> sp.csr_array:
    """The counts with a part of each value in a second entry, not in order."""
    half = sp.coo_array(np.floor(COUNTS / 2))
    rest = sp.coo_array(COUNTS - np.floor(COUNTS / 2))
    row, column = np.concatenate([rest.row, half.row]), np.concatenate([rest.col, half.col])
    order = np.argsort(row, kind="stable")
    indptr = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(COUNTS)))])
    data = np.concatenate([rest.data, half.data])[order]
    return sp.csr_array((data, column[order].astype(np.int32), indptr), shape=COUNTS.shape)


def _in_file(folder, kind):
    if kind in ("h5py", "h5py chunked"):
        chunks = (5, 4) if kind == "h5py chunked" else None
        return h5py.File(folder / "x.h5", "w").create_dataset("x", data=COUNTS, chunks=chunks)
    if kind == "zarr":
        array = zarr.create_array(folder / "x.zarr", shape=COUNTS.shape, chunks=(5, 4), dtype="f4")
        array[:] = COUNTS
        return array
    form = sp.csc_matrix if kind == "backed csc" else sp.csr_matrix
    group = (
        zarr.open_group(folder / "s.zarr", mode="w")
        if "zarr" in kind
        else h5py.File(folder / "s.h5", "w")
    )
    ad.io.write_elem(group, "x", form(COUNTS))
    return ad.io.sparse_dataset(group["x"])


KINDS = {
    "numpy": lambda folder: COUNTS,
    "fortran": lambda folder: np.asfortranarray(COUNTS),
    "int64": lambda folder: COUNTS.astype(np.int64),
    "csr_matrix": lambda folder: sp.csr_matrix(COUNTS),
    "csc_array": lambda folder: sp.csc_array(COUNTS),
    "coo_array": lambda folder: sp.coo_array(COUNTS),
    "repeated": lambda folder: _repeated(),
    "dask": lambda folder: da.from_array(COUNTS, chunks=((7, 0, 20, 10), (5, 6))),
    "dask of csr": lambda folder: da.from_array(COUNTS, chunks=(9, 11)).map_blocks(sp.csr_matrix),
    **{
        kind: lambda folder, kind=kind: _in_file(folder, kind)
        for kind in ("h5py", "h5py chunked", "zarr", "backed csr", "backed csc", "zarr csr")
    },
}


@pytest.mark.parametrize("kind", KINDS)
def test_any_rows(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(_matrices, "_DENSE_VALUES", 120)  # bands of ten rows
    reader = RowReader(KINDS[kind](tmp_path))
    for start, stop in [(0, 37), (0, 0), (3, 6), (4, 5), (6, 29), (30, 37), (2, 9), (37, 37)]:
        rows = reader.rows(start, stop)
        assert isinstance(rows, sp.csr_array)
        assert rows.has_canonical_format
        np.testing.assert_array_equal(rows.toarray(), COUNTS[start:stop])


def test_rows_that_are_not_there():
    with pytest.raises(ValueError, match="Rows 30 to 38 are not in a matrix of 37 rows"):
        RowReader(COUNTS).rows(30, 38)


def test_read_in_order_each_chunk_is_computed_once():
    made = []

    def chunk(block_info=None):
        made.append(block_info[None]["chunk-location"])
        return np.ones(block_info[None]["chunk-shape"])

    matrix = da.map_blocks(chunk, chunks=((10, 10, 10), (4,)), dtype=float, meta=np.ones((0, 0)))
    reader = RowReader(matrix)
    made.clear()
    for start in range(0, 30, 3):
        assert reader.rows(start, start + 3).sum() == 12
    assert sorted(made) == [(0, 0), (1, 0), (2, 0)]


def test_rows_in_memory_are_views():
    matrix = sp.csr_matrix(COUNTS)
    assert np.shares_memory(RowReader(matrix).rows(3, 20).data, matrix.data)


@pytest.mark.parametrize("kind", KINDS)
def test_fingerprint_of_the_same_counts(kind, tmp_path):
    assert fingerprint(KINDS[kind](tmp_path)) == fingerprint(COUNTS)


def test_fingerprint_does_not_see_zeros():
    matrix = sp.csr_matrix(COUNTS)
    matrix.data[::3] = 0
    dense = matrix.toarray()
    assert fingerprint(matrix) == fingerprint(dense)
    dense[dense == 0] = -0.0
    assert fingerprint(matrix) == fingerprint(dense)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 36), st.integers(0, 10), st.integers(0, 36), st.integers(0, 10))
def test_fingerprint_sees_every_change(row, column, other_row, other_column):
    known, changed = fingerprint(COUNTS), COUNTS.copy()
    changed[row, column] += 1
    assert fingerprint(changed) != known
    swapped = COUNTS.copy()
    swapped[row, column], swapped[other_row, other_column] = (
        swapped[other_row, other_column],
        swapped[row, column],
    )
    assert (fingerprint(swapped) == known) == np.array_equal(swapped, COUNTS)


def test_fingerprint_sees_the_shape():
    assert fingerprint(np.zeros((3, 4))) != fingerprint(np.zeros((4, 3)))
    wider = np.hstack([COUNTS, np.zeros((37, 1), np.float32)])
    assert fingerprint(wider) != fingerprint(COUNTS)
