"""Genomes: names, edges, letters, strands, and files that are not what they should be."""

from __future__ import annotations

import contextlib
import gzip
import multiprocessing
import os
import re
import stat
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader

import glm
from glm import Regions, bases
from glm.genome import Genome, Stretches

pytestmark = pytest.mark.faults

TEXTS = {"chr1": "ACGTTGCANNacgtGGCATTACA", "chr2": "GGGGCCCCAT", "chrM": "ACCCGT"}
FORMS = ("2bit", "fasta", "bgzip", "dict")


@pytest.fixture
def make(tmp_path: Path, write_two_bit, write_fasta) -> Callable[..., Genome]:
    """A genome of texts in one of its forms."""

    def make_one(form: str, texts: dict[str, str] = TEXTS, **options: object) -> Genome:
        if form == "dict":
            return Genome(texts, **options)
        write = write_two_bit if form == "2bit" else write_fasta
        end = {"2bit": "2bit", "fasta": "fa", "bgzip": "fa.gz"}[form]
        return Genome(write(tmp_path / f"made.{end}", texts), **options)

    return make_one


@pytest.fixture(params=FORMS)
def genome(request, make) -> Genome:
    return make(request.param)


def text_of(genome: Genome, chrom: object, start: int, end: int, strand: int = 0) -> str:
    """Through the windows."""
    region = Regions.of([chrom], [start], [end], [strand])
    return bases.to_text(genome.windows(region).codes[0])


# ---- names ---------------------------------------------------------------------------------------


def test_47_with_and_without_chr(genome):
    assert genome.fetch("1", 0, 4) == genome.fetch("chr1", 0, 4) == "ACGT"
    assert [genome.resolve(name) for name in ("2", "Chr2", "MT", "M")] == ["chr2"] * 2 + [
        "chrM"
    ] * 2


def test_47_without_chr_in_the_genome(make):
    genome = make("dict", {"1": "ACGT", "X": "GGGG", "MT": "TTTT"})
    assert [genome.resolve(name) for name in ("chr1", "chrx", "chrM")] == ["1", "X", "MT"]


def test_47_unknown_names_show_both_lists(genome, refuses):
    regions = Regions.of(["chr1", "chr7", "scaffold_3"], [0, 0, 0], [4, 4, 4])
    both = r"2 chromosomes not found .*'chr7', 'scaffold_3'\. It has 'chr1', 'chr2', 'chrM'"
    for call in (genome.windows, genome.stretches, genome.one_hot_windows):
        refuses(call, None, ValueError, both, "rename the others", regions=regions)
    refuses(genome.resolve, None, ValueError, "'chr7'", "'chr1'", chrom="chr7")


def test_48_numbers_are_names_and_never_places(genome, refuses):
    genome = Genome({"chr2": "GGGG", "chr1": "ACGT"})
    assert genome.fetch(1, 0, 4) == text_of(genome, 1, 0, 4) == text_of(genome, np.int64(1), 0, 4)
    assert genome.fetch(1, 0, 4) == "ACGT"
    refuses(genome.resolve, None, ValueError, "'0'", chrom=0)
    refuses(genome.resolve, None, ValueError, r"'1\.0'", chrom=1.0)


def test_48_a_region_without_a_chromosome(genome, refuses):
    regions = Regions.of(["chr1", None], [0, 0], [4, 4])
    refuses(genome.windows, None, ValueError, "Region 1 has no chromosome", regions=regions)


# ---- edges ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("strand", [1, -1])
def test_49_before_the_start(genome, refuses, strand):
    """Padded and recorded, or refused; never short, never counted from the end."""
    region = Regions.of(["chr1"], [-3], [4], [strand])
    found = genome.windows(region)
    expected = "NNNACGT" if strand == 1 else "ACGTNNN"
    assert bases.to_text(found.codes[0]) == expected
    assert found.padded.tolist() == ([[3, 0]] if strand == 1 else [[0, 3]])
    stretches = genome.stretches(region)
    assert bases.to_text(stretches.codes) == expected
    assert stretches.padded.tolist() == found.padded.tolist()
    row = r"1 of 1 regions lie .*row 0 \(chr1:-3-4\), is -3 to 4 of chr1, which has 23 bases"
    for call in (genome.windows, genome.stretches, genome.one_hot_windows):
        refuses(call, None, ValueError, row, "edges='pad'", regions=region, edges="raise")
    refuses(genome.fetch, None, ValueError, "edges='pad'", chrom="chr1", start=-3, end=4)
    assert genome.fetch("chr1", -3, 4, edges="pad") == "NNNACGT"


