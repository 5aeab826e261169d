"""Colours of genes by a column of ``var``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

_MISSING = (0.72, 0.72, 0.72, 1.0)


@dataclass(frozen=True)
class Annotation:
    """A colour a gene, and what the colours mean.

    Attributes
    ----------
    name
        The column.
    colours
        float, genes × 4.
    labels
        The label of each gene, ``""`` where it is missing; empty for numbers.
    legend
        Label → colour; empty for numbers.
    scale
        For numbers what turns them into colours, else ``None``.
    """

    name: str
    colours: np.ndarray
    labels: np.ndarray
    legend: dict[str, Any]
    scale: Any = None

    @classmethod
    def read(cls, adata: AnnData, column: str) -> Annotation:
        """Colours of all genes by a column of ``var``."""
        if column not in adata.var:
            raise KeyError(
                f"adata.var has no column {column!r}; it has "
                f"{', '.join(map(str, adata.var.columns)) or 'no columns'}."
            )
        values = adata.var[column]
        if values.dtype.kind in "iuf":
            return cls._of_numbers(column, values.to_numpy(dtype=np.float64))
        return cls._of_labels(adata, column)

    @classmethod
    def _of_numbers(cls, column: str, values: np.ndarray) -> Annotation:
        from matplotlib.cm import ScalarMappable

        scale = ScalarMappable(cmap="cividis")
        finite = np.isfinite(values)
        scale.set_clim(*((values[finite].min(), values[finite].max()) if finite.any() else (0, 1)))
        colours = np.array(scale.to_rgba(values))
        colours[~finite] = _MISSING
        return cls(column, colours, np.zeros(0, dtype=object), {}, scale)

    @classmethod
    def _of_labels(cls, adata: AnnData, column: str) -> Annotation:
        from matplotlib.colors import to_rgba

        values = adata.var[column].astype("category")
        names = [str(name) for name in values.cat.categories]
        own = list(adata.uns.get(f"{column}_colors", []))
        shades = own if len(own) == len(names) else _palette(len(names))
        legend = {name: to_rgba(shade) for name, shade in zip(names, shades, strict=True)}
        codes = values.cat.codes.to_numpy()
        table = np.array([*legend.values(), _MISSING])  # the code -1 is the last
        return cls(column, table[codes], np.array([*names, ""], dtype=object)[codes], legend)

    def take(self, genes: np.ndarray) -> Annotation:
        """The annotation of some genes; the legend keeps the labels they have."""
        labels = self.labels[genes] if self.scale is None else self.labels
        here = {name: shade for name, shade in self.legend.items() if name in set(labels)}
        return replace(self, colours=self.colours[genes], labels=labels, legend=here)

    def draw_legend(self, ax: Axes, anchor: tuple[float, float]) -> None:
        """Say beside ``ax`` what the colours mean, from ``anchor`` (of the axes) to the right."""
        from matplotlib.patches import Patch

        if self.scale is not None:
            inset = ax.inset_axes((anchor[0], 0.6, 0.03, 0.4))
            ax.figure.colorbar(self.scale, cax=inset, label=self.name)
            return
        legend = dict(self.legend)
        if "" in set(self.labels):
            legend["none"] = _MISSING
        patches = [Patch(color=shade, label=name) for name, shade in legend.items()]
        ax.legend(
            handles=patches,
            title=self.name,
            loc="upper left",
            bbox_to_anchor=anchor,
            frameon=False,
            fontsize="small",
            title_fontsize="small",
            borderaxespad=0,
            alignment="left",
        )


def _palette(number: int) -> list[Any]:
    import matplotlib

    if number <= 10:
        return [matplotlib.colormaps["tab10"](i) for i in range(number)]
    return [matplotlib.colormaps["gist_ncar"](x) for x in np.linspace(0.05, 0.95, number)]
