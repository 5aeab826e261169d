"""What goes into a network and what should come out of it, for some sentences at once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class AnyBatch(Protocol):
    """What the trainer asks of a batch, whatever is in it.

    Attributes
    ----------
    rows
        int64: numbers in the data, so that an error can name them.
    weight
        How much the mean loss of this batch counts against that of others; 0 for one that only
        keeps a process in step.
    kind
        What the rows are, in the plural: ``"sentences"``.
    """

    @property
    def rows(self) -> Tensor: ...
    @property
    def weight(self) -> float: ...
    @property
    def kind(self) -> str: ...

    def through(self, network: nn.Module) -> Tensor:
        """What a network makes of it."""
        ...

    def to(self, device: torch.device) -> Any:
        """The same batch on a device."""
        ...


@dataclass(frozen=True)
class Batch:
    """Some sentences, what is asked about them, and the right answers.

    Attributes
    ----------
    tokens
        int64, sentences × longest: what the model sees.
    mask
        bool, the same shape: True where there is a token, False on padding.
    rows
        int64, one a sentence: its number in the data, so that an error can name it.
    positions
        int64, places in the flattened ``tokens`` whose outputs are wanted; ``None`` where an output
        belongs to a whole sentence.
    targets
        The right answers, one a position or one a sentence; what else is in it is the objective's.
    weight
        How much the mean loss of this batch counts against that of others: the number of its
        targets, or the sum of their weights. 0 for a batch that only keeps a process in step.
    """

    tokens: Tensor
    mask: Tensor
    rows: Tensor
    positions: Tensor | None
    targets: Tensor
    weight: float

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device; the numbers of the sentences stay where they are."""

        def moved(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=True)

        return replace(
            self,
            tokens=moved(self.tokens),
            mask=moved(self.mask),
            positions=None if self.positions is None else moved(self.positions),
            targets=moved(self.targets),
        )

    def through(self, network: nn.Module) -> Tensor:
        """Outputs of the network at the batch's positions, or for its sentences."""
        return network(self.tokens, self.mask, positions=self.positions)

    @property
    def kind(self) -> str:
        """What the rows are."""
        return "sentences"

    @property
    def n_tokens(self) -> int:
        """Tokens that are not padding."""
        return int(self.mask.sum())
