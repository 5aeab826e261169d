"""Models that predict tracks, by name and by folder: rows, tables, bundles, published layout."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import glm
from glm._fetch import FILES, RemoteFile, sha256_of
from glm.models import (
    EnformerConfig,
    Model,
    TrackModel,
    TrackSpec,
    get,
    load,
    prefetch,
    registry,
    tracks,
)
from glm.models.any_model import get_track_spec
from glm.models.enformer_weights import to_published_enformer
from glm.models.registry import rows, track_rows
from glm.models.weights import save_safetensors

CONFIG = {
    "model_type": "enformer",
    "dim": 48,
    "depth": 2,
    "heads": 2,
    "output_heads": {"human": 6, "mouse": 3},
    "target_length": 896,
    "attn_dim_key": 8,
    "dim_divisible_by": 8,
}


def same_weights(one: TrackModel, other: TrackModel) -> bool:
    return one.weights_fingerprint == other.weights_fingerprint


def change(path: Path, **changes: Any) -> None:
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


@pytest.fixture
def published(track_model: TrackModel, tmp_path: Path) -> Path:
    """A folder as the checkpoint is published: no table of tracks, no window."""
    folder = tmp_path / "rough"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    torch.save(to_published_enformer(track_model.network), folder / "pytorch_model.bin")
    return folder


# ---- rows ---------------------------------------------------------------------------------------


def test_the_published_row():
    spec = get("enformer")
    assert isinstance(spec, TrackSpec)
    assert spec.shape == EnformerConfig()
    assert (spec.window_bp, spec.output_bp) == (196_608, 114_688)
    assert (spec.system, spec.tier, spec.licence) == ("enformer", "published", "Apache-2.0")
    assert all(FILES[name].sha256 for name in spec.files)
    header = FILES[spec.weights].n_bytes - 4 * spec.shape.n_parameters
    assert 0 < header < 524_288  # statistics of the norms, names twice
    assert "Enformer" not in spec._repr_html_() or spec.source in spec._repr_html_()


def test_both_kinds_are_listed():
    table = glm.models.list()
    assert list(table.index) == [*rows(), *track_rows()]
    assert table.notna().all(axis=None)
    enformer = table.loc["enformer"]
    assert (enformer["window_bp"], enformer["n_tracks"]) == (196_608, 6_956)
    assert (enformer["n_parameters"], enformer["n_layers"]) == (251_221_292, 11)
    assert (enformer["context"], enformer["vocab_size"], enformer["pooling"]) == (0, 0, "")
    assert (table.loc[list(rows()), "window_bp"] == 0).all()
    for column in ("context", "vocab_size", "window_bp", "n_tracks", "n_parameters", "n_layers"):
        assert table[column].dtype == np.int64
    assert not set(rows()) & set(track_rows())


def test_nothing_goes_by_a_name(tmp_path: Path):
    for name in ("enformr", tmp_path):
        with pytest.raises(KeyError, match=r"There is no model .*geneformer-v1-10m.*enformer"):
            get(name)


def test_verbs_for_sentences_refuse(track_model: TrackModel, tmp_path: Path):
    folder = track_model.save(tmp_path / "bundle")
    export = glm.models.export(track_model, tmp_path / "export")
    for name in ("enformer", folder, export):
        with pytest.raises(ValueError, match=r"predicts tracks from DNA.*glm\.tl\.predict_tracks"):
            registry.get(name)
        with pytest.raises(ValueError, match="reads no sentences"):
            glm.models.bundle.load(name)


def test_verbs_for_tracks_refuse(make_model, tmp_path: Path):
    model = make_model()
    for name in ("geneformer-tiny", model, model.save(tmp_path / "bundle")):
        with pytest.raises(ValueError, match=r"reads sentences \(geneformer\).*one of enformer"):
            tracks(name)


def test_both_kinds_load(track_model: TrackModel):
    assert isinstance(load("geneformer-tiny"), Model)
    assert load(track_model) is track_model
    assert get_track_spec(track_model) is track_model.spec


# ---- tables -------------------------------------------------------------------------------------


def test_published_tables(test_data: Path):
    with glm.settings.override(mirror=test_data / "enformer", offline=True):
        human, mouse = tracks(), tracks("enformer", organism="mouse")
    assert (len(human), len(mouse)) == (5_313, 1_643)
    assert human.index.name == "index"
    assert list(human.columns) == [
        "identifier",
        "assay",
        "sample",
        "aggregation",
        "scale",
        "clip",
        "strand_pair",
    ]
    assert human.loc[4_980, "assay"] == "CAGE"


def test_a_changed_published_table(test_data: Path, tmp_path: Path):
    text = (test_data / "enformer" / "targets_human.txt").read_text()
    (tmp_path / "targets_human.txt").write_text(text.replace("chorion", "amnion", 1))
    with (
        glm.settings.override(mirror=tmp_path, offline=True, data_dir=tmp_path / "cache"),
        pytest.raises(OSError, match=r"is not the published targets_human\.txt"),
    ):
        tracks()


def test_tables_that_are_not_here(tmp_path: Path):
    with (
        glm.settings.override(data_dir=tmp_path, mirror=None, offline=True),
        pytest.raises(
            OSError, match=r"(?s)targets_human\.txt .*glm\.models\.prefetch\('enformer'\)"
        ),
    ):
        tracks()


def test_tables_of_a_loaded_model(track_model: TrackModel):
    table = tracks(track_model, organism="mouse")
    pd.testing.assert_frame_equal(table, track_model.tables["mouse"])
    table.iloc[0, 0] = "mine"
    assert track_model.tables["mouse"].iloc[0, 0] == "MM1"
    with pytest.raises(KeyError, match="no 'rat' tracks"):
        tracks(track_model, organism="rat")


def test_prefetch(test_data: Path, track_model: TrackModel, tmp_path: Path, monkeypatch):
    name = get("enformer").weights
    place = tmp_path / "mirror" / name
    place.parent.mkdir(parents=True)
    place.write_bytes(b"weights")
    monkeypatch.setitem(FILES, name, RemoteFile(name, "", sha256_of(place), 7))
    for table in ("targets_human.txt", "targets_mouse.txt"):
        (tmp_path / "mirror" / table).symlink_to(test_data / "enformer" / table)
    bundle = track_model.save(tmp_path / "bundle")
    with glm.settings.override(mirror=tmp_path / "mirror", offline=True):
        assert get("enformer").where == "on this machine"
        paths = prefetch(["enformer", "geneformer-tiny", bundle])
    assert [path.name for path in paths] == [
        "targets_human.txt",
        "targets_mouse.txt",
        "pytorch_model.bin",
    ]
    with glm.settings.override(mirror=None, data_dir=tmp_path / "none", offline=True):
        assert get("enformer").where == "to fetch"


# ---- bundles ------------------------------------------------------------------------------------


def test_a_bundle_comes_back(track_model: TrackModel, tmp_path: Path):
    card = {"pearson": 0.5, "trained_on": ["hg38", "mm10"]}
    folder = track_model.save(tmp_path / "bundle", card=card)
    model = load(folder)
    assert isinstance(model, TrackModel)
    assert same_weights(model, track_model)
    assert model.card == card
    assert model.weights_sha256 == sha256_of(folder / "model.safetensors")
    assert dataclasses.replace(model.spec, folder=None) == track_model.spec
    assert not model.network.training
    for head, table in track_model.tables.items():
        pd.testing.assert_frame_equal(model.tables[head], table, check_index_type=False)
        pd.testing.assert_frame_equal(tracks(folder, organism=head), model.tables[head])
    again = load(model.save(tmp_path / "again"))
    assert again.card == card
    assert again.weights_sha256 == model.weights_sha256


def test_half_precision(track_model: TrackModel, tmp_path: Path):
    half = load(track_model.save(tmp_path / "half", half=True))
    for name, tensor in half.network.state_dict().items():
        expected = track_model.network.state_dict()[name]
        if expected.is_floating_point():
            expected = expected.half().float()
        assert torch.equal(tensor, expected), name


def test_a_model_without_a_table_cannot_be(track_model: TrackModel):
    tables = dict(track_model.tables)
    with pytest.raises(RuntimeError, match="predicts 3 mouse tracks, and has no table"):
        TrackModel(track_model.spec, track_model.network, {"human": tables["human"]})
    tables["mouse"] = tables["mouse"].iloc[:2]
    with pytest.raises(RuntimeError, match="predicts 3 mouse tracks, and its table has 2"):
        TrackModel(track_model.spec, track_model.network, tables)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": None},
        {"sha256": None},
        {"sha256": ["model.safetensors"]},
        {"window_bp": 4_000},
        {"window_bp": 512},  # nothing would be left after the crop
        {"window_bp": "4096"},
        {"shape": {"channels": 48, "widths": 3}},
        {"shape": {"channels": 47}},
    ],
    ids=str,
)
def test_what_is_no_bundle(track_model: TrackModel, tmp_path: Path, changes: dict[str, Any]):
    folder = track_model.save(tmp_path / "bundle")
    change(folder / "config.json", **changes)
    with pytest.raises(ValueError, match="does not describe a bundle that predicts tracks"):
        get(folder)


# ---- folders as published -----------------------------------------------------------------------


def test_a_published_folder(published: Path, track_model: TrackModel):
    spec = get(published)
    assert (spec.window_bp, spec.shape.crop, spec.output_bp) == (196_608, 320, 114_688)
    assert (spec.name, spec.tier, spec.where) == ("rough", "local", "local")
    assert "Nothing in its folder names its human and mouse tracks" in spec.note
    assert "use_tf_gamma" in spec.note
    model = load(published)
    assert same_weights(model, track_model)
    assert model.weights_sha256 == sha256_of(published / "pytorch_model.bin")
    assert model.tables["human"]["identifier"].tolist() == list("012345")
    assert set(model.tables["human"]["assay"]) == {"unknown"}
    assert model.tables["human"]["strand_pair"].tolist() == [0, 1, 2, 3, 4, 5]
    assert model.card == {}


def test_a_published_folder_with_safetensors(published: Path, track_model: TrackModel):
    (published / "pytorch_model.bin").unlink()
    with pytest.raises(OSError, match=r"no weights: expected model\.safetensors or pytorch_model"):
        get(published)
    save_safetensors(to_published_enformer(track_model.network), published / "model.safetensors")
    assert same_weights(load(published), track_model)


def test_as_many_tracks_as_the_published_model(published: Path, test_data: Path):
    """They are taken for its tracks, and it is said; other heads go by number."""
    change(published / "config.json", output_heads={"human": 5_313, "liver": 7})
    spec = get(published)
    assert "human tracks are named as the published model's" in spec.note
    assert "names its liver tracks" in spec.note
    with glm.settings.override(mirror=test_data / "enformer", offline=True):
        assert tracks(published).loc[2, "sample"] == "chorion"
        assert prefetch(published) == [test_data / "enformer" / "targets_human.txt"]
    assert tracks(published, organism="liver")["identifier"].tolist() == list("0123456")


@pytest.mark.parametrize(
    ("target_length", "crop"), [(896, 320), (-1, 0), (1_536, 0), (1_024, 256), (895, 321)]
)
def test_the_crop_that_a_length_asks_for(published: Path, target_length: int, crop: int):
    change(published / "config.json", target_length=target_length, use_tf_gamma=True)
    spec = get(published)
    assert spec.shape.crop == crop
    assert "use_tf_gamma" not in spec.note


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"use_convnext": True}, "use_convnext True; expected False"),
        ({"num_downsamples": 6}, "num_downsamples 6; expected 7"),
        ({"dim": None}, "does not say dim"),
        ({"output_heads": None}, "does not say output_heads"),
        ({"output_heads": {"human": 0}}, "describes no Enformer"),
        ({"output_heads": [5_313]}, "describes no Enformer"),
        ({"dim": 50}, "describes no Enformer"),
        ({"target_length": 2_000}, "at most the 1,536 bins of a window of 196,608"),
        ({"target_length": "all"}, "target_length is 'all'"),
        ({"glm": {"name": 5}}, "entry glm of"),
        ({"glm": "5"}, "entry glm of"),
        ({"glm": {"window_bp": "long"}}, "window_bp is 'long'"),
        ({"glm": {"window_bp": 1_000}}, "describes no Enformer"),
    ],
    ids=str,
)
def test_what_is_no_published_enformer(published: Path, changes: dict[str, Any], said: str):
    change(published / "config.json", **changes)
    with pytest.raises(ValueError, match=said):
        get(published)
