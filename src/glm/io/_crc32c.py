"""CRC-32C (Castagnoli), the checksum of TFRecord files; the standard library has another one."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

_POLYNOMIAL = 0x82F63B78  # of iSCSI (RFC 3720), lowest bit first
_MASK_DELTA = 0xA282EAD8


def _tables() -> NDArray[np.uint32]:
    """8 × 256: what a byte adds to the remainder, with 0 to 7 more bytes after it."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, table >> 1 ^ np.uint32(_POLYNOMIAL), table >> 1)
    tables = [table.astype(np.uint32)]
    for _ in range(7):
        before = tables[-1]
        tables.append(tables[0][before & 0xFF] ^ (before >> np.uint32(8)))
    return np.stack(tables)


_TABLES = _tables()


def crc32c(data: bytes | memoryview) -> int:
    """The checksum of bytes: about 2 GB a second, eight bytes a step."""
    return int(_crc(np.frombuffer(data, np.uint8), _TABLES))


def masked_crc32c(data: bytes | memoryview) -> int:
    """The checksum as TFRecord files store it, so that one of data with checksums stays sound."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


@numba.njit(cache=True, nogil=True)
def _crc(data: NDArray[np.uint8], tables: NDArray[np.uint32]) -> np.uint32:
    crc = np.uint32(0xFFFFFFFF)
    whole = data.size - data.size % 8
    for i in range(0, whole, 8):
        low = crc ^ (
            np.uint32(data[i])
            | np.uint32(data[i + 1]) << np.uint32(8)
            | np.uint32(data[i + 2]) << np.uint32(16)
            | np.uint32(data[i + 3]) << np.uint32(24)
        )
        crc = (
            tables[7, low & np.uint32(0xFF)]
            ^ tables[6, low >> np.uint32(8) & np.uint32(0xFF)]
            ^ tables[5, low >> np.uint32(16) & np.uint32(0xFF)]
            ^ tables[4, low >> np.uint32(24)]
            ^ tables[3, data[i + 4]]
            ^ tables[2, data[i + 5]]
            ^ tables[1, data[i + 6]]
            ^ tables[0, data[i + 7]]
        )
    for i in range(whole, data.size):
        crc = tables[0, (crc ^ data[i]) & np.uint32(0xFF)] ^ crc >> np.uint32(8)
    return crc ^ np.uint32(0xFFFFFFFF)
