"""The model before training, its training, and what it predicts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import glm
from enformer_tiny.data import CROP, GENOMES, WINDOW_BP, data_dir, pieces
from glm.models.enformer import Enformer, EnformerConfig
from glm.models.track_model import TrackModel, TrackSpec
from glm.models.track_table import read_targets
from glm.train import Recipe, TrackPoisson, TrackWindows, fit_tracks

NAME = "enformer-tiny"
SEED = 0
STEPS = 3_000
BINS, FLANK = 64, 16
"""Of the pieces that are trained on: measured bins, and bins more on either side."""

BUNDLED = Path(glm.__file__).parent / "models" / "bundled"
LEAST_MEAN = 1e-4
NOTE = (
    "A small model for examples and tests, trained for some minutes on 45 human and 28 mouse "
    "windows: not for research."
)
RECIPE = Recipe(
    learning_rate=1.5e-3,
    warmup=50,
    max_epochs=None,
    max_steps=STEPS,
    weight_decay=0.01,
    gradient_clip=1.0,
    rows_per_batch=8,
    precision="bf16-mixed",
    seed=SEED,
)


def untrained(*, seed: int = SEED, crop: int = CROP) -> TrackModel:
    """The model with random weights."""
    tables = {h: read_targets(data_dir() / g / "targets.txt") for h, g in GENOMES.items()}
    shape = EnformerConfig(
        heads={head: len(table) for head, table in tables.items()},
        channels=96,
        depth=2,
        n_heads=4,
        key_size=16,
        crop=crop,
        channel_step=8,
        dropout=0.1,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = Enformer(shape)
    spec = TrackSpec(
        name=NAME,
        shape=shape,
        window_bp=WINDOW_BP - 2 * (CROP - crop) * glm.models.enformer.BIN_BP,
        tier="demo",
        licence="BSD-3-Clause; trained on data of calico/baskerville (Apache-2.0)",
        source="scripts/make_enformer_tiny.py",
        note=NOTE,
    )
    return TrackModel(spec, network.eval(), tables)


def predict(model: TrackModel, head: str, codes: np.ndarray) -> np.ndarray:
    """Tracks of windows as they stand on the + strand: float32, windows × bins × tracks."""
    with torch.inference_mode():
        found = [model.network(torch.from_numpy(one[None]), heads=[head])[head] for one in codes]
    return torch.cat(found).numpy()
