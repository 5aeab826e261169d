"""A square heat map of genes by genes, with a tree and marks of the genes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ._annotation import Annotation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

_GREY = "#d9d9d9"
_SMALLEST_FONT = 4.0
_STRIP = 0.025  # width of the marks of the genes, as a share of the square
# Ordering the leaves of a tree takes time with the cube of their number.
_MOST_ORDERED = 400


def order_by_likeness(squares: Sequence[np.ndarray]) -> tuple[np.ndarray, dict[str, Any]]:
    """Order genes so that like ones are neighbours, by their rows and columns in all squares.

    Returns the order and the tree, as scipy's ``dendrogram`` gives it.
    """
    from scipy.cluster.hierarchy import dendrogram, linkage

    profiles = np.hstack([_profiles(square) for square in squares])
    tree = linkage(profiles, "average", optimal_ordering=len(profiles) <= _MOST_ORDERED)
    drawn = dendrogram(tree, no_plot=True)
    return np.array(drawn["leaves"]), drawn


def _profiles(square: np.ndarray) -> np.ndarray:
    """What a gene attends to and is attended by, each partner on one scale."""
    off = np.where(np.eye(len(square), dtype=bool), np.nan, square)
    profiles = np.hstack([off, off.T])
    known = np.isfinite(profiles)
    n = np.maximum(known.sum(axis=0), 1)
    centred = profiles - np.where(known, profiles, 0).sum(axis=0) / n
    centred[~known] = 0  # a pair that no cell holds says nothing
    spread = np.sqrt((centred**2).sum(axis=0) / n)
    return centred / np.where(spread > 0, spread, 1)


def size_of(n_genes: int) -> tuple[float, float]:
    """Inches of a panel: a square of so many genes, its names, marks and tree."""
    side = float(np.clip(0.2 * n_genes + 0.4, 2.4, 10.0))
    return 1.04 * side + 1.1, 1.14 * side + 1.4


def draw_heatmap(
    ax: Axes,
    square: np.ndarray,
    names: Sequence[str],
    marks: Annotation | None,
    *,
    tree: dict[str, Any] | None,
    title: str,
    cmap: str,
    limits: tuple[float, float],
) -> AxesImage:
    """Draw a square on ``ax``, the attending gene in the row."""
    import matplotlib

    colours = matplotlib.colormaps[cmap].with_extremes(bad=_GREY)
    image = ax.imshow(square, cmap=colours, vmin=limits[0], vmax=limits[1], interpolation="nearest")
    _label(ax, names)
    ax.set(xlabel="attended gene", ylabel="attending gene")
    top = 1.01
    if marks is not None:
        shades = marks.colours[:, :3]
        _strip(ax, shades[None], (0, top, 1, _STRIP))
        _strip(ax, shades[:, None], (top, 0, _STRIP, 1))
        top += _STRIP + 0.01
    if tree is not None:
        _draw_tree(ax, tree, len(square), (0, top, 1, 0.09))
        top += 0.09
    if title:
        ax.annotate(
            title,
            (0, top),
            xycoords="axes fraction",
            xytext=(0, 4),
            textcoords="offset points",
            fontsize="medium",
        )
    return image


def draw_legend(
    ax: Axes,
    image: AxesImage,
    squares: Sequence[np.ndarray],
    marks: Annotation | None,
    *,
    unit: str,
) -> None:
    """Say to the right of ``ax`` what the colours of all squares mean."""
    left = 1.04 if marks is None else 1.05 + _STRIP
    _colour_bar(ax, image, np.concatenate([square.ravel() for square in squares]), unit, left)
    if marks is not None:
        marks.draw_legend(ax, (left, 1.0))


def _colour_bar(ax: Axes, image: AxesImage, values: np.ndarray, unit: str, left: float) -> None:
    low, high = image.get_clim()
    below = np.nanmin(values, initial=low) < low
    above = np.nanmax(values, initial=high) > high
    extend = {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}[below, above]
    scale = ax.figure.colorbar(
        image, cax=ax.inset_axes((left, 0, 0.03, 0.4)), label=unit, extend=extend
    )
    scale.formatter = plain_numbers()
    scale.locator = _few_ticks()
    scale.ax.tick_params(labelsize="small")
    if np.isnan(values).any():
        ax.annotate(
            "grey: too few cells",
            (left, 0.4),
            xycoords="axes fraction",
            xytext=(0, 12),
            textcoords="offset points",
            fontsize="small",
        )


def plain_numbers() -> Any:
    """Ticks as numbers of four digits, without a factor to look for elsewhere."""
    from matplotlib.ticker import FuncFormatter

    return FuncFormatter(lambda value, _: f"{value:.4g}")


def _few_ticks() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(4)


def _label(ax: Axes, names: Sequence[str]) -> None:
    """Names of the genes where they can be read, else how many there are."""
    box = ax.get_window_extent()
    inches = min(box.width, box.height) / ax.figure.dpi
    font = min(0.75 * 72 * inches / max(len(names), 1), 10.0)
    if font < _SMALLEST_FONT:
        ax.set_xticks([])
        ax.set_yticks([])
        ax.set_title(f"{len(names):,} genes", fontsize="small", loc="right")
        return
    places = np.arange(len(names))
    ax.set_xticks(places, list(names), rotation=90, fontsize=font)
    ax.set_yticks(places, list(names), fontsize=font)
    ax.tick_params(length=0)


def _strip(ax: Axes, colours: np.ndarray, bounds: tuple[float, float, float, float]) -> None:
    strip = ax.inset_axes(bounds)
    strip.imshow(colours, aspect="auto", interpolation="nearest")
    strip.set_axis_off()


def _draw_tree(
    ax: Axes, tree: dict[str, Any], n: int, bounds: tuple[float, float, float, float]
) -> None:
    inset = ax.inset_axes(bounds)
    for xs, ys in zip(tree["icoord"], tree["dcoord"], strict=True):
        inset.plot(xs, ys, color="#555555", linewidth=0.8)
    inset.set_xlim(0, 10 * n)  # scipy puts leaf i at 10 i + 5
    inset.set_ylim(0)
    inset.set_axis_off()
