"""Which fold regions are in: against looking at each pair, and what is refused."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import given
from hypothesis import strategies as st

import glm
from glm import GlmWarning, Regions
from glm.locate import overlapping

FOLDS = pd.DataFrame(
    {
        "chrom": ["chr1", "chr1", "chr2", "chr3"],
        "start": [1_000, 2_000, 0, 500],
        "end": [2_000, 3_000, 1_000, 900],
        "fold": ["test", "train", "valid", "other"],
    }
)
PEAKS = {
    "chr1:900-1000": "",  # the end is not included
    "chr1:900-1001": "test",
    "chr1:1500-1600": "test",
    "chr1:1999-2000": "test",
    "chr1:1999-2001": "train",  # of both: the more cautious
    "chr1:3000-3001": "",
    "chr2:10-20": "valid",
    "chr3:100-5000": "other",
    "chr4:100-5000": "",
}


def of_peaks(*names: str) -> AnnData:
    return AnnData(np.ones((2, len(names)), np.float32), var=pd.DataFrame(index=list(names)))


_SPAN = st.tuples(st.sampled_from(["1", "2"]), st.integers(-5, 30), st.integers(1, 9))


@given(st.lists(_SPAN, max_size=12), st.lists(_SPAN, max_size=12))
def test_overlaps_against_each_pair(ones, others):
    def of(spans):
        chrom, start, length = zip(*spans, strict=True) if spans else ((), (), ())
        return Regions.of(
            list(chrom), list(start), [s + n for s, n in zip(start, length, strict=True)]
        )

    expected = [any(c == d and s < t + m and t < s + n for d, t, m in others) for c, s, n in ones]
    assert overlapping(of(ones), of(others)).tolist() == expected


def test_by_hand():
    data = of_peaks(*PEAKS)
    assert glm.pp.flag_folds(data, FOLDS, genome="hg38") is None
    assert data.var["fold"].to_list() == list(PEAKS.values())
    record = data.uns["fold_var"]
    assert record["n_regions"] == {"train": 1, "valid": 1, "test": 3, "other": 1}
    assert (record["n_of_none"], record["n_of_several"]) == (3, 1)
    assert (record["genome"], record["order"][:3]) == ("hg38", ["train", "valid", "test"])


def test_another_order_and_flanks():
    data = of_peaks(*PEAKS)
    glm.pp.flag_folds(data, FOLDS, order=["test"], key_added="first")
    assert data.var["first"].to_list()[4] == "test"
    glm.pp.flag_folds(data, FOLDS, flank_bp=100, key_added="wide")
    wide = dict(zip(PEAKS, data.var["wide"], strict=True))
    assert wide["chr1:900-1000"] == "test"
    assert wide["chr1:3000-3001"] == "train"
    assert data.uns["wide_var"]["flank_bp"] == 100


def test_spellings_of_chromosomes():
    data = of_peaks("1:1500-1600", "2:10-20", "chr3:600-700")
    glm.pp.flag_folds(data, FOLDS)
    assert data.var["fold"].to_list() == ["test", "valid", "other"]


def test_files(tmp_path):
    """A BED file with the names in its fourth column, and the folder of a training set."""
    FOLDS.to_csv(tmp_path / "sequences.bed", sep="\t", header=False, index=False)
    for source in (tmp_path, tmp_path / "sequences.bed", str(tmp_path / "sequences.bed")):
        data = of_peaks(*PEAKS)
        glm.pp.flag_folds(data, source)
        assert data.var["fold"].to_list() == list(PEAKS.values())
        assert data.uns["fold_var"]["source"].endswith("sequences.bed")


def test_windows_that_a_model_was_trained_on(make_track_windows):
    windows = make_track_windows(8)
    data = of_peaks("chr1:10-20", "chr3:200010-200011", "chr1:300000-300200")
    glm.pp.flag_folds(data, windows)
    assert data.var["fold"].to_list() == ["train", "valid", "test"]
    assert data.uns["fold_var"]["genome"] == "hg38"


def test_observations_a_copy_and_a_file(tmp_path):
    data = of_peaks(*PEAKS).T.copy()
    copied = glm.pp.flag_folds(data, FOLDS, copy=True)
    assert "fold" not in data.obs
    assert copied.obs["fold"].to_list() == list(PEAKS.values())
    copied.write_h5ad(tmp_path / "a.h5ad")
    again = anndata.read_h5ad(tmp_path / "a.h5ad")
    assert again.obs["fold"].to_list() == list(PEAKS.values())
    glm.pp.flag_folds(copied, FOLDS)  # its own column is replaced


def test_rows_without_a_region():
    data = of_peaks("a", "b", "c")
    data.var["chrom"] = pd.Categorical(["chr1", None, "chr2"])
    data.var["start"] = pd.array([1_500, None, 5], "Int64")
    data.var["end"] = pd.array([1_600, None, 9], "Int64")
    with pytest.warns(GlmWarning, match=r"1 of 3 \(33%\) rows of adata.var have no region \(b\)"):
        glm.pp.flag_folds(data, FOLDS)
    assert data.var["fold"].isna().tolist() == [False, True, False]
    assert data.uns["fold_var"]["n_without_region"] == 1


def test_a_million_regions_take_seconds():
    rng = np.random.default_rng(0)
    start = np.sort(rng.integers(0, 200_000_000, 1_000_000))
    regions = Regions.of(["chr1"] * start.size, start, start + 500)
    folds = Regions.of(["chr1"] * 1_000, np.arange(1_000) * 200_000, np.arange(1_000) * 200_000 + 9)
    found = overlapping(regions, folds)
    inside = (start % 200_000 < 9) | (start % 200_000 > 200_000 - 500)
    inside &= (start + 500 > 0) & (start < 999 * 200_000 + 9)
    np.testing.assert_array_equal(found, inside)


@pytest.mark.parametrize(
    ("folds", "options", "error", "message"),
    [
        (FOLDS.drop(columns="fold"), {}, KeyError, "names no folds.*chrom, start, end"),
        (FOLDS.assign(fold=""), {}, ValueError, "'fold' of the folds is empty"),
        (FOLDS.assign(chrom="chr9"), {}, ValueError, "no chromosome in common: 'chr1'.* 'chr9'"),
        (FOLDS, {"flank_bp": -1}, ValueError, "flank_bp is -1"),
        (FOLDS, {"genome": "mm10"}, ValueError, "are of 'mm10', and the regions .* of 'hg38'"),
        (FOLDS.assign(genome="mm10"), {}, ValueError, "of 'mm10', and the regions"),
        (
            FOLDS.assign(genome="mm10"),
            {"genome": "hg38"},
            ValueError,
            "say that they are of 'mm10'",
        ),
        ({"train": []}, {}, TypeError, "folds is a dict; expected a BED file"),
        ("nowhere.bed", {}, OSError, "nowhere"),
    ],
    ids=str,
)
def test_refused(folds, options, error, message):
    data = of_peaks(*PEAKS)
    data.uns["genome"] = "hg38"
    before = data.copy()
    with pytest.raises(error, match=message):
        glm.pp.flag_folds(data, folds, **options)
    assert list(data.var.columns) == list(before.var.columns)
    assert list(data.uns) == ["genome"]


def test_names_of_peaks_are_no_folds():
    many = pd.DataFrame({"chrom": "chr1", "start": range(200), "end": range(1, 201)})
    many["name"] = [f"peak{i}" for i in range(200)]
    with pytest.raises(ValueError, match="'name' of the folds has 200 different names"):
        glm.pp.flag_folds(of_peaks(*PEAKS), many)


def test_a_column_of_the_users_own_stays():
    data = of_peaks(*PEAKS)
    data.var["fold"] = 1
    with pytest.raises(ValueError, match="already holds something glm did not write"):
        glm.pp.flag_folds(data, FOLDS)
    glm.pp.flag_folds(data, FOLDS, overwrite=True)
    assert data.var["fold"].to_list() == list(PEAKS.values())
