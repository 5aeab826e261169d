"""What a look at a model on this machine finds, and how it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .._cards import html_table

EXPECTED = "expected.json"
"""File of a bundle with what its weights made of one input."""

TOLERANCE = 1e-4
"""Of the largest expected value: other processors add in another order."""

_PUBLISHED = Path(__file__).parent / "expected"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: what, whether it is right, and what was found."""

    what: str
    ok: bool
    found: str


@dataclass(frozen=True)
class Verification:
    """What :func:`glm.models.verify` looked at; printed as text, in a notebook as a table."""

    model: str
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether everything is right."""
        return all(check.ok for check in self.checks)

    def __str__(self) -> str:
        lines = [f"{'ok   ' if c.ok else 'WRONG'}  {c.what}: {c.found}" for c in self.checks]
        return "\n".join([self.model, *lines])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = [("right" if c.ok else "wrong", c.what, c.found) for c in self.checks]
        return html_table(self.model, ("", "checked", "found"), rows)


def expected_of(name: str, folder: Path | None) -> Path:
    """Where the output is that a model is held to: its own folder, or this package's."""
    return folder / EXPECTED if folder else _PUBLISHED / f"{name}.json"


def compare_output(
    what: str, got: Sequence[float], expected: Sequence[float], tolerance: float
) -> Check:
    """Hold numbers to others; ``ValueError`` if there are not as many."""
    off = [abs(float(a) - float(b)) for a, b in zip(got, expected, strict=True)]
    # Each by itself: the largest of numbers may well pass over one that is not a number.
    ok = all(difference <= tolerance for difference in off)
    found = f"{what} differs by at most {np.max(off):.2g} (tolerance {tolerance:.2g})"
    return Check("output", ok, found)


def nothing_expected() -> Check:
    """Where nothing is stored."""
    return Check("output", True, "none stored to compare with")


def unusable(path: Path, error: Exception) -> Check:
    """Where what is stored cannot be used."""
    return Check("output", False, f"{path} cannot be used ({error!r})")
