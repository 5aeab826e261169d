"""Which token is hidden? The models' own question, against counts of neighbouring tokens."""

from __future__ import annotations

import numpy as np
import torch

from glm.models import Model
from glm.train import Sentences

SHARE = 0.15


def questions(model: Model, sentences: Sentences) -> list[tuple[np.ndarray, np.ndarray]]:
    """Sentence by sentence its tokens and the places that are hidden, the same for everyone."""
    rng = np.random.default_rng(0)
    n_special = len(model.vocabulary.special)
    found = []
    for i in range(len(sentences)):
        tokens = sentences[i].astype(np.int64)
        drawn = rng.random(tokens.size) < SHARE
        found.append((tokens, np.flatnonzero(drawn & (tokens >= n_special))))
    return found


def of_model(model: Model, asked: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, ...]:
    """Whether the hidden token is named (0 or 1), and its bits: float64, one a hidden token."""
    named, bits = [], []
    n_special = len(model.vocabulary.special)
    for tokens, places in asked:
        shown = tokens.copy()
        shown[places] = model.vocabulary.special["mask"]
        with torch.inference_mode():
            logits = (
                model.network(torch.from_numpy(shown)[None], positions=torch.from_numpy(places))[
                    :, n_special:
                ]
                .log_softmax(dim=1)
                .numpy()
            )
        truth = tokens[places] - n_special
        named.append(logits.argmax(axis=1) == truth)
        bits.append(-logits[np.arange(truth.size), truth] / np.log(2))
    return np.concatenate(named).astype(float), np.concatenate(bits).astype(float)


def of_counts(
    text: tuple[np.ndarray, np.ndarray],
    asked: list[tuple[np.ndarray, np.ndarray]],
    n_tokens: int,
    n_special: int,
    strength: float,
) -> dict[str, tuple[np.ndarray, ...]]:
    """The same of two tables counted on the text's tokens.

    Frequency alone; and the token before and the one after, each by how often the hidden one stands
    beside it (smoothed by its frequency), the two multiplied and divided by the frequency. A
    neighbour that is hidden too says nothing.
    """
    tokens, offsets = text
    first = np.zeros(tokens.size, bool)
    first[offsets[:-1][offsets[:-1] < tokens.size]] = True
    inside = ~first[1:]
    keys = tokens[:-1][inside].astype(np.int64) * n_tokens + tokens[1:][inside]
    pairs = np.bincount(keys, minlength=n_tokens**2).reshape(n_tokens, n_tokens).astype(float)
    often = np.bincount(tokens, minlength=n_tokens).astype(float)
    often[n_special:] += 1
    often /= often.sum()
    after = _log_smoothed(pairs, often, strength)
    before = _log_smoothed(pairs.T, often, strength)
    log_often = np.log(np.maximum(often, 1e-300))
    answers: dict[str, list[np.ndarray]] = {"frequency": [], "neighbours": []}
    truths = []
    for sentence, places in asked:
        hidden = np.zeros(sentence.size, bool)
        hidden[places] = True
        said = np.tile(log_often, (places.size, 1))
        answers["frequency"].append(said)
        left, right = places - 1, places + 1
        use_left = ~hidden[left] & (sentence[left] >= n_special)
        use_right = ~hidden[right] & (sentence[right] >= n_special)
        both = said.copy()
        both[use_left] += after[sentence[left[use_left]]] - log_often
        both[use_right] += before[sentence[right[use_right]]] - log_often
        answers["neighbours"].append(both)
        truths.append(sentence[places])
    truth = np.concatenate(truths)
    return {name: _scored(np.concatenate(rows), truth, n_special) for name, rows in answers.items()}


def _log_smoothed(pairs: np.ndarray, often: np.ndarray, strength: float) -> np.ndarray:
    table = (pairs + strength * often) / (pairs.sum(axis=1, keepdims=True) + strength)
    return np.log(np.maximum(table, 1e-300))


def _scored(said: np.ndarray, truth: np.ndarray, n_special: int) -> tuple[np.ndarray, ...]:
    said = said[:, n_special:]
    said = said - np.logaddexp.reduce(said, axis=1, keepdims=True)
    mine = truth - n_special
    bits = -said[np.arange(mine.size), mine] / np.log(2)
    return (said.argmax(axis=1) == mine).astype(float), bits
