"""Builds told apart by lengths, and contigs found under their other names."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from glm.genome import build_of, detect_build
from glm.genome._builds import BUILDS, check_name, short_name, which_mitochondrion
from glm.genome._names import ContigNames

HUMAN = [*map(str, range(1, 23)), "X", "Y"]


def contigs_of(build: str, *, prefix: str = "chr", mitochondrion: int = 0) -> dict[str, int]:
    found = {f"{prefix}{name}": length for name, length in BUILDS[build].lengths.items()}
    if mitochondrion:
        found["chrM" if prefix else "MT"] = mitochondrion
    return found


@pytest.mark.parametrize("build", ["hg19", "hg38", "mm10"])
def test_the_table_is_that_of_the_assemblies(test_data: Path, build):
    path = test_data / "genome" / f"bioframe_{build}.seqinfo.tsv"
    rows = pd.read_csv(path, sep="\t").query("role == 'assembled' and unit == 'primary'")
    assert len(rows) == len(BUILDS[build].lengths)
    for row in rows.itertuples():
        (accession,) = [name for name in row.aliases.split(",") if name.startswith("NC_")]
        assert BUILDS[build].lengths[row.name[3:]] == row.length
        assert BUILDS[build].accessions[accession] == row.name[3:]


def test_real_sizes_are_told(test_data: Path):
    table = (test_data / "genome" / "hg19.chrom.sizes").read_text().split()
    sizes = dict(zip(table[::2], map(int, table[1::2]), strict=True))
    assert detect_build(sizes) == "hg19"
    assert which_mitochondrion(sizes) == "chrM: 16,571 bases (NC_001807.4, UCSC's)"


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("prefix", ["chr", ""])
def test_detect(build, prefix):
    whole = contigs_of(build, prefix=prefix)
    assert detect_build(whole) == build
    assert detect_build(dict([*whole.items()][3:4])) == build  # one chromosome is enough
    assert detect_build(whole | {"7": 5, "chr7": 5}) == ""
    accessions = {a: whole[prefix + c] for a, c in BUILDS[build].accessions.items() if c != "MT"}
    assert detect_build(accessions) == build
    assert detect_build({"scaffold": 100, "chrM": 16_569}) == ""


@pytest.mark.parametrize(
    ("text", "build"),
    [
        ("hg19", "hg19"),
        ("GRCh37", "hg19"),
        ("b37", "hg19"),
        ("hs37d5", "hg19"),
        ("GRCh38.p13", "hg38"),
        (" grch38 ", "hg38"),
        ("GRCh38_gencode", "hg38"),
        ("hg38-no-alt", "hg38"),
        ("mm10", "mm10"),
        ("GRCm38.p6", "mm10"),
        ("GRCm39", ""),
        ("hg18", ""),
        ("hg385", ""),
        ("T2T-CHM13", ""),
        ("", ""),
    ],
)
def test_what_people_call_them(text, build):
    assert build_of(text) == build


def test_names_are_held_to_the_lengths():
    hg19 = contigs_of("hg19")
    assert check_name("", hg19) == "hg19"
    assert check_name("hg19", hg19) == "hg19"
    assert check_name("GRCh37", hg19) == "hg19"
    assert check_name("ours", hg19) == "ours"
    assert check_name("", {"chr1": 12}) == ""
    assert check_name("made-up", {"chr1": 12}) == "made-up"
    assert check_name("hg38", {"scaffold": 12}) == "hg38"  # nothing speaks against it
    with pytest.raises(ValueError, match=r"have the lengths of hg19: chr1 has 249,250,621 bases, "):
        check_name("hg38", hg19)
    with pytest.raises(ValueError, match=r"is not hg38: chr1 has 12 bases, in hg38 248,956,422"):
        check_name("GRCh38", {"chr1": 12})


def test_short_names():
    same = {
        "1": ["1", "chr1", "Chr1", "CHR1", "NC_000001.10", "NC_000001.11", "NC_000067.6"],
        "X": ["X", "x", "chrX", "chrx", "NC_000023.10", "NC_000023.11", "NC_000086.7"],
        "MT": ["M", "MT", "chrM", "chrMT", "NC_012920.1", "NC_001807.4", "NC_005089.1"],
        "11": ["11", "chr11"],
        "NC_000001.9": ["NC_000001.9"],
        "Un_gl000220": ["chrUn_gl000220"],
    }
    for short, names in same.items():
        assert {short_name(name) for name in names} == {short}


@pytest.mark.parametrize("build", BUILDS)
def test_every_spelling_finds_its_contig(build):
    for prefix in ("chr", ""):
        names = ContigNames(contigs_of(build, prefix=prefix, mitochondrion=16_569), build)
        for accession, chromosome in BUILDS[build].accessions.items():
            own = {"MT": "chrM" if prefix else "MT"}.get(chromosome, prefix + chromosome)
            for spelling in (chromosome, f"chr{chromosome}", accession):
                if not (build == "hg19" and spelling == "chrMT" and not prefix):
                    assert names.find(spelling) == own
    assert names.find("chr99") == ""


def test_an_accession_of_another_build():
    names = ContigNames(contigs_of("hg19"), "hg19")
    with pytest.raises(ValueError, match=r"'NC_000001.11' is 1 of hg38; this genome is hg19"):
        names.find("NC_000001.11")
    unknown = ContigNames({"chr1": 12}, "")
    with pytest.raises(ValueError, match="this genome has the lengths of no build known here"):
        unknown.find("NC_000001.11")


def test_the_two_mitochondria_of_hg19():
    ucsc = ContigNames(contigs_of("hg19", mitochondrion=16_571), "hg19")
    assert [ucsc.find(name) for name in ("chrM", "M", "NC_001807.4")] == ["chrM"] * 3
    for name in ("MT", "chrMT", "NC_012920.1"):
        with pytest.raises(
            ValueError, match=r"NC_001807\.4 with 16,571 .*NC_012920\.1 with 16,569"
        ):
            ucsc.find(name)
    grch37 = ContigNames(contigs_of("hg19", prefix="", mitochondrion=16_569), "hg19")
    assert [grch37.find(name) for name in ("MT", "chrMT", "NC_012920.1")] == ["MT"] * 3
    for name in ("chrM", "NC_001807.4"):
        with pytest.raises(ValueError, match="positions differ"):
            grch37.find(name)
    renamed = ContigNames(contigs_of("hg19", mitochondrion=16_569), "hg19")
    assert [renamed.find(name) for name in ("chrM", "MT", "NC_012920.1")] == ["chrM"] * 3
    with pytest.raises(ValueError, match="positions differ"):
        renamed.find("NC_001807.4")
    hg38 = ContigNames(contigs_of("hg38", mitochondrion=16_569), "hg38")
    assert [hg38.find(name) for name in ("MT", "M", "NC_012920.1")] == ["chrM"] * 3
    with pytest.raises(ValueError, match=r"'NC_001807\.4' is MT of hg19; this genome is hg38"):
        hg38.find("NC_001807.4")


def test_both_mitochondria_in_one_file():
    """As in UCSC's patched hg19."""
    both = contigs_of("hg19", mitochondrion=16_571) | {"chrMT": 16_569}
    names = ContigNames(both, "hg19")
    assert names.find("chrM") == "chrM"
    assert names.find("chrMT") == "chrMT"
    with pytest.raises(ValueError, match="'MT' could be any of chrM, chrMT"):
        names.find("MT")


def test_all_that_is_missing_is_told_at_once():
    names = ContigNames({"chr1": 10, "chr2": 10}, "")
    with pytest.raises(ValueError, match=r"2 chromosomes not found .*'3', 'chrUn'.*'chr1', 'chr2'"):
        names.find_all(["1", "3", "chr2", "chrUn"])
    assert names.find_all([1, "2"]) == ["chr1", "chr2"]
