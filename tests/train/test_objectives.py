"""Objectives: what is hidden and asked, by exact expectation; losses by closed form and parity."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import exp, log, sqrt

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from glm.models import BertConfig
from glm.models.heads import Classifier
from glm.models.weights import load_network
from glm.train import (
    Batch,
    Classification,
    KmerSpans,
    MaskedTokens,
    Objective,
    Poisson,
    Regression,
    Sentences,
    balanced_weights,
    mask_spans,
    mask_tokens,
)

PAD, MASK, CLS, EOS = 0, 1, 2, 3
GENES = np.arange(4, 104)
SHAPE = (400, 100)


@dataclass(frozen=True)
class Words:
    """A vocabulary: numbers from ``special`` on."""

    special: Mapping[str, int]
    tokens: np.ndarray


WORDS = Words({"pad": PAD, "mask": MASK, "cls": CLS, "eos": EOS}, GENES)


def table(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Sentences with special tokens at both ends and padding, and what may be hidden."""
    tokens = np.random.default_rng(seed).choice(GENES, SHAPE)
    tokens[:, 0], tokens[:, -11], tokens[:, -10:] = CLS, EOS, PAD
    return tokens, tokens > EOS


def some_sentences(n: int = 30, seed: int = 0, **parts: np.ndarray) -> Sentences:
    """Sentences of 3 to 20 words between ``<cls>`` and ``<eos>``."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, 21, n)
    found = [[CLS, *rng.choice(GENES, length), EOS] for length in lengths]
    return Sentences(np.concatenate(found).astype(np.int32), np.cumsum([0, *lengths + 2]), **parts)


def within(count: float, n: int, share: float) -> bool:
    """Whether a binomial count lies within five standard deviations."""
    return abs(count - n * share) <= 5 * sqrt(n * share * (1 - share))


def make(objective: Objective, data: Sentences, chosen=None, seed: int = 0) -> Batch:
    chosen = np.arange(len(data)) if chosen is None else np.asarray(chosen)
    objective.check(data)
    return objective.batch(data, chosen, np.random.default_rng(seed), training=True)


# ---- hidden tokens -------------------------------------------------------------------------------


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


def test_shares_of_grover():
    """2.2%, of which 80% masked and 20% another token: none is kept."""
    options = {"share": 0.022, "as_mask": 0.8, "as_random": 0.2, "other": True}
    n, n_predicted, n_masked = 0, 0, 0
    for seed in range(10):
        tokens, shown, predicted = masked(seed, **options)
        assert (shown[predicted] != tokens[predicted]).all()
        n += int((tokens > EOS).sum())
        n_predicted += int(predicted.sum())
        n_masked += int((shown == MASK).sum())
    assert within(n_predicted, n, 0.022)
    assert within(n_masked, n_predicted, 0.8)


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


@pytest.mark.parametrize("other", [False, True])
def test_random_tokens_are_genes_all_alike(other: bool):
    """Of 100 genes each with 1/100; where it is another one, each of the 99 others with 1/99."""
    tokens, shown, predicted = masked(share=1.0, as_mask=0.0, as_random=1.0, other=other)
    drawn = shown[predicted]
    assert predicted.sum() == (tokens > EOS).sum()
    assert set(drawn.tolist()) == set(GENES.tolist())
    counts = np.bincount(drawn)[GENES]
    assert all(within(int(n), drawn.size, 1 / GENES.size) for n in counts)
    same = int((shown == tokens)[predicted].sum())
    assert same == 0 if other else within(same, drawn.size, 1 / GENES.size)


def test_another_one_of_words_in_any_order():
    """Each of the others with the same probability, whichever is left out."""
    words = np.array([9, 4, 7])
    tokens = np.repeat(words, 6000)
    shown, _ = mask_tokens(
        tokens,
        np.ones(tokens.size, bool),
        np.random.default_rng(0),
        mask_token=MASK,
        random_tokens=words,
        share=1.0,
        as_mask=0.0,
        as_random=1.0,
        other=True,
    )
    for word in words:
        for instead in set(words.tolist()) - {int(word)}:
            assert within(int((shown[tokens == word] == instead).sum()), 6000, 0.5)


def test_factors_lower_the_probability():
    tokens, maskable = table()
    factors = np.where(np.arange(SHAPE[1]) % 2, 1.0, 0.2) * np.ones(SHAPE)
    rng = np.random.default_rng(0)
    _, predicted = mask_tokens(
        tokens, maskable, rng, mask_token=MASK, random_tokens=GENES, factors=factors
    )
    for factor in (1.0, 0.2):
        of_these = maskable & (factors == factor)
        assert within(int(predicted[of_these].sum()), int(of_these.sum()), 0.15 * factor)


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


# ---- runs of k-mers ------------------------------------------------------------------------------

OFFSETS = {3: (-1, 0, 1), 4: (-1, 0, 1, 2), 5: (-2, -1, 0, 1, 2), 6: (-2, -1, 0, 1, 2, 3)}


class _Drawn:
    """Stands for a generator whose draws are known."""

    def __init__(self, draws: np.ndarray) -> None:
        self.draws = draws

    def random(self, shape: tuple[int, ...]) -> np.ndarray:
        assert shape == self.draws.shape
        return self.draws


@given(st.sampled_from(sorted(OFFSETS)), st.data())
def test_runs_are_those_around_their_centres(k: int, data):
    """By the authors' offsets, a centre at a time; clipped at the ends and at special tokens."""
    n = data.draw(st.integers(1, 30))
    centres = np.array([data.draw(st.lists(st.booleans(), min_size=n, max_size=n))])
    maskable = np.array([data.draw(st.lists(st.booleans(), min_size=n, max_size=n))])
    drawn = _Drawn(np.where(centres, 0.0, 1.0))
    expected = np.zeros((1, n), bool)
    for centre in np.flatnonzero(centres & maskable):
        for offset in OFFSETS[k]:
            if 0 <= centre + offset < n:
                expected[0, centre + offset] = True
    np.testing.assert_array_equal(mask_spans(maskable, drawn, k=k), expected & maskable)


