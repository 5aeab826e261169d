"""The model before training, the pieces it is trained on, and what it predicts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

import glm
from enformer_tiny.data import CROP, GENOMES, WINDOW_BP, data_dir
from glm.models.enformer import Enformer, EnformerConfig
from glm.models.track_model import TrackModel, TrackSpec
from glm.models.track_table import read_targets

NAME = "enformer-tiny"
SEED = 0
STEPS = 3_000
BUNDLED = Path(glm.__file__).parent / "models" / "bundled"
NOTE = (
    "A small model for examples and tests, trained for some minutes on 45 human and 28 mouse "
    "windows: not for research."
)


def untrained(*, seed: int = SEED) -> TrackModel:
    """The model with random weights."""
    tables = {h: read_targets(data_dir() / g / "targets.txt") for h, g in GENOMES.items()}
    shape = EnformerConfig(
        heads={head: len(table) for head, table in tables.items()},
        channels=96,
        depth=2,
        n_heads=4,
        key_size=16,
        crop=CROP,
        channel_step=8,
        dropout=0.2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = Enformer(shape)
    spec = TrackSpec(
        name=NAME,
        shape=shape,
        window_bp=WINDOW_BP,
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
