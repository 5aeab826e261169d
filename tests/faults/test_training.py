"""Training that meets interruptions, other data, bad numbers and dying processes: 99, 101-109."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch

import glm
from glm.train import Fitted, MaskedTokens, Sentences
from glm.train.checkpoints import read
from glm.train.data import TrainingData
from glm.train.loading import Batches
from glm.train.trainers import _check_launch

pytestmark = pytest.mark.faults
SCRIPT = Path(__file__).parents[1] / "train" / "two_processes.py"


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with glm.settings.override(progress=False):
        yield


@pytest.fixture(scope="module")
def small(make_model):
    return make_model(v2=True, n_genes=30, n_layers=1, dropout=0.1, attention_dropout=0.1)


@pytest.fixture(scope="module")
def cells(small) -> Sentences:
    """Forty cells of 10 to 20 genes."""
    rng = np.random.default_rng(0)
    parts = [
        [2, *rng.permutation(small.vocabulary.tokens)[: rng.integers(10, 21)], 3] for _ in range(40)
    ]
    return Sentences(np.concatenate(parts).astype(np.int32), np.cumsum([0, *map(len, parts)]))


@pytest.fixture(scope="module")
def recipe():
    return glm.train.Recipe(learning_rate=5e-3, warmup=1, max_epochs=2, tokens_per_batch=150)


@pytest.fixture
def train(small, cells, recipe) -> Callable[..., Fitted]:
    def call(folder: Path, **options) -> Fitted:
        chosen = {
            "model": small,
            "objective": MaskedTokens(small.vocabulary, share=0.3),
            "data": cells,
            "recipe": recipe,
            "accelerator": "cpu",
            "log_every_n_steps": 1,
        }
        return glm.train.fit(folder=folder, **{**chosen, **options})

    return call


def _same(one: Fitted, other: Fitted) -> None:
    theirs = other.model.network.state_dict()
    for name, tensor in one.model.network.state_dict().items():
        assert torch.equal(tensor, theirs[name]), name
    pd.testing.assert_frame_equal(one.history, other.history, check_exact=True)


def _script(case: str, n_processes: int, folder: Path) -> tuple[int, str]:
    """Run the script in a group of processes that is ended with it."""
    source = str(Path(glm.__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), case, str(n_processes), str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": source},
    )
    try:
        _, errors = process.communicate(timeout=240)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        pytest.fail("the processes hung")
    return process.returncode, errors


# ---- 99, 101: several processes ----------------------------------------------------------------


def test_99_fewer_rows_than_processes(tmp_path):
    """One row for two processes: it counts once an epoch, and nobody waits."""
    code, errors = _script("few", 2, tmp_path / "run")
    assert code == 0, errors
    notes = [json.loads((tmp_path / f"run-{rank}.json").read_text()) for rank in range(2)]
    assert [note["rows"] for note in notes] == [[[0, [0]], [1, [0]]], [[0, []], [1, []]]]
    history = pd.read_csv(tmp_path / "run-history.csv")
    assert history["train_loss"].notna().sum() == 2


@pytest.mark.parametrize("n_rows", [1, 2, 5, 40])
@pytest.mark.parametrize("n_processes", [1, 2, 3, 64])
def test_99_each_row_once(small, cells, recipe, n_rows, n_processes):
    some = cells.subset(np.arange(n_rows))
    data = TrainingData(some, MaskedTokens(small.vocabulary), recipe)
    found, n_batches = [], set()
    for rank in range(n_processes):
        batches = Batches(
            data.train_dataloader()._make, data._cut(some, 0), part=(rank, n_processes)
        )
        found += [row for batch in batches if batch.weight for row in batch.rows.tolist()]
        n_batches.add(len(list(batches)))
    assert sorted(found) == list(range(n_rows))
    assert len(n_batches) == 1


def test_101_spawned_processes(tmp_path):
    code, errors = _script("spawn", 2, tmp_path / "run")
    assert code == 0, errors
    history = pd.read_csv(tmp_path / "run-history.csv")
    assert history["held_out_loss"].notna().sum() == 2


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_101_a_notebook_after_cuda(monkeypatch, method):
    """Processes that were forked now would fail one by one: a prompt error says why."""
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    launcher = SimpleNamespace(_start_method=method)
    strategy = SimpleNamespace(launcher=launcher, root_device=torch.device("cuda"))
    with (
        pytest.raises(RuntimeError, match="Restart its kernel")
        if method == "fork"
        else nullcontext()
    ):
        _check_launch(SimpleNamespace(strategy=strategy, world_size=2))


def test_101_no_such_strategy(train, refuses, tmp_path):
    refuses(lambda: train(tmp_path / "run", strategy="none"), None, ValueError, "none")
    refuses(lambda: train(tmp_path / "run", devicess=2), None, ValueError, "devicess")


# ---- 102, 103: seeds and settings --------------------------------------------------------------


def test_102_workers_draw_for_themselves(small, cells, recipe):
    """Each batch has draws of its own, whoever makes it, and whatever numpy's seed is."""
    alike = cells.subset(np.zeros(24, int))  # one cell, many times
    few = dataclasses.replace(recipe, tokens_per_batch=None, rows_per_batch=2)
    drawn = []
    for workers in (0, 1, 2):
        np.random.seed(workers)  # noqa: NPY002 - the global one is meant
        objective = MaskedTokens(small.vocabulary, share=0.5)
        data = TrainingData(alike, objective, few, workers=workers)
        drawn.append([tuple(batch.positions.tolist()) for batch in data.train_dataloader()])
    assert drawn[0] == drawn[1] == drawn[2]
    assert len(set(drawn[0])) == 12


