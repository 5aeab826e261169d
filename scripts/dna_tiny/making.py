"""What both models share: the text, the epochs drawn from it, training, and the bundle."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import glm
from dna_tiny.starts import Start, begin
from dna_tiny.text import TRAINING_TABLES, WORD, Text, training_text
from glm.bases import reverse_complement
from glm.models import BertConfig, Model, ModelSpec
from glm.models._verify import record_expected
from glm.models.bert import MaskedLM
from glm.models.dna_vocabulary import DnaVocabulary
from glm.train import Recipe, Sentences, dna_sentences, fit

SEED = 0
CONTEXT = 512
LEAST_TOKENS = 20
WINDOW_SHARE = 0.6
BUNDLED = Path(glm.__file__).parent / "models" / "bundled"
EXAMPLE_BP = 600
RECIPE = Recipe(
    learning_rate=2e-3,
    warmup=100,
    max_epochs=12,
    weight_decay=0.01,
    betas=(0.9, 0.98),
    tokens_per_batch=4 * CONTEXT,
    precision="bf16-mixed",
    seed=SEED,
)


def new_model(name: str, vocabulary: DnaVocabulary, *, note: str, seed: int = SEED) -> Model:
    """The model with random weights."""
    shape = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=192,
        n_layers=3,
        n_heads=6,
        intermediate_size=512,
        n_positions=CONTEXT,
        activation="gelu",
        dropout=0.0,  # no base is seen more than twice or so
        attention_dropout=0.0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = MaskedLM(shape)
    spec = ModelSpec(
        name=name,
        system=name.removesuffix("-tiny"),
        shape=shape,
        pooling="mean",
        hidden_layer="last",
        tier="demo",
        licence="BSD-3-Clause",
        source=f"scripts/make_{name.replace('-', '_')}.py",
        note=note,
    )
    return Model(spec, vocabulary, network.eval())


def started(model: Model, start: Start, tokens: np.ndarray) -> Model:
    """The model at its starting point; ``tokens`` are those of the training text."""
    counts = np.bincount(tokens, minlength=len(model.vocabulary)) + 1.0
    assert isinstance(model.network, MaskedLM)
    begin(model.network, start, counts, SEED)
    return model


def draw_epoch(
    text: Text, vocabulary: DnaVocabulary, epoch: int, *, n_bases: int, seed: int = SEED
) -> Sentences:
    """Stretches drawn at random, either strand, cut into sentences of random lengths.

    Genome windows make up :data:`WINDOW_SHARE` of the bases, rows of the tables the others.
    """
    rng = np.random.default_rng((seed, epoch))
    n = text.n_from_windows
    windows = _some(np.arange(n), text.lengths[:n], WINDOW_SHARE * n_bases, rng)
    rows = np.arange(n, text.lengths.size)
    tables = _some(rows, text.lengths[n:], (1 - WINDOW_SHARE) * n_bases, rng)
    chosen = np.concatenate([windows, tables])
    parts = [text.codes[text.offsets[i] : text.offsets[i + 1]] for i in chosen]
    parts = [reverse_complement(p) if rng.random() < 0.5 else p for p in parts]
    offsets = np.concatenate([[0], np.cumsum([part.size for part in parts])])
    return dna_sentences(
        vocabulary, np.concatenate(parts), offsets, seed=seed, epoch=epoch, least=LEAST_TOKENS
    )


def _some(
    numbers: np.ndarray, lengths: np.ndarray, n_bases: float, rng: np.random.Generator
) -> np.ndarray:
    """As many of them, in random order, as hold so many bases."""
    order = rng.permutation(numbers.size)
    return numbers[order[: 1 + np.searchsorted(np.cumsum(lengths[order]), n_bases)]]


def options_of(what: str, name: str, *, epochs: int) -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("--work", type=Path, required=True, help="folder of checkpoints and log")
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument("--out", type=Path, default=BUNDLED / name, help="folder of the bundle")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    return options


def make(
    options: argparse.Namespace,
    build: Callable[[Text], Model],
    objective_of: Callable[[Model], Any],
    *,
    bases_an_epoch: int,
    words: dict[str, str],
) -> None:
    """Clean the text, train, and write the bundle with its card."""
    text, counts = training_text()
    model = build(text)
    logging.info("%s, %s parameters", counts, f"{model.spec.shape.n_parameters:,}")
    recipe = replace(RECIPE, max_epochs=options.epochs)
    objective = objective_of(model)

    def epoch(number: int) -> Sentences:
        return draw_epoch(text, model.vocabulary, number, n_bases=bases_an_epoch)

    fitted = fit(
        model,
        objective,
        epoch(0),
        recipe=recipe,
        folder=options.work,
        each_epoch=epoch,
        save_every_minutes=2,
    ).model
    for parameter in fitted.network.parameters():
        # Kept as float16, half the size: what is scored and shipped are the rounded weights.
        parameter.data = parameter.data.half().float()
    card = {
        "text": counts,
        "windows": "train windows of hg38 (calico/baskerville, tests/data/tiny), Apache-2.0",
        "tables": [f"{folder}/train.csv of GUE" for folder in TRAINING_TABLES],
        "left_out": f"whatever shares {WORD} bases with a dev or test sequence, on either strand",
        "bases_an_epoch": bases_an_epoch,
        "share_of_windows": WINDOW_SHARE,
        "mask_share": objective.share,
        "recipe": dataclasses.asdict(recipe),
        **words,
    }
    fitted.save(options.out, card=card, half=True)
    _record(options.out, fitted.vocabulary)
    print(json.dumps(card, indent=1))


def _record(folder: Path, vocabulary: DnaVocabulary) -> None:
    """What the bundle makes of a stretch of made-up DNA."""
    codes = np.random.default_rng(SEED).integers(0, 4, EXAMPLE_BP).astype(np.uint8)
    tokens, _, _ = vocabulary.encode(codes, np.array([0, codes.size]))
    special = vocabulary.special
    sentence = [special["cls"], *tokens[: CONTEXT - 2].tolist(), special["eos"]]
    record_expected(folder, sentence, card="on the machine that trained it, float32")
