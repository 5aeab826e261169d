"""Folders in the published layout: what transformers writes is read as transformers computes it."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from anndata import AnnData
from safetensors.torch import load_file, save_file
from scipy.sparse import csr_matrix
from torch import Tensor

import glm
from glm.models import GeneVocabulary, Model, get, load, prefetch
from glm.models.bert import Bert, MaskedLM
from glm.models.heads import Classifier
from glm.models.published import ARCHITECTURES
from glm.models.registry import ModelSpec, rows

TOLERANCE = 1e-5
PUBLISHED = [
    name
    for name, spec in rows().items()
    if (spec.system, spec.tier, spec.head) == ("geneformer", "published", "tokens")
]
SMALL = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}


def their_config(spec: ModelSpec, **changes: Any) -> transformers.BertConfig:
    """A published configuration, in the words of its config.json."""
    shape = spec.shape
    entries = {
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.hidden_size,
        "num_hidden_layers": shape.n_layers,
        "num_attention_heads": shape.n_heads,
        "intermediate_size": shape.intermediate_size,
        "max_position_embeddings": shape.n_positions,
        "hidden_act": "relu",
        "hidden_dropout_prob": 0.02,
        "attention_probs_dropout_prob": 0.02,
        "pad_token_id": 0,
    }
    return transformers.BertConfig(**{**entries, **changes})


def write(
    folder: Path, kind: str, config: transformers.BertConfig, *, file: str = "model.safetensors"
) -> transformers.PreTrainedModel:
    """Have transformers write a checkpoint in which no tensor is at its first value."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(3)
        theirs = getattr(transformers, kind)(config)
        for parameter in theirs.parameters():
            parameter += (0.1 if parameter.ndim == 1 else 0.02) * torch.randn_like(parameter)
    theirs.save_pretrained(folder)
    if file.endswith(".bin"):  # as older versions wrote it, the tied decoder included
        (folder / "model.safetensors").unlink()
        torch.save(theirs.state_dict(), folder / file)
    return theirs.eval()


def put_dictionaries(folder: Path, vocabulary: GeneVocabulary, name: str = "own") -> None:
    special = {f"<{short}>": token for short, token in vocabulary.special.items()}
    genes = dict(zip(vocabulary.ids, vocabulary.tokens.tolist(), strict=True))
    medians = dict(zip(vocabulary.ids, vocabulary.medians.tolist(), strict=True))
    contents = {
        "token_dictionary": special | genes,
        "gene_median_dictionary": medians,
        "gene_name_id_dict": dict(vocabulary.symbols),
        "ensembl_mapping_dict": {gene: gene for gene in vocabulary.ids},
    }
    folder.mkdir(parents=True, exist_ok=True)
    for part, content in contents.items():
        (folder / f"{part}_{name}.pkl").write_bytes(pickle.dumps(content))


@pytest.fixture
def small(
    make_vocabulary: Callable[..., GeneVocabulary], tmp_path: Path
) -> Callable[..., tuple[Path, transformers.PreTrainedModel]]:
    """Write a small checkpoint of any kind with its dictionaries: its folder, and transformers'."""

    def make(kind: str = "BertForMaskedLM", *, v2: bool = True, **options: Any):
        vocabulary = make_vocabulary(60, v2=v2)
        put_dictionaries(tmp_path / "mine", vocabulary)
        file = options.pop("file", "model.safetensors")
        entries = {"intermediate_size": 24, "max_position_embeddings": 32, **SMALL, **options}
        config = their_config(get("geneformer-v1-10m"), vocab_size=len(vocabulary), **entries)
        return tmp_path / "mine", write(tmp_path / "mine", kind, config, file=file)

    return make


def ragged(vocab_size: int, lengths: tuple[int, ...] = (9, 32, 1)) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(1, vocab_size, (len(lengths), max(lengths)), generator=generator)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return tokens.masked_fill(~mask, 0), mask


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    scale = max(1.0, float(theirs.abs().max()))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=TOLERANCE * scale)


