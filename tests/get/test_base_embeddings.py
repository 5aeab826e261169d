"""Vectors of single bases, against tokens and the bases they cover."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest

import glm
from glm.bases import reverse_complement, to_codes, to_text
from glm.get._base_embeddings import per_base

NAMES = ("chr1:300-320", "chr1:500-700", "chr1:2-9")


@pytest.fixture(autouse=True)
def _quiet():
    with glm.settings.override(progress=False):
        yield


@pytest.fixture(scope="module")
def sequences():
    return {"chr1": "".join(np.random.default_rng(1).choice(list("ACGT"), 900))}


@pytest.fixture(scope="module", params=["dnabert", "grover"])
def model(request, make_dna_model):
    return make_dna_model(request.param)


@pytest.fixture
def peaks():
    adata = ad.AnnData(np.ones((2, 3), np.float32))
    adata.var_names = list(NAMES)
    return adata


def place(name):
    start, end = name.partition(":")[2].split("-")
    return int(start), int(end)


def sign(adata, signs):
    adata.var["chrom"] = "chr1"
    adata.var["start"], adata.var["end"] = zip(*map(place, adata.var_names), strict=True)
    adata.var["strand"] = list(signs)


def test_per_base_by_hand():
    vectors = np.array([[1.0], [3.0], [8.0]], np.float32)
    overlapping = np.array([[0, 2], [1, 3], [2, 4]])
    assert per_base(vectors, overlapping, 5)[:, 0].tolist()[:4] == [1, 2, 5.5, 8]
    assert np.isnan(per_base(vectors, overlapping, 5)[4, 0])
    beside = np.array([[0, 3], [3, 4], [4, 6]])
    assert per_base(vectors, beside, 6)[:, 0].tolist() == [1, 1, 1, 3, 8, 8]
    assert per_base(vectors[:0], beside[:0], 2).shape == (2, 1)


def test_their_weighted_mean_is_the_regions(model, peaks, sequences):
    """Every token counts for as many bases as it covers, so the sums over bases are those over
    tokens; of k-mers each base shares the vectors of those that cover it."""
    glm.tl.embed(peaks, model, genome=sequences, pooling="mean", key_added="x")
    found = glm.get.token_embeddings(peaks, NAMES, model, genome=sequences)
    assert list(found) == list(NAMES)
    for row, (name, bases) in enumerate(found.items()):
        start, end = place(name)
        assert isinstance(bases, glm.get.BaseEmbeddings)
        assert bases.chrom == "chr1"
        assert bases.positions.tolist() == list(range(start, end))
        assert bases.bases == sequences["chr1"][start:end]
        assert bases.vectors.shape == (end - start, 16)
        assert bases.vectors.dtype == np.float32
        if model.spec.system == "dnabert":
            n = end - start
            covering = np.minimum(np.minimum(np.arange(1, n + 1), np.arange(n, 0, -1)), 3)
            covering = np.minimum(covering, n - 2)
            mean = (bases.vectors * covering[:, None]).sum(axis=0) / (3 * (n - 2))
            np.testing.assert_allclose(mean, peaks.varm["X_x"][row], atol=2e-5)


def test_byte_pairs_give_each_base_its_tokens_vector(make_dna_model, peaks, sequences):
    model = make_dna_model("grover")
    (found,) = glm.get.token_embeddings(peaks, NAMES[:1], model, genome=sequences).values()
    codes = to_codes(sequences["chr1"][200:420])
    tokens, _, spans = model.vocabulary.encode(codes, np.array([0, codes.size]))
    changes = {int(a) - 100 for a, b in spans if 100 < a < 120}
    same = (found.vectors[1:] == found.vectors[:-1]).all(axis=1)
    assert set(np.flatnonzero(~same) + 1) == changes
    assert tokens.size > 10


def test_the_other_strand(model, peaks, sequences):
    sign(peaks, "-+.")
    found = glm.get.token_embeddings(peaks, NAMES[:2], model, genome=sequences)
    turned = to_text(reverse_complement(to_codes(sequences["chr1"])))
    other = ad.AnnData(np.ones((1, 1), np.float32))
    other.var_names = ["chr1:580-600"]  # 900 - 320 to 900 - 300
    wanted = glm.get.token_embeddings(other, ["chr1:580-600"], model, genome={"chr1": turned})
    one, same = found[NAMES[0]], wanted["chr1:580-600"]
    assert one.strand == -1
    assert one.positions.tolist() == list(range(319, 299, -1))
    assert one.bases == same.bases
    np.testing.assert_allclose(one.vectors, same.vectors, atol=1e-5)
    assert found[NAMES[1]].strand == 1


def test_58_both_strands_are_averaged_base_by_base(model, peaks, sequences):
    """The other strand's bases are put into the order of the own ones first."""
    read = {}
    for signs in ("+++", "---"):
        sign(peaks, signs)
        read[signs[0]] = glm.get.token_embeddings(peaks, NAMES, model, genome=sequences)
    both = glm.get.token_embeddings(peaks, NAMES, model, genome=sequences, strand="both")
    for name in NAMES:
        wanted = (read["-"][name].vectors + read["+"][name].vectors[::-1]) / 2
        np.testing.assert_allclose(both[name].vectors, wanted, atol=1e-5)
        assert both[name].strand == -1


