"""The tracks that a model predicts, as a table: read from the published files or from a bundle."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = {
    "identifier": "str",
    "assay": "str",
    "sample": "str",
    "aggregation": "str",
    "scale": "float64",
    "clip": "float64",
    "strand_pair": "int64",
}
"""Columns of a table of tracks; its index, named ``"index"``, counts the outputs of the head."""

# How the published files call what a bin holds: a plain sum or mean, or one whose root was taken.
AGGREGATIONS = ("sum", "mean", "sum_sqrt")

_PUBLISHED = ("identifier", "clip", "scale", "sum_stat", "description")


def read_targets(path: Path) -> pd.DataFrame:
    """Read a targets file as Basenji and its successors publish them, one track a row.

    Assay and sample are the parts of the description before and after its first colon. Without a
    column ``strand_pair`` no track has a partner: each is its own.

    Returns
    -------
    A table with :data:`COLUMNS`, indexed from 0 in the order of the head's outputs.

    Raises
    ------
    ValueError
        If it is no such file: no tab-separated text, columns missing, numbers that are none, places
        that do not count up, or a partner outside the file.
    """
    import pandas as pd

    found = _read(path, quoting=csv.QUOTE_NONE)
    found = found.rename(columns={found.columns[0]: "index"})
    _refuse_missing(path, found, _PUBLISHED)
    described = found["description"].str.partition(":")
    number = pd.RangeIndex(len(found), name="index")
    place = _numbers(path, found, "index").to_numpy()
    if not len(found) or (np.diff(place) != 1).any():
        raise ValueError(
            f"{path} lists {len(found):,} tracks whose index does not count up by one: rows are "
            "missing, or in another order than the outputs of the model."
        )
    # A file of a second head goes on counting where the first ended.
    pair = number.to_numpy("float64")
    if "strand_pair" in found:
        pair = _numbers(path, found, "strand_pair").to_numpy() - place[0]
    return _checked(
        path,
        pd.DataFrame(
            {
                "identifier": found["identifier"].to_numpy(),
                "assay": described[0].str.strip().to_numpy(),
                "sample": described[2].str.strip().to_numpy(),
                "aggregation": found["sum_stat"].to_numpy(),
                "scale": _numbers(path, found, "scale").to_numpy(),
                "clip": _numbers(path, found, "clip").to_numpy(),
                "strand_pair": pair,
            },
            index=number,
        ),
    )


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table of tracks as tab-separated text that :func:`read_table` reads."""
    table.loc[:, list(COLUMNS)].to_csv(path, sep="\t", index_label="index")


def read_table(path: Path) -> pd.DataFrame:
    """Read a table that :func:`write_table` wrote.

    Raises
    ------
    ValueError
        If it is none.
    """
    import pandas as pd

    found = _read(path)
    _refuse_missing(path, found, ("index", *COLUMNS))
    number = pd.RangeIndex(len(found), name="index")
    if (_numbers(path, found, "index") != number).any():
        raise ValueError(f"{path} does not list its tracks from 0 on, one by one.")
    numbers = {name: _numbers(path, found, name) for name in ("scale", "clip", "strand_pair")}
    return _checked(path, found.assign(**numbers).loc[:, list(COLUMNS)].set_index(number))


def unnamed_tracks(n: int) -> pd.DataFrame:
    """A table of tracks of which nothing is known but their number."""
    import pandas as pd

    number = pd.RangeIndex(n, name="index")
    return pd.DataFrame(
        {
            "identifier": number.astype(str),
            "assay": "unknown",
            "sample": "",
            "aggregation": "unknown",
            "scale": 1.0,
            "clip": float("inf"),
            "strand_pair": number.to_numpy("int64"),
        },
        index=number,
    )


def _read(path: Path, quoting: Literal[0, 3] = csv.QUOTE_MINIMAL) -> pd.DataFrame:
    import pandas as pd

    # No value of these is missing: a sample may well be called "NA" or "None". Python's engine
    # tells a field that is empty from one that is not there.
    try:
        return pd.read_csv(
            path, sep="\t", dtype=str, keep_default_na=False, quoting=quoting, engine="python"
        )
    except ValueError as error:  # pandas' own errors and those of decoding are such
        raise ValueError(f"{path} is no table of tracks: {error}") from error


def _refuse_missing(path: Path, found: pd.DataFrame, wanted: tuple[str, ...]) -> None:
    missing = [name for name in wanted if name not in found]
    if missing:
        there = ", ".join(map(str, found.columns[:8]))
        raise ValueError(
            f"{path} is no table of tracks: it has no column {', '.join(missing)}. Expected "
            f"tab-separated text with {', '.join(wanted)}; found {there[:200]}."
        )
    if found.loc[:, list(wanted)].isna().any(axis=None):
        row = int(np.flatnonzero(found.loc[:, list(wanted)].isna().any(axis=1))[0])
        raise ValueError(f"{path} is cut short: row {row + 1:,} of its tracks is not whole.")


def _numbers(path: Path, found: pd.DataFrame, column: str) -> pd.Series:
    import pandas as pd

    wrong = np.flatnonzero(pd.to_numeric(found[column], errors="coerce").isna())
    if wrong.size:
        raise ValueError(
            f"{path}: {column} of {wrong.size:,} tracks is no number, first in row "
            f"{wrong[0] + 1:,} ({found[column].iloc[wrong[0]]!r})."
        )
    return found[column].astype("float64")  # which reads every digit


def _checked(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    pair = table["strand_pair"].to_numpy()
    inside = (pair >= 0) & (pair < len(pair)) & (pair == np.floor(pair))
    mutual = inside.copy()
    places = pair[inside].astype("int64")
    mutual[inside] = pair[places] == np.flatnonzero(inside)
    if not mutual.all():
        row = int(np.flatnonzero(~mutual)[0])
        raise ValueError(
            f"{path}: strand_pair of {(~mutual).sum():,} tracks names no track that names them "
            f"back, first in row {row + 1:,} ({pair[row]:g}). A track without a partner is its own."
        )
    return table.astype({"strand_pair": "int64"})
