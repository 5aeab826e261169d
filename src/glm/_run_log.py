"""What was logged in the folder of a training run: tables that plots read without the trainer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

LOG = "log"
"""The folder of the tables, in that of the run."""


def read_history(folder: Path) -> pd.DataFrame:
    """The log of a run, over all calls; steps that were done again stand once, as done last."""
    import pandas as pd

    versions = (folder / LOG).glob("version_*/metrics.csv")
    paths = sorted(versions, key=lambda path: int(path.parent.name.split("_")[1]))
    kept: list[pd.DataFrame] = []
    for table in (pd.read_csv(path) for path in paths if path.stat().st_size):
        if len(table):
            first = table["step"].min()
            earlier = [before[before["step"] < first] for before in kept]
            kept = [*(part for part in earlier if len(part)), table]
    if not kept:
        return pd.DataFrame({"epoch": pd.Series(dtype=int), "step": pd.Series(dtype=int)})
    history = pd.concat(kept, ignore_index=True)
    first_columns = ["epoch", "step"]
    return history[[*first_columns, *sorted(set(history.columns) - set(first_columns))]]
