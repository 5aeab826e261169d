from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from .._messages import share
from ..pp import check as look
from ..report import Report
from ._figure import finish, panels

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BLUE, _PALE, _ORANGE, _GREY = "#3b6ea5", "#c9d8e8", "#c85200", "#555555"
_N_BINS = 40
_NONE: NDArray[Any] = np.zeros(0)


def check(
    data: AnnData | Report,
    model: Any = "geneformer-v2-104m",
    *,
    axes: Sequence[Axes] | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
    **options: Any,
) -> list[Axes] | None:
    """Draw how many genes the cells hold and how much of them a model reads.

    Left: known genes a cell, with the most that the model reads; what lies to its right is cut off
    in those cells. Right: the share of each cell's counts that is on known genes.

    Parameters
    ----------
    data
        A report of :func:`glm.pp.check`, or the cells, which are then checked first.
    model
        The model to check cells for; a report was made for its own.
    axes
        Two axes to draw on; ``None`` makes a figure.
    show
        Show the figure; ``None`` does so in interactive use.
    save
        File to save the figure in; its ending tells the format.
    **options
        As for :func:`glm.pp.check`.

    Returns
    -------
    The two axes, genes and coverage, or ``None`` if the figure was shown.

    Raises
    ------
    ValueError
        If the values could not be read, so that there is nothing to draw.

    Examples
    --------
    >>> import glm
    >>> genes, coverage = glm.pl.check(glm.datasets.toy_cells(), "geneformer-tiny")
    >>> coverage.get_ylabel()
    'cells'
    """
    report = data if isinstance(data, Report) else look(data, model, **options)
    if report.cells.empty:
        errors = " ".join(finding.found for finding in report.of("error"))
        raise ValueError(f"There is nothing to draw: nothing is known of the cells. {errors}")
    given = None if axes is None else axes[0]
    if axes is None:
        figure, axes = panels(2, (5.0, 3.6), None)
        figure.suptitle(f"{report.n_cells:,} cells read by {report.model}", fontsize="medium")
    genes, coverage = axes
    _draw_genes(genes, report)
    _draw_coverage(coverage, report)
    figure = cast("Figure", genes.figure)
    return cast("list[Axes] | None", finish(figure, [genes, coverage], given, show=show, save=save))


def _draw_genes(ax: Axes, report: Report) -> None:
    n_genes, limit = report.cells["n_genes_known"].to_numpy(), report.n_genes_read
    n_cut = int((n_genes > limit).sum())
    # Whole steps, since genes are whole, and one of the edges just above the last gene read.
    step = max(-(-int(n_genes.max()) // _N_BINS), 1)
    edges = np.arange(limit % step - step, int(n_genes.max()) + step + 1, step) + 0.5
    _bars(ax, n_genes[n_genes <= limit], edges, n_genes[n_genes > limit])
    # The line belongs in the picture even where no cell comes near it, unless it would squeeze it.
    near = limit <= 3 * n_genes.max()
    if near:
        ax.axvline(limit + 0.5, color=_ORANGE, linewidth=1.5)
    ax.set_xlim(0, 1.05 * max(int(n_genes.max()), limit if near else 0, 1))
    if near:
        _write_beside(ax, limit, f"{limit:,} genes\nare read")
    ax.locator_params(axis="x", nbins=7, integer=True)
    ax.xaxis.set_major_formatter(_thousands())
    ax.set(xlabel="known genes a cell", ylabel="cells")
    told = f"{share(n_cut, n_genes.size)} cells are cut short" if n_cut else "no cell is cut short"
    far = "" if near else f" (at {limit:,} genes)"
    ax.set_title(f"Genes: {told}{far}", loc="left", fontsize="medium")


def _draw_coverage(ax: Axes, report: Report) -> None:
    cells = report.cells[report.cells["n_counts"] > 0]
    covered = (cells["n_counts_known"] / cells["n_counts"]).to_numpy()
    if not covered.size:
        ax.set_title("Coverage: no cell has any count", loc="left", fontsize="medium")
        ax.set(xlabel="share of a cell's counts on known genes", ylabel="cells", xlim=(0, 1))
        return
    # To the whole, and down to the cells with least, but for a few that would squeeze the rest.
    low = 0.1 * np.floor(10 * min(float(np.quantile(covered, 0.002)), 0.8))
    n_below = int((covered < low).sum())
    _bars(ax, covered[covered >= low], np.linspace(low, 1, _N_BINS + 1))
    middle = float(np.median(covered))
    ax.axvline(middle, color=_GREY, linewidth=1.5, linestyle="--")
    ax.set_xlim(low, 1)
    _write_beside(ax, middle, f"median\n{100 * middle:.1f}%")
    ax.locator_params(axis="x", nbins=6)
    ax.xaxis.set_major_formatter(_percent())
    ax.set(xlabel="share of a cell's counts on known genes", ylabel="cells")
    total = cells["n_counts_known"].sum() / cells["n_counts"].sum()
    lie = "cell lies" if n_below == 1 else "cells lie"
    left_out = f"; {n_below:,} {lie} below {100 * low:.0f}%" if n_below else ""
    title = f"Coverage: {100 * total:.1f}% of all counts{left_out}"
    ax.set_title(title, loc="left", fontsize="medium")


def _bars(
    ax: Axes, values: NDArray[Any], edges: NDArray[Any], others: NDArray[Any] = _NONE
) -> None:
    """A histogram; bars of ``others`` are pale and hatched."""
    heights, _ = np.histogram(values, edges)
    more, _ = np.histogram(others, edges)
    widths = np.diff(edges)
    ax.bar(edges[:-1], heights, widths, align="edge", color=_BLUE, linewidth=0)
    if others.size:
        bars = ax.bar(edges[:-1], more, widths, align="edge", color=_PALE, linewidth=0)
        for bar in bars:
            bar.set(edgecolor=_BLUE, hatch="////")
    ax.set_ylim(0, 1.25 * max(int((heights + more).max()), 1))  # room to write above the bars
    ax.spines[["top", "right"]].set_visible(False)
    ax.locator_params(axis="y", integer=True)
    ax.yaxis.set_major_formatter(_thousands())


def _write_beside(ax: Axes, x: float, text: str) -> None:
    """Write at a line, on the side where there is room."""
    low, high = ax.get_xlim()
    right = x < low + 0.7 * (high - low)
    ax.annotate(
        text,
        (x, 0.97),
        xycoords=("data", "axes fraction"),
        xytext=(4 if right else -4, 0),
        textcoords="offset points",
        ha="left" if right else "right",
        va="top",
        fontsize="small",
        bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1.5},
    )


def _percent() -> Any:
    from matplotlib.ticker import FuncFormatter

    return FuncFormatter(lambda value, _: f"{100 * value:.4g}%")


def _thousands() -> Any:
    from matplotlib.ticker import StrMethodFormatter

    return StrMethodFormatter("{x:,.0f}")
