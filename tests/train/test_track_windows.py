"""Windows and their tracks: shapes, moves, folds, refusals; from genomes and bigWig files."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import glm
from glm import GlmWarning, Regions
from glm.bases import N
from glm.train import TrackWindows, split_by_chromosome, track_windows
from glm.train.track_splits import refuse_shared
from glm.train.windows import GenomeWindows, complete_table


@pytest.fixture(scope="module")
def windows(make_track_windows) -> TrackWindows:
    return make_track_windows(8)


@pytest.fixture(scope="module")
def genome() -> glm.Genome:
    rng = np.random.default_rng(0)
    return glm.Genome({"chr1": rng.integers(0, 4, 9_000).astype(np.uint8), "chr2": "ACGT" * 500})


# ---- what they are ------------------------------------------------------------------------------


def test_shape(windows):
    assert (len(windows), windows.window_bp, windows.n_bins, windows.crop) == (8, 4_096, 24, 4)
    assert list(windows.table.columns) == list(glm.models.track_table.COLUMNS)
    assert windows.table["clip"].eq(np.inf).all()
    windows.check()
    assert repr(windows) == "TrackWindows(8 human windows of 4,096 bp, 24 bins × 4 tracks)"


def test_subset_and_folds(windows):
    some = windows.subset([5, 2])
    np.testing.assert_array_equal(some.codes, windows.codes[[5, 2]])
    np.testing.assert_array_equal(some.targets, windows.targets[[5, 2]])
    assert some.regions.name(0) == windows.regions.name(5)
    assert some.fold.tolist() == ["train", "valid"]
    assert len(windows.of_fold("valid", "test")) == 4
    np.testing.assert_array_equal(windows.of_fold("valid").targets, windows.targets[[2, 6]])
    with pytest.raises(ValueError, match="of fold dev; there are 'test', 'train', 'valid'"):
        windows.of_fold("dev")
    with pytest.raises(ValueError, match="not divided"):
        replace(windows, fold=None).of_fold("train")


def test_moved_windows(windows):
    """What leaves at one end, N at the other."""
    found = windows.cut(np.array([3, 4, 5]), np.array([0, 2, -3]))
    np.testing.assert_array_equal(found[0], windows.codes[3])
    np.testing.assert_array_equal(found[1], [*windows.codes[4, 2:], N, N])
    np.testing.assert_array_equal(found[2], [N, N, N, *windows.codes[5, :-3]])


def test_windows_moved_in_a_genome(genome):
    """Bases come in where the genome has some."""
    regions = Regions.of(["1", "chr1"], [1_000, 8_500], [2_024, 9_524], [-1, 1])
    lazy = GenomeWindows(genome, regions)
    bases = genome.windows(Regions.of(["chr1"], [0], [9_000])).codes[0]
    found = lazy.cut(np.array([0, 1]), np.array([3, -2]))
    np.testing.assert_array_equal(found[0], bases[1_003:2_027])  # the + strand, always
    np.testing.assert_array_equal(found[1][:502], bases[8_498:])
    assert (found[1][502:] == N).all()
    np.testing.assert_array_equal(lazy[np.array([0])][0], bases[1_000:2_024])


def test_memory_maps_are_read_a_batch_at_a_time(windows, tmp_path):
    np.save(tmp_path / "targets.npy", windows.targets)
    mapped = replace(windows, targets=np.load(tmp_path / "targets.npy", mmap_mode="r"))
    mapped.check()
    assert mapped.fingerprint == windows.fingerprint
    batch = glm.train.TrackPoisson().batch(
        mapped, np.array([1, 0]), np.random.default_rng(0), training=True
    )
    assert batch.targets.shape == (2, 24, 4)


def test_fingerprints_tell_everything_apart(windows, genome):
    other = windows.codes.copy()
    other[-1, -1] ^= 1
    less = windows.targets.copy()
    less[-1, -1, -1] += 1e-6
    regions = Regions.of(["chr1"] * 8, np.arange(8), np.arange(8) + 4_096)
    lazy = replace(windows, codes=GenomeWindows(genome, regions), regions=regions)
    moved = Regions.of(["chr1"] * 8, np.arange(8) + 1, np.arange(8) + 4_097)
    variants = [
        windows,
        replace(windows, codes=other),
        replace(windows, targets=less),
        replace(windows, targets=windows.targets.astype(np.float16)),
        replace(windows, table=windows.table.assign(identifier=list("abcd"))),
        replace(windows, head="mouse"),
        windows.subset(np.arange(8)[::-1]),
        lazy,
        replace(lazy, codes=GenomeWindows(genome, moved), regions=moved),
    ]
    assert len({some.fingerprint for some in variants}) == len(variants)
    assert replace(windows, fold=None).fingerprint == windows.fingerprint


# ---- refused ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codes", "targets", "error", "message"),
    [
        (np.zeros((2, 512)), np.zeros((2, 2, 1), "f4"), TypeError, "codes are float64"),
        (np.zeros((2, 512), "u1"), np.zeros((2, 2, 1)), TypeError, "targets are float64"),
        (np.zeros((2, 512), "u1"), np.zeros((3, 2, 1), "f4"), ValueError, r"\(3, 2, 1\)"),
        (np.zeros((2, 512), "u1"), np.zeros((2, 2), "f4"), ValueError, r"\(2, 2\)"),
        (np.zeros((2, 500), "u1"), np.zeros((2, 2, 1), "f4"), ValueError, "500 bp cannot have 2"),
        (np.zeros((2, 512), "u1"), np.zeros((2, 3, 1), "f4"), ValueError, "512 bp cannot have 3"),
        (np.zeros((2, 512), "u1"), np.zeros((2, 6, 1), "f4"), ValueError, "512 bp cannot have 6"),
        (np.zeros((2, 512), "u1"), np.zeros((2, 0, 1), "f4"), ValueError, "512 bp cannot have 0"),
    ],
)
def test_arrays_that_do_not_fit(codes, targets, error, message):
    with pytest.raises(error, match=message):
        TrackWindows(codes, targets, pd.DataFrame({"identifier": ["a"]}))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"regions": Regions.of(["chr1"], [0], [4_096])}, ValueError, "8 windows and 1 regions"),
        (
            {"regions": Regions.of(["chr1"] * 8, [0] * 8, [9] * 8)},
            ValueError,
            "9 to 9 bases, the windows 4,096",
        ),
        ({"fold": np.array(["train"])}, ValueError, "8 windows and 1 folds"),
        ({"head": "no head"}, ValueError, "head is 'no head'"),
        ({"table": pd.DataFrame({"identifier": ["a"]})}, ValueError, "names 1 tracks, .* 4"),
        ({"table": pd.DataFrame({"name": list("abcd")})}, KeyError, "no column 'identifier'"),
    ],
)
def test_facts_that_do_not_fit(windows, changes, error, message):
    with pytest.raises(error, match=message):
        replace(windows, **changes)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [([1, 2, 0], "3 of 3"), ([0, 3, 2], "1 of 3"), ([-1, 1, 2], "1 of 3"), ([1, 1, 2], "1 of 3")],
)
def test_pairs_of_strands_that_are_none(pairs, message):
    table = pd.DataFrame({"identifier": list("abc"), "strand_pair": pairs})
    with pytest.raises(ValueError, match=rf"{message} .*strand_pair"):
        complete_table(table, 3)


@pytest.mark.parametrize(
    ("value", "message"),
    [(-0.1, "1 targets of human are below zero and 0 inf"), (np.inf, "zero and 1 infinite")],
)
def test_targets_that_are_no_amounts(windows, value, message):
    targets = windows.targets.copy()
    targets[3, 2, 1] = value
    with pytest.raises(ValueError, match=message):
        replace(windows, targets=targets).check()


def test_nothing_to_learn(windows):
    with pytest.raises(ValueError, match="Every target of human is NaN"):
        replace(windows, targets=np.full_like(windows.targets, np.nan)).check()
    with pytest.raises(ValueError, match="no window of human"):
        windows.subset([]).check()
    codes = windows.codes.copy()
    codes[0, 0] = 7
    with pytest.raises(ValueError, match="codes go up to 7"):
        replace(windows, codes=codes).check()


# ---- divided ------------------------------------------------------------------------------------


def test_by_chromosome(windows):
    fold = split_by_chromosome(windows, valid="2", test=["chr3"])
    expected = {"chr1": "train", "chr2": "valid", "chr3": "test"}
    assert fold.tolist() == [expected[chrom] for chrom in windows.regions.chrom]
    parted = replace(windows, fold=fold)
    refuse_shared(parted.of_fold("train"), parted.of_fold("valid", "test"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"valid": "chr9"}, "No region is on 'chr9'; they are on 'chr1', 'chr2', 'chr3'"),
        ({"valid": "chr1", "test": "1"}, "'1' cannot be in valid and test"),
        ({"valid": ["1", "2", "3"]}, "No chromosome is left"),
    ],
)
def test_chromosomes_that_cannot_be_put_aside(windows, options, message):
    with pytest.raises(ValueError, match=message):
        split_by_chromosome(windows, **options)


def test_windows_of_no_place_cannot_be_divided(windows):
    with pytest.raises(ValueError, match="not known"):
        split_by_chromosome(replace(windows, regions=None))


def at(windows: TrackWindows, start: int) -> TrackWindows:
    """One window of chromosome 1."""
    regions = Regions.of(["chr1"], [start], [start + windows.window_bp])
    return replace(windows.subset([0]), regions=regions)


def test_shared_bases(windows):
    """4,096 bp, of which 512 at either end are read only."""
    one = at(windows, 10_000)
    with pytest.raises(ValueError, match=r"1 of 1 \(100%\) held-out windows of human predict"):
        refuse_shared(one, at(windows, 10_000 + 3_071))
    for start in (3_072, 4_095):
        with pytest.warns(GlmWarning, match="read bases that windows to train on read too"):
            refuse_shared(one, at(windows, 10_000 + start))
    refuse_shared(one, at(windows, 10_000 + 4_096))


def test_shared_bases_however_chromosomes_are_spelt(windows):
    one, same = at(windows, 10_000), at(windows, 10_000)
    other = replace(same, regions=Regions.of(["1"], same.regions.start, same.regions.end))
    for train, held_out in ((one, other), (other, one)):
        with pytest.raises(ValueError, match=r"1 of 1 \(100%\) held-out windows"):
            refuse_shared(train, held_out)


# ---- from a genome and bigWig files --------------------------------------------------------------


def test_around_centres(genome):
    table = pd.DataFrame({"identifier": ["a"]})
    targets = np.ones((2, 4, 1), np.float32)
    places = pd.DataFrame({"chrom": ["1", "chr2"], "start": [4_000, 900], "end": [4_101, 902]})
    places["strand"], places["fold"] = ["-", "+"], ["train", "test"]
    found = track_windows(places, genome, targets, table=table, window_bp=1_024)
    assert found.regions.name(0) == "1:3,538-4,562"  # around 4,050
    assert (found.crop, found.fold.tolist()) == (2, ["train", "test"])
    plus = genome.windows(Regions.of(["1"], [3_538], [4_562])).codes
    np.testing.assert_array_equal(found.codes[np.array([0])], plus)


def test_bigwig_files(genome, tmp_path):
    """By what a bin holds, scaled before and clipped after; in the order of the table."""
    pytest.importorskip("pybigtools")
    rng = np.random.default_rng(0)
    coverage = rng.integers(0, 9, 9_000).astype(float)
    bases = Regions.of(["chr1"] * 9_000, np.arange(9_000), np.arange(9_000) + 1)
    path = glm.io.write_bigwig(tmp_path / "a.bw", bases, coverage, chrom_sizes=genome)
    places = Regions.of(["chr1", "chr1"], [2_000, 5_000], [2_002, 5_002])
    table = pd.DataFrame(
        {
            "identifier": ["mean", "sum", "root", "low"],
            "aggregation": ["mean", "sum", "sum_sqrt", "sum"],
            "scale": [1.0, 0.5, 2.0, 1.0],
            "clip": [np.inf, np.inf, np.inf, 500.0],
        }
    )
    files = dict.fromkeys(reversed(table["identifier"].to_list()), path)
    found = track_windows(places, genome, files, table=table, window_bp=1_024)
    assert (found.n_bins, found.crop, found.targets.dtype) == (4, 2, np.float32)
    for row, start in enumerate((2_001 - 256, 5_001 - 256)):
        bins = coverage[start : start + 512].reshape(4, 128)
        sums = bins.sum(axis=1)
        expected = [bins.mean(axis=1), sums / 2, np.sqrt(1 + 2 * sums) - 1, np.minimum(sums, 500)]
        np.testing.assert_allclose(found.targets[row], np.transpose(expected), rtol=1e-6)
    plain = track_windows(places, genome, [path], window_bp=1_024, output_bp=1_024, dtype="float16")
    assert plain.table["identifier"].to_list() == ["a.bw"]
    assert (plain.crop, plain.targets.dtype) == (0, np.float16)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"window_bp": 1_000}, ValueError, "window_bp is 1,000"),
        ({"output_bp": 2_048}, ValueError, "output_bp 2,048"),
        ({"table": None}, ValueError, "pass table"),
        ({"targets": "a.bw"}, TypeError, "targets is a str"),
        ({"targets": []}, ValueError, "no bigWig file"),
        ({"targets": {"b": "b.bw"}}, ValueError, "1 files and table 1 tracks, of which 1 have"),
        ({"fold": ["train"]}, ValueError, "2 windows and 1 folds"),
        ({"genome": glm.Genome({"chr7": "ACGT"})}, ValueError, "'chr1'"),
        ({"regions": Regions.of(["chr1"], [4_000], [4_001])}, ValueError, r"\(1, 1024\)"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_sources_that_do_not_fit(genome, options, error, message):
    chosen = {
        "regions": Regions.of(["chr1", "chr1"], [4_000, 5_000], [4_001, 5_001]),
        "genome": genome,
        "targets": np.ones((2, 4, 1), np.float32),
        "table": pd.DataFrame({"identifier": ["a"]}),
        "window_bp": 1_024,
        **options,
    }
    given = [chosen.pop(name) for name in ("regions", "genome", "targets")]
    with pytest.raises(error, match=message):
        track_windows(*given, **chosen)
