"""The rank encoding against its definition in a few lines of numpy."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from glm.encode import Ranker, encode_ranks, iter_blocks

TIED_MEDIANS = [0.5, 1.0, 2.0, 3.0, 1 / 3]


def reference(values: np.ndarray, ranker: Ranker) -> list[list[int]]:
    """Each row's columns by count / median downwards, then by the vocabulary."""
    values = np.asarray(values, np.float64)
    if ranker.log_normalized:
        values = np.expm1(values)
    counts = np.zeros_like(values)
    for column, first in enumerate(ranker.target):
        if first >= 0:
            counts[:, first] += values[:, column]
    rows = []
    for row in counts:
        stored = np.flatnonzero(row)
        quotient = row[stored] / ranker.medians[stored]
        rows.append(stored[np.lexsort((ranker.order[stored], -quotient))].tolist())
    return rows


def sentences(matrix, ranker: Ranker, limit: int | None = None) -> list[list[int]]:
    rows = []
    for _, block in iter_blocks(matrix):
        columns, indptr, n_ranked = ranker.sentences(block, limit)
        assert (columns.dtype, indptr.dtype, n_ranked.dtype) == (np.int32, np.int64, np.int32)
        assert len(n_ranked) == block.shape[0]
        expected = n_ranked if limit is None else np.minimum(n_ranked, limit)
        np.testing.assert_array_equal(np.diff(indptr), expected)
        rows += [part.tolist() for part in np.split(columns, indptr[1:-1])]
    return rows


def read_ranks(ranks: sp.csr_matrix | sp.csr_array) -> list[list[int]]:
    """The sentences that a rank layer stands for, and that it is one."""
    assert ranks.has_canonical_format
    rows = []
    for lo, hi in zip(ranks.indptr[:-1], ranks.indptr[1:], strict=True):
        rank, column = ranks.data[lo:hi], ranks.indices[lo:hi]
        assert sorted(rank.tolist()) == list(range(1, hi - lo + 1))
        rows.append(column[np.argsort(rank)].tolist())
    return rows


def check(values: np.ndarray, ranker: Ranker, matrix=None, n_threads: int = 1) -> None:
    matrix = values if matrix is None else matrix
    expected = reference(values, ranker)
    assert sentences(matrix, ranker) == expected
    ranks, n_ranked = encode_ranks(matrix, ranker, n_threads=n_threads)
    assert read_ranks(ranks) == expected
    assert n_ranked.dtype == np.int32
    assert n_ranked.tolist() == [len(row) for row in expected]
    assert isinstance(ranks, sp.csr_matrix)
    assert ranks.shape == values.shape


