from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .._keys import TrackKeys
from ..models.enformer_config import BIN_BP
from ..models.track_choice import TrackChoice, choose_tracks
from ..models.track_model import TrackModel
from ._track_call import WindowCall, WindowOptions, WindowRun
from ._track_job import TrackJob, check_bins, good_rows, make_reading, plan_tracks, track_values
from ._track_zarr import write_zarr
from ._window_source import Geometry

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import NDArray

    from ..engine import RunPlan
    from ..genome import Genome
    from ..models.track_choice import Tracks
    from ..regions import Regions
    from ._track_job import Bins

    Sequences = str | os.PathLike[str] | Mapping[str, str | np.ndarray] | Genome

MOST_BYTES = 2_000_000_000
"""Of predictions that are held in memory."""


def predict_tracks(
    data: AnnData | MuData,
    model: str | Path | TrackModel = "enformer",
    *,
    genome: Sequences | None = None,
    tracks: Tracks | None = None,
    organism: str | None = None,
    axis: Literal["obs", "var"] | None = None,
    mod: str | None = None,
    bins: Literal["mean", "sum", "max", "region", "all"] = "mean",
    strand_average: bool = False,
    shifts: Sequence[int] = (0,),
    max_n_share: float = 0.1,
    max_n_share_window: float = 0.5,
    edges: Literal["clip", "raise"] = "clip",
    device: str | None = None,
    precision: Literal["float32", "mixed"] | None = None,
    out: str | Path | None = None,
    devices: int | list[int] | str | None = None,
    strategy: str = "auto",
    key_added: str = "enformer",
    overwrite: bool = False,
    copy: bool = False,
    dry_run: bool = False,
) -> AnnData | MuData | RunPlan | None:
    """Predict tracks of regions from their sequence alone :cite:p:`avsec2021`.

    Regions are peaks, promoters or genes' starts in ``var``, or whatever has coordinates in
    ``obs``. Of each the model reads the window around its middle (196,608 bases for the published
    model), on the plus strand whatever the region's own is, and predicts coverage in bins of 128
    bases of the window's middle (114,688 bases). The bins that share a base with the region are
    reduced to one number a track, on the device; only the bins and tracks that are asked for are
    computed.

    Time grows with windows × shifts × strands: one takes some 12 s on one core with the published
    model, whatever is asked of it (``dry_run=True`` estimates it). Memory: the model (1.1 GB), one
    window (0.5 GB) and the result.

    Parameters
    ----------
    data
        An object with regions: coordinates in columns (chrom, start, end), ``interval``, or names
        like ``chr1:1,000-2,000`` (:func:`glm.pp.set_regions` and :func:`glm.pp.add_tss` write
        them); or a MuData, with ``mod``.
    model
        A name of :func:`glm.models.list`, the path of a folder, or a loaded model.
    genome
        Needed: ``"hg19"``, ``"hg38"`` or ``"mm10"`` (fetched once), the path of a 2bit or FASTA
        file, a dictionary of sequences, or a :class:`glm.Genome`. One that disagrees with what the
        object says of itself is refused.
    tracks
        Which tracks of :func:`glm.models.tracks`: ``None`` for all of the head; places among the
        head's outputs; identifiers; an assay (``"CAGE"``), with words of the sample
        (``"CAGE:cardiac"``); ``"nearest:cardiac myocytes"``; a compiled regular expression; or a
        list of these.
    organism
        The head, ``"human"`` or ``"mouse"``; ``None`` is the genome's species, else the only head,
        else human. A head that is used on another species' genome is warned of.
    axis
        Where the regions are, ``"var"`` or ``"obs"``; ``None`` finds out.
    mod
        Modality of a MuData. Results go into that modality.
    bins
        What is made of the bins that share a base with the region: their ``"mean"``, ``"sum"`` or
        ``"max"``; ``"region"`` keeps them all (the regions must be equally long); ``"all"`` keeps
        those of the whole output around each region. A sum is refused for tracks of which some are
        sums of their assay and others means (see ``aggregation`` in :func:`glm.models.tracks`);
        tracks that are roots of sums are added up as they are predicted.
    strand_average
        Average over both strands: bins of the reverse complement are turned around, and tracks of
        one strand taken from their partner on the other. Twice the time.
    shifts
        Average over windows that lie so many bases to the right, bin by bin; at most 64 to either
        side. ``strand_average=True, shifts=(-1, 0, 1, 2)`` is the mean of eight.
    max_n_share
        Regions of which a larger share of bases (N) than this is not known are not predicted.
    max_n_share_window
        Nor are those of which so much of the window is not known, padding included: at a
        chromosome's end a window is filled up with N.
    edges
        Of a region that reaches beyond its chromosome: ``"clip"`` reads the bins that are on it,
        ``"raise"`` refuses it. Windows may reach beyond in any case.
    device
        ``"cpu"``, ``"cuda"`` or ``"cuda:1"``; ``None`` takes CUDA where there is one.
    precision
        ``"float32"``, which is also ``None``, or ``"mixed"``: matrix products of the transformer
        blocks in bfloat16, all else float32. Each track then correlates at least 0.999 with its
        float32 values.
    out
        A folder for a long run, not there yet or left by the same call, which goes on where it was
        (after Ctrl-C, a crash or ``kill -9``) and gives the same bits as a call that was never
        interrupted. Reduced bins are its ``tracks.npy``, which the slot maps into memory. All bins
        are its ``tracks.zarr``, float32, regions × bins × tracks, which is written chunk by chunk
        and never held in memory; the object then has no array, but :func:`glm.get.tracks` reads it.
    devices, strategy
        Devices for Lightning to use, and how it launches them, as for :func:`glm.tl.embed`.
    key_added
        Name in the slots.
    overwrite
        Replace what another model or the user put into the slots.
    copy
        Return a copy instead of writing into ``data``.
    dry_run
        Check everything, time a window, write nothing, and return the plan.

    Returns
    -------
    ``None``; the copy; or the plan. Sets, in ``varm``, ``var`` or ``obsm``, ``obs`` by the axis:

    ``data.varm["tracks_<key>"]``
        float32, regions × tracks (× bins in between, with ``bins="region"`` and ``"all"``), in the
        unit of the training data: coverage summed or averaged over a bin and scaled, as the table
        says. NaN where there is no region or it cannot be predicted, and in bins that lie beyond
        the chromosome. :func:`glm.get.tracks` makes a table of it.
    ``data.var["tracks_<key>_ok"]``
        bool. Whether the row could be computed.
    ``data.var["tracks_<key>_n_share"]``
        float64. Share of the window's bases that are not known, padding included.
    ``data.var["tracks_<key>_start"]``
        int64, nullable where rows have no region. Where the first bin of each row begins on the
        chromosome, with ``bins="region"`` and ``"all"``: regions may be changed afterwards.
    ``data.uns["tracks_<key>"]``
        The record: model, hash of the weights, tier, genome, window, bins, strands, shifts,
        precision; in ``"tracks"`` the table of the tracks; how they were chosen; and counts of
        regions that are unusable (and why), clipped, padded or with unknown bases.

    Regions that are longer than the output have no prediction.

    Raises
    ------
    OSError
        If files of the model or the genome are not here and cannot be fetched; if ``out`` has too
        little room.
    KeyError
        If there is no such model, head, track or modality.
    ValueError, TypeError
        If an option is none; if no genome is named, it disagrees with the object or lacks a
        chromosome; if no region can be predicted, or ``bins="region"`` finds lengths that differ;
        if a slot holds something else; if ``out`` holds another run, or all bins are too many to
        hold in memory and there is no ``out``.
    RuntimeError
        If memory does not hold one window; if ``strategy`` cannot launch from a notebook.

    Examples
    --------
    >>> import glm
    >>> peaks, genome = glm.datasets.toy_regions(n_regions=2)
    >>> options = {"genome": genome, "tracks": "CAGE", "max_n_share_window": 1.0}
    >>> glm.tl.predict_tracks(peaks, "enformer-tiny", **options)
    >>> glm.get.tracks(peaks).shape
    (2, 24)
    """
    check_bins(bins)
    options = WindowOptions(
        genome, axis, mod, strand_average, shifts, max_n_share, max_n_share_window, edges
    )
    run = WindowRun(device, precision, out, devices, strategy, key_added, overwrite, copy, dry_run)
    call = WindowCall(data, model, options, run, function="glm.tl.predict_tracks")
    frame = _frame(call.located.regions, Geometry.of(call.spec), bins)
    choice = choose_tracks(call.known, tracks, organism=organism, genome=call.genome)
    _check_sum(choice, bins)
    if not dry_run:
        _check_size(call, frame, len(choice.index))
    keys = TrackKeys(run.key_added or call.spec.system)
    call.check_free(keys.slots(call.located.axis, bins=frame is not None), keys.record)
    reading = make_reading(
        call.loaded,
        choice.head,
        choice.index,
        bins=bins,
        frame=frame,
        strand_average=strand_average,
        shifts=shifts,
    )
    job = call.job(reading, "predict tracks")
    return plan_tracks(job) if dry_run else _compute_and_write(call, job, keys, choice)


