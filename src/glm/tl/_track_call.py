"""What verbs that read windows share: objects and options checked, results written."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from .. import slots
from .._messages import first_names, share, warn
from .._settings import logger
from ..cells import check_backed
from ..models.any_model import get_track_spec, load
from ..models.enformer_config import BIN_BP
from ..models.track_model import TrackModel, TrackSpec
from ._embed_regions import EDGES, find_regions, open_genome
from ._job import Devices, check_out
from ._track_job import TrackJob, TrackPrecision, TrackReading, make_source, make_track_plan

if TYPE_CHECKING:
    from ..genome import Genome
    from ..locate import Located
    from ..slots import Slot


@dataclass(frozen=True)
class WindowOptions:
    """Which windows are read, and how often: options that all such verbs have."""

    genome: Any = None
    axis: str | None = None
    mod: str | None = None
    strand_average: bool = False
    shifts: Iterable[int] = (0,)
    max_n_share: float = 0.1
    max_n_share_window: float = 0.5
    edges: str = "clip"

    def check(self) -> None:
        """Refuse values that are none."""
        if self.edges not in EDGES:
            raise ValueError(f"edges is {self.edges!r}; expected 'clip' or 'raise'.")
        for name in ("max_n_share", "max_n_share_window"):
            value = getattr(self, name)
            known = isinstance(value, int | float) and 0 <= value <= 1
            if not known or isinstance(value, bool):
                raise ValueError(f"{name} is {value!r}; expected 0 to 1.")
        if not isinstance(self.strand_average, bool | np.bool_):
            raise TypeError(f"strand_average is {self.strand_average!r}; expected True or False.")


@dataclass(frozen=True)
class WindowRun:
    """How a call is run, and where its results go."""

    device: str | None = None
    precision: TrackPrecision | None = None
    out: str | Path | None = None
    devices: Devices = None
    strategy: str = "auto"
    key_added: str | None = None
    overwrite: bool = False
    copy: bool = False
    dry_run: bool = False


class WindowCall:
    """A call on an object with regions: checked when it is made, before anything is fetched.

    Attributes
    ----------
    spec
        The model's row.
    located
        The object's regions.
    genome
        The genome, held against the object's.
    folder
        That of ``out``.

    Raises
    ------
    ValueError, TypeError
        If an option is none, the object has no regions, or the genome is none of theirs.
    """

    def __init__(
        self, data: Any, model: Any, options: WindowOptions, run: WindowRun, *, function: str
    ) -> None:
        options.check()
        self.function = function
        self.options, self.run = options, run
        self._data, self._model = data, model
        self.spec: TrackSpec = get_track_spec(model)
        self.located: Located = find_regions(
            data, self.spec.name, axis=options.axis, mod=options.mod
        )
        if self.adata.isbacked:
            check_backed(self.adata, run.copy)
        self.folder = check_out(run.out, self.adata)
        self.genome: Genome = open_genome(options.genome, self.located, self.spec.name)
        self._started = time.perf_counter()

    @property
    def adata(self) -> Any:
        """The AnnData, or the modality, that results go into."""
        return self.located.holder

    @property
    def known(self) -> TrackModel | TrackSpec:
        """The model if it was loaded before the call, else its row."""
        return self._model if isinstance(self._model, TrackModel) else self.spec

    @cached_property
    def loaded(self) -> TrackModel:
        """The model."""
        return cast(TrackModel, load(self._model))

    def check_free(self, written: list[Slot], record: str) -> None:
        """Refuse slots that hold something else; loads the model."""
        run = self.run
        check = partial(slots.check_free, self.adata, written, record, overwrite=run.overwrite)
        if not run.dry_run:
            check(model=self.spec.name)
            check(model=self.spec.name, weights_sha256=self.loaded.weights_sha256)

    def job(self, reading: TrackReading, what: str) -> TrackJob:
        """What is to be computed."""
        options, located = self.options, self.located
        plan = make_track_plan(
            self.loaded, reading, device=self.run.device, precision=self.run.precision
        )
        source = make_source(
            self.loaded,
            reading,
            located.regions,
            located.rows,
            located.n_rows,
            genome=self.genome,
            max_n_share=options.max_n_share,
            max_n_share_window=options.max_n_share_window,
            edges=options.edges,
        )
        return TrackJob(source, self.loaded, plan, reading, {"function": self.function}, what)

    def record(self, job: TrackJob, ok: NDArray[np.bool_], **more: Any) -> dict[str, Any]:
        """The record of what was computed, with what the verb adds."""
        spec, genome, options = self.spec, self.genome, self.options
        return slots.make_record(
            function=self.function,
            model=spec.name,
            tier=spec.tier,
            weights_sha256=self.loaded.weights_sha256,
            axis=self.located.axis,
            regions=self.located.where,
            genome=genome.name or "unknown",
            genome_source=genome.source,
            genome_fingerprint=genome.fingerprint(),
            genome_stated=self.located.genome or "none",
            **more,
            window_bp=spec.window_bp,
            output_bp=spec.output_bp,
            bin_bp=BIN_BP,
            bins=job.track_reading.bins,
            bins_rule="bins of the window around the region's middle that share a base with it and "
            "with the chromosome",
            strand="both" if job.track_reading.strand_average else "+",
            shifts=list(job.track_reading.shifts),
            max_n_share=float(options.max_n_share),
            max_n_share_window=float(options.max_n_share_window),
            edges=options.edges,
            **job.source.counts(),
            n_regions_unusable=int((~ok).sum()),
            precision=job.plan.precision,
            device=job.plan.device.type,
            out=self.folder,
            note=spec.note,
        )

    def write(self, values: Mapping[Slot, Any], key: str, record: Any, result: Any) -> Any:
        """Write all slots at once; ``result`` comes with the error where that fails."""
        run, mod = self.run, self.options.mod
        written = self._data.copy() if run.copy else self._data
        holder = self.adata
        if run.copy:
            holder = written if mod is None else written.mod[mod]
        with slots.keeping(result, self.folder):
            slots.write(holder, values, key, record)
        return written if run.copy else None

    def report(self, job: TrackJob, ok: NDArray[np.bool_], flag: str, what: str) -> None:
        """Log what was written, and warn of rows that could not be computed."""
        seconds = time.perf_counter() - self._started
        logger.info("added %s with %s in %.1f s", what, self.spec.name, seconds)
        if ok.all():
            return
        axis = self.located.axis
        names = getattr(self.adata, f"{axis}_names")
        bad = [names[row] for row in np.flatnonzero(~ok)]
        why = job.source.why_not()
        if n_wrong := job.source.n_usable - int(ok.sum()):
            why.append(f"{n_wrong:,} came out of the model not finite")
        chosen = f"adata.{axis}[{flag!r}]"
        way = f"adata[:, {chosen}]" if axis == "var" else f"adata[{chosen}]"
        warn(
            f"{share(len(bad), ok.size)} regions could not be predicted and are NaN "
            f"({first_names(bad)}): {', '.join(why)}. Leave them out with {way}."
        )
