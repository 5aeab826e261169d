"""Windows of a genome: ours from 2bit against pyfaidx, at random places, in one run.

The genome is made up: five contigs of 20 million random bases with runs of N and of lower case,
written to a temporary folder as 2bit and as FASTA (60 bases a line) from the same letters. Both
sides read the same regions on one thread, and the files are in the page cache.

pyfaidx gives raw text, which one look-up turns into codes (nothing is done letter by letter). For
one-hot rows there are two ways on from there: the usual one, ``rows[codes]``, which makes a new
array for each window, and the best that numpy has, ``np.take`` into rows that were there before.
Ours writes to an array that was there before, too. Every window is compared before anything is
timed, and the measurements take turns, so that whatever else the machine does falls on all of them.

Short windows are timed as thousands a call, as an embedding reads them; long ones eight codes or
two one-hot rows a call, as a model of 196,608 bases takes them.

Run it with ``python benchmarks/genome.py``.
"""

from __future__ import annotations

import os
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyfaidx
from numpy.typing import NDArray

import glm
from glm import Regions

CONTIGS, CONTIG_BP = 5, 20_000_000
LONG_BP, SHORT_BP = 196_608, 512
ROUNDS = 15

CODE_OF = np.full(256, 4, np.uint8)
CODE_OF[np.frombuffer(b"ACGTacgt", np.uint8)] = [0, 1, 2, 3] * 2
ROW_OF = np.vstack([np.eye(4, dtype=np.float32), np.zeros((1, 4), np.float32)])


def main() -> dict[str, float]:
    """Measure, print a table, and return what it holds."""
    with tempfile.TemporaryDirectory() as folder:
        two_bit, fasta = write_genome(Path(folder))
        genome = glm.Genome(two_bit)
        assert genome.contigs == dict.fromkeys(genome.contigs, CONTIG_BP)
        peer = pyfaidx.Faidx(str(fasta), as_raw=True)
        found = {
            "codes_long": compare(genome, peer, LONG_BP, 8, one_hot=False),
            "one_hot_long": compare(genome, peer, LONG_BP, 2, one_hot=True),
            "codes_short": compare(genome, peer, SHORT_BP, 4_000, one_hot=False),
            "one_hot_short": compare(genome, peer, SHORT_BP, 500, one_hot=True),
        }
        peer.close()
    _print_table(found)
    return {f"{what}_{name}": value for what, row in found.items() for name, value in row.items()}


# ---- a genome ------------------------------------------------------------------------------------


