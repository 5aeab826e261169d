"""The authors' ways of training, each value by its source, and the schedule they describe."""

from __future__ import annotations

from dataclasses import replace

import pytest

from glm.train import Recipe, recipe
from glm.train.module import learning_rate_share, warmup_steps


def test_geneformer_pretraining():
    authors = recipe("geneformer-v1-10m")
    assert (authors.learning_rate, authors.warmup, authors.weight_decay) == (1e-3, 10_000, 1e-3)
    assert (authors.schedule, authors.max_epochs, authors.min_tokens) == ("linear", 3, 7)
    assert (authors.tokens_per_batch, authors.batches_per_step) == (12 * 2_048, 12)
    assert recipe("geneformer-v2-104m", "pretrain") == recipe("geneformer") == authors


@pytest.mark.parametrize(("objective", "epochs"), [("cells", 10), ("genes", 1)])
def test_geneformer_classifiers(objective: str, epochs: int):
    authors = recipe("geneformer-tiny", objective)
    assert (authors.learning_rate, authors.warmup, authors.weight_decay) == (5e-5, 500, 1e-3)
    assert (authors.rows_per_batch, authors.tokens_per_batch, authors.max_epochs) == (
        12,
        None,
        epochs,
    )
    assert authors.batches_per_step == 1


def test_dnabert():
    authors = recipe("dnabert")
    assert (authors.learning_rate, authors.betas, authors.eps) == (4e-4, (0.9, 0.98), 1e-6)
    assert (authors.weight_decay, authors.warmup, authors.max_steps) == (0.01, 10_000, 120_000)
    assert authors.rows_per_batch * authors.batches_per_step == 2_000
    assert authors.max_epochs is None
    tuned = recipe("dnabert", "regions")
    assert (tuned.learning_rate, tuned.max_epochs, tuned.rows_per_batch) == (2e-4, 5, 32)
    assert (tuned.warmup, tuned.weight_decay, tuned.gradient_clip) == (0.1, 0.01, 1.0)


def test_grover():
    authors = recipe("grover")
    assert (authors.learning_rate, authors.rows_per_batch) == (4e-4, 64)


def test_unknown():
    with pytest.raises(KeyError, match="There is no model"):
        recipe("none")
    with pytest.raises(KeyError, match="no recipe 'regions' for geneformer; there is pretrain"):
        recipe("geneformer-tiny", "regions")


def test_each_value_can_be_replaced():
    changed = replace(recipe("geneformer"), learning_rate=1.0, rows_per_batch=3)
    assert (changed.learning_rate, changed.rows_per_batch, changed.warmup) == (1.0, 3, 10_000)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tokens_per_batch": None}, "tokens_per_batch or rows_per_batch"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"warmup": -1}, "warmup is -1"),
        ({"batches_per_step": 0}, "batches_per_step is 0"),
        ({"tokens_per_batch": -5}, "tokens_per_batch is -5; expected at least 1"),
        ({"rows_per_batch": -1}, "rows_per_batch is -1"),
        ({"max_epochs": -1}, "max_epochs is -1"),
        ({"max_steps": -3}, "max_steps is -3"),
        ({"gradient_clip": -1.0}, r"gradient_clip is -1\.0"),
        ({"seed": -1}, "seed is -1"),
        ({"max_epochs": None}, "neither max_epochs nor max_steps"),
        ({"schedule": "cosine"}, "schedule is 'cosine'"),
    ],
)
def test_values_that_make_no_sense(fields: dict, message: str):
    with pytest.raises(ValueError, match=message):
        replace(recipe("geneformer"), **fields)


@pytest.mark.parametrize(
    ("step", "share"),
    [(0, 1 / 5), (1, 2 / 5), (3, 4 / 5), (4, 1.0), (9, 0.5), (13, 0.1), (14, 0.0), (20, 0.0)],
)
def test_linear_schedule(step: int, share: float):
    """Four steps up, ten down."""
    assert learning_rate_share(step, 4, 14) == pytest.approx(share)


def test_schedule_without_warm_up_and_with_nothing_else():
    assert [learning_rate_share(step, 0, 4) for step in range(5)] == [1, 0.75, 0.5, 0.25, 0]
    assert [learning_rate_share(step, 3, 3) for step in range(4)] == [0.25, 0.5, 0.75, 0]
    assert learning_rate_share(0, 0, 1) == 1


def test_constant_schedule():
    assert [learning_rate_share(step, 1, 4, falls=False) for step in range(6)] == [0.5, *[1] * 5]


@pytest.mark.parametrize(("warmup", "steps"), [(0, 0), (0.1, 20), (1, 1), (500, 500)])
def test_warm_up_in_steps_or_as_a_share(warmup: float, steps: int):
    chosen = Recipe(learning_rate=1.0, warmup=warmup, max_epochs=1, rows_per_batch=1)
    assert warmup_steps(chosen, 200) == steps
