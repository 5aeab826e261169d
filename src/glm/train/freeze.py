"""Train a part of a network, or in less memory."""

from __future__ import annotations

from ..models.bert import Bert
from ..models.weights import Network


def freeze_layers(network: Network, n: int) -> None:
    """Leave the embeddings and the first ``n`` layers as they are; ``n=0`` freezes nothing.

    Raises
    ------
    ValueError
        If the encoder has not so many layers.
    """
    encoder = encoder_of(network)
    n_layers = encoder.config.n_layers
    if isinstance(n, bool) or not 0 <= n <= n_layers:
        raise ValueError(
            f"{n} layers cannot be frozen: the encoder has {n_layers}. Expected 0 (none) to "
            f"{n_layers} (only what stands on the encoder is trained)."
        )
    if n:
        for part in (encoder.embeddings, *encoder.layers[:n]):
            part.requires_grad_(False)


def checkpoint_activations(network: Network, *, on: bool = True) -> None:
    """Compute each layer's activations again for its gradient instead of keeping them.

    Memory for activations falls from that of all layers to that of one and a hidden state for each;
    a step takes about a third more time. Gradients are the same, dropout included.
    """
    encoder_of(network).recompute = on


def encoder_of(network: Network) -> Bert:
    """The encoder of any network."""
    return network if isinstance(network, Bert) else network.bert
