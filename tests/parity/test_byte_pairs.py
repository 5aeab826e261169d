"""Byte pairs against the ``tokenizers`` library, and against what is known of GROVER's file."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, trainers

from glm.bases import to_codes, to_text
from glm.encode import BytePairs, learn_merges

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def library(pairs: BytePairs) -> Tokenizer:
    return Tokenizer.from_str(json.dumps(pairs.to_tokenizer_json()))


def library_learns(text: str, n_merges: int, alphabet: int = 4) -> list[tuple[str, str]]:
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    trainer = trainers.BpeTrainer(
        vocab_size=5 + alphabet + n_merges, special_tokens=SPECIALS, show_progress=False
    )
    tokenizer.train_from_iterator([text], trainer)
    return [(a, b) for a, b in json.loads(tokenizer.to_str())["model"]["merges"]]


def assert_equal(pairs: BytePairs, theirs: Tokenizer, texts: list[str]) -> None:
    codes = to_codes("".join(texts))
    ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
    tokens, offsets, spans = pairs.apply(codes, np.concatenate([[0], ends]))
    for row, said in enumerate(theirs.encode_batch(texts, add_special_tokens=False)):
        here = slice(offsets[row], offsets[row + 1])
        assert tokens[here].tolist() == said.ids
        assert [tuple(span) for span in spans[here]] == said.offsets


def dna(seed: int, n: int) -> str:
    """Uneven bases, runs and repeats, as genomes have them."""
    rng = np.random.default_rng(seed)
    parts = []
    while sum(map(len, parts)) < n:
        unit = "".join(rng.choice(list("ACGT"), rng.integers(1, 9), p=[0.35, 0.15, 0.15, 0.35]))
        parts.append(unit * int(rng.choice([1, 1, 1, 6, 30])))
    return "".join(parts)[:n]


@pytest.fixture(scope="module")
def pairs() -> BytePairs:
    return BytePairs.from_merges(learn_merges(to_codes(dna(0, 30_000)), 600))


@pytest.fixture(scope="module")
def theirs(pairs: BytePairs) -> Tokenizer:
    return library(pairs)


# ---- applying ----------------------------------------------------------------------------------

_units = st.text("ACGT", min_size=1, max_size=6)
_texts = st.lists(
    st.text("ACGTN", max_size=80)
    | st.builds(lambda unit, n: unit * n, _units, st.integers(1, 40))
    | st.builds(lambda a, n, b: a + "N" * n + b, _units, st.integers(1, 9), _units),
    min_size=1,
    max_size=5,
)


@settings(deadline=None, max_examples=200)
@given(_texts)
def test_equal_on_any_sequence(pairs, theirs, texts):
    assert_equal(pairs, theirs, texts)
    assert_equal(pairs, theirs, ["".join(texts)])


@st.composite
def _lists(draw) -> list[tuple[str, str]]:
    pieces = list("ACGT")
    merges: list[tuple[str, str]] = []
    for _ in range(draw(st.integers(0, 25))):
        merges.append((draw(st.sampled_from(pieces)), draw(st.sampled_from(pieces))))
        pieces.append("".join(merges[-1]))
    return draw(st.permutations(merges)) if draw(st.booleans()) else merges


@settings(deadline=None, max_examples=200)
@given(_lists(), _texts, st.booleans())
def test_equal_for_any_list(merges, texts, fuse):
    """In order or not, with pieces that several merges make, and pairs that stand twice."""
    made = BytePairs.from_merges(merges)
    fused = BytePairs(made.pieces, made.merges, made.special, fuse_unknown=fuse)
    assert_equal(fused, library(fused), texts)


def test_equal_on_long_windows(pairs, theirs):
    text = dna(1, 120_000)
    assert_equal(pairs, theirs, [text[i : i + 20_000] for i in range(0, 120_000, 20_000)])


def test_equal_on_a_genome(test_data):
    with gzip.open(test_data / "genome" / "hg38_chr1_first1Mb.fa.gz", "rt") as file:
        text = "".join(line.strip() for line in file if line[0] != ">")[:600_000]
    codes = to_codes(text)
    made = BytePairs.from_merges(learn_merges(codes, 600))
    upper = text.upper()
    assert_equal(made, library(made), [upper[i : i + 2000] for i in range(0, len(upper), 2000)])
    assert to_text(codes) == made.text(made.apply(codes)[0])


def test_the_written_file_puts_specials_around(pairs, theirs):
    inner = pairs.apply(to_codes("ACGTACG"))[0].tolist()
    assert theirs.encode("ACGTACG").ids == [2, *inner, 3]


# ---- learning ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        dna(2, 3_000),
        "".join(np.random.default_rng(0).choice(list("ACGT"), 20_000)),
        dna(3, 40) * 40,
    ],
    ids=["like a genome", "random", "repeats"],
)
def test_learns_the_same_merges(text):
    assert learn_merges(to_codes(text), 300) == library_learns(text, 300)


@settings(deadline=None, max_examples=60)
@given(st.text("ACGT", max_size=150) | st.text("AC", max_size=150))
def test_learns_the_same_on_any_text(text):
    assert learn_merges(to_codes(text), 30) == library_learns(text, 30, len(set(text)))


# ---- GROVER's file -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published_form() -> dict:
    """A made-up file of the form GROVER's has: 610 entries, of which one cannot be met.

    Its merges are learnt from text of A and T, so that those of the oracle's first input, put in
    at the ranks its token ids tell of, do what they must.
    """
    text = "".join(np.random.default_rng(0).choice(list("AT"), 30_000))
    merges = learn_merges(to_codes(text), 598)
    merges = [*merges[:50], ("A", "C"), *merges[50:104], ("AC", "G"), *merges[104:]]
    assert len(merges) == 600
    pieces = [*SPECIALS, *"ACGT", *("".join(merge) for merge in merges), ""]
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": i, "content": text, **flags, "special": True} for i, text in enumerate(SPECIALS)
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "[UNK]",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "vocab": {piece: i for i, piece in enumerate(pieces)},
            "merges": [*(" ".join(merge) for merge in merges), "A ", "C ", "G ", "T "],
        },
    }


def test_five_entries_that_cannot_be_met_are_left_out(published_form, tmp_path: Path):
    vocabulary, merges = published_form["model"]["vocab"], published_form["model"]["merges"]
    assert (len(vocabulary), len(merges)) == (610, 604)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(published_form), encoding="utf-8")
    pairs = BytePairs.from_tokenizer_json(path)
    assert (len(pairs), len(pairs.merges)) == (609, 600)
    assert pairs.special == {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}
    assert all(pairs.ids[piece] == i for piece, i in vocabulary.items() if piece)
    whole, rng = Tokenizer.from_str(json.dumps(published_form)), np.random.default_rng(1)
    texts = ["".join(rng.choice(list("AATTCGN"), 300)) for _ in range(20)]
    assert_equal(pairs, whole, texts)


def test_the_oracles_token_ids(published_form, test_data: Path):
    """What can be checked without the merges: ids of specials and bases, one [UNK] a base."""
    file = test_data / "oracles" / "grover" / "geneb-grover-parity.json"
    known = {
        v["input_ascii"]: v["input_ids"] for v in json.loads(file.read_text())["native_vectors"]
    }
    pairs = BytePairs.from_tokenizer_json(published_form)
    first = "ACGTNACGTNACGTN"
    assert [2, *pairs.apply(to_codes(first))[0], 3] == known[first]
    assert known["[MASK]A"] == [2, pairs.special["mask"], pairs.ids["A"], 3]
    (second,) = known.keys() - {first, "[MASK]A"}
    tokens, _, _ = pairs.apply(to_codes(second))
    inner = known[second][1:-1]
    assert max(inner) < len(pairs)
    assert (tokens == 1).sum() == inner.count(1) == second.count("N")
    assert tokens[-1] == inner[-1] == pairs.ids["T"]


def test_the_audit_says_what_is_left_out(published_form, test_data: Path):
    file = test_data / "oracles" / "grover" / "geneb-grover-unreachable-tail.json"
    audit = json.loads(file.read_text(encoding="utf-8"))
    pairs = BytePairs.from_tokenizer_json(published_form)
    assert audit["source"]["vocab_size"] == len(published_form["model"]["vocab"])
    assert audit["operation"]["removed_identity_merges"] == published_form["model"]["merges"][-4:]
    assert audit["operation"]["remaining_ids"]["count"] == len(pairs)
    assert audit["proof"]["derived_merge_count"] == len(pairs.merges)
