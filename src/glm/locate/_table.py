"""Regions in a table: columns in the usual spellings, an interval column, or the rows' names."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .._messages import first_names, share
from ._values import (
    Places,
    chromosomes,
    is_region,
    positions,
    regions_among,
    regions_in,
    strands,
)

_SPELLINGS = {
    "chrom": ("chrom", "chr", "chromosome", "seqnames", "seqname", "contig"),
    "start": ("start", "chromstart", "chromosomestart"),
    "end": ("end", "chromend", "chromosomeend", "stop"),
    "strand": ("strand",),
    "interval": ("interval",),
}
# Fewer names than this share that look like regions are chance, or a few peaks among genes.
_LEAST_SHARE = 0.1


@dataclass(frozen=True, eq=False)
class Found:
    """Regions of a table, and what was read: ``["chrom']"`` and so on, for a message."""

    places: Places
    where: str


def find_in(table: Any, title: str) -> Found | str:
    """Regions of a table's rows; where there are none, a text that says what there is.

    Columns come first, then ``interval``, then the names of the rows. With each of them a column
    ``strand`` is read.

    Raises
    ------
    ValueError
        If there are several columns of one meaning, or a column's values are none of their kind.
    """
    columns = {part: find_column(table, part, title) for part in _SPELLINGS}
    named = [columns[part] for part in ("chrom", "start", "end")]
    if all(name is not None for name in named):
        found = Found(_from_columns(table, named, title), f"{title}[{[str(n) for n in named]!r}]")
    elif (interval := _interval(table, columns["interval"])) is not None:
        where = f"{title}[{columns['interval']!r}]"
        found = Found(regions_in(interval, where), where)
    else:
        index = list(table.index)
        places = regions_among(index)
        n_like = int(places.there.sum())
        if n_like < _LEAST_SHARE * len(index) or not n_like:
            return _nothing(named, n_like, index)
        found = Found(places, f"{title}_names" if title.startswith("adata") else f"{title}.index")
    if not found.places.there.any():
        return f"no row of {found.where} has a region"
    return _with_strand(found, table, columns["strand"], title)


def _interval(table: Any, column: Hashable | None) -> list[Any] | None:
    """The values of an ``interval`` column, if any is a region: ages of cells may be called so."""
    if column is None:
        return None
    values = list(values_of(table, column))
    return values if any(map(is_region, values)) else None


def _nothing(named: list[Hashable | None], n_like: int, index: list[Any]) -> str:
    text = f"names are {first_names(index)}"
    if n_like:
        text += f"; {share(n_like, len(index))} of them look like regions: take these alone"
    there = [str(name) for name in named if name is not None]
    return text + (f"; of columns there is only {', '.join(there)}" if there else "")


def find_column(table: Any, part: str, title: str) -> Hashable | None:
    """The column of a table that holds chromosomes, starts, ends, ... in one of their spellings.

    Raises
    ------
    ValueError
        If several could be meant, none of them spelled as here.
    """
    spellings = _SPELLINGS[part]
    found = [c for c in table.columns if isinstance(c, str) and _plain(c) in spellings]
    exact = [c for c in found if c == part]
    if len(found) > 1 and len(exact) != 1:
        raise ValueError(
            f"{title} has several columns that could be {part}: {first_names(found, 6)}. Leave one "
            f"of them, or name the one that is meant {part!r}."
        )
    return exact[0] if exact else found[0] if found else None


def _plain(column: str) -> str:
    return column.strip().lstrip("#").lower().replace("_", "").replace(" ", "")


def values_of(table: Any, column: Hashable) -> Any:
    """A column's values, also of a table that is lazily read."""
    import pandas as pd

    values = table[column]
    return values if isinstance(values, pd.Series) else pd.Series(values.to_numpy())


def _from_columns(table: Any, named: Iterable[Any], title: str) -> Places:
    chrom_name, start_name, end_name = named
    chrom, has_chrom = chromosomes(values_of(table, chrom_name), f"{title}[{chrom_name!r}]")
    start, has_start = positions(values_of(table, start_name), f"{title}[{start_name!r}]")
    end, has_end = positions(values_of(table, end_name), f"{title}[{end_name!r}]")
    there = has_chrom & has_start & has_end
    if _plain(str(chrom_name)) == "seqnames" and "width" in table.columns:
        _refuse_closed(table, start, end, there, title)
    return Places(chrom, start, end, np.zeros(len(chrom), np.int8), there)


def _refuse_closed(table: Any, start: Any, end: Any, there: Any, title: str) -> None:
    """Bioconductor's tables count from 1 and include the end, as their widths tell."""
    width, known = positions(values_of(table, "width"), f"{title}['width']")
    rows = there & known
    if rows.any() and (width[rows] == end[rows] - start[rows] + 1).all():
        raise ValueError(
            f"{title} has Bioconductor's columns (seqnames, start, end, width), and width is end - "
            "start + 1: positions count from 1 and include the end. Regions here are 0-based and "
            f"half-open: {title}['start'] -= 1 first, and leave width out."
        )


def _with_strand(found: Found, table: Any, column: Hashable | None, title: str) -> Found:
    if column is None:
        return found
    strand = strands(values_of(table, column), f"{title}[{column!r}]")
    where = f"{found.where} and {title}[{column!r}]"
    return Found(replace(found.places, strand=strand), where)
