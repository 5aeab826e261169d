"""Score the bundled `geneformer-tiny` and write its card, `docs/geneformer-tiny.md`.

    python scripts/score_geneformer_tiny.py

Two questions, each against plain answers. On the held-out cells (see `make_geneformer_tiny.py`):
which gene was masked, against a table that knows how often each gene stands around that rank in the
training cells and leaves out the genes already seen in the sentence. On scanpy's `pbmc68k_reduced`,
which the model never saw: do a cell's nearest neighbours carry its label, against principal
components, a truncated SVD of the ranks, and an untrained twin of the same shape.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import make_geneformer_tiny as make
import numpy as np
import scipy.sparse as sp
import torch
from sklearn.decomposition import TruncatedSVD
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

import glm
from glm._demo import pbmc68k
from glm.models import Model
from glm.train import Sentences

ROOT = Path(__file__).resolve().parents[1]
MASK_SHARE = 0.15
LABELS = "bulk_labels"
N_NEIGHBORS = 15
_WITHOUT_SEEN = "geneformer-tiny, seen genes left out"
_TABLE = "frequency at that rank, seen genes left out"
REPEATS = 5


def masked_positions(sentences: Sentences, model: Model) -> list[np.ndarray]:
    """For each sentence the places that are masked, the same for everyone who is asked."""
    rng = np.random.default_rng(make.SEED)
    special = list(model.vocabulary.special.values())
    places = []
    for sentence in (sentences[i] for i in range(len(sentences))):
        genes = np.flatnonzero(~np.isin(sentence, special))
        places.append(genes[rng.random(genes.size) < MASK_SHARE])
    return places


def model_scores(
    model: Model, sentences: Sentences, places: list[np.ndarray], *, leave_out_seen: bool
) -> float:
    """Share of masked genes that the model names."""
    right = total = 0
    for i, masked in enumerate(places):
        tokens = torch.from_numpy(sentences[i].astype(np.int64))
        shown = tokens.clone()
        shown[masked] = model.vocabulary.special["mask"]
        with torch.no_grad():
            logits = model.network(shown[None], positions=torch.from_numpy(masked))
        if leave_out_seen:
            logits[:, shown] = -torch.inf
        right += int((logits.argmax(dim=1) == tokens[masked]).sum())
        total += masked.size
    return right / total


def rank_table(sentences: Sentences, n_tokens: int, width: float) -> np.ndarray:
    """Rank × token: how often a token stands within ``width`` × rank of a rank (at least 2)."""
    longest = int(sentences.lengths.max())
    inside = np.concatenate([np.arange(n) for n in sentences.lengths])
    seen = np.zeros((longest, n_tokens), np.float32)
    np.add.at(seen, (inside, sentences.tokens), 1)
    total = np.vstack([np.zeros((1, n_tokens), np.float32), np.cumsum(seen, axis=0)])
    rank = np.arange(longest)
    reach = np.maximum(2, np.round(width * rank)).astype(int)
    high, low = np.minimum(longest, rank + reach + 1), np.maximum(0, rank - reach)
    return total[high] - total[low]


def table_scores(
    table: np.ndarray, model: Model, sentences: Sentences, places: list[np.ndarray]
) -> float:
    """Share of masked genes that the table names, the genes seen in the sentence left out."""
    special = list(model.vocabulary.special.values())
    right = total = 0
    for i, masked in enumerate(places):
        sentence = sentences[i]
        said = table[np.minimum(masked, len(table) - 1)].copy()
        said[:, np.delete(sentence, masked)] = -1
        said[:, special] = -1
        right += int((said.argmax(axis=1) == sentence[masked]).sum())
        total += masked.size
    return right / total


def neighbour_scores(vectors: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Accuracy and macro-F1 of 15 nearest neighbours: mean and spread over repeated 5 folds."""
    accuracy, macro_f1 = [], []
    for seed in range(REPEATS):
        folds = StratifiedKFold(5, shuffle=True, random_state=seed)
        said = cross_val_predict(KNeighborsClassifier(N_NEIGHBORS), vectors, labels, cv=folds)
        accuracy.append((said == labels).mean())
        macro_f1.append(f1_score(labels, said, average="macro"))
    return {
        "accuracy": float(np.mean(accuracy)),
        "accuracy_sd": float(np.std(accuracy)),
        "macro_f1": float(np.mean(macro_f1)),
        "macro_f1_sd": float(np.std(macro_f1)),
    }


