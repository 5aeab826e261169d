"""What a run will cost: counted from the lengths of its sentences, and timed on a few batches."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from .._cards import html_card, text_card
from .._messages import counted
from .items import Items, batch_end
from .plan import Plan, token_bytes
from .reduce import Reducer
from .run import Executor, ItemExecutor, Read, is_out_of_memory, reading

if TYPE_CHECKING:
    from ..models.config import BertConfig

# Enough for a few batches of the largest model on one core.
_MOST_SECONDS = 15.0
_BRIEF = 1.5


@dataclass(frozen=True)
class RunPlan:
    """What a call would do, and what it would cost here. Nothing has been written.

    Attributes
    ----------
    model
        The model.
    n_rows, n_rows_usable
        Rows of the object, and those with at least one token to read.
    n_rows_truncated
        Rows longer than the model's context, which are read in part.
    n_tokens
        Tokens that the model reads, special ones included; bases, for one that reads windows.
    n_blocks, n_batches
        Fixed ranges of rows, and batches they are cut into.
    device, precision, token_budget
        Where, in what precision, and how many tokens at once.
    model_bytes, batch_bytes, result_bytes
        Memory of the weights, of the largest batch, and of the result (of embeddings of cells on
        disk with ``out=``) with the sums it is made of and their copies while parts merge.
    seconds
        Estimate from a warm-up on this device, as it is now: loading and reading left out.
    seconds_measured
        How long the warm-up took.
    unit
        What is counted as tokens: ``"tokens"`` or ``"bases"``.
    """

    model: str
    n_rows: int
    n_rows_usable: int
    n_rows_truncated: int
    n_tokens: int
    n_blocks: int
    n_batches: int
    device: str
    precision: str
    token_budget: int
    model_bytes: int
    batch_bytes: int
    result_bytes: int
    seconds: float
    seconds_measured: float
    unit: str = "tokens"

    @property
    def share_truncated(self) -> float:
        """Share of the usable rows that is truncated."""
        return self.n_rows_truncated / self.n_rows_usable if self.n_rows_usable else 0.0

    @property
    def memory_bytes(self) -> int:
        """Weights, largest batch and result together."""
        return self.model_bytes + self.batch_bytes + self.result_bytes

    def _card(self) -> dict[str, object]:
        tokens = self.unit == "tokens"
        truncated = f"{self.n_rows_truncated:,} ({100 * self.share_truncated:.0f}%)"
        return {
            "rows": f"{self.n_rows:,}, of which {self.n_rows_usable:,} usable",
            **({"truncated": f"{truncated} are longer than the context"} if tokens else {}),
            self.unit: f"{self.n_tokens:,} in {counted(self.n_batches, 'batch', 'batches')}, "
            f"{counted(self.n_blocks, 'block')}",
            "device": f"{self.device}, {self.precision}, {self.token_budget:,} {self.unit} at once",
            "memory": f"{_size(self.memory_bytes)}: weights {_size(self.model_bytes)}, a batch "
            f"{_size(self.batch_bytes)}, result {_size(self.result_bytes)}",
            "time": f"about {_duration(self.seconds)} (from {self.seconds_measured:.1f} s measured "
            "here)",
        }

    def __repr__(self) -> str:
        return text_card(f"Plan for {self.model}", self._card(), note=_NOTE)

    def _repr_html_(self) -> str:
        return html_card(f"Plan for {self.model}", self._card(), note=_NOTE)


_NOTE = "Nothing was written. Leave dry_run out to run it."


def count_batches(blocks: Iterable[np.ndarray], budget: int) -> int:
    """Batches that sentences of these lengths, block by block, are cut into."""
    n_batches = 0
    for lengths in blocks:
        ends = np.cumsum(np.sort(lengths)[::-1])
        start = 0
        while start < ends.size:
            start = batch_end(ends, start, budget)
            n_batches += 1
    return n_batches


def estimate_seconds(
    executor: Executor | ItemExecutor,
    plan: Plan,
    lengths: np.ndarray,
    sample: Items,
    *,
    layer: int = 0,
    first_only: bool = False,
    reducer: Reducer | None = None,
) -> tuple[float, float]:
    """Seconds that sentences of these lengths take, and seconds spent on finding out.

    Runs batches of some of the sentences in ``sample``, of about a few of the lengths, and fits a
    cost of tokens and one of pairs of tokens. ``reducer`` takes them in as it would in the run,
    since sums over pairs of genes may take as long as the model; it is empty afterwards.
    """
    from scipy.optimize import nnls

    if not lengths.size or not len(sample):
        return 0.0, 0.0
    started = time.perf_counter()
    read = reading(executor, plan.device, layer=layer, first_only=first_only)
    chosen = np.unique(np.quantile(lengths, [0.1, 0.5, 0.9], method="nearest")).astype(np.int64)
    timed: list[tuple[int, int, float]] = []
    for length in [chosen[0], *chosen]:  # the first one warms up and is not counted
        number = int(min(max(plan.budget // length, 1), lengths.size))
        batch = _of_length(sample, int(length), number)
        seconds = _time_batch(read, plan, batch, reducer)
        if seconds < _BRIEF:  # the faster of two, as something else may have been in the way
            again = _time_batch(read, plan, batch, reducer)
            seconds = min(seconds, again)
        squares = int((batch.lengths.astype(np.int64) ** 2).sum())
        timed.append((batch.tokens.size, squares, seconds))
        if time.perf_counter() - started > _MOST_SECONDS:
            break
    if reducer is not None:
        reducer.start()
    known = np.array(timed[1:] or timed, dtype=np.float64)
    # Divided by the tokens, so that each batch weighs alike.
    costs, _ = nnls(known[:, :2] / known[:, :1], known[:, 2] / known[:, 0])
    whole = lengths.astype(np.float64)
    seconds = float(costs @ [whole.sum(), (whole**2).sum()])
    return seconds, time.perf_counter() - started


def _of_length(sample: Items, length: int, number: int) -> Items:
    """So many sentences nearest to a length, some of them again where there are too few."""
    nearest = np.argsort(np.abs(sample.lengths - length), kind="stable")[:number]
    return sample.take(np.resize(nearest, number))


def _time_batch(read: Read, plan: Plan, batch: Items, reducer: Reducer | None) -> float:
    _wait(plan)
    started = time.perf_counter()
    try:
        hidden = read(batch)
        if reducer is not None:
            reducer.update(batch, hidden)
    except (RuntimeError, MemoryError) as error:
        if len(batch) == 1 or not is_out_of_memory(error):
            raise
        hidden = None
    if hidden is None:
        halves = np.array_split(np.arange(len(batch)), 2)
        return sum(_time_batch(read, plan, batch.take(half), reducer) for half in halves)
    _wait(plan)
    return time.perf_counter() - started


def _wait(plan: Plan) -> None:
    if plan.device.type == "cuda":
        torch.cuda.synchronize(plan.device)


def memory(config: BertConfig, plan: Plan, *, n_weights: int, longest: int) -> dict[str, int]:
    """Bytes of weights and of the largest batch."""
    tokens = max(plan.budget, longest)
    # In bfloat16 the linear layers have a copy at half their size.
    bytes_a_weight = 4 if plan.precision == "float32" else 6
    return {
        "model_bytes": bytes_a_weight * n_weights,
        "batch_bytes": tokens * token_bytes(config, plan.precision),
    }


def _size(n_bytes: float) -> str:
    for unit in ("B", "kB", "MB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:,.3g} GB"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = seconds / 60
    if minutes < 90:
        return f"{minutes:.0f} min"
    hours = minutes / 60
    return f"{hours:.0f} h" if hours < 72 else f"{hours / 24:.0f} days"
