"""Rank encoding into slots: values, dtypes, records; whose counts, whose slots."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.sparse import csc_matrix, csr_matrix

import glm
from glm import GlmWarning
from glm.models import GeneVocabulary, Model

EMPTY = 3


@pytest.fixture(scope="module", params=["v1", "v2"])
def model(request: pytest.FixtureRequest, make_model: Callable[..., Model]) -> Model:
    return make_model(v2=request.param == "v2")


@pytest.fixture(scope="module")
def folder(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its bundle: ranks are asked for by name or folder."""
    return model.save(tmp_path_factory.mktemp("bundle"))


@pytest.fixture
def vocabulary(model: Model) -> GeneVocabulary:
    return model.vocabulary


@pytest.fixture
def cells(vocabulary: GeneVocabulary, make_cells: Callable[..., AnnData]) -> AnnData:
    return make_cells(vocabulary, 14, outside=6)


def ranks_by_definition(adata: AnnData, vocabulary: GeneVocabulary) -> np.ndarray:
    counts = adata.X.toarray() if hasattr(adata.X, "toarray") else np.asarray(adata.X)
    ranks = np.zeros(counts.shape, np.int64)
    for row, values in enumerate(counts.astype(np.float64)):
        scored = []
        for column, name in enumerate(adata.var_names):
            place = vocabulary.index.get(name, -1)
            if place >= 0 and values[column] > 0:
                scored.append((-values[column] / vocabulary.medians[place], place, column))
        for rank, (_, _, column) in enumerate(sorted(scored), start=1):
            ranks[row, column] = rank
    return ranks


def ranks_of(adata: AnnData, folder: Path, **options) -> np.ndarray:
    glm.tl.rank_encode(adata, folder, overwrite=True, **options)
    return adata.layers["rank_geneformer"].toarray()


# ---- values -------------------------------------------------------------------------------------


def test_equals_the_definition(cells: AnnData, folder: Path, vocabulary: GeneVocabulary):
    expected = ranks_by_definition(cells, vocabulary)
    assert (ranks_of(cells, folder) == expected).all()
    assert cells.obs["n_ranked_geneformer"].tolist() == (expected > 0).sum(axis=1).tolist()


def test_slots_and_types(cells: AnnData, folder: Path, vocabulary: GeneVocabulary):
    before = cells.copy()
    assert glm.tl.rank_encode(cells, folder) is None
    ranks = cells.layers["rank_geneformer"]
    assert isinstance(ranks, csr_matrix)
    assert (ranks.dtype, ranks.has_sorted_indices) == (np.uint8, True)
    assert (ranks.data > 0).all()
    assert cells.var["token_geneformer"].dtype == np.int32
    assert cells.obs["n_ranked_geneformer"].dtype == np.int32
    tokens = {gene: int(t) for gene, t in zip(vocabulary.ids, vocabulary.tokens, strict=True)}
    expected = [tokens.get(name, -1) for name in cells.var_names]
    assert cells.var["token_geneformer"].tolist() == expected
    assert list(cells.layers) == list(cells.uns) == ["rank_geneformer"]
    assert list(cells.var) == ["token_geneformer"]
    assert list(cells.obs) == ["n_ranked_geneformer"]
    assert (cells.X != before.X).nnz == 0


def test_more_genes_than_a_byte_holds(
    make_model: Callable[..., Model], make_cells: Callable[..., AnnData], tmp_path: Path
):
    wide = make_model(n_genes=400)
    cells = make_cells(wide.vocabulary, 3)
    found = ranks_of(cells, wide.save(tmp_path))
    assert cells.layers["rank_geneformer"].dtype == np.uint16
    assert found.max() > 300
    assert (found == ranks_by_definition(cells, wide.vocabulary)).all()


def test_record(cells: AnnData, folder: Path, vocabulary: GeneVocabulary, model: Model):
    glm.tl.rank_encode(cells, folder)
    record = cells.uns["rank_geneformer"]
    n_ranked = cells.obs["n_ranked_geneformer"]
    assert record["model"] == model.spec.name
    assert record["vocabulary_sha256"] == vocabulary.sha256
    assert record["n_cells"] == 14
    assert record["n_cells_empty"] == 1
    assert record["n_cells_truncated"] == (n_ranked > vocabulary.n_genes_read).sum() > 0
    assert record["counts"] == "X"
    assert record["slots"] == [
        "layers/rank_geneformer",
        "var/token_geneformer",
        "obs/n_ranked_geneformer",
    ]
    json.dumps(record)


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]], ids=str)
def test_ties_follow_the_vocabulary(
    make_model: Callable[..., Model], tmp_path: Path, order: list[int]
):
    """Equal quotients, in any order of the columns."""
    model = make_model(n_genes=4)
    ids = model.vocabulary.ids
    medians = np.array([2.0, 2.0, 4.0, 1.0])
    tied = dataclasses.replace(
        model, vocabulary=dataclasses.replace(model.vocabulary, medians=medians)
    )
    counts = np.array([[6, 6, 12, 4], [0, 2, 4, 1], [1, 1, 0, 0]], np.float32)
    adata = AnnData(counts[:, order], var=pd.DataFrame(index=[ids[i] for i in order]))
    found = ranks_of(adata, tied.save(tmp_path))
    assert found[:, np.argsort(order)].tolist() == [[2, 3, 4, 1], [0, 1, 2, 3], [1, 2, 0, 0]]