def write_genome(folder: Path) -> tuple[Path, Path]:
    """The same random letters as 2bit and as FASTA."""
    rng = np.random.default_rng(0)
    two_bit, fasta = folder / "made.2bit", folder / "made.fa"
    names = [f"chr{i + 1}" for i in range(CONTIGS)]
    at = 16 + sum(5 + len(name) for name in names)
    index, records = b"", []
    with open(fasta, "wb") as file:
        for name in names:
            letters, record = make_contig(rng)
            file.write(f">{name}\n".encode())
            whole = CONTIG_BP // 60 * 60
            ends = np.full((whole // 60, 1), ord("\n"), np.uint8)
            file.write(np.hstack([letters[:whole].reshape(-1, 60), ends]).tobytes())
            file.write(letters[whole:].tobytes() + b"\n")
            index += bytes([len(name)]) + name.encode() + struct.pack("<I", at)
            at += len(record)
            records.append(record)
    head = struct.pack("<4I", 0x1A412743, 0, CONTIGS, 0)
    two_bit.write_bytes(head + index + b"".join(records))
    return two_bit, fasta


def make_contig(rng: np.random.Generator) -> tuple[NDArray[np.uint8], bytes]:
    """Letters of a contig, and its record in a 2bit file."""
    bits = rng.integers(0, 4, CONTIG_BP, dtype=np.uint8)  # T, C, A, G
    letters = np.frombuffer(b"TCAG", np.uint8)[bits]
    unknown = runs(rng, 40, 50_000)
    for start, end in unknown:
        letters[start:end] = ord("N")
    masked = runs(rng, 20_000, 500)
    for start, end in masked:
        letters[start:end] |= 0x20
    packed = np.bitwise_or.reduce(bits.reshape(-1, 4) << np.array([6, 4, 2, 0], np.uint8), axis=1)
    tables = b"".join(
        struct.pack("<I", len(blocks))
        + blocks[:, 0].astype("<u4").tobytes()
        + (blocks[:, 1] - blocks[:, 0]).astype("<u4").tobytes()
        for blocks in (unknown, masked)
    )
    return letters, struct.pack("<I", CONTIG_BP) + tables + bytes(4) + packed.tobytes()


def runs(rng: np.random.Generator, count: int, longest: int) -> NDArray[np.int64]:
    """Runs that neither touch nor overlap."""
    step = CONTIG_BP // count
    start = np.arange(count) * step + rng.integers(0, step // 4, count)
    return np.stack([start, start + rng.integers(1, min(longest, step // 2), count)], axis=1)


# ---- the two ways --------------------------------------------------------------------------------


def compare(
    genome: glm.Genome, peer: pyfaidx.Faidx, length_bp: int, at_once: int, *, one_hot: bool
) -> dict[str, float]:
    """Windows a second of both, in batches of ``at_once``."""
    batches = [random_regions(seed, length_bp, at_once) for seed in range(8)]
    shape = (at_once, length_bp, 4) if one_hot else (at_once, length_bp)
    mine, theirs = (np.full(shape, 9, np.float32 if one_hot else np.uint8) for _ in range(2))

    def ours(regions: Regions) -> None:
        if one_hot:
            genome.one_hot_windows(regions, out=mine)
        else:
            genome.windows(regions, out=mine)

    def usual(regions: Regions) -> None:
        for row, codes in enumerate(codes_of(peer, regions)):
            theirs[row] = ROW_OF[codes] if one_hot else codes

    def best(regions: Regions) -> None:
        for row, codes in enumerate(codes_of(peer, regions)):
            np.take(ROW_OF, codes, axis=0, out=theirs[row], mode="clip")

    ways: list[Callable[[Regions], None]] = [ours, usual, best] if one_hot else [ours, usual]
    for regions in batches:
        ours(regions)
        for way in ways[1:]:
            theirs[:] = 9
            way(regions)
            assert np.array_equal(mine, theirs), "windows differ"
    times = dict.fromkeys(ways, np.inf)
    for _ in range(ROUNDS):
        for way in ways:
            times[way] = min(times[way], seconds(way, batches))
    n = at_once * len(batches)
    found = {
        "per_s": n / times[ours],
        "pyfaidx_per_s": n / times[usual],
        "ratio": times[usual] / times[ours],
    }
    return found | ({"ratio_to_best": times[best] / times[ours]} if one_hot else {})


def codes_of(peer: pyfaidx.Faidx, regions: Regions) -> Iterator[NDArray[np.uint8]]:
    """Text of each region, by one look-up as codes."""
    for chrom, start, end, _ in regions:
        text = peer.fetch(chrom, start + 1, end)
        yield np.take(CODE_OF, np.frombuffer(text.encode(), np.uint8))


def random_regions(seed: int, length_bp: int, count: int) -> Regions:
    """Regions of one length anywhere."""
    rng = np.random.default_rng(seed)
    start = rng.integers(0, CONTIG_BP - length_bp, count)
    chrom = np.array([f"chr{i + 1}" for i in range(CONTIGS)], object)[
        rng.integers(0, CONTIGS, count)
    ]
    return Regions.of(chrom, start, start + length_bp)


def seconds(work: Callable[[Regions], None], batches: list[Regions]) -> float:
    """One pass over all batches."""
    start = time.perf_counter()
    for regions in batches:
        work(regions)
    return time.perf_counter() - start


def _print_table(found: dict[str, dict[str, float]]) -> None:
    titles = {
        "codes_long": f"codes, {LONG_BP:,} bp",
        "one_hot_long": f"one-hot, {LONG_BP:,} bp",
        "codes_short": f"codes, {SHORT_BP} bp",
        "one_hot_short": f"one-hot, {SHORT_BP} bp",
    }
    print(
        f"{'windows a second':22}{'glm, 2bit':>14}{'pyfaidx':>14}{'ratio':>10}{'to the best':>14}"
    )
    for name, row in found.items():
        rates = f"{row['per_s']:14,.0f}{row['pyfaidx_per_s']:14,.0f}"
        best = f"{row['ratio_to_best']:13.1f}x" if "ratio_to_best" in row else ""
        print(f"{titles[name]:22}{rates}{row['ratio']:9.1f}x{best}")
    print(f"(one thread; {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f})")


if __name__ == "__main__":
    main()
