"""The kinds of vocabulary: of genes, of k-mers, of byte pairs; read from a file, or by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .._fetch import FILES, fetch
from .config import Pooling
from .dna_vocabulary import DnaVocabulary, KmerVocabulary, PairVocabulary
from .vocabulary import GeneVocabulary
from .vocabulary import published_vocabulary as published_genes

Vocabulary = GeneVocabulary | DnaVocabulary

#: Entry "kind" of a vocabulary.json; genes have none, as in the first bundles.
_KINDS: dict[str, type[GeneVocabulary | KmerVocabulary | PairVocabulary]] = {
    "": GeneVocabulary,
    "kmer": KmerVocabulary,
    "pairs": PairVocabulary,
}

_GROVER = "grover/GROVER/tokenizer.json"

#: Tokens of the published vocabularies → their names.
GENES_OF_SIZE = {25_426: "gc30M", 20_275: "gc104M"}
DNA_OF_SIZE = {5 + 4**k: f"{k}-mers" for k in (3, 4, 5, 6)} | {609: "grover"}


@dataclass(frozen=True)
class Reading:
    """How the authors of a system read it: what a folder has that does not say it itself."""

    system: str
    pooling: Pooling
    hidden_layer: str


def reading_of(vocabulary: Vocabulary | str) -> Reading:
    """By the vocabulary, or the name of a published one."""
    if isinstance(vocabulary, KmerVocabulary) or str(vocabulary).endswith("-mers"):
        return Reading("dnabert", "cls", "last")
    if isinstance(vocabulary, PairVocabulary) or vocabulary == "grover":
        return Reading("grover", "cls", "last")
    cls = vocabulary != "gc30M" if isinstance(vocabulary, str) else "cls" in vocabulary.special
    return Reading("geneformer", "cls" if cls else "mean", "second_to_last")


def name_of_size(size: int) -> str:
    """The published vocabulary of so many tokens, ``""`` where there is none."""
    return (GENES_OF_SIZE | DNA_OF_SIZE).get(size, "")


def vocabulary_from(content: Mapping[str, Any]) -> Vocabulary:
    """The vocabulary that a ``vocabulary.json`` holds.

    Raises
    ------
    ValueError
        If it is of a kind that is not known here.
    KeyError, TypeError
        If something is missing.
    """
    kind = content.get("kind", "")
    if kind not in _KINDS:
        raise ValueError(
            f"it is a vocabulary of kind {kind!r}; expected one of "
            f"{', '.join(repr(name) for name in _KINDS if name)}, or none for genes"
        )
    return _KINDS[kind].from_dict(content)


def published_vocabulary(name: str, *, context: int) -> Vocabulary:
    """A published vocabulary by its name: ``"gc104M"``, ``"6-mers"``, ``"grover"``.

    Files are held to their hashes; k-mers need none.
    """
    kmers = re.fullmatch(r"(\d)-mers", name)
    if kmers:
        return KmerVocabulary(int(kmers[1]), context=context)
    if name == "grover":
        # Its 610 entries become 609: one is empty, and its weights have no row for it.
        return PairVocabulary.from_tokenizer_json(fetch(_GROVER), name, context=context)
    return published_genes(name, context=context)


def files_of(name: str) -> list[str]:
    """Files of a published vocabulary, by their names in the download table; none for k-mers."""
    if name == "grover":
        return [_GROVER]
    return [file for file in FILES if name and file.endswith(f"_{name}.pkl")]
