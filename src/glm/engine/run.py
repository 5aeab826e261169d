"""Run a stream of items through an executor into a reducer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch

from .items import Items, batches
from .plan import Plan
from .reduce import Reducer


class Executor(Protocol):
    """An inference executor of a model."""

    def hidden(
        self, tokens: torch.Tensor, lengths: Any, *, layer: int, first_only: bool = False
    ) -> torch.Tensor:
        """Hidden states of packed sentences at ``layer``."""


def run(
    source: Iterable[Items],
    executor: Executor,
    reducer: Reducer,
    plan: Plan,
    *,
    layer: int,
    first_only: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Stream blocks of items: sort each, run it in token budgets, finish its rows.

    A block must hold all items of its rows. ``progress`` is told the rows and the tokens done.
    Interrupting it leaves nothing behind; torch's settings are not touched.
    """
    reducer.start()
    for block in source:
        for batch in batches(block, plan.budget):
            tokens = torch.from_numpy(batch.tokens).to(plan.device)
            hidden = executor.hidden(
                tokens, batch.lengths.tolist(), layer=layer, first_only=first_only
            )
            reducer.update(batch, hidden)
            if progress is not None:
                progress(len(batch), batch.tokens.size)
        reducer.finish()
