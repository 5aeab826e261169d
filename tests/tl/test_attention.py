"""Attention averaged over cells, against transformers' eager attentions, cell by cell."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_matrix

import glm
from glm.engine import gather
from glm.engine.items import Items
from glm.engine.pair_sums import PairSums
from glm.models.fast.attention import AttentionProbe
from glm.models.fast.bert import PackedBert

if TYPE_CHECKING:
    from anndata import AnnData

    from glm.models import Model

TOLERANCE = 1e-6
TINY = "geneformer-tiny"
QUIET = pytest.mark.filterwarnings("ignore::glm.GlmWarning")
pytestmark = QUIET

Attend = Callable[..., tuple[np.ndarray, np.ndarray]]


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


def sentence(adata: AnnData, model: Model, cell: int) -> list[int]:
    """Columns of a cell's genes as the model reads them, by the definition of a rank."""
    index, medians = model.vocabulary.index, model.vocabulary.medians
    row = adata.X[[cell]].toarray()[0]
    known = [
        (-row[i] / medians[index[gene]], index[gene], i)
        for i, gene in enumerate(adata.var_names)
        if gene in index and row[i] > 0
    ]
    return [i for *_, i in sorted(known)][: model.vocabulary.n_genes_read]


def eager(model: Model) -> Any:
    """The same weights in transformers, which returns all attentions."""
    import transformers

    from glm.models.weights import to_published

    shape = model.spec.shape
    theirs = transformers.BertForMaskedLM(
        transformers.BertConfig(
            vocab_size=shape.vocab_size,
            hidden_size=shape.hidden_size,
            num_hidden_layers=shape.n_layers,
            num_attention_heads=shape.n_heads,
            intermediate_size=shape.intermediate_size,
            max_position_embeddings=shape.n_positions,
            hidden_act=shape.activation,
            layer_norm_eps=shape.layer_norm_eps,
            attn_implementation="eager",
        )
    )
    _, unexpected = theirs.load_state_dict(to_published(model.network), strict=False)
    assert not unexpected
    return theirs.eval()


@pytest.fixture
def attend(model: Model) -> Attend:
    """Mean attention over cells and numbers of cells, genes × genes, the plain way."""
    theirs, vocabulary = eager(model), model.vocabulary

    @torch.no_grad()
    def compute(
        adata: AnnData, layers: list[int], heads: list[int], *, by_length: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        total, n = np.zeros((2, adata.n_vars, adata.n_vars))
        for cell in range(adata.n_obs):
            columns = sentence(adata, model, cell)
            if not columns:
                continue
            names = adata.var_names[columns]
            tokens = [int(vocabulary.tokens[vocabulary.index[gene]]) for gene in names]
            if "cls" in vocabulary.special:
                tokens = [vocabulary.special["cls"], *tokens, vocabulary.special["eos"]]
            found = theirs(torch.tensor([tokens]), output_attentions=True).attentions
            weights = torch.stack([found[layer - 1][0, heads] for layer in layers]).mean((0, 1))
            if "cls" in vocabulary.special:
                weights = weights[1:-1, 1:-1]
            scale = len(tokens) if by_length else 1
            total[np.ix_(columns, columns)] += scale * weights.numpy()
            n[np.ix_(columns, columns)] += 1
        with np.errstate(invalid="ignore"):
            return total / n, n

    return compute


def check(
    adata: AnnData,
    expected: tuple[np.ndarray, np.ndarray],
    chosen: np.ndarray,
    columns: np.ndarray | None = None,
    slot: str = "attention_geneformer",
    tolerance: float = TOLERANCE,
) -> None:
    mean, n = expected
    wanted = np.zeros(mean.shape, bool)
    wanted[np.ix_(chosen, np.arange(adata.n_vars) if columns is None else columns)] = True
    found, counts = adata.varp[slot], adata.varp[f"{slot}_n"]
    assert isinstance(found, csr_matrix)
    assert (found.dtype, counts.dtype) == (np.float32, np.int32)
    assert found.has_canonical_format
    np.testing.assert_array_equal(counts.toarray(), np.where(wanted, n, 0))
    assert found.nnz == counts.nnz == (wanted & (n > 0)).sum()
    np.testing.assert_allclose(
        found.toarray(), np.where(wanted & (n > 0), mean, 0), atol=tolerance, rtol=0
    )


def some_genes(adata: AnnData, model: Model, step: int = 4) -> np.ndarray:
    return np.flatnonzero(adata.var_names.isin(model.vocabulary.ids[::step]))


# ---- the numbers -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "heads"),
    [
        pytest.param(None, None, id="all"),
        pytest.param("last", None, id="last"),
        pytest.param(1, 0, id="first"),
        pytest.param([1, "last"], [1], id="some"),
        pytest.param(["second_to_last", 2], [0, 1], id="one, twice"),
    ],
)
def test_it_is_the_mean_of_eager_attentions(
    cells: AnnData, model: Model, attend: Attend, layers: Any, heads: Any
) -> None:
    chosen = some_genes(cells, model)
    names = list(cells.var_names[chosen])
    glm.tl.attention(cells, model, genes=names[::-1], layers=layers, heads=heads)
    record = cells.uns["attention_geneformer"]
    named = {None: [1, 2, 3], "last": [3], 1: [1]}
    assert record["layers"] == (named[layers] if not isinstance(layers, list) else
                                [1, 3] if layers[0] == 1 else [2])  # fmt: skip
    check(cells, attend(cells, record["layers"], record["heads"]), chosen)
    assert record["genes"] == names
    assert record["n_cells_truncated"] > 0
    assert record["n_cells_unusable"] == 1


