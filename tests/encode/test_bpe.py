"""Byte pairs by hand-checked cases, both ways of merging, files, flank, statistics."""

from __future__ import annotations

import copy
import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glm.bases import to_codes, to_text
from glm.encode import BytePairs, bases_lost, kmer_pieces, learn_merges, trim, vocabulary_table
from glm.encode import _bpe_kernels as kernels
from glm.encode import _bpe_machine as machine


def pieces_of(pairs: BytePairs, text: str) -> list[str]:
    return [pairs.pieces[token] for token in pairs.apply(to_codes(text))[0]]


def plain(pairs: BytePairs, text: str) -> list[str]:
    """Always the pair of the lowest rank, the leftmost of several."""
    ranks = {pair: rank for rank, pair in enumerate(pairs.merges)}
    parts = [letter if letter in pairs.ids else "[UNK]" for letter in text]
    while True:
        found = [(ranks[p], i) for i, p in enumerate(pairwise(parts)) if p in ranks]
        if not found:
            return parts
        _, i = min(found)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]


def by_rank(pairs: BytePairs, codes: np.ndarray) -> np.ndarray:
    """The other way, which serves lists that are not in order."""
    found, number = np.empty(len(codes), np.uint16), np.empty(1, np.int64)
    kernels.apply_ranks(codes, np.array([0, len(codes)]), pairs._tables[0], found, number)
    return found[len(codes) - number[0] :]


@pytest.fixture(scope="module")
def learnt() -> BytePairs:
    rng = np.random.default_rng(0)
    text = "".join(rng.choice(list("ACGT"), 4000, p=[0.4, 0.15, 0.15, 0.3]))
    return BytePairs.from_merges(learn_merges(to_codes(text + "A" * 50 + "CA" * 30), 200))


# ---- tokens ------------------------------------------------------------------------------------


def test_hand_checked():
    pairs = BytePairs.from_merges([("A", "A"), ("C", "A"), ("CA", "AA")])
    assert pieces_of(pairs, "CAAA") == ["C", "AA", "A"]  # AA first, from the left
    assert pieces_of(pairs, "GCACA") == ["G", "CA", "CA"]
    assert pieces_of(pairs, "AAAAA") == ["AA", "AA", "A"]
    assert pieces_of(pairs, "") == []


def test_one_unknown_token_a_base():
    pairs = BytePairs.from_merges([("A", "C")])
    tokens, _, spans = pairs.apply(to_codes("ANNACN"))
    assert tokens.tolist() == [5, 1, 1, 9, 1]
    assert spans.tolist() == [[0, 1], [1, 2], [2, 3], [3, 5], [5, 6]]


def test_one_unknown_token_a_run_where_the_file_says_so():
    pairs = BytePairs(("[UNK]", "A", "C", "AC"), (("A", "C"),), {"unk": 0}, fuse_unknown=True)
    codes = to_codes("NNACNGTNAN")  # G and T have no piece
    tokens, _, spans = pairs.apply(codes)
    assert tokens.tolist() == [0, 3, 0, 1, 0] == by_rank(pairs, codes).tolist()
    assert spans.tolist() == [[0, 2], [2, 4], [4, 8], [8, 9], [9, 10]]


def test_a_piece_for_n():
    pairs = BytePairs(("[UNK]", *"ACGTN", "NN"), (("N", "N"),), {"unk": 0})
    assert pieces_of(pairs, "ANNNC") == ["A", "NN", "N", "C"]


OUT_OF_ORDER = {
    "a part that is made later": [("AA", "C"), ("A", "A")],
    "two ways to a piece": [("A", "A"), ("A", "AA"), ("AA", "G"), ("AA", "A"), ("AAA", "C")],
    "a piece joined before it is made again": [
        ("A", "C"), ("AC", "A"), ("ACA", "G"), ("C", "A"), ("A", "CA"), ("T", "ACA"),
    ],
    "a piece that never stands alone": [("A", "A"), ("A", "C"), ("AA", "C"), ("A", "AC")],
    "the same pair twice": [("A", "C"), ("C", "G"), ("AC", "G"), ("A", "C"), ("C", "CG")],
}  # fmt: skip


