"""Predict hidden tokens, as BERT does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..batches import Batch
from ..sentences import Sentences


class Vocabulary(Protocol):
    """What hiding tokens needs to know of a vocabulary."""

    @property
    def special(self) -> Mapping[str, int]:
        """Tokens that are no gene, base or word; ``pad`` and ``mask`` are among them."""
        ...

    @property
    def tokens(self) -> np.ndarray:
        """Whole numbers: all other tokens."""
        ...


@dataclass(frozen=True)
class MaskedTokens:
    """Predict hidden tokens (for cells: masked-gene modelling) :cite:p:`theodoris2023`.

    Each token is hidden with a probability of its own, ``share`` × its factor if the sentences have
    ``factors`` (below 1 in annotated repeats, say). GROVER :cite:p:`sanabria2024` is ``share=0.022,
    as_mask=0.8, as_random=0.2, other=True``.

    Attributes
    ----------
    vocabulary
        Says which tokens are special and which can stand in for a hidden one.
    share
        Share of the tokens that are predicted; special ones never are.
    as_mask, as_random
        Shares of those that are shown as the mask and as a random token; the rest is shown as is.
    other
        Whether the random token is always another one than the hidden one.

    Raises
    ------
    ValueError
        If a share is not between 0 and 1, or the vocabulary has no ``pad`` or ``mask``.

    Examples
    --------
    >>> import glm
    >>> vocabulary = glm.models.load("geneformer-tiny").vocabulary
    >>> glm.train.MaskedTokens(vocabulary).share
    0.15
    """

    vocabulary: Vocabulary
    share: float = 0.15
    as_mask: float = 0.8
    as_random: float = 0.1
    other: bool = False

    def __post_init__(self) -> None:
        check_shares(self.vocabulary, self.share, self.as_mask, self.as_random)

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
        check_factors(sentences.factors, self.share)

    def batch(
        self,
        sentences: Sentences,
        chosen: np.ndarray,
        rng: np.random.Generator,
        *,
        training: bool,
    ) -> Batch:
        """Hide tokens of the chosen sentences."""
        tokens = sentences.padded(chosen, self.vocabulary.special["pad"])
        shown, predicted = mask_tokens(
            tokens,
            ~is_special(tokens, self.vocabulary.special),
            rng,
            mask_token=self.vocabulary.special["mask"],
            random_tokens=self.vocabulary.tokens,
            share=self.share,
            as_mask=self.as_mask,
            as_random=self.as_random,
            factors=padded_factors(sentences, chosen),
            other=self.other,
        )
        return hidden_batch(tokens, shown, predicted, chosen, self.vocabulary.special["pad"])

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy of the hidden tokens."""
        return F.cross_entropy(outputs.float(), batch.targets)

    def scores(self, outputs: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Share of hidden tokens that are named."""
        return {"accuracy": (outputs.argmax(dim=1) == batch.targets).float().mean()}


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
    factors: np.ndarray | None = None,
    other: bool = False,
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
    factors
        float, the same shape as ``tokens``: the probability is ``share`` × this.
    other
        Whether the random token is always another one than the hidden one.

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
    predicted = maskable & (rng.random(tokens.shape) < _probability(share, factors))
    shown = hide(
        tokens,
        predicted,
        rng,
        mask_token=mask_token,
        random_tokens=random_tokens,
        as_mask=as_mask,
        as_random=as_random,
        other=other,
    )
    return shown, predicted


def hide(
    tokens: np.ndarray,
    predicted: np.ndarray,
    rng: np.random.Generator,
    *,
    mask_token: int,
    random_tokens: np.ndarray,
    as_mask: float,
    as_random: float,
    other: bool,
) -> np.ndarray:
    """What is shown where ``predicted`` is True: drawn for every token by itself."""
    places = np.flatnonzero(predicted)
    how = rng.random(places.size)
    shown = tokens.copy()
    shown.flat[places[how < as_mask]] = mask_token
    random = places[(how >= as_mask) & (how < as_mask + as_random)]
    shown.flat[random] = _draw(random_tokens, tokens.flat[random], rng, other=other)
    return shown


def _draw(
    among: np.ndarray, instead_of: np.ndarray, rng: np.random.Generator, *, other: bool
) -> np.ndarray:
    """One of ``among`` for each; all alike, or all alike but the one it stands for."""
    if not other:
        return among[rng.integers(0, among.size, instead_of.size)]
    ordered = np.sort(among)
    drawn = rng.integers(0, ordered.size - 1, instead_of.size)
    # Numbers from the place of the one that is not to be drawn on are those after it.
    return ordered[drawn + (drawn >= np.searchsorted(ordered, instead_of))]


def _probability(share: float, factors: np.ndarray | None) -> float | np.ndarray:
    return share if factors is None else share * factors


def is_special(tokens: np.ndarray, special: Mapping[str, int]) -> np.ndarray:
    """bool, the shape of the tokens."""
    numbers = sorted(special.values())
    if numbers == list(range(len(numbers))):  # as in all published vocabularies, and much quicker
        return tokens < len(numbers)
    return np.isin(tokens, numbers)


def padded_factors(sentences: Sentences, chosen: np.ndarray) -> np.ndarray | None:
    """Factors of the chosen sentences, in the shape of their padded tokens."""
    if sentences.factors is None:
        return None
    return sentences.padded(chosen, 0.0, sentences.factors)


def hidden_batch(
    tokens: np.ndarray, shown: np.ndarray, predicted: np.ndarray, chosen: np.ndarray, pad: int
) -> Batch:
    """The batch that asks for the predicted tokens."""
    positions = np.flatnonzero(predicted)
    return Batch(
        torch.from_numpy(shown),
        torch.from_numpy(tokens != pad),
        torch.from_numpy(np.asarray(chosen, np.int64)),
        torch.from_numpy(positions),
        torch.from_numpy(tokens.ravel()[positions]),
        float(positions.size),
    )


def check_shares(vocabulary: Vocabulary, share: float, as_mask: float, as_random: float) -> None:
    """Refuse shares that are none, and a vocabulary that cannot hide anything."""
    for name, value in (("share", share), ("as_mask", as_mask), ("as_random", as_random)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} is {value}; expected a share from 0 to 1.")
    if as_mask + as_random > 1 + 1e-9:
        raise ValueError(
            f"as_mask and as_random are {as_mask} and {as_random}, more than 1 together: each "
            "hidden token is shown as the mask, as a random token, or as it is."
        )
    missing = [name for name in ("pad", "mask") if name not in vocabulary.special]
    if missing:
        raise ValueError(f"The vocabulary has no special token for {' and '.join(missing)}.")


def check_factors(factors: np.ndarray | None, share: float) -> None:
    """Refuse factors that make no probability of ``share``."""
    if factors is None or not factors.size:
        return
    low, high = float(np.min(factors)), float(np.max(factors))
    if not (low >= 0 and high * share <= 1):  # written so that NaN is refused too
        raise ValueError(
            f"factors run from {low:g} to {high:g}; expected 0 to {1 / share if share else 0:g}, "
            f"since share={share} × factor is the probability that a token is hidden."
        )
