"""Means over cells: of genes and of groups of cells, against the plain encoder, cell by cell."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_matrix

import glm
from glm.engine import Items, PoolRows, gather
from glm.engine.gene_means import GeneMeans, GroupMeans

if TYPE_CHECKING:
    from anndata import AnnData

    from glm.models import Model

TOLERANCE = 1e-5
QUIET = pytest.mark.filterwarnings("ignore::glm.GlmWarning")


@pytest.fixture(params=[False, True], ids=["v1", "v2"])
def model(make_model: Callable[..., Model], request: pytest.FixtureRequest) -> Model:
    return make_model(v2=request.param)


@pytest.fixture
def cells(make_cells: Callable[..., AnnData], model: Model) -> AnnData:
    """Of all lengths, some longer than the context; the fourth has no known gene."""
    adata = make_cells(model.vocabulary, 12, outside=5)
    adata.obs["kind"] = pd.Categorical(list("abcaabbabcab"), categories=["c", "a", "b", "unused"])
    return adata


@pytest.fixture
def toy() -> AnnData:
    return glm.datasets.toy_cells(n_cells=9, n_genes=200)


def sentences(adata: AnnData, model: Model) -> list[list[str]]:
    """Genes of each cell as the model reads them, by the definition of a rank."""
    index, medians = model.vocabulary.index, model.vocabulary.medians
    found = []
    for row in adata.X.toarray():
        known = [
            (-row[i] / medians[index[gene]], index[gene], gene)
            for i, gene in enumerate(adata.var_names)
            if gene in index and row[i] > 0
        ]
        found.append([gene for *_, gene in sorted(known)][: model.vocabulary.n_genes_read])
    return found


@torch.no_grad()
def states(genes: list[str], model: Model, layer: int) -> dict[str, np.ndarray]:
    """Hidden states of one cell's genes, from the plain encoder."""
    vocabulary = model.vocabulary
    tokens = [int(vocabulary.tokens[vocabulary.index[gene]]) for gene in genes]
    special = vocabulary.special
    inner = "cls" in special
    if inner:
        tokens = [special["cls"], *tokens, special["eos"]]
    hidden = model.encoder(torch.tensor([tokens]), hidden_layer=layer)[0].numpy()
    return dict(zip(genes, hidden[1:-1] if inner else hidden, strict=True))


def expected_means(adata: AnnData, model: Model, layer: int) -> tuple[np.ndarray, np.ndarray]:
    total = np.zeros((adata.n_vars, model.spec.shape.hidden_size))
    n = np.zeros(adata.n_vars, int)
    for genes in sentences(adata, model):
        if genes:
            for gene, vector in states(genes, model, layer).items():
                place = adata.var_names.get_loc(gene)
                total[place] += vector
                n[place] += 1
    with np.errstate(invalid="ignore"):
        return total / n[:, None], n


# ---- genes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [0, "second_to_last", "last"])
def test_genes_are_means_over_the_cells_that_read_them(
    cells: AnnData, model: Model, layer: str | int
) -> None:
    with pytest.warns(glm.GlmWarning, match=r"1 of 12 \(8%\) cells are left out.*cell3"):
        glm.tl.embed(cells, model, of="genes", hidden_layer=layer)
    means, n = expected_means(cells, model, model.spec.shape.layer_index(layer))
    found = cells.varm["X_geneformer"]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, means, atol=TOLERANCE, rtol=0)
    np.testing.assert_array_equal(cells.var["n_cells_geneformer"], n)
    assert cells.var["n_cells_geneformer"].dtype == np.int32
    assert (n == 0).sum() >= 5  # genes the model does not know
    record = cells.uns["X_geneformer_genes"]
    assert record["of"] == "genes"
    assert record["n_cells_unusable"] == 1
    assert record["n_cells_truncated"] > 0
    assert record["n_genes_embedded"] == (n > 0).sum()
    assert record["n_cells_of_group"] == [11]


