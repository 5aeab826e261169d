"""Tokens of DNA: k-mers and byte pairs against the usual ways, and learning byte pairs.

**k-mers**: 6-mers of random bases against the list of strings: cut the text, look up each piece in
a dictionary. Ours is measured from codes, and from text (letters checked and turned into codes).
**Byte pairs**: 600 merges learnt from E. coli, applied to E. coli in windows of 2 kb and 20 kb,
against ``encode_batch`` of the ``tokenizers`` library on one thread; all tokens are compared.
**Learning**: 600 merges of one word of 100 kb against its trainer (the merges are compared), then
of all 4.6 Mb, then of 50 Mb: stretches of 1 kb drawn with replacement from the first million bases
of human chromosome 1. From these last, time and memory for hg19 (2.86 thousand million known bases)
are extrapolated; both grow in proportion. (First of all, since memory that was used before and is
free again would not be seen.)

Measurements of one comparison take turns, so that whatever else the machine does falls on both.
Run it with ``python benchmarks/tokens.py``; the data are looked for in ``GLM_TEST_DATA``.
"""

from __future__ import annotations

import gzip
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

os.environ["RAYON_NUM_THREADS"] = "1"  # the threads of tokenizers; read when it is first used
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy as np
from numpy.typing import NDArray
from rank import extra_memory

from glm.bases import to_codes, to_text
from glm.encode import BytePairs, kmer_pieces, kmer_tokens, learn_merges

