"""DNABERT and GROVER: their rows, folders in their published layouts, bundles, files."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import glm
from glm._fetch import FILES, RemoteFile, sha256_of
from glm.bases import to_codes
from glm.models import KmerVocabulary, Model, PairVocabulary, export, get, load, prefetch, verify
from glm.models.reads import dna_vocabulary, gene_vocabulary
from glm.models.registry import rows

DNA = [f"dnabert-{k}" for k in (3, 4, 5, 6)] + ["grover"]
TEXT = "ACGTTGCANTTTACGGAATTACGATATATTTAAAAAACCCC"


# ---- rows ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DNA)
def test_rows(name: str):
    spec = get(name)
    shape = spec.shape
    assert (shape.n_layers, shape.hidden_size, shape.n_heads) == (12, 768, 12)
    assert (shape.intermediate_size, shape.n_positions, shape.n_token_types) == (3072, 512, 2)
    assert (shape.activation, shape.dropout, shape.attention_dropout) == ("gelu", 0.1, 0.1)
    assert (shape.layer_norm_eps, shape.pad_token) == (1e-12, 0)
    assert (spec.system, spec.tier, spec.head) == (name.partition("-")[0], "published", "tokens")
    assert (spec.pooling, spec.hidden_layer, spec.context) == ("cls", "last", 512)
    assert spec.source.startswith("https://huggingface.co/")
    assert FILES[spec.weights].url.startswith(f"{spec.source}/resolve/")
    assert spec.vocabulary().name == f"{name[-1]}-mers" if "bert" in name else True


def test_sizes_of_vocabularies():
    sizes = [get(name).shape.vocab_size for name in DNA]
    assert sizes == [69, 261, 1029, 4101, 609]


def test_parameters_of_grover():
    """As the loaded checkpoint has, by the report beside the stored vector; its file has more."""
    spec = get("grover")
    assert spec.shape.n_parameters == 86_511_201
    pooler, decoder_bias, position_ids = 768 * 769, 609, 2 * 512
    n_numbers = spec.shape.n_parameters + pooler + decoder_bias + position_ids
    assert 0 < FILES[spec.weights].n_bytes - 4 * n_numbers < 131_072


@pytest.mark.parametrize("k", [3, 4, 5, 6])
def test_configurations_that_are_here(test_data: Path, k: int):
    config = json.loads((test_data / "dnabert" / f"config-{k}" / "config.json").read_text())
    shape = get(f"dnabert-{k}").shape
    assert config["vocab_size"] == shape.vocab_size
    assert config["hidden_act"] == shape.activation
    for theirs, ours in (
        ("hidden_size", shape.hidden_size),
        ("num_hidden_layers", shape.n_layers),
        ("num_attention_heads", shape.n_heads),
        ("intermediate_size", shape.intermediate_size),
        ("max_position_embeddings", shape.n_positions),
        ("type_vocab_size", shape.n_token_types),
        ("hidden_dropout_prob", shape.dropout),
        ("attention_probs_dropout_prob", shape.attention_dropout),
    ):
        assert config[theirs] == ours


def test_pins():
    assert FILES[get("grover").weights].sha256.startswith("81fa4ee056e65ff1")
    assert FILES["grover/GROVER/tokenizer.json"].sha256.startswith("86b51bd8ecfc52cd")
    revisions = [FILES[get(name).weights].revision for name in DNA]
    assert revisions[:3] == ["", "", ""]
    assert revisions[3].startswith("55e0c0eb")
    assert revisions[4].startswith("6b223110")
    assert [FILES[get(name).weights].pin is None for name in DNA] == [True] * 4 + [False]


def test_list_and_cards():
    table = glm.models.list()
    assert table.loc[DNA, "system"].tolist() == ["dnabert"] * 4 + ["grover"]
    assert table.loc["dnabert-6", "where"] == "no known hash"
    assert table.loc["grover", "where"] == "to fetch"
    html = get("dnabert-6")._repr_html_()
    for text in ("dnabert", "6-mers", "4,101 tokens", "512 tokens", "12 layers", "No hash of its"):
        assert text in html
    assert "609 tokens" in get("grover")._repr_html_()


def test_grover_is_fetched_with_its_tokenizer(monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []
    monkeypatch.setattr(
        "glm.models.bundle.fetch", lambda name, **_: asked.append(name) or Path(name)
    )
    prefetch(["grover", "dnabert-6"])
    assert asked == [
        "grover/GROVER/tokenizer.json",
        "grover/GROVER/pytorch_model.bin",
        "dnabert/DNA_bert_6/pytorch_model.bin",
    ]


@pytest.mark.parametrize("name", ["dnabert-3", "dnabert-6"])
def test_weights_of_dnabert_are_taken_by_consent(name: str, tmp_path: Path):
    with (
        glm.settings.override(data_dir=tmp_path),
        pytest.raises(OSError, match="no hash of it is known") as caught,
    ):
        load(name)
    assert f"glm.models.prefetch({name!r}, allow_unpinned=True)" in str(caught.value)
    _names_small_models(str(caught.value), "dnabert")


def test_grover_offline(tmp_path: Path):
    with (
        glm.settings.override(data_dir=tmp_path, offline=True),
        pytest.raises(OSError, match=r"tokenizer\.json .* is not on this machine") as caught,
    ):
        load("grover")
    assert "glm.models.prefetch('grover')" in str(caught.value)
    _names_small_models(str(caught.value), "grover")


def _names_small_models(message: str, system: str) -> None:
    """A bundled model of the same system where there is one, and never one that reads cells."""
    small = [spec.name for spec in rows().values() if (spec.system, spec.tier) == (system, "demo")]
    assert "geneformer-tiny" not in message
    assert [name for name in small[:1] if f"model={name!r}" not in message] == []


# ---- what a model reads -------------------------------------------------------------------------


def test_models_of_cells_and_of_dna_are_told_apart():
    """Without a file that would have to be fetched."""
    for name in DNA:
        with pytest.raises(ValueError, match=f"{name} reads DNA, not .* geneformer-v2-104m"):
            gene_vocabulary(get(name))
    with pytest.raises(
        ValueError, match=r"reads the genes of cells, not DNA.* dnabert-6, .*grover"
    ):
        dna_vocabulary(get("geneformer-v2-104m"))
    assert dna_vocabulary(get("dnabert-4")).k == 4


@pytest.mark.parametrize(
    "verb",
    [
        lambda cells, model: glm.tl.rank_encode(cells, model),
        lambda cells, model: glm.tl.attention(cells, model, n_top=5),
        lambda cells, model: glm.pp.check(cells, model),
        lambda cells, model: glm.pp.map_genes(cells, model),
        lambda cells, model: glm.tl.pretrain(cells, model, out="never"),
    ],
    ids=["rank_encode", "attention", "check", "map_genes", "pretrain"],
)
def test_cells_for_a_model_of_dna(verb: Callable[..., Any]):
    cells = glm.datasets.toy_cells(4)
    before = cells.copy()
    with pytest.raises(ValueError, match="dnabert-6 reads DNA, not the counts of cells"):
        verb(cells, "dnabert-6")
    assert (cells.X != before.X).nnz == 0
    assert cells.obs.equals(before.obs)
    assert not cells.uns
    assert not Path("never").exists()


# ---- folders in the published layouts -----------------------------------------------------------


def _write(folder: Path, vocab_size: int, kind: str = "BertForMaskedLM", **entries: Any):
    """A small checkpoint of BERT-base's layout by transformers, no tensor at its first value."""
    config = transformers.BertConfig(
        **{
            "vocab_size": vocab_size,
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 24,
            "max_position_embeddings": 64,
            "hidden_act": "gelu",
            **entries,
        }
    )
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(3)
        theirs = getattr(transformers, kind)(config)
        for parameter in theirs.parameters():
            parameter += (0.1 if parameter.ndim == 1 else 0.02) * torch.randn_like(parameter)
    theirs.save_pretrained(folder)
    return theirs.eval()


