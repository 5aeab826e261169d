"""Sinks: where finished rows go."""

from __future__ import annotations

from typing import Protocol

import numpy as np


class Sink(Protocol):
    """Takes rows in any order, each once."""

    def put(self, rows: np.ndarray, values: np.ndarray) -> None:
        """Store ``values[i]`` as row ``rows[i]``."""


class ArraySink:
    """An array in memory, rows × width, float32; rows that never come stay NaN."""

    def __init__(self, n_rows: int, width: int) -> None:
        self.array = np.full((n_rows, width), np.nan, dtype=np.float32)

    def put(self, rows: np.ndarray, values: np.ndarray) -> None:
        self.array[rows] = values
