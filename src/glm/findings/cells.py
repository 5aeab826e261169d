"""How deep the cells are, which are empty, and which are longer than a model reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from .._messages import first_names, share
from ..encode.counts import CountSummary
from ..encode.measure import Measures
from ..models.vocabulary import GeneVocabulary
from ..report import Finding

# A single cell seldom shows more genes than this; a sample of many cells does.
_PSEUDOBULK_GENES = 12_000
# Cells with fewer genes are mostly droplets without one.
_SHALLOW_GENES = 200
# Unique molecules of a cell stay below this; reads, and sums over many cells, do not.
_MOLECULES_LIMIT = 1_000_000
# With this many values a cell, some gene is seen twice, unless values were cut to 0 and 1.
_BINARY_GENES = 100


def find_depth(measures: Measures, summary: CountSummary, *, whole: bool) -> Finding | None:
    """A warning for samples that are no cells and for values cut to 0 and 1."""
    used = measures.n_counts > 0
    if not used.any():
        return None
    n_counts = float(np.median(measures.n_counts[used]))
    n_genes = float(np.median(measures.n_genes[used]))
    of_counts = f"{n_counts:,.0f} counts on " if whole else ""
    typical = f"The median cell has {of_counts}{n_genes:,.0f} genes"
    if n_genes > _PSEUDOBULK_GENES:
        return Finding(
            "depth",
            "warning",
            f"{typical}, more than a single cell shows: this looks like pseudobulk or bulk.",
            "The model was trained on single cells: embed those, then average with groups.",
        )
    if whole and summary.max == 1 and summary.n_stored >= _BINARY_GENES * summary.n_rows:
        return Finding(
            "depth",
            "warning",
            f"{typical}, and all values are 0 or 1: counts were made binary, and ranks say little.",
            "Use the counts before that step.",
        )
    if whole and n_counts > _MOLECULES_LIMIT:
        return Finding(
            "depth",
            "note",
            f"{typical}: reads rather than molecules, or sums over many cells.",
            "Fine for reads of single cells; do not embed sums of cells.",
        )
    if n_genes < _SHALLOW_GENES:
        return Finding(
            "depth",
            "note",
            f"{typical}: few, for whole cells.",
            "Where genes were not selected: leave out droplets without a cell, for example with "
            f"scanpy.pp.filter_cells(adata, min_genes={_SHALLOW_GENES}).",
        )
    return Finding("depth", "ok", f"{typical}.")


def find_totals(measures: Measures, *, whole: bool, undone: bool) -> Finding | None:
    """A note where all cells have the same total: what was done to the counts.

    ``undone``: the totals are those after log1p was undone.
    """
    totals = measures.n_counts[measures.n_counts > 0]
    if totals.size < 10:
        return None
    low, high = np.quantile(totals, [0.02, 0.98])
    if high - low > 0.005 * high:
        return None
    same = f"All cells have the same total ({np.median(totals):,.0f})"
    if whole:
        return Finding(
            "same totals",
            "note",
            f"{same}: counts were thinned to one depth, or scaled and rounded.",
            "Use the counts before that step where you have them: it drops genes.",
        )
    return Finding(
        "same totals",
        "note",
        f"{same}{' once log1p is undone' if undone else ''}: counts were scaled to it.",
        "Scaling a whole cell does not change the order of its genes.",
    )


def find_empty(measures: Measures, cell_names: Iterable[object], *, model: str) -> Finding:
    """A warning where cells have no known gene: they come out as NaN."""
    empty = np.flatnonzero(measures.n_genes_known == 0)
    n_cells = measures.n_counts.size
    if not empty.size:
        return Finding("empty cells", "ok", "Every cell has counts on known genes.")
    listed = list(cell_names)
    n_without = int((measures.n_genes[empty] == 0).sum())
    return Finding(
        "empty cells",
        "warning",
        f"{share(empty.size, n_cells)} cells have no count on a gene of {model} "
        f"({first_names(listed[i] for i in empty.tolist())}); {n_without:,} of them have none at "
        "all.",
        "They will be NaN: leave them out with scanpy.pp.filter_cells(adata, min_genes=1), or "
        "afterwards with adata.obs['<key>_ok'].",
    )


def find_truncation(
    measures: Measures, vocabulary: GeneVocabulary, *, model: str, longer: Sequence[str]
) -> Finding:
    """A note where cells have more genes than the model reads; ``longer`` are models that do."""
    n_genes, limit = measures.n_genes_known, vocabulary.n_genes_read
    cut = n_genes > limit
    if not cut.any():
        most = int(n_genes.max(initial=0))
        return Finding(
            "context",
            "ok",
            f"Every cell fits: the longest has {most:,} known genes, {model} reads {limit:,}.",
        )
    lost = int((n_genes[cut] - limit).sum())
    wider = f"More is read by {first_names(longer)}." if longer else ""
    return Finding(
        "context",
        "note",
        f"{share(int(cut.sum()), n_genes.size)} cells have more known genes than the {limit:,} "
        f"that {model} reads: {100 * lost / int(n_genes.sum()):.1f}% of all ranked genes, the "
        "lowest of each cell, are cut off.",
        wider or "No model reads more; the genes that stand highest are kept.",
    )