def _put_words(folder: Path, k: int) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *KmerVocabulary(k).pieces]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")


@pytest.fixture(scope="module")
def grover_json(made_up_merges: Callable[..., list[tuple[str, str]]]) -> dict[str, Any]:
    """A made-up tokenizer.json of the published form.

    610 entries: five specials, four bases, 600 pieces whose order is not that of the merges, and an
    empty piece; 604 merges as text, the last four of a base and nothing.
    """
    merges = made_up_merges(600, seed=9)
    pieces = sorted(left + right for left, right in merges)
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    entries = [*specials, *"ACGT", *np.random.default_rng(1).permutation(pieces).tolist(), ""]
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": i, "content": text, **flags, "special": True} for i, text in enumerate(specials)
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "[UNK]",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "vocab": {text: i for i, text in enumerate(entries)},
            "merges": [f"{left} {right}" for left, right in merges] + [f"{b} " for b in "ACGT"],
        },
    }


@pytest.mark.parametrize("k", [3, 4, 5, 6])
@pytest.mark.parametrize("told_by", ["vocab.txt", "tokenizer.json", "size"])
def test_a_folder_of_dnabert(tmp_path: Path, k: int, told_by: str):
    size = 5 + 4**k
    theirs = _write(tmp_path, size)
    if told_by == "vocab.txt":
        _put_words(tmp_path, k)
    if told_by == "tokenizer.json":  # a list of words, as a tokenizer that was saved again has it
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *KmerVocabulary(k).pieces]
        model = {"type": "WordPiece", "vocab": {word: i for i, word in enumerate(words)}}
        (tmp_path / "tokenizer.json").write_text(json.dumps({"model": model}))
    model = load(tmp_path)
    assert (model.spec.system, model.spec.pooling, model.spec.hidden_layer) == (
        "dnabert",
        "cls",
        "last",
    )
    assert (model.vocabulary.k, model.vocabulary.stride, model.vocabulary.context) == (k, 1, 64)
    assert len(model.vocabulary) == size
    _assert_same(model, theirs)


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_a_folder_of_grover(tmp_path: Path, grover_json: dict[str, Any], file: str):
    theirs = _write(tmp_path, 609)
    (tmp_path / "tokenizer.json").write_text(json.dumps(grover_json))
    words = sorted(grover_json["model"]["vocab"], key=grover_json["model"]["vocab"].get)
    (tmp_path / "vocab.txt").write_text("\n".join(words[:-1]) + "\n")
    if file.endswith(".bin"):  # as older versions wrote it: decoder, positions and a pooler
        (tmp_path / "model.safetensors").unlink()
        state = theirs.state_dict() | {
            "bert.embeddings.position_ids": torch.arange(64)[None],
            "bert.pooler.dense.weight": torch.zeros(16, 16),
            "bert.pooler.dense.bias": torch.zeros(16),
        }
        torch.save(state, tmp_path / file)
    model = load(tmp_path)
    assert (model.spec.system, model.spec.pooling, model.spec.hidden_layer) == (
        "grover",
        "cls",
        "last",
    )
    assert (len(model.vocabulary), model.vocabulary.flank_bp) == (609, 100)
    assert len(model.vocabulary.merges) == 600
    _assert_same(model, theirs)