def assert_same_states(model: Model, theirs: transformers.PreTrainedModel) -> None:
    """Every hidden state, embeddings first, of padded sentences of several lengths."""
    tokens, mask = ragged(model.spec.shape.vocab_size)
    with torch.no_grad():
        expected = theirs(tokens, attention_mask=mask.long(), output_hidden_states=True)
        got = model.encoder.hidden_states(tokens, mask)
    assert len(got) == len(expected.hidden_states) == model.spec.shape.n_layers + 1
    for ours, reference in zip(got, expected.hidden_states, strict=True):
        assert_close(ours[mask], reference[mask])


def cells_of_all_genes(vocabulary: GeneVocabulary, n_cells: int) -> AnnData:
    """Cells of some five hundred genes each, in an object that has every gene."""
    rng = np.random.default_rng(2)
    counts = rng.poisson(3.0, (n_cells, len(vocabulary.ids)))
    counts[rng.random(counts.shape) > 500 / len(vocabulary.ids)] = 0
    genes = pd.DataFrame(index=list(vocabulary.ids))
    return AnnData(csr_matrix(counts.astype(np.float32)), var=genes)


def sentences(adata: AnnData, vocabulary: GeneVocabulary) -> list[list[int]]:
    """Tokens of every cell, spelled out: counts over medians, highest first."""
    order = [vocabulary.index[gene] for gene in adata.var_names]
    found = []
    for row in adata.X.toarray().astype(np.float64):
        values = row / vocabulary.medians[order]
        genes = [g for g in np.lexsort((order, -values)) if values[g] > 0]
        tokens = [int(vocabulary.tokens[order[g]]) for g in genes][: vocabulary.n_genes_read]
        special = vocabulary.special
        found.append([special["cls"], *tokens, special["eos"]] if "cls" in special else tokens)
    return found


def assert_embeds_the_same(
    adata: AnnData, folder: Path, model: Model, theirs: transformers.PreTrainedModel
) -> None:
    """A cell's embedding is transformers' second to last state, pooled as the authors do."""
    glm.tl.embed(adata, model=str(folder), hidden_layer="second_to_last")
    for row, tokens in enumerate(sentences(adata, model.vocabulary)):
        with torch.no_grad():
            states = theirs(torch.tensor([tokens]), output_hidden_states=True).hidden_states
        expected = states[-2][0, 0] if model.spec.pooling == "cls" else states[-2][0].mean(dim=0)
        assert_close(torch.from_numpy(adata.obsm["X_geneformer"][row]), expected)


# ---- every published shape ----------------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configurations(
    name: str,
    tmp_path: Path,
    make_vocabulary: Callable[..., GeneVocabulary],
    make_cells: Callable[..., AnnData],
):
    """All but the vocabulary and the number of layers as published."""
    spec = get(name)
    vocabulary = make_vocabulary(60, v2=spec.pooling == "cls")
    put_dictionaries(tmp_path / name, vocabulary)
    config = their_config(spec, vocab_size=len(vocabulary), num_hidden_layers=2)
    file = Path(spec.weights).name
    theirs = write(tmp_path / name, "BertForMaskedLM", config, file=file)
    model = load(tmp_path / name)
    assert (model.spec.name, model.spec.tier, model.spec.weights) == (name, "local", file)
    assert (model.spec.pooling, model.spec.context) == (spec.pooling, spec.context)
    assert_same_states(model, theirs)
    adata = make_cells(model.vocabulary, 3)
    assert_embeds_the_same(adata, tmp_path / name, model, theirs)


def _full_size(name: str, folder: Path, mirror: Path) -> None:
    spec = get(name)
    theirs = write(folder, "BertForMaskedLM", their_config(spec))
    with glm.settings.override(mirror=mirror, offline=True):
        model = load(folder)
        assert model.spec.shape == spec.shape
        assert model.vocabulary.sha256 == spec.vocabulary().sha256
        n_weights = sum(p.numel() for p in model.network.parameters())
        assert n_weights == spec.shape.n_parameters
        assert_same_states(model, theirs)
        adata = cells_of_all_genes(model.vocabulary, 2)
        assert_embeds_the_same(adata, folder, model, theirs)
    record = adata.uns["X_geneformer"]
    assert (record["model"], record["tier"]) == (folder.name, "local")


