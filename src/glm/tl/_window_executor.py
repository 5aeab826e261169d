"""Windows to tracks on the device: readings averaged, bins reduced."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..models.enformer import EMBEDDINGS

if TYPE_CHECKING:
    from ..engine import Items
    from ..models.fast.enformer import FastEnformer
    from ._track_job import TrackReading
    from ._window_source import Geometry


class WindowExecutor:
    """Reads windows one at a time; only the bins and tracks that are asked for are computed.

    Parameters
    ----------
    fast
        The model on its device.
    reading
        What is read out of a window.
    geometry
        Its bases and bins.
    """

    item = "window of {n} bases"

    def __init__(self, fast: FastEnformer, reading: TrackReading, geometry: Geometry) -> None:
        self._fast, self._reading, self._geometry = fast, reading, geometry

    def read(self, batch: Items) -> Tensor:
        """float32, items × numbers of a row's result."""
        found = []
        for i, (low, high) in enumerate(batch.span.tolist()):
            codes = batch.tokens[batch.offsets[i] : batch.offsets[i + 1]]
            values = self._mean(torch.from_numpy(codes), range(low, high))
            found.append(self._reduced(values, low, high))
        return torch.stack(found)

    def _mean(self, codes: Tensor, bins: range) -> Tensor:
        """Bins × tracks: the mean over shifts and strands, which follow one another."""
        reading, size = self._reading, self._geometry.window_bp
        last = self._geometry.n_bins - 1
        total: Tensor | None = None
        number = 0
        for shift in reading.shifts:
            start = reading.margin_bp + shift
            window = codes[start : start + size]
            for reverse in (False, True)[: 1 + reading.strand_average]:
                if reverse:  # what was the first bin is the last one, and a track its partner
                    mirrored = [last - place for place in bins]
                    values = self._predict(reverse_complement(window), mirrored, reading.paired)
                else:
                    values = self._predict(window, list(bins), reading.index)
                total = values if total is None else total.add_(values)
                number += 1
        assert total is not None
        return total if number == 1 else total.div_(number)

    def _predict(self, window: Tensor, bins: list[int], tracks: tuple[int, ...]) -> Tensor:
        window = window[None].to(self._fast.device)
        head = self._reading.head
        if not head:
            return self._fast.predict(window, tracks={}, bins=bins, embeddings=True)[EMBEDDINGS][0]
        return self._fast.predict(window, tracks={head: tracks}, bins=bins)[head][0]

    def _reduced(self, values: Tensor, low: int, high: int) -> Tensor:
        match self._reading.bins:
            case "mean":
                return values.mean(dim=0)
            case "sum":
                return values.sum(dim=0)
            case "max":
                return values.amax(dim=0)
        assert self._reading.frame is not None
        first, stop = self._reading.frame
        whole = values.new_full((stop - first, values.shape[1]), torch.nan)
        whole[low - first : high - first] = values
        return whole.flatten()


def reverse_complement(codes: Tensor) -> Tensor:
    """The other strand of codes; what is not known stays so."""
    table = torch.tensor([3, 2, 1, 0, 4], dtype=torch.uint8, device=codes.device)
    return table[codes.flip(0).long()]
