from __future__ import annotations

import hashlib
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from .. import slots
from .._keys import AttentionKeys
from .._messages import first_names, share, warn
from .._settings import logger
from ..cells import Counts, check_counts, check_target
from ..models.bundle import Model, load
from ..models.reads import gene_vocabulary
from ..models.registry import ModelSpec, get
from ._attention_choice import check_choice, find_heads, find_layers, named_genes, top_genes
from ._cell_source import CellSource
from ._gene_axis import check_same_genes, place_of_token, readable_columns, tell_left_out
from ._groups import Groups, check_distinct, find_groups
from ._job import Devices, choose_plan, plan_job, run_job
from ._job_kinds import Job

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from mudata import MuData
    from scipy.sparse import csr_matrix

    from ..engine import Plan, RunPlan
    from ..engine.pair_sums import Pairs
    from ..engine.run import Executor

# Genes along each side of the sums that a dry run adds to.
_MOST_TIMED = 4096


def attention(
    adata: AnnData | MuData,
    model: str | Path | Model = "geneformer-v2-104m",
    *,
    genes: Sequence[str] | None = None,
    n_top: int | None = None,
    partners: Literal["all", "chosen"] = "all",
    groupby: str | None = None,
    layers: int | str | Sequence[int | str] | None = None,
    heads: int | Sequence[int] | None = None,
    scale_by_length: bool = False,
    mod: str | None = None,
    layer: str | None = None,
    use_raw: bool = False,
    gene_ids: str | None = None,
    log_normalized: bool = False,
    device: str | None = None,
    token_budget: int | None = None,
    out: str | Path | None = None,
    devices: Devices = None,
    strategy: str = "auto",
    key_added: str | None = None,
    overwrite: bool = False,
    copy: bool = False,
    dry_run: bool = False,
) -> AnnData | MuData | RunPlan | None:
    """Average over cells how much attention chosen genes pay to the other genes.

    In each layer and head, the vector of a gene in a cell becomes a weighted mean over all tokens
    of the cell's sentence; the weights, which add up to 1, are its attention to them. Here they are
    averaged over the layers and heads that are asked for, and then over the cells whose sentence
    holds both genes. Genes beyond the model's context are in no sentence and are not counted.

    Attention shows what a model looked at. It is no proof of regulation, and weights between genes
    that are read in few cells are means of few numbers: look at the counts beside them.

    Time: that of an embedding, and for the chosen genes about as much again as their share of the
    sentences. The full matrices of a cell are never made: memory holds one head's scores of a block
    of 256 chosen genes, the chosen genes' sums of one batch (as a hidden state as wide as they are
    many), and 12 bytes × groups × chosen genes × partners, up to four times that while parts of
    the work merge and means are made.

    Parameters
    ----------
    adata
        Cells × genes, raw counts, as for :func:`glm.tl.rank_encode`; or a MuData, with ``mod``.
    model
        A name of :func:`glm.models.list`, the path of a folder, or a loaded model.
    genes
        Names (``var_names``) of the genes whose attention is wanted.
    n_top
        Instead of ``genes``: that many genes, those read in most cells; of equals the first.
    partners
        ``"all"``: the columns are all genes the model reads; ``"chosen"``: the chosen genes only,
        which takes less memory where they are many.
    groupby
        Column of ``obs``: average over each group of cells by itself.
    layers
        One or several of 1 (the layer that makes hidden state 1) to the number of layers,
        ``"last"``, ``"second_to_last"``; ``None`` averages over all.
    heads
        One or several heads, counted from 0, the same in each layer; ``None`` averages over all.
    scale_by_length
        Multiply each cell's weights by the tokens of its sentence before they are averaged. Weights
        shrink as sentences grow; multiplied, 1 is what even attention would give in any cell.
    mod
        Modality of a MuData. Results go into that modality.
    layer, use_raw, gene_ids, log_normalized
        Where the counts and the Ensembl ids are, as for :func:`glm.tl.rank_encode`. (``layer`` is
        one of ``adata``, ``layers`` are those of the model.)
    device
        ``"cpu"``, ``"cuda"`` or ``"cuda:1"``; ``None`` takes CUDA where there is one. Computed in
        float32 on each.
    token_budget
        Most tokens run at once; ``None`` chooses by the device.
    out
        A folder for a long run, in which finished parts of the work are kept: after an
        interruption the same call goes on where it was, as for :func:`glm.tl.embed`. The result is
        in the slots; delete the folder when you have it.
    devices, strategy
        Devices for Lightning to use and how to launch them, as for :func:`glm.tl.embed`.
    key_added
        Name in the slots; by default the system's name, ``"geneformer"``.
    overwrite
        Replace what another model or the user put into the slots.
    copy
        Return a copy instead of writing into ``adata``.
    dry_run
        Check everything, time a few batches, write nothing, and return the plan, as for
        :func:`glm.tl.embed`.

    Returns
    -------
    ``None``; the copy; or the plan. Sets:

    ``adata.varp["attention_<key>"]``
        CSR of float32, genes × genes: the row's gene attends to the column's. Rows of genes that
        were not chosen are empty, as are pairs that no cell's sentence holds. A row of one cell
        adds up to at most 1: what goes to special tokens is not shown.
    ``adata.varp["attention_<key>_n"]``
        CSR of int32, the same pairs: how many cells each is the mean of.
    ``adata.uns["attention_<key>"]``
        The record: model, hashes, the chosen genes, layers, heads, cells that were read.

    With ``groupby``, ``varp["attention_<key>_<groupby>_<group>"]`` and ``…_n`` for each group, and
    the record in ``uns["attention_<key>_by_<groupby>"]``; ``/`` in a name becomes ``_``.

    Raises
    ------
    ValueError
        If neither ``genes`` nor ``n_top`` is given, or both; if a gene is unknown to the model; if
        there is no such layer or head; if group labels are missing or all the same.
    KeyError
        If a gene or the column ``groupby`` does not exist.
    OSError, TypeError
        As for :func:`glm.tl.embed`.

    Examples
    --------
    >>> import glm
    >>> adata = glm.datasets.toy_cells()
    >>> glm.tl.attention(adata, "geneformer-tiny", n_top=5)
    >>> adata.varp["attention_geneformer"].shape == (adata.n_vars, adata.n_vars)
    True
    """
    data, adata = check_target(adata, mod=mod, copy=copy and not dry_run)
    check_choice(genes, n_top, partners, adata)
    spec = model.spec if isinstance(model, Model) else get(model)
    vocabulary = gene_vocabulary(model if isinstance(model, Model) else spec)
    read = _Reading(find_layers(spec, layers), find_heads(spec, heads), scale_by_length)
    folder = None if out is None else Path(out).expanduser()
    plan = choose_plan(
        spec.shape, device=device, token_budget=token_budget, precision="float32", out=folder
    )
    groups = find_groups(adata, groupby)
    counts = check_counts(
        adata,
        vocabulary,
        model=spec.name,
        layer=layer,
        use_raw=use_raw,
        gene_ids=gene_ids,
        log_normalized=log_normalized,
    )
    check_same_genes(adata, use_raw)
    keys = AttentionKeys(key_added or spec.system, groups.column)
    written = [
        slot
        for group in groups.names
        for slot in (("varp", keys.varp(group)), ("varp", keys.n(group)))
    ]
    check_distinct(written, groups)
    check = partial(slots.check_free, adata, written, keys.record, overwrite=overwrite)
    check(model=spec.name)
    chosen = (
        top_genes(counts, n_top) if genes is None else named_genes(adata, counts, genes, spec.name)
    )

    started = time.perf_counter()
    loaded = load(model)
    check(model=spec.name, weights_sha256=loaded.weights_sha256)
    columns = readable_columns(counts) if partners == "all" else chosen
    pairs = _Pairs(chosen, columns, place_of_token(counts, chosen), place_of_token(counts, columns))
    job = attention_job(counts, loaded, groups, read, plan, pairs)
    if dry_run:
        return plan_attention(job, groups, pairs)
    found = average_attention(job, groups, pairs, out=folder, devices=devices, strategy=strategy)

    values: dict[slots.Slot, Any] = {}
    for number, means in enumerate(found.pairs):
        mean, n = _on_axes(means, pairs, adata.n_vars)
        values[written[2 * number]], values[written[2 * number + 1]] = mean, n
    n_ranked = counts.measures.n_genes_known
    record = slots.make_record(
        function="glm.tl.attention",
        model=spec.name,
        tier=spec.tier,
        weights_sha256=loaded.weights_sha256,
        vocabulary=vocabulary.name,
        vocabulary_sha256=vocabulary.sha256,
        genes=[str(name) for name in adata.var_names[chosen]],
        n_top=n_top,
        partners=partners,
        layers=read.layers,
        heads=read.heads,
        scale_by_length=scale_by_length,
        precision=plan.precision,
        device=plan.device.type,
        token_budget=plan.budget,
        context=vocabulary.context,
        **groups.facts,
        n_cells=counts.n_cells,
        n_cells_of_group=found.n_cells,
        n_cells_unusable=int((n_ranked == 0).sum()),
        n_cells_not_finite=found.n_not_finite,
        n_cells_truncated=int((n_ranked > vocabulary.n_genes_read).sum()),
        out=folder,
        note=spec.note,
        **counts.facts,
    )
    with slots.keeping(values, folder):
        slots.write(adata, values, keys.record, record)
    _report(adata, keys, found, counts, chosen, spec, time.perf_counter() - started)
    return data if copy else None