@pytest.mark.parametrize("strand", [1, -1])
def test_50_beyond_the_end(genome, refuses, strand):
    region = Regions.of(["chr1", "chr2"], [2, 6], [8, 13], [strand, strand])
    found = genome.stretches(region)
    second = bases.to_text(found.codes[found.offsets[1] :])
    assert second == ("CCATNNN" if strand == 1 else "NNNATGG")
    assert found.padded.tolist() == [[0, 0], [0, 3] if strand == 1 else [3, 0]]
    row = r"1 of 2 regions lie .*row 1 \(chr2:6-13\), is 6 to 13 of chr2, which has 10 bases"
    refuses(genome.stretches, None, ValueError, row, regions=region, edges="raise")
    refuses(genome.fetch, None, ValueError, "lie beyond", chrom="chr2", start=6, end=13)


@pytest.mark.parametrize(("start", "end"), [(10, 12), (24, 25), (-5, 0)])
def test_50_regions_that_are_not_on_the_contig_at_all(genome, refuses, start, end):
    """Not padded: such regions are of another genome."""
    regions = Regions.of(["chr2", "chr2"], [0, start], [2, end])
    wanted = r"1 of 2 regions lie .*row 1 .*has 10 bases\. Regions with no base on their contig"
    refuses(genome.stretches, None, ValueError, wanted, "another genome", regions=regions)


def test_51_positions_that_are_none(genome, refuses):
    refuses(genome.fetch, None, ValueError, r"1\.5 is no position", chrom="chr1", start=1.5, end=4)
    refuses(genome.fetch, None, ValueError, "have no bases", chrom="chr1", start=4, end=4)
    refuses(genome.fetch, None, ValueError, "have no bases", chrom="chr1", start=5, end=4)
    for wrong in (float("nan"), float("inf"), None, "one", True):
        refuses(genome.fetch, None, ValueError, "is no position", chrom="chr1", start=wrong, end=4)


@pytest.mark.parametrize("wrong", [1.5, float("nan"), float("inf"), "7", None])
def test_51_regions_of_what_is_no_position(wrong, refuses):
    """Never cut down to a whole number, never read from a text."""
    chrom = ["chr1"] * 3
    for starts, ends in (([0, wrong, 2], [9, 9, 9]), ([0, 1, 2], [9, wrong, 9])):
        said = r"1 of 3 .*row 1.*expected whole numbers"
        refuses(Regions.of, None, ValueError, said, chrom=chrom, start=starts, end=ends)


def test_51_whole_numbers_of_any_kind_are_positions():
    for kind in (np.int32, np.uint16, np.float64, object):
        regions = Regions.of(["chr1"] * 2, np.array([3, 5], kind), np.array([7, 8], kind))
        assert regions.start.dtype == regions.end.dtype == np.int64
        assert regions.lengths.tolist() == [4, 3]


def test_51_regions_are_lists(refuses, genome):
    with pytest.raises(TypeError, match=r"a list each.*chrom is 'chr1'"):
        Regions.of("chr1", [0], [4])
    with pytest.raises(TypeError, match=r"a list each.*end is 4"):
        Regions.of(["chr1"], [0], 4)
    for call in (genome.windows, genome.stretches, genome.one_hot_windows):
        refuses(call, None, TypeError, "Got a str", r"glm\.Regions", regions="chr1:0-4")


@pytest.mark.parametrize("wrong", [2, -2, 257, "-", float("nan"), None])
def test_57_strands_that_are_none(wrong, refuses):
    said = r"1 of 2 strands.*row 1.*expected 1, -1 or 0"
    values = {"chrom": ["chr1"] * 2, "start": [0, 0], "end": [4, 4], "strand": [1, wrong]}
    refuses(Regions.of, None, ValueError, said, **values)


