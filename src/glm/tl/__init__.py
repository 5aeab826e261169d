"""Tools: compute with a model and write what is found into the object's slots."""

from __future__ import annotations

from ._aggregate_peaks import aggregate_peaks
from ._attention import attention
from ._embed import embed
from ._embed_enformer import embed_enformer
from ._embed_systems import embed_dnabert, embed_geneformer, embed_grover
from ._finetune import finetune
from ._predict import predict
from ._predict_expression import predict_expression
from ._predict_stretch import predict_stretch
from ._predict_tracks import predict_tracks
from ._pretrain import pretrain
from ._rank_encode import rank_encode

__all__ = [
    "aggregate_peaks",
    "attention",
    "embed",
    "embed_dnabert",
    "embed_enformer",
    "embed_geneformer",
    "embed_grover",
    "finetune",
    "predict",
    "predict_expression",
    "predict_stretch",
    "predict_tracks",
    "pretrain",
    "rank_encode",
]
