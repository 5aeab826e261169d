"""Shards: cut, kept, resumed at any batch, shared by processes: always the same bits."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import torch

from glm.engine import (
    ArraySink,
    PoolRows,
    Runner,
    WorkFolder,
    compute_shards,
    cut,
    gather,
    job,
    states,
)


class StopError(Exception):
    """Something that stops a run."""


def _make(kind, made, n_rows):
    """A reducer and how to look at its result."""
    sink = ArraySink(n_rows, made.width)
    if kind == "pool":
        return PoolRows("mean", sink), lambda reducer: sink.array
    if kind == "difference":
        return made.difference(sink), lambda reducer: sink.array
    return made.sums(), lambda reducer: reducer.result


KINDS = pytest.mark.parametrize("kind", ["pool", "difference", "sums"])


def _source(kind, made, **options):
    return made.source(parts=2 if kind == "difference" else 1, **options)


def _in_memory(kind, made, budget=20, **options):
    source = _source(kind, made, **options)
    reducer, look = _make(kind, made, source.n_rows)
    runner = Runner(made.executor(), made.plan(budget), layer=1)
    gather(states(source, reducer, runner), reducer)
    return look(reducer)


def _go_on(kind, made, path, executor, rank=0, world=1, budget=20, **options):
    source = _source(kind, made, **options)
    reducer, look = _make(kind, made, source.n_rows)
    folder = WorkFolder(path, {"kind": kind})
    runner = Runner(executor, made.plan(budget), layer=1)
    compute_shards(source, reducer, runner, folder, rank=rank, world=world)
    return source, folder, reducer, look


def _gathered(folder, source, reducer, look):
    gather(folder.states(len(cut(source, reducer))), reducer)
    return look(reducer)


def test_the_difference_of_alleles_by_hand(made):
    source = made.source(parts=2, n_rows=7, rows_per_block=3)
    got = _in_memory("difference", made, n_rows=7, rows_per_block=3)
    executor = made.executor()
    for block in range(source.n_blocks):
        items = source.block(block)
        for row in np.unique(items.row):
            of_row = [
                items.take(np.flatnonzero((items.row == row) & (items.part == p))) for p in (0, 1)
            ]
            means = [
                executor.hidden(torch.from_numpy(i.tokens), i.lengths.tolist(), layer=1).mean(0)
                for i in of_row
            ]
            np.testing.assert_allclose(got[row], means[1] - means[0], atol=1e-6)


@KINDS
def test_shards_give_the_same_bits_as_memory(kind, made, tmp_path):
    source, folder, reducer, look = _go_on(kind, made, tmp_path / "out", made.executor())
    got = _gathered(folder, source, reducer, look)
    np.testing.assert_array_equal(got, _in_memory(kind, made))


@KINDS
@pytest.mark.parametrize("saves", [0.0, 1e9], ids=["saved after each batch", "saved when stopped"])
@pytest.mark.parametrize("most_states", [2, 16])
@pytest.mark.faults
def test_stopped_at_every_batch(kind, made, tmp_path, monkeypatch, saves, most_states):
    """However often it is stopped, each item is computed once and the bits are the same."""
    monkeypatch.setattr(job, "_SECONDS_BETWEEN_SAVES", saves)
    monkeypatch.setattr(job, "_MOST_STATES", most_states)  # with few, shards have several blocks

    def after_two(n_batches, n_tokens):
        if n_batches == 2:
            raise StopError

    sentences, n_stops = [], 0
    while True:
        executor = made.executor(after_two)
        try:
            source, folder, reducer, look = _go_on(kind, made, tmp_path / "out", executor)
            break
        except StopError:
            n_stops += 1
        finally:
            sentences += executor.sentences
    assert n_stops > 3
    assert len(sentences) == sum(map(source.n_items, range(source.n_blocks)))
    got = _gathered(folder, source, reducer, look)
    np.testing.assert_array_equal(got, _in_memory(kind, made))


@pytest.mark.faults
def test_stopped_while_a_batch_is_taken_in(made, tmp_path):
    """What the reducer holds is then not known: nothing is kept, and no item comes twice."""

    n_taken_in = 0

    class Interrupted(PoolRows):
        def update(self, batch, hidden):
            nonlocal n_taken_in
            super().update(batch, hidden)
            n_taken_in += 1
            if n_taken_in == 2:
                raise KeyboardInterrupt

    source, folder = made.source(), WorkFolder(tmp_path / "out", {"kind": "pool"})
    runner = Runner(made.executor(), made.plan(), layer=1)
    reducer = Interrupted("mean", ArraySink(23, made.width))
    with pytest.raises(KeyboardInterrupt):
        compute_shards(source, reducer, runner, folder)
    assert not folder.has(0)
    assert folder.read_part(0) is None
    found = _go_on("pool", made, tmp_path / "out", made.executor())
    np.testing.assert_array_equal(
        _gathered(found[1], found[0], *found[2:]), _in_memory("pool", made)
    )


@pytest.mark.faults
def test_stopped_while_the_next_block_is_read(made, tmp_path, monkeypatch):
    monkeypatch.setattr(job, "_MOST_STATES", 2)
    source, folder = made.source(n_rows=40), WorkFolder(tmp_path / "out", {"kind": "sums"})
    read = source.block

    def block(number):
        if number == 2:
            raise StopError
        return read(number)

    source.block = block
    assert len(cut(source, made.sums())[0].blocks) == 4
    with pytest.raises(StopError):
        compute_shards(source, made.sums(), Runner(made.executor(), made.plan(), layer=1), folder)
    found = _go_on("sums", made, tmp_path / "out", made.executor(), n_rows=40)
    expected = _in_memory("sums", made, n_rows=40)
    np.testing.assert_array_equal(_gathered(found[1], found[0], *found[2:]), expected)


@KINDS
@pytest.mark.parametrize(("n_rows", "world"), [(23, 2), (23, 3), (4, 3), (1, 2)])
def test_processes_share_the_shards(kind, made, tmp_path, n_rows, world):
    executors = [made.executor() for _ in range(world)]
    for rank in reversed(range(world)):
        found = _go_on(
            kind, made, tmp_path / "out", executors[rank], rank=rank, world=world, n_rows=n_rows
        )
    source, folder, reducer, look = found
    n_items = sum(map(source.n_items, range(source.n_blocks)))
    assert sum(len(executor.sentences) for executor in executors) == n_items
    got = _gathered(folder, source, reducer, look)
    np.testing.assert_array_equal(got, _in_memory(kind, made, n_rows=n_rows))


def test_sums_have_few_states(made):
    source = made.source(n_rows=500, rows_per_block=5)
    assert len(cut(source, made.sums())) <= 16
    pooled = PoolRows("mean", ArraySink(1, 1))
    assert [len(shard.blocks) for shard in cut(source, pooled)] == [1] * 100


def test_done_shards_are_not_computed_again(made, tmp_path):
    _go_on("pool", made, tmp_path / "out", made.executor())
    executor = made.executor()
    skipped = []
    source = made.source()
    reducer = PoolRows("mean", ArraySink(23, made.width))
    folder = WorkFolder(tmp_path / "out", {"kind": "pool"})
    compute_shards(
        source, reducer, Runner(executor, made.plan(), layer=1), folder, skipped=skipped.append
    )
    assert executor.batches == []
    assert source.asked == []
    assert sum(skipped) == 23


@pytest.mark.parametrize("stop", [2, 9], ids=["in the first shard", "later"])
@pytest.mark.faults
def test_the_halved_budget_is_remembered(made, tmp_path, stop):
    """A run that goes on cuts its batches as the run would have that was not stopped."""

    def short(n_batches, n_tokens):
        if n_tokens > 12:
            raise torch.OutOfMemoryError("out of memory")

    def short_then_stop(n_batches, n_tokens):
        short(n_batches, n_tokens)
        if n_batches == stop:
            raise StopError

    whole = made.executor(short)
    _go_on("pool", made, tmp_path / "whole", whole)
    first = made.executor(short_then_stop)
    with pytest.raises(StopError):
        _go_on("pool", made, tmp_path / "out", first)
    second = made.executor()  # has memory again
    _go_on("pool", made, tmp_path / "out", second)
    assert first.batches + second.batches == whole.batches


# ---- the folder --------------------------------------------------------------------------------


def test_other_facts_are_refused(tmp_path):
    WorkFolder(tmp_path / "out", {"model": "a", "pooling": "mean", "n_cells": 5})
    with pytest.raises(ValueError, match=r"n_cells is 5 there and 6 here.*name another") as error:
        WorkFolder(tmp_path / "out", {"model": "a", "pooling": "cls", "n_cells": 6})
    assert "pooling is 'mean' there and 'cls' here" in str(error.value)
    assert "model" not in str(error.value).partition("another run")[2].partition("Repeat")[0]
    WorkFolder(tmp_path / "out", {"model": "a", "pooling": "mean", "n_cells": 5})


def test_of_two_that_begin_at_once_one_is_refused(tmp_path, monkeypatch):
    """Both find no manifest; the second must not put its own over the first one's."""
    write = WorkFolder._write_manifest

    def late(folder, **options):
        monkeypatch.setattr(WorkFolder, "_write_manifest", write)
        WorkFolder(tmp_path / "out", {"model": "a"})
        write(folder, **options)

    monkeypatch.setattr(WorkFolder, "_write_manifest", late)
    with pytest.raises(ValueError, match="model is 'a' there and 'b' here"):
        WorkFolder(tmp_path / "out", {"model": "b"})
    WorkFolder(tmp_path / "out", {"model": "a"})


