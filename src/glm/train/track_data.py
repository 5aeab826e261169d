"""From windows to batches: one organism each, in turn, the same every time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .._messages import first_names
from .epochs import Epoch, EpochData
from .objectives.tracks import TrackBatch, TrackPoisson
from .recipes import Recipe
from .windows import TrackWindows


class Part(NamedTuple):
    """What goes into a batch: its number in the epoch, and windows of one head."""

    number: int
    head: str
    rows: np.ndarray


def in_turn(sizes: Mapping[str, int], rows: int, per_step: int, key: tuple[int, ...]) -> list[Part]:
    """The batches of an epoch: steps of one head after steps of another, in a drawn order.

    Each head has as many batches as the largest; one with fewer windows starts again in a new
    order. Where the number of batches is no multiple of ``per_step``, the last steps mix heads.

    Parameters
    ----------
    sizes
        Windows of each head.
    rows
        Windows of a batch.
    per_step
        Batches of a step of the optimiser.
    key
        What decides the order.
    """
    n = max(-(-size // rows) for size in sizes.values())
    drawn = {
        head: _shuffled(size, rows, n, np.random.default_rng((*key, i)))
        for i, (head, size) in enumerate(sizes.items())
    }
    order = [
        (head, some)
        for first in range(0, n, per_step)
        for head, batches in drawn.items()
        for some in batches[first : first + per_step]
    ]
    return [Part(number, head, some) for number, (head, some) in enumerate(order)]


def _shuffled(size: int, rows: int, n: int, rng: np.random.Generator) -> list[np.ndarray]:
    found: list[np.ndarray] = []
    while len(found) < n:
        order = rng.permutation(size)
        found += [order[first : first + rows] for first in range(0, size, rows)]
    return found[:n]


@dataclass(frozen=True)
class _Maker:
    """Makes batches of windows, each with draws that its number decides."""

    objective: TrackPoisson
    windows: Mapping[str, TrackWindows]
    seed: tuple[int, ...]
    training: bool

    def __call__(self, part: Part) -> TrackBatch:
        rng = np.random.default_rng((*self.seed, part.number))
        of_head = self.windows[part.head]
        return self.objective.batch(of_head, part.rows, rng, training=self.training)


class TrackData(EpochData):
    """Training and held-out windows of one organism or several.

    Which windows are in a batch, and how they are moved and turned, depends on the recipe's seed,
    the epoch and the batch's number alone.

    Parameters
    ----------
    train, held_out
        Head to its windows; ``held_out`` may lack heads, or be empty.
    objective
        Makes batches.
    recipe
        Size of batches and of steps, and seed.
    workers
        Processes that make batches ahead.
    """

    def __init__(
        self,
        train: Mapping[str, TrackWindows],
        objective: TrackPoisson,
        recipe: Recipe,
        *,
        held_out: Mapping[str, TrackWindows],
        workers: int = 0,
    ) -> None:
        super().__init__(workers)
        self.train, self.held_out = dict(train), dict(held_out)
        self.objective, self.recipe = objective, recipe

    def training(self, epoch: int) -> Epoch:
        recipe = self.recipe
        sizes = {head: len(windows) for head, windows in self.train.items()}
        parts = in_turn(sizes, self._rows(sizes), self._per_step, (recipe.seed, epoch))
        return Epoch(_Maker(self.objective, self.train, (recipe.seed, 1, epoch), True), parts)

    def measuring(self) -> Epoch | None:
        if not self.held_out:
            return None
        parts: list[Part] = []
        for head, windows in self.held_out.items():
            each = self._rows({head: len(windows)})
            for first in range(0, len(windows), each):
                rows = np.arange(first, min(first + each, len(windows)))
                parts.append(Part(len(parts), head, rows))
        return Epoch(_Maker(self.objective, self.held_out, (self.recipe.seed, 2), False), parts)

    def named(self, part: Any) -> str:
        return f"{part.head} windows {first_names(part.rows.tolist())}"

    def _rows(self, sizes: Mapping[str, int]) -> int:
        return self.recipe.rows_per_batch or max(sizes.values())

    @property
    def _per_step(self) -> int:
        if self.trainer is None:
            return self.recipe.batches_per_step
        return self.trainer.accumulate_grad_batches * self.trainer.world_size
