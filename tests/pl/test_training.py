"""Curves of a run: every score that was logged, in its panel."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

import glm


@pytest.fixture
def history():
    return pd.DataFrame(
        {
            "epoch": [0, 0, 1, 1, 2, 2],
            "step": [4, 9, 14, 19, 24, 29],
            "train_loss": [2.0, np.nan, 1.5, np.nan, 1.0, np.nan],
            "held_out_loss": [np.nan, 1.9, np.nan, 1.4, np.nan, 1.7],
            "train_accuracy": [0.2, np.nan, 0.4, np.nan, 0.6, np.nan],
            "held_out_accuracy": [np.nan, 0.3, np.nan, 0.5, np.nan, 0.4],
            "gradient_norm": [1.0, 1, 1, 1, 1, 1],
        }
    )


def lines_of(ax) -> dict[str, list[tuple[float, float]]]:
    return {line.get_label(): list(zip(*line.get_data(), strict=True)) for line in ax.lines}


def test_loss_and_scores(history):
    loss, accuracy = glm.pl.training(history, show=False)
    assert (loss.get_ylabel(), accuracy.get_ylabel()) == ("loss", "accuracy")
    drawn = lines_of(loss)
    assert drawn["train"] == [(4, 2.0), (14, 1.5), (24, 1.0)]
    assert drawn["held out"] == [(9, 1.9), (19, 1.4), (29, 1.7)]
    assert drawn["lowest held-out loss"][0][0] == 19
    assert lines_of(accuracy)["held out"][1] == (19, 0.5)


def test_chosen_scores(history):
    history["held_out_auroc"] = history["held_out_accuracy"]
    drawn = glm.pl.training(history, scores=["auroc"], show=False)
    assert [ax.get_ylabel() for ax in drawn] == ["loss", "auroc"]
    drawn = glm.pl.training(history, scores="accuracy", show=False)
    assert [ax.get_ylabel() for ax in drawn] == ["loss", "accuracy"]
    assert glm.pl.training(history, scores=[], show=False).get_ylabel() == "loss"
    with pytest.raises(KeyError, match=r"No score f1 was logged.*loss, accuracy"):
        glm.pl.training(history, scores=["accuracy", "f1"], show=False)


def test_what_fit_returns(history):
    class Fitted:
        pass

    fitted = Fitted()
    fitted.history = history
    assert len(glm.pl.training(fitted, show=False)) == 2


def test_the_folder_of_a_run_and_of_a_bundle(history, tmp_path):
    table = tmp_path / "mine" / "run" / "log" / "version_0"
    table.mkdir(parents=True)
    history.to_csv(table / "metrics.csv", index=False)
    for folder in (tmp_path / "mine", str(tmp_path / "mine" / "run")):
        loss, _ = glm.pl.training(folder, show=False)
        assert lines_of(loss)["train"] == [(4, 2.0), (14, 1.5), (24, 1.0)]


def test_one_panel_on_given_axes(history):
    _, ax = plt.subplots()
    assert glm.pl.training(history, ax=ax, show=False) is ax
    assert ax.get_ylabel() == "loss"


def test_nothing_was_held_out(history):
    only = history[["epoch", "step", "train_loss"]]
    ax = glm.pl.training(only, show=False)
    assert set(lines_of(ax)) == {"train"}


def test_a_run_that_has_not_begun(tmp_path):
    with pytest.raises(ValueError, match="Nothing was logged"):
        glm.pl.training(tmp_path)
    with pytest.raises(ValueError, match="no folder of a run"):
        glm.pl.training(tmp_path / "nowhere")
    with pytest.raises(TypeError, match="Got a int"):
        glm.pl.training(3)


def test_the_chosen_epoch_is_marked(history):
    """It need not be the one of the lowest loss."""

    class Fitted:
        best_epoch = 2

    fitted = Fitted()
    fitted.history = history
    loss, _ = glm.pl.training(fitted, show=False)
    assert lines_of(loss)["best epoch"][0][0] == 29
    assert "lowest held-out loss" not in lines_of(loss)
