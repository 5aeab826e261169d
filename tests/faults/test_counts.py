"""Counts that are not counts, counts in unusual clothes, and counts that are not where expected."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData

import glm
from glm.encode import Ranker, encode_ranks, scan

pytestmark = pytest.mark.faults

TINY = "geneformer-tiny"
FORMATS = {"dense": np.asarray, "csr": sp.csr_matrix, "csc": sp.csc_matrix}
in_every_format = pytest.mark.parametrize("form", FORMATS)


def _in(form: str, adata: AnnData, values: np.ndarray | None = None) -> AnnData:
    """The cells with X in another format."""
    found = adata.copy()
    found.X = FORMATS[form](adata.X.toarray() if values is None else values)
    return found


# ---- values ------------------------------------------------------------------------------------


def _normalised(adata: AnnData) -> np.ndarray:
    counts = adata.X.toarray().astype(np.float64)
    return 1e4 * counts / counts.sum(axis=1, keepdims=True)


def test_01_log1p(cells, verb, refuses):
    logged = _in("csr", cells, np.log1p(_normalised(cells)))
    refuses(
        verb,
        logged,
        ValueError,
        "looks log-normalised",
        r"max \d",
        "100% of the values are not whole",
        "in cell 'cell0', gene 'ENSG",
        r"Pass layer=",
        "log_normalized=True",
    )
    logged.layers["raw_counts"] = cells.X.copy()
    refuses(verb, logged, ValueError, r"Pass layer='raw_counts', which looks like raw counts")


def test_01_normalised_without_log(cells, verb, refuses):
    message = refuses(
        verb, _in("csr", cells, _normalised(cells)), ValueError, "looks normalised", "Pass layer="
    )
    assert "log_normalized" not in str(message)


def test_01_log1p_undone_on_request(cells, embed, accepts, results):
    """The order does not depend on the scale, but for exact ties that rounding has parted."""
    logged = _in("csr", cells, np.log1p(_normalised(cells)))
    vocabulary = glm.models.get(TINY).vocabulary()
    medians = vocabulary.medians[[vocabulary.index[gene] for gene in cells.var_names]]
    _, expected = results(cells)
    _, ranks = results(logged, log_normalized=True)
    np.testing.assert_array_equal(ranks > 0, expected > 0)
    for row, counts in zip(ranks, cells.X.toarray(), strict=True):
        ranked = np.argsort(row)[np.sum(row == 0) :]
        quotients = (counts / medians)[ranked]
        assert (quotients[1:] <= quotients[:-1] * (1 + 1e-12)).all()
    adata = accepts(embed, logged, log_normalized=True)
    assert adata.uns["X_geneformer"]["log_normalized"] is True


def test_01_counts_are_not_logged(cells, verb, refuses):
    refuses(verb, cells, ValueError, r"all \d.* are whole", "Leave it out", log_normalized=True)


@pytest.fixture(scope="module")
def many_values() -> AnnData:
    """More stored values than two blocks hold: one million ones a thousand cells."""
    ids = glm.models.get(TINY).vocabulary().ids[:3_000]
    n_cells = 1_500
    indptr = np.arange(n_cells + 1) * len(ids)
    indices = np.tile(np.arange(len(ids)), n_cells)
    values = np.ones(indices.size, np.float32)
    matrix = sp.csr_matrix((values, indices, indptr), shape=(n_cells, len(ids)))
    return AnnData(matrix, var=pd.DataFrame(index=list(ids)))


@pytest.mark.parametrize("place", [0, 1_999_999, 2_000_000, 3_777_777, 4_499_999])
@pytest.mark.parametrize(
    ("value", "what"), [(-1.0, "1 negative"), (np.nan, "1 .*not finite"), (0.5, "not whole")]
)
def test_02_one_bad_value_among_millions(many_values, rank_encode, refuses, place, value, what):
    row, column = divmod(place, many_values.n_vars)
    where = f"in cell '{row}', gene '{many_values.var_names[column]}'"
    many_values.X.data[place] = value
    try:
        refuses(rank_encode, many_values, ValueError, what, where)
    finally:
        many_values.X.data[place] = 1.0


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int32", "int64", "float16", "float64"])
def test_03_whole_numbers_of_any_type(cells, results, dtype):
    expected = results(cells)
    same = cells.copy()
    same.X = cells.X.astype(dtype) if dtype != "float16" else cells.X.toarray().astype(dtype)
    for got, wanted in zip(results(same), expected, strict=True):
        np.testing.assert_array_equal(got, wanted)


@in_every_format
def test_04_negative_counts(cells, verb, refuses, form):
    values = cells.X.toarray()
    values[2, 7] = values[4, 1] = -3
    refuses(
        verb,
        _in(form, cells, values),
        ValueError,
        "2 negative values",
        f"-3 in cell 'cell2', gene '{cells.var_names[7]}'",
        "Pass layer=",
    )


@in_every_format
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_05_not_finite(cells, verb, refuses, form, value):
    values = cells.X.toarray()
    values[3, 2] = values[3, 9] = value
    refuses(
        verb,
        _in(form, cells, values),
        ValueError,
        "2 values that are not finite",
        f"in cell 'cell3', gene '{cells.var_names[2]}'",
        "mend or remove",
    )


@in_every_format
def test_06_empty_cell(cells, embed, rank_encode, accepts, results, form):
    values = cells.X.toarray()
    values[[1, 4]] = 0
    vectors, ranks = results(_in("csr", cells, values))
    adata = accepts(embed, _in(form, cells, values), unusable=[1, 4])
    np.testing.assert_array_equal(adata.obsm["X_geneformer"], vectors)
    adata = accepts(rank_encode, adata)
    np.testing.assert_array_equal(adata.layers["rank_geneformer"].toarray(), ranks)
    assert np.diff(adata.layers["rank_geneformer"].indptr)[[1, 4]].tolist() == [0, 0]
    assert adata.obs["n_ranked_geneformer"].iloc[[1, 4]].tolist() == [0, 0]
    assert adata.uns["rank_geneformer"]["n_cells_empty"] == 2


def test_06_all_cells_empty(cells, embed, accepts):
    accepts(embed, _in("csr", cells, 0 * cells.X.toarray()), unusable=range(6))


def test_06_cell_with_unknown_genes_only(cells, embed, accepts):
    """Not empty, but nothing in it that the model knows."""
    values = cells.X.toarray()
    values[5, 1:] = 0
    values[5, 0] = 9
    adata = _in("csr", cells, values)
    adata.var_names = ["ENSG99999999999", *cells.var_names[1:]]
    accepts(embed, adata, unusable=[5])


@pytest.mark.parametrize("kind", [sp.csr_matrix, sp.csc_matrix, sp.csr_array])
def test_07_stored_zeros(cells, embed, accepts, results, kind):
    everywhere = np.tile(np.arange(cells.n_vars, dtype=np.int32), cells.n_obs)
    with_zeros = sp.csr_matrix(
        (cells.X.toarray().ravel(), everywhere, np.arange(cells.n_obs + 1) * cells.n_vars),
        shape=cells.shape,
    )
    with_zeros.data[: cells.n_vars] = 0  # the first cell has nothing but stored zeros
    padded, clean = cells.copy(), cells.copy()
    padded.X = kind(with_zeros)
    assert padded.X.nnz == cells.n_obs * cells.n_vars
    clean.X = with_zeros.copy()
    clean.X.eliminate_zeros()
    for got, expected in zip(results(padded), results(clean), strict=True):
        np.testing.assert_array_equal(got, expected)
    accepts(embed, padded, unusable=[0])


def _scattered(matrix: sp.csr_matrix) -> sp.csr_matrix:
    """The same counts with every value in two parts, and the entries of a row in no order."""
    rng = np.random.default_rng(1)
    data, indices, indptr = [], [], [0]
    for row in range(matrix.shape[0]):
        part = slice(matrix.indptr[row], matrix.indptr[row + 1])
        values, columns = matrix.data[part], matrix.indices[part]
        both = np.concatenate([values - 1, np.ones_like(values)])
        order = rng.permutation(both.size)
        data.append(both[order])
        indices.append(np.tile(columns, 2)[order])
        indptr.append(indptr[-1] + both.size)
    parts = (np.concatenate(data), np.concatenate(indices), np.array(indptr))
    return sp.csr_matrix(parts, shape=matrix.shape)


def test_08_repeated_and_unsorted_indices(cells, verb, accepts, results):
    scattered = cells.copy()
    scattered.X = _scattered(cells.X)
    assert scattered.X.nnz == 2 * cells.X.nnz
    for got, expected in zip(results(scattered), results(cells), strict=True):
        np.testing.assert_array_equal(got, expected)
    accepts(verb, scattered)  # X is as it was


@in_every_format
@pytest.mark.parametrize(("dtype", "top"), [("uint8", 200), ("uint16", 50_000)])
def test_09_small_types_do_not_wrap(cells, results, form, dtype, top):
    """Two columns of one gene whose sum does not fit the type."""
    ids = list(cells.var_names)
    values = np.minimum(cells.X.toarray(), 3)
    values[:, :2] = top
    column = {"gene_ids": "ids"}
    narrow, wide = _in(form, cells, values.astype(dtype)), _in(form, cells, values)
    for adata in (narrow, wide):
        adata.var["ids"] = [ids[0], ids[0], *ids[2:]]
    _, ranks = results(narrow, **column)
    for got, expected in zip(results(narrow, **column), results(wide, **column), strict=True):
        np.testing.assert_array_equal(got, expected)
    assert (ranks[:, 0] == 1).all()  # the sum stands highest, a wrapped one would not
    assert (ranks[:, 1] == 0).all()


def test_09_repeated_entries_do_not_wrap(cells, results):
    values = np.full(cells.n_obs * 2, 200, np.uint8)
    repeated, plain = cells[:, :2].copy(), cells[:, :2].copy()
    indices, indptr = np.zeros(values.size, np.int32), np.arange(cells.n_obs + 1) * 2
    repeated.X = sp.csr_matrix((values, indices, indptr), shape=repeated.shape)
    repeated.X.data[1] = 100  # cell 0: 300 would wrap to 44
    plain.X = np.array([[300.0, 0]] + [[400.0, 0]] * (cells.n_obs - 1))
    for got, expected in zip(results(repeated), results(plain), strict=True):
        np.testing.assert_array_equal(got, expected)

    three = np.array([200, 200, 250], np.uint8)  # twice the first gene, then the second
    block = sp.csr_matrix((three, np.array([0, 0, 1]), np.array([0, 3])), shape=(1, 2))
    ranks, _ = encode_ranks(block, Ranker(np.ones(2), np.arange(2), np.arange(2)))
    assert ranks.toarray().tolist() == [[1, 2]]  # 400 stands above 250, a wrapped 144 would not


@in_every_format
@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32", "float64"])
def test_10_ties_follow_the_vocabulary(rank_encode, form, dtype):
    """Equal counts of genes with one median: whatever the columns' order, type and format."""
    vocabulary = glm.models.get(TINY).vocabulary()
    values, n = np.unique(vocabulary.medians, return_counts=True)
    same = np.flatnonzero(vocabulary.medians == values[n.argmax()])
    assert same.size > 10
    shuffled = np.random.default_rng(0).permutation(same)
    counts = FORMATS[form](np.full((1, same.size), 2, dtype))
    adata = AnnData(counts, var=pd.DataFrame(index=[vocabulary.ids[i] for i in shuffled]))
    with pytest.warns(glm.GlmWarning, match="a subset"):
        rank_encode(adata)
    ranks = adata.layers["rank_geneformer"].toarray()[0]
    assert [shuffled[i] for i in np.argsort(ranks)] == same.tolist()


