"""Check an AnnData of counts; hand out the matrix and what each column means to a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from . import findings as rules
from ._messages import first_names, warn
from ._settings import logger, settings
from .encode.counts import CountSummary, scan
from .encode.measure import Measures, measure
from .encode.rank import Ranker
from .genes import GeneMap, resolve_names
from .models.vocabulary import GeneVocabulary
from .place import Place
from .report import Finding

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


@dataclass(frozen=True)
class Counts:
    """Checked counts and the genes of their columns.

    Attributes
    ----------
    matrix
        Cells × genes, as the user holds it.
    genes
        What became of each column's name.
    vocabulary
        The model's vocabulary.
    summary
        What a pass over every stored value found.
    measures
        Counts and genes of each cell, in all and known.
    facts
        What goes into the record.
    """

    matrix: Any
    genes: GeneMap
    vocabulary: GeneVocabulary
    summary: CountSummary
    measures: Measures
    log_normalized: bool
    facts: dict[str, Any]

    @property
    def n_cells(self) -> int:
        return int(self.matrix.shape[0])

    @property
    def column_tokens(self) -> np.ndarray:
        """int32, one a column: its gene's token, -1 outside the vocabulary."""
        position = self.genes.position
        tokens = np.full(position.size, -1, dtype=np.int32)
        inside = position >= 0
        tokens[inside] = self.vocabulary.tokens[position[inside]]
        return tokens

    def ranker(self) -> Ranker:
        """The rule that orders the genes of a cell for this vocabulary."""
        position, inside = self.genes.position, self.genes.position >= 0
        medians = np.full(position.size, np.nan)
        medians[inside] = self.vocabulary.medians[position[inside]]
        return Ranker(
            medians,
            position.astype(np.int64),
            self.genes.target,
            log_normalized=self.log_normalized,
        )


def check_counts(
    adata: AnnData,
    vocabulary: GeneVocabulary,
    *,
    model: str,
    layer: str | None,
    use_raw: bool,
    gene_ids: str | None,
    log_normalized: bool,
) -> Counts:
    """Look at every name and every stored value before anything is computed.

    ``adata`` has passed :func:`check_anndata`.

    Raises
    ------
    KeyError, TypeError, ValueError
        As the public functions say; the object is only read.
    """
    place = Place(adata, layer, use_raw)
    matrix = place.matrix()
    names, column = place.names(gene_ids)
    genes = resolve_names(names, vocabulary, symbols=False)
    _log_names(genes)
    found = rules.about_names(place, names, genes, vocabulary, column=column, model=model)
    _refuse(found)
    summary = scan(matrix, n_threads=settings.n_threads)
    _refuse(rules.about_values(place, summary, log_normalized=log_normalized))
    measures = measure(matrix, genes.target, undo_log=log_normalized)
    found += rules.about_counts(place, genes, vocabulary, measures, column=column, model=model)
    depth = rules.find_depth(measures, summary, whole=not summary.n_fractional)
    found += [] if depth is None else [depth]
    _refuse(found)
    _tell([finding for finding in found if not _was_told(finding, adata, column, genes)])
    facts = {
        "counts": place.name,
        "gene_ids": column,
        "log_normalized": log_normalized,
        "n_columns_in_vocabulary": genes.n_in_vocabulary,
        "n_genes_in_vocabulary": genes.n_genes,
        "n_columns_summed": genes.n_shared,
        "share_of_counts_in_vocabulary": measures.share_known,
        "name_kinds": dict(genes.kinds),
    }
    return Counts(matrix, genes, vocabulary, summary, measures, log_normalized, facts)


def _refuse(found: Sequence[Finding]) -> None:
    for finding in found:
        if finding.severity == "error":
            raise ValueError(str(finding))


def _was_told(finding: Finding, adata: AnnData, column: str, genes: GeneMap) -> bool:
    """Whether :func:`glm.pp.map_genes` said so of these columns: not again in every function."""
    record = adata.uns.get(column)
    return (
        finding.topic == rules.REPEATED
        and isinstance(record, Mapping)
        and record.get("function") == "glm.pp.map_genes"
        and record.get("n_columns_summed") == genes.n_shared
    )


