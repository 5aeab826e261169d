"""Faults of stretches, of expression and of bigWig files; numbers are rows of the catalogue."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import torch

import glm
from glm.models.fast.enformer import FastEnformer

pytestmark = pytest.mark.faults

LENGTH = 60_050
BIN = 128


@pytest.fixture(scope="module")
def codes() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 4, LENGTH).astype(np.uint8)


@pytest.fixture
def options(track_model, codes) -> dict[str, Any]:
    return {"model": track_model, "genome": glm.Genome({"chr1": codes})}


@pytest.fixture
def gene(tmp_path: Path) -> Callable[..., tuple[anndata.AnnData, Path]]:
    """An object of one gene, and the annotation that says where it starts."""

    def make(chrom: str, start: int, end: int) -> tuple[anndata.AnnData, Path]:
        path = tmp_path / "genes.gtf"
        attributes = 'gene_id "ENSG00000000001"; transcript_id "T";'
        path.write_text(f"{chrom}\tx\ttranscript\t{start + 1}\t{end}\t.\t+\t.\t{attributes}\n")
        var = pd.DataFrame(index=["ENSG00000000001"])
        return anndata.AnnData(np.ones((2, 1), np.float32), var=var), path

    return make


# ---- 47: names of chromosomes --------------------------------------------------------------------


def test_047_other_spellings(options):
    found = [
        glm.tl.predict_stretch((name, 5_000, 9_000), tracks=[0], **options).X
        for name in ("chr1", "1", "Chr1")
    ]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_047_no_such_chromosome(options, refuses, gene):
    stretch = glm.tl.predict_stretch
    refuses(stretch, None, ValueError, "'chr7'.*'chr1'", region=("chr7", 0, 500), **options)
    adata, gtf = gene("chr7", 0, 500)
    call = {**options, "gtf": gtf, "tracks": "CAGE"}
    refuses(glm.tl.predict_expression, adata, ValueError, "'chr7'.*'chr1'", **call)


# ---- 49, 50, 51: stretches that are none ---------------------------------------------------------


@pytest.mark.parametrize("start", [-1, -128, -10_000])
def test_049_before_the_chromosome(options, refuses, start: int):
    message = "reaches beyond chr1, which has 60,050 bases: ask for what is on it .*chr1:0-9,000"
    region = ("chr1", start, 9_000)
    refuses(glm.tl.predict_stretch, None, ValueError, message, region=region, **options)


@pytest.mark.parametrize("end", [LENGTH + 1, 2 * LENGTH])
def test_050_beyond_the_chromosome(options, refuses, end: int):
    message = "reaches beyond chr1.*chr1:50,000-60,050"
    region = ("chr1", 50_000, end)
    refuses(glm.tl.predict_stretch, None, ValueError, message, region=region, **options)


def test_050_windows_are_padded_and_say_so(options):
    found = glm.tl.predict_stretch("chr1", tracks=[0], **options)
    share = found.obs["window_n_share"].to_numpy()
    assert share[0] > 0
    assert share[-1] > 0
    assert (share[100:-100] == 0).all()
    assert np.isfinite(found.X).all()


def test_050_a_start_site_beyond_the_chromosome(options, gene, refuses):
    adata, gtf = gene("chr1", LENGTH + 10, LENGTH + 500)
    call = {**options, "gtf": gtf, "tracks": "CAGE"}
    refuses(glm.tl.predict_expression, adata, ValueError, "beyond their chromosome.*genome", **call)


@pytest.mark.parametrize(
    ("region", "message"),
    [
        (("chr1", 500, 500), "no bases"),
        (("chr1", 501, 500), "no bases"),
        (("chr1", 0.5, 500), "whole numbers"),
        ("chr1:500-500", "no bases"),
        ("chr1:a-b", "chr1:a-b"),
    ],
)
def test_051_no_stretch(options, refuses, region, message: str):
    refuses(glm.tl.predict_stretch, None, ValueError, message, region=region, **options)


# ---- 60: lengths that are no whole number of bins ------------------------------------------------


@pytest.mark.parametrize("length", [1, 127, 128, 129, 24 * 128 - 1, 24 * 128, 24 * 128 + 1])
def test_060_any_length(options, length: int):
    found = glm.tl.predict_stretch(("chr1", 9_000, 9_000 + length), tracks=[0], **options)
    assert found.n_obs == -(-length // BIN)
    assert found.obs["end"].iloc[-1] >= 9_000 + length
    assert np.isfinite(found.X).all()


# ---- 91, 95, 98: what cannot be computed ---------------------------------------------------------


def test_098_nothing_known_in_between(options, codes):
    """NaN only there; tiles without a known base are not even read."""
    known = codes.copy()
    known[20_000:40_000] = 4
    call = {**options, "genome": {"chr1": known}, "max_n_share_window": 1.0}
    with pytest.warns(glm.GlmWarning, match=r"bins are not predicted and are NaN \(chr1:"):
        found = glm.tl.predict_stretch("chr1", **call)
    assert found.uns["stretch_enformer"]["n_windows"] < 20
    ok = found.obs["enformer_ok"].to_numpy()
    np.testing.assert_array_equal(np.isfinite(found.X).all(axis=1), ok)
    np.testing.assert_array_equal(ok, found.obs["n_share"] <= 0.1)


def test_095_devices(options, refuses):
    call = {**options, "region": ("chr1", 0, 500)}
    refuses(glm.tl.predict_stretch, None, TypeError, "'mps' is not supported", device="mps", **call)
    refuses(glm.tl.predict_stretch, None, ValueError, "no CUDA|of CUDA", device="cuda:7", **call)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_091_outputs_that_are_not_finite(options, track_model, value: float):
    """In one track of them all."""
    network = type(track_model.network)(track_model.network.config).eval()
    network.load_state_dict(track_model.network.state_dict())
    network.heads["human"].bias.data[2] = value
    model = dataclasses.replace(track_model, network=network)
    with pytest.warns(glm.GlmWarning, match=r"7 of 7 .*: 7 came out of the model not finite\."):
        found = glm.tl.predict_stretch(("chr1", 5_000, 5_800), **{**options, "model": model})
    assert not found.obs["enformer_ok"].any()


def test_096_memory_runs_out_on_tiles(options, tmp_path: Path):
    """Windows are read one by one, so there is nothing smaller to try; what was done is kept."""
    expected = glm.tl.predict_stretch("chr1", **options).X
    run, left = FastEnformer.predict_shifted, [1]

    def less_and_less(self, *args, **further):
        left[0] -= 1
        if left[0] < 0:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return run(self, *args, **further)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FastEnformer, "predict_shifted", less_and_less)
        said = r"single row of tiles, [\d,]+ bases \(row 1\).*out= before is kept"
        with pytest.raises(RuntimeError, match=said):
            glm.tl.predict_stretch("chr1", out=tmp_path / "out", **options)
    assert len(list((tmp_path / "out" / "shards").glob("*.npz"))) == 1
    again = glm.tl.predict_stretch("chr1", out=tmp_path / "out", **options).X
    np.testing.assert_array_equal(again, expected)


# ---- 104, 105: a process that is ended -----------------------------------------------------------

_RUN = """
import signal, sys, torch, numpy as np, glm
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
torch.set_num_threads(1)
codes = np.random.default_rng(0).integers(0, 4, 400_000).astype(np.uint8)
glm.tl.predict_stretch("chr1", sys.argv[1], genome={"chr1": codes}, out=sys.argv[2])
"""


@pytest.fixture(scope="module")
def whole(track_model) -> tuple[glm.Genome, np.ndarray]:
    """What an uninterrupted run gives, with as many threads as the others have."""
    genome = glm.Genome({"chr1": np.random.default_rng(0).integers(0, 4, 400_000).astype("u1")})
    return genome, glm.tl.predict_stretch("chr1", track_model, genome=genome).X


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_104_ended_and_run_again(track_model, whole, tmp_path: Path, how: str):
    genome, expected = whole
    model, out = tmp_path / "model", tmp_path / "out"
    track_model.save(model)
    command = [sys.executable, "-c", _RUN, str(model), str(out)]
    begun = subprocess.Popen(command, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and len(list((out / "shards").glob("*.npz"))) < 3:
        assert begun.poll() is None, begun.communicate()[1].decode()
        time.sleep(0.005)
    begun.send_signal(getattr(signal, how))
    begun.communicate(timeout=60)
    assert begun.returncode != 0
    kept = len(list((out / "shards").glob("*.npz")))
    assert 3 <= kept < 17  # 131 tiles, 8 at once
    told: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        real = FastEnformer.predict_shifted
        patch.setattr(
            FastEnformer, "predict_shifted", lambda *a, **k: told.append(1) or real(*a, **k)
        )
        again = glm.tl.predict_stretch("chr1", model, genome=genome, out=out)
    assert len(told) == 17 - kept
    np.testing.assert_array_equal(again.X, expected)
    assert not (out / "shards").exists()


# ---- 107: going on with something else -----------------------------------------------------------


def test_107_another_genome_or_weights(options, codes, track_model, refuses, tmp_path: Path):
    call = {**options, "region": ("chr1", 5_000, 9_000), "out": tmp_path / "out"}
    glm.tl.predict_stretch(**call)
    changed = codes.copy()
    changed[7_000] = (changed[7_000] + 1) % 4
    other = {**call, "genome": glm.Genome({"chr1": changed})}
    refuses(glm.tl.predict_stretch, None, ValueError, "genome", **other)
    network = type(track_model.network)(track_model.network.config)
    network.load_state_dict(track_model.network.state_dict())
    network.heads["human"].bias.data += 1
    weights = {**call, "model": dataclasses.replace(track_model, network=network.eval())}
    refuses(glm.tl.predict_stretch, None, ValueError, "weights", **weights)


def test_107_a_folder_that_holds_something_else(options, refuses, tmp_path: Path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    call = {**options, "region": ("chr1", 5_000, 9_000)}
    stretch = glm.tl.predict_stretch
    refuses(stretch, None, ValueError, "something else", out=tmp_path / "mine", **call)
    file = tmp_path / "mine" / "notes.txt"
    refuses(stretch, None, ValueError, "is a file", out=file, **call)
    refuses(stretch, None, ValueError, "is a file; expected a folder", bigwig=file, **call)


# ---- 110: results larger than memory -------------------------------------------------------------


def test_110_what_is_held_does_not_grow(tmp_path: Path):
    """3,907 bins × 2,000 tracks are 31 MB; 24 × 8 of the bins are held at once, and copied."""
    from glm.models.enformer import Enformer, EnformerConfig
    from glm.models.track_model import TrackModel, TrackSpec

    n = 2_000
    config = EnformerConfig(
        heads={"human": n}, channels=24, depth=1, n_heads=2, key_size=4, crop=4, channel_step=2
    )
    table = pd.DataFrame(
        {
            "identifier": [f"T{i}" for i in range(n)],
            "assay": "CAGE",
            "sample": "made up",
            "aggregation": "sum",
            "scale": 1.0,
            "clip": 384.0,
            "strand_pair": np.arange(n),
        },
        index=pd.RangeIndex(n, name="index"),
    )
    spec = TrackSpec("wide", config, window_bp=4_096, tier="local")
    model = TrackModel(spec, Enformer(config).eval().requires_grad_(False), {"human": table})
    genome = glm.Genome({"chr1": np.random.default_rng(0).integers(0, 4, 500_000).astype("u1")})
    options: dict[str, Any] = {"model": model, "genome": genome}
    glm.tl.predict_stretch(("chr1", 0, 9_000), **options)  # imports
    tracemalloc.start()
    found = glm.tl.predict_stretch("chr1", out=tmp_path / "out", **options)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.shape == (3_907, n)
    assert np.isfinite(found.X).all()
    assert found.X.nbytes > 30e6
    assert peak < 12e6


# ---- 112: the extra ------------------------------------------------------------------------------

_WITHOUT = """
import sys, numpy as np, glm

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == "pybigtools":
            raise ImportError(f"{name} is not installed here")

