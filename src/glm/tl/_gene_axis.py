"""What gene embeddings and attention share: genes as places, and what is said of the cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .._messages import first_names, share, warn
from ..cells import Counts

if TYPE_CHECKING:
    from anndata import AnnData


def readable_columns(counts: Counts) -> np.ndarray:
    """Columns whose gene the model knows; of those that share a gene, the first."""
    target = counts.genes.target
    return np.flatnonzero(target == np.arange(target.size))


def place_of_token(counts: Counts, columns: np.ndarray) -> np.ndarray:
    """int64, one a token of the vocabulary: place of its gene in ``columns``, else -1."""
    places = np.full(len(counts.vocabulary), -1, np.int64)
    places[counts.column_tokens[columns]] = np.arange(columns.size)
    return places


def check_same_genes(adata: AnnData, use_raw: bool) -> None:
    """Refuse ``raw`` where its genes are not those that the slots are for."""
    if use_raw and not adata.raw.var_names.equals(adata.var_names):
        raise ValueError(
            f"adata.raw has {adata.raw.n_vars:,} genes and adata {adata.n_vars:,}: results for "
            "genes need the same ones. Work on adata.raw.to_adata()."
        )


def tell_left_out(adata: AnnData, counts: Counts, n_not_finite: int, model: str) -> None:
    """Warn once of the cells that a mean over cells does not hold."""
    empty = np.flatnonzero(counts.measures.n_genes_known == 0)
    if not empty.size and not n_not_finite:
        return
    why = []
    if empty.size:
        names = first_names(adata.obs_names[empty])
        why.append(f"{empty.size:,} have no count on a gene of {model} ({names})")
    if n_not_finite:
        why.append(f"{n_not_finite:,} came out of the model not finite")
    warn(
        f"{share(empty.size + n_not_finite, adata.n_obs)} cells are left out of the means: "
        f"{', '.join(why)}."
    )
