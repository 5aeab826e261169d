"""Calibration: bins by hand, closed forms, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from glm.metrics import calibration


def test_by_hand():
    """Rows of confidence 0.9 (both right) and 0.6 (one of two right)."""
    table = [[0.9, 0.1], [0.1, 0.9], [0.6, 0.4], [0.4, 0.6]]
    found = calibration(["a", "b", "a", "a"], table, n_bins=10)
    assert found.error == pytest.approx((2 * 0.1 + 2 * 0.1) / 4)
    filled = found.table[found.table["n"] > 0]
    assert filled["n"].tolist() == [2, 2]
    assert filled["confidence"].tolist() == pytest.approx([0.6, 0.9])
    assert filled["accuracy"].tolist() == [0.5, 1.0]
    assert filled["high"].tolist() == pytest.approx([0.6, 0.9])  # which belongs to the bin
    empty = found.table[found.table["n"] == 0]
    assert empty[["confidence", "accuracy"]].isna().all(axis=None)


def test_as_right_as_confident():
    rng = np.random.default_rng(0)
    p = rng.uniform(0, 1, 200_000)
    assert calibration(rng.random(p.size) < p, p).error < 0.01


def test_always_certain():
    """The error is the share that is wrong."""
    table = np.tile([1.0, 0.0], (10, 1))
    found = calibration(["a"] * 7 + ["b"] * 3, table)
    assert found.error == pytest.approx(0.3)
    assert found.table["n"].tolist() == [0] * 9 + [10]


def test_one_probability_a_row_is_of_the_second_class():
    p = np.array([0.1, 0.8, 0.7])
    one = calibration([0, 1, 0], p)
    two = calibration([0, 1, 0], np.stack([1 - p, p], axis=1))
    assert one.error == two.error
    assert one.table.equals(two.table)


def test_one_bin_compares_the_means():
    table = np.array([[0.5, 0.3, 0.2], [0.2, 0.2, 0.6]])
    found = calibration(["a", "b"], table, classes=["a", "b", "c"], n_bins=1)
    assert found.error == pytest.approx(abs(0.5 - 0.55))


def test_single_precision_adds_up():
    rng = np.random.default_rng(1)
    table = rng.dirichlet(np.ones(300), 50).astype(np.float32)
    assert 0 <= calibration(np.arange(50), table, classes=np.arange(300)).error <= 1


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"1 of 2 \(50%\) rows.*are they logits\?"):
        calibration(["a", "b"], [[2.0, -1.0], [0.5, 0.5]])
    with pytest.raises(ValueError, match="do not add up to 1"):
        calibration(["a", "b"], [[0.5, 0.1], [0.5, 0.5]])
    with pytest.raises(ValueError, match="3 columns for 2 classes"):
        calibration(["a", "b"], np.ones((2, 3)) / 3)
    with pytest.raises(ValueError, match="hold NaN"):
        calibration(["a", "b"], [[np.nan, 0.5], [0.5, 0.5]])
    with pytest.raises(ValueError, match="labels of truth are missing"):
        calibration([None, "b"], [[0.5, 0.5], [0.5, 0.5]])
    with pytest.raises(ValueError, match="n_bins is 0"):
        calibration(["a", "b"], [[0.5, 0.5], [0.5, 0.5]], n_bins=0)
    with pytest.raises(ValueError, match=r"not among classes \(z\)"):
        calibration(["a", "z"], [[0.5, 0.5], [0.5, 0.5]], classes=["a", "b"])
