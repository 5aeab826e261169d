"""Which genes were measured, and how much of the counts they hold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .._messages import first_names, share
from ..encode.measure import Measures
from ..genes import GeneMap
from ..models.vocabulary import GeneVocabulary
from ..report import Finding

# Below this share of all counts on known genes, ids and model are taken not to belong together.
_LEAST_SHARE_OF_COUNTS = 0.1
# Below this one, a good part of every cell is not read.
_GOOD_SHARE_OF_COUNTS = 0.6
# A subset of genes: fewer than this share of the vocabulary is in the object.
_SUBSET_SHARE = 0.25


def find_coverage(
    measures: Measures,
    labels: Sequence[str],
    genes: GeneMap,
    *,
    model: str,
    column: str,
) -> Finding | None:
    """An error where hardly any count is on a known gene, a warning where many are not."""
    covered = measures.share_known
    if not measures.n_counts.any():
        return None  # nothing but zeros: there are no counts to be shared out
    known = share(genes.n_in_vocabulary, len(labels))
    outside = np.flatnonzero(genes.position < 0)
    if covered < _LEAST_SHARE_OF_COUNTS:
        unknown = first_names(labels[i] for i in outside.tolist())
        return Finding(
            "coverage",
            "error",
            f"Only {100 * covered:.1f}% of the counts are of genes of {model} ({known} names in "
            f"{column} are known; unknown are {unknown}).",
            f"Expected {100 * _LEAST_SHARE_OF_COUNTS:.0f}% or more: is it the right model, and are "
            "the ids in that column?",
        )
    found = f"enes of {model} hold {100 * covered:.1f}% of the counts and {known} columns"
    missed = _largest(measures, labels, outside)
    rest = f"; of the rest {missed} hold most" if missed else ""
    if covered < _GOOD_SHARE_OF_COUNTS:
        return Finding(
            "coverage",
            "warning",
            f"Only g{found}{rest}.",
            "Look at the names of the rest: are they human genes, with current ids?",
        )
    return Finding("coverage", "ok", f"G{found}{rest}.")


def _largest(measures: Measures, labels: Sequence[str], columns: np.ndarray) -> str:
    """The names of the three columns that hold most, of those that matter at all."""
    held = measures.column_counts[columns] / max(float(measures.n_counts.sum()), 1e-300)
    order = np.argsort(-held, kind="stable")[:3]
    return ", ".join(
        f"{labels[columns[i]]} ({100 * held[i]:.1f}%)" for i in order.tolist() if held[i] >= 5e-4
    )


def find_subset(
    genes: GeneMap,
    vocabulary: GeneVocabulary,
    *,
    model: str,
    all_variable: bool,
    n_raw: int,
) -> Finding:
    """A warning where only some genes were kept, as the highly variable ones.

    ``all_variable``: every gene is marked highly variable; ``n_raw``: genes in ``adata.raw``.
    """
    held = share(genes.n_genes, len(vocabulary.ids))
    if genes.n_genes >= _SUBSET_SHARE * len(vocabulary.ids) and not all_variable:
        return Finding("genes measured", "ok", f"adata holds {held} of the genes {model} reads.")
    marked = " (all are marked highly_variable)" if all_variable else ""
    larger = n_raw > genes.position.size
    return Finding(
        "genes measured",
        "warning",
        f"adata holds {held} of the genes {model} reads{marked}: a subset, such as the highly "
        "variable ones, changes every cell's ranks.",
        f"adata.raw has {n_raw:,} genes: work on adata.raw.to_adata()."
        if larger
        else "Use all measured genes: go back to before genes were selected.",
    )
