"""Objectives: what is hidden from the model, and what it must say about it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class MaskedBatch:
    """Sentences with tokens hidden.

    Attributes
    ----------
    tokens
        int64, sentences × longest: what the model sees.
    mask
        bool, the same shape: True where there is a token, False on padding.
    positions
        int64, places in the flattened ``tokens`` that are predicted.
    targets
        int64, the tokens that stood there.
    """

    tokens: torch.Tensor
    mask: torch.Tensor
    positions: torch.Tensor
    targets: torch.Tensor

    def to(self, device: torch.device) -> MaskedBatch:
        """The same batch on a device."""
        return MaskedBatch(
            self.tokens.to(device, non_blocking=True),
            self.mask.to(device, non_blocking=True),
            self.positions.to(device, non_blocking=True),
            self.targets.to(device, non_blocking=True),
        )


def mask_tokens(
    tokens: np.ndarray,
    maskable: np.ndarray,
    rng: np.random.Generator,
    *,
    mask_token: int,
    random_tokens: np.ndarray,
    share: float = 0.15,
    as_mask: float = 0.8,
    as_random: float = 0.1,
) -> tuple[np.ndarray, np.ndarray]:
    """Hide tokens as BERT does: each with probability ``share``, then 80/10/10.

    Parameters
    ----------
    tokens
        Whole numbers of any shape.
    maskable
        bool, the same shape: padding and special tokens are False.
    rng
        Source of the draw.
    mask_token
        Shown in place of a hidden token.
    random_tokens
        Tokens from which a random one is drawn (never special ones).
    share, as_mask, as_random
        Share predicted; shares of those shown as the mask and as a random token.

    Returns
    -------
    The tokens to show, and bool, the same shape: which are predicted.

    Examples
    --------
    >>> import numpy as np
    >>> import glm
    >>> tokens = np.arange(2, 12)
    >>> shown, predicted = glm.train.mask_tokens(
    ...     tokens,
    ...     np.ones(10, bool),
    ...     np.random.default_rng(0),
    ...     mask_token=1,
    ...     random_tokens=tokens,
    ...     share=1.0,
    ... )
    >>> int(predicted.sum())
    10
    """
    predicted = maskable & (rng.random(tokens.shape) < share)
    how = rng.random(tokens.shape)
    shown = tokens.copy()
    shown[predicted & (how < as_mask)] = mask_token
    random = predicted & (how >= as_mask) & (how < as_mask + as_random)
    shown[random] = rng.choice(random_tokens, size=int(random.sum()))
    return shown, predicted
