"""The engine: every item once, within its budget, and a result that does not know of the cuts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glm.engine import ArraySink, Items, Plan, PoolRows, batches, make_plan, run
from glm.engine.gene_means import _add_rows

LENGTHS = st.lists(st.integers(1, 40), max_size=30)


def make_items(lengths: list[int], *, rows: list[int] | None = None, seed: int = 0) -> Items:
    """Items of these lengths; ``rows`` says whose, the parts are counted from it."""
    rng = np.random.default_rng(seed)
    rows = list(range(len(lengths))) if rows is None else rows
    parts = [rows[:i].count(row) for i, row in enumerate(rows)]
    sizes = np.array(lengths, np.int64)
    start = rng.integers(0, np.maximum(sizes, 1))
    stop = rng.integers(start, np.maximum(sizes, 1)) + 1 if sizes.size else start
    return Items(
        row=np.array(rows, np.int64),
        part=np.array(parts, np.int32),
        tokens=rng.integers(0, 50, int(sizes.sum())).astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum(sizes)]),
        span=np.stack([start, stop], axis=1).astype(np.int32),
        weight=rng.uniform(0.1, 3.0, sizes.size).astype(np.float32),
    )


def spelled(items: Items) -> list[tuple]:
    """Each item by value."""
    return [
        (
            int(items.row[i]),
            int(items.part[i]),
            tuple(items.tokens[items.offsets[i] : items.offsets[i + 1]].tolist()),
            tuple(items.span[i].tolist()),
            float(items.weight[i]),
        )
        for i in range(len(items))
    ]


# ---- items and batches --------------------------------------------------------------------------


@given(LENGTHS, st.data())
def test_take(lengths: list[int], data: st.DataObject):
    items = make_items(lengths)
    any_item = st.integers(0, max(len(lengths) - 1, 0))
    chosen = data.draw(st.lists(any_item, max_size=12 if lengths else 0))
    taken = items.take(np.array(chosen, dtype=np.int64))
    assert spelled(taken) == [spelled(items)[i] for i in chosen]
    assert taken.lengths.tolist() == [lengths[i] for i in chosen]
    for name in ("row", "part", "tokens", "offsets", "span", "weight"):
        assert getattr(taken, name).dtype == getattr(items, name).dtype


def test_one_a_row():
    rows, offsets = np.array([4, 2], np.int32), np.array([0, 2, 3])
    span = np.array([[0, 2], [0, 1]], np.int32)
    items = Items.one_a_row(rows, np.arange(3, dtype=np.int32), offsets, span)
    assert spelled(items) == [(4, 0, (0, 1), (0, 2), 1.0), (2, 0, (2,), (0, 1), 1.0)]
    assert len(items) == 2


@given(LENGTHS, st.integers(1, 100))
def test_batches_cover_each_item_once_within_the_budget(lengths: list[int], budget: int):
    items = make_items(lengths)
    cut = list(batches(items, budget))
    assert sorted(item for batch in cut for item in spelled(batch)) == sorted(spelled(items))
    for batch in cut:
        assert len(batch) == 1 or batch.tokens.size <= budget
        assert len(batch) >= 1
    together = [length for batch in cut for length in batch.lengths.tolist()]
    assert together == sorted(lengths, reverse=True)


def test_batches_are_as_full_as_their_order_allows():
    sizes = [batch.lengths.tolist() for batch in batches(make_items([3, 3, 5, 2, 9, 1]), 8)]
    assert sizes == [[9], [5, 3], [3, 2, 1]]


# ---- plan ---------------------------------------------------------------------------------------


def test_plan():
    plan = make_plan("cpu")
    assert (plan.device.type, plan.precision) == ("cpu", "float32")
    assert plan.budget > 1_000
    assert make_plan("cpu", budget=7).budget == 7
    assert make_plan().device.type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("budget", [0, -5])
def test_budgets_that_hold_nothing(budget: int):
    with pytest.raises(ValueError, match="expected at least 1"):
        make_plan("cpu", budget=budget)


@pytest.mark.parametrize(
    ("device", "message"),
    [("gpu", "no device 'gpu'"), ("", "no device ''"), ("meta", "not supported")],
)
def test_devices_that_are_not_there(device: str, message: str):
    with pytest.raises((ValueError, TypeError), match=message):
        make_plan(device)


def test_cuda_without_cuda(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="finds no CUDA"):
        make_plan("cuda:1")


# ---- reducers -----------------------------------------------------------------------------------

WIDTH = 3
TABLE = torch.randn(50, WIDTH, generator=torch.Generator().manual_seed(0))


class TableExecutor:
    """Hidden states that depend on the token alone, so that cutting work cannot change them."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int, bool]] = []

    def hidden(self, tokens, lengths, *, layer, first_only=False):
        self.asked.append((sum(lengths), layer, first_only))
        found = TABLE[tokens.long()] + layer
        if not first_only:
            return found
        return found[torch.tensor([0, *np.cumsum(lengths)[:-1].tolist()])]


