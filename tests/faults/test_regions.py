"""Regions: columns and files that are not what they should be, and objects that say otherwise."""

from __future__ import annotations

import gzip
import warnings
from collections.abc import Callable
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

pytestmark = pytest.mark.faults

GENOME = {"chr1": "ACGTCGTTNNNNGCATACGT" * 5, "1": "A" * 100, "chr2": "CGCG" * 25}


def of_peaks(**columns: object) -> AnnData:
    """Three peaks with coordinates, some of them replaced."""
    parts = {"chrom": ["chr1", "chr1", "chr2"], "start": [0, 10, 20], "end": [8, 16, 40]}
    var = pd.DataFrame({**parts, **columns}, index=["p1", "p2", "p3"])
    return AnnData(np.ones((2, 3), np.float32), var=var)


def bare(names: tuple[str, ...] = ("p1", "p2", "p3")) -> AnnData:
    return AnnData(np.ones((2, len(names)), np.float32), var=pd.DataFrame(index=list(names)))


def stats(adata: AnnData, **options: object) -> object:
    return glm.pp.sequence_stats(adata, GENOME, **options)


@pytest.fixture
def bed(tmp_path: Path) -> Callable[..., Path]:
    def write(text: str | bytes, name: str = "a.bed") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.fixture
def gtf(tmp_path: Path) -> Path:
    path = tmp_path / "genes.gtf"
    path.write_text('chr1\tX\ttranscript\t51\t90\t.\t+\t.\tgene_id "p1"; transcript_id "T1";\n')
    return path


# ---- the object and its own columns --------------------------------------------------------------


def test_30_a_view_becomes_an_object_of_its_own():
    parent = bare()
    view = parent[:, ["p3", "p1"]]
    glm.pp.set_regions(view, ["chr2:1-2", "chr1:3-4"])
    assert not view.is_view
    assert view.var["end"].tolist() == [2, 4]
    assert list(parent.var) == []


def test_31_backed_objects_take_results_in_memory(tmp_path: Path):
    bare().write_h5ad(tmp_path / "a.h5ad")
    before = (tmp_path / "a.h5ad").read_bytes()
    backed = anndata.read_h5ad(tmp_path / "a.h5ad", backed="r")
    glm.pp.set_regions(backed, ["chr1:0-8", "chr1:2-10", "chr2:0-4"])
    stats(backed)
    assert backed.var["sequence_gc"].iloc[2] == 1
    backed.file.close()
    assert (tmp_path / "a.h5ad").read_bytes() == before


def test_32_backed_for_writing_is_refused(tmp_path: Path, refuses, gtf):
    of_peaks().write_h5ad(tmp_path / "a.h5ad")
    backed = anndata.read_h5ad(tmp_path / "a.h5ad", backed="r+")
    refuses(stats, backed, ValueError, "mode 'r\\+'.*backed='r'")
    refuses(glm.pp.set_regions, backed, ValueError, "mode 'r\\+'", regions=["chr1:0-8"] * 3)
    refuses(glm.pp.add_tss, backed, ValueError, "mode 'r\\+'", gtf=gtf)
    backed.file.close()


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_33_names_that_repeat_are_written_by_position(gtf):
    adata = of_peaks()
    adata.var_names = ["p1", "p1", "p1"]
    stats(adata)
    assert adata.var["sequence_n_share"].tolist() == [0, 2 / 6, 0]
    other = bare(("p1", "p1"))
    glm.pp.add_tss(other, gtf)
    assert other.var["start"].nunique() == 1
    assert other.uns["regions_var"]["n_sharing_a_gene"] == 1


@pytest.mark.parametrize("names", [["1", "2", "3"], ["é:1", "日本", "a b"]])
def test_34_names_stay_as_they_are(names: list[str], tmp_path: Path):
    adata = of_peaks()
    adata.var_names = names
    stats(adata)
    assert adata.var_names.tolist() == names
    table = pd.DataFrame({"chrom": "chr1", "start": [3, 2, 1], "end": 9, "id": names[::-1]})
    glm.pp.set_regions(adata, table, on="id", overwrite=True)
    assert adata.var["start"].tolist() == [1, 2, 3]
    assert regions_of(adata).regions.names == names


