"""Batches of any size, rows with nothing in them, settings restored, files whole or absent."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import scipy.sparse as sp
import torch
from anndata import AnnData

import glm
from glm.models.bert import Bert
from glm.models.fast.bert import PackedBert

pytestmark = pytest.mark.faults

TINY = "geneformer-tiny"
# What `glm.tl.embed` says of its token budget: differences stay below this share of the largest.
TOLERANCE = 1e-5


def _vectors(adata: AnnData, **options: Any) -> np.ndarray:
    return glm.tl.embed(adata, copy=True, **options).obsm["X_geneformer"]


@pytest.fixture(scope="module")
def short_cells() -> AnnData:
    """64 cells of 3 to 120 genes."""
    adata = glm.datasets.toy_cells(n_cells=64)
    rng = np.random.default_rng(3)
    share = np.linspace(0.002, 0.05, 64)[:, None]
    adata.X = sp.csr_matrix(rng.binomial(adata.X.toarray().astype(np.int64), share), dtype="f4")
    return adata


# ---- batches -----------------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("layer", ["last", "second_to_last"])
def test_97_batches_of_one(short_cells, model, pooling, layer):
    options = {"model": model, "pooling": pooling, "hidden_layer": layer}
    together = _vectors(short_cells, token_budget=10**6, **options)
    one_by_one = _vectors(short_cells, token_budget=1, **options)
    assert np.isfinite(together).all()
    assert np.ptp(together, axis=0).max() > 1e3 * TOLERANCE * np.abs(together).max()  # cells differ
    np.testing.assert_allclose(
        one_by_one, together, rtol=0, atol=TOLERANCE * np.abs(together).max()
    )


def test_97_how_batches_fall(short_cells, monkeypatch, model):
    """The two runs above are what they claim to be."""
    sizes: list[int] = []
    hidden = PackedBert.hidden

    def watched(self, tokens, lengths, **options):
        sizes.append(len(lengths))
        return hidden(self, tokens, lengths, **options)

    monkeypatch.setattr(PackedBert, "hidden", watched)
    _vectors(short_cells, model=model, token_budget=10**6)
    assert sizes == [64]
    _vectors(short_cells, model=model, token_budget=1)
    assert sizes[1:] == [1] * 64


def test_97_a_cell_does_not_depend_on_its_neighbours(short_cells, model):
    together = _vectors(short_cells, model=model)
    for row in (0, 31, 63):
        alone = _vectors(short_cells[[row]].copy(), model=model)
        atol = TOLERANCE * np.abs(together).max()
        np.testing.assert_allclose(alone[0], together[row], rtol=0, atol=atol)


@pytest.mark.parametrize("budget", [0, -1])
def test_97_impossible_budget(cells, embed, refuses, budget):
    refuses(
        embed, cells, ValueError, f"token budget is {budget}", "at least 1", token_budget=budget
    )


# ---- rows with nothing in them -----------------------------------------------------------------


@pytest.fixture(scope="module")
def encoder() -> Bert:
    shape = glm.models.BertConfig(
        vocab_size=30, hidden_size=16, n_layers=2, n_heads=2, intermediate_size=24, n_positions=12
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Bert(shape).eval()


def test_98_fully_masked_row(encoder):
    tokens = torch.arange(1, 25).view(3, 8)
    mask = torch.ones(3, 8, dtype=torch.bool)
    mask[0, 5:] = False
    with torch.no_grad():
        expected = encoder(tokens, mask)
        mask[1] = False
        found = encoder(tokens, mask)
    assert found[1].isnan().all()
    assert found[[0, 2]].isfinite().all()
    torch.testing.assert_close(found[0, :5], expected[0, :5], rtol=0, atol=1e-6)
    torch.testing.assert_close(found[2], expected[2], rtol=0, atol=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("empty", [[0], [2, 3], [5], [0, 1, 2, 3, 4]])
def test_98_empty_cells(cells, embed, accepts, results, pooling, empty):
    expected = results(cells)[0] if pooling == "mean" else None
    full = [row for row in range(6) if row not in empty]
    values = cells.X.toarray()
    values[empty] = 0
    cells.X = sp.csr_matrix(values)
    accepts(embed, cells, pooling=pooling, unusable=empty)
    found = cells.obsm["X_geneformer"]
    alone = _vectors(cells[full].copy(), model=embed.keywords["model"], pooling=pooling)
    np.testing.assert_array_equal(found[full], alone)
    if expected is not None:
        atol = TOLERANCE * np.abs(expected).max()
        np.testing.assert_allclose(found[full], expected[full], rtol=0, atol=atol)


def test_98_not_finite_in_the_model(cells, embed, accepts, monkeypatch):
    """A row that comes out of the model broken is flagged like an empty one."""
    hidden = PackedBert.hidden

    def breaks_one(self, tokens, lengths, **options):
        out = hidden(self, tokens, lengths, **options).clone()
        out[0] = torch.nan  # of the longest cell, which comes first
        return out

    monkeypatch.setattr(PackedBert, "hidden", breaks_one)
    longest = int(np.argmax((cells.X > 0).sum(axis=1)))
    accepts(embed, cells, pooling="cls", token_budget=10**6, unusable=[longest])


# ---- what belongs to everybody -----------------------------------------------------------------


@pytest.fixture
def unusual_settings():
    """Settings that nobody would set by accident, so that a reset to the defaults is noticed."""
    before = (
        torch.get_num_threads(),
        torch.get_float32_matmul_precision(),
        torch.is_grad_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        np.geterr(),
    )
    torch.set_float32_matmul_precision("medium")
    torch.set_grad_enabled(False)
    torch.use_deterministic_algorithms(True, warn_only=True)
    np.seterr(under="raise")
    yield
    torch.set_num_threads(before[0])
    torch.set_float32_matmul_precision(before[1])
    torch.set_grad_enabled(before[2])
    torch.use_deterministic_algorithms(before[3])
    np.seterr(**before[4])


@pytest.mark.usefixtures("unusual_settings")
def test_103_settings_are_restored(cells, embed, rank_encode, map_genes, accepts, refuses):
    """`accepts` and `refuses` compare random states, torch's flags, logging, files and folders."""
    for call in (map_genes, rank_encode, embed):
        accepts(call, cells)
    cells.X.data[3] = np.nan
    for call in (rank_encode, embed):
        refuses(call, cells, ValueError, "not finite")


