"""Shape, forward, gradients and weights of the plain Enformer; what it refuses."""

from __future__ import annotations

import math
from dataclasses import asdict, replace

import pytest
import torch
from torch import Tensor

from glm.models.enformer import (
    AttentionPool,
    Enformer,
    EnformerConfig,
    by_key,
    gelu,
    position_features,
)
from glm.models.enformer_weights import (
    ENFORMER_KEYS,
    TRUNK_AGAIN,
    load_enformer,
    to_published_enformer,
)

SMALL = EnformerConfig(
    heads={"human": 5, "mouse": 2},
    channels=48,
    depth=2,
    n_heads=2,
    key_size=8,
    crop=2,
    channel_step=8,
)


@pytest.fixture(scope="module")
def model() -> Enformer:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Enformer(SMALL)
        with torch.no_grad():
            for block in model.blocks:
                block.attention.output.weight.normal_(0.0, 0.2)
        return model.eval()


def codes(n: int, bins: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 5, (n, bins * 128), generator=generator, dtype=torch.uint8)


def bases(sequence: Tensor) -> Tensor:
    return torch.eye(5)[sequence.long()][..., :4].contiguous()


def test_the_published_shape() -> None:
    config = EnformerConfig()
    assert config.tower == (768, 896, 1_024, 1_152, 1_280, 1_536)
    assert config.heads == {"human": 5_313, "mouse": 1_643}
    assert config.n_position_features == 192
    assert config.n_bins(196_608) == 896
    assert config.n_parameters == 251_221_292
    assert replace(config, heads={}).n_parameters == 229_845_504
    with torch.device("meta"):
        published = Enformer(config)
    assert sum(parameter.numel() for parameter in published.parameters()) == 251_221_292


@pytest.mark.parametrize("config", [SMALL, replace(SMALL, heads={}), replace(SMALL, depth=1)])
def test_parameters_are_counted_from_the_shape(config: EnformerConfig) -> None:
    counted = sum(parameter.numel() for parameter in Enformer(config).parameters())
    assert config.n_parameters == counted


def test_a_shape_goes_through_a_record() -> None:
    assert EnformerConfig(**asdict(SMALL)) == SMALL
    assert hash(SMALL) == hash(EnformerConfig(**asdict(SMALL)))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"channels": 0}, "channels is 0; expected a whole number of at least 1"),
        ({"channels": 50}, "multiple of 6 × n_heads"),
        ({"depth": 1.5}, "depth is 1.5"),
        ({"crop": -1}, "crop is -1; expected a whole number of at least 0"),
        ({"dropout": 1.0}, "dropout is 1.0; expected a share"),
        ({"channel_step": 128}, "too coarse for 48 channels"),
        ({"heads": {"human": 0}}, "number of tracks of head 'human' is 0"),
        ({"heads": {"a.b": 1}}, "'a.b' cannot be the name of a head"),
        ({"heads": {"embeddings": 1}}, "'embeddings' cannot be the name of a head"),
    ],
)
def test_shapes_that_cannot_be_are_refused(shape: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **shape)


def test_heads_have_to_have_names() -> None:
    with pytest.raises(TypeError, match=r"heads is \[5\]; expected names"):
        replace(SMALL, heads=[5])


@pytest.mark.parametrize("bins", [5, 6, 13])
def test_any_whole_number_of_bins(model: Enformer, bins: int) -> None:
    with torch.no_grad():
        found = model(codes(2, bins), embeddings=True)
        whole = model(codes(2, bins), crop=0)
    assert {name: tuple(x.shape) for name, x in found.items()} == {
        "human": (2, bins - 4, 5),
        "mouse": (2, bins - 4, 2),
        "embeddings": (2, bins - 4, 96),
    }
    assert bool((found["human"] > 0).all())
    torch.testing.assert_close(whole["human"][:, 2:-2], found["human"])


def test_codes_and_bases_are_the_same(model: Enformer) -> None:
    """Of any whole type; a base that is not known is zeros; no row sees another."""
    sequence = codes(2, 9)
    with torch.no_grad():
        expected = model(sequence)["human"]
        assert torch.equal(model(bases(sequence))["human"], expected)
        assert torch.equal(model(sequence.long())["human"], expected)
        torch.testing.assert_close(model(sequence[1:])["human"][0], expected[1])


