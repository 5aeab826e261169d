"""A correlation for each track: against numpy's, in parts, and where there is none."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from glm._correlation import ColumnSums
from glm.metrics import TrackPearson, track_pearson


@pytest.fixture(scope="module")
def both() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = rng.gamma(1.0, 2.0, (9, 16, 5)).astype(np.float32)
    return truth, truth * [1, -1, 0.5, 2, 0] + rng.normal(0, 1, truth.shape)


def by_numpy(truth: np.ndarray, predicted: np.ndarray) -> list[float]:
    n = truth.shape[-1]
    pairs = zip(truth.reshape(-1, n).T, predicted.reshape(-1, n).T, strict=True)
    return [float(np.corrcoef(t[np.isfinite(t)], p[np.isfinite(t)])[0, 1]) for t, p in pairs]


def test_closed_form():
    """Deviations (−1, 0, 1) and (−1, −1, 2): 3 / √(2 · 6)."""
    found = track_pearson([[1.0], [2.0], [3.0]], [[0.0], [0.0], [3.0]])
    assert found == pytest.approx([3 / np.sqrt(12)])


def test_against_numpy(both):
    np.testing.assert_allclose(track_pearson(*both), by_numpy(*both), rtol=1e-12)


def test_what_was_not_measured_does_not_count(both):
    truth = both[0].copy()
    truth[np.random.default_rng(1).random(truth.shape) < 0.3] = np.nan
    truth[:3, :, 1] = np.nan  # of a whole part nothing
    predicted = np.where(np.isnan(truth), np.nan, both[1])  # and may be nothing there
    np.testing.assert_allclose(track_pearson(truth, predicted), by_numpy(truth, both[1]))
    assert _streamed(truth, predicted, 1) == pytest.approx(by_numpy(truth, both[1]))


def _streamed(truth, predicted, n: int) -> np.ndarray:
    sums = TrackPearson()
    for first in range(0, len(truth), n):
        sums.add(truth[first : first + n], predicted[first : first + n])
    return sums.values


@pytest.mark.parametrize("n", [1, 2, 5])
def test_in_parts(both, n: int):
    np.testing.assert_allclose(_streamed(*both, n), track_pearson(*both), rtol=1e-12)


def test_a_large_mean_hides_no_spread():
    rng = np.random.default_rng(0)
    truth = rng.normal(0, 1, (50, 8, 1))
    predicted = truth + rng.normal(0, 1, truth.shape)
    exact = by_numpy(truth, predicted)
    moved = 1e6 + truth, 3e5 + predicted
    assert _streamed(*moved, 3) == pytest.approx(exact, rel=1e-8)


@pytest.mark.parametrize("n", [1, 3, 9])
def test_no_correlation_of_what_is_the_same_everywhere(both, n: int):
    truth, predicted = both[0].copy(), both[1].astype(np.float32)
    truth[..., 1] = 0.1
    predicted[..., 3] = 1e4 / 3
    truth[..., 4] = np.nan
    found = _streamed(truth, predicted, n)
    assert np.isnan(found).tolist() == [False, True, False, True, True]


def test_torch_gives_the_same(both):
    truth, predicted = (torch.as_tensor(a, dtype=torch.float64).flatten(0, 1) for a in both)
    sums = ColumnSums(torch.zeros(5, dtype=torch.float64))
    for first in range(0, 144, 20):
        some = slice(first, first + 20)
        sums.add(truth[some], predicted[some], torch.ones_like(truth[some]))
    np.testing.assert_allclose(sums.correlation().numpy(), track_pearson(*both), rtol=1e-12)


def test_sums_of_several_processes(both):
    """Three processes, one of which met nothing."""
    parts = []
    for some in (slice(0, 4), slice(4, 4), slice(4, 9)):
        part = ColumnSums(np.zeros(5))
        rows = [a[some].reshape(-1, 5).astype(float) for a in both]
        part.add(*rows, np.ones_like(rows[0]))
        parts.append(part)
    # In every process the same sums are asked for in the same order: answer from all of them.
    asked: list[list[np.ndarray]] = [[], [], []]
    for told, part in zip(asked[:1], parts[:1], strict=True):
        part.over_all(lambda a, told=told: told.append(a) or a)
    totals: list[np.ndarray] = []
    for number in range(len(asked[0])):
        told = []
        for part in parts:
            answers = iter(totals)
            seen: list[np.ndarray] = []

            def total(a, answers=answers, seen=seen):
                seen.append(a)
                return next(answers, a)

            part.over_all(total)
            told.append(seen[number])
        totals.append(np.sum(told, axis=0))
    answers = iter(totals)
    found = parts[0].over_all(lambda a: next(answers)).correlation()
    np.testing.assert_allclose(found, track_pearson(*both), rtol=1e-12)


@pytest.mark.parametrize(
    ("truth", "predicted", "message"),
    [
        (np.ones((2, 3)), np.ones((2, 4)), r"\(2, 3\) and predicted \(2, 4\)"),
        (np.ones(3), np.ones(3), "× tracks"),
        (np.ones((0, 3)), np.ones((0, 3)), "× tracks"),
        (np.ones((2, 1)), np.array([[np.nan], [1]]), "1 values are infinite, or NaN"),
        (np.array([[np.inf], [1]]), np.ones((2, 1)), "1 values are infinite"),
    ],
)
def test_refused(truth, predicted, message):
    with pytest.raises(ValueError, match=message):
        track_pearson(truth, predicted)


def test_refused_in_parts():
    found = TrackPearson()
    with pytest.raises(ValueError, match="No window was added"):
        _ = found.values
    found.add(np.ones((2, 3)), np.ones((2, 3)))
    with pytest.raises(ValueError, match="2 tracks, those before 3"):
        found.add(np.ones((2, 2)), np.ones((2, 2)))
