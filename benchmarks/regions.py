"""Embeddings of regions of 500 bp, from the genome's file to the slot, on one thread.

transformers
    As its users do it: sequences from FASTA with pyfaidx, its own tokenizer (of k-mers
    ``BertTokenizer`` on words with spaces between them, of byte pairs ``PreTrainedTokenizerFast``
    on sequences read with their flank), ``BertModel`` without the layer on top, ``inference_mode``,
    ``sdpa``, the best of a few batch sizes (chosen before the clock starts); then the mean over
    tokens, or the first vector.
glm
    ``glm.tl.embed`` of an AnnData whose variables are named by their places, from 2bit.

In float32 both must agree to 1e-4 on every region. Each round takes other regions, and the ways
run one after the other in it, so that slow spells of the machine fall on all of them. ``glm`` in
bfloat16 is compared with ``transformers`` in float32 (what its users run on a CPU) and in bfloat16.

10,000 regions with the shape and pooling (mean) of the bundled models; 2,000 with the first vector,
which saves ``glm`` most of the last layer; of the published shapes, which are sixty times as much
work, a sample with their authors' pooling (first vector). Weights are random (LayerNorms too), the
genome is random, and byte pairs are learnt from it, so that tokens have the length they have in
real DNA (some four bases). Also told: what the tokenizers take alone, and what ``glm`` takes for
everything but the model.

Run it with ``python benchmarks/regions.py``, or with a number of regions.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

N_REGIONS = 10_000
N_FIRST = 2_000
N_SAMPLE = 20
LENGTH = 500
ROUNDS = 4
GENOME_BP = 6_000_000
TINY = {"hidden_size": 192, "n_layers": 3, "n_heads": 6, "intermediate_size": 512}
BASE = {"hidden_size": 768, "n_layers": 12, "n_heads": 12, "intermediate_size": 3072}
WAYS = ("transformers", "glm", "transformers_bf16", "glm_bf16")


@dataclass
class Case:
    """A model, what reads it elsewhere, and how many regions are measured."""

    name: str
    model: Any
    tokenizer: Any
    peer: Any
    n_regions: int
    pooling: str
    batch: int = 16

    @property
    def flank(self) -> int:
        return self.model.vocabulary.flank_bp


def main(n_regions: int = N_REGIONS) -> dict[str, float]:
    """Measure, print, and return what was printed."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    results: dict[str, float] = {}
    try:
        with tempfile.TemporaryDirectory() as folder:
            text = "".join(np.random.default_rng(0).choice(list("ACGT"), GENOME_BP))
            write_fasta(Path(folder) / "genome.fa", text)
            write_two_bit(Path(folder) / "genome.2bit", text)
            for case in make_cases(Path(folder), text, n_regions):
                results |= measure(case, Path(folder))
    finally:
        torch.set_num_threads(threads)
    return results


def make_cases(folder: Path, text: str, n_regions: int) -> list[Case]:
    import glm
    from glm.bases import to_codes
    from glm.encode import learn_merges

    kmers = glm.models.KmerVocabulary(6)
    merges = learn_merges(to_codes(text[:1_000_000]), 600)
    pairs = glm.models.PairVocabulary.from_merges("random", merges)
    kinds = (
        ("tiny", TINY, "mean", n_regions),
        ("tiny_first", TINY, "cls", min(n_regions, N_FIRST)),
        ("base", BASE, "cls", N_SAMPLE),
    )
    return [
        make_case(folder, system, vocabulary, kind)
        for kind in kinds
        for system, vocabulary in (("dnabert", kmers), ("grover", pairs))
    ]


def make_case(
    folder: Path, system: str, vocabulary: Any, kind: tuple[str, dict[str, int], Any, int]
) -> Case:
    import torch

    from glm.models import BertConfig, Model, ModelSpec
    from glm.models.bert import MaskedLM

    size, sizes, pooling, n_regions = kind
    name = f"{system}_{size}"
    shape = BertConfig(vocab_size=len(vocabulary), n_positions=512, activation="gelu", **sizes)
    torch.manual_seed(0)
    network = MaskedLM(shape).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter += 0.1 * torch.randn_like(parameter)
    spec = ModelSpec(name, system, shape, pooling, hidden_layer="last", tier="local")
    model = Model(spec, vocabulary, network)
    tokenizer, peer = tokenizer_of(vocabulary, folder), peer_of(model)
    return Case(name, model, tokenizer, peer, n_regions, pooling)


def tokenizer_of(vocabulary: Any, folder: Path) -> Any:
    """The library's tokenizer, from the files that such models are published with."""
    from transformers import BertTokenizer, PreTrainedTokenizerFast

    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    if hasattr(vocabulary, "k"):
        path = folder / "vocab.txt"
        path.write_text("\n".join([*specials, *vocabulary.pieces]) + "\n", encoding="utf-8")
        return BertTokenizer(str(path), do_lower_case=False)
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(vocabulary.pairs.to_tokenizer_json()), encoding="utf-8")
    return PreTrainedTokenizerFast(tokenizer_file=str(path), pad_token="[PAD]")


