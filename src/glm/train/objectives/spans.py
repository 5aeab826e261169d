"""Predict hidden runs of overlapping k-mers, as DNABERT does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from ..batches import Batch
from ..sentences import Sentences
from .masked import (
    Vocabulary,
    check_factors,
    check_shares,
    hidden_batch,
    hide,
    is_special,
    padded_factors,
)


@dataclass(frozen=True)
class KmerSpans:
    """Predict runs of ``k`` hidden tokens in a row, so that no neighbour tells :cite:p:`ji2021`.

    Tokens are k-mers at every base: ``k`` of them cover each base. Centres are drawn with
    probability ``share / k`` (× the token's factor, if the sentences have ``factors``), and with
    each the tokens from (k − 1) // 2 before to k // 2 after it are predicted, as far as the
    sentence goes. How a token is shown is drawn for each by itself.

    Attributes
    ----------
    vocabulary
        Says which tokens are special and which can stand in for a hidden one.
    k
        Length of a k-mer.
    share
        Share of the tokens that would be predicted if runs did not overlap: 0.15, at the end of the
        authors' pretraining 0.2. With overlaps it is 1 − (1 − share / k)^k, so 0.141 for 6-mers.
    as_mask, as_random
        Shares of those that are shown as the mask and as a random token; the rest is shown as is.

    Raises
    ------
    ValueError
        If ``k`` is below 1 or not that of the vocabulary, the vocabulary's k-mers do not overlap, a
        share is not between 0 and 1, or the vocabulary has no ``pad`` or ``mask``.

    Examples
    --------
    >>> import glm
    >>> glm.train.KmerSpans(glm.models.KmerVocabulary(6), k=6).share
    0.15
    """

    vocabulary: Vocabulary
    k: int
    share: float = 0.15
    as_mask: float = 0.8
    as_random: float = 0.1

    def __post_init__(self) -> None:
        check_shares(self.vocabulary, self.share, self.as_mask, self.as_random)
        if self.k < 1:
            raise ValueError(f"k is {self.k}; expected the length of the k-mers, at least 1.")
        # With another run than that, a token beside it tells bases of what is hidden.
        theirs, stride = (getattr(self.vocabulary, name, None) for name in ("k", "stride"))
        if theirs not in (None, self.k) or stride not in (None, 1):
            raise ValueError(
                f"k is {self.k}, and the vocabulary is of {theirs}-mers, one at every "
                f"{'base' if stride == 1 else f'{stride} bases'}: runs as long as the k-mers hide "
                "a base from its neighbours where there is a k-mer at every base. For other tokens "
                "take MaskedTokens."
            )

    @property
    def level(self) -> Literal["token"]:
        """Each token has an output."""
        return "token"

    @property
    def n_outputs(self) -> None:
        """The head predicts tokens."""
        return None

    @property
    def labels(self) -> tuple[()]:
        """Outputs are tokens."""
        return ()

    @property
    def task(self) -> Literal[""]:
        """Outputs are tokens."""
        return ""

    @property
    def monitor(self) -> tuple[str, Literal["min", "max"]]:
        """The lowest held-out loss."""
        return "held_out_loss", "min"

    def check(self, sentences: Sentences) -> None:
        """Raise ``ValueError`` where factors would make no probability."""
        check_factors(sentences.factors, self.share / self.k)

    def batch(
        self,
        sentences: Sentences,
        chosen: np.ndarray,
        rng: np.random.Generator,
        *,
        training: bool,
    ) -> Batch:
        """Hide runs of the chosen sentences."""
        special = self.vocabulary.special
        tokens = sentences.padded(chosen, special["pad"])
        factors = padded_factors(sentences, chosen)
        predicted = mask_spans(
            ~is_special(tokens, special), rng, k=self.k, share=self.share, factors=factors
        )
        shown = hide(
            tokens,
            predicted,
            rng,
            mask_token=special["mask"],
            random_tokens=self.vocabulary.tokens,
            as_mask=self.as_mask,
            as_random=self.as_random,
            other=False,
        )
        return hidden_batch(tokens, shown, predicted, chosen, special["pad"])

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy of the hidden tokens."""
        return F.cross_entropy(outputs.float(), batch.targets)

    def scores(self, outputs: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Share of hidden tokens that are named."""
        return {"accuracy": (outputs.argmax(dim=1) == batch.targets).float().mean()}


def mask_spans(
    maskable: np.ndarray,
    rng: np.random.Generator,
    *,
    k: int,
    share: float = 0.15,
    factors: np.ndarray | None = None,
) -> np.ndarray:
    """Choose runs of ``k`` tokens in a row around centres drawn with probability ``share / k``.

    Parameters
    ----------
    maskable
        bool, sentences × tokens: padding and special tokens are False, are no centres and are
        never in a run.
    rng
        Source of the draw.
    k
        Tokens in a run.
    share
        ``k`` times the probability of a centre.
    factors
        float, the same shape: the probability of a centre is multiplied by this.

    Returns
    -------
    bool, the same shape: which tokens are predicted.

    Examples
    --------
    >>> import numpy as np
    >>> import glm
    >>> rng = np.random.default_rng(7)
    >>> chosen = glm.train.mask_spans(np.ones((1, 20), bool), rng, k=6)
    >>> np.flatnonzero(chosen).tolist()
    [4, 5, 6, 7, 8, 9]
    """
    probability = share / k if factors is None else share / k * factors
    centres = maskable & (rng.random(maskable.shape) < probability)
    length = maskable.shape[1]
    predicted = np.zeros_like(centres)
    for offset in range(-((k - 1) // 2), k // 2 + 1):
        to = slice(max(offset, 0), max(length + min(offset, 0), 0))
        of = slice(max(-offset, 0), max(length - max(offset, 0), 0))
        predicted[:, to] |= centres[:, of]
    return predicted & maskable
