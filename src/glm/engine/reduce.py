"""Reducers: gather the hidden states of items into one result a row, on the device."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch

from .items import Items
from .sinks import Sink


class Reducer(Protocol):
    """What gathers items. Its state can be saved, and two states merge into one.

    Attributes
    ----------
    whole_rows
        Whether what it gathers is complete once all items of a row were seen, so that each block
        can be finished by itself (vectors of rows). False for what adds up over rows (means of
        genes, sums over pairs of genes), which is finished once, at the end.
    """

    whole_rows: bool

    def start(self) -> None:
        """Forget everything."""

    def update(self, batch: Items, hidden: torch.Tensor) -> None:
        """Take in the hidden states of a batch, tokens × width.

        One that fails must leave the state as it was: where memory ran out, the batch comes again
        in halves.
        """

    def state(self) -> dict[str, np.ndarray]:
        """The state as plain arrays, which later updates do not change; empty if it is empty."""

    def merge(self, state: dict[str, np.ndarray]) -> None:
        """Take in the state of another reducer that saw other items.

        Merging into an empty reducer must give that state to the last bit.
        """

    def finish(self) -> None:
        """Hand the result on, of all rows that were seen, and forget everything."""


class PoolRows:
    """One vector a row: the weighted mean over its items of each item's pooled hidden states.

    ``pooling="mean"`` averages the positions of an item's span; ``"cls"`` takes position 0, and
    then expects hidden states of items × width.
    """

    whole_rows = True

    def __init__(self, pooling: str, sink: Sink) -> None:
        self.pooling = pooling
        self.sink = sink
        self.start()

    def start(self) -> None:
        self._seen: list[dict[str, np.ndarray]] = []

    def update(self, batch: Items, hidden: torch.Tensor) -> None:
        pooled = hidden if self.pooling == "cls" else mean_of_spans(hidden, batch)
        self._seen.append(
            {
                "row": batch.row,
                "part": batch.part,
                "weight": batch.weight,
                "vector": pooled.float().cpu().numpy(),
            }
        )

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
        # By row, then part: however the work was cut, a row's items are summed in the same order.
        order = np.lexsort((state["part"], state["row"]))
        rows, starts = np.unique(state["row"][order], return_index=True)
        vectors = state["vector"][order]
        if rows.size < order.size:
            weights = state["weight"][order].astype(np.float64)[:, None]
            total = np.add.reduceat(vectors * weights, starts, axis=0)
            vectors = (total / np.add.reduceat(weights, starts, axis=0)).astype(np.float32)
        self.sink.put(rows, vectors)


def mean_of_spans(hidden: torch.Tensor, batch: Items) -> torch.Tensor:
    """Mean of the hidden states inside each item's span: items × width."""
    start = batch.offsets[:-1] + batch.span[:, 0]
    stop = batch.offsets[:-1] + batch.span[:, 1]
    means = [hidden[a:b].mean(dim=0) for a, b in zip(start.tolist(), stop.tolist(), strict=True)]
    return torch.stack(means)
