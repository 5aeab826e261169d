"""Cards: what a notebook and a terminal show of models, vocabularies and reports."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

import glm
from glm._cards import html_card, html_table, text_card

NASTY = "<script>alert('&')</script>"
VOID = {"br"}


class Reader(HTMLParser):
    """Tags, texts of cells, and whether all that was opened was closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def accessible(html: str) -> Reader:
    """One table with a caption, scoped headers, no scripts, nothing that is fetched."""
    read = Reader(html)
    assert (read.tags.count("table"), read.tags.count("caption")) == (1, 1)
    assert not {"script", "img", "link", "style", "iframe"} & set(read.tags)
    names = [name for name, _ in read.attributes]
    assert set(names) <= {"scope", "style"}
    assert names.count("scope") == read.tags.count("th")
    assert not any("color" in (value or "") for _, value in read.attributes)
    return read


def test_a_card_is_escaped():
    read = accessible(html_card(NASTY, {NASTY: NASTY}, note=NASTY))
    assert read.texts == [NASTY] * 4


def test_a_table_is_escaped():
    read = accessible(html_table(NASTY, ["a", NASTY], [(NASTY, 1), ("b", None)], note="n\nm"))
    assert read.texts == [NASTY, "a", NASTY, NASTY, "1", "b", "None", "n", "m"]


def test_rows_without_a_value_are_left_out():
    rows = {"kept": 0, "also": False, "empty": "", "none": None}
    assert accessible(html_card("t", rows)).texts == ["t", "kept", "0", "also", "False"]
    assert text_card("t", rows) == "t\n  kept  0\n  also  False"


def test_a_card_for_the_terminal_is_aligned_and_wrapped():
    text = text_card("title", {"a": "x " * 40, "longer name": 5}, note="n " * 40, width=40)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 40
    assert lines[0] == "title"
    assert {line.index("x") for line in lines if "x" in line} == {len("  longer name  ")}
    assert any(line == "  longer name  5" for line in lines)
    assert text_card("only", {}) == "only"


@pytest.mark.parametrize("name", ["geneformer-tiny", "geneformer-v2-104m", "geneformer-12l-95m"])
def test_card_of_a_row(name: str):
    spec = glm.models.get(name)
    texts = accessible(spec._repr_html_()).texts
    assert texts[0] == f"Model {name}"
    assert f"{spec.shape.n_parameters:,}" in texts
    assert spec.source in texts
    assert not spec.note or texts[-1] == spec.note


def test_card_of_a_loaded_model_and_its_vocabulary(make_model):
    model = make_model(v2=True)
    texts = accessible(model._repr_html_()).texts
    assert texts[0] == "Loaded model small-v2"
    assert {"unsaved", model.vocabulary.sha256} <= set(texts)
    texts = accessible(model.vocabulary._repr_html_()).texts
    assert texts[0] == "Vocabulary small-v2"
    assert "<pad> 0, <mask> 1, <cls> 2, <eos> 3" in texts
    assert "32 tokens, 30 of them genes" in texts


def test_card_of_a_report():
    adata = glm.datasets.toy_cells(n_cells=5)
    adata.var_names = [NASTY, *adata.var_names[1:]]
    report = glm.pp.check(adata, "geneformer-tiny")
    read = accessible(report._repr_html_())
    assert read.texts[1:5] == ["finding", "severity", "found", "remedy"]
    assert any(NASTY in text for text in read.texts)


@pytest.mark.parametrize("name", ["geneformer-tiny", "dnabert-tiny", "enformer-tiny"])
def test_a_loaded_model_prints_as_a_card(name):
    """Not as all of its layers and tables."""
    lines = repr(glm.models.load(name)).splitlines()
    assert lines[0] == f"Loaded model {name}"
    assert len(lines) < 30
    assert any(line.split()[:3] == ["sha256", "of", "weights"] for line in lines)
