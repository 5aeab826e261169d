from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .. import slots
from .._keys import EmbeddingKeys
from .._messages import first_names, share, warn
from .._progress import progress_bar
from .._settings import logger
from ..cells import Counts, check_anndata, check_counts
from ..encode.counts import iter_blocks
from ..models.bundle import Model, load
from ..models.registry import ModelSpec, get
from ..models.vocabulary import GeneVocabulary

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

    from ..engine import Items


def embed(
    adata: AnnData,
    model: str | Path | Model = "geneformer-v2-104m",
    *,
    pooling: Literal["mean", "cls"] | None = None,
    hidden_layer: Literal["last", "second_to_last"] | int | None = None,
    layer: str | None = None,
    use_raw: bool = False,
    gene_ids: str | None = None,
    log_normalized: bool = False,
    device: str | None = None,
    token_budget: int | None = None,
    key_added: str | None = None,
    overwrite: bool = False,
    copy: bool = False,
) -> AnnData | None:
    """Embed each cell with a genomic language model, beside its other representations.

    Counts are rank-encoded block by block (see :func:`glm.tl.rank_encode`; no ranks are stored),
    sentences of similar length run together without padding, and only the layers below the asked
    one are computed. Then ``sc.pp.neighbors(adata, use_rep="X_geneformer")`` carries on.

    Time grows with cells × tokens; every cell counts only with its own. Memory: the model, one
    block of sentences and the result.

    Parameters
    ----------
    adata
        Cells × genes, raw counts, as for :func:`glm.tl.rank_encode`.
    model
        A name of :func:`glm.models.list`, the path of a bundle's folder, or a loaded model.
    pooling
        ``"mean"`` over the cell's genes (special tokens left out) or ``"cls"``, the vector of the
        ``<cls>`` token; ``None`` is the authors' own (V1 mean, V2 cls).
    hidden_layer
        ``"last"``, ``"second_to_last"`` or an index from 0 (token embeddings); ``None`` is the
        authors' own (second to last).
    layer, use_raw, gene_ids, log_normalized
        Where the counts and the Ensembl ids are, as for :func:`glm.tl.rank_encode`.
    device
        ``"cpu"``, ``"cuda"`` or ``"cuda:1"``; ``None`` takes CUDA where there is one.
    token_budget
        Most tokens run at once; ``None`` chooses by the device. Results differ by less than 1e-5 of
        the largest value, whatever it is.
    key_added
        Name in the slots; by default the system's name, ``"geneformer"``.
    overwrite
        Replace what another model or the user put into the slots.
    copy
        Return a copy instead of writing into ``adata``.

    Returns
    -------
    ``None``, or the copy. Sets:

    ``adata.obsm["X_<key>"]``
        float32, cells × width, in the order of ``adata``. Rows of cells without a known gene are
        NaN.
    ``adata.obs["<key>_ok"]``
        bool. Whether the row could be computed.
    ``adata.uns["X_<key>"]``
        The record: model, hashes of weights and vocabulary, tier, pooling, layer, precision, and
        counts of unusable and truncated cells and of the ranked genes that were cut off.

    Raises
    ------
    OSError
        If the model's files are not here and cannot be fetched.
    ValueError, KeyError, TypeError
        As for :func:`glm.tl.rank_encode`; if the model has no ``<cls>`` token and it is asked for.

    Examples
    --------
    >>> import glm
    >>> adata = glm.datasets.toy_cells()
    >>> glm.tl.embed(adata, "geneformer-tiny")
    >>> adata.obsm["X_geneformer"].shape[0] == adata.n_obs
    True
    """
    check_anndata(adata, copy=copy)
    adata = adata.copy() if copy else adata
    spec = model.spec if isinstance(model, Model) else get(model)
    pooling = pooling or spec.pooling
    read_layer = spec.hidden_layer if hidden_layer is None else hidden_layer
    vocabulary = model.vocabulary if isinstance(model, Model) else spec.vocabulary()
    n_layers_run = _check_reading(spec, vocabulary, pooling, read_layer)
    counts = check_counts(
        adata,
        vocabulary,
        model=spec.name,
        layer=layer,
        use_raw=use_raw,
        gene_ids=gene_ids,
        log_normalized=log_normalized,
    )
    keys = EmbeddingKeys(key_added or spec.system)
    written = [("obsm", keys.obsm), ("obs", keys.ok)]
    slots.check_free(adata, written, keys.record, model=spec.name, overwrite=overwrite)

    started = time.perf_counter()
    loaded = load(model)
    vectors, n_ranked, precision = embed_counts(
        counts, loaded, pooling, n_layers_run, device=device, token_budget=token_budget
    )
    ok = np.isfinite(vectors).all(axis=1)

    record = slots.make_record(
        function="glm.tl.embed",
        model=spec.name,
        tier=spec.tier,
        weights_sha256=loaded.weights_sha256,
        vocabulary=vocabulary.name,
        vocabulary_sha256=vocabulary.sha256,
        pooling=pooling,
        hidden_layer=read_layer,
        n_layers_run=n_layers_run,
        precision=precision,
        context=vocabulary.context,
        n_cells=counts.n_cells,
        n_cells_unusable=int((~ok).sum()),
        n_cells_truncated=int((n_ranked > vocabulary.n_genes_read).sum()),
        n_genes_beyond_context=int(np.maximum(n_ranked - vocabulary.n_genes_read, 0).sum()),
        note=spec.note,
        **counts.facts,
    )
    slots.write(adata, dict(zip(written, (vectors, ok), strict=True)), keys.record, record)
    _report(adata, keys, ok, n_ranked, vectors, spec, time.perf_counter() - started)
    return adata if copy else None


