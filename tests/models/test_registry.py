"""The registry: rows of data that are true, names that lead to them, refusals that help."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import glm
from glm._fetch import FILES
from glm.models import BertConfig, Model, get
from glm.models.registry import ModelSpec, rows, track_rows

PUBLISHED = {
    # layers, width, heads, feed-forward, positions, parameters
    "geneformer-v1-10m": (6, 256, 4, 512, 2048, 10_288_722),
    "geneformer-v1-12l-30m": (12, 512, 8, 1024, 2048, 39_591_250),
    "geneformer-12l-95m": (12, 512, 8, 1024, 4096, 37_997_363),
    "geneformer-12l-95m-clcancer": (12, 512, 8, 1024, 4096, 37_997_363),
    "geneformer-20l-95m": (20, 896, 14, 1792, 4096, 151_313_459),
    "geneformer-v2-104m": (12, 768, 12, 3072, 4096, 104_386_867),
    "geneformer-v2-104m-clcancer": (12, 768, 12, 3072, 4096, 104_386_867),
    "geneformer-v2-316m": (18, 1152, 18, 4608, 4096, 316_354_867),
}
FINE_TUNED = ["geneformer-v1-10m-cardiomyopathy"]
DNA = ["dnabert-3", "dnabert-4", "dnabert-5", "dnabert-6", "grover"]
"""These have tests of their own."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_shapes(name: str):
    shape = get(name).shape
    assert (
        shape.n_layers,
        shape.hidden_size,
        shape.n_heads,
        shape.intermediate_size,
        shape.n_positions,
        shape.n_parameters,
    ) == PUBLISHED[name]
    assert shape.vocab_size == (25_426 if shape.n_positions == 2048 else 20_275)
    assert (shape.activation, shape.dropout, shape.layer_norm_eps) == ("relu", 0.02, 1e-12)
    assert shape.pad_token == 0


def test_nothing_published_is_missing():
    assert {name for name, spec in rows().items() if spec.tier == "published"} == {
        *PUBLISHED,
        *FINE_TUNED,
        *DNA,
    }


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_authors_reading(name: str):
    spec = get(name)
    assert spec.system == "geneformer"
    assert spec.pooling == ("mean" if "v1" in name else "cls")
    assert spec.hidden_layer == "second_to_last"
    assert spec.licence == "Apache-2.0"
    assert spec.source.startswith("https://")


@pytest.mark.parametrize("name", [name for name in PUBLISHED if FILES[get(name).weights].n_bytes])
def test_size_of_the_weights_is_that_of_the_parameters(name: str):
    """Four bytes a parameter, and what goes with them: names and shapes, in a PyTorch file more."""
    header = FILES[get(name).weights].n_bytes - 4 * get(name).shape.n_parameters
    assert 0 < header < (65_536 if get(name).weights.endswith(".safetensors") else 131_072)


def test_size_of_the_fine_tuned_weights():
    """The encoder with a pooler and three classes, and what goes with them."""
    shape, width = get(*FINE_TUNED).shape, get(*FINE_TUNED).shape.hidden_size
    head = width * width + width + 2 * width + shape.vocab_size
    n_parameters = shape.n_parameters - head + width * width + width + 3 * width + 3
    assert 0 < FILES[get(*FINE_TUNED).weights].n_bytes - 4 * n_parameters < 131_072


def test_every_published_model_has_weights():
    assert all(get(name).weights in FILES for name in [*PUBLISHED, *FINE_TUNED])
    unpinned = {name for name in PUBLISHED if FILES[get(name).weights].pin is None}
    assert unpinned == {"geneformer-v2-104m-clcancer"}


def test_parameters_are_those_of_the_network():
    from glm.models.bert import MaskedLM

    for shape in (BertConfig(31, 16, 2, 4, 24, 12), BertConfig(9, 8, 1, 1, 8, 5, "gelu")):
        assert shape.n_parameters == sum(p.numel() for p in MaskedLM(shape).parameters())


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_vocabularies_fit_their_models(test_data: Path, name: str):
    with glm.settings.override(mirror=test_data / "geneformer", offline=True):
        vocabulary = get(name).vocabulary()
    assert len(vocabulary) == get(name).shape.vocab_size
    assert vocabulary.context == get(name).context
    assert ("cls" in vocabulary.special) == (get(name).pooling == "cls")


def test_a_vocabulary_of_another_model_is_refused(test_data: Path):
    mixed = dataclasses.replace(get("geneformer-v2-104m"), dictionary="gc30M")
    with (
        glm.settings.override(mirror=test_data / "geneformer", offline=True),
        pytest.raises(RuntimeError, match=r"20,275 tokens .* has 25,426 .* do not belong together"),
    ):
        mixed.vocabulary()


