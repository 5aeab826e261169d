"""Start sites of an object's genes, and which bins and tracks are read at each."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from .._messages import first_names
from ..locate import same_genome
from ..models.config import is_whole
from ..models.enformer_config import BIN_BP
from ..pp._add_tss import UNKNOWN, match
from ..pp._transcripts import Promoters, promoters_of, start_sites_of
from ..regions import Regions
from ._window_source import Geometry

if TYPE_CHECKING:
    from ..genome import Genome

Tss = Literal["canonical", "all", "five_prime"]
"""Which start sites of a gene count."""

WORDS = {
    "canonical": "the start of the gene's canonical transcript, as glm.pp.add_tss chooses it",
    "all": "the mean over all different start sites of the gene",
    "five_prime": "the start furthest upstream of all the gene's transcripts",
}


@dataclass(frozen=True, eq=False)
class StartSites:
    """Start sites of genes, some of a gene.

    Attributes
    ----------
    regions
        One base each, named as the gene; on the plus strand, as it is read.
    rows
        int64, ascending: the gene's row of ``var``.
    minus
        bool, one a row of ``var``: whether the gene lies on the minus strand.
    facts
        What the record says of them.
    why_not
        Why genes have none, each reason with its number.
    """

    regions: Regions
    rows: NDArray[np.int64]
    minus: NDArray[np.bool_]
    facts: dict[str, Any]
    why_not: list[str]


def find_sites(names: Sequence[Any], gtf: Any, tss: Tss, genome: Genome) -> StartSites:
    """The start sites of named genes, on chromosomes that the genome has.

    Raises
    ------
    ValueError
        If the annotation is malformed or of another genome, knows none of the genes, or lies on
        none of the genome's chromosomes.
    """
    if tss not in get_args(Tss):
        raise ValueError(f"tss is {tss!r}; expected {', '.join(map(repr, get_args(Tss)))}.")
    source = str(gtf) if isinstance(gtf, str | os.PathLike) else "table"
    promoters, gene, place = _places(gtf, tss)
    if not same_genome(promoters.genome, genome.name):
        raise ValueError(
            f"{source} says that it is of {promoters.genome!r}, and the genome is {genome.name!r}. "
            "Take the annotation of the same genome."
        )
    found, kinds = match(names, promoters)
    if not (found >= 0).any():
        raise ValueError(
            f"None of {len(names):,} names of genes ({first_names(names)}) is a gene of {source}, "
            f"whose first are {first_names(promoters.table['gene'])} "
            f"({first_names(promoters.table['symbol'])}). Name the column of ids or symbols with "
            "gene_ids=; is the annotation of the same species?"
        )
    n_found = int((found >= 0).sum())
    found = _on_chromosomes(found, promoters, genome, source)
    rows = np.flatnonzero(found >= 0).astype(np.int64)
    first = np.searchsorted(gene, found[rows])
    number = np.searchsorted(gene, found[rows], side="right") - first
    site = np.repeat(first - np.cumsum(number) + number, number) + np.arange(number.sum())
    of = np.repeat(rows, number)
    start = place[site]
    chrom = promoters.table["chrom"].to_numpy(object)[gene[site]]
    called = [str(names[row]) for row in of.tolist()]
    regions = Regions(chrom, start, start + 1, np.zeros(len(of), np.int8), called)
    minus = np.zeros(len(names), bool)
    minus[rows] = promoters.table["strand"].to_numpy()[found[rows]] < 0
    return StartSites(
        regions,
        of,
        minus,
        _facts(source, tss, promoters, found, kinds, len(of), n_found - len(rows)),
        _why_not(kinds, source, n_found - len(rows)),
    )


def centred_spans(n_bins: int, n: int, geometry: Geometry) -> NDArray[np.int64]:
    """int64, n × 2: so many bins of the output around the one that holds the window's middle.

    Raises
    ------
    ValueError
        If they are not an odd number, or more than the output has on either side.
    """
    middle = geometry.window_bp // 2 // BIN_BP - geometry.crop
    most = 2 * min(middle, geometry.n_bins - 1 - middle) + 1
    if not is_whole(n_bins) or not 1 <= n_bins <= most or not n_bins % 2:
        raise ValueError(
            f"n_bins is {n_bins!r}; expected an odd number from 1 to {most:,}, with the start site "
            "in the middle one."
        )
    low = middle - n_bins // 2
    return np.tile(np.array([[low, low + n_bins]], np.int64), (n, 1))


def _places(gtf: Any, tss: Tss) -> tuple[Promoters, NDArray[np.int64], NDArray[np.int64]]:
    """A transcript of each gene; and of all start sites, by gene, its row and its place."""
    if tss == "all":
        return start_sites_of(gtf)
    promoters = promoters_of(gtf, "canonical" if tss == "canonical" else "most_upstream")
    place = promoters.table["tss"].to_numpy(np.int64)
    return promoters, np.arange(len(place), dtype=np.int64), place


def _on_chromosomes(
    found: NDArray[np.int64], promoters: Promoters, genome: Genome, source: str
) -> NDArray[np.int64]:
    """Rows of genes whose chromosome the genome has; ``UNKNOWN`` instead of others."""
    chrom = promoters.table["chrom"].to_numpy(object)
    asked = {str(name) for name in chrom[found[found >= 0]]}
    there = {name for name in asked if genome._names.find(name)}
    if not there:
        raise ValueError(
            f"{source} has genes on {first_names(map(repr, sorted(asked)), 6)}, and the genome has "
            f"{first_names(map(repr, genome.contigs), 6)}: is it the annotation of this genome?"
        )
    lost = np.array([found_at >= 0 and chrom[found_at] not in there for found_at in found], bool)
    return np.where(lost, UNKNOWN, found)


def _facts(
    source: str,
    tss: Tss,
    promoters: Promoters,
    found: NDArray[np.int64],
    kinds: Counter[str],
    n_sites: int,
    n_elsewhere: int,
) -> dict[str, Any]:
    by = promoters.table["by"].iloc[found[found >= 0]].value_counts()
    return {
        "gtf": source,
        "feature": promoters.feature,
        "tss": tss,
        "tss_rule": WORDS[tss],
        "n_start_sites": n_sites,
        "n_genes_in_gtf": len(promoters.table),
        "matched_by": {name: kinds[name] for name in ("id", "symbol")},
        "n_not_found": kinds["unknown"],
        "n_several_genes": kinds["several"],
        "n_on_other_chromosomes": n_elsewhere,
        "chosen_by": {str(kind): int(number) for kind, number in by.items()},
    }


def _why_not(kinds: Counter[str], source: str, n_elsewhere: int) -> list[str]:
    told = {
        f"are not in {source}": kinds["unknown"],
        "have a name of several genes or places (give ids with gene_ids=)": kinds["several"],
        "are on chromosomes that the genome has not": n_elsewhere,
    }
    return [f"{number:,} {words}" for words, number in told.items() if number]
