"""The network that is trained: a model's encoder with the head that an objective asks for."""

from __future__ import annotations

import copy

import torch

from ..models.bert import MaskedLM
from ..models.bundle import Model
from ..models.heads import Classifier
from ..models.weights import Network
from .objectives import Objective


def network_for(model: Model, objective: Objective) -> Network:
    """A copy of the model's network for an objective; a head it lacks is drawn at random.

    Raises
    ------
    ValueError
        If the objective predicts tokens and the model has no such head.
    """
    if objective.n_outputs is None:
        if not isinstance(model.network, MaskedLM):
            raise ValueError(
                f"{model.spec.name} has no head that predicts tokens (spec.head is "
                f"{model.spec.head!r}): masked-token modelling goes on from a pretrained model."
            )
        return copy.deepcopy(model.network)
    per_cell = objective.level == "row"
    there = model.network
    if (
        isinstance(there, Classifier)
        and (there.pooler is not None) == per_cell
        and (model.spec.labels, model.spec.task) == (objective.labels, objective.task)
    ):
        return copy.deepcopy(there)
    network = Classifier(model.spec.shape, objective.n_outputs, per_cell=per_cell)
    with torch.no_grad():
        for parameter in (*_parameters(network.pooler), *_parameters(network.classifier)):
            if parameter.ndim > 1:
                parameter.normal_(0.0, model.spec.shape.initializer_range)
            else:
                parameter.zero_()
    network.bert.load_state_dict(model.encoder.state_dict())
    return network


def _parameters(part: torch.nn.Module | None) -> list[torch.nn.Parameter]:
    return [] if part is None else list(part.parameters())
