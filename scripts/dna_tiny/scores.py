"""What the models say of hidden bases: bits per base, with nothing of them to be seen."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from dna_tiny.baselines import SPAN
from dna_tiny.places import Places
from glm.models import KmerVocabulary, Model
from glm.models.dna_vocabulary import DnaVocabulary
from glm.train import Sentences

POWERS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
_BATCH = 16


def base_distributions(model: Model, places: Places) -> dict[str, np.ndarray]:
    """Log-probabilities of A, C, G and T at each hidden place: float64, places × 4, by way."""
    if isinstance(model.vocabulary, KmerVocabulary):
        return _of_kmers(model, model.vocabulary, places)
    return _to_powers("alleles", _of_alleles(model, places))


def _of_kmers(model: Model, vocabulary: KmerVocabulary, places: Places) -> dict[str, np.ndarray]:
    """All k tokens over a base are hidden, and each of them is asked.

    Of one token's logits four count: those of the k-mers that have the other bases, which can be
    read beside the hidden tokens, in their places. A softmax over these four is a distribution of
    the hidden base. ``place 0`` to ``place k - 1`` are those of the token in which the base has
    that place; ``mean`` is the mean of their logarithms, to a power, normalised again.
    """
    k = vocabulary.k
    tokens = _encode(vocabulary, places.codes)
    rank = _ranks(places.codes)
    first = places.hidden[:, :, None] - k + 1 + np.arange(k)  # the k tokens over each hidden base
    said = []
    for rows, logits in _masked(model, tokens, first):
        starts = first[rows]  # pieces × places × k
        hidden = np.broadcast_to(places.hidden[rows][:, :, None], starts.shape)
        weight = 4 ** (k - 1 - (hidden - starts))  # of the hidden base in the number of its k-mer
        token = tokens[rows][np.arange(len(starts))[:, None, None], starts]
        own = rank[rows][np.arange(len(starts))[:, None, None], hidden]
        base = token - own * weight  # the k-mer with the hidden base as the first in the order
        # Tokens are in the order A, T, C, G; what is returned in the order A, C, G, T.
        ids = base[..., None] + np.array([0, 2, 3, 1]) * weight[..., None]
        four = np.take_along_axis(logits, ids.reshape(-1, 4), axis=1)
        said.append(_log_softmax(four).reshape(-1, k, 4))
    each = np.concatenate(said)  # places × tokens × bases; the first token ends with the base
    ways = {f"place {k - 1 - i}": each[:, i] for i in range(k)}
    return ways | _to_powers("mean", each.mean(axis=1))


def _to_powers(name: str, likely: np.ndarray) -> dict[str, np.ndarray]:
    """Distributions made more or less sure of themselves: logarithms × a power, normalised."""
    return {
        name if power == 1 else f"{name} to the power {power:g}": _log_softmax(power * likely)
        for power in POWERS
    }


def span_bits(model: Model, places: Places) -> np.ndarray:
    """Bits of spans of six bases: float64, one a place. k-mers of six only.

    Every token that touches the span is hidden (eleven); the one over exactly the span gives the
    probability of all its bases at once, special tokens left out.
    """
    vocabulary = model.vocabulary
    assert isinstance(vocabulary, KmerVocabulary)
    assert vocabulary.k == SPAN
    tokens = _encode(vocabulary, places.codes)
    touched = places.hidden[:, :, None] + np.arange(-SPAN + 1, SPAN)
    n_special = len(vocabulary.special)
    bits = []
    for rows, logits in _masked(model, tokens, touched):
        whole = logits.reshape(-1, touched.shape[2], logits.shape[1])[:, SPAN - 1, n_special:]
        truth = np.take_along_axis(tokens[rows], places.hidden[rows], axis=1).ravel() - n_special
        said = _log_softmax(whole.astype(np.float64))
        bits.append(-said[np.arange(truth.size), truth] / np.log(2))
    return np.concatenate(bits)


def _of_alleles(model: Model, places: Places) -> np.ndarray:
    """Each of the four bases is put in its place and the piece cut into tokens anew.

    Tokens that differ between the four are hidden in all of them, and with them those over the
    place: what is left to see says nothing of the base. A base's weight is the product of the
    probabilities of the hidden tokens around it; the four are normalised.
    """
    vocabulary, special = model.vocabulary, model.vocabulary.special
    total = np.empty((*places.hidden.shape, 4))
    for piece, hidden in enumerate(places.hidden):
        alleles = [_with(places.codes[piece], hidden, base) for base in range(4)]
        encoded = [vocabulary.encode(codes, np.array([0, codes.size])) for codes in alleles]
        spans = hidden_spans([found[2] for found in encoded], hidden)
        for base, (tokens, _, where) in enumerate(encoded):
            asked = np.flatnonzero(_within(where, spans))
            shown = tokens.astype(np.int64)
            shown[asked] = special["mask"]
            framed = np.concatenate([[special["cls"]], shown, [special["eos"]]])
            logits = _logits(model, framed[None], asked + 1)
            said = _log_softmax(logits)[np.arange(asked.size), tokens[asked]]
            middle = where[asked].mean(axis=1)
            nearest = np.abs(middle[:, None] - hidden - 0.5).argmin(axis=1)
            total[piece, :, base] = np.bincount(nearest, weights=said, minlength=hidden.size)
    return _log_softmax(total.reshape(-1, 4))


def _within(where: np.ndarray, spans: np.ndarray) -> np.ndarray:
    """bool, one a token: whether one of the spans holds it."""
    of = np.minimum(np.searchsorted(spans[:, 1], where[:, 0], side="right"), len(spans) - 1)
    return (where[:, 0] >= spans[of, 0]) & (where[:, 1] <= spans[of, 1])


def _with(codes: np.ndarray, hidden: np.ndarray, base: int) -> np.ndarray:
    changed = codes.copy()
    changed[hidden] = base
    return changed


def hidden_spans(cuts: list[np.ndarray], hidden: np.ndarray) -> np.ndarray:
    """The smallest spans around the hidden bases at whose ends all four are cut alike.

    Parameters
    ----------
    cuts
        Of each of the four, tokens × 2: the bases that each token covers.
    hidden
        Places of the hidden bases, rising.

    Returns
    -------
    spans × 2, half-open, apart from each other, and outside them the four have the same tokens.
    """
    common = cuts[0][:, 0]
    for other in cuts[1:]:
        common = np.intersect1d(common, other[:, 0])
    edges = np.append(common, cuts[0][-1, 1])
    # A stretch between common edges differs if its tokens do, or holds a hidden base.
    differs = np.zeros(edges.size - 1, bool)
    differs[np.searchsorted(edges, hidden, side="right") - 1] = True
    for found in cuts:
        stretch = np.searchsorted(edges, found[:, 0], side="right") - 1
        differs |= np.bincount(stretch, minlength=differs.size) > 1
    return np.stack([edges[:-1][differs], edges[1:][differs]], axis=1)


# ---- plumbing ------------------------------------------------------------------------------------


def _encode(vocabulary: DnaVocabulary, codes: np.ndarray) -> np.ndarray:
    """int64, pieces × tokens, for vocabularies that make as many of every piece."""
    offsets = np.arange(len(codes) + 1) * codes.shape[1]
    return vocabulary.encode(codes.ravel(), offsets)[0].reshape(len(codes), -1).astype(np.int64)


def _ranks(codes: np.ndarray) -> np.ndarray:
    """Codes A 0, C 1, G 2, T 3 → places in DNABERT's order, A, T, C, G."""
    return np.array([0, 2, 3, 1])[codes]


