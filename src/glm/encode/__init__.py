"""Encodings: counts to ranks, bases to k-mers, byte pairs or codes. Arrays in, arrays out.

Names are looked up on first use, so that importing one encoding does not load the compiler that
another one needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bpe import BytePairs
    from .bpe_learn import learn_merges
    from .counts import CountSummary, iter_blocks, scan
    from .kmer import kmer_pieces, kmer_spans, kmer_text, kmer_tokens, kmer_tokens_many
    from .rank import Ranker, encode_ranks
    from .spans import bases_lost, trim
    from .token_table import vocabulary_table

_HOME = {
    "BytePairs": "bpe",
    "CountSummary": "counts",
    "Ranker": "rank",
    "bases_lost": "spans",
    "encode_ranks": "rank",
    "iter_blocks": "counts",
    "kmer_pieces": "kmer",
    "kmer_spans": "kmer",
    "kmer_text": "kmer",
    "kmer_tokens": "kmer",
    "kmer_tokens_many": "kmer",
    "learn_merges": "bpe_learn",
    "scan": "counts",
    "trim": "spans",
    "vocabulary_table": "token_table",
}

__all__ = [
    "BytePairs",
    "CountSummary",
    "Ranker",
    "bases_lost",
    "encode_ranks",
    "iter_blocks",
    "kmer_pieces",
    "kmer_spans",
    "kmer_text",
    "kmer_tokens",
    "kmer_tokens_many",
    "learn_merges",
    "scan",
    "trim",
    "vocabulary_table",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
