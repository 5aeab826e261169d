"""Embeddings of regions: MuData, unknown bases, strands, lengths, and slots that are taken."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
import warnings
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import glm
from glm.bases import reverse_complement, to_codes, to_text
from glm.genome._builds import BUILDS

pytestmark = [pytest.mark.faults, pytest.mark.filterwarnings("ignore::FutureWarning")]


@pytest.fixture(autouse=True)
def _quiet():
    with glm.settings.override(progress=False):
        yield


@pytest.fixture(scope="session")
def text():
    return "".join(np.random.default_rng(11).choice(list("ACGT"), 2_000))


@pytest.fixture(scope="session", params=["dnabert", "grover"])
def dna_model(request, make_dna_model):
    return make_dna_model(request.param)


@pytest.fixture(scope="session")
def dnabert(make_dna_model):
    return make_dna_model()


def peaks_at(*places, chrom="chr1", n_cells=2, **columns):
    var = pd.DataFrame({"chrom": chrom, "start": [a for a, _ in places]})
    var["end"] = [b for _, b in places]
    for name, values in columns.items():
        var[name] = values
    var.index = [f"peak{i}" for i in range(len(places))]
    return ad.AnnData(np.ones((n_cells, len(places)), np.float32), var=var)


@pytest.fixture
def peaks():
    return peaks_at((100, 150), (400, 700), (30, 45), (1_200, 1_900))


def embedded(adata: Any, model: Any, **options: Any) -> np.ndarray:
    glm.tl.embed(adata, model, key_added="x", **options)
    return adata.varm["X_x"].copy()


# ---- slots ---------------------------------------------------------------------------------------


def test_35_keys_that_are_taken(peaks, make_dna_model, dnabert, text, refuses):
    genome = {"chr1": text}
    glm.tl.embed(peaks, dnabert, genome=genome)
    glm.tl.embed(peaks, dnabert, genome=genome, pooling="mean")  # the same model's: replaced
    assert peaks.uns["X_dnabert"]["pooling"] == "mean"
    other = make_dna_model("grover")
    said = r"adata.varm\['X_dnabert'\] already holds the result of small-dnabert"
    options = {"model": other, "genome": genome, "key_added": "dnabert"}
    refuses(glm.tl.embed, peaks, ValueError, said, **options)
    glm.tl.embed(peaks, overwrite=True, **options)
    saved, namesake = (dataclasses.replace(dnabert, weights_sha256=64 * of) for of in "ab")
    glm.tl.embed(peaks, saved, genome=genome, key_added="saved")
    options = {"model": namesake, "genome": genome, "key_added": "saved"}
    refuses(glm.tl.embed, peaks, ValueError, "already holds the result of", **options)
    mine = peaks_at((0, 50))
    mine.var["dnabert_ok"] = "mine"
    said = r"adata.var\['dnabert_ok'\] already holds something glm did not write"
    refuses(glm.tl.embed, mine, ValueError, said, model=dnabert, genome=genome)


def test_36_the_users_own_columns(dnabert, text):
    columns = {"seq": "ACGT", "length": 1, "sequence": "T", "token": 3}
    adata = peaks_at((100, 150), (5, 50), **columns)
    before = adata.var.copy()
    expected = embedded(peaks_at((100, 150), (5, 50)), dnabert, genome={"chr1": text})
    np.testing.assert_array_equal(embedded(adata, dnabert, genome={"chr1": text}), expected)
    pd.testing.assert_frame_equal(adata.var.drop(columns="x_ok"), before)


@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
def test_37_records_survive_files(peaks, dnabert, text, tmp_path, kind):
    glm.tl.embed(peaks, dnabert, genome={"chr1": text}, strand="both")
    glm.tl.aggregate_peaks(peaks)
    path = tmp_path / f"peaks.{kind}"
    getattr(peaks, f"write_{kind}")(path)
    again = ad.read_h5ad(path) if kind == "h5ad" else ad.read_zarr(path)
    np.testing.assert_array_equal(again.varm["X_dnabert"], peaks.varm["X_dnabert"])
    for key in ("X_dnabert", "X_dnabert_peaks"):
        assert {k: _plain(v) for k, v in again.uns[key].items()} == peaks.uns[key]
    glm.tl.embed(again, dnabert, genome={"chr1": text})  # known to be glm's


def _plain(value):
    return value.tolist() if isinstance(value, np.ndarray) else value


def test_45_copies_subsets_and_concatenations(peaks, dnabert, text):
    vectors = embedded(peaks, dnabert, genome={"chr1": text})
    for again in (peaks.copy(), ForkingPickler.loads(ForkingPickler.dumps(peaks))):
        np.testing.assert_array_equal(again.varm["X_x"], vectors)
        assert again.uns["X_x"] == peaks.uns["X_x"]
    part = peaks[:, [3, 1]].copy()
    np.testing.assert_array_equal(part.varm["X_x"], vectors[[3, 1]])
    glm.tl.aggregate_peaks(part, "x")
    of_cells = ad.concat([peaks, peaks], index_unique="-", merge="same", uns_merge="same")
    np.testing.assert_array_equal(of_cells.varm["X_x"], vectors)
    assert of_cells.uns["X_x"]["model"] == "small-dnabert"
    of_peaks = ad.concat([peaks[:, :2], peaks[:, 2:]], axis="var")
    np.testing.assert_array_equal(of_peaks.varm["X_x"], vectors)
    assert "X_x" not in of_peaks.uns
    glm.tl.aggregate_peaks(of_peaks, "x")  # by finite rows and flags alone
    assert of_peaks.uns["X_x_peaks"]["model"] == "unknown"


def test_46_the_same_call_twice(peaks, dna_model, text):
    first = embedded(peaks, dna_model, genome={"chr1": text})
    slots = {part: list(getattr(peaks, part)) for part in ("var", "obs", "varm", "obsm", "uns")}
    np.testing.assert_array_equal(embedded(peaks, dna_model, genome={"chr1": text}), first)
    assert slots == {part: list(getattr(peaks, part)) for part in slots}


# ---- MuData --------------------------------------------------------------------------------------


def test_41_unpaired_modalities(peaks, dnabert, text):
    import mudata

    expected = embedded(peaks.copy(), dnabert, genome={"chr1": text})
    peaks.obs_names = ["b", "c"]
    rna = ad.AnnData(np.ones((3, 2), np.float32), obs=pd.DataFrame(index=["a", "c", "d"]))
    both = mudata.MuData({"rna": rna, "atac": peaks})
    glm.tl.embed(both, dnabert, mod="atac", genome={"chr1": text})
    np.testing.assert_array_equal(both["atac"].varm["X_dnabert"], expected)
    assert not both["rna"].varm
    glm.tl.aggregate_peaks(both, mod="atac")
    assert both["atac"].obsm["X_dnabert_peaks"].shape == (2, 16)
    both.pull_obs()
    flags = both.obs["atac:dnabert_peaks_ok"] if "atac:dnabert_peaks_ok" in both.obs else None
    if flags is not None:
        assert flags.reindex(["b", "c"]).astype(bool).all()
        assert flags.reindex(["a", "d"]).isna().all()


def test_42_renamed_and_updated(peaks, dnabert, text):
    import mudata

    both = mudata.MuData({"atac": peaks})
    glm.tl.embed(both, dnabert, mod="atac", genome={"chr1": text})
    expected = both["atac"].varm["X_dnabert"].copy()
    both["atac"].var_names = [f"p{i}" for i in range(4)]
    both.update()
    part = both[:, ["p2", "p0"]].copy()
    np.testing.assert_array_equal(part["atac"].varm["X_dnabert"], expected[[2, 0]])
    found = glm.get.token_embeddings(both, ["p1"], dnabert, mod="atac", genome={"chr1": text})
    assert len(found["p1"]) == 300


def test_43_missing_modality(peaks, dnabert, text, refuses):
    import mudata

    both = mudata.MuData({"atac": peaks})
    options = {"model": dnabert, "genome": {"chr1": text}}
    with pytest.raises(KeyError, match=r"no modality 'rna'.*atac"):
        glm.tl.embed(both, mod="rna", **options)
    with pytest.raises(KeyError, match=r"no modality 'rna'.*atac"):
        glm.tl.aggregate_peaks(both, mod="rna")
    refuses(glm.tl.embed, peaks, TypeError, "modality of a MuData", mod="atac", **options)


# ---- a real multiome, and a genome made up under its peaks ---------------------------------------


@pytest.fixture(scope="module")
def multiome(test_data):
    import mudata

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return mudata.read_h5mu(test_data / "cells" / "muon_test_rna_atac.h5mu")


@pytest.fixture(scope="module")
def made_up_hg38(multiome, tmp_path_factory):
    """A 2bit file with hg38's lengths: random bases under genes and peaks, N elsewhere.

    Most of it is a hole in the file, so it takes no room on the disk.
    """
    places: dict[str, list[tuple[int, int]]] = {}
    for interval in [*multiome["atac"].var["interval"], *multiome["rna"].var["interval"]]:
        chrom, start, end = re.split("[:-]", interval)
        places.setdefault(chrom, []).append((int(start) - 3_000, int(end) + 3_000))
    path = tmp_path_factory.mktemp("genome") / "made_up.2bit"
    rng = np.random.default_rng(5)
    with open(path, "wb") as file:
        file.write(np.array([0x1A412743, 0, len(places), 0], "<u4").tobytes())
        index = file.tell()
        at = index + sum(5 + len(chrom) for chrom in places)
        for chrom, own in places.items():
            length = BUILDS["hg38"].lengths[chrom[3:]]
            known = merged([(max(a, 0), min(b, length)) for a, b in own])
            gaps = list(
                zip([0, *(b for _, b in known)], [*(a for a, _ in known), length], strict=True)
            )
            gaps = [(a, b) for a, b in gaps if b > a]
            head = [length, len(gaps), *(a for a, _ in gaps), *(b - a for a, b in gaps), 0, 0]
            file.seek(index)
            file.write(bytes([len(chrom)]) + chrom.encode() + np.array([at], "<u4").tobytes())
            index = file.tell()
            file.seek(at)
            file.write(np.array(head, "<u4").tobytes())
            first = file.tell()
            for start, end in known:
                file.seek(first + start // 4)
                file.write(rng.integers(0, 256, (end - start) // 4 + 2, np.uint8).tobytes())
            at = first + -(-length // 4)
            file.truncate(max(at, file.seek(0, 2)))
    return path


def merged(places):
    joined: list[tuple[int, int]] = []
    for start, end in sorted(places):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return joined


def test_41_a_real_multiome(multiome, made_up_hg38, dnabert):
    genome = glm.Genome(made_up_hg38)
    assert genome.name == "hg38"
    both = multiome.copy()
    glm.tl.embed(both, dnabert, mod="atac", genome=genome, pooling="mean")
    atac = both["atac"]
    assert atac.var["dnabert_ok"].all()
    assert atac.uns["X_dnabert"]["genome"] == "hg38"
    name = atac.var_names[40]
    chrom, start, end = re.split("[:-]", name)
    tokens, _, _ = dnabert.vocabulary.encode(
        to_codes(genome.fetch(chrom, int(start), int(end))), np.array([0, int(end) - int(start)])
    )
    assert tokens.min() > 4  # all of its bases are known
    found = glm.get.token_embeddings(both, [name], dnabert, mod="atac", genome=genome)[name]
    assert found.bases == genome.fetch(chrom, int(start), int(end))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", glm.GlmWarning)
        glm.tl.aggregate_peaks(both, mod="atac")
    counted = np.asarray(atac.X.sum(axis=1)).ravel() > 0
    np.testing.assert_array_equal(atac.obs["dnabert_peaks_ok"], counted)
    assert not both["rna"].varm


def test_66_the_multiome_says_which_genome_it_is_of(multiome, dnabert, refuses):
    """``genome`` is GRCh38 in its columns; hg19 is told from its chromosomes' lengths."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 4, BUILDS["hg19"].lengths["21"]).astype(np.uint8)
    genome = glm.Genome({"chr21": codes})
    assert genome.name == "hg19"
    atac = multiome["atac"].copy()
    refuses(glm.tl.embed, atac, ValueError, "hg19", "GRCh38", model=dnabert, genome=genome)


