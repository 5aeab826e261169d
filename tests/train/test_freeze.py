"""Frozen layers stay as they are; activations computed again give the same gradients."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch

from glm.models import Model
from glm.models.bert import Bert, MaskedLM
from glm.models.heads import Classifier
from glm.train import LoRA, MaskedTokens, Recipe, lora
from glm.train.freeze import checkpoint_activations, freeze_layers

KINDS = ["tokens", "cells", "genes", "none"]


def make(shape, kind: str) -> torch.nn.Module:
    if kind == "tokens":
        return MaskedLM(shape)
    if kind == "none":
        return Bert(shape)
    return Classifier(shape, 2, per_cell=kind == "cells")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [0, 1, 3])
def test_frozen_are_the_embeddings_and_the_first_layers(make_model, kind: str, n: int):
    network = make(make_model().spec.shape, kind)
    freeze_layers(network, n)
    prefix = "" if kind == "none" else "bert."
    frozen = tuple(f"{prefix}layers.{i}." for i in range(n))
    frozen = (f"{prefix}embeddings.", *frozen) if n else ()
    for name, parameter in network.named_parameters():
        assert parameter.requires_grad != name.startswith(frozen or ("-",)), name


@pytest.mark.parametrize("n", [-1, 4, True])
def test_layers_that_there_are_not(make_model, n: int):
    network = make_model().network
    with pytest.raises(ValueError, match="the encoder has 3"):
        freeze_layers(network, n)
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_fit_leaves_frozen_layers_as_they_are(train, new_model, tmp_path):
    model = new_model(n_layers=2)
    found = train(model, tmp_path, frozen_layers=1).model
    assert found.card["frozen_layers"] == 1
    before = model.network.state_dict()
    same = {n for n, tensor in found.network.state_dict().items() if torch.equal(tensor, before[n])}
    frozen = ("bert.embeddings.", "bert.layers.0.")
    assert same == {name for name in before if name.startswith(frozen)}
    assert all(parameter.requires_grad for parameter in found.network.parameters())


def gradients(network: torch.nn.Module, *, autocast: bool) -> tuple[torch.Tensor, dict]:
    """Loss and gradients of a step in training mode, with dropout of a known seed."""
    torch.manual_seed(3)
    tokens = torch.randint(4, 60, (4, 20))
    mask = torch.arange(20) < torch.tensor([20, 3, 9, 17])[:, None]
    network.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        loss = network(tokens, mask).float().square().mean()
    loss.backward()
    found = {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}
    return loss.detach(), found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["all", "frozen", "adapted", "mixed precision"])
def test_gradients_are_the_same(make_model, kind: str, how: str):
    """To the bit, dropout included, whatever is trained."""
    shape = make_model(dropout=0.3, attention_dropout=0.3).spec.shape
    with torch.random.fork_rng():
        network = make(shape, kind).train()
        if how == "frozen":
            freeze_layers(network, 2)
        if how == "adapted":
            lora.apply(network, LoRA(rank=2))
        other = copy.deepcopy(network)
        checkpoint_activations(other)
        autocast = how == "mixed precision"
        loss, expected = gradients(network, autocast=autocast)
        loss_again, got = gradients(other, autocast=autocast)
    assert torch.equal(loss, loss_again)
    assert got.keys() == expected.keys()
    assert got
    for name, gradient in expected.items():
        assert torch.equal(gradient, got[name]), name


def saved_bytes(network: torch.nn.Module) -> int:
    """What the backward pass of a step keeps."""
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        network(torch.full((8, 32), 5)).sum()
    parameters = {p.untyped_storage().data_ptr() for p in network.parameters()}
    return sum(n for place, n in kept.items() if place not in parameters)


def test_less_is_kept(make_model):
    """Of eight layers, a hidden state each."""
    network = Bert(make_model(n_layers=8).spec.shape).train()
    plain = saved_bytes(network)
    checkpoint_activations(network)
    assert saved_bytes(network) < plain / 5
    checkpoint_activations(network, on=False)
    assert saved_bytes(network) == plain


def test_nothing_is_computed_again_without_gradients(make_model: Callable[..., Model]):
    network = make_model().network
    checkpoint_activations(network)
    passes = []
    network.bert.layers[0].register_forward_hook(lambda *_: passes.append(1))
    with torch.no_grad():
        network(torch.full((2, 9), 5))
    assert len(passes) == 1


def test_fit_is_the_same_with_it(
    train, new_model, assert_equal, tmp_path, quick: Recipe, sentences
):
    """Every bit of the result, and the switch is off again."""
    model = new_model(n_layers=2)
    objective = MaskedTokens(model.vocabulary, share=0.3)
    plain, again = (
        train(model, tmp_path / str(on), objective=objective, checkpoint_activations=on).model
        for on in (False, True)
    )
    assert_equal(plain, again)
    assert not again.encoder.recompute
