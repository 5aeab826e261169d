"""Read training sets in the Basenji format: compressed TFRecord files, without TensorFlow.

A file is one zlib stream of records. A record is its length (8 bytes, little endian), a checksum of
these, the data, and a checksum of them. The data are a ``tf.train.Example``: a protocol buffer of
named features, of which ``sequence`` holds one byte a base and ``target`` the tracks.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from ..bases import N

_CHUNK = 1 << 16  # of packed bytes, which are at most a thousand times as many
_ZLIB_OR_GZIP = 47  # 32 (either header) + 15 (the largest window)
_LONGEST = 1 << 31  # protocol buffers end there
_BYTES, _FLOATS, _INTEGERS = 1, 2, 3  # the kinds of a feature
_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5  # the wire types of protocol buffers


@dataclass(frozen=True, eq=False)
class TFRecord:
    """One sequence of a training set and its tracks.

    Attributes
    ----------
    codes
        uint8, one a base: A 0, C 1, G 2, T 3, unknown 4 (see :mod:`glm.bases`).
    targets
        bins × tracks as stored (float16 as a rule); one long row where the number of tracks was not
        given; ``None`` if the record has none.
    source
        File and number of the record in it, from 0.
    """

    codes: np.ndarray
    targets: np.ndarray | None
    source: str


def read_tfrecords(
    paths: str | Path | Iterable[str | Path],
    *,
    length_bp: int | None = None,
    n_tracks: int | None = None,
    target_dtype: str = "float16",
) -> Iterator[TFRecord]:
    """Read sequences and tracks of TFRecord files in the Basenji format, one record at a time.

    Both checksums of every record are compared. Sequences stored as one number a base and as
    one-hot rows are read; in the latter a row of zeros is an unknown base. One record is in memory
    at a time (about 0.5 MB for 131,072 bp with 74 tracks); a core reads some 200 such a second.

    Parameters
    ----------
    paths
        A file or several, read in the order given. Compressed by zlib, as Basenji writes them, or
        by gzip.
    length_bp
        Bases of a sequence (``seq_length`` in ``statistics.json``). Sequences of another length are
        refused; four times as many bytes are one-hot. ``None`` takes one byte as one base.
    n_tracks
        Tracks of a record (``num_targets``), to give the targets their shape.
    target_dtype
        How targets are stored where they are bytes: ``"float16"`` or ``"float32"``.

    Returns
    -------
    An iterator of :class:`TFRecord`, codes and targets ready to be used and yours to keep.

    Raises
    ------
    OSError
        If a file is missing, truncated, no TFRecord file, or a checksum is wrong; the message names
        file and record.
    ValueError
        If a record holds no sequence, or one of another length, or targets that do not fill rows of
        ``n_tracks``.

    Examples
    --------
    >>> import glm
    >>> for record in glm.io.read_tfrecords("train-0.tfr", n_tracks=74):  # doctest: +SKIP
    ...     print(record.codes.shape, record.targets.shape)
    (131072,) (2048, 74)
    """
    dtype = np.dtype(target_dtype)
    if dtype not in (np.dtype("float16"), np.dtype("float32")):
        raise ValueError(f"target_dtype is {target_dtype!r}; expected 'float16' or 'float32'.")
    for name, value in (("length_bp", length_bp), ("n_tracks", n_tracks)):
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}; expected at least 1.")
    return _read(paths, length_bp, n_tracks, dtype)


def _read(
    paths: str | Path | Iterable[str | Path],
    length_bp: int | None,
    n_tracks: int | None,
    dtype: np.dtype,
) -> Iterator[TFRecord]:
    for path in [paths] if isinstance(paths, str | os.PathLike) else paths:
        for number, data in enumerate(_records(Path(path))):
            source = f"record {number:,} of {path}"
            try:
                features = dict(_features(data))
            except (IndexError, ValueError) as error:
                raise OSError(f"{source} is no tf.train.Example: {error}.") from None
            yield TFRecord(
                _codes(features, length_bp, source),
                _targets(features, n_tracks, dtype, source),
                source,
            )


# ---- the file: records of checked bytes ----------------------------------------------------------


def _records(path: Path) -> Iterator[memoryview]:
    from ._crc32c import masked_crc32c

    with open(path, "rb") as file:
        stream = _Inflated(file, path)
        number = 0
        while header := stream.read(12, number, at_end=True):
            length = int.from_bytes(header[:8], "little")
            if masked_crc32c(header[:8]) != int.from_bytes(header[8:], "little"):
                raise _damaged(path, number, "the checksum of its length is wrong")
            if length > _LONGEST:
                raise _damaged(path, number, f"it claims {length:,} bytes")
            body = stream.read(length + 4, number)
            data = body[:length]
            if masked_crc32c(data) != int.from_bytes(body[length:], "little"):
                raise _damaged(path, number, "the checksum of its data is wrong")
            yield data
            number += 1


def _damaged(path: Path, number: int, why: str) -> OSError:
    return OSError(
        f"Record {number:,} of {path} cannot be read: {why}. The file is damaged, was copied in "
        "part, or is no compressed TFRecord file; fetch it again."
    )


class _Inflated:
    """The bytes of a compressed file, as many at a time as are asked for."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._file, self._path = file, path
        self._inflate = zlib.decompressobj(_ZLIB_OR_GZIP)
        self._held = bytearray()

    def read(self, n: int, number: int, *, at_end: bool = False) -> memoryview:
        """Exactly ``n`` bytes; none if the file ends here and it may."""
        while len(self._held) < n and self._more(number):
            pass
        if len(self._held) < n and not (at_end and not self._held):
            raise _damaged(self._path, number, f"the file ends {n - len(self._held):,} bytes early")
        taken = memoryview(bytes(self._held[:n]))
        del self._held[:n]
        return taken

    def _more(self, number: int) -> bool:
        """Inflate some more; whether there was any."""
        if self._inflate.eof:
            if self._inflate.unused_data or self._file.read(1):
                raise _damaged(self._path, number, "other bytes follow the compressed stream")
            return False
        packed = self._file.read(_CHUNK)
        if not packed:
            raise _damaged(self._path, number, "the compressed stream is truncated")
        try:
            self._held += self._inflate.decompress(packed)
        except zlib.error as error:
            raise _damaged(self._path, number, str(error)) from None
        return True


