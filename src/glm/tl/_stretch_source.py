"""A stretch of a chromosome as tiles: windows whose outputs adjoin, some of them read together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..bases import N
from ..models.enformer_config import BIN_BP
from ..regions import Regions
from ._window_source import Geometry

if TYPE_CHECKING:
    from ..engine import Items
    from ..genome import Genome

# Tiles that are read together share the first layers where their windows overlap: a second window
# then takes 0.7 of the first one's time (one core, the published shape), so eight take 0.74 of
# theirs. As many are lost when a run is stopped.
_TILES_TOGETHER = 8


@dataclass(frozen=True)
class Tiling:
    """Which tiles cover a stretch, and which of their bins are its own.

    Tiles lie side by side, output to output. They cover more bins than there are; what is over
    stands on both sides alike, so that a stretch shorter than an output lies in its middle.

    Attributes
    ----------
    start
        The stretch's first base; bins are counted from it.
    n_bins
        Bins of the stretch.
    geometry
        What one window reads and predicts.
    n_tiles
        How many tiles there are.
    together
        Tiles that are read together; the last ones may be fewer.
    """

    start: int
    n_bins: int
    geometry: Geometry
    n_tiles: int
    together: int

    @classmethod
    def of(cls, start: int, end: int, geometry: Geometry) -> Tiling:
        """The tiles of a stretch; its last bin may reach beyond its end."""
        n_bins = -(-(end - start) // BIN_BP)
        n_tiles = -(-n_bins // geometry.n_bins)
        n_rows = -(-n_tiles // _TILES_TOGETHER)
        return cls(start, n_bins, geometry, n_tiles, -(-n_tiles // n_rows))

    @property
    def n_rows(self) -> int:
        """How many times tiles are read together."""
        return -(-self.n_tiles // self.together)

    @property
    def before(self) -> int:
        """Bins of the first tile before the stretch."""
        return (self.n_tiles * self.geometry.n_bins - self.n_bins) // 2

    @property
    def bins_a_row(self) -> int:
        return self.together * self.geometry.n_bins

    def tiles(self, row: int) -> int:
        """Tiles of a row."""
        return min(self.together, self.n_tiles - row * self.together)

    def window(self, row: int, margin_bp: int) -> tuple[int, int]:
        """The bases that a row's tiles read, and ``margin_bp`` more on both sides."""
        crop = self.geometry.crop
        begin = self.start + BIN_BP * (row * self.bins_a_row - self.before - crop)
        bins = self.tiles(row) * self.geometry.n_bins + 2 * crop
        return begin - margin_bp, begin + BIN_BP * bins + margin_bp

    def own(self, array: NDArray[Any]) -> NDArray[Any]:
        """Of rows × bins (× more) the bins of the stretch, as a view."""
        flat = array.reshape(-1, *array.shape[2:])
        return flat[self.before : self.before + self.n_bins]


class StretchSource:
    """The tiles of a stretch, those that are read together as one item.

    Looks through all sequence once when it is made, and holds what is read together afterwards.

    Parameters
    ----------
    chrom
        The genome's own name of the chromosome.
    tiling
        The tiles.
    genome
        Where the bases are. What lies beyond the chromosome's ends is N.
    margin_bp
        Bases to read beyond both ends, for shifts.
    max_n_share, max_n_share_window
        Bins of which a larger share of their bases on the chromosome is not known, or of their
        window's with its padding, are not predicted.

    Attributes
    ----------
    wanted
        bool, rows × bins of a row: bins of the stretch that are predicted.
    n_share, window_n_share
        float32, a bin of the stretch each: share of its bases that is not known, and of its
        window's.
    """

    unit = "tiles"
    n_truncated = 0

    def __init__(
        self,
        chrom: str,
        tiling: Tiling,
        *,
        genome: Genome,
        margin_bp: int = 0,
        max_n_share: float = 0.1,
        max_n_share_window: float = 0.5,
    ) -> None:
        self.chrom, self.tiling = chrom, tiling
        self._genome, self._margin = genome, margin_bp
        self._most = (max_n_share, max_n_share_window)
        shape = (tiling.n_rows, tiling.bins_a_row)
        self.wanted = np.zeros(shape, bool)
        tiling.own(self.wanted)[:] = True
        share, of_window = np.full(shape, np.nan, np.float32), np.full(shape, np.nan, np.float32)
        for row in range(tiling.n_rows):
            self._look_at(row, share[row], of_window[row])
        self.n_share, self.window_n_share = tiling.own(share), tiling.own(of_window)
        self.wanted &= (share <= max_n_share) & (of_window <= max_n_share_window)

    def _look_at(
        self, row: int, share: NDArray[np.float32], of_window: NDArray[np.float32]
    ) -> None:
        geometry, n_tiles = self.tiling.geometry, self.tiling.tiles(row)
        unknown = self._codes(row, 0) == N
        first, n = BIN_BP * geometry.crop, n_tiles * geometry.n_bins
        begin = self.tiling.window(row, 0)[0] + first + BIN_BP * np.arange(n)
        length = self._genome.contigs[self.chrom]
        there = np.clip(begin + BIN_BP, 0, length) - np.clip(begin, 0, length)
        in_bin = unknown[first : first + BIN_BP * n].reshape(n, BIN_BP).sum(axis=1)
        share[:n] = (in_bin - (BIN_BP - there)) / np.maximum(there, 1)
        for tile in range(n_tiles):
            window = unknown[geometry.output_bp * tile :][: geometry.window_bp]
            of_window[geometry.n_bins * tile :][: geometry.n_bins] = window.mean()

    def _codes(self, row: int, margin_bp: int) -> NDArray[np.uint8]:
        start, end = self.tiling.window(row, margin_bp)
        return self._genome.windows(Regions.of([self.chrom], [start], [end])).codes[0]

    @property
    def n_rows(self) -> int:
        return self.tiling.n_rows

    @property
    def n_usable(self) -> int:
        """Rows of which a bin is predicted."""
        return int(self.wanted.any(axis=1).sum())

    @property
    def n_tiles(self) -> int:
        """Tiles of which a bin is predicted."""
        return int(self.wanted.reshape(-1, self.tiling.geometry.n_bins).any(axis=1).sum())

    @property
    def n_blocks(self) -> int:
        return self.tiling.n_rows

    def n_items(self, block: int) -> int:
        return int(self.wanted[block].any())

    def lengths(self, block: int) -> NDArray[np.int64]:
        start, end = self.tiling.window(block, self._margin)
        return np.full(self.n_items(block), end - start)

    def block(self, block: int) -> Items:
        """One item: what is read together."""
        from ..engine import Items

        lengths = self.lengths(block)
        codes = self._codes(block, self._margin) if lengths.size else np.zeros(0, np.uint8)
        return Items.one_a_row(
            np.full(lengths.size, block, np.int64),
            codes,
            np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]),
            np.zeros((lengths.size, 2), np.int32),
        )

    def facts(self) -> dict[str, Any]:
        """Everything of the stretch that decides a result; of the genome its fingerprint."""
        tiling = self.tiling
        return {
            "chrom": self.chrom,
            "start": tiling.start,
            "n_bins": tiling.n_bins,
            "tiles_together": tiling.together,
            "genome": self._genome.fingerprint(),
            "window_bp": tiling.geometry.window_bp,
            "crop": tiling.geometry.crop,
            "max_n_share": self._most[0],
            "max_n_share_window": self._most[1],
        }
