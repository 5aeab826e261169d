"""Fine-tuning learns, keeps donors apart, tests on what it never saw, and says what it did."""

from __future__ import annotations

import json

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData

import glm
from glm.tl._targets import read_target

LABEL = "kind_geneformer_held_out"


def was_tested(adata, label: str = LABEL, axis: str = "obs") -> np.ndarray:
    """bool, one a row: whether it has a held-out prediction."""
    return getattr(adata, axis)[f"{label}_ok"].to_numpy()


# ---- what is written ----------------------------------------------------------------------------


def test_it_learns_and_writes_what_it_did_not_train_on(kinds, finetune, new_model, tmp_path):
    before = {name: tensor.clone() for name, tensor in new_model.network.state_dict().items()}
    columns = set(kinds.obs)
    model = finetune(kinds, target="kind", out=tmp_path / "mine", test_share=0.2)
    assert set(kinds.obs) - columns == {
        LABEL, f"{LABEL}_confidence", f"{LABEL}_ok", "kind_geneformer_fold",
    }  # fmt: skip
    fold = kinds.obs["kind_geneformer_fold"]
    assert list(fold.cat.categories) == ["train", "validation", "test"]
    assert fold.isna().tolist() == [False] * 89 + [True]
    np.testing.assert_array_equal(was_tested(kinds), fold == "test")
    assert 15 <= was_tested(kinds).sum() <= 21
    label = kinds.obs[LABEL]
    assert list(label.cat.categories) == ["alpha", "beta", "gamma"]
    assert label.notna().tolist() == was_tested(kinds).tolist()
    assert (label == kinds.obs["kind"])[was_tested(kinds)].mean() > 0.9
    shares = kinds.obsm[f"{LABEL}_probability"]
    assert shares.dtype == np.float32
    np.testing.assert_allclose(shares[was_tested(kinds)].sum(axis=1), 1, rtol=1e-6)
    assert np.isnan(shares[~was_tested(kinds)]).all()

    record = kinds.uns[LABEL]
    assert record["metrics"]["accuracy"] == (label == kinds.obs["kind"])[was_tested(kinds)].mean()
    assert record["n_train"] + record["n_validation"] + record["n_test"] == 89
    assert (record["trained_from"], record["model"]) == (new_model.spec.name, "mine")
    assert record["weights_sha256"] == model.weights_sha256
    assert model.spec.labels == ("alpha", "beta", "gamma")
    assert (model.spec.head, model.spec.task) == ("cells", "classes")
    for name, tensor in new_model.network.state_dict().items():
        assert torch.equal(tensor, before[name]), "the model that was given was changed"
    kinds.write_h5ad(tmp_path / "cells.h5ad")
    again = anndata.read_h5ad(tmp_path / "cells.h5ad")
    assert again.uns[LABEL]["metrics"] == record["metrics"]


def test_the_bundle_says_the_same_of_the_test_part(kinds, finetune, tmp_path):
    """Calibration and all travel with the folder."""
    finetune(kinds, target="kind", out=tmp_path / "mine", test_share=0.2)
    with pytest.warns(glm.GlmWarning, match="could not be labelled"):
        glm.tl.predict(kinds, tmp_path / "mine")
    rows = was_tested(kinds)
    np.testing.assert_allclose(
        kinds.obsm["kind_geneformer_probability"][rows],
        kinds.obsm[f"{LABEL}_probability"][rows],
        atol=1e-5,
    )
    card = json.loads((tmp_path / "mine" / "config.json").read_text())["card"]
    assert card["target"] == "kind"
    assert card["metrics"] == kinds.uns[LABEL]["metrics"]
    assert card["recipe"]["learning_rate"] == 0.005


def test_the_same_call_again_changes_nothing(kinds, finetune, tmp_path):
    one = finetune(kinds, target="kind", out=tmp_path / "mine")
    before = kinds.copy()
    other = finetune(kinds, target="kind", out=tmp_path / "mine")
    assert one.weights_sha256 == other.weights_sha256
    pd.testing.assert_frame_equal(kinds.obs, before.obs)
    assert set(kinds.uns) == set(before.uns)


# ---- parts --------------------------------------------------------------------------------------


def test_a_donor_is_on_one_side(kinds, finetune, tmp_path):
    finetune(kinds, target="kind", out=tmp_path / "mine", split_by="donor", test_share=0.2)
    known = kinds.obs["kind_geneformer_fold"].notna()
    parts = kinds.obs[known].groupby("donor", observed=True)["kind_geneformer_fold"].nunique()
    assert (parts == 1).all()
    assert kinds.uns[LABEL]["groups_kept_in_validation"]