def peer_of(model: Any) -> Any:
    """The library's model with the same weights."""
    import transformers

    shape = model.spec.shape
    config = transformers.BertConfig(
        vocab_size=shape.vocab_size,
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.n_layers,
        num_attention_heads=shape.n_heads,
        intermediate_size=shape.intermediate_size,
        max_position_embeddings=shape.n_positions,
        attn_implementation="sdpa",
    )
    from glm.models.weights import to_published

    peer = transformers.BertModel(config, add_pooling_layer=False)
    state = to_published(model.network)
    named = {n.removeprefix("bert."): t for n, t in state.items() if n.startswith("bert.")}
    missing = set(peer.load_state_dict(named, strict=False).missing_keys)
    assert all("position_ids" in name for name in missing), missing
    return peer.eval()


# ---- the two ways --------------------------------------------------------------------------------


def with_transformers(case: Case, starts: np.ndarray, fasta: Path, peer: Any) -> np.ndarray:
    import torch

    parts = []
    for texts in batched(read_texts(case, starts, fasta), case.batch):
        tokens, counted = tokenised(case, texts)
        with torch.inference_mode():
            hidden = peer(**tokens).last_hidden_state.float()
        first = case.pooling == "cls"
        pooled = hidden[:, 0] if first else (hidden * counted).sum(1) / counted.sum(1)
        parts.append(pooled.numpy())
    return np.concatenate(parts)


def read_texts(case: Case, starts: np.ndarray, fasta: Path) -> list[str]:
    from pyfaidx import Fasta

    with Fasta(str(fasta), as_raw=True, sequence_always_upper=True) as genome:
        contig = genome["chr1"]
        return [str(contig[a - case.flank : a + LENGTH + case.flank]) for a in starts.tolist()]


def tokenised(case: Case, texts: list[str]) -> tuple[Any, Any]:
    """Tokens of a batch, and which of them count: all but the special ones, and those of flank."""
    import torch

    if case.flank:
        return trimmed(case, texts)
    k = case.model.vocabulary.k
    words = [" ".join(t[i : i + k] for i in range(len(t) - k + 1)) for t in texts]
    tokens = case.tokenizer(words, return_tensors="pt", padding=True)
    counted = tokens["attention_mask"].clone()
    counted[:, 0] = 0
    counted[torch.arange(len(texts)), tokens["attention_mask"].sum(1) - 1] = 0
    return tokens, counted[:, :, None]


def trimmed(case: Case, texts: list[str]) -> tuple[Any, Any]:
    """Tokens that overlap the region, framed and padded: the model's card asks for the trimming."""
    import torch

    found = case.tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
    low, high = case.flank, case.flank + LENGTH
    kept = [
        [token for token, (a, b) in zip(ids, places, strict=True) if b > low and a < high]
        for ids, places in zip(found["input_ids"], found["offset_mapping"], strict=True)
    ]
    tokens = case.tokenizer.pad({"input_ids": [[2, *ids, 3] for ids in kept]}, return_tensors="pt")
    counted = tokens["attention_mask"].clone()
    counted[:, 0] = 0
    counted[torch.arange(len(texts)), tokens["attention_mask"].sum(1) - 1] = 0
    return tokens, counted[:, :, None]


def with_glm(case: Case, starts: np.ndarray, two_bit: Path, precision: str) -> np.ndarray:
    import glm

    adata = peaks_at(starts)
    glm.tl.embed(adata, case.model, genome=two_bit, precision=precision, device="cpu")
    return adata.varm[f"X_{case.model.spec.system}"]


def peaks_at(starts: np.ndarray) -> Any:
    from anndata import AnnData

    adata = AnnData(np.zeros((1, starts.size), np.float32))
    adata.var_names = [f"chr1:{a}-{a + LENGTH}" for a in starts.tolist()]
    return adata


def without_the_model(case: Case, starts: np.ndarray, two_bit: Path) -> float:
    """Seconds that ``glm`` takes to find regions, read them, make tokens and cut batches."""
    import glm
    from glm.engine import batches
    from glm.tl._embed_regions import RegionOptions, find_regions, make_source

    started = time.perf_counter()
    located = find_regions(peaks_at(starts), case.name, axis=None, mod=None)
    genome = glm.Genome(two_bit)
    source = make_source(located, genome, case.model.vocabulary, RegionOptions(), "mean")
    for block in range(source.n_blocks):
        for _ in batches(source.block(block), 6144):
            pass
    return time.perf_counter() - started


# ---- measuring -----------------------------------------------------------------------------------


