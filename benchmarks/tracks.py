"""Tracks of regions from the genome's file to the slot, on one thread.

enformer-pytorch
    As its users do it: the window around a region from FASTA with pyfaidx, one-hot by one look-up,
    the model in ``inference_mode``, which predicts all tracks of all bins; then those bins that
    share a base with the region, ten tracks of them, and their mean.
glm
    ``glm.tl.predict_tracks`` of an AnnData whose variables are named by their places, from 2bit.

Both have the same weights and must agree to 1e-4 of a track's highest value on every region. The
model is Enformer at a quarter of its width, heads of attention and tracks, with 4 of its 11 blocks
and its own windows of 196,608 bases: full size is what ``enformer.py`` measures. Weights and the
genome are random. Each round takes other regions, and the ways take turns in it.

Then, with ``glm`` alone: a stretch of four neighbouring outputs (``glm.tl.predict_stretch``)
against the same bins from windows of their own, what both strands cost, and how near the time
comes that ``dry_run=True`` tells. Memory is the highest resident set during a run beyond what
there was before it, with the weights loaded.

Run it with ``python benchmarks/tracks.py``; 3 to 4 minutes and 2 GB. Linux only.
"""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from enformer import clock, peak, peer_of, realistic_model
from regions import write_fasta, write_two_bit

GENOME_BP = 3_000_000
WINDOW_BP, CROP, N_BINS, BIN_BP = 196_608, 320, 896, 128
REGION_BP = 500
REGIONS_A_ROUND = 4
ROUNDS = 3
TILES = 4
N_TRACKS = 10
TOLERANCE = 1e-4

Way = Callable[[np.ndarray], np.ndarray]


def main(rounds: int = ROUNDS) -> dict[str, float]:
    """Measure, print, and return what was printed."""
    import torch

    import glm

    threads, progress = torch.get_num_threads(), glm.settings.progress
    torch.set_num_threads(1)
    glm.settings.progress = False
    try:
        with tempfile.TemporaryDirectory() as folder:
            results = measure(Path(folder), rounds)
    finally:
        torch.set_num_threads(threads)
        glm.settings.progress = progress
    report(results)
    return results


def measure(folder: Path, rounds: int) -> dict[str, float]:
    text = "".join(np.random.default_rng(0).choice(list("ACGT"), GENOME_BP))
    write_fasta(folder / "genome.fa", text)
    write_two_bit(folder / "genome.2bit", text)
    model = quarter_model()
    found = against_plain(model, folder, rounds)
    return found | stretch(model, folder, rounds) | more_work(model, folder, rounds)


def quarter_model() -> Any:
    """The network with random weights, norms as in a trained one, and a table of its tracks."""
    import pandas as pd

    from glm.models.enformer_config import EnformerConfig
    from glm.models.track_model import TrackModel, TrackSpec

    shape = EnformerConfig(
        {"human": 1_328, "mouse": 411}, channels=384, depth=4, n_heads=2, channel_step=32
    )

    def table(n: int) -> Any:
        facts = {"assay": "CAGE", "sample": "made up", "aggregation": "sum", "scale": 1.0}
        names = [f"T{i}" for i in range(n)]
        number = pd.RangeIndex(n, name="index")
        columns = {"identifier": names, **facts, "clip": 384.0, "strand_pair": number.to_numpy()}
        return pd.DataFrame(columns, index=number)

    spec = TrackSpec("enformer at a quarter of its width", shape, WINDOW_BP, tier="local")
    tables = {head: table(n) for head, n in shape.heads.items()}
    return TrackModel(spec, realistic_model(shape), tables)


# ---- the two ways --------------------------------------------------------------------------------


