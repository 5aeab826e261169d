"""Pretrain on cells: sentences in, a trained model out, resumable at every epoch."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger

from .._settings import logger, settings
from ..models.bert import MaskedLM
from ..models.bundle import Model
from .data import SentenceData, Sentences
from .modules import MaskedTokens
from .recipes import Recipe, recipe


def pretrain_cells(
    model: Model,
    sentences: Sentences,
    recipe_: Recipe | None = None,
    *,
    folder: Path | str,
    held_out: Sentences | None = None,
    each_epoch: Callable[[int], Sentences] | None = None,
    **trainer_options: Any,
) -> Model:
    """Train a model on cells' sentences by masked-gene modelling :cite:p:`theodoris2023`.

    A checkpoint is written at the end of every epoch. Called again with the same ``folder``, the
    run goes on from it; order, masks and dropout depend on seed and epoch alone, so the result is
    that of an uninterrupted run.

    Parameters
    ----------
    model
        The model to start from; it is changed in place and returned.
    sentences
        Cells to train on (special tokens included).
    recipe_
        Optimiser, schedule, masking; ``None`` takes :func:`glm.train.recipe` of the model.
    folder
        Where checkpoints and the log (CSV) are kept.
    held_out
        Cells on which loss and accuracy are measured after every epoch.
    each_epoch
        Called with the epoch's number for the sentences of that epoch (resampled counts, say); they
        must be as many as ``sentences``.
    **trainer_options
        Anything that ``pytorch_lightning.Trainer`` takes: ``devices=``, ``strategy=``,
        ``accumulate_grad_batches=``, ...

    Returns
    -------
    The model, in evaluation mode. Torch's random state is left as it was.

    Raises
    ------
    ValueError
        If cells are too short to train on, tokens do not fit the model, or the folder holds a run
        with another recipe.

    Examples
    --------
    >>> import glm, numpy as np, tempfile
    >>> from dataclasses import replace
    >>> model = glm.models.load("geneformer-tiny")
    >>> cells = glm.train.Sentences(np.tile(model.vocabulary.tokens[:20], 4), np.arange(0, 81, 20))
    >>> quick = replace(glm.train.recipe("geneformer-tiny"), max_epochs=1, warmup_steps=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     trained = glm.train.pretrain_cells(model, cells, quick, folder=folder)
    """
    if not isinstance(model.network, MaskedLM):
        raise ValueError(
            f"{model.spec.name} has no head that predicts tokens (spec.head is "
            f"{model.spec.head!r}): masked-gene modelling goes on from a pretrained model."
        )
    chosen = recipe_ or recipe(model.spec.name)
    sentences = _check(sentences, model, chosen)
    data = SentenceData(
        sentences, model.vocabulary, chosen, held_out=held_out, each_epoch=each_epoch
    )
    folder = Path(folder)
    resumed = _checkpoint_to_resume(folder, chosen, sentences, model)
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(chosen.seed)
        trainer = _make_trainer(folder, chosen, trainer_options)
        batches_a_step = trainer.world_size * trainer.accumulate_grad_batches
        steps_an_epoch = -(-data.n_batches // batches_a_step)
        module = MaskedTokens(model.network, chosen, steps_an_epoch * chosen.max_epochs)
        module.train()  # Lightning keeps the mode it finds: that of evaluation in a loaded model
        trainer.fit(module, datamodule=data, ckpt_path=resumed, weights_only=True)
    logger.info("trained %s for %s steps", model.spec.name, trainer.global_step)
    model.network.to("cpu").eval()
    return dataclasses.replace(model, weights_sha256="unsaved")


def _check(sentences: Sentences, model: Model, chosen: Recipe) -> Sentences:
    shape, n_special = model.spec.shape, model.vocabulary.n_special
    lengths = sentences.lengths
    if not len(sentences) or lengths.min() < chosen.min_genes + n_special:
        n_short = int((lengths < chosen.min_genes + n_special).sum())
        raise ValueError(
            f"{n_short:,} of {len(sentences):,} cells have fewer than {chosen.min_genes} genes: "
            "leave them out before training."
        )
    if lengths.max() > shape.n_positions or sentences.tokens.max() >= shape.vocab_size:
        raise ValueError(
            f"The longest sentence has {lengths.max():,} tokens and the largest token is "
            f"{sentences.tokens.max():,}; {model.spec.name} reads {shape.n_positions:,} tokens of "
            f"a vocabulary of {shape.vocab_size:,}."
        )
    return sentences


def _shows_progress() -> bool:
    return sys.stderr.isatty() if settings.progress is None else settings.progress


def _make_trainer(folder: Path, chosen: Recipe, options: dict[str, Any]) -> pl.Trainer:
    checkpoint = ModelCheckpoint(
        dirpath=folder, filename="epoch", save_last=True, save_on_train_epoch_end=True
    )
    defaults = {
        "max_epochs": chosen.max_epochs,
        "precision": chosen.precision,
        "gradient_clip_val": chosen.gradient_clip or None,
        "accelerator": "auto",
        "logger": CSVLogger(folder, name="log"),  # a resumed run gets a file of its own
        "enable_progress_bar": _shows_progress(),
        "enable_model_summary": False,
        "use_distributed_sampler": False,
        "log_every_n_steps": 10,
        "num_sanity_val_steps": 0,
        # The data module hands out each epoch's own batches.
        "reload_dataloaders_every_n_epochs": 1,
    }
    callbacks = [checkpoint, *options.pop("callbacks", [])]
    return pl.Trainer(**{**defaults, **options}, callbacks=callbacks)


def _checkpoint_to_resume(
    folder: Path, chosen: Recipe, sentences: Sentences, model: Model
) -> Path | None:
    """The last checkpoint in ``folder``, if it is of this run; notes down what run it is."""
    run = {
        "recipe": dataclasses.asdict(chosen),
        "shape": dataclasses.asdict(model.spec.shape),
        "vocabulary": model.vocabulary.sha256,
        "sentences": hashlib.sha256(
            sentences.tokens.tobytes() + sentences.offsets.tobytes()
        ).hexdigest(),
    }
    note = folder / "run.json"
    if note.is_file():
        before = json.loads(note.read_text(encoding="utf-8"))
        if differing := [name for name in run if before.get(name) != run[name]]:
            raise ValueError(
                f"{folder} holds a run with another {' and '.join(differing)}. Give another "
                "folder, or remove that one to start again."
            )
    folder.mkdir(parents=True, exist_ok=True)
    beside = note.with_name(f".run.json.{os.getpid()}")
    beside.write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")
    os.replace(beside, note)
    last = folder / "last.ckpt"
    return last if last.is_file() else None