@in_every_format
def test_11_permuted_genes(cells, results, form):
    order = np.random.default_rng(2).permutation(cells.n_vars)
    permuted = _in(form, cells[:, order].copy())
    vectors, ranks = results(cells)
    got_vectors, got_ranks = results(permuted)
    np.testing.assert_array_equal(got_vectors, vectors)
    np.testing.assert_array_equal(got_ranks, ranks[:, order])


# ---- kinds of matrix ---------------------------------------------------------------------------


def _dask(matrix: sp.csr_matrix, *, sparse: bool) -> object:
    array = pytest.importorskip("dask.array")
    if sparse:
        chunked = array.from_array(matrix.toarray(), chunks=(4, matrix.shape[1]))
        return chunked.map_blocks(sp.csr_matrix)
    return array.from_array(matrix.toarray(), chunks=(4, 1_000))


KINDS = {
    "csc_matrix": sp.csc_matrix,
    "csr_array": sp.csr_array,
    "csc_array": sp.csc_array,
    "dense, by columns": lambda matrix: np.asfortranarray(matrix.toarray()),
    "dask": lambda matrix: _dask(matrix, sparse=False),
    "dask of CSR": lambda matrix: _dask(matrix, sparse=True),
}


@pytest.mark.parametrize("place", ["X", "layer"])
@pytest.mark.parametrize("kind", KINDS)
def test_12_kinds_of_matrix(cells, embed, accepts, results, kind, place):
    other = cells.copy()
    if place == "X":
        other.X = KINDS[kind](cells.X)
    else:
        other.layers["counts"] = KINDS[kind](cells.X)
        other.X = None
    options = {} if place == "X" else {"layer": "counts"}
    for got, expected in zip(results(other, **options), results(cells), strict=True):
        np.testing.assert_array_equal(got, expected)
    accepts(embed, other, **options)  # still of that kind, nothing computed in place


