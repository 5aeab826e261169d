"""Rows 94 to 112: what stops a long run, and what is left of it then."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import glm
from glm.engine import Runner, make_plan
from glm.tl import _cell_source

pytestmark = pytest.mark.faults

N_CELLS = 60
BUDGET = 90
# Everything a child needs: a model's folder, cells, and blocks small enough that there are many.
SETUP = f"""
import os, sys, warnings
warnings.simplefilter("ignore")
import numpy as np, anndata as ad
import glm
from glm.engine import Runner, job
from glm.tl import _cell_source

_cell_source._LEAST_ROWS = 8
folder = sys.argv[1]
options = dict(token_budget={BUDGET}, device="cpu")

def cells():
    return ad.read_h5ad(folder + "/cells.h5ad")

def embed(adata, **more):
    glm.tl.embed(adata, folder + "/model", **options, **more)
    return adata.obsm["X_geneformer"]
"""


@pytest.fixture
def inputs(make_model, make_cells, tmp_path, monkeypatch) -> Path:
    """A folder with a model and cells, for processes of their own."""
    monkeypatch.setattr(_cell_source, "_LEAST_ROWS", 8)
    # The last bits depend on how many threads torch has: one here and in every process.
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    model = make_model()
    model.save(tmp_path / "model")
    make_cells(model.vocabulary, N_CELLS).write_h5ad(tmp_path / "cells.h5ad")
    return tmp_path


def _python(inputs: Path, code: str, *arguments: str, seconds: int = 240):
    """Run a script in a process of its own, and in a group that is ended with it."""
    script = inputs / "script.py"
    script.write_text(textwrap.dedent(SETUP) + textwrap.dedent(code))
    source = str(Path(glm.__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, str(script), str(inputs), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=inputs,
        # As many threads as here: the bits depend on it.
        env=os.environ | {"PYTHONPATH": source},
    )
    try:
        output, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        pytest.fail(f"the process hung for {seconds} s")
    return process.returncode, output, errors


def _quiet_embed(adata, model, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", glm.GlmWarning)  # one cell is empty
        glm.tl.embed(adata, model, token_budget=BUDGET, device="cpu", **options)
    return adata.obsm["X_geneformer"]


@pytest.fixture
def count_batches(monkeypatch):
    class Counter:
        n = 0
        before = staticmethod(lambda n: None)

    counter, fits = Counter(), Runner._fits

    def counted(self, batch, reducer):
        counter.before(counter.n)
        counter.n += 1
        return fits(self, batch, reducer)

    monkeypatch.setattr(Runner, "_fits", counted)
    return counter


# ---- 94, 95: devices ---------------------------------------------------------------------------


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_94_no_cuda(cells, embed, refuses, accepts):
    refuses(
        embed, cells, ValueError, r"device='cuda' .*finds no CUDA", "run on the CPU", device="cuda"
    )
    refuses(embed, cells, ValueError, r"device='cuda:1'", device="cuda:1")
    refuses(embed, cells, ValueError, "There is no device 'gpu'", device="gpu")
    assert accepts(embed, cells).uns["X_geneformer"]["device"] == "cpu"


def test_95_mps(cells, embed, refuses):
    refuses(embed, cells, TypeError, "device='mps' is not supported", "'cpu'", device="mps")
    with pytest.raises(TypeError, match="expected 'cpu' or 'cuda'"):
        make_plan("meta")


# ---- 96: memory of the device ------------------------------------------------------------------


def test_96_out_of_memory_halves(inputs, make_model, count_batches):
    """The batches of the run are cut smaller; the result stays within rounding."""
    import anndata as ad

    model = make_model()
    expected = _quiet_embed(ad.read_h5ad(inputs / "cells.h5ad"), model)
    hidden = glm.models.fast.bert.PackedBert.hidden
    tried = []

    def short(self, tokens, lengths, **reading):
        tried.append(tokens.numel())
        if tokens.numel() > 50:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return hidden(self, tokens, lengths, **reading)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(glm.models.fast.bert.PackedBert, "hidden", short)
        got = _quiet_embed(ad.read_h5ad(inputs / "cells.h5ad"), model)
    assert sum(n > 50 for n in tried) == 1
    np.testing.assert_allclose(got, expected, atol=1e-5 * np.nanmax(abs(expected)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_96_on_a_gpu(make_model, make_cells, caplog):
    """Truly: the process may have 400 MB more, the batch that is asked for needs some 1.5 GB."""
    model = make_model(hidden_size=256, intermediate_size=1024)
    adata = make_cells(model.vocabulary, 4000)
    expected = _quiet_embed(adata.copy(), model)
    held = torch.cuda.memory_reserved() + 400 * 2**20
    torch.cuda.set_per_process_memory_fraction(
        held / torch.cuda.get_device_properties(0).total_memory
    )
    try:
        with caplog.at_level(logging.WARNING, logger="glm"), warnings.catch_warnings():
            warnings.simplefilter("ignore", glm.GlmWarning)
            glm.tl.embed(adata, model, device="cuda", precision="float32", token_budget=10**6)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert "ran out on a batch" in caplog.text
    largest = np.nanmax(abs(expected))
    np.testing.assert_allclose(adata.obsm["X_geneformer"], expected, atol=1e-3 * largest)


def test_96_not_even_one_sentence(inputs, make_model, monkeypatch):
    """Refused, and what was computed before is kept."""
    import anndata as ad

    adata, model = ad.read_h5ad(inputs / "cells.h5ad"), make_model()
    expected = _quiet_embed(adata.copy(), model)
    hidden, left = glm.models.fast.bert.PackedBert.hidden, [12]

    def less_and_less(self, tokens, lengths, **reading):
        left[0] -= 1
        if left[0] < 0:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return hidden(self, tokens, lengths, **reading)

    out = inputs / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(glm.models.fast.bert.PackedBert, "hidden", less_and_less)
        with pytest.raises(
            RuntimeError, match=r"single sentence of \d+ tokens.*out= before is kept"
        ):
            _quiet_embed(adata, model, out=out)
    assert list(adata.obsm) == list(adata.uns) == []
    assert list((out / "shards").glob("*.npz"))
    got = _quiet_embed(adata, model, out=out)
    np.testing.assert_allclose(got, expected, atol=1e-5 * np.nanmax(abs(expected)))


# ---- 99: several processes ---------------------------------------------------------------------

TOGETHER = """
rank = os.environ.get("LOCAL_RANK", "0")
for name, rows in {"whole": slice(None), "odd": slice(0, 37), "few": slice(0, 1)}.items():
    adata = cells()[rows].copy()
    got = embed(adata, devices=2, strategy="ddp")
    np.save(f"{folder}/{name}-{rank}.npy", got)
    assert adata.obs["geneformer_ok"].shape == (adata.n_obs,)
