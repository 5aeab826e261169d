"""A temperature is the one that made the targets, changes no order, and travels with the head."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax

from glm.train.calibration import fit_temperature, probabilities, rescale_head


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5, 8.0])
def test_the_temperature_that_made_the_classes(temperature):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 6, (6000, 4))
    shares = softmax(logits / temperature, axis=1)
    classes = (shares.cumsum(axis=1) < rng.random((6000, 1))).sum(axis=1)
    assert fit_temperature(logits, classes) == pytest.approx(temperature, rel=0.08)


@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_the_temperature_that_made_the_labels(temperature):
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 4, (4000, 3))
    labels = (rng.random((4000, 3)) < expit(logits / temperature)).astype(np.float32)
    labels[::5, 1] = np.nan  # not known
    found = fit_temperature(logits, labels, "multi_label")
    assert found == pytest.approx(temperature, rel=0.08)


def test_a_small_part_that_is_all_right_does_not_ask_for_certainty():
    logits = np.array([[2.0, 0.0]] * 10)
    temperature = fit_temperature(logits, np.zeros(10, int))
    assert 0.2 < temperature < 1
    assert fit_temperature(np.tile(logits, (500, 1)), np.zeros(5000, int)) < temperature


def test_rows_without_outputs_do_not_count():
    logits = np.array([[4.0, 0.0]] * 400 + [[np.nan, np.nan]] * 7)
    classes = np.array([0, 0, 0, 1] * 100 + [0] * 7)
    assert fit_temperature(logits, classes) == pytest.approx(4 / np.log(3), rel=0.02)
    assert fit_temperature(logits[-7:], classes[-7:]) == 1.0


def test_probabilities():
    logits = np.array([[1000.0, 0.0, 0.0], [0.0, 0.0, 0.0], [np.nan, 1.0, 1.0]], np.float32)
    shares = probabilities(logits)
    assert shares.dtype == np.float32
    np.testing.assert_allclose(shares[:2], [[1, 0, 0], [1 / 3] * 3], rtol=1e-6)
    assert np.isnan(shares[2]).all()
    np.testing.assert_allclose(probabilities(np.array([[0.0, 3.0]]), "multi_label"),
                               [[0.5, expit(3.0)]], rtol=1e-6)  # fmt: skip


@pytest.mark.parametrize(
    ("scale", "shift"), [(0.25, 0.0), (3.0, 40.0), (np.array([1.0, 2.0, 3.0]), np.arange(3.0))]
)
def test_the_head_takes_it_along(scale, shift):
    from glm.models import BertConfig
    from glm.models.heads import Classifier

    torch.manual_seed(0)
    config = BertConfig(20, 8, 1, 2, 16, 12)
    network = Classifier(config, 3, per_cell=True).eval()
    tokens = torch.arange(4, 10).reshape(2, 3)
    with torch.no_grad():
        before = network(tokens).numpy()
        rescale_head(network, scale, shift)
        np.testing.assert_allclose(network(tokens).numpy(), before * scale + shift, rtol=1e-5)
