"""What the demonstration model of tracks is made from and held to, checked the slow way."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from glm.bases import N, reverse_complement, to_codes, to_text
from glm.train import TrackWindows

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "scripts"

pytestmark = pytest.mark.skipif(not SCRIPTS.is_dir(), reason="the scripts are not in an sdist")

_OURS = ("enformer_tiny", "evidence", "score_enformer_tiny")


@pytest.fixture(scope="module")
def made() -> Iterator[SimpleNamespace]:
    """The modules, by name; their own names mean something else to other tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        found = {
            name: importlib.import_module(f"enformer_tiny.{name}")
            for name in ("data", "making", "page", "ridge", "scores")
        }
        found["score"] = importlib.import_module("score_enformer_tiny")
    yield SimpleNamespace(**found)
    for loaded in [loaded for loaded in sys.modules if loaded.split(".")[0] in _OURS]:
        del sys.modules[loaded]


def dna(seed: int, n: int, *, unknown: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 4, n).astype(np.uint8)
    codes[rng.integers(0, n, unknown)] = N
    return codes


# ---- the ridge -----------------------------------------------------------------------------------


def test_kmer_counts_are_those_of_comparing_text(made: SimpleNamespace) -> None:
    codes = dna(0, 512, unknown=9)
    text = to_text(codes)
    counts = made.ridge.kmer_counts(codes, 3)
    assert counts.shape == (4, 64)
    assert counts.sum() == sum("N" not in text[i : i + 3] for i in range(510))
    for i, number in (("ACA", 4), ("TTT", 63), ("CGT", 27)):
        expected = [
            sum(text[at : at + 3] == i for at in range(first, min(first + 128, 510)))
            for first in range(0, 512, 128)
        ]
        np.testing.assert_array_equal(counts[:, number], expected)


def test_features_tell_gc_and_cpg_of_a_neighbourhood(made: SimpleNamespace) -> None:
    text = "AT" * 64 * 3 + "CG" * 64 + "AT" * 64 * 3
    found = made.ridge.features(to_codes(text), 3, crop=1)
    assert found.shape == (5, 3 * len(made.ridge.GC_BINS) + 2 * 64)
    gc_one, gc_three = found[:, 0], found[:, 3]
    np.testing.assert_allclose(gc_one, [0, 0, 1, 0, 0])
    np.testing.assert_allclose(gc_three, [0, 1 / 3, 1 / 3, 1 / 3, 0], rtol=1e-6)
    cpg_one, above_expected = found[2, 1], found[2, 2]
    assert cpg_one == pytest.approx(0.5**0.5)
    assert above_expected == pytest.approx(2.0)


def test_ridge_is_scikit_learns_on_standardised_features(made: SimpleNamespace) -> None:
    from sklearn.linear_model import Ridge

    rng = np.random.default_rng(0)
    x = (rng.normal(size=(300, 12)) * rng.uniform(0.1, 10, 12) + 5).astype(np.float32)
    x[:, 3] = 2.0  # a k-mer that never varies
    y = (x @ rng.normal(size=(12, 4)) + rng.normal(size=(300, 4))).astype(np.float32)
    fitted = made.ridge.Ridge.fit(x[:200], y[:200])
    scale = x[:200].std(axis=0)
    z = (x - x[:200].mean(axis=0)) / np.where(scale > 0, scale, 1)
    for penalty in (1.0, 1000.0):
        theirs = Ridge(alpha=penalty).fit(z[:200], y[:200]).predict(z[200:])
        np.testing.assert_allclose(fitted.predict(x[200:], penalty), theirs, rtol=2e-3, atol=2e-3)


# ---- the measure ---------------------------------------------------------------------------------


def test_pearson_is_over_windows_and_positions(made: SimpleNamespace) -> None:
    rng = np.random.default_rng(0)
    y = rng.gamma(1.0, size=(5, 30, 4))
    x = 0.5 * y + rng.normal(size=y.shape) + 1000.0
    found = made.scores.Moments.of(x, y).pearson()
    expected = [np.corrcoef(x[..., t].ravel(), y[..., t].ravel())[0, 1] for t in range(4)]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_a_draw_of_windows_is_these_windows_as_often_as_drawn(made: SimpleNamespace) -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, 3, 20, 2))
    drawn = made.scores.Moments.of(x, y).pearson(np.array([[2, 0, 1], [1, 1, 1]]))
    rows = [0, 0, 2]
    expected = [np.corrcoef(x[rows, :, t].ravel(), y[rows, :, t].ravel())[0, 1] for t in range(2)]
    np.testing.assert_allclose(drawn[0], expected, rtol=1e-9)
    np.testing.assert_allclose(drawn[1], made.scores.Moments.of(x, y).pearson(), rtol=1e-12)


def test_constant_tracks_are_left_out_and_constant_predictions_score_nothing(
    made: SimpleNamespace,
) -> None:
    rng = np.random.default_rng(2)
    y = rng.normal(size=(4, 10, 3))
    y[..., 1] = 7.0
    said = np.full_like(y, 0.3)
    found = made.scores.Moments.of(said, y).pearson()
    np.testing.assert_array_equal(found, [0.0, np.nan, 0.0])
    assays = np.array(["CAGE", "CAGE", "RNA"])
    means = made.scores.of_assays(np.array([0.4, np.nan, 0.2]), assays)
    assert means["CAGE"] == pytest.approx(0.4)
    assert means["RNA"] == pytest.approx(0.2)
    assert np.isnan(made.scores.of_assays(np.array([np.nan]), np.array(["CAGE"]))["CAGE"])


