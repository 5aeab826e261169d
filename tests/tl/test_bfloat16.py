"""``glm.tl.embed(precision="bfloat16")``: what it keeps of the embeddings, and what it records."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import glm

if TYPE_CHECKING:
    from anndata import AnnData

LEAST = 0.98
N_NEIGHBOURS = 15


def centred_cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = (x - x.mean(axis=0, dtype=np.float64) for x in (a, b))
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def neighbours_kept(a: np.ndarray, b: np.ndarray) -> float:
    def nearest(x: np.ndarray) -> np.ndarray:
        distance = ((x[:, None].astype(np.float64) - x) ** 2).sum(axis=2)
        np.fill_diagonal(distance, np.inf)
        return np.argsort(distance, axis=1)[:, :N_NEIGHBOURS]

    return float(
        np.mean([np.isin(i, j).mean() for i, j in zip(nearest(a), nearest(b), strict=True)])
    )


def both(adata: AnnData, model: str | glm.models.Model) -> tuple[np.ndarray, np.ndarray]:
    for precision in ("float32", "bfloat16"):
        glm.tl.embed(adata, model, precision=precision, key_added=precision)
        assert adata.uns[f"X_{precision}"]["precision"] == precision
        assert adata.obsm[f"X_{precision}"].dtype == np.float32
    return adata.obsm["X_float32"], adata.obsm["X_bfloat16"]


def check(single: np.ndarray, half: np.ndarray) -> None:
    assert not np.array_equal(single, half)
    assert centred_cosine(single, half).min() >= LEAST
    assert neighbours_kept(single, half) >= LEAST


def random_v1(vocabulary: glm.models.GeneVocabulary, **shape: int) -> glm.models.Model:
    import torch

    from glm.models.bert import MaskedLM

    spec = glm.models.get("geneformer-v1-10m")
    spec = dataclasses.replace(spec, tier="local", shape=dataclasses.replace(spec.shape, **shape))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return glm.models.Model(spec, vocabulary, MaskedLM(spec.shape).eval())


def test_toy_cells_keep_their_neighbours() -> None:
    adata = glm.datasets.toy_cells()
    check(*both(adata, "geneformer-tiny"))
    tiny = glm.models.load("geneformer-tiny")
    shape = {"vocab_size": tiny.spec.shape.vocab_size, "n_positions": tiny.spec.shape.n_positions}
    model = random_v1(tiny.vocabulary, **shape)
    check(*both(glm.datasets.toy_cells(), model))


@pytest.mark.parametrize("which", ["geneformer-tiny", "geneformer-v1-10m"])
def test_real_cells_keep_their_neighbours(test_data: Path, which: str) -> None:
    import anndata as ad

    adata = ad.read_h5ad(test_data / "cells" / "bmfm_cellxgene.h5ad")[::4].copy()
    with glm.settings.override(mirror=test_data / "geneformer"):
        with pytest.warns(glm.GlmWarning, match="gene names were mapped"):
            glm.pp.map_genes(adata, "geneformer-v1-10m")
        known = glm.models.get("geneformer-v1-10m").vocabulary()
        model = which if which == "geneformer-tiny" else random_v1(known)
        check(*both(adata, model))


@pytest.mark.parametrize("model", ["dnabert-tiny", "grover-tiny"])
def test_regions_keep_their_neighbours(model: str) -> None:
    adata, genome = glm.datasets.toy_regions(n_cells=5)
    for precision in ("float32", "bfloat16"):
        glm.tl.embed(adata, model, genome=genome, precision=precision, key_added=precision)
    check(adata.varm["X_float32"], adata.varm["X_bfloat16"])


def test_every_reading_takes_it() -> None:
    cells = glm.datasets.toy_cells(24)
    for options in (
        {"pooling": "mean"},
        {"hidden_layer": "last"},
        {"of": "genes"},
        {"groupby": "kind"},
    ):
        single, half = (
            glm.tl.embed(cells, "geneformer-tiny", precision=p, copy=True, **options)
            for p in ("float32", "bfloat16")
        )
        if "groupby" in options:
            a, b = (x.uns["X_geneformer_by_kind"]["embeddings"] for x in (single, half))
        else:
            slot = "varm" if "of" in options else "obsm"
            a, b = (getattr(x, slot)["X_geneformer"] for x in (single, half))
        assert np.array_equal(np.isnan(a), np.isnan(b))
        a, b = (x[~np.isnan(x).any(axis=1)] for x in (a, b))
        assert not np.array_equal(a, b)
        assert centred_cosine(a, b).min() >= LEAST


def test_a_work_folder_is_of_one_precision(tmp_path: Path) -> None:
    cells = glm.datasets.toy_cells(8)
    glm.tl.embed(cells, "geneformer-tiny", precision="bfloat16", out=tmp_path / "run")
    with pytest.raises(ValueError, match="precision"):
        glm.tl.embed(cells, "geneformer-tiny", precision="float32", out=tmp_path / "run")


def test_the_plan_names_it() -> None:
    cells = glm.datasets.toy_cells(8)
    plan = glm.tl.embed(cells, "geneformer-tiny", precision="bfloat16", dry_run=True)
    assert plan.precision == "bfloat16"
    with pytest.raises(ValueError, match="precision is 'half'"):
        glm.tl.embed(cells, "geneformer-tiny", precision="half")
