from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .._keys import TrackKeys
from .._messages import first_names

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from mudata import MuData

LEVELS = ("index", "identifier", "assay", "sample")
"""Levels of the columns; the first alone is unique."""


def tracks(
    data: AnnData | MuData,
    key: str = "enformer",
    *,
    region: str | None = None,
    axis: Literal["obs", "var"] | None = None,
    mod: str | None = None,
) -> pd.DataFrame:
    """Read predicted tracks as a table.

    Parameters
    ----------
    data
        An object that :func:`glm.tl.predict_tracks` has written to; or a MuData, with ``mod``.
    key
        Name in the slots.
    region
        Name of a region, whose bins are read; needed where bins were kept (``bins="region"`` or
        ``"all"``), and only there.
    axis
        ``"obs"`` or ``"var"``; ``None`` is where they were written.
    mod
        Modality of a MuData.

    Returns
    -------
    float32. Regions × tracks, indexed by the regions' names, or of one region bins × tracks,
    indexed by the position of each bin's first base. Columns have the levels ``index`` (among the
    head's outputs; unique), ``identifier``, ``assay`` and ``sample``, so that
    ``table.xs("CAGE", axis=1, level="assay")`` is all CAGE. The values are those of the slot, not
    a copy, where that is possible; of predictions in a folder only the region is read.

    Raises
    ------
    KeyError
        If there are no such predictions, modality or region.
    ValueError
        If bins were kept and no region is named, or the other way round; if the record is of other
        tracks; if the region was moved since.
    FileNotFoundError
        If predictions lie in a folder that is not there.

    Examples
    --------
    >>> import glm
    >>> peaks, genome = glm.datasets.toy_regions(n_regions=2)
    >>> options = {"genome": genome, "tracks": "CAGE", "max_n_share_window": 1.0}
    >>> glm.tl.predict_tracks(peaks, "enformer-tiny", **options)
    >>> list(glm.get.tracks(peaks).columns.names)
    ['index', 'identifier', 'assay', 'sample']
    """
    import pandas as pd

    adata = _holder(data, mod)
    keys = TrackKeys(key)
    record = _record(adata, keys)
    axis = str(record["axis"]) if axis is None else axis  # type: ignore[assignment]
    table = record["tracks"]
    columns = pd.MultiIndex.from_arrays([_listed(table[name]) for name in LEVELS], names=LEVELS)
    names = getattr(adata, f"{axis}_names")
    array = str(record.get("array", "none"))
    values = _opened(array, keys) if array != "none" else _in_slot(adata, keys, str(axis))
    if values.shape[-1] != len(columns):
        raise ValueError(
            f"The predictions are of {values.shape[-1]:,} tracks and their record, "
            f"adata.uns[{keys.record!r}], of {len(columns):,}: predict them again."
        )
    if values.ndim == 2:
        if region is not None:
            raise ValueError(
                "The bins of each region were reduced: leave region out, and take a row of the "
                "table; or predict with bins='region' or bins='all' to have them."
            )
        return pd.DataFrame(values, index=names, columns=columns)
    here = _row(names, region, values.shape)
    # A folder goes by its own names: rows of the object may have been taken away since.
    row = here if array == "none" else _row(np.array(values.attrs["regions"]), region, values.shape)
    starts = _bin_starts(adata, record, str(axis), here, values.shape[1], keys)
    return pd.DataFrame(np.asarray(values[row]), index=starts, columns=columns)


def _holder(data: Any, mod: str | None) -> Any:
    modalities = getattr(data, "mod", None)
    if not isinstance(modalities, Mapping):
        if mod is not None:
            raise ValueError(f"mod={mod!r} is for a MuData; this is a {type(data).__name__}.")
        return data
    if mod is None or mod not in modalities:
        raise KeyError(f"Name the modality, mod=: one of {first_names(modalities, 10)}.")
    return modalities[mod]


def _record(adata: Any, keys: TrackKeys) -> Any:
    record = adata.uns.get(keys.record)
    if isinstance(record, Mapping) and "tracks" in record:
        return record
    others = [name for name in adata.uns if str(name).startswith("tracks_")]
    there = f" There are {first_names(others, 6)}." if others else ""
    raise KeyError(
        f"adata.uns has no {keys.record!r} of predicted tracks; call glm.tl.predict_tracks first."
        + there
    )


def _in_slot(adata: Any, keys: TrackKeys, axis: str) -> Any:
    slots = getattr(adata, f"{axis}m")
    if keys.values not in slots:
        raise KeyError(f"adata.{axis}m has no {keys.values!r}, of which uns has the record.")
    return slots[keys.values]


def _opened(array: str, keys: TrackKeys) -> Any:
    """An array in a folder, of which nothing is read yet."""
    if not Path(array).is_dir():
        raise FileNotFoundError(
            f"{array} is not there, which holds the predictions. Bring it back, correct "
            f"adata.uns[{keys.record!r}]['array'], or predict again."
        )
    import zarr

    return zarr.open_array(array, mode="r")


def _row(names: Any, region: str | None, shape: tuple[int, ...]) -> int:
    if region is None:
        raise ValueError(
            f"All {shape[1]:,} bins of {shape[0]:,} regions were kept: name a region, for instance "
            f"region={str(names[0])!r}, to have its bins as a table."
        )
    found = np.flatnonzero(names == region)
    if found.size != 1:
        said = "is no region" if not found.size else f"are {found.size} regions"
        raise KeyError(f"There {said} called {region!r}; expected one of {first_names(names)}.")
    return int(found[0])


def _bin_starts(
    adata: Any, record: Any, axis: str, row: int, n_bins: int, keys: TrackKeys
) -> pd.Index:
    """Position of the first base of each bin of a region's output."""
    import pandas as pd

    from ..locate import regions_of

    located = regions_of(adata, axis=axis)
    at = np.searchsorted(located.rows, row)
    if at == len(located.rows) or located.rows[at] != row:
        return pd.Index(np.full(n_bins, -1), name="start")
    centre = (int(located.regions.start[at]) + int(located.regions.end[at])) // 2
    first = int(_listed(record["bins_in_array"])[0])
    bin_bp, window_bp = int(record["bin_bp"]), int(record["window_bp"])
    crop = (window_bp - int(record["output_bp"])) // 2
    begin = centre - window_bp // 2 + crop + bin_bp * first
    columns = getattr(adata, axis)
    then = columns[keys.start].iloc[row] if keys.start in columns else begin
    if pd.isna(then) or then != begin:
        raise ValueError(
            f"The coordinates of region {located.regions.name(int(at))} were changed since its "
            f"tracks were predicted: the first bin began at {then} then "
            f"(adata.{axis}[{keys.start!r}]), and would begin at {begin} now. Predict again, or "
            "put the coordinates back."
        )
    return pd.Index(begin + bin_bp * np.arange(n_bins), name="start")


def _listed(values: Any) -> list[Any]:
    return np.asarray(values).tolist()
