"""What ``glm demo`` does: real cells in; an embedding, a map and its agreement with labels out."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import GlmWarning, pp, settings, tl
from .models import get

if TYPE_CHECKING:
    from anndata import AnnData

_LABELS = "bulk_labels"
_EMBEDDING = "X_geneformer"
_N_NEIGHBORS = 15


def run_demo(out: Path, model: str, *, progress: bool, say: Callable[[str], Any]) -> AnnData:
    """Run the demonstration and write ``umap.png``, ``agreement.png`` and ``demo.h5ad``."""
    started = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    say(f"[1/5] scanpy's pbmc68k_reduced: blood cells with the labels of their authors ({_LABELS})")
    adata = pbmc68k()
    say(f"      {adata.n_obs:,} cells × {adata.n_vars:,} genes, log-normalised")

    noticed: list[str] = []
    with settings.override(progress=progress):
        say(f"[2/5] genes, ranks and embedding with {model} ({get(model).tier})")
        for step in (
            lambda: pp.map_genes(adata, model),
            lambda: tl.rank_encode(adata, model, log_normalized=True),
            lambda: tl.embed(adata, model, log_normalized=True),
        ):
            noticed += _aloud(step, say, noticed)
    say("[3/5] neighbours, clusters and UMAP with scanpy")
    _map(adata)
    say("[4/5] agreement with the labels, and figures")
    scores = _agreement(adata)
    _figures(adata, scores, out, model)
    say(f"[5/5] writing {out / 'demo.h5ad'}")
    _write(adata, out / "demo.h5ad")
    _summary(adata, scores, out, model, time.perf_counter() - started, say)
    return adata


def pbmc68k() -> AnnData:
    """Scanpy's bundled cells with all their genes in X, log-normalised, and their PCA."""
    import scanpy as sc

    with warnings.catch_warnings():
        # The bundled file is of an older format; reading it says so.
        warnings.simplefilter("ignore")
        reduced = sc.datasets.pbmc68k_reduced()
    adata = reduced.raw.to_adata()
    adata.obsm["X_pca"] = reduced.obsm["X_pca"]
    for name in list(adata.uns):
        if name != f"{_LABELS}_colors":
            del adata.uns[name]
    del adata.obsp
    return adata


def _aloud(step: Callable[[], object], say: Callable[[str], Any], said: list[str]) -> list[str]:
    """Run a step and repeat each of its warnings once, in full."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        warnings.simplefilter("always", GlmWarning)
        step()
    texts = [str(w.message) for w in caught if issubclass(w.category, GlmWarning)]
    for text in texts:
        if text not in said:
            say(f"      warning: {text}")
    return texts


def _map(adata: AnnData) -> None:
    import scanpy as sc

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sc.pp.neighbors(adata, use_rep=_EMBEDDING, n_neighbors=_N_NEIGHBORS, random_state=0)
        sc.tl.leiden(adata, flavor="igraph", n_iterations=2, random_state=0)
        sc.tl.umap(adata, random_state=0)


def _agreement(adata: AnnData) -> dict[str, dict[str, float]]:
    """Label agreement of the embedding and of scanpy's own 50 principal components."""
    from sklearn.metrics import adjusted_rand_score, f1_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.neighbors import KNeighborsClassifier

    labels = adata.obs[_LABELS].astype(str).to_numpy()
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    scores = {}
    for name in (_EMBEDDING, "X_pca"):
        knn = KNeighborsClassifier(_N_NEIGHBORS)
        said = cross_val_predict(knn, adata.obsm[name], labels, cv=folds)
        scores[name] = {
            "accuracy": float((said == labels).mean()),
            "macro-F1": float(f1_score(labels, said, average="macro")),
        }
    scores[_EMBEDDING]["ARI of Leiden clusters"] = float(
        adjusted_rand_score(labels, adata.obs["leiden"])
    )
    majority = float(np.unique(labels, return_counts=True)[1].max() / labels.size)
    scores["most common label"] = {"accuracy": majority}
    return scores


def _figures(adata: AnnData, scores: dict[str, dict[str, float]], out: Path, model: str) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, column, title in zip(
        figure.subplots(1, 2),
        (_LABELS, "leiden"),
        ("authors' labels", "Leiden clusters"),
        strict=True,
    ):
        _scatter(axes, adata, column, title)
    figure.suptitle(f"pbmc68k_reduced embedded with {model} ({get(model).tier}), UMAP", fontsize=11)
    figure.savefig(out / "umap.png", dpi=150)

    figure = Figure(figsize=(5.4, 2.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    names = list(scores)
    values = [scores[name]["accuracy"] for name in names]
    bars = axes.barh(names, values, color=["#4477aa", "#bbbbbb", "#dddddd"])
    axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.set(xlim=(0, 1.08), xlabel=f"{_N_NEIGHBORS}-nearest-neighbour accuracy, 5 folds")
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(out / "agreement.png", dpi=150)


def _scatter(axes: Any, adata: AnnData, column: str, title: str) -> None:
    from matplotlib import colormaps

    codes = adata.obs[column].astype("category").cat
    points = adata.obsm["X_umap"]
    for i, name in enumerate(codes.categories):
        chosen = (codes.codes == i).to_numpy()
        color = colormaps["tab20"](i % 20)
        axes.scatter(*points[chosen].T, s=9, color=color, linewidths=0, label=str(name))
    axes.set(title=title, xlabel="UMAP 1", ylabel="UMAP 2", xticks=[], yticks=[])
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(
        loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, frameon=False, markerscale=2
    )


def _write(adata: AnnData, path: Path) -> None:
    # Written beside and moved: an interrupted write leaves an earlier file whole.
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        adata.write_h5ad(beside, compression="gzip")
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _summary(
    adata: AnnData,
    scores: dict[str, dict[str, float]],
    out: Path,
    model: str,
    seconds: float,
    say: Callable[[str], Any],
) -> None:
    say(f"\nDone in {seconds:.0f} s. Agreement with the {adata.obs[_LABELS].nunique()} labels:")
    for name, found in scores.items():
        say(f"  {name:<18} " + ", ".join(f"{what} {value:.2f}" for what, value in found.items()))
    record = adata.uns[_EMBEDDING]
    rows = [
        ("var['ensembl_id']", "Ensembl id of each gene"),
        ("layers['rank_geneformer']", "rank of each gene in each cell (1 is the highest)"),
        ("var['token_geneformer']", "token of each gene, -1 outside the vocabulary"),
        ("obs['n_ranked_geneformer']", "genes ranked in each cell"),
        (f"obsm['{_EMBEDDING}']", f"embedding, {adata.obsm[_EMBEDDING].shape[1]} numbers a cell"),
        (
            "obs['geneformer_ok']",
            f"{int(adata.obs['geneformer_ok'].sum()):,} of {adata.n_obs:,} True",
        ),
        (f"uns['{_EMBEDDING}']", f"how it was made: {record['pooling']}, {record['hidden_layer']}"),
        ("obsm['X_umap'], obs['leiden']", "scanpy's map and clusters of the embedding"),
    ]
    say("\nWritten into demo.h5ad:")
    for slot, what in rows:
        say(f"  {slot:<30} {what}")
    say(f"Figures: {out / 'umap.png'}, {out / 'agreement.png'}")
    if get(model).tier == "demo":
        say(f"{model} is a small demonstration model: do not draw conclusions from its embedding.")
    say(
        "\nYour own raw counts: adata = anndata.read_h5ad('yours.h5ad'); "
        f"glm.pp.map_genes(adata, {model!r}); glm.tl.embed(adata, {model!r})"
    )
