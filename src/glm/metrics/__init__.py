"""How right predictions are and how good an embedding is: arrays in, numbers out."""

from __future__ import annotations

from ._amounts import pearson, spearman
from ._calibration import Calibration, calibration
from ._classes import accuracy, aupr, auroc, macro_f1, mcc
from ._embeddings import batch_mixing, knn_accuracy, silhouette

__all__ = [
    "Calibration",
    "accuracy",
    "aupr",
    "auroc",
    "batch_mixing",
    "calibration",
    "knn_accuracy",
    "macro_f1",
    "mcc",
    "pearson",
    "silhouette",
    "spearman",
]
