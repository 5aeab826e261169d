"""Wider bins from narrower ones: closed forms, and what binning at once gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from glm.train import rebinning
from glm.train.rebinning import rebin


def one_track(*values: float) -> np.ndarray:
    return np.array(values, np.float32).reshape(1, -1, 1)


@pytest.mark.parametrize(
    ("aggregation", "stored", "joined"),
    [
        ("sum", [1.0, 2.0, 3.0, 4.0], 10.0),
        ("mean", [1.0, 2.0, 3.0, 4.0], 2.5),
        ("sum_sqrt", [1.0, 0.0, 2.0, 0.0], np.sqrt(1 + 3 + 8) - 1),  # sums 3, 0, 8 and 0
        ("sum_sqrt", [0.0, 0.0, 0.0, 0.0], 0.0),
    ],
)
def test_closed_forms(aggregation, stored, joined):
    assert rebin(one_track(*stored), 4, [aggregation]).item() == pytest.approx(joined, rel=1e-6)


def test_tracks_of_several_kinds():
    """Each by its own, windows and bins in their order."""
    values = np.arange(24, dtype=np.float32).reshape(2, 4, 3)
    found = rebin(values, 2, ["sum", "mean", "sum_sqrt"])
    assert found.shape == (2, 2, 3)
    np.testing.assert_array_equal(found[..., 0], [[3, 15], [27, 39]])
    np.testing.assert_array_equal(found[..., 1], [[2.5, 8.5], [14.5, 20.5]])
    roots = np.sqrt((3.0**2 - 1) + (6.0**2 - 1) + 1) - 1
    assert found[0, 0, 2] == pytest.approx(roots)


def soft(x, c):
    return np.where(x > c, c - 1 + np.sqrt(1 + np.maximum(x - c, 0)), x)


def test_a_soft_clip_is_undone_and_done_again():
    """Means 70 and 10 under a soft clip of 32: (70 + 10) / 2, clipped softly."""
    stored = soft(np.array([70.0, 10.0]), 32)
    found = rebin(one_track(*stored), 2, ["mean"], clip_soft=np.array([32.0]))
    assert found.item() == pytest.approx(soft(40.0, 32).item(), rel=1e-5)


def test_a_clip_is_the_highest_value():
    found = rebin(one_track(300, 300), 2, ["sum"], clip=np.array([384.0]))
    assert found.item() == 384
    assert rebin(one_track(300, 300), 2, ["sum"], clip=np.array([np.inf])).item() == 600


@given(
    arrays(np.float64, (2, 8, 3), elements=st.floats(0, 2_000)),
    st.sampled_from([2, 4, 8]),
)
def test_as_if_binned_so_at_once(coverage, factor):
    """From sums of narrow bins, by the set's own formula, to the wide ones."""
    names, limit = ["sum", "mean", "sum_sqrt"], np.array([64.0, 32.0, 64.0])

    def stored(values, width):
        sums = values.reshape(2, -1, width, 3).sum(axis=2)
        sums[..., 1] /= width
        sums[..., 2] = np.sqrt(1 + sums[..., 2]) - 1
        return soft(sums, limit)

    found = rebin(stored(coverage, 1).astype(np.float32), factor, names, clip_soft=limit)
    np.testing.assert_allclose(found, stored(coverage, factor), rtol=2e-4, atol=2e-4)


def test_blocks_and_types(monkeypatch):
    """Any block gives the same; float16 stays float16, and factor 1 is a copy."""
    values = np.random.default_rng(0).random((7, 8, 3)).astype(np.float16)
    names = ["sum", "mean", "sum_sqrt"]
    whole = rebin(values, 4, names)
    monkeypatch.setattr(rebinning, "_AT_ONCE", 30)
    np.testing.assert_array_equal(rebin(values, 4, names), whole)
    assert whole.dtype == np.float16
    same = rebin(values, 1, names)
    np.testing.assert_array_equal(same, values)
    assert not np.shares_memory(same, values)


def test_what_is_not_known_stays_so():
    assert np.isnan(rebin(one_track(1, np.nan), 2, ["sum_sqrt"])).all()


def test_refused():
    with pytest.raises(ValueError, match="6 bins cannot be joined by 4"):
        rebin(np.zeros((1, 6, 1), np.float32), 4, ["sum"])
    with pytest.raises(ValueError, match="hold 'max'"):
        rebin(np.zeros((1, 4, 1), np.float32), 4, ["max"])