def test_gains_are_of_the_same_draws(made: SimpleNamespace) -> None:
    rng = np.random.default_rng(3)
    y = rng.normal(size=(8, 50, 2))
    good, bad = y + rng.normal(size=y.shape), rng.normal(size=y.shape)
    of = made.scores.Moments.of
    moments = {"ours": of(good, y), "same": of(good.copy(), y), "bad": of(bad, y)}
    said, gained = made.scores.scores(moments, np.array(["CAGE", "CAGE"]), "ours")
    assert gained["same"]["CAGE"].value == gained["same"]["CAGE"].high == 0.0
    assert gained["same"]["CAGE"].verdict == "did not beat it"
    assert gained["bad"]["CAGE"].verdict == "beat it"
    assert said["ours"]["CAGE"].low < said["ours"]["CAGE"].value < said["ours"]["CAGE"].high


def test_windows_of_other_folds_are_not_compared(made: SimpleNamespace) -> None:
    """Means of what others were trained on say nothing, although they differ between folds."""
    rng = np.random.default_rng(4)
    y = rng.normal(size=(9, 40, 1))
    fold = np.arange(9) % 3
    mean = np.array([y[fold != one].mean() for one in range(3)])[fold]
    constant = np.broadcast_to(mean[:, None, None], y.shape)
    moments = {"ours": made.scores.Moments.of(constant, y)}
    assays = np.array(["RNA"])
    assert made.scores.scores(moments, assays, "ours")[0]["ours"]["RNA"].value < 0
    assert made.scores.scores(moments, assays, "ours", fold)[0]["ours"]["RNA"].value == 0
    good = y + rng.normal(size=y.shape)
    found = made.scores.scores({"ours": made.scores.Moments.of(good, y)}, assays, "ours", fold)
    expected = [np.corrcoef(good[fold == i].ravel(), y[fold == i].ravel())[0, 1] for i in range(3)]
    assert found[0]["ours"]["RNA"].value == pytest.approx(np.mean(expected))
    times = made.scores.draw_windows(fold)
    assert {tuple(times[:, fold == one].sum(axis=1)[:5]) for one in range(3)} == {(3,) * 5}


# ---- pieces of windows ---------------------------------------------------------------------------


def test_pieces_hold_the_bases_of_their_bins(made: SimpleNamespace) -> None:
    data = made.data
    codes = np.stack([dna(i, data.WINDOW_BP) for i in range(2)])
    gc = np.isin(codes, (1, 2)).reshape(2, -1, 128).mean(axis=2, dtype=np.float32)
    inner = gc[:, data.CROP : -data.CROP, None]
    table = pd.DataFrame({"identifier": ["gc"]})
    windows = TrackWindows(codes, inner, table, "mouse")
    cut = data.pieces(windows, bins=64, flank=16)
    assert (len(cut), cut.window_bp, cut.n_bins, cut.crop) == (16, 96 * 128, 64, 16)
    assert cut.head == "mouse"
    again = np.isin(cut.codes, (1, 2)).reshape(16, 96, 128).mean(axis=2, dtype=np.float32)
    np.testing.assert_array_equal(again[:, 16:-16, None], cut.targets)
    np.testing.assert_array_equal(cut.targets.reshape(inner.shape), inner)
    both = data.joined([windows, windows.subset([1])])
    assert len(both) == 3
    assert both.head == "mouse"
    with pytest.raises(ValueError, match="do not fall"):
        data.pieces(windows, bins=60, flank=16)


def test_the_other_strand_is_the_same_window_turned(made: SimpleNamespace) -> None:
    codes = np.stack([dna(i, 1_024) for i in range(2)])
    targets = np.random.default_rng(0).random((2, 4, 3), dtype=np.float32)
    table = pd.DataFrame({"identifier": ["a+", "a-", "b"], "strand_pair": [1, 0, 2]})
    both = made.score.both_strands(TrackWindows(codes, targets, table))
    np.testing.assert_array_equal(both.codes[2], reverse_complement(codes[0]))
    np.testing.assert_array_equal(both.targets[2, 0], targets[0, 3, [1, 0, 2]])
    np.testing.assert_array_equal(both.targets[:2], targets)


# ---- the model before training -------------------------------------------------------------------


def test_outputs_begin_at_the_means_of_tracks(made: SimpleNamespace, test_data: Path) -> None:
    import torch

    windows = made.data.read_windows("human", "test")
    assert (len(windows), windows.window_bp, windows.crop) == (10, 131_072, made.data.CROP)
    model = made.making.started({"human": windows})
    state = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    mean = np.maximum(windows.targets.mean(axis=(0, 1)), made.making.LEAST_MEAN)
    bias = torch.nn.functional.softplus(model.network.heads["human"].bias.detach())
    np.testing.assert_allclose(bias, mean, rtol=1e-4)
    again = made.making.started({"human": windows}).network.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in again.items())
    assert model.spec.window_bp == 12_288
    assert model.spec.shape.crop == made.making.FLANK


# ---- the page ------------------------------------------------------------------------------------


def test_the_page_says_where_it_did_not_beat(made: SimpleNamespace) -> None:
    result = json.loads((ROOT / "benchmarks" / "results" / "enformer_tiny.json").read_text("utf-8"))
    text = made.page.page(result)
    assert text == (ROOT / "docs" / "enformer-tiny.md").read_text("utf-8")
    verdicts = {
        gain["verdict"]
        for row in result["human"]["test"]["gains"].values()
        for gain in row.values()
    }
    assert all(verdict in text for verdict in verdicts)
    assert "demonstration" in text
    assert "Do not draw conclusions" in text