@pytest.mark.parametrize("workers", [0, 2])
def test_103_everything_is_put_back(train, refuses, tmp_path_factory, workers):
    """Also what Lightning's own options switch."""
    folder = tmp_path_factory.mktemp("run")

    def to_the_end() -> None:
        train(folder, workers=workers, deterministic="warn", benchmark=True)
        raise RuntimeError("trained to the end")  # so that `refuses` looks at what it left

    refuses(to_the_end, None, RuntimeError, "trained to the end")


# ---- 104: told to stop -------------------------------------------------------------------------


class _Tell(pl.Callback):
    """Sends a signal in the middle of a step."""

    def __init__(self, number: int, step: int) -> None:
        self.number, self.step = number, step

    def on_after_backward(self, trainer, module) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("step", [0, 3, 6, 11])
def test_104_ctrl_c(train, tmp_path, step):
    """The step is made, the state saved, and KeyboardInterrupt raised; the rest follows later."""
    whole = train(tmp_path / "whole")
    n_steps = whole.history["step"].max() + 1
    assert n_steps > 11
    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", callbacks=[_Tell(signal.SIGINT, step)])
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert read(tmp_path / "cut" / "last.ckpt")["global_step"] == step + 1
    _same(train(tmp_path / "cut"), whole)


def test_104_sigterm_with_a_handler_of_the_caller(train, tmp_path):
    """It is called, after the state was saved."""
    seen = []

    def handler(number, frame):
        seen.append((number, read(tmp_path / "cut" / "last.ckpt")["global_step"]))

    before = signal.signal(signal.SIGTERM, handler)
    try:
        with pytest.raises(SystemExit) as raised:
            train(tmp_path / "cut", callbacks=[_Tell(signal.SIGTERM, 4)])
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)
    assert raised.value.code == 128 + signal.SIGTERM
    assert seen == [(signal.SIGTERM, 5)]
    _same(train(tmp_path / "cut"), train(tmp_path / "whole"))


def test_104_a_second_ctrl_c_does_not_wait(train, tmp_path):
    class Twice(pl.Callback):
        reached = False

        def on_after_backward(self, trainer, module) -> None:
            if trainer.global_step == 2:
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGINT)
                self.reached = True

    twice = Twice()
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, callbacks=[twice])
    assert not twice.reached
    assert signal.getsignal(signal.SIGINT) is handler


def test_104_sigterm_ends_the_process(tmp_path):
    """As it would have, once the state is saved."""
    code, errors = _script("stop", 1, tmp_path / "run")
    assert code == -signal.SIGTERM, errors
    assert read(tmp_path / "run" / "last.ckpt")["global_step"] == 3
    code, errors = _script("plain", 1, tmp_path / "run")
    assert code == 0, errors


# ---- 105, 106, 107: going on -------------------------------------------------------------------


def test_105_killed_in_a_checkpoint(tmp_path):
    """kill -9 halfway through the third: the second is whole, and the run ends as another."""
    code, errors = _script("kill", 1, tmp_path / "run")
    assert code == -signal.SIGKILL, errors
    left = list((tmp_path / "run").glob(".*.tmp"))
    assert len(left) == 1
    before = read(tmp_path / "run" / "last.ckpt")["global_step"]
    assert 0 < before < 8
    for folder in ("run", "whole"):
        code, errors = _script("plain", 1, tmp_path / folder)
        assert code == 0, errors
    assert list((tmp_path / "run").glob(".*.tmp")) == []
    weights = [
        torch.load(tmp_path / f"{folder}-weights.pt", weights_only=True)
        for folder in ("run", "whole")
    ]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


