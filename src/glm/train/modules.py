"""Lightning modules: a network with an objective, an optimiser and a schedule."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F

from ..models.bert import MaskedLM
from .objectives import MaskedBatch
from .recipes import Recipe


class MaskedTokens(pl.LightningModule):
    """Predict hidden tokens (for cells: masked-gene modelling).

    Parameters
    ----------
    network
        Encoder with the masked-token head.
    recipe
        Optimiser and schedule.
    total_steps
        Optimiser steps of the whole run: where the learning rate reaches zero.
    """

    def __init__(self, network: MaskedLM, recipe: Recipe, total_steps: int) -> None:
        super().__init__()
        self.network, self.recipe, self.total_steps = network, recipe, max(1, total_steps)

    def forward(self, batch: MaskedBatch) -> torch.Tensor:
        """Logits of the predicted positions: positions × tokens."""
        return self.network(batch.tokens, batch.mask, positions=batch.positions)

    def _loss(self, batch: MaskedBatch) -> tuple[torch.Tensor, torch.Tensor]:
        logits = self(batch).float()
        right = (logits.argmax(dim=1) == batch.targets).float().mean()
        return F.cross_entropy(logits, batch.targets), right

    def on_train_batch_start(self, batch: MaskedBatch, batch_index: int) -> None:
        # Dropout is drawn from the batch's own seed, so a resumed run goes on as the uninterrupted
        # one would, whatever else drew from torch's generator meanwhile (every iterator of a
        # DataLoader does). The caller's generator is put back by `pretrain_cells`.
        key = (self.recipe.seed, self.current_epoch, batch_index, self.global_rank)
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))

    def training_step(self, batch: MaskedBatch, batch_index: int) -> torch.Tensor | None:
        if not batch.positions.numel():
            return None
        loss, right = self._loss(batch)
        self.log("train_loss", loss, prog_bar=True, batch_size=batch.positions.numel())
        self.log("train_accuracy", right, batch_size=batch.positions.numel())
        return loss

    def validation_step(self, batch: MaskedBatch, batch_index: int) -> None:
        if batch.positions.numel():
            loss, right = self._loss(batch)
            n = batch.positions.numel()
            self.log("held_out_loss", loss, prog_bar=True, batch_size=n)
            self.log("held_out_accuracy", right, prog_bar=True, batch_size=n)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(
            parameter_groups(self.network, self.recipe.weight_decay), lr=self.recipe.learning_rate
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda step: linear_schedule(step, self.recipe.warmup_steps, self.total_steps),
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


def linear_schedule(step: int, warmup: int, total: int) -> float:
    """Share of the highest learning rate: up over ``warmup`` steps, down to zero at ``total``."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return max(0.0, (total - step) / max(1, total - warmup))


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices and tables with decay; biases and LayerNorm weights without."""
    with_decay = [p for p in network.parameters() if p.ndim > 1]
    without = [p for p in network.parameters() if p.ndim <= 1]
    return [
        {"params": with_decay, "weight_decay": weight_decay},
        {"params": without, "weight_decay": 0.0},
    ]
