"""What stands on an encoder that was fine-tuned to tell classes of cells or of genes apart."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .bert import Bert
from .config import BertConfig

__all__ = ["Classifier"]


class Classifier(nn.Module):
    """An encoder and a linear map of its last hidden states to classes.

    Parameters
    ----------
    config
        Shape of the encoder.
    n_classes
        Classes to tell apart.
    per_cell
        Whether a whole sentence has one class, read through a dense layer and tanh from position 0
        (a cell classifier), or each of its tokens has its own (a gene classifier).
    """

    def __init__(self, config: BertConfig, n_classes: int, *, per_cell: bool) -> None:
        super().__init__()
        self.config = config
        self.bert = Bert(config)
        self.pooler = nn.Linear(config.hidden_size, config.hidden_size) if per_cell else None
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.hidden_size, n_classes)

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, *, positions: Tensor | None = None
    ) -> Tensor:
        """Compute logits: batch × classes, or batch × length × classes without a pooler.

        ``tokens`` and ``mask`` are those of :meth:`Bert.forward <glm.models.bert.Bert.forward>`.
        ``positions`` are places in the flattened batch (int64); without a pooler, logits are then
        positions × classes.
        """
        hidden = self.bert(tokens, mask)
        if self.pooler is not None:
            hidden = torch.tanh(self.pooler(hidden[:, 0]))
        elif positions is not None:
            hidden = hidden.flatten(0, 1)[positions]
        return self.classifier(self.dropout(hidden))
