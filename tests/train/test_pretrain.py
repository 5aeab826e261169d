"""Pretraining: it learns, it can be interrupted without a difference, and it leaves no trace."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch

import glm
from glm.models import Model
from glm.train import MaskedTokens, Recipe, Sentences, pretrain_cells, recipe
from glm.train.modules import linear_schedule, parameter_groups

RECIPE = Recipe(
    learning_rate=5e-3,
    warmup_steps=3,
    weight_decay=0.01,
    mask_share=0.3,
    mask_as_mask=0.8,
    mask_as_random=0.1,
    tokens_per_batch=120,
    max_epochs=3,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:pytorch_lightning"),
    pytest.mark.filterwarnings("ignore::FutureWarning:pytorch_lightning"),
]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with glm.settings.override(progress=False):
        yield


@pytest.fixture
def new_model(make_model: Callable[..., Model]) -> Callable[..., Model]:
    """A small model with dropout, the same each time."""

    def make(**shape: float) -> Model:
        sizes = {"n_genes": 30, "n_layers": 1, "dropout": 0.1, "attention_dropout": 0.1}
        return make_model(v2=True, **{**sizes, **shape})

    return make


@pytest.fixture(scope="module")
def sentences() -> Sentences:
    """Cells of two kinds that have no gene in common, each in its own order."""
    rng = np.random.default_rng(0)
    parts = []
    for i in range(48):
        genes = np.arange(4, 19) if i % 2 else np.arange(33, 18, -1)
        start = rng.integers(0, 5)
        parts.append([2, *genes[start : start + rng.integers(8, 11)].tolist(), 3])
    ends = np.cumsum([0, *map(len, parts)])
    return Sentences(np.concatenate(parts).astype(np.int32), ends)


def weights(model: Model) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.network.state_dict().items()}


def assert_equal(one: Model, other: Model) -> None:
    theirs = other.network.state_dict()
    for name, tensor in one.network.state_dict().items():
        assert torch.equal(tensor, theirs[name]), name


def logs_of(folder: Path) -> list[pd.DataFrame]:
    """One a call."""
    return [pd.read_csv(path) for path in sorted((folder / "log").rglob("metrics.csv"))]


class Interrupt(pl.Callback):
    """Breaks a run off, as a machine that goes down would."""

    class Down(Exception):
        pass

    def __init__(self, epoch: int, batch: int = 0) -> None:
        self.at = (epoch, batch)

    def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
        if (trainer.current_epoch, batch_idx) == self.at:
            raise Interrupt.Down


# ---- learning -----------------------------------------------------------------------------------


def test_it_learns(new_model, sentences: Sentences, tmp_path: Path):
    model = new_model(dropout=0.0, attention_dropout=0.0, hidden_size=32)
    before = weights(model)
    longer = replace(RECIPE, max_epochs=40, learning_rate=1e-2)
    trained = pretrain_cells(
        model, sentences, longer, folder=tmp_path, held_out=sentences, log_every_n_steps=1
    )
    (log,) = logs_of(tmp_path)
    losses = log["held_out_loss"].dropna().to_numpy()
    assert len(losses) == 40
    # 15 genes are as likely as each other if only the kind is known: log(15) = 2.7.
    assert losses[0] > 2.5
    assert losses[-1] < 1.8
    assert log["held_out_accuracy"].dropna().iloc[-1] > 0.5
    train = log["train_loss"].dropna().to_numpy()
    assert train[-10:].mean() < 0.5 * train[:10].mean()
    assert trained.network is model.network
    assert not trained.network.training
    assert trained.weights_sha256 == "unsaved"
    assert any(not torch.equal(tensor, before[name]) for name, tensor in weights(model).items())


def test_the_trained_model_embeds_and_is_saved(
    new_model, sentences: Sentences, tmp_path: Path, make_cells
):
    once = replace(RECIPE, max_epochs=1)
    trained = pretrain_cells(new_model(), sentences, once, folder=tmp_path / "run")
    cells = make_cells(trained.vocabulary, 3)
    glm.tl.embed(cells, trained)
    vectors = cells.obsm["X_geneformer"].copy()
    glm.tl.embed(cells, trained.save(tmp_path / "bundle"))
    assert np.array_equal(cells.obsm["X_geneformer"], vectors)


def test_dropout_is_on_in_training(new_model, sentences: Sentences, tmp_path: Path):
    """Models are handed in in evaluation mode; held-out cells are measured in it."""

    class Modes(pl.Callback):
        seen: set[tuple[str, bool]]

        def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
            self.seen |= {("train", part.training) for part in module.modules()}

        def on_validation_batch_start(self, trainer, module, *_: object) -> None:
            self.seen |= {("held out", part.training) for part in module.modules()}

    modes, model = Modes(), new_model()
    modes.seen = set()
    assert not model.network.training
    pretrain_cells(
        model,
        sentences,
        replace(RECIPE, max_epochs=2),
        folder=tmp_path / "a",
        held_out=sentences,
        callbacks=[modes],
    )
    assert modes.seen == {("train", True), ("held out", False)}
    assert not any(part.training for part in model.network.modules())
    without = new_model(dropout=0.0, attention_dropout=0.0)
    assert_equal(new_model(), without)
    once = replace(RECIPE, max_epochs=1)
    with_dropout = pretrain_cells(new_model(), sentences, once, folder=tmp_path / "b")
    without = pretrain_cells(without, sentences, once, folder=tmp_path / "c")
    theirs = without.network.state_dict()
    assert not torch.equal(with_dropout.network.head.bias, theirs["head.bias"])


def test_every_batch_has_its_own_dropout(new_model, sentences: Sentences, tmp_path: Path):
    class Seeds(pl.Callback):
        seen: list[int]

        def on_train_batch_end(self, *_: object) -> None:
            self.seen.append(torch.initial_seed())

    seeds = Seeds()
    seeds.seen = []
    pretrain_cells(new_model(), sentences, RECIPE, folder=tmp_path, callbacks=[seeds])
    assert len(set(seeds.seen)) == len(seeds.seen) > 10


# ---- interruption -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def uninterrupted(
    make_model: Callable[..., Model], sentences: Sentences, tmp_path_factory
) -> Model:
    folder = tmp_path_factory.mktemp("uninterrupted")
    model = make_model(v2=True, n_genes=30, n_layers=1, dropout=0.1, attention_dropout=0.1)
    with glm.settings.override(progress=False):
        return pretrain_cells(model, sentences, RECIPE, folder=folder)


@pytest.mark.parametrize("at", [(1, 0), (1, 2), (2, 0)], ids=str)
def test_resumed_equals_uninterrupted(
    new_model, sentences: Sentences, tmp_path: Path, uninterrupted: Model, at: tuple[int, int]
):
    """Bit for bit: weights after three epochs, the first of them by another process's model."""
    with pytest.raises(Interrupt.Down):
        pretrain_cells(new_model(), sentences, RECIPE, folder=tmp_path, callbacks=[Interrupt(*at)])
    torch.rand(5)  # whatever else happened to the generator
    resumed = pretrain_cells(new_model(seed=9), sentences, RECIPE, folder=tmp_path)
    assert_equal(resumed, uninterrupted)


