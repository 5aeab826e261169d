"""Tracks of AnnData: bins in rows, or a slot of regions × bins × tracks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .._keys import TrackKeys
from .._messages import first_names
from ..locate import Located, regions_of
from ._track_sources import Entry, Source
from ._track_view import Bins, View, read_view

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


def open_object(
    adata: AnnData, region: Any, cover: View | None, *, key: str, axis: str | None
) -> Source:
    """The tracks of an object's slot, if it has the slot; else its rows are bins.

    Raises
    ------
    KeyError, ValueError
        If there are neither, or no such row, or no bins there.
    """
    keys = TrackKeys(key)
    if keys.record in adata.uns:
        return SlotSource(adata, region, keys, axis)
    try:
        located = regions_of(adata, axis="obs")
    except ValueError as error:
        others = [name for name in adata.uns if str(name).startswith("tracks_")]
        there = f" (there are {first_names(others, 6)}: pass key=)" if others else ""
        raise ValueError(
            f"There are no tracks: adata.uns has no {keys.record!r} of glm.tl.predict_tracks{there}"
            f", and the rows are no bins, such as glm.tl.predict_stretch gives. {error}"
        ) from error
    return BinSource(adata, located, cover or region)


class SlotSource:
    """A row of a slot, regions × bins × tracks, in memory or in a folder."""

    def __init__(self, adata: AnnData, region: Any, keys: TrackKeys, axis: str | None) -> None:
        from ..get import tracks

        record = adata.uns[keys.record]
        axis = str(record.get("axis", "var")) if axis is None else axis
        if not len(record.get("bins_in_array", ())):
            raise ValueError(
                f"{keys.values!r} holds one number a region and track: its bins were reduced. "
                "Predict with bins='all' (or 'region') to draw them, or glm.tl.predict_stretch."
            )
        if not isinstance(region, str | None):
            raise TypeError(
                f"region is {region!r}; of an object with {keys.values!r} expected the name of a "
                "row. Pass the part of its bins that is to be drawn as zoom=."
            )
        names = getattr(adata, f"{axis}_names")
        name = str(names[0]) if region is None and len(names) == 1 else region
        self._table = tracks(adata, keys.key, region=name, axis=axis)  # type: ignore[arg-type]
        located = regions_of(adata, axis=axis)
        at = np.flatnonzero(located.rows == names.get_loc(name))
        if not at.size:
            raise ValueError(f"{name!r} has no region ({located.where}): there is nothing to draw.")
        start, bin_bp = int(self._table.index[0]), int(record["bin_bp"])
        self._bin_bp = bin_bp
        self._extent = View(
            str(located.regions.chrom[at[0]]), start, start + bin_bp * len(self._table)
        )
        told = str(record.get("genome", "unknown"))
        self.genome: str | None = None if told == "unknown" else told
        self.entries = entries_of(
            self._table.columns.to_frame(index=False).set_index("index"), self
        )

    @property
    def extent(self) -> View:
        return self._extent

    def read(self, entry: Entry, view: View, like: Bins | None) -> Bins:
        values = self._table.iloc[:, entry.place].to_numpy()
        return Bins.even(self._extent.start, self._bin_bp, values)


class BinSource:
    """Rows are bins, variables are tracks."""

    def __init__(self, adata: AnnData, located: Located, region: Any) -> None:
        view = None if region is None else read_view(region, "region")
        self._adata, self.genome = adata, located.genome
        regions = located.regions
        if view is None and len(regions.chromosomes[0]) > 1:
            raise ValueError(
                f"The bins are on {first_names(regions.chromosomes[0])}: say with region= what to "
                "draw, such as region='chr1:1,000-2,000'."
            )
        chrom = str(regions.chrom[0])
        here = np.ones(len(regions), bool) if view is None else view.on(regions.chrom)
        if view is not None:
            here[here] = view.holds(regions.start[here], regions.end[here])
        if not here.any():
            raise ValueError(
                f"There are no bins in {view}; those of the object lie in "
                f"{first_names(_spans(regions))}."
            )
        order = np.flatnonzero(here)
        order = order[np.argsort(regions.start[order], kind="stable")]
        self._start, self._end = regions.start[order], regions.end[order]
        self._rows = located.rows[order]
        if (self._start[1:] < self._end[:-1]).any():
            at = int(np.argmax(self._start[1:] < self._end[:-1]))
            raise ValueError(
                f"Bins overlap: {regions.name(int(order[at]))} and "
                f"{regions.name(int(order[at + 1]))}. Expected one value a base and track, as "
                "glm.tl.predict_stretch gives; draw overlapping stretches one at a time."
            )
        self._extent = view or View(chrom, int(self._start[0]), int(self._end[-1]))
        self.entries = entries_of(adata.var, self)

    @property
    def extent(self) -> View:
        return self._extent

    def read(self, entry: Entry, view: View, like: Bins | None) -> Bins:
        first = int(np.searchsorted(self._end, view.start, side="right"))
        last = int(np.searchsorted(self._start, view.end, side="left"))
        column = self._adata[self._rows[first:last], entry.place].X
        column = column.toarray() if hasattr(column, "toarray") else np.asarray(column)
        values = column.ravel().astype(np.float64)
        return Bins(self._start[first:last], self._end[first:last], values)


def _spans(regions: Any) -> list[str]:
    names, codes = regions.chromosomes
    return [
        str(View(name, int(regions.start[codes == i].min()), int(regions.end[codes == i].max())))
        for i, name in enumerate(names)
    ]


def entries_of(table: pd.DataFrame, source: Source) -> list[Entry]:
    """The tracks of a table with perhaps identifier, assay and sample, by place."""

    def column(name: str) -> list[str]:
        return list(table[name].astype(str)) if name in table else [""] * len(table)

    identifiers, assays, samples = map(column, ("identifier", "assay", "sample"))
    entries = []
    for place, index in enumerate(table.index):
        known = dict.fromkeys(name for name in (identifiers[place], str(index)) if name)
        entries.append(Entry(source, place, tuple(known), assays[place], samples[place]))
    return entries
