"""The Lightning module: a network × an objective × a recipe."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, Protocol

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from .._messages import first_names
from .batches import AnyBatch
from .recipes import Recipe


class Learnt(Protocol):
    """Of an objective, what the trainer asks: how wrong outputs are, and which epoch is best."""

    @property
    def monitor(self) -> tuple[str, Literal["min", "max"]]: ...

    def loss(self, outputs: Tensor, batch: Any) -> Tensor:
        """The mean loss, float32, over what ``batch.weight`` counts."""
        ...

    def scores(self, outputs: Tensor, batch: Any) -> dict[str, Tensor]:
        """Other means over the same, by name, for the log."""
        ...


class Measure(Protocol):
    """A score of all that is held out which is no mean over its batches: a correlation."""

    def start(self) -> None:
        """Forget what was added."""
        ...

    def add(self, outputs: Tensor, batch: Any) -> None:
        """Take in a batch."""
        ...

    def values(self, total: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """The scores, by name; ``total`` adds up a tensor over all processes."""
        ...


class NotFinite(RuntimeError):
    """A loss, a gradient or a score that is not a number, and what it came from."""


class Sums:
    """Weighted sums of a loss and of scores over some batches."""

    def __init__(self) -> None:
        self.weight = 0.0
        self.values: dict[str, Tensor] = {}

    def add(self, means: dict[str, Tensor], weight: float) -> None:
        """Take in the means of a batch; they may be anything where it weighs nothing."""
        self.weight += weight
        for name, mean in means.items():
            mean = mean.detach().float()
            here = mean * weight if weight else torch.zeros_like(mean)
            self.values[name] = self.values[name] + here if name in self.values else here


class Training(pl.LightningModule):
    """Train a network for an objective.

    The gradient of a step is that of the mean over all targets of its batches, on all devices and
    however many are accumulated: a batch counts by its weight, so it does not matter how sentences
    are cut into batches or shared among devices.

    Parameters
    ----------
    network
        What is trained.
    objective
        What it is trained for.
    recipe
        Optimiser and schedule.
    total_steps
        Optimiser steps of the whole run: where the learning rate reaches zero.
    measure
        What else is measured on what is held out.
    """

    def __init__(
        self,
        network: nn.Module,
        objective: Learnt,
        recipe: Recipe,
        total_steps: int,
        measure: Measure | None = None,
    ) -> None:
        super().__init__()
        self.network, self.objective, self.recipe = network, objective, recipe
        self.measure = measure
        self.total_steps = max(1, total_steps)
        self.wish = False  # this process was asked to stop
        self.stopping = False  # one of the processes was: the same in all of them
        # Seen here, since a wrapper that cuts weights into shards leaves them without a shape.
        self._decayed = {name for name, p in network.named_parameters() if p.ndim > 1}
        self._window, self._held_out = Sums(), Sums()
        self._seen: list[tuple[Tensor, AnyBatch]] = []  # losses and batches of the step under way
        self._last_seen = self._seen

    def forward(self, batch: AnyBatch) -> Tensor:
        """Outputs of the network for a batch."""
        return batch.through(self.network)

    # ---- a step ---------------------------------------------------------------------------------

    def on_train_batch_start(self, batch: AnyBatch, batch_index: int) -> None:
        # Dropout is drawn from the batch's own seed, so a resumed run goes on as the uninterrupted
        # one would, whatever else drew from torch's generator meanwhile, and so do two devices that
        # share the batches of one. The caller's generator is put back by `fit`.
        number = batch_index * self.trainer.world_size + self.global_rank
        key = (self.recipe.seed, self.current_epoch, number)
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))

    def training_step(self, batch: AnyBatch, batch_index: int) -> Tensor:
        outputs = self(batch)
        loss = self._loss(outputs, batch)
        scores = self.objective.scores(outputs.detach(), batch) if self._logs_this_step else {}
        self._window.add({"loss": loss, **scores}, batch.weight)
        self._seen.append((loss.detach(), batch))
        if self._alone:
            return loss
        # Divided by the weight of the whole step before it is made. Lightning divides by the number
        # of batches it accumulates.
        return loss * batch.weight * self.trainer.accumulate_grad_batches

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        window, self._window = self._window, Sums()
        seen, self._seen = self._seen, []
        self._last_seen = seen
        means, weight, wishes = self._agree(window)
        self.stopping = wishes > 0
        if not math.isfinite(means["loss"]):
            raise NotFinite(f"The loss is {means['loss']} {self._where(seen)}")
        if weight and not self._alone:
            gradients = [p.grad for p in self.parameters() if p.grad is not None]
            torch._foreach_mul_(gradients, self.trainer.world_size / weight)
        if weight:
            self.log_dict(_named("train", means), prog_bar=True)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        limit = gradient_clip_val or math.inf
        wrapped: Any = self.trainer.strategy.model
        if str(gradient_clip_algorithm or "norm") not in ("norm", "GradClipAlgorithmType.NORM"):
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
            return
        if hasattr(wrapped, "clip_grad_norm_"):  # sharded: each process knows a part
            norm = wrapped.clip_grad_norm_(limit)
        else:
            norm = nn.utils.clip_grad_norm_(self.parameters(), limit)
        # Under float16 the scaler leaves such steps out by itself.
        if self.trainer.precision != "16-mixed" and not bool(torch.isfinite(norm)):
            raise NotFinite(f"The gradient is {norm.item()} {self._where(self._last_seen)}")
        self.log("gradient_norm", norm)

    @property
    def _alone(self) -> bool:
        """Whether every batch is a step of its own."""
        return self.trainer.world_size * self.trainer.accumulate_grad_batches == 1

    @property
    def _logs_this_step(self) -> bool:
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        return (self.trainer.global_step + 1) % every == 0

    def _loss(self, outputs: Tensor, batch: AnyBatch) -> Tensor:
        if not batch.weight:  # a mean over nothing; all parameters still take part
            return outputs.float().sum() * 0.0
        return self.objective.loss(outputs, batch)

    def _agree(self, sums: Sums) -> tuple[dict[str, float], float, float]:
        """Means over all processes, their weight, and how many were asked to stop."""
        names = list(sums.values)
        head = torch.tensor([float(self.wish), sums.weight], device=self.device)
        together = torch.cat([head, *(sums.values[name].reshape(1) for name in names)])
        wishes, weight, *values = self._total(together).tolist()
        means = {name: value / (weight or 1) for name, value in zip(names, values, strict=True)}
        return means, weight, wishes

    def _where(self, seen: list[tuple[Tensor, AnyBatch]]) -> str:
        """Which step, and of which rows: those of the first bad batch, or of all."""
        step = f"in step {self.trainer.global_step + 1:,}, epoch {self.current_epoch + 1}"
        bad = [batch for loss, batch in seen if not torch.isfinite(loss)][:1]
        if not bad and self.trainer.world_size > 1:
            return f"{step}, in this process or another."
        batches = bad or [batch for _, batch in seen]
        rows: dict[str, list[int]] = {}
        for batch in batches:
            rows.setdefault(batch.kind, []).extend(batch.rows.tolist())
        named = " and ".join(f"{kind} {first_names(some, 5)}" for kind, some in rows.items())
        return f"{step}, for the batch of {named}."

    # ---- held out -------------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        self._held_out = Sums()
        if self.measure is not None:
            self.measure.start()

    def validation_step(self, batch: AnyBatch, batch_index: int) -> None:
        outputs = self(batch)
        loss = self._loss(outputs, batch)
        self._held_out.add({"loss": loss, **self.objective.scores(outputs, batch)}, batch.weight)
        if self.measure is not None:
            self.measure.add(outputs, batch)

    def on_validation_epoch_end(self) -> None:
        means, weight, _ = self._agree(self._held_out)
        if weight:
            self.log_dict(_named("held_out", means), prog_bar=True)
        if weight and self.measure is not None:
            self.log_dict(_named("held_out", self.measure.values(self._total)))

    def _total(self, part: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.trainer.world_size == 1:
            return part
        return self.trainer.strategy.reduce(part.clone(), reduce_op="sum")

    # ---- optimiser ------------------------------------------------------------------------------

    def configure_optimizers(self) -> Any:
        recipe = self.recipe
        trained = {
            name.replace("_fsdp_wrapped_module.", "").replace("_forward_module.", ""): p
            for name, p in self.network.named_parameters()
            if p.requires_grad
        }
        optimizer = torch.optim.AdamW(
            [
                {
                    "params": [p for name, p in trained.items() if name in self._decayed],
                    "weight_decay": recipe.weight_decay,
                },
                {
                    "params": [p for name, p in trained.items() if name not in self._decayed],
                    "weight_decay": 0.0,
                },
            ],
            lr=recipe.learning_rate,
            betas=recipe.betas,
            eps=recipe.eps,
        )
        warmup = warmup_steps(recipe, self.total_steps)
        falls = recipe.schedule == "linear"
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda step: learning_rate_share(step, warmup, self.total_steps, falls=falls),
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


def warmup_steps(recipe: Recipe, total: int) -> int:
    """Steps of warm-up in a run of ``total``."""
    return int(recipe.warmup if recipe.warmup >= 1 else round(recipe.warmup * total))


def learning_rate_share(step: int, warmup: int, total: int, *, falls: bool = True) -> float:
    """Share of the highest learning rate: up over ``warmup`` steps, down to zero at ``total``."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return max(0.0, (total - step) / max(1, total - warmup)) if falls else 1.0


def _named(whose: str, means: dict[str, float]) -> dict[str, float]:
    return {f"{whose}_{name}": value for name, value in means.items()}