def test_scaled_by_length_even_attention_is_1(cells: AnnData, model: Model, attend: Attend) -> None:
    chosen = some_genes(cells, model)
    glm.tl.attention(cells, model, genes=cells.var_names[chosen], scale_by_length=True)
    expected = attend(cells, [1, 2, 3], [0, 1], by_length=True)
    check(cells, expected, chosen, tolerance=2e-5)
    with torch.no_grad():
        for layer in model.encoder.layers:
            layer.attention.query.weight.zero_()
            layer.attention.query.bias.zero_()
    glm.tl.attention(cells, model, genes=cells.var_names[chosen], scale_by_length=True)
    np.testing.assert_allclose(cells.varp["attention_geneformer"].data, 1, rtol=1e-5)


def test_partners_can_be_the_chosen_ones(cells: AnnData, model: Model, attend: Attend) -> None:
    chosen = some_genes(cells, model)
    glm.tl.attention(cells, model, genes=cells.var_names[chosen], partners="chosen")
    check(cells, attend(cells, [1, 2, 3], [0, 1]), chosen, chosen)


def test_each_group_by_itself(cells: AnnData, model: Model, attend: Attend) -> None:
    chosen = some_genes(cells, model)
    glm.tl.attention(cells, model, genes=cells.var_names[chosen], groupby="kind")
    record = cells.uns["attention_geneformer_by_kind"]
    assert record["groups"] == ["c", "a", "b"]
    for group in "abc":
        part = cells[cells.obs["kind"] == group]
        check(
            cells,
            attend(part, [1, 2, 3], [0, 1]),
            chosen,
            slot=f"attention_geneformer_kind_{group}",
        )
    assert set(cells.varp) == {
        f"attention_geneformer_kind_{group}{n}" for group in "abc" for n in ("", "_n")
    }


def test_all_genes_may_be_chosen(cells: AnnData, model: Model, attend: Attend) -> None:
    glm.tl.attention(cells, model, n_top=10_000)
    chosen = np.flatnonzero(cells.varp["attention_geneformer"].getnnz(axis=1))
    check(cells, attend(cells, [1, 2, 3], [0, 1]), chosen)
    total = cells.varp["attention_geneformer"][chosen]
    assert total.min() >= 0


def test_genes_beyond_the_context_are_not_counted(model: Model) -> None:
    """One cell, all genes: those of the lowest ranks are in no sentence."""
    ids = list(model.vocabulary.ids)
    counts = np.round(1e4 * model.vocabulary.medians * np.linspace(2, 1, len(ids)))
    adata = ad.AnnData(csr_matrix(counts[None]), var=pd.DataFrame(index=ids))
    glm.tl.attention(adata, model, n_top=1_000)
    n_read = model.vocabulary.n_genes_read
    assert adata.uns["attention_geneformer"]["genes"] == ids[:n_read]
    n = adata.varp["attention_geneformer_n"].toarray()
    assert (n[:n_read, :n_read] == 1).all()
    assert n.sum() == n_read**2
    with pytest.warns(glm.GlmWarning, match=r"1 of 2 \(50%\) chosen genes are read in no cell.*"):
        glm.tl.attention(adata, model, genes=[ids[0], ids[-1]])


