"""Vocabularies: the published ones hold what is known of them, and none is half right."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import glm
from glm.models import GeneVocabulary

SPOT_TOKENS = {"GATA4": 7261, "TTN": 9837, "ACTB": 1319}


@pytest.fixture(scope="module")
def dictionaries(test_data: Path) -> Path:
    return test_data / "geneformer"


@pytest.fixture(scope="module")
def v1(dictionaries: Path) -> GeneVocabulary:
    return GeneVocabulary.from_dictionaries(dictionaries, "gc30M")


@pytest.fixture(scope="module")
def v2(dictionaries: Path) -> GeneVocabulary:
    return GeneVocabulary.from_dictionaries(dictionaries, "gc104M")


def token_of(vocabulary: GeneVocabulary, symbol: str) -> int:
    return int(vocabulary.tokens[vocabulary.index[vocabulary.symbols[symbol]]])


def test_v1(v1: GeneVocabulary):
    assert len(v1) == 25_426
    assert v1.special == {"pad": 0, "mask": 1}
    assert (v1.context, v1.n_special, v1.n_genes_read) == (2048, 0, 2048)
    assert {symbol: token_of(v1, symbol) for symbol in SPOT_TOKENS} == SPOT_TOKENS
    assert v1.tokens.tolist() == list(range(2, 25_426))
    assert list(v1.ids) == sorted(v1.ids)
    assert v1.medians.min() == pytest.approx(0.095, abs=5e-4)
    assert v1.medians.max() == pytest.approx(634, abs=0.5)
    assert np.median(v1.medians) == pytest.approx(2.73, abs=5e-3)


def test_v2(v2: GeneVocabulary):
    assert len(v2) == 20_275
    assert v2.special == {"pad": 0, "mask": 1, "cls": 2, "eos": 3}
    assert (v2.context, v2.n_special, v2.n_genes_read) == (4096, 2, 4094)
    assert v2.tokens.tolist() == list(range(4, 20_275))
    assert list(v2.ids) == sorted(v2.ids)


@pytest.mark.parametrize("symbol", ["MALAT1", "XIST"])
def test_two_well_known_genes_are_no_tokens(v1: GeneVocabulary, v2: GeneVocabulary, symbol: str):
    for vocabulary in (v1, v2):
        assert vocabulary.symbols[symbol] not in vocabulary.index


def test_read_by_name_from_a_mirror(dictionaries: Path, v1: GeneVocabulary):
    with glm.settings.override(mirror=dictionaries, offline=True):
        read = glm.models.get("geneformer-v1-10m").vocabulary()
        assert read is glm.models.get("geneformer-v1-12l-30m").vocabulary()  # read once
    assert read.sha256 == v1.sha256


def test_context_can_be_shortened(dictionaries: Path):
    short = GeneVocabulary.from_dictionaries(dictionaries, "gc104M", context=100)
    assert (short.context, short.n_genes_read) == (100, 98)


def test_json_round_trip_is_exact(v2: GeneVocabulary):
    again = GeneVocabulary.from_dict(json.loads(json.dumps(v2.to_dict())))
    assert again.ids == v2.ids
    assert (again.medians == v2.medians).all()
    assert (again.tokens.dtype, again.medians.dtype) == (np.int32, np.float64)
    assert again.to_dict() == v2.to_dict()
    assert again.sha256 == v2.sha256


@pytest.mark.parametrize(
    "change",
    [
        lambda v: {"context": 64},
        lambda v: {"medians": v.medians * (1 + 1e-15)},
        lambda v: {"ids": v.ids[::-1]},
        lambda v: {"symbols": {}},
        lambda v: {"special": {"pad": 1, "mask": 0}},
    ],
    ids=["context", "medians", "ids", "symbols", "special"],
)
def test_hash_depends_on_everything(make_vocabulary: Callable[..., GeneVocabulary], change):
    vocabulary = make_vocabulary()
    assert make_vocabulary().sha256 == vocabulary.sha256
    assert replace(vocabulary, **change(vocabulary)).sha256 != vocabulary.sha256


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: {"medians": v.medians[1:]}, "60 tokens and 59 medians"),
        (lambda v: {"ids": (v.ids[1], *v.ids[1:])}, "60 ids \\(59 distinct\\)"),
        (lambda v: {"medians": np.where(v.tokens == 9, 0.0, v.medians)}, "not above zero"),
        (lambda v: {"medians": np.where(v.tokens == 9, np.nan, v.medians)}, "not above zero"),
        (lambda v: {"medians": np.where(v.tokens == 9, np.inf, v.medians)}, "not above zero"),
        (lambda v: {"tokens": v.tokens + 1}, "not 0 to 61, each once"),
        (lambda v: {"tokens": np.maximum(v.tokens, 3)}, "not 0 to 61, each once"),
        (lambda v: {"special": {"pad": 0, "cls": 1}}, "only one of <cls> and <eos>"),
    ],
    ids=["short", "twice", "zero", "nan", "infinite", "gap", "same", "cls"],
)
def test_what_does_not_fit_together_is_refused(
    make_vocabulary: Callable[..., GeneVocabulary], change, message: str
):
    vocabulary = make_vocabulary()
    with pytest.raises(ValueError, match=message):
        replace(vocabulary, **change(vocabulary))


def test_dictionaries_of_different_sets_are_refused(dictionaries: Path, tmp_path: Path):
    for part, name in [
        ("token_dictionary", "gc30M"),
        ("gene_median_dictionary", "gc104M"),
        ("gene_name_id_dict", "gc30M"),
        ("ensembl_mapping_dict", "gc30M"),
    ]:
        (tmp_path / f"{part}_mixed.pkl").symlink_to(dictionaries / f"{part}_{name}.pkl")
    with pytest.raises(ValueError, match=r"of 25,424 genes .* have no median .* do not belong"):
        GeneVocabulary.from_dictionaries(tmp_path, "mixed")


def test_shown_as_a_table(make_vocabulary: Callable[..., GeneVocabulary]):
    text = make_vocabulary(v2=True)._repr_html_()
    assert "small-v2" in text
    assert "32 tokens" in text
    assert "30 of them genes" in text