@pytest.mark.filterwarnings("ignore::glm.GlmWarning")
def test_promoters_stand_beside_geneformers_genes(multiome, made_up_hg38, dnabert, tmp_path):
    """Both in ``varm`` of the RNA modality: the genome's sequence, and the gene in its cells.

    The annotation knows all genes but the last, at the places where the data have them.
    """
    both = multiome.copy()
    rna = both["rna"]
    rna.var["ensembl_id"] = rna.var["gene_ids"]
    glm.tl.embed(both, "geneformer-tiny", mod="rna", of="genes")
    genes = rna.varm["X_geneformer"].copy()
    lines = []
    for i, (gene, interval) in enumerate(
        zip(rna.var["gene_ids"], rna.var["interval"], strict=True)
    ):
        chrom, start, end = re.split("[:-]", interval)
        about = [chrom, "x", "transcript", str(int(start) + 1), end, ".", "+-"[i % 2], "."]
        lines.append("\t".join([*about, f'gene_id "{gene}"; transcript_id "T{i}";']) + "\n")
    (tmp_path / "genes.gtf").write_text("".join(lines[:-1]))
    glm.pp.add_tss(both, tmp_path / "genes.gtf", mod="rna", upstream_bp=300, downstream_bp=100)
    glm.tl.embed(both, dnabert, mod="rna", genome=made_up_hg38)
    assert {"X_geneformer", "X_dnabert"} <= set(rna.varm)
    np.testing.assert_array_equal(rna.varm["X_geneformer"], genes)
    assert rna.var["dnabert_ok"].tolist() == [True] * 44 + [False]
    assert np.isnan(rna.varm["X_dnabert"][-1]).all()
    record = rna.uns["X_dnabert"]
    assert (record["genome"], record["n_without_region"]) == ("hg38", 1)
    chrom, _, end = re.split("[:-]", rna.var["interval"].iloc[3])
    options = {"mod": "rna", "genome": made_up_hg38}
    found = glm.get.token_embeddings(both, [rna.var_names[3]], dnabert, **options)
    promoter = found[rna.var_names[3]]
    # On the other strand the start site is the interval's last base, and upstream lies above it.
    wanted = glm.Genome(made_up_hg38).fetch(chrom, int(end) - 100, int(end) + 300, strand="-")
    assert promoter.strand == -1
    assert promoter.bases == wanted


