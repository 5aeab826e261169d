"""Tools: compute with a model and write what is found into the object's slots."""

from __future__ import annotations

from ._attention import attention
from ._embed import embed, embed_geneformer
from ._finetune import finetune
from ._predict import predict
from ._pretrain import pretrain
from ._rank_encode import rank_encode

__all__ = [
    "attention",
    "embed",
    "embed_geneformer",
    "finetune",
    "predict",
    "pretrain",
    "rank_encode",
]
