"""A ranking of the partners of a gene: dots, with the number of cells behind each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .._messages import counted
from ._annotation import Annotation
from ._heatmap import plain_numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.axes import Axes

_BLUE, _GREY = "#3b6ea5", "#555555"


@dataclass(frozen=True)
class Ranking:
    """Partners of a gene, the first at the top.

    Attributes
    ----------
    title
        What stands over it.
    places
        Places of the partners among all genes.
    names
        Their names.
    values
        Attention.
    n_cells
        How many cells each value is the mean of.
    min_cells
        The fewest cells that are asked of a pair.
    """

    title: str
    places: np.ndarray
    names: pd.Index
    values: np.ndarray
    n_cells: np.ndarray
    min_cells: int = 1

    @property
    def n(self) -> int:
        """How many partners there are."""
        return int(self.places.size)


def draw_ranking(
    ax: Axes,
    ranking: Ranking,
    marks: Annotation | None,
    *,
    unit: str,
    limits: tuple[float, float],
) -> None:
    """Draw a ranking on ``ax``: dots, since the axis need not begin at 0."""
    heights = np.arange(ranking.n)
    ax.hlines(heights, *limits, color="#e3e3e3", linewidth=0.8, zorder=1)
    colours = _BLUE if marks is None else marks.colours[ranking.places]
    ax.scatter(ranking.values, heights, s=34, color=colours, zorder=3, clip_on=False)
    ax.set_ylim(max(ranking.n, 1) - 0.4, -0.6)
    ax.set_yticks(heights, list(ranking.names), fontsize=9)
    ax.tick_params(axis="y", length=0)
    ax.set_xlim(*limits)
    for height, n in zip(heights, ranking.n_cells, strict=True):
        ax.annotate(
            f"{n:,}",
            (1, height),
            xycoords=("axes fraction", "data"),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=_GREY,
        )
    if ranking.n:
        ax.annotate(
            "cells",
            (1, 1),
            xycoords="axes fraction",
            xytext=(5, 3),
            textcoords="offset points",
            fontsize=8,
            color=_GREY,
        )
    else:
        told = f"no pair in {counted(ranking.min_cells, 'cell')}"
        ax.text(0.5, 0.5, told, transform=ax.transAxes, ha="center", color=_GREY)
    ax.set_title(ranking.title, fontsize="medium", loc="left")
    ax.set_xlabel(unit)
    ax.locator_params(axis="x", nbins=4)
    ax.xaxis.set_major_formatter(plain_numbers())
    ax.spines[["top", "right", "left"]].set_visible(False)


def limits_of(rankings: Sequence[Ranking]) -> tuple[float, float]:
    """One axis for several rankings, with a little room at both ends."""
    values = np.concatenate([ranking.values for ranking in rankings])
    low, high = float(values.min()), float(values.max())
    room = 0.06 * (high - low) or 0.1 * high or 1.0
    return max(low - room, 0.0), high + room
