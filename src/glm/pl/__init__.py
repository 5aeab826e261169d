"""Plots of what is in the object. None runs a model."""

from __future__ import annotations

from ._attention import attention
from ._check import check

__all__ = ["attention", "check"]
