"""How the panels of tracks are drawn: signals as steps, genes, regions and variants in rows."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ._track_marks import Mark, rows_of, without_names
from ._track_view import Bins, View

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SMALL = 7.0  # points, the size of most text
LINE = SMALL * 1.35 / 72  # inches from one line of it to the next
MOST_STEPS = 1_500  # about as many as a panel has pixels
_LETTERS = 28  # of a line beside a track
_AIR = 0.05  # inches between what stands side by side
_MOST_IN_ROW = 40  # names, in a panel as wide as a page
_CHEVRONS = 0.2  # inches from one to the next
_SHADE, _BOX, _RED, _GENE, _GREY = "#f3ead3", "#b8903a", "#b2182b", "#2f4b7c", "#777777"


@lru_cache(maxsize=4096)
def width_of(text: str, size: float = SMALL) -> float:
    """Inches that a text is wide; what is drawn in pixels may be a little wider than its shape."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    if not text.strip():
        return 0.0
    path = TextPath((0, 0), text.replace("$", "S"), prop=FontProperties(size=size))
    return 1.05 * float(path.get_extents().x1) / 72


def wrapped(label: str, n_lines: int) -> str:
    """A label in so many lines, none too long; dots stand for what is left out."""
    lines = [part for line in label.split("\n") for part in textwrap.wrap(line, _LETTERS)]
    if len(lines) > n_lines:
        lines = lines[:n_lines]
        lines[-1] = lines[-1][: _LETTERS - 2].rstrip(" ,;:") + " …"
    return "\n".join(lines).rstrip(" ,;")


def write_beside(ax: Axes, text: str, *, away: float) -> None:
    """Write a label to the left of a panel, ``away`` inches from it."""
    ax.annotate(
        _plain(text),
        (0, 0.5),
        xycoords="axes fraction",
        xytext=(-72 * away, 0),
        textcoords="offset points",
        ha="right",
        va="center",
        fontsize=SMALL,
        linespacing=1.15,
        annotation_clip=False,
    )


def _plain(text: str) -> str:
    """A text that is written as it is, and not read as a formula."""
    return text.replace("$", r"\$")


def _say(ax: Axes, text: str) -> None:
    """Write in the middle of a panel why there is nothing in it."""
    ax.annotate(
        text,
        (0.5, 0.5),
        xycoords="axes fraction",
        ha="center",
        va="center",
        fontsize=SMALL,
        color=_GREY,
    )


# ---- signals -------------------------------------------------------------------------------------


def limits_of(signals: Sequence[Bins], *, even: bool) -> tuple[float, float]:
    """Ends of the axis: 0 and all values; with ``even`` as far below 0 as above."""
    values = np.concatenate([np.zeros(1), *(signal.values for signal in signals)])
    values = values[~np.isnan(values)]
    low, high = float(values.min()), float(values.max())
    if even:
        low, high = -max(-low, high), max(-low, high)
    return low, high


def draw_signal(
    ax: Axes, bins: Bins, view: View, colours: Sequence[Any], limits: tuple[float, float]
) -> None:
    """A signal as filled steps; of two colours the second is for what lies below 0."""
    values, edges = bins.steps(view, MOST_STEPS)
    parts = [values] if len(colours) == 1 else [np.maximum(values, 0.0), np.minimum(values, 0.0)]
    for part, colour in zip(parts, colours, strict=True):
        if values.size:
            ax.stairs(part, edges, fill=True, facecolor=colour, edgecolor=colour, linewidth=0.4)
    if np.isnan(values).all():
        _say(ax, "no values here")
    _scale(ax, *limits)


def _scale(ax: Axes, low: float, high: float) -> None:
    span = high - low or 1.0  # of nothing but 0 no scale can be told
    room = 0.04 * span
    # Below 0 too: the base line tells a value of 0 from a gap.
    ax.set_ylim(low - room, low + span + room)
    apart = 0.25 * span  # so that what is written at ticks does not overlap
    ticks = sorted([0.0, *(end for end in (low, high) if abs(end) >= apart)])
    ax.set_yticks(ticks, [_number(tick) for tick in ticks], fontsize=SMALL - 0.5)
    ax.tick_params(axis="y", length=2, pad=1.5, width=0.6)
    ax.spines["left"].set_linewidth(0.6)


def _number(value: float) -> str:
    return f"{value:,.0f}" if 1_000 <= abs(value) < 1_000_000 else f"{value:.3g}"


# ---- marks in rows -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Placed:
    """A mark, the row it stands in, and where what is written at it begins (a position)."""

    mark: Mark
    row: int
    text: str
    left: float


