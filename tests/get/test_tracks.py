"""``glm.get.tracks``: predictions as tables."""

from __future__ import annotations

import shutil

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import glm

START = [5_000, 4_000, 6_000]


@pytest.fixture(scope="module")
def genome():
    return {"chr1": "".join(np.random.default_rng(5).choice(list("ACGT"), 12_000))}


@pytest.fixture
def peaks():
    var = pd.DataFrame({"chrom": "chr1", "start": START, "end": [s + 300 for s in START]})
    var.index = list("abc")
    return ad.AnnData(np.ones((3, 3), np.float32), var=var)


def test_regions_by_tracks(track_model, peaks, genome):
    glm.tl.predict_tracks(peaks, track_model, genome=genome, tracks=["CHIP", 0])
    table = glm.get.tracks(peaks)
    assert table.index.equals(peaks.var_names)
    assert table.columns.names == ["index", "identifier", "assay", "sample"]
    assert table.columns.is_unique
    assert list(table.columns.get_level_values("index")) == [4, 5, 0]
    assert list(table.xs("CHIP", axis=1, level="assay").columns.get_level_values(1)) == [
        "EN4",
        "EN5",
    ]
    np.testing.assert_array_equal(table, peaks.varm["tracks_enformer"])
    assert (table.dtypes == np.float32).all()


def test_subsets_follow(track_model, peaks, genome):
    glm.tl.predict_tracks(peaks, track_model, genome=genome)
    some = peaks[:, ["c", "a"]].copy()
    pd.testing.assert_frame_equal(glm.get.tracks(some), glm.get.tracks(peaks).loc[["c", "a"]])


@pytest.mark.parametrize("out", [False, True])
def test_bins_of_one_region(track_model, peaks, genome, tmp_path, out):
    where = {"out": tmp_path / "out"} if out else {}
    glm.tl.predict_tracks(peaks, track_model, genome=genome, bins="all", **where)
    table = glm.get.tracks(peaks, region="b")
    assert table.shape == (24, 6)
    middle = 4_150
    first = middle - 2_048 + 4 * 128
    np.testing.assert_array_equal(table.index, first + 128 * np.arange(24))
    single = peaks[:, ["b"]].copy()
    glm.tl.predict_tracks(single, track_model, genome=genome, key_added="one")
    np.testing.assert_allclose(
        table.loc[middle - 256 : middle + 255].mean(), glm.get.tracks(single, "one").loc["b"], 1e-5
    )
    some = peaks[:, ["c", "b"]].copy()  # in another order than they were predicted in
    pd.testing.assert_frame_equal(glm.get.tracks(some, region="b"), table)
    with pytest.raises(ValueError, match=r"All 24 bins of 3 regions were kept: .*region='a'"):
        glm.get.tracks(peaks)
    with pytest.raises(KeyError, match="no region called 'd'"):
        glm.get.tracks(peaks, region="d")
    if out:
        shutil.rmtree(tmp_path / "out")
        with pytest.raises(FileNotFoundError, match=r"tracks\.zarr is not there"):
            glm.get.tracks(peaks, region="b")


@pytest.mark.parametrize("bins", ["region", "all"])
def test_regions_that_were_moved_since(track_model, peaks, genome, bins):
    """Their bins are somewhere else than the object now says."""
    rows = peaks[:, ["a"]].copy()
    glm.tl.predict_tracks(rows, track_model, genome=genome, bins=bins)
    start = rows.var["tracks_enformer_start"]
    assert start.dtype == np.int64
    assert start.iloc[0] == glm.get.tracks(rows, region="a").index[0]
    rows.var["start"] -= 100
    rows.var["end"] += 100  # about the same middle
    assert glm.get.tracks(rows, region="a").index[0] == start.iloc[0]
    rows.var["end"] += 2
    with pytest.raises(ValueError, match="were changed since its tracks were predicted"):
        glm.get.tracks(rows, region="a")
    with pytest.raises(ValueError, match="were changed since its tracks were predicted"):
        glm.pl.tracks(rows, "a", show=False)
    glm.tl.predict_tracks(rows, track_model, genome=genome)  # bins reduced: there is none
    assert "tracks_enformer_start" not in rows.var


def test_start_of_rows_without_a_region(track_model, peaks, genome, tmp_path):
    peaks.var["start"] = peaks.var["start"].astype("Int64")
    peaks.var["end"] = peaks.var["end"].astype("Int64")
    peaks.var.loc["b", ["start", "end"]] = pd.NA
    with pytest.warns(glm.GlmWarning, match="1 have no region"):
        glm.tl.predict_tracks(peaks, track_model, genome=genome, bins="all")
    assert peaks.var["tracks_enformer_start"].isna().tolist() == [False, True, False]
    peaks.write_h5ad(tmp_path / "peaks.h5ad")
    found = ad.read_h5ad(tmp_path / "peaks.h5ad")
    expected = glm.get.tracks(peaks, region="c")
    pd.testing.assert_frame_equal(glm.get.tracks(found, region="c"), expected)
    assert glm.get.tracks(found, region="b").isna().all(axis=None)
    found.var.loc["b", ["start", "end"]] = [4_000, 4_300]
    with pytest.raises(ValueError, match=r"first bin began at (nan|<NA>) then"):
        glm.get.tracks(found, region="b")


def test_bins_of_equally_long_regions(track_model, peaks, genome):
    glm.tl.predict_tracks(peaks, track_model, genome=genome, bins="region")
    table = glm.get.tracks(peaks, region="a")
    assert table.index.tolist() == [5_150 - 256 + 128 * i for i in range(4)]


def test_what_is_not_there(track_model, peaks, genome):
    with pytest.raises(KeyError, match=r"call glm\.tl\.predict_tracks first\."):
        glm.get.tracks(peaks)
    glm.tl.predict_tracks(peaks, track_model, genome=genome, key_added="mine")
    with pytest.raises(KeyError, match="There are tracks_mine"):
        glm.get.tracks(peaks)
    with pytest.raises(ValueError, match="leave region out"):
        glm.get.tracks(peaks, "mine", region="a")
    with pytest.raises(ValueError, match="mod='atac' is for a MuData"):
        glm.get.tracks(peaks, "mine", mod="atac")
    peaks.varm["tracks_mine"] = peaks.varm["tracks_mine"][:, :2]
    with pytest.raises(ValueError, match=r"of 2 tracks and their record, .*of 6"):
        glm.get.tracks(peaks, "mine")
    del peaks.varm["tracks_mine"]
    with pytest.raises(KeyError, match="of which uns has the record"):
        glm.get.tracks(peaks, "mine")


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_of_a_mudata(track_model, peaks, genome):
    import mudata

    both = mudata.MuData({"atac": peaks})
    glm.tl.predict_tracks(both, track_model, genome=genome, mod="atac")
    assert glm.get.tracks(both, mod="atac").shape == (3, 6)
    with pytest.raises(KeyError, match="one of atac"):
        glm.get.tracks(both)
