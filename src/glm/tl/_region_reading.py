"""The sequence of regions as a model reads it: strand followed, flank read and trimmed, tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from ..bases import N
from ..regions import Regions

if TYPE_CHECKING:
    from ..genome import Genome
    from ..models.dna_vocabulary import DnaVocabulary

Strand = Literal["own", "both", "+"]
STRANDS = ("own", "both", "+")


@dataclass(frozen=True, eq=False)
class Extent:
    """Where regions lie on their chromosomes, and what there is around them.

    Attributes
    ----------
    start, end
        int64, what of each region is on its chromosome; ``start >= end`` where nothing is.
    before, after
        int64, bases of flank there are to the left and to the right on the plus strand.
    """

    start: NDArray[np.int64]
    end: NDArray[np.int64]
    before: NDArray[np.int64]
    after: NDArray[np.int64]

    @property
    def n_bases(self) -> NDArray[np.int64]:
        """int64, bases of each region that are on its chromosome."""
        return np.maximum(self.end - self.start, 0)


def extent_of(regions: Regions, genome: Genome, flank: int) -> Extent:
    """Hold regions against the lengths of their chromosomes.

    Raises
    ------
    ValueError
        If the genome has no such chromosome.
    """
    names, of = regions.chromosomes
    contigs = genome.contigs
    lengths = np.array([contigs[genome.resolve(name)] for name in names], np.int64)
    limit = lengths[of] if len(of) else np.zeros(0, np.int64)
    start = np.clip(regions.start, 0, limit)
    end = np.clip(regions.end, 0, limit)
    return Extent(start, end, np.minimum(start, flank), np.minimum(limit - end, flank))


@dataclass(frozen=True, eq=False)
class Sentences:
    """Regions as tokens, and their bases; both in the direction in which they were read.

    Attributes
    ----------
    tokens, offsets, spans
        As a vocabulary's ``encode`` gives them. Spans count from the region's first base that is
        on the chromosome, and never leave the region.
    codes, code_offsets
        uint8, the regions' own bases end to end, and int64, where each begins.
    """

    tokens: NDArray[np.integer]
    offsets: NDArray[np.int64]
    spans: NDArray[np.int32]
    codes: NDArray[np.uint8]
    code_offsets: NDArray[np.int64]

    @property
    def n_unknown(self) -> NDArray[np.int64]:
        """int64, bases of each region that are not known."""
        known = np.concatenate([[0], np.cumsum(self.codes == N)])
        return np.diff(known[self.code_offsets])

    @property
    def n_untokenised(self) -> NDArray[np.int64]:
        """int64, bases at the end of each region that no token covers."""
        from ..encode.spans import bases_lost

        return bases_lost(self.offsets, self.spans, np.diff(self.code_offsets))


def strands_of(regions: Regions, strand: Strand) -> NDArray[np.int8]:
    """int8, regions × readings of each: 1 or -1."""
    own = np.where(regions.strand < 0, -1, 1).astype(np.int8)
    if strand == "own":
        return own[:, None]
    plus = np.ones_like(own)
    return plus[:, None] if strand == "+" else np.stack([own, -own], axis=1)


def read(
    regions: Regions,
    extent: Extent,
    strands: NDArray[np.int8],
    *,
    genome: Genome,
    vocabulary: DnaVocabulary,
) -> Sentences:
    """Read regions, each as often as it has strands: all that one call holds is in memory.

    ``regions`` all have a base on their chromosome, and ``extent`` is theirs.
    """
    n_readings = strands.shape[1]
    strand = strands.ravel()
    chrom, start, end, before, after = (
        np.repeat(part, n_readings) if n_readings > 1 else part
        for part in (regions.chrom, extent.start, extent.end, extent.before, extent.after)
    )
    found = genome.stretches(Regions(chrom, start - before, end + after, strand), edges="raise")
    encoded = vocabulary.encode(found.codes, found.offsets)
    if not (before.any() or after.any()):
        return Sentences(*encoded, found.codes, found.offsets)
    from ..encode.spans import trim

    left, right = np.where(strand > 0, (before, after), (after, before))
    tokens, offsets, spans = trim(*encoded, left=left, right=right, lengths=np.diff(found.offsets))
    at = np.arange(found.codes.size)
    inside = at >= np.repeat(found.offsets[:-1] + left, np.diff(found.offsets))
    inside &= at < np.repeat(found.offsets[1:] - right, np.diff(found.offsets))
    own = np.concatenate([[0], np.cumsum(end - start)])
    return Sentences(tokens, offsets, spans, found.codes[inside], own)