def test_v1_10m_in_full(test_data: Path, tmp_path: Path):
    _full_size("geneformer-v1-10m", tmp_path / "mine", test_data / "geneformer")


@pytest.mark.slow
def test_v2_104m_in_full(test_data: Path, tmp_path: Path):
    _full_size("geneformer-v2-104m", tmp_path / "mine", test_data / "geneformer")


# ---- heads, files, prefixes ---------------------------------------------------------------------


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_heads(small, kind: str, file: str):
    folder, theirs = small(kind, file=file, num_labels=5)
    model = load(folder)
    assert model.spec.head == ARCHITECTURES[kind]
    assert not model.network.training
    assert_same_states(model, theirs)
    if kind == "BertModel":
        assert isinstance(model.network, Bert)
        assert model.encoder is model.network
        return
    tokens, mask = ragged(model.spec.shape.vocab_size)
    with torch.no_grad():
        got, expected = model.network(tokens, mask), theirs(tokens, attention_mask=mask.long())
    if kind == "BertForPreTraining":
        expected.logits = expected.prediction_logits
    if kind == "BertForSequenceClassification":
        assert got.shape == (3, 5)
        assert_close(got, expected.logits)
    else:
        assert_close(got[mask], expected.logits[mask])
    assert isinstance(model.network, MaskedLM | Classifier)


@pytest.mark.parametrize("kind", ["BertForMaskedLM", "BertForSequenceClassification", "BertModel"])
def test_with_and_without_the_prefix(small, kind: str):
    folder, theirs = small(kind)
    path = folder / "model.safetensors"
    state = load_file(path)
    if kind == "BertModel":
        save_file({f"bert.{name}": tensor for name, tensor in state.items()}, path)
    else:
        save_file({name.removeprefix("bert."): tensor for name, tensor in state.items()}, path)
    assert_same_states(load(folder), theirs)


def test_safetensors_are_taken_before_a_pickle(small):
    folder, theirs = small()
    (folder / "pytorch_model.bin").write_bytes(b"not even weights")
    assert_same_states(load(folder), theirs)


