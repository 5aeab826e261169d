"""What :func:`glm.tl.attention` is asked for: which genes, layers and heads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .._messages import first_names, share
from ..cells import Counts
from ..encode.counts import iter_blocks
from ..models.config import is_whole
from ..models.registry import ModelSpec
from ._gene_axis import readable_columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData


def check_choice(
    genes: Sequence[str] | None, n_top: int | None, partners: str, adata: AnnData
) -> None:
    if genes is None and n_top is None:
        raise ValueError(
            f"Say whose attention is wanted: genes=[...] or n_top=200. Among all {adata.n_vars:,} "
            f"genes there are {adata.n_vars**2:,} pairs, more than is of use."
        )
    if genes is not None and n_top is not None:
        raise ValueError(f"Pass genes= or n_top={n_top}, not both.")
    if isinstance(genes, str):
        raise TypeError(f"genes is the text {genes!r}, expected a list of names: [{genes!r}].")
    if genes is not None and not len(genes):
        raise ValueError("genes is empty; expected at least one name.")
    if n_top is not None and (not is_whole(n_top) or n_top < 1):
        raise ValueError(f"n_top is {n_top!r}; expected a whole number of at least 1.")
    if partners not in ("all", "chosen"):
        raise ValueError(f"partners is {partners!r}; expected 'all' or 'chosen'.")


def find_layers(spec: ModelSpec, layers: int | str | Sequence[int | str] | None) -> tuple[int, ...]:
    """Numbers of layers, each once, in order; a layer has the number of the state it makes."""
    n_layers = spec.shape.n_layers
    if layers is None:
        return tuple(range(1, n_layers + 1))
    listed = [layers] if isinstance(layers, str) or np.ndim(layers) == 0 else list(layers)  # type: ignore[arg-type]
    named = {"last": n_layers, "second_to_last": n_layers - 1}
    numbers = {named.get(layer, layer) if isinstance(layer, str) else layer for layer in listed}
    return _numbers("layers", layers, numbers, 1, n_layers, ", 'last', 'second_to_last'")


def find_heads(spec: ModelSpec, heads: int | Sequence[int] | None) -> tuple[int, ...]:
    n_heads = spec.shape.n_heads
    if heads is None:
        return tuple(range(n_heads))
    listed = {heads} if np.ndim(heads) == 0 else set(heads)  # type: ignore[arg-type]
    return _numbers("heads", heads, listed, 0, n_heads - 1)


def _numbers(
    name: str, given: object, numbers: set[Any], lowest: int, highest: int, others: str = ""
) -> tuple[int, ...]:
    if (
        not numbers
        or not all(map(is_whole, numbers))
        or min(numbers) < lowest
        or max(numbers) > highest
    ):
        raise ValueError(
            f"{name} is {given!r}; expected one or several of {lowest} to {highest}{others}, or "
            "None for all."
        )
    return tuple(sorted(int(number) for number in numbers))


def named_genes(adata: AnnData, counts: Counts, genes: Sequence[str], model: str) -> np.ndarray:
    """Columns of named genes, each once, in the order of ``var``."""
    names = list(dict.fromkeys(genes))
    known = set(adata.var_names)
    missing = [name for name in names if name not in known]
    if missing:
        raise KeyError(
            f"{share(len(missing), len(names))} genes are not in adata.var_names "
            f"({first_names(missing)}), whose first are {first_names(adata.var_names)}."
        )
    chosen = np.flatnonzero(adata.var_names.isin(names))
    if chosen.size > len(names):
        repeated = adata.var_names[chosen]
        raise ValueError(
            f"Several genes are named {first_names(repeated[repeated.duplicated()].unique())}; "
            "call adata.var_names_make_unique() first."
        )
    unread = np.setdiff1d(chosen, readable_columns(counts))
    if unread.size:
        target = counts.genes.target[unread]
        summed = [f"{adata.var_names[u]} (read as {adata.var_names[t]})"
                  for u, t in zip(unread, target, strict=True) if t >= 0]  # fmt: skip
        unknown = [str(name) for name in adata.var_names[unread[target < 0]]]
        raise ValueError(
            f"{share(unread.size, len(names))} genes have no token of their own in {model}: "
            f"{first_names([*unknown, *summed])}. Leave them out."
        )
    return chosen


def top_genes(counts: Counts, n_top: int | None) -> np.ndarray:
    """Columns of the genes that stand in most sentences, in the order of ``var``."""
    n_read = np.zeros(counts.matrix.shape[1], np.int64)
    ranker, limit = counts.ranker(), counts.vocabulary.n_genes_read
    for _, block in iter_blocks(counts.matrix):
        columns, _, _ = ranker.sentences(block, limit=limit)
        n_read += np.bincount(columns, minlength=n_read.size)
    order = np.argsort(-n_read, kind="stable")[:n_top]
    return np.sort(order[n_read[order] > 0])
