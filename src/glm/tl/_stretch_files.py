"""A stretch's predictions as bigWig files, one a track."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .._messages import warn
from .._progress import progress_bar
from ..io import write_bigwig
from ..regions import Regions

if TYPE_CHECKING:
    import pandas as pd

    from ..genome import Genome

# Columns of a long array are read so many bytes at a time, since its rows lie together.
_BYTES_AT_ONCE = 256_000_000
_UNSAFE = re.compile(r"[^\w.+-]+")
_LONGEST = 80


def file_name(index: int, identifier: str) -> str:
    """The file of a track: its place in the head, and what of its identifier a name may hold."""
    safe = _UNSAFE.sub("_", identifier).strip("._")[:_LONGEST]
    return f"{index}_{safe}.bw" if safe else f"{index}.bw"


def write_tracks(
    folder: Path,
    regions: Regions,
    values: NDArray[np.float32],
    table: pd.DataFrame,
    genome: Genome,
) -> list[Path]:
    """Write a file a track. Bins end where their chromosome does; NaN is left out.

    A track without any value has no file, and is warned of.
    """
    folder.mkdir(parents=True, exist_ok=True)
    length = genome.contigs[genome.resolve(regions.chrom[0])]
    cut = Regions(regions.chrom, regions.start, np.minimum(regions.end, length), regions.strand)
    names = [file_name(*row) for row in zip(table.index, table["identifier"], strict=True)]
    step = max(_BYTES_AT_ONCE // max(4 * len(values), 1), 1)
    written: list[Path] = []
    with progress_bar(len(names), "tracks", f"write {folder.name}") as advance:
        for first in range(0, len(names), step):
            block = np.ascontiguousarray(values[:, first : first + step].T)
            for name, track in zip(names[first : first + step], block, strict=True):
                if not np.isnan(track).all():
                    written.append(write_bigwig(folder / name, cut, track, chrom_sizes=genome))
                advance(1)
    if len(written) < len(names):
        warn(f"{len(names) - len(written):,} tracks have no value, and no file in {folder}.")
    return written
