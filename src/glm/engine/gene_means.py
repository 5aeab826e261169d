"""Means over cells: of each gene's hidden states (a reducer), of cell embeddings (a sink)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from .items import Items

# Of one number of a mean while it is made: the sum, a copy, their quotient, the mean.
NUMBER_BYTES = 28


class GeneMeans:
    """One vector a gene and group: the mean of its hidden states over the cells that read it.

    Sums are kept in float64 where the model runs: 8 bytes × groups × genes × width; at most
    :data:`NUMBER_BYTES` a number while the means are made. A cell whose hidden states are not all
    finite is left out and counted.

    Parameters
    ----------
    gene_of_token
        One entry a token of the vocabulary: place of its gene, -1 where it is none that is wanted.
    n_genes
        Genes that are wanted.
    width
        Width of a hidden state.
    group_of_row
        One entry a row: its group, -1 to leave the row out; ``None`` puts all rows in one.
    n_groups
        How many groups there are.
    device
        Where the model runs.

    Attributes
    ----------
    means
        float32, groups × genes × width, NaN where a gene was in no cell; there after ``finish``.
    n
        int64, groups × genes: cells that read the gene; there after ``finish``.
    n_cells
        int64, one a group: cells that were taken in; there after ``finish``.
    n_not_finite
        Cells left out because of values that are not finite; there after ``finish``.
    """

    whole_rows = False

    means: np.ndarray
    n: np.ndarray
    n_cells: np.ndarray
    n_not_finite: int

    def __init__(
        self,
        gene_of_token: np.ndarray,
        n_genes: int,
        width: int,
        *,
        group_of_row: np.ndarray | None = None,
        n_groups: int = 1,
        device: torch.device | str = "cpu",
    ) -> None:
        self.shape = (n_groups, n_genes, width)
        self.device = torch.device(device)
        self._gene_of_token = gene_of_token.astype(np.int64)
        self._group_of_row = group_of_row
        self.start()

    def start(self) -> None:
        """Forget everything."""
        self._sums: _Sums | None = None

    def update(self, batch: Items, hidden: torch.Tensor) -> None:
        """Add the hidden states of a batch, tokens × width."""
        finite = finite_items(batch, hidden)
        group = groups_of(batch.row, self._group_of_row)
        used = finite & (group >= 0)
        gene = self._gene_of_token[batch.tokens]
        wanted = np.flatnonzero((gene >= 0) & np.repeat(used, batch.lengths))
        place = (np.repeat(group, batch.lengths) * self.shape[1] + gene)[wanted]
        sums = self._begun()
        here = torch.from_numpy(wanted).to(hidden.device)
        states = hidden[here].to(self.device, torch.float64)
        # One addition, and before any number is changed: where memory runs out, nothing was added.
        _add_rows(sums.total, torch.from_numpy(place).to(self.device), states)
        sums.n += np.bincount(place, minlength=sums.n.size)
        sums.n_cells += np.bincount(group[used], minlength=self.shape[0])
        sums.n_not_finite += int((~finite).sum())

    def _begun(self) -> _Sums:
        if self._sums is None:
            n_groups, n_genes, width = self.shape
            total = torch.zeros(n_groups * n_genes, width, dtype=torch.float64, device=self.device)
            n = np.zeros(n_groups * n_genes, np.int64)
            self._sums = _Sums(total, n, np.zeros(n_groups, np.int64), 0)
        return self._sums

    def state(self) -> dict[str, np.ndarray]:
        """Sums and numbers of cells."""
        if self._sums is None:
            return {}
        return {
            "sum": self._sums.total.cpu().numpy().copy(),
            "n": self._sums.n.copy(),
            "n_cells": self._sums.n_cells.copy(),
            "n_not_finite": np.array([self._sums.n_not_finite]),
        }

    def merge(self, state: dict[str, np.ndarray]) -> None:
        """Add what another reducer saw."""
        if not state:
            return
        sums = self._begun()
        sums.total += torch.as_tensor(state["sum"], device=self.device)
        sums.n += state["n"]
        sums.n_cells += state["n_cells"]
        sums.n_not_finite += int(state["n_not_finite"][0])

    def finish(self) -> None:
        """Make means of the sums, and forget the sums."""
        sums = self._begun()
        means = np.full((sums.n.size, self.shape[2]), np.nan, np.float32)
        seen = np.flatnonzero(sums.n)
        means[seen] = sums.total.cpu().numpy()[seen] / sums.n[seen, None]
        self.means, self.n = means.reshape(self.shape), sums.n.reshape(self.shape[:2])
        self.n_cells, self.n_not_finite = sums.n_cells, sums.n_not_finite
        self.start()


@dataclass
class _Sums:
    total: torch.Tensor
    n: np.ndarray
    n_cells: np.ndarray
    n_not_finite: int


def _add_rows(total: torch.Tensor, place: torch.Tensor, rows: torch.Tensor) -> None:
    """Add rows to those at ``place``, always in the same order."""
    if total.device.type == "cuda":  # which adds in any order otherwise; this sorts first
        total.index_put_((place,), rows, accumulate=True)
    else:
        total.index_add_(0, place, rows)


class GroupMeans:
    """A sink that keeps the mean of the finished rows of each group, and not the rows."""

    def __init__(self, group_of_row: np.ndarray, n_groups: int, width: int) -> None:
        self._group_of_row = group_of_row
        self._sum = np.zeros((n_groups, width))
        self.n = np.zeros(n_groups, np.int64)
        self.n_not_finite = 0

    def put(self, rows: np.ndarray, values: np.ndarray) -> None:
        """Add rows to the sums of their groups; those that are not finite are only counted."""
        finite = np.isfinite(values).all(axis=1)
        group = self._group_of_row[rows]
        used = finite & (group >= 0)
        np.add.at(self._sum, group[used], values[used].astype(np.float64))
        self.n += np.bincount(group[used], minlength=self.n.size)
        self.n_not_finite += int((~finite).sum())

    def means(self) -> np.ndarray:
        """float32, groups × width; NaN for a group without a row."""
        means = np.full(self._sum.shape, np.nan, np.float32)
        seen = np.flatnonzero(self.n)
        means[seen] = self._sum[seen] / self.n[seen, None]
        return means


def groups_of(rows: np.ndarray, group_of_row: np.ndarray | None) -> np.ndarray:
    """int64, the group of each row; all are 0 where there is only one."""
    if group_of_row is None:
        return np.zeros(rows.size, np.int64)
    return group_of_row[rows].astype(np.int64)


def finite_items(batch: Items, hidden: torch.Tensor) -> np.ndarray:
    """Whether all hidden states of each item are finite."""
    of_token = torch.isfinite(hidden).all(dim=1).cpu().numpy()
    return np.logical_and.reduceat(of_token, batch.offsets[:-1])
