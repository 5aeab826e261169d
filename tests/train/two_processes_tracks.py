"""Train on tracks in as many processes as asked: ``two_processes_tracks.py CASE N FOLDER``."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch

from glm.models.enformer_config import EnformerConfig
from glm.train import Recipe, TrackWindows, fit_tracks

SHAPE = EnformerConfig(channels=24, depth=1, n_heads=2, key_size=8, channel_step=4, dropout=0.1)


class KilledWhileSaving(pl.Callback):
    """The third checkpoint is cut off by kill -9 in the middle of its bytes."""

    n = 0

    def on_train_start(self, trainer, module) -> None:
        save = torch.save

        def cut(content, path) -> None:
            self.n += 1
            save(content, path)
            if self.n == 3:
                os.truncate(path, path.stat().st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)

        torch.save = cut


def windows(head: str, n: int, n_tracks: int) -> TrackWindows:
    """Made-up windows of 2,048 bp."""
    rng = np.random.default_rng(n)
    return TrackWindows(
        rng.integers(0, 4, (n, 2_048), dtype=np.uint8),
        rng.random((n, 8, n_tracks), dtype=np.float32),
        pd.DataFrame({"identifier": [f"{head}-{i}" for i in range(n_tracks)], "assay": "CAGE"}),
        head,
    )


def main(case: str, n_processes: int, folder: Path) -> None:
    torch.set_num_threads(1)
    recipe = Recipe(
        learning_rate=1e-3,
        warmup=1,
        max_epochs=2,
        schedule="constant",
        gradient_clip=0.2,
        rows_per_batch=1,
        batches_per_step=2,
    )
    fitted = fit_tracks(
        SHAPE,
        [windows("human", 5, 4), windows("mouse", 3, 2)],
        held_out=[windows("human", 3, 4), windows("mouse", 2, 2)],
        folder=folder,
        recipe=recipe,
        callbacks=[KilledWhileSaving()] if case == "kill" else [],
        accelerator="cpu",
        devices=n_processes,
        strategy="ddp" if n_processes > 1 else "auto",
        log_every_n_steps=1,
        save_every_steps=2,
    )
    if os.environ.get("LOCAL_RANK", "0") == "0":
        torch.save(fitted.model.network.state_dict(), f"{folder}-weights.pt")
        fitted.history.to_csv(f"{folder}-history.csv", index=False)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
