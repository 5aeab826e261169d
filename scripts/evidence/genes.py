"""Classes of genes: scores of each gene by models that have not seen its fold."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np

import glm
from glm.train.split import divide

from .baselines import places, score_genes
from .data import MODEL, GeneTask, gene_cells
from .models import finetune

METHODS = ("svm", "embedding", "finetuned")
N_GUT = 200
CONTEXT = 256
EPOCHS = 3
LEARNING_RATE = 5e-4
_POSITIVE, _NEGATIVE = "positive", "negative"


class GeneData:
    """The cells, made once, and what baselines know of a gene in them."""

    def __init__(self) -> None:
        self.adata = gene_cells(N_GUT)
        self.places = places(self.adata)
        self._embedding: np.ndarray | None = None

    @property
    def readable(self) -> set[str]:
        """Ids of the genes that the model reads in at least one cell."""
        limit = CONTEXT - 2
        ranked = glm.tl.rank_encode(self.adata, MODEL, copy=True).layers["rank_geneformer"]
        read = ranked.tocsc()
        read.data = (read.data <= limit) & (read.data > 0)
        return set(self.adata.var_names[np.asarray(read.sum(axis=0)).ravel() > 0])

    def features(self, method: str, genes: list[str]) -> np.ndarray:
        """Genes × features: place in each cell, or the mean of hidden states over cells."""
        columns = self.adata.var_names.get_indexer(genes)
        if method == "svm":
            return self.places[:, columns].toarray().T
        if self._embedding is None:
            embedded = glm.tl.embed(self.adata, MODEL, of="genes", copy=True)
            self._embedding = embedded.varm["X_geneformer"]
        return self._embedding[columns].astype(np.float64)


def baseline(data: GeneData, task: GeneTask, method: str, seed: int) -> np.ndarray:
    """float64, one a gene of the task, of all folds."""
    return score_genes(method, data.features(method, task.genes), task.truth, task.folds(seed))


def finetuned(data: GeneData, task: GeneTask, seed: int, fold: int, folder: Path) -> np.ndarray:
    """float64, one a gene of the fold: probability of the positive class."""
    adata = _labelled(data.adata, task)
    columns = adata.var_names.get_indexer(task.genes)
    in_fold = task.folds(seed) == fold
    parts = divide(
        in_fold, validation_share=0.15, strata=task.truth.astype(np.int64), seed=seed * 10 + fold
    )
    adata, _ = finetune(
        adata,
        "class",
        parts._replace(
            train=columns[parts.train],
            validation=columns[parts.validation],
            test=columns[parts.test],
        ),
        "finetuned",
        context=CONTEXT,
        epochs=EPOCHS,
        seed=seed,
        folder=folder,
        axis="var",
        learning_rate=LEARNING_RATE,
        class_weight="balanced",
    )
    slot = "class_geneformer_held_out"
    labels = list(adata.uns[slot]["labels"])
    probability = np.asarray(adata.varm[f"{slot}_probability"])[:, labels.index(_POSITIVE)]
    return probability[columns[in_fold]].astype(np.float64)


def _labelled(adata: ad.AnnData, task: GeneTask) -> ad.AnnData:
    """A copy with the task's classes in ``var``."""
    adata = adata.copy()
    adata.var["class"] = None
    adata.var.loc[list(task.positive), "class"] = _POSITIVE
    adata.var.loc[list(task.negative), "class"] = _NEGATIVE
    return adata
