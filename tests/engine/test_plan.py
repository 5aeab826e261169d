"""The plan: devices, precision, budgets, and what a run will cost."""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest
import torch

import glm
from glm.engine import (
    Items,
    Runner,
    RunPlan,
    batches,
    count_batches,
    estimate_seconds,
    gather,
    make_plan,
    plan,
    states,
)
from glm.engine.gene_means import NUMBER_BYTES, GeneMeans
from glm.engine.pair_sums import PAIR_BYTES, PairSums
from glm.models import BertConfig

V2 = BertConfig(
    vocab_size=20_275,
    hidden_size=768,
    n_layers=12,
    n_heads=12,
    intermediate_size=3072,
    n_positions=4096,
    activation="relu",
)


def test_the_cpu_by_itself(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    chosen = make_plan(config=V2)
    assert (chosen.device.type, chosen.precision, chosen.budget) == ("cpu", "float32", 6144)


@pytest.fixture
def cuda(monkeypatch):
    """A machine that says it has two GPUs of a given size."""

    def pretend(free: int, *, bf16: bool = True) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, free))
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *a, **k: bf16)

    return pretend


@pytest.mark.parametrize(
    ("gigabytes", "low", "high"), [(2, 8_192, 40_000), (140, 131_072, 131_072)]
)
def test_a_gpus_budget_follows_its_memory(cuda, gigabytes, low, high):
    cuda(gigabytes * 10**9)
    chosen = make_plan(config=V2)
    assert (chosen.device.type, chosen.precision) == ("cuda", "bfloat16")
    assert low <= chosen.budget <= high
    assert chosen.budget * plan.token_bytes(V2, "bfloat16") <= gigabytes * 10**9


def test_an_old_gpu_takes_float32(cuda):
    cuda(8 * 10**9, bf16=False)
    assert make_plan(config=V2).precision == "float32"
    assert make_plan("cuda:1", precision="bfloat16").dtype == torch.bfloat16


def test_what_is_not_there_is_refused(cuda):
    cuda(10**9)
    with pytest.raises(ValueError, match="'cuda:2' was asked for but there are 2"):
        make_plan("cuda:2")
    with pytest.raises(ValueError, match="precision is 'half'; expected 'float32'"):
        make_plan("cpu", precision="half")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="token budget is 0"):
        make_plan("cpu", budget=0)


@pytest.mark.parametrize("budget", [1, 20, 1000])
def test_batches_are_counted_as_they_are_cut(made, budget):
    source = made.source(n_rows=60, rows_per_block=11)
    blocks = [source.block(i) for i in range(source.n_blocks)]
    cut = sum(len(list(batches(block, budget))) for block in blocks)
    assert count_batches((block.lengths for block in blocks), budget) == cut


def _items(lengths):
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    tokens = np.zeros(offsets[-1], np.int32)
    span = np.stack([np.zeros(lengths.size), lengths], axis=1).astype(np.int32)
    return Items.one_a_row(np.arange(lengths.size), tokens, offsets, span)


class _Slow:
    """An executor whose time is known: of tokens, and of pairs of tokens."""

    def hidden(self, tokens, lengths, *, layer, first_only=False):
        time.sleep(2e-6 * sum(lengths) + 1e-8 * sum(n * n for n in lengths))
        return torch.zeros(len(lengths), 1)


def test_seconds_are_those_of_tokens_and_pairs():
    lengths = np.random.default_rng(0).integers(50, 2000, 5000)
    expected = 2e-6 * lengths.sum() + 1e-8 * (lengths**2).sum()
    seconds, spent = estimate_seconds(
        _Slow(), make_plan("cpu", budget=6144), lengths, _items(lengths), layer=1, first_only=False
    )
    assert seconds == pytest.approx(expected, rel=0.35)  # the machine may be busy
    assert 0 < spent < 5


def test_nothing_to_do_takes_no_time():
    none = np.array([], np.int64)
    assert estimate_seconds(
        _Slow(), make_plan("cpu"), none, _items(none), layer=1, first_only=False
    ) == (0.0, 0.0)


def test_few_sentences_stand_for_many():
    lengths = np.full(1000, 100)
    seconds, _ = estimate_seconds(
        _Slow(),
        make_plan("cpu", budget=6144),
        lengths,
        _items(lengths[:3]),
        layer=1,
        first_only=False,
    )
    assert seconds == pytest.approx(1000 * (2e-4 + 1e-4), rel=0.35)


class _SlowSums:
    """A reducer whose additions take as long as the model."""

    whole_rows = False

    def __init__(self):
        self.n_seen = 0

    def start(self):
        self.n_seen = 0

    def update(self, batch, hidden):
        self.n_seen += len(batch)
        _Slow().hidden(None, batch.lengths.tolist(), layer=1)


def test_the_time_of_the_reducer_counts():
    lengths = np.random.default_rng(1).integers(50, 2000, 5000)
    expected = 2 * (2e-6 * lengths.sum() + 1e-8 * (lengths**2).sum())
    reducer = _SlowSums()
    seconds, _ = estimate_seconds(
        _Slow(),
        make_plan("cpu", budget=6144),
        lengths,
        _items(lengths),
        layer=1,
        first_only=False,
        reducer=reducer,
    )
    assert seconds == pytest.approx(expected, rel=0.35)
    assert reducer.n_seen == 0  # it is handed back empty


