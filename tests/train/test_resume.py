"""A run that was stopped goes on as if it had not been; one of other facts is refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch

import glm
from glm._run_log import read_history
from glm.models import Model
from glm.train import MaskedTokens, Sentences
from glm.train.checkpoints import AtomicCheckpoints, read
from glm.train.runs import plain

OPTIONS = {"save_every_steps": 2, "save_every_minutes": None}


def logs_of(folder) -> list[pd.DataFrame]:
    """One a call."""
    return [pd.read_csv(path) for path in sorted((folder / "log").rglob("metrics.csv"))]


@pytest.fixture(scope="module")
def uninterrupted(train, new_model, sentences, tmp_path_factory) -> tuple[Model, pd.DataFrame]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    with glm.settings.override(progress=False):
        fitted = train(new_model(), folder, held_out=sentences, log_every_n_steps=1)
    return fitted.model, fitted.history


# ---- going on -----------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [(0, 3), (1, 0), (1, 2), (1, 3), (2, 0), (2, 4)], ids=str)
def test_resumed_equals_uninterrupted(
    train, new_model, sentences, interrupted, tmp_path, uninterrupted, assert_equal, at
):
    """Bit for bit: every loss and the weights, the first part from another process's model."""
    options = {"held_out": sentences, "log_every_n_steps": 1, **OPTIONS}
    interrupted(new_model(), tmp_path, at, **options)
    torch.rand(5)  # whatever else happened to the generator
    resumed = train(new_model(seed=9), tmp_path, **options)
    model, history = uninterrupted
    assert_equal(resumed.model, model)
    pd.testing.assert_frame_equal(resumed.history, history, check_exact=True)


def test_only_what_was_not_saved_is_done_again(train, new_model, interrupted, watch, tmp_path):
    first, second = watch(), watch()
    interrupted(new_model(), tmp_path, (1, 3), callbacks=[first], **OPTIONS)
    train(new_model(), tmp_path, callbacks=[second], **OPTIONS)
    # Steps are counted over epochs; the last one saved before the interruption is an even one.
    n_epoch = sum(epoch == 0 for epoch, _ in first.batches)
    last = len(first.losses) // 2 * 2
    assert second.losses[: len(first.losses) - last] == first.losses[last:]
    assert second.batches[0] == first.batches[last]
    assert len(second.losses) + last == 3 * n_epoch


@pytest.mark.parametrize("at", [(0, 3), (1, 1)], ids=str)
@pytest.mark.parametrize("per_step", [2, 3])
def test_resumed_between_steps_of_several_batches(
    train, new_model, interrupted, watch, tmp_path, assert_equal, at, per_step
):
    """Also where an epoch's last step has fewer batches."""
    options = {"batches_per_step": per_step, "warmup": 1, "tokens_per_batch": 50}
    whole = train(new_model(), tmp_path / "whole", **options)
    saved = {"save_every_steps": 1, "save_every_minutes": None}
    interrupted(new_model(), tmp_path / "cut", at, **saved, **options)
    resumed = train(new_model(seed=4), tmp_path / "cut", **saved, **options)
    assert_equal(resumed.model, whole.model)


def test_every_so_many_minutes(train, new_model, interrupted, tmp_path):
    interrupted(new_model(), tmp_path, (0, 3), save_every_minutes=1e-9)
    assert read(tmp_path / "last.ckpt")["global_step"] == 3
    interrupted(new_model(), tmp_path / "b", (0, 3), save_every_minutes=60)
    assert not (tmp_path / "b" / "last.ckpt").exists()


def test_interrupted_before_the_first_checkpoint(
    train, new_model, sentences, interrupted, tmp_path, uninterrupted, assert_equal
):
    interrupted(new_model(), tmp_path, (0, 2), held_out=sentences)
    resumed = train(new_model(), tmp_path, held_out=sentences)
    assert_equal(resumed.model, uninterrupted[0])


def test_a_finished_run_is_handed_back(train, new_model, sentences, tmp_path, watch, assert_equal):
    first = train(new_model(), tmp_path, held_out=sentences)
    seen = watch()
    again = train(new_model(seed=3), tmp_path, held_out=sentences, callbacks=seen)
    assert_equal(again.model, first.model)
    assert (again.best_epoch, seen.losses) == (first.best_epoch, [])
    pd.testing.assert_frame_equal(again.history, first.history)


