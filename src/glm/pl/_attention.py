from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .._keys import AttentionKeys
from .._messages import first_names, share
from ._annotation import Annotation
from ._figure import finish, last_of_row, panels
from ._heatmap import draw_heatmap, draw_legend, order_by_likeness, size_of
from ._partners import Ranking, draw_ranking, limits_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData
    from matplotlib.axes import Axes
    from scipy.sparse import csr_matrix

# A mean over fewer cells is not ranked, unless it is asked for.
_FEW_CELLS = 10


def attention(
    adata: AnnData,
    *,
    gene: str | None = None,
    genes: Sequence[str] | None = None,
    groupby: str | None = None,
    groups: str | Sequence[str] | None = None,
    annotation: str | None = None,
    gene_symbols: str | None = None,
    direction: Literal["out", "in"] = "out",
    n_partners: int = 20,
    min_cells: int | None = None,
    cluster: bool = True,
    cmap: str = "viridis",
    vmin: float | None = None,
    vmax: float | None = None,
    key: str = "geneformer",
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes | list[Axes] | None:
    """Draw the attention among genes as a heat map, or the partners of one gene as a ranking.

    Reads what :func:`glm.tl.attention` wrote. The heat map shows the chosen genes among
    themselves, the attending gene in the row; like genes stand side by side. Attention of a gene to
    itself is shown, but does not set the scale.

    Parameters
    ----------
    adata
        An object that :func:`glm.tl.attention` has written to.
    gene
        Draw the ranking of this gene's partners.
    genes
        Draw the heat map of these genes only; ``None`` takes all that were chosen.
    groupby
        The column of ``obs`` that the attention was grouped by: one panel a group.
    groups
        One or several of the groups; ``None`` takes all.
    annotation
        Column of ``var`` by which genes are marked in colour: labels, or numbers. Colours of labels
        are those of ``adata.uns["<annotation>_colors"]`` where there are such.
    gene_symbols
        Column of ``var`` whose names are used in place of ``var_names``.
    direction
        Of the ranking: ``"out"``, the genes that ``gene`` attends to; ``"in"``, the chosen genes
        that attend to it.
    n_partners
        Most partners in a ranking.
    min_cells
        Leave out pairs that fewer cells hold: they are grey in the heat map and absent from the
        ranking. ``None`` is 1 for a heat map and 10 for a ranking.
    cluster
        Order the genes of the heat map by likeness of rows and columns; else as in ``var``.
    cmap
        Colour map.
    vmin, vmax
        Ends of the colours (of the axis, in a ranking); ``None`` chooses them, the same for all
        panels: a heat map leaves out the hundredth part of the pairs at either end.
    key
        Name in the slots.
    ax
        Axes to draw on, for a single panel; ``None`` makes a figure.
    show
        Show the figure and return nothing; ``None`` does so where matplotlib is interactive (as in
        a notebook) and no ``ax`` is given.
    save
        File to write the figure to.

    Returns
    -------
    The axes of the heat map or ranking, a list of them for several groups, or ``None`` if the
    figure was shown.

    Raises
    ------
    KeyError
        If there is no attention under ``key``, or no such gene, group or column.
    ValueError
        If the attention of a gene was not asked for, or no pair is held by enough cells.

    Examples
    --------
    >>> import glm
    >>> adata = glm.datasets.toy_cells()
    >>> glm.tl.attention(adata, "geneformer-tiny", n_top=12)
    >>> ax = glm.pl.attention(adata, show=False)
    >>> ax.get_xlabel()
    'attended gene'
    """
    if gene is not None and genes is not None:
        raise ValueError("Pass gene= for a ranking or genes= for a heat map, not both.")
    if direction not in ("out", "in"):
        raise ValueError(f"direction is {direction!r}; expected 'out' or 'in'.")
    matrices, record = _read(adata, AttentionKeys(key, groupby), groups)
    if ax is not None and len(matrices) > 1:
        raise ValueError(
            f"There are {len(matrices)} groups and one ax. Name one with groups=, or leave ax out."
        )
    names = _names(adata, gene_symbols)
    marks = None if annotation is None else Annotation.read(adata, annotation)
    unit = "attention × tokens" if record.get("scale_by_length") else "attention"
    if gene is not None:
        drawn = _rankings(
            matrices,
            names,
            gene,
            direction=direction,
            n_partners=n_partners,
            min_cells=_FEW_CELLS if min_cells is None else min_cells,
        )
        beside = 0.0 if marks is None else 1.6
        figure, axes = panels(len(drawn), _ranking_size(drawn), ax, beside=beside)
        limits = _ends(limits_of(drawn), vmin, vmax)
        for each, ranking in zip(axes, drawn, strict=True):
            draw_ranking(each, ranking, marks, unit=unit, limits=limits)
        if marks is not None:
            shown = marks.take(np.concatenate([ranking.places for ranking in drawn]))
            shown.draw_legend(axes[last_of_row(len(axes))], (1.16, 1.0))
    else:
        chosen = _chosen(matrices, names, genes)
        squares = [matrix.square(chosen, min_cells or 1) for matrix in matrices]
        order, tree = np.arange(chosen.size), None
        if cluster and chosen.size > 2:
            order, tree = order_by_likeness(squares)
        figure, axes = panels(len(squares), size_of(chosen.size), ax, beside=1.6)
        limits = _ends(_range(squares), vmin, vmax)
        marked = None if marks is None else marks.take(chosen[order])
        images = [
            draw_heatmap(
                each,
                square[np.ix_(order, order)],
                names[chosen[order]],
                marked,
                tree=tree,
                title=matrix.title,
                cmap=cmap,
                limits=limits,
            )
            for each, square, matrix in zip(axes, squares, matrices, strict=True)
        ]
        draw_legend(axes[last_of_row(len(axes))], images[0], squares, marked, unit=unit)
    return finish(figure, axes, ax, show=show, save=save)


@dataclass(frozen=True)
class _Matrix:
    """The attention of one group and its counts, and what is written over it."""

    mean: csr_matrix
    n: csr_matrix
    title: str

    def square(self, chosen: np.ndarray, min_cells: int) -> np.ndarray:
        """The chosen genes among themselves, NaN where too few cells hold both."""
        square = self.mean[chosen][:, chosen].toarray().astype(np.float64)
        square[self.n[chosen][:, chosen].toarray() < min_cells] = np.nan
        return square

    def partners(self, gene: int, direction: str) -> tuple[np.ndarray, np.ndarray]:
        """Attention and counts of all genes with ``gene``."""
        if direction == "out":
            return self.mean[[gene]].toarray()[0], self.n[[gene]].toarray()[0]
        return self.mean[:, [gene]].toarray()[:, 0], self.n[:, [gene]].toarray()[:, 0]


def _read(
    adata: AnnData, keys: AttentionKeys, groups: str | Sequence[str] | None
) -> tuple[list[_Matrix], Mapping[str, Any]]:
    if keys.record not in adata.uns:
        wanted = "" if keys.groupby is None else f", groupby={keys.groupby!r}"
        raise KeyError(
            f"adata.uns has no {keys.record!r}; call glm.tl.attention(adata{wanted}, ...) first."
        )
    record = adata.uns[keys.record]
    if keys.groupby is None:
        if groups is not None:
            raise ValueError("groups= needs groupby=, the column that attention was grouped by.")
        return [_matrix(adata, keys, None, "")], record
    known = [str(name) for name in np.asarray(record["groups"])]
    n_cells = dict(zip(known, np.asarray(record["n_cells_of_group"]).tolist(), strict=True))
    listed = known if groups is None else [groups] if isinstance(groups, str) else list(groups)
    missing = [name for name in listed if name not in known]
    if missing or not listed:
        raise KeyError(
            f"There are no groups {first_names(missing)} in {keys.record!r}; there are "
            f"{first_names(known, 10)}."
        )
    return [
        _matrix(adata, keys, name, f"{name} ({n_cells[name]:,} cells)") for name in listed
    ], record


def _matrix(adata: AnnData, keys: AttentionKeys, group: str | None, title: str) -> _Matrix:
    for slot in (keys.varp(group), keys.n(group)):
        if slot not in adata.varp:
            raise KeyError(f"adata.varp has no {slot!r}; call glm.tl.attention again.")
    return _Matrix(adata.varp[keys.varp(group)].tocsr(), adata.varp[keys.n(group)].tocsr(), title)


def _names(adata: AnnData, column: str | None) -> pd.Index:
    import pandas as pd

    if column is None:
        return adata.var_names
    if column not in adata.var:
        raise KeyError(
            f"adata.var has no column {column!r}; it has {', '.join(map(str, adata.var.columns))}."
        )
    return pd.Index(adata.var[column].astype(str))


def _find(names: pd.Index, wanted: Sequence[str]) -> np.ndarray:
    """Places of genes by name, in the order of the axis."""
    missing = [name for name in wanted if name not in names]
    if missing:
        raise KeyError(
            f"{share(len(missing), len(wanted))} genes are not in the object "
            f"({first_names(missing)}), whose first are {first_names(names)}."
        )
    found = np.flatnonzero(names.isin(list(wanted)))
    if found.size > len(set(wanted)):
        repeated = names[found]
        raise ValueError(
            f"Several genes are named {first_names(repeated[repeated.duplicated()].unique())}."
        )
    return found


def _chosen(matrices: list[_Matrix], names: pd.Index, genes: Sequence[str] | None) -> np.ndarray:
    """Places of the genes of a heat map: those with attention of their own."""
    with_rows = np.zeros(len(names), bool)
    for matrix in matrices:
        with_rows |= np.diff(matrix.mean.indptr) > 0
    if not with_rows.any():
        raise ValueError("No chosen gene was read in any cell: there is nothing to draw.")
    if genes is None:
        return np.flatnonzero(with_rows)
    wanted = _find(names, [genes] if isinstance(genes, str) else list(genes))
    _check_rows(names, wanted, with_rows)
    return wanted


def _check_rows(names: pd.Index, wanted: np.ndarray, with_rows: np.ndarray) -> None:
    without = wanted[~with_rows[wanted]]
    if without.size:
        raise ValueError(
            f"There is no attention of {first_names(names[without])}, only of "
            f"{first_names(names[with_rows])}: pass glm.tl.attention genes= with all you want to "
            "see."
        )


def _rankings(
    matrices: list[_Matrix],
    names: pd.Index,
    gene: str,
    *,
    direction: Literal["out", "in"],
    n_partners: int,
    min_cells: int,
) -> list[Ranking]:
    (place,) = _find(names, [gene])
    if direction == "out":
        with_rows = np.zeros(len(names), bool)
        for matrix in matrices:
            with_rows |= np.diff(matrix.mean.indptr) > 0
        _check_rows(names, np.array([place]), with_rows)
    drawn, most = [], 0
    for matrix in matrices:
        mean, n = matrix.partners(place, direction)
        n[place] = 0  # its attention to itself has no place among partners
        most = max(most, int(n.max()))
        enough = np.flatnonzero(n >= max(min_cells, 1))
        best = enough[np.argsort(-mean[enough], kind="stable")][:n_partners]
        heading = f"{gene} attends to" if direction == "out" else f"attend to {gene}"
        title = "\n".join(part for part in (matrix.title, heading) if part)
        least = max(min_cells, 1)
        drawn.append(Ranking(title, best, names[best], mean[best], n[best], least))
    if not any(ranking.n for ranking in drawn):
        raise ValueError(
            f"No pair of {gene} with another gene is in {min_cells} cells (at most {most}): pass a "
            "lower min_cells."
        )
    return drawn


def _ranking_size(drawn: list[Ranking]) -> tuple[float, float]:
    return 4.2, 1.1 + 0.24 * max(ranking.n for ranking in drawn)


def _range(squares: list[np.ndarray]) -> tuple[float, float]:
    """Ends of the colours that a few pairs, and the diagonal, do not set."""
    off = np.concatenate([square[~np.eye(len(square), dtype=bool)] for square in squares])
    if not np.isfinite(off).any():
        off = np.concatenate([square.ravel() for square in squares])
    values = off[np.isfinite(off)]
    if not values.size:
        return 0.0, 1.0
    low, high = (float(end) for end in np.quantile(values, [0.01, 0.99]))
    return (low, high) if low < high else (0.0, high or 1.0)


def _ends(found: tuple[float, float], low: float | None, high: float | None) -> tuple[float, float]:
    return (found[0] if low is None else low), (found[1] if high is None else high)
