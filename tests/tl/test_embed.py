"""Embedding: what the plain encoder computes from the definition, in the user's order and slots."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from anndata import AnnData
from scipy.sparse import csc_matrix

import glm
from glm import GlmWarning
from glm.models import Model
from glm.tl._cell_source import frame

TOLERANCE = 1e-5
EMPTY = 3


@pytest.fixture(scope="module", params=["v1", "v2"])
def model(request: pytest.FixtureRequest, make_model: Callable[..., Model]) -> Model:
    return make_model(v2=request.param == "v2")


@pytest.fixture(scope="module")
def whole(model: Model, make_cells: Callable[..., AnnData]) -> AnnData:
    return make_cells(model.vocabulary, 14, outside=6)


@pytest.fixture
def cells(whole: AnnData) -> AnnData:
    """Cells that all have a known gene; some are longer than the context."""
    return whole[np.arange(whole.n_obs) != EMPTY].copy()


@pytest.fixture
def with_empty(whole: AnnData) -> AnnData:
    return whole.copy()


def sentences_of(adata: AnnData, model: Model) -> list[list[int]]:
    """Token sentences by the definition, truncated and framed."""
    vocabulary = model.vocabulary
    place = np.array([vocabulary.index.get(name, -1) for name in adata.var_names])
    counts = adata.X.toarray() if hasattr(adata.X, "toarray") else np.asarray(adata.X)
    found = []
    for row in counts[:, place >= 0].astype(np.float64):
        total = np.bincount(place[place >= 0], row, len(vocabulary.ids))
        used = np.flatnonzero(total)
        order = used[np.lexsort((used, -total[used] / vocabulary.medians[used]))]
        tokens = vocabulary.tokens[order][: vocabulary.n_genes_read].tolist()
        if "cls" in vocabulary.special:
            tokens = [vocabulary.special["cls"], *tokens, vocabulary.special["eos"]]
        found.append(tokens)
    return found


@torch.no_grad()
def embedded_directly(adata: AnnData, model: Model, pooling: str, layer: int) -> np.ndarray:
    """One padded batch through the plain encoder."""
    sentences = [torch.tensor(tokens) for tokens in sentences_of(adata, model)]
    tokens = torch.nn.utils.rnn.pad_sequence(sentences, batch_first=True)
    mask = tokens != 0
    hidden = model.encoder(tokens, mask, hidden_layer=layer)
    if pooling == "cls":
        return hidden[:, 0].numpy()
    special = torch.tensor(list(model.vocabulary.special.values()))
    genes = mask & ~torch.isin(tokens, special)
    return torch.stack([hidden[i, genes[i]].mean(dim=0) for i in range(len(tokens))]).numpy()


def vectors_of(adata: AnnData, model: Model | str | Path, **options) -> np.ndarray:
    glm.tl.embed(adata, model, overwrite=True, **options)
    return adata.obsm["X_" + options.get("key_added", "geneformer")]


# ---- values -------------------------------------------------------------------------------------

LAYERS = {"last": 3, "second_to_last": 2, 0: 0, 1: 1, 2: 2, 3: 3}


@pytest.mark.parametrize("layer", LAYERS)
def test_equals_the_plain_encoder(cells: AnnData, model: Model, layer: str | int):
    for pooling in ("mean", "cls") if "cls" in model.vocabulary.special else ("mean",):
        found = vectors_of(cells, model, pooling=pooling, hidden_layer=layer)
        expected = embedded_directly(cells, model, pooling, LAYERS[layer])
        assert found.dtype == np.float32
        assert found.shape == (cells.n_obs, 16)
        np.testing.assert_allclose(found, expected, atol=TOLERANCE)
        # Not a comparison of zeros, nor of the same vector (as that of <cls> is before any layer).
        assert np.abs(expected).max() > 0.3
        assert np.ptp(expected, axis=0).max() > 0.01 or (pooling, layer) == ("cls", 0)


def test_the_authors_reading_is_the_default(cells: AnnData, model: Model):
    pooling = "cls" if "cls" in model.vocabulary.special else "mean"
    found = vectors_of(cells, model)
    np.testing.assert_allclose(found, embedded_directly(cells, model, pooling, 2), atol=TOLERANCE)
    record = cells.uns["X_geneformer"]
    assert (record["pooling"], record["hidden_layer"], record["n_layers_run"]) == (
        pooling,
        "second_to_last",
        2,
    )


def test_long_cells_are_cut_at_the_context(cells: AnnData, model: Model):
    n_ranked = [(cells[i, list(model.vocabulary.ids)].X > 0).sum() for i in range(cells.n_obs)]
    n_read = model.vocabulary.n_genes_read
    assert 0 < sum(n > n_read for n in n_ranked) < cells.n_obs
    assert max(map(len, sentences_of(cells, model))) == model.vocabulary.context
    glm.tl.embed(cells, model)
    record = cells.uns["X_geneformer"]
    assert record["n_cells_truncated"] == sum(n > n_read for n in n_ranked)
    assert record["n_genes_beyond_context"] == sum(max(n - n_read, 0) for n in n_ranked)


def test_order_of_cells_and_genes_does_not_matter(cells: AnnData, model: Model):
    found = vectors_of(cells, model)
    rng = np.random.default_rng(1)
    rows, columns = rng.permutation(cells.n_obs), rng.permutation(cells.n_vars)
    moved = vectors_of(cells[rows][:, columns].copy(), model)
    np.testing.assert_allclose(moved, found[rows], atol=TOLERANCE)


def test_a_cell_does_not_depend_on_the_others(cells: AnnData, model: Model):
    found = vectors_of(cells, model)
    alone = np.concatenate([vectors_of(cells[i].copy(), model) for i in range(cells.n_obs)])
    np.testing.assert_allclose(alone, found, atol=TOLERANCE)


@pytest.mark.parametrize("budget", [1, 7, 50, 10_000])
def test_budget_of_tokens_does_not_matter(cells: AnnData, model: Model, budget: int):
    expected = vectors_of(cells, model)
    found = vectors_of(cells, model, token_budget=budget)
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)


def test_depth_does_not_matter(cells: AnnData, model: Model):
    deeper = cells.copy()
    deeper.X = deeper.X * 7
    assert np.array_equal(vectors_of(deeper, model), vectors_of(cells, model))


@pytest.mark.parametrize(
    "kind",
    [
        lambda x: x.toarray(),
        csc_matrix,
        lambda x: x.astype(np.int64),
        lambda x: np.asfortranarray(x.toarray().astype(np.uint16)),
    ],
    ids=["dense", "csc", "int64", "fortran-uint16"],
)
def test_kind_of_matrix_does_not_matter(cells: AnnData, model: Model, kind):
    other = cells.copy()
    other.X = kind(cells.X)
    assert np.array_equal(vectors_of(other, model), vectors_of(cells, model))


def test_columns_of_one_gene_are_summed(cells: AnnData, model: Model):
    import anndata

    second = cells.copy()
    second.var_names = [f"{name}.2" for name in cells.var_names]
    both = anndata.concat([cells, second], axis="var")
    both.obs_names = cells.obs_names
    expected = vectors_of(cells, model)
    with pytest.warns(GlmWarning, match="60 columns share a gene .* are summed"):
        assert np.array_equal(vectors_of(both, model), expected)


def test_same_twice_and_no_trace_in_torch(cells: AnnData, model: Model):
    model.network.train()
    model.network.requires_grad_(True)
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    numpy_state = np.random.get_state()[1].tolist()  # noqa: NPY002 - the global one is meant
    try:
        one = vectors_of(cells, model).copy()
        assert model.network.training
        assert torch.is_grad_enabled()
        assert torch.equal(torch.get_rng_state(), state)
        assert np.random.get_state()[1].tolist() == numpy_state  # noqa: NPY002
        assert torch.get_num_threads() == threads
        for name, tensor in model.network.state_dict().items():
            assert torch.equal(tensor, before[name])
        assert all(p.requires_grad and p.grad is None for p in model.network.parameters())
    finally:
        model.network.eval()
    assert np.array_equal(vectors_of(cells, model), one)


# ---- where the counts and the model are ---------------------------------------------------------


def test_counts_in_a_layer_or_raw(cells: AnnData, model: Model):
    expected = vectors_of(cells, model)
    moved = cells.copy()
    moved.layers["counts"] = moved.X
    moved.raw = moved
    moved.X = np.log1p(moved.X.toarray())
    assert np.array_equal(vectors_of(moved, model, layer="counts"), expected)
    assert moved.uns["X_geneformer"]["counts"] == "counts"
    assert np.array_equal(vectors_of(moved, model, use_raw=True), expected)
    assert moved.uns["X_geneformer"]["counts"] == "raw"
    np.testing.assert_allclose(
        vectors_of(moved, model, log_normalized=True), expected, atol=TOLERANCE
    )
    with pytest.raises(ValueError, match="looks log-normalised"):
        glm.tl.embed(moved, model)


def test_ids_in_a_column(cells: AnnData, model: Model):
    expected = vectors_of(cells, model)
    named = cells.copy()
    named.var["ids"] = list(cells.var_names)
    named.var_names = [f"GENE{i}" for i in range(cells.n_vars)]
    assert np.array_equal(vectors_of(named, model, gene_ids="ids"), expected)
    assert named.uns["X_geneformer"]["gene_ids"] == "ids"


def test_saved_and_named_by_its_folder(cells: AnnData, model: Model, tmp_path: Path):
    expected = vectors_of(cells, model)
    folder = model.save(tmp_path / "bundle")
    for name in (folder, str(folder), glm.models.load(folder)):
        assert np.array_equal(vectors_of(cells, name), expected)
        record = cells.uns["X_geneformer"]
        assert record["model"] == model.spec.name
        assert record["tier"] == "local"
        assert len(record["weights_sha256"]) == 64
    assert vectors_of(cells, model) is not None
    assert cells.uns["X_geneformer"]["weights_sha256"] == "unsaved"


@pytest.mark.parametrize(
    "verb",
    [
        functools.partial(glm.tl.embed),
        functools.partial(glm.tl.embed, of="genes"),
        functools.partial(glm.tl.embed, groupby="kind"),
        functools.partial(glm.tl.attention, n_top=2),
    ],
    ids=["cells", "genes", "groups", "attention"],
)
def test_a_folder_of_the_same_name_with_other_weights(
    cells: AnnData, make_model: Callable[..., Model], tmp_path: Path, verb: Callable[..., None]
):
    cells.obs["kind"] = ["a", "b"] * (cells.n_obs // 2) + ["a"] * (cells.n_obs % 2)
    folders = [make_model(seed=i).save(tmp_path / str(i) / "checkpoint") for i in range(2)]
    verb(cells, folders[0])
    verb(cells, folders[0])
    with pytest.raises(ValueError, match=r"other weights that were called .* too"):
        verb(cells, folders[1])
    verb(cells, folders[1], overwrite=True)


def test_the_geneformer_function_is_the_same(cells: AnnData, model: Model):
    expected = vectors_of(cells, model, pooling="mean", hidden_layer="last")
    other = cells.copy()
    glm.tl.embed_geneformer(other, model, pooling="mean", hidden_layer="last", overwrite=True)
    assert np.array_equal(other.obsm["X_geneformer"], expected)


# ---- slots --------------------------------------------------------------------------------------


def test_nothing_but_the_slots_is_written(cells: AnnData, model: Model):
    before = cells.copy()
    assert glm.tl.embed(cells, model) is None
    assert list(cells.obsm) == ["X_geneformer"]
    assert list(cells.obs) == ["geneformer_ok"]
    assert list(cells.uns) == ["X_geneformer"]
    assert cells.obs["geneformer_ok"].dtype == bool
    assert cells.obs["geneformer_ok"].all()
    assert (cells.X != before.X).nnz == 0
    assert cells.var.equals(before.var)
    assert not [*cells.layers, *cells.varm, *cells.obsp, *cells.varp]


def test_record(cells: AnnData, model: Model):
    glm.tl.embed(cells, model)
    record = cells.uns["X_geneformer"]
    assert record["slots"] == ["obsm/X_geneformer", "obs/geneformer_ok"]
    assert record["function"] == "glm.tl.embed"
    assert record["vocabulary_sha256"] == model.vocabulary.sha256
    assert record["precision"] == "float32"
    assert record["context"] == model.vocabulary.context
    assert (record["n_cells"], record["n_cells_unusable"]) == (cells.n_obs, 0)
    assert record["n_genes_in_vocabulary"] == 60
    assert record["name_kinds"] == {"id": 66}
    assert 0.8 < record["share_of_counts_in_vocabulary"] < 1
    json.dumps(record)


def test_cells_without_a_gene_are_nan_and_flagged(with_empty: AnnData, model: Model):
    pattern = r"1 of 14 \(7%\) cells .* NaN \(cell3\): 1 have no count .*geneformer_ok"
    with pytest.warns(GlmWarning, match=pattern) as caught:
        glm.tl.embed(with_empty, model)
    assert len(caught) == 1
    assert caught[0].filename == __file__  # the line of the user
    bad = np.isnan(with_empty.obsm["X_geneformer"])
    assert bad.all(axis=1).tolist() == bad.any(axis=1).tolist()
    assert np.flatnonzero(bad.all(axis=1)).tolist() == [EMPTY]
    assert np.flatnonzero(~with_empty.obs["geneformer_ok"]).tolist() == [EMPTY]
    assert with_empty.uns["X_geneformer"]["n_cells_unusable"] == 1
    kept = with_empty[with_empty.obs["geneformer_ok"]]
    expected = embedded_directly(kept, model, model.spec.pooling, 2)
    np.testing.assert_allclose(kept.obsm["X_geneformer"], expected, atol=TOLERANCE)


def test_no_cell_with_a_gene(with_empty: AnnData, model: Model):
    nothing = with_empty[[EMPTY, EMPTY + 1]].copy()
    nothing.X = nothing.X * 0
    with pytest.warns(GlmWarning, match=r"2 of 2 \(100%\) cells"):
        glm.tl.embed(nothing, model)
    assert np.isnan(nothing.obsm["X_geneformer"]).all()
    assert nothing.obsm["X_geneformer"].shape == (2, 16)


def test_weights_that_give_no_finite_vector_are_told(cells: AnnData, make_model, model: Model):
    broken = make_model(v2="cls" in model.vocabulary.special)
    with torch.no_grad():
        broken.encoder.layers[0].down.bias[0] = float("nan")
    with pytest.warns(GlmWarning, match=r"0 have no count .*, 13 came out of the model not finite"):
        glm.tl.embed(cells, broken)
    assert not cells.obs["geneformer_ok"].any()


def test_copy(cells: AnnData, model: Model):
    result = glm.tl.embed(cells, model, copy=True)
    assert result is not None
    assert list(cells.obsm) == list(cells.obs) == list(cells.uns) == []
    assert np.array_equal(result.obsm["X_geneformer"], vectors_of(cells, model))


@pytest.mark.filterwarnings("error")  # anndata's on views, too
def test_view(cells: AnnData, model: Model):
    expected = vectors_of(cells, model)
    parent = cells.copy()
    parent.obsm.clear()
    view = parent[4:9]
    glm.tl.embed(view, model, overwrite=True)
    assert not view.is_view
    assert list(parent.obsm) == []
    np.testing.assert_allclose(view.obsm["X_geneformer"], expected[4:9], atol=TOLERANCE)


def test_two_keys_side_by_side(cells: AnnData, model: Model):
    glm.tl.embed(cells, model, key_added="a", hidden_layer=1)
    glm.tl.embed(cells, model, key_added="b", hidden_layer=2)
    assert set(cells.obsm) == {"X_a", "X_b"}
    assert set(cells.obs) == {"a_ok", "b_ok"}
    assert cells.uns["X_a"]["n_layers_run"] == 1
    assert cells.uns["X_b"]["n_layers_run"] == 2


def test_a_name_that_files_could_not_give_back(cells: AnnData, model: Model):
    for verb in (
        functools.partial(glm.tl.embed),
        functools.partial(glm.tl.embed, of="genes"),
        functools.partial(glm.tl.attention, n_top=2),
    ):
        with pytest.raises(ValueError, match="'a/b' cannot be part of a slot's name"):
            verb(cells, model, key_added="a/b")
    assert not cells.uns


def test_a_cell_of_the_notebook_run_twice(cells: AnnData, model: Model):
    glm.tl.embed(cells, model, hidden_layer=1)
    glm.tl.embed(cells, model, hidden_layer=2)
    assert cells.uns["X_geneformer"]["n_layers_run"] == 2


def test_slots_of_another_model_are_kept(cells: AnnData, model: Model):
    before = vectors_of(cells, model).copy()
    other = dataclasses.replace(model, spec=dataclasses.replace(model.spec, name="other"))
    with pytest.raises(ValueError, match=f"holds the result of {model.spec.name}.*key_added"):
        glm.tl.embed(cells, other)
    assert np.array_equal(cells.obsm["X_geneformer"], before)
    glm.tl.embed(cells, other, overwrite=True)
    assert cells.uns["X_geneformer"]["model"] == "other"


def test_slots_of_the_user_are_kept(cells: AnnData, model: Model):
    cells.obsm["X_geneformer"] = np.ones((cells.n_obs, 2))
    with pytest.raises(ValueError, match=r"obsm\['X_geneformer'\] already holds something glm did"):
        glm.tl.embed(cells, model)
    assert (cells.obsm["X_geneformer"] == 1).all()


def test_nothing_is_written_if_the_model_fails(
    cells: AnnData, model: Model, monkeypatch: pytest.MonkeyPatch
):
    def fails(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("glm.models.fast.bert.PackedBert.hidden", fails)
    with pytest.raises(KeyboardInterrupt):
        glm.tl.embed(cells, model)
    assert list(cells.obsm) == list(cells.obs) == list(cells.uns) == []


def test_log_line(cells: AnnData, model: Model, caplog: pytest.LogCaptureFixture):
    with caplog.at_level("INFO", logger="glm"):
        glm.tl.embed(cells, model)
    assert re.fullmatch(
        rf"added 'X_geneformer' \(obsm, 13 × 16, float32\) with {model.spec.name} in \d+\.\d s",
        caplog.messages[-1],
    )


def test_progress_counts_every_cell(
    with_empty: AnnData, model: Model, capsys: pytest.CaptureFixture[str]
):
    with glm.settings.override(progress=True), pytest.warns(GlmWarning):
        glm.tl.embed(with_empty, model)
    assert "13/13" in capsys.readouterr().err  # the cells that can be embedded
    with glm.settings.override(progress=False), pytest.warns(GlmWarning):
        glm.tl.embed(with_empty, model)
    out = capsys.readouterr()
    assert out.err == out.out == ""


# ---- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooling": "max"}, "expected 'mean', 'cls' or None"),
        ({"hidden_layer": -1}, "ambiguous"),
        ({"hidden_layer": 4}, "to 3 \\(last\\)"),
        ({"hidden_layer": "first"}, "expected 'last', 'second_to_last'"),
        ({"token_budget": 0}, "expected at least 1"),
        ({"device": "tpu"}, "There is no device 'tpu'"),
        ({"layer": "counts", "use_raw": True}, "not both"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_options_that_cannot_be(cells: AnnData, model: Model, options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        glm.tl.embed(cells, model, **options)
    assert list(cells.obsm) == list(cells.obs) == list(cells.uns) == []


def test_cls_where_there_is_none(cells: AnnData, make_model: Callable[..., Model]):
    with pytest.raises(ValueError, match="small-v1 has no <cls> token to pool"):
        glm.tl.embed(cells, make_model(), pooling="cls")


def test_missing_layers_and_columns(cells: AnnData, model: Model):
    with pytest.raises(KeyError, match=r"no layer 'counts'; adata\.layers has no layers"):
        glm.tl.embed(cells, model, layer="counts")
    with pytest.raises(KeyError, match="no column 'ids'"):
        glm.tl.embed(cells, model, gene_ids="ids")


def test_no_anndata(model: Model):
    with pytest.raises(TypeError, match="Got a ndarray, expected an AnnData"):
        glm.tl.embed(np.ones((3, 3)), model)  # type: ignore[arg-type]


@pytest.mark.parametrize("layer", [0, -1])
def test_another_tools_name_of_layers_is_translated(cells: AnnData, model: Model, layer: int):
    with pytest.raises(TypeError, match=r"0 is the last layer.*hidden_layer='second_to_last'"):
        glm.tl.embed_geneformer(cells, model, emb_layer=layer)


def test_a_model_of_another_system(cells: AnnData, model: Model):
    other = dataclasses.replace(model, spec=dataclasses.replace(model.spec, system="dnabert"))
    with pytest.raises(ValueError, match=r"is a model of dnabert; use glm\.tl\.embed"):
        glm.tl.embed_geneformer(cells, other)


@pytest.mark.parametrize("mirrored", [False, True], ids=["nothing", "dictionaries"])
def test_offline_the_default_names_the_ways_out(
    request: pytest.FixtureRequest, cells: AnnData, tmp_path: Path, mirrored: bool
):
    """Whichever file is missing first; and what is here already is not touched."""
    folder = tmp_path
    if mirrored:
        folder = request.getfixturevalue("test_data") / "geneformer"
        cells = glm.datasets.toy_cells(n_cells=3, n_genes=8_000)
    with (
        glm.settings.override(offline=True, data_dir=tmp_path, mirror=folder),
        pytest.raises(OSError, match="offline is set") as caught,
    ):
        glm.tl.embed(cells)
    assert "glm.models.prefetch('geneformer-v2-104m')" in str(caught.value)
    assert "model='geneformer-tiny'" in str(caught.value)
    assert list(cells.obsm) == list(cells.uns) == []


# ---- framing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("lengths", [[], [1], [3, 1, 2]])
def test_frame(lengths: list[int]):
    tokens = np.arange(10, 10 + sum(lengths), dtype=np.int32)
    framed, framed_lengths = frame(tokens, np.array(lengths, np.int64), 2, 3)
    parts = np.split(tokens, np.cumsum(lengths)[:-1]) if lengths else []
    assert framed.tolist() == [token for part in parts for token in [2, *part.tolist(), 3]]
    assert framed_lengths.tolist() == [length + 2 for length in lengths]
    assert framed.dtype == np.int32
