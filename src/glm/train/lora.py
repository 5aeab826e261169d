"""Low-rank adaptation: train small additions to the weights instead of the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .._messages import first_names
from ..models.weights import Network
from .freeze import encoder_of


@dataclass(frozen=True)
class LoRA:
    """Which linear maps get a low-rank addition, and of what rank :cite:p:`hu2022`.

    A weight W becomes W + alpha / rank · B A, where A is ``rank`` × inputs, drawn at random, and B
    outputs × ``rank``, zero at first: the network starts as it was. Only A, B and what stands on
    the encoder are trained.

    Attributes
    ----------
    rank
        Rank of the additions.
    alpha
        Their size: with 2 × ``rank``, a learning rate suits other ranks as well.
    targets
        Linear maps of every layer: among ``"query"``, ``"key"``, ``"value"``, ``"output"`` (of the
        attention), ``"up"`` and ``"down"`` (of the feed-forward).
    seed
        Decides the draw of A.

    Raises
    ------
    ValueError
        If ``rank`` or ``alpha`` is not above zero, or there is no target.

    Examples
    --------
    >>> import glm
    >>> glm.train.LoRA(rank=4).targets
    ('query', 'value')
    """

    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = ("query", "value")
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rank < 1 or not 0 < self.alpha < float("inf"):
            raise ValueError(
                f"rank is {self.rank} and alpha {self.alpha}; expected at least 1, and a number "
                "above zero."
            )
        if not isinstance(self.targets, tuple) or not self.targets:
            raise ValueError(f"targets is {self.targets!r}; expected a tuple of names of maps.")


class LowRank(nn.Module):
    """The addition to one weight."""

    def __init__(self, weight: Tensor, rank: int, scale: float, generator: torch.Generator) -> None:
        super().__init__()
        n_out, n_in = weight.shape
        drawn = torch.randn(rank, n_in, generator=generator) / n_in**0.5
        self.a = nn.Parameter(drawn.to(weight))
        self.b = nn.Parameter(torch.zeros(n_out, rank).to(weight))
        self.scale = scale

    def forward(self, weight: Tensor) -> Tensor:
        """The weight with its addition: in its own precision, whatever the step's.

        So what is merged is what was trained.
        """
        with torch.autocast(weight.device.type, enabled=False):
            return torch.addmm(weight, self.b, self.a, alpha=self.scale)


def apply(network: Network, lora: LoRA) -> None:
    """Put additions into a network, in place, and freeze the rest of its encoder.

    Layers that are frozen already get none. What stands on the encoder stays as trainable as it is.

    Raises
    ------
    ValueError
        If the encoder has additions already, no linear map of a target's name, or only frozen ones.
    """
    encoder = encoder_of(network)
    if adapted(network):
        raise ValueError("The network has low-rank additions already: merge them first.")
    maps = {
        name: part for name, part in encoder.layers.named_modules() if isinstance(part, nn.Linear)
    }
    known = sorted({name.rpartition(".")[2] for name in maps})
    unknown = [target for target in lora.targets if target not in known]
    if unknown:
        raise ValueError(
            f"There is no linear map {first_names(map(repr, unknown))} in a layer; there are "
            f"{', '.join(known)}."
        )
    chosen = [
        part
        for name, part in maps.items()
        if name.rpartition(".")[2] in lora.targets and part.weight.requires_grad
    ]
    if not chosen:
        raise ValueError("All layers are frozen, so that there is none to adapt.")
    encoder.requires_grad_(False)
    generator = torch.Generator().manual_seed(lora.seed)
    for part in chosen:
        addition = LowRank(part.weight, lora.rank, lora.alpha / lora.rank, generator)
        parametrize.register_parametrization(part, "weight", addition)


def merge(network: Network) -> None:
    """Add the additions to the weights for good, in place; every weight can be trained again."""
    for part in adapted(network):
        weight = part.weight.detach()
        # Not torch's own way: it takes the property from the class, which copies of a module share.
        own = part.parametrizations.weight.original
        part.__class__ = parametrize.type_before_parametrizations(part)
        del part.parametrizations
        part.weight = own
        with torch.no_grad():
            own.copy_(weight)
    network.requires_grad_(True)


def adapted(network: nn.Module) -> list[Any]:
    """The linear maps that have additions."""
    return [part for part in network.modules() if parametrize.is_parametrized(part, "weight")]


def trained_state(network: Network) -> dict[str, Tensor]:
    """Those weights of a network that are trained, on the CPU: all that an adapted one has learnt.

    For rank 8 on queries and values a thousandth of the network's.
    """
    return {
        name: parameter.detach().to("cpu", copy=True)
        for name, parameter in network.named_parameters()
        if parameter.requires_grad
    }


def load_trained_state(network: Network, state: Mapping[str, Tensor]) -> None:
    """Put trained weights into a network with the same parts frozen and adapted.

    Raises
    ------
    RuntimeError
        If they are not exactly its trained weights.
    """
    trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
    if trained.keys() != state.keys():
        missing, unknown = sorted(trained.keys() - state.keys()), sorted(state.keys() - trained)
        raise RuntimeError(
            f"These are not the trained weights of this network: {len(missing)} missing "
            f"({first_names(missing)}) and {len(unknown)} unknown ({first_names(unknown)})."
        )
    wrong = [name for name, p in trained.items() if p.shape != state[name].shape]
    if wrong:
        name = wrong[0]
        raise RuntimeError(
            f"{len(wrong)} trained weights have another shape: {name} is "
            f"{tuple(state[name].shape)}, expected {tuple(trained[name].shape)}."
        )
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(state[name])