@pytest.mark.filterwarnings("error:Experiment logs directory")
def test_the_log_of_an_interrupted_run_is_kept(new_model, sentences: Sentences, tmp_path: Path):
    options = {"folder": tmp_path, "log_every_n_steps": 1}
    with pytest.raises(Interrupt.Down):
        pretrain_cells(new_model(), sentences, RECIPE, callbacks=[Interrupt(1)], **options)
    pretrain_cells(new_model(), sentences, RECIPE, **options)
    first, second = logs_of(tmp_path)
    steps = [log["step"].dropna().astype(int).tolist() for log in (first, second)]
    assert steps[0] == list(range(len(steps[0])))
    assert steps[1][0] == len(steps[0])
    assert steps[1][-1] + 1 == 3 * len(steps[0])


def test_interrupted_before_the_first_checkpoint(
    new_model, sentences: Sentences, tmp_path: Path, uninterrupted: Model
):
    with pytest.raises(Interrupt.Down):
        pretrain_cells(new_model(), sentences, RECIPE, folder=tmp_path, callbacks=[Interrupt(0, 2)])
    assert_equal(pretrain_cells(new_model(), sentences, RECIPE, folder=tmp_path), uninterrupted)


def test_a_finished_run_is_handed_back(new_model, sentences: Sentences, tmp_path: Path):
    once = replace(RECIPE, max_epochs=1)
    first = pretrain_cells(new_model(), sentences, once, folder=tmp_path)
    again = pretrain_cells(new_model(seed=3), sentences, once, folder=tmp_path)
    assert_equal(again, first)


