"""A million cells on disk: checked and encoded in bounded memory, embedding extrapolated.

The cells are real ones of three data sets, repeated, each time with another random part of their
counts (a binomial thinning), in one h5ad file that is opened with ``backed="r"``. The file is made
in blocks too, and removed afterwards: some 8 GB for a million.

A process of its own reads it as ``glm.tl.embed`` does: every value is checked, then block after
block becomes sentences. Its resident memory is read every tenth of the way, and the rate over each
tenth: both should stay as they are. A second process embeds the first 10,000 cells, and its time
and result are extrapolated to all, beside what the plan of ``dry_run=True`` had said.

Of two published shapes, with random weights, only two dozen of the 10,000 are embedded (after a
call that is not counted): seconds a token × the tokens that the 10,000 have in that model's
vocabulary and context × the share of all. That is an extrapolation of an extrapolation: two dozen
cells stand for a million, and the attention's growth with a sentence's length only as they show it.

Run it with ``python benchmarks/million.py [cells] [embedded cells]``; the data are looked for in
``GLM_TEST_DATA``.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

FILES = ("bmfm_cellxgene", "bmfm_scp1884", "scvi_pbmc_10k_protein_v3")
MODEL = "geneformer-tiny"
SHAPES = {"geneformer-v1-10m": "gc30M", "geneformer-v2-104m": "gc104M"}  # and dictionaries
N_OF_SHAPE = 24  # cells that are embedded with each
KEPT = (0.3, 0.9)  # share of a cell's counts that a repetition keeps
N_MADE = 10_000  # cells made at a time
N_TENTHS = 10


def main(n_cells: int = 1_000_000, n_embedded: int = 10_000) -> dict[str, float]:
    """Measure, print, and return the numbers."""
    data = _data()
    with tempfile.TemporaryDirectory() as folder:
        path, part = Path(folder) / "cells.h5ad", Path(folder) / "part.h5ad"
        results = {"n_cells": float(n_cells), **make_cells(data, path, n_cells)}
        results |= _in_process("encode", path)
        make_cells(data, part, min(n_embedded, n_cells))
        results |= _in_process("embed", part)
        times = n_cells / results["embedded_cells"]
        for name in SHAPES:
            found = _in_process(name, part)
            key = name.removeprefix("geneformer-").replace("-", "_")
            results |= {f"{key}_{what}": value for what, value in found.items()}
            seconds = found["seconds"] / found["tokens"] * found["tokens_of_all"] * times
            results[f"{key}_extrapolated_hours"] = seconds / 3600
    results["extrapolated_hours"] = results["embed_seconds"] * times / 3600
    results["extrapolated_result_gb"] = results["embed_result_mb"] * times / 1000
    _print(results)
    return results


def make_cells(data: Path, path: Path, n_cells: int) -> dict[str, float]:
    """Write ``n_cells`` cells, some thousands at a time."""
    import anndata as ad
    import h5py
    import pandas as pd

    started = time.perf_counter()
    counts, names = _real_cells(data)
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        done = 0
        while done < n_cells:
            number = min(N_MADE, n_cells - done)
            block = _thinned(counts, rng.integers(0, counts.shape[0], number), rng)
            if done:
                ad.io.sparse_dataset(file["X"]).append(block)
            else:
                file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
                ad.io.write_elem(file, "X", block)
            done += number
        ad.io.write_elem(file, "obs", pd.DataFrame(index=[f"c{i}" for i in range(n_cells)]))
        ad.io.write_elem(file, "var", pd.DataFrame(index=names))
        for empty in ("layers", "obsm", "varm", "obsp", "varp", "uns"):
            ad.io.write_elem(file, empty, {})
    return {
        "make_seconds": time.perf_counter() - started,
        "file_gb": path.stat().st_size / 1e9,
    }


def _real_cells(data: Path) -> tuple[Any, list[str]]:
    """Some thousand real cells, over the genes of the model's vocabulary."""
    import anndata as ad
    import scipy.sparse as sp

    import glm

    vocabulary = glm.models.get(MODEL).vocabulary()
    parts = []
    for name in FILES:
        adata = ad.read_h5ad(data / "cells" / f"{name}.h5ad")
        ids = [vocabulary.symbols.get(symbol, symbol) for symbol in adata.var_names]
        place = np.array([vocabulary.index.get(gene, -1) for gene in ids])
        # Where two columns are one gene, the first is enough here.
        used = np.intersect1d(np.unique(place, return_index=True)[1], np.flatnonzero(place >= 0))
        counts = sp.coo_matrix(sp.csr_matrix(adata.X[:1_500])[:, used])
        shape = (counts.shape[0], len(vocabulary.ids))
        parts.append(sp.csr_matrix((counts.data, (counts.row, place[used][counts.col])), shape))
    return sp.csr_matrix(sp.vstack(parts)), list(vocabulary.ids)