def test_layers_tables_and_devices(model, peaks, sequences):
    (last,) = glm.get.token_embeddings(peaks, NAMES[:1], model, genome=sequences).values()
    (zero,) = glm.get.token_embeddings(
        peaks, NAMES[:1], model, genome=sequences, hidden_layer=0, device="cpu", token_budget=5
    ).values()
    assert not np.allclose(last.vectors, zero.vectors)
    frame = last.to_frame()
    assert frame.shape == (20, 16)
    assert frame.index.names == ["position", "base"]
    assert frame.index[0] == (300, sequences["chr1"][300])
    assert repr(last) == "BaseEmbeddings(20 bases × 16: chr1:300-320, +)"
    assert len(last) == 20


def test_unknown_bases_and_ends(make_dna_model, sequences):
    model = make_dna_model()
    text = sequences["chr1"][:50] + "N" * 30
    peaks = ad.AnnData(np.ones((1, 3), np.float32))
    peaks.var_names = ["chr1:40-90", "chr1:1-3", "chr1:0-9"]
    with pytest.warns(glm.GlmWarning, match=r"1 of 2 \(50%\) regions have no bases.*chr1:1-3"):
        found = glm.get.token_embeddings(
            peaks, ["chr1:40-90", "chr1:1-3"], model, genome={"chr1": text}
        )
    assert found["chr1:40-90"].bases == text[40:]
    assert np.isfinite(found["chr1:40-90"].vectors).all()
    assert found["chr1:1-3"].vectors.shape == (0, 16)
    assert repr(found["chr1:1-3"]) == "BaseEmbeddings(no bases × 16)"


def test_side_by_side_leaves_a_tail(make_dna_model, peaks, sequences):
    import dataclasses

    spaced = glm.models.KmerVocabulary(3, 3, context=32)
    model = dataclasses.replace(make_dna_model(), vocabulary=spaced)
    (found,) = glm.get.token_embeddings(peaks, NAMES[:1], model, genome=sequences).values()
    assert np.isnan(found.vectors).any(axis=1).tolist() == [False] * 18 + [True] * 2
    (both,) = glm.get.token_embeddings(
        peaks, NAMES[:1], model, genome=sequences, strand="both"
    ).values()
    assert np.isfinite(both.vectors).all()


@pytest.mark.parametrize(
    ("names", "options", "error", "message"),
    [
        ("chr1:2-9", {}, TypeError, "expected a list of names"),
        ([], {}, ValueError, "No region was named"),
        (["chr9:1-2"], {}, KeyError, r"1 of 1 .*not in adata.var_names \(chr9:1-2\)"),
        (NAMES, {"genome": None}, ValueError, "reads DNA: .*genome="),
        (NAMES, {"layer": "counts"}, TypeError, "reads DNA: layer is for models"),
        (NAMES, {"strand": "x"}, ValueError, "strand is 'x'"),
    ],
)
def test_refused(make_dna_model, peaks, sequences, names, options, error, message):
    with pytest.raises(error, match=message):
        glm.get.token_embeddings(peaks, names, make_dna_model(), **{"genome": sequences, **options})


def test_cells_take_no_genome(make_model, make_cells, sequences):
    model = make_model()
    adata = make_cells(model.vocabulary)
    with pytest.raises(TypeError, match="reads cells: genome is for models that read DNA"):
        glm.get.token_embeddings(adata, ["cell0"], model, genome=sequences)