def test_n_top_are_the_genes_of_most_cells(cells: AnnData, model: Model) -> None:
    n_read = np.zeros(cells.n_vars, int)
    for cell in range(cells.n_obs):
        n_read[sentence(cells, model, cell)] += 1
    best = np.argsort(-n_read, kind="stable")[:7]
    glm.tl.attention(cells, model, n_top=7)
    names = [str(name) for name in cells.var_names[np.sort(best)]]
    assert cells.uns["attention_geneformer"]["genes"] == names


def test_cutting_the_work_changes_nothing(cells: AnnData, model: Model, tmp_path: Path) -> None:
    options = {"n_top": 9, "groupby": "kind", "copy": True}
    whole = glm.tl.attention(cells, model, **options)
    small = glm.tl.attention(cells, model, **options, token_budget=1)
    shards = glm.tl.attention(cells, model, **options, out=tmp_path / "out")
    again = glm.tl.attention(cells, model, **options, out=tmp_path / "out")
    for slot, expected in whole.varp.items():
        np.testing.assert_allclose(small.varp[slot].data, expected.data, atol=TOLERANCE, rtol=0)
        for other in (shards, again):
            np.testing.assert_array_equal(other.varp[slot].toarray(), expected.toarray())
    changes = {"layers": 1, "heads": 1, "scale_by_length": True, "partners": "chosen", "n_top": 8}
    told = {"partners": "pairs", "n_top": "pairs"}
    for name, value in changes.items():
        with pytest.raises(ValueError, match=rf"holds another run: .*{told.get(name, name)} is"):
            glm.tl.attention(cells, model, **options | {name: value}, out=tmp_path / "out")
    cells.obs["kind"] = cells.obs["kind"].array[::-1]  # the same names in the same order
    with pytest.raises(ValueError, match="holds another run: groups is"):
        glm.tl.attention(cells, model, **options, out=tmp_path / "out")


# ---- what is computed --------------------------------------------------------------------------


