"""Pieces of held-out windows, and the bases in them that are hidden from everyone alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from glm.bases import N

PIECE_BP = 515
"""Bases that a model reads at once: 510 overlapping 6-mers."""
APART = 40
"""Bases from one hidden place to the next."""
MARGIN = 25
"""Bases at least between a hidden place and an end of its piece."""


@dataclass(frozen=True, eq=False)
class Places:
    """Pieces and the places hidden in each: as many in every piece, ``APART`` bases apart.

    ``codes`` is uint8, pieces × bases; ``hidden`` int64, pieces × places, where the hidden spans
    start; ``window`` int64, one a piece: the window it is from.
    """

    codes: np.ndarray
    hidden: np.ndarray
    window: np.ndarray

    @property
    def truth(self) -> np.ndarray:
        """uint8, pieces × places: the hidden base (of a span the first)."""
        return np.take_along_axis(self.codes, self.hidden, axis=1)

    def around(self, before: int, after: int) -> np.ndarray:
        """uint8, places × bases: from ``before`` bases before a place to ``after`` after it."""
        index = self.hidden[:, :, None] + np.arange(-before, after + 1)
        found = np.take_along_axis(self.codes[:, None, :], index, axis=2)
        return found.reshape(-1, before + 1 + after)


def choose_places(windows: list[np.ndarray], n_pieces: int, seed: int) -> Places:
    """So many pieces of each window, side by side or apart, none with an unknown base."""
    rng = np.random.default_rng(seed)
    codes, of = [], []
    for number, window in enumerate(windows):
        n = window.size // PIECE_BP
        grid = window[: n * PIECE_BP].reshape(n, PIECE_BP)
        known = np.flatnonzero((grid != N).all(axis=1))
        chosen = np.sort(rng.permutation(known)[:n_pieces])
        codes.append(grid[chosen])
        of.append(np.full(chosen.size, number))
    pieces = np.concatenate(codes)
    n_places = (PIECE_BP - 2 * MARGIN) // APART
    shift = rng.integers(0, PIECE_BP - 2 * MARGIN - (n_places - 1) * APART, (len(pieces), 1))
    hidden = MARGIN + shift + APART * np.arange(n_places)
    return Places(pieces, hidden, np.concatenate(of))