# ---- letters and strands -------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["fasta", "bgzip", "dict"])
def test_52_iupac_letters_are_not_known(make, form):
    assert make(form, {"a": "ACRYSWKMBDHVNacgtrn"}).fetch("a", 0, 19) == "AC" + "N" * 11 + "ACGTNN"


@pytest.mark.parametrize("form", FORMS)
def test_53_lower_case_is_the_same(make, form):
    upper = {name: text.upper() for name, text in TEXTS.items()}
    regions = Regions.of([*TEXTS], [0, 0, 0], [6, 6, 6], [1, -1, 0])
    found = [make(form, texts).windows(regions).codes for texts in (TEXTS, upper)]
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("form", ["fasta", "bgzip", "dict"])
@pytest.mark.parametrize(("letter", "way"), [("U", "RNA"), ("-", "gaps"), ("*", "")])
def test_54_what_is_no_dna(make, refuses, form, letter, way):
    """Named with its place; what does not hold it can still be read from a file."""
    texts = {"a": "ACGTACGT" + letter + "ACGT"}
    place = f"{re.escape(repr(letter))} at position {8 if form == 'dict' else 6:,}"
    if form == "dict":
        refuses(Genome, None, ValueError, "In sequence 'a'", place, way, source=texts)
        return
    genome = make(form, texts)
    assert genome.fetch("a", 0, 8) == "ACGTACGT"
    where = "In a:2-12 of .*positions counted from 2"
    refuses(genome.fetch, None, ValueError, where, place, way, chrom="a", start=2, end=12)


def test_55_share_of_n(genome):
    """Of every region, padding among it, so that who computes can leave out what is unknown."""
    regions = Regions.of(["chr1", "chr1", "chr2"], [8, 4, -2], [10, 12, 2])
    found = genome.stretches(regions)
    assert found.n_share.tolist() == [1.0, 0.25, 0.5]
    assert genome.windows(regions, 4).n_share.tolist() == [0.5, 0.5, 0.5]
    empty = Stretches(np.zeros(0, np.uint8), np.zeros(1, np.int64), np.zeros((0, 2), np.int32))
    assert empty.n_share.shape == (0,)


def test_56_reverse_complement_of_padding_and_n(genome):
    """Turned twice, everything is what it was; and - is the reverse complement of +."""
    regions = [Regions.of(["chr1", "chrM"], [-4, -1], [30, 9], [s, s]) for s in (1, -1)]
    plus, minus = (genome.windows(r, 40).codes for r in regions)
    np.testing.assert_array_equal(minus, bases.reverse_complement(plus))
    np.testing.assert_array_equal(bases.reverse_complement(minus), plus)
    assert (plus == bases.N).sum() == (minus == bases.N).sum() > 40
    one_hot = [genome.one_hot_windows(r, 40) for r in regions]
    np.testing.assert_array_equal(one_hot[1], one_hot[0][:, ::-1, ::-1])


# ---- FASTA files ---------------------------------------------------------------------------------


def test_63_plainly_gzipped(tmp_path, refuses):
    path = tmp_path / "made.fa.gz"
    path.write_bytes(gzip.compress(b">chr1\nACGT\n"))
    told = r"compressed with gzip, .*gunzip -k made\.fa\.gz.*bgzip"
    refuses(Genome, None, ValueError, told, source=path)


def test_63_a_real_gzipped_file(test_data, refuses):
    path = test_data / "genome" / "ecoli.fa.gz"
    refuses(Genome, None, ValueError, "compressed with gzip, which cannot be read", source=path)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"; only a comment\n"])
def test_63_empty(tmp_path, refuses, content):
    (tmp_path / "made.fa").write_bytes(content)
    told = "is empty|does not contain a valid sequence|cannot be indexed"
    refuses(Genome, None, ValueError, told, source=tmp_path / "made.fa")


def test_63_a_sequence_without_bases(tmp_path, refuses):
    (tmp_path / "made.fa").write_bytes(b">chr1\nACGT\n>chr2\n>chr3\nAC\n")
    with pytest.raises(ValueError, match=r"'chr2' has no bases\. Remove it"):
        Genome(tmp_path / "made.fa")