class _Down(pl.Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
        if trainer.global_step == self.step:
            raise OSError("the machine is gone")


@pytest.mark.parametrize("step", [1, 4, 7, 10])
def test_106_resumed_in_the_middle_of_an_epoch(train, cells, tmp_path, step):
    """Every loss, on cells held out too, bit for bit."""
    whole = train(tmp_path / "whole", held_out=cells)
    options = {"held_out": cells, "save_every_steps": 1}
    with pytest.raises(OSError, match="gone"):
        train(tmp_path / "cut", callbacks=[_Down(step)], **options)
    assert read(tmp_path / "cut" / "last.ckpt")["global_step"] == step
    _same(train(tmp_path / "cut", **options), whole)


@pytest.mark.parametrize(
    ("name", "patterns"),
    [
        ("data", ("another data", "Give another folder")),
        ("recipe", (r"recipe\.learning_rate \(0\.005 there, 0\.1 here\)",)),
        ("objective", (r"objective\.share \(0\.3 there, 0\.15 here\)",)),
        ("frozen_layers", (r"frozen_layers \(0 there, 1 here\)",)),
    ],
)
def test_107_other_data_or_configuration(
    train, small, cells, recipe, refuses, tmp_path, name, patterns
):
    train(tmp_path / "run")
    other = {
        "data": cells.subset(np.arange(39)),
        "recipe": dataclasses.replace(recipe, learning_rate=0.1),
        "objective": MaskedTokens(small.vocabulary),
        "frozen_layers": 1,
    }
    refuses(
        lambda: train(tmp_path / "run", **{name: other[name]}),
        None,
        ValueError,
        "holds a run with another",
        *patterns,
    )


def test_107_one_value_in_a_million(train, cells, tmp_path):
    train(tmp_path)
    tokens = cells.tokens.copy()
    tokens[-2] = tokens[-3]
    with pytest.raises(ValueError, match="another data"):
        train(tmp_path, data=Sentences(tokens, cells.offsets))


# ---- 108: no number ----------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _NanAt(MaskedTokens):
    """The loss of one cell is not a number, from some step on."""

    row: int = 0
    what: str = "nan"

    def loss(self, outputs, batch):
        loss = super().loss(outputs, batch)
        if self.row not in batch.rows or not outputs.requires_grad:
            return loss
        if self.what == "gradient":
            return loss + (outputs.sum() * 0).clamp(min=0).sqrt()  # 0, with an infinite slope
        return loss * float(self.what)


@pytest.mark.parametrize("what", ["nan", "inf", "gradient"])
def test_108_a_loss_that_is_no_number(train, small, cells, recipe, tmp_path, what):
    """It stops before the step, the best weights and the last state stay, the cells are named."""
    good = train(tmp_path / "good", held_out=cells).history

    class SecondEpoch(pl.Callback):
        def on_train_epoch_start(self, trainer, module) -> None:
            if trainer.current_epoch == 1:
                module.objective = _NanAt(small.vocabulary, share=0.3, row=17, what=what)

    with pytest.raises(RuntimeError) as error:
        train(tmp_path / "bad", held_out=cells, callbacks=[SecondEpoch()])
    message = str(error.value)
    for pattern in ("epoch 2", "for the batch of sentences", "best.ckpt and last.ckpt", "lower"):
        assert pattern in message
    data = TrainingData(cells, MaskedTokens(small.vocabulary), recipe)
    (batch,) = (chosen for chosen in data._cut(cells, 1) if 17 in chosen)
    assert str(batch[0]) in message
    kept = read(tmp_path / "bad" / "best.ckpt")
    assert all(t.isfinite().all() for t in kept["state_dict"].values())
    assert kept["epoch"] == 0
    # Without the bad numbers it goes on from what was kept, to the same end.
    again = train(tmp_path / "bad", held_out=cells)
    pd.testing.assert_frame_equal(again.history, good, check_exact=True)


def test_108_a_held_out_score_that_is_no_number(train, small, cells, tmp_path):
    class Bad(MaskedTokens):
        def loss(self, outputs, batch):
            loss = super().loss(outputs, batch)
            return loss if outputs.requires_grad else loss * float("nan")

    with pytest.raises(RuntimeError, match="held_out_loss is nan in epoch 1"):
        train(tmp_path, objective=Bad(small.vocabulary, share=0.3), held_out=cells)


# ---- 109: workers ------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Deadly(MaskedTokens):
    """Making a batch of one cell ends the process, or fails."""

    row: int = 0
    killed: bool = True

    def batch(self, sentences, chosen, rng, *, training):
        if self.row in chosen:
            if self.killed:
                os.kill(os.getpid(), signal.SIGKILL)
            raise KeyError("no such gene")
        return super().batch(sentences, chosen, rng, training=training)


@pytest.mark.parametrize("killed", [True, False])
def test_109_a_dead_worker(train, small, cells, recipe, tmp_path, killed):
    objective = _Deadly(small.vocabulary, share=0.3, row=23, killed=killed)
    data = TrainingData(cells, objective, recipe)
    (batch,) = (chosen for chosen in data._cut(cells, 0) if 23 in chosen)
    start = time.monotonic()
    with pytest.raises(RuntimeError) as error:
        train(tmp_path / "run", objective=objective, workers=2)
    assert time.monotonic() - start < 60
    message = str(error.value)
    assert str(batch[0]) in message
    if killed:
        assert "did not arrive" in message
        assert "workers=0" in message
    else:
        assert "No batch could be made" in message
        assert "no such gene" in message


def test_109_a_batch_that_cannot_be_made_here(train, small, tmp_path):
    objective = _Deadly(small.vocabulary, share=0.3, row=23, killed=False)
    with pytest.raises(RuntimeError, match=r"No batch could be made of sentences .*no such gene"):
        train(tmp_path / "run", objective=objective)
