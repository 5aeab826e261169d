"""2bit files: against another library's reader, and whatever can be wrong with one."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import twobitreader
from hypothesis import given, settings
from hypothesis import strategies as st

from glm import Regions
from glm.genome import Genome

DNA = st.text("ACGTNacgtn", min_size=1, max_size=200)


@pytest.mark.parametrize("order", ["<", ">"])
def test_as_another_reader_reads_it(tmp_path: Path, write_two_bit, order):
    """Letters, N and lower case of any text, by a reader written by others."""

    @settings(max_examples=60, deadline=None)
    @given(texts=st.lists(DNA, min_size=1, max_size=4))
    def check(texts: list[str]) -> None:
        named = {f"contig{i}": text for i, text in enumerate(texts)}
        path = write_two_bit(tmp_path / "any.2bit", named, order=order)
        genome = Genome(path)
        with twobitreader.TwoBitFile(str(path)) as other:
            assert {name: len(other[name]) for name in other} == genome.contigs
            for name, length in genome.contigs.items():
                text = other[name][0:length]
                assert text == named[name]
                assert genome.fetch(name, 0, length) == text.upper()
                lower = np.zeros(length, bool)
                for start, end in genome.soft_masked(name):
                    lower[start:end] = True
                assert lower.tolist() == [letter.islower() for letter in text]

    check()


@pytest.fixture
def made(tmp_path: Path, write_two_bit) -> Path:
    return write_two_bit(tmp_path / "made.2bit", {"chr1": "ACGTNNNNacgt" * 10, "chr2": "GGGN"})


def test_cut_anywhere(made: Path):
    """No length but the whole one is taken for a file, and none is read as something else."""
    content = made.read_bytes()
    for size in range(len(content)):
        made.write_bytes(content[:size])
        with pytest.raises(OSError, match="cut short"):
            Genome(made)


def test_another_version(made: Path):
    content = bytearray(made.read_bytes())
    content[4:8] = struct.pack("<I", 2)
    made.write_bytes(content)
    with pytest.raises(OSError, match="is 2bit of version 2; 0 and 1 are known"):
        Genome(made)


def test_no_2bit_at_all(made: Path):
    made.write_bytes(b"<!doctype html> please sign in")
    with pytest.raises(OSError, match=r"is no 2bit file: it begins with b'<!do'"):
        Genome(made)


def test_a_count_that_cannot_be(made: Path):
    content = bytearray(made.read_bytes())
    content[8:12] = struct.pack("<I", 2**32 - 1)
    made.write_bytes(content)
    with pytest.raises(OSError, match="cut short"):
        Genome(made)


def test_names_twice_and_names_that_are_no_text(made: Path):
    content = made.read_bytes()
    made.write_bytes(content.replace(b"chr2", b"chr1"))
    with pytest.raises(OSError, match="names a sequence twice"):
        Genome(made)
    made.write_bytes(content.replace(b"chr2", b"\xff\xfe\xfd\xfc"))
    with pytest.raises(OSError, match="a name in its index is no text"):
        Genome(made)


def test_runs_that_cannot_be(made: Path, write_two_bit):
    write_two_bit(made, {"chr1": "ACGTNNNNACGT"})
    content = made.read_bytes()
    size = content.index(struct.pack("<3I", 1, 4, 4)) + 8
    made.write_bytes(content[:size] + struct.pack("<I", 40) + content[size + 4 :])
    with pytest.raises(OSError, match="runs of chr1 overlap or lie beyond its end"):
        Genome(made).fetch("chr1", 0, 4)


def test_runs_that_overlap(made: Path, write_two_bit):
    write_two_bit(made, {"chr1": "ACNNACNNACGTACGT"})
    content = made.read_bytes()
    size = content.index(struct.pack("<5I", 2, 2, 6, 2, 2)) + 12
    made.write_bytes(content[:size] + struct.pack("<I", 5) + content[size + 4 :])
    with pytest.raises(OSError, match="runs of chr1 overlap or lie beyond its end"):
        Genome(made).fetch("chr1", 0, 4)


def test_a_file_that_changed_is_not_read_as_before(made: Path, write_two_bit):
    genome = Genome(made)
    assert genome.fetch("chr2", 0, 4) == "GGGN"
    genome.close()
    write_two_bit(made, {"chr2": "GGGAC"})
    with pytest.raises(OSError, match="was changed since this genome was made of it"):
        genome.fetch("chr2", 0, 4)


def test_nothing_is_held_of_a_large_file(tmp_path: Path):
    """A contig of 2 Gb in a sparse file: opened and read at its end without reading the rest."""
    length = 2_000_000_000
    head = struct.pack("<4I", 0x1A412743, 0, 1, 0) + b"\x03big" + struct.pack("<I", 24)
    record = struct.pack("<I", length) + struct.pack("<3I", 1, 0, 1_999_999_000) + bytes(8)
    path = tmp_path / "big.2bit"
    with open(path, "wb") as file:
        file.write(head + record)
        file.truncate(len(head) + len(record) + length // 4)
    genome = Genome(path)
    assert genome.contigs == {"big": length}
    assert genome.fetch("big", length - 1003, length - 997) == "NNNTTT"
    found = genome.windows(Regions.of(["big"] * 2, [length - 2, 5], [length, 9]), 8)
    assert found.padded.tolist() == [[0, 3], [0, 0]]
