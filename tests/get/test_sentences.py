"""Sentences: the genes of a cell as its rank layer tells them, or a refusal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pytest
from anndata import AnnData
from scipy.sparse import csc_matrix

import glm
from glm.models import Model


@pytest.fixture(scope="module")
def model(make_model: Callable[..., Model]) -> Model:
    return make_model()


@pytest.fixture(scope="module")
def folder(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model.save(tmp_path_factory.mktemp("bundle"))


@pytest.fixture
def cells(model: Model, folder: Path, make_cells: Callable[..., AnnData]) -> AnnData:
    adata = make_cells(model.vocabulary, 8, outside=4)
    glm.tl.rank_encode(adata, folder)
    return adata


def spelled(adata: AnnData, model: Model) -> dict[str, list[str]]:
    counts = adata.X.toarray().astype(np.float64)
    index, medians = model.vocabulary.index, model.vocabulary.medians
    found = {}
    for row, cell in enumerate(adata.obs_names):
        scored = [
            (-counts[row, column] / medians[index[name]], index[name], name)
            for column, name in enumerate(adata.var_names)
            if name in index and counts[row, column] > 0
        ]
        found[cell] = [name for *_, name in sorted(scored)]
    return found


def test_all_cells(cells: AnnData, model: Model):
    found = glm.get.sentences(cells)
    assert found == spelled(cells, model)
    assert list(found) == list(cells.obs_names)
    assert found["cell3"] == []  # it has no known gene
    assert max(map(len, found.values())) > model.vocabulary.context  # nothing is cut
    assert all(type(name) is str for genes in found.values() for name in genes)


def test_chosen_cells_in_their_order(cells: AnnData, model: Model):
    expected = spelled(cells, model)
    found = glm.get.sentences(cells, ["cell6", "cell1"])
    assert list(found) == ["cell6", "cell1"]
    assert found == {name: expected[name] for name in ("cell6", "cell1")}
    assert glm.get.sentences(cells, cells.obs_names[:2]) == {
        name: expected[name] for name in ("cell0", "cell1")
    }
    assert glm.get.sentences(cells, []) == {}


def test_another_key_and_other_names(cells: AnnData, model: Model, folder: Path):
    expected = spelled(cells, model)
    cells.var["ensembl_id"] = list(cells.var_names)
    cells.var_names = [f"name-{gene}" for gene in cells.var_names]
    glm.tl.rank_encode(cells, folder, key_added="mine")
    found = glm.get.sentences(cells, key="mine")
    assert found == {c: [f"name-{gene}" for gene in genes] for c, genes in expected.items()}


def test_subset_of_cells_and_new_order_of_genes(cells: AnnData, model: Model):
    expected = spelled(cells, model)
    part = cells[["cell7", "cell0"], cells.var_names[::-1]]
    assert glm.get.sentences(part) == {name: expected[name] for name in ("cell7", "cell0")}


def test_a_layer_stored_by_columns(cells: AnnData, model: Model):
    cells.layers["rank_geneformer"] = csc_matrix(cells.layers["rank_geneformer"])
    assert glm.get.sentences(cells) == spelled(cells, model)


def test_genes_taken_away_are_noticed(cells: AnnData):
    best = glm.get.sentences(cells, ["cell6"])["cell6"][0]
    part = cells[:, cells.var_names != best].copy()
    with pytest.raises(ValueError, match=r"taken away .*cell '\w+' has \d+ of \d+ ranked genes"):
        glm.get.sentences(part)


def test_genes_without_a_rank_may_be_taken_away(cells: AnnData, model: Model):
    part = cells[:, cells.var["token_geneformer"] >= 0].copy()
    assert glm.get.sentences(part) == spelled(cells, model)


def test_a_layer_that_lost_its_record(cells: AnnData):
    joined = anndata.concat([cells, cells], keys=["a", "b"], index_unique="-")
    assert "rank_geneformer" in joined.layers
    with pytest.raises(ValueError, match=r"lost its record .* concatenation"):
        glm.get.sentences(joined)
    del cells.obs["n_ranked_geneformer"]
    with pytest.raises(ValueError, match="lost its record"):
        glm.get.sentences(cells)


def test_no_layer(cells: AnnData):
    with pytest.raises(KeyError, match=r"no layer 'rank_other'; call glm\.tl\.rank_encode first"):
        glm.get.sentences(cells, key="other")


def test_no_such_cell(cells: AnnData):
    with pytest.raises(KeyError, match=r"no cells \['cell99'\]"):
        glm.get.sentences(cells, ["cell0", "cell99"])


@pytest.mark.filterwarnings("ignore:Observation names are not unique")
def test_names_that_repeat(cells: AnnData):
    cells.obs_names = ["same"] * cells.n_obs
    with pytest.raises(ValueError, match="obs_names_make_unique"):
        glm.get.sentences(cells)
