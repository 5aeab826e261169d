"""Labelled cells and genes, and how they are divided: the same for every method."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.mixture import GaussianMixture

import glm
from glm._demo import pbmc68k
from glm.train.split import Parts, assign, divide, lost

MODEL = "geneformer-tiny"
SEEDS = range(5)
N_FOLDS = 5
TEST_SHARE, VALIDATION_SHARE = 0.2, 0.15
PARTS = ("train", "validation", "test")
_SCIPLEX_CELLS = 750


@dataclass(frozen=True)
class Labelled:
    """Cells with a label each.

    Attributes
    ----------
    name, title
        Short name; what the page calls it.
    adata
        The cells, with Ensembl ids in ``var``.
    label
        Column of ``obs``.
    unit
        Column whose groups are not parted, and what a bootstrap draws; ``None`` for single cells.
    log_normalized
        Whether values are log-normalised.
    context, epochs
        Tokens that a model reads of a cell, and how often.
    """

    name: str
    title: str
    adata: ad.AnnData
    label: str
    unit: str | None = None
    log_normalized: bool = False
    context: int = 256
    epochs: int = 12

    @property
    def classes(self) -> list[str]:
        """Names of the labels, sorted."""
        return sorted(set(self.adata.obs[self.label].astype(str)))

    @property
    def codes(self) -> np.ndarray:
        """int64, one a cell: the place of its label."""
        place = {name: i for i, name in enumerate(self.classes)}
        return np.array([place[name] for name in self.adata.obs[self.label].astype(str)])

    @property
    def units(self) -> np.ndarray:
        """int64, one a cell: the number of its group, or of itself."""
        if self.unit is None:
            return np.arange(self.adata.n_obs)
        return pd.factorize(self.adata.obs[self.unit].astype(str), sort=True)[0].astype(np.int64)

    @property
    def genes_together(self) -> float:
        """Spread of the number of genes in a cell, over that of genes which know nothing of each
        other, within a label; the median over labels.

        Of cells as they come from a tissue it is well above 1: some are read more deeply, and genes
        go together. About 1 tells that each gene was drawn by itself.
        """
        seen = sp.csr_matrix(self.adata.X) > 0
        ratios = []
        for code in np.unique(self.codes):
            cells = seen[self.codes == code]
            share = np.asarray(cells.mean(axis=0)).ravel()
            n = cells.shape[0]
            alone = np.sqrt((share * (1 - share)).sum() * n / (n - 1))
            ratios.append(np.asarray(cells.sum(axis=1)).std(ddof=1) / alone)
        return float(np.median(ratios))

    @property
    def pair_together(self) -> float | None:
        """Correlation over cells, within labels, of CD74 and HLA-DRA, whose proteins are one
        complex; ``None`` where either is not there.
        """
        names = list(self.adata.var_names)
        if not {"CD74", "HLA-DRA"} <= set(names):
            return None
        matrix = sp.csr_matrix(self.adata.X, dtype=np.float64)
        if not self.log_normalized:
            depth = np.asarray(matrix.sum(axis=1)).ravel()
            matrix = (sp.diags(1e4 / depth) @ matrix).log1p()
        pair = matrix[:, [names.index("CD74"), names.index("HLA-DRA")]].toarray()
        for code in np.unique(self.codes):
            pair[self.codes == code] -= pair[self.codes == code].mean(axis=0)
        return float(np.corrcoef(pair.T)[0, 1])

    def divide(self, seed: int) -> Parts:
        """Rows to train on, to choose the epoch by, to test on; groups whole, labels spread.

        A draw whose training part lacks a label is drawn again.
        """
        groups = None if self.unit is None else self.units
        for again in range(100):
            drawn = seed + 1000 * again
            test = self._test(groups, drawn)
            parts = divide(
                test,
                validation_share=VALIDATION_SHARE,
                groups=groups,
                strata=self.codes,
                seed=drawn,
            )
            if not lost(self.codes, parts.train).size:
                return parts
        raise RuntimeError(f"{self.name}: no division leaves every label in the training part.")

    def _test(self, groups: np.ndarray | None, seed: int) -> np.ndarray:
        shares = (1 - TEST_SHARE, TEST_SHARE)
        part = assign(self.adata.n_obs, shares, groups=groups, strata=self.codes, seed=seed)
        return part == 1


def data_dir() -> Path:
    """The folder of real data."""
    default = Path(__file__).resolve().parents[3] / "shared" / "data"
    return Path(os.environ.get("GLM_TEST_DATA", default))


def _read(name: str, keep: tuple[str, ...] = ()) -> ad.AnnData:
    adata = ad.read_h5ad(data_dir() / "cells" / f"{name}.h5ad")
    adata.uns = {key: value for key, value in adata.uns.items() if key in keep}
    return adata


def _sciplex() -> ad.AnnData:
    """As many cells of each line, evenly over the file."""
    adata = _read("bmfm_sciplex3")
    lines = adata.obs["cell_type"].astype(str).to_numpy()
    rng = np.random.default_rng(0)
    n = _SCIPLEX_CELLS // np.unique(lines).size
    chosen = [rng.permutation(np.flatnonzero(lines == line))[:n] for line in np.unique(lines)]
    return adata[np.sort(np.concatenate(chosen))].copy()


def _protein() -> ad.AnnData:
    """Blood cells whose label is told by their surface proteins, not by their RNA.

    A protein is present where it belongs to the higher of two normal distributions of its log
    counts. Cells that match no line of the table are left out.
    """
    adata = _read("scvi_pbmc_10k_protein_v3", keep=("protein_names",))
    names = [str(name).split("_")[0] for name in adata.uns.pop("protein_names")]
    levels = np.log1p(np.asarray(adata.obsm.pop("protein_expression"), np.float64))
    has = {}
    for i, name in enumerate(names):
        mixture = GaussianMixture(2, n_init=3, random_state=0).fit(levels[:, [i]])
        has[name] = mixture.predict(levels[:, [i]]) == mixture.means_.argmax()
    t, b = has["CD3"] & ~has["CD19"], has["CD19"] & ~has["CD3"]
    neither = ~has["CD3"] & ~has["CD19"]
    kinds = {
        "CD4 T": t & has["CD4"] & ~has["CD8a"],
        "CD8 T": t & has["CD8a"] & ~has["CD4"],
        "B": b & ~has["CD14"],
        "monocyte": neither & has["CD14"],
        "NK": neither & ~has["CD14"] & has["CD56"],
    }
    labels = np.full(adata.n_obs, "", dtype=object)
    for name, cells in kinds.items():
        labels[cells] = name
    adata.obs["by_protein"] = labels
    return adata[labels != ""].copy()


_SETS: dict[str, tuple[Callable[[], ad.AnnData], dict[str, Any]]] = {
    "pbmc68k_reduced": (
        pbmc68k,
        {"title": "blood, labels of its authors", "label": "bulk_labels", "log_normalized": True},
    ),
    "scvi_pbmc_10k_protein_v3": (
        _protein,
        {"title": "blood, labels by surface protein", "label": "by_protein", "epochs": 16},
    ),
    "bmfm_scp1884": (
        lambda: _read("bmfm_scp1884"),
        {
            "title": "gut",
            "label": "Celltype",
            "unit": "donor_id",
            "context": 64,
            "epochs": 6,
        },
    ),
    "bmfm_sciplex3": (
        _sciplex,
        {
            "title": "three cell lines",
            "label": "cell_type",
            "unit": "product_name",
            "log_normalized": True,
            "context": 64,
            "epochs": 2,
        },
    ),
    "bmfm_cellxgene": (
        lambda: _read("bmfm_cellxgene"),
        {
            "title": "placenta and blood",
            "label": "cell_type",
            "unit": "donor_id",
            "context": 64,
            "epochs": 3,
        },
    ),
}
NAMES = tuple(_SETS)


def read_labelled(name: str) -> Labelled:
    """One of the labelled sets."""
    read, facts = _SETS[name]
    adata = read()
    adata.obs[facts["label"]] = adata.obs[facts["label"]].astype(str)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are no gene's
        glm.pp.map_genes(adata, MODEL)
    return Labelled(name, adata=adata, **facts)


@dataclass(frozen=True)
class GeneTask:
    """Two classes of genes.

    Attributes
    ----------
    name, title
        Short name; what the page calls it.
    positive, negative
        Ensembl ids, sorted, each once, none in both.
    facts
        How many were listed, and why some are left out.
    """

    name: str
    title: str
    positive: tuple[str, ...]
    negative: tuple[str, ...]
    facts: dict[str, int]

    @property
    def genes(self) -> list[str]:
        """All of them, positives first."""
        return [*self.positive, *self.negative]

    @property
    def truth(self) -> np.ndarray:
        """bool, one a gene."""
        return np.arange(len(self.genes)) < len(self.positive)

    def only(self, readable: set[str]) -> GeneTask:
        """Without genes that no sentence holds."""
        kept = [tuple(g for g in side if g in readable) for side in (self.positive, self.negative)]
        facts = self.facts | {
            "positives_read": len(kept[0]),
            "negatives_read": len(kept[1]),
        }
        return dataclasses.replace(self, positive=kept[0], negative=kept[1], facts=facts)

    def folds(self, seed: int) -> np.ndarray:
        """int64, one a gene: its fold, both classes spread evenly."""
        strata = self.truth.astype(np.int64)
        return assign(strata.size, (1 / N_FOLDS,) * N_FOLDS, strata=strata, seed=seed)


def gene_task(name: str, title: str, positive: list[str], negative: list[str]) -> GeneTask:
    """Two lists as they come, cleaned: each gene once, and none that is in both."""
    one, other = set(positive), set(negative)
    both = one & other
    facts = {
        "positives_listed": len(positive),
        "negatives_listed": len(negative),
        "listed_again": len(positive) - len(one) + len(negative) - len(other),
        "in_both": len(both),
    }
    return GeneTask(name, title, tuple(sorted(one - both)), tuple(sorted(other - both)), facts)


def read_gene_tasks() -> list[GeneTask]:
    """The gene classes of Geneformer's paper that are here."""
    folder = data_dir() / "geneformer"
    factors = pd.read_csv(folder / "dosage_sens_tf_labels.csv")
    lists = {
        what: (folder / f"{what}_gene_labels.txt").read_text(encoding="utf-8").split()
        for what in ("bivalent", "no_methylation", "lys4_only")
    }
    return [
        gene_task(
            "dosage",
            "dosage-sensitive against insensitive transcription factors",
            factors["dosage_sensitive"].dropna().str.strip().tolist(),
            factors["dosage_insensitive"].dropna().str.strip().tolist(),
        ),
        gene_task(
            "bivalent_unmethylated",
            "bivalent against unmethylated genes",
            lists["bivalent"],
            lists["no_methylation"],
        ),
        gene_task(
            "bivalent_lys4",
            "bivalent against Lys4-only genes",
            lists["bivalent"],
            lists["lys4_only"],
        ),
    ]


def gene_cells(n_gut: int) -> ad.AnnData:
    """Cells in which genes are met: the 200 of blood, and some of gut. Raw counts, Ensembl ids."""
    import make_geneformer_tiny as make

    published = make.GeneVocabulary.from_dictionaries(data_dir() / "geneformer", "gc104M")
    counts, ids, _ = make.read_cells(published)
    ends = np.cumsum([220, 1020, 200])
    assert counts.shape[0] == ends[-1]  # in the order of make.FILES
    gut = np.random.default_rng(0).permutation(np.arange(ends[0], ends[1]))[:n_gut]
    rows = np.concatenate([np.sort(gut), np.arange(ends[1], ends[2])])
    adata = ad.AnnData(counts[rows].astype(np.float32), var=pd.DataFrame(index=pd.Index(ids)))
    adata.obs_names = [f"cell_{i}" for i in rows]
    return adata
