"""Check an AnnData of counts; hand out the matrix and what each column means to a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ._keys import ENSEMBL_ID
from ._messages import first_names, share, warn
from ._settings import logger, settings
from .encode._scan import sum_columns
from .encode.counts import CountSummary, iter_blocks, scan
from .encode.rank import Ranker
from .genes import GeneMap, looks_like_ids, map_names
from .models.vocabulary import GeneVocabulary

if TYPE_CHECKING:
    from anndata import AnnData

# Below this share of all counts on known genes, ids and model are taken not to belong together.
_LEAST_SHARE_OF_COUNTS = 0.1
# A subset of genes: fewer than this share of the vocabulary is in the object.
_SUBSET_SHARE = 0.25
# log1p of any count that a cell can have stays below this; raw counts of whole objects exceed it.
_LOG1P_LIMIT = 20.0


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
    facts
        What goes into the record.
    """

    matrix: Any
    genes: GeneMap
    vocabulary: GeneVocabulary
    summary: CountSummary
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
    matrix, source = _matrix(adata, layer, use_raw)
    genes, column = _genes(adata, vocabulary, gene_ids, use_raw, model)
    summary = scan(matrix, n_threads=settings.n_threads)
    names = adata.raw.var_names if use_raw else adata.var_names
    _check_values(summary, source, adata, names, log_normalized)
    coverage = _coverage(matrix, genes)
    _check_coverage(coverage, genes, names, vocabulary, column, model)
    facts = {
        "counts": source,
        "gene_ids": column,
        "log_normalized": log_normalized,
        "n_columns_in_vocabulary": genes.n_in_vocabulary,
        "n_genes_in_vocabulary": genes.n_genes,
        "n_columns_summed": genes.n_shared,
        "share_of_counts_in_vocabulary": coverage,
        "name_kinds": dict(genes.kinds),
    }
    return Counts(matrix, genes, vocabulary, summary, log_normalized, facts)


def check_anndata(adata: Any, *, copy: bool = False) -> None:
    """Refuse anything but an AnnData with at least one cell and one gene that takes results.

    Comes first: before a copy is made (``copy``), before files of a model are looked for.
    """
    from anndata import AnnData

    if not isinstance(adata, AnnData):
        raise TypeError(
            f"Got a {type(adata).__name__}, expected an AnnData. Of a MuData pass one modality, "
            "for example mdata['rna']."
        )
    if adata.n_obs == 0 or adata.n_vars == 0:
        raise ValueError(
            f"adata has {adata.n_obs:,} cells and {adata.n_vars:,} genes; expected at least one of "
            "each. Was everything filtered out?"
        )
    if adata.isbacked:
        _check_backed(adata, copy)


def _check_backed(adata: AnnData, copy: bool) -> None:
    """Counts are read from the file block by block; results stay in memory, beside it."""
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


def _matrix(adata: AnnData, layer: str | None, use_raw: bool) -> tuple[Any, str]:
    if layer is not None and use_raw:
        raise ValueError(f"Pass layer={layer!r} or use_raw=True, not both.")
    if use_raw:
        if adata.raw is None:
            raise ValueError("adata.raw is not set; pass layer= or leave use_raw out.")
        return adata.raw.X, "raw"
    if layer is not None:
        if layer not in adata.layers:
            raise KeyError(f"There is no layer {layer!r}; adata.layers has {_layers(adata)}.")
        return adata.layers[layer], layer
    if adata.X is None:
        raise ValueError(
            f"adata.X is empty. Say where the counts are: layer= (there are {_layers(adata)})"
            + (", or use_raw=True." if adata.raw is not None else ".")
        )
    return adata.X, "X"


def _layers(adata: AnnData) -> str:
    names = [str(name) for name in adata.layers]
    return ", ".join(names) if names else "no layers"


def _genes(
    adata: AnnData, vocabulary: GeneVocabulary, column: str | None, use_raw: bool, model: str
) -> tuple[GeneMap, str]:
    var = adata.raw.var if use_raw else adata.var
    if use_raw and adata.raw.var_names.equals(adata.var_names):
        var = adata.var  # the same genes: what was found out about them holds
    elif use_raw and column is None and ENSEMBL_ID in adata.var and ENSEMBL_ID not in var:
        raise ValueError(
            f"adata.raw has other genes than adata, and adata.var[{ENSEMBL_ID!r}] says nothing of "
            "them. Work on adata.raw.to_adata() and map its genes with glm.pp.map_genes."
        )
    if column is None:
        column = ENSEMBL_ID if ENSEMBL_ID in var else "var_names"
    if column == "var_names":
        names: Sequence[object] = list(var.index)
    elif column in var:
        # "" marks what map_genes could not place; it is no missing name but a known "no gene".
        names = ["-" if isinstance(name, str) and not name else name for name in var[column]]
    else:
        raise KeyError(f"adata.var has no column {column!r}; it has {', '.join(var.columns)}.")
    genes = map_names(names, vocabulary, symbols=False)
    _log_names(genes)
    if genes.n_in_vocabulary == 0 or genes.kinds.get("unknown", 0) > 0.9 * len(names):
        _refuse_symbols(adata, names, vocabulary, column, model, genes)
    return genes, column


def _log_names(genes: GeneMap) -> None:
    for kind, what in (
        ("versioned", "versions were left off"),
        ("retired", "retired ids were replaced by their successors"),
        ("par_y", "ids name the Y copy of a pseudoautosomal gene and were kept apart"),
    ):
        if count := genes.kinds.get(kind, 0):
            examples = first_names(genes.examples[kind])
            logger.info("%s gene ids: %s (%s)", f"{count:,}", what, examples)


