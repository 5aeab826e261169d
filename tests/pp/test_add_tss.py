"""Start sites of genes: which transcript, which strand, which gene."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from mudata import MuData

import glm
from glm import GlmWarning
from glm.locate import regions_of


def line(
    gene: str,
    transcript: str = "T1",
    start: int = 1001,
    end: int = 2000,
    *,
    strand: str = "+",
    chrom: str = "chr1",
    feature: str = "transcript",
    symbol: str = "",
    tags: tuple[str, ...] = (),
) -> str:
    told = f'gene_id "{gene}"; transcript_id "{transcript}";'
    told += f' gene_name "{symbol}";' if symbol else ""
    told += "".join(f' tag "{tag}";' for tag in tags)
    return f"{chrom}\tX\t{feature}\t{start}\t{end}\t.\t{strand}\t.\t{told}\n"


@pytest.fixture
def gtf(tmp_path: Path):
    def write(*lines: str) -> Path:
        path = tmp_path / "genes.gtf"
        path.write_text("".join(lines))
        return path

    return write


def of_genes(*names: str) -> AnnData:
    return AnnData(np.ones((2, len(names)), np.float32), var=pd.DataFrame(index=list(names)))


def ids(n: int) -> list[str]:
    return [f"ENSG{i:011d}" for i in range(1, n + 1)]


# ---- where the window is -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strand", "window"),
    [("+", (1000 - 30, 1000 + 20)), ("-", (1999 + 1 - 20, 1999 + 1 + 30))],
)
def test_windows_follow_the_gene(gtf, strand: str, window: tuple[int, int]):
    adata = of_genes("A")
    glm.pp.add_tss(adata, gtf(line("A", strand=strand)), upstream_bp=30, downstream_bp=20)
    row = adata.var.iloc[0]
    assert (row["chrom"], row["start"], row["end"], row["strand"]) == ("chr1", *window, strand)
    assert row["tss_transcript"] == "T1"


@pytest.mark.parametrize("strand", ["+", "-"])
def test_the_sequence_begins_at_the_start_site(gtf, strand: str):
    rng = np.random.default_rng(0)
    text = "".join(rng.choice(list("ACGT"), 3000))
    genome = glm.Genome({"chr1": text})
    adata = of_genes("A")
    glm.pp.add_tss(adata, gtf(line("A", strand=strand)), upstream_bp=5, downstream_bp=7)
    read = glm.Genome({"chr1": text}).stretches(regions_of(adata).regions)
    transcript = genome.fetch("chr1", 1000, 2000, strand=strand)
    assert glm.bases.to_text(read.codes)[5:] == transcript[:7]
    assert len(read.codes) == 12


def test_near_the_chromosome_s_start_windows_keep_their_length(gtf):
    adata = of_genes("A")
    glm.pp.add_tss(adata, gtf(line("A", start=11, end=90)), upstream_bp=30, downstream_bp=20)
    assert adata.var[["start", "end"]].iloc[0].tolist() == [-20, 30]
    assert adata.uns["regions_var"]["n_begin_below_0"] == 1
    assert regions_of(adata).regions.lengths.tolist() == [50]


# ---- which transcript ----------------------------------------------------------------------------

TAGGED = [
    ("longest", {}),
    ("not found", {"tags": ("mRNA_start_NF",)}),
    ("appris_principal", {"tags": ("basic", "appris_principal_3")}),
    ("appris_principal", {"tags": ("appris_principal_1", "appris_principal")}),
    ("MANE_Select", {"tags": ("MANE_Select", "appris_principal_1")}),
    ("Ensembl_canonical", {"tags": ("Ensembl_canonical",)}),
]


@pytest.mark.parametrize("n", range(1, 7))
@pytest.mark.parametrize("reverse", [False, True])
def test_canonical_goes_by_tags(gtf, n: int, reverse: bool):
    """The more transcripts there are, the better tagged ones are among them; and the shorter."""
    lines = [
        line("A", f"T{i}", 1001 + 10 * i, 2000, **options)
        for i, (_, options) in enumerate(TAGGED[:n])
    ]
    if n == 2:
        lines[1] = line("A", "T1", 900, 2000, tags=("mRNA_start_NF",))
    adata = of_genes("A")
    glm.pp.add_tss(adata, gtf(*(lines[::-1] if reverse else lines)), upstream_bp=0)
    best = {1: 0, 2: 0, 3: 2, 4: 3, 5: 4, 6: 5}[n]
    assert adata.var["tss_transcript"].tolist() == [f"T{best}"]
    assert adata.uns["regions_var"]["chosen_by"] == {TAGGED[best][0]: 1}


@pytest.mark.parametrize(("strand", "best"), [("+", "T2"), ("-", "T3")])
def test_most_upstream(gtf, strand: str, best: str):
    path = gtf(
        line("A", "T1", 1101, 1900, strand=strand, tags=("Ensembl_canonical",)),
        line("A", "T2", 901, 1500, strand=strand),
        line("A", "T3", 1201, 2000, strand=strand),
    )
    adata = of_genes("A")
    glm.pp.add_tss(adata, path, policy="most_upstream")
    assert adata.var["tss_transcript"].tolist() == [best]
    glm.pp.add_tss(adata, path)
    assert adata.var["tss_transcript"].tolist() == ["T1"]
    assert adata.uns["regions_var"]["policy"] == "canonical"


def test_ties_go_by_length_then_upstream_then_id(gtf):
    adata = of_genes("A", "B", "C")
    glm.pp.add_tss(
        adata,
        gtf(
            line("A", "T1", 100, 200, tags=("appris_principal",)),
            line("A", "T2", 100, 300, tags=("appris_principal",)),
            line("B", "T3", 150, 250, strand="-"),
            line("B", "T4", 160, 260, strand="-"),
            line("C", "T6", 100, 200),
            line("C", "T5", 100, 200),
        ),
    )
    assert adata.var["tss_transcript"].tolist() == ["T2", "T4", "T5"]


def test_transcripts_of_exons(gtf):
    path = gtf(
        line("A", "T1", 501, 600, feature="exon", strand="-"),
        line("A", "T1", 801, 900, feature="exon", strand="-"),
        line("A", "T2", 701, 950, feature="exon", strand="-"),
    )
    adata = of_genes("A")
    glm.pp.add_tss(adata, path, upstream_bp=0, downstream_bp=1)
    assert adata.var[["start", "end"]].iloc[0].tolist() == [899, 900]
    assert adata.uns["regions_var"]["feature"] == "exon"


def test_genes_alone(gtf):
    adata = of_genes("A")
    glm.pp.add_tss(adata, gtf(line("A", feature="gene")), upstream_bp=0, downstream_bp=1)
    assert adata.var["start"].tolist() == [1000]
    with pytest.raises(ValueError, match=r"no transcripts, exons or genes; it has CDS \(1\)"):
        glm.pp.add_tss(adata, gtf(line("A", feature="CDS")))


# ---- which gene ----------------------------------------------------------------------------------


def test_ids_with_and_without_versions_and_symbols(gtf):
    a, b, c = ids(3)
    path = gtf(
        line(f"{a}.5", "TA", symbol="SYMA"), line(f"{b}.3_1", "TB"), line(c, "TC", symbol="SYMC")
    )
    adata = of_genes(a, f"{a}.2", f"{b}.3_1", f"{c}.9", "SYMC", "SYMA")
    glm.pp.add_tss(adata, path)
    assert adata.var["tss_transcript"].tolist() == ["TA", "TA", "TB", "TC", "TC", "TA"]
    record = adata.uns["regions_var"]
    assert record["matched_by"] == {"id": 4, "symbol": 2}
    assert record["n_versions_left_off"] == 3
    assert record["n_sharing_a_gene"] == 3


def test_columns_of_ids(gtf):
    a, b = ids(2)
    path = gtf(line(a, "TA"), line(b, "TB"))
    adata = of_genes("one", "two")
    adata.var["mine"] = [b, a]
    glm.pp.add_tss(adata, path, gene_ids="mine")
    assert adata.var["tss_transcript"].tolist() == ["TB", "TA"]
    adata.var["ensembl_id"] = [a, ""]
    with pytest.warns(GlmWarning, match=r"1 of 2 .*no region \(-\)"):
        glm.pp.add_tss(adata, path)
    assert adata.var["tss_transcript"].tolist() == ["TA", np.nan]
    assert adata.uns["regions_var"]["gene_ids"] == "ensembl_id"
    with pytest.raises(KeyError, match="no column 'yours'"):
        glm.pp.add_tss(adata, path, gene_ids="yours")


@pytest.mark.parametrize("copy", ["ENSG00000000001.4_PAR_Y", "ENSGR0000000001.4"])
def test_the_copy_on_y_is_another_gene(gtf, copy: str):
    a = ids(1)[0]
    path = gtf(
        line(copy, "TY", chrom="chrY", symbol="SYM"),
        line(f"{a}.4", "TX", chrom="chrX", symbol="SYM"),
    )
    adata = of_genes(a, f"{a}_PAR_Y", "ENSGR0000000001", "SYM")
    glm.pp.add_tss(adata, path)
    assert adata.var["tss_transcript"].tolist() == ["TX", "TY", "TY", "TX"]
    with pytest.warns(GlmWarning, match=rf"1 of 2 .*\({a}_PAR_Y\): 1 not in"):
        glm.pp.add_tss(adata[:, :2].copy(), gtf(line(a, "TX", chrom="X")), copy=True)


def test_an_id_in_several_places(gtf):
    path = gtf(
        line("HLA-A", "T1", chrom="chr6_GL000250v2_alt"),
        line("HLA-A", "T2", chrom="chr6"),
        line("ASMT", "T3", chrom="chrY"),
        line("ASMT", "T4", chrom="chrX"),
        line("DUP", "T5", chrom="chr1"),
        line("DUP", "T6", chrom="chr2"),
    )
    adata = of_genes("HLA-A", "ASMT", "DUP")
    with pytest.warns(GlmWarning, match=r"\(DUP\): 1 name of several genes or places"):
        glm.pp.add_tss(adata, path)
    assert adata.var["tss_transcript"].tolist() == ["T2", "T4", np.nan]


def test_a_symbol_of_several_genes_has_no_region(gtf):
    a, b, c = ids(3)
    path = gtf(line(a, symbol="MATR3"), line(b, symbol="MATR3"), line(c, symbol="OK"))
    adata = of_genes("MATR3", "OK", "NOPE", a)
    told = r"2 of 4 \(50%\) genes .*\(MATR3, NOPE\): 1 not in .*, 1 name of several genes"
    with pytest.warns(GlmWarning, match=told) as seen:
        glm.pp.add_tss(adata, path)
    assert len(seen) == 1
    assert adata.var["chrom"].isna().tolist() == [True, False, True, False]
    record = adata.uns["regions_var"]
    assert (record["n_not_found"], record["n_several_genes"]) == (1, 1)


def test_none_of_the_genes_is_refused(gtf):
    adata = of_genes("Actb", "Gapdh")
    with pytest.raises(ValueError, match=r"None of 2 names .*var_names: Actb.*gene_ids=.*species"):
        glm.pp.add_tss(adata, gtf(line("A", symbol="ACTB")))
    assert list(adata.var) == []


# ---- tables, genomes, modalities -----------------------------------------------------------------


def test_tables_of_other_libraries(gtf):
    adata = of_genes("A", "B")
    path = gtf(line("A", strand="-"), line("B", "T2", 51, 60), line("B", feature="exon"))
    glm.pp.add_tss(adata, path)
    expected = adata.var.copy()
    table = glm.io.read_gtf(path, attributes=["gene_id", "gene_name", "transcript_id"])
    glm.pp.add_tss(adata, table)
    pd.testing.assert_frame_equal(adata.var, expected)
    capital = {"chrom": "Chromosome", "start": "Start", "end": "End", "strand": "Strand"}
    glm.pp.add_tss(adata, table.rename(columns={**capital, "feature": "Feature"}))
    pd.testing.assert_frame_equal(adata.var, expected)
    with pytest.raises(ValueError, match=r"has no strand, gene_id; it has chrom"):
        glm.pp.add_tss(adata, table.drop(columns=["gene_id", "strand"]))
    with pytest.raises(TypeError, match="expected the path of a GTF"):
        glm.pp.add_tss(adata, 3)


def test_the_genome_that_the_file_tells(gtf):
    path = gtf("#!genome-build GRCh38.p14\n", line("A"))
    adata = of_genes("A")
    glm.pp.add_tss(adata, path)
    assert adata.var["genome"].tolist() == ["GRCh38.p14"]
    glm.pp.add_tss(adata, path, genome="hg38")
    assert adata.var["genome"].tolist() == ["hg38"]
    with pytest.raises(ValueError, match=r"says that it is of 'GRCh38\.p14', and genome is 'hg19'"):
        glm.pp.add_tss(adata, path, genome="hg19")


@pytest.mark.parametrize(
    "options",
    [
        {"upstream_bp": -1},
        {"downstream_bp": 1.5},
        {"upstream_bp": True},
        {"upstream_bp": 0, "downstream_bp": 0},
        {"policy": "longest"},
    ],
)
def test_options_are_checked(gtf, options):
    with pytest.raises(ValueError, match=r"expected|needs a base"):
        glm.pp.add_tss(of_genes("A"), gtf(line("A")), **options)


def test_real_annotation(test_data: Path):
    path = test_data / "genome" / "gencode_hg19_chr9.gtf"
    exons = glm.io.read_gtf(path)
    symbols = exons["gene_name"].unique().tolist()
    adata = of_genes(*symbols)
    with pytest.warns(GlmWarning, match=r"of several genes"):
        glm.pp.add_tss(adata, path, genome="hg19", policy="most_upstream")
    record = adata.uns["regions_var"]
    assert record["n_not_found"] == 0
    assert record["n_genes_in_gtf"] == exons["gene_id"].nunique()
    found = adata[:, adata.var["chrom"].notna()].var
    by_gene = exons.groupby("gene_name")
    first = by_gene["start"].min().loc[found.index]
    last = by_gene["end"].max().loc[found.index]
    plus = (found["strand"] == "+").to_numpy()
    np.testing.assert_array_equal((found["start"] + 1000)[plus], first[plus])
    np.testing.assert_array_equal((found["end"] - 1000)[~plus], last[~plus])
    canonical = of_genes(*found.index)
    glm.pp.add_tss(canonical, path)
    assert canonical.uns["regions_var"]["chosen_by"]["appris_principal"] > 10


def test_the_modality_of_a_multiome(test_data: Path, gtf):
    import mudata

    mdata = mudata.read_h5mu(test_data / "cells" / "muon_test_rna_atac.h5mu")
    rna = mdata.mod["rna"]
    path = gtf(*(line(f"{gene}.1", f"T{i}") for i, gene in enumerate(rna.var["gene_ids"])))
    before = mdata.mod["atac"].var.copy()
    glm.pp.add_tss(mdata, path, mod="rna", gene_ids="gene_ids", genome="hg38")
    assert rna.var["tss_transcript"].tolist() == [f"T{i}" for i in range(45)]
    pd.testing.assert_frame_equal(mdata.mod["atac"].var, before)
    assert rna.var["genome"].tolist() == ["GRCh38"] * 45  # its own column, which agrees
    located = regions_of(mdata, mod="rna")
    assert "chrom" in located.where
    assert located.genome == "GRCh38"
    assert isinstance(mdata, MuData)
