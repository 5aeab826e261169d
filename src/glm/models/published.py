"""Folders in the layout that checkpoints are published in, and that fine-tuning elsewhere leaves.

``config.json`` of a BERT, ``model.safetensors`` or ``pytorch_model.bin``, and perhaps the model's
own vocabulary (see :mod:`~glm.models.own_vocabulary`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from .config import BertConfig, Head, Pooling, Task
from .kinds import DNA_OF_SIZE, GENES_OF_SIZE, name_of_size, reading_of
from .own_vocabulary import own_vocabulary

#: Class that wrote the checkpoint → what stands on its encoder.
ARCHITECTURES: dict[str, Head] = {
    "BertForMaskedLM": "tokens",
    "BertForPreTraining": "tokens",
    "BertForSequenceClassification": "cells",
    "BertForTokenClassification": "genes",
    "BertModel": "none",
}

#: Entry of a published config.json → ours; the first seven must be there.
SHAPE = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "intermediate_size": "intermediate_size",
    "max_position_embeddings": "n_positions",
    "hidden_act": "activation",
    "layer_norm_eps": "layer_norm_eps",
    "type_vocab_size": "n_token_types",
    "hidden_dropout_prob": "dropout",
    "attention_probs_dropout_prob": "attention_dropout",
    "pad_token_id": "pad_token",
    "initializer_range": "initializer_range",
}
_REQUIRED = tuple(SHAPE)[:7]

#: What other values of these would change the computation.
_EXPECTED: dict[str, object] = {
    "model_type": "bert",
    "is_decoder": False,
    "add_cross_attention": False,
    "position_embedding_type": "absolute",
}

#: How a classifier's outputs are read, in their words and ours.
PROBLEMS: dict[str, Task] = {
    "single_label_classification": "classes",
    "multi_label_classification": "multi_label",
    "regression": "regression",
}

_TOLD = {
    "name",
    "system",
    "pooling",
    "hidden_layer",
    "licence",
    "source",
    "note",
    "task",
}  # entries of ours in a config.json
WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def is_published(config: Mapping[str, Any]) -> bool:
    """Whether a ``config.json`` is of this layout rather than a bundle's."""
    return "model_type" in config or "architectures" in config


def describe_folder(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """What a row of the registry says about a folder of this layout.

    Raises
    ------
    ValueError
        If ``config.json`` is not that of a BERT as it is computed here, or nothing tells which
        vocabulary the model was trained with.
    OSError
        If there are no weights.
    """
    head = _head(folder, config)
    shape = _shape(folder, config)
    own = own_vocabulary(folder, shape.n_positions)
    dictionary = "" if own else _dictionary(folder, shape.vocab_size)
    reading = reading_of(own or dictionary)
    return {
        "name": folder.resolve().name,
        "system": reading.system,
        "shape": shape,
        "pooling": reading.pooling,
        "hidden_layer": reading.hidden_layer,
        "dictionary": dictionary,
        "weights": _weights(folder),
        "folder": folder,
        "tier": "local",
        "licence": "not stated",
        "source": str(config.get("_name_or_path") or folder.resolve()),
        "head": head,
        "labels": _labels(folder, config) if head in ("cells", "genes") else (),
        "task": PROBLEMS.get(str(config.get("problem_type")), ""),
        **_told_by_glm(folder, config),
    }


def _head(folder: Path, config: Mapping[str, Any]) -> Head:
    for entry, expected in _EXPECTED.items():
        if config.get(entry, expected) != expected:
            raise ValueError(
                f"{folder / 'config.json'} says {entry} {config[entry]!r}; expected {expected!r}: "
                "glm computes BERT encoders with absolute positions."
            )
    names = config.get("architectures") or []
    known = [head for name, head in ARCHITECTURES.items() if name in names]
    if not isinstance(names, list) or len(names) != 1 or not known:
        raise ValueError(
            f"{folder / 'config.json'} says architectures {names}; expected one of "
            f"{', '.join(ARCHITECTURES)}: it tells what stands on the encoder."
        )
    return known[0]


def _shape(folder: Path, config: Mapping[str, Any]) -> BertConfig:
    missing = [entry for entry in _REQUIRED if config.get(entry) is None]
    if missing:
        raise ValueError(
            f"{folder / 'config.json'} does not say {', '.join(missing)}: it is not the whole "
            "configuration of a BERT."
        )
    given = {ours: config[entry] for entry, ours in SHAPE.items() if config.get(entry) is not None}
    try:
        return BertConfig(**given)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{folder / 'config.json'} describes no BERT: {error}") from error


def _told_by_glm(folder: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """What :func:`glm.models.export` notes down, since the layout has no place for it."""
    noted = config.get("glm", {})
    noted = noted if isinstance(noted, Mapping) else {"": noted}
    told = {entry: value for entry, value in noted.items() if entry != "card"}
    unknown = told.keys() - _TOLD
    if unknown or not all(isinstance(value, str) for value in told.values()):
        raise ValueError(
            f"{folder / 'config.json'} has an entry glm of {json.dumps(told)[:200]}; expected text "
            f"for {', '.join(sorted(_TOLD))}."
        )
    for entry, admitted in (("pooling", get_args(Pooling)), ("task", get_args(Task))):
        if told.get(entry, admitted[0]) not in admitted:
            raise ValueError(
                f"{folder / 'config.json'} says {entry} {told[entry]!r}; expected one of "
                f"{', '.join(map(repr, admitted))}."
            )
    return told


def _weights(folder: Path) -> str:
    for name in WEIGHTS:
        if (folder / name).is_file():
            return name
    there = sorted(path.name for path in folder.iterdir())
    raise OSError(
        f"{folder} has a config.json and no weights: expected {' or '.join(WEIGHTS)} in one piece, "
        f"found {', '.join(there)}."
    )


def _dictionary(folder: Path, size: int) -> str:
    if name_of_size(size):
        return name_of_size(size)
    genes, dna = (
        ", ".join(f"{n:,} ({name})" for n, name in known.items())
        for known in (GENES_OF_SIZE, DNA_OF_SIZE)
    )
    raise ValueError(
        f"{folder / 'config.json'} says a vocabulary of {size:,} tokens; the published ones have "
        f"{genes.replace(', ', ' and ')} for genes, {dna} for DNA. Put what the model was trained "
        "with into the folder: the four dictionaries (token_dictionary_*, "
        "gene_median_dictionary_*, gene_name_id_dict_*, ensembl_mapping_dict_*, .pkl), the "
        "tokenizer.json of byte pairs, the vocab.txt of k-mers, or a vocabulary.json."
    )


def _labels(folder: Path, config: Mapping[str, Any]) -> tuple[str, ...]:
    named = config.get("id2label") or {}
    labels = [named.get(str(i)) for i in range(len(named))] if isinstance(named, dict) else [None]
    if not all(isinstance(label, str) for label in labels):
        raise ValueError(
            f"{folder / 'config.json'} names its classes {json.dumps(named)[:200]}; expected a "
            'name for each of "0", "1", and so on.'
        )
    return tuple(str(label) for label in labels)
