"""Score the bundled `dnabert-tiny` and `grover-tiny`: `docs/dna-tiny-models.md`, and their cards.

    python scripts/score_dna_tiny.py

On the held-out windows of hg38 (see `make_dnabert_tiny.py`; those of the part `valid` choose
whatever is to be chosen, those of `test` are reported): hidden bases in bits, against bases counted
between known ones in the same training text; the next k bases after 50 known ones, against counts
of k-mers; each also against the model before training and against an untrained twin. Takes some
ten minutes of one core; the numbers are kept in `benchmarks/results/dna_tiny.json`.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import make_dnabert_tiny
import make_grover_tiny
import numpy as np
from dna_tiny import baselines, hidden_tokens, next_kmers
from dna_tiny.intervals import gain
from dna_tiny.page import page
from dna_tiny.places import Places, choose_places
from dna_tiny.scores import base_distributions, bits_of, framed_pieces, span_bits
from dna_tiny.text import Text, read_windows, training_text

import glm
from glm._atomic import replacing
from glm.models import Model

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "dna_tiny.json"
PAGE = ROOT / "docs" / "dna-tiny-models.md"
MAKERS = {"dnabert-tiny": make_dnabert_tiny, "grover-tiny": make_grover_tiny}
PIECES_A_WINDOW = {"valid": 30, "test": 60}
MOST_SIDE, MOST_ORDER = 8, 8
ALPHAS = (0.1, 1.0, 4.0, 16.0)
TOKEN_STRENGTHS = (16.0, 64.0, 256.0, 1024.0, 4096.0, 65536.0)
STRENGTHS = (4.0, 16.0, 64.0, 256.0)
N_SPANS = {"valid": 300, "test": 1500}
N_SEQUENCES = {"train": 12_000, "valid": 3_000, "test": 6_000}
TRAINED, START, TWIN = "trained", "its starting point", "untrained twin"


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    text, counts = training_text()
    windows = {part: read_windows(part) for part in ("valid", "test")}
    places = {part: choose_places(windows[part], n, seed=0) for part, n in PIECES_A_WINDOW.items()}
    models = {name: variants(maker, name, text) for name, maker in MAKERS.items()}
    logging.info("models and text are ready")
    result: dict[str, Any] = {"text": counts, "models": {}}
    result["bases"] = score_bases(models, text, places)
    logging.info("bases are scored")
    result["spans"] = score_spans(models["dnabert-tiny"], text, places)
    logging.info("spans are scored")
    result["tokens"] = score_tokens(models["grover-tiny"], text, places)
    result["next"] = score_next(models, text, windows)
    for name in MAKERS:
        trained = models[name][TRAINED]
        result["models"][name] = {
            "card": {k: v for k, v in trained.card.items() if k != "scores"},
            "parameters": trained.spec.shape.n_parameters,
            "shape": asdict(trained.spec.shape),
            "sha256": trained.weights_sha256,
        }
    with replacing(RESULTS) as beside:
        beside.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(result), encoding="utf-8")
    for name in MAKERS:
        write_card(name, result)


def variants(maker: Any, name: str, text: Text) -> dict[str, Model]:
    """The bundled model, what it started from, and a twin of random weights."""
    trained = glm.models.load(name)
    twin = maker.untrained(trained.vocabulary, seed=1)
    return {TRAINED: trained, START: maker.build(text), TWIN: twin}


# ---- single bases --------------------------------------------------------------------------------


def score_bases(
    models: dict[str, dict[str, Model]], text: Text, places: dict[str, Places]
) -> dict[str, Any]:
    """Bits per hidden base of everyone, the same places for all."""
    both = baselines.both_strands(text.codes, text.offsets)
    around = [part.around(MOST_SIDE, MOST_SIDE) for part in places.values()]
    n_valid = len(around[0])
    seen = baselines.counts_between(both, np.concatenate(around))
    counts = {
        "valid": [count[:n_valid] for count in seen],
        "test": [count[n_valid:] for count in seen],
    }
    truth = {part: some.truth.ravel() for part, some in places.items()}
    window = np.repeat(places["test"].window, places["test"].hidden.shape[1])
    rows: dict[str, np.ndarray] = {}
    chosen: dict[str, Any] = {}
    for label, table, strengths in (
        ("two-sided order k", baselines.plain, ALPHAS),
        ("two-sided order k, smoothed by shorter ones", baselines.smoothed, STRENGTHS),
    ):
        bits = {
            (k, s): bits_of(np.log(table(counts["valid"], k, s)), truth["valid"]).mean()
            for k in range(MOST_SIDE + 1)
            for s in strengths
        }
        k, strength = min(bits, key=lambda key: bits[key])
        chosen[label] = {"k": k, "strength": strength, "valid": float(bits[k, strength])}
        rows[label] = bits_of(np.log(table(counts["test"], k, strength)), truth["test"])
    for name, found in models.items():
        for variant, model in found.items():
            label = f"{name}, {variant}"
            valid = {
                way: float(bits_of(said, truth["valid"]).mean())
                for way, said in base_distributions(model, places["valid"]).items()
            }
            way = min(valid, key=lambda key: valid[key])
            chosen[label] = {"way": way, "valid": valid}
            rows[label] = bits_of(base_distributions(model, places["test"])[way], truth["test"])
            logging.info("%s: %.4f bits", label, rows[label].mean())
    return {
        "n": int(window.size),
        "windows": int(np.unique(window).size),
        "bits": {label: float(bits.mean()) for label, bits in rows.items()},
        "chosen": chosen,
        "gains": gains(models, rows, window),
    }


def gains(
    models: dict[str, dict[str, Model]], rows: dict[str, np.ndarray], window: np.ndarray
) -> dict[str, Any]:
    """For each trained model, by how many bits it is better than everyone it is held to."""
    found = {}
    for name in models:
        ours = rows[f"{name}, {TRAINED}"]
        others = [label for label in rows if "tiny" not in label]
        others += [f"{name}, {START}", f"{name}, {TWIN}"]
        found[name] = {
            label: told(gain(-ours, -rows[label], window)) for label in others if label in rows
        }
    return found


def told(difference: Any) -> dict[str, Any]:
    """A difference as plain values, with its verdict."""
    return {**asdict(difference), "verdict": difference.verdict}


# ---- spans of six bases, hidden tokens -----------------------------------------------------------


def score_spans(
    variants: dict[str, Model], text: Text, places: dict[str, Places]
) -> dict[str, Any]:
    """Bits per base of hidden spans of six, k-mers against a chain that runs through them."""
    span = baselines.SPAN
    chain = baselines.Chain(baselines.both_strands(text.codes, text.offsets), MOST_ORDER, 16.0)
    picked = {}
    for part, n in N_SPANS.items():
        size = places[part].hidden.size
        picked[part] = np.sort(np.random.default_rng(0).permutation(size)[:n])

    def of_chain(part: str, k: int) -> np.ndarray:
        around = places[part].around(k, span - 1 + k)[picked[part]]
        return chain.span_bits(around, k) / span

    valid = {k: float(of_chain("valid", k).mean()) for k in range(2, MOST_ORDER + 1)}
    k = min(valid, key=lambda order: valid[order])
    rows = {"chain of order k, both sides": of_chain("test", k)}
    for variant, model in variants.items():
        rows[f"dnabert-tiny, {variant}"] = span_bits(model, places["test"])[picked["test"]] / span
    window = np.repeat(places["test"].window, places["test"].hidden.shape[1])[picked["test"]]
    return {
        "n": int(window.size),
        "bits": {label: float(bits.mean()) for label, bits in rows.items()},
        "chosen": {"k": k, "valid": valid},
        "gains": gains({"dnabert-tiny": variants}, rows, window),
    }


def score_tokens(
    variants: dict[str, Model], text: Text, places: dict[str, Places]
) -> dict[str, Any]:
    """Which byte pair is hidden: share named, and bits."""
    vocabulary = variants[TRAINED].vocabulary
    asked_of = {
        part: hidden_tokens.questions(variants[TRAINED], framed_pieces(vocabulary, some.codes))
        for part, some in places.items()
    }
    asked = asked_of["test"]
    window = np.repeat(places["test"].window, [hidden.size for _, hidden in asked])
    encoded = vocabulary.encode(text.codes, text.offsets)[:2]

    def of_counts(part: str, strength: float) -> dict[str, tuple[np.ndarray, ...]]:
        sizes = len(vocabulary), len(vocabulary.special)
        return hidden_tokens.of_counts(encoded, asked_of[part], *sizes, strength)

    valid = {s: float(of_counts("valid", s)["neighbours"][1].mean()) for s in TOKEN_STRENGTHS}
    strength = min(valid, key=lambda one: valid[one])
    rows = of_counts("test", strength)
    for variant, model in variants.items():
        rows[f"grover-tiny, {variant}"] = hidden_tokens.of_model(model, asked)
    return {
        "n": int(window.size),
        "chosen": {"strength": strength, "valid": valid},
        "accuracy": {label: float(named.mean()) for label, (named, _) in rows.items()},
        "bits": {label: float(bits.mean()) for label, (_, bits) in rows.items()},
        "gains": gains(
            {"grover-tiny": variants}, {label: bits for label, (_, bits) in rows.items()}, window
        ),
    }


# ---- the next k bases ----------------------------------------------------------------------------


def score_next(
    models: dict[str, dict[str, Model]], text: Text, windows: dict[str, list[np.ndarray]]
) -> dict[str, Any]:
    """Accuracy of linear probes for k = 2 to 6, and of the most frequent answer."""
    ends = text.offsets[1 : text.n_from_windows]
    last = text.offsets[text.n_from_windows]
    stretches = {"train": np.split(text.codes[:last], ends), **windows}
    tasks = {
        part: next_kmers.draw_task(stretches[part], n, seed)
        for seed, (part, n) in enumerate(N_SEQUENCES.items())
    }
    features: dict[str, dict[str, np.ndarray]] = {}
    for name, found in models.items():
        for variant in (TRAINED, TWIN):
            embed = {part: next_kmers.embed(found[variant], t.known) for part, t in tasks.items()}
            features[f"{name}, {variant}"] = embed
            logging.info("%s: embedded", f"{name}, {variant}")
    for size in (3, 4, 5):
        count = next_kmers.KmerCounts(tasks["train"].known, size)
        features[f"TF-IDF of {size}-mers"] = {part: count(t.known) for part, t in tasks.items()}
    found_right: dict[int, dict[str, np.ndarray]] = {}
    for k in range(2, next_kmers.LONGEST + 1):
        classes = {part: task.classes(k) for part, task in tasks.items()}
        often = np.bincount(classes["train"], minlength=4**k).argmax()
        right = {"most frequent k-mer": (classes["test"] == often).astype(float)}
        for label, table in features.items():
            said = next_kmers.probe(
                (table["train"], classes["train"]),
                (table["valid"], classes["valid"]),
                table["test"],
                4**k,
            )
            right[label] = (said == classes["test"]).astype(float)
        found_right[k] = right
        logging.info("k = %d: %s", k, {label: round(r.mean(), 4) for label, r in right.items()})
    window = tasks["test"].window
    return {
        "n": N_SEQUENCES,
        "accuracy": {
            str(k): {"chance": 4.0**-k, **{label: float(r.mean()) for label, r in right.items()}}
            for k, right in found_right.items()
        },
        "gains": {
            str(k): {
                name: {
                    label: told(gain(right[f"{name}, {TRAINED}"], theirs, window))
                    for label, theirs in right.items()
                    if "tiny" not in label or label == f"{name}, {TWIN}"
                }
                for name in models
            }
            for k, right in found_right.items()
        },
    }


def write_card(name: str, result: dict[str, Any]) -> None:
    """Put the scores into the bundle's card; its other files stay as they are."""
    path = Path(glm.__file__).parent / "models" / "bundled" / name / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))

    def mine(rows: dict[str, float]) -> dict[str, float]:
        return {
            label: round(value, 4)
            for label, value in rows.items()
            if "tiny" not in label or label.startswith(name)
        }

    config["card"]["scores"] = {
        "bits_per_base": mine(result["bases"]["bits"]),
        "next_k_mer_accuracy": {k: mine(row) for k, row in result["next"]["accuracy"].items()},
        "told_in_full": f"docs/{PAGE.name}",
    }
    with replacing(path) as beside:
        beside.write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