@pytest.mark.parametrize("merges", OUT_OF_ORDER.values(), ids=OUT_OF_ORDER)
def test_any_list(merges):
    pairs = BytePairs.from_merges(merges)
    rng = np.random.default_rng(0)
    for n in (1, 2, 3, 7, 20, 60):
        for letters in ("AC", "ACG", "ACGTN"):
            text = "".join(rng.choice(list(letters), n))
            expected = plain(pairs, text)
            assert pieces_of(pairs, text) == expected
            assert [pairs.pieces[t] for t in by_rank(pairs, to_codes(text))] == expected


def test_which_way_is_taken(learnt):
    assert isinstance(learnt._tables[1], kernels.Machine)
    late = BytePairs.from_merges(OUT_OF_ORDER["a part that is made later"])
    assert late._tables[1] is None


@st.composite
def lists_of_merges(draw) -> list[tuple[str, str]]:
    """Merges of pieces that are there already, in any order; some are made in several ways."""
    pieces = ["A", "C", "G"]
    merges: list[tuple[str, str]] = []
    for _ in range(draw(st.integers(0, 12))):
        pair = draw(st.sampled_from(pieces)), draw(st.sampled_from(pieces))
        merges.append(pair)
        pieces.append(pair[0] + pair[1])
    return draw(st.permutations(merges)) if draw(st.booleans()) else merges


@settings(deadline=None, max_examples=200)
@given(lists_of_merges(), st.lists(st.text("ACGN", max_size=40), max_size=4))
def test_equal_to_the_plain_way(merges, texts):
    pairs = BytePairs.from_merges(merges)
    codes = to_codes("".join(texts))
    ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
    tokens, offsets, spans = pairs.apply(codes, np.concatenate([[0], ends]))
    for row, text in enumerate(texts):
        here = slice(offsets[row], offsets[row + 1])
        assert [pairs.pieces[token] for token in tokens[here]] == plain(pairs, text)
        assert pairs.text(tokens[here]) == text
        edges = [0, *np.cumsum([pairs.lengths[t] for t in tokens[here]], dtype=int)]
        assert spans[here].tolist() == [list(e) for e in pairwise(edges)]
    assert (tokens.dtype, offsets.dtype, spans.dtype) == (np.int32, np.int64, np.int32)


def test_both_ways_agree_on_a_learnt_list(learnt):
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 5, 5000).astype(np.uint8)
    codes[1000:1300] = 0
    tokens, _, _ = learnt.apply(codes)
    np.testing.assert_array_equal(tokens, by_rank(learnt, codes))
    assert [learnt.pieces[t] for t in tokens[:200]] == plain(learnt, to_text(codes))[:200]


def test_pieces_longer_than_a_machine_takes():
    """A run that was learnt doubles with every merge."""
    codes = np.zeros(300_000, np.uint8)
    pairs = BytePairs.from_merges(learn_merges(codes, 20))
    assert pairs._tables[1] is None
    tokens, _, spans = pairs.apply(codes)
    assert spans[-1, 1] == 300_000
    assert pairs.text(tokens) == "A" * 300_000


@pytest.mark.parametrize("limit", ["_MOST_STATES", "_MOST_PIECES", "_MOST_BASES"])
def test_a_machine_that_would_be_too_large(learnt, monkeypatch, limit):
    monkeypatch.setattr(machine, limit, 50)
    large = BytePairs(learnt.pieces, learnt.merges)
    assert large._tables[1] is None
    codes = np.random.default_rng(2).integers(0, 5, 20_000).astype(np.uint8)
    codes[5000:5100] = 0
    for ours, other in zip(large.apply(codes), learnt.apply(codes), strict=True):
        np.testing.assert_array_equal(ours, other)


def test_copied_without_its_tables(learnt):
    assert learnt._tables[0] is not None
    codes = to_codes("ACGTNACCA")
    for twin in (copy.copy(learnt), copy.deepcopy(learnt)):  # by the same way as pickle
        assert twin == learnt
        assert "_tables" not in twin.__dict__
        np.testing.assert_array_equal(twin.apply(codes)[0], learnt.apply(codes)[0])