# ---- long runs -----------------------------------------------------------------------------------

STARTED = """
import sys
import anndata as ad
import numpy as np
import glm

folder = sys.argv[1]
if __name__ == "__main__":
    glm.settings.progress = False
    adata = ad.read_h5ad(folder + "/peaks.h5ad")
    genome = np.load(folder + "/genome.npy")
    options = {"devices": 2, "strategy": "ddp_spawn", "device": "cpu", "out": folder + "/out"}
    glm.tl.embed(adata, folder + "/model", genome={"chr1": genome}, strand="both", **options)
    np.save(folder + "/spawned.npy", adata.varm["X_dnabert"])
"""


def test_99_processes_started_for_the_call(dnabert, text, tmp_path, monkeypatch):
    """Each reads its own regions of the genome; the bits are those of one process."""
    rng = np.random.default_rng(4)
    places = [(int(a), int(a) + 90) for a in rng.integers(0, 1_900, 60)]
    adata = peaks_at(*places)
    adata.write_h5ad(tmp_path / "peaks.h5ad")
    dnabert.save(tmp_path / "model")
    np.save(tmp_path / "genome.npy", to_codes(text))
    script = tmp_path / "script.py"
    small = "import glm.tl._region_source as s\ns._LEAST_BASES = 900\n"
    script.write_text(STARTED.replace("folder = ", small + "folder = "))
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env=os.environ | {"PYTHONPATH": str(Path(glm.__file__).parents[1])},
    )
    assert done.returncode == 0, done.stderr
    monkeypatch.setattr("glm.tl._region_source._LEAST_BASES", 900)
    glm.tl.embed(adata, dnabert, genome={"chr1": text}, strand="both", device="cpu")
    np.testing.assert_array_equal(np.load(tmp_path / "spawned.npy"), adata.varm["X_dnabert"])


