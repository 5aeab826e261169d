"""The shape of a BERT encoder: numbers only, so that the registry needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real
from typing import Literal

Head = Literal["tokens", "cells", "genes", "none"]
"""What stands on an encoder: it predicts tokens, the class of a cell, classes of genes, nothing."""

Pooling = Literal["mean", "cls"]
"""How a cell's embedding is made of hidden states: the mean over its genes, or position 0."""

Task = Literal["", "classes", "multi_label", "regression", "counts", "counts_log"]
"""How outputs of a head of cells or genes are read: logits of classes of which one is right, or of
labels of which any may be; amounts; or counts, whose mean is softplus or exp of the output. ``""``
where it is not known, as in checkpoints of other tools that do not say; read as ``"classes"``."""


_WHOLE = (
    "vocab_size",
    "hidden_size",
    "n_layers",
    "n_heads",
    "intermediate_size",
    "n_positions",
    "n_token_types",
)


@dataclass(frozen=True)
class BertConfig:
    """Shape of a post-LayerNorm BERT encoder with absolute positions.

    Attributes
    ----------
    vocab_size
        Rows of the token table.
    hidden_size
        Width of a hidden state; a multiple of ``n_heads``.
    n_layers
        Transformer layers.
    n_heads
        Attention heads.
    intermediate_size
        Width of the feed-forward layer.
    n_positions
        Longest sentence in tokens, special ones included.
    activation
        ``"relu"`` (Geneformer) or ``"gelu"`` (exact; DNABERT, GROVER).
    layer_norm_eps
        Added to the variance in every LayerNorm.
    n_token_types
        Rows of the token-type table; only row 0 is used.
    dropout
        After embeddings, attention output and feed-forward, in training mode.
    attention_dropout
        On attention weights, in training mode.
    pad_token
        Token whose embedding gets no gradient.
    initializer_range
        Standard deviation of random weights.
    """

    vocab_size: int
    hidden_size: int
    n_layers: int
    n_heads: int
    intermediate_size: int
    n_positions: int
    activation: Literal["relu", "gelu"] = "relu"
    layer_norm_eps: float = 1e-12
    n_token_types: int = 2
    dropout: float = 0.02
    attention_dropout: float = 0.02
    pad_token: int = 0
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        for name in _WHOLE:
            value = getattr(self, name)
            if not is_whole(value) or value < 1:
                raise ValueError(f"{name} is {value!r}; expected a whole number of at least 1.")
        epsilon: object = self.layer_norm_eps
        if not isinstance(epsilon, Real):
            raise ValueError(f"layer_norm_eps is {epsilon!r}; expected a number.")
        if self.hidden_size % self.n_heads:
            raise ValueError(
                f"hidden_size is {self.hidden_size} and n_heads {self.n_heads}: the width must be "
                "a multiple of the number of heads."
            )
        if self.activation not in ("relu", "gelu"):
            raise ValueError(f"activation is {self.activation!r}; expected 'relu' or 'gelu'.")

    @property
    def n_parameters(self) -> int:
        """Parameters of the encoder with its masked-token head (the token table counted once)."""
        width, inner = self.hidden_size, self.intermediate_size
        tables = (self.vocab_size + self.n_positions + self.n_token_types) * width + 2 * width
        attention = 4 * (width * width + width)
        feed_forward = 2 * width * inner + inner + width
        head = width * width + width + 2 * width + self.vocab_size
        return tables + self.n_layers * (attention + feed_forward + 4 * width) + head

    def layer_index(self, hidden_layer: str | int) -> int:
        """Number of transformer layers below the hidden state that a name or index asks for.

        ``"last"``, ``"second_to_last"``, or an index from 0 (token embeddings) to ``n_layers``.
        """
        named = {"last": self.n_layers, "second_to_last": self.n_layers - 1}
        if isinstance(hidden_layer, str) and hidden_layer in named:
            return named[hidden_layer]
        if is_whole(hidden_layer):
            if 0 <= int(hidden_layer) <= self.n_layers:
                return int(hidden_layer)
            if hidden_layer == -1:
                raise ValueError(
                    "hidden_layer=-1 is ambiguous: other tools mean the last or the second to last "
                    "by it. Say hidden_layer='last' or 'second_to_last'."
                )
        raise ValueError(
            f"hidden_layer is {hidden_layer!r}; expected 'last', 'second_to_last' or a whole "
            f"number from 0 (token embeddings) to {self.n_layers} (last)."
        )


def is_whole(value: object) -> bool:
    """Whether it is a whole number, of Python's or of numpy's."""
    return isinstance(value, Integral) and not isinstance(value, bool)
