"""From sentences to batches of similar lengths, shared out among devices, the same every time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .batches import Batch
from .epochs import Epoch, EpochData
from .objectives import Objective
from .recipes import Recipe
from .sentences import Sentences

_GROUP = 512  # sentences that are sorted by length together: little padding, no two epochs alike


def length_grouped(
    lengths: np.ndarray,
    rng: np.random.Generator,
    *,
    tokens: int | None = None,
    rows: int | None = None,
    group: int = _GROUP,
) -> list[np.ndarray]:
    """Cut sentences into batches of similar lengths, in an order that ``rng`` draws.

    Sentences are shuffled, sorted by length within groups of about ``group``, cut into batches of
    at most ``tokens`` (padding included) and ``rows``, and the batches shuffled.
    """
    order = rng.permutation(lengths.size)
    groups = np.array_split(order, max(1, round(order.size / group)))
    order = np.concatenate([some[np.argsort(lengths[some], kind="stable")] for some in groups])
    found = cut(order, lengths, tokens=tokens, rows=rows)
    return [found[i] for i in rng.permutation(len(found))]


def cut(
    order: np.ndarray, lengths: np.ndarray, *, tokens: int | None = None, rows: int | None = None
) -> list[np.ndarray]:
    """Cut an order into batches of at most ``rows``, and of ``tokens`` once padded.

    A sentence that is longer than ``tokens`` is a batch of its own.
    """
    most_rows = rows or order.size
    most_tokens = tokens or int(lengths.max(initial=1)) * order.size
    starts, first, longest = [0], 0, 0
    for i, length in enumerate(lengths[order].tolist()):
        longest = max(longest, length)
        n = i - first
        if n and (n >= most_rows or longest * (n + 1) > most_tokens):
            starts.append(i)
            first, longest = i, length
    return np.split(order, starts[1:])


@dataclass(frozen=True)
class _Maker:
    """Makes batches of sentences, each with draws of its own that nothing else decides."""

    objective: Objective
    sentences: Sentences
    seed: tuple[int, ...]
    training: bool

    def __call__(self, chosen: np.ndarray) -> Batch:
        # No two batches of an epoch begin with the same sentence: it names the draw.
        rng = np.random.default_rng((*self.seed, int(chosen[0])))
        return self.objective.batch(self.sentences, chosen, rng, training=self.training)


class TrainingData(EpochData):
    """Training and held-out sentences, put before an objective in batches.

    Which sentences are in a batch, and every draw of the objective, depend on the recipe's seed,
    the epoch and the batch's first sentence alone: not on the process, nor on what else was drawn.

    Parameters
    ----------
    train
        Sentences to train on.
    objective
        Makes batches of them.
    recipe
        Size of batches, and seed.
    held_out
        Sentences to measure on; they always get the same draws.
    each_epoch
        Called with the epoch's number for the sentences of that epoch.
    workers
        Processes that make batches ahead.
    """

    def __init__(
        self,
        train: Sentences,
        objective: Objective,
        recipe: Recipe,
        *,
        held_out: Sentences | None = None,
        each_epoch: Callable[[int], Sentences] | None = None,
        workers: int = 0,
    ) -> None:
        super().__init__(workers)
        self.train, self.held_out, self.each_epoch = train, held_out, each_epoch
        self.objective, self.recipe = objective, recipe
        self._latest: tuple[int, Sentences] | None = None

    def training(self, epoch: int) -> Epoch:
        sentences = self._sentences(epoch)
        make = _Maker(self.objective, sentences, (self.recipe.seed, 1, epoch), True)
        return Epoch(make, self._cut(sentences, epoch))

    def measuring(self) -> Epoch | None:
        if self.held_out is None:
            return None
        recipe, lengths = self.recipe, self.held_out.lengths
        order = np.argsort(lengths, kind="stable")
        found = cut(order, lengths, tokens=recipe.tokens_per_batch, rows=recipe.rows_per_batch)
        return Epoch(_Maker(self.objective, self.held_out, (recipe.seed, 2), False), found)

    def _sentences(self, epoch: int) -> Sentences:
        if self.each_epoch is None:
            return self.train
        if self._latest is None or self._latest[0] != epoch:  # asked for several times in a row
            self._latest = (epoch, self.each_epoch(epoch))
        return self._latest[1]

    def _cut(self, sentences: Sentences, epoch: int) -> list[np.ndarray]:
        recipe = self.recipe
        return length_grouped(
            sentences.lengths,
            np.random.default_rng((recipe.seed, epoch)),
            tokens=recipe.tokens_per_batch,
            rows=recipe.rows_per_batch,
        )