@pytest.mark.parametrize("k", sorted(OFFSETS))
def test_a_run_hides_every_kmer_of_a_base(k: int):
    """The base that all tokens of a run share is in no other token."""
    n = 40
    drawn = np.ones((1, n))
    drawn[0, 20] = 0.0
    run = np.flatnonzero(mask_spans(np.ones((1, n), bool), _Drawn(drawn), k=k))
    assert run.tolist() == list(range(run[0], run[0] + k))
    base = run[-1]  # the k-mer that starts there and the k − 1 before hold it
    assert set(range(base - k + 1, base + 1)) == set(run.tolist())


@pytest.mark.parametrize("k", sorted(OFFSETS))
def test_expectation_of_runs(k: int):
    """1 − (1 − share / k)^k inside; fewer centres reach the ends."""
    rng, n, length = np.random.default_rng(0), 20_000, 20
    shares = mask_spans(np.ones((n, length), bool), rng, k=k).mean(axis=0)
    for place in range(length):
        reaching = sum(0 <= place - offset < length for offset in OFFSETS[k])
        expected = 1 - (1 - 0.15 / k) ** reaching
        assert within(shares[place] * n, n, expected), place


def test_tokens_of_a_run_are_shown_each_by_its_own_draw():
    """Of 6 tokens in a run, any number may be masked; shares are 80/10/10 over all."""
    data = some_sentences(3000)
    batch = make(KmerSpans(WORDS, k=6), data)
    shown = batch.tokens.flatten()[batch.positions]
    n = len(shown)
    assert within(int((shown == MASK).sum()), n, 0.8)
    kept = int((shown == batch.targets).sum())
    assert within(kept, n, 0.1 + 0.1 / GENES.size)
    runs = torch.diff(batch.positions) == 1
    both = (shown[1:] == MASK) & (shown[:-1] == MASK) & runs
    assert within(int(both.sum()), int(runs.sum()), 0.64)
    assert shown.min() >= MASK
    assert not (shown == CLS).any()
    assert not (shown == EOS).any()


