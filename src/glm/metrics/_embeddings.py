"""How labels and batches lie in an embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from ._check import as_amounts, as_labels, at_least_two, n_neighbours, same_rows

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Distance = Literal["euclidean", "cosine"]


def knn_accuracy(
    embedding: ArrayLike,
    labels: ArrayLike,
    *,
    n_neighbors: int = 15,
    metric: Distance = "euclidean",
) -> float:
    """Share of rows whose label most of their nearest neighbours have.

    A row is not its own neighbour. Where labels tie, that of the nearest neighbour among them is
    taken.

    Parameters
    ----------
    embedding
        Rows × dimensions.
    labels
        One a row.
    n_neighbors
        How many neighbours are asked.
    metric
        ``"euclidean"`` or ``"cosine"``.

    Returns
    -------
    From 0 to 1. Guessing gets about the share of the most common label.

    Raises
    ------
    ValueError
        If labels are missing, there is a single one, values are not finite, numbers of rows differ,
        or there are not so many neighbours.

    Examples
    --------
    >>> import glm
    >>> points = [[0.0], [0.1], [0.2], [5.0], [5.1], [5.2]]
    >>> glm.metrics.knn_accuracy(points, list("aaabbb"), n_neighbors=2)
    1.0
    """
    table, names = _both(embedding, labels, "labels")
    at_least_two(names, "labels", "kNN accuracy")
    places = _neighbours(table, n_neighbors, metric)
    found, numbers = np.unique(names, return_inverse=True)
    votes = np.zeros((len(table), found.size))
    rows = np.arange(len(table))
    for order in range(places.shape[1]):
        label = numbers[places[:, order]]
        # A share of a vote for the first of a label: less than one vote, and less the later.
        first = votes[rows, label] == 0
        votes[rows, label] += 1.0 + first * 0.5 * (1 - order / places.shape[1])
    return float((votes.argmax(axis=1) == numbers).mean())


def silhouette(
    embedding: ArrayLike,
    labels: ArrayLike,
    *,
    metric: Distance = "euclidean",
    n_rows: int | None = None,
    seed: int = 0,
) -> float:
    """How much nearer rows are to their own label than to the nearest other one.

    The mean over rows of (b − a) / max(a, b), where a is the mean distance to the other rows of its
    label and b the smallest mean distance to those of another; 0 for a row that is alone.

    Parameters
    ----------
    embedding
        Rows × dimensions.
    labels
        One a row.
    metric
        ``"euclidean"`` or ``"cosine"``.
    n_rows
        Take so many rows at random, since time grows with their square; ``None`` takes all.
    seed
        Decides which.

    Returns
    -------
    From -1 to 1; 0 where labels lie alike.

    Raises
    ------
    ValueError
        If labels are missing, there is a single one or each row has its own, values are not finite,
        or numbers of rows differ.

    Examples
    --------
    >>> import glm
    >>> round(glm.metrics.silhouette([[0.0], [1.0], [10.0], [11.0]], list("aabb")), 3)
    0.9
    """
    from sklearn.metrics import silhouette_score

    table, names = _both(embedding, labels, "labels")
    _check_metric(metric)
    if n_rows is not None and n_rows < len(table):
        chosen = np.random.default_rng(seed).choice(len(table), n_rows, replace=False)
        table, names = table[chosen], names[chosen]
    n_found = at_least_two(names, "labels", "the silhouette").size
    if n_found == len(names):
        raise ValueError("Each row has a label of its own: there is no distance within labels.")
    return float(silhouette_score(table, names, metric=metric))


def batch_mixing(
    embedding: ArrayLike,
    batches: ArrayLike,
    *,
    n_neighbors: int = 50,
    metric: Distance = "euclidean",
) -> float:
    """How well batches are mixed: 0 where neighbours share a batch, 1 as in shuffled batches.

    The mean over rows of the share of pairs of its neighbours that are of different batches,
    divided by that share among all pairs of rows. Both are counted exactly, so batches of any sizes
    that were dealt out at random have the expectation 1, whatever ``n_neighbors`` is. (The inverse
    Simpson index that LISI is built on is 1 / (1 − the share within a neighbourhood).)

    Batches that differ in what they hold, other cell types for instance, are not mixed by a good
    embedding either: compare within types.

    Parameters
    ----------
    embedding
        Rows × dimensions.
    batches
        The batch of each row.
    n_neighbors
        How many neighbours of a row are looked at, at least 2; a row is not its own.
    metric
        ``"euclidean"`` or ``"cosine"``.

    Returns
    -------
    From 0; 1 is what is expected of random batches, and little more is possible.

    Raises
    ------
    ValueError
        If batches are missing, there is a single one, values are not finite, numbers of rows
        differ, or there are not so many neighbours, or fewer than two.

    Examples
    --------
    >>> import glm
    >>> points = [[0.0], [0.1], [0.2], [5.0], [5.1], [5.2]]
    >>> glm.metrics.batch_mixing(points, list("aaabbb"), n_neighbors=2)
    0.0
    >>> round(glm.metrics.batch_mixing(points, list("abaaba"), n_neighbors=2), 2)
    1.25
    """
    if n_neighbors < 2:
        raise ValueError(f"n_neighbors is {n_neighbors}; expected at least 2, to compare them.")
    table, names = _both(embedding, batches, "batches")
    at_least_two(names, "batches", "mixing")
    places = _neighbours(table, n_neighbors, metric)
    found, numbers = np.unique(names, return_inverse=True)
    k, n = places.shape[1], len(table)
    flat = np.arange(n)[:, None] * found.size + numbers[places]
    counts = np.bincount(flat.ravel(), minlength=n * found.size).reshape(n, found.size)
    same = (counts * (counts - 1)).sum(axis=1) / (k * (k - 1))
    sizes = np.bincount(numbers)
    expected = (sizes * (sizes - 1)).sum() / (n * (n - 1))
    return float((1 - same.mean()) / (1 - expected))


def _both(embedding: ArrayLike, labels: ArrayLike, name: str) -> tuple[np.ndarray, np.ndarray]:
    table = as_amounts(embedding, "embedding", ndim=2)
    names = as_labels(labels, name)
    same_rows(**{"embedding": table, name: names})
    return table, names


def _check_metric(metric: str) -> None:
    if metric not in ("euclidean", "cosine"):
        raise ValueError(f"metric is {metric!r}; expected 'euclidean' or 'cosine'.")


def _neighbours(table: np.ndarray, n: int, metric: Distance) -> np.ndarray:
    """Numbers of the other rows nearest to each, nearest first."""
    from sklearn.neighbors import NearestNeighbors

    _check_metric(metric)
    nearest = NearestNeighbors(n_neighbors=n_neighbours(n, len(table)), metric=metric).fit(table)
    return nearest.kneighbors(return_distance=False)  # of the rows themselves: leaves out each one