def test_34_names_that_are_numbers_match_as_text():
    adata = bare(("1", "2"))
    table = pd.DataFrame({"chrom": "chr1", "start": [5, 6], "end": 9}, index=[2, 1])
    with pytest.raises(ValueError, match="in another order"):
        glm.pp.set_regions(adata, table)
    glm.pp.set_regions(adata, table, on="index")
    assert adata.var["start"].tolist() == [6, 5]


@pytest.mark.parametrize("column", ["chrom", "start", "end", "strand"])
def test_35_columns_that_are_taken(column: str, refuses, gtf):
    adata = bare()
    adata.var[column] = "mine"
    way = r"adata\.var\['" + column + r"'\] already holds something glm did not write\. Rename it"
    refuses(glm.pp.set_regions, adata, ValueError, way, regions=["chr1:0-8"] * 3)
    refuses(glm.pp.add_tss, adata, ValueError, way, gtf=gtf)
    glm.pp.set_regions(adata, ["chr1:0-8"] * 3, overwrite=True)
    assert adata.var["end"].tolist() == [8] * 3


def test_35_what_another_function_wrote_is_refused(refuses, gtf):
    adata = bare()
    glm.pp.set_regions(adata, ["chr1:0-8"] * 3)
    refuses(
        glm.pp.add_tss, adata, ValueError, "result of glm.pp.set_regions.*overwrite=True", gtf=gtf
    )
    adata.uns["regions_var"] = "mine"
    refuses(glm.pp.set_regions, adata, ValueError, "glm did not write", regions=["chr1:0-8"] * 3)
    taken = of_peaks(sequence_gc=[1, 2, 3])
    refuses(stats, taken, ValueError, r"var\['sequence_gc'\].*another key_added")
    stats(taken, key_added="dna")
    assert taken.var["sequence_gc"].tolist() == [1, 2, 3]


def test_36_the_user_s_own_columns_stay(gtf):
    own = {
        "length": [1, 2, 3],
        "seq": ["A", "C", "G"],
        "n_counts": [5, 5, 5],
        "gc": [9.0, 9.0, 9.0],
        "width": [7, 7, 7],
        "filter_pass": [True, False, True],
        "n_share": ["x", "y", "z"],
    }
    for call in (
        stats,
        lambda a: glm.pp.set_regions(a, ["chr1:0-8"] * 3, overwrite=True),
        lambda a: glm.pp.add_tss(a, gtf, overwrite=True),
    ):
        adata = of_peaks(**own)
        before = adata.copy()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", GlmWarning)
            call(adata)
        pd.testing.assert_frame_equal(adata.var[list(own)], before.var[list(own)])
        pd.testing.assert_frame_equal(adata.obs, before.obs)
        np.testing.assert_array_equal(adata.X, before.X)


def test_36_the_user_s_own_genome_column_stays():
    adata = bare()
    adata.var["genome"] = pd.Categorical(["GRCh38"] * 3)
    glm.pp.set_regions(adata, ["chr1:0-8"] * 3, genome="hg38")
    assert adata.var["genome"].tolist() == ["GRCh38"] * 3
    assert "var/genome" not in adata.uns["regions_var"]["slots"]
    glm.pp.set_regions(adata, ["chr1:0-8"] * 3)
    assert adata.var["genome"].tolist() == ["GRCh38"] * 3


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_46_the_same_call_twice(gtf):
    for call in (
        stats,
        lambda a: glm.pp.set_regions(a, ["chr1:0-8"] * 3),
        lambda a: glm.pp.add_tss(a[:, :1], gtf, copy=True),
        lambda a: glm.pp.add_tss(a, gtf),
    ):
        adata = of_peaks() if call is stats else bare(("p1", "p1", "p1"))
        call(adata)
        before, keys = adata.var.copy(), set(adata.uns)
        call(adata)
        pd.testing.assert_frame_equal(adata.var, before)
        assert set(adata.uns) == keys


def test_rows_that_cannot_be_written_leave_nothing(monkeypatch, refuses):
    """The fourth column of five fails: none of them is there."""
    adata = bare()
    original = pd.DataFrame.__setitem__

    def failing(self, key, value):
        if key == "strand":
            raise MemoryError("no room")
        original(self, key, value)

    monkeypatch.setattr(pd.DataFrame, "__setitem__", failing)
    with pytest.raises(MemoryError):
        glm.pp.set_regions(adata, ["chr1:0-8"] * 3, genome="hg38")
    monkeypatch.undo()
    assert list(adata.var) == []
    assert not adata.uns


