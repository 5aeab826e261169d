"""Trained models on disk: bundles, exports, checkpoints that are traps, damaged, or another's."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import glm
from glm._fetch import sha256_of
from glm.models import Model, export, load
from glm.models.heads import Classifier
from glm.train import (
    Classification,
    KmerSpans,
    MaskedTokens,
    Poisson,
    Recipe,
    Regression,
    Sentences,
)
from glm.train import fit as train_model

pytestmark = pytest.mark.faults

KINDS = ["cells", "genes"]
LAYOUTS = ["bundle", "export"]


class Trap:
    """Pickled as a call that makes a folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.fixture
def make_trained(make_model: Callable[..., Model]) -> Callable[..., Model]:
    """Make a model that tells three classes of cells or genes apart."""

    def make(head: str = "cells") -> Model:
        model = make_model(v2=True)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = Classifier(model.spec.shape, 3, per_cell=head == "cells")
        network.bert.load_state_dict(model.encoder.state_dict())
        spec = dataclasses.replace(
            model.spec, head=head, labels=("b", "a", "c"), task="classes", name="trained"
        )
        return dataclasses.replace(model, spec=spec, network=network.eval())

    return make


@pytest.fixture
def saved(make_trained: Callable[..., Model], tmp_path: Path) -> Callable[..., Path]:
    """Write a trained model in one of the two layouts."""

    def write(layout: str, head: str = "cells") -> Path:
        model = make_trained(head)
        folder = tmp_path / layout
        return model.save(folder) if layout == "bundle" else export(model, folder)

    return write


@pytest.fixture
def small_cells(make_cells, make_vocabulary):
    adata = make_cells(make_vocabulary(60, v2=True), 5)
    return adata[[0, 1, 2, 4]].copy()


def change_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, **changes}), encoding="utf-8")


