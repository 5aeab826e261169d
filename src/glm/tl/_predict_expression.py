from __future__ import annotations

import os
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from .. import slots
from .._keys import ExpressionKeys
from .._messages import first_names, share, warn
from .._settings import logger
from ..cells import check_target
from ..metrics import expression_scores
from ..models.any_model import get_track_spec, load
from ..models.enformer_config import BIN_BP
from ..models.track_choice import TrackChoice, Tracks, choose_tracks
from ..models.track_model import TrackModel
from ..place import Place
from ._job import Devices, check_out, finite_rows
from ._measured import DEPTH, measured_expression
from ._predict_tracks import track_columns
from ._start_sites import StartSites, centred_spans, find_sites
from ._track_call import WindowOptions
from ._track_job import (
    TrackJob,
    TrackPrecision,
    make_reading,
    make_source,
    make_track_plan,
    plan_tracks,
    track_values,
)
from ._window_source import OK as READABLE
from ._window_source import Geometry

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from mudata import MuData

    from ..engine import RunPlan
    from ..genome import Genome


def predict_expression(
    adata: AnnData | MuData,
    genome: str | os.PathLike[str] | Genome,
    gtf: str | os.PathLike[str] | pd.DataFrame,
    *,
    model: str | Path | TrackModel = "enformer",
    tracks: Tracks | None = "CAGE",
    organism: str | None = None,
    tss: Literal["canonical", "all", "five_prime"] = "canonical",
    n_bins: int = 3,
    gene_ids: str | None = None,
    compare: bool = True,
    layer: str | None = None,
    mod: str | None = None,
    strand_average: bool = False,
    shifts: Sequence[int] = (0,),
    max_n_share_window: float = 0.5,
    device: str | None = None,
    precision: TrackPrecision | None = None,
    out: str | Path | None = None,
    devices: Devices = None,
    strategy: str = "auto",
    key_added: str = "enformer",
    overwrite: bool = False,
    copy: bool = False,
    dry_run: bool = False,
) -> AnnData | MuData | RunPlan | None:
    """Predict each gene's expression from the sequence around its start site :cite:p:`avsec2021`.

    The model reads the window in whose middle the transcription start site lies, and the bins of
    128 bases around the one that holds it are added up: three of them, from 128 bases before the
    site to 255 after it, as the model's authors do for CAGE. What stands in the slot is log1p of
    that sum; it says how much starts there, and not how much of the gene there is in a cell.

    Which start site: with ``tss="canonical"`` that of the transcript that
    :func:`glm.pp.add_tss` chooses (``Ensembl_canonical``, ``MANE_Select``, ``appris_principal``,
    the longest); with ``"five_prime"`` the one furthest upstream of all transcripts; with ``"all"``
    the sums at all different start sites of the gene are averaged, and log1p is taken of that
    (transcripts whose start was not found count only where there are no others). Genes are found
    by Ensembl id or symbol, as :func:`glm.pp.add_tss` finds them.

    Sequence is read along the + strand whatever the gene's. The published tracks are of both
    strands together; a track that has a partner on the other strand is read in the gene's
    direction, so that genes on − get what is predicted of the partner.

    Costs one window a start site (some 12 s on a core with ``enformer``: 3 days for 20,000 genes;
    ``dry_run=True`` estimates it), several times as many with ``tss="all"``.

    Parameters
    ----------
    adata
        Cells × genes; or a MuData, with ``mod``. Counts are read only to be compared with:
        ``compare=False`` needs no cells.
    genome
        ``"hg19"``, ``"hg38"``, ``"mm10"``, the path of a 2bit or FASTA file, a dictionary of
        sequences, or a :class:`glm.Genome`. One that disagrees with the object or the annotation
        is refused.
    gtf
        The annotation of that genome: a GTF file, or what :func:`glm.io.read_gtf` made of one.
    model
        A model that predicts tracks: a name of :func:`glm.models.list`, a folder, or a loaded one.
    tracks
        Which tracks: places, identifiers, ``"CAGE"``, ``"CAGE:cardiac"``,
        ``"nearest:CAGE:cardiac myocytes"``, a compiled pattern, or a list of these; ``None`` is
        all of the head. Tracks whose bins are sums are not mixed with others; those that are
        roots of sums (``aggregation`` is ``sum_sqrt``) are added up as they are predicted.
    organism
        The head; ``None`` is the genome's species.
    tss
        ``"canonical"``, ``"all"`` or ``"five_prime"``: see above.
    n_bins
        Bins around the start site, an odd number; at a chromosome's end those that are on it.
    gene_ids
        Column of ``var`` with ids or symbols; ``None`` takes ``ensembl_id`` if it is there, else
        ``var_names``.
    compare
        Correlate each track with what was measured: log1p of the mean over cells of the gene's
        counts in 10,000 of the cell's. Needs raw counts.
    layer
        Where the counts are; ``None`` is ``X``.
    mod
        Modality of a MuData. Results go into that modality.
    strand_average, shifts
        As for :func:`glm.tl.predict_tracks`.
    max_n_share_window
        Start sites of which a larger share of the window is not known are not predicted.
    device, precision, devices, strategy
        As for :func:`glm.tl.predict_tracks`.
    out
        A folder for a long run, which goes on where it was stopped, with the same bits.
    key_added
        Name in the slots.
    overwrite
        Replace what another model or the user put into the slots.
    copy
        Return a copy instead of writing into ``adata``.
    dry_run
        Check everything, time a window, write nothing, and return the plan.

    Returns
    -------
    ``None``; the copy; or the plan. Sets:

    ``adata.varm["expression_<key>"]``
        float32, genes × tracks: log1p of the sum of the bins. NaN for genes without a start site
        that can be read.
    ``adata.var["expression_<key>_ok"]``
        bool. Whether the gene has a prediction.
    ``adata.var["expression_<key>_n_tss"]``
        int32. Start sites that the prediction is the mean of; 0 where there is none.
    ``adata.uns["expression_<key>"]``
        The record; in ``"tracks"`` the table of the tracks; in ``"scores"``, with ``compare``,
        ``pearson``, ``spearman`` and ``n_genes`` of each track
        (:func:`glm.metrics.expression_scores`).

    Raises
    ------
    KeyError
        If there is no such model, head, track, column, layer or modality.
    OSError
        If files cannot be read.
    TypeError, ValueError
        If the annotation is malformed, of another genome, or knows none of the genes; if counts are
        not raw; if tracks are of several kinds of bins; if a slot holds something else; if ``out``
        holds another run.

    Examples
    --------
    >>> import glm, pathlib
    >>> _, genome = glm.datasets.toy_regions(n_regions=40)
    >>> adata = glm.datasets.toy_cells()[:, :2].copy()
    >>> line = 'chr1\\tmade up\\ttranscript\\t{}\\t9000\\t.\\t+\\t.\\tgene_id "{}";\\n'
    >>> lines = [line.format(*gene) for gene in zip([5001, 7001], adata.var_names)]
    >>> n = pathlib.Path("genes.gtf").write_text("".join(lines))
    >>> options = {"model": "enformer-tiny", "tracks": "CAGE", "max_n_share_window": 1.0}
    >>> glm.tl.predict_expression(adata, genome, "genes.gtf", **options)
    >>> adata.varm["expression_enformer"].shape
    (2, 24)
    >>> adata.uns["expression_enformer"]["scores"]["n_genes"][0]
    2
    """
    started = time.perf_counter()
    options = WindowOptions(
        genome=genome,
        strand_average=strand_average,
        shifts=shifts,
        max_n_share_window=max_n_share_window,
    )
    options.check()
    spec = get_track_spec(model)
    geometry = Geometry.of(spec)
    centred_spans(n_bins, 0, geometry)
    data, holder = check_target(adata, mod=mod, copy=copy, of_cells=compare)
    folder = check_out(out, holder)
    place = Place(holder, layer, use_raw=False)
    names, column = place.names(gene_ids)
    keys = ExpressionKeys(key_added)
    check = partial(slots.check_free, holder, keys.slots(), keys.record, overwrite=overwrite)
    if not dry_run:
        check(model=spec.name)
    sequence = _open_genome(genome, holder)
    sites = find_sites(names, gtf, tss, sequence)
    measured = measured_expression(place) if compare else None
    loaded = cast(TrackModel, load(model))
    if not dry_run:
        check(model=spec.name, weights_sha256=loaded.weights_sha256)
    choice = choose_tracks(loaded, tracks, organism=organism, genome=sequence)
    _check_kind(choice)
    partner = loaded.tables[choice.head]["strand_pair"].to_numpy(np.int64)[choice.index]
    read = np.unique(np.concatenate([choice.index, partner]))
    if np.array_equal(np.sort(choice.index), read):
        read = choice.index
    reading = make_reading(
        loaded, choice.head, read, bins="sum", strand_average=strand_average, shifts=shifts
    )
    source = make_source(
        loaded,
        reading,
        sites.regions,
        sites.rows,
        holder.n_vars,
        genome=sequence,
        spans=centred_spans(n_bins, len(sites.rows), geometry),
        max_n_share_window=max_n_share_window,
    )
    plan = make_track_plan(loaded, reading, device=device, precision=precision)
    facts = {"function": "glm.tl.predict_expression"}
    job = TrackJob(source, loaded, plan, reading, facts, "predict expression")
    if dry_run:
        return plan_tracks(job)
    sums = track_values(job, out=folder, devices=devices, strategy=strategy)
    values = sense_of(sums, read, choice.index, partner, sites.minus)
    ok = finite_rows(values)
    scores = None if measured is None else expression_scores(measured, values)
    record = slots.make_record(
        function="glm.tl.predict_expression",
        model=spec.name,
        tier=spec.tier,
        weights_sha256=loaded.weights_sha256,
        genome=sequence.name or "unknown",
        genome_source=sequence.source,
        genome_fingerprint=sequence.fingerprint(),
        gene_ids=column,
        **sites.facts,
        organism=choice.head,
        chosen=choice.how,
        n_tracks=len(choice.index),
        tracks=track_columns(choice),
        unit=f"log1p of the sum of {n_bins} bins of {BIN_BP} bases around the start site",
        n_bins=n_bins,
        strand="both" if strand_average else "+",
        stranded_tracks="in the gene's direction: on the minus strand the partner's",
        shifts=list(reading.shifts),
        max_n_share_window=float(max_n_share_window),
        **{f"sites_{name}": number for name, number in source.counts().items()},
        n_genes=len(ok),
        n_genes_unusable=int((~ok).sum()),
        precision=plan.precision,
        device=plan.device.type,
        out=folder,
        **_compared(scores, place),
        note=spec.note,
    )
    n_tss = np.bincount(sites.rows[source.reason == READABLE], minlength=holder.n_vars)
    written = dict(zip(keys.slots(), (values, ok, n_tss.astype(np.int32)), strict=True))
    with slots.keeping(values, folder):
        slots.write(holder, written, keys.record, record)
    why = source.why_not(unknown="start sites are unknown bases (N)")
    if n_wrong := int((source.row_ok & ~ok).sum()):
        why.append(f"{n_wrong:,} came out of the model not finite")
    _report(holder, keys, values, ok, scores, sites, why, spec.name, started)
    return data if copy else None