def _assert_same(model: Model, theirs: transformers.PreTrainedModel) -> None:
    codes = to_codes(TEXT)
    inner, _, _ = model.vocabulary.encode(codes, np.array([0, codes.size]))
    tokens = torch.tensor([[2, *inner.tolist(), 3]])
    with torch.no_grad():
        expected = theirs(tokens, output_hidden_states=True).hidden_states
        got = model.encoder.hidden_states(tokens)
    for ours, other in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, other, rtol=0, atol=1e-5)


def test_grover_without_its_tokenizer(tmp_path: Path):
    """The published one is asked for, by its size."""
    _write(tmp_path / "mine", 609)
    (tmp_path / "mine" / "vocab.txt").write_text("\n".join(f"x{i}" for i in range(609)))
    assert get(tmp_path / "mine").dictionary == "grover"
    with (
        glm.settings.override(data_dir=tmp_path / "nothing", offline=True),
        pytest.raises(OSError, match=r"tokenizer\.json"),
    ):
        load(tmp_path / "mine")


def test_words_in_another_order(tmp_path: Path):
    _write(tmp_path, 69)
    _put_words(tmp_path, 3)
    words = (tmp_path / "vocab.txt").read_text().split()
    words[7:9] = words[8:6:-1]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    with pytest.raises(ValueError, match=r"2 words in other places.*word 7 is 'AAG', expec.*'AAC'"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("vocab.txt", "[PAD] A C", "holds 3 words.*69, 261"),
        ("vocab.txt", "", "holds 0 words"),
        ("tokenizer.json", "{", "is no JSON"),
        ("tokenizer.json", "[]", "holds no names"),
        ("tokenizer.json", "{}", "no tokenizer of DNA"),
        ("tokenizer.json", '{"model": {"vocab": {"A": 0}, "merges": []}}', "unknown token"),
        ("vocabulary.json", '{"kind": "kmer"}', "no vocabulary as bundles have it"),
        ("vocabulary.json", '{"kind": "pairs", "pieces": 5}', "no vocabulary as bundles have it"),
    ],
)
def test_damaged_vocabularies(tmp_path: Path, name: str, content: str, said: str):
    _write(tmp_path, 69)
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=said):
        load(tmp_path)


