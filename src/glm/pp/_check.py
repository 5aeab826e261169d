from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import cells
from .. import findings as rules
from .._settings import settings
from ..encode.counts import scan
from ..encode.measure import Measures, measure
from ..genes import resolve_names
from ..models.bundle import Model
from ..models.reads import gene_vocabulary
from ..models.registry import ModelSpec, get, rows
from ..place import Place
from ..report import Finding, Report, worst_first

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData
    from mudata import MuData

    from ..encode.counts import CountSummary
    from ..genes import GeneMap
    from ..models.vocabulary import GeneVocabulary


def check(
    adata: AnnData | MuData,
    model: str | Path | Model = "geneformer-v2-104m",
    *,
    mod: str | None = None,
    layer: str | None = None,
    use_raw: bool = False,
    gene_ids: str | None = None,
    log_normalized: bool = False,
) -> Report:
    """Look at everything that decides how well a model can read these cells.

    Names: which ids they are, of which species, versions, repeats, spreadsheet dates, copies on Y.
    Values: counts or something made of them, and where the counts are if not here. Genes: whether
    a subset was taken, and how much of the counts the model knows. Cells: depth, empty ones, and
    how many genes lie beyond the model's context.

    The verbs hold an object to the same rules: an ``error`` in the report is what they refuse, and
    its text is their message. Costs two passes over the values; only the model's dictionaries are
    needed, not its weights. The object is only read.

    Parameters
    ----------
    adata
        Cells × genes. Nothing in it is too bad to be looked at.
    model
        A name of :func:`glm.models.list`, the path of a bundle's folder, or a loaded model.
    mod
        The modality with the counts, if ``adata`` is a MuData.
    layer, use_raw, gene_ids, log_normalized
        Where the counts and the Ensembl ids are, as for :func:`glm.tl.embed`.

    Returns
    -------
    A :class:`glm.pp.Report`. ``print`` it, let a notebook show it, take ``report.to_frame()`` (one
    row a finding: what was looked at, severity, what was found, what to do), ask ``report.ok``, or
    draw it with :func:`glm.pl.check`.

    Raises
    ------
    TypeError
        If ``adata`` is no AnnData, and no MuData of which ``mod`` names a modality.
    KeyError
        If ``mod``, ``layer``, ``gene_ids`` or ``model`` does not exist.
    OSError
        If the model's dictionaries are not here and cannot be fetched.

    Examples
    --------
    >>> import glm
    >>> report = glm.pp.check(glm.datasets.toy_cells(), "geneformer-tiny")
    >>> report.ok
    True
    >>> report.to_frame().columns.tolist()
    ['finding', 'severity', 'found', 'remedy']
    """
    adata = cells.modality(adata, mod)
    spec = model.spec if isinstance(model, Model) else get(model)
    vocabulary = gene_vocabulary(model if isinstance(model, Model) else spec)
    looked = _Look(adata, spec, vocabulary)
    looked.attempt("object", lambda: cells.check_anndata(adata))
    if adata.n_obs and adata.n_vars:
        looked.at_everything(Place(adata, layer, use_raw), gene_ids, log_normalized)
    return Report(
        model=spec.name,
        n_cells=adata.n_obs,
        n_columns=adata.raw.n_vars if use_raw and adata.raw is not None else adata.n_vars,
        findings=worst_first(looked.found),
        n_genes_read=vocabulary.n_genes_read,
        cells=_table(adata, looked.measures),
        assumed=looked.assumed,
    )


