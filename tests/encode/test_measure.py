"""Sums and counts a cell and a gene, against the plain way."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from glm.encode import Ranker
from glm.encode.measure import measure

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, max_side=7)


def targets(position: np.ndarray) -> np.ndarray:
    """The first column of each gene, -1 outside."""
    firsts: dict[int, int] = {}
    return np.array([firsts.setdefault(p, i) if p >= 0 else -1 for i, p in enumerate(position)])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_against_numpy(data: st.DataObject):
    values = data.draw(hnp.arrays(np.int32, SHAPES, elements=st.integers(0, 3)))
    n_columns = values.shape[1]
    position = data.draw(hnp.arrays(np.int64, n_columns, elements=st.integers(-1, 4)))
    known = position >= 0
    found = measure(sp.csr_array(values), targets(position))
    np.testing.assert_array_equal(found.n_counts, values.sum(axis=1))
    np.testing.assert_array_equal(found.n_genes, (values > 0).sum(axis=1))
    np.testing.assert_array_equal(found.n_counts_known, values[:, known].sum(axis=1))
    np.testing.assert_array_equal(found.column_counts, values.sum(axis=0))
    ranked = [len({int(p) for p in position[(row > 0) & known]}) for row in values]
    np.testing.assert_array_equal(found.n_genes_known, ranked)


def test_the_genes_that_are_ranked():
    rng = np.random.default_rng(3)
    position = rng.integers(-1, 12, 30)
    counts = sp.csr_array(rng.poisson(0.3, (40, 30)))
    medians = np.where(position >= 0, 1.0 + position, np.nan)
    _, _, n_ranked = Ranker(medians, position, targets(position)).sentences(counts)
    found = measure(counts, targets(position))
    np.testing.assert_array_equal(found.n_genes_known, n_ranked)


@pytest.mark.parametrize(
    "form", [np.asarray, sp.csr_matrix, sp.csc_array], ids=lambda f: f.__name__
)
def test_any_container(form):
    values = np.array([[0.0, 2.0, 1.0], [5.0, 0.0, 0.0]], np.float32)
    found = measure(form(values), np.array([0, -1, 2]))
    assert found.n_counts.tolist() == [3.0, 5.0]
    assert found.n_genes_known.tolist() == [1, 1]
    assert found.share_known == 0.75


def test_log1p_is_undone():
    counts = np.array([[3.0, 1.0], [0.0, 7.0]])
    found = measure(np.log1p(counts), np.array([0, -1]), undo_log=True)
    np.testing.assert_allclose(found.n_counts, [4.0, 7.0], rtol=1e-12)
    assert found.share_known == pytest.approx(3 / 11)


def test_what_is_no_count_is_left_out():
    values = np.array([[np.nan, -2.0, np.inf, 4.0]])
    found = measure(values, np.arange(4))
    assert (found.n_counts[0], found.n_genes[0], found.n_genes_known[0]) == (4.0, 1, 1)


def test_nothing():
    found = measure(np.zeros((2, 3)), np.arange(3))
    assert found.share_known == 1.0
    assert found.n_genes.tolist() == [0, 0]
