"""Folders with an Enformer in the layout that its PyTorch checkpoint is published in.

``config.json`` that says ``"model_type": "enformer"``, and ``pytorch_model.bin`` or
``model.safetensors``; it names neither tracks nor the length of a window.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .._fetch import FILES
from .config import is_whole
from .enformer_config import BIN_BP, EnformerConfig
from .places import TRACK_SYSTEM
from .published import WEIGHTS

#: Entry of a published config.json → ours; the first three must be there.
SHAPE = {
    "dim": "channels",
    "depth": "depth",
    "heads": "n_heads",
    "attn_dim_key": "key_size",
    "dim_divisible_by": "channel_step",
    "dropout_rate": "dropout",
    "attn_dropout": "attention_dropout",
    "pos_dropout": "position_dropout",
}
_REQUIRED = (*tuple(SHAPE)[:3], "output_heads")

#: What other values of these would change the computation.
_EXPECTED: dict[str, object] = {
    "model_type": TRACK_SYSTEM,
    "use_convnext": False,
    "num_downsamples": 7,
}
_TOLD = {"name", "licence", "source", "note"}
WINDOW_BP = 196_608
"""Bases of a window where nothing tells."""

_BY_NUMBER = "Nothing in its folder names its {heads} tracks: they go by their number."
_AS_PUBLISHED = "Its {heads} tracks are named as the published model's, which has as many."
_POSITIONS = (
    "Positional features are computed as the published model's; its config.json does not say "
    "use_tf_gamma, and a model trained by enformer-pytorch without it saw others."
)


def table_name(head: str) -> str:
    """File of a folder that holds the table of a head's tracks."""
    return f"tracks_{head}.tsv"


def targets_name(head: str) -> str:
    """Entry of the download table with the tracks of the published model's head."""
    return f"targets_{head}.txt"


def describe_track_folder(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """What a row of the registry says about a folder of this layout.

    Raises
    ------
    ValueError
        If ``config.json`` is not that of an Enformer as it is computed here.
    OSError
        If there are no weights.
    """
    for entry, expected in _EXPECTED.items():
        if config.get(entry, expected) != expected:
            raise ValueError(
                f"{folder / 'config.json'} says {entry} {config[entry]!r}; expected {expected!r}."
            )
    told = _told_by_glm(folder, config)
    shape, window_bp = _shape(folder, config)
    weights = next((name for name in WEIGHTS if (folder / name).is_file()), None)
    if weights is None:
        raise OSError(
            f"{folder} has a config.json and no weights: expected {' or '.join(WEIGHTS)} in one "
            f"piece, found {', '.join(sorted(path.name for path in folder.iterdir()))}."
        )
    targets, note = _targets(folder, shape.heads)
    if not config.get("use_tf_gamma") and "window_bp" not in config.get("glm", {}):
        note = f"{note} {_POSITIONS}".strip()
    return {
        "name": folder.resolve().name,
        "shape": shape,
        "window_bp": window_bp,
        "targets": targets,
        "weights": weights,
        "folder": folder,
        "tier": "local",
        "licence": "not stated",
        "source": str(config.get("_name_or_path") or folder.resolve()),
        "note": note,
        **told,
    }


def config_of(shape: EnformerConfig, window_bp: int) -> dict[str, Any]:
    """The entries of such a ``config.json`` that describe a network."""
    return {
        "model_type": TRACK_SYSTEM,
        "architectures": ["Enformer"],
        **{theirs: getattr(shape, ours) for theirs, ours in SHAPE.items()},
        "output_heads": dict(shape.heads),
        "target_length": shape.n_bins(window_bp),
        "num_downsamples": _EXPECTED["num_downsamples"],
        "use_convnext": False,
        "use_checkpointing": False,
        # Their table of features, normalised as published, holds for this length alone.
        "use_tf_gamma": window_bp == WINDOW_BP and shape.n_position_features == 192,
    }


def _shape(folder: Path, config: Mapping[str, Any]) -> tuple[EnformerConfig, int]:
    missing = [entry for entry in _REQUIRED if config.get(entry) is None]
    if missing:
        raise ValueError(
            f"{folder / 'config.json'} does not say {', '.join(missing)}: it is not the whole "
            "configuration of an Enformer."
        )
    given = {ours: config[entry] for entry, ours in SHAPE.items() if config.get(entry) is not None}
    noted = config.get("glm", {})
    window_bp = noted.get("window_bp", WINDOW_BP)
    try:
        if not is_whole(window_bp):
            raise TypeError(f"window_bp is {window_bp!r}; expected a whole number")
        crop = noted.get("crop", _crop(config.get("target_length", -1), window_bp))
        shape = EnformerConfig(heads=config["output_heads"], crop=crop, **given)
        shape.n_bins(window_bp)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{folder / 'config.json'} describes no Enformer: {error}") from error
    return shape, window_bp


def _crop(target_length: Any, window_bp: int) -> int:
    """Bins cut from each end of a window so that as many are left; a negative length is no crop."""
    n_bins = window_bp // BIN_BP
    if not is_whole(target_length) or target_length > n_bins:
        raise ValueError(
            f"target_length is {target_length!r}; expected at most the {n_bins:,} bins of a window "
            f"of {window_bp:,} bases. For longer windows add an entry "
            '"glm": {"window_bp": ...} to it.'
        )
    return 0 if target_length < 0 else -((target_length - n_bins) // 2)


def _targets(folder: Path, heads: Mapping[str, int]) -> tuple[dict[str, str], str]:
    """Heads that have as many tracks as the published ones, and what to say of names."""
    unnamed = [head for head in heads if not (folder / table_name(head)).is_file()]
    published = EnformerConfig().heads
    same = [
        head
        for head in unnamed
        if published.get(head) == heads[head] and targets_name(head) in FILES
    ]
    by_number = [head for head in unnamed if head not in same]
    said = [(_AS_PUBLISHED, same), (_BY_NUMBER, by_number)]
    note = " ".join(text.format(heads=" and ".join(which)) for text, which in said if which)
    return {head: targets_name(head) for head in same}, note


def _told_by_glm(folder: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """What :func:`glm.models.export` notes down, since the layout has no place for it."""
    noted = config.get("glm", {})
    told = {key: noted[key] for key in _TOLD & noted.keys()} if isinstance(noted, Mapping) else None
    if told is None or not all(isinstance(value, str) for value in told.values()):
        raise ValueError(
            f"{folder / 'config.json'} has an entry glm of {json.dumps(noted)[:200]}; expected "
            f"text for {', '.join(sorted(_TOLD))}, and numbers for window_bp and crop."
        )
    return told
