"""The made-up peaks and their genome: what the docstring says of them holds."""

from __future__ import annotations

import numpy as np
import pytest

import glm


@pytest.fixture(scope="module")
def toy():
    return glm.datasets.toy_regions(n_cells=90, n_regions=300)


def test_regions_lie_on_the_genome_apart_from_each_other(toy):
    peaks, genome = toy
    assert peaks.shape == (90, 300)
    assert peaks.var_names.is_unique
    length = peaks.var["end"] - peaks.var["start"]
    assert length.between(150, 3_000).all()
    for chrom, rows in peaks.var.groupby("chrom", observed=True):
        assert (rows["start"].to_numpy()[1:] - rows["end"].to_numpy()[:-1] == 600).all()
        assert rows["start"].iloc[0] == 600
        assert rows["end"].iloc[-1] == genome.contigs[chrom] - 600


def test_names_are_the_places(toy):
    peaks, _ = toy
    row = peaks.var.iloc[7]
    assert peaks.var_names[7] == f"{row['chrom']}:{row['start']:,}-{row['end']:,}"


def test_kinds_differ_in_their_sequence(toy):
    peaks, genome = toy
    glm.pp.sequence_stats(peaks, genome)
    assert peaks.var["sequence_ok"].all()
    mean = peaks.var.groupby("kind", observed=True)[["sequence_gc", "sequence_cpg"]].mean()
    assert mean.loc["island"].to_list() == pytest.approx([0.66, 1.0], abs=0.03)
    assert mean.loc["ordinary"].to_list() == pytest.approx([0.43, 0.32], abs=0.04)
    assert mean.loc["repeat", "sequence_gc"] == pytest.approx(0.43, abs=0.06)
    assert peaks.var["kind"].value_counts().to_list() == [100] * 3


def test_repeats_share_their_words_on_one_strand_or_the_other(toy):
    peaks, genome = toy

    def words(row: int, strand: str = "+") -> set[str]:
        place = peaks.var.iloc[row]
        text = genome.fetch(place["chrom"], place["start"], place["end"], strand=strand)
        return {text[i : i + 8] for i in range(len(text) - 7)}

    long = peaks.var["end"] - peaks.var["start"] > 300
    repeats = np.flatnonzero((peaks.var["kind"] == "repeat") & long)[:12]
    others = np.flatnonzero((peaks.var["kind"] == "ordinary") & long)[:12]
    first = words(repeats[0])
    shared = [max(len(first & words(row, strand)) for strand in "+-") for row in repeats[1:]]
    apart = [max(len(first & words(row, strand)) for strand in "+-") for row in others]
    assert min(shared) > 3 * max(apart)
    own = [len(first & words(row)) > len(first & words(row, "-")) for row in repeats[1:]]
    assert 0 < sum(own) < len(own)  # some on either strand


def test_cells_open_their_kind_of_region(toy):
    peaks, _ = toy
    counts = np.array(
        [
            [
                peaks[peaks.obs["kind"] == cells, peaks.var["kind"] == regions].X.mean()
                for regions in ("island", "ordinary", "repeat")
            ]
            for cells in "abc"
        ]
    )
    assert (np.diag(counts) > 2.5 * (counts.sum(axis=1) - np.diag(counts)) / 2).all()
    assert peaks.X.dtype == np.float32
    assert (peaks.X.data == np.round(peaks.X.data)).all()


def test_cells_are_those_of_toy_cells():
    peaks, _ = glm.datasets.toy_regions(n_cells=12, n_regions=6)
    cells = glm.datasets.toy_cells(n_cells=12, n_genes=50)
    assert peaks.obs.equals(cells.obs)


def test_same_seed_same_data():
    (one, genome), (other, again) = (glm.datasets.toy_regions(5, 9, seed=3) for _ in range(2))
    assert (one.X != other.X).nnz == 0
    assert one.var.equals(other.var)
    assert genome.fingerprint() == again.fingerprint()
    assert genome.fingerprint() != glm.datasets.toy_regions(5, 9, seed=4)[1].fingerprint()


@pytest.mark.parametrize("n_regions", [1, 2, 4])
def test_few_regions(n_regions: int):
    peaks, genome = glm.datasets.toy_regions(2, n_regions)
    assert peaks.n_vars == n_regions
    glm.pp.sequence_stats(peaks, genome)
    assert peaks.var["sequence_ok"].all()


@pytest.mark.parametrize("sizes", [(0, 5), (5, 0), (-1, 5)])
def test_nothing_is_refused(sizes: tuple[int, int]):
    with pytest.raises(ValueError, match="expected at least 1"):
        glm.datasets.toy_regions(*sizes)
