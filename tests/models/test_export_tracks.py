"""Models that predict tracks, exported: enformer-pytorch computes the same of them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from glm.models import TrackModel, export, load, verify
from glm.models.enformer import Enformer

peer = pytest.importorskip("enformer_pytorch.modeling_enformer")


def theirs_of(folder: Path) -> nn.Module:
    """As its from_pretrained builds it, for which this version of transformers is too new."""
    config = peer.EnformerConfig(**json.loads((folder / "config.json").read_text()))
    model = peer.Enformer(config)
    state = torch.load(folder / "pytorch_model.bin", weights_only=True)
    model.load_state_dict(state, strict=True)  # the second copy of the trunk included
    return model.eval()


def codes(length: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    found = torch.randint(0, 4, (1, length), generator=generator)
    found[0, 100:130] = 4
    return found


def worst(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.fixture
def long(track_model: TrackModel) -> TrackModel:
    """Windows of 196,608 bases, and as many positional features as the published model has."""
    shape = dataclasses.replace(
        track_model.spec.shape, channels=192, n_heads=1, depth=1, crop=320, channel_step=96
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Enformer(shape).eval()
        with torch.no_grad():
            network.blocks[0].attention.output.weight.normal_(0.0, 0.3)
    spec = dataclasses.replace(track_model.spec, shape=shape, window_bp=196_608)
    return TrackModel(spec, network.requires_grad_(False), track_model.tables)


def test_an_export_is_a_model_too(track_model: TrackModel, tmp_path: Path):
    with_card = dataclasses.replace(track_model, card={"pearson": 0.5})
    folder = export(with_card, tmp_path / "export")
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "pytorch_model.bin",
        "tracks_human.tsv",
        "tracks_mouse.tsv",
    ]
    model = load(folder)
    assert model.weights_fingerprint == track_model.weights_fingerprint
    assert model.spec.shape == track_model.spec.shape
    assert (model.spec.name, model.spec.window_bp) == ("small-tracks", 4_096)
    assert model.spec.note == ""
    assert model.card == {"pearson": 0.5}
    for head, table in track_model.tables.items():
        pd.testing.assert_frame_equal(model.tables[head], table, check_index_type=False)
    assert "no published file, nothing to hold it to" in str(verify(folder))
    again = export(model, tmp_path / "again")
    for name in ("config.json", "tracks_mouse.tsv"):
        assert (again / name).read_text() == (folder / name).read_text()


def test_the_second_copy_takes_no_room(track_model: TrackModel, tmp_path: Path):
    folder = export(track_model, tmp_path / "export")
    state = torch.load(folder / "pytorch_model.bin", weights_only=True)
    once = {tensor.data_ptr(): tensor.nbytes for tensor in state.values()}
    assert any(name.startswith("_trunk.") for name in state)
    assert (folder / "pytorch_model.bin").stat().st_size < sum(once.values()) + 400 * len(state)


def test_windows_of_the_published_length(long: TrackModel, tmp_path: Path):
    """They say that positions are scaled as published, and the tracks are the same."""
    folder = export(long, tmp_path / "export")
    assert json.loads((folder / "config.json").read_text())["use_tf_gamma"] is True
    sequence = codes(196_608)
    with torch.no_grad():
        expected, found = theirs_of(folder)(sequence), long.network(sequence)
    for head, tracks in found.items():
        assert tracks.shape == (1, 896, long.spec.shape.heads[head])
        assert worst(tracks, expected[head]) < 1e-4


def test_windows_of_another_length(track_model: TrackModel, tmp_path: Path):
    """Same weights and crop; positions are scaled its own way there, as is said."""
    folder = export(track_model, tmp_path / "export")
    sequence, network = codes(4_096), load(folder).network
    with torch.no_grad():
        expected = theirs_of(folder)(sequence)
        network.gamma_over_features = True
        found = network(sequence)
    for head, tracks in found.items():
        assert worst(tracks, expected[head]) < 1e-4


def test_a_bundle_is_not_written_over(track_model: TrackModel, tmp_path: Path):
    folder = track_model.save(tmp_path / "bundle")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ValueError, match="holds a bundle"):
        export(track_model, folder)
    with pytest.raises(ValueError, match="holds a bundle"):
        export("geneformer-tiny", folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
