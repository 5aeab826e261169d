"""A genome reads what its text says, in every form it comes in."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import glm
from glm import Regions, bases
from glm.genome import Genome, as_genome

PROPERTY = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def genomes(make_source, sequences) -> dict[str, Genome]:
    forms = ("2bit", "2bit big-endian", "2bit version 1", "fasta", "fasta crlf", "bgzip", "dict")
    return {form: Genome(make_source(form, sequences)) for form in forms}


def test_whole_contigs(source, sequences, expected):
    genome = Genome(source)
    assert genome.contigs == {name: len(text) for name, text in sequences.items()}
    for name, text in sequences.items():
        assert genome.fetch(name, 0, len(text)) == text.upper()
        assert genome.fetch(name, 0, len(text), strand="-") == expected(text, 0, len(text), -1)
        masked = np.zeros(len(text), bool)
        for start, end in genome.soft_masked(name):
            masked[start:end] = True
        assert masked.tolist() == [letter.islower() for letter in text]


def regions_of(draw, sequences: dict[str, str], n: int) -> Regions:
    names = st.sampled_from(sorted(sequences))
    chrom, start, end, strand = [], [], [], []
    for _ in range(n):
        name = draw(names)
        size = len(sequences[name])
        begin = draw(st.integers(-50, size - 1))
        chrom.append(name)
        start.append(begin)
        end.append(draw(st.integers(max(1, begin + 1), size + 50)))
        strand.append(draw(st.sampled_from([-1, 0, 1])))
    return Regions.of(chrom, start, end, strand)


@PROPERTY
@given(data=st.data())
def test_stretches_are_slices_of_the_text(genomes, sequences, expected, data):
    form = data.draw(st.sampled_from(sorted(genomes)))
    regions = regions_of(data.draw, sequences, data.draw(st.integers(1, 6)))
    flank = data.draw(st.integers(0, 70))
    found = genomes[form].stretches(regions, flank=flank)
    assert found.codes.dtype == np.uint8
    assert found.offsets.dtype == np.int64
    assert found.padded.dtype == np.int32
    for i, (chrom, start, end, strand) in enumerate(regions):
        text = bases.to_text(found.codes[found.offsets[i] : found.offsets[i + 1]])
        begin, stop = start - flank, end + flank
        assert text == expected(sequences[chrom], begin, stop, strand)
        sides = (max(0, -begin), max(0, stop - len(sequences[chrom])))
        assert tuple(found.padded[i]) == (sides[::-1] if strand < 0 else sides)
        assert found.n_share[i] == text.count("N") / len(text)


@PROPERTY
@given(data=st.data())
def test_windows_are_slices_of_the_text(genomes, sequences, expected, data):
    form = data.draw(st.sampled_from(sorted(genomes)))
    regions = regions_of(data.draw, sequences, data.draw(st.integers(1, 6)))
    length = data.draw(st.integers(1, 150))
    found = genomes[form].windows(regions, length)
    rows = genomes[form].one_hot_windows(regions, length)
    assert found.codes.shape == (len(regions), length)
    np.testing.assert_array_equal(rows, bases.one_hot(found.codes))
    assert rows.dtype == np.float32
    for i, (chrom, start, end, strand) in enumerate(regions):
        begin = (start + end) // 2 - length // 2
        text = bases.to_text(found.codes[i])
        assert text == expected(sequences[chrom], begin, begin + length, strand)
        assert found.n_share[i] == text.count("N") / length


@PROPERTY
@given(data=st.data())
def test_the_minus_strand_is_the_reverse_complement(genomes, sequences, data):
    regions = regions_of(data.draw, sequences, 3)
    for genome in (genomes["2bit"], genomes["dict"]):
        length = data.draw(st.integers(1, 120))
        plus, minus = (
            genome.windows(Regions.of(regions.chrom, regions.start, regions.end, [s] * 3), length)
            for s in (1, -1)
        )
        np.testing.assert_array_equal(minus.codes, bases.reverse_complement(plus.codes))
        np.testing.assert_array_equal(minus.padded, plus.padded[:, ::-1])
        twice = bases.reverse_complement(bases.reverse_complement(plus.codes))
        np.testing.assert_array_equal(twice, plus.codes)


def test_many_windows_of_many_contigs_in_the_callers_order(genomes, sequences, expected):
    rng = np.random.default_rng(0)
    names = rng.choice(["chr1", "chr2", "chrX"], 2000)
    start = rng.integers(0, 15, 2000)
    strand = rng.choice([-1, 1], 2000)
    regions = Regions.of(names, start, start + 5, strand)
    for genome in genomes.values():
        codes = genome.windows(regions).codes
        for i in rng.choice(2000, 100):
            chrom, begin, end, turned = next(iter(regions.take(np.array([i]))))
            assert bases.to_text(codes[i]) == expected(sequences[chrom], begin, end, turned)


def test_numpy_numbers_are_positions(genomes, sequences):
    for genome in genomes.values():
        assert genome.fetch("chr1", np.int64(3), np.int32(9)) == sequences["chr1"][3:9].upper()


# ---- arguments -----------------------------------------------------------------------------------


@pytest.fixture
def small() -> Genome:
    return Genome({"chr1": "ACGTTGCANNACGT", "chr2": "GGGGCCCC"})


def test_windows_around_centres(small):
    """The base (start + end) // 2 has length // 2 bases before it."""
    region = Regions.of(["chr1"], [4], [7])
    assert bases.to_text(small.windows(region, 3).codes[0]) == "TGC"
    assert bases.to_text(small.windows(region, 4).codes[0]) == "TTGC"
    assert bases.to_text(small.windows(region).codes[0]) == "TGC"


