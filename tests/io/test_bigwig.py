"""bigWig files: what is written is read by another library, and the other way round."""

from __future__ import annotations

import builtins
import math
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import glm

pybigtools = pytest.importorskip("pybigtools", reason="the extra tracks is not installed")
# The oracle is another implementation (libBigWig, in C); it has no wheels for Windows.
pyBigWig = pytest.importorskip("pyBigWig", reason="pyBigWig reads what is written here")

SIZES = {"chr2": 3_000, "chr10": 5_077, "chr1": 1_000}


def _scattered(rng: np.random.Generator, n: int = 400) -> tuple[glm.Regions, np.ndarray]:
    """Intervals of all lengths with gaps between some, on three chromosomes, shuffled."""
    chrom, start, end = [], [], []
    for name, length in SIZES.items():
        cuts = np.unique(rng.integers(0, length + 1, n // 2))
        kept = rng.random(len(cuts) - 1) < 0.7
        chrom += [name] * int(kept.sum())
        start += cuts[:-1][kept].tolist()
        end += cuts[1:][kept].tolist()
    order = rng.permutation(len(chrom))
    placed = ([column[i] for i in order] for column in (chrom, start, end))
    regions = glm.Regions.of(*placed)
    return regions, rng.normal(size=len(chrom)).astype(np.float32)


def _by_base(regions: glm.Regions, values: np.ndarray) -> dict[str, np.ndarray]:
    found = {name: np.full(length, np.nan) for name, length in SIZES.items()}
    for (chrom, start, end, _), value in zip(regions, values, strict=True):
        found[chrom][start:end] = value
    return found


@pytest.fixture
def scattered(tmp_path: Path):
    regions, values = _scattered(np.random.default_rng(3))
    path = glm.io.write_bigwig(tmp_path / "a.bw", regions, values, chrom_sizes=SIZES)
    return path, _by_base(regions, values)


def test_another_library_reads_what_is_written(scattered):
    path, expected = scattered
    with pyBigWig.open(str(path)) as file:
        assert file.isBigWig()
        assert file.chroms() == SIZES
        for chrom, bases in expected.items():
            found = file.values(chrom, 0, SIZES[chrom], numpy=True)
            np.testing.assert_array_equal(found, bases.astype(np.float32))
        assert file.header()["nBasesCovered"] == sum(
            int((~np.isnan(bases)).sum()) for bases in expected.values()
        )


def test_zoom_levels_say_what_the_data_say(tmp_path: Path):
    """Of as many bins as a chromosome has; a browser reads nothing else when it is zoomed out."""
    rng = np.random.default_rng(0)
    start = np.arange(50_000) * 128
    values = rng.random(len(start)).astype(np.float32)
    regions = glm.Regions.of(["chr1"] * len(start), start, start + 128)
    path = glm.io.write_bigwig(
        tmp_path / "z.bw", regions, values, chrom_sizes={"chr1": 50_000 * 128 + 5}
    )
    with pyBigWig.open(str(path)) as file:
        assert file.header()["nLevels"] > 0
        coarse = file.stats("chr1", 0, 50_000 * 128, nBins=5)
    np.testing.assert_allclose(coarse, values.reshape(5, -1).mean(axis=1), rtol=2e-3)


def test_reads_what_another_library_wrote(tmp_path: Path):
    path = tmp_path / "other.bw"
    values = np.random.default_rng(1).random(100).astype(np.float32)
    with pyBigWig.open(str(path), "w") as file:
        file.addHeader([("chr1", 20_000)])
        file.addEntries("chr1", 128, values=values, span=128, step=128)
    found = glm.io.read_bigwig(path, ("chr1", 0, 128 * 102), bin_bp=128)
    np.testing.assert_array_equal(found, np.concatenate([[0], values, [0]]).astype(np.float32))
    assert found.dtype == np.float32


@pytest.mark.parametrize("statistic", ["mean", "sum", "max"])
@pytest.mark.parametrize("missing", [0.0, math.nan, -1.5], ids=["zero", "nan", "number"])
@pytest.mark.parametrize("bin_bp", [None, 1, 7, 128])
def test_bins_are_those_of_the_bases(scattered, statistic: str, missing: float, bin_bp: int | None):
    """Over the chromosome's ends too; every number from the bases one by one."""
    path, bases = scattered
    size = bin_bp or 1
    for chrom, length in SIZES.items():
        for start in (-3 * size - 2, 11, length - 5 * size - 3):
            n = 9
            inside = np.full(n * size, missing)
            at = np.arange(start, start + n * size)
            there = (at >= 0) & (at < length)
            inside[there] = np.nan_to_num(bases[chrom][at[there]], nan=missing)
            expected = [
                getattr(known, statistic)() if (known := part[~np.isnan(part)]).size else np.nan
                for part in inside.reshape(n, size)
            ]
            found = glm.io.read_bigwig(
                path,
                (chrom, start, start + n * size),
                bin_bp=bin_bp,
                statistic=statistic,
                missing=missing,
            )
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_regions_are_rows(scattered):
    path, bases = scattered
    regions = glm.Regions.of(["10", "chr2", "chr10"], [0, 100, 700], [300, 400, 1000], [1, -1, 0])
    found = glm.io.read_bigwig(path, regions, bin_bp=100, missing=math.nan)
    assert found.shape == (3, 3)
    for row, (chrom, start, end, _) in enumerate(regions):
        own = bases["chr10" if chrom == "10" else chrom][start:end].reshape(3, 100)
        expected = [
            part[~np.isnan(part)].mean() if np.isfinite(part).any() else np.nan for part in own
        ]
        np.testing.assert_allclose(found[row], expected, rtol=1e-6)


def test_nan_is_left_out(tmp_path: Path):
    regions = glm.Regions.of(["chr1"] * 3, [0, 10, 20], [10, 20, 30])
    path = glm.io.write_bigwig(tmp_path / "n.bw", regions, [1, np.nan, 0], chrom_sizes=SIZES)
    with pyBigWig.open(str(path)) as file:
        assert file.intervals("chr1") == ((0, 10, 1.0), (20, 30, 0.0))
    found = glm.io.read_bigwig(path, ("chr1", 0, 40), bin_bp=10, missing=math.nan)
    np.testing.assert_array_equal(found, [1, np.nan, 0, np.nan])


def test_a_genome_gives_the_sizes(tmp_path: Path):
    genome = glm.Genome({"chr1": "ACGT" * 10, "chr2": "GG"})
    regions = glm.Regions.of(["1"], [0], [40])
    path = glm.io.write_bigwig(tmp_path / "g.bw", regions, [2.0], chrom_sizes=genome)
    with pyBigWig.open(str(path)) as file:
        assert file.chroms() == {"chr1": 40}


@pytest.mark.parametrize("name", ["a.bw", "a.BigWig", "ENCFF000", "a b ü.bigWig"])
def test_any_name_will_do(tmp_path: Path, name: str):
    regions = glm.Regions.of(["chr1"], [0], [40])
    path = glm.io.write_bigwig(tmp_path / "new" / name, regions, [2.0], chrom_sizes=SIZES)
    assert [file.name for file in path.parent.iterdir()] == [name]
    assert glm.io.read_bigwig(path, ("chr1", 0, 40), bin_bp=40).tolist() == [2.0]


def test_a_chromosome_without_values_is_missing(scattered, tmp_path: Path):
    regions = glm.Regions.of(["chr1"], [0], [40])
    path = glm.io.write_bigwig(tmp_path / "one.bw", regions, [2.0], chrom_sizes=SIZES)
    both = glm.Regions.of(["chr1", "chr2"], [0, 0], [40, 40])
    with pytest.warns(glm.GlmWarning, match=r"no values on 1 of 2 \(50%\) chromosomes \(chr2\)"):
        found = glm.io.read_bigwig(path, both, bin_bp=40)
    assert found.tolist() == [[2.0], [0.0]]


# ---- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("regions", "options", "message"),
    [
        (("chrX", 0, 10), {}, r"values on 'chr1', 'chr10', 'chr2', and on none .*'chrX'"),
        (("chr1", 2_000, 2_010), {}, "chr1:2,000-2,010 lies beyond chr1, which has 1,000 bases"),
        (("chr1", -20, -10), {}, "lies beyond chr1"),
        (("chr1", 10, 10), {}, "have no bases"),
        (("chr1", 20, 10), {}, "have no bases"),
        (("chr1", 0.5, 10), {}, "starts are none.*0.5"),
        (("chr1", 0, 100), {"bin_bp": 30}, "100 bases, which are no whole number of bins of 30"),
        (("chr1", 0, 100), {"bin_bp": 0}, "bin_bp is 0"),
        (("chr1", 0, 100), {"statistic": "median"}, "statistic is 'median'"),
        (("chr1", 0, 100), {"missing": math.inf}, "missing is inf"),
        (glm.Regions.of(["chr1"] * 2, [0, 0], [5, 6]), {}, "5 to 6 bases; expected all as long"),
        (glm.Regions.of([], [], []), {}, "no regions"),
    ],
)
def test_refused_regions(scattered, regions, options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        glm.io.read_bigwig(scattered[0], regions, **options)


def test_refused_kinds(scattered):
    with pytest.raises(TypeError, match=r"expected glm\.Regions, or one region"):
        glm.io.read_bigwig(scattered[0], "chr1")
    with pytest.raises(TypeError, match=r"expected glm\.Regions"):
        glm.io.write_bigwig("a.bw", ("chr1", 0, 10), [1.0], chrom_sizes=SIZES)
    with pytest.raises(TypeError, match="chrom_sizes is a str"):
        glm.io.write_bigwig("a.bw", glm.Regions.of(["1"], [0], [1]), [1.0], chrom_sizes="hg38")


@pytest.mark.parametrize("kept", [0, 10, 300, 0.2, "text", "bigbed"])
def test_files_that_are_none(scattered, tmp_path: Path, kept):
    path, content = tmp_path / "broken.bw", scattered[0].read_bytes()
    if kept == "text":
        path.write_text("chr1\t0\t10\t1.5\n" * 100)
    elif kept == "bigbed":  # the number that says what kind it is
        path.write_bytes(b"\xeb\xf2\x89\x87" + content[4:])
    else:
        path.write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    with pytest.raises(OSError, match=r"broken\.bw"):
        glm.io.read_bigwig(path, ("chr1", 0, 1_000), bin_bp=10)


def test_no_file(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        glm.io.read_bigwig(tmp_path / "none.bw", ("chr1", 0, 10))


@pytest.mark.parametrize(
    ("rows", "values", "message"),
    [
        ([("chr1", -1, 5)], [1.0], r"1 region of 1 reach beyond .*chr1:-1-5 .*1,000 bases"),
        ([("chr1", 995, 1_005)], [1.0], "reach beyond"),
        ([("chrX", 0, 5)], [1.0], "'chrX'.*'chr2', 'chr10', 'chr1'"),
        ([("chr1", 0, 5)], [math.inf], "values are infinite"),
        ([("chr1", 0, 5)], [1e300], "beyond what float32 holds"),
        ([("chr1", 0, 5)], [math.nan], "All values are NaN"),
        ([("chr1", 0, 5)], [1.0, 2.0], "expected 1 numbers"),
        ([("chr1", 0, 5)], ["a"], "expected 1 numbers"),
        ([("chr1", 0, 5), ("chr2", 0, 9), ("chr1", 4, 9)], [1, 2, 3], "1 region of 3 overlap"),
    ],
)
def test_refused_values(tmp_path: Path, rows, values, message: str):
    before = tmp_path / "a.bw"
    before.write_bytes(b"as it was")
    regions = glm.Regions.of(*([row[i] for row in rows] for i in range(3)))
    with pytest.raises(ValueError, match=message):
        glm.io.write_bigwig(before, regions, values, chrom_sizes=SIZES)
    assert before.read_bytes() == b"as it was"
    assert list(tmp_path.iterdir()) == [before]


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    found = builtins.__import__

    def without(name: str, *args, **kwargs):
        if name == "pybigtools":
            raise ImportError(name)
        return found(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    regions = glm.Regions.of(["chr1"], [0], [40])
    with pytest.raises(ImportError, match=r'pip install "genomic-lm\[tracks\]"'):
        glm.io.write_bigwig(tmp_path / "a.bw", regions, [2.0], chrom_sizes=SIZES)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ImportError, match="tracks"):
        glm.io.read_bigwig(tmp_path / "a.bw", ("chr1", 0, 10))


# ---- what goes wrong while writing ---------------------------------------------------------------

_WRITE = """
import signal, sys, numpy as np, glm
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
start = np.arange(int(sys.argv[2])) * 128
values = np.random.default_rng(0).random(len(start))
regions = glm.Regions.of(["chr1"] * len(start), start, start + 128)
print("begins", flush=True)
glm.io.write_bigwig(sys.argv[1], regions, values, chrom_sizes={"chr1": len(start) * 128})
"""


@pytest.mark.faults
@pytest.mark.skipif(sys.platform == "win32", reason="limits of processes")
def test_a_full_disk(tmp_path: Path):
    path = tmp_path / "a.bw"
    path.write_bytes(b"as it was")

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    done = subprocess.run(
        [sys.executable, "-c", _WRITE, str(path), "300000"],
        capture_output=True,
        text=True,
        preexec_fn=limit,
        check=False,
    )
    assert done.returncode == 1
    assert "OSError" in done.stderr
    assert "Is the disk full" in done.stderr
    assert path.read_bytes() == b"as it was"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.faults
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_interrupted(tmp_path: Path):
    """The writer crashes where an exception is raised among its rows: none may be."""
    path = tmp_path / "a.bw"
    begun = subprocess.Popen(
        [sys.executable, "-c", _WRITE, str(path), "3000000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert begun.stdout is not None
    assert begun.stdout.readline() == "begins\n"
    deadline = time.monotonic() + 60
    while not any(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.01)
    begun.send_signal(signal.SIGINT)
    _, errors = begun.communicate(timeout=60)
    assert "KeyboardInterrupt" in errors
    assert begun.returncode in (1, -signal.SIGINT, 130)
    assert list(tmp_path.iterdir()) == []
