"""Which samples of a table of tracks are called nearly like a cell type."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

LEAST = 0.3
"""Score below which a sample is called something else."""

_ALIKE = 0.8  # of difflib's ratio: a word that is misspelt, or another form of it
_REMOTE = 0.6
_WORD = r"[^\W_]+"
_PLURAL = r"(?<=[^\W_]{3})(?<!s)s$"


def words_of(text: str) -> list[str]:
    """The words of a name: runs of letters and digits, lower case, without the s of a plural."""
    return [re.sub(_PLURAL, "", word) for word in re.findall(_WORD, text.casefold())]


def nearness(samples: pd.Series, name: str, *, remote: bool = False) -> NDArray[np.float64]:
    """Score samples by the words they share with a name, from 0 to 1.

    A word counts for ``log(1 + n / k)``, where ``k`` of ``n`` samples have it: "cell" hardly
    counts. The score is the shared words' weight over the weight of all words of either. A word
    that no sample has is read as the nearest one that some have, if :mod:`difflib` finds one.

    Parameters
    ----------
    samples
        Names of samples; the same name gets the same score.
    name
        What to look for.
    remote
        Read such a word as up to three, less alike: enough to suggest, not to choose.

    Returns
    -------
    As many scores as samples.
    """
    import pandas as pd

    codes, unique = pd.factorize(samples)
    found = pd.Series(unique, dtype=object).str.casefold().str.findall(_WORD).explode().dropna()
    found = found.str.replace(_PLURAL, "", regex=True)
    pairs = pd.DataFrame({"sample": found.index, "word": found.to_numpy()}).drop_duplicates()
    weight = np.log1p(len(unique) / pairs["word"].value_counts())
    wanted = {known for word in words_of(name) for known in _known(word, weight.index, remote)}
    pairs["weight"] = pairs["word"].map(weight)
    total = sum(float(weight.get(word, np.log1p(len(unique)))) for word in wanted)
    own = _summed(pairs, len(unique))
    shared = _summed(pairs[pairs["word"].isin(wanted)], len(unique))
    either = own + total - shared
    score = np.divide(shared, either, out=np.zeros_like(shared), where=either > 0)
    return score[codes]


def nearest(samples: pd.Series, name: str) -> NDArray[np.bool_]:
    """Which samples are nearest to a name: the best score, then the most alike in their letters.

    Returns
    -------
    As many as samples; all ``False`` where none reaches :data:`LEAST`.
    """
    score = nearness(samples, name)
    best = score >= max(LEAST, score.max(initial=0.0) - 1e-9)
    if samples[best].nunique() > 1:
        likeness = {sample: _likeness(sample, name) for sample in samples[best].unique()}
        best &= (samples.map(likeness) == max(likeness.values())).to_numpy()
    return best


def suggestions(samples: pd.Series, name: str, n: int = 3) -> list[str]:
    """The names of the ``n`` nearest samples, the nearest first; none that share nothing."""
    unique = samples.drop_duplicates()
    score = nearness(unique, name, remote=True)
    order = np.argsort(-score, kind="stable")[:n]
    return [str(unique.iloc[i]) for i in order if score[i] > 0]


def _known(word: str, vocabulary: pd.Index, remote: bool) -> list[str]:
    if word in vocabulary:
        return [word]
    n, cutoff = (3, _REMOTE) if remote else (1, _ALIKE)
    return difflib.get_close_matches(word, vocabulary, n=n, cutoff=cutoff) or [word]


def _summed(pairs: pd.DataFrame, n: int) -> NDArray[np.float64]:
    summed = np.zeros(n)
    np.add.at(summed, pairs["sample"].to_numpy("int64"), pairs["weight"].to_numpy("float64"))
    return summed


def _likeness(sample: str, name: str) -> float:
    one, other = " ".join(words_of(sample)), " ".join(words_of(name))
    return difflib.SequenceMatcher(None, one, other).ratio()
