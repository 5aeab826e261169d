"""Training: a model × an objective × data, by a recipe, through Lightning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .basenji import read_track_windows
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
        TrackPoisson,
        balanced_weights,
        mask_spans,
        mask_tokens,
    )
    from .recipes import Recipe, recipe
    from .sentences import Sentences
    from .track_splits import split_by_chromosome
    from .tracks import fit_tracks
    from .window_sources import track_windows
    from .windows import TrackWindows

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
    "TrackPoisson",
    "TrackWindows",
    "balanced_weights",
    "dna_sentences",
    "fit",
    "fit_tracks",
    "mask_spans",
    "mask_tokens",
    "read_track_windows",
    "recipe",
    "split_by_chromosome",
    "track_windows",
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
    "TrackPoisson": "objectives",
    "TrackWindows": "windows",
    "balanced_weights": "objectives",
    "dna_sentences": "dna",
    "fit": "fitting",
    "fit_tracks": "tracks",
    "mask_spans": "objectives",
    "mask_tokens": "objectives",
    "read_track_windows": "basenji",
    "recipe": "recipes",
    "split_by_chromosome": "track_splits",
    "track_windows": "window_sources",
}


def __getattr__(name: str) -> Any:
    """Import a part when it is first used: Lightning takes seconds."""
    import importlib

    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