def make_ranker(n_columns: int, seed: int = 0, *, shared: bool = False, **options) -> Ranker:
    """Medians with many ties, a shuffled vocabulary, some columns that are no gene."""
    rng = np.random.default_rng(seed)
    target = np.arange(n_columns)
    target[rng.random(n_columns) < 0.2] = -1
    known = np.flatnonzero(target >= 0)
    if shared and len(known) > 3:
        several = rng.choice(known, len(known) // 2, replace=False)
        firsts = np.sort(several)[: max(len(several) // 3, 1)]
        for column in several:
            earlier = firsts[firsts <= column]
            if column not in firsts and earlier.size:
                target[column] = rng.choice(earlier)
    medians = rng.choice(TIED_MEDIANS, n_columns)
    medians[target < 0] = np.nan
    order = rng.permutation(n_columns)
    order[target >= 0] = order[target[target >= 0]]
    return Ranker(medians, order, target, **options)


def make_counts(shape: tuple[int, int], seed: int = 0, largest: int = 6) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(1, largest + 1, shape) * (rng.random(shape) < 0.5)


@st.composite
def counts_and_rankers(draw: st.DrawFn) -> tuple[np.ndarray, Ranker]:
    shape = draw(st.integers(1, 4)), draw(st.integers(1, 60))
    seed = draw(st.integers(0, 2**31))
    largest = draw(st.sampled_from([1, 3, 50, 10_000]))
    scale = draw(st.sampled_from([1, 1, 0.25, 1 / 3]))
    values = make_counts(shape, seed, largest) * scale
    ranker = make_ranker(shape[1], seed, shared=draw(st.booleans()))
    if draw(st.booleans()):
        rng = np.random.default_rng(seed)
        spread = np.where(ranker.target >= 0, rng.lognormal(0, 2, shape[1]), np.nan)
        ranker = Ranker(spread, ranker.order, ranker.target)
    return values, ranker


@given(counts_and_rankers())
@settings(deadline=None, max_examples=300)
def test_any_counts_follow_the_definition(drawn: tuple[np.ndarray, Ranker]) -> None:
    check(*drawn)


@given(st.integers(0, 10_000), st.integers(1, 40))
@settings(deadline=None, max_examples=50)
def test_limit_cuts_the_sentence_and_not_the_count(seed: int, limit: int) -> None:
    values, ranker = make_counts((3, 50), seed), make_ranker(50, seed)
    expected = [row[:limit] for row in reference(values, ranker)]
    assert sentences(values, ranker, limit) == expected


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("width", [3, 30, 300, 3_000])
def test_long_and_short_rows(width: int, shared: bool) -> None:
    check(make_counts((4, width), width), make_ranker(width, width, shared=shared))


@pytest.mark.parametrize("shared", [False, True])
def test_rows_of_nothing_but_ties(shared: bool) -> None:
    ranker = make_ranker(2_000, 5, shared=shared)
    check(np.ones((2, 2_000)), ranker)
    equal = Ranker(np.where(ranker.target >= 0, 1.0, np.nan), ranker.order, ranker.target)
    check(make_counts((2, 2_000)), equal)


def test_quotients_that_differ_in_the_last_bit_only() -> None:
    values = np.tile(np.nextafter(3.0, [2.0, 4.0, 3.0]), 40)[np.newaxis]
    values = np.concatenate([values, [[1e-12]]], axis=1)
    order = np.random.default_rng(0).permutation(121)
    check(values, Ranker(np.ones(121), order, np.arange(121)))


def test_quotients_over_the_whole_range_of_floats() -> None:
    rng = np.random.default_rng(0)
    values = np.exp2(rng.uniform(-300, 300, (3, 500)))
    medians = np.exp2(rng.uniform(-800, 800, 500))
    medians[:3] = 5e-324, 1e308, 1e-310  # quotients that overflow, or vanish
    check(values, Ranker(medians, rng.permutation(500), np.arange(500)))


@pytest.mark.parametrize(
    "dtype", ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"]
)
@pytest.mark.parametrize("shared", [False, True])
def test_dtypes(dtype: str, shared: bool) -> None:
    values = make_counts((5, 80), largest=127).astype(dtype)
    check(values, make_ranker(80, shared=shared))


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize(
    "convert",
    [
        sp.csr_matrix,
        sp.csr_array,
        sp.csc_matrix,
        sp.csc_array,
        sp.coo_matrix,
        sp.coo_array,
        np.asfortranarray,
        np.asmatrix,
    ],
)
def test_kinds_of_matrix(convert, n_threads: int) -> None:
    values = make_counts((9, 60)).astype("f4")
    check(values, make_ranker(60), convert(values), n_threads)


def test_memmap(tmp_path: Path) -> None:
    values = make_counts((9, 60)).astype("f4")
    np.save(tmp_path / "counts.npy", values)
    check(values, make_ranker(60), np.load(tmp_path / "counts.npy", mmap_mode="r"))


@pytest.mark.parametrize("chunks", [(4, 60), (3, 25)])
@pytest.mark.parametrize("convert", [np.asarray, sp.csr_matrix])
def test_dask(convert, chunks: tuple[int, int]) -> None:
    da = pytest.importorskip("dask.array")
    values = make_counts((9, 60)).astype("f4")
    check(values, make_ranker(60), da.from_array(values, chunks=chunks).map_blocks(convert))


def test_64_bit_indices() -> None:
    values = make_counts((9, 60))
    matrix = sp.csr_array(values)
    matrix.indices, matrix.indptr = matrix.indices.astype("i8"), matrix.indptr.astype("i8")
    check(values, make_ranker(60), matrix)


def test_read_only_arrays() -> None:
    values = make_counts((9, 60)).astype("f4")
    matrix = sp.csr_array(values)
    for part in (matrix.data, matrix.indices, matrix.indptr):
        part.flags.writeable = False
    check(values, make_ranker(60, shared=True), matrix)


def test_the_ranker_keeps_its_own_arrays() -> None:
    medians, values = np.ones(20), make_counts((3, 20))
    ranker = Ranker(medians, np.arange(20), np.arange(20))
    expected = sentences(values, ranker)
    medians[:10] = 0.001
    assert sentences(values, ranker) == expected


def test_explicit_zeros_have_no_rank() -> None:
    matrix = sp.csr_array(make_counts((6, 40)).astype("f4"))
    matrix.data[::3] = 0
    matrix.data[1::7] = -0.0
    for shared in (False, True):
        check(matrix.toarray(), make_ranker(40, shared=shared), matrix)


def test_unsorted_and_repeated_entries() -> None:
    data = np.array([1, 200, 100, 5, 3], "u1")
    matrix = sp.csr_matrix((data, [3, 1, 1, 0, 2], [0, 3, 5]), shape=(2, 4))
    values = np.array([[0, 300, 0, 1], [5, 0, 3, 0]])
    ranker = Ranker([1.0, 250.0, 2.0, 1.0], np.arange(4), np.arange(4))
    check(values, ranker, matrix)
    columns, _, _ = ranker.sentences(matrix)  # a block need not be canonical
    assert columns.tolist() == [1, 3, 0, 2]
    assert read_ranks(ranker.ranks(matrix)) == [[1, 3], [0, 2]]
    assert matrix.indices.tolist() == [3, 1, 1, 0, 2]


def test_shared_genes_are_summed_without_wrapping_and_stand_at_the_first() -> None:
    values = np.array([[0, 200, 1, 100, 3], [7, 0, 1, 0, 200]], "u1")
    target = np.array([0, 1, 2, 1, 0])  # by hand: 0 with 4, 1 with 3
    ranker = Ranker([1.0, 100.0, 1.0, 100.0, 1.0], [5, 1, 2, 1, 5], target)
    assert sentences(values, ranker) == [[1, 0, 2], [0, 2]]  # 300/100 = 3/1, 1; 207, 1
    ranks, _ = encode_ranks(values, ranker)
    assert ranks.toarray().tolist() == [[2, 1, 3, 0, 0], [1, 0, 2, 0, 0]]


@pytest.mark.parametrize("dtype", ["i8", "u8", "f8", "f4"])
def test_huge_counts(dtype: str) -> None:
    rng = np.random.default_rng(0)
    values = np.exp2(rng.uniform(0, 40, (5, 200))).astype(dtype)
    values[:, ::2] %= 4
    check(values, make_ranker(200))


def test_empty_rows_columns_and_matrices() -> None:
    values = make_counts((6, 30))
    values[[0, 3, 5]] = 0
    check(values, make_ranker(30))
    ranks, n_ranked = encode_ranks(sp.csr_array((0, 30)), make_ranker(30))
    assert (ranks.shape, len(n_ranked)) == ((0, 30), 0)
    nothing = Ranker(np.full(30, np.nan), np.zeros(30), np.full(30, -1))
    check(values, nothing)


@pytest.mark.parametrize(
    ("width", "dtype"), [(255, np.uint8), (256, np.uint16), (65_536, np.uint32)]
)
def test_smallest_type_holds_the_ranks(width: int, dtype: type) -> None:
    ranker = Ranker(np.ones(width), np.arange(width)[::-1].copy(), np.arange(width))
    ranks, n_ranked = encode_ranks(np.ones((1, width), "f4"), ranker)
    assert ranks.dtype == dtype
    assert ranks.toarray()[0].tolist() == list(range(width, 0, -1))
    assert n_ranked.tolist() == [width]
    wide = np.uint16 if width <= 65_535 else np.uint32
    assert ranker.ranks(sp.csr_array(np.ones((1, width)))).dtype == wide


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_columns_does_not_matter(seed: int) -> None:
    values, ranker = make_counts((4, 80), seed), make_ranker(80, seed)
    shuffle = np.random.default_rng(seed).permutation(80)
    target = np.where(ranker.target[shuffle] >= 0, np.arange(80), -1)
    shuffled = Ranker(ranker.medians[shuffle], ranker.order[shuffle], target)
    found = [shuffle[row].tolist() for row in sentences(values[:, shuffle], shuffled)]
    assert found == sentences(values, ranker)


@pytest.mark.parametrize("seed", range(5))
def test_scaling_a_cell_by_a_power_of_two_changes_nothing(seed: int) -> None:
    values, ranker = make_counts((4, 80), seed).astype("f8"), make_ranker(80, seed)
    assert sentences(values * 0.125, ranker) == sentences(values, ranker)


def test_threads_and_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from glm.encode import _matrices

    values, ranker = sp.csr_array(make_counts((100, 90))), make_ranker(90, shared=True)
    whole, n_whole = encode_ranks(values, ranker)
    monkeypatch.setattr(_matrices, "BLOCK_VALUES", 300)
    for n_threads in (1, 2, 7):
        done: list[int] = []
        ranks, n_ranked = encode_ranks(values, ranker, n_threads=n_threads, progress=done.append)
        np.testing.assert_array_equal(ranks.toarray(), whole.toarray())
        np.testing.assert_array_equal(n_ranked, n_whole)
        assert len(done) > 2
        assert sum(done) == 100


def test_log_normalized_values_keep_the_order_of_their_counts() -> None:
    counts = make_counts((6, 90), largest=40).astype("f8")
    logs = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4)
    for shared in (False, True):
        check(logs, make_ranker(90, shared=shared, log_normalized=True))
    # With medians that leave no ties the order is that of the counts.
    medians = np.random.default_rng(1).lognormal(0, 1, 90)
    plain = Ranker(medians, np.arange(90), np.arange(90))
    logged = Ranker(medians, np.arange(90), np.arange(90), log_normalized=True)
    by_count = reference(counts, plain)
    for found, expected, row in zip(sentences(logs, logged), by_count, counts, strict=True):
        quotient = row / medians
        np.testing.assert_allclose(quotient[found], quotient[expected], rtol=1e-12)


def test_a_ranker_can_be_copied_to_another_process() -> None:
    ranker = make_ranker(40, shared=True)
    again = copy.deepcopy(ranker)  # by the same means
    values = make_counts((3, 40))
    assert sentences(values, again) == sentences(values, ranker)


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("n_threads", [1, 2])
def test_values_without_a_rank_are_refused_with_their_place(
    bad: float, shared: bool, n_threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from glm.encode import _matrices

    monkeypatch.setattr(_matrices, "BLOCK_VALUES", 50)
    values, ranker = make_counts((20, 30)).astype("f4"), make_ranker(30, shared=shared)
    unknown = np.flatnonzero(ranker.target < 0)[0]
    values[2, unknown] = bad  # no gene: not looked at
    for column in np.flatnonzero(ranker.target >= 0):
        broken = values.copy()
        broken[13, column] = bad
        with pytest.raises(ValueError, match=f"row 13, column {column} is {bad}"):
            encode_ranks(sp.csr_array(broken), ranker, n_threads=n_threads)


def test_log_values_beyond_the_range_are_refused() -> None:
    ranker = Ranker([1.0], [0], [0], log_normalized=True)
    with pytest.raises(ValueError, match="row 0, column 0"):
        ranker.ranks(sp.csr_array([[1000.0]]))


@pytest.mark.parametrize(
    ("medians", "order", "target", "message"),
    [
        ([1.0], [0, 1], [0, 1], "one value a column"),
        ([1.0, np.nan], [0, 1], [0, 1], "column 1, nan"),
        ([1.0, 0.0], [0, 1], [0, 1], "positive and finite"),
        ([1.0, -2.0], [0, 1], [0, 1], "positive and finite"),
        ([1.0, 1.0], [3, 3], [0, 1], "own place"),
        ([1.0, 1.0], [0, -1], [0, 1], "own place"),
        ([1.0, 1.0], [0, 0], [1, 1], r"target\[0\] is 1"),
        ([1.0, 1.0, 1.0], [0, 0, 0], [0, 0, 1], r"target\[2\] is 1"),
        ([1.0, 1.0], [0, 1], [0, -2], r"target\[1\] is -2"),
    ],
)
def test_genes_that_make_no_order_are_refused(medians, order, target, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Ranker(medians, order, target)


def test_blocks_of_the_wrong_kind_are_refused() -> None:
    ranker = make_ranker(4)
    with pytest.raises(ValueError, match="5 columns, the ranker 4"):
        ranker.ranks(sp.csr_array((2, 5)))
    with pytest.raises(TypeError, match="csc_array"):
        ranker.ranks(sp.csc_array((2, 4)))
    with pytest.raises(TypeError, match="ndarray"):
        ranker.sentences(np.ones((2, 4)))
    with pytest.raises(ValueError, match="limit is 0"):
        ranker.sentences(sp.csr_array((2, 4)), 0)


@pytest.mark.parametrize("name", ["gc30M", "gc104M"])
@pytest.mark.parametrize("file", ["bmfm_cellxgene", "bmfm_scp1884", "scvi_pbmc_10k_protein_v3"])
def test_real_cells_with_the_original_dictionaries(test_data: Path, file: str, name: str) -> None:
    import anndata as ad

    from glm.models.vocabulary import GeneVocabulary

    vocabulary = GeneVocabulary.from_dictionaries(test_data / "geneformer", name)
    adata = ad.read_h5ad(test_data / "cells" / f"{file}.h5ad")
    place = {gene: i for i, gene in enumerate(vocabulary.ids)}
    order = np.array([place.get(vocabulary.symbols.get(s, ""), -1) for s in adata.var_names])
    known = order >= 0
    assert known.sum() > 10_000
    medians = np.where(known, np.asarray(vocabulary.medians)[order], np.nan)
    first: dict[int, int] = {}
    target = [first.setdefault(int(o), c) if o >= 0 else -1 for c, o in enumerate(order)]
    counts = sp.csr_matrix(adata.X)[:200]
    check(counts.toarray(), Ranker(medians, order, target), counts, n_threads=2)