def test_31_32_backed_objects(peaks, dnabert, text, tmp_path, refuses):
    path = tmp_path / "peaks.h5ad"
    peaks.write_h5ad(path)
    genome = {"chr1": text}
    expected = embedded(peaks, dnabert, genome=genome)
    backed = ad.read_h5ad(path, backed="r")
    np.testing.assert_array_equal(embedded(backed, dnabert, genome=genome), expected)
    options = {"model": dnabert, "genome": genome}
    refuses(glm.tl.embed, backed, ValueError, "cannot copy", copy=True, **options)
    said = "is the file that adata is read from"
    refuses(glm.tl.embed, backed, ValueError, said, out=path, **options)
    refuses(glm.tl.embed, backed[:, :2], ValueError, "is a view", **options)
    backed.file.close()
    written = ad.read_h5ad(path, backed="r+")
    refuses(glm.tl.embed, written, ValueError, r"mode 'r\+'", **options)
    written.file.close()


def test_30_a_view(peaks, dnabert, text):
    expected = embedded(peaks.copy(), dnabert, genome={"chr1": text})
    view = peaks[:, [2, 0]]
    np.testing.assert_allclose(
        embedded(view, dnabert, genome={"chr1": text}), expected[[2, 0]], atol=1e-6
    )
    assert not view.is_view
    assert not peaks.varm