def test_63_two_sequences_of_one_name(tmp_path, refuses):
    (tmp_path / "made.fa").write_bytes(b">chr1 first\nACGT\n>chr2\nAC\n>chr1 second\nGG\n")
    told = r'two sequences of one name \(Duplicate key "chr1"\)\. Rename or remove'
    refuses(Genome, None, ValueError, told, source=tmp_path / "made.fa")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"ACGT\n", "cannot be indexed: Unexpected text before the first"),
        (b">a\nACGT\nAC\nACGT\n", "Lines of a sequence have one length"),
        (b">a\nAC\xff\xfeGT\n", "holds bytes that are no text"),
        (b"<!doctype html>", "cannot be indexed"),
    ],
)
def test_63_no_fasta(tmp_path, refuses, content, told):
    (tmp_path / "made.fa").write_bytes(content)
    refuses(Genome, None, ValueError, told, source=tmp_path / "made.fa")


def test_63_names_that_do_not_fit_the_content(tmp_path, write_fasta, refuses):
    write_fasta(tmp_path / "made.gz", TEXTS).rename(tmp_path / "made.fa")
    told = "compressed with bgzip: let its name end with .gz"
    refuses(Genome, None, ValueError, told, source=tmp_path / "made.fa")
    write_fasta(tmp_path / "plain", TEXTS).rename(tmp_path / "plain.fa.gz")
    refuses(Genome, None, ValueError, "is not compressed", source=tmp_path / "plain.fa.gz")


def test_64_a_stale_index(tmp_path, make, write_fasta):
    """The file was replaced, and the index is newer than the file: only its content tells."""
    make("fasta", {"chr1": "TT", "chr2": "ACGTACGTACGT"})
    index = tmp_path / "made.fa.fai"
    write_fasta(tmp_path / "made.fa", TEXTS)
    os.utime(index, (4e9, 4e9))
    genome = Genome(tmp_path / "made.fa")
    assert {name: genome.fetch(name, 0, n) for name, n in genome.contigs.items()} == {
        name: text.upper() for name, text in TEXTS.items()
    }
    assert len(index.read_text().splitlines()) == 3


def test_64_a_half_written_index(tmp_path, make):
    """At any byte: the file is indexed anew, in one piece, and nothing is left beside it."""
    make("fasta")
    index = tmp_path / "made.fa.fai"
    whole = index.read_bytes()
    for size in range(len(whole)):
        index.write_bytes(whole[:size])
        assert Genome(tmp_path / "made.fa").contigs == {n: len(t) for n, t in TEXTS.items()}
        assert index.read_bytes() == whole
    files = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert files == {"made.fa", "made.fa.fai"}


