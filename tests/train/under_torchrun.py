"""A user's script: ``torchrun --nproc-per-node 2 under_torchrun.py FOLDER [DEVICES]``."""

from __future__ import annotations

import os
import sys
from dataclasses import replace

import numpy as np
import torch

import glm
from glm.train import MaskedTokens, Sentences, fit


def main(folder: str, **devices: int) -> None:
    torch.set_num_threads(1)
    model = glm.models.load("geneformer-tiny")
    rng = np.random.default_rng(0)
    parts = [4 + rng.permutation(500)[: rng.integers(10, 41)] for _ in range(15)]
    cells = Sentences(np.concatenate(parts).astype(np.int32), np.cumsum([0, *map(len, parts)]))
    recipe = replace(
        glm.train.recipe("geneformer"),
        warmup=0,
        max_epochs=1,
        tokens_per_batch=80,
        batches_per_step=2,
    )
    fitted = fit(
        model,
        MaskedTokens(model.vocabulary),
        cells,
        recipe=recipe,
        folder=folder,
        held_out=cells,
        accelerator="cpu",
        log_every_n_steps=1,
        **devices,
    )
    if os.environ.get("RANK", "0") == "0":
        torch.save(fitted.model.network.state_dict(), f"{folder}-weights.pt")
        fitted.history.to_csv(f"{folder}-history.csv", index=False)


if __name__ == "__main__":
    main(sys.argv[1], **({"devices": int(sys.argv[2])} if len(sys.argv) > 2 else {}))
