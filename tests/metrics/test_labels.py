"""Labels and scores against truth: hand-computed values, extremes, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glm.metrics import accuracy, aupr, auroc, macro_f1, mcc

LABELS = [accuracy, macro_f1, mcc]
SCORES = [auroc, aupr]

TRUE = ["a", "a", "a", "b", "b", "c"]
GUESS = ["a", "a", "b", "b", "c", "c"]


def test_accuracy():
    assert accuracy(TRUE, GUESS) == 4 / 6
    assert accuracy(TRUE, TRUE) == 1.0
    assert accuracy(["a"], ["b"]) == 0.0


def test_macro_f1():
    """a: precision 1, recall 2/3, so 4/5; b: 1/2 and 1/2; c: 1/2 and 1, so 2/3."""
    assert macro_f1(TRUE, GUESS) == pytest.approx((4 / 5 + 1 / 2 + 2 / 3) / 3)


def test_macro_f1_of_classes_that_are_never_met():
    """One that is never predicted has 0, and so has one that is predicted and never true."""
    assert macro_f1(["a", "b"], ["a", "a"]) == pytest.approx((2 / 3 + 0) / 2)
    assert macro_f1(["a", "a"], ["a", "z"]) == pytest.approx((2 / 3 + 0) / 2)
    assert macro_f1(["a", "a"], ["a", "a"]) == 1.0


def test_mcc_of_two_classes():
    """TP 3, TN 2, FP 1, FN 2: (3 · 2 − 1 · 2) / √(4 · 5 · 3 · 4)."""
    true = [1, 1, 1, 1, 1, 0, 0, 0]
    guess = [1, 1, 1, 0, 0, 0, 0, 1]
    assert mcc(true, guess) == pytest.approx(4 / np.sqrt(240))


def test_mcc_of_three_classes():
    """(right · rows − Σ true · guessed) / √((rows² − Σ guessed²)(rows² − Σ true²))."""
    expected = (4 * 6 - (3 * 2 + 2 * 2 + 1 * 2)) / np.sqrt((36 - 12) * (36 - 14))
    assert mcc(TRUE, GUESS) == pytest.approx(expected)


def test_mcc_of_guessing_one_class():
    assert mcc([0, 1, 1], [1, 1, 1]) == 0.0


def test_auroc_counts_pairs():
    """Of 2 × 3 pairs four are right and one ties."""
    assert auroc([0, 0, 1, 1, 1], [0.2, 0.5, 0.5, 0.9, 0.4]) == pytest.approx(4.5 / 6)
    assert auroc(["no", "yes"], [0.1, 0.2]) == 1.0
    assert auroc([0, 1, 0, 1], [7, 7, 7, 7]) == 0.5


def test_auroc_of_three_classes():
    true = ["a", "b", "c", "a"]
    scores = np.array([[0.8, 0.1, 0.1], [0.3, 0.4, 0.3], [0.2, 0.5, 0.3], [0.1, 0.2, 0.7]])
    a = 2 / 4  # of a's 0.8, 0.1 against 0.3, 0.2
    b = 2 / 3  # of b's 0.4 against 0.1, 0.5, 0.2
    c = 1.5 / 3  # of c's 0.3 against 0.1, 0.3, 0.7
    assert auroc(true, scores) == pytest.approx((a + b + c) / 3)
    pairs = [
        1 / 2,  # a against b by a's score: 0.8, 0.1 against 0.3
        1 / 2,  # a against c: 0.8, 0.1 against 0.2
        2 / 2,  # b against a by b's score: 0.4 against 0.1, 0.2
        0 / 1,  # b against c: 0.4 against 0.5
        1 / 2,  # c against a by c's score: 0.3 against 0.1, 0.7
        0.5 / 1,  # c against b: 0.3 against 0.3
    ]
    assert auroc(true, scores, average="one_vs_one") == pytest.approx(np.mean(pairs))


def test_the_second_class_is_the_positive_one():
    true, scores = ["bound", "free", "bound"], [0.9, 0.2, 0.8]
    assert auroc(true, scores) == 0.0
    assert auroc(true, scores, classes=["free", "bound"]) == 1.0
    assert aupr(true, scores, classes=["free", "bound"]) == 1.0
    table = np.stack([1 - np.array(scores), scores], axis=1)
    assert auroc(true, table, classes=["free", "bound"]) == 1.0
    assert auroc(true, table, classes=["free", "bound"], average="one_vs_one") == 1.0


def test_aupr_steps():
    """Ordered, the positives stand first, third and fourth: (1 + 2/3 + 3/4) / 3."""
    assert aupr([1, 0, 1, 1], [0.9, 0.8, 0.7, 0.6]) == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)


def test_aupr_of_ties_is_the_share_of_positives():
    assert aupr([0, 1, 0, 0], [1, 1, 1, 1]) == 0.25


def test_aupr_of_three_classes():
    scores = np.eye(3)[[0, 1, 2, 1]]
    each = [1.0, aupr([0, 1, 0, 0], scores[:, 1]), aupr([0, 0, 1, 1], scores[:, 2])]
    assert aupr(["a", "b", "c", "c"], scores) == pytest.approx(np.mean(each))


@given(st.lists(st.tuples(st.booleans(), st.integers(-5, 5)), min_size=1, max_size=40))
def test_auroc_by_definition(rows: list[tuple[bool, int]]):
    positive = [score for is_positive, score in rows if is_positive]
    negative = [score for is_positive, score in rows if not is_positive]
    true, scores = zip(*rows, strict=True)
    if not positive or not negative:
        with pytest.raises(ValueError, match="columns for 1 classes"):
            auroc(true, scores)
        return
    won = np.subtract.outer(positive, negative)
    expected = ((won > 0) + 0.5 * (won == 0)).mean()
    assert auroc(true, scores) == pytest.approx(expected)


def test_columns_of_any_kind():
    frame = pd.DataFrame({"true": pd.Categorical(TRUE), "guess": pd.array(GUESS, dtype="string")})
    assert accuracy(frame["true"], frame["guess"]) == 4 / 6
    assert accuracy(np.array([1, 2], np.int8), np.array([1, 3])) == 0.5


@pytest.mark.parametrize("metric", LABELS)
@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA])
def test_missing_labels(metric, missing):
    with pytest.raises(ValueError, match=r"1 of 3 \(33%\) labels of truth are missing \(rows 1\)"):
        metric(pd.Series(["a", missing, "b"], dtype=object), ["a", "a", "b"])


@pytest.mark.parametrize("metric", LABELS + SCORES)
def test_different_lengths(metric):
    with pytest.raises(ValueError, match="truth has 3"):
        metric([0, 1, 1], [0, 1])


@pytest.mark.parametrize("metric", LABELS + SCORES)
def test_nothing(metric):
    with pytest.raises(ValueError, match=r"shape \(0,\)"):
        metric([], [])


@pytest.mark.parametrize("metric", LABELS)
def test_names_against_numbers(metric):
    with pytest.raises(ValueError, match="make them the same"):
        metric(["0", "1"], [0, 1])


def test_a_single_class():
    assert accuracy(["a", "a"], ["a", "b"]) == 0.5
    with pytest.raises(ValueError, match=r"All of truth is 'a'.*at least two classes"):
        mcc(["a", "a"], ["a", "b"])


@pytest.mark.parametrize("metric", SCORES)
def test_scores_that_are_refused(metric):
    with pytest.raises(ValueError, match=r"1 of 3 \(33%\) rows of scores hold NaN.*\(rows 2\)"):
        metric([0, 1, 1], [0.1, 0.2, float("nan")])
    with pytest.raises(ValueError, match="2 columns for 3 classes"):
        metric(["a", "b", "c"], np.ones((3, 2)))
    with pytest.raises(ValueError, match=r"1 of 3 classes have no row \(c\)"):
        metric(["a", "b"], np.ones((2, 3)), classes=["a", "b", "c"])
    with pytest.raises(ValueError, match=r"not among classes \(x\)"):
        metric(["a", "x"], [0.1, 0.2], classes=["a", "b"])
    with pytest.raises(ValueError, match="twice"):
        metric(["a", "b"], [0.1, 0.2], classes=["a", "a"])


def test_average_is_one_of_two():
    with pytest.raises(ValueError, match="average is 'macro'"):
        auroc([0, 1], [0, 1], average="macro")
