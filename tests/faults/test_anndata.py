"""Views, files, odd names, slots that are taken, and the user's own columns."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import glm
from glm import slots

pytestmark = pytest.mark.faults

KEY = "geneformer"


def _record(adata: ad.AnnData) -> Mapping[str, Any]:
    (name,) = (key for key in adata.uns if KEY in key)
    return adata.uns[name]


def _empty(adata: ad.AnnData, row: int) -> None:
    values = adata.X.toarray()
    values[row] = 0
    adata.X = sp.csr_matrix(values)


# ---- views -------------------------------------------------------------------------------------

SELECTIONS = {
    "slice": slice(1, 4),
    "reversed": [4, 2, 0],
    "mask": np.array([True, False, True, True, False, False]),
    "names": ["cell5", "cell0"],
}


@pytest.mark.parametrize("chosen", SELECTIONS.values(), ids=SELECTIONS)
def test_30_view(cells, verb, accepts, results, chosen):
    """The result lands on the object that was passed, which becomes one of its own."""
    parent = {slot: getattr(cells, slot).copy() for slot in ("X", "obs", "var")}
    view = cells[chosen]
    expected = results(view.copy())
    assert view.is_view
    accepts(verb, view)
    assert not view.is_view
    for got, wanted in zip(results(view), expected, strict=True):
        np.testing.assert_array_equal(got, wanted)
    assert (parent["X"] != cells.X).nnz == 0
    pd.testing.assert_frame_equal(cells.obs, parent["obs"])
    pd.testing.assert_frame_equal(cells.var, parent["var"])
    assert not cells.obsm
    assert not cells.layers
    assert not cells.uns


def test_30_view_of_genes(cells, verb, accepts, results):
    view = cells[:, ::-1][:, :2_990]
    expected = results(view.copy())
    accepts(verb, view)
    for got, wanted in zip(results(view), expected, strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_30_view_stays_a_view_when_refused(cells, verb, refuses):
    cells.X.data[-1] = -1
    view = cells[3:]
    refuses(verb, view, ValueError, "1 negative", "in cell 'cell5'", also=[cells])
    assert view.is_view


def test_30_copy_leaves_the_object_alone(cells, verb, refuses):
    found = verb(cells, copy=True)
    assert _record(found)
    assert [cells.obsm, cells.layers, cells.uns] == [{}, {}, {}]
    assert cells.obs.columns.tolist() == ["kind"]
    cells.X.data[0] = np.nan
    refuses(verb, cells, ValueError, "not finite", copy=True)


# ---- files -------------------------------------------------------------------------------------

STORED = {"csr": sp.csr_matrix, "csc": sp.csc_matrix, "dense": lambda matrix: matrix.toarray()}


@pytest.fixture
def stored(cells, tmp_path: Path):
    """Write the cells in a format and open the file in a mode; closed after the test."""
    opened = []

    def make(mode: str, form: str = "csr") -> ad.AnnData:
        cells.X = STORED[form](cells.X)
        path = tmp_path / f"{form}.h5ad"
        cells.write_h5ad(path)
        opened.append(ad.read_h5ad(path, backed=mode))
        return opened[-1]

    yield make
    for adata in opened:
        adata.file.close()


@pytest.mark.parametrize("form", STORED)
def test_31_read_only_file(stored, verb, accepts, results, cells, form):
    """Counts are read from the file, which stays as it is; results are in memory."""
    expected = results(cells)
    backed = stored("r", form)
    accepts(verb, backed)
    assert backed.isbacked
    for got, wanted in zip(results(backed.to_memory()), expected, strict=True):
        np.testing.assert_array_equal(got, wanted)
    if KEY in str(list(backed.obsm)):
        np.testing.assert_array_equal(backed.obsm[f"X_{KEY}"], expected[0])
    else:
        np.testing.assert_array_equal(backed.layers[f"rank_{KEY}"].toarray(), expected[1])


def test_31_rows_are_streamed(stored, verb, monkeypatch):
    """No more than a block of rows is ever asked of the file."""
    backed = stored("r")
    kind, asked = type(backed.X), []
    whole = kind.__getitem__

    def watched(self, rows):
        asked.append(rows.stop - rows.start)
        return whole(self, rows)

    monkeypatch.setattr(kind, "__getitem__", watched)
    monkeypatch.setattr(kind, "to_memory", lambda _: pytest.fail("the matrix was read whole"))
    monkeypatch.setattr("glm.encode._matrices.BLOCK_VALUES", 700)
    verb(backed)
    # Once, whether counts hide elsewhere is looked up in the first rows, at most 500 of them.
    assert sum(rows > 3 for rows in asked) <= 1
    assert sum(asked) >= 6


@pytest.mark.parametrize("name", ["embed", "rank_encode", "map_genes"])
def test_31_what_a_file_cannot_take_is_refused(stored, refuses, monkeypatch, request, name):
    """Before anything is computed, not after."""
    call = request.getfixturevalue(name)
    monkeypatch.setattr("glm.models.registry.ModelSpec.vocabulary", lambda _: pytest.fail("late"))
    backed = stored("r")
    refuses(call, backed, ValueError, "copy=True", r"adata\.to_memory\(\)", copy=True)
    view = backed[:3]
    patterns = (r"view \(3 × 3,000\)", "backed by a file", r"adata\.to_memory\(\)")
    refuses(call, view, ValueError, *patterns, also=[backed])


@pytest.mark.parametrize("name", ["embed", "rank_encode", "map_genes"])
def test_32_writable_file(stored, refuses, request, name, cells):
    """Never written in place; the message says how to go on, and the file can be read."""
    backed = stored("r+")
    patterns = ("csr.h5ad", r"mode 'r\+'", "backed='r'", "write_h5ad", r"to_memory\(\)")
    refuses(request.getfixturevalue(name), backed, ValueError, *patterns)
    path = backed.filename
    backed.file.close()
    again = ad.read_h5ad(path)
    assert (again.X != cells.X).nnz == 0


def test_32_the_way_that_is_named_works(stored, verb, tmp_path):
    backed = stored("r")
    verb(backed)
    record = dict(_record(backed))
    backed.write_h5ad(tmp_path / "with results.h5ad")
    again = ad.read_h5ad(tmp_path / "with results.h5ad")
    assert _record(again)["model"] == record["model"]
    assert again.X.shape == (6, 3_000)


# ---- names -------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Observation names are not unique:UserWarning")
def test_33_duplicate_cell_names(cells, embed, rank_encode, accepts, results):
    """Rows are written by position."""
    _empty(cells, 4)
    expected = results(cells)
    cells.obs_names = ["a", "b", "a", "a", "b", "b"]
    accepts(embed, cells, unusable=[4])
    accepts(rank_encode, cells)
    np.testing.assert_array_equal(cells.obsm[f"X_{KEY}"], expected[0])
    np.testing.assert_array_equal(cells.layers[f"rank_{KEY}"].toarray(), expected[1])
    n_ranked = (expected[1] > 0).sum(axis=1)
    np.testing.assert_array_equal(cells.obs[f"n_ranked_{KEY}"].to_numpy(), n_ranked)


NAMES = {
    "integers": pd.Index([7, 3, 12, 0, 5, 1]),
    "not ASCII": pd.Index(["célula 1", "細胞", "клетка", "a\tb", "🧬", ""]),
    "categorical": pd.CategoricalIndex(list("fedcba")),
    "times": pd.date_range("2024-01-01", periods=6),
}


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_34_odd_cell_names(cells, embed, rank_encode, accepts, results, names):
    _empty(cells, 0)
    expected = results(cells)
    cells.obs.index = names
    accepts(embed, cells, unusable=[0])
    accepts(rank_encode, cells)
    pd.testing.assert_index_equal(cells.obs.index, names)
    np.testing.assert_array_equal(cells.obsm[f"X_{KEY}"], expected[0])


def test_34_odd_gene_names(cells, map_genes, verb, accepts):
    """Names that are no genes of the model, in any script, are left out and stay as they are."""
    names = list(cells.var_names)
    names[:3] = ["βアクチン", "α-тубулин 1", "gène"]
    cells.var_names = names
    accepts(map_genes, cells, told=["βアクチン, α-тубулин 1, gène"])
    accepts(verb, cells)
    assert cells.var_names.tolist() == names


# ---- slots that are taken ----------------------------------------------------------------------


def _other(model: glm.models.Model, folder: Path) -> dict[str, Any]:
    """The same weights under another name, as each verb takes a model."""
    other = dataclasses.replace(model, spec=dataclasses.replace(model.spec, name="other-model"))
    bundle = other.save(folder / "other")
    return {"embed": other, "rank_encode": bundle, "map_genes": bundle}


@pytest.mark.parametrize("name", ["embed", "rank_encode", "map_genes"])
def test_35_the_same_models_result_is_replaced(cells, accepts, request, name):
    call = request.getfixturevalue(name)
    accepts(call, cells)
    first = {slot: getattr(cells, slot).copy() for slot in ("obs", "var")}
    accepts(call, cells)
    pd.testing.assert_frame_equal(cells.obs, first["obs"])
    pd.testing.assert_frame_equal(cells.var, first["var"])


@pytest.mark.parametrize("name", ["embed", "rank_encode", "map_genes"])
def test_35_another_models_result_is_kept(cells, model, accepts, refuses, request, name, tmp_path):
    call = request.getfixturevalue(name)
    other = _other(model, tmp_path)[name]
    accepts(call, cells)
    patterns = (
        "already holds the result of geneformer-tiny",
        "another key_added",
        "overwrite=True",
    )
    refuses(call, cells, ValueError, *patterns, model=other)
    accepts(call, cells, model=other, key_added="second")
    accepts(call, cells, model=other, overwrite=True)
    found = cells.uns["ensembl_id"] if name == "map_genes" else cells.uns.get(f"X_{KEY}")
    found = found or cells.uns[f"rank_{KEY}"]
    assert found["model"] == "other-model"


OWN = {
    "embed": [f"obsm/X_{KEY}", f"obs/{KEY}_ok", f"uns/X_{KEY}"],
    "rank_encode": [f"layers/rank_{KEY}", f"var/token_{KEY}", f"obs/n_ranked_{KEY}"],
    "map_genes": ["var/ensembl_id", "uns/ensembl_id"],
}


@pytest.mark.parametrize(
    ("name", "slot"), [(name, slot) for name, taken in OWN.items() for slot in taken]
)
def test_35_the_users_own_slot_is_kept(cells, accepts, refuses, request, name, slot):
    call = request.getfixturevalue(name)
    attribute, taken = slot.split("/")
    sizes = {"obsm": (6, 2), "obs": 6, "layers": (6, 3_000)}
    value = {"uns": {"mine": 1}, "var": list(cells.var_names)}.get(attribute)
    getattr(cells, attribute)[taken] = np.ones(sizes[attribute]) if value is None else value
    place = rf"adata\.{attribute}\['{taken}'\] already holds something glm did not write"
    refuses(call, cells, ValueError, place, "another key_added", "overwrite=True")
    accepts(call, cells, overwrite=True)


def test_35_a_key_taken_by_the_other_verb(cells, embed, rank_encode, accepts):
    """Ranks and embeddings of one key live side by side."""
    accepts(embed, cells)
    accepts(rank_encode, cells)
    accepts(embed, cells)


def test_35_the_old_result_survives_a_failing_run(cells, embed, accepts, refuses, monkeypatch):
    accepts(embed, cells)

    def fails(*_, **__):
        raise RuntimeError("out of memory")

    monkeypatch.setattr("glm.models.fast.bert.PackedBert.hidden", fails)
    refuses(embed, cells, RuntimeError, "ran out|out of memory")


class _Full(dict):
    """Refuses the next record."""

    refuse = False

    def __setitem__(self, key: str, value: Any) -> None:
        if self.refuse:
            self.refuse = False
            raise MemoryError("no room for the record")
        super().__setitem__(key, value)


@pytest.mark.parametrize("earlier", [True, False], ids=["replacing", "new"])
@pytest.mark.parametrize("name", ["embed", "rank_encode"])
def test_35_the_old_result_survives_a_failing_write(
    cells, accepts, refuses, request, name, earlier
):
    """The last slot cannot be written: those before it are put back."""
    call = request.getfixturevalue(name)
    cells.uns = _Full()
    if earlier:
        accepts(call, cells)
    cells.X.data[:] += 1  # the new result is another one
    assert isinstance(cells.uns, _Full)
    cells.uns.refuse = True

    def write(adata: ad.AnnData) -> None:
        try:
            call(adata)
        except MemoryError as error:
            raise RuntimeError("refused") from error

    refuses(write, cells, RuntimeError, "refused")
    assert not cells.uns.refuse


def test_35_a_slot_that_does_not_fit(cells, refuses):
    """Two of three slots are written when the third is refused."""
    values = {
        ("obsm", "X_a"): np.zeros((6, 2), np.float32),
        ("obs", "a_ok"): np.ones(6, bool),
        ("varm", "X_a"): np.zeros((6, 2), np.float32),  # as many rows as cells, not genes
    }

    def write(adata: ad.AnnData) -> None:
        slots.write(adata, values, "X_a", slots.make_record(model="a"))

    refuses(write, cells, ValueError)
    cells.obs["a_ok"] = "mine"
    refuses(write, cells, ValueError)


# ---- the user's own columns --------------------------------------------------------------------


def test_36_the_users_columns_are_not_read(cells, embed, rank_encode, accepts, results):
    """Other tools filter by them, overwrite them or take them for their own."""
    expected = results(cells)
    odd = [np.nan, -1, 0, 1, 2, 3]
    for name in ("n_counts", "total_counts", "length", "n_genes", "seq", "token", "tokens"):
        cells.obs[name] = odd
        cells.var[name] = np.resize(odd, 3_000)
    cells.obs["filter_pass"] = cells.obs["ok"] = [False, True] * 3
    cells.obs["cell_type"], cells.obs["batch"] = "x", "y"
    cells.var["seq"] = "ACGT"
    cells.var["highly_variable"] = cells.var["filter_pass"] = [False, True] * 1_500
    cells.var["gene_id"] = cells.var["ensembl"] = "none"
    cells.obsm["X_pca"], cells.uns["log1p"] = np.zeros((6, 2)), {"base": None}
    for got, wanted in zip(results(cells), expected, strict=True):
        np.testing.assert_array_equal(got, wanted)
    accepts(embed, cells)
    accepts(rank_encode, cells)


# ---- provenance --------------------------------------------------------------------------------


def test_37_records_hold_plain_values():
    record = slots.make_record(
        nothing=None,
        pair=(1, "a"),
        path=Path("a") / "b",
        other_path=PurePosixPath("a/b"),
        names=frozenset({"b", "a"}),
        number=np.float32(0.5),
        truth=np.True_,
        array=np.arange(2),
        nested={1: {"deep": (None, Path("c"))}},
    )
    found = {name: record[name] for name in record if name not in ("glm_version", "written")}
    assert found == {
        "nothing": "none",
        "pair": [1, "a"],
        "path": str(Path("a") / "b"),
        "other_path": "a/b",
        "names": ["a", "b"],
        "number": 0.5,
        "truth": True,
        "array": [0, 1],
        "nested": {"1": {"deep": ["none", "c"]}},
    }
    with pytest.raises(TypeError, match="cannot hold a object"):
        slots.make_record(what=object())


def _equal(before: Any, after: Any) -> bool:
    if isinstance(before, Mapping):
        same = before.keys() == after.keys()
        return same and all(_equal(before[key], after[key]) for key in before)
    return np.array_equal(before, after)


@pytest.mark.filterwarnings("ignore:Writing zarr v2 data:UserWarning")
@pytest.mark.parametrize("form", ["h5ad", "zarr"])
def test_37_round_trips(cells, model, map_genes, accepts, tmp_path, form):
    """With a model given as a path, and again into what was read back."""
    bundle = model.save(tmp_path / "a bundle ü")
    _empty(cells, 2)
    accepts(map_genes, cells, model=bundle)
    accepts(glm.tl.embed, cells, model=bundle, hidden_layer=0, pooling="cls", unusable=[2])
    accepts(glm.tl.rank_encode, cells, model=bundle)
    path = tmp_path / f"cells.{form}"
    getattr(cells, f"write_{form}")(path)
    again = getattr(ad, f"read_{form}")(path)
    assert {*again.uns} == {"ensembl_id", f"X_{KEY}", f"rank_{KEY}"}
    for name in again.uns:
        assert _equal(cells.uns[name], again.uns[name]), name
    np.testing.assert_array_equal(again.obsm[f"X_{KEY}"], cells.obsm[f"X_{KEY}"])
    assert (again.layers[f"rank_{KEY}"] != cells.layers[f"rank_{KEY}"]).nnz == 0
    pd.testing.assert_series_equal(again.obs[f"{KEY}_ok"], cells.obs[f"{KEY}_ok"])
    assert again.var["ensembl_id"].tolist() == cells.var["ensembl_id"].tolist()
    accepts(map_genes, again, model=bundle)
    accepts(glm.tl.embed, again, model=bundle, unusable=[2])
    accepts(glm.tl.rank_encode, again, model=bundle)
    assert glm.get.sentences(again, ["cell2"]) == {"cell2": []}


def test_38_labels_after_slicing(cells, embed, rank_encode, accepts, tmp_path):
    """Codes change when categories are dropped; names do not, and only they are kept."""
    cells.obs["kind"] = pd.Categorical(["z", "a", "m", "a", "z", "m"], categories=["z", "m", "a"])
    subset = cells[cells.obs["kind"] != "z"]
    accepts(embed, subset)
    accepts(rank_encode, subset)
    expected = ["a", "m", "a", "m"]
    assert subset.obs["kind"].tolist() == expected
    again = subset[::-1].copy()
    accepts(embed, again)
    again.write_h5ad(tmp_path / "cells.h5ad")
    assert ad.read_h5ad(tmp_path / "cells.h5ad").obs["kind"].tolist() == expected[::-1]
    for name in (f"X_{KEY}", f"rank_{KEY}"):
        kept = slots.plain(again.uns[name])
        assert "kind" not in kept
        assert not [value for value in kept.values() if isinstance(value, list) and 0 in value]


ODD_COLUMNS = {
    "bool": [True, False, True, True, False, False],
    "nullable bool": pd.array([True, None, False, None, True, True], dtype="boolean"),
    "nullable integer": pd.array([1, None, 3, 4, None, 6], dtype="Int64"),
    "nullable float": pd.array([0.5, None, 3, 4, None, 6], dtype="Float32"),
    "string": pd.array(["a", None, "c", "", "ü", "f"], dtype="string"),
    "object": ["a", "b", "c", "", "ü", "f"],
    "categorical": pd.Categorical(["a", None, "b", "b", "a", None]),
    "ordered": pd.Categorical([1, 2, 3, 1, 2, 3], ordered=True),
    "time": pd.date_range("2024-01-01", periods=6),
    "mixed": [1, "a", None, 2.5, (1, 2), {"b"}],
}


@pytest.mark.parametrize("column", ODD_COLUMNS)
def test_40_types_of_columns(cells, verb, accepts, results, column):
    expected = results(cells)
    cells.obs["column"] = ODD_COLUMNS[column]
    cells.var["column"] = np.nan
    cells.var["column"] = cells.var["column"].astype(object)
    for i, value in enumerate(cells.obs["column"]):
        cells.var.iat[i, 0] = value
    for got, wanted in zip(results(cells), expected, strict=True):
        np.testing.assert_array_equal(got, wanted)
    accepts(verb, cells)


@pytest.mark.parametrize("dtype", ["string", "category", "object"])
def test_40_types_of_gene_ids(cells, verb, accepts, dtype):
    cells.var["ids"] = pd.Series(list(cells.var_names), index=cells.var_names).astype(dtype)
    cells.var_names = [f"gene {i}" for i in range(3_000)]
    accepts(verb, cells, gene_ids="ids")


# ---- twice -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["embed", "rank_encode", "map_genes"])
def test_46_twice_is_once(cells, accepts, request, name):
    call = request.getfixturevalue(name)

    def state() -> dict[str, Any]:
        found = {f"obsm/{k}": v for k, v in cells.obsm.items()}
        found |= {f"layers/{k}": v.toarray() for k, v in cells.layers.items()}
        found |= {f"obs/{k}": v.to_numpy() for k, v in cells.obs.items()}
        found |= {f"var/{k}": v.to_numpy() for k, v in cells.var.items()}
        for key, record in cells.uns.items():
            found |= {f"uns/{key}/{k}": v for k, v in record.items() if k != "written"}
        return found

    accepts(call, cells)
    first = state()
    for _ in range(2):
        accepts(call, cells)
    second = state()
    assert list(first) == list(second)
    for slot, value in first.items():
        np.testing.assert_array_equal(value, second[slot], err_msg=slot)
