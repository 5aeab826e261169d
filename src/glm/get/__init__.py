"""Look-ups: what the slots hold, in the form a person wants it."""

from __future__ import annotations

from ._base_embeddings import BaseEmbeddings
from ._group_embeddings import group_embeddings
from ._sentences import sentences
from ._token_embeddings import TokenEmbeddings, token_embeddings
from ._tracks import tracks

__all__ = [
    "BaseEmbeddings",
    "TokenEmbeddings",
    "group_embeddings",
    "sentences",
    "token_embeddings",
    "tracks",
]