adata = cells()
np.save(f"{folder}/out-{rank}.npy", embed(adata, devices=2, strategy="ddp", out=folder + "/out"))
"""


def test_99_two_processes(inputs, make_model):
    """Each row once and in order: the bits of one process, in both of them."""
    import anndata as ad

    code, _, errors = _python(inputs, TOGETHER)
    assert code == 0, errors
    model = glm.models.load(inputs / "model")
    for name, rows in {"whole": slice(None), "odd": slice(0, 37), "few": slice(0, 1)}.items():
        expected = _quiet_embed(ad.read_h5ad(inputs / "cells.h5ad")[rows].copy(), model)
        for rank in (0, 1):
            np.testing.assert_array_equal(np.load(inputs / f"{name}-{rank}.npy"), expected)
    whole = np.load(inputs / "whole-0.npy")
    for rank in (0, 1):
        np.testing.assert_array_equal(np.load(inputs / f"out-{rank}.npy"), whole)
    np.testing.assert_array_equal(np.load(inputs / "out" / "embedding.npy"), whole)


STARTED = """
if __name__ == "__main__":
    np.save(folder + "/spawned.npy", embed(cells(), devices=2, strategy="ddp_spawn"))
"""


def test_99_processes_started_for_the_call(inputs):
    import anndata as ad

    code, _, errors = _python(inputs, STARTED)
    assert code == 0, errors
    expected = _quiet_embed(ad.read_h5ad(inputs / "cells.h5ad"), glm.models.load(inputs / "model"))
    np.testing.assert_array_equal(np.load(inputs / "spawned.npy"), expected)


FAILS = """
if os.environ.get("LOCAL_RANK", "0") == "1":
    Runner._fits = lambda self, batch, reducer: 1 / 0