def test_folds_test_every_cell_once(kinds, finetune, tmp_path):
    model = finetune(
        kinds, target="kind", out=tmp_path / "mine", folds=3, split_by="donor", epochs=3
    )
    assert was_tested(kinds).tolist() == [True] * 89 + [False]
    fold = kinds.obs["kind_geneformer_fold"]
    assert list(fold.cat.categories) == ["1", "2", "3"]
    assert (
        kinds.obs[:-1].groupby("donor", observed=True)["kind_geneformer_fold"].nunique() == 1
    ).all()
    record = kinds.uns[LABEL]
    assert set(record["metrics_of_fold"]) == {"1", "2", "3"}
    assert record["n_test"] == 89
    assert record["n_train"] + record["n_validation"] == 89
    assert sorted(p.name for p in (tmp_path / "mine" / "run").glob("fold_*")) == [
        "fold_1", "fold_2", "fold_3",
    ]  # fmt: skip
    assert model.spec.name == "mine"


def test_folds_that_are_there(kinds, finetune, tmp_path):
    kinds.obs["site"] = np.where(kinds.obs["donor"].isin(["donor0", "donor1"]), "north", "south")
    finetune(kinds, target="kind", out=tmp_path / "a", folds="site", split_by="donor", epochs=2)
    np.testing.assert_array_equal(
        kinds.obs["kind_geneformer_fold"][:-1].astype(str), kinds.obs["site"][:-1]
    )
    assert set(kinds.uns[LABEL]["metrics_of_fold"]) == {"north", "south"}


def test_parts_that_are_there(kinds, finetune, tmp_path):
    kinds.obs["part"] = ["train"] * 60 + ["valid"] * 10 + ["test"] * 20
    finetune(kinds, target="kind", out=tmp_path / "a", folds="part", epochs=2)
    expected = ["train"] * 60 + ["validation"] * 10 + ["test"] * 19
    assert kinds.obs["kind_geneformer_fold"][:-1].tolist() == expected


def test_folds_that_part_a_donor(kinds):
    kinds.obs["part"] = ["train"] * 60 + ["test"] * 30
    with pytest.raises(
        ValueError, match=r"rows of 6 groups of 'donor' into more than one .*donor0"
    ):
        _split(kinds, folds="part", split_by="donor")


def _split(adata, **wish):
    from glm.tl._parts import Wish, divide_rows

    target = read_target(adata, "kind")
    return divide_rows(adata, target, np.ones(adata.n_obs, bool), Wish(**wish))


def test_none_to_test(kinds, finetune, tmp_path):
    finetune(kinds, target="kind", out=tmp_path / "a", test_share=0, epochs=1)
    assert not was_tested(kinds).any()
    assert kinds.uns[LABEL]["metrics"] == {}


def test_a_class_of_one_donor_cannot_be_tested(kinds):
    kinds.obs["kind"] = np.where(kinds.obs["donor"] == "donor0", "delta", kinds.obs["kind"])
    with pytest.raises(
        ValueError, match=r"1 of 4 classes .*training part of fold '\d': delta \(15\)"
    ):
        _split(kinds, folds=3, split_by="donor")


def test_too_few_donors(kinds):
    with pytest.raises(ValueError, match="6 groups of 'donor' cannot make 7 folds"):
        _split(kinds, folds=7, split_by="donor")


def test_a_donor_that_is_not_known(kinds):
    kinds.obs["donor"] = kinds.obs["donor"].where(kinds.obs["donor"] != "donor0")
    with pytest.raises(ValueError, match=r"15 of 90 .* no value in adata.obs\['donor'\] \(cell0, "):
        _split(kinds, split_by="donor")


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"folds": 1}, "folds is 1"),
        ({"folds": True}, "folds is True"),
        ({"test_share": 1.0}, "test_share is 1.0"),
        ({"validation_share": 0.0}, "validation_share is 0.0"),
        ({"folds": "nothing"}, "no column 'nothing'"),
    ],
)
def test_wishes_that_make_no_sense(kinds, wish, message):
    with pytest.raises((ValueError, KeyError), match=message):
        _split(kinds, **wish)


# ---- kinds of targets ---------------------------------------------------------------------------