def _refuse_symbols(
    adata: AnnData,
    names: Sequence[object],
    vocabulary: GeneVocabulary,
    column: str,
    model: str,
    genes: GeneMap,
) -> None:
    as_symbols = map_names(names, vocabulary, symbols=True)
    if as_symbols.n_in_vocabulary > genes.n_in_vocabulary:
        others = _id_columns(adata)
        hint = (
            f" adata.var[{others[0]!r}] holds Ensembl ids: pass gene_ids={others[0]!r}, or"
            if (others)
            else ""
        )
        verb = "call" if hint else "Call"
        raise ValueError(
            f"{column} are gene symbols ({first_names(names)}); {model} reads Ensembl ids.{hint} "
            f"{verb} glm.pp.map_genes(adata, {model!r}) first: it would place "
            f"{share(as_symbols.n_in_vocabulary, len(names))} of them."
        )
    if genes.n_in_vocabulary == 0:
        raise ValueError(
            f"None of the {len(names):,} names in {column} ({first_names(names)}) is a gene of "
            f"{model} ({len(vocabulary.ids):,} {vocabulary.species} Ensembl ids). Put Ensembl ids "
            "into a column of adata.var and name it with gene_ids=."
        )


def _id_columns(adata: AnnData) -> list[str]:
    """Columns of ``var`` whose first entries are mostly human Ensembl ids."""
    return [str(column) for column in adata.var.columns if looks_like_ids(adata.var[column])]


def _check_values(
    summary: CountSummary, source: str, adata: AnnData, names: Sequence[str], log_normalized: bool
) -> None:
    where = {"X": "adata.X", "raw": "adata.raw.X"}.get(source, f"adata.layers[{source!r}]")

    def place(found: tuple[int, int, float] | None) -> str:
        assert found is not None  # there is a first one where there are any
        row, column, value = found
        return f"{value:g} in cell {adata.obs_names[row]!r}, gene {names[column]!r}"

    if summary.n_not_finite:
        raise ValueError(
            f"{where} holds {summary.n_not_finite:,} values that are not finite (first: "
            f"{place(summary.first_not_finite)}). Expected counts; mend or remove them."
        )
    if summary.n_negative:
        raise ValueError(
            f"{where} holds {summary.n_negative:,} negative values (first: "
            f"{place(summary.first_negative)}): scaled or centred data cannot be ranked. "
            f"{_remedy(adata)}."
        )
    if log_normalized:
        _check_log1p(summary, where)
    elif summary.n_fractional:
        percent = 100 * summary.n_fractional / max(summary.n_stored, 1)
        looks = "log-normalised" if summary.max < _LOG1P_LIMIT else "normalised"
        undo = ", or log_normalized=True to undo log1p first" if summary.max < _LOG1P_LIMIT else ""
        raise ValueError(
            f"{where} looks {looks} (max {summary.max:.4g}, {percent:.0f}% of the values are not "
            f"whole; first: {place(summary.first_fractional)}). Geneformer ranks raw counts. "
            f"{_remedy(adata)}{undo}."
        )


def _check_log1p(summary: CountSummary, where: str) -> None:
    if summary.max > _LOG1P_LIMIT:
        raise ValueError(
            f"log_normalized=True, but {where} reaches {summary.max:.6g}: no log1p of a count does "
            "that. Leave it out for raw counts."
        )
    if summary.n_stored and not summary.n_fractional:
        raise ValueError(
            f"log_normalized=True, but all {summary.n_stored:,} values of {where} are whole: these "
            "are counts. Leave it out."
        )


def _remedy(adata: AnnData) -> str:
    layers = [str(name) for name in adata.layers]
    if layers:
        return f"Pass layer= (there are {', '.join(layers)})"
    if adata.raw is not None:
        return "Pass use_raw=True if adata.raw holds the counts"
    return "Pass layer= with the counts"


def _coverage(matrix: Any, genes: GeneMap) -> float:
    """Share of the object's total that lies on genes of the vocabulary."""
    inside = genes.position >= 0
    if inside.all():
        return 1.0
    covered = total = 0.0
    for _, block in iter_blocks(matrix):
        of_block, of_genes = sum_columns(block.data, block.indices, inside)
        total, covered = total + of_block, covered + of_genes
    return covered / total if total else 1.0


def _check_coverage(
    coverage: float,
    genes: GeneMap,
    names: Sequence[str],
    vocabulary: GeneVocabulary,
    column: str,
    model: str,
) -> None:
    outside = [names[i] for i in np.flatnonzero(genes.position < 0).tolist()]
    if coverage < _LEAST_SHARE_OF_COUNTS:
        raise ValueError(
            f"Only {100 * coverage:.1f}% of the counts are of genes of {model} "
            f"({share(genes.n_in_vocabulary, len(names))} names in {column} are known; unknown are "
            f"{first_names(outside)}). Expected {100 * _LEAST_SHARE_OF_COUNTS:.0f}% or more: is it "
            "the right model, and are the ids in that column?"
        )
    found = []
    if genes.n_genes < _SUBSET_SHARE * len(vocabulary.ids):
        found.append(
            f"adata holds {share(genes.n_genes, len(vocabulary.ids))} of the genes {model} reads: "
            "a subset, such as the highly variable ones, changes every cell's ranks; all measured "
            "genes are better"
        )
    if genes.n_shared:
        shared = first_names(genes.shared_names(names))
        found.append(
            f"{genes.n_shared:,} columns share a gene with an earlier one and are summed into it "
            f"({shared})"
        )
    if dates := genes.kinds.get("date", 0):
        found.append(
            f"{dates:,} gene names were turned into dates by a spreadsheet "
            f"({first_names(genes.examples['date'])})"
        )
    if found:
        warn("; ".join(found) + ".")
