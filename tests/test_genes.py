"""Names of genes: a table of hand-checked ones, and what holds for any."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glm.genes import GeneMap, looks_like_ids, map_names
from glm.models import GeneVocabulary

ACTB = "ENSG00000075624"
GAPDH = "ENSG00000111640"
ENSA = "ENSG00000143420"
FIRRM = "ENSG00000000460"  # C1orf112
MARCHF1 = "ENSG00000145416"  # MARCH1
CLONE = "ENSG00000225840"  # AC010970.1, a symbol with a dot in it
CD99, CD99_Y = "ENSG00000002586", "ENSGR0000002586"
OUTSIDE = "ENSG00000251562"  # MALAT1
RETIRED = "ENSG00000155640"

GENES = tuple(sorted([ACTB, GAPDH, ENSA, FIRRM, MARCHF1, CLONE, CD99, CD99_Y]))
VOCABULARY = GeneVocabulary(
    name="by hand",
    ids=GENES,
    tokens=np.arange(2, 2 + len(GENES), dtype=np.int32),
    medians=np.ones(len(GENES)),
    special={"pad": 0, "mask": 1},
    context=8,
    symbols={
        "ACTB": ACTB,
        "GAPDH": GAPDH,
        "ENSA": ENSA,
        "FIRRM": FIRRM,
        "MARCHF1": MARCHF1,
        "AC010970.1": CLONE,
        "CD99": CD99,
        "MALAT1": OUTSIDE,
    },
    aliases={"C1ORF112": FIRRM, "MARCH1": MARCHF1, RETIRED: GAPDH, "CXORF40A": ACTB},
)
# The same of an authors' set without the Y copies.
WITHOUT_Y = dataclasses.replace(
    VOCABULARY,
    ids=tuple(gene for gene in GENES if gene != CD99_Y),
    tokens=np.arange(2, 1 + len(GENES), dtype=np.int32),
    medians=np.ones(len(GENES) - 1),
)

TABLE = [
    # Ensembl ids
    (ACTB, ACTB, "id"),
    (f" {ACTB} ", ACTB, "id"),
    (ACTB.lower(), ACTB, "id"),
    (OUTSIDE, OUTSIDE, "id"),
    (f"{ACTB}.12", ACTB, "versioned"),
    (f"{ACTB.lower()}.1", ACTB, "versioned"),
    (RETIRED, GAPDH, "retired"),
    (f"{RETIRED}.4", GAPDH, "retired"),
    (CD99, CD99, "id"),
    (f"{CD99}.10_PAR_Y", CD99_Y, "par_y"),
    (f"{CD99}_PAR_Y", CD99_Y, "par_y"),
    (CD99_Y, CD99_Y, "id"),
    (f"{CD99_Y}.3", CD99_Y, "versioned"),
    (f"{ACTB}_PAR_Y", "", "par_y"),  # no such gene: never that on X
    # not quite
    (ACTB[:-1], "", "unknown"),
    (f"{ACTB}0", "", "unknown"),
    (f"{ACTB}.", "", "unknown"),
    (f"{ACTB}.x", "", "unknown"),
    (f"{ACTB}|ACTB", "", "unknown"),
    # features and other species
    ("ENST00000331789", "", "transcript"),
    ("ENST00000331789.5", "", "transcript"),
    ("ENSP00000349960", "", "transcript"),
    ("ENSMUST00000100497", "", "transcript"),
    ("ENSMUSG00000029580", "", "other_species"),
    ("ENSMUSG00000029580.14", "", "other_species"),
    ("ENSDARG00000037746", "", "other_species"),
    # symbols, as they are written and as a whole
    ("ACTB", ACTB, "symbol"),
    ("ENSA", ENSA, "symbol"),
    ("AC010970.1", CLONE, "symbol"),
    ("AC010970.2", "", "unknown"),
    ("AC000068.10", "", "unknown"),
    ("ACTB.1", "", "unknown"),
    ("ENSG", "", "unknown"),
    ("actb", "", "unknown"),
    ("MALAT1", OUTSIDE, "symbol"),
    # older symbols
    ("MARCH1", MARCHF1, "alias"),
    ("C1orf112", FIRRM, "alias"),
    ("C1ORF112", FIRRM, "alias"),
    ("CXorf40A", ACTB, "alias"),
    ("C9orf9999", "", "unknown"),
    ("March1", "", "unknown"),
    # what a spreadsheet makes of MARCH1 and SEPT2
    ("Mar-01", "", "date"),
    ("1-Mar", "", "date"),
    ("01-mar-19", "", "date"),
    ("Sep-02", "", "date"),
    ("2-SEPT", "", "date"),
    ("2001-03-01", "", "date"),
    ("2001-03-01 00:00:00", "", "date"),
    ("Marc-01", "", "unknown"),
]


def of_many(name: str, vocabulary: GeneVocabulary = VOCABULARY, **options) -> tuple[str, str]:
    """Id and kind of a name that stands among enough others for no share to be reached."""
    rest = ["GAPDH"] * 9
    found = map_names([name, *rest], vocabulary, **options)
    ((kind, n),) = {
        kind: n - 9 * (kind == "symbol")
        for kind, n in found.kinds.items()
        if n != 9 * (kind == "symbol")
    }.items()
    assert n == 1
    assert name in found.examples[kind]
    return found.ids[0], kind


@pytest.mark.parametrize(("name", "gene", "kind"), TABLE, ids=[repr(row[0]) for row in TABLE])
def test_hand_checked_names(name: str, gene: str, kind: str):
    assert of_many(name) == (gene, kind)
    position = map_names([name, *["GAPDH"] * 9], VOCABULARY).position[0]
    assert position == (GENES.index(gene) if gene in GENES else -1)


@pytest.mark.parametrize("name", [f"{CD99}.10_PAR_Y", f"{CD99}_PAR_Y", f"{CD99.lower()}_par_y"])
def test_the_y_copy_is_no_gene_where_the_vocabulary_has_none(name: str):
    found = map_names([name, CD99], WITHOUT_Y)
    assert found.ids.tolist() == ["", CD99]
    assert found.n_shared == 0


@pytest.mark.parametrize("name", ["ACTB", "MARCH1", "C1orf112"])
def test_symbols_only_where_they_are_asked_for(name: str):
    found = map_names([name, GAPDH], VOCABULARY, symbols=False)
    assert found.ids.tolist() == ["", GAPDH]
    assert found.kinds == {"unknown": 1, "id": 1}


# ---- reports ------------------------------------------------------------------------------------


def test_counts_of_a_map():
    names = [ACTB, f"{ACTB}.1", "MALAT1", "nobody", "ACTB", RETIRED, GAPDH]
    found = map_names(names, VOCABULARY)
    assert found.ids.tolist() == [ACTB, ACTB, OUTSIDE, "", ACTB, GAPDH, GAPDH]
    assert found.target.tolist() == [0, 0, -1, -1, 0, 5, 5]
    assert found.kinds == {"id": 2, "versioned": 1, "symbol": 2, "unknown": 1, "retired": 1}
    assert (found.n_in_vocabulary, found.n_genes, found.n_shared) == (5, 2, 3)
    assert found.shared_names(names) == [f"{ACTB}.1", "ACTB", GAPDH]
    assert found.examples["symbol"] == ["MALAT1", "ACTB"]
    assert (found.position.dtype, found.target.dtype) == (np.int32, np.int32)


def test_examples_are_few():
    found = map_names([f"nobody-{i}" for i in range(50)] + [ACTB] * 9, VOCABULARY)
    assert found.examples["unknown"] == [f"nobody-{i}" for i in range(5)]
    assert found.kinds["unknown"] == 50


def test_no_names():
    found = map_names([], VOCABULARY)
    assert found.ids.size == found.position.size == found.n_genes == 0


@pytest.mark.parametrize("name", [None, np.nan, "", "  ", 5], ids=repr)
def test_missing_names_are_refused(name: object):
    with pytest.raises(ValueError, match=r"1 of 3 .* missing or not text \(first at columns 1:"):
        map_names([ACTB, name, GAPDH], VOCABULARY)


# ---- species ------------------------------------------------------------------------------------

MOUSE = ["Actb", "Gapdh", "Cd4", "Rpl13a", "mt-Nd1", "Hbb-bs", "Malat1"]


def test_mouse_symbols_are_refused():
    with pytest.raises(ValueError, match=r"7 of 7 \(100%\) .* of another species .*human.*: Actb"):
        map_names(MOUSE, VOCABULARY)


def test_mouse_ids_are_refused():
    with pytest.raises(ValueError, match=r"4 of 8 \(50%\) .* another species .*ENSMUSG00000000001"):
        map_names([f"ENSMUSG{i:011d}" for i in range(1, 5)] + [ACTB] * 4, VOCABULARY)


def test_a_few_of_another_species_are_left_out():
    """As in objects of two species: below the limit they are only no genes."""
    found = map_names(["ENSMUSG00000029580", "Actb", *[ACTB] * 8], VOCABULARY)
    assert found.kinds == {"other_species": 1, "unknown": 1, "id": 8}
    assert found.n_in_vocabulary == 8


def test_upper_case_symbols_of_nobody_are_not_taken_for_mouse():
    found = map_names([f"GENE{i}" for i in range(20)], VOCABULARY)
    assert found.kinds == {"unknown": 20}


def test_mouse_symbols_never_become_human_genes(test_data: Path):
    published = GeneVocabulary.from_dictionaries(test_data / "geneformer", "gc104M")
    found = map_names([*MOUSE, *["ACTB"] * 30], published)
    assert set(found.ids[: len(MOUSE)]) == {""}


# ---- published dictionaries ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "symbol"),
    [
        ("MARCH1", "MARCHF1"),
        ("C1orf112", "FIRRM"),
        ("ENSA", "ENSA"),
        ("GATA4", "GATA4"),
        ("ensg00000136574.12", "GATA4"),
    ],
)
def test_names_in_the_published_dictionaries(test_data: Path, name: str, symbol: str):
    published = GeneVocabulary.from_dictionaries(test_data / "geneformer", "gc104M")
    found = map_names([name], published)
    assert found.ids[0] == published.symbols[symbol]
    assert found.n_in_vocabulary == 1


@pytest.mark.parametrize("name", ["gc30M", "gc104M"])
def test_every_gene_of_a_published_vocabulary_is_itself(test_data: Path, name: str):
    published = GeneVocabulary.from_dictionaries(test_data / "geneformer", name)
    for variant in (published.ids, [gene.lower() + ".3" for gene in published.ids]):
        found = map_names(list(variant), published)
        assert (found.position == np.arange(len(published.ids))).all()
        assert found.n_shared == 0


# ---- what holds for any names -------------------------------------------------------------------

NAMES = st.one_of(
    st.sampled_from([row[0] for row in TABLE if row[2] != "other_species"]),
    st.sampled_from(GENES).map(lambda gene: f"{gene}.7"),
    st.text(min_size=1).filter(str.strip),
)


def mapped(names: list[str]) -> GeneMap:
    """The map of the names, after enough known ones for no share of another species."""
    return map_names([*names, *["GAPDH"] * (4 * len(names))], VOCABULARY)


@settings(max_examples=200, deadline=None)
@given(st.lists(NAMES, min_size=1, max_size=25))
def test_ids_positions_and_targets_agree(names: list[str]):
    found = mapped(names)
    position, target = found.position, found.target
    columns = np.arange(position.size)
    for gene, place in zip(found.ids, position.tolist(), strict=True):
        assert place == VOCABULARY.index.get(gene, -1)
    assert ((target >= 0) == (position >= 0)).all()
    inside = position >= 0
    assert (target[inside] <= columns[inside]).all()
    assert (target[target[inside]] == target[inside]).all()
    assert (position[target[inside]] == position[inside]).all()
    firsts = inside & (target == columns)
    assert np.unique(position[firsts]).size == firsts.sum() == found.n_genes
    assert sum(found.kinds.values()) == columns.size
    assert found.n_in_vocabulary == found.n_genes + found.n_shared
    assert len(found.shared_names(list(map(str, columns)))) == found.n_shared


@settings(max_examples=100, deadline=None)
@given(st.lists(NAMES, min_size=1, max_size=25), st.randoms(use_true_random=False))
def test_order_of_the_names_does_not_matter(names: list[str], random):
    names = [*names, *["GAPDH"] * (4 * len(names))]
    order = list(range(len(names)))
    random.shuffle(order)
    one = map_names(names, VOCABULARY)
    other = map_names([names[i] for i in order], VOCABULARY)
    assert other.ids.tolist() == one.ids[order].tolist()
    assert other.position.tolist() == one.position[order].tolist()
    assert other.kinds == one.kinds
    # The same columns share a gene, whichever of them comes first.
    for i in range(len(order)):
        for j in range(i):
            together = one.position[order[i]] == one.position[order[j]] >= 0
            assert (other.target[i] == other.target[j] >= 0) == together


@pytest.mark.parametrize(
    ("names", "are_ids"),
    [
        (GENES, True),
        ([f"{gene}.3" for gene in GENES], True),
        (["ENSA", "ENSAP2", "ENSG"], False),
        (["ENSMUSG00000029580"] * 3, False),
        ([ACTB, "ACTB", "ACTB"], False),
        ([], False),
        ([1, 2, None], False),
        ([*["ACTB"] * 20, *GENES * 9], False),
    ],
)
def test_looks_like_ids(names: list[object], are_ids: bool):
    assert looks_like_ids(names) is are_ids