@pytest.mark.parametrize("kind", ["BertForSequenceClassification", "BertForTokenClassification"])
def test_names_of_classes(small, kind: str):
    labels = {0: "healthy", 1: "failing", 2: "ähnlich"}
    folder, _ = small(kind, id2label=labels)
    model = load(folder)
    assert model.spec.labels == tuple(labels.values())
    assert model.network.classifier.out_features == 3
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = {"0": "a", "1": "b"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(RuntimeError, match=r"names 2 classes .* tell 3 apart"):
        load(folder)
    config["id2label"] = {"0": "a", "2": "b"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="expected a name for each"):
        load(folder)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_a_folder_becomes_a_bundle(small, tmp_path: Path, kind: str):
    """Head, names of classes, vocabulary and every bit of the weights."""
    folder, theirs = small(kind, id2label={0: "a", 1: "b", 2: "c"})
    model = load(folder)
    bundle = load(model.save(tmp_path / "bundle"))
    assert bundle.spec.is_bundle
    assert (bundle.spec.head, bundle.spec.labels) == (model.spec.head, model.spec.labels)
    assert bundle.vocabulary.to_dict() == model.vocabulary.to_dict()
    assert_same_states(bundle, theirs)
    ours = model.network.state_dict()
    for name, tensor in bundle.network.state_dict().items():
        assert torch.equal(tensor, ours[name]), name


def test_the_plain_path_of_a_user(small, make_cells: Callable[..., AnnData], monkeypatch):
    """A relative path with ~, and the record says what was used."""
    folder, _ = small("BertForSequenceClassification", v2=False)
    monkeypatch.setenv("HOME", str(folder.parent))
    adata = make_cells(load(folder).vocabulary, 3)
    glm.tl.embed(adata, model="~/mine")
    record = adata.uns["X_geneformer"]
    assert (record["model"], record["tier"], record["pooling"]) == ("mine", "local", "mean")
    assert record["weights_sha256"] == glm.models.load(folder).weights_sha256
    assert glm.models.get(folder).where == "local"


def test_only_a_head_that_predicts_tokens_is_pretrained(small, tmp_path: Path):
    folder, _ = small("BertForTokenClassification")
    model = load(folder)
    sentence = glm.train.Sentences(np.tile(model.vocabulary.tokens[:20], 2), np.array([0, 20, 40]))
    objective = glm.train.MaskedTokens(model.vocabulary)
    with pytest.raises(ValueError, match="no head that predicts tokens"):
        glm.train.fit(model, objective, sentence, folder=tmp_path / "run")


# ---- strict both ways ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ("BertForMaskedLM", "bert.encoder.layer.1.output.dense.bias"),
        ("BertForMaskedLM", "cls.predictions.bias"),
        ("BertForSequenceClassification", "bert.pooler.dense.weight"),
        ("BertForSequenceClassification", "classifier.weight"),
        ("BertForSequenceClassification", "classifier.bias"),
        ("BertForTokenClassification", "classifier.bias"),
        ("BertModel", "embeddings.LayerNorm.weight"),
    ],
)
def test_missing_renamed_and_unknown_tensors(small, kind: str, key: str):
    folder, _ = small(kind)
    path, bare = folder / "model.safetensors", key.removeprefix("bert.")
    state = load_file(path)
    tensor = state.pop(key)
    save_file(state, path)
    with pytest.raises(RuntimeError, match=rf"tensors 1 missing \({bare}\)\."):
        load(folder)
    save_file({**state, f"{key}s": tensor}, path)
    with pytest.raises(RuntimeError, match=rf"1 missing \({bare}\) and 1 unknown \({bare}s\)\."):
        load(folder)
    save_file({**state, key: tensor, "adapter.weight": torch.ones(2)}, path)
    with pytest.raises(RuntimeError, match=r"tensors 1 unknown \(adapter\.weight\)\."):
        load(folder)
    save_file({**state, key: torch.cat([tensor, tensor])}, path)
    with pytest.raises(RuntimeError, match=r"is \(\d+.*\), expected \(\d+"):
        load(folder)


@pytest.mark.parametrize(
    ("kind", "called", "said"),
    [
        ("BertModel", "BertForSequenceClassification", "2 missing .*classifier"),
        ("BertForMaskedLM", "BertForTokenClassification", "2 missing .*7 unknown|unknown"),
        ("BertForSequenceClassification", "BertForMaskedLM", "missing .*unknown"),
        ("BertForTokenClassification", "BertForSequenceClassification", "missing .*pooler"),
        ("BertForSequenceClassification", "BertModel", "unknown .*classifier"),
    ],
)
def test_another_head_than_the_configuration_says(small, kind: str, called: str, said: str):
    folder, _ = small(kind)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": [called]}))
    with pytest.raises(RuntimeError, match=said):
        load(folder)


# ---- which vocabulary ---------------------------------------------------------------------------


def test_dictionaries_by_size_of_the_vocabulary(test_data: Path, tmp_path: Path):
    mirror = test_data / "geneformer"
    for size, name, pooling in ((25_426, "gc30M", "mean"), (20_275, "gc104M", "cls")):
        folder = tmp_path / name
        config = their_config(
            get("geneformer-v1-10m"), vocab_size=size, **SMALL, intermediate_size=8
        )
        write(folder, "BertForMaskedLM", config)
        with glm.settings.override(mirror=mirror, offline=True):
            spec = get(folder)
            assert (spec.dictionary, spec.pooling) == (name, pooling)
            assert spec.vocabulary().context == 2048
            assert len(prefetch(str(folder))) == 4
        with (
            glm.settings.override(data_dir=tmp_path / "nothing", offline=True),
            pytest.raises(OSError, match="token_dictionary") as caught,
        ):
            load(folder)
        assert f"glm.models.prefetch({str(folder)!r})" in str(caught.value)


