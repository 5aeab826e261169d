"""Predict tracks along windows of DNA, as Enformer does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..._correlation import ColumnSums
from ...bases import reverse_complement
from ...models.config import is_whole
from .regress import Poisson

if TYPE_CHECKING:
    import pandas as pd

    from ...models.enformer import Enformer
    from ..windows import TrackWindows

_COUNTS = Poisson(link="softplus")


@dataclass(frozen=True)
class TrackBatch:
    """Some windows of one organism and the tracks in their middle.

    Attributes
    ----------
    codes
        uint8, windows × bases.
    targets
        float32, windows × bins × tracks; NaN where nothing is known.
    rows
        int64, one a window: its number in the data.
    head
        Which head predicts them.
    crop
        Bins at either end of which nothing is predicted.
    weight
        Windows, each counted by the share of its targets that is known. So each counts alike,
        whatever the number of tracks of its organism.
    """

    codes: Tensor
    targets: Tensor
    rows: Tensor
    head: str
    crop: int
    weight: float

    def through(self, network: Enformer | nn.Module) -> Tensor:
        """Windows × bins × tracks, before softplus: its logarithm is exact from there."""
        read = network.embed(self.codes, crop=self.crop)  # type: ignore[operator]
        return network.heads[self.head](read)  # type: ignore[index, operator]

    def to(self, device: torch.device) -> TrackBatch:
        """The same batch on a device; the numbers of the windows stay where they are."""
        return replace(
            self,
            codes=self.codes.to(device, non_blocking=True),
            targets=self.targets.to(device, non_blocking=True),
        )

    @property
    def kind(self) -> str:
        """What the rows are."""
        return f"{self.head} windows"


@dataclass(frozen=True)
class TrackPoisson:
    """Predict the amounts in the bins of windows by Poisson's likelihood :cite:p:`avsec2021`.

    The loss is the mean of μ - y ln μ over bins and tracks, those left out whose target is NaN. In
    training a window begins a few bases earlier or later, and every other one on average is read as
    its reverse complement: targets are turned round then, and tracks of paired strands swapped.

    Attributes
    ----------
    shift_bp
        Most bases that a window is moved by, either way; all moves are as likely. 0 for none.
    reverse_complement
        Whether the other strand is read half of the time.
    choose_by
        What tells the best epoch on held-out windows: the mean over tracks of Pearson's correlation
        over windows and bins (``"pearson"``), or the ``"loss"``.

    Raises
    ------
    ValueError
        If ``shift_bp`` is below 0 or not whole, or ``choose_by`` something else.

    Examples
    --------
    >>> import glm
    >>> glm.train.TrackPoisson(choose_by="loss").monitor
    ('held_out_loss', 'min')
    """

    shift_bp: int = 3
    reverse_complement: bool = True
    choose_by: Literal["pearson", "loss"] = "pearson"

    def __post_init__(self) -> None:
        if not is_whole(self.shift_bp) or self.shift_bp < 0:
            raise ValueError(f"shift_bp is {self.shift_bp!r}; expected a number of bases, or 0.")
        if self.choose_by not in ("pearson", "loss"):
            raise ValueError(f"choose_by is {self.choose_by!r}; expected 'pearson' or 'loss'.")

    @property
    def monitor(self) -> tuple[str, Literal["min", "max"]]:
        """The highest correlation, or the lowest loss."""
        if self.choose_by == "pearson":
            return "held_out_pearson", "max"
        return "held_out_loss", "min"

    def batch(
        self,
        windows: TrackWindows,
        rows: np.ndarray,
        rng: np.random.Generator,
        *,
        training: bool,
    ) -> TrackBatch:
        """Make the batch of some windows; in training with moves and strands drawn from ``rng``."""
        shifts, turned = np.zeros(rows.size, np.int64), np.zeros(rows.size, bool)
        if training:
            shifts = rng.integers(-self.shift_bp, self.shift_bp + 1, rows.size)
            turned = (rng.random(rows.size) < 0.5) & self.reverse_complement
        codes = windows.cut(rows, shifts)
        targets = windows.targets[rows].astype(np.float32)
        if turned.any():
            codes[turned] = reverse_complement(codes[turned])
            pair = windows.table["strand_pair"].to_numpy()
            targets[turned] = targets[turned, ::-1][..., pair]
        known = np.isfinite(targets).mean(axis=(1, 2))
        return TrackBatch(
            torch.from_numpy(codes),
            torch.from_numpy(targets),
            torch.from_numpy(np.asarray(rows, np.int64)),
            windows.head,
            windows.crop,
            float(known.sum()),
        )

    def loss(self, outputs: Tensor, batch: TrackBatch) -> Tensor:
        """Mean of μ - y ln μ."""
        return _COUNTS.loss(outputs, batch)  # type: ignore[arg-type]

    def scores(self, outputs: Tensor, batch: TrackBatch) -> dict[str, Tensor]:
        """None: correlations are no means over batches (see :class:`TrackCorrelation`)."""
        return {}


class TrackCorrelation:
    """Pearson's correlation of each track over windows and bins, and its means.

    Nothing but sums is kept. A track that is the same everywhere, predicted or measured, has none:
    it is left out of the means and counted.

    Parameters
    ----------
    tables
        Head to the table of its tracks.
    """

    def __init__(self, tables: Mapping[str, pd.DataFrame]) -> None:
        self.assays = {head: table["assay"].to_numpy(str) for head, table in tables.items()}
        self._sums: dict[str, ColumnSums] = {}

    def start(self) -> None:
        """Forget what was added."""
        self._sums = {}

    def add(self, outputs: Tensor, batch: TrackBatch) -> None:
        """Take in a batch; one that weighs nothing repeats another."""
        sums = self._of(batch.head, outputs.device)
        if not batch.weight:
            return
        predicted = F.softplus(outputs.detach().float()).flatten(0, 1).to(sums.like)
        targets = batch.targets.flatten(0, 1).to(sums.like)
        known = targets.isfinite()
        sums.add(targets.nan_to_num(), predicted, known.to(sums.like))

    def values(self, total: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """``pearson`` over all tracks, ``pearson_<assay>``, and with several heads of each."""
        device = next((sums.like.device for sums in self._sums.values()), torch.device("cpu"))
        each = {
            head: self._of(head, device).over_all(total).correlation().cpu().numpy()
            for head in self.assays
        }
        everything = np.concatenate(list(each.values()))
        assays = np.concatenate(list(self.assays.values()))
        found = {"pearson": mean_of_known(everything), **_by_assay("pearson", everything, assays)}
        if len(each) > 1:
            for head, values in each.items():
                name = f"pearson_{head}"
                found[name] = mean_of_known(values)
                found |= _by_assay(name, values, self.assays[head])
        found["tracks_without_pearson"] = float(np.isnan(everything).sum())
        return found

    def _of(self, head: str, device: torch.device) -> ColumnSums:
        if head not in self._sums:
            place = "cpu" if device.type == "mps" else device  # which has no float64
            zeros = torch.zeros(len(self.assays[head]), dtype=torch.float64, device=place)
            self._sums[head] = ColumnSums(zeros)
        return self._sums[head]


def _by_assay(name: str, values: np.ndarray, assays: np.ndarray) -> dict[str, float]:
    names = [assay for assay in np.unique(assays).tolist() if assay]
    return {f"{name}_{assay}": mean_of_known(values[assays == assay]) for assay in names}


def mean_of_known(values: np.ndarray) -> float:
    """The mean of those that are numbers; NaN where none is."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")
