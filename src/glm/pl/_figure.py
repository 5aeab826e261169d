"""What plots have in common: panels, showing, saving."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .._atomic import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANELS_IN_ROW = 4


def panels(number: int, size: tuple[float, float], ax: Axes | None) -> tuple[Figure, list[Axes]]:
    """The given axes, or a new figure of so many panels of ``size`` inches each."""
    if ax is not None:
        return ax.figure, [ax]  # type: ignore[return-value]
    from matplotlib import pyplot as plt

    n_columns = min(number, _PANELS_IN_ROW)
    n_rows = -(-number // n_columns)
    figure, grid = plt.subplots(
        n_rows,
        n_columns,
        figsize=(size[0] * n_columns, size[1] * n_rows),
        squeeze=False,
        layout="constrained",
    )
    axes = list(grid.flat)
    for spare in axes[number:]:
        spare.remove()
    return figure, axes[:number]


def finish(
    figure: Figure,
    axes: list[Axes],
    given: Axes | None,
    *,
    show: bool | None,
    save: str | Path | None,
) -> Axes | list[Axes] | None:
    """Save and show as asked; the axes, unless the figure was shown."""
    if save is not None:
        path = Path(save).expanduser()
        kind = path.suffix.removeprefix(".") or "png"
        with replacing(path) as beside:
            figure.savefig(beside, format=kind, bbox_inches="tight", dpi=150)
    if show is None:
        import matplotlib

        show = given is None and matplotlib.is_interactive()
    if show:
        from matplotlib import pyplot as plt

        plt.show()
        return None
    return axes[0] if len(axes) == 1 else axes