def test_a_vocabulary_of_no_known_size(small):
    folder, _ = small()
    for path in folder.glob("*.pkl"):
        path.unlink()
    with pytest.raises(ValueError, match=r"64 tokens; .* 25,426 \(gc30M\) and 20,275 \(gc104M\)"):
        load(folder)


def test_weights_of_another_vocabulary_than_the_configuration(small):
    folder, _ = small()
    path = folder / "model.safetensors"
    state = load_file(path)
    state["bert.embeddings.word_embeddings.weight"] = torch.zeros(70, 16)
    save_file(state, path)
    with pytest.raises(RuntimeError, match=r"is \(70, 16\), expected \(64, 16\)"):
        load(folder)


def test_dictionaries_of_another_model(small, make_vocabulary: Callable[..., GeneVocabulary]):
    folder, _ = small()
    put_dictionaries(folder, make_vocabulary(50, v2=True))
    with pytest.raises(RuntimeError, match=r"of 64 tokens .*'own' has 54 .*do not belong together"):
        load(folder)
    put_dictionaries(folder, make_vocabulary(60, v2=True), "second")
    with pytest.raises(ValueError, match="2 token dictionaries"):
        load(folder)


def test_a_vocabulary_as_bundles_have_it(small, make_vocabulary: Callable[..., GeneVocabulary]):
    folder, theirs = small()
    for path in folder.glob("*.pkl"):
        path.unlink()
    content = make_vocabulary(60, v2=True).to_dict()
    (folder / "vocabulary.json").write_text(json.dumps(content))
    assert_same_states(load(folder), theirs)
    assert get(folder).pooling == "cls"


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"name": "a"}'])
def test_a_damaged_vocabulary(small, content: str):
    folder, _ = small()
    (folder / "vocabulary.json").write_text(content)
    with pytest.raises(ValueError, match=r"vocabulary\.json is no vocabulary .*Copy it"):
        load(folder)


def test_a_missing_dictionary(small):
    folder, _ = small()
    (folder / "gene_median_dictionary_own.pkl").unlink()
    with pytest.raises(FileNotFoundError, match="gene_median_dictionary_own"):
        load(folder)


# ---- configurations of something else -----------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "roberta"}, "model_type 'roberta'; expected 'bert'"),
        ({"position_embedding_type": "relative_key"}, "expected 'absolute'"),
        ({"is_decoder": True}, "is_decoder True; expected False"),
        ({"hidden_act": "gelu_new"}, "expected 'relu' or 'gelu'"),
        ({"num_attention_heads": 5}, "a multiple of the number of heads"),
        ({"architectures": ["BertForQuestionAnswering"]}, "BertForQuestionAnswering.*expected one"),
        ({"architectures": None}, "tells what stands on the encoder"),
        ({"hidden_size": ...}, "does not say hidden_size"),
        ({"vocab_size": ..., "hidden_act": ...}, "does not say vocab_size, hidden_act"),
        ({"vocab_size": None}, "does not say vocab_size"),
        (
            {"hidden_size": "16"},
            r"config\.json describes no BERT: hidden_size is '16'; expected a w",
        ),
        ({"num_attention_heads": 0}, "n_heads is 0; expected a whole number of at least 1"),
        ({"layer_norm_eps": "1e-12"}, "layer_norm_eps is '1e-12'; expected a number"),
        ({"architectures": [["BertModel"]]}, "expected one of"),
        (
            {"architectures": ["BertForTokenClassification"], "id2label": ["a", "b"]},
            "expected a name for each",
        ),
    ],
)
def test_other_configurations(small, changes: dict[str, Any], said: str):
    folder, _ = small()
    config = {**json.loads((folder / "config.json").read_text()), **changes}
    kept = {name: value for name, value in config.items() if value is not ...}
    (folder / "config.json").write_text(json.dumps(kept))
    with pytest.raises(ValueError, match=said):
        load(folder)


def test_no_weights(small):
    folder, _ = small()
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    with pytest.raises(OSError, match=r"in one piece, found .*model-00001-of-00002"):
        load(folder)
