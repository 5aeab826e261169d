"""Low-rank additions: nothing at first, all that is trained, part of the weights when merged."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from glm.models import Model, load
from glm.models.heads import Classifier
from glm.models.weights import Network, to_published
from glm.train import Classification, LoRA, Sentences
from glm.train.freeze import freeze_layers
from glm.train.lora import adapted, apply, load_trained_state, merge, trained_state


@pytest.fixture
def network(make_model: Callable[..., Model]) -> Network:
    return make_model(v2=True).network


def outputs(network: nn.Module, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(4, network.config.vocab_size, (5, 20), generator=generator)
    with torch.no_grad():
        return network(tokens, torch.arange(20) < torch.tensor([20, 3, 9, 17, 1])[:, None])


def stir(network: Network, size: float = 0.1) -> None:
    """Give what is trained other values, as training would."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter += size * torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize("targets", [("query", "value"), ("key", "output", "up", "down")])
def test_starts_as_it_was_to_the_bit(network, targets: tuple[str, ...]):
    before = outputs(network)
    apply(network, LoRA(rank=3, targets=targets))
    assert len(adapted(network)) == 3 * len(targets)
    assert torch.equal(outputs(network), before)


def test_the_addition_is_alpha_over_rank_times_b_a(network):
    base = network.bert.layers[1].attention.query.weight.detach().clone()
    apply(network, LoRA(rank=2, alpha=6.0))
    stir(network)
    linear = network.bert.layers[1].attention.query
    (addition,) = linear.parametrizations.weight
    assert (addition.a.shape, addition.b.shape) == ((2, 16), (16, 2))
    torch.testing.assert_close(linear.weight, base + 3.0 * addition.b @ addition.a)
    assert torch.linalg.matrix_rank(linear.weight - base, rtol=1e-4) == 2


def test_only_additions_and_the_head_are_trained(network):
    apply(network, LoRA(rank=4))
    trained = {name for name, p in network.named_parameters() if p.requires_grad}
    additions = {
        f"bert.layers.{i}.attention.{which}.parametrizations.weight.0.{part}"
        for i in range(3)
        for which in ("query", "value")
        for part in "ab"
    }
    head = {f"head.{name}" for name, _ in network.head.named_parameters()}
    assert trained == additions | head
    network(torch.randint(4, 60, (2, 9))).square().mean().backward()
    with_gradient = {name for name, p in network.named_parameters() if p.grad is not None}
    assert with_gradient == trained
    # B is zero, so A gets its first gradient in the second step.
    assert all(p.grad.abs().sum() > 0 for n, p in network.named_parameters() if n.endswith(".b"))


@pytest.mark.parametrize("per_cell", [True, False])
def test_the_head_of_a_classifier_is_trained(make_model, per_cell: bool):
    network = Classifier(make_model().spec.shape, 3, per_cell=per_cell)
    apply(network, LoRA(rank=1))
    trained = {name for name, p in network.named_parameters() if p.requires_grad}
    heads = {name for name in trained if not name.startswith("bert.")}
    assert heads == {"classifier.weight", "classifier.bias"} | (
        {"pooler.weight", "pooler.bias"} if per_cell else set()
    )


def test_merged_is_what_was_adapted(network):
    apply(network, LoRA(rank=5, targets=("query", "key", "value", "up", "down")))
    stir(network)
    names = {name for name, _ in copy.deepcopy(network).named_parameters()}
    trained = outputs(network)
    merge(network)
    assert not adapted(network)
    torch.testing.assert_close(outputs(network), trained, rtol=0, atol=1e-6)
    assert not any(parametrize.is_parametrized(part) for part in network.modules())
    merged = {name for name, _ in network.named_parameters()}
    assert merged < {name.replace("parametrizations.weight.original", "weight") for name in names}
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert {type(m) for m in network.modules() if isinstance(m, nn.Linear)} == {nn.Linear}


def test_saving_merges(make_model: Callable[..., Model], tmp_path):
    """A network that is still adapted is saved with its additions, and stays as it is."""
    model = make_model(v2=True)
    apply(model.network, LoRA(rank=2))
    stir(model.network)
    loaded = load(model.save(tmp_path))
    assert adapted(model.network)
    torch.testing.assert_close(outputs(loaded.network), outputs(model.network), rtol=0, atol=1e-6)
    copied = copy.deepcopy(model.network)
    merge(copied)
    for name, tensor in to_published(copied).items():
        torch.testing.assert_close(to_published(model.network)[name], tensor, rtol=0, atol=1e-7)


def test_a_copy_is_merged_by_itself(network):
    apply(network, LoRA(rank=2))
    stir(network)
    trained = outputs(network)
    merge(copy.deepcopy(network))
    assert torch.equal(outputs(network), trained)
    assert len(adapted(network)) == 6
    merge(network)
    torch.testing.assert_close(outputs(network), trained, rtol=0, atol=1e-6)


def test_seed_decides_and_nothing_else(make_model: Callable[..., Model]):
    """Torch's generator is neither asked nor moved."""
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(states))
        before = torch.get_rng_state()
        network = make_model().network
        apply(network, LoRA(seed=seed))
        assert torch.equal(torch.get_rng_state(), before)
        states.append(trained_state(network))
    name = "bert.layers.0.attention.query.parametrizations.weight.0.a"
    assert torch.equal(states[0][name], states[1][name])
    assert not torch.equal(states[0][name], states[2][name])
    deviation = torch.cat([t.flatten() for n, t in states[0].items() if n.endswith(".a")]).std()
    assert deviation.item() == pytest.approx(1 / np.sqrt(16), rel=0.15)


