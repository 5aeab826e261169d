"""Train a model that predicts tracks: from nothing, or from the trunk of another."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import pytorch_lightning as pl
import torch

from .._messages import warn
from .._run_log import read_history
from .._settings import logger
from ..models.any_model import get_track_spec
from ..models.enformer import Enformer
from ..models.enformer_config import EnformerConfig
from ..models.track_model import TrackModel, TrackSpec, load_track_model
from .fitting import Fitted
from .objectives.tracks import TrackCorrelation, TrackPoisson
from .recipes import Recipe
from .recipes import recipe as authors_recipe
from .running import Prepared, Saving, outcome, train_in
from .runs import measured_last, plain, weights_hash
from .track_data import TrackData
from .track_splits import refuse_shared
from .windows import TrackWindows

Given = TrackWindows | Sequence[TrackWindows] | None


def fit_tracks(
    model: EnformerConfig | TrackModel | str | Path,
    windows: TrackWindows | Sequence[TrackWindows],
    *,
    folder: Path | str,
    held_out: TrackWindows | Sequence[TrackWindows] | None = None,
    recipe: Recipe | None = None,
    objective: TrackPoisson | None = None,
    name: str | None = None,
    frozen_trunk: bool = False,
    checkpoint_activations: bool = False,
    patience: int | None = None,
    keep: Literal["best", "last"] = "best",
    save_every_steps: int | None = None,
    save_every_minutes: float | None = 10,
    workers: int = 0,
    **trainer_options: Any,
) -> Fitted[TrackModel]:
    """Train an Enformer on tracks; called again with the same ``folder``, go on where it was.

    Each batch is of one organism, and steps of one follow steps of another; an epoch is one pass
    over the organism with most windows, and those with fewer start again within it. A step's
    gradient is that of the mean over its windows, whatever the number of devices or of batches
    accumulated; the norms of the network see the windows of one batch on one device (one window is
    enough, it has thousands of positions). Order, moves, strands and dropout depend on seed, epoch
    and batch alone, so that a run which was stopped anywhere and goes on is, on one device, the
    uninterrupted one bit for bit.

    Parameters
    ----------
    model
        The shape of a network to begin with random weights (its ``heads`` and ``crop`` are set by
        the windows); or a model, by name, folder or loaded, whose trunk is trained on. It is not
        changed. A head of it is kept if windows of its name have the same tracks, by identifier;
        else a new one is drawn.
    windows
        What to train on: one :class:`glm.train.TrackWindows` for each organism (head), with windows
        and bins as long.
    folder
        Where checkpoints and the log (CSV) are kept.
    held_out
        Windows on which the loss and the correlation of each track are measured after every epoch:
        ``held_out_pearson`` in the log, the mean over tracks, and that of each assay and head.
    recipe
        Optimiser, schedule, size of batches; ``None`` takes the authors' own, which is made for
        tens of thousands of windows (:func:`glm.train.recipe`).
    objective
        How windows are moved and turned, and what tells the best epoch; ``None`` is
        :class:`glm.train.TrackPoisson` as it is.
    name
        What the result is called; ``None`` takes the model's name, or ``"tracks"``.
    frozen_trunk
        Train the heads alone; the trunk stays as it is, statistics of its norms included, and so
        do heads without windows. Otherwise these are left out: their trunk is no more.
    checkpoint_activations
        Compute activations of the transformer twice instead of keeping them: less memory, about a
        third more time.
    patience, keep, save_every_steps, save_every_minutes, workers
        As for :func:`glm.train.fit`.
    **trainer_options
        Anything that ``pytorch_lightning.Trainer`` takes: ``max_time=``, ``devices=``,
        ``precision=``, ``accumulate_grad_batches=``, ``sync_batchnorm=``, ...

    Returns
    -------
    The trained model (``fitted.model.save(folder)`` makes a bundle of it), its history and the best
    epoch. Random states, threads, torch's settings and logging are left as they were.

    Raises
    ------
    ValueError
        If windows do not fit each other, the recipe or the model; if held-out windows predict bases
        that are trained on; if the folder holds a run of other data or another configuration.
    RuntimeError
        If a loss, gradient or score is not a number (the step is not made, and what was kept
        stays), a batch cannot be made, or another process fails.
    KeyboardInterrupt, SystemExit
        On Ctrl-C and SIGTERM, after the step that was under way and a checkpoint.

    Examples
    --------
    >>> import glm, numpy as np, pandas as pd, tempfile
    >>> rng = np.random.default_rng(0)
    >>> windows = glm.train.TrackWindows(
    ...     rng.integers(0, 4, (4, 2_048), dtype=np.uint8),
    ...     rng.random((4, 8, 2), dtype=np.float32),
    ...     pd.DataFrame({"identifier": ["a", "b"]}),
    ... )
    >>> shape = glm.models.EnformerConfig(channels=24, depth=1, n_heads=2, channel_step=4)
    >>> recipe = glm.train.Recipe(1e-3, warmup=0, max_epochs=1, rows_per_batch=2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     fitted = glm.train.fit_tracks(shape, windows, folder=folder, recipe=recipe)
    >>> fitted.model.spec.output_bp
    1024
    """
    chosen = recipe or authors_recipe("enformer")
    objective = objective or TrackPoisson()
    saving = Saving(patience, save_every_steps, save_every_minutes)
    train, measured = by_head(windows, "windows"), by_head(held_out, "held_out")
    saving.check(keep, held_out=bool(measured))
    _check(train, measured, chosen)
    if objective.choose_by == "pearson" and measured:
        _refuse_flat(measured)
    start = None if isinstance(model, EnformerConfig) else _loaded(model)
    shape = model if isinstance(model, EnformerConfig) else cast(TrackModel, start).spec.shape
    if start is None and frozen_trunk:
        raise ValueError("frozen_trunk keeps a trunk that was trained: pass a model, not a shape.")
    config = _config(shape, train, frozen_trunk)
    data = TrackData(train, objective, chosen, held_out=measured, workers=workers)

    def prepare(trainer: pl.Trainer) -> Prepared:
        network = _network(config, start, train)
        network.recompute = checkpoint_activations
        facts = {
            "recipe": chosen,
            "objective": objective,
            "shape": config,
            "weights": "drawn" if start is None else weights_hash(start),
            "data": {head: some.fingerprint for head, some in train.items()},
            "held_out": {head: some.fingerprint for head, some in measured.items()},
            "frozen_trunk": frozen_trunk,
        }
        return Prepared(network, facts, _frozen(network, train, frozen_trunk))

    folder = Path(folder)
    made = train_in(
        folder,
        chosen,
        objective,
        data,
        prepare,
        saving=saving,
        measure=TrackCorrelation({head: some.table for head, some in measured.items()}),
        options=_finding_unused(trainer_options, config),
    )
    told = {key: plain(made.facts[key]) for key in ("recipe", "objective", "frozen_trunk")}
    return _fitted(made, start, train, folder, keep, name, told)


def by_head(given: Given, what: str) -> dict[str, TrackWindows]:
    """Windows by the head that predicts them.

    Raises
    ------
    TypeError, ValueError
        If something else was given, or two of one head.
    """
    listed = [given] if isinstance(given, TrackWindows) else list(given or ())
    found: dict[str, TrackWindows] = {}
    for some in listed:
        if not isinstance(some, TrackWindows):
            raise TypeError(
                f"{what} holds a {type(some).__name__}; expected glm.train.TrackWindows, one for "
                "each organism."
            )
        if some.head in found:
            raise ValueError(
                f"{what} holds windows of the head {some.head!r} twice: join them, or give each "
                "organism its own head (head=)."
            )
        found[some.head] = some
    return found


def _check(
    train: Mapping[str, TrackWindows], measured: Mapping[str, TrackWindows], chosen: Recipe
) -> None:
    if not train:
        raise ValueError("windows is empty: there is nothing to learn from.")
    everything = [*train.values(), *measured.values()]
    for some in everything:
        some.check()
    shapes = {(some.window_bp, some.n_bins) for some in everything}
    if len(shapes) > 1:
        told = " and ".join(f"{bp:,} bp with {n:,} bins" for bp, n in sorted(shapes))
        raise ValueError(f"Windows differ: {told}. A model has one length of windows.")
    if chosen.tokens_per_batch is not None and chosen.rows_per_batch is None:
        raise ValueError("tokens_per_batch does not count windows: set rows_per_batch.")
    for head, some in measured.items():
        if head not in train:
            raise ValueError(f"held_out has windows of {head!r}, which is not trained.")
        ours, theirs = train[head].table["identifier"], some.table["identifier"]
        if list(ours) != list(theirs):
            raise ValueError(f"held_out has other tracks of {head!r} than windows, or in an order.")
        refuse_shared(train[head], some)


def _refuse_flat(measured: Mapping[str, TrackWindows]) -> None:
    """Without one track that varies there is no correlation to choose by."""
    if not any(some.varying.any() for some in measured.values()):
        raise ValueError(
            "No held-out track varies over windows and bins, so there is no correlation to choose "
            "the best epoch by: hold out other windows, or pass "
            "objective=glm.train.TrackPoisson(choose_by='loss')."
        )


def _loaded(model: TrackModel | str | Path) -> TrackModel:
    if isinstance(model, TrackModel):
        return model
    return load_track_model(get_track_spec(model))


def _config(
    config: EnformerConfig, train: Mapping[str, TrackWindows], frozen_trunk: bool
) -> EnformerConfig:
    """The shape of what is trained: heads and crop are those of the windows."""
    heads = {head: len(some.table) for head, some in train.items()}
    if frozen_trunk:
        heads = {**config.heads, **heads}
    crop = next(iter(train.values())).crop
    return dataclasses.replace(config, heads=heads, crop=crop)


def _network(
    config: EnformerConfig, start: TrackModel | None, train: Mapping[str, TrackWindows]
) -> Enformer:
    """Drawn at random, and of what the model has a copy."""
    network = Enformer(config)
    if start is None:
        return network
    kept = {head for head in config.heads if _same_tracks(start, head, train)}
    state = network.state_dict()
    for name, tensor in start.network.state_dict().items():
        part, _, rest = name.partition(".")
        if part != "heads" or rest.partition(".")[0] in kept:
            state[name] = tensor
    network.load_state_dict(state)
    _warn_of_other_windows(start, train)
    if new := [head for head in config.heads if head not in kept]:
        logger.info("drew new heads on %s: %s", start.spec.name, ", ".join(new))
    if gone := [head for head in start.tables if head not in config.heads]:
        logger.info("left out heads of %s without windows: %s", start.spec.name, ", ".join(gone))
    return network


def _warn_of_other_windows(start: TrackModel, train: Mapping[str, TrackWindows]) -> None:
    ours, theirs = next(iter(train.values())).window_bp, start.spec.window_bp
    if ours != theirs:
        warn(
            f"{start.spec.name} reads windows of {theirs:,} bp, the training windows have "
            f"{ours:,}: the result will read {ours:,} bp, for every head it has. Give windows of "
            f"{theirs:,} bp to keep that."
        )


def _same_tracks(start: TrackModel, head: str, train: Mapping[str, TrackWindows]) -> bool:
    if head not in start.tables or head not in train:
        return head in start.tables
    theirs, ours = start.tables[head]["identifier"], train[head].table["identifier"]
    return list(theirs) == list(ours)


def _frozen(
    network: Enformer, train: Mapping[str, TrackWindows], frozen_trunk: bool
) -> tuple[torch.nn.Module, ...]:
    """Switch off gradients of what is not trained; the parts that stay in evaluation mode."""
    if not frozen_trunk:
        return ()
    parts = tuple(part for name, part in network.named_children() if name != "heads")
    for part in (*parts, *(network.heads[head] for head in network.heads if head not in train)):
        part.requires_grad_(False)
    return parts


def _finding_unused(options: dict[str, Any], config: EnformerConfig) -> dict[str, Any]:
    """Tell processes that share a step which heads have no part in it: all but one."""
    strategy = options.get("strategy")
    if len(config.heads) < 2 or strategy not in ("ddp", "ddp_spawn", "ddp_fork", "ddp_notebook"):
        return options
    return {**options, "strategy": f"{strategy}_find_unused_parameters_true"}


def _fitted(
    made: Prepared,
    start: TrackModel | None,
    train: Mapping[str, TrackWindows],
    folder: Path,
    keep: str,
    name: str | None,
    told: dict[str, Any],
) -> Fitted[TrackModel]:
    result = outcome(folder, keep)
    network = cast(Enformer, made.network).to("cpu")
    network.load_state_dict(result.weights)
    network.recompute = False
    network = network.eval().requires_grad_(True)
    one = next(iter(train.values()))
    called = name or ("tracks" if start is None else start.spec.name)
    spec = TrackSpec(called, network.config, one.window_bp, tier="local", licence="")
    if start is not None:
        spec = dataclasses.replace(
            spec, licence=start.spec.licence, source=start.spec.source, note=start.spec.note
        )
    tables = {
        head: train[head].table if head in train else cast(TrackModel, start).tables[head]
        for head in network.config.heads
    }
    history = read_history(folder)
    card = {
        "from": "random weights" if start is None else start.spec.name,
        **told,
        "windows": {head: len(some) for head, some in train.items()},
        "genomes": {head: some.genome for head, some in train.items()},
        "metrics": measured_last(history, result.epoch),
    }
    logger.info("trained %s for %s steps", called, result.step)
    model = TrackModel(spec, network, tables, "unsaved", card)
    return Fitted(model, history, result.best_epoch, folder)
