"""Enformer at full size on one thread: ours against ``enformer-pytorch``, on the same weights.

196,608 bases, all 6,956 tracks, float32 by turns with the peer; then the mixed precision (float32
stem and tower, bfloat16 products in the transformer); then few tracks and bins, and neighbouring
windows of one stretch. Weights are random: every norm has the statistics of what it really meets on
random sequence, and attention its outputs, so that signals have the sizes of a trained model.
Memory is the highest resident set while it runs beyond what there was with the weights loaded, so
the executor's own copies count.

Run it with ``python benchmarks/enformer.py``; about 4 minutes and 5 GB. Linux only.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

LENGTH = 196_608
CROP = 320
APART = 114_688
ROUNDS = 2
GENE_BINS = [447, 448, 449]
N_TRACKS = 10


def main(rounds: int = ROUNDS) -> dict[str, float]:
    """Measure, print, and return what was printed."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        results = measure(rounds)
    finally:
        torch.set_num_threads(threads)
    report(results)
    return results


def measure(rounds: int) -> dict[str, float]:
    import torch

    from glm.models.fast.enformer import FastEnformer

    model = realistic_model()
    codes = random_codes(LENGTH)
    with peak() as ours:
        exact = FastEnformer(model)
        found = exact.predict(codes)
    theirs, bases = peer_of(model), one_hot(codes)
    theirs.set_target_length(LENGTH // 128 - 2 * CROP)  # it cuts before its heads, as ours does
    forward = torch.inference_mode()(lambda: theirs(bases))
    with peak() as peers:
        expected, first = clock(forward)
    mixed = FastEnformer(model, precision="mixed")
    half = mixed.predict(codes)
    results = {
        "float32_megabytes": ours["peak"] - ours["before"],
        "peer_megabytes": peers["peak"] - peers["before"],
        "memory_share": (ours["peak"] - ours["before"]) / (peers["peak"] - peers["before"]),
        "relative_error": max(worst(found[head], expected[head]) for head in found),
        "mixed_pearson": min(float(pearson(half[head], expected[head]).min()) for head in half),
    }
    del found, expected, half
    runs: dict[str, Callable[[], Any]] = {
        "peer": forward,
        "float32": lambda: exact.predict(codes),
        "mixed": lambda: mixed.predict(codes),
    }
    spent: dict[str, list[np.ndarray]] = {name: [] for name in runs}
    for i in range(rounds):
        for name, run in runs.items():
            spent[name].append(first if name == "peer" and not i else clock(run)[1])
    for k, kind in enumerate(("", "processor_")):
        for name, times in spent.items():
            results[f"{name}_{kind}seconds"] = float(np.median(times, axis=0)[k])
        for name in ("float32", "mixed"):
            ratio = results[f"peer_{kind}seconds"] / results[f"{name}_{kind}seconds"]
            results[f"{name}_{kind}ratio"] = ratio
    return results | less_work(exact, codes)


def report(results: dict[str, float]) -> None:
    print(
        "processor seconds (and seconds on the clock): peer {peer_processor_seconds:.1f} "
        "({peer_seconds:.1f}), +{peer_megabytes:,.0f} MB\n"
        "float32 {float32_processor_seconds:.1f} ({float32_seconds:.1f}): "
        "{float32_processor_ratio:.2f} ({float32_ratio:.2f}) times as fast, "
        "+{float32_megabytes:,.0f} MB ({memory_share:.2f} of the peer's), largest difference "
        "{relative_error:.1e} of a track's highest value\n"
        "mixed {mixed_processor_seconds:.1f} ({mixed_seconds:.1f}): {mixed_processor_ratio:.2f} "
        "({mixed_ratio:.2f}) times as fast, Pearson of the worst track {mixed_pearson:.5f}\n"
        "3 bins of 10 tracks {gene_processor_seconds:.1f}\n"
        "windows 114,688 bases apart {shifted_processor_seconds:.1f} each, {shifted_ratio:.2f} "
        "times as fast as one by one".format_map(results)
    )


def less_work(exact: Any, codes: Any) -> dict[str, float]:
    """What it costs when little is asked for, and when neighbours share the tower."""
    import torch

    tracks = {"human": range(N_TRACKS)}
    gene = clock(lambda: exact.predict(codes, tracks=tracks, bins=GENE_BINS))[1]
    stretch = torch.cat([codes[0], random_codes(APART)[0]])
    alone = clock(lambda: exact.predict(codes))[1]
    windows = exact.predict_shifted(stretch, [0, APART], LENGTH)
    next(windows)
    shifted = clock(lambda: next(windows))[1]
    return {
        "gene_processor_seconds": float(gene[1]),
        "shifted_processor_seconds": float(shifted[1]),
        "shifted_ratio": float(alone[1] / shifted[1]),
    }


def realistic_model(config: Any = None) -> Any:
    """Random weights; norms with the statistics of what they meet, attention with outputs.

    ``config`` is the shape, by default that of the published model.
    """
    import torch
    from torch import nn

    from glm.models.enformer import Attention, Enformer

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Enformer(config).eval() if config else Enformer().eval()
        with torch.no_grad():
            for module in model.modules():
                if isinstance(module, Attention):
                    module.output.weight.normal_(0.0, module.output.in_features**-0.5)
                if isinstance(module, nn.BatchNorm1d | nn.LayerNorm):
                    module.weight.uniform_(0.5, 1.5)
                    module.bias.normal_(0.0, 0.3)
                if isinstance(module, nn.BatchNorm1d):
                    module.train()
                    module.momentum = None  # the mean over all batches, of which there is one
            model(random_codes(LENGTH // 8), heads=(), crop=0, embeddings=True)
            for module in model.modules():
                if isinstance(module, nn.BatchNorm1d):
                    module.momentum = 0.1
    return model.eval()


def peer_of(model: Any) -> Any:
    """The peer's model on the very tensors of ours, with the published positional features."""
    import torch
    from enformer_pytorch import Enformer
    from enformer_pytorch import modeling_enformer as code

    from glm.models.enformer_weights import TRUNK_AGAIN, to_published_enformer

    code.get_positional_features_gamma = lambda positions, features, length, **_: (
        model.position_features(length)[:, 2 * features : 3 * features]
    )
    state = to_published_enformer(model)
    for again, first in TRUNK_AGAIN.items():
        state |= {again + k.removeprefix(first): state[k] for k in state if k.startswith(first)}
    ours = model.config
    with torch.device("meta"):
        theirs = Enformer.from_hparams(
            dim=ours.channels,
            depth=ours.depth,
            heads=ours.n_heads,
            attn_dim_key=ours.key_size,
            dim_divisible_by=ours.channel_step,
            target_length=-1,
            output_heads=dict(ours.heads),
        )
    theirs.load_state_dict(state, strict=True, assign=True)
    return theirs.eval()


def random_codes(length: int) -> Any:
    import torch

    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 4, (1, length), generator=generator, dtype=torch.uint8)


def one_hot(codes: Any) -> Any:
    import torch

    return torch.eye(4)[codes.long()]


def clock(run: Callable[[], Any]) -> tuple[Any, np.ndarray]:
    """What it returns, and seconds on the clock and of the processor.

    On one thread the two are the same where nobody else uses the machine.
    """
    start = np.array([time.perf_counter(), time.process_time()])
    result = run()
    return result, np.array([time.perf_counter(), time.process_time()]) - start


def worst(found: Any, expected: Any) -> float:
    return float(((found - expected).abs() / expected.amax(dim=(0, 1))).max())


def pearson(found: Any, expected: Any) -> Any:
    """Over the bins of each track."""
    a, b = (x.flatten(0, 1).double() for x in (found, expected))
    a, b = a - a.mean(dim=0), b - b.mean(dim=0)
    return (a * b).sum(dim=0) / (a.norm(dim=0) * b.norm(dim=0))


@contextmanager
def peak() -> Any:
    """The resident set when it begins and its highest until it ends, in megabytes."""
    Path("/proc/self/clear_refs").write_text("5")
    found = {"before": resident()}
    yield found
    found["peak"] = resident("VmHWM")


def resident(field: str = "VmRSS") -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return float(line.split()[1]) / 1024
    raise RuntimeError(f"no {field} in /proc/self/status: this benchmark needs Linux.")


if __name__ == "__main__":
    main()
