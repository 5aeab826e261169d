from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .._keys import RankKeys

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData


def sentences(
    adata: AnnData, cells: Sequence[Any] | None = None, *, key: str = "geneformer"
) -> dict[str, list[str]]:
    """Spell out rank-encoded cells as gene names, highest first.

    Parameters
    ----------
    adata
        An object that :func:`glm.tl.rank_encode` has written to.
    cells
        Names of cells; ``None`` takes all.
    key
        Name in the slots.

    Returns
    -------
    Cell name → names of its ranked genes (``var_names``), the gene that stands highest first;
    special tokens are not in it and nothing is truncated.

    Raises
    ------
    KeyError
        If there is no rank layer, or no such cell.
    ValueError
        If the layer has lost its record, or genes of it were taken away since, or cell names
        repeat.

    Examples
    --------
    >>> import glm
    >>> adata = glm.datasets.toy_cells()
    >>> glm.tl.rank_encode(adata, "geneformer-tiny")
    >>> genes = glm.get.sentences(adata, ["cell0"])["cell0"]
    >>> len(genes) == adata.obs.loc["cell0", "n_ranked_geneformer"]
    np.True_
    """
    keys = RankKeys(key)
    if keys.layer not in adata.layers:
        raise KeyError(f"There is no layer {keys.layer!r}; call glm.tl.rank_encode first.")
    if keys.record not in adata.uns or keys.n_ranked not in adata.obs:
        raise ValueError(
            f"The layer {keys.layer!r} has lost its record (adata.uns[{keys.record!r}]), as after "
            "a concatenation: call glm.tl.rank_encode again."
        )
    if not adata.obs_names.is_unique:
        raise ValueError("Cell names repeat; call adata.obs_names_make_unique() first.")
    names = list(adata.obs_names if cells is None else cells)
    missing = [name for name in names if name not in adata.obs_names]
    if missing:
        raise KeyError(f"There are no cells {missing[:3]} in adata.obs_names.")
    rows = adata.obs_names.get_indexer(names)
    ranks = adata.layers[keys.layer][rows].tocsr()
    stored = np.diff(ranks.indptr)
    expected = adata.obs[keys.n_ranked].to_numpy()[rows]
    if (stored != expected).any():
        row = int(np.flatnonzero(stored != expected)[0])
        raise ValueError(
            f"Genes of the layer {keys.layer!r} were taken away since it was written (cell "
            f"{names[row]!r} has {stored[row]:,} of {expected[row]:,} ranked genes): call "
            "glm.tl.rank_encode again."
        )
    genes = np.asarray(adata.var_names)
    out = {}
    for i, name in enumerate(names):
        part = slice(ranks.indptr[i], ranks.indptr[i + 1])
        out[str(name)] = list(genes[ranks.indices[part][np.argsort(ranks.data[part])]])
    return out