def sense_of(
    sums: NDArray[np.float32],
    read: NDArray[np.int64],
    index: NDArray[np.int64],
    partner: NDArray[np.int64],
    minus: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """log1p of sums, rows × ``index``; of rows on the minus strand those of the partners."""
    column = {number: at for at, number in enumerate(read.tolist())}
    own, other = ([column[number] for number in some.tolist()] for some in (index, partner))
    found = np.log1p(sums[:, own])
    rows = np.flatnonzero(minus)
    found[rows] = np.log1p(sums[rows][:, other])
    return found


def _open_genome(genome: Any, adata: AnnData) -> Genome:
    from ..genome import as_genome
    from ..locate import same_genome, stated_genome

    if genome is None:
        raise ValueError(
            "genome is None; expected 'hg19', 'hg38', 'mm10', the path of a 2bit or FASTA file, or "
            "a glm.Genome: the one that the annotation is of."
        )
    opened = as_genome(genome)
    stated = stated_genome(adata.var, np.arange(adata.n_vars), adata.uns, "adata.var")
    if not same_genome(stated, opened.name):
        raise ValueError(
            f"The object says that it is of {stated!r}, and the genome is {opened.name!r}. Pass "
            "that one; or correct the object, if it is mistaken (its column genome, or "
            "uns['genome'])."
        )
    return opened


def _check_kind(choice: TrackChoice) -> None:
    """Refuse sums that mean one thing in some tracks and another in others."""
    kinds = choice.table.groupby("aggregation", sort=False)["assay"].unique()
    if len(kinds) < 2:
        return
    said = "; ".join(f"{kind}: {', '.join(assays)}" for kind, assays in kinds.items())
    raise ValueError(
        f"Bins are added up, and the chosen tracks do not hold the same kind of bin ({said}). "
        "Choose tracks of one assay, for instance tracks='CAGE'."
    )


def _compared(scores: pd.DataFrame | None, place: Place) -> dict[str, Any]:
    """What the record says of the comparison with counts."""
    if scores is None:
        return {"compared_with": "nothing"}
    columns = {name: scores[name].tolist() for name in scores.columns}
    measured = f"log1p of the mean over cells of counts in {DEPTH:,} of the cell's"
    return {"compared_with": measured, "counts": place.name, "scores": columns}


def _report(
    adata: AnnData,
    keys: ExpressionKeys,
    values: NDArray[np.float32],
    ok: NDArray[np.bool_],
    scores: pd.DataFrame | None,
    sites: StartSites,
    why: list[str],
    model: str,
    started: float,
) -> None:
    logger.info(
        "added %r (varm, %s × %s, float32) with %s in %.1f s",
        keys.varm,
        f"{values.shape[0]:,}",
        f"{values.shape[1]:,}",
        model,
        time.perf_counter() - started,
    )
    if scores is not None and scores["spearman"].notna().any():
        best = int(scores["spearman"].idxmax())
        logger.info(
            "over %s genes, median of %s tracks: Pearson %.2f, Spearman %.2f (highest %.2f, track "
            "%s)",
            f"{int(scores['n_genes'].max()):,}",
            f"{len(scores):,}",
            scores["pearson"].median(),
            scores["spearman"].median(),
            scores["spearman"][best],
            best,
        )
    if ok.all():
        return
    lacking = [reason for reason in why if "have no region" not in reason]
    warn(
        f"{share(int((~ok).sum()), ok.size)} genes have no prediction and are NaN "
        f"({first_names(adata.var_names[~ok])}): {', '.join([*sites.why_not, *lacking])}. Leave "
        f"them out with adata[:, adata.var[{keys.ok!r}]]."
    )
