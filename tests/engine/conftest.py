"""A source of made-up sentences, an executor that counts what it is asked, and reducers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from glm.engine import Items, Plan

WIDTH = 4


class MadeSource:
    """Blocks of rows with one or two items each; item 1 of a row is the other allele."""

    def __init__(self, *, n_rows: int = 23, rows_per_block: int = 5, parts: int = 1) -> None:
        self.n_rows, self.step, self.parts = n_rows, rows_per_block, parts
        self.asked: list[int] = []

    @property
    def n_blocks(self) -> int:
        return -(-self.n_rows // self.step)

    def _rows(self, block: int) -> np.ndarray:
        return np.arange(block * self.step, min((block + 1) * self.step, self.n_rows))

    def n_items(self, block: int) -> int:
        return self._rows(block).size * self.parts

    def block(self, block: int) -> Items:
        self.asked.append(block)
        row = np.repeat(self._rows(block), self.parts)
        part = np.tile(np.arange(self.parts), row.size // self.parts).astype(np.int32)
        rng = [np.random.default_rng([r, p]) for r, p in zip(row, part, strict=True)]
        sentences = [g.integers(0, 50, g.integers(1, 12)).astype(np.int32) for g in rng]
        lengths = np.array([s.size for s in sentences])
        return Items(
            row=row.astype(np.int64),
            part=part,
            tokens=np.concatenate(sentences),
            offsets=np.concatenate([[0], np.cumsum(lengths)]),
            span=np.stack([np.zeros_like(lengths), lengths], axis=1).astype(np.int32),
            weight=np.ones(row.size, np.float32),
        )


class CountingExecutor:
    """Hidden states that depend on the token and its place in the sentence alone.

    ``fails`` is asked before every batch, with its tokens, and may raise.
    """

    def __init__(self, fails: Callable[[int, int], None] | None = None) -> None:
        self.batches: list[int] = []
        self.sentences: list[int] = []
        self._fails = fails
        self._table = torch.randn(50, WIDTH, generator=torch.Generator().manual_seed(0))

    def hidden(
        self, tokens: torch.Tensor, lengths: Sequence[int], *, layer: int, first_only: bool = False
    ) -> torch.Tensor:
        if self._fails is not None:
            self._fails(len(self.batches), tokens.numel())
        self.batches.append(tokens.numel())
        self.sentences += lengths
        place = torch.cat([torch.arange(n) for n in lengths])
        hidden = self._table[tokens.long()] * (1 + 0.1 * place[:, None])
        starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        return hidden[starts] if first_only else hidden


class AlleleDifference:
    """One vector a row: the mean hidden state of part 1 less that of part 0.

    The two items of a row come in different batches, as sentences of different length do: what the
    engine must allow for.
    """

    whole_rows = True

    def __init__(self, sink: Any) -> None:
        self.sink = sink
        self.start()

    def start(self) -> None:
        self._seen: list[dict[str, np.ndarray]] = []

    def update(self, batch: Items, hidden: torch.Tensor) -> None:
        means = [hidden[a:b].mean(dim=0) for a, b in pairwise(batch.offsets.tolist())]
        vectors = torch.stack(means).numpy()
        self._seen.append({"row": batch.row, "part": batch.part, "vector": vectors})

    def state(self) -> dict[str, np.ndarray]:
        if not self._seen:
            return {}
        return {name: np.concatenate([s[name] for s in self._seen]) for name in self._seen[0]}

    def merge(self, state: dict[str, np.ndarray]) -> None:
        if state:
            self._seen.append(state)

    def finish(self) -> None:
        state = self.state()
        self.start()
        if not state:
            return
        order = np.lexsort((state["part"], state["row"]))
        row, vector = state["row"][order].reshape(-1, 2), state["vector"][order]
        assert (row[:, 0] == row[:, 1]).all()
        self.sink.put(row[:, 0], vector[1::2] - vector[::2])


class TokenSums:
    """Sums over all rows, of each token's hidden states: float32, so that the order tells."""

    whole_rows = False

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        self._sum = np.zeros((50, WIDTH), np.float32)

    def update(self, batch: Items, hidden: torch.Tensor) -> None:
        np.add.at(self._sum, batch.tokens, hidden.numpy())

    def state(self) -> dict[str, np.ndarray]:
        return {"sum": self._sum.copy()}

    def merge(self, state: dict[str, np.ndarray]) -> None:
        self._sum += state["sum"]

    def finish(self) -> None:
        self.result = self._sum
        self.start()


@pytest.fixture
def made() -> Any:
    """The classes of this file: test modules cannot import it."""

    class Made:
        source, executor = MadeSource, CountingExecutor
        difference, sums, width = AlleleDifference, TokenSums, WIDTH

        @staticmethod
        def plan(budget: int = 20) -> Plan:
            return Plan(torch.device("cpu"), "float32", budget)

    return Made
