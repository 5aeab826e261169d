"""Windows of DNA and the tracks measured in their middle."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from .._messages import first_names, share
from ..bases import N
from ..models.enformer_config import BIN_BP
from ..models.track_table import COLUMNS
from ..regions import Regions

if TYPE_CHECKING:
    import pandas as pd

    from ..genome import Genome

_AT_ONCE = 64 << 20  # bytes that are looked at together
_DTYPES = (np.dtype("float16"), np.dtype("float32"))


@dataclass(frozen=True, eq=False)
class GenomeWindows:
    """Windows that are cut from a genome when they are wanted, the + strand of each.

    Attributes
    ----------
    genome
        Where they are cut from.
    regions
        The windows, all of one length.
    """

    genome: Genome
    regions: Regions

    @property
    def shape(self) -> tuple[int, int]:
        """Windows and bases of one."""
        return len(self.regions), int(self.regions.lengths[0]) if len(self.regions) else 0

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        return self.cut(rows, np.zeros(len(rows), np.int64))

    def cut(self, rows: np.ndarray, shifts: np.ndarray) -> np.ndarray:
        """uint8, windows that begin so many bases later than they would; N beyond the contig."""
        at = self.regions.take(rows)
        moved = Regions.of(list(at.chrom), at.start + shifts, at.end + shifts)
        return self.genome.windows(moved, edges="pad").codes


@dataclass(frozen=True, eq=False, repr=False)
class TrackWindows:
    """Windows of one organism, and what was measured in the bins in the middle of each.

    Attributes
    ----------
    codes
        uint8, windows × bases (A 0, C 1, G 2, T 3, unknown 4), a whole number of 128-bp bins; a
        memory map, or :class:`GenomeWindows`, is read a batch at a time.
    targets
        float16 or float32, windows × bins × tracks: bins of 128 bp, as many cut from either end of
        a window. None is negative; NaN where nothing is known. May be a memory map.
    table
        One row a track: ``identifier``, and what is known of ``assay``, ``sample``,
        ``aggregation``, ``scale``, ``clip`` and ``strand_pair`` (the number of the track of the
        other strand, or its own).
    head
        Name of the head that predicts them: ``"human"``, ``"mouse"``.
    regions
        Where the windows are, flanks included; ``None`` if not known.
    fold
        Text, one a window: ``"train"``, ``"valid"``, ``"test"``; ``None`` if not divided.
    genome
        Name of the assembly, ``""`` if not known.

    Raises
    ------
    TypeError, ValueError
        If types or shapes do not fit each other.

    Examples
    --------
    >>> import glm, numpy as np, pandas as pd
    >>> rng = np.random.default_rng(0)
    >>> windows = glm.train.TrackWindows(
    ...     rng.integers(0, 4, (3, 2_048), dtype=np.uint8),
    ...     rng.random((3, 8, 2), dtype=np.float32),
    ...     pd.DataFrame({"identifier": ["a", "b"], "assay": "CAGE"}),
    ... )
    >>> windows.window_bp, windows.n_bins, windows.crop
    (2048, 8, 4)
    """

    codes: np.ndarray | GenomeWindows
    targets: np.ndarray
    table: pd.DataFrame
    head: str = "human"
    regions: Regions | None = None
    fold: np.ndarray | None = None
    genome: str = ""

    def __post_init__(self) -> None:
        _check_arrays(self.codes, self.targets)
        n, n_tracks = len(self.targets), self.targets.shape[2]
        object.__setattr__(self, "table", complete_table(self.table, n_tracks))
        if not self.head.isidentifier():
            raise ValueError(f"head is {self.head!r}; expected letters, digits and _.")
        for name, given in (("regions", self.regions), ("folds", self.fold)):
            if given is not None and len(given) != n:
                raise ValueError(f"There are {n:,} windows and {len(given):,} {name}.")
        if self.regions is not None and n and (self.regions.lengths != self.window_bp).any():
            raise ValueError(
                f"The regions of the windows have {int(self.regions.lengths.min()):,} to "
                f"{int(self.regions.lengths.max()):,} bases, the windows {self.window_bp:,}."
            )

    def __len__(self) -> int:
        return len(self.targets)

    def __repr__(self) -> str:
        return (
            f"TrackWindows({len(self):,} {self.head} windows of {self.window_bp:,} bp, "
            f"{self.n_bins:,} bins × {self.targets.shape[2]:,} tracks)"
        )

    @property
    def window_bp(self) -> int:
        """Bases of a window."""
        return self.codes.shape[1]

    @property
    def n_bins(self) -> int:
        """Bins of the targets."""
        return self.targets.shape[1]

    @property
    def crop(self) -> int:
        """Bins at either end of a window of which nothing is predicted."""
        return (self.window_bp // BIN_BP - self.n_bins) // 2

    def subset(self, chosen: Sequence[int] | np.ndarray) -> TrackWindows:
        """The ``chosen`` windows (numbers or truth values), in that order."""
        rows = np.arange(len(self))[np.asarray(chosen)] if len(chosen) else np.empty(0, np.int64)
        regions = None if self.regions is None else self.regions.take(rows)
        if isinstance(self.codes, GenomeWindows):
            codes: np.ndarray | GenomeWindows = replace(
                self.codes, regions=self.codes.regions.take(rows)
            )
        else:
            codes = self.codes[rows]
        return replace(
            self,
            codes=codes,
            targets=self.targets[rows],
            regions=regions,
            fold=None if self.fold is None else self.fold[rows],
        )

    def of_fold(self, *names: str) -> TrackWindows:
        """The windows of one fold or several.

        Raises
        ------
        ValueError
            If they were not divided, or none is of these folds.
        """
        if self.fold is None:
            raise ValueError("These windows were not divided into folds: fold is None.")
        found = np.isin(self.fold, names)
        if not found.any():
            there = ", ".join(map(repr, sorted(set(self.fold.tolist()))))
            raise ValueError(f"No window is of fold {' or '.join(names)}; there are {there}.")
        return self.subset(found)

    def cut(self, rows: np.ndarray, shifts: np.ndarray) -> np.ndarray:
        """uint8, the windows at ``rows``, each begun so many bases later.

        What moves in at an end is read from the genome if windows are cut from one, and is N
        otherwise.
        """
        if isinstance(self.codes, GenomeWindows):
            return self.codes.cut(rows, shifts)
        length = self.window_bp
        found = np.full((len(rows), length), N, np.uint8)
        for i, (row, by) in enumerate(zip(rows.tolist(), shifts.tolist(), strict=True)):
            first, last = max(0, -by), min(length, length - by)
            found[i, first:last] = self.codes[row, first + by : last + by]
        return found

    @property
    def fingerprint(self) -> str:
        """Hash of all of it: what a resumed run must agree on. Reads every target once."""
        digest = hashlib.sha256(f"{self.head} {self.codes.shape} {self.targets.shape}".encode())
        digest.update(f"{self.targets.dtype} {self.table.to_csv()}".encode())
        if isinstance(self.codes, GenomeWindows):
            at = self.codes.regions
            digest.update(self.codes.genome.fingerprint().encode())
            digest.update("\n".join(map(str, at.chrom)).encode())
            digest.update(np.ascontiguousarray(at.start).data)
        else:
            for part in _blocks(self.codes):
                digest.update(np.ascontiguousarray(part).data)
        for part in _blocks(self.targets):
            digest.update(np.ascontiguousarray(part).data)
        return digest.hexdigest()

    @property
    def varying(self) -> np.ndarray:
        """bool, one a track: whether it has two different values; reads every target once."""
        n_tracks = self.targets.shape[2]
        low, high = np.full(n_tracks, np.inf), np.full(n_tracks, -np.inf)
        for part in _blocks(self.targets):
            low = np.fmin(low, np.fmin.reduce(part, axis=(0, 1)))
            high = np.fmax(high, np.fmax.reduce(part, axis=(0, 1)))
        return high > low

    def check(self) -> None:
        """Raise ``ValueError`` where targets are no amounts, or bases no codes; reads all once."""
        if not len(self):
            raise ValueError(f"There is no window of {self.head}: nothing to learn or measure.")
        below = infinite = known = 0
        for part in _blocks(self.targets):
            below += int((part < 0).sum())
            infinite += int(np.isinf(part).sum())
            known += int(np.isfinite(part).sum())
        if below or infinite:
            raise ValueError(
                f"{below:,} targets of {self.head} are below zero and {infinite:,} infinite; "
                "expected amounts, and NaN where nothing is known. Leave negative values out "
                "(NaN), or add the lowest."
            )
        if not known:
            raise ValueError(f"Every target of {self.head} is NaN: there is nothing to learn.")
        if not isinstance(self.codes, GenomeWindows):
            highest = max(int(part.max(initial=0)) for part in _blocks(self.codes))
            if highest > N:
                raise ValueError(
                    f"codes go up to {highest}; expected A 0, C 1, G 2, T 3 and {N} for what is "
                    "not known."
                )


def _check_arrays(codes: np.ndarray | GenomeWindows, targets: np.ndarray) -> None:
    lazy = isinstance(codes, GenomeWindows)
    if not lazy and (not isinstance(codes, np.ndarray) or codes.dtype != np.uint8):
        found = getattr(codes, "dtype", type(codes).__name__)
        raise TypeError(f"codes are {found}; expected a uint8 array (glm.bases.to_codes).")
    if not isinstance(targets, np.ndarray) or targets.dtype not in _DTYPES:
        found = getattr(targets, "dtype", type(targets).__name__)
        raise TypeError(f"targets are {found}; expected an array of float16 or float32.")
    if len(codes.shape) != 2 or targets.ndim != 3 or codes.shape[0] != len(targets):
        raise ValueError(
            f"codes have the shape {codes.shape} and targets {targets.shape}; expected windows × "
            "bases and windows × bins × tracks, as many windows in both."
        )
    if not len(targets):
        return
    n_bins = targets.shape[1]
    left = codes.shape[1] - BIN_BP * n_bins
    if not n_bins or codes.shape[1] % BIN_BP or left < 0 or left % (2 * BIN_BP):
        raise ValueError(
            f"Windows of {codes.shape[1]:,} bp cannot have {n_bins:,} bins of {BIN_BP} bp in "
            f"their middle: expected a multiple of {BIN_BP}, and as many whole bins left over at "
            "either end."
        )


def complete_table(table: pd.DataFrame, n_tracks: int) -> pd.DataFrame:
    """A table of tracks with every column, of those that are not given the plainest value.

    Raises
    ------
    KeyError
        If there is no column ``identifier``.
    ValueError
        If there are not as many rows as tracks, or pairs of strands are none.
    """
    import pandas as pd

    if len(table) != n_tracks:
        raise ValueError(f"The table names {len(table):,} tracks, and there are {n_tracks:,}.")
    if "identifier" not in table.columns:
        raise KeyError(f"The table has no column 'identifier'; it has {list(table.columns)}.")
    number = pd.RangeIndex(n_tracks, name="index")
    plainest = {
        "assay": "",
        "sample": "",
        "aggregation": "mean",
        "scale": 1.0,
        "clip": np.inf,
        "strand_pair": np.arange(n_tracks),
    }
    columns = {
        name: table[name].to_numpy() if name in table.columns else plainest[name]
        for name in COLUMNS
    }
    found = pd.DataFrame(columns, index=number).astype(COLUMNS)
    pair = found["strand_pair"].to_numpy()
    inside = (pair >= 0) & (pair < n_tracks)
    if not inside.all() or (pair[pair] != np.arange(n_tracks)).any():
        wrong = ~inside
        wrong[inside] = pair[pair[inside]] != np.flatnonzero(inside)
        raise ValueError(
            f"{share(int(wrong.sum()), n_tracks)} tracks (number "
            f"{first_names(np.flatnonzero(wrong))}) have a strand_pair that does not name them "
            "in turn: it is the number of the other strand's track, or the track's own."
        )
    return found


def _blocks(array: np.ndarray) -> Iterator[np.ndarray]:
    """Some rows at a time."""
    each = max(1, _AT_ONCE // max(1, array[:1].nbytes))
    for first in range(0, len(array), each):
        yield array[first : first + each]
