"""Transcripts of an annotation: one for each gene, by a stated policy, and where it starts."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from .._messages import first_names
from ..io._gtf import scan_gtf
from ..locate import (
    Places,
    check_bases,
    chromosomes,
    find_column,
    positions,
    strands,
    values_of,
)

if TYPE_CHECKING:
    import pandas as pd

Policy = Literal["canonical", "most_upstream"]
POLICIES = ("canonical", "most_upstream")

_FEATURES = ("transcript", "exon", "gene")
_ATTRIBUTES = ("gene_id", "gene_name", "transcript_id", "tag")
# With .12 a version; with .3_1 one that GENCODE mapped back to GRCh37.
_ENSEMBL = re.compile(r"(ENS[A-Z]*G|ENSGR)([0-9]{10,11})(\.[0-9]+(_[0-9]+)?)?(_PAR_Y)?", re.I)
_SECONDARY = re.compile(r"(?!N[CW]_).*_.*|(GL|KI|JH)[0-9]+.*|NT_.*|NW_.*", re.IGNORECASE)
_INCOMPLETE = "mRNA_start_NF"


def gene_key(name: str) -> str:
    """A gene's id as all releases would write it: no version, and the Y copy apart from X's.

    ``ENSG00000182378.13_PAR_Y`` and ``ENSGR0000182378.8`` are ``ENSG00000182378_PAR_Y``. What is
    no Ensembl id stays as it is.
    """
    found = _ENSEMBL.fullmatch(name)
    if found is None:
        return name
    prefix, digits, copy = found[1].upper(), found[2], found[5]
    if prefix == "ENSGR":
        prefix, digits, copy = "ENSG", f"0{digits}", "_PAR_Y"
    return f"{prefix}{digits}{'_PAR_Y' if copy else ''}"


def is_versioned(name: str) -> bool:
    """Whether a name is an Ensembl id with a version."""
    found = _ENSEMBL.fullmatch(name)
    return found is not None and found[3] is not None


@dataclass(frozen=True, eq=False)
class Promoters:
    """One transcript of each gene: rows of ``table``, in no order, with the place of its TSS.

    Attributes
    ----------
    table
        ``gene``, ``symbol``, ``chrom``, ``strand`` (1 or -1), ``tss`` (0-based), ``transcript``,
        ``by`` (why this transcript); a gene once.
    feature
        Which rows of the annotation were read.
    genome
        The build that the file tells, or ``""``.
    several
        Genes that lie in several places, none of which is the main one: they have no row.
    """

    table: pd.DataFrame
    feature: str
    genome: str
    several: frozenset[str]

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Row of a gene."""
        return {gene: row for row, gene in enumerate(self.table["gene"])}

    @cached_property
    def genes_of(self) -> dict[str, list[int]]:
        """Rows of all genes of a symbol; of the two copies of a gene on X and Y the one on X."""
        found: dict[str, list[int]] = {}
        for row, symbol in enumerate(self.table["symbol"]):
            if isinstance(symbol, str) and symbol:
                found.setdefault(symbol, []).append(row)
        return {
            symbol: self._main(rows) if len(rows) > 1 else rows for symbol, rows in found.items()
        }

    def _main(self, rows: list[int]) -> list[int]:
        genes, chroms = self.table["gene"].to_numpy(), self.table["chrom"].to_numpy()
        first = [row for row in rows if not genes[row].endswith("_PAR_Y")]
        main = [row for row in first if not _SECONDARY.fullmatch(chroms[row])]
        kept = main or first or rows
        if len(kept) == 2 and {_bare(chroms[row]) for row in kept} == {"X", "Y"}:
            kept = [row for row in kept if _bare(chroms[row]) == "X"]
        return kept


def _bare(chrom: str) -> str:
    return chrom.removeprefix("chr")


def promoters_of(gtf: Any, policy: Policy) -> Promoters:
    """Read an annotation and choose one transcript for each gene.

    Raises
    ------
    ValueError
        If there are no transcripts, exons or genes in it, or none has a gene and a strand.
    """
    return _promoters(*_read(gtf), policy)