@QUIET
def test_genes_of_a_group_are_those_of_its_cells_alone(cells: AnnData, model: Model) -> None:
    glm.tl.embed(cells, model, of="genes", groupby="kind")
    record = cells.uns["X_geneformer_genes_by_kind"]
    assert record["groups"] == ["c", "a", "b"]  # in the order of the categories, without empty ones
    for group in record["groups"]:
        part = cells[cells.obs["kind"] == group].copy()
        glm.tl.embed(part, model, of="genes", key_added="alone")
        np.testing.assert_allclose(
            cells.varm[f"X_geneformer_kind_{group}"], part.varm["X_alone"], atol=1e-6, rtol=0
        )
        np.testing.assert_array_equal(
            cells.var[f"n_cells_geneformer_kind_{group}"], part.var["n_cells_alone"]
        )
    assert "X_geneformer" not in cells.varm


@QUIET
def test_cutting_the_work_changes_nothing(cells: AnnData, model: Model, tmp_path: Path) -> None:
    whole = glm.tl.embed(cells, model, of="genes", groupby="kind", copy=True)
    small = glm.tl.embed(cells, model, of="genes", groupby="kind", token_budget=1, copy=True)
    options = {"of": "genes", "groupby": "kind", "out": tmp_path / "out"}
    shards = glm.tl.embed(cells, model, **options, copy=True)
    again = glm.tl.embed(cells, model, **options, copy=True)
    for name in ("X_geneformer_kind_a", "X_geneformer_kind_b"):
        np.testing.assert_allclose(small.varm[name], whole.varm[name], atol=1e-6, rtol=0)
        np.testing.assert_array_equal(shards.varm[name], whole.varm[name])
        np.testing.assert_array_equal(again.varm[name], whole.varm[name])
    with pytest.raises(ValueError, match=r"holds another run.*groups is"):
        glm.tl.embed(cells, model, of="genes", out=tmp_path / "out")


@QUIET
def test_genes_that_share_an_id_stand_at_the_first(cells: AnnData, model: Model) -> None:
    known = [i for i, name in enumerate(cells.var_names) if name in model.vocabulary.index]
    first, second = known[0], known[1]
    names = list(cells.var_names)
    names[second] = names[first] + ".3"
    cells.var_names = names
    glm.tl.embed(cells, model, of="genes")
    assert cells.var["n_cells_geneformer"].iloc[first] > 0
    assert cells.var["n_cells_geneformer"].iloc[second] == 0
    assert np.isnan(cells.varm["X_geneformer"][second]).all()


def test_cells_that_are_not_finite_are_left_out(
    make_model: Callable[..., Model], toy: AnnData
) -> None:
    model = make_model(n_genes=60)
    adata = toy[:, :60].copy()
    adata.var_names = list(model.vocabulary.ids)
    counts = adata.X.toarray()
    counts[:4, 0], counts[4:, 0] = 3, 0
    adata.X = csr_matrix(counts)
    with torch.no_grad():
        token = int(model.vocabulary.tokens[0])
        model.encoder.embeddings.token.weight[token] = float("nan")
    expected = glm.tl.embed(adata[4:].copy(), model, of="genes", copy=True)
    with pytest.warns(glm.GlmWarning, match=r"4 of 9 .* left out.*4 came out of the model not fin"):
        glm.tl.embed(adata, model, of="genes")
    np.testing.assert_allclose(
        adata.varm["X_geneformer"], expected.varm["X_geneformer"], atol=1e-6, rtol=0
    )
    np.testing.assert_array_equal(
        adata.var["n_cells_geneformer"], expected.var["n_cells_geneformer"]
    )
    assert adata.uns["X_geneformer_genes"]["n_cells_not_finite"] == 4


# ---- groups of cells ---------------------------------------------------------------------------