sys.meta_path.insert(0, Missing())
codes = np.random.default_rng(0).integers(0, 4, 20_000).astype(np.uint8)
options = {"model": sys.argv[1], "genome": {"chr1": codes}, "max_n_share_window": 1.0}
np.save(sys.argv[2], glm.tl.predict_stretch("chr1", **options).X)
try:
    glm.tl.predict_stretch("chr1", bigwig=sys.argv[3], **options)
except ImportError as error:
    assert 'pip install "genomic-lm[tracks]"' in str(error), error
else:
    raise SystemExit("it was not missed")
"""


def test_112_without_the_extra(track_model, tmp_path: Path):
    """The same numbers; an error, before anything is computed, where files are asked for."""
    track_model.save(tmp_path / "model")
    arguments = [tmp_path / "model", tmp_path / "x.npy", tmp_path / "bw"]
    command = [sys.executable, "-c", _WITHOUT, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "bw").exists()
    codes = np.random.default_rng(0).integers(0, 4, 20_000).astype(np.uint8)
    found = glm.tl.predict_stretch(
        "chr1", tmp_path / "model", genome={"chr1": codes}, max_n_share_window=1.0
    )
    # Several threads add in an order of their own: the executor's tolerance.
    np.testing.assert_allclose(np.load(tmp_path / "x.npy"), found.X, rtol=1e-4)
