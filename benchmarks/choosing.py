"""What each published shape costs on this machine: cells a second, and memory.

Weights are random and so are the cells, of 1,200 genes each: neither changes the work. Each shape
has a process of its own and runs as ``glm.tl.embed`` does it by itself: on a GPU where there is
one, else on as many processors as torch takes; with the authors' pooling and layer. A first call,
on two cells, is not counted; of three others the fastest is, since whatever else the machine does
only adds to the time.

``python benchmarks/choosing.py`` prints the table of ``docs/choosing.md``.
"""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

N_GENES = 1_200
SECONDS = 6.0  # aim of a counted call
ROUNDS = 3
MOST_CELLS = 240


def main() -> dict[str, float]:
    """Measure every shape, print the table, and return what it holds."""
    found = {name: _in_a_process(name) for name in shapes()}
    how = {values.pop("how") for values in found.values()}
    print(f"{', '.join(map(str, how))}; cells of {N_GENES:,} genes")
    print("| model | parameters | cells a second | 10,000 cells | memory at most |")
    print("|---|---:|---:|---:|---:|")
    for name, values in found.items():
        print(
            f"| {', '.join(f'`{same}`' for same in shapes()[name])} "
            f"| {values['n_parameters'] / 1e6:.0f} million | {values['cells_per_s']:.2f} "
            f"| {_spell(10_000 / values['cells_per_s'])} | {values['peak_mb'] / 1024:.1f} GB |"
        )
    return {f"{name}_{what}": value for name, some in found.items() for what, value in some.items()}


def shapes() -> dict[str, list[str]]:
    """One model of each published shape, and all that have it; the smallest first."""
    import glm

    found: dict[Any, list[str]] = {}
    for name in glm.models.list().query("tier == 'published' and system == 'geneformer'").index:
        spec = glm.models.get(name)
        found.setdefault((spec.shape, spec.pooling), []).append(name)
    in_order = sorted(found, key=lambda key: key[0].n_parameters)
    return {found[key][0]: found[key] for key in in_order}


def _spell(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def _in_a_process(name: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, __file__, name], check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def _measure(name: str) -> dict[str, Any]:
    import torch

    import glm

    model = random_model(name)
    glm.tl.embed(random_cells(model, 2), model)
    adata = random_cells(model, 4)
    start = time.perf_counter()
    glm.tl.embed(adata, model)
    n_cells = int(4 * SECONDS / (time.perf_counter() - start))
    adata = random_cells(model, max(4, min(n_cells, MOST_CELLS)))
    seconds = math.inf
    for _ in range(ROUNDS):
        start = time.perf_counter()
        glm.tl.embed(adata, model)
        seconds = min(seconds, time.perf_counter() - start)
    record = adata.uns["X_geneformer"]
    n_threads = f" of {torch.get_num_threads()} threads" if record["device"] == "cpu" else ""
    return {
        "how": f"{record['device']}{n_threads}, {record['precision']}",
        "n_parameters": float(model.spec.shape.n_parameters),
        "n_cells": float(adata.n_obs),
        "cells_per_s": adata.n_obs / seconds,
        "peak_mb": _peak_mb(),
    }


def random_model(name: str) -> Any:
    """A model of the published shape with random weights and made-up genes."""
    import torch

    import glm
    from glm.models.bert import MaskedLM

    spec = dataclasses.replace(glm.models.get(name), tier="local")
    special = {"pad": 0, "mask": 1} | ({"cls": 2, "eos": 3} if spec.pooling == "cls" else {})
    n_genes = spec.shape.vocab_size - len(special)
    vocabulary = glm.models.GeneVocabulary(
        name="random",
        ids=tuple(f"ENSG{i:011d}" for i in range(n_genes)),
        tokens=np.arange(len(special), spec.shape.vocab_size, dtype=np.int32),
        medians=np.random.default_rng(0).lognormal(0.5, 1.0, n_genes),
        special=special,
        context=spec.context,
        symbols={},
        aliases={},
    )
    torch.manual_seed(0)
    return glm.models.Model(spec, vocabulary, MaskedLM(spec.shape).eval())


def random_cells(model: Any, n_cells: int) -> Any:
    """Cells of so many genes each, of all genes the model knows."""
    import pandas as pd
    from anndata import AnnData
    from scipy.sparse import csr_matrix

    rng = np.random.default_rng(n_cells)
    ids = model.vocabulary.ids
    columns = np.concatenate(
        [np.sort(rng.choice(len(ids), N_GENES, replace=False)) for _ in range(n_cells)]
    )
    counts = rng.geometric(0.4, columns.size).astype(np.float32)
    indptr = np.arange(n_cells + 1) * N_GENES
    matrix = csr_matrix((counts, columns, indptr), shape=(n_cells, len(ids)))
    return AnnData(matrix, var=pd.DataFrame(index=list(ids)))


def _peak_mb() -> float:
    """Most memory of this process so far; the kernel's own count where it keeps one."""
    status = Path("/proc/self/status")
    if status.is_file():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) / 1024
    import resource

    unit = 1024**2 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


if __name__ == "__main__":
    if len(sys.argv) == 2:
        print(json.dumps(_measure(sys.argv[1])))
    else:
        main()
