"""Correlations: hand-computed values, ties, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glm.metrics import pearson, spearman

BOTH = [pearson, spearman]


def test_pearson():
    """Deviations (−1, 0, 1) and (−1, −1, 2): 3 / √(2 · 6)."""
    assert pearson([1, 2, 3], [0, 0, 3]) == pytest.approx(3 / np.sqrt(12))


def test_spearman_gives_ties_their_mean_rank():
    """Ranks (1, 2, 3) and (1.5, 1.5, 3): 1.5 / √(2 · 1.5)."""
    assert spearman([1, 2, 3], [0, 0, 9]) == pytest.approx(1.5 / np.sqrt(3))


def test_extremes():
    x = np.arange(10.0)
    assert pearson(x, 3 * x - 2) == pytest.approx(1)
    assert pearson(x, -x) == pytest.approx(-1)
    assert spearman(x, np.exp(x)) == pytest.approx(1)


@given(st.lists(st.integers(-1000, 1000), min_size=3, max_size=30, unique=True), st.integers(0, 99))
def test_the_definition(values: list[int], seed: int):
    x = np.array(values, float)
    y = np.random.default_rng(seed).permutation(x)
    assert pearson(x, y) == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-9)
    ranks = [np.argsort(np.argsort(z)) for z in (x, y)]
    assert spearman(x, y) == pytest.approx(np.corrcoef(*ranks)[0, 1], abs=1e-9)


@pytest.mark.parametrize("metric", BOTH)
def test_what_is_refused(metric):
    with pytest.raises(ValueError, match=r"1 of 3 \(33%\) rows of predicted hold NaN"):
        metric([1, 2, 3], [1, np.nan, 2])
    with pytest.raises(ValueError, match="rows of truth hold NaN or infinite"):
        metric([1, np.inf, 3], [1, 2, 3])
    with pytest.raises(ValueError, match="All of predicted is 4, so there is no correlation"):
        metric([1, 2, 3], [4, 4, 4])
    with pytest.raises(ValueError, match="one row only"):
        metric([1], [2])
    with pytest.raises(ValueError, match="truth has 3, predicted has 2"):
        metric([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match=r"shape \(2, 1\); expected one number a row"):
        metric([[1], [2]], [1, 2])
