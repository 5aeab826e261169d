"""Columns of regions in ``obs`` or ``var``: what is in them, and writing them all at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import slots
from .._keys import RegionKeys
from ..locate import same_genome, stated_genome
from ..regions import Regions

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

_SIGN = np.array([".", "+", "-"])  # by strand: 0, 1, and -1 from the end
_WAY = "Rename it, or pass overwrite=True to replace it."


class RegionColumns:
    """The slots of an axis's regions: checked when this is made, written once.

    Parameters
    ----------
    adata
        Where they are written.
    axis
        ``"obs"`` or ``"var"``.
    function
        Who writes: another function's columns are not replaced unasked.
    overwrite
        Replace what is there, whoever wrote it.
    more
        Further columns that will be written.

    Raises
    ------
    ValueError
        If a column is taken.
    """

    def __init__(
        self,
        adata: AnnData,
        axis: str,
        *,
        function: str,
        overwrite: bool,
        more: Sequence[str] = (),
    ) -> None:
        self._adata, self._axis, self._function = adata, axis, function
        self._overwrite = overwrite
        self._keys = RegionKeys(axis)
        names = [self._keys.chrom, self._keys.start, self._keys.end, self._keys.strand, *more]
        slots.check_free(
            adata,
            [(axis, name) for name in names],
            self._keys.record,
            model=function,
            overwrite=overwrite,
            way=_WAY,
        )

    def check_genome(self, genome: str | None, rows: NDArray[np.int64], source: str) -> str | None:
        """The genome to write down: ``None`` where the object names it in a column of its own.

        Raises
        ------
        ValueError
            If the object says that these rows are of another one.
        """
        table, name = getattr(self._adata, self._axis), self._keys.genome
        ours = f"{self._axis}/{name}" in self._recorded_slots()
        if ours or self._overwrite:
            table = table.drop(columns=name, errors="ignore")
        own = stated_genome(table, rows, self._adata.uns, f"adata.{self._axis}")
        if not same_genome(own, genome):
            raise ValueError(
                f"The object says itself that it is of {own!r} (column genome or uns['genome'] of "
                f"adata.{self._axis}), and {source} is of {genome!r}. Coordinates of one are wrong "
                "in the other: take regions of the same genome, or correct the object."
            )
        return None if name in table.columns else genome

    def _recorded_slots(self) -> list[str]:
        record = self._adata.uns.get(self._keys.record)
        return list(record.get("slots", [])) if isinstance(record, Mapping) else []

    def write(
        self,
        regions: Regions,
        rows: NDArray[np.int64],
        *,
        genome: str | None,
        more: Mapping[str, Any],
        facts: Mapping[str, Any],
    ) -> list[str]:
        """Write regions of ``rows``, and a record; the names of the columns."""
        n_rows = len(getattr(self._adata, f"{self._axis}_names"))
        keys, there = self._keys, np.zeros(n_rows, bool)
        there[rows] = True
        values: dict[str, Any] = {
            keys.chrom: spread_texts(regions.chrom, rows, n_rows),
            keys.start: _spread_numbers(regions.start, rows, n_rows),
            keys.end: _spread_numbers(regions.end, rows, n_rows),
            keys.strand: spread_texts(_SIGN[regions.strand], rows, n_rows),
        }
        if genome is not None:
            values[keys.genome] = spread_texts(np.full(n_rows, genome), np.arange(n_rows), n_rows)
        values |= more
        record = slots.make_record(
            function=self._function,
            model=self._function,
            axis=self._axis,
            **facts,
            genome=genome,
            n_rows=n_rows,
            n_without_region=n_rows - len(rows),
        )
        columns = {(self._axis, name): value for name, value in values.items()}
        slots.write(self._adata, columns, keys.record, record)
        return list(values)


def spread_texts(texts: Any, rows: NDArray[np.integer], n_rows: int) -> pd.Categorical:
    """A category that is missing in all other rows: files hold it, which they do not text with."""
    import pandas as pd

    spread = np.full(n_rows, None, object)
    spread[rows] = texts
    return pd.Categorical(spread)


def _spread_numbers(numbers: NDArray[np.int64], rows: NDArray[np.integer], n_rows: int) -> Any:
    """int64 where every row has a number, and pandas' nullable Int64 otherwise."""
    import pandas as pd

    if len(rows) == n_rows:
        return np.array(numbers)
    missing = np.ones(n_rows, bool)
    spread = np.zeros(n_rows, np.int64)
    missing[rows], spread[rows] = False, numbers
    return pd.arrays.IntegerArray(spread, missing)


def name_of(genome: Any) -> str | None:
    """What a genome is called: a text is its own name, and nothing is opened or fetched."""
    if genome is None or isinstance(genome, str):
        return genome or None
    name = getattr(genome, "name", None)
    if not isinstance(name, str):
        raise TypeError(
            f"genome is of type {type(genome).__name__}; expected a name such as 'hg38', or a "
            "glm.Genome."
        )
    return name or None
