"""Embeddings of cells: what :func:`glm.tl.embed` does with a model that reads genes."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import slots
from .._keys import EmbeddingKeys
from .._messages import first_names, share, warn
from .._settings import logger
from ..cells import check_counts, check_target
from ..models.bundle import Model, load
from ..models.reads import gene_vocabulary
from ..models.registry import ModelSpec
from ._cell_source import CellSource
from ._gene_axis import check_same_genes
from ._gene_embeddings import Reading, embed_genes, embed_groups, result_bytes, timed_reducer
from ._groups import find_groups
from ._job import check_out, choose_plan, embed_rows, finite_rows, plan_job
from ._job_kinds import Job
from ._reading import Run, check_pooling

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from ..engine import RunPlan


def embed_cells(
    data: AnnData | MuData,
    model: Any,
    spec: ModelSpec,
    run: Run,
    *,
    of: str,
    groupby: str | None,
    mod: str | None,
    counts_at: dict[str, Any],
) -> AnnData | MuData | RunPlan | None:
    """Check, compute, write: see :func:`glm.tl.embed`."""
    data, adata = check_target(data, mod=mod, copy=run.copy and not run.dry_run)
    vocabulary = gene_vocabulary(model if isinstance(model, Model) else spec)
    pooling = check_pooling(spec, vocabulary, run.pooling, pooled=of == "cells")
    read_layer, n_layers_run = run.layer_of(spec)
    folder = check_out(run.out, adata)
    groups = find_groups(adata, groupby)
    plan = choose_plan(
        spec.shape,
        device=run.device,
        token_budget=run.token_budget,
        precision=run.precision,
        out=folder,
    )
    counts = check_counts(adata, vocabulary, model=spec.name, **counts_at)
    if of == "genes":
        check_same_genes(adata, counts_at["use_raw"])
    if run.dry_run:
        first_only = of == "cells" and pooling == "cls"
        job = Job(CellSource(counts), load(model), plan, n_layers_run, first_only)
        width = spec.shape.hidden_size
        reducer = timed_reducer(counts, of, pooling, width, plan.device)
        return plan_job(job, result_bytes(counts, groups, of, width), reducer)
    key = run.key_added or spec.system
    if of == "genes" or groupby is not None:
        reading = Reading(
            model, spec, pooling, read_layer, n_layers_run, plan, folder, run.devices, run.strategy
        )
        average = embed_genes if of == "genes" else embed_groups
        average(adata, counts, groups, reading, key=key, overwrite=run.overwrite)
        return data if run.copy else None

    keys = EmbeddingKeys(key)
    written = keys.slots("obs")
    check = partial(slots.check_free, adata, written, keys.record, overwrite=run.overwrite)
    check(model=spec.name)
    started = time.perf_counter()
    loaded = load(model)
    check(model=spec.name, weights_sha256=loaded.weights_sha256)
    facts = {"function": "glm.tl.embed", "pooling": pooling}
    job = Job(CellSource(counts), loaded, plan, n_layers_run, pooling == "cls", facts)
    vectors = embed_rows(job, pooling, out=folder, devices=run.devices, strategy=run.strategy)
    ok = finite_rows(vectors)

    n_ranked = counts.measures.n_genes_known
    record = slots.make_record(
        function="glm.tl.embed",
        model=spec.name,
        tier=spec.tier,
        weights_sha256=loaded.weights_sha256,
        vocabulary=vocabulary.name,
        vocabulary_sha256=vocabulary.sha256,
        pooling=pooling,
        hidden_layer=read_layer,
        n_layers_run=n_layers_run,
        precision=plan.precision,
        device=plan.device.type,
        token_budget=plan.budget,
        context=vocabulary.context,
        n_cells=counts.n_cells,
        n_cells_unusable=int((~ok).sum()),
        n_cells_truncated=int((n_ranked > vocabulary.n_genes_read).sum()),
        n_genes_beyond_context=int(np.maximum(n_ranked - vocabulary.n_genes_read, 0).sum()),
        out=folder,
        note=spec.note,
        **counts.facts,
    )
    values = dict(zip(written, (vectors, ok), strict=True))
    with slots.keeping(vectors, folder):
        slots.write(adata, values, keys.record, record)
    _report(adata, keys, ok, n_ranked, vectors, spec, time.perf_counter() - started)
    return data if run.copy else None


def _report(
    adata: AnnData,
    keys: EmbeddingKeys,
    ok: np.ndarray,
    n_ranked: np.ndarray,
    vectors: np.ndarray,
    spec: ModelSpec,
    seconds: float,
) -> None:
    logger.info(
        "added %r (obsm, %s × %s, float32) with %s in %.1f s",
        keys.obsm,
        f"{vectors.shape[0]:,}",
        vectors.shape[1],
        spec.name,
        seconds,
    )
    if ok.all():
        return
    bad = [adata.obs_names[row] for row in np.flatnonzero(~ok)]
    n_empty = int((n_ranked == 0).sum())
    why = f"{n_empty:,} have no count on a gene of {spec.name}"
    if n_empty < len(bad):
        why += f", {len(bad) - n_empty:,} came out of the model not finite"
    warn(
        f"{share(len(bad), ok.size)} cells could not be embedded and are NaN ({first_names(bad)}): "
        f"{why}. Leave them out with adata[adata.obs[{keys.ok!r}]]."
    )