def test_a_size_that_tells_nothing(tmp_path: Path):
    _write(tmp_path, 70)
    with pytest.raises(ValueError, match=r"70 tokens; .*69 \(3-mers\).*609 \(grover\) for DNA"):
        load(tmp_path)


# ---- strict both ways, rows 89 to 92 of the catalogue of faults ----------------------------------


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ("BertForMaskedLM", "bert.embeddings.token_type_embeddings.weight"),
        ("BertForMaskedLM", "cls.predictions.transform.dense.weight"),
        ("BertForSequenceClassification", "bert.encoder.layer.1.attention.self.key.bias"),
        ("BertForSequenceClassification", "bert.pooler.dense.bias"),
    ],
)
def test_89_missing_renamed_and_unknown_tensors(tmp_path: Path, kind: str, key: str):
    _write(tmp_path, 69, kind)
    path, bare = tmp_path / "model.safetensors", key.removeprefix("bert.")
    state = load_file(path)
    tensor = state.pop(key)
    save_file(state, path)
    with pytest.raises(RuntimeError, match=rf"tensors 1 missing \({bare}\)\."):
        load(tmp_path)
    save_file({**state, f"{key}s": tensor}, path)
    with pytest.raises(RuntimeError, match=rf"1 missing \({bare}\) and 1 unknown \({bare}s\)\."):
        load(tmp_path)
    save_file({**state, key: tensor, "rnn.weight_ih": torch.ones(2)}, path)
    with pytest.raises(RuntimeError, match=r"tensors 1 unknown \(rnn\.weight_ih\)\."):
        load(tmp_path)


def test_90_weights_of_another_k(tmp_path: Path):
    _write(tmp_path, 69)
    path = tmp_path / "model.safetensors"
    state = load_file(path)
    state["bert.embeddings.word_embeddings.weight"] = torch.zeros(261, 16)
    save_file(state, path)
    with pytest.raises(RuntimeError, match=r"is \(261, 16\), expected \(69, 16\)"):
        load(tmp_path)


def test_90_words_of_another_k(tmp_path: Path):
    _write(tmp_path, 69)
    _put_words(tmp_path, 4)
    with pytest.raises(RuntimeError, match=r"of 69 tokens .*'4-mers' has 261 .*do not belong"):
        load(tmp_path)


def test_90_a_tokenizer_of_another_size(tmp_path: Path, grover_json: dict[str, Any]):
    """610 rows, as the file's length says, are not GROVER's."""
    _write(tmp_path, 610)
    (tmp_path / "tokenizer.json").write_text(json.dumps(grover_json))
    with pytest.raises(RuntimeError, match=r"of 610 tokens .*has 609 .*do not belong together"):
        load(tmp_path)


def test_91_weights_that_are_no_numbers(tmp_path: Path):
    _write(tmp_path, 69)
    path = tmp_path / "model.safetensors"
    state = load_file(path)
    state["bert.encoder.layer.0.output.dense.bias"][3] = float("nan")
    save_file(state, path)
    with pytest.raises(RuntimeError, match=r"NaN or infinite weights .*layer\.0|down"):
        load(tmp_path)


def test_an_untied_decoder(tmp_path: Path):
    _write(tmp_path, 69)
    path = tmp_path / "model.safetensors"
    save_file({**load_file(path), "cls.predictions.decoder.weight": torch.zeros(69, 16)}, path)
    with pytest.raises(RuntimeError, match="untied decoder"):
        load(tmp_path)


# ---- bundles and exports ------------------------------------------------------------------------


@pytest.mark.parametrize("system", ["dnabert", "grover"])
def test_a_bundle(make_dna_model: Callable[..., Model], tmp_path: Path, system: str):
    model = make_dna_model(system)
    folder = model.save(tmp_path / "bundle", card={"read": "nothing"})
    again = load(folder)
    assert again.spec == dataclasses.replace(model.spec, folder=folder)
    assert type(again.vocabulary) is type(model.vocabulary)
    assert again.vocabulary.sha256 == model.vocabulary.sha256
    assert again.card == {"read": "nothing"}
    for name, tensor in model.network.state_dict().items():
        assert torch.equal(again.network.state_dict()[name], tensor), name
    assert verify(folder).ok
    assert prefetch(str(folder)) == []
    html = again._repr_html_()
    assert ("64 of 3 bases" if system == "dnabert" else "44 of 1 to ") in html
    content = json.loads((folder / "vocabulary.json").read_text())
    assert content["kind"] == {"dnabert": "kmer", "grover": "pairs"}[system]