def test_a_disk_without_links(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", lambda *a: (_ for _ in ()).throw(PermissionError("no links")))
    WorkFolder(tmp_path / "out", {"model": "a"})
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["manifest.json"]
    WorkFolder(tmp_path / "out", {"model": "a"})


@pytest.mark.parametrize("what", ["file", "folder", "manifest", "json"])
def test_foreign_paths_are_refused(tmp_path, what):
    path = tmp_path / "out"
    if what == "file":
        path.write_text("mine")
    else:
        path.mkdir()
        content = {"folder": "mine", "manifest": "{", "json": json.dumps({"format": "other"})}
        (path / ("mine.txt" if what == "folder" else "manifest.json")).write_text(content[what])
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with pytest.raises(ValueError, match=r"[Nn]ame (a new|an|one that)"):
        WorkFolder(path, {})
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("how", ["cut", "flipped"])
@pytest.mark.faults
def test_a_damaged_shard_is_named(made, tmp_path, how):
    source, folder, reducer, look = _go_on("pool", made, tmp_path / "out", made.executor())
    path = tmp_path / "out" / "shards" / "000001.npz"
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 300] = bytes(300) if how == "flipped" else b""
    path.write_bytes(content[:middle] if how == "cut" else content)
    with pytest.raises(OSError, match=r"000001\.npz is damaged.*Delete this one file"):
        _gathered(folder, source, reducer, look)
    path.unlink()
    found = _go_on("pool", made, tmp_path / "out", made.executor())
    np.testing.assert_array_equal(
        _gathered(found[1], found[0], *found[2:]), _in_memory("pool", made)
    )


