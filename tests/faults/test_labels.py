"""Labels that are sliced, missing, unseen or of odd types; memory that runs out while training."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from anndata import AnnData

import glm
from glm.tl._targets import read_target

pytestmark = pytest.mark.faults

LABEL = "kind_geneformer_held_out"


@pytest.fixture(scope="session")
def _thinned_more() -> AnnData:
    adata = glm.datasets.toy_cells(n_cells=24)
    rng = np.random.default_rng(0)
    adata.X = sp.csr_matrix(rng.binomial(adata.X.toarray().astype(np.int64), 0.03), dtype="f4")
    return adata


@pytest.fixture
def labelled(_thinned_more: AnnData) -> AnnData:
    """24 short cells of three kinds, by turns."""
    adata = _thinned_more.copy()
    adata.obs["kind"] = pd.Categorical(
        ["zeta", "mu", "alpha"] * 8, categories=["zeta", "mu", "alpha"]
    )
    return adata


@pytest.fixture
def finetune(model: glm.models.Model, tmp_path: Path) -> Callable[..., Any]:
    """Fine-tune for a moment."""
    return functools.partial(
        glm.tl.finetune, model=model, target="kind", out=tmp_path / "out", epochs=1,
        learning_rate=1e-3, validation_share=0.2,
    )  # fmt: skip


# ---- 38: labels after slicing -------------------------------------------------------------------


def test_38_only_the_classes_that_are_left(labelled, finetune):
    """By name, in the order of the categories; a category without a cell is no class."""
    subset = labelled[labelled.obs["kind"] != "zeta"]
    subset = subset.copy()
    subset.obs["kind"] = subset.obs["kind"].astype(labelled.obs["kind"].dtype)
    assert list(subset.obs["kind"].cat.categories) == ["zeta", "mu", "alpha"]
    trained = finetune(subset)
    assert trained.spec.labels == ("mu", "alpha")
    assert list(subset.obs[LABEL].cat.categories) == ["mu", "alpha"]
    assert subset.obsm[f"{LABEL}_probability"].shape == (16, 2)


@pytest.mark.parametrize("categories", [["zeta", "mu", "alpha"], ["alpha", "mu", "zeta", "nobody"]])
def test_38_codes_decide_nothing(labelled, categories):
    before = read_target(labelled, "kind")
    labelled.obs["kind"] = pd.Categorical(labelled.obs["kind"].astype(str), categories=categories)
    after = read_target(labelled, "kind")
    names = [[target.labels[i] for i in target.values] for target in (before, after)]
    assert names[0] == names[1] == labelled.obs["kind"].tolist()
    assert after.labels == tuple(name for name in categories if name != "nobody")


def test_38_predictions_go_by_name(labelled, finetune):
    trained = finetune(labelled)
    glm.tl.predict(labelled, trained)
    expected = labelled.obs["kind_geneformer"].astype(str)
    subset = labelled[labelled.obs["kind"] == "alpha"].copy()
    del subset.obs["kind_geneformer"], subset.uns["kind_geneformer"]
    for slot in ("_confidence", "_ok"):
        del subset.obs[f"kind_geneformer{slot}"]
    del subset.obsm["kind_geneformer_probability"]
    glm.tl.predict(subset, trained)
    assert list(subset.obs["kind_geneformer"].cat.categories) == ["zeta", "mu", "alpha"]
    assert subset.obs["kind_geneformer"].tolist() == expected[subset.obs_names].tolist()


# ---- 39: labels that are missing, unseen, or all one --------------------------------------------


def test_39_missing_labels_are_left_out_and_counted(labelled, finetune):
    labelled.obs["kind"] = labelled.obs["kind"].astype(object)
    labelled.obs.loc[labelled.obs_names[[0, 5, 6]], "kind"] = [np.nan, "", "nan"]
    with pytest.warns(
        glm.GlmWarning, match=r"3 of 24 \(12%\) cells have no value in adata.obs\['kind'\]"
    ):
        trained = finetune(labelled)
    assert trained.spec.labels == ("alpha", "mu", "zeta")
    assert labelled.obs["kind_geneformer_fold"].isna().to_numpy().nonzero()[0].tolist() == [0, 5, 6]
    assert labelled.uns[LABEL]["n_without_target"] == 3


@pytest.mark.parametrize(
    ("column", "patterns"),
    [
        (["a"] * 24, ["one class only, 'a'", "24 of 24", "at least two classes"]),
        ([None] * 24, ["no label", "0 of 24"]),
        (["a"] * 23 + [None], ["one class only, 'a'", "23 of 24"]),
        ([1.0] * 24, ["same value everywhere", "nothing to learn"]),
        ([np.inf, *range(1, 24)], ["infinite", "1 of 24"]),
    ],
    ids=["one class", "none", "one and missing", "one amount", "infinite"],
)
def test_39_nothing_to_learn(labelled, finetune, refuses, column, patterns):
    labelled.obs["kind"] = column
    refuses(finetune, labelled, ValueError, *patterns)


def test_39_a_class_that_training_would_not_see(labelled, finetune, refuses):
    """All its cells are of the donor that is tested on."""
    labelled.obs["donor"] = ["one"] * 12 + ["two"] * 12
    labelled.obs["kind"] = ["a", "b"] * 6 + ["a", "b", "lonely"] * 4
    said = "1 of 3 classes .* no row in the training part of fold 'two': lonely \\(4\\) cells"
    refuses(finetune, labelled, ValueError, said, folds="donor")


def test_39_a_class_the_model_never_saw_is_drawn_as_such(labelled, finetune):
    trained = finetune(labelled[labelled.obs["kind"] != "zeta"].copy())
    glm.tl.predict(labelled, trained)
    ax = glm.pl.confusion(labelled, "kind", show=False)
    rows = [text.get_text() for text in ax.get_yticklabels()]
    assert rows == ["mu (8)", "alpha (8)", "zeta (8)"]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["mu", "alpha", "zeta"]


def test_39_no_such_column(labelled, finetune, refuses):
    refuses(finetune, labelled, KeyError, "no target 'type'", "adata.obs has kind", target="type")


def test_39_on_both_axes(labelled, finetune, refuses):
    labelled.var["kind"] = ["x", "y"] * (labelled.n_vars // 2)
    refuses(finetune, labelled, ValueError, "adata.obs and adata.var", "axis='obs'")


# ---- 40: types of labels ------------------------------------------------------------------------

FOUR = {
    "bool": ([True, False, True, False], ("False", "True")),
    "nullable bool": (pd.array([True, None, False, True], dtype="boolean"), ("False", "True")),
    "object of bools": ([True, None, False, True], ("False", "True")),
    "string": (pd.array(["b", None, "a", "ü"], dtype="string"), ("a", "b", "ü")),
    "object": (["b", np.nan, "a", "ü"], ("a", "b", "ü")),
    "categorical": (pd.Categorical(["b", None, "a", "b"], categories=["c", "b", "a"]), ("b", "a")),
    "ordered": (pd.Categorical([3, 1, 2, 1], ordered=True), ("1", "2", "3")),
}


@pytest.mark.parametrize("name", FOUR)
def test_40_types_of_labels(labelled, name):
    column, labels = FOUR[name]
    labelled.obs["kind"] = pd.Series(column, index=labelled.obs_names[:4])
    if name == "bool":
        labelled.obs["kind"] = np.tile(column, 6)
    target = read_target(labelled, "kind")
    assert (target.kind, target.labels) == ("classes", labels)
    for value, code in zip(column, target.values[:4], strict=True):
        assert code == -1 if pd.isna(value) else labels[code] == str(value)


def test_40_bool_labels_are_trained_on(labelled, finetune, accepts):
    labelled.obs["kind"] = pd.array([True, False, None] * 8, dtype="boolean")
    with pytest.warns(glm.GlmWarning, match="8 of 24"):
        trained = finetune(labelled)
    assert trained.spec.labels == ("False", "True")


@pytest.mark.parametrize("dtype", ["int64", "uint8", "Int64"])
def test_40_whole_numbers_could_be_either(labelled, finetune, refuses, dtype):
    labelled.obs["kind"] = pd.array([0, 1, 2] * 8, dtype=dtype)
    refuses(finetune, labelled, ValueError, "whole numbers", "kind='classes', 'regression'")
    assert read_target(labelled, "kind", kind="classes").labels == ("0", "1", "2")
    assert read_target(labelled, "kind", kind="regression").values[:3].tolist() == [0, 1, 2]
    assert read_target(labelled, "kind", kind="counts").kind == "counts"


@pytest.mark.parametrize(
    ("column", "error", "patterns"),
    [
        (pd.date_range("2024-01-01", periods=24), TypeError, ["datetime64", "expected labels"]),
        ([{"a"}, {"b"}] * 12, TypeError, ["no labels", "unhashable"]),
        ([1, "1"] * 12, ValueError, ["different labels of the same name \\(1\\)"]),
    ],
    ids=["time", "sets", "one name twice"],
)
def test_40_what_is_no_label(labelled, finetune, refuses, column, error, patterns):
    labelled.obs["kind"] = column
    refuses(finetune, labelled, error, *patterns)


@pytest.mark.parametrize(
    ("matrix", "error", "patterns"),
    [
        (np.tile([[0, 1], [1, 0], [2, 0]], (8, 1)), ValueError, ["other values than 0 and 1"]),
        (np.ones((24, 2)), ValueError, ["2 of 2 labels", "traits_0, traits_1"]),
        (pd.DataFrame({"a": ["yes", "no"] * 12}), TypeError, ["other things than truth values"]),
    ],
    ids=["two", "always", "text"],
)
def test_40_matrices_of_labels(labelled, finetune, refuses, matrix, error, patterns):
    if isinstance(matrix, pd.DataFrame):
        matrix.index = labelled.obs_names
    labelled.obsm["traits"] = matrix
    refuses(finetune, labelled, error, *patterns, target="traits")


# ---- 96: memory that runs out -------------------------------------------------------------------


def test_96_prediction_halves_its_batches(labelled, finetune, monkeypatch):
    trained = finetune(labelled)
    glm.tl.predict(labelled, trained)
    hidden, tried = glm.models.fast.bert.PackedBert.hidden, []

    def short(self, tokens, lengths, **reading):
        tried.append(tokens.numel())
        if tokens.numel() > 400:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return hidden(self, tokens, lengths, **reading)

    monkeypatch.setattr(glm.models.fast.bert.PackedBert, "hidden", short)
    glm.tl.predict(labelled, trained, key_added="short")
    assert max(tried) > 400
    np.testing.assert_allclose(
        labelled.obsm["kind_short_probability"],
        labelled.obsm["kind_geneformer_probability"],
        atol=1e-5,
    )


def test_96_training_keeps_what_it_has_and_goes_on(labelled, finetune, tmp_path, monkeypatch):
    """Memory runs out in the third step; the same call goes on as if it had not."""
    whole = finetune(labelled, out=tmp_path / "whole", save_every_steps=1, tokens_per_batch=500)
    del labelled.obs[LABEL]
    forward, n_left = glm.models.bert.Bert.forward, [2]

    def short(self, *args, **options):
        n_left[0] -= self.training
        if n_left[0] < 0:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, *args, **options)

    options = {"save_every_steps": 1, "tokens_per_batch": 500, "overwrite": True}
    with monkeypatch.context() as patch:
        patch.setattr(glm.models.bert.Bert, "forward", short)
        with pytest.raises(RuntimeError, match=r"Memory ran out .*smaller tokens_per_batch"):
            finetune(labelled, **options)
    assert LABEL not in labelled.obs
    assert (tmp_path / "out" / "run" / "last.ckpt").is_file()
    assert not (tmp_path / "out" / "config.json").exists()
    again = finetune(labelled, **options)
    assert again.weights_sha256 == whole.weights_sha256
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        glm.tl.predict(labelled, again)
