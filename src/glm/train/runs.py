"""What a folder of checkpoints is a run of, and what was logged in it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch

from .._atomic import replacing
from ..models.bundle import Model
from ..models.track_model import TrackModel
from .data import TrainingData
from .objectives import Objective
from .recipes import Recipe
from .sentences import Sentences

_NOTE = "run.json"


def check(
    model: Model,
    objective: Objective,
    chosen: Recipe,
    data: Sentences,
    held_out: Sentences | None,
) -> None:
    """Raise ``ValueError`` where a run could not be made, before anything is written."""
    _check_sentences(model, chosen, data, "data")
    objective.check(data)
    if held_out is not None:
        _check_sentences(model, chosen, held_out, "held_out")
        objective.check(held_out)


def _check_sentences(model: Model, chosen: Recipe, sentences: Sentences, name: str) -> None:
    shape, least = model.spec.shape, chosen.min_tokens + model.vocabulary.n_special
    lengths = sentences.lengths
    if not len(sentences):
        raise ValueError(f"{name} has no sentence: there is nothing to learn from or measure on.")
    if lengths.min() < least:
        raise ValueError(
            f"{int((lengths < least).sum()):,} of {len(sentences):,} sentences of {name} have "
            f"fewer than {chosen.min_tokens} tokens, special ones not counted: leave them out."
        )
    if lengths.max() > shape.n_positions or sentences.tokens.max() >= shape.vocab_size:
        raise ValueError(
            f"The longest sentence of {name} has {lengths.max():,} tokens and the largest token "
            f"is {sentences.tokens.max():,}; {model.spec.name} reads {shape.n_positions:,} tokens "
            f"of a vocabulary of {shape.vocab_size:,}."
        )


def facts_of(
    model: Model,
    objective: Objective,
    chosen: Recipe,
    training: TrainingData,
) -> dict[str, Any]:
    """Everything that the numbers of a run depend on."""
    held_out = training.held_out
    return {
        "recipe": chosen,
        "objective": objective,
        "shape": model.spec.shape,
        "vocabulary": model.vocabulary.sha256,
        "weights": weights_hash(model),
        "data": training.train.fingerprint,
        "held_out": None if held_out is None else held_out.fingerprint,
    }


def trainer_facts(trainer: pl.Trainer) -> dict[str, Any]:
    """What of a trainer the numbers of a run depend on."""
    return {
        "processes": trainer.world_size,
        "accumulate_grad_batches": trainer.accumulate_grad_batches,
        "precision": str(trainer.precision),
        "gradient_clip_val": trainer.gradient_clip_val,
        "gradient_clip_algorithm": trainer.gradient_clip_algorithm,
        "max_epochs": trainer.max_epochs,
        "max_steps": trainer.max_steps,
        "limit_train_batches": trainer.limit_train_batches,
        "limit_val_batches": trainer.limit_val_batches,
        "val_check_interval": trainer.val_check_interval,
        "check_val_every_n_epoch": trainer.check_val_every_n_epoch,
    }


def weights_hash(model: Model | TrackModel) -> str:
    """The hash of the weights; of a model that no file holds (drawn, just trained) it is made."""
    if model.weights_sha256 != "unsaved":
        return model.weights_sha256
    digest = hashlib.sha256()
    for name, tensor in model.network.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def plain(value: Any) -> Any:
    """A value as JSON can hold it; of arrays the hash, of a class its name and fields."""
    if isinstance(value, np.ndarray):
        digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return f"{value.dtype}{list(value.shape)} {digest[:16]}"
    if hasattr(value, "sha256"):  # a vocabulary
        return str(value.sha256)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"is": type(value).__name__, **fields}
    if isinstance(value, dict):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, str | int | float | bool | None):
        return value
    if isinstance(value, type) or not hasattr(value, "__dict__"):
        return str(value)
    return {"is": type(value).__name__, **plain(vars(value))}


def hold_to(folder: Path, facts: dict[str, Any], *, write: bool) -> None:
    """Refuse a folder that holds a run of other facts; note down what run it is.

    Raises
    ------
    ValueError
        If it does, with what differs.
    """
    note = folder / _NOTE
    now = {name: plain(value) for name, value in facts.items()}
    if note.is_file():
        before = json.loads(note.read_text(encoding="utf-8"))
        differing = [text for name in now for text in _differing(name, before.get(name), now[name])]
        if differing:
            raise ValueError(
                f"{folder} holds a run with another {'; another '.join(differing)}. Give another "
                "folder, or remove that one to start again."
            )
    if write:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(note) as beside:
            beside.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")


def _differing(name: str, before: Any, now: Any) -> list[str]:
    """``name (it has a, this call b)``, or of dictionaries those entries that differ."""
    if before == now:
        return []
    if isinstance(before, dict) and isinstance(now, dict):
        return [
            text
            for key in sorted(before.keys() | now.keys())
            for text in _differing(f"{name}.{key}", before.get(key), now.get(key))
        ]
    return [f"{name} ({_short(before)} there, {_short(now)} here)"]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def measured_last(history: pd.DataFrame, epoch: int) -> dict[str, float]:
    """What was measured on held-out sentences by the end of an epoch."""
    names = [name for name in history.columns if name.startswith("held_out_")]
    measured = history[history["epoch"] <= epoch].dropna(subset=names, how="all")
    if not names or not len(measured):
        return {}
    return {str(name): float(measured[name].iloc[-1]) for name in names}