def test_only_the_asked_heads(model: Enformer) -> None:
    with torch.no_grad():
        everything = model(codes(1, 9))
        assert model(codes(1, 9), heads=["mouse"]).keys() == {"mouse"}
        assert model(codes(1, 9), heads="mouse").keys() == {"mouse"}
        assert model(codes(1, 9), heads=()) == {}
        torch.testing.assert_close(
            model(codes(1, 9), heads=["mouse"])["mouse"], everything["mouse"]
        )
    with pytest.raises(KeyError, match="no head 'rat': this model has human, mouse"):
        model(codes(1, 9), heads=["human", "rat"])


@pytest.mark.parametrize(
    ("sequence", "message"),
    [
        (torch.zeros(1, 1_000, dtype=torch.uint8), "1,000 bases, expected a positive multiple"),
        (torch.zeros(1, 0, dtype=torch.uint8), "0 bases, expected"),
        (torch.zeros(1, 4 * 128, dtype=torch.uint8), "are 4 bins, and crop=2 would cut 4"),
        (torch.full((1, 1_024), 5), "codes go from 5 to 5"),
        (torch.full((1, 1_024), -1), "codes go from -1 to -1"),
        (torch.zeros(1_024, dtype=torch.uint8), r"torch.uint8 of shape \(1024,\), expected codes"),
        (torch.zeros(1, 1_024), r"torch.float32 of shape \(1, 1024\)"),
        (torch.zeros(1, 4, 1_024), r"shape \(1, 4, 1024\)"),
        (torch.zeros(1, 1_024, 4, dtype=torch.bool), r"torch.bool of shape \(1, 1024, 4\)"),
    ],
)
def test_sequences_that_are_none_are_refused(
    model: Enformer, sequence: Tensor, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        model(sequence)


def test_gradients_reach_bases_and_all_weights(model: Enformer) -> None:
    here = bases(codes(1, 9)).requires_grad_()
    found = model(here)
    sum(x.log().sum() for x in found.values()).backward()
    assert here.grad is not None
    assert bool((here.grad != 0).any(dim=2).all())
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    model.zero_grad(set_to_none=True)
    assert without == []


def test_a_gradient_is_the_change_it_foretells() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Enformer(SMALL).double().eval()
    here = bases(codes(1, 5)).double().requires_grad_()
    direction = torch.randn(
        here.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2)
    )
    gradient = torch.autograd.grad(model(here)["human"].sum(), here)[0]
    with torch.no_grad():
        up, down = (model(here + s * 1e-6 * direction)["human"].sum() for s in (1, -1))
    assert float((up - down) / 2e-6) == pytest.approx(float((gradient * direction).sum()), rel=1e-5)


@pytest.mark.parametrize("training", [False, True])
def test_what_is_computed_again_is_the_same(model: Enformer, training: bool) -> None:
    """Also in training, where norms must count each batch once and dropouts draw alike."""
    copy = load_enformer(to_published_enformer(model), SMALL)
    copy.load_state_dict({k: v.clone() for k, v in model.state_dict().items()}, assign=True)
    found = []
    for recompute in (False, True):
        copy.load_state_dict(model.state_dict())
        copy.train(training).recompute = recompute
        here = bases(codes(2, 9)).requires_grad_()
        with torch.random.fork_rng():
            torch.manual_seed(3)
            gradient = torch.autograd.grad(copy(here)["human"].sum(), here)[0]
        found.append((gradient, copy.tower[0].conv.norm.running_mean.clone()))
    for once, again in zip(*found, strict=True):
        torch.testing.assert_close(once, again)
    assert (found[0][1] != model.tower[0].conv.norm.running_mean).any() == training


def test_a_new_model_is_blind_to_other_bins_in_its_transformer() -> None:
    """The maps out of attention begin at zero, those of pooling at twice the identity."""
    model = Enformer(SMALL)
    assert not any(block.attention.output.weight.any() for block in model.blocks)
    torch.testing.assert_close(model.stem.pool.logits.weight[..., 0], 2 * torch.eye(24))
    deviation = float(model.blocks[0].up.weight.detach().std())
    assert deviation == pytest.approx(48**-0.5, rel=0.05)


def test_pooling_is_a_softmax_over_pairs() -> None:
    pool = AttentionPool(6)
    hidden = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        pairs = hidden.unflatten(2, (4, 2))
        logits = pool.logits(hidden).unflatten(2, (4, 2))
        expected = (logits.softmax(dim=-1) * pairs).sum(dim=-1)
        torch.testing.assert_close(pool(hidden), expected)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_scores_by_distance_go_to_their_keys(n: int) -> None:
    by_distance = torch.arange(3.0 * n * (2 * n - 1)).view(3, n, 2 * n - 1)
    found = by_key(by_distance)
    for query in range(n):
        for key in range(n):
            expected = by_distance[:, query, key - query + n - 1]
            assert torch.equal(found[:, query, key], expected)


