"""Cells whose kind can be read from their ranks, and genes whose class can; quick training."""

from __future__ import annotations

import dataclasses
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from anndata import AnnData

import glm
from glm.models import Model
from glm.models.bert import MaskedLM

KINDS = ("alpha", "beta", "gamma")


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with glm.settings.override(progress=False):
        yield


@pytest.fixture(scope="session")
def new_model(make_model: Callable[..., Model]) -> Model:
    """A small model with ``<cls>``, of weights from which it learns."""
    sizes = {"n_genes": 30, "hidden_size": 32, "n_layers": 2, "initializer_range": 0.1}
    model = make_model(v2=True, **sizes)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return dataclasses.replace(model, network=MaskedLM(model.spec.shape).eval())


@pytest.fixture(scope="session")
def make_kinds() -> Callable[..., AnnData]:
    """Make cells of three kinds, each with ten genes of its own, and few of the others.

    There are six donors with cells of all kinds. ``obs["age"]`` grows with the share of the first
    kind's genes, ``var["group"]`` says whose gene one is. The last cell has no count.
    """

    def make(model: Model, n_cells: int = 90, *, seed: int = 0) -> AnnData:
        rng = np.random.default_rng(seed)
        ids = list(model.vocabulary.ids)
        kind = np.arange(n_cells) % len(KINDS)
        own = (np.arange(len(ids)) % len(KINDS)) == kind[:, None]
        counts = 1 + rng.poisson(np.where(own, 40, 4) * model.vocabulary.medians)
        counts *= own | (rng.random(own.shape) < 0.2)
        counts[-1] = 0
        adata = AnnData(counts.astype(np.float32))
        adata.var_names = ids
        adata.obs_names = [f"cell{i}" for i in range(n_cells)]
        adata.obs["kind"] = np.array(KINDS)[kind]
        adata.obs["kind"] = adata.obs["kind"].astype("category")
        adata.obs["donor"] = [f"donor{i}" for i in (np.arange(n_cells) // 3) % 6]
        adata.obs["age"] = 100.0 + 20 * (kind == 0) + rng.normal(0, 1, n_cells)
        adata.var["group"] = np.array(KINDS)[np.arange(len(ids)) % len(KINDS)]
        return adata

    return make


@pytest.fixture
def kinds(make_kinds: Callable[..., AnnData], new_model: Model) -> AnnData:
    """90 such cells, of which the last has no count."""
    return make_kinds(new_model)


@pytest.fixture
def finetune(new_model: Model) -> Callable[..., Model]:
    """Fine-tune in seconds; the empty cell is told of."""

    def call(adata: AnnData, model: Model = new_model, **options: Any) -> Model:
        quick = {"epochs": 10, "learning_rate": 0.005, "tokens_per_batch": 120}
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always", glm.GlmWarning)
            found = glm.tl.finetune(adata, model, **{**quick, **options})
        told = [str(each.message) for each in seen if each.category is glm.GlmWarning]
        assert len(told) == 1
        assert re.search(r"1 of 90 .* no count on a gene", told[0])
        return found

    return call


@pytest.fixture(scope="session")
def trained(
    make_kinds: Callable[..., AnnData], new_model: Model, tmp_path_factory: pytest.TempPathFactory
) -> Model:
    """A model that tells the kinds apart."""
    adata = make_kinds(new_model)[:-1].copy()
    out = tmp_path_factory.mktemp("bundles") / "kinds"
    with glm.settings.override(progress=False):
        return glm.tl.finetune(
            adata, new_model, target="kind", out=out, epochs=10, learning_rate=0.005,
            tokens_per_batch=120,
        )  # fmt: skip


@pytest.fixture(scope="session")
def trained_on_genes(
    make_kinds: Callable[..., AnnData], new_model: Model, tmp_path_factory: pytest.TempPathFactory
) -> Model:
    """A model that tells apart whose gene one is."""
    adata = make_kinds(new_model)[:-1].copy()
    out = tmp_path_factory.mktemp("bundles") / "groups"
    with glm.settings.override(progress=False):
        return glm.tl.finetune(
            adata, new_model, target="group", out=out, epochs=2, learning_rate=0.005,
            tokens_per_batch=120, test_share=0.2,
        )  # fmt: skip
