"""Bundles and loading: what is saved comes back, and what was changed since does not."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import glm
from glm._fetch import FILES, RemoteFile, sha256_of
from glm.models import Model, get, load, prefetch

BUNDLE = ("config.json", "model.safetensors", "vocabulary.json")


@pytest.fixture
def model(make_model: Callable[..., Model]) -> Model:
    return make_model(v2=True)


def assert_same_weights(one: Model, other: Model) -> None:
    theirs = other.network.state_dict()
    assert one.network.state_dict().keys() == theirs.keys()
    for name, tensor in one.network.state_dict().items():
        assert torch.equal(tensor, theirs[name]), name


def test_there_and_back(model: Model, tmp_path: Path):
    folder = model.save(tmp_path / "a" / "b", card={"cells": 12})
    assert sorted(path.name for path in folder.iterdir()) == sorted(BUNDLE)
    assert json.loads((folder / "config.json").read_text())["card"] == {"cells": 12}
    loaded = load(folder)
    assert_same_weights(loaded, model)
    assert loaded.vocabulary.to_dict() == model.vocabulary.to_dict()
    assert loaded.spec == dataclasses.replace(model.spec, folder=folder)
    assert loaded.weights_sha256 == sha256_of(folder / "model.safetensors")
    assert not loaded.network.training
    assert all(p.dtype == torch.float32 for p in loaded.network.parameters())


def test_the_decoder_is_tied_after_loading(model: Model, tmp_path: Path):
    """The logits follow the token table, and a copy of the table is not among the parameters."""
    network = load(model.save(tmp_path)).network
    tokens = torch.tensor([[2, 7, 9, 3]])
    with torch.no_grad():
        assert torch.equal(network(tokens), model.network(tokens))
        network.bert.embeddings.token.weight[5] = 0.0
        assert torch.equal(network(tokens)[..., 5], network.head.bias[5].expand(1, 4))


def test_half_is_half_the_size_and_rounds_once(model: Model, tmp_path: Path):
    full, half = model.save(tmp_path / "full"), model.save(tmp_path / "half", half=True)
    loaded = load(half)
    theirs = loaded.network.state_dict()
    for name, tensor in model.network.state_dict().items():
        assert torch.equal(theirs[name], tensor.half().float()), name
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (full, half)]
    assert sizes[1] < 0.75 * sizes[0]
    again = load(loaded.save(tmp_path / "again", half=True))
    assert again.weights_sha256 == loaded.weights_sha256


def test_saved_over_an_older_one(make_model: Callable[..., Model], tmp_path: Path):
    make_model(seed=1).save(tmp_path)
    model = make_model(seed=2, v2=True)
    assert_same_weights(load(model.save(tmp_path)), model)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(BUNDLE)


def test_files_can_be_read_by_others(model: Model, tmp_path: Path):
    """As any file that is made here: a bundle is something to share."""
    (tmp_path / "any").touch()
    usual = (tmp_path / "any").stat().st_mode & 0o777
    folder = model.save(tmp_path / "bundle")
    assert {name: (folder / name).stat().st_mode & 0o777 for name in BUNDLE} == dict.fromkeys(
        BUNDLE, usual
    )


def test_a_loaded_model_is_handed_back(model: Model):
    assert load(model) is model


@pytest.mark.parametrize("name", ["model.safetensors", "vocabulary.json"])
def test_a_missing_file(model: Model, tmp_path: Path, name: str):
    folder = model.save(tmp_path)
    (folder / name).unlink()
    with pytest.raises(OSError, match=f"not a whole bundle: {name}"):
        load(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "vocabulary.json"])
def test_a_changed_file(model: Model, tmp_path: Path, name: str):
    folder = model.save(tmp_path)
    content = bytearray((folder / name).read_bytes())
    content[-3] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(OSError, match=f"{name} has the sha256 .* was changed or copied in part"):
        load(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "vocabulary.json"])
def test_a_cut_file(model: Model, tmp_path: Path, name: str):
    folder = model.save(tmp_path)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(OSError, match=f"{name} has the sha256"):
        load(folder)


def test_files_of_two_bundles(make_model: Callable[..., Model], tmp_path: Path):
    one, other = (make_model(seed=seed).save(tmp_path / str(seed)) for seed in (1, 2))
    (one / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes())
    with pytest.raises(OSError, match=r"model\.safetensors has the sha256"):
        load(one)


def test_a_shape_that_is_not_that_of_the_weights(model: Model, tmp_path: Path):
    folder = model.save(tmp_path)
    content = json.loads((folder / "config.json").read_text())
    content["shape"]["intermediate_size"] = 12
    (folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(RuntimeError, match="another shape"):
        load(folder)
    content["shape"]["vocab_size"] = 12
    (folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(RuntimeError, match="do not belong together"):
        load(folder)


def test_bundled_model_loads_offline():
    with glm.settings.override(offline=True):
        model = load("geneformer-tiny")
    assert model.spec.tier == "demo"
    assert sum(p.numel() for p in model.network.parameters()) == model.spec.shape.n_parameters


# ---- published weights --------------------------------------------------------------------------


@pytest.fixture
def published(
    make_model: Callable[..., Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Model, Path]:
    """A mirror that holds small weights under the name of published ones."""
    small = make_model()
    spec = dataclasses.replace(get("geneformer-v1-10m"), shape=small.spec.shape, dictionary="small")
    saved = small.save(tmp_path / "saved") / "model.safetensors"
    known = FILES[spec.weights]
    monkeypatch.setitem(
        FILES,
        spec.weights,
        RemoteFile(known.path, known.url, sha256_of(saved), saved.stat().st_size),
    )
    monkeypatch.setattr(type(spec), "vocabulary", lambda self: small.vocabulary)
    monkeypatch.setattr("glm.models.bundle.get", lambda name: spec)
    place = tmp_path / "mirror" / known.path
    place.parent.mkdir(parents=True)
    place.write_bytes(saved.read_bytes())
    return small, tmp_path / "mirror"


def test_published_weights_from_a_mirror(published: tuple[Model, Path]):
    small, mirror = published
    with glm.settings.override(mirror=mirror, offline=True):
        loaded = load("geneformer-v1-10m")
    assert_same_weights(loaded, small)
    assert loaded.spec.tier == "published"


def test_other_weights_under_a_published_name(
    published: tuple[Model, Path], make_model: Callable[..., Model], tmp_path: Path
):
    _, mirror = published
    other = make_model(seed=9).save(tmp_path / "other") / "model.safetensors"
    (place,) = mirror.rglob("*.safetensors")
    place.write_bytes(other.read_bytes())
    with (
        glm.settings.override(mirror=mirror, offline=True),
        pytest.raises(OSError, match="is not the published") as caught,
    ):
        load("geneformer-v1-10m")
    assert sha256_of(other) in str(caught.value)
    assert place.is_file()


# ---- offline ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dictionaries_are_here", [True, False])
@pytest.mark.parametrize("name", ["geneformer-v1-10m", "geneformer-v2-104m"])
def test_offline_names_the_ways_out(
    request: pytest.FixtureRequest, tmp_path: Path, name: str, dictionaries_are_here: bool
):
    data = tmp_path
    if dictionaries_are_here:
        data = request.getfixturevalue("test_data") / "geneformer"
    with (
        glm.settings.override(data_dir=tmp_path, mirror=data, offline=True),
        pytest.raises(OSError, match="offline is set") as caught,
    ):
        load(name)
    assert f"glm.models.prefetch('{name}')" in str(caught.value)
    assert "model='geneformer-tiny'" in str(caught.value)
    assert "GLM_MIRROR" in str(caught.value)


def test_weights_without_a_known_hash_are_not_fetched(test_data: Path):
    with (
        glm.settings.override(mirror=test_data / "geneformer"),
        pytest.raises(OSError, match="no hash of it is known") as caught,
    ):
        load("geneformer-v2-104m-clcancer")
    wanted = "glm.models.prefetch('geneformer-v2-104m-clcancer', allow_unpinned=True)"
    assert wanted in str(caught.value)


def test_prefetch_of_a_bundle_needs_nothing():
    assert prefetch("geneformer-tiny") == []
    assert prefetch(["geneformer-tiny", "geneformer-tiny"]) == []


def test_prefetch_of_an_unknown_name():
    with pytest.raises(KeyError, match="There is no model 'x'"):
        prefetch(["geneformer-tiny", "x"])


def test_prefetch_asks_for_dictionaries_and_weights(monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []
    monkeypatch.setattr(
        "glm.models.bundle.fetch", lambda name, **_: asked.append(name) or Path(name)
    )
    paths = prefetch("geneformer-v1-10m")
    assert [str(path) for path in paths] == asked
    assert sorted(asked) == sorted(
        [
            "token_dictionary_gc30M.pkl",
            "gene_median_dictionary_gc30M.pkl",
            "gene_name_id_dict_gc30M.pkl",
            "ensembl_mapping_dict_gc30M.pkl",
            "geneformer/Geneformer-V1-10M/model.safetensors",
        ]
    )
