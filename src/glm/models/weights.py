"""Weights in and out of files: strict on the way in, atomic on the way out.

Nothing is filled at random and nothing is left out in silence: every tensor of a file is either
mapped, or dropped by a ``None`` in the table, or an error.
"""

from __future__ import annotations

import os
import pickle
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, overload

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from .bert import Bert, MaskedLM
from .config import BertConfig

#: Published name (without a leading ``bert.``) to ours; ``{i}`` is the layer, ``None`` is dropped
#: on purpose: constant buffers, the pooler, the next-sentence head, and the tied decoder.
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
    "pooler.dense.weight": None,
    "pooler.dense.bias": None,
    "cls.predictions.transform.dense.weight": "head.dense.weight",
    "cls.predictions.transform.dense.bias": "head.dense.bias",
    "cls.predictions.transform.LayerNorm.weight": "head.norm.weight",
    "cls.predictions.transform.LayerNorm.bias": "head.norm.bias",
    "cls.predictions.bias": "head.bias",
    "cls.predictions.decoder.weight": None,
    "cls.predictions.decoder.bias": None,
    "cls.seq_relationship.weight": None,
    "cls.seq_relationship.bias": None,
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
    """Build an encoder from published weights, refusing anything that does not fit exactly.

    Parameters
    ----------
    state
        Tensors named as in a published ``BertModel`` or ``BertForMaskedLM``. Lower precision is
        raised to float32; float32 tensors are used as they are, so the module shares their memory.
    config
        The shape to expect.
    head
        ``True`` builds :class:`~glm.models.bert.MaskedLM`; ``False`` builds
        :class:`~glm.models.bert.Bert` and leaves the head's tensors aside.

    Returns
    -------
    The module, in evaluation mode, on the CPU.

    Raises
    ------
    RuntimeError
        If tensors are missing, unknown, of another shape, not numbers, or not tied as they should.
    """
    published = _without_prefix(state)
    names = {name for name, ours in _expanded(config).items() if ours is not None}
    wanted = {name for name in names if head or not name.startswith("cls.")}
    _refuse_misfits(published, wanted, config)
    with torch.device("meta"):  # no random weights to make, none to be left behind
        model = MaskedLM(config) if head else Bert(config)
    ours = {_our_name(name, config, head=head): published[name] for name in wanted}
    _refuse_shapes(ours, model)
    ours = {name: tensor.to("cpu", torch.float32) for name, tensor in ours.items()}
    _refuse_not_finite(ours)
    if head:
        _refuse_untied(published)
    model.load_state_dict(ours, strict=True, assign=True)
    return model.requires_grad_(True).eval()


def to_published(model: Bert | MaskedLM) -> dict[str, Tensor]:
    """Name a module's weights as published: ``BertForMaskedLM`` with a head, else ``BertModel``.

    Returns
    -------
    Published name to tensor, detached, sharing the module's memory. The tied decoder is left out.
    """
    head = isinstance(model, MaskedLM)
    state = model.state_dict()
    renamed = {}
    for name, ours in _expanded(model.config).items():
        if ours is None or (name.startswith("cls.") and not head):
            continue
        prefix = "bert." if head and not name.startswith("cls.") else ""
        renamed[prefix + name] = state[_our_name(name, model.config, head=head)]
    return renamed


def save_safetensors(
    weights: Bert | MaskedLM | Mapping[str, Tensor],
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
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    state = weights if isinstance(weights, Mapping) else to_published(weights)
    tensors = {name: tensor.detach().contiguous() for name, tensor in state.items()}
    try:
        beside.touch()
        usual = beside.stat().st_mode  # the library makes files that only their owner can read
        save_file(tensors, beside, metadata=dict(metadata) if metadata else None)
        beside.chmod(usual)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise OSError(
            f"{path} ({path.stat().st_size:,} bytes) is not a complete safetensors file "
            f"({error}). It was probably cut short: delete it and download it again."
        ) from error


def _read_torch(path: Path) -> dict[str, Tensor]:
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
        start = file.read(64).lstrip().lower()
    if not start:
        raise OSError(f"{path} is empty: delete it and download it again.")
    if start.startswith(b"version https://git-lfs"):
        raise OSError(
            f"{path} is a Git LFS pointer, a note of where the weights are: run `git lfs pull` in "
            "its repository, or download the file itself."
        )
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise OSError(
            f"{path} is a web page, not weights: the download met a login or an error page. "
            "Delete it and download the file itself."
        )


def _without_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    published = {name.removeprefix("bert."): tensor for name, tensor in state.items()}
    if len(published) != len(state):
        raise RuntimeError("some tensors occur both with and without a leading 'bert.'.")
    return published


def _expanded(config: BertConfig) -> dict[str, str | None]:
    table: dict[str, str | None] = {}
    for name, ours in BERT_KEYS.items():
        for i in range(config.n_layers if "{i}" in name else 1):
            index = str(i)
            table[name.replace("{i}", index)] = ours and ours.replace("{i}", index)
    return table


def _our_name(published: str, config: BertConfig, *, head: bool) -> str:
    ours = _expanded(config)[published]
    assert ours is not None  # callers leave out what the table drops
    return f"bert.{ours}" if head and not ours.startswith("head.") else ours


def _refuse_misfits(published: Mapping[str, Tensor], wanted: set[str], config: BertConfig) -> None:
    missing = wanted - published.keys()
    extra = published.keys() - _expanded(config).keys()
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


def _refuse_not_finite(ours: Mapping[str, Tensor]) -> None:
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
