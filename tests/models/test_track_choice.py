"""Choosing tracks: by place, name, assay, words and cell type, and what is said where none fits."""

from __future__ import annotations

import logging
import re
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import glm
from glm.models import TrackModel
from glm.models.any_model import get_track_spec
from glm.models.track_choice import TrackChoice, check_species, choose_head, choose_tracks
from glm.models.track_nearest import nearest, nearness, words_of


def chosen(choice: TrackChoice) -> list[int]:
    return choice.index.tolist()


# ---- the small model: human 0-5, mouse 0-2 -------------------------------------------------------


def test_all(track_model: TrackModel):
    choice = choose_tracks(track_model)
    assert choice.head == "human"
    assert chosen(choice) == [0, 1, 2, 3, 4, 5]
    assert choice.index.dtype == np.int64
    pd.testing.assert_frame_equal(choice.table, track_model.tables["human"])
    assert choice.facts() == {"organism": "human", "tracks": "all", "n_tracks": 6}


@pytest.mark.parametrize(
    ("tracks", "index", "how"),
    [
        (3, [3], "index 3"),
        (np.int32(3), [3], "index 3"),
        ([4, 0], [4, 0], "index 4, 0"),
        (range(2, 4), [2, 3], "index 2, 3"),
        (np.array([5, 1], np.uint8), [5, 1], "index 5, 1"),
        (pd.Index([2]), [2], "index 2"),
        (np.array([0, 0, 1, 1, 0, 0], bool), [2, 3], "a mask, 2 of it true"),
        ("EN3", [3], "identifier EN3"),
        (["EN3", "CN1+"], [3, 0], "identifiers EN3, CN1+"),
        ("dnase", [2, 3], "assay DNASE"),
        (["EN4", "CAGE"], [4, 0, 1], "identifier EN4; assay CAGE"),
        ("CAGE:cardiac", [0, 1], "assay CAGE, sample with 'cardiac'"),
        ("cage: Fibroblasts CARDIAC", [0, 1], "assay CAGE, sample with 'fibroblast' and 'cardiac'"),
        (":k562", [3, 4, 5], "any assay, sample with 'k562'"),
        ("*:k562", [3, 4, 5], "any assay, sample with 'k562'"),
        ("CHIP:H3K27ac", [4, 5], "assay CHIP, sample with 'h3k27ac'"),
        (re.compile(r"^DNASE:.*ventricle$"), [2], "pattern '^DNASE:.*ventricle$'"),
        (["CAGE", 0, "DNASE:K562"], [0, 1, 3], "assay CAGE; index 0; assay DNASE, sample with "),
        ("nearest:left ventricle of the heart", [2], "nearest to 'left ventricle of the heart'"),
        ("nearest:DNASE:K-562", [3], "nearest to 'K-562' of assay DNASE: 'K562'"),
        ("nearest:cardiac fibroblasts", [0, 1], "nearest to 'cardiac fibroblasts': 'cardiac fi"),
    ],
    ids=repr,
)
def test_ways_to_choose(track_model: TrackModel, tracks: object, index: list[int], how: str):
    choice = choose_tracks(track_model, tracks)  # type: ignore[arg-type]
    assert chosen(choice) == index
    assert choice.how.startswith(how)
    pd.testing.assert_frame_equal(choice.table, track_model.tables["human"].iloc[index])


def test_identifiers_of_several_tracks(track_model: TrackModel):
    """All of them are taken, and it is said."""
    table = track_model.tables["human"].assign(identifier=["A", "A", "B", "B", "B", "C"])
    model = TrackModel(
        track_model.spec, track_model.network, {**track_model.tables, "human": table}
    )
    assert chosen(choose_tracks(model, "B")) == [2, 3, 4]
    choice = choose_tracks(model, ["C", "A"])
    assert chosen(choice) == [5, 0, 1]
    assert choice.how == "identifiers C, A, 3 tracks in all"


def test_rows_of_the_table(track_model: TrackModel):
    table = track_model.tables["human"]
    assert chosen(choose_tracks(track_model, table[table["assay"] == "DNASE"])) == [2, 3]
    assert chosen(choose_tracks(track_model, table.iloc[[5, 2]])) == [5, 2]
    assert chosen(choose_tracks(track_model, table["assay"] == "CHIP")) == [4, 5]
    with pytest.raises(ValueError, match=r"2 rows .* are not human tracks .* 'MM1' there and 'CN1"):
        choose_tracks(track_model, track_model.tables["mouse"].iloc[:2])
    with pytest.raises(TypeError, match=r"rows of glm\.models\.tracks"):
        choose_tracks(track_model, table.set_index("identifier"))


