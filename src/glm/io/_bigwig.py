"""bigWig files read: exact values in bins, through pybigtools."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .._messages import first_names, share, warn
from ..genome import detect_build
from ..genome._names import ContigNames
from ..regions import Regions, is_whole

Statistic = Literal["mean", "sum", "max"]
STATISTICS = ("mean", "sum", "max")

_SHOWN = 6


def read_bigwig(
    path: str | os.PathLike[str],
    regions: Regions | tuple[str, int, int],
    *,
    bin_bp: int | None = None,
    statistic: Statistic = "mean",
    missing: float = 0.0,
) -> NDArray[np.float32]:
    """Read the values of a bigWig file over regions, a base or a bin at a time.

    Values are exact: they come from the data, and not from the file's zoom levels. They run along
    the + strand, whatever a region's strand is. Chromosomes may be spelt otherwise than in the
    file (``1`` for ``chr1``). Reads 500 million bases a second and core or more. Needs
    ``pip install "genomic-lm[tracks]"``.

    Parameters
    ----------
    path
        The file.
    regions
        Regions of one length, or one as ``(chrom, start, end)``. Positions count from 0 and the
        end is not included.
    bin_bp
        Bases of a bin, of which regions have whole numbers; ``None`` gives every base.
    statistic
        What becomes of the bases of a bin: ``"mean"``, ``"sum"`` or ``"max"``.
    missing
        What a base counts for that the file says nothing of, or that lies beyond the chromosome's
        end: 0, as coverage means it (and Basenji takes it), or another number. With ``nan`` such
        bases are left out, and where a bin has no others it is NaN.

    Returns
    -------
    float32: bins, or regions × bins where there are :class:`glm.Regions`.

    Raises
    ------
    ImportError
        If pybigtools is not installed.
    OSError
        If the file is missing, damaged, or no bigWig.
    TypeError, ValueError
        If the regions differ in length or are no whole number of bins; if one lies beyond its
        chromosome altogether; if the file has none of the chromosomes. (Files name only those on
        which they have values: where some are there, the others are ``missing``, with a warning.)

    Examples
    --------
    >>> import glm
    >>> regions = glm.Regions.of(["chr1", "chr1"], [0, 4], [4, 8])
    >>> path = glm.io.write_bigwig("a.bw", regions, [1, 3], chrom_sizes={"chr1": 20})
    >>> glm.io.read_bigwig(path, ("chr1", 2, 10), bin_bp=4)
    array([2. , 1.5], dtype=float32)
    """
    if statistic not in STATISTICS:
        raise ValueError(f"statistic is {statistic!r}; expected 'mean', 'sum' or 'max'.")
    if not isinstance(missing, int | float | np.number) or math.isinf(missing):
        raise ValueError(f"missing is {missing!r}; expected a number, or nan.")
    asked = _as_regions(regions)
    size = 1 if bin_bp is None else bin_bp
    n_bins = _bins_of(asked, size)
    found = np.empty((len(asked), n_bins), np.float32)
    place = Path(path).expanduser()
    with _opened(place) as reader:
        contigs, of = asked.chromosomes
        own = _own_names(contigs, reader.chroms(), place)
        for row, contig in enumerate(of):
            bins = _Bins(reader, own[contig], size, statistic, float(missing))
            found[row] = bins.read(int(asked.start[row]), n_bins, asked.name(row))
    return found if isinstance(regions, Regions) else found[0]


class _Bins:
    """Bins on one chromosome of an open file; on none where it has nothing there."""

    def __init__(
        self, reader: Any, chrom: str, bin_bp: int, statistic: Statistic, missing: float
    ) -> None:
        self._reader, self._chrom, self._statistic = reader, chrom, statistic
        self._bin_bp, self._missing = bin_bp, missing
        self._length = int(reader.chroms(chrom)) if chrom else 0

    def read(self, start: int, n: int, name: str) -> NDArray[np.float64]:
        """``n`` bins from ``start`` on, which may reach beyond the chromosome."""
        size, length = self._bin_bp, self._length
        nothing = self._missing * (size if self._statistic == "sum" else 1)
        found = np.full(n, nothing)
        if not self._chrom:
            return found
        if start >= length or start + n * size <= 0:
            raise ValueError(
                f"{name} lies beyond {self._chrom}, which has {length:,} bases in this file. Are "
                "the regions of the same genome?"
            )
        first = max(-(start // size), 0)  # the bins that lie inside with all of their bases
        stop = max(min((length - start) // size, n), first)
        if stop > first:
            found[first:stop] = self._inside(start + first * size, start + stop * size)
        for partial in (first - 1, stop):
            if 0 <= partial < n:
                found[partial] = self._partial(start + partial * size)
        return found

    def _inside(self, start: int, end: int) -> NDArray[np.float64]:
        # By itself the reader interpolates bins from zoom levels, and fills in nothing.
        told: dict[str, Any] = {"oob": math.nan, "fillna": None}
        told["uncovered"] = None if math.isnan(self._missing) else self._missing
        if self._bin_bp > 1:
            told |= {"bins": (end - start) // self._bin_bp, "summary": self._statistic}
            told |= {"exact": True}
        return self._reader.values(self._chrom, start, end, **told)

    def _partial(self, start: int) -> float:
        """A bin of which some bases lie beyond the chromosome."""
        bases = np.full(self._bin_bp, self._missing)
        low, high = max(start, 0), min(start + self._bin_bp, self._length)
        if low < high:
            fill = None if math.isnan(self._missing) else self._missing
            inside = self._reader.values(self._chrom, low, high, oob=math.nan, fillna=fill)
            bases[low - start : high - start] = inside
        known = bases[~np.isnan(bases)]
        return float(getattr(known, self._statistic)()) if known.size else math.nan


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The reader of a file, whose errors are turned into ours."""
    pybigtools = pybigtools_module()
    # A file and not its path: readers of paths go by how the name ends.
    with path.open("rb") as file, _damaged(path):
        try:
            reader = pybigtools.open(file)
        except Exception as error:
            raise OSError(
                f"{path} cannot be read as a bigWig ({error}): it is none, or is damaged or cut "
                "short."
            ) from error
        if not reader.is_bigwig:
            raise OSError(f"{path} is a bigBed, expected a bigWig.")
        yield reader


