"""Training: objectives, data and Lightning modules that compose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .data import SentenceData, Sentences
    from .modules import MaskedTokens
    from .objectives import MaskedBatch, mask_tokens
    from .pretrain import pretrain_cells
    from .recipes import Recipe, recipe

__all__ = [
    "MaskedBatch",
    "MaskedTokens",
    "Recipe",
    "SentenceData",
    "Sentences",
    "mask_tokens",
    "pretrain_cells",
    "recipe",
]

_HOME = {
    "MaskedBatch": "objectives",
    "MaskedTokens": "modules",
    "Recipe": "recipes",
    "SentenceData": "data",
    "Sentences": "data",
    "mask_tokens": "objectives",
    "pretrain_cells": "pretrain",
    "recipe": "recipes",
}


def __getattr__(name: str) -> Any:
    """Import a part when it is first used: Lightning takes seconds."""
    import importlib

    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
