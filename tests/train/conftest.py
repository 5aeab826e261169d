"""A small model, cells of two kinds, a quick recipe, and ways to look at a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

import glm
from glm.models import Model
from glm.train import Fitted, MaskedTokens, Recipe, Sentences, fit


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with glm.settings.override(progress=False):
        yield


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Models this small gain nothing from a second thread, and wait for it on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def quick() -> Recipe:
    """Some five batches an epoch, three epochs."""
    return Recipe(
        learning_rate=5e-3, warmup=3, max_epochs=3, weight_decay=0.01, tokens_per_batch=120
    )


@pytest.fixture(scope="session")
def new_model(make_model: Callable[..., Model]) -> Callable[..., Model]:
    """A small model with dropout, the same each time."""

    def make(**shape: float) -> Model:
        sizes = {"n_genes": 30, "n_layers": 1, "dropout": 0.1, "attention_dropout": 0.1}
        model = make_model(v2=True, **{**sizes, **shape})
        # As of one file, so that a run goes on with another of them: its weights are its own.
        return replace(model, weights_sha256="of a file")

    return make


@pytest.fixture(scope="session")
def sentences() -> Sentences:
    """48 cells of two kinds that have no gene in common, each in its own order."""
    rng = np.random.default_rng(0)
    parts = []
    for i in range(48):
        genes = np.arange(4, 19) if i % 2 else np.arange(33, 18, -1)
        start = rng.integers(0, 5)
        parts.append([2, *genes[start : start + rng.integers(8, 11)].tolist(), 3])
    ends = np.cumsum([0, *map(len, parts)])
    return Sentences(np.concatenate(parts).astype(np.int32), ends)


@pytest.fixture(scope="session")
def train(quick: Recipe, sentences: Sentences) -> Callable[..., Fitted]:
    """Pretrain on the cells: ``train(model, folder, recipe fields and options of fit...)``."""

    def call(model: Model, folder: Path, data: Sentences = sentences, **options) -> Fitted:
        fields = {name for name in Recipe.__dataclass_fields__ if name in options}
        recipe = replace(quick, **{name: options.pop(name) for name in fields})
        objective = options.pop("objective", MaskedTokens(model.vocabulary, share=0.3))
        return fit(
            model, objective, data, folder=folder, recipe=recipe, accelerator="cpu", **options
        )

    return call


class _Seen(pl.Callback):
    """Every step's loss, rate and rows, every batch's rows."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.rates: list[float] = []
        self.batches: list[tuple[int, list[int]]] = []

    def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
        self.batches.append((trainer.current_epoch, batch.rows.tolist() if batch.weight else []))

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        self.losses.append(float(outputs["loss"]))

    def on_before_zero_grad(self, trainer, module, optimizer) -> None:
        self.rates.append(optimizer.param_groups[0]["lr"])


@pytest.fixture
def watch() -> Callable[[], _Seen]:
    """Make a callback that writes down losses, rates and rows."""
    return _Seen


class Down(Exception):
    """What breaks a run off."""


class _Interrupt(pl.Callback):
    def __init__(self, epoch: int, batch: int) -> None:
        self.at = (epoch, batch)

    def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
        if (trainer.current_epoch, batch_idx) == self.at:
            raise Down


@pytest.fixture
def interrupted(train: Callable[..., Fitted]) -> Callable[..., None]:
    """Break a run off before a batch of an epoch, as a machine that goes down would."""

    def call(model: Model, folder: Path, at: tuple[int, int], **options) -> None:
        callbacks = [*options.pop("callbacks", []), _Interrupt(*at)]
        with pytest.raises(Down):
            train(model, folder, callbacks=callbacks, **options)

    return call


@pytest.fixture(scope="session")
def assert_equal() -> Callable[[Model, Model], None]:
    """Assert that two models have the same weights, bit for bit."""

    def check(one: Model, other: Model) -> None:
        theirs = other.network.state_dict()
        for name, tensor in one.network.state_dict().items():
            assert torch.equal(tensor, theirs[name]), name

    return check
