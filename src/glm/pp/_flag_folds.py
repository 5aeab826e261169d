from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from .. import slots
from .._keys import FoldKeys
from .._messages import first_names, share, warn
from .._settings import logger
from ..cells import check_target
from ..genome import short_name
from ..locate import Located, overlapping, regions_of, same_genome
from ..regions import Regions
from ._region_columns import name_of, spread_texts

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from mudata import MuData

    from ..genome import Genome
    from ..train import TrackWindows

ORDER = ("train", "valid", "test")
_COLUMNS = ("fold", "name", "split")
_SEQUENCES = "sequences.bed"
_MOST = 100  # more are names of regions


def flag_folds(
    adata: AnnData | MuData,
    folds: str | os.PathLike[str] | pd.DataFrame | TrackWindows,
    *,
    genome: str | Genome | None = None,
    flank_bp: int = 0,
    order: Sequence[str] = ORDER,
    axis: Literal["obs", "var"] | None = None,
    mod: str | None = None,
    key_added: str = "fold",
    overwrite: bool = False,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Say which regions a model was trained on, and which it never saw.

    A region is of a fold if it shares a base with it. Where it touches several it is of the one
    that comes first in ``order``: training, so that what is left as ``"test"`` was not trained on.
    A model learns from all of the sequence it reads; count its flanks in with ``flank_bp``. Takes
    about a second for a million regions.

    Parameters
    ----------
    adata
        An object with regions (see :func:`glm.pp.set_regions`); or a MuData, with ``mod``.
    folds
        Where the folds are: a BED file with their names in the fourth column, the folder of a
        Basenji training set (its ``sequences.bed``), a table with a column ``fold``, or
        :class:`glm.train.TrackWindows`.
    genome
        The assembly that the folds are of, ``"hg38"`` or a :class:`glm.Genome`; ``None`` where
        ``folds`` says so itself, or nobody knows.
    flank_bp
        Bases beyond both ends of each region of a fold that belong to it: what is read there and
        not predicted (32,768 for ``sequences.bed`` of a set whose ``crop_bp`` is that).
    order
        Names of folds; those not among them come last, in the order they are found.
    axis
        Whose regions; ``None`` takes the axis that has some.
    mod
        Modality of a MuData. Results go into that modality.
    key_added
        Name of the column.
    overwrite
        Replace a column that this function did not write.
    copy
        Return a copy instead of writing into ``adata``.

    Returns
    -------
    ``None``, or the copy. Sets, in ``var`` or ``obs``:

    ``adata.var["<key>"]``
        category, text: the fold; ``""`` where a region is of none, missing where a row has no
        region.
    ``adata.uns["<key>_var"]``
        The record: source, genomes, flanks, regions of each fold, how many touch several.

    Raises
    ------
    KeyError
        If there is no such modality, or the table names no folds.
    OSError
        If a file cannot be read.
    TypeError, ValueError
        If there are no regions, or on both axes; if the object is of another genome than the folds,
        or they have no chromosome in common; if the column is taken.

    Examples
    --------
    >>> import glm, numpy as np, pandas as pd
    >>> from anndata import AnnData
    >>> atac = AnnData(np.ones((3, 3), np.float32))
    >>> atac.var_names = ["chr1:100-200", "chr1:180-300", "chr2:5-9"]
    >>> folds = pd.DataFrame(
    ...     {"chrom": "chr1", "start": [0, 190], "end": [150, 400], "fold": ["train", "test"]}
    ... )
    >>> glm.pp.flag_folds(atac, folds)
    >>> atac.var["fold"].to_list()
    ['train', 'test', '']
    """
    if isinstance(flank_bp, bool) or flank_bp < 0:
        raise ValueError(f"flank_bp is {flank_bp!r}; expected a number of bases, or 0.")
    data, holder = check_target(adata, mod=mod, copy=copy, of_cells=False)
    located = regions_of(holder, axis=axis)
    found = _read(folds)
    stated = name_of(genome) or found.genome
    _check_genomes(located, stated, found)
    keys = FoldKeys(key_added, located.axis)
    function = "glm.pp.flag_folds"
    slots.check_free(
        holder, [(located.axis, keys.column)], keys.record, model=function, overwrite=overwrite
    )
    names = _in_order(found.names, order)
    touched = touches(located.regions, found, names, flank_bp)
    fold = np.array(["", *names], object)[first_touched(touched)]
    counts = {name: int((fold == name).sum()) for name in names}
    n_none = len(fold) - sum(counts.values())
    record = slots.make_record(
        function=function,
        model=function,
        axis=located.axis,
        regions=located.where,
        source=found.source,
        genome=stated,
        genome_stated=located.genome,
        flank_bp=int(flank_bp),
        order=names,
        n_regions=counts,
        n_of_none=n_none,
        n_of_several=int((touched.sum(axis=0) > 1).sum()),
        n_rows=located.n_rows,
        n_without_region=located.n_rows - len(located.rows),
    )
    column = spread_texts(fold, located.rows, located.n_rows)
    slots.write(holder, {(located.axis, keys.column): column}, keys.record, record)
    told = ", ".join(f"{n:,} {name}" for name, n in counts.items())
    logger.info("added %r (%s): %s, %s of none", keys.column, located.axis, told, n_none)
    _tell(located)
    return data if copy else None


@dataclass(frozen=True, eq=False)
class Folds:
    """Regions, the fold of each, and what is known of them."""

    regions: Regions
    names: NDArray[np.str_]
    genome: str | None
    source: str


def _read(folds: Any) -> Folds:
    import pandas as pd

    from ..io import read_bed

    if hasattr(folds, "regions") and hasattr(folds, "fold"):
        if folds.regions is None or folds.fold is None:
            raise ValueError("These windows have no regions, or were not divided into folds.")
        names = np.asarray(folds.fold, dtype=str)
        return Folds(folds.regions, names, folds.genome or None, "TrackWindows")
    source = "table"
    if isinstance(folds, str | os.PathLike):
        place = Path(folds).expanduser()
        place = place / _SEQUENCES if place.is_dir() else place
        folds, source = read_bed(place), str(place)
    if not isinstance(folds, pd.DataFrame):
        raise TypeError(
            f"folds is a {type(folds).__name__}; expected a BED file, a folder with {_SEQUENCES}, "
            "a DataFrame with a column fold, or glm.train.TrackWindows."
        )
    column = next((name for name in _COLUMNS if name in folds.columns), None)
    if column is None:
        raise KeyError(
            f"The table names no folds: expected a column {' or '.join(_COLUMNS)}, found "
            f"{', '.join(map(str, folds.columns))}."
        )
    located = regions_of(folds)
    values = folds[column].iloc[located.rows]
    missing = values.isna().to_numpy() | (values.astype(str) == "").to_numpy()
    kept = np.flatnonzero(~missing)
    if not kept.size:
        raise ValueError(f"Column {column!r} of the folds is empty.")
    names = values.astype(str).to_numpy(dtype=str)[kept]
    if (n := len(set(names.tolist()))) > _MOST:
        raise ValueError(
            f"Column {column!r} of the folds has {n:,} different names ({first_names(names)}); "
            f"expected at most {_MOST} folds."
        )
    return Folds(located.regions.take(kept), names, located.genome, source)


def _check_genomes(located: Located, stated: str | None, folds: Folds) -> None:
    of_folds = f"The folds ({folds.source})"
    if not same_genome(folds.genome, stated):
        raise ValueError(f"{of_folds} say that they are of {folds.genome!r}, not of {stated!r}.")
    if not same_genome(located.genome, stated):
        raise ValueError(
            f"{of_folds} are of {stated!r}, and the regions ({located.where}) of "
            f"{located.genome!r}: coordinates of one mean something else in the other. Take folds "
            "of the same genome, or correct the object (column genome, or uns['genome'])."
        )
    ours = {short_name(name) for name in located.regions.chromosomes[0]}
    theirs = {short_name(name) for name in folds.regions.chromosomes[0]}
    if not ours & theirs:
        raise ValueError(
            "Regions and folds have no chromosome in common: "
            f"{first_names(map(repr, located.regions.chromosomes[0]), 6)} against "
            f"{first_names(map(repr, folds.regions.chromosomes[0]), 6)}. Names are matched with "
            "and without chr; are both of one genome?"
        )


def _in_order(names: NDArray[np.str_], order: Sequence[str]) -> list[str]:
    there = list(dict.fromkeys(names.tolist()))
    return [name for name in order if name in there] + [n for n in there if n not in order]


def touches(
    regions: Regions, folds: Folds, names: Sequence[str], flank_bp: int
) -> NDArray[np.bool_]:
    """bool, folds × regions: which share a base."""
    asked = _plainly(regions, 0)
    wide = _plainly(folds.regions, flank_bp)
    return np.stack(
        [overlapping(asked, wide.take(np.flatnonzero(folds.names == name))) for name in names]
    )


def first_touched(touched: NDArray[np.bool_]) -> NDArray[np.intp]:
    """One a region: the number of the first fold that it touches, from 1; 0 for none."""
    return np.where(touched.any(axis=0), touched.argmax(axis=0) + 1, 0)


def _plainly(regions: Regions, flank_bp: int) -> Regions:
    """With the shortest names of chromosomes, and wider by the flanks."""
    names, of = regions.chromosomes
    short = np.array([short_name(name) for name in names], object)
    start, end = regions.start - flank_bp, regions.end + flank_bp
    return Regions(short[of], start, end, regions.strand)


def _tell(located: Located) -> None:
    without = np.ones(located.n_rows, bool)
    without[located.rows] = False
    if without.any():
        names = getattr(located.holder, f"{located.axis}_names")[without]
        warn(
            f"{share(int(without.sum()), located.n_rows)} rows of adata.{located.axis} have no "
            f"region ({first_names(names)}): their fold is missing."
        )
