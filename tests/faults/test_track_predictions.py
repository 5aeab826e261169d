"""Predicted tracks: places that are none, unknown bases, strands, kills, and large results."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
import zarr

import glm
from glm.engine import Runner
from glm.genome._builds import BUILDS
from glm.models.fast.enformer import FastEnformer
from glm.tl import _window_source
from glm.tl._track_zarr import OK_FILE, ZARR

pytestmark = [pytest.mark.faults, pytest.mark.filterwarnings("ignore::FutureWarning")]

SLOT = "tracks_enformer"


@pytest.fixture(autouse=True)
def _quiet():
    with glm.settings.override(progress=False):
        yield


@pytest.fixture(scope="session")
def text():
    return "".join(np.random.default_rng(11).choice(list("ACGT"), 9_000))


@pytest.fixture
def predict(track_model, text):
    return functools.partial(
        glm.tl.predict_tracks, model=track_model, genome={"chr1": text}, tracks=[2, 0]
    )


def regions_at(*places, chrom="chr1", **columns):
    var = pd.DataFrame({"chrom": chrom, "start": [a for a, _ in places]})
    var["end"] = [b for _, b in places]
    for name, values in columns.items():
        var[name] = values
    var.index = [f"region{i}" for i in range(len(places))]
    return ad.AnnData(np.ones((2, len(places)), np.float32), var=var)


@pytest.fixture
def regions():
    return regions_at((4_000, 4_300), (5_000, 5_001), (100, 900))


def predicted(predict, adata, **options):
    predict(adata, **options)
    return np.array(adata.varm[SLOT])


# ---- 35 to 46: slots -----------------------------------------------------------------------------


def test_35_keys_that_are_taken(regions, predict, refuses, track_model):
    predict(regions)
    predict(regions, bins="max")  # the same model's: replaced
    assert regions.uns[SLOT]["bins"] == "max"
    regions.uns[SLOT]["model"] = "another"
    said = rf"adata.varm\['{SLOT}'\] already holds the result of another"
    refuses(predict, regions, ValueError, said, "key_added")
    predict(regions, overwrite=True)
    mine = regions_at((4_000, 4_300))
    mine.var[f"{SLOT}_n_share"] = "mine"
    refuses(predict, mine, ValueError, "already holds something glm did not write")


def test_35_bins_that_went_to_a_folder_take_the_slot_with_them(regions, predict, tmp_path):
    predict(regions, bins="all")
    predict(regions, bins="all", out=tmp_path / "out")
    assert SLOT not in regions.varm
    predict(regions)
    assert regions.varm[SLOT].shape == (3, 2)
    assert regions.uns[SLOT]["array"] == "none"


def test_45_copies_and_subsets(regions, predict):
    values = predicted(predict, regions)
    again = regions[:, [2, 0]].copy()
    np.testing.assert_array_equal(again.varm[SLOT], values[[2, 0]])
    np.testing.assert_array_equal(glm.get.tracks(again), values[[2, 0]])


def test_46_the_same_call_twice(regions, predict):
    first = predicted(predict, regions)
    slots = {part: list(getattr(regions, part)) for part in ("var", "varm", "uns")}
    np.testing.assert_array_equal(predicted(predict, regions), first)
    assert slots == {part: list(getattr(regions, part)) for part in slots}


# ---- 47 to 51: places ----------------------------------------------------------------------------


def test_47_other_names_of_chromosomes(regions, predict, refuses):
    expected = predicted(predict, regions.copy())
    bare = regions.copy()
    bare.var["chrom"] = "1"
    np.testing.assert_array_equal(predicted(predict, bare), expected)
    bare.var["chrom"] = "7"
    refuses(predict, bare, ValueError, "'7'", "chr1")


def test_48_chromosomes_that_are_numbers(regions, predict, text, refuses):
    """Text, and never a place in a list."""
    expected = predicted(predict, regions.copy())
    numbered = regions.copy()
    numbered.var["chrom"] = 1
    genome = {"chr0": text[::-1], "chr1": text}
    np.testing.assert_array_equal(predicted(predict, numbered, genome=genome), expected)
    numbered.var["chrom"] = 5
    refuses(predict, numbered, ValueError, "'5'", genome=genome)


def test_49_50_beyond_the_chromosome(predict, refuses, text):
    """What is not there is N, counted, and never another place's sequence."""
    adata = regions_at((-40, 200), (8_800, 9_100), (4_000, 4_240))
    values = predicted(predict, adata)
    assert np.isfinite(values).all()
    record = adata.uns[SLOT]
    assert (record["n_clipped"], record["n_padded"]) == (2, 2)
    padded = "N" * 4_000 + text + "N" * 4_000
    same = regions_at((3_960, 4_200), (12_800, 13_100), (8_000, 8_240))
    inside = predicted(predict, same, genome={"chr1": padded}, bins="all", max_n_share=1)
    every = predicted(predict, adata, bins="all")
    there = np.isfinite(every)
    assert not there[:2].all()
    np.testing.assert_allclose(every[there], inside[there], rtol=1e-6, atol=1e-6)
    refuses(predict, adata, ValueError, r"2 of 3 .*reach beyond .*region0", edges="raise")


