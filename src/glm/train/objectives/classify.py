"""Tell classes of cells, regions or genes apart."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..batches import Batch
from ..sentences import Sentences
from ._targets import Level, asking, check_labels, check_level, check_targets, some_known


@dataclass(frozen=True)
class Classification:
    """Tell classes apart: of whole sentences, or of their tokens (genes, for instance).

    Targets of the sentences are, for ``kind="classes"``, whole numbers: the place of the class in
    ``labels``, below zero where a token has none; for ``kind="multi_label"``, rows (or tokens) ×
    labels, float32, of 0 and 1, NaN where it is not known. The loss is the cross-entropy, for
    labels that of each by itself; its mean is over all targets that are known, each counted by its
    weight.

    Attributes
    ----------
    labels
        Names of the classes, in the order of the outputs; two for yes and no.
    level
        Whether a whole sentence has one (``"row"``) or each token (``"token"``; tokens without a
        target are ignored).
    kind
        ``"classes"``: exactly one is right. ``"multi_label"``: any number may be.
    class_weights
        One above zero for each label, or ``None`` for 1: how much a target of that class counts;
        of ``"multi_label"`` how much its presence counts against its absence
        (:func:`glm.train.balanced_weights`).

    Raises
    ------
    TypeError
        If ``labels`` is not a tuple of names.
    ValueError
        If labels are too few or not each one's own, or weights are not one above zero for each.

    Examples
    --------
    >>> import glm
    >>> glm.train.Classification(("B", "T", "NK")).n_outputs
    3
    """

    labels: tuple[str, ...]
    level: Level = "row"
    kind: Literal["classes", "multi_label"] = "classes"
    class_weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        check_level(self.level)
        if self.kind not in ("classes", "multi_label"):
            raise ValueError(f"kind is {self.kind!r}; expected 'classes' or 'multi_label'.")
        check_labels(self.labels, 2 if self.kind == "classes" else 1)
        weights = self.class_weights
        if weights is not None and not (
            len(weights) == len(self.labels) and all(0 < weight < np.inf for weight in weights)
        ):
            raise ValueError(
                f"class_weights is {weights}; expected a finite number above zero for each of "
                f"{len(self.labels)} labels."
            )

    @property
    def n_outputs(self) -> int:
        """One a label."""
        return len(self.labels)

    @property
    def task(self) -> Literal["classes", "multi_label"]:
        """The kind."""
        return self.kind

    @property
    def monitor(self) -> tuple[str, Literal["min", "max"]]:
        """The lowest held-out loss."""
        return "held_out_loss", "min"

    def check(self, sentences: Sentences) -> None:
        """Raise ``ValueError`` where targets are missing or are no classes of these labels."""
        if self.kind == "classes":
            targets = check_targets(sentences, self.level, None, _is_class)
            if not np.issubdtype(targets.dtype, np.integer):
                raise ValueError(f"Classes are of type {targets.dtype}; expected whole numbers.")
            if targets.max() >= self.n_outputs:
                raise ValueError(
                    f"A target is the class {targets.max()}; expected 0 to {self.n_outputs - 1}, "
                    "the places of the labels."
                )
            return
        targets = check_targets(sentences, self.level, self.n_outputs, some_known)
        wrong = np.isfinite(targets) & (targets != 0) & (targets != 1)
        if wrong.any() or np.isinf(targets).any():
            raise ValueError(
                f"{int(wrong.sum() + np.isinf(targets).sum()):,} targets are neither 0 nor 1 nor "
                "NaN (not known)."
            )

    def batch(
        self,
        sentences: Sentences,
        chosen: np.ndarray,
        rng: np.random.Generator,
        *,
        training: bool,
    ) -> Batch:
        """Ask for the classes of the chosen sentences, or of their tokens."""
        known_of = _is_class if self.kind == "classes" else some_known
        batch = asking(sentences, chosen, self.level, known_of)
        if self.kind == "classes":
            targets = batch.targets.long()
            weight = targets.numel() if self.class_weights is None else self._weights[targets].sum()
        else:
            targets = batch.targets.float().reshape(-1, self.n_outputs)
            weight = self._label_weights(targets).sum()
        return replace(batch, targets=targets, weight=float(weight))

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy, each target counted by its weight."""
        outputs = outputs.float()
        if self.kind == "classes":
            weights = None if self.class_weights is None else self._weights.to(outputs.device)
            return F.cross_entropy(outputs, batch.targets, weights)
        each = F.binary_cross_entropy_with_logits(
            outputs, batch.targets.nan_to_num(), reduction="none"
        )
        return self._mean(each, batch.targets)

    def scores(self, outputs: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Share of targets that are right, each counted by its weight."""
        if self.kind == "multi_label":
            right = ((outputs > 0) == (batch.targets > 0)).float()
            return {"accuracy": self._mean(right, batch.targets)}
        right = (outputs.argmax(dim=1) == batch.targets).float()
        if self.class_weights is None:
            return {"accuracy": right.mean()}
        weights = self._weights.to(outputs.device)[batch.targets]
        return {"accuracy": (right * weights).sum() / weights.sum()}

    @property
    def _weights(self) -> Tensor:
        """float32, one a label."""
        given = self.class_weights
        return torch.ones(self.n_outputs) if given is None else torch.tensor(given)

    def _label_weights(self, targets: Tensor) -> Tensor:
        """How much each target of several labels counts; 0 where it is not known."""
        present = self._weights.to(targets.device)
        return torch.where(targets > 0, present, 1.0) * targets.isfinite()

    def _mean(self, each: Tensor, targets: Tensor) -> Tensor:
        weights = self._label_weights(targets)
        return (each * weights).sum() / weights.sum()


def balanced_weights(targets: np.ndarray, n_labels: int) -> tuple[float, ...]:
    """Weights with which rare classes count as much as common ones.

    Parameters
    ----------
    targets
        As an objective takes them: whole numbers, below zero where there is no class; or rows ×
        labels of 0 and 1, NaN where it is not known.
    n_labels
        How many classes or labels there are.

    Returns
    -------
    One a class: targets ÷ (classes × targets of the class). One a label: how often it is absent ÷
    how often it is present. 1 for what never occurs.

    Raises
    ------
    ValueError
        If no target is known.

    Examples
    --------
    >>> import glm, numpy as np
    >>> glm.train.balanced_weights(np.array([0, 0, 0, 1]), 2)
    (0.6666666666666666, 2.0)
    """
    targets = np.asarray(targets)
    if targets.ndim == 1 and np.issubdtype(targets.dtype, np.integer):
        known = targets[_is_class(targets)]
        having = np.bincount(known, minlength=n_labels)
        against = np.full(n_labels, known.size / n_labels)
    else:
        table = targets.reshape(len(targets), n_labels)
        known = table[np.isfinite(table)]
        having, against = (table == 1).sum(axis=0), (table == 0).sum(axis=0)
    if not known.size:
        raise ValueError("No target is known, so nothing can be balanced.")
    both = (having > 0) & (against > 0)
    weights = np.where(both, against / np.maximum(having, 1), 1.0)
    return tuple(weights.tolist())


def _is_class(targets: np.ndarray) -> np.ndarray:
    return targets >= 0
