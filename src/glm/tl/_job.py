"""From a source of sentences to results by way of the engine: arrays and a model, no AnnData."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..models.config import is_whole
from ._job_kinds import AnyJob, OneJob

if TYPE_CHECKING:
    import torch
    from anndata import AnnData

    from ..engine import Plan, Reducer, RunPlan, Team, WorkFolder
    from ..engine.plan import Precision
    from ..models.config import BertConfig

Devices = int | list[int] | str | None

EMBEDDING_FILE = "embedding.npy"


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


def check_out(out: str | Path | None, adata: AnnData) -> Path | None:
    """The folder of a long run; refuses the object's own file, and what is no such folder."""
    from ..engine import read_facts

    if out is None:
        return None
    folder = Path(out).expanduser()
    source = Path(adata.filename) if adata.isbacked else None
    if source is not None and folder.exists() and source.exists() and folder.samefile(source):
        raise ValueError(
            f"out={str(out)!r} is the file that adata is read from. Name a folder for the results."
        )
    read_facts(folder)
    return folder


def finite_rows(vectors: np.ndarray, step: int = 8192) -> np.ndarray:
    """Whether each row is finite, some rows at a time: the array may be larger than memory."""
    ok = np.zeros(len(vectors), bool)
    for start in range(0, len(vectors), step):
        ok[start : start + step] = np.isfinite(vectors[start : start + step]).all(axis=1)
    return ok


def run_job(
    job: AnyJob,
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
    from ..engine import WorkFolder, assemble, cut, gather, states

    if out is None and devices is None:
        with job.progress() as advance:
            gather(states(job.source, reducer, job.runner(advance)), reducer)
        return
    team = assemble(devices, strategy, job.plan.device)
    job = _agreed(job, team)
    with team.folder(out) as path:
        folder = WorkFolder(path, job.all_facts() if out is not None else {})
        compute(job, reducer, team, folder)
        gather(folder.states(len(cut(job.source, reducer))), reducer)


def embed_rows(
    job: AnyJob,
    pooling: str,
    *,
    out: Path | None = None,
    devices: Devices = None,
    strategy: str = "auto",
    file: str = EMBEDDING_FILE,
) -> np.ndarray:
    """Compute embeddings, rows × width.

    With ``out`` they are a memory map of the ``file`` that stays there.
    """
    from ..engine import ArraySink, PoolRows

    if out is not None:
        return _embed_to_file(job, pooling, out, devices, strategy, file)
    sink = ArraySink(job.source.n_rows, job.width)
    run_job(job, PoolRows(pooling, sink), devices=devices, strategy=strategy)
    return sink.array


def plan_job(job: AnyJob, result_bytes: int, reducer: Reducer, *, unit: str = "tokens") -> RunPlan:
    """What a job would cost: counted, and timed on a few batches of its own sentences.

    ``reducer`` takes those in, and is left empty.
    """
    from ..engine import RunPlan, count_batches, estimate_seconds

    source, plan = job.source, job.plan
    blocks = [source.lengths(block) for block in range(source.n_blocks)]
    lengths = np.concatenate([np.zeros(0, np.int64), *blocks])
    first = next((block for block, own in enumerate(blocks) if own.size), 0)
    seconds, measured = estimate_seconds(
        job.executor(plan), plan, lengths, source.block(first), reducer=reducer, **job.reading
    )
    return RunPlan(
        model=job.name,
        n_rows=source.n_rows,
        n_rows_usable=source.n_usable,
        n_rows_truncated=source.n_truncated,
        n_tokens=int(lengths.sum()),
        n_blocks=source.n_blocks,
        n_batches=count_batches(blocks, plan.budget),
        device=str(plan.device),
        precision=plan.precision,
        token_budget=plan.budget,
        seconds=seconds,
        seconds_measured=measured,
        **job.memory(int(lengths.max(initial=0))),
        result_bytes=result_bytes,
        unit=unit,
    )


def complete(
    job: OneJob,
    out: Path,
    file: str,
    make: Callable[[OneJob, Team, WorkFolder], None],
    *,
    kind: type[WorkFolder] | None = None,
    devices: Devices = None,
    strategy: str = "auto",
) -> WorkFolder:
    """The folder with a job's finished result, of which ``file`` is made last.

    ``make`` computes what is not there yet, in every process; a folder that is complete is left as
    it is.
    """
    from ..engine import WorkFolder, assemble

    team = assemble(devices, strategy, job.plan.device)
    job = _agreed(job, team)
    folder = (kind or WorkFolder)(out, job.all_facts())
    if not folder.is_complete(file):
        try:
            make(job, team, folder)
        except FileNotFoundError:
            # A second run of the same call was faster, and has let go of the shards.
            if devices is not None or not folder.is_complete(file):
                raise
    team.wait()
    if team.rank == 0:
        folder.drop_shards()
    return folder


def _embed_to_file(
    job: AnyJob, pooling: str, out: Path, devices: Devices, strategy: str, file: str
) -> np.ndarray:
    make = partial(_make_file, pooling, file)
    folder = complete(job, out, file, make, devices=devices, strategy=strategy)
    # What is changed in memory stays there: the file is only read from now on. As a plain array,
    # since AnnData writes no other.
    return np.asarray(np.load(folder.result(file), mmap_mode="c"))


def _make_file(pooling: str, file: str, job: AnyJob, team: Team, folder: WorkFolder) -> None:
    from ..engine import ArraySink, FileSink, PoolRows, cut, gather

    n_rows, width = job.source.n_rows, job.width
    n_bytes = 4 * n_rows * width
    check_room(folder, 2 * n_bytes - min(folder.shard_bytes(), n_bytes))
    reducer = PoolRows(pooling, ArraySink(0, width))
    compute(job, reducer, team, folder)
    n_shards = len(cut(job.source, reducer))

    def write(beside: Path) -> None:
        sink = FileSink(beside, n_rows, width)
        gather(folder.states(n_shards), PoolRows(pooling, sink))
        sink.close()

    if team.rank == 0:
        folder.finish(file, write)


def _agreed(job: OneJob, team: Team) -> OneJob:
    """The job with the budget of the first process: it follows the memory of each one's device."""
    plan = dataclasses.replace(job.plan, budget=int(team.tell(str(job.plan.budget))))
    return dataclasses.replace(job, plan=plan)  # type: ignore[type-var]  # all are dataclasses


def compute(job: AnyJob, reducer: Reducer, team: Team, folder: WorkFolder) -> None:
    """Let every process compute its shards that are not in the folder yet."""
    team.run(partial(_compute_here, job, reducer, type(folder), folder.path, folder.facts))


def _compute_here(
    job: AnyJob,
    reducer: Reducer,
    kind: type[WorkFolder],
    path: Path,
    facts: dict[str, Any],
    rank: int,
    world: int,
    device: torch.device,
) -> None:
    from ..engine import compute_shards

    with job.progress(shown=rank == 0) as advance:
        compute_shards(
            job.source,
            reducer,
            job.runner(advance, device),
            kind(path, facts),
            rank=rank,
            world=world,
            skipped=advance,
        )


def check_room(folder: WorkFolder, needed: int) -> None:
    """Refuse a disk that cannot hold the finished result, and the shards that are not there yet."""
    free = shutil.disk_usage(folder.path).free
    if free < needed:
        raise OSError(
            f"out={str(folder.path)!r} needs {needed / 1e9:.3g} GB for the shards and the result, "
            f"but {free / 1e9:.3g} GB are free there. Free some, or name a folder on a larger disk."
        )
