"""Models by name: what there is, what it is, and the loaded thing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._export import export
from ._verify import Verification, verify
from .any_model import get, load, prefetch, tracks
from .bundle import Model
from .config import BertConfig
from .dna_vocabulary import KmerVocabulary, PairVocabulary
from .enformer_config import EnformerConfig
from .registry import ModelSpec, rows, track_rows
from .track_model import TrackModel, TrackSpec
from .vocabulary import GeneVocabulary

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "BertConfig",
    "EnformerConfig",
    "GeneVocabulary",
    "KmerVocabulary",
    "Model",
    "ModelSpec",
    "PairVocabulary",
    "TrackModel",
    "TrackSpec",
    "Verification",
    "export",
    "get",
    "list",
    "load",
    "prefetch",
    "tracks",
    "verify",
]


def list() -> pd.DataFrame:
    """List the models that ``glm`` knows, one a row.

    Returns
    -------
    A DataFrame indexed by name: system, layers, width, heads of attention, context (tokens),
    vocabulary (tokens), window (bases), tracks, parameters, pooling, tier, licence, where (bundled,
    on this machine, to fetch) and a note. Context, vocabulary and pooling are those of a model that
    reads sentences, 0 and empty for one that predicts tracks; window and tracks the other way
    round. Opens no connection.

    Examples
    --------
    >>> import glm
    >>> glm.models.list().loc["geneformer-v1-10m", "context"]
    np.int64(2048)
    >>> glm.models.list().loc["enformer", "n_tracks"]
    np.int64(6956)
    """
    import pandas as pd

    sentences = [_row(spec, _of_sentences(spec)) for spec in rows().values()]
    tracks = [_row(spec, _of_tracks(spec)) for spec in track_rows().values()]
    return pd.DataFrame([*sentences, *tracks]).set_index("name")


def _row(spec: ModelSpec | TrackSpec, own: dict[str, object]) -> dict[str, object]:
    return {
        "name": spec.name,
        "system": spec.system,
        **own,
        "tier": spec.tier,
        "licence": spec.licence,
        "where": spec.where,
        "note": spec.note,
    }


def _of_sentences(spec: ModelSpec) -> dict[str, object]:
    return {
        "n_layers": spec.shape.n_layers,
        "hidden_size": spec.shape.hidden_size,
        "n_heads": spec.shape.n_heads,
        "context": spec.context,
        "vocab_size": spec.shape.vocab_size,
        "window_bp": 0,
        "n_tracks": 0,
        "n_parameters": spec.shape.n_parameters,
        "pooling": spec.pooling,
    }


def _of_tracks(spec: TrackSpec) -> dict[str, object]:
    return {
        "n_layers": spec.shape.depth,
        "hidden_size": spec.shape.channels,
        "n_heads": spec.shape.n_heads,
        "context": 0,
        "vocab_size": 0,
        "window_bp": spec.window_bp,
        "n_tracks": sum(spec.shape.heads.values()),
        "n_parameters": spec.shape.n_parameters,
        "pooling": "",
    }