@pytest.mark.parametrize(
    ("start", "end", "said"),
    [(500, 500, "no bases"), (900, 500, "no bases"), (1.5, 900.0, "whole")],
)
def test_51_places_that_are_none(predict, refuses, start, end, said):
    adata = regions_at((4_000, 4_300), (start, end))
    refuses(predict, adata, ValueError, said, "region1|row 1")


# ---- 55 to 60: bases and strands -----------------------------------------------------------------


def test_55_runs_of_n(predict, text):
    holed = text[:4_000] + "N" * 600 + text[4_600:]
    adata = regions_at((4_100, 4_200), (4_550, 4_900), (3_000, 3_900), (6_900, 7_000))
    with pytest.warns(glm.GlmWarning, match=r"2 of 4 .*2 have over 10% unknown bases"):
        values = predicted(predict, adata, genome={"chr1": holed})
    assert adata.var[f"{SLOT}_ok"].tolist() == [False, False, True, True]
    assert np.isnan(values[:2]).all()
    assert np.isfinite(values[2:]).all()
    share = adata.var[f"{SLOT}_n_share"].to_numpy()
    np.testing.assert_allclose(share, [600 / 4096, 600 / 4096, 600 / 4096, 0], atol=1e-9)
    predict(adata, genome={"chr1": holed}, max_n_share=1.0)
    assert adata.var[f"{SLOT}_ok"].all()
    assert adata.uns[SLOT]["n_with_unknown_bases"] == 2


def test_56_padding_on_both_strands(predict, text):
    """N is N on the other strand too: a chromosome read from its other end is its mirror."""
    from glm.bases import reverse_complement, to_codes, to_text

    other = to_text(reverse_complement(to_codes(text)))
    options = {"bins": "all", "strand_average": True}
    here = predicted(predict, regions_at((100, 900)), **options)[0]
    place = (len(text) - 900, len(text) - 100)
    there = predicted(predict, regions_at(place), genome={"chr1": other}, tracks=[2, 1], **options)
    np.testing.assert_allclose(here, there[0][::-1], rtol=1e-5, atol=1e-5)
    assert np.isnan(here).any()


@pytest.mark.parametrize("strand", ["+-.", [1, -1, 0], ["+", None, "-"]])
def test_57_strands(predict, regions, strand):
    """Whatever they are, the output follows the genome."""
    expected = predicted(predict, regions.copy())
    regions.var["strand"] = list(strand)
    np.testing.assert_array_equal(predicted(predict, regions), expected)


def test_57_a_strand_that_is_none(predict, regions, refuses):
    regions.var["strand"] = ["+", "forward", "-"]
    refuses(predict, regions, ValueError, "'forward'")


def test_58_stranded_tracks_are_swapped(predict, regions):
    """The minus track of the mirror is the plus track here: never the same one twice."""
    one = predicted(predict, regions.copy(), tracks=[0, 1])
    both = predicted(predict, regions.copy(), tracks=[0, 1], strand_average=True)
    swapped = predicted(predict, regions.copy(), tracks=[1, 0], strand_average=True)
    np.testing.assert_array_equal(both, swapped[:, ::-1])
    assert not np.allclose(both, one, rtol=1e-3)


