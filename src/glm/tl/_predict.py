from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from .. import slots
from .._keys import PredictionKeys
from .._messages import first_names, share, warn
from .._settings import logger
from ..cells import Counts, check_counts, check_target
from ..models.bundle import Model, load
from ..models.reads import gene_vocabulary
from ..models.registry import ModelSpec, get
from ._cell_sentences import apply_head
from ._cell_source import CellSource
from ._gene_axis import check_same_genes
from ._gene_embeddings import Reading, average_genes, result_bytes, timed_reducer
from ._groups import Groups
from ._job import check_out, choose_plan, embed_rows, plan_job
from ._job_kinds import Job
from ._prediction_slots import Predictions

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from ..engine import Plan, RunPlan
    from ..models.heads import Classifier
    from ._targets import Axis, Kind


_AMOUNTS = ("regression", "counts", "counts_log")


def predict(
    adata: AnnData | MuData,
    model: str | Path | Model,
    *,
    target: str | None = None,
    mod: str | None = None,
    layer: str | None = None,
    use_raw: bool = False,
    gene_ids: str | None = None,
    log_normalized: bool = False,
    device: str | None = None,
    precision: Literal["float32", "bfloat16"] = "float32",
    token_budget: int | None = None,
    out: str | Path | None = None,
    devices: int | list[int] | str | None = None,
    strategy: str = "auto",
    key_added: str | None = None,
    overwrite: bool = False,
    copy: bool = False,
    dry_run: bool = False,
) -> AnnData | MuData | RunPlan | None:
    """Label cells, or genes, with a model that :func:`glm.tl.finetune` made.

    A cell is read at position 0 of its sentence. What is said of a gene is the mean over the cells
    that read it, so pass cells in which it is at home. Costs what :func:`glm.tl.embed` costs.

    The bundle's classes go by name, in its own order, whatever this object's categories are. A
    model knows no others: a cell of a class it never saw gets one of those it knows, often with
    less confidence, but not always.

    Parameters
    ----------
    adata
        Cells × genes, raw counts, as for :func:`glm.tl.rank_encode`; or a MuData, with ``mod``.
    model
        The folder of a bundle, or a loaded model; also a classifier that other tools fine-tuned, in
        the published layout.
    target
        Name of what is predicted, in the slots; ``None`` is the column it was trained on
        (``"class"`` where that is not known).
    mod, layer, use_raw, gene_ids, log_normalized
        Where the counts and the Ensembl ids are, as for :func:`glm.tl.embed`.
    device, token_budget, out, devices, strategy
        As for :func:`glm.tl.embed`: ``out`` is a folder from which a long run goes on.
    precision
        ``"float32"``, on a GPU too, or ``"bfloat16"`` for the matrix products.
    key_added
        Name in the slots; by default the system's name, ``"geneformer"``.
    overwrite
        Replace what another model or the user put into the slots. Models are told apart by name
        here, so a bundle that was trained again in its folder replaces its own predictions.
    copy
        Return a copy instead of writing into ``adata``.
    dry_run
        Check everything, time a few batches, write nothing, and return the plan.

    Returns
    -------
    ``None``; the copy; or the plan. Sets, where ``<label>`` is ``<target>_<key>`` (of genes ``var``
    and ``varm`` in place of ``obs`` and ``obsm``):

    ``adata.obs["<label>"]``
        category, all classes of the bundle, missing where a cell could not be read; float32 for
        amounts. For a bundle of labels ``adata.obsm["<label>"]``, bool, rows × labels.
    ``adata.obs["<label>_confidence"]``
        float32. Probability of that class, calibrated when the bundle was made.
    ``adata.obsm["<label>_probability"]``
        float32, rows × classes or labels, in the order of ``uns["<label>"]["labels"]``; NaN where a
        cell could not be read.
    ``adata.obs["<label>_ok"]``
        bool. Whether there is a prediction.
    ``adata.uns["<label>"]``
        The record: model, hashes, tier, labels, precision, counts of unusable and truncated cells.

    Raises
    ------
    OSError
        If the model's files are not here.
    ValueError, KeyError, TypeError
        As for :func:`glm.tl.rank_encode`; if the model was not fine-tuned; if ``out`` holds
        something else or another run.
    RuntimeError
        If memory does not hold a single sentence.

    Examples
    --------
    >>> import glm, tempfile
    >>> adata = glm.datasets.toy_cells(n_cells=40)
    >>> adata.obs["kind"] = ["a", "b"] * 20
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model = glm.tl.finetune(
    ...         adata, "geneformer-tiny", target="kind", out=f"{folder}/mine", epochs=1
    ...     )
    >>> glm.tl.predict(adata, model)
    >>> list(adata.obs["kind_geneformer"].cat.categories)
    ['a', 'b']
    """
    data, adata = check_target(adata, mod=mod, copy=copy and not dry_run)
    axis = _check_head(model.spec if isinstance(model, Model) else get(model))
    loaded = load(model)
    spec, vocabulary = loaded.spec, gene_vocabulary(loaded)
    name = target or str(loaded.card.get("target", "class"))
    folder = check_out(out, adata)
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
    n_layers = spec.shape.n_layers
    if axis == "var":
        check_same_genes(adata, use_raw)
    if dry_run:
        return _plan(counts, loaded, plan, n_layers, axis)
    keys = PredictionKeys(name, key_added or spec.system)
    kind, by_log = _kind(spec)
    empty = Predictions(axis, kind, (), np.empty((0, 0), np.float32))
    written = Predictions.slots_of(empty, keys)
    slots.check_free(adata, written, keys.record, model=spec.name, overwrite=overwrite)
    started = time.perf_counter()
    reading = Reading(loaded, spec, "cls", "last", n_layers, plan, folder, devices, strategy)
    compute = cell_outputs if axis == "obs" else gene_outputs
    outputs = compute(counts, loaded, reading)
    labels = spec.labels or tuple(str(i) for i in range(outputs.shape[1]))
    found = Predictions(axis, kind, labels, outputs, by_log)
    n_ranked = counts.measures.n_genes_known
    record = slots.make_record(
        function="glm.tl.predict",
        target=name,
        axis=axis,
        kind=kind,
        labels=list(labels),
        model=spec.name,
        tier=spec.tier,
        weights_sha256=loaded.weights_sha256,
        vocabulary=vocabulary.name,
        vocabulary_sha256=vocabulary.sha256,
        precision=plan.precision,
        device=plan.device.type,
        token_budget=plan.budget,
        context=vocabulary.context,
        n_cells=counts.n_cells,
        n_not_predicted=int((~found.ok).sum()),
        n_cells_truncated=int((n_ranked > vocabulary.n_genes_read).sum()),
        out=folder,
        note=spec.note,
        **counts.facts,
    )
    with slots.keeping(outputs, folder):
        slots.write(adata, found.values(keys), keys.record, record)
    _report(adata, counts, found, keys, spec, time.perf_counter() - started)
    return data if copy else None


