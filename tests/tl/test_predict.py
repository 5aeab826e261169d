"""Predictions are those of the plain network, by name, in the object's order."""

from __future__ import annotations

import copy
import dataclasses

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import softmax

import glm
from glm.cells import check_counts
from glm.tl._cell_sentences import cell_sentences

EMPTY = r"1 of 90 \(1%\) cells could not be labelled and are missing \(cell89\): 1 have no count"
COUNTS = {"layer": None, "use_raw": False, "gene_ids": None, "log_normalized": False}


def plain_outputs(model: glm.models.Model, adata) -> tuple[np.ndarray, np.ndarray, list]:
    """Outputs of the plain network on one padded batch, the rows they are of, their sentences."""
    counts = check_counts(adata, model.vocabulary, model=model.spec.name, **COUNTS)
    [cells] = cell_sentences(counts, np.zeros(adata.n_obs, int))
    chosen = np.arange(len(cells.rows))
    tokens = cells.sentences.padded(chosen, 0)
    mask = np.arange(tokens.shape[1]) < cells.sentences.lengths[:, None]
    with torch.no_grad():
        outputs = model.network(torch.from_numpy(tokens), torch.from_numpy(mask)).numpy()
    return outputs, cells.rows, [cells.sentences[i] for i in chosen]


def predict(adata, model, **options):
    with pytest.warns(glm.GlmWarning, match=EMPTY):
        glm.tl.predict(adata, model, **options)


@pytest.mark.parametrize("budget", [None, 1])
def test_cells_as_the_plain_network_says(kinds, trained, budget):
    predict(kinds, trained, token_budget=budget)
    outputs, rows, _ = plain_outputs(trained, kinds)
    shares = kinds.obsm["kind_geneformer_probability"]
    assert shares.dtype == np.float32
    np.testing.assert_allclose(shares[rows], softmax(outputs, axis=1), atol=1e-5)
    names = np.array(trained.spec.labels)
    assert kinds.obs["kind_geneformer"].iloc[rows].tolist() == names[outputs.argmax(1)].tolist()
    confidence = kinds.obs["kind_geneformer_confidence"]
    assert confidence.dtype == np.float32
    np.testing.assert_array_equal(confidence.iloc[rows], shares[rows].max(axis=1))


def test_genes_as_the_plain_network_says(kinds, trained_on_genes):
    glm.tl.predict(kinds, trained_on_genes)
    outputs, _, sentences = plain_outputs(trained_on_genes, kinds)
    token_of = dict(zip(trained_on_genes.vocabulary.ids, trained_on_genes.vocabulary.tokens,
                        strict=True))  # fmt: skip
    shares = kinds.varm["group_geneformer_probability"]
    for place, gene in enumerate(kinds.var_names):
        said = [
            out[list(sentence).index(token_of[gene])]
            for out, sentence in zip(outputs, sentences, strict=True)
            if token_of[gene] in sentence
        ]
        np.testing.assert_allclose(shares[place], softmax(np.mean(said, axis=0)), atol=1e-5)
    assert list(kinds.var["group_geneformer"].cat.categories) == ["alpha", "beta", "gamma"]
    assert kinds.var["group_geneformer_ok"].all()


def test_the_model_has_learnt_and_the_empty_cell_is_missing(kinds, trained):
    predict(kinds, trained)
    label = kinds.obs["kind_geneformer"]
    assert list(label.cat.categories) == ["alpha", "beta", "gamma"]
    assert (label[:-1] == kinds.obs["kind"][:-1]).mean() > 0.9
    assert label.isna().tolist() == [False] * 89 + [True]
    assert kinds.obs["kind_geneformer_ok"].tolist() == [True] * 89 + [False]
    assert np.isnan(kinds.obs["kind_geneformer_confidence"].iloc[-1])
    assert np.isnan(kinds.obsm["kind_geneformer_probability"][-1]).all()
    record = kinds.uns["kind_geneformer"]
    assert record["model"] == "kinds"
    assert record["weights_sha256"] == trained.weights_sha256
    assert record["labels"] == ["alpha", "beta", "gamma"]
    assert record["n_not_predicted"] == 1


def test_a_folder_a_model_and_another_order_of_rows(kinds, trained, tmp_path):
    predict(kinds, trained)
    order = np.random.default_rng(0).permutation(kinds.n_obs)
    other = kinds[order].copy()
    predict(other, str(trained.spec.folder), key_added="folder")
    pd.testing.assert_series_equal(
        other.obs["kind_folder"], kinds.obs["kind_geneformer"].iloc[order], check_names=False
    )
    shares = other.obsm["kind_folder_probability"]
    before = kinds.obsm["kind_geneformer_probability"][order]
    np.testing.assert_allclose(shares, before, atol=1e-5)
    other.write_h5ad(tmp_path / "cells.h5ad")
    again = anndata.read_h5ad(tmp_path / "cells.h5ad")
    np.testing.assert_array_equal(again.obsm["kind_folder_probability"], shares)
    assert list(again.uns["kind_folder"]["labels"]) == ["alpha", "beta", "gamma"]