class _Reading(NamedTuple):
    """What of a model's attention is averaged."""

    layers: tuple[int, ...]
    heads: tuple[int, ...]
    scale_by_length: bool


class _Pairs(NamedTuple):
    """Columns of ``adata`` that are rows and columns of the result, and their places by token."""

    chosen: np.ndarray
    columns: np.ndarray
    row_of_token: np.ndarray
    column_of_token: np.ndarray


class _Found(NamedTuple):
    """Means by group, and which cells they are of."""

    pairs: list[Pairs]
    n_cells: np.ndarray
    n_not_finite: int


def attention_job(
    counts: Counts, model: Model, groups: Groups, read: _Reading, plan: Plan, pairs: _Pairs
) -> Job:
    """The cells to run, how, and everything that the result depends on."""
    digest = hashlib.sha256(pairs.row_of_token.tobytes())
    digest.update(pairs.column_of_token.tobytes())
    facts = {
        "function": "glm.tl.attention",
        **read._asdict(),
        "pairs": digest.hexdigest(),
        "groups": groups.sha256,
    }
    make = partial(
        make_probe,
        is_query=pairs.row_of_token >= 0,
        is_key=pairs.column_of_token >= 0,
        **read._asdict(),
    )
    return Job(
        CellSource(counts),
        model,
        plan,
        layer=read.layers[-1],
        facts=facts,
        what="attention",
        make_executor=make,
    )


