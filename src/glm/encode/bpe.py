"""Byte pairs: bases to tokens by a list of merges, each token with the bases it covers.

The tokens are those of the ``tokenizers`` library for the same list: of all neighbours that may
merge, always the pair of the lowest rank, the leftmost first. A base that has no piece (N and
everything else that is not known, in most vocabularies) is the unknown token, one a base, and
divides the text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bases import N, to_text
from . import _bpe_kernels as kernels
from ._bpe_file import read_tokenizer, write_tokenizer
from ._bpe_machine import make_machine
from ._bpe_order import make_merges, rank_pairs, split_pieces
from .kmer import check_codes, check_offsets

SPECIAL = {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}
"""The specials of a vocabulary that is learnt here: GROVER's and DNABERT's order."""

_ALPHABET = "ACGT"


@dataclass(frozen=True)
class BytePairs:
    """A vocabulary of byte pairs: pieces by their id, and the merges that lead to them.

    Make one with :meth:`from_tokenizer_json` (a published vocabulary), :meth:`from_merges` (merges
    of :func:`~glm.encode.learn_merges`). It is never changed by use, and may be used from several
    threads and pickled.

    Parameters
    ----------
    pieces
        The text of every token, by id; of a special its name, ``[PAD]`` for example.
    merges
        Pairs of pieces in the order of their rank.
    special
        Ids of the specials by name: ``unk`` and any of ``pad``, ``cls``, ``sep``, ``mask``...
    fuse_unknown
        Whether a run of bases that are not known is one unknown token; else one a base.

    Raises
    ------
    ValueError
        If there is no ``unk``, two pieces are the same, or a merge makes no piece.

    Examples
    --------
    >>> from glm.bases import to_codes
    >>> pairs = BytePairs.from_merges([("A", "C"), ("AC", "G")])
    >>> tokens, offsets, spans = pairs.apply(to_codes("ACGNAC"))
    >>> [pairs.pieces[token] for token in tokens], spans.tolist()
    (['ACG', '[UNK]', 'AC'], [[0, 3], [3, 4], [4, 6]])
    """

    pieces: tuple[str, ...]
    merges: tuple[tuple[str, str], ...]
    special: Mapping[str, int] = field(default_factory=lambda: dict(SPECIAL))
    fuse_unknown: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "pieces", tuple(self.pieces))
        object.__setattr__(self, "merges", tuple((a, b) for a, b in self.merges))
        object.__setattr__(self, "special", dict(self.special))
        if "unk" not in self.special:
            raise ValueError(
                f"The specials are {list(self.special)}; expected 'unk' among them, the token of a "
                "base that is not known."
            )
        ids = self.ids
        if len(ids) != len(self.pieces):
            twice = next(p for i, p in enumerate(self.pieces) if ids[p] != i)
            raise ValueError(f"The piece {twice!r} is in the vocabulary twice.")
        for left, right in self.merges:
            if not {left, right, left + right} <= ids.keys():
                raise ValueError(
                    f"The merge {left!r} + {right!r} needs the pieces {left!r}, {right!r} and "
                    f"{left + right!r}; the vocabulary of {len(ids):,} has not all of them."
                )

    def __getstate__(self) -> dict[str, Any]:
        """Without the tables, which are made again where they are needed."""
        return {name: self.__dict__[name] for name in self.__dataclass_fields__}

    def __len__(self) -> int:
        """How many tokens there are, specials included."""
        return len(self.pieces)

    @classmethod
    def from_merges(
        cls, merges: Iterable[tuple[str, str]], *, special: Mapping[str, int] | None = None
    ) -> BytePairs:
        """A vocabulary of specials, the four bases, and one piece a merge, in this order.

        Parameters
        ----------
        merges
            Pairs of pieces in the order of their rank, as :func:`~glm.encode.learn_merges` gives.
        special
            Ids of the specials by name, from 0; ``None`` is pad, unk, cls, sep, mask.

        Returns
        -------
        The vocabulary: 609 tokens of GROVER's 600 merges.

        Raises
        ------
        ValueError
            If the ids of the specials are not 0, 1, 2..., or a merge joins what is not there yet.
        """
        names = dict(SPECIAL if special is None else special)
        if sorted(names.values()) != list(range(len(names))):
            raise ValueError(f"The specials' ids are {names}; expected 0, 1, 2... each once.")
        listed = [(left, right) for left, right in merges]
        pieces = [f"[{name.upper()}]" for name in sorted(names, key=names.__getitem__)]
        pieces += [*_ALPHABET, *(left + right for left, right in listed)]
        return cls(tuple(dict.fromkeys(pieces)), tuple(listed), names)

    @classmethod
    def from_tokenizer_json(cls, source: str | Path | Mapping[str, Any]) -> BytePairs:
        """Read the ``tokenizer.json`` of a byte-pair vocabulary of bases.

        An empty piece and merges with nothing are left out: they can never be met. GROVER's file
        has one such piece, at id 609 behind all others, and four such merges; what remains are the
        609 tokens its weights have. Nothing else is ever dropped or moved.

        Parameters
        ----------
        source
            The file, or what it holds as a dictionary.

        Returns
        -------
        The vocabulary, each piece at its id in the file.

        Raises
        ------
        ValueError
            If the model is not BPE, or has a setting that would change tokens of bases in a way
            that is not followed here (dropout, prefixes, suffixes, ``ignore_merges``, a normaliser
            or a division into words that is not known to leave bases alone), or its ids have gaps.
        """
        if isinstance(source, Mapping):
            content, name = source, "The given tokenizer"
        else:
            path = Path(source).expanduser()
            try:
                content, name = json.loads(path.read_text(encoding="utf-8")), str(path)
            except ValueError as error:
                raise ValueError(f"{path} is no JSON, so no tokenizer.json: {error}") from None
        return cls(*read_tokenizer(content, name))

    def to_tokenizer_json(self) -> dict[str, Any]:
        """What a ``tokenizer.json`` of this vocabulary holds; the ``tokenizers`` library reads it.

        Returns
        -------
        Plain values, for :func:`json.dump`. It puts ``[CLS]`` and ``[SEP]`` around a text if both
        are among the specials.
        """
        return write_tokenizer(self.pieces, self.merges, self.special, fuse=self.fuse_unknown)

    @cached_property
    def ids(self) -> dict[str, int]:
        """Ids by piece."""
        return {piece: i for i, piece in enumerate(self.pieces)}

    @cached_property
    def lengths(self) -> NDArray[np.int32]:
        """Bases of each token, by id: 0 for specials, but 1 for the unknown one."""
        found = np.array([len(piece) for piece in self.pieces], np.int32)
        found[list(self.special.values())] = 0
        found[self.special["unk"]] = 1
        return found

    def apply(
        self, codes: NDArray[np.uint8], offsets: NDArray[np.integer] | None = None
    ) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int32]]:
        """Tokens of sequences that stand end to end, and the bases that each covers.

        Sequences do not touch: each has the tokens it would have alone. No special but the unknown
        token is written. Costs two walks over the bases (about 300 million a second and core), 2
        bytes a base (4 beyond 65,536 tokens) and 12 a token. Tables are made the first time: in
        0.05 s for 600 merges, 1 s and 140 MB for 8,000, 4 s and 500 MB for 16,000. Larger
        vocabularies are merged from a heap (about 3 million bases a second), and so are lists that
        were not learnt from text and join a piece before they make it.

        Parameters
        ----------
        codes
            uint8, one a base: A 0, C 1, G 2, T 3, what is not known 4.
        offsets
            Where each sequence starts in ``codes``, and the end; ``None`` is one sequence.

        Returns
        -------
        tokens
            int32, end to end.
        offsets
            int64, where each sequence starts among the tokens, and the end.
        spans
            int32, tokens × 2: first base and the one after the last, from 0 in each sequence. They
            follow each other without gaps and cover the whole sequence.

        Raises
        ------
        TypeError
            If ``codes`` are not uint8.
        ValueError
            If codes are above 4, or offsets do not rise from 0 to the number of bases.
        """
        check_codes(codes)
        starts = check_offsets(offsets, len(codes))
        merges, machine = self._tables
        found = np.empty(len(codes), np.uint16 if len(self) <= 1 << 16 else np.int32)
        n_tokens = np.empty(len(starts) - 1, np.int64)
        if machine is None:
            kernels.apply_ranks(codes, starts, merges, found, n_tokens)
        else:
            kernels.apply_machine(codes, starts, machine, self.lengths, merges, found, n_tokens)
        to_offsets = np.concatenate([[0], np.cumsum(n_tokens)])
        tokens = np.empty(to_offsets[-1], np.int32)
        spans = np.empty((to_offsets[-1], 2), np.int32)
        kernels.write(codes, starts, found, merges, self.lengths, to_offsets, tokens, spans)
        return tokens, to_offsets, spans

    def text(self, tokens: NDArray[np.integer]) -> str:
        """The bases of tokens, end to end: N for the unknown token, nothing for other specials.

        Parameters
        ----------
        tokens
            Tokens by id.

        Returns
        -------
        Upper-case text. (A fused run of unknown bases comes back as one N.)

        Raises
        ------
        ValueError
            If an id is not in the vocabulary.
        """
        numbers = np.asarray(tokens)
        if numbers.size and (numbers.min() < 0 or numbers.max() >= len(self)):
            raise ValueError(
                f"Tokens go from {numbers.min()} to {numbers.max()}; this vocabulary has 0 to "
                f"{len(self) - 1}."
            )
        said = list(self.pieces)
        for token in self.special.values():
            said[token] = ""
        said[self.special["unk"]] = to_text(np.array([N], np.uint8))
        return "".join([said[token] for token in numbers.tolist()])

    @cached_property
    def _tables(self) -> tuple[kernels.Merges, kernels.Machine | None]:
        """The merges, and the machine where they have one."""
        unknown = self.special["unk"]
        merges = make_merges(self.merges, self.ids, unknown, fuse=self.fuse_unknown)
        ranks = rank_pairs(self.merges)
        splits = split_pieces(ranks, self.ids)
        return merges, make_machine(splits, ranks, self.ids, unknown) if splits else None
