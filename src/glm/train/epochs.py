"""What a run is fed with, epoch by epoch, and where a resumed one goes on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch

from .batches import AnyBatch
from .loading import Batches, named_sentences


class Epoch(NamedTuple):
    """What the batches of an epoch are made by, and what goes into each of them."""

    make: Callable[[Any], AnyBatch]
    parts: Sequence[Any]


class EpochData(pl.LightningDataModule, ABC):
    """The batches of every epoch, of which a run may have been stopped anywhere.

    What is in a batch may depend on the epoch and the batch, not on the process that makes it nor
    on what was made before.

    Parameters
    ----------
    workers
        Processes that make batches ahead.
    """

    def __init__(self, workers: int) -> None:
        super().__init__()
        self.workers = workers
        self.done = (0, 0)  # where a resumed run goes on: epoch, batches of each process
        self._handed_out: list[Batches] = []

    @abstractmethod
    def training(self, epoch: int) -> Epoch:
        """What is trained on in an epoch."""

    @abstractmethod
    def measuring(self) -> Epoch | None:
        """What is measured on, the same each time; ``None`` for nothing."""

    def named(self, part: Any) -> str:
        """What a message calls the part of a batch."""
        return named_sentences(part)

    @property
    def n_batches(self) -> int:
        """Batches of the first epoch over all devices; later ones may have a few more or fewer."""
        return len(self.training(0).parts)

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.done[0], "batches": self.done[1]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.done = (state_dict["epoch"], state_dict["batches"])

    def train_dataloader(self) -> Batches:
        epoch = self._epoch
        start = self.done[1] if epoch == self.done[0] else 0
        batches = self._batches(self.training(epoch), start)
        self._handed_out = [batches]
        return batches

    def val_dataloader(self) -> list[Batches]:
        measured = self.measuring()
        if measured is None:
            return []
        batches = self._batches(measured, 0)
        self._handed_out.append(batches)
        return [batches]

    def under_way(self) -> str:
        """What workers were at when one of them died."""
        found = [batches.under_way() for batches in self._handed_out]
        return " or ".join(part for part in found if part) or "rows that are not known"

    def transfer_batch_to_device(
        self, batch: AnyBatch, device: torch.device, dataloader_idx: int
    ) -> AnyBatch:
        return batch.to(device)

    def _batches(self, epoch: Epoch, start: int) -> Batches:
        return Batches(
            epoch.make,
            epoch.parts,
            part=self._part,
            start=start,
            workers=self.workers,
            named=self.named,
        )

    @property
    def _epoch(self) -> int:
        # Lightning asks before it has restored its own count.
        return 0 if self.trainer is None else max(self.trainer.current_epoch, self.done[0])

    @property
    def _part(self) -> tuple[int, int]:
        trainer = self.trainer
        return (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)
