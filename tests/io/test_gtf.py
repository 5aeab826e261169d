"""GTF files: real and made-up ones, GENCODE's, Ensembl's and RefSeq's spellings."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

import glm
from glm.io._gtf import stated_build

GENCODE = (
    'gene_id "ENSG00000186092.7"; transcript_id "ENST00000641515.2"; gene_type "protein_coding"; '
    'gene_name "OR4F5"; level 2; tag "basic"; tag "Ensembl_canonical"; havana_gene "OTTHUMG1.4"; '
    'tag "MANE_Select";'
)
ENSEMBL = (
    'gene_id "ENSG00000186092"; gene_version "7"; transcript_id "ENST00000641515"; '
    'gene_biotype "protein_coding"; gene_source "havana; merged";'
)
REFSEQ = 'gene_id "OR4F5"; transcript_id "NM_001005484.2"; db_xref "GeneID:79501"; gene "OR4F5"; '


def line(told: str, *, feature: str = "transcript", start: object = 101, end: object = 200) -> str:
    return f"chr1\tX\t{feature}\t{start}\t{end}\t.\t+\t.\t{told}\n"


@pytest.fixture
def read(tmp_path: Path):
    def write_and_read(text: str, **options: object):
        path = tmp_path / "a.gtf"
        path.write_text(text)
        return glm.io.read_gtf(path, **options)

    return write_and_read


def test_positions_become_half_open(read):
    frame = read(line(GENCODE, start=1, end=1) + line(GENCODE))
    assert frame["start"].tolist() == [0, 100]
    assert frame["end"].tolist() == [1, 200]
    assert frame["start"].dtype == np.int64


def test_spellings_of_releases(read):
    asked = ["gene_id", "gene_name", "gene_type", "tag", "gene_version", "level", "gene_source"]
    frame = read(line(GENCODE) + line(ENSEMBL) + line(REFSEQ), attributes=asked)
    first, second, third = (frame.iloc[i][asked].tolist() for i in range(3))
    tags = "basic,Ensembl_canonical,MANE_Select"
    assert first == ["ENSG00000186092.7", "OR4F5", "protein_coding", tags, None, "2", None]
    assert second == [
        "ENSG00000186092",
        None,
        "protein_coding",
        None,
        "7",
        None,
        "havana; merged",
    ]
    assert third[:2] == ["OR4F5", "OR4F5"]
    assert read(line(GENCODE), attributes=["gene_biotype"])["gene_biotype"][0] == "protein_coding"


@pytest.mark.parametrize(
    ("told", "value"),
    [
        ('ref_gene_id "A"; gene_id "B";', "B"),
        ('note "the gene_id was C"; gene_id "B";', "B"),
        ('note "x; gene_id C"; gene_id "B"', "B"),
        ('gene_id  "B" ;', "B"),
        ("gene_id B;", "B"),
        ('gene_id "";', ""),
        ('gene_ids "A";', None),
        ('note "B";', None),
        ('x "1";gene_id "B;b";', "B;b"),
    ],
)
def test_attributes_are_told_apart(read, told: str, value: str | None):
    assert read(line(told), attributes=["gene_id"])["gene_id"].tolist() == [value]


def test_only_what_is_asked_for(read):
    text = line(GENCODE, feature="gene") + line(GENCODE, feature="exon") + line(ENSEMBL)
    assert read(text)["feature"].tolist() == ["gene", "exon", "transcript"]
    frame = read(text, features=["exon", "transcript"], attributes=[])
    assert frame.columns.tolist() == ["chrom", "start", "end", "strand", "feature"]
    assert frame["feature"].tolist() == ["exon", "transcript"]
    with pytest.raises(ValueError, match=r"no rows of CDS; it has gene \(1\), exon \(1\)"):
        read(text, features=["CDS"])
    with pytest.raises(TypeError, match="lists of names"):
        read(text, features="exon")


@pytest.mark.parametrize(
    ("comments", "build"),
    [
        (
            ["##description: evidence-based annotation of the human genome (GRCh38), version 44"],
            "GRCh38",
        ),
        (
            ["##description: human genome (GRCh38), mapped to GRCh37 with gencode-backmap"],
            "GRCh37",
        ),
        (["#!genome-build GRCh38.p14", "#!genome-version GRCh38"], "GRCh38.p14"),
        (["#!genome-build GRCm39"], "GRCm39"),
        (["#from hg19 to hg38"], ""),
        (["##provider: X"], ""),
    ],
)
def test_the_build_that_a_file_tells(comments: list[str], build: str):
    assert stated_build(comments) == build


def test_the_build_stands_in_attrs(read):
    frame = read("#!genome-build GRCh38.p14\n\n" + line(ENSEMBL))
    assert frame.attrs["genome"] == "GRCh38.p14"
    assert "genome" not in read(line(ENSEMBL)).attrs


def test_real_file_line_by_line(test_data: Path, tmp_path: Path):
    path = test_data / "genome" / "gencode_hg19_chr9.gtf"
    frame = glm.io.read_gtf(path, attributes=["gene_id", "gene_name", "tag", "transcript_id"])
    lines = path.read_text().splitlines()
    assert len(frame) == len(lines) == 5964
    for row in range(0, len(lines), 97):
        fields = lines[row].split("\t")
        told = [part.split(" ", 1) for part in fields[8].strip(" ;").split("; ")]
        found = {key: value.strip('"') for key, value in told}
        assert frame["chrom"][row] == fields[0]
        assert frame["start"][row] == int(fields[3]) - 1
        assert frame["end"][row] == int(fields[4])
        assert frame["strand"][row] == fields[6]
        for name in ("gene_id", "gene_name", "tag", "transcript_id"):
            assert frame[name][row] == found.get(name)
    (tmp_path / "a.gtf.gz").write_bytes(gzip.compress(path.read_bytes()))
    again = glm.io.read_gtf(tmp_path / "a.gtf.gz", attributes=["gene_id"])
    assert again["gene_id"].equals(frame["gene_id"])
