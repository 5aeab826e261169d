"""Hidden states of chosen cells, against the plain encoder and the sentences."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pytest
import torch

import glm
from glm.engine import gather
from glm.get._token_embeddings import _KeepTokens

if TYPE_CHECKING:
    from anndata import AnnData

    from glm.models import Model

TINY = "geneformer-tiny"
pytestmark = pytest.mark.filterwarnings("ignore::glm.GlmWarning")


@pytest.fixture(params=[False, True], ids=["v1", "v2"])
def model(make_model: Callable[..., Model], request: pytest.FixtureRequest) -> Model:
    return make_model(v2=request.param)


@pytest.fixture
def cells(make_cells: Callable[..., AnnData], model: Model) -> AnnData:
    """Of all lengths, some longer than the context; the fourth has no known gene."""
    return make_cells(model.vocabulary, 12, outside=5)


@pytest.fixture
def toy() -> AnnData:
    return glm.datasets.toy_cells(n_cells=6, n_genes=150)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_modality(toy: AnnData) -> None:
    import mudata

    both = mudata.MuData({"rna": toy.copy()})
    expected = glm.get.token_embeddings(toy, ["cell3"], TINY)["cell3"].vectors
    found = glm.get.token_embeddings(both, ["cell3"], TINY, mod="rna")["cell3"].vectors
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(TypeError, match=r"Got a MuData.* mod='rna'"):
        glm.get.token_embeddings(both, ["cell3"], TINY)


@pytest.mark.parametrize("layer", [0, "second_to_last", "last"])
def test_states_are_those_of_the_plain_encoder(
    cells: AnnData, model: Model, layer: str | int
) -> None:
    names = ["cell11", "cell0", "cell5"]  # not in the order of the object
    found = glm.get.token_embeddings(cells, names, model, hidden_layer=layer)
    assert list(found) == names
    index = model.spec.shape.layer_index(layer)
    for cell in found.values():
        with torch.no_grad():
            tokens = torch.from_numpy(cell.tokens[None])
            expected = model.encoder(tokens, hidden_layer=index)[0].numpy()
        assert (cell.tokens.dtype, cell.vectors.dtype) == (np.int32, np.float32)
        np.testing.assert_allclose(cell.vectors, expected, atol=1e-5, rtol=0)
    assert max(len(cell) for cell in found.values()) == model.vocabulary.context


def test_genes_that_share_an_id_are_called_as_the_first(toy: AnnData) -> None:
    glm.tl.rank_encode(toy, TINY)
    first = glm.get.sentences(toy, ["cell0"])["cell0"][0]
    toy.var["id"] = toy.var_names
    names = toy.var_names.to_numpy().copy()
    last = int(np.flatnonzero(names != first)[-1])
    toy.var.loc[names[last], "id"] = first
    found = glm.get.token_embeddings(toy, ["cell0"], TINY, gene_ids="id")["cell0"]
    assert first in found.genes
    assert names[last] not in found.genes


def test_names_are_those_of_the_sentences(toy: AnnData) -> None:
    glm.tl.rank_encode(toy, TINY)
    names = list(toy.obs_names)
    found = glm.get.token_embeddings(toy, names, TINY)
    spelt = glm.get.sentences(toy, names)
    for name, cell in found.items():
        assert list(cell.genes) == ["<cls>", *spelt[name], "<eos>"]
        frame = cell.to_frame()
        assert frame.index.name == "gene"
        np.testing.assert_array_equal(frame.to_numpy(), cell.vectors)


def test_their_means_are_the_embeddings(toy: AnnData) -> None:
    glm.tl.embed(toy, TINY, pooling="mean")
    for row, cell in enumerate(glm.get.token_embeddings(toy, toy.obs_names, TINY).values()):
        inner = [not gene.startswith("<") for gene in cell.genes]
        mean = cell.vectors[inner].mean(axis=0)
        np.testing.assert_allclose(mean, toy.obsm["X_geneformer"][row], atol=1e-5)


def test_a_cell_without_genes_has_no_tokens(cells: AnnData, model: Model) -> None:
    with pytest.warns(glm.GlmWarning, match=r"1 of 2 \(50%\) cells have no count .*\(cell3\)"):
        found = glm.get.token_embeddings(cells, ["cell3", "cell4"], model)
    assert len(found["cell3"]) == 0
    assert found["cell3"].vectors.shape == (0, model.spec.shape.hidden_size)
    assert len(found["cell4"]) > 0
    assert repr(found["cell4"]).startswith(f"TokenEmbeddings({len(found['cell4'])} tokens × ")


def test_nothing_is_written_and_files_are_read(toy: AnnData, tmp_path: Path) -> None:
    expected = glm.get.token_embeddings(toy, ["cell2"], TINY)["cell2"]
    assert not toy.uns
    toy.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    lazy = ad.experimental.read_lazy(tmp_path / "cells.h5ad")
    for adata in (backed, lazy):
        found = glm.get.token_embeddings(adata, ["cell4", "cell2"], TINY)["cell2"]
        np.testing.assert_array_equal(found.vectors, expected.vectors)
        np.testing.assert_array_equal(found.genes, expected.genes)
    backed.file.close()


def test_only_the_chosen_cells_are_looked_at(toy: AnnData) -> None:
    counts = toy.X.toarray()
    counts[5] = -1
    toy.X = counts
    glm.get.token_embeddings(toy, ["cell0"], TINY)
    with pytest.raises(ValueError, match="cell5"):
        glm.get.token_embeddings(toy, ["cell5"], TINY)


def test_wrong_cells_are_named(toy: AnnData) -> None:
    with pytest.raises(KeyError, match=r"2 of 3 .*\(x, y\), whose first are cell0, cell1"):
        glm.get.token_embeddings(toy, ["cell0", "x", "y"], TINY)
    with pytest.raises(ValueError, match="cells is empty"):
        glm.get.token_embeddings(toy, [], TINY)
    with pytest.raises(TypeError, match=r"expected a list of names: \['cell0'\]"):
        glm.get.token_embeddings(toy, "cell0", TINY)
    toy.obs_names = ["cell0"] * toy.n_obs
    with pytest.raises(ValueError, match="obs_names_make_unique"):
        glm.get.token_embeddings(toy, ["cell0"], TINY)


def test_states_of_the_reducer_merge(toy: AnnData) -> None:
    from glm.engine import Items

    rng = np.random.default_rng(0)
    states, expected = [], {}
    for rows in ([3, 1], [0]):
        lengths = rng.integers(1, 5, len(rows))
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        tokens = rng.integers(0, 9, offsets[-1]).astype(np.int32)
        hidden = torch.from_numpy(rng.random((tokens.size, 2)).astype(np.float32))
        span = np.stack([np.zeros_like(lengths), lengths], axis=1).astype(np.int32)
        part = _KeepTokens()
        part.update(Items.one_a_row(np.array(rows), tokens, offsets, span), hidden)
        states.append(part.state())
        for row, start, stop in zip(rows, offsets, offsets[1:], strict=False):
            expected[row] = (tokens[start:stop], hidden[start:stop].numpy())
    merged = _KeepTokens()
    gather([{}, *states], merged)
    assert merged.found.keys() == expected.keys()
    for row, (tokens, vectors) in expected.items():
        np.testing.assert_array_equal(merged.found[row][0], tokens)
        np.testing.assert_array_equal(merged.found[row][1], vectors)
