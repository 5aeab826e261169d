"""Faults while training on tracks: rows 99, 102, 103, 105-109 of the catalogue; and of folds."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from anndata import AnnData

import glm
from glm.models.enformer_config import EnformerConfig
from glm.train import Fitted, Recipe, TrackPoisson, TrackWindows
from glm.train.checkpoints import read
from glm.train.track_data import TrackData

pytestmark = pytest.mark.faults
SCRIPT = Path(__file__).parents[1] / "train" / "two_processes_tracks.py"
SHAPE = EnformerConfig(channels=24, depth=1, n_heads=2, key_size=8, channel_step=4, dropout=0.1)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with glm.settings.override(progress=False):
        yield


@pytest.fixture(scope="module")
def windows(make_track_windows) -> list[TrackWindows]:
    sizes = {"window_bp": 2_048, "n_tracks": 3}
    return [make_track_windows(5, **sizes), make_track_windows(3, head="mouse", seed=1, **sizes)]


@pytest.fixture(scope="module")
def unseen(make_track_windows) -> TrackWindows:
    return make_track_windows(3, window_bp=2_048, n_tracks=3, seed=2)


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return Recipe(2e-3, warmup=1, max_epochs=2, schedule="constant", rows_per_batch=1)


@pytest.fixture
def train(windows, recipe) -> Callable[..., Fitted]:
    def call(folder: Path, **options) -> Fitted:
        chosen = {
            "model": SHAPE,
            "windows": windows,
            "recipe": recipe,
            "accelerator": "cpu",
            "log_every_n_steps": 1,
        }
        return glm.train.fit_tracks(folder=folder, **{**chosen, **options})

    return call


def _same(one: Fitted, other: Fitted) -> None:
    theirs = other.model.network.state_dict()
    for name, tensor in one.model.network.state_dict().items():
        assert torch.equal(tensor, theirs[name]), name
    pd.testing.assert_frame_equal(one.history, other.history, check_exact=True)


def _script(case: str, n_processes: int, folder: Path) -> tuple[int, str]:
    """Run the script in a group of processes that is ended with it."""
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), case, str(n_processes), str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": str(Path(glm.__file__).parents[1])},
    )
    try:
        _, errors = process.communicate(timeout=240)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        pytest.fail("the processes hung")
    return process.returncode, errors


# ---- 48, 66: whose folds ------------------------------------------------------------------------

FOLDS = pd.DataFrame({"chrom": ["1"], "start": [100], "end": [200], "fold": ["train"]})


def _peaks(**columns) -> AnnData:
    var = pd.DataFrame(columns, index=["chr1:150-160", "chr1:300-310"])
    return AnnData(np.ones((2, 2), np.float32), var=var)


def test_47_names_with_and_without_chr():
    data = _peaks()
    glm.pp.flag_folds(data, FOLDS)
    assert data.var["fold"].to_list() == ["train", ""]


def test_47_no_chromosome_in_common(refuses):
    other = FOLDS.assign(chrom="II")
    patterns = ("'chr1'", "'II'", "in common")
    refuses(glm.pp.flag_folds, _peaks(), ValueError, *patterns, folds=other)


def test_48_chromosomes_of_a_bed_file_are_names(tmp_path):
    path = tmp_path / "folds.bed"
    path.write_text("1\t100\t200\ttrain\n2\t0\t50\ttest\n")
    data = _peaks()
    glm.pp.flag_folds(data, path)
    assert data.var["fold"].to_list() == ["train", ""]


@pytest.mark.parametrize("way", ["column", "argument"])
def test_66_folds_of_another_genome(refuses, way):
    data = _peaks(genome=["hg19", "hg19"])
    folds = FOLDS.assign(genome="hg38") if way == "column" else FOLDS
    options = {} if way == "column" else {"genome": "hg38"}
    refuses(glm.pp.flag_folds, data, ValueError, "'hg38'", "'hg19'", folds=folds, **options)


# ---- 99: several processes -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """The folder of the script's run in one process, to its end."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    code, errors = _script("plain", 1, folder)
    assert code == 0, errors
    return folder


def test_99_two_processes_make_the_steps_of_one(alone, tmp_path):
    """Two organisms, heads that a step does not use, and a window more for one of the two."""
    code, errors = _script("plain", 2, tmp_path / "two")
    assert code == 0, errors
    one, two = (pd.read_csv(f"{run}-history.csv") for run in (alone, tmp_path / "two"))
    np.testing.assert_allclose(two["train_loss"], one["train_loss"], rtol=1e-4)
    # The norms' statistics are those of one process, so what is measured differs by these.
    assert two["held_out_pearson"].notna().sum() == 2
    np.testing.assert_allclose(two["held_out_loss"], one["held_out_loss"], rtol=0.1)


# ---- 102, 103: seeds and settings --------------------------------------------------------------


