"""Run items through an executor into a reducer; halve the budget when memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from .._settings import logger
from .items import Items, batch_end, longest_first
from .plan import Plan
from .reduce import Reducer

Progress = Callable[[int, int], None]
"""Is told the items and the tokens that are done."""


@runtime_checkable
class Executor(Protocol):
    """An inference executor of a model that reads packed sentences."""

    def hidden(
        self, tokens: torch.Tensor, lengths: Any, *, layer: int, first_only: bool = False
    ) -> torch.Tensor:
        """Hidden states of packed sentences at ``layer``."""


class ItemExecutor(Protocol):
    """An executor that reads items as they are: their tokens, and which of their outputs are asked.

    Attributes
    ----------
    item
        What messages call an item, ``"window of {n} bases"``.
    """

    item: str

    def read(self, batch: Items) -> torch.Tensor:
        """What comes out of a batch, in the form that the reducer takes."""


Read = Callable[[Items], torch.Tensor]


def reading(
    executor: Executor | ItemExecutor, device: torch.device, *, layer: int, first_only: bool
) -> Read:
    """How a batch is read with an executor."""
    if not isinstance(executor, Executor):
        return executor.read

    def read(batch: Items) -> torch.Tensor:
        tokens = torch.from_numpy(batch.tokens).to(device)
        lengths = batch.lengths.tolist()
        return executor.hidden(tokens, lengths, layer=layer, first_only=first_only)

    return read


class Runner:
    """Runs blocks of items in token budgets.

    Where memory runs out, the budget is half of the batch that did not fit, for that batch and all
    that follow.

    Attributes
    ----------
    budget
        Tokens a batch, as it is now.
    place
        How far it is: number of the block, and items of it that are done, in the order of the run.
    settled
        Whether the reducer has taken in exactly the items up to ``place``. False only for the
        moment in which it takes in a batch.
    """

    def __init__(
        self,
        executor: Executor | ItemExecutor,
        plan: Plan,
        *,
        layer: int = 0,
        first_only: bool = False,
        progress: Progress | None = None,
    ) -> None:
        self.budget = plan.budget
        self.place = (0, 0)
        self.settled = True
        self._device = plan.device
        self._read = reading(executor, plan.device, layer=layer, first_only=first_only)
        self._item = getattr(executor, "item", "sentence of {n} tokens")
        self._progress = progress

    def run(
        self,
        items: Items,
        reducer: Reducer,
        *,
        block: int = 0,
        done: int = 0,
        after: Callable[[], None] | None = None,
    ) -> None:
        """Run a block, longest items first, from the item at which ``done`` are done.

        ``after`` is called after every batch.
        """
        order = longest_first(items)
        ends = np.cumsum(items.lengths[order])
        self.place = (block, done)
        while done < order.size:
            stop = batch_end(ends, done, self.budget)
            batch = items.take(order[done:stop])
            if not self._fits(batch, reducer):
                self._halve(batch)
                continue
            done = stop
            self.place = (block, done)
            self.settled = True
            if self._progress is not None:
                self._progress(len(batch), batch.tokens.size)
            if after is not None:
                after()

    def _fits(self, batch: Items, reducer: Reducer) -> bool:
        """Run a batch; false where memory ran out."""
        try:
            hidden = self._read(batch)
            self.settled = False
            reducer.update(batch, hidden)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            self.settled = True  # an update that fails leaves the reducer as it was
            return False
        return True

    def _halve(self, batch: Items) -> None:
        # Outside of the handler: the error held on to the tensors that are to be freed.
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        if len(batch) == 1:
            raise RuntimeError(
                f"Memory of {self._device} ran out on a single "
                f"{self._item.format(n=f'{batch.tokens.size:,}')} (row {int(batch.row[0]):,}), "
                "which cannot be cut. "
                "Free memory there, or pass another device. What was written to out= before is "
                "kept, and the same call goes on from it."
            )
        self.budget = max(min(self.budget, batch.tokens.size) // 2, 1)
        logger.warning(
            "memory of %s ran out on a batch of %s tokens: going on with a token budget of %s",
            self._device,
            f"{batch.tokens.size:,}",
            f"{self.budget:,}",
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or on the CPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    message = str(error).lower()
    said = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")
    return isinstance(error, RuntimeError) and any(words in message for words in said)


def run(
    source: Iterable[Items],
    executor: Executor,
    reducer: Reducer,
    plan: Plan,
    *,
    layer: int,
    first_only: bool = False,
    progress: Progress | None = None,
) -> None:
    """Stream blocks of items: sort each, run it in token budgets, finish its rows.

    A block must hold all items of its rows. Interrupting it leaves nothing behind; torch's settings
    are not touched.
    """
    runner = Runner(executor, plan, layer=layer, first_only=first_only, progress=progress)
    reducer.start()
    for block in source:
        runner.run(block, reducer)
        if reducer.whole_rows:
            reducer.finish()
    if not reducer.whole_rows:
        reducer.finish()
