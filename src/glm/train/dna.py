"""Pieces of DNA to train on, cut as the authors of DNABERT and GROVER cut them."""

from __future__ import annotations

import numpy as np

from ..bases import N
from ..encode.kmer import check_codes, check_offsets
from ..models.dna_vocabulary import DnaVocabulary, KmerVocabulary
from .sentences import Sentences

_LEAST_KMERS, _LEAST_PAIRS = 5, 20
_FULL_SHARE = 0.5


def dna_sentences(
    vocabulary: DnaVocabulary,
    codes: np.ndarray,
    offsets: np.ndarray,
    *,
    seed: int = 0,
    epoch: int = 0,
    least: int | None = None,
    full_share: float = _FULL_SHARE,
) -> Sentences:
    """Cut DNA into pieces of random lengths and frame them by ``[CLS]`` and ``[SEP]``.

    Half of the pieces are as long as the context allows (510 tokens), the others of any length from
    the least to that: DNABERT's 5 to 510 overlapping k-mers :cite:p:`ji2021`, GROVER's 20 to 510
    byte pairs :cite:p:`sanabria2024`. Pieces follow each other, so that each base is in one of them
    at most, and where they begin is drawn anew for each epoch. Runs of unknown bases part the DNA;
    a piece ends where its stretch does, and is left out if it is then shorter than the least. Byte
    pairs are those of the whole stretch. Costs one encoding and one pass over the tokens an epoch,
    16 bytes a token.

    Parameters
    ----------
    vocabulary
        k-mers or byte pairs.
    codes
        uint8, sequences end to end: A 0, C 1, G 2, T 3, what is not known 4.
    offsets
        Where each sequence starts in ``codes``, and the end: one more than sequences.
    seed, epoch
        Together they decide the draw.
    least
        Tokens of the shortest piece; ``None`` is 5 for overlapping k-mers, else 20.
    full_share
        Share of the pieces that are drawn as long as the context allows.

    Returns
    -------
    The pieces, in the order of the DNA. No token in them is unknown.

    Raises
    ------
    TypeError, ValueError
        If codes and offsets are none, not one piece is left, or ``least`` and ``full_share`` make
        no sense.

    Examples
    --------
    >>> import numpy as np
    >>> import glm
    >>> codes = np.random.default_rng(0).integers(0, 4, 10_000).astype(np.uint8)
    >>> pieces = glm.train.dna_sentences(
    ...     glm.models.KmerVocabulary(6), codes, np.array([0, 10_000]), epoch=3
    ... )
    >>> int(pieces.lengths.max())
    512
    """
    overlapping = isinstance(vocabulary, KmerVocabulary) and vocabulary.stride == 1
    most = vocabulary.n_tokens_read
    if least is None:
        least = min(_LEAST_KMERS if overlapping else _LEAST_PAIRS, most)
    if not 1 <= least <= most or not 0 <= full_share <= 1:
        raise ValueError(
            f"least is {least} and full_share {full_share}; expected 1 to {most:,} tokens (what "
            f"the context of {vocabulary.name} holds) and a share from 0 to 1."
        )
    known, stretches = known_stretches(codes, offsets)
    tokens, token_offsets, _ = vocabulary.encode(known, stretches)
    # Neighbouring pieces of overlapping k-mers would share bases, were they not this far apart.
    gap = vocabulary.k - 1 if isinstance(vocabulary, KmerVocabulary) and overlapping else 0
    rng = np.random.default_rng((seed, epoch))
    starts, lengths = _cut(token_offsets, rng, least, most, gap=gap, full_share=full_share)
    if not starts.size:
        longest = int(np.diff(token_offsets).max(initial=0))
        raise ValueError(
            f"No piece has {least:,} tokens: the longest stretch of known bases of "
            f"{len(offsets) - 1:,} sequences has {longest:,}. Give longer sequences or a smaller "
            "least."
        )
    return _framed(vocabulary, tokens, starts, lengths)


def known_stretches(codes: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sequences end to end, parted where bases are not known.

    Returns
    -------
    codes
        uint8, the known bases alone.
    offsets
        int64, where each stretch starts among them, and the end.
    """
    check_codes(codes)
    known = codes != N
    begins = np.zeros(codes.size + 1, bool)
    begins[1:-1] = known[1:] & ~known[:-1]
    begins[check_offsets(offsets, codes.size)] = True
    begins = begins[:-1] & known
    return codes[known], np.append(np.flatnonzero(begins[known]), known.sum()).astype(np.int64)


def _cut(
    offsets: np.ndarray,
    rng: np.random.Generator,
    least: int,
    most: int,
    *,
    gap: int,
    full_share: float,
) -> tuple[np.ndarray, np.ndarray]:
    """First token and number of tokens of each piece.

    Stretches are laid end to end, each with ``gap`` places more than tokens, and so are the pieces;
    an end of a stretch inside a piece makes two of it.
    """
    wide = offsets + gap * np.arange(offsets.size)
    ends = _ends_of_pieces(int(wide[-1]), rng, least, most, gap=gap, full_share=full_share)
    edges = np.unique(np.concatenate([wide, ends]))
    starts, lengths = edges[:-1], np.diff(edges) - gap
    kept = lengths >= least
    starts, lengths = starts[kept], lengths[kept]
    stretch = np.searchsorted(wide, starts, side="right") - 1
    return starts - gap * stretch, lengths


def _ends_of_pieces(
    total: int, rng: np.random.Generator, least: int, most: int, *, gap: int, full_share: float
) -> np.ndarray:
    """Where pieces end below ``total``; of the first one a random part stands before 0."""
    expected = full_share * most + (1 - full_share) * (least + most) / 2 + gap
    found, reached = [], -int(rng.integers(0, most + gap))
    while reached < total:
        n = int((total - reached) / expected * 1.05) + 16
        lengths = rng.integers(least, most + 1, n)
        lengths[rng.random(n) < full_share] = most
        found.append(reached + np.cumsum(lengths + gap))
        reached = int(found[-1][-1])
    ends = np.concatenate(found) if found else np.empty(0, np.int64)
    return ends[(ends > 0) & (ends < total)]


def _framed(
    vocabulary: DnaVocabulary, tokens: np.ndarray, starts: np.ndarray, lengths: np.ndarray
) -> Sentences:
    """Pieces end to end, each between its two special tokens."""
    offsets = np.concatenate([[0], np.cumsum(lengths + 2)]).astype(np.int64)
    framed = np.empty(offsets[-1], np.int32)
    framed[offsets[:-1]] = vocabulary.special["cls"]
    framed[offsets[1:] - 1] = vocabulary.special["eos"]
    inside = np.ones(framed.size, bool)
    inside[offsets[:-1]] = inside[offsets[1:] - 1] = False
    ends = np.cumsum(lengths)
    places = np.arange(lengths.sum()) + np.repeat(starts - (ends - lengths), lengths)
    framed[inside] = tokens[places]
    return Sentences(framed, offsets)
