"""`glm.models.verify`: what is whole is said to be, and what is wrong is named."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import glm
from glm import _hashes
from glm._fetch import FILES, RemoteFile, sha256_of
from glm.models import Model, get, verify
from glm.models._verify import record_expected
from glm.models.weights import read_state, save_safetensors

TOKENS = [2, 9, 30, 11, 3]


@pytest.fixture
def bundle(make_model: Callable[..., Model], tmp_path: Path) -> Path:
    return make_model(v2=True).save(tmp_path / "bundle")


def test_a_bundle(bundle: Path):
    report = verify(bundle)
    assert report.ok
    assert [check.what for check in report.checks] == [
        str(bundle / "model.safetensors"),
        str(bundle / "vocabulary.json"),
        "structure",
        "output",
    ]
    assert "none stored to compare with" in str(report)
    assert "vocabulary small-v2 of 64 tokens" in repr(report)
    assert report._repr_html_().count(">right<") == 4


def test_html_is_escaped(bundle: Path):
    folder = bundle.rename(bundle.with_name("a <b>&"))
    assert "a &lt;b&gt;&amp;" in verify(folder)._repr_html_()


@pytest.mark.parametrize("name", ["model.safetensors", "vocabulary.json"])
def test_a_changed_file(bundle: Path, name: str):
    content = bytearray((bundle / name).read_bytes())
    content[-3] ^= 1
    before = sha256_of(bundle / name)
    (bundle / name).write_bytes(content)
    with pytest.raises(RuntimeError, match=rf"WRONG .*{name}: sha256") as caught:
        verify(bundle)
    for wanted in (before, sha256_of(bundle / name)):
        assert wanted in str(caught.value)
    assert "structure" not in str(caught.value)  # nothing wrong was loaded


def test_a_missing_file(bundle: Path):
    (bundle / "vocabulary.json").unlink()
    with pytest.raises(OSError, match=r"vocabulary\.json"):
        verify(bundle)


@pytest.mark.parametrize("v2", [True, False])
def test_an_expected_output(make_model: Callable[..., Model], tmp_path: Path, v2: bool):
    model = make_model(v2=v2)
    tokens = TOKENS if v2 else TOKENS[1:-1]
    folder = model.save(tmp_path / "bundle", half=True)
    record_expected(folder, tokens, card="the processor of this test")
    assert "embedding of" in str(verify(folder))
    content = json.loads((folder / "expected.json").read_text())
    with torch.no_grad():
        hidden = glm.models.load(folder).encoder.hidden_states(torch.tensor([tokens]))[-2][0]
    expected = hidden[0] if v2 else hidden.mean(dim=0)
    torch.testing.assert_close(torch.tensor(content["vector"]), expected)
    content["vector"][3] += 0.01
    (folder / "expected.json").write_text(json.dumps(content))
    with pytest.raises(RuntimeError, match=r"WRONG +output: .*differs by at most 0.01"):
        verify(folder)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        '{"tokens": [2, 9], "vector": [1.0], "tolerance": 1.0}',
        '{"tokens": [2, 999], "vector": [1.0], "tolerance": 1.0}',
    ],
)
def test_an_expected_output_that_cannot_be_used(bundle: Path, content: str):
    (bundle / "expected.json").write_text(content)
    with pytest.raises(RuntimeError, match=r"WRONG +output: .*expected\.json cannot be used"):
        verify(bundle)


@pytest.mark.parametrize("place", [0, 3, -1])
def test_an_output_that_is_not_a_number(bundle: Path, place: int):
    record_expected(bundle, TOKENS)
    content = json.loads((bundle / "expected.json").read_text())
    content["vector"][place] = float("nan")
    (bundle / "expected.json").write_text(json.dumps(content))
    with pytest.raises(RuntimeError, match=r"WRONG +output"):
        verify(bundle)


def test_weights_that_do_not_fit(bundle: Path):
    """Hashes are right, the content is not."""
    state = read_state(bundle / "model.safetensors")
    del state["cls.predictions.bias"]
    save_safetensors(state, bundle / "model.safetensors")
    config = json.loads((bundle / "config.json").read_text())
    config["sha256"]["model.safetensors"] = sha256_of(bundle / "model.safetensors")
    (bundle / "config.json").write_text(json.dumps(config))
    with pytest.raises(RuntimeError, match=r"WRONG +structure: .*1 missing \(cls\.predictions"):
        verify(bundle)


# ---- published models and folders ---------------------------------------------------------------


@pytest.fixture
def published(make_model: Callable[..., Model], tmp_path: Path, monkeypatch) -> Path:
    """A mirror with small weights under the name of published ones; verify takes it for them."""
    model = make_model()
    spec = dataclasses.replace(get("geneformer-v1-10m"), shape=model.spec.shape, dictionary="")
    saved = model.save(tmp_path / "saved") / "model.safetensors"
    place = tmp_path / "mirror" / FILES[spec.weights].path
    place.parent.mkdir(parents=True)
    saved.rename(place)
    row = RemoteFile(FILES[spec.weights].path, "", sha256_of(place), place.stat().st_size)
    monkeypatch.setitem(FILES, spec.weights, row)
    monkeypatch.setattr(type(spec), "vocabulary", lambda self: model.vocabulary)
    monkeypatch.setattr("glm.models._verify.get", lambda name: spec)
    monkeypatch.setattr("glm.models.bundle.get", lambda name: spec)
    return place


def test_published_weights(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    read: list[Path] = []
    real = _hashes.digest
    monkeypatch.setattr(
        "glm.models._verify.digest", lambda path, kind: read.append(path) or real(path, kind)
    )
    with glm.settings.override(mirror=tmp_path / "mirror", offline=True):
        glm.models.load("geneformer-v1-10m")
        assert verify("geneformer-v1-10m").ok
        assert read == [published]  # whatever is remembered
        published.write_bytes(published.read_bytes()[:-1])
        with pytest.raises(RuntimeError, match=r"WRONG .*model\.safetensors"):
            verify("geneformer-v1-10m")


def test_what_is_not_here(tmp_path: Path):
    with (
        glm.settings.override(data_dir=tmp_path),
        pytest.raises(OSError, match=r"is not on this machine") as caught,
    ):
        verify("geneformer-v1-10m")
    assert "glm.models.prefetch('geneformer-v1-10m')" in str(caught.value)


def test_weights_of_a_folder_are_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """They are held to nothing, but may be published ones."""
    from glm.models._verify import _recognise

    file = tmp_path / "model.safetensors"
    file.write_bytes(b"weights")
    assert "no published file" in _recognise(file).found
    monkeypatch.setitem(FILES, "x", RemoteFile("geneformer/x", "", sha256_of(file), 7))
    assert "the published geneformer/x" in _recognise(file).found
