"""Plots of what is in the object. None runs a model."""

from __future__ import annotations

from ._attention import attention
from ._calibration import calibration
from ._check import check
from ._confusion import confusion
from ._tracks import tracks
from ._training import training
from ._vocabulary import vocabulary

__all__ = ["attention", "calibration", "check", "confusion", "tracks", "training", "vocabulary"]
