"""Pretraining goes on or begins, holds cells out, and leaves a bundle."""

from __future__ import annotations

import pytest
import torch

import glm
from glm._run_log import read_history

TOLD = "1 of 90 .* fewer than"


def pretrain(adata, model, **options):
    quick = {"epochs": 3, "learning_rate": 0.01, "tokens_per_batch": 120}
    with pytest.warns(glm.GlmWarning, match=TOLD):
        return glm.tl.pretrain(adata, model, **{**quick, **options})


@pytest.fixture
def recipe():
    return glm.train.Recipe(
        learning_rate=0.005, warmup=2, max_epochs=6, tokens_per_batch=120, min_tokens=7
    )


def test_it_goes_on_and_gets_better(kinds, new_model, recipe, tmp_path):
    before = new_model.network.state_dict()
    columns = set(kinds.obs), set(kinds.uns)
    model = pretrain(kinds, new_model, out=tmp_path / "mine", recipe=recipe, epochs=6)
    assert model.spec.name == "mine"
    assert model.spec.head == "tokens"
    history = read_history(tmp_path / "mine" / "run")
    losses = history["held_out_loss"].dropna()
    assert losses.iloc[-1] < losses.iloc[0]
    assert model.card["metrics"]["held_out_loss"] == pytest.approx(losses.min())
    assert (model.card["n_cells"], model.card["n_cells_held_out"]) == (85, 4)
    assert (set(kinds.obs), set(kinds.uns)) == columns
    for name, tensor in new_model.network.state_dict().items():
        assert torch.equal(tensor, before[name])
    glm.tl.embed(kinds[:-1].copy(), model)


def test_it_begins_at_random_without_the_weights(kinds, new_model, tmp_path):
    """Only shape and vocabulary are read, and the random state stays as it was."""
    state = torch.get_rng_state()
    model = pretrain(
        kinds, new_model, out=tmp_path / "new", init="random", shape={"n_layers": 1}, epochs=1
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert model.spec.shape.n_layers == 1
    assert model.spec.shape.hidden_size == new_model.spec.shape.hidden_size
    assert model.card["init"] == "random"


def test_donors_are_held_out_whole(kinds, new_model, tmp_path):
    model = pretrain(kinds, new_model, out=tmp_path / "a", held_out=0.2, split_by="donor", epochs=1)
    assert model.card["n_cells_held_out"] in (14, 15)  # one donor of six


def test_none_held_out(kinds, new_model, tmp_path):
    model = pretrain(kinds, new_model, out=tmp_path / "a", held_out=0, epochs=1)
    assert model.card["n_cells"] == 89
    assert model.card["metrics"] == {}


def test_the_same_call_again_is_done_at_once(kinds, new_model, tmp_path):
    one = pretrain(kinds, new_model, out=tmp_path / "a", epochs=1)
    other = pretrain(kinds, new_model, out=tmp_path / "a", epochs=1)
    assert one.weights_sha256 == other.weights_sha256


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"init": "warm"}, "init is 'warm'"),
        ({"shape": {"n_layers": 2}}, "is for init='random'"),
        ({"init": "random", "shape": {"vocab_size": 9}}, "vocab_size, which cannot be set"),
        ({"held_out": 1.0}, "held_out is 1.0"),
        ({"split_by": "nobody"}, "no column 'nobody'"),
    ],
)
def test_what_makes_no_sense(kinds, new_model, tmp_path, options, message):
    with pytest.raises((ValueError, KeyError), match=message):
        glm.tl.pretrain(kinds, new_model, out=tmp_path / "a", **options)
    assert not (tmp_path / "a").exists()


def test_a_model_without_a_head_that_names_tokens(kinds, trained, tmp_path):
    with pytest.raises(ValueError, match="no head that predicts tokens"):
        glm.tl.pretrain(kinds[:-1].copy(), trained, out=tmp_path / "a", epochs=1)