def test_an_assay_is_told_from_a_word_like_it(track_model: TrackModel):
    """A word stands by itself: "male" is no part of "female", nor "K56" of "K562"."""
    for word in ("K56", "562", "fibro", "heart left atrium"):
        with pytest.raises(KeyError, match="No human track of any assay has"):
            choose_tracks(track_model, f":{word}")


@pytest.mark.parametrize(
    ("tracks", "error", "said"),
    [
        (6, ValueError, r"1 track of 1 lie outside the 6 of head 'human' \(6\).*from 0 to 5"),
        ([0, -1, 7], ValueError, r"2 tracks of 3 lie outside the 6 of head 'human' \(-1, 7\)"),
        ([1, 2, 1], ValueError, r"asked for more than once \(1\)"),
        ([], ValueError, "tracks holds nothing"),
        (np.zeros(6, bool), ValueError, "0 true of 6 booleans"),
        (np.ones(4, bool), ValueError, "4 true of 4 booleans; expected 6"),
        ("EN9", KeyError, r"neither an identifier nor an assay .* there are CAGE \(2\)"),
        ("K562", KeyError, r'3 of 6 \(50%\) have it in their sample: ask for ":K562"'),
        ("fibroblst", KeyError, "The nearest are 'cardiac fibroblast': \"nearest:...\" takes one"),
        ("RNA:heart", KeyError, r"of the assay 'RNA' as in 'RNA:heart': there are .*DNASE \(2\)"),
        ("CAGE:cardyac", KeyError, "has 'cardyac' in its sample. The nearest are 'cardiac fibro"),
        ("CAGE:", KeyError, "has no words in its sample"),
        ("nearest:neuron", KeyError, "called nearly like 'neuron'"),
        ("nearest:", KeyError, "called nearly like ''"),
        (re.compile("brain"), KeyError, "called like the pattern 'brain'.*'CAGE:cardiac fibro"),
        (re.compile(b"brain"), TypeError, "pattern of bytes"),
        ({"human": [1]}, TypeError, "tracks is a dict; expected None, places"),
        (1.5, TypeError, "tracks is a float"),
        ([1.5], TypeError, "tracks is a float"),
        ([True, 0], TypeError, "tracks is a bool"),
        ([["EN3"]], TypeError, "tracks is a list"),
    ],
    ids=repr,
)
def test_what_does_not_fit(track_model: TrackModel, tracks, error: type[Exception], said: str):
    with pytest.raises(error) as caught:
        choose_tracks(track_model, tracks)
    assert re.search(said, caught.value.args[0])  # as text a KeyError is put in quotes


def test_the_choice_is_logged(track_model: TrackModel, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, logger="glm"):
        choose_tracks(track_model, "CAGE")
        choose_tracks(track_model)
    assert caplog.messages == [
        "chose 2 of 6 human tracks (assay CAGE): CN1+, CN1-",
        "chose 6 of 6 human tracks (all): CN1+, CN1-, EN2 and 3 more",
    ]


# ---- heads and species --------------------------------------------------------------------------


def test_the_head(track_model: TrackModel):
    spec = track_model.spec
    assert choose_head(spec) == "human"
    assert choose_head(spec, "mouse") == "mouse"
    assert choose_head(spec, None, "GRCm38.p6") == "mouse"
    assert choose_head(spec, None, "hg19") == "human"
    assert choose_head(spec, None, "made up") == "human"
    assert chosen(choose_tracks(track_model, "CAGE", organism="mouse")) == [1]
    assert choose_tracks(track_model, "CAGE", genome="mm10").head == "mouse"
    with pytest.raises(KeyError, match=r"predicts no 'rat' tracks: its heads are human, mouse"):
        choose_tracks(track_model, organism="rat")


def test_heads_of_other_names(track_model: TrackModel):
    from dataclasses import replace

    one = replace(track_model.spec, shape=replace(track_model.spec.shape, heads={"liver": 3}))
    assert choose_head(one) == "liver"
    assert choose_head(one, None, "mm10") == "liver"
    two = replace(one, shape=replace(one.shape, heads={"liver": 3, "heart": 2}))
    with pytest.raises(ValueError, match="has the heads liver, heart: pass organism="):
        choose_head(two)


@pytest.mark.parametrize(
    ("head", "genome"),
    [
        ("human", "hg19"),
        ("human", "GRCh38.p13"),
        ("human", ""),
        ("human", "a small genome"),
        ("mouse", "mm10"),
        ("mouse", "mm39"),
        ("liver", "mm10"),
    ],
)
def test_the_same_species_or_none_known(head: str, genome: str):
    check_species(head, genome)  # a warning would be an error


@pytest.mark.parametrize(
    ("head", "genome", "trained"),
    [("human", "mm10", "hg38"), ("mouse", "GRCh37", "mm10"), ("human", "danRer11", "hg38")],
)
def test_another_species_is_warned_of(head: str, genome: str, trained: str):
    with pytest.warns(glm.GlmWarning, match=f"{head} tracks are predicted on {genome}.*{trained}"):
        check_species(head, genome)


def test_a_choice_for_a_genome_warns(track_model: TrackModel):
    with pytest.warns(glm.GlmWarning, match="another species"):
        choice = choose_tracks(track_model, "CAGE", organism="human", genome="mm10")
    assert choice.head == "human"
    genome = glm.Genome({"chr1": "ACGT" * 30})
    assert choose_tracks(track_model, "CAGE", genome=genome).head == "human"


# ---- names of samples ---------------------------------------------------------------------------


def test_words():
    assert words_of("CD4+ T Cells, donor1") == ["cd4", "t", "cell", "donor1"]
    assert words_of("Abscess; mus") == ["abscess", "mus"]
    assert words_of("Fibroblast - Cardiac,") == ["fibroblast", "cardiac"]
    assert words_of(" ,+") == []


def test_nearness_by_hand():
    samples = pd.Series(["B cell", "T cells", "T cell, naive", "B cell"])
    cell, t, naive = np.log1p([3 / 3, 3 / 2, 3 / 1])
    unknown = np.log1p(3)
    score = nearness(samples, "T-cell")
    b = np.log1p(3 / 1)
    expected = [cell / (cell + b + t), 1.0, (t + cell) / (t + cell + naive), cell / (cell + b + t)]
    np.testing.assert_allclose(score, expected)
    np.testing.assert_allclose(nearness(samples, "zebra")[:1], [0.0])
    np.testing.assert_allclose(nearness(samples, "zebra cell")[0], cell / (cell + b + unknown))
    assert nearest(samples, "b cells").tolist() == [True, False, False, True]
    assert not nearest(samples, "zebra").any()
    assert not nearest(samples.iloc[:0], "zebra").any()
    assert nearness(pd.Series(["", ","]), "zebra").tolist() == [0.0, 0.0]


# ---- the published tables -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tracks", "n", "sample"),
    [
        (None, 5_313, "cerebellum male adult"),
        ("CAGE", 638, "Clontech Human Universal"),
        ("CAGE:cardiac", 3, "Fibroblast - Cardiac,"),
        ("ENCFF880MKD", 1, "chorion"),
        ("nearest:cardiac myocytes", 1, "Cardiac Myocyte,"),
        ("nearest:CAGE:CD4 T cell", 1, "CD4+ T Cells,"),
        ("nearest:hepatocytes", 2, "hepatocyte"),
        ("nearest:CAGE:fibrobast cardiac", 1, "Fibroblast - Cardiac,"),
        ("nearest:DNASE:K562", 4, "K562"),
        ("nearest:CHIP:H3K27ac cardiac muscle", 1, "H3K27ac:cardiac muscle cell"),
    ],
)
def test_published_tracks(test_data: Path, tracks: str | None, n: int, sample: str):
    with glm.settings.override(mirror=test_data / "enformer", offline=True):
        choice = choose_tracks(get_track_spec("enformer"), tracks, genome="hg19")
    assert len(choice.index) == n
    assert choice.table["sample"].iloc[0].startswith(sample)
    assert (np.diff(choice.index) > 0).all()


def test_what_is_suggested_of_published_tracks(test_data: Path):
    with (
        glm.settings.override(mirror=test_data / "enformer", offline=True),
        pytest.raises(KeyError) as caught,
    ):
        choose_tracks(get_track_spec("enformer"), "nearest:CAGE:cardiomyocyte")
    assert "The nearest are" in caught.value.args[0]
    assert "'Cardiac Myocyte,'" in caught.value.args[0]


def test_male_is_not_female(test_data: Path):
    with glm.settings.override(mirror=test_data / "enformer", offline=True):
        table = choose_tracks(get_track_spec("enformer"), "DNASE:male").table
    assert not table["sample"].str.fullmatch(r".*female(?!.*\bmale\b).*").any()


def test_thousands_at_once(test_data: Path):
    """Half of all by identifier: a look-up each, not a search each."""
    with glm.settings.override(mirror=test_data / "enformer", offline=True):
        spec = get_track_spec("enformer")
        asked = spec.tracks("human")["identifier"].tolist()[::-2]
        start = time.process_time()
        choice = choose_tracks(spec, asked)
    assert choice.table["identifier"].tolist() == asked
    assert time.process_time() - start < 1.0
