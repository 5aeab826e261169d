"""Preparation: look at an object before a model does, name its genes, place its regions."""

from __future__ import annotations

from ..report import Finding, Report
from ._add_tss import add_tss
from ._check import check
from ._flag_folds import flag_folds
from ._map_genes import map_genes
from ._sequence_stats import sequence_stats
from ._set_regions import set_regions

__all__ = [
    "Finding",
    "Report",
    "add_tss",
    "check",
    "flag_folds",
    "map_genes",
    "sequence_stats",
    "set_regions",
]
