"""Batches of a block, budgets, and memory that runs out."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from glm.engine import ArraySink, PoolRows, Runner, batches, run
from glm.engine.run import is_out_of_memory


def _pooled(made, executor, budget=20, source=None):
    source = source or made.source()
    sink = ArraySink(source.n_rows, made.width)
    blocks = [source.block(i) for i in range(source.n_blocks)]
    run(blocks, executor, PoolRows("mean", sink), made.plan(budget), layer=1)
    return sink.array


def test_batches_are_within_the_budget_longest_first(made):
    items = made.source(n_rows=30, rows_per_block=30).block(0)
    parts = list(batches(items, 20))
    assert sorted(np.concatenate([part.row for part in parts]).tolist()) == list(range(30))
    assert all(part.tokens.size <= 20 or len(part) == 1 for part in parts)
    lengths = np.concatenate([part.lengths for part in parts])
    assert (np.diff(lengths) <= 0).all()


def test_a_sentence_longer_than_the_budget_runs_alone(made):
    executor = made.executor()
    _pooled(made, executor, budget=1)
    assert len(executor.batches) == len(executor.sentences) == 23


def _no_more_than(limit, error):
    def fails(n_batches, n_tokens):
        if n_tokens > limit:
            raise error

    return fails


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.faults
def test_out_of_memory_halves_the_budget_and_goes_on(made, error, caplog):
    expected = _pooled(made, made.executor())
    executor = made.executor(_no_more_than(14, error))
    with caplog.at_level(logging.WARNING, logger="glm"):
        np.testing.assert_array_equal(_pooled(made, executor), expected)
    assert max(executor.batches) <= 14
    assert len(executor.sentences) == 23  # each once
    said = [r.getMessage() for r in caplog.records if "ran out" in r.getMessage()]
    assert len(said) == 1
    assert "going on with a token budget of" in said[0]


@pytest.mark.faults
def test_the_smaller_budget_stays(made):
    executor = made.executor(_no_more_than(14, torch.OutOfMemoryError("out of memory")))
    runner = Runner(executor, made.plan(20), layer=1)
    reducer = PoolRows("mean", ArraySink(23, made.width))
    source = made.source()
    runner.run(source.block(0), reducer)
    assert runner.budget <= 10
    tried = len(executor.batches)
    runner.run(source.block(1), reducer)
    assert max(executor.batches[tried:]) <= max(runner.budget, 11)


@pytest.mark.faults
def test_a_sentence_that_does_not_fit_says_so(made):
    executor = made.executor(_no_more_than(6, torch.OutOfMemoryError("out of memory")))
    with pytest.raises(RuntimeError, match=r"single sentence of \d+ tokens \(row \d+\).*out=") as e:
        _pooled(made, executor)
    assert e.value.__context__ is None  # what held on to the tensors is gone


@pytest.mark.faults
def test_other_errors_are_not_taken_for_it(made):
    executor = made.executor(_no_more_than(14, RuntimeError("mat1 and mat2 do not fit")))
    with pytest.raises(RuntimeError, match="mat1"):
        _pooled(made, executor)
    assert not is_out_of_memory(ValueError("out of memory"))


@pytest.mark.faults
def test_memory_that_runs_out_in_the_reducer(made):
    """The batch comes again in halves, and nothing of it is counted twice."""

    class Short(PoolRows):
        failed = False

        def update(self, batch, hidden):
            if not self.failed:
                self.failed = True
                raise torch.OutOfMemoryError("out of memory")
            super().update(batch, hidden)

    source, sink = made.source(), ArraySink(23, made.width)
    blocks = [source.block(i) for i in range(source.n_blocks)]
    run(blocks, made.executor(), Short("mean", sink), made.plan(), layer=1)
    np.testing.assert_array_equal(sink.array, _pooled(made, made.executor()))


def test_sums_are_finished_once(made):
    source, reducer = made.source(), made.sums()
    blocks = [source.block(i) for i in range(source.n_blocks)]
    run(blocks, made.executor(), reducer, made.plan(), layer=1)
    tokens = np.concatenate([block.tokens for block in blocks])
    assert (np.flatnonzero(reducer.result.any(axis=1)) == np.unique(tokens)).all()
