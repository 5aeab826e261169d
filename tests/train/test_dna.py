"""Pieces of DNA to train on, and models of DNA that learn from them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import glm
from glm.bases import to_codes
from glm.models import KmerVocabulary, Model, PairVocabulary
from glm.train import (
    Classification,
    KmerSpans,
    MaskedTokens,
    Recipe,
    Sentences,
    dna_sentences,
    fit,
    recipe,
)
from glm.train.dna import known_stretches


def dna(n: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4, n).astype(np.uint8)


@pytest.fixture(params=["6-mers", "side by side", "pairs"])
def vocabulary(request: pytest.FixtureRequest, made_up_merges):
    if request.param == "pairs":
        return PairVocabulary.from_merges("mine", made_up_merges())
    return KmerVocabulary(6, 6 if request.param == "side by side" else 1)


def texts(vocabulary, pieces: Sentences) -> list[str]:
    """The DNA of each piece: of overlapping k-mers the first base, and the rest of the last."""
    overlapping = isinstance(vocabulary, KmerVocabulary) and vocabulary.stride == 1
    found = []
    for i in range(len(pieces)):
        words = [vocabulary.pieces[token - 5] for token in pieces[i][1:-1]]
        whole = [word[0] for word in words[:-1]] + words[-1:] if overlapping else words
        found.append("".join(whole))
    return found


# ---- pieces -------------------------------------------------------------------------------------


def test_framed_and_of_the_authors_lengths(vocabulary):
    """Half of them full, the others uniform: 200,000 tokens and more, of four contigs."""
    codes, offsets = dna(1_600_000), np.arange(0, 1_600_001, 400_000)
    pieces = dna_sentences(vocabulary, codes, offsets, seed=1, epoch=0)
    least = 5 if vocabulary.name == "6-mers" else 20
    lengths = pieces.lengths - 2
    assert (lengths.min() >= least, lengths.max()) == (True, 510)
    assert (pieces.tokens[pieces.offsets[:-1]] == 2).all()
    assert (pieces.tokens[pieces.offsets[1:] - 1] == 3).all()
    assert np.count_nonzero(pieces.tokens < 5) == 2 * len(pieces)
    spread = 4 * 0.5 / np.sqrt(len(pieces))
    assert (lengths == 510).mean() == pytest.approx(0.5, abs=spread + 8 / len(pieces))
    shorter = lengths[lengths < 510]
    spread = 4 * (510 - least) / np.sqrt(12 * shorter.size)
    assert shorter.mean() == pytest.approx((least + 509) / 2, abs=spread)
    assert np.percentile(shorter, 25) == pytest.approx((3 * least + 509) / 4, abs=2 * spread)


def test_each_base_once_at_most_and_nearly_all(vocabulary):
    """Laid out again, the pieces are the DNA in its order, without the odd ends."""
    codes, offsets = dna(60_000), np.array([0, 20_000, 20_003, 60_000])
    pieces = dna_sentences(vocabulary, codes, offsets, seed=1, epoch=4)
    whole, at = glm.bases.to_text(codes), 0
    covered = 0
    for text in texts(vocabulary, pieces):
        place = whole.find(text, at)
        assert place >= at
        at = place + len(text)
        covered += len(text)
        # Nothing reaches from one sequence into the next.
        assert not any(place < edge < at for edge in (20_000, 20_003))
    assert covered > 0.97 * 60_000


def test_pieces_are_those_of_the_whole_stretch(made_up_merges):
    """A byte pair is not made anew where a piece begins."""
    vocabulary = PairVocabulary.from_merges("mine", made_up_merges())
    codes = dna(8_000)
    tokens = vocabulary.encode(codes, np.array([0, 8_000]))[0].tolist()
    pieces = dna_sentences(vocabulary, codes, np.array([0, 8_000]), epoch=2)
    inner = [token for i in range(len(pieces)) for token in pieces[i][1:-1].tolist()]
    joined = ",".join(map(str, tokens))
    for i in range(len(pieces)):
        assert ",".join(map(str, pieces[i][1:-1])) in joined
    assert 0 <= len(tokens) - len(inner) < 40


def test_unknown_bases_part_the_dna(vocabulary):
    codes = dna(9_000)
    codes[:7] = codes[3_000:3_200] = codes[6_000] = codes[-1] = 4
    pieces = dna_sentences(vocabulary, codes, np.array([0, 5_000, 9_000]))
    assert not (pieces.tokens == vocabulary.special["unk"]).any()
    known = glm.bases.to_text(codes).split("N")
    assert all(any(text in part for part in known) for text in texts(vocabulary, pieces))


def test_known_stretches():
    codes, offsets = known_stretches(to_codes("NNACNNGTACNA"), np.array([0, 0, 7, 12, 12]))
    assert glm.bases.to_text(codes) == "ACGTACA"
    assert offsets.tolist() == [0, 2, 3, 6, 7]
    codes, offsets = known_stretches(to_codes("NN"), np.array([0, 2]))
    assert (codes.size, offsets.tolist()) == (0, [0])


def test_the_draw_follows_seed_and_epoch(vocabulary):
    codes, offsets = dna(50_000), np.array([0, 50_000])
    made = {
        (seed, epoch): dna_sentences(vocabulary, codes, offsets, seed=seed, epoch=epoch)
        for seed, epoch in ((0, 0), (0, 1), (1, 0))
    }
    again = dna_sentences(vocabulary, codes, offsets, seed=0, epoch=1)
    assert again.fingerprint == made[0, 1].fingerprint
    assert len({pieces.fingerprint for pieces in made.values()}) == 3


def test_lengths_can_be_chosen():
    codes, offsets = dna(30_000), np.array([0, 30_000])
    vocabulary = KmerVocabulary(4, context=102)
    full = dna_sentences(vocabulary, codes, offsets, full_share=1.0)
    assert ((full.lengths - 2)[1:-1] == 100).all()
    long = dna_sentences(vocabulary, codes, offsets, least=90, full_share=0.0)
    assert (long.lengths - 2).min() >= 90
    short = dna_sentences(KmerVocabulary(4, 4, context=8), codes, offsets)
    assert (short.lengths == 8).all()  # a context below the authors' least


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"least": 0}, "least is 0"),
        ({"least": 511}, "expected 1 to 510 tokens"),
        ({"full_share": 1.5}, "full_share 1.5"),
    ],
)
def test_lengths_that_make_no_sense(options: dict, said: str):
    with pytest.raises(ValueError, match=said):
        dna_sentences(KmerVocabulary(6), dna(1_000), np.array([0, 1_000]), **options)


def test_nothing_that_is_long_enough():
    codes = np.concatenate([dna(9), np.array([4], np.uint8), dna(8)])
    with pytest.raises(ValueError, match=r"No piece has 5 tokens: .* of 2 sequences has 4"):
        dna_sentences(KmerVocabulary(6), codes, np.array([0, 10, 18]))
    with pytest.raises(ValueError, match="has 0"):
        dna_sentences(KmerVocabulary(6), codes[:0], np.array([0, 0]))
    with pytest.raises(TypeError, match="uint8"):
        dna_sentences(KmerVocabulary(6), codes.astype(int), np.array([0, 18]))
    with pytest.raises(ValueError, match="offsets go from 0 to 17"):
        dna_sentences(KmerVocabulary(6), codes, np.array([0, 17]))


# ---- objectives ---------------------------------------------------------------------------------


def test_runs_of_hidden_kmers_hide_their_base():
    """Six 6-mers in a row, none of them special: no token beside tells the base they share."""
    vocabulary = KmerVocabulary(6)
    pieces = dna_sentences(vocabulary, dna(400_000), np.array([0, 400_000]))
    objective = KmerSpans(vocabulary, k=6)
    batch = objective.batch(pieces, np.arange(200), np.random.default_rng(0), training=True)
    tokens = torch.from_numpy(pieces.padded(np.arange(200), 0))
    predicted = torch.zeros_like(tokens, dtype=torch.bool).flatten()
    predicted[batch.positions] = True
    predicted = predicted.view_as(tokens)
    assert not predicted[tokens < 5].any()
    assert predicted[tokens >= 5].float().mean() == pytest.approx(0.141, abs=0.01)
    shown = batch.tokens[predicted]
    assert (shown == 4).float().mean() == pytest.approx(0.8, abs=0.02)
    assert (shown >= 4).all()
    inner = predicted[0].numpy()
    edges = np.flatnonzero(np.diff(np.concatenate([[0], inner, [0]])))
    runs = edges[1::2] - edges[::2]
    last = int((tokens[0] == 3).nonzero()) - 1
    assert all(
        run >= 6 for run, first in zip(runs, edges[::2], strict=True) if 1 < first < last - 6
    )


def test_shares_of_grover(made_up_merges):
    """2.2% of the tokens: four in five the mask, the others another token, none as it is."""
    vocabulary = PairVocabulary.from_merges("mine", made_up_merges())
    pieces = dna_sentences(vocabulary, dna(1_500_000), np.array([0, 1_500_000]))
    objective = MaskedTokens(vocabulary, share=0.022, as_mask=0.8, as_random=0.2, other=True)
    chosen = np.arange(len(pieces))
    batch = objective.batch(pieces, chosen, np.random.default_rng(0), training=True)
    shown = batch.tokens.flatten()[batch.positions]
    n_tokens = int((pieces.tokens >= 5).sum())
    assert shown.numel() / n_tokens == pytest.approx(0.022, rel=0.05)
    assert (shown == 4).float().mean() == pytest.approx(0.8, abs=0.02)
    assert (shown != batch.targets).all()
    assert (shown >= 4).all()
    assert (batch.targets >= 5).all()


@pytest.mark.parametrize("vocabulary", [KmerVocabulary(5), KmerVocabulary(6, 6)], ids=str)
def test_runs_that_would_not_hide_a_base(vocabulary: KmerVocabulary):
    with pytest.raises(ValueError, match=r"k is 6, and the vocabulary is of .-mers, one at every"):
        KmerSpans(vocabulary, k=6)


# ---- recipes ------------------------------------------------------------------------------------


def test_recipes_by_the_name_of_a_model():
    for k in (3, 4, 5, 6):
        assert recipe(f"dnabert-{k}") == recipe("dnabert", "pretrain")
        assert recipe(f"dnabert-{k}", "regions") == recipe("dnabert", "regions")
    assert recipe("grover") == recipe("grover", "pretrain")
    with pytest.raises(KeyError, match="no recipe 'regions' for grover; there is pretrain"):
        recipe("grover", "regions")


def test_schedules_of_the_papers():
    authors = recipe("dnabert-6")
    assert (authors.schedule, authors.gradient_clip, authors.precision) == (
        "linear",
        1.0,
        "32-true",
    )
    assert recipe("dnabert-6", "regions").schedule == "linear"
    authors = recipe("grover")
    assert (authors.weight_decay, authors.warmup, authors.betas) == (0.0, 0, (0.9, 0.999))


# ---- end to end ---------------------------------------------------------------------------------


def two_kinds(n: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Sequences of 80 bases, of A and T or of C and G: what is beside a token tells half of it."""
    rng = np.random.default_rng(seed)
    kinds = [(0, 3) if i % 2 else (1, 2) for i in range(n)]
    codes = np.concatenate([rng.choice(kind, 80) for kind in kinds]).astype(np.uint8)
    return codes, np.arange(0, 80 * n + 1, 80)


