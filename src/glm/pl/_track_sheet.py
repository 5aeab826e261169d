"""The sheet that tracks are drawn on: which panels there are, how high, in what colours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ._track_drawing import (
    LINE,
    draw_genes,
    draw_positions,
    draw_regions,
    draw_signal,
    draw_variants,
    limits_of,
    mark_across,
    n_rows,
    place,
    width_of,
    wrapped,
    write_beside,
)
from ._track_marks import Mark
from ._track_sources import Entry
from ._track_view import Bins, View

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ASSAYS = {
    "CAGE": "#b5442e",
    "DNASE": "#2a7f62",
    "ATAC": "#4f9e6f",
    "CHIP": "#5b5ea6",
    "RNA": "#c28a17",
}
_OTHERS = ("#3b6ea5", "#8c5a2b", "#9b4f96", "#5f7d1f", "#20808d")
_COMPARED, _MORE, _LESS = "#6b6b6b", "#c85200", "#3b6ea5"

# Inches: between panels of one track and of two, and around all of them.
_WITHIN, _BETWEEN = 0.09, 0.16
_TICKS, _RIGHT, _BELOW, _TOP = 0.48, 0.25, 0.5, 0.08
_LEAST_WIDTH = 1.0
# Inches of a row, and the most rows before names are left out.
_GENES, _BARE, _REGIONS, _VARIANTS = 0.31, 0.14, 0.17, 0.16
_MOST_GENES, _MOST_REGIONS, _MOST_VARIANTS = 14, 5, 6


@dataclass(frozen=True)
class Lane:
    """A signal to draw: of a track itself, of what it is compared with, or their difference."""

    kind: str  # "", "compare", "difference"
    entry: Entry
    bins: Bins


@dataclass
class _Panel:
    height: float
    gap: float  # inches above it
    label: str
    written: str  # beside it
    draw: Callable[[Axes], None]


class Sheet:
    """Everything that is to be drawn, read and checked.

    Parameters
    ----------
    view
        What part of the genome is drawn.
    lanes
        Signals from top to bottom.
    genes, regions, variants
        What is marked; ``None``, or no row of regions, where nothing was asked for.
    labels
        What a signal and the one it is compared with are called.
    share_y
        Which signals have the same limits.
    colours
        Colours that were asked for, by track or assay.
    genome
        What is written at the axis.
    """

    def __init__(
        self,
        view: View,
        lanes: Sequence[Lane],
        genes: list[Mark] | None,
        regions: dict[str, list[Mark]],
        variants: list[Mark] | None,
        *,
        labels: tuple[str, str],
        share_y: str | None,
        colours: dict[str, Any],
        genome: str | None,
    ) -> None:
        self._view, self._lanes, self._genome = view, lanes, genome
        self._genes, self._regions, self._variants = genes, regions, variants
        self._labels, self._share_y, self._colours = labels, share_y, colours

    def draw(self, width: float, track_height: float, ax: Axes | None) -> tuple[Figure, list[Axes]]:
        """Draw on a new figure, or in the place of ``ax``; the panels from top to bottom.

        Raises
        ------
        ValueError
            If the figure has no width left beside the labels.
        """
        if ax is not None:
            box = ax.get_window_extent()
            inches, room = box.width / ax.figure.dpi, box.height / ax.figure.dpi
            # Rows of marks keep their height where there is room; tracks share what is left.
            others = self._height(self._panels(0.0, inches))
            track_height = max((room - others) / len(self._lanes), 0.05)
            panels = self._panels(track_height, inches)
            return self._in_place_of(ax, panels, inches)
        left = _TICKS + max(width_of(line) for line in self._lines(track_height)) + 0.1
        inches = width - left - _RIGHT
        if inches < _LEAST_WIDTH:
            raise ValueError(
                f"width is {width} inches, of which {left + _RIGHT:.1f} are taken by labels: "
                f"expected at least {left + _RIGHT + _LEAST_WIDTH:.1f}."
            )
        panels = self._panels(track_height, inches)
        return self._on_figure(panels, left, inches, width)

    # ---- what there is ---------------------------------------------------------------------------

    def _panels(self, track_height: float, inches: float) -> list[_Panel]:
        bp_per_inch = self._view.length / inches
        panels = [] if self._variants is None else [self._of_variants(bp_per_inch)]
        panels += self._of_lanes(track_height)
        if self._genes is not None:
            panels.append(self._of_genes(bp_per_inch))
        panels += [self._of_regions(title, bp_per_inch) for title in self._regions]
        panels[0].gap = 0.0
        return panels

    def _of_variants(self, bp_per_inch: float) -> _Panel:
        placed = place(
            self._variants or [], self._view, bp_per_inch, above=False, most_rows=_MOST_VARIANTS
        )

        def draw(ax: Axes) -> None:
            draw_variants(ax, placed)

        return _Panel(_VARIANTS * n_rows(placed), 0.0, "variants", "variants", draw)

    def _of_genes(self, bp_per_inch: float) -> _Panel:
        placed = place(
            self._genes or [], self._view, bp_per_inch, above=True, most_rows=_MOST_GENES
        )
        height = _GENES if not placed or any(each.text for each in placed) else _BARE

        def draw(ax: Axes) -> None:
            draw_genes(ax, placed, self._view, bp_per_inch)

        return _Panel(height * n_rows(placed), _BETWEEN, "genes", "genes", draw)

    def _of_regions(self, title: str, bp_per_inch: float) -> _Panel:
        placed = place(
            self._regions[title], self._view, bp_per_inch, above=False, most_rows=_MOST_REGIONS
        )

        def draw(ax: Axes) -> None:
            draw_regions(ax, placed)

        return _Panel(_REGIONS * n_rows(placed), _WITHIN, title, wrapped(title, 1), draw)

    def _of_lanes(self, track_height: float) -> list[_Panel]:
        limits = self._limits()
        colours = self._shades()
        panels = []
        for number, lane in enumerate(self._lanes):

            def draw(ax: Axes, number: int = number, lane: Lane = lane) -> None:
                draw_signal(ax, lane.bins, self._view, colours[number], limits[number])
                shaded = [mark for marks in self._regions.values() for mark in marks]
                mark_across(ax, shaded, self._variants or [])

            name = f"{lane.entry.name} {lane.kind}".strip()
            gap = _WITHIN if lane.kind else _BETWEEN
            written = self._written(lane, track_height)
            panels.append(_Panel(track_height, gap, name, written, draw))
        return panels

    # ---- labels, limits, colours -----------------------------------------------------------------

    def _written(self, lane: Lane, track_height: float) -> str:
        """What stands beside a signal, in as many lines as its height has room for."""
        one, other = self._labels
        if lane.kind:
            return wrapped(other if lane.kind == "compare" else f"{one} \N{MINUS SIGN} {other}", 2)
        n_lines = max(int((track_height + _WITHIN) / LINE), 1)
        entry = lane.entry
        label = entry.label
        if sum(each.entry.label == label for each in self._lanes if not each.kind) > 1:
            label = f"{entry.assay} {entry.name}\n{entry.sample}".strip()
        if n_lines == 1:
            label = label.replace("\n", " ")
        own = wrapped(label, max(min(n_lines - bool(one), 3), 1))
        return f"{own}\n{one}" if one and n_lines > 1 else own

    def _lines(self, track_height: float) -> list[str]:
        beside = [self._written(lane, track_height) for lane in self._lanes]
        return [line for text in (*beside, "variants", *self._regions) for line in text.split("\n")]

    def _limits(self) -> list[tuple[float, float]]:
        def sharing(number: int, lane: Lane) -> tuple[Any, ...]:
            is_difference = lane.kind == "difference"
            if self._share_y is None:
                return (number,)
            by = {"track": id(lane.entry), "assay": lane.entry.assay, "all": None}
            return by[self._share_y], is_difference

        groups: dict[tuple[Any, ...], list[Lane]] = {}
        for number, lane in enumerate(self._lanes):
            groups.setdefault(sharing(number, lane), []).append(lane)
        limits = {
            group: limits_of([lane.bins for lane in lanes], even=lanes[0].kind == "difference")
            for group, lanes in groups.items()
        }
        return [limits[sharing(number, lane)] for number, lane in enumerate(self._lanes)]

    def _shades(self) -> list[tuple[Any, ...]]:
        """A colour for a signal, two for a difference."""
        assays = dict.fromkeys(lane.entry.assay for lane in self._lanes)
        others = [assay for assay in assays if assay.upper() not in _ASSAYS]
        by_assay = {assay: _ASSAYS.get(assay.upper()) for assay in assays}
        by_assay |= {assay: _OTHERS[i % len(_OTHERS)] for i, assay in enumerate(others)}
        by_assay |= {name: shade for name, shade in self._colours.items() if name in assays}

        def own(entry: Entry) -> Any:
            named = [self._colours[name] for name in entry.names if name in self._colours]
            return named[0] if named else by_assay[entry.assay]

        kinds = {"compare": (_COMPARED,), "difference": (_MORE, _LESS)}
        return [kinds.get(lane.kind) or (own(lane.entry),) for lane in self._lanes]

    # ---- on paper --------------------------------------------------------------------------------

    @staticmethod
    def _height(panels: Sequence[_Panel]) -> float:
        return sum(panel.height + panel.gap for panel in panels)

    def _on_figure(
        self, panels: list[_Panel], left: float, inches: float, width: float
    ) -> tuple[Figure, list[Axes]]:
        from matplotlib import pyplot as plt

        height = _TOP + self._height(panels) + _BELOW
        figure = plt.figure(figsize=(width, height))

        def make(down: float, high: float, **options: Any) -> Axes:
            bottom = height - _TOP - down - high
            box = (left / width, bottom / height, inches / width, high / height)
            return figure.add_axes(box, **options)

        return figure, self._fill(panels, make, inches)

    def _in_place_of(
        self, ax: Axes, panels: list[_Panel], inches: float
    ) -> tuple[Figure, list[Axes]]:
        total = self._height(panels)
        ax.set_axis_off()

        def make(down: float, high: float, **options: Any) -> Axes:
            return ax.inset_axes((0.0, 1 - (down + high) / total, 1.0, high / total), **options)

        return ax.figure, self._fill(panels, make, inches)  # type: ignore[return-value]

    def _fill(self, panels: list[_Panel], make: Callable[..., Axes], inches: float) -> list[Axes]:
        axes: list[Axes] = []
        down = 0.0
        for panel in panels:
            down += panel.gap
            ax = make(down, panel.height, label=panel.label, sharex=axes[0] if axes else None)
            down += panel.height
            ax.patch.set_visible(False)  # what is written above a panel may reach into the next
            ax.spines[["top", "right", "bottom"]].set_visible(False)
            ax.tick_params(axis="x", bottom=False, labelbottom=False)
            panel.draw(ax)
            write_beside(ax, panel.written, away=_TICKS)
            axes.append(ax)
        axes[0].set_xlim(self._view.start, self._view.end)
        draw_positions(axes[-1], self._view, inches, self._genome)
        return axes
