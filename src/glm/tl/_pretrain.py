from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .._messages import first_names
from .._settings import logger
from ..cells import Counts, check_counts, check_target
from ..models.bundle import Model, load
from ..models.reads import gene_vocabulary
from ..models.registry import ModelSpec, get
from ._cell_sentences import Cells, cell_sentences
from ._parts import read_groups
from ._trained import (
    RUN,
    advising,
    check_out,
    choose_recipe,
    log_interval,
    long_enough,
    save_trained,
    tell_too_short,
)

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from ..train import LoRA, Recipe


def pretrain(
    adata: AnnData | MuData,
    model: str | Path | Model = "geneformer-v2-104m",
    *,
    out: str | Path,
    init: Literal["pretrained", "random"] = "pretrained",
    shape: Mapping[str, Any] | None = None,
    held_out: float = 0.05,
    split_by: str | None = None,
    mask_share: float = 0.15,
    recipe: Recipe | None = None,
    epochs: int | None = None,
    learning_rate: float | None = None,
    tokens_per_batch: int | None = None,
    seed: int | None = None,
    lora: LoRA | None = None,
    frozen_layers: int = 0,
    patience: int | None = None,
    mod: str | None = None,
    layer: str | None = None,
    use_raw: bool = False,
    gene_ids: str | None = None,
    log_normalized: bool = False,
    **trainer_options: Any,
) -> Model:
    """Train a model on cells, without labels: it learns to name hidden genes.

    Go on from a pretrained model, so that it knows your tissue before :func:`glm.tl.finetune`; or
    begin with random weights. A share of the genes of each cell is hidden, and the model names them
    from the others :cite:p:`theodoris2023`.

    The same call again goes on where it was stopped (Ctrl-C, SIGTERM, a crash, ``kill -9``).
    :func:`glm.pl.training` draws the log, also while it runs. All sentences are kept in memory, two
    bytes a token, or in a passing file in ``out`` if they are larger than two gigabytes.

    Parameters
    ----------
    adata
        Cells × genes, raw counts, as for :func:`glm.tl.rank_encode`; or a MuData, with ``mod``.
    model
        A name of :func:`glm.models.list`, the path of a folder, or a loaded model. It is not
        changed.
    out
        Folder of the new bundle, which is then ``model="<out>"`` everywhere. Checkpoints and log
        are in its folder ``run``.
    init
        ``"pretrained"`` goes on from the model's weights; ``"random"`` takes only its shape and
        vocabulary (the weights need not be here).
    shape
        With ``init="random"``: other sizes than the model's, such as
        ``{"n_layers": 4, "hidden_size": 256, "n_heads": 4, "intermediate_size": 512}``
        (:class:`glm.models.BertConfig`).
    held_out
        Share of the cells that are not trained on, to measure by; 0 for none. The weights of the
        epoch that is best on them are the result.
    split_by
        Column of ``obs``, a donor or a batch: its groups are kept whole when cells are held out.
    mask_share
        Share of the genes that are hidden: of these 80% are shown as the mask, 10% as another gene,
        10% as they are.
    recipe
        Optimiser, schedule and batches; ``None`` is the authors' own (:func:`glm.train.recipe`),
        with a warm-up of a tenth of the run where theirs would be longer.
    epochs, learning_rate, tokens_per_batch, seed
        In place of what the recipe says.
    lora
        Train low-rank additions to the weights only, merged when saved (:class:`glm.train.LoRA`).
    frozen_layers
        The embeddings and so many layers above them stay as they are.
    patience
        End after so many epochs without a better one.
    mod, layer, use_raw, gene_ids, log_normalized
        Where the counts and the Ensembl ids are, as for :func:`glm.tl.embed`.
    **trainer_options
        As for :func:`glm.train.fit`: ``devices=``, ``strategy=``, ``precision=``, ``workers=``, ...

    Returns
    -------
    The trained model, as loaded from ``out``. Nothing is written into ``adata``.

    Raises
    ------
    OSError
        If the model's files are not here and cannot be fetched.
    ValueError, KeyError, TypeError
        As for :func:`glm.tl.rank_encode`; if ``out`` holds something else, or a run of other cells
        or another configuration; if a ``split_by`` is missing for some cells.
    RuntimeError
        If a loss is not a number; what was kept before stays.

    Examples
    --------
    >>> import glm, tempfile
    >>> adata = glm.datasets.toy_cells(n_cells=20)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model = glm.tl.pretrain(
    ...         adata, "geneformer-tiny", out=f"{folder}/mine", epochs=1, learning_rate=1e-4
    ...     )
    >>> model.spec.name
    'mine'
    """
    _, adata = check_target(adata, mod=mod)
    spec = model.spec if isinstance(model, Model) else get(model)
    if init not in ("pretrained", "random"):
        raise ValueError(f"init is {init!r}; expected 'pretrained' or 'random'.")
    new_shape = _check_shape(spec, init, shape)
    if not 0 <= held_out < 1:
        raise ValueError(f"held_out is {held_out}; expected a share from 0 to below 1.")
    folder = check_out(out)
    groups = read_groups(adata, split_by)
    vocabulary = gene_vocabulary(model if isinstance(model, Model) else spec)
    counts = check_counts(
        adata,
        vocabulary,
        model=spec.name,
        layer=layer,
        use_raw=use_raw,
        gene_ids=gene_ids,
        log_normalized=log_normalized,
    )
    chosen = choose_recipe(
        spec.system,
        "pretrain",
        recipe,
        **_size(counts),
        epochs=epochs,
        learning_rate=learning_rate,
        tokens_per_batch=tokens_per_batch,
        seed=seed,
    )
    usable = long_enough(counts, chosen.min_tokens)
    part = _hold_out(usable, held_out, groups, chosen.seed)
    if init == "pretrained":
        start = load(model)
    else:
        start = _random(dataclasses.replace(spec, shape=new_shape), vocabulary, chosen.seed)
    options = {
        "adapt": lora,
        "frozen_layers": frozen_layers,
        "patience": patience,
        "log_every_n_steps": log_interval(chosen, **_size(counts)),
        **trainer_options,
    }
    train, test = cell_sentences(counts, part, 2, folder=folder / RUN)
    trained = _train(start, train, test, chosen, folder / RUN, mask_share, options)
    card = {
        "function": "glm.tl.pretrain",
        "init": init,
        "recipe": dataclasses.asdict(chosen),
        "mask_share": mask_share,
        "n_cells": len(train.rows),
        "n_cells_held_out": len(test.rows),
        "split_by": split_by or "none",
        "metrics": trained.card["metrics"],
    }
    saved = save_trained(trained, start, folder, card)
    tell_too_short(adata, usable, chosen.min_tokens, spec.name)
    return saved