def measure(case: Case, folder: Path) -> dict[str, float]:
    import copy

    import torch

    fasta, two_bit = folder / "genome.fa", folder / "genome.2bit"
    half = copy.deepcopy(case.peer).to(torch.bfloat16)
    ways: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "transformers": lambda at: with_transformers(case, at, fasta, case.peer),
        "glm": lambda at: with_glm(case, at, two_bit, "float32"),
        "transformers_bf16": lambda at: with_transformers(case, at, fasta, half),
        "glm_bf16": lambda at: with_glm(case, at, two_bit, "bfloat16"),
    }
    rng = np.random.default_rng(1)
    starts = rng.integers(200, GENOME_BP - 1_000, case.n_regions)
    few = starts[: min(8, starts.size)]
    for way in ways.values():  # compiles kernels, writes the index
        way(few[:2])
    largest = float(abs(ways["glm"](few) - ways["transformers"](few)).max())
    assert largest < 1e-4, f"{case.name}: {largest}"
    case.batch = best_batch(case, starts, fasta)
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for at in np.array_split(starts, ROUNDS):
        found = {}
        for name, way in ways.items():
            started = time.perf_counter()
            found[name] = way(at)
            seconds[name].append(time.perf_counter() - started)
        largest = max(largest, float(abs(found["glm"] - found["transformers"]).max()))
        assert largest < 1e-4, f"{case.name}: {largest}"
    results = summary(case, seconds) | {f"{case.name}_largest_difference": largest}
    some = starts[: min(1000, starts.size)]
    texts = read_texts(case, some, fasta)
    started = time.perf_counter()
    for part in batched(texts, case.batch):
        tokenised(case, part)
    spent = time.perf_counter() - started
    results[f"{case.name}_transformers_tokenizer_share"] = (
        spent / some.size * case.n_regions / sum(seconds["transformers"])
    )
    results[f"{case.name}_glm_share_beside_the_model"] = without_the_model(
        case, starts, two_bit
    ) / sum(seconds["glm"])
    show(case, results)
    return results


def best_batch(case: Case, starts: np.ndarray, fasta: Path) -> int:
    """Of a few batch sizes the fastest for the peer."""
    trial = starts[: min(64, starts.size)]
    sizes = [size for size in (4, 8, 16, 32) if size <= trial.size]

    def spent(size: int) -> float:
        case.batch = size
        started = time.perf_counter()
        with_transformers(case, trial, fasta, case.peer)
        return time.perf_counter() - started

    return min(sizes, key=spent)


def summary(case: Case, seconds: dict[str, list[float]]) -> dict[str, float]:
    name = case.name
    results = {f"{name}_regions": float(case.n_regions), f"{name}_batch": float(case.batch)}
    for way, spent in seconds.items():
        results[f"{name}_{way}_regions_per_s"] = case.n_regions / sum(spent)
    for ours, theirs in (
        ("glm", "transformers"),
        ("glm_bf16", "transformers"),
        ("glm_bf16", "transformers_bf16"),
    ):
        rounds = [b / a for a, b in zip(seconds[ours], seconds[theirs], strict=True)]
        results[f"{name}_{ours}_to_{theirs}"] = float(np.median(rounds))
        results[f"{name}_{ours}_to_{theirs}_lowest"] = min(rounds)
    return results


def show(case: Case, results: dict[str, float]) -> None:
    name = case.name
    rates = ", ".join(f"{way} {results[f'{name}_{way}_regions_per_s']:,.1f}" for way in WAYS)
    print(f"{name}, {case.n_regions:,} regions of {LENGTH} bp, regions/s: {rates}")
    for ours, theirs in (
        ("glm", "transformers"),
        ("glm_bf16", "transformers"),
        ("glm_bf16", "transformers_bf16"),
    ):
        ratio = results[f"{name}_{ours}_to_{theirs}"]
        lowest = results[f"{name}_{ours}_to_{theirs}_lowest"]
        print(f"  {ours} is {ratio:.2f} times as fast as {theirs} (lowest round {lowest:.2f})")
    print(
        f"  largest difference in float32 {results[f'{name}_largest_difference']:.1e}; the "
        f"tokenizer takes {results[f'{name}_transformers_tokenizer_share']:.1%} of transformers' "
        f"time, all but the model {results[f'{name}_glm_share_beside_the_model']:.1%} of glm's",
        flush=True,
    )


def batched(texts: list[str], size: int) -> list[list[str]]:
    return [texts[i : i + size] for i in range(0, len(texts), size)]


# ---- files ---------------------------------------------------------------------------------------


def write_fasta(path: Path, text: str) -> None:
    lines = [text[i : i + 60] for i in range(0, len(text), 60)]
    path.write_text(">chr1\n" + "\n".join(lines) + "\n", encoding="ascii")


def write_two_bit(path: Path, text: str) -> None:
    codes = np.frombuffer(text.encode(), np.uint8)
    digits = np.zeros(256, np.uint8)
    digits[[ord(letter) for letter in "TCAG"]] = range(4)
    bits = np.resize(np.append(digits[codes], [0, 0, 0]), (-(-codes.size // 4), 4))
    packed = (bits << np.array([6, 4, 2, 0], np.uint8)).sum(axis=1).astype(np.uint8)
    header = np.array([0x1A412743, 0, 1, 0], "<u4").tobytes() + b"\x04chr1"
    at = np.array([len(header) + 4], "<u4").tobytes()
    record = np.array([codes.size, 0, 0, 0], "<u4").tobytes()
    path.write_bytes(header + at + record + packed.tobytes())


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