def _compute_and_write(
    call: WindowCall, job: TrackJob, keys: TrackKeys, choice: TrackChoice
) -> AnnData | MuData | None:
    axis = call.located.axis
    values, ok, array = _computed(call, job, choice)
    record = call.record(
        job,
        ok,
        organism=choice.head,
        chosen=choice.how,
        n_tracks=len(choice.index),
        tracks=track_columns(choice),
        bins_in_array=list(job.track_reading.frame or ()),
        array=array,
    )
    at, flag, share = keys.slots(axis)
    written: dict[tuple[str, str], Any] = {flag: ok, share: job.source.row_n_share()}
    if job.track_reading.frame is not None:
        written[axis, keys.start] = _starts(call, job.track_reading.frame[0])
    if values is not None:
        written = {at: values, **written}
    result = call.write(written, keys.record, record, values)
    shape = " × ".join(f"{n:,}" for n in (len(ok), *job.track_reading.shape))
    where = f"{keys.values!r} ({axis}m, {shape}, float32)"
    call.report(job, ok, keys.ok, where if values is not None else f"{array} ({shape}, float32)")
    return result


def _computed(
    call: WindowCall, job: TrackJob, choice: TrackChoice
) -> tuple[NDArray[np.float32] | None, NDArray[np.bool_], Path | None]:
    """The values, or where they are; and of which rows there are any."""
    run = call.run
    if call.folder is not None and job.track_reading.frame is not None:
        attributes = {
            "model": call.spec.name,
            "genome": call.genome.name or "unknown",
            "organism": choice.head,
            "bin_bp": BIN_BP,
            "regions": list(map(str, getattr(call.adata, f"{call.located.axis}_names"))),
            **track_columns(choice),
        }
        array, ok = write_zarr(
            job, call.folder, attributes=attributes, devices=run.devices, strategy=run.strategy
        )
        return None, ok, array.resolve()
    values = track_values(job, out=call.folder, devices=run.devices, strategy=run.strategy)
    return values, good_rows(values), None


