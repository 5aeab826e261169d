"""Fine-tuning in its three forms, on given parts."""

from __future__ import annotations

import dataclasses
import logging
import shutil
import warnings
from pathlib import Path

import anndata as ad
import numpy as np
import torch

import glm
from glm.models import Model
from glm.models.bert import MaskedLM
from glm.train import LoRA, Recipe
from glm.train.fitting import read_history
from glm.train.split import Parts

from .data import MODEL, PARTS

METHODS = ("finetuned", "lora", "scratch")
LEARNING_RATES = (1e-3, 5e-3)
RANK = 8
RECIPE = Recipe(
    learning_rate=5e-4,
    warmup=0.1,
    max_epochs=10,
    weight_decay=0.01,
    rows_per_batch=16,
    precision="bf16-mixed",
)


def shortened(model: Model, context: int) -> Model:
    """The model with a shorter context: it reads only a cell's highest ranks, in less time."""
    shape = dataclasses.replace(model.spec.shape, n_positions=context)
    state = {
        name: value[:context] if name.endswith("position.weight") else value
        for name, value in model.network.state_dict().items()
    }
    with torch.random.fork_rng():
        network = MaskedLM(shape)
    network.load_state_dict(state)
    return dataclasses.replace(
        model,
        spec=dataclasses.replace(model.spec, shape=shape),
        vocabulary=dataclasses.replace(model.vocabulary, context=context),
        network=network.eval(),
    )


def untrained(model: Model, seed: int) -> Model:
    """The same shape and vocabulary with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = MaskedLM(model.spec.shape)
    return dataclasses.replace(model, network=network.eval())


def start(method: str, context: int, seed: int) -> Model:
    """What a method starts from."""
    model = shortened(glm.models.load(MODEL), context)
    return untrained(model, seed) if method == "scratch" else model


def finetune(
    adata: ad.AnnData,
    target: str,
    parts: Parts,
    method: str,
    *,
    context: int,
    epochs: int,
    seed: int,
    folder: Path,
    learning_rate: float,
    log_normalized: bool = False,
    axis: str = "obs",
    class_weight: str | None = None,
) -> tuple[ad.AnnData, float]:
    """Train on one part, choose the epoch on another; predictions of the third, and lowest loss.

    Returns a copy of ``adata`` in which :func:`glm.tl.finetune` wrote, and the lowest loss on the
    part that the epoch is chosen by. What is in ``folder`` is deleted.
    """
    adata = adata.copy()
    part = np.full(adata.n_obs if axis == "obs" else adata.n_vars, None, dtype=object)
    for name, rows in zip(PARTS, parts[:3], strict=True):
        part[rows] = name
    frame = getattr(adata, axis)
    frame["part"] = part
    # Rows in no part have no label, and are left out.
    frame.loc[frame["part"].isna(), target] = None
    recipe = dataclasses.replace(RECIPE, learning_rate=learning_rate, max_epochs=epochs, seed=seed)
    shutil.rmtree(folder, ignore_errors=True)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        glm.tl.finetune(
            adata,
            start(method, context, seed),
            target=target,
            axis=axis,
            kind="classes",
            folds="part",
            out=folder,
            recipe=recipe,
            lora=LoRA(rank=RANK, alpha=2.0 * RANK, seed=seed) if method == "lora" else None,
            class_weight=class_weight,
            log_normalized=log_normalized,
            accelerator="cpu",
        )
    loss = read_history(folder / "run")["held_out_loss"].min()
    shutil.rmtree(folder)
    return adata, float(loss)
