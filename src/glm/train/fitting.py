"""Train a model for an objective on sentences, resumable at every step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from .._messages import warn
from .._run_log import read_history
from .._settings import logger
from ..models.bundle import Model
from ..models.config import Head
from ..models.weights import Network
from . import freeze, lora
from .checkpoints import BEST, LAST, Keeper, Stopped, clear_leftovers, read, weights_in
from .data import TrainingData
from .guard import Interruptions, left_as_it_was
from .module import NotFinite, Training, warmup_steps
from .networks import network_for
from .objectives import Objective
from .recipes import Recipe
from .recipes import recipe as authors_recipe
from .runs import check, facts_of, hold_to, measured_last, plain
from .sentences import Sentences
from .trainers import make_trainer, total_steps

# What becomes of an error in a process that this one started.
_CHILDREN = (ProcessExitedException, ProcessRaisedException)


@dataclass(frozen=True, eq=False)
class Fitted:
    """A trained model and how it got there.

    Attributes
    ----------
    model
        The model, on the CPU, in evaluation mode.
    history
        What was logged, one row a measurement: ``epoch``, ``step``, ``train_loss``,
        ``held_out_loss`` and the objective's scores; NaN where something was not measured.
    best_epoch
        Epoch (from 0) of the best held-out score; ``None`` without held-out sentences.
    folder
        Where checkpoints and log are.
    """

    model: Model
    history: pd.DataFrame
    best_epoch: int | None
    folder: Path


def fit(
    model: Model,
    objective: Objective,
    data: Sentences,
    *,
    folder: Path | str,
    recipe: Recipe | None = None,
    held_out: Sentences | None = None,
    each_epoch: Callable[[int], Sentences] | None = None,
    adapt: lora.LoRA | None = None,
    frozen_layers: int = 0,
    checkpoint_activations: bool = False,
    patience: int | None = None,
    keep: Literal["best", "last"] = "best",
    save_every_steps: int | None = None,
    save_every_minutes: float | None = 10,
    workers: int = 0,
    **trainer_options: Any,
) -> Fitted:
    """Train a model for an objective; called again with the same ``folder``, go on where it was.

    Sentences come in batches of similar lengths. A step's gradient is that of the mean over all
    targets of its batches, whatever the number of devices or of batches accumulated. Order, masks
    and dropout depend on seed, epoch and batch alone, so a run that was stopped anywhere and
    goes on is, on one device, the uninterrupted one bit for bit.

    Parameters
    ----------
    model
        The model to start from. It is not changed.
    objective
        What to train for, :class:`glm.train.MaskedTokens` for instance. A head that the model lacks
        is put on its encoder with random weights.
    data
        Sentences to train on, special tokens included.
    folder
        Where checkpoints and the log (CSV) are kept.
    recipe
        Optimiser, schedule, size of batches; ``None`` takes the authors' own
        (:func:`glm.train.recipe`).
    held_out
        Sentences on which loss and scores are measured after every epoch.
    each_epoch
        Called with the epoch's number for the sentences of that epoch (resampled counts, say).
    adapt
        Train low-rank additions to the weights instead of the weights; they are merged at the end.
    frozen_layers
        The embeddings and so many layers above them stay as they are; 0 for none.
    checkpoint_activations
        Compute activations twice instead of keeping them: less memory, about a third more time.
    patience
        End after so many measurements without a better one; ``None`` for never.
    keep
        The weights that are the result: those of the best epoch by ``objective.monitor`` (the last
        ones without ``held_out``), or the ``"last"`` ones.
    save_every_steps, save_every_minutes
        The state of the run is kept after so many steps or minutes, whichever comes first, at the
        end of every epoch, and when Ctrl-C or SIGTERM ask it to stop.
    workers
        Processes that make batches ahead; 0 makes them in this one, which is enough on a CPU.
    **trainer_options
        Anything that ``pytorch_lightning.Trainer`` takes: ``devices=``, ``num_nodes=``,
        ``strategy=``, ``precision=``, ``accumulate_grad_batches=``, ``logger=`` (in addition to the
        CSV), ... Under ``torchrun``, ``devices`` and ``num_nodes`` are those it was started with.
        ``strategy="fsdp"``, which cuts the weights into shards, is for CUDA GPUs only.

    Returns
    -------
    The trained model, its history and the best epoch. Random states, threads, torch's settings and
    logging are left as they were.

    Raises
    ------
    ValueError
        If sentences or targets do not fit model, objective and recipe, or the folder holds a run of
        other data or another configuration.
    RuntimeError
        If a loss or gradient is not a number (the step is not made, and what was kept stays), a
        batch cannot be made, or another process fails.
    KeyboardInterrupt, SystemExit
        On Ctrl-C and SIGTERM, after the step that was under way and a checkpoint.

    Examples
    --------
    >>> import glm, numpy as np, tempfile
    >>> from dataclasses import replace
    >>> model = glm.models.load("geneformer-tiny")
    >>> cells = glm.train.Sentences(np.tile(model.vocabulary.tokens[:20], 4), np.arange(0, 81, 20))
    >>> quick = replace(glm.train.recipe("geneformer-tiny"), max_epochs=1, warmup=0)
    >>> objective = glm.train.MaskedTokens(model.vocabulary)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     fitted = glm.train.fit(model, objective, cells, recipe=quick, folder=folder)
    >>> fitted.model.spec.name
    'geneformer-tiny'
    """
    chosen = recipe or authors_recipe(model.spec.system, _kind(objective, model.spec.system))
    if keep not in ("best", "last"):
        raise ValueError(f"keep is {keep!r}; expected 'best' or 'last'.")
    check(model, objective, chosen, data, held_out, patience)
    folder = Path(folder)
    training = TrainingData(
        data, objective, chosen, held_out=held_out, each_epoch=each_epoch, workers=workers
    )
    keeper = Keeper(
        folder,
        objective.monitor,
        patience=patience,
        steps=save_every_steps,
        minutes=save_every_minutes,
    )
    interruptions = Interruptions()
    with left_as_it_was():
        torch.manual_seed(chosen.seed)
        trainer = make_trainer(folder, chosen, [interruptions, keeper], trainer_options)
        if adapt is not None:
            _refuse_spawning(trainer)
        network = _prepared(
            network_for(model, objective), adapt, frozen_layers, checkpoint_activations
        )
        facts = facts_of(model, objective, chosen, training, trainer)
        facts |= {"adapt": adapt, "frozen_layers": frozen_layers}
        hold_to(folder, facts, write=trainer.is_global_zero)
        if trainer.is_global_zero:
            clear_leftovers(folder)
        module = Training(network, objective, chosen, total_steps(trainer, training.n_batches))
        _warn_of_a_long_warmup(chosen, module.total_steps)
        module.train()  # Lightning keeps the mode it finds: that of evaluation in a loaded model
        _run(trainer, module, training, folder, interruptions)
    interruptions.pass_on()
    told = {name: plain(facts[name]) for name in ("recipe", "objective", "adapt", "frozen_layers")}
    return _fitted(model, objective, network, adapt, folder, keep, told)


def _kind(objective: Objective, system: str) -> str:
    if objective.n_outputs is None:
        return "pretrain"
    rows, tokens = ("cells", "genes") if system == "geneformer" else ("regions", "bases")
    return rows if objective.level == "row" else tokens


def _prepared(
    network: Network, adapt: lora.LoRA | None, frozen_layers: int, checkpoint_activations: bool
) -> Network:
    freeze.freeze_layers(network, frozen_layers)
    if adapt is not None:
        lora.apply(network, adapt)
    if checkpoint_activations:
        freeze.checkpoint_activations(network)
    return network


def _refuse_spawning(trainer: pl.Trainer) -> None:
    if getattr(trainer.strategy, "_start_method", None) == "spawn":
        raise ValueError(
            "A network with low-rank additions cannot be sent to processes that are spawned: pass "
            "strategy='ddp', or in a notebook strategy='ddp_notebook'."
        )


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
    training: TrainingData,
    folder: Path,
    interruptions: Interruptions,
) -> None:
    last = folder / LAST
    try:
        trainer.fit(
            module,
            datamodule=training,
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
            f"{error} {_what_is_kept(folder)} Look at those sentences, or lower the learning rate."
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
            f"The batch of {training.under_way()} did not arrive: {error} A worker that is killed "
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


def _fitted(
    model: Model,
    objective: Objective,
    network: Network,
    adapt: lora.LoRA | None,
    folder: Path,
    keep: str,
    facts: dict[str, Any],
) -> Fitted:
    """Take the result from the files: a run may have been in other processes, or ended before."""
    best = read(folder / BEST) if (folder / BEST).is_file() else None
    kept = best if best is not None and keep == "best" else read(folder / LAST)
    network.to("cpu").load_state_dict(weights_in(kept))
    if adapt is not None:
        lora.merge(network)
    spec = model.spec
    if objective.n_outputs is not None:
        head: Head = "cells" if objective.level == "row" else "genes"
        spec = dataclasses.replace(
            spec, head=head, labels=tuple(objective.labels), task=objective.task
        )
    freeze.checkpoint_activations(network, on=False)
    network = network.eval().requires_grad_(True)
    best_epoch = None if best is None else int(best["epoch"])
    history = read_history(folder)
    card = {"from": spec.name, **facts, "metrics": measured_last(history, int(kept["epoch"]))}
    trained = dataclasses.replace(
        model, spec=spec, network=network, weights_sha256="unsaved", card=card
    )
    logger.info("trained %s for %s steps", spec.name, kept["global_step"])
    return Fitted(trained, history, best_epoch, folder)
