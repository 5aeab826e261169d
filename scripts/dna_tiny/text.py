"""The text that the models learn from, cleaned of what any held-out sequence holds too."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dna_tiny.shared_words import WORD, WordSet
from glm.bases import N, to_codes
from glm.io import read_tfrecords

WINDOWS = "enformer/tiny/hg38"
TRAINING_TABLES = (
    "gue/tf/0",
    "gue/tf/1",
    "gue/tf/2",
    "gue/prom/prom_300_tata",
    "gue/prom/prom_core_all",
    "gue/prom/prom_core_tata",
)
HELD_OUT_TABLES = (*TRAINING_TABLES, "gue/splice", "gue/mouse/0", "gue/mouse/3")
LEAST = 50
"""Bases of the shortest stretch that is kept."""


def data_dir() -> Path:
    """Where the data are that the models are made from."""
    default = Path(__file__).resolve().parents[3] / "shared" / "data"
    return Path(os.environ.get("GLM_TEST_DATA", default))


@dataclass(frozen=True, eq=False)
class Text:
    """Stretches of known bases, end to end.

    ``codes`` uint8 (A 0, C 1, G 2, T 3), ``offsets`` int64 (stretches + 1), and how many of the
    stretches, the first ones, come from genome windows.
    """

    codes: np.ndarray
    offsets: np.ndarray
    n_from_windows: int

    @property
    def lengths(self) -> np.ndarray:
        """Bases of each stretch."""
        return np.diff(self.offsets)


def read_windows(part: str) -> list[np.ndarray]:
    """Codes of the hg38 windows of ``train``, ``valid`` or ``test``, in the order of the set."""
    folder = data_dir() / WINDOWS
    facts = json.loads((folder / "statistics.json").read_text(encoding="utf-8"))
    files = (folder / "tfrecords").glob(f"{part}-*.tfr")
    paths = sorted(files, key=lambda path: int(path.stem.split("-")[1]))
    records = read_tfrecords(paths, length_bp=facts["seq_length"], n_tracks=facts["num_targets"])
    return [record.codes for record in records]


def read_table(folder: str, part: str) -> list[np.ndarray]:
    """Codes of the sequences of a GUE table."""
    with open(data_dir() / folder / f"{part}.csv", encoding="utf-8", newline="") as file:
        return [to_codes(row["sequence"]) for row in csv.DictReader(file)]


def held_out() -> list[np.ndarray]:
    """Every sequence that a model may be held to later: all dev and test sequences."""
    sequences = [*read_windows("valid"), *read_windows("test")]
    for folder in HELD_OUT_TABLES:
        sequences += read_table(folder, "dev") + read_table(folder, "test")
    return sequences


def training_text() -> tuple[Text, dict[str, int]]:
    """The cleaned text, and what was left out of it."""
    words = WordSet(end_to_end(held_out()))
    windows = read_windows("train")
    stretches = [piece for window in windows for piece in clean_stretches(window, words)]
    n_from_windows = len(stretches)
    kept_bases = sum(piece.size for piece in stretches)
    rows = [row for folder in TRAINING_TABLES for row in read_table(folder, "train")]
    distinct = list({row.tobytes(): row for row in rows}.values())
    clean = [row for row in clean_rows(distinct, words) if row.size >= LEAST]
    stretches += [piece for row in clean for piece in known_stretches(row)]
    counts = {
        "held_out_words": len(words),
        "windows": len(windows),
        "bases_of_windows": sum(window.size for window in windows),
        "bases_of_windows_kept": kept_bases,
        "stretches_of_windows": n_from_windows,
        "rows": len(rows),
        "rows_distinct": len(distinct),
        "rows_kept": len(clean),
        "bases_of_rows_kept": sum(row.size for row in clean),
    }
    offsets = np.concatenate([[0], np.cumsum([piece.size for piece in stretches])])
    return Text(np.concatenate(stretches), offsets.astype(np.int64), n_from_windows), counts


def clean_stretches(codes: np.ndarray, words: WordSet) -> list[np.ndarray]:
    """What is left of a window when every shared word is cut out, unknown bases too."""
    return known_stretches(np.where(words.covered(codes), N, codes).astype(np.uint8))


def clean_rows(rows: list[np.ndarray], words: WordSet) -> list[np.ndarray]:
    """The rows that hold no shared word."""
    if not rows:
        return []
    shared = words.shared(end_to_end(rows))
    starts = np.concatenate([[0], np.cumsum([row.size + 1 for row in rows])])
    found = np.add.reduceat(shared.astype(np.int64), starts[:-1])
    return [row for row, count in zip(rows, found, strict=True) if not count]


def known_stretches(codes: np.ndarray) -> list[np.ndarray]:
    """Runs of known bases that are long enough."""
    known = np.concatenate([[False], codes != N, [False]])
    edges = np.flatnonzero(known[1:] != known[:-1]).reshape(-1, 2)
    return [codes[a:b] for a, b in edges.tolist() if b - a >= LEAST]


def end_to_end(sequences: Iterable[np.ndarray]) -> np.ndarray:
    """All sequences in one array, an unknown base after each, so that no word spans two."""
    gap = np.array([N], np.uint8)
    return np.concatenate([part for codes in sequences for part in (codes, gap)])


__all__ = ["LEAST", "WORD", "Text", "held_out", "read_table", "read_windows", "training_text"]
