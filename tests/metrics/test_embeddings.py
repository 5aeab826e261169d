"""How labels and batches lie: points on a line, exact expectations, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glm.metrics import batch_mixing, knn_accuracy, silhouette

ALL = [knn_accuracy, silhouette, batch_mixing]


def line(*values: float) -> np.ndarray:
    return np.array(values)[:, None]


def test_knn_by_hand():
    """Of each point's two neighbours: 0 → 1, 2; 1 → 0, 2; 2 → 1, 0; 10 → 11, 2; 11 → 10, 2."""
    points = line(0, 1, 2.1, 10, 11.5)
    assert knn_accuracy(points, list("aaabb"), n_neighbors=2) == 1.0  # a tie goes to the nearer
    assert knn_accuracy(points, list("aabbb"), n_neighbors=2) == pytest.approx(4 / 5)
    assert knn_accuracy(points, list("aaabb"), n_neighbors=4) == pytest.approx(3 / 5)


def test_a_tie_goes_to_the_nearest_neighbour():
    points = line(0, 1, -2, 3, -4)
    # Neighbours of the first: b at 1, a at 2, a at 4, b at 3, so b and a tie and b is nearest.
    assert knn_accuracy(points, list("abaab"), n_neighbors=4) < 1
    truth = np.array(list("bbaab"))
    assert _vote(points, truth, 4) == pytest.approx(knn_accuracy(points, truth, n_neighbors=4))


def _vote(points: np.ndarray, labels: np.ndarray, k: int) -> float:
    """The definition, a row at a time."""
    right = 0
    for i, point in enumerate(points):
        others = [j for j in range(len(points)) if j != i]
        others.sort(key=lambda j: float(np.linalg.norm(points[j] - point)))
        near = [labels[j] for j in others[:k]]
        most = max(near.count(label) for label in near)
        right += next(label for label in near if near.count(label) == most) == labels[i]
    return right / len(points)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 8))
def test_knn_is_its_definition(seed: int, k: int):
    rng = np.random.default_rng(seed)
    points, labels = rng.normal(size=(20, 3)), rng.integers(0, 3, 20)
    assert knn_accuracy(points, labels, n_neighbors=k) == pytest.approx(_vote(points, labels, k))


def test_a_row_that_stands_twice_is_no_neighbour_of_itself():
    points = line(0, 0, 5, 5)
    assert knn_accuracy(points, list("abab"), n_neighbors=1) == 0.0


def test_silhouette_by_hand():
    """Of the outer points (10.5 − 1) / 10.5, of the inner ones (9.5 − 1) / 9.5."""
    expected = (9.5 / 10.5 + 8.5 / 9.5) / 2
    assert silhouette(line(0, 1, 10, 11), list("aabb")) == pytest.approx(expected)
    assert silhouette(line(0, 10, 0, 10), list("aabb")) < 0


def test_silhouette_of_a_part():
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(0, 1, (300, 2)), rng.normal(9, 1, (300, 2))])
    labels = np.repeat([0, 1], 300)
    one, other = (silhouette(points, labels, n_rows=100, seed=seed) for seed in (1, 1))
    assert one == other
    assert one == pytest.approx(silhouette(points, labels), abs=0.05)


def test_mixing_by_hand():
    """Apart, no pair of neighbours differs; alternating, two of three do."""
    assert batch_mixing(line(0, 1, 2, 10, 11, 12), list("aaabbb"), n_neighbors=2) == 0.0
    # Neighbours: 0 → 1, 2 (b, a); 1 → 0, 2 (a, a); 2 → 1, 0 (b, a), and the same again.
    found = batch_mixing(line(0, 1, 2.5, 10, 11, 12.5), list("abaaba"), n_neighbors=2)
    assert found == pytest.approx((4 / 6) / (1 - (4 * 3 + 2 * 1) / (6 * 5)))


@pytest.mark.parametrize("sizes", [(30, 30), (50, 8, 2)])
@pytest.mark.parametrize("k", [2, 7])
def test_mixing_of_random_batches_is_one(sizes: tuple[int, ...], k: int):
    """In expectation, exactly: whatever the sizes, the neighbours and the points."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(sum(sizes), 2)) ** 3
    batches = np.repeat(np.arange(len(sizes)), sizes)
    found = [batch_mixing(points, rng.permutation(batches), n_neighbors=k) for _ in range(400)]
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found) - 1) < 4 * error
    assert error < 0.02


def test_cosine_looks_at_directions():
    points = np.array([[1, 0], [9, 0.1], [0, 1], [0.1, 9]], float)
    assert knn_accuracy(points, list("aabb"), n_neighbors=1, metric="cosine") == 1.0
    assert knn_accuracy(points, list("aabb"), n_neighbors=1) < 1.0


@pytest.mark.parametrize("metric", ALL)
def test_what_is_refused(metric):
    points = line(0, 1, 2, 3)
    with pytest.raises(ValueError, match=r"rows of embedding hold NaN.*\(rows 1\)"):
        metric(line(0, np.nan, 2, 3), list("aabb"))
    with pytest.raises(ValueError, match="are missing"):
        metric(points, ["a", None, "b", "b"])
    with pytest.raises(ValueError, match=r"is 'a': .* needs at least two classes"):
        metric(points, list("aaaa"))
    with pytest.raises(ValueError, match="embedding has 4"):
        metric(points, list("aab"))
    with pytest.raises(ValueError, match="expected rows × columns"):
        metric([1.0, 2.0], list("ab"))
    options = {} if metric is silhouette else {"n_neighbors": 2}
    with pytest.raises(ValueError, match="metric is 'manhattan'"):
        metric(points, list("aabb"), metric="manhattan", **options)


def test_neighbours_that_there_are_not():
    with pytest.raises(ValueError, match="n_neighbors is 4 with 4 rows; expected 1 to 3"):
        knn_accuracy(line(0, 1, 2, 3), list("aabb"), n_neighbors=4)
    with pytest.raises(ValueError, match="at least 2"):
        batch_mixing(line(0, 1, 2, 3), list("aabb"), n_neighbors=1)
    with pytest.raises(ValueError, match="label of its own"):
        silhouette(line(0, 1, 2), list("abc"))
