"""The vocabularies of models that read DNA: k-mers (DNABERT) and byte pairs (GROVER).

They have the attributes of :class:`~glm.models.vocabulary.GeneVocabulary` wherever the meaning is
the same, so that training, bundles and records take either. The special token that ends a sentence
(``[SEP]``) goes by the name ``eos``, as it does in vocabularies of genes: what frames a sentence
by ``cls`` and ``eos`` works for both.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._cards import html_card
from .config import is_whole

if TYPE_CHECKING:
    from ..encode.bpe import BytePairs

SPECIAL = {"pad": 0, "unk": 1, "cls": 2, "eos": 3, "mask": 4}
"""``[PAD]``, ``[UNK]``, ``[CLS]``, ``[SEP]``, ``[MASK]``: the same in both published systems."""

SPECIAL_TEXTS = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "eos": "[SEP]", "mask": "[MASK]"}

Encoded = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Tokens (int32) and offsets (int64) of sequences end to end, spans (int32, tokens × 2)."""


class DnaVocabulary(ABC):
    """What vocabularies of DNA have in common.

    Attributes
    ----------
    name
        What messages and records call it.
    pieces
        Text of every token that is not special, in the order of :attr:`tokens`.
    special
        Tokens that are no bases: ``pad``, ``unk``, ``cls``, ``eos`` (``[SEP]``) and ``mask``.
    context
        Longest sentence in tokens, special ones included.
    flank_bp
        Bases to read on both sides of a region, and trim away, so that its tokens are right.
    """

    name: str
    pieces: tuple[str, ...]
    special: Mapping[str, int]
    context: int
    flank_bp: int

    @abstractmethod
    def encode(self, codes: np.ndarray, offsets: np.ndarray) -> Encoded:
        """Tokens of sequences of codes that stand end to end; special ones are not added.

        Parameters
        ----------
        codes
            uint8, one a base: A 0, C 1, G 2, T 3, what is not known 4.
        offsets
            Where each sequence starts in ``codes``, and the end: one more than sequences.

        Returns
        -------
        tokens
            int32, end to end.
        offsets
            int64, where each sequence starts among them, and the end.
        spans
            int32, tokens × 2: the bases that each token covers, half-open, in its own sequence.

        Raises
        ------
        TypeError, ValueError
            If codes are not codes, or offsets do not divide them.
        """

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values; ``kind`` says which vocabulary it is."""

    @abstractmethod
    def _card(self) -> dict[str, object]: ...

    @abstractmethod
    def _holds(self) -> dict[str, object]:
        """The line of a model's card that says what it reads."""

    def __len__(self) -> int:
        """Number of tokens, special ones included."""
        return len(self.pieces) + len(self.special)

    @cached_property
    def tokens(self) -> np.ndarray:
        """int32: every token that is not special, ascending."""
        return np.setdiff1d(np.arange(len(self)), list(self.special.values())).astype(np.int32)

    @property
    def n_special(self) -> int:
        """Special tokens added to every sentence (``[CLS]`` and ``[SEP]``)."""
        return 2

    @property
    def n_tokens_read(self) -> int:
        """Most tokens of a piece of DNA that fit into the context."""
        return self.context - self.n_special

    @cached_property
    def sha256(self) -> str:
        """One hash over everything that decides a sentence."""
        text = json.dumps(self.to_dict(), sort_keys=True, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def _repr_html_(self) -> str:
        return html_card(f"Vocabulary {self.name}", self._card())

    def _special_text(self) -> str:
        return ", ".join(f"{SPECIAL_TEXTS[name]} {token}" for name, token in self.special.items())

    def _check_context(self) -> None:
        if self.n_tokens_read < 1:
            raise ValueError(
                f"The context of the vocabulary {self.name!r} is {self.context} tokens; expected "
                f"at least {self.n_special + 1}: [CLS], [SEP] and one between them."
            )


@dataclass(frozen=True, eq=False)
class KmerVocabulary(DnaVocabulary):
    """All k-mers, in the order of DNABERT's vocabularies :cite:p:`ji2021`.

    Five special tokens stand first, then the k-mers in the order of the product over A, T, C, G. A
    k-mer that holds a base which is not known is ``unk``.

    Attributes
    ----------
    k
        Bases of a token, 1 to 8.
    stride
        Bases from one token's start to the next: 1 (DNABERT), or ``k`` for tokens side by side.
    context
        Longest sentence in tokens, special ones included.
    name
        ``"6-mers"``, or ``"6-mers side by side"``.
    special
        ``pad`` 0, ``unk`` 1, ``cls`` 2, ``eos`` 3 (``[SEP]``), ``mask`` 4.
    pieces
        Every k-mer, in the order of :attr:`tokens`.
    flank_bp
        0: a k-mer is the same wherever it stands.

    Examples
    --------
    >>> import numpy as np
    >>> import glm
    >>> vocabulary = glm.models.KmerVocabulary(3)
    >>> codes = np.array([0, 0, 3, 1], np.uint8)
    >>> tokens, offsets, spans = vocabulary.encode(codes, np.array([0, 4]))
    >>> [vocabulary.pieces[token - 5] for token in tokens], spans.tolist()
    (['AAT', 'ATC'], [[0, 3], [1, 4]])
    """

    k: int
    stride: int = 1
    context: int = 512
    name: str = field(init=False)
    special: Mapping[str, int] = field(init=False, repr=False)
    pieces: tuple[str, ...] = field(init=False, repr=False)
    flank_bp: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        from ..encode.kmer import kmer_pieces  # loads a compiler: not before it is needed

        for name in ("k", "stride", "context"):
            if not is_whole(getattr(self, name)):
                raise TypeError(f"{name} is {getattr(self, name)!r}; expected a whole number.")
        pieces = tuple(kmer_pieces(self.k)[len(SPECIAL) :])  # refuses a k that is none
        if self.stride not in (1, self.k):
            raise ValueError(
                f"stride is {self.stride}; expected 1 (a token at every base) or {self.k} (tokens "
                "side by side)."
            )
        object.__setattr__(self, "name", f"{self.k}-mers{self._side_by_side}")
        object.__setattr__(self, "special", dict(SPECIAL))
        object.__setattr__(self, "pieces", pieces)
        self._check_context()

    @property
    def _side_by_side(self) -> str:
        return "" if self.stride == 1 else " side by side"

    def encode(self, codes: np.ndarray, offsets: np.ndarray) -> Encoded:
        """Tokens of sequences end to end: see :meth:`DnaVocabulary.encode`.

        A sequence of n bases has ``(n - k) // stride + 1`` tokens, none if n < k. Costs 12 bytes a
        token, most of them spans.
        """
        from ..encode.kmer import kmer_spans, kmer_tokens_many

        tokens, starts = kmer_tokens_many(codes, offsets, self.k, stride=self.stride)
        return tokens.astype(np.int32), starts, kmer_spans(starts, self.k, stride=self.stride)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, of which :meth:`from_dict` makes it again."""
        return {
            "kind": "kmer",
            "name": self.name,
            "k": self.k,
            "stride": self.stride,
            "context": self.context,
            "special": dict(self.special),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> KmerVocabulary:
        """The inverse of :meth:`to_dict`."""
        if dict(content["special"]) != SPECIAL:
            raise ValueError(f"special tokens are {content['special']}; expected {SPECIAL}.")
        return cls(int(content["k"]), int(content["stride"]), int(content["context"]))

    def _holds(self) -> dict[str, object]:
        where = self._side_by_side.strip() or "one at every base"
        return {"k-mers": f"{len(self.pieces):,} of {self.k} bases, {where}"}

    def _card(self) -> dict[str, object]:
        n_read = self.n_tokens_read
        n_bases = (n_read - 1) * self.stride + self.k
        return {
            **self._holds(),
            "special tokens": self._special_text(),
            "context": f"{self.context:,} tokens, {n_read:,} of them k-mers ({n_bases:,} bases)",
            "sha256": self.sha256,
        }


@dataclass(frozen=True, eq=False)
class PairVocabulary(DnaVocabulary):
    """Byte pairs: pieces of DNA that grew by merging neighbours :cite:p:`sanabria2024`.

    Made by :meth:`from_tokenizer_json` (a published one) or :meth:`from_merges` (merges of
    :func:`glm.encode.learn_merges`).

    Attributes
    ----------
    name
        Where it comes from, for example ``"grover"``.
    pairs
        The merges and the text of every token; they turn bases into tokens.
    context
        Longest sentence in tokens, special ones included.
    flank_bp
        Bases to read on both sides of a region and trim away (:func:`glm.encode.trim`): near the
        ends of a sequence tokens differ from what they are inside a longer one.
    special
        ``pad``, ``unk``, ``cls``, ``eos`` (``[SEP]``) and ``mask``.
    pieces
        Text of every token that is not special, in the order of :attr:`tokens`.

    Raises
    ------
    ValueError
        If a special token is missing.

    Examples
    --------
    >>> import glm
    >>> vocabulary = glm.models.PairVocabulary.from_merges("mine", [("A", "A"), ("AA", "T")])
    >>> vocabulary.pieces, len(vocabulary)
    (('A', 'C', 'G', 'T', 'AA', 'AAT'), 11)
    """

    name: str
    pairs: BytePairs = field(repr=False)
    context: int = 512
    flank_bp: int = 100
    special: Mapping[str, int] = field(init=False, repr=False)
    pieces: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        of, ours = self.pairs.special, {name: name.replace("eos", "sep") for name in SPECIAL}
        missing = [theirs for theirs in ours.values() if theirs not in of]
        if missing:
            raise ValueError(
                f"The vocabulary {self.name!r} has no special token for {', '.join(missing)}; "
                f"expected {', '.join(ours.values())}."
            )
        if self.flank_bp < 0:
            raise ValueError(f"flank_bp is {self.flank_bp}; expected a number of bases.")
        special = {name: int(of[theirs]) for name, theirs in ours.items()}
        pieces = tuple(p for i, p in enumerate(self.pairs.pieces) if i not in special.values())
        object.__setattr__(self, "special", special)
        object.__setattr__(self, "pieces", pieces)
        self._check_context()

    @classmethod
    def from_merges(
        cls,
        name: str,
        merges: Iterable[tuple[str, str]],
        *,
        context: int = 512,
        flank_bp: int = 100,
    ) -> PairVocabulary:
        """Specials, the four bases, and one piece a merge, in this order."""
        from ..encode.bpe import BytePairs

        return cls(name, BytePairs.from_merges(merges), context, flank_bp)

    @classmethod
    def from_tokenizer_json(
        cls,
        source: str | Path | Mapping[str, Any],
        name: str,
        *,
        context: int = 512,
        flank_bp: int = 100,
    ) -> PairVocabulary:
        """Read a ``tokenizer.json`` (see :meth:`glm.encode.BytePairs.from_tokenizer_json`)."""
        from ..encode.bpe import BytePairs

        return cls(name, BytePairs.from_tokenizer_json(source), context, flank_bp)

    @property
    def merges(self) -> tuple[tuple[str, str], ...]:
        """Pairs of pieces that become one, in the order in which they are merged."""
        return self.pairs.merges

    def encode(self, codes: np.ndarray, offsets: np.ndarray) -> Encoded:
        """Tokens of sequences end to end: see :meth:`DnaVocabulary.encode`.

        Tokens follow each other without gaps and cover the whole sequence; an unknown base is
        ``unk``, one a base.
        """
        return self.pairs.apply(codes, offsets)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, of which :meth:`from_dict` makes it again."""
        return {
            "kind": "pairs",
            "name": self.name,
            "context": self.context,
            "flank_bp": self.flank_bp,
            "special": dict(self.pairs.special),
            "fuse_unknown": self.pairs.fuse_unknown,
            "pieces": list(self.pairs.pieces),
            "merges": [list(merge) for merge in self.merges],
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> PairVocabulary:
        """The inverse of :meth:`to_dict`."""
        from ..encode.bpe import BytePairs

        pairs = BytePairs(
            tuple(content["pieces"]),
            tuple((left, right) for left, right in content["merges"]),
            dict(content["special"]),
            bool(content["fuse_unknown"]),
        )
        return cls(content["name"], pairs, int(content["context"]), int(content["flank_bp"]))

    def _holds(self) -> dict[str, object]:
        longest = max(map(len, self.pieces), default=0)
        return {"pieces": f"{len(self.pieces):,} of 1 to {longest} bases"}

    def _card(self) -> dict[str, object]:
        return {
            **self._holds(),
            "merges": f"{len(self.merges):,}",
            "special tokens": self._special_text(),
            "context": f"{self.context:,} tokens, {self.n_tokens_read:,} of them pieces",
            "flank": f"{self.flank_bp:,} bases on both sides, read and trimmed",
            "sha256": self.sha256,
        }
