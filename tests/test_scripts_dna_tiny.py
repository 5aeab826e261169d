"""What the demonstration models of DNA are made from and held to, checked the slow way."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from glm.bases import N, reverse_complement, to_codes, to_text

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"

pytestmark = pytest.mark.skipif(not SCRIPTS.is_dir(), reason="the scripts are not in an sdist")

_OURS = ("dna_tiny", "evidence")


@pytest.fixture(scope="module")
def made() -> Iterator[SimpleNamespace]:
    """The modules, by name; their own names mean something else to other tests."""
    names = ("shared_words", "text", "starts", "making", "places", "baselines", "scores")
    names += ("next_kmers", "intervals", "hidden_tokens")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        found = {name: importlib.import_module(f"dna_tiny.{name}") for name in names}
    yield SimpleNamespace(**found)
    for loaded in [loaded for loaded in sys.modules if loaded.split(".")[0] in _OURS]:
        del sys.modules[loaded]


def dna(seed: int, n: int, *, unknown: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 4, n).astype(np.uint8)
    codes[rng.integers(0, n, unknown)] = N
    return codes


# ---- shared words --------------------------------------------------------------------------------


def words_of(codes: np.ndarray) -> dict[int, str]:
    """Start → the word of 40 bases or its other strand, whichever comes first in the alphabet."""
    text = to_text(codes)
    found = {}
    for i in range(len(text) - 39):
        if "N" not in text[i : i + 40]:
            found[i] = min(text[i : i + 40], to_text(reverse_complement(codes[i : i + 40])))
    return found


def test_shared_words_are_those_of_comparing_text(made: SimpleNamespace) -> None:
    ours, theirs = dna(0, 4000), dna(1, 4000)
    ours[[30, 800, 3000]] = N
    theirs[[120, 2000]] = N
    theirs[100:160] = ours[200:260]
    theirs[500:545] = reverse_complement(ours[700:745])
    theirs[900:939] = ours[50:89]  # one base short of a word
    theirs[3960:4000] = ours[3960:4000]
    words = made.shared_words.WordSet(ours)
    assert len(words) == len(set(words_of(ours).values()))
    among = set(words_of(ours).values())
    expected = np.zeros(4000, bool)
    expected[[i for i, word in words_of(theirs).items() if word in among]] = True
    assert expected.sum() > 20
    np.testing.assert_array_equal(words.shared(theirs), expected)
    covered = np.zeros(4000, bool)
    for i in np.flatnonzero(expected):
        covered[i : i + 40] = True
    np.testing.assert_array_equal(words.covered(theirs), covered)


def test_words_that_differ_in_one_base_are_told_apart(made: SimpleNamespace) -> None:
    word = dna(2, 40)
    words = made.shared_words.WordSet(word)
    assert words.shared(word)[0]
    assert words.shared(reverse_complement(word))[0]
    for place, other in product(range(40), range(1, 4)):
        changed = word.copy()
        changed[place] = (changed[place] + other) % 4
        assert not words.shared(changed).any()


def test_blocks_lose_no_word(made: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = dna(3, 1000, unknown=3)
    whole = made.shared_words.WordSet(codes)
    monkeypatch.setattr(made.shared_words, "_BLOCK", 64)
    parts = made.shared_words.WordSet(codes)
    assert len(parts) == len(whole)
    assert parts.shared(codes).sum() == len(words_of(codes))


@pytest.mark.parametrize("n", [0, 39, 40])
def test_short_text_has_no_word_or_one(made: SimpleNamespace, n: int) -> None:
    words = made.shared_words.WordSet(dna(4, n))
    assert len(words) == (n == 40)
    assert not words.shared(dna(5, 50)).any()


def test_cleaning_leaves_no_shared_word(made: SimpleNamespace) -> None:
    held_out = [dna(6, 300), dna(7, 300)]
    window = dna(8, 3000, unknown=2)
    window[1000:1100] = held_out[0][100:200]
    window[2000:2050] = reverse_complement(held_out[1][50:100])
    rows = [dna(seed, 100) for seed in range(10, 20)]
    rows[3][20:70] = held_out[1][10:60]
    words = made.shared_words.WordSet(made.text.end_to_end(held_out))
    stretches = made.text.clean_stretches(window, words)
    kept = made.text.clean_rows(rows, words)
    assert [any(row is one for one in kept) for row in rows] == [i != 3 for i in range(10)]
    among = {word for codes in held_out for word in words_of(codes).values()}
    for codes in [*stretches, *kept]:
        assert codes.size >= made.text.LEAST
        assert (codes != N).all()
        assert not among & set(words_of(codes).values())
    assert sum(codes.size for codes in stretches) > 2700  # and little else is lost


# ---- counts --------------------------------------------------------------------------------------


def test_counts_between_are_those_of_looking(made: SimpleNamespace) -> None:
    text = made.baselines.both_strands(dna(20, 900), np.array([0, 400, 900]))
    around = np.stack([dna(seed, 7) for seed in range(30)])
    around[0] = text[10:17]
    for k, counts in enumerate(made.baselines.counts_between(text, around)):
        expected = np.zeros((30, 4), int)
        for i, row in enumerate(around):
            left, right = row[3 - k : 3], row[4 : 4 + k]
            for at in range(text.size - 2 * k):
                part = text[at : at + 2 * k + 1]
                same = (part[:k] == left).all() and (part[k + 1 :] == right).all()
                if same and part[k] != N and (part != N).all():
                    expected[i, part[k]] += 1
        np.testing.assert_array_equal(counts, expected)


def test_both_strands_are_counted_and_stretches_do_not_touch(made: SimpleNamespace) -> None:
    text = made.baselines.both_strands(to_codes("AACGTT"), np.array([0, 4, 6]))
    assert to_text(text) == "AACGNTTNNAANCGTT"


def test_smoothing_falls_back_to_shorter_contexts(made: SimpleNamespace) -> None:
    counts = [np.array([[8, 0, 0, 0]]), np.array([[0, 0, 0, 0]]), np.array([[0, 2, 0, 0]])]
    first = (np.array([8, 0, 0, 0]) + 4 * 0.25) / 12
    np.testing.assert_allclose(made.baselines.smoothed(counts, 1, 4.0)[0], first)
    np.testing.assert_allclose(
        made.baselines.smoothed(counts, 2, 4.0)[0], (np.array([0, 2, 0, 0]) + 4 * first) / 6
    )
    np.testing.assert_allclose(made.baselines.plain(counts, 2, 1.0)[0], np.array([1, 3, 1, 1]) / 6)


def test_a_chain_gives_every_span_a_share_of_one(
    made: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(made.baselines, "SPAN", 3)
    text = made.baselines.both_strands(dna(21, 300), np.array([0, 300]))
    chain = made.baselines.Chain(text, 2, 1.0)
    tables = [np.full((1, 4), 0.25)]
    for order in range(3):
        count = np.zeros((4**order, 4))
        for at in range(text.size - order):
            part = text[at : at + order + 1]
            if (part != N).all():
                context = sum(int(b) * 4 ** (order - 1 - i) for i, b in enumerate(part[:-1]))
                count[context, part[-1]] += 1
        # The shorter context is what is left when the farthest base is dropped.
        shorter = tables[-1][[i % len(tables[-1]) for i in range(4**order)]]
        tables.append((count + shorter) / (count.sum(1, keepdims=True) + 1))
    row = dna(22, 2 + 3 + 2)

    def likely(span: tuple[int, ...]) -> float:
        bases = [*row[:2].tolist(), *span, *row[5:].tolist()]
        return float(
            np.prod([tables[3][4 * bases[i - 2] + bases[i - 1], bases[i]] for i in range(2, 7)])
        )

    total = sum(likely(span) for span in product(range(4), repeat=3))
    expected = -np.log2(likely(tuple(row[2:5].tolist())) / total)
    np.testing.assert_allclose(chain.span_bits(row[None], 2), [expected])


# ---- what the models say -------------------------------------------------------------------------


def fake_places(made: SimpleNamespace, n: int = 3) -> object:
    windows = [dna(seed, 515 * 4) for seed in (30, 31)]
    return made.places.choose_places(windows, n, seed=0)


def test_places_are_known_apart_and_away_from_the_ends(made: SimpleNamespace) -> None:
    windows = [dna(32, 515 * 6), dna(33, 515 * 6)]
    windows[0][700] = N  # in the second piece
    places = made.places.choose_places(windows, 5, seed=0)
    assert places.codes.shape == (10, 515)
    assert (places.codes != N).all()
    assert places.window.tolist() == [0] * 5 + [1] * 5
    assert (np.diff(places.hidden, axis=1) == made.places.APART).all()
    assert places.hidden.min() >= made.places.MARGIN
    assert places.hidden.max() < 515 - made.places.MARGIN
    around = places.around(2, 3)
    assert around.shape == (places.hidden.size, 6)
    np.testing.assert_array_equal(around[:, 2], places.truth.ravel())


class Says:
    """Stands for a model: logits are a function of the token alone, and what was shown is kept."""

    def __init__(self, vocabulary: object, score: np.ndarray) -> None:
        import torch

        self.vocabulary, self.shown, self._score = vocabulary, [], torch.from_numpy(score).float()

    def network(self, tokens, mask=None, *, positions):
        self.shown.append(tokens.numpy().copy())
        return self._score.expand(positions.numel(), -1)


def test_bases_under_kmers_are_a_softmax_over_four(made: SimpleNamespace) -> None:
    import glm

    vocabulary = glm.models.KmerVocabulary(3)
    places = fake_places(made)
    score = np.random.default_rng(0).normal(size=len(vocabulary))
    model = Says(vocabulary, score)
    ways = made.scores.base_distributions(model, places)
    assert [way for way in ways if "power" not in way] == ["place 2", "place 1", "place 0", "mean"]
    piece, nth = 4, 7
    at = int(places.hidden[piece, nth])
    number = piece * places.hidden.shape[1] + nth
    each = []
    for place in range(3):
        letters = list(to_text(places.codes[piece, at - place : at - place + 3]))
        likely = []
        for base in "ACGT":
            letters[place] = base
            likely.append(np.exp(score[5 + vocabulary.pieces.index("".join(letters))]))
        expected = np.log(np.array(likely) / sum(likely))
        np.testing.assert_allclose(ways[f"place {place}"][number], expected, atol=1e-5)
        each.append(expected)
    together = np.exp(np.mean(each, axis=0))
    np.testing.assert_allclose(ways["mean"][number], np.log(together / together.sum()), atol=1e-5)
    surer = together**2 / (together**2).sum()
    np.testing.assert_allclose(ways["mean to the power 2"][number], np.log(surer), atol=1e-5)
    shown = np.concatenate(model.shown)[:, 1:-1]
    for row, hidden in zip(shown, places.hidden, strict=True):  # nothing that tells is to be seen
        expected = (hidden[:, None] - np.arange(3)).ravel()
        assert sorted(np.flatnonzero(row == vocabulary.special["mask"])) == sorted(expected)


def test_alleles_show_nothing_of_the_base(made: SimpleNamespace) -> None:
    import glm
    from glm.encode import learn_merges

    text = np.tile(dna(40, 300), 5)
    vocabulary = glm.models.PairVocabulary.from_merges("small", learn_merges(text, 40))
    places = fake_places(made, 2)
    score = np.random.default_rng(1).normal(size=len(vocabulary))
    model = Says(vocabulary, score)
    said = made.scores.base_distributions(model, places)["alleles"]
    np.testing.assert_allclose(np.exp(said).sum(axis=1), 1.0)
    mask = vocabulary.special["mask"]
    for first in range(0, len(model.shown), 4):  # the four bases of one piece
        visible = [row[0][row[0] != mask].tolist() for row in model.shown[first : first + 4]]
        assert visible[0] == visible[1] == visible[2] == visible[3]
        assert any(mask in row[0] for row in model.shown[first : first + 4])


def test_spans_around_a_base_end_where_all_four_are_cut(made: SimpleNamespace) -> None:
    one = np.array([[0, 2], [2, 5], [5, 6], [6, 9], [9, 10]])
    other = np.array([[0, 2], [2, 3], [3, 6], [6, 9], [9, 10]])
    spans = made.scores.hidden_spans([one, other, one, one], np.array([3]))
    assert spans.tolist() == [[2, 6]]
    spans = made.scores.hidden_spans([one, one, one, one], np.array([7]))
    assert spans.tolist() == [[6, 9]]


def test_spans_of_six_are_one_token(made: SimpleNamespace) -> None:
    import glm

    vocabulary = glm.models.KmerVocabulary(6)
    places = fake_places(made, 1)
    score = np.random.default_rng(2).normal(size=len(vocabulary))
    model = Says(vocabulary, score)
    bits = made.scores.span_bits(model, places)
    at = int(places.hidden[1, 3])
    token = 5 + vocabulary.pieces.index(to_text(places.codes[1, at : at + 6]))
    share = np.exp(score[token]) / np.exp(score[5:]).sum()
    assert bits[places.hidden.shape[1] + 3] == pytest.approx(-np.log2(share), abs=1e-5)
    row = np.concatenate(model.shown)[1, 1:-1]
    hidden = places.hidden[1][:, None] + np.arange(-5, 6)
    assert sorted(np.flatnonzero(row == vocabulary.special["mask"])) == sorted(hidden.ravel())


# ---- starts --------------------------------------------------------------------------------------


def test_a_start_reads_hidden_kmers_off_their_neighbours(made: SimpleNamespace) -> None:
    import torch

    import glm

    vocabulary = glm.models.KmerVocabulary(6)
    letters = np.array([["ATCG".index(base) for base in piece] for piece in vocabulary.pieces])
    start = made.starts.kmer_start(letters, 5)
    tokens = vocabulary.encode(dna(50, 400), np.array([0, 400]))[0].astype(np.int64)
    random = made.making.new_model("dnabert-tiny", vocabulary, note="")
    model = made.making.new_model("dnabert-tiny", vocabulary, note="")
    before = torch.get_rng_state()
    made.making.started(model, start, np.arange(len(vocabulary)))
    assert torch.equal(torch.get_rng_state(), before)
    asked = np.array([50, 51, 52, 150, 151, 152, 250, 251, 252])
    shown = tokens.copy()
    shown[asked] = vocabulary.special["mask"]
    ranks = []
    for found in (model, random):
        with torch.inference_mode():
            logits = found.network(torch.from_numpy(shown)[None])[0, asked].numpy()
        ranks.append((logits > np.take_along_axis(logits, tokens[asked][:, None], 1)).sum(1))
    # Three hidden in a row leave no base unknown: the right one of 4,096 is near the top.
    assert np.median(ranks[0]) < 40 < np.median(ranks[1])


def test_a_start_of_pairs_knows_who_stands_beside_whom(made: SimpleNamespace) -> None:
    rng = np.random.default_rng(3)
    n, special = 25, 5
    likely = rng.dirichlet(np.full(20, 0.3), 20)
    tokens = [special]
    for _ in range(20_000):
        tokens.append(special + int(rng.choice(20, p=likely[tokens[-1] - special])))
    start = made.starts.pair_start(np.array(tokens), np.array([0, len(tokens)]), n, special)
    (left, to_before), (right, to_after) = start.moves
    assert (left, right) == (-1, 1)
    assert (start.facts[:special] == 0).all()
    said = start.facts[special:] @ to_before.T @ start.facts[special:].T  # by the token before
    often = np.log(likely / likely.mean(axis=0) + 1e-3)
    assert np.corrcoef(said.ravel(), often.ravel())[0, 1] > 0.8
    back = start.facts[special:] @ to_after.T @ start.facts[special:].T  # and by the one after
    assert np.corrcoef(back.T.ravel(), often.ravel())[0, 1] > 0.8


def test_epochs_differ_and_come_again(made: SimpleNamespace) -> None:
    import glm

    lengths = np.full(60, 300)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    text = made.text.Text(dna(60, offsets[-1]), offsets, 20)
    vocabulary = glm.models.KmerVocabulary(6)
    draw = [made.making.draw_epoch(text, vocabulary, i, n_bases=6000) for i in (0, 0, 1)]
    assert draw[0].fingerprint == draw[1].fingerprint != draw[2].fingerprint
    assert 5000 < draw[0].tokens.size < 6500
    assert draw[0].lengths.min() >= made.making.LEAST_TOKENS + 2


# ---- probes and intervals ------------------------------------------------------------------------


def test_tfidf_is_that_of_scikit_learn(made: SimpleNamespace) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    codes = np.stack([dna(seed, 30) for seed in range(12)])
    texts = [to_text(row) for row in codes]
    names = ["".join(letters) for letters in product("ACGT", repeat=3)]
    theirs = TfidfVectorizer(
        analyzer="char", ngram_range=(3, 3), lowercase=False, vocabulary=names
    ).fit_transform(texts)
    np.testing.assert_allclose(made.next_kmers.KmerCounts(codes, 3)(codes), theirs.toarray())


def test_a_probe_is_ridge_regression_on_the_classes(
    made: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sklearn.linear_model import Ridge

    rng = np.random.default_rng(5)
    classes = rng.integers(0, 5, 400)
    features = rng.normal(size=(400, 8)) + 1.5 * np.eye(8)[classes]
    monkeypatch.setattr(made.next_kmers, "PENALTIES", (0.1,))
    parts = (features[:200], classes[:200]), (features[200:300], classes[200:300])
    said = made.next_kmers.probe(*parts, features[300:], 5)
    x = features[:200]
    scaled = (features - x.mean(0)) / x.std(0)
    theirs = Ridge(alpha=0.1 * 200).fit(scaled[:200], np.eye(5)[classes[:200]])
    np.testing.assert_array_equal(said, theirs.predict(scaled[300:]).argmax(1))
    assert (said == classes[300:]).mean() > 0.5


def test_drawn_sequences_are_where_the_stretches_say(made: SimpleNamespace) -> None:
    stretches = [dna(70, 56), dna(71, 300, unknown=1), dna(72, 20)]
    task = made.next_kmers.draw_task(stretches, 40, seed=0)
    whole = np.concatenate([task.known, task.following], axis=1)
    for row, of in zip(whole, task.window, strict=True):
        assert to_text(row) in to_text(stretches[of])
    number = task.classes(2)
    following = task.following.astype(int)
    np.testing.assert_array_equal(number, 4 * following[:, 0] + following[:, 1])


def test_intervals_are_those_of_drawing_whole_windows(made: SimpleNamespace) -> None:
    rng = np.random.default_rng(6)
    window = rng.integers(0, 10, 500)
    ours = rng.normal(size=500) + 0.3 * (window % 3)
    found = made.intervals.gain(ours, np.zeros(500), window)
    rows = [np.flatnonzero(window == one) for one in range(10)]
    again = [np.concatenate([rows[i] for i in rng.integers(0, 10, 10)]) for _ in range(3000)]
    drawn = [ours[places].mean() for places in again]
    assert found.value == pytest.approx(ours.mean())
    np.testing.assert_allclose(
        (found.low, found.high), np.quantile(drawn, [0.025, 0.975]), atol=0.03
    )


def test_counts_of_neighbours_name_a_hidden_token(made: SimpleNamespace) -> None:
    text = np.tile(np.array([5, 6, 7, 8]), 200)
    sentence = np.array([2, 5, 6, 7, 8, 5, 3])
    asked = [(sentence, np.array([2, 3]))]  # beside each other: each has one neighbour that speaks
    found = made.hidden_tokens.of_counts((text, np.array([0, 800])), asked, 9, 5, 1.0)
    assert found["neighbours"][0].tolist() == [1.0, 1.0]
    assert found["neighbours"][1].max() < 0.1
    np.testing.assert_allclose(found["frequency"][1], 2.0, atol=0.01)


# ---- the bundles ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dnabert-tiny", "grover-tiny"])
def test_bundles_are_small_whole_and_honest(name: str) -> None:
    import glm

    model = glm.models.load(name)
    folder = model.spec.folder
    assert folder is not None
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 8e6
    assert glm.models.verify(name).ok
    assert model.spec.tier == "demo"
    assert "not for research" in model.spec.note
    assert (model.spec.pooling, model.spec.hidden_layer) == ("mean", "last")
    assert model.spec.context == 512
    scores = model.card["scores"]["bits_per_base"]
    assert scores[f"{name}, trained"] < scores[f"{name}, untrained twin"]
    assert scores[f"{name}, trained"] < scores[f"{name}, its starting point"]
    assert len(model.vocabulary) == {"dnabert-tiny": 4101, "grover-tiny": 609}[name]