def change_weights(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Write other weights, and the hash that belongs to them: a bundle made by someone else."""
    path = folder / "model.safetensors"
    state = load_file(path)
    change(state)
    save_file(state, path, metadata={"format": "pt"})
    if "sha256" in json.loads((folder / "config.json").read_text(encoding="utf-8")):
        hashes = {
            name: sha256_of(folder / name) for name in ("model.safetensors", "vocabulary.json")
        }
        change_config(folder, sha256=hashes)


# ---- 87, 88: files that would run code -----------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_87_a_pickle_in_the_place_of_the_weights(saved, small_cells, refuses, tmp_path, layout):
    """Of the right hash: the folder is all of one who means harm."""
    folder, marker = saved(layout), tmp_path / "it-ran"
    (folder / "model.safetensors").write_bytes(pickle.dumps(Trap(marker)))
    if layout == "bundle":
        hashes = {
            name: sha256_of(folder / name) for name in ("model.safetensors", "vocabulary.json")
        }
        change_config(folder, sha256=hashes)
    said = "not a complete safetensors file"
    refuses(glm.tl.predict, small_cells, OSError, said, model=folder)
    refuses(glm.tl.embed, small_cells, OSError, said, model=folder)
    assert not marker.exists()


@pytest.fixture
def run(make_model, make_vocabulary, tmp_path) -> Callable[..., Any]:
    """Train for a moment, in a folder that can be asked again."""
    model = make_model(v2=True)
    rng = np.random.default_rng(0)
    tokens = rng.permuted(np.tile(np.arange(4, 24, dtype=np.int32), (6, 1)), axis=1).ravel()
    cells = Sentences(tokens, np.arange(0, 121, 20), targets=np.arange(6) % 2)
    recipe = Recipe(learning_rate=1e-3, warmup=0, max_epochs=2, rows_per_batch=2)

    def call(folder: Path = tmp_path / "run", **options: Any) -> glm.train.Fitted:
        with glm.settings.override(progress=False):
            return train_model(
                options.pop("model", model),
                options.pop("objective", Classification(("a", "b"))),
                options.pop("data", cells),
                folder=folder,
                recipe=recipe,
                **{"accelerator": "cpu", "held_out": cells, **options},
            )

    return call


@pytest.mark.parametrize("name", ["last.ckpt", "best.ckpt"])
@pytest.mark.parametrize("form", ["zip", "pickle", "inside"])
def test_87_a_checkpoint_that_would_run_code(run, refuses, tmp_path, name, form):
    run()
    path, marker = tmp_path / "run" / name, tmp_path / "it-ran"
    if form == "zip":
        torch.save(Trap(marker), path)
    elif form == "pickle":
        path.write_bytes(pickle.dumps(Trap(marker), protocol=2))
    else:
        content = torch.load(path, weights_only=True)
        torch.save({**content, "callbacks": {"x": Trap(marker)}}, path)
    before = path.read_bytes()
    with pytest.raises(OSError, match=f"{name} cannot be read as a checkpoint"):
        run()
    assert not marker.exists()
    assert path.read_bytes() == before


def test_88_a_checkpoint_that_names_a_callable(run, tmp_path):
    """Not called, not even looked up: the module need not exist."""
    run()
    (tmp_path / "run" / "last.ckpt").write_bytes(b"\x80\x02cno_such_module\nrun\n.")
    with pytest.raises(OSError, match="cannot be read as a checkpoint"):
        run()


# ---- 89: keys ------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", KINDS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("change", ["missing", "extra", "renamed", "a head", "additions"])
def test_89_tensors_that_do_not_fit(saved, small_cells, refuses, layout, head, change):
    """Each is listed; no head and no layer is ever made up."""

    def alter(state: dict[str, torch.Tensor]) -> None:
        key = "bert.encoder.layer.2.attention.self.query.weight"
        if change == "missing":
            del state[key]
        elif change == "extra":
            state["classifier.out_proj.weight"] = torch.ones(3)
        elif change == "renamed":
            state["classifier.offset"] = state.pop("classifier.bias")
        elif change == "a head":
            del state["classifier.weight"], state["classifier.bias"]
        else:  # of an adapted network that was not merged
            state[key.replace("weight", "parametrizations.weight.0.a")] = torch.ones(2, 16)

    told = {
        "missing": ["1 missing", r"encoder\.layer\.2\.attention\.self\.query\.weight"],
        "extra": ["1 unknown", r"classifier\.out_proj\.weight"],
        "renamed": ["1 missing", r"classifier\.bias", "1 unknown", r"classifier\.offset"],
        "a head": ["2 missing", r"classifier\.bias, classifier\.weight"],
        "additions": ["1 unknown", "parametrizations"],
    }[change]
    folder = saved(layout, head)
    change_weights(folder, alter)
    refuses(glm.tl.embed, small_cells, RuntimeError, *told, model=folder)
    refuses(glm.tl.predict, small_cells, RuntimeError, *told, model=folder)


def test_89_a_head_of_another_kind(saved, refuses):
    """One of genes has no pooler, which is not made up for one of cells."""
    folder = saved("bundle", "genes")
    change_config(folder, head="cells")
    refuses(load, None, RuntimeError, "2 missing", r"pooler\.dense", model=folder)


def test_89_a_checkpoint_of_other_parts(run, tmp_path):
    """Weights of another network are not put in in part."""
    run()
    path = tmp_path / "run" / "best.ckpt"
    content = torch.load(path, weights_only=True)
    del content["state_dict"]["network.classifier.bias"]
    torch.save(content, path)
    with pytest.raises(RuntimeError, match=r"Missing key.*classifier\.bias"):
        run()


# ---- 90: shapes, vocabularies, versions ----------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_90_another_shape(saved, small_cells, refuses, layout):
    def alter(state: dict[str, torch.Tensor]) -> None:
        state["classifier.weight"] = torch.ones(3, 12)

    folder = saved(layout)
    change_weights(folder, alter)
    told = [r"classifier\.weight is \(3, 12\), expected \(3, 16\)"]
    refuses(glm.tl.predict, small_cells, RuntimeError, *told, model=folder)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_90_more_names_than_classes(saved, small_cells, refuses, layout):
    folder = saved(layout)
    if layout == "bundle":
        change_config(folder, labels=["a", "b", "c", "d"])
    else:
        change_config(folder, id2label={"0": "a", "1": "b", "2": "c", "3": "d"})
    told = ["names 4 classes", "tell 3 apart"]
    refuses(glm.tl.predict, small_cells, RuntimeError, *told, model=folder)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_90_another_vocabulary(saved, small_cells, refuses, make_vocabulary, layout):
    folder = saved(layout)
    other = make_vocabulary(50, v2=True)
    (folder / "vocabulary.json").write_text(json.dumps(other.to_dict()), encoding="utf-8")
    if layout == "bundle":
        refuses(load, None, OSError, "vocabulary.json has the sha256", model=folder)
        change_weights(folder, lambda state: None)
    told = ["64 tokens", "54"]
    refuses(glm.tl.predict, small_cells, RuntimeError, *told, model=folder)


def test_90_another_version(saved, small_cells, refuses):
    folder = saved("bundle")
    change_config(folder, format=2)
    refuses(glm.tl.predict, small_cells, RuntimeError, "of format 2;", "format 1", model=folder)


@pytest.mark.parametrize(
    "change",
    [
        {"labels": "abc"},
        {"labels": [1, 2, 3]},
        {"task": "anything"},
        {"head": "both"},
        {"pooling": "max"},
    ],
    ids=str,
)
def test_90_a_configuration_that_says_something_else(saved, refuses, change):
    folder = saved("bundle")
    change_config(folder, **change)
    told = [r"does not describe a glm bundle", str(next(iter(change.values())))[:3]]
    refuses(load, None, ValueError, *(t.replace("[", r"\[") for t in told), model=folder)


def test_90_a_bundle_that_was_changed_since(saved, small_cells, refuses):
    folder = saved("bundle")
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-3] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    said = r"model\.safetensors has the sha256 .* was changed or copied in part"
    refuses(glm.tl.predict, small_cells, OSError, said, model=folder)


# ---- 91: not numbers -----------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_91_weights_that_are_no_numbers(saved, small_cells, refuses, layout, value):
    def alter(state: dict[str, torch.Tensor]) -> None:
        state["classifier.weight"][2, 3] = value

    folder = saved(layout)
    change_weights(folder, alter)
    told = ["1 tensors hold NaN or infinite", r"classifier\.weight"]
    refuses(glm.tl.predict, small_cells, RuntimeError, *told, model=folder)
    refuses(glm.tl.embed, small_cells, RuntimeError, *told, model=folder)


def test_91_a_network_that_diverged_is_not_saved(make_trained, refuses, tmp_path):
    """What is there stays, and no file is left over."""
    model = make_trained()
    folder = model.save(tmp_path / "bundle")
    with torch.no_grad():
        model.network.bert.layers[1].up.weight[0, 0] = float("nan")
    told = ["1 tensors hold NaN", r"intermediate\.dense\.weight"]
    refuses(functools.partial(model.save, folder), None, RuntimeError, *told)
    refuses(functools.partial(export, model, tmp_path / "new"), None, RuntimeError, *told)


# ---- 92: parity ----------------------------------------------------------------------------------


@pytest.mark.parametrize("head", KINDS)
def test_92_every_way_of_keeping_a_model(make_trained, small_cells, tmp_path, head):
    """Bundle, export, and a PyTorch file of the export: the same predictions, to the last bit."""
    model = make_trained(head)
    exported = export(model, tmp_path / "export")
    as_file = export(model, tmp_path / "file")
    torch.save(load_file(as_file / "model.safetensors"), as_file / "pytorch_model.bin")
    (as_file / "model.safetensors").unlink()
    tokens = torch.randint(4, 64, (3, 20), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model.network(tokens)
        for folder in (model.save(tmp_path / "bundle"), exported, as_file):
            assert torch.equal(load(folder).network(tokens), expected)
    original = glm.tl.predict(small_cells, model, copy=True)
    for folder in (tmp_path / "bundle", exported, as_file):
        got = glm.tl.predict(small_cells, folder, copy=True)
        for slots in ("obsm", "varm"):
            for name, values in getattr(original, slots).items():
                np.testing.assert_array_equal(getattr(got, slots)[name], values)


def test_92_what_a_run_returns_is_what_it_kept(run, tmp_path):
    """The result, asked for again, comes from the files and is the same; so is its bundle."""
    one, again = run(), run()
    state = again.model.network.state_dict()
    loaded = load(one.model.save(tmp_path / "bundle")).network.state_dict()
    for name, tensor in one.model.network.state_dict().items():
        assert torch.equal(tensor, state[name])
        assert torch.equal(tensor, loaded[name])


# ---- 95: Apple's GPU -----------------------------------------------------------------------------


def test_95_predictions_on_mps(saved, small_cells, refuses):
    folder = saved("bundle")
    said = "device='mps' is not supported"
    refuses(glm.tl.predict, small_cells, TypeError, said, model=folder, device="mps")


def test_95_training_on_a_device_that_is_not_there(run, refuses, tmp_path):
    if torch.backends.mps.is_available():
        pytest.skip("there is one here")
    call = functools.partial(run, tmp_path / "none", accelerator="mps")
    refuses(call, None, ValueError, "no such trainer", "MPSAccelerator")


def test_95_training_falls_back_to_the_cpu(run, monkeypatch):
    """Unless it is asked for: nothing here was tested there."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    from glm.train.trainers import _accelerator

    with pytest.warns(glm.GlmWarning, match="runs on the CPU.*accelerator='mps'"):
        assert _accelerator({}) == "cpu"
    assert _accelerator({"accelerator": "mps"}) == "auto"  # what is asked for goes before


def test_95_batches_hold_no_double_precision(make_vocabulary):
    """Which that GPU has not: whatever the precision of the targets."""
    vocabulary = make_vocabulary(v2=True)
    tokens = np.tile(np.arange(4, 14), 3)
    numbers = np.ones(3, np.float64)
    table = np.ones((3, 2), np.float64)
    asked = [
        (MaskedTokens(vocabulary), None),
        (KmerSpans(vocabulary, k=3), None),
        (Classification(("a", "b"), class_weights=(1.0, 2.0)), np.ones(3, np.int8)),
        (Classification(("a", "b"), kind="multi_label"), table),
        (Regression(), numbers),
        (Poisson(("a", "b")), table),
    ]
    for objective, targets in asked:
        data = Sentences(tokens, np.arange(0, 31, 10), targets)
        objective.check(data)
        batch = objective.batch(data, np.arange(3), np.random.default_rng(0), training=True)
        held = [value for value in vars(batch).values() if isinstance(value, torch.Tensor)]
        assert {tensor.dtype for tensor in held} <= {torch.int64, torch.float32, torch.bool}
        n = 2 if objective.n_outputs is None else objective.n_outputs
        count = len(batch.targets)
        outputs = torch.zeros(count, max(n, 64))[:, : 64 if objective.n_outputs is None else n]
        assert objective.loss(outputs, batch).dtype == torch.float32
