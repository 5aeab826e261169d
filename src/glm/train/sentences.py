"""Sentences to train on, end to end in one array, with what is known about them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

_TAKEN_TOGETHER = 4096  # sentences that are copied at a time


@dataclass(frozen=True, eq=False)
class Sentences:
    """Token sentences end to end, and what is to be learnt about them.

    Attributes
    ----------
    tokens
        Whole numbers, all sentences, special tokens included. May be a memory map.
    offsets
        int64, sentences + 1: where each starts.
    targets
        What an objective is to predict: one a sentence (``level="row"``) or one a token
        (``level="token"``, aligned with ``tokens``); ``None`` where the tokens are the targets.
    factors
        float32, one a token, or ``None``: multiplies the probability that the token is masked
        (below 1 in annotated repeats, for instance).

    Raises
    ------
    ValueError
        If the offsets do not end where the tokens do, or targets or factors are too many or few.

    Examples
    --------
    >>> import numpy as np
    >>> import glm
    >>> cells = glm.train.Sentences(np.array([5, 6, 7, 8, 9], np.int32), np.array([0, 3, 5]))
    >>> len(cells), cells[1].tolist()
    (2, [8, 9])
    """

    tokens: np.ndarray
    offsets: np.ndarray
    targets: np.ndarray | None = None
    factors: np.ndarray | None = None

    def __post_init__(self) -> None:
        n = self.tokens.size
        if not self.offsets.size or self.offsets[0] != 0 or self.offsets[-1] != n:
            raise ValueError(
                f"The offsets run {_ends(self.offsets)}; expected 0 to {n:,}, the number of tokens."
            )
        if self.targets is not None and len(self.targets) not in (n, len(self)):
            raise ValueError(
                f"There are {len(self.targets):,} targets; expected one for each of {len(self):,} "
                f"sentences or of {n:,} tokens."
            )
        if self.factors is not None and len(self.factors) != n:
            raise ValueError(
                f"There are {len(self.factors):,} factors; expected one for each of {n:,} tokens."
            )

    def __len__(self) -> int:
        return self.offsets.size - 1

    def __getitem__(self, i: int) -> np.ndarray:
        return self.tokens[self.offsets[i] : self.offsets[i + 1]]

    @property
    def lengths(self) -> np.ndarray:
        """int64, tokens of each sentence."""
        return np.diff(self.offsets)

    def padded(
        self, chosen: np.ndarray, fill: float, values: np.ndarray | None = None
    ) -> np.ndarray:
        """Chosen × longest of them, filled with ``fill``: tokens (int64), or values one a token."""
        lengths = self.offsets[chosen + 1] - self.offsets[chosen]
        inside = np.arange(lengths.max(initial=0)) < lengths[:, None]
        dtype = np.int64 if values is None else values.dtype
        table = np.full(inside.shape, fill, dtype=dtype)
        table[inside] = (self.tokens if values is None else values)[self.places(chosen)]
        return table

    def subset(self, chosen: np.ndarray) -> Sentences:
        """The chosen sentences (by number), in that order, with their targets and factors."""
        chosen = np.arange(len(self))[chosen]
        offsets = np.concatenate([[0], np.cumsum(self.lengths[chosen])]).astype(np.int64)
        targets = self.targets
        if targets is not None:
            of_tokens = len(targets) == self.tokens.size
            targets = self._taken(targets, chosen, offsets) if of_tokens else targets[chosen]
        factors = None if self.factors is None else self._taken(self.factors, chosen, offsets)
        return Sentences(self._taken(self.tokens, chosen, offsets), offsets, targets, factors)

    def _taken(self, values: np.ndarray, chosen: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """Values of the chosen sentences' tokens, some at a time: places are wider than tokens."""
        found = np.empty((int(offsets[-1]), *values.shape[1:]), values.dtype)
        for first in range(0, chosen.size, _TAKEN_TOGETHER):
            some = chosen[first : first + _TAKEN_TOGETHER]
            found[offsets[first] : offsets[first + some.size]] = values[self.places(some)]
        return found

    @property
    def fingerprint(self) -> str:
        """Hash of all of it: what a resumed run must agree on. Reads every token once."""
        digest = hashlib.sha256()
        for part in (self.tokens, self.offsets, self.targets, self.factors):
            if part is not None:
                digest.update(f"{part.dtype.str}{part.shape}".encode())
                digest.update(np.ascontiguousarray(part).data)
        return digest.hexdigest()

    def places(self, chosen: np.ndarray) -> np.ndarray:
        """Where the tokens of the chosen sentences are, one sentence after the other."""
        starts = self.offsets[chosen]
        lengths = self.offsets[chosen + 1] - starts
        ends = np.cumsum(lengths)
        return np.arange(lengths.sum()) + np.repeat(starts - (ends - lengths), lengths)


def _ends(offsets: np.ndarray) -> str:
    return f"{offsets[0]:,} to {offsets[-1]:,}" if offsets.size else "over nothing"
