"""Models by name: what there is, what it is, and the loaded thing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._export import export
from ._verify import Verification, verify
from .bundle import Model, load, prefetch
from .config import BertConfig
from .dna_vocabulary import KmerVocabulary, PairVocabulary
from .registry import ModelSpec, get, rows
from .vocabulary import GeneVocabulary

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "BertConfig",
    "GeneVocabulary",
    "KmerVocabulary",
    "Model",
    "ModelSpec",
    "PairVocabulary",
    "Verification",
    "export",
    "get",
    "list",
    "load",
    "prefetch",
    "verify",
]


def list() -> pd.DataFrame:
    """List the models that ``glm`` knows, one a row.

    Returns
    -------
    A DataFrame indexed by name: system, layers, width, heads, context (tokens), vocabulary
    (tokens), parameters, pooling, tier, licence, where (bundled, on this machine, to fetch) and a
    note. Opens no connection.

    Examples
    --------
    >>> import glm
    >>> glm.models.list().loc["geneformer-v1-10m", "context"]
    np.int64(2048)
    """
    import pandas as pd

    return pd.DataFrame(
        [
            {
                "name": spec.name,
                "system": spec.system,
                "n_layers": spec.shape.n_layers,
                "hidden_size": spec.shape.hidden_size,
                "n_heads": spec.shape.n_heads,
                "context": spec.context,
                "vocab_size": spec.shape.vocab_size,
                "n_parameters": spec.shape.n_parameters,
                "pooling": spec.pooling,
                "tier": spec.tier,
                "licence": spec.licence,
                "where": spec.where,
                "note": spec.note,
            }
            for spec in rows().values()
        ]
    ).set_index("name")
