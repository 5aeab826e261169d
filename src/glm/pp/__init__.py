"""Preparation: look at an object before a model does, name genes as the models know them."""

from __future__ import annotations

from ..report import Finding, Report
from ._check import check
from ._map_genes import map_genes

__all__ = ["Finding", "Report", "check", "map_genes"]