def test_the_trained_state_is_all_there_is_to_keep(make_model: Callable[..., Model]):
    """It goes into a network that was made in the same way, and gives the same outputs."""
    network, other = (make_model(seed=3).network for _ in range(2))
    apply(network, LoRA(rank=2))
    stir(network)
    state = trained_state(network)
    apply(other, LoRA(rank=2, seed=9))
    load_trained_state(other, state)
    assert torch.equal(outputs(other), outputs(network))
    state["head.bias"] += 1  # a copy, not the network's own
    assert torch.equal(outputs(other), outputs(network))


def test_the_trained_state_is_small():
    """Of geneformer-tiny's encoder, less than a fiftieth at rank 2."""
    network = load("geneformer-tiny").encoder
    whole = sum(tensor.numel() for tensor in network.state_dict().values())
    network = copy.deepcopy(network)
    apply(network, LoRA(rank=2))
    kept = trained_state(network)
    assert sum(tensor.numel() for tensor in kept.values()) < whole / 50


def test_a_trained_state_of_another_network(make_model: Callable[..., Model]):
    one, other = make_model().network, make_model().network
    apply(one, LoRA(rank=2))
    apply(other, LoRA(rank=2, targets=("query",)))
    with pytest.raises(RuntimeError, match=r"6 missing \(.*\) and 0 unknown"):
        load_trained_state(one, trained_state(other))
    third = make_model().network
    apply(third, LoRA(rank=3))
    with pytest.raises(
        RuntimeError, match=r"12 trained weights have another shape: .* is \(3, 16\)"
    ):
        load_trained_state(one, trained_state(third))


def test_frozen_layers_are_left_alone(network):
    freeze_layers(network, 2)
    apply(network, LoRA())
    assert [len(adapted(layer)) for layer in network.bert.layers] == [0, 0, 2]


@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [
        ({"rank": 0}, ValueError, "rank is 0"),
        ({"alpha": 0.0}, ValueError, "alpha 0.0"),
        ({"alpha": float("inf")}, ValueError, "alpha inf"),
        ({"targets": ()}, ValueError, r"targets is \(\)"),
        ({"targets": "query"}, ValueError, "targets is 'query'"),
        ({"targets": ("query", "q_proj")}, ValueError, "no linear map 'q_proj' .* there are down,"),
    ],
)
def test_what_cannot_be_adapted(network, wrong: dict, error, said: str):
    before = network.state_dict().keys()
    with pytest.raises(error, match=said):
        apply(network, LoRA(**wrong))
    assert network.state_dict().keys() == before
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_twice_and_nothing_to_adapt(network):
    apply(network, LoRA())
    with pytest.raises(ValueError, match="additions already"):
        apply(network, LoRA())
    merge(network)
    freeze_layers(network, 3)
    with pytest.raises(ValueError, match="All layers are frozen"):
        apply(network, LoRA())


def test_additions_are_added_in_full_precision(network):
    """What a mixed-precision step computes with is what is merged, rounded once."""
    apply(network, LoRA(rank=2))
    stir(network)
    linear = network.bert.layers[0].attention.query
    full = linear.weight
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(linear.weight, full)


def test_fit_adapts_and_merges(train, new_model, sentences: Sentences, tmp_path):
    """The result has the base's parts and, but for the maps that were adapted, its weights."""
    objective = Classification(("falling", "rising"))
    data = dataclasses.replace(sentences, targets=(np.arange(len(sentences)) % 2).astype(np.int64))
    model = new_model(n_layers=2)
    adapt = LoRA(rank=2)
    fitted = train(
        model,
        tmp_path,
        data=data,
        objective=objective,
        held_out=data,
        adapt=adapt,
        learning_rate=3e-2,
        max_epochs=8,
    )
    assert fitted.history["held_out_accuracy"].max() == 1.0
    found = fitted.model
    assert (found.spec.head, found.spec.labels) == ("cells", ("falling", "rising"))
    assert found.spec.task == "classes"
    assert found.card["adapt"] == {
        "is": "LoRA",
        "rank": 2,
        "alpha": 16.0,
        "targets": ["query", "value"],
        "seed": 0,
    }
    assert found.card["recipe"]["learning_rate"] == 3e-2
    assert found.card["metrics"]["held_out_accuracy"] == 1.0
    changed = {
        name.split("layers.")[1]
        for name, tensor in found.encoder.state_dict().items()
        if not torch.equal(tensor, model.encoder.state_dict()[name])
    }
    assert changed == {
        f"{i}.attention.{which}.weight" for i in (0, 1) for which in ("query", "value")
    }
    loaded = load(found.save(tmp_path / "bundle"))
    assert torch.equal(outputs(loaded.network), outputs(found.network))


def test_a_stopped_run_goes_on(train, interrupted, new_model, assert_equal, tmp_path):
    model, adapt = new_model(), LoRA(rank=2)
    through = train(model, tmp_path / "through", adapt=adapt)
    interrupted(model, tmp_path / "stopped", (1, 2), adapt=adapt, save_every_steps=1)
    assert_equal(train(model, tmp_path / "stopped", adapt=adapt).model, through.model)
    with pytest.raises(ValueError, match=r"another adapt\.rank \(2 there, 4 here\)"):
        train(model, tmp_path / "stopped", adapt=LoRA(rank=4))


def test_spawned_processes(train, new_model, tmp_path):
    """Torch cannot pickle what is parametrized: said before anything is started or written."""
    with pytest.raises(ValueError, match=r"cannot be sent to processes that are spawned.*'ddp'"):
        train(new_model(), tmp_path / "run", adapt=LoRA(), strategy="ddp_spawn", devices=2)
    assert not (tmp_path / "run").exists()