class _Look:
    """A look at one object: what was found so far."""

    def __init__(self, adata: AnnData, spec: ModelSpec, vocabulary: GeneVocabulary) -> None:
        self.adata, self.spec, self.vocabulary = adata, spec, vocabulary
        self.found: list[Finding] = []
        self.measures: Measures | None = None
        self.assumed = ""

    def attempt(self, topic: str, call: Callable[[], Any]) -> Any:
        """What the call returns, or ``None``: what the verbs refuse becomes a finding."""
        try:
            return call()
        except ValueError as error:
            self.found.append(_refusal(topic, error))
        except TypeError as error:
            if topic == "object":
                raise  # not an AnnData: there is nothing to report on
            self.found.append(_refusal(topic, error))
        return None

    def at_everything(self, place: Place, gene_ids: str | None, log_normalized: bool) -> None:
        named = self.attempt("gene ids", lambda: place.names(gene_ids))
        genes = None if named is None else self.at_names(place, *named)
        summary = self.attempt("values", lambda: scan(place.matrix(), n_threads=settings.n_threads))
        if summary is None:
            looked = "Layers and adata.raw were looked at for raw counts."
            self.found.append(Finding("raw counts", "note", looked, f"{place.elsewhere()}."))
            return
        wrong = rules.about_values(place, summary, log_normalized=log_normalized)
        right = rules.describe_values(summary, place.title, log_normalized=log_normalized)
        self.found += wrong or [right]
        # Sums over values around zero say nothing.
        if genes is not None and not summary.n_negative:
            undone = log_normalized or rules.looks_log_normalized(summary)
            self.measures = measure(place.matrix(), genes.target, undo_log=undone)
            if genes.n_in_vocabulary:
                self.at_coverage(place, genes, column=named[1])
            self.at_cells(genes, summary, undone)

    def at_names(self, place: Place, names: Sequence[object], column: str) -> GeneMap:
        """The genes as they are, or as they would be once an error was mended."""
        genes = resolve_names(names, self.vocabulary, symbols=False)
        found = rules.about_names(
            place, names, genes, self.vocabulary, column=column, model=self.spec.name
        )
        errors = [finding for finding in found if finding.severity == "error"]
        # Names that are missing or a mouse's are no human ids either: the first of them says it.
        self.found += [finding for finding in found if finding not in errors[1:]]
        self.found += rules.find_renamed(names, genes)
        if errors and errors[0].topic == "species":
            return genes  # the few names that happen to be symbols of ours say nothing
        return self.mended(place, names) if errors else genes

    def mended(self, place: Place, names: Sequence[object]) -> GeneMap:
        columns = place.id_columns()
        if columns and len(self.adata.var) == len(names):
            self.assumed = f"gene_ids={columns[0]!r} had been passed"
            ids = list(self.adata.var[columns[0]])
            genes = resolve_names(ids, self.vocabulary, symbols=False)
        else:
            genes = resolve_names(names, self.vocabulary, symbols=True)
            if genes.n_in_vocabulary:
                self.assumed = "glm.pp.map_genes had been called"
        summed = rules.find_summed(place.labels, genes)
        self.found += [] if summed is None else [summed]
        return genes

    def at_coverage(self, place: Place, genes: GeneMap, *, column: str) -> None:
        assert self.measures is not None
        self.found += rules.about_counts(
            place, genes, self.vocabulary, self.measures, column=column, model=self.spec.name
        )

    def at_cells(self, genes: GeneMap, summary: CountSummary, undone: bool) -> None:
        measures, spec, whole = self.measures, self.spec, not summary.n_fractional
        assert measures is not None
        found = [
            rules.find_depth(measures, summary, whole=whole),
            rules.find_totals(measures, whole=whole, undone=undone),
        ]
        if genes.n_in_vocabulary:
            longer = _models_that_read_more(spec)
            found += [
                rules.find_empty(measures, self.adata.obs_names, model=spec.name),
                rules.find_truncation(measures, self.vocabulary, model=spec.name, longer=longer),
            ]
        self.found += [finding for finding in found if finding is not None]


def _refusal(topic: str, error: Exception) -> Finding:
    """A message's first sentence, or what is before a colon, was found; the rest is what to do."""
    text = str(error)
    first, _, rest = text.partition(". " if ". " in text else ": ")
    return Finding(topic, "error", first.rstrip(".") + ".", rest[:1].upper() + rest[1:])


def _models_that_read_more(spec: ModelSpec) -> list[str]:
    """Published ones whose files can be had, but for the special ones, which have a note."""
    return [
        f"{row.name} ({row.context:,} tokens)"
        for row in rows().values()
        if row.weights and not row.note and row.system == spec.system and row.context > spec.context
    ]


def _table(adata: AnnData, measures: Measures | None) -> pd.DataFrame:
    import pandas as pd

    columns = ("n_counts", "n_genes", "n_counts_known", "n_genes_known")
    if measures is None:
        return pd.DataFrame({name: np.zeros(0) for name in columns})
    values = {name: getattr(measures, name) for name in columns}
    return pd.DataFrame(values, index=adata.obs_names.copy())
