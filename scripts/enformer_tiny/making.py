"""The model before training, its training, and what it predicts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import glm
from enformer_tiny.data import CROP, GENOMES, WINDOW_BP, data_dir, pieces
from glm.models.enformer import Enformer
from glm.models.enformer_config import BIN_BP, EnformerConfig
from glm.models.track_model import TrackModel, TrackSpec
from glm.models.track_table import read_targets
from glm.train import Recipe, TrackPoisson, TrackWindows, fit_tracks

NAME = "enformer-tiny"
SEED = 0
STEPS = 2_400
BINS, FLANK = 64, 16
"""Of the pieces that are trained on: measured bins, and bins more on either side."""

BUNDLED = Path(glm.__file__).parent / "models" / "bundled"
LEAST_MEAN = 1e-4
NOTE = (
    "A small model for examples and tests, trained for some minutes on 45 human and 28 mouse "
    "windows: not for research."
)
RECIPE = Recipe(
    learning_rate=1e-3,
    warmup=50,
    max_epochs=None,
    max_steps=STEPS,
    weight_decay=0.01,
    gradient_clip=0.5,
    rows_per_batch=8,
    precision="bf16-mixed",
    seed=SEED,
)


def untrained(
    *, seed: int = SEED, heads: Iterable[str] = tuple(GENOMES), crop: int = CROP
) -> TrackModel:
    """The model with random weights, for windows of which ``crop`` bins at either end are cut."""
    tables = {head: read_targets(data_dir() / GENOMES[head] / "targets.txt") for head in heads}
    shape = EnformerConfig(
        heads={head: len(table) for head, table in tables.items()},
        channels=96,
        depth=2,
        n_heads=4,
        key_size=16,
        crop=crop,
        channel_step=8,
        dropout=0.2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = Enformer(shape)
    spec = TrackSpec(
        name=NAME,
        shape=shape,
        window_bp=WINDOW_BP if crop == CROP else BIN_BP * (BINS + 2 * crop),
        tier="demo",
        licence="BSD-3-Clause; trained on data of calico/baskerville (Apache-2.0)",
        source="scripts/make_enformer_tiny.py",
        note=NOTE,
    )
    return TrackModel(spec, network.eval(), tables)


def started(windows: Mapping[str, TrackWindows]) -> TrackModel:
    """The model before training: random weights, and outputs that begin at each track's mean."""
    model = untrained(heads=windows, crop=FLANK)
    for head, some in windows.items():
        mean = np.maximum(some.targets.mean(axis=(0, 1), dtype=np.float64), LEAST_MEAN)
        bias = model.network.heads[head].bias
        bias.data.copy_(torch.from_numpy(np.log(np.expm1(mean))))
    return model


def train(
    windows: Mapping[str, TrackWindows],
    *,
    folder: Path,
    steps: int,
    watched: Iterable[TrackWindows] = (),
) -> TrackModel:
    """Train on pieces of windows; what comes back is the model of whole windows.

    The run is kept in ``folder`` and goes on where it was stopped. The epoch is taken that
    correlates best on ``watched`` windows; the last one if there are none. The card tells which.
    """
    held_out = [pieces(some, BINS, FLANK) for some in watched]
    fitted = fit_tracks(
        started(windows),
        [pieces(some, BINS, FLANK) for some in windows.values()],
        folder=folder,
        held_out=held_out or None,
        recipe=replace(RECIPE, max_steps=steps),
        objective=TrackPoisson(shift_bp=3, reverse_complement=True),
        name=NAME,
        keep="best" if held_out else "last",
        save_every_minutes=2,
    )
    for parameter in fitted.model.network.parameters():
        # Kept as float16, half the size: what is scored and shipped are the rounded weights.
        parameter.data = parameter.data.half().float()
    whole = untrained(heads=windows)
    whole.network.load_state_dict(fitted.model.network.state_dict())
    history = fitted.history
    if held_out:
        history = history[history["epoch"] <= fitted.best_epoch]
    return replace(whole, card={"kept_step": int(history["step"].max()) + 1})


def predict(model: TrackModel, head: str, codes: np.ndarray) -> np.ndarray:
    """Tracks of windows as they stand on the + strand: float32, windows × bins × tracks."""
    with torch.inference_mode():
        found = [model.network(torch.from_numpy(one[None]), heads=[head])[head] for one in codes]
    return torch.cat(found).numpy()