@pytest.mark.parametrize("system", ["dnabert", "grover"])
def test_an_export(make_dna_model: Callable[..., Model], tmp_path: Path, system: str):
    """What transformers makes of the folder, tokenizer and model, is what is computed here."""
    model = make_dna_model(system, n_positions=64)
    folder = export(model, tmp_path / "out")
    again = load(folder)
    assert again.vocabulary.sha256 == model.vocabulary.sha256
    assert (again.spec.system, again.spec.pooling, again.spec.hidden_layer) == (
        system,
        "cls",
        "last",
    )
    codes = to_codes(TEXT)
    inner, _, spans = model.vocabulary.encode(codes, np.array([0, codes.size]))
    text = TEXT if system == "grover" else " ".join(TEXT[start:end] for start, end in spans)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer(text)["input_ids"]
    assert tokens == [2, *inner.tolist(), 3]
    assert tokenizer.mask_token_id == 4
    assert tokenizer.pad_token_id == 0
    theirs = transformers.AutoModelForMaskedLM.from_pretrained(folder).eval()
    _assert_same(again, theirs)
    with torch.no_grad():
        ours, other = again.network(torch.tensor([tokens])), theirs(torch.tensor([tokens])).logits
    torch.testing.assert_close(ours, other, rtol=0, atol=1e-5)


def test_an_exported_folder_is_told_by_what_others_read(
    make_dna_model: Callable[..., Model], tmp_path: Path
):
    """Also where the vocabulary of ours is gone."""
    for system in ("dnabert", "grover"):
        model = make_dna_model(system)
        folder = export(model, tmp_path / system)
        (folder / "vocabulary.json").unlink()
        config = json.loads((folder / "config.json").read_text())
        del config["glm"]
        (folder / "config.json").write_text(json.dumps(config))
        again = load(folder)
        assert again.spec.system == system
        assert again.vocabulary.pieces == model.vocabulary.pieces


# ---- published files, made up -------------------------------------------------------------------