def test_64_killed_while_it_is_written(tmp_path, make, monkeypatch):
    """What was there stays until the new one is whole."""
    import pyfaidx

    make("fasta")
    index = tmp_path / "made.fa.fai"
    index.write_text("chr1\t5\n")

    class Killed(BaseException):
        """As from the outside."""

    def half(self: pyfaidx.Faidx) -> None:
        Path(self.indexname).write_text("chr1\t24\t1")
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(pyfaidx.Faidx, "build_index", half)
        with pytest.raises(Killed):
            Genome(tmp_path / "made.fa")
    assert index.read_text() == "chr1\t5\n"
    assert not list(tmp_path.glob(".*"))
    assert Genome(tmp_path / "made.fa").fetch("chr2", 0, 4) == "GGGG"


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Take away the right to write to ``folder``, from the superuser too."""
    above = [p for p in folder.parents if p.stat().st_uid == os.geteuid() and p != p.parent]
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (folder, *above)}
    is_root = os.geteuid() == 0
    try:
        for path in above:
            path.chmod(modes[path] | 0o011)
        folder.chmod(0o555)
        if is_root:
            os.seteuid(65_534)
        yield
    finally:
        if is_root:
            os.seteuid(0)
        for path, mode in modes.items():
            path.chmod(mode)


@pytest.mark.skipif(os.name != "posix", reason="permissions as POSIX has them")
@pytest.mark.parametrize("left", [None, "chr1\t5\t6\t60\t61\n"])
def test_65_a_read_only_folder(tmp_path, write_fasta, left):
    """The index goes to the cache, and stays there; one that is there and wrong is not used."""
    folder, cache = tmp_path / "shared", tmp_path / "cache"
    folder.mkdir()
    cache.mkdir()
    for path in (cache, tmp_path / "temporary"):
        path.chmod(0o777)
    path = write_fasta(folder / "made.fa", TEXTS)
    if left:
        (folder / "made.fa.fai").write_text(left)
    with glm.settings.override(data_dir=cache), read_only(folder):
        for _ in range(2):
            assert Genome(path).fetch("chr2", 0, 10) == TEXTS["chr2"]
            (index,) = (cache / "indexes").iterdir()
            changed = index.stat().st_mtime_ns
        assert index.stat().st_mtime_ns == changed
    assert index.name.startswith("made.fa.")
    assert sorted(p.name for p in folder.iterdir()) == ["made.fa", *(["made.fa.fai"] * bool(left))]


def test_65_nowhere_to_put_it(tmp_path, write_fasta, refuses):
    path = write_fasta(tmp_path / "made.fa", TEXTS)
    (tmp_path / "made.fa.fai").mkdir()  # so that no file can be put there
    (tmp_path / "file").write_bytes(b"")
    with glm.settings.override(data_dir=tmp_path / "file" / "cache"):
        refuses(Genome, None, OSError, "cannot be written to .*GLM_DATA_DIR", source=path)


# ---- builds --------------------------------------------------------------------------------------

HG19 = {"chr21": 48_129_895, "chr22": 51_304_566, "chrM": 16_571}
HG38 = {"chr21": 46_709_983, "chr22": 50_818_468, "chrM": 16_569}


def sparse_two_bit(path: Path, contigs: dict[str, int]) -> Path:
    """Real lengths, all T, hardly any room on the disk."""
    at = 16 + sum(5 + len(name) for name in contigs)
    head = struct.pack("<4I", 0x1A412743, 0, len(contigs), 0)
    places = []
    for name, length in contigs.items():
        head += bytes([len(name)]) + name.encode() + struct.pack("<I", at)
        places.append(at)
        at += 16 + (length + 3) // 4
    with open(path, "wb") as file:
        file.write(head)
        for place, length in zip(places, contigs.values(), strict=True):
            file.seek(place)
            file.write(struct.pack("<I", length))
        file.truncate(at)
    return path


def test_66_hg19_that_is_called_hg38(tmp_path, refuses):
    path = sparse_two_bit(tmp_path / "GRCh38.2bit", HG19)
    assert Genome(path).name == Genome(path, name="GRCh37").name == "hg19"
    told = r"called 'hg38', but its contigs have the lengths of hg19: chr21 has 48,129,895 bases, "
    for name in ("hg38", "GRCh38.p14"):
        wanted = told.replace("hg38", name, 1)
        refuses(Genome, None, ValueError, wanted, "name='hg19'", source=path, name=name)
    other = sparse_two_bit(tmp_path / "other.2bit", HG38)
    refuses(Genome, None, ValueError, "the lengths of hg38", source=other, name="hg19")


def test_66_made_up_sequences_that_are_called_hg38(refuses):
    told = r"is not hg38: chr1 has 23 bases, in hg38 248,956,422.*call it something else"
    refuses(Genome, None, ValueError, told, source=TEXTS, name="hg38")
    assert Genome(TEXTS).name == ""
    assert Genome(TEXTS, name="made up").name == "made up"


def test_66_mitochondria(tmp_path, refuses):
    """Of UCSC's hg19 and of GRCh37: not the same sequence, whatever they are called."""
    ucsc = Genome(sparse_two_bit(tmp_path / "ucsc.2bit", HG19))
    assert ucsc.resolve("chrM") == ucsc.resolve("M") == "chrM"
    told = (
        r"UCSC's hg19 is NC_001807\.4 with 16,571 bases, MT of GRCh37 is NC_012920\.1 with 16,569"
    )
    refuses(ucsc.resolve, None, ValueError, told, "positions differ", chrom="MT")
    assert "chrM: 16,571 bases (NC_001807.4, UCSC's)" in repr(ucsc)
    plain = {"21": HG19["chr21"], "MT": 16_569}
    grch37 = Genome(sparse_two_bit(tmp_path / "grch37.2bit", plain))
    refuses(grch37.resolve, None, ValueError, told, chrom="chrM")
    assert grch37.name == "hg19"
    assert "MT: 16,569 bases (NC_012920.1, GRCh37's)" in repr(grch37)
    hg38 = Genome(sparse_two_bit(tmp_path / "hg38.2bit", HG38))
    assert hg38.resolve("MT") == "chrM"


