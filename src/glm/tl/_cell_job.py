"""From checked counts to results by way of the engine: arrays and a model, nothing of AnnData."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._progress import progress_bar
from ..cells import Counts
from ..encode.rows import fingerprint
from ..models.bundle import Model
from ..models.config import is_whole
from ._cell_source import CellSource, rows_per_block, sentence_lengths

if TYPE_CHECKING:
    import torch

    from ..engine import Plan, Reducer, Runner, RunPlan, Team, WorkFolder
    from ..engine.plan import Precision
    from ..engine.run import Executor
    from ..models.config import BertConfig

Devices = int | list[int] | str | None

EMBEDDING_FILE = "embedding.npy"


def packed_bert(model: Model, plan: Plan) -> Executor:
    """The packed executor of a model's encoder."""
    from ..models.fast.bert import PackedBert

    return PackedBert(model.encoder, device=plan.device, dtype=plan.dtype)


@dataclass(frozen=True)
class CellJob:
    """What is to be computed of which cells: all that another process needs for its part.

    Attributes
    ----------
    counts, model
        The cells, and the model that reads them.
    plan
        Device, precision, budget.
    layer, first_only
        What is read of the model.
    facts
        What else the result depends on. To these, and what the job knows itself, a work folder is
        held.
    what
        What is done, for the progress bar.
    make_executor
        Makes the executor; like everything here, something that processes can send each other.
    """

    counts: Counts
    model: Model
    plan: Plan
    layer: int
    first_only: bool = False
    facts: dict[str, Any] = field(default_factory=dict)
    what: str = "embed"
    make_executor: Callable[[Model, Plan], Executor] = packed_bert

    def runner(self, advance: Callable[[int], None], device: torch.device | None = None) -> Runner:
        """The model on its device."""
        from ..engine import Runner

        plan = self.plan if device is None else dataclasses.replace(self.plan, device=device)
        return Runner(
            self.make_executor(self.model, plan),
            plan,
            layer=self.layer,
            first_only=self.first_only,
            progress=lambda n_items, _: advance(n_items),
        )

    def progress(self, *, shown: bool = True) -> AbstractContextManager[Callable[[int], None]]:
        """A bar of the cells that have a sentence."""
        if not shown:
            return nullcontext(_unseen)
        n_cells = int(np.count_nonzero(sentence_lengths(self.counts)))
        return progress_bar(n_cells, "cells", f"{self.what} with {self.model.spec.name}")

    def all_facts(self) -> dict[str, Any]:
        """Everything that decides the bits of the result; reads all counts once."""
        return {
            "model": self.model.spec.name,
            "encoder_sha256": _encoder_sha256(self.model),
            "vocabulary_sha256": self.counts.vocabulary.sha256,
            "n_layers_run": self.layer,
            "first_only": self.first_only,
            **self.facts,
            "device": self.plan.device.type,
            "precision": self.plan.precision,
            "token_budget": self.plan.budget,
            "n_cells": self.counts.n_cells,
            "n_columns": int(self.counts.matrix.shape[1]),
            "rows_per_block": rows_per_block(self.counts),
            "log_normalized": self.counts.log_normalized,
            "genes": hashlib.sha256(self.counts.genes.position.tobytes()).hexdigest(),
            "counts": fingerprint(self.counts.matrix),
        }


def choose_plan(
    config: BertConfig,
    *,
    device: str | None,
    token_budget: int | None,
    precision: Precision | None,
    out: Path | None = None,
) -> Plan:
    """The plan of a run; one that goes on in ``out`` keeps the budget it was begun with."""
    from ..engine import make_plan, read_facts

    begun = read_facts(out) if out is not None else None
    if token_budget is None and begun is not None:
        token_budget = begun.get("token_budget")
    if token_budget is not None and not is_whole(token_budget):
        raise ValueError(f"token_budget is {token_budget!r}; expected a whole number.")
    return make_plan(device, budget=token_budget, precision=precision, config=config)


def run_job(
    job: CellJob,
    reducer: Reducer,
    *,
    out: Path | None = None,
    devices: Devices = None,
    strategy: str = "auto",
) -> None:
    """Compute everything, and let ``reducer`` finish (in every process, where there are several).

    With ``out``, or several devices, shards go through a folder. Those in ``out`` stay when all is
    done, and the same call again only gathers them.
    """
    from ..engine import assemble, cut, gather, states

    source = CellSource(job.counts)
    if out is None and devices is None:
        with job.progress() as advance:
            gather(states(source, reducer, job.runner(advance)), reducer)
        return
    team = assemble(devices, strategy, job.plan.device)
    job = _agreed(job, team)
    with team.folder(out) as path:
        folder = _compute(job, reducer, team, path, job.all_facts() if out is not None else {})
        gather(folder.states(len(cut(source, reducer))), reducer)


def embed_cells(
    job: CellJob,
    pooling: str,
    *,
    out: Path | None = None,
    devices: Devices = None,
    strategy: str = "auto",
) -> np.ndarray:
    """Compute embeddings of checked counts, cells × width.

    With ``out`` they are a memory map of the file that stays there.
    """
    from ..engine import ArraySink, PoolRows

    if out is not None:
        return _embed_to_file(job, pooling, out, devices, strategy)
    sink = ArraySink(job.counts.n_cells, job.model.spec.shape.hidden_size)
    run_job(job, PoolRows(pooling, sink), devices=devices, strategy=strategy)
    return sink.array