@QUIET
def test_groups_are_means_of_cell_embeddings(cells: AnnData, model: Model) -> None:
    glm.tl.embed(cells, model)
    glm.tl.embed(cells, model, groupby="kind")
    table = glm.get.group_embeddings(cells, "kind")
    assert list(table.index) == ["c", "a", "b"]
    assert table.index.name == "kind"
    assert set(table.dtypes) == {np.dtype(np.float32)}
    vectors = cells.obsm["X_geneformer"].astype(float)
    for group, found in table.iterrows():
        rows = (cells.obs["kind"] == group) & cells.obs["geneformer_ok"]
        np.testing.assert_allclose(found, vectors[rows].mean(axis=0), atol=1e-6)
    record = cells.uns["X_geneformer_by_kind"]
    np.testing.assert_array_equal(record["n_cells_of_group"], [2, 4, 5])
    assert record["pooling"] == model.spec.pooling


def test_group_means_are_read_or_asked_for(toy: AnnData) -> None:
    with pytest.raises(KeyError, match=r"has no 'X_geneformer_by_kind'; call glm\.tl\.embed"):
        glm.get.group_embeddings(toy, "kind")


# ---- labels ------------------------------------------------------------------------------------


@QUIET
@pytest.mark.parametrize("verb", ["genes", "cells", "attention"])
@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        pytest.param(None, KeyError, "no column 'label' to group by; it has kind", id="absent"),
        pytest.param(
            ["x", None, "y", np.nan] + ["x"] * 5, ValueError, r"2 of 9 .*cell1, cell3", id="missing"
        ),
        pytest.param(["x"] * 9, ValueError, "the same label.*'x'.*Leave groupby out", id="single"),
        pytest.param(np.linspace(0, 1, 9), ValueError, "fractions.*pandas.cut", id="fractions"),
        pytest.param([1, "1"] + ["x"] * 7, ValueError, "labels of the same name", id="alike"),
        pytest.param(["a/b", "a_b"] + ["x"] * 7, ValueError, "same slot", id="one slot"),
    ],
)
def test_labels_that_make_no_groups(
    toy: AnnData, verb: str, labels: object, error: type[Exception], message: str
) -> None:
    if labels is not None:
        toy.obs["label"] = pd.Series(list(labels), index=toy.obs_names, dtype=None)
    before = set(toy.uns) | set(toy.varm) | set(toy.varp) | set(toy.var)
    if verb == "cells" and "same slot" in message:
        pytest.skip("means of cells lie in one slot")
    options = {"n_top": 2} if verb == "attention" else {"of": verb}
    call = glm.tl.attention if verb == "attention" else glm.tl.embed
    with pytest.raises(error, match=message):
        call(toy, "geneformer-tiny", groupby="label", **options)
    assert set(toy.uns) | set(toy.varm) | set(toy.varp) | set(toy.var) == before


@QUIET
@pytest.mark.parametrize(
    "labels",
    [
        pytest.param(np.arange(9) % 2 == 0, id="bool"),
        pytest.param(np.arange(9) % 2, id="int"),
        pytest.param(pd.array([1, 0] * 4 + [1], dtype="Int64"), id="nullable"),
        pytest.param(pd.array(["x", "y"] * 4 + ["x"], dtype="string"), id="string"),
    ],
)
def test_labels_of_any_kind(toy: AnnData, labels: object) -> None:
    toy.obs["label"] = labels
    glm.tl.embed(toy, "geneformer-tiny", groupby="label")
    assert list(toy.uns["X_geneformer_by_label"]["n_cells_of_group"]) in ([4, 5], [5, 4])


@QUIET
def test_groups_go_by_name_not_by_code(toy: AnnData) -> None:
    part = toy[toy.obs["kind"] != "a"].copy()  # codes 1 and 2, or 0 and 1 after a round trip
    renumbered = part.copy()
    renumbered.obs["kind"] = pd.Categorical(list(part.obs["kind"]), categories=["c", "b"])
    for adata in (part, renumbered):
        glm.tl.embed(adata, "geneformer-tiny", of="genes", groupby="kind")
    for group in "bc":
        np.testing.assert_array_equal(
            part.varm[f"X_geneformer_kind_{group}"], renumbered.varm[f"X_geneformer_kind_{group}"]
        )