# ---- files cut short, read-only memory, workers --------------------------------------------------


def test_75_a_2bit_file_cut_short(tmp_path, make, refuses):
    make("2bit")
    path = tmp_path / "made.2bit"
    path.write_bytes(path.read_bytes()[:-1])
    refuses(Genome, None, OSError, r"cut short: chrM goes on to byte", source=path)


def test_18_read_only_memory_maps(tmp_path, genome):
    """What is read is the caller's own, whatever it was read from."""
    np.save(tmp_path / "codes.npy", bases.to_codes(TEXTS["chr1"]))
    mapped = np.load(tmp_path / "codes.npy", mmap_mode="r")
    region = Regions.of(["chr1"], [-2], [20], [-1])
    expected = genome.windows(region).codes
    for each in (genome, Genome({"chr1": mapped})):
        codes = each.windows(region).codes
        np.testing.assert_array_equal(codes, expected)
        assert codes.flags.writeable
        codes[:] = 0
        np.testing.assert_array_equal(each.windows(region).codes, expected)


@pytest.fixture(scope="module")
def long_texts() -> dict[str, str]:
    rng = np.random.default_rng(0)
    letters = np.frombuffer(b"ACGTacgtN", np.uint8)
    return {f"chr{i}": letters[rng.integers(0, 9, 60_000)].tobytes().decode() for i in (1, 2)}


@pytest.fixture(scope="module")
def blocks() -> list[Regions]:
    rng = np.random.default_rng(1)
    start = rng.integers(-100, 59_500, (60, 20))
    chrom = rng.choice(["chr1", "2"], (60, 20))
    strand = rng.choice([-1, 1], (60, 20))
    return [Regions.of(*row[:2], row[1] + 500, row[2]) for row in zip(chrom, start, strand)]  # noqa: B905


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_100_workers_equal_no_workers(make, long_texts, blocks, form, context):
    """The file is open, and was read, before the workers start: each of them opens its own."""
    if context not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system cannot {context}")
    if context == "spawn" and form != "fasta":
        pytest.skip("a spawned worker takes seconds to start, and pickles are tested elsewhere")
    genome = make(form, long_texts)
    alone = [genome.windows(regions).codes for regions in blocks]
    loader = DataLoader(
        blocks,
        batch_size=None,
        num_workers=2 if context == "fork" else 1,
        collate_fn=genome.windows,
        multiprocessing_context=context,
    )
    for found, expected in zip(loader, alone, strict=True):
        np.testing.assert_array_equal(found.codes, expected)


def _read(connection, genome: Genome, blocks: list[Regions]) -> None:
    connection.send([genome.windows(regions).codes.tobytes() for regions in blocks])
    connection.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("form", ["fasta", "bgzip"])
def test_100_parent_and_children_read_at_once(make, long_texts, blocks, form):
    """From one open file, the parent too: nobody moves another one's place in it."""
    genome = make(form, long_texts)
    expected = [genome.windows(regions).codes.tobytes() for regions in blocks]
    context = multiprocessing.get_context("fork")
    pipes = [context.Pipe(duplex=False) for _ in range(3)]
    children = [context.Process(target=_read, args=(end, genome, blocks)) for _, end in pipes]
    for child in children:
        child.start()
    assert [genome.windows(regions).codes.tobytes() for regions in blocks] == expected
    for receiver, _ in pipes:
        assert receiver.poll(60)
        assert receiver.recv() == expected
    for child in children:
        child.join(60)
        assert child.exitcode == 0
