"""Where the regions are: in an object, a modality, a table, texts, or a BED file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..regions import Regions
from ._genome import stated_genome
from ._located import Located
from ._table import Found, find_in
from ._values import Places, check_bases, regions_in

AXES = ("obs", "var")
_WAYS = (
    "Expected columns chrom, start and end (or chr, chromosome, seqnames; chromStart; chromEnd, "
    "stop), a column interval, or names such as chr1:1000-2000. glm.pp.set_regions writes them "
    "from a BED file or a table, glm.pp.add_tss the promoters of genes."
)


def regions_of(data: Any, *, axis: str | None = None, mod: str | None = None) -> Located:
    """Find the regions of anything that has some.

    Coordinates are read as 0-based and half-open, in columns and in texts alike. Of an object or a
    table columns ``chrom``, ``start``, ``end`` (in the usual spellings) are read if there are all
    three, else a column ``interval``, else names such as ``chr1:1,000-2,000``, ``chr1-1000-2000``
    or ``chr1_1000_2000``; with any of them a column ``strand`` if there is one. Rows with missing
    values have no region.

    Parameters
    ----------
    data
        An AnnData; a MuData, with ``mod``; a DataFrame; :class:`glm.Regions`; a list of texts; the
        path of a BED file.
    axis
        ``"obs"`` or ``"var"`` of an AnnData; ``None`` takes the one that has regions.
    mod
        Modality of a MuData.

    Raises
    ------
    KeyError
        If there is no such modality.
    OSError
        If a file cannot be read.
    TypeError
        If it is nothing of the kind, or a MuData without ``mod``.
    ValueError
        If there are no regions, or on both axes; if a position, a strand or a text is malformed, or
        a region has no bases: the message has the row. If rows are of several genomes.
    """
    import pandas as pd
    from anndata import AnnData

    if isinstance(getattr(data, "mod", None), Mapping):
        data = _modality(data, axis, mod)
    elif mod is not None:
        raise TypeError(
            f"mod={mod!r} names a modality of a MuData, and this is a {type(data).__name__}. "
            "Leave mod out."
        )
    if isinstance(data, AnnData):
        return _of_object(data, axis)
    if axis is not None:
        raise TypeError(f"axis={axis!r} is of an AnnData, and this is a {type(data).__name__}.")
    if isinstance(data, Regions):
        rows = np.arange(len(data), dtype=np.int64)
        return Located(None, "", data, rows, len(data), None, "Regions")
    if isinstance(data, pd.DataFrame):
        return _of_table(data, "table")
    if isinstance(data, str | os.PathLike):
        return _of_file(data)
    if isinstance(data, Sequence | np.ndarray | pd.Index | pd.Series):
        texts = list(data)
        return _located(None, "", regions_in(texts, "the list"), None, None, "the list")
    raise TypeError(
        f"No regions can be read from a {type(data).__name__}; expected an AnnData, a MuData, a "
        "DataFrame, glm.Regions, a list of texts, or the path of a BED file."
    )


def _modality(data: Any, axis: str | None, mod: str | None) -> Any:
    if mod is None:
        found = [str(name) for name, adata in data.mod.items() if _axes_with(adata, axis)]
        listed = " or ".join(f"mod={name!r}" for name in found or map(str, data.mod))
        raise TypeError(f"Name the modality of the MuData that has the regions: {listed}.")
    if mod not in data.mod:
        raise KeyError(f"There is no modality {mod!r}; the MuData has {', '.join(data.mod)}.")
    return data.mod[mod]


def _axes_with(adata: Any, axis: str | None) -> list[str]:
    """The axes of a modality that have regions, for a message: what is malformed has some."""
    found = []
    for name in AXES if axis is None else (axis,):
        try:
            there = isinstance(find_in(getattr(adata, name), f"adata.{name}"), Found)
        except ValueError:
            there = True
        if there:
            found.append(name)
    return found


def _of_object(adata: Any, axis: str | None) -> Located:
    if axis is not None and axis not in AXES:
        raise ValueError(f"axis is {axis!r}; expected 'obs' or 'var'.")
    looked = {
        name: find_in(getattr(adata, name), f"adata.{name}")
        for name in (AXES if axis is None else (axis,))
    }
    found = {name: each for name, each in looked.items() if isinstance(each, Found)}
    if not found:
        why = "; adata.".join(f"{name}: {each}" for name, each in looked.items())
        raise ValueError(f"No regions were found (adata.{why}). {_WAYS}")
    if len(found) > 1:
        both = " and ".join(each.where for each in found.values())
        raise ValueError(f"There are regions in {both}: say which with axis='obs' or axis='var'.")
    name, each = next(iter(found.items()))
    table = getattr(adata, name)
    rows = np.flatnonzero(each.places.there)
    genome = stated_genome(table, rows, adata.uns, f"adata.{name}")
    return _located(adata, name, each.places, list(table.index), genome, each.where)


def _of_table(table: Any, title: str) -> Located:
    found = find_in(table, title)
    if isinstance(found, str):
        raise ValueError(f"No regions were found in the {title}: {found}. {_WAYS}")
    rows = np.flatnonzero(found.places.there)
    genome = stated_genome(table, rows, {}, title)
    return _located(None, "", found.places, _row_names(table), genome, found.where)


def _row_names(table: Any) -> list[Any] | None:
    """What a table's rows are called; numbers are no names."""
    import pandas as pd

    return None if pd.api.types.is_numeric_dtype(table.index.dtype) else list(table.index)


def _of_file(path: str | os.PathLike[str]) -> Located:
    from ..io import read_bed

    if isinstance(path, str) and not Path(path).expanduser().exists():
        try:
            return _located(None, "", regions_in([path], "the text"), None, None, "the text")
        except ValueError:
            raise FileNotFoundError(
                f"There is no file {path!r}, and it is no region such as 'chr1:1000-2000'. "
                "Expected the path of a BED file."
            ) from None
    found = _of_table(read_bed(path), "BED file")
    return Located(None, "", found.regions, found.rows, found.n_rows, found.genome, str(path))


def _located(
    holder: Any,
    axis: str,
    places: Places,
    names: list[Any] | None,
    genome: str | None,
    where: str,
) -> Located:
    check_bases(places, names, where)
    rows = np.flatnonzero(places.there).astype(np.int64)
    regions = Regions(
        places.chrom[rows],
        places.start[rows],
        places.end[rows],
        places.strand[rows],
        None if names is None else [str(names[row]) for row in rows],
    )
    return Located(holder, axis, regions, rows, len(places.there), genome, where)
