"""Rows 30 to 32, 35, 41 to 45: objects in memory, in files, lazily read, of many modalities."""

from __future__ import annotations

import copy
import functools
import io
import pickle
import warnings

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import glm

KEY = "X_geneformer"


@pytest.fixture
def expected(cells, embed) -> np.ndarray:
    return embed(cells, copy=True).obsm[KEY]


# ---- 30: views ---------------------------------------------------------------------------------


def test_30_view(cells, verb, accepts, results, refuses):
    """The view becomes an object of its own and takes the result; its parent stays as it was."""
    whole = results(cells)
    parent = cells.copy()
    view = parent[[4, 1, 2]]
    before = set(parent.obs) | set(parent.layers) | set(parent.obsm)
    adata = accepts(verb, view)
    assert adata is view
    assert not adata.is_view
    assert set(parent.obs) | set(parent.layers) | set(parent.obsm) == before
    if KEY in adata.obsm:
        np.testing.assert_array_equal(adata.obsm[KEY], whole[0][[4, 1, 2]])
    else:
        got = adata.layers["rank_geneformer"].toarray()
        np.testing.assert_array_equal(got, whole[1][[4, 1, 2]])


def test_30_view_of_genes(cells, embed, accepts):
    accepts(embed, cells[:, ::2], told=["a subset"])


def test_30_view_that_is_refused_stays_a_view(cells, verb, refuses):
    cells.X[0, 0] = 0.5
    view = cells[:3]
    refuses(verb, view, ValueError, "not whole", also=[cells])
    assert view.is_view


def test_30_view_of_a_file(cells, verb, refuses, tmp_path):
    cells.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    refuses(verb, backed[:3], ValueError, r"is a view \(3 × 3,000\)", "to_memory")


# ---- 31, 32: files -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form", [sp.csr_matrix, sp.csc_matrix, np.asarray], ids=["csr", "csc", "dense"]
)
def test_31_backed_read_only(cells, embed, accepts, expected, tmp_path, form):
    """Counts are streamed, the result stays in memory, the file is not touched."""
    cells.X = form(cells.X.toarray())
    cells.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    accepts(embed, backed)
    np.testing.assert_array_equal(backed.obsm[KEY], expected)
    assert backed.isbacked
    backed.write_h5ad(tmp_path / "with.h5ad")
    np.testing.assert_array_equal(ad.read_h5ad(tmp_path / "with.h5ad").obsm[KEY], expected)


def test_31_copy_of_a_file(cells, verb, refuses, tmp_path):
    cells.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    refuses(verb, backed, ValueError, "copy=True cannot copy", "to_memory", copy=True)


def test_31_ranks_of_a_file(cells, rank_encode, accepts, results, tmp_path):
    ranks = results(cells)[1]
    cells.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    accepts(rank_encode, backed)
    np.testing.assert_array_equal(backed.layers["rank_geneformer"].toarray(), ranks)


def test_32_backed_for_writing(cells, verb, refuses, tmp_path):
    cells.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r+")
    try:
        with pytest.raises(ValueError, match=r"mode 'r\+', but glm does not write.*backed='r'"):
            verb(backed)
        assert list(backed.obsm) == list(backed.uns) == []
    finally:
        backed.file.close()
    again = ad.read_h5ad(tmp_path / "cells.h5ad")
    np.testing.assert_array_equal(again.X.toarray(), cells.X.toarray())


# ---- other sources: lazily read, dask, zarr ----------------------------------------------------


def _lazy(cells, path, form):
    pytest.importorskip("xarray", reason="read_lazy needs xarray")
    from anndata.experimental import read_lazy

    return read_lazy(_written(cells, path, form))


def _written(cells, path, form):
    if form == "zarr":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the version of the format
            cells.write_zarr(path / "cells.zarr")
    else:
        cells.write_h5ad(path / "cells.h5ad")
    return path / f"cells.{form}"


def _lazy_matrix(cells, path, form):
    from anndata.experimental import read_elem_lazy

    return ad.AnnData(read_elem_lazy(_group(cells, path, form)["X"]), cells.obs, cells.var)


def _on_disk(cells, path, form):
    matrix = ad.io.sparse_dataset(_group(cells, path, form)["X"])
    return ad.AnnData(matrix, cells.obs, cells.var)


def _group(cells, path, form):
    import h5py
    import zarr

    written = _written(cells, path, form)
    return zarr.open(written, mode="r") if form == "zarr" else h5py.File(written, "r")


def _dask(cells, path, form):
    da = pytest.importorskip("dask.array")
    chunks = (2, 3000) if form == "zarr" else (4, 700)
    cells.X = da.from_array(cells.X.toarray(), chunks=chunks)
    return cells


