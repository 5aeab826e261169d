"""``glm.tl.aggregate_peaks``, by hand and against the formula on dense arrays."""

from __future__ import annotations

import tracemalloc

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import glm
from glm.tl._aggregate_peaks import count_cells, weighted_means

WIDTH = 5


def cells_of(counts, vectors, key="dnabert"):
    adata = ad.AnnData(counts)
    adata.varm[f"X_{key}"] = np.asarray(vectors, np.float32)
    return adata


@pytest.fixture
def atac():
    rng = np.random.default_rng(2)
    counts = rng.poisson(0.3, (30, 40)).astype(np.float32)
    counts[7] = 0
    counts[:, 3] = 0
    counts[0, 0] = 1
    adata = cells_of(sp.csr_matrix(counts), rng.normal(3, 1, (40, WIDTH)))
    adata.varm["X_dnabert"][5] = np.nan
    return adata


def by_formula(counts, vectors, used):
    """TF-IDF with its denominator, then the mean weighted by it."""
    counts, vectors = counts[:, used].astype(np.float64), vectors[used].astype(np.float64)
    open_in = (counts > 0).sum(axis=0)
    frequency = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    weights = frequency * np.log(1 + len(counts) / open_in)
    with np.errstate(invalid="ignore"):
        return weights @ (vectors - vectors.mean(axis=0)) / weights.sum(axis=1, keepdims=True)


def test_by_hand():
    # Three cells. The first peak is open in two, the others in one: log(1 + 3/2), log(1 + 3).
    common, rare = np.log(2.5), np.log(4)
    adata = cells_of(np.array([[1, 0, 2], [4, 0, 0], [0, 1, 0]]), [[1, 0], [0, 1], [2, 2]])
    glm.tl.aggregate_peaks(adata)
    first = (1 * common * np.array([0, -1]) + 2 * rare * np.array([1, 1])) / (common + 2 * rare)
    found = adata.obsm["X_dnabert_peaks"]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [first, [0, -1], [-1, 0]], atol=1e-6)
    assert adata.obs["dnabert_peaks_ok"].tolist() == [True, True, True]
    record = adata.uns["X_dnabert_peaks"]
    assert record["slots"] == ["obsm/X_dnabert_peaks", "obs/dnabert_peaks_ok"]
    assert record["n_peaks_used"] == 3


def test_depth_does_not_matter():
    once = cells_of(np.array([[1, 0, 2], [2, 1, 0]]), np.eye(3))
    deep = cells_of(np.array([[7, 0, 14], [2, 1, 0]]), np.eye(3))
    for adata in (once, deep):
        glm.tl.aggregate_peaks(adata)
    np.testing.assert_allclose(once.obsm["X_dnabert_peaks"], deep.obsm["X_dnabert_peaks"])


def test_against_the_formula(atac):
    used = np.ones(40, bool)
    used[[3, 5]] = False  # open in no cell; without an embedding
    wanted = by_formula(atac.X.toarray(), atac.varm["X_dnabert"], used)
    with pytest.warns(glm.GlmWarning, match=r"1 of 30 \(3%\) cells have no count .*\(7\)"):
        glm.tl.aggregate_peaks(atac)
    np.testing.assert_allclose(atac.obsm["X_dnabert_peaks"], wanted, atol=2e-6)
    assert np.isnan(wanted[7]).all()
    assert np.flatnonzero(~atac.obs["dnabert_peaks_ok"]).tolist() == [7]
    record = atac.uns["X_dnabert_peaks"]
    assert [record[f"n_{n}"] for n in ("peaks_used", "peaks_open_in_no_cell")] == [38, 1]
    assert record["n_cells_unusable"] == 1


def test_flagged_peaks_are_left_out(atac):
    atac.var["dnabert_ok"] = True
    atac.var.iloc[11, 0] = False
    used = np.ones(40, bool)
    used[[3, 5, 11]] = False
    with pytest.warns(glm.GlmWarning):
        glm.tl.aggregate_peaks(atac)
    wanted = by_formula(atac.X.toarray(), atac.varm["X_dnabert"], used)
    np.testing.assert_allclose(atac.obsm["X_dnabert_peaks"], wanted, atol=2e-6)


def test_40_a_peak_of_which_nothing_is_known_is_left_out(atac):
    """A column that can hold NA, as after joining objects of different peaks."""
    atac.var["dnabert_ok"] = pd.array([True] * 40, dtype="boolean")
    atac.var.loc[atac.var_names[11], "dnabert_ok"] = pd.NA
    used = np.ones(40, bool)
    used[[3, 5, 11]] = False
    with pytest.warns(glm.GlmWarning):
        glm.tl.aggregate_peaks(atac)
    wanted = by_formula(atac.X.toarray(), atac.varm["X_dnabert"], used)
    np.testing.assert_allclose(atac.obsm["X_dnabert_peaks"], wanted, atol=2e-6)


