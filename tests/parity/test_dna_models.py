"""DNABERT and GROVER against transformers: checkpoints that it writes, loaded by their layout.

Weights are random and none is at its first value. Small ones always; the full shapes, 0.35 GB of
weights each, with ``pytest -m slow``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from glm.models import KmerVocabulary, Model, PairVocabulary, get
from glm.models.heads import Classifier
from glm.models.weights import load_network, read_state, to_published

TOLERANCE = 1e-5
DNA = [f"dnabert-{k}" for k in (3, 4, 5, 6)] + ["grover"]


def their_config(name: str, **changes: object) -> transformers.BertConfig:
    """The published configuration of a row in their words; every other value is their default."""
    shape = get(name).shape
    entries = {
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.hidden_size,
        "num_hidden_layers": shape.n_layers,
        "num_attention_heads": shape.n_heads,
        "intermediate_size": shape.intermediate_size,
        "max_position_embeddings": shape.n_positions,
        "hidden_act": "gelu",
        "type_vocab_size": 2,
    }
    return transformers.BertConfig(**{**entries, **changes})


def write(folder: Path, kind: str, config: transformers.BertConfig, *, file: str):
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(3)
        theirs = getattr(transformers, kind)(config)
        for parameter in theirs.parameters():
            parameter += (0.1 if parameter.ndim == 1 else 0.02) * torch.randn_like(parameter)
    theirs.save_pretrained(folder)
    if file.endswith(".bin"):
        (folder / "model.safetensors").unlink()
        torch.save(theirs.state_dict(), folder / file)
    return theirs.eval()


def sentences(vocab_size: int, lengths: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(1)
    tokens = torch.zeros(len(lengths), max(lengths), dtype=torch.int64)
    for row, length in enumerate(lengths):
        inner = rng.integers(5, vocab_size, length - 2)
        tokens[row, :length] = torch.tensor([2, *inner, 3])
    return tokens, torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


def assert_close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    scale = max(1.0, float(theirs.abs().max()))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=TOLERANCE * scale)


def compare(model: Model, theirs: transformers.PreTrainedModel, lengths: tuple[int, ...]) -> None:
    """Every hidden state of every real token, and the logits."""
    tokens, mask = sentences(model.spec.shape.vocab_size, lengths)
    with torch.no_grad():
        expected = theirs(tokens, attention_mask=mask.long(), output_hidden_states=True)
        states, logits = model.encoder.hidden_states(tokens, mask), model.network(tokens, mask)
    assert len(states) == len(expected.hidden_states) == model.spec.shape.n_layers + 1
    for ours, other in zip(states, expected.hidden_states, strict=True):
        assert_close(ours[mask], other[mask])
    if isinstance(model.network, Classifier):
        assert_close(logits, expected.logits)
    else:
        assert_close(logits[mask], expected.logits[mask])


def loaded(folder: Path) -> Model:
    from glm.models import load

    return load(folder)


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    """A folder that says by a vocabulary of its own what it is, so that nothing is fetched."""
    import json

    def put(name: str) -> Path:
        if name == "grover":
            merges = _merges(600)
            vocabulary = PairVocabulary.from_merges("grover", merges, context=512)
        else:
            vocabulary = KmerVocabulary(int(name[-1]), context=512)
        (tmp_path / "vocabulary.json").write_text(json.dumps(vocabulary.to_dict()))
        return tmp_path

    return put


def _merges(n: int) -> list[tuple[str, str]]:
    """Merges that make all 16 pairs of bases, then longer ones of a pair and what is there."""
    pieces, merges = [*"ACGT"], []
    for left in pieces[:]:
        for right in "ACGT":
            merges.append((left, right))
    while len(merges) < n:
        left, right = merges[len(merges) - 16]
        merges += [(left + right, base) for base in "ACGT"]
    merges = list(dict.fromkeys(merges))[:n]
    assert len({left + right for left, right in merges}) == n
    return merges


@pytest.mark.parametrize("kind", ["BertForMaskedLM", "BertForSequenceClassification"])
@pytest.mark.parametrize("name", DNA)
def test_small(beside, name: str, kind: str):
    """The published configuration but for width and layers; DNABERT's file is PyTorch's."""
    folder = beside(name)
    config = their_config(
        name, hidden_size=48, num_hidden_layers=3, intermediate_size=192, num_labels=3
    )
    theirs = write(folder, kind, config, file="pytorch_model.bin")
    model = loaded(folder)
    assert model.spec.head == ("tokens" if kind == "BertForMaskedLM" else "cells")
    assert model.spec.shape.activation == "gelu"
    compare(model, theirs, (64, 3, 40))


@pytest.mark.parametrize("prefix", [True, False])
def test_with_and_without_the_prefix(tmp_path: Path, prefix: bool):
    config = their_config("dnabert-3", hidden_size=48, num_hidden_layers=2, intermediate_size=96)
    theirs = write(tmp_path, "BertForMaskedLM", config, file="pytorch_model.bin")
    state = theirs.state_dict()
    if not prefix:
        state = {name.removeprefix("bert."): tensor for name, tensor in state.items()}
    torch.save(state, tmp_path / "pytorch_model.bin")
    compare(loaded(tmp_path), theirs, (20, 7))


def test_the_activation_is_the_exact_one(tmp_path: Path):
    """The approximation by tanh is 1e-3 away: it would be noticed."""
    config = their_config("dnabert-3", hidden_size=48, num_hidden_layers=3, intermediate_size=192)
    theirs = write(tmp_path, "BertForMaskedLM", config, file="model.safetensors")
    config.hidden_act = "gelu_pytorch_tanh"
    other = transformers.BertForMaskedLM(config).eval()
    other.load_state_dict(theirs.state_dict())
    compare(loaded(tmp_path), theirs, (40,))
    with pytest.raises(AssertionError, match="not close"):
        compare(loaded(tmp_path), other, (40,))


def test_the_second_token_type_is_kept_and_not_read(tmp_path: Path):
    """Published tables have two rows; sentences are of type 0, and the file goes back whole."""
    config = their_config("dnabert-3", hidden_size=48, num_hidden_layers=2, intermediate_size=96)
    theirs = write(tmp_path, "BertForMaskedLM", config, file="model.safetensors")
    state = read_state(tmp_path / "model.safetensors")
    key = "bert.embeddings.token_type_embeddings.weight"
    assert state[key].shape == (2, 48)
    shape = loaded(tmp_path).spec.shape
    tokens, mask = sentences(69, (12, 5))
    expected = load_network(state, shape)(tokens, mask)
    changed = {**state, key: torch.cat([state[key][:1], torch.full((1, 48), 7.0)])}
    network = load_network(changed, shape)
    assert torch.equal(network(tokens, mask)[mask], expected[mask])
    assert torch.equal(to_published(network)[key], changed[key])
    compare(loaded(tmp_path), theirs, (12, 5))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["BertForMaskedLM", "BertForSequenceClassification"])
@pytest.mark.parametrize("name", ["dnabert-6", "grover"])
def test_in_full(beside, name: str, kind: str):
    """The published shape, with a sentence that fills the context."""
    folder = beside(name)
    theirs = write(folder, kind, their_config(name), file="pytorch_model.bin")
    model = loaded(folder)
    assert model.spec.shape == get(name).shape
    if kind == "BertForMaskedLM":
        n_weights = sum(parameter.numel() for parameter in model.network.parameters())
        assert n_weights == get(name).shape.n_parameters
    compare(model, theirs, (512, 60))