def embed_geneformer(
    adata: AnnData, model: str | Path | Model = "geneformer-v2-104m", **options: Any
) -> AnnData | None:
    """Embed cells with a Geneformer: :func:`glm.tl.embed` that takes no other system.

    Parameters
    ----------
    adata
        Cells × genes, raw counts.
    model
        A Geneformer: its name, a bundle's folder, or the loaded model.
    **options
        As for :func:`glm.tl.embed`.

    Returns
    -------
    ``None``, or the copy; sets ``adata.obsm["X_<key>"]``, ``adata.obs["<key>_ok"]`` and
    ``adata.uns["X_<key>"]`` as :func:`glm.tl.embed` does.

    Raises
    ------
    ValueError
        If the model is of another system; else as :func:`glm.tl.embed`.

    Examples
    --------
    >>> import glm
    >>> adata = glm.datasets.toy_cells()
    >>> glm.tl.embed_geneformer(adata, "geneformer-tiny", hidden_layer="last")
    """
    spec = model.spec if isinstance(model, Model) else get(model)
    if spec.system != "geneformer":
        raise ValueError(f"{spec.name} is a model of {spec.system}; use glm.tl.embed.")
    _refuse_foreign_names(options)
    return embed(adata, model, **options)


def _refuse_foreign_names(options: dict[str, Any]) -> None:
    if "emb_layer" in options:
        raise TypeError(
            "emb_layer is another tool's name, in which 0 is the last layer and -1 the one before. "
            "Here it is hidden_layer='last' or hidden_layer='second_to_last'."
        )


def _check_reading(
    spec: ModelSpec, vocabulary: GeneVocabulary, pooling: str, hidden_layer: str | int
) -> int:
    if pooling not in ("mean", "cls"):
        raise ValueError(f"pooling is {pooling!r}; expected 'mean', 'cls' or None.")
    if pooling == "cls" and "cls" not in vocabulary.special:
        raise ValueError(f"{spec.name} has no <cls> token to pool; use pooling='mean'.")
    return spec.shape.layer_index(hidden_layer)


def embed_counts(
    counts: Counts,
    model: Model,
    pooling: str,
    layer: int,
    *,
    device: str | None = None,
    token_budget: int | None = None,
) -> tuple[np.ndarray, np.ndarray, str]:
    """Compute embeddings of checked counts: cells × width, genes ranked a cell, precision."""
    from ..engine import ArraySink, PoolRows, make_plan, run
    from ..models.fast.bert import PackedBert

    plan = make_plan(device, budget=token_budget)
    executor = PackedBert(model.encoder, device=plan.device)
    sink = ArraySink(counts.n_cells, model.spec.shape.hidden_size)
    n_ranked = np.zeros(counts.n_cells, np.int32)
    with progress_bar(counts.n_cells, "cells", f"embed with {model.spec.name}") as advance:
        run(
            cell_items(counts, n_ranked),
            executor,
            PoolRows(pooling, sink),
            plan,
            layer=layer,
            first_only=pooling == "cls",
            progress=lambda n_rows, _: advance(n_rows),
        )
        advance(int((n_ranked == 0).sum()))
    return sink.array, n_ranked, plan.precision


def cell_items(counts: Counts, n_ranked: np.ndarray) -> Iterator[Items]:
    """Sentences of all cells that have one, block by block; fills ``n_ranked`` on the way."""
    from ..engine import Items

    vocabulary, ranker, tokens = counts.vocabulary, counts.ranker(), counts.column_tokens
    special = vocabulary.special
    for start, block in iter_blocks(counts.matrix):
        columns, offsets, n = ranker.sentences(block, limit=vocabulary.n_genes_read)
        n_ranked[start : start + n.size] = n
        used = np.flatnonzero(n > 0)
        lengths = np.diff(offsets)[used]
        sentences = tokens[columns]
        if "cls" in special:
            sentences, lengths = frame(sentences, lengths, special["cls"], special["eos"])
        ends = np.concatenate([[0], np.cumsum(lengths)])
        inner = 1 if "cls" in special else 0
        span = np.stack([np.full(used.size, inner), lengths - inner], axis=1).astype(np.int32)
        yield Items.one_a_row(start + used, sentences, ends, span)


def frame(
    sentences: np.ndarray, lengths: np.ndarray, first: int, last: int
) -> tuple[np.ndarray, np.ndarray]:
    """Put ``first`` before and ``last`` after every sentence of a packed array."""
    framed = np.empty(sentences.size + 2 * lengths.size, dtype=sentences.dtype)
    ends = np.cumsum(lengths + 2)
    inside = np.ones(framed.size, dtype=bool)
    inside[ends - 1] = inside[ends - lengths - 2] = False
    framed[ends - lengths - 2] = first
    framed[ends - 1] = last
    framed[inside] = sentences
    return framed, lengths + 2


def _report(
    adata: AnnData,
    keys: EmbeddingKeys,
    ok: np.ndarray,
    n_ranked: np.ndarray,
    vectors: np.ndarray,
    spec: ModelSpec,
    seconds: float,
) -> None:
    logger.info(
        "added %r (obsm, %s × %s, float32) with %s in %.1f s",
        keys.obsm,
        f"{vectors.shape[0]:,}",
        vectors.shape[1],
        spec.name,
        seconds,
    )
    if ok.all():
        return
    bad = [adata.obs_names[row] for row in np.flatnonzero(~ok)]
    n_empty = int((n_ranked == 0).sum())
    why = f"{n_empty:,} have no count on a gene of {spec.name}"
    if n_empty < len(bad):
        why += f", {len(bad) - n_empty:,} came out of the model not finite"
    warn(
        f"{share(len(bad), ok.size)} cells could not be embedded and are NaN ({first_names(bad)}): "
        f"{why}. Leave them out with adata[adata.obs[{keys.ok!r}]]."
    )
