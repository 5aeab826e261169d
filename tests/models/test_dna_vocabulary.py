"""Vocabularies of DNA: every token in its place, and the same again from a file."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from glm.bases import to_codes
from glm.encode.bpe import BytePairs
from glm.models import GeneVocabulary, KmerVocabulary, PairVocabulary
from glm.models.kinds import vocabulary_from

SPECIAL = {"pad": 0, "unk": 1, "cls": 2, "eos": 3, "mask": 4}
Merges = Callable[..., list[tuple[str, str]]]


def encoded(vocabulary: KmerVocabulary | PairVocabulary, *texts: str):
    codes = [to_codes(text) for text in texts]
    offsets = np.cumsum([0, *map(len, codes)])
    tokens, starts, spans = vocabulary.encode(np.concatenate(codes), offsets)
    assert (tokens.dtype, starts.dtype, spans.dtype) == (np.int32, np.int64, np.int32)
    assert spans.shape == (tokens.size, 2)
    return tokens, starts, spans


@pytest.fixture(params=["6-mers", "side by side", "pairs"])
def vocabulary(request: pytest.FixtureRequest, made_up_merges: Merges):
    if request.param == "pairs":
        return PairVocabulary.from_merges("mine", made_up_merges(), context=64, flank_bp=20)
    return KmerVocabulary(6, 6 if request.param == "side by side" else 1, context=64)


# ---- what both have -----------------------------------------------------------------------------


def test_special_tokens_and_context(vocabulary):
    assert dict(vocabulary.special) == SPECIAL
    assert (vocabulary.n_special, vocabulary.context, vocabulary.n_tokens_read) == (2, 64, 62)
    assert vocabulary.tokens.dtype == np.int32
    assert sorted([*vocabulary.tokens.tolist(), *SPECIAL.values()]) == list(range(len(vocabulary)))
    assert len(vocabulary.pieces) == len(vocabulary) - 5


def test_there_and_back(vocabulary):
    """Through JSON, and as a copy is made of it for another process."""
    content = json.loads(json.dumps(vocabulary.to_dict(), allow_nan=False))
    for other in (vocabulary_from(content), copy.deepcopy(vocabulary)):
        assert type(other) is type(vocabulary)
        assert other.to_dict() == vocabulary.to_dict()
        assert other.sha256 == vocabulary.sha256
        assert np.array_equal(
            encoded(other, "ACGTNACGTTT")[0], encoded(vocabulary, "ACGTNACGTTT")[0]
        )


def test_tokens_are_their_text(vocabulary):
    """In several sequences end to end, one of them empty: each token is the piece at its span."""
    texts = ["ACGTTGCATTTACGGA", "", "ACG", "TTNTTACGATATATTTAAAAAACCCC"]
    tokens, offsets, spans = encoded(vocabulary, *texts)
    assert len(offsets) == 5
    for text, first, last in zip(texts, offsets[:-1], offsets[1:], strict=True):
        for token, (start, end) in zip(tokens[first:last], spans[first:last], strict=True):
            assert 0 <= start < end <= len(text)
            if token == SPECIAL["unk"]:
                assert "N" in text[start:end]
            else:
                piece = vocabulary.pieces[np.searchsorted(vocabulary.tokens, token)]
                assert piece == text[start:end]


def test_a_sequence_is_the_same_alone_and_among_others(vocabulary):
    texts = ["ACGTTGCATTTACGGA", "GGGATTTACGCA", "TTATTACGATATATTTAAAAAACCCC"]
    tokens, offsets, _ = encoded(vocabulary, *texts)
    for i, text in enumerate(texts):
        assert encoded(vocabulary, text)[0].tolist() == tokens[offsets[i] : offsets[i + 1]].tolist()


def test_the_hash_follows_what_decides_a_sentence(made_up_merges: Merges):
    made = [
        KmerVocabulary(3),
        KmerVocabulary(4),
        KmerVocabulary(4, 4),
        KmerVocabulary(3, context=100),
        PairVocabulary.from_merges("a", made_up_merges(20)),
        PairVocabulary.from_merges("a", made_up_merges(21)),
        PairVocabulary.from_merges("a", made_up_merges(20), flank_bp=0),
        PairVocabulary.from_merges("a", []),
    ]
    assert len({vocabulary.sha256 for vocabulary in made}) == len(made)


def test_cards(vocabulary):
    html = vocabulary._repr_html_()
    assert "64 tokens, 62 of them" in html
    assert "[SEP] 3" in html
    assert vocabulary.sha256 in html


@pytest.mark.parametrize("context", [2, 0, -5])
def test_contexts_without_room(context: int):
    with pytest.raises(ValueError, match=r"expected at least 3: \[CLS\], \[SEP\] and one between"):
        KmerVocabulary(3, context=context)


# ---- k-mers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [3, 4, 5, 6])
def test_order_and_size(k: int):
    vocabulary = KmerVocabulary(k)
    assert vocabulary.pieces == tuple("".join(word) for word in product("ATCG", repeat=k))
    assert len(vocabulary) == {3: 69, 4: 261, 5: 1029, 6: 4101}[k]
    assert (vocabulary.name, vocabulary.flank_bp, vocabulary.context) == (f"{k}-mers", 0, 512)


@pytest.mark.parametrize("k", [3, 4, 5, 6])
def test_published_lists(test_data: Path, k: int):
    words = (test_data / "dnabert" / f"config-{k}" / "vocab.txt").read_text().split()
    assert words[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert tuple(words[5:]) == KmerVocabulary(k).pieces


def test_kmers_of_a_text():
    tokens, offsets, spans = encoded(KmerVocabulary(3), "AATNCCC", "AA")
    assert tokens.tolist() == [6, 1, 1, 1, 5 + 2 * 21]
    assert offsets.tolist() == [0, 5, 5]
    assert spans.tolist() == [[i, i + 3] for i in range(5)]
    tokens, _, spans = encoded(KmerVocabulary(3, 3), "AATNCCCC")
    assert (tokens.tolist(), spans.tolist()) == ([6, 1], [[0, 3], [3, 6]])


@pytest.mark.parametrize("given", [{"k": 3.0}, {"k": "3"}, {"k": True}, {"k": 3, "stride": None}])
def test_numbers_of_a_k_mer_vocabulary_are_whole(given):
    with pytest.raises(TypeError, match="expected a whole number"):
        KmerVocabulary(**given)


@pytest.mark.parametrize(("k", "stride", "said"), [(0, 1, "k is 0"), (9, 1, "9"), (4, 2, "stride")])
def test_kmers_that_are_none(k: int, stride: int, said: str):
    with pytest.raises(ValueError, match=said):
        KmerVocabulary(k, stride)


def test_other_special_tokens_are_refused():
    content = KmerVocabulary(3).to_dict() | {"special": {"pad": 0}}
    with pytest.raises(ValueError, match="special tokens are"):
        vocabulary_from(content)


# ---- byte pairs ---------------------------------------------------------------------------------


def test_pieces_follow_the_merges():
    vocabulary = PairVocabulary.from_merges("mine", [("A", "A"), ("AA", "T"), ("C", "G")])
    assert vocabulary.pieces == ("A", "C", "G", "T", "AA", "AAT", "CG")
    assert vocabulary.merges == (("A", "A"), ("AA", "T"), ("C", "G"))
    tokens, _, spans = encoded(vocabulary, "AATNCGA")
    assert tokens.tolist() == [10, 1, 11, 5]
    assert spans.tolist() == [[0, 3], [3, 4], [4, 6], [6, 7]]


def test_special_tokens_elsewhere_than_at_the_front(made_up_merges: Merges):
    """As other tokenizers have them; what asks for cls, eos, mask, pad by name is right."""
    pieces = [*"ACGT", "AC", "[CLS]", "[MASK]", "[PAD]", "[SEP]", "[UNK]"]
    special = {"cls": 5, "mask": 6, "pad": 7, "sep": 8, "unk": 9}
    vocabulary = PairVocabulary("mine", BytePairs(tuple(pieces), (("A", "C"),), special))
    assert vocabulary.special == {"pad": 7, "unk": 9, "cls": 5, "eos": 8, "mask": 6}
    assert vocabulary.tokens.tolist() == [0, 1, 2, 3, 4]
    assert encoded(vocabulary, "ACNT")[0].tolist() == [4, 9, 3]
    assert vocabulary_from(vocabulary.to_dict()).sha256 == vocabulary.sha256


def test_pairs_without_a_special_token():
    pairs = BytePairs(("[UNK]", *"ACGT"), (), {"unk": 0})
    with pytest.raises(ValueError, match="no special token for pad, cls, sep, mask"):
        PairVocabulary("mine", pairs)
    with pytest.raises(ValueError, match="flank_bp is -1"):
        PairVocabulary.from_merges("mine", [], flank_bp=-1)


# ---- which kind ---------------------------------------------------------------------------------


def test_genes_have_no_kind(make_vocabulary: Callable[..., GeneVocabulary]):
    content = make_vocabulary().to_dict()
    assert "kind" not in content
    assert isinstance(vocabulary_from(content), GeneVocabulary)


def test_a_kind_that_is_not_known():
    with pytest.raises(ValueError, match="of kind 'bytes'; expected one of 'kmer', 'pairs', or no"):
        vocabulary_from({"kind": "bytes"})