def test_factors_lower_the_probability_of_centres():
    maskable = np.ones((50_000, 9), bool)
    factors = np.zeros((50_000, 9))
    factors[:, 4] = 0.5
    chosen = mask_spans(maskable, np.random.default_rng(0), k=3, share=0.6, factors=factors)
    assert within(int(chosen[:, 4].sum()), 50_000, 0.1)
    assert (chosen[:, 3:6].sum(axis=1) % 3 == 0).all()
    assert not chosen[:, [0, 1, 2, 6, 7, 8]].any()


# ---- batches of hidden tokens --------------------------------------------------------------------

HIDING = [
    MaskedTokens(WORDS),
    MaskedTokens(WORDS, share=0.4, as_mask=0.8, as_random=0.2, other=True),
    KmerSpans(WORDS, k=5, share=0.3),
]


@pytest.mark.parametrize("objective", HIDING, ids=lambda o: type(o).__name__)
def test_batches_ask_for_what_is_hidden(objective):
    data = some_sentences()
    chosen = np.array([7, 2, 29])
    batch = make(objective, data, chosen)
    original = data.padded(chosen, PAD)
    assert batch.rows.tolist() == chosen.tolist()
    assert (batch.tokens.dtype, batch.mask.dtype) == (torch.int64, torch.bool)
    assert (batch.mask.numpy() == (original != PAD)).all()
    assert (batch.targets.numpy() == original.ravel()[batch.positions]).all()
    assert batch.weight == len(batch.positions) == len(batch.targets)
    hidden = np.zeros(original.size, bool)
    hidden[batch.positions] = True
    assert (batch.tokens.numpy().ravel()[~hidden] == original.ravel()[~hidden]).all()
    assert (original.ravel()[hidden] > EOS).all()


@pytest.mark.parametrize("objective", HIDING, ids=lambda o: type(o).__name__)
def test_a_batch_is_decided_by_its_generator(objective):
    data = some_sentences()
    one, other, third = (make(objective, data, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.tokens, other.tokens)
    assert torch.equal(one.positions, other.positions)
    assert not torch.equal(one.tokens, third.tokens)


def test_factors_go_with_their_sentences():
    """Padded as tokens are: what has the factor 0 is never hidden, whatever its batch."""
    plain = some_sentences()
    factors = (plain.tokens % 2).astype(np.float32) * 2
    data = some_sentences(factors=factors)
    for objective in (
        MaskedTokens(WORDS, share=0.5),
        KmerSpans(WORDS, k=1, share=0.5),
    ):
        batch = make(objective, data, [3, 9, 1, 20])
        asked = batch.targets[batch.targets > EOS]
        assert (asked % 2 == 1).all()
        odd = data.padded(np.array([3, 9, 1, 20]), PAD)
        assert len(asked) == int(((odd > EOS) & (odd % 2 == 1)).sum())


def test_special_tokens_anywhere_in_the_vocabulary():
    words = Words(
        {"pad": 0, "mask": 50, "cls": 7}, np.array([i for i in range(60) if i not in (0, 7, 50)])
    )
    data = Sentences(np.array([7, 1, 2, 50, 59, 7], np.int32), np.array([0, 6]))
    batch = make(MaskedTokens(words, share=1.0), data)
    assert batch.positions.tolist() == [1, 2, 4]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"share": 1.5}, "share is 1.5"),
        ({"as_mask": -0.1}, "as_mask is -0.1"),
        ({"as_mask": 0.9, "as_random": 0.2}, "more than 1 together"),
        ({"share": float("nan")}, "share is nan"),
    ],
)
def test_shares_that_are_none(options: dict, said: str):
    with pytest.raises(ValueError, match=said):
        MaskedTokens(WORDS, **options)
    with pytest.raises(ValueError, match=said):
        KmerSpans(WORDS, k=6, **options)


def test_what_cannot_hide():
    with pytest.raises(ValueError, match="no special token for mask"):
        MaskedTokens(Words({"pad": 0}, GENES))
    with pytest.raises(ValueError, match="k is 0"):
        KmerSpans(WORDS, k=0)
    for bad in (-1.0, 8.0, float("nan")):
        factors = np.ones(some_sentences().tokens.size, np.float32)
        factors[5] = bad
        with pytest.raises(ValueError, match="factors run from"):
            MaskedTokens(WORDS).check(some_sentences(factors=factors))


