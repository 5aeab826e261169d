"""UCSC's 2bit files, mapped into memory: nothing but their table of contents is read beforehand.

A file is a header, an index of names and places, and a record for each sequence: its length, the
runs that are N, the runs that are soft-masked, and two bits a base. Numbers are of 32 bits, in the
byte order that the first number tells; in version 1, places in the index have 64 bits.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from . import _kernels
from ._layout import Pieces

SIGNATURE = 0x1A412743
_TABLES = np.stack([_kernels.ONE_HOT, _kernels.ONE_HOT_REVERSE])


@dataclass(frozen=True)
class _Record:
    """Where the parts of one sequence lie in the file."""

    length: int
    n_blocks: tuple[int, int]  # how many, and where their starts begin
    mask_blocks: tuple[int, int]
    packed: int


class TwoBit:
    """A 2bit file, open for reading. Safe to share with forked workers: it has no position.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    OSError
        If it is no 2bit file, is of another version, or is cut short or damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if os.path.getsize(path) < 16:
            raise OSError(f"{path} is cut short: {os.path.getsize(path)} bytes. Fetch it again.")
        # A plain array on the map: compiled code has one kind of array to be compiled for.
        self._data: NDArray[np.uint8] = np.memmap(path, np.uint8, "r").view(np.ndarray)
        self._order, version, n = self._header()
        self._records = {
            name: self._record(name, place) for name, place in self._index(n, 8 if version else 4)
        }
        if len(self._records) != n:
            raise OSError(f"{path} names a sequence twice. Fetch it again.")
        self.lengths = {name: record.length for name, record in self._records.items()}
        self._unknown: dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}

    # ---- the table of contents -------------------------------------------------------------------

    def _header(self) -> tuple[str, int, int]:
        for order in "<>":
            signature, version, n, _ = np.frombuffer(self._data[:16], f"{order}u4").tolist()
            if signature == SIGNATURE:
                if version not in (0, 1):
                    raise OSError(f"{self.path} is 2bit of version {version}; 0 and 1 are known.")
                return order, version, n
        raise OSError(
            f"{self.path} is no 2bit file: it begins with {self._data[:4].tobytes()!r}, expected "
            f"the signature {SIGNATURE:#X}."
        )

    def _index(self, n: int, width: int) -> list[tuple[str, int]]:
        entries, at = [], 16
        for _ in range(n):
            size = int(self._bytes(at, 1, "its index")[0])
            entry = self._bytes(at + 1, size + width, "its index").tobytes()
            place = np.frombuffer(entry[size:], f"{self._order}u{width}")[0]
            try:
                entries.append((entry[:size].decode("utf-8"), int(place)))
            except UnicodeDecodeError:
                raise OSError(f"{self.path} is damaged: a name in its index is no text.") from None
            at += 1 + size + width
        return entries

    def _record(self, name: str, at: int) -> _Record:
        length, n_unknown = self._numbers(at, 2, name)
        unknown = (int(n_unknown), at + 8)
        at += 8 + 8 * int(n_unknown)
        masked = (int(self._numbers(at, 1, name)[0]), at + 4)
        packed = at + 4 + 8 * masked[0] + 4
        self._bytes(packed, (int(length) + 3) // 4, name)
        return _Record(int(length), unknown, masked, packed)

    def _bytes(self, at: int, size: int, of: str) -> NDArray[np.uint8]:
        if at + size > len(self._data):
            raise OSError(
                f"{self.path} is cut short: {of} goes on to byte {at + size:,}, the file has "
                f"{len(self._data):,}. Fetch it again."
            )
        return self._data[at : at + size]

    def _numbers(self, at: int, count: int, of: str) -> NDArray[np.uint32]:
        return np.frombuffer(self._bytes(at, 4 * count, of).tobytes(), f"{self._order}u4")

    def _blocks(self, name: str, blocks: tuple[int, int]) -> tuple[NDArray, NDArray]:
        """Starts and ends of runs, in order."""
        count, at = blocks
        numbers = self._numbers(at, 2 * count, name).astype(np.int64)
        starts, ends = numbers[:count], numbers[:count] + numbers[count:]
        order = np.argsort(starts, kind="stable")
        starts, ends = starts[order], ends[order]
        if count and (ends.max() > self.lengths[name] or (ends[:-1] > starts[1:]).any()):
            raise OSError(f"{self.path} is damaged: runs of {name} overlap or lie beyond its end.")
        return starts, ends

    # ---- bases -----------------------------------------------------------------------------------

    def _parts(self, name: str) -> tuple[NDArray[np.uint8], int, NDArray, NDArray]:
        record = self._records[name]
        if name not in self._unknown:
            self._unknown[name] = self._blocks(name, record.n_blocks)
        packed = self._data[record.packed : record.packed + (record.length + 3) // 4]
        return packed, record.length, *self._unknown[name]

    def read(self, name: str, pieces: Pieces, out: NDArray[np.uint8]) -> None:
        """Write the codes of pieces of one sequence to their places in ``out``."""
        _kernels.read_codes(*self._parts(name), *pieces, out)

    def read_one_hot(self, name: str, pieces: Pieces, out: NDArray[np.float32]) -> None:
        """The same as one-hot rows, without codes in between; ``out`` has 4 values a base."""
        _kernels.read_one_hot(*self._parts(name), *pieces, _TABLES, out)

    def masked(self, name: str) -> NDArray[np.int64]:
        """Soft-masked runs of a sequence: starts and ends."""
        return np.stack(self._blocks(name, self._records[name].mask_blocks), axis=1)

    def head(self) -> bytes:
        """What decides names and lengths: the header and the index."""
        first = min((r.n_blocks[1] - 8 for r in self._records.values()), default=16)
        return self._data[:first].tobytes()

    def close(self) -> None:
        """Nothing to do: the map goes with the last array on it."""
