"""A job: a source cut into shards, computed here or by several processes, gathered in order.

A **block** is a fixed range of rows, whatever is interrupted and however many processes there are;
batches are composed within it. A **shard** is a fixed range of blocks: one, where rows are whole
within a block, else enough of them that there are few states to keep. States are gathered in the
order of the shards. So the bits of the result do not depend on how the work was cut or resumed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Protocol

from .items import Items
from .reduce import Reducer
from .run import Runner
from .shards import Saved, State, WorkFolder

# Reducers that add up over rows keep about this many states on disk.
_MOST_STATES = 16
# At least so long between two savings of a shard that is begun: what kill -9 can take away.
_SECONDS_BETWEEN_SAVES = 60.0


class Source(Protocol):
    """Blocks of items, any of which can be asked for."""

    @property
    def n_blocks(self) -> int:
        """How many blocks there are."""

    def n_items(self, block: int) -> int:
        """Items of a block, without making them."""

    def block(self, block: int) -> Items:
        """The items of a block, the same at every call; all items of a row are in one block."""


class Shard(NamedTuple):
    """A part of the work: its number and its blocks."""

    number: int
    blocks: range


def cut(source: Source, reducer: Reducer) -> list[Shard]:
    """The shards of a job, which depend on the source and the kind of reducer alone."""
    step = 1 if reducer.whole_rows else max(-(-source.n_blocks // _MOST_STATES), 1)
    starts = range(0, source.n_blocks, step)
    return [
        Shard(number, range(start, min(start + step, source.n_blocks)))
        for number, start in enumerate(starts)
    ]


def states(source: Source, reducer: Reducer, runner: Runner) -> Iterator[State]:
    """Compute the state of one shard after the other; nothing is kept here."""
    for shard in cut(source, reducer):
        reducer.start()
        for block in shard.blocks:
            runner.run(source.block(block), reducer, block=block)
        yield reducer.state()


def gather(shards: Iterable[State], reducer: Reducer) -> None:
    """Merge the states of all shards in their order, and finish."""
    total: State = {}
    for state in shards:
        reducer.start()
        if total:
            reducer.merge(total)
            total = {}  # sums may be large: each copy is let go of before the next is made
        reducer.merge(state)
        del state
        if reducer.whole_rows:
            reducer.finish()
        else:
            total = reducer.state()
            reducer.start()
    if not reducer.whole_rows:
        reducer.start()
        reducer.merge(total)
        del total
        reducer.finish()


def compute_shards(
    source: Source,
    reducer: Reducer,
    runner: Runner,
    folder: WorkFolder,
    *,
    rank: int = 0,
    world: int = 1,
    skipped: Callable[[int], None] = lambda n_items: None,
) -> None:
    """Compute the shards that a folder does not hold yet, of those that fall to this process.

    ``skipped`` is told how many items were done before.
    """
    for shard in cut(source, reducer)[rank::world]:
        if folder.has(shard.number):
            runner.budget = min(runner.budget, folder.budget(shard.number))
            skipped(sum(source.n_items(block) for block in shard.blocks))
        else:
            _Shard(source, reducer, runner, folder, shard).compute(skipped)


class _Shard:
    """One shard on its way to the folder: begun anew, or where an earlier run was stopped."""

    def __init__(
        self, source: Source, reducer: Reducer, runner: Runner, folder: WorkFolder, shard: Shard
    ) -> None:
        self._source = source
        self._reducer = reducer
        self._runner = runner
        self._folder = folder
        self._shard = shard
        self._saved_at = (shard.blocks.start, 0)
        self._saved_time = time.monotonic()

    def compute(self, skipped: Callable[[int], None]) -> None:
        first, done = self._resume()
        skipped(sum(map(self._source.n_items, range(self._shard.blocks.start, first))) + done)
        try:
            for block in range(first, self._shard.blocks.stop):
                items = self._source.block(block)
                self._runner.run(
                    items, self._reducer, block=block, done=done, after=self._save_at_times
                )
                done = 0
        except BaseException:
            # Ctrl-C too: what was done is kept, unless it came while a batch was taken in.
            if self._runner.settled and self._runner.place != self._saved_at:
                self._save()
            raise
        self._folder.write(self._shard.number, self._now())

    def _resume(self) -> tuple[int, int]:
        self._reducer.start()
        part = self._folder.read_part(self._shard.number)
        if part is not None:
            self._reducer.merge(part.state)
            self._runner.budget = min(self._runner.budget, part.budget)
            self._saved_at = part.place
        self._runner.place = self._saved_at
        return self._saved_at

    def _save_at_times(self) -> None:
        if time.monotonic() - self._saved_time >= _SECONDS_BETWEEN_SAVES:
            self._save()

    def _save(self) -> None:
        now = self._now()
        self._folder.write_part(self._shard.number, now)
        self._saved_at, self._saved_time = now.place, time.monotonic()

    def _now(self) -> Saved:
        return Saved(self._reducer.state(), self._runner.place, self._runner.budget)
