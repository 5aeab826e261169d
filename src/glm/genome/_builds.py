"""Builds told apart by the lengths of their chromosomes, and the other names those go by.

The facts (lengths, and NCBI's accessions with their versions) are those of UCSC's tables of
chromosomes and NCBI's reports of the assemblies GRCh37, GRCh38 and GRCm38, as bioframe's tables
have them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

UCSC_HG19_M, REVISED_M = 16_571, 16_569
"""Bases of the mitochondrion: UCSC's hg19 has NC_001807.4, all later ones NC_012920.1."""
UCSC_HG19_M_ACCESSION = "NC_001807.4"

_HUMAN = (*map(str, range(1, 23)), "X", "Y")
_MOUSE = (*map(str, range(1, 20)), "X", "Y")


@dataclass(frozen=True)
class Build:
    """A published assembly: its main chromosomes by their short name (1, X)."""

    name: str
    lengths: Mapping[str, int]
    accessions: Mapping[str, str]
    mitochondrion: tuple[int, ...]
    pattern: str  # how people write its name


def _build(
    name: str,
    chromosomes: tuple[str, ...],
    lengths: str,
    first_accession: int,
    versions: str,
    mitochondrion: tuple[str, tuple[int, ...]],
    pattern: str,
) -> Build:
    numbers = [int(length) for length in lengths.split()]
    accessions = {
        f"NC_{first_accession + i:06d}.{version}": chromosome
        for i, (chromosome, version) in enumerate(zip(chromosomes, versions.split(), strict=True))
    }
    accessions[mitochondrion[0]] = "MT"
    table = dict(zip(chromosomes, numbers, strict=True))
    return Build(name, table, accessions, mitochondrion[1], pattern)


BUILDS = {
    build.name: build
    for build in (
        _build(
            "hg19",
            _HUMAN,
            "249250621 243199373 198022430 191154276 180915260 171115067 159138663 146364022 "
            "141213431 135534747 135006516 133851895 115169878 107349540 102531392 90354753 "
            "81195210 78077248 59128983 63025520 48129895 51304566 155270560 59373566",
            1,
            "10 11 11 11 9 11 13 10 11 10 9 11 10 8 9 9 10 9 9 10 8 10 10 9",
            ("NC_012920.1", (UCSC_HG19_M, REVISED_M)),
            r"(hg19|grch37|b37|hs37d5)",
        ),
        _build(
            "hg38",
            _HUMAN,
            "248956422 242193529 198295559 190214555 181538259 170805979 159345973 145138636 "
            "138394717 133797422 135086622 133275309 114364328 107043718 101991189 90338345 "
            "83257441 80373285 58617616 64444167 46709983 50818468 156040895 57227415",
            1,
            "11 12 12 12 10 12 14 11 12 11 10 12 11 9 10 10 11 10 10 11 9 11 11 10",
            ("NC_012920.1", (REVISED_M,)),
            r"(hg38|grch38)",
        ),
        _build(
            "mm10",
            _MOUSE,
            "195471971 182113224 160039680 156508116 151834684 149736546 145441459 129401213 "
            "124595110 130694993 122082543 120129022 120421639 124902244 104043685 98207768 "
            "94987271 90702639 61431566 171031299 91744698",
            67,
            "6 7 6 6 6 6 6 6 6 6 6 6 6 6 6 6 6 6 6 7 7",
            ("NC_005089.1", (16_299,)),
            r"(mm10|grcm38)",
        ),
    )
}
"""The genomes that can be fetched, by UCSC's name."""


def build_of(text: str) -> str:
    """UCSC's name of what people call ``GRCh38.p13``, ``hg38`` or ``b37``; ``""`` of others.

    Parameters
    ----------
    text
        What an object, a file or a person calls a genome.

    Returns
    -------
    ``"hg19"``, ``"hg38"``, ``"mm10"``, or ``""`` for any other.
    """
    for name, build in BUILDS.items():
        if re.fullmatch(rf"{build.pattern}([._\- ].*)?", str(text).strip(), re.IGNORECASE):
            return name
    return ""


def short_name(contig: str) -> str:
    """What all spellings of a chromosome have in common: chr1, 1 and NC_000001.11 are ``1``."""
    for build in BUILDS.values():
        if contig in build.accessions:
            return build.accessions[contig]
    if contig == UCSC_HG19_M_ACCESSION:
        return "MT"
    bare = contig[3:] if contig[:3].lower() == "chr" else contig
    if bare.upper() in ("M", "MT"):
        return "MT"
    return bare.upper() if bare.upper() in ("X", "Y") else bare


def detect_build(contigs: Mapping[str, int]) -> str:
    """The build that all main chromosomes among these have the lengths of, or ``""``."""
    own = {short_name(name): length for name, length in contigs.items()}
    for name, build in BUILDS.items():
        shared = own.keys() & build.lengths.keys()
        if shared and all(own[chromosome] == build.lengths[chromosome] for chromosome in shared):
            return name
    return ""


def check_name(name: str, contigs: Mapping[str, int]) -> str:
    """The name a genome goes by: the given one if its contigs do not contradict it.

    Parameters
    ----------
    name
        What the user calls it; ``""`` for what the lengths tell.
    contigs
        Names and lengths.

    Raises
    ------
    ValueError
        If it is called by a build's name and has lengths of another build, or of none.
    """
    found, asked = detect_build(contigs), build_of(name)
    if not name or (found and found == asked):
        return found
    if not asked:
        return name
    expected = BUILDS[asked].lengths
    wrong = [
        f"{contig} has {length:,} bases, in {asked} {expected[short_name(contig)]:,}"
        for contig, length in contigs.items()
        if expected.get(short_name(contig), length) != length
    ]
    if found:
        raise ValueError(
            f"This genome is called {name!r}, but its contigs have the lengths of {found}: "
            f"{wrong[0]}. Pass name={found!r}, or the file of {asked}."
        )
    if wrong:
        raise ValueError(
            f"This genome is called {name!r}, but it is not {asked}: {wrong[0]}. If it is a part "
            f"of {asked} or was made up, call it something else, or leave name out."
        )
    return asked


def which_mitochondrion(contigs: Mapping[str, int]) -> str:
    """Which of the two mitochondria that go by hg19 is among these contigs; ``""`` of others."""
    if detect_build(contigs) != "hg19":
        return ""
    which = {UCSC_HG19_M: f"{UCSC_HG19_M_ACCESSION}, UCSC's", REVISED_M: "NC_012920.1, GRCh37's"}
    found = {name: length for name, length in contigs.items() if short_name(name) == "MT"}
    return "; ".join(
        f"{name}: {length:,} bases ({which.get(length, 'neither')})"
        for name, length in found.items()
    )