def start_sites_of(gtf: Any) -> tuple[Promoters, NDArray[np.int64], NDArray[np.int64]]:
    """Read an annotation, and find every start site of each gene.

    A place in which several transcripts of a gene start counts once. Transcripts whose start was
    not found (``mRNA_start_NF``) count only where a gene has no others.

    Returns
    -------
    The canonical transcripts; and of all start sites, by gene and place, the gene's row among
    those, and the place.

    Raises
    ------
    ValueError
        As :func:`promoters_of`.
    """
    transcripts, feature, genome = _read(gtf)
    found = _promoters(transcripts, feature, genome, "canonical")
    place = ["gene", "chrom", "strand"]
    own = found.table.reset_index(names="row")[[*place, "row"]]
    sites = transcripts[[*place, "start", "end", "tag"]].merge(own, on=place)
    sites = sites.assign(
        tss=np.where(sites["strand"] > 0, sites["start"], sites["end"] - 1),
        whole=~sites["tag"].astype(str).str.contains(_INCOMPLETE, regex=False),
    )
    some = sites.groupby("row")["whole"].transform("any")
    sites = sites[sites["whole"] | ~some][["row", "tss"]].drop_duplicates()
    sites = sites.sort_values(["row", "tss"])
    return found, sites["row"].to_numpy(np.int64), sites["tss"].to_numpy(np.int64)


def _read(gtf: Any) -> tuple[pd.DataFrame, str, str]:
    """Transcripts, what rows they are made of, and the build that the file tells."""
    import pandas as pd

    if isinstance(gtf, pd.DataFrame):
        rows, feature, genome = _from_table(gtf)
    elif isinstance(gtf, str | os.PathLike):
        rows, feature, genome = _from_file(gtf)
    else:
        raise TypeError(
            f"gtf is of type {type(gtf).__name__}; expected the path of a GTF file, or the "
            "DataFrame that glm.io.read_gtf makes of one."
        )
    rows = rows[(rows["strand"] != 0) & rows["gene"].notna()]
    if not len(rows):
        raise ValueError(f"No {feature} of the annotation has a gene_id and a strand.")
    return _whole_transcripts(rows, feature), feature, genome


def _promoters(transcripts: pd.DataFrame, feature: str, genome: str, policy: Policy) -> Promoters:
    table, several = _one_place(_chosen(transcripts, policy))
    return Promoters(table.reset_index(drop=True), feature, genome, several)


def _from_file(path: str | os.PathLike[str]) -> tuple[pd.DataFrame, str, str]:
    frame, found = scan_gtf(path, _FEATURES[:1], _ATTRIBUTES)
    feature = next((name for name in _FEATURES if found[name]), None)
    if feature is None:
        there = first_names((f"{name} ({n:,})" for name, n in found.most_common()), 6)
        raise ValueError(f"{path} has no transcripts, exons or genes; it has {there or 'no rows'}.")
    if feature != _FEATURES[0]:
        frame, _ = scan_gtf(path, [feature], _ATTRIBUTES)
    return _normal(frame, feature), feature, str(frame.attrs.get("genome", ""))


def _from_table(frame: pd.DataFrame) -> tuple[pd.DataFrame, str, str]:
    genome = str(frame.attrs.get("genome", ""))
    column = next((c for c in frame.columns if str(c).lower() == "feature"), None)
    if column is None:
        return _normal(frame, "transcript"), "transcript", genome
    there = frame[column].astype(str)
    feature = next((name for name in _FEATURES if (there == name).any()), None)
    if feature is None:
        raise ValueError(
            f"The table has no transcripts, exons or genes; it has {first_names(there.unique())}."
        )
    return _normal(frame[there == feature], feature), feature, genome


