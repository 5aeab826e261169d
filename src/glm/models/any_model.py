"""Models of both kinds by name: those that read sentences, and those that predict tracks."""

from __future__ import annotations

import json
from pathlib import Path

from .bundle import Model
from .bundle import load as load_sentence_model
from .registry import _BUNDLED, ModelSpec, _content_of, _predicts_tracks, rows
from .registry import get as get_sentence_spec
from .track_model import TrackModel, TrackSpec, load_track_model, read_track_bundle


def track_rows() -> dict[str, TrackSpec]:
    """Every known model that predicts tracks, by name: the published ones, then the bundled."""
    from .known import PUBLISHED_TRACKS

    found = {spec.name: spec for spec in PUBLISHED_TRACKS}
    for place in sorted(_BUNDLED.glob("*/config.json")):
        content = json.loads(place.read_text(encoding="utf-8"))
        if _predicts_tracks(content):
            spec = read_track_bundle(place.parent, content)
            found[spec.name] = spec
    return found


def get(name: str | Path) -> ModelSpec | TrackSpec:
    """The row of a model of either kind."""
    known = track_rows()
    if str(name) in known:
        return known[str(name)]
    place = Path(name).expanduser() / "config.json"
    if str(name) not in rows() and place.is_file():
        content = _content_of(place)
        if _predicts_tracks(content):
            return read_track_bundle(place.parent, content)
    return get_sentence_spec(name)


def load(model: str | Path | Model | TrackModel) -> Model | TrackModel:
    """A loaded model of either kind."""
    if isinstance(model, Model | TrackModel):
        return model
    spec = get(model)
    return load_track_model(spec) if isinstance(spec, TrackSpec) else load_sentence_model(model)


def get_track_spec(model: str | Path | TrackModel) -> TrackSpec:
    """The row of a model that predicts tracks.

    Raises
    ------
    ValueError
        If it is one that reads sentences.
    """
    spec = model.spec if isinstance(model, TrackModel | Model) else get(model)
    if isinstance(spec, TrackSpec):
        return spec
    raise ValueError(
        f"{spec.name} reads sentences ({spec.system}) and predicts no tracks. Choose one of "
        f"{', '.join(track_rows())}."
    )
