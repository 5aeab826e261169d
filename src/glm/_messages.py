"""The wording that errors, warnings and log lines share: first names, counts, shares."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

from ._settings import GlmWarning


def first_names(names: Iterable[object], n: int = 3, *, total: int | None = None) -> str:
    """``a, b, c and 5 more`` of any names; ``total`` where these are only the first of so many."""
    listed = [str(name) for name in names]
    rest = (len(listed) if total is None else total) - min(n, len(listed))
    text = ", ".join(listed[:n])
    return f"{text} and {rest:,} more" if rest > 0 else text


def counted(number: int, thing: str, things: str = "") -> str:
    """``1 name``, ``2,000 names``; ``things`` where the plural takes more than an s."""
    return f"{number:,} {thing if number == 1 else things or thing + 's'}"


def share(part: float, whole: float) -> str:
    """``1,234 of 5,678 (22%)``; the share is left out where there is no whole.

    A few are not none of them, and most are not all.
    """
    if not whole:
        return f"{part:,} of {whole:,}"
    percent = f"{100 * part / whole:.0f}"
    if percent == "0" and part:
        percent = "<1"
    elif percent == "100" and part < whole:
        percent = ">99"
    return f"{part:,} of {whole:,} ({percent}%)"


def warn(message: str) -> None:
    """Warn as ``glm``, at the line of the user who called the public function."""
    warnings.warn(message, GlmWarning, stacklevel=_public_depth())


def _public_depth() -> int:
    """Frames between here and the first one outside the package."""
    import sys

    depth, frame = 2, sys._getframe(2)
    while frame is not None and frame.f_globals.get("__name__", "").split(".")[0] == "glm":
        frame = frame.f_back  # type: ignore[assignment]
        depth += 1
    return depth