@contextmanager
def _damaged(path: Path) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        kind = type(error)
        if kind.__module__.split(".")[0] in ("pybigtools", "pyo3_runtime"):
            raise OSError(f"{path} is damaged: {error}.") from error
        raise


def _own_names(contigs: Sequence[str], there: Mapping[str, int], path: Path) -> list[str]:
    """The file's names of chromosomes, ``""`` of those on which it has nothing."""
    names = ContigNames(there, detect_build(there))
    own = [names.find(contig) for contig in contigs]
    lacking = [contig for contig, found in zip(contigs, own, strict=True) if not found]
    if len(lacking) == len(contigs):
        raise ValueError(
            f"{path} has values on {first_names(map(repr, there), _SHOWN)}, and on none of the "
            f"chromosomes asked for ({first_names(map(repr, contigs), _SHOWN)}). Is it of the same "
            "genome?"
        )
    if lacking:
        warn(
            f"{path} has no values on {share(len(lacking), len(contigs))} chromosomes "
            f"({first_names(lacking, _SHOWN)}): regions there are read as missing."
        )
    return own


def _as_regions(regions: Any) -> Regions:
    if isinstance(regions, Regions):
        return regions
    if isinstance(regions, tuple | list) and len(regions) == 3 and isinstance(regions[0], str):
        return Regions.of([regions[0]], [regions[1]], [regions[2]])
    raise TypeError(
        f"regions is {type(regions).__name__}; expected glm.Regions, or one region as "
        "('chr1', 1000, 2000)."
    )


def _bins_of(regions: Regions, bin_bp: Any) -> int:
    """How many bins each region has."""
    if not is_whole(bin_bp) or bin_bp < 1:
        raise ValueError(f"bin_bp is {bin_bp!r}; expected a whole number of bases, 1 or more.")
    if not len(regions):
        raise ValueError("There are no regions to read.")
    lengths = np.unique(regions.lengths)
    if len(lengths) > 1:
        raise ValueError(
            f"Regions have {int(lengths[0]):,} to {int(lengths[-1]):,} bases; expected all as "
            "long, which makes regions × bins. Read those of each length by themselves."
        )
    length = int(lengths[0])
    if length % bin_bp:
        raise ValueError(
            f"Regions have {length:,} bases, which are no whole number of bins of {bin_bp:,}."
        )
    return length // int(bin_bp)


def pybigtools_module() -> Any:
    try:
        import pybigtools
    except ImportError as error:
        raise ImportError(
            'bigWig files are read and written with pybigtools: pip install "genomic-lm[tracks]".'
        ) from error
    return pybigtools
