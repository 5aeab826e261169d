"""Train a model for an objective on sentences, resumable at every step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, cast

import pandas as pd
import pytorch_lightning as pl

from .._run_log import read_history
from .._settings import logger
from ..models.bundle import Model
from ..models.config import Head
from ..models.track_model import TrackModel
from ..models.weights import Network
from . import freeze, lora
from .data import TrainingData
from .networks import network_for
from .objectives import Objective
from .recipes import Recipe
from .recipes import recipe as authors_recipe
from .running import Prepared, Saving, outcome, train_in
from .runs import check, facts_of, measured_last, plain
from .sentences import Sentences

M = TypeVar("M", Model, TrackModel)


@dataclass(frozen=True, eq=False)
class Fitted(Generic[M]):
    """A trained model and how it got there.

    Attributes
    ----------
    model
        The model, on the CPU, in evaluation mode.
    history
        What was logged, one row a measurement: ``epoch``, ``step``, ``train_loss``,
        ``held_out_loss`` and the objective's scores; NaN where something was not measured.
    best_epoch
        Epoch (from 0) of the best held-out score; ``None`` where none were held out.
    folder
        Where checkpoints and log are.
    """

    model: M
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
) -> Fitted[Model]:
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
    saving = Saving(patience, save_every_steps, save_every_minutes)
    saving.check(keep, held_out=held_out is not None)
    check(model, objective, chosen, data, held_out)
    folder = Path(folder)
    training = TrainingData(
        data, objective, chosen, held_out=held_out, each_epoch=each_epoch, workers=workers
    )

    def prepare(trainer: pl.Trainer) -> Prepared:
        if adapt is not None:
            _refuse_spawning(trainer)
        network = _prepared(
            network_for(model, objective), adapt, frozen_layers, checkpoint_activations
        )
        facts = facts_of(model, objective, chosen, training)
        return Prepared(network, facts | {"adapt": adapt, "frozen_layers": frozen_layers})

    made = train_in(
        folder, chosen, objective, training, prepare, saving=saving, options=trainer_options
    )
    facts, network = made.facts, cast(Network, made.network)
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


def _fitted(
    model: Model,
    objective: Objective,
    network: Network,
    adapt: lora.LoRA | None,
    folder: Path,
    keep: str,
    facts: dict[str, Any],
) -> Fitted[Model]:
    result = outcome(folder, keep)
    network.to("cpu").load_state_dict(result.weights)
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
    history = read_history(folder)
    card = {"from": spec.name, **facts, "metrics": measured_last(history, result.epoch)}
    trained = dataclasses.replace(
        model, spec=spec, network=network, weights_sha256="unsaved", card=card
    )
    logger.info("trained %s for %s steps", spec.name, result.step)
    return Fitted(trained, history, result.best_epoch, folder)
