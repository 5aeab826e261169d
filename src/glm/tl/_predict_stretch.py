from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import slots
from .._keys import StretchKeys
from .._messages import first_names, share, warn
from .._settings import logger
from ..models.any_model import get_track_spec, load
from ..models.enformer_config import BIN_BP
from ..models.track_choice import TrackChoice, Tracks, choose_tracks
from ..models.track_model import TrackModel
from ..regions import Regions, is_whole
from ._job import Devices, finite_rows
from ._predict_tracks import MOST_BYTES
from ._stretch_files import write_tracks
from ._stretch_job import StretchJob, bins_of, stretch_values
from ._stretch_source import StretchSource, Tiling
from ._track_call import WindowOptions
from ._track_job import TrackPrecision, make_reading, make_track_plan
from ._window_source import Geometry

if TYPE_CHECKING:
    from anndata import AnnData

    from ..genome import Genome


def predict_stretch(
    region: str | tuple[str, int, int] | Regions,
    model: str | Path | TrackModel = "enformer",
    *,
    genome: str | os.PathLike[str] | Genome,
    tracks: Tracks | None = None,
    organism: str | None = None,
    strand_average: bool = False,
    shifts: Iterable[int] = (0,),
    max_n_share: float = 0.1,
    max_n_share_window: float = 0.5,
    out: str | os.PathLike[str] | None = None,
    bigwig: str | os.PathLike[str] | None = None,
    device: str | None = None,
    precision: TrackPrecision | None = None,
    devices: Devices = None,
    strategy: str = "auto",
    key_added: str = "enformer",
) -> AnnData:
    """Predict tracks along a stretch of a chromosome, of any length :cite:p:`avsec2021`.

    Bins of 128 bases are counted from the stretch's start; the last one may reach beyond its end.
    The stretch is covered by windows whose outputs lie side by side (114,688 bp each with
    ``enformer``), in the middle of which it lies: a bin is predicted once, from the window in
    whose output it stands, and one at an output's edge sees less of the genome on that side (41 kb
    with ``enformer``) than on the other. What a bin is given thus depends a little on where the
    stretch was begun. Windows that reach beyond the chromosome are padded by N.

    Costs one window of the model for every 114,688 bp (some 12 s on one core, with ``enformer``),
    about a quarter less where neighbours share the first layers; and 4 bytes a bin and track, in
    memory or, with ``out``, on the disk: 41 GB for all human tracks of chromosome 1, 8 MB for one.

    Parameters
    ----------
    region
        ``(chrom, start, end)``, a text (``"chr1:1,000,000-2,000,000"``, or ``"chr1"`` for the whole
        chromosome), or one :class:`glm.Regions`; 0-based, the end not included. Predictions run
        along the genome, whatever its strand.
    model
        A model that predicts tracks: a name of :func:`glm.models.list`, a folder, or a loaded one.
    genome
        The genome, or its name or file.
    tracks
        Which tracks: places, identifiers, ``"CAGE"``, ``"CAGE:cardiac"``,
        ``"nearest:cardiac myocytes"``, a compiled pattern, or a list of these; ``None`` is all of
        the head. See :func:`glm.models.tracks`.
    organism
        The head; ``None`` is the genome's species.
    strand_average
        Also predict the other strand, and average: bins are mirrored, and tracks that have a
        partner on the other strand change places. Twice the cost.
    shifts
        Average over windows that lie so many bases to the right, at most 64; for instance
        ``(-1, 0, 1)``.
    max_n_share
        A bin of which a larger share of the bases is not known is NaN.
    max_n_share_window
        And so is one whose window has a larger share of them, padding included.
    out
        Folder for a long run: what is done is kept there every eight windows, the same call goes on
        after an interruption, with the same bits, and ``X`` is a memory map of its ``tracks.npy``,
        never whole in memory.
    bigwig
        Folder in which each track is written as ``<place>_<identifier>.bw``. Needs
        ``pip install "genomic-lm[tracks]"``.
    device
        ``"cpu"``, ``"cuda"``; ``None`` is CUDA where there is one.
    precision
        ``"float32"``, which ``None`` is, or ``"mixed"``: bfloat16 in the transformer blocks.
    devices, strategy
        As for :func:`glm.tl.embed`: several devices share the windows, eight at a time.
    key_added
        Name in the slots.

    Returns
    -------
    A new AnnData, bins × tracks, that :func:`glm.pl.tracks` draws:

    ``X``
        float32, in the unit of each track; NaN where a bin is not predicted.
    ``obs["chrom"]``, ``["start"]``, ``["end"]``
        category and int64: where each bin lies.
    ``obs["n_share"]``, ``["window_n_share"]``
        float32: share of unknown bases in the bin, and in its window.
    ``obs["<key>_ok"]``
        bool: whether the bin is predicted.
    ``var``
        The tracks, named ``<place>:<identifier>``: ``track`` (their place among the head's
        outputs), ``identifier``, ``assay``, ``sample``, ``aggregation``, ``scale``, ``clip``,
        ``strand_pair``.
    ``uns["stretch_<key>"]``, ``uns["genome"]``
        The record, and the genome's name.

    Raises
    ------
    ImportError
        With ``bigwig``, if pybigtools is not installed.
    KeyError
        If there is no such model, head or track.
    OSError
        If files cannot be read or written.
    TypeError, ValueError
        If the region has no bases or reaches beyond its chromosome, if nothing of it can be
        predicted, if the model predicts no tracks, if ``out`` holds another run.

    Examples
    --------
    >>> import glm
    >>> _, genome = glm.datasets.toy_regions(n_regions=40)
    >>> options = {"genome": genome, "tracks": "CAGE", "max_n_share_window": 1.0}
    >>> locus = glm.tl.predict_stretch("chr1:2,000-6,000", "enformer-tiny", **options)
    >>> locus.shape
    (32, 24)
    >>> locus.obs_names[0], locus.var["assay"].iloc[0]
    ('chr1:2000-2128', 'CAGE')
    """
    started = time.perf_counter()
    spec = get_track_spec(model)
    sequence = _genome_of(genome, spec.name)
    chrom, start, end = _stretch(region, sequence)
    WindowOptions(
        strand_average=strand_average,
        max_n_share=max_n_share,
        max_n_share_window=max_n_share_window,
    ).check()
    keys = StretchKeys(key_added)
    folder = _folder_of(out)
    if bigwig is not None:
        _check_bigwig(Path(bigwig).expanduser())
    loaded = load(model)
    assert isinstance(loaded, TrackModel)
    choice = choose_tracks(loaded, tracks, organism=organism, genome=sequence)
    tiling = Tiling.of(start, end, Geometry.of(spec))
    _check_memory(tiling.n_bins, len(choice.index), folder)
    reading = make_reading(
        loaded, choice.head, choice.index, bins="all", strand_average=strand_average, shifts=shifts
    )
    plan = make_track_plan(loaded, reading, device=device, precision=precision)
    source = StretchSource(
        chrom,
        tiling,
        genome=sequence,
        margin_bp=reading.margin_bp,
        max_n_share=max_n_share,
        max_n_share_window=max_n_share_window,
    )
    if not source.n_usable:
        raise ValueError(
            f"Nothing of {chrom}:{start:,}-{end:,} can be predicted: over {max_n_share:.0%} of the "
            f"bases of each bin are not known (max_n_share), or over {max_n_share_window:.0%} of "
            "those of its window (max_n_share_window)."
        )
    job = StretchJob(source, loaded, plan, reading)
    values = stretch_values(job, out=folder, devices=devices, strategy=strategy)
    record = slots.make_record(
        function="glm.tl.predict_stretch",
        model=spec.name,
        tier=spec.tier,
        weights_sha256=loaded.weights_sha256,
        organism=choice.head,
        chosen=choice.how,
        n_tracks=len(choice.index),
        region=f"{chrom}:{start:,}-{end:,}",
        genome=sequence.name or "unknown",
        genome_source=sequence.source,
        genome_fingerprint=sequence.fingerprint(),
        bin_bp=BIN_BP,
        n_bins=tiling.n_bins,
        n_windows=source.n_tiles,
        tiling="outputs lie side by side; the stretch is in their middle",
        strand="average of both" if strand_average else "+",
        shifts=list(reading.shifts),
        max_n_share=float(max_n_share),
        max_n_share_window=float(max_n_share_window),
        precision=plan.precision,
        device=plan.device.type,
        out=folder,
        bigwig=None if bigwig is None else str(bigwig),
        note=spec.note,
    )
    found = _as_object(job, values, choice, sequence, keys, record)
    with slots.keeping(found, folder):
        if bigwig is not None:
            regions = Regions.of(found.obs["chrom"].astype(str), *bins_of(job)[:2])
            place = Path(bigwig).expanduser()
            write_tracks(place, regions, values, choice.table, sequence)
    n_read = int(bins_of(job)[2].sum())
    _report(found, keys, spec.name, n_read, time.perf_counter() - started)
    return found


