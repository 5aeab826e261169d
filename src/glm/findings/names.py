"""What is to be said of the names of genes, before any count is read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from .._messages import first_names, share
from ..genes import GeneMap
from ..models.vocabulary import GeneVocabulary
from ..report import Finding

# Ids are looked at as symbols too where more than this share of them is unknown ...
_UNKNOWN_SHARE = 0.05
# ... and the object is taken to hold symbols where it is more than this one.
_SYMBOLS_SHARE = 0.9
# chr1:1000-2000, as peaks are named.
_REGION = re.compile(r"\w+[:_-]\d+[-_]\d+")
# MATR3-1, as var_names_make_unique makes it of a second MATR3.
_RENAMED = re.compile(r"(.+)[-.]\d{1,2}")


def may_be_symbols(names: Sequence[object], genes: GeneMap) -> bool:
    """Whether so many names are unknown as ids that it pays to look them up as symbols."""
    unknown = genes.kinds.get("unknown", 0)
    return genes.n_in_vocabulary == 0 or unknown > _UNKNOWN_SHARE * len(names)


def find_id_system(
    names: Sequence[object],
    genes: GeneMap,
    as_symbols: GeneMap | None,
    *,
    vocabulary: GeneVocabulary,
    model: str,
    column: str,
    id_columns: Sequence[str],
) -> Finding:
    """Symbols and unknown names are an error, ids mixed with symbols a warning."""
    n_unknown = genes.kinds.get("unknown", 0)
    gained = 0 if as_symbols is None else as_symbols.n_in_vocabulary - genes.n_in_vocabulary
    if gained > 0 and (genes.n_in_vocabulary == 0 or n_unknown > _SYMBOLS_SHARE * len(names)):
        assert as_symbols is not None
        others = f"adata.var[{id_columns[0]!r}] holds Ensembl ids: " if id_columns else ""
        choice = f"pass gene_ids={id_columns[0]!r}, or call" if id_columns else "Call"
        return Finding(
            "gene ids",
            "error",
            f"{column} are gene symbols ({first_names(names)}); {model} reads Ensembl ids.",
            f"{others}{choice} glm.pp.map_genes(adata, {model!r}) first: it would place "
            f"{share(as_symbols.n_in_vocabulary, len(names))} of them.",
        )
    regions = sum(_REGION.fullmatch(str(name)) is not None for name in names)
    if regions > _SYMBOLS_SHARE * len(names):
        return Finding(
            "gene ids",
            "error",
            f"{column} are regions of a genome ({first_names(names)}), not genes; {model} reads "
            "Ensembl ids.",
            "Pass the object of the RNA: of a MuData, mdata['rna'].",
        )
    if genes.n_in_vocabulary == 0:
        return Finding(
            "gene ids",
            "error",
            f"None of the {len(names):,} names in {column} ({first_names(names)}) is a gene of "
            f"{model} ({len(vocabulary.ids):,} {vocabulary.species} Ensembl ids).",
            "Put Ensembl ids into a column of adata.var and name it with gene_ids=.",
        )
    n_ids = sum(genes.kinds.get(kind, 0) for kind in ("id", "versioned", "retired", "par_y"))
    are_ids = f"{share(n_ids, len(names))} names in {column} are {vocabulary.species} Ensembl ids"
    if gained > _UNKNOWN_SHARE * len(names):
        return Finding(
            "gene ids",
            "warning",
            f"{are_ids}; {gained:,} others are gene symbols and are not read as they are.",
            f"Call glm.pp.map_genes(adata, {model!r}) first: it understands both.",
        )
    return Finding("gene ids", "ok", f"{are_ids}.")


def find_summed(labels: Sequence[str], genes: GeneMap) -> Finding | None:
    """A warning where columns share a gene."""
    if not genes.n_shared:
        return None
    shared = first_names(genes.shared_names(labels))
    return Finding(
        "repeated genes",
        "warning",
        f"{genes.n_shared:,} columns share a gene with an earlier one and are summed into it "
        f"({shared}).",
        "Right where they are parts of one gene; else leave out the columns you do not mean.",
    )


def find_dates(genes: GeneMap) -> Finding | None:
    """A warning where a spreadsheet made dates of names."""
    if not (dates := genes.kinds.get("date", 0)):
        return None
    return Finding(
        "spreadsheet dates",
        "warning",
        f"{dates:,} gene names were turned into dates by a spreadsheet "
        f"({first_names(genes.examples['date'])}); their counts are not read.",
        "Take the names from the original file (SEPTIN2 was SEPT2 became 2-Sep).",
    )


def find_kinds(genes: GeneMap) -> list[Finding]:
    """Notes on names that are ids, but not plain ones."""
    told = (
        (
            "versions",
            "versioned",
            "ids carry a version",
            "Nothing to do: versions are left off.",
        ),
        (
            "retired ids",
            "retired",
            "ids are retired",
            "Nothing to do: their successors in the model's dictionaries are taken.",
        ),
        (
            "copies on Y",
            "par_y",
            "ids name the Y copy of a gene that X and Y share (PAR_Y)",
            "Nothing to do: they are kept apart from the gene on X.",
        ),
        (
            "transcripts",
            "transcript",
            "names are ids of transcripts, proteins or exons, and are not read",
            "Sum them to genes first.",
        ),
    )
    found = []
    for topic, kind, what, remedy in told:
        if count := genes.kinds.get(kind, 0):
            text = f"{count:,} {what} ({first_names(genes.examples[kind])})."
            found.append(
                Finding(topic, "warning" if kind == "transcript" else "note", text, remedy)
            )
    return found


def find_renamed(names: Sequence[object], genes: GeneMap) -> list[Finding]:
    """Notes on repeated names that are no ids: as they are, or numbered, which hides them."""
    found = []
    listed = [str(name) for name in names]
    no_ids = (name for name, gene in zip(listed, genes.ids, strict=True) if not gene)
    there = Counter(name for name in no_ids if name != "-")
    repeated = [name for name, count in there.items() if count > 1]
    if repeated:
        found.append(
            Finding(
                "repeated names",
                "note",
                f"{len(repeated):,} names stand for several columns ({first_names(repeated)}).",
                "Symbols can be ambiguous: take Ensembl ids where the data have them.",
            )
        )
    known = set(listed)
    renamed = [
        name
        for name, place in zip(listed, genes.position.tolist(), strict=True)
        if place < 0 and (match := _RENAMED.fullmatch(name)) and match[1] in known
    ]
    if renamed:
        found.append(
            Finding(
                "repeated names",
                "note",
                f"{len(renamed):,} names look like repeats that were numbered "
                f"({first_names(renamed)}) and are not read.",
                "Take Ensembl ids where the data have them: a numbered name is no gene's.",
            )
        )
    return found