def test_102_workers_draw_for_themselves(windows, recipe):
    """Each batch has moves and strands of its own, whoever makes it, whatever the seeds are."""
    alike = windows[0].subset(np.zeros(24, int))  # one window, many times
    drawn = []
    for workers in (0, 1, 2):
        np.random.seed(workers)  # noqa: NPY002 - the global one is meant
        torch.manual_seed(workers)
        data = TrackData({"human": alike}, TrackPoisson(), recipe, held_out={}, workers=workers)
        drawn.append([batch.codes.numpy().tobytes() for batch in data.train_dataloader()])
    assert drawn[0] == drawn[1] == drawn[2]
    assert len(set(drawn[0])) > 8  # of 14 ways


def test_102_epochs_differ(windows, recipe):
    data = TrackData({"human": windows[0]}, TrackPoisson(), recipe, held_out={})
    made = [
        {part.rows[0]: epoch.make(part).codes.numpy().tobytes() for part in epoch.parts}
        for epoch in (data.training(0), data.training(1))
    ]
    assert made[0].keys() == made[1].keys()
    assert made[0] != made[1]


@pytest.mark.parametrize("workers", [0, 2])
def test_103_everything_is_put_back(train, refuses, tmp_path_factory, workers):
    folder = tmp_path_factory.mktemp("run")

    def to_the_end() -> None:
        train(folder, workers=workers, deterministic="warn", benchmark=True)
        raise RuntimeError("trained to the end")  # so that `refuses` looks at what it left

    refuses(to_the_end, None, RuntimeError, "trained to the end")


def test_103_the_model_given_stays_as_it_was(train, track_model, make_track_windows, tmp_path):
    """Also its mode, and whether its weights take gradients."""
    before = {name: t.clone() for name, t in track_model.network.state_dict().items()}
    train(tmp_path, model=track_model, windows=make_track_windows(2), checkpoint_activations=True)
    network = track_model.network
    assert all(torch.equal(t, before[name]) for name, t in network.state_dict().items())
    assert not network.training
    assert not network.recompute
    assert not next(network.parameters()).requires_grad


# ---- 104-107: going on --------------------------------------------------------------------------


class _Tell(pl.Callback):
    """Sends a signal in the middle of a step."""

    def on_after_backward(self, trainer, module) -> None:
        if trainer.global_step == 4:
            os.kill(os.getpid(), signal.SIGINT)


def test_104_ctrl_c(train, tmp_path):
    whole = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", callbacks=[_Tell()])
    assert read(tmp_path / "cut" / "last.ckpt")["global_step"] == 5
    _same(train(tmp_path / "cut"), whole)


def test_105_killed_in_a_checkpoint(alone, tmp_path):
    """kill -9 halfway through the third: the second is whole, and the run ends as another."""
    code, errors = _script("kill", 1, tmp_path / "run")
    assert code == -signal.SIGKILL, errors
    assert len(list((tmp_path / "run").glob(".*.tmp"))) == 1
    assert read(tmp_path / "run" / "last.ckpt")["global_step"] > 0
    code, errors = _script("plain", 1, tmp_path / "run")
    assert code == 0, errors
    assert list((tmp_path / "run").glob(".*.tmp")) == []
    run, whole = (
        torch.load(f"{folder}-weights.pt", weights_only=True)
        for folder in (tmp_path / "run", alone)
    )
    assert all(torch.equal(tensor, whole[name]) for name, tensor in run.items())


