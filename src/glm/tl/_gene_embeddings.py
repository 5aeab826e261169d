"""The two ways of :func:`glm.tl.embed` that average over cells: of genes, and of groups of cells.

Each is called by it with everything checked, computes, and writes.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import slots
from .._keys import GeneEmbeddingKeys, GroupEmbeddingKeys
from .._settings import logger
from ..cells import Counts
from ..models.bundle import Model, load
from ..models.registry import ModelSpec
from ._cell_source import CellSource
from ._gene_axis import place_of_token, readable_columns, tell_left_out
from ._groups import Groups, check_distinct
from ._job import Devices, run_job
from ._job_kinds import Job

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from anndata import AnnData

    from ..engine import Plan, Reducer


class Reading(NamedTuple):
    """What is read of a model: everything but the cells."""

    model: str | Path | Model
    spec: ModelSpec
    pooling: str
    hidden_layer: str | int
    n_layers_run: int
    plan: Plan
    out: Path | None = None
    devices: Devices = None
    strategy: str = "auto"

    def job(self, counts: Counts, model: Model, groups: Groups, of: str, what: str) -> Job:
        """The cells to run, and everything that the result depends on."""
        first_only = of == "cells" and self.pooling == "cls"
        facts = {
            "function": "glm.tl.embed",
            "of": of,
            "pooling": self.pooling if of == "cells" else "none",
            "groups": groups.sha256,
        }
        return Job(CellSource(counts), model, self.plan, self.n_layers_run, first_only, facts, what)

    def run(self, job: Job, reducer: Reducer) -> None:
        """Run them."""
        run_job(job, reducer, out=self.out, devices=self.devices, strategy=self.strategy)


def embed_genes(
    adata: AnnData,
    counts: Counts,
    groups: Groups,
    reading: Reading,
    *,
    key: str,
    overwrite: bool,
) -> None:
    """Write the mean over cells of each gene's hidden states."""
    keys = GeneEmbeddingKeys(key, groups.column)
    written = [
        slot
        for group in groups.names
        for slot in (("varm", keys.varm(group)), ("var", keys.n_cells(group)))
    ]
    check_distinct(written, groups)
    model = reading.spec.name
    check = partial(slots.check_free, adata, written, keys.record, overwrite=overwrite)
    check(model=model)
    started = time.perf_counter()
    loaded = load(reading.model)
    check(model=model, weights_sha256=loaded.weights_sha256)
    found = average_genes(counts, loaded, groups, reading)

    values: dict[slots.Slot, Any] = {}
    for number, (vectors, n) in enumerate(zip(found.vectors, found.n, strict=True)):
        values[written[2 * number]] = _on_axis(vectors, found.columns, adata.n_vars, np.nan)
        values[written[2 * number + 1]] = _on_axis(n, found.columns, adata.n_vars, 0)
    record = slots.make_record(
        function="glm.tl.embed",
        of="genes",
        **_facts(counts, loaded, reading),
        **groups.facts,
        n_cells_of_group=found.n_cells,
        n_cells_not_finite=found.n_not_finite,
        n_genes_embedded=int((found.n > 0).any(axis=0).sum()),
    )
    with slots.keeping(found.vectors, reading.out):
        slots.write(adata, values, keys.record, record)
    logger.info(
        "added %r (varm, %s × %s, float32%s) with %s in %.1f s",
        keys.varm(groups.names[0]),
        f"{adata.n_vars:,}",
        found.vectors.shape[2],
        f", and so on for {len(groups)} groups" if groups.column is not None else "",
        model,
        time.perf_counter() - started,
    )
    tell_left_out(adata, counts, found.n_not_finite, model)


def embed_groups(
    adata: AnnData,
    counts: Counts,
    groups: Groups,
    reading: Reading,
    *,
    key: str,
    overwrite: bool,
) -> None:
    """Write the mean of the cell embeddings of each group; the cells' own are not kept."""
    assert groups.column is not None  # the public function asks for groups or for cells
    keys = GroupEmbeddingKeys(key, groups.column)
    model = reading.spec.name
    check = partial(slots.check_free, adata, [], keys.record, overwrite=overwrite)
    check(model=model)
    started = time.perf_counter()
    loaded = load(reading.model)
    check(model=model, weights_sha256=loaded.weights_sha256)
    found = average_cells(counts, loaded, groups, reading)

    record = slots.make_record(
        function="glm.tl.embed",
        of="cells",
        pooling=reading.pooling,
        **_facts(counts, loaded, reading),
        **groups.facts,
        n_cells_not_finite=found.n_not_finite,
    )
    record |= {"n_cells_of_group": found.n_cells, "embeddings": found.vectors}
    with slots.keeping(found.vectors, reading.out):
        slots.write(adata, {}, keys.record, record)
    logger.info(
        "added %r (uns, %s groups × %s, float32) with %s in %.1f s",
        keys.record,
        len(groups),
        found.vectors.shape[1],
        model,
        time.perf_counter() - started,
    )
    tell_left_out(adata, counts, found.n_not_finite, model)