def test_a_window_may_leave_the_contig_where_its_region_does_not(small):
    found = small.windows(Regions.of(["chr2"], [-20], [1]), 4)
    assert bases.to_text(found.codes[0]) == "NNNN"
    assert found.padded.tolist() == [[4, 0]]
    assert (small.one_hot_windows(Regions.of(["chr2"], [-20], [1]), 4) == 0).all()


def test_no_regions(small):
    none = Regions.of([], [], [])
    assert small.windows(none, 7).codes.shape == (0, 7)
    assert small.windows(none, 7).n_share.shape == (0,)
    assert small.windows(none).codes.shape == (0, 0)
    assert small.one_hot_windows(none, 7).shape == (0, 7, 4)
    assert small.stretches(none).offsets.tolist() == [0]
    assert small.stretches(none).n_share.shape == (0,)


def test_windows_need_one_length(small):
    with pytest.raises(ValueError, match=r"chr1:0-5 has 5 bases and chr1:0-6 has 6\. Pass length"):
        small.windows(Regions.of(["chr1", "chr1"], [0, 0], [5, 6]))
    for wrong in (0, -3, 2.5, True):
        with pytest.raises(ValueError, match="length_bp is"):
            small.windows(Regions.of(["chr1"], [0], [5]), wrong)


def test_room_that_is_given_is_filled(small):
    regions = Regions.of(["chr1", "chr2"], [0, 0], [8, 8], [1, -1])
    codes, rows = np.full((2, 8), 9, np.uint8), np.full((2, 8, 4), 9, np.float32)
    assert small.windows(regions, out=codes).codes is codes
    assert small.one_hot_windows(regions, out=rows) is rows
    np.testing.assert_array_equal(rows, bases.one_hot(codes))
    for wrong in (np.empty((2, 7), np.uint8), np.empty((2, 8), np.int8), codes[:, ::-1]):
        with pytest.raises(ValueError, match="out is"):
            small.windows(regions, out=wrong)


def test_flank_strand_and_edges_are_checked(small):
    region = Regions.of(["chr1"], [0], [5])
    for flank in (-1, 1.5, True, "3"):
        with pytest.raises(ValueError, match="flank is"):
            small.stretches(region, flank=flank)
    for length in (0, 2.5, float("nan"), "two"):
        with pytest.raises(ValueError, match="length_bp is"):
            small.windows(region, length)
    with pytest.raises(ValueError, match="edges is 'wrap'"):
        small.windows(region, edges="wrap")
    for wrong in ("minus", 2, True, None):
        with pytest.raises(ValueError, match="strand is"):
            small.fetch("chr1", 0, 5, strand=wrong)


def test_what_a_genome_can_be_made_of(tmp_path: Path, small):
    assert as_genome(small) is small
    assert as_genome({"a": "ACGT"}).contigs == {"a": 4}
    with pytest.raises(TypeError, match="made of int"):
        Genome(5)
    with pytest.raises(FileNotFoundError, match=r"There is no file .*hg18"):
        Genome("hg18")
    with pytest.raises(FileNotFoundError, match=r"Did you mean glm.Genome\('hg38'\)"):
        Genome("GRCh38")
    with pytest.raises(ValueError, match="needs one"):
        Genome({})
    with pytest.raises(ValueError, match="'a' has no bases"):
        Genome({"a": ""})
    with pytest.raises(ValueError, match="the same name"):
        Genome({"1": "A", 1: "A"})
    with pytest.raises(TypeError, match="'a' is int64 array"):
        Genome({"a": np.array([0, 1])})
    with pytest.raises(ValueError, match="has code 7"):
        Genome({"a": np.array([0, 7], np.uint8)})


def test_a_file_is_known_by_its_content(tmp_path: Path, write_two_bit, write_fasta, sequences):
    two_bit = write_two_bit(tmp_path / "assembly", sequences)
    assert Genome(two_bit).contigs == {name: len(text) for name, text in sequences.items()}
    fasta = write_fasta(tmp_path / "odd.2bit", {"chr1": "ACGT"})
    assert Genome(str(fasta)).fetch("chr1", 0, 4) == "ACGT"


# ---- as an object --------------------------------------------------------------------------------