def _thinned(counts: Any, rows: np.ndarray, rng: np.random.Generator) -> Any:
    import scipy.sparse as sp

    block = sp.csr_matrix(counts[rows])
    kept = np.repeat(rng.uniform(*KEPT, rows.size), np.diff(block.indptr))
    block.data = rng.binomial(block.data.astype(np.int64), kept).astype(np.uint16)
    block.eliminate_zeros()
    block.indptr = block.indptr.astype(np.int64)  # what is appended may need it
    return block


def _in_process(what: str, path: Path) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, __file__, what, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.strip().splitlines()[-1])


def _resident_mb(what: str = "VmRSS") -> float:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith(what))
    return int(line.split()[1]) / 1024


def _checked(path: Path, vocabulary: Any = None) -> tuple[Any, float]:
    """The counts of the file as ``embed`` checks them, and the seconds that took."""
    import anndata as ad

    import glm
    from glm.cells import check_counts

    adata = ad.read_h5ad(path, backed="r")
    vocabulary = vocabulary or glm.models.get(MODEL).vocabulary()
    started = time.perf_counter()
    counts = check_counts(
        adata,
        vocabulary,
        model=MODEL,
        layer=None,
        use_raw=False,
        gene_ids=None,
        log_normalized=False,
    )
    return counts, time.perf_counter() - started


def _encode(path: Path) -> dict[str, float]:
    from glm.tl._cell_source import CellSource

    _warm_up(path)
    before = _resident_mb()
    counts, check_seconds = _checked(path)
    source = CellSource(counts)
    rates, resident, n_tokens = [], [], 0
    edges = np.linspace(0, source.n_blocks, min(N_TENTHS, source.n_blocks) + 1).astype(int)
    for start, stop in pairwise(edges.tolist()):
        started, n_cells = time.perf_counter(), 0
        for block in range(start, stop):
            items = source.block(block)
            n_cells += len(items)
            n_tokens += items.tokens.size
        rates.append(n_cells / (time.perf_counter() - started))
        resident.append(_resident_mb())
        _tell(f"{stop / source.n_blocks:5.0%} {rates[-1]:9,.0f} cells/s {resident[-1]:7,.0f} MB")
    return {
        "n_tokens": float(n_tokens),
        "check_seconds": check_seconds,
        "encode_seconds": sum(
            np.diff(edges)[i] * source.rows_per_block / rate for i, rate in enumerate(rates)
        ),
        "slowest_tenth_cells_per_s": min(rates),
        "fastest_tenth_cells_per_s": max(rates),
        "imports_mb": before,
        **{f"tenth_{i}_cells_per_s": rate for i, rate in enumerate(rates, start=1)},
        **{f"tenth_{i}_mb": mb for i, mb in enumerate(resident, start=1)},
        "first_tenth_mb": resident[0],
        "last_tenth_mb": resident[-1],
        "peak_mb": _resident_mb("VmHWM"),
    }


def _embed(path: Path) -> dict[str, float]:
    import anndata as ad

    import glm

    _warm_up(path)
    adata = ad.read_h5ad(path, backed="r")
    plan = glm.tl.embed(adata, MODEL, device="cpu", dry_run=True)
    _tell(repr(plan))
    started = time.perf_counter()
    glm.tl.embed(adata, MODEL, device="cpu")
    return {
        "embedded_cells": float(adata.n_obs),
        "embed_seconds": time.perf_counter() - started,
        "plan_seconds": plan.seconds,
        "embed_tokens": float(plan.n_tokens),
        "embed_result_mb": adata.obsm["X_geneformer"].nbytes / 1e6,
        "embed_peak_mb": _resident_mb("VmHWM"),
    }


