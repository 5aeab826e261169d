"""Checkpoints of a run: whole or not there, kept often enough, and the best of them."""

from __future__ import annotations

import math
import pickle
import time
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from .._atomic import replacing
from .module import NotFinite

LAST, BEST = "last.ckpt", "best.ckpt"
_EVERY = 10  # steps after which several processes ask the first one for the time


class Stopped(Exception):
    """The run was asked to stop, and its state is saved."""


class AtomicCheckpoints(TorchCheckpointIO):
    """Files that are at every moment the old one or the new one, read without running code."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Write beside the path, flush to the disk, and take its place."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with replacing(Path(path)) as beside:
            torch.save(checkpoint, beside)

    def load_checkpoint(
        self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Read tensors and plain values, and refuse anything else."""
        return read(Path(path))


def read(path: Path) -> dict[str, Any]:
    """A checkpoint, on the CPU, without running code of it.

    Raises
    ------
    OSError
        If it is no checkpoint, or holds more than tensors and plain values.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise OSError(
            f"{path} cannot be read as a checkpoint ({str(error).splitlines()[0]}). It was written "
            "by another program, or changed since: remove it to train from the beginning."
        ) from error


def weights_in(checkpoint: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The network's weights in a checkpoint."""
    state = checkpoint["state_dict"]
    return {name.removeprefix("network."): tensor for name, tensor in state.items()}


def clear_leftovers(folder: Path) -> None:
    """Remove what a process that was killed had begun to write: as large as a checkpoint each."""
    for name in (LAST, BEST):
        for path in folder.glob(f".{name}.*.tmp"):
            path.unlink(missing_ok=True)


class Keeper(Checkpoint):
    """Keep the state of a run and its best weights, and end it when it gets no better.

    Parameters
    ----------
    folder
        Where ``last.ckpt`` (everything a run needs to go on) and ``best.ckpt`` (weights) are kept.
    monitor
        The value by which epochs are compared, and whether low or high is good.
    patience
        Measurements without a better one after which the run ends; ``None`` for never.
    steps, minutes
        The state is kept after so many steps or minutes, whichever comes first, at the end of each
        epoch, and when the run is asked to stop.
    """

    def __init__(
        self,
        folder: Path,
        monitor: tuple[str, Literal["min", "max"]],
        *,
        patience: int | None,
        steps: int | None,
        minutes: float | None,
    ) -> None:
        self.folder, self.patience = folder, patience
        self.name, self.direction = monitor
        self.steps, self.minutes = steps, minutes
        self.best: float | None = None
        self.n_worse = 0
        self._saved_at = time.monotonic()
        self._cut = False  # a limit on the time ends this call within an epoch
        self._put_off = False  # and within a step, which is finished first

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run compares with."""
        return {"best": self.best, "n_worse": self.n_worse}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on comparing where the run was stopped."""
        self.best, self.n_worse = state_dict["best"], state_dict["n_worse"]

    # ---- when -----------------------------------------------------------------------------------

    def on_fit_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._saved_at = time.monotonic()
        self._stop_if_no_better(trainer)  # where a run that ended so is asked for again

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        is_last, per_step = trainer.is_last_batch, trainer.accumulate_grad_batches
        within_step = not is_last and (batch_idx + 1) % per_step > 0
        self._put_off_stop(trainer, within_step=within_step)
        # Between the batches of a step there is no state to go on from, and after the last batch
        # of an epoch what is measured there is still to come.
        self._cut = trainer.should_stop and not is_last
        if within_step or is_last:
            return
        if module.stopping or self._cut or self._is_due(trainer):
            self._save(trainer, trainer.current_epoch, batch_idx + 1)

    def _put_off_stop(self, trainer: pl.Trainer, *, within_step: bool) -> None:
        """A limit on the time, or a callback, ends a call after a step and not within."""
        if within_step:
            self._put_off |= trainer.should_stop
            trainer.should_stop = False
        elif self._put_off:
            self._put_off, trainer.should_stop = False, True

    def on_train_batch_start(
        self, trainer: pl.Trainer, module: Any, batch: Any, batch_idx: int
    ) -> None:
        if module.stopping:  # saved, and the step logged
            raise Stopped

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        value = trainer.callback_metrics.get(self.name)
        # Where the rest of an epoch is left to the next call, that measures it.
        if value is not None and not trainer.sanity_checking and not self._cut:
            self._compare(trainer, float(value))

    def on_train_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:
        if not self._cut:
            self._save(trainer, trainer.current_epoch + 1, 0)
        if module.stopping:
            raise Stopped

    def _is_due(self, trainer: pl.Trainer) -> bool:
        if self.steps and trainer.global_step % self.steps == 0:
            return True
        if self.minutes is None or (trainer.world_size > 1 and trainer.global_step % _EVERY):
            return False
        due = time.monotonic() - self._saved_at >= 60 * self.minutes
        return bool(trainer.strategy.broadcast(due))

    # ---- what -----------------------------------------------------------------------------------

    def _compare(self, trainer: pl.Trainer, value: float) -> None:
        if math.isnan(value):
            raise NotFinite(f"{self.name} is {value} in epoch {trainer.current_epoch + 1}.")
        sign = 1 if self.direction == "max" else -1
        if self.best is None or sign * value > sign * self.best:
            self.best, self.n_worse = value, 0
            trainer.save_checkpoint(self.folder / BEST, weights_only=True)
        else:
            self.n_worse += 1
        self._stop_if_no_better(trainer)

    def _stop_if_no_better(self, trainer: pl.Trainer) -> None:
        if self.patience is not None and self.n_worse >= self.patience:
            trainer.should_stop = True

    def _save(self, trainer: pl.Trainer, epoch: int, batches: int) -> None:
        trainer.datamodule.done = (epoch, batches)  # type: ignore[attr-defined]
        trainer.save_checkpoint(self.folder / LAST)
        self._saved_at = time.monotonic()
