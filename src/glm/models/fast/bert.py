"""The BERT encoder for inference: no padding, no layer that is not asked for, no copy of weights.

Sentences stand end to end. Everything but attention works on that one array, in chunks that stay in
the cache; attention takes one sentence at a time. Two sets of kernels compute the same thing:

``torch``
    ``linear`` and ``scaled_dot_product_attention``, on any device.
``onednn``
    Matrix products by oneDNN on the CPU. PyTorch sends float32 products to MKL, which uses half of
    the vector width on AMD processors with AVX-512; oneDNN uses all of it (measured on one core of
    a Zen 5: 240 against 108 GFLOP/s), so ``auto`` takes it there. oneDNN compiles a kernel for each
    shape it meets (about 1 ms), so rows and keys are rounded up to a multiple of 32, and the few
    keys too many are switched off by a bias of minus infinity.

In bfloat16 the matrix products and the attention weights are of that type; the hidden state that
runs through the layers (the residual stream) and the LayerNorms stay float32, and so does the
highest layer where only position 0 is asked for. Processors with bfloat16 products (AVX-512 BF16,
AMX) make twice as many of them as of float32, and there oneDNN is taken on all of them.

Measured and left out: prepacked weights (2–5% over plain ones, for a second copy of them), queries,
keys and values in one product (3%, again for a copy), blocks of 512 queries or chunks of 1,024 rows
(no faster), and budgets above 8 thousand tokens (no faster, and they cost memory).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..bert import Bert, Layer, check_hidden_layer
from .products import float32_pays, onednn_product, onednn_works, torch_product

_CHUNK = 512  # rows of a linear layer at a time: input and output stay in the cache
_QUERIES = 256  # queries at a time: a block of scores of 2,048 keys is 2 MB
_ROUND = 32
# Below so many tokens other ways are faster than blocks of ours: the stock attention in float32,
# products of all heads at once in bfloat16 (2.1 times the stock one at 130 tokens of 12 heads).
_SHORT = {torch.float32: 160, torch.bfloat16: 384}


Visit = Callable[[int, Tensor], None]
"""Is told the index of a hidden state and shown it, tokens × width."""


class PackedBert:
    """Inference with a :class:`~glm.models.bert.Bert` on sentences put end to end.

    Gives what the plain encoder gives in evaluation mode, whatever mode it is in, and changes
    neither it nor any setting of torch.

    Parameters
    ----------
    bert
        The encoder. Its weights are used, not copied, unless they have to move to ``device``.
    device
        Where to compute; ``None`` is where the weights are.
    dtype
        Type of the matrix products: ``torch.float32``, or ``torch.bfloat16``, for which the linear
        layers' weights are copied, at half their size.
    kernels
        ``"torch"``, ``"onednn"``, or ``"auto"``: oneDNN on processors where it is known to pay.
    """

    def __init__(
        self,
        bert: Bert,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
        kernels: Literal["auto", "torch", "onednn"] = "auto",
    ) -> None:
        if dtype not in (torch.float32, torch.bfloat16):
            raise ValueError(f"dtype is {dtype}, expected torch.float32 or torch.bfloat16.")
        if kernels not in ("auto", "torch", "onednn"):
            raise ValueError(f"kernels is {kernels!r}, expected 'auto', 'torch' or 'onednn'.")
        wrong = {p.dtype for p in bert.parameters()} - {torch.float32}
        if wrong:
            raise ValueError(f"the encoder holds {wrong.pop()} weights, expected torch.float32.")
        here = bert.embeddings.token.weight.device
        self.device = here if device is None else torch.device(device)
        # "cuda" names the current device: the same as "cuda:0" only if that is the current one.
        if torch.empty(0, device=self.device).device != here:
            bert = copy.deepcopy(bert).to(self.device)
        self.bert = bert
        self.dtype = dtype
        self._layers = [_in_precision(layer, dtype) for layer in cast(list[Layer], bert.layers)]
        self.config = bert.config
        n_heads = bert.config.n_heads
        self._heads = (n_heads, bert.config.hidden_size // n_heads)
        works = self.device.type == "cpu" and onednn_works(dtype)
        if kernels == "onednn" and not works:
            raise RuntimeError(
                f"kernels='onednn' with {dtype} needs a CPU and a PyTorch whose oneDNN has it."
            )
        auto = kernels == "auto" and works and (dtype == torch.bfloat16 or float32_pays())
        self.kernels = "onednn" if kernels == "onednn" or auto else "torch"

    def hidden(
        self,
        tokens: Tensor,
        lengths: Sequence[int],
        *,
        layer: int,
        first_only: bool = False,
        visit: Visit | None = None,
    ) -> Tensor:
        """Compute the hidden states of packed sentences at one layer.

        Parameters
        ----------
        tokens
            Token ids of all sentences, end to end. Positions count from 0 in each sentence.
        lengths
            Tokens of each sentence, at least 1.
        layer
            Index from 0 (embeddings) to ``n_layers``; no layer above it is computed.
        first_only
            Return position 0 of each sentence only. The highest layer then costs next to nothing.
        visit
            Is shown each hidden state that a layer reads, from 0, before that layer runs. It must
            not change or keep it.

        Returns
        -------
        float32, tokens × ``hidden_size``, or sentences × ``hidden_size`` with ``first_only``.
        """
        lengths = [int(n) for n in lengths]
        self._check(tokens, lengths, layer)
        starts = list(accumulate(lengths, initial=0))
        rows = -(-starts[-1] // _ROUND) * _ROUND
        # Made outside inference mode, so that the caller may train on what is returned.
        hidden = torch.zeros(rows, self.config.hidden_size, device=self.device)
        first = torch.empty(len(lengths) if first_only else 0, hidden.shape[1], device=self.device)
        with torch.inference_mode(), torch.autocast(self.device.type, enabled=False):
            self._embed(hidden, tokens.to(self.device), starts)
            n_full = max(layer - 1, 0) if first_only else layer
            if n_full:
                work = _Workspace(rows, *self._heads, dtype=self.dtype, device=self.device)
                for index, plain in enumerate(self._layers[:n_full]):
                    if visit is not None:
                        visit(index, hidden[: starts[-1]])
                    self._layer(plain, hidden, work, starts)
            if first_only:
                first.copy_(hidden[starts[:-1]])
                if layer:
                    highest = cast(Layer, self.bert.layers[layer - 1])
                    first.copy_(self._first(highest, hidden, first, starts))
        return first if first_only else hidden[: starts[-1]]

    def _check(self, tokens: Tensor, lengths: list[int], layer: int) -> None:
        check_hidden_layer(layer, self.config)
        whole = tokens.dtype in (torch.int32, torch.int64)
        if tokens.ndim != 1 or not whole or tokens.numel() != sum(lengths):
            raise ValueError(
                f"tokens is {tokens.dtype} of shape {tuple(tokens.shape)}, expected int32 or int64 "
                f"of shape ({sum(lengths)},), the sum of lengths."
            )
        if not lengths or min(lengths) < 1 or max(lengths) > self.config.n_positions:
            raise ValueError(
                f"lengths go from {min(lengths, default=0)} to {max(lengths, default=0)}, expected "
                f"1 to {self.config.n_positions}, the positions of the model: leave out empty "
                "sentences and shorten long ones."
            )
        low, high = (int(x) for x in torch.aminmax(tokens))
        if low < 0 or high >= self.config.vocab_size:
            raise ValueError(
                f"token ids go from {low} to {high}, but the vocabulary has "
                f"{self.config.vocab_size} tokens: use the vocabulary that belongs to the weights."
            )

    def _embed(self, hidden: Tensor, tokens: Tensor, starts: list[int]) -> None:
        embeddings = self.bert.embeddings
        shift = embeddings.position.weight + embeddings.token_type.weight[0]
        for start, stop in pairwise(starts):
            summed = F.embedding(tokens[start:stop], embeddings.token.weight)
            summed += shift[: stop - start]
            hidden[start:stop] = _norm(summed, embeddings.norm)

    def _layer(self, layer: Layer, hidden: Tensor, work: _Workspace, starts: list[int]) -> None:
        linear, attend = _KERNELS[self.kernels]
        attention, scale = layer.attention, self._heads[1] ** -0.5
        step = _CHUNK if self.device.type == "cpu" else len(hidden)
        chunks = [slice(i, min(i + step, len(hidden))) for i in range(0, len(hidden), step)]
        for chunk in chunks:
            here = hidden[chunk].to(self.dtype)
            work.query[:, chunk] = work.by_head(linear(here, attention.query, None).mul_(scale))
            work.key[:, chunk] = work.by_head(linear(here, attention.key, None))
            work.value[:, chunk] = work.by_head(linear(here, attention.value, None))
        for alike in _runs(starts):
            attend(work, alike)
        for chunk in chunks:
            mixed = work.query[:, chunk].transpose(0, 1).flatten(1)
            hidden[chunk] = self._finish(layer, hidden[chunk], mixed, linear)

    def _first(self, layer: Layer, hidden: Tensor, first: Tensor, starts: list[int]) -> Tensor:
        """Compute a layer at position 0 of each sentence, without keys or values.

        A score is q·(Kx + b) = (Kᵀq)·x + q·b, whose last term is the same for all keys and so
        drops out of the softmax; the mean of values is V(mean of x) + b.
        """
        attention, heads = layer.attention, self._heads
        query = _linear_torch(first, attention.query, None).unflatten(1, heads)
        key, value = (part.weight.unflatten(0, heads) for part in (attention.key, attention.value))
        query = torch.einsum("shd,hdw->shw", query * self._heads[1] ** -0.5, key)
        mean = torch.empty_like(query)
        for i, (start, stop) in enumerate(pairwise(starts)):
            here = hidden[start:stop]
            mean[i] = torch.softmax(query[i] @ here.T, dim=-1) @ here
        mixed = torch.einsum("shw,hdw->shd", mean, value).flatten(1) + attention.value.bias
        return self._finish(layer, first, mixed, _linear_torch)

    def _finish(self, layer: Layer, hidden: Tensor, mixed: Tensor, linear: _Linear) -> Tensor:
        """Compute what follows attention, for any rows."""
        middle = _norm(hidden + linear(mixed, layer.attention.output, None), layer.attention_norm)
        wide = linear(middle.to(mixed.dtype), layer.up, self.config.activation)
        return _norm(middle.add_(linear(wide, layer.down, None)), layer.norm)


class _Run(NamedTuple):
    """Neighbouring sentences of one length: the first row, their length, how many."""

    start: int
    length: int
    number: int


class _Workspace:
    """Queries, keys and values of one layer, heads × rows × head size; used again by the next.

    Each head's rows are contiguous, as oneDNN's fast kernels need them. There are some rows to
    spare, so that the rounded-up last sentence stays inside. The result of attention takes the
    place of the queries.
    """

    def __init__(
        self, rows: int, n_heads: int, head_size: int, *, dtype: torch.dtype, device: torch.device
    ) -> None:
        shape = (3, n_heads, rows + _ROUND, head_size)
        self.query, self.key, self.value = torch.zeros(shape, dtype=dtype, device=device)

    def by_head(self, rows: Tensor) -> Tensor:
        """Look at rows × width as heads × rows × head size."""
        return rows.unflatten(1, (len(self.query), -1)).transpose(0, 1)


_Linear = Callable[[Tensor, nn.Linear, str | None], Tensor]
_Attend = Callable[[_Workspace, _Run], None]


def _in_precision(layer: Layer, dtype: torch.dtype) -> Layer:
    """The layer, or its twin that has copies of the linear maps in another type, nothing else."""
    if dtype == torch.float32:
        return layer
    linears = [module for module in layer.modules() if isinstance(module, nn.Linear)]
    instead = {id(p): p for p in layer.parameters()}
    for p in (p for linear in linears for p in linear.parameters()):
        instead[id(p)] = nn.Parameter(p.detach().to(dtype), requires_grad=False)
    return copy.deepcopy(layer, instead)


def _norm(rows: Tensor, norm: nn.LayerNorm) -> Tensor:
    return F.layer_norm(rows, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def _linear_torch(rows: Tensor, linear: nn.Linear, activation: str | None) -> Tensor:
    return torch_product(rows, linear.weight, linear.bias, activation)


def _linear_onednn(rows: Tensor, linear: nn.Linear, activation: str | None) -> Tensor:
    return onednn_product(rows, linear.weight, linear.bias, activation)


def _runs(starts: list[int]) -> list[_Run]:
    """Put neighbours of one length together, for one call instead of many."""
    runs: list[_Run] = []
    for start, stop in pairwise(starts):
        if runs and runs[-1].length == stop - start:
            runs[-1] = runs[-1]._replace(number=runs[-1].number + 1)
        else:
            runs.append(_Run(start, stop - start, 1))
    return runs


def _attend_torch(work: _Workspace, run: _Run) -> None:
    query, key, value = (
        part[:, run.start : run.start + run.number * run.length]
        .unflatten(1, (run.number, run.length))
        .transpose(0, 1)
        for part in (work.query, work.key, work.value)
    )
    query.copy_(F.scaled_dot_product_attention(query, key, value, scale=1.0))


def _attend_onednn(work: _Workspace, run: _Run) -> None:
    short = run.length < _SHORT[work.query.dtype]
    if short and work.query.dtype == torch.float32:
        _attend_torch(work, run)
        return
    n_keys = -(-run.length // _ROUND) * _ROUND
    off = work.query.new_zeros(n_keys)
    off[run.length :] = float("-inf")
    for i in range(run.number):
        start = run.start + i * run.length
        here = slice(start, start + n_keys)
        parts = work.query[:, here], work.key[:, here], work.value[:, here]
        if short:
            _attend_heads(*parts, run.length, off)
            continue
        for query, key, value in zip(*parts, strict=True):
            _attend_head(query, key, value, run.length, off)


def _attend_heads(query: Tensor, key: Tensor, value: Tensor, length: int, off: Tensor) -> None:
    """All heads of a sentence at once; rows beyond it stay as they are."""
    scores = torch.baddbmm(off, query[:, :length], key.transpose(1, 2))
    torch.softmax(scores, dim=-1, out=scores)
    query[:, :length] = torch.bmm(scores, value)


def _attend_head(query: Tensor, key: Tensor, value: Tensor, length: int, off: Tensor) -> None:
    # A sentence of two blocks is rather one: its scores are 1 MB at most, and it is 6% faster.
    step = 2 * _QUERIES if length <= 2 * _QUERIES else _QUERIES
    for i in range(0, length, step):
        scores = onednn_product(query[i : i + step], key, off)
        torch.softmax(scores, dim=-1, out=scores)
        # Rows beyond the sentence belong to the next one and stay as they are.
        n_queries = min(step, length - i)
        query[i : i + n_queries] = onednn_product(scores, value.T, None)[:n_queries]


_KERNELS: dict[str, tuple[_Linear, _Attend]] = {
    "torch": (_linear_torch, _attend_torch),
    "onednn": (_linear_onednn, _attend_onednn),
}