def _embed_shape(name: str, path: Path) -> dict[str, float]:
    """Two dozen of the cells with random weights of a published shape."""
    import anndata as ad

    import glm
    from glm.tl._cell_source import sentence_lengths

    model = _random_model(name)
    adata = ad.read_h5ad(path, backed="r")
    lengths = sentence_lengths(_checked(path, model.vocabulary)[0])
    rows = np.random.default_rng(1).choice(adata.n_obs, min(N_OF_SHAPE, adata.n_obs), replace=False)
    rows.sort()
    few = adata[rows].to_memory()
    glm.tl.embed(few[:2].copy(), model, device="cpu")
    started = time.perf_counter()
    glm.tl.embed(few, model, device="cpu")
    return {
        "cells": float(rows.size),
        "seconds": time.perf_counter() - started,
        "tokens": float(lengths[rows].sum()),
        "tokens_of_all": float(lengths.sum()),
    }


def _random_model(name: str) -> Any:
    import torch

    import glm
    from glm.models.bert import MaskedLM

    spec = dataclasses.replace(glm.models.get(name), tier="local")
    vocabulary = glm.models.GeneVocabulary.from_dictionaries(_data() / "geneformer", SHAPES[name])
    torch.manual_seed(0)
    return glm.models.Model(spec, vocabulary, MaskedLM(spec.shape).eval())


def _data() -> Path:
    return Path(os.environ.get("GLM_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))


def _warm_up(path: Path) -> None:
    """Import and compile everything, on the first cells."""
    import anndata as ad

    import glm

    few = ad.read_h5ad(path, backed="r")[:100].to_memory()
    glm.tl.embed(few, MODEL, device="cpu")


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _print(results: dict[str, float]) -> None:
    found = results
    print(f"{found['n_cells']:,.0f} cells, {found['n_tokens'] / found['n_cells']:,.0f} tokens each")
    print(f"made in {found['make_seconds']:,.0f} s: {found['file_gb']:.2f} GB on disk")
    print(f"every value checked in {found['check_seconds']:,.0f} s")
    print(
        f"encoded in {found['encode_seconds']:,.0f} s: "
        f"{found['slowest_tenth_cells_per_s']:,.0f} to {found['fastest_tenth_cells_per_s']:,.0f} "
        "cells/s in each tenth"
    )
    print(
        f"resident memory: {found['imports_mb']:,.0f} MB after imports and the model, "
        f"{found['first_tenth_mb']:,.0f} MB in the first tenth, {found['last_tenth_mb']:,.0f} MB "
        f"in the last, {found['peak_mb']:,.0f} MB at most"
    )
    print(
        f"{found['embedded_cells']:,.0f} cells embedded with {MODEL} in "
        f"{found['embed_seconds']:,.0f} s (the plan had said {found['plan_seconds']:,.0f} s); all "
        f"would take {found['extrapolated_hours']:.1f} h and {found['extrapolated_result_gb']:.2f} "
        "GB"
    )
    for name in SHAPES:
        key = name.removeprefix("geneformer-").replace("-", "_")
        print(
            f"{name}, random weights: {found[f'{key}_cells']:.0f} cells of "
            f"{found[f'{key}_tokens'] / found[f'{key}_cells']:,.0f} tokens in "
            f"{found[f'{key}_seconds']:.1f} s; by its tokens all would take "
            f"{found[f'{key}_extrapolated_hours']:,.1f} h, extrapolated from these few"
        )


if __name__ == "__main__":
    work = {"encode": _encode, "embed": _embed} | {n: partial(_embed_shape, n) for n in SHAPES}
    if len(sys.argv) == 3 and sys.argv[1] in work:
        found = work[sys.argv[1]](Path(sys.argv[2]))
        print(json.dumps({name: float(value) for name, value in found.items()}))
    else:
        main(*map(int, sys.argv[1:]))
