"""Attention of 200 genes averaged over cells, two ways, on one core in float32: speed and memory.

eager
    As it is usually had: transformers with ``attn_implementation="eager"`` and
    ``output_attentions=True``, a cell at a time, the mean of all layers and heads, then the rows of
    the chosen genes added up.
probe
    as ``glm.tl.attention`` does it: the engine, :class:`glm.models.fast.attention.AttentionProbe`,
    a reducer.

The model has the shape of Geneformer V1-10M and random weights; cells are real, and encoded as
ranks beforehand. Both must give the same means. Each way has a process of its own, so that peak
memory can be told apart, and they take turns, so that slow spells of the machine fall on both.

Run it with ``python benchmarks/attention.py``; the data are looked for in ``GLM_TEST_DATA``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from embed import CONTEXT, SHAPE, _memory, _write_inputs, real_sentences
from numpy.typing import NDArray

N_CELLS = 16
N_CHOSEN = 200
ROUNDS = 3
WAYS = ("eager", "probe")
ALL_LAYERS = tuple(range(1, SHAPE["n_layers"] + 1))


def main() -> dict[str, float]:
    """Measure, print a table, and return what it holds."""
    data = Path(os.environ.get("GLM_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sentences = real_sentences(data, N_CELLS)
        _write_inputs(folder, sentences)
        found = {way: [] for way in WAYS}
        for _ in range(ROUNDS):
            for way in WAYS:
                found[way].append(_measure(way, folder))
        means = {way: np.load(folder / f"{way}.npy") for way in WAYS}
    n_tokens = sum(map(len, sentences))
    results = {"n_cells": float(N_CELLS), "tokens_per_cell": n_tokens / N_CELLS}
    for way in WAYS:
        results[f"{way}_seconds"] = min(one["seconds"] for one in found[way])
        results[f"{way}_extra_mb"] = min(one["extra_mb"] for one in found[way])
    ratios = [a["seconds"] / b["seconds"] for a, b in zip(*found.values(), strict=True)]
    results["ratio"] = float(np.median(ratios))
    results["lowest_ratio"] = min(ratios)
    results["extra_share"] = results["probe_extra_mb"] / results["eager_extra_mb"]
    results["share_of_embedding"] = (
        found["probe"][0]["embedding_seconds"] / (found["probe"][0]["seconds"])
    )
    results["largest_difference"] = float(np.nanmax(abs(means["eager"] - means["probe"])))
    assert results["largest_difference"] < 1e-6, "the means differ"
    _print_table(results)
    return results


def _measure(way: str, folder: Path) -> dict[str, float]:
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    done = subprocess.run(
        [sys.executable, __file__, way, str(folder)],
        env=os.environ | one_thread | {"HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{way} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def _work(way: str, folder: Path) -> None:
    import torch

    torch.set_num_threads(1)
    with np.load(folder / "cells.npz") as file:
        sentences = list(file.values())
    number = np.bincount(np.concatenate(sentences), minlength=SHAPE["vocab_size"])
    chosen = np.sort(np.argsort(-number, kind="stable")[:N_CHOSEN])
    means, answer = {"eager": _eager, "probe": _probe}[way](folder, sentences, chosen)
    np.save(folder / f"{way}.npy", means)
    print(json.dumps(answer))


Found = tuple[NDArray[np.float64], dict[str, float]]


def _eager(folder: Path, sentences: list[NDArray[np.int32]], chosen: NDArray[np.int64]) -> Found:
    import torch
    import transformers
    from safetensors.torch import load_file

    config = transformers.BertConfig(
        vocab_size=SHAPE["vocab_size"],
        hidden_size=SHAPE["hidden_size"],
        num_hidden_layers=SHAPE["n_layers"],
        num_attention_heads=SHAPE["n_heads"],
        intermediate_size=SHAPE["intermediate_size"],
        max_position_embeddings=CONTEXT,
        hidden_act=SHAPE["activation"],
        attn_implementation="eager",
    )
    model = transformers.BertModel(config, add_pooling_layer=False).eval()
    state = load_file(folder / "model.safetensors")
    model.load_state_dict({k.removeprefix("bert."): v for k, v in state.items()}, strict=False)
    row = np.full(SHAPE["vocab_size"], -1)
    row[chosen] = np.arange(chosen.size)
    total = np.zeros((chosen.size, SHAPE["vocab_size"]))
    n = np.zeros(total.shape, np.int32)
    before, started = _memory()[0], time.perf_counter()
    for sentence in sentences:
        with torch.inference_mode():
            tokens = torch.from_numpy(sentence[None].astype(np.int64))
            attentions = model(tokens, output_attentions=True).attentions
            weights = torch.stack(attentions).mean(dim=(0, 1, 2)).numpy()
        held = np.flatnonzero(row[sentence] >= 0)
        place = np.ix_(row[sentence[held]], sentence)
        total[place] += weights[held]
        n[place] += 1
    seconds = time.perf_counter() - started
    with np.errstate(invalid="ignore"):
        return total / n, {"seconds": seconds, "extra_mb": _memory()[1] - before}


def _probe(folder: Path, sentences: list[NDArray[np.int32]], chosen: NDArray[np.int64]) -> Found:
    import torch

    from glm.engine import ArraySink, Items, PoolRows, make_plan, run
    from glm.engine.pair_sums import PairSums
    from glm.models.bert import BertConfig
    from glm.models.fast.attention import AttentionProbe
    from glm.models.fast.bert import PackedBert
    from glm.models.weights import load_bert, read_state

    state = read_state(folder / "model.safetensors")
    packed = PackedBert(load_bert(state, BertConfig(**SHAPE), head=False))
    row = np.full(SHAPE["vocab_size"], -1)
    row[chosen] = np.arange(chosen.size)
    every = np.arange(SHAPE["vocab_size"])
    flags = (torch.from_numpy(row >= 0), torch.from_numpy(every >= 0))
    lengths = np.array([len(sentence) for sentence in sentences])
    span = np.stack([np.zeros_like(lengths), lengths], axis=1).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    items = Items.one_a_row(np.arange(len(sentences)), np.concatenate(sentences), offsets, span)
    plan = make_plan("cpu")
    probe = AttentionProbe(packed, *flags, layers=ALL_LAYERS)
    reducer = PairSums(row, every, (chosen.size, every.size))
    before, started = _memory()[0], time.perf_counter()
    run([items], probe, reducer, plan, layer=ALL_LAYERS[-1])
    answer = {"seconds": time.perf_counter() - started, "extra_mb": _memory()[1] - before}
    # What the same cells cost without attention, in the same process.
    sink = ArraySink(len(sentences), SHAPE["hidden_size"])
    started = time.perf_counter()
    run([items], packed, PoolRows("mean", sink), plan, layer=ALL_LAYERS[-1])
    answer["embedding_seconds"] = time.perf_counter() - started
    means = np.full((chosen.size, every.size), np.nan)
    pairs = reducer.pairs[0]
    means[pairs.row, pairs.column] = pairs.mean
    return means, answer


def _print_table(results: dict[str, float]) -> None:
    print(
        f"{results['n_cells']:.0f} cells, {results['tokens_per_cell']:.0f} tokens each, "
        f"{N_CHOSEN} chosen genes, all layers and heads"
    )
    print(f"{'':10}{'seconds':>12}{'extra_mb':>12}")
    for way in WAYS:
        numbers = "".join(f"{results[f'{way}_{name}']:12,.1f}" for name in ("seconds", "extra_mb"))
        print(f"{way:10}{numbers}")
    print(
        f"probe is {results['ratio']:.2f} times as fast (lowest of {ROUNDS} rounds "
        f"{results['lowest_ratio']:.2f}), with {results['extra_share']:.0%} of the memory beyond "
        f"interpreter, imports and weights; an embedding takes "
        f"{results['share_of_embedding']:.0%} of its time"
    )


if __name__ == "__main__":
    if len(sys.argv) == 3:
        _work(sys.argv[1], Path(sys.argv[2]))
    else:
        main()