def track_columns(choice: TrackChoice) -> dict[str, list[Any]]:
    """The table of chosen tracks as plain columns."""
    columns = {name: choice.table[name].tolist() for name in choice.table.columns}
    return {"index": choice.index.tolist(), **columns}


def _starts(call: WindowCall, first_bin: int) -> Any:
    """int64, or nullable where rows have no region: where the first bin of each row begins."""
    import pandas as pd

    located, geometry = call.located, Geometry.of(call.spec)
    starts, missing = np.zeros(located.n_rows, np.int64), np.ones(located.n_rows, bool)
    starts[located.rows] = geometry.output_start(located.regions) + BIN_BP * first_bin
    missing[located.rows] = False
    return pd.arrays.IntegerArray(starts, missing) if missing.any() else starts


def _frame(regions: Regions, geometry: Geometry, bins: Bins) -> tuple[int, int] | None:
    """The bins of the output that are kept; ``None`` where they are reduced."""
    if bins == "all":
        return 0, geometry.n_bins
    if bins != "region":
        return None
    lengths = np.unique(regions.lengths)
    if len(lengths) > 1:
        raise ValueError(
            f"bins='region' keeps the bins of regions of one length, and these have {lengths[0]:,} "
            f"to {lengths[-1]:,} bases. Reduce the bins (bins='mean'), keep those of the whole "
            "output (bins='all'), or make the regions equally long (glm.pp.set_regions)."
        )
    low, high = geometry.bins(regions, regions.start, regions.end)[0].tolist()
    return max(low, 0), min(high, geometry.n_bins)


def _check_sum(choice: TrackChoice, bins: Bins) -> None:
    """Refuse sums that mean one thing in some tracks and another in others."""
    kinds = choice.table.groupby("aggregation", sort=False)["assay"].unique()
    if bins != "sum" or len(kinds) < 2:
        return
    said = "; ".join(f"{kind}: {', '.join(assays)}" for kind, assays in kinds.items())
    raise ValueError(
        "bins='sum' adds up bins, and the chosen tracks do not hold the same kind of bin "
        f"({said}): their sums could not be compared. Choose tracks of one assay, for instance "
        f"tracks={choice.table['assay'].iloc[0]!r}, or take bins='mean'."
    )


def _check_size(call: WindowCall, frame: tuple[int, int] | None, n_tracks: int) -> None:
    """Refuse what would have to be held in memory and is too large for it."""
    kept = () if frame is None else (frame[1] - frame[0],)
    shape = (call.located.n_rows, *kept, n_tracks)
    n_bytes = 4 * int(np.prod(shape))
    if call.folder is None and n_bytes > MOST_BYTES:
        raise ValueError(
            f"{' × '.join(f'{n:,}' for n in shape)} predictions take {n_bytes / 1e9:,.1f} GB, more "
            f"than the {MOST_BYTES / 1e9:.0f} GB that are held in memory. Name a folder with out= "
            "to write them to the disk, choose fewer tracks"
            + (", or reduce the bins (bins='mean')." if kept else ".")
        )
