"""From a source of sentences to results by way of the engine: arrays and a model, no AnnData."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from .._progress import progress_bar
from ..models.bundle import Model
from ..models.config import is_whole

if TYPE_CHECKING:
    import torch
    from anndata import AnnData

    from ..engine import Items, Plan, Reducer, Runner, RunPlan, Team, WorkFolder
    from ..engine.plan import Precision
    from ..engine.run import Executor, ItemExecutor
    from ..models.config import BertConfig

Devices = int | list[int] | str | None

EMBEDDING_FILE = "embedding.npy"


class RowSource(Protocol):
    """Sentences of the rows of a user's object (cells, regions), in blocks of whole rows.

    Any block can be asked for, in any process: a source can be pickled.

    Attributes
    ----------
    unit
        What the rows are called: ``"cells"``, ``"regions"``.
    n_rows
        Rows of the object, those without a sentence included.
    n_usable
        Rows that have a sentence.
    n_truncated
        Rows of which the model reads only a part.
    n_blocks
        How many blocks there are.
    """

    @property
    def unit(self) -> str: ...

    @property
    def n_rows(self) -> int: ...

    @property
    def n_usable(self) -> int: ...

    @property
    def n_truncated(self) -> int: ...

    @property
    def n_blocks(self) -> int: ...

    def n_items(self, block: int) -> int:
        """Items of a block."""

    def lengths(self, block: int) -> np.ndarray:
        """int64, tokens of each item of a block, in the order of :meth:`block`."""

    def block(self, block: int) -> Items:
        """The items of a block, the same at every call; all items of a row are in one block."""

    def facts(self) -> dict[str, Any]:
        """Everything of the data that decides the bits of a result; may read them all once."""


def packed_bert(model: Model, plan: Plan) -> Executor:
    """The packed executor of a model's encoder."""
    from ..models.fast.bert import PackedBert

    return PackedBert(model.encoder, device=plan.device, dtype=plan.dtype)


class AnyJob(ABC):
    """What is to be computed of which rows: all that another process needs for its part.

    What reads sentences is a :class:`Job`; others say themselves what of their model counts.

    Attributes
    ----------
    source
        The items.
    plan
        Device, precision, budget.
    what
        What is done, for the progress bar.
    """

    source: RowSource
    plan: Plan
    what: str

    @property
    @abstractmethod
    def name(self) -> str:
        """The model's name."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Numbers of a row's result."""

    @property
    def reading(self) -> dict[str, Any]:
        """What the engine is told of the executor's ``hidden``; nothing, if that reads items."""
        return {}

    @abstractmethod
    def executor(self, plan: Plan) -> Executor | ItemExecutor:
        """The model on its device."""

    @abstractmethod
    def facts_of_model(self) -> dict[str, Any]:
        """Everything of the model, and of how it is read, that decides the bits of a result."""

    @abstractmethod
    def memory(self, longest: int) -> dict[str, int]:
        """Bytes of weights and of the largest batch, for items of up to so many tokens."""

    def runner(self, advance: Callable[[int], None], device: torch.device | None = None) -> Runner:
        """What runs the items, on the plan's device or another."""
        from ..engine import Runner

        plan = self.plan if device is None else dataclasses.replace(self.plan, device=device)
        return Runner(
            self.executor(plan),
            plan,
            progress=lambda n_items, _: advance(n_items),
            **self.reading,
        )

    def progress(self, *, shown: bool = True) -> AbstractContextManager[Callable[[int], None]]:
        """A bar of the items."""
        if not shown:
            return nullcontext(_unseen)
        n_items = sum(map(self.source.n_items, range(self.source.n_blocks)))
        return progress_bar(n_items, self.source.unit, f"{self.what} with {self.name}")

    def all_facts(self) -> dict[str, Any]:
        """Everything that decides the bits of the result; reads all data once."""
        return {
            "model": self.name,
            **self.facts_of_model(),
            "device": self.plan.device.type,
            "precision": self.plan.precision,
            "token_budget": self.plan.budget,
            **self.source.facts(),
        }


OneJob = TypeVar("OneJob", bound=AnyJob)


@dataclass(frozen=True)
class Job(AnyJob):
    """A job of a model that reads sentences.

    Attributes
    ----------
    source, model
        The sentences, and the model that reads them.
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

    source: RowSource
    model: Model
    plan: Plan
    layer: int
    first_only: bool = False
    facts: dict[str, Any] = field(default_factory=dict)
    what: str = "embed"
    make_executor: Callable[[Model, Plan], Executor] = packed_bert

    @property
    def name(self) -> str:
        return self.model.spec.name

    @property
    def width(self) -> int:
        return self.model.spec.shape.hidden_size

    @property
    def reading(self) -> dict[str, Any]:
        return {"layer": self.layer, "first_only": self.first_only}

    def executor(self, plan: Plan) -> Executor:
        return self.make_executor(self.model, plan)

    def facts_of_model(self) -> dict[str, Any]:
        return {
            "encoder_sha256": _encoder_sha256(self.model),
            "vocabulary_sha256": self.model.vocabulary.sha256,
            "n_layers_run": self.layer,
            "first_only": self.first_only,
            **self.facts,
        }

    def memory(self, longest: int) -> dict[str, int]:
        from ..engine import memory

        n_weights = sum(parameter.numel() for parameter in self.model.encoder.parameters())
        return memory(self.model.spec.shape, self.plan, n_weights=n_weights, longest=longest)


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


def _unseen(n_items: int) -> None:
    """No bar: another process shows it."""


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


def _encoder_sha256(model: Model) -> str:
    """A hash of the weights as they are: those that were read from a file may have been changed."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.encoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy())
    return digest.hexdigest()