def pooled_by_hand(items: Items, pooling: str, n_rows: int, layer: int = 0) -> np.ndarray:
    expected = np.full((n_rows, WIDTH), np.nan)
    for row in range(n_rows):
        vectors, weights = [], []
        for i in np.flatnonzero(items.row == row):
            states = TABLE[items.tokens[items.offsets[i] : items.offsets[i + 1]].tolist()] + layer
            inside = states[slice(*items.span[i])] if pooling == "mean" else states[:1]
            vectors.append(inside.double().mean(dim=0).numpy())
            weights.append(float(items.weight[i]))
        if vectors:
            expected[row] = np.average(vectors, axis=0, weights=weights)
    return expected


def pool(source: list[Items], pooling: str, budget: int, n_rows: int, layer: int = 0) -> np.ndarray:
    sink = ArraySink(n_rows, WIDTH)
    plan = Plan(torch.device("cpu"), "float32", budget)
    run(
        source,
        TableExecutor(),
        PoolRows(pooling, sink),
        plan,
        layer=layer,
        first_only=pooling == "cls",
    )
    return sink.array


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("n_rows", [1, 7])
def test_pooling_of_one_item_a_row(pooling: str, n_rows: int):
    items = make_items([5, 1, 9, 2, 3, 7, 4][:n_rows])
    found = pool([items], pooling, 10, n_rows)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, pooled_by_hand(items, pooling, n_rows), atol=1e-6)


TWO_A_ROW = make_items([5, 1, 9, 2, 3, 7, 4, 4], rows=[3, 0, 3, 2, 0, 2, 5, 5])


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_weighted_mean_of_several_items_a_row(pooling: str):
    found = pool([TWO_A_ROW], pooling, 8, 6)
    expected = pooled_by_hand(TWO_A_ROW, pooling, 6)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.isnan(found[[1, 4]]).all()  # rows that no item belongs to


def test_span_not_the_whole_sentence():
    """What lies outside the span (special tokens) has no part in the mean."""
    items = Items.one_a_row(
        np.array([0]), np.array([2, 10, 11, 3], np.int32), np.array([0, 4]), np.array([[1, 3]])
    )
    expected = TABLE[[10, 11]].mean(dim=0)
    np.testing.assert_allclose(pool([items], "mean", 8, 1)[0], expected, atol=1e-7)


