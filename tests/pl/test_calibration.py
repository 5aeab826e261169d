"""Bins of confidence, by value, and the interval that belongs to each."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import glm
from glm.pl._calibration import reliability, wilson


def test_bins_by_hand():
    confidence = np.array([0.05, 0.1, 0.55, 0.6, 1.0])
    right = np.array([False, True, True, True, True])
    bins = reliability(confidence, right, 10)
    np.testing.assert_allclose(bins.left, [0.0, 0.5, 0.9])
    np.testing.assert_array_equal(bins.n, [2, 2, 1])
    np.testing.assert_allclose(bins.confidence, [0.075, 0.575, 1.0])
    np.testing.assert_allclose(bins.right, [0.5, 1.0, 1.0])
    assert bins.error == pytest.approx((2 * 0.425 + 2 * 0.425) / 5)


def test_the_error_is_that_of_the_metric():
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.ones(3), 300)
    truth = rng.integers(0, 3, 300)
    bins = reliability(shares.max(axis=1), shares.argmax(axis=1) == truth, 10)
    found = glm.metrics.calibration(truth, shares, classes=[0, 1, 2])
    assert bins.error == pytest.approx(found.error)


def test_wilson_by_hand():
    """8 of 10, as in tables: 0.490 to 0.943."""
    low, high = wilson(np.array([0.8, 1.0]), np.array([10, 5]))
    np.testing.assert_allclose([low[0], high[0]], [0.490, 0.943], atol=1e-3)
    assert high[1] == pytest.approx(1.0)


@pytest.fixture
def adata():
    adata = glm.datasets.toy_cells(n_cells=8)
    adata.obs["kind"] = ["a", "b"] * 4
    adata.obs["kind_geneformer"] = pd.Categorical(["a"] * 8)
    adata.obs["kind_geneformer_confidence"] = np.float32(
        [0.6, 0.6, 0.6, 0.6, 0.9, 0.9, 0.9, np.nan]
    )
    adata.obs.loc[adata.obs_names[-1], "kind_geneformer"] = None
    return adata


def test_points_and_title(adata):
    ax = glm.pl.calibration(adata, "kind", show=False)
    points = next(line for line in ax.lines if line.get_marker() == "o")
    np.testing.assert_allclose(points.get_xdata(), [0.6, 0.9], rtol=1e-6)
    np.testing.assert_allclose(points.get_ydata(), [0.5, 2 / 3])
    title = ax.get_title(loc="left")
    assert "7 cells: 57% right" in title
    assert "error 0.157" in title  # (4 × 0.1 + 3 × 0.2333) / 7


def test_nothing_to_draw(adata):
    with pytest.raises(ValueError, match="n_bins is 0"):
        glm.pl.calibration(adata, "kind", n_bins=0)
    del adata.obs["kind_geneformer_confidence"]
    with pytest.raises(KeyError, match="no confidence beside them"):
        glm.pl.calibration(adata, "kind")
