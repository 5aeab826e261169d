"""``glm.tl.embed`` into a folder: the same bits, gone on with, held to what it was begun with."""

from __future__ import annotations

import shutil
import warnings

import numpy as np
import pytest
import torch

import glm
from glm.engine import Runner, Team, WorkFolder, job, make_plan
from glm.tl import _cell_source, _job
from glm.tl._job_kinds import Job

N_CELLS = 50
BUDGET = 90


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    """Blocks of eight cells, so that there are shards to speak of."""
    monkeypatch.setattr(_cell_source, "_LEAST_ROWS", 8)


@pytest.fixture(scope="module", params=[False, True], ids=["v1", "v2"])
def model(request, make_model):
    return make_model(v2=request.param)


@pytest.fixture
def cells(model, make_cells):
    return make_cells(model.vocabulary, N_CELLS)


@pytest.fixture
def embed(model):
    def call(adata, **options):
        options = {"token_budget": BUDGET, "device": "cpu", **options}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", glm.GlmWarning)  # one cell is empty
            glm.tl.embed(adata, model, **options)
        return adata.obsm[f"X_{options.get('key_added', 'geneformer')}"]

    return call


@pytest.fixture
def count_batches(monkeypatch):
    """How many batches were run; ``limit`` stops the run before that batch."""

    class Counter:
        n, limit = 0, None

    counter, fits = Counter(), Runner._fits

    def counted(self, batch, reducer):
        if counter.limit is not None and counter.n >= counter.limit:
            raise KeyboardInterrupt
        counter.n += 1
        return fits(self, batch, reducer)

    monkeypatch.setattr(Runner, "_fits", counted)
    return counter


def test_the_same_bits_as_in_memory(cells, embed, tmp_path):
    expected = embed(cells.copy())
    got = embed(cells, out=tmp_path / "out")
    assert type(got) is np.ndarray  # AnnData writes no other
    assert isinstance(got.base, np.memmap)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "embedding.npy"), expected)
    assert cells.uns["X_geneformer"]["out"] == str(tmp_path / "out")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"embedding.npy", "manifest.json"}


def test_blocks_do_not_depend_on_the_container(cells, embed, tmp_path):
    import dask.array as da
    import scipy.sparse as sp

    expected = embed(cells.copy(), out=tmp_path / "csr")
    for name, matrix in {
        "csc": sp.csc_matrix(cells.X),
        "dense": cells.X.toarray().astype(np.int64),
        "dask": da.from_array(cells.X.toarray(), chunks=(9, 20)),
    }.items():
        other = cells.copy()
        other.X = matrix
        # The folder of another container's run is gone on with: the counts are the same.
        np.testing.assert_array_equal(embed(other, out=tmp_path / "csr"), expected)
        np.testing.assert_array_equal(embed(other, out=tmp_path / name), expected)


@pytest.mark.faults
def test_interrupted_and_gone_on_with(cells, embed, tmp_path, count_batches):
    expected = embed(cells.copy())
    whole, count_batches.n = count_batches.n, 0
    untouched = cells.copy()
    rounds = 0
    while True:
        count_batches.limit = count_batches.n + 7
        try:
            got = embed(cells, out=tmp_path / "out")
            break
        except KeyboardInterrupt:
            rounds += 1
            assert list(cells.obsm) == list(cells.uns) == []
            assert cells.obs.equals(untouched.obs)
    assert rounds == -(-whole // 7) - 1
    assert count_batches.n == whole  # none twice
    np.testing.assert_array_equal(got, expected)


def test_a_finished_run_is_not_repeated(cells, embed, tmp_path, count_batches):
    expected = np.array(embed(cells, out=tmp_path / "out"))
    done = count_batches.n
    np.testing.assert_array_equal(embed(cells, out=tmp_path / "out"), expected)
    np.testing.assert_array_equal(embed(cells, out=tmp_path / "out", key_added="again"), expected)
    assert count_batches.n == done


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"hidden_layer": "last"}, "n_layers_run is 2 there and 3 here"),
        ({"token_budget": 91}, "token_budget is 90 there and 91 here"),
        ({"pooling": "other"}, "pooling is '.*' there and '.*' here"),
        ("counts", "counts is '[0-9a-f]{32}' there and"),
        ("rows", "n_cells is 50 there and 49 here"),
        ("genes", "genes is [0-9a-f]{12}… there and"),
        ("weights", "encoder_sha256 is [0-9a-f]{12}… there and"),
    ],
    ids=str,
)
def test_another_run_is_refused(cells, model, make_model, embed, tmp_path, change, told):
    embed(cells.copy(), out=tmp_path / "out")
    options, other_model = {"token_budget": BUDGET, "device": "cpu"}, model
    if change == "counts":
        cells.X.data[5] += 1
    elif change == "rows":
        cells = cells[:-1].copy()
    elif change == "genes":
        cells.var_names = [*cells.var_names[1:], cells.var_names[0]]
    elif change == "weights":
        other_model = make_model(v2="cls" in model.vocabulary.special, seed=1)
    elif "pooling" in change:
        if "cls" not in model.vocabulary.special:
            pytest.skip("has one pooling only")
        options["pooling"] = "mean"
    else:
        options |= change
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with pytest.raises(ValueError, match=f"holds another run: .*{told}"):
        glm.tl.embed(cells, other_model, out=tmp_path / "out", **options)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    assert list(cells.obsm) == list(cells.uns) == []


