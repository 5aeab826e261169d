"""The page of results, and what a terminal shows of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import genes, models
from .data import SEEDS, TEST_SHARE, VALIDATION_SHARE
from .statistics import DRAWS, Difference

_SAYS = {
    "pca": "logistic regression on 50 principal components",
    "ranks": "logistic regression on 50 components of the ranks",
    "finetuned": "`geneformer-tiny`, fine-tuned",
    "lora": "`geneformer-tiny`, LoRA",
    "scratch": "same shape, from scratch",
    "svm": "SVM on ranks",
    "embedding": "logistic regression on its gene embeddings",
}
# Below this, genes of a cell are as good as drawn one by one.
_WHOLE = 1.5


def report(result: dict[str, Any]) -> None:
    """Print the tables."""
    print("\n".join(line for part in result["cells"] for line in _cells(part)))
    print("\n".join(line for part in result["genes"] for line in _genes(part)))


def page(result: dict[str, Any]) -> str:
    """The whole page, as Markdown."""
    whole = [part for part in result["cells"] if part["genes_together"] >= _WHOLE]
    drawn = [part for part in result["cells"] if part["genes_together"] < _WHOLE]
    minutes = _seconds(result) / 60
    lines = [
        "# What fine-tuning gains: evidence",
        "",
        "Printed as it came out by `scripts/score_finetuning.py`. `geneformer-tiny` is a "
        "demonstration model that was pretrained on 1,304 cells: these tables show that training "
        "works and is measured fairly, not what a published model would reach.",
        "",
        "## In short",
        "",
        "Accuracies of cells, areas under the curve of genes; what the 95% interval of the "
        "difference says.",
        "",
        *_short(whole, result["genes"]),
        "",
        "## How it was measured",
        "",
        f"- **Divisions** are the same for all methods: {TEST_SHARE:.0%} of the cells are tested "
        f"on, labels spread evenly, groups (see each table) not parted; {len(SEEDS)} divisions. Of "
        f"the other cells {VALIDATION_SHARE:.0%} choose the epoch; baselines are fitted on all of "
        "them, their strength of regularisation chosen in 3 inner folds.",
        "- **Baselines**: log1p of counts per 10,000, principal components of training cells; and "
        "each gene's place in its cell (1 the highest, near 0 the lowest, 0 not seen), truncated "
        "SVD fitted on training cells. They read all genes.",
        "- **The model** reads a cell's highest ranks only, as many as said, for so many epochs, "
        "in bfloat16: that is what a CPU does in minutes. AdamW, batches of 16, learning rates "
        + ", ".join(
            f"{_SAYS[m].split(', ')[-1]} {r:g}" for m, r in result["learning_rates"].items()
        )
        + f", the better of {' and '.join(f'{r:g}' for r in models.LEARNING_RATES)} on validation "
        "cells of the first division of `pbmc68k_reduced`. "
        f"LoRA of rank {models.RANK} on queries and values.",
        f"- **Intervals**: paired bootstrap, {DRAWS:,} draws, 95%. Drawn are groups, or cells "
        "where there are none, with all they were tested in: a cell of three divisions is not "
        "three cells.",
        "- **Seen before**: the cells of the `bmfm_` files and of `scvi_pbmc_10k_protein_v3` were "
        "in the pretraining without their labels, all but a tenth. Those of `pbmc68k_reduced` were "
        "not.",
        "",
        "## Cells as they come",
        "",
        *[line for part in whole for line in _cells(part)],
        "## Files whose genes were drawn one by one",
        "",
        *_about_drawn(result["cells"], len(drawn)),
        "",
        *[line for part in drawn for line in _cells(part)],
        "## Genes",
        "",
        f"Cells: the 200 of `scvi_pbmc_10k_protein_v3` and {genes.N_GUT} of `bmfm_scp1884`. Genes "
        "that stand in a list twice count once, those in both lists not at all, and those that the "
        f"model reads in no cell (its highest {genes.CONTEXT} tokens) are left out, for every "
        "method. Five folds of genes; the model is trained on the genes of the others wherever "
        f"they stand in the cells, {genes.EPOCHS} epochs. The SVM (kernel and C by inner folds) "
        "knows a gene by its place in each of the cells, as in the paper "
        "{cite:p}`theodoris2023`.",
        "",
        *[line for part in result["genes"] for line in _genes(part)],
        "## To reproduce",
        "",
        "```bash",
        "GLM_TEST_DATA=<folder of the data> python scripts/score_finetuning.py --work <folder>",
        "```",
        "",
        f"{minutes:.0f} minutes of one processor core (Python {result['machine']['python']}, torch "
        f"{result['machine']['torch']}). It can be stopped and goes on. "
        "Numbers: `benchmarks/results/finetuning.json`.",
        "",
    ]
    return "\n".join(lines)


def _cells(part: dict[str, Any]) -> list[str]:
    unit = f"groups: {part['n_units']} of `{part['unit']}`" if part["unit"] else "no groups"
    return [
        f"### {part['name']}: {part['title']}",
        "",
        f"{part['n_cells']:,} cells, {part['n_genes']:,} genes, {part['n_classes']} labels (the "
        f"largest {part['largest_class']:.0%}), {unit}. The model read {part['context']} tokens a "
        f"cell, {part['epochs']} epochs.",
        "",
        "| | accuracy | macro-F1 | s a training |",
        "|---|---|---|---|",
        *[
            f"| {_SAYS[m]} | {_spread(s['accuracy'])} | {_spread(s['macro_f1'])} | "
            f"{np.mean(s['seconds']):.1f} |"
            for m, s in part["scores"].items()
        ],
        "",
        "| | against | accuracy | macro-F1 | in accuracy |",
        "|---|---|---|---|---|",
        *[
            f"| {_SAYS[d['one']]} | {_SAYS[d['other']]} | {_interval(d['accuracy'])} | "
            f"{_interval(d['macro_f1'])} | {Difference(**d['accuracy']).verdict} |"
            for d in part["differences"]
        ],
        "",
    ]


def _genes(part: dict[str, Any]) -> list[str]:
    facts = part["facts"]
    return [
        f"### {part['title'][0].upper()}{part['title'][1:]}",
        "",
        f"Listed {facts['positives_listed']} and {facts['negatives_listed']}; removed "
        f"{facts['listed_again']} listed again and {facts['in_both']} in both lists; read "
        f"{facts['positives_read']} and {facts['negatives_read']}.",
        "",
        "| | AUROC | s in all |",
        "|---|---|---|",
        *[
            f"| {_SAYS[m]} | {_spread(areas)} | {part['seconds'][m]:.0f} |"
            for m, areas in part["auroc"].items()
        ],
        "",
        "| | against | AUROC | |",
        "|---|---|---|---|",
        *[
            f"| {_SAYS[d['one']]} | {_SAYS[d['other']]} | {_interval(d['auroc'])} | "
            f"{Difference(**d['auroc']).verdict} |"
            for d in part["differences"]
        ],
        "",
    ]


def _short(whole: list[dict[str, Any]], tasks: list[dict[str, Any]]) -> list[str]:
    lines = []
    for part in whole:
        mean = {method: np.mean(s["accuracy"]) for method, s in part["scores"].items()}
        for method in models.METHODS:
            against = [
                f"{_compared(d['accuracy'])} {_SAYS[d['other']]} ({mean[d['other']]:.3f})"
                for d in part["differences"]
                if d["one"] == method and d["other"] != "finetuned"
            ]
            said = "; ".join(against)
            lines.append(f"- `{part['name']}`, {_SAYS[method]} ({mean[method]:.3f}): {said}.")
    for part in tasks:
        mean = {method: np.mean(areas) for method, areas in part["auroc"].items()}
        found = _compared(part["differences"][0]["auroc"])
        lines.append(
            f"- {part['title'][0].upper()}{part['title'][1:]}, fine-tuned ({mean['finetuned']:.3f})"
            f": {found} an SVM on ranks ({mean['svm']:.3f})."
        )
    return lines


def _compared(difference: dict[str, float]) -> str:
    """What the interval says, in words that go before the name of the other."""
    if difference["low"] > 0:
        return "better than"
    return "worse than" if difference["high"] < 0 else "not told apart from"


def _about_drawn(parts: list[dict[str, Any]], n: int) -> list[str]:
    return [
        f"In {n} of these files the genes of a cell know nothing of each other once its label is "
        "known: the number of genes in a cell varies as if each had been drawn by itself, where "
        "cells from a tissue vary far more, and genes of one complex do not go together. The table "
        "gives that spread and the correlation of such a pair, both within labels. In "
        "`bmfm_cellxgene` the label tells nothing either, so that no method can know it: it is "
        "a control that must come out at chance. In the other two the label alone decides, which "
        "makes it easier to read than in real cells, and donors or compounds are names only. "
        "**No conclusion on real cells can be drawn from them.**",
        "",
        "| | spread of genes a cell, over that of independent genes | CD74 with HLA-DRA |",
        "|---|---|---|",
        *[
            f"| `{part['name']}` | {part['genes_together']:.2f} | "
            f"{'not in the file' if (pair := part['pair_together']) is None else f'{pair:+.2f}'} |"
            for part in parts
        ],
    ]


def _seconds(result: dict[str, Any]) -> float:
    cells = sum(sum(s["seconds"]) for part in result["cells"] for s in part["scores"].values())
    return cells + sum(sum(part["seconds"].values()) for part in result["genes"])


def _spread(values: list[float]) -> str:
    return f"{np.mean(values):.3f} ± {np.std(values):.3f}"


def _interval(found: dict[str, float]) -> str:
    return f"{found['value']:+.3f} ({found['low']:+.3f} to {found['high']:+.3f})"
