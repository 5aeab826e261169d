"""Weights and tables of models that predict tracks: traps, misfits, and what was converted."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import glm
from glm._fetch import sha256_of
from glm.models import TrackModel, export, load, tracks
from glm.models.enformer_weights import to_published_enformer
from glm.models.weights import read_state, save_safetensors

pytestmark = pytest.mark.faults

LAYOUTS = ("bundle", "published", "published safetensors")


@pytest.fixture(params=LAYOUTS)
def folder(request: pytest.FixtureRequest, track_model: TrackModel, tmp_path: Path) -> Path:
    """The same model in each of the layouts that load."""
    return write(track_model, tmp_path / "model", request.param)


def write(model: TrackModel, folder: Path, layout: str) -> Path:
    if layout == "bundle":
        return model.save(folder)
    export(model, folder)
    if layout.endswith("safetensors"):
        (folder / "pytorch_model.bin").unlink()
        save_safetensors(to_published_enformer(model.network), folder / "model.safetensors")
    return folder


def weights_of(folder: Path) -> Path:
    return next(path for path in folder.iterdir() if path.stem in ("model", "pytorch_model"))


def put_weights(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Write other weights, and the hash that belongs to them: made by one who knows how."""
    path = weights_of(folder)
    state = {name: tensor.clone() for name, tensor in read_state(path).items()}
    change(state)
    if path.suffix == ".bin":
        torch.save(state, path)
    else:
        save_safetensors(state, path)
    rehash(folder)


def rehash(folder: Path) -> None:
    content = json.loads((folder / "config.json").read_text())
    if "sha256" in content:
        hashes = {name: sha256_of(folder / name) for name in content["sha256"]}
        change_json(folder / "config.json", sha256=hashes)


def change_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


