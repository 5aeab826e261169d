"""What a vocabulary of bases looks like: its tokens' lengths, GC shares and frequencies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

_BASES = frozenset("ACGT")


def vocabulary_table(
    pieces: Sequence[str], tokens: NDArray[np.integer] | None = None
) -> pd.DataFrame:
    """Statistics of a vocabulary, and of how a sequence uses it.

    Specials and pieces with other letters than A, C, G, T are left out; so frequencies are shares
    of the tokens that are bases.

    Parameters
    ----------
    pieces
        Texts by id: ``BytePairs.pieces``, or what :func:`~glm.encode.kmer_pieces` returns.
    tokens
        Tokens of some sequence by id, as :meth:`BytePairs.apply() <glm.encode.BytePairs.apply>`
        gives; ``None`` leaves out the columns about use. Takes one pass over them.

    Returns
    -------
    A DataFrame, one row a token in the order of ids:

    ``token``
        Its text.
    ``id``
        int64.
    ``length``
        int64, bases.
    ``gc``
        float64, share of G and C among its bases.
    ``count``, ``frequency``, ``share_of_bases``
        int64 and float64: how often it is in the sequence, as a share of all tokens, and the share
        of the sequence's bases that stand in it. NaN where there is no token at all.

    Raises
    ------
    ValueError
        If a token is no id of the vocabulary.

    Examples
    --------
    >>> table = vocabulary_table(["[UNK]", "A", "C", "AC"], np.array([3, 3, 1, 0, 3]))
    >>> table[["token", "length", "count", "frequency"]].values.tolist()
    [['A', 1, 1, 0.25], ['C', 1, 0, 0.0], ['AC', 2, 3, 0.75]]
    """
    import pandas as pd

    ids = np.array([i for i, p in enumerate(pieces) if p and set(p) <= _BASES], np.int64)
    texts = [pieces[i] for i in ids]
    lengths = np.array([len(text) for text in texts], np.int64)
    strong = np.array([text.count("G") + text.count("C") for text in texts], np.int64)
    table = pd.DataFrame({"token": texts, "id": ids, "length": lengths, "gc": strong / lengths})
    if tokens is None:
        return table
    table["count"] = _count(np.asarray(tokens), len(pieces))[ids]
    for column, amounts in (
        ("frequency", table["count"]),
        ("share_of_bases", table["count"] * lengths),
    ):
        table[column] = amounts / (amounts.sum() or np.nan)
    return table


def _count(tokens: NDArray[np.integer], n: int) -> NDArray[np.int64]:
    if tokens.size and (tokens.min() < 0 or tokens.max() >= n):
        raise ValueError(
            f"Tokens go from {tokens.min()} to {tokens.max()}; the vocabulary has ids 0 to {n - 1}."
        )
    return np.bincount(tokens, minlength=n).astype(np.int64)