# ---- checks --------------------------------------------------------------------------------------


def _genome_of(genome: Any, model: str) -> Genome:
    from ..genome import as_genome

    if genome is None:
        raise ValueError(
            f"{model} reads DNA: say of which genome with genome=, a published one's name ('hg19', "
            "'hg38', 'mm10'), the path of a 2bit or FASTA file, or a glm.Genome."
        )
    return as_genome(genome)


def _stretch(region: Any, genome: Genome) -> tuple[str, int, int]:
    """The genome's own name of the chromosome, start and end; all of it lies on the chromosome."""
    from ..locate import regions_of

    if isinstance(region, str) and ":" not in region:
        chrom = genome.resolve(region)
        return chrom, 0, genome.contigs[chrom]
    if isinstance(region, tuple | list) and len(region) == 3 and isinstance(region[0], str):
        if not all(map(is_whole, region[1:])):
            raise ValueError(f"region is {tuple(region)!r}; expected whole numbers as positions.")
        regions = Regions.of([region[0]], [region[1]], [region[2]])
    elif isinstance(region, str | Regions):
        regions = regions_of([region] if isinstance(region, str) else region).regions
    else:
        raise TypeError(
            f"region is {region!r}; expected ('chr1', 1000, 2000), 'chr1:1,000-2,000', 'chr1' for "
            "all of it, or one glm.Regions."
        )
    if len(regions) != 1:
        raise ValueError(
            f"There are {len(regions):,} regions; a stretch is one. glm.tl.predict_tracks predicts "
            "many."
        )
    chrom = genome.resolve(regions.chrom[0])
    start, end, length = int(regions.start[0]), int(regions.end[0]), genome.contigs[chrom]
    if start < 0 or end > length:
        raise ValueError(
            f"{regions.name(0)} reaches beyond {chrom}, which has {length:,} bases: ask for what "
            f"is on it ({chrom}:{max(start, 0):,}-{min(end, length):,})."
        )
    return chrom, start, end