def test_copied_and_closed(source, sequences):
    genome = Genome(source)
    genome.fetch("chr1", 5, 20)
    for again in (copy.deepcopy(genome), genome):  # a copy is made as a pickle is
        assert again.fetch("chr1", 5, 20) == sequences["chr1"][5:20].upper()
        assert again.fingerprint() == genome.fingerprint()
        assert again.name == genome.name
        again.close()
        assert again.fetch("chr1", 5, 20) == sequences["chr1"][5:20].upper()


def test_fingerprints_differ(source, sequences, make_source):
    changed = sequences | {"chr1": "A" + sequences["chr1"][1:-1]}
    forms = [Genome(source), Genome(changed), Genome(sequences | {"more": "C"})]
    forms += [Genome(make_source("2bit", changed)), Genome(make_source("fasta", changed))]
    prints = {genome.fingerprint() for genome in forms}
    assert len(prints) == len(forms)
    assert all(len(text) == 64 for text in prints)
    assert Genome(source).fingerprint() == forms[0].fingerprint()


def test_card(small, source):
    assert "2 (chr1, chr2), 22 bases" in repr(small)
    assert "sequences in memory" in small._repr_html_()
    genome = Genome(source, name="made <up>")
    assert genome.name == "made <up>"
    assert "made &lt;up&gt;" in genome._repr_html_()


# ---- published genomes: lazily, by the one way to published files --------------------------------


def test_published(tmp_path: Path, monkeypatch, write_two_bit):
    """Nothing is fetched until something is read; a file put in the mirror is held to its hash."""
    import dataclasses

    from glm._fetch import FILES, sha256_of

    with glm.settings.override(data_dir=tmp_path / "cache", offline=True):
        genome = Genome("hg19")
        assert genome.name == "hg19"
        assert "fetched when first read" in repr(genome)
        with pytest.raises(OSError, match=r"hg19\.2bit \(816,241,703 bytes\) is not on this") as e:
            genome.fetch("chr1", 0, 10)
        assert str(tmp_path / "cache" / "genomes" / "hg19.2bit") in str(e.value)
        assert not (tmp_path / "cache").exists()

        (tmp_path / "mirror").mkdir()
        path = write_two_bit(tmp_path / "mirror" / "hg19.2bit", {"chr1": "ACGTTT"})
        with glm.settings.override(mirror=tmp_path / "mirror"):
            with pytest.raises(OSError, match=r"is not the published hg19\.2bit"):
                genome.fetch("chr1", 0, 5)
            row = dataclasses.replace(FILES["hg19.2bit"], sha256=sha256_of(path))
            monkeypatch.setitem(FILES, "hg19.2bit", row)
            assert genome.fetch("1", 0, 5) == "ACGTT"
            assert genome.source == "hg19.2bit of UCSC"
            again = copy.deepcopy(genome)
            assert again.fingerprint() == genome.fingerprint()
    with pytest.raises(ValueError, match="'hg19' cannot be called 'hg38'"):
        Genome("hg19", name="hg38")


# ---- real sequence -------------------------------------------------------------------------------


def read_fasta(path: Path) -> dict[str, str]:
    import gzip

    content = path.read_bytes()
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
    records = text.split(">")[1:]
    parts = [record.partition("\n") for record in records]
    return {head.split()[0]: body.replace("\n", "") for head, _, body in parts}


@pytest.mark.parametrize("name", ["hg38_chr1_first1Mb.fa.gz", "hg19_gata4_131kb.fa", "ecoli.fa.gz"])
def test_real_sequence(test_data: Path, tmp_path: Path, write_two_bit, write_fasta, name, expected):
    """The same text through 2bit, FASTA, bgzip and memory; some of it against another reader."""
    import twobitreader

    texts = read_fasta(test_data / "genome" / name)
    (chrom,) = texts
    text = texts[chrom]
    path = write_two_bit(tmp_path / "real.2bit", texts)
    genomes = [Genome(path), Genome(texts)]
    genomes += [Genome(write_fasta(tmp_path / f"real.fa{end}", texts)) for end in ("", ".gz")]
    rng = np.random.default_rng(1)
    start = rng.integers(0, len(text) - 600, 50)
    regions = Regions.of([chrom] * 50, start, start + 512, rng.choice([-1, 1], 50))
    for genome in genomes:
        assert genome.contigs == {chrom: len(text)}
        codes = genome.windows(regions).codes
        for row, (_, begin, end, strand) in zip(codes, regions, strict=True):
            assert bases.to_text(row) == expected(text, begin, end, strand)
    with twobitreader.TwoBitFile(str(path)) as other:
        assert other[chrom][1000:150_000] == text[1000:150_000]
    whole = genomes[0].stretches(Regions.of([chrom], [0], [len(text)]))
    assert whole.n_share[0] == text.upper().count("N") / len(text)
    if name.startswith("hg38"):
        assert round(whole.n_share[0] * len(text)) == 160_000
