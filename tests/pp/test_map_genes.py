"""Mapping names of genes: what is written, what is told, what is refused."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import glm
from glm import GlmWarning
from glm.models import Model


@pytest.fixture(scope="module")
def model(make_model: Callable[..., Model]) -> Model:
    return make_model()


@pytest.fixture(scope="module")
def folder(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model.save(tmp_path_factory.mktemp("bundle"))


@pytest.fixture
def named() -> Callable[[list[object]], AnnData]:
    """Two cells whose genes have the names given, in ``var_names``."""

    def make(names: list) -> AnnData:
        return AnnData(np.ones((2, len(names)), np.float32), var=pd.DataFrame(index=names))

    return make


def test_symbols_become_ids(named, folder: Path, model: Model):
    adata = named([f"GENE{i}" for i in range(60)])
    assert glm.pp.map_genes(adata, folder) is None
    assert adata.var["ensembl_id"].tolist() == list(model.vocabulary.ids)
    assert list(adata.var_names[:2]) == ["GENE0", "GENE1"]  # names stay as they are
    assert list(adata.var) == list(adata.uns) == ["ensembl_id"]
    assert not [*adata.obs, *adata.layers, *adata.obsm, *adata.varm]


def test_record(named, folder: Path, model: Model):
    ids = model.vocabulary.ids
    adata = named(["GENE0", ids[1], f"{ids[2]}.4", "nobody", ids[0], "Sep-02"])
    with pytest.warns(GlmWarning):
        glm.pp.map_genes(adata, folder)
    record = adata.uns["ensembl_id"]
    assert record["kinds"] == {"symbol": 1, "id": 2, "versioned": 1, "unknown": 1, "date": 1}
    assert (record["n_names"], record["n_in_vocabulary"], record["n_columns_summed"]) == (6, 4, 1)
    assert record["source"] == "var_names"
    assert record["model"] == model.spec.name
    assert record["slots"] == ["var/ensembl_id"]
    json.dumps(record)


def test_one_warning_tells_all(named, folder: Path, model: Model):
    adata = named(["GENE0", "nobody", model.vocabulary.ids[0], "Sep-02"])
    with pytest.warns(GlmWarning) as caught:
        glm.pp.map_genes(adata, folder)
    (warning,) = caught
    assert str(warning.message) == (
        "2 of 4 (50%) gene names were mapped to genes of small-v1; "
        "2 of 4 (50%) have no Ensembl id (nobody, Sep-02); "
        f"1 share a gene with an earlier column ({model.vocabulary.ids[0]}); "
        "1 were turned into dates by a spreadsheet (Sep-02)."
    )
    assert warning.filename == __file__
    assert adata.var["ensembl_id"].tolist() == [
        model.vocabulary.ids[0],
        "",
        *adata.var_names[2:3],
        "",
    ]


def test_all_placed_is_told_in_the_log_only(named, folder: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level("INFO", logger="glm"):
        glm.pp.map_genes(named(["GENE0", "GENE1"]), folder)
    assert caplog.messages == [
        "added 'ensembl_id' (var): 2 of 2 (100%) names are genes of small-v1"
    ]


def test_names_in_a_column(named, folder: Path, model: Model):
    adata = named(["a", "b"])
    adata.var["symbol"] = pd.Categorical(["GENE5", "GENE4"])
    glm.pp.map_genes(adata, folder, source="symbol", key_added="found")
    assert adata.var["found"].tolist() == [model.vocabulary.ids[5], model.vocabulary.ids[4]]
    assert adata.uns["found"]["source"] == "symbol"


def test_what_follows_reads_what_was_written(
    model: Model, folder: Path, make_cells: Callable[..., AnnData]
):
    adata = make_cells(model.vocabulary, 3)
    expected = glm.tl.embed(adata, model, copy=True).obsm["X_geneformer"]
    symbol_of = {gene: symbol for symbol, gene in model.vocabulary.symbols.items()}
    adata.var_names = [symbol_of[name] for name in adata.var_names]
    glm.pp.map_genes(adata, folder)
    glm.tl.embed(adata, model)
    assert adata.uns["X_geneformer"]["gene_ids"] == "ensembl_id"
    assert np.array_equal(adata.obsm["X_geneformer"], expected)


def test_copy_and_view(named, folder: Path, model: Model):
    adata = named([f"GENE{i}" for i in range(6)])
    copy = glm.pp.map_genes(adata, folder, copy=True)
    assert list(adata.var) == []
    assert copy.var["ensembl_id"].tolist() == list(model.vocabulary.ids[:6])
    view = adata[:, [4, 2]]
    glm.pp.map_genes(view, folder)
    assert view.var["ensembl_id"].tolist() == [model.vocabulary.ids[4], model.vocabulary.ids[2]]
    assert list(adata.var) == []


def test_again_and_overwrite(named, folder: Path, model: Model, make_model, tmp_path: Path):
    adata = named(["GENE0", "GENE1"])
    glm.pp.map_genes(adata, folder)
    glm.pp.map_genes(adata, folder)
    other = make_model(v2=True).save(tmp_path)
    with pytest.raises(ValueError, match="holds the result of small-v1"):
        glm.pp.map_genes(adata, other)
    adata.var["mine"] = "x"
    with pytest.raises(ValueError, match=r"adata\.var\['mine'\] already holds something glm did"):
        glm.pp.map_genes(adata, folder, key_added="mine")
    assert adata.var["mine"].tolist() == ["x", "x"]
    glm.pp.map_genes(adata, folder, key_added="mine", overwrite=True)
    assert adata.var["mine"].tolist() == list(model.vocabulary.ids[:2])


@pytest.mark.filterwarnings("ignore:Writing zarr v2")
@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_written_and_read(named, folder: Path, tmp_path: Path, suffix: str):
    adata = named(["GENE0", "nobody", "GENE1"])
    with pytest.warns(GlmWarning, match="nobody"):
        glm.pp.map_genes(adata, folder)
    getattr(adata, f"write_{suffix}")(tmp_path / f"a.{suffix}")
    read = getattr(anndata, f"read_{suffix}")(tmp_path / f"a.{suffix}")
    assert read.var["ensembl_id"].tolist() == adata.var["ensembl_id"].tolist()


# ---- refusals -----------------------------------------------------------------------------------


def test_too_few_known(named, folder: Path):
    names = ["GENE0", *(f"x-{i}" for i in range(11))]
    with pytest.raises(ValueError, match=r"Only 1 of 12 \(8%\) .* at least 10%.* x-0, x-1, x-2"):
        glm.pp.map_genes(named(names), folder)
    with pytest.warns(GlmWarning, match=r"1 of 12 \(8%\)"):
        glm.pp.map_genes(named(names), folder, min_share=0.05)


def test_mouse_symbols(named, folder: Path):
    adata = named(["Actb", "Gapdh", "Cd4", "Cd8a", "Malat1"])
    with pytest.raises(ValueError, match=r"5 of 5 \(100%\) .* another species .*\(human\)"):
        glm.pp.map_genes(adata, folder)
    assert list(adata.var) == list(adata.uns) == []


def test_missing_names(named, folder: Path):
    adata = named(["GENE0", "GENE1"])
    adata.var["symbol"] = ["GENE0", None]
    with pytest.raises(ValueError, match=r"1 of 2 \(50%\) gene names are missing"):
        glm.pp.map_genes(adata, folder, source="symbol")


def test_missing_column_and_model(named, folder: Path):
    adata = named(["GENE0"])
    adata.var["a"] = adata.var["b"] = 1
    with pytest.raises(KeyError, match=r"no column 'symbol'; it has a, b"):
        glm.pp.map_genes(adata, folder, source="symbol")
    with pytest.raises(KeyError, match="There is no model 'none'"):
        glm.pp.map_genes(adata, "none")


def test_published_dictionaries(named, test_data: Path):
    """Symbols old and new, retired names, a gene that the vocabulary does not hold."""
    names = ["GATA4", "MARCH1", "C1orf112", "CXorf40A", "MALAT1", "ENSG00000136574.9"]
    adata = named(names)
    with (
        glm.settings.override(mirror=test_data / "geneformer", offline=True),
        pytest.warns(GlmWarning, match=r"1 share a gene with an earlier column \(ENSG00000136574"),
    ):
        glm.pp.map_genes(adata)
    assert adata.var["ensembl_id"].tolist() == [
        "ENSG00000136574",
        "ENSG00000145416",
        "ENSG00000000460",
        "ENSG00000197620",
        "ENSG00000251562",
        "ENSG00000136574",
    ]
    assert adata.uns["ensembl_id"]["n_in_vocabulary"] == 5


def test_shared_genes_are_told_once(named, folder: Path, model: Model):
    """By this function, not again by each that reads the cells; of other columns they are."""
    adata = named(["GENE0", *model.vocabulary.ids])
    with pytest.warns(GlmWarning, match="1 share a gene with an earlier column"):
        glm.pp.map_genes(adata, folder)
    adata.X = np.ones(adata.shape, np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error", GlmWarning)
        glm.tl.rank_encode(adata, folder)
    assert adata.uns["rank_geneformer"]["n_columns_summed"] == 1
    report = glm.pp.check(adata, folder)
    assert any(finding.topic == "repeated genes" for finding in report.of("warning"))
    twice = adata[:, [0, 1, 2, 2, *range(3, adata.n_vars)]].copy()
    with pytest.warns(GlmWarning, match="2 columns share a gene"):
        glm.tl.rank_encode(twice, folder)