# ---- MuData --------------------------------------------------------------------------------------


def multiome() -> MuData:
    """Modalities with other cells in another order."""
    rna, atac = bare(("g1", "g2")), of_peaks()
    rna.obs_names, atac.obs_names = ["a", "b"], ["c", "a"]
    return MuData({"rna": rna, "atac": atac})


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_41_42_regions_are_a_modality_s_own_whatever_the_others_do():
    mdata = multiome()
    expected = stats(of_peaks(), copy=True).var
    stats(mdata, mod="atac")
    pd.testing.assert_frame_equal(mdata.mod["atac"].var, expected)
    mdata.mod["atac"].var_names = ["q1", "q2", "q3"]
    mdata = mdata[["a", "c"]].copy()
    mdata.update()
    mdata.mod["atac"]._inplace_subset_var(np.array([2, 0]))
    mdata.update()
    located = regions_of(mdata, mod="atac")
    assert list(located.regions) == [("chr2", 20, 40, 0), ("chr1", 0, 8, 0)]
    stats(mdata, mod="atac")
    found = mdata.mod["atac"].var["sequence_gc"].tolist()
    assert found == expected["sequence_gc"].iloc[[2, 0]].tolist()
    assert "sequence_gc" not in mdata.mod["rna"].var


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_42_a_modality_s_observations():
    mdata = multiome()
    glm.pp.set_regions(mdata, ["chr1:0-4", "chr2:0-4"], mod="rna", axis="obs")
    mdata.update()
    assert list(regions_of(mdata, mod="rna").regions) == [("chr1", 0, 4, 0), ("chr2", 0, 4, 0)]
    assert mdata.mod["rna"].obs_names.tolist() == ["a", "b"]


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_43_modalities_that_are_missing(refuses, gtf):
    mdata = multiome()
    parts = list(mdata.mod.values())
    for call, options in (
        (stats, {}),
        (glm.pp.set_regions, {"regions": ["chr1:0-8"] * 3}),
        (glm.pp.add_tss, {"gtf": gtf}),
        (regions_of, {}),
    ):
        refuses(
            lambda call=call, options=options: call(mdata, mod="peaks", **options),
            None,
            KeyError,
            "no modality 'peaks'; the MuData has rna, atac",
            also=parts,
        )
        refuses(
            lambda call=call, options=options: call(mdata, **options),
            None,
            TypeError,
            "mod='atac'",
            also=parts,
        )


# ---- coordinates ---------------------------------------------------------------------------------


def test_47_unknown_chromosomes_show_both_lists(refuses):
    adata = of_peaks(chrom=["chr1", "chr7", "chr2"])
    refuses(stats, adata, ValueError, "'chr7'.*'chr1'")


@pytest.mark.parametrize("kind", ["int64", "float64", "category", "object", "Int64", "string"])
def test_48_numbers_are_names_of_chromosomes(kind: str):
    """Never places in the list of contigs: contig 1 is the second here, and only As."""
    adata = of_peaks(chrom=pd.Series([1, 1, 1], index=["p1", "p2", "p3"]).astype(kind))
    stats(adata)
    assert adata.var["sequence_gc"].tolist() == [0, 0, 0]


def test_48_bed_chromosomes_are_text(bed):
    frame = glm.io.read_bed(bed("1\t0\t5\n2\t0\t5\n10\t3\t9\n"))
    assert frame["chrom"].tolist() == ["1", "2", "10"]
    adata = bare()
    glm.pp.set_regions(adata, bed("01\t0\t5\n2\t0\t5\nX\t3\t9\n"))
    assert adata.var["chrom"].tolist() == ["01", "2", "X"]


@pytest.mark.parametrize("value", [True, 1.5, (1, 2), b"chr1"])
def test_48_other_things_are_no_names(value: object, refuses):
    frame = pd.DataFrame({"chrom": ["chr1", value], "start": 0, "end": 4})
    refuses(regions_of, None, ValueError, r"\['chrom'\] is .* in row 1", data=frame)


def test_49_50_regions_beyond_the_ends_keep_their_length():
    adata = of_peaks(start=[-4, 92, 90], end=[4, 108, 110])
    stats(adata)
    assert adata.var["sequence_n_share"].tolist() == [0.5, 0.5, 0.5]
    assert regions_of(adata).regions.lengths.tolist() == [8, 16, 20]


