from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from .._messages import first_names
from .._run_log import read_history
from ._figure import finish, panels

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_BLUE, _ORANGE, _GREY = "#3b6ea5", "#c85200", "#888888"
_SIDES = {"train": _BLUE, "held_out": _ORANGE}


def training(
    run: Any,
    *,
    scores: Sequence[str] | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes | list[Axes] | None:
    """Draw how a training went: the loss, and the scores that were logged, against the steps.

    Where held-out loss rises while training loss falls, the model learns its data by heart. The
    dotted line marks the epoch that was chosen, which what ``fit`` returned tells; of a history or
    a folder it marks where held-out loss is lowest.

    Parameters
    ----------
    run
        What :func:`glm.train.fit` returned; its history; or the folder of a run, which may still be
        under way (of :func:`glm.tl.finetune` and :func:`glm.tl.pretrain` the folder ``out``).
    scores
        Which to draw beside the loss, and in what order: ``["accuracy"]``, ``["pearson_CAGE"]``
        (names of the log without ``train_`` and ``held_out_``); ``None`` draws all.
    ax
        Axes to draw the loss on, alone; ``None`` makes a figure with a panel for each score.
    show
        Show the figure and return nothing; ``None`` does so where matplotlib is interactive.
    save
        File to write the figure to.

    Returns
    -------
    The axes, a list of them if there are scores, or ``None`` if the figure was shown.

    Raises
    ------
    KeyError
        If no such score was logged.
    ValueError
        If nothing was logged.

    Examples
    --------
    >>> import glm, pandas as pd
    >>> history = pd.DataFrame(
    ...     {
    ...         "epoch": [0, 0],
    ...         "step": [9, 12],
    ...         "train_loss": [2.1, None],
    ...         "held_out_loss": [None, 2.0],
    ...     }
    ... )
    >>> ax = glm.pl.training(history, show=False)
    >>> ax.get_ylabel()
    'loss'
    """
    history = _history(run)
    names = _names(history)
    if not names:
        raise ValueError("Nothing was logged in this run yet: there is nothing to draw.")
    if scores is not None:
        names = [*names[:1], *_asked(scores, names)]
    names = names[:1] if ax is not None else names
    figure, axes = panels(len(names), (4.8, 3.6), ax)
    best = _best_step(history, getattr(run, "best_epoch", None))
    for drawn, name in zip(axes, names, strict=True):
        _draw(drawn, history, name, best)
    axes[0].legend(fontsize="small", frameon=False)
    return finish(figure, axes, ax, show=show, save=save)


def _history(run: Any) -> pd.DataFrame:
    import pandas as pd

    if isinstance(run, pd.DataFrame):
        return run
    if isinstance(run, str | Path):
        folder = Path(run).expanduser()
        if not folder.is_dir():
            raise ValueError(f"{folder} is no folder of a run.")
        inner = folder / "run"
        return read_history(inner if inner.is_dir() else folder)
    if hasattr(run, "history"):
        return cast("pd.DataFrame", run.history)
    raise TypeError(
        f"Got a {type(run).__name__}; expected what glm.train.fit returns, its history, or the "
        "folder of a run."
    )


def _names(history: pd.DataFrame) -> list[str]:
    """What was measured, the loss first."""
    found = [
        str(column).removeprefix(f"{side}_")
        for side in _SIDES
        for column in history.columns
        if str(column).startswith(f"{side}_") and history[column].notna().any()
    ]
    return sorted(dict.fromkeys(found), key=lambda name: (name != "loss", name))


def _asked(scores: Sequence[str], names: list[str]) -> list[str]:
    asked = [scores] if isinstance(scores, str) else list(scores)
    if unknown := [score for score in asked if score not in names]:
        raise KeyError(
            f"No score {first_names(unknown)} was logged in this run; there is "
            f"{first_names(names, len(names))}."
        )
    return [score for score in asked if score != names[0]]


def _best_step(history: pd.DataFrame, epoch: int | None) -> tuple[float, str] | None:
    """The step to mark, and what it is."""
    if "held_out_loss" not in history or history["held_out_loss"].notna().sum() < 2:
        return None
    measured = history[history["held_out_loss"].notna()]
    if epoch is not None and (measured["epoch"] == epoch).any():
        return float(measured["step"][measured["epoch"] == epoch].max()), "best epoch"
    return float(history["step"][history["held_out_loss"].idxmin()]), "lowest held-out loss"


def _draw(ax: Axes, history: pd.DataFrame, name: str, best: tuple[float, str] | None) -> None:
    for side, colour in _SIDES.items():
        column = f"{side}_{name}"
        if column not in history:
            continue
        seen = history[history[column].notna()]
        few = len(seen) <= 40
        ax.plot(
            seen["step"], seen[column], color=colour, linewidth=1.5,
            marker="o" if few and side == "held_out" else None, markersize=3.5,
            alpha=1.0 if side == "held_out" else 0.8, label=side.replace("_", " "),
        )  # fmt: skip
    if best is not None:
        step, label = best
        ax.axvline(step, color=_GREY, linestyle=":", linewidth=1.2, label=label)
    ax.set(xlabel="step", ylabel=name.replace("_", " "))
    ax.spines[["top", "right"]].set_visible(False)
