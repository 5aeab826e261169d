"""Make the bundled demonstration model `geneformer-tiny` from real cells.

    python scripts/make_geneformer_tiny.py --work build/geneformer-tiny

The cells (raw counts, symbols) are looked for in GLM_TEST_DATA/cells, the published dictionaries
that map symbols to Ensembl ids in GLM_TEST_DATA/geneformer. One donor in ten of the two files that
name donors, and a tenth of the cells of the third, are held out. Genes are those seen in at least
20 training cells, medians those of the training cells. The run can be stopped and goes on from its
last checkpoint; the finished model is written into the package, and its card with it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import warnings
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import anndata as ad
import numpy as np
import scipy.sparse as sp
import torch

import glm
from glm.genes import map_names
from glm.models import BertConfig, GeneVocabulary, Model, ModelSpec
from glm.models._verify import record_expected
from glm.models.bert import MaskedLM
from glm.train import MaskedTokens, Recipe, Sentences, fit

FILES = {
    "bmfm_cellxgene": "BiomedSciAI/biomed-multi-omic (CELLxGENE, 220 cells of 22 types), Apache-2",
    "bmfm_scp1884": "BiomedSciAI/biomed-multi-omic (SCP1884, 1,020 cells of gut), Apache-2.0",
    "scvi_pbmc_10k_protein_v3": "scverse/scvi-tools (PBMC 10k, 200 cells), BSD-3-Clause",
}
NAME = "geneformer-tiny"
CONTEXT = 1024
LEAST_CELLS = 20
LEAST_SHARE, MOST_SHARE = 0.03, 0.5
SEED = 0

RECIPE = Recipe(
    learning_rate=1e-3,
    warmup=200,
    max_epochs=14,
    weight_decay=0.01,
    tokens_per_batch=4 * 1024,
    min_tokens=7,
    precision="bf16-mixed",
    seed=SEED,
)
MASK_SHARE = 0.3


def data_dir() -> Path:
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(os.environ.get("GLM_TEST_DATA", default))


def read_cells(published: GeneVocabulary) -> tuple[sp.csr_matrix, list[str], np.ndarray]:
    """Counts of all files on one list of Ensembl ids, and which cells are held out."""
    blocks, held_out = [], []
    column: dict[str, int] = {}
    rng = np.random.default_rng(SEED)
    for name in FILES:
        adata = ad.read_h5ad(data_dir() / "cells" / f"{name}.h5ad")
        genes = map_names(list(adata.var_names), published).ids
        for gene in genes:
            if gene:
                column.setdefault(gene, len(column))
        found = np.flatnonzero(genes != "")
        place = np.array([column[genes[i]] for i in found])
        selector = sp.csr_matrix(
            (np.ones(found.size), (found, place)), shape=(adata.n_vars, 60_000)
        )
        blocks.append(sp.csr_matrix(sp.csr_matrix(adata.X) @ selector))
        held_out.append(choose_held_out(adata, rng))
    counts = sp.vstack(blocks, format="csr")[:, : len(column)].astype(np.int32)
    return counts, list(column), np.concatenate(held_out)


def choose_held_out(adata: ad.AnnData, rng: np.random.Generator) -> np.ndarray:
    """A tenth of the donors, or of the cells where donors are not named."""
    units = adata.obs["donor_id"] if "donor_id" in adata.obs else adata.obs_names
    units = np.asarray(units).astype(str)
    names = np.unique(units)
    chosen = rng.permutation(names)[: max(1, round(names.size / 10))]
    return np.isin(units, chosen)


def make_vocabulary(
    counts: sp.csr_matrix, ids: list[str], train: np.ndarray, published: GeneVocabulary
) -> tuple[GeneVocabulary, np.ndarray]:
    """Genes seen in enough training cells, their medians there; and their columns."""
    cells = counts[train]
    seen = np.asarray((cells > 0).sum(axis=0)).ravel()
    columns = np.array(sorted(np.flatnonzero(seen >= LEAST_CELLS), key=lambda c: ids[c]))
    depth = np.asarray(cells.sum(axis=1)).ravel()
    scaled = sp.csc_matrix(sp.diags(1e4 / depth) @ cells)[:, columns]
    medians = [np.median(scaled.data[a:b]) for a, b in pairwise(scaled.indptr)]
    chosen = {ids[c] for c in columns}
    symbols = {s: gene for s, gene in published.symbols.items() if gene in chosen}
    aliases = {
        a: gene for a, gene in published.aliases.items() if gene in chosen and a not in symbols
    }
    special = {"pad": 0, "mask": 1, "cls": 2, "eos": 3}
    vocabulary = GeneVocabulary(
        name=NAME,
        ids=tuple(ids[c] for c in columns),
        tokens=np.arange(len(special), len(special) + columns.size, dtype=np.int32),
        medians=np.round(medians, 6),
        special=special,
        context=CONTEXT,
        symbols=symbols,
        aliases=aliases,
    )
    return vocabulary, columns


def new_model(vocabulary: GeneVocabulary, seed: int = SEED) -> Model:
    """The model with random weights."""
    shape = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=128,
        n_layers=4,
        n_heads=2,
        intermediate_size=256,
        n_positions=CONTEXT,
        dropout=0.0,  # resampled counts keep the model from learning the cells by heart
        attention_dropout=0.0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = MaskedLM(shape)
    spec = ModelSpec(
        name=NAME,
        system="geneformer",
        shape=shape,
        pooling="mean",
        tier="demo",
        licence="BSD-3-Clause",
        source="scripts/make_geneformer_tiny.py",
        note="A small model for examples and tests, trained on 1,304 cells: not for research.",
    )
    return Model(spec, vocabulary, network.eval())


def start_from_cells(model: Model, sentences: Sentences) -> None:
    """Let training begin with what plain statistics of the training cells say.

    The head's bias is each gene's log frequency; the token table, which is also the decoder, the
    loadings of the leading principal components of the cells' ranks, at a standard deviation of
    0.2, with a little noise. With so few cells the run would otherwise be spent on finding them.
    """
    n_tokens, width = len(model.vocabulary), model.spec.shape.hidden_size
    seen = np.bincount(sentences.tokens, minlength=n_tokens) + 1.0
    height = np.zeros((len(sentences), n_tokens), np.float32)
    for i in range(len(sentences)):
        height[i, sentences[i]] = 1.0 - np.arange(sentences[i].size) / sentences[i].size
    height[:, list(model.vocabulary.special.values())] = 0.0
    height -= height.mean(axis=0)
    _, spread, loadings = np.linalg.svd(height, full_matrices=False)
    table = loadings[:width].T * np.sqrt(spread[:width])
    # Which sign a component gets is the library's accident; make it ours.
    table *= np.sign(table[np.abs(table).argmax(axis=0), np.arange(width)])
    table = np.clip(0.2 * table / table.std(), -1.2, 1.2)
    table += np.random.default_rng(SEED).normal(0.0, 0.01, table.shape)
    table[model.vocabulary.special["pad"]] = 0.0
    with torch.no_grad():
        model.network.head.bias.copy_(torch.from_numpy(np.log(seen / seen.sum())))
        model.encoder.embeddings.token.weight.copy_(torch.from_numpy(table))


def to_sentences(counts: sp.csr_matrix, vocabulary: GeneVocabulary) -> Sentences:
    """Rank-encode counts whose columns are the vocabulary's genes."""
    from glm.encode.rank import Ranker
    from glm.tl._embed import frame

    order = np.arange(len(vocabulary.ids))
    columns, offsets, n = Ranker(vocabulary.medians, order, order).sentences(
        sp.csr_array(counts), limit=vocabulary.n_genes_read
    )
    assert (n >= RECIPE.min_tokens).all()
    special = vocabulary.special
    tokens, lengths = frame(
        vocabulary.tokens[columns], np.diff(offsets), special["cls"], special["eos"]
    )
    return Sentences(tokens, np.concatenate([[0], np.cumsum(lengths)]))


