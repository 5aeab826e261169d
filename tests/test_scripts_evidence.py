"""The statistics that the evidence of fine-tuning rests on, and how its genes are cleaned."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"

pytestmark = pytest.mark.skipif(not SCRIPTS.is_dir(), reason="the scripts are not in an sdist")


def _module(name: str) -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        module = importlib.import_module(f"evidence.{name}")
    for loaded in [loaded for loaded in sys.modules if loaded.split(".")[0] == "evidence"]:
        del sys.modules[loaded]  # the name is a script's own
    return module


@pytest.fixture(scope="module")
def statistics() -> ModuleType:
    return _module("statistics")


@pytest.fixture(scope="module")
def data() -> ModuleType:
    return _module("data")


def test_scores_are_those_of_scikit_learn(statistics: ModuleType) -> None:
    from sklearn.metrics import f1_score, roc_auc_score

    rng = np.random.default_rng(0)
    truth, said = rng.integers(0, 6, (2, 80))
    assert statistics.macro_f1(truth, said) == pytest.approx(
        f1_score(truth, said, average="macro", zero_division=0)
    )
    positive, scores = rng.random(60) < 0.3, rng.integers(0, 8, 60) / 8
    assert statistics.auroc(positive, scores) == pytest.approx(roc_auc_score(positive, scores))


def test_intervals_of_labels_are_those_of_drawing_one_by_one(statistics: ModuleType) -> None:
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 3, 120)
    one = np.where(rng.random(120) < 0.8, truth, rng.integers(0, 3, 120))
    other = np.where(rng.random(120) < 0.2, truth, rng.integers(0, 3, 120))
    units = rng.integers(0, 30, 120)
    found = statistics.compare_labels(truth, one, other, units, draws=4000)

    rows_of = [np.flatnonzero(units == unit) for unit in np.unique(units)]
    drawn = []
    for _ in range(1500):
        rows = np.concatenate([rows_of[i] for i in rng.integers(0, len(rows_of), len(rows_of))])
        accuracy = (one[rows] == truth[rows]).mean() - (other[rows] == truth[rows]).mean()
        f1 = [statistics.macro_f1(truth[rows], said[rows]) for said in (one, other)]
        drawn.append((accuracy, f1[0] - f1[1]))
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    for i, name in enumerate(("accuracy", "macro_f1")):
        assert (found[name].low, found[name].high) == pytest.approx((low[i], high[i]), abs=0.02)
    assert found["accuracy"].value == pytest.approx((one == truth).mean() - (other == truth).mean())
    assert found["accuracy"].verdict == "beat it"


def test_a_row_tested_again_is_not_another_row(statistics: ModuleType) -> None:
    rng = np.random.default_rng(2)
    truth = rng.integers(0, 2, 60)
    one = np.where(rng.random(60) < 0.8, truth, 1 - truth)
    other = np.where(rng.random(60) < 0.7, truth, 1 - truth)
    once = statistics.compare_labels(truth, one, other, np.arange(60))["accuracy"]
    again = [np.tile(x, 5) for x in (truth, one, other, np.arange(60))]
    assert statistics.compare_labels(*again)["accuracy"] == once
    assert once.low < once.value < once.high


def test_methods_that_agree_do_not_differ(statistics: ModuleType) -> None:
    truth = np.array([0, 1, 2, 2])
    said = np.array([0, 1, 1, 2])
    for found in statistics.compare_labels(truth, said, said, np.arange(4), draws=100).values():
        assert found == statistics.Difference(0.0, 0.0, 0.0)
        assert found.verdict == "did not beat it"
    assert statistics.Difference(-0.2, -0.3, -0.1).verdict == "did not beat it: it was worse"


def test_intervals_of_areas_are_those_of_drawing_one_by_one(statistics: ModuleType) -> None:
    rng = np.random.default_rng(3)
    truth, fold = rng.random(150) < 0.4, rng.integers(0, 3, 150)
    one, other = truth + rng.normal(0, 0.8, 150), truth + rng.normal(0, 4.0, 150)
    other += 10 * fold  # folds are not compared with each other
    found = statistics.compare_areas(truth, one, other, fold, draws=4000)

    drawn = []
    for _ in range(1500):
        area = 0.0
        for name in range(3):
            sides = [np.flatnonzero((fold == name) & (truth == side)) for side in (True, False)]
            rows = np.concatenate([rng.choice(side, side.size) for side in sides])
            area += statistics.auroc(truth[rows], one[rows]) / 3
            area -= statistics.auroc(truth[rows], other[rows]) / 3
        drawn.append(area)
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.02)
    assert found.verdict == "beat it"


def test_a_gene_counts_once_and_not_at_all_with_two_labels(data: ModuleType) -> None:
    task = data.gene_task("x", "x", ["a", "b", "b", "c"], ["c", "d", "d", "d", "e"])
    assert (task.positive, task.negative) == (("a", "b"), ("d", "e"))
    assert task.facts == {
        "positives_listed": 4,
        "negatives_listed": 5,
        "listed_again": 3,
        "in_both": 1,
    }
    read = task.only({"a", "d", "e"})
    assert read.genes == ["a", "d", "e"]
    assert read.truth.tolist() == [True, False, False]
    assert read.facts["positives_read"] == 1


def test_a_column_drawn_gene_by_gene_is_noticed(data: ModuleType) -> None:
    import pandas as pd
    from anndata import AnnData

    rng = np.random.default_rng(4)
    depth = np.exp(rng.normal(0, 0.5, (200, 1)))
    cells = rng.poisson(depth * rng.gamma(1, 0.5, 300)).astype(np.float32)
    drawn = np.column_stack([rng.permutation(column) for column in cells.T])
    obs = pd.DataFrame({"label": ["a", "b"] * 100}, index=[str(i) for i in range(200)])
    together = [
        data.Labelled("x", "x", AnnData(matrix, obs=obs), "label").genes_together
        for matrix in (cells, drawn)
    ]
    assert together[0] > 2
    assert 0.8 < together[1] < 1.2


def test_divisions_part_no_group_and_lose_no_label(data: ModuleType) -> None:
    import pandas as pd
    from anndata import AnnData

    rng = np.random.default_rng(5)
    obs = pd.DataFrame(
        {"label": rng.choice(list("abcd"), 120), "donor": rng.choice(list("uvwxyz"), 120)},
        index=[str(i) for i in range(120)],
    )
    labelled = data.Labelled("x", "x", AnnData(np.ones((120, 2)), obs=obs), "label", "donor")
    for seed in range(3):
        parts = labelled.divide(seed)
        again = labelled.divide(seed)
        assert all(np.array_equal(a, b) for a, b in zip(parts[:3], again[:3], strict=True))
        donors = [set(obs["donor"].iloc[rows]) for rows in parts[:3]]
        assert not (donors[0] | donors[1]) & donors[2]
        assert set(obs["label"].iloc[parts.train]) == set("abcd")
        assert sorted(np.concatenate(parts[:3])) == list(range(120))
