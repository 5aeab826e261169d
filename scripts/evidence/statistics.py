"""Scores, and intervals of their differences by paired bootstrap. Arrays in, numbers out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

DRAWS = 10_000
_CHUNK = 1_000  # draws made at once: bounds the memory


@dataclass(frozen=True)
class Difference:
    """One method's score less another's, and the middle 95% of its draws."""

    value: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """In words, whichever way it went."""
        if self.low > 0:
            return "beat it"
        return "did not beat it" + (": it was worse" if self.high < 0 else "")


def _difference(value: float, draws: np.ndarray) -> Difference:
    low, high = np.quantile(draws, [0.025, 0.975])
    return Difference(float(value), float(low), float(high))


def _weights(n: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """float64, draws × n: how often each of n is drawn when n are drawn with replacement."""
    return rng.multinomial(n, np.full(n, 1 / n), size=draws).astype(np.float64)


def _counts(
    truth: np.ndarray, said: np.ndarray, units: np.ndarray, n_units: int, n_classes: int
) -> np.ndarray:
    """float64, 3 × units × classes: rows that were right, true, and predicted."""
    table = np.zeros((3, n_units, n_classes))
    right = truth == said
    np.add.at(table[0], (units[right], truth[right]), 1.0)
    np.add.at(table[1], (units, truth), 1.0)
    np.add.at(table[2], (units, said), 1.0)
    return table


def _macro_f1(right: np.ndarray, true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Mean over the last axis, of the classes that are true or predicted somewhere."""
    both = true + predicted
    f1 = np.divide(2 * right, both, out=np.zeros_like(both), where=both > 0)
    return f1.sum(axis=-1) / (both > 0).sum(axis=-1)


def macro_f1(truth: np.ndarray, said: np.ndarray) -> float:
    """Mean F1 over the classes that occur."""
    n = int(max(truth.max(), said.max())) + 1
    counts = _counts(truth, said, np.zeros(truth.size, np.int64), 1, n)
    return float(_macro_f1(*counts[:, 0]))


def compare_labels(
    truth: np.ndarray,
    one: np.ndarray,
    other: np.ndarray,
    units: np.ndarray,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> dict[str, Difference]:
    """Accuracy and macro-F1 of ``one`` less those of ``other``, by paired bootstrap.

    Drawn are units (a donor, or a cell where there are no donors) with all their rows, in every
    repeat: rows of one donor are alike, and a row that was tested in three repeats is no three
    rows.

    Parameters
    ----------
    truth, one, other
        int64, one a row: the true class and those that two methods named. Repeats are joined.
    units
        One a row: what is drawn.
    draws, seed
        How many draws, and what decides them.
    """
    names, unit = np.unique(units, return_inverse=True)
    n_classes = int(max(truth.max(), one.max(), other.max())) + 1
    tables = [_counts(truth, said, unit, names.size, n_classes) for said in (one, other)]

    def scores(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        accuracy, f1 = [], []
        for table in tables:
            right, true, predicted = (weights @ part for part in table)
            accuracy.append(right.sum(axis=-1) / true.sum(axis=-1))
            f1.append(_macro_f1(right, true, predicted))
        return accuracy[0] - accuracy[1], f1[0] - f1[1]

    found = scores(np.ones((1, names.size)))
    rng = np.random.default_rng(seed)
    drawn = [
        scores(_weights(names.size, min(_CHUNK, draws - start), rng))
        for start in range(0, draws, _CHUNK)
    ]
    return {
        name: _difference(found[i][0], np.concatenate([each[i] for each in drawn]))
        for i, name in enumerate(("accuracy", "macro_f1"))
    }


def _concordance(truth: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Positives × negatives: 1 where the positive has the higher score, a half where they tie."""
    above = scores[truth][:, None] - scores[~truth][None, :]
    return (above > 0) + 0.5 * (above == 0)


def auroc(truth: np.ndarray, scores: np.ndarray) -> float:
    """Area under the curve; ``truth`` is bool."""
    return float(_concordance(truth, scores).mean())


def compare_areas(
    truth: np.ndarray,
    one: np.ndarray,
    other: np.ndarray,
    fold: np.ndarray,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Difference:
    """Mean AUROC over folds of ``one`` less that of ``other``, by paired bootstrap over rows.

    Scores of different folds come from different models and are not compared with each other.
    Positives and negatives of a fold are drawn apart, so that no draw lacks either.

    Parameters
    ----------
    truth
        bool, one a row.
    one, other
        float, one a row: how much speaks for a positive.
    fold
        One a row.
    draws, seed
        How many draws, and what decides them.
    """
    rng = np.random.default_rng(seed)
    names = np.unique(fold)
    value, drawn = 0.0, np.zeros(draws)
    for name in names:
        rows = fold == name
        table = _concordance(truth[rows], one[rows]) - _concordance(truth[rows], other[rows])
        positives = _weights(table.shape[0], draws, rng)
        negatives = _weights(table.shape[1], draws, rng)
        value += table.mean() / names.size
        drawn += ((positives @ table) * negatives).sum(axis=1) / table.size / names.size
    return _difference(value, drawn)
