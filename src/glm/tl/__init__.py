"""Tools: compute with a model and write what is found into the object's slots."""

from __future__ import annotations

from ._aggregate_peaks import aggregate_peaks
from ._attention import attention
from ._embed import embed
from ._embed_systems import embed_dnabert, embed_geneformer, embed_grover
from ._finetune import finetune
from ._predict import predict
from ._pretrain import pretrain
from ._rank_encode import rank_encode

__all__ = [
    "aggregate_peaks",
    "attention",
    "embed",
    "embed_dnabert",
    "embed_geneformer",
    "embed_grover",
    "finetune",
    "predict",
    "pretrain",
    "rank_encode",
]