def test_12_coo(cells):
    """AnnData takes no COO matrix; the encoder, which others may call, does."""
    ranker = Ranker(np.ones(cells.n_vars), np.arange(cells.n_vars), np.arange(cells.n_vars))
    expected, _ = encode_ranks(cells.X, ranker)
    for coo in (cells.X.tocoo(), sp.coo_array(cells.X)):
        ranks, _ = encode_ranks(coo, ranker)
        assert (ranks != expected).nnz == 0


@pytest.mark.parametrize("kind", ["lil", "dok", "bsr", "masked", "list"])
def test_12_unsupported_kinds(cells, kind, refuses):
    matrix = {
        "masked": lambda: np.ma.masked_array(cells.X.toarray()),
        "list": lambda: cells.X.toarray().tolist(),
    }.get(kind, lambda: cells.X.asformat(kind))()
    names = "CSR, CSC or COO.*dask"
    refuses(lambda: scan(matrix), None, TypeError, "Counts cannot be read from", names)


def test_12_unsupported_layer(cells, verb, refuses):
    cells.layers["counts"] = np.ma.masked_array(cells.X.toarray())
    if not isinstance(cells.layers["counts"], np.ma.MaskedArray):
        pytest.skip("this anndata keeps no masked layers")
    refuses(verb, cells, TypeError, "MaskedArray", "numpy array", "filled", layer="counts")


