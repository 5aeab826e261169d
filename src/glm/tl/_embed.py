from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..models.any_model import get
from ..models.bundle import Model
from ..models.track_model import TrackModel, TrackSpec
from ._embed_cells import embed_cells
from ._embed_enformer import embed_windows
from ._embed_regions import RegionOptions, embed_regions
from ._reading import Run, check_window_reading, reads_dna, refuse_foreign
from ._track_call import WindowOptions, WindowRun

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    import numpy as np
    from anndata import AnnData
    from mudata import MuData

    from ..engine import RunPlan
    from ..genome import Genome

    Sequences = str | os.PathLike[str] | Mapping[str, str | np.ndarray] | Genome


def embed(
    adata: AnnData | MuData,
    model: str | Path | Model | TrackModel = "geneformer-v2-104m",
    *,
    of: Literal["cells", "genes", "regions"] = "cells",
    groupby: str | None = None,
    pooling: Literal["mean", "cls"] | None = None,
    hidden_layer: Literal["last", "second_to_last"] | int | None = None,
    mod: str | None = None,
    layer: str | None = None,
    use_raw: bool = False,
    gene_ids: str | None = None,
    log_normalized: bool = False,
    genome: Sequences | None = None,
    axis: Literal["obs", "var"] | None = None,
    strand: Literal["own", "both", "+"] = "own",
    max_n_share: float = 0.1,
    edges: Literal["clip", "raise"] = "clip",
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
    """Embed cells or regions with a genomic language model, beside their other representations.

    A model that reads cells (Geneformer) embeds the cells of ``adata``; one that reads DNA
    (DNABERT, GROVER) its regions: peaks or promoters in ``var``, or whatever has coordinates in
    ``obs``.

    **Cells.** Counts are rank-encoded block by block (see :func:`glm.tl.rank_encode`; no ranks are
    stored), sentences of similar length run together without padding, and only the layers below
    the asked one are computed. Then ``sc.pp.neighbors(adata, use_rep="X_geneformer")`` carries on.

    Time grows with cells × tokens (``dry_run=True`` estimates it); every cell counts only with its
    own. Memory: the model, one block of sentences and the result, which ``out`` takes to the disk.
    Counts may be in memory, in a file (``backed="r"``), lazily read or in dask: they are looked
    through twice, then read once. Where a GPU's memory runs out, the batches are halved.

    **Regions.** Coordinates are read from the object (chrom, start and end, ``interval``, or names
    like ``chr1:1,000-2,000``; :func:`glm.pp.set_regions` writes them), sequence from ``genome``,
    block by block: once to count tokens and unknown bases, once to embed. Time grows with bases
    (byte pairs: with a quarter of them). A region that is longer than the context is cut into
    pieces that overlap by at least half. Each token is read out of one piece only, the one in
    whose middle it stands, so that it has a quarter of the context on both sides, and the region's
    mean is that over all its tokens; with ``pooling="cls"`` it is the mean of the pieces' first
    vectors, weighted by the bases that are read out of each. GROVER's tokens depend on the bases
    around: 100 more on both sides are read (what there is, at a chromosome's end) and trimmed, and
    tokens that overlap the region count. A model that predicts tracks (Enformer) reads a wide
    window around each region, on the plus strand, and gives the mean over the region's bins: see
    :func:`glm.tl.embed_enformer`, which has more options for it.

    Parameters
    ----------
    adata
        Cells × genes, raw counts, as for :func:`glm.tl.rank_encode`; an object with regions; or a
        MuData, with ``mod``.
    model
        A name of :func:`glm.models.list`, the path of a folder, or a loaded model.
    of
        ``"cells"``; or ``"genes"``, for each gene the mean of its hidden states over the cells that
        read it. A model that reads DNA embeds regions, whether this says so or not.
    groupby
        Column of ``obs``. Of cells it gives the mean embedding of each group, of genes one
        embedding in each group.
    pooling
        ``"mean"`` over the cell's genes or the region's tokens (special tokens left out) or
        ``"cls"``, the vector of the first token; ``None`` is the authors' own (Geneformer V1 mean,
        V2, DNABERT and GROVER cls). Not for genes.
    hidden_layer
        ``"last"``, ``"second_to_last"`` or an index from 0 (token embeddings); ``None`` is the
        authors' own (Geneformer second to last, DNABERT and GROVER last).
    mod
        Modality of a MuData. Results go into that modality.
    layer, use_raw, gene_ids, log_normalized
        Where the counts and the Ensembl ids are, as for :func:`glm.tl.rank_encode`. Of cells.
    genome
        Of regions, and needed: ``"hg19"``, ``"hg38"`` or ``"mm10"`` (fetched once), the path of a
        2bit or FASTA file, a dictionary of sequences, or a :class:`glm.Genome`. One that disagrees
        with what the object says of itself is refused.
    axis
        Where the regions are, ``"var"`` or ``"obs"``; ``None`` finds out.
    strand
        ``"own"`` reads each region on its own strand, on + where none is known; ``"both"`` reads
        both, and averages the two embeddings (twice the time); ``"+"`` follows the genome.
    max_n_share
        Regions with a larger share of unknown bases (N) than this are not embedded.
    edges
        Of a region that reaches beyond its chromosome: ``"clip"`` reads what is on it, ``"raise"``
        refuses it.
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
        Name in the slots; by default the system's: ``"geneformer"``, ``"dnabert"``, ``"grover"``.
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

    For regions, in ``varm``, ``var`` or ``obsm``, ``obs`` by their axis:

    ``adata.varm["X_<key>"]``
        float32, regions × width; NaN where there is no region, all of it lies beyond its
        chromosome, more bases than ``max_n_share`` are not known, or no token fits.
    ``adata.var["<key>_ok"]``
        bool. Whether the row could be computed.
    ``adata.uns["X_<key>"]``
        The record: as for cells, with the genome (name, source, fingerprint), strand, flank, how
        pieces are stitched, and counts of regions that are unusable (and why), clipped, in pieces
        or with unknown bases.

    Raises
    ------
    OSError
        If files of the model or the genome are not here and cannot be fetched; if ``out`` has too
        little room.
    ValueError, KeyError, TypeError
        As for :func:`glm.tl.rank_encode`; if the model has no ``<cls>`` token and it is asked for;
        if ``out`` holds something else or another run; if options of cells are given for regions
        or the other way round; if no genome is named, it disagrees with the object or lacks a
        chromosome; if no region can be read.
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

    Regions, of a genome made up for this example:

    >>> import numpy as np
    >>> from anndata import AnnData
    >>> peaks = AnnData(np.ones((2, 3), np.float32))
    >>> peaks.var_names = ["chr1:100-400", "chr1:1,000-1,200", "chr1:300-2,300"]
    >>> glm.tl.embed(peaks, "dnabert-tiny", genome={"chr1": "ACGTTGCA" * 400})
    >>> peaks.varm["X_dnabert"].shape[0], int(peaks.uns["X_dnabert"]["n_in_pieces"])
    (3, 1)
    """
    spec = model.spec if isinstance(model, Model | TrackModel) else get(model)
    run = Run(
        pooling,
        hidden_layer,
        device,
        precision,
        token_budget,
        out,
        devices,
        strategy,
        key_added,
        overwrite,
        copy,
        dry_run,
    )
    if of not in ("cells", "genes", "regions"):
        raise ValueError(f"of is {of!r}; expected 'cells', 'genes' or 'regions'.")
    counts_at = {
        "layer": layer,
        "use_raw": use_raw,
        "gene_ids": gene_ids,
        "log_normalized": log_normalized,
    }
    options = RegionOptions(genome, axis, strand, max_n_share, edges)
    if isinstance(spec, TrackSpec):
        assert not isinstance(model, Model)
        refuse_foreign(spec, "DNA", {"of": of == "genes", "groupby": groupby, **counts_at})
        return _embed_windows(adata, model, spec, run, options, mod=mod)
    if reads_dna(model, spec):
        refuse_foreign(spec, "DNA", {"of": of == "genes", "groupby": groupby, **counts_at})
        return embed_regions(adata, model, spec, run, options, mod=mod)
    refuse_foreign(spec, "cells", {"of": of == "regions", **options.given()})
    return embed_cells(
        adata, model, spec, run, of=of, groupby=groupby, mod=mod, counts_at=counts_at
    )


def _embed_windows(
    data: AnnData | MuData,
    model: str | Path | TrackModel,
    spec: TrackSpec,
    run: Run,
    options: RegionOptions,
    *,
    mod: str | None,
) -> AnnData | MuData | RunPlan | None:
    """Hand a call over to what :func:`glm.tl.embed_enformer` does, in its words."""
    options.check()
    check_window_reading(run, spec)
    windows = WindowOptions(
        options.genome,
        options.axis,
        mod,
        strand_average=options.strand == "both",
        max_n_share=options.max_n_share,
        edges=options.edges,
    )
    where = WindowRun(
        run.device,
        "mixed" if run.precision == "bfloat16" else run.precision,
        run.out,
        run.devices,
        run.strategy,
        run.key_added,
        run.overwrite,
        run.copy,
        run.dry_run,
    )
    return embed_windows(data, model, windows, where, function="glm.tl.embed")
