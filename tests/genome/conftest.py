"""Sequences with everything in them: N, lower case, all four places in a byte, a single base."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest


def random_text(rng: np.random.Generator, length: int) -> str:
    """Letters with runs of N and of lower case."""
    letters = np.frombuffer(b"ACGT", np.uint8)[rng.integers(0, 4, length)]
    for _ in range(length // 60 + 1):
        start = int(rng.integers(0, length))
        stop = start + int(rng.integers(1, 40))
        letters[start:stop] = ord("N") if rng.random() < 0.4 else letters[start:stop] | 0x20
    return letters.tobytes().decode()


@pytest.fixture(scope="session")
def sequences() -> dict[str, str]:
    rng = np.random.default_rng(3)
    lengths = {"chr1": 1003, "chr2": 400, "chrM": 61, "scaffold_7": 4, "tiny": 1}
    texts = {name: random_text(rng, length) for name, length in lengths.items()}
    return texts | {"nothing": "N" * 30, "chrX": "ACGTacgtNNNNnnnnACGT"}


FORMS = ("2bit", "2bit big-endian", "2bit version 1", "fasta", "fasta crlf", "bgzip", "dict")


@pytest.fixture(scope="session")
def make_source(
    tmp_path_factory: pytest.TempPathFactory, write_two_bit, write_fasta
) -> Callable[[str, dict[str, str]], Path | dict[str, str]]:
    """Put sequences in one of the forms a genome takes."""

    def make(form: str, texts: dict[str, str]) -> Path | dict[str, str]:
        folder = tmp_path_factory.mktemp("genome")
        if form == "dict":
            return texts
        if form.startswith("2bit"):
            order, version = ">" if "big" in form else "<", int("version 1" in form)
            return write_two_bit(folder / "made.2bit", texts, order=order, version=version)
        if form == "bgzip":
            return write_fasta(folder / "made.fa.gz", texts)
        return write_fasta(folder / "made.fa", texts, line_end="\r\n" if "crlf" in form else "\n")

    return make


@pytest.fixture(params=FORMS)
def source(request, make_source, sequences):
    return make_source(request.param, sequences)


_COMPLEMENT = str.maketrans("ACGTN", "TGCAN")


@pytest.fixture(scope="session")
def expected() -> Callable[..., str]:
    """What a stretch reads: a slice of the text, padded, turned round."""

    def slice_of(text: str, start: int, end: int, strand: int = 1) -> str:
        text = text.upper()
        inside = text[max(start, 0) : max(min(end, len(text)), 0)]
        left = min(max(-start, 0), end - start)
        read = "N" * left + inside
        read += "N" * (end - start - len(read))
        return read.translate(_COMPLEMENT)[::-1] if strand < 0 else read

    return slice_of
