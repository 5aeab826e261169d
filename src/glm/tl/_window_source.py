"""Windows of a genome around regions, in blocks any of which can be read again."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..bases import N
from ..models.enformer_config import BIN_BP
from ..regions import Regions
from ._region_reading import extent_of
from ._region_source import refuse_beyond

if TYPE_CHECKING:
    from ..engine import Items
    from ..genome import Genome
    from ..models.track_model import TrackSpec

# Windows that are held at once (6 MB of those of Enformer). A block has so many rows at most, ...
_MOST_WINDOWS = 32
# ... so many bytes of results, ...
_MOST_BYTES = 32_000_000
# ... and there are about so many blocks: several devices share few regions evenly too.
_BLOCKS = 256

OK, BEYOND, UNKNOWN, UNKNOWN_WINDOW, LONG = range(5)
"""Why a region has no prediction: it lies beyond its chromosome, too many of its own bases or of
those of its window are not known, it is longer than the output."""


@dataclass(frozen=True)
class Geometry:
    """What a model reads and where in it the output lies; all in bases or bins.

    Attributes
    ----------
    window_bp
        Bases of a window.
    crop
        Bins of the window before the first one of the output.
    n_bins
        Bins of the output.
    """

    window_bp: int
    crop: int
    n_bins: int

    @classmethod
    def of(cls, spec: TrackSpec) -> Geometry:
        """That of a model as it was trained."""
        return cls(spec.window_bp, spec.shape.crop, spec.shape.n_bins(spec.window_bp))

    @property
    def output_bp(self) -> int:
        """Bases of the output."""
        return BIN_BP * self.n_bins

    def output_start(self, regions: Regions) -> NDArray[np.int64]:
        """Where on the chromosome the output around each region begins.

        The base ``(start + end) // 2`` has half of the window before it.
        """
        centre = (regions.start + regions.end) // 2
        return centre - self.window_bp // 2 + BIN_BP * self.crop

    def bins(
        self, regions: Regions, start: NDArray[np.int64], end: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Half-open bins of the output around each region that share a base with start to end.

        Bins are counted from the output's first; there may be less than 0 and more than there are.
        """
        begin = self.output_start(regions)
        return np.stack([(start - begin) // BIN_BP, -((begin - end) // BIN_BP)], axis=1)


class WindowSource:
    """The windows of regions, in blocks of rows that depend on the regions alone.

    A region is one item: the codes of its window on the plus strand, of which the region is the
    middle, with ``margin_bp`` more bases on both sides. Its span are the bins of the output that
    are read. Bins that lie beyond the chromosome altogether are never read. Looks through all
    sequence once when it is made, and holds one block at a time afterwards.

    Parameters
    ----------
    regions
        The regions, each with a name for messages.
    rows
        int64, ascending: the row of the result that each is of. A row of several regions is their
        mean.
    n_rows
        Rows of the result.
    genome, geometry
        Where the bases are, and what is read and predicted.
    margin_bp
        Bases to read beyond both ends of a window, for shifts.
    spans
        int64, regions × 2: half-open bins of the output to read; ``None`` reads those that share a
        base with the region.
    weights
        What each region counts for in its row; ``None`` is the same for all.
    max_n_share, max_n_share_window
        Regions of which a larger share of their bases on the chromosome, or of their window's with
        its padding, is not known have no prediction.
    edges
        ``"clip"`` reads of a region the bins that are on the chromosome, ``"raise"`` refuses one
        that reaches beyond. Windows may always: they are padded by N.
    bytes_a_row
        Of a row's result, which a block holds.

    Attributes
    ----------
    reason
        uint8, one a region: ``OK`` or why it has no prediction.
    spans
        int64, regions × 2: the bins that are read.
    window_n_share
        float64, one a region: share of its window's bases that are not known, padding among them;
        NaN where it lies beyond its chromosome.

    Raises
    ------
    ValueError
        If the genome lacks a chromosome; with ``edges="raise"``, if a region reaches beyond one.
    """

    unit = "regions"
    n_truncated = 0  # longer ones are not read at all

    def __init__(
        self,
        regions: Regions,
        rows: NDArray[np.int64],
        n_rows: int,
        *,
        genome: Genome,
        geometry: Geometry,
        margin_bp: int = 0,
        spans: NDArray[np.int64] | None = None,
        weights: NDArray[np.float64] | None = None,
        max_n_share: float = 0.1,
        max_n_share_window: float = 0.5,
        edges: str = "clip",
        bytes_a_row: int = 4,
    ) -> None:
        self.n_rows = n_rows
        self.geometry = geometry
        self._regions = Regions(  # read on the plus strand, whatever theirs is
            regions.chrom,
            regions.start,
            regions.end,
            np.zeros(len(regions), np.int8),
            regions.names,
        )
        self._rows = rows
        self._genome = genome
        self._margin = margin_bp
        self._weights = np.ones(len(regions)) if weights is None else weights
        self._most = (max_n_share, max_n_share_window)
        self._extent = extent_of(regions, genome, 0)
        self._n_clipped = regions.lengths - self._extent.n_bases
        if edges == "raise":
            refuse_beyond(regions, self._n_clipped)
        self.spans = self._spans(spans)
        self.rows_per_block = _rows_per_block(n_rows, len(regions), bytes_a_row)
        self._look_through()

    def _spans(self, asked: NDArray[np.int64] | None) -> NDArray[np.int64]:
        regions, geometry = self._regions, self.geometry
        if asked is None:
            asked = geometry.bins(regions, regions.start, regions.end)
        names, of = regions.chromosomes
        contigs = self._genome.contigs
        lengths = np.array([contigs[self._genome.resolve(name)] for name in names], np.int64)
        limit = lengths[of] if len(of) else np.zeros(0, np.int64)
        there = geometry.bins(regions, np.zeros_like(limit), limit)
        low = np.maximum(np.maximum(asked[:, 0], there[:, 0]), 0)
        high = np.minimum(np.minimum(asked[:, 1], there[:, 1]), geometry.n_bins)
        return np.stack([low, np.maximum(low, high)], axis=1)

    def _look_through(self) -> None:
        """Count unknown bases of every region and its window, and decide which can be read."""
        regions, n = self._regions, len(self._regions)
        self.reason = np.full(n, OK, np.uint8)
        self.window_n_share = np.full(n, np.nan)
        self._n_unknown = np.zeros(n, np.int64)
        self._padded = np.zeros(n, bool)
        there = self._extent.n_bases > 0
        for start in range(0, n, _MOST_WINDOWS):
            here = start + np.flatnonzero(there[start : start + _MOST_WINDOWS])
            if here.size:
                self._count(here)
        unknown = self._n_unknown > self._most[0] * self._extent.n_bases
        self.reason[self.window_n_share > self._most[1]] = UNKNOWN_WINDOW
        self.reason[unknown] = UNKNOWN
        self.reason[~there | (self.spans[:, 0] >= self.spans[:, 1])] = BEYOND
        self.reason[regions.lengths > self.geometry.output_bp] = LONG
        self._row_ok = np.zeros(self.n_rows, bool)
        self._row_ok[self._rows[self.reason == OK]] = True

    def _count(self, here: NDArray[np.intp]) -> None:
        windows = self._genome.windows(self._regions.take(here), self.geometry.window_bp)
        self._padded[here] = windows.padded.any(axis=1)
        begin = self.geometry.output_start(self._regions)[here] - BIN_BP * self.geometry.crop
        own = (
            np.maximum(place[here] - begin, 0) for place in (self._extent.start, self._extent.end)
        )
        for region, codes, low, high in zip(here, windows.codes, *own, strict=True):
            unknown = codes == N
            self._n_unknown[region] = np.count_nonzero(unknown[low:high])
            self.window_n_share[region] = np.count_nonzero(unknown) / unknown.size

    # ---- what a job asks for ---------------------------------------------------------------------

    @property
    def n_usable(self) -> int:
        """Rows that have a window."""
        return int(self._row_ok.sum())

    @property
    def n_blocks(self) -> int:
        """How many blocks there are."""
        return -(-self.n_rows // self.rows_per_block)

    def n_items(self, block: int) -> int:
        """Windows of a block."""
        return self._usable(block).size

    def lengths(self, block: int) -> NDArray[np.int64]:
        """int64, bases of each window of a block."""
        return np.full(self.n_items(block), self._length_bp)

    def block(self, block: int) -> Items:
        """The windows of a block."""
        from ..engine import Items

        here = self._usable(block)
        codes = np.zeros(0, np.uint8)
        if here.size:
            codes = self._genome.windows(self._regions.take(here), self._length_bp).codes.ravel()
        row = self._rows[here]
        first = np.searchsorted(row, row)
        return Items(
            row=row,
            part=(np.arange(here.size) - first).astype(np.int32),
            tokens=codes,
            offsets=self._length_bp * np.arange(here.size + 1, dtype=np.int64),
            span=self.spans[here].astype(np.int32),
            weight=self._weights[here].astype(np.float32),
        )

    def facts(self) -> dict[str, Any]:
        """Everything of the regions that decides a result; of the genome its fingerprint."""
        return {
            "n_rows": self.n_rows,
            "regions": self._fingerprint(),
            "genome": self._genome.fingerprint(),
            "window_bp": self.geometry.window_bp,
            "crop": self.geometry.crop,
            "max_n_share": self._most[0],
            "max_n_share_window": self._most[1],
            "rows_per_block": self.rows_per_block,
        }

    # ---- what a record and a warning say ---------------------------------------------------------

    @property
    def row_ok(self) -> NDArray[np.bool_]:
        """Whether each row has a window."""
        return self._row_ok

    def row_n_share(self) -> NDArray[np.float64]:
        """Share of unknown bases in each row's window, or the mean of them; NaN without one."""
        there = np.isfinite(self.window_n_share)
        rows, share = self._rows[there], self.window_n_share[there]
        number = np.bincount(rows, minlength=self.n_rows)
        total = np.bincount(rows, weights=share, minlength=self.n_rows)
        return np.divide(total, number, out=np.full(self.n_rows, np.nan), where=number > 0)

    def counts(self) -> dict[str, int]:
        """What became of the regions, in numbers."""
        reason, usable = self.reason, self.reason == OK
        return {
            "n_rows": self.n_rows,
            "n_regions": len(self._regions),
            "n_without_region": self.n_rows - np.unique(self._rows).size,
            "n_beyond_chromosome": int((reason == BEYOND).sum()),
            "n_unknown_bases": int((reason == UNKNOWN).sum()),
            "n_unknown_windows": int((reason == UNKNOWN_WINDOW).sum()),
            "n_too_long": int((reason == LONG).sum()),
            "n_clipped": int((self._n_clipped[usable] > 0).sum()),
            "n_padded": int(self._padded[usable].sum()),
            "n_with_unknown_bases": int((self._n_unknown[usable] > 0).sum()),
        }

    def why_not(self, *, unknown: str | None = None) -> list[str]:
        """The reasons for which regions have no prediction, each with its number.

        ``unknown`` are other words for those of which too many bases are not known.
        """
        found = self.counts()
        unknown = unknown or f"have over {self._most[0]:.0%} unknown bases (max_n_share)"
        told = {
            "n_without_region": "have no region",
            "n_beyond_chromosome": "lie beyond their chromosome (is it another genome?)",
            "n_unknown_bases": unknown,
            "n_unknown_windows": f"have over {self._most[1]:.0%} unknown bases in their window "
            "(max_n_share_window)",
            "n_too_long": f"are longer than the output of {self.geometry.output_bp:,} bases "
            "(glm.tl.predict_stretch predicts longer ones)",
        }
        return [f"{found[name]:,} {words}" for name, words in told.items() if found[name]]

    # ---- one block -------------------------------------------------------------------------------

    @property
    def _length_bp(self) -> int:
        return self.geometry.window_bp + 2 * self._margin

    def _usable(self, block: int) -> NDArray[np.intp]:
        """Numbers of a block's regions that can be read."""
        first = block * self.rows_per_block
        start, stop = np.searchsorted(self._rows, [first, first + self.rows_per_block])
        return start + np.flatnonzero(self.reason[start:stop] == OK)

    def _fingerprint(self) -> str:
        names, of = self._regions.chromosomes
        digest = hashlib.sha256(repr(names).encode())
        own = self._regions
        for part in (of, own.start, own.end, self._rows, self.spans, self._weights):
            digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()


def _rows_per_block(n_rows: int, n_regions: int, bytes_a_row: int) -> int:
    """Rows of a block: few windows, few bytes, and enough blocks to share."""
    windows_a_row = max(n_regions / max(n_rows, 1), 1)
    most = min(_MOST_WINDOWS // windows_a_row, _MOST_BYTES // bytes_a_row)
    return int(max(min(n_rows // _BLOCKS, most), 1))
