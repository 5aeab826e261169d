"""Encodings: counts to ranks, bases to k-mers, byte pairs or codes. Arrays in, arrays out.

Names are looked up on first use, so that importing one encoding does not load the compiler that
another one needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .counts import CountSummary, iter_blocks, scan
    from .rank import Ranker, encode_ranks

_HOME = {
    "CountSummary": "counts",
    "Ranker": "rank",
    "encode_ranks": "rank",
    "iter_blocks": "counts",
    "scan": "counts",
}

__all__ = ["CountSummary", "Ranker", "encode_ranks", "iter_blocks", "scan"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
