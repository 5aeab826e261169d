from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .. import slots
from .._keys import EmbeddingKeys
from .._messages import first_names, share, warn
from .._settings import logger
from ..cells import check_counts, check_target
from ..models.bundle import Model, load
from ..models.registry import ModelSpec, get
from ..models.vocabulary import GeneVocabulary
from ._cell_source import CellSource, cell_items, frame
from ._gene_axis import check_same_genes
from ._gene_embeddings import Reading, embed_genes, embed_groups, result_bytes, timed_reducer
from ._groups import find_groups
from ._job import Job, check_out, choose_plan, embed_rows, finite_rows, plan_job

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from ..engine import RunPlan

__all__ = ["cell_items", "embed", "embed_geneformer", "frame"]


def embed(
    adata: AnnData | MuData,
    model: str | Path | Model = "geneformer-v2-104m",
    *,
    of: Literal["cells", "genes"] = "cells",
    groupby: str | None = None,
    pooling: Literal["mean", "cls"] | None = None,
    hidden_layer: Literal["last", "second_to_last"] | int | None = None,
    mod: str | None = None,
    layer: str | None = None,
    use_raw: bool = False,
    gene_ids: str | None = None,
    log_normalized: bool = False,
    device: str | None = None,
    precision: Literal["float32", "bfloat16"] | None = None,
    token_budget: int | None = None,
    out: str | Path | None = None,
    devices: int | list[int] | str | None = None,
    strategy: str = "auto",
    key_added: str | None = None,
    overwrite: bool = False,
    copy: bool = False,
    dry_run: bool = False,
) -> AnnData | MuData | RunPlan | None:
    """Embed each cell with a genomic language model, beside its other representations.

    Counts are rank-encoded block by block (see :func:`glm.tl.rank_encode`; no ranks are stored),
    sentences of similar length run together without padding, and only the layers below the asked
    one are computed. Then ``sc.pp.neighbors(adata, use_rep="X_geneformer")`` carries on.

    Time grows with cells × tokens (``dry_run=True`` estimates it); every cell counts only with its
    own. Memory: the model, one block of sentences and the result, which ``out`` takes to the disk.
    Counts may be in memory, in a file (``backed="r"``), lazily read or in dask: they are looked
    through twice, then read once. Where a GPU's memory runs out, the batches are halved.

    Parameters
    ----------
    adata
        Cells × genes, raw counts, as for :func:`glm.tl.rank_encode`; or a MuData, with ``mod``.
    model
        A name of :func:`glm.models.list`, the path of a folder, or a loaded model.
    of
        ``"cells"``; or ``"genes"``, for each gene the mean of its hidden states over the cells that
        read it.
    groupby
        Column of ``obs``. Of cells it gives the mean embedding of each group, of genes one
        embedding in each group.
    pooling
        ``"mean"`` over the cell's genes (special tokens left out) or ``"cls"``, the vector of the
        ``<cls>`` token; ``None`` is the authors' own (V1 mean, V2 cls). Not for genes.
    hidden_layer
        ``"last"``, ``"second_to_last"`` or an index from 0 (token embeddings); ``None`` is the
        authors' own (second to last).
    mod
        Modality of a MuData. Results go into that modality.
    layer, use_raw, gene_ids, log_normalized
        Where the counts and the Ensembl ids are, as for :func:`glm.tl.rank_encode`.
    device
        ``"cpu"``, ``"cuda"`` or ``"cuda:1"``; ``None`` takes CUDA where there is one.
    precision
        ``"float32"``, or ``"bfloat16"`` for the matrix products (the states between the layers and
        the LayerNorms stay float32): on GPUs, and on processors that have it, up to twice as fast.
        ``None`` takes bfloat16 on a GPU that has it, float32 on the CPU.
    token_budget
        Most tokens run at once; ``None`` chooses by the device and its free memory. Results differ
        by less than 1e-5 of the largest value, whatever it is.
    out
        A folder for a long run, not there yet or left by the same call. Each part of the work is
        saved in it when it is done (and a part that is begun each minute): after Ctrl-C, a crash or
        ``kill -9`` the same call goes on where it was, and gives the same bits as a call that was
        never interrupted, on the same kind of machine with the same number of threads. The result
        is its ``embedding.npy``, which the slot maps into memory, so it may be larger than memory.
        Other data, another model or other options are refused. Takes twice the result's size on the
        disk until it is done. Of genes and of groups the parts stay in it: delete the folder when
        you have the result.
    devices
        Devices for Lightning to use, such as ``2``, ``[0, 3]`` or ``"auto"``; ``None`` is one. Each
        process computes whole parts, so the result is the same as of one. They must see ``out``,
        or the same temporary folder.
    strategy
        How Lightning launches them: ``"ddp"`` runs the script again in each process, all of which
        come out of the call with the result; ``"ddp_spawn"`` and ``"ddp_notebook"`` start processes
        for this call.
    key_added
        Name in the slots; by default the system's name, ``"geneformer"``.
    overwrite
        Replace what another model or the user put into the slots.
    copy
        Return a copy instead of writing into ``adata``.
    dry_run
        Check everything, time a few batches, write nothing, and return the plan: rows, tokens,
        truncated cells, batches, device, memory, seconds.

    Returns
    -------
    ``None``; the copy; or the plan. Sets, for cells:

    ``adata.obsm["X_<key>"]``
        float32, cells × width, in the order of ``adata``. Rows of cells without a known gene are
        NaN.
    ``adata.obs["<key>_ok"]``
        bool. Whether the row could be computed.
    ``adata.uns["X_<key>"]``
        The record: model, hashes of weights and vocabulary, tier, pooling, layer, precision, and
        counts of unusable and truncated cells and of the ranked genes that were cut off.

    For genes:

    ``adata.varm["X_<key>"]``, ``adata.varm["X_<key>_<groupby>_<group>"]``
        float32, genes × width; NaN where a gene was read in no cell.
    ``adata.var["n_cells_<key>"]``, ``adata.var["n_cells_<key>_<groupby>_<group>"]``
        int32. The cells that each mean is over.
    ``adata.uns["X_<key>_genes"]``, ``adata.uns["X_<key>_genes_by_<groupby>"]``
        The record.

    For cells with ``groupby``:

    ``adata.uns["X_<key>_by_<groupby>"]``
        The record, with ``embeddings`` (float32, groups × width) in the order of ``groups``.

    Raises
    ------
    OSError
        If the model's files are not here and cannot be fetched; if ``out`` has too little
        room.
    ValueError, KeyError, TypeError
        As for :func:`glm.tl.rank_encode`; if the model has no ``<cls>`` token and it is asked for;
        if ``out`` holds something else or another run.
    RuntimeError
        If memory does not hold a single sentence; if ``strategy`` cannot launch from a notebook.

    Examples
    --------
    >>> import glm
    >>> adata = glm.datasets.toy_cells()
    >>> glm.tl.embed(adata, "geneformer-tiny")
    >>> adata.obsm["X_geneformer"].shape[0] == adata.n_obs
    True
    >>> plan = glm.tl.embed(adata, "geneformer-tiny", dry_run=True)
    >>> plan.n_rows_usable == adata.n_obs
    True
    """
    data, adata = check_target(adata, mod=mod, copy=copy and not dry_run)
    spec = model.spec if isinstance(model, Model) else get(model)
    pooling = pooling or spec.pooling
    read_layer = spec.hidden_layer if hidden_layer is None else hidden_layer
    vocabulary = model.vocabulary if isinstance(model, Model) else spec.vocabulary()
    n_layers_run = _check_reading(spec, vocabulary, of, pooling, read_layer)
    folder = check_out(out, adata)
    groups = find_groups(adata, groupby)
    plan = choose_plan(
        spec.shape, device=device, token_budget=token_budget, precision=precision, out=folder
    )
    counts = check_counts(
        adata,
        vocabulary,
        model=spec.name,
        layer=layer,
        use_raw=use_raw,
        gene_ids=gene_ids,
        log_normalized=log_normalized,
    )
    if of == "genes":
        check_same_genes(adata, use_raw)
    if dry_run:
        first_only = of == "cells" and pooling == "cls"
        job = Job(CellSource(counts), load(model), plan, n_layers_run, first_only)
        width = spec.shape.hidden_size
        reducer = timed_reducer(counts, of, pooling, width, plan.device)
        return plan_job(job, result_bytes(counts, groups, of, width), reducer)
    key = key_added or spec.system
    if of == "genes" or groupby is not None:
        reading = Reading(
            model, spec, pooling, read_layer, n_layers_run, plan, folder, devices, strategy
        )
        average = embed_genes if of == "genes" else embed_groups
        average(adata, counts, groups, reading, key=key, overwrite=overwrite)
        return data if copy else None

    keys = EmbeddingKeys(key)
    written = [("obsm", keys.obsm), ("obs", keys.ok)]
    check = partial(slots.check_free, adata, written, keys.record, overwrite=overwrite)
    check(model=spec.name)
    started = time.perf_counter()
    loaded = load(model)
    check(model=spec.name, weights_sha256=loaded.weights_sha256)
    facts = {"function": "glm.tl.embed", "pooling": pooling}
    job = Job(CellSource(counts), loaded, plan, n_layers_run, pooling == "cls", facts)
    vectors = embed_rows(job, pooling, out=folder, devices=devices, strategy=strategy)
    ok = finite_rows(vectors)

    n_ranked = counts.measures.n_genes_known
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
        precision=plan.precision,
        device=plan.device.type,
        token_budget=plan.budget,
        context=vocabulary.context,
        n_cells=counts.n_cells,
        n_cells_unusable=int((~ok).sum()),
        n_cells_truncated=int((n_ranked > vocabulary.n_genes_read).sum()),
        n_genes_beyond_context=int(np.maximum(n_ranked - vocabulary.n_genes_read, 0).sum()),
        out=folder,
        note=spec.note,
        **counts.facts,
    )
    values = dict(zip(written, (vectors, ok), strict=True))
    with slots.keeping(vectors, folder):
        slots.write(adata, values, keys.record, record)
    _report(adata, keys, ok, n_ranked, vectors, spec, time.perf_counter() - started)
    return data if copy else None


