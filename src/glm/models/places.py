"""Where models are on disk: the bundled ones, folders, and what to do without their files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import _fetch

if TYPE_CHECKING:
    from .spec import ModelSpec
    from .track_model import TrackSpec

BUNDLE_FORMAT = 1
TRACK_SYSTEM = "enformer"
"""System of the models that predict tracks, and the ``model_type`` of their published layout."""

_BUNDLED = Path(__file__).parent / "bundled"


def bundled() -> Iterator[tuple[Path, dict[str, Any]]]:
    """Folder and ``config.json`` of each model that comes with the package."""
    for place in sorted(_BUNDLED.glob("*/config.json")):
        yield place.parent, content_of(place)


def content_of(place: Path) -> dict[str, Any]:
    """What a ``config.json`` holds; ``ValueError`` unless it is names and values."""
    try:
        content = json.loads(place.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place} does not describe a model: it is no JSON ({error}).") from error
    if not isinstance(content, dict):
        raise ValueError(f"{place} does not describe a model: it holds no names and values.")
    return content


def predicts_tracks(content: Mapping[str, Any]) -> bool:
    """Whether a ``config.json`` is of a model that predicts tracks rather than reads sentences."""
    return TRACK_SYSTEM in (content.get("system"), content.get("model_type"))


def check_format(folder: Path, content: Mapping[str, Any]) -> None:
    """Refuse a bundle that another version of the package wrote in another way."""
    written_as = content.get("format", BUNDLE_FORMAT)
    if written_as != BUNDLE_FORMAT:
        raise RuntimeError(
            f"{folder} is a bundle of format {written_as!r}; this version of glm reads format "
            f"{BUNDLE_FORMAT}. Update glm, or save the bundle again with this version."
        )


def bundle_file(folder: Path, name: str) -> Path:
    """Path of a bundle's file, held to the hash in its ``config.json``."""
    path = folder / name
    if not path.is_file():
        raise OSError(f"{folder} is not a whole bundle: {name} is missing.")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    got, expected = _fetch.sha256_of(path), config["sha256"].get(name)
    if got != expected:
        raise OSError(
            f"{path} has the sha256 {got}, its config.json says {expected}: the bundle was changed "
            "or copied in part. Copy or save it again."
        )
    return path


@contextmanager
def ways_out(spec: ModelSpec | TrackSpec) -> Iterator[None]:
    """Add to an error about files that cannot be had what the user can do."""
    try:
        yield
    except OSError as error:
        name = spec.name if spec.folder is None else str(spec.folder)
        unpinned = spec.folder is None and _fetch.FILES[spec.weights].pin is None
        raise OSError(
            f"{error}\nWith a connection, glm.models.prefetch({name!r}"
            f"{', allow_unpinned=True' if unpinned else ''}) fetches all it needs."
            f"{_without_a_connection(spec.system)}"
        ) from error


def _without_a_connection(system: str) -> str:
    """A bundled model that reads the same."""
    small = [content["name"] for _, content in bundled() if content.get("system") == system]
    if not small:
        return ""
    return f" To try glm without one, pass model={small[0]!r} (a small demonstration model)."
