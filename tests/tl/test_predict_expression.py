"""Expression from the sequence around start sites: by hand from the plain model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from scipy import stats

import glm
from glm.models.fast.enformer import FastEnformer

BIN, WINDOW, CROP = 128, 4_096, 4
MIDDLE = WINDOW // 2 // BIN - CROP  # the bin that begins with the start site
LENGTH = 60_000
RTOL = 1e-4  # what the executor is held to
CAGE = [0, 1]  # a pair of strands


@pytest.fixture(scope="module")
def codes() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 4, LENGTH).astype(np.uint8)


@pytest.fixture(scope="module")
def genome(codes: np.ndarray) -> glm.Genome:
    return glm.Genome({"chr1": codes, "chr2": "N" * 20_000})


# Gene, strand, transcripts: first and last base from 1, tags. Starts from 0 stand beside them.
GENES = [
    ("ENSG00000000001", "chr1", "+", [(10_001, 12_000, ""), (9_001, 9_500, "")]),  # 10,000; 9,000
    ("ENSG00000000002", "chr1", "-", [(20_001, 26_000, ""), (20_001, 27_000, "MANE_Select")]),
    ("ENSG00000000003", "chr1", "+", [(30_001, 31_000, ""), (30_001, 30_500, "")]),  # one place
    ("ENSG00000000004", "chr2", "+", [(9_001, 9_500, "")]),  # nothing is known there
    ("ENSG00000000005", "chrUn_1", "+", [(11, 500, "")]),  # the genome has no such contig
    ("ENSG00000000006", "chr1", "+", [(40_001, 42_000, ""), (39_001, 45_000, "mRNA_start_NF")]),
]
STARTS = {
    "canonical": {0: [10_000], 1: [26_999], 2: [30_000], 5: [40_000]},
    "five_prime": {0: [9_000], 1: [26_999], 2: [30_000], 5: [39_000]},
    "all": {0: [9_000, 10_000], 1: [25_999, 26_999], 2: [30_000], 5: [40_000]},
}
MINUS = {1}


@pytest.fixture(scope="module")
def gtf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lines = []
    for gene, chrom, strand, transcripts in GENES:
        for number, (start, end, tag) in enumerate(transcripts):
            attributes = f'gene_id "{gene}.3"; transcript_id "{gene}T{number}"; '
            attributes += f'gene_name "NAME{gene[-1]}";' + (f' tag "{tag}";' if tag else "")
            fields = (chrom, "made up", "transcript", start, end, ".", strand, ".", attributes)
            lines.append("\t".join(map(str, fields)))
    path = tmp_path_factory.mktemp("gtf") / "genes.gtf"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def cells() -> anndata.AnnData:
    """Seven genes, the last of which no annotation knows."""
    counts = np.random.default_rng(2).poisson(3.0, (20, 7)).astype(np.float32)
    counts[3] = 0
    var = pd.DataFrame(index=[*(gene[0] for gene in GENES), "ENSG00000000099"])
    return anndata.AnnData(sp.csr_matrix(counts), var=var)


def _predict(model: Any, codes: np.ndarray, start: int) -> np.ndarray:
    """Bins × tracks of the window in whose middle a base is."""
    window = np.full(WINDOW, 4, np.uint8)
    begin = start - WINDOW // 2
    low, high = max(begin, 0), min(begin + WINDOW, len(codes))
    window[low - begin : high - begin] = codes[low:high]
    with torch.no_grad():
        return model.network(torch.from_numpy(window)[None])["human"][0].numpy()


def _by_hand(
    model: Any, codes: np.ndarray, tss: str, tracks: list[int], n_bins: int = 3
) -> np.ndarray:
    pair = model.tables["human"]["strand_pair"].to_numpy()
    found = np.full((7, len(tracks)), np.nan)
    half = n_bins // 2
    for row, starts in STARTS[tss].items():
        read = pair[tracks] if row in MINUS else tracks
        sums = [
            _predict(model, codes, start)[MIDDLE - half : MIDDLE + half + 1, read].sum(axis=0)
            for start in starts
        ]
        found[row] = np.log1p(np.mean(sums, axis=0))
    return found


@pytest.fixture
def predict(track_model, genome, gtf) -> Callable[..., anndata.AnnData]:
    def call(adata: anndata.AnnData, **options: Any) -> anndata.AnnData:
        with pytest.warns(glm.GlmWarning, match="3 of 7 .*genes have no prediction and are NaN"):
            glm.tl.predict_expression(
                adata, genome, gtf, **{"model": track_model, "tracks": "CAGE", **options}
            )
        return adata

    return call


@pytest.mark.parametrize("tss", ["canonical", "five_prime", "all"])
def test_sum_of_the_bins_around_the_start(predict, cells, track_model, codes, tss: str):
    predict(cells, tss=tss)
    found = cells.varm["expression_enformer"]
    assert found.dtype == np.float32
    expected = _by_hand(track_model, codes, tss, CAGE)
    np.testing.assert_allclose(found, expected, rtol=RTOL)
    np.testing.assert_array_equal(cells.var["expression_enformer_ok"], np.isfinite(expected[:, 0]))
    number = [len(STARTS[tss].get(row, [])) for row in range(7)]
    assert cells.var["expression_enformer_n_tss"].tolist() == number
    record = cells.uns["expression_enformer"]
    assert record["tss"] == tss
    assert record["n_bins"] == 3
    assert record["tracks"]["identifier"] == ["CN1+", "CN1-"]


def test_genes_on_the_other_strand_are_read_from_the_partner(predict, cells, track_model, codes):
    """Alone too, where the partner is no track that was asked for."""
    both = predict(cells.copy()).varm["expression_enformer"]
    for column in (0, 1):
        one = predict(cells.copy(), tracks=[column]).varm["expression_enformer"]
        np.testing.assert_allclose(one[:, 0], both[:, column], rtol=RTOL)
    swapped = predict(cells.copy(), tracks=[1, 0]).varm["expression_enformer"]
    np.testing.assert_allclose(swapped, both[:, ::-1], rtol=RTOL)
    assert abs(both[1, 0] - both[1, 1]) > 0.01


def test_unstranded_tracks(predict, cells, track_model, codes):
    found = predict(cells, tracks=[3, 2], n_bins=1).varm["expression_enformer"]
    expected = _by_hand(track_model, codes, "canonical", [3, 2], n_bins=1)
    np.testing.assert_allclose(found, expected, rtol=RTOL)


@pytest.mark.parametrize("n_bins", [1, 5, 23])
def test_number_of_bins(predict, cells, track_model, codes, n_bins: int):
    found = predict(cells, n_bins=n_bins).varm["expression_enformer"]
    expected = _by_hand(track_model, codes, "canonical", CAGE, n_bins)
    np.testing.assert_allclose(found, expected, rtol=RTOL)


def test_names_in_any_order_and_twice(predict, cells, track_model, codes):
    """Symbols, versions, one gene in two columns."""
    names = ["NAME3", "ENSG00000000001.9", "NAME1", "NAME2", "NAME4", "NAME5", "unknown"]
    cells.var["symbol"] = names
    found = predict(cells, gene_ids="symbol").varm["expression_enformer"]
    expected = _by_hand(track_model, codes, "canonical", CAGE)[[2, 0, 0, 1, 3, 4, 6]]
    np.testing.assert_allclose(found, expected, rtol=RTOL)


def test_start_near_the_end_of_a_chromosome(track_model, codes, tmp_path: Path):
    """Its window is padded; bins that lie beyond the chromosome do not count."""
    path = tmp_path / "edge.gtf"
    path.write_text('chr1\tx\ttranscript\t101\t900\t.\t+\t.\tgene_id "G1"; transcript_id "T";\n')
    adata = anndata.AnnData(np.ones((2, 1), np.float32), var=pd.DataFrame(index=["G1"]))
    options = {"model": track_model, "tracks": "CAGE", "compare": False}
    glm.tl.predict_expression(adata, {"chr1": codes}, path, max_n_share_window=1, **options)
    expected = _predict(track_model, codes, 100)[MIDDLE - 1 : MIDDLE + 2, CAGE].sum(axis=0)
    np.testing.assert_allclose(adata.varm["expression_enformer"][0], np.log1p(expected), rtol=RTOL)


def test_why_genes_have_none(track_model, genome, gtf, cells):
    """In words of this verb, whose start sites are single bases."""
    network = type(track_model.network)(track_model.network.config).eval()
    network.load_state_dict(track_model.network.state_dict())
    network.heads["human"].bias.data[:2] = np.nan
    model = dataclasses.replace(track_model, network=network)
    found = r"1 start sites are unknown bases \(N\), 4 came out of the model not finite\. Leave"
    with pytest.warns(glm.GlmWarning, match=found):
        glm.tl.predict_expression(cells, genome, gtf, model=model, compare=False)


def test_genes_alone(predict, cells, track_model, genome, gtf):
    """Without cells there is nothing to compare with, and the predictions are the same."""
    genes = anndata.AnnData(var=cells.var.copy())
    predict(genes, compare=False)
    found = genes.varm["expression_enformer"]
    np.testing.assert_array_equal(found, predict(cells).varm["expression_enformer"])
    with pytest.raises(ValueError, match="0 cells and 7 genes"):
        glm.tl.predict_expression(
            anndata.AnnData(var=cells.var.copy()), genome, gtf, model=track_model
        )


# ---- against what was measured -------------------------------------------------------------------


def test_scores(predict, cells, track_model, codes):
    predict(cells)
    counts = cells.X.toarray()[cells.X.toarray().sum(axis=1) > 0].astype(np.float64)
    means = np.log1p((counts / counts.sum(axis=1, keepdims=True) * 10_000).mean(axis=0))
    found, ok = cells.varm["expression_enformer"], [0, 1, 2, 5]
    scores = cells.uns["expression_enformer"]["scores"]
    for column in range(2):
        values = found[ok, column].astype(np.float64)
        pearson = stats.pearsonr(means[ok], values).statistic
        assert scores["pearson"][column] == pytest.approx(pearson, rel=1e-6)
        spearman = stats.spearmanr(means[ok], values).statistic
        assert scores["spearman"][column] == pytest.approx(spearman, rel=1e-6)
    assert scores["n_genes"] == [4, 4]


def test_scores_of_a_layer_and_none(predict, cells):
    cells.layers["raw"] = cells.X.copy()
    first = predict(cells.copy()).uns["expression_enformer"]["scores"]
    cells.X = cells.X.log1p()
    second = predict(cells.copy(), layer="raw").uns["expression_enformer"]
    assert second["scores"] == first
    assert second["counts"] == "raw"
    third = predict(cells.copy(), compare=False).uns["expression_enformer"]
    assert "scores" not in third
    assert third["compared_with"] == "nothing"


def test_log_normalised_values_are_refused(track_model, genome, gtf, cells):
    cells.X = cells.X.log1p()
    with pytest.raises(ValueError, match=r"not whole.*compared with raw counts.*compare=False"):
        glm.tl.predict_expression(cells, genome, gtf, model=track_model)
    assert list(cells.uns) == []


# ---- slots, long runs ----------------------------------------------------------------------------


def test_written_and_read_again(predict, cells, tmp_path: Path):
    predict(cells)
    cells.write_h5ad(tmp_path / "a.h5ad")
    again = anndata.read_h5ad(tmp_path / "a.h5ad")
    found = again.varm["expression_enformer"]
    np.testing.assert_array_equal(found, cells.varm["expression_enformer"])
    record = again.uns["expression_enformer"]
    assert record["tss_rule"].startswith("the start of the gene's canonical transcript")
    assert record["n_genes_unusable"] == 3


def test_twice_and_another_models_slot(predict, cells, track_model, genome, gtf):
    predict(cells)
    predict(cells)  # a notebook cell run twice
    cells.uns["expression_enformer"]["model"] = "another"
    with pytest.raises(ValueError, match=r"already holds the result of another"):
        glm.tl.predict_expression(cells, genome, gtf, model=track_model)
    predict(cells, key_added="mine")
    predict(cells, overwrite=True)
    assert {"expression_enformer", "expression_mine"} <= set(cells.varm)


def test_copy_and_modality(predict, cells, track_model, genome, gtf):
    import mudata

    with pytest.warns(glm.GlmWarning, match="no prediction"):
        copied = glm.tl.predict_expression(
            cells, genome, gtf, model=track_model, tracks="CAGE", copy=True
        )
    assert "expression_enformer" in copied.varm
    assert list(cells.varm) == []
    mdata = mudata.MuData({"rna": cells.copy()})
    with pytest.warns(glm.GlmWarning, match="no prediction"):
        glm.tl.predict_expression(mdata, genome, gtf, model=track_model, tracks="CAGE", mod="rna")
    np.testing.assert_array_equal(
        mdata["rna"].varm["expression_enformer"], copied.varm["expression_enformer"]
    )


@pytest.mark.faults
def test_a_run_that_was_stopped_goes_on(
    predict, cells, track_model, genome, gtf, tmp_path: Path, monkeypatch
):
    whole = predict(cells.copy(), tss="all").varm["expression_enformer"]
    real, seen = FastEnformer.predict, []

    def stopped(self, *args, **kwargs):
        seen.append(1)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return real(self, *args, **kwargs)

    monkeypatch.setattr(FastEnformer, "predict", stopped)
    with pytest.raises(KeyboardInterrupt):
        glm.tl.predict_expression(
            cells,
            genome,
            gtf,
            model=track_model,
            tracks="CAGE",
            tss="all",
            out=tmp_path / "run",
        )
    assert list(cells.varm) == []
    seen[:] = [1] * 4
    again = predict(cells, tss="all", out=tmp_path / "run").varm["expression_enformer"]
    assert len(seen) - 4 == 6 - 3  # six start sites, three of which were done
    np.testing.assert_array_equal(again, whole)


# ---- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"tss": "upstream"}, ValueError, "'canonical', 'all', 'five_prime'"),
        ({"n_bins": 2}, ValueError, "n_bins is 2; expected an odd number from 1 to 23"),
        ({"n_bins": 25}, ValueError, "from 1 to 23"),
        ({"n_bins": 0}, ValueError, "n_bins is 0"),
        ({"tracks": ["CAGE", "DNASE"]}, ValueError, r"sum: CAGE; mean: DNASE"),
        ({"tracks": "ATAC"}, KeyError, "ATAC"),
        ({"genome": None}, ValueError, "genome is None"),
        ({"genome": {"chr7": "ACGT" * 500}}, ValueError, "'chr1'.*'chr7'"),
        ({"gene_ids": "none"}, KeyError, "no column 'none'"),
        ({"layer": "none"}, KeyError, "no layer 'none'"),
        ({"key_added": "a/b"}, ValueError, "'a/b'"),
        ({"max_n_share_window": 2}, ValueError, "max_n_share_window is 2"),
        ({"gtf": 5}, TypeError, "gtf is of type int"),
        ({"model": "geneformer-tiny"}, ValueError, "predicts no tracks"),
    ],
)
def test_refused(track_model, genome, gtf, cells, options, error, message: str):
    call = {"genome": genome, "gtf": gtf, "model": track_model, "tracks": "CAGE", **options}
    before = cells.copy()
    with pytest.raises(error, match=message):
        glm.tl.predict_expression(cells, call.pop("genome"), call.pop("gtf"), **call)
    assert list(cells.varm) == list(cells.uns) == []
    pd.testing.assert_frame_equal(cells.var, before.var)


def test_no_gene_is_known(track_model, genome, gtf, cells):
    cells.var_names = [f"cell line {i}" for i in range(7)]
    with pytest.raises(ValueError, match=r"None of 7 names .*first are ENSG0000000000"):
        glm.tl.predict_expression(cells, genome, gtf, model=track_model)


def test_genomes_that_disagree(track_model, codes, gtf, cells, tmp_path: Path):
    genome = glm.Genome({"chrZ": codes}, name="hg19")  # a made-up chromosome contradicts no name
    cells.var["genome"] = "GRCh38"
    with pytest.raises(ValueError, match=r"says that it is of 'GRCh38', and the genome is 'hg19'"):
        glm.tl.predict_expression(cells, genome, gtf, model=track_model)
    del cells.var["genome"]
    told = tmp_path / "told.gtf"
    told.write_text("#!genome-build GRCh38.p14\n" + gtf.read_text().replace("chr1", "chrZ"))
    with pytest.raises(ValueError, match="Take the annotation of the same genome"):
        glm.tl.predict_expression(cells, genome, told, model=track_model)


def test_dry_run_counts_the_start_sites(cells, track_model, genome, gtf):
    options: dict[str, Any] = {"model": track_model, "tracks": "CAGE", "dry_run": True}
    plan = glm.tl.predict_expression(cells, genome, gtf, tss="all", **options)
    assert (plan.n_rows, plan.n_rows_usable, plan.n_batches) == (7, 4, 6)
    assert plan.n_tokens == 6 * WINDOW
    assert plan.seconds > 0
    assert not [*cells.varm, *cells.uns]
    assert list(cells.var) == []