def test_columns_of_one_gene(cells: AnnData, folder: Path, vocabulary: GeneVocabulary):
    """Their counts are summed; the first column has the rank, the others none."""
    import anndata

    expected = ranks_of(cells, folder)
    moved = cells.copy()
    half = np.floor(cells.X.toarray() / 2)
    moved.X = csr_matrix(cells.X.toarray() - half)
    again = AnnData(csr_matrix(half), var=pd.DataFrame(index=[f"{n}.9" for n in cells.var_names]))
    again.obs_names = cells.obs_names
    both = anndata.concat([moved, again], axis="var")
    with pytest.warns(GlmWarning, match="60 columns share a gene with an earlier one"):
        found = ranks_of(both, folder)
    n = cells.n_vars
    assert (found[:, :n] == expected).all()
    assert not found[:, n:].any()
    tokens = both.var["token_geneformer"].to_numpy()
    assert (tokens[:n] == tokens[n:]).all()
    assert both.uns["rank_geneformer"]["n_columns_summed"] == 60
    assert both.obs["n_ranked_geneformer"].tolist() == cells.obs["n_ranked_geneformer"].tolist()


@pytest.mark.parametrize("n_threads", [1, 3])
def test_threads_do_not_matter(cells: AnnData, folder: Path, n_threads: int):
    expected = ranks_of(cells, folder)
    with glm.settings.override(n_threads=n_threads):
        assert (ranks_of(cells, folder) == expected).all()


@pytest.mark.parametrize(
    "kind",
    [
        lambda x: x.toarray(),
        csc_matrix,
        lambda x: x.astype(np.int32),
        lambda x: np.asfortranarray(x.toarray().astype(np.uint64)),
    ],
    ids=["dense", "csc", "int32", "fortran-uint64"],
)
def test_kind_of_matrix_does_not_matter(cells: AnnData, folder: Path, kind):
    expected = ranks_of(cells, folder)
    cells.X = kind(cells.X)
    assert (ranks_of(cells, folder) == expected).all()


def test_stored_zeros_are_not_ranked(cells: AnnData, folder: Path):
    expected = ranks_of(cells, folder)
    full = cells.X.toarray()
    indptr = np.arange(0, full.size + 1, full.shape[1])
    indices = np.tile(np.arange(full.shape[1]), full.shape[0])
    cells.X = csr_matrix((full.ravel(), indices, indptr), shape=full.shape)
    assert cells.X.nnz == full.size
    assert (ranks_of(cells, folder) == expected).all()
    assert cells.layers["rank_geneformer"].nnz == (expected > 0).sum()


def test_subsets_of_cells_have_the_same_ranks(cells: AnnData, folder: Path):
    expected = ranks_of(cells, folder)
    part = cells[[9, 2, 5]].copy()
    assert (part.layers["rank_geneformer"].toarray() == expected[[9, 2, 5]]).all()
    assert (ranks_of(part, folder) == expected[[9, 2, 5]]).all()


# ---- where the counts are -----------------------------------------------------------------------


def test_layer_raw_and_log(cells: AnnData, folder: Path):
    expected = ranks_of(cells, folder)
    cells.layers["counts"], cells.raw = cells.X, cells
    depth = np.maximum(cells.X.sum(axis=1).A1, 1)[:, None]
    cells.X = np.log1p(cells.X.toarray() / depth * 1e4)
    assert (ranks_of(cells, folder, layer="counts") == expected).all()
    assert (ranks_of(cells, folder, use_raw=True) == expected).all()
    assert (ranks_of(cells, folder, log_normalized=True) == expected).all()
    assert cells.uns["rank_geneformer"]["log_normalized"] is True
    with pytest.raises(ValueError, match=r"looks log-normalised.*counts.*log_normalized=True"):
        glm.tl.rank_encode(cells, folder)


def test_raw_with_other_genes(cells: AnnData, folder: Path):
    cells.raw = cells
    part = cells[:, 5:].copy()
    with pytest.raises(ValueError, match=r"adata\.raw has 66 genes and adata 61.*to_adata"):
        glm.tl.rank_encode(part, folder, use_raw=True)


