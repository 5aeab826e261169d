"""FASTA files through pyfaidx, with one open file for each process.

A file that forked workers share has one position for all of them, and reads the wrong bases without
an error. pyfaidx also shortens what goes beyond an end and counts negative starts from the end; so
it is only ever asked for what is there.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bases import N, reverse_complement, to_codes
from ._fasta_index import index_of
from ._layout import Pieces
from ._records import lower_case

GZIP = b"\x1f\x8b"


class Fasta:
    """A FASTA file, plain or compressed with bgzip.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    ValueError
        If it is empty, plainly gzipped, has two sequences of one name, or is no FASTA.
    ImportError
        If it is compressed with bgzip and Biopython is not installed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        _check(path)
        self._compressed = _is_gzip(path)
        self._process = -1
        self._file: Any = None
        index = self._open().index
        empty = [name for name, record in index.items() if not record.rlen]
        if empty:
            raise ValueError(f"{path}: {empty[0]!r} has no bases. Remove it from the file.")
        self.lengths = {name: int(record.rlen) for name, record in index.items()}

    def _open(self) -> Any:
        """This process's own file."""
        if self._process != os.getpid():
            import pyfaidx

            index, blocks = index_of(self.path, compressed=self._compressed)
            names = {} if blocks is None else {"gzi_indexname": str(blocks)}
            self._file = pyfaidx.Faidx(
                str(self.path), indexname=str(index), as_raw=True, rebuild=False, **names
            )
            self._process = os.getpid()
        return self._file

    def _text(self, name: str, start: int, end: int) -> str:
        text = self._open().fetch(name, int(start) + 1, int(end))
        if len(text) != end - start:
            raise OSError(
                f"{self.path} gave {len(text):,} bases for {name}:{start:,}-{end:,}: it was "
                "changed, or its lines differ in length. Delete its .fai and open it again."
            )
        return text

    def _codes(self, name: str, start: int, end: int) -> NDArray[np.uint8]:
        try:
            return to_codes(self._text(name, start, end))
        except ValueError as error:
            raise ValueError(
                f"In {name}:{start:,}-{end:,} of {self.path}, positions counted from {start:,}: "
                f"{error}"
            ) from None

    def read(self, name: str, pieces: Pieces, out: NDArray[np.uint8]) -> None:
        """Write the codes of pieces of one sequence to their places in ``out``."""
        length = self.lengths[name]
        columns = (column.tolist() for column in pieces)
        for start, end, back, place in zip(*columns, strict=True):
            goal = out[place : place + end - start]
            left, right = max(start, 0), min(end, length)
            if right <= left or left > start or right < end:
                goal[:] = N
            if right > left:
                goal[left - start : right - start] = self._codes(name, left, right)
            if back:
                goal[:] = reverse_complement(goal)

    def masked(self, name: str) -> NDArray[np.int64]:
        """Runs in lower case: starts and ends. Reads the whole sequence."""
        return lower_case(self._text(name, 0, self.lengths[name]))

    def head(self) -> bytes:
        """What decides names and lengths: the index."""
        return repr(sorted(self.lengths.items())).encode()

    def close(self) -> None:
        """Close this process's file."""
        if self._file is not None and self._process == os.getpid():
            self._file.close()
        self._process, self._file = -1, None


def _is_gzip(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == GZIP


def _check(path: Path) -> None:
    with open(path, "rb") as file:
        start = file.read(18)
    if not start:
        raise ValueError(f"{path} is empty. Fetch or write it again.")
    if start[:2] != GZIP:
        if path.suffix.lower() in (".gz", ".bgz"):
            raise ValueError(f"{path} is not compressed: take {path.suffix} off its name.")
        return
    if not (start[3] & 4 and start[12:14] == b"BC"):
        raise ValueError(
            f"{path} is compressed with gzip, which cannot be read from the middle. Unpack it "
            f"(gunzip -k {path.name}), or compress it with bgzip instead of gzip."
        )
    if path.suffix.lower() not in (".gz", ".bgz"):
        raise ValueError(f"{path} is compressed with bgzip: let its name end with .gz.")
    try:
        import Bio.bgzf  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"{path} is compressed with bgzip, which pyfaidx reads with Biopython: `pip install "
            '"genomic-lm[bgzip]"`, or unpack it.'
        ) from error