# ---- batches with targets ------------------------------------------------------------------------


def test_classes_of_rows():
    targets = np.arange(30) % 3
    data = some_sentences(targets=targets)
    batch = make(Classification(("a", "b", "c")), data, [4, 2, 9])
    assert batch.positions is None
    assert batch.targets.tolist() == [1, 2, 0]
    assert batch.weight == 3
    assert batch.mask.sum(dim=1).tolist() == data.lengths[[4, 2, 9]].tolist()


def test_classes_of_tokens_ask_for_those_that_have_one():
    plain = some_sentences()
    targets = np.where(plain.tokens % 5 == 0, plain.tokens % 2, -1).astype(np.int64)
    data = some_sentences(targets=targets)
    chosen = np.array([8, 0, 17])
    batch = make(Classification(("a", "b"), "token"), data, chosen)
    tokens = data.padded(chosen, PAD).ravel()
    expected = np.flatnonzero((tokens % 5 == 0) & (tokens != PAD))
    assert batch.positions.tolist() == expected.tolist()
    assert batch.targets.tolist() == (tokens[expected] % 2).tolist()
    assert batch.weight == expected.size


def test_a_batch_in_which_no_token_has_a_target():
    targets = np.full(some_sentences().tokens.size, -1)
    targets[0] = 1
    batch = make(Classification(("a", "b"), "token"), some_sentences(targets=targets), [5, 6])
    assert (batch.weight, batch.positions.tolist(), batch.targets.tolist()) == (0, [], [])


def test_labels_and_amounts_keep_what_is_missing():
    targets = np.tile(np.array([[1, 0, np.nan], [np.nan, 1, 1]], np.float32), (15, 1))
    data = some_sentences(targets=targets)
    batch = make(Classification(("a", "b", "c"), kind="multi_label"), data, [0, 1])
    np.testing.assert_array_equal(batch.targets.numpy(), targets[:2])
    assert batch.weight == 4
    assert make(Regression(("a", "b", "c")), data, [0, 1]).weight == 4


def test_amounts_of_tokens():
    """Those of which no amount is known are not asked for."""
    n = some_sentences().tokens.size
    targets = np.full((n, 2), np.nan, np.float32)
    targets[3], targets[4, 1] = (1.0, 2.0), 5.0
    data = some_sentences(targets=targets)
    batch = make(Regression(("a", "b"), "token"), data, [0])
    assert batch.positions.tolist() == [3, 4]
    assert batch.weight == 3


@pytest.mark.parametrize("objective", [Regression(), Poisson()])
def test_one_amount_a_row(objective):
    data = some_sentences(targets=np.arange(30, dtype=np.float64))
    batch = make(objective, data, [3, 1])
    assert batch.targets.dtype == torch.float32  # as every device can hold it
    assert batch.targets.tolist() == [[3.0], [1.0]]


N_TOKENS = some_sentences().tokens.size


