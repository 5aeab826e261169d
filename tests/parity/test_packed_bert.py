"""The packed encoder against the plain one, with both sets of kernels."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import accumulate

import pytest
import torch
from torch import Tensor

from glm.models.bert import Bert, BertConfig
from glm.models.fast import products
from glm.models.fast.bert import PackedBert

TOLERANCE = 1e-5
LENGTHS = [1, 5, 31, 32, 33, 160, 2_048, 300, 300, 700, 40, 40, 40, 1]  # equal neighbours too

needs_onednn = pytest.mark.skipif(
    not products.onednn_works(torch.float32), reason="this PyTorch has no oneDNN linear operator"
)
both_kernels = pytest.mark.parametrize(
    "kernels", ["torch", pytest.param("onednn", marks=needs_onednn)]
)
both_kernels_in_bfloat16 = pytest.mark.parametrize(
    "kernels",
    [
        "torch",
        pytest.param(
            "onednn",
            marks=pytest.mark.skipif(
                not products.onednn_works(torch.bfloat16),
                reason="this processor or PyTorch has no bfloat16 products of oneDNN",
            ),
        ),
    ],
)
both_types = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])


def random_bert(config: BertConfig) -> Bert:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        bert = Bert(config)
        with torch.no_grad():
            for parameter in bert.parameters():
                parameter += (0.1 if parameter.ndim == 1 else 0.02) * torch.randn_like(parameter)
    return bert.eval()


def sentences(lengths: list[int], vocab_size: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(0, vocab_size, (n,), generator=generator) for n in lengths]


@torch.no_grad()
def plain(bert: Bert, parts: list[Tensor], layer: int) -> Tensor:
    return torch.cat([bert(part[None], hidden_layer=layer)[0] for part in parts])


@pytest.fixture(scope="module")
def bert() -> Bert:
    return random_bert(BertConfig(500, 64, 3, 4, 128, 2_048, "relu"))


@both_kernels
@pytest.mark.parametrize("layer", [0, 1, 2, 3])
def test_ragged_sentences_agree_at_every_layer(bert: Bert, kernels: str, layer: int) -> None:
    parts = sentences(LENGTHS, 500)
    packed = PackedBert(bert, kernels=kernels)
    expected = plain(bert, parts, layer)
    hidden = packed.hidden(torch.cat(parts), LENGTHS, layer=layer)
    assert hidden.dtype == torch.float32
    torch.testing.assert_close(hidden, expected, atol=TOLERANCE, rtol=0)
    first = packed.hidden(torch.cat(parts), LENGTHS, layer=layer, first_only=True)
    starts = list(accumulate(LENGTHS, initial=0))[:-1]
    torch.testing.assert_close(first, expected[starts], atol=TOLERANCE, rtol=0)


@both_kernels
@pytest.mark.parametrize(
    "config",
    [
        pytest.param(BertConfig(25_426, 256, 6, 4, 512, 2_048, "relu"), id="geneformer-v1-10m"),
        pytest.param(BertConfig(4_101, 768, 2, 12, 3_072, 512, "gelu"), id="dnabert, 2 layers"),
        pytest.param(BertConfig(97, 36, 2, 3, 50, 700, "gelu"), id="odd widths"),
    ],
)
def test_published_widths_agree(config: BertConfig, kernels: str) -> None:
    bert = random_bert(config)
    lengths = [config.n_positions, 1, 199]
    parts = sentences(lengths, config.vocab_size)
    packed = PackedBert(bert, kernels=kernels)
    hidden = packed.hidden(torch.cat(parts), lengths, layer=config.n_layers)
    expected = plain(bert, parts, config.n_layers)
    torch.testing.assert_close(hidden, expected, atol=TOLERANCE, rtol=0)


@both_kernels
def test_neighbours_and_order_change_nothing(bert: Bert, kernels: str) -> None:
    parts = sentences(LENGTHS, 500)
    packed = PackedBert(bert, kernels=kernels)
    alone = [packed.hidden(part, [len(part)], layer=3) for part in parts]
    order = list(range(len(parts)))
    random.Random(0).shuffle(order)
    mixed = packed.hidden(
        torch.cat([parts[i] for i in order]), [LENGTHS[i] for i in order], layer=3
    )
    for i, rows in zip(order, mixed.split([LENGTHS[i] for i in order]), strict=True):
        torch.testing.assert_close(rows, alone[i], atol=5e-6, rtol=0)


@both_kernels
def test_the_same_call_gives_the_same_bits(bert: Bert, kernels: str) -> None:
    tokens = torch.cat(sentences(LENGTHS, 500))
    packed = PackedBert(bert, kernels=kernels)
    assert torch.equal(
        packed.hidden(tokens, LENGTHS, layer=3), packed.hidden(tokens, LENGTHS, layer=3)
    )


@both_kernels
def test_no_layer_above_is_computed_and_no_weight_is_copied(kernels: str) -> None:
    bert = random_bert(BertConfig(500, 64, 3, 4, 128, 300, "relu"))
    packed = PackedBert(bert, kernels=kernels)
    parts = sentences([200, 3], 500)
    with torch.no_grad():
        for parameter in bert.layers[2].parameters():
            parameter.fill_(float("nan"))
    assert packed.hidden(torch.cat(parts), [200, 3], layer=2).isfinite().all()
    assert packed.hidden(torch.cat(parts), [200, 3], layer=3).isnan().all()


def test_it_leaves_no_trace(bert: Bert) -> None:
    bert.train()  # dropout would act in the plain one
    before = (torch.get_rng_state(), torch.is_grad_enabled(), torch.get_num_threads())
    parts = sentences([20, 3], 500)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = PackedBert(bert).hidden(torch.cat(parts), [20, 3], layer=3)
        assert torch.is_autocast_enabled("cpu")
    assert bert.training
    assert all(parameter.requires_grad for parameter in bert.parameters())
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (torch.is_grad_enabled(), torch.get_num_threads())
    bert.eval()
    torch.testing.assert_close(hidden, plain(bert, parts, 3), atol=TOLERANCE, rtol=0)
    # An ordinary tensor: a head can be trained on it.
    head = torch.nn.Linear(64, 1)
    head(hidden).sum().backward()
    assert head.weight.grad is not None


def test_wrong_input_is_named(bert: Bert) -> None:
    packed = PackedBert(bert)
    tokens = torch.arange(10)
    with pytest.raises(ValueError, match=r"expected int32 or int64 of shape \(9,\)"):
        packed.hidden(tokens, [4, 5], layer=1)
    with pytest.raises(ValueError, match=r"torch\.float32 of shape"):
        packed.hidden(tokens.float(), [4, 6], layer=1)
    with pytest.raises(ValueError, match="lengths go from 0 to 10"):
        packed.hidden(tokens, [10, 0], layer=1)
    with pytest.raises(ValueError, match=r"expected 1 to 2048"):
        packed.hidden(torch.zeros(2_049, dtype=torch.int64), [2_049], layer=1)
    with pytest.raises(ValueError, match="from 490 to 500, but the vocabulary has 500"):
        packed.hidden(torch.arange(490, 501), [11], layer=1)
    with pytest.raises(ValueError, match="hidden layer 4 does not exist"):
        packed.hidden(tokens, [10], layer=4)
    with pytest.raises(ValueError, match=r"dtype is torch\.float16, expected"):
        PackedBert(bert, dtype=torch.float16)
    with pytest.raises(ValueError, match=r"holds torch\.float16 weights"):
        PackedBert(Bert(BertConfig(9, 8, 1, 2, 8, 4)).half())
    with pytest.raises(ValueError, match="kernels is 'fast'"):
        PackedBert(bert, kernels="fast")


@pytest.fixture
def _tried_anew() -> Iterator[None]:
    """What was found out about the processor and the operator is forgotten before and after."""
    for known in (products.onednn_works, products.float32_pays):
        known.cache_clear()
    yield
    for known in (products.onednn_works, products.float32_pays):
        known.cache_clear()


@both_types
@pytest.mark.usefixtures("_tried_anew")
def test_without_onednn_it_falls_back_or_says_so(
    bert: Bert, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert PackedBert(bert, dtype=dtype).kernels == "torch"
    with pytest.raises(RuntimeError, match="PyTorch whose oneDNN has it"):
        PackedBert(bert, dtype=dtype, kernels="onednn")


@both_types
@pytest.mark.usefixtures("_tried_anew")
@pytest.mark.parametrize("wrong", [lambda *_: torch.zeros(32, 8), None])
def test_an_operator_that_gives_something_else_is_not_used(
    dtype: torch.dtype, wrong: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", wrong, raising=False)
    assert not products.onednn_works(dtype)


@pytest.mark.usefixtures("_tried_anew")
def test_what_onednn_has_for_float32_says_nothing_of_bfloat16(
    bert: Bert, monkeypatch: pytest.MonkeyPatch
) -> None:
    ops = torch.ops.mkldnn
    monkeypatch.setattr(ops, "_is_mkldnn_bf16_supported", lambda: False, raising=False)
    assert PackedBert(bert, dtype=torch.bfloat16).kernels == "torch"


# ---- bfloat16 ----------------------------------------------------------------------------------


@both_kernels_in_bfloat16
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_bfloat16_is_near_at_every_layer(kernels: str, activation: str) -> None:
    bert = random_bert(BertConfig(500, 64, 3, 1, 128, 2_048, activation))
    parts = sentences(LENGTHS, 500)
    packed = PackedBert(bert, dtype=torch.bfloat16, kernels=kernels)
    starts = list(accumulate(LENGTHS, initial=0))[:-1]
    for layer in range(4):
        expected = plain(bert, parts, layer)
        hidden = packed.hidden(torch.cat(parts), LENGTHS, layer=layer)
        assert hidden.dtype == torch.float32
        # Eight bits of a number: each step is off by up to 1/256, and errors of many average out.
        assert (hidden - expected).norm() < 0.01 * expected.norm()
        first = packed.hidden(torch.cat(parts), LENGTHS, layer=layer, first_only=True)
        assert (first - expected[starts]).norm() < 0.01 * expected[starts].norm()
    tokens = torch.cat(parts)
    single = PackedBert(bert, kernels=kernels).hidden(tokens, LENGTHS, layer=0)
    assert torch.equal(packed.hidden(tokens, LENGTHS, layer=0), single)


@both_kernels_in_bfloat16
def test_the_residual_stream_stays_float32(kernels: str) -> None:
    """Where the layers add nothing, what runs through them keeps all its bits."""
    bert = random_bert(BertConfig(500, 64, 3, 1, 128, 300, "gelu"))
    with torch.no_grad():
        for layer in bert.layers:
            for linear in (layer.attention.output, layer.down):
                linear.weight.zero_()
                linear.bias.zero_()
    parts = sentences([200, 3], 500)
    packed = PackedBert(bert, dtype=torch.bfloat16, kernels=kernels)
    hidden = packed.hidden(torch.cat(parts), [200, 3], layer=3)
    torch.testing.assert_close(hidden, plain(bert, parts, 3), atol=TOLERANCE, rtol=0)


def test_bfloat16_copies_linear_weights_and_nothing_else(bert: Bert) -> None:
    before = {name: (p.data_ptr(), p.clone()) for name, p in bert.named_parameters()}
    packed = PackedBert(bert, dtype=torch.bfloat16)
    assert packed.bert is bert
    for name, p in bert.named_parameters():
        assert p.data_ptr() == before[name][0]
        assert p.dtype == torch.float32
        assert torch.equal(p, before[name][1])
    for own, given in zip(packed._layers, bert.layers, strict=True):
        for (name, mine), (_, theirs) in zip(
            own.named_parameters(), given.named_parameters(), strict=True
        ):
            if "norm" in name:
                assert mine is theirs
            else:
                assert mine.dtype == torch.bfloat16
                assert torch.equal(mine, theirs.bfloat16())
