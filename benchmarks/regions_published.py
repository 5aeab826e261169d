"""10,000 regions of 500 bp with the shape that GROVER is published in, end to end, on one thread.

``regions.py`` measures the published shapes on a few regions; this is the run at full length (about
an hour of a core): ``transformers`` in float32, as its users run it on a CPU, against
``glm.tl.embed`` in bfloat16, the same regions, in rounds that follow one another. Also told: how
close the two embeddings are (cosine around their mean), over all regions.

Run it with ``python benchmarks/regions_published.py``, or with a number of regions and rounds.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import regions

N_REGIONS = 10_000
ROUNDS = 40


def main(n_regions: int = N_REGIONS, rounds: int = ROUNDS) -> dict[str, float]:
    """Measure, print, and return what was printed."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            return measure(Path(folder), n_regions, rounds)
    finally:
        torch.set_num_threads(threads)


def measure(folder: Path, n_regions: int, rounds: int) -> dict[str, float]:
    text = "".join(np.random.default_rng(0).choice(list("ACGT"), regions.GENOME_BP))
    fasta, two_bit = folder / "genome.fa", folder / "genome.2bit"
    regions.write_fasta(fasta, text)
    regions.write_two_bit(two_bit, text)
    case = grover(folder, text, n_regions)
    starts = np.random.default_rng(1).integers(200, regions.GENOME_BP - 1_000, n_regions)
    for way in (theirs, ours):  # compiles kernels, writes the index
        way(case, starts[:2], fasta, two_bit)
    case.batch = regions.best_batch(case, starts, fasta)
    seconds: dict[str, list[float]] = {"theirs": [], "ours": []}
    found: dict[str, list[np.ndarray]] = {"theirs": [], "ours": []}
    for i, at in enumerate(np.array_split(starts, rounds)):
        for way in (theirs, ours):
            started = time.perf_counter()
            found[way.__name__].append(way(case, at, fasta, two_bit))
            seconds[way.__name__].append(time.perf_counter() - started)
        spent = {name: sum(times) for name, times in seconds.items()}
        print(f"  round {i + 1}: {spent['theirs'] / spent['ours']:.2f}", spent, flush=True)
    return summary(case, seconds, found)


def grover(folder: Path, text: str, n_regions: int) -> regions.Case:
    import glm
    from glm.bases import to_codes
    from glm.encode import learn_merges

    merges = learn_merges(to_codes(text[:1_000_000]), 600)
    pairs = glm.models.PairVocabulary.from_merges("random", merges)
    return regions.make_case(folder, "grover", pairs, ("published", regions.BASE, "cls", n_regions))


def theirs(case: regions.Case, at: np.ndarray, fasta: Path, two_bit: Path) -> np.ndarray:
    return regions.with_transformers(case, at, fasta, case.peer)


def ours(case: regions.Case, at: np.ndarray, fasta: Path, two_bit: Path) -> np.ndarray:
    return regions.with_glm(case, at, two_bit, "bfloat16")


def summary(
    case: regions.Case, seconds: dict[str, list[float]], found: dict[str, list[np.ndarray]]
) -> dict[str, float]:
    peer, own = (np.concatenate(found[name]) for name in ("theirs", "ours"))
    centre = peer.mean(axis=0)
    a, b = peer - centre, own - centre
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    rounds = np.divide(seconds["theirs"], seconds["ours"])
    results = {
        "grover_published_regions": float(case.n_regions),
        "grover_published_batch": float(case.batch),
        "grover_published_transformers_s": sum(seconds["theirs"]),
        "grover_published_glm_bf16_s": sum(seconds["ours"]),
        "grover_published_glm_bf16_to_transformers": sum(seconds["theirs"]) / sum(seconds["ours"]),
        "grover_published_glm_bf16_to_transformers_lowest": float(rounds.min()),
        "grover_published_lowest_cosine": float(cosine.min()),
        "grover_published_mean_cosine": float(cosine.mean()),
    }
    for name, value in results.items():
        print(f"{name}: {value:.5g}")
    return results


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