N_MERGES = 600
REPEATS = 5
HG19_BASES = 2.86e9
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def main() -> dict[str, float]:
    """Measure, print a table, and return what it holds."""
    data = Path(os.environ.get("GLM_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    human = to_codes(read_fasta(data / "genome" / "hg38_chr1_first1Mb.fa.gz"))
    coli = read_fasta(data / "genome" / "ecoli.fa.gz")
    results = {**learning_a_genome(human), **kmers(), **applying(coli), **learning(coli)}
    for name, value in results.items():
        print(f"{name:36}{value:14,.2f}")
    return results


def read_fasta(path: Path) -> str:
    """The only sequence of a FASTA, in upper case."""
    with gzip.open(path, "rt") as file:
        return "".join(line.strip() for line in file if not line.startswith(">")).upper()


def kmers(k: int = 6) -> dict[str, float]:
    """Million bases a second: the list of strings, ours from codes, ours from text."""
    codes = np.random.default_rng(0).integers(0, 4, 4_000_000).astype(np.uint8)
    text = to_text(codes)
    part = text[:400_000]
    ids = {piece: i for i, piece in enumerate(kmer_pieces(k))}

    def plain() -> list[int]:
        return [ids.get(part[i : i + k], 1) for i in range(len(part) - k + 1)]

    assert kmer_tokens(to_codes(part), k).tolist() == plain()
    ways = {
        "plain": (plain, len(part)),
        "codes": (lambda: kmer_tokens(codes, k), len(codes)),
        "text": (lambda: kmer_tokens(to_codes(text), k), len(codes)),
    }
    mb_per_s = _speeds(ways)
    return {
        **{f"kmers_{name}_mb_per_s": speed for name, speed in mb_per_s.items()},
        "kmers_ratio_from_codes": mb_per_s["codes"] / mb_per_s["plain"],
        "kmers_ratio_from_text": mb_per_s["text"] / mb_per_s["plain"],
    }


def applying(text: str) -> dict[str, float]:
    """Million bases a second of both, in windows of two lengths."""
    from tokenizers import Tokenizer

    codes = to_codes(text)
    merges = learn_merges(codes, N_MERGES)
    pairs = BytePairs.from_merges(merges)
    theirs = Tokenizer.from_str(json.dumps(pairs.to_tokenizer_json()))
    pairs.apply(codes[:100])  # compiles
    start = time.perf_counter()
    BytePairs.from_merges(merges).apply(codes[:1])
    results = {"pairs_making_s": time.perf_counter() - start}
    for length, n in ((2_000, 500), (20_000, 50)):
        windows = [text[i : i + length] for i in range(0, n * length, length)]
        ends = np.arange(n + 1) * length
        tokens, offsets, spans = pairs.apply(codes[: n * length], ends)
        for row, said in enumerate(theirs.encode_batch(windows, add_special_tokens=False)):
            here = slice(offsets[row], offsets[row + 1])
            assert said.ids == tokens[here].tolist()
            assert said.offsets == [tuple(span) for span in spans[here].tolist()]
        mb_per_s = _speeds(
            {
                "tokenizers": (
                    lambda w=windows: theirs.encode_batch(w, add_special_tokens=False),
                    n * length,
                ),
                "glm": (lambda c=codes[: n * length], e=ends: pairs.apply(c, e), n * length),
                "glm_text": (lambda w=windows, e=ends: _from_text(pairs, w, e), n * length),
            }
        )
        for name, speed in mb_per_s.items():
            results[f"pairs_{name}_mb_per_s_{length}"] = speed
        results[f"pairs_ratio_{length}"] = mb_per_s["glm"] / mb_per_s["tokenizers"]
        results[f"pairs_ratio_from_text_{length}"] = mb_per_s["glm_text"] / mb_per_s["tokenizers"]
    return results


def _from_text(pairs: BytePairs, windows: list[str], ends: NDArray[np.int64]) -> object:
    return pairs.apply(to_codes("".join(windows)), ends)


def learning(text: str) -> dict[str, float]:
    """Seconds of both for 100 kb, and of ours for all of it."""
    codes = to_codes(text)
    word, part = text[:100_000], codes[:100_000]
    assert learn_merges(part, N_MERGES) == trainer(word)  # compiles, too
    theirs = ours = float("inf")
    for _ in range(2):
        theirs = min(theirs, _seconds(lambda: trainer(word)))
        ours = min(ours, *(_seconds(lambda: learn_merges(part, N_MERGES)) for _ in range(3)))
    whole = min(_seconds(lambda: learn_merges(codes, N_MERGES)) for _ in range(2))
    return {
        "learn_100kb_tokenizers_s": theirs,
        "learn_100kb_s": ours,
        "learn_100kb_ratio": theirs / ours,
        "learn_ecoli_s": whole,
    }


def trainer(word: str) -> list[tuple[str, str]]:
    """The merges that the trainer of ``tokenizers`` finds in one word."""
    from tokenizers import Tokenizer, models, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    size = len(SPECIALS) + 4 + N_MERGES
    options = {"vocab_size": size, "special_tokens": SPECIALS, "show_progress": False}
    tokenizer.train_from_iterator([word], trainers.BpeTrainer(**options))
    return [(a, b) for a, b in json.loads(tokenizer.to_str())["model"]["merges"]]


def learning_a_genome(codes: NDArray[np.uint8], n: int = 50_000_000) -> dict[str, float]:
    """Seconds and bytes for resampled human bases, and what follows for a whole genome.

    Here there is nothing to compare with in turns: both the clock's and the processor's seconds are
    given, and the extrapolation is of the latter (of one thread, with nothing else running).
    """
    rng = np.random.default_rng(0)
    starts = rng.integers(0, len(codes) - 1000, n // 1000)
    genome = codes[(starts[:, None] + np.arange(1000)).ravel()]
    learn_merges(codes[:5000], 300)  # compiles
    clock, processor = time.perf_counter(), time.process_time()
    memory = extra_memory(lambda: learn_merges(genome, N_MERGES))
    clock, processor = time.perf_counter() - clock, time.process_time() - processor
    known = int((genome < 4).sum())
    return {
        "learn_50mb_s": clock,
        "learn_50mb_processor_s": processor,
        "learn_50mb_known_mb": known / 1e6,
        "learn_50mb_bytes_per_base": memory / n,
        "learn_hg19_s_extrapolated": processor * HG19_BASES / known,
        "learn_hg19_gb_extrapolated": memory / known * HG19_BASES / 1e9,
    }


def _speeds(ways: dict[str, tuple[Callable[[], object], int]]) -> dict[str, float]:
    """Million bases a second of each way, the best of several rounds in turn."""
    best = dict.fromkeys(ways, float("inf"))
    for name, (work, _) in ways.items():
        best[name] = _seconds(work)  # compiles, and fills caches
    for _ in range(REPEATS):
        for name, (work, _) in ways.items():
            best[name] = min(best[name], _seconds(work))
    return {name: ways[name][1] / 1e6 / best[name] for name in ways}


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
