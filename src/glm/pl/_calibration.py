from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, cast

import numpy as np

from ._figure import finish, panels
from ._predictions import read_predictions

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes

_BLUE, _PALE, _GREY = "#3b6ea5", "#c9d8e8", "#888888"


def calibration(
    adata: AnnData,
    target: str,
    *,
    key: str = "geneformer",
    truth: str | None = None,
    held_out: bool | None = None,
    axis: Literal["obs", "var"] | None = None,
    n_bins: int = 10,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes | None:
    """Draw how often predictions of a confidence are right: on the diagonal it means what it says.

    Points are bins of confidence, with the interval in which the true share lies at 95% (Wilson);
    below them a histogram of confidence. The title gives the expected calibration error: the
    distance to the diagonal, averaged over rows.

    Parameters
    ----------
    adata, target, key, truth, held_out, axis
        As for :func:`glm.pl.confusion`.
    n_bins
        Bins of equal width from 0 to 1; those without a row are left out.
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
        If there are no predictions of ``target`` with a confidence, or no true classes.
    ValueError
        If no row has both.

    Examples
    --------
    >>> import glm, pandas as pd
    >>> adata = glm.datasets.toy_cells(n_cells=4)
    >>> adata.obs["kind"] = ["a", "a", "b", "b"]
    >>> adata.obs["kind_geneformer"] = pd.Categorical(["a", "b", "b", "b"])
    >>> adata.obs["kind_geneformer_confidence"] = [0.9, 0.6, 0.8, 0.9]
    >>> ax = glm.pl.calibration(adata, "kind", show=False)
    >>> ax.get_xlabel()
    'confidence'
    """
    if n_bins < 1:
        raise ValueError(f"n_bins is {n_bins}; expected at least 1.")
    judged = read_predictions(adata, target, key=key, truth=truth, held_out=held_out, axis=axis)
    if judged.confidence is None:
        raise KeyError(
            f"The predictions of {target!r} under the key {key!r} have no confidence beside them."
        )
    figure, [drawn] = panels(1, (4.6, 4.4), ax)
    bins = reliability(judged.confidence, judged.right, n_bins)
    _draw(drawn, bins, judged.title)
    return cast("Axes | None", finish(figure, [drawn], ax, show=show, save=save))


class Bins(NamedTuple):
    """Bins of confidence that hold a row: mean confidence, share that is right, rows, edges."""

    confidence: np.ndarray
    right: np.ndarray
    n: np.ndarray
    left: np.ndarray
    width: float

    @property
    def error(self) -> float:
        """The expected calibration error."""
        return float((self.n * np.abs(self.confidence - self.right)).sum() / self.n.sum())


def reliability(confidence: np.ndarray, right: np.ndarray, n_bins: int) -> Bins:
    """Gather rows in bins of equal width; a confidence on an edge counts below it."""
    place = np.clip(np.ceil(confidence * n_bins).astype(np.int64) - 1, 0, n_bins - 1)
    n = np.bincount(place, minlength=n_bins)
    used = n > 0
    means = [
        np.bincount(place, weights=values, minlength=n_bins)[used] / n[used]
        for values in (confidence, right.astype(np.float64))
    ]
    left = np.arange(n_bins)[used] / n_bins
    return Bins(means[0], means[1], n[used], left, 1 / n_bins)


def wilson(right: np.ndarray, n: np.ndarray, z: float = 1.96) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the interval in which a share lies that was seen as ``right`` in ``n`` rows."""
    centre = (right + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(right * (1 - right) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return centre - half, centre + half


def _draw(ax: Axes, bins: Bins, what: str) -> None:
    from matplotlib.ticker import PercentFormatter

    share = bins.n / bins.n.sum()
    ax.bar(
        bins.left, 0.2 * share / share.max(), bins.width, align="edge", color=_PALE,
        edgecolor="white", linewidth=1, label="how many",
    )  # fmt: skip
    ax.plot([0, 1], [0, 1], color=_GREY, linestyle="--", linewidth=1, label="as it should be")
    low, high = wilson(bins.right, bins.n)
    below, above = np.maximum(bins.right - low, 0), np.maximum(high - bins.right, 0)
    ax.errorbar(
        bins.confidence, bins.right, yerr=[below, above], color=_BLUE, marker="o", markersize=5,
        linewidth=1.5, elinewidth=1, capsize=2, label="right (95%)",
    )  # fmt: skip
    ax.set(xlabel="confidence", ylabel="right", xlim=(0, 1), ylim=(0, 1.02), aspect="equal")
    for side in (ax.xaxis, ax.yaxis):
        side.set_major_formatter(PercentFormatter(1.0))
    ax.spines[["top", "right"]].set_visible(False)
    mean = (bins.n * bins.right).sum() / bins.n.sum()
    ax.set_title(
        f"{what}: {100 * mean:.0f}% right,\nexpected calibration error {bins.error:.3f}",
        loc="left",
        fontsize="medium",
    )
    ax.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=3, fontsize="small", frameon=False,
        handlelength=1.5, columnspacing=1.0,
    )  # fmt: skip
