"""Predicted expression against measured: as scipy has it, over genes that both have."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import glm


def test_as_scipy():
    rng = np.random.default_rng(0)
    truth = rng.poisson(2.0, 200).astype(float)  # with ties
    predicted = truth[:, None] + rng.normal(size=(200, 3)) * [0.5, 2, 10]
    predicted[5, 1] = truth[9] = np.nan
    found = glm.metrics.expression_scores(truth, predicted)
    assert found["n_genes"].tolist() == [199, 198, 199]
    for column in range(3):
        known = np.isfinite(truth) & np.isfinite(predicted[:, column])
        pair = truth[known], predicted[known, column]
        assert found["pearson"][column] == stats.pearsonr(*pair).statistic
        assert found["spearman"][column] == stats.spearmanr(*pair).statistic


def test_one_track():
    found = glm.metrics.expression_scores([1, 2, 3], [2, 4, 7])
    assert found["spearman"].tolist() == [1.0]


@pytest.mark.parametrize(
    ("truth", "predicted"),
    [([1, 1, 1], [1, 2, 3]), ([1, 2, 3], [4, 4, 4]), ([1, np.nan], [1, 2]), ([], [])],
)
def test_no_correlation_is_nan(truth, predicted):
    found = glm.metrics.expression_scores(truth, predicted)
    assert found[["pearson", "spearman"]].isna().all(axis=None)


@pytest.mark.parametrize(
    ("truth", "predicted", "message"),
    [
        ([1, 2], [1, 2, 3], "measured has 2, predicted has 3"),
        ([1, np.inf], [1, 2], "1 values of measured are infinite"),
        ([[1], [2]], [1, 2], "expected genes, and genes × tracks"),
    ],
)
def test_refused(truth, predicted, message: str):
    with pytest.raises(ValueError, match=message):
        glm.metrics.expression_scores(truth, predicted)
