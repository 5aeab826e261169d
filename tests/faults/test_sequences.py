"""Sequences that are not plain DNA, are too short, or stand beside others."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import pytest

from glm.bases import reverse_complement, to_codes, to_text
from glm.encode import (
    BytePairs,
    bases_lost,
    kmer_spans,
    kmer_text,
    kmer_tokens,
    kmer_tokens_many,
    learn_merges,
    trim,
)

pytestmark = pytest.mark.faults

PAIRS = BytePairs.from_merges(
    [("A", "A"), ("C", "G"), ("T", "T"), ("A", "CG"), ("AA", "A"), ("G", "T"), ("C", "A")]
)


def _kmers(codes: np.ndarray, offsets: np.ndarray, k: int, stride: int):
    tokens, starts = kmer_tokens_many(codes, offsets, k, stride=stride)
    return tokens, starts, kmer_spans(starts, k, stride=stride)


ENCODINGS: dict[str, Callable] = {
    "3-mers": functools.partial(_kmers, k=3, stride=1),
    "6-mers": functools.partial(_kmers, k=6, stride=1),
    "6-mers apart": functools.partial(_kmers, k=6, stride=6),
    "byte pairs": PAIRS.apply,
}
in_every_encoding = pytest.mark.parametrize("encode", ENCODINGS.values(), ids=ENCODINGS)


def _alone(encode: Callable, codes: np.ndarray) -> np.ndarray:
    return encode(codes, np.array([0, len(codes)]))[0]


@pytest.mark.parametrize("letter", "RYSWKMBDHVNn")
@in_every_encoding
def test_52_iupac_letters_are_unknown(encode, letter):
    """In every place: never A, whatever stands around."""
    for place in range(12):
        text = "AAAAAAAAAAAA"
        unknown = text[:place] + letter + text[place + 1 :]
        tokens, _, spans = encode(to_codes(unknown), np.array([0, 12]))
        for token, (start, end) in zip(tokens, spans, strict=True):
            assert (token == 1) == (start <= place < end)


@in_every_encoding
def test_53_lower_case(encode):
    text = "ACGTNACGGTCATTAAACGnryacg"
    np.testing.assert_array_equal(
        _alone(encode, to_codes(text.lower())), _alone(encode, to_codes(text.upper()))
    )
    np.testing.assert_array_equal(
        _alone(encode, to_codes(text)), _alone(encode, to_codes(text.upper()))
    )


@pytest.mark.parametrize(
    ("text", "place", "remedy"),
    [
        ("ACGU", 3, "replace U by T"),
        ("AC-GT", 2, "gaps"),
        ("AC GT", 2, "spaces"),
        ("\ufeffACGT", 0, "utf-8-sig"),
        ("ACGT\r\nACGT", 4, "line ends"),
        ("ACGT*", 4, "Expected A, C, G, T"),
    ],
)
def test_54_what_is_no_dna(text, place, remedy, refuses):
    refuses(lambda: to_codes(text), None, ValueError, rf"position {place}\b", remedy)


def test_54_text_in_place_of_codes(refuses):
    """Letters as bytes are no codes: refused, not read as bases."""
    letters = np.frombuffer(b"ACGT", np.uint8)
    refuses(lambda: kmer_tokens(letters, 3), None, ValueError, "65", "to_codes")
    refuses(lambda: PAIRS.apply(letters), None, ValueError, "65", "to_codes")
    refuses(lambda: learn_merges(letters, 3), None, ValueError, "65", "to_codes")
    for call in (
        lambda: kmer_tokens("ACGT", 3),
        lambda: PAIRS.apply("ACGT"),
        lambda: learn_merges("ACGT", 3),
    ):
        refuses(call, None, TypeError, "uint8", "to_codes")


@in_every_encoding
def test_56_reverse_complement_twice(encode):
    """Of bases, of N and of the padding of a window that leaves its contig."""
    codes = np.concatenate([np.full(7, 4), to_codes("ACGTTNACGGRAC"), np.full(9, 4)])
    codes = codes.astype(np.uint8)
    twice = reverse_complement(reverse_complement(codes))
    np.testing.assert_array_equal(_alone(encode, twice), _alone(encode, codes))
    once = reverse_complement(codes)
    assert (once == 4).tolist() == (codes == 4)[::-1].tolist()


def test_56_tokens_of_the_other_strand_spell_it():
    codes = to_codes("NNACGTTGCANACGGTCATTTNNN")
    once = reverse_complement(codes)
    for k in (3, 6):
        ours, other = kmer_tokens(codes, k), kmer_tokens(once, k)
        assert ((other == 1) == (ours == 1)[::-1]).all()
    assert kmer_text(kmer_tokens(once, 3), 3) == to_text(once)
    assert PAIRS.text(PAIRS.apply(once)[0]) == to_text(once)


@pytest.mark.parametrize("k", [3, 6])
def test_60_shorter_than_a_token(k):
    """A sequence below k bases has no k-mer, and says so by what is lost; k bases have one."""
    lengths = np.array([0, 1, k - 1, k, k + 1])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens, starts, spans = _kmers(np.zeros(offsets[-1], np.uint8), offsets, k, 1)
    assert np.diff(starts).tolist() == [0, 0, 0, 1, 2]
    assert tokens.tolist() == [5, 5, 5]
    assert bases_lost(starts, spans, lengths).tolist() == [0, 1, k - 1, 0, 0]


def test_60_no_and_one_base():
    for text, expected in (("", []), ("C", [6]), ("N", [1])):
        assert PAIRS.apply(to_codes(text))[0].tolist() == expected
    tokens, offsets, spans = PAIRS.apply(np.zeros(0, np.uint8), np.array([0, 0, 0]))
    assert (tokens.size, offsets.tolist(), spans.shape) == (0, [0, 0, 0], (0, 2))
    trimmed = trim(tokens, offsets, spans)
    assert trimmed[1].tolist() == [0, 0, 0]


def test_61_what_a_cut_tail_loses():
    lengths = np.array([0, 20, 25])
    codes = np.random.default_rng(0).integers(0, 5, 45).astype(np.uint8)
    offsets = np.array([0, 0, 20, 45])
    for encode in ENCODINGS.values():
        _, starts, spans = encode(codes, offsets)
        for limit in (None, 0, 1, 3, 10, 100):
            lost = bases_lost(starts, spans, lengths, limit=limit)
            for row, length in enumerate(lengths):
                kept = spans[starts[row] : starts[row + 1]][:limit]
                covered = {base for start, end in kept for base in range(start, end)}
                assert lost[row] == length - max(covered, default=-1) - 1
    _, starts, spans = ENCODINGS["6-mers apart"](codes, offsets)
    assert bases_lost(starts, spans, lengths).tolist() == [0, 2, 1]
    _, starts, spans = ENCODINGS["byte pairs"](codes, offsets)
    assert bases_lost(starts, spans, lengths).tolist() == [0, 0, 0]


@in_every_encoding
def test_62_a_batch_equals_its_sequences(encode):
    rng = np.random.default_rng(1)
    lengths = np.array([0, 1, 5, 6, 7, 300, 0, 4100, 2, 50])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    codes = rng.choice(5, offsets[-1], p=[0.4, 0.2, 0.2, 0.15, 0.05]).astype(np.uint8)
    tokens, starts, spans = encode(codes, offsets)
    for row in range(len(lengths)):
        own = codes[offsets[row] : offsets[row + 1]]
        alone = encode(own, np.array([0, len(own)]))
        here = slice(starts[row], starts[row + 1])
        np.testing.assert_array_equal(tokens[here], alone[0])
        np.testing.assert_array_equal(spans[here], alone[2])