@pytest.mark.parametrize(
    ("start", "end", "pattern"),
    [
        (
            [0, 16, 20],
            [8, 16, 40],
            r"1 of 3 \(33%\) .*no bases, first row 1 \(p2\): start 16 .* 16",
        ),
        ([0, 17, 41], [8, 16, 40], r"2 of 3 .*first row 1 \(p2\): start 17 is not below end 16"),
        ([0, 1.5, 2.5], [8, 16, 40], r"\['start'\] is not a whole number in 2 of 3.*row 1: 1\.5"),
        ([0, 1, 2], [8, np.inf, 40], r"\['end'\] is not a whole number in 1 of 3.*row 1: inf"),
        ([0, "1e+05", 2], [8, 16, 40], r"row 1: '1e\+05'.*R writes 100000 as 1e\+05"),
        ([0, "1,000", 2], [8, 2000, 40], r"row 1: '1,000'"),
        ([0, True, 2], [8, 16, 40], r"row 1: True"),
        ([False, True, False], [8, 16, 40], r"holds true and false"),
        (np.array([0, 1, 1e8], np.float32), [8, 16, 10**9], r"float32.*row 2 is 100000000"),
    ],
)
def test_51_positions_that_are_none(start, end, pattern: str, refuses, gtf):
    adata = of_peaks(start=start, end=end)
    refuses(stats, adata, ValueError, pattern)
    refuses(regions_of, adata, ValueError, pattern)
    table = adata.var.copy()
    refuses(glm.pp.set_regions, bare(), ValueError, pattern, regions=table)


def test_51_rows_are_counted_with_those_that_have_no_region(refuses):
    adata = of_peaks(start=[np.nan, 0, 50])
    refuses(regions_of, adata, ValueError, r"row 2 \(p3\): start 50 is not below end 40")


@pytest.mark.parametrize(
    "text", ["chr1:20-10", "chr1:10-10", "chr1", "chr1:a-b", "chr1:10", "10-20", "chr1:-5-10"]
)
def test_51_texts_that_are_no_regions(text: str, refuses):
    for entries in (["chr1:1-2", text, "NA"], ["chr1:1-2", text, np.nan]):
        refuses(regions_of, None, ValueError, r"row 1\b", data=entries)
        adata = bare()
        adata.var["interval"] = entries
        refuses(stats, adata, ValueError, r"adata\.var\['interval'\].*row 1\b")


def test_51_whole_numbers_of_a_column_with_missing_values_are_taken():
    adata = of_peaks(start=[0, np.nan, 20], end=[8, 16, 40.0])
    with pytest.warns(GlmWarning, match=r"1 of 3 .*\(p2\): 1 have no region"):
        stats(adata)
    assert adata.var["sequence_ok"].tolist() == [True, False, True]


def test_51_columns_that_count_from_1_and_say_so(refuses):
    frame = pd.DataFrame({"seqnames": "chr1", "start": [1, 11], "end": [8, 16], "width": [8, 6]})
    refuses(regions_of, None, ValueError, "count from 1.*start'\\] -= 1", data=frame)
    frame["start"] -= 1
    frame["width"] = frame["end"] - frame["start"]
    assert regions_of(frame).regions.start.tolist() == [0, 10]


def test_51_columns_of_one_meaning(refuses):
    adata = of_peaks()
    adata.var = adata.var.rename(columns={"chrom": "chr"}).assign(seqnames="chr2")
    refuses(stats, adata, ValueError, "several columns that could be chrom: chr, seqnames")


def test_57_strands_are_read_by_one_table():
    written = ["+", "-", ".", np.nan, 1, -1, "1", "-1", "*", 0, None, 1.0]
    frame = pd.DataFrame({"chrom": "chr1", "start": 0, "end": 4, "strand": written})
    found = regions_of(frame).regions.strand.tolist()
    assert found == [1, -1, 0, 0, 1, -1, 1, -1, 0, 0, 0, 1]


@pytest.mark.parametrize("value", ["plus", "−", "F", 2, -0.5, "++", True])
def test_57_other_strands_are_refused(value: object, refuses):
    adata = of_peaks(strand=np.array(["+", value, "-"], dtype=object))
    refuses(stats, adata, ValueError, r"\['strand'\] is .* in row 1.*expected '\+', '-'")