@pytest.mark.parametrize("error", [RuntimeError, OSError])
def test_103_settings_are_restored_after_a_failure(cells, embed, refuses, monkeypatch, error):
    """In the middle of a run, when some cells are done."""
    hidden, calls = PackedBert.hidden, []

    def fails_late(self, *args, **options):
        calls.append(1)
        if len(calls) == 4:
            raise error("the machine is gone")
        return hidden(self, *args, **options)

    monkeypatch.setattr(PackedBert, "hidden", fails_late)
    refuses(embed, cells, error, "the machine is gone", token_budget=1)
    assert len(calls) == 4


def test_103_interrupted(cells, embed, monkeypatch):
    """Ctrl-C is no error that `refuses` knows, but leaves as little."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(PackedBert, "hidden", interrupted)
    state = torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        embed(cells)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.is_grad_enabled()
    assert [*cells.obsm, *cells.uns] == []
    assert cells.obs.columns.tolist() == ["kind"]


def test_103_loading_restores(refuses, tmp_path):
    """Models are built without a draw from the caller's generator."""
    state = torch.get_rng_state()
    loaded = glm.models.load(TINY)
    assert torch.equal(state, torch.get_rng_state())
    bundle = loaded.save(tmp_path / "bundle")
    weights = bundle / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    refuses(lambda: glm.models.load(bundle), None, OSError, "sha256", "copied in part")


@pytest.fixture
def quick(model):
    """What `glm.train.fit` needs for one epoch of a few steps."""
    recipe = dataclasses.replace(
        glm.train.recipe(TINY), max_epochs=1, warmup=1, tokens_per_batch=40, batches_per_step=1
    )
    cells = glm.train.Sentences(np.tile(model.vocabulary.tokens[:20], 4), np.arange(0, 81, 20))
    options = {"recipe": recipe, "accelerator": "cpu", "enable_progress_bar": False}
    return glm.models.load(TINY), glm.train.MaskedTokens(model.vocabulary), cells, options


class _Fails(pl.Callback):
    def on_train_batch_end(self, *_: object) -> None:
        raise RuntimeError("the machine is gone")


@pytest.mark.parametrize("fails", [False, True])
def test_103_training_restores(quick, refuses, tmp_path_factory, fails):
    """Nothing is left but what it was asked to write, where it was asked to."""
    network, objective, cells, options = quick
    folder = tmp_path_factory.mktemp("run")

    def train() -> None:
        callbacks = [_Fails()] if fails else []
        glm.train.fit(network, objective, cells, folder=folder, callbacks=callbacks, **options)
        raise RuntimeError("trained to the end")  # so that `refuses` looks at what it left

    refuses(train, None, RuntimeError, "gone" if fails else "to the end")
    assert (folder / "run.json").is_file()
    assert [path for path in folder.iterdir() if path.name.startswith(".")] == []
    assert (folder / "last.ckpt").is_file() is not fails


