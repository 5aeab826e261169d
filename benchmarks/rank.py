"""Rank encoding against the plain loop over cells: speed, memory, and the way from disk to disk.

The cells are real and resampled, because few real cells are here: base cells with at least 1,200
genes (698 cells of three data sets, joined on the union of their genes, with raw counts) are drawn
10,000 times with replacement. The counts of each draw are thinned binomially, with the share that
is expected to leave the cell about 1,200 genes. A second set leaves about 2,500 genes and so draws
only from the 90 cells with at least as many; they differ less from each other, but what costs time
here is how many values a cell has and how large they are. Everything is seeded.

The plain loop is what is usually done: keep the known genes, and cell by cell divide by the total,
scale, divide by the medians, sort stably, look up tokens. Both sides run on one thread, both
produce the order of all genes of all cells, and every sentence is compared. Ours is timed with a
new ``Ranker`` each time, after one call that compiles. The three measurements take turns, so that
whatever else the machine does falls on all of them.

Run it with ``python benchmarks/rank.py``; the data are looked for in ``GLM_TEST_DATA``.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from glm.encode import Ranker, encode_ranks
from glm.models.vocabulary import GeneVocabulary

N_CELLS = 10_000
MIN_GENES = 1_200
FILES = ("bmfm_cellxgene", "bmfm_scp1884", "scvi_pbmc_10k_protein_v3")
REPEATS = 5


def main() -> dict[str, float]:
    """Measure, print a table, and return what it holds."""
    data = Path(os.environ.get("GLM_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    vocabulary = GeneVocabulary.from_dictionaries(data / "geneformer", "gc30M")
    base, genes = real_cells(data / "cells", vocabulary)
    results: dict[str, float] = {}
    for n_genes in (1_200, 2_500):
        counts = thinned_cells(base, n_genes, N_CELLS, seed=n_genes)
        results |= {f"{key}_{n_genes}": value for key, value in compare(counts, genes).items()}
        results[f"disk_cells_per_s_{n_genes}"] = from_disk_to_disk(counts, genes)
    _print_table(results)
    return results


class Genes:
    """The genes of a matrix's columns: medians, places in the vocabulary, tokens."""

    def __init__(self, names: list[str], vocabulary: GeneVocabulary) -> None:
        place = {name: i for i, name in enumerate(vocabulary.ids)}
        self.names = names
        self.order = np.array([place.get(name, -1) for name in names])
        self.known = self.order >= 0
        self.medians = np.where(self.known, vocabulary.medians[self.order], np.nan)
        self.tokens = np.where(self.known, np.asarray(vocabulary.tokens)[self.order], -1)

    def ranker(self) -> Ranker:
        """A new one, with no table yet."""
        columns = np.arange(len(self.names))
        return Ranker(self.medians, self.order, np.where(self.known, columns, -1))


def real_cells(folder: Path, vocabulary: GeneVocabulary) -> tuple[sp.csr_array, Genes]:
    """Real cells with at least 1,200 genes, on the union of genes (by id, else by symbol)."""
    parts = []
    names: dict[str, int] = {}
    for file in FILES:
        adata = ad.read_h5ad(folder / f"{file}.h5ad")
        ids = [vocabulary.symbols.get(symbol, symbol) for symbol in adata.var_names]
        counts = sp.coo_array(adata.X)
        columns = np.array([names.setdefault(name, len(names)) for name in ids])
        parts.append((counts.data, (counts.row, columns[counts.col]), counts.shape[0]))
    blocks = [
        sp.coo_array((data, at), shape=(n_rows, len(names))).tocsr() for data, at, n_rows in parts
    ]
    cells = sp.vstack(blocks, format="csr").astype(np.int64)
    rich = np.diff(cells.indptr) >= MIN_GENES
    return cells[rich], Genes(list(names), vocabulary)


def thinned_cells(base: sp.csr_array, n_genes: int, n_cells: int, seed: int) -> sp.csr_array:
    """Draw cells with replacement and thin their counts to about so many genes; float32."""
    rng = np.random.default_rng(seed)
    rich = np.flatnonzero(np.diff(base.indptr) >= n_genes)
    shares = {
        row: _share_for(base.data[base.indptr[row] : base.indptr[row + 1]], n_genes) for row in rich
    }
    drawn = rng.choice(rich, n_cells)
    cells = base[drawn]
    share = np.repeat([shares[row] for row in drawn], np.diff(cells.indptr))
    cells.data = rng.binomial(cells.data, share).astype(np.float32)
    cells.eliminate_zeros()
    return cells


