"""Preparation: name genes as the models know them."""

from __future__ import annotations

from ._map_genes import map_genes

__all__ = ["map_genes"]