def test_57_the_strand_is_followed():
    texts = {}
    for strand in "+-.":
        adata = of_peaks(strand=strand)
        regions = regions_of(adata).regions
        texts[strand] = glm.bases.to_text(glm.Genome(GENOME).stretches(regions).codes)
    assert texts["+"] == texts["."] != texts["-"]


# ---- files ---------------------------------------------------------------------------------------


def test_59_lines_that_are_no_regions(bed):
    text = (
        "browser position chr1:1-5\ntrack name=a\n#comment\n\nchrom\tstart\tend\tname\n"
        "chr1\t1\t5\ta\n \nchr2\t2\t6\tb\n"
    )
    assert glm.io.read_bed(bed(text))["name"].tolist() == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("chr1\t1\t5\n#x\nchr1\t1\n", "line 3: 2 columns, where the lines before have 3"),
        ("track a\nchr1 5\n", "line 2: 2 columns; a BED has at least"),
        ("chr1\t1\t5\nchr1\t1\tfive\n", "line 2: 'five' is no position"),
        ("chr1\t1\t5\nchr1\t1e+05\t200000\n", r"line 2: '1e\+05' is a rounded number"),
        (
            "chr1\t1\t5\nchr1\t-1\t5\n",
            "line 2: '-1' is no position; expected a whole number from 0",
        ),
        ("chr1\t1\t5\nchr1\t1.0\t5\n", r"line 2: '1\.0' is no position"),
        ("chr1\t1\t5\nchr1\t1_0\t50\n", "line 2: '1_0' is no position"),
        ("chr1\t1\t5\nchr1\t٣\t5\n", "line 2: '٣' is no position"),
        ("chr1\t1\t5\n\nchr1\t7\t7\n", "line 3: the region has no bases"),
        ("chr1\t1\t5\nchr1\t9\t7\n", "line 2: the region has no bases"),
        ("chr1\t1\t5\n\t1\t7\n", "line 2: no chromosome"),
        ("chr1\t1\t5\ta\t0\t+\nchr1\t1\t5\ta\t0\tplus\n", "line 2: 'plus' is no strand.*columns="),
        (f"chr1\t1\t{10**19}\n", "line 1: .* is no position"),
        ("# nothing\n\n", "holds no regions"),
        ("", "holds no regions"),
        (b"chr1\t1\t5\nchr\xff\t1\t5\n", r"line 2, is no text \(UTF-8\)"),
    ],
)
def test_59_malformed_lines_are_named(text, pattern: str, bed, refuses):
    path = bed(text)
    refuses(glm.io.read_bed, None, ValueError, pattern, r"a\.bed", path=path)
    refuses(glm.pp.set_regions, bare(), ValueError, pattern, regions=path)


@pytest.mark.parametrize(
    ("fields", "pattern"),
    [
        ("chr1 X exon 1 5 . + .", "line 2: 8 columns; a GTF has nine"),
        ('chr1 X exon 0 5 . + . gene_id_"a";', "line 2: positions of a GTF count from 1"),
        ('chr1 X exon 6 5 . + . gene_id_"a";', "line 2: positions of a GTF"),
        ('chr1 X exon x 5 . + . gene_id_"a";', "line 2: 'x' is no position.*from 1"),
        ('chr1 X exon 1 5 . ? . gene_id_"a";', r"line 2: '\?' is no strand"),
        ('chr1 X exon 1 5 . + . gene_id_"a;', "line 2: the value of gene_id has no closing quote"),
        ("chr1 X exon 1 5 . + . ID=exon1;gene_id=a", "line 2: attributes .*GFF3"),
    ],
)
def test_59_malformed_annotations_are_named(fields: str, pattern: str, tmp_path: Path, refuses):
    path = tmp_path / "bad.gtf"
    path.write_text("#comment\n" + fields.replace(" ", "\t").replace('_"', ' "') + "\n")
    refuses(glm.io.read_gtf, None, ValueError, pattern, path=path)
    refuses(glm.pp.add_tss, bare(), ValueError, pattern, gtf=path)


def test_59_lines_that_are_not_asked_for_are_checked_for_their_columns(tmp_path: Path, refuses):
    path = tmp_path / "bad.gtf"
    path.write_text('chr1\tX\ttranscript\t1\t5\t.\t+\t.\tgene_id "a";\nchr1\tX\texon\n')
    refuses(glm.io.read_gtf, None, ValueError, "line 2", path=path, features=["transcript"])


