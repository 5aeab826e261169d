"""Cell embeddings with Geneformer V1-10M, three ways, on one core in float32: speed and memory.

authors
    As the model's authors extract embeddings: ``BertForMaskedLM`` of transformers with its head and
    all hidden states, cells sorted by length, batches of 10 padded to their longest, ``no_grad``.
plain
    The best of transformers as it stands: no head, no layer above the one wanted, cells sorted by
    length, ``inference_mode``, the best of a few batch sizes (chosen before the clock starts).
packed
    as ``glm.tl.embed`` does it: the engine, :class:`glm.models.fast.bert.PackedBert`, a reducer.

All give the mean of the second-to-last hidden state over a cell's genes, and must agree. Weights
are random (LayerNorms too), cells are real, drawn at random from three data sets, and encoded as
ranks beforehand. Sorted cells are cut into blocks of 10; a round takes every third block, so that
each round holds cells of all lengths and each way meets the batches it would make of them all. In
a round the three ways run one after the other, and each has a process of its own, so that slow
spells of the machine fall on all of them and peak memory can be told apart.

Run it with ``python benchmarks/embed.py``; the data are looked for in ``GLM_TEST_DATA``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FILES = ("bmfm_cellxgene", "bmfm_scp1884", "scvi_pbmc_10k_protein_v3")
N_CELLS = 120
BLOCK = 10
ROUNDS = 3
CONTEXT = 2_048
SHAPE = {
    "vocab_size": 25_426,
    "hidden_size": 256,
    "n_layers": 6,
    "n_heads": 4,
    "intermediate_size": 512,
    "n_positions": CONTEXT,
    "activation": "relu",
}
LAYER = SHAPE["n_layers"] - 1
WAYS = ("authors", "plain", "packed")

Sentences = list[NDArray[np.int32]]
Embed = Callable[[Sentences], NDArray[np.float32]]


def main() -> dict[str, float]:
    """Measure, print a table, and return what it holds."""
    data = Path(os.environ.get("GLM_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        sentences = real_sentences(data, N_CELLS)
        _write_inputs(Path(folder), sentences)
        workers = {way: running.enter_context(Worker(way, Path(folder))) for way in WAYS}
        before = {way: worker.ask("ready") for way, worker in workers.items()}
        seconds = {way: [0.0] * ROUNDS for way in WAYS}
        for i in range(ROUNDS):
            for way, worker in workers.items():
                seconds[way][i] = worker.ask(f"round {i}")["seconds"]
        after = {way: worker.ask("end") for way, worker in workers.items()}
        vectors = {way: np.load(Path(folder) / f"{way}.npy") for way in WAYS}
    results = _summary(sentences, seconds, before, after)
    for way in WAYS:
        results[f"{way}_largest_difference"] = float(abs(vectors[way] - vectors["authors"]).max())
        assert results[f"{way}_largest_difference"] < 1e-4, f"{way} gives other embeddings"
    _print_table(results)
    return results


def real_sentences(data: Path, n_cells: int) -> Sentences:
    """Token sentences of cells drawn from all of the files, longest first."""
    import anndata as ad
    import scipy.sparse as sp

    from glm.encode import Ranker
    from glm.models.vocabulary import GeneVocabulary

    vocabulary = GeneVocabulary.from_dictionaries(data / "geneformer", "gc30M")
    place = {name: i for i, name in enumerate(vocabulary.ids)}
    sentences: Sentences = []
    for file in FILES:
        adata = ad.read_h5ad(data / "cells" / f"{file}.h5ad")
        ids = [vocabulary.symbols.get(symbol, symbol) for symbol in adata.var_names]
        order = np.array([place.get(name, -1) for name in ids])
        medians = np.where(order >= 0, vocabulary.medians[order], np.nan)
        # Where two columns are one gene, the first is enough here.
        first = np.zeros(order.size, bool)
        first[np.unique(order, return_index=True)[1]] = True
        used = np.flatnonzero(first & (order >= 0))
        ranker = Ranker(medians[used], order[used], np.arange(used.size))
        counts = sp.csr_array(sp.csr_array(adata.X)[:, used])
        columns, offsets, _ = ranker.sentences(counts, limit=CONTEXT)
        tokens = np.asarray(vocabulary.tokens)[order[used]][columns].astype(np.int32)
        sentences += [part for part in np.split(tokens, offsets[1:-1]) if part.size]
    drawn = np.random.default_rng(0).choice(len(sentences), n_cells, replace=False)
    return sorted((sentences[i] for i in drawn), key=len, reverse=True)


def _write_inputs(folder: Path, sentences: Sentences) -> None:
    import torch

    from glm.models.bert import BertConfig, MaskedLM
    from glm.models.weights import save_safetensors

    np.savez(folder / "cells.npz", *sentences)
    torch.manual_seed(0)
    model = MaskedLM(BertConfig(**SHAPE))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter += 0.1 * torch.randn_like(parameter)
    save_safetensors(model, folder / "model.safetensors")


class Worker:
    """A process that works in one way, on one thread, a round at a time."""

    def __init__(self, way: str, folder: Path, script: str = __file__) -> None:
        one_thread = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self._process = subprocess.Popen(
            [sys.executable, script, way, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | one_thread | {"HF_HUB_OFFLINE": "1"},
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def ask(self, what: str) -> dict[str, float]:
        self._process.stdin.write(what + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the process of {self._process.args[2]!r} ended early")
        return json.loads(answer)


def _work(way: str, folder: Path) -> None:
    import torch

    torch.set_num_threads(1)
    with np.load(folder / "cells.npz") as file:
        sentences = list(file.values())
    embed = {"authors": _authors, "plain": _plain, "packed": _packed}[way](folder)
    width = SHAPE["hidden_size"]
    vectors = np.zeros((len(sentences), width), np.float32)
    for line in sys.stdin:
        answer: dict[str, Any] = {}
        if line.startswith("ready"):
            answer = {"resident": _memory()[0]}
            embed = embed(sentences)
        elif line.startswith("round"):
            blocks = range(int(line.split()[1]) * BLOCK, len(sentences), ROUNDS * BLOCK)
            cells = [i for start in blocks for i in range(start, start + BLOCK)]
            start = time.perf_counter()
            vectors[cells] = embed([sentences[i] for i in cells])
            answer = {"seconds": time.perf_counter() - start}
        else:
            np.save(folder / f"{way}.npy", vectors)
            answer = {"peak": _memory()[1]}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _memory() -> tuple[float, float]:
    """Resident and peak memory of this process in MB.

    The peak that ``getrusage`` gives a child process can be its parent's, so the kernel's own
    count of this process comes first.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return tuple(int(lines[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
    import resource

    unit = 1024**2 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    return peak, peak


def _transformers(folder: Path, kind: str, n_layers: int) -> Any:
    """A transformers model with the weights of the folder."""
    import transformers
    from safetensors.torch import load_file

    config = transformers.BertConfig(
        vocab_size=SHAPE["vocab_size"],
        hidden_size=SHAPE["hidden_size"],
        num_hidden_layers=n_layers,
        num_attention_heads=SHAPE["n_heads"],
        intermediate_size=SHAPE["intermediate_size"],
        max_position_embeddings=SHAPE["n_positions"],
        hidden_act=SHAPE["activation"],
        pad_token_id=0,
        attn_implementation="sdpa",
    )
    state = load_file(folder / "model.safetensors")
    if kind == "BertModel":
        model = transformers.BertModel(config, add_pooling_layer=False)
        state = {name.removeprefix("bert."): tensor for name, tensor in state.items()}
    else:
        model = transformers.BertForMaskedLM(config)
    missing = set(model.load_state_dict(state, strict=False).missing_keys)
    assert all("decoder" in name or "position_ids" in name for name in missing), missing
    return model.eval()


def _padded(sentences: Sentences) -> tuple[Any, Any]:
    import torch

    tokens = torch.zeros(len(sentences), max(map(len, sentences)), dtype=torch.int64)
    mask = torch.zeros_like(tokens)
    for i, sentence in enumerate(sentences):
        tokens[i, : len(sentence)] = torch.from_numpy(sentence)
        mask[i, : len(sentence)] = 1
    return tokens, mask


def _mean(hidden: Any, mask: Any) -> NDArray[np.float32]:
    return ((hidden * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)).numpy()


def _authors(folder: Path) -> Callable[[Sentences], Embed]:
    import torch

    model = _transformers(folder, "BertForMaskedLM", SHAPE["n_layers"])

    def embed(sentences: Sentences) -> NDArray[np.float32]:
        parts = []
        for i in range(0, len(sentences), BLOCK):
            tokens, mask = _padded(sentences[i : i + BLOCK])
            with torch.no_grad():
                out = model(tokens, attention_mask=mask, output_hidden_states=True)
            parts.append(_mean(out.hidden_states[LAYER], mask))
        return np.concatenate(parts)

    return lambda _: embed


def _plain(folder: Path) -> Callable[[Sentences], Embed]:
    import torch

    model = _transformers(folder, "BertModel", LAYER)

    def embed(sentences: Sentences, size: int) -> NDArray[np.float32]:
        parts = []
        for i in range(0, len(sentences), size):
            tokens, mask = _padded(sentences[i : i + size])
            with torch.inference_mode():
                hidden = model(tokens, attention_mask=mask).last_hidden_state
                parts.append(_mean(hidden, mask))
        return np.concatenate(parts)

    def choose(sentences: Sentences) -> Embed:
        trial = sentences[len(sentences) // 2 :][:BLOCK]
        embed(trial[-1:], 1)
        best = min((1, 2, 5, 10), key=lambda size: _seconds(lambda: embed(trial, size)))
        return lambda sentences: embed(sentences, best)

    return choose


def _packed(folder: Path) -> Callable[[Sentences], Embed]:
    from glm.engine import ArraySink, Items, PoolRows, make_plan, run
    from glm.models.bert import BertConfig
    from glm.models.fast.bert import PackedBert
    from glm.models.weights import load_bert, read_state

    state = read_state(folder / "model.safetensors")
    model = PackedBert(load_bert(state, BertConfig(**SHAPE), head=False))

    def embed(sentences: Sentences) -> NDArray[np.float32]:
        lengths = np.array([len(sentence) for sentence in sentences])
        span = np.stack([np.zeros_like(lengths), lengths], axis=1).astype(np.int32)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        items = Items.one_a_row(np.arange(len(sentences)), np.concatenate(sentences), offsets, span)
        sink = ArraySink(len(sentences), SHAPE["hidden_size"])
        run([items], model, PoolRows("mean", sink), make_plan("cpu"), layer=LAYER)
        return sink.array

    return lambda _: embed


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _summary(
    sentences: Sentences,
    seconds: dict[str, list[float]],
    before: dict[str, dict[str, float]],
    after: dict[str, dict[str, float]],
) -> dict[str, float]:
    n_tokens = sum(map(len, sentences))
    results = {"n_cells": float(len(sentences)), "tokens_per_cell": n_tokens / len(sentences)}
    for way in WAYS:
        total, peak = sum(seconds[way]), after[way]["peak"]
        results |= {
            f"{way}_seconds": total,
            f"{way}_cells_per_s": len(sentences) / total,
            f"{way}_tokens_per_s": n_tokens / total,
            f"{way}_peak_mb": peak,
            f"{way}_extra_mb": peak - before[way]["resident"],
        }
    for way in ("authors", "plain"):
        rounds = [a / b for a, b in zip(seconds[way], seconds["packed"], strict=True)]
        results[f"ratio_to_{way}"] = float(np.median(rounds))
        results[f"lowest_ratio_to_{way}"] = min(rounds)
        for memory in ("peak", "extra"):
            share = results[f"packed_{memory}_mb"] / results[f"{way}_{memory}_mb"]
            results[f"{memory}_share_of_{way}"] = share
    return results


def _print_table(results: dict[str, float]) -> None:
    print(f"{results['n_cells']:.0f} cells, {results['tokens_per_cell']:.0f} tokens each")
    columns = ("seconds", "cells_per_s", "tokens_per_s", "peak_mb", "extra_mb")
    print(f"{'':10}" + "".join(f"{name:>14}" for name in columns))
    for way in WAYS:
        print(f"{way:10}" + "".join(f"{results[f'{way}_{name}']:14,.1f}" for name in columns))
    for way in ("authors", "plain"):
        print(
            f"packed is {results[f'ratio_to_{way}']:.2f} times as fast as {way} "
            f"(lowest of {ROUNDS} rounds {results[f'lowest_ratio_to_{way}']:.2f}), with "
            f"{results[f'peak_share_of_{way}']:.0%} of its memory "
            f"({results[f'extra_share_of_{way}']:.0%} beyond interpreter, imports and weights)"
        )


if __name__ == "__main__":
    if len(sys.argv) == 3:
        _work(sys.argv[1], Path(sys.argv[2]))
    else:
        main()