class _Down(pl.Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
        if trainer.global_step == self.step:
            raise OSError("the machine is gone")


@pytest.mark.parametrize("step", [1, 9, 10, 13])
def test_106_resumed_in_the_middle_of_an_epoch(train, unseen, tmp_path, step):
    """Every loss, every correlation and the norms' statistics, bit for bit."""
    options = {"held_out": unseen, "save_every_steps": 1}
    whole = train(tmp_path / "whole", **options)
    with pytest.raises(OSError, match="gone"):
        train(tmp_path / "cut", callbacks=[_Down(step)], **options)
    _same(train(tmp_path / "cut", **options), whole)


def _other(windows: list[TrackWindows], recipe: Recipe) -> dict[str, tuple[dict, str]]:
    human, mouse = windows
    targets = human.targets.copy()
    targets[-1, -1, -1] += 1e-6
    changed = dataclasses.replace(human, targets=targets)
    wider = dataclasses.replace(SHAPE, depth=2)
    return {
        "one target of a million": ({"windows": [changed, mouse]}, r"another data\.human"),
        "an organism less": ({"windows": human}, r"another data\.mouse"),
        "recipe": (
            {"recipe": dataclasses.replace(recipe, learning_rate=0.1)},
            r"recipe\.learning_rate \(0\.002 there, 0\.1 here\)",
        ),
        "moves": ({"objective": TrackPoisson(shift_bp=1)}, r"objective\.shift_bp \(3 there, 1"),
        "shape": ({"model": wider}, r"shape\.depth \(1 there, 2 here\)"),
        "accumulated": ({"accumulate_grad_batches": 2}, r"trainer\.accumulate_grad_batches"),
    }


@pytest.fixture(scope="module")
def begun(windows, recipe, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    with glm.settings.override(progress=False):
        glm.train.fit_tracks(
            SHAPE, windows, folder=folder, recipe=recipe, accelerator="cpu", log_every_n_steps=1
        )
    return folder


@pytest.mark.parametrize(
    "what",
    ["one target of a million", "an organism less", "recipe", "moves", "shape", "accumulated"],
)
def test_107_other_data_or_configuration(train, windows, recipe, begun, refuses, what):
    options, pattern = _other(windows, recipe)[what]
    refuses(
        lambda: train(begun, **options),
        None,
        ValueError,
        "holds a run with another",
        "Give another folder",
        pattern,
    )


def test_107_other_weights_to_begin_with(train, track_model, make_track_windows, tmp_path):
    some = make_track_windows(2)
    train(tmp_path, model=track_model, windows=some)
    with pytest.raises(ValueError, match="another weights"):
        train(tmp_path, model=SHAPE, windows=some)


# ---- 108: no number ----------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _NanAt(TrackPoisson):
    """The loss of one window is not a number."""

    row: int = 0
    what: str = "nan"

    def loss(self, outputs, batch):
        loss = super().loss(outputs, batch)
        if batch.head != "mouse" or self.row not in batch.rows or not outputs.requires_grad:
            return loss
        if self.what == "gradient":
            return loss + (outputs.sum() * 0).clamp(min=0).sqrt()  # 0, with an infinite slope
        return loss * float(self.what)


@pytest.mark.parametrize("what", ["nan", "inf", "gradient"])
def test_108_a_loss_that_is_no_number(train, unseen, tmp_path, what):
    """It stops before the step; the best weights and the last state stay; the window is named."""
    good = train(tmp_path / "good", held_out=unseen)

    class SecondEpoch(pl.Callback):
        def on_train_epoch_start(self, trainer, module) -> None:
            if trainer.current_epoch == 1:
                module.objective = _NanAt(row=2, what=what)

    with pytest.raises(RuntimeError) as error:
        train(tmp_path / "bad", held_out=unseen, callbacks=[SecondEpoch()])
    for text in ("epoch 2", "the batch of mouse windows 2", "best.ckpt and last.ckpt", "lower"):
        assert text in str(error.value)
    kept = read(tmp_path / "bad" / "best.ckpt")
    assert kept["epoch"] == 0
    assert all(t.isfinite().all() for t in kept["state_dict"].values())
    _same(train(tmp_path / "bad", held_out=unseen), good)


def test_108_nothing_to_correlate_with(train, unseen, tmp_path):
    """Held-out tracks that are all flat have no correlation to choose by."""
    flat = dataclasses.replace(unseen, targets=np.ones_like(unseen.targets))
    with pytest.raises(ValueError, match="choose_by='loss'"):
        train(tmp_path, held_out=flat)
    fitted = train(tmp_path, held_out=flat, objective=TrackPoisson(choose_by="loss"))
    assert fitted.history["held_out_tracks_without_pearson"].dropna().eq(3).all()


@pytest.mark.parametrize(
    ("value", "message"), [(-1.0, "below zero"), (np.inf, "1 infinite")], ids=["negative", "inf"]
)
def test_108_targets_that_are_no_amounts(train, windows, refuses, tmp_path, value, message):
    targets = windows[0].targets.copy()
    targets[2, 3, 1] = value
    bad = dataclasses.replace(windows[0], targets=targets)
    refuses(
        lambda: train(tmp_path / "run", windows=bad), None, ValueError, message, "targets of human"
    )


def test_108_targets_that_are_not_known_are_left_out(train, windows, tmp_path):
    """A window without any, too: its step moves nothing but is no error."""
    targets = windows[0].targets.copy()
    targets[0] = np.nan
    targets[1, ::2] = np.nan
    some = dataclasses.replace(windows[0], targets=targets)
    fitted = train(tmp_path, windows=some)
    assert all(t.isfinite().all() for t in fitted.model.network.state_dict().values())


# ---- 109: workers ------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Deadly(TrackPoisson):
    """Making a batch of one window ends the process, or fails."""

    killed: bool = True

    def batch(self, windows, rows, rng, *, training):
        if windows.head == "mouse" and 2 in rows:
            if self.killed:
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError("the genome is gone")
        return super().batch(windows, rows, rng, training=training)


@pytest.mark.parametrize("killed", [True, False])
def test_109_a_dead_worker(train, tmp_path, killed):
    start = time.monotonic()
    with pytest.raises(RuntimeError) as error:
        train(tmp_path / "run", objective=_Deadly(killed=killed), workers=2)
    assert time.monotonic() - start < 60
    texts = (
        ("mouse windows 2", "did not arrive", "workers=0")
        if killed
        else ("No batch could be made of mouse windows 2", "the genome is gone")
    )
    for text in texts:
        assert text in str(error.value)
