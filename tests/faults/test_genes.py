"""Gene names of other kinds, versions, species and spreadsheets."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData

import glm

pytestmark = pytest.mark.faults

TINY = "geneformer-tiny"
V1, V2 = "geneformer-v1-10m", "geneformer-v2-104m"
# Real names of the pseudoautosomal region, present on X and on Y.
ON_X, ON_Y_OLDER = "ENSG00000182378", "ENSGR0000182378"


@pytest.fixture(scope="module")
def vocabulary() -> glm.models.GeneVocabulary:
    return glm.models.get(TINY).vocabulary()


@pytest.fixture(scope="module")
def symbol_of(vocabulary) -> dict[str, str]:
    return {gene: symbol for symbol, gene in vocabulary.symbols.items()}


@pytest.fixture
def real_dictionaries(test_data: Path):
    """The published dictionaries of V1 and V2, from a folder and never from the network."""
    with glm.settings.override(mirror=test_data / "geneformer", offline=True):
        yield


def _named(cells: AnnData, names: list[object]) -> AnnData:
    adata = cells.copy()
    adata.var_names = names
    return adata


def _counts_of(names: list[str], n_cells: int = 2, seed: int = 0) -> AnnData:
    counts = np.random.default_rng(seed).integers(1, 50, (n_cells, len(names))).astype(np.float32)
    return AnnData(sp.csr_matrix(counts), var=pd.DataFrame(index=names))


# ---- symbols -----------------------------------------------------------------------------------


def test_19_symbols_are_not_guessed(cells, verb, refuses, symbol_of):
    symbols = _named(cells, [symbol_of[gene] for gene in cells.var_names])
    refuses(
        verb,
        symbols,
        ValueError,
        "var_names are gene symbols",
        rf"\({symbols.var_names[0]}, .* and 2,997 more\)",
        rf"glm\.pp\.map_genes\(adata, '{TINY}'\)",
        r"3,000 of 3,000 \(100%\)",
    )
    symbols.var["gene_ids"] = list(cells.var_names)
    refuses(verb, symbols, ValueError, "pass gene_ids='gene_ids'", "or call glm.pp.map_genes")


def test_19_symbols_mapped_on_request(cells, map_genes, accepts, results, symbol_of):
    names = [symbol_of[gene] for gene in cells.var_names]
    names[5] = "NOT-A-GENE"
    adata = _named(cells, names)
    accepts(map_genes, adata, told=[r"2,999 of 3,000 \(>99%\) .*1 of 3,000 .*\(NOT-A-GENE\)"])
    ids = adata.var["ensembl_id"].to_numpy()
    assert ids[5] == ""
    np.testing.assert_array_equal(np.delete(ids, 5), np.delete(cells.var_names.to_numpy(), 5))
    assert adata.uns["ensembl_id"]["n_in_vocabulary"] == 2_999
    assert adata.uns["ensembl_id"]["kinds"] == {"symbol": 2_999, "unknown": 1}
    _, ranks = results(adata)
    assert (ranks[:, 5] == 0).all()
    without = cells[:, np.arange(3_000) != 5].copy()
    np.testing.assert_array_equal(np.delete(ranks, 5, axis=1), results(without)[1])


def test_19_too_few_found(cells, map_genes, verb, refuses):
    names = [f"CONTIG-{i}" for i in range(2_900)] + list(cells.var_names[2_900:])
    adata = _named(cells, names)
    refuses(
        map_genes,
        adata,
        ValueError,
        r"Only 100 of 3,000 \(3%\)",
        "at least 10%",
        "Unknown are CONTIG-0, CONTIG-1, CONTIG-2",
        "source=",
    )
    refuses(
        verb,
        adata,
        ValueError,
        r"Only \d\.\d% of the counts",
        r"100 of 3,000 \(3%\) names in var_names are known",
        "CONTIG-0, CONTIG-1, CONTIG-2 and 2,897 more",
        "Expected 10% or more",
    )
    refuses(verb, _named(cells, [f"CONTIG-{i}" for i in range(3_000)]), ValueError, "None of the")


def test_19_missing_columns(cells, map_genes, verb, refuses):
    cells.var["feature"] = list(cells.var_names)
    refuses(map_genes, cells, KeyError, "no column 'symbol'", "feature", source="symbol")
    refuses(verb, cells, KeyError, "no column 'symbol'", "feature", gene_ids="symbol")


# ---- versions, copies on Y, names that look like ids -------------------------------------------


def test_20_versions(cells, verb, accepts, results, caplog):
    expected = results(cells)
    versioned = _named(cells, [f"{gene}.{i % 30}" for i, gene in enumerate(cells.var_names)])
    for got, wanted in zip(results(versioned), expected, strict=True):
        np.testing.assert_array_equal(got, wanted)
    with caplog.at_level(logging.INFO, logger="glm"):
        verb(versioned)
    assert "3,000 gene ids: versions were left off" in caplog.text
    (record,) = (value for key, value in versioned.uns.items() if "geneformer" in key)
    assert record["name_kinds"] == {"versioned": 3_000}
    accepts(verb, _named(cells, list(versioned.var_names)))


def test_20_versions_are_mapped(cells, map_genes, accepts):
    versioned = _named(cells, [f"{gene}.12" for gene in cells.var_names])
    accepts(map_genes, versioned)
    assert versioned.var["ensembl_id"].tolist() == cells.var_names.tolist()
    assert versioned.uns["ensembl_id"]["kinds"] == {"versioned": 3_000}


@pytest.mark.parametrize("model", [V1, V2])
def test_21_whole_patterns(real_dictionaries, accepts, model):
    """ENSA begins like an id, AC000068.10 ends like a version, ENSG0000 is cut short."""
    adata = _counts_of([ON_X, "ENSA", "AC000068.10", "ENSG0000018237", f"{ON_X}9", "GATA4", "MT-X"])
    accepts(glm.pp.map_genes, adata, model=model, told=["AC000068.10, ENSG0000018237"])
    ids = adata.var["ensembl_id"].tolist()
    assert ids == [ON_X, "ENSG00000143420", "", "", "", "ENSG00000136574", ""]
    assert adata.uns["ensembl_id"]["kinds"] == {"id": 1, "symbol": 2, "unknown": 4}


def test_21_older_symbols_with_dots(real_dictionaries, accepts):
    """A name with a dot is looked up whole."""
    adata = _counts_of([ON_X, "BA453N3.6", "BA453N3"])
    accepts(glm.pp.map_genes, adata, model=V2, told=[r"1 of 3 .*\(BA453N3\)"])
    ids = adata.var["ensembl_id"].tolist()
    assert ids[1].startswith("ENSG")
    assert ids[2] == ""


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("model", [V1, V2])
def test_21_copies_on_y_stay_apart(real_dictionaries, model, mapped):
    """V1 has tokens for copies on Y, V2 has none; neither adds them to the gene on X."""
    names = [ON_X, f"{ON_X}.8_PAR_Y", f"{ON_X}_PAR_Y", "ENSG00000136574", "ENSG00000143420"]
    adata = _counts_of(names[:2] + names[3:])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", glm.GlmWarning)
        if mapped:
            glm.pp.map_genes(adata, model)
        glm.tl.rank_encode(adata, model)
    tokens = adata.var["token_geneformer"].tolist()
    ranks = adata.layers["rank_geneformer"].toarray()
    vocabulary = glm.models.get(model).vocabulary()
    assert tokens[0] == vocabulary.tokens[vocabulary.index[ON_X]]
    assert adata.uns["rank_geneformer"]["n_columns_summed"] == 0
    if model == V1:
        assert tokens[1] == vocabulary.tokens[vocabulary.index[ON_Y_OLDER]]
        assert (ranks > 0).all()
    else:
        assert tokens[1] == -1
        assert (ranks[:, 1] == 0).all()
    alone = adata[:, [0, 2, 3]].copy()
    with pytest.warns(glm.GlmWarning, match="a subset"):
        glm.tl.rank_encode(alone, model)
    order = [np.argsort(row) for row in ranks[:, [0, 2, 3]]]
    assert np.array_equal(
        order, [np.argsort(row) for row in alone.layers["rank_geneformer"].toarray()]
    )
    if not mapped:
        assert adata.uns["rank_geneformer"]["name_kinds"]["par_y"] == 1


def test_21_copies_on_y_are_reported(real_dictionaries, accepts):
    adata = _counts_of([ON_X, f"{ON_X}_PAR_Y", "ENSG00000136574"])
    accepts(glm.pp.map_genes, adata, model=V2, told=[rf"1 of 3 .*\({ON_X}_PAR_Y\)"])
    assert adata.uns["ensembl_id"]["kinds"] == {"id": 2, "par_y": 1}


def test_21_retired_ids(real_dictionaries, accepts, caplog):
    vocabulary = glm.models.get(V2).vocabulary()
    old, new = next(
        (old, new)
        for old, new in vocabulary.aliases.items()
        if old.startswith("ENSG") and old not in vocabulary.index and new in vocabulary.index
    )
    others = [gene for gene in vocabulary.ids if gene != new][:5]
    adata = _counts_of([old, *others])
    with caplog.at_level(logging.INFO, logger="glm"):
        accepts(glm.tl.rank_encode, adata, model=V2, told=["a subset"])
    assert "1 gene ids: retired ids were replaced" in caplog.text
    assert adata.var["token_geneformer"].iloc[0] == vocabulary.tokens[vocabulary.index[new]]
    both = _counts_of([old, new, *others])
    accepts(glm.tl.rank_encode, both, model=V2, told=[rf"1 column shares .*\({new}\)"])


# ---- several columns for one gene --------------------------------------------------------------


def test_22_duplicate_ids_are_summed(cells, verb, accepts, results):
    ids = list(cells.var_names)
    split = cells.copy()
    values = cells.X.toarray()
    values[:, 10] += 4
    merged = cells.copy()
    merged.X = sp.csr_matrix(values)
    values = values.copy()
    values[:, 10] -= 3
    values[:, 20] = 3  # the other part of gene 10, in place of gene 20
    split.X = sp.csr_matrix(values)
    ids[20] = ids[10]
    split.var["ids"] = ids
    merged = merged[:, np.arange(3_000) != 20].copy()

    vectors, ranks = results(split, gene_ids="ids")
    expected_vectors, expected_ranks = results(merged)
    np.testing.assert_array_equal(vectors, expected_vectors)
    np.testing.assert_array_equal(np.delete(ranks, 20, axis=1), expected_ranks)
    assert (ranks[:, 20] == 0).all()
    told = [rf"1 column shares a gene with an earlier one.*summed.*\({split.var_names[20]}\)"]
    adata = accepts(verb, split, told=told, gene_ids="ids")
    (record,) = (value for key, value in adata.uns.items() if "geneformer" in key)
    assert record["n_columns_summed"] == 1
    assert record["n_genes_in_vocabulary"] == 2_999


@pytest.mark.filterwarnings("ignore:Variable names are not unique:UserWarning")
def test_22_duplicate_names(cells, verb, results):
    """The same in ``var_names`` themselves, which AnnData only warns of."""
    ids = list(cells.var_names)
    ids[20] = ids[10]
    by_column = cells.copy()
    by_column.var["ids"] = ids
    cells.var_names = ids
    with pytest.warns(glm.GlmWarning, match="1 column shares"):
        verb(cells)
    expected = results(by_column, gene_ids="ids")
    for got, wanted in zip(results(cells), expected, strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_23_two_symbols_of_one_gene(cells, map_genes, verb, accepts, vocabulary, symbol_of):
    older = {gene: name for name, gene in vocabulary.aliases.items() if name.isalnum()}
    row = next(i for i, g in enumerate(cells.var_names) if older.get(g, "ENS")[:3] != "ENS")
    gene = cells.var_names[row]
    names = [symbol_of[name] for name in cells.var_names]
    names[row + 1] = older[gene]
    adata = _named(cells, names)
    accepts(map_genes, adata, told=[rf"1 share a gene with an earlier column \({older[gene]}\)"])
    assert adata.var["ensembl_id"].iloc[row : row + 2].tolist() == [gene, gene]
    assert adata.uns["ensembl_id"]["n_columns_summed"] == 1
    assert adata.uns["ensembl_id"]["kinds"]["alias"] == 1
    accepts(verb, adata)  # map_genes has said so: once is enough


# ---- other species, mixtures, missing names, dates ---------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["ENSMUSG{:011d}", "ENSMUSG{:011d}.3", "ENSRNOG{:011d}", "ENSDARG{:011d}"],
)
def test_24_ids_of_another_species(cells, verb, map_genes, refuses, name):
    adata = _named(cells, [name.format(i) for i in range(3_000)])
    patterns = ("3,000 of 3,000", "species", "human", name[:7], "orthologues")
    refuses(verb, adata, ValueError, *patterns)
    refuses(map_genes, adata, ValueError, *patterns)


def test_24_mouse_symbols(cells, verb, map_genes, refuses, symbol_of):
    adata = _named(cells, [symbol_of[gene].capitalize() for gene in cells.var_names])
    for call in (verb, map_genes):
        refuses(call, adata, ValueError, "species", "human", "orthologues")


def test_24_a_few_of_another_species(cells, verb, accepts, results):
    """Barnyard spike-ins and the like are left out, and counted."""
    names = list(cells.var_names)
    names[:30] = [f"ENSMUSG{i:011d}" for i in range(30)]
    adata = accepts(verb, _named(cells, names), told=["of another species"])
    (record,) = (value for key, value in adata.uns.items() if "geneformer" in key)
    assert record["name_kinds"] == {"other_species": 30, "id": 2_970}
    vectors, _ = results(adata, overwrite=True)
    np.testing.assert_array_equal(vectors, results(cells[:, 30:].copy())[0])


def test_25_mixed_names(cells, map_genes, accepts, results, vocabulary, symbol_of):
    expected = results(cells)
    older = {gene: name for name, gene in vocabulary.aliases.items() if name.isalnum()}
    names = list(cells.var_names)
    names[:1_000] = [symbol_of[gene] for gene in names[:1_000]]
    names[1_000:2_000] = [f"{gene}.7" for gene in names[1_000:2_000]]
    n_older = 0
    for i in range(2_000, 2_100):
        if older.get(names[i], "ENS")[:3] != "ENS":
            names[i], n_older = older[names[i]], n_older + 1
    adata = _named(cells, names)
    accepts(map_genes, adata)
    kinds = {"symbol": 1_000, "versioned": 1_000, "alias": n_older, "id": 1_000 - n_older}
    assert adata.uns["ensembl_id"]["kinds"] == kinds
    assert adata.var["ensembl_id"].tolist() == cells.var_names.tolist()
    for got, wanted in zip(results(adata), expected, strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_25_mixed_names_without_mapping(cells, verb, accepts, symbol_of):
    """Ids are read, symbols are not guessed; the record says how many were left out."""
    names = list(cells.var_names)
    names[:900] = [symbol_of[gene] for gene in names[:900]]
    adata = accepts(verb, _named(cells, names), told=["a subset"])
    (record,) = (value for key, value in adata.uns.items() if "geneformer" in key)
    assert record["name_kinds"] == {"unknown": 900, "id": 2_100}
    assert 0 < record["share_of_counts_in_vocabulary"] < 1


@pytest.mark.parametrize("missing", [np.nan, None, pd.NA, "  "])
def test_26_missing_names(cells, map_genes, verb, refuses, missing):
    names: list[object] = list(cells.var_names)
    names[3] = names[8] = missing
    adata = cells.copy()
    adata.var.index = pd.Index(names, dtype=object)
    adata.var["ids"] = pd.Series(names, index=adata.var.index, dtype=object)
    patterns = ("2 of 3,000", "missing or not text", "columns 3, 8", "Name every gene")
    refuses(map_genes, adata, ValueError, *patterns)
    refuses(verb, adata, ValueError, *patterns)
    adata.var.index = cells.var_names
    refuses(map_genes, adata, ValueError, *patterns, source="ids")
    refuses(verb, adata, ValueError, *patterns, gene_ids="ids")


@pytest.mark.parametrize("dtype", ["string", "category"])
def test_26_missing_names_in_pandas_types(cells, map_genes, verb, refuses, dtype):
    ids = pd.Series(list(cells.var_names), index=cells.var_names)
    ids.iloc[3] = None
    cells.var["ids"] = ids.astype(dtype)
    patterns = ("1 of 3,000", "missing or not text", "columns 3")
    refuses(verb, cells, ValueError, *patterns, gene_ids="ids")
    refuses(map_genes, cells, ValueError, *patterns, source="ids")


def test_26_numbers_for_names(cells, verb, refuses):
    cells.var["entrez"] = np.arange(3_000)
    refuses(verb, cells, ValueError, "3,000 of 3,000", "not text", gene_ids="entrez")


def test_27_spreadsheet_dates(cells, map_genes, verb, accepts):
    names = list(cells.var_names)
    names[:4] = ["1-Mar", "2-Sep", "Dec-01", "2021-03-02 00:00:00"]
    told = r"4 .*dates by a spreadsheet \(1-Mar, 2-Sep, Dec-01 and 1 more\)"
    accepts(verb, _named(cells, names), told=[told])
    adata = accepts(map_genes, _named(cells, names), told=[told])
    assert adata.uns["ensembl_id"]["kinds"]["date"] == 4
    assert adata.var["ensembl_id"].iloc[:4].tolist() == [""] * 4


# ---- how many genes ----------------------------------------------------------------------------


def test_28_highly_variable_genes_only(cells, verb, accepts):
    subset = cells[:, :2_000].copy()
    told = [r"2,000 of 11,\d{3} \(17%\) of the genes .*subset, such as the highly variable"]
    accepts(verb, subset, told=told)
    accepts(verb, cells)  # a quarter of the vocabulary and more: not told


def test_29_genes_beyond_the_context(make_model, make_cells, rank_encode, accepts, tmp_path):
    """The cut is counted, and what is read is the top of the ranking."""
    model = make_model()  # reads 32 genes
    adata = make_cells(model.vocabulary)
    accepts(glm.tl.embed, adata, model=model, unusable=[3])
    bundle = model.save(tmp_path / "bundle")
    accepts(glm.tl.rank_encode, adata, model=bundle)
    n_ranked = adata.obs["n_ranked_geneformer"].to_numpy()
    n_long = int((n_ranked > 32).sum())
    assert 0 < n_long < adata.n_obs
    record = adata.uns["X_geneformer"]
    assert record["context"] == 32
    assert record["n_cells_truncated"] == n_long
    assert record["n_genes_beyond_context"] == np.maximum(n_ranked - 32, 0).sum()
    assert adata.uns["rank_geneformer"]["n_cells_truncated"] == n_long
    ranks = adata.layers["rank_geneformer"].toarray()
    top = adata.copy()
    top.X = sp.csr_matrix(np.where(ranks <= 32, adata.X.toarray(), 0))
    accepts(glm.tl.embed, top, model=model, unusable=[3])
    np.testing.assert_array_equal(top.obsm["X_geneformer"], adata.obsm["X_geneformer"])
    assert top.uns["X_geneformer"]["n_cells_truncated"] == 0
