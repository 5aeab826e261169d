"""Trained models on disk: bundles with all that is known of them, and exports that others load."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from anndata import AnnData
from safetensors import safe_open

import glm
from glm.models import Model, export, load, verify
from glm.models.bert import Bert
from glm.models.heads import Classifier

CLASSES = ("naïve B", "T / NK", "1")
KINDS = {
    "tokens": "BertForMaskedLM",
    "cells": "BertForSequenceClassification",
    "genes": "BertForTokenClassification",
    "none": "BertModel",
}
CARD: dict[str, Any] = {
    "recipe": {"learning_rate": 5e-5, "betas": (0.9, 0.999), "max_steps": None},
    "metrics": {"held_out_accuracy": np.float32(0.75), "auroc": float("nan")},
    "calibration": {"temperature": np.float64(1.25)},
    "n_cells": np.int64(7),
    "folder": Path("some") / "where",
}
CARD_READ = {
    "recipe": {"learning_rate": 5e-5, "betas": [0.9, 0.999], "max_steps": None},
    "metrics": {"held_out_accuracy": 0.75, "auroc": None},
    "calibration": {"temperature": 1.25},
    "n_cells": 7,
    "folder": "some/where",
}


@pytest.fixture
def make_trained(make_model: Callable[..., Model]) -> Callable[..., Model]:
    """Make a model with any head, none of whose weights is at its first value."""

    def make(head: str = "cells", *, v2: bool = True, **spec: Any) -> Model:
        model = make_model(v2=v2)
        network: Any = model.network
        if head == "none":
            network = model.encoder
        if head in ("cells", "genes"):
            labels = spec.setdefault("labels", CLASSES)
            spec.setdefault("task", "classes")
            with torch.random.fork_rng():
                torch.manual_seed(4)
                network = Classifier(model.spec.shape, len(labels) or 3, per_cell=head == "cells")
            network.bert.load_state_dict(model.encoder.state_dict())
        changed = dataclasses.replace(model.spec, head=head, name="mine", note="A test.", **spec)
        return dataclasses.replace(model, spec=changed, network=network.eval(), card=CARD)

    return make


def ragged(vocab_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(1, vocab_size, (4, 32), generator=generator)
    mask = torch.arange(32) < torch.tensor([9, 32, 1, 20])[:, None]
    return tokens.masked_fill(~mask, 0), mask


def outputs(model: Model) -> torch.Tensor:
    tokens, mask = ragged(model.spec.shape.vocab_size)
    with torch.no_grad():
        found = model.network(tokens, mask)
    return found if found.ndim == 2 else found[mask]


def loaded_strictly(folder: Path, kind: str) -> transformers.PreTrainedModel:
    options = {"add_pooling_layer": False} if kind == "BertModel" else {}
    theirs, told = getattr(transformers, kind).from_pretrained(
        folder, output_loading_info=True, **options
    )
    problems = {what: names for what, names in told.items() if names}
    assert problems == {}
    return theirs.eval()


# ---- bundles -------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", KINDS)
def test_a_bundle_has_everything(make_trained, tmp_path: Path, head: str):
    model = make_trained(head)
    folder = model.save(tmp_path / "bundle")
    loaded = load(str(folder))
    assert torch.equal(outputs(loaded), outputs(model))
    assert loaded.spec == dataclasses.replace(model.spec, folder=folder)
    assert loaded.vocabulary.to_dict() == model.vocabulary.to_dict()  # the medians too
    assert loaded.card == CARD_READ
    content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert content["labels"] == (list(CLASSES) if head in ("cells", "genes") else [])
    assert content["sha256"].keys() == {"model.safetensors", "vocabulary.json"}
    assert verify(folder).ok


def test_a_bundle_of_a_bundle(make_trained, tmp_path: Path):
    """The card goes on with the model, unless another is given."""
    loaded = load(make_trained().save(tmp_path / "one"))
    again = load(loaded.save(tmp_path / "two"))
    assert again.card == loaded.card == CARD_READ
    assert again.weights_sha256 == loaded.weights_sha256
    assert load(loaded.save(tmp_path / "three", card={"other": True})).card == {"other": True}
    assert load(loaded.save(tmp_path / "four", card={})).card == {}


def test_the_bundled_model_says_how_it_came_about():
    assert load("geneformer-tiny").card["recipe"]["learning_rate"] > 0


def test_a_bundle_embeds(make_trained, make_cells: Callable[..., AnnData], tmp_path: Path):
    """A classifier is an encoder too, wherever a model is named."""
    model = make_trained()
    cells = make_cells(model.vocabulary, 3)
    glm.tl.embed(cells, model=model, key_added="here")
    glm.tl.embed(cells, model=str(model.save(tmp_path / "bundle")), key_added="there")
    np.testing.assert_array_equal(cells.obsm["X_here"], cells.obsm["X_there"])


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("way", ["save", "export"])
def test_weights_that_nobody_could_load_are_not_saved(make_trained, tmp_path, half: bool, way: str):
    """Neither NaN, nor what is infinite in float16; what was there stays."""
    model = make_trained()
    write = model.save if way == "save" else lambda folder, **_: export(model, folder)
    write(tmp_path / "there")
    before = {path.name: path.read_bytes() for path in (tmp_path / "there").iterdir()}
    with torch.no_grad():
        model.network.classifier.weight[1, 2] = 1e5 if half and way == "save" else float("nan")
    with pytest.raises(RuntimeError, match=r"1 tensors hold NaN or infinite .*classifier\.weight"):
        write(tmp_path / "there", half=half)
    assert {path.name: path.read_bytes() for path in (tmp_path / "there").iterdir()} == before
    with pytest.raises(RuntimeError, match="NaN"):
        write(tmp_path / "new", half=half)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("way", ["save", "export"])
@pytest.mark.parametrize(
    ("labels", "said"), [(("a", "b"), "names 2 classes"), (("a", "b", "a"), "same name: a")]
)
def test_classes_that_are_not_named_each_once(make_trained, tmp_path, labels, said: str, way: str):
    model = make_trained()
    model = dataclasses.replace(model, spec=dataclasses.replace(model.spec, labels=labels))
    with pytest.raises(RuntimeError, match=said):
        model.save(tmp_path) if way == "save" else export(model, tmp_path)
    assert list(tmp_path.iterdir()) == []


# ---- exports -------------------------------------------------------------------------------------


@pytest.mark.parametrize("v2", [True, False])
@pytest.mark.parametrize("head", KINDS)
def test_transformers_loads_an_export(make_trained, tmp_path: Path, head: str, v2: bool):
    """Strictly, nothing missing and nothing left over; the outputs are the same."""
    model = make_trained(head, v2=v2)
    theirs = loaded_strictly(export(model, tmp_path / "out"), KINDS[head])
    tokens, mask = ragged(model.spec.shape.vocab_size)
    with torch.no_grad():
        found = theirs(tokens, attention_mask=mask.long())
    got = found.last_hidden_state if head == "none" else found.logits
    got = got if got.ndim == 2 else got[mask]
    torch.testing.assert_close(got, outputs(model), rtol=0, atol=1e-5)
    if head in ("cells", "genes"):
        assert theirs.config.id2label == dict(enumerate(CLASSES))
        assert theirs.config.label2id == {name: i for i, name in enumerate(CLASSES)}


def test_by_the_automatic_classes(make_trained, tmp_path: Path):
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(
        export(make_trained(), tmp_path)
    )
    assert type(theirs) is transformers.BertForSequenceClassification


@pytest.mark.parametrize("head", KINDS)
@pytest.mark.parametrize("v2", [True, False])
def test_glm_loads_an_export(make_trained, tmp_path: Path, head: str, v2: bool):
    """Everything that a bundle would have said, but for what only files differ in."""
    model = make_trained(head, v2=v2, hidden_layer="last")
    folder = export(model, tmp_path / "out")
    loaded = load(str(folder))
    assert torch.equal(outputs(loaded), outputs(model))
    expected = dataclasses.replace(model.spec, folder=folder, weights="model.safetensors")
    assert loaded.spec == expected
    assert loaded.vocabulary.to_dict() == model.vocabulary.to_dict()
    assert loaded.card == CARD_READ
    again = load(export(loaded, tmp_path / "again"))
    assert again.weights_sha256 == loaded.weights_sha256


def test_an_export_embeds_the_same(make_trained, make_cells, tmp_path: Path):
    model = make_trained("tokens")
    cells = make_cells(model.vocabulary, 3)
    glm.tl.embed(cells, model=model, key_added="here")
    glm.tl.embed(cells, model=export(model, tmp_path), key_added="there")
    np.testing.assert_array_equal(cells.obsm["X_here"], cells.obsm["X_there"])


def test_there_and_back_through_transformers(make_trained, tmp_path: Path):
    """What it saves again, glm reads: fine-tuning can go on elsewhere."""
    model = make_trained()
    theirs = loaded_strictly(export(model, tmp_path / "out"), KINDS["cells"])
    theirs.save_pretrained(tmp_path / "back")
    vocabulary = (tmp_path / "out" / "vocabulary.json").read_bytes()
    (tmp_path / "back" / "vocabulary.json").write_bytes(vocabulary)
    back = load(tmp_path / "back")
    assert torch.equal(outputs(back), outputs(model))
    assert (back.spec.labels, back.spec.head) == (CLASSES, "cells")


@pytest.mark.parametrize(
    ("task", "problem"),
    [
        ("classes", "single_label_classification"),
        ("multi_label", "multi_label_classification"),
        ("regression", "regression"),
        ("counts", "regression"),
        ("counts_log", "regression"),
        ("", None),
    ],
)
def test_how_outputs_are_read(make_trained, tmp_path: Path, task: str, problem: str | None):
    model = make_trained(task=task)
    folder = export(model, tmp_path)
    assert loaded_strictly(folder, KINDS["cells"]).config.problem_type == problem
    assert load(folder).spec.task == task
    assert load(model.save(tmp_path / "bundle")).spec.task == task


def test_what_others_say_of_outputs(make_trained, tmp_path: Path):
    folder = export(make_trained(task="classes"), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config["problem_type"] = "multi_label_classification"
    del config["glm"]
    (folder / "config.json").write_text(json.dumps(config))
    spec = load(folder).spec
    assert (spec.task, spec.name) == ("multi_label", folder.name)


def test_classes_without_names(make_trained, tmp_path: Path):
    model = make_trained(labels=())
    folder = export(model, tmp_path)
    assert loaded_strictly(folder, KINDS["cells"]).config.num_labels == 3
    assert load(folder).spec.labels == ()


def test_the_bundled_model_by_its_name(tmp_path: Path):
    """Of its full shape; a published model is exported in the same way."""
    folder = export("geneformer-tiny", tmp_path / "out")
    theirs = loaded_strictly(folder, "BertForMaskedLM")
    model = load("geneformer-tiny")
    tokens, mask = ragged(1000)
    with torch.no_grad():
        expected = theirs(tokens, attention_mask=mask.long()).logits[mask]
        got = model.network(tokens, mask)[mask]
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    assert load(folder).spec.pooling == model.spec.pooling


def test_what_is_in_the_files(make_trained, tmp_path: Path):
    model = make_trained()
    export(model, tmp_path)
    export(model, tmp_path)  # in place of the first
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "config.json",
        "model.safetensors",
        "vocabulary.json",
    ]
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
        assert "bert.pooler.dense.weight" in file.keys()  # noqa: SIM118 (no dictionary)


def test_a_bundle_is_not_overwritten(make_trained, tmp_path: Path):
    model = make_trained()
    model.save(tmp_path)
    with pytest.raises(ValueError, match="holds a bundle"):
        export(model, tmp_path)
    assert load(tmp_path).spec.is_bundle


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"pooling": "median"}, "pooling 'median'"),
        ({"task": "guess"}, "task 'guess'"),
        ({"folder": "/"}, "an entry glm"),
        ({"name": ["a"]}, "an entry glm"),
        ("text", "an entry glm"),
    ],
    ids=str,
)
def test_an_entry_that_is_not_ours(make_trained, tmp_path: Path, entry: object, said: str):
    export(make_trained(), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "glm": entry}))
    with pytest.raises(ValueError, match=said):
        load(tmp_path)


def test_encoders_alone(make_trained, tmp_path: Path):
    model = make_trained("none")
    assert isinstance(load(export(model, tmp_path)).network, Bert)
