from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from ..models.reads import gene_vocabulary
from ..models.registry import get

if TYPE_CHECKING:
    from anndata import AnnData


def toy_cells(
    n_cells: int = 60,
    n_genes: int = 3_000,
    *,
    names: Literal["ids", "symbols"] = "ids",
    seed: int = 0,
) -> AnnData:
    """Made-up counts of real genes: three kinds of cell that raise different genes.

    Counts are Poisson around a heavy-tailed mean a gene, the same in all cells but for 150 genes
    raised eightfold in each kind; depth varies threefold. Nothing is fetched.

    Parameters
    ----------
    n_cells
        Cells.
    n_genes
        Genes, drawn from the vocabulary of ``geneformer-tiny``.
    names
        ``"ids"``: Ensembl ids as ``var_names``; ``"symbols"``: gene symbols.
    seed
        Seed of the draw; NumPy's global state is not touched.

    Returns
    -------
    An AnnData, cells × genes: ``X`` CSR of float32 whole numbers, ``obs["kind"]`` categorical.

    Examples
    --------
    >>> import glm
    >>> glm.datasets.toy_cells(n_cells=10).shape
    (10, 3000)
    """
    import pandas as pd
    from anndata import AnnData
    from scipy.sparse import csr_matrix

    vocabulary = gene_vocabulary(get("geneformer-tiny"))
    if not 1 <= n_genes <= len(vocabulary.ids):
        raise ValueError(f"n_genes is {n_genes:,}; expected 1 to {len(vocabulary.ids):,}.")
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(len(vocabulary.ids), n_genes, replace=False))
    mean = rng.lognormal(-1.0, 1.2, n_genes)
    kind = np.arange(n_cells) % 3
    raised = np.ones((3, n_genes))
    for k in range(3):
        raised[k, rng.choice(n_genes, min(150, n_genes), replace=False)] = 8.0
    depth = rng.uniform(0.5, 1.5, n_cells)
    counts = rng.poisson(depth[:, None] * raised[kind] * mean).astype(np.float32)
    ids = [vocabulary.ids[i] for i in chosen]
    if names == "symbols":
        symbol_of = {gene: symbol for symbol, gene in vocabulary.symbols.items()}
        ids = [symbol_of.get(gene, gene) for gene in ids]
    elif names != "ids":
        raise ValueError(f"names is {names!r}; expected 'ids' or 'symbols'.")
    obs = pd.DataFrame(
        {"kind": pd.Categorical.from_codes(kind, ["a", "b", "c"])},
        index=[f"cell{i}" for i in range(n_cells)],
    )
    return AnnData(csr_matrix(counts), obs=obs, var=pd.DataFrame(index=ids))
