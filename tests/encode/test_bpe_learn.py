"""Learnt merges against the textbook."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import glm
from glm.bases import to_codes
from glm.encode import BytePairs, bpe_learn, learn_merges


def textbook(text: str, n_merges: int) -> list[tuple[str, str]]:
    """Count all neighbours, merge the most frequent pair, start again."""
    age = {letter: i for i, letter in enumerate("ACGT")}
    parts = [list(part) for part in text.replace("N", " ").split()]
    merges: list[tuple[str, str]] = []
    for _ in range(n_merges):
        counts = Counter(pair for part in parts for pair in pairwise(part))
        if not counts:
            break
        left, right = min(counts, key=lambda p: (-counts[p], age[p[0]], age[p[1]]))
        age[left + right] = len(age)
        merges.append((left, right))
        parts = [_merge(part, left, right) for part in parts]
    return merges


def _merge(part: list[str], left: str, right: str) -> list[str]:
    found: list[str] = []
    i = 0
    while i < len(part):
        both = part[i : i + 2] == [left, right]
        found.append(left + right if both else part[i])
        i += 2 if both else 1
    return found


def random_text(n: int, seed: int, letters: str = "ACGT") -> str:
    return "".join(np.random.default_rng(seed).choice(list(letters), n))


def test_hand_checked():
    # AC stands three times, then ACG twice; then all pairs once, and T is the oldest left token.
    assert learn_merges(to_codes("ACACGTACG"), 3) == [("A", "C"), ("AC", "G"), ("T", "ACG")]


def test_ties_go_to_the_older_tokens():
    assert learn_merges(to_codes("TTGGCCAA"), 1) == [("A", "A")]
    assert learn_merges(to_codes("GTNGANGC"), 3) == [("G", "A"), ("G", "C"), ("G", "T")]


def test_runs_are_merged_from_the_left():
    assert learn_merges(to_codes("AAAAA"), 5) == [("A", "A"), ("AA", "A"), ("AA", "AAA")]


@settings(deadline=None, max_examples=60)
@given(
    st.text("ACGTN", max_size=120) | st.text("AC", max_size=80) | st.text("AN", max_size=60),
    st.integers(0, 40),
)
def test_equal_to_the_textbook(text, n_merges):
    assert learn_merges(to_codes(text), n_merges) == textbook(text, n_merges)


@pytest.mark.parametrize(
    "text",
    [random_text(3000, 1), random_text(4000, 2, "ACGTNNAAA"), random_text(40, 3) * 60],
    ids=["random", "uneven", "repeats"],
)
def test_equal_to_the_textbook_beyond_a_byte(text):
    """Tokens take two bytes after 251 merges, and blocks without the pair are moved whole."""
    merges = learn_merges(to_codes(text), 300)
    assert merges == textbook(text, 300)
    assert len(merges) in (300, len(textbook(text, 300)))


def test_ends_of_sequences_divide_as_unknown_bases_do():
    codes = to_codes("ACGTACGAACCA")
    offsets = np.array([0, 5, 5, 9, 12])
    divided = to_codes("ACGTANNCGAANCCA")
    assert learn_merges(codes, 9, offsets=offsets) == learn_merges(divided, 9)


def test_min_count():
    codes = to_codes("ACACACGT")
    assert learn_merges(codes, 9, min_count=3) == [("A", "C")]
    assert learn_merges(codes, 9, min_count=2) == [("A", "C"), ("AC", "AC")]


@pytest.mark.parametrize("text", ["", "A", "NNNN", "ANCNG"])
def test_nothing_to_merge(text):
    assert learn_merges(to_codes(text), 5) == []


def test_codes_stay_as_they_are_and_may_be_read_only():
    codes = to_codes(random_text(500, 4))
    before = codes.copy()
    codes.flags.writeable = False
    learn_merges(codes, 20)
    np.testing.assert_array_equal(codes, before)


def test_what_is_learnt_is_applied():
    codes = to_codes(random_text(2000, 5, "ACGTN"))
    pairs = BytePairs.from_merges(learn_merges(codes, 50))
    assert len(pairs) == 59
    tokens, _, spans = pairs.apply(codes)
    assert spans[-1, 1] == 2000
    assert np.unique(tokens).max() <= 58


def test_progress_and_interruption(monkeypatch, capsys):
    monkeypatch.setattr(glm.settings, "progress", True)
    learn_merges(to_codes(random_text(300, 6)), 7)
    assert "Learning byte pairs" in capsys.readouterr().err

    calls = []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return choose(*args)

    choose = bpe_learn.kernels.choose_pair
    monkeypatch.setattr(bpe_learn.kernels, "choose_pair", interrupted)
    with pytest.raises(KeyboardInterrupt):
        learn_merges(to_codes(random_text(300, 6)), 7)
    assert len(calls) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_merges": -1}, "n_merges is -1"),
        ({"n_merges": 20_001}, "expected 0 to 20,000"),
        ({"n_merges": 1, "min_count": 0}, "min_count is 0"),
        ({"n_merges": 1, "offsets": np.array([0, 9])}, "rise from 0 to 4"),
    ],
)
def test_what_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        learn_merges(to_codes("ACGT"), **options)