# ---- sequence ------------------------------------------------------------------------------------


def test_49_50_beyond_the_chromosome(dna_model, text, refuses):
    """Clipped to what is there, counted; or refused. Never wrapped, never padded into the mean."""
    genome = {"chr1": text}
    adata = peaks_at((-50, 60), (1_950, 2_100), (100, 200), (-80, -10), (2_000, 2_010))
    with pytest.warns(glm.GlmWarning, match=r"2 of 5 .*\(peak3, peak4\): 2 lie beyond their"):
        found = embedded(adata, dna_model, genome=genome)
    expected = embedded(peaks_at((0, 60), (1_950, 2_000), (100, 200)), dna_model, genome=genome)
    np.testing.assert_allclose(found[:3], expected, atol=1e-6)
    assert np.isnan(found[3:]).all()
    assert adata.uns["X_x"]["n_clipped"] == 2
    said = r"4 of 5 \(80%\) regions reach beyond their chromosome \(peak0, peak1, peak3 and 1 more"
    options = {"model": dna_model, "genome": genome, "edges": "raise", "key_added": "y"}
    refuses(glm.tl.embed, adata, ValueError, said, "edges='clip'", **options)


def test_55_unknown_bases(dna_model, text):
    holes = text[:110] + "N" * 10 + text[120:300] + "n" * 200 + text[500:]
    adata = peaks_at((100, 200), (100, 199), (290, 510), (600, 700))
    with pytest.warns(glm.GlmWarning, match=r"2 of 4 .*peak1, peak2\): 2 have over 10% unknown"):
        found = embedded(adata, dna_model, genome={"chr1": holes})
    assert adata.var["x_ok"].tolist() == [True, False, False, True]
    assert np.isnan(found).all(axis=1).tolist() == [False, True, True, False]
    record = adata.uns["X_x"]
    assert record["n_with_unknown_bases"] == 1
    found = embedded(adata, dna_model, genome={"chr1": holes}, max_n_share=1)
    assert np.isfinite(found).all()
    assert adata.uns["X_x"]["n_with_unknown_bases"] == 3
    with pytest.warns(glm.GlmWarning, match="3 of 4"):
        embedded(adata, dna_model, genome={"chr1": holes}, max_n_share=0)


