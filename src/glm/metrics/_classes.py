"""Predicted labels and scores against true labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .._messages import first_names
from ._check import as_amounts, as_labels, at_least_two, same_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike


def accuracy(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Share of rows whose label is right.

    Parameters
    ----------
    truth, predicted
        Labels, one a row.

    Returns
    -------
    From 0 to 1.

    Raises
    ------
    ValueError
        If labels are missing, or not equally many.

    Examples
    --------
    >>> import glm
    >>> glm.metrics.accuracy(["B", "T", "T", "NK"], ["B", "T", "B", "NK"])
    0.75
    """
    true, guessed = _both(truth, predicted)
    return float((true == guessed).mean())


def macro_f1(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Mean over classes of the harmonic mean of precision and recall.

    Every class counts alike, however rare. Classes are those that occur, in ``truth`` or in
    ``predicted``; one that is never predicted, or never true, has 0.

    Parameters
    ----------
    truth, predicted
        Labels, one a row.

    Returns
    -------
    From 0 to 1.

    Raises
    ------
    ValueError
        If labels are missing, or not equally many.

    Examples
    --------
    >>> import glm
    >>> round(glm.metrics.macro_f1(["B", "T", "T", "T"], ["B", "T", "T", "B"]), 3)
    0.733
    """
    from sklearn.metrics import f1_score

    return float(f1_score(*_both(truth, predicted), average="macro", zero_division=0))


def mcc(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Matthews' correlation between true and predicted labels, of two classes or more.

    Parameters
    ----------
    truth, predicted
        Labels, one a row.

    Returns
    -------
    From -1 to 1; 0 is what guessing gets, and predicting one class everywhere.

    Raises
    ------
    ValueError
        If labels are missing or not equally many, or ``truth`` has a single class.

    Examples
    --------
    >>> import glm
    >>> glm.metrics.mcc([1, 1, 0, 0], [1, 0, 0, 0])
    0.577...
    """
    from sklearn.metrics import matthews_corrcoef

    true, guessed = _both(truth, predicted)
    at_least_two(true, "truth", "Matthews' correlation")
    return float(matthews_corrcoef(true, guessed))


def auroc(
    truth: ArrayLike,
    scores: ArrayLike,
    *,
    classes: ArrayLike | None = None,
    average: Literal["one_vs_rest", "one_vs_one"] = "one_vs_rest",
) -> float:
    """Area under the curve of true against false positives.

    For two classes the probability that a row of the second has a higher score than one of the
    first, ties counting half. For more, the mean over classes (each against all others) or over
    pairs of classes, each counting alike.

    Parameters
    ----------
    truth
        Labels, one a row.
    scores
        One a row: how much speaks for the second of two classes; or rows × classes.
    classes
        Names of the classes, in the order of the columns of ``scores``; of two classes the second
        is the positive one. ``None`` is the sorted labels of ``truth``.
    average
        Over classes or over pairs of them, where there are more than two.

    Returns
    -------
    From 0 to 1; 0.5 is what guessing gets.

    Raises
    ------
    ValueError
        If labels are missing, scores are not finite, numbers of rows or columns do not fit, or a
        class does not occur.

    Examples
    --------
    >>> import glm
    >>> glm.metrics.auroc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.75
    """
    from sklearn.metrics import roc_auc_score

    if average not in ("one_vs_rest", "one_vs_one"):
        raise ValueError(f"average is {average!r}; expected 'one_vs_rest' or 'one_vs_one'.")
    true, table = _scored(truth, scores, classes)
    if table.shape[1] == 2 or average == "one_vs_rest":
        return _over_classes(true, table, roc_auc_score)
    n = table.shape[1]
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    areas = []
    for one, other in pairs:
        of_both = (true == one) | (true == other)
        areas.append(roc_auc_score(true[of_both] == one, table[of_both, one]))
    return float(np.mean(areas))


def aupr(truth: ArrayLike, scores: ArrayLike, *, classes: ArrayLike | None = None) -> float:
    """Area under the curve of precision against recall, as average precision.

    The mean of the precision at each threshold, weighted by how much recall it adds; nothing is
    interpolated. For more than two classes the mean over classes, each against all others.

    Parameters
    ----------
    truth
        Labels, one a row.
    scores
        One a row: how much speaks for the second of two classes; or rows × classes.
    classes
        Names of the classes, in the order of the columns of ``scores``; of two classes the second
        is the positive one. ``None`` is the sorted labels of ``truth``.

    Returns
    -------
    From 0 to 1; guessing gets the share of positives.

    Raises
    ------
    ValueError
        As for :func:`auroc`.

    Examples
    --------
    >>> import glm
    >>> round(glm.metrics.aupr([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]), 3)
    0.833
    """
    from sklearn.metrics import average_precision_score

    return _over_classes(*_scored(truth, scores, classes), average_precision_score)


def _both(truth: Any, predicted: Any) -> tuple[np.ndarray, np.ndarray]:
    true, guessed = as_labels(truth, "truth"), as_labels(predicted, "predicted")
    same_rows(truth=true, predicted=guessed)
    if (true.dtype.kind in "US") != (guessed.dtype.kind in "US"):
        raise ValueError(
            f"truth holds {true.dtype.name} and predicted {guessed.dtype.name}, so that no label "
            "is right: make them the same."
        )
    return true, guessed


def _over_classes(
    true: np.ndarray, table: np.ndarray, area: Callable[[np.ndarray, np.ndarray], float]
) -> float:
    """Of the second of two classes, or the mean over classes, each against all others."""
    chosen = [1] if table.shape[1] == 2 else range(table.shape[1])
    return float(np.mean([area(true == one, table[:, one]) for one in chosen]))


def _scored(truth: Any, scores: Any, classes: Any) -> tuple[np.ndarray, np.ndarray]:
    """Number of each row's class, and rows × classes."""
    true = as_labels(truth, "truth")
    table = as_amounts(scores, "scores", ndim=2 if np.ndim(scores) == 2 else 1)
    same_rows(truth=true, scores=table)
    names = np.unique(true) if classes is None else as_labels(classes, "classes")
    if table.ndim == 1:
        table = np.stack([-table, table], axis=1)
    if names.size < 2 or table.shape[1] != names.size:
        raise ValueError(
            f"scores has {table.shape[1]} columns for {names.size} classes "
            f"({first_names(names, 5)}); expected as many, at least two: name them with classes=."
        )
    numbers = number(true, names)
    absent = names[np.bincount(numbers, minlength=names.size) == 0]
    if absent.size:
        raise ValueError(
            f"{absent.size} of {names.size} classes have no row ({first_names(absent)}): there is "
            "no area without. Leave them out."
        )
    return numbers, table


def number(labels: np.ndarray, names: np.ndarray) -> np.ndarray:
    """The place of each label among the names.

    Raises
    ------
    ValueError
        If one is not among them, or a name stands twice.
    """
    if np.unique(names).size < names.size:
        raise ValueError(f"classes names some twice: {first_names(names, 5)}.")
    unknown = sorted(set(labels.tolist()) - set(names.tolist()))
    if unknown:
        raise ValueError(
            f"{len(unknown)} labels are not among classes ({first_names(unknown)}); these are "
            f"{first_names(names, 5)}."
        )
    place = {name: i for i, name in enumerate(names.tolist())}
    return np.array([place[label] for label in labels.tolist()])
