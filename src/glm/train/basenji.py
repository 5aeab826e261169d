"""Training sets in the Basenji format: a folder of TFRecords, tables and positions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._messages import first_names
from .._progress import progress_bar
from ..io import read_bed, read_tfrecords
from ..models.enformer_config import BIN_BP
from ..models.track_table import read_targets
from ..regions import Regions
from .rebinning import rebin
from .windows import GenomeWindows, TrackWindows

if TYPE_CHECKING:
    import pandas as pd

    from ..genome import Genome

SPLITS = ("train", "valid", "test")
_STATISTICS = ("num_targets", "seq_length", "pool_width", "crop_bp", "target_length")


def read_track_windows(
    folder: str | Path,
    *,
    head: str = "human",
    genome: str | Genome = "",
    splits: Sequence[str] = SPLITS,
    window_bp: int | None = None,
    dtype: str = "float16",
) -> TrackWindows:
    """Read a training set in the Basenji format: its windows, their tracks and folds.

    Its bins become bins of 128 bp as if they had been binned so: a sum of sums, a mean of means;
    of ``sum_sqrt`` tracks, stored as √(1 + S) - 1, the root of the sum. The soft clip of the set
    (``clip_soft``) is inverted before and done again after, and ``clip`` is the highest value.
    ``scale`` was applied to the coverage itself and stays in it. Everything is in memory: a window
    of 131,072 bp with 74 tracks takes 0.2 MB.

    Parameters
    ----------
    folder
        Holds ``statistics.json``, ``targets.txt``, ``sequences.bed`` and ``tfrecords/``.
    head
        Name of the head that is to predict them, by custom the species.
    genome
        The assembly: its name; or a :class:`glm.Genome`, against which the windows are checked.
    splits
        Which parts to read.
    window_bp
        Read windows of another length around the same bins, from ``genome``. ``None`` takes them as
        they are stored.
    dtype
        How targets are kept, ``"float16"`` (as they are stored) or ``"float32"``.

    Returns
    -------
    The windows, in the order of ``splits`` and of their files.

    Raises
    ------
    OSError
        If a file is missing or damaged.
    ValueError
        If files disagree with each other or with the genome, or bins cannot be joined to 128 bp.

    Examples
    --------
    >>> import glm
    >>> human = glm.train.read_track_windows("hg38", genome="hg38")  # doctest: +SKIP
    >>> len(human), human.window_bp, human.n_bins, human.crop  # doctest: +SKIP
    (65, 131072, 512, 256)
    """
    folder = Path(folder).expanduser()
    facts = _facts(folder)
    regions, fold = _positions(folder, facts, splits)
    table, soft = _tracks(folder, facts)
    codes = np.empty((len(regions), facts["seq_length"]), np.uint8)
    n_bins = facts["target_length"] * facts["pool_width"] // BIN_BP
    targets = np.empty((len(regions), n_bins, len(table)), np.dtype(dtype))
    factor = BIN_BP // facts["pool_width"]
    first = 0
    with progress_bar(len(regions), "windows", f"read {folder.name}") as done:
        for split in splits:
            last = first + int((fold == split).sum())
            for record in read_tfrecords(
                _files(folder, split), length_bp=facts["seq_length"], n_tracks=len(table)
            ):
                if first == last or record.targets is None:
                    raise ValueError(_wrong_number(folder, split, int((fold == split).sum())))
                codes[first] = record.codes
                rebin(
                    _shaped(record.targets, facts, record.source),
                    factor,
                    table["aggregation"].to_numpy(),
                    clip=table["clip"].to_numpy(),
                    clip_soft=soft,
                    out=targets[first : first + 1],
                )
                first += 1
                done(1)
            if first != last:
                raise ValueError(_wrong_number(folder, split, int((fold == split).sum())))
    name = genome if isinstance(genome, str) else genome.name
    windows = TrackWindows(codes, targets, table, head, regions, fold, name)
    if isinstance(genome, str):
        if window_bp is not None and window_bp != windows.window_bp:
            raise ValueError(
                f"Windows of {window_bp:,} bp are read from the genome: pass genome=glm.Genome(...)"
            )
        return windows
    _hold_to_genome(windows, genome)
    return windows if window_bp is None else _recut(windows, genome, window_bp)


def _facts(folder: Path) -> dict[str, Any]:
    path = folder / "statistics.json"
    facts = json.loads(path.read_text(encoding="utf-8"))
    if lacking := [name for name in _STATISTICS if name not in facts]:
        raise ValueError(f"{path} says nothing of {', '.join(lacking)}: it is of another format.")
    width, n_bins = facts["pool_width"], facts["target_length"]
    if width < 1 or BIN_BP % width or n_bins * width % BIN_BP:
        raise ValueError(
            f"{path} has {n_bins:,} bins of {width:,} bp; expected a number of bins that can be "
            f"joined to {BIN_BP} bp."
        )
    if n_bins * width + 2 * facts["crop_bp"] != facts["seq_length"]:
        raise ValueError(
            f"{path} disagrees with itself: {n_bins:,} bins of {width:,} bp and "
            f"{facts['crop_bp']:,} bp cut from either end are not {facts['seq_length']:,} bp."
        )
    return facts


def _positions(
    folder: Path, facts: dict[str, Any], splits: Sequence[str]
) -> tuple[Regions, np.ndarray]:
    """Whole windows in the order of their records, and their folds."""
    bed = read_bed(folder / "sequences.bed", columns=("chrom", "start", "end", "fold"))
    there = bed["fold"].to_numpy(dtype=str)
    if unknown := [split for split in splits if split not in there]:
        raise ValueError(
            f"{folder / 'sequences.bed'} has no sequence of {first_names(unknown)}; it has "
            f"{', '.join(sorted(set(there)))}."
        )
    order = np.concatenate([np.flatnonzero(there == split) for split in splits])
    start, end = (bed[name].to_numpy(np.int64)[order] for name in ("start", "end"))
    inner = facts["seq_length"] - 2 * facts["crop_bp"]
    lengths = set((end - start).tolist())
    if lengths == {inner}:  # what is predicted; the sequence reaches further on both sides
        start, end = start - facts["crop_bp"], end + facts["crop_bp"]
    elif lengths != {facts["seq_length"]}:
        raise ValueError(
            f"{folder / 'sequences.bed'} has sequences of {min(lengths):,} to {max(lengths):,} bp; "
            f"expected {facts['seq_length']:,}, or {inner:,} without the cut ends."
        )
    return Regions.of(bed["chrom"].to_numpy()[order], start, end), there[order]


def _tracks(folder: Path, facts: dict[str, Any]) -> tuple[pd.DataFrame, np.ndarray | None]:
    """The table of tracks, and where the soft clip of each begins."""
    import pandas as pd

    path = folder / "targets.txt"
    table = read_targets(path)
    if len(table) != facts["num_targets"]:
        raise ValueError(
            f"{path} has {len(table):,} tracks, and statistics.json says {facts['num_targets']:,}."
        )
    raw = pd.read_csv(path, sep="\t")
    if "clip_soft" not in raw:
        return table, None
    return table, raw["clip_soft"].fillna(np.inf).to_numpy(np.float64)


def _files(folder: Path, split: str) -> list[Path]:
    """The files of a part, by their number."""
    found = (folder / "tfrecords").glob(f"{split}-*.tfr")
    numbered = [(path.stem.rpartition("-")[2], path) for path in found]
    if not numbered:
        raise FileNotFoundError(f"There is no {split}-*.tfr in {folder / 'tfrecords'}.")
    return [path for _, path in sorted(numbered, key=lambda pair: (len(pair[0]), pair[0]))]


def _shaped(targets: np.ndarray, facts: dict[str, Any], source: str) -> np.ndarray:
    if len(targets) != facts["target_length"]:
        raise ValueError(
            f"{source} has {len(targets):,} bins; statistics.json says {facts['target_length']:,}."
        )
    return targets[None]


def _wrong_number(folder: Path, split: str, n: int) -> str:
    return (
        f"The files {split}-*.tfr of {folder / 'tfrecords'} do not hold {n:,} records with "
        "targets, one for each line of sequences.bed: a file is missing, or of another set."
    )


def _hold_to_genome(windows: TrackWindows, genome: Genome) -> None:
    """The first windows must be what the genome has where ``sequences.bed`` says they are."""
    assert windows.regions is not None
    assert isinstance(windows.codes, np.ndarray)
    some = np.unique(np.linspace(0, len(windows) - 1, 8).astype(int))
    there = genome.windows(windows.regions.take(some)).codes
    unlike = (there != windows.codes[some]).mean(axis=1)
    if unlike.max() > 0.01:  # masked bases may differ
        worst = int(some[unlike.argmax()])
        raise ValueError(
            f"Window {worst:,} ({windows.regions.name(worst)}) is not what {genome.name or genome}"
            f" has there: {unlike.max():.0%} of its bases differ. The set is of another genome, or "
            "its records stand in another order."
        )


def _recut(windows: TrackWindows, genome: Genome, window_bp: int) -> TrackWindows:
    at = windows.regions
    assert at is not None
    more = window_bp - windows.window_bp
    if more % (2 * BIN_BP):
        raise ValueError(
            f"window_bp is {window_bp:,}; expected {windows.window_bp:,} and a multiple of "
            f"{2 * BIN_BP} more or fewer."
        )
    wider = Regions.of(list(at.chrom), at.start - more // 2, at.end + more // 2)
    cut = GenomeWindows(genome, wider)
    return TrackWindows(
        cut, windows.targets, windows.table, windows.head, wider, windows.fold, windows.genome
    )