def test_resampled_sentences_are_those_of_the_epoch(
    train, new_model, sentences, interrupted, tmp_path, assert_equal
):
    asked: list[int] = []

    def each_epoch(epoch: int) -> Sentences:
        asked.append(epoch)
        order = np.random.default_rng(epoch).permutation(len(sentences))
        return sentences.subset(order[:40])

    whole = train(new_model(), tmp_path / "whole", each_epoch=each_epoch)
    interrupted(new_model(), tmp_path / "cut", (1, 3), each_epoch=each_epoch, **OPTIONS)
    asked.clear()
    resumed = train(new_model(), tmp_path / "cut", each_epoch=each_epoch, **OPTIONS)
    assert_equal(resumed.model, whole.model)
    assert asked == [0, 1, 2]  # the first tells how many steps there are


@pytest.mark.filterwarnings("error:Experiment logs directory")
def test_the_log_of_an_interrupted_run_is_kept(train, new_model, interrupted, tmp_path):
    interrupted(new_model(), tmp_path, (1, 0), log_every_n_steps=1)
    train(new_model(), tmp_path, log_every_n_steps=1)
    first, second = logs_of(tmp_path)
    steps = [log["step"].dropna().astype(int).tolist() for log in (first, second)]
    assert steps[0] == list(range(len(steps[0])))
    assert steps[1][0] == len(steps[0])
    assert steps[1][-1] + 1 == 3 * len(steps[0])


def test_history_holds_steps_once(tmp_path):
    for version, (steps, loss) in enumerate([(range(5), 1.0), (range(3, 6), 2.0), ([], 0.0)]):
        (tmp_path / "log" / f"version_{version}").mkdir(parents=True)
        table = pd.DataFrame({"step": list(steps), "epoch": 0, "train_loss": loss})
        table.to_csv(tmp_path / "log" / f"version_{version}" / "metrics.csv", index=False)
    history = read_history(tmp_path)
    assert history["step"].tolist() == [0, 1, 2, 3, 4, 5]
    assert history["train_loss"].tolist() == [1, 1, 1, 2, 2, 2]
    assert list(read_history(tmp_path / "none").columns) == ["epoch", "step"]


# ---- another run in the same folder -------------------------------------------------------------


@pytest.fixture
def begun(train, new_model, tmp_path):
    train(new_model(), tmp_path, max_epochs=1)
    return tmp_path


