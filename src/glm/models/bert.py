"""The plain BERT encoder that Geneformer, DNABERT and GROVER share.

Post-LN, absolute positions, one linear map each for queries, keys and values. Everything here is
differentiable and written to be read; :mod:`glm.models.fast.bert` runs the same weights faster.

Hidden states are counted from 0, the output of the embeddings, to ``n_layers``, the last layer.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .config import BertConfig
from .dropout_attention import WORTHWHILE, attend_with_dropout

__all__ = ["Bert", "BertConfig", "MaskedLM"]

# gelu is the exact one, by erf.
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "gelu": F.gelu}


class Bert(nn.Module):
    """A BERT encoder without pooler: token ids to hidden states."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.n_layers))
        self.recompute = False
        """Whether a layer's activations are computed again for its gradient instead of kept."""
        _initialise(self, config)

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, *, hidden_layer: int | None = None
    ) -> Tensor:
        """Compute one hidden state, and no layer above it.

        Parameters
        ----------
        tokens
            Token ids, batch × length. Positions count from 0 in each row; all are of type 0.
        mask
            Boolean, batch × length, True for real tokens; ``None`` takes every token as real.
            States of real tokens do not depend on what stands under False. A row without any
            real token is NaN throughout; the other rows are not touched by it.
        hidden_layer
            Index from 0 (embeddings) to ``n_layers``; ``None`` is the last.

        Returns
        -------
        Batch × length × ``hidden_size``. Rows at masked positions carry no meaning.
        """
        last = self.config.n_layers if hidden_layer is None else hidden_layer
        check_hidden_layer(last, self.config)
        hidden, attend = self._embed(tokens, mask)
        for layer in self.layers[:last]:
            hidden = self._through(layer, hidden, attend)
        return hidden

    def hidden_states(self, tokens: Tensor, mask: Tensor | None = None) -> list[Tensor]:
        """Compute all ``n_layers + 1`` hidden states, embeddings first (see :meth:`forward`)."""
        hidden, attend = self._embed(tokens, mask)
        states = [hidden]
        for layer in self.layers:
            states.append(self._through(layer, states[-1], attend))
        return states

    def _through(self, layer: nn.Module, hidden: Tensor, attend: Tensor | None) -> Tensor:
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(layer, hidden, attend, use_reentrant=False)
        return layer(hidden, attend)

    def _embed(self, tokens: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        _check_tokens(tokens, mask, self.config)
        hidden = self.embeddings(tokens)
        if mask is None:
            return hidden, None
        # Attention over nothing has no value: say so, rather than return something finite.
        empty = ~mask.any(dim=1)
        hidden = hidden.masked_fill(empty[:, None, None], float("nan"))
        return hidden, mask[:, None, None, :]


class Embeddings(nn.Module):
    """Token + position + type, then LayerNorm and dropout."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.token = _table(config.vocab_size, config.hidden_size, padding=config.pad_token)
        self.position = _table(config.n_positions, config.hidden_size)
        self.token_type = _table(config.n_token_types, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Embed a batch of token ids."""
        summed = (
            self.token(tokens) + self.token_type.weight[0] + self.position.weight[: tokens.shape[1]]
        )
        return self.dropout(self.norm(summed))


class Layer(nn.Module):
    """Self-attention and a two-layer perceptron, each added to its input and then normalised."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.attention = SelfAttention(config)
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.up = nn.Linear(config.hidden_size, config.intermediate_size)
        self.down = nn.Linear(config.intermediate_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.dropout)
        self._activation = _ACTIVATIONS[config.activation]

    def forward(self, hidden: Tensor, attend: Tensor | None) -> Tensor:
        """Map hidden states to those of the next layer; ``attend`` is True for keys to look at."""
        attended = self.dropout(self.attention(hidden, attend))
        hidden = self.attention_norm(hidden + attended)
        mapped = self.dropout(self.down(self._activation(self.up(hidden))))
        return self.norm(hidden + mapped)


class SelfAttention(nn.Module):
    """Multi-head attention with its output map."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)
        self.output = nn.Linear(config.hidden_size, config.hidden_size)
        self.n_heads = config.n_heads
        self.dropout = config.attention_dropout

    def forward(self, hidden: Tensor, attend: Tensor | None) -> Tensor:
        """Let every position look at the positions where ``attend`` is True."""
        query, key, value = (
            linear(hidden).unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
            for linear in (self.query, self.key, self.value)
        )
        dropout = self.dropout if self.training else 0.0
        lengths = _lengths(query, attend) if dropout and query.device.type == "cpu" else None
        if lengths is None:
            mixed = F.scaled_dot_product_attention(query, key, value, attend, dropout_p=dropout)
        else:
            mixed = attend_with_dropout(query, key, value, lengths, dropout)
        return self.output(mixed.transpose(1, 2).flatten(2))


def _lengths(query: Tensor, attend: Tensor | None) -> list[int] | None:
    """Real tokens of each row, if they come first and are many enough to be worth it."""
    rows, length = query.shape[0], query.shape[2]
    if length <= WORTHWHILE:
        return None
    if attend is None:
        return [length] * rows
    real = attend[:, 0, 0]
    return real.sum(dim=1).tolist() if bool((real[:, 1:] <= real[:, :-1]).all()) else None


class MaskedLM(nn.Module):
    """An encoder with the head that predicts tokens; its decoder is the token embedding."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        self.bert = Bert(config)
        self.head = MaskedLMHead(config)
        _initialise(self.head, config)

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, *, positions: Tensor | None = None
    ) -> Tensor:
        """Compute logits over the vocabulary.

        Parameters
        ----------
        tokens, mask
            As for :meth:`Bert.forward`.
        positions
            int64, places in the flattened batch where logits are wanted; ``None`` is everywhere.
            The decoder is most of the cost of a small model, so ask for the masked tokens only.

        Returns
        -------
        Batch × length × ``vocab_size``, or positions × ``vocab_size``.
        """
        hidden = self.bert(tokens, mask)
        if positions is not None:
            if positions.dtype != torch.int64 or positions.ndim != 1:
                raise ValueError(
                    f"positions is {positions.dtype} of shape {tuple(positions.shape)}, "
                    "expected int64 places in the flattened batch."
                )
            hidden = hidden.flatten(0, 1)[positions]
        return self.head(hidden, self.bert.embeddings.token.weight)


class MaskedLMHead(nn.Module):
    """Dense, activation, LayerNorm, then the tied decoder with its own bias."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        self._activation = _ACTIVATIONS[config.activation]

    def forward(self, hidden: Tensor, decoder: Tensor) -> Tensor:
        """Map hidden states to logits with ``decoder``, vocabulary × ``hidden_size``."""
        return F.linear(self.norm(self._activation(self.dense(hidden))), decoder, self.bias)


def check_hidden_layer(index: int, config: BertConfig) -> None:
    """Refuse an index that is not a hidden state of this encoder."""
    if not 0 <= index <= config.n_layers:
        raise ValueError(
            f"hidden layer {index} does not exist: this encoder has 0 (embeddings) to "
            f"{config.n_layers} (last)."
        )


def _check_tokens(tokens: Tensor, mask: Tensor | None, config: BertConfig) -> None:
    if tokens.ndim != 2:
        raise ValueError(f"tokens has shape {tuple(tokens.shape)}, expected batch × length.")
    if tokens.shape[1] > config.n_positions:
        raise ValueError(
            f"a row has {tokens.shape[1]} tokens, but the model has {config.n_positions} "
            "positions: shorten or split the input."
        )
    if mask is not None and (mask.dtype != torch.bool or mask.shape != tokens.shape):
        raise ValueError(
            f"mask is {mask.dtype} of shape {tuple(mask.shape)}, expected a boolean tensor of "
            f"shape {tuple(tokens.shape)}, True for real tokens."
        )


def _table(rows: int, width: int, *, padding: int | None = None) -> nn.Embedding:
    # Unlike the constructor, this draws no weights, which `_initialise` would draw once more.
    return nn.Embedding.from_pretrained(torch.empty(rows, width), freeze=False, padding_idx=padding)


@torch.no_grad()
def _initialise(root: nn.Module, config: BertConfig) -> None:
    if next(root.parameters()).is_meta:
        return  # shapes only, to be filled from a file; normal_ there would import half of torch
    for module in root.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            module.weight.normal_(0.0, config.initializer_range)
        if isinstance(module, nn.Linear):
            module.bias.zero_()
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            module.weight[module.padding_idx].zero_()
