"""What is marked along tracks: gene models, regions, variants; and rows in which none overlap."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._messages import first_names
from ..locate import chromosomes, find_column, positions, regions_of
from ._track_view import View

if TYPE_CHECKING:
    import pandas as pd

_FEATURES = ("gene", "transcript", "exon", "CDS")
_VARIANT = re.compile(
    r"(\S+?)[:_-]([0-9][0-9,]*)(?:[:_ -]*([ACGTN]+)[>:/_-]([ACGTN]+|\*|-))?", re.I
)
_NAMES = ("name", "id", "rsid", "variant")


@dataclass(frozen=True)
class Mark:
    """A gene, a region or a variant.

    Attributes
    ----------
    start, end
        Where it lies, 0-based and half-open.
    name
        What is written at it, perhaps nothing.
    strand
        1, -1, or 0 where none is known.
    exons, coding
        Of a gene, stretches ``(start, end)``: all exons of its transcripts, merged, and those parts
        of them that are translated.
    """

    start: int
    end: int
    name: str = ""
    strand: int = 0
    exons: tuple[tuple[int, int], ...] = ()
    coding: tuple[tuple[int, int], ...] = ()


# ---- genes ---------------------------------------------------------------------------------------


def read_genes(genes: Any, view: View, genome: str | None) -> list[Mark]:
    """Genes that reach into the view, in order of their starts.

    Raises
    ------
    TypeError, ValueError
        If it is no such table, or one of another genome.
    """
    import pandas as pd

    from ..locate import same_genome

    if isinstance(genes, str | os.PathLike):
        from ..io import read_gtf

        genes = read_gtf(genes, features=_FEATURES, attributes=("gene_id", "gene_name"))
    if not isinstance(genes, pd.DataFrame):
        raise TypeError(
            f"genes is a {type(genes).__name__}; expected what glm.io.read_gtf returns, or the "
            "path of a GTF file."
        )
    _check_columns(genes)
    stated = genes.attrs.get("genome")
    if not same_genome(stated, genome):
        raise ValueError(
            f"genes are of {stated!r} and the tracks of {genome!r}: positions of one mean "
            "something else in the other. Read the annotation of the tracks' genome."
        )
    here = genes[view.on(genes["chrom"])]
    return sorted(_genes_in(here, view), key=lambda gene: (gene.start, gene.end))


def _check_columns(genes: pd.DataFrame) -> None:
    needed = ("chrom", "start", "end", "strand", "feature")
    missing = [name for name in needed if name not in genes]
    if missing or not {"gene_id", "gene_name"} & set(genes.columns):
        missing = missing or ["gene_id"]
        raise ValueError(
            f"genes has no column {first_names(missing, 5)}; it has "
            f"{first_names(genes.columns, 8)}. Expected the table of glm.io.read_gtf, with "
            "gene_id or gene_name among its attributes."
        )


def _genes_in(rows: pd.DataFrame, view: View) -> list[Mark]:
    """Genes with a base in the view: between exons too, so of all rows of a gene together."""
    ids = rows["gene_id"] if "gene_id" in rows else rows["gene_name"]
    names = ids
    if "gene_name" in rows:
        ids = ids.where(ids.notna(), rows["gene_name"])
        names = rows["gene_name"].where(rows["gene_name"].notna(), ids)
    # The same id on both strands is two genes: RefSeq has such.
    group = ids.astype(str).to_numpy(object) + rows["strand"].astype(str).to_numpy(object)
    table = rows[["start", "end", "strand", "feature"]].assign(name=names, group=group)
    reach = table.groupby("group").agg(start=("start", "min"), end=("end", "max"))
    inside = reach.index[view.holds(reach["start"], reach["end"])]
    table = table[table["group"].isin(inside)]
    exons, coding = _stretches(table, "exon"), _stretches(table, "CDS")
    return [
        Mark(
            int(reach.start[one.group]),
            int(reach.end[one.group]),
            str(one.name),
            {"+": 1, "-": -1}.get(one.strand, 0),
            exons.get(one.group) or coding.get(one.group, ()),
            coding.get(one.group, ()),
        )
        for one in table.drop_duplicates("group").itertuples(index=False)
    ]


def _stretches(table: pd.DataFrame, feature: str) -> dict[str, tuple[tuple[int, int], ...]]:
    """The merged stretches of one kind of rows, of each gene that has some."""
    rows = table[table["feature"] == feature]
    start, end = rows["start"].to_numpy(), rows["end"].to_numpy()
    found = rows.groupby("group").indices
    return {str(group): merged(start[own], end[own]) for group, own in found.items()}


def merged(start: NDArray[Any], end: NDArray[Any]) -> tuple[tuple[int, int], ...]:
    """Stretches that overlap or touch, joined, in their order."""
    if not start.size:
        return ()
    order = np.argsort(start, kind="stable")
    start, reach = start[order], np.maximum.accumulate(end[order])
    first = np.flatnonzero(np.append(True, start[1:] > reach[:-1]))
    last = np.append(first[1:] - 1, start.size - 1)
    return tuple(zip(start[first].tolist(), reach[last].tolist(), strict=True))


# ---- regions -------------------------------------------------------------------------------------


def read_regions(regions: Any, view: View) -> dict[str, list[Mark]]:
    """Regions that reach into the view, under what is written beside each row of them."""
    if isinstance(regions, Mapping):
        return {str(title): _regions(each, view) for title, each in regions.items()}
    return {"regions": _regions(regions, view)}


def _regions(data: Any, view: View) -> list[Mark]:
    import pandas as pd

    if isinstance(data, str | os.PathLike) and os.path.exists(os.path.expanduser(data)):
        from ..io import read_bed

        data = read_bed(data)
    located = regions_of(data)
    found = located.regions
    names = [_own_name(name) for name in found.names or [""] * len(found)]
    if isinstance(data, pd.DataFrame) and "name" in data:
        told = data["name"].iloc[located.rows]
        names = ["" if pd.isna(name) or name == "." else str(name) for name in told]
    here = np.flatnonzero(view.on(found.chrom) & view.holds(found.start, found.end))
    order = here[np.argsort(found.start[here], kind="stable")]
    return [
        Mark(int(found.start[i]), int(found.end[i]), names[i], int(found.strand[i])) for i in order
    ]


def _own_name(name: str) -> str:
    """A name that is more than the place, which the axis tells."""
    return "" if re.search(r"[:_-][0-9,]+[_-][0-9,]+", name) else name


# ---- variants ------------------------------------------------------------------------------------


def read_variants(variants: Any, view: View) -> list[Mark]:
    """Variants in the view, in order; each lies where its reference allele does.

    Raises
    ------
    TypeError, ValueError
        If it is no such table or list.
    """
    import pandas as pd

    if isinstance(variants, str):
        variants = [variants]
    if isinstance(variants, pd.DataFrame):
        chrom, found = _variants_in_table(variants)
    elif isinstance(variants, Sequence | np.ndarray | pd.Series | pd.Index):
        chrom, found = _variants_in_texts(list(variants))
    else:
        raise TypeError(
            f"variants is a {type(variants).__name__}; expected a DataFrame with chrom and pos, or "
            "texts such as 'chr1:1000:A>G'."
        )
    on = view.on(chrom)
    here = [m for m, own in zip(found, on, strict=True) if own and view.start <= m.start < view.end]
    return sorted(here, key=lambda mark: mark.start)


def _variants_in_table(table: pd.DataFrame) -> tuple[list[str], list[Mark]]:
    plain = {str(column).lower().lstrip("#"): column for column in table.columns}
    chrom_column = find_column(table, "chrom", "variants")
    from_one = next((plain[name] for name in ("pos", "position") if name in plain), None)
    from_zero = plain.get("start")
    column = from_one if from_one is not None else from_zero
    if chrom_column is None or column is None:
        raise ValueError(
            f"variants has the columns {first_names(table.columns, 8)}; expected chrom and pos "
            "(from 1, as in a VCF) or chrom and start (from 0), with ref, alt and name if there "
            "are."
        )
    chrom, has_chrom = chromosomes(table[chrom_column], f"variants[{chrom_column!r}]")
    place, has_place = positions(table[column], f"variants[{column!r}]")
    place = place - (from_one is not None)
    named = next((plain[name] for name in _NAMES if name in plain), None)

    def texts(which: Any) -> list[str]:
        if which is None:
            return [""] * len(table)
        return ["" if v is None or v != v or v == "." else str(v) for v in table[which]]

    names, refs, alts = texts(named), texts(plain.get("ref")), texts(plain.get("alt"))
    there = np.flatnonzero(has_chrom & has_place)
    marks = [_variant(int(place[i]), refs[i], alts[i], names[i]) for i in there]
    return [str(chrom[i]) for i in there], marks


def _variants_in_texts(texts: list[Any]) -> tuple[list[str], list[Mark]]:
    chrom, marks = [], []
    for row, text in enumerate(texts):
        found = _VARIANT.fullmatch(text.strip()) if isinstance(text, str) else None
        if found is None:
            raise ValueError(
                f"variants, row {row:,}, is {text!r}; expected texts such as 'chr1:1000:A>G' or "
                "'chr1:1000' (positions from 1, as in a VCF), or a DataFrame."
            )
        name, place, ref, alt = found.groups()
        chrom.append(name)
        marks.append(_variant(int(place.replace(",", "")) - 1, ref or "", alt or "", ""))
    return chrom, marks


def _variant(start: int, ref: str, alt: str, name: str) -> Mark:
    return Mark(start, start + max(len(ref), 1), name or (f"{ref}>{alt}" if ref and alt else ""))


# ---- rows without overlaps -----------------------------------------------------------------------


def rows_of(left: Sequence[float], right: Sequence[float]) -> list[int]:
    """A row for each stretch, the first that is free, so that no two overlap.

    Stretches are taken from the left; as few rows as can be are used.
    """
    ends: list[float] = []
    rows = [0] * len(left)
    for i in sorted(range(len(left)), key=lambda i: (left[i], right[i])):
        row = next((row for row, end in enumerate(ends) if end <= left[i]), len(ends))
        ends[row : row + 1] = [right[i]]
        rows[i] = row
    return rows


def without_names(marks: list[Mark]) -> list[Mark]:
    """The same marks, with nothing written at them."""
    return [replace(mark, name="") for mark in marks]
