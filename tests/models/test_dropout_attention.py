"""Attention with dropout in blocks: that of the definition, gradients too, by seed."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from glm.models import BertConfig, dropout_attention
from glm.models.bert import Bert
from glm.models.dropout_attention import attend_with_dropout


def tensors(lengths, heads=2, width=8, dtype=torch.float64):
    torch.manual_seed(1)
    shape = (len(lengths), heads, max(lengths), width)
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for _ in range(3)]


def by_definition(query, key, value, lengths, kept, dropout):
    """One row and head at a time, with the weights that were kept."""
    out = torch.zeros_like(query)
    for row, n in enumerate(lengths):
        for head in range(query.shape[1]):
            scores = query[row, head, :n] @ key[row, head, :n].T / math.sqrt(query.shape[-1])
            weights = scores.softmax(dim=-1) * kept[row, head] / (1 - dropout)
            out[row, head, :n] = weights @ value[row, head, :n]
    return out


def kept_weights(lengths, heads, dropout, seed, block):
    """The same draws, spelt out."""
    torch.manual_seed(seed)
    kept = {}
    for row, n in enumerate(lengths):
        for head in range(heads):
            parts = []
            for start in range(0, n, block):
                part = torch.ones((min(block, n - start), n), dtype=torch.float64)
                part.view(-1)[dropout_attention._draw(part.numel(), dropout)] = 0
                parts.append(part)
            kept[row, head] = torch.cat(parts) if parts else torch.ones(0, 0)
    return kept


@pytest.mark.parametrize("dropout", [0.0, 0.02, 0.3])
@pytest.mark.parametrize("lengths", [[9], [12, 5, 1], [7, 0, 12]], ids=str)
def test_value_and_gradients(monkeypatch, lengths, dropout):
    monkeypatch.setattr(dropout_attention, "_QUERIES", 4)
    query, key, value = tensors(lengths, dtype=torch.float32)
    torch.manual_seed(3)
    got = attend_with_dropout(query, key, value, lengths, dropout)
    expected = by_definition(
        *(part.double() for part in (query, key, value)),
        lengths,
        kept_weights(lengths, 2, dropout, 3, 4),
        dropout,
    )
    torch.testing.assert_close(got.double(), expected, atol=2e-6, rtol=1e-5)
    above = torch.randn_like(got)
    ours = torch.autograd.grad(got, (query, key, value), above)
    theirs = torch.autograd.grad(expected, (query, key, value), above.double())
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=5e-6, rtol=1e-4)


def test_without_dropout_it_is_the_stock_attention():
    query, key, value = tensors([300], dtype=torch.float32)
    got = attend_with_dropout(query, key, value, [300], 0.0)
    expected = F.scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-5)


def test_half_precision_stays_near():
    query, key, value = tensors([40, 300], dtype=torch.float32)
    torch.manual_seed(0)
    exact = attend_with_dropout(query, key, value, [40, 300], 0.1)
    gradient = torch.autograd.grad(exact.sum(), key)[0]
    half = [part.detach().bfloat16().requires_grad_() for part in (query, key, value)]
    torch.manual_seed(0)
    got = attend_with_dropout(*half, [40, 300], 0.1)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.float(), exact, atol=0.05, rtol=0.05)
    (rough,) = torch.autograd.grad(got.float().sum(), half[1])
    assert F.cosine_similarity(rough.float().flatten(), gradient.flatten(), dim=0) > 0.999


@pytest.mark.parametrize("share", [0.001, 0.02, 0.5, 0.9])
def test_draws(share):
    """As many as there should be, everywhere alike, in order, each once."""
    torch.manual_seed(0)
    n = 200_000
    found = dropout_attention._draw(n, share)
    assert abs(found.numel() - n * share) < 5 * math.sqrt(n * share * (1 - share))
    assert (found.diff() > 0).all()
    assert 0 <= found[0] < found[-1] < n
    quarters = torch.histc(found.float(), 4, 0, n)
    assert (quarters - n * share / 4).abs().max() < 5 * math.sqrt(n * share / 4)
    # Neighbours are dropped together as often as chance has it.
    together = int((found.diff() == 1).sum())
    assert abs(together - n * share**2) < 5 * math.sqrt(n * share**2)


def test_no_draws():
    state = torch.get_rng_state()
    assert dropout_attention._draw(100, 0.0).numel() == 0
    assert torch.equal(torch.get_rng_state(), state)
    assert dropout_attention._draw(0, 0.5).numel() == 0


# ---- in the encoder -----------------------------------------------------------------------------


@pytest.fixture
def bert():
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=40,
        hidden_size=16,
        n_layers=2,
        n_heads=2,
        intermediate_size=24,
        n_positions=400,
        dropout=0.0,
        attention_dropout=0.1,
    )
    return Bert(config).train()


def batch(lengths):
    tokens = torch.randint(1, 40, (len(lengths), max(lengths)))
    return tokens, torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


def test_used_in_training_only(bert, monkeypatch):
    calls = []

    def noted(*inputs):
        calls.append(inputs[3])
        return attend_with_dropout(*inputs)

    monkeypatch.setattr("glm.models.bert.attend_with_dropout", noted)
    tokens, mask = batch([300, 20])
    bert(tokens, mask)
    bert(tokens)
    assert calls == [[300, 20]] * 2 + [[300, 300]] * 2
    calls.clear()
    bert(tokens[:, :200], mask[:, :200])  # short
    bert(tokens, mask.flip(1))  # padding first
    bert.eval()(tokens, mask)
    assert calls == []


def test_padding_and_company_do_not_matter(bert, monkeypatch):
    """Without dropped weights, a row's states and gradients are those of the stock attention."""
    monkeypatch.setattr(dropout_attention, "_draw", lambda n, share: torch.empty(0).long())
    for layer in bert.layers:
        layer.attention.dropout = 1e-9
    tokens, mask = batch([300, 120, 1])
    bert(tokens, mask)[mask].square().sum().backward()
    ours = [p.grad.clone() for p in bert.parameters() if p.grad is not None]
    bert.zero_grad()
    for layer in bert.layers:
        layer.attention.dropout = 0.0
    bert(tokens, mask)[mask].square().sum().backward()
    theirs = [p.grad for p in bert.parameters() if p.grad is not None]
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=2e-3, rtol=1e-3)


def test_seed_decides(bert):
    tokens, mask = batch([300, 280])
    found = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        found.append(bert(tokens, mask)[mask])
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_rows_without_tokens(bert):
    tokens, mask = batch([300, 10])
    mask[1] = False
    states = bert(tokens, mask)
    assert states[0].isfinite().all()
    assert states[1].isnan().all()