embed(cells(), devices=2, strategy="ddp", out=folder + "/out")
"""


def test_99_a_manifest_that_another_process_makes_meanwhile(tmp_path, monkeypatch):
    """Between a process's look for the manifest and its look at what else is in the folder."""
    from glm.engine import WorkFolder

    WorkFolder(tmp_path / "first", {"model": "one"})
    made = (tmp_path / "first" / "manifest.json").read_bytes()
    shared, listing = tmp_path / "shared", Path.iterdir
    shared.mkdir()

    def meanwhile(folder):
        if folder == shared:
            (shared / "manifest.json").write_bytes(made)
        return listing(folder)

    monkeypatch.setattr(Path, "iterdir", meanwhile)
    WorkFolder(shared, {"model": "one"})
    (shared / "manifest.json").unlink()
    with pytest.raises(ValueError, match="model is 'one' there and 'two' here"):
        WorkFolder(shared, {"model": "two"})


def test_99_one_process_fails(inputs):
    """The other one ends too, and does not wait for ever; its shards are kept."""
    code, _, errors = _python(inputs, FAILS, seconds=120)
    assert code != 0
    assert "ZeroDivisionError" in errors
    assert not (inputs / "out" / "embedding.npy").exists()


def test_99_no_script_to_start_again(cells, embed, refuses, monkeypatch):
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)  # as in a notebook
    told = refuses(
        embed, cells, RuntimeError, "a notebook", "Put the call into a script", devices=2
    )
    assert "ddp_notebook" in str(told)
    refuses(embed, cells, ValueError, "strategy is 'fsdp'; expected", devices=2, strategy="fsdp")


def test_99_devices_that_are_not_there(cells, embed, refuses):
    pytest.importorskip("lightning_fabric")  # importing it sets variables of the environment
    refuses(
        embed,
        cells,
        ValueError,
        "devices=0 with strategy='ddp_spawn'",
        devices=0,
        strategy="ddp_spawn",
    )


# ---- 104: signals and kills --------------------------------------------------------------------

# One process that has imported everything forks a child for each attempt: each is killed at a
# moment of its own, by its number of batches, by its number of file operations, or by the clock.
KILLED = """
import random, signal, time

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
        with open(folder + "/batches", "a") as log:
            fits = counted(Runner._fits, "batch")
            def logged(self, batch, reducer):
                fitted = fits(self, batch, reducer)
                os.write(log.fileno(), b"x")
                return fitted
            Runner._fits = logged
            for name in ("fsync", "replace"):
                setattr(os, name, counted(getattr(os, name), "file"))
            embed(cells(), out=out)
        os._exit(0)
    if "clock" in kill:
        time.sleep(kill["clock"])
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

job._SECONDS_BETWEEN_SAVES = 0.02
started = time.time()
assert attempt(folder + "/whole", {}) == 0
seconds = time.time() - started
n_whole = os.path.getsize(folder + "/batches")
os.unlink(folder + "/batches")
rng = random.Random(int(sys.argv[2]))
codes = []
for i in range(8):
    kill = rng.choice([{"batch": rng.randrange(9)}, {"file": rng.randrange(12)},
                       {"clock": rng.random() * seconds / 2}])
    codes.append(attempt(folder + "/out", kill))
    for path in (folder + "/out/embedding.npy",):
        assert not os.path.exists(path) or codes[-1] == 0 or np.load(path).shape == (60, 16)
codes.append(attempt(folder + "/out", {}))
same = open(folder + "/whole/embedding.npy", "rb").read() == open(
    folder + "/out/embedding.npy", "rb").read()
import json
print(json.dumps({"codes": codes, "same": same, "whole": n_whole,
                  "batches": os.path.getsize(folder + "/batches"),
                  "left": sorted(os.listdir(folder + "/out"))}))
"""