def test_the_activation() -> None:
    x = torch.linspace(-4, 4, 9)
    expected = [v / (1 + math.exp(-1.702 * v)) for v in x.tolist()]
    torch.testing.assert_close(gelu(x), torch.tensor(expected))


def test_position_features_know_which_side() -> None:
    features = position_features(50, 24)
    assert features.shape == (99, 24)
    torch.testing.assert_close(features[:, :12], features.flip(0)[:, :12])
    torch.testing.assert_close(features[:, 12:], -features.flip(0)[:, 12:])
    torch.testing.assert_close(features[:, 8:12].amax(dim=0), torch.ones(4))
    assert not features[49, 12:].any()
    wrong = position_features(50, 24, gamma_over_features=True)
    torch.testing.assert_close(wrong[:, 8:12].amax(dim=1), torch.ones(99))
    torch.testing.assert_close(wrong[:, :8], features[:, :8])


def published(model: Enformer) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in to_published_enformer(model).items()}


def with_the_trunk_again(state: dict[str, Tensor]) -> dict[str, Tensor]:
    copies = {
        again + name.removeprefix(first): tensor.clone()
        for again, first in TRUNK_AGAIN.items()
        for name, tensor in state.items()
        if name.startswith(first)
    }
    return state | copies


def test_weights_go_out_and_come_back(model: Enformer) -> None:
    state = published(model)
    again = load_enformer(with_the_trunk_again(state), SMALL)
    assert not again.training
    assert all(parameter.requires_grad for parameter in again.parameters())
    assert again.state_dict().keys() == model.state_dict().keys()
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name])
    assert again.stem.conv.weight.data_ptr() == state["stem.0.weight"].data_ptr()


def test_every_tensor_of_ours_has_a_published_name(model: Enformer) -> None:
    assert len(published(model)) == len(model.state_dict())
    assert len({ours for ours, _ in ENFORMER_KEYS.values()}) == len(ENFORMER_KEYS)
    assert published(model)["stem.2.to_attn_logits.weight"].shape == (24, 24, 1, 1)


def test_lower_precision_is_raised(model: Enformer) -> None:
    state = {
        name: tensor.bfloat16() if tensor.is_floating_point() else tensor
        for name, tensor in published(model).items()
    }
    again = load_enformer(state, SMALL)
    assert {p.dtype for p in again.parameters()} == {torch.float32}
    assert again.stem.mix.norm.num_batches_tracked.dtype == torch.int64


def test_weights_that_do_not_fit_are_refused(model: Enformer) -> None:
    whole = with_the_trunk_again(published(model))
    cases = {
        "1 missing (transformer.1.0.fn.1.to_q.weight)": lambda s: [
            s.pop("transformer.1.0.fn.1.to_q.weight"),
            s.pop("_trunk.4.1.0.fn.1.to_q.weight"),
        ],
        "1 unknown (extra)": lambda s: s.update(extra=torch.zeros(1)),
        "1 unknown (_trunk.4.9.0.fn.0.bias)": lambda s: s.update(
            {"_trunk.4.9.0.fn.0.bias": torch.zeros(48)}
        ),
        "missing (_heads.mouse.0.bias, _heads.mouse.0.weight) and": lambda s: [
            s.update({"_heads.rat.0.weight": s.pop("_heads.mouse.0.weight")}),
            s.pop("_heads.mouse.0.bias"),
        ],
        "_heads.human.0.weight is (4, 96), expected (5, 96)": lambda s: s.update(
            {"_heads.human.0.weight": torch.zeros(4, 96)}
        ),
        "1 tensors hold NaN or infinite weights (stem.conv.bias)": lambda s: [
            s["stem.0.bias"].fill_(math.nan),
            s.pop("_trunk.1.0.bias"),
        ],
        "1 tensors that the file holds twice differ (_trunk.1.0.bias and stem.0.bias)": (
            lambda s: s["_trunk.1.0.bias"].add_(1)
        ),
    }
    for message, damage in cases.items():
        state = {name: tensor.clone() for name, tensor in whole.items()}
        damage(state)
        with pytest.raises(RuntimeError) as caught:
            load_enformer(state, SMALL)
        assert message in str(caught.value)


def test_another_depth_is_refused(model: Enformer) -> None:
    with pytest.raises(RuntimeError, match="an Enformer with 3 blocks and the heads human, mouse"):
        load_enformer(published(model), replace(SMALL, depth=3))
    with pytest.raises(RuntimeError, match=r"unknown \(transformer\.1\."):
        load_enformer(published(model), replace(SMALL, depth=1))