@pytest.mark.parametrize(
    ("objective", "targets", "said"),
    [
        (Classification(("a", "b")), None, "no targets"),
        (Classification(("a", "b")), np.zeros(N_TOKENS, int), r"expected \(30,\)"),
        (Classification(("a", "b"), "token"), np.zeros(30, int), rf"expected \({N_TOKENS},\)"),
        (Classification(("a", "b")), np.zeros((30, 2), int), r"shape \(30, 2\)"),
        (Classification(("a", "b")), np.full(30, 2), "is the class 2; expected 0 to 1"),
        (Classification(("a", "b")), np.zeros(30), "of type float64"),
        (Classification(("a", "b")), np.arange(-1, 29).clip(-1, 1), "1 of 30 .* number 0"),
        (Classification(("a", "b"), "token"), np.full(N_TOKENS, -1), "No token has a target"),
        (Classification(("a", "b"), kind="multi_label"), np.full((30, 2), 2.0), "neither 0 nor 1"),
        (Regression(), np.full(30, np.nan), "30 of 30 sentences have no target"),
        (Regression(), np.full(30, np.inf), "30 of 30 sentences have no target"),
        (Regression(("a", "b")), np.full((30, 2), [1, np.inf]), "30 targets are infinite"),
        (Poisson(), np.full(30, -1.0), "30 targets are below zero"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_targets_that_do_not_fit(objective, targets, said: str):
    with pytest.raises(ValueError, match=said):
        objective.check(some_sentences(targets=targets))


@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [
        (lambda: Classification(("a",)), ValueError, "at least 2"),
        (lambda: Classification(("a", "a")), ValueError, "twice"),
        (lambda: Classification("ab"), TypeError, "a tuple of names"),
        (lambda: Classification((0, 1)), TypeError, "a tuple of names"),
        (lambda: Classification(("a", "b"), "cell"), ValueError, "level is 'cell'"),
        (lambda: Classification(("a", "b"), kind="binary"), ValueError, "kind is 'binary'"),
        (lambda: Classification(("a", "b"), class_weights=(1.0,)), ValueError, "each of 2 labels"),
        (lambda: Classification(("a", "b"), class_weights=(1.0, 0.0)), ValueError, "above zero"),
        (lambda: Regression(huber=0.0), ValueError, "huber is 0.0"),
        (lambda: Regression(()), ValueError, "at least 1"),
        (lambda: Poisson(link="identity"), ValueError, "link is 'identity'"),
    ],
)
def test_objectives_that_are_none(wrong: Callable[[], Objective], error, said: str):
    with pytest.raises(error, match=said):
        wrong()


# ---- losses by closed form -----------------------------------------------------------------------


def asked(targets: Tensor, weight: float = 0.0) -> Batch:
    empty = torch.zeros(len(targets), 1, dtype=torch.int64)
    return Batch(empty, empty > 0, empty[:, 0], None, targets, weight)


def test_cross_entropy_of_equal_logits_is_the_log_of_the_classes():
    objective = Classification(("a", "b", "c"))
    batch = asked(torch.tensor([0, 1, 2, 2]))
    assert objective.loss(torch.zeros(4, 3), batch).item() == pytest.approx(log(3))
    assert MaskedTokens(WORDS).loss(torch.zeros(4, 3), batch).item() == pytest.approx(log(3))
    outputs = torch.tensor([[9.0, 0, 0], [9, 0, 0], [0, 0, 9], [0, 0, 9]])
    assert objective.scores(outputs, batch)["accuracy"].item() == 0.75


def test_class_weights_weigh_the_mean():
    """Two rows of losses ln(1 + e⁻¹) and ln(1 + e), weighing 1 and 3."""
    objective = Classification(("a", "b"), class_weights=(1.0, 3.0))
    data = some_sentences(2, targets=np.array([0, 1]))
    batch = make(objective, data)
    assert batch.weight == 4
    outputs = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    expected = (log(1 + exp(-1)) + 3 * log(1 + exp(1))) / 4
    assert objective.loss(outputs, batch).item() == pytest.approx(expected)
    assert objective.scores(outputs, batch)["accuracy"].item() == 0.25


def test_labels_that_are_not_known_do_not_count():
    """Losses ln 2 each where the logit is 0; of the logit 2, ln(1 + e⁻²) for present."""
    objective = Classification(("a", "b"), kind="multi_label", class_weights=(1.0, 5.0))
    targets = torch.tensor([[1.0, float("nan")], [0.0, 1.0]])
    outputs = torch.tensor([[0.0, 99.0], [0.0, 2.0]])
    expected = (2 * log(2) + 5 * log(1 + exp(-2))) / 7
    assert objective.loss(outputs, asked(targets)).item() == pytest.approx(expected)
    data = some_sentences(2, targets=targets.numpy())
    assert make(objective, data).weight == 7
    accuracy = objective.scores(outputs, asked(targets))["accuracy"]
    assert accuracy.item() == pytest.approx((0 + 1 + 5) / 7)


def test_regression():
    outputs = torch.tensor([[1.0, 0.0], [4.0, 0.0]])
    targets = torch.tensor([[0.0, float("nan")], [1.0, 0.5]])
    batch = asked(targets)
    assert Regression(("a", "b")).loss(outputs, batch).item() == pytest.approx((1 + 9 + 0.25) / 3)
    huber = (0.5 + 1 * (3 - 0.5) + 0.5 * 0.25) / 3
    assert Regression(("a", "b"), huber=1.0).loss(outputs, batch).item() == pytest.approx(huber)
    error = Regression(("a", "b")).scores(outputs, batch)["absolute_error"]
    assert error.item() == pytest.approx((1 + 3 + 0.5) / 3)


@pytest.mark.parametrize("link", ["log", "softplus"])
@given(x=st.floats(-30, 15), y=st.floats(0, 100))
@settings(deadline=None)
def test_poisson(link: str, x: float, y: float):
    """μ − y ln μ."""
    mean = exp(x) if link == "log" else np.logaddexp(0, x)
    objective = Poisson(link=link)
    batch = asked(torch.tensor([[y]]))
    got = objective.loss(torch.tensor([[x]]), batch).item()
    assert got == pytest.approx(mean - y * log(mean), rel=1e-4, abs=1e-4)
    deviance = objective.scores(torch.tensor([[x]]), batch)["deviance"].item()
    expected = 2 * ((y * (log(y) - log(mean)) if y else 0) - y + mean)
    assert deviance == pytest.approx(expected, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("link", ["log", "softplus"])
def test_poisson_is_least_at_the_mean(link: str):
    """Its gradient vanishes where the mean of the counts is predicted."""
    counts = torch.tensor([[0.0], [3.0], [6.0]])
    x = torch.tensor(log(3.0) if link == "log" else log(exp(3.0) - 1), requires_grad=True)
    Poisson(link=link).loss(x.expand(3, 1), asked(counts)).backward()
    assert abs(x.grad.item()) < 1e-6


def test_poisson_of_outputs_far_below_zero():
    """Where softplus underflows, its logarithm is the output; the gradient stays a number."""
    x = torch.tensor([[-300.0]], requires_grad=True)
    loss = Poisson().loss(x, asked(torch.tensor([[2.0]])))
    loss.backward()
    assert loss.item() == pytest.approx(600)
    assert x.grad.item() == pytest.approx(-2)


def test_losses_are_single_precision():
    """Under mixed precision too."""
    half = torch.zeros(2, 2, dtype=torch.bfloat16)
    classes, amounts = asked(torch.tensor([0, 1])), asked(torch.ones(2, 2))
    for objective, batch in [
        (Classification(("a", "b")), classes),
        (Classification(("a", "b"), kind="multi_label"), amounts),
        (Regression(("a", "b")), amounts),
        (Poisson(("a", "b")), amounts),
        (MaskedTokens(WORDS), classes),
        (KmerSpans(WORDS, k=6), classes),
    ]:
        assert objective.loss(half, batch).dtype == torch.float32
        assert all(score.dtype == torch.float32 for score in objective.scores(half, batch).values())
        assert isinstance(objective, Objective)


def test_balanced_weights():
    assert balanced_weights(np.array([0, 0, 0, 1, -1]), 2) == (4 / (2 * 3), 4 / (2 * 1))
    table = np.array([[1, 0], [0, np.nan], [0, 1], [0, 1]])
    assert balanced_weights(table, 2) == (3.0, 0.5)
    assert balanced_weights(np.array([0, 0]), 2) == (0.5, 1.0)
    with pytest.raises(ValueError, match="No target is known"):
        balanced_weights(np.array([-1]), 2)


@given(st.lists(st.integers(0, 3), min_size=8, max_size=60))
def test_with_balanced_weights_each_class_counts_alike(classes: list[int]):
    targets = np.array([0, 1, 2, 3, *classes])
    weights = np.array(balanced_weights(targets, 4))
    total = np.bincount(targets, weights[targets])
    np.testing.assert_allclose(total, targets.size / 4)


# ---- losses against transformers -----------------------------------------------------------------

CONFIG = {
    "vocab_size": 104,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 32,
    "hidden_act": "relu",
}
OURS = BertConfig(104, 16, 2, 2, 24, 32)


def both(kind: str, head: str, **options):
    """The same network, theirs and ours, with weights that are not the first ones."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        theirs = getattr(transformers, kind)(transformers.BertConfig(**CONFIG, **options))
        for parameter in theirs.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    state = {name: tensor.clone() for name, tensor in theirs.state_dict().items()}
    return theirs.eval(), load_network(state, OURS, head)


def assert_same_loss_and_gradient(theirs, ours, loss_of_theirs: Tensor, loss_of_ours: Tensor):
    assert loss_of_ours.item() == pytest.approx(loss_of_theirs.item(), rel=1e-5)
    loss_of_theirs.backward()
    loss_of_ours.backward()
    name = "embeddings.token.weight"
    torch.testing.assert_close(
        ours.bert.get_parameter(name).grad,
        theirs.bert.embeddings.word_embeddings.weight.grad,
        rtol=1e-3,
        atol=1e-6,
    )


@pytest.mark.parametrize("objective", HIDING, ids=lambda o: type(o).__name__)
def test_parity_of_hidden_tokens(objective):
    theirs, ours = both("BertForMaskedLM", "tokens")
    batch = make(objective, some_sentences())
    labels = torch.full(batch.tokens.shape, -100)
    labels.view(-1)[batch.positions] = batch.targets
    expected = theirs(batch.tokens, attention_mask=batch.mask.long(), labels=labels).loss
    got = objective.loss(ours(batch.tokens, batch.mask, positions=batch.positions), batch)
    assert_same_loss_and_gradient(theirs, ours, expected, got)


def _rows(kind: str) -> tuple[Objective, np.ndarray]:
    rng = np.random.default_rng(0)
    if kind == "single_label_classification":
        return Classification(("a", "b", "c")), rng.integers(0, 3, 30)
    if kind == "multi_label_classification":
        objective = Classification(("a", "b", "c"), kind="multi_label")
        return objective, rng.integers(0, 2, (30, 3)).astype(np.float32)
    return Regression(("a", "b", "c")), rng.normal(size=(30, 3)).astype(np.float32)


@pytest.mark.parametrize(
    "kind", ["single_label_classification", "multi_label_classification", "regression"]
)
def test_parity_of_rows(kind: str):
    objective, targets = _rows(kind)
    theirs, ours = both("BertForSequenceClassification", "cells", num_labels=3, problem_type=kind)
    batch = make(objective, some_sentences(targets=targets))
    labels = torch.from_numpy(targets)
    expected = theirs(batch.tokens, attention_mask=batch.mask.long(), labels=labels).loss
    got = objective.loss(ours(batch.tokens, batch.mask, positions=batch.positions), batch)
    assert_same_loss_and_gradient(theirs, ours, expected, got)


def test_parity_of_tokens():
    """Theirs ignores -100, ours does not even compute it."""
    theirs, ours = both("BertForTokenClassification", "genes", num_labels=2)
    assert isinstance(ours, Classifier)
    tokens = some_sentences().tokens
    targets = np.where(tokens % 3 == 0, tokens % 2, -1).astype(np.int64)
    objective = Classification(("a", "b"), "token")
    batch = make(objective, some_sentences(targets=targets))
    data = some_sentences(targets=targets)
    labels = torch.from_numpy(data.padded(np.arange(30), -1, targets))
    expected = theirs(
        batch.tokens,
        attention_mask=batch.mask.long(),
        labels=labels.masked_fill(labels < 0, -100),
    ).loss
    got = objective.loss(ours(batch.tokens, batch.mask, positions=batch.positions), batch)
    assert_same_loss_and_gradient(theirs, ours, expected, got)


def test_batch_moves_as_a_whole():
    batch = make(MaskedTokens(WORDS), some_sentences())
    moved = batch.to(torch.device("meta"))
    on_it = (moved.tokens, moved.mask, moved.positions, moved.targets)
    assert {tensor.device.type for tensor in on_it} == {"meta"}
    assert moved.rows.device.type == "cpu"
    assert moved.weight == batch.weight