def _normal(frame: pd.DataFrame, feature: str) -> pd.DataFrame:
    """Columns that are worked with: gene, symbol, transcript, tag, chrom, start, end, strand."""
    import pandas as pd

    named = {
        part: find_column(frame, part, "table") for part in ("chrom", "start", "end", "strand")
    }
    missing = [part for part, column in named.items() if column is None]
    missing += [] if "gene_id" in frame.columns else ["gene_id"]
    if missing:
        raise ValueError(
            f"The table has no {', '.join(missing)}; it has {', '.join(map(str, frame.columns))}. "
            "Expected what glm.io.read_gtf makes."
        )
    chrom, there = chromosomes(values_of(frame, named["chrom"]), "table['chrom']")
    start, has_start = positions(values_of(frame, named["start"]), "table['start']")
    end, has_end = positions(values_of(frame, named["end"]), "table['end']")
    strand = strands(values_of(frame, named["strand"]), "table['strand']")
    places = Places(chrom, start, end, strand, there & has_start & has_end)
    check_bases(places, None, "the table")
    values: dict[str, Any] = {"chrom": chrom, "start": start, "end": end, "strand": strand}
    for name, column in (
        ("gene", "gene_id"),
        ("symbol", "gene_name"),
        ("transcript", "transcript_id"),
        ("tag", "tag"),
    ):
        given = frame[column].to_numpy() if column in frame.columns else np.full(len(frame), None)
        values[name] = given
    table = pd.DataFrame(values)[places.there]
    known = {gene: gene_key(gene) for gene in table["gene"].dropna().unique()}
    table["gene"] = table["gene"].map(known)
    if feature == "gene" or table["transcript"].isna().all():
        table["transcript"] = table["gene"]
    return table


def _whole_transcripts(rows: pd.DataFrame, feature: str) -> pd.DataFrame:
    """One row a transcript: of exons the stretch from the first to the last."""
    if feature != "exon":
        return rows
    by = rows.groupby(["gene", "chrom", "strand", "transcript"], sort=False, dropna=False)
    whole = by.agg(
        start=("start", "min"), end=("end", "max"), symbol=("symbol", "first"), tag=("tag", "first")
    )
    return whole.reset_index()


def _chosen(table: pd.DataFrame, policy: Policy) -> pd.DataFrame:
    """One transcript for each place of each gene, with its TSS and why it was chosen."""
    plus = (table["strand"] > 0).to_numpy()
    tss = np.where(plus, table["start"], table["end"] - 1)
    rank, by = _preference(table["tag"])
    if policy == "most_upstream":
        rank, by = np.zeros_like(rank), np.full(len(table), "most_upstream", object)
    keys = {
        "rank": rank,
        "length": table["start"].to_numpy() - table["end"].to_numpy(),
        "upstream": np.where(plus, tss, -tss),
    }
    if policy == "most_upstream":
        del keys["length"]
    ordered = table.assign(tss=tss, by=by, **keys).sort_values(
        [*keys, "transcript"], kind="stable", na_position="last"
    )
    return ordered.drop_duplicates(["gene", "chrom", "strand"])


def _preference(tags: pd.Series) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Rank of transcripts by their tags, 0 first; and what decides it."""
    import pandas as pd

    codes, found = pd.factorize(tags)
    ranked = [_rank(set(str(tag).split(","))) for tag in found]
    rank = np.array([*(number for number, _ in ranked), 20], np.int64)[codes]
    by = np.array([*(name for _, name in ranked), "longest"], object)[codes]
    return rank, by


def _rank(tags: set[str]) -> tuple[int, str]:
    if "Ensembl_canonical" in tags:
        return 0, "Ensembl_canonical"
    if "MANE_Select" in tags:
        return 1, "MANE_Select"
    principal = sorted(tag for tag in tags if tag.startswith("appris_principal"))
    if principal:
        number = principal[0].removeprefix("appris_principal").lstrip("_")
        return 2 + (
            int(number) if number.isdecimal() and int(number) < 10 else 0
        ), "appris_principal"
    return (21, "longest") if _INCOMPLETE in tags else (20, "longest")


def _one_place(table: pd.DataFrame) -> tuple[pd.DataFrame, frozenset[str]]:
    """Genes with one place; of those with several the one on the main chromosome, or on X."""
    repeated = table["gene"].duplicated(keep=False)
    if not repeated.any():
        return table, frozenset()
    kept, several = [table[~repeated]], set()
    for gene, places in table[repeated].groupby("gene", sort=False):
        main = places[[not _SECONDARY.fullmatch(chrom) for chrom in places["chrom"]]]
        if {_bare(chrom) for chrom in main["chrom"]} == {"X", "Y"}:
            main = main[[_bare(chrom) == "X" for chrom in main["chrom"]]]
        if len(main) == 1:
            kept.append(main)
        else:
            several.add(str(gene))
    import pandas as pd

    return pd.concat(kept), frozenset(several)
