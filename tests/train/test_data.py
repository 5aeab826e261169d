"""Sentences to train on: every one once an epoch, within the budget, by seed and epoch alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glm.models import GeneVocabulary
from glm.train import Recipe, SentenceData, Sentences
from glm.train.data import LengthGroupedBatches

RECIPE = Recipe(
    learning_rate=1e-3,
    warmup_steps=2,
    weight_decay=0.01,
    mask_share=0.15,
    mask_as_mask=0.8,
    mask_as_random=0.1,
    tokens_per_batch=100,
    max_epochs=2,
    min_genes=2,
)
LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=60)


@pytest.fixture(scope="module")
def vocabulary(make_vocabulary: Callable[..., GeneVocabulary]) -> GeneVocabulary:
    return make_vocabulary(v2=True)


@pytest.fixture(scope="module")
def sentences(vocabulary: GeneVocabulary) -> Sentences:
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


# ---- batches ------------------------------------------------------------------------------------


@given(LENGTHS, st.integers(1, 200), st.integers(0, 3), st.integers(1, 70))
def test_each_once_within_the_budget(lengths: list[int], budget: int, seed: int, group: int):
    sizes = np.array(lengths)
    found = list(LengthGroupedBatches(sizes, budget, (seed,), group=group))
    assert sorted(i for batch in found for i in batch) == list(range(len(lengths)))
    for batch in found:
        assert batch
        assert len(batch) == 1 or len(batch) * sizes[batch].max() <= budget


def test_seed_decides():
    sizes = np.random.default_rng(0).integers(1, 50, 300)
    one, other, third = (list(LengthGroupedBatches(sizes, 400, (0, s))) for s in (1, 1, 2))
    assert one == other
    assert one != third
    assert {frozenset(batch) for batch in one} != {frozenset(batch) for batch in third}


def test_walked_twice_and_counted():
    batches = LengthGroupedBatches(np.arange(1, 20), 40, (0,))
    assert list(batches) == list(batches)
    assert len(batches) == len(list(batches))


def test_little_padding():
    sizes = np.random.default_rng(0).integers(10, 2_000, 5_000)
    batches = list(LengthGroupedBatches(sizes, 12 * 2_048, (0,)))
    padded = sum(len(batch) * sizes[batch].max() for batch in batches)
    assert padded < 1.1 * sizes.sum()
    at_random = np.array_split(np.random.default_rng(0).permutation(5_000), len(batches))
    assert sum(len(part) * sizes[part].max() for part in at_random) > 1.5 * sizes.sum()


def test_long_and_short_batches_are_mixed():
    """The order of batches does not follow the lengths."""
    sizes = np.random.default_rng(0).integers(1, 200, 2_000)
    longest = [sizes[batch].max() for batch in LengthGroupedBatches(sizes, 1_000, (0,))]
    order = np.corrcoef(np.arange(len(longest)), longest)[0, 1]
    assert abs(order) < 0.2


@given(LENGTHS, st.integers(1, 5))
def test_ranks_share_the_batches(lengths: list[int], n_ranks: int):
    """Equally many each; together all of them, the first few twice where they do not divide."""
    sizes = np.array(lengths)
    alone = list(LengthGroupedBatches(sizes, 60, (0,)))
    ranks = [
        list(LengthGroupedBatches(sizes, 60, (0,), part=(rank, n_ranks))) for rank in range(n_ranks)
    ]
    assert len({len(rank) for rank in ranks}) == 1
    together = [rank[i] for i in range(len(ranks[0])) for rank in ranks]
    assert together[: len(alone)] == alone
    assert len(together) - len(alone) < n_ranks
    assert all(batch in alone for batch in together)


# ---- masked batches -----------------------------------------------------------------------------


@pytest.fixture
def data(sentences: Sentences, vocabulary: GeneVocabulary) -> SentenceData:
    return SentenceData(sentences, vocabulary, RECIPE, held_out=sentences)


def test_masked(data: SentenceData, sentences: Sentences, vocabulary: GeneVocabulary):
    chosen = np.array([5, 0, 17])
    batch = data.masked(sentences, chosen, (1, 2))
    original = torch.from_numpy(sentences.padded(chosen, 0))
    assert batch.tokens.shape == batch.mask.shape == original.shape
    assert batch.mask.sum(dim=1).tolist() == sentences.lengths[chosen].tolist()
    assert (batch.tokens[~batch.mask] == 0).all()
    assert torch.equal(batch.targets, original.flatten()[batch.positions])
    assert set(batch.targets.tolist()) <= set(vocabulary.tokens.tolist())
    hidden = torch.zeros(original.numel(), dtype=torch.bool)
    hidden[batch.positions] = True
    assert torch.equal(batch.tokens.flatten()[~hidden], original.flatten()[~hidden])
    assert batch.positions.dtype == batch.targets.dtype == batch.tokens.dtype == torch.int64


def test_masks_follow_the_recipe(sentences: Sentences, vocabulary: GeneVocabulary):
    recipe = replace(RECIPE, mask_share=1.0, mask_as_mask=1.0, mask_as_random=0.0)
    data = SentenceData(sentences, vocabulary, recipe)
    batch = data.masked(sentences, np.arange(4), (0,))
    assert set(batch.tokens.unique().tolist()) == {0, 1, 2, 3}
    assert batch.positions.numel() == (sentences.lengths[:4] - 2).sum()


def spelled(loader) -> list[tuple]:
    return [
        (batch.tokens.tolist(), batch.positions.tolist(), batch.targets.tolist())
        for batch in loader
    ]


def at_epoch(data: SentenceData, epoch: int, rank: int = 0, n_ranks: int = 1) -> list[tuple]:
    data.trainer = SimpleNamespace(current_epoch=epoch, global_rank=rank, world_size=n_ranks)
    return spelled(data.train_dataloader())


def originals(batches: list[tuple]) -> list[tuple[int, ...]]:
    """The sentences under the masks."""
    found = []
    for tokens, positions, targets in batches:
        table = np.array(tokens)
        table.ravel()[positions] = targets
        found += [tuple(row[row > 0].tolist()) for row in table]
    return sorted(found)


def test_epochs_are_their_own_and_repeatable(data: SentenceData, sentences: Sentences):
    first, again, second = (at_epoch(data, epoch) for epoch in (0, 0, 1))
    assert first == again
    assert first != second
    everything = sorted(tuple(sentences[i].tolist()) for i in range(len(sentences)))
    assert originals(first) == originals(second) == everything
    assert len(first) == data.n_batches


def test_masks_of_a_sentence_change_with_the_epoch(
    sentences: Sentences, vocabulary: GeneVocabulary
):
    """Also where it stands first in its batch in both, as it does alone."""
    one = Sentences(sentences[0], np.array([0, sentences.lengths[0]]))
    data = SentenceData(one, vocabulary, replace(RECIPE, mask_share=0.5))
    masks = {tuple(at_epoch(data, epoch)[0][1]) for epoch in range(6)}
    assert len(masks) > 3


def test_without_a_trainer_it_is_the_first_epoch(data: SentenceData):
    expected = at_epoch(data, 0)
    data.trainer = None
    assert spelled(data.train_dataloader()) == expected


def test_devices_get_different_batches(data: SentenceData):
    alone = at_epoch(data, 0)
    shares = [at_epoch(data, 0, rank, 2) for rank in range(2)]
    assert len(shares[0]) == len(shares[1]) == -(-len(alone) // 2)
    assert [batch for pair in zip(*shares, strict=True) for batch in pair][: len(alone)] == alone


def test_held_out_is_always_masked_alike(data: SentenceData):
    (loader,) = data.val_dataloader()
    first = spelled(loader)
    data.trainer = SimpleNamespace(current_epoch=5, global_rank=0, world_size=1)
    (loader,) = data.val_dataloader()
    assert spelled(loader) == first
    assert first != at_epoch(data, 0)


def test_nothing_held_out(sentences: Sentences, vocabulary: GeneVocabulary):
    assert SentenceData(sentences, vocabulary, RECIPE).val_dataloader() == []


def test_sentences_of_each_epoch(sentences: Sentences, vocabulary: GeneVocabulary):
    asked = []

    def reversed_in_odd_epochs(epoch: int) -> Sentences:
        asked.append(epoch)
        if epoch % 2 == 0:
            return sentences
        parts = [sentences[i][::-1] for i in range(len(sentences))]
        return Sentences(np.concatenate(parts), sentences.offsets)

    data = SentenceData(sentences, vocabulary, RECIPE, each_epoch=reversed_in_odd_epochs)
    assert originals(at_epoch(data, 0)) == sorted(
        tuple(sentences[i].tolist()) for i in range(len(sentences))
    )
    assert originals(at_epoch(data, 1)) == sorted(
        tuple(sentences[i][::-1].tolist()) for i in range(len(sentences))
    )
    assert set(asked) == {0, 1}
