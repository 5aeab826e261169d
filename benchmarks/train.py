"""Pretraining of Geneformer's V1-10M shape, three ways, on one core in float32: tokens a second.

trainer
    ``transformers.Trainer`` as it comes: ``BertForMaskedLM``, ``DataCollatorForLanguageModeling``,
    batches of so many cells drawn at random, padded to their longest.
grouped
    The same with ``train_sampling_strategy="group_by_length"``, which has to be known of.
glm
    ``glm.train.fit``: batches of similar lengths with as many padded tokens as the others' cells
    have at most, and logits of the masked tokens only.

Weights are random, dropout is on, AdamW and clipping are the same, and all see the same cells: real
ones of all lengths, drawn at random from three data sets, encoded as ranks beforehand. In a round
each way trains one epoch on that round's cells, and the ways take turns, each in a process of its
own, so that slow spells of the machine fall on all of them. Timed is from the first batch to the
last step: not what each does at its start and end. Tokens are real ones, not padding. ``loader`` is
the time that ``glm`` takes to make the same batches without training on them.

Run it with ``python benchmarks/train.py``; the data are looked for in ``GLM_TEST_DATA``.
"""

from __future__ import annotations

import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from embed import SHAPE, Sentences, Worker, real_sentences
from numpy.typing import NDArray

N_CELLS = 8  # a round
BATCH = 4  # cells
ROUNDS = 3
WAYS = ("trainer", "grouped", "glm")
LEARNING_RATE = 1e-4
MASK_SHARE = 0.15
PAD, MASK = 0, 1
LONGEST = SHAPE["n_positions"]

Train = Callable[[Sentences], float]


