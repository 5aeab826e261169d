"""``glm.tl.embed`` of regions, against sequences cut by hand and the plain encoder."""

from __future__ import annotations

import dataclasses
import warnings
from multiprocessing.reduction import ForkingPickler

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import glm
from glm.bases import reverse_complement, to_codes
from glm.engine import Runner
from glm.models.reads import gene_vocabulary
from glm.tl import _region_source
from glm.tl._pieces import cut, n_pieces
from glm.tl._region_source import RegionSource

CHR1, CHR2 = 3_000, 400


@pytest.fixture(scope="module")
def sequences():
    rng = np.random.default_rng(7)
    texts = {
        name: "".join(rng.choice(list("ACGT"), n)) for name, n in (("chr1", CHR1), ("chr2", CHR2))
    }
    texts["chr2"] = texts["chr2"][:250] + "N" * 50 + texts["chr2"][300:]
    return texts


@pytest.fixture(scope="module", params=["dnabert", "grover"])
def model(request, make_dna_model):
    return make_dna_model(request.param)


@pytest.fixture(scope="module")
def dnabert(make_dna_model):
    return make_dna_model()


def peaks_at(names, strand=None, n_cells=3):
    """An object with regions as its variables, of no counts to speak of."""
    places = [name.replace(":", "-").split("-") for name in names]
    var = pd.DataFrame(index=names)
    var["chrom"] = [place[0] for place in places]
    var["start"] = [int(place[1]) for place in places]
    var["end"] = [int(place[2]) for place in places]
    if strand is not None:
        var["strand"] = list(strand)
    return ad.AnnData(np.ones((n_cells, len(names)), np.float32), var=var)


NAMES = ("chr1:400-420", "chr1:1000-1300", "chr2:0-150", "chr1:120-127", "chr1:2990-3000")


# ---- what a region's vector is, in plain steps ---------------------------------------------------


def tokens_of(vocabulary, text, start, end, strand=1):
    """Tokens and spans of a stretch of a chromosome, flank read and trimmed one token at a time."""
    low, high = max(start - vocabulary.flank_bp, 0), min(end + vocabulary.flank_bp, len(text))
    codes, left = to_codes(text[low:high]), start - low
    if strand < 0:
        codes, left = reverse_complement(codes), high - end
    tokens, _, spans = vocabulary.encode(codes, np.array([0, codes.size]))
    kept = [
        (int(token), max(a - left, 0), min(b - left, end - start))
        for token, (a, b) in zip(tokens, spans.tolist(), strict=True)
        if b > left and a < left + end - start
    ]
    return [token for token, _, _ in kept], [(a, b) for _, a, b in kept]


def hidden(model, tokens):
    special = model.vocabulary.special
    framed = torch.tensor([[special["cls"], *tokens, special["eos"]]])
    with torch.no_grad():
        return model.encoder(framed)[0].numpy()