def label_agreement(model: Model, start: Model) -> dict[str, dict[str, float]]:
    """The representations of `pbmc68k_reduced`."""
    adata = pbmc68k()
    glm.pp.map_genes(adata, model.spec.name)
    glm.tl.rank_encode(adata, model.spec.name, log_normalized=True)
    glm.tl.embed(adata, model, log_normalized=True)
    twin = make.new_model(model.vocabulary, seed=make.SEED + 1)
    glm.tl.embed(adata, twin, log_normalized=True, key_added="twin")
    glm.tl.embed(adata, start, log_normalized=True, key_added="start")
    ranks = sp.csr_matrix(adata.layers["rank_geneformer"], dtype=np.float64)
    # A gene's place in its cell: 1 for the highest, near 0 for the lowest, 0 where it is not seen.
    n = np.repeat(adata.obs["n_ranked_geneformer"].to_numpy(), np.diff(ranks.indptr))
    ranks.data = 1.0 - (ranks.data - 1.0) / n
    svd = TruncatedSVD(50, random_state=0).fit_transform(ranks)
    labels = adata.obs[LABELS].astype(str).to_numpy()
    representations = {
        "geneformer-tiny": adata.obsm["X_geneformer"],
        "its starting point (see above), untrained": adata.obsm["X_start"],
        "untrained twin, random weights": adata.obsm["X_twin"],
        "truncated SVD of the ranks (50)": svd,
        "PCA of the expression (50)": adata.obsm["X_pca"],
    }
    return {name: neighbour_scores(vectors, labels) for name, vectors in representations.items()}


def verdict(ours: float, theirs: float) -> str:
    """In words, whichever way it went."""
    return "beat" if ours > theirs else "did not beat"


