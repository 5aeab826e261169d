"""Which genome an object says its regions are of, and whether another one is the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .._messages import first_names
from ..genome import build_of
from ._table import values_of
from ._values import is_missing

if TYPE_CHECKING:
    from ..genome import Genome
    from ._located import Located

GENOME = "genome"
"""Column, and key of ``uns``, in which an object names its genome; Cell Ranger writes it too."""


def same_genome(one: str | None, other: str | None) -> bool:
    """Whether two names may be of one genome: hg38 and GRCh38 are, names not known here may be."""
    first, second = build_of(one or ""), build_of(other or "")
    return not first or not second or first == second


def stated_genome(table: Any, rows: np.ndarray, uns: Mapping[str, Any], title: str) -> str | None:
    """What a table's column ``genome`` says of some rows, or else ``uns["genome"]``.

    Raises
    ------
    ValueError
        If the rows are of several genomes, or the two do not agree.
    """
    in_column = _in_column(table, rows, title)
    told = uns.get(GENOME)
    in_uns = told if isinstance(told, str) and not is_missing(told) else None
    if in_column is not None and not same_genome(in_column, in_uns):
        raise ValueError(
            f"{title}['genome'] says {in_column!r}, but adata.uns['genome'] says {in_uns!r}. "
            "Correct the one that is wrong."
        )
    return in_column or in_uns


def _in_column(table: Any, rows: np.ndarray, title: str) -> str | None:
    if GENOME not in table.columns:
        return None
    values = values_of(table, GENOME).iloc[rows].drop_duplicates()
    found = [str(value) for value in values if not is_missing(value)]
    if len({build_of(name) or name for name in found}) > 1:
        raise ValueError(
            f"{title}['genome'] names several genomes: {first_names(map(repr, found), 6)}. Take "
            "the rows of one of them at a time."
        )
    return found[0] if found else None


def check_genome(located: Located, genome: Genome | str) -> None:
    """Refuse a genome other than the one that an object says its regions are of.

    Builds are known by their usual names (hg19 is GRCh37, hg38 GRCh38, mm10 GRCm38, with or without
    a patch); where either name is not one of a build known here, nothing is compared.

    Raises
    ------
    ValueError
        If both are known, and differ.
    """
    name = genome if isinstance(genome, str) else genome.name
    if not same_genome(located.genome, name):
        raise ValueError(
            f"The regions ({located.where}) are of {located.genome!r}, as the object says itself, "
            f"and the genome is {name!r}: coordinates of one read something else in the other. "
            "Pass the genome that they are of; or correct the object, if it is mistaken "
            "(its column genome, or uns['genome'])."
        )
