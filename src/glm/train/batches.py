"""What goes into a network and what should come out of it, for some sentences at once."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


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

    @property
    def n_tokens(self) -> int:
        """Tokens that are not padding."""
        return int(self.mask.sum())
