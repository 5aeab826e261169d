"""Sums over cells of a number for pairs of genes, such as the attention of one to the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from .gene_means import groups_of
from .items import Items

# Of one pair while its mean is made: sum and count, its place, a copy of both, the mean.
PAIR_BYTES = 44


class PairSums:
    """One number a pair of genes and group: the mean over the cells that read both.

    Sums are float64 and counts int32, kept where the model runs: 12 bytes × groups × rows ×
    columns; three copies while parts merge, and at most :data:`PAIR_BYTES` a pair in all, where
    each is found. A cell with a value that is not finite is left out and counted.

    Parameters
    ----------
    row_of_token, column_of_token
        One entry a token of the vocabulary: its place among the rows (the columns) of the result,
        -1 where it has none.
    shape
        Rows and columns of the result.
    group_of_row
        One entry a row of the user's object: its group, -1 to leave it out; ``None`` is one group.
    n_groups
        How many groups there are.
    device
        Where the model runs.

    Attributes
    ----------
    pairs
        One :class:`Pairs` a group; there after ``finish``.
    n_cells
        int64, one a group: cells that were taken in; there after ``finish``.
    n_not_finite
        Cells left out because of values that are not finite; there after ``finish``.
    """

    whole_rows = False

    pairs: list[Pairs]
    n_cells: np.ndarray
    n_not_finite: int

    def __init__(
        self,
        row_of_token: np.ndarray,
        column_of_token: np.ndarray,
        shape: tuple[int, int],
        *,
        group_of_row: np.ndarray | None = None,
        n_groups: int = 1,
        device: torch.device | str = "cpu",
    ) -> None:
        self.shape = (n_groups, *shape)
        self.device = torch.device(device)
        self._row_of_token = row_of_token.astype(np.int64)
        self._column_of_token = column_of_token.astype(np.int64)
        self._group_of_row = group_of_row
        self.start()

    def start(self) -> None:
        """Forget everything."""
        self._sums: _Sums | None = None

    def update(self, batch: Items, hidden: torch.Tensor) -> None:
        """Add the values of a batch: of each item in turn, its rows × its columns, end to end.

        Rows and columns of an item are those of its tokens that have a place, in their order in the
        sentence, as :class:`glm.models.fast.attention.AttentionProbe` gives them.
        """
        group = groups_of(batch.row, self._group_of_row)
        places = [self._places(batch, item) for item in range(len(batch))]
        sizes = [rows.numel() * columns.numel() for rows, columns in places]
        parts = hidden.to(self.device).split(sizes)
        finite = np.array([bool(torch.isfinite(part).all()) for part in parts])
        sums = self._begun()
        self._reserve(max(sizes))
        for item in np.flatnonzero(finite & (group >= 0)).tolist():
            rows, columns = places[item]
            # A gene stands in a sentence once, so no place is met twice.
            place = (rows[:, None], columns[None, :])
            sums.total[group[item]][place] += parts[item].view(rows.numel(), columns.numel())
            sums.n[group[item]][place] += 1
        used = group[finite & (group >= 0)]
        sums.n_cells += np.bincount(used, minlength=self.shape[0])
        sums.n_not_finite += int((~finite).sum())

    def _places(self, batch: Items, item: int) -> tuple[torch.Tensor, torch.Tensor]:
        tokens = batch.tokens[batch.offsets[item] : batch.offsets[item + 1]]
        rows, columns = self._row_of_token[tokens], self._column_of_token[tokens]
        return (
            torch.from_numpy(rows[rows >= 0]).to(self.device),
            torch.from_numpy(columns[columns >= 0]).to(self.device),
        )

    def _reserve(self, n_values: int) -> None:
        """Ask for the memory that the additions need, so that it does not run out between them."""
        torch.empty(4 * n_values, dtype=torch.float64, device=self.device)

    def _begun(self) -> _Sums:
        if self._sums is None:
            self._sums = _Sums(
                total=torch.zeros(self.shape, dtype=torch.float64, device=self.device),
                n=torch.zeros(self.shape, dtype=torch.int32, device=self.device),
                n_cells=np.zeros(self.shape[0], np.int64),
                n_not_finite=0,
            )
        return self._sums

    def state(self) -> dict[str, np.ndarray]:
        """Sums and counts."""
        if self._sums is None:
            return {}
        return {
            "sum": self._sums.total.cpu().numpy().copy(),
            "n": self._sums.n.cpu().numpy().copy(),
            "n_cells": self._sums.n_cells.copy(),
            "n_not_finite": np.array([self._sums.n_not_finite]),
        }

    def merge(self, state: dict[str, np.ndarray]) -> None:
        """Add what another reducer saw."""
        if not state:
            return
        sums = self._begun()
        sums.total += torch.as_tensor(state["sum"], device=self.device)
        sums.n += torch.as_tensor(state["n"], device=self.device)
        sums.n_cells += state["n_cells"]
        sums.n_not_finite += int(state["n_not_finite"][0])

    def finish(self) -> None:
        """Make means of the sums, and forget the sums."""
        sums = self._begun()
        self.pairs = [_mean_pairs(total, n) for total, n in zip(sums.total, sums.n, strict=True)]
        self.n_cells, self.n_not_finite = sums.n_cells, sums.n_not_finite
        self.start()


@dataclass(frozen=True)
class Pairs:
    """The pairs that some cell read, row by row.

    Attributes
    ----------
    row, column
        int64, places of a pair in the result.
    mean
        float32, the mean over the cells that read both.
    n
        int32, how many cells that is.
    """

    row: np.ndarray
    column: np.ndarray
    mean: np.ndarray
    n: np.ndarray


@dataclass
class _Sums:
    total: torch.Tensor
    n: torch.Tensor
    n_cells: np.ndarray
    n_not_finite: int


def _mean_pairs(total: torch.Tensor, n: torch.Tensor) -> Pairs:
    counts = n.cpu().numpy()
    row, column = np.nonzero(counts)
    count = counts[row, column]
    mean = total.cpu().numpy()[row, column]
    mean /= count
    return Pairs(row, column, mean.astype(np.float32), count)
