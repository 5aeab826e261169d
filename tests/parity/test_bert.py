"""The plain encoder against transformers, on random weights, for every published shape."""

from __future__ import annotations

import pytest
import torch
import transformers

from glm.models.bert import Bert, BertConfig, MaskedLM
from glm.models.weights import to_published

TOLERANCE = 1e-5

# layers, hidden, heads, feed-forward: published widths divided by 4, 8 or 12, everything else kept
SHAPES = {
    "geneformer-v1-10m": (6, 64, 4, 128, "relu"),
    "geneformer-v1-12l-30m": (12, 64, 8, 128, "relu"),
    "geneformer-12l-95m": (12, 64, 8, 128, "relu"),
    "geneformer-20l-95m": (20, 112, 14, 224, "relu"),
    "geneformer-v2-104m": (12, 96, 12, 384, "relu"),
    "geneformer-v2-316m": (18, 144, 18, 576, "relu"),
    "dnabert": (12, 96, 12, 384, "gelu"),
    "grover": (12, 96, 12, 384, "gelu"),
}


def small_config(name: str) -> BertConfig:
    n_layers, hidden, n_heads, inner, activation = SHAPES[name]
    return BertConfig(
        vocab_size=97,
        hidden_size=hidden,
        n_layers=n_layers,
        n_heads=n_heads,
        intermediate_size=inner,
        n_positions=40,
        activation=activation,
    )


def random_model(config: BertConfig, seed: int = 0) -> MaskedLM:
    """Nothing at its initial value, so that no tensor can be swapped or forgotten unseen."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = MaskedLM(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += (0.1 if parameter.ndim == 1 else 0.03) * torch.randn_like(parameter)
    return model.eval()


def reference(model: MaskedLM, attention: str) -> transformers.BertForMaskedLM:
    config = model.config
    theirs = transformers.BertForMaskedLM(
        transformers.BertConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            num_hidden_layers=config.n_layers,
            num_attention_heads=config.n_heads,
            intermediate_size=config.intermediate_size,
            max_position_embeddings=config.n_positions,
            hidden_act=config.activation,
            layer_norm_eps=config.layer_norm_eps,
            type_vocab_size=config.n_token_types,
            pad_token_id=config.pad_token,
            attn_implementation=attention,
        )
    )
    missing, unexpected = theirs.load_state_dict(to_published(model), strict=False)
    assert not unexpected
    assert {name for name in missing if "position_ids" not in name} <= {
        "cls.predictions.decoder.weight",  # tied to the embedding
        "cls.predictions.decoder.bias",
    }
    return theirs.eval()


def ragged(config: BertConfig, lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(1, config.vocab_size, (len(lengths), max(lengths)), generator=generator)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return tokens.where(mask, config.pad_token), mask


def assert_same(model: MaskedLM, attention: str, lengths: list[int]) -> None:
    tokens, mask = ragged(model.config, lengths)
    with torch.no_grad():
        theirs = reference(model, attention)(tokens, mask.long(), output_hidden_states=True)
        ours = model.bert.hidden_states(tokens, mask)
        logits = model(tokens, mask)
    assert len(ours) == len(theirs.hidden_states) == model.config.n_layers + 1
    for mine, other in zip(ours, theirs.hidden_states, strict=True):
        torch.testing.assert_close(mine[mask], other[mask], atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(logits[mask], theirs.logits[mask], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("name", SHAPES)
def test_all_hidden_states_and_logits_agree(name: str, attention: str) -> None:
    assert_same(random_model(small_config(name)), attention, [40, 1, 23, 7])


def test_a_full_published_shape_agrees() -> None:
    config = BertConfig(25_426, 256, 6, 4, 512, 2_048, "relu")
    assert_same(random_model(config), "sdpa", [2_048])


def test_an_eps_that_matters_is_used() -> None:
    """GROVER's 1e-12 cannot be told from 0 in float32; a large one can."""
    config = BertConfig(97, 64, 2, 4, 128, 40, "gelu", layer_norm_eps=0.1)
    assert_same(random_model(config), "eager", [40, 7])


@pytest.fixture(scope="module")
def model() -> MaskedLM:
    return random_model(small_config("geneformer-v1-10m"))


@torch.no_grad()
def test_forward_stops_at_the_layer_that_is_asked_for(model: MaskedLM) -> None:
    tokens, mask = ragged(model.config, [12, 5])
    states = model.bert.hidden_states(tokens, mask)
    for index, state in enumerate(states):
        assert torch.equal(model.bert(tokens, mask, hidden_layer=index), state)
    assert torch.equal(model.bert(tokens, mask), states[-1])

    def refuse(*_: object) -> None:
        raise AssertionError("a layer above the one asked for was computed")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model.bert.layers[3], "forward", refuse)
        assert torch.equal(model.bert(tokens, mask, hidden_layer=3), states[3])