def plan_job(job: CellJob, result_bytes: int, reducer: Reducer) -> RunPlan:
    """What a job would cost: counted, and timed on a few batches of its own sentences.

    ``reducer`` takes those in, and is left empty.
    """
    from ..engine import RunPlan, count_batches, estimate_seconds, memory

    counts, model, plan = job.counts, job.model, job.plan
    source, lengths = CellSource(counts), sentence_lengths(counts)
    used = lengths[lengths > 0]
    first = next((block for block in range(source.n_blocks) if source.n_items(block)), 0)
    seconds, measured = estimate_seconds(
        job.make_executor(model, plan),
        plan,
        used,
        source.block(first),
        layer=job.layer,
        first_only=job.first_only,
        reducer=reducer,
    )
    blocks = (source.lengths(block) for block in range(source.n_blocks))
    n_genes_read = counts.vocabulary.n_genes_read
    return RunPlan(
        model=model.spec.name,
        n_rows=counts.n_cells,
        n_rows_usable=int(used.size),
        n_rows_truncated=int((counts.measures.n_genes_known > n_genes_read).sum()),
        n_tokens=int(used.sum()),
        n_blocks=source.n_blocks,
        n_batches=count_batches((block[block > 0] for block in blocks), plan.budget),
        device=str(plan.device),
        precision=plan.precision,
        token_budget=plan.budget,
        seconds=seconds,
        seconds_measured=measured,
        **memory(
            model.spec.shape,
            plan,
            n_weights=sum(parameter.numel() for parameter in model.encoder.parameters()),
            longest=int(used.max(initial=0)),
        ),
        result_bytes=result_bytes,
    )


def _unseen(n_items: int) -> None:
    """No bar: another process shows it."""


def _embed_to_file(
    job: CellJob, pooling: str, out: Path, devices: Devices, strategy: str
) -> np.ndarray:
    from ..engine import WorkFolder, assemble

    team = assemble(devices, strategy, job.plan.device)
    job = _agreed(job, team)
    facts = job.all_facts()
    folder = WorkFolder(out, facts)
    if not folder.is_complete(EMBEDDING_FILE):
        try:
            _make_file(job, pooling, team, folder, facts)
        except FileNotFoundError:
            # A second run of the same call was faster, and has let go of the shards.
            if devices is not None or not folder.is_complete(EMBEDDING_FILE):
                raise
    team.wait()
    if team.rank == 0:
        folder.drop_shards()
    # What is changed in memory stays there: the file is only read from now on. As a plain array,
    # since AnnData writes no other.
    return np.asarray(np.load(folder.result(EMBEDDING_FILE), mmap_mode="c"))


def _make_file(
    job: CellJob, pooling: str, team: Team, folder: WorkFolder, facts: dict[str, Any]
) -> None:
    from ..engine import ArraySink, FileSink, PoolRows, cut, gather

    n_cells, width = job.counts.n_cells, job.model.spec.shape.hidden_size
    _check_room(folder, 4 * n_cells * width)
    reducer = PoolRows(pooling, ArraySink(0, width))
    _compute(job, reducer, team, folder.path, facts)
    n_shards = len(cut(CellSource(job.counts), reducer))

    def write(beside: Path) -> None:
        sink = FileSink(beside, n_cells, width)
        gather(folder.states(n_shards), PoolRows(pooling, sink))
        sink.close()

    if team.rank == 0:
        folder.finish(EMBEDDING_FILE, write)


def _agreed(job: CellJob, team: Team) -> CellJob:
    """The job with the budget of the first process: it follows the memory of each one's device."""
    budget = int(team.tell(str(job.plan.budget)))
    return dataclasses.replace(job, plan=dataclasses.replace(job.plan, budget=budget))


def _compute(
    job: CellJob, reducer: Reducer, team: Team, path: Path, facts: dict[str, Any]
) -> WorkFolder:
    """Let every process compute its shards that are not in the folder yet."""
    from ..engine import WorkFolder

    folder = WorkFolder(path, facts)
    team.run(partial(_compute_here, job, reducer, path, facts))
    return folder


def _compute_here(
    job: CellJob,
    reducer: Reducer,
    path: Path,
    facts: dict[str, Any],
    rank: int,
    world: int,
    device: torch.device,
) -> None:
    from ..engine import WorkFolder, compute_shards

    with job.progress(shown=rank == 0) as advance:
        compute_shards(
            CellSource(job.counts),
            reducer,
            job.runner(advance, device),
            WorkFolder(path, facts),
            rank=rank,
            world=world,
            skipped=advance,
        )


def _check_room(folder: WorkFolder, n_bytes: int) -> None:
    """Refuse a disk that cannot hold the finished file, and the shards that are not there yet."""
    free = shutil.disk_usage(folder.path).free
    needed = 2 * n_bytes - min(folder.shard_bytes(), n_bytes)
    if free < needed:
        raise OSError(
            f"out={str(folder.path)!r} needs {needed / 1e9:.3g} GB for the shards and the result, "
            f"but {free / 1e9:.3g} GB are free there. Free some, or name a folder on a larger disk."
        )


def _encoder_sha256(model: Model) -> str:
    """A hash of the weights as they are: those that were read from a file may have been changed."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.encoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy())
    return digest.hexdigest()
