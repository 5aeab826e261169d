from __future__ import annotations

from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from ._figure import finish, panels
from ._predictions import Judged, read_predictions

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes

_MOST_WRITTEN = 15  # classes up to which every square holds its number


def confusion(
    adata: AnnData,
    target: str,
    *,
    key: str = "geneformer",
    truth: str | None = None,
    held_out: bool | None = None,
    axis: Literal["obs", "var"] | None = None,
    normalize: bool = True,
    cmap: str = "Blues",
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes | None:
    """Draw which classes are taken for which: true classes in rows, predicted ones in columns.

    Each square is the share of its row, so the diagonal shows how many of each class are found;
    the number of rows of a class stands beside its name.

    Parameters
    ----------
    adata
        An object that :func:`glm.tl.finetune` or :func:`glm.tl.predict` has written to.
    target
        What was predicted, such as ``"cell_type"``.
    key
        Name in the slots.
    truth
        Column with the true classes; ``None`` is ``target``.
    held_out
        Whether to take the predictions that fine-tuning made of rows it was not trained on, or
        those of :func:`glm.tl.predict`; ``None`` takes the first that are there, in this order.
    axis
        ``"obs"`` for cells, ``"var"`` for genes; ``None`` looks where the predictions are.
    normalize
        Show shares of the row; else numbers.
    cmap
        Colour map.
    ax
        Axes to draw on; ``None`` makes a figure.
    show
        Show the figure and return nothing; ``None`` does so where matplotlib is interactive.
    save
        File to write the figure to.

    Returns
    -------
    The axes, or ``None`` if the figure was shown.

    Raises
    ------
    KeyError
        If there are no predictions of ``target``, or no true classes.
    ValueError
        If no row has both, or predictions are amounts.

    Examples
    --------
    >>> import glm, numpy as np, pandas as pd
    >>> adata = glm.datasets.toy_cells(n_cells=4)
    >>> adata.obs["kind"] = ["a", "a", "b", "b"]
    >>> adata.obs["kind_geneformer"] = pd.Categorical(["a", "b", "b", "b"])
    >>> ax = glm.pl.confusion(adata, "kind", show=False)
    >>> ax.get_xlabel()
    'predicted'
    """
    judged = read_predictions(adata, target, key=key, truth=truth, held_out=held_out, axis=axis)
    n = len(judged.classes)
    side = float(np.clip(0.45 * n + 2.2, 3.6, 14.0))
    figure, [drawn] = panels(1, (side + 0.8, side), ax)
    _draw(drawn, judged, normalize=normalize, cmap=cmap)
    return cast("Axes | None", finish(figure, [drawn], ax, show=show, save=save))


def count_confusion(judged: Judged) -> np.ndarray:
    """int64, true classes × predicted classes."""
    n = len(judged.classes)
    return np.bincount(n * judged.truth + judged.predicted, minlength=n * n).reshape(n, n)


def _draw(ax: Axes, judged: Judged, *, normalize: bool, cmap: str) -> None:
    counts = count_confusion(judged)
    of_class = counts.sum(axis=1, keepdims=True)
    shown = counts / np.maximum(of_class, 1) if normalize else counts.astype(np.float64)
    top = 1.0 if normalize else max(float(shown.max()), 1.0)
    image = ax.imshow(shown, cmap=cmap, vmin=0, vmax=top, interpolation="nearest")
    of_each = of_class[:, 0].tolist()
    names = [f"{name} ({n:,})" for name, n in zip(judged.classes, of_each, strict=True)]
    font = float(np.clip(160 / len(names), 5.0, 10.0))
    places = np.arange(len(names))
    ax.set_xticks(places, judged.classes, rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks(places, names)
    ax.tick_params(length=0, labelsize=font)
    ax.set(xlabel="predicted", ylabel="true")
    ax.set_title(_title(judged, counts), loc="left", fontsize="medium")
    if len(names) <= _MOST_WRITTEN:
        _write_numbers(ax, shown, counts, top, font=0.85 * font, percent=normalize)
    bar = ax.figure.colorbar(image, ax=ax, fraction=0.04, pad=0.02)
    bar.set_label("share of the true class" if normalize else judged.what)
    if normalize:
        from matplotlib.ticker import PercentFormatter

        bar.ax.yaxis.set_major_formatter(PercentFormatter(1.0))


def _title(judged: Judged, counts: np.ndarray) -> str:
    of_class = counts.sum(axis=1)
    recalls = np.diagonal(counts)[of_class > 0] / of_class[of_class > 0]
    return (
        f"{judged.title}: {100 * judged.right.mean():.0f}% right,\n"
        f"{100 * recalls.mean():.0f}% on average over classes"
    )


def _write_numbers(
    ax: Axes, shown: np.ndarray, counts: np.ndarray, top: float, *, font: float, percent: bool
) -> None:
    """Shares in per cent, or numbers, in the squares that are not empty."""
    for i, j in zip(*np.nonzero(counts), strict=True):
        text = f"{100 * shown[i, j]:.0f}" if percent else f"{counts[i, j]:,}"
        colour = "white" if shown[i, j] > 0.55 * top else "black"
        ax.text(j, i, text, ha="center", va="center", fontsize=font, color=colour)
