"""Score the bundled `enformer-tiny`: `docs/enformer-tiny.md`, and its card.

    python scripts/score_enformer_tiny.py

On the test windows of hg38 and mm10 (see `make_enformer_tiny.py`; the validation windows choose
whatever is to be chosen), and by cross-validation over all human windows with a shorter training:
Pearson's correlation of each assay's tracks, against ridge regression on GC, CpG and k-mers,
against an untrained twin and a constant. Takes some ten minutes of one core, most of it for the
cross-validation; the numbers are kept in `benchmarks/results/enformer_tiny.json`, from which
`--part page` writes the page and the card again.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from enformer_tiny.data import CROP, joined, read_windows
from enformer_tiny.making import NAME, predict, train, untrained
from enformer_tiny.page import CONSTANT, OURS, RIDGE, TWIN, page
from enformer_tiny.ridge import KMER_SIZES, PENALTIES, Ridge, features
from enformer_tiny.scores import Moments, of_assays, scores, window_means

import glm
from glm._atomic import replacing
from glm.bases import reverse_complement
from glm.models.track_model import TrackModel
from glm.train import TrackWindows

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "enformer_tiny.json"
PAGE = ROOT / "docs" / "enformer-tiny.md"
PARTS = ("train", "valid", "test")
FOLDS = 3
FOLD_STEPS = 300
SEED = 0

Choice = dict[str, tuple[int, float]]
"""Assay to the k and the penalty of its ridge."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--part",
        choices=("all", "test", "cross-validation", "page"),
        default="all",
        help="what to do again; numbers of the other parts stay as they are",
    )
    part = parser.parse_args().part
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    found: dict[str, Any] = {}
    if part in ("all", "test"):
        found |= score_test()
    if part in ("all", "cross-validation"):
        found["cross_validation"] = cross_validate()
    # Read only now: another part may have been written meanwhile.
    before = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    result = before | found
    with replacing(RESULTS) as beside:
        beside.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if "model" in result:
        PAGE.write_text(page(result), encoding="utf-8")
        write_card(result)


def score_test() -> dict[str, Any]:
    """The bundled model and everyone else on the test windows of both genomes."""
    model = glm.models.load(NAME)
    facts = {
        "card": {key: value for key, value in model.card.items() if key != "scores"},
        "parameters": model.spec.shape.n_parameters,
        "shape": asdict(model.spec.shape),
        "window_bp": model.spec.window_bp,
        "output_bp": model.spec.output_bp,
        "sha256": model.weights_sha256,
    }
    return {"model": facts, **{head: score_head(model, head) for head in model.tables}}


# ---- the windows of the set's own parts ----------------------------------------------------------


def score_head(model: TrackModel, head: str) -> dict[str, Any]:
    """Everyone on the test windows, what the ridge was chosen to be, and counts."""
    parts = {part: read_windows(head, part) for part in PARTS}
    assays = assays_of(parts["test"])
    chosen, tried = choose_ridge(parts["train"], parts["valid"], assays)
    test = parts["test"]
    said = {
        OURS: predict(model, head, test.codes),
        RIDGE: ridge_predictions(parts["train"], test, assays, chosen),
        TWIN: predict(untrained(seed=SEED + 1), head, test.codes),
    }
    said[CONSTANT] = constant(parts["train"], test)
    found = told(said, test, assays)
    means = {name: window_means(values) for name, values in said.items()}
    found["window_means"] = told(means, test, assays)
    found["chosen"] = {assay: {"k": k, "penalty": p} for assay, (k, p) in chosen.items()}
    found["valid"] = {
        "ridge": tried,
        OURS: as_floats(assay_means(predict(model, head, parts["valid"].codes), parts["valid"])),
    }
    logging.info("%s: %s", head, found["scores"])
    return {
        "windows": {part: len(parts[part].codes) for part in PARTS},
        "tracks": {assay: int((assays == assay).sum()) for assay in dict.fromkeys(assays)},
        "test": found,
    }


def told(
    said: Mapping[str, np.ndarray],
    truth: TrackWindows,
    assays: np.ndarray,
    fold: np.ndarray | None = None,
) -> dict[str, Any]:
    """Scores and gains as plain values; ``said`` is by bins or by windows, as its shape tells."""
    by_window = next(iter(said.values())).shape[1] == 1
    measured = window_means(truth.targets) if by_window else truth.targets
    moments = {name: Moments.of(values, measured) for name, values in said.items()}
    value, gained = scores(moments, assays, OURS, fold)
    n_constant = int(np.isnan(moments[OURS].pearson()).sum())
    return {
        "n_windows": len(measured),
        "constant_tracks": n_constant,
        "scores": {n: {a: asdict(s) for a, s in row.items()} for n, row in value.items()},
        "gains": {
            n: {a: {**asdict(d), "verdict": d.verdict} for a, d in row.items()}
            for n, row in gained.items()
        },
    }


def assay_means(predicted: np.ndarray, truth: TrackWindows) -> dict[str, np.ndarray]:
    """Mean correlation of each assay, without intervals."""
    return of_assays(Moments.of(predicted, truth.targets).pearson(), assays_of(truth))


def assays_of(windows: TrackWindows) -> np.ndarray:
    """Text, one a track."""
    return windows.table["assay"].to_numpy().astype(str)


