"""One progress bar, shown as ``glm.settings.progress`` says."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ._settings import settings


@contextmanager
def progress_bar(
    total: int | None, unit: str, what: str, *, scaled: bool = False
) -> Iterator[Callable[[int], None]]:
    """Yield a function that is told how many more are done; ``scaled`` counts in k, M and G."""
    with warnings.catch_warnings():
        # A notebook without widgets is told so at the import; a plain bar does.
        warnings.filterwarnings("ignore", message="IProgress not found")
        from tqdm.auto import tqdm

    # None leaves the bar out where nobody would see it move (no terminal, no notebook).
    disable = None if settings.progress is None else not settings.progress
    with tqdm(total=total, unit=f" {unit}", unit_scale=scaled, desc=what, disable=disable) as bar:
        yield bar.update
