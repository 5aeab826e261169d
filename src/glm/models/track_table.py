"""The tracks that a model predicts, as a table: read from the published files or from a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

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


def read_targets(path: Path) -> pd.DataFrame:
    """Read a targets file as Basenji and its successors publish them, one track a row.

    Assay and sample are the parts of the description before and after its first colon. Without a
    column ``strand_pair`` no track has a partner: each is its own.

    Returns
    -------
    A table with :data:`COLUMNS`, indexed from 0 in the order of the head's outputs.
    """
    import pandas as pd

    # No value of these is missing: a sample may well be called "NA" or "None".
    found = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    found = found.rename(columns={found.columns[0]: "index"})
    described = found["description"].str.partition(":")
    number = pd.RangeIndex(len(found), name="index")
    first = int(found["index"].iloc[0])  # a file of a second head goes on counting
    pair = found["strand_pair"].astype("int64") - first if "strand_pair" in found else number
    return pd.DataFrame(
        {
            "identifier": found["identifier"].to_numpy(),
            "assay": described[0].to_numpy(),
            "sample": described[2].str.strip().to_numpy(),
            "aggregation": found["sum_stat"].to_numpy(),
            "scale": found["scale"].astype("float64").to_numpy(),
            "clip": found["clip"].astype("float64").to_numpy(),
            "strand_pair": pd.Series(pair).to_numpy("int64"),
        },
        index=number,
    )


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table of tracks as tab-separated text that :func:`read_table` reads."""
    table.loc[:, list(COLUMNS)].to_csv(path, sep="\t", index_label="index")


def read_table(path: Path) -> pd.DataFrame:
    """Read a table that :func:`write_table` wrote."""
    import pandas as pd

    found = pd.read_csv(path, sep="\t", index_col="index", dtype=COLUMNS, keep_default_na=False)
    return found.loc[:, list(COLUMNS)]
