"""Sinks: where finished rows go."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

import numpy as np

# Rows of a file that are looked at together where they were never put.
_ROWS = 4096


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


class FileSink:
    """A ``.npy`` file, rows × width, float32, written through a memory map.

    Pages go to disk as the system sees fit, so that the array may be larger than memory. Rows that
    never came are NaN after :meth:`close`.
    """

    def __init__(self, path: Path, n_rows: int, width: int) -> None:
        self._file = np.lib.format.open_memmap(
            path, mode="w+", dtype=np.float32, shape=(n_rows, width)
        )
        if hasattr(os, "posix_fallocate"):
            # A disk that fills up under a memory map kills the process; here it is an OSError.
            with open(path, "rb+") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        self._seen = np.zeros(n_rows, bool)

    def put(self, rows: np.ndarray, values: np.ndarray) -> None:
        self._file[rows] = values
        self._seen[rows] = True

    def close(self) -> None:
        """Fill up and hand everything to the disk."""
        missing = np.flatnonzero(~self._seen)
        for start in range(0, missing.size, _ROWS):
            self._file[missing[start : start + _ROWS]] = np.nan
        self._file.flush()
        del self._file
