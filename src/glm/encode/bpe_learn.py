"""Learning byte pairs from a genome: the most frequent pair becomes a token, again and again."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .._progress import progress_bar
from . import _bpe_learn_kernels as kernels
from .kmer import check_codes, check_offsets

_LETTERS = "ACGT"
_MOST_MERGES = 20_000  # their counts take 3 GB


def learn_merges(
    codes: NDArray[np.uint8],
    n_merges: int,
    *,
    offsets: NDArray[np.integer] | None = None,
    min_count: int = 1,
) -> list[tuple[str, str]]:
    """Learn byte pairs, as GROVER's vocabulary was learnt from hg19 :cite:p:`sanabria2024`.

    Each cycle counts all neighbouring tokens (of AAAA the pair AA three times), takes the most
    frequent pair, and merges it everywhere from the left on. **Ties** go to the pair whose left
    token is the older, then to the older right one (A, C, G, T, then the merges in their order).
    Bases that are not known and the ends of sequences divide the text. This is the textbook
    algorithm, and the result is that of the ``tokenizers`` library's trainer on one word.

    Counts are kept from cycle to cycle and corrected where something was merged, so a cycle is one
    pass over the tokens, in place. Costs one byte a base and ``8 * n_merges**2`` bytes: 600 cycles
    on 4.6 million bases take about a second and 8 MB; for hg19 five to ten minutes and 3 GB beside
    the codes (extrapolated from 50 million bases, on one core). It can be interrupted between
    cycles.

    Parameters
    ----------
    codes
        uint8, one a base: A 0, C 1, G 2, T 3, what is not known 4. They are not changed.
    n_merges
        Cycles: 600 for GROVER.
    offsets
        Where each sequence starts in ``codes``, and the end; ``None`` is one sequence.
    min_count
        Stop, with fewer merges, when the most frequent pair is rarer than this.

    Returns
    -------
    Pairs of pieces in the order they were merged, at most ``n_merges``; see
    :meth:`BytePairs.from_merges() <glm.encode.BytePairs.from_merges>`.

    Raises
    ------
    TypeError
        If ``codes`` are not uint8.
    ValueError
        If codes are above 4, offsets do not rise from 0 to the number of bases, ``n_merges`` is not
        within 0 to 20,000, or ``min_count`` is below 1.

    Examples
    --------
    >>> from glm.bases import to_codes
    >>> learn_merges(to_codes("ACACGTACGN"), 2)
    [('A', 'C'), ('AC', 'G')]
    """
    check_codes(codes)
    starts = check_offsets(offsets, len(codes))
    if not 0 <= n_merges <= _MOST_MERGES:
        raise ValueError(f"n_merges is {n_merges:,}; expected 0 to {_MOST_MERGES:,} cycles.")
    if min_count < 1:
        raise ValueError(f"min_count is {min_count}; expected 1 or more.")
    room = np.empty(len(codes) + len(starts), np.uint8)
    tokens: NDArray[np.unsignedinteger] = room[: kernels.place_borders(codes, starts, room)]
    first_new = len(_LETTERS) + 1
    counts = _count(tokens, first_new + n_merges)
    pieces = ["", *_LETTERS]
    merges: list[tuple[str, str]] = []
    with progress_bar(n_merges, "merges", "Learning byte pairs") as advance:
        for new in range(first_new, first_new + n_merges):
            left, right, count = kernels.choose_pair(counts, new)
            if count < min_count:
                break
            if new > np.iinfo(tokens.dtype).max:
                tokens = _widen(tokens, room)
            tokens = tokens[: kernels.merge_pair(tokens, left, right, new, counts)]
            merges.append((pieces[left], pieces[right]))
            pieces.append(pieces[left] + pieces[right])
            advance(1)
    return merges


def _widen(
    tokens: NDArray[np.unsignedinteger], room: NDArray[np.uint8]
) -> NDArray[np.unsignedinteger]:
    """The tokens as uint16, in the room they are in: by now they fill less than half of it.

    (Unless the text was short; then they take new room.)
    """
    if 2 * len(tokens) > len(room):
        return tokens.astype(np.uint16)
    wide = room[: 2 * len(tokens)].view(np.uint16)
    kernels.widen(tokens, wide)
    return wide


def _count(tokens: NDArray[np.unsignedinteger], size: int) -> kernels.Counts:
    pairs = np.zeros((size, size), np.int64)
    kernels.count_pairs(tokens, pairs)
    return kernels.Counts(pairs, np.ones(size, np.int64), np.ones(size, np.bool_))