@pytest.mark.parametrize("system", ["dnabert", "grover"])
def test_pretraining(make_dna_model: Callable[..., Model], tmp_path: Path, system: str):
    """From codes to a bundle: new pieces each epoch, and the held-out loss falls.

    Kinds and tokens apart, a 3-mer of 16 equally frequent ones is worth 2.77 and one of 8 2.08.
    """
    model = make_dna_model(system, n_positions=66, hidden_size=32, n_layers=1)
    vocabulary = model.vocabulary
    if system == "dnabert":
        objective = KmerSpans(vocabulary, k=3)
    else:
        objective = MaskedTokens(vocabulary, share=0.1, as_mask=0.8, as_random=0.2, other=True)
    codes, offsets = two_kinds(80)

    def pieces(epoch: int) -> Sentences:
        return dna_sentences(vocabulary, codes, offsets, seed=7, epoch=epoch)

    held_out = dna_sentences(vocabulary, *two_kinds(40, seed=1), seed=8)
    fitted = fit(
        model,
        objective,
        pieces(0),
        each_epoch=pieces,
        held_out=held_out,
        folder=tmp_path / "run",
        recipe=Recipe(
            learning_rate=1e-2, warmup=5, max_epochs=12, weight_decay=0.01, rows_per_batch=16
        ),
        accelerator="cpu",
    )
    losses = fitted.history["held_out_loss"].dropna().to_numpy()
    assert losses[-1] < losses[0] - 0.5
    if system == "dnabert":
        assert losses[-1] < 2.3 < 2.7 < losses[0]
    folder = fitted.model.save(tmp_path / "bundle")
    again = glm.models.load(folder)
    assert again.vocabulary.sha256 == vocabulary.sha256
    assert again.spec.system == system


