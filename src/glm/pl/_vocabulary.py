from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._figure import finish, panels

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from matplotlib.axes import Axes

    from ..encode import BytePairs

_BLUE, _ORANGE, _GREY = "#3b6ea5", "#c85200", "#888888"
_MOST_BARS = 40  # lengths drawn one by one
_NAMED = 3  # tokens at the top of the ranks that are named


def vocabulary(
    vocabulary: BytePairs | pd.DataFrame,
    *,
    show: bool | None = None,
    save: str | Path | None = None,
) -> list[Axes] | None:
    """Draw what the tokens of a DNA vocabulary look like: lengths, frequencies, GC.

    Left, how many tokens there are of each length, as a share of the vocabulary and, where the
    table has counts, of the sequence. Middle, frequency against rank: a vocabulary that is used
    evenly is flat. Right, likewise the share of G and C.

    Parameters
    ----------
    vocabulary
        The table that :func:`glm.encode.vocabulary_table` makes (with tokens of a sequence, to see
        their use), or a vocabulary of byte pairs.
    show
        Show the figure and return nothing; ``None`` does so where matplotlib is interactive.
    save
        File to write the figure to.

    Returns
    -------
    The axes: lengths, frequencies (if the table has counts), GC; ``None`` if the figure was shown.

    Raises
    ------
    ValueError
        If the table has no rows or not the columns of :func:`glm.encode.vocabulary_table`.

    Examples
    --------
    >>> import glm, numpy as np
    >>> pairs = glm.encode.BytePairs.from_merges([("A", "A"), ("C", "G")])
    >>> table = glm.encode.vocabulary_table(pairs.pieces, np.array([9, 9, 5, 10]))
    >>> lengths, frequencies, gc = glm.pl.vocabulary(table, show=False)
    >>> lengths.get_xlabel()
    'bases of a token'
    """
    table = _table(vocabulary)
    used = "frequency" in table and table["frequency"].notna().any()
    figure, axes = panels(3 if used else 2, (4.2, 3.6), None)
    _draw_lengths(axes[0], table, used=used)
    if used:
        _draw_ranks(axes[1], table)
        axes[0].margins(y=0.25)  # room for the legend above the bars
        axes[0].legend(fontsize="small", frameon=False)
    _draw_gc(axes[-1], table, used=used)
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
    finished = finish(figure, axes, None, show=show, save=save)
    return None if finished is None else axes


def _table(given: BytePairs | pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    from ..encode import vocabulary_table

    table = given if isinstance(given, pd.DataFrame) else vocabulary_table(given.pieces)
    missing = [name for name in ("token", "length", "gc") if name not in table]
    if missing or not len(table):
        raise ValueError(
            f"The table has {len(table):,} rows and the columns {list(table.columns)}; expected "
            "what glm.encode.vocabulary_table returns."
        )
    return table


def _draw_lengths(ax: Axes, table: pd.DataFrame, *, used: bool) -> None:
    longest = min(int(table["length"].max()), _MOST_BARS)
    lengths = np.minimum(table["length"].to_numpy(), longest)
    places = np.arange(1, longest + 1)
    _bars(ax, places, _shares(table, lengths, longest, used=used), width=0.8)
    mean = table["length"].mean()
    title = f"mean {mean:.2f} bases"
    if used:
        title += f", in the sequence {(table['length'] * table['frequency']).sum():.2f}"
    ax.set_title(title, loc="left", fontsize="medium")
    ax.set(xlabel="bases of a token", ylabel="share")
    if longest <= 20:
        ax.set_xticks(places)
    elif longest == _MOST_BARS:
        ax.set_xlabel(f"bases of a token (the last: {_MOST_BARS} and more)")
    _percent(ax)


def _draw_gc(ax: Axes, table: pd.DataFrame, *, used: bool) -> None:
    n_bins = 10
    bins = 1 + np.minimum((table["gc"].to_numpy() * n_bins).astype(np.int64), n_bins - 1)
    places = (np.arange(n_bins) + 0.5) / n_bins
    _bars(ax, places, _shares(table, bins, n_bins, used=used), width=0.8 / n_bins)
    title = f"mean {100 * table['gc'].mean():.0f}% GC"
    if used:
        of_bases = table["length"] * table["frequency"]
        title += f", in the sequence {100 * (table['gc'] * of_bases).sum() / of_bases.sum():.0f}%"
    ax.set_title(title, loc="left", fontsize="medium")
    ax.set(xlabel="share of G and C in a token", ylabel="share")
    _percent(ax)


def _shares(
    table: pd.DataFrame, groups: np.ndarray, n: int, *, used: bool
) -> dict[str, tuple[str, np.ndarray]]:
    """By name, a colour and the share of each group from 1 to n."""
    alone: np.ndarray = np.bincount(groups, minlength=n + 1)[1:] / len(table)
    found = {"of the vocabulary": (_BLUE, alone)}
    if used:
        weights = table["frequency"].to_numpy()
        use = np.bincount(groups, weights=weights, minlength=n + 1)[1:]
        found["of the sequence's tokens"] = (_ORANGE, use)
    return found


def _bars(
    ax: Axes, places: np.ndarray, shares: dict[str, tuple[str, np.ndarray]], *, width: float
) -> None:
    each = width / len(shares)
    for i, (name, (colour, heights)) in enumerate(shares.items()):
        shift = (i - (len(shares) - 1) / 2) * each
        ax.bar(places + shift, heights, width=each, color=colour, label=name)


def _draw_ranks(ax: Axes, table: pd.DataFrame) -> None:
    seen = table[table["count"] > 0].sort_values("count", ascending=False, kind="stable")
    ranks = np.arange(1, len(seen) + 1)
    frequencies = seen["frequency"].to_numpy()
    ax.plot(ranks, frequencies, color=_ORANGE, linewidth=1.5)
    ax.set(xscale="log", yscale="log", xlabel="rank", ylabel="frequency")
    ax.axhline(1 / len(table), color=_GREY, linestyle=":", linewidth=1.2)
    names = ", ".join(seen["token"].iloc[:_NAMED])
    unused = len(table) - len(seen)
    title = f"most frequent: {names}" + (f"; {unused:,} not used" if unused else "")
    ax.set_title(title, loc="left", fontsize="medium")
    ax.annotate(
        "all alike", (1, 1 / len(table)), xytext=(2, 3), textcoords="offset points",
        color=_GREY, fontsize="small",
    )  # fmt: skip


def _percent(ax: Axes) -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    ax.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