def test_nothing_that_is_not_asked_for_is_computed(
    make_model: Callable[..., Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No layer above, no values or products after attention in the highest, no idle sentence."""
    model = make_model()
    vocabulary, rng = model.vocabulary, np.random.default_rng(0)
    lengths = [20, 7, 31, 1]
    parts = [rng.permutation(vocabulary.tokens)[:n] for n in lengths]
    parts[1][:] = vocabulary.tokens[20:27]
    tokens = torch.from_numpy(np.concatenate(parts))
    is_query = torch.zeros(len(vocabulary), dtype=torch.bool)
    is_query[torch.from_numpy(vocabulary.tokens[:15])] = True
    options = {"layers": [1, 2], "heads": [1]}
    probe = AttentionProbe(PackedBert(model.encoder), is_query, ~is_query, **options)
    expected = probe.hidden(tokens, lengths, layer=2)
    highest = model.encoder.layers[1]
    unused = [highest.attention.value, highest.attention.output, highest.attention_norm]
    unused += [highest.up, highest.down, highest.norm, model.encoder.layers[2]]
    with torch.no_grad():
        for module in unused:
            for parameter in module.parameters():
                parameter.fill_(float("nan"))
    packed, ran = PackedBert(model.encoder), []
    inner = packed.hidden
    monkeypatch.setattr(
        packed, "hidden", lambda t, n, **kw: (ran.append(list(n)), inner(t, n, **kw))[1]
    )
    found = AttentionProbe(packed, is_query, ~is_query, **options).hidden(tokens, lengths, layer=2)
    assert torch.equal(found, expected)
    with_queries = [
        n for n, part in zip(lengths, parts, strict=True) if is_query[torch.from_numpy(part)].any()
    ]
    assert 7 not in with_queries
    assert ran == [[n for n in with_queries if n > 1]]  # one gene has no partner


def test_no_more_than_a_block_of_one_head_is_held(
    make_model: Callable[..., Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    from glm.models.fast import attention as module

    monkeypatch.setitem(module._QUERIES, "cpu", 5)
    shapes: list[tuple[int, ...]] = []
    softmax = torch.softmax

    def spy(scores: torch.Tensor, **options: Any) -> torch.Tensor:
        shapes.append(tuple(scores.shape))
        return softmax(scores, **options)

    model = make_model()
    packed = PackedBert(model.encoder)
    every = torch.ones(len(model.vocabulary), dtype=torch.bool)
    tokens = torch.from_numpy(model.vocabulary.tokens[:32])
    monkeypatch.setattr(torch, "softmax", spy)
    AttentionProbe(packed, every, every, layers=[1]).hidden(tokens, [32], layer=1)
    assert sum(rows for rows, _ in shapes) == 2 * 32
    assert max(rows for rows, _ in shapes) == 5
    assert {columns for _, columns in shapes} == {32}


def test_cells_that_are_not_finite_are_left_out(make_model: Callable[..., Model]) -> None:
    model = make_model()
    ids = list(model.vocabulary.ids)[:20]
    counts = np.ones((6, 20), np.float32) * np.arange(1, 21)
    counts[3:, 0] = 0
    adata = ad.AnnData(csr_matrix(counts), var=pd.DataFrame(index=ids))
    with torch.no_grad():
        model.encoder.embeddings.token.weight[int(model.vocabulary.tokens[0])] = float("nan")
    with pytest.warns(glm.GlmWarning, match="3 of 6 .*left out.*3 came out of the model not fin"):
        glm.tl.attention(adata, model, genes=ids[5:8])
    assert np.isfinite(adata.varp["attention_geneformer"].data).all()
    assert set(adata.varp["attention_geneformer_n"].data) == {3}
    assert adata.uns["attention_geneformer"]["n_cells_of_group"] == [3]


# ---- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        pytest.param({}, ValueError, r"genes=\[\.\.\.\] or n_top=200.*40,000 pairs", id="none"),
        pytest.param({"genes": ["x"], "n_top": 3}, ValueError, "not both", id="both"),
        pytest.param({"genes": []}, ValueError, "genes is empty", id="empty"),
        pytest.param({"genes": "CD3D"}, TypeError, r"expected a list.*\['CD3D'\]", id="text"),
        pytest.param({"genes": ["x", "y"]}, KeyError, "2 of 2.*x, y", id="unknown"),
        pytest.param({"n_top": 0}, ValueError, "n_top is 0; expected a whole", id="n_top"),
        pytest.param(
            {"n_top": 2.5}, ValueError, r"n_top is 2\.5; expected a whole", id="n_top 2.5"
        ),
        pytest.param({"n_top": 2, "partners": "some"}, ValueError, "'all' or 'ch", id="partners"),
        pytest.param({"n_top": 2, "layers": 0}, ValueError, "layers is 0; expected one", id="0"),
        pytest.param({"n_top": 2, "layers": 99}, ValueError, "one or several of 1 to", id="99"),
        pytest.param({"n_top": 2, "layers": -1}, ValueError, "layers is -1", id="-1"),
        pytest.param({"n_top": 2, "layers": "first"}, ValueError, "'first'", id="first"),
        pytest.param({"n_top": 2, "layers": []}, ValueError, r"layers is \[\]", id="no layer"),
        pytest.param({"n_top": 2, "layers": True}, ValueError, "layers is True", id="boolean"),
        pytest.param(
            {"n_top": 2, "heads": 99},
            ValueError,
            "heads is 99; expected one or several of 0 to",
            id="h",
        ),
        pytest.param({"n_top": 2, "heads": [0.5]}, ValueError, r"heads is \[0\.5\]", id="half"),
    ],
)
def test_what_cannot_be_asked_for(
    toy: AnnData, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        glm.tl.attention(toy, TINY, **options)
    assert not toy.uns
    assert not toy.varp


def test_genes_without_a_token_of_their_own_are_named(cells: AnnData, model: Model) -> None:
    outside = [name for name in cells.var_names if name not in model.vocabulary.index]
    known = [i for i, name in enumerate(cells.var_names) if name in model.vocabulary.index]
    names = list(cells.var_names)
    names[known[1]] = names[known[0]] + ".2"
    cells.var_names = names
    genes = [names[known[0]], names[known[1]], outside[0]]
    with pytest.raises(ValueError, match=rf"2 of 3.*{outside[0]}, .*\.2 \(read as {genes[0]}\)"):
        glm.tl.attention(cells, model, genes=genes)


def test_names_that_repeat_are_refused_only_where_they_are_asked_for(
    cells: AnnData, model: Model
) -> None:
    known = [i for i, name in enumerate(cells.var_names) if name in model.vocabulary.index]
    cells.var["ensembl_id"] = list(cells.var_names)
    names = list(cells.var_names)
    names[known[1]] = names[known[0]]
    cells.var_names = names
    with pytest.raises(ValueError, match=r"Several genes are named .*var_names_make_unique"):
        glm.tl.attention(cells, model, genes=[names[known[0]]])
    glm.tl.attention(cells, model, genes=[names[known[2]]])


# ---- slots -------------------------------------------------------------------------------------


def test_slots_like_those_of_the_other_verbs(toy: AnnData, tmp_path: Path) -> None:
    toy.obs["label"] = pd.Categorical(["CD4+/CD25 T", "B cells", "NK"] * 3)
    before = set(toy.var) | set(toy.obs)
    for _ in range(2):  # a notebook cell run twice
        glm.tl.attention(toy, TINY, n_top=3)
        glm.tl.attention(toy, TINY, n_top=3, groupby="label")
    assert set(toy.var) | set(toy.obs) == before
    assert set(toy.uns) == {"attention_geneformer", "attention_geneformer_by_label"}
    assert len(toy.varp) == 8
    toy.write_h5ad(tmp_path / "cells.h5ad")
    again = ad.read_h5ad(tmp_path / "cells.h5ad")
    for slot, expected in toy.varp.items():
        np.testing.assert_array_equal(again.varp[slot].toarray(), expected.toarray())
    glm.tl.attention(again, TINY, n_top=2, groupby="label")  # it knows its own slots
    again.varp["attention_geneformer"] = csr_matrix((200, 200))
    del again.uns["attention_geneformer"]
    with pytest.raises(ValueError, match="already holds something glm did not write"):
        glm.tl.attention(again, TINY, n_top=2)
    glm.tl.attention(again, TINY, n_top=2, overwrite=True)


def test_small_values_can_be_dropped_from_the_means_alone(toy: AnnData) -> None:
    glm.tl.attention(toy, TINY, n_top=3)
    means, n = toy.varp["attention_geneformer"], toy.varp["attention_geneformer_n"]
    before = n.toarray()
    means.data[::2] = 0
    means.eliminate_zeros()  # in place
    np.testing.assert_array_equal(n.toarray(), before)


def test_numbers_of_numpy(toy: AnnData, tmp_path: Path) -> None:
    same = toy.copy()
    glm.tl.attention(toy, TINY, n_top=3, layers=2, heads=1, token_budget=500, scale_by_length=True)
    glm.tl.attention(
        same,
        TINY,
        n_top=np.int64(3),
        layers=np.array([2]),
        heads=np.int8(1),
        token_budget=np.int64(500),
        scale_by_length=np.True_,
        out=tmp_path / "out",
    )
    assert (same.varp["attention_geneformer"] != toy.varp["attention_geneformer"]).nnz == 0


def test_a_dry_run_times_the_genes_that_are_asked_for(toy: AnnData) -> None:
    few = glm.tl.attention(toy, TINY, n_top=2, dry_run=True, copy=True)
    many = glm.tl.attention(toy, TINY, n_top=100, dry_run=True)
    assert not toy.varp
    assert not toy.uns
    assert few.n_rows == many.n_rows == toy.n_obs
    assert few.n_tokens == glm.tl.embed(toy, TINY, dry_run=True).n_tokens
    # A pair of chosen gene and partner: what making its mean takes.
    assert many.result_bytes == 50 * few.result_bytes == 44 * 100 * toy.n_vars
    assert few.seconds > 0
    chosen = glm.tl.attention(toy, TINY, n_top=2, partners="chosen", dry_run=True)
    assert chosen.result_bytes == 44 * 2 * 2
    toy.obs["label"] = ["a", "b", "c"] * 3
    grouped = glm.tl.attention(toy, TINY, n_top=2, groupby="label", dry_run=True)
    assert grouped.result_bytes == 3 * few.result_bytes


def test_a_dry_run_adds_to_the_sums_too(toy: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many genes, and in sums that are smaller than those of the run would be."""
    sides = []
    update = PairSums.update

    def spy(self: PairSums, batch: Items, hidden: torch.Tensor) -> None:
        update(self, batch, hidden)
        sides.append((self.shape, hidden.numel(), int((self.state()["n"] > 0).sum())))

    monkeypatch.setattr(PairSums, "update", spy)
    monkeypatch.setattr("glm.tl._attention._MOST_TIMED", 16)
    glm.tl.attention(toy, TINY, n_top=50, dry_run=True)
    assert len(sides) >= 2
    assert all(shape == (1, 16, 16) and n > 16 * 16 and met > 0 for shape, n, met in sides)


def test_genes_follow_the_object(toy: AnnData) -> None:
    glm.tl.attention(toy, TINY, n_top=4, partners="chosen")
    chosen = toy.uns["attention_geneformer"]["genes"]
    part = toy[:, chosen[::-1]]
    expected = toy[:, chosen].varp["attention_geneformer"].toarray()
    np.testing.assert_array_equal(part.varp["attention_geneformer"].toarray(), expected[::-1, ::-1])


def test_a_copy_and_a_view(toy: AnnData) -> None:
    copied = glm.tl.attention(toy, TINY, n_top=2, copy=True)
    assert "attention_geneformer" in copied.varp
    assert not toy.varp
    view = toy[:5]
    glm.tl.attention(view, TINY, n_top=2)
    assert "attention_geneformer" in view.varp
    assert not toy.varp


def test_a_modality(toy: AnnData) -> None:
    mudata = pytest.importorskip("mudata")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        both = mudata.MuData({"rna": toy, "protein": toy[:, :3].copy()})
    glm.tl.attention(both, TINY, mod="rna", n_top=2)
    assert "attention_geneformer" in both.mod["rna"].varp


# ---- the reducer and the executor --------------------------------------------------------------


def _batch(rng: np.random.Generator, rows: list[int]) -> tuple[Items, torch.Tensor]:
    lengths = rng.integers(1, 7, len(rows))
    parts = [rng.permutation(7)[:n].astype(np.int32) for n in lengths]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    span = np.stack([np.zeros_like(lengths), lengths], axis=1).astype(np.int32)
    items = Items.one_a_row(np.array(rows), np.concatenate(parts), offsets, span)
    sizes = [int((part < 3).sum() * (part != 4).sum()) for part in parts]
    return items, torch.from_numpy(rng.random(sum(sizes)).astype(np.float32))


def _pair_sums() -> PairSums:
    rows = np.array([0, 1, 2, -1, -1, -1, -1])
    columns = np.array([0, 1, 2, 3, -1, 4, 5])
    return PairSums(rows, columns, (3, 6), group_of_row=np.array([0, 1, 0, -1, 1, 0]), n_groups=2)


def test_states_merge() -> None:
    rng = np.random.default_rng(0)
    batches = [_batch(rng, [0, 3]), _batch(rng, [1, 2, 4]), _batch(rng, [5])]
    whole, parts = _pair_sums(), []
    for batch in batches:
        part = _pair_sums()
        for reducer in (whole, part):
            reducer.update(*batch)
        parts.append(part.state())
    kept = {name: array.copy() for name, array in parts[0].items()}
    merged = _pair_sums()
    gather([{}, *parts], merged)
    whole.finish()
    for one, other in zip(merged.pairs, whole.pairs, strict=True):
        np.testing.assert_array_equal(one.row, other.row)
        np.testing.assert_array_equal(one.column, other.column)
        np.testing.assert_array_equal(one.n, other.n)
        np.testing.assert_allclose(one.mean, other.mean, rtol=1e-6)
    assert merged.n_cells.tolist() == whole.n_cells.tolist() == [3, 2]
    for name, array in parts[0].items():  # later updates do not reach into a state
        np.testing.assert_array_equal(array, kept[name])
    assert whole.state() == {}  # it has forgotten


def test_an_update_without_memory_adds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    reducer = _pair_sums()
    reducer.update(*_batch(rng, [0, 1]))
    before = reducer.state()

    def fail(*_: object, **__: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "empty", fail)
        with pytest.raises(torch.OutOfMemoryError):
            reducer.update(*_batch(rng, [2, 4]))
    for name, array in reducer.state().items():
        np.testing.assert_array_equal(array, before[name])


def test_wrong_use_of_the_executor_is_named(make_model: Callable[..., Model]) -> None:
    model = make_model()
    packed = PackedBert(model.encoder)
    every = torch.ones(len(model.vocabulary), dtype=torch.bool)
    for numbers in ([], [0], [4]):
        with pytest.raises(ValueError, match=r"layers are .*from 1 to 3"):
            AttentionProbe(packed, every, every, layers=numbers)
    with pytest.raises(ValueError, match=r"heads are \[2\].*from 0 to 1"):
        AttentionProbe(packed, every, every, layers=[1], heads=[2])
    with pytest.raises(ValueError, match=r"is_key is .*one truth value"):
        AttentionProbe(packed, every, every[:3], layers=[1])
    probe = AttentionProbe(packed, every, every, layers=[1, 2])
    with pytest.raises(ValueError, match=r"layer=3.*the highest of the layers, 2"):
        probe.hidden(torch.arange(3), [3], layer=3)