@pytest.mark.parametrize("form", ["h5ad", "zarr"])
@pytest.mark.parametrize("source", [_lazy, _lazy_matrix, _on_disk, _dask])
def test_31_streamed(cells, embed, rank_encode, expected, results, tmp_path, source, form):
    """The same bits from every source, and the same ranks."""
    ranks = results(cells)[1]
    adata = source(cells.copy(), tmp_path, form)
    embed(adata)
    np.testing.assert_array_equal(adata.obsm[KEY], expected)
    assert np.asarray(adata.obs["geneformer_ok"]).all()
    assert adata.uns[KEY]["n_cells"] == 6
    rank_encode(adata)
    np.testing.assert_array_equal(adata.layers["rank_geneformer"].toarray(), ranks)


@pytest.mark.parametrize("source", [_lazy, _lazy_matrix, _on_disk, _dask])
def test_30_view_of_what_is_streamed(cells, embed, expected, tmp_path, source):
    view = source(cells.copy(), tmp_path, "h5ad")[[4, 1, 2]]
    embed(view)
    np.testing.assert_array_equal(view.obsm[KEY], expected[[4, 1, 2]])


def test_31_lazily_read_ids(cells, embed, expected, tmp_path):
    """Columns of a lazily read ``var`` are no pandas."""
    cells.var["ensembl_id"] = cells.var_names.to_numpy()
    cells.var_names = [f"gene{i}" for i in range(cells.n_vars)]
    adata = _lazy(cells, tmp_path, "h5ad")
    embed(adata)
    np.testing.assert_array_equal(adata.obsm[KEY], expected)
    assert adata.uns[KEY]["gene_ids"] == "ensembl_id"


# ---- 35: keys that exist -----------------------------------------------------------------------


def test_35_the_same_models_result_is_replaced(cells, verb):
    verb(cells)
    before = {
        part: sorted(getattr(cells, part)) for part in ("obs", "var", "obsm", "uns", "layers")
    }
    verb(cells)
    assert before == {
        part: sorted(getattr(cells, part)) for part in ("obs", "var", "obsm", "uns", "layers")
    }


def test_35_the_old_result_is_kept_on_failure(cells, embed, refuses, monkeypatch):
    embed(cells)
    setter, fails = type(cells.obs).__setitem__, []

    def broken(self, key, value):
        if key == "geneformer_ok" and not fails:
            fails.append(key)
            raise MemoryError("no room")
        return setter(self, key, value)

    old = cells.obsm[KEY].copy()
    monkeypatch.setattr(type(cells.obs), "__setitem__", broken)
    cells.X = sp.csr_matrix(cells.X.toarray()[::-1])
    with pytest.raises(MemoryError, match="no room"):
        embed(cells)
    assert fails
    np.testing.assert_array_equal(cells.obsm[KEY], old)
    assert cells.obs["geneformer_ok"].all()


def test_35_another_models_result(cells, embed, refuses, accepts, model):
    import dataclasses

    other = dataclasses.replace(model, spec=dataclasses.replace(model.spec, name="other"))
    glm.tl.embed(cells, other)
    refuses(embed, cells, ValueError, r"already holds the result of other", "overwrite=True")
    embed(cells, key_added="mine")
    embed(cells, overwrite=True)
    assert cells.uns[KEY]["model"] == "geneformer-tiny"


@pytest.mark.parametrize("slot", ["obsm/X_geneformer", "obs/geneformer_ok", "uns/X_geneformer"])
def test_35_the_users_own(cells, embed, refuses, slot):
    part, name = slot.split("/")
    mine = {"obsm": np.ones((6, 2)), "obs": np.arange(6), "uns": {"mine": 1}}
    getattr(cells, part)[name] = mine[part]
    refuses(embed, cells, ValueError, rf"adata\.{part}\['{name}'\] already holds something glm did")
    embed(cells, overwrite=True)
    assert cells.obsm[KEY].shape[1] > 2


# ---- 41 to 43: several modalities --------------------------------------------------------------


@pytest.fixture
def modalities(cells) -> md.MuData:
    """Cells of which some have one modality only, in another order in the other."""
    names = [*cells.obs_names[[5, 0, 3]], "another"]
    other = ad.AnnData(np.ones((4, 2), np.float32), pd.DataFrame(index=names))
    return md.MuData({"rna": cells, "protein": other})


@pytest.fixture(params=["embed", "rank_encode", "map_genes"])
def any_verb(request) -> functools.partial:
    return request.getfixturevalue(request.param)


def test_41_unpaired_modalities(modalities, embed, expected):
    """Rows of the result are those of the modality; cells that it lacks are missing values."""
    embed(modalities, mod="rna")
    np.testing.assert_array_equal(modalities["rna"].obsm[KEY], expected)
    assert list(modalities.obsm) == ["rna", "protein"]
    assert KEY not in modalities["protein"].obsm
    modalities.update()
    modalities.pull_obs()
    pulled = modalities.obs["rna:geneformer_ok"]
    assert pulled.notna().sum() == 6
    assert pulled.isna()["another"]