class GeneVectors(NamedTuple):
    """Means of genes: groups × genes × width, for the genes in these columns."""

    vectors: np.ndarray
    n: np.ndarray
    columns: np.ndarray
    n_cells: np.ndarray
    n_not_finite: int


def average_genes(counts: Counts, model: Model, groups: Groups, reading: Reading) -> GeneVectors:
    """Compute the mean hidden state of each gene over the cells of each group that read it."""
    from ..engine.gene_means import GeneMeans

    columns = readable_columns(counts)
    reducer = GeneMeans(
        place_of_token(counts, columns),
        columns.size,
        model.spec.shape.hidden_size,
        group_of_row=groups.of_row,
        n_groups=len(groups),
        device=reading.plan.device,
    )
    reading.run(reading.job(counts, model, groups, "genes", "embed genes"), reducer)
    n = reducer.n.astype(np.int32)
    return GeneVectors(reducer.means, n, columns, reducer.n_cells, reducer.n_not_finite)


class GroupVectors(NamedTuple):
    """Means of groups of cells: groups × width."""

    vectors: np.ndarray
    n_cells: np.ndarray
    n_not_finite: int


def average_cells(counts: Counts, model: Model, groups: Groups, reading: Reading) -> GroupVectors:
    """Compute the mean cell embedding of each group."""
    from ..engine import PoolRows
    from ..engine.gene_means import GroupMeans

    sink = GroupMeans(groups.of_row, len(groups), model.spec.shape.hidden_size)
    reducer = PoolRows(reading.pooling, sink)
    reading.run(reading.job(counts, model, groups, "cells", "embed"), reducer)
    return GroupVectors(sink.means(), sink.n, sink.n_not_finite)


def result_bytes(counts: Counts, groups: Groups, of: str, width: int) -> int:
    """Most bytes that the result takes, with the float64 sums that a mean is made of."""
    from ..engine.gene_means import NUMBER_BYTES

    if of == "genes":
        return NUMBER_BYTES * len(groups) * readable_columns(counts).size * width
    return 4 * counts.n_cells * width if groups.column is None else 12 * len(groups) * width


def timed_reducer(
    counts: Counts, of: str, pooling: str, width: int, device: torch.device
) -> Reducer:
    """A reducer that costs what the one of the run does, of one group and without a result."""
    from ..engine import ArraySink, PoolRows
    from ..engine.gene_means import GeneMeans

    if of == "cells":
        return PoolRows(pooling, ArraySink(0, width))
    columns = readable_columns(counts)
    return GeneMeans(place_of_token(counts, columns), columns.size, width, device=device)


def _facts(counts: Counts, model: Model, reading: Reading) -> dict[str, object]:
    """What the records of both have in common."""
    n_ranked = counts.measures.n_genes_known
    spec, vocabulary = reading.spec, counts.vocabulary
    return {
        "model": spec.name,
        "tier": spec.tier,
        "weights_sha256": model.weights_sha256,
        "vocabulary": vocabulary.name,
        "vocabulary_sha256": vocabulary.sha256,
        "hidden_layer": reading.hidden_layer,
        "n_layers_run": reading.n_layers_run,
        "precision": reading.plan.precision,
        "device": reading.plan.device.type,
        "token_budget": reading.plan.budget,
        "context": vocabulary.context,
        "n_cells": counts.n_cells,
        "n_cells_unusable": int((n_ranked == 0).sum()),
        "n_cells_truncated": int((n_ranked > vocabulary.n_genes_read).sum()),
        "n_genes_beyond_context": int(np.maximum(n_ranked - vocabulary.n_genes_read, 0).sum()),
        "out": reading.out,
        "note": spec.note,
        **counts.facts,
    }


def _on_axis(values: np.ndarray, columns: np.ndarray, n_vars: int, absent: float) -> np.ndarray:
    """Spread values of some columns over all of them."""
    whole = np.full((n_vars, *values.shape[1:]), absent, dtype=values.dtype)
    whole[columns] = values
    return whole