@pytest.mark.parametrize("seed", [0, 1])
def test_104_killed_at_random_moments(inputs, seed):
    code, output, errors = _python(inputs, KILLED, str(seed))
    assert code == 0, errors
    found = json.loads(output.strip().splitlines()[-1])
    assert found["codes"].count(-signal.SIGKILL) >= 3
    assert found["codes"][-1] == 0
    assert found["same"]
    # What a kill takes away are the batches since the last saving.
    assert found["whole"] <= found["batches"] < 4 * found["whole"]
    assert found["left"] == ["embedding.npy", "manifest.json"]


SIGNALLED = """
import json, signal
# A shell that starts things in the background lets them ignore it; Python then sets no handler.
signal.signal(signal.SIGINT, signal.default_int_handler)
number, n_total, out = getattr(signal, sys.argv[2]), int(sys.argv[3]), folder + "/out"
fits, n = Runner._fits, [0]

def counted(self, batch, reducer):
    n[0] += 1
    if n[0] == int(0.9 * n_total):
        os.kill(os.getpid(), number)
    return fits(self, batch, reducer)

Runner._fits = counted
adata = cells()
before = (list(adata.obs), list(adata.obsm), list(adata.uns))
try:
    embed(adata, out=out)
except KeyboardInterrupt:
    assert (list(adata.obs), list(adata.obsm), list(adata.uns)) == before
    sys.exit(77)
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_104_signals_near_the_end(inputs, count_batches, name):
    """Shards survive, and the same call goes on with what is left."""
    import anndata as ad

    model = glm.models.load(inputs / "model")
    expected = _quiet_embed(ad.read_h5ad(inputs / "cells.h5ad"), model)
    whole, count_batches.n = count_batches.n, 0
    code, _, errors = _python(inputs, SIGNALLED, name, str(whole))
    assert code == (77 if name == "SIGINT" else -signal.SIGTERM), errors
    adata = ad.read_h5ad(inputs / "cells.h5ad")
    np.testing.assert_array_equal(_quiet_embed(adata, model, out=inputs / "out"), expected)
    # SIGTERM ends a process at once: it loses the shard that was begun.
    assert count_batches.n <= (whole - int(0.9 * whole) + 1 if name == "SIGINT" else whole // 3)


def test_104_ctrl_c_leaves_the_object(cells, embed, refuses, count_batches, tmp_path):
    """Also in memory, where nothing is saved."""

    def interrupt(n):
        if n == 0:
            raise KeyboardInterrupt

    count_batches.before = interrupt
    with pytest.raises(KeyboardInterrupt):
        embed(cells)
    assert list(cells.obsm) == list(cells.uns) == []
    assert "geneformer_ok" not in cells.obs
    assert not list((tmp_path / "temporary").iterdir())


# ---- 110, 111: the result ----------------------------------------------------------------------

# A megabyte a row: the result is larger than what the process may have.
LARGE = """
import resource
from glm.engine import FileSink, PoolRows, WorkFolder, gather
from glm.engine.job import Saved
from pathlib import Path