def embed_geneformer(
    adata: AnnData | MuData, model: str | Path | Model = "geneformer-v2-104m", **options: Any
) -> AnnData | MuData | RunPlan | None:
    """Embed cells with a Geneformer: :func:`glm.tl.embed` that takes no other system.

    Parameters
    ----------
    adata
        Cells × genes, raw counts; or a MuData, with ``mod``.
    model
        A Geneformer: its name, a bundle's folder, or the loaded model.
    **options
        As for :func:`glm.tl.embed`.

    Returns
    -------
    ``None``, the copy, or the plan; sets ``adata.obsm["X_<key>"]``, ``adata.obs["<key>_ok"]`` and
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
    spec: ModelSpec, vocabulary: GeneVocabulary, of: str, pooling: str, hidden_layer: str | int
) -> int:
    if of not in ("cells", "genes"):
        raise ValueError(f"of is {of!r}; expected 'cells' or 'genes'.")
    if pooling not in ("mean", "cls"):
        raise ValueError(f"pooling is {pooling!r}; expected 'mean', 'cls' or None.")
    if of == "cells" and pooling == "cls" and "cls" not in vocabulary.special:
        raise ValueError(f"{spec.name} has no <cls> token to pool; use pooling='mean'.")
    return spec.shape.layer_index(hidden_layer)


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
