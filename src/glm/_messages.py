"""The wording that errors, warnings and log lines share: first names, counts, shares."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

from ._settings import GlmWarning


def first_names(names: Iterable[object], n: int = 3) -> str:
    """``a, b, c and 5 more`` of any names."""
    listed = [str(name) for name in names]
    rest = len(listed) - n
    text = ", ".join(listed[:n])
    return f"{text} and {rest:,} more" if rest > 0 else text


def share(part: float, whole: float) -> str:
    """``1,234 of 5,678 (22%)``; the share is left out where there is no whole."""
    percent = f" ({100 * part / whole:.0f}%)" if whole else ""
    return f"{part:,} of {whole:,}{percent}"


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