def test_58_both_strands_weigh_the_same(dna_model, text):
    """Also where they have different numbers of tokens, as byte pairs do, and of pieces."""
    places = ((100, 150), (400, 700), (30, 45), (1_200, 1_900))
    read = {}
    for sign in "+-":
        adata = peaks_at(*places, strand=sign)
        for pooling in ("mean", "cls"):
            read[sign, pooling] = embedded(adata, dna_model, genome={"chr1": text}, pooling=pooling)
    assert not np.allclose(read["+", "mean"], read["-", "mean"])
    turned = to_text(reverse_complement(to_codes(text)))
    mirrored = peaks_at(*((2_000 - b, 2_000 - a) for a, b in places))
    for pooling in ("mean", "cls"):
        wanted = (read["+", pooling] + read["-", pooling]) / 2
        for sign in "+-.":
            adata = peaks_at(*places, strand=sign)
            options = {"genome": {"chr1": text}, "pooling": pooling, "strand": "both"}
            found = embedded(adata, dna_model, **options)
            np.testing.assert_allclose(found, wanted, atol=1e-5)
        options["genome"] = {"chr1": turned}
        np.testing.assert_allclose(embedded(mirrored, dna_model, **options), wanted, atol=1e-5)


def test_60_lengths_around_a_token_and_the_context(make_dna_model, text):
    """1, k - 1, k, and context - 1 to context + 1 tokens, each as if it were alone."""
    model = make_dna_model(k=4)
    read = model.vocabulary.n_tokens_read
    lengths = [1, 3, 4, 5, *(read + 3 + extra for extra in (-1, 0, 1, 2)), 127, 128, 129]
    adata = peaks_at(*((50, 50 + n) for n in lengths))
    with pytest.warns(glm.GlmWarning, match=r"2 of 11 .*2 are shorter than a token \(4 bases\)"):
        found = embedded(adata, model, genome={"chr1": text}, pooling="mean")
    assert adata.var["x_ok"].tolist() == [False, False, *[True] * 9]
    record = adata.uns["X_x"]
    assert record["n_in_pieces"] == sum(n - 3 > read for n in lengths)
    assert record["n_tokens"] == sum(n - 3 for n in lengths[2:])
    for row in range(2, 11):
        alone = embedded(
            peaks_at((50, 50 + lengths[row])), model, genome={"chr1": text}, pooling="mean"
        )
        np.testing.assert_allclose(found[row], alone[0], atol=1e-5)


def test_61_nothing_is_cut_off_and_tails_are_told(make_dna_model, text):
    """A region of any length is read to its last base; of k-mers side by side the rest is told."""
    import dataclasses

    model = make_dna_model(k=3)
    adata = peaks_at((0, 2_000))
    embedded(adata, model, genome={"chr1": text})
    assert adata.uns["X_x"]["n_tokens"] == 1_998
    assert adata.uns["X_x"]["n_bases_in_no_token"] == 0
    spaced = glm.models.KmerVocabulary(3, 3, context=32)
    model = dataclasses.replace(model, vocabulary=spaced)
    embedded(adata, model, genome={"chr1": text})
    assert adata.uns["X_x"]["n_bases_in_no_token"] == 2
    changed = text[:1_990] + ("A" if text[1_990] != "A" else "C") + text[1_991:]
    one = embedded(adata, model, genome={"chr1": text})
    assert not np.array_equal(embedded(adata, model, genome={"chr1": changed}), one)