def test_13_indices_of_64_bits(cells, verb, accepts, results):
    """What a matrix of more than 2³¹ values has."""
    wide = cells.copy()
    wide.X.indices = cells.X.indices.astype(np.int64)
    wide.X.indptr = cells.X.indptr.astype(np.int64)
    assert wide.X.indices.dtype == wide.X.indptr.dtype == np.int64
    for got, expected in zip(results(wide), results(cells), strict=True):
        np.testing.assert_array_equal(got, expected)
    accepts(verb, wide)
    assert wide.X.indices.dtype == np.int64


def test_13_offsets_of_sentences_have_64_bits(cells):
    ranker = Ranker(np.ones(cells.n_vars), np.arange(cells.n_vars), np.arange(cells.n_vars))
    _, offsets, _ = ranker.sentences(cells.X)
    assert offsets.dtype == np.int64


# ---- where the counts are ----------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["cells", "genes"])
@pytest.mark.parametrize("name", ["embed", "rank_encode", "map_genes"])
def test_14_nothing_left(cells, refuses, monkeypatch, name, shape):
    """Found out before a file of the model is looked for, let alone read."""

    def forbidden(*_, **__):
        raise AssertionError("the model was asked for")

    monkeypatch.setattr("glm.models.spec.published_vocabulary", forbidden)
    monkeypatch.setattr("glm.tl._embed_cells.load", forbidden)
    adata = cells[:0].copy() if shape == "cells" else cells[:, :0].copy()
    verb = {**vars(glm.tl), **vars(glm.pp)}[name]
    found = {"cells": "0 cells and 3,000 genes", "genes": "6 cells and 0 genes"}[shape]
    for model in ("geneformer-v2-104m", TINY):
        refuses(verb, adata, ValueError, found, "expected at least one", model=model)


def test_15_no_x(cells, verb, refuses, accepts, results):
    expected = results(cells)
    cells.layers["raw_counts"], cells.layers["soupx"] = cells.X, cells.X.copy()
    cells.X = None
    refuses(verb, cells, ValueError, "adata.X is empty", r"layer=.*raw_counts, soupx")
    for got, wanted in zip(results(cells, layer="raw_counts"), expected, strict=True):
        np.testing.assert_array_equal(got, wanted)
    accepts(verb, cells, layer="raw_counts")


def test_15_no_x_and_no_layer(cells, verb, refuses):
    cells.X = None
    refuses(verb, cells, ValueError, "adata.X is empty", "no layers")