def _most_bytes(work):
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


class _LargeSums:
    """Sums of 4 MB in numpy, whose memory Python can trace."""

    whole_rows = False

    def start(self):
        self.sums = None

    def update(self, batch, hidden):
        self.sums = np.ones(500_000)

    def state(self):
        return {"sum": self.sums.copy()}

    def merge(self, state):
        self.sums = np.zeros(500_000) if self.sums is None else self.sums
        self.sums += state["sum"]

    def finish(self):
        self.result, self.sums = self.sums[0], None


@pytest.mark.parametrize("kept", [False, True])
def test_three_copies_of_sums_are_held_at_most(made, kept):
    """What is counted as the memory of sums holds: one is added to, one is merged, one is new."""
    source, reducer = made.source(n_rows=20, rows_per_block=5), _LargeSums()
    runner = Runner(made.executor(), made.plan(), layer=1)
    parts = states(source, reducer, runner)
    if kept:  # as a folder gives them
        parts = ({"sum": np.ones(500_000)} for _ in range(4))
    assert _most_bytes(lambda: gather(parts, reducer)) < 3.1 * 4e6
    assert reducer.result == 4


def test_the_bytes_of_means_are_what_making_them_takes():
    """As far as numpy holds it: all but sum and count of a pair, all but the sum of a number."""
    places = np.arange(600)
    pairs = PairSums(places, places, (600, 600))
    pairs.merge({"sum": np.ones((1, 600, 600)), "n": np.ones((1, 600, 600), np.int32)} | _of_one)
    assert _most_bytes(pairs.finish) == pytest.approx((PAIR_BYTES - 12) * 600**2, rel=0.02)
    genes = GeneMeans(places, 600, 600)
    genes.merge({"sum": np.ones((600, 600)), "n": np.ones(600, np.int64)} | _of_one)
    assert _most_bytes(genes.finish) == pytest.approx((NUMBER_BYTES - 8) * 600**2, rel=0.02)


_of_one = {"n_cells": np.array([1]), "n_not_finite": np.array([0])}


# ---- dry_run -----------------------------------------------------------------------------------


@pytest.mark.parametrize("v2", [False, True])
def test_a_dry_run_tells_and_writes_nothing(make_model, make_cells, v2, tmp_path):
    model = make_model(v2=v2)
    adata = make_cells(model.vocabulary, 40)
    before = adata.copy()
    found = glm.tl.embed(
        adata, model, device="cpu", dry_run=True, copy=True, out=tmp_path / "out", token_budget=50
    )
    assert isinstance(found, RunPlan)
    assert not (tmp_path / "out").exists()
    for part in ("obsm", "uns", "layers", "varm"):
        assert dict(getattr(adata, part)) == dict(getattr(before, part)) == {}
    assert adata.obs.columns.tolist() == adata.var.columns.tolist() == []

    n_genes = (adata.X > 0).sum(axis=1).A1
    framed = 2 if v2 else 0
    lengths = np.minimum(n_genes, model.vocabulary.n_genes_read)
    assert found.n_rows == 40
    assert found.n_rows_usable == int((n_genes > 0).sum()) == 39
    assert found.n_tokens == int((lengths + framed)[n_genes > 0].sum())
    assert found.n_rows_truncated == int((n_genes > model.vocabulary.n_genes_read).sum()) > 0
    assert found.share_truncated == found.n_rows_truncated / 39
    assert found.n_blocks == 1
    assert found.n_tokens / 50 < found.n_batches < found.n_rows_usable + 1
    assert (found.device, found.precision, found.token_budget) == ("cpu", "float32", 50)
    assert found.result_bytes == 40 * 16 * 4
    assert found.memory_bytes > found.result_bytes
    assert found.seconds > 0


def test_a_plan_is_shown(make_model, make_cells):
    model = make_model()
    found = glm.tl.embed(make_cells(model.vocabulary), model, dry_run=True, device="cpu")
    text, html = repr(found), found._repr_html_()
    for part in ("rows", "12, of which 11 usable", "truncated", "tokens", "cpu, float32", "about"):
        assert part in text
        assert part in html
    assert "<table" in html


def test_a_dry_run_checks_like_a_run(make_model, make_cells):
    model = make_model()
    adata = make_cells(model.vocabulary)
    adata.X = adata.X * 0.5
    with pytest.raises(ValueError, match="not whole"):
        glm.tl.embed(adata, model, dry_run=True)


def test_a_dry_run_counts_what_is_added_up(make_model, make_cells):
    model = make_model()
    adata = make_cells(model.vocabulary)
    adata.obs["kind"] = ["a", "b", "c"] * (adata.n_obs // 3) + ["a"] * (adata.n_obs % 3)
    width, n_genes = model.spec.shape.hidden_size, len(model.vocabulary.ids)

    def plan(**options):
        return glm.tl.embed(adata, model, dry_run=True, device="cpu", **options)

    # A float64 sum, a copy of it, their quotient and the float32 mean.
    assert plan(of="genes").result_bytes == 28 * n_genes * width
    assert plan(of="genes", groupby="kind").result_bytes == 3 * 28 * n_genes * width
    assert plan(groupby="kind").result_bytes == 3 * 12 * width
    assert plan(precision="bfloat16").model_bytes > plan().model_bytes
    assert plan(precision="bfloat16").batch_bytes < plan().batch_bytes