@pytest.mark.parametrize("length", [1, 127, 128, 129, 3_071, 3_072])
def test_60_lengths(predict, length):
    adata = regions_at((4_500 - length // 2, 4_500 - length // 2 + length))
    assert np.isfinite(predicted(predict, adata)).all()


def test_60_longer_than_the_output(predict):
    adata = regions_at((2_000, 2_000 + 3_073), (2_000, 2_000 + 3_072))
    with pytest.warns(glm.GlmWarning, match=r"longer than the output of 3,072 bases .*predict_str"):
        values = predicted(predict, adata)
    np.testing.assert_array_equal(np.isnan(values).all(axis=1), [True, False])


# ---- 66: another genome --------------------------------------------------------------------------


def test_66_another_genome_than_the_object_says(predict, refuses):
    """hg19 is told from its chromosomes' lengths."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 4, BUILDS["hg19"].lengths["21"]).astype(np.uint8)
    genome = glm.Genome({"chr21": codes})
    adata = regions_at((4_000, 4_300), chrom="chr21", genome="GRCh38")
    refuses(predict, adata, ValueError, "hg19", "GRCh38", genome=genome)
    refuses(predict, adata, ValueError, "say of which genome.*says 'GRCh38'", genome=None)
    adata.var["genome"] = "GRCh37"
    predict(adata, genome=genome)
    assert (adata.uns[SLOT]["genome"], adata.uns[SLOT]["genome_stated"]) == ("hg19", "GRCh37")


def test_66_a_head_of_another_species(predict, regions, text):
    genome = glm.Genome({"chr1": text}, name="danRer11")
    with pytest.warns(glm.GlmWarning, match="human tracks are predicted on danRer11"):
        predict(regions, genome=genome)


# ---- 94 to 98: running ---------------------------------------------------------------------------


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_94_no_cuda(predict, regions, refuses):
    refuses(predict, regions, ValueError, r"device='cuda' .*finds no CUDA", device="cuda")


def test_95_mps(predict, regions, refuses):
    refuses(predict, regions, TypeError, "device='mps' is not supported", "'cpu'", device="mps")


def test_96_memory_runs_out_on_a_window(predict, regions, monkeypatch, tmp_path):
    """There is nothing smaller to try: refused, and what was computed before is kept."""
    expected = predicted(predict, regions.copy())
    run, left = FastEnformer.predict, [2]

    def less_and_less(self, *args, **options):
        left[0] -= 1
        if left[0] < 0:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return run(self, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FastEnformer, "predict", less_and_less)
        said = r"single window of 4,096 bases \(row 2\).*out= before is kept"
        with pytest.raises(RuntimeError, match=said):
            predict(regions, out=tmp_path / "out")
    assert not [*regions.varm, *regions.uns]
    assert len(list((tmp_path / "out" / "shards").glob("*.npz"))) == 2
    np.testing.assert_array_equal(predicted(predict, regions, out=tmp_path / "out"), expected)


def test_97_many_or_one_at_a_time(predict, monkeypatch):
    """To the last bit, whatever the blocks are."""
    places = [(3_000 + 50 * i, 3_000 + 50 * i + 1 + 30 * i) for i in range(40)]
    expected = predicted(predict, regions_at(*places))
    monkeypatch.setattr(_window_source, "_BLOCKS", 1)
    np.testing.assert_array_equal(predicted(predict, regions_at(*places)), expected)
    monkeypatch.setattr(_window_source, "_MOST_BYTES", 24)
    np.testing.assert_array_equal(predicted(predict, regions_at(*places)), expected)


def test_98_a_region_of_n_alone(predict, text):
    """NaN only there; and finite, if it is asked for all the same."""
    holed = text[:4_000] + "N" * 500 + text[4_500:]
    adata = regions_at((4_000, 4_500), (7_000, 7_100))
    with pytest.warns(glm.GlmWarning, match="1 of 2"):
        values = predicted(predict, adata, genome={"chr1": holed})
    np.testing.assert_array_equal(np.isnan(values), [[True, True], [False, False]])
    every = predicted(predict, adata, genome={"chr1": holed}, max_n_share=1)
    assert np.isfinite(every).all()


# ---- 99, 104: several processes, signals and kills -----------------------------------------------

# Everything a child needs: a model's folder, regions, and a sequence.
SETUP = """
import os, sys, warnings
warnings.simplefilter("ignore")
import numpy as np, anndata as ad
import glm
from glm.engine import Runner, job

folder = sys.argv[1]
glm.settings.progress = False

def regions():
    return ad.read_h5ad(folder + "/regions.h5ad")

def predict(adata, **more):
    options = dict(strand_average=True, tracks=[0, 2], device="cpu") | more
    glm.tl.predict_tracks(adata, folder + "/model", genome=folder + "/text.fa", **options)
    return adata.varm.get("tracks_enformer")
"""
N_REGIONS = 12


@pytest.fixture
def inputs(track_model, text, tmp_path, monkeypatch, write_fasta):
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    track_model.save(tmp_path / "model")
    write_fasta(tmp_path / "text.fa", {"chr1": text})
    places = [(2_500 + 300 * i, 2_700 + 300 * i) for i in range(N_REGIONS)]
    adata = regions_at(*places)
    adata.var["start"] = adata.var["start"].astype("Int64")
    adata.var["end"] = adata.var["end"].astype("Int64")
    adata.var.loc["region5", ["start", "end"]] = pd.NA  # a row without a region
    adata.write_h5ad(tmp_path / "regions.h5ad")
    return tmp_path


def here(inputs, **options):
    """The same in this process."""
    adata = ad.read_h5ad(inputs / "regions.h5ad")
    options = {"strand_average": True, "tracks": [0, 2], "device": "cpu", **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", glm.GlmWarning)
        glm.tl.predict_tracks(adata, inputs / "model", genome=inputs / "text.fa", **options)
    return adata


def _python(inputs, code, *arguments, seconds=240):
    script = inputs / "script.py"
    script.write_text(textwrap.dedent(SETUP) + textwrap.dedent(code))
    process = subprocess.Popen(
        [sys.executable, str(script), str(inputs), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=inputs,
        env=os.environ | {"PYTHONPATH": str(Path(glm.__file__).parents[1])},
    )
    try:
        output, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        pytest.fail(f"the process hung for {seconds} s")
    return process.returncode, output, errors


TOGETHER = """
rank = os.environ.get("LOCAL_RANK", "0")
np.save(f"{folder}/mean-{rank}.npy", predict(regions(), devices=2, strategy="ddp"))
one = regions()[:, :1].copy()
np.save(f"{folder}/one-{rank}.npy", predict(one, devices=2, strategy="ddp"))
adata = regions()
predict(adata, devices=2, strategy="ddp", bins="all", out=folder + "/out")
assert adata.var["tracks_enformer_ok"].sum() == 11
"""


def test_99_two_processes(inputs):
    """Each row once and in order, to the bits of one process, also straight into a folder."""
    code, _, errors = _python(inputs, TOGETHER)
    assert code == 0, errors
    expected = here(inputs).varm[SLOT]
    for rank in (0, 1):
        np.testing.assert_array_equal(np.load(inputs / f"mean-{rank}.npy"), expected)
        np.testing.assert_array_equal(np.load(inputs / f"one-{rank}.npy"), expected[:1])
    array = zarr.open_array(inputs / "out" / ZARR, mode="r")[:]
    np.testing.assert_array_equal(array, here(inputs, bins="all").varm[SLOT])
    assert sorted(path.name for path in (inputs / "out").iterdir()) == [
        "manifest.json",
        OK_FILE,
        ZARR,
    ]


# One process that has imported everything forks a child for each attempt, which is killed before
# its so-manieth window, at its so-manieth file operation, or by the clock.
KILLED = """
import json, random, signal, time

bins = sys.argv[3]
def attempt(out, kill):
    pid = os.fork()
    if pid == 0:
        done = [0]
        def counted(function, kind):
            def call(*args, **kwargs):
                if kill.get(kind) == done[0]:
                    os.kill(os.getpid(), signal.SIGKILL)
                done[0] += kind in kill
                return function(*args, **kwargs)
            return call
        Runner._fits = counted(Runner._fits, "batch")
        for name in ("fsync", "replace"):
            setattr(os, name, counted(getattr(os, name), "file"))
        predict(regions(), out=out, bins=bins)
        os._exit(0)
    if "clock" in kill:
        time.sleep(kill["clock"])
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

started = time.time()
assert attempt(folder + "/whole", {}) == 0
seconds = time.time() - started
rng = random.Random(int(sys.argv[2]))
codes = []
for i in range(8):
    kill = rng.choice([{"batch": rng.randrange(4)}, {"file": rng.randrange(25)},
                       {"clock": rng.random() * seconds / 2}])
    codes.append(attempt(folder + "/out", kill))
codes.append(attempt(folder + "/out", {}))
print(json.dumps(codes))
"""


@pytest.mark.parametrize("bins", ["mean", "all"])
def test_104_killed_at_random_moments(inputs, bins):
    code, output, errors = _python(inputs, KILLED, "1" if bins == "all" else "0", bins)
    assert code == 0, errors
    codes = json.loads(output.strip().splitlines()[-1])
    assert codes.count(-signal.SIGKILL) >= 3
    assert codes[-1] == 0
    whole, again = (_contents(inputs / name) for name in ("whole", "out"))
    assert whole == again
    adata = here(inputs, bins=bins, out=inputs / "out")
    found = adata.varm[SLOT] if bins == "mean" else zarr.open_array(inputs / "out" / ZARR)[:]
    np.testing.assert_array_equal(found, here(inputs, bins=bins).varm[SLOT])
    assert adata.var[f"{SLOT}_ok"].sum() == N_REGIONS - 1


def _contents(folder):
    """Every file and its bytes."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_104_ctrl_c_keeps_what_is_done(inputs, monkeypatch):
    expected = here(inputs, bins="all").varm[SLOT]
    fits, n = Runner._fits, [0]

    def counted(self, batch, reducer):
        n[0] += 1
        if n[0] == 8:
            raise KeyboardInterrupt
        return fits(self, batch, reducer)

    monkeypatch.setattr(Runner, "_fits", counted)
    with pytest.raises(KeyboardInterrupt):
        here(inputs, bins="all", out=inputs / "out")
    assert len(list((inputs / "out" / "shards").glob("*.npz"))) == 8  # one of them without a region
    n[0] = 8
    here(inputs, bins="all", out=inputs / "out")
    assert n[0] == 8 + 11 - 7
    np.testing.assert_array_equal(zarr.open_array(inputs / "out" / ZARR)[:], expected)


def test_107_another_run_in_the_folder(predict, regions, refuses, tmp_path, text):
    predict(regions, bins="all", out=tmp_path / "out")
    options = {"bins": "all", "out": tmp_path / "out"}
    refuses(predict, regions, ValueError, "holds another run: .*shifts is", shifts=(1,), **options)
    refuses(
        predict,
        regions,
        ValueError,
        "holds another run: .*genome is",
        **options,
        genome={"chr1": text[::-1]},
    )
    moved = regions.copy()
    moved.var["start"] -= 1
    refuses(predict, moved, ValueError, "holds another run: .*regions is", **options)


def test_107_weights_changed_in_memory(predict, regions, refuses, track_model, tmp_path):
    """Of a model that predicted before, so that its hash was asked for."""
    network = type(track_model.network)(track_model.network.config).eval()
    network.load_state_dict(track_model.network.state_dict())
    model = dataclasses.replace(track_model, network=network)
    predict(regions, model=model, out=tmp_path / "out")
    network.heads["human"].bias.data += 1
    options = {"model": model, "out": tmp_path / "out"}
    refuses(predict, regions, ValueError, "holds another run: .*weights", **options)


def test_107_chunks_that_were_lost_are_computed_again(predict, regions, tmp_path):
    expected = predicted(predict, regions.copy(), bins="all")
    for lost in (f"{ZARR}/c/1/0/0", ZARR):
        predict(regions, bins="all", out=tmp_path / "out")
        place = tmp_path / "out" / lost
        shutil.rmtree(place) if place.is_dir() else place.unlink()
        predict(regions, bins="all", out=tmp_path / "out")
        np.testing.assert_array_equal(zarr.open_array(tmp_path / "out" / ZARR)[:], expected)


def test_107_regions_renamed_since(predict, regions, tmp_path):
    """They are the same regions: the folder takes the new names."""
    regions.var_names = ["same", "same", "other"]
    predict(regions, bins="all", out=tmp_path / "out")
    with pytest.raises(KeyError, match="2 regions called 'same'"):
        glm.get.tracks(regions, region="same")
    regions.var_names_make_unique()
    predict(regions, bins="all", out=tmp_path / "out")
    assert glm.get.tracks(regions, region="same-1").shape == (24, 2)


# ---- 110, 111: the result ------------------------------------------------------------------------

# 150 MB of bins, in a process that may have 100 MB more than it has once it is warm.
LARGE = """
import resource, torch, pandas as pd
from glm.models.enformer import Enformer, EnformerConfig
from glm.models.track_model import TrackModel, TrackSpec
import zarr

n, n_tracks = 400, 4000
config = EnformerConfig(heads={"human": n_tracks}, channels=48, depth=1, n_heads=2, key_size=8,
                        crop=4, channel_step=8)
table = pd.DataFrame({"identifier": [f"T{i}" for i in range(n_tracks)], "assay": "DNASE",
                      "sample": "made up", "aggregation": "mean", "scale": 1.0, "clip": 64.0,
                      "strand_pair": range(n_tracks)})
table.index.name = "index"
torch.manual_seed(0)
model = TrackModel(TrackSpec("large", config, window_bp=4096, tier="local"),
                   Enformer(config).eval().requires_grad_(False), {"human": table})
var = pd.DataFrame({"chrom": "chr1", "start": 2_500 + 10 * np.arange(n)})
var["end"] = var["start"] + 100
var.index = [f"r{i}" for i in range(n)]
adata = ad.AnnData(np.ones((1, n), np.float32), var=var)

def run(adata, out):
    glm.tl.predict_tracks(adata, model, genome=folder + "/text.fa", bins="all", out=out)

run(adata[:, :4].copy(), folder + "/few")
held = int(next(l for l in open("/proc/self/status") if l.startswith("VmData")).split()[1])
resource.setrlimit(resource.RLIMIT_DATA, (held * 1024 + 100 * 2**20,) * 2)
try:
    np.ones((n, 24, n_tracks), np.float32)
    raise SystemExit("the limit does not hold")
except MemoryError:
    pass
run(adata, folder + "/many")
array = zarr.open_array(folder + "/many/tracks.zarr", mode="r")
assert array.shape == (n, 24, n_tracks)
few = zarr.open_array(folder + "/few/tracks.zarr", mode="r")
assert all((array[i] == few[i]).all() for i in range(4))
assert adata.var["tracks_enformer_ok"].all() and np.isfinite(array[n - 1]).all()
assert glm.get.tracks(adata, region="r7").shape == (24, n_tracks)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs the memory of Linux")
def test_110_bins_that_are_larger_than_memory(inputs):
    code, _, errors = _python(inputs, LARGE)
    assert code == 0, errors


def test_110_too_small_a_disk(predict, regions, monkeypatch, tmp_path):
    import shutil

    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    for bins in ("mean", "all"):
        with pytest.raises(OSError, match=r"needs .* GB .*but .* are free"):
            predict(regions, bins=bins, out=tmp_path / bins)
    assert not [*regions.varm, *regions.uns]


def test_111_writing_into_the_object_fails(predict, regions, monkeypatch):
    expected = predicted(predict, regions.copy())

    def fails(*args):
        raise MemoryError("no room for it")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(glm.slots, "write", fails)
        with pytest.raises(MemoryError, match="no room") as caught:
            predict(regions)
    np.testing.assert_array_equal(caught.value.result, expected)
    assert not [*regions.varm, *regions.uns]


# ---- traces --------------------------------------------------------------------------------------


def test_nothing_but_the_documented_slots(predict, regions):
    regions.var["seq"], regions.var["length"] = "ACGT", 1  # the user's own
    before = regions.copy()
    predict(regions)
    flags = [f"{SLOT}_ok", f"{SLOT}_n_share"]
    pd.testing.assert_frame_equal(regions.var.drop(columns=flags), before.var)
    assert (list(regions.varm), list(regions.uns)) == ([SLOT], [SLOT])
    assert not [*regions.obs, *regions.obsm, *regions.layers]
    assert regions.var[flags[0]].dtype == bool
    assert re.fullmatch(r"[0-9a-f]{64}", regions.uns[SLOT]["genome_fingerprint"])


# ---- 91: what comes out of the model is no number ------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("way", ["mean", "all", "folder"])
def test_91_outputs_that_are_not_finite(predict, regions, track_model, tmp_path, way, value):
    """In one track of them all; the same rows are flagged wherever the values went."""
    network = type(track_model.network)(track_model.network.config).eval()
    network.load_state_dict(track_model.network.state_dict())
    network.heads["human"].bias.data[2] = value
    options = {"bins": "mean" if way == "mean" else "all", "max_n_share_window": 1.0}
    options |= {"out": tmp_path / "out"} if way == "folder" else {}
    with pytest.warns(glm.GlmWarning, match="3 came out of the model not finite"):
        predict(regions, model=dataclasses.replace(track_model, network=network), **options)
    assert not regions.var[f"{SLOT}_ok"].any()
    predict(regions, **{**options, "out": None})
    assert regions.var[f"{SLOT}_ok"].all()
