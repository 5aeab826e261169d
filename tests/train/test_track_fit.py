"""Training on tracks: it learns, measures, keeps, starts from models, and goes on bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch

import glm
from glm.models.any_model import load
from glm.models.enformer_config import EnformerConfig
from glm.models.track_model import TrackModel
from glm.train import Fitted, Recipe, TrackPoisson, TrackWindows, fit_tracks

SMALL = EnformerConfig(channels=24, depth=1, n_heads=2, key_size=8, channel_step=4, dropout=0.1)


@pytest.fixture(scope="module")
def human(make_track_windows) -> TrackWindows:
    return make_track_windows(6)


@pytest.fixture(scope="module")
def mouse(make_track_windows) -> TrackWindows:
    return make_track_windows(4, head="mouse", n_tracks=3, seed=1)


@pytest.fixture(scope="module")
def unseen(make_track_windows) -> TrackWindows:
    return make_track_windows(4, seed=2)


@pytest.fixture(scope="module")
def train(human, mouse) -> Callable[..., Fitted]:
    """Train on both: ``train(folder, recipe fields and options of fit_tracks...)``."""
    quick = Recipe(
        learning_rate=2e-3,
        warmup=2,
        max_epochs=2,
        schedule="constant",
        gradient_clip=0.2,
        rows_per_batch=1,
    )

    def call(folder: Path, model=SMALL, windows=None, **options) -> Fitted:
        fields = {name for name in Recipe.__dataclass_fields__ if name in options}
        recipe = replace(quick, **{name: options.pop(name) for name in fields})
        windows = [human, mouse] if windows is None else windows
        return fit_tracks(
            model, windows, folder=folder, recipe=recipe, accelerator="cpu", **options
        )

    return call


def same(one: TrackModel, other: TrackModel) -> bool:
    theirs = other.network.state_dict()
    return all(torch.equal(t, theirs[name]) for name, t in one.network.state_dict().items())


def predicted(model: TrackModel, windows: TrackWindows) -> np.ndarray:
    with torch.inference_mode():
        codes = torch.from_numpy(windows.codes)
        found = model.network(codes, heads=[windows.head], crop=windows.crop)
    return found[windows.head].numpy()


# ---- what comes out -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def learnt(train, human, unseen, tmp_path_factory) -> tuple[Fitted, Path]:
    folder = tmp_path_factory.mktemp("learnt")
    options = {"max_epochs": 30, "learning_rate": 5e-3, "log_every_n_steps": 1}
    with glm.settings.override(progress=False):
        fitted = train(folder, windows=human, held_out=unseen, name="small", **options)
    return fitted, folder


def test_it_learns(learnt, unseen):
    """Tracks that follow the bases are found in windows that were not trained on."""
    fitted, _ = learnt
    measured = fitted.history["held_out_pearson"].dropna()
    assert len(measured) == 30
    assert measured.max() > 0.8
    losses = fitted.history["held_out_loss"].dropna()
    assert losses.min() < losses.iloc[0]
    assert fitted.best_epoch == int(measured.to_numpy().argmax())


def test_what_is_logged_is_the_public_metric(learnt, unseen):
    fitted, _ = learnt
    best = fitted.history["held_out_pearson"].max()
    each = glm.metrics.track_pearson(unseen.targets, predicted(fitted.model, unseen))
    assert each.mean() == pytest.approx(best, abs=1e-6)
    row = fitted.history.loc[fitted.history["held_out_pearson"].idxmax()]
    assert row["held_out_pearson_CAGE"] == pytest.approx(each[:2].mean(), abs=1e-6)
    assert row["held_out_pearson_DNASE"] == pytest.approx(each[2:].mean(), abs=1e-6)
    assert row["held_out_tracks_without_pearson"] == 0
    mean = predicted(fitted.model, unseen).astype(np.float64)
    loss = (mean - unseen.targets * np.log(mean)).mean()
    assert row["held_out_loss"] == pytest.approx(loss, rel=1e-5)


def test_the_result_is_a_bundle(learnt, human, unseen, tmp_path):
    fitted, _ = learnt
    model = fitted.model
    assert (model.spec.name, model.spec.window_bp, model.spec.shape.crop) == ("small", 4_096, 4)
    assert model.spec.output_bp == 24 * 128
    pd.testing.assert_frame_equal(model.tables["human"], human.table)
    assert not model.network.training
    loaded = load(model.save(tmp_path / "bundle"))
    np.testing.assert_array_equal(predicted(loaded, unseen), predicted(model, unseen))
    card = loaded.card
    assert card["metrics"]["held_out_pearson"] == fitted.history["held_out_pearson"].max()
    assert (card["from"], card["windows"], card["genomes"]) == (
        "random weights",
        {"human": 6},
        {"human": "hg38"},
    )


def test_both_organisms_are_measured(train, human, mouse, tmp_path):
    held = [replace(some, regions=None) for some in (human, mouse)]
    fitted = train(tmp_path, held_out=held, max_epochs=1)
    row = fitted.history.dropna(subset=["held_out_pearson"]).iloc[-1]
    each = {
        some.head: glm.metrics.track_pearson(some.targets, predicted(fitted.model, some))
        for some in held
    }
    for head, values in each.items():
        assert row[f"held_out_pearson_{head}"] == pytest.approx(values.mean(), abs=1e-6)
        cage = row[f"held_out_pearson_{head}_CAGE"]
        assert cage == pytest.approx(values[:2].mean(), abs=1e-6)
    together = np.concatenate(list(each.values()))
    assert row["held_out_pearson"] == pytest.approx(together.mean(), abs=1e-6)


def test_tracks_that_are_the_same_everywhere_are_left_out(train, human, unseen, tmp_path):
    targets = unseen.targets.copy()
    targets[..., 3] = 0.5
    flat = replace(unseen, targets=targets)
    row = train(tmp_path, windows=human, held_out=flat, max_epochs=1).history.iloc[-1]
    assert row["held_out_tracks_without_pearson"] == 1
    assert np.isfinite(row["held_out_pearson"])


def test_chosen_by_the_loss(train, human, unseen, tmp_path):
    objective = TrackPoisson(choose_by="loss")
    fitted = train(tmp_path, windows=human, held_out=unseen, objective=objective, max_epochs=4)
    losses = fitted.history["held_out_loss"].dropna().to_numpy()
    assert fitted.best_epoch == losses.argmin()


# ---- a step -------------------------------------------------------------------------------------


class Steps(pl.Callback):
    """Heads of the batches of each step, and which parameters have a gradient then."""

    def __init__(self) -> None:
        self.heads: list[list[str]] = [[]]
        self.moved: list[set[str]] = []
        self.rates: list[float] = []

    def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
        self.heads[-1].append(batch.head)

    def on_before_optimizer_step(self, trainer, module, optimizer) -> None:
        named = module.network.named_parameters()
        self.moved.append({name for name, p in named if p.grad is not None})
        self.rates.append(optimizer.param_groups[0]["lr"])
        self.heads.append([])


def test_a_step_leaves_the_other_organisms_head_alone(train, tmp_path):
    seen = Steps()
    train(tmp_path, callbacks=[seen], max_epochs=1, batches_per_step=3)
    assert seen.heads[:-1] == [["human"] * 3, ["mouse"] * 3] * 2
    for heads, moved in zip(seen.heads, seen.moved, strict=False):
        assert {name.split(".")[1] for name in moved if name.startswith("heads")} == {heads[0]}
        assert any(name.startswith("stem") for name in moved)
    assert seen.rates == pytest.approx([2e-3 / 3, 4e-3 / 3, 2e-3, 2e-3])


def test_windows_of_both_organisms_count_alike(train, human, mouse, tmp_path):
    """A step of one window of each: its gradient is the mean of both gradients."""
    objective = TrackPoisson(shift_bp=0, reverse_complement=False)
    still = replace(SMALL, dropout=0.0, attention_dropout=0.0, position_dropout=0.0)
    found: list[dict[str, torch.Tensor]] = []

    class Gradients(pl.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
            named = module.network.named_parameters()
            found.append({n: p.grad.clone() for n, p in named if p.grad is not None})

    single = [human.subset([0]), mouse.subset([0])]
    train(
        tmp_path,
        still,
        windows=single,
        objective=objective,
        callbacks=[Gradients()],
        max_epochs=1,
        accumulate_grad_batches=2,
        gradient_clip=0,
        warmup=0,
    )
    both = found[1]
    torch.manual_seed(0)
    config = replace(still, heads={"human": 4, "mouse": 3}, crop=4)
    network = glm.models.enformer.Enformer(config).train()
    losses = []
    for some in single:
        batch = objective.batch(some, np.array([0]), np.random.default_rng(), training=False)
        losses.append(objective.loss(batch.through(network), batch))
    (sum(losses) / 2).backward()
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(both[name], parameter.grad, rtol=1e-4, atol=1e-7)


def test_activations_computed_again_give_the_same(train, tmp_path):
    plain, again = (
        train(tmp_path / str(on), checkpoint_activations=on, max_epochs=1) for on in (False, True)
    )
    pd.testing.assert_frame_equal(plain.history, again.history, check_exact=False, rtol=1e-5)
    assert not again.model.network.recompute


# ---- from a model -------------------------------------------------------------------------------


@pytest.fixture
def of_the_model(make_track_windows, track_model) -> TrackWindows:
    windows = make_track_windows(3, n_tracks=6)
    return replace(windows, table=track_model.tables["human"])


def test_a_head_with_the_same_tracks_goes_on(train, track_model, of_the_model, tmp_path):
    before = {name: t.clone() for name, t in track_model.network.state_dict().items()}
    fitted = train(tmp_path, track_model, of_the_model, learning_rate=1e-9, max_epochs=1)
    assert list(fitted.model.tables) == ["human"]  # the trunk under the mouse's has moved
    after = fitted.model.network.state_dict()
    weights = after["heads.human.weight"]
    torch.testing.assert_close(weights, before["heads.human.weight"], atol=1e-6, rtol=0)
    torch.testing.assert_close(after["stem.conv.weight"], before["stem.conv.weight"])
    assert not torch.equal(
        after["stem.mix.norm.running_mean"], before["stem.mix.norm.running_mean"]
    )
    for name, tensor in track_model.network.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert fitted.model.spec.name == track_model.spec.name


def test_a_head_with_other_tracks_is_drawn(train, track_model, of_the_model, tmp_path):
    other = replace(of_the_model, table=of_the_model.table.assign(identifier=list("abcdef")))
    fitted = train(tmp_path, track_model, other, learning_rate=1e-9, max_epochs=1, name="mine")
    weights = fitted.model.network.state_dict()["heads.human.weight"]
    assert (weights - track_model.network.heads["human"].weight).abs().max() > 0.01
    assert fitted.model.spec.name == "mine"
    assert fitted.model.tables["human"]["identifier"].tolist() == list("abcdef")


def test_frozen_trunk(train, track_model, of_the_model, make_track_windows, tmp_path):
    """All but the head stays as it is, statistics included; the mouse's head is kept."""
    new = replace(make_track_windows(3), head="cells")
    options = {"max_epochs": 8, "learning_rate": 1e-2, "log_every_n_steps": 1}
    fitted = train(tmp_path, track_model, new, frozen_trunk=True, **options)
    assert list(fitted.model.tables) == ["human", "mouse", "cells"]
    before, after = track_model.network.state_dict(), fitted.model.network.state_dict()
    for name, tensor in before.items():
        assert torch.equal(after[name], tensor), name
    losses = fitted.history["train_loss"].dropna()
    assert losses.tail(3).mean() < losses.head(3).mean()
    there = predicted(track_model, of_the_model)
    np.testing.assert_allclose(predicted(fitted.model, of_the_model), there, rtol=1e-4)


