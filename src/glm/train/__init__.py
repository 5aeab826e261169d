"""Training: a model × an objective × data, by a recipe, through Lightning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .batches import Batch
    from .dna import dna_sentences
    from .fitting import Fitted, fit
    from .lora import LoRA
    from .objectives import (
        Classification,
        KmerSpans,
        MaskedTokens,
        Objective,
        Poisson,
        Regression,
        balanced_weights,
        mask_spans,
        mask_tokens,
    )
    from .recipes import Recipe, recipe
    from .sentences import Sentences

__all__ = [
    "Batch",
    "Classification",
    "Fitted",
    "KmerSpans",
    "LoRA",
    "MaskedTokens",
    "Objective",
    "Poisson",
    "Recipe",
    "Regression",
    "Sentences",
    "balanced_weights",
    "dna_sentences",
    "fit",
    "mask_spans",
    "mask_tokens",
    "recipe",
]

_HOME = {
    "Batch": "batches",
    "Classification": "objectives",
    "Fitted": "fitting",
    "KmerSpans": "objectives",
    "LoRA": "lora",
    "MaskedTokens": "objectives",
    "Objective": "objectives",
    "Poisson": "objectives",
    "Recipe": "recipes",
    "Regression": "objectives",
    "Sentences": "sentences",
    "balanced_weights": "objectives",
    "dna_sentences": "dna",
    "fit": "fitting",
    "mask_spans": "objectives",
    "mask_tokens": "objectives",
    "recipe": "recipes",
}


def __getattr__(name: str) -> Any:
    """Import a part when it is first used: Lightning takes seconds."""
    import importlib

    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
