"""What a head says of rows, as the slots that hold it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .._keys import PredictionKeys
from ..train.calibration import probabilities

if TYPE_CHECKING:
    from .. import slots
    from ._targets import Axis, Kind, Target

YES = 0.5  # from this probability on a label is given


@dataclass(frozen=True)
class Predictions:
    """Outputs of all rows of an axis.

    Attributes
    ----------
    axis
        Whether rows are cells (``"obs"``) or genes (``"var"``).
    kind, labels
        What they are of.
    outputs
        float32, rows × outputs: calibrated logits, or amounts; NaN where there are none.
    by_log
        Of counts: whether the output is the logarithm of their mean, and not that which softplus
        makes their mean of.
    """

    axis: Axis
    kind: Kind
    labels: tuple[str, ...]
    outputs: np.ndarray
    by_log: bool = False

    @property
    def ok(self) -> np.ndarray:
        """bool, one a row: whether there is a prediction."""
        return np.isfinite(self.outputs).all(axis=1)

    @property
    def probabilities(self) -> np.ndarray:
        """float32, rows × classes or labels; NaN where there is no prediction."""
        found = np.full(self.outputs.shape, np.nan, np.float32)
        several = self.kind == "multi_label"
        found[self.ok] = probabilities(
            self.outputs[self.ok], "multi_label" if several else "classes"
        )
        return found

    @property
    def amounts(self) -> np.ndarray:
        """float32, one a row, of an amount or a count."""
        found = self.outputs[:, 0].copy()
        if self.kind == "counts":
            means = found[self.ok]
            found[self.ok] = np.exp(means) if self.by_log else np.logaddexp(0, means)
        return found

    @property
    def codes(self) -> np.ndarray:
        """int64, one a row: place of the likeliest class, -1 where there is no prediction."""
        found = np.full(len(self.outputs), -1, np.int64)
        found[self.ok] = self.outputs[self.ok].argmax(axis=1)
        return found

    @staticmethod
    def slots_of(of: Target | Predictions, keys: PredictionKeys) -> list[slots.Slot]:
        """The slots that predictions of a target fill."""
        matrices = f"{of.axis}m"
        shares, ok = (matrices, keys.probability), (of.axis, keys.ok)
        if of.kind == "classes":
            return [(of.axis, keys.label), (of.axis, keys.confidence), shares, ok]
        if of.kind == "multi_label":
            return [(matrices, keys.label), shares, ok]
        return [(of.axis, keys.label), ok]

    def values(self, keys: PredictionKeys) -> dict[slots.Slot, Any]:
        """What they hold."""
        import pandas as pd

        if self.kind == "classes":
            shares = self.probabilities
            labels = pd.Categorical.from_codes(self.codes, categories=list(self.labels))
            values = [labels, shares.max(axis=1), shares, self.ok]
        elif self.kind == "multi_label":
            shares = self.probabilities
            values = [np.nan_to_num(shares) >= YES, shares, self.ok]
        else:
            values = [self.amounts, self.ok]
        return dict(zip(self.slots_of(self, keys), values, strict=True))
