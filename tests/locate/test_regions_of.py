"""Regions found in objects, tables, texts and files, by value."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import given
from hypothesis import strategies as st
from mudata import MuData

from glm import Regions
from glm.locate import Located, check_genome, regions_of

SPELLINGS = {
    "chrom": [
        "chrom",
        "chr",
        "chromosome",
        "seqnames",
        "Chromosome",
        "#chrom",
        "seqname",
        "contig",
    ],
    "start": ["start", "chromStart", "Start", "chromosome_start", "chrom_start"],
    "end": ["end", "chromEnd", "End", "stop", "chromosome_end"],
}
EXPECTED = [("chr1", 100, 600, 1), ("1", 0, 5, -1), ("chrX", 7, 9, 0)]


def listed(located: Located) -> list[tuple[str, int, int, int]]:
    return list(located.regions)


def table(**renamed: str) -> pd.DataFrame:
    columns = dict(
        zip(("chrom", "start", "end", "strand"), zip(*EXPECTED, strict=True), strict=True)
    )
    frame = pd.DataFrame(columns, index=["a", "b", "c"])
    return frame.rename(columns=renamed)


def of_var(var: pd.DataFrame, **uns: object) -> AnnData:
    adata = AnnData(np.ones((2, len(var)), np.float32), var=var)
    adata.uns.update(uns)
    return adata


# ---- columns ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "name"), [(p, n) for p, names in SPELLINGS.items() for n in names]
)
def test_columns_in_their_spellings(part: str, name: str):
    located = regions_of(of_var(table(**{part: name})))
    assert listed(located) == EXPECTED
    assert (located.axis, located.n_rows) == ("var", 3)
    assert located.regions.names == ["a", "b", "c"]
    assert name in located.where
    assert "strand" in located.where


@pytest.mark.parametrize(
    "dtype", ["int32", "uint32", "Int64", "float64", "Float64", "category", "string", "object", str]
)
def test_types_of_positions(dtype):
    frame = table().astype({"start": dtype, "end": dtype})
    assert listed(regions_of(frame)) == EXPECTED


@pytest.mark.parametrize("dtype", ["category", "string", "object"])
def test_types_of_chromosomes(dtype):
    assert listed(regions_of(table().astype({"chrom": dtype}))) == EXPECTED


@pytest.mark.parametrize("values", [[1, 2, 3], [1.0, 2.0, 3.0], ["1", "2", "3"]])
@pytest.mark.parametrize("dtype", [None, "category", "object"])
def test_chromosomes_are_names(values, dtype):
    frame = pd.DataFrame({"chrom": pd.Series(values, dtype=dtype), "start": 0, "end": 4})
    chrom = regions_of(frame).regions.chrom
    assert chrom.tolist() == ["1", "2", "3"]
    assert all(type(name) is str for name in chrom)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (["+", "-", "."], [1, -1, 0]),
        (["+", "-", np.nan], [1, -1, 0]),
        (["+", "*", None], [1, 0, 0]),
        ([1, -1, 0], [1, -1, 0]),
        ([1.0, -1.0, np.nan], [1, -1, 0]),
        (["1", "-1", ""], [1, -1, 0]),
        (pd.array([1, -1, None], "Int8"), [1, -1, 0]),
        (pd.Categorical(["-", "-", None]), [-1, -1, 0]),
    ],
)
def test_strands(written, read):
    located = regions_of(table().assign(strand=written))
    assert located.regions.strand.tolist() == read
    assert located.regions.strand.dtype == np.int8


@pytest.mark.parametrize(
    "missing",
    [
        {"chrom": ["chr1", None, "chrX"]},
        {"chrom": pd.Categorical(["chr1", None, "chrX"])},
        {"chrom": ["chr1", "NA", "chrX"]},
        {"start": [100, np.nan, 7]},
        {"start": pd.array([100, None, 7], "Int64")},
        {"end": [600, "NA", 9]},
        {"end": ["600", "", "9"]},
    ],
)
def test_rows_with_missing_values_have_no_region(missing):
    located = regions_of(table().assign(**missing))
    assert located.rows.tolist() == [0, 2]
    assert located.rows.dtype == np.int64
    assert located.n_rows == 3
    assert listed(located) == [EXPECTED[0], EXPECTED[2]]
    assert located.regions.names == ["a", "c"]


def test_our_own_spelling_goes_before_others():
    frame = table().assign(chromosome="chr9", Start=1, stop=2)
    assert listed(regions_of(frame)) == EXPECTED


def test_columns_go_before_intervals_and_intervals_before_names():
    frame = table().set_index(pd.Index(["chr5:1-2", "chr5:3-4", "chr5:5-6"]))
    frame["interval"] = ["chr7:1-2", "chr7:3-4", "NA"]
    assert listed(regions_of(of_var(frame))) == EXPECTED
    located = regions_of(of_var(frame.drop(columns="start")))
    assert listed(located) == [("chr7", 1, 2, 1), ("chr7", 3, 4, -1)]
    located = regions_of(of_var(frame[["strand"]]))
    assert listed(located) == [("chr5", 1, 2, 1), ("chr5", 3, 4, -1), ("chr5", 5, 6, 0)]
    assert located.where == "adata.var_names and adata.var['strand']"


def test_an_interval_column_of_something_else_is_passed_over():
    adata = of_var(pd.DataFrame(index=["chr1:1-2", "chr1:3-4"]))
    adata.obs["interval"] = pd.cut([1.0, 2.0], 2)
    assert regions_of(adata).axis == "var"


def test_the_object_is_only_read():
    adata = of_var(table(chrom="chr"))
    before = adata.copy()
    located = regions_of(adata)
    assert located.holder is adata
    located.regions.start[:] = 0
    pd.testing.assert_frame_equal(adata.var, before.var)


# ---- texts --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "region"),
    [
        ("chr1:1,000-2,000", ("chr1", 1000, 2000, 0)),
        ("chr1:1000-2000", ("chr1", 1000, 2000, 0)),
        ("chr1-1000-2000", ("chr1", 1000, 2000, 0)),
        ("chr1_1000_2000", ("chr1", 1000, 2000, 0)),
        (" 1:0-1 ", ("1", 0, 1, 0)),
        ("chr1:5-9(-)", ("chr1", 5, 9, -1)),
        ("chr1:5-9:+", ("chr1", 5, 9, 1)),
        ("GL000195.1-100-200", ("GL000195.1", 100, 200, 0)),
        ("chrUn_KI270742v1_100_200", ("chrUn_KI270742v1", 100, 200, 0)),
        ("HLA-A*01:01:01:01:1-100", ("HLA-A*01:01:01:01", 1, 100, 0)),
        ("NC_000001.11:1,234,567-1,234,568", ("NC_000001.11", 1234567, 1234568, 0)),
    ],
)
def test_texts(text: str, region):
    assert listed(regions_of([text])) == [region]
    assert listed(regions_of(text)) == [region]


@given(
    st.lists(
        st.tuples(
            st.from_regex(r"[A-Za-z0-9.*|]{1,12}", fullmatch=True),
            st.integers(0, 10**9),
            st.integers(1, 10**6),
        ),
        min_size=1,
    )
)
def test_the_name_of_a_region_reads_back(parts):
    chrom, start, length = zip(*parts, strict=True)
    regions = Regions.of(chrom, start, np.add(start, length))
    names = [regions.name(i) for i in range(len(regions))]
    assert list(regions_of(names).regions) == list(regions)
    for sign in "-_":
        texts = [f"{c}{sign}{s}{sign}{s + n}" for c, s, n in parts]
        assert list(regions_of(texts).regions) == list(regions)


@pytest.mark.parametrize("container", [list, tuple, np.array, pd.Index, pd.Series])
def test_containers_of_texts(container):
    located = regions_of(container(["chr1:1-2", "NA", "chr2:3-4"]))
    assert located.rows.tolist() == [0, 2]
    assert (located.holder, located.axis, located.n_rows) == (None, "", 3)


def test_regions_are_themselves():
    regions = Regions.of(["chr1"], [-5], [5])
    located = regions_of(regions)
    assert located.regions is regions
    assert located.rows.tolist() == [0]


@pytest.mark.parametrize(
    "names",
    [
        ["AAACAGCCATGTTGGC-1-0", "AAACAGCCATGTTGGC-1-1"],
        ["AAACAGCC-1-2", "TTTCAGCC-1-2"],
        ["plate_1_12", "plate_2_20"],
        ["s_008um_00269_00526-1", "s_008um_00269_00527-1"],
        ["HLA-A", "MT-ND1", "RP11-34P13.7", "AC000068.10", "ENSG00000000003.14"],
    ],
)
def test_names_of_cells_and_genes_are_no_regions(names):
    adata = of_var(pd.DataFrame(index=names))
    with pytest.raises(ValueError, match=r"No regions were found .*glm\.pp\.set_regions"):
        regions_of(adata)
    beside = AnnData(np.ones((len(names), 1), np.float32), pd.DataFrame(index=names))
    beside.var_names = ["chr1:1-2"]
    assert regions_of(beside).axis == "var"


def test_names_of_peaks_beside_some_genes():
    names = ["chr1-10-20", "GAPDH", "2L_30_40", "MT:50-60"]
    located = regions_of(of_var(pd.DataFrame(index=names)))
    assert located.rows.tolist() == [0, 2, 3]
    assert located.regions.chrom.tolist() == ["chr1", "2L", "MT"]


def test_a_peak_among_many_genes_is_told():
    names = [f"GENE{i}" for i in range(30)] + ["chr1:1-2"]
    with pytest.raises(ValueError, match=r"1 of 31 \(3%\) of them look like regions: take these"):
        regions_of(of_var(pd.DataFrame(index=names)))


# ---- objects and files --------------------------------------------------------------------------


def test_either_axis_but_not_both():
    adata = of_var(table())
    adata.obs_names = ["chr1:1-2", "chr1:3-4"]
    with pytest.raises(ValueError, match=r"obs_names and adata\.var.*axis='obs' or axis='var'"):
        regions_of(adata)
    assert regions_of(adata, axis="obs").regions.end.tolist() == [2, 4]
    assert regions_of(adata, axis="var").n_rows == 3
    with pytest.raises(ValueError, match="expected 'obs' or 'var'"):
        regions_of(adata, axis="rows")


def test_a_modality_is_named():
    mdata = MuData({"rna": of_var(pd.DataFrame(index=["g1", "g2"])), "atac": of_var(table())})
    located = regions_of(mdata, mod="atac")
    assert located.holder is mdata.mod["atac"]
    with pytest.raises(TypeError, match="that has the regions: mod='atac'"):
        regions_of(mdata)
    with pytest.raises(KeyError, match="no modality 'peaks'"):
        regions_of(mdata, mod="peaks")
    with pytest.raises(ValueError, match="No regions were found"):
        regions_of(mdata, mod="rna")
    with pytest.raises(TypeError, match="names a modality"):
        regions_of(of_var(table()), mod="rna")


def test_views_and_backed_objects(tmp_path: Path):
    import anndata

    adata = of_var(table())
    view = adata[:, ["c", "a"]]
    assert listed(regions_of(view)) == [EXPECTED[2], EXPECTED[0]]
    assert view.is_view
    adata.write_h5ad(tmp_path / "a.h5ad")
    backed = anndata.read_h5ad(tmp_path / "a.h5ad", backed="r")
    assert listed(regions_of(backed)) == EXPECTED
    backed.file.close()


def test_a_lazily_read_object(tmp_path: Path):
    import anndata

    var = table().assign(genome="hg38", start=pd.array([100, None, 7], "Int64"))
    of_var(var).write_zarr(tmp_path / "a.zarr")
    located = regions_of(anndata.experimental.read_lazy(tmp_path / "a.zarr"))
    assert listed(located) == [EXPECTED[0], EXPECTED[2]]
    assert located.genome == "hg38"


def test_a_bed_file(tmp_path: Path):
    path = tmp_path / "peaks.bed"
    path.write_text("chr1\t1\t5\tp1\t0\t-\n2\t3\t4\tp2\t0\t.\n")
    for given_path in (path, str(path)):
        located = regions_of(given_path)
        assert listed(located) == [("chr1", 1, 5, -1), ("2", 3, 4, 0)]
        assert located.where == str(path)
    with pytest.raises(FileNotFoundError, match=r"no file 'nowhere\.bed'"):
        regions_of("nowhere.bed")


@pytest.mark.parametrize("data", [None, 3, {"chr1": "ACGT"}])
def test_other_types_are_refused(data):
    with pytest.raises(TypeError, match="No regions can be read from a"):
        regions_of(data)


def test_real_multiome(test_data: Path):
    import mudata

    mdata = mudata.read_h5mu(test_data / "cells" / "muon_test_rna_atac.h5mu")
    located = regions_of(mdata, mod="atac")
    assert (len(located.regions), located.genome) == (174, "GRCh38")
    assert located.where == "adata.var['interval']"
    assert next(iter(located.regions)) == ("chr1", 100350982, 100353664, 0)
    from_names = regions_of(AnnData(var=mdata.mod["atac"].var[[]]))
    assert list(from_names.regions) == list(located.regions)


# ---- the genome ---------------------------------------------------------------------------------


def test_what_an_object_says_of_its_genome():
    assert regions_of(of_var(table())).genome is None
    assert regions_of(of_var(table(), genome="mm10")).genome == "mm10"
    assert regions_of(of_var(table(), genome={"name": "mm10"})).genome is None
    column = table().assign(genome=pd.Categorical(["GRCh38", None, "hg38"]))
    assert regions_of(of_var(column, genome="hg38.p13")).genome == "GRCh38"
    assert regions_of(table().assign(genome="hg19")).genome == "hg19"


def test_other_rows_may_be_of_another_genome():
    frame = table().assign(genome=["hg38", "mm10", "hg38"], start=[100, None, 7])
    assert regions_of(of_var(frame)).genome == "hg38"


@pytest.mark.parametrize(
    ("stated", "name", "agree"),
    [
        ("hg19", "GRCh37", True),
        ("GRCh38.p14", "hg38", True),
        ("GRCm38", "mm10", True),
        ("hg19", "hg38", False),
        ("mm10", "GRCh38", False),
        ("my assembly", "hg38", True),
        ("hg38", "", True),
    ],
)
def test_genomes_are_compared_where_both_are_known(stated, name, agree):
    located = regions_of(of_var(table(), genome=stated))
    if agree:
        check_genome(located, name)
        return
    with pytest.raises(ValueError, match=f"are of '{stated}'.*the genome is '{name}'"):
        check_genome(located, name)