def test_62_97_one_by_one_and_all_together(dna_model, text):
    """Unequal lengths in one batch, a batch each, and in every order: within 1e-5."""
    rng = np.random.default_rng(0)
    starts = rng.integers(0, 1_700, 64)
    places = [(int(a), int(a + n)) for a, n in zip(starts, rng.integers(5, 300, 64), strict=True)]
    genome = {"chr1": text}
    together = embedded(peaks_at(*places), dna_model, genome=genome, token_budget=100_000)
    apart = embedded(peaks_at(*places), dna_model, genome=genome, token_budget=1)
    scale = abs(together).max()
    np.testing.assert_allclose(apart, together, atol=1e-5 * scale)
    alone = np.concatenate([embedded(peaks_at(p), dna_model, genome=genome) for p in places[:8]])
    np.testing.assert_allclose(alone, together[:8], atol=1e-5 * scale)
    order = rng.permutation(64)
    turned = embedded(peaks_at(*(places[i] for i in order)), dna_model, genome=genome)
    np.testing.assert_allclose(turned, together[order], atol=1e-5 * scale)


def test_a_chromosome_that_is_not_there(peaks, dnabert, text, refuses):
    said = refuses(
        glm.tl.embed, peaks, ValueError, "chr1", "chr2", model=dnabert, genome={"chr2": text}
    )
    assert "chr1" in str(said)


def test_refusals_leave_no_trace(peaks, dnabert, text, refuses):
    genome = {"chr1": text}
    for options, said in (
        ({}, "genome="),
        ({"genome": genome, "pooling": "max"}, "pooling is 'max'"),
        ({"genome": genome, "hidden_layer": 17}, "hidden_layer is 17"),
        ({"genome": genome, "device": "cuda:9"}, "cuda"),
        ({"genome": genome, "token_budget": 0.5}, "token_budget is 0.5"),
        ({"genome": "no such file.2bit"}, "no such file"),
    ):
        errors = OSError if "no such" in said else ValueError
        refuses(glm.tl.embed, peaks, errors, said, model=dnabert, **options)


def test_78_consent_is_asked_for_before_a_genome_is_fetched(peaks, tmp_path, refuses):
    """Not 800 MB of a genome first, and the question afterwards."""
    with glm.settings.override(data_dir=tmp_path, mirror=None, offline=True):
        for model, said in (("dnabert-6", "allow_unpinned=True"), ("grover", "tokenizer.json")):
            refuses(glm.tl.embed, peaks, OSError, said, "GLM_MIRROR", model=model, genome="hg38")
        with pytest.raises(OSError, match="allow_unpinned=True"):
            glm.get.token_embeddings(peaks, peaks.var_names[:1], "dnabert-6", genome="hg38")
        refuses(glm.tl.embed, peaks, OSError, r"hg38\.2bit", model="dnabert-tiny", genome="hg38")


def test_cells_and_regions_in_each_others_place(peaks, dnabert, text, refuses):
    """The message says what the model reads."""
    wanted = (f"{dnabert.spec.name} reads regions of DNA", "No regions were found")
    cells = glm.datasets.toy_cells(n_cells=5)
    refuses(glm.tl.embed, cells, ValueError, *wanted, model=dnabert, genome={"chr1": text})
    wanted = ("are regions of a genome", "a model of DNA, such as dnabert-6")
    commas = peaks.copy()
    commas.var_names = [f"chr1:{1000 * i:,}-{1000 * i + 300:,}" for i in range(peaks.n_vars)]
    plain = peaks.copy()
    plain.var_names = [name.replace(",", "") for name in commas.var_names]
    for adata in (plain, commas):
        refuses(glm.tl.embed, adata, ValueError, *wanted, model="geneformer-tiny")
