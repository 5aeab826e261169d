"""k-mers: bases to tokens in the order of DNABERT's vocabularies, and back.

The specials stand first (``[PAD]`` 0, ``[UNK]`` 1, ``[CLS]`` 2, ``[SEP]`` 3, ``[MASK]`` 4), then
every k-mer in the order of the product over **A, T, C, G**. A k-mer that holds a base which is not
known is ``[UNK]``. No special is written here: a model's vocabulary adds its own.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

from . import _kmer_kernels as kernels

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LETTERS = "ATCG"
"""The order of the vocabulary, which is not the order of the codes."""

_LONGEST = 8
_CODE_OF_RANK = np.array([0, 3, 1, 2, 4], np.uint8)


def kmer_pieces(k: int) -> list[str]:
    """Every token's text, in the order of their ids.

    Parameters
    ----------
    k
        Bases of a token, 1 to 8.

    Returns
    -------
    5 + 4**k texts: 69, 261, 1029 and 4101 for k = 3 to 6.

    Raises
    ------
    ValueError
        If ``k`` is not within 1 to 8.

    Examples
    --------
    >>> kmer_pieces(3)[4:8]
    ['[MASK]', 'AAA', 'AAT', 'AAC']
    """
    return [*SPECIAL, *("".join(letters) for letters in product(LETTERS, repeat=_check_k(k)))]


def kmer_tokens(codes: NDArray[np.uint8], k: int, *, stride: int = 1) -> NDArray[np.integer]:
    """Tokens of one sequence; see :func:`kmer_tokens_many`, which this calls.

    Parameters
    ----------
    codes
        uint8, one a base: A 0, C 1, G 2, T 3, what is not known 4 (:func:`glm.bases.to_codes`).
    k
        Bases of a token, 1 to 8.
    stride
        Bases from one token's start to the next: 1 overlaps, ``k`` does not.

    Returns
    -------
    uint16 (int32 for k = 8), one a k-mer: ``(n - k) // stride + 1`` of n bases, none if n < k.

    Raises
    ------
    TypeError, ValueError
        As :func:`kmer_tokens_many`.

    Examples
    --------
    >>> from glm.bases import to_codes
    >>> kmer_tokens(to_codes("AATCNA"), 3).tolist()
    [6, 11, 1, 1]
    """
    return kmer_tokens_many(codes, np.array([0, len(codes)]), k, stride=stride)[0]


def kmer_tokens_many(
    codes: NDArray[np.uint8], offsets: NDArray[np.integer], k: int, *, stride: int = 1
) -> tuple[NDArray[np.integer], NDArray[np.int64]]:
    """Tokens of many sequences that stand end to end.

    Sequences do not touch: no k-mer reaches from one into the next, and each has the tokens that it
    would have alone. One that is shorter than k has none. Without overlap, up to ``stride - 1``
    bases at the end of a sequence are in no token; :func:`~glm.encode.bases_lost` counts them.

    Costs two bytes a token beside the codes, and one pass: some thousand million bases a second and
    core with ``stride`` 1.

    Parameters
    ----------
    codes
        uint8, one a base: A 0, C 1, G 2, T 3, what is not known 4.
    offsets
        Where each sequence starts in ``codes``, and the end: one more than sequences.
    k
        Bases of a token, 1 to 8.
    stride
        Bases from one token's start to the next: 1 overlaps, ``k`` does not.

    Returns
    -------
    tokens
        uint16 (int32 for k = 8), end to end.
    offsets
        int64, where each sequence starts in ``tokens``, and the end.

    Raises
    ------
    TypeError
        If ``codes`` are not uint8.
    ValueError
        If ``k`` is not within 1 to 8, ``stride`` not within 1 to k, codes are above 4, or offsets
        do not rise from 0 to the number of bases.

    Examples
    --------
    >>> from glm.bases import to_codes
    >>> tokens, offsets = kmer_tokens_many(to_codes("AATCAAAA"), np.array([0, 4, 8]), 3)
    >>> tokens.tolist(), offsets.tolist()
    ([6, 11, 5, 5], [0, 2, 4])
    """
    _check_k(k)
    if not 1 <= stride <= k:
        raise ValueError(f"stride is {stride}; expected 1 (overlapping) to k = {k} (no overlap).")
    check_codes(codes)
    starts = check_offsets(offsets, len(codes))
    lengths = np.diff(starts)
    n_tokens = int(np.where(lengths < k, 0, (lengths - k) // stride + 1).sum())
    dtype: type[np.integer] = np.uint16 if k < _LONGEST else np.int32
    tokens = np.empty(n_tokens, dtype)
    token_offsets = np.empty(len(starts), np.int64)
    if stride == 1:
        kernels.overlapping(codes, starts, k, tokens, token_offsets)
    else:
        kernels.strided(codes, starts, k, stride, tokens, token_offsets)
    return tokens, token_offsets


def kmer_spans(offsets: NDArray[np.integer], k: int, *, stride: int = 1) -> NDArray[np.int32]:
    """The bases that each token covers, from the tokens' own offsets.

    Parameters
    ----------
    offsets
        Where each sequence starts among the tokens, and the end, as :func:`kmer_tokens_many` gives.
    k
        Bases of a token.
    stride
        Bases from one token's start to the next.

    Returns
    -------
    int32, tokens × 2: start and end (half-open) within each sequence.

    Examples
    --------
    >>> kmer_spans(np.array([0, 2, 3]), 3).tolist()
    [[0, 3], [1, 4], [0, 3]]
    """
    starts = np.asarray(offsets, np.int64)
    n_tokens = np.diff(starts)
    first = (np.arange(starts[-1]) - np.repeat(starts[:-1], n_tokens)) * stride
    return np.stack([first, first + _check_k(k)], axis=1).astype(np.int32)


def kmer_text(tokens: NDArray[np.integer], k: int, *, stride: int = 1) -> str:
    """The text of one sequence's tokens.

    Around a base that is not known k overlapping tokens are ``[UNK]``, and the known ones beside
    them still tell all other bases. N stands where no known token covers a base; so runs of N come
    back with their length, and a base that only ``[UNK]`` covers (at an end of the sequence, or
    between two N that are closer than k) is N too. Specials other than ``[UNK]`` are refused.

    Parameters
    ----------
    tokens
        Tokens of one sequence, without ``[CLS]``, ``[SEP]`` and ``[PAD]``.
    k
        Bases of a token, 1 to 8.
    stride
        Bases from one token's start to the next.

    Returns
    -------
    Upper-case text of ``(n - 1) * stride + k`` letters for n tokens, empty for none.

    Raises
    ------
    ValueError
        If a token is none of k bases, or two that overlap contradict each other.

    Examples
    --------
    >>> kmer_text(np.array([6, 11]), 3)
    'AATC'
    """
    from ..bases import to_text

    _check_k(k)
    numbers = np.asarray(tokens).astype(np.int64)
    wrong = ((numbers < kernels.N_SPECIAL) & (numbers != kernels.UNKNOWN)) | (
        numbers >= kernels.N_SPECIAL + 4**k
    )
    if wrong.any():
        first = int(wrong.argmax())
        raise ValueError(
            f"Token {first} is {numbers[first]}, which is no {k}-mer: expected [UNK] (1) or 5 to "
            f"{4**k + 4}. Take specials out first."
        )
    if not len(numbers):
        return ""
    ranks = np.empty((len(numbers) - 1) * stride + k, np.uint8)
    clash = kernels.join(numbers, k, stride, ranks)
    if clash >= 0:
        raise ValueError(
            f"Token {clash} ({numbers[clash]}) contradicts the tokens before it, which it overlaps "
            f"by {k - stride} bases: these are not the tokens of one sequence with stride {stride}."
        )
    return to_text(np.take(_CODE_OF_RANK, ranks))


def _check_k(k: int) -> int:
    if not 1 <= k <= _LONGEST:
        raise ValueError(f"k is {k}; expected 1 to {_LONGEST} bases (DNABERT has 3 to 6).")
    return k


def check_codes(codes: NDArray[np.uint8]) -> None:
    """Refuse what is no array of codes."""
    if not isinstance(codes, np.ndarray) or codes.dtype != np.uint8 or codes.ndim != 1:
        kind = getattr(codes, "dtype", type(codes).__name__)
        raise TypeError(
            f"codes are {kind} of shape {np.shape(codes)}; expected a uint8 array of one dimension "
            "(glm.bases.to_codes makes it from text)."
        )
    if codes.size and codes.max() > 4:
        first = int((codes > 4).argmax())
        raise ValueError(
            f"codes[{first}] is {codes[first]}; expected A 0, C 1, G 2, T 3 and 4 for what is not "
            "known (glm.bases.to_codes makes them from text)."
        )


def check_offsets(offsets: NDArray[np.integer] | None, n: int) -> NDArray[np.int64]:
    """The offsets as int64, of one sequence by default; refuse others than from 0 up to ``n``."""
    found = np.array([0, n]) if offsets is None else np.asarray(offsets)
    if found.ndim != 1 or not len(found) or not np.issubdtype(found.dtype, np.integer):
        raise ValueError("offsets are no array of whole numbers: expected one more than sequences.")
    if found[0] != 0 or found[-1] != n or (np.diff(found) < 0).any():
        raise ValueError(
            f"offsets go from {found[0]} to {found[-1]}; expected them to rise from 0 to {n:,}, "
            "the number of values they divide."
        )
    return found.astype(np.int64)
