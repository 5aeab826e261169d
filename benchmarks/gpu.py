"""How much of a device's bfloat16 matrix rate an embedding reaches.

Geneformer V2-104M's shape with random weights reads cells of 2,048 tokens up to the second-to-last
layer, in batches of the planned budget, and pools ``<cls>``; in the same call the device multiplies
large square bfloat16 matrices. Both count two operations a multiplication and addition. The share
is of the median of as many rounds, taken by turns. Float32 is measured beside it.

``python benchmarks/gpu.py`` needs CUDA. ``python benchmarks/gpu.py cpu`` measures the processor in
the same way.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

    from glm.models.config import BertConfig

LENGTH = 2_048
ROUNDS = 5


@dataclass(frozen=True)
class Size:
    """What one round is: side of the matrices, products of them, cells."""

    side: int
    products: int
    cells: int


SIZES = {"cuda": Size(8_192, 20, 64), "cpu": Size(2_048, 2, 2)}


def main(device_type: str = "cuda") -> dict[str, float | str]:
    """Measure, print, and return what was printed."""
    import torch

    import glm
    from glm.engine import make_plan
    from glm.models.bert import Bert
    from glm.models.fast.bert import PackedBert

    size, shape = SIZES[device_type], glm.models.get("geneformer-v2-104m").shape
    plan = make_plan(device_type, precision="bfloat16", config=shape)
    torch.manual_seed(0)
    bert = Bert(shape).eval()
    n_cells = max(min(size.cells, plan.budget // LENGTH), 1)
    tokens = torch.randint(4, shape.vocab_size, (n_cells * LENGTH,), device=plan.device)
    runs = {
        name: PackedBert(bert, device=plan.device, dtype=getattr(torch, name))
        for name in ("bfloat16", "float32")
    }
    matrix = torch.randn(size.side, size.side, device=plan.device, dtype=torch.bfloat16)
    matrix /= size.side**0.5

    def multiply() -> None:
        for _ in range(size.products):
            torch.mm(matrix, matrix)

    def embed(name: str) -> Callable[[], None]:
        layer = shape.n_layers - 1
        return lambda: runs[name].hidden(tokens, [LENGTH] * n_cells, layer=layer, first_only=True)

    ways = {"matrices": multiply, **{name: embed(name) for name in runs}}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS + 1):  # the first round warms up
        for name, way in ways.items():
            seconds[name].append(_time(way, plan.device))
    middle = {name: float(np.median(each[1:])) for name, each in seconds.items()}
    rate = 2 * size.side**3 * size.products / middle["matrices"] / 1e12
    reached = n_cells * operations(shape, LENGTH) / middle["bfloat16"] / 1e12
    name = torch.cuda.get_device_name(plan.device) if device_type == "cuda" else "cpu"
    results = {
        "device": name,
        "tokens_at_once": float(tokens.numel()),
        "matrix_tflops": rate,
        "bfloat16_tflops": reached,
        "share_of_matrix_rate": reached / rate,
        "bfloat16_tokens_per_s": tokens.numel() / middle["bfloat16"],
        "float32_tokens_per_s": tokens.numel() / middle["float32"],
    }
    if device_type == "cuda":
        results["peak_memory_gb"] = torch.cuda.max_memory_allocated(plan.device) / 1e9
    print(
        f"{name}: bfloat16 matrices {rate:.1f} TFLOP/s; V2-104M {reached:.1f} ({reached / rate:.0%}"
        f" of it), {results['bfloat16_tokens_per_s']:,.0f} tokens/s; float32 "
        f"{results['float32_tokens_per_s']:,.0f} tokens/s"
    )
    return results


def operations(shape: BertConfig, length: int) -> float:
    """Operations that one sentence needs when position 0 of the second-to-last layer is asked for.

    The layer that makes that state works at position 0 alone, which is next to nothing.
    """
    width, between = shape.hidden_size, shape.intermediate_size
    maps = 2 * length * (4 * width**2 + 2 * width * between)
    return (shape.n_layers - 2) * (maps + 4 * length**2 * width)


def _time(way: Callable[[], None], device: torch.device) -> float:
    import torch

    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    way()
    wait()
    return time.perf_counter() - start


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:2])))
