"""Train in as many processes as asked: ``python two_processes.py CASE N FOLDER``, run by the tests.

Each process writes down the rows and losses it met.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch

import glm
from glm.train import MaskedTokens, Sentences, fit


class Seen(pl.Callback):
    """The rows and the loss of every batch, by epoch."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, list[int]]] = []
        self.held_out: list[list[int]] = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        self.rows.append((trainer.current_epoch, batch.rows.tolist() if batch.weight else []))

    def on_validation_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        self.held_out.append(batch.rows.tolist() if batch.weight else [])


class Terminate(pl.Callback):
    """The machine tells one of the processes to stop."""

    def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
        if trainer.global_step == 2 and trainer.global_rank == trainer.world_size - 1:
            os.kill(os.getpid(), signal.SIGTERM)


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


class Poison(pl.Callback):
    """A batch of one process has no loss."""

    def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
        if trainer.global_step == 2 and trainer.global_rank == trainer.world_size - 1:
            module.objective = _Nan(module.objective.vocabulary)


class _Nan(MaskedTokens):
    def loss(self, outputs, batch):
        return super().loss(outputs, batch) * float("nan")


def cells(n: int) -> Sentences:
    """As many sentences of 10 to 40 genes."""
    rng = np.random.default_rng(0)
    parts = [4 + rng.permutation(500)[: rng.integers(10, 41)] for _ in range(n)]
    return Sentences(np.concatenate(parts).astype(np.int32), np.cumsum([0, *map(len, parts)]))


def main(case: str, n_processes: int, folder: Path) -> None:
    torch.set_num_threads(1)
    model = glm.models.load("geneformer-tiny")
    for module in model.network.modules():  # both processes must draw what one would
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.1
    chosen = replace(
        glm.train.recipe("geneformer"),
        warmup=1,
        max_epochs=2,
        tokens_per_batch=160,
        batches_per_step=2,
        learning_rate=1e-4,
    )
    n_rows = {"few": 1}.get(case, 37)
    seen = Seen()
    extra = {"stop": [Terminate()], "nan": [Poison()], "kill": [KilledWhileSaving()]}.get(case, [])
    strategy = "ddp_spawn" if case == "spawn" else "ddp" if n_processes > 1 else "auto"
    try:
        fitted = fit(
            model,
            MaskedTokens(model.vocabulary, share=0.5 if case == "few" else 0.15),
            cells(n_rows),
            recipe=chosen,
            folder=folder,
            held_out=cells(11),
            callbacks=[seen, *extra],
            accelerator="cpu",
            devices=n_processes,
            strategy=strategy,
            log_every_n_steps=1,
            save_every_steps=2,
        )
    finally:
        rank = os.environ.get("LOCAL_RANK", "0")
        note = {"rows": seen.rows, "held_out": seen.held_out}
        Path(f"{folder}-{rank}.json").write_text(json.dumps(note))
    if rank == "0":
        torch.save(fitted.model.network.state_dict(), f"{folder}-weights.pt")
        fitted.history.to_csv(f"{folder}-history.csv", index=False)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
