"""How the authors trained, as values that can be changed one by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..models.any_model import get

_LEAST = {
    "warmup": 0,
    "weight_decay": 0,
    "gradient_clip": 0,
    "seed": 0,
    "min_tokens": 0,
    "batches_per_step": 1,
    "tokens_per_batch": 1,
    "rows_per_batch": 1,
    "max_epochs": 1,
    "max_steps": 1,
}
"""Fields of a recipe and the least that each can be."""


@dataclass(frozen=True)
class Recipe:
    """Optimiser, schedule and size of batches of a training run.

    Attributes
    ----------
    learning_rate
        Highest learning rate of AdamW.
    warmup
        Steps over which it rises from zero, linearly; below 1 the share of all steps.
    max_epochs
        Passes over the data; ``None`` where ``max_steps`` alone ends the run.
    weight_decay
        Of AdamW; biases and LayerNorm are left out.
    schedule
        What it does after the warm-up: fall to zero in a line, or stay.
    betas, eps
        Of AdamW.
    gradient_clip
        Largest norm of the gradient, 0 for none.
    tokens_per_batch
        Most tokens of a batch, padding included; ``None`` for no limit. Not of windows.
    rows_per_batch
        Most sentences, or windows, of a batch; ``None`` for no limit.
    batches_per_step
        Batches whose gradients make one step of the optimiser, over all devices: on fewer devices
        more of them are accumulated, so that the step stays the same.
    max_steps
        Steps at which the run ends, whatever the epochs; ``None`` for no limit.
    min_tokens
        Sentences with fewer tokens (special ones not counted) are refused.
    precision
        Lightning's name of the precision: ``"32-true"``, ``"bf16-mixed"``.
    seed
        Decides order, masks, moves, dropout and the weights of a new head.
    """

    learning_rate: float
    warmup: float
    max_epochs: int | None
    weight_decay: float = 0.0
    schedule: Literal["linear", "constant"] = "linear"
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    gradient_clip: float = 1.0
    tokens_per_batch: int | None = None
    rows_per_batch: int | None = None
    batches_per_step: int = 1
    max_steps: int | None = None
    min_tokens: int = 1
    precision: str = "32-true"
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.tokens_per_batch and not self.rows_per_batch:
            raise ValueError(
                "A recipe needs tokens_per_batch or rows_per_batch: nothing limits a batch."
            )
        if not self.max_epochs and not self.max_steps:
            raise ValueError(
                "A recipe has neither max_epochs nor max_steps: training would not end."
            )
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and not value >= least:
                raise ValueError(f"{name} is {value}; expected at least {least}.")
        if not 0 < self.learning_rate < float("inf"):
            raise ValueError(f"learning_rate is {self.learning_rate}; expected more than 0.")
        if self.schedule not in ("linear", "constant"):
            raise ValueError(f"schedule is {self.schedule!r}; expected 'linear' or 'constant'.")


_RECIPES = {
    # Pretraining of Geneformer :cite:p:`theodoris2023`: AdamW, 1e-3, linear with 10,000 steps of
    # warm-up, decay 0.001, 12 cells a device on 12 devices, 3 epochs, cells with fewer than 7 genes
    # left out; the gradient norm of 1.0, betas and eps are its trainer's defaults.
    ("geneformer", "pretrain"): Recipe(
        learning_rate=1e-3,
        warmup=10_000,
        max_epochs=3,
        weight_decay=0.001,
        tokens_per_batch=12 * 2048,
        batches_per_step=12,
        min_tokens=7,
    ),
    # Its classifiers: 5e-5, 500 steps of warm-up, decay 0.001, batches of 12, 10 epochs for cells
    # and 1 for genes; the rest as above.
    ("geneformer", "cells"): Recipe(
        learning_rate=5e-5, warmup=500, max_epochs=10, weight_decay=0.001, rows_per_batch=12
    ),
    ("geneformer", "genes"): Recipe(
        learning_rate=5e-5, warmup=500, max_epochs=1, weight_decay=0.001, rows_per_batch=12
    ),
    # Pretraining of DNABERT (doi:10.1093/bioinformatics/btab083 and its code): AdamW, 4e-4, betas
    # 0.9 and 0.98, eps 1e-6, decay 0.01, linear with 10,000 steps of warm-up, 2,000 pieces a step
    # (cut here into batches of 20), 120,000 steps.
    ("dnabert", "pretrain"): Recipe(
        learning_rate=4e-4,
        warmup=10_000,
        max_epochs=None,
        max_steps=120_000,
        weight_decay=0.01,
        betas=(0.9, 0.98),
        eps=1e-6,
        rows_per_batch=20,
        batches_per_step=100,
    ),
    # Its fine-tuning: 2e-4, 5 epochs, batches of 32, warm-up over a tenth, decay 0.01, norm 1.0.
    ("dnabert", "regions"): Recipe(
        learning_rate=2e-4, warmup=0.1, max_epochs=5, weight_decay=0.01, rows_per_batch=32
    ),
    # Pretraining of GROVER (doi:10.1038/s42256-024-00872-0): Adam, 4e-4, batches of 64. The paper
    # tells no warm-up, decay or schedule, and no number of epochs: none, none, linear and one.
    ("grover", "pretrain"): Recipe(learning_rate=4e-4, warmup=0, max_epochs=1, rows_per_batch=64),
    # Enformer (doi:10.1038/s41592-021-01252-x and its code): Adam, which is AdamW without decay,
    # 5e-4 after 5,000 steps of linear warm-up, gradient norm 0.2, 64 windows a step (one a device
    # then, as batches here), 150,000 steps, human and mouse in turn.
    ("enformer", "pretrain"): Recipe(
        learning_rate=5e-4,
        warmup=5_000,
        max_epochs=None,
        max_steps=150_000,
        schedule="constant",
        gradient_clip=0.2,
        rows_per_batch=1,
        batches_per_step=64,
    ),
    # And on human windows alone from there: 30,000 steps at 1e-4.
    ("enformer", "human"): Recipe(
        learning_rate=1e-4,
        warmup=0,
        max_epochs=None,
        max_steps=30_000,
        schedule="constant",
        gradient_clip=0.2,
        rows_per_batch=1,
        batches_per_step=64,
    ),
}


def recipe(model: str, objective: str = "pretrain") -> Recipe:
    """Return the authors' way of training a model.

    Parameters
    ----------
    model
        A name of :func:`glm.models.list`, a bundle's folder, or the name of a system
        (``"geneformer"``, ``"dnabert"``, ``"grover"``, ``"enformer"``).
    objective
        ``"pretrain"``, or for fine-tuning ``"cells"``, ``"genes"`` (Geneformer), ``"regions"``
        (DNABERT) or ``"human"`` (Enformer, after both species).

    Returns
    -------
    The recipe; change it with :func:`dataclasses.replace`.

    Raises
    ------
    KeyError
        If there is no such model, or no recipe for it.

    Examples
    --------
    >>> import glm
    >>> glm.train.recipe("geneformer-v1-10m").learning_rate
    0.001
    """
    systems = {system for system, _ in _RECIPES}
    system = model if model in systems else get(model).system
    known = [name for of, name in _RECIPES if of == system]
    if objective not in known:
        raise KeyError(
            f"There is no recipe {objective!r} for {system}; there is {', '.join(known) or 'none'}."
        )
    return _RECIPES[system, objective]
