"""Names of contigs: which one of a genome is meant by 1, chr1 or NC_000001.11, and when none is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .._messages import counted, first_names
from ._builds import BUILDS, REVISED_M, UCSC_HG19_M, UCSC_HG19_M_ACCESSION, short_name

_SHOWN = 6


class ContigNames:
    """The contigs of a genome under all of their names.

    Parameters
    ----------
    contigs
        Names and lengths.
    build
        The build that the lengths tell, or ``""``.
    """

    def __init__(self, contigs: Mapping[str, int], build: str) -> None:
        self._contigs, self._build = contigs, build
        self._by_short: dict[str, list[str]] = {}
        for name in contigs:
            self._by_short.setdefault(short_name(name), []).append(name)

    def find(self, name: object) -> str:
        """The genome's own name of a contig, or ``""`` if it has none of that name.

        Raises
        ------
        ValueError
            If several contigs could be meant, if it is a contig of another build, or if it is
            another mitochondrion.
        """
        text = str(name)
        if text in self._contigs:
            return text
        self._refuse_other_build(text)
        found = self._by_short.get(short_name(text), [])
        if len(found) > 1:
            raise ValueError(
                f"{text!r} could be any of {', '.join(found)}: name the one that is meant."
            )
        if found and short_name(text) == "MT":
            self._refuse_other_mitochondrion(text, found[0])
        return found[0] if found else ""

    def find_all(self, names: Iterable[object]) -> list[str]:
        """The genome's own names, in that order.

        Raises
        ------
        ValueError
            As :meth:`find`, and if there is no such contig; the message shows both lists.
        """
        asked = [str(name) for name in names]
        own = [self.find(name) for name in asked]
        missing = [name for name, found in zip(asked, own, strict=True) if not found]
        if missing:
            raise ValueError(
                f"{counted(len(missing), 'chromosome')} not found in this genome: "
                f"{first_names(map(repr, missing), _SHOWN)}. It has "
                f"{first_names(map(repr, self._contigs), _SHOWN)}. Names are matched with and "
                "without chr, and by accession for hg19, hg38 and mm10; rename the others, or "
                "leave their regions out."
            )
        return own

    def _refuse_other_build(self, text: str) -> None:
        builds = [name for name, build in BUILDS.items() if text in build.accessions]
        builds = ["hg19"] if text == UCSC_HG19_M_ACCESSION else builds
        if builds and self._build not in builds:
            has = f"is {self._build}" if self._build else "has the lengths of no build known here"
            raise ValueError(
                f"{text!r} is {short_name(text)} of {' or '.join(builds)}; this genome {has}. Take "
                f"the genome that the regions are of, or this genome's own names: "
                f"{first_names(map(repr, self._contigs), _SHOWN)}."
            )

    def _refuse_other_mitochondrion(self, asked: str, own: str) -> None:
        """Of hg19 there are two: positions in one are not positions in the other."""
        if self._build != "hg19":
            return
        revised = self._contigs[own] == REVISED_M
        if asked != UCSC_HG19_M_ACCESSION and _is_ucsc(asked) == _is_ucsc(own):
            return  # the same spelling but for chr
        if revised != _is_ucsc(asked):
            return  # what is asked for is known, and it is this one
        raise ValueError(
            f"{asked!r} is not {own!r} of this genome ({self._contigs[own]:,} bases): chrM of "
            f"UCSC's hg19 is {UCSC_HG19_M_ACCESSION} with {UCSC_HG19_M:,} bases, MT of GRCh37 is "
            f"NC_012920.1 with {REVISED_M:,}, and positions differ. Leave these regions out, or "
            f"write {own!r} where that one is meant."
        )


def _is_ucsc(name: str) -> bool:
    """Whether a spelling of the mitochondrion is the one of UCSC's hg19."""
    return name == UCSC_HG19_M_ACCESSION or name.upper() in ("M", "CHRM")