def thinned(counts: sp.csr_matrix, seed: tuple[int, ...]) -> sp.csr_matrix:
    """The same cells sequenced less deeply: each count binomially thinned, by a share a cell.

    Cells that would keep fewer than 30 genes are given whole: every epoch has all cells.
    """
    rng = np.random.default_rng(seed)
    depth = np.asarray(counts.sum(axis=1)).ravel()
    share = np.exp(rng.uniform(np.log(LEAST_SHARE), np.log(MOST_SHARE), counts.shape[0]))
    share = np.maximum(share, np.minimum(1.0, 150 / depth))
    out = counts.copy()
    out.data = rng.binomial(counts.data, np.repeat(share, np.diff(counts.indptr))).astype(np.int32)
    out.eliminate_zeros()
    few = np.diff(out.indptr) < 30
    whole = sp.diags(few.astype(np.int32)) @ counts
    return sp.csr_matrix(sp.diags((~few).astype(np.int32)) @ out + whole).astype(np.int32)


def told(recipe: Recipe) -> dict[str, object]:
    """What the card tells of a recipe, and of the objective."""
    fields = dataclasses.asdict(recipe)
    return {"warmup_steps": int(fields.pop("warmup")), **fields, "mask_share": MASK_SHARE}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="folder of checkpoints and log")
    parser.add_argument("--epochs", type=int, default=RECIPE.max_epochs)
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(glm.__file__).parent / "models" / "bundled" / NAME,
        help="folder of the finished bundle",
    )
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    recipe = replace(RECIPE, max_epochs=options.epochs)

    published = GeneVocabulary.from_dictionaries(data_dir() / "geneformer", "gc104M")
    counts, ids, held_out = read_cells(published)
    vocabulary, columns = make_vocabulary(counts, ids, ~held_out, published)
    counts = counts[:, columns]
    enough = np.asarray((counts > 0).sum(axis=1)).ravel() >= 50
    train, test = counts[~held_out & enough], counts[held_out & enough]
    model = new_model(vocabulary)
    start_from_cells(model, to_sentences(train, vocabulary))
    logging.info(
        "%s genes, %s training and %s held-out cells, %s parameters",
        f"{len(vocabulary.ids):,}",
        f"{train.shape[0]:,}",
        f"{test.shape[0]:,}",
        f"{model.spec.shape.n_parameters:,}",
    )
    model = fit(
        model,
        MaskedTokens(vocabulary, share=MASK_SHARE),
        to_sentences(train, vocabulary),
        recipe=recipe,
        folder=options.work,
        each_epoch=lambda epoch: to_sentences(thinned(train, (SEED, epoch)), vocabulary),
        held_out=to_sentences(test, vocabulary),
        keep="last",  # no epoch is chosen by the cells that the model is scored on
    ).model
    for parameter in model.network.parameters():
        # Kept as float16, half the size: what is scored and shipped are the rounded weights.
        parameter.data = parameter.data.half().float()
    card = {
        "files": FILES,
        "training_cells": train.shape[0],
        "held_out_cells": test.shape[0],
        "least_cells_a_gene": LEAST_CELLS,
        "recipe": told(recipe),
        "augmentation": "every epoch, counts thinned by a log-uniform share of 0.03 to 0.5 a cell",
    }
    model.save(options.out, card=card, half=True)
    special = vocabulary.special
    sentence = [special["cls"], *vocabulary.tokens[::200].tolist(), special["eos"]]
    record_expected(options.out, sentence, card="on the machine that trained it, float32")
    print(json.dumps({k: v for k, v in card.items() if k != "files"}, indent=1))


if __name__ == "__main__":
    main()
