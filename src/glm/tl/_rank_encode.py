from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .. import slots
from .._keys import RankKeys
from .._progress import progress_bar
from .._settings import logger, settings
from ..cells import check_counts, check_target
from ..encode.rank import encode_ranks
from ..models.reads import gene_vocabulary
from ..models.registry import get

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from mudata import MuData


def rank_encode(
    adata: AnnData | MuData,
    model: str | Path = "geneformer-v2-104m",
    *,
    mod: str | None = None,
    layer: str | None = None,
    use_raw: bool = False,
    gene_ids: str | None = None,
    log_normalized: bool = False,
    key_added: str | None = None,
    overwrite: bool = False,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Order each cell's genes by how far they stand above their corpus median.

    This is the encoding of Geneformer :cite:p:`theodoris2023`. A gene's value in a cell is its
    count divided by the gene's non-zero median over the model's pretraining corpus, in float64.
    Genes are ordered by it, highest first; equal values follow the order of the vocabulary. A
    cell's depth does not matter: it divides all values alike. Only the model's dictionaries are
    needed, not its weights.

    Costs a few passes over the stored values (about 40,000 cells of 2,500 genes a second and core)
    and less than twice the memory of the matrix.

    Parameters
    ----------
    adata
        Cells × genes, raw counts: CSR, CSC, dense or dask; whole numbers in any numeric type.
        Or a MuData, with ``mod``.
    model
        The model whose vocabulary and medians are used.
    mod
        Modality of a MuData. Results go into that modality.
    layer
        Layer that holds the counts; ``None`` is ``X``.
    use_raw
        Take the counts from ``adata.raw``, which must have the same genes.
    gene_ids
        Column of ``var`` with Ensembl ids, or ``"var_names"``. ``None`` takes
        ``var["ensembl_id"]`` where it is there (see :func:`glm.pp.map_genes`), else the names.
    log_normalized
        The values are log1p of normalised counts: it is undone first.
    key_added
        Name in the slots; by default ``"geneformer"``.
    overwrite
        Replace what another model or the user put into the slots.
    copy
        Return a copy instead of writing into ``adata``.

    Returns
    -------
    ``None``, or the copy. Sets:

    ``adata.layers["rank_<key>"]``
        CSR, cells × genes, the smallest unsigned type that holds it. 1 is the gene that stands
        highest; genes without a rank are not stored. Columns that share a gene are summed, the
        rank stands at the first.
    ``adata.var["token_<key>"]``
        int32. The gene's token, -1 outside the vocabulary.
    ``adata.obs["n_ranked_<key>"]``
        int32. Genes ranked, before any truncation to the model's context.
    ``adata.uns["rank_<key>"]``
        The record: model, vocabulary, where the counts were, what the names were, cells without
        any gene, cells longer than the context.

    Raises
    ------
    ValueError
        If counts are negative, not finite or not whole; if the names are symbols or of another
        species; if less than a tenth of all counts lies on known genes; if a slot is taken.
    KeyError
        If ``layer``, ``gene_ids`` or ``model`` does not exist.
    TypeError
        If ``adata`` or its matrix is of an unsupported kind.

    Examples
    --------
    >>> import glm
    >>> adata = glm.datasets.toy_cells()
    >>> glm.tl.rank_encode(adata, "geneformer-tiny")
    >>> adata.layers["rank_geneformer"].shape == adata.shape
    True
    """
    data, adata = check_target(adata, mod=mod, copy=copy)
    spec = get(model)
    vocabulary = gene_vocabulary(spec)
    counts = check_counts(
        adata,
        vocabulary,
        model=spec.name,
        layer=layer,
        use_raw=use_raw,
        gene_ids=gene_ids,
        log_normalized=log_normalized,
    )
    if use_raw and not adata.raw.var_names.equals(adata.var_names):
        raise ValueError(
            f"adata.raw has {adata.raw.n_vars:,} genes and adata {adata.n_vars:,}: a layer needs "
            "the same ones. Work on adata.raw.to_adata()."
        )
    keys = RankKeys(key_added or spec.system)
    written = [("layers", keys.layer), ("var", keys.token), ("obs", keys.n_ranked)]
    slots.check_free(adata, written, keys.record, model=spec.name, overwrite=overwrite)

    with progress_bar(counts.n_cells, "cells", "rank") as advance:
        ranks, n_ranked = encode_ranks(
            counts.matrix, counts.ranker(), n_threads=settings.n_threads, progress=advance
        )

    record = slots.make_record(
        function="glm.tl.rank_encode",
        model=spec.name,
        tier=spec.tier,
        vocabulary=vocabulary.name,
        vocabulary_sha256=vocabulary.sha256,
        context=vocabulary.context,
        n_cells=counts.n_cells,
        n_cells_empty=int((n_ranked == 0).sum()),
        n_cells_truncated=int((n_ranked > vocabulary.n_genes_read).sum()),
        note=spec.note,
        **counts.facts,
    )
    values = (ranks, counts.column_tokens, np.asarray(n_ranked, dtype=np.int32))
    slots.write(adata, dict(zip(written, values, strict=True)), keys.record, record)
    logger.info(
        "added %r (layers, %s × %s, %s) with the vocabulary of %s; %s cells had no known gene",
        keys.layer,
        f"{ranks.shape[0]:,}",
        f"{ranks.shape[1]:,}",
        ranks.dtype,
        spec.name,
        f"{record['n_cells_empty']:,}",
    )
    return data if copy else None
