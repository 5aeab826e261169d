from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from .._messages import first_names, share, warn
from .._settings import logger
from ..cells import check_target
from ..locate import Located, regions_of
from ..regions import Regions
from ._region_columns import RegionColumns, name_of

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from mudata import MuData

    from ..genome import Genome


def set_regions(
    adata: AnnData | MuData,
    regions: str | os.PathLike[str] | pd.DataFrame | Regions | Sequence[str],
    *,
    genome: str | Genome | None = None,
    axis: Literal["obs", "var"] = "var",
    on: str | None = None,
    mod: str | None = None,
    overwrite: bool = False,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Say which region of a genome each row of ``var`` (or ``obs``) is.

    Coordinates are 0-based and half-open, as in BED files; so are those of texts such as
    ``chr1:1,000-2,000``. Nothing of the sequence is read. An object that has regions already, as
    10x peaks in ``var["interval"]`` or as names, needs no such call.

    Parameters
    ----------
    adata
        Any AnnData; or a MuData, with ``mod``.
    regions
        The path of a BED file, a DataFrame (columns ``chrom``, ``start``, ``end``, perhaps
        ``strand``, in the usual spellings), :class:`glm.Regions`, or a list of texts. Values may be
        missing: such a row has no region.
    genome
        The genome they are of: ``"hg38"`` or another name, or a :class:`glm.Genome`, of which the
        name is written down. ``None`` writes none.
    axis
        Whose regions they are: of variables or of observations.
    on
        How rows are matched. ``None``: by order, one region for each row. Otherwise a column of the
        table (``"name"`` in a BED file), or ``"index"``, whose values are names of rows; rows
        without one have no region, and regions of other names are left out.
    mod
        Modality of a MuData. Results go into that modality.
    overwrite
        Replace columns that this function did not write.
    copy
        Return a copy instead of writing into ``adata``.

    Returns
    -------
    ``None``, or the copy. Sets, all or none, in ``var`` or ``obs``:

    ``adata.var["chrom"]``
        category, text; missing where a row has no region.
    ``adata.var["start"]``, ``adata.var["end"]``
        int64, 0-based and half-open; nullable Int64 where a row has none.
    ``adata.var["strand"]``
        category: ``+``, ``-``, or ``.`` where none is known.
    ``adata.var["genome"]``
        category, with ``genome`` only; a column of this name that is the object's own, and agrees,
        stays as it is.
    ``adata.uns["regions_var"]``
        The record: source, how rows were matched, how many have no region.

    Raises
    ------
    KeyError
        If the table has no column ``on``, or the MuData no such modality.
    OSError
        If a file cannot be read.
    TypeError, ValueError
        If there are not as many regions as rows, they stand in another order than the rows of the
        same names, a name has several regions, or none matches; if a coordinate is malformed; if
        the object says that it is of another genome; if a column is taken.

    Examples
    --------
    >>> import glm, numpy as np
    >>> from anndata import AnnData
    >>> atac = AnnData(np.ones((3, 2), np.float32))
    >>> glm.pp.set_regions(atac, ["chr1:1,000-1,500", "chrX:20-520"], genome="hg38")
    >>> atac.var["chrom"].to_list(), atac.var["start"].to_list()
    (['chr1', 'chrX'], [1000, 20])
    """
    if axis not in ("obs", "var"):
        raise ValueError(f"axis is {axis!r}; expected 'obs' or 'var'.")
    data, holder = check_target(adata, mod=mod, copy=copy, of_cells=False)
    columns = RegionColumns(holder, axis, function="glm.pp.set_regions", overwrite=overwrite)
    table = _as_table(regions)
    located = regions_of(table)
    names = getattr(holder, f"{axis}_names")
    matched = (
        _by_order(located, table, names, axis)
        if on is None
        else _by_name(located, _names_in(table, on), names, axis)
    )
    stated = name_of(genome) or located.genome
    written = columns.check_genome(stated, matched.rows, "what is set here")
    facts = {
        "source": str(regions) if isinstance(regions, str | os.PathLike) else located.where,
        "matched": "order" if on is None else on,
        "n_regions_left_out": matched.n_left_out,
        "genome_stated": stated,
    }
    names_written = columns.write(
        matched.regions, matched.rows, genome=written, more={}, facts=facts
    )
    logger.info("added %s (%s): %s regions", ", ".join(names_written), axis, len(matched.rows))
    _tell(matched, names, axis)
    return data if copy else None


@dataclass(frozen=True, eq=False)
class _Matched:
    """Regions of rows of the object, and regions that no row has."""

    regions: Regions
    rows: NDArray[np.int64]
    n_left_out: int = 0


def _as_table(regions: Any) -> Any:
    """A BED file as a table, of which a column can be asked for; all else as it is."""
    from pathlib import Path

    from ..io import read_bed

    is_path = isinstance(regions, str | os.PathLike)
    return read_bed(regions) if is_path and Path(regions).expanduser().exists() else regions


def _by_order(located: Located, table: Any, names: pd.Index, axis: str) -> _Matched:
    if located.n_rows != len(names):
        raise ValueError(
            f"There are {located.n_rows:,} regions and {len(names):,} rows of adata.{axis}; "
            "matched by order, there is one for each. Pass on= to match them by name."
        )
    for column in ("index", "name"):
        told = _told_names(table, column)
        if told is not None and set(told) == set(names) and list(told) != list(names):
            raise ValueError(
                f"The regions' {column} has the names of adata.{axis}_names in another order. Pass "
                f"on={column!r} to match them by name, or bring them into the same order."
            )
    return _Matched(located.regions, located.rows)


def _told_names(table: Any, column: str) -> list[str] | None:
    """Names of a table's rows, if it has such."""
    import pandas as pd

    if not isinstance(table, pd.DataFrame):
        return None
    if column == "index":
        return [str(name) for name in table.index]
    return [str(name) for name in table[column]] if column in table.columns else None


def _names_in(table: Any, on: str) -> list[str]:
    names = _told_names(table, on)
    if names is None:
        there = ", ".join(map(str, getattr(table, "columns", ()))) or "no columns"
        raise KeyError(f"The regions have no column {on!r}; they have {there}.")
    return names


def _by_name(located: Located, told: list[str], names: pd.Index, axis: str) -> _Matched:
    import pandas as pd

    index = pd.Index([told[row] for row in located.rows])
    _refuse_several(located.regions, index, names, axis)
    first = index[~index.duplicated()]
    at = np.flatnonzero(~index.duplicated())
    found = first.get_indexer(names.astype(str))
    rows = np.flatnonzero(found >= 0).astype(np.int64)
    if not rows.size:
        raise ValueError(
            f"No name of the regions ({first_names(told)}) is in adata.{axis}_names "
            f"({first_names(names)})."
        )
    chosen = at[found[rows]]
    n_left_out = int((~index.isin(names.astype(str))).sum())
    return _Matched(located.regions.take(chosen), rows, n_left_out)


def _refuse_several(regions: Regions, index: pd.Index, names: pd.Index, axis: str) -> None:
    """A name may be there twice only with the same region."""
    import pandas as pd

    parts = {"start": regions.start, "end": regions.end, "strand": regions.strand}
    frame = pd.DataFrame({"name": index, "chrom": regions.chrom, **parts}).drop_duplicates()
    frame = frame[frame["name"].isin(names.astype(str))]
    several = frame["name"][frame["name"].duplicated()].unique()
    if len(several):
        raise ValueError(
            f"{share(len(several), frame['name'].nunique())} names of adata.{axis}_names have "
            f"several regions ({first_names(several)}). Leave one of each."
        )


def _tell(matched: _Matched, names: pd.Index, axis: str) -> None:
    without = np.ones(len(names), bool)
    without[matched.rows] = False
    if without.any():
        warn(
            f"{share(int(without.sum()), len(names))} rows of adata.{axis} have no region "
            f"({first_names(names[without])}): chrom is missing there."
        )
