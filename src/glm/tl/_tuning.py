"""Fine-tune on the rows of one part, calibrate on those of another, and tell what comes of a third.

Rows are cells (:class:`CellTask`) or genes (:class:`GeneTask`). Arrays and a model, nothing of
AnnData.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from .._messages import first_names
from ..models.bundle import Model
from ..train.calibration import fit_temperature, rescale_head
from ..train.split import Parts
from ._cell_sentences import Cells, apply_head, row_vectors, token_means
from ._targets import Target
from ._trained import advising

if TYPE_CHECKING:
    from ..engine import Plan
    from ..train import LoRA, Recipe, Sentences
    from ..train.objectives import Objective

ClassWeight = Literal["balanced"] | Mapping[str, float] | None

# Cells on which a gene classifier is measured after every epoch.
_MEASURED_CELLS = 1000


@dataclass(frozen=True)
class Tuning:
    """How a model is trained, whatever the rows.

    Attributes
    ----------
    recipe
        Optimiser, schedule, batches.
    class_weight
        How much classes count in the loss.
    lora, options
        What else :func:`glm.train.fit` is told.
    """

    recipe: Recipe
    class_weight: ClassWeight = None
    lora: LoRA | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Tuned:
    """A fine-tuned, calibrated model and what it says of the rows it is tested on.

    Attributes
    ----------
    model
        Its head gives calibrated logits, or amounts in the target's unit.
    outputs
        float32, rows of the test part × outputs; NaN where there is none.
    temperature
        What the logits were divided by; 1 for amounts.
    best_epoch
        From 0.
    """

    model: Model
    outputs: np.ndarray
    temperature: float
    best_epoch: int | None


class Task(Protocol):
    """Rows with a target, and the sentences in which a model meets them."""

    target: Target

    def training(self, rows: np.ndarray, scale: Scale) -> Sentences:
        """Sentences that ask about these rows, to train on."""

    def measuring(self, rows: np.ndarray, scale: Scale) -> Sentences:
        """The same, to measure on after every epoch."""

    def outputs(self, model: Model, rows: np.ndarray) -> np.ndarray:
        """float32, these rows × outputs of the model's head."""


@dataclass(frozen=True)
class Scale:
    """Mean and spread of the amounts to train on: a network learns numbers near 0 and 1."""

    mean: float = 0.0
    spread: float = 1.0

    @classmethod
    def of(cls, target: Target, rows: np.ndarray) -> Scale:
        """Those of the rows, or none where there are no amounts."""
        if target.kind != "regression":
            return cls()
        amounts = target.values[rows].astype(np.float64)
        return cls(float(amounts.mean()), float(amounts.std()) or 1.0)

    def start(self, model: Model) -> Model:
        """The model to start from: a head that gives amounts in their unit gives learnt ones."""
        if model.spec.task != "regression" or self == Scale():
            return model
        network = copy.deepcopy(_head(model))
        rescale_head(network, 1 / self.spread, -self.mean / self.spread)
        return dataclasses.replace(model, network=network)

    def apply(self, target: Target) -> np.ndarray:
        """The target's values as a network is to learn them."""
        if target.kind != "regression":
            return target.values
        return ((target.values - self.mean) / self.spread).astype(np.float32)


def tune(task: Task, start: Model, parts: Parts, tuning: Tuning, folder: Path) -> Tuned:
    """Train on one part, choose the epoch and calibrate on another, run the third."""
    from ..train import fit

    target = task.target
    scale = Scale.of(target, parts.train)
    train = task.training(parts.train, scale)
    with advising(folder):
        fitted = fit(
            scale.start(start),
            make_objective(task, train, tuning.class_weight),
            train,
            recipe=tuning.recipe,
            folder=folder,
            held_out=task.measuring(parts.validation, scale),
            adapt=tuning.lora,
            **tuning.options,
        )
    model, temperature = fitted.model, 1.0
    if target.kind == "regression":
        rescale_head(_head(model), scale.spread, scale.mean)
    elif target.kind != "counts":
        logits = task.outputs(model, parts.validation)
        temperature = fit_temperature(logits, target.values[parts.validation], target.kind)
        rescale_head(_head(model), 1 / temperature)
    outputs = task.outputs(model, parts.test)
    return Tuned(model, outputs, temperature, fitted.best_epoch)


def _head(model: Model) -> Any:
    return model.network


def make_objective(task: Task, train: Sentences, class_weight: ClassWeight) -> Objective:
    """What the network is trained for.

    Raises
    ------
    ValueError
        If weights are given for other classes than there are, or for amounts.
    """
    from ..train.objectives.classify import Classification
    from ..train.objectives.regress import Poisson, Regression

    target = task.target
    level: Literal["row", "token"] = "row" if target.axis == "obs" else "token"
    if target.kind in ("regression", "counts"):
        if class_weight is not None:
            raise ValueError(f"class_weight is for classes; {target.title} holds amounts.")
        amounts = Regression if target.kind == "regression" else Poisson
        return amounts(target.labels, level)
    weights = class_weights(target, train.targets, class_weight)
    kind: Literal["classes", "multi_label"] = (
        "classes" if target.kind == "classes" else "multi_label"
    )
    return Classification(target.labels, level, kind, weights)