# ---- making one --------------------------------------------------------------------------------


def test_ids_follow_the_merges():
    pairs = BytePairs.from_merges([("G", "T"), ("A", "GT")])
    assert pairs.pieces == ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"ACGT", "GT", "AGT")
    assert pairs.lengths.tolist() == [0, 1, 0, 0, 0, 1, 1, 1, 1, 2, 3]
    other = BytePairs.from_merges([("G", "T")], special={"unk": 1, "eos": 0})
    assert other.pieces == ("[EOS]", "[UNK]", *"ACGT", "GT")


@pytest.mark.parametrize(
    ("pieces", "merges", "special", "message"),
    [
        (("[PAD]", "A"), (), {"pad": 0}, "expected 'unk'"),
        (("[UNK]", "A", "A"), (), {"unk": 0}, "'A' is in the vocabulary twice"),
        (("[UNK]", "A", "C"), (("A", "C"),), {"unk": 0}, "needs the pieces 'A', 'C' and 'AC'"),
    ],
)
def test_what_is_refused(pieces, merges, special, message):
    with pytest.raises(ValueError, match=message):
        BytePairs(pieces, merges, special)


def test_specials_without_gaps():
    with pytest.raises(ValueError, match=r"expected 0, 1, 2"):
        BytePairs.from_merges([], special={"unk": 1})


def test_text_refuses_other_ids(learnt):
    with pytest.raises(ValueError, match="has 0 to 208"):
        learnt.text(np.array([3, 209]))


def _content(**changes) -> dict:
    content = BytePairs.from_merges([("A", "C"), ("AC", "G")]).to_tokenizer_json()
    model = content["model"] | {k: v for k, v in changes.items() if k in content["model"]}
    return content | {k: v for k, v in changes.items() if k in content} | {"model": model}


def test_a_file_round_trip(learnt, tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(learnt.to_tokenizer_json()), encoding="utf-8")
    assert BytePairs.from_tokenizer_json(path) == learnt
    assert BytePairs.from_tokenizer_json(str(path)) == learnt


def test_merges_as_text_and_as_pairs():
    written = BytePairs.from_tokenizer_json(_content(merges=["A C", "AC G"]))
    assert written == BytePairs.from_tokenizer_json(_content())


@pytest.mark.parametrize("text", ["no json", "[1, 2]", '{"model": 3}'])
def test_files_that_hold_no_tokenizer(tmp_path, text):
    path = tmp_path / "tokenizer.json"
    path.write_text(text)
    with pytest.raises(
        ValueError, match=r"tokenizer\.json (is no JSON|holds a model of type None)"
    ):
        BytePairs.from_tokenizer_json(path)


def test_special_names_of_other_files():
    content = _content()
    names = {"[PAD]": "<pad>", "[CLS]": "<s>", "[SEP]": "</s>"}
    vocabulary = content["model"]["vocab"]
    content["model"]["vocab"] = {names.get(p, p): i for p, i in vocabulary.items()}
    for token in content["added_tokens"]:
        token["content"] = names.get(token["content"], token["content"])
    special = BytePairs.from_tokenizer_json(content).special
    assert special == {"pad": 0, "unk": 1, "bos": 2, "eos": 3, "mask": 4}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"type": "WordPiece"}, "model of type WordPiece; expected BPE"),
        ({"dropout": 0.1}, "sets {'dropout': 0.1}"),
        ({"ignore_merges": True}, "ignore_merges"),
        ({"continuing_subword_prefix": "##"}, "continuing_subword_prefix"),
        ({"unk_token": None}, "unknown token None"),
        ({"normalizer": {"type": "Lowercase"}}, "normalizer Lowercase"),
        ({"pre_tokenizer": {"type": "ByteLevel"}}, "pre_tokenizer ByteLevel"),
        ({"merges": ["A C G"]}, "the merge 'A C G'"),
        ({"merges": [["G", "T"]]}, "'G' \\+ 'T' needs"),
        ({"vocab": {"[UNK]": 1, "A": 7}}, "expected is 5"),
        ({"added_tokens": [{"content": "N", "id": 9}]}, "takes 'N' out of a text"),
    ],
)
def test_files_that_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        BytePairs.from_tokenizer_json(_content(**changes))