def place(
    marks: list[Mark], view: View, bp_per_inch: float, *, above: bool, most_rows: int
) -> list[Placed]:
    """Put marks into rows so that neither they nor their names overlap.

    Names stand ``above`` their marks, or else to their right, or to the left where that is outside
    the view. Where more than ``most_rows`` rows would be needed, names are left out.
    """
    if len(marks) > most_rows * _MOST_IN_ROW and any(mark.name for mark in marks):
        marks = without_names(marks)  # which are not even measured
    texts = [_text(mark, view, bp_per_inch) if above else mark.name for mark in marks]
    spans = [
        _span(mark, view, width_of(text) * bp_per_inch, _AIR * bp_per_inch, above=above)
        for mark, text in zip(marks, texts, strict=True)
    ]
    air = (2 if any(texts) else 0.2) * _AIR * bp_per_inch
    rows = rows_of([left for left, _, _ in spans], [right + air for _, right, _ in spans])
    if max(rows, default=0) >= most_rows and any(texts):
        return place(without_names(marks), view, bp_per_inch, above=above, most_rows=most_rows)
    return [
        Placed(mark, row, text, left)
        for mark, row, text, (_, _, left) in zip(marks, rows, texts, spans, strict=True)
    ]


def n_rows(placed: Sequence[Placed]) -> int:
    """Rows that are taken."""
    return 1 + max((each.row for each in placed), default=0)


def _visible(mark: Mark, view: View) -> tuple[int, int]:
    return max(mark.start, view.start), min(mark.end, view.end)


def _text(mark: Mark, view: View, bp_per_inch: float) -> str:
    """A gene's name, with its direction where there is no room to show it on the gene."""
    if not mark.name or not mark.strand or _chevrons(mark, view, bp_per_inch):
        return mark.name
    return f"{mark.name} >" if mark.strand > 0 else f"< {mark.name}"


def _span(
    mark: Mark, view: View, width: float, air: float, *, above: bool
) -> tuple[float, float, float]:
    """Left and right end of a mark with its name, and the left end of the name."""
    start, end = _visible(mark, view)
    if not width:
        return start, end, start
    left = end + air
    if above or (left + width > view.end and start - air - width < view.start):
        left = min(max((start + end - width) / 2, view.start), max(view.end - width, view.start))
    elif left + width > view.end:
        left = start - air - width
    return min(start, left), max(end, left + width), left


def _write(ax: Axes, placed: Sequence[Placed], down: float, *, slanted: bool = False) -> None:
    for each in placed:
        if each.text:
            ax.text(
                each.left,
                each.row + down,
                _plain(each.text),
                fontsize=SMALL,
                va="center",
                ha="left",
                clip_on=True,
                style="italic" if slanted else "normal",
            )


def _rows_only(ax: Axes, placed: Sequence[Placed], kind: str) -> None:
    ax.set_ylim(n_rows(placed), 0)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    if not placed:
        _say(ax, f"no {kind} here")


def draw_genes(ax: Axes, placed: Sequence[Placed], view: View, bp_per_inch: float) -> None:
    """Genes: a line from end to end, boxes for exons (taller where translated), and chevrons."""
    from matplotlib.collections import LineCollection

    _rows_only(ax, placed, "genes")
    named = any(each.text for each in placed)
    coded = any(each.mark.coding for each in placed)
    middle, half = (0.72, 0.2) if named else (0.5, 0.34)
    lines: list[Any] = []
    boxes: list[Any] = []
    dark: list[Any] = []
    light: list[Any] = []
    for each in placed:
        mark, y = each.mark, each.row + middle
        lines.append([(mark.start, y), (mark.end, y)])
        height = half * (0.55 if coded else 1.0)
        for stretches, tall in ((mark.exons, height), (mark.coding, half)):
            boxes += [_box(start, end, y - tall, y + tall) for start, end in stretches]
        for x, inside in _chevrons(mark, view, bp_per_inch):
            reach = 0.025 * bp_per_inch * mark.strand
            (light if inside else dark).append(
                [(x - reach, y - half / 2), (x + reach, y), (x - reach, y + half / 2)]
            )
    ax.add_collection(LineCollection(lines, colors=_GENE, linewidths=0.8), autolim=False)
    _fill(ax, boxes, _GENE)
    for shapes, colour in ((dark, _GENE), (light, "white")):
        ax.add_collection(LineCollection(shapes, colors=colour, linewidths=0.8), autolim=False)
    _write(ax, placed, 0.26, slanted=True)


