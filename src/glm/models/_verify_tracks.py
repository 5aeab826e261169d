"""What a model that predicts tracks is held to beside the hashes of its files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._atomic import replacing
from ..bases import N, to_codes
from ._checks import (
    EXPECTED,
    TOLERANCE,
    Check,
    compare_output,
    expected_of,
    nothing_expected,
    unusable,
)
from .track_model import TrackModel, load_track_model

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


def check_track_model(model: TrackModel) -> Iterator[Check]:
    """What the model is made of, and whether it computes what is stored."""
    shape = model.spec.shape
    n_weights = sum(parameter.numel() for parameter in model.network.parameters())
    tables = " and ".join(f"{len(table):,} {head}" for head, table in model.tables.items())
    yield Check(
        "structure",
        True,
        f"{n_weights:,} weights, all finite, in {shape.depth} blocks; tracks {tables}",
    )
    path = expected_of(model.spec.name, model.spec.folder)
    if not path.is_file():
        yield nothing_expected()
        return
    try:
        yield _check_output(model, json.loads(path.read_text(encoding="utf-8")))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        yield unusable(path, error)


def record_expected_tracks(
    folder: Path | str, *, seed: str = "glm", n_bins: int = 8, n_tracks: int = 8, card: str = ""
) -> Path:
    """Write ``expected.json`` into a bundle: what its weights predict for one made-up window.

    Parameters
    ----------
    folder
        The bundle. Hashes are as they were: the file is not part of what is hashed.
    seed
        Any text; the window's bases follow from it alone (:func:`made_up`).
    n_bins, n_tracks
        How many bins of the output, and tracks of each head, to keep: evenly spaced, all if there
        are fewer.
    card
        Where the output was computed, in words.

    Returns
    -------
    The file.
    """
    from .any_model import get_track_spec

    spec = get_track_spec(folder)
    model = load_track_model(spec)
    bins = _spaced(spec.shape.n_bins(spec.window_bp), n_bins)
    tracks = {head: _spaced(n, n_tracks) for head, n in spec.shape.heads.items()}
    content: dict[str, Any] = {"seed": seed, "length_bp": spec.window_bp}
    content |= {"bins": bins, "tracks": tracks}
    values = _compute(model, content)
    content["values"] = [float(f"{value:.7g}") for value in values]
    content["tolerance"] = TOLERANCE * max(abs(value) for value in values)
    content["card"] = card
    target = Path(folder) / EXPECTED
    with replacing(target) as beside:
        beside.write_text(json.dumps(content, allow_nan=False) + "\n", encoding="utf-8")
    return target


def made_up(seed: str, length_bp: int) -> NDArray[np.uint8]:
    """Bases that follow from a text on every machine: the last two bits of its SHAKE-256."""
    drawn = hashlib.shake_256(seed.encode()).digest(length_bp)
    return (np.frombuffer(drawn, np.uint8) & 3).astype(np.uint8)


def _spaced(total: int, n: int) -> list[int]:
    return [int(place) for place in np.unique(np.linspace(0, total - 1, min(n, total)).round())]


def _check_output(model: TrackModel, content: Mapping[str, Any]) -> Check:
    """Of the published model an embedding is known, of bundles tracks."""
    got = _compute(model, content)
    embedding = "vector" in content
    what = "mean embedding" if embedding else f"{len(got):,} values of tracks"
    what += f" of {content['length_bp']:,} bases"
    expected = content["vector" if embedding else "values"]
    return compare_output(what, got, expected, float(content["tolerance"]))


def _compute(model: TrackModel, content: Mapping[str, Any]) -> list[float]:
    """The mean embedding over all bins, or the named tracks in the named bins, head by head."""
    from .enformer_config import EMBEDDINGS
    from .fast.enformer import FastEnformer

    network, sequence = model.network, _sequence(content)
    # That vector was made with positional features scaled otherwise than the published ones.
    before = network.gamma_over_features
    network.gamma_over_features = bool(content.get("gamma_over_features", False))
    try:
        fast = FastEnformer(network)
        if "vector" in content:
            found = fast.predict(sequence, tracks={}, embeddings=True)[EMBEDDINGS]
            return found[0].mean(dim=0).tolist()
        tracks = content["tracks"]
        predicted = fast.predict(sequence, tracks=tracks, bins=content["bins"])
        return [value for head in tracks for value in predicted[head].flatten().tolist()]
    finally:
        network.gamma_over_features = before


def _sequence(content: Mapping[str, Any]) -> Tensor:
    """The text, with unknown bases after it up to the length, or one that follows from a seed."""
    import torch

    length_bp = int(content["length_bp"])
    if "seed" in content:
        return torch.tensor(made_up(str(content["seed"]), length_bp))[None]
    codes = np.full(length_bp, N, np.uint8)
    text = to_codes(content["text"])
    codes[: text.size] = text
    return torch.from_numpy(codes)[None]
