"""The Lightning trainer of a run, and how many steps it will make."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.plugins.environments import TorchElasticEnvironment
from pytorch_lightning.strategies import FSDPStrategy

from .._messages import warn
from .._run_log import LOG
from .checkpoints import AtomicCheckpoints
from .guard import shows_progress
from .recipes import Recipe

# Batches are cut, shared out and kept by this package; another way would lose sentences.
_OURS = ("use_distributed_sampler", "reload_dataloaders_every_n_epochs", "enable_checkpointing")


def make_trainer(
    folder: Path, chosen: Recipe, callbacks: list[pl.Callback], options: dict[str, Any]
) -> pl.Trainer:
    """Make the trainer for a recipe; ``options`` go before the recipe.

    Raises
    ------
    ValueError
        If the options say what is not for them to say, or ask for a device that is not there.
    RuntimeError
        If processes would have to be forked from one that has used CUDA.
    """
    if taken := [name for name in _OURS if name in options]:
        raise ValueError(f"{' and '.join(taken)} cannot be passed on: training sets it itself.")
    defaults = {
        "max_epochs": -1 if chosen.max_epochs is None else chosen.max_epochs,
        "max_steps": chosen.max_steps or -1,
        "precision": chosen.precision,
        "gradient_clip_val": chosen.gradient_clip or None,
        "accelerator": _accelerator(options),
        "devices": 1,
        "default_root_dir": folder,
        "enable_progress_bar": shows_progress(),
        "enable_model_summary": False,
        "log_every_n_steps": 10,
        "num_sanity_val_steps": 0,
    }
    ours = {
        "callbacks": [*_listed(options.get("callbacks")), *callbacks],
        "plugins": [*_listed(options.get("plugins")), AtomicCheckpoints()],
        "logger": _loggers(folder, options.get("logger", True)),
        "use_distributed_sampler": False,
        "reload_dataloaders_every_n_epochs": 1,  # each epoch has its own batches
    }
    _refuse_sharding_on_cpu(options)
    try:
        trainer = pl.Trainer(**{**defaults, **options, **ours})
    except (MisconfigurationException, TypeError) as error:
        raise ValueError(f"There can be no such trainer: {error}") from error
    _check_launch(trainer)
    if "accumulate_grad_batches" not in options:
        accumulated = round(chosen.batches_per_step / trainer.world_size)
        trainer.accumulate_grad_batches = max(1, accumulated)
    return trainer


def _refuse_sharding_on_cpu(options: dict[str, Any]) -> None:
    """Sharded weights (FSDP) need a GPU: both Lightning and torch refuse a CPU."""
    strategy = options.get("strategy")
    sharded = isinstance(strategy, FSDPStrategy) or str(strategy).startswith("fsdp")
    on_cpu = options.get("accelerator", "auto") == "cpu" or not torch.cuda.is_available()
    if sharded and on_cpu:
        raise ValueError(
            "strategy='fsdp' cuts the weights into shards on CUDA GPUs, and none is to be used "
            "here: torch cannot do so on a CPU. Pass strategy='ddp', which gives the same steps."
        )


def _check_launch(trainer: pl.Trainer) -> None:
    """Refuse processes that would not train together, or could not train at all."""
    elastic = TorchElasticEnvironment
    if trainer.world_size == 1 and elastic.detect() and (n := elastic().world_size()) > 1:
        raise ValueError(
            f"torchrun started {n} processes, and each would train by itself, in the same folder: "
            "pass devices= (processes of a machine) and num_nodes= (machines) as torchrun has "
            "them."
        )
    # Processes forked from one that has used CUDA cannot use it: say so before they try.
    method = getattr(trainer.strategy.launcher, "_start_method", "")
    on_cuda = trainer.strategy.root_device.type == "cuda"
    if method in ("fork", "forkserver") and on_cuda and torch.cuda.is_initialized():
        raise RuntimeError(
            "This notebook has used CUDA already, so that processes started from it cannot. "
            "Restart its kernel and train first, or leave devices and strategy out."
        )


def total_steps(trainer: pl.Trainer, n_batches: int) -> int:
    """Steps of a run whose epochs have ``n_batches`` over all devices."""
    each = -(-n_batches // trainer.world_size)
    limit = trainer.limit_train_batches
    each = min(each, limit) if isinstance(limit, int) else int(each * limit)
    total = math.inf if trainer.max_steps < 0 else trainer.max_steps
    if trainer.max_epochs is not None and trainer.max_epochs >= 0:
        total = min(total, -(-each // trainer.accumulate_grad_batches) * trainer.max_epochs)
    if total == math.inf:
        raise ValueError(
            "The recipe says neither max_epochs nor max_steps: training would not end."
        )
    return int(total)


def _accelerator(options: dict[str, Any]) -> str:
    """What Lightning finds; but Apple's GPU, where nothing here was tested, only if asked for."""
    if "accelerator" not in options and torch.backends.mps.is_available():
        warn(
            "Training runs on the CPU: Apple's GPU (MPS) is only used if you pass "
            "accelerator='mps', since glm is not tested on it."
        )
        return "cpu"
    return "auto"


def _listed(given: Any) -> list[Any]:
    if given is None:
        return []
    return list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [given]


def _loggers(folder: Path, given: Any) -> Any:
    """A table in the folder, and what else is asked for; a resumed run gets a file of its own."""
    if given is False:
        return False
    table = CSVLogger(folder, name=LOG, flush_logs_every_n_steps=1)  # also where a run is killed
    return [table, *([] if given is True else _listed(given))]