def _train(
    start: Model,
    train: Cells,
    test: Cells,
    chosen: Recipe,
    folder: Path,
    mask_share: float,
    options: dict[str, Any],
) -> Model:
    from ..train import MaskedTokens, fit

    with advising(folder):
        fitted = fit(
            start,
            MaskedTokens(start.vocabulary, share=mask_share),
            train.sentences,
            recipe=chosen,
            folder=folder,
            held_out=test.sentences if len(test.rows) else None,
            **options,
        )
    if fitted.best_epoch is not None:
        loss = fitted.model.card["metrics"]["held_out_loss"]
        logger.info("held-out loss %.4g in epoch %s", loss, fitted.best_epoch + 1)
    return fitted.model


def _size(counts: Counts) -> dict[str, int]:
    n_genes = np.minimum(counts.measures.n_genes_known, counts.vocabulary.n_genes_read)
    return {"n_sentences": counts.n_cells, "n_tokens": int(n_genes.sum(dtype=np.int64))}


def _check_shape(spec: ModelSpec, init: str, shape: Mapping[str, Any] | None) -> Any:
    if not shape:
        return spec.shape
    if init != "random":
        raise ValueError("shape= is for init='random': a pretrained model has its own shape.")
    known = {field.name for field in dataclasses.fields(spec.shape)}
    fixed = {"vocab_size", "n_positions", "pad_token"}
    if wrong := sorted(set(shape) - (known - fixed)):
        raise ValueError(
            f"shape has {first_names(wrong)}, which cannot be set; expected any of "
            f"{', '.join(sorted(known - fixed))}. Vocabulary and context are the model's."
        )
    return dataclasses.replace(spec.shape, **shape)


def _random(spec: ModelSpec, vocabulary: Any, seed: int) -> Model:
    import torch

    from ..models.bert import MaskedLM

    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        network = MaskedLM(spec.shape)
    spec = dataclasses.replace(spec, head="tokens", labels=())
    return Model(spec, vocabulary, network.eval())


def _hold_out(
    usable: np.ndarray, held_out: float, groups: np.ndarray | None, seed: int
) -> np.ndarray:
    """One a cell: 0 to train on, 1 held out, -1 neither."""
    from ..train.split import assign

    part = np.full(usable.size, -1, np.int64)
    rows = np.flatnonzero(usable)
    if not rows.size:
        raise ValueError(
            "No cell has enough genes that the model knows: there is nothing to learn."
        )
    part[rows] = 0
    if held_out > 0:
        of_rows = None if groups is None else groups[rows]
        part[rows] = assign(rows.size, (1 - held_out, held_out), groups=of_rows, seed=seed)
    if not (part == 0).any():
        raise ValueError(f"held_out={held_out} leaves no cell to train on.")
    return part