def blocks_of(items: Items, cuts: list[int]) -> Iterator[Items]:
    """Whole rows of the items, a block at a time."""
    for block in np.array_split(np.unique(items.row), cuts):
        yield items.take(np.flatnonzero(np.isin(items.row, block)))


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(1, 30), min_size=2, max_size=24),
    seed=st.integers(0, 100),
    budget=st.integers(1, 120),
    cuts=st.lists(st.integers(0, 12), max_size=4).map(sorted),
    pooling=st.sampled_from(["mean", "cls"]),
)
def test_the_result_does_not_depend_on_the_cuts(
    lengths: list[int], seed: int, budget: int, cuts: list[int], pooling: str
):
    """Three items a row: bit for bit the same whatever the blocks, budgets and order of items."""
    rng = np.random.default_rng(seed)
    rows = [i // 3 for i in range(len(lengths))]
    items = make_items(lengths, rows=rows, seed=seed)
    n_rows = rows[-1] + 1
    once = pool([items], pooling, 10**6, n_rows)
    shuffled = items.take(rng.permutation(len(items)))
    assert np.array_equal(pool(list(blocks_of(shuffled, cuts)), pooling, budget, n_rows), once)


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(1, 30), min_size=2, max_size=24),
    seed=st.integers(0, 100),
    n_workers=st.integers(1, 4),
    pooling=st.sampled_from(["mean", "cls"]),
)
def test_merged_states_of_several_workers(
    lengths: list[int], seed: int, n_workers: int, pooling: str
):
    """The items of one row on different workers: merged, bit for bit the same as on one."""
    rng = np.random.default_rng(seed)
    rows = [i // 3 for i in range(len(lengths))]
    items = make_items(lengths, rows=rows, seed=seed)
    n_rows = rows[-1] + 1
    workers = [PoolRows(pooling, ArraySink(0, WIDTH)) for _ in range(n_workers)]
    mine = rng.integers(0, n_workers, len(items))
    executor = TableExecutor()
    for number, worker in enumerate(workers):
        for batch in batches(items.take(np.flatnonzero(mine == number)), 20):
            states = executor.hidden(
                torch.from_numpy(batch.tokens),
                batch.lengths.tolist(),
                layer=0,
                first_only=pooling == "cls",
            )
            worker.update(batch, states)
    sink = ArraySink(n_rows, WIDTH)
    whole = PoolRows(pooling, sink)
    for number in rng.permutation(n_workers).tolist():
        whole.merge(workers[number].state())
    whole.finish()
    assert np.array_equal(sink.array, pool([items], pooling, 10**6, n_rows))


def test_items_of_a_row_are_summed_in_the_order_of_their_parts():
    """Vectors whose sum depends on the order of the additions, handed over in every order."""
    items = replace(make_items([1, 1, 1], rows=[0, 0, 0]), weight=np.ones(3, np.float32))
    vectors = torch.tensor([[1e20], [-1e20], [3.0]])
    found = set()
    for order in permutations(range(3)):
        sink = ArraySink(1, 1)
        reducer = PoolRows("cls", sink)
        for i in order:
            reducer.update(items.take(np.array([i])), vectors[[i]])
        reducer.finish()
        found.add(sink.array.tobytes())
    assert len(found) == 1


def test_state_is_plain_arrays():
    reducer = PoolRows("mean", ArraySink(6, WIDTH))
    assert reducer.state() == {}
    reducer.merge({})
    reducer.finish()  # nothing to hand over
    reducer.update(TWO_A_ROW, TABLE[TWO_A_ROW.tokens.tolist()])
    state = reducer.state()
    assert {name: value.shape[0] for name, value in state.items()} == dict.fromkeys(
        ["row", "part", "weight", "vector"], 8
    )
    assert all(isinstance(value, np.ndarray) for value in state.values())


def test_start_forgets():
    sink = ArraySink(6, WIDTH)
    reducer = PoolRows("mean", sink)
    reducer.update(TWO_A_ROW, TABLE[TWO_A_ROW.tokens.tolist()])
    reducer.start()
    reducer.finish()
    assert np.isnan(sink.array).all()


# ---- run ----------------------------------------------------------------------------------------


def test_run_passes_on_the_layer_and_reports_progress():
    executor, told = TableExecutor(), []
    sink = ArraySink(4, WIDTH)
    items = make_items([5, 1, 9, 2])
    run(
        blocks_of(items, [2]),
        executor,
        PoolRows("mean", sink),
        Plan(torch.device("cpu"), "float32", 6),
        layer=2,
        progress=lambda n_items, n_tokens: told.append((n_items, n_tokens)),
    )
    assert told == [(2, 6), (1, 9), (1, 2)]
    assert executor.asked == [(6, 2, False), (9, 2, False), (2, 2, False)]
    np.testing.assert_allclose(sink.array, pooled_by_hand(items, "mean", 4, layer=2), atol=1e-5)


@pytest.mark.parametrize("source", [[], [make_items([])], [make_items([]), make_items([3])]])
def test_blocks_without_items(source: list[Items]):
    n_items = sum(len(block) for block in source)
    found = pool(source, "mean", 5, 2)
    assert (~np.isnan(found).any(axis=1)).sum() == n_items


def test_rows_are_finished_block_by_block():
    """A source that breaks off leaves the rows before it done and the rest NaN."""

    def source() -> Iterator[Items]:
        yield make_items([3, 4])
        raise KeyboardInterrupt

    sink = ArraySink(4, WIDTH)
    plan = Plan(torch.device("cpu"), "float32", 5)
    with pytest.raises(KeyboardInterrupt):
        run(source(), TableExecutor(), PoolRows("mean", sink), plan, layer=0)
    assert np.isfinite(sink.array[:2]).all()
    assert np.isnan(sink.array[2:]).all()


def test_array_sink():
    sink = ArraySink(3, 2)
    assert sink.array.dtype == np.float32
    assert np.isnan(sink.array).all()
    sink.put(np.array([2, 0]), np.array([[1.0, 2.0], [3.0, 4.0]]))
    np.testing.assert_array_equal(sink.array, [[3, 4], [np.nan, np.nan], [1, 2]])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_sums_on_a_gpu_are_the_same_bits_each_time():
    """Where many threads add to one row, the order is not theirs to choose."""
    generator = torch.Generator("cuda").manual_seed(0)
    rows = torch.randn(50_000, 8, dtype=torch.float64, device="cuda", generator=generator)
    place = torch.arange(50_000, device="cuda") % 7
    found = []
    for _ in range(5):
        total = torch.zeros(7, 8, dtype=torch.float64, device="cuda")
        _add_rows(total, place, rows)
        found.append(total.cpu())
    expected = torch.zeros(7, 8, dtype=torch.float64).index_add_(0, place.cpu(), rows.cpu())
    torch.testing.assert_close(found[0], expected)
    assert all(torch.equal(total, found[0]) for total in found)
