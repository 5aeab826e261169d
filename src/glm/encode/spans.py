"""Which bases tokens cover: trimming the flank, and what a cut tail loses."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

_Trimmed = tuple[NDArray[np.integer], NDArray[np.int64], NDArray[np.int32]]


def trim(
    tokens: NDArray[np.integer],
    offsets: NDArray[np.integer],
    spans: NDArray[np.integer],
    *,
    left: ArrayLike = 0,
    right: ArrayLike = 0,
    lengths: ArrayLike | None = None,
) -> _Trimmed:
    """Keep the tokens of a region that was read with flank on both sides.

    Byte pairs near the end of a sequence differ from those that the same bases have inside a longer
    one, so a region is read with some bases more (100 for GROVER), and trimmed afterwards. The
    rule: **a token belongs to the region if it overlaps it by at least one base**. A token that
    lies across the border is kept whole; its span is cut at the border, so that spans never leave
    the region and a mean over bases weighs such a token by its bases within.

    Parameters
    ----------
    tokens
        Tokens of all sequences, end to end.
    offsets
        Where each sequence starts among the tokens, and the end.
    spans
        tokens × 2: the bases that each token covers (half-open), from 0 in each sequence.
    left, right
        Bases of flank at the two ends; one number, or one a sequence. (Less than was asked for
        where the contig ended: then these are what is really there.)
    lengths
        Bases of each sequence; ``None`` takes the end of its last token, which is right for all
        but k-mers that do not overlap.

    Returns
    -------
    tokens
        The kept ones, end to end.
    offsets
        int64, where each sequence starts among them, and the end.
    spans
        int32, tokens × 2, from 0 at the first base of the region.

    Raises
    ------
    ValueError
        If the flank is negative or longer than its sequence, or the arrays do not fit each other.

    Examples
    --------
    >>> spans = np.array([[0, 2], [2, 5], [5, 6], [6, 9]])
    >>> tokens, offsets, spans = trim(np.arange(4), np.array([0, 4]), spans, left=3, right=3)
    >>> tokens.tolist(), offsets.tolist(), spans.tolist()
    ([1, 2], [0, 2], [[0, 2], [2, 3]])
    """
    starts, n_tokens = _check(tokens, offsets, spans)
    n_rows = len(n_tokens)
    before = np.broadcast_to(np.asarray(left, np.int64), (n_rows,))
    after = np.broadcast_to(np.asarray(right, np.int64), (n_rows,))
    if lengths is None:
        ends = _last_ends(starts, spans, 0)
    else:
        ends = np.broadcast_to(np.asarray(lengths, np.int64), (n_rows,))
    stop = ends - after
    wrong = (before < 0) | (after < 0) | (before > stop)
    # A sequence without a token has no length of its own, and nothing to trim.
    wrong &= (n_tokens > 0) | (lengths is not None) | (before < 0) | (after < 0)
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f"The flank of sequence {row} is {before[row]} + {after[row]} bases and the sequence "
            f"has {ends[row]}: flank is 0 or more on each side, and within the sequence."
        )
    low, high = np.repeat(before, n_tokens), np.repeat(stop, n_tokens)
    kept = (spans[:, 0] < high) & (spans[:, 1] > low)
    token_offsets = np.concatenate([[0], np.cumsum(kept)])[starts]
    inside = np.stack([np.maximum(spans[:, 0], low), np.minimum(spans[:, 1], high)], axis=1)
    return tokens[kept], token_offsets, (inside - low[:, None])[kept].astype(np.int32)


def bases_lost(
    offsets: NDArray[np.integer],
    spans: NDArray[np.integer],
    lengths: ArrayLike,
    *,
    limit: int | None = None,
) -> NDArray[np.int64]:
    """Bases at the end of each sequence that no token covers once its tail is cut.

    Parameters
    ----------
    offsets
        Where each sequence starts among the tokens, and the end.
    spans
        tokens × 2: the bases that each token covers (half-open), from 0 in each sequence.
    lengths
        Bases of each sequence (of the region, if it was trimmed).
    limit
        Tokens of a sequence that are kept, from its first on; ``None`` keeps all.

    Returns
    -------
    int64, one a sequence: bases after the last kept token; all of them where none is kept.

    Raises
    ------
    ValueError
        If the arrays do not fit each other, or ``limit`` is negative.

    Examples
    --------
    >>> spans = np.array([[0, 4], [4, 5], [5, 9]])
    >>> bases_lost(np.array([0, 3]), spans, [9], limit=2).tolist()
    [4]
    """
    if limit is not None and limit < 0:
        raise ValueError(f"limit is {limit}; expected the number of tokens kept of a sequence.")
    starts, _ = _check(spans, offsets, spans)
    total = np.broadcast_to(np.asarray(lengths, np.int64), (len(starts) - 1,))
    return total - _last_ends(starts, spans, 0, limit)


def _check(
    tokens: NDArray[np.integer], offsets: NDArray[np.integer], spans: NDArray[np.integer]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    starts = np.asarray(offsets, np.int64)
    if spans.shape != (len(tokens), 2) or not len(starts) or starts[-1] != len(tokens):
        raise ValueError(
            f"{len(tokens):,} tokens, spans of shape {spans.shape} and offsets that end at "
            f"{starts[-1] if len(starts) else 'nothing'} do not fit: expected a span of two "
            "numbers for each token, and offsets that end with the number of tokens."
        )
    return starts, np.diff(starts)


def _last_ends(
    starts: NDArray[np.int64],
    spans: NDArray[np.integer],
    without: int,
    limit: int | None = None,
) -> NDArray[np.int64]:
    """The end of each sequence's last token, or ``without`` where there is none."""
    n_tokens = np.diff(starts)
    kept = n_tokens if limit is None else np.minimum(n_tokens, limit)
    found = np.full(len(kept), without, np.int64)
    some = kept > 0
    found[some] = spans[(starts[:-1] + kept - 1)[some], 1]
    return found