def test_amounts_are_learnt_in_their_unit(kinds, finetune, tmp_path):
    model = finetune(kinds, target="age", out=tmp_path / "age", test_share=0.2, epochs=15)
    ages = kinds.obs["age_geneformer_held_out"]
    rows = ages.notna()
    assert ages.dtype == np.float32
    error = (ages - kinds.obs["age"])[rows].abs().mean()
    assert error < 5, "the kinds are 20 apart"
    record = kinds.uns["age_geneformer_held_out"]
    assert record["kind"] == "regression"
    assert record["metrics"]["mean_absolute_error"] == pytest.approx(error, rel=1e-5)
    assert record["metrics"]["pearson"] > 0.8
    assert model.spec.task == "regression"
    with pytest.warns(glm.GlmWarning, match="could not be labelled"):
        glm.tl.predict(kinds, model)
    np.testing.assert_allclose(kinds.obs["age_geneformer"][rows], ages[rows], rtol=1e-5)


def test_counts_are_predicted_by_poissons_law(kinds, finetune, tmp_path):
    kinds.obs["n"] = np.where(kinds.obs["kind"] == "alpha", 9, 1)
    model = finetune(kinds, target="n", kind="counts", out=tmp_path / "n", epochs=15)
    found = kinds.obs["n_geneformer_held_out"]
    rows = found.notna()
    assert (found[rows] >= 0).all()
    means = found[rows].groupby(kinds.obs["kind"][rows], observed=True).mean()
    assert means["alpha"] > 2 * means["beta"]
    assert model.spec.task == "counts"


def test_several_labels_a_cell(kinds, finetune, tmp_path):
    of_kind = pd.get_dummies(kinds.obs["kind"])
    kinds.obsm["traits"] = of_kind.assign(early=of_kind["alpha"] | of_kind["beta"])
    model = finetune(kinds, target="traits", out=tmp_path / "traits", test_share=0.2)
    assert model.spec.labels == ("alpha", "beta", "gamma", "early")
    label = "traits_geneformer_held_out"
    rows = was_tested(kinds, label)
    given = kinds.obsm[label]
    assert given.dtype == bool
    assert (given[rows] == kinds.obsm["traits"].to_numpy()[rows]).mean() > 0.85
    shares = kinds.obsm[f"{label}_probability"]
    np.testing.assert_array_equal(shares[rows] >= 0.5, given[rows])


def test_genes_are_split_and_written_to_var(kinds, finetune, tmp_path):
    kinds.var["group"] = kinds.var["group"].where(np.arange(30) != 4)
    model = finetune(kinds, target="group", out=tmp_path / "g", folds=3, epochs=2)
    label = "group_geneformer_held_out"
    assert was_tested(kinds, label, "var").sum() == 29
    assert kinds.var[label].isna()[kinds.var_names[4]]
    assert kinds.varm[f"{label}_probability"].shape == (30, 3)
    assert set(kinds.var["group_geneformer_fold"].dropna()) == {"1", "2", "3"}
    assert (model.spec.head, kinds.uns[label]["axis"]) == ("genes", "var")
    assert not any(name.startswith("group_") for name in kinds.obs)


def test_genes_that_the_model_does_not_know(kinds, finetune, tmp_path):
    """Anywhere among the columns, at the end too: they are left out."""
    unknown = AnnData(np.zeros((kinds.n_obs, 2), np.float32), obs=kinds.obs)
    unknown.var_names = ["ENSG09999999998", "ENSG09999999999"]
    unknown.var["group"] = "alpha"
    several = anndata.concat([kinds, unknown], axis="var", merge="first")
    finetune(several, target="group", out=tmp_path / "mine", epochs=1, test_share=0.2)
    assert several.var["group_geneformer_fold"].notna().tolist() == [True] * 30 + [False] * 2


def test_genes_of_raw_are_those_of_the_object(kinds, new_model, tmp_path):
    """Labels stand at the columns of the object: in another order they would be other genes'."""
    kinds.raw = kinds.copy()
    turned = kinds[:, ::-1].copy()
    with pytest.raises(ValueError, match="results for genes need the same ones"):
        glm.tl.finetune(turned, new_model, target="group", out=tmp_path / "mine", use_raw=True)
    assert not (tmp_path / "mine").exists()


def test_columns_of_one_gene_agree(kinds, new_model):
    from glm.tl._targets import first_of_gene

    target = read_target(kinds, "group")
    first = np.arange(30)
    first[3] = 0  # of the same group
    merged = first_of_gene(target, first, kinds.var_names)
    assert merged.values[3] == -1
    first[4] = 0
    with pytest.raises(ValueError, match="1 genes stand in several columns with different values"):
        first_of_gene(target, first, kinds.var_names)


