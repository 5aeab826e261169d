"""From windows of a genome to predicted tracks by way of the engine: arrays and a model."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..models.config import is_whole
from ..models.enformer_config import BIN_BP
from ..models.track_model import TrackModel
from ._job import Devices, embed_rows, plan_job
from ._job_kinds import AnyJob
from ._window_executor import WindowExecutor
from ._window_source import Geometry, WindowSource

if TYPE_CHECKING:
    from ..engine import Plan, RunPlan
    from ..genome import Genome
    from ..regions import Regions

Bins = Literal["mean", "sum", "max", "region", "all"]
"""What is made of a region's bins: one number, or all of them; ``"all"`` of the whole output."""

TrackPrecision = Literal["float32", "mixed"]

TRACKS_FILE = "tracks.npy"

MOST_SHIFT_BP = BIN_BP // 2
"""Bases by which a window may be shifted for an average: bins are taken for the same ones."""


@dataclass(frozen=True)
class TrackReading:
    """What is read out of a window.

    Attributes
    ----------
    head
        The head, ``""`` for embeddings.
    index, paired
        Numbers of the tracks in the head's output, and those of their partners on the other strand.
    bins
        What is made of an item's bins.
    frame
        Half-open bins of the output that a row's result holds; ``None`` where they are reduced.
    strand_average
        Whether the reverse complement is read too.
    shifts
        By how many bases the windows that are averaged lie to the right.
    n_columns
        Tracks, or the width of an embedding.
    """

    head: str
    index: tuple[int, ...]
    paired: tuple[int, ...]
    bins: Bins
    frame: tuple[int, int] | None
    strand_average: bool
    shifts: tuple[int, ...]
    n_columns: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a row's result."""
        if self.frame is None:
            return (self.n_columns,)
        return (self.frame[1] - self.frame[0], self.n_columns)

    @property
    def width(self) -> int:
        """Numbers of a row's result."""
        return int(np.prod(self.shape))

    @property
    def margin_bp(self) -> int:
        """Bases that are read beyond both ends of a window."""
        return max(map(abs, self.shifts))

    def facts(self) -> dict[str, Any]:
        """All of it as plain values, the tracks as a hash."""
        index = np.array([self.index, self.paired], np.int64).tobytes()
        return {
            "head": self.head,
            "n_columns": self.n_columns,
            "tracks_sha256": hashlib.sha256(index).hexdigest(),
            "bins": self.bins,
            "frame": list(self.frame or ()),
            "strand_average": self.strand_average,
            "shifts": list(self.shifts),
        }