def class_weights(
    target: Target, asked: np.ndarray | None, wanted: ClassWeight
) -> tuple[float, ...] | None:
    """One a class, so that all classes count alike (``"balanced"``), or as given by name.

    Raises
    ------
    ValueError
        If the names are not those of the classes.
    """
    from ..train.objectives.classify import balanced_weights

    if wanted is None:
        return None
    if isinstance(wanted, Mapping):
        given = {str(name): float(weight) for name, weight in wanted.items()}
        wrong = sorted(set(given) ^ set(target.labels))
        if wrong:
            raise ValueError(
                f"class_weight names {len(given)} classes, {target.title} has "
                f"{len(target.labels)}; they differ in {first_names(wrong)}."
            )
        return tuple(given[name] for name in target.labels)
    if wanted != "balanced":
        raise ValueError(
            f"class_weight is {wanted!r}; expected 'balanced', weights by name, or None."
        )
    assert asked is not None  # sentences to train on have targets
    return balanced_weights(asked, len(target.labels))


class CellTask:
    """One target a cell, read at position 0 of its sentence.

    Parameters
    ----------
    cells
        Sentences of all cells that can be read.
    target
        One a cell of the object.
    plan
        Where the trained model runs.
    """

    def __init__(self, cells: Cells, target: Target, plan: Plan) -> None:
        self.target, self.plan = target, plan
        self._sentences = cells.sentences
        self._number = np.full(len(target.values), -1, np.int64)
        self._number[cells.rows] = np.arange(cells.rows.size)

    def training(self, rows: np.ndarray, scale: Scale) -> Sentences:
        """Sentences of these cells, with their targets."""
        chosen = self._sentences.subset(self._number[rows])
        return dataclasses.replace(chosen, targets=scale.apply(self.target)[rows])

    measuring = training

    def outputs(self, model: Model, rows: np.ndarray) -> np.ndarray:
        """float32, these cells × outputs."""
        sentences = self._sentences.subset(self._number[rows])
        vectors = row_vectors(model, sentences, self.plan)
        return apply_head(_head(model), vectors, self.plan.device)


class GeneTask:
    """One target a gene, read where the gene stands in the sentences of all cells.

    What the head says of a gene is averaged over the cells that read it.

    Parameters
    ----------
    cells
        Sentences of all cells that can be read.
    target
        One a column of the object.
    place_of_token
        One a token: the column of its gene, -1 for none.
    plan
        Where the trained model runs.
    """

    def __init__(
        self, cells: Cells, target: Target, place_of_token: np.ndarray, plan: Plan
    ) -> None:
        self.target, self.plan = target, plan
        self._sentences, self._place_of_token = cells.sentences, place_of_token

    def training(self, rows: np.ndarray, scale: Scale) -> Sentences:
        """Sentences that hold one of these genes, with a target at each."""
        wanted = np.zeros(len(self.target.values), bool)
        wanted[rows] = True
        asked = self._asked(wanted)
        n_asked = np.add.reduceat(asked[self._sentences.tokens], self._sentences.offsets[:-1])
        return self._with_targets(self._sentences.subset(n_asked > 0), asked, scale)

    def measuring(self, rows: np.ndarray, scale: Scale) -> Sentences:
        """Of these sentences about a thousand, evenly chosen."""
        sentences = self.training(rows, scale)
        step = max(len(sentences) // _MEASURED_CELLS, 1)
        return sentences.subset(np.arange(0, len(sentences), step))

    def outputs(self, model: Model, rows: np.ndarray) -> np.ndarray:
        """float32, these genes × outputs, the mean over the cells that read the gene."""
        places = np.full(len(self.target.values) + 1, -1, np.int64)
        places[rows] = np.arange(rows.size)
        means = token_means(
            model, self._sentences, self.plan, places[self._place_of_token], rows.size
        )
        # The head is linear: its mean over cells is what it makes of their mean.
        return apply_head(_head(model), means, self.plan.device)

    def _asked(self, wanted: np.ndarray) -> np.ndarray:
        """bool, one a token of the vocabulary: whether its gene is wanted."""
        return np.append(wanted, False)[self._place_of_token]

    def _with_targets(self, sentences: Sentences, asked: np.ndarray, scale: Scale) -> Sentences:
        values = scale.apply(self.target)
        absent = -1 if self.target.kind == "classes" else np.nan
        dtype = np.int16 if self.target.kind == "classes" else np.float32
        of_token = np.full((asked.size, *values.shape[1:]), absent, dtype)
        of_token[asked] = values[self._place_of_token[asked]]
        return dataclasses.replace(sentences, targets=of_token[sentences.tokens])
