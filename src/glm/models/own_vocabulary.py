"""The vocabulary that lies in a folder beside the weights, in whatever form its system has.

A ``vocabulary.json`` as bundles have it; the four dictionaries of Geneformer; a ``tokenizer.json``
of byte pairs (GROVER); the k-mers of DNABERT in a ``vocab.txt`` or ``tokenizer.json``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .dna_vocabulary import SPECIAL_TEXTS, KmerVocabulary, PairVocabulary
from .kinds import Vocabulary, name_of_size, vocabulary_from
from .vocabulary import GeneVocabulary


def folder_vocabulary(folder: Path, context: int) -> Vocabulary:
    """The vocabulary that lies in the folder itself.

    Raises
    ------
    OSError
        If it is gone.
    ValueError
        If what is there is no vocabulary that is known here.
    """
    vocabulary = own_vocabulary(folder, context)
    if vocabulary is None:
        raise OSError(f"The vocabulary that was in {folder} is no longer there.")
    return vocabulary


def own_vocabulary(folder: Path, context: int) -> Vocabulary | None:
    """The same, or ``None`` where there is none."""
    if (folder / "vocabulary.json").is_file():
        return _read_ours(folder / "vocabulary.json")
    if any(folder.glob("token_dictionary_*.pkl")):
        return _read_dictionaries(folder, context)
    if (folder / "tokenizer.json").is_file():
        return _read_tokenizer(folder / "tokenizer.json", context)
    if (folder / "vocab.txt").is_file():
        return _read_list(folder / "vocab.txt", context)
    return None


def _read_ours(path: Path) -> Vocabulary:
    try:
        return vocabulary_from(json.loads(path.read_text(encoding="utf-8")))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is no vocabulary as bundles have it ({error!r}). Copy it from a bundle again, "
            "or put the four dictionaries into the folder in its place."
        ) from error


def _read_dictionaries(folder: Path, context: int) -> GeneVocabulary:
    tokens = sorted(folder.glob("token_dictionary_*.pkl"))
    if len(tokens) > 1:
        raise ValueError(
            f"{folder} holds {len(tokens)} token dictionaries ({tokens[0].name}, "
            f"{tokens[1].name}); expected one, with the three that belong to it."
        )
    name = tokens[0].stem.removeprefix("token_dictionary_")
    return GeneVocabulary.from_dictionaries(folder, name, context=context)


def _read_tokenizer(path: Path, context: int) -> Vocabulary:
    """Byte pairs, or k-mers as a list of whole words."""
    content = _json(path)
    model = content.get("model")
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict):
        raise ValueError(f"{path} has no vocabulary of a model: it is no tokenizer of DNA.")
    if "merges" in model:
        name = name_of_size(len(PairVocabulary.from_tokenizer_json(content, "").pieces) + 5)
        return PairVocabulary.from_tokenizer_json(path, name or path.parent.name, context=context)
    by_token = sorted(model["vocab"], key=model["vocab"].__getitem__)
    return _kmers(path, by_token, context)


def _read_list(path: Path, context: int) -> KmerVocabulary | None:
    lines = path.read_text(encoding="utf-8").split()
    if name_of_size(len(lines)) == "grover":
        return None  # pieces without their merges say nothing; those are published
    return _kmers(path, lines, context)


def _kmers(path: Path, words: Sequence[str], context: int) -> KmerVocabulary:
    k = len(words[-1]) if words else 0
    if not 1 <= k <= 8 or len(words) != len(SPECIAL_TEXTS) + 4**k:
        raise ValueError(
            f"{path} holds {len(words):,} words, the last {words[-1:]}; expected DNABERT's five "
            "special tokens and all k-mers (69, 261, 1,029 or 4,101 for k = 3 to 6). For byte "
            "pairs put their tokenizer.json beside it."
        )
    vocabulary = KmerVocabulary(k, context=context)
    expected = [*SPECIAL_TEXTS.values(), *vocabulary.pieces]
    wrong = [
        i for i, (word, other) in enumerate(zip(words, expected, strict=True)) if word != other
    ]
    if wrong:
        i = wrong[0]
        raise ValueError(
            f"{path} has {len(wrong):,} words in other places than DNABERT's vocabulary: word {i} "
            f"is {words[i]!r}, expected {expected[i]!r} (five special tokens, then k-mers in the "
            "order of the product over A, T, C, G)."
        )
    return vocabulary


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no tokenizer: it is no JSON ({error}).") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is no tokenizer: it holds no names and values.")
    return content