@pytest.mark.parametrize("system", ["dnabert", "grover"])
def test_fine_tuning(make_dna_model: Callable[..., Model], tmp_path: Path, system: str):
    """Sequences of two kinds; DNABERT's own recipe is found, GROVER has none to find."""
    model = make_dna_model(system, n_positions=66, hidden_size=32, n_layers=1)
    vocabulary = model.vocabulary
    rng = np.random.default_rng(0)
    codes = np.concatenate(
        [
            rng.choice(4, 40, p=[0.4, 0.1, 0.1, 0.4] if i % 2 else [0.1, 0.4, 0.4, 0.1])
            for i in range(64)
        ]
    ).astype(np.uint8)
    tokens, offsets, _ = vocabulary.encode(codes, np.arange(0, codes.size + 1, 40))
    framed = [[2, *tokens[a:b], 3] for a, b in itertools.pairwise(offsets)]
    data = Sentences(
        np.concatenate(framed).astype(np.int32),
        np.cumsum([0, *map(len, framed)]),
        np.arange(64) % 2,
    )
    objective = Classification(("GC-rich", "AT-rich"))
    options = {"folder": tmp_path / "run", "accelerator": "cpu"}
    if system == "grover":
        with pytest.raises(KeyError, match="no recipe 'regions' for grover"):
            fit(model, objective, data, **options)
    quick = replace(recipe("dnabert", "regions"), learning_rate=1e-2, max_epochs=8)
    fitted = fit(model, objective, data, recipe=quick, held_out=data, **options)
    assert fitted.history["held_out_accuracy"].dropna().iloc[-1] > 0.9
    spec = glm.models.load(fitted.model.save(tmp_path / "bundle")).spec
    assert (spec.system, spec.head, spec.labels) == (system, "cells", ("GC-rich", "AT-rich"))


def test_the_recipe_of_a_loaded_model_is_its_authors(
    make_dna_model: Callable[..., Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked: list[tuple[str, str]] = []

    def note(system: str, objective: str) -> Recipe:
        asked.append((system, objective))
        raise KeyError("enough")

    monkeypatch.setattr("glm.train.fitting.authors_recipe", note)
    model = make_dna_model("dnabert")
    data = dna_sentences(model.vocabulary, dna(500), np.array([0, 500]))
    for objective in (
        KmerSpans(model.vocabulary, k=3),
        Classification(("a", "b")),
        Classification(("a", "b"), level="token"),
    ):
        with pytest.raises(KeyError, match="enough"):
            fit(model, objective, data, folder=tmp_path)
    assert asked == [("dnabert", "pretrain"), ("dnabert", "regions"), ("dnabert", "bases")]
