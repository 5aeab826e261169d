"""Sentences of cells to train on, and models run on them: arrays, nothing of AnnData."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .._progress import progress_bar
from ..cells import Counts
from ._cell_source import CellSource, sentence_lengths

if TYPE_CHECKING:
    import torch

    from ..engine import Items, Plan, Reducer
    from ..models.bundle import Model
    from ..models.heads import Classifier
    from ..train import Sentences

# Sentences larger than this are kept in a file, which is mapped into memory.
_IN_MEMORY = 2_000_000_000
_BLOCK_TOKENS = 2_000_000
_CHUNK = 8192  # rows that a head is applied to at a time


class Cells(NamedTuple):
    """Sentences, and the row of the object that each is of (int64, rising)."""

    sentences: Sentences
    rows: np.ndarray


def cell_sentences(
    counts: Counts, part: np.ndarray, n_parts: int = 1, *, folder: Path | None = None
) -> list[Cells]:
    """Encode cells, in one pass, into one array that the parts share.

    Parameters
    ----------
    counts
        The checked counts.
    part
        One a cell: from 0, the part it belongs to; -1 leaves it out. Cells without a known gene are
        left out by themselves.
    n_parts
        How many parts there are.
    folder
        Where a file is made if they are larger than two gigabytes; it goes with this process.
    """
    from ..train import Sentences

    lengths = sentence_lengths(counts)
    rows_of = [np.flatnonzero((part == i) & (lengths > 0)) for i in range(n_parts)]
    order = np.concatenate(rows_of)
    offsets = np.concatenate([[0], np.cumsum(lengths[order])])
    start_of = np.full(counts.n_cells, -1, np.int64)
    start_of[order] = offsets[:-1]
    dtype = np.dtype(np.uint16 if len(counts.vocabulary) <= 2**16 else np.int32)
    tokens = _array(int(offsets[-1]), dtype, folder)
    _fill(tokens, start_of, counts)
    found, first = [], 0
    for rows in rows_of:
        own = offsets[first : first + rows.size + 1]
        found.append(Cells(Sentences(tokens[own[0] : own[-1]], own - own[0]), rows))
        first += rows.size
    return found


def _array(size: int, dtype: np.dtype, folder: Path | None) -> np.ndarray:
    if folder is None or size * dtype.itemsize <= _IN_MEMORY:
        return np.empty(size, dtype)
    folder.mkdir(parents=True, exist_ok=True)
    # Without a name: several processes do not meet, and it is gone with this one.
    with tempfile.TemporaryFile(dir=folder) as file:
        return np.asarray(np.memmap(file, dtype, "w+", shape=(size,)))


def _fill(tokens: np.ndarray, start_of: np.ndarray, counts: Counts) -> None:
    source = CellSource(counts)
    with progress_bar(source.n_usable, "cells", "encode") as advance:
        for block in range(source.n_blocks):
            items = source.block(block)
            starts = start_of[items.row]
            lengths = np.where(starts >= 0, items.lengths, 0)
            ends = np.cumsum(lengths)
            inside = np.arange(ends[-1] if ends.size else 0) - np.repeat(ends - lengths, lengths)
            tokens[np.repeat(starts, lengths) + inside] = items.tokens[
                np.repeat(items.offsets[:-1], lengths) + inside
            ]
            advance(len(items))


def row_vectors(model: Model, sentences: Sentences, plan: Plan) -> np.ndarray:
    """float32, sentences × width: the last hidden state at position 0, by the packed executor."""
    from ..engine import ArraySink, PoolRows

    sink = ArraySink(len(sentences), model.spec.shape.hidden_size)
    _run(model, sentences, plan, PoolRows("cls", sink), first_only=True)
    return sink.array


def token_means(
    model: Model, sentences: Sentences, plan: Plan, place_of_token: np.ndarray, n_places: int
) -> np.ndarray:
    """float32, places × width: the mean last hidden state of all tokens of a place; NaN if none."""
    from ..engine.gene_means import GeneMeans

    reducer = GeneMeans(place_of_token, n_places, model.spec.shape.hidden_size, device=plan.device)
    _run(model, sentences, plan, reducer, first_only=False)
    return reducer.means[0]


def apply_head(network: Classifier, vectors: np.ndarray, device: torch.device) -> np.ndarray:
    """float32, rows × outputs, of last hidden states; rows that are NaN stay NaN."""
    import torch

    found = np.empty((len(vectors), network.classifier.out_features), np.float32)
    parts = (network.pooler, network.classifier)
    moved = [None if part is None else _on(part, device) for part in parts]
    for start in range(0, len(vectors), _CHUNK):
        chunk = np.array(vectors[start : start + _CHUNK])  # a copy: a map may be read-only
        with torch.inference_mode(), torch.autocast(device.type, enabled=False):
            hidden = torch.from_numpy(chunk).to(device)
            if moved[0] is not None:
                hidden = torch.tanh(moved[0](hidden))
            assert moved[1] is not None
            found[start : start + _CHUNK] = moved[1](hidden).cpu().numpy()
    return found


def _on(part: torch.nn.Module, device: torch.device) -> torch.nn.Module:
    import copy

    here = next(part.parameters()).device
    return part if here == device else copy.deepcopy(part).to(device)


def _run(
    model: Model, sentences: Sentences, plan: Plan, reducer: Reducer, *, first_only: bool
) -> None:
    from ..engine import run
    from ._job_kinds import packed_bert

    what = f"predict with {model.spec.name}"
    with progress_bar(len(sentences), "sentences", what) as advance:
        run(
            _blocks(sentences),
            packed_bert(model, plan),
            reducer,
            plan,
            layer=model.spec.shape.n_layers,
            first_only=first_only,
            progress=lambda n_items, _: advance(n_items),
        )


def _blocks(sentences: Sentences) -> Iterator[Items]:
    from ..engine import Items

    offsets = sentences.offsets
    first = 0
    while first < len(sentences):
        last = int(np.searchsorted(offsets, offsets[first] + _BLOCK_TOKENS, side="right")) - 1
        last = max(last, first + 1)
        own = offsets[first : last + 1]
        tokens = np.asarray(sentences.tokens[own[0] : own[-1]]).astype(np.int32)
        lengths = np.diff(own)
        span = np.stack([np.zeros_like(lengths), lengths], axis=1).astype(np.int32)
        yield Items.one_a_row(np.arange(first, last), tokens, own - own[0], span)
        first = last
