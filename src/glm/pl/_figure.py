"""What plots have in common: panels, showing, saving."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .._atomic import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANELS_IN_ROW = 4


def panels(
    number: int, size: tuple[float, float], ax: Axes | None, *, beside: float = 0.0
) -> tuple[Figure, list[Axes]]:
    """The given axes, or a new figure of so many panels of ``size`` inches each.

    ``beside``: inches for what stands to the right of the panel :func:`last_of_row` names.
    """
    if ax is not None:
        return ax.figure, [ax]  # type: ignore[return-value]
    from matplotlib import pyplot as plt

    n_columns, n_rows = _grid(number)
    figure, grid = plt.subplots(
        n_rows,
        n_columns,
        figsize=(size[0] * n_columns + beside, size[1] * n_rows),
        squeeze=False,
        layout="constrained",
    )
    axes = list(grid.flat)
    for spare in axes[number:]:
        spare.remove()
    return figure, axes[:number]


def last_of_row(number: int) -> int:
    """Which of so many panels is the last of the first row, with room to its right."""
    return _grid(number)[0] - 1


def _grid(number: int) -> tuple[int, int]:
    """Columns and rows: no more in a row than fit, and rows about equally long."""
    n_rows = -(-number // _PANELS_IN_ROW)
    return -(-number // n_rows), n_rows


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
