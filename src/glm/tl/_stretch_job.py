"""From the tiles of a stretch to bins × tracks by way of the engine: arrays and a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .._progress import progress_bar
from ..models.enformer_config import BIN_BP
from ._job_kinds import AnyJob
from ._stretch_source import StretchSource
from ._track_job import TrackReading
from ._window_executor import reverse_complement

if TYPE_CHECKING:
    from ..engine import Items, Plan, Runner
    from ..models.fast.enformer import FastEnformer
    from ..models.track_model import TrackModel


@dataclass(frozen=True)
class StretchJob(AnyJob):
    """The prediction of a stretch: a row of its result are the bins of tiles read together.

    Attributes
    ----------
    source, model
        The tiles, and the model that reads them.
    plan
        Device, precision, budget: a window.
    track_reading
        What is read out of a window.
    what
        What is done, for the progress bar.
    """

    source: StretchSource
    model: TrackModel
    plan: Plan
    track_reading: TrackReading
    what: str = "predict a stretch"

    @property
    def name(self) -> str:
        return self.model.spec.name

    @property
    def width(self) -> int:
        return self.source.tiling.bins_a_row * self.track_reading.n_columns

    def executor(self, plan: Plan, told: Callable[[int], None] = lambda n: None) -> StretchExecutor:
        from ..models.fast.enformer import FastEnformer

        precision: Literal["float32", "mixed"]
        precision = "mixed" if plan.precision == "mixed" else "float32"
        fast = FastEnformer(self.model.network, device=plan.device, precision=precision)
        return StretchExecutor(fast, self.track_reading, self.source, told)

    def runner(self, advance: Callable[[int], None], device: torch.device | None = None) -> Runner:
        from ..engine import Runner

        plan = self.plan if device is None else dataclasses.replace(self.plan, device=device)
        told = advance.tiles if isinstance(advance, _Bar) else advance
        return Runner(self.executor(plan, told), plan)

    def progress(self, *, shown: bool = True) -> AbstractContextManager[_Bar]:
        """A bar of the tiles, which take long enough to be counted one by one."""
        return self._bar() if shown else nullcontext(_Bar(lambda n: None, 0))

    @contextmanager
    def _bar(self) -> Iterator[_Bar]:
        source = self.source
        with progress_bar(source.n_tiles, "tiles", f"{self.what} with {self.name}") as advance:
            yield _Bar(advance, source.tiling.together)

    def facts_of_model(self) -> dict[str, Any]:
        return {"weights_sha256": self.model.weights_fingerprint, **self.track_reading.facts()}

    def memory(self, longest: int) -> dict[str, int]:
        shape = self.model.spec.shape
        held = 3 * (self.source.tiling.geometry.window_bp // 4) * shape.tower[0]
        return {"model_bytes": 4 * shape.n_parameters, "batch_bytes": 4 * (held + self.width)}


class _Bar:
    """Is told of rows that an earlier run finished, and of single tiles."""

    def __init__(self, tiles: Callable[[int], None], together: int) -> None:
        self.tiles, self._together = tiles, together

    def __call__(self, n_rows: int) -> None:
        self.tiles(n_rows * self._together)


class StretchExecutor:
    """Reads tiles together: what the first layers make is shared where windows overlap.

    Parameters
    ----------
    fast
        The model on its device.
    reading
        What is read out of a window.
    source
        The tiles: which of their bins are wanted.
    told
        Is told of each tile that is done.
    """

    item = "row of tiles, {n} bases"

    def __init__(
        self,
        fast: FastEnformer,
        reading: TrackReading,
        source: StretchSource,
        told: Callable[[int], None],
    ) -> None:
        self._fast, self._reading, self._told = fast, reading, told
        self._wanted, self._geometry = source.wanted, source.tiling.geometry

    def read(self, batch: Items) -> Tensor:
        """float32, items × (bins of a row × tracks); NaN in bins that are not wanted."""
        found = []
        for i, row in enumerate(batch.row.tolist()):
            codes = torch.from_numpy(batch.tokens[batch.offsets[i] : batch.offsets[i + 1]])
            found.append(self._row(codes, self._wanted[row]))
        return torch.stack(found)

    def _row(self, codes: Tensor, wanted: NDArray[np.bool_]) -> Tensor:
        geometry, reading = self._geometry, self._reading
        of_tiles = wanted.reshape(-1, geometry.n_bins)
        tiles = np.flatnonzero(of_tiles.any(axis=1)).tolist()
        bins = np.flatnonzero(of_tiles[tiles].any(axis=0)).tolist()
        n_columns, device = reading.n_columns, self._fast.device
        total = torch.zeros(*of_tiles.shape, n_columns, device=device)
        ways = [(shift, back) for shift in reading.shifts for back in self._strands()]
        for number, (shift, back) in enumerate(ways, start=1):
            start = reading.margin_bp + shift
            stretch = codes[start : len(codes) - reading.margin_bp + shift]
            last = number == len(ways)
            for tile, values in self._predict(stretch, tiles, bins, back=back):
                total[tile, bins] += values
                if last:
                    self._told(1)
        if len(ways) > 1:
            total /= len(ways)
        mask = torch.from_numpy(~wanted).to(device)
        return total.flatten(0, 1).masked_fill_(mask[:, None], torch.nan).flatten()

    def _strands(self) -> tuple[bool, ...]:
        return (False, True) if self._reading.strand_average else (False,)

    def _predict(
        self, stretch: Tensor, tiles: list[int], bins: list[int], *, back: bool
    ) -> Iterator[tuple[int, Tensor]]:
        """Of each tile its bins × tracks, in the order in which their windows share most."""
        geometry, reading = self._geometry, self._reading
        index = reading.paired if back else reading.index
        starts = [geometry.output_bp * tile for tile in tiles]
        if back:  # the last tile is the first one of the other strand, a bin its mirror image
            stretch = reverse_complement(stretch)
            starts = [len(stretch) - geometry.window_bp - start for start in starts][::-1]
            tiles, bins = tiles[::-1], [geometry.n_bins - 1 - place for place in bins]
        windows = self._fast.predict_shifted(
            stretch.to(self._fast.device),
            starts,
            geometry.window_bp,
            tracks={reading.head: index},
            bins=bins,
        )
        for tile, found in zip(tiles, windows, strict=True):
            yield tile, found[reading.head]


def stretch_values(
    job: StretchJob, *, out: Any = None, devices: Any = None, strategy: str = "auto"
) -> NDArray[np.float32]:
    """Compute a job's predictions: bins × tracks of the stretch, float32.

    NaN where bins are not predicted. With ``out`` they are a memory map of a file in it.
    """
    from ._job import embed_rows
    from ._track_job import TRACKS_FILE

    found = embed_rows(job, "cls", out=out, devices=devices, strategy=strategy, file=TRACKS_FILE)
    tiling = job.source.tiling
    return tiling.own(found.reshape(tiling.n_rows, tiling.bins_a_row, -1))


def bins_of(job: StretchJob) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Where each bin begins and ends, and whether it is predicted."""
    tiling = job.source.tiling
    start = tiling.start + BIN_BP * np.arange(tiling.n_bins, dtype=np.int64)
    return start, start + BIN_BP, tiling.own(job.source.wanted)
