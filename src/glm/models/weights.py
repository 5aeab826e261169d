"""Weights in and out of files: strict on the way in, atomic on the way out.

Nothing is filled at random and nothing is left out in silence: every tensor of a file is either
mapped, or dropped by a ``None`` in the table, or an error.
"""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from typing import Literal, cast, overload

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from .._atomic import replacing
from .._download import stand_in
from .bert import Bert, MaskedLM
from .config import BertConfig, Head
from .heads import Classifier

Network = Bert | MaskedLM | Classifier

#: Published name (without a leading ``bert.``) to ours in :class:`~glm.models.bert.Bert`; ``{i}``
#: is the layer, ``None`` is dropped on purpose.
BERT_KEYS: dict[str, str | None] = {
    "embeddings.word_embeddings.weight": "embeddings.token.weight",
    "embeddings.position_embeddings.weight": "embeddings.position.weight",
    "embeddings.token_type_embeddings.weight": "embeddings.token_type.weight",
    "embeddings.LayerNorm.weight": "embeddings.norm.weight",
    "embeddings.LayerNorm.bias": "embeddings.norm.bias",
    "embeddings.position_ids": None,
    "embeddings.token_type_ids": None,
    "encoder.layer.{i}.attention.self.query.weight": "layers.{i}.attention.query.weight",
    "encoder.layer.{i}.attention.self.query.bias": "layers.{i}.attention.query.bias",
    "encoder.layer.{i}.attention.self.key.weight": "layers.{i}.attention.key.weight",
    "encoder.layer.{i}.attention.self.key.bias": "layers.{i}.attention.key.bias",
    "encoder.layer.{i}.attention.self.value.weight": "layers.{i}.attention.value.weight",
    "encoder.layer.{i}.attention.self.value.bias": "layers.{i}.attention.value.bias",
    "encoder.layer.{i}.attention.output.dense.weight": "layers.{i}.attention.output.weight",
    "encoder.layer.{i}.attention.output.dense.bias": "layers.{i}.attention.output.bias",
    "encoder.layer.{i}.attention.output.LayerNorm.weight": "layers.{i}.attention_norm.weight",
    "encoder.layer.{i}.attention.output.LayerNorm.bias": "layers.{i}.attention_norm.bias",
    "encoder.layer.{i}.intermediate.dense.weight": "layers.{i}.up.weight",
    "encoder.layer.{i}.intermediate.dense.bias": "layers.{i}.up.bias",
    "encoder.layer.{i}.output.dense.weight": "layers.{i}.down.weight",
    "encoder.layer.{i}.output.dense.bias": "layers.{i}.down.bias",
    "encoder.layer.{i}.output.LayerNorm.weight": "layers.{i}.norm.weight",
    "encoder.layer.{i}.output.LayerNorm.bias": "layers.{i}.norm.bias",
}

_NO_POOLER: dict[str, str | None] = {"pooler.dense.weight": None, "pooler.dense.bias": None}
_CLASSES: dict[str, str | None] = {
    "classifier.weight": "classifier.weight",
    "classifier.bias": "classifier.bias",
}
_TOKENS: dict[str, str | None] = {
    "cls.predictions.transform.dense.weight": "head.dense.weight",
    "cls.predictions.transform.dense.bias": "head.dense.bias",
    "cls.predictions.transform.LayerNorm.weight": "head.norm.weight",
    "cls.predictions.transform.LayerNorm.bias": "head.norm.bias",
    "cls.predictions.bias": "head.bias",
    "cls.predictions.decoder.weight": None,  # tied
    "cls.predictions.decoder.bias": None,
    "cls.seq_relationship.weight": None,  # whether one sentence follows another
    "cls.seq_relationship.bias": None,
}

#: The same for what stands on the encoder, by what it predicts.
HEAD_KEYS: dict[Head, dict[str, str | None]] = {
    "tokens": {**_TOKENS, **_NO_POOLER},
    "cells": {
        "pooler.dense.weight": "pooler.weight",
        "pooler.dense.bias": "pooler.bias",
        **_CLASSES,
    },
    "genes": {**_CLASSES, **_NO_POOLER},
    "none": {**dict.fromkeys(_TOKENS), **_NO_POOLER},
}