def cell_outputs(counts: Counts, model: Model, reading: Reading) -> np.ndarray:
    """float32, cells × outputs of the model's head; NaN where a cell has no sentence."""
    facts = {"function": "glm.tl.predict"}
    job = Job(CellSource(counts), model, reading.plan, reading.n_layers_run, True, facts, "predict")
    vectors = embed_rows(
        job, "cls", out=reading.out, devices=reading.devices, strategy=reading.strategy
    )
    return apply_head(cast("Classifier", model.network), vectors, reading.plan.device)


def gene_outputs(counts: Counts, model: Model, reading: Reading) -> np.ndarray:
    """float32, columns × outputs, the mean over the cells that read the gene; NaN where none does.

    The head of genes is linear, so it is applied to the mean of the hidden states.
    """
    found = average_genes(counts, model, _all_cells(counts), reading)
    network = cast("Classifier", model.network)
    outputs = apply_head(network, found.vectors[0], reading.plan.device)
    whole = np.full((counts.matrix.shape[1], outputs.shape[1]), np.nan, np.float32)
    whole[found.columns] = outputs
    return whole


def _plan(counts: Counts, model: Model, plan: Plan, n_layers: int, axis: Axis) -> RunPlan:
    of, width = "cells" if axis == "obs" else "genes", model.spec.shape.hidden_size
    job = Job(CellSource(counts), model, plan, n_layers, axis == "obs")
    reducer = timed_reducer(counts, of, "cls", width, plan.device)
    return plan_job(job, result_bytes(counts, _all_cells(counts), of, width), reducer)


def _all_cells(counts: Counts) -> Groups:
    return Groups(None, (None,), np.zeros(counts.n_cells, np.int32))


def _check_head(spec: ModelSpec) -> Axis:
    if spec.head not in ("cells", "genes"):
        raise ValueError(
            f"{spec.name} has no classes to predict (its head is {spec.head!r}): teach it some "
            "with glm.tl.finetune, or pass the folder of a model that was fine-tuned."
        )
    if spec.task in _AMOUNTS and len(spec.labels) > 1:
        raise ValueError(
            f"{spec.name} predicts {len(spec.labels)} amounts ({first_names(spec.labels)}), and a "
            "column holds one: train a model for each."
        )
    return "obs" if spec.head == "cells" else "var"


def _kind(spec: ModelSpec) -> tuple[Kind, bool]:
    """What the outputs are, and whether of counts they are the logarithm."""
    if spec.task == "counts_log":
        return "counts", True
    return spec.task or "classes", False


def _report(
    adata: AnnData,
    counts: Counts,
    found: Predictions,
    keys: PredictionKeys,
    spec: ModelSpec,
    seconds: float,
) -> None:
    what = "cells" if found.axis == "obs" else "genes"
    logger.info(
        "added %r (%s, %s %s) with %s in %.1f s",
        keys.label,
        found.axis,
        f"{int(found.ok.sum()):,}",
        what,
        spec.name,
        seconds,
    )
    if found.ok.all() or found.axis == "var":
        return  # of genes, most are read in no cell or unknown to the model
    bad = adata.obs_names[~found.ok]
    empty = int((counts.measures.n_genes_known == 0).sum())
    why = f"{empty:,} have no count on a gene of {spec.name}"
    if empty < len(bad):
        why += f", {len(bad) - empty:,} came out of the model not finite"
    warn(
        f"{share(len(bad), adata.n_obs)} cells could not be labelled and are missing "
        f"({first_names(bad)}): {why}. Leave them out with adata[adata.obs[{keys.ok!r}]]."
    )
