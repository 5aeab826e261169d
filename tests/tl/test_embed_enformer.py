"""``glm.tl.embed_enformer``, and ``embed`` with a model that predicts tracks."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch

import glm
from glm.bases import reverse_complement, to_codes

WINDOW, CROP, BIN = 4_096, 4, 128
CLOSE = {"rtol": 2e-5, "atol": 2e-5}


@pytest.fixture(scope="module")
def text():
    return "".join(np.random.default_rng(5).choice(list("ACGT"), 12_000))


@pytest.fixture
def peaks():
    var = pd.DataFrame({"chrom": "chr1", "start": [5_000, 6_003], "end": [5_700, 6_004]})
    var.index = ["a", "b"]
    return ad.AnnData(np.ones((3, 2), np.float32), var=var)


SPANS = {0: (9, 15), 1: (12, 13)}  # 700 bases: two bins and 94 bases on both sides of the middle


def plain(model, codes):
    with torch.no_grad():
        return model.network.embed(torch.from_numpy(codes.copy())[None])[0].numpy()


def windows(peaks, text):
    for start, end in zip(peaks.var["start"], peaks.var["end"], strict=True):
        begin = (start + end) // 2 - WINDOW // 2
        yield to_codes(text[begin : begin + WINDOW])


def test_the_mean_over_the_regions_bins(track_model, peaks, text):
    glm.tl.embed_enformer(peaks, track_model, genome={"chr1": text})
    found = peaks.varm["X_enformer"]
    assert found.dtype == np.float32
    assert found.shape == (2, track_model.spec.shape.embedding_size)
    for row, codes in enumerate(windows(peaks, text)):
        expected = plain(track_model, codes)[slice(*SPANS[row])].mean(axis=0)
        np.testing.assert_allclose(found[row], expected, **CLOSE)
    assert peaks.var["enformer_ok"].all()
    record = peaks.uns["X_enformer"]
    assert (record["pooling"], record["strand"], record["bins"]) == ("mean", "+", "mean")


def test_both_strands(track_model, peaks, text):
    glm.tl.embed_enformer(
        peaks, track_model, genome={"chr1": text}, strand_average=True, key_added="both"
    )
    glm.tl.embed(peaks, track_model, genome={"chr1": text}, strand="both")
    np.testing.assert_array_equal(peaks.varm["X_enformer"], peaks.varm["X_both"])
    for row, codes in enumerate(windows(peaks, text)):
        minus = plain(track_model, reverse_complement(codes))[::-1]
        expected = (plain(track_model, codes) + minus)[slice(*SPANS[row])].mean(axis=0) / 2
        np.testing.assert_allclose(peaks.varm["X_both"][row], expected, **CLOSE)


def test_embed_does_the_same(track_model, peaks, text, tmp_path):
    glm.tl.embed_enformer(peaks, track_model, genome={"chr1": text}, key_added="own")
    glm.tl.embed(peaks, track_model, genome={"chr1": text})
    np.testing.assert_array_equal(peaks.varm["X_enformer"], peaks.varm["X_own"])
    assert peaks.uns["X_enformer"]["function"] == "glm.tl.embed"
    track_model.save(tmp_path / "bundle")
    glm.tl.embed(peaks, tmp_path / "bundle", genome={"chr1": text}, overwrite=True)
    np.testing.assert_array_equal(peaks.varm["X_enformer"], peaks.varm["X_own"])
    plan = glm.tl.embed(peaks, track_model, genome={"chr1": text}, key_added="p", dry_run=True)
    assert plan.n_rows_usable == 2
    assert "X_p" not in peaks.varm


def test_predictions_and_embeddings_stand_side_by_side(track_model, peaks, text):
    genome = {"chr1": text}
    glm.tl.predict_tracks(peaks, track_model, genome=genome)
    glm.tl.embed_enformer(peaks, track_model, genome=genome)
    glm.tl.predict_tracks(peaks, track_model, genome=genome)
    assert set(peaks.varm) == {"X_enformer", "tracks_enformer"}
    assert {"enformer_ok", "tracks_enformer_ok"} <= set(peaks.var)


def test_precision_in_the_words_of_embed(track_model, peaks, text):
    genome = {"chr1": text}
    glm.tl.embed(peaks, track_model, genome=genome, precision="bfloat16", key_added="half")
    glm.tl.embed_enformer(peaks, track_model, genome=genome, precision="mixed")
    np.testing.assert_array_equal(peaks.varm["X_half"], peaks.varm["X_enformer"])
    assert peaks.uns["X_half"]["precision"] == "mixed"


@pytest.mark.parametrize(
    ("option", "error", "said"),
    [
        ({"hidden_layer": 1}, TypeError, "hidden_layer is of models that read sentences"),
        ({"token_budget": 5}, TypeError, "token_budget is of models"),
        ({"pooling": "cls"}, ValueError, "pooling is 'cls'; small-tracks has no <cls> token"),
        ({"of": "genes"}, TypeError, "small-tracks reads DNA: of is for models that read cells"),
        ({"groupby": "kind"}, TypeError, "groupby is for"),
        ({"layer": "counts"}, TypeError, "layer is for"),
        ({"strand": "-"}, ValueError, "strand is '-'"),
    ],
)
def test_options_of_other_models(track_model, peaks, text, option, error, said):
    with pytest.raises(error, match=said):
        glm.tl.embed(peaks, track_model, genome={"chr1": text}, **option)
    assert not [*peaks.varm, *peaks.uns]


def test_no_layer_of_sentences_for_other_systems(make_dna_model, peaks, text):
    with pytest.raises(ValueError, match=r"reads sentences .*predicts no tracks"):
        glm.tl.embed_enformer(peaks, make_dna_model(), genome={"chr1": text})