@QUIET
@pytest.mark.parametrize("labels", ["text", "categories"])
def test_groups_of_a_lazily_read_object(toy: AnnData, tmp_path: Path, labels: str) -> None:
    if labels == "categories":
        toy.obs["kind"] = pd.Categorical(toy.obs["kind"], categories=["c", "b", "a", "unused"])
    toy.write_h5ad(tmp_path / "cells.h5ad")
    lazy = ad.experimental.read_lazy(tmp_path / "cells.h5ad")
    for verb in (
        functools.partial(glm.tl.embed, of="genes"),
        functools.partial(glm.tl.attention, n_top=3),
    ):
        for adata in (toy, lazy):
            verb(adata, "geneformer-tiny", groupby="kind")
    for group in "abc":
        key = f"X_geneformer_kind_{group}"
        np.testing.assert_array_equal(lazy.varm[key], toy.varm[key])


# ---- slots -------------------------------------------------------------------------------------


@QUIET
def test_cells_genes_and_groups_have_slots_of_their_own(toy: AnnData) -> None:
    for _ in range(2):
        glm.tl.embed(toy, "geneformer-tiny")
        glm.tl.embed(toy, "geneformer-tiny", of="genes")
        glm.tl.embed(toy, "geneformer-tiny", of="genes", groupby="kind")
        glm.tl.embed(toy, "geneformer-tiny", groupby="kind")
    assert set(toy.uns) == {
        "X_geneformer",
        "X_geneformer_genes",
        "X_geneformer_genes_by_kind",
        "X_geneformer_by_kind",
    }


@QUIET
def test_groups_that_are_no_more_leave_no_slots(toy: AnnData) -> None:
    glm.tl.embed(toy, "geneformer-tiny", of="genes", groupby="kind")
    toy.obs["kind"] = toy.obs["kind"].astype(str).replace("c", "b")
    glm.tl.embed(toy, "geneformer-tiny", of="genes", groupby="kind")
    assert set(toy.varm) == {"X_geneformer_kind_a", "X_geneformer_kind_b"}
    assert list(toy.var) == ["n_cells_geneformer_kind_a", "n_cells_geneformer_kind_b"]


@QUIET
def test_another_result_is_refused(toy: AnnData, make_model: Callable[..., Model]) -> None:
    toy.varm["X_geneformer"] = np.ones((toy.n_vars, 2))
    with pytest.raises(ValueError, match=r"varm\['X_geneformer'\] already holds something glm did"):
        glm.tl.embed(toy, "geneformer-tiny", of="genes")
    glm.tl.embed(toy, "geneformer-tiny", of="genes", overwrite=True)
    assert toy.varm["X_geneformer"].shape[1] > 2


@QUIET
def test_genes_of_another_raw_are_refused(toy: AnnData) -> None:
    toy.raw = toy.copy()
    part = toy[:, :150].copy()
    with pytest.raises(ValueError, match=r"raw has 200 genes and adata 150.*raw\.to_adata"):
        glm.tl.embed(part, "geneformer-tiny", of="genes", use_raw=True)


@QUIET
@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
def test_results_survive_files(toy: AnnData, tmp_path: Path, kind: str) -> None:
    toy.obs["label"] = pd.Categorical(["CD4+/CD25 T", "B cells", "NK"] * 3)
    glm.tl.embed(toy, "geneformer-tiny", of="genes", groupby="label")
    glm.tl.embed(toy, "geneformer-tiny", groupby="label")
    path = tmp_path / f"cells.{kind}"
    if kind == "h5ad":
        toy.write_h5ad(path)
        again = ad.read_h5ad(path)
    else:
        toy.write_zarr(path)
        again = ad.read_zarr(path)
    assert "X_geneformer_label_CD4+_CD25 T" in again.varm
    for name, array in toy.varm.items():
        np.testing.assert_array_equal(again.varm[name], array)
    table = glm.get.group_embeddings(again, "label")
    pd.testing.assert_frame_equal(table, glm.get.group_embeddings(toy, "label"))
    assert table.index[1] == "CD4+/CD25 T"
    glm.tl.embed(again, "geneformer-tiny", of="genes", groupby="label")  # it knows its own slots