class Trap:
    """Pickled as a call that makes a folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


# ---- 87, 88: files that would run code -----------------------------------------------------------


@pytest.mark.parametrize("form", ["zip", "pickle", "inside"])
def test_87_weights_that_would_run_code(track_model, refuses, tmp_path, form):
    folder, marker = write(track_model, tmp_path / "model", "published"), tmp_path / "it-ran"
    path = weights_of(folder)
    if form == "pickle":
        path.write_bytes(pickle.dumps(Trap(marker), protocol=2))
    elif form == "zip":
        torch.save(Trap(marker), path)
    else:
        torch.save({**read_state(path), "extra": Trap(marker)}, path)
    said = "objects other than tensors, which are never loaded"
    refuses(load, None, OSError, said, str(path), model=folder)
    assert not marker.exists()


@pytest.mark.parametrize("layout", ["bundle", "published safetensors"])
def test_87_a_pickle_in_the_place_of_the_weights(track_model, refuses, tmp_path, layout):
    """Of the right hash: the folder is all of one who means harm."""
    folder, marker = write(track_model, tmp_path / "model", layout), tmp_path / "it-ran"
    weights_of(folder).write_bytes(pickle.dumps(Trap(marker)))
    rehash(folder)
    refuses(load, None, OSError, "not a complete safetensors file", model=folder)
    assert not marker.exists()


def test_88_a_checkpoint_that_names_a_callable(track_model, refuses, tmp_path):
    """Not called, not even looked up: the module need not exist."""
    folder = write(track_model, tmp_path / "model", "published")
    weights_of(folder).write_bytes(b"\x80\x02cno_such_module\nrun\n.")
    refuses(load, None, OSError, "objects other than tensors", model=folder)


def test_88_a_whole_network_in_place_of_its_weights(track_model, refuses, tmp_path):
    folder = write(track_model, tmp_path / "model", "published")
    torch.save(track_model.network, weights_of(folder))
    refuses(load, None, OSError, "objects other than tensors", model=folder)


# ---- 89: keys ------------------------------------------------------------------------------------

KEY = "transformer.1.1.fn.4.bias"


@pytest.mark.parametrize("change", ["missing", "extra", "renamed", "a whole block", "a head"])
def test_89_tensors_that_do_not_fit(folder, refuses, change):
    """Each is listed, and none is ever made up."""

    def without(state: dict[str, Any], part: str) -> None:
        for name in [name for name in state if part in name]:
            del state[name]

    def alter(state: dict[str, Any]) -> None:
        without(state, "_trunk.")
        if change == "missing":
            del state[KEY]
        elif change == "extra":
            state["extra.weight"] = torch.ones(3)
        elif change == "renamed":
            state[KEY.replace("bias", "offset")] = state.pop(KEY)
        else:
            without(state, "transformer.1." if change == "a whole block" else "_heads.mouse.")

    put_weights(folder, alter)
    told = {
        "missing": ["1 missing", KEY],
        "extra": ["1 unknown", "extra.weight"],
        "renamed": ["1 missing", "1 unknown", "offset"],
        "a whole block": ["16 missing", r"transformer\.1\."],
        "a head": ["2 missing", r"_heads\.mouse\.0\.bias"],
    }[change]
    refuses(load, None, RuntimeError, *told, model=folder)


def test_89_a_second_copy_that_differs(track_model, refuses, tmp_path):
    folder = write(track_model, tmp_path / "model", "published")
    put_weights(folder, lambda state: state["_trunk.1.0.bias"].add_(1.0))
    told = ["1 tensors that the file holds twice differ", r"_trunk\.1\.0\.bias and stem\.0\.bias"]
    refuses(load, None, RuntimeError, *told, model=folder)


# ---- 90: shapes, tables, versions ----------------------------------------------------------------


def test_90_another_shape(folder, refuses):
    path = folder / "config.json"
    content = json.loads(path.read_text())
    if "shape" in content:
        change_json(path, shape={**content["shape"], "key_size": 16})
    else:
        change_json(path, attn_dim_key=16)
    told = [r"to_q\.weight is \(16, 48\), expected \(32, 48\)", "belong together"]
    refuses(load, None, RuntimeError, *told, model=folder)


def test_90_another_number_of_tracks(folder, refuses):
    """In the configuration alone: the table says so first, and of other weights they do."""
    path = folder / "config.json"
    content = json.loads(path.read_text())
    heads = {"human": 7, "mouse": 3}
    if "shape" in content:
        change_json(path, shape={**content["shape"], "heads": heads})
    else:
        change_json(path, output_heads=heads)
    told = ["predicts 7 human tracks, and its table names 6", "belong together"]
    refuses(load, None, RuntimeError, *told, model=folder)
    refuses(tracks, None, RuntimeError, *told, model=folder)
    table = (folder / "tracks_human.tsv").read_text()
    row = "6\tEN6\tCHIP\tCTCF/K562\tmean\t1.0\t384.0\t6\n"
    (folder / "tracks_human.tsv").write_text(table + row)
    rehash(folder)
    said = r"_heads\.human\.0\.weight is \(6, 96\), expected \(7, 96\)"
    refuses(load, None, RuntimeError, said, model=folder)


def test_90_a_table_that_was_changed(track_model, refuses, tmp_path):
    """Tracks of other names would be predicted: a bundle holds its tables to their hashes."""
    folder = track_model.save(tmp_path / "bundle")
    path = folder / "tracks_human.tsv"
    path.write_text(path.read_text().replace("left ventricle", "right ventricle"))
    for call in (load, tracks):
        refuses(call, None, OSError, "the bundle was changed", model=folder)
    path.unlink()
    refuses(load, None, OSError, r"tracks_human\.tsv is missing", model=folder)


def test_90_a_table_that_is_none(folder, refuses):
    (folder / "tracks_human.tsv").write_text("<html><body>Please sign in</body></html>\n")
    rehash(folder)
    refuses(load, None, ValueError, "is no table of tracks", "no column index", model=folder)


def test_90_a_bundle_of_another_version(track_model, refuses, tmp_path):
    folder = track_model.save(tmp_path / "bundle")
    change_json(folder / "config.json", format=2)
    refuses(load, None, RuntimeError, "of format 2;", "reads format 1", model=folder)


def test_90_weights_of_the_other_kind_of_model(track_model, make_model, refuses, tmp_path):
    """A BERT's weights in an Enformer's folder, and the other way round."""
    folder = track_model.save(tmp_path / "tracks")
    other = make_model().save(tmp_path / "sentences")
    states = [read_state(place / "model.safetensors") for place in (folder, other)]
    for place, state in ((folder, states[1]), (other, states[0])):
        save_safetensors(state, place / "model.safetensors")
        rehash(place)
    refuses(load, None, RuntimeError, "not those of an Enformer with 2 blocks", model=folder)
    refuses(load, None, RuntimeError, "not those of a 3-layer BERT", model=other)


# ---- 91: numbers that are none -------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_91_weights_that_are_no_numbers(folder, refuses, value):
    def spoil(state: dict[str, Any]) -> None:
        for name in [name for name in state if name.startswith("_trunk.")]:
            del state[name]
        state["conv_tower.3.1.fn.0.running_var"][2] = value

    put_weights(folder, spoil)
    told = ["1 tensors hold NaN or infinite", r"tower\.3\.mix\.norm\.running_var"]
    refuses(load, None, RuntimeError, *told, model=folder)


def test_91_weights_that_are_no_numbers_are_not_saved(track_model, refuses, tmp_path):
    import copy
    import dataclasses

    network = copy.deepcopy(track_model.network)
    network.final.conv.bias[5] = float("nan")
    spoilt = dataclasses.replace(track_model, network=network)
    refuses(spoilt.save, None, RuntimeError, "1 tensors hold NaN", folder=tmp_path / "bundle")
    refuses(export, None, RuntimeError, "1 tensors hold NaN", model=spoilt, folder=tmp_path / "x")
    network.final.conv.bias[5] = 1e6
    refuses(spoilt.save, None, RuntimeError, "hold NaN", folder=tmp_path / "half", half=True)


# ---- 92: converted weights -----------------------------------------------------------------------


def test_92_converted_weights(folder, track_model, tmp_path):
    """Through every layout, and on through the others: the same numbers to the last bit."""
    sequence = torch.arange(4_096, dtype=torch.uint8)[None] % 5
    with torch.no_grad():
        expected = track_model.network(sequence)
        model = load(folder)
        for one in (model, load(model.save(tmp_path / "b")), load(export(model, tmp_path / "c"))):
            found = one.network(sequence)
            assert found.keys() == expected.keys()
            assert all(torch.equal(found[head], expected[head]) for head in expected)


def test_92_parity_with_the_original(track_model, tmp_path):
    """A checkpoint that another tool wrote predicts what that tool predicts."""
    peer = pytest.importorskip("enformer_pytorch.modeling_enformer")
    shape = track_model.spec.shape
    entries = {
        "dim": 192,
        "depth": 2,
        "heads": 1,
        "output_heads": dict(shape.heads),
        "target_length": 896,
        "attn_dim_key": 16,
        "dim_divisible_by": 96,
        "use_tf_gamma": True,
    }
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(5)
        theirs = peer.Enformer.from_hparams(**entries).eval()
        for parameter in theirs.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
        for name, buffer in theirs.named_buffers():
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 2.0)
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "enformer", **entries}))
    torch.save(theirs.state_dict(), folder / "pytorch_model.bin")
    model = load(folder)
    assert model.spec.window_bp == 196_608
    generator = torch.Generator().manual_seed(2)
    codes = torch.randint(0, 5, (1, 196_608), generator=generator)
    with torch.no_grad():
        expected, found = theirs(codes), model.network(codes)
    for head in shape.heads:
        peak = expected[head].abs().max()
        assert float((found[head] - expected[head]).abs().max() / peak) < 1e-4
    assert glm.models.verify(folder).ok