def _box(left: float, right: float, top: float, bottom: float) -> list[tuple[float, float]]:
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def _fill(ax: Axes, boxes: list[Any], colour: str) -> None:
    """Boxes, each with an edge that shows the narrowest."""
    from matplotlib.collections import PolyCollection

    if boxes:
        filled = PolyCollection(boxes, facecolors=colour, edgecolors=colour, linewidths=0.5)
        ax.add_collection(filled, autolim=False)


def _chevrons(mark: Mark, view: View, bp_per_inch: float) -> list[tuple[float, bool]]:
    """Where a gene's direction is shown, and whether on an exon; not across an exon's ends."""
    start, end = _visible(mark, view)
    step = _CHEVRONS * bp_per_inch
    if not mark.strand or end - start < step:
        return []
    number = int((end - start) / step)
    centres = start + (np.arange(number) + 0.5) * (end - start) / number
    near = 0.04 * bp_per_inch
    edges = np.array([edge for exon in mark.exons for edge in exon], np.float64)
    left, right = (np.searchsorted(edges, centres + by) for by in (-near, near))
    return [(float(x), bool(i % 2)) for x, i, j in zip(centres, left, right, strict=True) if i == j]


def draw_regions(ax: Axes, placed: Sequence[Placed]) -> None:
    """Regions as boxes, with their names beside them."""
    _rows_only(ax, placed, "regions")
    boxes = [_box(p.mark.start, p.mark.end, p.row + 0.25, p.row + 0.75) for p in placed]
    _fill(ax, boxes, _BOX)
    _write(ax, placed, 0.5)


def draw_variants(ax: Axes, placed: Sequence[Placed]) -> None:
    """Variants as triangles that point down, with their names beside them."""
    _rows_only(ax, placed, "variants")
    x = [middle_of(each.mark) for each in placed]
    y = [each.row + 0.5 for each in placed]
    ax.plot(x, y, linestyle="none", marker="v", markersize=4, color=_RED, clip_on=False)
    stems = [n_rows(placed)] * len(x)
    ax.vlines(x, y, stems, color=_RED, linewidth=0.7)
    _write(ax, placed, 0.5)


def middle_of(variant: Mark) -> float:
    """Where the line of a variant is: in the middle of its first base."""
    return variant.start + 0.5


def mark_across(ax: Axes, regions: Sequence[Mark], variants: Sequence[Mark]) -> None:
    """Shade regions and draw a line at variants, from the bottom of a panel to its top."""
    whole = ax.get_xaxis_transform()
    if regions:
        spans = [(mark.start, mark.end - mark.start) for mark in regions]
        ax.broken_barh(
            spans,
            (0, 1),
            transform=whole,
            facecolor=_SHADE,
            edgecolor=_SHADE,
            zorder=0,
            linewidth=0.4,
        )
    if variants:
        x = [middle_of(mark) for mark in variants]
        ax.vlines(x, 0, 1, transform=whole, color=_RED, linewidth=0.7, linestyle=(0, (3, 2)))


# ---- positions -----------------------------------------------------------------------------------


def draw_positions(ax: Axes, view: View, inches: float, genome: str | None) -> None:
    """Ticks in bp, kb or Mb below a panel, as many as have room."""
    from matplotlib.ticker import MaxNLocator

    number = max(int(inches / 0.9), 2)
    unit, bp = next(
        (name, bp)
        for least, name, bp in ((10_000, "Mb", 1_000_000), (100, "kb", 1_000), (0, "bp", 1))
        if view.length / number >= least
    )
    ax.xaxis.set_major_locator(MaxNLocator(number, steps=[1, 2, 5, 10], integer=True))
    ax.xaxis.set_major_formatter(_in_unit(bp)())
    ax.tick_params(axis="x", bottom=True, labelbottom=True, labelsize=SMALL + 0.5, length=3)
    ax.spines["bottom"].set_visible(True)
    of = f", {genome}" if genome else ""
    ax.set_xlabel(_plain(f"position on {view.chrom} ({unit}{of})"), fontsize=SMALL + 1)


def _in_unit(bp: int) -> Callable[[], Any]:
    """A formatter of positions that writes as many decimals as its ticks differ by."""
    from matplotlib.ticker import Formatter

    class Positions(Formatter):
        def __call__(self, x: float, pos: int | None = None) -> str:
            return f"{x / bp:,.6f}".rstrip("0").rstrip(".")

        def format_ticks(self, values: Any) -> list[str]:
            steps = np.diff(np.sort(np.asarray(values, np.float64))) / bp
            least = float(steps[steps > 0].min()) if (steps > 0).any() else 1.0
            decimals = min(max(-int(np.floor(np.log10(least) + 1e-9)), 0), 6)
            return [f"{x / bp:,.{decimals}f}" for x in values]

    return Positions
