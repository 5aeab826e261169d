"""What bfloat16 gains on this processor, and what it keeps of the embeddings.

Speed: the shape of Geneformer V2-104M with random weights, sentences of 2,048 tokens, up to the
second-to-last layer: :class:`glm.models.fast.bert.PackedBert` in float32 and in bfloat16 by turns,
on one thread.

Fidelity: real cells with ``geneformer-tiny``, and with random weights of the shape of V1-10M. The
cosine of each cell's two embeddings after the mean over the cells was taken off (the common part
would make any two alike), and the share of each cell's 15 nearest neighbours that stay.

Run it with ``python benchmarks/bf16.py``; the cells are looked for in ``GLM_TEST_DATA``.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

N_CELLS = 300
N_NEIGHBOURS = 15
LENGTH = 2_048
N_SENTENCES = 2
ROUNDS = 4


def main() -> dict[str, float]:
    """Measure, print, and return what was printed."""
    results = {**_speed(), **_fidelity()}
    print(
        f"V2-104M, {LENGTH:,} tokens, one thread: float32 {results['float32_tokens_per_s']:,.0f} "
        f"tokens/s, bfloat16 {results['bfloat16_tokens_per_s']:,.0f}: {results['ratio']:.2f} times "
        f"as many (worst of {ROUNDS} rounds {results['worst_ratio']:.2f})"
    )
    for name in ("tiny", "v1_10m"):
        print(
            f"{name}: centred cosine at least {results[f'{name}_lowest_cosine']:.5f} (mean "
            f"{results[f'{name}_mean_cosine']:.5f}), {N_NEIGHBOURS} nearest neighbours kept "
            f"{results[f'{name}_neighbours_kept']:.4f}, of {results[f'{name}_cells']:.0f} cells"
        )
    return results


def _speed() -> dict[str, float]:
    import torch

    import glm
    from glm.models.bert import Bert
    from glm.models.fast.bert import PackedBert

    shape = glm.models.get("geneformer-v2-104m").shape
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    bert = Bert(shape).eval()
    runs = {d: PackedBert(bert, dtype=d) for d in (torch.float32, torch.bfloat16)}
    tokens = torch.randint(4, shape.vocab_size, (N_SENTENCES * LENGTH,))
    seconds: dict[torch.dtype, list[float]] = {dtype: [] for dtype in runs}
    for _ in range(ROUNDS + 1):
        for dtype, run in runs.items():
            start = time.perf_counter()
            run.hidden(tokens, [LENGTH] * N_SENTENCES, layer=shape.n_layers - 1)
            seconds[dtype].append(time.perf_counter() - start)
    torch.set_num_threads(threads)
    single, half = (np.array(seconds[dtype][1:]) for dtype in runs)  # the first round warms up
    return {
        "float32_tokens_per_s": tokens.numel() / single.min(),
        "bfloat16_tokens_per_s": tokens.numel() / half.min(),
        "ratio": float(np.median(single / half)),
        "worst_ratio": float((single / half).min()),
    }


def _fidelity() -> dict[str, float]:
    import anndata as ad

    import glm

    data = Path(os.environ.get("GLM_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    adata = ad.read_h5ad(data / "cells" / "bmfm_scp1884.h5ad")[:N_CELLS].copy()
    glm.settings.mirror = data / "geneformer"  # the dictionaries
    glm.pp.map_genes(adata, "geneformer-v1-10m")
    found = {}
    for name, model in {
        "tiny": glm.models.load("geneformer-tiny"),
        "v1_10m": _random_model(data),
    }.items():
        for precision in ("float32", "bfloat16"):
            glm.tl.embed(adata, model, precision=precision, key_added=precision, overwrite=True)
        single, half = adata.obsm["X_float32"], adata.obsm["X_bfloat16"]
        cosine = centred_cosine(single, half)
        found |= {
            f"{name}_cells": float(adata.n_obs),
            f"{name}_lowest_cosine": float(cosine.min()),
            f"{name}_mean_cosine": float(cosine.mean()),
            f"{name}_neighbours_kept": neighbours_kept(single, half),
        }
    return found


def _random_model(data: Path) -> Any:
    import torch

    import glm
    from glm.models.bert import MaskedLM

    spec = replace(glm.models.get("geneformer-v1-10m"), tier="local")
    vocabulary = glm.models.GeneVocabulary.from_dictionaries(data / "geneformer", "gc30M")
    torch.manual_seed(0)
    return glm.models.Model(spec, vocabulary, MaskedLM(spec.shape).eval())


def centred_cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine of each row in both, the mean of the rows taken off."""
    a, b = (x - x.mean(axis=0, dtype=np.float64) for x in (a, b))
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def neighbours_kept(a: np.ndarray, b: np.ndarray) -> float:
    """Share of the nearest neighbours of each row in one that are so in the other."""
    from sklearn.neighbors import NearestNeighbors

    nearest = [
        NearestNeighbors(n_neighbors=N_NEIGHBOURS).fit(x).kneighbors(return_distance=False)
        for x in (a, b)
    ]
    return float(np.mean([np.isin(i, j).mean() for i, j in zip(*nearest, strict=True)]))


if __name__ == "__main__":
    main()