def write_card(model: Model, card: dict, masked: dict[str, float], agreement: dict) -> None:
    recipe = card["recipe"]
    lines = [
        "# geneformer-tiny",
        "",
        "A demonstration: a small model of Geneformer's kind that comes with the package, so that",
        "examples and tests run offline. **Do not draw conclusions from its embeddings.** Every",
        'record it leaves says `tier: "demo"`. Written by `scripts/score_geneformer_tiny.py`.',
        "",
        "## Data",
        "",
        *[f"- `{name}`: {source}" for name, source in card["files"].items()],
        "",
        f"{card['training_cells']:,} cells to train on, {card['held_out_cells']:,} held out (one "
        "donor in ten; one cell in ten where donors are not named). Symbols were mapped with the",
        f"published gc104M dictionaries. Genes: the {len(model.vocabulary.ids):,} seen in at least",
        f"{card['least_cells_a_gene']} training cells; medians: of the training cells.",
        "",
        "## Model and training",
        "",
        f"{model.spec.shape.n_layers} layers, width {model.spec.shape.hidden_size}, "
        f"{model.spec.shape.n_heads} heads, feed-forward {model.spec.shape.intermediate_size}, "
        f"context {model.spec.context:,}: {model.spec.shape.n_parameters:,} parameters, kept as",
        f"float16. Masked-gene modelling, {recipe['max_epochs']} epochs of batches of "
        f"{recipe['tokens_per_batch']:,} tokens, AdamW at",
        f"{recipe['learning_rate']}, {recipe['warmup_steps']} steps of warm-up; "
        f"{card['augmentation']}.",
        "Training starts from plain statistics of the training cells: the token table from the",
        "principal components of their ranks, the head's bias from the genes' log frequencies. Of",
        f"the tokens {100 * recipe['mask_share']:.0f}% are predicted (Geneformer: 15%), as the run",
        "is short. `scripts/make_geneformer_tiny.py` makes the model again.",
        # Measured by this script on 2026-11-21, with the bundle exchanged for the new ones.
        "Made again with the trainer of `glm.train` it named 0.24% of the masked genes, seen",
        "genes left out, and its neighbours carried the label in 0.735; with 15% masked, twice the",
        "learning rate and 30 epochs (the trainer before) 0.55% and 0.724. Neither is better in",
        "both, so the weights below stay.",
        "",
        "## Which gene was masked?",
        "",
        f"Held-out cells, {100 * MASK_SHARE:.0f}% of the genes masked, share named exactly:",
        "",
        "| | accuracy |",
        "|---|---|",
        *[f"| {name} | {100 * value:.2f}% |" for name, value in masked.items()],
        "",
        "The table knows how often each gene stands around the masked rank in the training",
        "cells (the width of *around* was chosen on the held-out cells, in the table's favour)",
        "and leaves out the genes seen in the sentence.",
        f"The model {verdict(masked[_WITHOUT_SEEN], masked[_TABLE])} the table.",
        "",
        "## Do neighbours carry the label?",
        "",
        f"`pbmc68k_reduced` (700 cells, 10 labels, 765 genes, log-normalised), {N_NEIGHBORS}",
        f"nearest neighbours, 5 folds, mean ± standard deviation over {REPEATS} divisions:",
        "",
        "| | accuracy | macro-F1 |",
        "|---|---|---|",
        *[
            f"| {name} | {s['accuracy']:.3f} ± {s['accuracy_sd']:.3f} | "
            f"{s['macro_f1']:.3f} ± {s['macro_f1_sd']:.3f} |"
            for name, s in agreement.items()
        ],
        "",
        "In accuracy the model "
        + ", ".join(
            f"{verdict(agreement['geneformer-tiny']['accuracy'], s['accuracy'])} {name}"
            for name, s in agreement.items()
            if name != "geneformer-tiny"
        )
        + ".",
        "The labels were made from clusters of the expression, which favours its principal",
        "components; these 765 genes were chosen for varying between these cells.",
        "",
    ]
    (ROOT / "docs" / "geneformer-tiny.md").write_text("\n".join(lines), encoding="utf-8")


def main() -> None:
    warnings.simplefilter("ignore")
    model = glm.models.load(make.NAME)
    folder = model.spec.folder
    assert folder is not None
    card = json.loads((folder / "config.json").read_text(encoding="utf-8"))["card"]

    published = make.GeneVocabulary.from_dictionaries(make.data_dir() / "geneformer", "gc104M")
    counts, ids, held_out = make.read_cells(published)
    column = {gene: i for i, gene in enumerate(ids)}
    counts = counts[:, [column[gene] for gene in model.vocabulary.ids]]
    train = make.to_sentences(counts[~held_out], model.vocabulary)
    test = make.to_sentences(counts[held_out], model.vocabulary)
    places = masked_positions(test, model)
    n = len(model.vocabulary)
    tables = [
        table_scores(rank_table(train, n, w), model, test, places)
        for w in (0.05, 0.1, 0.2, 0.4, 1.0)
    ]
    masked = {
        "geneformer-tiny": model_scores(model, test, places, leave_out_seen=False),
        _WITHOUT_SEEN: model_scores(model, test, places, leave_out_seen=True),
        _TABLE: max(tables),
    }
    start = make.new_model(model.vocabulary)
    make.start_from_cells(start, train)
    masked["its starting point, seen genes left out"] = model_scores(
        start, test, places, leave_out_seen=True
    )
    agreement = label_agreement(model, start)
    write_card(model, card, masked, agreement)
    print(json.dumps({"masked": masked, "tables": tables, "agreement": agreement}, indent=1))


if __name__ == "__main__":
    main()
