"""BED files: real ones, all forms of lines, and what is no BED."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

import glm


@pytest.fixture
def read(tmp_path: Path):
    def write_and_read(text: str, name: str = "a.bed", **options: object):
        path = tmp_path / name
        path.write_bytes(text.encode())
        return glm.io.read_bed(path, **options)

    return write_and_read


def test_three_columns(read):
    frame = read("chr1\t0\t5\n1\t3\t4\n")
    assert frame.columns.tolist() == ["chrom", "start", "end"]
    assert frame["chrom"].tolist() == ["chr1", "1"]
    assert frame["start"].dtype == frame["end"].dtype == np.int64


def test_twelve_columns(read):
    line = "chr22\t1000\t5000\tcloneA\t960\t+\t1000\t5000\t0\t2\t567,488,\t0,3512\n"
    frame = read(line + line)
    assert frame.columns.tolist()[6:] == [
        "thick_start",
        "thick_end",
        "item_rgb",
        "block_count",
        "block_sizes",
        "block_starts",
    ]
    first = frame.iloc[0]
    assert (first["name"], first["score"], first["strand"]) == ("cloneA", 960, "+")
    assert (first["block_count"], first["block_sizes"], first["item_rgb"]) == (2, "567,488,", "0")


def test_lines_that_are_no_regions_are_passed_over(read):
    frame = read(
        "\ufeff# made by hand\r\nbrowser position chr7:1-2\r\ntrack name=x description='a b'\r\n"
        "\r\nchr7\t1\t5\r\n   \r\n#chr8\t1\t5\r\ntrack\r\ntrack1\t3\t9"
    )
    assert frame["chrom"].tolist() == ["chr7", "track1"]
    assert frame["end"].tolist() == [5, 9]


@pytest.mark.parametrize("sign", ["", "#", "# "])
def test_a_line_of_names(read, sign: str):
    lines = (
        f"{sign}chrom\tchromStart\tchromEnd\tname\tscore\tstrand\tn_cells\nchr1\t1\t2\ta\t.\t-\t7\n"
    )
    frame = read(lines, columns=None)
    assert frame.columns.tolist()[:6] == ["chrom", "start", "end", "name", "score", "strand"]
    assert frame["strand"].tolist() == ["-"]
    assert len(frame) == 1


def test_names_of_columns_beyond_the_format(read):
    head = "chrom\tstart\tend\tname\tscore\tstrand\tsignal\tp\tq\tkind\tname\n"
    line = "chr1\t1\t2\ta\t0\t-\t1.5\t2\t-1\tx\ty\n"
    frame = read(head + line, "a.broadPeak")
    told = ["signal_value", "p_value", "q_value", "kind", "column_11"]
    assert frame.columns.tolist()[6:] == told
    assert read("\t".join(line.split("\t")[:10])).columns[-1] == "peak"
    thirteen = "\t".join(["chr1", "1", "2", *"abcdefghij"]).replace("c\t", "+\t", 1)
    assert read(thirteen).columns.tolist()[-1] == "column_13"


def test_columns_of_ones_own(read):
    frame = read("chr1\t1\t2\tAAAC-1\t3\n", columns=["chrom", "start", "end", "barcode", "count"])
    assert frame.iloc[0].tolist() == ["chr1", 1, 2, "AAAC-1", 3]
    frame = read("chr1\t1\t2\t5\t6\t7\n", columns=["chrom", "start", "end", "a", "b", "c"])
    assert frame["c"].tolist() == [7]
    with pytest.raises(ValueError, match="expected 3 different names"):
        read("chr1\t1\t2\n", columns=["chrom", "start"])


def test_spaces_between_columns(read):
    assert read("chr1 10  20 a\nchr1  30 40 b\n")["name"].tolist() == ["a", "b"]


def test_numbers_and_texts(read):
    frame = read("chr1\t1\t2\t007\t.\t.\nchr1\t1\t2\t8\t1e-3\t.\n")
    assert frame["name"].tolist() == ["007", "8"]
    np.testing.assert_array_equal(frame["score"], [np.nan, 1e-3])
    assert read("chr1\t1\t2\ta\tlow\t.\n")["score"].tolist() == ["low"]


@pytest.mark.parametrize("name", ["a.bed.gz", "a.bed"])
def test_gzip_by_content(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(gzip.compress(b"chr1\t1\t2\n"))
    assert len(glm.io.read_bed(tmp_path / name)) == 1
    assert len(glm.io.read_bed(str(tmp_path / name))) == 1


def test_blocks_end_anywhere(tmp_path: Path, monkeypatch):
    from glm.io import _lines

    text = "".join(f"chr{i % 3}\t{i}\t{i + 5}\tpeak {i}\n" for i in range(200)).rstrip("\n")
    (tmp_path / "a.bed").write_text(text)
    whole = glm.io.read_bed(tmp_path / "a.bed")
    for size in (1, 7, 64, 1000):
        monkeypatch.setattr(_lines, "_BLOCK", size)
        assert glm.io.read_bed(tmp_path / "a.bed").equals(whole)
    (tmp_path / "a.bed").write_text(text.replace("chr2\t197\t", "chr2\tx\t"))
    with pytest.raises(ValueError, match="line 198: 'x' is no position"):
        glm.io.read_bed(tmp_path / "a.bed")


def test_real_files(test_data: Path):
    folder = test_data / "genome"
    peaks = glm.io.read_bed(folder / "macs3_run_callpeak_bampe_narrow_peaks.narrowPeak")
    assert peaks.shape == (724, 10)
    assert peaks.columns.tolist()[6:] == ["signal_value", "p_value", "q_value", "peak"]
    assert peaks.iloc[0, :3].tolist() == ["chr22", 17255466, 17255848]
    assert ((peaks["peak"] < peaks["end"] - peaks["start"]) & (peaks["peak"] >= 0)).all()
    gaps = glm.io.read_bed(folder / "hg19_gaps.bed")
    assert gaps.iloc[0].tolist() == ["chr1", 124535434, 142535434]
    assert len(glm.io.read_bed(folder / "macs3_CTCF_PE_ChIP_chr22_50k.bedpe.gz")) > 40_000
