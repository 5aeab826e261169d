"""One download: written, counted and hashed in one pass, and refused if it is not the file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import IO

from ._files import RemoteFile
from ._progress import progress_bar

TIMEOUT = (10.0, 60.0)  # seconds for an answer, and between two pieces of it
_PIECE = 2**18


class Refused(Exception):
    """What came is not the file that was asked for."""


def receive(file: RemoteFile, path: Path, kind: str, expected: str) -> str:
    """Fetch ``file`` into ``path`` and return its hash.

    Parameters
    ----------
    file
        What to fetch.
    path
        Where to write it.
    kind, expected
        Hash it must have; where nothing is expected, whatever looks like a file is taken.

    Raises
    ------
    Refused
        If something else came; the message holds both hashes.
    OSError
        If the server could not be reached, fell silent, broke off or said no.
    """
    from pooch import HTTPDownloader

    # Unpacked on the way, a file would have another hash.
    headers = {"Accept-Encoding": "identity"}
    downloader = HTTPDownloader(chunk_size=_PIECE, timeout=TIMEOUT, headers=headers)
    with (
        open(path, "xb") as stream,
        progress_bar(file.n_bytes, "B", file.name, scaled=True) as advance,
    ):
        arriving = _Arriving(stream, kind, file.n_bytes, advance)
        try:
            downloader(file.url, arriving, None)
        except OSError as error:
            raise OSError(f"{_plainly(error)} {arriving.so_far(expected)}") from error
    arriving.check(expected)
    return arriving.hash.hexdigest()


def stand_in(start: bytes) -> str:
    """What a file that begins so is, if it is only put in a file's place; else ``""``."""
    start = start.lstrip().lower()
    if not start:
        return "is empty"
    if start.startswith(b"version https://git-lfs"):
        return (
            "is a Git LFS pointer, a note of where the content is: run `git lfs pull` in its "
            "repository, or download the file itself"
        )
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "is a web page: the download met a login, a proxy or an error page"
    return ""


class _Arriving:
    """The file object that the downloader writes to."""

    def __init__(
        self, stream: IO[bytes], kind: str, n_bytes: int | None, advance: Callable[[int], object]
    ) -> None:
        self.hash = hashlib.new(kind, usedforsecurity=False)
        self._stream, self._advance = stream, advance
        self._expected, self._n, self._start = n_bytes, 0, b""

    def write(self, piece: bytes) -> None:
        self._stream.write(piece)
        self.hash.update(piece)
        self._n += len(piece)
        self._start = self._start or piece[:64]
        self._advance(len(piece))
        if self._expected is not None and self._n > self._expected:
            raise OSError("more was sent than the file has.")

    def flush(self) -> None:
        """The downloader flushes after every piece, which would only cost time."""

    def check(self, expected: str) -> None:
        page = stand_in(self._start)
        if page or (expected and self.hash.hexdigest() != expected):
            raise Refused(f"what came is not the file. {self.so_far(expected)}")

    def so_far(self, expected: str) -> str:
        """How much arrived, both hashes, and what it looks like."""
        hint = stand_in(self._start) if self._n else ""
        wanted = "" if self._expected is None else f" of {self._expected:,}"
        hashes = f"{self.hash.name} {self.hash.hexdigest()}, expected {expected or 'any'}"
        return f"{self._n:,}{wanted} bytes came ({hashes}).{f' What came {hint}.' if hint else ''}"


def _plainly(error: OSError) -> str:
    text = str(error).rstrip(".")
    return f"{text}." if text else f"{type(error).__name__}."
