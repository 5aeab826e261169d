"""Confidence that means what it says: one temperature, fitted on rows that were not trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from ..models.heads import Classifier

Kind = Literal["classes", "multi_label"]

_COLDEST, _HOTTEST = 1 / 20, 20.0


def fit_temperature(logits: np.ndarray, targets: np.ndarray, kind: Kind = "classes") -> float:
    """Find what to divide logits by, so that confidence matches how often one is right.

    It maximises the likelihood of the targets :cite:p:`guo2017`. One number leaves every order as
    it is, so no prediction changes. A weak belief that it is near 1 (log-normal, one standard
    deviation a factor of e) counts as much as a few rows: without it, a small part that is all
    right would ask for certainty.

    Parameters
    ----------
    logits
        Rows × classes, or rows × labels.
    targets
        The right class of each row (whole numbers); or, for labels, rows × labels of 0 and 1, NaN
        where it is not known. Rows whose logits are not finite are left out.
    kind
        ``"classes"`` (one a row) or ``"multi_label"`` (any number).

    Returns
    -------
    The temperature, from 1/20 to 20; 1 where there is no row.

    Examples
    --------
    >>> import numpy as np
    >>> from glm.train.calibration import fit_temperature
    >>> logits = np.array([[4.0, 0.0]] * 400)  # sure of the first class, and right in 3 of 4
    >>> round(fit_temperature(logits, np.array([0, 0, 0, 1] * 100)), 2)
    3.59
    """
    from scipy.optimize import minimize_scalar

    logits = np.asarray(logits, np.float64)
    finite = np.isfinite(logits).all(axis=1)
    logits, targets = logits[finite], np.asarray(targets)[finite]
    if not len(logits):
        return 1.0

    def cost(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        return _surprise(scaled, targets, kind) + 0.5 * log_temperature**2

    found = minimize_scalar(cost, bounds=(np.log(_COLDEST), np.log(_HOTTEST)), method="bounded")
    return float(np.exp(found.x))


def _surprise(logits: np.ndarray, targets: np.ndarray, kind: Kind) -> float:
    """Negative log-likelihood, summed over rows."""
    if kind == "classes":
        largest = logits.max(axis=1)
        log_sum = largest + np.log(np.exp(logits - largest[:, None]).sum(axis=1))
        return float((log_sum - logits[np.arange(len(logits)), targets.astype(np.int64)]).sum())
    known = np.isfinite(targets)
    signed = np.where(targets[known] > 0, -logits[known], logits[known])
    return float(np.logaddexp(0.0, signed).sum())


def probabilities(logits: np.ndarray, kind: Kind = "classes") -> np.ndarray:
    """float32, of the logits' shape: adding up to 1 over classes, or each label's own.

    Rows that are not finite are NaN.
    """
    logits = np.asarray(logits, np.float64)
    if kind == "classes":
        raised = np.exp(logits - logits.max(axis=1, keepdims=True))
        return (raised / raised.sum(axis=1, keepdims=True)).astype(np.float32)
    from scipy.special import expit

    return expit(logits).astype(np.float32)


def rescale_head(
    network: Classifier, scale: float | np.ndarray, shift: float | np.ndarray = 0.0
) -> None:
    """Make a head give ``scale`` × its outputs + ``shift``, in place.

    So calibration, and the unit of a regression, travel with the weights: every tool that reads
    them gives the same numbers. Scale and shift are one number, or one for each output.
    """
    import torch

    weight, bias = network.classifier.weight, network.classifier.bias
    factor = torch.as_tensor(scale, dtype=bias.dtype).reshape(-1)
    with torch.no_grad():
        weight.mul_(factor[:, None])
        bias.mul_(factor).add_(torch.as_tensor(shift, dtype=bias.dtype))
