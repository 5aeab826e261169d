"""Divide labelled rows into parts to train on and parts to be tested on.

Rows are cells, regions or genes. Rows of one group (a donor, say) never come to both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Parts(NamedTuple):
    """Row numbers, int64 and rising: to train on, to choose and calibrate by, to be tested on.

    ``whole_groups`` tells whether no group is in training and in validation; in these and in the
    test none ever is.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    whole_groups: bool


def assign(
    n_rows: int,
    shares: Sequence[float],
    *,
    groups: np.ndarray | None = None,
    strata: np.ndarray | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Assign every row to one of some parts, each class in each part as in the whole.

    Parameters
    ----------
    n_rows
        How many rows there are.
    shares
        Share of each part; they add up to 1. Equal ones make folds.
    groups
        Whole numbers from 0, one a row: rows of one group come to one part.
    strata
        Whole numbers from 0, one a row: classes that are to be spread evenly.
    seed
        Decides what is left to chance.

    Returns
    -------
    int64, one a row: its part. Without groups, parts differ from their shares by a row or two of
    each class, and the largest part, where one is, has a row of every class. With groups none is
    empty, and classes are spread as evenly as a greedy choice finds, largest group first.

    Raises
    ------
    ValueError
        If there are fewer groups, or rows, than parts.
    """
    rng = np.random.default_rng(seed)
    wanted = np.asarray(shares, np.float64)
    strata = np.zeros(n_rows, np.int64) if strata is None else np.asarray(strata, np.int64)
    n_units = n_rows if groups is None else np.unique(groups).size
    if n_units < wanted.size:
        what = "rows" if groups is None else "groups"
        raise ValueError(f"{n_units} {what} cannot be divided into {wanted.size} parts.")
    if groups is None:
        return _assign_rows(wanted, strata, rng)
    return _assign_groups(wanted, np.asarray(groups, np.int64), strata, rng)


def _assign_rows(wanted: np.ndarray, strata: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    n_rows = strata.size
    order = rng.permutation(n_rows)
    order = order[np.argsort(strata[order], kind="stable")]
    part = np.empty(n_rows, np.int64)
    part[order] = _in_turn(wanted, n_rows, rng)
    most = wanted.max()
    if (wanted == most).sum() == 1:
        # A class of two or three could miss the part that a model learns it from.
        largest = int(wanted.argmax())
        lacking = np.setdiff1d(strata, strata[part == largest])
        first_of = {int(strata[row]): row for row in order[::-1]}
        for stratum in lacking.tolist():
            part[first_of[stratum]] = largest
    return part


def _in_turn(wanted: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """A sequence of parts in which every stretch holds each by its share.

    The next one is always that which is furthest behind; ties go by a drawn order.
    """
    names = rng.permutation(wanted.size)
    behind = np.zeros(wanted.size)
    sequence = np.empty(n, np.int64)
    for i in range(n):
        behind += wanted[names]
        chosen = int(behind.argmax())
        behind[chosen] -= 1.0
        sequence[i] = names[chosen]
    return sequence


def _assign_groups(
    wanted: np.ndarray, groups: np.ndarray, strata: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    names, of_row = np.unique(groups, return_inverse=True)
    counts = np.zeros((names.size, int(strata.max(initial=0)) + 1))
    np.add.at(counts, (of_row, strata), 1.0)
    # Each class counts alike, and so does the number of rows.
    counts = np.hstack([counts, counts.sum(axis=1, keepdims=True)])
    counts /= np.maximum(counts.sum(axis=0), 1.0)
    order = rng.permutation(names.size)
    order = order[np.argsort(-counts[order, -1], kind="stable")]
    ties = rng.permutation(wanted.size)
    have = np.zeros((wanted.size, counts.shape[1]))
    part_of = np.empty(names.size, np.int64)
    filled = np.zeros(wanted.size, bool)
    for i, group in enumerate(order):
        open_parts = [p for p in ties if not filled[p]]
        allowed = open_parts if len(open_parts) >= names.size - i else list(ties)
        # Whatever lowers the distance to the wanted shares most.
        gain = [
            _distance(have[p] + counts[group], wanted[p]) - _distance(have[p], wanted[p])
            for p in allowed
        ]
        chosen = allowed[int(np.argmin(gain))]
        have[chosen] += counts[group]
        filled[chosen] = True
        part_of[group] = chosen
    return part_of[of_row]


def _distance(have: np.ndarray, wanted: float) -> float:
    """How far a part is from its share of each class; for small parts a little matters as much."""
    return float(((have - wanted) ** 2).sum() / wanted)


def divide(
    test: np.ndarray,
    *,
    validation_share: float = 0.1,
    groups: np.ndarray | None = None,
    strata: np.ndarray | None = None,
    seed: int = 0,
) -> Parts:
    """Divide what is not tested into training and validation.

    Groups are kept whole there too, unless there is one only, or a class would be left without a
    row to learn it from: then validation takes single rows of the training groups.

    Parameters
    ----------
    test
        bool, one a row: whether it is in the test part.
    validation_share
        Share of the other rows that best epoch and calibration are chosen by.
    groups, strata, seed
        As for :func:`assign`.
    """
    rest = np.flatnonzero(~test)
    shares = (1.0 - validation_share, validation_share)
    of_rest = None if strata is None else strata[rest]
    if groups is not None and np.unique(groups[rest]).size > 1:
        part = assign(rest.size, shares, groups=groups[rest], strata=of_rest, seed=seed)
        if of_rest is None or not lost(of_rest, part == 0).size:
            return Parts(rest[part == 0], rest[part == 1], np.flatnonzero(test), True)
    part = assign(rest.size, shares, strata=of_rest, seed=seed)
    return Parts(rest[part == 0], rest[part == 1], np.flatnonzero(test), groups is None)


def lost(strata: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Classes that no row to train on has. ``train`` is bool, one a row, or row numbers."""
    return np.setdiff1d(strata, strata[train])


def shared_groups(groups: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Groups with rows in both of two parts; none where the division is sound."""
    return np.intersect1d(groups[one], groups[other])
