from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._keys import RegionKeys
from .._messages import counted, first_names, share, warn
from .._settings import logger
from ..cells import check_target
from ..locate import same_genome
from ..place import Place
from ..regions import Regions
from ._region_columns import RegionColumns, name_of, spread_texts
from ._transcripts import POLICIES, Policy, Promoters, gene_key, is_versioned, promoters_of

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from mudata import MuData

    from ..genome import Genome

UNKNOWN, SEVERAL = -1, -2


def add_tss(
    adata: AnnData | MuData,
    gtf: str | os.PathLike[str] | pd.DataFrame,
    *,
    upstream_bp: int = 1000,
    downstream_bp: int = 200,
    policy: Policy = "canonical",
    gene_ids: str | None = None,
    genome: str | Genome | None = None,
    mod: str | None = None,
    overwrite: bool = False,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Give each gene the region around its transcription start site, on the gene's strand.

    The start site is the first base of one transcript of the gene; of exons alone it is that of the
    first exon. The region has ``upstream_bp`` bases before it and ``downstream_bp`` from it on,
    in the direction of the gene; near a chromosome's start it may begin below 0, and keeps its
    length.

    Which transcript: with ``policy="canonical"`` the one tagged ``Ensembl_canonical``; else
    ``MANE_Select``; else ``appris_principal``, the lowest number first; else the longest, from its
    first to its last base on the genome, those whose start was not found (``mRNA_start_NF``) last.
    Those that are alike in this go by length, then by the more upstream start, then by their id.
    With ``"most_upstream"`` it is the one that starts furthest upstream.

    Genes are found by Ensembl id, whatever its version, and otherwise by symbol, each name by
    itself. Of a symbol's two genes on X and Y, and of genes that are also on alternative contigs,
    the one on X, or on the main chromosome, is taken; ids that end with ``_PAR_Y`` name the copy on
    Y. A name of several genes has no region. Costs reading the file (see
    :func:`glm.io.read_gtf`) and a few seconds.

    Parameters
    ----------
    adata
        Cells × genes; only ``var`` is read. Or a MuData, with ``mod``.
    gtf
        The path of a GTF file, gzipped or not, or what :func:`glm.io.read_gtf` made of one, with
        ``gene_id``, and ``gene_name``, ``transcript_id`` and ``tag`` where they are to be used.
    upstream_bp, downstream_bp
        Bases before the start site, and from it on.
    policy
        Which transcript of a gene counts: ``"canonical"`` or ``"most_upstream"``.
    gene_ids
        Column of ``var`` with ids or symbols; ``None`` takes ``ensembl_id`` if it is there (see
        :func:`glm.pp.map_genes`), else ``var_names``.
    genome
        The genome that the annotation is of; ``None`` takes what the file says in its first lines.
    mod
        Modality of a MuData. Results go into that modality.
    overwrite
        Replace columns that this function did not write.
    copy
        Return a copy instead of writing into ``adata``.

    Returns
    -------
    ``None``, or the copy. Sets, all or none:

    ``adata.var["chrom"]``, ``["start"]``, ``["end"]``, ``["strand"]``, ``["genome"]``
        As :func:`glm.pp.set_regions`; missing for genes that were not found.
    ``adata.var["tss_transcript"]``
        category: the transcript whose start it is.
    ``adata.uns["regions_var"]``
        The record: policy, how many genes were found by id and by symbol, and what decided.

    Raises
    ------
    KeyError
        If there is no such column or modality.
    OSError
        If the file cannot be read.
    TypeError, ValueError
        If the annotation is malformed, has no transcripts, or knows none of the genes; if it is of
        another genome than the object says, or than ``genome``; if a column is taken.

    Examples
    --------
    >>> import glm, pathlib
    >>> adata = glm.datasets.toy_cells()
    >>> gene = adata.var_names[0]
    >>> line = f'chr9\\tmade up\\ttranscript\\t5001\\t9000\\t.\\t-\\t.\\tgene_id "{gene}.2";\\n'
    >>> n = pathlib.Path("genes.gtf").write_text(line)
    >>> glm.pp.add_tss(adata[:, :1].copy(), "genes.gtf", copy=True).var["start"].to_list()
    [8800]
    """
    _check(upstream_bp, downstream_bp, policy)
    data, holder = check_target(adata, mod=mod, copy=copy)
    keys = RegionKeys("var")
    more = [keys.transcript]
    columns = RegionColumns(
        holder, "var", function="glm.pp.add_tss", overwrite=overwrite, more=more
    )
    names, column = Place(holder, None, use_raw=False).names(gene_ids)
    source = str(gtf) if isinstance(gtf, str | os.PathLike) else "table"
    promoters = promoters_of(gtf, policy)
    stated = _genome_of(promoters, name_of(genome), source)
    found, kinds = match(names, promoters)
    rows = np.flatnonzero(found >= 0).astype(np.int64)
    if not rows.size:
        raise ValueError(
            f"None of {len(names):,} names of adata.var ({column}: {first_names(names)}) is a gene "
            f"of {source}, whose first are {first_names(promoters.table['gene'])} "
            f"({first_names(promoters.table['symbol'])}). Name the column of ids or symbols with "
            "gene_ids=; is the annotation of the same species?"
        )
    written = columns.check_genome(stated, rows, source)
    table = promoters.table.iloc[found[rows]]
    regions = windows(table, upstream_bp, downstream_bp)
    transcripts = spread_texts(table["transcript"].to_numpy(), rows, len(names))
    facts = {
        "gtf": source,
        "feature": promoters.feature,
        "policy": policy,
        "upstream_bp": upstream_bp,
        "downstream_bp": downstream_bp,
        "gene_ids": column,
        "n_genes_in_gtf": len(promoters.table),
        "matched_by": {name: kinds[name] for name in ("id", "symbol")},
        "n_versions_left_off": kinds["versioned"],
        "n_not_found": kinds["unknown"],
        "n_several_genes": kinds["several"],
        "n_sharing_a_gene": len(rows) - len(np.unique(found[rows])),
        "n_begin_below_0": int((regions.start < 0).sum()),
        "chosen_by": {str(k): int(v) for k, v in table["by"].value_counts().items()},
        "genome_stated": stated,
    }
    columns.write(regions, rows, genome=written, more={keys.transcript: transcripts}, facts=facts)
    logger.info(
        "added regions of start sites (var): %s genes of %s", share(len(rows), len(names)), source
    )
    _tell(found, names, kinds, source)
    return data if copy else None


def _check(upstream_bp: int, downstream_bp: int, policy: str) -> None:
    for name, value in (("upstream_bp", upstream_bp), ("downstream_bp", downstream_bp)):
        if isinstance(value, bool) or int(value) != value or value < 0:
            raise ValueError(f"{name} is {value!r}; expected a whole number of bases, 0 or more.")
    if upstream_bp + downstream_bp == 0:
        raise ValueError("upstream_bp and downstream_bp are both 0; a region needs a base.")
    if policy not in POLICIES:
        raise ValueError(f"policy is {policy!r}; expected 'canonical' or 'most_upstream'.")


def _genome_of(promoters: Promoters, asked: str | None, source: str) -> str | None:
    if not same_genome(asked, promoters.genome):
        raise ValueError(
            f"{source} says that it is of {promoters.genome!r}, and genome is {asked!r}. Take the "
            "annotation of the same genome."
        )
    return asked or promoters.genome or None


def match(names: Sequence[Any], promoters: Promoters) -> tuple[NDArray[np.int64], Counter[str]]:
    """Row of each name's gene: ``UNKNOWN`` without one, ``SEVERAL`` where a name has several.

    And how many were found by ``id`` and ``symbol``, ``unknown``, ``several``, and ``versioned``.
    """
    found = np.full(len(names), UNKNOWN, np.int64)
    kinds: Counter[str] = Counter()
    for i, name in enumerate(names):
        text = str(name).strip()
        key = gene_key(text)
        if key in promoters.row_of:
            found[i], kind = promoters.row_of[key], "id"
            kinds["versioned"] += is_versioned(text)
        elif key in promoters.several:
            found[i], kind = SEVERAL, "several"
        else:
            rows = promoters.genes_of.get(text, [])
            found[i] = rows[0] if len(rows) == 1 else SEVERAL if rows else UNKNOWN
            kind = "symbol" if len(rows) == 1 else "several" if rows else "unknown"
        kinds[kind] += 1
    return found, kinds


def windows(table: pd.DataFrame, upstream_bp: int, downstream_bp: int) -> Regions:
    """Regions around start sites, in the direction of the strand."""
    strand = table["strand"].to_numpy(np.int8)
    tss = table["tss"].to_numpy(np.int64)
    plus = strand > 0
    start = np.where(plus, tss - upstream_bp, tss + 1 - downstream_bp)
    end = np.where(plus, tss + downstream_bp, tss + 1 + upstream_bp)
    return Regions(table["chrom"].to_numpy(object), start, end, strand)


def _tell(found: NDArray[np.int64], names: Sequence[Any], kinds: Counter[str], source: str) -> None:
    without = np.flatnonzero(found < 0)
    if not without.size:
        return
    reasons = []
    if kinds["unknown"]:
        reasons.append(f"{kinds['unknown']:,} not in {source}")
    if kinds["several"]:
        several = counted(kinds["several"], "name")
        reasons.append(f"{several} of several genes or places (give ids with gene_ids=)")
    warn(
        f"{share(len(without), len(names))} genes have no start site and so no region "
        f"({first_names(names[i] for i in without.tolist())}): {', '.join(reasons)}."
    )
