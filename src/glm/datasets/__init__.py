"""Small data for examples and tests."""

from __future__ import annotations

from ._toy import toy_cells
from ._toy_regions import toy_regions

__all__ = ["toy_cells", "toy_regions"]
