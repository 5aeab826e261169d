"""Tables of tracks: the published files, a bundle's, and what is none."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest

from glm.models import TrackModel
from glm.models.track_table import COLUMNS, read_table, read_targets, unnamed_tracks, write_table

HEAD = "index\tgenome\tidentifier\tfile\tclip\tscale\tsum_stat\tdescription\n"
ROWS = [
    '5\t1\tAB1\t/a/b.w5\t32\t2\tmean\tDNASE: a "quoted" name\n',
    "6\t1\tAB2\t/a/c.w5\t384\t1\tsum\tCAGE:NA\n",
    "7\t1\tAB1\t/a/d.w5\t64.5\t4\tmean\tCHIP:H3K4me3:K562\n",
]


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_published_file(tmp_path: Path):
    found = read_targets(write(tmp_path / "targets.txt", HEAD + "".join(ROWS)))
    assert list(found.columns) == list(COLUMNS)
    assert found.index.name == "index"
    assert found.index.tolist() == [0, 1, 2]  # it counts on from another head in the file
    assert found["identifier"].tolist() == ["AB1", "AB2", "AB1"]
    assert found["assay"].tolist() == ["DNASE", "CAGE", "CHIP"]
    assert found["sample"].tolist() == ['a "quoted" name', "NA", "H3K4me3:K562"]
    assert found["aggregation"].tolist() == ["mean", "sum", "mean"]
    assert found["scale"].tolist() == [2.0, 1.0, 4.0]
    assert found["clip"].tolist() == [32.0, 384.0, 64.5]
    assert found["strand_pair"].tolist() == [0, 1, 2]


def test_partners_on_the_other_strand(tmp_path: Path):
    head = HEAD.replace("\tdescription", "\tstrand_pair\tdescription")
    rows = [
        row.replace(f"\t{kind}\t", f"\t{kind}\t{pair}\t")
        for row, kind, pair in zip(ROWS, ("mean", "sum", "mean"), (6, 5, 7), strict=True)
    ]
    found = read_targets(write(tmp_path / "targets.txt", head + "".join(rows)))
    assert found["strand_pair"].tolist() == [1, 0, 2]
    assert found["strand_pair"].dtype == "int64"
    rows[1] = rows[1].replace("\t5\t", "\t7\t")
    with pytest.raises(ValueError, match=r"strand_pair of 2 tracks .* first in row 1 \(1\)"):
        read_targets(write(tmp_path / "targets.txt", head + "".join(rows)))


def test_the_published_tables(test_data: Path):
    human = read_targets(test_data / "enformer" / "targets_human.txt")
    mouse = read_targets(test_data / "enformer" / "targets_mouse.txt")
    assert (len(human), len(mouse)) == (5_313, 1_643)
    assert human["assay"].value_counts().to_dict() == {
        "CHIP": 3_991,
        "DNASE": 674,
        "CAGE": 638,
        "ATAC": 10,
    }
    assert set(human["aggregation"]) == {"mean", "sum"}
    assert (human["assay"] + ":" + human["sample"]).nunique() == 4_925
    assert human["identifier"].is_unique
    assert mouse["identifier"].iloc[0] == "ENCFF866ZTV"
    assert mouse["sample"].iloc[0] == "B6D2F1/J 416B"
    assert mouse.index.tolist() == list(range(1_643))


def test_a_table_comes_back(track_model: TrackModel, tmp_path: Path):
    table = track_model.tables["human"].copy()
    table.loc[0, "sample"] = 'a "name"\twith a tab'
    table.loc[1, "sample"] = "NA"
    table.loc[2, "sample"] = ""
    table.loc[2, "clip"] = float("inf")
    table.loc[3, "scale"] = 0.1 + 0.2
    write_table(table, tmp_path / "tracks.tsv")
    found = read_table(tmp_path / "tracks.tsv")
    pd.testing.assert_frame_equal(found, table, check_index_type=False, check_exact=True)
    unnamed = unnamed_tracks(3)
    write_table(unnamed, tmp_path / "tracks.tsv")
    pd.testing.assert_frame_equal(read_table(tmp_path / "tracks.tsv"), unnamed)


TEXT = HEAD + "".join(ROWS)
FAULTS = {
    "empty": ("", "is no table of tracks"),
    "nothing but a header": (HEAD, "lists 0 tracks"),
    "a page of a web site": ("<html><body>Sign in</body></html>\n", "no column identifier, clip"),
    "commas": (TEXT.replace("\t", ","), "no column identifier"),
    "a column missing": (TEXT.replace("sum_stat", "statistic"), "no column sum_stat"),
    "text for a number": (TEXT.replace("\t384\t", "\thigh\t"), r"clip of 1 tracks .* row 2 \('hi"),
    "cut short": (TEXT[:-22], "row 3 of its tracks is not whole"),
    "a field too many": (TEXT.replace("\tCAGE", "\tx\ty\tCAGE"), "is no table of tracks"),
    "a row missing": (HEAD + ROWS[0] + ROWS[2], "does not count up by one"),
    "another order": (HEAD + ROWS[1] + ROWS[0] + ROWS[2], "does not count up by one"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_no_published_file(tmp_path: Path, fault: str):
    text, said = FAULTS[fault]
    path = write(tmp_path / "targets.txt", text)
    with pytest.raises(ValueError, match=said) as caught:
        read_targets(path)
    assert str(path) in str(caught.value)


def test_bytes_are_no_table(tmp_path: Path):
    path = tmp_path / "targets.txt"
    path.write_bytes(b"\x93NUMPY\x01\x00" + os.urandom(300))
    for read in (read_targets, read_table):
        with pytest.raises(ValueError, match=r"targets\.txt"):
            read(path)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("strand_pair", "partner", "no column strand_pair"),
        ("\n3\t", "\n4\t", "from 0 on"),
        ("\t384.0\t1\n", "\t384.0\t6\n", "strand_pair of 2 tracks"),
        ("\t384.0\t2\n", "\t384.0\t2.5\n", "strand_pair of 1 tracks"),
        ("\t384.0\t2\n", "\t384.0\t-1\n", "strand_pair of 1 tracks"),
        ("\t1.0\t384.0\t2\n", "\t\t384.0\t2\n", r"scale of 1 tracks is no number"),
    ],
)
def test_what_is_no_table_of_a_bundle(
    track_model: TrackModel, tmp_path: Path, old: str, new: str, said: str
):
    write_table(track_model.tables["human"], tmp_path / "tracks.tsv")
    text = (tmp_path / "tracks.tsv").read_text()
    assert text.count(old) == 1
    with pytest.raises(ValueError, match=said):
        read_table(write(tmp_path / "tracks.tsv", text.replace(old, new)))
