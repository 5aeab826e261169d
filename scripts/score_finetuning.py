"""Measure fine-tuning on real data and write `docs/finetuning-evidence.md`.

    python scripts/score_finetuning.py --work build/finetuning

Labels of cells: `geneformer-tiny` fine-tuned, fine-tuned through LoRA, and the same shape trained
from scratch, against logistic regression on principal components and on ranks. Classes of genes:
the fine-tuned model against an SVM on ranks and logistic regression on its embeddings. Divisions
are the same for all. Each training is kept in the work folder, so the script can be stopped and
goes on; `--only` takes a part of it and writes nothing. Cells and gene classes are looked for in
GLM_TEST_DATA.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from evidence import baselines, data, genes, models, page, statistics

import glm
from glm.slots import plain

ROOT = Path(__file__).resolve().parents[1]
_BASELINES = ("pca", "ranks")
_CHOSEN_ON = "pbmc68k_reduced"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "finetuning")
    parser.add_argument("--only", nargs="+", choices=[*data.NAMES, "genes"])
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    torch.set_num_threads(1)
    glm.settings.progress = False
    rates = choose(options.work)
    wanted = options.only or [*data.NAMES, "genes"]
    cells = [measure_cells(name, rates, options.work) for name in data.NAMES if name in wanted]
    tasks = measure_genes(options.work) if "genes" in wanted else []
    result = {
        "machine": machine(),
        "model_sha256": glm.models.load(data.MODEL).weights_sha256,
        "learning_rates": rates,
        "cells": cells,
        "genes": tasks,
    }
    page.report(result)
    if options.only is None:
        write(ROOT / "benchmarks" / "results" / "finetuning.json", result)
        text = page.page(result)
        (ROOT / "docs" / "finetuning-evidence.md").write_text(text, encoding="utf-8")


def kept(path: Path, settings: dict[str, Any], compute: Callable[[], dict[str, Any]]) -> Any:
    """What was computed with these settings, now or before; with the seconds of its process."""
    settings = json.loads(json.dumps(plain(settings)))
    if path.is_file():
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["settings"] == settings:
            return content["result"]
    started = time.process_time()
    result = compute()
    result["seconds"] = time.process_time() - started
    write(path, {"settings": settings, "result": result})
    return json.loads(json.dumps(plain(result)))


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(plain(content), indent=1) + "\n", encoding="utf-8")
    os.replace(beside, path)


def machine() -> dict[str, str]:
    import platform

    return {"python": platform.python_version(), "torch": torch.__version__, "threads": "1"}


def kept_training(
    labelled: data.Labelled, parts: Any, method: str, seed: int, rate: float, work: Path
) -> Any:
    path = work / labelled.name / f"{method}_{rate:g}_{seed}.json"
    settings = {
        "weights": glm.models.load(data.MODEL).weights_sha256,
        "method": method,
        "learning_rate": rate,
        "context": labelled.context,
        "epochs": labelled.epochs,
        "recipe": vars(models.RECIPE),
        "train": parts.train,
        "test": parts.test,
    }
    compute = partial(train, labelled, parts, method, seed, path.with_suffix(""), rate)
    return kept(path, settings, compute)


def measure_cells(name: str, rates: dict[str, float], work: Path) -> dict[str, Any]:
    """All methods on one labelled set."""
    labelled = data.read_labelled(name)
    codes = labelled.codes
    features = {
        "pca": baselines.expression(labelled),
        "ranks": baselines.places(labelled.adata, log_normalized=labelled.log_normalized),
    }
    runs: dict[str, list[dict[str, Any]]] = {}
    divisions = [labelled.divide(seed) for seed in data.SEEDS]
    for seed, parts in zip(data.SEEDS, divisions, strict=True):
        for method in (*_BASELINES, *models.METHODS):
            if method in _BASELINES:
                path = work / name / f"{method}_{seed}.json"
                settings = {"components": baselines.N_COMPONENTS, "test": parts.test}
                compute = partial(label_by_baseline, features[method], codes, parts, method)
                run = kept(path, settings, compute)
            else:
                run = kept_training(labelled, parts, method, seed, rates[method], work)
            runs.setdefault(method, []).append(run)
            logging.warning("%s seed %s %s: %.0f s", name, seed, method, run["seconds"])
    return summarise_cells(labelled, [parts.test for parts in divisions], runs)


def label_by_baseline(features: Any, codes: np.ndarray, parts: Any, method: str) -> dict[str, Any]:
    """Fit on all cells that are not tested, and name the class of each test cell."""
    rest = np.sort(np.concatenate([parts.train, parts.validation]))
    said = baselines.label_cells(features, codes, rest, parts.test, centre=method == "pca")
    return {"said": said.tolist()}


def train(
    labelled: data.Labelled,
    parts: Any,
    method: str,
    seed: int,
    folder: Path,
    rate: float,
) -> dict[str, Any]:
    """Fine-tune, and name the class of each test cell."""
    adata, loss = models.finetune(
        labelled.adata,
        labelled.label,
        parts,
        method,
        context=labelled.context,
        epochs=labelled.epochs,
        seed=seed,
        folder=folder,
        log_normalized=labelled.log_normalized,
        learning_rate=rate,
    )
    column = adata.obs[f"{labelled.label}_geneformer_held_out"].iloc[parts.test].astype(str)
    place = {name: i for i, name in enumerate(labelled.classes)}
    return {"said": [place[name] for name in column], "validation_loss": loss}


def summarise_cells(
    labelled: data.Labelled, tested: list[np.ndarray], runs: dict[str, list[dict[str, Any]]]
) -> dict[str, Any]:
    codes, rows = labelled.codes, np.concatenate(tested)
    said = {method: np.concatenate([run["said"] for run in each]) for method, each in runs.items()}
    scores: dict[str, dict[str, Any]] = {}
    for method, each in runs.items():
        pairs = [(codes[t], np.array(run["said"])) for t, run in zip(tested, each, strict=True)]
        scores[method] = {
            "accuracy": [float((truth == named).mean()) for truth, named in pairs],
            "macro_f1": [statistics.macro_f1(truth, named) for truth, named in pairs],
            "seconds": [run["seconds"] for run in each],
        }
    pairs_of_methods = [
        *((method, base) for method in models.METHODS for base in _BASELINES),
        ("finetuned", "scratch"),
        ("lora", "finetuned"),
    ]
    differences = []
    for one, other in pairs_of_methods:
        found = statistics.compare_labels(codes[rows], said[one], said[other], labelled.units[rows])
        differences.append({"one": one, "other": other, **{k: vars(v) for k, v in found.items()}})
    return {
        "name": labelled.name,
        "title": labelled.title,
        "n_cells": int(codes.size),
        "n_genes": int(labelled.adata.n_vars),
        "n_classes": len(labelled.classes),
        "largest_class": float(np.bincount(codes).max() / codes.size),
        "unit": labelled.unit,
        "n_units": int(np.unique(labelled.units).size),
        "genes_together": labelled.genes_together,
        "pair_together": labelled.pair_together,
        "context": labelled.context,
        "epochs": labelled.epochs,
        "n_tested": [int(t.size) for t in tested],
        "scores": scores,
        "differences": differences,
    }


def measure_genes(work: Path) -> list[dict[str, Any]]:
    """All methods on the classes of genes, folds of one division."""
    known = genes.GeneData()
    readable = known.readable
    seed = data.SEEDS[0]
    found = []
    for task in (task.only(readable) for task in data.read_gene_tasks()):
        fold = task.folds(seed)
        common = {"genes": task.genes, "gut": genes.N_GUT, "fold": fold}
        scores: dict[str, np.ndarray] = {}
        seconds: dict[str, float] = {}
        weights = glm.models.load(data.MODEL).weights_sha256
        for method in ("svm", "embedding"):
            run = kept(
                work / task.name / f"{method}.json",
                {"method": method, **common, "weights": weights},
                partial(score_by_baseline, known, task, method, seed),
            )
            scores[method], seconds[method] = np.array(run["scores"]), run["seconds"]
        scores["finetuned"], seconds["finetuned"] = np.empty(fold.size), 0.0
        settings = {
            "weights": weights,
            "context": genes.CONTEXT,
            "epochs": genes.EPOCHS,
            "learning_rate": genes.LEARNING_RATE,
            "recipe": vars(models.RECIPE),
            **common,
        }
        for number in range(data.N_FOLDS):
            path = work / task.name / f"finetuned_{number}.json"
            compute = partial(train_on_genes, known, task, seed, number, path.with_suffix(""))
            run = kept(path, settings, compute)
            scores["finetuned"][fold == number] = run["scores"]
            seconds["finetuned"] += run["seconds"]
            logging.warning("%s fold %s: %.0f s", task.name, number, run["seconds"])
        found.append(summarise_genes(task, fold, scores, seconds))
    return found


def score_by_baseline(
    known: genes.GeneData, task: data.GeneTask, method: str, seed: int
) -> dict[str, Any]:
    return {"scores": genes.baseline(known, task, method, seed).tolist()}


def train_on_genes(
    known: genes.GeneData, task: data.GeneTask, seed: int, fold: int, folder: Path
) -> dict[str, Any]:
    return {"scores": genes.finetuned(known, task, seed, fold, folder).tolist()}


def summarise_genes(
    task: data.GeneTask,
    fold: np.ndarray,
    scores: dict[str, np.ndarray],
    seconds: dict[str, float],
) -> dict[str, Any]:
    truth = task.truth
    areas = {
        method: [statistics.auroc(truth[fold == f], s[fold == f]) for f in range(data.N_FOLDS)]
        for method, s in scores.items()
    }
    differences = [
        {
            "one": one,
            "other": other,
            "auroc": vars(statistics.compare_areas(truth, scores[one], scores[other], fold)),
        }
        for one, other in (("finetuned", "svm"), ("embedding", "svm"), ("finetuned", "embedding"))
    ]
    return {
        "name": task.name,
        "title": task.title,
        "facts": task.facts,
        "auroc": areas,
        "seconds": seconds,
        "differences": differences,
    }


def choose(work: Path) -> dict[str, float]:
    """By method, the learning rate of the lowest loss on validation cells of one division."""
    labelled = data.read_labelled(_CHOSEN_ON)
    parts = labelled.divide(data.SEEDS[0])
    chosen = {}
    for method in models.METHODS:
        losses = {}
        for rate in models.LEARNING_RATES:
            run = kept_training(labelled, parts, method, data.SEEDS[0], rate, work)
            losses[rate] = run["validation_loss"]
            logging.warning("%s at %g: validation loss %.3f", method, rate, losses[rate])
        chosen[method] = min(losses, key=losses.__getitem__)
    return chosen


if __name__ == "__main__":
    main()
