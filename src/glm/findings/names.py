"""What is to be said of the names of genes, before any count is read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice

from .._messages import counted, first_names, share
from ..genes import GeneMap, resolve_names
from ..models.vocabulary import GeneVocabulary
from ..report import Finding

REPEATED = "repeated genes"
"""Topic of the finding that columns share a gene."""

# Ids are looked at as symbols too where more than this share of them is unknown ...
_UNKNOWN_SHARE = 0.05
# ... and the object is taken to hold symbols where it is more than this one.
_SYMBOLS_SHARE = 0.9
# chr1:1000-2000 or chr1:1,000-2,000, as peaks are named.
_REGION = re.compile(r"\w+[:_-][\d,]+[-_][\d,]+")
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
    cells: Iterable[object] = (),
) -> Finding:
    """Symbols and unknown names are an error, ids mixed with symbols a warning.

    ``cells`` are the names of the cells: genes, where the two were swapped.
    """
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
            "Pass the object of the RNA; of a MuData name it, such as mod='rna'. Regions are read "
            "by a model of DNA, such as dnabert-6 or dnabert-tiny.",
        )
    if genes.n_in_vocabulary == 0:
        return Finding(
            "gene ids",
            "error",
            f"None of the {len(names):,} names in {column} ({first_names(names)}) is a gene of "
            f"{model} ({len(vocabulary.ids):,} {vocabulary.species} Ensembl ids).",
            "The names of the cells are genes: turn the object round with adata.T."
            if _are_genes(cells, vocabulary)
            else "Put Ensembl ids into a column of adata.var and name it with gene_ids=.",
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


def _are_genes(names: Iterable[object], vocabulary: GeneVocabulary) -> bool:
    """Whether most of the first names are genes of the vocabulary, as ids or symbols."""
    first = list(islice(names, 50))
    found = resolve_names(first, vocabulary, symbols=True).n_in_vocabulary
    return found > len(first) / 2


def find_summed(labels: Sequence[str], genes: GeneMap) -> Finding | None:
    """A warning where columns share a gene."""
    if not genes.n_shared:
        return None
    shared = first_names(genes.shared_names(labels))
    several = genes.n_shared > 1
    return Finding(
        REPEATED,
        "warning",
        f"{counted(genes.n_shared, 'column')} {'share' if several else 'shares'} a gene with an "
        f"earlier one and {'are' if several else 'is'} summed into it ({shared}).",
        "Right where they are parts of one gene; else leave out the columns you do not mean.",
    )


def find_dates(genes: GeneMap) -> Finding | None:
    """A warning where a spreadsheet made dates of names."""
    if not (dates := genes.kinds.get("date", 0)):
        return None
    return Finding(
        "spreadsheet dates",
        "warning",
        f"{counted(dates, 'gene name')} {'were' if dates > 1 else 'was'} turned into dates by a "
        f"spreadsheet ({first_names(genes.examples['date'], total=dates)}); the counts are not "
        "read.",
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
            text = f"{count:,} {what} ({first_names(genes.examples[kind], total=count)})."
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
                f"{counted(len(repeated), 'name')} {'stand' if len(repeated) > 1 else 'stands'} "
                f"for several columns ({first_names(repeated)}).",
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
                f"{counted(len(renamed), 'name')} {'look' if len(renamed) > 1 else 'looks'} like a "
                f"repeat that was numbered, which is not read ({first_names(renamed)}).",
                "Take Ensembl ids where the data have them: a numbered name is no gene's.",
            )
        )
    return found
