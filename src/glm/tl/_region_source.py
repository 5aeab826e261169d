"""Sentences of regions of a genome, in blocks any of which can be made again."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._messages import counted, first_names, share
from ..regions import Regions
from ._cell_source import frame
from ._pieces import Pieces, cut, n_pieces
from ._region_reading import Extent, Sentences, Strand, extent_of, read, strands_of

if TYPE_CHECKING:
    from ..engine import Items
    from ..genome import Genome
    from ..models.config import Pooling
    from ..models.dna_vocabulary import DnaVocabulary

# Bases of a block: few enough to stay small in memory (some 30 bytes each while they are cut), ...
_MOST_BASES = 4_000_000
# ... and about so many blocks, for several devices to share, unless they get too small for a batch.
_BLOCKS = 32
_LEAST_BASES = 500_000

OK, BEYOND, UNKNOWN, SHORT = range(4)
"""Why a region cannot be read: it lies beyond its chromosome, too many bases are not known, it has
no token."""


class RegionSource:
    """The sentences of regions, in blocks of rows that depend on the regions alone.

    A region is one item, or, where it is longer than the context, one for each of its pieces
    (:func:`glm.tl._pieces.cut`); with ``strand="both"`` that for each strand. The span of an item
    is what is read out of it. Looks through all sequence once when it is made, and holds one block
    at a time afterwards.

    Parameters
    ----------
    regions
        The regions, each with a name for messages.
    rows
        int64, ascending: the row of the user's object that each is of.
    n_rows
        Rows of the object.
    genome, vocabulary
        Where the bases are, and what turns them into tokens.
    strand
        ``"own"``, ``"both"`` or ``"+"``.
    pooling
        Decides how pieces weigh: by the tokens that are read out of them (``"mean"``), or by the
        bases of those (``"cls"``). Strands weigh the same.
    max_n_share
        Regions with a larger share of unknown bases have no sentence.
    edges
        ``"clip"`` reads of a region what is on the chromosome, ``"raise"`` refuses one that
        reaches beyond.

    Attributes
    ----------
    reason
        uint8, one a region: ``OK`` or why it has no sentence.
    strands
        int8, regions × readings: the strand, 1 or -1, of each time that it is read.

    Raises
    ------
    ValueError
        If the genome lacks a chromosome; with ``edges="raise"``, if a region reaches beyond one.
    """

    unit = "regions"
    n_truncated = 0  # longer ones are read in pieces

    def __init__(
        self,
        regions: Regions,
        rows: NDArray[np.int64],
        n_rows: int,
        *,
        genome: Genome,
        vocabulary: DnaVocabulary,
        strand: Strand = "own",
        pooling: Pooling = "mean",
        max_n_share: float = 0.1,
        edges: str = "clip",
    ) -> None:
        self.n_rows = n_rows
        self._rows = rows
        self._regions = regions
        self._genome = genome
        self._vocabulary = vocabulary
        self._rule = strand
        self.strands = strands_of(regions, strand)
        self._pooling = pooling
        self._max_n_share = max_n_share
        self._extent = extent_of(regions, genome, vocabulary.flank_bp)
        self._n_clipped = regions.lengths - self._extent.n_bases
        if edges == "raise":
            refuse_beyond(regions, self._n_clipped)
        self._edges = _block_edges(regions.lengths * self.strands.shape[1])
        self._look_through()

    def _look_through(self) -> None:
        """Count tokens and unknown bases of every region, and decide which can be read."""
        n, n_readings = self.strands.shape
        self._n_tokens = np.zeros((n, n_readings), np.int64)
        self._n_unknown = np.zeros(n, np.int64)
        self._n_untokenised = np.zeros(n, np.int64)
        self.reason = np.where(self._extent.n_bases > 0, OK, BEYOND).astype(np.uint8)
        for block in range(self.n_blocks):
            here = self._usable(block)
            found = self.read(here)
            self._n_tokens[here] = np.diff(found.offsets).reshape(-1, n_readings)
            self._n_unknown[here] = found.n_unknown.reshape(-1, n_readings)[:, 0]
            self._n_untokenised[here] = found.n_untokenised.reshape(-1, n_readings)[:, 0]
        unknown = self._n_unknown > self._max_n_share * self._extent.n_bases
        self.reason[unknown & (self.reason == OK)] = UNKNOWN
        self.reason[(self._n_tokens == 0).any(axis=1) & (self.reason == OK)] = SHORT

    # ---- what a job asks for ---------------------------------------------------------------------

    @property
    def n_usable(self) -> int:
        """Regions that have a sentence."""
        return int((self.reason == OK).sum())

    @property
    def n_blocks(self) -> int:
        """How many blocks there are."""
        return self._edges.size - 1

    def n_items(self, block: int) -> int:
        """Pieces of a block."""
        n_tokens = self._n_tokens[self._usable(block)].ravel()
        return int(n_pieces(n_tokens, self._vocabulary.n_tokens_read).sum())

    def lengths(self, block: int) -> NDArray[np.int64]:
        """int64, tokens of each piece of a block, special ones included."""
        n_tokens = self._n_tokens[self._usable(block)].ravel()
        return cut(n_tokens, self._vocabulary.n_tokens_read).length + self._vocabulary.n_special

    def block(self, block: int) -> Items:
        """The pieces of a block."""
        here = self._usable(block)
        found = self.read(here)
        pieces = cut(np.diff(found.offsets), self._vocabulary.n_tokens_read)
        return self._items(here, found, pieces)

    def facts(self) -> dict[str, Any]:
        """Everything of the regions that decides a result; of the genome its fingerprint."""
        return {
            "n_rows": self.n_rows,
            "regions": self._fingerprint(),
            "genome": self._genome.fingerprint(),
            "flank_bp": self._vocabulary.flank_bp,
            "strand": self._rule,
            "max_n_share": self._max_n_share,
            "bases_per_block": _bases_per_block(self._regions.lengths * self.strands.shape[1]),
        }

    # ---- what a record and a warning say ---------------------------------------------------------

    def counts(self) -> dict[str, int]:
        """What became of the regions, in numbers; of bases and tokens those of readable ones."""
        usable = self.reason == OK
        longest = self._vocabulary.n_tokens_read
        return {
            "n_rows": self.n_rows,
            "n_regions": len(self._regions),
            "n_without_region": self.n_rows - len(self._regions),
            "n_beyond_chromosome": int((self.reason == BEYOND).sum()),
            "n_unknown_bases": int((self.reason == UNKNOWN).sum()),
            "n_too_short": int((self.reason == SHORT).sum()),
            "n_clipped": int((self._n_clipped[usable] > 0).sum()),
            "n_with_unknown_bases": int((self._n_unknown[usable] > 0).sum()),
            "n_in_pieces": int((self._n_tokens[usable] > longest).any(axis=1).sum()),
            "n_tokens": int(self._n_tokens[usable].sum()),
            "n_bases": int(self._extent.n_bases[usable].sum()),
            "n_bases_in_no_token": int(self._n_untokenised[usable].sum()),
        }

    def why_not(self) -> list[str]:
        """The reasons for which regions have no sentence, each with its number."""
        found = self.counts()
        k = getattr(self._vocabulary, "k", 1)
        told = {
            "n_without_region": "have no region",
            "n_beyond_chromosome": "lie beyond their chromosome (is it another genome?)",
            "n_unknown_bases": f"have over {self._max_n_share:.0%} unknown bases (max_n_share)",
            "n_too_short": f"are shorter than a token ({counted(k, 'base')})",
        }
        return [f"{found[name]:,} {words}" for name, words in told.items() if found[name]]

    def place(self, region: int) -> tuple[int, str, NDArray[np.int64]]:
        """A region's row, its chromosome, and the positions of its bases that are read."""
        start, end = self._extent.start[region], self._extent.end[region]
        chrom = str(self._regions.chrom[region])
        return int(self._rows[region]), chrom, np.arange(start, end)

    # ---- one block -------------------------------------------------------------------------------

    def _usable(self, block: int) -> NDArray[np.intp]:
        """Numbers of a block's regions that can be read."""
        start, stop = self._edges[block], self._edges[block + 1]
        return start + np.flatnonzero(self.reason[start:stop] == OK)

    def read(self, here: NDArray[np.intp]) -> Sentences:
        """Bases and tokens of the regions of these numbers, once for each of their strands."""
        own, extent = self._regions, self._extent
        regions = Regions(own.chrom[here], own.start[here], own.end[here], own.strand[here])
        part = Extent(extent.start[here], extent.end[here], extent.before[here], extent.after[here])
        return read(
            regions, part, self.strands[here], genome=self._genome, vocabulary=self._vocabulary
        )

    def _items(self, here: NDArray[np.intp], found: Sentences, pieces: Pieces) -> Items:
        from ..engine import Items

        special = self._vocabulary.special
        tokens = _gathered(found, pieces)
        tokens, lengths = frame(tokens, pieces.length, special["cls"], special["eos"])
        region = pieces.sentence // self.strands.shape[1]
        number = np.bincount(region, minlength=here.size)
        first = np.cumsum(number) - number
        return Items(
            row=self._rows[here][region],
            part=(np.arange(region.size) - first[region]).astype(np.int32),
            tokens=tokens,
            offsets=np.concatenate([[0], np.cumsum(lengths)]),
            span=(pieces.own - pieces.start[:, None] + 1).astype(np.int32),
            weight=self._weights(found, pieces),
        )

    def _weights(self, found: Sentences, pieces: Pieces) -> NDArray[np.float32]:
        own = pieces.own
        if self._pooling == "cls":
            own = found.offsets[pieces.sentence][:, None] + own
            weight = found.spans[own[:, 1] - 1, 1] - found.spans[own[:, 0], 0]
        else:
            weight = own[:, 1] - own[:, 0]
        if self.strands.shape[1] == 1:
            return weight.astype(np.float32)
        # Of byte pairs the strands have different numbers of tokens, and still weigh the same.
        total = np.bincount(pieces.sentence, weights=weight)
        return (weight / total[pieces.sentence]).astype(np.float32)

    def _fingerprint(self) -> str:
        names, of = self._regions.chromosomes
        digest = hashlib.sha256(repr(names).encode())
        for part in (of, self._regions.start, self._regions.end, self.strands, self._rows):
            digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()


