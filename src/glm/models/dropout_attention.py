"""Self-attention with dropout on a CPU, for training, in pieces that stay in the cache.

Torch has no fast kernel for this: with dropout it writes down the scores, the weights and the mask
of every pair of tokens, padding included, and keeps them for the way back (some 7 GB for four cells
of 2,048 tokens in six layers of four heads). Here a block of queries of one head of one sentence is
done at a time, and done again on the way back; only the places of dropped weights are kept. They
are drawn as the gaps between them, a draw for each dropped weight and not for each pair. On one
core, forward and backward of 2,048 tokens take half the time, and padding takes none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_QUERIES = 256  # at a time: with 2,048 keys, 2 MB of scores
WORTHWHILE = 256  # tokens; shorter rows are no slower in one piece


def attend_with_dropout(
    query: Tensor, key: Tensor, value: Tensor, lengths: Sequence[int], dropout: float
) -> Tensor:
    """Scaled dot-product attention among the first tokens of each row, with dropped weights.

    Parameters
    ----------
    query, key, value
        Batch × heads × length × width, on the CPU.
    lengths
        Real tokens of each row; the rows' results beyond are 0.
    dropout
        Probability with which a weight is left out (the others grow in turn), 0 to 1.

    Returns
    -------
    As ``query``. Draws come from torch's generator. Softmax is in float32, products are in the
    precision of the input.
    """
    return _Attend.apply(query, key, value, list(lengths), dropout)


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, lengths: list[int], dropout: float
    ) -> Tensor:
        query = query * query.shape[-1] ** -0.5
        out = torch.zeros_like(query)
        dropped: list[Tensor] = []
        with torch.autocast("cpu", enabled=False):
            for row, head, keys, block in _blocks(query, lengths):
                weights = _weights(query[row, head, block], key[row, head, keys])
                places = _draw(weights.numel(), dropout)
                weights.view(-1)[places] = 0.0
                kept = weights.to(value.dtype)
                torch.mm(kept, value[row, head, keys], out=out[row, head, block])
                dropped.append(places)
        out.mul_(1 / (1 - dropout))
        ctx.save_for_backward(query, key, value, out, *dropped)
        ctx.lengths, ctx.dropout = lengths, dropout
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        query, key, value, out, *dropped = ctx.saved_tensors
        (gradient,) = gradients
        # What a query's weights lose together by the softmax.
        shared = (gradient * out).float().sum(dim=-1, keepdim=True)
        gradient = gradient * (1 / (1 - ctx.dropout))
        to_query, to_key, to_value = (
            torch.zeros(part.shape, dtype=torch.float32) for part in (query, key, value)
        )
        with torch.autocast("cpu", enabled=False):
            for (row, head, keys, block), places in zip(
                _blocks(query, ctx.lengths), dropped, strict=True
            ):
                queries, seen = query[row, head, block], key[row, head, keys]
                above = gradient[row, head, block]
                weights = _weights(queries, seen)
                to_scores = torch.mm(above, value[row, head, keys].T).float()
                to_scores.view(-1)[places] = 0.0
                to_scores.sub_(shared[row, head, block]).mul_(weights)
                weights.view(-1)[places] = 0.0
                _add_product(to_value[row, head, keys], weights.T, above)
                _add_product(to_key[row, head, keys], to_scores.T, queries)
                _add_product(to_query[row, head, block], to_scores, seen)
        to_query *= query.shape[-1] ** -0.5
        return (*(part.to(query.dtype) for part in (to_query, to_key, to_value)), None, None)


def _blocks(query: Tensor, lengths: list[int]) -> list[tuple[int, int, slice, slice]]:
    """Row, head, its real tokens, and some of them at a time."""
    return [
        (row, head, slice(0, length), slice(start, min(start + _QUERIES, length)))
        for row, length in enumerate(lengths)
        for head in range(query.shape[1])
        for start in range(0, length, _QUERIES)
    ]


def _weights(queries: Tensor, keys: Tensor) -> Tensor:
    scores = torch.mm(queries, keys.T).float()
    return torch.softmax(scores, dim=-1, out=scores)


def _add_product(into: Tensor, left: Tensor, right: Tensor) -> None:
    if right.dtype == torch.float32:
        into.addmm_(left, right)
    else:
        into += torch.mm(left.to(right.dtype), right)


def _draw(n: int, share: float) -> Tensor:
    """Places among ``n``, each with probability ``share`` and none depending on another."""
    found = torch.empty(0, dtype=torch.int64)
    last = -1
    while share and last < n:
        expected = (n - last) * share
        gaps = torch.empty(int(expected + 6 * math.sqrt(expected) + 16)).geometric_(share)
        found = torch.cat([found, gaps.long().cumsum(0) + last])
        last = int(found[-1])
    return found[: int(torch.searchsorted(found, n))]
