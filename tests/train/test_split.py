"""Parts: shares kept, classes spread, and nothing of one group on both sides."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glm.train.split import assign, divide, lost, shared_groups

FIVE = (0.2,) * 5


@settings(max_examples=60, deadline=None)
@given(
    n_of_class=st.lists(st.integers(1, 60), min_size=1, max_size=6),
    shares=st.sampled_from([(0.8, 0.1, 0.1), (0.9, 0.1), FIVE, (0.5, 0.5)]),
    seed=st.integers(0, 5),
)
def test_every_class_is_spread_by_the_shares(n_of_class, shares, seed):
    strata = np.repeat(np.arange(len(n_of_class)), n_of_class)
    np.random.default_rng(seed).shuffle(strata)
    if strata.size < len(shares):
        return
    part = assign(strata.size, shares, strata=strata, seed=seed)
    table = np.zeros((len(n_of_class), len(shares)))
    np.add.at(table, (strata, part), 1)
    assert (np.abs(table - np.outer(n_of_class, shares)) <= 2).all()
    if len(set(shares)) > 1:
        assert (table[:, 0] > 0).all(), "a class is missing in the largest part"


@settings(max_examples=60, deadline=None)
@given(
    n_groups=st.integers(5, 30),
    shares=st.sampled_from([(0.8, 0.1, 0.1), (0.9, 0.1), FIVE]),
    seed=st.integers(0, 5),
)
def test_no_group_is_in_two_parts_and_no_part_is_empty(n_groups, shares, seed):
    rng = np.random.default_rng(seed)
    groups = np.concatenate([np.arange(n_groups), rng.integers(0, n_groups, 200)])
    strata = rng.integers(0, 3, groups.size)
    part = assign(groups.size, shares, groups=groups, strata=strata, seed=seed)
    for i in range(len(shares)):
        assert (part == i).any()
        assert not shared_groups(groups, part == i, part != i).size


def test_many_groups_keep_the_shares_and_the_classes():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 60, 3000)
    strata = rng.choice(3, 3000, p=[0.6, 0.3, 0.1])
    part = assign(3000, (0.8, 0.1, 0.1), groups=groups, strata=strata)
    np.testing.assert_allclose(np.bincount(part) / 3000, (0.8, 0.1, 0.1), atol=0.02)
    for stratum in range(3):
        shares = np.bincount(part[strata == stratum]) / (strata == stratum).sum()
        np.testing.assert_allclose(shares, (0.8, 0.1, 0.1), atol=0.04)


def test_a_class_of_two_is_learnt():
    strata = np.array([0] * 50 + [1, 1])
    for seed in range(20):
        part = assign(52, (0.8, 0.1, 0.1), strata=strata, seed=seed)
        assert (part[50:] == 0).any()


def test_the_seed_decides():
    one, same, other = (assign(100, FIVE, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


@pytest.mark.parametrize("groups", [None, np.array([0, 0, 1, 1, 1])], ids=["rows", "groups"])
def test_more_parts_than_there_can_be(groups):
    with pytest.raises(ValueError, match="cannot be divided into 6 parts"):
        assign(5, (1 / 6,) * 6, groups=groups)


def test_what_is_not_tested_is_divided_by_groups():
    groups = np.repeat(np.arange(10), 10)
    test = groups >= 8
    parts = divide(test, groups=groups, validation_share=0.2)
    assert parts.whole_groups
    assert set(groups[parts.test]) == {8, 9}
    assert not shared_groups(groups, parts.train, parts.validation).size
    everything = np.sort(np.concatenate(parts[:3]))
    np.testing.assert_array_equal(everything, np.arange(100))


def test_one_group_is_left_so_validation_takes_rows():
    groups = np.repeat([0, 1], 50)
    parts = divide(groups == 1, groups=groups)
    assert not parts.whole_groups
    assert set(groups[parts.train]) == set(groups[parts.validation]) == {0}


def test_validation_never_takes_a_class_whole():
    """The only donor with the second class stays in training."""
    groups = np.repeat(np.arange(4), 20)
    strata = (groups == 3).astype(int)
    for seed in range(10):
        parts = divide(np.zeros(80, bool), groups=groups, strata=strata, seed=seed)
        assert not lost(strata, parts.train).size


def test_a_lost_class_is_named():
    strata = np.array([0, 1, 2, 2])
    np.testing.assert_array_equal(lost(strata, np.array([0, 2])), [1])