def _gathered(found: Sentences, pieces: Pieces) -> NDArray[np.integer]:
    """The tokens of all pieces end to end."""
    if pieces.sentence.size == found.offsets.size - 1:
        return found.tokens
    ends = np.cumsum(pieces.length)
    first = found.offsets[pieces.sentence] + pieces.start - (ends - pieces.length)
    return found.tokens[np.repeat(first, pieces.length) + np.arange(int(ends[-1]))]


def _bases_per_block(lengths: NDArray[np.int64]) -> int:
    by_number = max(-(-int(lengths.sum()) // _BLOCKS), _LEAST_BASES)
    return min(by_number, _MOST_BASES)


def _block_edges(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """First region of each block, and the number of regions: at least one a block."""
    if not lengths.size:
        return np.zeros(1, np.int64)
    ends = np.cumsum(lengths)
    number = (ends - lengths) // _bases_per_block(lengths)
    starts = np.flatnonzero(np.diff(number, prepend=-1))
    return np.append(starts, lengths.size)


def refuse_beyond(regions: Regions, n_clipped: NDArray[np.int64]) -> None:
    over = np.flatnonzero(n_clipped)
    if over.size:
        raise ValueError(
            f"{share(over.size, len(regions))} regions reach beyond their chromosome "
            f"({first_names(map(regions.name, over[:3]), total=over.size)}). Pass edges='clip' to "
            "read what is on it, or leave them out."
        )
