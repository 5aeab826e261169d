"""Files that hold sequences: which reader a file needs, and whether it is still the same file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ._builds import BUILDS, build_of
from ._fasta import GZIP, Fasta
from ._layout import Pieces
from ._twobit import SIGNATURE, TwoBit

_MAGIC = {SIGNATURE.to_bytes(4, "little"), SIGNATURE.to_bytes(4, "big")}


class Source(Protocol):
    """Where sequences are kept: names, lengths, and codes of stretches."""

    lengths: dict[str, int]

    def read(self, name: str, pieces: Pieces, out: NDArray[np.uint8]) -> None:
        """Write the codes of pieces of one sequence to their places in ``out``."""

    def masked(self, name: str) -> NDArray[np.int64]:
        """Starts and ends of runs in lower case."""

    def head(self) -> bytes:
        """What decides names and lengths, for a fingerprint."""

    def close(self) -> None:
        """Let go of what is open."""


def open_source(path: Path) -> Source:
    """The reader of a file, by its content: a 2bit file of another name is one."""
    with open(path, "rb") as file:
        start = file.read(4)
    if start in _MAGIC:
        return TwoBit(path)
    is_fasta = start[:2] == GZIP or start[:1] in (b">", b";")
    # What is neither gets the error of what its name says it is.
    return TwoBit(path) if path.suffix.lower() == ".2bit" and not is_fasta else Fasta(path)


def existing(source: str | os.PathLike[str]) -> Path:
    """The path, if there is such a file."""
    path = Path(os.path.abspath(Path(source).expanduser()))  # workers may run in another folder
    if path.is_file():
        return path
    build = build_of(str(source))
    hint = f" Did you mean glm.Genome({build!r})?" if build else ""
    raise FileNotFoundError(
        f"There is no file {path}.{hint} Published genomes go by {', '.join(BUILDS)}; everything "
        "else is the path of a 2bit or FASTA file."
    )


def stamp(path: Path) -> tuple[int, int]:
    """Size and time of change."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns
