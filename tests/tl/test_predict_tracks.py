"""``glm.tl.predict_tracks``, against windows cut by hand and the plain network."""

from __future__ import annotations

import warnings
from multiprocessing.reduction import ForkingPickler

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import glm
from glm.bases import N, reverse_complement, to_codes, to_text
from glm.regions import Regions
from glm.tl import _predict_tracks, _window_source
from glm.tl._track_job import (
    TrackJob,
    check_shifts,
    make_reading,
    make_source,
    make_track_plan,
    track_values,
)
from glm.tl._window_source import Geometry

CHR1, CHR2 = 20_000, 5_000
WINDOW, CROP, BINS, BIN = 4_096, 4, 24, 128
CLOSE = {"rtol": 2e-5, "atol": 2e-5}


@pytest.fixture(scope="module")
def sequences():
    rng = np.random.default_rng(3)
    texts = {
        name: "".join(rng.choice(list("ACGT"), n)) for name, n in (("chr1", CHR1), ("chr2", CHR2))
    }
    texts["chr2"] = texts["chr2"][:2_000] + "N" * 300 + texts["chr2"][2_300:]
    return texts


PLACES = (("chr1", 9_000, 9_001), ("chr1", 7_003, 8_004), ("chr1", 60, 300), ("chr2", 4_500, 4_990))


def regions_at(places=PLACES, axis="var", **columns):
    table = pd.DataFrame(places, columns=["chrom", "start", "end"])
    for name, values in columns.items():
        table[name] = values
    table.index = [f"region{i}" for i in range(len(table))]
    if axis == "var":
        return ad.AnnData(np.ones((2, len(table)), np.float32), var=table)
    return ad.AnnData(np.ones((len(table), 2), np.float32), obs=table)


def window_at(text, centre, shift=0):
    """Codes of the window around a base, N where there is nothing: one base at a time."""
    start = centre - WINDOW // 2 + shift
    codes = [
        to_codes(text[i])[0] if 0 <= i < len(text) else N for i in range(start, start + WINDOW)
    ]
    return np.array(codes, np.uint8)


def output(model, codes, head="human"):
    """Bins × tracks of the whole output, by the plain network."""
    with torch.no_grad():
        return model.network(torch.from_numpy(codes.copy())[None])[head][0].numpy()


def bins_of(start, end, length):
    """Bins of the output that share a base with the region and with the chromosome."""
    centre = (start + end) // 2
    first = centre - WINDOW // 2 + CROP * BIN
    return [
        j
        for j in range(BINS)
        if any(
            start <= base < end and 0 <= base < length
            for base in range(first + j * BIN, first + (j + 1) * BIN)
        )
    ]


def by_hand(model, sequences, place, head="human"):
    chrom, start, end = place
    codes = window_at(sequences[chrom], (start + end) // 2)
    return output(model, codes, head)[bins_of(start, end, len(sequences[chrom]))]


# ---- values --------------------------------------------------------------------------------------


@pytest.mark.parametrize("bins", ["mean", "sum", "max"])
@pytest.mark.parametrize("axis", ["var", "obs"])
def test_against_windows_cut_by_hand(track_model, sequences, bins, axis):
    adata = regions_at(axis=axis)
    glm.tl.predict_tracks(
        adata, track_model, genome=sequences, tracks=["CHIP", "EN3"], bins=bins, organism="human"
    )
    found = getattr(adata, f"{axis}m")["tracks_enformer"]
    assert found.dtype == np.float32
    assert found.shape == (4, 3)
    assert getattr(adata, axis)["tracks_enformer_ok"].all()
    for row, place in enumerate(PLACES):
        values = by_hand(track_model, sequences, place)[:, [4, 5, 3]]
        np.testing.assert_allclose(found[row], getattr(values, bins)(axis=0), **CLOSE)
    record = adata.uns["tracks_enformer"]
    assert record["tracks"]["identifier"] == ["EN4", "EN5", "EN3"]
    assert record["tracks"]["index"] == [4, 5, 3]
    assert record["organism"] == "human"
    assert record["bins"] == bins


def test_the_other_head(track_model, sequences):
    adata = regions_at()
    glm.tl.predict_tracks(adata, track_model, genome=sequences, organism="mouse")
    for row, place in enumerate(PLACES):
        expected = by_hand(track_model, sequences, place, "mouse").mean(axis=0)
        np.testing.assert_allclose(adata.varm["tracks_enformer"][row], expected, **CLOSE)


def test_which_bins_a_region_has():
    """Of one base the one in the middle; of the whole output all; and never more."""
    geometry = Geometry(WINDOW, CROP, BINS)

    def bins(start, end):
        regions = Regions.of(["chr1"], [start], [end])
        return geometry.bins(regions, regions.start, regions.end)[0].tolist()

    assert bins(5_000, 5_001) == [12, 13]
    assert bins(5_000, 5_002) == [11, 13]  # its middle is 5,001: one base before, one in the bin
    assert bins(5_000, 5_256) == [11, 13]
    assert bins(5_000, 5_257) == [11, 14]
    assert bins(5_000, 5_000 + geometry.output_bp) == [0, BINS]
    assert bins(5_001, 5_001 + geometry.output_bp - 1) == [0, BINS]


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 6_000), st.integers(1, BINS * BIN))
def test_bins_by_definition(start, length):
    geometry, regions = Geometry(WINDOW, CROP, BINS), Regions.of(["c"], [start], [start + length])
    low, high = geometry.bins(regions, regions.start, regions.end)[0].tolist()
    assert list(range(low, high)) == bins_of(start, start + length, 10**6)


def test_all_bins_and_those_of_equally_long_regions(track_model, sequences):
    places = [("chr1", 9_000, 9_400), ("chr1", 40, 440), ("chr2", 4_700, 5_100)]
    adata = regions_at(places)
    options = {"genome": sequences, "tracks": [2, 0]}
    glm.tl.predict_tracks(adata, track_model, bins="all", **options)
    every = adata.varm["tracks_enformer"]
    assert every.shape == (3, BINS, 2)
    glm.tl.predict_tracks(adata, track_model, bins="region", key_added="own", **options)
    own = adata.varm["tracks_own"]
    assert own.shape == (3, 4, 2)
    assert adata.uns["tracks_own"]["bins_in_array"] == [10, 14]
    for row, (chrom, start, end) in enumerate(places):
        text = sequences[chrom]
        expected = output(track_model, window_at(text, (start + end) // 2))[:, [2, 0]]
        first = (start + end) // 2 - WINDOW // 2 + CROP * BIN
        off = [not (first + (j + 1) * BIN > 0 and first + j * BIN < len(text)) for j in range(BINS)]
        expected[off] = np.nan
        np.testing.assert_allclose(every[row], expected, **CLOSE)
        np.testing.assert_allclose(own[row], expected[10:14], **CLOSE)
    assert adata.var["tracks_enformer_ok"].all()
    with pytest.raises(ValueError, match=r"regions of one length, and these have 1 to 1,001 bases"):
        glm.tl.predict_tracks(regions_at(), track_model, bins="region", **options)


def test_a_strand_of_its_own_changes_nothing(track_model, sequences):
    plain, stranded = regions_at(), regions_at(strand=list("+-.-"))
    for adata in (plain, stranded):
        glm.tl.predict_tracks(adata, track_model, genome=sequences)
    expected = plain.varm["tracks_enformer"]
    np.testing.assert_array_equal(stranded.varm["tracks_enformer"], expected)
    assert stranded.uns["tracks_enformer"]["strand"] == "+"


# ---- averages ------------------------------------------------------------------------------------


def test_both_strands_by_hand(track_model, sequences):
    """The axis is turned around, and a track of one strand is its partner on the other."""
    adata = regions_at()
    options = {"genome": sequences, "strand_average": True}
    glm.tl.predict_tracks(adata, track_model, tracks=[1, 2], bins="mean", **options)
    glm.tl.predict_tracks(adata, track_model, tracks=[1, 2], bins="max", key_added="max", **options)
    for row, (chrom, start, end) in enumerate(PLACES):
        codes = window_at(sequences[chrom], (start + end) // 2)
        plus = output(track_model, codes)
        minus = output(track_model, reverse_complement(codes))[::-1][:, [1, 0, 2, 3, 4, 5]]
        bins = bins_of(start, end, len(sequences[chrom]))
        mean = ((plus + minus) / 2)[bins][:, [1, 2]]
        np.testing.assert_allclose(adata.varm["tracks_enformer"][row], mean.mean(0), **CLOSE)
        np.testing.assert_allclose(adata.varm["tracks_max"][row], mean.max(0), **CLOSE)
    assert adata.uns["tracks_enformer"]["strand"] == "both"


def test_both_strands_of_the_reverse_complement(track_model, sequences):
    """A genome read from its other end gives the same, mirrored, with strands swapped."""
    text = sequences["chr1"]
    other = to_text(reverse_complement(to_codes(text)))
    start, end = (
        7_000,
        7_512,
    )  # an even length: the middle is the edge of a bin, seen from both ends
    here, there = (
        regions_at([("chr1", start, end)]),
        regions_at([("chr1", CHR1 - end, CHR1 - start)]),
    )
    options = {"bins": "region", "strand_average": True}
    glm.tl.predict_tracks(here, track_model, genome={"chr1": text}, **options)
    glm.tl.predict_tracks(there, track_model, genome={"chr1": other}, **options)
    mirrored = there.varm["tracks_enformer"][0][::-1][:, [1, 0, 2, 3, 4, 5]]
    np.testing.assert_allclose(here.varm["tracks_enformer"][0], mirrored, **CLOSE)


def test_a_palindrome_is_its_own_mirror(track_model, sequences):
    half = sequences["chr1"][:6_000]
    text = half + to_text(reverse_complement(to_codes(half)))
    adata = regions_at([("chr1", 5_500, 6_500)])
    glm.tl.predict_tracks(
        adata, track_model, genome={"chr1": text}, bins="all", strand_average=True
    )
    found = adata.varm["tracks_enformer"][0]
    np.testing.assert_allclose(found, found[::-1][:, [1, 0, 2, 3, 4, 5]], **CLOSE)


def test_shifts_by_hand(track_model, sequences):
    adata = regions_at()
    shifts = (-1, 0, 3)
    glm.tl.predict_tracks(
        adata, track_model, genome=sequences, strand_average=True, shifts=shifts, tracks=0
    )
    for row, (chrom, start, end) in enumerate(PLACES):
        values = []
        for shift in shifts:
            codes = window_at(sequences[chrom], (start + end) // 2, shift)
            values.append(output(track_model, codes)[:, 0])
            values.append(output(track_model, reverse_complement(codes))[::-1, 1])
        bins = bins_of(start, end, len(sequences[chrom]))
        expected = np.mean(values, axis=0)[bins].mean()
        np.testing.assert_allclose(adata.varm["tracks_enformer"][row, 0], expected, **CLOSE)
    assert adata.uns["tracks_enformer"]["shifts"] == [-1, 0, 3]
    once = regions_at()
    glm.tl.predict_tracks(once, track_model, genome=sequences, shifts=range(1), tracks=0)
    again = regions_at()
    glm.tl.predict_tracks(again, track_model, genome=sequences, tracks=0)
    np.testing.assert_array_equal(once.varm["tracks_enformer"], again.varm["tracks_enformer"])


@pytest.mark.parametrize("shifts", [(), (0.5,), "1", 3.0, (True,)])
def test_shifts_that_are_none(shifts):
    with pytest.raises(TypeError, match=r"shifts is .*whole numbers of bases"):
        check_shifts(shifts)


@pytest.mark.parametrize(("shifts", "said"), [((1, 1), "some twice"), ((65,), "at most 64")])
def test_shifts_that_are_refused(shifts, said):
    with pytest.raises(ValueError, match=said):
        check_shifts(shifts)


def test_only_what_is_asked_for_is_computed(track_model, sequences, monkeypatch):
    from glm.models.fast.enformer import FastEnformer

    asked, predict = [], FastEnformer.predict

    def noted(self, window, *, tracks, bins, **more):
        asked.append((tracks, bins))
        return predict(self, window, tracks=tracks, bins=bins, **more)

    monkeypatch.setattr(FastEnformer, "predict", noted)
    adata = regions_at(PLACES[:1])
    glm.tl.predict_tracks(adata, track_model, genome=sequences, tracks=[0, 3], strand_average=True)
    assert asked == [({"human": (0, 3)}, [12]), ({"human": (1, 3)}, [11])]


# ---- rows ----------------------------------------------------------------------------------------


def test_together_as_one_by_one(track_model, sequences, monkeypatch):
    """To the last bit, also in blocks of several rows."""
    monkeypatch.setattr(_window_source, "_BLOCKS", 1)
    together = regions_at()
    glm.tl.predict_tracks(together, track_model, genome=sequences)
    for row in range(len(PLACES)):
        alone = regions_at(PLACES[row : row + 1])
        glm.tl.predict_tracks(alone, track_model, genome=sequences)
        expected = alone.varm["tracks_enformer"][0]
        np.testing.assert_array_equal(together.varm["tracks_enformer"][row], expected)


def test_rows_that_cannot_be_predicted(track_model, sequences):
    places = [
        ("chr1", 9_000, 9_100),
        (None, pd.NA, pd.NA),
        ("chr1", 21_000, 21_100),
        ("chr2", 2_050, 2_250),
        ("chr1", 5_000, 9_000),
        ("chr2", 4_960, 5_020),
    ]
    adata = regions_at(places)
    for column in ("start", "end"):
        adata.var[column] = adata.var[column].astype("Int64")
    with pytest.warns(glm.GlmWarning) as told:
        glm.tl.predict_tracks(adata, track_model, genome=sequences)
    (message,) = (str(w.message) for w in told)
    for part in (
        "4 of 6 (67%) regions could not be predicted and are NaN (region1, region2,",
        "1 have no region",
        "1 lie beyond their chromosome",
        "1 have over 10% unknown bases (max_n_share)",
        "1 are longer than the output of 3,072 bases (glm.tl.predict_stretch",
        "adata[:, adata.var['tracks_enformer_ok']]",
    ):
        assert part in message
    ok = [True, False, False, False, False, True]
    assert adata.var["tracks_enformer_ok"].tolist() == ok
    found = adata.varm["tracks_enformer"]
    np.testing.assert_array_equal(np.isnan(found).all(axis=1), ~np.array(ok))
    np.testing.assert_allclose(
        found[5], by_hand(track_model, sequences, places[5]).mean(axis=0), **CLOSE
    )
    record = adata.uns["tracks_enformer"]
    counts = {name: record[f"n_{name}"] for name in ("rows", "regions", "clipped", "padded")}
    assert counts == {"rows": 6, "regions": 5, "clipped": 1, "padded": 1}
    assert record["n_regions_unusable"] == 4


def test_share_of_the_window_that_is_unknown(track_model, sequences):
    adata = regions_at([("chr1", 0, 10), ("chr2", 3_000, 3_010), ("chr1", 9_000, 9_010)])
    options = {"genome": sequences, "key_added": "x"}
    glm.tl.predict_tracks(adata, track_model, **options)
    ends_at = 3_005 + WINDOW // 2
    share = [(WINDOW // 2 - 5) / WINDOW, (300 + ends_at - CHR2) / WINDOW, 0]
    np.testing.assert_allclose(adata.var["tracks_x_n_share"], share)
    with pytest.warns(glm.GlmWarning, match=r"over 40% unknown bases in their window"):
        glm.tl.predict_tracks(adata, track_model, max_n_share_window=0.4, **options)
    assert adata.var["tracks_x_ok"].tolist() == [False, True, True]


def test_none_readable(track_model, sequences):
    adata = regions_at([("chr1", 30_000, 30_100)])
    with pytest.raises(ValueError, match=r"None of 1 regions can be read: 1 lie beyond"):
        glm.tl.predict_tracks(adata, track_model, genome=sequences)


def test_edges_are_refused(track_model, sequences):
    adata = regions_at([("chr1", -10, 300)])
    with pytest.raises(ValueError, match=r"1 of 1 .*reach beyond .*region0"):
        glm.tl.predict_tracks(adata, track_model, genome=sequences, edges="raise")
    inside = regions_at([("chr1", 0, 300)])  # its window reaches beyond, as it may
    glm.tl.predict_tracks(inside, track_model, genome=sequences, edges="raise")


def test_several_windows_a_row_with_weights(track_model, sequences):
    """What genes with several start sites need: the function of arrays."""
    regions = Regions.of(["chr1", "chr1", "chr1"], [9_000, 6_000, 3_000], [9_001, 6_001, 3_001])
    reading = make_reading(track_model, "human", [0, 4], bins="sum")
    source = make_source(
        track_model,
        reading,
        regions,
        np.array([1, 1, 2]),
        4,
        genome=glm.Genome(sequences),
        spans=np.array([[11, 14]] * 3),
        weights=np.array([1.0, 3.0, 2.0]),
    )
    job = TrackJob(source, track_model, make_track_plan(track_model, reading), reading)
    found = track_values(job)
    each = [
        output(track_model, window_at(sequences["chr1"], start))[11:14, [0, 4]].sum(axis=0)
        for start in (9_000, 6_000, 3_000)
    ]
    np.testing.assert_allclose(found[1], (each[0] + 3 * each[1]) / 4, **CLOSE)
    np.testing.assert_allclose(found[2], each[2], **CLOSE)
    assert np.isnan(found[[0, 3]]).all()
    assert source.row_ok.tolist() == [False, True, True, False]
    again = ForkingPickler.loads(ForkingPickler.dumps(job))
    np.testing.assert_array_equal(track_values(again), found)


# ---- options -------------------------------------------------------------------------------------


def test_sums_of_one_kind_only(track_model, sequences):
    adata = regions_at()
    said = r"sum: CAGE; mean: DNASE, CHIP.*tracks='CAGE'"
    with pytest.raises(ValueError, match=said):
        glm.tl.predict_tracks(adata, track_model, genome=sequences, bins="sum")
    assert "tracks_enformer" not in adata.varm
    glm.tl.predict_tracks(adata, track_model, genome=sequences, bins="sum", tracks="CAGE")


@pytest.mark.parametrize(
    ("option", "error", "said"),
    [
        ({"bins": "median"}, ValueError, "bins is 'median'; expected 'mean', 'sum'"),
        ({"edges": "pad"}, ValueError, "edges is 'pad'"),
        ({"max_n_share": 2}, ValueError, "max_n_share is 2; expected 0 to 1"),
        ({"max_n_share_window": "a"}, ValueError, "max_n_share_window is 'a'"),
        ({"strand_average": "both"}, TypeError, "strand_average is 'both'"),
        ({"precision": "bfloat16"}, ValueError, "precision is 'bfloat16'; expected 'float32'"),
        ({"organism": "fly"}, KeyError, "predicts no 'fly' tracks"),
        ({"tracks": 6}, ValueError, "outside"),
        ({"tracks": "ATAC"}, KeyError, "neither an identifier nor an assay"),
        ({"genome": None}, ValueError, "say of which genome"),
        ({"shifts": 1.5}, TypeError, "shifts is 1.5"),
        ({"device": "tpu"}, ValueError, "no device 'tpu'"),
    ],
)
def test_options_that_are_none(track_model, sequences, option, error, said):
    adata = regions_at()
    with pytest.raises(error, match=said):
        glm.tl.predict_tracks(adata, track_model, **{"genome": sequences, **option})
    assert not [*adata.varm, *adata.uns]


def test_a_model_that_reads_sentences(make_dna_model, sequences):
    with pytest.raises(ValueError, match=r"reads sentences .*and predicts no tracks"):
        glm.tl.predict_tracks(regions_at(), make_dna_model(), genome=sequences)


def test_another_species(track_model, sequences):
    """Told of; and the genome's own species is the head unless one is named."""
    genome = glm.Genome(sequences, name="danRer11")
    with pytest.warns(glm.GlmWarning, match=r"human tracks are predicted on danRer11"):
        glm.tl.predict_tracks(regions_at(), track_model, genome=genome)


def test_mixed_precision_is_the_executors_own(track_model, sequences):
    from glm.models.fast.enformer import FastEnformer

    exact, mixed = regions_at(), regions_at()
    glm.tl.predict_tracks(exact, track_model, genome=sequences)
    glm.tl.predict_tracks(mixed, track_model, genome=sequences, precision="mixed")
    assert exact.uns["tracks_enformer"]["precision"] == "float32"
    assert mixed.uns["tracks_enformer"]["precision"] == "mixed"
    a, b = exact.varm["tracks_enformer"], mixed.varm["tracks_enformer"]
    assert not np.array_equal(a, b)
    fast = FastEnformer(track_model.network, precision="mixed")
    window = torch.from_numpy(window_at(sequences["chr1"], 9_000))[None]
    np.testing.assert_array_equal(b[0], fast.predict(window, bins=[12])["human"][0, 0])


def test_dry_run(track_model, sequences):
    adata = regions_at()
    plan = glm.tl.predict_tracks(
        adata, track_model, genome=sequences, bins="all", shifts=(-2, 0), dry_run=True
    )
    assert (plan.n_rows, plan.n_rows_usable, plan.n_batches) == (4, 4, 4)
    assert plan.n_tokens == 4 * (WINDOW + 4)
    assert plan.result_bytes == 4 * 4 * BINS * 6
    assert plan.seconds > 0
    assert "bases" in repr(plan)
    assert "tokens" not in repr(plan)
    assert not [*adata.varm, *adata.uns]


def test_copy(track_model, sequences):
    adata = regions_at()
    found = glm.tl.predict_tracks(adata, track_model, genome=sequences, copy=True)
    assert "tracks_enformer" in found.varm
    assert not adata.varm


def test_too_much_for_memory(track_model, sequences, monkeypatch, tmp_path):
    monkeypatch.setattr(_predict_tracks, "MOST_BYTES", 1_000)
    adata = regions_at()
    with pytest.raises(ValueError, match=r"4 × 24 × 6 predictions take .*out= .*bins='mean'"):
        glm.tl.predict_tracks(adata, track_model, genome=sequences, bins="all")
    assert not [*adata.varm, *adata.uns]
    glm.tl.predict_tracks(adata, track_model, genome=sequences, bins="all", out=tmp_path / "out")
    plan = glm.tl.predict_tracks(adata, track_model, genome=sequences, bins="all", dry_run=True)
    assert plan.result_bytes > 1_000


# ---- files ---------------------------------------------------------------------------------------


def test_out_gives_the_same_bits(track_model, sequences, tmp_path):
    import zarr

    for bins in ("mean", "all"):
        expected, adata = regions_at(), regions_at()
        options = {"genome": sequences, "bins": bins, "tracks": [5, 1]}
        glm.tl.predict_tracks(expected, track_model, **options)
        glm.tl.predict_tracks(adata, track_model, out=tmp_path / bins, **options)
        wanted = expected.varm["tracks_enformer"]
        pd.testing.assert_frame_equal(adata.var, expected.var)
        if bins == "mean":
            found = adata.varm["tracks_enformer"]
            assert sorted(p.name for p in (tmp_path / bins).iterdir()) == [
                "manifest.json",
                "tracks.npy",
            ]
        else:
            assert "tracks_enformer" not in adata.varm
            array = zarr.open_array(adata.uns["tracks_enformer"]["array"], mode="r")
            assert list(array.attrs["identifier"]) == ["EN5", "CN1-"]
            assert list(array.attrs["regions"]) == list(adata.var_names)
            found = array[:]
        np.testing.assert_array_equal(found, wanted)
        before = {p: p.stat().st_mtime_ns for p in (tmp_path / bins).rglob("*") if p.is_file()}
        glm.tl.predict_tracks(adata, track_model, out=tmp_path / bins, **options)
        assert before == {p: p.stat().st_mtime_ns for p in before}
        with pytest.raises(ValueError, match=r"holds another run: .*tracks_sha256"):
            glm.tl.predict_tracks(
                adata, track_model, out=tmp_path / bins, **{**options, "tracks": [5, 2]}
            )


@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
@pytest.mark.parametrize("bins", ["mean", "all"])
@pytest.mark.filterwarnings("ignore:Writing zarr v2")
def test_round_trip(track_model, sequences, tmp_path, kind, bins):
    adata = regions_at()
    glm.tl.predict_tracks(adata, track_model, genome=sequences, bins=bins)
    path = tmp_path / f"x.{kind}"
    getattr(adata, f"write_{kind}")(path)
    again = getattr(ad, f"read_{kind}")(path)
    np.testing.assert_array_equal(again.varm["tracks_enformer"], adata.varm["tracks_enformer"])
    plain = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in _record(again).items()}
    assert {k: plain[k] for k in ("model", "chosen", "genome_fingerprint", "shifts")} == {
        k: _record(adata)[k] for k in ("model", "chosen", "genome_fingerprint", "shifts")
    }
    glm.tl.predict_tracks(again, track_model, genome=sequences)  # known to be glm's
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert glm.get.tracks(again).shape == (4, 6)


def _record(adata):
    return adata.uns["tracks_enformer"]


def test_backed_and_mudata(track_model, sequences, tmp_path):
    import mudata

    expected = regions_at()
    glm.tl.predict_tracks(expected, track_model, genome=sequences)
    regions_at().write_h5ad(tmp_path / "x.h5ad")
    backed = ad.read_h5ad(tmp_path / "x.h5ad", backed="r")
    glm.tl.predict_tracks(backed, track_model, genome=sequences)
    np.testing.assert_array_equal(backed.varm["tracks_enformer"], expected.varm["tracks_enformer"])
    rna = ad.AnnData(np.ones((2, 3), np.float32))
    both = mudata.MuData({"rna": rna, "atac": regions_at()})
    glm.tl.predict_tracks(both, track_model, genome=sequences, mod="atac")
    found = glm.get.tracks(both, mod="atac")
    np.testing.assert_array_equal(found, expected.varm["tracks_enformer"])
