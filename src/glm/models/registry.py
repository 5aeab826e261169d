"""The models that ``glm`` knows, by name or by folder."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, get_args

from .config import BertConfig, Head, Pooling, Task
from .known import PUBLISHED, PUBLISHED_TRACKS
from .places import bundled, check_format, content_of, predicts_tracks
from .published import describe_folder, is_published
from .spec import ModelSpec
from .track_model import TrackSpec, read_track_folder

__all__ = ["ModelSpec", "get", "no_model", "read_folder", "rows", "track_rows"]


@cache
def rows() -> dict[str, ModelSpec]:
    """Every known model that reads sentences, by name: the published ones, then the bundled."""
    small = [read_folder(folder) for folder, what in bundled() if not predicts_tracks(what)]
    return {spec.name: spec for spec in (*PUBLISHED, *small)}


@cache
def track_rows() -> dict[str, TrackSpec]:
    """Every known model that predicts tracks, by name: the published ones, then the bundled."""
    small = [read_track_folder(at, what) for at, what in bundled() if predicts_tracks(what)]
    return {spec.name: spec for spec in (*PUBLISHED_TRACKS, *small)}


def get(name: str | Path) -> ModelSpec:
    """Return the row of a model that reads sentences.

    Raises
    ------
    KeyError
        If there is no such model; the message lists those there are.
    ValueError
        If it predicts tracks, or a folder's ``config.json`` describes something else.
    """
    known = rows()
    if str(name) in known:
        return known[str(name)]
    if str(name) in track_rows():
        raise ValueError(_reads_no_sentences(str(name)))
    folder = Path(name).expanduser()
    if (folder / "config.json").is_file():
        return read_folder(folder)
    raise KeyError(no_model(name, known))


def no_model(name: object, known: Iterable[str]) -> str:
    """What to say where nothing goes by a name."""
    return (
        f"There is no model {str(name)!r}. Known are {', '.join(known)}; or give the path of a "
        "folder that holds a bundle (config.json, vocabulary.json, model.safetensors) or a "
        "checkpoint in the published layout (config.json, and model.safetensors or "
        "pytorch_model.bin)."
    )


def read_folder(folder: Path) -> ModelSpec:
    """The row that a folder's ``config.json`` describes: a bundle's, or one as published."""
    content = content_of(folder / "config.json")
    if predicts_tracks(content):
        raise ValueError(_reads_no_sentences(str(content.get("name", folder))))
    if is_published(content):
        return ModelSpec(**describe_folder(folder, content))
    return _read_bundle(folder, content)


def _reads_no_sentences(name: str) -> str:
    return (
        f"{name} predicts tracks from DNA, it reads no sentences of genes or tokens: use "
        "glm.tl.predict_tracks or glm.tl.embed_enformer."
    )


def _read_bundle(folder: Path, content: dict[str, Any]) -> ModelSpec:
    check_format(folder, content)
    try:
        if not isinstance(content["sha256"], dict):
            raise TypeError("sha256 holds no names and hashes")
        return ModelSpec(
            name=content["name"],
            system=content["system"],
            shape=BertConfig(**content["shape"]),
            pooling=_one_of(Pooling, content["pooling"]),
            hidden_layer=content["hidden_layer"],
            folder=folder,
            tier=content["tier"],
            licence=content["licence"],
            source=content["source"],
            note=content["note"],
            head=_one_of(Head, content.get("head", "tokens")),
            labels=_names(content.get("labels", [])),
            task=_one_of(Task, content.get("task", "")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{folder / 'config.json'} does not describe a glm bundle ({error}); expected name, "
            "system, shape, pooling, hidden_layer, tier, licence, source, note and sha256. A "
            "checkpoint in the published layout says model_type and architectures."
        ) from error


def _one_of(choice: Any, value: Any) -> Any:
    if value not in get_args(choice):
        raise TypeError(f"it says {value!r} where one of {get_args(choice)} is expected")
    return value


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise TypeError(f"it says {value!r} where a list of names is expected")
    return tuple(value)