def test_15_counts_in_raw(cells, verb, refuses, accepts, results):
    expected = results(cells)
    cells.raw = cells.copy()
    cells.X = sp.csr_matrix(np.log1p(cells.X.toarray() * 1.7))
    refuses(verb, cells, ValueError, "log-normalised", "Pass use_raw=True")
    for got, wanted in zip(results(cells, use_raw=True), expected, strict=True):
        np.testing.assert_array_equal(got, wanted)
    accepts(verb, cells, use_raw=True)


def test_15_raw_of_other_genes(cells, rank_encode, refuses):
    """Ranks of raw's genes have no place in this object's layers."""
    subset = cells.copy()
    subset.raw = cells
    subset = subset[:, :2_900].copy()
    patterns = (r"3,000", r"2,900", r"adata\.raw\.to_adata\(\)")
    refuses(rank_encode, subset, ValueError, *patterns, use_raw=True)


def test_15_no_raw_and_both(cells, verb, refuses):
    refuses(verb, cells, ValueError, "adata.raw is not set", use_raw=True)
    cells.layers["counts"] = cells.X.copy()
    refuses(verb, cells, ValueError, "not both", use_raw=True, layer="counts")


def test_16_missing_layer(cells, verb, refuses):
    refuses(verb, cells, KeyError, "no layer 'counts'", "no layers", layer="counts")
    cells.layers["spliced"], cells.layers["unspliced"] = cells.X.copy(), cells.X.copy()
    refuses(verb, cells, KeyError, "'counts'.*has spliced, unspliced", layer="counts")


@pytest.mark.parametrize("place", ["X", "layer"])
@pytest.mark.parametrize("dtype", ["bool", "object", "U4", "complex128"])
def test_17_not_numbers(cells, verb, refuses, dtype, place):
    values = cells.X.toarray().astype(np.int64).astype(dtype)
    if place == "X":
        adata, options = AnnData(values, obs=cells.obs, var=cells.var), {}
    else:
        adata, options = cells, {"layer": "odd"}
        adata.layers["odd"] = values
    patterns = ("integers or floating-point", rf"of type {np.dtype(dtype)}", "astype|real part")
    refuses(verb, adata, TypeError, *patterns, **options)


@pytest.mark.parametrize("form", ["csr", "csc"])
def test_17_not_numbers_sparse(cells, verb, refuses, form):
    cells.X = FORMATS[form](cells.X.astype(bool))
    refuses(verb, cells, TypeError, "of type bool", "astype")


def test_18_read_only_memory_map(cells, verb, accepts, results, tmp_path):
    path = tmp_path / "counts.bin"
    cells.X.toarray().tofile(path)
    matrix = np.memmap(path, np.float32, mode="r", shape=cells.shape)
    mapped = AnnData(matrix, obs=cells.obs, var=cells.var)
    assert not mapped.X.flags.writeable
    for got, expected in zip(results(mapped), results(cells), strict=True):
        np.testing.assert_array_equal(got, expected)
    accepts(verb, mapped)
    assert isinstance(mapped.X, np.memmap)


@pytest.mark.parametrize("form", ["csr", "csc"])
def test_18_read_only_sparse(cells, verb, accepts, results, tmp_path: Path, form):
    matrix = FORMATS[form](cells.X)
    for name in ("data", "indices", "indptr"):
        path = tmp_path / name
        getattr(matrix, name).tofile(path)
        setattr(matrix, name, np.memmap(path, getattr(matrix, name).dtype, mode="r"))
    mapped = AnnData(matrix, obs=cells.obs, var=cells.var)
    assert not mapped.X.data.flags.writeable
    for got, expected in zip(results(mapped), results(cells), strict=True):
        np.testing.assert_array_equal(got, expected)
    accepts(verb, mapped)


def test_18_read_only_with_unsorted_indices(cells, results):
    scattered = cells.copy()
    scattered.X = _scattered(cells.X)
    for name in ("data", "indices", "indptr"):
        getattr(scattered.X, name).flags.writeable = False
    for got, expected in zip(results(scattered), results(cells), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_the_tiny_model_is_not_changed(model, cells, embed, accepts):
    """The model is the caller's too."""
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    accepts(embed, cells)
    assert all((before[n] == t).all() for n, t in model.network.state_dict().items())
    assert not model.network.training