# What a tied tensor must equal, if the file holds it at all.
_TIED = {
    "cls.predictions.decoder.weight": "embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}
_TORCH_SUFFIXES = (".bin", ".pt", ".pth")
_SHOWN = 5


def read_state(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read named tensors from a ``.safetensors`` file or a PyTorch one, never running its code.

    Parameters
    ----------
    path
        A ``.safetensors``, ``.bin``, ``.pt`` or ``.pth`` file.

    Returns
    -------
    Name to tensor, on the CPU, in the file's own precision.

    Raises
    ------
    OSError
        If the file is missing, empty, cut short, or no weights file at all.
    RuntimeError
        If it holds something other than named tensors.
    """
    path = Path(path)
    if path.suffix != ".safetensors" and path.suffix not in _TORCH_SUFFIXES:
        raise ValueError(
            f"{path} has suffix {path.suffix!r}, expected .safetensors or one of "
            f"{', '.join(_TORCH_SUFFIXES)}."
        )
    _refuse_stand_in(path)
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    return _read_torch(path)


@overload
def load_bert(
    state: Mapping[str, Tensor], config: BertConfig, *, head: Literal[True] = True
) -> MaskedLM: ...
@overload
def load_bert(state: Mapping[str, Tensor], config: BertConfig, *, head: Literal[False]) -> Bert: ...
def load_bert(
    state: Mapping[str, Tensor], config: BertConfig, *, head: bool = True
) -> Bert | MaskedLM:
    """Build an encoder with the head that predicts tokens, or without (see :func:`load_network`).

    Without, the tensors of that head may be there and are left aside.
    """
    return cast("Bert | MaskedLM", load_network(state, config, "tokens" if head else "none"))


def load_network(state: Mapping[str, Tensor], config: BertConfig, head: Head = "tokens") -> Network:
    """Build a network from published weights, refusing anything that does not fit exactly.

    Parameters
    ----------
    state
        Tensors named as in a published ``BertModel``, ``BertForMaskedLM``,
        ``BertForSequenceClassification`` or ``BertForTokenClassification``. Lower precision is
        raised to float32; float32 tensors are used as they are, so the module shares their memory.
    config
        The shape to expect.
    head
        What stands on the encoder: it predicts ``"tokens"``, the class of ``"cells"``, the class of
        ``"genes"``, or there is ``"none"``.

    Returns
    -------
    :class:`~glm.models.bert.MaskedLM`, :class:`~glm.models.heads.Classifier` or
    :class:`~glm.models.bert.Bert`, in evaluation mode, on the CPU.

    Raises
    ------
    RuntimeError
        If tensors are missing, unknown, of another shape, not numbers, or not tied as they should.
    """
    published, names = _without_prefix(state), _names(config, head)
    wanted = {name: ours for name, ours in names.items() if ours is not None}
    _refuse_misfits(published, wanted.keys(), names.keys(), config)
    with torch.device("meta"):  # no random weights to make, none to be left behind
        network = _build(config, head, published)
    ours = {own: published[name] for name, own in wanted.items()}
    _refuse_shapes(ours, network)
    ours = {name: tensor.to("cpu", torch.float32) for name, tensor in ours.items()}
    refuse_not_finite(ours)
    if head == "tokens":
        _refuse_untied(published)
    network.load_state_dict(ours, strict=True, assign=True)
    return network.requires_grad_(True).eval()


def to_published(model: Network) -> dict[str, Tensor]:
    """Name a network's weights as published: with a leading ``bert.`` where it has a head.

    Returns
    -------
    Published name to tensor, detached, sharing the module's memory. The tied decoder is left out.
    Where low-rank additions are not merged yet, the weight is that with them.
    """
    head = head_of(model)
    encoder = "" if head == "none" else "bert."
    return {
        (name if name.startswith(("cls.", "classifier.")) else encoder + name): _weight(model, ours)
        for name, ours in _names(model.config, head).items()
        if ours is not None
    }


def _weight(model: Network, name: str) -> Tensor:
    """A weight as the network uses it: with low-rank additions, where there are any."""
    owner, _, own = name.rpartition(".")
    with torch.no_grad():
        return getattr(model.get_submodule(owner), own).detach()


def head_of(model: Network) -> Head:
    """What a network predicts."""
    if isinstance(model, Classifier):
        return "genes" if model.pooler is None else "cells"
    return "tokens" if isinstance(model, MaskedLM) else "none"


def save_safetensors(
    weights: Network | Mapping[str, Tensor],
    path: str | os.PathLike[str],
    *,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write weights so that ``path`` is at every moment either the old file or the new one.

    Parameters
    ----------
    weights
        An encoder, written under its published names, or name to tensor.
    path
        The file to make or replace.
    metadata
        Text to keep in the file's header.
    """
    state = weights if isinstance(weights, Mapping) else to_published(weights)
    tensors = {name: tensor.detach().contiguous() for name, tensor in state.items()}
    with replacing(Path(path)) as beside:
        beside.touch()
        usual = beside.stat().st_mode  # the library makes files that only their owner can read
        save_file(tensors, beside, metadata=dict(metadata) if metadata else None)
        beside.chmod(usual)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise OSError(
            f"{path} ({path.stat().st_size:,} bytes) is not a complete safetensors file "
            f"({error}). It was probably cut short: delete it and download it again."
        ) from error


def _read_torch(path: Path) -> dict[str, Tensor]:
    _refuse_strange_archive(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise OSError(
            f"{path} cannot be read as plain weights: it is damaged, or holds objects other than "
            "tensors, which are never loaded because they can run code. Ask for a safetensors file."
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # a cut file meets whichever step comes first
        raise OSError(
            f"{path} ({path.stat().st_size:,} bytes) is not a complete PyTorch file. It was "
            "probably cut short: delete it and download it again."
        ) from error
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise RuntimeError(f"{path} holds a {type(state).__name__} that is not names to tensors.")
    return dict(state)


def _refuse_stand_in(path: Path) -> None:
    with open(path, "rb") as file:
        what = stand_in(file.read(64))
    if what:
        raise OSError(f"{path} {what}. Delete it and download it again.")


def _refuse_strange_archive(path: Path) -> None:
    """Refuse a zip that would swell when read, or that names places outside itself.

    Nothing is unpacked to disk, but the reader makes room for what an entry says it will become.
    PyTorch writes its entries as they are, all in one folder.
    """
    if not zipfile.is_zipfile(path):
        return  # the older format, or nothing at all: the reader tells
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except zipfile.BadZipFile as error:
        raise OSError(f"{path} is damaged ({error}): delete it and download it again.") from error
    for entry in entries:
        packed = entry.compress_type != zipfile.ZIP_STORED
        outside = entry.filename.startswith(("/", "\\")) or ".." in entry.filename.split("/")
        if packed or outside or entry.file_size > path.stat().st_size:
            raise ValueError(
                f"{path} is not what torch.save writes, and was not read: its entry "
                f"{entry.filename!r} {'is meant for a place outside' if outside else 'grows'} "
                f"({entry.compress_size:,} bytes here, {entry.file_size:,} when unpacked)."
            )


def _without_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    published = {name.removeprefix("bert."): tensor for name, tensor in state.items()}
    if len(published) != len(state):
        raise RuntimeError("some tensors occur both with and without a leading 'bert.'.")
    return published


def _names(config: BertConfig, head: Head) -> dict[str, str | None]:
    """Published name to the name in our network, for every layer."""
    inside = "" if head == "none" else "bert."
    table: dict[str, str | None] = {}
    for name, ours in BERT_KEYS.items():
        for i in range(config.n_layers if "{i}" in name else 1):
            index = str(i)
            table[name.replace("{i}", index)] = ours and inside + ours.replace("{i}", index)
    return {**table, **HEAD_KEYS[head]}


def _build(config: BertConfig, head: Head, published: Mapping[str, Tensor]) -> Network:
    if head == "tokens":
        return MaskedLM(config)
    if head == "none":
        return Bert(config)
    bias = published["classifier.bias"]  # it says how many classes there are
    return Classifier(config, bias.numel(), per_cell=head == "cells")


def _refuse_misfits(
    published: Mapping[str, Tensor], wanted: Set[str], known: Set[str], config: BertConfig
) -> None:
    missing, extra = wanted - published.keys(), published.keys() - known
    problems = []
    if missing:
        problems.append(f"{len(missing)} missing ({_some(missing)})")
    if extra:
        problems.append(f"{len(extra)} unknown ({_some(extra)})")
    if problems:
        raise RuntimeError(
            f"these weights are not those of a {config.n_layers}-layer BERT as asked for: tensors "
            f"{' and '.join(problems)}. Check the model's name and its configuration."
        )


def _refuse_shapes(ours: Mapping[str, Tensor], model: torch.nn.Module) -> None:
    wrong = [
        f"{name} is {tuple(ours[name].shape)}, expected {tuple(parameter.shape)}"
        for name, parameter in model.state_dict().items()
        if ours[name].shape != parameter.shape
    ]
    if wrong:
        raise RuntimeError(
            f"{len(wrong)} tensors have another shape than the configuration asks for: "
            f"{'; '.join(wrong[:_SHOWN])}{'; …' if len(wrong) > _SHOWN else ''}. "
            "Check that the weights, the vocabulary and the configuration belong together."
        )


def refuse_not_finite(ours: Mapping[str, Tensor]) -> None:
    """Raise ``RuntimeError`` where a weight is not a number."""
    # The extremes tell, NaN included, without a copy of the tensor.
    bad = {
        name
        for name, tensor in ours.items()
        if not all(extreme.isfinite() for extreme in tensor.aminmax())
    }
    if bad:
        raise RuntimeError(
            f"{len(bad)} tensors hold NaN or infinite weights ({_some(bad)}): the file is damaged "
            "or the training diverged."
        )


def _refuse_untied(published: Mapping[str, Tensor]) -> None:
    for name, source in _TIED.items():
        if name in published and not torch.equal(published[name], published[source]):
            raise RuntimeError(
                f"{name} differs from {source}: this model has an untied decoder, which is not "
                "supported."
            )


def _some(names: Iterable[str]) -> str:
    names = sorted(names)
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