def _masked(
    model: Model, tokens: np.ndarray, asked: np.ndarray
) -> Iterator[tuple[slice, np.ndarray]]:
    """Hide the asked tokens of each piece; rows, and logits of the asked ones in their order."""
    special = model.vocabulary.special
    for first in range(0, len(tokens), _BATCH):
        rows = slice(first, first + _BATCH)
        shown = tokens[rows].copy()
        flat = asked[rows].reshape(len(shown), -1)
        np.put_along_axis(shown, flat, special["mask"], axis=1)
        framed = np.pad(shown, ((0, 0), (1, 1)), constant_values=special["cls"])
        framed[:, -1] = special["eos"]
        places = np.arange(len(shown))[:, None] * framed.shape[1] + flat + 1
        yield rows, _logits(model, framed, places.ravel())


def _logits(model: Model, tokens: np.ndarray, positions: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        found = model.network(torch.from_numpy(tokens), positions=torch.from_numpy(positions))
    return found.float().numpy()


def _log_softmax(values: np.ndarray) -> np.ndarray:
    values = values.astype(np.float64)
    return values - np.logaddexp.reduce(values, axis=-1, keepdims=True)


def bits_of(log_likely: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Bits of the true bases: float64, one a place."""
    return -log_likely[np.arange(truth.size), truth.ravel()] / np.log(2)


def framed_pieces(vocabulary: DnaVocabulary, codes: np.ndarray) -> Sentences:
    """Sentences of pieces (uint8, pieces × bases), one each, with ``[CLS]`` and ``[SEP]``."""
    special = vocabulary.special
    tokens, starts, _ = vocabulary.encode(codes.ravel(), np.arange(len(codes) + 1) * codes.shape[1])
    parts = np.split(tokens, starts[1:-1])
    framed = [np.concatenate([[special["cls"]], part, [special["eos"]]]) for part in parts]
    ends = np.cumsum([part.size for part in framed])
    return Sentences(np.concatenate(framed), np.concatenate([[0], ends]).astype(np.int64))
