"""How right predictions are and how good an embedding is: arrays in, numbers out."""

from __future__ import annotations

from ._amounts import pearson, spearman
from ._calibration import Calibration, calibration
from ._classes import accuracy, aupr, auroc, macro_f1, mcc
from ._embeddings import batch_mixing, knn_accuracy, silhouette
from ._expression import expression_scores
from ._tracks import TrackPearson, track_pearson

__all__ = [
    "Calibration",
    "TrackPearson",
    "accuracy",
    "aupr",
    "auroc",
    "batch_mixing",
    "calibration",
    "expression_scores",
    "knn_accuracy",
    "macro_f1",
    "mcc",
    "pearson",
    "silhouette",
    "spearman",
    "track_pearson",
]
