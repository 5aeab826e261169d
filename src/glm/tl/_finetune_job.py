"""Fine-tuning between its check and its writing: what is trained on what, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._settings import logger
from ..cells import Counts
from ..models.bundle import Model
from ..models.registry import ModelSpec
from ._cell_sentences import cell_sentences
from ._gene_axis import place_of_token, readable_columns
from ._parts import Division, Wish, divide_rows
from ._scores import score
from ._targets import Target, first_of_gene
from ._trained import RUN, choose_recipe, log_interval, long_enough
from ._tuning import CellTask, GeneTask, Task, Tuned, Tuning, tune

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from ..train import Recipe


@dataclass(frozen=True)
class Job:
    """Everything that is decided before anything is trained.

    Attributes
    ----------
    task, division, recipe
        Rows and their sentences, the parts they come to, how is trained.
    long_enough
        bool, one a cell: whether it can be read.
    logging
        How often a step is logged.
    """

    task: Task
    division: Division
    recipe: Recipe
    long_enough: np.ndarray
    logging: dict[str, int]

    @property
    def target(self) -> Target:
        """What is learnt."""
        return self.task.target

    @property
    def facts(self) -> dict[str, Any]:
        """How many rows are where."""
        division = self.division
        return {
            "n_train": len(division.final.train),
            "n_validation": len(division.final.validation),
            "n_test": sum(len(parts.test) for parts in division.parts.values()),
            "n_without_target": int((~self.target.known).sum()),
            "groups_kept_in_validation": division.final.whole_groups,
        }

    @property
    def fold_column(self) -> pd.Categorical:
        """The part of each row, or its fold."""
        import pandas as pd

        names = [name or None for name in self.division.name_of]
        return pd.Categorical(names, categories=list(self.division.names))


@dataclass(frozen=True)
class Result:
    """What came of all trainings.

    Attributes
    ----------
    kept
        The model for the bundle.
    outputs
        float32, rows of the axis × outputs; NaN where a row was not tested on.
    metrics, metrics_of_fold
        Of all rows that were tested on, and of those of each fold.
    """

    kept: Tuned
    outputs: np.ndarray
    metrics: dict[str, float]
    metrics_of_fold: dict[str, dict[str, float]]

    @property
    def facts(self) -> dict[str, Any]:
        """What goes into a record."""
        return {
            "temperature": self.kept.temperature,
            "best_epoch": self.kept.best_epoch,
            "metrics": self.metrics,
            "metrics_of_fold": self.metrics_of_fold,
        }


def prepare(
    adata: AnnData,
    counts: Counts,
    target: Target,
    wish: Wish,
    spec: ModelSpec,
    recipe: Recipe | None,
    folder: Path,
    said: dict[str, Any],
) -> Job:
    """Encode the cells, divide the rows, choose the recipe."""
    from ..engine import make_plan

    n_genes = np.minimum(counts.measures.n_genes_known, counts.vocabulary.n_genes_read)
    of_cells = target.axis == "obs"
    wanted = target.known if of_cells else np.ones(counts.n_cells, bool)
    size = {"n_sentences": int(wanted.sum()), "n_tokens": int(n_genes[wanted].sum(dtype=np.int64))}
    what = "cells" if of_cells else "genes"
    chosen = choose_recipe(spec.system, what, recipe, **size, **said)
    readable = long_enough(counts, chosen.min_tokens)
    part = np.where(wanted & readable, 0, -1)
    plan = make_plan(config=spec.shape)
    division: Division
    if of_cells:
        division = divide_rows(adata, target, readable, wish)
        [cells] = cell_sentences(counts, part, folder=folder / RUN)
        task: Task = CellTask(cells, target, plan)
    else:
        target = first_of_gene(target, counts.genes.target, adata.var_names)
        [cells] = cell_sentences(counts, part, folder=folder / RUN)
        columns = readable_columns(counts)
        places = place_of_token(counts, columns)
        column_of_token = np.where(places >= 0, columns[places], -1)
        read = _read(cells.sentences.tokens, column_of_token, adata.n_vars)
        division = divide_rows(adata, target, read, wish)
        task = GeneTask(cells, target, column_of_token, plan)
    logging = {"log_every_n_steps": log_interval(chosen, **size)}
    return Job(task, division, chosen, readable, logging)


def _read(tokens: np.ndarray, column_of_token: np.ndarray, n_columns: int) -> np.ndarray:
    """bool, one a column: whether its gene is in any sentence."""
    there = np.zeros(column_of_token.size, bool)
    there[tokens] = True
    columns = column_of_token[there]
    seen = np.zeros(n_columns, bool)
    seen[columns[columns >= 0]] = True
    return seen


def train_all(job: Job, start: Model, tuning: Tuning, folder: Path) -> Result:
    """Train the model that is kept, and of several folds one for each.

    The kept one comes first: if its folder holds another run, that is told before hours of folds.
    """
    task, division = job.task, job.division
    target = job.target
    outputs = np.full((len(target.values), len(target.labels)), np.nan, np.float32)
    of_fold: dict[str, dict[str, float]] = {}
    kept = tune(task, start, division.final, tuning, folder / RUN)
    outputs[division.final.test] = kept.outputs
    folds = {name: parts for name, parts in division.parts.items() if name}
    for number, (name, parts) in enumerate(folds.items(), 1):
        tuned = tune(task, start, parts, tuning, folder / RUN / f"fold_{number}")
        outputs[parts.test] = tuned.outputs
        of_fold[name] = score(target, parts.test, tuned.outputs)
        logger.info("fold %s of %s is done", number, len(folds))
    tested = np.flatnonzero(np.isfinite(outputs).all(axis=1))
    return Result(kept, outputs, score(target, tested, outputs[tested]), of_fold)
