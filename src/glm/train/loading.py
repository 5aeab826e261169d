"""The batches of an epoch, made one after the other, here or ahead in other processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, get_worker_info

from .._messages import first_names
from .batches import Batch


class Batches:
    """An epoch's batches of one process.

    Every process gets equally many. Where they do not divide, the last ones are repeats that weigh
    nothing: each sentence counts once, and no process waits for another.

    Parameters
    ----------
    make
        Makes a batch of sentences.
    cut
        The sentences of each batch, over all processes.
    part
        This process and the number of processes.
    start
        Batches of this process that are done already.
    workers
        Processes that make batches ahead; 0 makes them here.
    """

    def __init__(
        self,
        make: Callable[[np.ndarray], Batch],
        cut: Sequence[np.ndarray],
        *,
        part: tuple[int, int] = (0, 1),
        start: int = 0,
        workers: int = 0,
    ) -> None:
        rank, n_ranks = part
        # What each worker is at, so that one that dies does not take that with it.
        self._at = torch.full((workers,), -1)
        self._at.share_memory_()
        n_each = -(-len(cut) // n_ranks)
        self._make, self._cut, self._workers = make, cut, workers
        self._mine = range(rank, n_each * n_ranks, n_ranks)
        self._start = start

    def __len__(self) -> int:
        """Batches of the whole epoch, those done included."""
        return len(self._mine)

    def __getitem__(self, number: int) -> Batch:
        """The batch of a number, counted over all processes.

        Raises
        ------
        RuntimeError
            If it cannot be made, with the sentences that were to be in it.
        """
        chosen = self._cut[number if number < len(self._cut) else 0]
        worker = get_worker_info()
        if worker is not None:
            self._at[worker.id] = number
        try:
            batch = self._make(chosen)
        except Exception as error:
            raise RuntimeError(
                f"No batch could be made of {_named(chosen)}: {type(error).__name__}: {error}"
            ) from error
        if worker is not None:
            self._at[worker.id] = -1
        return batch if number < len(self._cut) else replace(batch, weight=0.0)

    def under_way(self) -> str:
        """The sentences that workers were making batches of when one of them died."""
        numbers = [number for number in self._at.tolist() if 0 <= number < len(self._cut)]
        return " or ".join(_named(self._cut[number]) for number in numbers)

    def __iter__(self) -> Iterator[Batch]:
        todo = self._mine[self._start :]
        if not self._workers:
            return (self[number] for number in todo)
        return self._made_ahead(todo)

    def _made_ahead(self, todo: Sequence[int]) -> Iterator[Batch]:
        loader: DataLoader[Any] = DataLoader(
            self,  # type: ignore[arg-type]
            sampler=todo,
            batch_size=None,
            collate_fn=_as_it_is,
            num_workers=self._workers,
            # Without one, the loader would draw a seed from torch's global generator.
            generator=torch.Generator(),
        )
        return iter(loader)


def _as_it_is(batch: Any) -> Any:
    return batch


def _named(chosen: np.ndarray) -> str:
    return f"sentences {first_names(chosen.tolist())}"