def test_42_renamed_and_updated_afterwards(modalities, embed, expected):
    embed(modalities, mod="rna")
    rna = modalities["rna"]
    by_name = dict(zip(rna.obs_names, expected, strict=True))
    modalities.update()
    part = modalities[[*modalities.obs_names[::-1]]].copy()
    for name, vector in zip(part["rna"].obs_names, part["rna"].obsm[KEY], strict=True):
        np.testing.assert_array_equal(vector, by_name[name])
    rna.obs_names = [f"new{i}" for i in range(6)]
    modalities.update()
    np.testing.assert_array_equal(modalities["rna"].obsm[KEY], expected)


def test_43_missing_modality(modalities, cells, any_verb):
    with pytest.raises(KeyError, match="no modality 'atac'; the MuData has rna, protein"):
        any_verb(modalities, mod="atac")
    with pytest.raises(TypeError, match=r"Got a MuData.*mod='rna'"):
        any_verb(modalities)
    with pytest.raises(
        TypeError, match="mod='rna' names a modality of a MuData, and this is of type AnnData"
    ):
        any_verb(cells, mod="rna")
    assert list(cells.uns) == list(cells.obsm) == list(cells.layers) == []


def test_43_any_verb_takes_a_modality(modalities, any_verb):
    before = set(modalities["rna"].uns)
    assert any_verb(modalities, mod="rna") is None
    assert set(modalities["rna"].uns) - before
    assert not modalities.uns


def test_43_copy_of_a_mudata(modalities, embed, expected):
    copied = embed(modalities, mod="rna", copy=True)
    assert isinstance(copied, md.MuData)
    np.testing.assert_array_equal(copied["rna"].obsm[KEY], expected)
    assert KEY not in modalities["rna"].obsm


@pytest.mark.parametrize("backed", [False, "r"])
def test_43_mudata_in_a_file(modalities, embed, expected, tmp_path, backed):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        modalities.write_h5mu(tmp_path / "cells.h5mu")
        again = md.read_h5mu(tmp_path / "cells.h5mu", backed=backed)
    embed(again, mod="rna")
    np.testing.assert_array_equal(again["rna"].obsm[KEY], expected)


# ---- 44: the place of the result ---------------------------------------------------------------


def test_44_out_is_the_input(cells, embed, refuses, tmp_path):
    cells.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    refuses(
        embed,
        backed,
        ValueError,
        "is the file that adata is read from",
        out=tmp_path / "cells.h5ad",
    )


def test_44_out_is_a_file_or_anothers_folder(cells, embed, refuses, tmp_path):
    (tmp_path / "file").write_text("mine")
    refuses(
        embed, cells, ValueError, "is a file. Long runs write into a folder", out=tmp_path / "file"
    )
    _written(cells, tmp_path, "zarr")
    refuses(
        embed,
        cells,
        ValueError,
        "holds something else: it has no manifest",
        out=str(tmp_path / "cells.zarr"),
    )


@pytest.mark.skipif(not hasattr(__import__("os"), "geteuid"), reason="needs POSIX")
def test_44_out_cannot_be_made(cells, embed, refuses, tmp_path):
    (tmp_path / "file").write_text("mine")
    refuses(embed, cells, OSError, "", out=tmp_path / "file" / "out")


# ---- 45: what happens to the object afterwards -------------------------------------------------


@pytest.fixture(params=["memory", "out"])
def embedded(request, cells, embed, tmp_path):
    embed(cells, **({"out": tmp_path / "out"} if request.param == "out" else {}))
    return cells


def test_45_copies_and_parts(embedded, expected):
    pickled = pickle.Unpickler(io.BytesIO(pickle.dumps(embedded))).load()  # noqa: S301
    for other in (embedded.copy(), copy.deepcopy(embedded), pickled):
        np.testing.assert_array_equal(other.obsm[KEY], expected)
        assert other.uns[KEY]["model"] == "geneformer-tiny"
    part = embedded[[3, 0]].copy()
    np.testing.assert_array_equal(part.obsm[KEY], expected[[3, 0]])
    assert part.obs["geneformer_ok"].dtype == bool


def test_45_concatenated(embedded, embed, expected, refuses):
    """The record is dropped by AnnData: what is left is not taken for ours."""
    joined = ad.concat([embedded, embedded[:2]], index_unique="-")
    np.testing.assert_array_equal(joined.obsm[KEY][:6], expected)
    assert KEY not in joined.uns
    refuses(embed, joined, ValueError, "already holds something glm did not write")
    embed(joined, overwrite=True)
    np.testing.assert_allclose(joined.obsm[KEY][6:], expected[:2], atol=1e-5)
    kept = ad.concat([embedded, embedded[:2]], index_unique="-", uns_merge="same")
    embed(kept)
    assert kept.uns[KEY]["n_cells"] == 8


@pytest.mark.parametrize("form", ["h5ad", "zarr"])
def test_45_written_and_read(embedded, embed, expected, tmp_path, form):
    written = _written(embedded, tmp_path, form)
    again = ad.read_h5ad(written) if form == "h5ad" else ad.read_zarr(written)
    np.testing.assert_array_equal(again.obsm[KEY], expected)
    embed(again)  # the record was read: it is known to be ours
    np.testing.assert_array_equal(again.obsm[KEY], expected)
