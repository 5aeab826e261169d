"""What the models begin with: plain facts about their tokens, and heads that look at neighbours.

With a few million tokens a run would otherwise be spent on finding out which bases a token holds
and where its neighbours stand. So some coordinates of the token table say what a token is, others
of the position table where it stands, and six heads of the first layers look at the tokens beside
and hand over what they say. Everything else is random, and all of it is trained.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from glm.models.bert import Bert, MaskedLM, SelfAttention

N_FREQUENCIES = 16
_PERIODS = (2000.0, 500.0, 120.0, 40.0)  # the slowest; the others are drawn, and are below
_HANDED_OVER, _SHARPNESS = 0.6, 1.4


@dataclass(frozen=True, eq=False)
class Start:
    """What a token table says, and what is handed from neighbour to neighbour.

    ``facts`` is tokens × coordinates, zero for special tokens. ``moves`` has for each head how many
    tokens away it looks, and the matrix (coordinates × coordinates) that turns what the neighbour
    says of itself into what it says of the token that asks. ``layers`` do so one after the other.
    ``position`` is the height of the waves that tell a place, ``noise`` the spread of all else.
    """

    facts: np.ndarray
    moves: tuple[tuple[int, np.ndarray], ...]
    layers: int
    position: float
    noise: float


def kmer_start(letters: np.ndarray, n_special: int) -> Start:
    """k-mers: which base stands at each place; what is a neighbour's place is the token's other.

    ``letters`` is k-mers × k, the base at each place as a number from 0 to 3.
    """
    k = letters.shape[1]
    known = 0.6 * ((letters[:, :, None] == np.arange(4)) - 0.25)
    facts = np.concatenate([np.zeros((n_special, 4 * k)), known.reshape(len(letters), -1)])
    moves = []
    for offset in (-3, -2, -1, 1, 2, 3):
        place = np.eye(k, k=-offset)  # from the neighbour's place p to the token's place p + offset
        moves.append((offset, np.kron(place, np.eye(4))))
    return Start(facts, tuple(moves), 2, position=0.3, noise=0.06)


def pair_start(tokens: np.ndarray, offsets: np.ndarray, n_tokens: int, n_special: int) -> Start:
    """Byte pairs: how often a token stands left and right of every other, in 16 + 16 coordinates.

    The logarithm of observed over expected counts of neighbours is factored; its left factors say
    what a token makes of the one after it, the right ones what it is made of by the one before it.
    """
    inside = np.ones(tokens.size, bool)
    inside[offsets[1:-1]] = False  # the first of a stretch has no left neighbour
    left, right = tokens[:-1][inside[1:]], tokens[1:][inside[1:]]
    counts = np.bincount(left.astype(np.int64) * n_tokens + right, minlength=n_tokens**2) + 0.5
    table = counts.reshape(n_tokens, n_tokens)[n_special:, n_special:]
    expected = table.sum(1, keepdims=True) * table.sum(0, keepdims=True) / table.sum()
    u, s, v = np.linalg.svd(np.log(table / expected))
    half = 16
    sign = np.sign(u[np.abs(u[:, :half]).argmax(axis=0), np.arange(half)])
    after, before = u[:, :half] * sign * np.sqrt(s[:half]), v[:half].T * sign * np.sqrt(s[:half])
    facts = np.zeros((n_tokens, 2 * half))
    facts[n_special:] = 0.05 * np.concatenate([before, after], axis=1) / after.std()
    to_before, to_after = np.zeros((2, 2 * half, 2 * half))
    to_before[:half, half:] = np.eye(half)  # the left neighbour's "after" speaks of my "before"
    to_after[half:, :half] = np.eye(half)
    moves = ((-1, to_before), (1, to_after))
    return Start(facts, moves, 1, position=0.1, noise=0.02)


@torch.no_grad()
def begin(network: MaskedLM, start: Start, counts: np.ndarray, seed: int) -> None:
    """Put a start into a network of random weights; ``counts`` (one a token) make the bias."""
    rng = np.random.default_rng(seed)
    bert, width = network.bert, network.config.hidden_size
    n_facts = start.facts.shape[1]
    table = rng.normal(0.0, start.noise, (len(start.facts), width))
    table[:, n_facts : n_facts + 2 * N_FREQUENCIES] = 0.0
    table[:, :n_facts] += start.facts
    table[network.config.pad_token] = 0.0
    bert.embeddings.token.weight.copy_(torch.from_numpy(table))
    network.head.bias.copy_(torch.from_numpy(np.log(counts / counts.sum())))
    network.head.dense.weight[:n_facts, :n_facts] += torch.eye(n_facts)
    frequencies = _frequencies(rng)
    _tell_positions(bert, start.position * _waves(bert, frequencies), n_facts)
    for layer in list(bert.layers)[: start.layers]:
        for head, (offset, matrix) in enumerate(start.moves):
            _look_beside(layer.attention, head, offset, matrix, frequencies)


def _frequencies(rng: np.random.Generator) -> np.ndarray:
    drawn = np.sort(rng.uniform(0.02, np.pi, N_FREQUENCIES))
    drawn[: len(_PERIODS)] = 2 * np.pi / np.array(_PERIODS)
    return drawn


def _waves(bert: Bert, frequencies: np.ndarray) -> np.ndarray:
    """Positions as cosines and sines, so that a turn leads from one to any other."""
    angle = np.arange(bert.config.n_positions)[:, None] * frequencies
    return np.concatenate([np.cos(angle), np.sin(angle)], axis=1)


def _tell_positions(bert: Bert, waves: np.ndarray, first: int) -> None:
    table = bert.embeddings.position.weight
    table.zero_()
    table[:, first : first + waves.shape[1]] = _tensor(waves)


def _look_beside(
    attention: SelfAttention, head: int, offset: int, matrix: np.ndarray, frequencies: np.ndarray
) -> None:
    """Let a head look ``offset`` tokens to the right and add ``matrix`` @ what that token says."""
    n_facts, n_waves = matrix.shape[0], 2 * frequencies.size
    size = attention.query.out_features // attention.n_heads
    rows, waves = slice(head * size, head * size + n_waves), slice(n_facts, n_facts + n_waves)
    cosine, sine = np.diag(np.cos(frequencies * offset)), np.diag(np.sin(frequencies * offset))
    turn = np.block([[cosine, -sine], [sine, cosine]])
    attention.query.weight[rows, waves] += _SHARPNESS * _tensor(turn)
    attention.key.weight[rows, waves] += torch.eye(n_waves)
    said = slice(head * size, head * size + n_facts)
    attention.value.weight[said, :n_facts] += torch.eye(n_facts)
    attention.output.weight[:n_facts, said] += _HANDED_OVER * _tensor(matrix)


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values).float()
