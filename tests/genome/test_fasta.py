"""The index of a FASTA file: kept where it can be, believed only where it fits."""

from __future__ import annotations

import itertools
import logging
import os
from pathlib import Path

import numpy as np
import pytest

import glm
from glm.genome import Genome
from glm.genome._fasta_index import fits

TEXTS = {"chr1": "ACGTN" * 50, "chr2": "GGGCC" * 24, "chr3": "T", "chr4": "CA" * 30}


@pytest.fixture
def fasta(tmp_path: Path, write_fasta) -> Path:
    return write_fasta(tmp_path / "made.fa", TEXTS, width=60)


def read_all(path: Path) -> dict[str, str]:
    genome = Genome(path)
    return {name: genome.fetch(name, 0, length) for name, length in genome.contigs.items()}


def test_index_beside_the_file(fasta: Path):
    assert read_all(fasta) == TEXTS
    index = Path(f"{fasta}.fai")
    assert fits(index, fasta)
    assert sorted(path.name for path in fasta.parent.iterdir()) == ["made.fa", "made.fa.fai"]
    before = index.stat().st_mtime_ns
    assert read_all(fasta) == TEXTS
    assert index.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("width", "line_end"), [*itertools.product((1, 7, 60, 999), ("\n", "\r\n"))]
)
def test_an_index_that_fits(tmp_path: Path, write_fasta, width, line_end):
    path = write_fasta(tmp_path / "made.fa", TEXTS, width=width, line_end=line_end)
    assert read_all(path) == TEXTS
    assert fits(Path(f"{path}.fai"), path)
    content = path.read_bytes()
    path.write_bytes(content.rstrip())  # no end to the last line
    assert read_all(path) == TEXTS
    path.write_bytes(content + b"\n" * 3)
    with pytest.raises(ValueError, match=r"cannot be indexed.*no blank ones between"):
        Genome(path)
    assert not list(tmp_path.glob(".*"))


def test_an_index_cut_anywhere_does_not_fit(fasta: Path):
    read_all(fasta)
    index = Path(f"{fasta}.fai")
    content = index.read_bytes()
    for size in range(len(content)):
        index.write_bytes(content[:size])
        assert not fits(index, fasta), size


@pytest.mark.parametrize(
    "change",
    [
        {"chr1": TEXTS["chr1"] + "A"},
        {"chr2": TEXTS["chr2"][:-1]},
        {"chr3": "TT"},
        {"chr4": TEXTS["chr4"] + "C" * 61},
        {"chr5": "ACGT"},
    ],
)
def test_an_index_of_another_version_does_not_fit(fasta: Path, write_fasta, change):
    read_all(fasta)
    index = Path(f"{fasta}.fai")
    write_fasta(fasta, TEXTS | change)
    assert not fits(index, fasta)
    write_fasta(fasta, TEXTS, width=61)
    assert not fits(index, fasta)
    write_fasta(fasta, {name.replace("4", "5"): text for name, text in TEXTS.items()})
    assert not fits(index, fasta)
    write_fasta(fasta, TEXTS, line_end="\r\n")
    assert not fits(index, fasta)
    write_fasta(fasta, {name: text.replace("A", "G") for name, text in TEXTS.items()})
    assert fits(index, fasta)  # it says where, not what


def test_a_file_from_the_future(fasta: Path, recwarn):
    os.utime(fasta, (4e9, 4e9))
    for _ in range(2):
        assert read_all(fasta) == TEXTS
    assert [str(w.message) for w in recwarn] == []


def test_any_line_width_is_read_right(tmp_path: Path, write_fasta, expected):
    """Around every line's end, one base at a time."""
    text = "".join(np.random.default_rng(0).choice(list("ACGT"), 130))
    for width in (1, 13, 64, 65, 130, 200):
        genome = Genome(write_fasta(tmp_path / f"{width}.fa", {"a": text}, width=width))
        for start, end in itertools.combinations(range(0, 131, 1 if width == 13 else 13), 2):
            assert genome.fetch("a", start, end) == text[start:end]


def test_bgzip_index_is_in_the_cache(tmp_path: Path, write_fasta):
    path = write_fasta(tmp_path / "made.fa.gz", TEXTS)
    with glm.settings.override(data_dir=tmp_path / "cache"):
        for _ in range(2):
            assert read_all(path) == TEXTS
        found = sorted(p.suffix for p in (tmp_path / "cache" / "indexes").iterdir())
        assert found == [".fai", ".gzi"]
        write_fasta(path, TEXTS | {"chr1": "AC"})
        assert read_all(path) == TEXTS | {"chr1": "AC"}
    assert not Path(f"{path}.fai").exists()


def test_bgzip_without_biopython(tmp_path: Path, write_fasta, monkeypatch):
    import sys

    path = write_fasta(tmp_path / "made.fa.gz", TEXTS)
    monkeypatch.setitem(sys.modules, "Bio.bgzf", None)
    with pytest.raises(ImportError, match=r"compressed with bgzip.*genomic-lm\[bgzip\]"):
        Genome(path)


def test_indexing_is_told(fasta: Path, caplog):
    with caplog.at_level(logging.INFO, logger="glm"):
        read_all(fasta)
        Path(f"{fasta}.fai").write_text("chr1\t3\n")
        read_all(fasta)
    assert f"indexing {fasta}" in caplog.text
    assert "made.fa.fai does not fit made.fa and is made anew" in caplog.text
