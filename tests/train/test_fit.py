"""Training: it learns, its steps are those of all targets, and it keeps what was best."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F

import glm
from glm.models import Model
from glm.train import Batch, MaskedTokens, Sentences, recipe
from glm.train.guard import shows_progress
from glm.train.module import Sums, Training
from glm.train.networks import network_for
from glm.train.trainers import make_trainer


def weights(model: Model) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.network.state_dict().items()}


@pytest.fixture
def kinds(sentences: Sentences) -> Sentences:
    """The cells with the kind of each, 0 or 1."""
    return replace(sentences, targets=np.arange(len(sentences)) % 2)


@dataclass(frozen=True)
class Kind:
    """The smallest objective there can be: which kind a cell is."""

    labels: tuple[str, ...] = ("falling", "rising")
    level: str = "row"
    task: str = "classes"
    task: str = "classes"
    monitor: tuple[str, str] = ("held_out_loss", "min")
    bad: int = -1

    @property
    def n_outputs(self) -> int:
        return len(self.labels)

    def check(self, sentences: Sentences) -> None:
        if sentences.targets is None:
            raise ValueError("no targets")

    def batch(self, sentences, chosen, rng, *, training) -> Batch:
        tokens = torch.from_numpy(sentences.padded(chosen, 0))
        rows = torch.from_numpy(np.asarray(chosen))
        targets = torch.from_numpy(sentences.targets[chosen])
        return Batch(tokens, tokens > 0, rows, None, targets, float(len(chosen)))

    def loss(self, outputs: torch.Tensor, batch: Batch) -> torch.Tensor:
        loss = F.cross_entropy(outputs.float(), batch.targets)
        return loss * float("nan") if self.bad in batch.rows else loss

    def scores(self, outputs: torch.Tensor, batch: Batch) -> dict[str, torch.Tensor]:
        return {"accuracy": (outputs.argmax(dim=1) == batch.targets).float().mean()}


# ---- learning -----------------------------------------------------------------------------------


def test_it_learns(train, new_model, sentences: Sentences, tmp_path):
    model = new_model(dropout=0.0, attention_dropout=0.0, hidden_size=32)
    before = weights(model)
    fitted = train(
        model,
        tmp_path,
        held_out=sentences,
        max_epochs=40,
        learning_rate=1e-2,
        log_every_n_steps=1,
    )
    losses = fitted.history["held_out_loss"].dropna().to_numpy()
    assert len(losses) == 40
    # 15 genes are as likely as each other if only the kind is known: log(15) = 2.7.
    assert losses[0] > 2.5
    assert losses[-1] < 1.8
    assert fitted.history["held_out_accuracy"].dropna().iloc[-1] > 0.5
    steps = fitted.history["train_loss"].dropna().to_numpy()
    assert steps[-10:].mean() < 0.5 * steps[:10].mean()
    assert fitted.history["gradient_norm"].dropna().gt(0).all()
    assert not fitted.model.network.training
    assert fitted.model.weights_sha256 == "unsaved"
    assert fitted.model.spec == model.spec
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(model).items())
    after = weights(fitted.model)
    assert any(not torch.equal(tensor, before[name]) for name, tensor in after.items())


def test_a_head_of_its_own(train, new_model, kinds: Sentences, tmp_path):
    """A classifier on the encoder learns the kinds, and is saved with their names."""
    model = new_model(dropout=0.0)
    fitted = train(model, tmp_path / "run", kinds, objective=Kind(), held_out=kinds, max_epochs=12)
    assert fitted.history["held_out_accuracy"].dropna().iloc[-1] == 1.0
    assert (fitted.model.spec.head, fitted.model.spec.labels) == ("cells", ("falling", "rising"))
    loaded = glm.models.load(fitted.model.save(tmp_path / "bundle"))
    tokens = torch.from_numpy(kinds.padded(np.arange(8), 0))
    with torch.no_grad():
        said = loaded.network(tokens, tokens > 0).argmax(dim=1)
    assert said.tolist() == kinds.targets[:8].tolist()
    # The head that is there already is trained on; another one is new.
    again = network_for(fitted.model, Kind())
    assert torch.equal(again.classifier.weight, fitted.model.network.classifier.weight)
    three = network_for(fitted.model, Kind(labels=("a", "b", "c")))
    assert three.classifier.out_features == 3
    theirs = fitted.model.encoder.state_dict()
    assert all(torch.equal(t, theirs[name]) for name, t in three.bert.state_dict().items())


def test_the_trained_model_embeds_and_is_saved(train, new_model, tmp_path, make_cells):
    trained = train(new_model(), tmp_path / "run", max_epochs=1).model
    cells = make_cells(trained.vocabulary, 3)
    glm.tl.embed(cells, trained)
    vectors = cells.obsm["X_geneformer"].copy()
    glm.tl.embed(cells, trained.save(tmp_path / "bundle"))
    assert np.array_equal(cells.obsm["X_geneformer"], vectors)


def test_dropout_is_on_in_training(train, new_model, sentences: Sentences, tmp_path):
    """Models are handed in in evaluation mode; held-out cells are measured in it."""

    class Modes(pl.Callback):
        seen: set[tuple[str, bool]]

        def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
            self.seen |= {("train", part.training) for part in module.modules()}

        def on_validation_batch_start(self, trainer, module, *_: object) -> None:
            self.seen |= {("held out", part.training) for part in module.modules()}

    modes, model = Modes(), new_model()
    modes.seen = set()
    fitted = train(model, tmp_path / "a", held_out=sentences, max_epochs=2, callbacks=modes)
    assert modes.seen == {("train", True), ("held out", False)}
    assert not any(part.training for part in fitted.model.network.modules())
    with_dropout = train(new_model(), tmp_path / "b", max_epochs=1)
    without = train(new_model(dropout=0.0, attention_dropout=0.0), tmp_path / "c", max_epochs=1)
    theirs = without.model.network.state_dict()
    assert not torch.equal(with_dropout.model.network.head.bias, theirs["head.bias"])


def test_every_batch_has_its_own_dropout(train, new_model, tmp_path):
    class Seeds(pl.Callback):
        seen: list[int]

        def on_train_batch_end(self, *_: object) -> None:
            self.seen.append(torch.initial_seed())

    seeds = Seeds()
    seeds.seen = []
    train(new_model(), tmp_path, callbacks=[seeds])
    assert len(set(seeds.seen)) == len(seeds.seen) > 10


def test_seed_decides(train, new_model, tmp_path, assert_equal):
    one, same, other = (
        train(new_model(), tmp_path / name, seed=seed, max_epochs=1).model
        for name, seed in (("one", 0), ("same", 0), ("other", 1))
    )
    assert_equal(one, same)
    assert not torch.equal(one.network.head.bias, other.network.head.bias)


def test_sentences_of_each_epoch(train, new_model, sentences: Sentences, tmp_path):
    asked: list[int] = []

    def each_epoch(epoch: int) -> Sentences:
        asked.append(epoch)
        return sentences

    train(new_model(), tmp_path, each_epoch=each_epoch)
    assert asked == [0, 1, 2]


# ---- a step -------------------------------------------------------------------------------------


class _Gradients(pl.Callback):
    """The gradient of the first step, as the optimiser gets it."""

    found: dict[str, torch.Tensor] | None = None

    def on_train_batch_end(self, trainer, module, *_: object) -> None:
        if trainer.global_step == 1 and self.found is None:
            self.found = {n: p.grad.clone() for n, p in module.network.named_parameters()}


@pytest.mark.parametrize("tokens", [60, 200, 10_000])
def test_a_step_is_that_of_the_mean_over_all_targets(
    train, new_model, sentences: Sentences, tmp_path, tokens: int
):
    """However the cells of a step are cut: in ten batches, in three, in one."""
    model = new_model(dropout=0.0, attention_dropout=0.0)
    objective = MaskedTokens(model.vocabulary, share=1.0, as_mask=1.0, as_random=0.0)
    found = _Gradients()
    train(
        model,
        tmp_path,
        objective=objective,
        tokens_per_batch=tokens,
        batches_per_step=1_000,
        max_epochs=1,
        warmup=0,
        gradient_clip=0.0,
        callbacks=found,
    )
    network = network_for(model, objective).train()
    rng = np.random.default_rng(0)
    batch = objective.batch(sentences, np.arange(len(sentences)), rng, training=True)
    objective.loss(network(batch.tokens, batch.mask, positions=batch.positions), batch).backward()
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(found.found[name], parameter.grad, atol=2e-6, rtol=2e-4)


def test_sums_weigh_batches():
    sums = Sums()
    sums.add({"loss": torch.tensor(1.0)}, 3.0)
    sums.add({"loss": torch.tensor(5.0)}, 1.0)
    sums.add({"loss": torch.tensor(float("nan"))}, 0.0)
    assert (sums.values["loss"] / sums.weight).item() == 2.0


def test_held_out_loss_is_the_mean_over_all_targets(train, new_model, sentences, tmp_path):
    """Not the mean of the means of batches."""
    model = new_model(dropout=0.0, attention_dropout=0.0)
    small, large = (
        train(
            model,
            tmp_path / str(tokens),
            held_out=sentences,
            max_epochs=1,
            warmup=0,
            tokens_per_batch=tokens,
            batches_per_step=1_000,
            learning_rate=1e-9,
            objective=MaskedTokens(model.vocabulary, share=1.0, as_mask=1.0, as_random=0.0),
        ).history
        for tokens in (40, 10_000)
    )
    assert small["held_out_loss"].dropna().item() == pytest.approx(
        large["held_out_loss"].dropna().item(), rel=1e-5
    )


def test_module_computes_the_predicted_places_only(new_model, sentences: Sentences):
    model = new_model()
    objective = MaskedTokens(model.vocabulary)
    batch = objective.batch(sentences, np.arange(5), np.random.default_rng(0), training=True)
    module = Training(model.network, objective, recipe("geneformer"), 10).eval()
    with torch.no_grad():
        logits = module(batch)
        everywhere = model.network(batch.tokens, batch.mask)
    expected = everywhere.flatten(0, 1)[batch.positions]
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)


def test_parameter_groups(new_model):
    model = new_model()
    chosen = replace(recipe("geneformer"), weight_decay=0.25)
    module = Training(model.network, MaskedTokens(model.vocabulary), chosen, 10)
    module.network.bert.layers[0].up.weight.requires_grad_(False)
    optimizer = module.configure_optimizers()["optimizer"]
    with_decay, without = optimizer.param_groups
    assert (with_decay["weight_decay"], without["weight_decay"]) == (0.25, 0.0)
    names = {id(p): name for name, p in model.network.named_parameters()}
    decayed = {names[id(p)] for p in with_decay["params"]}
    plain = {names[id(p)] for p in without["params"]}
    assert decayed | plain == set(names.values()) - {"bert.layers.0.up.weight"}
    assert not decayed & plain
    assert all(name.endswith("weight") and "norm" not in name for name in decayed)
    assert all(name.endswith("bias") or "norm" in name for name in plain)


@pytest.mark.parametrize("accumulated", [1, 2])
def test_the_rate_falls_to_zero_at_the_end(train, new_model, tmp_path, watch, accumulated: int):
    """Also where several batches make one step."""
    seen = watch()
    train(new_model(), tmp_path, callbacks=[seen], accumulate_grad_batches=accumulated)
    assert max(seen.rates) == pytest.approx(5e-3)
    peak = int(np.argmax(seen.rates))
    assert peak == 3
    assert seen.rates[-1] == pytest.approx(5e-3 / (len(seen.rates) - peak), rel=0.6)


def test_batches_of_a_step_follow_the_recipe(train, new_model, tmp_path, watch):
    """All batches of a step on one device; as many on each of several."""
    seen = watch()
    train(new_model(), tmp_path, callbacks=[seen], batches_per_step=3, max_epochs=1, warmup=1)
    assert len(seen.rates) == -(-len(seen.batches) // 3)


def test_the_gradient_is_clipped(train, new_model, tmp_path):
    class Norms(pl.Callback):
        seen: list[float]

        def on_before_zero_grad(self, trainer, module, optimizer) -> None:
            parts = [p.grad.norm() for p in module.parameters() if p.grad is not None]
            if parts:
                self.seen.append(float(torch.stack(parts).norm()))

    for limit in (0.01, 0.0):
        norms = Norms()
        norms.seen = []
        train(
            new_model(), tmp_path / str(limit), gradient_clip=limit, max_epochs=1, callbacks=norms
        )
        after_a_step = norms.seen
        assert (max(after_a_step) < 0.0101) == bool(limit)


@pytest.mark.parametrize("precision", ["bf16-mixed"])
def test_precision(train, new_model, tmp_path, precision: str):
    fitted = train(new_model(), tmp_path, precision=precision, log_every_n_steps=1)
    assert fitted.history["train_loss"].dropna().between(1, 5).all()
    assert {p.dtype for p in fitted.model.network.parameters()} == {torch.float32}


# ---- the best epoch -----------------------------------------------------------------------------


class _Score(pl.Callback):
    """Says how good each epoch is."""

    def __init__(self, *values: float) -> None:
        self.values = values

    def on_validation_epoch_end(self, trainer, module) -> None:
        self.log("held_out_score", float(self.values[trainer.current_epoch]))


@dataclass(frozen=True)
class _Scored(Kind):
    monitor: tuple[str, str] = ("held_out_score", "max")


def _lengths(history: pd.DataFrame) -> int:
    return history["held_out_loss"].notna().sum()


@pytest.mark.parametrize(
    ("values", "patience", "best", "measured"),
    [
        ((1, 2, 3, 4), None, 3, 4),
        ((1, 5, 3, 4), None, 1, 4),
        ((1, 5, 3, 4), 2, 1, 4),
        ((1, 5, 3, 4), 1, 1, 3),
        ((5, 5, 6, 1), 1, 0, 2),
        ((5, 4, 6, 1), 2, 2, 4),
    ],
)
def test_early_stopping_and_best_weights(
    train, new_model, kinds, tmp_path, values, patience, best, measured
):
    class Weights(pl.Callback):
        after: list[torch.Tensor]

        def on_validation_end(self, trainer, module) -> None:
            self.after.append(module.network.classifier.weight.detach().clone())

    kept = Weights()
    kept.after = []
    options = {
        "objective": _Scored(),
        "held_out": kinds,
        "max_epochs": len(values),
        "patience": patience,
    }
    fitted = train(new_model(), tmp_path, kinds, callbacks=[_Score(*values), kept], **options)
    assert fitted.best_epoch == best
    assert _lengths(fitted.history) == measured
    assert torch.equal(fitted.model.network.classifier.weight, kept.after[best])
    again = train(new_model(), tmp_path, kinds, callbacks=[_Score(*values)], **options)
    assert _lengths(again.history) == measured
    assert again.best_epoch == best
    assert torch.equal(again.model.network.classifier.weight, kept.after[best])
    last = train(new_model(), tmp_path, kinds, keep="last", **options)
    assert torch.equal(last.model.network.classifier.weight, kept.after[-1])
    assert last.best_epoch == best


def test_without_held_out_the_last_weights(train, new_model, tmp_path):
    fitted = train(new_model(), tmp_path)
    assert fitted.best_epoch is None
    assert not (tmp_path / "best.ckpt").exists()


# ---- what is passed on --------------------------------------------------------------------------


def test_max_steps_and_limits(train, new_model, tmp_path, watch):
    seen = watch()
    train(new_model(), tmp_path / "a", callbacks=seen, max_steps=7)
    assert len(seen.losses) == 7
    assert seen.rates[-1] == pytest.approx(5e-3 / 4)
    seen = watch()
    train(new_model(), tmp_path / "b", callbacks=seen, limit_train_batches=2)
    assert len(seen.losses) == 6


def test_a_logger_in_addition(train, new_model, tmp_path):
    from pytorch_lightning.loggers import CSVLogger

    fitted = train(new_model(), tmp_path, logger=CSVLogger(tmp_path / "mine"), log_every_n_steps=1)
    assert len(list((tmp_path / "mine").rglob("metrics.csv"))) == 1
    assert len(fitted.history) > 10
    quiet = train(new_model(), tmp_path / "none", logger=False, max_epochs=1)
    assert len(quiet.history) == 0
    assert not (tmp_path / "none" / "log").exists()


@pytest.mark.parametrize("name", ["reload_dataloaders_every_n_epochs", "use_distributed_sampler"])
def test_what_cannot_be_passed_on(train, new_model, tmp_path, name: str):
    with pytest.raises(ValueError, match=f"{name} cannot be passed on"):
        train(new_model(), tmp_path, **{name: 0})
    assert list(tmp_path.iterdir()) == []


def test_progress_as_the_settings_say(train, new_model, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr("sys.stderr", SimpleNamespace(isatty=lambda: False, write=lambda _: 0))
    for shown in (False, True):
        with glm.settings.override(progress=shown):
            trainer = make_trainer(tmp_path, recipe("geneformer"), [], {"accelerator": "cpu"})
        assert bool(trainer.progress_bar_callback) == shown
    with glm.settings.override(progress=None):
        assert not shows_progress()


def test_silence(train, new_model, sentences, tmp_path, capfd):
    """Nothing is written to the screen."""
    train(new_model(), tmp_path, held_out=sentences, max_epochs=1)
    assert capfd.readouterr() == ("", "")


# ---- refusals -----------------------------------------------------------------------------------


def test_short_sentences_are_refused(train, new_model, tmp_path):
    tokens = np.array([2, *range(4, 11), 3, 2, *range(4, 10), 3], np.int32)
    sentences = Sentences(tokens, np.array([0, 9, 17]))
    with pytest.raises(ValueError, match="1 of 2 sentences of data have fewer than 7 tokens"):
        train(new_model(), tmp_path, sentences, min_tokens=7)
    with pytest.raises(ValueError, match="of held_out have fewer than 7"):
        train(new_model(), tmp_path, sentences.subset([0]), held_out=sentences, min_tokens=7)
    assert list(tmp_path.iterdir()) == []


def test_no_sentences(train, new_model, tmp_path):
    nothing = Sentences(np.zeros(0, np.int32), np.zeros(1, np.int64))
    with pytest.raises(ValueError, match="data has no sentence"):
        train(new_model(), tmp_path, nothing)


@pytest.mark.parametrize(
    "tokens", [np.arange(4, 44) % 30, np.full(20, 34)], ids=["too long", "unknown token"]
)
def test_sentences_of_another_model(train, new_model, tmp_path, tokens: np.ndarray):
    sentences = Sentences(tokens.astype(np.int32), np.array([0, tokens.size]))
    with pytest.raises(ValueError, match="reads 32 tokens of a vocabulary of 34"):
        train(new_model(), tmp_path, sentences)


def test_patience_without_held_out(train, new_model, tmp_path):
    with pytest.raises(ValueError, match="patience needs held_out"):
        train(new_model(), tmp_path, patience=2)
    with pytest.raises(ValueError, match="patience is 0"):
        train(new_model(), tmp_path, patience=0)


def test_a_long_warm_up_is_told(train, new_model, tmp_path):
    with pytest.warns(glm.GlmWarning, match=r"warm-up of 500 steps is longer than the run of \d+"):
        train(new_model(), tmp_path, warmup=500, max_epochs=1)


def test_only_a_head_that_predicts_tokens_is_pretrained(train, new_model, kinds, tmp_path):
    classifier = train(new_model(), tmp_path / "a", kinds, objective=Kind(), max_epochs=1).model
    with pytest.raises(ValueError, match="no head that predicts tokens"):
        train(classifier, tmp_path / "b")