@pytest.mark.filterwarnings("ignore::glm.GlmWarning")
@pytest.mark.parametrize("kind", ["csc", "dense", "integers", "dask", "file", "layer"])
def test_wherever_the_counts_are(atac, kind, tmp_path):
    glm.tl.aggregate_peaks(atac)
    wanted = atac.obsm["X_dnabert_peaks"].copy()
    other, options = atac.copy(), {}
    if kind == "csc":
        other.X = sp.csc_matrix(atac.X)
    elif kind == "dense":
        other.X = atac.X.toarray()
    elif kind == "integers":
        other.X = atac.X.astype(np.uint8)
    elif kind == "dask":
        import dask.array as da

        other.X = da.from_array(atac.X.toarray(), chunks=(7, 40))
    elif kind == "file":
        other.write_h5ad(tmp_path / "atac.h5ad")
        other = ad.read_h5ad(tmp_path / "atac.h5ad", backed="r")
    else:
        other.layers["counts"], options = atac.X, {"layer": "counts"}
        other.X = sp.csr_matrix(np.log1p(atac.X.toarray()))
        with pytest.raises(ValueError, match=r"adata.X are not whole.*layer='counts'"):
            glm.tl.aggregate_peaks(other)
    glm.tl.aggregate_peaks(other, **options)
    np.testing.assert_allclose(other.obsm["X_dnabert_peaks"], wanted, atol=2e-6)
    if kind == "file":
        other.file.close()


def test_counts_stay_sparse():
    """20,000 cells × 20,000 peaks are 1.6 GB as a dense array of float32."""
    rng = np.random.default_rng(0)
    n = 20_000
    counts = sp.csr_matrix(
        (np.ones(10 * n, np.float32), rng.integers(0, n, 10 * n), np.arange(0, 10 * n + 1, 10)),
        shape=(n, n),
    )
    vectors = rng.normal(size=(n, 4)).astype(np.float32)
    tracemalloc.start()
    found = weighted_means(counts, np.log1p(n / np.maximum(count_cells(counts, n), 1)), vectors)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.isfinite(found).all()
    assert peak < 50e6


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda a: a.X.data.__setitem__(0, -1), ValueError, "are below zero, the first -1 in cell"),
        (lambda a: a.X.data.__setitem__(0, np.nan), ValueError, "are not finite, the first nan"),
        (lambda a: a.X.data.__setitem__(0, 0.5), ValueError, "are not whole, the first 0.5"),
        (lambda a: a.varm.pop("X_dnabert"), KeyError, "call glm.tl.embed on the peaks first"),
        (lambda a: a.varm["X_dnabert"].fill(np.nan), ValueError, "0 have an embedding"),
    ],
)
def test_refused(atac, change, error, message):
    change(atac)
    with pytest.raises(error, match=message):
        glm.tl.aggregate_peaks(atac)
    assert not atac.obsm
    assert not atac.uns


@pytest.mark.filterwarnings("ignore::glm.GlmWarning")
def test_slots_of_others_are_kept(atac):
    atac.uns["X_dnabert"] = glm.slots.make_record(model="one", weights_sha256="1", genome="hg38")
    glm.tl.aggregate_peaks(atac)
    assert atac.uns["X_dnabert_peaks"]["genome"] == "hg38"
    before = atac.obsm["X_dnabert_peaks"].copy()
    glm.tl.aggregate_peaks(atac)  # the same again
    np.testing.assert_array_equal(atac.obsm["X_dnabert_peaks"], before)
    atac.uns["X_dnabert"] = glm.slots.make_record(model="two", weights_sha256="2", genome="hg38")
    with pytest.raises(ValueError, match="already holds the result of one"):
        glm.tl.aggregate_peaks(atac)
    copied = glm.tl.aggregate_peaks(atac, key_added="two", copy=True)
    assert "X_two" in copied.obsm
    assert "X_two" not in atac.obsm


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::glm.GlmWarning")
def test_a_modality(atac):
    import mudata

    glm.tl.aggregate_peaks(atac)
    both = mudata.MuData({"rna": ad.AnnData(np.ones((30, 4))), "atac": atac.copy()})
    del both["atac"].obsm["X_dnabert_peaks"]
    glm.tl.aggregate_peaks(both, mod="atac")
    np.testing.assert_array_equal(
        both["atac"].obsm["X_dnabert_peaks"], atac.obsm["X_dnabert_peaks"]
    )
    with pytest.raises(TypeError, match="mod='rna' or mod='atac'"):
        glm.tl.aggregate_peaks(both)
