"""What was found: regions, and the rows they are of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..regions import Regions


@dataclass(frozen=True, eq=False)
class Located:
    """Regions of the rows of an object.

    Attributes
    ----------
    holder
        The AnnData they are of, a modality for one of a MuData; ``None`` for tables, lists, files.
    axis
        ``"obs"`` or ``"var"``; ``""`` without a holder.
    regions
        One for each of ``rows``, named by the object's names where it has some.
    rows
        int64, ascending: the rows that have a region.
    n_rows
        Rows there are.
    genome
        What the object itself says its genome is, as it says it; ``None`` if it does not.
    where
        What was read, for messages and records: ``"adata.var['interval']"``.
    """

    holder: Any
    axis: str
    regions: Regions
    rows: NDArray[np.int64]
    n_rows: int
    genome: str | None
    where: str