# ---- how it is trained --------------------------------------------------------------------------


def test_lora_and_frozen_layers(kinds, finetune, new_model, tmp_path):
    model = finetune(
        kinds, target="kind", out=tmp_path / "lora", lora=glm.train.LoRA(rank=2), epochs=2
    )
    before, after = new_model.encoder.state_dict(), model.encoder.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all("query" in name or "value" in name for name in changed)
    frozen = finetune(kinds, target="kind", out=tmp_path / "frozen", frozen_layers=2, epochs=2,
                      overwrite=True)  # fmt: skip
    for name, tensor in frozen.encoder.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_class_weights_by_name(kinds, finetune, tmp_path):
    weights = {"alpha": 1.0, "beta": 1.0, "gamma": 4.0}
    finetune(kinds, target="kind", out=tmp_path / "a", class_weight=weights, epochs=1)
    assert kinds.uns[LABEL]["class_weight"] == weights
    finetune(kinds, target="kind", out=tmp_path / "b", class_weight="balanced", epochs=1,
             overwrite=True)  # fmt: skip
    wrong = {"alpha": 1.0, "beta": 1.0, "delta": 4.0}
    with pytest.raises(ValueError, match=r"class_weight names 3 classes.*delta, gamma"):
        finetune(kinds, target="kind", out=tmp_path / "c", class_weight=wrong, overwrite=True)


def test_a_long_warmup_is_shortened_unless_it_is_asked_for(kinds, finetune, tmp_path):
    finetune(kinds, target="kind", out=tmp_path / "a", epochs=1)
    assert kinds.uns[LABEL]["recipe"]["warmup"] == 0.1


def test_the_recipe_is_taken_as_it_is(kinds, finetune, tmp_path):
    recipe = glm.train.Recipe(learning_rate=0.02, warmup=2, max_epochs=9, rows_per_batch=16, seed=3)
    finetune(
        kinds, target="kind", out=tmp_path / "a", recipe=recipe, epochs=1, learning_rate=None,
        tokens_per_batch=None,
    )  # fmt: skip
    told = kinds.uns[LABEL]["recipe"]
    assert (told["learning_rate"], told["warmup"], told["max_epochs"]) == (0.02, 2, 1)
    assert (told["rows_per_batch"], told["seed"]) == (16, 3)


# ---- the folder ---------------------------------------------------------------------------------


def test_another_run_is_not_overwritten(kinds, finetune, tmp_path):
    finetune(kinds, target="kind", out=tmp_path / "a", epochs=1)
    before = (tmp_path / "a" / "config.json").read_bytes()
    with pytest.raises(ValueError, match="holds a run with another"):
        finetune(kinds, target="kind", out=tmp_path / "a", epochs=2)
    assert (tmp_path / "a" / "config.json").read_bytes() == before


def test_folds_of_another_run_are_refused_before_they_are_trained(
    kinds, finetune, new_model, tmp_path
):
    finetune(kinds, target="kind", out=tmp_path / "mine", epochs=1)
    with pytest.raises(ValueError, match="holds a run with another"):
        glm.tl.finetune(
            kinds[:-1].copy(), new_model, target="kind", out=tmp_path / "mine", folds=3, epochs=1,
            learning_rate=0.005, tokens_per_batch=120,
        )  # fmt: skip
    assert not list((tmp_path / "mine" / "run").glob("fold_*"))


def test_names_with_a_slash(kinds, finetune, tmp_path):
    """Of classes and folds: a file keeps the record as it is. A key with one is refused."""
    kinds.obs["kind"] = kinds.obs["kind"].cat.rename_categories({"alpha": "CD4+/CD25 T"})
    kinds.obs["site"] = np.where(np.arange(90) % 2, "north/1", "north_1")
    weights = {"CD4+/CD25 T": 2.0, "beta": 1.0, "gamma": 1.0}
    options = {"target": "kind", "folds": "site", "class_weight": weights, "epochs": 1}
    finetune(kinds, out=tmp_path / "mine", **options)
    kinds.write_h5ad(tmp_path / "cells.h5ad")
    record = anndata.read_h5ad(tmp_path / "cells.h5ad").uns[LABEL]
    assert record["class_weight"] == {"CD4+_CD25 T": 2.0, "beta": 1.0, "gamma": 1.0}
    assert set(record["metrics_of_fold"]) == {"north_1", "north_1_"}
    assert list(record["labels"]) == ["CD4+/CD25 T", "beta", "gamma"]
    with pytest.raises(ValueError, match="'my/key' cannot be part of a slot's name"):
        glm.tl.finetune(kinds, target="kind", out=tmp_path / "b", key_added="my/key")