def test_bundled_models():
    spec = get("geneformer-tiny")
    assert spec.tier == "demo"
    assert spec.where == "bundled"
    assert len(spec.vocabulary()) == spec.shape.vocab_size
    assert spec.vocabulary().context == spec.context
    assert spec.note


# ---- names --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["geneformer", "Geneformer-V2-104M", "", "no/such/folder"])
def test_unknown_names_list_the_known(name: str):
    with pytest.raises(KeyError) as caught:
        get(name)
    for known in (*PUBLISHED, "geneformer-tiny"):
        assert known in str(caught.value)


def test_folder_of_a_bundle(make_model: Callable[..., Model], tmp_path: Path):
    folder = make_model().save(tmp_path / "mine")
    for name in (folder, str(folder)):
        spec = get(name)
        assert (spec.name, spec.tier, spec.where, spec.folder) == (
            "small-v1",
            "local",
            "local",
            folder,
        )


def test_a_bundle_cannot_take_a_known_name(
    make_model: Callable[..., Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    make_model().save(tmp_path / "geneformer-v1-10m")
    monkeypatch.chdir(tmp_path)
    assert get("geneformer-v1-10m").tier == "published"
    assert get("./geneformer-v1-10m").tier == "local"


@pytest.mark.parametrize("missing", ["name", "shape", "pooling", "tier", "note", "sha256"])
def test_configurations_of_something_else_are_refused(
    make_model: Callable[..., Model], tmp_path: Path, missing: str
):
    folder = make_model().save(tmp_path)
    content = json.loads((folder / "config.json").read_text())
    del content[missing]
    (folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"does not describe a glm bundle .*{missing}"):
        get(folder)


@pytest.mark.parametrize("change", [{"sha256": []}, {"head": "x"}, {"labels": 5}], ids=str)
def test_damaged_configurations_are_refused(
    make_model: Callable[..., Model], tmp_path: Path, change: dict[str, object]
):
    folder = make_model().save(tmp_path)
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | change))
    for look in (get, glm.models.load, glm.models.verify):
        with pytest.raises(ValueError, match="does not describe a glm bundle"):
            look(folder)


@pytest.mark.parametrize("content", ["", "[1]", "{", "[" * 100_000, "null"])
def test_files_that_are_no_configuration_are_refused(tmp_path: Path, content: str):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match="does not describe a model"):
        get(tmp_path)


# ---- where, list --------------------------------------------------------------------------------


def test_where(tmp_path: Path):
    with glm.settings.override(data_dir=tmp_path):
        assert get("geneformer-v1-10m").where == "to fetch"
        assert get("geneformer-20l-95m").where == "to fetch"
        assert get("geneformer-v2-104m-clcancer").where == "no known hash"
        file = tmp_path / FILES[get("geneformer-v1-10m").weights].path
        file.parent.mkdir(parents=True)
        file.touch()
        assert get("geneformer-v1-10m").where == "on this machine"


def test_list():
    table = glm.models.list()
    assert list(table.index) == [*rows(), *track_rows()]
    assert table.index.is_unique
    for name, spec in rows().items():
        assert table.loc[name, "n_parameters"] == spec.shape.n_parameters
        assert table.loc[name, "context"] == spec.context
    assert table.notna().all(axis=None)


# ---- layers by name -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "index"),
    [("last", 6), ("second_to_last", 5), (0, 0), (1, 1), (6, 6), (np.int64(3), 3)],
)
def test_layer_index(layer: str | int, index: int):
    found = get("geneformer-v1-10m").shape.layer_index(layer)
    assert found == index
    assert type(found) is int  # for records and files


@pytest.mark.parametrize("layer", [7, -2, "first", "5", 1.0, True, None], ids=repr)
def test_layers_that_do_not_exist(layer: object):
    with pytest.raises(ValueError, match="from 0 \\(token embeddings\\) to 6"):
        get("geneformer-v1-10m").shape.layer_index(layer)  # type: ignore[arg-type]


def test_layer_minus_one_is_explained():
    with pytest.raises(ValueError, match="ambiguous"):
        get("geneformer-v1-10m").shape.layer_index(-1)


def test_shapes_that_cannot_be():
    with pytest.raises(ValueError, match="multiple of the number of heads"):
        BertConfig(10, 10, 1, 3, 10, 10)
    with pytest.raises(ValueError, match="'relu' or 'gelu'"):
        BertConfig(10, 8, 1, 2, 10, 10, "tanh")  # type: ignore[arg-type]
    for number in (0, -1, "4", 4.0, True, None):
        with pytest.raises(ValueError, match=r"n_heads is .*; expected a whole number of at"):
            BertConfig(10, 8, 1, number, 10, 10)  # type: ignore[arg-type]


def test_rows_cannot_be_changed():
    spec: ModelSpec = get("geneformer-v1-10m")
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.pooling = "cls"  # type: ignore[misc]
