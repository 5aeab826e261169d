"""Lengths, frequencies and GC of a vocabulary, by the heights of what is drawn."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import glm
from glm.encode import BytePairs, vocabulary_table

PAIRS = BytePairs.from_merges([("A", "A"), ("C", "G"), ("AA", "CG")])


def heights(ax) -> list[list[float]]:
    return [[bar.get_height() for bar in group] for group in ax.containers]


def test_with_use():
    table = vocabulary_table(PAIRS.pieces, np.array([9, 9, 5, 11]))
    lengths, frequencies, gc = glm.pl.vocabulary(table, show=False)
    alone, use = heights(lengths)
    assert alone == pytest.approx([4 / 7, 2 / 7, 0, 1 / 7])
    assert use == pytest.approx([0.25, 0.5, 0, 0.25])
    assert lengths.get_title(loc="left") == "mean 1.71 bases, in the sequence 2.25"
    (line, _) = frequencies.lines
    assert line.get_ydata().tolist() == [0.5, 0.25, 0.25]
    assert "AA, A, AACG; 4 not used" in frequencies.get_title(loc="left")
    alone, use = heights(gc)
    assert use == pytest.approx([0.75, 0, 0, 0, 0, 0.25, 0, 0, 0, 0])
    assert sum(alone) == pytest.approx(1)
    assert "in the sequence 22%" in gc.get_title(loc="left")


def test_without_use():
    lengths, gc = glm.pl.vocabulary(PAIRS, show=False)
    assert len(lengths.containers) == len(gc.containers) == 1
    nothing = vocabulary_table(PAIRS.pieces, np.array([], np.int32))
    assert len(glm.pl.vocabulary(nothing, show=False)) == 2


def test_long_tokens_share_a_bar():
    table = pd.DataFrame({"token": ["A", "A" * 300], "length": [1, 300], "gc": [0.0, 0.0]})
    lengths, _ = glm.pl.vocabulary(table, show=False)
    assert heights(lengths)[0][-1] == 0.5
    assert "40 and more" in lengths.get_xlabel()


def test_saved(tmp_path):
    glm.pl.vocabulary(PAIRS, show=False, save=tmp_path / "vocabulary.png")
    assert (tmp_path / "vocabulary.png").stat().st_size > 1000


@pytest.mark.parametrize("table", [pd.DataFrame({"token": ["A"]}), vocabulary_table(["[UNK]"])])
def test_what_is_no_table(table):
    with pytest.raises(ValueError, match=r"glm\.encode\.vocabulary_table"):
        glm.pl.vocabulary(table, show=False)