# ---- tf.train.Example: features(1) → feature(1), a map of name(1) → Feature(2) -------------------


def _features(data: memoryview) -> Iterator[tuple[str, np.ndarray | memoryview]]:
    """Name and value of every feature: bytes as they are, numbers as float32 or int64."""
    for field, features in _fields(data):
        if field != 1:
            continue
        for inner, entry in _fields(features):
            if inner == 1:
                parts = dict(_fields(entry))
                yield str(parts.get(1, b""), "utf-8"), _value(parts.get(2, memoryview(b"")))


def _value(feature: memoryview) -> np.ndarray | memoryview:
    """A feature is one of three lists; its values are field 1 of it, packed or one by one."""
    for kind, values in _fields(feature):
        if kind == _BYTES:
            found = [bytes(value) for _, value in _fields(values)]
            return memoryview(found[0] if len(found) == 1 else b"".join(found))
        packed = b"".join(bytes(value) for _, value in _fields(values))
        if kind == _FLOATS:
            return np.frombuffer(packed, "<f4")
        if kind == _INTEGERS:
            return np.array(list(_varints(memoryview(packed))), np.uint64).astype(np.int64)
    return memoryview(b"")


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and raw bytes of each field of a message, in the order they stand in."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        wire = key & 7
        if wire == _DELIMITED:
            size, start = _varint(message, at)
        elif wire == _VARINT:
            start, size = at, _varint(message, at)[1] - at
        elif wire in (_FIXED64, _FIXED32):
            start, size = at, 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"a field has the wire type {wire}")
        at = start + size
        if at > len(message):
            raise ValueError("a field ends beyond its message")
        yield key >> 3, message[start:at]


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, lowest first, and where it ends."""
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number is longer than ten bytes")


def _varints(packed: memoryview) -> Iterator[int]:
    at = 0
    while at < len(packed):
        value, at = _varint(packed, at)
        yield value & 0xFFFFFFFFFFFFFFFF


# ---- what the features mean ----------------------------------------------------------------------


def _codes(
    features: dict[str, np.ndarray | memoryview], length_bp: int | None, source: str
) -> np.ndarray:
    stored = features.get("sequence")
    if stored is None or not len(stored):
        raise ValueError(f"{source} has no 'sequence'; it holds {_names(features)}.")
    raw = np.frombuffer(stored, np.uint8) if isinstance(stored, memoryview) else stored
    if length_bp is not None and raw.size == 4 * length_bp:
        return _from_one_hot(raw.reshape(-1, 4), source)
    if length_bp is not None and raw.size != length_bp:
        raise ValueError(
            f"{source} has a sequence of {raw.size:,} bytes; expected {length_bp:,} bases, or four "
            "times as many for one-hot."
        )
    if (raw > N).any() or (raw < 0).any():
        raise ValueError(
            f"{source} has the number {int(raw.max())} in its sequence; expected 0 to 3 for A, C, "
            "G and T, and 4 for N."
        )
    return raw.astype(np.uint8)


def _from_one_hot(rows: np.ndarray, source: str) -> np.ndarray:
    total = rows.sum(axis=1, dtype=np.int64)
    if total.max(initial=0) > 1:
        raise ValueError(
            f"{source} has rows of its sequence that are not one-hot (sums up to {total.max():,})."
        )
    return np.where(total == 1, rows.argmax(axis=1), N).astype(np.uint8)


def _targets(
    features: dict[str, np.ndarray | memoryview],
    n_tracks: int | None,
    dtype: np.dtype,
    source: str,
) -> np.ndarray | None:
    stored = features.get("target")
    if stored is None:
        return None
    if isinstance(stored, memoryview):
        if len(stored) % dtype.itemsize:
            raise ValueError(f"{source} has {len(stored):,} bytes of targets, no whole {dtype}s.")
        flat = np.frombuffer(stored, dtype.newbyteorder("<")).astype(dtype)
    else:
        flat = stored.copy()
    if n_tracks is None:
        return flat
    if flat.size % n_tracks:
        raise ValueError(
            f"{source} has {flat.size:,} target values, which do not fill rows of {n_tracks:,} "
            "tracks: look up num_targets in statistics.json."
        )
    return flat.reshape(-1, n_tracks)


def _names(features: dict[str, np.ndarray | memoryview]) -> str:
    return ", ".join(sorted(features)) or "nothing"
