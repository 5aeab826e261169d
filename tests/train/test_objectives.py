"""Masking: the shares, what is never hidden, what stands in its place."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glm.train import MaskedBatch, mask_tokens

PAD, MASK, CLS, EOS = 0, 1, 2, 3
GENES = np.arange(4, 104)
SHAPE = (400, 100)


def table(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Sentences with special tokens at both ends and padding, and what may be hidden."""
    tokens = np.random.default_rng(seed).choice(GENES, SHAPE)
    tokens[:, 0], tokens[:, -11], tokens[:, -10:] = CLS, EOS, PAD
    return tokens, tokens > EOS


def within(count: int, n: int, share: float) -> bool:
    """Whether a binomial count lies within five standard deviations."""
    return abs(count - n * share) < 5 * sqrt(n * share * (1 - share))


def masked(seed: int = 0, **options) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    tokens, maskable = table()
    rng = np.random.default_rng(seed)
    shown, predicted = mask_tokens(
        tokens, maskable, rng, mask_token=MASK, random_tokens=GENES, **options
    )
    return tokens, shown, predicted


def test_shares():
    tokens, shown, predicted = masked()
    n = int((tokens > EOS).sum())
    n_predicted = int(predicted.sum())
    assert within(n_predicted, n, 0.15)
    assert within(int((shown == MASK).sum()), n_predicted, 0.8)
    changed = predicted & (shown != MASK) & (shown != tokens)
    assert within(int(changed.sum()), n_predicted, 0.1 * 0.99)  # one draw in 100 is the gene itself
    kept = predicted & (shown == tokens)
    assert within(int(kept.sum()), n_predicted, 0.1 + 0.1 * 0.01)


def test_every_place_is_as_likely():
    n_hidden = np.zeros(SHAPE[1])
    for seed in range(20):
        n_hidden += masked(seed)[2].sum(axis=0)
    inner = n_hidden[1:-11]
    assert all(within(int(n), 20 * SHAPE[0], 0.15) for n in inner)


@pytest.mark.parametrize("share", [0.15, 1.0])
def test_special_tokens_and_padding_are_never_touched(share: float):
    tokens, shown, predicted = masked(share=share)
    special = tokens <= EOS
    assert not predicted[special].any()
    assert (shown[special] == tokens[special]).all()


def test_what_is_not_predicted_is_shown_as_it_is():
    tokens, shown, predicted = masked()
    assert (shown[~predicted] == tokens[~predicted]).all()


def test_random_tokens_are_genes_all_alike():
    tokens, shown, predicted = masked(share=1.0, as_mask=0.0, as_random=1.0)
    drawn = shown[predicted]
    assert predicted.sum() == (tokens > EOS).sum()
    assert set(drawn.tolist()) == set(GENES.tolist())
    counts = np.bincount(drawn)[GENES]
    assert all(within(int(n), drawn.size, 1 / GENES.size) for n in counts)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"share": 0.0}, "nothing"),
        ({"share": 1.0, "as_mask": 1.0, "as_random": 0.0}, "mask"),
        ({"share": 1.0, "as_mask": 0.0, "as_random": 0.0}, "as is"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_extremes(options: dict, expected: str):
    tokens, shown, predicted = masked(**options)
    genes = tokens > EOS
    assert (predicted == (genes & (expected != "nothing"))).all()
    wanted = np.where(genes, MASK, tokens) if expected == "mask" else tokens
    assert (shown == wanted).all()


def test_seed_decides():
    one, other, third = masked(1), masked(1), masked(2)
    assert (one[1] == other[1]).all()
    assert (one[2] == other[2]).all()
    assert (one[2] != third[2]).any()


def test_tokens_are_not_changed():
    tokens, maskable = table()
    before = tokens.copy(), maskable.copy()
    rng = np.random.default_rng(0)
    mask_tokens(tokens, maskable, rng, mask_token=MASK, random_tokens=GENES, share=1.0)
    assert (tokens == before[0]).all()
    assert (maskable == before[1]).all()


@given(st.lists(st.integers(0, 20), max_size=30), st.integers(0, 5))
def test_any_sentence(tokens: list[int], seed: int):
    array = np.array(tokens, np.int64)
    shown, predicted = mask_tokens(
        array, array > EOS, np.random.default_rng(seed), mask_token=MASK, random_tokens=GENES
    )
    assert shown.shape == predicted.shape == array.shape
    assert shown.dtype == array.dtype
    assert not predicted[array <= EOS].any()
    assert (shown[~predicted] == array[~predicted]).all()


def test_batch_moves_as_a_whole():
    batch = MaskedBatch(
        torch.ones(2, 3, dtype=torch.int64),
        torch.ones(2, 3, dtype=torch.bool),
        torch.tensor([1, 4]),
        torch.tensor([7, 8]),
    )
    moved = batch.to(torch.device("meta"))
    assert {t.device.type for t in vars(moved).values()} == {"meta"}
    assert moved.tokens.shape == (2, 3)
