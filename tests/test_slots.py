"""Slots: all or none, never somebody else's, and readable again from every file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.sparse import csr_matrix

import glm
from glm.models import Model
from glm.slots import check_free, make_record, plain, write

N_CELLS, N_GENES = 5, 4
SLOTS = [
    ("layers", "rank"),
    ("var", "token"),
    ("obs", "n"),
    ("obsm", "X"),
    ("varm", "G"),
]


def values(scale: int = 1) -> dict[tuple[str, str], Any]:
    return {
        ("layers", "rank"): csr_matrix(np.eye(N_CELLS, N_GENES) * scale),
        ("var", "token"): np.arange(N_GENES) * scale,
        ("obs", "n"): np.arange(N_CELLS) * scale,
        ("obsm", "X"): np.full((N_CELLS, 2), scale, np.float32),
        ("varm", "G"): np.full((N_GENES, 2), scale, np.float32),
    }


@pytest.fixture
def adata() -> AnnData:
    return AnnData(
        csr_matrix(np.ones((N_CELLS, N_GENES), np.float32)),
        pd.DataFrame({"kind": list("aabbc")}, index=[f"c{i}" for i in range(N_CELLS)]),
        pd.DataFrame(index=[f"g{i}" for i in range(N_GENES)]),
    )


def snapshot(adata: AnnData) -> dict[str, Any]:
    """Everything in an object, by value."""

    def dense(value: Any) -> Any:
        value = value.toarray() if hasattr(value, "toarray") else value
        return value.tolist() if hasattr(value, "tolist") else value

    found: dict[str, Any] = {"X": dense(adata.X), "uns": json.loads(json.dumps(dict(adata.uns)))}
    for name in ("obs", "var"):
        found[name] = getattr(adata, name).to_dict("list")
    for name in ("layers", "obsm", "varm", "obsp", "varp"):
        found[name] = {key: dense(value) for key, value in getattr(adata, name).items()}
    return found


def record(model: str = "m") -> dict[str, Any]:
    return make_record(model=model, n=1)


# ---- writing ------------------------------------------------------------------------------------


def test_everything_is_written(adata: AnnData):
    write(adata, values(), "rec", record())
    for (attribute, name), value in values().items():
        found = getattr(adata, attribute)[name]
        dense = [v.toarray() if hasattr(v, "toarray") else np.asarray(v) for v in (found, value)]
        assert (dense[0] == dense[1]).all()
    assert adata.uns["rec"]["slots"] == ["/".join(slot) for slot in values()]
    assert adata.uns["rec"]["model"] == "m"
    assert adata.uns["rec"]["glm_version"] == glm.__version__
    assert "+00:00" in adata.uns["rec"]["written"]


def test_the_record_handed_in_is_not_changed(adata: AnnData):
    mine = record()
    write(adata, values(), "rec", mine)
    assert "slots" not in mine


class Refuses(Exception):
    """Raised by a slot that cannot be written."""


@pytest.fixture
def failing_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[AnnData, tuple[str, str]], None]:
    """Let the setting of one slot fail, after it was set."""

    def arm(adata: AnnData, slot: tuple[str, str]) -> None:
        holder_type = type(getattr(adata, slot[0]))
        real = holder_type.__setitem__
        failed: list[bool] = []

        def setitem(self: Any, key: Any, value: Any) -> None:
            real(self, key, value)
            if key == slot[1] and not failed:
                failed.append(True)
                raise Refuses(slot)

        monkeypatch.setattr(holder_type, "__setitem__", setitem)

    return arm


@pytest.mark.parametrize("slot", [*SLOTS], ids="/".join)
@pytest.mark.parametrize("earlier", [False, True], ids=["new", "replaced"])
def test_a_failure_at_any_slot_leaves_no_trace(
    adata: AnnData, failing_at: Callable[..., None], slot: tuple[str, str], earlier: bool
):
    if earlier:
        write(adata, values(scale=7), "rec", record("before"))
    before = snapshot(adata)
    failing_at(adata, slot)
    with pytest.raises(Refuses):
        write(adata, values(), "rec", record())
    assert snapshot(adata) == before


@pytest.mark.parametrize("slot", SLOTS, ids="/".join)
@pytest.mark.parametrize("earlier", [False, True], ids=["new", "replaced"])
def test_values_of_the_wrong_shape_leave_no_trace(
    adata: AnnData, slot: tuple[str, str], earlier: bool
):
    if earlier:
        write(adata, values(scale=7), "rec", record("before"))
    before = snapshot(adata)
    with pytest.raises(ValueError):  # noqa: PT011 - AnnData's and pandas' own words
        write(adata, {**values(), slot: np.zeros((N_CELLS + 9, 3))}, "rec", record())
    assert snapshot(adata) == before


def test_a_failure_at_the_record_leaves_no_trace(adata: AnnData, monkeypatch: pytest.MonkeyPatch):
    class Uns(dict):
        def __setitem__(self, key: Any, value: Any) -> None:
            super().__setitem__(key, value)
            raise KeyboardInterrupt

    before = snapshot(adata)
    monkeypatch.setattr(AnnData, "uns", Uns())
    with pytest.raises(KeyboardInterrupt):
        write(adata, values(), "rec", record())
    assert dict(adata.uns) == {}
    monkeypatch.undo()
    assert snapshot(adata) == before


# ---- views --------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("error")
def test_a_view_becomes_an_object_of_its_own_without_a_word(adata: AnnData):
    before = snapshot(adata)
    view = adata[:, [2, 0]]
    assert view.is_view
    write(view, {("var", "token"): np.array([5, 6])}, "rec", record())
    assert not view.is_view
    assert view.var["token"].tolist() == [5, 6]
    assert view.uns["rec"]["slots"] == ["var/token"]
    assert snapshot(adata) == before


@pytest.mark.parametrize("slot", [("layers", "rank"), ("obsm", "X"), ("obs", "n")], ids="/".join)
def test_a_failure_on_a_view_leaves_no_trace_anywhere(adata: AnnData, slot: tuple[str, str]):
    write(adata, values(scale=7), "rec", record("before"))
    whole, view = snapshot(adata), adata[1:4]
    part = snapshot(view.copy())
    good = {
        ("layers", "rank"): csr_matrix(np.eye(3, N_GENES)),
        ("obsm", "X"): np.ones((3, 2)),
        ("obs", "n"): np.arange(3),
    }
    with pytest.raises(ValueError):  # noqa: PT011 - AnnData's and pandas' own words
        write(view, {**good, slot: np.zeros((9, 3))}, "rec", record())
    assert snapshot(view) == part
    assert snapshot(adata) == whole


# ---- whose slot is it ---------------------------------------------------------------------------


def test_the_same_model_replaces_its_own(adata: AnnData):
    check_free(adata, SLOTS, "rec", model="m", overwrite=False)
    write(adata, values(), "rec", record())
    check_free(adata, SLOTS, "rec", model="m", overwrite=False)
    write(adata, values(scale=3), "rec", record())
    assert adata.obsm["X"].tolist() == [[3, 3]] * N_CELLS


def test_another_model_is_refused(adata: AnnData):
    write(adata, values(), "rec", record())
    with pytest.raises(ValueError, match=r"adata\.layers\['rank'\] already holds the result of m"):
        check_free(adata, SLOTS, "rec", model="other", overwrite=False)
    check_free(adata, SLOTS, "rec", model="other", overwrite=True)
    check_free(adata, [("obsm", "X2")], "rec2", model="other", overwrite=False)


def test_other_weights_of_the_same_name_are_refused(adata: AnnData):
    """As of two folders that are both called checkpoint-1000."""
    mine = {"model": "m", "overwrite": False}
    write(adata, values(), "rec", {**record(), "weights_sha256": "a"})
    check_free(adata, SLOTS, "rec", **mine, weights_sha256="a")
    with pytest.raises(ValueError, match=r"other weights that were called m too \(sha256 a\)"):
        check_free(adata, SLOTS, "rec", **mine, weights_sha256="b")
    for unknown in (None, "unsaved"):
        check_free(adata, SLOTS, "rec", **mine, weights_sha256=unknown)
    check_free(adata, SLOTS, "rec", model="m", overwrite=True, weights_sha256="b")


@pytest.mark.parametrize("slot", [*SLOTS, ("uns", "rec")], ids="/".join)
def test_what_the_user_put_there_is_refused(adata: AnnData, slot: tuple[str, str]):
    value = {"mine": 1} if slot[0] == "uns" else values()[slot]
    getattr(adata, slot[0])[slot[1]] = value
    with pytest.raises(ValueError, match=r"something glm did not write.*key_added.*overwrite=True"):
        check_free(adata, SLOTS, "rec", model="m", overwrite=False)
    check_free(adata, SLOTS, "rec", model="m", overwrite=True)


def test_a_slot_beside_our_record_that_it_does_not_name_is_refused(adata: AnnData):
    write(adata, {("obsm", "X"): values()["obsm", "X"]}, "rec", record())
    adata.obs["n"] = 1
    with pytest.raises(ValueError, match=r"adata\.obs\['n'\] already holds something glm did not"):
        check_free(adata, SLOTS, "rec", model="m", overwrite=False)


@pytest.mark.parametrize("lost", [None, "text", {}, {"model": "m"}], ids=repr)
def test_slots_without_their_record_are_refused(adata: AnnData, lost: object):
    write(adata, values(), "rec", record())
    del adata.uns["rec"]
    if lost is not None:
        adata.uns["rec"] = lost
    with pytest.raises(ValueError, match="something glm did not write"):
        check_free(adata, SLOTS, "rec", model="m", overwrite=False)


# ---- plain values -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "none"),
        (True, True),
        (np.bool_(False), False),
        (3, 3),
        (np.int32(3), 3),
        (np.float32(0.5), 0.5),
        ("text", "text"),
        (np.str_("text"), "text"),
        (Path("a") / "b", str(Path("a/b"))),
        ((1, "b"), [1, "b"]),
        ({"b", "a"}, ["a", "b"]),
        (frozenset({3, 1}), [1, 3]),
        (np.array([[1, 2]]), [[1, 2]]),
        ({1: {"a": None, "b": (np.int64(1),)}}, {"1": {"a": "none", "b": [1]}}),
        ([], []),
        ({}, {}),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_plain(value: object, expected: object):
    found = plain(value)
    assert found == expected
    assert type(found) is type(expected)
    json.dumps(found)


@pytest.mark.parametrize(
    "value", [object(), 1j, b"raw", [object()], {"a": {"b": range(3)}}], ids=repr
)
def test_what_is_not_plain_is_refused(value: object):
    with pytest.raises(TypeError, match="A record cannot hold a"):
        make_record(value=value)


# ---- files --------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Writing zarr v2")
@pytest.mark.filterwarnings("ignore::glm.GlmWarning")  # cell 3 is empty, some names are unknown
@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_records_and_slots_come_back_from_files(
    tmp_path: Path,
    suffix: str,
    make_model: Callable[..., Model],
    make_cells: Callable[..., AnnData],
):
    model = make_model(v2=True)
    folder = model.save(tmp_path / "model")
    written = make_cells(model.vocabulary, n_cells=6, outside=5)
    symbol_of = {gene: symbol for symbol, gene in model.vocabulary.symbols.items()}
    written.var_names = [symbol_of.get(gene, f"unknown-{gene}") for gene in written.var_names]

    def compute(adata: AnnData) -> None:
        glm.pp.map_genes(adata, folder)
        glm.tl.rank_encode(adata, folder)
        glm.tl.embed(adata, folder)

    compute(written)
    path = tmp_path / f"cells.{suffix}"
    getattr(written, f"write_{suffix}")(path)
    read = {"h5ad": anndata.read_h5ad, "zarr": anndata.read_zarr}[suffix](path)
    for key in ("ensembl_id", "rank_geneformer", "X_geneformer"):
        assert plain(read.uns[key]) == plain(written.uns[key])
    assert (read.layers["rank_geneformer"] != written.layers["rank_geneformer"]).nnz == 0
    assert read.layers["rank_geneformer"].dtype == written.layers["rank_geneformer"].dtype
    vectors = written.obsm["X_geneformer"].copy()
    assert np.isfinite(vectors).all(axis=1).tolist() == [True, True, True, False, True, True]
    np.testing.assert_array_equal(read.obsm["X_geneformer"], vectors)
    assert read.var["ensembl_id"].tolist() == written.var["ensembl_id"].tolist()
    for column in ("n_ranked_geneformer", "geneformer_ok"):
        assert read.obs[column].tolist() == written.obs[column].tolist()
        assert read.obs[column].dtype == written.obs[column].dtype
    assert glm.get.sentences(read) == glm.get.sentences(written)
    compute(read)  # its records still say whose the slots are: they are replaced
    np.testing.assert_array_equal(read.obsm["X_geneformer"], vectors)