def test_seed_decides(new_model, sentences: Sentences, tmp_path: Path, uninterrupted: Model):
    same = pretrain_cells(new_model(), sentences, RECIPE, folder=tmp_path / "same")
    assert_equal(same, uninterrupted)
    other = replace(RECIPE, seed=1)
    other_model = pretrain_cells(new_model(), sentences, other, folder=tmp_path / "other")
    theirs = uninterrupted.network.state_dict()
    assert not torch.equal(other_model.network.head.bias, theirs["head.bias"])


def test_sentences_of_each_epoch(new_model, sentences: Sentences, tmp_path: Path):
    asked: list[int] = []

    def each_epoch(epoch: int) -> Sentences:
        asked.append(epoch)
        return sentences

    model = pretrain_cells(new_model(), sentences, RECIPE, folder=tmp_path, each_epoch=each_epoch)
    assert model is not None
    assert sorted(set(asked)) == [0, 1, 2]


# ---- another run in the same folder -------------------------------------------------------------


@pytest.fixture
def begun(new_model, sentences: Sentences, tmp_path: Path) -> Path:
    pretrain_cells(new_model(), sentences, replace(RECIPE, max_epochs=1), folder=tmp_path)
    return tmp_path


def test_another_recipe_is_refused(new_model, sentences: Sentences, begun: Path):
    before = (begun / "last.ckpt").read_bytes()
    with pytest.raises(ValueError, match="holds a run with another recipe"):
        pretrain_cells(new_model(), sentences, RECIPE, folder=begun)
    assert (begun / "last.ckpt").read_bytes() == before


def test_other_cells_are_refused(new_model, sentences: Sentences, begun: Path):
    fewer = Sentences(sentences.tokens[: sentences.offsets[40]], sentences.offsets[:41])
    with pytest.raises(ValueError, match="another sentences"):
        pretrain_cells(new_model(), fewer, replace(RECIPE, max_epochs=1), folder=begun)


def test_another_model_is_refused(new_model, sentences: Sentences, begun: Path):
    with pytest.raises(ValueError, match="another shape"):
        pretrain_cells(
            new_model(n_layers=2), sentences, replace(RECIPE, max_epochs=1), folder=begun
        )
    with pytest.raises(ValueError, match="another shape and vocabulary"):
        pretrain_cells(
            new_model(n_genes=31), sentences, replace(RECIPE, max_epochs=1), folder=begun
        )


def test_the_folder_says_what_it_holds(begun: Path):
    run = json.loads((begun / "run.json").read_text())
    assert run["recipe"]["learning_rate"] == 5e-3
    assert set(run) == {"recipe", "shape", "vocabulary", "sentences"}
    assert {path.name for path in begun.iterdir()} == {"epoch.ckpt", "last.ckpt", "log", "run.json"}


# ---- no trace -----------------------------------------------------------------------------------


def test_random_states_are_left_alone(new_model, sentences: Sentences, tmp_path: Path):
    model = new_model()
    torch.rand(3)  # a state that no seed of the run leads to
    states = (
        torch.get_rng_state(),
        np.random.get_state()[1].tolist(),  # noqa: NPY002 - the global one is meant
        random.getstate(),
    )
    pretrain_cells(model, sentences, replace(RECIPE, max_epochs=1), folder=tmp_path / "a")
    with pytest.raises(Interrupt.Down):
        pretrain_cells(model, sentences, RECIPE, folder=tmp_path / "b", callbacks=[Interrupt(0, 1)])
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state()[1].tolist() == states[1]  # noqa: NPY002
    assert random.getstate() == states[2]
    assert torch.is_grad_enabled()
    assert not torch.are_deterministic_algorithms_enabled()


# ---- refusals -----------------------------------------------------------------------------------


