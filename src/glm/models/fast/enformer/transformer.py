"""The transformer blocks on one sequence, the last of them only for the bins that are asked for.

Keys of positions depend on weights and length only and are kept. Scores are made for one head and
one block of queries at a time: of the positions' keys a block needs only those of its distances,
and a view with shorter rows turns scores by distance into scores by key.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...enformer import Attention, Block, Enformer
from .winograd import Product

_CHUNK = 512  # rows of a linear layer at a time


class Run(NamedTuple):
    """Neighbouring bins, from and to (exclusive)."""

    start: int
    stop: int


def runs_of(bins: Sequence[int]) -> list[Run]:
    """Put ascending, different bins together where they are neighbours."""
    breaks = [i for i, (a, b) in enumerate(pairwise(bins), start=1) if b != a + 1]
    edges = [0, *breaks, len(bins)]
    return [Run(bins[a], bins[b - 1] + 1) for a, b in pairwise(edges)] if bins else []


class FastTransformer:
    """Blocks of an Enformer.

    Parameters
    ----------
    enformer
        In float32; its weights are used, not copied.
    product
        Of two matrices.
    dtype
        Type of the products with weights and of the means of values, except those that make
        queries, keys and scores: these, the softmax, the norms and what runs through the blocks
        are float32. Those in bfloat16 too would take 2% off the whole model's time, and leave the
        worst track of a model of random weights a correlation of 0.9988 instead of 0.9997.
    queries
        At a time.
    """

    def __init__(
        self, enformer: Enformer, product: Product, *, dtype: torch.dtype, queries: int
    ) -> None:
        self._enformer, self._product = enformer, product
        self._dtype, self._queries = dtype, queries
        self._blocks = [cast(Block, block) for block in enformer.blocks]
        self._keys_of: tuple[object, list[Tensor]] = (None, [])

    def __call__(self, hidden: Tensor, bins: Sequence[int]) -> Tensor:
        """Map bins × channels, which is changed, to the asked bins × channels."""
        every = range(len(hidden))
        position_keys = self._position_keys(len(hidden))
        for block, keys in zip(self._blocks[:-1], position_keys, strict=False):
            hidden = self._through(block, hidden, keys, every)
        return self._through(self._blocks[-1], hidden, position_keys[-1], bins)

    def _position_keys(self, length: int) -> list[Tensor]:
        """Of each block, heads × 2·length × key size; the last row is only there to be even."""
        wrong = self._enformer.gamma_over_features
        if self._keys_of[0] != (length, wrong):
            features = F.pad(self._enformer.position_features(length), (0, 0, 0, 1))
            found = []
            for block in self._blocks:
                attention = block.attention
                weight = attention.position_key.weight
                keys = self._product(features.to(weight), weight, None)
                found.append(_by_head(keys, attention.n_heads).contiguous())
            self._keys_of = ((length, wrong), found)
        return self._keys_of[1]

    def _through(
        self, block: Block, hidden: Tensor, position_keys: Tensor, bins: Sequence[int]
    ) -> Tensor:
        attention = block.attention
        normed = _norm(hidden, block.attention_norm)
        key = self._linear(normed, attention.key)
        value = self._linear(normed.to(self._dtype), attention.value)
        if len(bins) < len(hidden):
            index = torch.as_tensor(list(bins), device=hidden.device)
            hidden, normed = hidden[index], normed[index]
        query = self._linear(normed, attention.query)
        mixed = self._attend(attention, query, key, value, position_keys, runs_of(bins))
        hidden += self._linear(mixed, attention.output)
        for rows in hidden.split(_CHUNK):
            wide = self._linear(_norm(rows, block.norm).to(self._dtype), block.up).relu_()
            rows += self._linear(wide, block.down)
        return hidden

    def _linear(self, rows: Tensor, linear: nn.Linear) -> Tensor:
        weight = linear.weight.detach().to(rows.dtype)
        bias = None if linear.bias is None else linear.bias.detach().to(rows.dtype)
        parts = [self._product(part, weight, bias) for part in rows.split(_CHUNK)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _attend(
        self,
        attention: Attention,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        position_keys: Tensor,
        runs: list[Run],
    ) -> Tensor:
        n_heads = attention.n_heads
        mixed = torch.empty(len(query), value.shape[1], dtype=self._dtype, device=query.device)
        query, key, value = (_by_head(x, n_heads).contiguous() for x in (query, key, value))
        query *= query.shape[-1] ** -0.5
        by_content = query + attention.content_bias[0]
        by_position = query + attention.position_bias[0]
        out = _by_head(mixed, n_heads)
        for head in range(n_heads):
            values = value[head].T
            row = 0
            for run in runs:
                for start in range(run.start, run.stop, self._queries):
                    n = min(self._queries, run.stop - start)
                    rows = slice(row, row + n)
                    scores = self._product(by_content[head, rows], key[head], None)
                    scores += self._by_key(by_position[head, rows], position_keys[head], start)
                    weights = torch.softmax(scores, dim=-1, out=scores).to(self._dtype)
                    out[head, rows] = self._product(weights, values, None)
                    row += n
        return mixed

    def _by_key(self, query: Tensor, keys: Tensor, start: int) -> Tensor:
        """Scores of the positions for neighbouring queries: row i, key j has distance j - i.

        Row 0 of the keys is distance 1 - length, and the first distance needed that of the last
        query. In the products the keys of a row begin one column earlier than those of the row
        above.
        """
        n, length = len(query), len(keys) // 2
        first = length - start - n
        by_distance = self._product(query, keys[first : first + length + n], None)
        return by_distance.as_strided((n, length), (length + n - 1, 1), n - 1)


def _by_head(rows: Tensor, n_heads: int) -> Tensor:
    """Look at rows × width as heads × rows × head size."""
    return rows.unflatten(1, (n_heads, -1)).transpose(0, 1)


def _norm(rows: Tensor, norm: nn.LayerNorm) -> Tensor:
    return F.layer_norm(rows, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
