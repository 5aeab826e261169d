"""The windows that the model learns from and is scored on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from glm.models.enformer_config import BIN_BP
from glm.train import TrackWindows, read_track_windows

GENOMES = {"human": "hg38", "mouse": "mm10"}
WINDOW_BP = 131_072
CROP = 256
"""Bins of 128 bp from the end of a window to its first measured one."""


def data_dir() -> Path:
    """Where the data are that the model is made from."""
    default = Path(__file__).resolve().parents[3] / "shared" / "data"
    return Path(os.environ.get("GLM_TEST_DATA", default)) / "enformer" / "tiny"


def read_windows(head: str, part: str) -> TrackWindows:
    """Windows of ``train``, ``valid`` or ``test``, in bins of 128 bp, float32."""
    genome = GENOMES[head]
    folder = data_dir() / genome
    return read_track_windows(folder, head=head, genome=genome, splits=(part,), dtype="float32")


def joined(parts: Sequence[TrackWindows]) -> TrackWindows:
    """Windows of several parts of one organism, one after the other."""
    return TrackWindows(
        np.concatenate([part.codes for part in parts]),
        np.concatenate([part.targets for part in parts]),
        parts[0].table,
        parts[0].head,
    )


def pieces(windows: TrackWindows, bins: int, flank: int) -> TrackWindows:
    """The measured bins of the windows in pieces of so many, with ``flank`` more on either side.

    Side by side and without overlap of their measured bins; a piece's flanks lie in its window.
    """
    if windows.n_bins % bins or flank > windows.crop:
        raise ValueError(
            f"{windows.n_bins} bins, {windows.crop} more on either side, do not fall into pieces "
            f"of {bins} and {flank}."
        )
    firsts = range(windows.crop - flank, windows.crop - flank + windows.n_bins, bins)
    length = BIN_BP * (bins + 2 * flank)
    cut = [windows.codes[:, BIN_BP * first : BIN_BP * first + length] for first in firsts]
    return TrackWindows(
        np.stack(cut, axis=1).reshape(-1, length),
        windows.targets.reshape(-1, bins, windows.targets.shape[2]),
        windows.table,
        windows.head,
    )