@pytest.mark.faults
def test_damage_anywhere_is_told_or_harms_nothing(tmp_path):
    folder, rng = WorkFolder(tmp_path / "out", {}), np.random.default_rng(0)
    vectors = rng.normal(size=(20, 4))
    folder.write(0, job.Saved({"vector": vectors}, (0, 5), 100))
    path = tmp_path / "out" / "shards" / "000000.npz"
    whole, told = path.read_bytes(), set()
    for place in range(len(whole)):
        content = bytearray(whole)
        content[place] ^= 1 << rng.integers(8)
        path.write_bytes(content)
        try:
            saved = folder.read(0)
        except OSError as error:
            told.add(str(error).partition(" (")[0])
        else:
            assert saved.place == (0, 5)
            assert saved.budget == 100
            np.testing.assert_array_equal(saved.state["vector"], vectors)
    assert told == {f"{path} is damaged"}


@pytest.mark.faults
def test_a_write_that_fails_leaves_no_trace(made, tmp_path, monkeypatch):
    folder = WorkFolder(tmp_path / "out", {})
    monkeypatch.setattr(np, "savez", lambda *a, **k: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        folder.write(0, job.Saved({}, (0, 0), 1))
    assert [p.name for p in (tmp_path / "out").rglob("*") if p.is_file()] == ["manifest.json"]


def test_hashes_are_shown_short(tmp_path):
    WorkFolder(tmp_path / "out", {"weights_sha256": "0a" * 32, "n_rows": 3})
    said = r"weights_sha256 is 0a0a0a0a0a0a… there and 0b0b0b0b0b0b… here\. Repeat"
    with pytest.raises(ValueError, match=said):
        WorkFolder(tmp_path / "out", {"weights_sha256": "0b" * 32, "n_rows": 3})
