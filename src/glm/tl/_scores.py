"""How good predictions are, in numbers that a record holds."""

from __future__ import annotations

import numpy as np

from .. import metrics
from ._prediction_slots import YES, Predictions
from ._targets import Target


def score(target: Target, rows: np.ndarray, outputs: np.ndarray) -> dict[str, float]:
    """Scores by name, of these rows' outputs (rows × outputs); none without rows.

    Numbers that these rows do not tell (a rank correlation of two equal amounts) are left out.
    """
    finite = np.isfinite(outputs).all(axis=1)
    truth = target.values[rows][finite]
    predictions = Predictions(target.axis, target.kind, target.labels, outputs[finite])
    if not len(truth):
        return {}
    if target.kind == "classes":
        found = _of_classes(truth, predictions)
    elif target.kind == "multi_label":
        found = _of_labels(truth, predictions)
    else:
        found = _of_amounts(truth, predictions.amounts)
    return {name: float(value) for name, value in found.items() if np.isfinite(value)}


def _of_classes(truth: np.ndarray, predictions: Predictions) -> dict[str, float]:
    codes, shares = predictions.codes, predictions.probabilities
    present = np.unique(truth)
    found = {
        "accuracy": metrics.accuracy(truth, codes),
        "macro_f1": metrics.macro_f1(truth, codes),
        "share_of_largest_class": np.bincount(truth).max() / truth.size,
        "log_loss": float(-np.log(np.maximum(shares[np.arange(truth.size), truth], 1e-7)).mean()),
        "calibration_error": metrics.calibration(
            truth, shares, classes=np.arange(len(predictions.labels))
        ).error,
    }
    if present.size > 1:
        found["mcc"] = metrics.mcc(truth, codes)
        found["auroc"] = metrics.auroc(truth, shares[:, present], classes=present)
        found["aupr"] = metrics.aupr(truth, shares[:, present], classes=present)
    return found


def _of_labels(truth: np.ndarray, predictions: Predictions) -> dict[str, float]:
    shares = predictions.probabilities
    known = np.isfinite(truth)
    areas = [
        (
            metrics.auroc(truth[rows, i], shares[rows, i]),
            metrics.aupr(truth[rows, i], shares[rows, i]),
        )
        for i, rows in enumerate(known.T)
        if np.unique(truth[rows, i]).size == 2
    ]
    found = {"accuracy": float(((shares >= YES) == truth)[known].mean())}
    if areas:
        found["auroc"], found["aupr"] = np.mean(areas, axis=0).tolist()
    return found


def _of_amounts(truth: np.ndarray, amounts: np.ndarray) -> dict[str, float]:
    found = {"mean_absolute_error": float(np.abs(amounts.astype(np.float64) - truth).mean())}
    if np.ptp(truth) and np.ptp(amounts):
        found["pearson"] = metrics.pearson(truth, amounts)
        found["spearman"] = metrics.spearman(truth, amounts)
    return found
