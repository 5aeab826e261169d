"""Regions of whatever has some: objects, tables, texts, BED files; and the genome they are of.

One rule for all: positions count from 0 and the end is not included, also in texts such as
``chr1:1,000-2,000``, which is how 10x and AnnData name peaks.
"""

from __future__ import annotations

from ._find import regions_of
from ._genome import check_genome, same_genome, stated_genome
from ._located import Located
from ._overlaps import overlapping
from ._table import find_column, values_of
from ._values import Places, check_bases, chromosomes, positions, strands

__all__ = [
    "Located",
    "Places",
    "check_bases",
    "check_genome",
    "chromosomes",
    "find_column",
    "overlapping",
    "positions",
    "regions_of",
    "same_genome",
    "stated_genome",
    "strands",
    "values_of",
]