def _share_for(counts: NDArray[np.int64], n_genes: int) -> float:
    """The share of molecules that is expected to leave ``n_genes`` genes with at least one."""
    low, high = 0.0, 1.0
    for _ in range(40):
        share = (low + high) / 2
        if (1 - (1 - share) ** counts).sum() < n_genes:
            low = share
        else:
            high = share
    return high


def plain_loop(counts: sp.csr_array, genes: Genes) -> list[NDArray[np.int64]]:
    """The tokens of every cell, one cell at a time."""
    totals = counts.sum(axis=1)
    known = counts[:, genes.known]
    medians, tokens = genes.medians[genes.known], genes.tokens[genes.known]
    sentences = []
    for cell in range(known.shape[0]):
        here = slice(known.indptr[cell], known.indptr[cell + 1])
        column = known.indices[here]
        value = known.data[here].astype(np.float64) / totals[cell] * 10_000 / medians[column]
        sentences.append(tokens[column[np.argsort(-value, kind="stable")]])
    return sentences


def encode(counts: sp.csr_array, genes: Genes, n_threads: int = 1) -> sp.csr_matrix:
    """The rank layer, from the medians on."""
    return encode_ranks(counts, genes.ranker(), n_threads=n_threads)[0]


def compare(counts: sp.csr_array, genes: Genes) -> dict[str, float]:
    """Speed of both, on the same cells with the same result."""
    ranks = encode(counts, genes)  # compiles
    sentences = plain_loop(counts, genes)
    n_different = _count_different(ranks, sentences, genes)
    assert n_different == 0, f"{n_different} cells differ"
    plain = ours = two = float("inf")
    for _ in range(REPEATS):
        plain = min(plain, _best(lambda: plain_loop(counts, genes), 1))
        ours = min(ours, _best(lambda: encode(counts, genes), 2))
        two = min(two, _best(lambda: encode(counts, genes, 2), 2))
    return {
        "genes_per_cell": counts.nnz / counts.shape[0],
        "plain_cells_per_s": counts.shape[0] / plain,
        "cells_per_s": counts.shape[0] / ours,
        "ratio": plain / ours,
        "ratio_two_threads": plain / two,
        "extra_memory": extra_memory(lambda: encode(counts, genes)) / _size(counts),
    }


def _count_different(ranks: sp.csr_matrix, sentences: list[NDArray[Any]], genes: Genes) -> int:
    n_different = 0
    for cell, sentence in enumerate(sentences):
        here = slice(ranks.indptr[cell], ranks.indptr[cell + 1])
        ours = genes.tokens[ranks.indices[here][np.argsort(ranks.data[here])]]
        n_different += not np.array_equal(ours, sentence)
    return n_different


def from_disk_to_disk(counts: sp.csr_array, genes: Genes) -> float:
    """Cells a second from an uncompressed h5ad to one with the layer."""
    with tempfile.TemporaryDirectory() as folder:
        source, goal = Path(folder) / "counts.h5ad", Path(folder) / "ranks.h5ad"
        ad.AnnData(sp.csr_matrix(counts)).write_h5ad(source)

        def work() -> None:
            adata = ad.read_h5ad(source)
            ranks, n_ranked = encode_ranks(adata.X, genes.ranker())
            adata.layers["rank_geneformer"] = ranks
            adata.var["token_geneformer"] = genes.tokens.astype(np.int32)
            adata.obs["n_ranked_geneformer"] = n_ranked
            adata.write_h5ad(goal)

        return counts.shape[0] / _best(work, 3)


def extra_memory(work: Callable[[], object]) -> float:
    """Bytes by which the process grows at most while it works, its result included.

    The kernel's own high-water mark, reset before; so a machine without ``/proc`` gives NaN.
    """
    reset = Path("/proc/self/clear_refs")
    if not reset.exists():
        return float("nan")
    reset.write_text("5")
    before = _status("VmRSS")
    work()
    return _status("VmHWM") - before


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


def _size(counts: sp.csr_array) -> int:
    return counts.data.nbytes + counts.indices.nbytes + counts.indptr.nbytes


def _best(work: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def _print_table(results: dict[str, float]) -> None:
    names = list(dict.fromkeys(key.rpartition("_")[0] for key in results))
    print(f"{'':24}{'~1,200 genes':>16}{'~2,500 genes':>16}")
    for name in names:
        values = [results[f"{name}_{n_genes}"] for n_genes in (1_200, 2_500)]
        print(f"{name:24}" + "".join(f"{value:16,.2f}" for value in values))


if __name__ == "__main__":
    main()
