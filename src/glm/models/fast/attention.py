"""Attention between chosen tokens, read on the way through the packed encoder.

The usual way asks a model for all attentions and gets layers × heads × length²: 5 GB for one cell
of 4,096 tokens in a model of 12 layers and 12 heads, and no fast kernel to compute them with. Here
the packed encoder runs as it does for embeddings. Beside it, in the layers that are asked for, the
scores of the chosen tokens alone are computed again, one head and one block of queries at a time,
and added up. No layer above the highest that is asked for runs, of that one only the queries and
keys, and no sentence without a chosen token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from ..bert import Layer
from .bert import PackedBert

_QUERIES = {"cpu": 256, "cuda": 4_096}  # at a time; a graphics card would rather have them all


class AttentionProbe:
    """Run sentences and return what chosen tokens give of their attention to others.

    Parameters
    ----------
    packed
        The encoder.
    is_query, is_key
        One truth value a token of the vocabulary: whether the attention of it, and to it, is
        wanted.
    layers
        Layers to average over, 1 (the one that makes hidden state 1) to ``n_layers``.
    heads
        Heads to average over, from 0; ``None`` is all of them.
    scale_by_length
        Multiply by the tokens of the sentence: 1 is then what even attention would give.
    """

    def __init__(
        self,
        packed: PackedBert,
        is_query: Tensor,
        is_key: Tensor,
        *,
        layers: Sequence[int],
        heads: Sequence[int] | None = None,
        scale_by_length: bool = False,
    ) -> None:
        config = packed.config
        self.packed = packed
        self.layers = check_numbers("layers", layers, 1, config.n_layers)
        n_heads = config.n_heads
        self.heads = check_numbers(
            "heads", range(n_heads) if heads is None else heads, 0, n_heads - 1
        )
        for name, flags in (("is_query", is_query), ("is_key", is_key)):
            if flags.dtype != torch.bool or flags.shape != (config.vocab_size,):
                raise ValueError(
                    f"{name} is {flags.dtype} of shape {tuple(flags.shape)}, expected one truth "
                    f"value for each of {config.vocab_size} tokens."
                )
        self._is_query, self._is_key = is_query.to(packed.device), is_key.to(packed.device)
        self._scale_by_length = scale_by_length

    def hidden(
        self, tokens: Tensor, lengths: Sequence[int], *, layer: int, first_only: bool = False
    ) -> Tensor:
        """Compute attention weights, the mean over the layers and heads.

        Parameters
        ----------
        tokens, lengths
            As for :meth:`PackedBert.hidden <glm.models.fast.bert.PackedBert.hidden>`.
        layer
            The highest of ``layers``.
        first_only
            False.

        Returns
        -------
        float32, one axis: of each sentence in turn its queries × its keys, both in their order in
        the sentence, row by row.
        """
        if layer != self.layers[-1] or first_only:
            raise ValueError(
                f"layer={layer}, first_only={first_only}; expected the highest of the layers, "
                f"{self.layers[-1]}, and all positions."
            )
        tokens = tokens.to(self.packed.device)
        found = _find(tokens, list(lengths), self._is_query, self._is_key)
        if not found.sentences:
            return found.flat

        def visit(index: int, hidden: Tensor) -> None:
            if index + 1 in self.layers:
                self._add(index, hidden, found.sentences)

        read = [sentence.length for sentence in found.sentences]
        highest = self.packed.hidden(found.tokens, read, layer=layer - 1, visit=visit)
        with torch.inference_mode(), torch.autocast(self.packed.device.type, enabled=False):
            visit(layer - 1, highest)
            for sentence in found.sentences:
                scale = sentence.length if self._scale_by_length else 1
                sentence.sums.mul_(scale / (len(self.layers) * len(self.heads)))
        return found.flat

    def _add(self, index: int, hidden: Tensor, sentences: list[_Sentence]) -> None:
        """Add the weights of one layer, from the hidden states that it reads."""
        attention = cast(Layer, self.packed.bert.layers[index]).attention
        size = self.packed.config.hidden_size // self.packed.config.n_heads
        step = _QUERIES[self.packed.device.type]
        for sentence in sentences:
            states = hidden[sentence.start : sentence.start + sentence.length].float()
            wanted = states[sentence.queries]
            for head in self.heads:
                part = slice(head * size, (head + 1) * size)
                key = F.linear(states, attention.key.weight[part], attention.key.bias[part])
                query = F.linear(wanted, attention.query.weight[part], attention.query.bias[part])
                query *= size**-0.5
                for i in range(0, len(query), step):
                    scores = query[i : i + step] @ key.T
                    torch.softmax(scores, dim=-1, out=scores)
                    sentence.sums[i : i + step] += scores[:, sentence.keys]


class _Sentence(NamedTuple):
    """Where a sentence stands, the places of its queries and keys, and its sums (a view)."""

    start: int
    length: int
    queries: Tensor
    keys: Tensor | slice
    sums: Tensor


class _Found(NamedTuple):
    """The sums of a batch, end to end; the sentences that have any, and their tokens."""

    flat: Tensor
    sentences: list[_Sentence]
    tokens: Tensor


def _find(tokens: Tensor, lengths: list[int], is_query: Tensor, is_key: Tensor) -> _Found:
    """Find the queries and keys of each sentence. One without either need not run at all."""
    parts = [part.long() for part in tokens.split(lengths)]
    places = [(is_query[part].nonzero()[:, 0], is_key[part].nonzero()[:, 0]) for part in parts]
    sizes = [len(queries) * len(keys) for queries, keys in places]
    # Made outside inference mode, as every result of an executor.
    flat = torch.zeros(sum(sizes), device=tokens.device)
    sentences, start = [], 0
    for length, (queries, keys), sums in zip(lengths, places, flat.split(sizes), strict=True):
        if sums.numel():
            square = sums.view(len(queries), len(keys))
            sentences.append(_Sentence(start, length, queries, _as_slice(keys), square))
            start += length
    read = [part for part, size in zip(parts, sizes, strict=True) if size]
    return _Found(flat, sentences, torch.cat(read) if read else tokens[:0])


def _as_slice(places: Tensor) -> Tensor | slice:
    """A run of places as a slice, which needs no copy."""
    first, last = int(places[0]), int(places[-1])
    return slice(first, last + 1) if last - first + 1 == len(places) else places


def check_numbers(name: str, numbers: Sequence[int], lowest: int, highest: int) -> tuple[int, ...]:
    """Different whole numbers from ``lowest`` to ``highest``, in order."""
    found = sorted(set(numbers))
    if not found or found[0] < lowest or found[-1] > highest:
        raise ValueError(
            f"{name} are {list(numbers)}, expected at least one, from {lowest} to {highest}."
        )
    return tuple(found)
