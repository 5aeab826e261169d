"""A stretch of a chromosome, tile by tile: against the plain model, window by window."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import glm
from glm.models.fast.enformer import FastEnformer
from glm.tl._stretch_files import file_name

BIN, WINDOW, CROP, BINS = 128, 4_096, 4, 24
LENGTH = 60_050  # no whole number of bins
# What the fast executor is held to against the plain model, here and elsewhere.
RTOL = 1e-4


@pytest.fixture(scope="module")
def codes() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 4, LENGTH).astype(np.uint8)


@pytest.fixture(scope="module")
def genome(codes: np.ndarray) -> glm.Genome:
    return glm.Genome({"chr1": codes, "chr2": "ACGTTG" * 100})


def _window(codes: np.ndarray, start: int) -> torch.Tensor:
    """Bases from ``start`` on, N where there is no chromosome."""
    window = np.full(WINDOW, 4, np.uint8)
    low, high = max(start, 0), min(start + WINDOW, len(codes))
    window[low - start : high - start] = codes[low:high]
    return torch.from_numpy(window)


def _other_strand(window: torch.Tensor) -> torch.Tensor:
    return torch.tensor([3, 2, 1, 0, 4], dtype=torch.uint8)[window.flip(0).long()]


def _by_hand(model: Any, codes: np.ndarray, start: int, end: int, **how: Any) -> np.ndarray:
    """Every bin from the window in whose output it stands, as the docstring has it."""
    head, both, shifts = how.get("head", "human"), how.get("both", False), how.get("shifts", (0,))
    partner = model.tables[head]["strand_pair"].to_numpy()
    n = -(-(end - start) // BIN)
    tiles = -(-n // BINS)
    before = (tiles * BINS - n) // 2
    found = []
    for tile in range(tiles):
        ways = []
        for shift in shifts:
            window = _window(codes, start + (tile * BINS - before - CROP) * BIN + shift)
            with torch.no_grad():
                ways.append(model.network(window[None])[head][0].numpy())
                if both:
                    back = model.network(_other_strand(window)[None])[head][0].numpy()
                    ways.append(back[::-1][:, partner])
        found.append(np.mean(ways, axis=0))
    return np.concatenate(found)[before : before + n]


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (5_000, 50_000),  # 15 tiles, read together in two lots
        (0, 10_000),  # the chromosome's start
        (LENGTH - 10_000, LENGTH),  # its end, with a bin that reaches beyond
        (0, LENGTH),
        (20_000, 20_000 + BINS * BIN),  # one output exactly
        (20_000, 21_000),  # in the middle of one
        (20_000, 20_001),
    ],
)
def test_bins_are_those_of_single_windows(track_model, genome, codes, start: int, end: int):
    found = glm.tl.predict_stretch(("chr1", start, end), track_model, genome=genome)
    expected = _by_hand(track_model, codes, start, end)
    assert found.X.dtype == np.float32
    assert expected.std(axis=0).min() > 0.05 or len(expected) < 10
    np.testing.assert_allclose(found.X, expected, rtol=RTOL)
    np.testing.assert_array_equal(found.obs["start"], start + BIN * np.arange(len(expected)))
    assert found.obs["enformer_ok"].all()


def test_other_strand(track_model, genome, codes):
    """Bins are turned around, and the two CAGE tracks of one sample change places."""
    options = {"genome": genome, "strand_average": True}
    found = glm.tl.predict_stretch(("chr1", 7_000, 40_000), track_model, **options)
    expected = _by_hand(track_model, codes, 7_000, 40_000, both=True)
    np.testing.assert_allclose(found.X, expected, rtol=RTOL)
    one = glm.tl.predict_stretch(("chr1", 7_000, 40_000), track_model, tracks=[1], **options)
    np.testing.assert_allclose(one.X[:, 0], expected[:, 1], rtol=RTOL)


def test_the_other_strand_of_the_genome_is_the_mirror_image(track_model, codes):
    """Where a stretch is a whole number of tiles, all windows are mirrored too."""
    n, start = 3 * BINS * BIN, 10_000
    back = np.array([3, 2, 1, 0, 4], np.uint8)[codes[::-1]]
    options = {"strand_average": True}
    one = glm.tl.predict_stretch(
        ("chr1", start, start + n), track_model, genome={"chr1": codes}, **options
    )
    mirrored = (LENGTH - start - n, LENGTH - start)
    other = glm.tl.predict_stretch(
        ("chr1", *mirrored), track_model, genome={"chr1": back}, **options
    )
    pair = track_model.tables["human"]["strand_pair"].to_numpy()
    np.testing.assert_allclose(other.X[::-1][:, pair], one.X, rtol=RTOL)


def test_shifts(track_model, genome, codes):
    shifts = (-3, 0, 5)
    found = glm.tl.predict_stretch(
        ("chr1", 7_000, 20_000), track_model, genome=genome, shifts=shifts, strand_average=True
    )
    expected = _by_hand(track_model, codes, 7_000, 20_000, both=True, shifts=shifts)
    np.testing.assert_allclose(found.X, expected, rtol=RTOL)


def test_tracks_and_head(track_model, genome, codes):
    found = glm.tl.predict_stretch(
        "chr1:7,000-20,000", track_model, genome=genome, tracks=["EN4", "CAGE"]
    )
    expected = _by_hand(track_model, codes, 7_000, 20_000)
    np.testing.assert_allclose(found.X, expected[:, [4, 0, 1]], rtol=RTOL)
    assert found.var_names.tolist() == ["4:EN4", "0:CN1+", "1:CN1-"]
    assert found.var["track"].tolist() == [4, 0, 1]
    assert found.var["assay"].tolist() == ["CHIP", "CAGE", "CAGE"]
    mouse = glm.tl.predict_stretch(
        "chr1:7,000-20,000", track_model, genome=genome, organism="mouse"
    )
    expected = _by_hand(track_model, codes, 7_000, 20_000, head="mouse")
    np.testing.assert_allclose(mouse.X, expected, rtol=RTOL)
    assert mouse.uns["stretch_enformer"]["organism"] == "mouse"


def test_the_object_is_read_as_regions_and_written(track_model, codes, tmp_path: Path):
    import anndata

    genome = glm.Genome({"chr1": codes}, name="made-up")
    found = glm.tl.predict_stretch("chr1:7,000-20,000", track_model, genome=genome)
    located = glm.locate.regions_of(found)
    assert (located.axis, located.genome) == ("obs", "made-up")
    assert set(located.regions.lengths) == {BIN}
    record = found.uns["stretch_enformer"]
    assert record["function"] == "glm.tl.predict_stretch"
    assert record["region"] == "chr1:7,000-20,000"
    assert record["genome_fingerprint"] == genome.fingerprint()
    assert (record["n_bins"], record["n_windows"], record["n_tracks"]) == (102, 5, 6)
    found.write_h5ad(tmp_path / "a.h5ad")
    again = anndata.read_h5ad(tmp_path / "a.h5ad")
    np.testing.assert_array_equal(again.X, found.X)
    pd.testing.assert_frame_equal(again.obs, found.obs)
    assert again.var["identifier"].tolist() == found.var["identifier"].tolist()


def test_ways_to_name_a_stretch(track_model, genome):
    asked = [
        ("chr2", 100, 500),
        ("2", 100, 500),
        "chr2:100-500",
        glm.Regions.of(["chr2"], [100], [500], [-1]),
    ]
    options: dict[str, Any] = {"genome": genome, "tracks": [0], "max_n_share_window": 1.0}
    found = [glm.tl.predict_stretch(region, track_model, **options) for region in asked]
    for each in found[1:]:
        np.testing.assert_array_equal(each.X, found[0].X)
        pd.testing.assert_frame_equal(each.obs, found[0].obs)
    whole = glm.tl.predict_stretch("2", track_model, **options)
    assert whole.obs["start"].tolist() == [0, 128, 256, 384, 512]
    assert whole.obs["chrom"].unique().tolist() == ["chr2"]


# ---- bases that are not known --------------------------------------------------------------------


def test_unknown_bases(track_model, codes):
    """A bin of which more than a tenth is N is NaN; the others are what the model makes of N."""
    start, end = 10_000, 40_000
    known = codes.copy()
    known[20_000:24_000] = 4
    known[start + 10 * BIN : start + 10 * BIN + 12] = 4  # 9% of a bin
    known[start + 20 * BIN : start + 20 * BIN + 13] = 4  # 10.2%
    with pytest.warns(glm.GlmWarning, match=r"33 of 235 \(14%\) bins are not predicted .*NaN"):
        found = glm.tl.predict_stretch(
            ("chr1", start, end), track_model, genome={"chr1": known}, max_n_share_window=1.0
        )
    n_share = (known[start : start + 235 * BIN].reshape(-1, BIN) == 4).mean(axis=1)
    np.testing.assert_allclose(found.obs["n_share"], n_share, rtol=1e-6)
    ok = n_share <= 0.1
    np.testing.assert_array_equal(found.obs["enformer_ok"], ok)
    expected = _by_hand(track_model, known, start, end)
    np.testing.assert_allclose(found.X[ok], expected[ok], rtol=RTOL)
    assert np.isnan(found.X[~ok]).all()


def test_windows_of_which_little_is_known(track_model, codes):
    known = codes.copy()
    known[20_000:30_000] = 4
    options = {"genome": {"chr1": known}, "max_n_share": 1.0}
    with pytest.warns(glm.GlmWarning, match="not predicted"):
        found = glm.tl.predict_stretch(("chr1", 10_000, 40_000), track_model, **options)
    share = found.obs["window_n_share"].to_numpy()
    assert share.max() > 0.9
    np.testing.assert_array_equal(found.obs["enformer_ok"], share <= 0.5)
    whole = glm.tl.predict_stretch(
        ("chr1", 10_000, 40_000), track_model, max_n_share_window=1.0, **options
    )
    assert np.isfinite(whole.X).all()
    ok = found.obs["enformer_ok"].to_numpy()
    np.testing.assert_allclose(found.X[ok], whole.X[ok], rtol=RTOL)


def test_beyond_the_chromosome_counts_as_no_base_of_a_bin(track_model, genome):
    """The last bin has 18 bases of 128 on the chromosome, all known."""
    found = glm.tl.predict_stretch(("chr1", LENGTH - 1_042, LENGTH), track_model, genome=genome)
    assert found.obs["end"].iloc[-1] == LENGTH + 110
    assert found.obs["n_share"].max() == 0
    assert np.isfinite(found.X).all()


# ---- long stretches ------------------------------------------------------------------------------


def test_out_gives_the_same_bits_and_stays_on_the_disk(track_model, genome, tmp_path: Path):
    region = ("chr1", 5_000, 50_000)
    held = glm.tl.predict_stretch(region, track_model, genome=genome)
    kept = glm.tl.predict_stretch(region, track_model, genome=genome, out=tmp_path / "run")
    np.testing.assert_array_equal(kept.X, held.X)
    bases, array = [], kept.X
    while array is not None:
        bases.append(type(array))
        array = getattr(array, "base", None)
    assert np.memmap in bases
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "manifest.json",
        "tracks.npy",
    ]


def test_a_finished_folder_answers_at_once(track_model, genome, tmp_path: Path, monkeypatch):
    options: dict[str, Any] = {"genome": genome, "out": tmp_path / "run"}
    first = glm.tl.predict_stretch(("chr1", 5_000, 20_000), track_model, **options)
    monkeypatch.setattr(FastEnformer, "predict_shifted", None)
    again = glm.tl.predict_stretch(("chr1", 5_000, 20_000), track_model, **options)
    np.testing.assert_array_equal(again.X, first.X)


@pytest.mark.faults
@pytest.mark.parametrize("after", [0, 3, 8, 12])
def test_interrupted(track_model, genome, tmp_path: Path, monkeypatch, after: int):
    """Tiles that were read together and done are not read again; the bits are the same."""
    region = ("chr1", 5_000, 50_000)  # 15 tiles: 8 and 7
    whole = glm.tl.predict_stretch(region, track_model, genome=genome)
    real = FastEnformer.predict_shifted
    seen = {"tiles": 0, "most": after}

    def stopped(self, *args, **kwargs):
        for found in real(self, *args, **kwargs):
            if seen["tiles"] == seen["most"]:
                raise KeyboardInterrupt
            seen["tiles"] += 1
            yield found

    monkeypatch.setattr(FastEnformer, "predict_shifted", stopped)
    with pytest.raises(KeyboardInterrupt):
        glm.tl.predict_stretch(region, track_model, genome=genome, out=tmp_path / "run")
    seen.update(tiles=0, most=-1)
    again = glm.tl.predict_stretch(region, track_model, genome=genome, out=tmp_path / "run")
    assert seen["tiles"] == (15 if after < 8 else 7)
    np.testing.assert_array_equal(again.X, whole.X)


@pytest.mark.parametrize(
    "changed",
    [{"tracks": [0]}, {"region": ("chr1", 5_001, 20_000)}, {"shifts": (1,)}, {"max_n_share": 0.2}],
    ids=["tracks", "region", "shifts", "share"],
)
def test_a_folder_of_another_run_is_refused(track_model, genome, tmp_path: Path, changed):
    call = {"region": ("chr1", 5_000, 20_000), "model": track_model, "genome": genome}
    glm.tl.predict_stretch(**call, out=tmp_path / "run")
    with pytest.raises(ValueError, match=r"another run|differ|other"):
        glm.tl.predict_stretch(**{**call, **changed}, out=tmp_path / "run")


def test_what_memory_may_not_hold_is_refused_before_it_is_computed(
    track_model, genome, monkeypatch
):
    monkeypatch.setattr("glm.tl._predict_stretch.MOST_BYTES", 1_000)
    with pytest.raises(ValueError, match=r"102 bins × 6 tracks take .* GB.*out="):
        glm.tl.predict_stretch("chr1:7,000-20,000", track_model, genome=genome)


def test_memory_does_not_grow_with_the_stretch(track_model, genome, tmp_path: Path, monkeypatch):
    """With ``out`` what is held at once is what is read together, whatever the number of tiles."""
    from glm.engine import shards

    sizes: list[int] = []
    real = shards.WorkFolder.write

    def write(self, number, saved):
        sizes.append(sum(array.nbytes for array in saved.state.values()))
        real(self, number, saved)

    monkeypatch.setattr(shards.WorkFolder, "write", write)
    glm.tl.predict_stretch("chr1", track_model, genome=genome, out=tmp_path / "run")
    gc.collect()
    assert len(sizes) == 3  # 470 bins: 20 tiles, 7 at once
    assert max(sizes) < 7 * BINS * 6 * 4 + 200


# ---- bigWig files --------------------------------------------------------------------------------


def test_another_library_reads_the_bigwigs(track_model, codes, tmp_path: Path):
    pytest.importorskip("pybigtools", reason="the extra tracks is not installed")
    pyBigWig = pytest.importorskip("pyBigWig", reason="pyBigWig reads what is written")
    known = codes.copy()
    known[30_000:34_000] = 4
    start, end = LENGTH - 35_000, LENGTH
    with pytest.warns(glm.GlmWarning, match="not predicted"):
        found = glm.tl.predict_stretch(
            ("chr1", start, end),
            track_model,
            genome={"chr1": known, "chr2": "ACGT"},
            tracks=[4, 0],
            bigwig=tmp_path / "bw",
        )
    assert sorted(path.name for path in (tmp_path / "bw").iterdir()) == ["0_CN1+.bw", "4_EN4.bw"]
    ok = found.obs["enformer_ok"].to_numpy()
    for column, name in enumerate(["4_EN4.bw", "0_CN1+.bw"]):
        with pyBigWig.open(str(tmp_path / "bw" / name)) as file:
            assert file.chroms() == {"chr1": LENGTH}
            intervals = file.intervals("chr1")
        assert [low for low, _, _ in intervals] == found.obs["start"][ok].tolist()
        assert [high for _, high, _ in intervals] == np.minimum(
            found.obs["end"][ok], LENGTH
        ).tolist()
        values = np.array([value for _, _, value in intervals], np.float32)
        np.testing.assert_array_equal(values, found.X[ok, column])
    again = glm.io.read_bigwig(
        tmp_path / "bw" / "4_EN4.bw", ("chr1", start, start + 99 * BIN), bin_bp=BIN, missing=np.nan
    )
    np.testing.assert_array_equal(again, found.X[:99, 0])


def test_names_of_files():
    assert file_name(41, "ENCFF833POA") == "41_ENCFF833POA.bw"
    assert file_name(7, "../H3K27ac / K 562") == "7_H3K27ac_K_562.bw"
    assert file_name(7, "///") == "7.bw"
    assert len(file_name(7, "x" * 500)) < 100


# ---- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("region", "error", "message"),
    [
        (("chr1", -1, 500), ValueError, r"reaches beyond chr1, which has 60,050 .*chr1:0-500"),
        (("chr1", 60_000, 60_051), ValueError, "reaches beyond chr1"),
        (("chr9", 0, 500), ValueError, "'chr9'"),
        (("chr1", 500, 500), ValueError, "no bases"),
        (("chr1", 600, 500), ValueError, "no bases"),
        (("chr1", 0.5, 500), ValueError, "whole numbers"),
        (("chr1", True, 500), ValueError, "whole numbers"),
        (5, TypeError, "region is 5"),
        (glm.Regions.of(["chr1"] * 2, [0, 9], [5, 20]), ValueError, "2 regions; a stretch is one"),
    ],
)
def test_refused_regions(track_model, genome, region, error, message: str):
    with pytest.raises(error, match=message):
        glm.tl.predict_stretch(region, track_model, genome=genome)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"genome": None}, ValueError, "say of which genome"),
        ({"tracks": "RNA"}, KeyError, "RNA"),
        ({"organism": "fly"}, KeyError, "fly"),
        ({"shifts": (65,)}, ValueError, "at most 64"),
        ({"max_n_share": 2}, ValueError, "max_n_share is 2"),
        ({"precision": "bfloat16"}, ValueError, "'mixed'"),
        ({"device": "gpu"}, ValueError, "no device 'gpu'"),
        ({"key_added": "a/b"}, ValueError, "'a/b'"),
        ({"model": "grover-tiny"}, ValueError, "predicts no tracks"),
    ],
)
def test_refused_options(track_model, genome, options, error, message: str):
    call: dict[str, Any] = {"model": track_model, "genome": genome}
    with pytest.raises(error, match=message):
        glm.tl.predict_stretch(("chr1", 0, 5_000), **{**call, **options})


def test_nothing_is_known(track_model):
    with pytest.raises(ValueError, match="Nothing of chr1:0-9,000 can be predicted"):
        glm.tl.predict_stretch("chr1", track_model, genome={"chr1": "N" * 9_000})


def test_mixed_precision(track_model, genome, codes):
    """As the executor gives it for single windows; how near that is to float32 is tested there."""
    start, end = 7_000, 7_000 + 2 * BINS * BIN
    found = glm.tl.predict_stretch(
        ("chr1", start, end), track_model, genome=genome, precision="mixed"
    )
    assert found.uns["stretch_enformer"]["precision"] == "mixed"
    fast = FastEnformer(track_model.network, precision="mixed")
    windows = [_window(codes, start + (tile * BINS - CROP) * BIN) for tile in range(2)]
    expected = [fast.predict(window[None])["human"][0].numpy() for window in windows]
    np.testing.assert_allclose(found.X, np.concatenate(expected), rtol=1e-3)
