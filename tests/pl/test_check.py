"""Histograms of genes and coverage: what stands in them."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib import pyplot as plt

import glm

TINY = "geneformer-tiny"


@pytest.fixture
def adata():
    return glm.datasets.toy_cells()


def total_height(ax) -> float:
    return sum(patch.get_height() for patch in ax.patches)


def test_every_cell_is_in_both(adata):
    report = glm.pp.check(adata, TINY)
    genes, coverage = glm.pl.check(report)
    assert total_height(genes) == total_height(coverage) == adata.n_obs
    assert genes.figure is coverage.figure


def test_cells_and_their_report_give_the_same(adata):
    adata.layers["counts"] = adata.X
    adata.X = None
    one, _ = glm.pl.check(adata, TINY, layer="counts")
    other, _ = glm.pl.check(glm.pp.check(adata, TINY, layer="counts"))
    heights = [[p.get_height() for p in ax.patches] for ax in (one, other)]
    assert heights[0] == heights[1]


def test_the_line_parts_what_is_cut_off(adata):
    report = glm.pp.check(adata, TINY)
    limit, n_genes = report.n_genes_read, report.cells["n_genes_known"].to_numpy()
    n_cut = int((n_genes > limit).sum())
    assert 0 < n_cut < adata.n_obs
    genes, _ = glm.pl.check(report)
    (line,) = genes.lines
    assert line.get_xdata()[0] == limit + 0.5
    right = [p for p in genes.patches if p.get_x() >= limit + 0.5]
    across = [p for p in genes.patches if p.get_x() < limit + 0.5 < p.get_x() + p.get_width()]
    assert across == []
    assert sum(p.get_height() for p in right) == n_cut
    assert f"{n_cut} of {adata.n_obs}" in genes.get_title(loc="left")


def test_numbers_are_written_as_everywhere(adata):
    genes, coverage = glm.pl.check(adata, TINY)
    genes.figure.canvas.draw()
    told = [label.get_text() for label in genes.get_xticklabels()]
    assert "1,000" in told
    shares = [label.get_text() for label in coverage.get_xticklabels()]
    assert all(share.endswith("%") and ".0" not in share for share in shares)


def test_a_line_far_off_does_not_squeeze_the_picture(adata):
    few = adata[:, :200].copy()
    genes, _ = glm.pl.check(few, TINY)
    assert not genes.lines
    assert genes.get_xlim()[1] < 300
    assert "no cell is cut short (at 1,022 genes)" in genes.get_title(loc="left")


def test_a_few_cells_without_known_genes(adata):
    adata.var_names = [*adata.var_names[:-1], "nobody"]
    counts = adata.X.toarray()
    counts[0, :-1], counts[0, -1] = 0, 9
    counts[1] = 0
    adata.X = counts
    report = glm.pp.check(adata, TINY)
    genes, coverage = glm.pl.check(report)
    assert total_height(genes) == adata.n_obs
    assert total_height(coverage) <= adata.n_obs - 1  # an empty cell has no share


def test_no_counts_at_all(adata):
    adata.X = np.zeros(adata.shape, np.float32)
    genes, coverage = glm.pl.check(adata, TINY)
    assert total_height(genes) == adata.n_obs
    assert "no cell has any count" in coverage.get_title(loc="left")
    genes.figure.canvas.draw()


def test_drawn_on_the_users_axes(adata):
    figure, axes = plt.subplots(2)
    assert glm.pl.check(adata, TINY, axes=axes) == list(axes)
    assert plt.get_fignums() == [figure.number]


def test_nothing_to_draw(adata):
    adata.X = None
    with pytest.raises(ValueError, match=r"nothing to draw.*adata\.X is empty"):
        glm.pl.check(adata, TINY)
    assert plt.get_fignums() == []


def test_saved(adata, tmp_path):
    glm.pl.check(adata, TINY, save=tmp_path / "cells.svg")
    assert [path.name for path in tmp_path.iterdir()] == ["cells.svg"]
