"""Run the trainer in a folder: go on from what is kept there, and say what became of errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch import nn
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from .._messages import warn
from .._settings import logger
from .checkpoints import BEST, LAST, Keeper, Stopped, clear_leftovers, read, weights_in
from .epochs import EpochData
from .guard import Interruptions, left_as_it_was
from .module import Learnt, Measure, NotFinite, Training, warmup_steps
from .recipes import Recipe
from .runs import hold_to, trainer_facts
from .trainers import make_trainer, total_steps

# What becomes of an error in a process that this one started.
_CHILDREN = (ProcessExitedException, ProcessRaisedException)


@dataclass(frozen=True)
class Prepared:
    """A network to train and everything that the numbers of the run depend on."""

    network: nn.Module
    facts: dict[str, Any]
    frozen: tuple[nn.Module, ...] = ()
    """Parts that stay in evaluation mode: norms keep their statistics, nothing is dropped."""


@dataclass(frozen=True)
class Saving:
    """When a run's state is kept, and when it ends early."""

    patience: int | None
    steps: int | None
    minutes: float | None

    def check(self, keep: str, *, held_out: bool) -> None:
        """Raise ``ValueError`` where there is nothing to choose by."""
        if keep not in ("best", "last"):
            raise ValueError(f"keep is {keep!r}; expected 'best' or 'last'.")
        if self.patience is not None and self.patience < 1:
            raise ValueError(
                f"patience is {self.patience}; expected at least 1, or None for no early stop."
            )
        if self.patience is not None and not held_out:
            raise ValueError("patience needs held_out: without it there is nothing to compare.")


def train_in(
    folder: Path,
    chosen: Recipe,
    objective: Learnt,
    data: EpochData,
    prepare: Callable[[pl.Trainer], Prepared],
    *,
    saving: Saving,
    measure: Measure | None = None,
    options: dict[str, Any],
) -> Prepared:
    """Train what ``prepare`` makes, under the recipe's seed, or go on where the folder is.

    The caller's process is left as it was. The results are in the folder: the network may have been
    trained in other processes.

    Raises
    ------
    As :func:`glm.train.fit`.
    """
    keeper = Keeper(
        folder,
        objective.monitor,
        patience=saving.patience,
        steps=saving.steps,
        minutes=saving.minutes,
    )
    interruptions = Interruptions()
    with left_as_it_was():
        torch.manual_seed(chosen.seed)
        trainer = make_trainer(folder, chosen, [interruptions, keeper], options)
        prepared = prepare(trainer)
        facts = {**prepared.facts, "trainer": trainer_facts(trainer)}
        hold_to(folder, facts, write=trainer.is_global_zero)
        if trainer.is_global_zero:
            clear_leftovers(folder)
        steps = total_steps(trainer, data.n_batches)
        module = Training(prepared.network, objective, chosen, steps, measure)
        _warn_of_a_long_warmup(chosen, module.total_steps)
        module.train()  # Lightning keeps the mode it finds: that of evaluation in a loaded model
        for part in prepared.frozen:
            part.eval()
        _run(trainer, module, data, folder, interruptions)
    interruptions.pass_on()
    return prepared


@dataclass(frozen=True)
class Outcome:
    """What a run left in its folder.

    Attributes
    ----------
    weights
        Those that are the result.
    epoch, step
        Epochs begun and steps made when they were kept.
    best_epoch
        From 0; ``None`` where nothing was measured.
    """

    weights: dict[str, torch.Tensor]
    epoch: int
    step: int
    best_epoch: int | None


def outcome(folder: Path, keep: str) -> Outcome:
    """Take the result from the files: a run may have been in other processes, or ended before."""
    best = read(folder / BEST) if (folder / BEST).is_file() else None
    kept = best if best is not None and keep == "best" else read(folder / LAST)
    best_epoch = None if best is None else int(best["epoch"])
    return Outcome(weights_in(kept), int(kept["epoch"]), int(kept["global_step"]), best_epoch)


def _warn_of_a_long_warmup(chosen: Recipe, total: int) -> None:
    steps = warmup_steps(chosen, total)
    if steps >= total:
        warn(
            f"The warm-up of {steps:,} steps is longer than the run of {total:,}, so the learning "
            f"rate never reaches {chosen.learning_rate:g}: shorten it with "
            "dataclasses.replace(recipe, warmup=0.1), which is a share of the run."
        )


def _run(
    trainer: pl.Trainer,
    module: Training,
    data: EpochData,
    folder: Path,
    interruptions: Interruptions,
) -> None:
    last = folder / LAST
    try:
        trainer.fit(
            module,
            datamodule=data,
            ckpt_path=last if last.is_file() else None,
            weights_only=True,
        )
    except Stopped:
        logger.info("stopped after step %s; %s has its state", trainer.global_step, last)
        if interruptions.told is None:
            raise RuntimeError(
                f"Another process of this run was told to stop. {_what_is_kept(folder)}"
            ) from None
    except NotFinite as error:
        raise RuntimeError(
            f"{error} {_what_is_kept(folder)} Look at what is in it, or lower the learning rate."
        ) from error
    except _CHILDREN as error:
        raise RuntimeError(
            f"A training process failed. {_what_is_kept(folder)}\n{error}"
        ) from error
    except MisconfigurationException as error:
        raise ValueError(f"Lightning cannot train so: {error}") from error
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise RuntimeError(
            f"The batch of {data.under_way()} did not arrive: {error} A worker that is killed "
            "is often one that ran out of memory; workers=0 makes batches in this process. "
            f"{_what_is_kept(folder)}"
        ) from error
    except SystemExit as error:  # what Lightning makes of a second Ctrl-C
        raise KeyboardInterrupt from error


def _what_is_kept(folder: Path) -> str:
    kept = [name for name in (BEST, LAST) if (folder / name).is_file()]
    if not kept:
        return f"Nothing was kept in {folder} before."
    return f"What was reached before is in {folder} ({' and '.join(kept)})."