def test_a_frozen_trunk_drops_nothing(train, track_model, make_track_windows, tmp_path):
    """Two steps at a rate of nothing have the same loss: no dropout, no statistics of a batch."""
    new = replace(make_track_windows(1), head="cells")
    fitted = train(
        tmp_path,
        track_model,
        new,
        frozen_trunk=True,
        max_epochs=3,
        learning_rate=1e-12,
        objective=TrackPoisson(shift_bp=0, reverse_complement=False),
        log_every_n_steps=1,
    )
    assert fitted.history["train_loss"].dropna().nunique() == 1


def test_from_a_folder(train, track_model, of_the_model, tmp_path):
    folder = track_model.save(tmp_path / "bundle")
    options = {"windows": of_the_model, "max_epochs": 1}
    from_folder = train(tmp_path / "a", folder, **options)
    assert same(from_folder.model, train(tmp_path / "b", track_model, **options).model)


# ---- going on -----------------------------------------------------------------------------------


class Down(Exception):
    """What breaks a run off."""


class Interrupt(pl.Callback):
    def __init__(self, at: tuple[int, int]) -> None:
        self.at = at

    def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
        if (trainer.current_epoch, batch_idx) == self.at:
            raise Down


@pytest.mark.parametrize("at", [(0, 5), (1, 0), (1, 4), (1, 11)], ids=str)
@pytest.mark.parametrize("per_step", [1, 2])
def test_resumed_equals_uninterrupted(train, unseen, tmp_path, at, per_step):
    """Bit for bit, statistics of the norms included."""
    options = {"held_out": unseen, "batches_per_step": per_step, "log_every_n_steps": 1}
    whole = train(tmp_path / "whole", **options)
    options |= {"save_every_steps": 1, "save_every_minutes": None}
    with pytest.raises(Down):
        train(tmp_path / "cut", callbacks=[Interrupt(at)], **options)
    torch.rand(3)
    resumed = train(tmp_path / "cut", workers=1, **options)
    assert same(resumed.model, whole.model)
    pd.testing.assert_frame_equal(resumed.history, whole.history, check_exact=True)
    again = train(tmp_path / "cut", **options)  # finished: handed back
    assert same(again.model, whole.model)


