"""What it costs to lose no work, and what gene embeddings cost beside the plain way; on one core.

Work folder: the same cells embedded with ``geneformer-tiny`` in memory, and with ``out=``, which
hashes the counts, writes shards and gathers them; and the same call on the finished folder. They
take turns.

Gene embeddings: the mean hidden state of each gene over real cells, with random weights of V1-10M's
shape. The plain way is transformers, a cell at a time under ``inference_mode``, its second-to-last
state added to a table; ours is the engine with its reducer. Both must give the same means.

Run it with ``python benchmarks/long_runs.py``; the data are looked for in ``GLM_TEST_DATA``.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from embed import CONTEXT, LAYER, SHAPE, _write_inputs, real_sentences

ROUNDS = 4
N_CELLS_GENES = 24
FILE = "bmfm_scp1884"


def main() -> dict[str, float]:
    """Measure, print, and return the numbers."""
    import torch

    data = Path(os.environ.get("GLM_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    results = _work_folder(data) | _genes(data)
    torch.set_num_threads(threads)
    print(
        f"{results['folder_cells']:.0f} cells: {results['in_memory_seconds']:.1f} s in memory; "
        f"with a work folder {results['folder_ratio']:.3f} times that (highest of {ROUNDS} rounds "
        f"{results['highest_folder_ratio']:.3f}), {results['finished_seconds']:.2f} s where it is "
        "finished"
    )
    print(
        f"gene embeddings of {results['genes_cells']:.0f} cells: {results['genes_ratio']:.2f} times"
        f" as fast as plain transformers (lowest of {ROUNDS} rounds "
        f"{results['lowest_genes_ratio']:.2f})"
    )
    return results


def _work_folder(data: Path) -> dict[str, float]:
    import anndata as ad

    import glm

    adata = ad.read_h5ad(data / "cells" / f"{FILE}.h5ad")
    vocabulary = glm.models.get("geneformer-tiny").vocabulary()
    known = [vocabulary.symbols.get(symbol) for symbol in adata.var_names]
    adata = adata[:, [gene is not None for gene in known]].copy()
    adata.var["ensembl_id"] = [gene for gene in known if gene is not None]

    seconds: dict[str, list[float]] = {"memory": [], "folder": [], "finished": []}
    for _ in range(ROUNDS + 1):
        with tempfile.TemporaryDirectory() as made:
            for way, out in (("memory", None), ("folder", made), ("finished", made)):
                folder = None if out is None else Path(out) / "run"
                start = time.perf_counter()
                glm.tl.embed(adata, "geneformer-tiny", device="cpu", out=folder)
                seconds[way].append(time.perf_counter() - start)
    memory, folder_, finished = (np.array(each[1:]) for each in seconds.values())
    return {
        "folder_cells": float(adata.n_obs),
        "in_memory_seconds": float(memory.min()),
        "folder_ratio": float(np.median(folder_ / memory)),
        "highest_folder_ratio": float((folder_ / memory).max()),
        "finished_seconds": float(finished.min()),
    }


def _genes(data: Path) -> dict[str, float]:
    sentences = real_sentences(data, N_CELLS_GENES)
    with tempfile.TemporaryDirectory() as name:
        _write_inputs(Path(name), sentences)
        ways = {
            "plain": _plain(Path(name) / "model.safetensors", sentences),
            "packed": _packed(Path(name) / "model.safetensors", sentences),
        }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    means = {}
    for _ in range(ROUNDS + 1):
        for way, run in ways.items():
            start = time.perf_counter()
            means[way] = run()
            seconds[way].append(time.perf_counter() - start)
    difference = float(np.nanmax(abs(means["plain"] - means["packed"])))
    assert difference < 1e-4, "the means differ"
    ratios = np.array(seconds["plain"][1:]) / seconds["packed"][1:]
    return {
        "genes_cells": float(N_CELLS_GENES),
        "genes_ratio": float(np.median(ratios)),
        "lowest_genes_ratio": float(ratios.min()),
        "genes_largest_difference": difference,
    }


def _plain(weights: Path, sentences: list[np.ndarray]) -> Callable[[], np.ndarray]:
    import torch
    import transformers
    from safetensors.torch import load_file

    config = transformers.BertConfig(
        vocab_size=SHAPE["vocab_size"],
        hidden_size=SHAPE["hidden_size"],
        num_hidden_layers=LAYER,
        num_attention_heads=SHAPE["n_heads"],
        intermediate_size=SHAPE["intermediate_size"],
        max_position_embeddings=CONTEXT,
        hidden_act=SHAPE["activation"],
    )
    model = transformers.BertModel(config, add_pooling_layer=False).eval()
    state = {k.removeprefix("bert."): v for k, v in load_file(weights).items()}
    model.load_state_dict(state, strict=False)

    def run() -> np.ndarray:
        total = np.zeros((SHAPE["vocab_size"], SHAPE["hidden_size"]))
        n = np.zeros(SHAPE["vocab_size"])
        with torch.inference_mode():
            for sentence in sentences:
                tokens = torch.from_numpy(sentence[None].astype(np.int64))
                total[sentence] += model(tokens).last_hidden_state[0].numpy()
                n[sentence] += 1
        with np.errstate(invalid="ignore"):
            return total / n[:, None]

    return run


def _packed(weights: Path, sentences: list[np.ndarray]) -> Callable[[], np.ndarray]:
    from glm.engine import Items, make_plan, run
    from glm.engine.gene_means import GeneMeans
    from glm.models.bert import BertConfig
    from glm.models.fast.bert import PackedBert
    from glm.models.weights import load_bert, read_state

    packed = PackedBert(load_bert(read_state(weights), BertConfig(**SHAPE), head=False))
    lengths = np.array([len(sentence) for sentence in sentences])
    span = np.stack([np.zeros_like(lengths), lengths], axis=1).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    items = Items.one_a_row(np.arange(len(sentences)), np.concatenate(sentences), offsets, span)
    every = np.arange(SHAPE["vocab_size"])

    def means() -> np.ndarray:
        reducer = GeneMeans(every, every.size, SHAPE["hidden_size"])
        run([items], packed, reducer, make_plan("cpu"), layer=LAYER)
        return reducer.means[0]

    return means


if __name__ == "__main__":
    main()
