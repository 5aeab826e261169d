"""`glm.models.verify` of models that predict tracks: bundles, and what another tool computed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import glm
from glm._fetch import FILES, RemoteFile, sha256_of
from glm.models import TrackModel, get, verify
from glm.models._verify_tracks import made_up, record_expected_tracks
from glm.models.enformer import Enformer
from glm.models.registry import track_rows

EXPECTED = Path(glm.models.__file__).parent / "expected" / "enformer.json"
INPUT = "AAAACCCCGGGGTTTTACGTNACGTNNNNACGTTGCAACGTACGT"


@pytest.fixture
def bundle(track_model: TrackModel, tmp_path: Path) -> Path:
    return track_model.save(tmp_path / "bundle")


# ---- bundles ------------------------------------------------------------------------------------


def test_a_bundle(bundle: Path):
    report = verify(bundle)
    assert report.ok
    assert [Path(check.what).name for check in report.checks] == [
        "model.safetensors",
        "tracks_human.tsv",
        "tracks_mouse.tsv",
        "structure",
        "output",
    ]
    assert "in 2 blocks; tracks 6 human and 3 mouse" in str(report)
    assert "none stored to compare with" in str(report)


@pytest.mark.parametrize("name", ["model.safetensors", "tracks_mouse.tsv"])
def test_a_changed_file(bundle: Path, name: str):
    content = bytearray((bundle / name).read_bytes())
    content[-3] ^= 1
    (bundle / name).write_bytes(content)
    with pytest.raises(RuntimeError, match=rf"WRONG .*{name}: sha256"):
        verify(bundle)


def test_an_expected_output(bundle: Path, track_model: TrackModel):
    path = record_expected_tracks(bundle, seed="a test", n_bins=3, n_tracks=2, card="this test")
    content = json.loads(path.read_text())
    assert path == bundle / "expected.json"
    assert (content["seed"], content["length_bp"]) == ("a test", 4_096)
    assert content["bins"] == [0, 12, 23]
    assert content["tracks"] == {"human": [0, 5], "mouse": [0, 2]}
    codes = torch.tensor(made_up("a test", 4_096))[None]
    with torch.no_grad():
        plain = track_model.network(codes)
    kept = [plain[head][0][[0, 12, 23]][:, which] for head, which in content["tracks"].items()]
    expected = torch.cat([values.flatten() for values in kept])
    torch.testing.assert_close(torch.tensor(content["values"]), expected, rtol=1e-4, atol=1e-5)
    assert content["tolerance"] == pytest.approx(1e-4 * float(expected.max()), rel=1e-3)
    report = verify(bundle)
    assert "12 values of tracks of 4,096 bases differs by at most" in str(report)
    content["values"][5] += 0.05
    path.write_text(json.dumps(content))
    with pytest.raises(RuntimeError, match=r"WRONG +output: .*differs by at most 0.05"):
        verify(bundle)


@pytest.mark.parametrize(
    "changes",
    [
        {"bins": [0, 24]},
        {"tracks": {"rat": [0]}},
        {"tracks": {"human": [6]}},
        {"values": [1.0]},
        {"length_bp": 1_000},
        {"length_bp": "long"},
        {"tolerance": None},
    ],
    ids=str,
)
def test_an_expected_output_that_cannot_be_used(bundle: Path, changes: dict[str, Any]):
    path = record_expected_tracks(bundle)
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(RuntimeError, match=r"WRONG +output: .*expected\.json cannot be used"):
        verify(bundle)


def test_made_up_bases_are_the_same_everywhere():
    codes = made_up("glm", 1_000)
    assert codes.dtype == np.uint8
    assert codes[:12].tolist() == [3 & byte for byte in hashlib.shake_256(b"glm").digest(12)]
    assert np.bincount(codes, minlength=4).min() > 200


# ---- what another tool computed of the published weights ----------------------------------------


def test_the_stored_vector_is_that_of_the_published_weights(test_data: Path):
    """Text, length and codes are those that were hashed there; the numbers are to 6 decimals."""
    content = json.loads(EXPECTED.read_text())
    folder = test_data / "oracles" / "enformer"
    record = json.loads((folder / "oracle-report.json").read_text())["records"][1]
    vector = json.loads((folder / "input-1.independent-oracle-vector.json").read_text())
    assert hashlib.sha256(content["text"].encode()).hexdigest() == record["input_sha256"]
    codes = np.full(content["length_bp"], 4, "<i8")
    codes[: len(content["text"])] = ["ACGTN".index(base) for base in content["text"]]
    found = hashlib.sha256(codes.tobytes()).hexdigest()
    assert found == record["encoded_indices_little_endian_i64_sha256"]
    np.testing.assert_allclose(content["vector"], vector["values"], rtol=0, atol=5.1e-7)
    assert vector["provenance"]["use_tf_gamma"] is False
    assert content["gamma_over_features"] is True
    assert content["tolerance"] == pytest.approx(1e-4 * np.abs(vector["values"]).max(), rel=5e-3)
    made_of = vector["environment_lock"]["source_files"]["pytorch_model.bin"]
    assert made_of["sha256"] == FILES[get("enformer").weights].sha256


@pytest.fixture
def published(track_model: TrackModel, tmp_path: Path, monkeypatch) -> Path:
    """A mirror with small weights and tables under the names of the published ones."""
    from glm.models.enformer_weights import to_published_enformer

    mirror, spec = tmp_path / "mirror", get("enformer")
    (mirror / spec.weights).parent.mkdir(parents=True)
    torch.save(to_published_enformer(track_model.network), mirror / spec.weights)
    head = "index\tidentifier\tclip\tscale\tsum_stat\tdescription\n"
    for organism, name in spec.targets.items():
        n = track_model.spec.shape.heads[organism]
        rows = "".join(f"{i}\tE{i}\t32\t2\tmean\tDNASE:sample {i}\n" for i in range(n))
        (mirror / name).write_text(head + rows)
    for name in spec.files:
        file = RemoteFile(FILES[name].path, "", sha256_of(mirror / name))
        monkeypatch.setitem(FILES, name, file)
    small = dataclasses.replace(spec, shape=track_model.spec.shape)
    monkeypatch.setitem(track_rows(), "enformer", small)
    return mirror


def stored(folder: Path, monkeypatch: pytest.MonkeyPatch, vector: torch.Tensor) -> None:
    """Keep another vector in the place of the stored one."""
    content = {**json.loads(EXPECTED.read_text()), "vector": vector.tolist()}
    content["tolerance"] = 1e-4 * float(vector.abs().max())
    (folder / "enformer.json").write_text(json.dumps(content))
    monkeypatch.setattr("glm.models._checks._PUBLISHED", folder)


def test_published_weights(published: Path, track_model: TrackModel, tmp_path: Path, monkeypatch):
    """The vector is that of another tool, with positions scaled its way, at 196,608 bases."""
    peer = pytest.importorskip("enformer_pytorch.modeling_enformer")
    shape = track_model.spec.shape
    theirs = peer.Enformer.from_hparams(
        dim=shape.channels,
        depth=shape.depth,
        heads=shape.n_heads,
        output_heads=dict(shape.heads),
        target_length=1_536 - 2 * shape.crop,
        attn_dim_key=shape.key_size,
        dim_divisible_by=shape.channel_step,
    ).eval()
    state = torch.load(published / get("enformer").weights, weights_only=True)
    misfits = theirs.load_state_dict(state, strict=False)
    assert not misfits.unexpected_keys
    assert {name.partition(".")[0] for name in misfits.missing_keys} == {"_trunk"}
    codes = torch.full((1, 196_608), 4)
    codes[0, : len(INPUT)] = torch.tensor(["ACGTN".index(base) for base in INPUT])
    with torch.no_grad():
        vector = theirs(codes, return_only_embeddings=True)[0].mean(dim=0)
    stored(tmp_path, monkeypatch, vector)
    scaled, features = [], Enformer.position_features
    monkeypatch.setattr(
        Enformer,
        "position_features",
        lambda self, n: scaled.append(self.gamma_over_features) or features(self, n),
    )
    with glm.settings.override(mirror=published, offline=True):
        report = verify("enformer")
        assert set(scaled) == {True}  # the vector itself hardly tells, of so few bases
        assert [check.ok for check in report.checks] == [True] * 5
        assert "mean embedding of 196,608 bases differs by at most" in str(report)
        model = glm.models.load("enformer")
        assert not model.network.gamma_over_features


def test_published_weights_that_are_others(published: Path, track_model: TrackModel):
    """Their hash is right, what they compute is not: 96 numbers are not 3,072."""
    with (
        glm.settings.override(mirror=published, offline=True),
        pytest.raises(RuntimeError, match=r"WRONG +output: .*enformer\.json cannot be used"),
    ):
        verify("enformer")


def test_a_file_that_is_not_here(published: Path, tmp_path: Path):
    (published / "targets_mouse.txt").unlink()
    with (
        glm.settings.override(mirror=published, data_dir=tmp_path / "none", offline=True),
        pytest.raises(OSError, match=r"(?s)targets_mouse\.txt of enformer is not on this"),
    ):
        verify("enformer")


def test_a_table_that_does_not_fit(published: Path, monkeypatch):
    text = (published / "targets_mouse.txt").read_text()
    (published / "targets_mouse.txt").write_text(text.rpartition("2\t")[0])
    (published / "targets_mouse.txt").write_text("\n".join(text.splitlines()[:-1]) + "\n")
    path = published / "targets_mouse.txt"
    row = RemoteFile(FILES[path.name].path, "", sha256_of(path))
    monkeypatch.setitem(FILES, path.name, row)
    with (
        glm.settings.override(mirror=published, offline=True),
        pytest.raises(RuntimeError, match="predicts 3 mouse tracks, and its table names 2"),
    ):
        verify("enformer")
