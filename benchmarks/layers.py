"""Do neighbours carry the label? By layer and pooling, on real cells with labels.

``python benchmarks/layers.py [MODEL]`` prints the second table of ``docs/choosing.md``: blood cells
of scanpy's ``pbmc68k_reduced``, whose labels the model never saw; accuracy of 15 nearest neighbours
over 5 folds, mean and standard deviation of 5 divisions into folds.
"""

from __future__ import annotations

import sys
import warnings

import numpy as np

LABELS = "bulk_labels"
N_NEIGHBORS, N_FOLDS, N_DIVISIONS = 15, 5, 5


def main(model: str = "geneformer-tiny") -> dict[str, float]:
    """Measure every layer with each pooling the model has, print the table, return what it holds.

    Returns ``layer<l>_<pooling>`` (accuracy) and the two accuracies it is to be compared with.
    """
    import glm
    from glm._demo import pbmc68k

    adata = pbmc68k()
    labels = adata.obs[LABELS].astype(str).to_numpy()
    spec = glm.models.get(model)
    n_layers = spec.shape.n_layers
    names = {0: "0, the tokens", n_layers - 1: '`"second_to_last"`', n_layers: '`"last"`'}
    poolings = ["mean", "cls"] if "cls" in spec.vocabulary().special else ["mean"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", glm.GlmWarning)
        glm.pp.map_genes(adata, model)
        found: dict[str, tuple[float, float]] = {}
        for layer in range(n_layers + 1):
            for pooling in poolings:
                key = f"layer{layer}_{pooling}"
                options = {"hidden_layer": layer, "pooling": pooling, "log_normalized": True}
                glm.tl.embed(adata, model, key_added=key, **options)
                found[key] = accuracy(adata.obsm[f"X_{key}"], labels)
    found["pca"] = accuracy(adata.obsm["X_pca"], labels)
    most = np.unique(labels, return_counts=True)[1].max() / labels.size

    print(f"{model}, {adata.n_obs} cells, {np.unique(labels).size} labels")
    print("| hidden layer |", *(f'`"{pooling}"` |' for pooling in poolings))
    print(f"|---|{'---:|' * len(poolings)}")
    for layer in range(n_layers + 1):
        cells = [_spell(found[f"layer{layer}_{pooling}"]) for pooling in poolings]
        print(f"| {names.get(layer, layer)} | {' | '.join(cells)} |")
    print(f"50 principal components: {_spell(found['pca'])}; the most common label: {most:.3f}")
    return {name: mean for name, (mean, _) in found.items()} | {"most_common": float(most)}


def accuracy(vectors: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Share of cells whose nearest neighbours of other folds have its label: mean, deviation."""
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.neighbors import KNeighborsClassifier

    scores = []
    for seed in range(N_DIVISIONS):
        folds = StratifiedKFold(N_FOLDS, shuffle=True, random_state=seed)
        said = cross_val_predict(KNeighborsClassifier(N_NEIGHBORS), vectors, labels, cv=folds)
        scores.append(float((said == labels).mean()))
    return float(np.mean(scores)), float(np.std(scores))


def _spell(score: tuple[float, float]) -> str:
    return f"{score[0]:.3f} ± {score[1]:.3f}"


if __name__ == "__main__":
    main(*sys.argv[1:])