def read_out(model, tokens):
    """Of every token the state of the piece in which it has most context; of every piece the first
    vector and the tokens it is read for."""
    n, longest = len(tokens), model.vocabulary.n_tokens_read
    number = 1 if n <= longest else 1 + -(-(n - longest) // (longest // 2))
    starts = [i * (n - longest) // (number - 1) if number > 1 else 0 for i in range(number)]
    states = [hidden(model, tokens[a : a + longest]) for a in starts]

    def context(token, piece):
        return min(token - starts[piece], starts[piece] + longest - 1 - token)

    owner = [max(range(number), key=lambda p, t=t: (context(t, p), p)) for t in range(n)]
    each = np.array([states[p][1 + t - starts[p]] for t, p in enumerate(owner)])
    return each, [state[0] for state in states], owner


def expected(model, text, start, end, strand=1, pooling="mean"):
    tokens, spans = tokens_of(model.vocabulary, text, start, end, strand)
    each, firsts, owner = read_out(model, tokens)
    if pooling == "mean":
        return each.mean(axis=0)
    covered = []
    for piece in range(len(firsts)):
        own = [spans[t] for t in range(len(tokens)) if owner[t] == piece]
        covered.append(own[-1][1] - own[0][0])
    return np.average(firsts, axis=0, weights=covered)


def place(name):
    chrom, start, end = name.replace(":", "-").split("-")
    return chrom, int(start), int(end)


# ---- cutting -------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(0, 90), max_size=6), st.integers(1, 17))
def test_every_token_is_read_once_where_it_has_most_context(n_tokens, longest):
    pieces = cut(np.array(n_tokens, np.int64), longest)
    number = n_pieces(np.array(n_tokens, np.int64), longest)
    assert pieces.sentence.tolist() == np.repeat(np.arange(len(n_tokens)), number).tolist()
    for sentence, n in enumerate(n_tokens):
        here = np.flatnonzero(pieces.sentence == sentence)
        starts, lengths, own = (part[here] for part in pieces[1:])
        read = [t for low, high in own.tolist() for t in range(low, high)]
        assert read == list(range(n))
        assert (lengths == min(n, longest)).all()
        if not n:
            continue
        assert starts[0] == 0
        assert starts[-1] + lengths[-1] == n
        assert (np.diff(starts) <= max(longest // 2, 1)).all()
        for (low, high), start in zip(own.tolist(), starts.tolist(), strict=True):
            assert start <= low
            assert high <= start + longest
            for token in range(low, high):
                context = np.minimum(token - starts, starts + longest - 1 - token)
                assert min(token - start, start + longest - 1 - token) == context.max()


# ---- values --------------------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_against_plain_steps(model, sequences, pooling):
    adata = peaks_at(NAMES)
    glm.tl.embed(adata, model, genome=sequences, pooling=pooling)
    key = model.spec.system
    found = adata.varm[f"X_{key}"]
    assert found.dtype == np.float32
    assert adata.var[f"{key}_ok"].all()
    for row, name in enumerate(NAMES):
        chrom, start, end = place(name)
        wanted = expected(model, sequences[chrom], start, end, pooling=pooling)
        np.testing.assert_allclose(found[row], wanted, atol=2e-5, err_msg=name)


def test_a_region_reads_its_own_strand(model, sequences):
    names = [*NAMES[:3], *(f"{name[:-1]}{int(name[-1]) + 1}" for name in NAMES[:3])]
    adata = peaks_at(names, strand="-.+-+-")
    glm.tl.embed(adata, model, genome=sequences, pooling="mean")
    for row, (name, sign) in enumerate(zip(names, [-1, 1, 1, -1, 1, -1], strict=True)):
        chrom, start, end = place(name)
        wanted = expected(model, sequences[chrom], start, end, sign)
        found = adata.varm[f"X_{model.spec.system}"][row]
        np.testing.assert_allclose(found, wanted, atol=2e-5, err_msg=name)
    glm.tl.embed(adata, model, genome=sequences, pooling="mean", strand="+")
    wanted = expected(model, sequences["chr1"], 400, 420)
    np.testing.assert_allclose(adata.varm[f"X_{model.spec.system}"][0], wanted, atol=2e-5)


def test_hidden_layer_and_the_authors_own_reading(dnabert, sequences):
    adata = peaks_at(NAMES)
    glm.tl.embed(adata, dnabert, genome=sequences)
    assert adata.uns["X_dnabert"]["pooling"] == "cls"
    assert adata.uns["X_dnabert"]["hidden_layer"] == "last"
    glm.tl.embed(adata, dnabert, genome=sequences, hidden_layer=0, key_added="zero", pooling="mean")
    assert adata.uns["X_zero"]["n_layers_run"] == 0
    assert not np.allclose(adata.varm["X_zero"], adata.varm["X_dnabert"])


def test_tokens_side_by_side(make_dna_model, sequences):
    model = make_dna_model(k=3)
    vocabulary = glm.models.KmerVocabulary(3, 3, context=32)
    spaced = dataclasses.replace(model, vocabulary=vocabulary)
    adata = peaks_at(["chr1:10-31", "chr1:10-33", "chr1:10-500"])
    glm.tl.embed(adata, spaced, genome=sequences, pooling="mean")
    for row, end in enumerate((31, 33, 500)):
        wanted = expected(spaced, sequences["chr1"], 10, end)
        np.testing.assert_allclose(adata.varm["X_dnabert"][row], wanted, atol=2e-5)
    assert adata.uns["X_dnabert"]["n_bases_in_no_token"] == 0 + 2 + 1  # 21, 23 and 490 bases


def test_sequence_from_a_file_and_in_memory_is_the_same(dnabert, sequences, tmp_path, write_fasta):
    adata = peaks_at(NAMES)
    glm.tl.embed(adata, dnabert, genome=sequences)
    path = write_fasta(tmp_path / "own.fa", sequences)
    glm.tl.embed(adata, dnabert, genome=path, key_added="file")
    np.testing.assert_array_equal(adata.varm["X_file"], adata.varm["X_dnabert"])
    assert adata.uns["X_file"]["genome_source"] == str(path)


# ---- rows that cannot be read --------------------------------------------------------------------


def test_unusable_rows_are_flagged_and_told_of_once(dnabert, sequences):
    names = ["chr1:50-90", "chr1:10-12", "chr2:240-300", "chr1:3100-3200", "no region"]
    adata = peaks_at([*names[:4], "chr1:0-5"])
    adata.var_names = names
    adata.var.loc["no region", "chrom"] = None
    adata.var["start"] = adata.var["start"].astype("Int64")
    adata.var["end"] = adata.var["end"].astype("Int64")
    adata.var.loc["no region", ["start", "end"]] = pd.NA
    with pytest.warns(glm.GlmWarning) as told:
        glm.tl.embed(adata, dnabert, genome=sequences, pooling="mean")
    (message,) = (str(w.message) for w in told)
    assert message.startswith("4 of 5 (80%) regions could not be embedded and are NaN (chr1:10-12,")
    for why in (
        "1 have no region",
        "1 lie beyond their chromosome",
        "1 have over 10% unknown bases",
        "1 are shorter than a token (3 bases)",
        "adata[:, adata.var['dnabert_ok']]",
    ):
        assert why in message
    assert adata.var["dnabert_ok"].tolist() == [True, False, False, False, False]
    assert np.isnan(adata.varm["X_dnabert"][1:]).all()
    np.testing.assert_allclose(
        adata.varm["X_dnabert"][0], expected(dnabert, sequences["chr1"], 50, 90), atol=2e-5
    )
    record = adata.uns["X_dnabert"]
    assert record["n_regions_unusable"] == 4
    assert record["n_rows"] == 5
    assert record["n_regions"] == 4
    assert [record[f"n_{name}"] for name in ("without_region", "too_short")] == [1, 1]
    assert [record[f"n_{name}"] for name in ("unknown_bases", "beyond_chromosome")] == [1, 1]


def test_none_readable(dnabert, sequences):
    adata = peaks_at(["chr1:10-12", "chr2:250-300"])
    with pytest.raises(ValueError, match=r"None of 2 regions can be read: .*sequences in memory"):
        glm.tl.embed(adata, dnabert, genome=sequences)
    assert not adata.varm
    assert not adata.uns


# ---- how it is run -------------------------------------------------------------------------------


@pytest.fixture
def many(sequences):
    rng = np.random.default_rng(3)
    start = rng.integers(0, CHR1 - 200, 40)
    return peaks_at([f"chr1:{a}-{a + rng.integers(8, 190)}" for a in start])


@pytest.fixture
def small_blocks(monkeypatch):
    """Some ten blocks, so that there are shards to speak of."""
    monkeypatch.setattr(_region_source, "_LEAST_BASES", 400)
    monkeypatch.setattr(_region_source, "_BLOCKS", 10)


def test_blocks_change_nothing(model, many, sequences, monkeypatch):
    source = _source(model, many, sequences)
    assert source.n_blocks == 1
    glm.tl.embed(many, model, genome=sequences, key_added="one")
    monkeypatch.setattr(_region_source, "_LEAST_BASES", 400)
    monkeypatch.setattr(_region_source, "_BLOCKS", 10)
    assert 8 < _source(model, many, sequences).n_blocks <= 11
    glm.tl.embed(many, model, genome=sequences, key_added="ten")
    np.testing.assert_allclose(many.varm["X_ten"], many.varm["X_one"], atol=2e-5)


def sent(thing):
    """As another process gets it."""
    return ForkingPickler.loads(ForkingPickler.dumps(thing))


def _source(model, adata, sequences, **options):
    var = adata.var
    regions = glm.Regions.of(var["chrom"], var["start"], var["end"])
    rows = np.arange(len(regions))
    return RegionSource(
        regions,
        rows,
        len(regions),
        genome=glm.Genome(sequences),
        vocabulary=model.vocabulary,
        **options,
    )


@pytest.mark.parametrize("strand", ["own", "both"])
def test_a_source_says_beforehand_what_it_gives(model, many, sequences, small_blocks, strand):
    source = _source(model, many, sequences, strand=strand)
    again = sent(source)
    assert again.facts() == source.facts()
    rows = []
    for block in range(source.n_blocks):
        items = source.block(block)
        assert source.n_items(block) == len(items)
        np.testing.assert_array_equal(source.lengths(block), items.lengths)
        for name, value in vars(again.block(block)).items():
            np.testing.assert_array_equal(value, getattr(items, name))
        assert (items.lengths <= model.vocabulary.context).all()
        assert (items.span[:, 0] >= 1).all()
        assert (items.span[:, 1] < items.lengths).all()
        rows += items.row.tolist()
        pairs = list(zip(items.row.tolist(), items.part.tolist(), strict=True))
        assert len(set(pairs)) == len(pairs)
    assert sorted(set(rows)) == list(range(many.n_vars))


def test_the_same_regions_in_other_rows_are_another_run(dnabert, sequences):
    regions = glm.Regions.of(["chr1", "chr1"], [0, 50], [40, 90])
    genome = glm.Genome(sequences)
    facts = [
        RegionSource(
            regions, np.array(rows), 3, genome=genome, vocabulary=dnabert.vocabulary
        ).facts()
        for rows in ([0, 1], [0, 2])
    ]
    assert facts[0]["regions"] != facts[1]["regions"]


def test_what_is_recorded(dnabert, many, sequences):
    glm.tl.embed(many, dnabert, genome=glm.Genome(sequences, name="made up"), strand="both")
    record = many.uns["X_dnabert"]
    assert record["genome"] == "made up"
    assert record["genome_fingerprint"] == glm.Genome(sequences).fingerprint()
    assert record["strand"] == "both"
    assert record["flank_bp"] == 0
    assert record["slots"] == ["varm/X_dnabert", "var/dnabert_ok"]
    lengths = many.var["end"] - many.var["start"]
    assert record["n_bases"] == lengths.sum()
    assert record["n_tokens"] == 2 * (lengths - 2).sum()
    assert record["n_in_pieces"] == (lengths - 2 > 30).sum()


def test_regions_of_obs_and_a_copy(dnabert, many, sequences):
    glm.tl.embed(many, dnabert, genome=sequences)
    turned = ad.AnnData(obs=many.var.drop(columns="dnabert_ok"))
    copied = glm.tl.embed(turned, dnabert, genome=sequences, copy=True)
    assert not turned.obsm
    np.testing.assert_array_equal(copied.obsm["X_dnabert"], many.varm["X_dnabert"])
    assert copied.obs["dnabert_ok"].all()


def test_a_plan_writes_nothing(dnabert, many, sequences):
    plan = glm.tl.embed(many, dnabert, genome=sequences, dry_run=True)
    assert not many.varm
    assert not many.uns
    lengths = (many.var["end"] - many.var["start"] - 2).to_numpy()
    pieces = cut(lengths, 30)
    assert plan.n_rows == plan.n_rows_usable == 40
    assert plan.n_rows_truncated == 0
    assert plan.n_tokens == pieces.length.sum() + 2 * pieces.length.size
    assert plan.result_bytes == 4 * 40 * 16


def test_interrupted_and_gone_on_with(
    dnabert, many, sequences, small_blocks, tmp_path, monkeypatch
):
    options = {"genome": sequences, "token_budget": 90, "device": "cpu"}
    glm.tl.embed(many, dnabert, **options)
    wanted = many.varm["X_dnabert"].copy()
    fits, done = Runner._fits, []

    def counted(self, batch, reducer):
        if len(done) % 7 == 6:
            done.append(0)
            raise KeyboardInterrupt
        done.append(1)
        return fits(self, batch, reducer)

    monkeypatch.setattr(Runner, "_fits", counted)
    stops = 0
    while True:
        try:
            glm.tl.embed(many, dnabert, out=tmp_path / "out", key_added="out", **options)
            break
        except KeyboardInterrupt:
            stops += 1
            assert "X_out" not in many.varm
    assert stops > 3
    np.testing.assert_array_equal(many.varm["X_out"], wanted)
    assert isinstance(many.varm["X_out"].base, np.memmap)
    with pytest.raises(ValueError, match="strand"):
        glm.tl.embed(many, dnabert, out=tmp_path / "out", key_added="o", strand="both", **options)
    with pytest.raises(ValueError, match="max_n_share is"):
        glm.tl.embed(many, dnabert, out=tmp_path / "out", key_added="o", max_n_share=0.5, **options)
    turned = many.copy()
    turned.var["strand"] = ["-"] + ["+"] * 39
    with pytest.raises(ValueError, match="regions is"):
        glm.tl.embed(turned, dnabert, out=tmp_path / "out", key_added="o", **options)
    other = sequences | {"chr1": sequences["chr1"][::-1]}
    options["genome"] = other
    with pytest.raises(ValueError, match="genome"):
        glm.tl.embed(many, dnabert, out=tmp_path / "out", key_added="o", **options)


def test_each_process_makes_its_own_shards(dnabert, many, sequences, small_blocks):
    """As several devices do: every so-manieth shard by a source that was sent there."""
    from glm.engine import ArraySink, PoolRows, cut, gather, make_plan
    from glm.tl._job_kinds import Job

    source = _source(dnabert, many, sequences, pooling="mean")
    job = Job(source, dnabert, make_plan("cpu"), 3)
    sink = ArraySink(40, 16)
    reducer = PoolRows("mean", sink)
    states = {}
    for rank in range(3):
        here = sent(job.source)
        for shard in cut(here, reducer)[rank::3]:
            reducer.start()
            for block in shard.blocks:
                job.runner(lambda n: None).run(here.block(block), reducer, block=block)
            states[shard.number] = reducer.state()
    gather([states[i] for i in sorted(states)], reducer)
    glm.tl.embed(many, dnabert, genome=sequences, pooling="mean", device="cpu")
    np.testing.assert_array_equal(sink.array, many.varm["X_dnabert"])


# ---- what belongs to whom ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("layer", "counts"),
        ("groupby", "kind"),
        ("use_raw", True),
        ("gene_ids", "ids"),
        ("log_normalized", True),
        ("of", "genes"),
    ],
)
def test_options_of_cells_are_refused(dnabert, many, sequences, option, value):
    with pytest.raises(TypeError, match=rf"small-dnabert reads DNA: {option} is for models"):
        glm.tl.embed(many, dnabert, genome=sequences, **{option: value})


@pytest.mark.parametrize(
    "options",
    [
        {"genome": {"chr1": "ACGT"}},
        {"axis": "var"},
        {"strand": "both"},
        {"max_n_share": 0.5},
        {"edges": "raise"},
        {"of": "regions"},
    ],
)
def test_options_of_regions_are_refused(make_model, make_cells, options):
    model = make_model()
    adata = make_cells(gene_vocabulary(model))
    with pytest.raises(TypeError, match=rf"reads cells: {next(iter(options))} is for models"):
        glm.tl.embed(adata, model, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strand": "-"}, "strand is '-'; expected 'own', 'both'"),
        ({"edges": "pad"}, "edges is 'pad'; expected 'clip'"),
        ({"max_n_share": 2}, "max_n_share is 2; expected 0 to 1"),
        ({"max_n_share": "a"}, "max_n_share is 'a'"),
        ({"pooling": "max"}, "pooling is 'max'"),
        ({"hidden_layer": 9}, "hidden_layer is 9"),
    ],
)
def test_values_that_are_none(dnabert, many, sequences, options, message):
    with pytest.raises(ValueError, match=message):
        glm.tl.embed(many, dnabert, genome=sequences, **options)


def test_no_genome_is_assumed(dnabert, many):
    with pytest.raises(ValueError, match=r"small-dnabert reads DNA: .*genome=, .*'hg19'"):
        glm.tl.embed(many, dnabert)


def test_systems_by_name(make_dna_model, many, sequences):
    for system, verb in (("dnabert", glm.tl.embed_dnabert), ("grover", glm.tl.embed_grover)):
        model = make_dna_model(system)
        verb(many, model, genome=sequences)
        other = glm.tl.embed_grover if system == "dnabert" else glm.tl.embed_dnabert
        with pytest.raises(ValueError, match=f"is a model of {system}"):
            other(many, model, genome=sequences)
        with pytest.raises(ValueError, match=f"is a model of {system}"):
            glm.tl.embed_geneformer(many, model)
        assert f"X_{system}" in many.varm


def test_no_table_and_no_file(dnabert, many, sequences):
    with pytest.raises(TypeError, match=r"DataFrame, expected an AnnData or a MuData.*set_regions"):
        glm.tl.embed(many.var, dnabert, genome=sequences)


def test_another_models_result_is_kept(dnabert, make_dna_model, many, sequences):
    glm.tl.embed(many, dnabert, genome=sequences)
    before = many.varm["X_dnabert"].copy()
    with pytest.raises(ValueError, match=r"adata.varm\['X_dnabert'\] already holds"):
        glm.tl.embed(many, make_dna_model("grover"), genome=sequences, key_added="dnabert")
    np.testing.assert_array_equal(many.varm["X_dnabert"], before)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        glm.tl.embed(many, dnabert, genome=sequences)  # the same again
    glm.tl.embed(
        many, make_dna_model("grover"), genome=sequences, key_added="dnabert", overwrite=True
    )
    assert many.uns["X_dnabert"]["model"] == "small-grover"
