"""Genomes: sequences of an assembly as codes, from 2bit, FASTA or memory; builds told apart."""

from __future__ import annotations

from ._builds import build_of, detect_build, short_name
from ._genome import Genome, as_genome
from ._layout import Stretches, Windows

__all__ = [
    "Genome",
    "Stretches",
    "Windows",
    "as_genome",
    "build_of",
    "detect_build",
    "short_name",
]
