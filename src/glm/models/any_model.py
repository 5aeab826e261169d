"""Models of both kinds by name: those that read sentences, and those that predict tracks."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from .._fetch import fetch
from .bundle import Model
from .bundle import load as load_sentence_model
from .bundle import prefetch as prefetch_sentence_model
from .places import content_of, predicts_tracks
from .registry import ModelSpec, no_model, rows, track_rows
from .registry import get as get_sentence_spec
from .track_model import TrackModel, TrackSpec, load_track_model, read_track_folder

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["get", "get_track_spec", "load", "prefetch", "track_rows", "tracks"]


def get(name: str | Path) -> ModelSpec | TrackSpec:
    """Return the row of a model.

    Parameters
    ----------
    name
        A name of :func:`glm.models.list`, or the path of a folder: a bundle, or a checkpoint in the
        published layout (``config.json``, and ``model.safetensors`` or ``pytorch_model.bin``).

    Returns
    -------
    The row: shape, licence, source; context and the authors' pooling and layer of a model that
    reads sentences, window and heads (:class:`TrackSpec`) of one that predicts tracks. No weights
    are read.

    Raises
    ------
    KeyError
        If there is no such model; the message lists those there are.
    ValueError
        If a folder's ``config.json`` describes something else.

    Examples
    --------
    >>> import glm
    >>> glm.models.get("geneformer-v1-10m").shape.hidden_size
    256
    >>> glm.models.get("enformer").output_bp
    114688
    """
    known = track_rows()
    if str(name) in known:
        return known[str(name)]
    place = Path(name).expanduser() / "config.json"
    if str(name) not in rows() and not place.is_file():
        raise KeyError(no_model(name, [*rows(), *known]))
    if str(name) not in rows():
        content = content_of(place)
        if predicts_tracks(content):
            return read_track_folder(place.parent, content)
    return get_sentence_spec(name)


def load(model: str | Path | Model | TrackModel) -> Model | TrackModel:
    """Load a model with all that belongs to it, held to its hashes.

    Parameters
    ----------
    model
        A name of :func:`glm.models.list`; the path of a folder, which is a bundle or a checkpoint
        in the published layout (``config.json`` of a BERT or an Enformer, and
        ``model.safetensors`` or ``pytorch_model.bin``), such as fine-tuning with other tools
        leaves; or a loaded model (which is returned as it is).

    Returns
    -------
    A :class:`Model` with its vocabulary, or a :class:`TrackModel` with the tables of its tracks: on
    the CPU, float32, in evaluation mode. Loading reads the weights once (40 MB to 1.3 GB for
    published Geneformer models, 1 GB for Enformer).

    Raises
    ------
    KeyError
        If there is no such model.
    OSError
        If its files are not here and cannot be fetched, or are not the published ones.
    RuntimeError
        If weights, shape and vocabulary or tables do not belong together.
    ValueError
        If a folder's ``config.json`` describes something else, or its weights are packed strangely.

    Examples
    --------
    >>> import glm
    >>> model = glm.models.load("geneformer-tiny")
    >>> model.spec.tier
    'demo'
    """
    if isinstance(model, Model | TrackModel):
        return model
    spec = get(model)
    return load_track_model(spec) if isinstance(spec, TrackSpec) else load_sentence_model(model)


def prefetch(
    names: str | Path | Iterable[str | Path], *, allow_unpinned: bool = False
) -> list[Path]:
    """Fetch everything that the named models need, for later use without a connection.

    Parameters
    ----------
    names
        One name or several; for a folder in the published layout, the dictionaries or tables it
        needs.
    allow_unpinned
        Also take weights of which no hash is known. The hash of what comes is recorded in the
        cache, and every later load is held to it.

    Returns
    -------
    The paths of the files: dictionaries or tables of tracks, and weights.

    Raises
    ------
    KeyError
        If there is no such model.
    OSError
        If a file cannot be had, is not the published one, or has no known hash and
        ``allow_unpinned`` is false.

    Examples
    --------
    >>> import glm
    >>> glm.models.prefetch("geneformer-tiny")
    []
    """
    paths: list[Path] = []
    wanted = [names] if isinstance(names, str | Path) else list(names)
    for name, spec in zip(wanted, [get(name) for name in wanted], strict=True):
        if isinstance(spec, TrackSpec):
            paths += [fetch(file, allow_unpinned=allow_unpinned) for file in spec.files]
        else:
            paths += prefetch_sentence_model(name, allow_unpinned=allow_unpinned)
    return paths


def tracks(
    model: str | Path | TrackModel = "enformer", *, organism: str | None = None
) -> pd.DataFrame:
    """List the tracks that a model predicts, one a row.

    Parameters
    ----------
    model
        A name of :func:`glm.models.list`, the path of a folder, or a loaded model. Of
        ``"enformer"`` the published tables are fetched (1 MB) and held to their hashes.
    organism
        The head: ``"human"`` or ``"mouse"``. ``None`` is the only head, else ``"human"``.

    Returns
    -------
    A DataFrame, its index the place among the head's outputs, with the columns ``identifier``,
    ``assay`` and ``sample`` (of 5,313 human descriptions 4,925 are unique: go by index and
    identifier); ``aggregation``, what a bin holds (``"sum"`` or ``"mean"``; ``"sum_sqrt"`` is the
    root of a sum), ``scale`` and ``clip`` of the measured values it was trained on; and
    ``strand_pair``, the index of the track that takes its place on the other strand, its own where
    it has none. Rows of it may be passed as ``tracks=`` wherever tracks are chosen.

    Raises
    ------
    KeyError
        If there is no such model or head.
    ValueError
        If the model predicts no tracks, or has several heads and none called human.
    OSError
        If the table is not here and cannot be fetched, or is not the published one.

    Examples
    --------
    >>> import glm
    >>> table = glm.models.tracks("enformer")  # doctest: +SKIP
    >>> table["assay"].value_counts().to_dict()  # doctest: +SKIP
    {'CHIP': 3991, 'DNASE': 674, 'CAGE': 638, 'ATAC': 10}
    """
    from .track_choice import choose_head

    spec = get_track_spec(model)
    head = choose_head(spec, organism)
    if isinstance(model, TrackModel):
        return model.tables[head].copy()
    return spec.tracks(head)


def get_track_spec(model: str | Path | Model | TrackModel) -> TrackSpec:
    """The row of a model that predicts tracks.

    Raises
    ------
    KeyError
        If there is no such model.
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
