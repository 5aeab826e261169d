"""What the plots of attention show: values, order, labels, colours."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgba
from scipy.sparse import csr_matrix

import glm

if TYPE_CHECKING:
    from anndata import AnnData

N_GENES = 10
CHOSEN = [0, 2, 3, 5, 6, 8]
NAMES = [f"G{i}" for i in range(N_GENES)]


def slots_of(seed: int) -> tuple[csr_matrix, csr_matrix]:
    """Attention of the chosen genes: 0, 3, 6 to each other, 2, 5, 8 to each other; a pair less."""
    rng = np.random.default_rng(seed)
    mean, n = np.zeros((N_GENES, N_GENES), np.float32), np.zeros((N_GENES, N_GENES), np.int32)
    for row in CHOSEN:
        for column in range(N_GENES):
            mean[row, column] = 0.1 + 0.01 * rng.random() + (row % 3 == column % 3)
            n[row, column] = 20 + 10 * column
    mean[0, 8] = n[0, 8] = 0
    n[0, 7] = 3
    return csr_matrix(mean), csr_matrix(n)


@pytest.fixture
def adata() -> AnnData:
    from anndata import AnnData

    var = pd.DataFrame(
        {
            "half": pd.Categorical(["even", "odd"] * 5),
            "depth": np.arange(10.0),
            "symbol": [f"S{i}" for i in range(10)],
        },
        index=NAMES,
    )
    adata = AnnData(csr_matrix((4, N_GENES)), var=var)
    adata.varp["attention_m"], adata.varp["attention_m_n"] = slots_of(0)
    adata.uns["attention_m"] = {"scale_by_length": False}
    for seed, group in enumerate(["T/NK", "B"]):
        slot = f"attention_m_type_{group.replace('/', '_')}"
        adata.varp[slot], adata.varp[f"{slot}_n"] = slots_of(seed)
    adata.uns["attention_m_by_type"] = {
        "scale_by_length": True,
        "groups": np.array(["T/NK", "B"], dtype=object),
        "n_cells_of_group": np.array([1_200, 7]),
    }
    return adata


def draw(adata: AnnData, **options: Any) -> Any:
    return glm.pl.attention(adata, key="m", show=False, **options)


def labels(axis: Any) -> list[str]:
    return [label.get_text() for label in axis.get_ticklabels()]


# ---- the heat map ------------------------------------------------------------------------------


def test_the_heat_map_holds_the_chosen_genes(adata: AnnData) -> None:
    ax = draw(adata, cluster=False)
    rows = [NAMES[i] for i in CHOSEN]
    assert labels(ax.yaxis) == labels(ax.xaxis) == rows
    shown = ax.images[0].get_array()
    expected = adata[:, rows].varp["attention_m"].toarray()
    missing = adata[:, rows].varp["attention_m_n"].toarray() == 0
    assert missing.sum() == 1
    np.testing.assert_array_equal(np.ma.getmaskarray(shown), missing)
    np.testing.assert_allclose(shown[~missing], expected[~missing], rtol=1e-6)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("attended gene", "attending gene")


def test_like_genes_stand_together(adata: AnnData) -> None:
    ax = draw(adata)
    order = labels(ax.yaxis)
    assert {frozenset(order[:3]), frozenset(order[3:])} == {
        frozenset({"G0", "G3", "G6"}),
        frozenset({"G2", "G5", "G8"}),
    }
    assert labels(ax.xaxis) == order
    places = [NAMES.index(name) for name in order]
    expected = adata.varp["attention_m"].toarray()[np.ix_(places, places)]
    shown = np.ma.filled(ax.images[0].get_array(), 0)
    np.testing.assert_allclose(shown, expected, rtol=1e-6)
    (tree,) = [inset for inset in ax.child_axes if inset.lines]
    assert len(tree.lines) == len(CHOSEN) - 1


def test_some_genes_and_pairs_of_enough_cells(adata: AnnData) -> None:
    ax = draw(adata, genes=["G5", "G0", "G2"], cluster=False, min_cells=60)
    assert labels(ax.yaxis) == ["G0", "G2", "G5"]
    np.testing.assert_array_equal(
        np.ma.getmaskarray(ax.images[0].get_array()), [[True, True, False]] * 3
    )
    texts = [text.get_text() for text in ax.texts]
    assert "grey: too few cells" in texts


@pytest.mark.parametrize("cluster", [True, False])
def test_genes_are_marked_in_the_order_shown(adata: AnnData, cluster: bool) -> None:
    adata.uns["half_colors"] = ["#ff0000", "#0000ff"]
    ax = draw(adata, annotation="half", cluster=cluster)
    strips = [inset for inset in ax.child_axes if inset.images and not inset.axison]
    assert len(strips) == 2
    shades = {"even": to_rgba("#ff0000")[:3], "odd": to_rgba("#0000ff")[:3]}
    expected = [shades[adata.var.loc[name, "half"]] for name in labels(ax.yaxis)]
    for strip in strips:
        np.testing.assert_allclose(strip.images[0].get_array().reshape(-1, 3), expected)
    legend = ax.get_legend()
    assert legend.get_title().get_text() == "half"
    assert [text.get_text() for text in legend.get_texts()] == ["even", "odd"]


def test_numbers_mark_too(adata: AnnData) -> None:
    adata.var.loc["G3", "depth"] = np.nan
    ax = draw(adata, annotation="depth", cluster=False)
    assert ax.get_legend() is None
    assert "depth" in [inset.get_ylabel() for inset in ax.child_axes]


def test_groups_have_panels_of_one_order_and_scale(adata: AnnData) -> None:
    first, second = draw(adata, groupby="type")
    assert labels(first.yaxis) == labels(second.yaxis)
    assert first.images[0].get_clim() == second.images[0].get_clim()
    titles = [ax.texts[0].get_text() for ax in (first, second)]
    assert titles == ["T/NK (1,200 cells)", "B (7 cells)"]
    assert draw(adata, groupby="type", groups="B").texts[0].get_text() == "B (7 cells)"


def test_the_legend_stands_beside_the_first_row_and_tells_of_all_groups(adata: AnnData) -> None:
    """What is above the scale or in too few cells in any panel, not only in the one beside it."""
    adata.varp["attention_m_type_T_NK"][2, 5] = 9.0
    first, second = draw(adata, groupby="type", annotation="half", vmax=5.0)
    assert first.get_legend() is None
    assert second.get_legend() is not None
    (scale,) = [inset for inset in second.child_axes if inset.get_ylabel()]
    assert scale.get_ylabel() == "attention × tokens"
    assert scale._colorbar.extend in ("max", "both")
    adata.varp["attention_m_type_B_n"].data[:] = 50
    _, second = draw(adata, groupby="type", min_cells=30)
    assert "grey: too few cells" in [text.get_text() for text in second.texts]


def test_five_groups_are_three_and_two(adata: AnnData) -> None:
    groups = list("abcde")
    for group in groups:
        slot = f"attention_m_kind_{group}"
        adata.varp[slot], adata.varp[f"{slot}_n"] = slots_of(0)
    adata.uns["attention_m_by_kind"] = {"groups": groups, "n_cells_of_group": np.ones(5, int)}
    axes = draw(adata, groupby="kind", annotation="half")
    assert [ax.get_subplotspec().rowspan.start for ax in axes] == [0, 0, 0, 1, 1]
    assert [ax.get_legend() is not None for ax in axes] == [False, False, True, False, False]


def test_genes_without_a_label_are_in_the_legend(adata: AnnData) -> None:
    adata.var["half"] = pd.Series({"G0": "even", "G3": "odd"})
    ax = draw(adata, annotation="half")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["even", "odd", "none"]
    ax = draw(adata, gene="G0", genes=None, annotation="half", n_partners=1)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["none"]


def test_many_genes_are_counted_not_named(adata: AnnData) -> None:
    from anndata import AnnData

    n = 250
    big = AnnData(csr_matrix((2, n)))
    rng = np.random.default_rng(0)
    big.varp["attention_m"] = csr_matrix(rng.random((n, n)).astype(np.float32))
    big.varp["attention_m_n"] = csr_matrix(np.ones((n, n), np.int32))
    big.uns["attention_m"] = {}
    ax = draw(big)
    assert labels(ax.yaxis) == []
    assert ax.get_title(loc="right") == "250 genes"


def test_labels_do_not_overlap(adata: AnnData) -> None:
    ax = draw(adata)
    ax.figure.canvas.draw()
    for axis, side in ((ax.yaxis, 1), (ax.xaxis, 0)):
        boxes = [label.get_window_extent() for label in axis.get_ticklabels()]
        spans = sorted((box.min[side], box.max[side]) for box in boxes)
        assert all(a[1] <= b[0] for a, b in pairwise(spans))


# ---- the ranking -------------------------------------------------------------------------------


def test_partners_are_ranked(adata: AnnData) -> None:
    ax = draw(adata, gene="G0")
    row = adata.varp["attention_m"].toarray()[0]
    n = adata.varp["attention_m_n"].toarray()[0]
    expected = [NAMES[i] for i in np.argsort(-row) if i != 0 and n[i] >= 10]
    assert labels(ax.yaxis) == expected
    assert "G7" not in expected  # in three cells only
    drawn = ax.collections[-1].get_offsets()
    np.testing.assert_allclose(drawn[:, 0], [row[NAMES.index(name)] for name in expected])
    counts = [text.get_text() for text in ax.texts if text.get_text() != "cells"]
    assert counts == [f"{n[NAMES.index(name)]:,}" for name in expected]
    assert ax.get_title(loc="left") == "G0 attends to"
    assert ax.get_xlabel() == "attention"


def test_fewer_partners_and_the_other_direction(adata: AnnData) -> None:
    assert len(labels(draw(adata, gene="G0", n_partners=2).yaxis)) == 2
    assert "G7" in labels(draw(adata, gene="G0", min_cells=1).yaxis)
    ax = draw(adata, gene="G1", direction="in")
    column = adata.varp["attention_m"].toarray()[:, 1]
    assert labels(ax.yaxis) == [NAMES[i] for i in np.argsort(-column)[: len(CHOSEN)]]
    assert ax.get_title(loc="left") == "attend to G1"


def test_rankings_of_groups_share_an_axis(adata: AnnData) -> None:
    first, second = draw(adata, gene="G2", groupby="type", annotation="half")
    assert first.get_xlim() == second.get_xlim()
    assert first.get_title(loc="left") == "T/NK (1,200 cells)\nG2 attends to"
    assert first.get_xlabel() == "attention × tokens"
    assert second.get_legend() is not None


def test_a_group_without_partners_says_so(adata: AnnData) -> None:
    adata.varp["attention_m_type_B_n"].data[:] = 5
    first, second = draw(adata, gene="G2", groupby="type")
    assert len(labels(first.yaxis)) > 1
    assert [text.get_text() for text in second.texts] == ["no pair in 10 cells"]


def test_names_of_another_column(adata: AnnData) -> None:
    ax = draw(adata, gene="S0", gene_symbols="symbol")
    assert all(name.startswith("S") for name in labels(ax.yaxis))


# ---- figures -----------------------------------------------------------------------------------


def test_axes_of_ones_own(adata: AnnData) -> None:
    figure, (left, right) = plt.subplots(1, 2)
    assert draw(adata, ax=left) is left
    assert draw(adata, gene="G0", ax=right) is right
    assert left.figure is figure
    assert plt.get_fignums() == [figure.number]
    with pytest.raises(ValueError, match="2 groups and one ax"):
        draw(adata, groupby="type", ax=left)


def test_shown_where_somebody_sees_it(adata: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[int] = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(1))
    assert glm.pl.attention(adata, key="m") is not None  # not interactive
    assert not shown
    assert glm.pl.attention(adata, key="m", show=True) is None
    monkeypatch.setattr(matplotlib, "is_interactive", lambda: True)
    assert glm.pl.attention(adata, key="m") is None
    assert len(shown) == 2
    _, ax = plt.subplots()
    assert glm.pl.attention(adata, key="m", ax=ax) is ax


@pytest.mark.parametrize("name", ["plot.png", "plot.pdf", "plot.svg", "no ending"])
def test_saving(adata: AnnData, tmp_path: Path, name: str) -> None:
    draw(adata, save=tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).stat().st_size > 1_000


def test_nothing_is_changed(adata: AnnData) -> None:
    before = adata.copy()
    settings = dict(matplotlib.rcParams)
    draw(adata, annotation="half")
    draw(adata, gene="G0", groupby="type")
    assert dict(matplotlib.rcParams) == settings
    pd.testing.assert_frame_equal(adata.var, before.var)
    assert set(adata.uns) == set(before.uns)
    for slot in adata.varp:
        assert (adata.varp[slot] != before.varp[slot]).nnz == 0


# ---- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        pytest.param({"gene": "G0", "genes": ["G2"]}, ValueError, "not both", id="both"),
        pytest.param({"groupby": "kind"}, KeyError, "no 'attention_m_by_kind'; call", id="slot"),
        pytest.param({"groups": "B"}, ValueError, "groups= needs groupby=", id="groups"),
        pytest.param(
            {"groupby": "type", "groups": ["B", "X"]}, KeyError, "no groups X .*T/NK, B", id="group"
        ),
        pytest.param({"gene": "X"}, KeyError, "X.*whose first are G0", id="gene"),
        pytest.param({"gene": "G1"}, ValueError, "no attention of G1, only of G0", id="not chosen"),
        pytest.param({"genes": ["G0", "G4"]}, ValueError, "no attention of G4", id="genes"),
        pytest.param(
            {"gene": "G0", "min_cells": 999}, ValueError, "999 cells .at most 110.*lower", id="few"
        ),
        pytest.param({"annotation": "x"}, KeyError, "no column 'x'; it has half", id="annotation"),
        pytest.param({"gene_symbols": "x"}, KeyError, "no column 'x'; it has half", id="symbols"),
        pytest.param({"gene": "G0", "direction": "up"}, ValueError, "'out' or 'in'", id="way"),
    ],
)
def test_what_cannot_be_drawn(
    adata: AnnData, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        draw(adata, **options)


def test_without_slots(adata: AnnData) -> None:
    with pytest.raises(KeyError, match=r"no 'attention_geneformer'; call glm\.tl\.attention"):
        glm.pl.attention(adata)
    del adata.varp["attention_m_n"]
    with pytest.raises(KeyError, match=r"adata\.varp has no 'attention_m_n'"):
        draw(adata)


def test_it_draws_what_the_tool_writes() -> None:
    toy = glm.datasets.toy_cells(n_cells=30)
    glm.tl.attention(toy, "geneformer-tiny", n_top=5, groupby="kind")
    axes = glm.pl.attention(toy, groupby="kind", show=False)
    assert [ax.texts[0].get_text() for ax in axes] == [f"{kind} (10 cells)" for kind in "abc"]
    assert labels(axes[0].yaxis) == labels(axes[2].yaxis)
    gene = toy.uns["attention_geneformer_by_kind"]["genes"][0]
    assert len(glm.pl.attention(toy, gene=gene, groupby="kind", show=False)) == 3