def test_steps_that_leave_bases_alone():
    steps = {
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}]},
        "pre_tokenizer": {"type": "Whitespace"},
    }
    assert BytePairs.from_tokenizer_json(_content(**steps)) == BytePairs.from_tokenizer_json(
        _content()
    )


# ---- flank -------------------------------------------------------------------------------------


def test_trim_many():
    tokens = np.arange(7)
    offsets = np.array([0, 3, 3, 7])
    spans = np.array([[0, 4], [4, 6], [6, 9], [0, 1], [1, 2], [2, 5], [5, 8]])
    kept, starts, inside = trim(tokens, offsets, spans, left=[2, 0, 1], right=[3, 0, 3])
    assert kept.tolist() == [0, 1, 4, 5]
    assert starts.tolist() == [0, 2, 2, 4]
    assert inside.tolist() == [[0, 2], [2, 4], [0, 1], [1, 4]]
    assert (starts.dtype, inside.dtype) == (np.int64, np.int32)


def test_trim_nothing(learnt):
    codes = to_codes("ACGTACGGTTNA")
    found = learnt.apply(codes)
    for ours, whole in zip(trim(*found), found, strict=True):
        np.testing.assert_array_equal(ours, whole)


def test_trimmed_regions_are_covered_and_do_not_depend_on_what_is_beyond_the_flank(learnt):
    rng = np.random.default_rng(3)
    codes = rng.choice(4, 3000, p=[0.4, 0.15, 0.15, 0.3]).astype(np.uint8)
    whole = trim(*learnt.apply(codes), left=1000, right=1800)
    near = trim(*learnt.apply(codes[900:1300]), left=100, right=100)
    for one, other in zip(whole, near, strict=True):
        np.testing.assert_array_equal(one, other)
    edges = near[2]
    assert (edges[0, 0], edges[-1, 1]) == (0, 200)
    assert (edges[1:, 0] == edges[:-1, 1]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"left": 3, "right": 3}, r"sequence 0 is 3 \+ 3 bases and the sequence has 5"),
        ({"left": -1}, "0 or more"),
    ],
)
def test_trim_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        trim(np.arange(2), np.array([0, 2]), np.array([[0, 2], [2, 5]]), **options)


def test_trim_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="do not fit"):
        trim(np.arange(3), np.array([0, 2]), np.array([[0, 2], [2, 5]]))


def test_bases_lost_refuses_a_negative_limit():
    with pytest.raises(ValueError, match="limit is -1"):
        bases_lost(np.array([0, 1]), np.array([[0, 2]]), [2], limit=-1)


# ---- statistics --------------------------------------------------------------------------------


def test_vocabulary_table(learnt):
    codes = to_codes("ACGTACGGTTNAAAAAAAACCA")
    tokens, _, _ = learnt.apply(codes)
    table = vocabulary_table(learnt.pieces, tokens)
    assert table["token"].tolist() == list(learnt.pieces[5:])
    assert table["id"].tolist() == list(range(5, 209))
    assert table["count"].sum() == len(tokens) - 1  # the unknown base is no row
    assert table["frequency"].sum() == pytest.approx(1)
    assert table["share_of_bases"].sum() == pytest.approx(1)
    row = table[table["count"] > 0].iloc[-1]
    assert row["gc"] == sum(letter in "GC" for letter in row["token"]) / row["length"]
    assert row["share_of_bases"] == pytest.approx(row["length"] * row["count"] / 21)


def test_vocabulary_table_of_kmers_and_without_use():
    table = vocabulary_table(kmer_pieces(3))
    assert list(table) == ["token", "id", "length", "gc"]
    assert len(table) == 64
    empty = vocabulary_table(kmer_pieces(3), np.array([], np.uint16))
    assert empty["count"].sum() == 0
    assert empty["frequency"].isna().all()
    with pytest.raises(ValueError, match="ids 0 to 68"):
        vocabulary_table(kmer_pieces(3), np.array([69]))