def main() -> dict[str, float]:
    """Measure, print a table, and return what it holds."""
    data = Path(os.environ.get("GLM_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    cells = real_sentences(data, N_CELLS * ROUNDS)
    order = np.random.default_rng(1).permutation(len(cells))
    rounds = np.split(order, ROUNDS)
    shortest = list(range(len(cells) - BATCH, len(cells)))
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        np.savez(Path(folder) / "cells.npz", *cells)
        workers = {way: running.enter_context(Worker(way, Path(folder), __file__)) for way in WAYS}
        for worker in workers.values():
            worker.ask("warm " + json.dumps(shortest))
        seconds: dict[str, list[float]] = {way: [] for way in (*WAYS, "loader")}
        for chosen in rounds:
            for way, worker in workers.items():
                answer = worker.ask("round " + json.dumps(chosen.tolist()))
                seconds[way].append(answer["seconds"])
                if "loader" in answer:
                    seconds["loader"].append(answer["loader"])
    tokens = [sum(len(cells[i]) for i in chosen) for chosen in rounds]
    results = _summary(cells, tokens, seconds)
    _print_table(results)
    return results


def _summary(
    cells: Sentences, tokens: list[int], seconds: dict[str, list[float]]
) -> dict[str, float]:
    results = {"n_cells": float(len(cells)), "tokens_per_cell": sum(tokens) / len(cells)}
    for way, each in seconds.items():
        results[f"{way}_tokens_per_s"] = sum(tokens) / sum(each)
    for way in ("trainer", "grouped"):
        ratios = [a / b for a, b in zip(seconds[way], seconds["glm"], strict=True)]
        results[f"ratio_to_{way}"] = float(np.median(ratios))
        results[f"lowest_ratio_to_{way}"] = min(ratios)
    loads = [a / b for a, b in zip(seconds["glm"], seconds["loader"], strict=True)]
    results["loader_ratio_to_step"] = float(np.median(loads))
    results["lowest_loader_ratio_to_step"] = min(loads)
    return results


def _print_table(results: dict[str, float]) -> None:
    print(f"{results['n_cells']:.0f} cells, {results['tokens_per_cell']:.0f} tokens each")
    for way in (*WAYS, "loader"):
        print(f"{way:10}{results[f'{way}_tokens_per_s']:14,.0f} tokens/s")
    for way in ("trainer", "grouped"):
        print(
            f"glm trains {results[f'ratio_to_{way}']:.2f} times as fast as {way} "
            f"(lowest of {ROUNDS} rounds {results[f'lowest_ratio_to_{way}']:.2f})"
        )
    print(
        f"its loader is {results['loader_ratio_to_step']:,.0f} times as fast as its steps "
        f"(lowest {results['lowest_loader_ratio_to_step']:,.0f})"
    )


def _work(way: str, folder: Path) -> None:
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    with np.load(folder / "cells.npz") as file:
        cells = list(file.values())
    make = {"trainer": _trainer, "grouped": _grouped, "glm": _glm}[way]
    train = make(folder)
    answers, sys.stdout = sys.stdout, io.StringIO()  # the trainer prints
    for line in sys.stdin:
        what, chosen = line.split(" ", 1)
        some = [cells[i] for i in json.loads(chosen)]
        answer = {"seconds": train(some)}
        if way == "glm" and what == "round":
            answer["loader"] = _loading(some)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _grouped(folder: Path) -> Train:
    return _trainer(folder, sampling="group_by_length")


def _trainer(folder: Path, sampling: str = "random") -> Train:
    import transformers
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    words = {"<pad>": PAD, "<mask>": MASK} | {f"g{i}": i for i in range(2, SHAPE["vocab_size"])}
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(words, unk_token="<pad>")),
        pad_token="<pad>",
        mask_token="<mask>",
    )
    config = transformers.BertConfig(
        vocab_size=SHAPE["vocab_size"],
        hidden_size=SHAPE["hidden_size"],
        num_hidden_layers=SHAPE["n_layers"],
        num_attention_heads=SHAPE["n_heads"],
        intermediate_size=SHAPE["intermediate_size"],
        max_position_embeddings=SHAPE["n_positions"],
        hidden_act=SHAPE["activation"],
        hidden_dropout_prob=0.02,
        attention_probs_dropout_prob=0.02,
        pad_token_id=PAD,
    )
    model = transformers.BertForMaskedLM(config)
    collator = transformers.DataCollatorForLanguageModeling(tokenizer, mlm_probability=MASK_SHARE)
    clock = {"start": 0.0, "end": 0.0}

    class Clock(transformers.TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            clock["start"] = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock["end"] = time.perf_counter()

    options = transformers.TrainingArguments(
        output_dir=str(folder / sampling),
        per_device_train_batch_size=BATCH,
        learning_rate=LEARNING_RATE,
        num_train_epochs=1,
        train_sampling_strategy=sampling,
        use_cpu=True,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )

    def train(cells: Sentences) -> float:
        rows = [{"input_ids": cell.tolist(), "length": len(cell)} for cell in cells]
        transformers.Trainer(
            model, options, data_collator=collator, train_dataset=rows, callbacks=[Clock()]
        ).train()
        return clock["end"] - clock["start"]

    return train


def _glm(folder: Path) -> Train:
    import pytorch_lightning as pl
    import torch

    import glm
    from glm.models.bert import BertConfig, MaskedLM

    glm.settings.progress = False
    vocabulary = _vocabulary()
    spec = glm.models.get("geneformer-v1-10m")
    network = MaskedLM(BertConfig(**SHAPE))
    model = glm.models.Model(spec, vocabulary, network)
    assert spec.shape == network.config
    clock = {"start": 0.0, "end": 0.0}

    class Clock(pl.Callback):
        def on_train_start(self, *_: Any) -> None:
            clock["start"] = time.perf_counter()

        def on_train_batch_end(self, *_: Any) -> None:
            clock["end"] = time.perf_counter()

    def train(cells: Sentences) -> float:
        with tempfile.TemporaryDirectory(dir=folder) as run:
            glm.train.fit(
                model,
                glm.train.MaskedTokens(vocabulary, share=MASK_SHARE),
                _sentences(cells),
                recipe=_recipe(),
                folder=run,
                accelerator="cpu",
                callbacks=[Clock()],
            )
        assert torch.get_num_threads() == 1
        return clock["end"] - clock["start"]

    return train


def _loading(cells: Sentences) -> float:
    """Seconds for the batches of an epoch."""
    import glm
    from glm.train.data import TrainingData

    objective = glm.train.MaskedTokens(_vocabulary(), share=MASK_SHARE)
    data = TrainingData(_sentences(cells), objective, _recipe())
    start = time.perf_counter()
    n_tokens = sum(batch.n_tokens for batch in data.train_dataloader())
    seconds = time.perf_counter() - start
    assert n_tokens == sum(map(len, cells))
    return seconds


def _recipe() -> Any:
    from glm.train import Recipe

    return Recipe(
        learning_rate=LEARNING_RATE, warmup=0, max_epochs=1, tokens_per_batch=BATCH * LONGEST
    )


def _sentences(cells: Sentences) -> Any:
    from glm.train import Sentences as Packed

    offsets: NDArray[np.int64] = np.cumsum([0, *map(len, cells)])
    return Packed(np.concatenate(cells), offsets)


def _vocabulary() -> Any:
    """As large as the published one; the names do not matter here."""
    from glm.models import GeneVocabulary

    n_genes = SHAPE["vocab_size"] - 2
    return GeneVocabulary(
        name="benchmark",
        ids=tuple(f"ENSG{i:011d}" for i in range(n_genes)),
        tokens=np.arange(2, n_genes + 2, dtype=np.int32),
        medians=np.ones(n_genes),
        special={"pad": PAD, "mask": MASK},
        context=LONGEST,
        symbols={},
        aliases={},
    )


if __name__ == "__main__":
    if len(sys.argv) == 3:
        _work(sys.argv[1], Path(sys.argv[2]))
    else:
        main()