n_rows, width, step = 240, 250_000, 4
work = WorkFolder(Path(folder) / "large", {})
for shard in range(n_rows // step):
    rows = np.arange(shard * step, (shard + 1) * step)
    vector = np.full((step, width), shard, np.float32)
    vector += np.arange(step)[:, None] / 8
    state = dict(row=rows, part=np.zeros(step, np.int32), weight=np.ones(step, np.float32),
                 vector=vector)
    work.write(shard, Saved(state, (0, 0), 1))

held = int(next(l for l in open("/proc/self/status") if l.startswith("VmData")).split()[1])
resource.setrlimit(resource.RLIMIT_DATA, (held * 1024 + 90 * 2**20,) * 2)
try:
    np.ones((n_rows, width), np.float32)
    raise SystemExit("the limit does not hold")
except MemoryError:
    pass

def write(beside):
    sink = FileSink(beside, n_rows, width)
    gather(work.states(n_rows // step), PoolRows("mean", sink))
    sink.close()

work.finish("embedding.npy", write)
result = np.load(work.result("embedding.npy"), mmap_mode="r")
from glm.tl._job import finite_rows
assert finite_rows(result, step=8).all()
assert [result[row, row] for row in (0, 5, 239)] == [0.0, 1.125, 59.375]
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs the memory of Linux")
def test_110_result_larger_than_memory(inputs):
    code, _, errors = _python(inputs, LARGE)
    assert code == 0, errors


def test_110_rows_that_never_came(tmp_path):
    sink = glm.engine.FileSink(tmp_path / "x.npy", 5, 2)
    sink.put(np.array([3, 1]), np.ones((2, 2), np.float32))
    sink.close()
    np.testing.assert_array_equal(np.isnan(np.load(tmp_path / "x.npy"))[:, 0], [1, 0, 1, 0, 1])


def test_110_too_small_a_disk(inputs, make_model, monkeypatch):
    import shutil

    import anndata as ad

    adata = ad.read_h5ad(inputs / "cells.h5ad")
    usage = shutil.disk_usage(inputs)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OSError, match=r"needs .* GB .*but .* are free"):
        _quiet_embed(adata, make_model(), out=inputs / "out")
    assert list(adata.obsm) == []


@pytest.mark.parametrize("where", ["memory", "out"])
def test_111_writing_into_the_object_fails(
    cells, embed, monkeypatch, tmp_path, where, count_batches
):
    """The error holds the result; with ``out`` the next call computes nothing."""
    expected = embed(cells, copy=True).obsm["X_geneformer"]
    out = {"out": tmp_path / "out"} if where == "out" else {}

    def fails(*args):
        raise MemoryError("no room for it")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(glm.slots, "write", fails)
        with pytest.raises(MemoryError, match="no room") as caught:
            embed(cells, **out)
    np.testing.assert_array_equal(caught.value.result, expected)
    assert "is not lost" in caught.value.__notes__[0]
    assert list(cells.obsm) == list(cells.uns) == []
    done = count_batches.n
    embed(cells, **out)
    assert (count_batches.n == done) is (where == "out")
    np.testing.assert_array_equal(cells.obsm["X_geneformer"], expected)


def test_111_the_finished_file_cannot_be_written(inputs, make_model, monkeypatch, count_batches):
    """The shards stay until it is."""
    import anndata as ad

    model, adata = make_model(), ad.read_h5ad(inputs / "cells.h5ad")
    with pytest.MonkeyPatch.context() as patch:
        full = OSError(28, "No space left on device")
        patch.setattr(os, "posix_fallocate", lambda *a: (_ for _ in ()).throw(full))
        with pytest.raises(OSError, match="No space left"):
            _quiet_embed(adata, model, out=inputs / "out")
    assert not [path for path in (inputs / "out").iterdir() if path.name.startswith(".")]
    done = count_batches.n
    got = _quiet_embed(adata, model, out=inputs / "out")
    assert count_batches.n == done
    np.testing.assert_array_equal(got, _quiet_embed(adata.copy(), model))


# ---- 112: optional dependencies ----------------------------------------------------------------

WITHOUT = """
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("dask", "lightning_fabric", "pytorch_lightning", "xarray"):
            raise ImportError(f"{name} is not installed here")

for name in [n for n in sys.modules if n.partition(".")[0] in ("dask", "xarray")]:
    del sys.modules[name]
sys.meta_path.insert(0, Missing())
np.save(folder + "/memory.npy", embed(cells()))
np.save(folder + "/backed.npy", embed(ad.read_h5ad(folder + "/cells.h5ad", backed="r")))
try:
    embed(cells(), devices=2, key_added="two")
except ImportError as error:
    assert "devices= needs Lightning" in str(error), error
else:
    raise SystemExit("it was not missed")
"""


def test_112_without_optional_dependencies(inputs):
    """The same numbers, and an error only where what is missing is asked for."""
    import anndata as ad

    code, _, errors = _python(inputs, WITHOUT)
    assert code == 0, errors
    expected = _quiet_embed(ad.read_h5ad(inputs / "cells.h5ad"), glm.models.load(inputs / "model"))
    for name in ("memory", "backed"):
        np.testing.assert_array_equal(np.load(inputs / f"{name}.npy"), expected)