def _tell(found: Sequence[Finding]) -> None:
    """One warning, whatever there is to be warned of."""
    warnings = [finding.found for finding in found if finding.severity == "warning"]
    if warnings:
        warn(f"{' '.join(warnings)} glm.pp.check says what to do about it.")


def check_target(
    data: AnnData | MuData, *, mod: str | None = None, copy: bool = False, of_cells: bool = True
) -> tuple[Any, AnnData]:
    """The object that takes results, and the AnnData in it that holds the counts.

    Both are the same, unless ``data`` is a MuData, of which ``mod`` names the modality. With
    ``copy`` they are copies.

    Raises
    ------
    KeyError
        If there is no such modality.
    TypeError, ValueError
        As :func:`check_anndata`; if ``mod`` is given for an AnnData.
    """
    adata = modality(data, mod)
    check_anndata(adata, copy=copy, of_cells=of_cells)
    if not copy:
        return data, adata
    copied = data.copy()
    return copied, modality(copied, mod)


def modality(data: Any, mod: str | None) -> Any:
    """The modality that ``mod`` names, or the object itself."""
    if mod is None:
        return data
    if not _is_mudata(data):
        raise TypeError(
            f"mod={mod!r} names a modality of a MuData, and this is of type {type(data).__name__}. "
            "Leave mod out."
        )
    if mod not in data.mod:
        raise KeyError(f"There is no modality {mod!r}; the MuData has {', '.join(data.mod)}.")
    return data.mod[mod]


def _is_mudata(data: Any) -> bool:
    return hasattr(data, "mod") and type(data).__module__.partition(".")[0] == "mudata"


def check_anndata(adata: Any, *, copy: bool = False, of_cells: bool = True) -> None:
    """Refuse anything but an AnnData with at least one cell and one gene that takes results.

    Regions alone (``of_cells=False``) may stand in ``obs`` or ``var`` with nothing on the other.
    Comes first: before a copy is made (``copy``), before files of a model are looked for.
    """
    from anndata import AnnData

    if not isinstance(adata, AnnData):
        mods = [f"mod={str(name)!r}" for name in adata.mod] if _is_mudata(adata) else []
        which = f" Name the one with the counts: {' or '.join(mods)}." if mods else ""
        raise TypeError(
            f"Got a {type(adata).__name__}, expected an AnnData, or a MuData and one of its "
            f"modalities.{which}"
        )
    if of_cells and (adata.n_obs == 0 or adata.n_vars == 0):
        raise ValueError(
            f"adata has {adata.n_obs:,} cells and {adata.n_vars:,} genes; expected at least one of "
            "each. Was everything filtered out?"
        )
    if adata.isbacked:
        check_backed(adata, copy)


def check_backed(adata: AnnData, copy: bool) -> None:
    """Refuse to write into files: what is in them is read, and results stay in memory."""
    in_memory = "adata.to_memory() makes an object in memory."
    if copy:
        raise ValueError(f"copy=True cannot copy an object that is backed by a file; {in_memory}")
    if adata.is_view:
        raise ValueError(
            f"adata is a view ({adata.n_obs:,} × {adata.n_vars:,}) of an object that is backed by "
            f"a file, and cannot take results. Pass the whole object, or first a copy: {in_memory}"
        )
    if not adata.file.is_open:
        adata.file.open()
    if adata.file["obs"].file.mode != "r":
        raise ValueError(
            f"adata is backed by {adata.filename} in mode 'r+', but glm does not write into files "
            "in place. Read it with backed='r': counts are streamed, results stay in memory, and "
            f"adata.write_h5ad(another_path) keeps both. Or work in memory: {in_memory}"
        )


def _log_names(genes: GeneMap) -> None:
    for kind, what in (
        ("versioned", "versions were left off"),
        ("retired", "retired ids were replaced by their successors"),
        ("par_y", "ids name the Y copy of a pseudoautosomal gene and were kept apart"),
    ):
        if count := genes.kinds.get(kind, 0):
            examples = first_names(genes.examples[kind], total=count)
            logger.info("%s gene ids: %s (%s)", f"{count:,}", what, examples)
