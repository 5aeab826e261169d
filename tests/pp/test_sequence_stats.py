"""What regions' sequences are made of, against counting letters."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import given
from hypothesis import strategies as st

import glm
from glm import GlmWarning, Regions, bases
from glm.pp import _sequence_stats as stats

GENOME = {"chr1": "ACGTCGTTNNNNGCAT", "2": "NNNN" + "CGCGCG", "chrM": "AAAATTTT"}
COLUMNS = [f"sequence_{name}" for name in ("gc", "n_cpg", "cpg", "n_share", "ok")]


def by_hand(text: str) -> list[float]:
    """Letter by letter."""
    c, g, n = (text.count(letter) for letter in "CGN")
    known = len(text) - n
    cpg = sum(text[i : i + 2] == "CG" for i in range(len(text)))
    return [
        (c + g) / known if known else np.nan,
        cpg if known else np.nan,
        known * cpg / (c * g) if c * g else np.nan,
        n / len(text),
    ]


def of_peaks(*names: str) -> AnnData:
    return AnnData(np.ones((2, len(names)), np.float32), var=pd.DataFrame(index=list(names)))


@given(st.lists(st.text("ACGTN", min_size=1, max_size=12), min_size=1, max_size=20))
def test_counts_against_letters(texts: list[str]):
    offsets = np.concatenate([[0], np.cumsum([len(text) for text in texts])])
    counts = stats.count_bases(bases.to_codes("".join(texts)), offsets)
    shares = stats.Composition(*counts).shares()
    np.testing.assert_allclose(np.transpose(shares), [by_hand(text) for text in texts])


@pytest.mark.parametrize("block", [1, 5, 10**6])
@pytest.mark.parametrize("strand", ["+", "-"])
def test_regions_in_any_blocks(monkeypatch, block: int, strand: str):
    monkeypatch.setattr(stats, "_BLOCK", block)
    adata = of_peaks("chr1:0-8", "2:4-10", "chr1:8-16", "chrM:0-8")
    adata.var["strand"] = strand
    glm.pp.sequence_stats(adata, GENOME)
    texts = ["ACGTCGTT", "CGCGCG", "NNNNGCAT", "AAAATTTT"]
    found = adata.var[COLUMNS].to_numpy(float)
    np.testing.assert_allclose(found[:, :4], [by_hand(text) for text in texts])
    assert adata.var["sequence_ok"].dtype == bool
    assert found[1, 2] == pytest.approx(6 * 3 / 9)
    record = adata.uns["sequence_var"]
    assert record["n_unusable"] == 0
    assert record["genome_fingerprint"] == glm.Genome(GENOME).fingerprint()


def test_rows_that_cannot_be_read(tmp_path: Path):
    names = ["chr1:8-12", "chr1:100-200", "chr1:12-20", "GENE", "chr1:0-4"]
    adata = of_peaks(*names)
    told = (
        r"3 of 5 \(60%\) regions could not be read and are NaN \(chr1:8-12, chr1:100-200, GENE\): "
        r"1 have no region, 1 lie beyond their chromosome .*, 1 have no known base.*"
        r"adata\[:, adata\.var\['sequence_ok'\]\]"
    )
    with pytest.warns(GlmWarning, match=told) as seen:
        glm.pp.sequence_stats(adata, GENOME)
    assert len(seen) == 1
    found = adata.var[COLUMNS]
    np.testing.assert_array_equal(found["sequence_ok"], [False, False, True, False, True])
    np.testing.assert_array_equal(found["sequence_n_share"], [1, np.nan, 0.5, np.nan, 0])
    assert found["sequence_gc"].isna().tolist() == [True, True, False, True, False]
    assert found["sequence_gc"].iloc[2] == 0.5
    for suffix in ("h5ad", "zarr"):
        getattr(adata, f"write_{suffix}")(tmp_path / f"a.{suffix}")
        again = getattr(anndata, f"read_{suffix}")(tmp_path / f"a.{suffix}")
        pd.testing.assert_frame_equal(again.var[COLUMNS], found)


def test_observations_keys_and_copies():
    adata = of_peaks("chr1:0-8", "chr1:8-16")
    adata.obs_names = ["chrM:0-4", "chrM:4-8"]
    copied = glm.pp.sequence_stats(adata, GENOME, axis="obs", key_added="dna", copy=True)
    assert list(adata.obs) == []
    assert copied.obs["dna_gc"].tolist() == [0, 0]
    glm.pp.sequence_stats(copied, GENOME, axis="var", key_added="dna")
    assert {"dna_obs", "dna_var"} <= set(copied.uns)
    assert copied.var["dna_gc"].tolist() == [0.5, 0.5]
    before = copied.var.copy()
    glm.pp.sequence_stats(copied, GENOME, axis="var", key_added="dna")
    pd.testing.assert_frame_equal(copied.var, before)


def test_another_genome_s_result_is_not_replaced_unasked():
    adata = of_peaks("chr1:0-8")
    glm.pp.sequence_stats(adata, glm.Genome(GENOME, name="one"))
    with pytest.raises(ValueError, match=r"holds the result of one\..*overwrite=True"):
        glm.pp.sequence_stats(adata, glm.Genome(GENOME, name="two"))
    glm.pp.sequence_stats(adata, glm.Genome(GENOME, name="two"), overwrite=True)
    assert adata.uns["sequence_var"]["genome"] == "two"


def test_real_sequence(test_data: Path):
    genome = glm.Genome(test_data / "genome" / "hg19_gata4_131kb.fa")
    contig, length = next(iter(genome.contigs.items()))
    starts = np.arange(0, length - 700, 641)
    regions = Regions.of([contig] * len(starts), starts, starts + 700)
    found = stats.composition(regions, genome).shares()
    texts = [genome.fetch(contig, start, start + 700) for start in starts]
    np.testing.assert_allclose(np.transpose(found), [by_hand(text) for text in texts])
