"""The class people use: one genome, whatever its sequences are kept in."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import bases
from .._cards import html_card, text_card
from .._fetch import fetch, local_path, pin_of
from .._messages import first_names
from ..regions import Regions
from . import _kernels, _layout
from ._builds import BUILDS, build_of, check_name, detect_build, which_mitochondrion
from ._layout import Edges, Spans, Stretches, Windows
from ._names import ContigNames
from ._records import Records
from ._sources import Source, existing, open_source, stamp
from ._twobit import TwoBit

_STRANDS: dict[object, int] = {"+": 1, "-": -1, ".": 0, 1: 1, -1: -1, 0: 0}


class Genome:
    """The sequences of one assembly, read at random places.

    A published genome is fetched as 2bit when it is first read (about 800 MB, once) and mapped into
    memory: opening takes milliseconds, and nothing is held but what was touched lately. Reading
    costs, on one core, some 10 µs for the codes of a window of 196,608 bases (80 µs for its one-hot
    rows, which are 16 bytes a base) and 0.3 µs for one of 512 when thousands are read in one call;
    each call takes some 40 µs besides. A FASTA file is read through pyfaidx, many times slower; the
    first time it is indexed, which reads it all (minutes for a whole genome). Sequences of a
    dictionary stay in memory, a byte a base.

    A genome can be pickled and used in forked or spawned workers: each process opens the file
    itself.

    Parameters
    ----------
    source
        ``"hg19"``, ``"hg38"`` or ``"mm10"``, which are fetched from UCSC; the path of a 2bit file;
        the path of a FASTA file, plain or compressed with bgzip; or a dictionary of sequences by
        name, as text or as codes.
    name
        What to call the genome in records. By default the build that the lengths of its
        chromosomes tell. The name of a build that they contradict is an error.

    Raises
    ------
    ValueError
        If the source cannot be what it is said to be: a name of another build, a FASTA file that is
        empty, plainly gzipped or has two sequences of one name.
    OSError
        If a file is missing, cut short or damaged; for a published genome, when it is first read,
        if it cannot be had.

    Examples
    --------
    >>> import glm
    >>> genome = glm.Genome({"chr1": "ACGTTGCANNACGT", "chr2": "GGGGCCCC"})
    >>> genome.fetch("chr1", 2, 6)
    'GTTG'
    >>> genome.fetch("1", 2, 6, strand="-")
    'CAAC'
    >>> regions = glm.Regions.of(["chr1", "chr2"], [2, 6], [6, 8])
    >>> windows = genome.windows(regions, 6)
    >>> windows.codes
    array([[1, 2, 3, 3, 2, 1],
           [1, 1, 1, 1, 4, 4]], dtype=uint8)
    >>> windows.padded[1]
    array([0, 2], dtype=int32)
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | Mapping[str, str | NDArray[np.uint8]],
        *,
        name: str | None = None,
    ) -> None:
        self._given = "" if name is None else str(name)
        self._stamp: tuple[int, int] | None = None
        self._records: Records | None = None
        self._path: Path | None = None
        self._published = ""
        if isinstance(source, Mapping):
            self._records = Records(source)
        elif isinstance(source, str) and source in BUILDS:
            self._published = source
            if self._given and build_of(self._given) != source:
                raise ValueError(f"The genome {source!r} cannot be called {name!r}.")
        elif isinstance(source, str | os.PathLike):
            self._path = existing(source)
            self._stamp = stamp(self._path)
        else:
            raise TypeError(
                f"A genome cannot be made of {type(source).__name__}; expected a published one's "
                f"name ({', '.join(BUILDS)}), the path of a 2bit or FASTA file, or a dictionary "
                "of sequences."
            )
        if not self._published:
            self._name = check_name(self._given, self.contigs)

    # ---- what it is ------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The build, or what it was called; ``""`` if neither is known."""
        return self._published or self._name

    @property
    def source(self) -> str:
        """Where its sequences come from, for records."""
        if self._records is not None:
            return "sequences in memory"
        return f"{self._published}.2bit of UCSC" if self._published else str(self._path)

    @property
    def contigs(self) -> dict[str, int]:
        """Length of each sequence, by its own name. Opens the file, and fetches it if need be."""
        return self._source.lengths

    def fingerprint(self) -> str:
        """A sha256 that tells this genome's sequences from others without reading them all.

        Of a published file its known hash decides, of another one its names, lengths, size and time
        of change, and of a dictionary all of its bases.
        """
        found = hashlib.sha256()
        if self._published:
            found.update(repr(pin_of(f"{self._published}.2bit")).encode())
        else:
            found.update(repr(self._stamp).encode())
            found.update(self._source.head())
        return found.hexdigest()

    @cached_property
    def _source(self) -> Source:
        if self._records is not None:
            return self._records
        if self._published:
            path = fetch(f"{self._published}.2bit")
        else:
            assert self._path is not None
            path = self._path
            if stamp(path) != self._stamp:
                raise OSError(f"{path} was changed since this genome was made of it: make it anew.")
        return open_source(path)

    @cached_property
    def _names(self) -> ContigNames:
        return ContigNames(self.contigs, detect_build(self.contigs))

    def resolve(self, chrom: object) -> str:
        """The genome's own name of a contig: chr1 for 1 or NC_000001.10, chrM for MT.

        Parameters
        ----------
        chrom
            A name in any of these spellings; a number is read as a name.

        Raises
        ------
        ValueError
            If there is none of that name (the message shows what there is), if several could be
            meant, or if the name is one of another build.
        """
        return self._names.find_all([chrom])[0]

    # ---- reading ---------------------------------------------------------------------------------

    def fetch(
        self,
        chrom: object,
        start: int,
        end: int,
        *,
        strand: str | int = "+",
        edges: Edges = "raise",
    ) -> str:
        """Text of one stretch, in upper case; what is not known is N.

        Parameters
        ----------
        chrom
            A contig, in any spelling that :meth:`resolve` knows.
        start, end
            0-based and half-open.
        strand
            ``"-"`` or -1 for the reverse complement; ``"."`` and 0 are read as ``"+"``.
        edges
            What to do beyond the contig's ends: ``"raise"``, or ``"pad"`` with N.

        Raises
        ------
        ValueError
            If the contig is not known, or the stretch has no bases or lies beyond the contig.
        """
        if strand not in _STRANDS or isinstance(strand, bool):
            raise ValueError(f"strand is {strand!r}; expected '+', '-', '.', 1, -1 or 0.")
        region = Regions.of(
            [str(chrom)],
            [_layout.position_of(start)],
            [_layout.position_of(end)],
            [_STRANDS[strand]],
        )
        return bases.to_text(self.stretches(region, edges=edges).codes)

    def windows(
        self,
        regions: Regions,
        length_bp: int | None = None,
        *,
        edges: Edges = "pad",
        out: NDArray[np.uint8] | None = None,
    ) -> Windows:
        """Codes of windows of one length, thousands in a call.

        Parameters
        ----------
        regions
            What to read. Those on the minus strand are read as their reverse complement.
        length_bp
            Read windows of this length around the regions' centres: the base
            ``(start + end) // 2`` has ``length_bp // 2`` before it on the plus strand. ``None``
            reads the regions, which must then all be as long.
        edges
            What to do beyond the contig's ends: ``"pad"`` with N, which is recorded, or
            ``"raise"``.
        out
            uint8, windows × ``length_bp``, to write to instead of a new array.

        Raises
        ------
        ValueError
            If a contig is not known, a region lies beyond its contig altogether, or lengths differ.
        """
        spans, length = self._window_spans(regions, length_bp, edges)
        codes = _room(out, (len(regions), length), np.uint8)
        self._read(spans, codes.reshape(-1))
        return Windows(codes, spans.padded)

    def one_hot_windows(
        self,
        regions: Regions,
        length_bp: int | None = None,
        *,
        edges: Edges = "pad",
        out: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """As :meth:`windows`, as one-hot rows: straight from 2bit, without codes in between.

        Parameters
        ----------
        regions, length_bp, edges
            As in :meth:`windows`.
        out
            float32, windows × ``length_bp`` × 4, to write to instead of a new array.

        Returns
        -------
        float32, windows × bases × 4 in the order A, C, G, T; zeros where a base is not known. It
        takes 16 bytes a base: read a few long windows at a time.

        Raises
        ------
        ValueError
            As :meth:`windows`.
        """
        spans, length = self._window_spans(regions, length_bp, edges)
        rows = _room(out, (len(regions), length, 4), np.float32)
        if isinstance(self._source, TwoBit):
            for contig, pieces in spans.by_contig():
                self._source.read_one_hot(contig, pieces, rows.reshape(-1))
        else:
            codes = np.empty(int(spans.offsets[-1]), np.uint8)
            self._read(spans, codes)
            _kernels.spread_codes(codes, rows.reshape(-1))
        return rows

    def stretches(self, regions: Regions, *, flank: int = 0, edges: Edges = "pad") -> Stretches:
        """Codes of regions of any lengths, end to end.

        Parameters
        ----------
        regions
            What to read. Those on the minus strand are read as their reverse complement.
        flank
            Bases to read beyond both ends of each region.
        edges
            What to do beyond the contig's ends: ``"pad"`` with N, which is recorded, or
            ``"raise"``.

        Raises
        ------
        ValueError
            If a contig is not known, or a region lies beyond its contig altogether.
        """
        spans = self._spans(regions, *_layout.flanked(regions, flank), edges)
        offsets = spans.offsets
        codes = np.empty(int(offsets[-1]), np.uint8)
        self._read(spans, codes)
        return Stretches(codes, offsets, spans.padded)

    def soft_masked(self, chrom: object) -> NDArray[np.int64]:
        """Runs in lower case (repeats) of one contig, which nothing else here looks at.

        Parameters
        ----------
        chrom
            A contig, in any spelling that :meth:`resolve` knows.

        Returns
        -------
        int64, runs × 2: starts and ends, in order. Of a FASTA file this reads the whole contig.
        """
        return self._source.masked(self.resolve(chrom))

    def _window_spans(
        self, regions: Regions, length_bp: int | None, edges: Edges
    ) -> tuple[Spans, int]:
        start, end = _layout.recentred(regions, length_bp)
        length = int(length_bp or (end[0] - start[0] if len(regions) else 0))
        return self._spans(regions, start, end, edges), length

    def _spans(
        self, regions: Regions, start: NDArray[np.int64], end: NDArray[np.int64], edges: Edges
    ) -> Spans:
        contigs = self._names.find_all(regions.chromosomes[0])
        lengths = np.array([self.contigs[contig] for contig in contigs], np.int64)
        return _layout.spans_of(regions, start, end, contigs, lengths, edges)

    def _read(self, spans: Spans, out: NDArray[np.uint8]) -> None:
        for contig, pieces in spans.by_contig():
            self._source.read(contig, pieces, out)

    # ---- as an object ----------------------------------------------------------------------------

    def close(self) -> None:
        """Let go of the file; the next call opens it again."""
        if "_source" in self.__dict__:
            self._source.close()
            del self.__dict__["_source"]

    def __getstate__(self) -> dict[str, Any]:
        """All but the open file."""
        return {key: value for key, value in self.__dict__.items() if key != "_source"}

    def __repr__(self) -> str:
        return text_card(self._title(), self._rows())

    def _repr_html_(self) -> str:
        return html_card(self._title(), self._rows())

    def _title(self) -> str:
        return f"Genome {self.name}".rstrip()

    def _rows(self) -> dict[str, object]:
        if self._published and "_source" not in self.__dict__:
            there = local_path(f"{self._published}.2bit")
            return {"source": self.source, "file": there or "fetched when first read"}
        contigs = self.contigs
        bases_bp = f"{len(contigs):,} ({first_names(contigs)}), {sum(contigs.values()):,} bases"
        return {
            "source": self.source,
            "contigs": bases_bp,
            "mitochondrion": which_mitochondrion(contigs),
        }


def as_genome(source: Any) -> Genome:
    """A genome of anything that :class:`Genome` takes, or the genome itself.

    Parameters
    ----------
    source
        A genome, a published one's name, a path, or a dictionary of sequences.
    """
    return source if isinstance(source, Genome) else Genome(source)


def _room(out: NDArray | None, shape: tuple[int, ...], dtype: type) -> NDArray[Any]:
    if out is None:
        return np.empty(shape, dtype)
    if out.shape != shape or out.dtype != dtype or not out.flags.c_contiguous:
        raise ValueError(
            f"out is {out.dtype} of shape {out.shape}; expected {np.dtype(dtype)} of shape "
            f"{shape}, in C order."
        )
    return out