@torch.no_grad()
def test_padding_changes_nothing(model: MaskedLM) -> None:
    tokens, mask = ragged(model.config, [30, 11])
    alone = model.bert(tokens[1:, :11])
    torch.testing.assert_close(model.bert(tokens, mask)[1, :11], alone[0], atol=5e-6, rtol=0)
    tokens[1, 11:] = 55  # what stands under the mask is never read
    torch.testing.assert_close(model.bert(tokens, mask)[1, :11], alone[0], atol=5e-6, rtol=0)


@torch.no_grad()
def test_a_row_without_tokens_is_nan_and_the_others_are_not(model: MaskedLM) -> None:
    tokens, mask = ragged(model.config, [30, 11])
    expected = model.bert.hidden_states(tokens, mask)
    empty = torch.zeros(1, 30)
    states = model.bert.hidden_states(
        torch.cat([tokens, empty.long()]), torch.cat([mask, empty.bool()])
    )
    for state, whole in zip(states, expected, strict=True):
        assert state[2].isnan().all()
        torch.testing.assert_close(state[:2][mask], whole[mask], atol=5e-6, rtol=0)


@torch.no_grad()
def test_logits_at_chosen_positions(model: MaskedLM) -> None:
    tokens, mask = ragged(model.config, [12, 5])
    chosen = torch.tensor([16, 3, 0])
    everywhere = model(tokens, mask).flatten(0, 1)
    some = model(tokens, mask, positions=chosen)
    torch.testing.assert_close(some, everywhere[chosen], atol=5e-6, rtol=0)
    assert model(tokens, mask, positions=chosen[:0]).shape == (0, model.config.vocab_size)
    with pytest.raises(ValueError, match="int64 places"):
        model(tokens, mask, positions=mask)


def test_gradients_reach_every_weight_and_agree(model: MaskedLM) -> None:
    tokens, mask = ragged(model.config, [12, 5])
    theirs = reference(model, "eager")
    targets = tokens.where(mask, torch.tensor(-100))
    torch.nn.functional.cross_entropy(model(tokens, mask).transpose(1, 2), targets).backward()
    theirs(tokens, mask.long(), labels=targets).loss.backward()
    gradients = {
        name: parameter.grad for name, parameter in theirs.named_parameters(remove_duplicate=False)
    }
    assert all(parameter.grad is not None for parameter in model.parameters())
    by_storage = {p.data_ptr(): p.grad for p in model.parameters()}
    for name, tensor in to_published(model).items():
        torch.testing.assert_close(
            by_storage[tensor.data_ptr()], gradients[name], atol=1e-5, rtol=1e-3
        )
    model.zero_grad(set_to_none=True)


def test_initial_weights() -> None:
    torch.manual_seed(0)
    model = MaskedLM(BertConfig(500, 64, 2, 4, 128, 40))
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2 and "token_type" not in name:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.1), name
            assert abs(parameter.mean().item()) < 2e-3, name
        elif name.endswith("norm.weight"):
            assert (parameter == 1).all(), name
        elif parameter.ndim == 1:
            assert (parameter == 0).all(), name
    assert (model.bert.embeddings.token.weight[0] == 0).all()  # padding


def test_dropout_acts_in_training_only() -> None:
    config = BertConfig(97, 64, 2, 4, 128, 40, dropout=0.2, attention_dropout=0.0)
    model = Bert(config).eval()
    tokens, mask = ragged(config, [12, 5])
    assert torch.equal(model(tokens, mask), model(tokens, mask))
    model.train()
    assert not torch.equal(model(tokens, mask)[mask], model(tokens, mask)[mask])
    only_attention = Bert(BertConfig(97, 64, 2, 4, 128, 40, dropout=0.0, attention_dropout=0.2))
    first, second = (only_attention.hidden_states(tokens, mask) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert not torch.equal(first[1][mask], second[1][mask])


def test_wrong_input_is_named(model: MaskedLM) -> None:
    tokens, mask = ragged(model.config, [12, 5])
    with pytest.raises(ValueError, match="41 tokens, but the model has 40 positions"):
        model.bert(torch.ones(1, 41, dtype=torch.int64))
    with pytest.raises(ValueError, match="expected batch × length"):
        model.bert(tokens[0])
    with pytest.raises(ValueError, match="True for real tokens"):
        model.bert(tokens, mask.long())
    for index in (-1, 7):
        with pytest.raises(ValueError, match=rf"hidden layer {index} does not exist.*6 \(last\)"):
            model.bert(tokens, mask, hidden_layer=index)
