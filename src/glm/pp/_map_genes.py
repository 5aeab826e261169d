from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .. import slots
from .._keys import ENSEMBL_ID
from .._messages import first_names, share, warn
from .._settings import logger
from ..cells import check_target
from ..genes import GeneMap, map_names
from ..models.reads import gene_vocabulary
from ..models.registry import get

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from mudata import MuData


def map_genes(
    adata: AnnData | MuData,
    model: str | Path = "geneformer-v2-104m",
    *,
    mod: str | None = None,
    source: str | None = None,
    key_added: str = ENSEMBL_ID,
    min_share: float = 0.1,
    overwrite: bool = False,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Find the Ensembl id of every gene with the dictionaries that the model's authors used.

    Each name is resolved by itself: Ensembl ids (a version such as ``.12`` is left off, retired
    ids are replaced, ``_PAR_Y`` copies are never merged with the gene on X), official symbols,
    then older symbols. Names are matched as a whole and as they are written. Costs milliseconds.

    Parameters
    ----------
    adata
        Cells × genes; only ``var`` is read. Or a MuData, with ``mod``.
    model
        The model whose dictionaries are used.
    mod
        Modality of a MuData. Results go into that modality.
    source
        Column of ``var`` with the names; ``None`` takes ``var_names``.
    key_added
        Column of ``var`` to write, where :func:`glm.tl.rank_encode` and :func:`glm.tl.embed` look
        first.
    min_share
        Least share of the names that must be found in the model's vocabulary.
    overwrite
        Replace a column that ``glm`` did not write.
    copy
        Return a copy instead of writing into ``adata``.

    Returns
    -------
    ``None``, or the copy. Sets:

    ``adata.var[key_added]``
        str. The Ensembl id, ``""`` where none was found.
    ``adata.uns[key_added]``
        The record: how many names were ids, symbols, older symbols, versioned, unknown.

    Raises
    ------
    ValueError
        If names are missing or of another species, or if fewer than ``min_share`` of them are
        found; if the column is taken.
    KeyError
        If ``source`` or ``model`` does not exist.

    Examples
    --------
    >>> import glm
    >>> adata = glm.datasets.toy_cells(names="symbols")
    >>> glm.pp.map_genes(adata, "geneformer-tiny")
    >>> adata.var["ensembl_id"].iloc[0][:4]
    'ENSG'
    """
    data, adata = check_target(adata, mod=mod, copy=copy)
    spec = get(model)
    if source is not None and source not in adata.var:
        raise KeyError(
            f"adata.var has no column {source!r}; it has {', '.join(adata.var.columns)}."
        )
    names = list(adata.var_names if source is None else adata.var[source])
    slots.check_free(adata, [("var", key_added)], key_added, model=spec.name, overwrite=overwrite)
    genes = map_names(names, gene_vocabulary(spec))
    if genes.n_in_vocabulary < min_share * len(names):
        raise ValueError(
            f"Only {share(genes.n_in_vocabulary, len(names))} names are genes of {spec.name}; "
            f"expected at least {100 * min_share:.0f}%. Unknown are "
            f"{_unknown(genes, names)}. Are these human gene symbols or Ensembl ids? Name their "
            "column with source=."
        )
    record = slots.make_record(
        function="glm.pp.map_genes",
        model=spec.name,
        source=source or "var_names",
        n_names=len(names),
        n_in_vocabulary=genes.n_in_vocabulary,
        n_columns_summed=genes.n_shared,
        kinds=dict(genes.kinds),
    )
    slots.write(adata, {("var", key_added): genes.ids.astype(object)}, key_added, record)
    _report(genes, names, spec.name, key_added)
    return data if copy else None


def _unknown(genes: GeneMap, names: list[str]) -> str:
    unknown = genes.kinds.get("unknown", 0)
    return first_names(genes.examples["unknown"], total=unknown) if unknown else first_names(names)


def _report(genes: GeneMap, names: list[str], model: str, key: str) -> None:
    logger.info(
        "added %r (var): %s names are genes of %s",
        key,
        share(genes.n_in_vocabulary, len(names)),
        model,
    )
    n_without = int((genes.ids == "").sum())
    parts = []
    if n_without:
        unplaced = [names[i] for i in np.flatnonzero(genes.ids == "")]
        parts.append(f"{share(n_without, len(names))} have no Ensembl id ({first_names(unplaced)})")
    if genes.n_shared:
        shared = first_names(genes.shared_names(names))
        parts.append(f"{genes.n_shared:,} share a gene with an earlier column ({shared})")
    if dates := genes.kinds.get("date", 0):
        listed = first_names(genes.examples["date"], total=dates)
        parts.append(f"{dates:,} were turned into dates by a spreadsheet ({listed})")
    if parts:
        placed = share(genes.n_in_vocabulary, len(names))
        warn(f"{placed} gene names were mapped to genes of {model}; {'; '.join(parts)}.")
