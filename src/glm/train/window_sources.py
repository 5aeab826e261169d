"""Windows around regions of a genome, with targets from arrays or bigWig files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .._progress import progress_bar
from ..genome import Genome, as_genome
from ..locate import check_genome, regions_of
from ..models.enformer_config import BIN_BP
from ..models.track_table import AGGREGATIONS
from ..regions import Regions
from .windows import GenomeWindows, TrackWindows, complete_table

if TYPE_CHECKING:
    import pandas as pd

Paths = Sequence[str | os.PathLike[str]] | Mapping[str, str | os.PathLike[str]]


def track_windows(
    regions: Any,
    genome: str | os.PathLike[str] | Mapping[str, str | np.ndarray] | Genome,
    targets: np.ndarray | Paths,
    *,
    table: pd.DataFrame | None = None,
    window_bp: int = 131_072,
    output_bp: int | None = None,
    head: str = "human",
    fold: Sequence[str] | np.ndarray | None = None,
    dtype: str = "float32",
) -> TrackWindows:
    """Cut windows around regions, with what was measured in the middle of each.

    Windows are read on the + strand, as models that predict tracks do. Their sequence is cut from
    the genome when a batch needs it; targets are in memory (half a megabyte for 512 bins of 256
    tracks in float32).

    Parameters
    ----------
    regions
        Windows stand around their centres: an object, table or BED file (see
        :func:`glm.pp.set_regions`), texts, or :class:`glm.Regions`. All of them must have a region.
    genome
        ``"hg38"``, a file, sequences, or a :class:`glm.Genome`.
    targets
        Windows × bins × tracks, by bins of 128 bp; or bigWig files, one a track, as a list or by
        identifier. Of these ``table["aggregation"]`` decides what a bin holds (the mean where there
        is none; ``"sum"``; ``"sum_sqrt"``, √(1 + sum) - 1), after multiplication by ``scale``, and
        ``clip`` is the highest value. Bases that a file says nothing of count as 0.
    table
        One row a track, as for :class:`glm.train.TrackWindows`; may be left out for bigWig files.
    window_bp
        Bases of a window, a multiple of 256.
    output_bp
        Bases in its middle that have targets: by default half of it, or what an array has bins for.
    head
        Name of the head that is to predict them, by custom the species.
    fold
        Text, one a window: ``"train"``, ... By default the column ``fold`` of a table.
    dtype
        How targets are kept, ``"float32"`` or ``"float16"``.

    Returns
    -------
    The windows, in the order of the regions.

    Raises
    ------
    KeyError, TypeError, ValueError
        If regions, targets and table do not fit each other, or are of another genome.
    OSError
        If a file cannot be read.

    Examples
    --------
    >>> import glm, numpy as np, pandas as pd
    >>> genome = glm.Genome({"chr1": "ACGTTGCA" * 1_000})
    >>> windows = glm.train.track_windows(
    ...     ["chr1:3,000-3,001", "chr1:5,000-5,001"],
    ...     genome,
    ...     np.ones((2, 8, 1), np.float32),
    ...     table=pd.DataFrame({"identifier": ["a"]}),
    ...     window_bp=2_048,
    ... )
    >>> windows.regions.name(0), windows.crop
    ('chr1:1,976-4,024', 4)
    """
    opened = as_genome(genome)
    located = regions_of(regions)
    check_genome(located, opened)
    if len(located.rows) != located.n_rows:
        raise ValueError(
            f"{located.n_rows - len(located.rows):,} of {located.n_rows:,} rows have no region: "
            "leave them out."
        )
    is_array = isinstance(targets, np.ndarray)
    if output_bp is None:
        output_bp = BIN_BP * targets.shape[1] if is_array else window_bp // 2  # type: ignore[union-attr]
    if window_bp % (2 * BIN_BP) or output_bp % BIN_BP or not 0 < output_bp <= window_bp:
        raise ValueError(
            f"window_bp is {window_bp:,} and output_bp {output_bp:,}; expected a multiple of "
            f"{2 * BIN_BP}, and a multiple of {BIN_BP} that is not larger."
        )
    windows = _around(located.regions, window_bp)
    codes = GenomeWindows(opened, windows)
    codes[np.arange(min(1, len(windows)))]  # so that another genome is told of at once
    if not is_array:
        table, paths = _named_files(targets, table)
        cut = (window_bp - output_bp) // 2
        inner = Regions.of(list(windows.chrom), windows.start + cut, windows.end - cut)
        targets = _binned(paths, inner, table, np.dtype(dtype))
    elif table is None:
        raise ValueError("targets is an array: pass table, which names its tracks.")
    return TrackWindows(
        codes,
        np.asarray(targets, np.dtype(dtype)),
        table,
        head,
        windows,
        _folds(regions, fold),
        opened.name,
    )


def _around(regions: Regions, window_bp: int) -> Regions:
    start = (regions.start + regions.end) // 2 - window_bp // 2
    return Regions.of(list(regions.chrom), start, start + window_bp)


def _folds(regions: Any, fold: Sequence[str] | np.ndarray | None) -> np.ndarray | None:
    import pandas as pd

    if fold is None and isinstance(regions, pd.DataFrame) and "fold" in regions.columns:
        fold = regions["fold"].astype(str).to_numpy()
    return None if fold is None else np.asarray(fold, dtype=str)


def _named_files(targets: Any, table: pd.DataFrame | None) -> tuple[pd.DataFrame, list[Any]]:
    """The table of the tracks, and the file of each in its order."""
    import pandas as pd

    by_name = dict(targets) if isinstance(targets, Mapping) else None
    if isinstance(targets, str | os.PathLike) or not isinstance(targets, Mapping | Sequence):
        raise TypeError(
            f"targets is a {type(targets).__name__}; expected an array, or bigWig files as a list "
            "or by identifier."
        )
    paths = list(targets if by_name is None else by_name.values())
    names = [os.path.basename(path) for path in paths] if by_name is None else list(by_name)
    if not paths:
        raise ValueError("targets names no bigWig file.")
    if table is None:
        table = pd.DataFrame({"identifier": names})
    elif by_name is not None and "identifier" in table.columns:
        lacking = [name for name in table["identifier"] if name not in by_name]
        if lacking or len(table) != len(paths):
            raise ValueError(
                f"targets has {len(paths):,} files and table {len(table):,} tracks, of which "
                f"{len(lacking):,} have none: expected a file for each identifier."
            )
        paths = [by_name[name] for name in table["identifier"]]
    return complete_table(table, len(paths)), paths


def _binned(
    paths: Sequence[Any], inner: Regions, table: pd.DataFrame, dtype: np.dtype
) -> np.ndarray:
    """Windows × bins × tracks."""
    from ..io import read_bigwig

    n_bins = int(inner.lengths[0]) // BIN_BP if len(inner) else 0
    found = np.empty((len(inner), n_bins, len(paths)), dtype)
    with progress_bar(len(paths), "bigWig files", "bin") as done:
        for i, (path, row) in enumerate(zip(paths, table.itertuples(), strict=True)):
            how = row.aggregation
            if how not in AGGREGATIONS:
                raise ValueError(
                    f"Track {row.identifier} has the aggregation {how!r}; expected one of "
                    f"{', '.join(AGGREGATIONS)}."
                )
            statistic: Literal["mean", "sum"] = "mean" if how == "mean" else "sum"
            values = read_bigwig(path, inner, bin_bp=BIN_BP, statistic=statistic) * row.scale
            if how == "sum_sqrt":
                values = np.sqrt(1 + values) - 1
            found[..., i] = np.minimum(values, row.clip)
            done(1)
    return found
