"""Lines of a text file in blocks, with their numbers; gzip is told by its content, not its name."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NoReturn, cast

_BLOCK = 1 << 18  # larger ones leave the cache
_GZIP = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"


def read_lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, list[str], int]]:
    """Yield the number of a block's first line (from 1), its lines, and bytes of the file so far.

    Lines have no ends: Windows' are taken off, as is a byte order mark. What is held is one block
    of 256 kB.

    Raises
    ------
    OSError
        If the file cannot be read, or a gzip file is damaged or cut short.
    ValueError
        If it is no text.
    """
    number, rest = 1, b""
    with Path(path).expanduser().open("rb") as raw:
        file = _unpacked(raw)
        while block := _next(file, path):
            if number == 1 and not rest:
                block = block.removeprefix(_BOM)
            whole, end, rest = (rest + block).rpartition(b"\n")
            if end:
                lines = _decoded(whole, number, path)
                yield number, lines, raw.tell()
                number += len(lines)
        if rest:
            yield number, _decoded(rest, number, path), raw.tell()


def _unpacked(raw: IO[bytes]) -> IO[bytes]:
    magic = raw.read(2)
    raw.seek(0)
    return cast("IO[bytes]", gzip.GzipFile(fileobj=raw)) if magic == _GZIP else raw


def _next(file: IO[bytes], path: str | os.PathLike[str]) -> bytes:
    try:
        return file.read(_BLOCK)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise OSError(f"{path} is damaged or cut short: {error}. Fetch or copy it again.") from None


def _decoded(block: bytes, number: int, path: str | os.PathLike[str]) -> list[str]:
    try:
        text = block.decode()
    except UnicodeDecodeError as error:
        line = number + block.count(b"\n", 0, error.start)
        raise ValueError(f"{path}, line {line:,}, is no text (UTF-8): {error.reason}.") from None
    return text.replace("\r\n", "\n").removesuffix("\r").split("\n")


def refuse(path: str | os.PathLike[str], number: int, line: str, why: str) -> NoReturn:
    """Raise a ValueError that shows a line."""
    shown = line if len(line) <= 100 else f"{line[:100]}…"
    raise ValueError(f"{path}, line {number:,}: {why} The line is {shown!r}.")


def find_not_whole(texts: list[str]) -> int | None:
    """The first that is no plain number such as 1200; ``None`` if all are."""
    joined = "".join(texts)
    if joined.isascii() and joined.isdecimal() and "" not in texts and max(map(len, texts)) < 19:
        return None
    plain = (t.isascii() and t.isdecimal() and len(t) < 19 for t in texts)
    return next((i for i, ok in enumerate(plain) if not ok), None)


def why_not_whole(text: str, counted_from: int) -> str:
    """What a message says of a position that is no plain number."""
    if "e" in text.lower() and text[:1].isdecimal():
        return f"{text!r} is a rounded number (R writes 100000 as 1e+05): write positions in full."
    return f"{text!r} is no position; expected a whole number from {counted_from}, without commas."