@QUIET
def test_a_modality(toy: AnnData) -> None:
    mudata = pytest.importorskip("mudata")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        both = mudata.MuData({"rna": toy, "protein": toy[:, :3].copy()})
    glm.tl.embed(both, "geneformer-tiny", of="genes", mod="rna")
    assert "X_geneformer" in both.mod["rna"].varm


# ---- the reducer and the sink ------------------------------------------------------------------


def _items(rng: np.random.Generator, rows: list[int]) -> tuple[Items, torch.Tensor]:
    lengths = rng.integers(1, 6, len(rows))
    tokens = np.concatenate([rng.permutation(8)[:n] for n in lengths]).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    span = np.stack([np.zeros_like(lengths), lengths], axis=1).astype(np.int32)
    items = Items.one_a_row(np.array(rows), tokens, offsets, span)
    return items, torch.from_numpy(rng.normal(size=(tokens.size, 3)).astype(np.float32))


def _gene_means() -> GeneMeans:
    gene_of_token = np.array([-1, -1, 0, 1, 2, 3, 4, -1])
    return GeneMeans(gene_of_token, 5, 3, group_of_row=np.array([0, 1, 0, -1, 1, 0]), n_groups=2)


def test_states_merge() -> None:
    rng = np.random.default_rng(0)
    batches = [_items(rng, [0, 3]), _items(rng, [1, 2, 4]), _items(rng, [5])]
    whole, parts = _gene_means(), []
    for batch in batches:
        part = _gene_means()
        for reducer in (whole, part):
            reducer.update(*batch)
        parts.append(part.state())
    kept = {name: array.copy() for name, array in parts[0].items()}
    merged = _gene_means()
    gather([{}, *parts], merged)
    whole.finish()
    np.testing.assert_allclose(merged.means, whole.means, rtol=1e-6)
    for name in ("n", "n_cells"):
        np.testing.assert_array_equal(getattr(merged, name), getattr(whole, name))
    assert whole.n_cells.tolist() == [3, 2]
    for name, array in parts[0].items():  # later updates do not reach into a state
        np.testing.assert_array_equal(array, kept[name])
    assert whole.state() == {}  # it has forgotten


def test_an_update_without_memory_adds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    reducer = _gene_means()
    reducer.update(*_items(rng, [0]))
    before = reducer.state()

    def fail(*_: object, **__: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "index_add_", fail)
        with pytest.raises(torch.OutOfMemoryError):
            reducer.update(*_items(rng, [1, 2]))
    for name, array in reducer.state().items():
        np.testing.assert_array_equal(array, before[name])


def test_rows_are_kept_as_means_only() -> None:
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(6, 4)).astype(np.float32)
    vectors[1] = np.nan
    sink = GroupMeans(np.array([0, 0, 1, -1, 1, 1]), 3, 4)
    sink.put(np.array([4, 0, 3]), vectors[[4, 0, 3]])
    sink.put(np.array([1, 2, 5]), vectors[[1, 2, 5]])
    np.testing.assert_allclose(sink.means()[0], vectors[0], rtol=1e-6)
    np.testing.assert_allclose(sink.means()[1], vectors[[2, 4, 5]].mean(axis=0), rtol=1e-5)
    assert np.isnan(sink.means()[2]).all()
    assert sink.n.tolist() == [1, 3, 0]
    assert sink.n_not_finite == 1
    assert PoolRows("mean", sink).whole_rows