def _folder_of(out: Any) -> Path | None:
    from ..engine import read_facts

    if out is None:
        return None
    folder = Path(out).expanduser()
    read_facts(folder)
    return folder


def _check_bigwig(folder: Path) -> None:
    """Before hours of computing: whether files can be written at the end."""
    from ..io._bigwig import pybigtools_module

    pybigtools_module()
    if folder.exists() and not folder.is_dir():
        raise ValueError(
            f"bigwig={str(folder)!r} is a file; expected a folder, for a file of each track."
        )


def _check_memory(n_bins: int, n_tracks: int, out: Path | None) -> None:
    """Refuse a result that memory may not hold, before hours of computing."""
    n_bytes = 4 * n_bins * n_tracks
    if out is None and n_bytes > MOST_BYTES:
        raise ValueError(
            f"{n_bins:,} bins × {n_tracks:,} tracks take {n_bytes / 1e9:,.1f} GB, more than the "
            f"{MOST_BYTES / 1e9:.0f} GB that are held in memory. Name a folder with out= to write "
            "them to the disk, or choose fewer tracks or a shorter stretch."
        )


# ---- the object ----------------------------------------------------------------------------------


def _as_object(
    job: StretchJob,
    values: NDArray[np.float32],
    choice: TrackChoice,
    genome: Genome,
    keys: StretchKeys,
    record: dict[str, Any],
) -> AnnData:
    import pandas as pd
    from anndata import AnnData

    start, end, wanted = bins_of(job)
    source = job.source
    chrom = pd.Categorical.from_codes(np.zeros(len(start), np.int8), categories=[source.chrom])
    columns = {"chrom": chrom, "start": start, "end": end}
    shares = {
        keys.n_share: source.n_share.copy(),
        keys.window_n_share: source.window_n_share.copy(),
    }
    names = [f"{source.chrom}:{a}-{b}" for a, b in zip(start.tolist(), end.tolist(), strict=True)]
    obs = pd.DataFrame({**columns, **shares, keys.ok: wanted & finite_rows(values)}, index=names)
    table = choice.table.copy()
    table.insert(0, "track", table.index.to_numpy(np.int64))
    called = zip(table["track"], table["identifier"], strict=True)
    table.index = pd.Index([f"{number}:{identifier}" for number, identifier in called])
    uns: dict[str, Any] = {keys.record: record}
    if genome.name:
        uns["genome"] = genome.name
    return AnnData(values, obs, table, uns=uns)


def _report(found: AnnData, keys: StretchKeys, model: str, n_read: int, seconds: float) -> None:
    """Log what was predicted, and warn of bins that are not, of which the model read ``n_read``."""
    shape = f"{found.n_obs:,} bins × {found.n_vars:,} tracks"
    logger.info("predicted %s with %s in %.1f s", shape, model, seconds)
    ok = found.obs[keys.ok].to_numpy()
    if not ok.all():
        names = found.obs_names[~ok]
        why = []
        if n_unread := ok.size - n_read:
            why.append(
                f"{n_unread:,} have too many unknown bases in them or in their window "
                "(max_n_share, max_n_share_window)"
            )
        if n_wrong := n_read - int(ok.sum()):
            why.append(f"{n_wrong:,} came out of the model not finite")
        warn(
            f"{share(len(names), ok.size)} bins are not predicted and are NaN "
            f"({first_names(names)}): {', '.join(why)}. Leave them out with "
            f"adata[adata.obs[{keys.ok!r}]]."
        )
