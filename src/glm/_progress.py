"""One progress bar, shown as ``glm.settings.progress`` says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ._settings import settings


@contextmanager
def progress_bar(total: int, unit: str, what: str) -> Iterator[Callable[[int], None]]:
    """Yield a function that is told how many more are done."""
    from tqdm.auto import tqdm

    # None leaves the bar out where nobody would see it move (no terminal, no notebook).
    disable = None if settings.progress is None else not settings.progress
    with tqdm(total=total, unit=f" {unit}", desc=what, disable=disable) as bar:
        yield bar.update
