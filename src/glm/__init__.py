"""Genomic language models for AnnData: cells and regions in, embeddings back in the same object."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ._settings import GlmWarning, settings

if TYPE_CHECKING:
    from . import datasets, get, io, metrics, models, pl, pp, tl, train
    from .genome import Genome
    from .regions import Regions

__version__ = "0.1.0"

__all__ = [
    "Genome",
    "GlmWarning",
    "Regions",
    "datasets",
    "get",
    "io",
    "metrics",
    "models",
    "pl",
    "pp",
    "settings",
    "tl",
    "train",
]

_ROOMS = frozenset(
    {"datasets", "encode", "get", "io", "metrics", "models", "pl", "pp", "tl", "train"}
)
_CLASSES = {"Genome": "genome", "Regions": "regions"}


def __getattr__(name: str) -> Any:
    """Import a room when it is first used, so that ``import glm`` stays light."""
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _CLASSES:
        return getattr(importlib.import_module(f"{__name__}.{_CLASSES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