def test_a_limit_on_the_time(train, tmp_path):
    whole = train(tmp_path / "whole")
    for _ in range(40):
        part = train(tmp_path / "cut", max_time={"milliseconds": 300}, save_every_steps=1)
        if same(part.model, whole.model):
            break
    assert same(train(tmp_path / "cut").model, whole.model)


# ---- refused ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"windows": []}, ValueError, "windows is empty"),
        ({"windows": [1]}, TypeError, "windows holds a int"),
        ({"held_out": "same"}, ValueError, "6 of 6 .* predict bases that are trained on"),
        ({"patience": 2}, ValueError, "patience needs held_out"),
        ({"keep": "all"}, ValueError, "keep is 'all'"),
        ({"frozen_trunk": True}, ValueError, "pass a model, not a shape"),
        ({"rows_per_batch": None, "tokens_per_batch": 9}, ValueError, "does not count windows"),
    ],
    ids=str,
)
def test_refused(train, human, tmp_path, changes, error, message):
    if changes.get("held_out") == "same":
        changes = {"held_out": human}
    with pytest.raises(error, match=message):
        train(tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


def test_windows_of_another_length_than_the_model_s(
    train, track_model, make_track_windows, tmp_path
):
    shorter = make_track_windows(3, window_bp=2_048)
    with pytest.warns(glm.GlmWarning, match=r"reads windows of 4,096 bp, .* 2,048: the"):
        fitted = train(tmp_path / "run", track_model, shorter, max_epochs=1)
    assert fitted.model.spec.window_bp == 2_048


def test_windows_that_do_not_go_together(train, human, mouse, make_track_windows, tmp_path):
    shorter = make_track_windows(3, head="mouse", window_bp=2_048, n_tracks=3)
    renamed = human.table.assign(identifier=list("abcd"))
    cases = [
        ({"windows": [human, human]}, "of the head 'human' twice"),
        ({"windows": [human, shorter]}, r"2,048 bp with 8 bins and 4,096 bp with 24"),
        ({"windows": human, "held_out": mouse}, "'mouse', which is not trained"),
        (
            {
                "windows": human,
                "held_out": replace(human, table=renamed, regions=None),
            },
            "other tracks of 'human'",
        ),
    ]
    for given, message in cases:
        with pytest.raises(ValueError, match=message):
            train(tmp_path, **given)


def test_a_model_of_sentences_is_refused(train, tmp_path):
    with pytest.raises(ValueError, match="geneformer-tiny reads sentences"):
        train(tmp_path, "geneformer-tiny")


def test_recipes():
    pretrain, human = glm.train.recipe("enformer"), glm.train.recipe("enformer", "human")
    assert (pretrain.learning_rate, pretrain.warmup, pretrain.max_steps) == (5e-4, 5_000, 150_000)
    assert (human.learning_rate, human.warmup, human.max_steps) == (1e-4, 0, 30_000)
    for one in (pretrain, human):
        assert (one.gradient_clip, one.schedule, one.weight_decay) == (0.2, "constant", 0.0)
        assert one.rows_per_batch * one.batches_per_step == 64
    with pytest.raises(KeyError, match=r"no recipe 'cells' for enformer; there is pretrain, human"):
        glm.train.recipe("enformer", "cells")
