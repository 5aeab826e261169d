"""The batches of an epoch, made one after the other, here or ahead in other processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, get_worker_info

from .._messages import first_names
from .batches import AnyBatch


class Batches:
    """An epoch's batches of one process.

    Every process gets equally many. Where they do not divide, the last ones are repeats that weigh
    nothing: each counts once, and no process waits for another.

    Parameters
    ----------
    make
        Makes a batch of what is to be in it.
    cut
        What is to be in each batch (numbers of sentences), over all processes.
    part
        This process and the number of processes.
    start
        Batches of this process that are done already.
    workers
        Processes that make batches ahead; 0 makes them here.
    named
        What a message calls the content of a batch; ``None`` for numbers of sentences.
    """

    def __init__(
        self,
        make: Callable[[Any], AnyBatch],
        cut: Sequence[Any],
        *,
        part: tuple[int, int] = (0, 1),
        start: int = 0,
        workers: int = 0,
        named: Callable[[Any], str] | None = None,
    ) -> None:
        rank, n_ranks = part
        # What each worker is at, so that one that dies does not take that with it.
        self._at = torch.full((workers,), -1)
        self._at.share_memory_()
        n_each = -(-len(cut) // n_ranks)
        self._make, self._cut, self._workers = make, cut, workers
        self._mine = range(rank, n_each * n_ranks, n_ranks)
        self._start = start
        self._named = named or named_sentences

    def __len__(self) -> int:
        """Batches of the whole epoch, those done included."""
        return len(self._mine)

    def __getitem__(self, number: int) -> AnyBatch:
        """The batch of a number, counted over all processes.

        Raises
        ------
        RuntimeError
            If it cannot be made, with what was to be in it.
        """
        chosen = self._cut[number if number < len(self._cut) else 0]
        worker = get_worker_info()
        if worker is not None:
            self._at[worker.id] = number
        try:
            batch = self._make(chosen)
        except Exception as error:
            raise RuntimeError(
                f"No batch could be made of {self._named(chosen)}: {type(error).__name__}: {error}"
            ) from error
        if worker is not None:
            self._at[worker.id] = -1
        return batch if number < len(self._cut) else _weightless(batch)

    def under_way(self) -> str:
        """What workers were making batches of when one of them died."""
        numbers = [number for number in self._at.tolist() if 0 <= number < len(self._cut)]
        return " or ".join(self._named(self._cut[number]) for number in numbers)

    def __iter__(self) -> Iterator[AnyBatch]:
        todo = self._mine[self._start :]
        if not self._workers:
            return (self[number] for number in todo)
        return self._made_ahead(todo)

    def _made_ahead(self, todo: Sequence[int]) -> Iterator[AnyBatch]:
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


def _weightless(batch: Any) -> Any:
    return replace(batch, weight=0.0)


def _as_it_is(batch: Any) -> Any:
    return batch


def named_sentences(chosen: np.ndarray) -> str:
    """What a message calls some sentences."""
    return f"sentences {first_names(chosen.tolist())}"
