"""Sentences to train on: packed in one array, cut into batches of similar length."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from ..models.vocabulary import GeneVocabulary
from .objectives import MaskedBatch, mask_tokens
from .recipes import Recipe


@dataclass(frozen=True)
class Sentences:
    """Token sentences end to end.

    Attributes
    ----------
    tokens
        int32, all sentences, special tokens included.
    offsets
        int64, sentences + 1: where each starts.
    """

    tokens: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return self.offsets.size - 1

    @property
    def lengths(self) -> np.ndarray:
        """int64, tokens of each sentence."""
        return np.diff(self.offsets)

    def __getitem__(self, i: int) -> np.ndarray:
        return self.tokens[self.offsets[i] : self.offsets[i + 1]]

    def padded(self, chosen: np.ndarray, pad: int) -> np.ndarray:
        """int64, chosen × longest of them, filled with ``pad``."""
        lengths = self.lengths[chosen]
        table = np.full((chosen.size, int(lengths.max())), pad, dtype=np.int64)
        inside = np.arange(table.shape[1]) < lengths[:, None]
        table[inside] = np.concatenate([self[i] for i in chosen])
        return table


class _Numbers(Dataset):  # type: ignore[type-arg]
    """Hands out sentence numbers: batches are made whole, from numbers, in the collate step."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> int:
        return i


class LengthGroupedBatches(Sampler[list[int]]):
    """Batches of at most so many padded tokens, of similar lengths, in a seed's own order.

    Sentences are shuffled, sorted by length within large groups, cut into batches, and the batches
    shuffled: little padding, and no two seeds alike. ``part`` is (rank, ranks): each rank gets its
    own batches, equally many, for which the first few may come twice.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        budget: int,
        seed: tuple[int, ...],
        *,
        part: tuple[int, int] = (0, 1),
        group: int = 512,
    ) -> None:
        rng = np.random.default_rng(seed)
        order = rng.permutation(lengths.size)
        groups = np.array_split(order, max(1, round(order.size / group)))
        order = np.concatenate([some[np.argsort(lengths[some], kind="stable")] for some in groups])
        cut = _cut(order, lengths, budget)
        rank, n_ranks = part
        shared = np.resize(rng.permutation(len(cut)), -(-len(cut) // n_ranks) * n_ranks)
        self._found = [cut[i] for i in shared[rank::n_ranks]]

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


def _cut(order: np.ndarray, lengths: np.ndarray, budget: int) -> list[list[int]]:
    """Cut an order into batches whose sentences × longest stay within the budget."""
    found: list[list[int]] = [[]]
    longest = 0
    for i, length in zip(order.tolist(), lengths[order].tolist(), strict=True):
        longest = max(longest, length)
        if found[-1] and longest * (len(found[-1]) + 1) > budget:
            found.append([])
            longest = length
        found[-1].append(i)
    return found


class SentenceData(pl.LightningDataModule):
    """Training and held-out sentences with masks drawn anew in every epoch.

    Parameters
    ----------
    train
        Sentences to train on.
    vocabulary
        Says which tokens are genes.
    recipe
        Masking, budget and seed.
    held_out
        Sentences to measure on; they always get the same masks.
    each_epoch
        Called with the epoch's number for the sentences of that epoch.
    """

    def __init__(
        self,
        train: Sentences,
        vocabulary: GeneVocabulary,
        recipe: Recipe,
        *,
        held_out: Sentences | None = None,
        each_epoch: Callable[[int], Sentences] | None = None,
    ) -> None:
        super().__init__()
        self.train, self.held_out, self.each_epoch = train, held_out, each_epoch
        self.vocabulary, self.recipe = vocabulary, recipe

    @property
    def n_batches(self) -> int:
        """Batches of the first epoch on all devices; later ones may have a few more or fewer."""
        return len(self._batches(self._sentences(0), epoch=0))

    def _sentences(self, epoch: int) -> Sentences:
        return self.train if self.each_epoch is None else self.each_epoch(epoch)

    def _batches(
        self, sentences: Sentences, epoch: int, part: tuple[int, int] = (0, 1)
    ) -> LengthGroupedBatches:
        recipe = self.recipe
        return LengthGroupedBatches(
            sentences.lengths, recipe.tokens_per_batch, seed=(recipe.seed, epoch), part=part
        )

    def masked(
        self, sentences: Sentences, chosen: np.ndarray, seed: tuple[int, ...]
    ) -> MaskedBatch:
        """A batch of the chosen sentences, masked with a draw that ``seed`` decides."""
        special, recipe = self.vocabulary.special, self.recipe
        tokens = sentences.padded(chosen, special["pad"])
        is_gene = ~np.isin(tokens, list(special.values()))
        shown, predicted = mask_tokens(
            tokens,
            is_gene,
            np.random.default_rng(seed),
            mask_token=special["mask"],
            random_tokens=self.vocabulary.tokens,
            share=recipe.mask_share,
            as_mask=recipe.mask_as_mask,
            as_random=recipe.mask_as_random,
        )
        positions = np.flatnonzero(predicted)
        return MaskedBatch(
            torch.from_numpy(shown),
            torch.from_numpy(tokens != special["pad"]),
            torch.from_numpy(positions),
            torch.from_numpy(tokens.ravel()[positions]),
        )

    def train_dataloader(self) -> DataLoader[int]:
        epoch, part = 0, (0, 1)
        if self.trainer is not None:
            epoch = self.trainer.current_epoch
            part = (self.trainer.global_rank, self.trainer.world_size)
        sentences = self._sentences(epoch)
        return self._loader(sentences, self._batches(sentences, epoch, part), (1, epoch))

    def val_dataloader(self) -> list[DataLoader[int]]:
        if self.held_out is None:
            return []
        return [self._loader(self.held_out, self._batches(self.held_out, 0), (2,))]

    def _loader(
        self, sentences: Sentences, batches: LengthGroupedBatches, draw: tuple[int, ...]
    ) -> DataLoader[int]:
        def collate(chosen: list[int]) -> MaskedBatch:
            # No two batches of an epoch begin with the same sentence: it names the draw.
            return self.masked(sentences, np.asarray(chosen), (self.recipe.seed, *draw, chosen[0]))

        return DataLoader(
            _Numbers(len(sentences)), batch_sampler=batches, collate_fn=collate, num_workers=0
        )

    def transfer_batch_to_device(
        self, batch: MaskedBatch, device: torch.device, dataloader_idx: int
    ) -> MaskedBatch:
        return batch.to(device)
