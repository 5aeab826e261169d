"""Predictions beside the truth, as fine-tuning and prediction wrote them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .._keys import PredictionKeys
from .._labels import read_labels
from .._messages import first_names

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


@dataclass(frozen=True)
class Judged:
    """Rows with a true and a predicted class.

    Attributes
    ----------
    classes
        Names of all classes, those of the model first, in its order.
    truth, predicted
        int64, one a row: places in ``classes``.
    confidence
        float, one a row; ``None`` where there is none.
    held_out
        Whether these are rows that were not trained on.
    what
        What a row is.
    """

    classes: list[str]
    truth: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray | None
    held_out: bool
    what: str

    @property
    def right(self) -> np.ndarray:
        """bool, one a row."""
        return self.truth == self.predicted

    @property
    def title(self) -> str:
        """How many rows, and of which sort."""
        sort = "held-out " if self.held_out else ""
        return f"{self.truth.size:,} {sort}{self.what}"


def read_predictions(
    adata: AnnData,
    target: str,
    *,
    key: str,
    truth: str | None,
    held_out: bool | None,
    axis: Literal["obs", "var"] | None,
) -> Judged:
    """Read truth and predictions of a target from ``obs`` or ``var``.

    Raises
    ------
    KeyError
        If there are no predictions, or no truth.
    ValueError
        If no row has both, or predictions are amounts.
    """
    keys, table, what = _find(adata, target, key, held_out, axis)
    true_column = truth or target
    if true_column not in table:
        raise KeyError(
            f"There is no column {true_column!r} to hold the predictions against: "
            f"{first_names(table.columns, 10)}. Pass truth=."
        )
    predicted = table[keys.label]
    if getattr(predicted, "cat", None) is None:
        raise ValueError(
            f"{keys.label!r} holds {predicted.dtype} and no classes: amounts are compared in a "
            "scatter plot."
        )
    # As fine-tuning read them: what is no label there is no class here.
    true_names, true_places = read_labels(table[true_column], repr(true_column))
    both = predicted.notna().to_numpy() & (true_places >= 0)
    if not both.any():
        raise ValueError(f"No row has both {true_column!r} and {keys.label!r}.")
    names = [str(name) for name in predicted.cat.categories]
    occurring = {true_names[i] for i in np.unique(true_places[both])}
    classes = names + sorted(occurring - set(names))
    place = {name: i for i, name in enumerate(classes)}
    renumbered = np.array([place.get(name, -1) for name in true_names], np.int64)
    return Judged(
        classes,
        renumbered[true_places[both]],
        predicted.cat.codes.to_numpy()[both].astype(np.int64),
        _column(table, keys.confidence, both),
        keys.held_out,
        what,
    )


def _find(
    adata: AnnData,
    target: str,
    key: str,
    held_out: bool | None,
    axis: Literal["obs", "var"] | None,
) -> tuple[PredictionKeys, pd.DataFrame, str]:
    """Which slots, in which table: held-out predictions come first where nothing is said."""
    sorts = (True, False) if held_out is None else (held_out,)
    axes = ("obs", "var") if axis is None else (axis,)
    for sort in sorts:
        keys = PredictionKeys(target, key, sort)
        for each in axes:
            table: Any = getattr(adata, each)
            if keys.label in table:
                return keys, table, "cells" if each == "obs" else "genes"
    looked = " or ".join(repr(PredictionKeys(target, key, sort).label) for sort in sorts)
    raise KeyError(
        f"There are no predictions of {target!r} under the key {key!r} (no column {looked} in "
        f"adata.{' or adata.'.join(axes)}): run glm.tl.finetune or glm.tl.predict first."
    )


def _column(table: pd.DataFrame, name: str, chosen: np.ndarray) -> np.ndarray | None:
    return table[name].to_numpy(np.float64)[chosen] if name in table else None