def test_weights_that_were_changed_in_memory(cells, make_model, tmp_path):
    """The hash of the file that they were read from says nothing of them then."""
    model = glm.models.load(make_model().save(tmp_path / "model"))
    with pytest.warns(glm.GlmWarning, match="could not be embedded"):
        glm.tl.embed(cells, model, out=tmp_path / "out")
    with torch.no_grad():
        model.encoder.embeddings.norm.bias += 1
    with pytest.raises(ValueError, match="holds another run: encoder_sha256 is"):
        glm.tl.embed(cells, model, out=tmp_path / "out", overwrite=True)


def test_a_second_run_beside_it(cells, embed, tmp_path, monkeypatch):
    """The slower one finds the shards gone, and takes the result."""
    expected = np.array(embed(cells.copy()))
    finish = WorkFolder.finish

    def overtaken(folder, name, write):
        monkeypatch.setattr(WorkFolder, "finish", finish)
        embed(cells.copy(), out=tmp_path / "out")
        finish(folder, name, write)

    monkeypatch.setattr(WorkFolder, "finish", overtaken)
    np.testing.assert_array_equal(embed(cells, out=tmp_path / "out"), expected)
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"embedding.npy", "manifest.json"}


def test_killed_just_before_the_shards_are_gone(cells, embed, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(WorkFolder, "drop_shards", lambda folder: None)
        expected = np.array(embed(cells.copy(), out=tmp_path / "out"))
    assert (tmp_path / "out" / "shards").exists()
    np.testing.assert_array_equal(embed(cells, out=tmp_path / "out"), expected)
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"embedding.npy", "manifest.json"}


def test_shards_that_are_there_need_no_room(cells, embed, tmp_path, monkeypatch, count_batches):
    """A disk that held all when the run began holds it when the run goes on."""
    n_bytes = 4 * cells.n_obs * embed(cells.copy()).shape[1]
    Usage = type(shutil.disk_usage(tmp_path))
    free = 2 * n_bytes

    def usage(path):
        held = sum(file.stat().st_size for file in (tmp_path / "out").rglob("*.npz"))
        return Usage(free, held, free - min(held, n_bytes))

    monkeypatch.setattr(shutil, "disk_usage", usage)
    count_batches.limit = count_batches.n + 8
    with pytest.raises(KeyboardInterrupt):
        embed(cells.copy(), out=tmp_path / "out")
    count_batches.limit = None
    embed(cells, out=tmp_path / "out")


def test_processes_take_the_budget_of_the_first():
    """The memory of each one's device may be another; the batches must not be."""

    class Second(Team):
        def tell(self, value):
            return "70"

    plan = make_plan("cpu", budget=90)
    agreed = _job._agreed(Job(None, None, plan, 1), Second(plan.device))
    assert agreed.plan == make_plan("cpu", budget=70)


def test_a_budget_that_is_no_whole_number(cells, embed, tmp_path):
    with pytest.raises(ValueError, match=r"token_budget is 90\.5; expected a whole number"):
        embed(cells, token_budget=90.5, out=tmp_path / "out")


def test_the_budget_of_the_first_call_stays(cells, embed, tmp_path):
    """Chosen by the memory that was free then; a call that does not name one goes on with it."""
    expected = np.array(embed(cells, out=tmp_path / "out"))
    got = embed(cells, out=tmp_path / "out", token_budget=None)
    np.testing.assert_array_equal(got, expected)
    assert cells.uns["X_geneformer"]["token_budget"] == BUDGET


@pytest.mark.faults
def test_a_begun_shard_is_saved_at_times(cells, embed, tmp_path, count_batches, monkeypatch):
    monkeypatch.setattr(job, "_SECONDS_BETWEEN_SAVES", 0.0)
    monkeypatch.setattr(job._Shard, "_save", _spied(job._Shard._save, saves := []))
    embed(cells, out=tmp_path / "out")
    assert len(saves) == count_batches.n


def _spied(function, calls):
    def spy(self):
        calls.append(self)
        return function(self)

    return spy


def test_the_result_can_be_changed_but_not_the_file(cells, embed, tmp_path):
    got = embed(cells, out=tmp_path / "out")
    got[0] = 7
    assert not (np.load(tmp_path / "out" / "embedding.npy")[0] == 7).any()


@pytest.mark.parametrize("form", ["h5ad", "zarr"])
def test_the_object_is_written_and_read(cells, embed, tmp_path, form):
    import anndata as ad

    expected = np.array(embed(cells, out=tmp_path / "out"))
    getattr(cells, f"write_{form}")(tmp_path / f"cells.{form}")
    again = getattr(ad, f"read_{form}")(tmp_path / f"cells.{form}")
    np.testing.assert_array_equal(again.obsm["X_geneformer"], expected)
    np.testing.assert_array_equal(cells[3:9].copy().obsm["X_geneformer"], expected[3:9])


@pytest.mark.faults
def test_genes_go_on_too(cells, model, tmp_path, count_batches):
    """Sums over cells: the states of shards are merged in their order."""
    options = {"of": "genes", "token_budget": BUDGET, "device": "cpu"}
    with pytest.warns(glm.GlmWarning, match="left out of the means"):
        expected = glm.tl.embed(cells, model, copy=True, **options).varm["X_geneformer"]
    whole, count_batches.n = count_batches.n, 0
    count_batches.limit = whole // 2
    with pytest.raises(KeyboardInterrupt):
        glm.tl.embed(cells, model, out=tmp_path / "out", **options)
    count_batches.limit = None
    with pytest.warns(glm.GlmWarning, match="left out of the means"):
        glm.tl.embed(cells, model, out=tmp_path / "out", **options)
    assert count_batches.n == whole
    np.testing.assert_array_equal(cells.varm["X_geneformer"], expected)
