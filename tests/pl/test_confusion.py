"""The table of true and predicted classes, by value."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import glm


@pytest.fixture
def adata():
    adata = glm.datasets.toy_cells(n_cells=8)
    adata.obs["kind"] = ["a", "a", "a", "a", "b", "b", "c", None]
    predicted = ["a", "a", "b", "a", "b", "b", "a", "a"]
    adata.obs["kind_geneformer"] = pd.Categorical(predicted, categories=["b", "a", "d"])
    return adata


def texts(ax) -> dict[tuple[int, int], str]:
    """Numbers in the squares, by row and column."""
    return {(int(t.get_position()[1]), int(t.get_position()[0])): t.get_text() for t in ax.texts}


def test_shares_of_the_true_class(adata):
    ax = glm.pl.confusion(adata, "kind", show=False)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["b (2)", "a (4)", "d (0)", "c (1)"]
    assert texts(ax) == {(0, 0): "100", (1, 0): "25", (1, 1): "75", (3, 1): "100"}
    shown = ax.images[0].get_array()
    np.testing.assert_allclose(shown, [[1, 0, 0, 0], [0.25, 0.75, 0, 0], [0] * 4, [0, 1, 0, 0]])
    title = ax.get_title(loc="left")
    assert "7 cells: 71% right" in title
    assert "58% on average" in title  # (1 + 3/4 + 0) / 3


def test_numbers(adata):
    ax = glm.pl.confusion(adata, "kind", normalize=False, show=False)
    assert texts(ax) == {(0, 0): "2", (1, 0): "1", (1, 1): "3", (3, 1): "1"}


def test_held_out_predictions_come_first(adata):
    held_out = pd.Categorical(["a", None, "a", *[None] * 5], categories=["b", "a", "d"])
    adata.obs["kind_geneformer_held_out"] = held_out
    assert "2 held-out cells: 100%" in glm.pl.confusion(adata, "kind", show=False).get_title("left")
    ax = glm.pl.confusion(adata, "kind", held_out=False, show=False)
    assert "7 cells" in ax.get_title(loc="left")


def test_another_column_of_truth_and_genes(adata):
    adata.obs["expert"] = adata.obs["kind"]
    del adata.obs["kind"]
    with pytest.raises(KeyError, match="no column 'kind' to hold the predictions against"):
        glm.pl.confusion(adata, "kind")
    assert glm.pl.confusion(adata, "kind", truth="expert", show=False) is not None
    adata.var["group"] = "x"
    adata.var["group_geneformer"] = pd.Categorical(["x"] * adata.n_vars)
    ax = glm.pl.confusion(adata, "group", show=False)
    assert f"{adata.n_vars:,} genes: 100% right" in ax.get_title(loc="left")


def test_many_classes_hold_no_numbers(adata):
    adata = glm.datasets.toy_cells(n_cells=40)
    adata.obs["kind"] = [f"class {i % 20}" for i in range(40)]
    adata.obs["kind_geneformer"] = adata.obs["kind"].astype("category")
    ax = glm.pl.confusion(adata, "kind", show=False)
    assert not ax.texts
    assert len(ax.get_xticks()) == 20


def test_nothing_to_draw(adata):
    with pytest.raises(KeyError, match=r"no predictions of 'type'.*glm.tl.finetune"):
        glm.pl.confusion(adata, "type")
    adata.obs["age"] = 1.0
    adata.obs["age_geneformer"] = 1.0
    with pytest.raises(ValueError, match="no classes"):
        glm.pl.confusion(adata, "age")
    adata.obs["kind"] = None
    with pytest.raises(ValueError, match="No row has both"):
        glm.pl.confusion(adata, "kind")


def test_classes_are_named_as_fine_tuning_names_them():
    """Whole numbers with gaps are fractions to pandas, and missing values may have become text."""
    adata = glm.datasets.toy_cells(n_cells=6)
    adata.obs["group"] = [1.0, 2.0, np.nan, 1.0, 2.0, 2.0]
    adata.obs["group_geneformer"] = pd.Categorical(["1", "2", "1", "1", "2", "1"])
    ax = glm.pl.confusion(adata, "group", show=False)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["1 (2)", "2 (3)"]
    assert "5 cells: 80% right" in ax.get_title(loc="left")
    adata.obs["group"] = ["1", "2", "nan", "", "2", "2"]
    ax = glm.pl.confusion(adata, "group", show=False)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["1 (1)", "2 (3)"]