@pytest.mark.parametrize("cut", [-4, 30, 12])
def test_59_gzip_files_that_are_cut_short(cut: int, bed, refuses):
    packed = gzip.compress(b"".join(b"chr1\t%d\t%d\n" % (i, i + 5) for i in range(100)))
    path = bed(packed[:cut], "a.bed.gz")
    refuses(glm.io.read_bed, None, OSError, "damaged or cut short", path=path)


def test_59_files_that_are_missing(tmp_path: Path, refuses):
    for call in (glm.io.read_bed, glm.io.read_gtf):
        refuses(call, None, OSError, "nowhere", path=tmp_path / "nowhere")
    refuses(glm.pp.add_tss, bare(), OSError, "nowhere", gtf=tmp_path / "nowhere")


# ---- genomes -------------------------------------------------------------------------------------


def hg19() -> glm.Genome:
    """Made up, and called so: its chromosomes are none of a build."""
    return glm.Genome({"chrA": "ACGT" * 30}, name="hg19")


@pytest.mark.parametrize("where", ["column", "uns"])
@pytest.mark.parametrize("name", ["GRCh38", "hg38", "GRCh38.p13", "mm10"])
def test_66_another_genome_than_the_object_s(where: str, name: str, refuses, gtf):
    adata = of_peaks(chrom=["chrA"] * 3)
    if where == "uns":
        adata.uns["genome"] = name
    else:
        adata.var["genome"] = pd.Categorical([name] * 3)
    both = rf"'{name}'.*'hg19'"
    refuses(glm.pp.sequence_stats, adata, ValueError, both, "same|they are of", genome=hg19())
    empty = adata.copy()
    empty.var = empty.var.drop(columns=["chrom", "start", "end"])
    refuses(glm.pp.set_regions, empty, ValueError, both, regions=["chr1:0-8"] * 3, genome="hg19")
    refuses(glm.pp.set_regions, empty, ValueError, both, regions=of_peaks(genome="hg19").var)
    refuses(glm.pp.add_tss, empty, ValueError, both, gtf=gtf, genome="hg19")


def test_66_the_same_genome_by_another_name():
    adata = of_peaks(chrom=["chrA"] * 3, genome="GRCh37")
    glm.pp.sequence_stats(adata, hg19())
    assert adata.uns["sequence_var"]["genome_stated"] == "GRCh37"
    assert adata.uns["sequence_var"]["genome"] == "hg19"


def test_66_rows_of_several_genomes(refuses):
    adata = of_peaks(genome=["hg38", "mm10", "hg38"])
    refuses(stats, adata, ValueError, "several genomes: 'hg38', 'mm10'. Take the rows of one")
    stats(adata[:, [0, 2]].copy())
    adata = of_peaks(genome="hg38")
    adata.uns["genome"] = "hg19"
    refuses(stats, adata, ValueError, r"says 'hg38', but adata\.uns\['genome'\] says 'hg19'")


def test_66_an_annotation_that_says_otherwise(tmp_path: Path, refuses, gtf):
    path = tmp_path / "lifted.gtf"
    path.write_text("##description: (GRCh38), mapped to GRCh37 with backmap\n" + gtf.read_text())
    adata = bare(("p1",))
    adata.var["genome"] = "GRCh38"
    refuses(glm.pp.add_tss, adata, ValueError, r"'GRCh38'.*lifted\.gtf is of 'GRCh37'", gtf=path)
    refuses(
        glm.pp.add_tss, bare(("p1",)), ValueError, "'GRCh37', and genome is 'hg38'",
        gtf=path, genome="hg38",
    )  # fmt: skip


def test_66_the_object_s_word_is_replaced_on_request():
    adata = bare()
    adata.var["genome"] = "hg19"
    glm.pp.set_regions(adata, ["chr1:0-8"] * 3, genome="hg38", overwrite=True)
    assert adata.var["genome"].tolist() == ["hg38"] * 3


def test_regions_are_not_changed_by_what_reads_them():
    regions = Regions.of(["chr1"], [0], [4])
    adata = bare(("p1",))
    glm.pp.set_regions(adata, regions)
    adata.var["start"] = 2
    assert regions.start.tolist() == [0]
