"""k-mers against the list of strings they stand for."""

from __future__ import annotations

import doctest
import importlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glm.bases import to_codes, to_text
from glm.encode import kmer_pieces, kmer_spans, kmer_text, kmer_tokens, kmer_tokens_many

LENGTHS = (0, 1, 5, 6, 7, 100, 4095, 4101, 4102, 9000)  # around the block of 4,096


def plain(text: str, k: int, stride: int = 1) -> list[int]:
    """The way of lists: cut strings, look them up."""
    ids = {piece: i for i, piece in enumerate(kmer_pieces(k))}
    return [ids.get(text[i : i + k], 1) for i in range(0, len(text) - k + 1, stride)]


def random_codes(n: int, seed: int = 0, unknown: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 4, n).astype(np.uint8)
    codes[rng.random(n) < unknown] = 4
    return codes


@pytest.mark.parametrize("k", [3, 4, 5, 6])
def test_order_is_that_of_the_published_vocabulary(k, test_data):
    published = (test_data / "dnabert" / f"config-{k}" / "vocab.txt").read_text().split()
    assert kmer_pieces(k) == published


def test_a_hand_checked_case():
    # A 0, T 1, C 2, G 3: ATC is 0·16 + 1·4 + 2, TCG is 1·16 + 2·4 + 3.
    assert kmer_tokens(to_codes("ATCG"), 3).tolist() == [5 + 6, 5 + 27]


@pytest.mark.parametrize("k", range(1, 9))
@pytest.mark.parametrize("unknown", [0.0, 0.002, 0.3])
def test_equal_to_the_list_of_strings(k, unknown):
    for n in LENGTHS:
        codes = random_codes(n, seed=n, unknown=unknown)
        for stride in {1, k, max(k - 1, 1)}:
            found = kmer_tokens(codes, k, stride=stride)
            assert found.tolist() == plain(to_text(codes), k, stride)
            assert found.dtype == (np.int32 if k == 8 else np.uint16)


@settings(deadline=None)
@given(
    st.lists(st.text("ACGTN", max_size=30), max_size=6),
    st.integers(1, 8),
    st.booleans(),
)
def test_sequences_do_not_touch(texts, k, overlapping):
    stride = 1 if overlapping else k
    codes = to_codes("".join(texts))
    offsets = np.concatenate([[0], np.cumsum([len(text) for text in texts], dtype=int)])
    tokens, starts = kmer_tokens_many(codes, offsets, k, stride=stride)
    alone = [plain(text, k, stride) for text in texts]
    assert starts.dtype == np.int64
    assert starts.tolist() == np.concatenate([[0], np.cumsum([len(a) for a in alone])]).tolist()
    assert tokens.tolist() == [token for each in alone for token in each]


@pytest.mark.parametrize("k", [3, 6])
def test_spans(k):
    offsets = np.array([0, 20, 20, 31])
    for stride in (1, k):
        _, starts = kmer_tokens_many(random_codes(31), offsets, k, stride=stride)
        expected = [[i, i + k] for n in np.diff(offsets) for i in range(0, n - k + 1, stride)]
        spans = kmer_spans(starts, k, stride=stride)
        assert spans.dtype == np.int32
        assert spans.tolist() == expected


@settings(deadline=None)
@given(st.text("ACGT", max_size=60), st.integers(1, 8), st.booleans())
def test_text_comes_back(text, k, overlapping):
    stride = 1 if overlapping else k
    tokens = kmer_tokens(to_codes(text), k, stride=stride)
    covered = (len(tokens) - 1) * stride + k if len(tokens) else 0
    assert kmer_text(tokens, k, stride=stride) == text[:covered]


def test_text_around_unknown_bases():
    for text in ("ACGTACGTNACGTACG", "ACGTTTNNNNGGGCA"):
        assert kmer_text(kmer_tokens(to_codes(text), 3), 3) == text
    # Between two N that are closer than k, and at an end, nothing tells the base.
    assert kmer_text(kmer_tokens(to_codes("ACGTNCNACGT"), 3), 3) == "ACGTNNNACGT"
    assert kmer_text(kmer_tokens(to_codes("CNACGT"), 3), 3) == "NNACGT"


@pytest.mark.parametrize(
    ("tokens", "message"),
    [([7, 2], r"Token 1 is 2, .*no 3-mer"), ([69], "69"), ([6, 20], "Token 1 .*contradicts")],
)
def test_text_refuses_what_is_no_sequence(tokens, message):
    with pytest.raises(ValueError, match=message):
        kmer_text(np.array(tokens), 3)


def test_a_slice_with_steps_is_read_as_it_stands():
    codes = random_codes(400)
    assert kmer_tokens(codes[::2], 6).tolist() == plain(to_text(codes[::2]), 6)
    codes.flags.writeable = False
    assert kmer_tokens(codes, 6).tolist() == plain(to_text(codes), 6)


@pytest.mark.parametrize(
    ("codes", "offsets", "options", "error", "message"),
    [
        ("ACGT", [0, 4], {"k": 3}, TypeError, "to_codes"),
        (np.zeros(4, np.int64), [0, 4], {"k": 3}, TypeError, "int64"),
        (np.array([0, 5], np.uint8), [0, 2], {"k": 3}, ValueError, r"codes\[1\] is 5"),
        (np.zeros(4, np.uint8), [0, 5], {"k": 3}, ValueError, "rise from 0 to 4"),
        (np.zeros(4, np.uint8), [0, 3, 2, 4], {"k": 3}, ValueError, "rise from 0 to 4"),
        (np.zeros(4, np.uint8), [], {"k": 3}, ValueError, "one more than sequences"),
        (np.zeros(4, np.uint8), [0, 4], {"k": 9}, ValueError, "k is 9; expected 1 to 8"),
        (np.zeros(4, np.uint8), [0, 4], {"k": 0}, ValueError, "k is 0"),
        (np.zeros(4, np.uint8), [0, 4], {"k": 3, "stride": 4}, ValueError, "stride is 4"),
    ],
)
def test_what_is_refused(codes, offsets, options, error, message):
    with pytest.raises(error, match=message):
        kmer_tokens_many(codes, np.array(offsets), **options)


@pytest.mark.parametrize("name", ["bpe", "bpe_learn", "kmer", "spans", "token_table"])
def test_examples_run(name):
    """Those of encodings, which no table of public names holds."""
    module = importlib.import_module(f"glm.encode.{name}")
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0
