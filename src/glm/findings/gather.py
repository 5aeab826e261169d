"""The rules asked of an object, in the order in which the verbs ask them."""

from __future__ import annotations

from collections.abc import Sequence

from ..encode.counts import CountSummary
from ..encode.measure import Measures
from ..genes import GeneMap, find_missing, find_species, resolve_names
from ..models.vocabulary import GeneVocabulary
from ..place import Place, first_values, looks_like_counts
from ..report import Finding
from .coverage import find_coverage, find_subset
from .names import find_dates, find_id_system, find_kinds, find_summed, may_be_symbols
from .values import are_logged, find_bad_values


def about_names(
    place: Place,
    names: Sequence[object],
    genes: GeneMap,
    vocabulary: GeneVocabulary,
    *,
    column: str,
    model: str,
) -> list[Finding]:
    """What is to be said of the names, before any count is read."""
    as_symbols = None
    if may_be_symbols(names, genes):
        as_symbols = resolve_names(names, vocabulary, symbols=True)
    found = [
        find_missing(names),
        find_species(names, genes, vocabulary),
        find_id_system(
            names,
            genes,
            as_symbols,
            vocabulary=vocabulary,
            model=model,
            column=column,
            id_columns=place.id_columns(),
            cells=place.adata.obs_names,
        ),
        find_summed(place.labels, genes),
        find_dates(genes),
    ]
    return [*(finding for finding in found if finding is not None), *find_kinds(genes)]


def about_values(place: Place, summary: CountSummary, *, log_normalized: bool) -> list[Finding]:
    """What is wrong with the values, if anything is."""
    labels, cells = place.labels, place.adata.obs_names

    def where(found: tuple[int, int, float] | None) -> str:
        assert found is not None  # there is a first one where there are any
        row, column, value = found
        return f"{value:g} in cell {cells[row]!r}, gene {labels[column]!r}"

    found = find_bad_values(
        summary,
        place.title,
        place=where,
        log_normalized=log_normalized,
        elsewhere=place.elsewhere,
        log_elsewhere=lambda: _logged_elsewhere(place),
    )
    return [] if found is None else [found]


def _logged_elsewhere(place: Place) -> str:
    """The option that takes what looks like log1p of counts; ``""`` where counts are to be had."""
    others = place.others()
    if any(looks_like_counts(matrix) for _, _, matrix in others):
        return ""
    ways = (option for option, _, matrix in others if are_logged(first_values(matrix)))
    return next(ways, "")


def about_counts(
    place: Place,
    genes: GeneMap,
    vocabulary: GeneVocabulary,
    measures: Measures,
    *,
    column: str,
    model: str,
) -> list[Finding]:
    """How much of the counts is on known genes, and which genes there are."""
    adata = place.adata
    marks = list(adata.var.get("highly_variable", [False]))
    found = [
        find_coverage(measures, place.labels, genes, model=model, column=column),
        find_subset(
            genes,
            vocabulary,
            model=model,
            all_variable=not place.use_raw and all(mark is True for mark in marks),
            n_raw=0 if adata.raw is None else adata.raw.n_vars,
        ),
    ]
    return [finding for finding in found if finding is not None]