def test_another_recipe_is_refused(train, new_model, begun):
    before = (begun / "last.ckpt").read_bytes()
    with pytest.raises(
        ValueError, match=r"another recipe\.learning_rate \(0\.005 there, 0\.1 here"
    ):
        train(new_model(), begun, max_epochs=1, learning_rate=0.1)
    with pytest.raises(ValueError, match=r"another recipe\.max_epochs .*Give another folder"):
        train(new_model(), begun)
    assert (begun / "last.ckpt").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": slice(40)}, r"another data \("),
        ({"held_out": slice(40)}, r"another held_out \(null there"),
        ({"model": {"n_layers": 2}}, r"another shape\.n_layers \(1 there, 2 here\)"),
        ({"model": {"n_genes": 31}}, r"objective\.vocabulary .*; another shape\.vocab_size"),
        ({"share": 0.2}, r"another objective\.share \(0\.3 there, 0\.2 here\)"),
        ({"precision": "bf16-mixed"}, r"another recipe\.precision"),
        ({"gradient_clip_algorithm": "value"}, r"trainer\.gradient_clip_algorithm"),
        ({"accumulate_grad_batches": 2}, r"trainer\.accumulate_grad_batches \(1 there, 2 here\)"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_other_facts_are_refused(train, new_model, sentences, begun, changes, message):
    model = new_model(**changes.pop("model", {}))
    options = {"max_epochs": 1, "warmup": 3}
    for name in ("data", "held_out"):
        if name in changes:
            some = np.arange(len(sentences))[changes.pop(name)]
            options[name] = sentences.subset(some)
    if "share" in changes:
        options["objective"] = MaskedTokens(model.vocabulary, share=changes.pop("share"))
    with pytest.raises(ValueError, match=message):
        train(model, begun, **options, **changes)


def test_other_weights_that_no_file_holds_are_refused(train, new_model, tmp_path):
    """Drawn or just trained: nothing but the weights themselves tells them apart."""
    drawn, other = (replace(new_model(seed=s), weights_sha256="unsaved") for s in (0, 1))
    train(drawn, tmp_path, max_epochs=1)
    with pytest.raises(ValueError, match="a run with another weights"):
        train(other, tmp_path, max_epochs=1)
    train(drawn, tmp_path, max_epochs=1)


@pytest.mark.parametrize("per_step", [1, 2])
def test_stopped_by_time_in_the_middle_of_an_epoch(
    train, new_model, sentences, tmp_path, watch, assert_equal, per_step
):
    """A limit on the time ends a call and not the epoch: the next call does the rest of it."""

    class TimeIsUp(pl.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
            if (trainer.current_epoch, batch_idx) == (1, 2):
                trainer.should_stop = True

    options = {"held_out": sentences, "log_every_n_steps": 1, "batches_per_step": per_step}
    whole = train(new_model(), tmp_path / "whole", **options)
    first, second = watch(), watch()
    train(new_model(), tmp_path / "cut", callbacks=[first, TimeIsUp()], **options)
    assert first.batches[-1][0] == 1  # and its last step is whole
    resumed = train(new_model(), tmp_path / "cut", callbacks=[second], **options)
    for epoch in range(3):
        batches = [some for e, some in [*first.batches, *second.batches] if e == epoch]
        assert sorted(row for some in batches for row in some) == list(range(len(sentences)))
    assert_equal(resumed.model, whole.model)


def test_the_folder_says_what_it_holds(begun):
    run = json.loads((begun / "run.json").read_text())
    assert run["recipe"]["learning_rate"] == 5e-3
    assert run["objective"]["is"] == "MaskedTokens"
    assert {path.name for path in begun.iterdir()} == {"last.ckpt", "log", "run.json"}


def test_facts_are_plain_values():
    found = plain(
        {
            "array": np.arange(3),
            "same": np.arange(3),
            "other": np.arange(1, 4),
            "tuple": (1, None, np.float64(0.5)),
            "class": MaskedTokens,
            "object": SimpleNamespace(tokens=np.arange(3)),
        }
    )
    assert json.loads(json.dumps(found)) == found
    assert found["array"] == found["same"] != found["other"]
    assert found["tuple"] == [1, None, 0.5]
    assert found["object"] == {"is": "SimpleNamespace", "tokens": found["array"]}


# ---- checkpoints --------------------------------------------------------------------------------


def test_a_checkpoint_is_read_without_running_code(train, new_model, tmp_path):
    train(new_model(), tmp_path, max_epochs=1)
    assert read(tmp_path / "last.ckpt")["global_step"] > 0
    torch.save({"state_dict": {}, "thing": math.sin}, tmp_path / "last.ckpt")
    with pytest.raises(OSError, match=r"last\.ckpt .*remove it"):
        train(new_model(), tmp_path, max_epochs=1)


def test_a_checkpoint_that_fails_leaves_the_one_before(tmp_path, monkeypatch):
    io, path = AtomicCheckpoints(), tmp_path / "new" / "last.ckpt"
    io.save_checkpoint({"step": 1}, path)

    def full(*_: object) -> None:
        path.with_name("half").write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space"):
        io.save_checkpoint({"step": 2}, path)
    assert io.load_checkpoint(path) == {"step": 1}
    assert {each.name for each in path.parent.iterdir()} == {"last.ckpt", "half"}


def test_the_same_run_in_another_folder(train, new_model, tmp_path, assert_equal):
    one = train(new_model(), tmp_path / "a", max_epochs=1)
    two = train(new_model(), str(tmp_path / "b"), max_epochs=1)
    assert_equal(one.model, two.model)
    assert one.folder == tmp_path / "a"


def test_the_recipe_is_not_changed(quick):
    assert replace(quick) == quick