def test_short_cells_are_refused(new_model, tmp_path: Path):
    tokens = np.array([2, *range(4, 11), 3, 2, *range(4, 10), 3], np.int32)
    sentences = Sentences(tokens, np.array([0, 9, 17]))
    with pytest.raises(ValueError, match="1 of 2 cells have fewer than 7 genes"):
        pretrain_cells(new_model(), sentences, RECIPE, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_cells(new_model, tmp_path: Path):
    nothing = Sentences(np.zeros(0, np.int32), np.zeros(1, np.int64))
    with pytest.raises(ValueError, match="0 of 0 cells"):
        pretrain_cells(new_model(), nothing, RECIPE, folder=tmp_path)


@pytest.mark.parametrize(
    "tokens", [np.arange(4, 44) % 30, np.full(20, 34)], ids=["too long", "unknown token"]
)
def test_sentences_of_another_model(new_model, tmp_path: Path, tokens: np.ndarray):
    sentences = Sentences(tokens.astype(np.int32), np.array([0, tokens.size]))
    with pytest.raises(ValueError, match="reads 32 tokens of a vocabulary of 34"):
        pretrain_cells(new_model(), sentences, RECIPE, folder=tmp_path)


# ---- optimiser ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "share"),
    [(0, 1 / 5), (1, 2 / 5), (3, 4 / 5), (4, 1.0), (9, 0.5), (13, 0.1), (14, 0.0), (20, 0.0)],
)
def test_linear_schedule(step: int, share: float):
    """Four steps up, ten down."""
    assert linear_schedule(step, 4, 14) == pytest.approx(share)


def test_linear_schedule_without_warm_up_and_with_nothing_else():
    assert [linear_schedule(step, 0, 4) for step in range(5)] == [1, 0.75, 0.5, 0.25, 0]
    assert [linear_schedule(step, 3, 3) for step in range(4)] == [0.25, 0.5, 0.75, 0]
    assert linear_schedule(0, 0, 1) == 1


def test_parameter_groups(new_model):
    network = new_model().network
    with_decay, without = parameter_groups(network, 0.25)
    assert (with_decay["weight_decay"], without["weight_decay"]) == (0.25, 0.0)
    names = {id(p): name for name, p in network.named_parameters()}
    decayed = {names[id(p)] for p in with_decay["params"]}
    plain = {names[id(p)] for p in without["params"]}
    assert decayed | plain == set(names.values())
    assert not decayed & plain
    assert all(name.endswith("weight") and "norm" not in name for name in decayed)
    assert all(name.endswith("bias") or "norm" in name for name in plain)


@pytest.mark.parametrize("accumulated", [1, 2])
def test_the_rate_falls_to_zero_at_the_end(
    new_model, sentences: Sentences, tmp_path: Path, accumulated: int
):
    """Also where several batches make one step."""

    class Rates(pl.Callback):
        seen: list[float] = []  # noqa: RUF012

        def on_before_zero_grad(self, trainer, module, optimizer) -> None:
            self.seen.append(optimizer.param_groups[0]["lr"])

    rates = Rates()
    rates.seen = []
    pretrain_cells(
        new_model(),
        sentences,
        RECIPE,
        folder=tmp_path,
        callbacks=[rates],
        accumulate_grad_batches=accumulated,
    )
    n_batches = len(rates.seen)
    assert max(rates.seen) == pytest.approx(RECIPE.learning_rate)
    peak = int(np.argmax(rates.seen))
    assert peak == RECIPE.warmup_steps
    assert rates.seen[-1] == pytest.approx(RECIPE.learning_rate / (n_batches - peak), rel=0.6)


def test_module_computes_the_loss_of_the_predicted_places_only(new_model, sentences: Sentences):
    model = new_model()
    data = glm.train.SentenceData(sentences, model.vocabulary, RECIPE)
    batch = data.masked(sentences, np.arange(5), (0,))
    module = MaskedTokens(model.network, RECIPE, 10).eval()
    with torch.no_grad():
        logits = module(batch)
        everywhere = model.network(batch.tokens, batch.mask)
    expected = everywhere.flatten(0, 1)[batch.positions]
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)


def test_recipes():
    authors = recipe("geneformer-v1-10m")
    assert (authors.learning_rate, authors.warmup_steps, authors.weight_decay) == (
        1e-3,
        10_000,
        1e-3,
    )
    assert (authors.mask_share, authors.mask_as_mask, authors.mask_as_random) == (0.15, 0.8, 0.1)
    assert (authors.max_epochs, authors.min_genes) == (3, 7)
    with pytest.raises(KeyError, match="There is no model"):
        recipe("none")
