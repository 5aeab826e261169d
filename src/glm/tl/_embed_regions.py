"""Embeddings of regions: what :func:`glm.tl.embed` does with a model that reads DNA."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import slots
from .._keys import EmbeddingKeys
from .._messages import first_names, share, warn
from .._settings import logger
from ..cells import check_backed
from ..models.bundle import Model, load
from ..models.reads import dna_vocabulary
from ..models.registry import ModelSpec
from ._job import check_out, choose_plan, embed_rows, finite_rows, plan_job
from ._job_kinds import Job
from ._reading import Run, check_pooling
from ._region_reading import STRANDS, Strand
from ._region_source import RegionSource

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from ..engine import RunPlan
    from ..genome import Genome
    from ..locate import Located
    from ..models.config import Pooling
    from ..models.dna_vocabulary import DnaVocabulary

EDGES = ("clip", "raise")


@dataclass(frozen=True)
class RegionOptions:
    """The options of :func:`glm.tl.embed` that are of regions alone."""

    genome: Any = None
    axis: str | None = None
    strand: Strand = "own"
    max_n_share: float = 0.1
    edges: str = "clip"

    def given(self) -> dict[str, bool]:
        """Which of them were given: differ from what they are by themselves."""
        return {f.name: getattr(self, f.name) != f.default for f in fields(self)}

    def check(self) -> None:
        """Refuse values that are none."""
        if self.strand not in STRANDS:
            raise ValueError(
                f"strand is {self.strand!r}; expected 'own', 'both' or '+'. Which strand a region "
                "lies on is said by the object, in a column strand."
            )
        if self.edges not in EDGES:
            raise ValueError(f"edges is {self.edges!r}; expected 'clip' or 'raise'.")
        known = isinstance(self.max_n_share, int | float) and 0 <= self.max_n_share <= 1
        if not known or isinstance(self.max_n_share, bool):
            raise ValueError(f"max_n_share is {self.max_n_share!r}; expected 0 to 1.")


def embed_regions(
    data: AnnData | MuData,
    model: Any,
    spec: ModelSpec,
    run: Run,
    options: RegionOptions,
    *,
    mod: str | None,
) -> AnnData | MuData | RunPlan | None:
    """Check, compute, write: see :func:`glm.tl.embed`."""
    options.check()
    located = find_regions(data, spec.name, axis=options.axis, mod=mod)
    adata = located.holder
    vocabulary = dna_vocabulary(model if isinstance(model, Model) else spec)
    pooling = check_pooling(spec, vocabulary, run.pooling)
    read_layer, n_layers_run = run.layer_of(spec)
    if adata.isbacked:
        check_backed(adata, run.copy)
    folder = check_out(run.out, adata)
    plan = choose_plan(
        spec.shape,
        device=run.device,
        token_budget=run.token_budget,
        precision=run.precision,
        out=folder,
    )
    genome = open_genome(options.genome, located, spec.name)
    keys = EmbeddingKeys(run.key_added or spec.system)
    written = keys.slots(located.axis)
    check = partial(slots.check_free, adata, written, keys.record, overwrite=run.overwrite)
    if not run.dry_run:
        check(model=spec.name)
    loaded = load(model)  # before the genome, which is larger and may have to be fetched as well
    if not run.dry_run:
        check(model=spec.name, weights_sha256=loaded.weights_sha256)
    source = make_source(located, genome, vocabulary, options, pooling)
    started = time.perf_counter()
    facts = {"function": "glm.tl.embed", "pooling": pooling}
    job = Job(source, loaded, plan, n_layers_run, pooling == "cls", facts)
    if run.dry_run:
        return _plan(job, pooling)
    vectors = embed_rows(job, pooling, out=folder, devices=run.devices, strategy=run.strategy)
    ok = finite_rows(vectors)
    record = slots.make_record(
        function="glm.tl.embed",
        model=spec.name,
        tier=spec.tier,
        weights_sha256=loaded.weights_sha256,
        vocabulary=vocabulary.name,
        vocabulary_sha256=vocabulary.sha256,
        axis=located.axis,
        regions=located.where,
        **_sequence_facts(genome, located, source, options, vocabulary),
        pooling=pooling,
        hidden_layer=read_layer,
        n_layers_run=n_layers_run,
        precision=plan.precision,
        device=plan.device.type,
        token_budget=plan.budget,
        context=vocabulary.context,
        n_regions_unusable=int((~ok).sum()),
        out=folder,
        note=spec.note,
    )
    result = data.copy() if run.copy else data
    holder = result.mod[mod] if run.copy and mod is not None else result if run.copy else adata
    values = dict(zip(written, (vectors, ok), strict=True))
    with slots.keeping(vectors, folder):
        slots.write(holder, values, keys.record, record)
    _report(located, keys, ok, source, vectors, spec, time.perf_counter() - started)
    return result if run.copy else None


def find_regions(data: Any, model: str, *, axis: str | None, mod: str | None) -> Located:
    """The regions of an object that takes results, or of its modality, for a model of that name.

    Raises
    ------
    TypeError
        If it is no AnnData or MuData; else as :func:`glm.locate.regions_of`.
    """
    from anndata import AnnData

    from ..locate import regions_of

    if not isinstance(data, AnnData) and not isinstance(getattr(data, "mod", None), Mapping):
        raise TypeError(
            f"Got a {type(data).__name__}, expected an AnnData or a MuData, into which results are "
            "written. Of a table or a BED file glm.pp.set_regions makes columns of an AnnData."
        )
    try:
        return regions_of(data, axis=axis, mod=mod)
    except ValueError as error:  # someone with cells, perhaps, who does not know
        raise ValueError(f"{model} reads regions of DNA. {error}") from None


def open_genome(genome: Any, located: Located, model: str) -> Genome:
    """The genome that was asked for, held against what the object says of itself.

    Raises
    ------
    ValueError
        If none was named, or it is another one than the object's.
    """
    from ..genome import as_genome
    from ..locate import check_genome

    if genome is None:
        said = f" The object says {located.genome!r}." if located.genome else ""
        raise ValueError(
            f"{model} reads DNA: say of which genome with genome=, a published one's name ('hg19', "
            f"'hg38', 'mm10'), the path of a 2bit or FASTA file, or a glm.Genome.{said} None is "
            "assumed, since coordinates of one genome read something else in another."
        )
    opened = as_genome(genome)
    check_genome(located, opened)
    return opened


def make_source(
    located: Located,
    genome: Genome,
    vocabulary: DnaVocabulary,
    options: RegionOptions,
    pooling: Pooling,
) -> RegionSource:
    """The sentences of the regions.

    Raises
    ------
    ValueError
        If none of them has one; else as :class:`RegionSource`.
    """
    source = RegionSource(
        located.regions,
        located.rows,
        located.n_rows,
        genome=genome,
        vocabulary=vocabulary,
        strand=options.strand,
        pooling=pooling,
        max_n_share=options.max_n_share,
        edges=options.edges,
    )
    if not source.n_usable:
        raise ValueError(
            f"None of {located.n_rows:,} regions can be read: {', '.join(source.why_not())}. Are "
            f"they of this genome ({genome.name or genome.source})?"
        )
    return source


def _plan(job: Job, pooling: str) -> RunPlan:
    from ..engine import ArraySink, PoolRows

    reducer = PoolRows(pooling, ArraySink(0, job.width))
    return plan_job(job, 4 * job.source.n_rows * job.width, reducer)


def _sequence_facts(
    genome: Genome,
    located: Located,
    source: RegionSource,
    options: RegionOptions,
    vocabulary: DnaVocabulary,
) -> dict[str, Any]:
    """What a record says of the sequence that was read."""
    longest = vocabulary.n_tokens_read
    return {
        "genome": genome.name or "unknown",
        "genome_source": genome.source,
        "genome_fingerprint": genome.fingerprint(),
        "genome_stated": located.genome or "none",
        "strand": options.strand,
        "flank_bp": vocabulary.flank_bp,
        "max_n_share": float(options.max_n_share),
        "edges": options.edges,
        "stitching": f"pieces of {longest} tokens that overlap by at least half; each token is "
        "read out of the piece in whose middle it stands",
        **source.counts(),
    }


def _report(
    located: Located,
    keys: EmbeddingKeys,
    ok: np.ndarray,
    source: RegionSource,
    vectors: np.ndarray,
    spec: ModelSpec,
    seconds: float,
) -> None:
    logger.info(
        "added %r (%sm, %s × %s, float32) with %s in %.1f s",
        keys.obsm,
        located.axis,
        f"{vectors.shape[0]:,}",
        vectors.shape[1],
        spec.name,
        seconds,
    )
    if ok.all():
        return
    names = getattr(located.holder, f"{located.axis}_names")
    bad = [names[row] for row in np.flatnonzero(~ok)]
    why = source.why_not()
    if n_wrong := source.n_usable - int(ok.sum()):
        why.append(f"{n_wrong:,} came out of the model not finite")
    chosen = f"adata.{located.axis}[{keys.ok!r}]"
    way = f"adata[:, {chosen}]" if located.axis == "var" else f"adata[{chosen}]"
    warn(
        f"{share(len(bad), ok.size)} regions could not be embedded and are NaN "
        f"({first_names(bad)}): {', '.join(why)}. Leave them out with {way}."
    )
