"""The command line: the demonstration from start to figures, and the list of models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import anndata
import numpy as np
import pytest
from anndata import AnnData
from click.testing import CliRunner, Result

import glm
from glm import _demo
from glm.cli import main
from glm.models import Model
from glm.slots import plain

FIGURES = ("umap.png", "agreement.png")
PNG = b"\x89PNG\r\n\x1a\n"

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # scanpy's and umap's own
    pytest.mark.filterwarnings("ignore:The least populated class"),  # of a quarter of the cells
]


def assert_complete(out: Path, result: Result, model: str, n_cells: int = 700) -> AnnData:
    assert result.exit_code == 0, result.output
    assert {path.name for path in out.iterdir()} == {*FIGURES, "demo.h5ad"}
    for name in FIGURES:
        assert (out / name).read_bytes().startswith(PNG)
        assert (out / name).stat().st_size > 5_000
    adata = anndata.read_h5ad(out / "demo.h5ad")
    assert adata.n_obs == n_cells
    assert np.isfinite(adata.obsm["X_geneformer"]).all()
    assert adata.obs["geneformer_ok"].all()
    assert adata.layers["rank_geneformer"].shape == adata.shape
    assert (adata.obs["n_ranked_geneformer"] > 0).all()
    assert adata.var["token_geneformer"].max() > 0
    assert adata.var["ensembl_id"].str.startswith("ENSG").mean() > 0.9
    assert adata.obsm["X_umap"].shape == (n_cells, 2)
    assert adata.obs["leiden"].nunique() > 1
    for key in ("ensembl_id", "rank_geneformer", "X_geneformer"):
        assert plain(adata.uns[key])["model"] == model
    assert glm.get.sentences(adata, adata.obs_names[:1])
    return adata


@pytest.fixture
def small(
    make_model: Callable[..., Model], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Path:
    """A quarter of the cells, a small random model of their genes, and nothing of umap's.

    It takes seconds to compile; the slow test runs it.
    """
    import scanpy as sc

    cells = _demo.pbmc68k()[::4].copy()
    symbols = glm.models.get("geneformer-tiny").vocabulary().symbols
    known = {name: symbols[name] for name in cells.var_names if name in symbols}
    ids = tuple(dict.fromkeys(known.values()))
    model = make_model(n_genes=len(ids))
    model = replace(model, vocabulary=replace(model.vocabulary, ids=ids, symbols=known))

    def two_components(adata: AnnData, **_: object) -> None:
        adata.obsm["X_umap"] = adata.obsm["X_pca"][:, :2]

    monkeypatch.setattr(_demo, "pbmc68k", cells.copy)
    monkeypatch.setattr(sc.tl, "umap", two_components)
    monkeypatch.setattr(sc.pp, "neighbors", partial(sc.pp.neighbors, method="gauss"))
    return model.save(tmp_path / "model")


def test_demo_in_small(small: Path, tmp_path: Path):
    out = tmp_path / "new" / "folder"
    result = CliRunner().invoke(main, ["demo", "--out", str(out), "--model", str(small), "--quiet"])
    assert_complete(out, result, "small-v1", n_cells=175)
    for wanted in ("[1/5]", "[5/5]", "X_geneformer", "most common label", str(out / "umap.png")):
        assert wanted in result.output
    assert "%|" not in result.output + result.stderr  # no bar
    again = CliRunner().invoke(main, ["demo", "--out", str(out), "--model", str(small), "--quiet"])
    assert_complete(out, again, "small-v1", n_cells=175)


def test_demo_leaves_settings_and_backend_alone(small: Path, tmp_path: Path):
    import matplotlib

    before = matplotlib.get_backend(), repr(glm.settings)
    CliRunner().invoke(main, ["demo", "--out", str(tmp_path / "a"), "--model", str(small)])
    assert (matplotlib.get_backend(), repr(glm.settings)) == before


def test_an_interrupted_write_keeps_the_earlier_file(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = tmp_path / "demo.h5ad"
    file.write_bytes(b"earlier")

    def breaks_off(self: AnnData, path: Path, **_: object) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(AnnData, "write_h5ad", breaks_off)
    with pytest.raises(KeyboardInterrupt):
        _demo.run_demo(tmp_path, str(small), progress=False, say=lambda text: None)
    assert file.read_bytes() == b"earlier"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".demo")]


@pytest.mark.slow
def test_demo_as_documented(tmp_path: Path):
    with glm.settings.override(offline=True):
        result = CliRunner().invoke(main, ["demo", "--out", str(tmp_path), "--quiet"])
    adata = assert_complete(tmp_path, result, "geneformer-tiny")
    assert plain(adata.uns["X_geneformer"])["tier"] == "demo"
    assert "do not draw conclusions" in result.output


def test_unknown_model(tmp_path: Path):
    out = tmp_path / "out"
    result = CliRunner().invoke(main, ["demo", "--out", str(out), "--model", "none"])
    assert result.exit_code == 1
    assert "There is no model 'none'" in result.output
    assert "geneformer-tiny" in result.output
    assert not out.exists()


def test_models():
    result = CliRunner().invoke(main, ["models"])
    assert result.exit_code == 0
    for name in glm.models.list().index:
        assert name in result.output


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["demo", "--help"]])
def test_help(arguments: list[str]):
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0
    assert "Usage: " in result.output


def test_version():
    assert glm.__version__ in CliRunner().invoke(main, ["--version"]).output
