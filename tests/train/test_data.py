"""Sentences to train on: every one once an epoch, within the budget, by seed and epoch alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glm.models import GeneVocabulary
from glm.train import Batch, MaskedTokens, Recipe, Sentences
from glm.train.data import TrainingData, cut, length_grouped
from glm.train.loading import Batches

RECIPE = Recipe(learning_rate=1e-3, warmup=2, max_epochs=2, tokens_per_batch=100)
LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=60)
LIMITS = st.one_of(st.none(), st.integers(1, 200))


@pytest.fixture(scope="module")
def vocabulary(make_vocabulary: Callable[..., GeneVocabulary]) -> GeneVocabulary:
    return make_vocabulary(v2=True)


@pytest.fixture(scope="module")
def cells(vocabulary: GeneVocabulary) -> Sentences:
    """Forty framed sentences of 3 to 30 genes."""
    rng = np.random.default_rng(0)
    parts = [
        [2, *rng.permutation(vocabulary.tokens)[: rng.integers(3, 30)].tolist(), 3]
        for _ in range(40)
    ]
    ends = np.cumsum([0, *map(len, parts)])
    return Sentences(np.concatenate(parts).astype(np.int32), ends)


# ---- sentences ----------------------------------------------------------------------------------


def test_sentences():
    sentences = Sentences(np.array([5, 6, 7, 8, 9, 4]), np.array([0, 3, 3, 5, 6]))
    assert len(sentences) == 4
    assert sentences.lengths.tolist() == [3, 0, 2, 1]
    assert [sentences[i].tolist() for i in range(4)] == [[5, 6, 7], [], [8, 9], [4]]
    padded = sentences.padded(np.array([3, 0, 2]), 1)
    assert padded.tolist() == [[4, 1, 1], [5, 6, 7], [8, 9, 1]]
    assert padded.dtype == np.int64
    factors = np.arange(6, dtype=np.float32)
    of_factors = sentences.padded(np.array([2, 0]), -1, factors)
    assert of_factors.tolist() == [[3, 4, -1], [0, 1, 2]]
    assert of_factors.dtype == np.float32


@pytest.mark.parametrize("per_token", [False, True])
def test_subset_takes_along_what_is_known(per_token: bool):
    tokens = np.array([5, 6, 7, 8, 9, 4])
    targets = np.arange(6) if per_token else np.array([10, 11, 12])
    sentences = Sentences(tokens, np.array([0, 3, 5, 6]), targets, np.arange(6.0))
    for chosen in (np.array([2, 0]), np.array([True, False, True])):
        some = sentences.subset(chosen)
        order = [2, 0] if chosen.dtype != bool else [0, 2]
        places = {0: [0, 1, 2], 2: [5]}
        expected = [place for i in order for place in places[i]]
        assert some.tokens.tolist() == tokens[expected].tolist()
        assert [some[k].tolist() for k in range(2)] == [sentences[i].tolist() for i in order]
        assert some.targets.tolist() == targets[expected if per_token else order].tolist()
        assert some.factors.tolist() == expected


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"offsets": np.array([0, 2])}, "0 to 2; expected 0 to 3"),
        ({"offsets": np.array([1, 3])}, "1 to 3; expected 0 to 3"),
        ({"offsets": np.zeros(0, int)}, "over nothing"),
        ({"targets": np.zeros(4)}, "4 targets; expected one for each of 2 sentences or of 3"),
        ({"factors": np.zeros(2)}, "2 factors; expected one for each of 3"),
    ],
)
def test_parts_that_do_not_fit(parts: dict, message: str):
    whole = {"tokens": np.array([5, 6, 7]), "offsets": np.array([0, 2, 3])}
    with pytest.raises(ValueError, match=message):
        Sentences(**{**whole, **parts})


def test_fingerprint_tells_every_part():
    tokens, offsets = np.array([5, 6, 7], np.int32), np.array([0, 2, 3])
    one = Sentences(tokens, offsets)
    assert one.fingerprint == Sentences(tokens.copy(), offsets.copy()).fingerprint
    others = [
        Sentences(tokens[::-1], offsets),
        Sentences(tokens, np.array([0, 1, 3])),
        Sentences(tokens, offsets, np.array([0, 1])),
        Sentences(tokens, offsets, np.array([1, 0])),
        Sentences(tokens, offsets, None, np.zeros(3, np.float32)),
    ]
    assert len({one.fingerprint, *(other.fingerprint for other in others)}) == 6


# ---- which sentences make a batch ---------------------------------------------------------------


@given(LENGTHS, LIMITS, LIMITS, st.integers(0, 3), st.integers(1, 70))
def test_each_once_within_the_limits(lengths, tokens, rows, seed, group):
    sizes = np.array(lengths)
    rng = np.random.default_rng(seed)
    found = length_grouped(sizes, rng, tokens=tokens, rows=rows, group=group)
    assert sorted(i for batch in found for i in batch) == list(range(len(lengths)))
    for batch in found:
        assert batch.size
        assert batch.size <= (rows or np.inf)
        assert batch.size == 1 or batch.size * sizes[batch].max() <= (tokens or np.inf)


@given(LENGTHS, st.integers(1, 200))
def test_cut_is_as_full_as_can_be(lengths: list[int], tokens: int):
    sizes = np.array(lengths)
    order = np.argsort(sizes, kind="stable")
    found = cut(order, sizes, tokens=tokens)
    assert np.concatenate(found).tolist() == order.tolist()
    for batch, following in pairwise(found):
        assert (batch.size + 1) * sizes[following[0]] > tokens


def _drawn(sizes: np.ndarray, seed: int) -> list[list[int]]:
    found = length_grouped(sizes, np.random.default_rng(seed), tokens=400)
    return [batch.tolist() for batch in found]


def test_seed_decides():
    sizes = np.random.default_rng(0).integers(1, 50, 300)
    one, other, third = (_drawn(sizes, s) for s in (1, 1, 2))
    assert one == other
    assert one != third
    assert {frozenset(batch) for batch in one} != {frozenset(batch) for batch in third}


def test_little_padding():
    sizes = np.random.default_rng(0).integers(10, 2_000, 5_000)
    batches = length_grouped(sizes, np.random.default_rng(0), tokens=12 * 2_048)
    padded = sum(batch.size * sizes[batch].max() for batch in batches)
    assert padded < 1.1 * sizes.sum()
    at_random = np.array_split(np.random.default_rng(0).permutation(5_000), len(batches))
    assert sum(part.size * sizes[part].max() for part in at_random) > 1.5 * sizes.sum()


def test_long_and_short_batches_are_mixed():
    """The order of batches does not follow the lengths."""
    sizes = np.random.default_rng(0).integers(1, 200, 2_000)
    found = length_grouped(sizes, np.random.default_rng(0), tokens=1_000)
    longest = [sizes[batch].max() for batch in found]
    assert abs(np.corrcoef(np.arange(len(longest)), longest)[0, 1]) < 0.2


# ---- batches of a process -----------------------------------------------------------------------


def _of(chosen: np.ndarray) -> Batch:
    rows = torch.from_numpy(chosen)
    return Batch(rows[:, None], rows[:, None] >= 0, rows, None, rows, float(rows.numel()))


@given(st.integers(1, 30), st.integers(1, 5))
def test_processes_share_the_batches(n_batches: int, n_ranks: int):
    """Equally many each, all of them once; what fills up weighs nothing."""
    found = [np.array([3 * i, 3 * i + 1]) for i in range(n_batches)]
    ranks = [list(Batches(_of, found, part=(rank, n_ranks))) for rank in range(n_ranks)]
    assert {len(rank) for rank in ranks} == {-(-n_batches // n_ranks)}
    together = [rank[i] for i in range(len(ranks[0])) for rank in ranks]
    counted = [batch for batch in together if batch.weight]
    assert [batch.rows.tolist() for batch in counted] == [batch.tolist() for batch in found]
    assert len(together) - len(counted) < n_ranks
    assert all(batch.rows.numel() for batch in together)


@pytest.mark.parametrize("workers", [0, 2])
def test_going_on_in_the_middle(workers: int):
    found = [np.array([i]) for i in range(7)]
    batches = Batches(_of, found, start=3, workers=workers)
    assert len(batches) == 7
    for _ in range(2):
        assert [batch.rows.item() for batch in batches] == [3, 4, 5, 6]


def test_batch_moves_as_a_whole():
    batch = _of(np.arange(3))
    batch = replace(batch, positions=torch.arange(2))
    moved = batch.to(torch.device("meta"))
    assert {t.device.type for t in (moved.tokens, moved.mask, moved.positions, moved.targets)} == {
        "meta"
    }
    assert moved.rows.tolist() == [0, 1, 2]
    assert replace(batch, positions=None).to(torch.device("meta")).positions is None


# ---- an epoch -----------------------------------------------------------------------------------


@pytest.fixture
def data(cells: Sentences, vocabulary: GeneVocabulary) -> TrainingData:
    return TrainingData(cells, MaskedTokens(vocabulary), RECIPE, held_out=cells)


def spelled(loader) -> list[tuple]:
    return [
        (batch.tokens.tolist(), batch.positions.tolist(), batch.targets.tolist(), batch.weight)
        for batch in loader
    ]


def at_epoch(data: TrainingData, epoch: int, rank: int = 0, n_ranks: int = 1) -> list[tuple]:
    data.trainer = SimpleNamespace(current_epoch=epoch, global_rank=rank, world_size=n_ranks)
    return spelled(data.train_dataloader())


def originals(batches: list[tuple]) -> list[tuple[int, ...]]:
    """The sentences under the masks, of the batches that count."""
    found = []
    for tokens, positions, targets, weight in batches:
        table = np.array(tokens)
        table.ravel()[positions] = targets
        found += [tuple(row[row > 0].tolist()) for row in table if weight]
    return sorted(found)


def everything(cells: Sentences) -> list[tuple[int, ...]]:
    return sorted(tuple(cells[i].tolist()) for i in range(len(cells)))


def test_epochs_are_their_own_and_repeatable(data: TrainingData, cells: Sentences):
    first, again, second = (at_epoch(data, epoch) for epoch in (0, 0, 1))
    assert first == again
    assert first != second
    assert originals(first) == originals(second) == everything(cells)
    assert len(first) == data.n_batches


def test_masks_of_a_sentence_change_with_the_epoch(cells: Sentences, vocabulary: GeneVocabulary):
    """Also where it stands first in its batch in both, as it does alone."""
    one = cells.subset(np.array([0]))
    data = TrainingData(one, MaskedTokens(vocabulary, share=0.5), RECIPE)
    masks = {tuple(at_epoch(data, epoch)[0][1]) for epoch in range(6)}
    assert len(masks) > 3


def test_without_a_trainer_it_is_the_first_epoch(data: TrainingData):
    expected = at_epoch(data, 0)
    data.trainer = None
    assert spelled(data.train_dataloader()) == expected


@pytest.mark.parametrize("n_ranks", [2, 3, 50])
def test_devices_get_different_batches(data: TrainingData, cells: Sentences, n_ranks: int):
    alone = at_epoch(data, 0)
    shares = [at_epoch(data, 0, rank, n_ranks) for rank in range(n_ranks)]
    assert {len(share) for share in shares} == {-(-len(alone) // n_ranks)}
    together = [batch for step in zip(*shares, strict=True) for batch in step]
    assert together[: len(alone)] == alone
    assert originals(together) == everything(cells)


def test_held_out_is_always_masked_alike(data: TrainingData, cells: Sentences):
    (loader,) = data.val_dataloader()
    first = spelled(loader)
    data.trainer = SimpleNamespace(current_epoch=5, global_rank=0, world_size=1)
    (loader,) = data.val_dataloader()
    assert spelled(loader) == first
    assert originals(first) == everything(cells)
    assert first != at_epoch(data, 0)


def test_nothing_held_out(cells: Sentences, vocabulary: GeneVocabulary):
    assert TrainingData(cells, MaskedTokens(vocabulary), RECIPE).val_dataloader() == []


def test_rows_of_a_batch(cells: Sentences, vocabulary: GeneVocabulary):
    recipe = replace(RECIPE, tokens_per_batch=None, rows_per_batch=12)
    data = TrainingData(cells, MaskedTokens(vocabulary), recipe)
    assert sorted(batch.rows.numel() for batch in data.train_dataloader()) == [4, 12, 12, 12]


def test_sentences_of_each_epoch(cells: Sentences, vocabulary: GeneVocabulary):
    asked = []

    def reversed_in_odd_epochs(epoch: int) -> Sentences:
        asked.append(epoch)
        if epoch % 2 == 0:
            return cells
        parts = [cells[i][::-1] for i in range(len(cells))]
        return Sentences(np.concatenate(parts), cells.offsets)

    objective = MaskedTokens(vocabulary)
    data = TrainingData(cells, objective, RECIPE, each_epoch=reversed_in_odd_epochs)
    assert originals(at_epoch(data, 0)) == everything(cells)
    assert originals(at_epoch(data, 0)) == everything(cells)
    backwards = sorted(tuple(cells[i][::-1].tolist()) for i in range(len(cells)))
    assert originals(at_epoch(data, 1)) == backwards
    assert asked == [0, 1]


def test_workers_make_the_same_batches(cells: Sentences, vocabulary: GeneVocabulary):
    objective = MaskedTokens(vocabulary)
    here, ahead = (TrainingData(cells, objective, RECIPE, workers=n) for n in (0, 2))
    state = torch.get_rng_state()
    assert at_epoch(ahead, 1) == at_epoch(here, 1)
    assert torch.equal(torch.get_rng_state(), state)
