"""Predict amounts: of any sign, or counts."""

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

# Below this, ln softplus(x) is x to the last bit of float32; softplus itself would underflow.
_LINEAR_BELOW = -20.0


@dataclass(frozen=True)
class Regression:
    """Predict amounts, of whole sentences or of their tokens.

    Targets of the sentences are float32: one a row (or token) for one label, else rows × labels;
    NaN where an amount is not known. The loss is a mean over all that are known.

    Attributes
    ----------
    labels
        Names of the amounts, in the order of the outputs.
    level
        Whether a whole sentence has them (``"row"``) or each token (``"token"``).
    huber
        ``None`` for the mean square. A number δ above zero for Huber's loss: half the square of
        errors up to δ, and δ (size − δ / 2) beyond, so that outliers pull less.

    Raises
    ------
    TypeError
        If ``labels`` is not a tuple of names.
    ValueError
        If there is no label or one stands twice, or ``huber`` is not above zero.

    Examples
    --------
    >>> import glm
    >>> glm.train.Regression(("age",)).n_outputs
    1
    """

    labels: tuple[str, ...] = ("value",)
    level: Level = "row"
    huber: float | None = None

    def __post_init__(self) -> None:
        check_level(self.level)
        check_labels(self.labels, 1)
        if self.huber is not None and not 0 < self.huber < np.inf:
            raise ValueError(f"huber is {self.huber}; expected a size of error, above zero.")

    @property
    def n_outputs(self) -> int:
        """One a label."""
        return len(self.labels)

    @property
    def task(self) -> Literal["regression"]:
        """Outputs are the amounts."""
        return "regression"

    @property
    def monitor(self) -> tuple[str, Literal["min", "max"]]:
        """The lowest held-out loss."""
        return "held_out_loss", "min"

    def check(self, sentences: Sentences) -> None:
        """Raise ``ValueError`` where amounts are missing or infinite."""
        targets = check_targets(sentences, self.level, self.n_outputs, some_known)
        _refuse_infinite(targets)

    def batch(
        self,
        sentences: Sentences,
        chosen: np.ndarray,
        rng: np.random.Generator,
        *,
        training: bool,
    ) -> Batch:
        """Ask for the amounts of the chosen sentences, or of their tokens."""
        return _asking(sentences, chosen, self.level, self.n_outputs)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Mean square, or Huber's loss."""
        targets, outputs = batch.targets.nan_to_num(), outputs.float()
        if self.huber is None:
            each = F.mse_loss(outputs, targets, reduction="none")
        else:
            each = F.huber_loss(outputs, targets, reduction="none", delta=self.huber)
        return _mean_of_known(each, batch.targets)

    def scores(self, outputs: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Mean size of the error."""
        each = (outputs.float() - batch.targets).abs().nan_to_num()
        return {"absolute_error": _mean_of_known(each, batch.targets)}


@dataclass(frozen=True)
class Poisson:
    """Predict counts, of whole sentences or of their tokens, by the likelihood of Poisson's law.

    Targets as for :class:`Regression`, none below zero; they need not be whole. The loss is the
    mean of μ − y ln μ over all that are known :cite:p:`avsec2021`, so it leaves out what does not
    depend on the model.

    Attributes
    ----------
    labels
        Names of the counts, in the order of the outputs.
    level
        Whether a whole sentence has them (``"row"``) or each token (``"token"``).
    link
        How an output x becomes the mean: ``"softplus"``, μ = ln(1 + eˣ), as Enformer's; or
        ``"log"``, μ = eˣ.

    Raises
    ------
    TypeError
        If ``labels`` is not a tuple of names.
    ValueError
        If there is no label or one stands twice, or ``link`` is another.

    Examples
    --------
    >>> import glm
    >>> glm.train.Poisson(("fragments",), link="log").task
    'counts_log'
    """

    labels: tuple[str, ...] = ("value",)
    level: Level = "row"
    link: Literal["softplus", "log"] = "softplus"

    def __post_init__(self) -> None:
        check_level(self.level)
        check_labels(self.labels, 1)
        if self.link not in ("softplus", "log"):
            raise ValueError(f"link is {self.link!r}; expected 'softplus' or 'log'.")

    @property
    def n_outputs(self) -> int:
        """One a label."""
        return len(self.labels)

    @property
    def task(self) -> Literal["counts", "counts_log"]:
        """Outputs become means by the link."""
        return "counts" if self.link == "softplus" else "counts_log"

    @property
    def monitor(self) -> tuple[str, Literal["min", "max"]]:
        """The lowest held-out loss."""
        return "held_out_loss", "min"

    def check(self, sentences: Sentences) -> None:
        """Raise ``ValueError`` where counts are missing, infinite or below zero."""
        targets = check_targets(sentences, self.level, self.n_outputs, some_known)
        _refuse_infinite(targets)
        if (targets < 0).any():
            raise ValueError(
                f"{int((targets < 0).sum()):,} targets are below zero (the lowest is "
                f"{np.nanmin(targets):g}): Poisson's law is one of counts."
            )

    def batch(
        self,
        sentences: Sentences,
        chosen: np.ndarray,
        rng: np.random.Generator,
        *,
        training: bool,
    ) -> Batch:
        """Ask for the counts of the chosen sentences, or of their tokens."""
        return _asking(sentences, chosen, self.level, self.n_outputs)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Mean of μ − y ln μ."""
        mean, log_mean = self._mean(outputs)
        return _mean_of_known(mean - batch.targets.nan_to_num() * log_mean, batch.targets)

    def scores(self, outputs: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Mean deviance, 2 (y ln(y / μ) − y + μ): zero where every mean is the count."""
        mean, log_mean = self._mean(outputs)
        counts = batch.targets.nan_to_num()
        each = 2 * (torch.xlogy(counts, counts) - counts * log_mean - counts + mean)
        return {"deviance": _mean_of_known(each, batch.targets)}

    def _mean(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """μ and ln μ, float32."""
        outputs = outputs.float()
        if self.link == "log":
            return outputs.exp(), outputs
        mean = F.softplus(outputs)
        inner = F.softplus(outputs.clamp(min=_LINEAR_BELOW)).log()
        return mean, torch.where(outputs < _LINEAR_BELOW, outputs, inner)


def _asking(sentences: Sentences, chosen: np.ndarray, level: Level, n_outputs: int) -> Batch:
    batch = asking(sentences, chosen, level, some_known)
    targets = batch.targets.float().reshape(-1, n_outputs)
    return replace(batch, targets=targets, weight=float(targets.isfinite().sum()))


def _mean_of_known(each: Tensor, targets: Tensor) -> Tensor:
    known = targets.isfinite()
    return (each * known).sum() / known.sum()


def _refuse_infinite(targets: np.ndarray) -> None:
    if np.isinf(targets).any():
        raise ValueError(
            f"{int(np.isinf(targets).sum()):,} targets are infinite; NaN says that one is not "
            "known."
        )
