"""bigWig files written, whole or not at all, through pybigtools."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, pairwise, repeat
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._atomic import replacing
from .._messages import counted, first_names, share
from ..genome import detect_build
from ..genome._names import ContigNames
from ..regions import Regions
from ._bigwig import pybigtools_module

if TYPE_CHECKING:
    from ..genome import Genome

_ROWS_AT_ONCE = 65_536


def write_bigwig(
    path: str | os.PathLike[str],
    regions: Regions,
    values: ArrayLike,
    *,
    chrom_sizes: Genome | Mapping[str, int],
) -> Path:
    """Write one value for each of some regions as a bigWig file, with zoom levels for browsers.

    The file is written beside its place and renamed when it is whole. Writes about half a million
    regions a second. Needs ``pip install "genomic-lm[tracks]"``.

    Parameters
    ----------
    path
        The file; one that is there is replaced.
    regions
        Where values are, in any order; none may overlap another. Strands are not kept.
    values
        One a region, kept as float32. Regions whose value is NaN are left out: a bigWig has no NaN,
        and says nothing of them.
    chrom_sizes
        The genome, or the length of each of its chromosomes by name. The file takes its names.

    Returns
    -------
    The path of the file. It names only chromosomes that have values, as others' files do.

    Raises
    ------
    ImportError
        If pybigtools is not installed.
    OSError
        If the file cannot be written.
    TypeError, ValueError
        If there are not as many values as regions, or none but NaN; if one is infinite; if regions
        overlap or reach beyond their chromosome; if a chromosome is not known.

    Examples
    --------
    >>> import glm
    >>> regions = glm.Regions.of(["1", "1"], [0, 128], [128, 256])
    >>> glm.io.write_bigwig("a.bw", regions, [0.5, 1.5], chrom_sizes={"chr1": 1000}).name
    'a.bw'
    """
    if not isinstance(regions, Regions):
        raise TypeError(
            f"Got a {type(regions).__name__}, expected glm.Regions, such as "
            "glm.Regions.of(['chr1'], [1000], [2000])."
        )
    lengths = _lengths(chrom_sizes)
    kept = _finite(values, len(regions))
    contigs, of = regions.chromosomes
    own = np.array(ContigNames(lengths, detect_build(lengths)).find_all(contigs), object)
    _check_inside(regions, np.array([lengths[name] for name in own], np.int64)[of])
    rows = np.flatnonzero(~np.isnan(kept))
    if not rows.size:
        raise ValueError("All values are NaN: a bigWig file cannot say nothing at all.")
    chrom = own[of[rows]].astype(str)
    # By name, as the tree that readers search wants it.
    order = np.lexsort((regions.start[rows], chrom))
    rows, chrom = rows[order], chrom[order]
    _check_apart(regions, rows, chrom)
    place = Path(path).expanduser()
    place.parent.mkdir(parents=True, exist_ok=True)
    with replacing(place, suffix=".tmp.bw") as beside:  # the writer goes by how a name ends
        columns = chrom, regions.start[rows], regions.end[rows], kept[rows]
        _write(beside, place, lengths, columns)
    return place


def _lengths(chrom_sizes: Any) -> dict[str, int]:
    contigs = chrom_sizes if isinstance(chrom_sizes, Mapping) else None
    if contigs is None:
        contigs = getattr(chrom_sizes, "contigs", None)
    if not isinstance(contigs, Mapping):
        raise TypeError(
            f"chrom_sizes is a {type(chrom_sizes).__name__}; expected a glm.Genome, or the lengths "
            "of its chromosomes by name."
        )
    return {str(name): int(length) for name, length in contigs.items()}


def _finite(values: ArrayLike, n: int) -> NDArray[np.float32]:
    given = np.asarray(values)
    if given.shape != (n,) or given.dtype.kind not in "fiub":
        raise ValueError(
            f"values are {given.dtype} of shape {given.shape}; expected {n:,} numbers, one a "
            "region."
        )
    with np.errstate(over="ignore"):
        found = given.astype(np.float32)
    infinite = np.flatnonzero(np.isinf(found))
    if infinite.size:
        raise ValueError(
            f"{share(infinite.size, n)} values are infinite, or beyond what float32 holds (rows "
            f"{first_names(infinite)}). Make them NaN to leave them out."
        )
    return found


def _check_inside(regions: Regions, lengths: NDArray[np.int64]) -> None:
    beyond = np.flatnonzero((regions.start < 0) | (regions.end > lengths))
    if beyond.size:
        row = int(beyond[0])
        raise ValueError(
            f"{counted(beyond.size, 'region')} of {len(regions):,} reach beyond their chromosome, "
            f"the first {regions.name(row)} (it has {int(lengths[row]):,} bases). Cut them to it, "
            "or take the sizes of the genome that they are of."
        )


def _check_apart(regions: Regions, rows: NDArray[np.int64], chrom: NDArray[np.str_]) -> None:
    over = (regions.end[rows[:-1]] > regions.start[rows[1:]]) & (chrom[:-1] == chrom[1:])
    if over.any():
        at = int(over.argmax())
        raise ValueError(
            f"{counted(int(over.sum()), 'region')} of {len(regions):,} overlap the one before, the "
            f"first {regions.name(int(rows[at]))} and {regions.name(int(rows[at + 1]))}: a bigWig "
            "has one value a base."
        )


def _write(
    beside: Path, place: Path, lengths: Mapping[str, int], columns: Sequence[NDArray[Any]]
) -> None:
    """Hand the rows to the writer, in a thread of its own.

    An exception raised among the rows, such as by Ctrl-C, brings the writer down; signals reach
    only the main thread, which then lets the rows end.
    """
    pybigtools = pybigtools_module()
    stopped = Event()
    n_bases = int((columns[2] - columns[1]).sum())
    with ThreadPoolExecutor(1) as thread:
        try:
            writer = pybigtools.open(str(beside), "w")
            thread.submit(writer.write, dict(lengths), _rows(columns, stopped)).result()
            covered = pybigtools.open(str(beside)).info()["summary"]["basesCovered"]
        except BaseException as error:
            stopped.set()
            panic = type(error).__name__ == "PanicException"
            if not panic and not isinstance(error, Exception):
                raise
            raise OSError(
                f"{place} could not be written ({error}). Is the disk full, or the folder not "
                "open to you?"
            ) from error
    if covered != n_bases:
        raise OSError(f"{place}: {covered:,} of {n_bases:,} bases arrived. Is the disk full?")


def _rows(columns: Sequence[NDArray[Any]], stopped: Event) -> Iterator[tuple[str, int, int, float]]:
    """Rows as plain values, some at a time: the writer takes no others."""

    def blocks() -> Iterator[Any]:
        chrom = columns[0]
        edges = [0, *(np.flatnonzero(chrom[1:] != chrom[:-1]) + 1).tolist(), len(chrom)]
        for low, high in pairwise(edges):
            for start in range(low, high, _ROWS_AT_ONCE):
                if stopped.is_set():
                    return
                part = slice(start, min(start + _ROWS_AT_ONCE, high))
                numbers = (column[part].tolist() for column in columns[1:])
                yield zip(repeat(str(chrom[low])), *numbers, strict=False)

    return chain.from_iterable(blocks())
