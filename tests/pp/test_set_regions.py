"""Regions written into an object: matched by order or name, with a record, all or none."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from mudata import MuData

import glm
from glm import GlmWarning, Regions
from glm.locate import regions_of

COLUMNS = ["chrom", "start", "end", "strand"]
BED = pd.DataFrame(
    {
        "chrom": ["chr1", "2", "chrX"],
        "start": [0, 10, 20],
        "end": [5, 16, 27],
        "name": ["p1", "p2", "p3"],
        "strand": ["+", "-", "."],
    }
)
ROWS = [["chr1", 0, 5, "+"], ["2", 10, 16, "-"], ["chrX", 20, 27, "."]]


@pytest.fixture
def peaks() -> AnnData:
    return AnnData(np.ones((2, 3), np.float32), var=pd.DataFrame(index=["p1", "p2", "p3"]))


def rows(table: pd.DataFrame) -> list[list[object]]:
    return table[COLUMNS].to_numpy(object).tolist()


def forms(folder: Path) -> list[object]:
    path = folder / "peaks.bed"
    bed = BED.assign(score=0)[["chrom", "start", "end", "name", "score", "strand"]]
    bed.to_csv(path, sep="\t", header=False, index=False)
    regions = Regions.of(BED["chrom"], BED["start"], BED["end"], [1, -1, 0])
    texts = ["chr1:0-5(+)", "2:10-16(-)", "chrX:20-27"]
    return [path, str(path), BED, BED.rename(columns=str.capitalize), regions, texts]


@pytest.mark.parametrize("form", range(6))
def test_by_order(peaks: AnnData, tmp_path: Path, form: int):
    glm.pp.set_regions(peaks, forms(tmp_path)[form], genome="hg38")
    assert rows(peaks.var) == ROWS
    assert peaks.var["genome"].tolist() == ["hg38"] * 3
    assert peaks.var["start"].dtype == peaks.var["end"].dtype == np.int64
    record = peaks.uns["regions_var"]
    assert (record["genome"], record["matched"]) == ("hg38", "order")
    assert (record["n_rows"], record["n_without_region"]) == (3, 0)
    located = regions_of(peaks)
    assert list(located.regions) == [("chr1", 0, 5, 1), ("2", 10, 16, -1), ("chrX", 20, 27, 0)]
    assert located.genome == "hg38"


def test_by_name(peaks: AnnData):
    shuffled = BED.iloc[[2, 0, 1]]
    glm.pp.set_regions(peaks, shuffled, on="name")
    assert rows(peaks.var) == ROWS
    assert "genome" not in peaks.var
    by_index = glm.pp.set_regions(peaks, shuffled.set_index("name"), on="index", copy=True)
    assert rows(by_index.var) == ROWS
    assert by_index.uns["regions_var"]["matched"] == "index"


def test_by_name_some_are_missing_and_some_left_out(peaks: AnnData, tmp_path: Path):
    peaks.var_names = ["p3", "other", "p1"]
    with pytest.warns(
        GlmWarning, match=r"1 of 3 \(33%\) rows of adata\.var have no region \(other"
    ):
        glm.pp.set_regions(peaks, BED, on="name", genome="hg38")
    assert peaks.var["chrom"].tolist() == ["chrX", np.nan, "chr1"]
    assert peaks.var["start"].dtype == "Int64"
    assert peaks.var["start"].isna().tolist() == [False, True, False]
    assert peaks.uns["regions_var"]["n_regions_left_out"] == 1
    assert regions_of(peaks).rows.tolist() == [0, 2]
    for suffix in ("h5ad", "zarr"):
        getattr(peaks, f"write_{suffix}")(tmp_path / f"a.{suffix}")
        again = getattr(anndata, f"read_{suffix}")(tmp_path / f"a.{suffix}")
        assert list(regions_of(again).regions) == list(regions_of(peaks).regions)
        assert regions_of(again).genome == "hg38"
        assert again.uns["regions_var"]["n_without_region"] == 1


def test_names_that_repeat(peaks: AnnData):
    peaks.var_names = ["p1", "p1", "p2"]
    glm.pp.set_regions(peaks, pd.concat([BED, BED]), on="name")
    assert rows(peaks.var) == [ROWS[0], ROWS[0], ROWS[1]]
    moved = BED.assign(name="p1")
    with pytest.raises(ValueError, match=r"1 of 1 .* several regions \(p1\)"):
        glm.pp.set_regions(peaks, moved, on="name")


def test_missing_values_are_rows_without_a_region(peaks: AnnData):
    with pytest.warns(GlmWarning, match=r"have no region \(p2\)"):
        glm.pp.set_regions(peaks, ["chr1:0-5", "NA", "chrX:20-27"])
    assert peaks.var["strand"].tolist() == [".", np.nan, "."]


def test_the_same_names_in_another_order_are_refused(peaks: AnnData):
    for table, way in ((BED.iloc[::-1], "name"), (BED.set_index("name").iloc[::-1], "index")):
        with pytest.raises(ValueError, match=rf"in another order. Pass on='{way}'"):
            glm.pp.set_regions(peaks, table)


def test_observations_and_modalities(peaks: AnnData):
    glm.pp.set_regions(peaks, ["chr1:0-5", "chr1:5-9"], axis="obs")
    assert peaks.obs["end"].tolist() == [5, 9]
    assert "regions_obs" in peaks.uns
    glm.pp.set_regions(peaks, BED)
    assert regions_of(peaks, axis="obs").regions.end.tolist() == [5, 9]
    other = AnnData(np.ones((2, 3), np.float32), obs=peaks.obs[[]].copy())
    other.var_names = ["g1", "g2", "g3"]
    mdata = MuData({"rna": other, "atac": peaks.copy()})
    assert glm.pp.set_regions(mdata, BED, mod="rna") is None
    assert rows(mdata.mod["rna"].var) == ROWS
    with pytest.raises(TypeError, match="mod='rna' or mod='atac'"):
        glm.pp.set_regions(mdata, BED)
    copied = glm.pp.set_regions(mdata, BED[["chrom", "start", "end"]], mod="atac", copy=True)
    assert copied.mod["atac"].var["strand"].tolist() == ["."] * 3
    assert mdata.mod["atac"].var["strand"].tolist() == ["+", "-", "."]


def test_twice_is_the_same_and_a_genome_goes_with_its_regions(peaks: AnnData):
    glm.pp.set_regions(peaks, BED, genome="hg19")
    glm.pp.set_regions(peaks, BED, genome="hg38")
    assert peaks.var["genome"].tolist() == ["hg38"] * 3
    glm.pp.set_regions(peaks, BED)
    assert "genome" not in peaks.var
    assert list(peaks.var) == COLUMNS


def test_a_genome_gives_its_name(peaks: AnnData):
    genome = glm.Genome({"chr1": "ACGT"}, name="made up")
    glm.pp.set_regions(peaks, BED, genome=genome)
    assert peaks.var["genome"].tolist() == ["made up"] * 3
    glm.pp.set_regions(peaks, BED.assign(genome="hg38"))
    assert peaks.var["genome"].tolist() == ["hg38"] * 3
    with pytest.raises(TypeError, match="expected a name such as 'hg38'"):
        glm.pp.set_regions(peaks, BED, genome=3)


@pytest.mark.parametrize(
    ("options", "error", "pattern"),
    [
        ({"regions": BED.iloc[:2]}, ValueError, "2 regions and 3 rows.*Pass on="),
        ({"regions": BED, "on": "peak"}, KeyError, "no column 'peak'; they have chrom, start"),
        ({"regions": ["chr1:1-2"] * 3, "on": "name"}, KeyError, "no columns"),
        ({"regions": BED.assign(name="x"), "on": "name"}, ValueError, r"several|No name of the"),
        ({"regions": BED, "axis": "x"}, ValueError, "expected 'obs' or 'var'"),
        ({"regions": "nowhere.bed"}, FileNotFoundError, "no file 'nowhere.bed'"),
        ({"regions": BED.drop(columns="end")}, ValueError, "there is only chrom, start"),
    ],
)
def test_what_is_refused(peaks: AnnData, options, error, pattern):
    with pytest.raises(error, match=pattern):
        glm.pp.set_regions(peaks, **options)
    assert list(peaks.var) == []
    assert not peaks.uns


def test_regions_alone():
    """Rows of ``obs`` may be regions, with nothing in ``var``."""
    adata = AnnData(obs=pd.DataFrame(index=["one", "other"]))
    table = pd.DataFrame({"chrom": "chr1", "start": [0, 30], "end": [20, 60]})
    glm.pp.set_regions(adata, table, axis="obs")
    glm.pp.sequence_stats(adata, {"chr1": "ACGT" * 20}, axis="obs")
    assert adata.obs["sequence_gc"].tolist() == [0.5, 0.5]