def test_the_classes_are_the_models_whatever_the_object_holds(kinds, trained):
    """Other categories of the same name, in another order, or none, decide nothing."""
    bare = kinds.copy()
    del bare.obs["kind"]
    predict(bare, trained)
    strange = kinds.copy()
    strange.obs["kind"] = pd.Categorical(["gamma", "zeta"] * 45, categories=["zeta", "gamma"])
    predict(strange, trained)
    assert bare.obs["kind_geneformer"].equals(strange.obs["kind_geneformer"])


def test_a_long_run_in_a_folder(kinds, trained, tmp_path):
    predict(kinds, trained)
    predict(kinds, trained, out=tmp_path / "work", key_added="long")
    np.testing.assert_array_equal(
        kinds.obsm["kind_long_probability"], kinds.obsm["kind_geneformer_probability"]
    )
    with pytest.raises(ValueError, match=r"another|other"):
        glm.tl.embed(kinds, trained, out=tmp_path / "work", pooling="cls")


def test_a_dry_run_writes_nothing(kinds, trained):
    before = set(kinds.obs) | set(kinds.obsm) | set(kinds.uns)
    plan = glm.tl.predict(kinds, trained, dry_run=True)
    assert (plan.n_rows, plan.n_rows_usable) == (90, 89)
    assert set(kinds.obs) | set(kinds.obsm) | set(kinds.uns) == before


def test_a_copy(kinds, trained):
    with pytest.warns(glm.GlmWarning, match=EMPTY):
        copied = glm.tl.predict(kinds, trained, copy=True, target="type")
    assert "type_geneformer" in copied.obs
    assert "type_geneformer" not in kinds.obs


def test_a_column_of_the_users_own_is_kept(kinds, trained):
    kinds.obs["kind_geneformer"] = "mine"
    with pytest.raises(ValueError, match="something glm did not write"):
        glm.tl.predict(kinds, trained)
    predict(kinds, trained, overwrite=True)
    predict(kinds, trained)  # what the same model wrote is replaced
    assert kinds.obs["kind_geneformer"].isna().sum() == 1


def test_a_model_that_was_never_fine_tuned(kinds, new_model):
    with pytest.raises(
        ValueError, match=r"no classes to predict \(its head is 'tokens'\).*finetune"
    ):
        glm.tl.predict(kinds, new_model)


def test_classes_without_names_are_numbers(kinds, trained):
    spec = dataclasses.replace(trained.spec, labels=(), task="")
    nameless = dataclasses.replace(trained, spec=spec, card={})
    predict(kinds, nameless)
    assert list(kinds.obs["class_geneformer"].cat.categories) == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("task", "made"),
    [
        ("regression", lambda x: x),
        ("counts", lambda x: np.log1p(np.exp(x))),
        ("counts_log", np.exp),
    ],
)
def test_amounts(kinds, trained, task, made):
    """The first output of the same network read as an amount."""
    network = copy.deepcopy(trained.network)
    network.classifier = torch.nn.Linear(network.classifier.in_features, 1)
    first = {name: tensor[:1] for name, tensor in trained.network.classifier.state_dict().items()}
    network.classifier.load_state_dict(first)
    spec = dataclasses.replace(trained.spec, task=task, labels=("amount",))
    predict(kinds, dataclasses.replace(trained, spec=spec, network=network.eval()))
    outputs, rows, _ = plain_outputs(trained, kinds)
    amounts = kinds.obs["kind_geneformer"]
    assert amounts.dtype == np.float32
    np.testing.assert_allclose(amounts.iloc[rows], made(outputs[:, 0]), rtol=1e-4, atol=1e-5)
    assert np.isnan(amounts.iloc[-1])


def test_several_amounts_are_not_cut_to_the_first(kinds, trained):
    spec = dataclasses.replace(trained.spec, task="regression")
    with pytest.raises(ValueError, match=r"predicts 3 amounts \(alpha, beta.*a column holds one"):
        glm.tl.predict(kinds, dataclasses.replace(trained, spec=spec))


def test_a_bundle_that_was_trained_again_replaces_its_predictions(kinds, trained):
    """By its name, without overwrite=; another name is refused."""
    predict(kinds, trained)
    again = copy.deepcopy(trained.network)
    with torch.no_grad():
        again.classifier.bias.add_(torch.tensor([100.0, 0.0, 0.0]))
    again = dataclasses.replace(trained, network=again, weights_sha256="1" * 64)
    predict(kinds, again)
    assert set(kinds.obs["kind_geneformer"].dropna()) == {"alpha"}
    assert kinds.uns["kind_geneformer"]["weights_sha256"] == "1" * 64
    named = dataclasses.replace(again, spec=dataclasses.replace(again.spec, name="another"))
    with pytest.raises(ValueError, match=r"already holds the result of kinds.*overwrite=True"):
        glm.tl.predict(kinds, named)


def test_labels_of_which_any_may_be(kinds, trained):
    spec = dataclasses.replace(trained.spec, task="multi_label")
    predict(kinds, dataclasses.replace(trained, spec=spec))
    outputs, rows, _ = plain_outputs(trained, kinds)
    shares = kinds.obsm["kind_geneformer_probability"]
    np.testing.assert_allclose(shares[rows], 1 / (1 + np.exp(-outputs)), atol=1e-5)
    given = kinds.obsm["kind_geneformer"]
    assert given.dtype == bool
    np.testing.assert_array_equal(given[rows], outputs >= 0)
    assert not given[-1].any()
    assert not kinds.obs["kind_geneformer_ok"].iloc[-1]
