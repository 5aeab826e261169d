"""Weights: strict loading, honest errors, atomic saving."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from glm.models import weights
from glm.models.bert import Bert, BertConfig, MaskedLM
from glm.models.config import Head
from glm.models.heads import Classifier
from glm.models.weights import load_bert, load_network, read_state, save_safetensors, to_published

CONFIG = BertConfig(31, 16, 2, 4, 24, 12)


@pytest.fixture
def model() -> MaskedLM:
    torch.manual_seed(0)
    model = MaskedLM(CONFIG)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


@pytest.fixture
def state(model: MaskedLM) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in to_published(model).items()}


def assert_equal_weights(one: torch.nn.Module, other: torch.nn.Module) -> None:
    theirs = other.state_dict()
    assert one.state_dict().keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in one.state_dict().items())


def test_there_and_back(model: MaskedLM, tmp_path: Path) -> None:
    save_safetensors(model, tmp_path / "model.safetensors", metadata={"note": "mine"})
    loaded = load_bert(read_state(tmp_path / "model.safetensors"), CONFIG)
    assert isinstance(loaded, MaskedLM)
    assert_equal_weights(loaded, model)
    assert not loaded.training
    assert all(p.requires_grad and p.device.type == "cpu" for p in loaded.parameters())
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert file.metadata() == {"note": "mine"}


def test_encoder_alone_from_either_layout(model: MaskedLM, state: dict[str, Tensor]) -> None:
    with_prefix = load_bert(state, CONFIG, head=False)
    without = load_bert(to_published(model.bert), CONFIG, head=False)
    for bert in (with_prefix, without):
        assert isinstance(bert, Bert)
        assert_equal_weights(bert, model.bert)


def test_a_pytorch_file(model: MaskedLM, state: dict[str, Tensor], tmp_path: Path) -> None:
    for suffix in (".bin", ".pt", ".pth"):
        torch.save(state, tmp_path / f"model{suffix}")
        assert_equal_weights(load_bert(read_state(tmp_path / f"model{suffix}"), CONFIG), model)


def test_what_is_dropped_on_purpose(model: MaskedLM, state: dict[str, Tensor]) -> None:
    state["bert.embeddings.position_ids"] = torch.arange(12)[None]
    state["bert.pooler.dense.weight"] = torch.full((16, 16), float("nan"))
    state["bert.pooler.dense.bias"] = torch.zeros(16)
    state["cls.seq_relationship.weight"] = torch.zeros(2, 16)
    state["cls.predictions.decoder.weight"] = state["bert.embeddings.word_embeddings.weight"]
    state["cls.predictions.decoder.bias"] = state["cls.predictions.bias"]
    assert_equal_weights(load_bert(state, CONFIG), model)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(state: dict[str, Tensor], dtype: torch.dtype) -> None:
    loaded = load_bert({name: tensor.to(dtype) for name, tensor in state.items()}, CONFIG)
    for name, tensor in to_published(loaded).items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, state[name].to(dtype).float())


def test_loading_draws_no_random_numbers(state: dict[str, Tensor]) -> None:
    before = torch.get_rng_state()
    load_bert(state, CONFIG)
    assert torch.equal(before, torch.get_rng_state())


def test_missing_tensors(state: dict[str, Tensor]) -> None:
    layer = [name for name in state if ".layer.1." in name]
    for name in layer:
        del state[name]
    first = sorted(name.removeprefix("bert.") for name in layer)[0]
    with pytest.raises(RuntimeError, match=rf"16 missing \({first}, .*, …\)"):
        load_bert(state, CONFIG)


def test_an_encoder_has_no_head(model: MaskedLM) -> None:
    with pytest.raises(RuntimeError, match=r"5 missing \(cls\.predictions\.bias, "):
        load_bert(to_published(model.bert), CONFIG, head=True)


def test_unknown_tensors(state: dict[str, Tensor]) -> None:
    state["classifier.weight"] = torch.zeros(3, 16)
    state["bert.encoder.layer.2.output.dense.bias"] = torch.zeros(16)
    expected = r"2 unknown \(classifier.weight, encoder.layer.2.output.dense.bias\)"
    with pytest.raises(RuntimeError, match=expected):
        load_bert(state, CONFIG)
    with pytest.raises(RuntimeError, match=expected):
        load_bert(state, CONFIG, head=False)


def test_tensors_named_twice(state: dict[str, Tensor]) -> None:
    state["embeddings.LayerNorm.bias"] = state["bert.embeddings.LayerNorm.bias"]
    with pytest.raises(RuntimeError, match="both with and without"):
        load_bert(state, CONFIG)


def test_another_vocabulary(state: dict[str, Tensor]) -> None:
    config = BertConfig(30, 16, 2, 4, 24, 12)
    with pytest.raises(RuntimeError, match=r"2 tensors .*is \(31, 16\), expected \(30, 16\)"):
        load_bert(state, config)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_no_numbers(state: dict[str, Tensor], value: float) -> None:
    state["bert.encoder.layer.1.output.dense.weight"][3, 4] = value
    with pytest.raises(
        RuntimeError, match=r"1 tensors hold NaN or infinite .*layers.1.down.weight"
    ):
        load_bert(state, CONFIG)


def test_an_untied_decoder(state: dict[str, Tensor]) -> None:
    state["cls.predictions.decoder.weight"] = torch.zeros(31, 16)
    with pytest.raises(RuntimeError, match="untied decoder"):
        load_bert(state, CONFIG)


def test_the_table_covers_both_sides() -> None:
    """Every tensor of ours has one published name, whatever stands on the encoder."""
    networks: dict[Head, weights.Network] = {
        "tokens": MaskedLM(CONFIG),
        "cells": Classifier(CONFIG, 3, per_cell=True),
        "genes": Classifier(CONFIG, 3, per_cell=False),
        "none": Bert(CONFIG),
    }
    for head, network in networks.items():
        ours = [name for name in weights._names(CONFIG, head).values() if name is not None]
        assert sorted(ours) == sorted(network.state_dict())
        assert weights.head_of(network) == head
        assert_equal_weights(load_network(to_published(network), CONFIG, head), network)


@pytest.mark.faults
@pytest.mark.parametrize("name", ["model.safetensors", "model.bin"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n", "git lfs pull"),
        (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "is a web page"),
        (b"<html>404</html>", "is a web page"),
        (b"these are no weights, only some words in a row", r"cannot be read|not a complete"),
    ],
)
def test_files_that_are_no_weights(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(OSError, match=said) as caught:
        read_state(tmp_path / name)
    assert name in str(caught.value)


@pytest.mark.faults
@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
@pytest.mark.parametrize("name", ["model.safetensors", "model.bin"])
def test_files_cut_short(state: dict[str, Tensor], tmp_path: Path, name: str, share: float) -> None:
    path = tmp_path / name
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(OSError, match=r"cut short|damaged"):
        read_state(path)


def test_a_missing_file_and_another_kind_of_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_state(tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"'\.h5', expected \.safetensors"):
        read_state(tmp_path / "model.h5")


@pytest.mark.faults
def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(marker),)

    torch.save({"weights": Trap()}, tmp_path / "model.bin")
    (tmp_path / "model.pt").write_bytes(pickle.dumps(Trap(), protocol=2))
    for name in ("model.bin", "model.pt"):
        with pytest.raises(OSError, match="objects other than tensors"):
            read_state(tmp_path / name)
    assert not marker.exists()


def test_a_file_of_something_else(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "state": {}}, tmp_path / "model.pt")
    with pytest.raises(RuntimeError, match="not names to tensors"):
        read_state(tmp_path / "model.pt")


def test_saving_is_atomic(model: MaskedLM, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_safetensors({"one": torch.ones(2)}, path)
    with pytest.MonkeyPatch.context() as patch:

        def fail(tensors: object, beside: Path, metadata: object) -> None:
            beside.write_bytes(b"half")
            raise OSError("disk full")

        patch.setattr(weights, "save_file", fail)
        with pytest.raises(OSError, match="disk full"):
            save_safetensors(model, path)
    assert os.listdir(tmp_path) == ["model.safetensors"]
    assert torch.equal(read_state(path)["one"], torch.ones(2))
    save_safetensors(model.bert, path)
    assert_equal_weights(load_bert(read_state(path), CONFIG, head=False), model.bert)
    assert os.listdir(tmp_path) == ["model.safetensors"]