def as_floats(found: Mapping[str, np.ndarray]) -> dict[str, float]:
    return {name: float(value) for name, value in found.items()}


# ---- baselines -----------------------------------------------------------------------------------


def ridge_features(windows: TrackWindows, k: int) -> np.ndarray:
    """Features of all bins, one window after the other."""
    return np.concatenate([features(codes, k, CROP) for codes in windows.codes])


def both_strands(windows: TrackWindows) -> TrackWindows:
    """The windows, and after them their reverse complements with pairs of tracks swapped."""
    turned = np.stack([reverse_complement(codes) for codes in windows.codes])
    pair = windows.table["strand_pair"].to_numpy()
    return TrackWindows(
        np.concatenate([windows.codes, turned]),
        np.concatenate([windows.targets, windows.targets[:, ::-1][..., pair]]),
        windows.table,
        windows.head,
    )


def fitted_ridge(train_on: TrackWindows, k: int) -> Ridge:
    """Of the windows, read from both strands."""
    windows = both_strands(train_on)
    tracks = windows.targets.reshape(-1, windows.targets.shape[2])
    return Ridge.fit(ridge_features(windows, k), tracks)


def choose_ridge(
    train_on: TrackWindows, valid: TrackWindows, assays: np.ndarray
) -> tuple[Choice, dict[str, dict[str, float]]]:
    """k and penalty of each assay by the validation windows, and what every k had at best."""
    tried: dict[tuple[int, float], dict[str, float]] = {}
    for k in KMER_SIZES:
        fitted, x = fitted_ridge(train_on, k), ridge_features(valid, k)
        for penalty in PENALTIES:
            said = fitted.predict(x, penalty).reshape(valid.targets.shape)
            tried[k, penalty] = as_floats(assay_means(said, valid))
    names = dict.fromkeys(assays.tolist())
    chosen = {a: max(tried, key=lambda key, a=a: tried[key][a]) for a in names}
    best = {
        f"k = {k}": {a: max(row[a] for (size, _), row in tried.items() if size == k) for a in names}
        for k in KMER_SIZES
    }
    return chosen, best


def ridge_predictions(
    train_on: TrackWindows, test: TrackWindows, assays: np.ndarray, chosen: Choice
) -> np.ndarray:
    """Windows × bins × tracks, each assay by its own k and penalty."""
    found = np.empty(test.targets.shape, np.float32)
    for k in sorted({k for k, _ in chosen.values()}):
        fitted, x = fitted_ridge(train_on, k), ridge_features(test, k)
        for assay, (size, penalty) in chosen.items():
            if size == k:
                said = fitted.predict(x, penalty).reshape(found.shape)
                found[..., assays == assay] = said[..., assays == assay]
    return found


def constant(train_on: TrackWindows, test: TrackWindows) -> np.ndarray:
    """The mean of each track in the training windows, everywhere."""
    mean = train_on.targets.mean(axis=(0, 1), dtype=np.float64)
    return np.broadcast_to(mean, test.targets.shape)


# ---- cross-validation ----------------------------------------------------------------------------


def cross_validate() -> dict[str, Any]:
    """Every human window predicted by a model and a ridge that did not see it."""
    parts = {part: read_windows("human", part) for part in PARTS}
    windows = joined(list(parts.values()))
    assays = assays_of(windows)
    chosen, _ = choose_ridge(parts["train"], parts["valid"], assays)
    fold = np.random.default_rng(SEED).permutation(len(windows.codes)) % FOLDS
    shape = windows.targets.shape
    said = {name: np.empty(shape, np.float32) for name in (OURS, RIDGE, TWIN, CONSTANT)}
    twin = untrained(seed=SEED + 1)
    for i in range(FOLDS):
        inside, outside = windows.subset(fold != i), windows.subset(fold == i)
        with TemporaryDirectory() as folder:
            model = train({"human": inside}, folder=Path(folder), steps=FOLD_STEPS)
        said[OURS][fold == i] = predict(model, "human", outside.codes)
        said[RIDGE][fold == i] = ridge_predictions(inside, outside, assays, chosen)
        said[TWIN][fold == i] = predict(twin, "human", outside.codes)
        said[CONSTANT][fold == i] = constant(inside, outside)
        logging.info("fold %d of %d", i + 1, FOLDS)
    return {
        "folds": FOLDS,
        "steps": FOLD_STEPS,
        **told(said, windows, assays, fold),
    }


def write_card(result: dict[str, Any]) -> None:
    """Put the scores into the bundle's card; its other files stay as they are."""
    path = Path(glm.__file__).parent / "models" / "bundled" / NAME / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))

    def short(found: dict[str, Any]) -> dict[str, dict[str, float]]:
        return {
            name: {assay: round(score["value"], 4) for assay, score in row.items()}
            for name, row in found["scores"].items()
        }

    config["card"]["scores"] = {
        "pearson_human_test": short(result["human"]["test"]),
        "pearson_mouse_test": short(result["mouse"]["test"]),
        "told_in_full": f"docs/{PAGE.name}",
    }
    if found := result.get("cross_validation"):
        config["card"]["scores"]["pearson_human_cross_validation"] = short(found)
    with replacing(path) as beside:
        beside.write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