@pytest.fixture
def small_grover(
    tmp_path: Path, grover_json: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A mirror that holds a small model and a made-up tokenizer under GROVER's names."""
    place = tmp_path / "mirror" / "GROVER"
    _write(place, 609, max_position_embeddings=512)
    torch.save(load_file(place / "model.safetensors"), place / "pytorch_model.bin")
    (place / "tokenizer.json").write_text(json.dumps(grover_json))
    for name in ("grover/GROVER/pytorch_model.bin", "grover/GROVER/tokenizer.json"):
        file = place / Path(name).name
        row = RemoteFile(name, FILES[name].url, sha256_of(file), file.stat().st_size)
        monkeypatch.setitem(FILES, name, row)
    spec = get("grover")
    shape = dataclasses.replace(
        spec.shape, hidden_size=16, n_layers=2, n_heads=2, intermediate_size=24
    )
    known = {**rows(), "grover": dataclasses.replace(spec, shape=shape)}
    monkeypatch.setattr("glm.models.registry.rows", lambda: known)
    return tmp_path / "mirror"


def _expect(folder: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """What transformers computes of the mirror's checkpoint, in the form of the stored output."""
    theirs = transformers.BertModel.from_pretrained(mirror / "GROVER").eval()
    content = json.loads(
        (Path(glm.models.__file__).parent / "expected" / "grover.json").read_text()
    )
    vocabulary = PairVocabulary.from_tokenizer_json(mirror / "GROVER" / "tokenizer.json", "grover")
    codes = to_codes(content["text"])
    inner, _, _ = vocabulary.encode(codes, np.array([0, codes.size]))
    tokens = [2, *inner.tolist(), 3]
    with torch.no_grad():
        hidden = theirs(torch.tensor([tokens])).last_hidden_state[0]
    content |= {"tokens": tokens, "vector": hidden.mean(dim=0).tolist(), **changes}
    folder.mkdir()
    (folder / "grover.json").write_text(json.dumps(content))
    monkeypatch.setattr("glm.models._checks._PUBLISHED", folder)


def test_verify_grover(small_grover: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Files, structure, the tokens of a text and the vector of them."""
    _expect(tmp_path / "expected", small_grover, monkeypatch)
    with glm.settings.override(mirror=small_grover, offline=True):
        report = verify("grover")
        assert load("grover").vocabulary.name == "grover"
        assert get("grover").where == "on this machine"
    assert [check.what for check in report.checks][2:] == ["structure", "tokens", "output"]
    assert "of 45 bases" in str(report)
    assert "vocabulary grover of 609 tokens" in str(report)
    assert "differs by at most" in str(report)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tokens": [2, 5, 3]}, r"WRONG  tokens: .*expected \[2, 5, 3\]"),
        ({"pooling": "cls"}, r"WRONG  output: .*differs by at most"),
        ({"pooling": "mean"}, r"WRONG  output: .*differs by at most"),
        ({"hidden_layer": "second_to_last"}, r"WRONG  output: .*differs by at most"),
        ({"pooling": "max"}, r"WRONG  output: .*cannot be used"),
        ({"text": "RNA?"}, r"WRONG  output: .*cannot be used"),
    ],
    ids=str,
)
def test_verify_notices(
    small_grover: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    said: str,
):
    """Special tokens are in the stored mean: another pooling or layer is another vector."""
    _expect(tmp_path / "expected", small_grover, monkeypatch, **changes)
    with (
        glm.settings.override(mirror=small_grover, offline=True),
        pytest.raises(RuntimeError, match=said),
    ):
        verify("grover")


def test_the_stored_output_is_that_of_the_report(test_data: Path):
    folder = test_data / "oracles" / "grover"
    stored = json.loads((Path(glm.models.__file__).parent / "expected" / "grover.json").read_text())
    vector = json.loads((folder / "input-1.independent-oracle-vector.json").read_text())
    report = json.loads((folder / "oracle-report.json").read_text())
    record = report["records"][1]
    assert stored["vector"] == pytest.approx(vector["values"], abs=5e-7)
    assert stored["text"] == record["input"]["ascii"]
    assert stored["tokens"] == record["tokens"]["input_ids"]
    assert vector["provenance"]["pooling"] == "attention-mask-mean"
    assert sum(record["tokens"]["attention_mask"]) == len(stored["tokens"])  # specials are in it
    assert stored["pooling"] == "all"
    assert report["model"]["parameter_count"] == get("grover").shape.n_parameters
    assert vector["provenance"]["checkpoint_sha256"] == FILES[get("grover").weights].sha256
    assert vector["provenance"]["tokenizer_sha256"] == FILES["grover/GROVER/tokenizer.json"].sha256
    assert stored["tolerance"] == pytest.approx(1e-4 * np.abs(vector["values"]).max(), rel=1e-2)


def test_a_tokenizer_that_is_another(small_grover: Path):
    """It is held to its hash as the weights are."""
    file = small_grover / "GROVER" / "tokenizer.json"
    file.write_text(file.read_text().replace("1.0", "1.1"))
    with (
        glm.settings.override(mirror=small_grover, offline=True),
        pytest.raises(OSError, match=r"tokenizer\.json is not the published .* its sha256 is"),
    ):
        load("grover")


def test_the_first_weights_of_dnabert_are_what_later_ones_are_held_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    name = get("dnabert-3").weights
    small = {"hidden_size": 16, "n_layers": 2, "n_heads": 2, "intermediate_size": 24}
    shape = dataclasses.replace(get("dnabert-3").shape, **small)
    known = {**rows(), "dnabert-3": dataclasses.replace(get("dnabert-3"), shape=shape)}
    monkeypatch.setattr("glm.models.registry.rows", lambda: known)
    theirs = _write(tmp_path / "theirs", 69, max_position_embeddings=512)
    place = tmp_path / "mirror" / "DNA_bert_3" / "pytorch_model.bin"
    place.parent.mkdir(parents=True)
    torch.save(theirs.state_dict(), place)
    with glm.settings.override(
        mirror=tmp_path / "mirror", data_dir=tmp_path / "cache", offline=True
    ):
        with pytest.raises(OSError, match="no hash of it is known"):
            load("dnabert-3")
        assert prefetch("dnabert-3", allow_unpinned=True) == [place]
        record = tmp_path / "cache" / f"{FILES[name].path}.sha256"
        assert record.read_text().split()[0] == sha256_of(place)
        _assert_same(load("dnabert-3"), theirs)
        assert verify("dnabert-3").ok
        torch.save({k: v + 0.0 for k, v in theirs.bert.state_dict().items()}, place)
        with pytest.raises(OSError, match="is not the first recorded"):
            load("dnabert-3")
