"""Which k bases follow 50 known ones? A linear probe on frozen embeddings, and on k-mer counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from dna_tiny.baselines import number_of
from glm.bases import N
from glm.models import Model

LENGTH_BP = 50
LONGEST = 6
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
_BATCH = 256


@dataclass(frozen=True, eq=False)
class Task:
    """Sequences and the bases behind them: uint8, n × 50 and n × 6; ``window``: int64, one each."""

    known: np.ndarray
    following: np.ndarray
    window: np.ndarray

    def classes(self, k: int) -> np.ndarray:
        """int64: the next k bases as one number."""
        return number_of(self.following[:, :k].T, len(self.known))


def draw_task(stretches: Sequence[np.ndarray], n: int, seed: int) -> Task:
    """So many places drawn from stretches by their lengths, none with an unknown base."""
    rng = np.random.default_rng(seed)
    total = LENGTH_BP + LONGEST
    room = np.array([max(0, codes.size - total + 1) for codes in stretches])
    found, of = [], []
    while len(found) < n:
        i = int(rng.choice(room.size, p=room / room.sum()))
        start = int(rng.integers(0, room[i]))
        codes = stretches[i][start : start + total]
        if (codes != N).all():
            found.append(codes)
            of.append(i)
    rows = np.stack(found)
    return Task(rows[:, :LENGTH_BP], rows[:, LENGTH_BP:], np.array(of))


def embed(model: Model, codes: np.ndarray) -> np.ndarray:
    """float64, sequences × width: mean of the last layer over the tokens of each sequence."""
    vocabulary, special = model.vocabulary, model.vocabulary.special
    offsets = np.arange(len(codes) + 1) * codes.shape[1]
    tokens, starts, _ = vocabulary.encode(codes.ravel(), offsets)
    lengths = np.diff(starts)
    found = np.empty((len(codes), model.spec.shape.hidden_size))
    for first in range(0, len(codes), _BATCH):
        n = lengths[first : first + _BATCH]
        inside = np.arange(n.max()) < n[:, None]
        table = np.full((n.size, n.max() + 2), special["pad"], np.int64)
        table[:, 0] = special["cls"]
        table[:, 1:-1][inside] = tokens[starts[first] : starts[first + n.size]]
        table[np.arange(n.size), n + 1] = special["eos"]
        mask = torch.from_numpy(np.arange(n.max() + 2) < n[:, None] + 2)
        with torch.inference_mode():
            hidden = model.encoder(torch.from_numpy(table), mask)[:, 1:-1].numpy()
        found[first : first + n.size] = (hidden * inside[:, :, None]).sum(1) / n[:, None]
    return found


class KmerCounts:
    """TF-IDF of overlapping k-mers, weights from the sequences it was fitted on."""

    def __init__(self, codes: np.ndarray, k: int) -> None:
        self.k = k
        seen = (self._count(codes) > 0).sum(axis=0)
        self._weights = np.log((1 + len(codes)) / (1 + seen)) + 1

    def _count(self, codes: np.ndarray) -> np.ndarray:
        n = codes.shape[1] - self.k + 1
        number = np.zeros((len(codes), n), np.int64)
        for i in range(self.k):
            number = number << 2 | codes[:, i : i + n]
        rows = np.arange(len(codes))[:, None] * 4**self.k
        return np.bincount((rows + number).ravel(), minlength=len(codes) * 4**self.k).reshape(
            len(codes), -1
        )

    def __call__(self, codes: np.ndarray) -> np.ndarray:
        """float64, sequences × 4**k, each of length 1."""
        table = self._count(codes) * self._weights
        return table / np.linalg.norm(table, axis=1, keepdims=True)


def probe(
    train: tuple[np.ndarray, np.ndarray],
    choose: tuple[np.ndarray, np.ndarray],
    test: np.ndarray,
    n_classes: int,
) -> np.ndarray:
    """Classes that a linear probe says for test features.

    Least squares on the classes as 0 and 1 (what it says is then the linear estimate of each
    class's probability), features standardised, the penalty chosen on ``choose`` by accuracy.
    """
    features, classes = train
    mean, spread = features.mean(axis=0), features.std(axis=0) + 1e-9
    x = (features - mean) / spread
    sums = np.zeros((n_classes, x.shape[1]))
    np.add.at(sums, classes, x)
    share = np.bincount(classes, minlength=n_classes) / classes.size
    values, vectors = np.linalg.eigh(x.T @ x / len(x))
    turned = vectors.T @ sums.T / len(x)
    turned_choose = (choose[0] - mean) / spread @ vectors
    best: tuple[float, float] = (-1.0, 0.0)
    for penalty in PENALTIES:
        said = turned_choose @ (turned / (values + penalty)[:, None]) + share
        best = max(best, (float((said.argmax(axis=1) == choose[1]).mean()), penalty))
    weights = turned / (values + best[1])[:, None]
    return ((test - mean) / spread @ vectors @ weights + share).argmax(axis=1)
