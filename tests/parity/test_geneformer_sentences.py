"""Sentences of real cells equal the definition, computed by a few independent lines.

The definition: counts of one gene summed, what is not in the vocabulary dropped, value = count /
median in float64, highest first, ties by the order of the vocabulary; then truncated and framed.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import glm
from glm import GlmWarning
from glm.cells import check_counts
from glm.models import GeneVocabulary
from glm.models._unpickle import read_pickled_dict
from glm.tl._cell_source import cell_items

MODELS = {"geneformer-v1-10m": "gc30M", "geneformer-v2-104m": "gc104M"}
FILES = {
    "bmfm_cellxgene.h5ad": None,
    "bmfm_scp1884.h5ad": None,
    "scvi_pbmc_10k_protein_v3.h5ad": None,
    "scanpy_10x_v3_filtered_feature_bc_matrix.h5": "gene_ids",
    "muon_test_rna_atac.h5mu": "gene_ids",
}
"""File and the column of its Ensembl ids; without one its names are symbols."""

pytestmark = pytest.mark.filterwarnings("ignore::glm.GlmWarning")


@dataclass
class Dictionaries:
    tokens: dict[str, int]
    medians: dict[str, float]
    symbols: dict[str, str]
    collapse: dict[str, str]

    @classmethod
    def read(cls, folder: Path, name: str) -> Dictionaries:
        parts = (
            "token_dictionary",
            "gene_median_dictionary",
            "gene_name_id_dict",
            "ensembl_mapping_dict",
        )
        return cls(*(read_pickled_dict(folder / f"{part}_{name}.pkl") for part in parts))

    def token_of(self, name: str, *, is_id: bool) -> int:
        """The token of a gene name, -1 without. Among symbols stand a few ids with versions."""
        if name.startswith("ENSG00"):
            name = name.partition(".")[0]
        elif not is_id:
            # Older names are kept in upper case; only C1orf112 and its like are not written so.
            older = name.replace("orf", "ORF")
            name = self.symbols.get(name) or self.collapse.get(older, "")
        if name not in self.tokens:
            name = self.collapse.get(name, name)
        return self.tokens.get(name, -1)


def reference_sentences(counts: np.ndarray, tokens: np.ndarray, d: Dictionaries) -> list:
    """One array of tokens a cell, neither truncated nor framed."""
    # Tokens rise with the order of the vocabulary, which is that of the sorted ids.
    genes, gene_of = np.unique(tokens[tokens >= 0], return_inverse=True)
    id_of = {token: gene for gene, token in d.tokens.items()}
    medians = np.array([d.medians[id_of[token]] for token in genes.tolist()])
    found = []
    for row in counts[:, tokens >= 0].astype(np.float64):
        total = np.bincount(gene_of, weights=row, minlength=genes.size)
        value = total / medians
        used = np.flatnonzero(total > 0)
        found.append(genes[used[np.lexsort((used, -value[used]))]])
    return found


def read_cells(folder: Path, file: str):
    import anndata
    import mudata
    import scanpy as sc

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if file.endswith(".h5mu"):
            adata = mudata.read_h5mu(folder / file)["rna"].copy()
        elif file.endswith(".h5"):
            adata = sc.read_10x_h5(folder / file)
        else:
            adata = anndata.read_h5ad(folder / file)
        adata.var_names_make_unique()
    return adata


def dense(matrix) -> np.ndarray:
    return matrix.toarray() if hasattr(matrix, "toarray") else np.asarray(matrix)


@pytest.fixture(scope="module", params=FILES)
def file(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def cells(test_data: Path, file: str):
    return read_cells(test_data / "cells", file)


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest, test_data: Path):
    with glm.settings.override(mirror=test_data / "geneformer", offline=True):
        yield request.param


@pytest.fixture(scope="module")
def dictionaries(test_data: Path, model: str) -> Dictionaries:
    return Dictionaries.read(test_data / "geneformer", MODELS[model])


@pytest.fixture(scope="module")
def case(cells, file: str, model: str, dictionaries: Dictionaries):
    """The cells with mapped genes, the column to read, tokens of columns, expected sentences."""
    adata, column = cells.copy(), FILES[file]
    names = cells.var_names if column is None else cells.var[column]
    tokens = np.array([dictionaries.token_of(name, is_id=column is not None) for name in names])
    if column is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", GlmWarning)
            glm.pp.map_genes(adata, model)
        column = "ensembl_id"
    return adata, column, tokens, reference_sentences(dense(cells.X), tokens, dictionaries)


def items_of(adata, vocabulary: GeneVocabulary, column: str):
    counts = check_counts(
        adata,
        vocabulary,
        model="test",
        layer=None,
        use_raw=False,
        gene_ids=column,
        log_normalized=False,
    )
    n_ranked = np.full(adata.n_obs, -1, np.int32)
    return list(cell_items(counts, n_ranked)), n_ranked


def assert_items_equal(blocks, n_ranked, expected, vocabulary: GeneVocabulary) -> None:
    limit = vocabulary.context - (2 if "cls" in vocabulary.special else 0)
    seen = []
    for items in blocks:
        for i, row in enumerate(items.row.tolist()):
            sentence = items.tokens[items.offsets[i] : items.offsets[i + 1]].tolist()
            inner = expected[row][:limit].tolist()
            start, stop = items.span[i].tolist()
            assert sentence[start:stop] == inner, f"cell {row}"
            if "cls" in vocabulary.special:
                inner = [vocabulary.special["cls"], *inner, vocabulary.special["eos"]]
            assert sentence == inner, f"cell {row}"
            seen.append(row)
        assert (items.part == 0).all()
        assert (items.weight == 1).all()
    assert n_ranked.tolist() == [sentence.size for sentence in expected]
    assert seen == [row for row, sentence in enumerate(expected) if sentence.size]


def test_every_sentence_that_the_engine_gets(case, model: str):
    adata, column, _, expected = case
    vocabulary = glm.models.get(model).vocabulary()
    assert sum(sentence.size for sentence in expected) > adata.n_obs  # no empty comparison
    assert_items_equal(*items_of(adata, vocabulary, column), expected, vocabulary)


def test_sentences_truncated_to_a_short_context(case, model: str, test_data: Path):
    """Published contexts are longer than most of these cells: a short one cuts them all."""
    adata, column, _, expected = case
    vocabulary = GeneVocabulary.from_dictionaries(
        test_data / "geneformer", MODELS[model], context=20
    )
    assert max(sentence.size for sentence in expected) > 20
    assert_items_equal(*items_of(adata, vocabulary, column), expected, vocabulary)


def test_rank_layer(case, model: str):
    adata, column, tokens, expected = case
    glm.tl.rank_encode(adata, model, gene_ids=column, overwrite=True)
    assert adata.var["token_geneformer"].tolist() == tokens.tolist()
    assert adata.obs["n_ranked_geneformer"].tolist() == [s.size for s in expected]
    first = {token: place for place, token in reversed(list(enumerate(tokens.tolist())))}
    ranks = adata.layers["rank_geneformer"]
    wanted = np.zeros(adata.shape, np.int64)
    for row, sentence in enumerate(expected):
        wanted[row, [first[token] for token in sentence.tolist()]] = np.arange(sentence.size) + 1
    assert (ranks.toarray() == wanted).all()
    assert ranks.nnz == (wanted > 0).sum()
    assert ranks.dtype == np.min_scalar_type(wanted.max())


def test_the_authors_formula_gives_the_same_order(case, dictionaries: Dictionaries):
    """counts / n_counts × 10,000 / median, n_counts over all genes: it falls along our sentence.

    Strictly so: no two genes of these cells are tied in it.
    """
    adata, _, tokens, expected = case
    counts = dense(adata.X).astype(np.float64)
    id_of = {token: gene for gene, token in dictionaries.tokens.items()}
    for row, sentence in enumerate(expected):
        total = np.bincount(tokens[tokens >= 0], counts[row, tokens >= 0], len(dictionaries.tokens))
        medians = np.array([dictionaries.medians[id_of[token]] for token in sentence.tolist()])
        value = total[sentence] / counts[row].sum() * 10_000 / medians
        assert (np.diff(value) < 0).all(), f"cell {row}"


def test_columns_of_one_gene_are_summed(test_data: Path, model: str):
    """A gene's counts divided among two columns, the second at the end: the same sentences."""
    import anndata
    import pandas as pd

    whole = read_cells(test_data / "cells", "bmfm_cellxgene.h5ad")[:40].copy()
    glm.pp.map_genes(whole, model)
    moved = np.flatnonzero((whole.var["ensembl_id"] != "").to_numpy())[:3_000]
    counts = dense(whole.X)
    half = np.floor(counts[:, moved] / 3)
    counts[:, moved] -= half
    names = [*whole.var_names, *(f"again-{i}" for i in range(moved.size))]
    ids = [*whole.var["ensembl_id"], *whole.var["ensembl_id"].iloc[moved].str.lower()]
    split = anndata.AnnData(
        np.hstack([counts, half]), var=pd.DataFrame({"ensembl_id": ids}, index=names)
    )
    vocabulary = glm.models.get(model).vocabulary()
    (one,), n_one = items_of(whole, vocabulary, "ensembl_id")
    (other,), n_other = items_of(split, vocabulary, "ensembl_id")
    assert (one.tokens == other.tokens).all()
    assert (one.offsets == other.offsets).all()
    assert (n_one == n_other).all()