def test_symbols_are_refused_with_the_way_out(cells: AnnData, folder: Path, vocabulary):
    symbol_of = {gene: symbol for symbol, gene in vocabulary.symbols.items()}
    names = list(cells.var_names)
    cells.var_names = [symbol_of.get(name, f"x{i}") for i, name in enumerate(names)]
    with pytest.raises(ValueError, match=r"are gene symbols .*Call glm\.pp\.map_genes"):
        glm.tl.rank_encode(cells, folder)
    cells.var["gene_ids"] = names
    with pytest.raises(ValueError, match=r"pass gene_ids='gene_ids', or call glm\.pp\.map_genes"):
        glm.tl.rank_encode(cells, folder)
    glm.tl.rank_encode(cells, folder, gene_ids="gene_ids")
    assert cells.uns["rank_geneformer"]["gene_ids"] == "gene_ids"


def test_ensembl_id_is_looked_for_first(cells: AnnData, folder: Path):
    expected = ranks_of(cells, folder)
    cells.var["ensembl_id"] = list(cells.var_names)
    cells.var_names = [f"any{i}" for i in range(cells.n_vars)]
    assert (ranks_of(cells, folder) == expected).all()
    assert cells.uns["rank_geneformer"]["gene_ids"] == "ensembl_id"


# ---- slots --------------------------------------------------------------------------------------


def test_copy(cells: AnnData, folder: Path):
    result = glm.tl.rank_encode(cells, folder, copy=True)
    assert list(cells.layers) == list(cells.uns) == []
    assert (result.layers["rank_geneformer"].toarray() == ranks_of(cells, folder)).all()


@pytest.mark.filterwarnings("error")
def test_view(cells: AnnData, folder: Path):
    expected = ranks_of(cells, folder)
    parent = cells.copy()
    parent.layers.clear()
    view = parent[4:9]
    glm.tl.rank_encode(view, folder, overwrite=True)
    assert list(parent.layers) == []
    assert (view.layers["rank_geneformer"].toarray() == expected[4:9]).all()


def test_key_added_and_reruns(cells: AnnData, folder: Path):
    glm.tl.rank_encode(cells, folder, key_added="mine")
    assert list(cells.layers) == ["rank_mine"]
    assert "token_mine" in cells.var
    assert "n_ranked_mine" in cells.obs
    cells.X = cells.X[::-1]
    glm.tl.rank_encode(cells, folder, key_added="mine")
    n_genes = (cells[:, [n for n in cells.var_names if n < "ENSG9"]].X > 0).sum(axis=1)
    assert cells.obs["n_ranked_mine"].tolist() == n_genes.ravel().tolist()[0]


def test_slots_of_another_model_and_of_the_user(
    cells: AnnData, folder: Path, model: Model, make_model, tmp_path: Path
):
    other = make_model(v2="cls" not in model.vocabulary.special).save(tmp_path)
    glm.tl.rank_encode(cells, folder)
    with pytest.raises(ValueError, match=f"holds the result of {model.spec.name}"):
        glm.tl.rank_encode(cells, other)
    glm.tl.rank_encode(cells, other, overwrite=True)
    assert cells.uns["rank_geneformer"]["model"] != model.spec.name
    cells.obs["n_ranked_b"] = 1
    with pytest.raises(ValueError, match=r"obs\['n_ranked_b'\] already holds something glm did"):
        glm.tl.rank_encode(cells, folder, key_added="b")
    assert "rank_b" not in cells.layers


def test_log_line(cells: AnnData, folder: Path, model: Model, caplog: pytest.LogCaptureFixture):
    with caplog.at_level("INFO", logger="glm"):
        glm.tl.rank_encode(cells, folder)
    assert caplog.messages[-1] == (
        f"added 'rank_geneformer' (layers, 14 × 66, uint8) with the vocabulary of "
        f"{model.spec.name}; 1 cells had no known gene"
    )


def test_dictionaries_are_enough(test_data: Path):
    """Weights of the default model are 418 MB, and are not needed for ranks."""
    adata = glm.datasets.toy_cells(n_cells=4, n_genes=8_000)
    with glm.settings.override(mirror=test_data / "geneformer", offline=True):
        glm.tl.rank_encode(adata)
    assert adata.uns["rank_geneformer"]["model"] == "geneformer-v2-104m"
    assert adata.obs["n_ranked_geneformer"].min() > 100


def test_a_subset_of_genes_is_told(cells: AnnData, folder: Path):
    few = cells[:, [n for n in cells.var_names if n < "ENSG9"][:10]].copy()
    with pytest.warns(GlmWarning, match=r"10 of 60 \(17%\) of the genes .* a subset"):
        glm.tl.rank_encode(few, folder)