@pytest.mark.parametrize("names", [["train", "test", "ood"], ["validation", "test"]])
def test_parts_and_something_else(kinds, new_model, tmp_path, names):
    """Three folds called train, test and ood are not what anybody means."""
    kinds.obs["part"] = (names * 45)[:90]
    with pytest.raises(ValueError, match=r"obs\['part'\] holds .*test.*: parts need 'train'"):
        glm.tl.finetune(kinds, new_model, target="kind", out=tmp_path / "mine", folds="part")


def test_a_fold_without_a_name(kinds, new_model, tmp_path):
    kinds.obs["site"] = ["", "north", "south"] * 30
    with pytest.raises(ValueError, match=r"30 of 89 .* empty text in adata\.obs\['site'\]"):
        glm.tl.finetune(kinds, new_model, target="kind", out=tmp_path / "mine", folds="site")


def test_a_bundle_is_not_overwritten(kinds, trained, new_model):
    folder = new_model.save(trained.spec.folder.parent / "other")
    with pytest.raises(ValueError, match="holds something else than a training run"):
        glm.tl.finetune(kinds, new_model, target="kind", out=folder)


def test_a_slot_of_the_users_own_is_kept(kinds, new_model, tmp_path):
    kinds.obs[LABEL] = 1
    with pytest.raises(ValueError, match="something glm did not write"):
        glm.tl.finetune(kinds, new_model, target="kind", out=tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_training_goes_on_from_a_bundle(kinds, finetune, trained, tmp_path):
    """Of the same classes the head is kept, of others it is new."""
    again = finetune(kinds, trained, target="kind", out=tmp_path / "a", epochs=1)
    assert again.spec.labels == trained.spec.labels
    assert kinds.uns[LABEL]["metrics"]["accuracy"] > 0.8


# ---- the caller's process ------------------------------------------------------------------------


def test_random_states_and_threads_stay(kinds, finetune, tmp_path):
    def state():
        return (
            torch.get_rng_state().tolist(),
            np.random.get_state()[1].tolist(),  # noqa: NPY002 - the global one is meant
            torch.get_num_threads(),
            torch.is_grad_enabled(),
        )

    before = state()
    finetune(kinds, target="kind", out=tmp_path / "a", epochs=1)
    assert state() == before


def test_sentences_that_are_large_are_in_a_file(kinds, finetune, tmp_path, monkeypatch):
    one = finetune(kinds, target="kind", out=tmp_path / "a", epochs=1)
    monkeypatch.setattr("glm.tl._cell_sentences._IN_MEMORY", 0)
    other = finetune(kinds, target="kind", out=tmp_path / "b", epochs=1, overwrite=True)
    assert one.weights_sha256 == other.weights_sha256
    assert sorted(p.name for p in (tmp_path / "b" / "run").iterdir()) == [
        "best.ckpt", "last.ckpt", "log", "run.json",
    ]  # fmt: skip


def test_a_modality_and_a_view(kinds, finetune, tmp_path):
    from mudata import MuData

    view = kinds[:, :]
    assert view.is_view
    finetune(view, target="kind", out=tmp_path / "a", epochs=1)
    assert LABEL in view.obs
    assert LABEL not in kinds.obs
    other = kinds[:10].copy()
    other.var_names = [f"protein{i}" for i in range(other.n_vars)]
    mdata = MuData({"rna": kinds, "protein": other})
    model = finetune(mdata, target="kind", out=tmp_path / "b", epochs=1, mod="rna")
    assert LABEL in mdata["rna"].obs
    with pytest.warns(glm.GlmWarning, match="could not be labelled"):
        glm.tl.predict(mdata, model, mod="rna")
    assert "kind_geneformer" in mdata["rna"].obs


def test_amounts_are_learnt_further(kinds, finetune, tmp_path):
    """A head that gives amounts in their unit goes on from there, and not from far off."""
    options = {"target": "age", "test_share": 0.2}
    once = finetune(kinds, out=tmp_path / "once", epochs=20, **options)
    error = kinds.uns["age_geneformer_held_out"]["metrics"]["mean_absolute_error"]
    options |= {"learning_rate": 1e-5, "overwrite": True}
    finetune(kinds, once, out=tmp_path / "twice", epochs=1, **options)
    further = kinds.uns["age_geneformer_held_out"]["metrics"]["mean_absolute_error"]
    assert further == pytest.approx(error, rel=0.1)