def make_probe(
    model: Model, plan: Plan, *, is_query: np.ndarray, is_key: np.ndarray, **read: Any
) -> Executor:
    """The executor that reads attention on the way through the packed encoder."""
    import torch

    from ..models.fast.attention import AttentionProbe
    from ..models.fast.bert import PackedBert

    flags = (torch.from_numpy(is_query), torch.from_numpy(is_key))
    packed = PackedBert(model.encoder, device=plan.device, dtype=plan.dtype)
    return AttentionProbe(packed, *flags, **read)


def average_attention(
    job: Job,
    groups: Groups,
    pairs: _Pairs,
    *,
    out: Path | None = None,
    devices: Devices = None,
    strategy: str = "auto",
) -> _Found:
    """Compute the mean attention of the chosen genes over the cells of each group."""
    from ..engine.pair_sums import PairSums

    reducer = PairSums(
        pairs.row_of_token,
        pairs.column_of_token,
        (pairs.chosen.size, pairs.columns.size),
        group_of_row=groups.of_row,
        n_groups=len(groups),
        device=job.plan.device,
    )
    run_job(job, reducer, out=out, devices=devices, strategy=strategy)
    return _Found(reducer.pairs, reducer.n_cells, reducer.n_not_finite)


def plan_attention(job: Job, groups: Groups, pairs: _Pairs) -> RunPlan:
    """What it would cost; pairs are counted as if each were found."""
    from ..engine.pair_sums import PAIR_BYTES, PairSums

    # Sums of some thousand genes take as long to add to as larger ones, and fit anywhere.
    rows, columns = (
        np.where(places < 0, -1, places % _MOST_TIMED)
        for places in (pairs.row_of_token, pairs.column_of_token)
    )
    shape = (min(pairs.chosen.size, _MOST_TIMED), min(pairs.columns.size, _MOST_TIMED))
    reducer = PairSums(rows, columns, shape, device=job.plan.device)
    n_pairs = len(groups) * pairs.chosen.size * pairs.columns.size
    return plan_job(job, PAIR_BYTES * n_pairs, reducer)


def _on_axes(means: Pairs, pairs: _Pairs, n_vars: int) -> tuple[csr_matrix, csr_matrix]:
    """Spread pairs of chosen genes and partners over genes × genes: means, counts."""
    from scipy.sparse import csr_matrix

    n_in_row = np.zeros(n_vars + 1, np.int64)
    n_in_row[pairs.chosen + 1] = np.bincount(means.row, minlength=pairs.chosen.size)
    indptr = np.cumsum(n_in_row)
    wide = np.int64 if indptr[-1] > np.iinfo(np.int32).max else np.int32
    # Chosen genes and columns are in the order of the axis, so the pairs are in CSR's order.
    parts = (pairs.columns[means.column].astype(wide), indptr.astype(wide))
    shape = (n_vars, n_vars)
    # Each has its places for itself: who drops small values of one changes them where they lie.
    mean, n = (
        csr_matrix((means.mean, *parts), shape),
        csr_matrix((means.n, *parts), shape, copy=True),
    )
    return mean, n


def _report(
    adata: AnnData,
    keys: AttentionKeys,
    found: _Found,
    counts: Counts,
    chosen: np.ndarray,
    spec: ModelSpec,
    seconds: float,
) -> None:
    logger.info(
        "added %r (varp, %s pairs of %s genes%s) with %s in %.1f s",
        keys.record,
        f"{sum(pairs.row.size for pairs in found.pairs):,}",
        f"{chosen.size:,}",
        "" if keys.groupby is None else f", in {len(found.pairs)} groups",
        spec.name,
        seconds,
    )
    tell_left_out(adata, counts, found.n_not_finite, spec.name)
    read = np.unique(np.concatenate([pairs.row for pairs in found.pairs]))
    unread = np.setdiff1d(np.arange(chosen.size), read)
    if unread.size:
        names = adata.var_names[chosen[unread]]
        warn(
            f"{share(unread.size, chosen.size)} chosen genes are read in no cell and have no "
            f"attention ({first_names(names)})."
        )