def test_103_training_refuses_first(quick, refuses, tmp_path):
    """Before a folder is made."""
    network, objective, cells, options = quick
    short = glm.train.Sentences(cells.tokens[:6], np.array([0, 3, 6]))

    def train() -> None:
        glm.train.fit(network, objective, short, folder=tmp_path / "run", **options)

    refuses(train, None, ValueError, "2 of 2 sentences of data have fewer than 7 tokens")
    assert not (tmp_path / "run").exists()


# ---- files -------------------------------------------------------------------------------------

BUNDLE = ("config.json", "model.safetensors", "vocabulary.json")


@pytest.fixture
def bundle(make_model, tmp_path: Path) -> Path:
    return make_model(seed=1).save(tmp_path / "bundle")


@pytest.mark.parametrize("card", [{"when": object()}, {"runs": [{"of": object}]}])
def test_c_saving_what_cannot_be_written(make_model, bundle, refuses, card):
    weights_of_another = make_model(seed=2)
    refuses(lambda: weights_of_another.save(bundle, card=card), None, TypeError, "JSON")
    assert glm.models.load(bundle).spec.name == "small-v1"


def test_c_a_number_that_json_lacks(make_model, tmp_path):
    model = make_model()
    model.save(tmp_path / "bundle", card={"loss": float("nan"), "kept": np.float32(0.5)})
    assert glm.models.load(tmp_path / "bundle").card == {"loss": None, "kept": 0.5}


@pytest.mark.parametrize("step", ["weights", "vocabulary", "flush"])
def test_c_saving_on_a_full_disk(make_model, bundle, refuses, monkeypatch, step):
    another = make_model(seed=2)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    target = {
        "weights": "glm.models.weights.save_file",
        "vocabulary": "pathlib.Path.write_text",
        "flush": "os.fsync",
    }[step]
    monkeypatch.setattr(target, full)
    refuses(lambda: another.save(bundle), None, OSError, "No space left")


def test_c_saving_half_way_through_the_weights(make_model, bundle, refuses, monkeypatch):
    """A part of a file is written when the disk is full; it is not left lying about."""

    def half(_: object, path: Path, **__: object) -> None:
        Path(path).write_bytes(b"half a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("glm.models.weights.save_file", half)
    refuses(lambda: make_model(seed=2).save(bundle), None, OSError, "No space left")


def test_c_files_are_whole_before_they_take_their_places(make_model, bundle, monkeypatch):
    """All are written and flushed beside the old ones, then renamed; names are not reused."""
    another, moved = make_model(seed=2), []
    replace = os.replace

    def watched(source: str | Path, target: str | Path) -> None:
        moved.append((Path(source), Path(target), {p.name for p in bundle.iterdir()}))
        replace(source, target)

    monkeypatch.setattr("os.replace", watched)
    another.save(bundle)
    another.save(bundle)
    moves = [move for move in moved if move[1].name in BUNDLE]
    targets = [target.name for _, target, _ in moves]
    assert sorted(targets[:3]) == sorted(targets[3:]) == sorted(BUNDLE)
    assert targets[2] == targets[5] == "config.json"  # it names the others' hashes
    assert all(source.parent == target.parent == bundle for source, target, _ in moves)
    assert len({source for source, _, _ in moves}) == 6
    assert len(moves[0][2]) == 6  # three old files, and beside them three new ones
    assert {path.name for path in bundle.iterdir()} == set(BUNDLE)


def test_c_saving_over_a_bundle(make_model, bundle):
    another = make_model(seed=2)
    another.save(bundle, card={"note": "second"})
    assert {path.name for path in bundle.iterdir()} == set(BUNDLE)
    assert json.loads((bundle / "config.json").read_text())["card"] == {"note": "second"}
    loaded = glm.models.load(bundle).network.state_dict()
    assert all(torch.equal(loaded[n], t) for n, t in another.network.state_dict().items())


@pytest.mark.parametrize("name", ["model.safetensors", "vocabulary.json"])
def test_c_a_bundle_mixed_from_two(make_model, bundle, refuses, tmp_path, name):
    """What a crash between two renames leaves is noticed, never read."""
    other = glm.models.load(bundle)
    medians = other.vocabulary.medians[::-1].copy()
    vocabulary = dataclasses.replace(other.vocabulary, medians=medians)
    other = dataclasses.replace(make_model(seed=2), vocabulary=vocabulary)
    (bundle / name).write_bytes((other.save(tmp_path / "other") / name).read_bytes())
    refuses(lambda: glm.models.load(bundle), None, OSError, name, "sha256", "config.json says")


def test_c_a_bundle_without_a_file(bundle, refuses):
    (bundle / "model.safetensors").unlink()
    refuses(
        lambda: glm.models.load(bundle), None, OSError, "not a whole bundle", "model.safetensors"
    )