@dataclass(frozen=True)
class TrackJob(AnyJob):
    """A job of a model that predicts tracks.

    Attributes
    ----------
    source, model
        The windows, and the model that reads them.
    plan
        Device, precision, budget: a window.
    track_reading
        What is read out of a window.
    facts
        What else a result depends on.
    what
        What is done, for the progress bar.
    """

    source: WindowSource
    model: TrackModel
    plan: Plan
    track_reading: TrackReading
    facts: dict[str, Any] = field(default_factory=dict)
    what: str = "predict tracks"

    @property
    def name(self) -> str:
        return self.model.spec.name

    @property
    def width(self) -> int:
        return self.track_reading.width

    def executor(self, plan: Plan) -> WindowExecutor:
        from ..models.fast.enformer import FastEnformer

        precision: TrackPrecision = "mixed" if plan.precision == "mixed" else "float32"
        fast = FastEnformer(self.model.network, device=plan.device, precision=precision)
        return WindowExecutor(fast, self.track_reading, self.source.geometry)

    def facts_of_model(self) -> dict[str, Any]:
        return {
            "weights_sha256": self.model.weights_fingerprint,
            "shape": [self.source.n_rows, *self.track_reading.shape],
            **self.track_reading.facts(),
            **self.facts,
        }

    def memory(self, longest: int) -> dict[str, int]:
        shape = self.model.spec.shape
        # Convolutions of width 5 are there once more in six columns for five; see models.fast.
        wide = sum(5 * a * b for a, b in zip((shape.stem, *shape.tower), shape.tower, strict=False))
        copies = 4 * wide * 6 // 5
        if self.plan.precision == "mixed":
            copies += 2 * shape.depth * 7 * shape.channels**2
        # The first layer's result is the largest that is held; beside it the next one's, the
        # transformer's and what is computed of a chunk.
        return {
            "model_bytes": 4 * shape.n_parameters + copies,
            "batch_bytes": 3 * 4 * (longest // 4) * shape.tower[0],
        }


def make_reading(
    model: TrackModel,
    head: str | None,
    index: Sequence[int] | NDArray[np.int64] = (),
    *,
    bins: Bins = "mean",
    frame: tuple[int, int] | None = None,
    strand_average: bool = False,
    shifts: Iterable[int] = (0,),
) -> TrackReading:
    """What is read out of windows: some tracks of a head, or without one the embeddings.

    Raises
    ------
    ValueError, TypeError
        If there is no such way to reduce bins, or a shift is none.
    """
    check_bins(bins)
    shifts = check_shifts(shifts)
    if head is None:
        own: tuple[int, ...] = ()
        paired, n_columns = own, model.spec.shape.embedding_size
    else:
        partner = model.tables[head]["strand_pair"].to_numpy()
        own = tuple(int(i) for i in index)
        paired = tuple(int(i) for i in partner[list(own)])
        n_columns = len(own)
    return TrackReading(
        head or "", own, paired, bins, frame, bool(strand_average), shifts, n_columns
    )


def make_source(
    model: TrackModel,
    reading: TrackReading,
    regions: Regions,
    rows: NDArray[np.int64],
    n_rows: int,
    *,
    genome: Genome,
    spans: NDArray[np.int64] | None = None,
    weights: NDArray[np.float64] | None = None,
    max_n_share: float = 0.1,
    max_n_share_window: float = 0.5,
    edges: str = "clip",
) -> WindowSource:
    """The windows around regions (see :class:`WindowSource`), as a model and a reading need them.

    With ``bins="all"`` all bins of the output are read.

    Raises
    ------
    ValueError
        If no window can be read; else as :class:`WindowSource`.
    """
    geometry = Geometry.of(model.spec)
    if reading.bins == "all":
        spans = np.tile(np.array([[0, geometry.n_bins]]), (len(regions), 1))
    source = WindowSource(
        regions,
        rows,
        n_rows,
        genome=genome,
        geometry=geometry,
        margin_bp=reading.margin_bp,
        spans=spans,
        weights=weights,
        max_n_share=max_n_share,
        max_n_share_window=max_n_share_window,
        edges=edges,
        bytes_a_row=4 * reading.width,
    )
    if not source.n_usable:
        raise ValueError(
            f"None of {n_rows:,} regions can be read: {', '.join(source.why_not())}. Are they of "
            f"this genome ({genome.name or genome.source})?"
        )
    return source


def make_track_plan(
    model: TrackModel,
    reading: TrackReading,
    *,
    device: str | None = None,
    precision: TrackPrecision | None = None,
) -> Plan:
    """The plan of a run: one window at a time, float32 unless asked otherwise.

    Embeddings are mixed by themselves where the device has bfloat16 and is a GPU.

    Raises
    ------
    ValueError
        If the precision is none of ``"float32"`` and ``"mixed"``; else as
        :func:`glm.engine.make_plan`.
    """
    from ..engine import make_plan

    if precision not in (None, *get_args(TrackPrecision)):
        raise ValueError(
            f"precision is {precision!r}; expected 'float32', 'mixed' (bfloat16 in the transformer "
            "blocks) or None."
        )
    length_bp = model.spec.window_bp + 2 * reading.margin_bp
    plan = make_plan(device, budget=length_bp)
    if precision is None:
        of_embeddings = plan.precision == "bfloat16" and not reading.head
        precision = "mixed" if of_embeddings else "float32"
    return dataclasses.replace(plan, precision=precision)


def plan_tracks(job: TrackJob) -> RunPlan:
    """What a job would cost: counted, and timed on a window of its own."""
    from ..engine import ArraySink, PoolRows

    reducer = PoolRows("cls", ArraySink(0, job.width))
    return plan_job(job, 4 * job.source.n_rows * job.width, reducer, unit="bases")


def track_values(
    job: TrackJob,
    *,
    out: Path | None = None,
    devices: Devices = None,
    strategy: str = "auto",
    file: str = TRACKS_FILE,
) -> NDArray[np.float32]:
    """Compute a job's predictions: rows × tracks, or rows × bins × tracks.

    Rows without a window are NaN. With ``out`` they are a memory map of the ``file`` in it.
    """
    found = embed_rows(job, "cls", out=out, devices=devices, strategy=strategy, file=file)
    return found.reshape(len(found), *job.track_reading.shape)


def good_rows(values: NDArray[np.float32], step: int = 8192) -> NDArray[np.bool_]:
    """Rows that are there and finite but for bins that lie beyond the chromosome.

    ``values`` are rows × tracks, or rows × bins × tracks. Such bins are NaN in all tracks; one that
    is not finite in some came out of the model so.
    """
    good = np.zeros(len(values), bool)
    for start in range(0, len(values), step):
        some = values[start : start + step].reshape(-1, *values.shape[-1:])
        there = np.isfinite(some).all(axis=1) | np.isnan(some).all(axis=1)
        there = there.reshape(-1, int(np.prod(values.shape[1:-1])))
        none = np.isnan(some[:, 0]).reshape(there.shape).all(axis=1)
        good[start : start + step] = there.all(axis=1) & ~none
    return good


def check_bins(bins: str) -> None:
    """Refuse what is no way to reduce bins."""
    if bins not in get_args(Bins):
        raise ValueError(f"bins is {bins!r}; expected {', '.join(map(repr, get_args(Bins)))}.")


def check_shifts(shifts: Iterable[int]) -> tuple[int, ...]:
    """Shifts as they are kept: each once, in the order that was given."""
    listed: list[Any] = list(shifts) if isinstance(shifts, Iterable) else [shifts]
    if not listed or not all(map(is_whole, listed)):
        raise TypeError(
            f"shifts is {shifts!r}; expected whole numbers of bases, for instance (-1, 0, 1)."
        )
    found = tuple(map(int, listed))
    if len(set(found)) < len(found):
        raise ValueError(f"shifts is {shifts!r}, with some twice; expected each once.")
    far = [shift for shift in found if abs(shift) > MOST_SHIFT_BP]
    if far:
        raise ValueError(
            f"shifts has {far[0]}; expected at most {MOST_SHIFT_BP} bases, half a bin, to either "
            "side: shifted windows are averaged bin by bin, as if they lay in the same place."
        )
    return found
