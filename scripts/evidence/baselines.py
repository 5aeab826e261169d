"""What a model has to beat: logistic regression on PCA and on ranks, an SVM on ranks.

Everything is fitted on cells, or genes, that are not tested on.
"""

from __future__ import annotations

import warnings
from typing import Any

import anndata as ad
import numpy as np
import scanpy as sc
import scipy.sparse as sp
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import glm

from .data import MODEL, Labelled

N_COMPONENTS = 50
INNER_FOLDS = 3
STRENGTHS = [0.001, 0.01, 0.1, 1.0, 10.0]


def expression(data: Labelled) -> sp.csr_matrix:
    """log1p of counts per 10,000; as it is where it is log-normalised."""
    adata = ad.AnnData(sp.csr_matrix(data.adata.X, dtype=np.float32))
    if not data.log_normalized:
        sc.pp.normalize_total(adata, target_sum=1e4)
        sc.pp.log1p(adata)
    return sp.csr_matrix(adata.X, dtype=np.float64)


def places(adata: ad.AnnData, *, log_normalized: bool = False) -> sp.csr_matrix:
    """Cells × genes: 1 for a cell's highest gene, near 0 for its lowest, 0 where it is not seen."""
    ranked = glm.tl.rank_encode(adata, MODEL, log_normalized=log_normalized, copy=True)
    ranks = sp.csr_matrix(ranked.layers["rank_geneformer"], dtype=np.float64)
    n = np.repeat(ranked.obs["n_ranked_geneformer"].to_numpy(), np.diff(ranks.indptr))
    ranks.data = 1.0 - (ranks.data - 1.0) / n
    return ranks


def label_cells(
    features: sp.csr_matrix, codes: np.ndarray, train: np.ndarray, test: np.ndarray, *, centre: bool
) -> np.ndarray:
    """int64, one a cell of ``test``: the class that logistic regression on components names.

    ``centre`` makes principal components; without, a truncated SVD.
    """
    n = min(N_COMPONENTS, train.size - 1, features.shape[1] - 1)
    if centre:
        reduction: Any = PCA(n, svd_solver="arpack", random_state=0)
    else:
        reduction = TruncatedSVD(n, random_state=0)
    fitted = reduction.fit_transform(features[train])
    search = _search(LogisticRegression(max_iter=1000, tol=1e-3), {"C": STRENGTHS}, "accuracy")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of rare classes, and of too few iterations for a weak C
        search.fit(fitted, codes[train])
    return search.predict(reduction.transform(features[test])).astype(np.int64)


def score_genes(
    method: str, features: np.ndarray, truth: np.ndarray, fold: np.ndarray
) -> np.ndarray:
    """float64, one a gene: how much speaks for a positive, by a model that has not seen its fold.

    ``method`` is ``"svm"`` (linear or radial, of ranks) or ``"embedding"`` (logistic regression).
    """
    scores = np.empty(truth.size)
    for name in np.unique(fold):
        test = fold == name
        if method == "svm":
            grid = {"C": STRENGTHS, "kernel": ["linear", "rbf"]}
            search = _search(SVC(class_weight="balanced"), grid, "roc_auc")
        else:
            scaled = make_pipeline(
                StandardScaler(), LogisticRegression(max_iter=1000, class_weight="balanced")
            )
            search = _search(scaled, {"logisticregression__C": STRENGTHS}, "roc_auc")
        search.fit(features[~test], truth[~test])
        scores[test] = search.decision_function(features[test])
    return scores


def _search(model: Any, grid: dict[str, list[Any]], scoring: str) -> GridSearchCV:
    """What is to be chosen, by folds of the training part."""
    folds = StratifiedKFold(INNER_FOLDS, shuffle=True, random_state=0)
    return GridSearchCV(model, grid, scoring=scoring, cv=folds)