def with_glm(model: Any, path: Path, at: np.ndarray, **options: Any) -> np.ndarray:
    """Regions × tracks, or with ``bins="all"`` regions × bins × tracks."""
    from anndata import AnnData

    import glm

    data = AnnData(np.zeros((1, len(at)), np.float32))
    data.var_names = [f"chr1:{start}-{start + REGION_BP}" for start in at]
    glm.tl.predict_tracks(data, model, genome=path, tracks=range(N_TRACKS), **options)
    return np.asarray(data.varm["tracks_enformer"])


def with_peer(peer: Any, path: Path, at: np.ndarray) -> np.ndarray:
    import pyfaidx
    import torch

    codes = np.full(256, 4, np.uint8)
    codes[np.frombuffer(b"ACGT", np.uint8)] = range(4)
    rows = np.vstack([np.eye(4, dtype=np.float32), np.zeros((1, 4), np.float32)])
    found = []
    with pyfaidx.Fasta(str(path), as_raw=True, sequence_always_upper=True) as fasta:
        for start in at.tolist():
            first = start + REGION_BP // 2 - WINDOW_BP // 2
            letters = np.frombuffer(fasta["chr1"][first : first + WINDOW_BP].encode(), np.uint8)
            with torch.inference_mode():
                tracks = peer(torch.from_numpy(rows[codes[letters]])[None])["human"][0]
            begin = start - first - CROP * BIN_BP
            bins = slice(begin // BIN_BP, -(-(begin + REGION_BP) // BIN_BP))
            found.append(tracks[bins, :N_TRACKS].mean(dim=0).numpy())
    return np.stack(found)


def against_plain(model: Any, folder: Path, rounds: int) -> dict[str, float]:
    peer = peer_of(model.network)
    peer.set_target_length(N_BINS)
    ways: dict[str, Way] = {
        "glm": lambda at: with_glm(model, folder / "genome.2bit", at),
        "peer": lambda at: with_peer(peer, folder / "genome.fa", at),
    }
    starts = random_starts((rounds + 1) * REGIONS_A_ROUND)
    first, *others = np.array_split(starts, rounds + 1)
    for way in ways.values():  # imports, and the index of the FASTA file
        way(first[:1])
    give_back()
    with peak() as ours:
        found = ways["glm"](first)
    give_back()
    with peak() as theirs:
        expected = ways["peer"](first)
    largest = difference(found, expected)
    spent: dict[str, list[np.ndarray]] = {way: [] for way in ways}
    for at in others:
        values = {}
        for name, way in ways.items():
            values[name], time = clock(lambda at=at, way=way: way(at))
            spent[name].append(time / len(at))
        largest = max(largest, difference(values["glm"], values["peer"]))
    assert largest < TOLERANCE, f"largest difference {largest}"
    megabytes = {name: by["peak"] - by["before"] for name, by in (("glm", ours), ("peer", theirs))}
    return {
        "regions": float(rounds * REGIONS_A_ROUND),
        "largest_difference": largest,
        "glm_megabytes": megabytes["glm"],
        "peer_megabytes": megabytes["peer"],
        "memory_share": megabytes["glm"] / megabytes["peer"],
        **compared("glm", spent["glm"], "peer", spent["peer"]),
    }


# ---- glm alone -----------------------------------------------------------------------------------


def stretch(model: Any, folder: Path, rounds: int) -> dict[str, float]:
    """Outputs that lie side by side, in one go and each from a window of its own."""
    import glm

    path = folder / "genome.2bit"
    output_bp = N_BINS * BIN_BP
    rng = np.random.default_rng(2)
    spent: dict[str, list[np.ndarray]] = {"stretch": [], "windows": []}
    largest = 0.0
    for _ in range(rounds):
        first = int(rng.integers(WINDOW_BP, GENOME_BP - WINDOW_BP - TILES * output_bp))
        place = ("chr1", first, first + TILES * output_bp)
        middles = first + output_bp // 2 + output_bp * np.arange(TILES)
        one, time = clock(
            lambda place=place: (
                glm.tl.predict_stretch(place, model, genome=path, tracks=range(N_TRACKS)).X
            )
        )
        spent["stretch"].append(time / TILES)
        each, time = clock(
            lambda at=middles - REGION_BP // 2: with_glm(model, path, at, bins="all")
        )
        spent["windows"].append(time / TILES)
        largest = max(largest, difference(np.asarray(one), each.reshape(-1, N_TRACKS)))
    assert largest < TOLERANCE, f"largest difference {largest}"
    found = compared("stretch", spent["stretch"], "windows", spent["windows"])
    return {**found, "stretch_largest_difference": largest}


def more_work(model: Any, folder: Path, rounds: int) -> dict[str, float]:
    """Both strands against one, and a plan against what came of it."""
    from anndata import AnnData

    import glm

    path = folder / "genome.2bit"
    spent: dict[str, list[np.ndarray]] = {"one": [], "both": []}
    planned = []
    for at in np.array_split(random_starts(2 * rounds, seed=3), rounds):
        data = AnnData(np.zeros((1, len(at)), np.float32))
        data.var_names = [f"chr1:{start}-{start + REGION_BP}" for start in at]
        plan = glm.tl.predict_tracks(data, model, genome=path, tracks=range(N_TRACKS), dry_run=True)
        time = clock(lambda at=at: with_glm(model, path, at))[1]
        planned.append(plan.seconds / time[0])
        spent["one"].append(time)
        spent["both"].append(clock(lambda at=at: with_glm(model, path, at, strand_average=True))[1])
    found = compared("one", spent["one"], "both", spent["both"])
    return {
        "both_strands_cost": found["both_to_one"],
        "planned_to_measured": float(np.median(planned)),
    }


# ---- measuring -----------------------------------------------------------------------------------


def give_back() -> None:
    """Give memory that was freed back to the system, so that what is used again is seen."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)


def random_starts(n: int, seed: int = 1) -> np.ndarray:
    """Of regions whose windows lie within the genome."""
    return np.random.default_rng(seed).integers(WINDOW_BP, GENOME_BP - WINDOW_BP, n)


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest, as a share of the track's highest value."""
    return float((abs(found - expected) / abs(expected).max(axis=0)).max())


def compared(
    name: str, spent: list[np.ndarray], other: str, of_other: list[np.ndarray]
) -> dict[str, float]:
    """Seconds on the clock and of the processor, and the ratios of the rounds."""
    results = {}
    for k, kind in enumerate(("", "processor_")):
        ours, theirs = (np.array([time[k] for time in times]) for times in (spent, of_other))
        results[f"{name}_{kind}seconds"] = float(np.median(ours))
        results[f"{other}_{kind}seconds"] = float(np.median(theirs))
        results[f"{other}_to_{name}{'_processor' if kind else ''}"] = float(
            np.median(theirs / ours)
        )
        if kind:
            results[f"{other}_to_{name}_processor_lowest"] = float((theirs / ours).min())
    return results


def report(results: dict[str, float]) -> None:
    print(
        "a region, processor seconds (and on the clock): plain {peer_processor_seconds:.2f} "
        "({peer_seconds:.2f}), +{peer_megabytes:,.0f} MB; glm {glm_processor_seconds:.2f} "
        "({glm_seconds:.2f}), +{glm_megabytes:,.0f} MB ({memory_share:.2f} of it)\n"
        "glm is {peer_to_glm_processor:.2f} ({peer_to_glm:.2f}) times as fast, lowest round "
        "{peer_to_glm_processor_lowest:.2f}; largest difference {largest_difference:.1e}\n"
        "a tile of a stretch {stretch_processor_seconds:.2f}, its window by itself "
        "{windows_processor_seconds:.2f}: {windows_to_stretch_processor:.2f} times as fast, "
        "largest difference {stretch_largest_difference:.1e}\n"
        "both strands cost {both_strands_cost:.2f} of one; dry_run told "
        "{planned_to_measured:.2f} of the time it took".format_map(results)
    )


if __name__ == "__main__":
    main()
