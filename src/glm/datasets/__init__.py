"""Small data for examples and tests."""

from __future__ import annotations

from ._toy import toy_cells

__all__ = ["toy_cells"]
